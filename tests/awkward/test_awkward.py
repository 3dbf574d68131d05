"""
The collection of awkward values and schemas, on every server with every driver of its dialect.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from migrate.errors import SchemaDrift
from migrate.mapping.compile import compile_mapping
from migrate.mapping.files import load
from migrate.model.values import KeyRange
from migrate.pipeline.scope import find_table
from migrate.source.store import SqlSource
from tests.awkward.cases import HERE, Refused, Rejected, Schema
from tests.awkward.running import (
    COLLECTIONS,
    DRIVERS,
    SERVERS,
    Stand,
    backfilled,
    mapping_of,
    named,
    paged,
    unlike,
)
from tests.project import Project
from tests.servers import PostgresDatabase, RedisServer, SqliteDatabase

LEAST = 120
"""Cases of each dialect."""


def _cases(table: str) -> list[Any]:
    """
    Every case of a table of each dialect, on each server; the matrix asks for containers.
    """
    found = []
    for stand in DRIVERS:
        server = stand.split("+")[0]
        marks = [pytest.mark.containers] if "-" in server else []
        found += [
            pytest.param(stand, case, marks=marks, id=f"{stand}-{case}")
            for case in getattr(COLLECTIONS[SERVERS[server]], table)
        ]
    return found


def _values() -> list[Any]:
    """
    Every value of each dialect, on each server.
    """
    found = []
    for stand in DRIVERS:
        server = stand.split("+")[0]
        marks = [pytest.mark.containers] if "-" in server else []
        for sort, declared in COLLECTIONS[SERVERS[server]].SORTS.items():
            for case in declared.values:
                name = f"{stand}-{sort}-{case}"
                found.append(pytest.param(stand, sort, case, marks=marks, id=name))
    return found


EVERY_STAND = [
    pytest.param(stand, marks=[pytest.mark.containers] if "-" in stand else []) for stand in DRIVERS
]


@pytest.mark.parametrize("dialect", COLLECTIONS)
def test_the_collection_is_large_enough(dialect: str) -> None:
    """
    Each dialect has at least 120 cases: values, schemas, and changes of a schema.
    """
    module = COLLECTIONS[dialect]
    values = sum(len(sort.values) for sort in module.SORTS.values())

    assert values + len(module.SCHEMAS) + len(module.DRIFTS) >= LEAST


@pytest.mark.parametrize(("stand", "sort", "case"), _values(), indirect=["stand"])
def test_a_value_is_moved_exactly_or_named(stand: Stand, sort: str, case: str) -> None:
    """
    By small pages and by a backfill alike: the bytes of the record, or the column and its reason.
    """
    if sort not in stand.sorts():
        pytest.skip(f"{stand.source_version()} has no such column")
    values = stand.values
    outcome = stand.module.SORTS[sort].values[case].outcome
    key = f"awkward:{values.ids[sort, case]}"

    results = (values.paged, values.filled)
    found = [unlike(values, sort, result.records.get(key)) for result in results]
    problem = values.paged.rejects.get(str(values.ids[sort, case]))

    if isinstance(outcome, Rejected):
        assert (found, problem) == ([None, None], (sort, outcome.reason))
    else:
        assert (found, problem) == ([{sort: outcome.field}] * 2, None)


@pytest.mark.parametrize("stand", EVERY_STAND, indirect=True)
def test_a_bad_value_never_costs_its_neighbours(stand: Stand) -> None:
    """
    Every row of good values around the cases is a record, and the rejects are those of the cases.
    """
    values = stand.values
    numbers = set(range(0, 2 * len(values.ids) + 1, 2))
    wanted = {f"awkward:{number}": values.good for number in numbers}

    for result in (values.paged, values.filled):
        assert {key: result.records.get(key) for key in wanted} == wanted
    assert Counter(values.filled.rejects.values()) == Counter(values.paged.rejects.values())


@pytest.mark.parametrize("stand", EVERY_STAND, indirect=True)
def test_what_is_moved_can_be_read_back(stand: Stand) -> None:
    """
    Each field of each record decodes to the cell that it was made from, masks aside.
    """
    assert stand.values.changed == []


@pytest.mark.parametrize(("stand", "case"), _cases("SCHEMAS"), indirect=["stand"])
def test_a_schema_is_moved_whole_or_refused(stand: Stand, case: str) -> None:
    """
    Every record and every reject of a table, or the rule by which no row of it is read.
    """
    given: Schema | Refused = stand.module.SCHEMAS[case]
    if not stand.has(given):
        pytest.skip(f"{stand.source_version()} has no such table")
    name = f"s{list(stand.module.SCHEMAS).index(case):03}"
    wanted = named(given, name)
    if wanted.sql:
        stand.database.execute(wanted.sql)
    project = stand.project(name, mapping_of(wanted))

    if isinstance(wanted, Refused):
        ran = project.run("backfill", "t")
        assert ran.error == wanted.code, ran.err
        assert not wanted.rule or f": [{wanted.rule}] " in ran.err, ran.err
        assert stand.redis().client().dbsize() == 0
        return
    records = {f"{name}:{key}": dict(fields) for key, fields in wanted.records.items()}
    in_pages = paged(stand.source, project, 2)
    filled = backfilled(project, stand.redis())
    assert in_pages.records == records
    assert list(in_pages.rejects.values()) == list(wanted.rejects)
    assert filled.records == records
    assert Counter(filled.rejects.values()) == Counter(wanted.rejects)


@pytest.mark.parametrize(("stand", "case"), _cases("DRIFTS"), indirect=["stand"])
def test_a_table_that_changes_is_told_or_read_on(stand: Stand, case: str) -> None:
    """
    Behind a page the table changes: the next one is an error, or rows as they are now.
    """
    drift = stand.module.DRIFTS[case]
    name = f"d{list(stand.module.DRIFTS).index(case):03}"
    stand.database.execute(drift.sql.replace(HERE, name))
    text = (
        f"version: 1\nname: t\nsource: {{table: {name}, key: [id]}}\n"
        f'target: {{key: "{name}:{{id}}"}}\n'
    )
    mapping = load(stand.project(name, text).folder / "mappings")["t"]
    table = find_table(stand.source, mapping)
    extractor = stand.source.extractor(compile_mapping(mapping, table).query, table)
    first = extractor.read(KeyRange(), None, 2)

    stand.database.execute(drift.change.replace(HERE, name))

    if drift.told:
        with pytest.raises(SchemaDrift) as caught:
            extractor.read(KeyRange(), first.keys[-1], 3)
        assert drift.told in f"{caught.value.what} {caught.value.where}"
    else:
        rest = extractor.read(KeyRange(), first.keys[-1], 3)
        assert [row[-1] for row in rest.rows] == list(drift.cells)


def test_bytes_in_a_database_without_an_encoding(
    postgres: PostgresDatabase, tmp_path: Path, redis_server: RedisServer
) -> None:
    """
    Where PostgreSQL checks no text, texts that are UTF-8 are moved, and the others named.
    """
    name = f"{postgres.name}_ascii"
    with postgres.server.connect() as connection:
        connection.execute(
            f"CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'"
        )
    try:
        with postgres.server.connect(name) as connection:
            connection.execute(
                "CREATE TABLE t (id INT PRIMARY KEY, v TEXT); INSERT INTO t SELECT n, "
                "convert_from(CASE n WHEN 3 THEN '\\xff41'::bytea WHEN 5 THEN '\\xeda080' "
                "ELSE '\\xc3a9' END, 'SQL_ASCII') FROM generate_series(1, 6) n"
            )
        project = Project(
            tmp_path, postgres.url.replace(f"/{postgres.name}", f"/{name}"), redis_server.url
        )
        project.mapping(
            "t",
            'version: 1\nname: t\nsource: {table: t, key: [id]}\ntarget: {key: "ascii:{id}"}\n',
        )
        found = backfilled(project, redis_server)
    finally:
        with postgres.server.connect() as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    assert found.records == {
        f"ascii:{n}": {"id": b"%d" % n, "v": "é".encode()} for n in (1, 2, 4, 6)
    }
    assert list(found.rejects.values()) == [("v", "unreadable")] * 2


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_a_sqlite_file_of_another_encoding(
    sqlite: SqliteDatabase, tmp_path: Path, redis_server: RedisServer, encoding: str
) -> None:
    """
    Halves of characters cost their own row, in a key too: pages go on behind them.
    """
    order = encoding.lower().replace("utf-16", "utf-16-")
    halves = [
        f"CAST(x'{text.encode(order, 'surrogatepass').hex()}' AS TEXT)" for text in "\ud800\udbff"
    ]
    keys = ["a", "é", "😀", "z", "\ue000", "\ufffd"]
    rows = [f"(char({ord(key)}), 'v')" for key in keys] + [f"({half}, 'v')" for half in halves]
    sqlite.execute(
        f"PRAGMA encoding = '{encoding}'; CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT);"
        f"INSERT INTO t VALUES {', '.join(rows)}, ('w', {halves[0]})"
    )
    project = Project(tmp_path / "user", sqlite.url, redis_server.url)
    project.mapping(
        "t", 'version: 1\nname: t\nsource: {table: t, key: [id]}\ntarget: {key: "wide:{id}"}\n'
    )
    with closing(SqlSource.open(sqlite.config())) as source:
        in_pages = [paged(source, project, page) for page in (1, 2, 3)]
    filled = backfilled(project, redis_server)

    wanted = {f"wide:{key}": {"id": key.encode(), "v": b"v"} for key in keys}
    for found in (*in_pages, filled):
        assert found.records == wanted
        assert sorted(found.rejects.values()) == [
            ("id", "invalid-utf8"),
            ("id", "invalid-utf8"),
            ("v", "invalid-utf8"),
        ]
