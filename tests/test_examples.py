"""
The example mappings: each loads, and each moves the rows of a small shop.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from migrate.mapping.files import load
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
"""


def pairs(stored: dict[bytes, bytes]) -> dict[str, Any]:
    """
    The fields of a hash without our own.
    """
    found = {name.decode(): value.decode() for name, value in stored.items()}
    return {name: value for name, value in found.items() if name not in OURS}


OURS = {"_v", "_h", "mv", "mh"}

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
}


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
    found = {}
    for key in keys:
        if client.type(key) == b"string":
            values = json.loads(client.get(key))
            found[key] = {one: value for one, value in values.items() if one not in OURS}
        else:
            found[key] = pairs(client.hgetall(key))
    assert found == EXPECTED[example]
