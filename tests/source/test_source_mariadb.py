"""
What only MariaDB and MySQL can do to a reader.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from migrate.errors import (
    InvalidInput,
    MigrateError,
    SchemaDrift,
    SourceAccessDenied,
    SourceLimit,
    SourceUnavailable,
)
from migrate.model.events import Waiting
from migrate.model.filter import ColumnRef, Comparison, Constant
from migrate.model.secret import Secret
from migrate.model.settings import SourceConfig
from migrate.model.values import KeyRange, Kind
from migrate.source.connect import Connections
from migrate.source.control import create_control, key_text
from migrate.source.dialects import mysql
from migrate.source.dialects.mysql import MySQL
from migrate.source.dialects.spelling import single_text
from migrate.source.extract import KeysetExtractor
from migrate.source.retry import Policy
from migrate.source.store import SqlSource
from tests.servers import MariadbDatabase, PostgresDatabase
from tests.source.reading import open_source, query_of, read_all, reader

UUID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"

PEOPLE = "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)"

# Declared type, the value as an SQL expression, and the cell or the reason of a fault.
AWKWARD: dict[str, tuple[str, str, str | bytes]] = {
    "the largest unsigned integer": ("bigint unsigned", "18446744073709551615", str(2**64 - 1)),
    "the smallest integer": ("bigint", "-9223372036854775808", str(-(2**63))),
    "a tiny integer": ("tinyint", "-128", "-128"),
    "a medium integer": ("mediumint unsigned", "16777215", "16777215"),
    "zeros in front": ("int(8) zerofill", "42", "42"),
    "nothing but zeros": ("int(8) zerofill", "0", "0"),
    "true": ("boolean", "TRUE", "true"),
    "false": ("tinyint(1)", "0", "false"),
    "a truth of 2": ("boolean", "2", "!wrong-type"),
    "a truth of -1": ("boolean", "-1", "!wrong-type"),
    "two digits wide": ("tinyint(2)", "1", "1"),
    "a decimal with zeros": ("decimal(30,10)", "1.10", "1.1000000000"),
    "the widest decimal": ("decimal(65,30)", "-1e-30", f"-0.{'0' * 29}1"),
    "a decimal with zeros in front": ("decimal(8,2) zerofill", "2.5", "2.50"),
    "a decimal without digits in front": ("decimal(3,3)", "0.5", "0.500"),
    "a float beyond six digits": ("float", "16777217", "1.6777216e+07"),
    "a float of four bytes": ("float", "0.1", "0.1"),
    "the largest float": ("float", "3.4028234663852886e38", "3.4028235e+38"),
    "the smallest float": ("float", "1.4e-45", "1e-45"),
    "a float of two places": ("float(7,2)", "1234.567", "1234.57"),
    "a large float": ("double", "1e15", "1e+15"),
    "an exact float": ("double", "123456789012345.6", "123456789012345.6"),
    "the smallest double": ("double", "5e-324", "5e-324"),
    "the largest double": ("double", "1.7976931348623157e308", "1.7976931348623157e+308"),
    "a double of two places": ("double(10,2)", "1e6", "1000000"),
    "bits": ("bit(10)", "b'101'", "0000000101"),
    "one bit": ("bit(1)", "b'1'", "1"),
    "all bits": ("bit(64)", "b'" + "1" * 64 + "'", "1" * 64),
    "a year": ("year", "2024", "2024"),
    "no year": ("year", "'0000'", "0"),
    "a day": ("date", "'2024-02-29'", "2024-02-29"),
    "no day": ("date", "'0000-00-00'", "!bad-date"),
    "a month without a day": ("date", "'2024-02-00'", "!bad-date"),
    "a day that does not exist": ("date", "'2024-02-31'", "!bad-date"),
    "the last day": ("date", "'9999-12-31'", "9999-12-31"),
    "a fine moment": ("datetime(6)", "'2024-01-01 10:00:00.000100'", "2024-01-01 10:00:00.0001"),
    "a moment without digits": ("datetime(6)", "'2024-01-01 00:00:00'", "2024-01-01 00:00:00"),
    "no moment": ("datetime", "'0000-00-00 00:00:00'", "!bad-date"),
    "a moment on no day": ("datetime(3)", "'2024-02-31 10:00:00.5'", "!bad-date"),
    "an instant": ("timestamp(3) null", "'2024-01-01 00:00:00.120'", "2024-01-01 00:00:00.12+00"),
    "no instant": ("timestamp null", "'0000-00-00 00:00:00'", "!bad-date"),
    "the last instant": ("timestamp null", "'2038-01-19 03:14:07'", "2038-01-19 03:14:07+00"),
    "a time": ("time(3)", "'23:59:59.120'", "23:59:59.12"),
    "midnight": ("time", "'00:00:00'", "00:00:00"),
    "the end of a day": ("time", "'24:00:00'", "!out-of-range"),
    "the longest span": ("time(6)", "'838:59:59'", "!out-of-range"),
    "a negative span": ("time", "'-01:02:03'", "!out-of-range"),
    "a hundred hours": ("time", "'100:00:00'", "!out-of-range"),
    "a padded text": ("char(10)", "'abc  '", "abc"),
    "an empty text": ("varchar(10)", "''", ""),
    "blanks": ("varchar(10)", "'  '", "  "),
    "an emoji": ("varchar(10)", "'a😀'", "a😀"),
    "a NUL": ("text", "CHAR(97,0,98 USING utf8mb4)", "a\x00b"),
    "a text of three bytes": ("varchar(9) character set utf8mb3", "'é日'", "é日"),
    "a text in latin1": ("varchar(9) character set latin1", "'é€'", "é€"),
    "UTF-8 as latin1": ("varchar(9) character set latin1", "_latin1 X'C3A9'", "Ã©"),
    "a text in cp1251": ("varchar(9) character set cp1251", "'ж?'", "ж?"),
    "a text in utf16": ("varchar(9) character set utf16", "'a😀'", "a😀"),
    "a text in sjis": ("varchar(9) character set sjis", "'日本'", "日本"),
    "a byte in no set": ("varchar(9) character set cp1251", "_binary X'98'", "!invalid-utf8"),
    "a byte beyond ascii": ("varchar(9) character set ascii", "_binary X'E9'", "!invalid-utf8"),
    "half a character": ("varchar(9)", "_utf8mb4 X'EDA080'", "!invalid-utf8"),
    "a long text": ("longtext", "REPEAT('x', 100000)", "x" * 100_000),
    "bytes": ("varbinary(9)", "X'00FF5C27'", b"\x00\xff\\'"),
    "padded bytes": ("binary(4)", "X'FF'", b"\xff\x00\x00\x00"),
    "no bytes": ("blob", "''", b""),
    "many bytes": ("longblob", "REPEAT(X'FF', 100000)", b"\xff" * 100_000),
    "a label": ("enum('so''so','fi,ne')", "'so''so'", "so'so"),
    "an unknown label": ("enum('a','b')", "0", ""),
    "a set": ("set('x','y','z')", "'z,x'", "x,z"),
    "an empty set": ("set('x','y')", "''", ""),
    "json": ("json", "'{\"b\": 1.10, \"a\": 1e2, \"a\": 2}'", '{"b": 1.10, "a": 1e2, "a": 2}'),
    "json null": ("json", "'null'", "null"),
    "an identity": ("uuid", f"'{UUID.upper()}'", UUID),
    "an address": ("inet6", "'2001:DB8::1'", "2001:db8::1"),
    "an old address": ("inet4", "'10.0.0.1'", "10.0.0.1"),
}  # fmt: skip


@pytest.mark.parametrize("case", AWKWARD)
def test_awkward_values_come_as_postgresql_would_print_them(
    mariadb: MariadbDatabase, from_mariadb: SqlSource, case: str
) -> None:
    """
    Every value arrives exactly or is named with a reason; its neighbours always arrive.
    """
    declared, value, expected = AWKWARD[case]
    mariadb.execute(f"CREATE TABLE people (id INTEGER PRIMARY KEY, v {declared})")
    mariadb.execute(f"INSERT INTO people VALUES (1, {value}), (2, NULL), (3, {value})")

    found = read_all(reader(from_mariadb, "people"), 10)

    if isinstance(expected, str) and expected.startswith("!"):
        assert found.cells(1) == [None, None, None]
        assert [(f.column, f.reason) for f in found.faults] == [("v", expected[1:])] * 2
    else:
        assert found.cells(1) == [expected, None, expected]
        assert found.faults == []


KEYS = {
    "unsigned": ("bigint unsigned", ["0", "1", "1000", str(2**63), str(2**64 - 1)]),
    "negative": ("bigint", [str(-(2**63)), "-5", "0", str(2**63 - 1)]),
    "zerofill": ("int(6) zerofill", ["0", "7", "123456"]),
    "decimal": ("decimal(65,30)", ["-1e-30", "0", "1e-30", "1.5", "99999999999999999999999999999"]),
    "year": ("year", ["'0000'", "1999", "2024"]),
    "date": ("date", ["'0000-00-00'", "'2024-02-00'", "'2024-02-29'", "'2024-02-31'"]),
    "datetime": ("datetime(6)", ["'2024-01-01'", "'2024-01-01 00:00:00.000001'"]),
    "timestamp": ("timestamp(3)", ["'2024-10-27 00:30:00.001'", "'2024-10-27 00:30:00.002'"]),
    "time": ("time(2)", ["'-838:59:59'", "'-01:00:00.5'", "'00:00:00'", "'30:00:00'"]),
    "enum": ("enum('z','a','m''m')", ["'a'", "'m''m'", "'z'", "0"]),
    "uuid": ("uuid", [f"'{n}0000000-0000-{m}00{n}-8000-{'0' * 12}'" for n in "01f" for m in "14"]),
    "case-blind": ("varchar(20) collate utf8mb4_general_ci", ["'bob'", "'Cy'", "'a'", "'_'"]),
    "unicode": ("varchar(20) collate utf8mb4_unicode_ci", ["'straße'", "'zz'", "'ä'", "'😀'"]),
    "latin1": ("varchar(20) character set latin1", ["'é'", "'e1'", "'ß'", "'€'", "'z'"]),
    "cp1251": ("varchar(20) character set cp1251", ["'ж'", "'я'", "'a'", "'А'"]),
    "binary text": ("varchar(20) collate utf8mb4_bin", ["'a'", "'A'", "'a b'", "'a%:_\\'''"]),
    "numbers as text": ("varchar(20)", ["'1'", "'01'", "'1.0'", "'1abc'"]),
    "no UTF-8": ("varchar(20)", ["'a'", "_utf8mb4 X'EDA080'", "_utf8mb4 X'EDBFBF'", "'😀'"]),
    "bytes": ("varbinary(20)", ["X''", "X'00'", "X'5C27FF'", "X'FFFF'", "'a'"]),
    "uuid bytes": ("binary(16)", ["UNHEX(MD5('a'))", "UNHEX(MD5('b'))", "X'00'"]),
}  # fmt: skip


@pytest.mark.parametrize("case", KEYS)
def test_every_kind_of_key_stands_where_the_server_puts_it(
    mariadb: MariadbDatabase, from_mariadb: SqlSource, case: str
) -> None:
    """
    Page by page of one row each comes once, alone and behind another column, and is found again.
    """
    declared, values = KEYS[case]
    rows = ", ".join(f"({value}, {place})" for place, value in enumerate(values))
    mariadb.execute(
        f"""
        CREATE TABLE single (id {declared} NOT NULL PRIMARY KEY, place INTEGER);
        CREATE TABLE paired (id {declared} NOT NULL, place INTEGER NOT NULL,
                             PRIMARY KEY (id, place));
        INSERT INTO single VALUES {rows};
        INSERT INTO paired VALUES {rows};
        INSERT INTO paired SELECT id, place + 100 FROM single;
        """
    )

    for table, order in (("single", "id"), ("paired", "id, place")):
        expected = mariadb.query(f"SELECT place FROM {table} ORDER BY {order}")
        extractor = reader(from_mariadb, table, columns=("place",))
        found = read_all(extractor, 1)
        fetched = extractor.fetch(found.keys)
        ranges = extractor.split(2)
        divided = [row for within in ranges for row in read_all(extractor, 3, within).cells()]

        assert found.cells() == [str(place) for (place,) in expected]
        assert len(fetched.keys) == len(expected)
        assert divided == found.cells()


def test_a_key_that_two_labels_could_mean_is_refused(
    mariadb: MariadbDatabase, from_mariadb: SqlSource
) -> None:
    """
    An ENUM with an empty label shows unknown values the same way: no page can stand between.
    """
    mariadb.execute("CREATE TABLE people (id ENUM('a', '') PRIMARY KEY)")
    mariadb.execute("INSERT INTO people VALUES (0), (''), ('a')")

    with pytest.raises(InvalidInput, match="empty text"):
        read_all(reader(from_mariadb, "people"), 1)


def test_kinds_follow_the_declared_types(mariadb: MariadbDatabase, from_mariadb: SqlSource) -> None:
    """
    What has no exact text is unsupported; JSON is known by its check.
    """
    mariadb.execute(
        """
        CREATE TABLE people (
            id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, flag BOOLEAN, wide TINYINT(4),
            price DECIMAL(10,2) DEFAULT 0, "da`ta" JSON COMMENT 'CHECK', bare LONGTEXT, place POINT,
            labels SET('a'), born DATE DEFAULT CURRENT_DATE, seen TIMESTAMP NULL,
            doubled INTEGER AS (wide * 2) PERSISTENT, virtual INTEGER AS (3) VIRTUAL,
            raw BINARY(16) NOT NULL, word CHAR(3) CHARACTER SET binary NULL, secret INT INVISIBLE,
            UNIQUE KEY u (raw, price), KEY k (born))
        """
    )

    table = from_mariadb.reflect(None, "people")

    assert table is not None
    named = {column.name: column for column in table.columns}
    assert {name: column.kind for name, column in named.items()} == {
        "id": Kind.INTEGER,
        "flag": Kind.BOOLEAN,
        "wide": Kind.INTEGER,
        "price": Kind.DECIMAL,
        "da`ta": Kind.JSON,
        "bare": Kind.TEXT,
        "place": Kind.UNSUPPORTED,
        "labels": Kind.LITERAL,
        "born": Kind.DATE,
        "seen": Kind.TIMESTAMPTZ,
        "doubled": Kind.INTEGER,
        "virtual": Kind.INTEGER,
        "raw": Kind.BYTES,
        "word": Kind.BYTES,
        "secret": Kind.INTEGER,
    }
    assert (named["id"].type, named["price"].scale) == ("bigint(20) unsigned", 2)
    supplied = {column.name for column in table.columns if column.supplied}
    assert supplied == {"id", "price", "born", "doubled", "virtual"}
    assert {c.name for c in table.columns if c.generated} == {"doubled", "virtual"}
    assert table.unique == (("id",), ("raw", "price"))


def test_any_type_can_be_read_as_its_bare_text(
    mariadb: MariadbDatabase, from_mariadb: SqlSource
) -> None:
    """
    `as: text` reads what has no form of its own, and what would otherwise be a reject.
    """
    columns = {
        "flag": ("BOOLEAN", "2", "2"),
        "born": ("DATE", "'2024-02-00'", "2024-02-00"),
        "span": ("TIME(2)", "'-01:00:00.5'", "-01:00:00.50"),
        "seen": ("TIMESTAMP(3) NULL", "'0000-00-00'", "0000-00-00 00:00:00.000"),
        "number": ("INT(5) ZEROFILL", "7", "00007"),
        "ratio": ("FLOAT", "16777217", "1.6777216e+07"),
        "place": ("POINT", "POINT(1, 2)", "POINT(1 2)"),
        "raw": ("BLOB", "X'00FF'", "00ff"),
    }
    if mariadb.query("SELECT VERSION() REGEXP '^1(1.[789]|1.[1-9][0-9]|[2-9])'") == [(1,)]:
        columns["embedding"] = ("VECTOR(2)", "VEC_FromText('[1,0.5]')", "[1,0.5]")
    mariadb.execute(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, "
        + ", ".join(f"{name} {declared}" for name, (declared, _, _) in columns.items())
        + ")"
    )
    mariadb.execute(
        f"INSERT INTO people VALUES (1, {', '.join(v for _, v, _ in columns.values())})"
    )
    extractor = reader(from_mariadb, "people", columns=tuple(columns), verbatim=frozenset(columns))

    found = read_all(extractor)

    assert found.rows == [tuple(text for _, _, text in columns.values())]
    assert found.faults == []


def test_floats_of_four_bytes_are_spelled_as_postgresql_does(postgres: PostgresDatabase) -> None:
    """
    The same number has the same text, whichever store it comes from.
    """
    values = [
        *(2.0**power for power in range(-149, 128)),
        *(0.0, -0.0, 1.0, -1.5, 999999.0, 1e6, 123456.7, 16777216.0, 103528336.0, 86879296.0, 1e-4),
        *(1e-5, 1.1e-5, 3.4028234663852886e38, 1.401298464324817e-45, 0.1, 1 / 3, 1e10, 9999999.0),
    ]

    printed = postgres.query(
        "SELECT CAST(CAST(v AS float4) AS text), CAST(CAST(v AS float4) AS float8) "
        "FROM unnest(CAST(%s AS float8[])) WITH ORDINALITY AS t(v, n) ORDER BY n",
        (values,),
    )

    assert [single_text(exact) for _, exact in printed] == [text for text, _ in printed]


def test_doubles_come_through_exactly(mariadb: MariadbDatabase, from_mariadb: SqlSource) -> None:
    """
    Powers of two and their neighbours over the whole range read back as the same number.
    """
    values = [
        factor * 2.0**power for power in range(-1070, 1023, 7) for factor in (1.0, 1.0 + 2**-52, -3)
    ]
    mariadb.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, v DOUBLE)")
    mariadb.execute("INSERT INTO people VALUES (%s, %s)", *enumerate(values))

    found = read_all(reader(from_mariadb, "people"), 1000)

    assert [float(str(cell)) for cell in found.cells(1)] == values


@pytest.fixture
def strange_settings(mariadb: MariadbDatabase) -> Iterator[None]:
    """
    A server whose defaults would change every value; restored behind the test.
    """
    strange = {
        "time_zone": "'+05:30'",
        "sql_mode": "'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH,"
        "NO_ZERO_DATE,NO_ZERO_IN_DATE,STRICT_ALL_TABLES'",
        "sql_select_limit": "1",
        "div_precision_increment": "0",
        "init_connect": "'SET NAMES latin1'",
        "transaction_isolation" if _is_new(mariadb) else "tx_isolation": "'READ-UNCOMMITTED'",
    }
    mariadb.server.runner  # noqa: B018  (only a server of our own may be changed)
    before = {name: mariadb.query(f"SELECT @@GLOBAL.{name}")[0][0] for name in strange}
    for name, value in strange.items():
        mariadb.execute(f"SET GLOBAL {name} = {value}")
    yield
    for name, value in before.items():
        text = value if isinstance(value, int) else f"'{value}'"
        mariadb.execute(f"SET GLOBAL {name} = {text}")


def _is_new(mariadb: MariadbDatabase) -> bool:
    return mariadb.query("SELECT VERSION() REGEXP '^1[1-9]'") == [(1,)]


@pytest.mark.usefixtures("strange_settings")
def test_settings_of_the_server_change_nothing(mariadb: MariadbDatabase) -> None:
    """
    Zone, modes, limits, character set: what is pinned decides, in the first session and later.
    """
    mariadb.execute(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, c CHAR(9), d DATE, t TIMESTAMP NULL, "
        '"na\'m""e`" VARCHAR(9))'
    )
    for number in range(3):
        mariadb.execute(
            "INSERT INTO people VALUES (%s, 'é😀', '2024-02-29', '2024-01-01 00:00:00', %s)",
            (number, "a\\'b"),
        )
    source = open_source(mariadb)
    extractor = reader(source, "people")

    first = extractor.read(KeyRange(), None, 2)
    source.connections.run(
        lambda connection: connection.exec_driver_sql(
            "SET character_set_results = latin1, time_zone = '+09:00', sql_mode = 'ANSI_QUOTES'"
        )
    )
    second = extractor.read(KeyRange(), first.keys[-1], 2)
    source.close()

    rest = ("é😀", "2024-02-29", "2024-01-01 00:00:00+00", "a\\'b")
    assert [*first.rows, *second.rows] == [(str(number), *rest) for number in range(3)]


def test_both_sides_of_a_change_of_clocks_stay_apart(
    mariadb: MariadbDatabase, from_mariadb: SqlSource
) -> None:
    """
    Two instants that a local clock would show alike are two.
    """
    mariadb.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, t TIMESTAMP NULL)")
    mariadb.execute(
        "SET time_zone = '+02:00'; INSERT INTO people VALUES (1, '2024-10-27 02:30:00');"
        "SET time_zone = '+01:00'; INSERT INTO people VALUES (2, '2024-10-27 02:30:00')"
    )

    found = read_all(reader(from_mariadb, "people"))

    assert found.cells(1) == ["2024-10-27 00:30:00+00", "2024-10-27 01:30:00+00"]


def test_a_transaction_is_one_snapshot_that_writes_nothing(
    mariadb: MariadbDatabase, from_mariadb: SqlSource
) -> None:
    """
    A row and its marks belong together: what is committed meanwhile is not seen by half.
    """
    mariadb.execute(f"{PEOPLE}; CREATE TABLE marks (id INTEGER)")

    def look(connection: sa.Connection) -> list[Any]:
        return [
            connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar()
            for table in ("people", "marks")
        ]

    def work(connection: sa.Connection) -> list[Any]:
        # Nothing was read yet: the snapshot is as old as the transaction.
        mariadb.execute("INSERT INTO people VALUES (1, 'a'); INSERT INTO marks VALUES (1)")
        return look(connection)

    assert from_mariadb.connections.run(work) == [0, 0]
    assert from_mariadb.connections.run(look) == [1, 1]
    for statement in ("INSERT INTO marks VALUES (2)", "DROP TABLE marks"):
        with pytest.raises(MigrateError):
            from_mariadb.connections.run(lambda c, text=statement: c.exec_driver_sql(text))  # type: ignore[misc]
    assert mariadb.query("SELECT count(*) FROM marks") == [(1,)]


def test_no_transaction_outlives_its_page(
    mariadb: MariadbDatabase, from_mariadb: SqlSource
) -> None:
    """
    Between two pages nothing is open that would hold back purge or DDL.
    """
    mariadb.execute(f"{PEOPLE}; INSERT INTO people VALUES (1, 'a')")
    reader(from_mariadb, "people").read(KeyRange(), None, 1)

    open_ones = mariadb.query(
        "SELECT count(*) FROM information_schema.INNODB_TRX t "
        "JOIN information_schema.PROCESSLIST p ON p.ID = t.trx_mysql_thread_id WHERE p.DB = %s",
        (mariadb.name,),
    )

    assert open_ones == [(0,)]


def _handler_reads(connection: sa.Connection) -> int:
    rows = connection.exec_driver_sql("SHOW SESSION STATUS").all()
    return sum(int(value) for name, value in rows if name.startswith("Handler_read_"))


@pytest.mark.parametrize("keyed", ["a, b", "name", "b, name", "a, name, b"])
def test_a_page_reads_what_it_gives_and_little_else(
    mariadb: MariadbDatabase, from_mariadb: SqlSource, keyed: str
) -> None:
    """
    Deep in a table whose first key column has one value mostly, a page is a range of an index.
    """
    mariadb.execute(
        f"""
        CREATE TABLE people (
            a INTEGER NOT NULL, b BIGINT UNSIGNED NOT NULL,
            name VARCHAR(40) COLLATE utf8mb4_unicode_ci NOT NULL, deleted DATETIME,
            filler CHAR(50), PRIMARY KEY ({keyed}), KEY (deleted));
        INSERT INTO people
        SELECT IF(seq < 15000, 7, seq), seq, CONCAT('nämé', seq), NULL, 'x' FROM seq_1_to_20000;
        ANALYZE TABLE people;
        """
    )
    key = tuple(keyed.split(", "))
    extractor = reader(from_mariadb, "people", key=key)
    middle = mariadb.query(f"SELECT {keyed} FROM people ORDER BY {keyed} LIMIT 1 OFFSET 10000")[0]
    high = mariadb.query(f"SELECT {keyed} FROM people ORDER BY {keyed} LIMIT 1 OFFSET 19000")[0]
    low = tuple(map(str, middle))
    statement, parameters = _page(extractor, low, tuple(map(str, high)))

    def work(connection: sa.Connection) -> tuple[int, int]:
        before = _handler_reads(connection)
        rows = connection.execute(statement, parameters).all()
        return len(rows), _handler_reads(connection) - before

    rows, reads = from_mariadb.connections.run(work)

    assert rows == 50
    # SHOW STATUS itself reads some hundred rows.
    assert reads < 2_500
    assert extractor.problems() == []


def _page(extractor: KeysetExtractor, low: tuple[str, ...], high: tuple[str, ...]) -> Any:
    sql = extractor._sql
    parameters = {**sql.values("low", low), **sql.values("high", high), "n": 50}
    return sql.page(low=True, high=True), parameters


def test_a_key_without_an_index_is_told(mariadb: MariadbDatabase, from_mariadb: SqlSource) -> None:
    """
    Where no index has the key's order, pages would sort the table again and again.
    """
    mariadb.execute(
        f"{PEOPLE}; INSERT INTO people SELECT seq, seq FROM seq_1_to_20000; ANALYZE TABLE people;"
        "CREATE UNIQUE INDEX prefix ON people (name(5))"
    )

    assert reader(from_mariadb, "people", key=("name",)).problems() != []
    assert reader(from_mariadb, "people").problems() == []


def test_marks_are_found_by_their_index(mariadb: MariadbDatabase, from_mariadb: SqlSource) -> None:
    """
    Versions of text keys compare bytes, and cost no scan of what capture has written.
    """
    mariadb.execute(
        "CREATE TABLE people (id VARCHAR(40) COLLATE utf8mb4_general_ci PRIMARY KEY);"
        "INSERT INTO people VALUES ('Bob'), ('é:%'), ('x ')"
    )
    engine = sa.create_engine(mariadb.url)
    create_control(engine)
    engine.dispose()
    mariadb.execute(
        "INSERT INTO migrate_ctl (mapping, generation, base, stage) VALUES ('profiles', 2, 0, 's')"
    )
    mariadb.execute(
        "INSERT INTO migrate_mark (mapping, pk) VALUES ('profiles', %s)",
        *[(text,) for text in ("Bob", "bob", "bob", key_text(("é:%",)), "x", "x ")],
    )
    mariadb.execute(
        "INSERT INTO migrate_mark (mapping, pk) SELECT 'profiles', seq FROM seq_1_to_5000"
    )
    mariadb.execute(
        "INSERT INTO migrate_ver (mapping, pk, n) "
        "VALUES ('profiles', 'Bob', 5), ('profiles', 'bob', 9)"
    )
    mariadb.execute("ANALYZE TABLE migrate_mark, migrate_ver")
    extractor = reader(from_mariadb, "people")

    found = read_all(extractor, 10)

    block = 2 * 10**12
    assert dict(zip([key for (key,) in found.keys], found.versions, strict=True)) == {
        "Bob": str(block + 6),
        "é:%": str(block + 1),
        "x ": str(block + 1),
    }
    statement, parameters = extractor._sql.page(low=False, high=False), {"n": 10}

    def explain(connection: sa.Connection) -> list[tuple[str, str]]:
        text = str(
            statement.params(parameters).compile(
                dialect=connection.dialect, compile_kwargs={"literal_binds": True}
            )
        )
        rows = connection.exec_driver_sql("EXPLAIN " + text.replace("%", "%%")).mappings()
        return [(row["table"], row["type"]) for row in rows if row["table"] != "people"]

    assert {kind for _, kind in from_mariadb.connections.run(explain)} <= {"const", "ref", "eq_ref"}


DRIFTS = {
    "another type": ("MODIFY name VARCHAR(99)", "'name' was text and is varchar(99)"),
    "not null": ("MODIFY name TEXT NOT NULL", "became NOT NULL"),
    "unsigned": ("MODIFY age INT UNSIGNED", "'age' was int(11)"),
    "another order of texts": (
        "MODIFY word VARCHAR(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "another one"
    ),
    "another place": ("MODIFY age INT FIRST", "another one"),
    "one more label": ("MODIFY mood ENUM('a','b','c')", "'mood' was enum('a','b')"),
}  # fmt: skip

HARMLESS = {
    "an index": "CREATE INDEX added ON people (age)",
    "a comment": "ALTER TABLE people COMMENT = 'x'",
    "a default": "ALTER TABLE people ALTER age SET DEFAULT 3",
    "rows": "INSERT INTO people (age) VALUES (1), (2), (3)",
    "statistics": "ANALYZE TABLE people",
}

WIDE = """
CREATE TABLE people (id INTEGER AUTO_INCREMENT PRIMARY KEY, name TEXT, age INT,
                     word VARCHAR(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci,
                     mood ENUM('a','b'));
INSERT INTO people (name) VALUES ('a'), ('b'), ('c')
"""


@pytest.mark.parametrize("change", DRIFTS)
def test_a_changed_definition_stops_the_reading(
    mariadb: MariadbDatabase, from_mariadb: SqlSource, change: str
) -> None:
    """
    DDL that changes what values mean, or the order of keys, is seen in the page that comes next.
    """
    mariadb.execute(WIDE)
    extractor = reader(from_mariadb, "people", columns=("id",))
    first = extractor.read(KeyRange(), None, 1)
    ddl, said = DRIFTS[change]
    mariadb.execute(f"ALTER TABLE people {ddl}")

    with pytest.raises(SchemaDrift) as caught:
        extractor.read(KeyRange(), first.keys[-1], 1)

    assert said in str(caught.value.where["changes"])


@pytest.mark.parametrize("change", HARMLESS)
def test_a_harmless_change_does_not_stop_the_reading(
    mariadb: MariadbDatabase, from_mariadb: SqlSource, change: str
) -> None:
    """
    Indexes, comments, counters and defaults change no value.
    """
    mariadb.execute(WIDE)
    extractor = reader(from_mariadb, "people")
    first = extractor.read(KeyRange(), None, 1)
    mariadb.execute(HARMLESS[change])

    assert len(extractor.read(KeyRange(), first.keys[-1], 2).keys) == 2


def test_a_view_is_watched_through_to_its_tables(
    mariadb: MariadbDatabase, from_mariadb: SqlSource
) -> None:
    """
    A type that changes under a view changes the view, though its own text stays.
    """
    mariadb.execute(f"{PEOPLE}; INSERT INTO people VALUES (1, 'a'), (2, 'b')")
    mariadb.execute("CREATE VIEW adults AS SELECT id, name FROM people")
    extractor = reader(from_mariadb, "adults", key=("id",))
    first = extractor.read(KeyRange(), None, 1)
    mariadb.execute("ALTER TABLE people MODIFY name VARCHAR(77)")

    with pytest.raises(SchemaDrift) as caught:
        extractor.read(KeyRange(), first.keys[-1], 1)

    assert "varchar(77)" in str(caught.value.where["changes"])


def test_names_that_differ_by_case_are_two_tables(
    mariadb: MariadbDatabase, from_mariadb: SqlSource
) -> None:
    """
    Where the server tells them apart, so does the catalogue.
    """
    if mariadb.query("SELECT @@lower_case_table_names") != [(0,)]:
        pytest.skip("this server does not tell upper from lower case in names")
    mariadb.execute(
        'CREATE TABLE people (a INT PRIMARY KEY); CREATE TABLE "People" (b INT PRIMARY KEY)'
    )

    lower, upper = from_mariadb.reflect(None, "people"), from_mariadb.reflect(None, "People")

    assert lower is not None
    assert upper is not None
    assert (lower.primary_key, upper.primary_key) == (("a",), ("b",))
    assert from_mariadb.reflect(None, "PEOPLE") is None
    assert from_mariadb.tables() == ["People", "people"]


@pytest.mark.parametrize(
    ("kind", "relation"),
    [
        ("PARTITION BY HASH (id) PARTITIONS 3", "partitioned"),
        ("WITH SYSTEM VERSIONING", "table"),
        ("ENGINE=MyISAM", "table"),
    ],
)
def test_relations_of_every_kind_read_alike(
    mariadb: MariadbDatabase, from_mariadb: SqlSource, kind: str, relation: str
) -> None:
    """
    Partitions, history and older engines: each current row once.
    """
    mariadb.execute(f"CREATE TABLE people (id INTEGER PRIMARY KEY, v INTEGER) {kind}")
    mariadb.execute("INSERT INTO people SELECT seq, 0 FROM seq_1_to_9; UPDATE people SET v = 1")

    table = from_mariadb.reflect(mariadb.name, "people")

    assert table is not None
    assert (table.relation, table.primary_key) == (relation, ("id",))
    assert read_all(reader(from_mariadb, "people"), 4).cells(1) == ["1"] * 9
    assert from_mariadb.tables(mariadb.name) == ["people"]


def test_a_killed_connection_is_made_anew(mariadb: MariadbDatabase) -> None:
    """
    The session is killed between two pages: the next page comes all the same, after a notice.
    """
    mariadb.execute(f"{PEOPLE}; INSERT INTO people SELECT seq, 'x' FROM seq_1_to_4")
    heard: list[Waiting] = []
    source = SqlSource.open(mariadb.config(), heard.append, sleep=lambda seconds: None)
    extractor = reader(source, "people")

    def kill() -> None:
        for (number,) in mariadb.query(
            "SELECT ID FROM information_schema.PROCESSLIST WHERE DB = %s AND ID <> CONNECTION_ID()",
            (mariadb.name,),
        ):
            with contextlib.suppress(Exception):
                mariadb.execute(f"KILL {number}")

    found = read_all(extractor, 1, between=kill)
    source.close()

    assert found.cells() == ["1", "2", "3", "4"]
    assert {(waiting.store, waiting.reason) for waiting in heard} <= {
        ("source", "killed"),
        ("source", "connection"),
    }
    assert heard
    assert mariadb.server.password not in repr((source, extractor))


def test_a_lock_is_waited_for(mariadb: MariadbDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    While somebody holds the table, the reading waits and says why.
    """
    short = tuple(
        text.replace("lock_wait_timeout = 10", "lock_wait_timeout = 1") for text in mysql._BEGIN
    )
    monkeypatch.setattr(mysql, "_BEGIN", short)
    mariadb.execute(f"{PEOPLE}; INSERT INTO people VALUES (1, 'a')")
    heard: list[Waiting] = []
    with contextlib.ExitStack() as held:
        holder = held.enter_context(mariadb.connect())
        source = SqlSource.open(mariadb.config(), heard.append, sleep=lambda seconds: held.close())
        extractor = reader(source, "people")
        with holder.cursor() as cursor:
            cursor.execute("LOCK TABLES people WRITE")

        found = read_all(extractor)

    source.close()
    assert found.cells() == ["1"]
    assert [(waiting.store, waiting.reason) for waiting in heard] == [("source", "lock")]


def test_a_server_that_stays_away_ends_in_one_clear_error(mariadb: MariadbDatabase) -> None:
    """
    After `retry_for` the source counts as unavailable; every wait was announced.
    """
    heard: list[Waiting] = []

    with pytest.raises(SourceUnavailable) as caught:
        SqlSource.open(
            mariadb.config(port=1, retry_for_s=0.05, password=Secret("hunter2-planted")),
            heard.append,
            sleep=lambda seconds: None,
        )

    assert heard
    assert "hunter2-planted" not in _everything(caught.value)


def test_a_wrong_password_fails_at_once_and_is_not_shown(mariadb: MariadbDatabase) -> None:
    """
    No waiting, and neither password nor user in the text.
    """
    heard: list[Waiting] = []

    with pytest.raises(SourceAccessDenied) as caught:
        SqlSource.open(mariadb.config(password=Secret("hunter2-planted")), heard.append)

    assert heard == []
    assert caught.value.where["reason"] == "login"
    assert "hunter2-planted" not in _everything(caught.value)


def test_a_database_that_does_not_exist_fails_at_once(mariadb: MariadbDatabase) -> None:
    """
    A mistyped name is not worth waiting for.
    """
    with pytest.raises(SourceAccessDenied, match="no such database"):
        SqlSource.open(mariadb.config(database="nowhere"))


@pytest.fixture
def clerk(mariadb: MariadbDatabase) -> Iterator[str]:
    """
    A login without any rights on the table `people`; users outlive databases.
    """
    user = f"clerk_{mariadb.name}"
    mariadb.execute(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, secret TEXT);"
        "INSERT INTO people VALUES (1, 'a', 'planted-value');"
        "CREATE TABLE open (id INTEGER PRIMARY KEY);"
        f"CREATE USER {user} IDENTIFIED BY 'clerk-password'; GRANT SELECT ON open TO {user}"
    )
    yield user
    mariadb.execute(f"DROP USER {user}")


def _as_clerk(mariadb: MariadbDatabase, clerk: str, heard: Callable[[Any], None]) -> SqlSource:
    config = mariadb.config(username=clerk, password=Secret("clerk-password"))
    return SqlSource.open(config, heard)


def test_select_is_all_that_reading_needs(mariadb: MariadbDatabase, clerk: str) -> None:
    """
    A user who may SELECT the mapped columns, and nothing else, reads, divides and sees drift.
    """
    mariadb.execute(f"GRANT SELECT (id, name) ON people TO {clerk}")
    source = _as_clerk(mariadb, clerk, lambda event: None)
    extractor = reader(source, "people", columns=("id", "name"))
    table = source.reflect(None, "people")
    assert table is not None

    found = read_all(extractor)

    assert found.rows == [("1", "a")]
    assert len(extractor.split(2)) == 1
    assert source.missing_privileges(query_of(table)) == []
    assert source.facts().replica is False
    # What this user may not see is not there for it.
    assert [column.name for column in table.columns] == ["id", "name"]
    mariadb.execute("ALTER TABLE people MODIFY name VARCHAR(9)")
    with pytest.raises(SchemaDrift):
        extractor.read(KeyRange(), None, 1)
    source.close()


def test_a_missing_permission_names_the_columns(mariadb: MariadbDatabase, clerk: str) -> None:
    """
    Rights that are not SELECT show a table without opening it: told beforehand, and while reading.
    """
    mariadb.execute(f"GRANT SELECT (id), INSERT (name) ON people TO {clerk}")
    source = _as_clerk(mariadb, clerk, lambda event: None)
    table = source.reflect(None, "people")
    assert table is not None

    with pytest.raises(SourceAccessDenied) as caught:
        reader(source, "people").read(KeyRange(), None, 1)

    assert source.missing_privileges(query_of(table)) == ["SELECT on people (name)"]
    assert caught.value.where["table"] == "people"
    assert "GRANT" in caught.value.next_step.upper()
    assert "clerk" not in str(caught.value.what)
    source.close()


def test_a_limit_of_the_server_is_not_tried_again(mariadb: MariadbDatabase, clerk: str) -> None:
    """
    A statement timeout is an operator's decision: told at once, without a single wait.
    """
    mariadb.execute("CREATE VIEW slow AS SELECT id, SLEEP(5) AS nap FROM people")
    mariadb.execute(f'GRANT SELECT ON "{mariadb.name}".* TO {clerk}')
    heard: list[Waiting] = []
    mariadb.execute(f"ALTER USER {clerk} WITH MAX_STATEMENT_TIME 0.2")
    source = _as_clerk(mariadb, clerk, heard.append)

    with pytest.raises(SourceLimit):
        reader(source, "slow", key=("id",)).read(KeyRange(), None, 1)

    assert heard == []
    source.close()


def test_literals_are_never_stretched_to_fit(
    mariadb: MariadbDatabase, from_mariadb: SqlSource
) -> None:
    """
    The server itself would take 'abc' for 0 and 1 for '1abc'; the filter takes neither.
    """
    mariadb.execute(
        "CREATE TABLE people (id VARCHAR(9) PRIMARY KEY, n INTEGER, t TIMESTAMP NULL, d DATE);"
        "INSERT INTO people VALUES ('1', 0, '2024-01-01 12:00:00', '2024-01-01'),"
        "('01', 1, NULL, '0000-00-00'), ('1abc', 2, NULL, NULL)"
    )

    def keys(column: str, value: Any, operator: str = "=") -> list[Any]:
        where = Comparison(operator, ColumnRef(column), Constant(value))  # type: ignore[arg-type]
        return [key for (key,) in read_all(reader(from_mariadb, "people", where=where)).keys]

    assert keys("id", 1) == ["1"]
    assert keys("n", "1") == ["01"]
    assert keys("t", "2024-01-01T14:00:00+02:00") == ["1"]
    assert keys("d", "2024-01-01") == ["1"]
    assert keys("d", "0000-00-00", ">") == ["1"]
    for column, value in (("n", "planted"), ("d", "planted"), ("d", "2024-01-01T00:00:00Z")):
        with pytest.raises(InvalidInput) as caught:
            keys(column, value)
        assert "planted" not in _everything(caught.value)


def test_large_tables_are_divided_by_a_sample(mariadb: MariadbDatabase) -> None:
    """
    Above a size only some keys are looked at, and ranges are still of about one size.
    """
    mariadb.execute(
        "CREATE TABLE people (id BIGINT UNSIGNED PRIMARY KEY, filler CHAR(9));"
        "INSERT INTO people SELECT IF(seq % 2, seq, 9223372036854775808 + seq), 'x' "
        "FROM seq_1_to_20000; ANALYZE TABLE people"
    )
    connections = Connections.open(mariadb.config())
    sampling = Connections(
        connections.address, MySQL("mariadb", exact_rows=500), connections.engine, Policy()
    )
    source = SqlSource(sampling)
    table = source.reflect(None, "people")
    assert table is not None
    extractor = KeysetExtractor(sampling, query_of(table, columns=("id",)), table)

    ranges = extractor.split(4)

    sizes = [len(read_all(extractor, 5000, within).keys) for within in ranges]
    assert sum(sizes) == 20_000
    assert all(5_000 * 0.65 <= size <= 5_000 * 1.35 for size in sizes), sizes
    assert len(source.sample(query_of(table), 20).keys) == 20
    assert 10_000 < source.count(query_of(table), estimate=True) < 40_000
    source.close()


def test_rows_with_null_in_the_key_are_counted_and_left_out(
    mariadb: MariadbDatabase, from_mariadb: SqlSource
) -> None:
    """
    The seven rows under UNIQUE (a, b): five can be paged, two are known to be missing.
    """
    mariadb.execute(
        "CREATE TABLE people (a INTEGER, b INTEGER, UNIQUE (a, b));"
        "INSERT INTO people VALUES (1,1),(1,2),(2,1),(2,2),(3,1),(NULL,1),(1,NULL)"
    )
    table = from_mariadb.reflect(None, "people")
    assert table is not None

    found = read_all(reader(from_mariadb, "people", key=("a", "b")), 2)

    assert len(found.keys) == 5
    assert from_mariadb.null_keys(query_of(table, key=("a", "b"))) == 2


def test_facts_name_the_flavour(mariadb: MariadbDatabase, from_mariadb: SqlSource) -> None:
    """
    The server says that it is MariaDB, whatever the URL begins with.
    """
    with contextlib.closing(open_source(mariadb, dialect="mysql")) as source:
        facts = source.facts()

    assert facts.dialect == "mysql"
    assert "MariaDB" in facts.version
    assert facts.read_only is from_mariadb.facts().read_only is False


@pytest.mark.parametrize("version", ["5.7.44-log", "10.4.34-MariaDB", "5.5.68-MariaDB"])
def test_servers_that_are_too_old_are_refused(version: str) -> None:
    """
    Without window functions and snapshots there is nothing to read with.
    """
    with pytest.raises(InvalidInput, match="not supported"):
        mysql._require_version(version)


OPTIONS = {
    "colour": "red",
    "charset": "latin1",
    "connect_timeout": "soon",
    "ssl_verify_cert": "perhaps",
    "ssl_ca": "/does/not/exist.pem",
}


@pytest.mark.parametrize("option", OPTIONS)
def test_parameters_that_mean_nothing_are_refused(option: str) -> None:
    """
    A mistyped parameter of the URL is told before anything connects.
    """
    config = SourceConfig("mariadb", host="127.0.0.1", options={option: OPTIONS[option]})

    with pytest.raises(InvalidInput, match=option):
        SqlSource.open(config)


@pytest.fixture
def certificate(mariadb: MariadbDatabase, tmp_path: Path) -> Path:
    """
    The certificate that the server signed for itself.
    """
    import pymysql

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    server = mariadb.server
    try:
        connection = pymysql.connect(
            host=server.host, port=server.port, user=server.user, password=server.password,
            ssl=context,
        )  # fmt: skip
    except pymysql.err.OperationalError:
        pytest.skip("this server offers no TLS")
    peer = connection._sock.getpeercert(binary_form=True)  # type: ignore[union-attr]
    connection.close()
    path = tmp_path / "ca.pem"
    path.write_text(ssl.DER_cert_to_PEM_cert(peer))
    return path


def test_certificates_are_verified_unless_told_otherwise(
    mariadb: MariadbDatabase, certificate: Path
) -> None:
    """
    Asking for TLS means a certificate that is trusted, for this host.
    """
    heard: list[Waiting] = []
    for options in ({"ssl": "true"}, {"ssl_verify_cert": "true"}, {"ssl_ca": str(certificate)}):
        with pytest.raises(SourceAccessDenied) as caught:
            SqlSource.open(mariadb.config(options=options), heard.append)
        assert caught.value.where["reason"] == "tls"
    assert heard == []

    trusted = {"ssl_ca": str(certificate), "ssl_verify_identity": "false"}
    for options in (trusted, {"ssl_verify_cert": "false"}):
        source = open_source(mariadb, options=options)
        cipher = source.connections.run(
            lambda connection: connection.exec_driver_sql("SHOW STATUS LIKE 'Ssl_cipher'").one()[1]
        )
        source.close()
        assert cipher


def _everything(error: MigrateError) -> str:
    return f"{error!r} {error} {error.what} {error.where} {error.next_step} {error.__cause__!r}"
