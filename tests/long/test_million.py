"""
A million profiles from PostgreSQL: it completes, memory stays flat, and ten kills change nothing.

The same with two child tables, beside the flat table in the same run.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from tests import profiles
from tests.project import SHIPPED, Project, kill_all, poll, until_exit
from tests.servers import PostgresDatabase, RedisServer

pytestmark = pytest.mark.long

MANY = 1_000_000
FEW = 100_000
WORKERS = "2"
SEED = 20_261_121
PATIENCE_S = 1_800.0
DIFFERENT = 10_000


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


@dataclass(frozen=True, slots=True)
class Copied:
    """
    What a backfill took.

    Args:
        peaks: Highest resident kilobytes of its processes, smallest first.
    """

    peaks: list[int]
    rows: int
    seconds: float

    def is_flat(self, larger: Copied) -> bool:
        """
        Whether ten times as many rows took about the same memory.
        """
        pairs = zip(self.peaks, larger.peaks, strict=True)
        return all(large <= 1.3 * small for small, large in pairs)


def copy(project: Project, what: str) -> Copied:
    """
    Run a backfill to its end and print what it took.
    """
    report, peaks = _ran(project, 0, "backfill")
    return _told(what, peaks, int(report["rows"]), float(report["seconds"]))


def verify(project: Project, what: str, level: str, *, differ: int = 0) -> Copied:
    """
    Run a verification to its end, see that it finds so many, and print what it took.
    """
    report, peaks = _ran(project, 3 if differ else 0, "verify", "--level", level)
    assert report["counts"].get("DIFFERENT", 0) == differ
    rows = int(report["scope"]["compared"])
    return _told(f"verify {level}, {what}", peaks, rows, float(report["seconds"]))


def _ran(project: Project, exit_code: int, *command: str) -> tuple[Any, dict[int, int]]:
    name, *options = command
    arguments = (name, "user_profiles", *options, "--workers", WORKERS, "-q", "--json")
    with project.started(*arguments) as process:
        peaks = peak_memory(process)
        ended = until_exit(process, PATIENCE_S)
    assert ended.exit == exit_code, ended.err
    return ended.json, peaks


def _told(what: str, peaks: dict[int, int], rows: int, seconds: float) -> Copied:
    found = Copied(sorted(peak for peak in peaks.values() if peak > 40_000), rows, seconds)
    say(
        f"{what}: {found.rows:,} rows in {found.seconds:.1f} s, "
        f"{found.rows / found.seconds:,.0f} a second; peaks in kB {found.peaks}; "
        f"load {os.getloadavg()[0]:.1f}"
    )
    return found


def say(text: str) -> None:
    """
    Print a figure: it is what the run is for.
    """
    print(text)  # noqa: T201


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
    few = copy(user, "a tenth")
    database.execute("DROP TABLE user_profiles")
    profiles.create_postgres(database.execute, MANY)
    _forget(user, server)
    many = copy(user, "all")
    whole = digest(server)
    _forget(user, server)

    again = _killed_ten_times(user)

    say(f"records: {whole}; done again: {again} rows")
    assert few.is_flat(many)
    assert digest(server) == whole


def test_verification_leaves_memory_flat(
    project: tuple[Project, RedisServer, PostgresDatabase],
) -> None:
    """
    At both levels, and with 10,000 differences; the backfill's rate of the same run stands beside.
    """
    user, server, database = project
    profiles.create_postgres(database.execute, FEW)
    copy(user, "a tenth")
    few = {level: verify(user, "a tenth", level) for level in ("full", "deep")}
    database.execute("DROP TABLE user_profiles")
    profiles.create_postgres(database.execute, MANY)
    _forget(user, server)
    copied = copy(user, "all")
    many = {level: verify(user, "all", level) for level in ("full", "deep")}
    _spoil(server, DIFFERENT)
    spoiled = verify(user, f"all, {DIFFERENT:,} of them changed", "deep", differ=DIFFERENT)

    for level, found in many.items():
        rate = (found.rows / found.seconds) / (copied.rows / copied.seconds)
        say(f"verify {level}: {rate:.2f} of the backfill's rate")
    assert all(few[level].is_flat(found) for level, found in many.items())
    assert few["deep"].is_flat(spoiled)


def _spoil(server: RedisServer, count: int) -> None:
    """
    Change one field of so many records behind their digests.
    """
    client = server.client()
    left = count
    for keys in _pages(client.scan_iter("profile:*", 10_000)):
        chosen = sorted(keys)[:left][: len(keys) // 10]
        with client.pipeline(transaction=False) as pipeline:
            for key in chosen:
                pipeline.hset(key, "email", "nobody@example.com")
            pipeline.execute()
        left -= len(chosen)
    assert left == 0


def test_children_leave_memory_flat(
    project: tuple[Project, RedisServer, PostgresDatabase],
) -> None:
    """
    With two child tables too; every child is in its record, and the flat table says what it costs.
    """
    user, server, database = project
    flat_mapping = SHIPPED.read_text()
    user.mapping("user_profiles", flat_mapping + profiles.CHILDREN)
    profiles.create_postgres(database.execute, FEW)
    profiles.create_children(database.execute)
    few = copy(user, "a tenth with children")
    database.execute("DROP TABLE user_profiles, user_addresses, user_roles")
    profiles.create_postgres(database.execute, MANY)
    profiles.create_children(database.execute)

    _forget(user, server)
    user.mapping("user_profiles", flat_mapping)
    flat = copy(user, "all, flat")
    _forget(user, server)
    user.mapping("user_profiles", flat_mapping + profiles.CHILDREN)
    many = copy(user, "all with children")

    [(version,)] = database.query("SHOW server_version")
    [(addresses, positions)] = database.query(_of_moved("user_addresses", "position"))
    [(roles, letters)] = database.query(_of_moved("user_roles", "length(role)"))
    children = addresses + roles
    say(
        f"PostgreSQL {version}; {addresses:,} addresses and {roles:,} roles; with them "
        f"{(many.rows + children) / many.seconds:,.0f} rows of SQL a second"
    )
    assert few.is_flat(many)
    assert many.rows == flat.rows
    assert _children_in(server) == (many.rows, addresses, positions, roles, letters)


def _of_moved(table: str, number: str) -> str:
    return (
        f"SELECT count(*), sum({number}) FROM {table} JOIN user_profiles ON id = user_id "
        "WHERE deleted_at IS NULL"
    )


def _children_in(server: RedisServer) -> tuple[int, int, int, int, int]:
    """
    Records, addresses, the sum of their positions, roles, and the letters of these.
    """
    client = server.client()
    records, addresses, positions, roles, letters = 0, 0, 0, 0, 0
    for keys in _pages(client.scan_iter("profile:*", 10_000)):
        with client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hmget(key, "addresses", "roles")
            for there, held in pipeline.execute():
                places, names = json.loads(there), json.loads(held)
                records += 1
                addresses += len(places)
                positions += sum(place["position"] for place in places)
                roles += len(names)
                letters += sum(map(len, names))
    return records, addresses, positions, roles, letters


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
