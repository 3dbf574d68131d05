"""
Runs cases through the program: by extractor and mapping in small pages, and by whole backfills.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import redis

from migrate.mapping.compile import CompiledMapping, compile_mapping
from migrate.mapping.files import load
from migrate.model.values import Cell, Key, KeyRange, RecordType
from migrate.model.values import Record as Written
from migrate.pipeline.scope import find_table
from migrate.source.dialects import DIALECTS
from migrate.source.store import SqlSource
from tests.awkward import mariadb, postgresql, sqlite
from tests.awkward.cases import HERE, Refused, Schema, Sort
from tests.project import Project
from tests.servers import Database, RedisServer, Servers, SqliteDatabase

COLLECTIONS: Mapping[str, ModuleType] = {
    "sqlite": sqlite,
    "postgresql": postgresql,
    "mariadb": mariadb,
}

SERVERS: Mapping[str, str] = {
    "sqlite": "sqlite",
    "postgres": "postgresql",
    "mariadb": "mariadb",
    "postgres-15": "postgresql",
    "postgres-17": "postgresql",
    "mariadb-10.11": "mariadb",
    "mariadb-11.8": "mariadb",
}
"""The dialect of each server that the collection is run on; those with a number are the matrix."""

DRIVERS = tuple(
    f"{server}+{driver}" for server, name in SERVERS.items() for driver in DIALECTS[name].drivers
)
"""Every server with every driver that its dialect knows."""

PAGE = 3
"""Rows of a page: small, so that a bad value is first, in the middle and last of one."""

_HEAD = re.compile(rb'\{"_v":"[0-9]+","_h":"[0-9a-f]{16}",?(.*)\}', re.DOTALL)
_OURS = {b"_v", b"_h"}

Fields = dict[str, bytes]
S = TypeVar("S", Schema, Refused)
Problem = tuple[str, str]


@dataclass(slots=True)
class Result:
    """
    What rows became.

    Args:
        records: By record key, without the fields that are ours.

        rejects: By the row's key where it is known, otherwise by number: column and reason.
    """

    records: dict[str, Fields] = field(default_factory=dict)
    rejects: dict[str, Problem] = field(default_factory=dict)


@dataclass(slots=True)
class Values:
    """
    What the table of values became, read in small pages and by a backfill.

    Args:
        ids: Of each case, by sort and name.

        good: A record of good values alone.

        changed: Cells that a stored field does not give back.
    """

    ids: dict[tuple[str, str], int]
    good: Fields
    paged: Result
    filled: Result
    changed: list[str]


class Stand:
    """
    One server with one driver and the databases that the cases are put in.
    """

    def __init__(self, name: str, servers: Servers, folder: Path, stack: ExitStack) -> None:
        server, driver = name.split("+")
        self.dialect = SERVERS[server]
        self.module = COLLECTIONS[self.dialect]
        self.folder = folder
        self._servers = servers
        self.database = self._made(server, servers, stack)
        self._driver = driver
        self._values: Values | None = None
        self._extensions: set[str] = set()
        if before := getattr(self.module, "BEFORE", ""):
            self.database.execute(before)
        self.version = self._version()
        self.source = stack.enter_context(
            closing(SqlSource.open(self.database.config(driver=driver)))
        )

    def _made(self, server: str, servers: Servers, stack: ExitStack) -> Database:
        if self.dialect == "sqlite":
            return SqliteDatabase(self.folder / "source.db")
        named = server if "-" in server else "default"
        started = servers.mariadb(named) if self.dialect == "mariadb" else servers.postgres(named)
        return stack.enter_context(started.database())

    def _version(self) -> int:
        text = self.source_version()
        major, minor, *_ = [int(part) for part in re.findall(r"[0-9]+", text)]
        return major * 100 + minor

    def source_version(self) -> str:
        """
        As the server says it.
        """
        function = "sqlite_version()" if self.dialect == "sqlite" else "version()"
        return str(self.database.query(f"SELECT {function}")[0][0])

    @property
    def url(self) -> str:
        """
        Of the source, with this driver's name.
        """
        scheme, rest = self.database.url.split("://")
        return f"{scheme.split('+')[0]}+{self._driver}://{rest}"

    def project(self, name: str, mapping: str) -> Project:
        """
        A folder with one mapping `t`.
        """
        project = Project(self.folder / name, self.url, self._servers.redis().url)
        project.mapping("t", mapping)
        return project

    @property
    def values(self) -> Values:
        """
        The outcome of the whole table of values; made once.
        """
        self.fill()
        assert self._values is not None
        return self._values

    def fill(self) -> None:
        """
        Make the table of values, unless it is there.
        """
        if self._values is None:
            self._values = _values(self)

    def sorts(self) -> dict[str, Sort]:
        """
        The columns of the table of values that this server can have.
        """
        return {name: sort for name, sort in self.module.SORTS.items() if self.has(sort)}

    def has(self, case: Sort | Schema | Refused) -> bool:
        """
        Whether this server can have such a column or table.
        """
        if case.needs and not self._extensions:
            rows = self.database.query("SELECT extname FROM pg_extension")
            self._extensions = {name for (name,) in rows}
        return case.since <= self.version and case.needs in {"", *self._extensions}

    def redis(self) -> RedisServer:
        """
        The target; emptied.
        """
        return self._servers.redis()


Stands = Callable[[str], "Stand"]


@contextmanager
def every_stand(servers: Servers, folder: Path) -> Iterator[Stands]:
    """
    All stands by their names, each made when it is first asked for.
    """
    with ExitStack() as stack:
        made: dict[str, Stand] = {}

        def stand(name: str) -> Stand:
            if name not in made:
                own = folder / str(len(made))
                own.mkdir()
                made[name] = Stand(name, servers, own, stack)
            return made[name]

        yield stand


# --- values -------------------------------------------------------------------------------------


def _values(stand: Stand) -> Values:
    sorts = stand.sorts()
    good = {name: sort.good for name, sort in sorts.items()}
    columns = ", ".join(f"{name} {sort.declared}" for name, sort in sorts.items())
    script = [
        f"CREATE TABLE awkward (id BIGINT NOT NULL PRIMARY KEY, {columns})",
        _insert(0, good),
    ]
    ids = {}
    for name, sort in sorts.items():
        for case, value in sort.values.items():
            ids[name, case] = 2 * len(ids) + 1
            script.append(_insert(ids[name, case], {**good, name: value.sql}))
            script.append(_insert(ids[name, case] + 1, good))
    stand.database.execute(";\n".join(script))
    project = stand.project("values", mapping_of_sorts(sorts))
    paged, changed = _paged(stand.source, project)
    filled = backfilled(project, stand.redis())
    shown = {name: sort.shown for name, sort in sorts.items()}
    return Values(ids, shown, paged, filled, changed)


def _insert(number: int, cells: Mapping[str, str]) -> str:
    return f"INSERT INTO awkward VALUES ({number}, {', '.join(cells.values())})"


def mapping_of_sorts(sorts: Mapping[str, Sort]) -> str:
    """
    The mapping file of the table of values.
    """
    fields = "".join(f"  {name}: {{{sort.options}}}\n" for name, sort in sorts.items())
    return (
        "version: 1\nname: t\nsource: {table: awkward, key: [id]}\n"
        f'target: {{key: "awkward:{{id}}", type: hash}}\nfields:\n{fields}'
    )


def unlike(values: Values, sort: str, found: Fields | None) -> dict[str, bytes | None] | None:
    """
    What a record holds of a case, and what else in it is not good; None where there is no record.
    """
    if found is None:
        return None
    names = {sort, *found, *values.good}
    return {
        name: found.get(name)
        for name in names
        if name == sort or found.get(name) != values.good.get(name)
    }


# --- reading ------------------------------------------------------------------------------------


def paged(source: SqlSource, project: Project, page: int = PAGE) -> Result:
    """
    Every row of a project's mapping, in small pages.
    """
    return _paged(source, project, page)[0]


def _paged(source: SqlSource, project: Project, page: int = PAGE) -> tuple[Result, list[str]]:
    mapping = load(project.folder / "mappings" / "t.yaml")["t"]
    table = find_table(source, mapping)
    compiled = compile_mapping(mapping, table)
    extractor = source.extractor(compiled.query, table)
    found = Result()
    changed: list[str] = []
    after: Key | None = None
    while (chunk := extractor.read(KeyRange(), after, page)).keys:
        batch = compiled.encode(chunk)
        for record in batch.records:
            found.records[record.key.decode()] = _fields(record, compiled)
        for reject in batch.rejects:
            found.rejects[_shown(reject.key)] = (reject.fault.column, reject.fault.reason)
        moved = dict(zip(batch.keys, batch.records, strict=True))
        for key, row in zip(chunk.keys, chunk.rows, strict=True):
            if key in moved:
                changed += _changed(compiled, moved[key], row)
        assert after is None or chunk.keys[-1] != after
        after = chunk.keys[-1]
    return found, changed


def _changed(
    compiled: CompiledMapping, record: Written, row: tuple[Cell, ...] | list[Cell]
) -> Iterator[str]:
    """
    Names of the fields whose bytes do not decode to the cell that they were made from.
    """
    if compiled.record is RecordType.STRING:
        return
    stored = dict(zip(record.fields[::2], record.fields[1::2], strict=True))
    for one in compiled.fields:
        value = stored.get(one.name.encode())
        if one.codec.reversible:
            cell = None if value is None else one.codec.decode(value)
            if cell != row[one.position]:
                yield f"{record.key.decode()} {one.name}"


def _fields(record: Written, compiled: CompiledMapping) -> Fields:
    if compiled.record is RecordType.STRING:
        return _text(record.fields[0])
    pairs = zip(record.fields[::2], record.fields[1::2], strict=True)
    return {name.decode(): value for name, value in pairs}


def _text(stored: bytes) -> Fields:
    found = _HEAD.fullmatch(stored)
    assert found is not None
    return {"": found[1]}


def _shown(key: Key) -> str:
    return ":".join(map(str, key))


def backfilled(project: Project, server: RedisServer) -> Result:
    """
    What a backfill wrote into the emptied server, and the rejects that it left in the ledger.
    """
    ran = project.run("backfill", "t", "--json")
    listed = project.run("rejects", "list", "t", "--limit", "10000", "--json")
    found = Result()
    rejects = listed.json["rejects"]
    assert (ran.exit, ran.json["complete"]) == (3 if rejects else 0, True), ran.err
    for number, one in enumerate(rejects):
        found.rejects[str(number)] = (one["column"], one["reason"])
    client = server.client()
    for key in client.scan_iter(count=10_000):
        if not key.startswith(b"profile-migrate:"):
            found.records[key.decode()] = _stored(client, key)
    assert ran.json["rows"] == len(found.records) + len(rejects)
    return found


def _stored(client: redis.Redis, key: bytes) -> Fields:
    if client.type(key) == b"string":
        return _text(client.get(key))
    stored = client.hgetall(key)
    return {name.decode(): value for name, value in stored.items() if name not in _OURS}


# --- schemas ------------------------------------------------------------------------------------


def named(case: S, name: str) -> S:
    """
    The case with its own name in place of the sign for it.
    """
    texts = {
        part: getattr(case, part).replace(HERE, name)
        for part in ("sql", "source", "table", "more", "key")
    }
    return replace(case, **texts)


def mapping_of(case: Schema | Refused) -> str:
    """
    The mapping file of a schema.
    """
    return (
        f"version: 1\nname: t\nsource: {{table: {case.table}, {case.source}}}\n"
        f'target: {{key: "{case.key}", type: {case.type}}}\n{case.more}\n'
    )
