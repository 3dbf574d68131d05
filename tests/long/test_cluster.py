"""
A backfill into a Cluster while slots move and a master dies: every row has its record at the end.
"""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import pytest

from tests import parity, profiles
from tests.project import Project, Ran, until_exit
from tests.servers import PostgresDatabase
from tests.topologies import SLOTS, RedisCluster

pytestmark = pytest.mark.long

ROWS = 200_000
MOVED = 1_000
KILLED_AT = 400
RATE = 5_000
PATIENCE_S = 900.0
RUNS = 6


@pytest.fixture
def project(tmp_path: Path, postgres: PostgresDatabase, redis_cluster: RedisCluster) -> Project:
    """
    Generated profiles, a cluster, and the shipped mapping.
    """
    profiles.create_postgres(postgres.execute, ROWS)
    made = Project(
        tmp_path / "user",
        postgres.url,
        "",
        extra=f"throttle: {{rows_per_second: {RATE}}}",
        retry_for="60s",
        redis_keys=redis_cluster.yaml,
    )
    made.shipped()
    return made


def test_slots_move_and_a_master_dies(
    project: Project, redis_cluster: RedisCluster, postgres: PostgresDatabase
) -> None:
    """
    1,000 slots move, a master is killed -9, and the run, repeated where it stops, is complete.
    """
    began = time.monotonic()
    command = ("backfill", "user_profiles", "--workers", "2", "--json")
    with project.started(*command) as process:
        project.wait_for_rows(5_000)
        rows_then = [project.rows_done()]
        away_s = _disturb(redis_cluster)
        rows_then.append(project.rows_done())
        was_running = process.poll() is None
        ended = until_exit(process, PATIENCE_S)
    exits = [ended.exit]
    while ended.exit in (5, 6) and len(exits) < RUNS:
        ended = project.run(*command)
        exits.append(ended.exit)
    seconds = time.monotonic() - began

    assert (ended.exit, ended.json["complete"]) == (0, True), ended.err
    with closing(redis_cluster.client()) as client:
        found = parity.compare_hashes(
            parity.postgres_rows(postgres.url, profiles.QUERY),
            client,  # type: ignore[arg-type]
            profiles.key_of,
            profiles.TYPES,
            match="profile:*",
        )
        fences = sum(
            client.hget(key, "run") is not None
            for key in client.scan_iter("profile-migrate:fence:*", 5_000)
        )
    _print(ended, exits, seconds, rows_then, away_s)
    assert found == []
    assert fences == SLOTS
    assert was_running
    assert ended.json["partitions_redone"] > 0 or len(exits) > 1


def _disturb(cluster: RedisCluster) -> float:
    """
    Move slots from the first master to the third, and kill the second meanwhile.

    Returns:
        Seconds until its replica had taken over.
    """
    source, doomed, to = cluster.masters
    away_s = 0.0
    slots = [slot for slot in range(SLOTS // 3) if slot % 5 == 0][:MOVED]
    assert len(slots) == MOVED
    for number, slot in enumerate(slots):
        cluster.begin_move(slot, to)
        if number == KILLED_AT:
            # In the middle of a move, so that a slot is open while the cluster is down.
            began = time.monotonic()
            cluster.fail_over(doomed)
            away_s = time.monotonic() - began
        cluster.move_keys(source, slot, to)
        cluster.end_move(slot, to)
    return away_s


def _print(
    ended: Ran,
    exits: list[int],
    seconds: float,
    rows: list[int],
    away_s: float,
) -> None:
    counts = {name: ended.json[name] for name in ("written", "same", "replaced", "stale")}
    print(  # noqa: T201 - the figures are what the run is for
        f"{ROWS} rows in {seconds:.1f} s, exits {exits}; {MOVED} slots moved between rows "
        f"{rows[0]} and {rows[1]}; a master was away {away_s:.1f} s; last run: "
        f"{ended.json['partitions_redone']} partitions done again, {counts}"
    )
