"""
A verification beside changes: what is late is told from what is lost, in one pass or in many.
"""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from migrate.errors import ExitCode, LockHeld, MappingChanged, Stopped
from migrate.ledger.store import Ledger, Lock
from migrate.model.events import Event
from migrate.model.settings import SourceConfig
from migrate.model.values import Key, LookupKind
from migrate.pipeline import verify_again
from migrate.pipeline.verify_back import Back, Place
from migrate.source.plain import PlainReader
from migrate.target.reader import RecordReader
from migrate.workers import verify_job
from migrate.workers.continuous import LOOK_S, Continuous
from migrate.workers.stopping import Requested, check
from tests import planted
from tests.captured import GENERATION, Captured, Sync
from tests.planted import DEEP, FULL
from tests.project import Project, poll, until_exit
from tests.servers import Database, RedisServer, SqliteDatabase, wait_until
from tests.test_planted import named

pytestmark = pytest.mark.slow

ROWS = 300
STORMED = 100
"""Persons below this number are in the storm."""
BASE = GENERATION * 10**12
SOURCES = ["sqlite", "postgres", "mariadb"]
FIELDS = "'New', '{0}@example.org', 'City 1', NULL, 1.5, 3"
"""Of a row that is inserted, behind its number."""


@dataclass(slots=True)
class Skipped:
    """
    Time of a test: nobody waits, and what happens meanwhile is done in each sleep.
    """

    slept: list[float] = field(default_factory=list)
    meanwhile: Callable[[int], object] = lambda _: None

    def clock(self, requested: Requested) -> SkippingClock:
        """
        Takes the place of the clock of a run.
        """
        return SkippingClock(self, requested)


@dataclass(slots=True)
class SkippingClock:
    """
    A clock whose sleeps are over at once.
    """

    time: Skipped
    requested: Requested = lambda: None

    def now(self) -> float:
        return sum(self.time.slept)

    def sleep(self, seconds: float) -> None:
        check(self.requested)
        self.time.slept.append(seconds)
        self.time.meanwhile(len(self.time.slept))
        check(self.requested)


@pytest.fixture
def skipped(monkeypatch: pytest.MonkeyPatch) -> Skipped:
    """
    Verifications of this process wait for nothing.
    """
    made = Skipped()
    monkeypatch.setattr(verify_job, "StoppableClock", made.clock)
    return made


@dataclass(slots=True)
class Stage:
    """
    People under capture, all of them in Redis.
    """

    project: Project
    captured: Captured
    sync: Sync
    redis: RedisServer

    def verify(self, level: str = FULL, *options: str) -> dict[str, Any]:
        """
        The result of a verification.
        """
        ran = self.project.run("verify", "people", "--level", level, "--json", *options)
        assert ran.out, ran.err
        said = [line for line in ran.err.splitlines() if ": pass " in line]
        return {**ran.json, "exit": ran.exit, "said": said}

    def recheck(self) -> list[tuple[Any, ...]]:
        """
        The re-check list as it lies in the ledger.
        """
        with closing(sqlite3.connect(ledger_of(self.project))) as connection:
            columns = "run, key, number, tries, due, states"
            return connection.execute(f"SELECT {columns} FROM migrate_recheck").fetchall()


def ledger_of(project: Project) -> Path:
    """
    The file of a project's ledger.
    """
    return project.folder / ".profile-migrate" / "ledger.db"


def staged(database: Database, folder: Path, redis_server: RedisServer) -> Iterator[Stage]:
    """
    People with orders, captured first and then copied.
    """
    planted.create(database, ROWS)
    captured = Captured(database)
    project = Project(folder / "user", database.url, redis_server.url)
    project.mapping("people", planted.MAPPING)
    assert project.run("backfill", "people").exit == 0
    with Sync.opened(project, captured, redis_server.config()) as sync:
        yield Stage(project, captured, sync, redis_server)


@pytest.fixture(params=SOURCES)
def stage(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer
) -> Iterator[Stage]:
    """
    The same on each source.
    """
    yield from staged(request.getfixturevalue(request.param), tmp_path, redis_server)


@pytest.fixture
def light(tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer) -> Iterator[Stage]:
    """
    The same on SQLite alone.
    """
    yield from staged(sqlite, tmp_path, redis_server)


def in_flight(result: dict[str, Any]) -> int:
    """
    Keys that were still changing.
    """
    return int(result["counts"].get("IN_FLIGHT", 0))


# --- verdicts with captured versions -------------------------------------------------------------


@pytest.mark.parametrize("level", [FULL, DEEP])
def test_rows_that_nobody_touched_are_compared_by_content(stage: Stage, level: str) -> None:
    """
    Their version is that of the generation on both sides, and a byte behind it is named.
    """
    client = stage.redis.client()
    assert client.hget("person:7", "_v") == b"%d" % BASE
    clean = stage.verify(level)
    client.hset("person:7", mapping={"points": "-1"} if level == DEEP else {"_h": "0" * 16})

    found = stage.verify(level)

    assert (clean["exit"], clean["counts"]) == (0, {"OK": ROWS})
    kind, at = ("value", "points") if level == DEEP else ("digest", "_h")
    assert found["exit"] == 3
    assert named(stage.project) == {("DIFFERENT", kind, "person:7", at)}


@pytest.mark.parametrize("level", [FULL, DEEP])
def test_late_is_told_from_lost(stage: Stage, skipped: Skipped, level: str) -> None:
    """
    Marked and behind is IN_FLIGHT, behind without a mark LOST_EVENT, deleted and there RESURRECTED.
    """
    captured = stage.captured
    captured.rename(7, "late")
    captured.change(8, "DELETE FROM people WHERE id = 8", "DELETE FROM orders WHERE person = 8")
    for lost in (9, 10):
        captured.rename(lost, "lost")
        captured.fold(lost)
    captured.change(11, "DELETE FROM people WHERE id = 11")
    captured.fold(11)

    result = stage.verify(level)

    assert named(stage.project) == {
        ("LOST_EVENT", "", "person:9", ""),
        ("LOST_EVENT", "", "person:10", ""),
        ("RESURRECTED", "", "person:11", ""),
    }
    assert (result["exit"], result["verdict"], in_flight(result)) == (3, "MISMATCH", 2)
    assert result["counts"]["OK"] == ROWS - 5
    assert "2 keys kept changing while they were compared." in result["not_checked"]
    assert [key for _, key, *_ in stage.recheck()] == [b"person:7".hex(), b"person:8".hex()]


def test_what_the_sync_applies_is_right_again(stage: Stage) -> None:
    """
    Written, changed, deleted and inserted rows are equal once their marks are folded.
    """
    captured = stage.captured
    captured.rename(7, "new")
    captured.change(7, "INSERT INTO orders VALUES (990000, 7, 1.50)")
    captured.change(8, "DELETE FROM people WHERE id = 8", "DELETE FROM orders WHERE person = 8")
    captured.change(9, "DELETE FROM people WHERE id = 9")
    captured.change(9, f"INSERT INTO people VALUES (9, {FIELDS.format(9)})")
    captured.change(5_000, f"INSERT INTO people VALUES (5000, {FIELDS.format(5_000)})")
    stage.sync.everything()

    for level in (FULL, DEEP):
        result = stage.verify(level)
        assert (result["exit"], result["counts"]) == (0, {"OK": ROWS}), result["samples"]
    client = stage.redis.client()
    assert client.hget("person:7", "_v") == b"%d" % (BASE + 2)
    assert client.hgetall("person:8") == {b"_v": b"%d" % (BASE + 1), b"_t": b"1"}


# --- between two reads of one look ---------------------------------------------------------------

RACES: dict[str, Callable[[Captured], None]] = {
    "a change": lambda captured: captured.rename(7, "late"),
    "an insert": lambda captured: captured.change(
        5_000, f"INSERT INTO people VALUES (5000, {FIELDS.format(5_000)})"
    ),
    "a delete": lambda captured: captured.change(7, "DELETE FROM people WHERE id = 7"),
}


@pytest.mark.parametrize("race", RACES)
def test_a_sync_between_row_and_marks_is_no_loss(
    light: Stage, skipped: Skipped, monkeypatch: pytest.MonkeyPatch, race: str
) -> None:
    """
    The record was read before it was applied, and the marks after they were folded.
    """
    RACES[race](light.captured)
    known = PlainReader.history
    calls: list[int] = []

    def history(reader: PlainReader, keys: Sequence[Key]) -> Any:
        calls.append(1)
        if len(calls) == 2:
            light.sync.everything()
        return known(reader, keys)

    monkeypatch.setattr(PlainReader, "history", history)

    result = light.verify()

    assert len(calls) > 2
    assert (result["exit"], set(result["counts"])) == (0, {"OK"}), result["samples"]


def test_a_change_between_row_and_fields_is_no_difference(
    light: Stage, skipped: Skipped, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Fields that are read later than the version they are compared at prove nothing.
    """
    cells = PlainReader.cells
    calls: list[int] = []

    def later(reader: PlainReader, keys: Sequence[Key]) -> Any:
        calls.append(1)
        if len(calls) <= 2:
            light.captured.rename(7, f"later {len(calls)}")
        if len(calls) == 1:
            light.sync.everything()
        return cells(reader, keys)

    monkeypatch.setattr(PlainReader, "cells", later)
    skipped.meanwhile = lambda _: light.sync.everything()

    result = light.verify(DEEP)

    assert (result["exit"], result["counts"]) == (0, {"OK": ROWS}), result["samples"]


def test_an_entry_that_comes_and_goes_is_not_left_over(
    light: Stage, skipped: Skipped, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A record that left a set after the set was read, came back and left again.
    """
    unlisted, members = Back._unlisted, RecordReader.members
    looks: list[str] = []

    def move(city: str) -> None:
        light.captured.change(7, f"UPDATE people SET city = '{city}' WHERE id = 7")
        light.sync.everything()
        looks.append(city)

    def leave(back: Back, place: Place, key: bytes, found: Sequence[bytes]) -> Any:
        if key == b"people-city:City%207" and len(looks) < 4:
            move("City 8")
        return unlisted(back, place, key, found)

    def enter(reader: RecordReader, key: bytes, kind: LookupKind) -> Any:
        if key == b"people-city:City%207" and len(looks) == 1:
            move("City 7")
        return members(reader, key, kind)

    monkeypatch.setattr(Back, "_unlisted", leave)
    monkeypatch.setattr(RecordReader, "members", enter)

    result = light.verify()

    assert looks[:3] == ["City 8", "City 7", "City 8"]
    assert (result["exit"], result["counts"]) == (0, {"OK": ROWS}), result["samples"]


# --- the re-check list ---------------------------------------------------------------------------


def test_a_late_key_is_settled_once_it_is_applied(light: Stage, skipped: Skipped) -> None:
    """
    It is looked at again after 1, 2, 4, ... s; the sync comes in the second wait, and all is PASS.
    """
    for person in (7, 8, 9):
        light.captured.rename(person, "late")
    light.captured.change(10, "DELETE FROM people WHERE id = 10")
    skipped.meanwhile = lambda number: light.sync.everything() if number == 2 else None

    result = light.verify()

    assert (result["exit"], result["counts"]) == (0, {"OK": ROWS - 1})
    assert [round(seconds) for seconds in skipped.slept] == [1, 2]
    assert light.recheck() == []


def test_a_key_that_keeps_changing_blocks_no_pass(light: Stage, skipped: Skipped) -> None:
    """
    After the last round it is counted, and one pass alone is INCOMPLETE: exit 5.
    """
    light.captured.rename(7, "late")
    skipped.meanwhile = lambda number: light.captured.rename(7, f"later {number}")

    result = light.verify()

    assert (result["exit"], result["verdict"]) == (5, "INCOMPLETE")
    assert result["counts"] == {"OK": ROWS - 1, "IN_FLIGHT": 1}
    assert [round(seconds) for seconds in skipped.slept] == list(verify_again.DELAYS_S)
    [(_, _, _, tries, due, _)] = light.recheck()
    assert (tries, due) == (len(verify_again.DELAYS_S), None)


def applied_late(stage: Stage) -> Callable[[int], None]:
    """
    At each step the sync writes what SQL holds, and SQL is changed again at once.
    """

    def step(number: int) -> None:
        stage.sync.once(fold=False)
        stage.captured.rename(7, f"later {number}")

    return step


@pytest.mark.parametrize("level", [FULL, DEEP])
def test_a_record_that_sql_was_seen_to_hold_is_right(
    light: Stage, skipped: Skipped, level: str
) -> None:
    """
    Versions are never equal when they are compared, and still the key is verified.
    """
    light.captured.rename(7, "late")
    skipped.meanwhile = applied_late(light)

    result = light.verify(level)

    assert (result["exit"], result["counts"]) == (0, {"OK": ROWS}), result
    assert len(skipped.slept) == 1


def test_a_seen_digest_does_not_vouch_for_other_fields(light: Stage, skipped: Skipped) -> None:
    """
    A record whose fields are not those of its digest is not settled by what SQL held.
    """
    light.captured.rename(7, "late")

    def step(number: int) -> None:
        applied_late(light)(number)
        light.redis.client().hset("person:7", "points", "-1")

    skipped.meanwhile = step

    assert in_flight(light.verify()) == 1


def test_a_defect_that_shows_in_a_second_look_is_hard(light: Stage, skipped: Skipped) -> None:
    """
    What was late at first and is lost now is named like every other finding.
    """
    light.captured.rename(7, "late")
    skipped.meanwhile = lambda number: light.captured.fold(7) if number == 1 else None

    result = light.verify()

    assert (result["exit"], result["counts"]) == (3, {"OK": ROWS - 1, "LOST_EVENT": 1})
    assert named(light.project) == {("LOST_EVENT", "", "person:7", "")}


def test_the_list_is_worked_off_in_pages(
    light: Stage, skipped: Skipped, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    However many keys are late, memory holds a page of them.
    """
    monkeypatch.setattr(verify_again, "AGAIN", 10)
    sizes: list[int] = []
    due = Ledger.rechecks

    def counted(*arguments: Any) -> Any:
        page = due(*arguments)
        sizes.append(len(page))
        return page

    monkeypatch.setattr(Ledger, "rechecks", counted)
    for person in range(1, 36):
        light.captured.rename(person, "late")

    result = light.verify()

    assert in_flight(result) == 35
    assert max(sizes) == 10
    assert sum(sizes) == 35 * len(verify_again.DELAYS_S)


def test_the_list_holds_no_value(light: Stage, skipped: Skipped) -> None:
    """
    Keys, versions and digests of records are all that the ledger has of a changing row.
    """
    for person in (7, 8):
        light.captured.rename(person, "Canary 4711")
    skipped.meanwhile = lambda number: light.captured.rename(7, f"Canary 4711 {number}")

    assert in_flight(light.verify(DEEP)) == 2
    assert len(json.loads(light.recheck()[0][-1])) == len(verify_again.DELAYS_S) + 1

    for path, content in light.project.files():
        assert b"Canary" not in content, path


def test_spawned_workers_list_keys_too(light: Stage, skipped: Skipped) -> None:
    """
    Their list is that of the run: the one process that is left works it off.
    """
    for person in (7, 290):
        light.captured.rename(person, "late")
    skipped.meanwhile = lambda _: light.sync.everything()

    result = light.verify(FULL, "--workers", "2")

    assert (result["exit"], result["counts"]) == (0, {"OK": ROWS})
    assert len(skipped.slept) == 1


def test_a_killed_round_goes_on(light: Stage) -> None:
    """
    The list is in the ledger: the same command looks at what was left, and counts nothing twice.
    """
    light.captured.rename(7, "late")
    with light.project.started("verify", "people", "--json") as process:
        wait_until(lambda: len(light.recheck()) == 1, "a key on the list", timeout_s=60)
        process.send_signal(signal.SIGKILL)
        until_exit(process)
    [(run, *_)] = light.recheck()
    light.sync.everything()

    result = light.verify()

    assert result["run"] == run
    assert (result["exit"], result["counts"]) == (0, {"OK": ROWS})


def test_an_incomplete_pass_is_not_the_last_word(light: Stage, skipped: Skipped) -> None:
    """
    The next command compares everything anew, and does not tell the old result once more.
    """
    light.captured.rename(7, "late")
    first = light.verify()
    light.sync.everything()

    again = light.verify()

    assert (first["exit"], again["exit"]) == (5, 0)
    assert first["run"] != again["run"]
    assert light.recheck() == []


def test_time_held_back_is_kept(light: Stage) -> None:
    """
    The ledger's run says how long the throttle held it.
    """
    light.project.configure(extra="throttle: {rows_per_second: 2000}")
    light.verify()

    with closing(sqlite3.connect(ledger_of(light.project))) as connection:
        query = "SELECT throttled_s FROM migrate_run WHERE kind = 'verify'"
        [(throttled,)] = connection.execute(query).fetchall()
    assert throttled > 0.05


# --- pass after pass -----------------------------------------------------------------------------


@dataclass(slots=True)
class Told:
    """
    A pass that says what a test wants, after so many seconds.
    """

    result: dict[str, Any]
    stopped: int | None = None
    error: Exception | None = None
    time: Skipped | None = None
    seconds: float = 0.0

    def run(self) -> Iterator[Event]:
        if self.error is not None:
            raise self.error
        if self.time is not None:
            self.time.slept.append(self.seconds)
        yield from ()


def told(verdict: str, **changes: Any) -> Told:
    """
    A pass with this verdict.
    """
    codes = {"PASS": 0, "MISMATCH": 3, "INCOMPLETE": 5}
    return Told({"verdict": verdict, "exit_code": codes[verdict]}, **changes)


LOCKED = LockHeld("Another run holds it.", where={"holder": "process 1"}, next_step="Wait.")


def passes(
    script: list[Told], time: Skipped, code: int, every_s: float = 60.0
) -> tuple[Continuous, list[str]]:
    """
    Passes as in a script; behind the last of them somebody asks to stop.
    """
    left = list(script)
    said: list[str] = []
    made = Continuous(
        lambda _: left.pop(0),
        every_s=every_s,
        clock=SkippingClock(time, lambda: None if left else code),
        passed=lambda one, whole: said.append(f"{one['verdict']} {whole['verdict']}"),
        waits=lambda held: said.append(str(held.where["holder"])),
    )
    return made, said


ENDS = {
    "clock, after a clean pass": (["PASS"], 5, 0),
    "clock, after a mismatch": (["PASS", "MISMATCH"], 5, 3),
    "clock, after a mended one": (["MISMATCH", "PASS"], 5, 0),
    "clock, after keys that kept changing": (["MISMATCH", "INCOMPLETE"], 5, 3),
    "clock, without a whole pass": (["INCOMPLETE", "INCOMPLETE"], 5, 5),
    "Ctrl-C": (["PASS", "MISMATCH"], 130, 130),
    "SIGTERM": (["INCOMPLETE"], 143, 143),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_end_says_what_the_last_whole_pass_said(end: str) -> None:
    """
    A clock ends with the code of the last whole pass, a signal with its own.
    """
    script, stop, code = ENDS[end]
    job, said = passes([told(verdict) for verdict in script], Skipped(), stop)

    list(job.run())

    whole = [verdict for verdict in script if verdict != "INCOMPLETE"]
    assert job.result["exit_code"] == code
    assert job.result["verdict"] == (whole or script)[-1]
    assert len(said) == len(script)


def test_a_pass_that_was_stopped_is_not_whole() -> None:
    """
    Whatever it has found: the result is that of the pass before it.
    """
    job, said = passes([told("PASS"), told("MISMATCH", stopped=143)], Skipped(), 143)

    list(job.run())

    assert (job.result["verdict"], job.result["exit_code"]) == ("PASS", 143)
    assert said == ["PASS PASS"]


def test_passes_begin_in_a_rhythm() -> None:
    """
    The next one begins so long after the beginning of the last, and at once where that took longer.
    """
    time = Skipped()
    script = [told("PASS", time=time, seconds=seconds) for seconds in (10.0, 90.0, 0.0)]
    job, _ = passes(script, time, 5)

    list(job.run())

    assert time.slept == [10.0, 50.0, 90.0, 0.0, 0.0]


def test_a_mapping_that_is_held_is_waited_for() -> None:
    """
    Between passes another process may have it: that is said once, and no reason to end.
    """
    time = Skipped()
    locked = [told("PASS", error=LOCKED) for _ in range(3)]
    job, said = passes([told("PASS"), *locked, told("PASS")], time, 5)

    list(job.run())

    assert job.result["exit_code"] == 0
    assert said == ["PASS PASS", "process 1", "PASS PASS"]
    assert time.slept == [60.0, LOOK_S, LOOK_S, LOOK_S]


@pytest.mark.parametrize("error", [LOCKED, MappingChanged("x"), Stopped("x")])
def test_the_first_pass_ends_as_every_command_does(error: Exception) -> None:
    """
    A held mapping is exit 7 before anything was compared; other errors end every pass.
    """
    job, _ = passes([told("PASS", error=error)], Skipped(), 5)

    with pytest.raises(type(error)):
        list(job.run())


def test_an_error_between_passes_ends_the_run() -> None:
    """
    Another mapping, another target or a store that is away is told as everywhere.
    """
    job, _ = passes([told("PASS"), told("PASS", error=MappingChanged("x"))], Skipped(), 5)

    with pytest.raises(MappingChanged):
        list(job.run())


@pytest.mark.parametrize(
    "options",
    [
        ("--level", "count", "--continuous", "--max-runtime", "1"),
        ("--level", "sample", "--sample", "5", "--continuous"),
        ("--every", "5"),
    ],
)
def test_only_what_looks_at_everything_goes_round(light: Stage, options: tuple[str, ...]) -> None:
    """
    Anything else is a usage error.
    """
    assert light.project.run("verify", "people", *options).exit == ExitCode.USAGE


def runs(project: Project) -> list[tuple[str, str]]:
    """
    Id and status of every verification in the ledger.
    """
    with closing(sqlite3.connect(ledger_of(project))) as connection:
        query = "SELECT id, status FROM migrate_run WHERE kind = 'verify' ORDER BY started_at"
        return [(row[0], row[1]) for row in connection.execute(query)]


def finished(project: Project) -> list[str]:
    """
    Passes that came to their end.
    """
    return [run for run, status in runs(project) if status == "finished"]


@pytest.fixture
def go_round(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """
    Verifies continuously, with the end of `--max-runtime` behind so many passes.
    """

    def run(stage: Stage, number: int, *options: str) -> dict[str, Any]:
        wanted = len(finished(stage.project)) + number
        monkeypatch.setattr(
            "migrate.cli.verify.with_end",
            lambda *_: lambda: 5 if len(finished(stage.project)) >= wanted else None,
        )
        rhythm = ("--continuous", "--every", "0.01", "--max-runtime", "600")
        return stage.verify(FULL, *rhythm, *options)

    return run


def test_each_pass_is_a_run_of_its_own(
    light: Stage, go_round: Callable[..., dict[str, Any]]
) -> None:
    """
    A line a pass, one object at the end, and files that say the last whole pass.
    """
    project = light.project
    light.redis.client().delete("person:7")
    page, cases, text = (project.folder / name for name in ("v.html", "v.xml", "v.md"))
    files = ("--report", str(page), "--junit", str(cases), "--summary", str(text))

    result = go_round(light, 2, *files)

    assert (result["exit"], result["exit_code"]) == (3, 3)
    assert (result["continuous"], result["verdict"]) == (True, "MISMATCH")
    assert result["passes"] == len(finished(project)) == 2
    assert result["run"] == finished(project)[-1]
    assert "person:7" in page.read_text()
    assert "person:7" in cases.read_text()
    assert text.read_text().count("MISMATCH") == 1


def test_no_whole_pass_is_no_success(light: Stage) -> None:
    """
    Out of time in the first pass: exit 5 and INCOMPLETE.
    """
    result = light.verify(FULL, "--continuous", "--max-runtime", "0.000001")

    assert (result["exit"], result["verdict"]) == (5, "INCOMPLETE")


def ledger(project: Project) -> Ledger:
    """
    The ledger of a project, to be closed.
    """
    place = SourceConfig(dialect="sqlite", database=str(ledger_of(project)))
    return Ledger(place, wall=time.time, sleep=time.sleep)


def test_a_signal_ends_the_wait_for_the_next_pass(light: Stage) -> None:
    """
    Meanwhile the mapping is free and the page there to be looked at; Ctrl-C is 130, at once.
    """
    project = light.project
    page = project.folder / "v.html"
    arguments = ("--continuous", "--every", "3600", "--json", "--report", str(page))
    with project.started("verify", "people", *arguments) as process:
        wait_until(page.exists, "a page behind the first pass", timeout_s=60)
        wait_until(lambda: "PASS" in page.read_text(), "its verdict")
        wait_until(
            lambda: project.run("backfill", "people").exit == 0,
            "a backfill in between",
            timeout_s=60,
        )
        process.send_signal(signal.SIGINT)
        ended = until_exit(process)

    told = json.loads(ended.out)
    assert (ended.exit, told["exit_code"], told["verdict"]) == (130, 130, "PASS"), ended.err
    assert len(runs(project)) == 1


def test_a_mapping_that_is_held_keeps_the_next_pass_waiting(light: Stage) -> None:
    """
    It is said, and no reason to end; the pass comes when the mapping is free. TERM is 143.
    """
    project = light.project
    arguments = ("verify", "people", "--continuous", "--every", "0.5", "--json")
    with project.started(*arguments) as process:
        wait_until(lambda: len(finished(project)) >= 1, "a first pass", timeout_s=60)
        with closing(ledger(project)) as opened:
            locks: list[Lock] = []
            wait_until(lambda: locked(opened, locks), "the mapping", timeout_s=60)
            before = len(finished(project))
            poll(1.5)
            assert len(finished(project)) == before
            opened.unlock(locks[0])
        wait_until(lambda: len(finished(project)) > before, "a pass after it", timeout_s=60)
        process.send_signal(signal.SIGTERM)
        ended = until_exit(process)

    assert ended.exit == 143, ended.err
    assert json.loads(ended.out)["verdict"] == "PASS"
    assert "waiting for process" in ended.err
    assert "pass 1: PASS, 300 compared, 0 differ, 0 still changing" in ended.err


def locked(opened: Ledger, locks: list[Lock]) -> bool:
    """
    Try to take the mapping, as another command would.
    """
    try:
        locks.append(opened.lock("people"))
    except LockHeld:
        return False
    return True


def test_a_mapping_that_changed_between_passes_is_refused(
    tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    Records of another mapping are not compared with this one: exit 4.
    """
    planted.create(sqlite, ROWS)
    project = Project(tmp_path / "user", sqlite.url, redis_server.url)
    project.mapping("people", planted.MAPPING)
    assert project.run("backfill", "people").exit == 0
    with project.started("verify", "people", "--continuous", "--every", "1") as process:
        wait_until(lambda: len(finished(project)) >= 1, "a first pass", timeout_s=60)
        project.mapping("people", planted.MAPPING.replace("note: {}, ", ""))
        arguments = ("backfill", "people", "--start-over")
        wait_until(
            lambda: project.run(*arguments).exit == 0, "a backfill of another mapping", timeout_s=60
        )
        ended = until_exit(process)

    assert (ended.exit, ended.error) == (4, "mapping-changed"), ended.err


def test_a_store_that_goes_away_between_passes_is_exit_6(
    tmp_path: Path, sqlite: SqliteDatabase, redis_fresh: Callable[..., RedisServer]
) -> None:
    """
    After the patience that every command has.
    """
    server = redis_fresh()
    for stage in staged(sqlite, tmp_path, server):
        with stage.project.started("verify", "people", "--continuous", "--every", "1") as process:
            wait_until(
                lambda project=stage.project: len(finished(project)) >= 1,
                "a first pass",
                timeout_s=60,
            )
            server.stop()
            ended = until_exit(process)
        server.start()

        assert ended.exit == 6, ended.err


def test_what_keeps_changing_is_taken_over_into_the_next_pass(
    light: Stage, skipped: Skipped, go_round: Callable[..., dict[str, Any]]
) -> None:
    """
    The next pass knows what SQL held in the last one, and needs no equal versions.
    """
    light.captured.rename(7, "seen in pass 1")
    first = go_round(light, 1)
    assert first["verdict"] == "INCOMPLETE"
    before = light.recheck()
    light.sync.once(fold=False)
    light.captured.rename(7, "later")

    result = go_round(light, 1)

    assert len(before) == 1
    assert (result["exit"], result["verdict"], result["counts"]) == (0, "PASS", {"OK": ROWS})


# --- a storm -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Storm:
    """
    Writers, and the sync, that go on until they are stopped.
    """

    stage: Stage
    changes: int = 0
    errors: list[BaseException] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _turns: list[threading.Lock] = field(
        default_factory=lambda: [threading.Lock() for _ in range(STORMED)]
    )

    def __enter__(self) -> Self:
        self._threads = [
            *(threading.Thread(target=self._guarded, args=(self._write, n)) for n in range(2)),
            threading.Thread(target=self._guarded, args=(self._apply, 0)),
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join()

    def _guarded(self, work: Callable[[random.Random], object], number: int) -> None:
        source = random.Random(number)
        try:
            while not self.over.is_set():
                work(source)
                self.over.wait(0.003)
        except BaseException as error:  # noqa: BLE001 - told by the test, which is another thread
            self.errors.append(error)

    def _write(self, chance: random.Random) -> None:
        person = chance.randrange(1, STORMED)
        change = chance.choice(CHANGES)
        with self._turns[person]:
            self.stage.captured.change(person, *change(person, chance.randrange(1_000_000)))
        self.changes += 1

    def _apply(self, chance: random.Random) -> None:
        self.stage.sync.once()


def _anew(person: int, seed: int) -> list[str]:
    return [
        f"DELETE FROM people WHERE id = {person}",
        (
            f"INSERT INTO people VALUES ({person}, 'Anew {seed}', '{person}@example.org', "
            f"'City {seed % 40}', NULL, 0.5, {seed})"
        ),
    ]


CHANGES: tuple[Callable[[int, int], list[str]], ...] = (
    lambda person, seed: [f"UPDATE people SET name = 'Storm {seed}' WHERE id = {person}"],
    lambda person, seed: [f"UPDATE people SET city = 'City {seed % 40}' WHERE id = {person}"],
    lambda person, seed: [
        f"DELETE FROM orders WHERE person = {person}",
        f"INSERT INTO orders VALUES ({6_000_000 + person}, {person}, {seed % 90}.50)",
    ],
    lambda person, _: [
        f"DELETE FROM people WHERE id = {person}",
        f"DELETE FROM orders WHERE person = {person}",
    ],
    _anew,
    _anew,
)


def test_a_storm_beside_passes_is_no_difference(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, go_round: Callable[..., dict[str, Any]]
) -> None:
    """
    Whatever changes meanwhile is never hard, and what was planted meanwhile is named exactly.
    """
    for place in (verify_again, verify_job):
        monkeypatch.setattr(place, "DELAYS_S", (0.05, 0.1, 0.2, 0.4))
    client, database = stage.redis.client(), stage.captured.database
    made = planted.Planted()
    with Storm(stage) as storm:
        calm = go_round(stage, 2, "--level", DEEP)
        planted.DEFECTS["one changed byte"](database, client, 200, made)
        planted.DEFECTS["a missing record"](database, client, 250, made)
        during = stage.verify(DEEP)
        found = named(stage.project)
    stage.sync.everything()
    after = stage.verify(DEEP)

    assert storm.errors == []
    assert storm.changes > 50
    assert len(calm["said"]) == 2
    assert all(", 0 differ, " in line for line in calm["said"]), calm
    assert (during["exit"], found) == (3, made.expected[DEEP])
    assert named(stage.project) == made.expected[DEEP]
    assert after["counts"].keys() == {"OK", "DIFFERENT", "MISSING"}
