"""
What only PostgreSQL can do to a reader.
"""

from __future__ import annotations

from pathlib import Path

import pytest

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
from migrate.model.values import KeyRange, Kind
from migrate.source.connect import Connections
from migrate.source.dialects.postgresql import PostgreSQL
from migrate.source.extract import KeysetExtractor
from migrate.source.retry import Policy
from migrate.source.store import SqlSource
from tests.servers import PostgresDatabase
from tests.source.reading import open_source, query_of, read_all, reader

UUID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"

AWKWARD = {
    "infinity": ("timestamptz", "infinity", "infinity"),
    "minus infinity": ("date", "-infinity", "-infinity"),
    "a year beyond 9999": ("date", "10000-01-01", "10000-01-01"),
    "before Christ": ("timestamp", "0044-03-15 12:00:00 BC", "0044-03-15 12:00:00 BC"),
    "another zone": ("timestamptz", "2024-03-31 02:30:00.120+02", "2024-03-31 00:30:00.12+00"),
    "the end of a day": ("time", "24:00:00", "24:00:00"),
    "a time with a zone": ("timetz", "10:00:00+05:30", "10:00:00+05:30"),
    "no number": ("double precision", "NaN", "NaN"),
    "a large float": ("double precision", "1e15", "1e+15"),
    "minus zero": ("double precision", "-0", "-0"),
    "a float of four bytes": ("real", "0.1", "0.1"),
    "no decimal": ("numeric", "NaN", "NaN"),
    "a decimal with zeros": ("numeric(30,10)", "1.10", "1.1000000000"),
    "a decimal of its own scale": ("numeric", "1.10", "1.10"),
    "an interval": ("interval", "1 mon -2 days 03:00:00.5", "P1M-2DT3H0.5S"),
    "a padded text": ("char(10)", "abc", "abc       "),
    "an empty text": ("text", "", ""),
    "a truth": ("boolean", "t", "true"),
    "bytes": ("bytea", "\\x00ff", b"\x00\xff"),
    "json with doubled keys": ("json", '{"a":1.10, "a": 1e2}', '{"a":1.10, "a": 1e2}'),
    "json null": ("jsonb", "null", "null"),
    "nested arrays": ("int[]", "{{1,NULL},{3,4}}", "{{1,NULL},{3,4}}"),
    "an array from minus one": ("int[]", "[-1:0]={1,2}", "[-1:0]={1,2}"),
    "an array of texts": ("text[]", '{"a,b","NULL",NULL,""}', '{"a,b","NULL",NULL,""}'),
    "an address without its mask": ("inet", "10.0.0.1", "10.0.0.1"),
    "an address with its mask": ("inet", "10.0.0.1/8", "10.0.0.1/8"),
    "a network": ("cidr", "10.0.0.0/8", "10.0.0.0/8"),
    "bits": ("bit(3)", "101", "101"),
    "a range": ("daterange", "[2024-01-01,infinity)", "[2024-01-01,infinity)"),
    "ranges": ("int4multirange", "{[1,3),[5,9)}", "{[1,3),[5,9)}"),
    "one character": ('"char"', "x", "x"),
    "an identity": ("uuid", UUID.upper(), UUID),
    "an enum": ("mood", "so'so", "so'so"),
    "a domain": ("short", "ab", "ab   "),
    "a network's domain": ("host", "10.0.0.1", "10.0.0.1"),
}  # fmt: skip


@pytest.fixture
def types(postgres: PostgresDatabase) -> PostgresDatabase:
    """
    A database with types of its own.
    """
    postgres.execute(
        "CREATE TYPE mood AS ENUM ('so''so', 'fine'); CREATE DOMAIN short AS char(5);"
        "CREATE DOMAIN host AS inet; CREATE DOMAIN price AS numeric(10,2);"
        "CREATE DOMAIN dear AS price CHECK (VALUE > 0); CREATE TYPE pair AS (a int, b text);"
    )
    return postgres


@pytest.mark.parametrize("case", AWKWARD)
def test_awkward_values_come_as_the_server_prints_them(
    types: PostgresDatabase, from_postgres: SqlSource, case: str
) -> None:
    """
    No value is clamped, rounded or lost on the way, whatever the database's own settings.
    """
    declared, value, cell = AWKWARD[case]
    types.execute(
        f"""
        CREATE TABLE people (id INTEGER PRIMARY KEY, v {declared});
        ALTER DATABASE "{types.name}" SET TimeZone = 'Asia/Kolkata';
        ALTER DATABASE "{types.name}" SET DateStyle = 'German';
        ALTER DATABASE "{types.name}" SET IntervalStyle = 'postgres_verbose';
        ALTER DATABASE "{types.name}" SET extra_float_digits = -10;
        ALTER DATABASE "{types.name}" SET bytea_output = 'escape';
        """
    )
    with types.connect() as connection:
        connection.execute(
            "SET DateStyle = 'ISO'; SET TimeZone = 'UTC'; SET IntervalStyle = 'iso_8601'"
        )
        connection.execute(
            f"INSERT INTO people VALUES (1, %s::text::{declared}), (2, NULL)", [value]
        )
    from_postgres.close()

    found = read_all(reader(from_postgres, "people"))

    assert found.cells(1) == [cell, None]
    assert found.faults == []


def test_every_awkward_value_is_a_key_that_pages_continue_from(
    types: PostgresDatabase, from_postgres: SqlSource
) -> None:
    """
    A key of any ordered type, bound back as text, stands where it stood.
    """
    for number, (declared, value, _) in enumerate(AWKWARD.values()):
        if declared in ("json", "double precision", "real", "numeric"):
            continue
        table = f"people{number}"
        types.execute(f"CREATE TABLE {table} (id {declared} PRIMARY KEY)")
        with types.connect() as connection:
            connection.execute(f"INSERT INTO {table} VALUES (%s::text::{declared})", [value])
        extractor = reader(from_postgres, table)

        page = extractor.read(KeyRange(), None, 5)

        assert len(page.keys) == 1
        assert list(extractor.read(KeyRange(), page.keys[0], 5).keys) == [], declared
        assert extractor.fetch(page.keys).keys == page.keys, declared


def test_kinds_follow_the_type_under_domains_and_arrays(
    types: PostgresDatabase, from_postgres: SqlSource
) -> None:
    """
    Domains are what they stand on; what has no exact text is unsupported.
    """
    types.execute(
        """
        CREATE TABLE people (
            id INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY, price dear, moods mood[],
            prices dear[], cash money, couple pair, pairs pair[], proc regproc, "where" point,
            doubled INTEGER GENERATED ALWAYS AS (3) STORED, small numeric(3,-2))
        """
    )

    table = from_postgres.reflect("public", "people")

    assert table is not None
    named = {column.name: column for column in table.columns}
    assert {name: column.kind for name, column in named.items()} == {
        "id": Kind.INTEGER,
        "price": Kind.DECIMAL,
        "moods": Kind.ARRAY,
        "prices": Kind.UNSUPPORTED,
        "cash": Kind.UNSUPPORTED,
        "couple": Kind.UNSUPPORTED,
        "pairs": Kind.UNSUPPORTED,
        "proc": Kind.UNSUPPORTED,
        "where": Kind.LITERAL,
        "doubled": Kind.INTEGER,
        "small": Kind.DECIMAL,
    }
    assert (named["price"].type, named["price"].scale, named["small"].scale) == ("dear", 2, -2)
    assert (named["id"].supplied, named["id"].generated) == (True, False)
    assert (named["doubled"].supplied, named["doubled"].generated) == (True, True)


def test_any_type_can_be_read_as_its_bare_text(
    types: PostgresDatabase, from_postgres: SqlSource
) -> None:
    """
    `as: text` reads what has no form of its own, bytes included.
    """
    types.execute(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, cash money, couple pair, raw bytea);"
        "INSERT INTO people VALUES (1, 12.5, ROW(1, 'x'), '\\x00ff')"
    )
    bare = frozenset({"cash", "couple", "raw"})

    found = read_all(reader(from_postgres, "people", verbatim=bare))

    assert found.rows == [("1", "$12.50", "(1,x)", "\\x00ff")]


@pytest.mark.parametrize(
    ("kind", "plain"),
    [("PARTITION BY RANGE (id)", "partitioned"), ("", "table")],
)
def test_relations_are_named_by_their_kind(
    postgres: PostgresDatabase, from_postgres: SqlSource, kind: str, plain: str
) -> None:
    """
    A partitioned table reads like a table and says what it is.
    """
    postgres.execute(f"CREATE TABLE people (id INTEGER PRIMARY KEY) {kind}")
    if kind:
        postgres.execute(
            "CREATE TABLE people1 PARTITION OF people FOR VALUES FROM (0) TO (5);"
            "CREATE TABLE people2 PARTITION OF people FOR VALUES FROM (5) TO (10)"
        )
    postgres.execute("INSERT INTO people SELECT generate_series(1, 9)")

    table = from_postgres.reflect(None, "people")

    assert table is not None
    assert table.relation == plain
    assert len(read_all(reader(from_postgres, "people"), 4).keys) == 9
    assert from_postgres.tables() == ["people"]


def test_a_changed_type_stops_the_reading(
    postgres: PostgresDatabase, from_postgres: SqlSource
) -> None:
    """
    The fourth DDL of a long run: ALTER TYPE, seen in the page that comes next.
    """
    postgres.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, age INTEGER)")
    postgres.execute("INSERT INTO people VALUES (1, 1), (2, 2)")
    extractor = reader(from_postgres, "people")
    first = extractor.read(KeyRange(), None, 1)
    postgres.execute("ALTER TABLE people ALTER age TYPE text, ALTER age SET NOT NULL")

    with pytest.raises(SchemaDrift) as caught:
        extractor.read(KeyRange(), first.keys[-1], 1)

    changes = str(caught.value.where["changes"])
    assert "'age' was integer and is text" in changes
    assert "became NOT NULL" in changes


def test_a_table_swapped_by_name_stops_the_reading(
    postgres: PostgresDatabase, from_postgres: SqlSource
) -> None:
    """
    The same columns under the same name are still another table.
    """
    postgres.execute("CREATE TABLE people (id INTEGER PRIMARY KEY); INSERT INTO people VALUES (1)")
    extractor = reader(from_postgres, "people")
    postgres.execute(
        "ALTER TABLE people RENAME TO old; CREATE TABLE people (id INTEGER PRIMARY KEY)"
    )

    with pytest.raises(SchemaDrift, match="changed") as caught:
        extractor.read(KeyRange(), None, 1)

    assert "took its place" in str(caught.value.where["changes"])


def test_a_killed_connection_is_made_anew(
    postgres: PostgresDatabase,
) -> None:
    """
    The backend is terminated between two pages: the next page comes all the same, after a notice.
    """
    postgres.execute("CREATE TABLE people (id INTEGER PRIMARY KEY)")
    postgres.execute("INSERT INTO people SELECT generate_series(1, 4)")
    heard: list[Waiting] = []
    source = SqlSource.open(postgres.config(), heard.append)
    extractor = reader(source, "people")

    def kill() -> None:
        postgres.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE application_name = 'profile-migrate' AND datname = current_database()"
        )

    found = read_all(extractor, 1, between=kill)
    source.close()

    assert found.cells() == ["1", "2", "3", "4"]
    assert postgres.server.password not in repr((source, extractor))
    assert {(waiting.store, waiting.reason) for waiting in heard} <= {
        ("source", "shutdown"),
        ("source", "connection"),
    }
    assert heard


def test_a_server_that_stays_away_ends_in_one_clear_error(postgres: PostgresDatabase) -> None:
    """
    After `retry_for` the source counts as unavailable; every wait was announced.
    """
    heard: list[Waiting] = []

    with pytest.raises(SourceUnavailable) as caught:
        SqlSource.open(
            postgres.config(port=1, retry_for_s=0.05, password=Secret("hunter2-planted")),
            heard.append,
            sleep=lambda seconds: None,
        )

    assert heard
    assert "hunter2-planted" not in _everything(caught.value)


def test_a_wrong_password_fails_at_once_and_is_not_shown(postgres: PostgresDatabase) -> None:
    """
    No waiting, exit code 2, and neither password nor user in the text.
    """
    heard: list[Waiting] = []

    with pytest.raises(SourceAccessDenied) as caught:
        SqlSource.open(postgres.config(password=Secret("hunter2-planted")), heard.append)

    assert heard == []
    assert caught.value.where["reason"] == "login"
    assert "hunter2-planted" not in _everything(caught.value)


def test_a_database_that_does_not_exist_fails_at_once(postgres: PostgresDatabase) -> None:
    """
    A mistyped name is not worth waiting for.
    """
    with pytest.raises(SourceAccessDenied, match="no such database"):
        SqlSource.open(postgres.config(database="nowhere"))


@pytest.fixture
def clerk(postgres: PostgresDatabase) -> tuple[PostgresDatabase, str]:
    """
    A login without any rights on the table `people`.
    """
    role = f"clerk_{postgres.name}"
    postgres.execute(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, secret TEXT);"
        "INSERT INTO people VALUES (1, 'a', 'planted-value');"
        f"CREATE ROLE {role} LOGIN PASSWORD 'clerk-password'"
    )
    return postgres, role


def _as_clerk(clerk: tuple[PostgresDatabase, str]) -> SqlSource:
    database, role = clerk
    return open_source(database, username=role, password=Secret("clerk-password"))


@pytest.fixture
def drop_clerk(clerk: tuple[PostgresDatabase, str]):  # type: ignore[no-untyped-def]
    """
    Roles outlive databases: drop it behind the test.
    """
    yield
    database, role = clerk
    database.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.usefixtures("drop_clerk")
def test_select_is_all_that_reading_needs(clerk: tuple[PostgresDatabase, str]) -> None:
    """
    A user who may SELECT the mapped columns, and nothing else, can read and divide them.
    """
    database, role = clerk
    database.execute(f"GRANT SELECT (id, name) ON people TO {role}")
    source = _as_clerk(clerk)
    extractor = reader(source, "people", columns=("id", "name"))
    table = source.reflect(None, "people")
    assert table is not None

    found = read_all(extractor)

    assert found.rows == [("1", "a")]
    assert len(extractor.split(2)) == 1
    assert source.missing_privileges(query_of(table, columns=("id", "name"))) == []
    assert source.missing_privileges(query_of(table)) == ["SELECT on people (secret)"]
    source.close()


@pytest.mark.usefixtures("drop_clerk")
def test_a_missing_permission_names_the_table(clerk: tuple[PostgresDatabase, str]) -> None:
    """
    Without SELECT: exit code 2 at once, with the table and the grant that is missing.
    """
    source = _as_clerk(clerk)
    extractor = reader(source, "people")

    with pytest.raises(SourceAccessDenied) as caught:
        extractor.read(KeyRange(), None, 1)

    assert caught.value.where["table"] == "people"
    assert "GRANT" in caught.value.next_step.upper()
    assert "clerk-password" not in _everything(caught.value)
    source.close()


@pytest.mark.usefixtures("drop_clerk")
def test_row_level_security_is_an_error_and_not_a_loss(
    clerk: tuple[PostgresDatabase, str],
) -> None:
    """
    Where a policy would hide rows, nothing is read at all.
    """
    database, role = clerk
    database.execute(
        f"GRANT SELECT ON people TO {role}; ALTER TABLE people ENABLE ROW LEVEL SECURITY;"
        f"CREATE POLICY later ON people TO {role} USING (id > 1)"
    )
    source = _as_clerk(clerk)
    extractor = reader(source, "people")
    table = source.reflect(None, "people")
    assert table is not None

    with pytest.raises(SourceAccessDenied):
        extractor.read(KeyRange(), None, 1)

    assert "BYPASSRLS" in source.missing_privileges(query_of(table))[0]
    source.close()


def test_a_limit_of_the_server_is_not_tried_again(postgres: PostgresDatabase) -> None:
    """
    A statement timeout is an operator's decision: exit code 5, without a single wait.
    """
    postgres.execute(
        "CREATE TABLE people (id INTEGER PRIMARY KEY);"
        "CREATE VIEW slow AS SELECT id, CAST(pg_sleep(5) AS TEXT) AS nap FROM people;"
        "INSERT INTO people VALUES (1);"
        f"ALTER DATABASE \"{postgres.name}\" SET statement_timeout = '200ms'"
    )
    heard: list[Waiting] = []
    source = SqlSource.open(postgres.config(), heard.append)
    table = source.reflect(None, "slow")
    assert table is not None

    with pytest.raises(SourceLimit):
        source.extractor(query_of(table, key=("id",)), table).read(KeyRange(), None, 1)

    assert heard == []
    source.close()


def test_a_text_in_another_encoding_costs_its_row_only(
    postgres: PostgresDatabase, tmp_path: Path
) -> None:
    """
    A database that checks no encoding holds one bad text among a hundred: 99 rows and one fault.
    """
    name = f"{postgres.name}_ascii"
    with postgres.server.connect() as connection:
        connection.execute(
            f"CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'"
        )
    try:
        with postgres.server.connect(name) as connection:
            connection.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, a TEXT, b TEXT)")
            connection.execute(
                "INSERT INTO people SELECT n, 'a', CASE WHEN n = 42 THEN "
                "convert_from('\\x80ff', 'SQL_ASCII') ELSE 'b' END FROM generate_series(1, 100) n"
            )
        source = open_source(postgres, database=name)
        extractor = reader(source, "people")

        found = read_all(extractor, 64)
        fetched = extractor.fetch(found.keys)
        source.close()
    finally:
        with postgres.server.connect() as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    assert found.cells() == [None if n == 42 else str(n) for n in range(1, 101)]
    assert [(fault.column, fault.reason) for fault in found.faults] == [("b", "unreadable")]
    assert [key for (key,) in found.keys] == [str(n) for n in range(1, 101)]
    assert len(fetched.keys) == 100
    assert len(fetched.faults) == 1


def test_a_literal_that_does_not_fit_is_the_mappings_fault(
    postgres: PostgresDatabase, from_postgres: SqlSource
) -> None:
    """
    The server refuses the literal; the error shows neither it nor the server's words.
    """
    postgres.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, born DATE)")
    where = Comparison("=", ColumnRef("born"), Constant("planted-literal"))

    with pytest.raises(InvalidInput) as caught:
        reader(from_postgres, "people", where=where).read(KeyRange(), None, 1)

    assert "planted-literal" not in _everything(caught.value)


def test_large_tables_are_divided_by_a_sample(postgres: PostgresDatabase) -> None:
    """
    Above a size only a sample of pages is looked at, and ranges are still of about one size.
    """
    postgres.execute("CREATE TABLE people (id BIGINT PRIMARY KEY, filler CHAR(300))")
    postgres.execute(
        "INSERT INTO people "
        "SELECT CASE WHEN n % 2 = 0 THEN n ELSE 9000000000000000000 + n END, 'x' "
        "FROM generate_series(1, 60000) n"
    )
    connections = Connections.open(postgres.config())
    sampling = Connections(
        connections.address, PostgreSQL(exact_pages=800), connections.engine, Policy()
    )
    source = SqlSource(sampling)
    table = source.reflect(None, "people")
    assert table is not None
    extractor = KeysetExtractor(sampling, query_of(table, columns=("id",)), table)

    ranges = extractor.split(4)

    sizes = [len(read_all(extractor, 5000, within).keys) for within in ranges]
    assert sum(sizes) == 60_000
    assert all(15_000 * 0.65 <= size <= 15_000 * 1.35 for size in sizes), sizes
    assert len(source.sample(query_of(table), 20).keys) == 20
    source.close()


def test_estimates_come_from_the_planner(
    postgres: PostgresDatabase, from_postgres: SqlSource
) -> None:
    """
    An analysed table has a guess; with a filter, rows are counted.
    """
    postgres.execute("CREATE TABLE people (id INTEGER PRIMARY KEY)")
    postgres.execute("INSERT INTO people SELECT generate_series(1, 500)")
    postgres.execute("ANALYZE people")
    postgres.execute("DELETE FROM people WHERE id > 400")
    table = from_postgres.reflect(None, "people")
    assert table is not None
    where = Comparison(">", ColumnRef("id"), Constant(100))

    assert from_postgres.count(query_of(table), estimate=True) == 500
    assert from_postgres.count(query_of(table)) == 400
    assert from_postgres.count(query_of(table, where=where), estimate=True) == 300


def test_rows_with_null_in_the_key_are_counted_and_left_out(
    postgres: PostgresDatabase, from_postgres: SqlSource
) -> None:
    """
    The seven rows under UNIQUE (a, b): five can be paged, two are known to be missing.
    """
    postgres.execute(
        "CREATE TABLE people (a INTEGER, b INTEGER, UNIQUE (a, b));"
        "INSERT INTO people VALUES (1,1),(1,2),(2,1),(2,2),(3,1),(NULL,1),(1,NULL)"
    )
    table = from_postgres.reflect(None, "people")
    assert table is not None

    found = read_all(reader(from_postgres, "people", key=("a", "b")), 2)

    assert len(found.keys) == 5
    assert from_postgres.null_keys(query_of(table, key=("a", "b"))) == 2


def test_no_transaction_outlives_its_page(
    postgres: PostgresDatabase, from_postgres: SqlSource
) -> None:
    """
    Between two pages nothing is open that would hold back vacuum or DDL.
    """
    postgres.execute("CREATE TABLE people (id INTEGER PRIMARY KEY); INSERT INTO people VALUES (1)")
    extractor = reader(from_postgres, "people")
    extractor.read(KeyRange(), None, 1)

    states = postgres.query(
        "SELECT state FROM pg_stat_activity "
        "WHERE application_name = 'profile-migrate' AND datname = current_database()"
    )

    assert states == [("idle",)]


def _everything(error: MigrateError) -> str:
    return f"{error!r} {error} {error.what} {error.where} {error.next_step} {error.__cause__!r}"
