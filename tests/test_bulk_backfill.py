"""
Ready payloads and the script leave the same behind: records, rejects, and what a second run finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests import profiles
from tests.project import Project
from tests.servers import (
    Database,
    MariadbDatabase,
    PostgresDatabase,
    RedisServer,
    SqliteDatabase,
)

ROWS = 3_000

EVERYTHING = """
version: 1
name: user_profiles
source: {table: user_profiles, key: [id]}
target: {key: "profile:{id}"}
"""

TEXT = EVERYTHING.replace('{id}"}', '{id}", type: string}')


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def project(
    request: pytest.FixtureRequest, tmp_path: Path, bulk_redis: RedisServer
) -> Iterator[tuple[Project, Database, redis.Redis]]:
    """
    Awkward profiles, some of them rejects, and a Redis that takes payloads.
    """
    database: Database = request.getfixturevalue(request.param)
    match database:
        case SqliteDatabase():
            profiles.create_sqlite(database.path, ROWS, with_rejects=True)
        case PostgresDatabase():
            profiles.create_postgres(database.execute, ROWS)
        case MariadbDatabase():
            profiles.create_mariadb(database.execute, ROWS)
    made = Project(tmp_path / "user", database.url, bulk_redis.url)
    made.mapping("user_profiles", EVERYTHING)
    client = bulk_redis.client()
    client.config_resetstat()
    yield made, database, client
    client.close()


def records(client: redis.Redis) -> dict[bytes, Any]:
    """
    Every record, whatever it is.
    """
    found = {}
    for key in client.scan_iter("profile:*", 1_000):
        found[key] = client.get(key) if client.type(key) == b"string" else client.hgetall(key)
    return found


def restored(client: redis.Redis) -> int:
    """
    How many payloads the server was given since it was last asked.
    """
    calls = client.info("commandstats").get("cmdstat_restore", {}).get("calls", 0)
    client.config_resetstat()
    return int(calls)


def copied(project: Project, client: redis.Redis, bulk: str) -> tuple[Any, Any, Any]:
    """
    What a first run leaves: records, open rejects, and how rows ended.
    """
    client.flushall()
    for path in (project.folder / ".profile-migrate").glob("*"):
        path.unlink()
    project.configure(extra=f"bulk: {bulk}")
    ran = project.run("backfill", "user_profiles", "--json")
    assert ran.exit in (0, 3), ran.err
    rejects = project.run("rejects", "list", "user_profiles", "--json").json
    kept = [(one["key"], one["column"], one["reason"]) for one in rejects["rejects"]]
    counts = {name: ran.json[name] for name in ("rows", "written", "same", "rejected")}
    return records(client), kept, counts


@pytest.mark.parametrize("mapping", [EVERYTHING, TEXT], ids=["hash", "string"])
def test_both_ways_leave_the_same(
    project: tuple[Project, Database, redis.Redis], mapping: str
) -> None:
    """
    Every byte of every record, every reject, every count; and most rows really went by payload.
    """
    user, _, client = project
    user.mapping("user_profiles", mapping)

    fast = copied(user, client, "auto")
    payloads = restored(client)
    plain = copied(user, client, "off")

    assert fast == plain
    assert len(fast[0]) > 0.9 * ROWS
    assert payloads > 0.8 * ROWS
    assert restored(client) == 0


def test_a_second_run_finds_everything_there(
    project: tuple[Project, Database, redis.Redis],
) -> None:
    """
    It changes no byte; a row that changed meanwhile is replaced, a record that went is written.
    """
    user, database, client = project
    before, _, counts = copied(user, client, "auto")
    changed, gone = sorted(before)[600], sorted(before)[900]
    number = changed.removeprefix(b"profile:").decode()
    database.execute(f"UPDATE user_profiles SET locale = 'xx-XX' WHERE id = {number}")
    client.delete(gone)

    ran = user.run("backfill", "user_profiles", "--json")

    after = records(client)
    assert ran.json["same"] == counts["written"] - 2
    assert (ran.json["replaced"], ran.json["written"]) == (1, 1)
    assert after[changed][b"locale"] == b"xx-XX"
    assert {key for key in before if before[key] != after[key]} == {changed}


def test_a_rate_limit_makes_small_transactions(
    project: tuple[Project, Database, redis.Redis],
) -> None:
    """
    Ten payloads each at 1,000 rows a second, so that other clients come in between.
    """
    user, _, client = project
    user.configure(extra="throttle: {rows_per_second: 1000}")

    ran = user.run("backfill", "user_profiles", "--json")

    assert ran.json["throttled_seconds"] > 0
    stats = client.info("commandstats")
    payloads, transactions = (stats[f"cmdstat_{name}"]["calls"] for name in ("restore", "exec"))
    assert payloads > 0.8 * ROWS
    assert payloads / 10 <= transactions <= payloads / 10 + 60


def test_a_key_that_is_not_ours_is_left(project: tuple[Project, Database, redis.Redis]) -> None:
    """
    RESTORE would have refused it as well; the row becomes a reject, and its value stays.
    """
    user, _, client = project
    key = sorted(copied(user, client, "auto")[0])[600]
    client.flushall()
    client.set(key, "somebody's")

    ran = user.run("backfill", "user_profiles", "--start-over", "--json")

    assert ran.json["open_rejects"]["collision"] == 1
    assert client.get(key) == b"somebody's"
    assert len(records(client)) > 0.9 * ROWS
