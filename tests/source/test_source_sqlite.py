"""
What only SQLite can do to a reader: any value in any column, and files that are none.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from migrate.errors import InvalidInput, SourceAccessDenied, SourceUnavailable
from migrate.model.events import Waiting
from migrate.model.settings import SourceConfig
from migrate.model.values import Column, KeyRange, Kind
from migrate.source.dialects.spelling import float_text
from migrate.source.store import SqlSource
from tests.servers import PostgresDatabase, SqliteDatabase
from tests.source.reading import query_of, read_all, reader

FITTING: dict[str, tuple[str, object, object]] = {
    "an integer": ("INTEGER", 2**63 - 1, "9223372036854775807"),
    "a small integer": ("TINYINT(1)", -1, "-1"),
    "a decimal": ("DECIMAL(10,2)", 1.98, "1.98"),
    "a decimal without fraction": ("DECIMAL(10,2)", 3, "3.00"),
    "a decimal with one digit": ("NUMERIC(10, 2)", 1.5, "1.50"),
    "a decimal beyond its scale": ("DECIMAL(10,2)", 1.987, "1.987"),
    "a large decimal": ("DECIMAL(30,2)", 1e22, "10000000000000000000000.00"),
    "a tiny decimal": ("NUMERIC", 1e-7, "0.0000001"),
    "a whole number": ("NUMERIC", 3.0, "3"),
    "a decimal without places": ("DECIMAL(10)", 7, "7"),
    "a float": ("REAL", 0.1, "0.1"),
    "a whole float": ("DOUBLE PRECISION", 1, "1"),
    "a large float": ("FLOAT", 1e15, "1e+15"),
    "infinity": ("FLOAT", float("inf"), "Infinity"),
    "true": ("BOOLEAN", 1, "true"),
    "a word for false": ("BOOL", "False", "false"),
    "text": ("VARCHAR(3)", "longer\x00é😀", "longer\x00é😀"),
    "an empty text": ("TEXT", "", ""),
    "a number in a text": ("TEXT", "007", "007"),
    "bytes": ("BLOB", b"\x00\xff", b"\x00\xff"),
    "a date": ("DATE", "2024-02-29", "2024-02-29"),
    "a time": ("TIME", "10:00", "10:00:00"),
    "a time with a fraction": ("TIME", "23:59:59.120000", "23:59:59.12"),
    "a timestamp": ("DATETIME", "2024-01-02T03:04:05.500", "2024-01-02 03:04:05.5"),
    "a timestamp at midnight": ("TIMESTAMP", "0001-01-01", "0001-01-01 00:00:00"),
    "a timestamp with zone": ("TIMESTAMPTZ", "2024-01-01T00:30:00+02:00", "2023-12-31 22:30:00+00"),
    "a timestamp in UTC": (
        "TIMESTAMP WITH TIME ZONE",
        "2024-01-01 00:00:00.100Z",
        "2024-01-01 00:00:00.1+00",
    ),
    "a short zone": ("DATETIME_TZ", "2024-01-01 00:00:00-05", "2024-01-01 05:00:00+00"),
    "json": ("JSON", '{"b": 1.10, "a":  null}', '{"b": 1.10, "a":  null}'),
    "a number as json": ("JSON", 5, "5"),
    "an identity": ("UUID", "A0EEBC99-9c0b", "A0EEBC99-9c0b"),
    "an integer without a type": ("", 5, "5"),
    "a whole real without a type": ("", 5.0, "5.0"),
    "a text without a type": ("", "five", "five"),
    "a number of an unknown type": ("STRING", 7, "7"),
}


@pytest.mark.parametrize("case", FITTING)
def test_values_that_fit_come_in_neutral_spelling(
    sqlite: SqliteDatabase, from_sqlite: SqlSource, case: str
) -> None:
    """
    What fits its declared type becomes the text that PostgreSQL would print.
    """
    declared, value, cell = FITTING[case]
    sqlite.execute(f"CREATE TABLE people (id INTEGER PRIMARY KEY, v {declared})")
    sqlite.execute("INSERT INTO people VALUES (1, ?)", (value,))
    sqlite.execute("INSERT INTO people VALUES (2, NULL)")

    found = read_all(reader(from_sqlite, "people"))

    assert found.cells(1) == [cell, None]
    assert found.faults == []


MISFITS: dict[str, tuple[str, object, str]] = {
    "text among integers": ("INTEGER", "planted", "wrong-type"),
    "a real among integers": ("INTEGER", 1.5, "wrong-type"),
    "bytes among integers": ("INTEGER", b"1", "wrong-type"),
    "text among decimals": ("DECIMAL(10,2)", "planted", "wrong-type"),
    "infinity among decimals": ("DECIMAL(10,2)", float("inf"), "not-finite"),
    "text among floats": ("REAL", "planted", "wrong-type"),
    "a two among truths": ("BOOLEAN", 2, "wrong-type"),
    "a word among truths": ("BOOLEAN", "yes, planted", "wrong-type"),
    "a real among truths": ("BOOLEAN", 0.5, "wrong-type"),
    "bytes among texts": ("TEXT", b"planted", "wrong-type"),
    "text among bytes": ("BLOB", "planted", "wrong-type"),
    "a number among bytes": ("BLOB", 5, "wrong-type"),
    "no date": ("DATE", "2024-02-30", "bad-date"),
    "a date in words": ("DATE", "planted", "bad-date"),
    "a number among dates": ("DATE", "20200101", "wrong-type"),
    "unix time": ("DATETIME", 1700000000, "wrong-type"),
    "no day": ("DATETIME", "2024-13-01 00:00:00", "bad-date"),
    "no hour": ("DATETIME", "2024-01-01 24:00:00", "bad-date"),
    "year zero": ("DATETIME", "0000-00-00 00:00:00", "bad-date"),
    "a zone where none belongs": ("DATETIME", "2024-01-01 00:00:00Z", "zone-present"),
    "no zone where one belongs": ("TIMESTAMPTZ", "2024-01-01 00:00:00", "zone-missing"),
    "a zone beyond all years": ("TIMESTAMPTZ", "0001-01-01 00:00:00+02:00", "bad-date"),
    "too many digits": ("DATETIME", "2024-01-01 00:00:00.1234567", "too-precise"),
    "no time": ("TIME", "25:00:00", "bad-time"),
    "a time in words": ("TIME", "planted", "bad-time"),
    "bytes among json": ("JSONB", b"\x0c", "wrong-type"),
    "text like a number without a type": ("", "5", "ambiguous"),
    "text like infinity without a type": ("", "-Infinity", "ambiguous"),
    "bytes without a type": ("", b"5", "wrong-type"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_values_that_do_not_fit_are_faults_of_their_row_alone(
    sqlite: SqliteDatabase, from_sqlite: SqlSource, case: str
) -> None:
    """
    One wrong value costs one row, says which column and why, and does not show the value.
    """
    declared, value, reason = MISFITS[case]
    sqlite.execute(f"CREATE TABLE people (id INTEGER PRIMARY KEY, v {declared})")
    sqlite.execute("INSERT INTO people VALUES (?, ?)", (1, None), (2, value), (3, None))

    chunk = reader(from_sqlite, "people").read(KeyRange(), None, 10)

    assert [tuple(row) for row in chunk.rows] == [("1", None), ("2", None), ("3", None)]
    assert list(chunk.faults) == [1]
    assert (chunk.faults[1].column, chunk.faults[1].reason) == ("v", reason)
    assert "planted" not in chunk.faults[1].detail


def test_invalid_utf8_costs_its_row_only(sqlite: SqliteDatabase, from_sqlite: SqlSource) -> None:
    """
    A text of other bytes is a fault; its neighbours and the next pages are read.
    """
    sqlite.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, born DATE, raw)")
    sqlite.execute(
        "INSERT INTO people VALUES (1, 'é', NULL, 'x'), (2, CAST(x'ff41' AS TEXT), NULL, NULL),"
        "(3, 'c', CAST(x'ff' AS TEXT), CAST(x'fe' AS TEXT)), (4, 'd', NULL, NULL)"
    )

    found = read_all(reader(from_sqlite, "people"), 3)
    bare = read_all(reader(from_sqlite, "people", verbatim=frozenset({"name"})), 3)

    assert found.cells(1) == ["é", None, "c", "d"]
    assert [(fault.column, fault.reason) for fault in found.faults] == [
        ("name", "invalid-utf8"),
        ("born", "invalid-utf8"),
    ]
    assert [(fault.column, fault.reason) for fault in bare.faults] == [
        ("name", "invalid-utf8"),
        ("born", "invalid-utf8"),
    ]


@pytest.mark.parametrize("limit", [1, 2, 100])
@pytest.mark.parametrize(
    ("declared", "keys", "reachable"),
    [
        ("INT", [None, None, -1, 1.5, 2, 1e300, float("inf"), "x", b"y"], 6),
        ("TEXT", [None, "", "a", "b", b"c"], 3),
        ("BLOB", [None, b"", b"\x00", b"\xff", "text", 5], 3),
        ("NUMERIC", [None, 0.1, 0.30000000000000004, 3, "zzz"], 4),
        ("", [None, 1, 2, "x"], 2),
    ],
)
def test_odd_keys_do_not_end_or_hold_up_the_paging(
    sqlite: SqliteDatabase,
    from_sqlite: SqlSource,
    declared: str,
    keys: list[object],
    reachable: int,
    limit: int,
) -> None:
    """
    Reals and texts in a numeric key are faults that pages pass; the rest is counted as unreachable.
    """
    sqlite.execute(f"CREATE TABLE people (id {declared} PRIMARY KEY)")
    sqlite.execute("INSERT INTO people VALUES (?)", *[(key,) for key in keys])
    table = from_sqlite.reflect(None, "people")
    assert table is not None
    extractor = reader(from_sqlite, "people")

    found = read_all(extractor, limit)

    wrong = [key for key in keys if declared in ("INT", "NUMERIC") and type(key) in (float, str)]
    assert len(found.keys) == reachable
    assert from_sqlite.null_keys(query_of(table)) == len(keys) - reachable
    assert len(found.faults) == len(wrong)
    assert len(extractor.fetch(found.keys).keys) == reachable


def test_a_key_that_is_not_utf8_is_passed_by_its_bytes(
    sqlite: SqliteDatabase, from_sqlite: SqlSource
) -> None:
    """
    Its row is a fault, and the page after it begins behind it.
    """
    sqlite.execute("CREATE TABLE people (id TEXT PRIMARY KEY)")
    sqlite.execute(
        "INSERT INTO people VALUES ('a'), (CAST(x'7aff' AS TEXT)), (CAST(x'fe' AS TEXT)), ('b')"
    )
    extractor = reader(from_sqlite, "people")

    found = read_all(extractor, 1)

    assert found.keys == [("a",), ("b",), (b"z\xff",), (b"\xfe",)]
    assert [fault.reason for fault in found.faults] == ["invalid-utf8"] * 2
    assert len(extractor.fetch(found.keys).keys) == 4


def test_keys_in_reverse_of_their_name(sqlite: SqliteDatabase, from_sqlite: SqlSource) -> None:
    """
    Without a rowid, and in a column's own collation, pages follow the index.
    """
    sqlite.execute(
        "CREATE TABLE people (id TEXT COLLATE NOCASE, n INTEGER, PRIMARY KEY (id, n))"
        " WITHOUT ROWID;"
        "INSERT INTO people VALUES ('b', 1), ('B', 2), ('a', 1), ('C', 1)"
    )
    extractor = reader(from_sqlite, "people")

    found = read_all(extractor, 1)

    assert found.keys == [("a", 1), ("b", 1), ("B", 2), ("C", 1)]
    assert extractor.problems() == []


def test_reflecting_knows_rowids_and_generated_columns(
    sqlite: SqliteDatabase, from_sqlite: SqlSource
) -> None:
    """
    INTEGER PRIMARY KEY is never NULL; other primary keys of SQLite can be.
    """
    sqlite.execute(
        """
        CREATE TABLE people (
            id INTEGER PRIMARY KEY, twice GENERATED ALWAYS AS (id * 2), n DEFAULT 3);
        CREATE TABLE loose (id INT PRIMARY KEY);
        CREATE TABLE strict (id TEXT PRIMARY KEY) WITHOUT ROWID;
        """
    )

    people, loose, strict = (from_sqlite.reflect(None, t) for t in ("PEOPLE", "loose", "strict"))

    assert people is not None
    assert people.columns == (
        Column("id", "INTEGER", Kind.INTEGER, nullable=False, supplied=True),
        Column("twice", "", Kind.LITERAL, nullable=True, supplied=True, generated=True),
        Column("n", "", Kind.LITERAL, nullable=True, supplied=True),
    )
    assert loose is not None
    assert loose.columns[0].nullable
    assert strict is not None
    assert not strict.columns[0].nullable


@pytest.mark.parametrize("where", ["missing.db", "folder", ""])
def test_a_file_that_is_not_there_is_not_made(tmp_path: Path, where: str) -> None:
    """
    A mistyped path is an error that shows it; no empty database appears.
    """
    (tmp_path / "folder").mkdir()
    path = tmp_path / where if where else ""

    with pytest.raises(InvalidInput) as caught:
        SqlSource.open(SourceConfig("sqlite", database=str(path)))

    assert caught.value.where["path"] == str(path)
    assert not (tmp_path / "missing.db").exists()


def test_paths_are_relative_to_where_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Names with spaces, percent signs and question marks are only names.
    """
    odd = tmp_path / "a b%20c?d#e"
    odd.mkdir()
    SqliteDatabase(odd / "x.db").execute("CREATE TABLE people (id INTEGER PRIMARY KEY)")
    monkeypatch.chdir(odd)

    source = SqlSource.open(SourceConfig("sqlite", database="x.db"))

    assert source.tables() == ["people"]
    source.close()


def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    """
    Anything else under that path is the user's mistake, told at once.
    """
    path = tmp_path / "text.db"
    path.write_text("planted text, long enough to be read as a header of a database " * 20)

    with pytest.raises(InvalidInput, match="not an SQLite database"):
        SqlSource.open(SourceConfig("sqlite", database=str(path)))


def test_a_damaged_file_says_so(sqlite: SqliteDatabase) -> None:
    """
    Broken pages are not worth waiting for.
    """
    sqlite.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)")
    sqlite.execute("INSERT INTO people VALUES (?, ?)", *[(n, "x" * 500) for n in range(200)])
    source = SqlSource.open(sqlite.config())
    extractor = reader(source, "people")
    source.close()
    whole = sqlite.path.read_bytes()
    sqlite.path.write_bytes(whole[:8192] + b"\xff" * (len(whole) - 8192))

    with pytest.raises(SourceUnavailable, match="damaged"):
        read_all(extractor, 100)


def test_a_writer_that_locks_the_file_is_waited_for(
    sqlite: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    While another process holds the file, the reading waits and says why.
    """
    monkeypatch.setattr("migrate.source.dialects.sqlite.BUSY_TIMEOUT_S", 0.01)
    sqlite.execute("CREATE TABLE people (id INTEGER PRIMARY KEY); INSERT INTO people VALUES (1)")
    writer = sqlite3.connect(sqlite.path, isolation_level=None)
    heard: list[Waiting] = []

    def release(seconds: float) -> None:
        writer.rollback()

    writer.execute("BEGIN EXCLUSIVE")
    source = SqlSource.open(sqlite.config(), heard.append, sleep=release)
    writer.close()

    assert source.tables() == ["people"]
    assert [(waiting.store, waiting.reason) for waiting in heard] == [("source", "busy")]
    source.close()


def test_a_file_that_may_not_be_read_is_a_permission(
    sqlite: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What the system refuses to open is told with the path, without waiting.
    """
    sqlite.execute("CREATE TABLE people (id INTEGER PRIMARY KEY)")
    monkeypatch.setattr(sqlite3, "connect", _refusing)

    with pytest.raises(SourceAccessDenied) as caught:
        SqlSource.open(sqlite.config())

    assert str(sqlite.path) in str(caught.value.where["source"])


def _refusing(*_: object, **__: object) -> sqlite3.Connection:
    # The tests may run as root, whom no permission stops: the error is made as SQLite makes it.
    error = sqlite3.OperationalError("unable to open database file")
    error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
    raise error


def test_floats_are_spelled_as_postgresql_does(postgres: PostgresDatabase) -> None:
    """
    The same double has the same text, whichever store it comes from.
    """
    values = [
        0.0, -0.0, 1.0, 0.1, 1e14, 1e15, -1e15, 1234567890123456.0, 1234567890123456.5,
        999999999999999.9, 1e16, 1.5e16, 1e22, 1e-4, 1e-5, 1.1e-5, 5e-324, 1.7976931348623157e308,
        float("inf"), float("-inf"), float("nan"), 123456.789, 2.0**53, 100000000000000000000.0,
        # Their shortest texts lie half-way to a neighbour, where the two differ.
        5.640331096598038e16, -5.640331096598038e16, 9.5e22, 2.0**70, 4.1e22,
    ]  # fmt: skip

    printed = [
        postgres.query("SELECT CAST(CAST(%s AS float8) AS text)", (value,))[0][0]
        for value in values
    ]

    assert [float_text(value) for value in values] == printed
