"""
A million profiles from PostgreSQL: it completes, memory stays flat, and ten kills change nothing.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path

import pytest

from tests import profiles
from tests.project import Project, kill_all, poll, until_exit
from tests.servers import PostgresDatabase, RedisServer

pytestmark = pytest.mark.long

MANY = 1_000_000
FEW = 100_000
WORKERS = "2"
SEED = 20_261_121
PATIENCE_S = 1_800.0


def digest(server: RedisServer) -> tuple[int, str]:
    """
    How many records there are, and a digest over all of them that no order changes.
    """
    client = server.client()
    total, count = 0, 0
    for keys in _pages(client.scan_iter("profile:*", 10_000)):
        with client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hgetall(key)
            for key, fields in zip(keys, pipeline.execute(), strict=True):
                text = repr((key, sorted(fields.items()))).encode()
                total ^= int.from_bytes(blake2b(text, digest_size=16).digest(), "big")
                count += 1
    return count, f"{total:032x}"


def _pages(keys: Iterator[bytes]) -> Iterator[list[bytes]]:
    page: list[bytes] = []
    for key in dict.fromkeys(keys):
        page.append(key)
        if len(page) == 2_000:
            yield page
            page = []
    yield page


def peak_memory(process: subprocess.Popen[str]) -> dict[int, int]:
    """
    Highest resident kilobytes of a process and each of its children, while it runs.
    """
    peaks: dict[int, int] = {}
    while process.poll() is None:
        for pid in [process.pid, *_children(process.pid)]:
            peaks[pid] = max(peaks.get(pid, 0), _high_water(pid))
        poll(0.2)
    return peaks


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(word) for word in text.split()]


def _high_water(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def copy(project: Project) -> list[int]:
    """
    Run a backfill to its end and give the peaks of its processes, smallest first.
    """
    with project.started("backfill", "user_profiles", "--workers", WORKERS, "-q") as process:
        peaks = peak_memory(process)
        ended = until_exit(process, PATIENCE_S)
    assert ended.exit == 0, ended.err
    print(ended.out)  # noqa: T201 - the figures are what the run is for
    return sorted(peak for peak in peaks.values() if peak > 40_000)


@pytest.fixture
def project(
    tmp_path: Path, postgres: PostgresDatabase, redis_fresh: Callable[..., RedisServer]
) -> tuple[Project, RedisServer, PostgresDatabase]:
    """
    An empty database, an empty Redis and the shipped mapping.
    """
    server = redis_fresh()
    made = Project(tmp_path / "user", postgres.url, server.url, retry_for="60s")
    made.shipped()
    return made, server, postgres


def test_memory_is_flat_and_ten_kills_change_nothing(
    project: tuple[Project, RedisServer, PostgresDatabase],
) -> None:
    """
    Peaks stay within 1.3 times those of a tenth, and the records equal those of an unkilled run.
    """
    user, server, database = project
    profiles.create_postgres(database.execute, FEW)
    few = copy(user)
    database.execute("DROP TABLE user_profiles")
    profiles.create_postgres(database.execute, MANY)
    _forget(user, server)
    many = copy(user)
    whole = digest(server)
    _forget(user, server)

    again = _killed_ten_times(user)

    print(f"peaks in kB: {few} and {many}; records: {whole}; done again: {again} rows")  # noqa: T201
    assert len(few) == len(many)
    assert all(large <= 1.3 * small for small, large in zip(few, many, strict=True))
    assert digest(server) == whole


def _forget(user: Project, server: RedisServer) -> None:
    server.client().flushall()
    ledger = user.folder / ".profile-migrate"
    for path in ledger.iterdir():
        path.unlink()


def _killed_ten_times(user: Project) -> int:
    """
    Kill the run ten times, every other time with its workers, then let it end.

    Returns:
        Records that the runs wrote or found beyond one a row: chunks that were done twice.
    """
    chance = random.Random(SEED)
    for number in range(10):
        with user.started("backfill", "user_profiles", "--workers", WORKERS, "-q") as process:
            poll(chance.uniform(1.0, 4.0))
            process.kill() if number % 2 else kill_all(process)
            until_exit(process)
    last = user.run("backfill", "user_profiles", "--workers", WORKERS, "--json")
    assert (last.exit, last.json["complete"]) == (0, True), last.err
    status = user.run("status", "--json").json["mappings"][0]["run"]
    # SAME and REPLACED are records that an earlier chunk had written and not saved.
    again = int(status["same"]) + int(status["replaced"])
    # A worker has one chunk in flight; each kill meets at most one of each worker.
    assert again <= 10 * int(WORKERS) * 5_000
    return again
