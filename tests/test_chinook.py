"""
Real rows of other people's making: the customers and employees of Chinook, as hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.edges import EDGED_SOURCES, EVERY_REDIS, Record, records_of
from tests.project import Project
from tests.servers import Database, PostgresDatabase, RedisServer, Servers, SqliteDatabase

Load = Callable[[Database], None]

PERSON = (
    "first_name", "last_name", "address", "city", "state", "country", "postal_code", "phone", "fax",
    "email",
)  # fmt: skip
FIELDS: Mapping[str, tuple[str, ...]] = {
    "customer": ("customer_id", *PERSON, "company", "support_rep_id"),
    "employee": ("employee_id", *PERSON, "title", "reports_to", "birth_date", "hire_date"),
}
"""Field names, which are PostgreSQL's column names; SQLite's are the same in camel case."""

COUNTS = {"customer": 59, "employee": 8}


def camel(name: str) -> str:
    """
    A name as Chinook spells it for SQLite.
    """
    return "".join(part.capitalize() for part in name.split("_"))


def names_of(database: Database) -> Callable[[str], str]:
    """
    How a name is spelled in this database.
    """
    return camel if isinstance(database, SqliteDatabase) else str


def mapping(database: Database, name: str) -> str:
    """
    The mapping of one table: the same fields whatever the columns are called.
    """
    spelled = names_of(database)
    key = f"{name}_id"
    lines = "".join(f"  {field}: {{column: {spelled(field)}}}\n" for field in FIELDS[name])
    return (
        f"version: 1\nname: {name}\nsource: {{table: {spelled(name)}, key: [{spelled(key)}]}}\n"
        f'target: {{key: "{name}:{{{spelled(key)}}}", type: hash}}\nfields:\n{lines}'
    )


def backfilled(folder: Path, database: Database, server: RedisServer) -> dict[bytes, Record]:
    """
    Both tables as records.
    """
    project = Project(folder, database.url, server.url)
    for name, count in COUNTS.items():
        project.mapping(name, mapping(database, name))
        ran = project.run("backfill", name, "--json")
        assert (ran.exit, ran.json["written"]) == (0, count), ran.err
    return records_of(server)


def expected(database: Database) -> dict[bytes, Record]:
    """
    What the records should hold, from the rows as a driver of our own gives them.
    """
    spelled = names_of(database)
    found: dict[bytes, Record] = {}
    for name, fields in FIELDS.items():
        columns = ", ".join(f'"{spelled(field)}"' for field in fields)
        for row in database.query(f'SELECT {columns} FROM "{spelled(name)}"'):
            found[f"{name}:{row[0]}".encode()] = {
                field.encode(): _text(field, value)
                for field, value in zip(fields, row, strict=True)
                if value is not None
            }
    return found


def _text(field: str, value: Any) -> bytes:
    if field.endswith("_date"):
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return moment.strftime("%Y-%m-%dT%H:%M:%S").encode()
    return str(value).encode()


def plain(records: Mapping[bytes, Record]) -> dict[bytes, Record]:
    """
    Records without their digests, which tell one mapping from another.
    """
    return {
        key: {name: value for name, value in record.items() if name != b"_h"}
        for key, record in records.items()
    }


def versioned(rows: Mapping[bytes, Record]) -> dict[bytes, Record]:
    """
    Rows with the version of a first backfill.
    """
    return {key: {**fields, b"_v": b"1"} for key, fields in rows.items()}


def test_every_customer_and_employee_is_a_record(
    tmp_path: Path, source: Database, redis_server: RedisServer, load_sample: Load
) -> None:
    """
    All columns of all rows, mixed-case names or not; NULL is absent, accents are the same bytes.
    """
    load_sample(source)

    records = backfilled(tmp_path, source, redis_server)

    rows = expected(source)
    assert plain(records) == versioned(rows)
    assert len(records) == sum(COUNTS.values())
    assert records[b"customer:1"][b"first_name"] == "Luís".encode()
    assert records[b"customer:1"][b"city"] == "São José dos Campos".encode()
    assert b"company" in records[b"customer:1"] and b"company" not in records[b"customer:2"]
    assert b"reports_to" not in records[b"employee:1"]
    assert records[b"employee:1"][b"birth_date"] == b"1962-02-18T00:00:00"


def test_both_stores_give_the_same_records(
    tmp_path: Path,
    sqlite: SqliteDatabase,
    postgres: PostgresDatabase,
    redis_server: RedisServer,
    load_sample: Load,
) -> None:
    """
    From SQLite and from PostgreSQL every field is the same bytes; only the mappings differ.
    """
    found = []
    for database in (sqlite, postgres):
        load_sample(database)
        # PostgreSQL drops the blank of N'Edinburgh ', a padded text to it; SQLite keeps it.
        for name in COUNTS:
            table, city = (f'"{names_of(database)(word)}"' for word in (name, "city"))
            database.execute(f"UPDATE {table} SET {city} = trim({city})")
        redis_server.client().flushall()
        found.append(backfilled(tmp_path / database.dialect, database, redis_server))

    one, other = found
    assert plain(one) == plain(other)
    # Tables and columns are called differently: the digests say that these are two mappings.
    assert all(one[key][b"_h"] != other[key][b"_h"] for key in one)


@pytest.mark.containers
@pytest.mark.parametrize("any_source", EDGED_SOURCES, indirect=True)
def test_every_pair_copies_real_rows(
    tmp_path: Path, any_source: Database, any_redis: RedisServer, load_sample: Load
) -> None:
    """
    The same holds for every source and every server of the matrix.
    """
    load_sample(any_source)

    records = backfilled(tmp_path, any_source, any_redis)

    assert plain(records) == versioned(expected(any_source))


@pytest.mark.containers
def test_every_server_holds_the_same_bytes(
    tmp_path: Path, servers: Servers, load_sample: Load
) -> None:
    """
    Digests included, whatever the PostgreSQL and whatever the Redis.
    """
    found = []
    for source in ("postgres-15", "postgres-17"):
        with servers.postgres(source).database() as database:
            load_sample(database)
            for target in EVERY_REDIS:
                server = servers.redis(target)
                found.append(backfilled(tmp_path / source / target, database, server))

    assert all(records == found[0] for records in found[1:])


MIXED = """
version: 1
name: customers
source: {table: '"Customer"', key: [CustomerId], where: '"First Name" <> ''nobody'' '}
target: {key: "customer:{CustomerId}"}
"""


def mixed_case(source: Database) -> None:
    """
    A table with capitals and blanks in its names.
    """
    source.execute(
        'CREATE TABLE "Customer" ("CustomerId" INTEGER NOT NULL PRIMARY KEY, "First Name" text);'
        "INSERT INTO \"Customer\" VALUES (1, 'Zoë'), (2, ''), (3, 'nobody'), (4, NULL)"
    )


def test_names_in_capitals_and_with_blanks_are_taken_exactly(
    tmp_path: Path, source: Database, redis_server: RedisServer
) -> None:
    """
    A quoted table, its columns, and a filter over them; without `fields` the names go along.
    """
    mixed_case(source)
    project = Project(tmp_path, source.url, redis_server.url)
    project.mapping("customers", MIXED)

    ran = project.run("backfill", "customers", "--json")

    assert ran.exit == 0, ran.err
    assert plain(records_of(redis_server)) == {
        b"customer:1": {b"_v": b"1", b"CustomerId": b"1", b"First Name": "Zoë".encode()},
        b"customer:2": {b"_v": b"1", b"CustomerId": b"2", b"First Name": b""},
    }


def test_a_field_may_have_a_simpler_name_than_its_column(
    tmp_path: Path, source: Database, redis_server: RedisServer
) -> None:
    """
    `column:` takes a name with blanks and capitals as it is.
    """
    mixed_case(source)
    project = Project(tmp_path, source.url, redis_server.url)
    project.mapping("customers", f'{MIXED}fields: {{first_name: {{column: "First Name"}}}}\n')

    ran = project.run("backfill", "customers", "--json")

    assert ran.exit == 0, ran.err
    assert plain(records_of(redis_server)) == {
        b"customer:1": {b"_v": b"1", b"first_name": "Zoë".encode()},
        b"customer:2": {b"_v": b"1", b"first_name": b""},
    }


def test_a_quoted_name_is_not_its_neighbour_in_lower_case(
    tmp_path: Path, postgres: PostgresDatabase, redis_server: RedisServer
) -> None:
    """
    PostgreSQL may hold "Customer" and customer: each mapping reads its own, schema or not.
    """
    mixed_case(postgres)
    postgres.execute(
        'CREATE TABLE customer ("CustomerId" INTEGER PRIMARY KEY, "First Name" text);'
        "INSERT INTO customer VALUES (1, 'another');"
        'CREATE SCHEMA "My.Shop"; CREATE TABLE "My.Shop"."Customer" (LIKE customer INCLUDING ALL);'
        'INSERT INTO "My.Shop"."Customer" VALUES (1, \'a third\')'
    )
    project = Project(tmp_path, postgres.url, redis_server.url)
    tables = {"quoted": "'\"Customer\"'", "lower": "customer", "shop": '\'"My.Shop"."Customer"\''}
    for name, table in tables.items():
        project.mapping(
            name,
            f"version: 1\nname: {name}\nsource: {{table: {table}, key: [CustomerId]}}\n"
            f'target: {{key: "{name}:{{CustomerId}}"}}\n',
        )
        assert project.run("backfill", name).exit == 0

    found = {
        key: record.get(b"First Name")
        for key, record in records_of(redis_server).items()
        if key.endswith(b":1")
    }
    assert found == {
        b"quoted:1": "Zoë".encode(),
        b"lower:1": b"another",
        b"shop:1": b"a third",
    }
