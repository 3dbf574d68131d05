"""
The fast way of deep tells what the plain way tells, whatever was done to a record.
"""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

import migrate
from migrate.ledger.store import Ledger
from migrate.mapping.compile import CompiledMapping, compile_mapping
from migrate.mapping.digest import digest_of, seed_of
from migrate.mapping.files import load
from migrate.model.settings import SourceConfig
from migrate.model.values import Chunk, Column, Key, Kind, Table
from migrate.model.verdict import Verdict
from migrate.pipeline.verify import Tally
from migrate.pipeline.verify_fields import Fields
from migrate.source.dialects.plain_columns import ODD
from migrate.source.plain import History
from migrate.source.plain_pages import FieldPage
from tests.project import Project
from tests.servers import RedisServer, SqliteDatabase

pytestmark = pytest.mark.slow

Named = tuple[str, str, str, str]


def findings(project: Project) -> set[Named]:
    """
    Everything that the last verification found, as it lies in the ledger.
    """
    path = project.folder / ".profile-migrate" / "ledger.db"
    ledger = Ledger(
        SourceConfig(dialect="sqlite", database=str(path)), wall=time.time, sleep=time.sleep
    )
    with closing(ledger):
        kept = ledger.last_verification("t")
        assert kept is not None
        found = ledger.findings(kept.run)
        return {(one.verdict, one.kind, one.key.decode(), one.field) for one in found}


def both(project: Project, *more: str) -> tuple[set[Named], dict[str, Any]]:
    """
    What deep finds, which has to be the same the plain way.
    """
    told = []
    config = project.folder / "migrate.yaml"
    text = config.read_text()
    for setting in ("", "bulk: off\n"):
        config.write_text(text + setting)
        ran = project.run("verify", "t", "--level", "deep", "--json", *more)
        assert ran.exit in (0, 3), ran.err
        told.append((findings(project), ran.json))
    config.write_text(text)
    (fast, one), (plain, other) = told
    assert fast == plain
    for name in ("verdict", "counts", "kinds", "fields", "not_checked", "exit_code"):
        assert one[name] == other[name], name
    assert one["scope"]["compared"] == other["scope"]["compared"]
    return fast, one


@pytest.fixture
def people(tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer) -> Project:
    """
    A thousand rows of few columns, some of them NULL, in Redis.
    """
    sqlite.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, born DATE, score REAL);"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)"
        " INSERT INTO t SELECT i, CASE WHEN i % 7 THEN 'name ' || i END, '1999-12-31', i / 8.0"
        " FROM n"
    )
    project = Project(tmp_path / "user", sqlite.url, redis_server.url)
    project.mapping(
        "t", 'version: 1\nname: t\nsource: {table: t, key: [id]}\ntarget: {key: "one:{id}"}\n'
    )
    assert project.run("backfill", "t").exit == 0
    return project


def _set(*pairs: object) -> Callable[[Any], object]:
    return lambda client: client.hset("one:500", *pairs)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_set("name", "name 501"), ("DIFFERENT", "value", "name")),
        (_set("name", ""), ("DIFFERENT", "value", "name")),
        (_set("name", b"\xff"), ("DIFFERENT", "value", "name")),
        (_set("id", "0500"), ("DIFFERENT", "value", "id")),
        (_set("born", "1999-12-31 "), ("DIFFERENT", "value", "born")),
        (_set("score", "62.50"), ("DIFFERENT", "value", "score")),
        (_set("more", "x"), ("DIFFERENT", "extra_field", "more")),
        (_set("", "x"), ("DIFFERENT", "extra_field", "")),
        (_set("_h", "0123456789abcdef"), ("DIFFERENT", "digest", "_h")),
        (_set("_h", "x"), ("COLLISION", "", "")),
        (_set("_v", "x"), ("COLLISION", "", "")),
        (_set("_v", "2"), ("SPLIT_BRAIN", "", "")),
        (_set("_t", "1"), ("MISSING", "tombstone", "")),
        (_set("_e", "4102444800000"), ("DIFFERENT", "ttl", "_e")),
        (lambda client: client.hdel("one:500", "name"), ("DIFFERENT", "absent_field", "name")),
        (lambda client: client.hset("one:700", "name", ""), ("DIFFERENT", "extra_field", "name")),
        (lambda client: client.hset("one:700", "more", "x"), ("DIFFERENT", "extra_field", "more")),
        (lambda client: client.hdel("one:500", "_v"), ("COLLISION", "", "")),
        (lambda client: client.expire("one:500", 1000), ("DIFFERENT", "ttl", "_e")),
        (lambda client: client.delete("one:500"), ("MISSING", "", "")),
        (lambda client: client.copy("one:500", "one:1500"), ("ORPHAN", "", "")),
        (lambda client: client.copy("one:500", "one:501", replace=True), None),
        (_set("more", "x" * 1_000_000), ("DIFFERENT", "extra_field", "more")),
        (
            lambda client: (client.delete("one:500"), client.set("one:500", "x")),
            ("DIFFERENT", "type", ""),
        ),
        (
            lambda client: client.hset("one:500", mapping={f"f{n}": "x" for n in range(3)}),
            ("DIFFERENT", "extra_field", "f0"),
        ),
    ],
)
def test_whatever_is_changed_is_told_as_the_plain_way_tells_it(
    people: Project,
    redis_server: RedisServer,
    change: Callable[[Any], object],
    expected: tuple[str, str, str] | None,
) -> None:
    """
    Marks, fields, lives and types: one record of a thousand, and nothing else.
    """
    change(redis_server.client())

    found, said = both(people)

    assert said["counts"].get("OK", 0) >= 998
    assert {key for _, _, key, _ in found} <= {"one:500", "one:501", "one:700", "one:1500"}
    if expected is not None:
        assert expected in {(verdict, kind, name) for verdict, kind, _, name in found}


class Stub:
    """
    A verifier, its books and what it knows of capture, as far as they are asked.
    """

    def __init__(self, rejected: Sequence[Key] = (), known: Mapping[Key, History] | None = None):
        self.books = self.plain = self.extractor = self
        self._rejected, self._known = set(rejected), known or {}
        self.judged: list[Key] = []

    def has_rejects(self) -> bool:
        return bool(self._rejected)

    def rejected(self, keys: Sequence[Key]) -> set[Key]:
        return self._rejected & set(keys)

    def history(self, keys: Sequence[Key]) -> dict[Key, History]:
        return {key: self._known[key] for key in keys if key in self._known}

    def fetch(self, keys: Sequence[Key]) -> Chunk:
        return Chunk(list(dict.fromkeys(keys)), [()] * len(set(keys)))

    def tally(self, _: int = 0) -> Tally:
        return Tally()

    def compare(self, chunk: Chunk, _: Tally) -> None:
        self.judged += chunk.keys


class Held:
    """
    Records by their keys.
    """

    def __init__(self, records: Mapping[bytes, list[bytes]]) -> None:
        self._records = records

    def read(self, keys: Sequence[bytes]) -> list[list[bytes] | None]:
        return [self._records.get(key) for key in keys]


VERSION = b"1000000000002"
COLUMNS = (Column("id", "int", Kind.INTEGER, False), Column("name", "text", Kind.TEXT, True))
ROWS = 5


@pytest.fixture
def compiled(tmp_path: Path) -> CompiledMapping:
    """
    A mapping of a table of two columns.
    """
    path = tmp_path / "t.yaml"
    path.write_text(
        'version: 1\nname: t\nsource: {table: t, key: [id]}\ntarget: {key: "one:{id}"}\n'
    )
    return compile_mapping(load(path)["t"], Table(None, "t", COLUMNS, ("id",), (("id",),)))


def judged(
    compiled: CompiledMapping,
    stub: Stub,
    page: FieldPage,
    but: Mapping[bytes, list[bytes]] | None = None,
) -> Tally:
    """
    What is told of five rows whose records are right, but for some.
    """
    seed = seed_of(compiled.fingerprint)
    records = {}
    for number in range(ROWS):
        key, fields = b"one:%d" % number, {b"id": b"%d" % number, b"name": b"n"}
        marks = {b"_v": VERSION, b"_h": digest_of(seed, key, fields.items())}
        records[key] = list(chain.from_iterable({**marks, **fields}.items()))
    fields = Fields(compiled, None, Held({**records, **(but or {})}))  # type: ignore[arg-type]
    return fields.judge(stub, page)  # type: ignore[arg-type]


def page(**changes: Any) -> FieldPage:
    """
    The five rows.
    """
    numbers = range(ROWS)
    columns = (tuple(b"%d" % n for n in numbers), (b"n",) * ROWS)
    made = FieldPage(columns, [(str(n),) for n in numbers], (VERSION,) * ROWS, 1)
    return made._replace(**changes)


def test_rows_whose_records_are_right_are_told_at_once(compiled: CompiledMapping) -> None:
    """
    Nothing of them is read again.
    """
    stub = Stub()

    tally = judged(compiled, stub, page())

    assert (tally.rows, tally.counts, stub.judged) == (ROWS, {Verdict.OK: ROWS}, [])


@pytest.mark.parametrize(
    ("stub", "found", "but"),
    [
        (Stub(rejected=[("2",)]), page(), None),
        (Stub(known={("2",): History(VERSION.decode(), dirty=True)}), page(), None),
        (Stub(known={("2",): History("1000000000003")}), page(), None),
        (Stub(), page(odd=frozenset({2})), None),
        (Stub(), page(versions=(*[VERSION] * 2, b"1000000000001", *[VERSION] * 2)), None),
        (Stub(), page(columns=(page().columns[0], (b"n", b"n", b"m", b"n", b"n"))), None),
        (Stub(), page(columns=(page().columns[0], (b"n", b"n", None, b"n", b"n"))), None),
        (Stub(), page(columns=(page().columns[0], (b"n", b"n", ODD, b"n", b"n"))), None),
        (Stub(), page(columns=((b"0", b"1", ODD, b"3", b"4"), (b"n",) * ROWS)), None),
        (Stub(), page(), {b"one:2": []}),
        (Stub(), page(), {b"one:2": [b"_v", VERSION, b"id", b"2", b"name", b"n"]}),
    ],
)
def test_a_row_that_is_not_just_right_is_judged_the_plain_way(
    compiled: CompiledMapping,
    stub: Stub,
    found: FieldPage,
    but: Mapping[bytes, list[bytes]] | None,
) -> None:
    """
    Open rejects, what capture knows, odd keys and values, versions, and marks: that row alone.
    """
    tally = judged(compiled, stub, found, but)

    assert (tally.rows, tally.counts, stub.judged) == (4, {Verdict.OK: 4}, [("2",)])


@pytest.mark.parametrize(
    "fields",
    [
        {b"id": b"2"},
        {b"id": b"2", b"name": b"m"},
        {b"id": b"2", b"more": b"x", b"name": b"n"},
        {b"name": b"n"},
        {b"id": b"3", b"name": b"n"},
    ],
)
def test_a_digest_that_fits_what_is_there_proves_nothing(
    compiled: CompiledMapping, fields: Mapping[bytes, bytes]
) -> None:
    """
    As an encoder with a fault leaves it: a field gone, another one, or too many.
    """
    stub = Stub()
    digest = digest_of(seed_of(compiled.fingerprint), b"one:2", fields.items())
    record = {b"_v": VERSION, b"_h": digest, **fields}

    judged(compiled, stub, page(), {b"one:2": list(chain.from_iterable(record.items()))})

    assert stub.judged == [("2",)]


NAMES = ("plain", "a:b", "a%3Ab", "a b", "tab\t", "line\nend", "Jos\u00e9", "-", "{x}", "")


@pytest.fixture
def named_by_texts(tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer) -> Project:
    """
    Rows whose keys are texts, most of which a record's key has to escape; not in Redis yet.
    """
    rows = ", ".join(f"('{name}', {at})" for at, name in enumerate(NAMES))
    sqlite.execute(
        "CREATE TABLE t (name TEXT NOT NULL PRIMARY KEY, size INTEGER);"
        f"INSERT INTO t VALUES {rows};"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)"
        " INSERT INTO t SELECT 'name-' || i, i FROM n"
    )
    project = Project(tmp_path / "user", sqlite.url, redis_server.url)
    project.mapping(
        "t", 'version: 1\nname: t\nsource: {table: t, key: [name]}\ntarget: {key: "one:{name}"}\n'
    )
    return project


def test_keys_that_have_to_be_escaped_are_found(
    named_by_texts: Project, redis_server: RedisServer
) -> None:
    """
    Each row has its own record, whatever its key is made of.
    """
    assert named_by_texts.run("backfill", "t").exit == 0
    client = redis_server.client()
    for key in (b"one:a%3Ab", b"one:Jos\xc3\xa9", b"one:plain"):
        assert client.hset(key, "size", "77") == 0

    found, said = both(named_by_texts)

    assert said["counts"]["OK"] == len(NAMES) + 100 - 3
    keys = ("one:a%3Ab", "one:Jos\u00e9", "one:plain")
    assert found == {("DIFFERENT", "value", key, "size") for key in keys}


@pytest.mark.usefixtures("modern")
def test_keys_that_the_writer_did_not_escape_are_missed(
    named_by_texts: Project, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Deep asks nothing of what the fast way of a backfill makes keys by.
    """
    monkeypatch.setattr("migrate.mapping.compile.key_check", lambda *_: None)
    assert named_by_texts.run("backfill", "t").exit == 0
    assert redis_server.client().exists("one:a:b")

    found, _ = both(named_by_texts)

    assert ("MISSING", "", "one:a%20b", "") in found
    assert ("DIFFERENT", "value", "one:a%3Ab", "name") in found


OF_THE_WRITER = re.compile(
    r"migrate\.(mapping\.bulk|source\.(bulk|child_lines|dialects\.\w+_lines)|target\.(bulk|encoder)"
    r"|target\.payload\w*|pipeline\.(bulk|carry|backfill))"
)
READING_FIELDS = (
    *("pipeline/verify_fields.py", "pipeline/verify_compare.py", "source/plain.py"),
    *("source/plain_pages.py", "source/dialects/plain_columns.py", "target/whole.py"),
    *("source/dialects/postgresql_plain.py", "source/dialects/mysql_plain.py"),
    "source/dialects/sqlite_plain.py",
)


@pytest.mark.parametrize("name", READING_FIELDS)
def test_what_reads_fields_imports_nothing_of_the_fast_way_of_a_backfill(name: str) -> None:
    """
    A fault there would otherwise be compared with itself.
    """
    tree = ast.parse((Path(migrate.__file__).parent / name).read_text())

    imported = {
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert {one for one in imported if OF_THE_WRITER.match(one)} == set()
