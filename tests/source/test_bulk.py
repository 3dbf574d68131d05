"""
Rows that come as lines: the same rows as the plain way reads, of everything that is awkward.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from migrate.errors import MigrateError, SchemaDrift
from migrate.mapping.compile import CompiledMapping, compile_mapping
from migrate.mapping.files import load
from migrate.model.lines import ODD_LINE, cells_of, lines_of
from migrate.model.ports import ChildQuery, Query
from migrate.model.values import Cell, Chunk, ColumnRead, Key, KeyRange, Kind, RawPage, Table
from migrate.pipeline.scope import find_table
from migrate.source.bulk import LineExtractor
from migrate.source.control import create_control
from migrate.source.dialects.mysql_lines import AT_ONCE, escaped
from migrate.source.store import SqlSource
from tests.awkward.cases import HERE, Refused
from tests.awkward.running import (
    COLLECTIONS,
    DRIVERS,
    SERVERS,
    Stand,
    Stands,
    every_stand,
    mapping_of,
    named,
)
from tests.servers import Database, MariadbDatabase, PostgresDatabase, Servers
from tests.source.reading import open_source, query_of
from tests.source.test_source_contract import HOSTILE


@pytest.fixture(scope="module")
def stands(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stands]:
    """
    The servers with their databases, each made when it is first asked for.
    """
    with every_stand(servers, tmp_path_factory.mktemp("bulk")) as stands:
        yield stands


@pytest.fixture
def stand(request: pytest.FixtureRequest, stands: Stands) -> Stand:
    """
    The server of one case.
    """
    return stands(request.param)


def _marked(server: str) -> list[Any]:
    return [pytest.mark.containers] if "-" in server else []


EVERY_STAND = [pytest.param(one, marks=_marked(one.split("+")[0])) for one in DRIVERS]


def _cases(table: str) -> list[Any]:
    return [
        pytest.param(stand, case, marks=_marked(stand.split("+")[0]), id=f"{stand}-{case}")
        for stand in DRIVERS
        for case in getattr(COLLECTIONS[SERVERS[stand.split("+")[0]]], table)
    ]


# --- both ways ----------------------------------------------------------------------------------


def compare(
    source: SqlSource,
    query: Query,
    table: Table,
    limit: int,
    children: CompiledMapping | None = None,
) -> list[RawPage]:
    """
    Read a table both ways and hold every page, key, cell, version and fault together.
    """
    plain = source.extractor(query, table)
    bulk = _bulk(source, query, table, children)
    pages = []
    after: Key | None = None
    while True:
        page = bulk.read(KeyRange(), after, limit)
        pages.append(page)
        wanted = plain.read(KeyRange(), after, limit)
        if page.last is None:
            assert (page.lines, list(wanted.keys)) == ([], [])
            return pages
        assert len(page.lines) <= limit
        # A page with a value that cannot be decoded ends where halving ends it, either way.
        assert _all_of(bulk.chunk(page, range(len(page.lines)))) == _all_of(wanted)
        assert (page.last, page.generation) == (wanted.keys[-1], wanted.generation)
        every_other = range(len(page.lines) - 1, -1, -2)
        assert list(bulk.keys(page, every_other)) == [wanted.keys[at] for at in every_other]
        assert _all_of(bulk.chunk(page, every_other)) == _all_of(_of(wanted, every_other))
        _require_lines(page, wanted, children)
        after = page.last


def _bulk(
    source: SqlSource, query: Query, table: Table, children: CompiledMapping | None = None
) -> LineExtractor:
    plan = children.bulk() if children else None
    made = source.bulk(query, table, plan.collections if plan else ())
    assert made is not None
    return made


def _all_of(chunk: Chunk) -> tuple[object, ...]:
    rows = [tuple(row) for row in chunk.rows]
    return list(chunk.keys), rows, list(chunk.versions), chunk.generation, dict(chunk.faults)


def _of(chunk: Chunk, positions: range) -> Chunk:
    versions = [chunk.versions[at] for at in positions] if chunk.versions else ()
    faults = {new: chunk.faults[at] for new, at in enumerate(positions) if at in chunk.faults}
    return Chunk(
        [chunk.keys[at] for at in positions],
        [chunk.rows[at] for at in positions],
        versions,
        chunk.generation,
        faults,
    )


def _require_lines(page: RawPage, wanted: Chunk, children: CompiledMapping | None) -> None:
    """
    A line that is UTF-8 is exactly its row; one that is none may be any row, and must be a bad one.

    Where the server vouches for its lines there is none such.
    """
    bad_keys = 0
    if page.sound:
        b"\n".join(page.lines).decode()
    for at, line in enumerate(page.lines):
        try:
            line.decode()
        except UnicodeDecodeError:
            continue
        row: list[Any] = [*wanted.rows[at]]
        for child in children.children if children else ():
            row[child.position] = child.collection.encode(row[child.position]).decode()
        row += [wanted.versions[at]] if page.versioned else []
        assert cells_of(line) == [_text_of(cell) for cell in row]
        bad_keys += at in wanted.faults
    if bad_keys:
        # A fault of the key alone has whole cells; a record is refused for what its key would be.
        assert {fault.reason for fault in wanted.faults.values()} <= {"invalid-utf8", "ambiguous"}


def _text_of(cell: Cell) -> bytes | None:
    if isinstance(cell, bytes):
        return cell.hex().encode()
    return None if cell is None else cell.encode()


@pytest.mark.parametrize("verbatim", [False, True])
@pytest.mark.parametrize("stand", EVERY_STAND, indirect=True)
def test_every_awkward_value_is_the_same_either_way(stand: Stand, *, verbatim: bool) -> None:
    """
    All columns and values of the collection, as their kinds and as bare text, in three page sizes.
    """
    name = f"both_{verbatim:d}"
    sorts = stand.sorts()
    columns = ", ".join(f"{sort} {one.declared}" for sort, one in sorts.items())
    good = {sort: one.good for sort, one in sorts.items()}
    rows = [
        {**good, sort: value.sql} for sort, one in sorts.items() for value in one.values.values()
    ]
    script = [f"CREATE TABLE {name} (id BIGINT NOT NULL PRIMARY KEY, {columns})"]
    script += [
        f"INSERT INTO {name} VALUES ({2 * at}, {', '.join(row.values())})"
        for number, row in enumerate(rows)
        for at, row in ((2 * number, good), (2 * number + 1, row))
    ]
    stand.database.execute(";\n".join(script))
    table = stand.source.reflect(None, name)
    assert table is not None
    unsupported = {one.name for one in table.columns if one.kind is Kind.UNSUPPORTED}
    bare = frozenset(one.name for one in table.columns if verbatim or one.name in unsupported)

    whole = [one for limit in (3, 64, 10_000) for one in _pages(stand, table, bare, limit)]

    assert sum(len(page.lines) for page in whole) == 3 * 2 * len(rows)


def _pages(stand: Stand, table: Table, bare: frozenset[str], limit: int) -> list[RawPage]:
    return compare(stand.source, query_of(table, verbatim=bare), table, limit)


@pytest.mark.parametrize("stand", EVERY_STAND, indirect=True)
def test_every_awkward_column_is_the_same_alone(stand: Stand) -> None:
    """
    Each column of the collection by itself: one that the server cannot spell hides no other.
    """
    for sort, one in stand.sorts().items():
        name = f"alone_{sort}"
        values = [one.good, *(value.sql for value in one.values.values())]
        script = [f"CREATE TABLE {name} (id BIGINT NOT NULL PRIMARY KEY, v {one.declared})"]
        script += [f"INSERT INTO {name} VALUES ({at}, {sql})" for at, sql in enumerate(values)]
        stand.database.execute(";\n".join(script))
        table = stand.source.reflect(None, name)
        assert table is not None
        column = table.columns[1]
        for verbatim in (False, True):
            if verbatim or column.kind is not Kind.UNSUPPORTED:
                _pages(stand, table, frozenset({"v"} if verbatim else ()), 3)


@pytest.mark.parametrize(("stand", "case"), _cases("SCHEMAS"), indirect=["stand"])
def test_every_awkward_table_is_the_same_either_way(stand: Stand, case: str) -> None:
    """
    Tables of the collection through their mappings, those with children as well.
    """
    given: Any = stand.module.SCHEMAS[case]
    if isinstance(given, Refused) or not stand.has(given):
        pytest.skip("no row of it is read here")
    wanted = named(given, f"b{list(stand.module.SCHEMAS).index(case):03}")
    if wanted.sql:
        stand.database.execute(wanted.sql)
    folder = stand.project(f"bulk_{case}", mapping_of(wanted)).folder
    mapping = load(folder / "mappings" / "t.yaml")["t"]
    table = find_table(stand.source, mapping)
    compiled = compile_mapping(mapping, table)
    query = compiled.query

    for limit in (2, 1000):
        compare(stand.source, query, table, limit, compiled if query.children else None)


@pytest.mark.parametrize(("stand", "case"), _cases("DRIFTS"), indirect=["stand"])
def test_a_table_that_changes_is_told_or_read_on(stand: Stand, case: str) -> None:
    """
    Behind a page the table changes: the next one is an error, or rows as they are now.
    """
    drift = stand.module.DRIFTS[case]
    name = f"e{list(stand.module.DRIFTS).index(case):03}"
    stand.database.execute(drift.sql.replace(HERE, name))
    table = stand.source.reflect(None, name)
    assert table is not None
    bulk = _bulk(stand.source, query_of(table, ("id",)), table)
    first = bulk.read(KeyRange(), None, 2)

    stand.database.execute(drift.change.replace(HERE, name))

    if drift.told:
        with pytest.raises(SchemaDrift) as caught:
            bulk.read(KeyRange(), first.last, 3)
        assert drift.told in f"{caught.value.what} {caught.value.where}"
    else:
        rest = bulk.read(KeyRange(), first.last, 3)
        assert [row[-1] for row in bulk.chunk(rest, range(len(rest.lines))).rows] == list(
            drift.cells
        )


# --- keys ---------------------------------------------------------------------------------------

CHOSEN_BY_SOMEBODY = [
    *(
        "",
        " ",
        "'",
        "''",
        "\\",
        "\\'",
        "\\\\'",
        '"',
        "%",
        "%s",
        "%(n)s",
        "%%",
        "$1",
        "$$",
        ":x",
        "?",
    ),
    *("'; DROP TABLE people; --", "\\'; DROP TABLE people; --", "') TO PROGRAM 'true'; --"),
    *("E'\\x27'", "\t", "\n", "\r\n", "\\N", "\\t", "\\.", "\x01", "\x7f", "ä", "😀", "\u2028"),
]
"""Texts that would end a literal, a line or a cell somewhere."""


@pytest.mark.parametrize("scanned", ["on", "off"])
def test_keys_of_any_text_are_only_keys(postgres: PostgresDatabase, scanned: str) -> None:
    """
    The driver writes keys into COPY as literals: none of them ends one, backslashes special or not.
    """
    with postgres.connect() as connection:
        connection.execute(
            f'ALTER DATABASE "{postgres.name}" SET standard_conforming_strings = {scanned}'
        )
    postgres.execute("CREATE TABLE people (id text PRIMARY KEY, v text)")
    postgres.execute("INSERT INTO people VALUES (%s, 'x')", *[(t,) for t in CHOSEN_BY_SOMEBODY])
    source = open_source(postgres)

    for limit in (1, 2, 100):
        pages = _of_people(source, limit)
        assert sum(len(page.lines) for page in pages) == len(CHOSEN_BY_SOMEBODY)
    source.close()


def test_texts_of_any_kind_are_keys_and_cells(source: Database, opened: SqlSource) -> None:
    """
    On every source the same, in small pages and large ones.
    """
    exact = "VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"
    text = exact if source.dialect == "mariadb" else "TEXT"
    mark = "?" if source.dialect == "sqlite" else "%s"
    source.execute(f"CREATE TABLE people (id {text} PRIMARY KEY, v {text})")
    rows = [(t, None if n % 3 else t) for n, t in enumerate(CHOSEN_BY_SOMEBODY)]
    source.execute(f"INSERT INTO people VALUES ({mark}, {mark})", *rows)

    for limit in (1, 2, 100):
        pages = _of_people(opened, limit)
        assert sum(len(page.lines) for page in pages) == len(rows)


def _of_people(source: SqlSource, limit: int) -> list[RawPage]:
    table = source.reflect(None, "people")
    assert table is not None
    return compare(source, query_of(table), table, limit)


def test_hostile_names_are_only_names(source: Database, opened: SqlSource) -> None:
    """
    Quotes, percent signs, colons, spaces and keywords in names of tables and columns are harmless.
    """
    table = 'My "Ta:ble" %s; DROP TABLE people;--'

    def quoted(name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    # MariaDB takes no emoji in names.
    hostile = [name for name in HOSTILE if source.dialect != "mariadb" or max(name) < "\uffff"]
    columns = ", ".join(f"{quoted(name)} TEXT" for name in hostile)
    source.execute(f'CREATE TABLE {quoted(table)} ("I:d%" INTEGER PRIMARY KEY, {columns})')
    values = ", ".join(f"'{n}'" for n in range(len(hostile)))
    source.execute(f"INSERT INTO {quoted(table)} VALUES (1, {values}), (2, {values})")
    found = opened.reflect(None, table)
    assert found is not None

    assert len(compare(opened, query_of(found), found, 1)) == 3


def test_a_row_that_fails_within_a_page_is_the_same_error(
    postgres: PostgresDatabase, from_postgres: SqlSource, caplog: pytest.LogCaptureFixture
) -> None:
    """
    An error behind thousands of lines ends the page, and the next read has a connection again.

    The driver prints nothing of it: the server's words may hold values.
    """
    postgres.execute("CREATE TABLE numbers (id integer PRIMARY KEY, d integer)")
    postgres.execute("INSERT INTO numbers SELECT n, 5000 - n FROM generate_series(1, 9000) n")
    postgres.execute("CREATE VIEW people AS SELECT id, 1 / d AS v FROM numbers")
    table = from_postgres.reflect(None, "people")
    assert table is not None
    query = query_of(table, ("id",))
    plain, bulk = from_postgres.extractor(query, table), _bulk(from_postgres, query, table)

    with pytest.raises(MigrateError) as first:
        plain.read(KeyRange(), None, 9000)
    with pytest.raises(MigrateError) as second:
        bulk.read(KeyRange(), None, 9000)

    assert str(first.value) == str(second.value)
    assert len(bulk.read(KeyRange(), None, 4999).lines) == 4999
    assert caplog.messages == []


def test_a_session_that_ends_is_only_read_again(
    postgres: PostgresDatabase, from_postgres: SqlSource
) -> None:
    """
    Somebody ends the session between two pages: the next one comes all the same.
    """
    postgres.execute("CREATE TABLE people (id integer PRIMARY KEY)")
    postgres.execute("INSERT INTO people SELECT generate_series(1, 10)")
    table = from_postgres.reflect(None, "people")
    assert table is not None
    bulk = _bulk(from_postgres, query_of(table), table)
    first = bulk.read(KeyRange(), None, 5)

    postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )

    assert bulk.read(KeyRange(), first.last, 5).lines == [b"%d" % n for n in range(6, 11)]


def test_keys_that_are_spelled_otherwise_continue_a_page(
    mariadb: MariadbDatabase, from_mariadb: SqlSource
) -> None:
    """
    A key whose cell is not what the server compares with: padded numbers, flags, fractions.
    """
    mariadb.execute(
        "CREATE TABLE people (a INT(6) UNSIGNED ZEROFILL, b BOOLEAN, c TIMESTAMP(6), "
        "d DECIMAL(5,2), e YEAR, f VARBINARY(9), g DOUBLE, PRIMARY KEY (a, b, c, d, e, f))"
    )
    mariadb.execute(
        "INSERT INTO people SELECT x.seq, y.seq, '2024-01-01 00:00:00.5', z.seq / 2, 2000 + z.seq, "
        "X'00FF5C', 1e300 FROM seq_1_to_3 x, seq_0_to_2 y, seq_1_to_2 z"
    )

    for limit in (1, 4, 100):
        assert sum(len(page.lines) for page in _of_people(from_mariadb, limit)) == 18


# --- versions -----------------------------------------------------------------------------------


def test_lines_end_in_versions_where_there_is_capture(source: Database, opened: SqlSource) -> None:
    """
    Without the tables of capture, with them alone, and with a generation: as the plain way has it.
    """
    source.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, v VARCHAR(9))")
    source.execute("INSERT INTO people VALUES (1, 'a'), (2, NULL), (3, 'c')")
    table = opened.reflect(None, "people")
    assert table is not None
    bulk = _bulk(opened, query_of(table), table)
    without = bulk.read(KeyRange(), None, 10)
    engine = sa.create_engine(source.url)
    create_control(engine)
    engine.dispose()
    idle = bulk.read(KeyRange(), None, 10)
    source.execute(
        "INSERT INTO migrate_ctl (mapping, generation, base, stage) "
        "VALUES ('profiles', 3, 0, 'backfill')"
    )
    source.execute("INSERT INTO migrate_mark (mapping, pk) VALUES ('profiles', '2')")
    behind = bulk.read(KeyRange(), without.last, 10)
    pages = _of_people(opened, 2)

    assert without.sound is isinstance(source, PostgresDatabase)
    assert without.lines == idle.lines == [b"1\ta", b"2\t\\N", b"3\tc"]
    assert not without.versioned
    assert not idle.versioned
    assert (behind.lines, behind.last, behind.generation) == ([], None, 3)
    assert pages[0].lines == [b"1\ta\t3000000000000", b"2\t\\N\t3000000000001"]
    assert all(page.versioned for page in pages[:-1])


# --- pages that the server does not spell -------------------------------------------------------


def test_a_text_in_another_encoding_costs_its_row_only(postgres: PostgresDatabase) -> None:
    """
    A page of a database that checks no encoding is read the plain way; the bad row has no line.
    """
    name = f"{postgres.name}_ascii"
    with postgres.server.connect() as connection:
        connection.execute(
            f"CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'"
        )
    try:
        with postgres.server.connect(name) as connection:
            connection.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, v TEXT)")
            connection.execute(
                "INSERT INTO people SELECT n, CASE WHEN n = 42 THEN "
                "convert_from('\\x80ff', 'SQL_ASCII') ELSE 'b' END FROM generate_series(1, 100) n"
            )
        source = open_source(postgres, database=name)
        pages = _of_people(source, 64)
        source.close()
    finally:
        with postgres.server.connect() as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    assert [line for page in pages for line in page.lines].index(ODD_LINE) == 41
    assert not pages[0].sound


def test_a_row_longer_than_a_packet_is_read_the_plain_way(
    mariadb: MariadbDatabase, from_mariadb: SqlSource
) -> None:
    """
    In digits it is too long for one text of the server; its page comes all the same.
    """
    size = int(mariadb.query("SELECT @@max_allowed_packet")[0][0]) * 3 // 5
    count = 2 * AT_ONCE
    mariadb.execute(
        "CREATE TABLE people (id INT PRIMARY KEY, v LONGBLOB);"
        f"INSERT INTO people SELECT seq, 'a' FROM seq_1_to_{count};"
        f"UPDATE people SET v = REPEAT('b', {size}) WHERE id = {count}"
    )

    pages = _of_people(from_mariadb, count)

    assert pages[0].lines[:-1] == [b"%d\t61" % number for number in range(1, count)]
    assert len(pages[0].lines[-1]) == len(f"{count}\t") + 2 * size


@pytest.mark.parametrize(
    "texts",
    [
        [b"\xfea\xfeb\xfec", b"\xfea\xfeb"],
        [b"\xfea\xfeb", b"\xfea\xfeb\xfec"],
        [b"\xfea\xfcb\xfec", b"\xfea\xfeb"],
        [b"\xfea\xfexx\xfd", b"\xfea\xfd"],
        [b"\xfdxx\xfea\xfe"],
        [b"\xfea"],
    ],
)
def test_bytes_that_no_text_has_are_never_taken_for_ours(texts: list[bytes]) -> None:
    """
    A value with one of the bytes that part cells and lines costs the page this way, nothing more.
    """
    assert escaped(texts, 2) is None


def test_our_bytes_become_tabs_and_marks() -> None:
    """
    Cells are parted by tabs, NULL is marked, and what looks like either is escaped.
    """
    assert escaped([b"\xfd\xfe\\N\xfd", b"\xfea\tb\xfe\n\r\xfe"], 3) == [
        b"\\N\t\\\\N\t\\N",
        b"a\\tb\t\\n\\r\t",
    ]


# --- lines --------------------------------------------------------------------------------------


@given(
    st.integers(1, 4).flatmap(
        lambda width: st.lists(
            st.tuples(*[st.none() | st.text() | st.binary() | st.sampled_from("\\N\t\n\r")] * width)
        )
    )
)
def test_cells_come_back_from_lines(rows: list[tuple[Cell, ...]]) -> None:
    """
    Whatever is in them, tabs, line ends, backslashes and the mark of NULL included.
    """
    lines = lines_of(rows)

    assert [cells_of(line) for line in lines] == [[_text_of(cell) for cell in row] for row in rows]
    assert not any(b"\n" in line or b"\r" in line for line in lines)


def test_a_page_shows_no_values() -> None:
    """
    Its text, which may get into a log, has the last key alone.
    """
    page = RawPage([b"1\tsecret"], 2, ("1",), held=["secret"])

    assert "secret" not in f"{page!r} {page}"


def test_children_of_children_are_left_to_the_plain_way(
    opened: SqlSource, source: Database
) -> None:
    """
    There is no such reader, and the reason is told.
    """
    source.execute("CREATE TABLE people (id INTEGER PRIMARY KEY)")
    table = opened.reflect(None, "people")
    assert table is not None
    (column,) = table.columns
    inner = ChildQuery("a.b", table, ((column, column),), (ColumnRead(column),), (column,))
    outer = replace(inner, path="a", children=(inner,))
    query = query_of(table)

    assert opened.no_bulk(query) == ""
    assert opened.no_bulk(replace(query, children=(inner,))) == ""
    assert "children of child tables" in opened.no_bulk(replace(query, children=(outer,)))
    assert opened.bulk(replace(query, children=(outer,)), table, (bytes,)) is None
    # And of children only what was said how to put together.
    assert opened.bulk(replace(query, children=(inner,)), table) is None
