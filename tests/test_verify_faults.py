"""
Verifications and repairs that are stopped, killed and cut off, and what they may tell of values.

Whatever happens in the middle, the same command run again gives what an undisturbed run gives.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis

from migrate.cli.signals import StopFlag
from migrate.errors import ExitCode
from migrate.ledger.store import Ledger
from migrate.pipeline.verify import Verifier
from migrate.source.extract import KeysetExtractor
from migrate.source.plain import PlainReader
from migrate.target.loader import ScriptLoader
from migrate.target.reader import RecordReader
from migrate.target.removal import Remover
from migrate.workers.stopping import StoppableClock
from tests import planted
from tests.captured import Captured
from tests.planted import DEEP, FULL
from tests.project import Project, kill_all, poll, until_exit
from tests.servers import PostgresDatabase, RedisServer, SqliteDatabase, wait_until
from tests.test_planted import contents, named
from tests.test_verify import verified_rows

pytestmark = pytest.mark.slow

LEVELS = ("count", FULL, DEEP)
REPAIR = ("repair", "people", "--yes", "--adopt", "--max-repairs", "500")
SLOW = "throttle: {rows_per_second: 500}"

Fresh = Callable[..., RedisServer]


@pytest.fixture
def project(tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer) -> Project:
    """
    A few people with orders and lookups, all of them in Redis.
    """
    return filled(tmp_path, sqlite, redis_server, 80)


def filled(
    tmp_path: Path, database: SqliteDatabase | PostgresDatabase, server: RedisServer, rows: int
) -> Project:
    """
    So many people in SQL and in Redis.
    """
    planted.create(database, rows)
    made = Project(tmp_path / "user", database.url, server.url)
    made.mapping("people", planted.MAPPING)
    assert made.run("backfill", "people").exit == ExitCode.DONE
    return made


def told(project: Project, level: str, *more: str) -> dict[str, Any]:
    """
    What a verification says, but for names and times.
    """
    ran = project.run("verify", "people", "--level", level, "--json", *more)
    found = ran.json
    return {
        "exit": ran.exit,
        **{name: found[name] for name in ("verdict", "complete", "counts", "kinds", "fields")},
        "compared": found["scope"]["compared"],
        "records": found["scope"]["records_redis"],
        "named": named(project),
    }


# --- how it ends ---------------------------------------------------------------------------------


NOBODY = planted.MAPPING.replace(
    "source: {table: people, key: [id]}",
    'source: {table: people, key: [id], where: "id < 0"}',
)


@pytest.mark.parametrize("level", [*LEVELS, "sample"])
def test_a_filter_that_selects_nothing_proves_nothing(
    tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer, level: str
) -> None:
    """
    No row passes `where`, so that nothing is compared: INCOMPLETE, exit 5, at every level.
    """
    planted.create(sqlite, 80)
    project = Project(tmp_path / "user", sqlite.url, redis_server.url)
    project.mapping("people", NOBODY)
    assert project.run("backfill", "people").exit == ExitCode.DONE
    sample = ("--sample", "10") if level == "sample" else ()

    ran = project.run("verify", "people", "--level", level, *sample, "--json")

    assert (ran.exit, ran.json["verdict"]) == (5, "INCOMPLETE"), ran.shown
    assert ran.json["not_checked"][0].startswith("Nothing was compared")
    again = project.run("verify", "people", "--level", level, *sample)
    assert again.exit == 5
    assert "Nothing was compared" in again.out
    [known] = project.run("status", "people", "--json").json["mappings"]
    assert known["verified"] == "not verified"


@pytest.fixture
def many(tmp_path: Path, sqlite: SqliteDatabase, redis_fresh: Fresh) -> tuple[Project, RedisServer]:
    """
    More people than one page holds, two of them not in a Redis of the test's own.
    """
    server = redis_fresh()
    made = filled(tmp_path, sqlite, server, 2_500)
    server.client().delete("person:7", "person:2499")
    made.configure(extra=SLOW)
    return made, server


def interrupted(
    project: Project, fault: Callable[[subprocess.Popen[str]], object], *more: str
) -> Any:
    """
    Start a slow verification, do something to it once a page is saved, and see how it ends.
    """
    before = verified_rows(project)
    with project.started("verify", "people", "--json", *more) as process:
        wait_until(lambda: verified_rows(project) > before, "a page that was compared")
        fault(process)
        return until_exit(process)


def is_finished(project: Project, run: str | None = None) -> None:
    """
    The same command ends with every row compared once and every finding named once.
    """
    project.configure(extra="")
    last = project.run("verify", "people", "--json")
    assert last.exit == ExitCode.DIFFERENCES, last.err
    assert last.json["scope"]["compared"] == 2_500
    assert {key for verdict, _, key, _ in named(project) if verdict == "MISSING"} == {
        "person:7",
        "person:2499",
    }
    assert last.json["counts"]["MISSING"] == 2
    assert last.json["counts"]["OK"] == 2_498
    assert run in (None, last.json["run"])


STOPS = [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, ExitCode.TERMINATED)]


@pytest.mark.parametrize(("number", "code"), STOPS)
def test_a_signal_lets_the_page_finish(
    many: tuple[Project, RedisServer], number: signal.Signals, code: ExitCode
) -> None:
    """
    130 and 143; what was compared is saved and the same command goes on behind it.
    """
    project = many[0]

    ended = interrupted(project, lambda process: os.kill(process.pid, number))

    assert ended.exit == code, ended.err
    assert (ended.json["verdict"], ended.json["complete"]) == ("MISMATCH", False)
    assert 0 < ended.json["scope"]["compared"] == verified_rows(project) < 2_500
    is_finished(project, ended.json["run"])


def test_redis_that_goes_away_in_mid_run_is_exit_6(many: tuple[Project, RedisServer]) -> None:
    """
    After the patience, with the pages that were compared kept; nothing is made up.
    """
    project, server = many

    ended = interrupted(project, lambda _: server.stop())
    again = project.run("verify", "people", "--json")

    assert (ended.exit, ended.error) == (6, "target-unavailable"), ended.err
    assert ended.out == ""
    assert (again.exit, again.error) == (6, "target-unavailable")
    server.start()
    is_finished(project)


def test_redis_that_comes_back_in_time_is_waited_for(many: tuple[Project, RedisServer]) -> None:
    """
    The verification goes on by itself.
    """
    project, server = many
    project.configure(retry_for="60s")

    ended = interrupted(project, lambda _: server.restart())

    assert ended.exit == ExitCode.DIFFERENCES, ended.err
    assert ended.json["counts"]["MISSING"] == 2
    assert ended.json["scope"]["compared"] == 2_500


def test_sql_that_goes_away_in_mid_run_is_exit_6(
    tmp_path: Path, postgres: PostgresDatabase, redis_server: RedisServer
) -> None:
    """
    After the patience; once it is back the same command finishes.
    """
    project = filled(tmp_path, postgres, redis_server, 2_500)
    redis_server.client().delete("person:7", "person:2499")
    project.configure(extra=SLOW)

    try:
        ended = interrupted(project, lambda _: postgres.server.stop())
        again = project.run("verify", "people")
    finally:
        postgres.server.start()

    assert (ended.exit, ended.error) == (6, "source-unavailable"), ended.err
    assert (again.exit, again.error) == (6, "source-unavailable")
    is_finished(project)


def test_nobody_verifies_or_repairs_under_a_backfill(many: tuple[Project, RedisServer]) -> None:
    """
    The mapping is held by another command: exit 7, and a killed one's rows are PENDING.
    """
    project, server = many
    project.run("verify", "people")
    server.client().flushall()
    folder = project.folder / ".profile-migrate"
    folder.rename(project.folder / "before")
    with project.started("backfill", "people") as process:
        project.wait_for_rows(1)
        held = [project.run("verify", "people"), project.run("repair", "people", "--yes")]
        kill_all(process)
        until_exit(process)
    rows = project.rows_done()

    ran = project.run("verify", "people", "--json")

    assert [(one.exit, one.error) for one in held] == [(7, "lock-held")] * 2
    assert (ran.exit, ran.json["verdict"]) == (5, "INCOMPLETE"), ran.err
    assert 0 < ran.json["counts"]["PENDING"] <= 2_500 - rows
    assert not {name for name in ran.json["counts"] if name not in ("OK", "PENDING")}


# --- killed --------------------------------------------------------------------------------------


class Died(BaseException):
    """
    The process ends here.
    """


@dataclass
class Fuse:
    """
    Ends the process before the n-th of the calls that go through it.

    Behind a call is before the next one: what reads in between leaves no trace.
    """

    at: int = 0
    calls: int = 0
    names: list[str] = field(default_factory=list)

    def wire(self, patched: pytest.MonkeyPatch, owner: type[Any], *names: str) -> None:
        """
        Send these methods of a class through it.
        """
        for name in names:
            patched.setattr(owner, name, self._wired(getattr(owner, name), name))

    def _wired(self, work: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            self.calls += 1
            self.names.append(name)
            if self.calls == self.at:
                raise Died
            return work(*args, **named)

        return call


KEPT: dict[type[Any], tuple[str, ...]] = {
    Ledger: (
        *("begin_run", "begin_verification", "claim", "add_partition", "save_checked"),
        *("keep_verification", "end_run"),
    ),
}
STEPS: dict[type[Any], tuple[str, ...]] = {
    **KEPT,
    KeysetExtractor: ("read", "fetch"),
    PlainReader: ("cells",),
    RecordReader: ("read", "links", "scan", "values"),
}


def small_pages(patched: pytest.MonkeyPatch, size: int) -> None:
    """
    Pages of so few rows and records that there are many places to die at.
    """
    read, scan = KeysetExtractor.read, RecordReader.scan

    def reads(self: Any, bounds: Any, cursor: Any, limit: int, *more: Any) -> Any:
        return read(self, bounds, cursor, min(limit, size), *more)

    def scans(self: Any, prefix: bytes) -> Iterator[list[bytes]]:
        for page in scan(self, prefix):
            for start in range(0, len(page), size):
                yield page[start : start + size]

    patched.setattr(KeysetExtractor, "read", reads)
    patched.setattr(RecordReader, "scan", scans)


@pytest.mark.parametrize("level", [FULL, DEEP])
def test_killed_before_anything_is_kept_it_tells_the_same(
    project: Project,
    sqlite: SqliteDatabase,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    level: str,
) -> None:
    """
    With every defect planted: counts, findings and rows are those of a run that was never killed.
    """
    planted.plant(sqlite, redis_server.client(), 80, 1)

    assert _killed_before(project, monkeypatch, level, KEPT, 50) == []


@pytest.mark.long
@pytest.mark.parametrize("level", [FULL, DEEP])
def test_killed_before_any_step_it_tells_the_same(
    project: Project,
    sqlite: SqliteDatabase,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    level: str,
) -> None:
    """
    Before every call of a store, whether it changes something or not.
    """
    planted.plant(sqlite, redis_server.client(), 80, 1)

    assert _killed_before(project, monkeypatch, level, STEPS, 30) == []


def _killed_before(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    level: str,
    steps: dict[type[Any], tuple[str, ...]],
    size: int,
) -> list[tuple[int, str, dict[str, Any]]]:
    """
    The steps before which a death changes the result, with what was told instead.
    """
    whole = told(project, level)
    assert (whole["exit"], whole["compared"]) == (3, 79)

    def run(fuse: Fuse) -> dict[str, Any]:
        with monkeypatch.context() as patched:
            small_pages(patched, size)
            for owner, names in steps.items():
                fuse.wire(patched, owner, *names)
            return told(project, level)

    counted = Fuse()
    assert run(counted) == whole
    assert set(counted.names) >= {"begin_run", "claim", "save_checked", "end_run"}
    wrong = []
    for at in range(1, counted.calls + 1):
        with pytest.raises(Died):
            run(Fuse(at))
        again = told(project, level)
        if again != whole:
            wrong.append((at, counted.names[at - 1], again))
    return wrong


def test_kill_9_at_any_moment_changes_no_result(
    tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    A real process, killed three times: the next one tells what was planted, each of it once.
    """
    project = filled(tmp_path, sqlite, redis_server, 2_500)
    expected = planted.plant(sqlite, redis_server.client(), 2_500, 3).expected[FULL]
    project.configure(extra="throttle: {rows_per_second: 1500}")
    _kill_verifications(project, random.Random(7), 3)
    project.configure(extra="")

    found = told(project, FULL)

    assert found["named"] == expected
    assert (found["exit"], found["compared"]) == (3, 2_497)
    assert found == told(project, FULL)


@pytest.mark.long
@pytest.mark.parametrize("level", [FULL, DEEP])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_storm_of_kills_changes_no_result(
    tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer, level: str, workers: str
) -> None:
    """
    Killed thirty times among 20,000 people, whoever holds which rows.
    """
    project = filled(tmp_path, sqlite, redis_server, 20_000)
    expected = planted.plant(sqlite, redis_server.client(), 20_000, 20).expected[level]
    project.configure(extra="throttle: {rows_per_second: 4000}")
    more = ("--level", level, "--workers", workers)
    _kill_verifications(project, random.Random(int(workers)), 30, *more)
    project.configure(extra="")

    found = told(project, level, "--workers", workers)

    assert found["named"] == expected
    assert (found["exit"], found["compared"]) == (3, 19_980)


def _kill_verifications(project: Project, moments: random.Random, times: int, *more: str) -> None:
    for _ in range(times):
        with project.started("verify", "people", "--json", *more) as process:
            # From its first instruction to its last: some are killed before they do anything.
            poll(moments.uniform(0.2, 3.0))
            kill_all(process)
            until_exit(process)


CHANGES: dict[type[Any], tuple[str, ...]] = {
    ScriptLoader: ("write",),
    Remover: ("remove", "release"),
    Ledger: ("note",),
}


def test_a_repair_killed_at_any_change_ends_mended(
    project: Project, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Before each call that changes something, and behind the last: run again, and all is right.
    """
    client = redis_server.client()
    client.set("person:not%ours", "theirs")
    clean = contents(client)
    whole = Fuse()
    for fuse in _fuses(whole):
        _restore(client, clean)
        touched = _spoil(client)
        assert project.run("verify", "people", "--level", DEEP).exit == ExitCode.DIFFERENCES
        with monkeypatch.context() as patched:
            for owner, names in CHANGES.items():
                fuse.wire(patched, owner, *names)
            if fuse is whole:
                assert project.run(*REPAIR).exit == ExitCode.DONE
            else:
                with pytest.raises(Died):
                    project.run(*REPAIR)
        if fuse is not whole:
            _mend(project)
        last = project.run("verify", "people", "--level", DEEP, "--json")
        where = f"call {fuse.at} of {whole.names}"
        assert (last.exit, named(project)) == (ExitCode.DONE, set()), f"{where}\n{last.shown}"
        after = contents(client)
        kept = {key for key in clean if key not in touched and not key.startswith(b"people-city:")}
        assert {key for key in kept if after.get(key) != clean[key]} == set()
    assert set(whole.names) >= {"write", "remove", "release", "note"}
    assert project.run("journal", "verify").exit == ExitCode.DONE


def _fuses(whole: Fuse) -> Iterator[Fuse]:
    """
    First a whole repair, that counts the calls; then one for each of them.
    """
    yield whole
    for at in range(1, whole.calls + 1):
        yield Fuse(at)


def _mend(project: Project) -> None:
    """
    What a person does after a repair that died: repair again, or verify and repair.
    """
    again = project.run(*REPAIR)
    if again.exit == ExitCode.DONE:
        return
    assert again.error == "refused", again.shown
    project.run("verify", "people", "--level", DEEP)
    assert project.run(*REPAIR).exit == ExitCode.DONE


def _restore(client: redis.Redis, wanted: dict[bytes, bytes]) -> None:
    """
    Every key as it was, but for the fence.
    """
    for key in client.scan_iter(count=5_000):
        if b":fence:" not in key:
            client.delete(key)
    for key, dumped in wanted.items():
        client.restore(key, 0, dumped)


def _spoil(client: redis.Redis) -> set[bytes]:
    """
    One of everything that is mended in a way of its own, in Redis alone.
    """
    client.delete("person:1")
    client.hset("person:4", "name", "another")
    client.delete("person:7")
    client.rpush("person:7", "a")
    client.hset("person:900", mapping={"_v": "1", "_h": "0123456789abcdef", "name": "x"})
    client.set("person-email:left@example.org", "person:16")
    return {b"person:1", b"person:4", b"person:7"}


# --- what a repair mends, and what it leaves -----------------------------------------------------


def everything(client: redis.Redis) -> dict[bytes, bytes]:
    """
    Every key, fences too, as Redis would dump it.
    """
    return {key: client.dump(key) for key in client.scan_iter(count=5_000)}


def verified(project: Project) -> str:
    """
    What `status` says of the proof.
    """
    [one] = project.run("status", "people", "--json").json["mappings"]
    return str(one["verified"])


def repaired(project: Project, *more: str) -> dict[str, Any]:
    """
    What a repair did.
    """
    ran = project.run("repair", "people", "--yes", "--json", *more)
    found = ran.json
    return {"exit": ran.exit, "mended": found["mended"], "left": found["left"]}


def test_captured_versions_are_overruled_only_when_asked(
    tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    Content that says it is the same version stays and is counted, until --force-version.
    """
    planted.create(sqlite, 80)
    Captured(sqlite)
    project = Project(tmp_path / "user", sqlite.url, redis_server.url)
    project.mapping("people", planted.MAPPING)
    assert project.run("backfill", "people").exit == ExitCode.DONE
    client = redis_server.client()
    client.hset("person:4", "name", "behind the digest")
    client.hset("person:7", mapping={"name": "another", "_h": "0123456789abcdef"})
    client.delete("person:10")
    assert project.run("verify", "people", "--level", DEEP).exit == ExitCode.DIFFERENCES

    asked = repaired(project)
    assert (asked["exit"], asked["left"]) == (3, {"needs-force-version": 2})
    assert client.hget("person:4", "name") == b"behind the digest"
    assert client.hgetall("person:10")
    assert project.run("verify", "people", "--level", DEEP).exit == ExitCode.DIFFERENCES
    forced = repaired(project, "--force-version")

    assert (forced["exit"], forced["left"]) == (0, {})
    last = project.run("verify", "people", "--level", DEEP)
    assert (last.exit, named(project)) == (ExitCode.DONE, set()), last.shown


def test_values_of_others_are_put_aside_only_when_asked(
    project: Project, redis_server: RedisServer
) -> None:
    """
    A list in the place of a record stays; with --adopt it is kept under another name.
    """
    client = redis_server.client()
    client.delete("person:4")
    client.rpush("person:4", "theirs")
    project.run("verify", "people")

    assert repaired(project)["left"] == {"refused-collision": 1}
    assert client.lrange("person:4", 0, -1) == [b"theirs"]
    project.run("verify", "people")
    assert repaired(project, "--adopt") == {"exit": 0, "mended": {"adopted": 1}, "left": {}}

    assert client.lrange("profile-migrate:adopted:people:person:4", 0, -1) == [b"theirs"]
    assert project.run("verify", "people", "--level", DEEP).exit == ExitCode.DONE


def test_a_dry_run_and_a_refusal_change_no_byte(
    project: Project, sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    With every defect there: neither --dry-run nor more keys than allowed touch Redis or a fence.
    """
    client = redis_server.client()
    planted.plant(sqlite, client, 80, 1)
    project.run("verify", "people", "--level", DEEP)
    client.persist("person:19")
    before = everything(client)

    dry = project.run("repair", "people", "--dry-run", "--json")
    capped = project.run("repair", "people", "--yes", "--max-repairs", "3")
    unasked = project.run("repair", "people")

    assert (dry.exit, dry.json["dry_run"]) == (0, True)
    assert dry.json["named"] > 20
    assert (capped.exit, capped.error) == (4, "refused")
    assert unasked.exit != ExitCode.DONE
    assert everything(client) == before


def test_a_repair_of_records_that_were_written_since_is_refused(
    project: Project, redis_server: RedisServer
) -> None:
    """
    What a verification named before the last backfill says nothing of the records behind it.
    """
    client = redis_server.client()
    client.hset("person:4", "name", "another")
    project.run("verify", "people", "--level", DEEP)
    assert project.run("backfill", "people").exit == ExitCode.DONE
    before = everything(client)

    ran = project.run(*REPAIR)

    assert (ran.exit, ran.error) == (4, "refused")
    assert "profile-migrate verify" in ran.err
    assert everything(client) == before


def test_rows_are_read_again_before_they_are_written(
    project: Project, sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    A row that was changed, deleted or inserted since the verification: what counts is now.
    """
    client = redis_server.client()
    client.hset("person:4", "name", "another")
    client.hset("person:7", "name", "another")
    client.delete("person:10")
    client.hset("person:900", mapping={"_v": "1", "_h": "0123456789abcdef", "name": "x"})
    project.run("verify", "people", "--level", DEEP)
    sqlite.execute(
        "UPDATE people SET name = 'Newest' WHERE id = 4; DELETE FROM people WHERE id IN (7, 10);"
        "DELETE FROM orders WHERE person IN (7, 10);"
        "INSERT INTO people VALUES (900, 'Nina', '900@example.org', 'City 1', 'n', 0.5, 1)"
    )

    found = repaired(project)

    assert (found["exit"], found["left"]) == (0, {})
    assert client.hget("person:4", "name") == b"Newest"
    assert client.hgetall("person:7").keys() == {b"_v", b"_t"}
    assert not client.exists("person:10")
    assert client.hget("person:900", "name") == b"Nina"
    last = project.run("verify", "people", "--level", DEEP)
    assert (last.exit, named(project)) == (ExitCode.DONE, set()), last.shown


def test_what_is_newer_in_redis_is_left_and_said(
    project: Project, redis_server: RedisServer
) -> None:
    """
    A split brain is nothing that a repair may decide: exit 3, the record keeps its bytes.
    """
    client = redis_server.client()
    client.hset("person:4", "_v", "77")
    project.run("verify", "people")
    before = client.dump("person:4")

    assert repaired(project, "--force-version", "--adopt") == {
        "exit": 3,
        "mended": {},
        "left": {"newer-in-redis": 1},
    }
    assert client.dump("person:4") == before


def test_a_repair_proves_nothing_and_a_second_changes_nothing(
    project: Project, redis_server: RedisServer
) -> None:
    """
    Not verified until the next verification, and nothing is written twice.
    """
    client = redis_server.client()
    assert project.run("verify", "people", "--level", DEEP).exit == ExitCode.DONE
    assert verified(project) == "verified"
    _spoil(client)
    project.run("verify", "people", "--level", DEEP)
    assert verified(project) != "verified"
    assert project.run(*REPAIR).exit == ExitCode.DONE
    after = contents(client)

    again = project.run(*REPAIR)

    assert again.exit == ExitCode.DONE or again.error == "refused", again.shown
    assert contents(client) == after
    assert verified(project) != "verified"
    assert project.run("verify", "people", "--level", DEEP).exit == ExitCode.DONE
    assert verified(project) == "verified"


# --- what it may tell ----------------------------------------------------------------------------

MARKER = "Kanarie-4711"


def test_no_value_is_told_or_kept(
    project: Project, sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    Not in outputs, the ledger, the journal, a report or a log, with every defect there.
    """
    client = redis_server.client()
    sqlite.execute(
        f"UPDATE people SET name = '{MARKER}-n' || id, email = '{MARKER}-' || id || '@x', "
        f"city = '{MARKER}-' || (id % 7), note = '{MARKER}'"
    )
    assert project.run("backfill", "people", "--start-over").exit == ExitCode.DONE
    for n in range(1, 40, 2):
        client.hset(f"person:{n}", mapping={"name": f"{MARKER} x", "note": f"{MARKER} y"})
    client.hset("person:2", "nickname", MARKER)
    client.set(f"person-email:{MARKER}-left@x", "person:4")
    client.set(f"person-email:{MARKER}-6@x", "person:8")
    client.srem(f"people-city:{MARKER}-3", "person:10")
    client.delete("person:12")
    client.set("person:14", MARKER)
    said = []
    for level in (FULL, DEEP):
        files = ("--report", "v.html", "--junit", "v.xml", "--summary", "v.md")
        said += [
            project.run("verify", "people", "--level", level, "--json"),
            project.run("verify", "people", "--level", level, *files, "-vv"),
        ]
    said += [project.run(*REPAIR, "-vv"), project.run("journal", "show", "people", "--json")]
    said += [project.run("status", "people", "--json"), project.run("report", "people")]

    assert [one.exit for one in said[:4]] == [3] * 4
    forms = [MARKER, MARKER.lower(), MARKER.encode().hex()]
    for one in said:
        assert not [form for form in forms if form in one.out + one.err], one.shown[:2_000]
    kept = [
        path.name
        for path, content in project.files()
        for form in forms[:2]
        if form.encode() in content
    ]
    assert kept == []


def test_a_bug_tells_no_value(
    project: Project, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Exit 1 with a trace file that shows where, and nothing of the rows that were at hand.
    """
    redis_server.client().hset("person:4", "name", MARKER)

    def broken(self: Verifier, expected: Sequence[Any], stored: Any, **_: Any) -> None:
        raise TypeError(f"cannot compare {[one.row for one in expected]}", stored.popitem())

    monkeypatch.setattr(Verifier, "_judged", broken)

    ran = project.run("verify", "people", "--level", DEEP, "-vv")

    assert (ran.exit, ran.error) == (1, "unexpected")
    assert "example.org" not in ran.out + ran.err
    assert MARKER not in ran.out + ran.err
    traces = [path for path, _ in project.files() if path.name.startswith("trace-")]
    assert len(traces) == 1
    text = traces[0].read_text(encoding="utf-8")
    assert "broken" in text
    assert "example.org" not in text
    assert MARKER not in text


# --- signals -------------------------------------------------------------------------------------


def test_a_signal_that_another_thread_takes_ends_the_wait() -> None:
    """
    The system gives a signal to any thread; the main one, which sleeps, wakes all the same.
    """
    clock = StoppableClock(lambda: None)
    began = clock.now()
    with StopFlag(announce="") as stop:
        taker = threading.Timer(
            0.2, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        )
        taker.start()
        stop.sleep(60)
        taker.join()

        assert stop.requested is ExitCode.TERMINATED
    assert clock.now() - began < 30


def test_a_signal_just_before_the_wait_ends_it() -> None:
    """
    However close to the beginning of the wait it comes, no wait is slept through.
    """
    clock = StoppableClock(lambda: None)
    began = clock.now()
    for _ in range(200):
        with StopFlag(announce="") as stop:
            taker = threading.Thread(
                target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            )
            taker.start()
            stop.sleep(60)
            taker.join()
            assert stop.requested is ExitCode.INTERRUPTED
    assert clock.now() - began < 30


def test_a_signal_of_others_does_not_end_the_wait() -> None:
    """
    Only what asks to stop wakes it; what was woken before is given back afterwards.
    """
    clock = StoppableClock(lambda: None)
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        began = clock.now()
        with StopFlag(announce="") as stop:
            os.kill(os.getpid(), signal.SIGUSR1)
            stop.sleep(0.2)

            assert stop.requested is None
        assert clock.now() - began >= 0.2
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.signal(signal.SIGUSR1, before)
