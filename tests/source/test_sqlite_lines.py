"""
Lines of SQLite's rows, some thousand at once: rows at fault among them, wherever they are.
"""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from migrate.model.lines import ODD_LINE, cells_of
from migrate.model.values import RawPage
from migrate.source.control import create_control
from migrate.source.dialects.sqlite_lines import AT_ONCE
from migrate.source.store import SqlSource
from tests.servers import SqliteDatabase
from tests.source.reading import open_source, query_of
from tests.source.test_bulk import compare

ROWS = 2 * AT_ONCE + 500

PEOPLE = f"""
    CREATE TABLE people (
        id BIGINT PRIMARY KEY, v TEXT, n BIGINT, d DECIMAL(12,4), b BOOLEAN, t DATETIME, x BLOB
    );
    WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < {ROWS})
    INSERT INTO people SELECT i, CASE WHEN i % 9 THEN 'v' || i END, i * 7, i / 4.0, i % 2,
        '2024-01-31 12:00:0' || (i % 10), CAST('x' || i AS BLOB) FROM c;
"""

BAD = {
    7: "n = 'seven'",
    AT_ONCE - 1: "v = X'00'",
    AT_ONCE: "v = CAST(X'80FF' AS TEXT)",
    AT_ONCE + 1: "t = '2024-02-30 12:00:00'",
    AT_ONCE + 2: "b = 2",
    2 * AT_ONCE: "d = 'much'",
    ROWS: "x = 'text'",
}
"""What is wrong, by id."""

AWKWARD = {
    9: "v = 'a' || char(9) || 'b\\N' || char(10) || char(13) || '\\'",
    10: "t = '2024-01-31T12:00'",
    11: "d = '5'",
    12: "d = 0.00001, b = 'TRUE'",
    2 * AT_ONCE + 9: "v = '\\N'",
    ROWS - 1: "v = char(0) || 'ä'",
}
"""What is right, and not usual."""


def fill(sqlite: SqliteDatabase) -> None:
    """
    The table with rows that are good, bad and awkward.
    """
    sqlite.execute(PEOPLE)
    for at, change in {**BAD, **AWKWARD}.items():
        sqlite.execute(f"UPDATE people SET {change} WHERE id = {at}")


def pages_of(source: SqlSource, limit: int) -> list[RawPage]:
    """
    All pages, each held against the plain way.
    """
    table = source.reflect(None, "people")
    assert table is not None
    return compare(source, query_of(table), table, limit)


def odd_of(pages: list[RawPage]) -> list[int]:
    """
    Numbers of lines that are no text, counted from 1.
    """
    lines = [line for page in pages for line in page.lines]
    return [at for at, line in enumerate(lines, 1) if line.startswith(ODD_LINE)]


@pytest.mark.parametrize("limit", [AT_ONCE // 3, AT_ONCE, AT_ONCE + 1, ROWS])
def test_rows_at_fault_cost_themselves_alone(
    sqlite: SqliteDatabase, from_sqlite: SqlSource, limit: int
) -> None:
    """
    At the borders of what is taken at once, behind a text that has to be read once more as well.
    """
    fill(sqlite)

    assert odd_of(pages_of(from_sqlite, limit)) == sorted(BAD)


def test_rows_at_fault_have_versions(sqlite: SqliteDatabase, from_sqlite: SqlSource) -> None:
    """
    The last row of a page tells its generation, whatever else is wrong with it.
    """
    fill(sqlite)
    engine = sa.create_engine(sqlite.url)
    create_control(engine)
    engine.dispose()
    idle = pages_of(from_sqlite, ROWS)
    sqlite.execute(
        "INSERT INTO migrate_ctl (mapping, generation, base, stage) "
        "VALUES ('profiles', 3, 0, 'backfill')"
    )
    pages = pages_of(from_sqlite, ROWS)

    assert odd_of(idle) == odd_of(pages) == sorted(BAD)
    assert not idle[0].versioned
    assert pages[0].versioned
    assert {cells_of(line)[-1] for line in pages[0].lines} == {b"3000000000000"}


@pytest.mark.parametrize(
    ("declared", "keys", "odd"),
    [
        ("REAL", "(1.5), (2), (-1e300)", [1, 2, 3]),
        ("BIGINT", "(1), (2.5), ('3')", [2]),
        ("TEXT", "('a'), (''), (CAST(X'FF' AS TEXT))", [3]),
        ("DATETIME", "('2024-01-31 12:00:00'), ('2024-01-31T12:00:01')", [2]),
        ("BLOB", "(X'00'), (X'5C09'), (X'')", []),
        ("", "(1), ('a'), (1.5)", []),
    ],
)
def test_a_key_at_fault_has_no_line(
    sqlite: SqliteDatabase, from_sqlite: SqlSource, declared: str, keys: str, odd: list[int]
) -> None:
    """
    A cell may be well where the key is not: nobody takes such a line for a record.
    """
    sqlite.execute(f"CREATE TABLE people (id {declared} NOT NULL PRIMARY KEY)")
    sqlite.execute(f"INSERT INTO people VALUES {keys}")

    for limit in (1, 2, 9):
        assert odd_of(pages_of(from_sqlite, limit)) == odd


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_a_file_in_another_encoding_is_the_same(sqlite: SqliteDatabase, encoding: str) -> None:
    """
    Lines are UTF-8 whatever the file is.
    """
    sqlite.execute(
        f"PRAGMA encoding = '{encoding}'; CREATE TABLE people (id TEXT PRIMARY KEY, v TEXT);"
        "INSERT INTO people VALUES ('ä', '😀'), ('b', 'a' || char(9)), ('c', CAST(X'00D8' AS TEXT))"
    )
    source = open_source(sqlite)

    for limit in (1, 2, 9):
        pages_of(source, limit)
    source.close()


def test_a_key_that_is_no_column_stands_beside(
    sqlite: SqliteDatabase, from_sqlite: SqlSource
) -> None:
    """
    It is read, and no line has it.
    """
    sqlite.execute("CREATE TABLE people (a INTEGER, b TEXT, v TEXT, PRIMARY KEY (a, b))")
    sqlite.execute("INSERT INTO people VALUES (1, 'x', 'v'), (1, 'y', X'00'), (2, 'x', NULL)")
    table = from_sqlite.reflect(None, "people")
    assert table is not None

    for columns in (("v",), ("v", "b")):
        query = query_of(table, ("a", "b"), columns)
        for limit in (1, 2, 9):
            pages = compare(from_sqlite, query, table, limit)
            assert [len(cells_of(line)) for page in pages for line in page.lines] == [
                len(columns),
                1,
                len(columns),
            ]
            assert odd_of(pages) == [2]
