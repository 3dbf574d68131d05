"""
What every source promises, on SQLite, PostgreSQL and MariaDB.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa

from migrate.errors import MigrateError, SchemaDrift, UsageProblem
from migrate.model.settings import SourceConfig
from migrate.model.values import Key, KeyRange, Kind, Table
from migrate.source.control import create_control, key_text
from migrate.source.store import SqlSource
from tests.servers import Database
from tests.source.reading import pages, query_of, read_all, reader


def _ph(database: Database, count: int) -> str:
    return ", ".join(["?" if database.dialect == "sqlite" else "%s"] * count)


def _native(database: Database, key: Key) -> Key:
    """
    A key of integers as this source spells it.
    """
    return key if database.dialect == "sqlite" else tuple(str(part) for part in key)


def _text(database: Database) -> str:
    """
    A text that tells all texts apart and can be a key.
    """
    exact = "VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"
    return exact if database.dialect == "mariadb" else "TEXT"


def _create_control(database: Database) -> None:
    engine = sa.create_engine(database.url)
    create_control(engine)
    engine.dispose()


EDGES = [-(2**63), -5, 0, 1, 2, 1000, 2**62, 2**63 - 1]

KEYED = {
    "integers": ("id BIGINT PRIMARY KEY", [(n,) for n in EDGES]),
    "texts": (
        "id {text} PRIMARY KEY",
        [(t,) for t in ("", " ", "%", "10", "9", "A", "a", "a:b", "a%b", "ä", "😀", "o'r\"k\\")],
    ),
    "uuids": (
        "id UUID PRIMARY KEY",
        [(f"{n:08x}-0000-4000-8000-000000000000",) for n in (0, 1, 10, 2**31, 2**32 - 1)],
    ),
    "composite": (
        "a INTEGER NOT NULL, b {text} NOT NULL, PRIMARY KEY (a, b)",
        [(a, b) for a in (-1, 1, 2) for b in ("", "x", "y:%", "z")],
    ),
}


@pytest.mark.parametrize("limit", [1, 2, 3])
@pytest.mark.parametrize("keyed", KEYED)
def test_pages_give_every_row_once_in_the_servers_order(
    source: Database, opened: SqlSource, keyed: str, limit: int
) -> None:
    """
    Whatever the key and however small the page, each row comes exactly once.
    """
    columns, keys = KEYED[keyed]
    names = ", ".join("ab") if keyed == "composite" else "id"
    source.execute(f"CREATE TABLE people ({columns.format(text=_text(source))})")
    source.execute(f"INSERT INTO people VALUES ({_ph(source, len(keys[0]))})", *keys)
    ordered = [tuple(row) for row in source.query(f"SELECT {names} FROM people ORDER BY {names}")]

    found = read_all(reader(opened, "people"), limit)

    assert [tuple(map(str, key)) for key in found.keys] == [tuple(map(str, k)) for k in ordered]
    assert [tuple(map(str, row)) for row in found.rows] == [tuple(map(str, k)) for k in ordered]
    assert found.faults == []


@pytest.mark.parametrize("keyed", KEYED)
def test_fetch_gives_the_rows_with_those_keys(
    source: Database, opened: SqlSource, keyed: str
) -> None:
    """
    Keys from a page are found again; keys that do not exist are left out.
    """
    columns, keys = KEYED[keyed]
    source.execute(f"CREATE TABLE people ({columns.format(text=_text(source))})")
    source.execute(f"INSERT INTO people VALUES ({_ph(source, len(keys[0]))})", *keys)
    extractor = reader(opened, "people")
    seen = read_all(extractor, 100).keys
    source.execute(
        "DELETE FROM people WHERE "
        + " AND ".join(
            f"{name} = {_ph(source, 1)}" for name in ("ab" if keyed == "composite" else ["id"])
        ),
        keys[0],
    )

    found = extractor.fetch(seen)

    assert sorted(map(str, found.keys)) == sorted(map(str, set(seen) - {seen[keys.index(keys[0])]}))
    assert extractor.fetch([]).keys == ()


def test_rows_deleted_between_pages_cost_no_other_row(source: Database, opened: SqlSource) -> None:
    """
    Ten of each page of a hundred are deleted behind the reader; every survivor is seen.
    """
    source.execute("CREATE TABLE people (id INTEGER PRIMARY KEY)")
    source.execute(f"INSERT INTO people VALUES ({_ph(source, 1)})", *[(n,) for n in range(900)])
    extractor = reader(opened, "people")
    seen: list[int] = []

    for page in pages(extractor, 100):
        numbers = [int(part) for (part,) in page.keys]
        seen += numbers
        source.execute(f"DELETE FROM people WHERE id IN ({','.join(map(str, numbers[:10]))})")

    survivors = {row[0] for row in source.query("SELECT id FROM people")}
    assert survivors <= set(seen)
    assert len(seen) == 900


def test_gaps_cost_no_pages(source: Database, opened: SqlSource) -> None:
    """
    Keys 1 to 10 and one near the end of the type are read in two pages of ten.
    """
    source.execute("CREATE TABLE people (id BIGINT PRIMARY KEY)")
    source.execute(
        f"INSERT INTO people VALUES ({_ph(source, 1)})", *[(n,) for n in [*range(10), 9 * 10**18]]
    )

    sizes = [len(page.keys) for page in pages(reader(opened, "people"), 10)]

    assert sizes == [10, 1]


def test_a_range_is_open_below_and_closed_above(source: Database, opened: SqlSource) -> None:
    """
    A range takes what comes after `low`, up to and including `high`; `after` continues in it.
    """
    source.execute("CREATE TABLE people (id INTEGER PRIMARY KEY)")
    source.execute(f"INSERT INTO people VALUES ({_ph(source, 1)})", *[(n,) for n in range(10)])
    extractor = reader(opened, "people")
    within = KeyRange(_native(source, (2,)), _native(source, (7,)))

    all_of_it = extractor.read(within, None, 100)
    rest = extractor.read(within, _native(source, (5,)), 100)

    assert [int(str(key[0])) for key in all_of_it.keys] == [3, 4, 5, 6, 7]
    assert [int(str(key[0])) for key in rest.keys] == [6, 7]
    assert extractor.read(within, _native(source, (7,)), 100).keys in ([], ())


HOSTILE = [
    'na"me',
    "per%cent",
    "co:lon",
    "Mixed Case",
    "select",
    "%(x)s",
    "emoji 😀",
    "semi;--",
    "b'",
]


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
    extractor = reader(opened, table)

    found = read_all(extractor, 1)

    assert found.rows == [(key, *map(str, range(len(hostile)))) for key in ("1", "2")]
    assert len(extractor.split(2)) == 2
    assert len(extractor.fetch(found.keys).keys) == 2
    assert table in opened.tables()
    assert extractor.problems() == []


def test_reflecting_names_keys_and_kinds(source: Database, opened: SqlSource) -> None:
    """
    The primary key comes first among the unique sets; partial, prefix and computed ones are none.
    """
    partly, computed = "balance) WHERE (balance > 0", "lower(email)"
    if source.dialect == "mariadb":
        partly, computed = "email(3)", "balance, email(5)"
    source.execute(
        f"""
        CREATE TABLE people (
            a INTEGER NOT NULL, b {_text(source)} NOT NULL, email VARCHAR(80) UNIQUE,
            balance NUMERIC(10, 2), active BOOLEAN NOT NULL DEFAULT TRUE, born DATE,
            PRIMARY KEY (b, a));
        CREATE UNIQUE INDEX partly ON people ({partly});
        CREATE UNIQUE INDEX computed ON people ({computed});
        CREATE UNIQUE INDEX whole ON people (born, a);
        """
    )

    table = opened.reflect(None, "people")

    assert table is not None
    assert table.primary_key == ("b", "a")
    assert table.unique[0] == ("b", "a")
    assert set(table.unique) == {("b", "a"), ("email",), ("born", "a")}
    assert {column.name: column.kind for column in table.columns} == {
        "a": Kind.INTEGER,
        "b": Kind.TEXT,
        "email": Kind.TEXT,
        "balance": Kind.DECIMAL,
        "active": Kind.BOOLEAN,
        "born": Kind.DATE,
    }
    named = {column.name: column for column in table.columns}
    assert named["balance"].scale == 2
    assert (named["active"].nullable, named["active"].supplied) == (False, True)
    assert (named["born"].nullable, named["born"].supplied) == (True, False)


def test_views_can_be_read_by_a_key_that_is_given(source: Database, opened: SqlSource) -> None:
    """
    A view has no key of its own; with one named it pages like a table.
    """
    source.execute(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT);"
        "INSERT INTO people VALUES (1, 'a'), (2, 'b'), (3, 'c');"
        "CREATE VIEW adults AS SELECT id, name FROM people WHERE id > 1;"
    )

    table = opened.reflect(None, "adults")

    assert table is not None
    assert (table.relation, table.primary_key, table.unique) == ("view", (), ())
    extractor = reader(opened, "adults", key=("id",))
    assert read_all(extractor, 1).cells(1) == ["b", "c"]
    assert len(extractor.split(2)) == 2


def test_what_is_not_there_reflects_as_nothing(opened: SqlSource) -> None:
    """
    A table that does not exist is None, not an error.
    """
    assert opened.reflect(None, "nobody") is None


def test_split_balances_skewed_keys(source: Database, opened: SqlSource) -> None:
    """
    Five ranges over keys with a huge gap each hold a fifth of the rows, and all of them together.
    """
    source.execute("CREATE TABLE people (id BIGINT PRIMARY KEY)")
    keys = [*range(1, 1001), *(9 * 10**18 + n for n in range(1000))]
    source.execute(f"INSERT INTO people VALUES ({_ph(source, 1)})", *[(n,) for n in keys])
    extractor = reader(opened, "people")

    ranges = extractor.split(5)

    sizes = [len(read_all(extractor, 500, within).keys) for within in ranges]
    assert len(sizes) == 5
    assert sum(sizes) == 2000
    assert all(400 * 0.65 <= size <= 400 * 1.35 for size in sizes)
    assert ranges[0].low is None
    assert ranges[-1].high == _native(source, (keys[-1],))


@pytest.mark.parametrize(("rows", "parts", "ranges"), [(0, 4, 0), (1, 4, 1), (3, 8, 3), (5, 1, 1)])
def test_split_never_makes_more_ranges_than_rows(
    source: Database, opened: SqlSource, rows: int, parts: int, ranges: int
) -> None:
    """
    No rows, no ranges; few rows, few ranges; and rows that come later are outside.
    """
    source.execute("CREATE TABLE people (id INTEGER PRIMARY KEY)")
    for n in range(rows):
        source.execute(f"INSERT INTO people VALUES ({n})")
    extractor = reader(opened, "people")

    found = extractor.split(parts)

    source.execute("INSERT INTO people VALUES (99)")
    seen = [key for within in found for key in read_all(extractor, 2, within).keys]
    assert len(found) == ranges
    assert len(seen) == rows


def test_without_capture_rows_are_at_generation_zero(source: Database, opened: SqlSource) -> None:
    """
    No tables of capture, or none of this mapping: no versions, generation 0.
    """
    source.execute("CREATE TABLE people (id INTEGER PRIMARY KEY); INSERT INTO people VALUES (1)")
    extractor = reader(opened, "people")

    before = extractor.read(KeyRange(), None, 10)
    _create_control(source)
    after = extractor.read(KeyRange(), None, 10)

    assert (before.generation, before.versions) == (0, ())
    assert (after.generation, after.versions) == (0, ())


def test_versions_count_what_was_folded_and_what_is_marked(
    source: Database, opened: SqlSource
) -> None:
    """
    Version = generation's block + folded marks + marks still there, under the key's escaped text.
    """
    source.execute(
        f"CREATE TABLE people (a INTEGER NOT NULL, b {_text(source)} NOT NULL, PRIMARY KEY (a, b));"
        "INSERT INTO people VALUES (1, 'x:y%'), (2, ''), (3, 'z')"
    )
    _create_control(source)
    first, third = key_text((1, "x:y%")), key_text((3, "z"))
    assert first == "1:x%3Ay%25"
    source.execute(
        f"""
        INSERT INTO migrate_ctl (mapping, generation, base, stage)
        VALUES ('profiles', 3, 0, 'capture');
        INSERT INTO migrate_ver (mapping, pk, n)
        VALUES ('profiles', '{first}', 7), ('other', '{third}', 9);
        INSERT INTO migrate_mark (mapping, pk)
        VALUES ('profiles', '{first}'), ('profiles', '{first}'), ('profiles', '{third}'),
               ('other', '2:');
        """
    )
    extractor = reader(opened, "people")

    chunk = extractor.read(KeyRange(), None, 10)

    assert chunk.generation == 3
    assert list(chunk.versions) == ["3000000000009", "3000000000000", "3000000000001"]
    assert list(extractor.fetch([chunk.keys[0]]).versions) == ["3000000000009"]
    assert extractor.read(KeyRange(), chunk.keys[-1], 10).generation == 3


def test_a_generation_that_begins_between_pages_shows_at_once(
    source: Database, opened: SqlSource
) -> None:
    """
    Capture installed in the middle of a run shows in the next page, so that the run can stop.
    """
    source.execute(
        "CREATE TABLE people (id INTEGER PRIMARY KEY); INSERT INTO people VALUES (1), (2)"
    )
    extractor = reader(opened, "people")
    first = extractor.read(KeyRange(), None, 1)
    _create_control(source)
    source.execute(
        "INSERT INTO migrate_ctl (mapping, generation, base, stage) "
        "VALUES ('profiles', 1, 0, 'capture')"
    )

    second = extractor.read(KeyRange(), first.keys[-1], 1)

    assert (first.generation, second.generation) == (0, 1)
    assert list(second.versions) == ["1000000000000"]


DRIFTS = {
    "a new column": ("ALTER TABLE people ADD COLUMN extra TEXT", "'extra' is new"),
    "a column gone": ("ALTER TABLE people DROP COLUMN name", "'name' is gone"),
    "renamed and made anew": (
        "ALTER TABLE people RENAME COLUMN name TO old; ALTER TABLE people ADD COLUMN name TEXT",
        "'old' is new",
    ),
    "dropped and made anew": (
        "ALTER TABLE people DROP COLUMN name; ALTER TABLE people ADD COLUMN name TEXT",
        "another one",
    ),
    "the table gone": ("DROP TABLE people", ""),
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_a_table_that_changes_between_pages_stops_the_reading(
    source: Database, opened: SqlSource, drift: str
) -> None:
    """
    DDL between two pages ends in an error that names the change, never in silently other values.
    """
    source.execute(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, age INTEGER);"
        "INSERT INTO people VALUES (1, 'a', 1), (2, 'b', 2)"
    )
    extractor = reader(opened, "people", columns=("id", "age"))
    first = extractor.read(KeyRange(), None, 1)
    ddl, said = DRIFTS[drift]
    source.execute(ddl)

    with pytest.raises(SchemaDrift) as caught:
        extractor.read(KeyRange(), first.keys[-1], 1)

    assert said in str(caught.value.where)
    assert caught.value.where["table"] == "people"


def test_a_change_of_another_table_does_not_stop_the_reading(
    source: Database, opened: SqlSource
) -> None:
    """
    Only the table that is read counts.
    """
    source.execute(
        "CREATE TABLE people (id INTEGER PRIMARY KEY); INSERT INTO people VALUES (1), (2)"
    )
    extractor = reader(opened, "people")

    found = read_all(
        extractor,
        1,
        between=lambda: source.execute("DROP TABLE IF EXISTS x; CREATE TABLE x (y INT)"),
    )

    assert found.cells() == ["1", "2"]


def test_an_extractor_refuses_a_table_that_changed_since_it_was_reflected(
    source: Database, opened: SqlSource
) -> None:
    """
    The mapping was compiled against another table: say so before the first page.
    """
    source.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)")
    table = opened.reflect(None, "people")
    assert table is not None
    source.execute("ALTER TABLE people ADD COLUMN extra TEXT")

    with pytest.raises(SchemaDrift, match="changed"):
        opened.extractor(query_of(table), table)


def test_counts_samples_and_explains(source: Database, opened: SqlSource) -> None:
    """
    What plan and doctor ask for: a count, a few rows from all over, and whether pages are cheap.
    """
    source.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)")
    source.execute(
        f"INSERT INTO people VALUES ({_ph(source, 2)})", *[(n, "x") for n in range(1000)]
    )
    table = opened.reflect(None, "people")
    assert isinstance(table, Table)
    query = query_of(table)

    sample = opened.sample(query, 50)

    assert opened.count(query) == opened.count(query, estimate=True) == 1000
    assert len(sample.keys) == 50
    assert len(sample.rows[0]) == 2
    # A sample of one row is one row every time, and any row.
    ones = [opened.sample(query, 1).keys for _ in range(40)]
    assert [len(one) for one in ones] == [1] * 40
    assert len({one for [one] in ones}) > 5
    assert opened.null_keys(query) == 0
    assert opened.missing_privileges(query) == []
    assert opened.explain_problems(query) == []
    slow = replace(query, key=tuple(read for read in query.columns if read.column.name == "name"))
    assert opened.explain_problems(slow) != []


def test_facts_are_the_servers_own(source: Database, opened: SqlSource) -> None:
    """
    Dialect, version and a clock.
    """
    facts = opened.facts()

    assert facts.dialect == source.dialect
    assert facts.version[0].isdigit()
    assert facts.now > 1_600_000_000
    assert not facts.replica


def test_other_dialects_are_refused_by_name() -> None:
    """
    An address of another dialect says what is supported, and connects nowhere.
    """
    with pytest.raises(UsageProblem, match="'oracle'") as caught:
        SqlSource.open(SourceConfig("oracle", host="127.0.0.1", database="x"))

    assert caught.value.where["known"] == "mariadb, mysql, postgresql, sqlite"


def test_drivers_that_are_not_known_are_refused_by_name(source: Database) -> None:
    """
    Another driver reads values in its own way: it is not used behind the user's back.
    """
    with pytest.raises(UsageProblem, match="'psycopg2'"):
        SqlSource.open(source.config(driver="psycopg2"))


def test_nothing_can_be_written_through_the_source(source: Database, opened: SqlSource) -> None:
    """
    Even our own statement cannot change the source: transactions are read-only.
    """
    with pytest.raises(MigrateError):
        opened.connections.run(
            lambda connection: connection.exec_driver_sql("CREATE TABLE sneaked (id INTEGER)")
        )

    assert opened.reflect(None, "sneaked") is None
