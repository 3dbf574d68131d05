"""
The example mappings: each loads, fits the tables of a small shop, and moves their rows.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from migrate.mapping.compile import CompiledMapping, compile_mapping
from migrate.mapping.files import load
from migrate.model.values import Batch, KeyRange
from migrate.pipeline.scope import find_table
from migrate.source.store import SqlSource
from tests.project import Project
from tests.servers import RedisServer, SqliteDatabase

FOLDER = Path(__file__).parent.parent / "mappings" / "examples"

SHOP = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, email_address TEXT,
                        password_hash TEXT, last_seen TIMESTAMP);
CREATE TABLE customer_roles (customer_id INTEGER, role TEXT, PRIMARY KEY (customer_id, role));
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER, placed_at TIMESTAMP,
                     total NUMERIC(10, 2));
CREATE TABLE order_lines (order_id INTEGER, line INTEGER, sku TEXT, quantity INTEGER,
                          PRIMARY KEY (order_id, line));
INSERT INTO customers VALUES (1, 'Ada', 'ada@example.org', 'secret', '2024-01-02 03:04:05');
INSERT INTO customer_roles VALUES (1, 'editor'), (1, 'admin');
INSERT INTO orders VALUES (7, 1, '2024-01-01 00:00:00', 9.5);
INSERT INTO order_lines VALUES (7, 1, 'pen', 2), (7, 2, 'ink', 0);
CREATE TABLE vouchers (code TEXT NOT NULL PRIMARY KEY, customer_id INTEGER, valid_until TIMESTAMP);
INSERT INTO vouchers VALUES ('later', 1, '2199-01-01 00:00:00'), ('never', 1, NULL),
                            ('over', 1, '2001-01-01 00:00:00');
CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT, deleted_at TIMESTAMP, deleted_by TEXT);
INSERT INTO notes VALUES (1, 'kept', NULL, NULL), (2, 'gone', '2024-01-01 00:00:00', 'Ada');
CREATE TABLE tickets (id INTEGER PRIMARY KEY, subject TEXT);
INSERT INTO tickets VALUES (1, 'Help');
"""


def pairs(stored: dict[bytes, bytes]) -> dict[str, Any]:
    """
    The fields of a hash without our own.
    """
    found = {name.decode(): value.decode() for name, value in stored.items()}
    return {name: value for name, value in found.items() if name not in OURS}


OURS = {"_v", "_h", "mv", "mh", "_l", "_e"}

EXPECTED: dict[str, dict[str, dict[str, Any]]] = {
    "children": {
        "customer:1": {
            "name": "Ada",
            "email": "ada@example.org",
            "roles": '["admin","editor"]',
            "orders": '[{"id":7,"lines":[{"count":2,"sku":"pen"},{"count":0,"sku":"ink"}],'
            '"placed_at":"2024-01-01T00:00:00","total":9.50}]',
        }
    },
    "string_records": {"session:1": {"id": 1, "last_seen": 1704164645000, "name": "Ada"}},
    "masks": {
        "contact:1": {
            "name": "Ada",
            "email_address": sha256(b"ada@example.org").hexdigest(),
        }
    },
    "filters_and_keys": {"line:{7}:1": {"sku": "pen", "count": "2"}},
    "lookups": {
        "member:1": {
            "name": "Ada",
            "email": "ada@example.org",
            "last_seen": "2024-01-02T03:04:05",
        },
    },
    "ttl_column": {
        "voucher:later": {"customer_id": "1", "valid_until": "7226582400000"},
        "voucher:never": {"customer_id": "1"},
    },
    "ttl_seconds": {"login:1": {"name": "Ada", "email": "ada@example.org"}},
    "delete": {"note:1": {"body": "kept"}},
    "ids": {"ticket:1": {"subject": "Help"}},
}

ENTRIES: dict[str, dict[str, Any]] = {
    "lookups": {
        "member:email:ada@example.org": "member:1",
        "members:name:Ada": {"member:1"},
        "members:seen": [("member:1", 1704164645000.0)],
    },
    "ttl_seconds": {"login:email:ada@example.org": "login:1"},
}
"""The further keys of the examples with lookups."""

FOREVER = {"voucher:never"}
"""Records without an instant in the examples with a ttl."""


def test_every_example_is_expected_here() -> None:
    """
    None is shipped untested.
    """
    assert {file.stem for file in FOLDER.glob("*.yaml")} == set(EXPECTED)


@pytest.mark.parametrize("example", sorted(EXPECTED))
def test_an_example_moves_the_shop(
    tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer, example: str
) -> None:
    """
    Backfilled as it is shipped, it writes exactly these records.
    """
    sqlite.execute(SHOP)
    file = FOLDER / f"{example}.yaml"
    (name,) = load(file)
    project = Project(tmp_path / "user", sqlite.url, redis_server.url)
    project.mapping(name, file.read_text())

    ran = project.run("backfill", name)

    assert ran.exit == 0, ran.err
    client = redis_server.client()
    keys = {key.decode() for key in client.scan_iter()} - {f"profile-migrate:fence:{name}"}
    found = {key: held(client, key) for key in keys}
    assert found == EXPECTED[example] | ENTRIES.get(example, {})
    for key in keys if example.startswith("ttl_") else ():
        assert (client.pttl(key) == -1) == (key in FOREVER), key


def held(client: Any, key: str) -> Any:
    """
    What is under a key, our own fields left out.
    """
    match client.type(key):
        case b"string":
            text = client.get(key).decode()
            if not text.startswith("{"):
                return text
            return {one: value for one, value in json.loads(text).items() if one not in OURS}
        case b"set":
            return {member.decode() for member in client.smembers(key)}
        case b"zset":
            scored = client.zrange(key, 0, -1, withscores=True)
            return [(member.decode(), score) for member, score in scored]
        case _:
            return pairs(client.hgetall(key))


NOW = 1_700_000_000_000
"""The source's clock when the rows of an example are encoded, in milliseconds."""


def encoded(sqlite: SqliteDatabase, example: str) -> tuple[CompiledMapping, Batch]:
    """
    An example compiled against the shop, and its rows.
    """
    sqlite.execute(SHOP)
    (mapping,) = load(FOLDER / f"{example}.yaml").values()
    source = SqlSource.open(sqlite.config())
    try:
        table = find_table(source, mapping)
        compiled = compile_mapping(mapping, table, instant=NOW)
        extractor = source.extractor(compiled.query, table)
        return compiled, compiled.encode(extractor.read(KeyRange(), None, 10))
    finally:
        source.close()


@pytest.mark.parametrize("example", sorted(EXPECTED))
def test_an_example_fits_the_shop(sqlite: SqliteDatabase, example: str) -> None:
    """
    Compiled against its tables, every row becomes a record with the lookups that it says.
    """
    compiled, batch = encoded(sqlite, example)

    assert batch.rejects == []
    assert {record.key.decode() for record in batch.records} >= EXPECTED[example].keys()
    keys = {entry.key.decode() for record in batch.records for entry in record.entries}
    assert keys == ENTRIES.get(example, {}).keys()
    assert [compiled.record_key(key) for key in batch.keys] == [
        record.key for record in batch.records
    ]


@pytest.mark.parametrize(
    ("example", "instants"),
    [
        (
            "ttl_column",
            {"voucher:later": "7226582400000", "voucher:never": "", "voucher:over": "978307200000"},
        ),
        ("ttl_seconds", {"login:1": str(NOW + 86_400_000)}),
        ("lookups", {"member:1": ""}),
    ],
)
def test_an_example_says_when_its_records_expire(
    sqlite: SqliteDatabase, example: str, instants: dict[str, str]
) -> None:
    """
    From its column, from the beginning of the run, or never.
    """
    _, batch = encoded(sqlite, example)

    assert {r.key.decode(): r.expires.decode() for r in batch.records} == instants
