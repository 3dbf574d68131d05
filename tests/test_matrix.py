"""
The main job on every supported pair of a source and a target: each row against its record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests import parity, profiles
from tests.edges import EVERY_REDIS, EVERY_SOURCE, records_of
from tests.project import Project
from tests.servers import Database, RedisServer, Servers, SqliteDatabase

pytestmark = [
    pytest.mark.containers,
    pytest.mark.parametrize("any_source", EVERY_SOURCE, indirect=True),
]

ROWS = 3_000
MOVED = "deleted_at IS NULL"


@pytest.fixture
def people(any_source: Database) -> Database:
    """
    The generated profiles, in this source.
    """
    if isinstance(any_source, SqliteDatabase):
        profiles.create_sqlite(any_source.path, ROWS)
    else:
        profiles.create_postgres(any_source.execute, ROWS)
    return any_source


@pytest.fixture
def project(tmp_path: Path, people: Database, any_redis: RedisServer) -> Project:
    """
    The shipped mapping between this source and this Redis.
    """
    made = Project(tmp_path / "user", people.url, any_redis.url)
    made.shipped()
    return made


def rows_of(database: Database) -> Iterator[parity.Row]:
    """
    The rows that should have a record, by a driver of our own.
    """
    if isinstance(database, SqliteDatabase):
        return parity.sqlite_rows(database.path, profiles.QUERY)
    return parity.postgres_rows(database.url, profiles.QUERY)


def differences(database: Database, server: RedisServer) -> list[parity.Difference]:
    """
    What is in SQL and not so in Redis, or the other way round.
    """
    rows: Iterable[parity.Row] = rows_of(database)
    client = server.client()
    return parity.compare_hashes(rows, client, profiles.key_of, profiles.TYPES)


def count(database: Database, condition: str = MOVED) -> int:
    """
    How many profiles there are of this kind.
    """
    [(number,)] = database.query(f"SELECT count(*) FROM user_profiles WHERE {condition}")
    return int(number)


def test_every_row_is_its_record_and_stays_so(
    project: Project, people: Database, any_redis: RedisServer
) -> None:
    """
    Field by field in both directions; a second run finds every record the same.
    """
    first = project.run("backfill", "user_profiles", "--workers", "2", "--json")
    found = differences(people, any_redis)
    second = project.run("backfill", "user_profiles", "--json")

    moved = count(people)
    assert (first.exit, first.json["complete"], first.json["written"]) == (0, True, moved)
    assert 0 < moved < ROWS
    assert found == []
    assert (second.exit, second.json["same"], second.json["rows"]) == (0, moved, moved)


def test_changed_rows_replace_their_records(
    project: Project, people: Database, any_redis: RedisServer
) -> None:
    """
    After changes exactly the changed rows are replaced and the new one is written.
    """
    project.run("backfill", "user_profiles")
    changed = count(people, f"{MOVED} AND id % 10 = 0")
    before = count(people)
    people.execute(
        "UPDATE user_profiles SET display_name = NULL, bio = '', avatar = NULL, score = 1.25, "
        "follower_count = CASE WHEN follower_count = 7 THEN 8 ELSE 7 END WHERE id % 10 = 0"
    )
    people.execute(
        "INSERT INTO user_profiles (id, email_address, created_at) "
        "VALUES (-9007199254740993, 'né@example.org', '2024-02-29 23:59:59.999999+00')"
    )

    ran = project.run("backfill", "user_profiles", "--json")

    counts = {name: ran.json[name] for name in ("written", "replaced", "same", "stale")}
    assert (ran.exit, changed > 0) == (0, True), ran.err
    assert counts == {"written": 1, "replaced": changed, "same": before - changed, "stale": 0}
    assert differences(people, any_redis) == []


def test_keys_that_are_not_ours_cost_only_their_rows(
    project: Project, people: Database, any_redis: RedisServer
) -> None:
    """
    A foreign string and a foreign hash keep their bytes; all other rows are there.
    """
    [(low,), (high,)] = people.query(
        f"SELECT id FROM user_profiles WHERE {MOVED} AND id IN "
        f"((SELECT min(id) FROM user_profiles WHERE {MOVED}), "
        f"(SELECT max(id) FROM user_profiles WHERE {MOVED})) ORDER BY id"
    )
    client = any_redis.client()
    client.set(f"profile:{low}", "theirs")
    client.hset(f"profile:{high}", "theirs", "1")
    foreign = [client.dump(f"profile:{key}") for key in (low, high)]

    ran = project.run("backfill", "user_profiles", "--json")

    assert (ran.exit, ran.json["open_rejects"]) == (3, {"collision": 2})
    assert ran.json["written"] == count(people) - 2
    assert [client.dump(f"profile:{key}") for key in (low, high)] == foreign
    keys = {difference.key for difference in differences(people, any_redis)}
    assert keys == {f"profile:{low}", f"profile:{high}"}


def test_every_redis_holds_the_same_bytes(
    tmp_path: Path, people: Database, servers: Servers
) -> None:
    """
    One source gives the same records, digests included, on all four servers.
    """
    found = []
    for name in EVERY_REDIS:
        server = servers.redis(name)
        project = Project(tmp_path / name, people.url, server.url)
        project.shipped()
        assert project.run("backfill", "user_profiles").exit == 0
        found.append(records_of(server))

    assert len(found[0]) == count(people)
    assert all(records == found[0] for records in found[1:])
