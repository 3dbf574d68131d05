"""
Whole backfills into a Cluster and behind Sentinel, with losses in the middle.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests import parity, profiles
from tests.project import Project, kill_all, until_exit
from tests.servers import RedisServer
from tests.topologies import RedisCluster, SentinelGroup

pytestmark = pytest.mark.containers
"""A Cluster of real servers takes seconds to start and to change: part of the matrix."""

ROWS = 3_000


@pytest.fixture
def people(tmp_path: Path) -> Project:
    """
    Generated profiles in SQLite, and the mapping that the project ships.
    """
    profiles.create_sqlite(tmp_path / "app.db", ROWS)
    made = Project(tmp_path / "user", f"sqlite:///{tmp_path}/app.db", "", retry_for="60s")
    made.shipped()
    return made


def rate(rows: int) -> str:
    """
    So many rows a second, so that a run lasts long enough to be met half-way.
    """
    return f"throttle: {{rows_per_second: {rows}}}"


def differences(people: Project, client: object) -> list[parity.Difference]:
    """
    Every row against its record.
    """
    path = Path(people.source_url.removeprefix("sqlite:///"))
    rows = parity.sqlite_rows(path, profiles.QUERY)
    return parity.compare_hashes(
        rows,
        client,  # type: ignore[arg-type]
        profiles.key_of,
        profiles.TYPES,
        match="profile:*",
    )


@contextmanager
def halfway(people: Project, *arguments: str) -> Iterator[None]:
    """
    A backfill that was killed in the middle.
    """
    command = ("backfill", "user_profiles", "-q", *arguments)
    with people.started(*command) as process:
        people.wait_for_rows(ROWS // 3)
        kill_all(process)
        until_exit(process)
    yield


def test_a_backfill_into_a_cluster(people: Project, redis_cluster: RedisCluster) -> None:
    """
    Every row has its record, on all three masters; a second run finds all of them the same.
    """
    people.configure(redis_keys=redis_cluster.yaml)

    first = people.run("backfill", "user_profiles", "--json")
    again = people.run("backfill", "user_profiles", "--json")

    assert (first.exit, first.json["complete"]) == (0, True), first.err
    assert again.exit == 0, again.err
    assert again.json["same"] == first.json["written"]
    with closing(redis_cluster.client()) as client:
        assert differences(people, client) == []


def test_a_node_that_loses_its_data_is_filled_again(
    people: Project, redis_cluster: RedisCluster
) -> None:
    """
    FLUSHALL on one master in the middle: the run goes on from the start, and all is there again.
    """
    people.configure(redis_keys=redis_cluster.yaml, extra=rate(1500))
    with halfway(people):
        redis_cluster.masters[1].client().flushall()

    ended = people.run("backfill", "user_profiles", "--json")

    assert (ended.exit, ended.json["complete"]) == (0, True), ended.err
    with closing(redis_cluster.client()) as client:
        assert differences(people, client) == []


def test_a_flush_of_one_node_during_a_run_ends_it(
    people: Project, redis_cluster: RedisCluster
) -> None:
    """
    Exit 5 as soon as a record of that node is written; the same command then completes it.
    """
    people.configure(redis_keys=redis_cluster.yaml, extra=rate(1000))
    with people.started("backfill", "user_profiles", "-q") as process:
        people.wait_for_rows(200)
        redis_cluster.masters[1].client().flushall()
        stopped = until_exit(process)

    ended = people.run("backfill", "user_profiles", "--json")

    assert (stopped.exit, stopped.error) == (5, "target-lost-data"), stopped.err
    assert (ended.exit, ended.json["complete"]) == (0, True), ended.err
    with closing(redis_cluster.client()) as client:
        assert differences(people, client) == []


def test_a_failover_of_one_master_during_a_run(
    people: Project, redis_cluster: RedisCluster
) -> None:
    """
    A master is killed, its replica promoted: the run waits, and repeats what may be lost.
    """
    people.configure(redis_keys=redis_cluster.yaml, extra=rate(1000))
    with people.started("backfill", "user_profiles", "--json") as process:
        people.wait_for_rows(500)
        redis_cluster.fail_over(redis_cluster.masters[1])
        ended = until_exit(process)

    assert (ended.exit, ended.json["complete"]) == (0, True), ended.err
    assert ended.json["partitions_redone"] > 0
    with closing(redis_cluster.client()) as client:
        assert differences(people, client) == []


def test_a_planned_failover_behind_sentinel_loses_nothing(
    people: Project, redis_sentinel: SentinelGroup
) -> None:
    """
    SENTINEL FAILOVER loses seconds of acknowledged writes: they are found and written again.
    """
    people.configure(redis_keys=redis_sentinel.yaml, extra=rate(300))
    promoted: RedisServer = redis_sentinel.replicas["main"]
    with people.started("backfill", "user_profiles", "--json") as process:
        people.wait_for_rows(300)
        redis_sentinel.fail_over("main")
        ended = until_exit(process)

    assert (ended.exit, ended.json["complete"]) == (0, True), ended.err
    assert ended.json["partitions_redone"] > 0
    assert promoted.client().info("replication")["role"] == "master"
    assert differences(people, promoted.client()) == []


def test_a_purge_takes_everything_out_of_a_cluster(
    people: Project, redis_cluster: RedisCluster
) -> None:
    """
    Every record of every node goes, and what others wrote stays.
    """
    people.configure(redis_keys=redis_cluster.yaml)
    assert people.run("backfill", "user_profiles").exit == 0
    with closing(redis_cluster.client()) as client:
        client.set("profile:theirs", "x")

        purged = people.run("rollback", "user_profiles", "--purge", "--yes")

        assert purged.exit == 0, purged.err
        left = {key for key in client.scan_iter("*", 5_000) if not key.startswith(b"profile-migr")}
    assert left == {b"profile:theirs"}


def test_a_mapping_that_does_not_fit_a_cluster_is_refused(
    people: Project, redis_cluster: RedisCluster
) -> None:
    """
    A set without the record's hash tag: exit 4, and not even a fence is written.
    """
    people.configure(redis_keys=redis_cluster.yaml)
    text = people.folder / "mappings" / "user_profiles.yaml"
    text.write_text(text.read_text() + 'lookups: {by_mail: {type: set, key: "mail:{email}"}}\n')

    refused = people.run("backfill", "user_profiles")

    assert (refused.exit, refused.error) == (4, "refused"), refused.err
    with closing(redis_cluster.client()) as client:
        assert list(client.scan_iter("*")) == []
