"""
MariaDB as a source of the main job: every row against its record, by rules of the tests' own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import parity, profiles
from tests.project import Project
from tests.servers import Database, MariadbDatabase, RedisServer

ROWS = 2_000
MOVED = "deleted_at IS NULL"

CUSTOMERS = """
version: 1
name: customers
source: {table: Customer, key: [CustomerId]}
target: {key: "customer:{CustomerId}", type: hash}
"""

CUSTOMER_TYPES = {
    **dict.fromkeys(("CustomerId", "SupportRepId"), "integer"),
    **dict.fromkeys(("FirstName", "LastName", "Company", "Address", "City", "State"), "text"),
    **dict.fromkeys(("Country", "PostalCode", "Phone", "Fax", "Email"), "text"),
}

ODD = """
version: 1
name: odd
source: {table: odd, key: [id]}
target: {key: "odd:{id}", type: hash}
"""


def compare(database: MariadbDatabase, redis_server: RedisServer) -> list[parity.Difference]:
    """
    What is in SQL and not so in Redis, or the other way round.
    """
    rows = parity.mariadb_rows(database.url, profiles.QUERY)
    client = redis_server.client()
    return parity.compare_hashes(rows, client, profiles.key_of, profiles.TYPES)


def moved(database: MariadbDatabase, folder: Path, redis_server: RedisServer) -> Project:
    """
    A project that has moved the generated profiles.
    """
    profiles.create_mariadb(database.execute, ROWS)
    project = Project(folder / "user", database.url, redis_server.url)
    project.shipped()
    ran = project.run("backfill", "user_profiles", "--workers", "2", "--json")
    [(count,)] = database.query(f"SELECT count(*) FROM user_profiles WHERE {MOVED}")
    assert (ran.exit, ran.json["complete"]) == (0, True), ran.err
    assert ran.json["written"] == count > ROWS * 0.8
    return project


def test_every_row_is_its_record_and_stays_so(
    tmp_path: Path, mariadb: MariadbDatabase, redis_server: RedisServer
) -> None:
    """
    Field by field in both directions; changed rows replace their records and no others.
    """
    project = moved(mariadb, tmp_path, redis_server)
    assert compare(mariadb, redis_server) == []
    mariadb.execute(
        "UPDATE user_profiles SET display_name = NULL, score = 1.25, avatar = X'00', "
        "follower_count = IF(follower_count = 7, 8, 7) WHERE id % 10 = 0"
    )
    [(changed,)] = mariadb.query(
        f"SELECT count(*) FROM user_profiles WHERE {MOVED} AND id % 10 = 0"
    )

    again = project.run("backfill", "user_profiles", "--json")

    assert (again.exit, again.json["replaced"], again.json["written"]) == (0, changed, 0)
    assert compare(mariadb, redis_server) == []


def test_real_customers_are_records(
    tmp_path: Path,
    mariadb: MariadbDatabase,
    redis_server: RedisServer,
    load_sample: Callable[[Database], None],
) -> None:
    """
    Rows of other people's making, in the character set that their script asks for.
    """
    load_sample(mariadb)
    project = Project(tmp_path / "user", mariadb.url, redis_server.url)
    project.mapping("customers", CUSTOMERS)

    ran = project.run("backfill", "customers", "--json")

    assert (ran.exit, ran.json["written"]) == (0, 59), ran.err
    assert not parity.compare_hashes(
        parity.mariadb_rows(mariadb.url, "SELECT * FROM Customer"),
        redis_server.client(),
        lambda row: f"customer:{row['CustomerId']}",
        CUSTOMER_TYPES,
    )
    assert redis_server.client().hget("customer:1", "City") == "São José dos Campos".encode()


def test_rows_that_cannot_be_moved_are_named(
    tmp_path: Path, mariadb: MariadbDatabase, redis_server: RedisServer
) -> None:
    """
    Each value that SQL should not hold costs its row only, with the reason; the rest is complete.
    """
    mariadb.execute(
        """
        CREATE TABLE odd (id BIGINT UNSIGNED PRIMARY KEY, flag BOOLEAN, born DATE, shift TIME,
                          word VARCHAR(9) CHARACTER SET utf8mb4);
        INSERT INTO odd VALUES
            (18446744073709551615, TRUE, '2024-02-29', '10:00:00', '😀'),
            (1, 2, NULL, NULL, NULL), (2, NULL, '0000-00-00', NULL, NULL),
            (3, NULL, NULL, '-10:00:00', NULL), (4, NULL, NULL, NULL, _utf8mb4 X'EDA080'),
            (0, FALSE, NULL, NULL, '')
        """
    )
    project = Project(
        tmp_path / "user", mariadb.url.replace("mariadb", "mysql", 1), redis_server.url
    )
    project.mapping("odd", ODD)

    ran = project.run("backfill", "odd", "--json")

    client = redis_server.client()
    found = {key: client.hgetall(key) for key in client.scan_iter("odd:*")}
    for record in found.values():
        del record[b"_v"], record[b"_h"]
    assert (ran.exit, ran.json["written"]) == (3, 2), ran.err
    assert ran.json["open_rejects"] == {
        "bad-date": 1, "invalid-utf8": 1, "out-of-range": 1, "wrong-type": 1,
    }  # fmt: skip
    assert found == {
        b"odd:0": {b"id": b"0", b"flag": b"0", b"word": b""},
        b"odd:18446744073709551615": {
            b"id": b"18446744073709551615", b"flag": b"1", b"born": b"2024-02-29",
            b"shift": b"10:00:00", b"word": "😀".encode(),
        },
    }  # fmt: skip


@pytest.mark.parametrize(("command", "said"), [("doctor", "mariadb 1"), ("plan", "user_profiles")])
def test_the_commands_beside_it_know_the_dialect(
    tmp_path: Path, mariadb: MariadbDatabase, redis_server: RedisServer, command: str, said: str
) -> None:
    """
    Doctor and plan find nothing wrong with a plain table.
    """
    profiles.create_mariadb(mariadb.execute, 200)
    project = Project(tmp_path / "user", mariadb.url, redis_server.url)
    project.shipped()

    ran = project.run(command)

    assert ran.exit == 0, ran.out + ran.err
    assert said in ran.out


@pytest.mark.containers
@pytest.mark.parametrize("any_source", ["mariadb-10.11", "mariadb-11.8"], indirect=True)
def test_every_pair_gives_the_same(
    tmp_path: Path, any_source: MariadbDatabase, any_redis: RedisServer
) -> None:
    """
    The same holds for every MariaDB and every server of the matrix.
    """
    moved(any_source, tmp_path, any_redis)

    assert compare(any_source, any_redis) == []
