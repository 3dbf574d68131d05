"""
Stores that say no, go away or lose data in the middle of a backfill.

The exit code says which, and the same command finishes the job later with nothing lost.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import parity, profiles
from tests.project import Project, until_exit
from tests.servers import PostgresDatabase, RedisServer

pytestmark = pytest.mark.slow

ROWS = 2_000
SLOW = "throttle: {rows_per_second: 800}"

Fresh = Callable[..., RedisServer]


def make_project(tmp_path: Path, server: RedisServer, extra: str = SLOW) -> Project:
    """
    The sample profiles on SQLite, the shipped mapping, and this Redis.
    """
    profiles.create_sqlite(tmp_path / "app.db", ROWS)
    project = Project(tmp_path / "user", f"sqlite:///{tmp_path}/app.db", server.url, extra=extra)
    project.shipped()
    return project


def finished(project: Project, server: RedisServer) -> bool:
    """
    The same command, with the brakes off, ends with 0 and every row is there.
    """
    project.configure(extra="")
    ran = project.run("backfill", "user_profiles", "--json")
    assert (ran.exit, ran.json["complete"]) == (0, True), ran.err
    return differences(project, server) == []


def differences(project: Project, server: RedisServer) -> list[parity.Difference]:
    if project.source_url.startswith("sqlite"):
        path = Path(project.source_url.removeprefix("sqlite:///"))
        rows = parity.sqlite_rows(path, profiles.QUERY)
    else:
        rows = parity.postgres_rows(project.source_url, profiles.QUERY)
    return parity.compare_hashes(rows, server.client(), profiles.key_of, profiles.TYPES)


def interrupt(project: Project, fault: Callable[[], object]) -> tuple[int, str, str]:
    """
    Start a slow backfill, break something once rows are saved, and see how it ends.
    """
    with project.started("backfill", "user_profiles", "--workers", "2") as process:
        project.wait_for_rows(1)
        fault()
        ended = until_exit(process)
    return ended.exit, ended.error, ended.err


def test_redis_without_memory_waits_and_ends_incomplete(tmp_path: Path, redis_fresh: Fresh) -> None:
    """
    OOM: the run waits, ends with 5, and goes on once there is memory.
    """
    server = redis_fresh(maxmemory="3mb")
    project = make_project(tmp_path, server, "throttle: {redis_memory: 100%}")

    ran = project.run("backfill", "user_profiles")

    assert (ran.exit, ran.error) == (5, "target-not-writable")
    assert "oom" in ran.err.lower()
    server.set(maxmemory="0")
    assert finished(project, server)


def test_the_throttle_stops_before_redis_is_full(tmp_path: Path, redis_fresh: Fresh) -> None:
    """
    Above the share of maxmemory the run pauses, says why, and ends with 5 when that does not help.
    """
    server = redis_fresh(maxmemory="4mb")
    project = make_project(tmp_path, server, "throttle: {redis_memory: 30%}")

    ran = project.run("backfill", "user_profiles")

    assert (ran.exit, ran.error) == (5, "target-not-writable")
    assert "redis_memory" in ran.err or "throttle" in ran.err
    server.set(maxmemory="0")
    assert finished(project, server)


def test_a_restart_of_redis_in_mid_run_is_waited_for_and_redone(
    tmp_path: Path, redis_fresh: Fresh
) -> None:
    """
    The run goes on by itself; what the restart may have lost is written again.
    """
    server = redis_fresh()
    project = make_project(tmp_path, server)
    project.configure(retry_for="30s")

    code, _, err = interrupt(project, server.restart)

    assert code == 0, err
    assert differences(project, server) == []


def test_a_restart_between_two_runs_has_its_partitions_redone(
    tmp_path: Path, redis_fresh: Fresh
) -> None:
    """
    What the old server took is not trusted: records that it lost are back after the next run.
    """
    server = redis_fresh()
    project = make_project(tmp_path, server, "")
    project.run("backfill", "user_profiles", "--limit", "500")
    client = server.client()
    lost = [key for key in client.scan_iter("profile:*", 1_000) if key.startswith(b"profile:1")]
    client.delete(*lost)
    client.close()
    server.restart()

    ran = project.run("backfill", "user_profiles", "--json")

    assert ran.exit == 0, ran.err
    assert ran.json["partitions_redone"] > 0
    assert differences(project, server) == []


def test_redis_that_comes_back_empty_stops_the_run_and_is_filled_again(
    tmp_path: Path, redis_fresh: Fresh
) -> None:
    """
    The fence is gone: nothing more is written, exit 5; the same command writes everything anew.
    """
    server = redis_fresh()
    project = make_project(tmp_path, server)
    project.configure(retry_for="30s")

    code, error, _ = interrupt(project, lambda: server.restart(empty=True))
    left = server.client().dbsize()

    assert (code, error) == (5, "target-lost-data")
    assert left == 0
    assert finished(project, server)


def test_a_flush_in_mid_run_stops_the_run(tmp_path: Path, redis_fresh: Fresh) -> None:
    """
    FLUSHALL changes no run id: the fence notices it.
    """
    server = redis_fresh()
    project = make_project(tmp_path, server)

    code, error, _ = interrupt(project, lambda: server.client().flushall())

    assert (code, error) == (5, "target-lost-data")
    assert finished(project, server)


def test_a_server_that_became_a_replica_takes_no_writes(tmp_path: Path, redis_fresh: Fresh) -> None:
    """
    READONLY in mid-run and at the start alike: 5, and done once it is a master again.
    """
    server, master = redis_fresh(), redis_fresh()
    project = make_project(tmp_path, server)
    # A replica that never reaches its master keeps its data.
    unreachable = ("127.0.0.1", "1")

    code, error, _ = interrupt(project, lambda: server.client().replicaof(*unreachable))
    again = project.run("backfill", "user_profiles")

    assert (code, error) == (5, "target-not-writable")
    assert (again.exit, again.error) == (5, "target-not-writable")
    assert master.client().dbsize() == 0
    server.client().replicaof("no", "one")
    assert finished(project, server)


@pytest.mark.parametrize("setting", ["min_replicas_to_write"])
def test_missing_replicas_are_waited_for(tmp_path: Path, redis_fresh: Fresh, setting: str) -> None:
    """
    NOREPLICAS ends with 5 and goes on when writes are taken again.
    """
    server = redis_fresh()
    project = make_project(tmp_path, server)

    code, error, _ = interrupt(project, lambda: server.set(**{setting: "1"}))

    assert (code, error) == (5, "target-not-writable")
    server.set(**{setting: "0"})
    assert finished(project, server)


def test_redis_that_is_away_is_waited_for_and_then_given_up(
    tmp_path: Path, redis_fresh: Fresh
) -> None:
    """
    Killed in mid-run: 6 after the patience; not there at the start: 6 as well.
    """
    server = redis_fresh()
    project = make_project(tmp_path, server)

    code, error, err = interrupt(project, server.kill)
    again = project.run("backfill", "user_profiles")

    assert (code, error) == (6, "target-unavailable")
    assert "waiting for the target" in err
    assert (again.exit, again.error) == (6, "target-unavailable")
    server.start()
    assert finished(project, server)


def test_a_wrong_password_is_said_at_once(tmp_path: Path, redis_fresh: Fresh) -> None:
    """
    No retries, exit 2, and the password in no output; with the right one the job is done.
    """
    server = redis_fresh(requirepass="right-canary")
    project = make_project(tmp_path, server, "")
    right = server.url
    project.configure(redis_url=right.replace("right-canary", "wrong-canary"), retry_for="60s")

    ran = project.run("backfill", "user_profiles")

    assert (ran.exit, ran.error) == (2, "target-access")
    assert "canary" not in ran.out + ran.err
    project.configure(redis_url=right)
    assert finished(project, server)


def test_a_password_that_changes_in_mid_run_ends_it(tmp_path: Path, redis_fresh: Fresh) -> None:
    """
    Connections that break meet the new password: 2, and the same command goes on with it.
    """
    server = redis_fresh(requirepass="first-canary")
    project = make_project(tmp_path, server)

    def change() -> None:
        client = server.client()
        client.config_set("requirepass", "second-canary")
        client.client_kill_filter(_type="normal", skipme=True)

    code, error, err = interrupt(project, change)

    assert (code, error) == (2, "target-access")
    assert "canary" not in err
    server.password = "second-canary"
    project.configure(redis_url=server.url)
    assert finished(project, server)


def test_a_restart_of_postgresql_is_waited_for(
    tmp_path: Path, postgres: PostgresDatabase, redis_fresh: Fresh
) -> None:
    """
    The run goes on by itself when the source is back in time.
    """
    server = redis_fresh()
    project = _postgres_project(tmp_path, postgres, server)
    project.configure(retry_for="60s")

    code, _, err = interrupt(project, postgres.server.restart)

    assert code == 0, err
    assert differences(project, server) == []


def test_postgresql_that_stays_away_ends_the_run(
    tmp_path: Path, postgres: PostgresDatabase, redis_fresh: Fresh
) -> None:
    """
    6 after the patience, and the same command finishes when it is back.
    """
    server = redis_fresh()
    project = _postgres_project(tmp_path, postgres, server)

    try:
        code, error, _ = interrupt(project, postgres.server.stop)
    finally:
        postgres.server.start()

    assert (code, error) == (6, "source-unavailable")
    assert finished(project, server)


def _postgres_project(tmp_path: Path, postgres: PostgresDatabase, server: RedisServer) -> Project:
    profiles.create_postgres(postgres.execute, ROWS)
    project = Project(tmp_path / "user", postgres.url, server.url, extra=SLOW)
    project.shipped()
    return project


def test_a_full_ledger_acknowledges_nothing_that_it_does_not_hold(
    tmp_path: Path, redis_fresh: Fresh
) -> None:
    """
    The ledger's file may not grow: 5, and with room the same command finishes.
    """
    server = redis_fresh()
    project = make_project(tmp_path, server, "")
    project.run("backfill", "user_profiles", "--limit", "100")
    _bad_rows(tmp_path / "app.db")
    small = (
        f'ledger: {{url: "sqlite:///{tmp_path}/user/.profile-migrate/ledger.db?max_page_count=1"}}'
    )
    project.configure(extra=small)

    ran = project.run("backfill", "user_profiles")

    assert (ran.exit, ran.error) == (5, "ledger-full")
    _bad_rows(tmp_path / "app.db", undo=True)
    project.configure(extra="")
    assert project.run("backfill", "user_profiles").exit == 0
    # The rows before the limit changed since: one more run brings them up to date.
    assert finished(project, server)


def _bad_rows(path: Path, *, undo: bool = False) -> None:
    """
    Make most rows rejects, which the ledger has to keep.
    """
    value = "7" if undo else "'not a number'"
    statement = f"UPDATE user_profiles SET follower_count = {value}"
    subprocess.run(
        [
            "python3",
            "-c",
            "import sqlite3,sys; c=sqlite3.connect(sys.argv[1]);c.execute(sys.argv[2]); c.commit()",
            str(path),
            statement,
        ],
        check=True,
        timeout=60,
    )
