"""
Real rows of other people's making, scaffolded by init alone: the same records from every source.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest

from tests.project import Project
from tests.servers import (
    Database,
    MariadbDatabase,
    PostgresDatabase,
    RedisServer,
    Servers,
    SqliteDatabase,
)
from tests.test_init import empty, hashes, init

Load = Callable[[Database], None]

PERSON = (
    "first_name", "last_name", "address", "city", "state", "country", "postal_code", "phone", "fax",
    "email",
)  # fmt: skip
CUSTOMER = ("customer_id", *PERSON, "company", "support_rep_id")
EMPLOYEE = ("employee_id", *PERSON, "title", "reports_to", "birth_date", "hire_date")
INVOICE = (
    "invoice_id", "invoice_date", "billing_address", "billing_city", "billing_state",
    "billing_country", "billing_postal_code", "total",
)  # fmt: skip
LINE = ("invoice_line_id", "track_id", "unit_price", "quantity")
OURS = (b"_v", b"_h", b"_l")


def spelled(database: Database, name: str) -> str:
    """
    A name as this database's Chinook has it, in quotes.
    """
    if isinstance(database, PostgresDatabase):
        return f'"{name}"'
    return f'"{"".join(part.capitalize() for part in name.split("_"))}"'


def rows(
    database: Database, table: str, names: tuple[str, ...], where: str = "", value: object = None
) -> Iterator[dict[str, Any]]:
    """
    Rows by field name in the order of their key, NULL left out.
    """
    columns = ", ".join(spelled(database, name) for name in names)
    only = f" WHERE {spelled(database, where)} = {value}" if where else ""
    order = spelled(database, names[0])
    query = f"SELECT {columns} FROM {spelled(database, table)}{only} ORDER BY {order}"
    for row in database.query(query):
        yield {name: one for name, one in zip(names, row, strict=True) if one is not None}


def text_of(name: str, value: Any) -> str:
    """
    A value of SQL as a record should spell it, by rules that the program does not share.
    """
    if name.endswith("_date"):
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return moment.strftime("%Y-%m-%dT%H:%M:%S")
    if name in ("total", "unit_price"):
        return f"{Decimal(str(value)):.2f}"
    return str(value)


def json_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """
    A row as a child should look when its JSON is read with every digit kept.
    """
    return {
        name: value if isinstance(value, int) else
        Decimal(text_of(name, value)) if name in ("total", "unit_price") else text_of(name, value)
        for name, value in row.items()
    }  # fmt: skip


def expected(database: Database) -> dict[bytes, dict[bytes, Any]]:
    """
    Every record as the rows say; `invoices` is read JSON.
    """
    found: dict[bytes, dict[bytes, Any]] = {}
    for table, names in (("customer", CUSTOMER), ("employee", EMPLOYEE)):
        for row in rows(database, table, names):
            key = f"{table}:{row[names[0]]}".encode()
            found[key] = {n.encode(): text_of(n, value).encode() for n, value in row.items()}
            if table == "customer":
                found[key][b"invoices"] = [
                    {
                        **json_of(invoice),
                        "lines": [
                            json_of(line)
                            for line in rows(
                                database, "invoice_line", LINE, "invoice_id", invoice["invoice_id"]
                            )
                        ],
                    }
                    for invoice in rows(
                        database, "invoice", INVOICE, "customer_id", row["customer_id"]
                    )
                ]
    return found


def read(records: Mapping[bytes, Mapping[bytes, bytes]]) -> dict[bytes, dict[bytes, Any]]:
    """
    Records without what is the program's own, their invoices as JSON with every digit kept.
    """
    return {
        key: {
            name: json.loads(value, parse_float=Decimal) if name == b"invoices" else value
            for name, value in record.items()
            if name not in OURS
        }
        for key, record in records.items()
    }


def trimmed(database: Database) -> None:
    """
    PostgreSQL drops the blank of N'Edinburgh ' while it is loaded; the others keep it.
    """
    for table, column in (("customer", "city"), ("invoice", "billing_city")):
        city = spelled(database, column)
        database.execute(f"UPDATE {spelled(database, table)} SET {city} = trim({city})")


def made(
    folder: Path, database: Database, server: RedisServer
) -> tuple[Project, dict[bytes, dict[bytes, bytes]]]:
    """
    Init, lint, doctor and backfill, without an edit in between.
    """
    server.client().flushall()
    project = empty(folder, database, server)
    ran = init(project, database, "--json")
    assert ran.exit == 0, ran.err
    assert [(one["name"], one["children"], one["lookups"]) for one in ran.json["mappings"]] == [
        ("customer", ["invoices", "invoices.lines"], ["by_email"]),
        ("employee", [], ["by_email"]),
    ]
    assert project.run("mapping", "lint").exit == 0
    told = project.run("doctor", "--json")
    assert told.exit == 0, told.out
    for name, count in (("customer", 59), ("employee", 8)):
        copied = project.run("backfill", name, "--json")
        assert (copied.exit, copied.json["written"]) == (0, count), copied.err
    return project, hashes(server)


def test_init_alone_gives_customers_with_invoices_and_lines(
    tmp_path: Path, source: Database, redis_server: RedisServer, load_sample: Load
) -> None:
    """
    Every customer and employee is as SQL has them, invoices and lines in order, by code of ours.
    """
    load_sample(source)

    _, records = made(tmp_path / "user", source, redis_server)

    assert read(records) == expected(source)
    assert len(records[b"customer:1"]) > len(OURS)


def test_a_customer_is_found_by_the_address_that_init_saw(
    tmp_path: Path, source: Database, redis_server: RedisServer, load_sample: Load
) -> None:
    """
    Each e-mail address of SQL leads to the key of its record, and no other key is there.
    """
    load_sample(source)

    made(tmp_path / "user", source, redis_server)

    client = redis_server.client()
    found = {
        unquote_to_bytes(key): client.get(key)
        for key in client.scan_iter(count=1_000, _type="string")
        if not key.startswith(b"profile-migrate:")
    }
    assert found == {
        f"{table}:email:{row['email']}".encode(): f"{table}:{row[f'{table}_id']}".encode()
        for table in ("customer", "employee")
        for row in rows(source, table, (f"{table}_id", "email"))
    }


@pytest.mark.containers
def test_init_alone_is_enough_on_every_server(
    tmp_path: Path, any_source: Database, redis_server: RedisServer, load_sample: Load
) -> None:
    """
    The same holds for every version of the matrix.
    """
    load_sample(any_source)

    _, records = made(tmp_path / "user", any_source, redis_server)

    assert read(records) == expected(any_source)


@pytest.mark.containers
def test_every_source_gives_the_same_bytes(
    tmp_path: Path, servers: Servers, redis_server: RedisServer, load_sample: Load
) -> None:
    """
    From SQLite, PostgreSQL and MariaDB keys, fields, children and lookups are equal byte for byte.
    """
    found = []
    with servers.postgres().database() as postgres, servers.mariadb().database() as mariadb:
        for database in (SqliteDatabase(tmp_path / "source.db"), postgres, mariadb):
            load_sample(database)
            trimmed(database)
            _, records = made(tmp_path / database.dialect, database, redis_server)
            assert read(records) == expected(database)
            client = redis_server.client()
            lookups = {key: client.get(key) for key in client.scan_iter("*:email:*")}
            plain = {
                key: {name: value for name, value in record.items() if name != b"_h"}
                for key, record in records.items()
            }
            found.append((plain, lookups))
            assert isinstance(database, SqliteDatabase | PostgresDatabase | MariadbDatabase)

    assert found[1] == found[0]
    assert found[2] == found[0]
