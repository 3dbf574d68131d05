"""
Progress: a bar on a terminal, lines elsewhere, nothing when asked to be quiet.
"""

from __future__ import annotations

import io
import os

import pytest

from migrate.model.events import ChunkCopied, PartitionDone, Throttled, Waiting
from migrate.model.values import Outcome
from migrate.ops.console import Console
from migrate.ops.progress import (
    LineProgress,
    NoProgress,
    Tally,
    TqdmProgress,
    describe,
    progress_on,
)


class Clock:
    """
    Time that tests move.
    """

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """
    A stream that says it is a terminal.
    """

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines() -> list[str]:
    return []


def copied(rows: int, rejects: int = 0, collisions: int = 0) -> ChunkCopied:
    return ChunkCopied(0, rows, {Outcome.COLLISION: collisions}, rejects)


def test_the_first_line_comes_at_once_and_then_every_ten_seconds(
    clock: Clock, lines: list[str]
) -> None:
    """
    Something is said within a second; after that one line a period, however many events.
    """
    progress = LineProgress(Tally("users", 1000, clock=clock), lines.append, clock=clock)
    for _ in range(25):
        clock.now += 1
        progress.update(copied(20, rejects=1))
    progress.close()

    assert lines == [
        "users: 0 of 1,000 rows (0.0%), 0 rows/s",
        "users: 200 of 1,000 rows (20.0%), 20 rows/s, 10 rejects, about 40 s left",
        "users: 400 of 1,000 rows (40.0%), 20 rows/s, 20 rejects, about 30 s left",
        "users: 500 of 1,000 rows (50.0%), 20 rows/s, 25 rejects, about 25 s left",
    ]


def test_waiting_is_said_at_once_and_only_once(clock: Clock, lines: list[str]) -> None:
    """
    Why nothing moves is on the screen before the wait, and is not repeated at each attempt.
    """
    progress = LineProgress(Tally("users", None, clock=clock), lines.append, clock=clock)
    progress.update(Waiting("target", "loading", 1.0))
    progress.update(Waiting("target", "loading", 2.0))

    assert lines[1:] == ["users: 0 rows, 0 rows/s, waiting for the target: loading"]


def test_the_reason_of_a_throttle_stays_while_it_lasts(clock: Clock) -> None:
    """
    Between two pauses the reason stays; it goes with the second chunk after the last one.
    """
    tally = Tally("users", None, clock=clock)

    seen = []
    for event in (Throttled("redis_memory", 1.0), copied(1), copied(1)):
        tally.update(event)
        seen.append(tally.reason)

    assert seen == ["throttled: redis_memory", "throttled: redis_memory", ""]


def test_no_time_is_promised_below_one_percent(clock: Clock) -> None:
    """
    Under one percent the remaining time would be a guess, and so it is not shown.
    """
    tally = Tally("users", 10_000, clock=clock)
    clock.now += 1
    tally.update(copied(99))
    before = tally.seconds_left
    tally.update(copied(1))

    assert before is None
    assert tally.seconds_left == pytest.approx(100, rel=0.02)


def test_no_time_is_promised_while_it_waits(clock: Clock) -> None:
    """
    A run that is held back says why, and not how long.
    """
    tally = Tally("users", 100, clock=clock)
    clock.now += 1
    tally.update(copied(50))
    tally.update(Waiting("source", "connection", 1.0))

    assert tally.seconds_left is None


def test_an_estimate_may_be_exceeded(clock: Clock) -> None:
    """
    A total from statistics is marked, and no percentage beyond it is shown.
    """
    tally = Tally("users", 100, estimate=True, clock=clock)
    tally.update(copied(50))
    within = describe(tally)
    tally.update(copied(60))

    assert within == "users: 50 of ~100 rows (50.0%), 0 rows/s"
    assert describe(tally) == "users: 110 of ~100 rows, 0 rows/s"


def test_the_rate_falls_while_nothing_arrives(clock: Clock) -> None:
    """
    The rate is of lately: a standstill lowers it, bursts of several workers do not raise it.
    """
    tally = Tally("users", None, clock=clock)
    clock.now += 1
    tally.update(copied(100))
    tally.update(copied(100))
    running = tally.rate
    clock.now += 60

    assert running == pytest.approx(200)
    assert tally.rate < 10


def test_a_resumed_run_starts_where_it_was(clock: Clock, lines: list[str]) -> None:
    """
    What earlier runs have done counts as done, and not as speed.
    """
    tally = Tally("users", 200, done=100, clock=clock)
    progress = LineProgress(tally, lines.append, clock=clock)
    clock.now += 1
    progress.update(copied(10, collisions=1))
    progress.close()

    assert lines == [
        "users: 100 of 200 rows (50.0%), 0 rows/s",
        "users: 110 of 200 rows (55.0%), 10 rows/s, 1 collision, about 9.0 s left",
    ]


def test_a_bar_on_a_terminal_only(clock: Clock) -> None:
    """
    The console decides: a bar for people, lines for files, nothing with --quiet.
    """
    terminal, file = Console(Terminal()), Console(io.StringIO())
    kinds = []
    for console, quiet in ((terminal, False), (file, False), (terminal, True)):
        progress = progress_on(console, mapping="users", total=5, quiet=quiet, clock=clock)
        progress.update(PartitionDone(0))
        progress.close()
        kinds.append(type(progress))

    assert kinds == [TqdmProgress, LineProgress, NoProgress]


def test_the_bar_shows_rows_and_reasons(clock: Clock) -> None:
    """
    The bar starts at what earlier runs have done and shows rejects and why it waits.
    """
    stream = Terminal()
    progress = TqdmProgress(Tally("users", 1000, done=500, clock=clock), Console(stream))
    progress.update(copied(500, rejects=2))
    progress.update(Waiting("target", "oom", 1.0))
    progress.close()

    first, *_, last = [part for part in stream.getvalue().split("\r") if part.strip()]
    assert "50%" in first
    assert "1.00k/1.00k" in last
    assert "waiting for the target: oom, 2" in last


@pytest.mark.parametrize("total", [None, 10])
def test_a_bar_without_a_sure_total_goes_on(clock: Clock, total: int | None) -> None:
    """
    An unknown or exceeded total costs the bar its percentage, not the run its life.
    """
    stream = Terminal()
    progress = TqdmProgress(Tally("users", total, estimate=True, clock=clock), Console(stream))
    progress.update(copied(25))
    progress.close()

    assert "25.0/? " in stream.getvalue()


def test_a_terminal_without_a_size_gets_a_bar(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A terminal that says it has no columns and no lines is taken for an ordinary one.
    """
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w", encoding="utf-8") as stream:
        monkeypatch.setattr("sys.stderr", stream)  # tqdm looks up the size of this one only
        assert os.get_terminal_size(theirs) == (0, 0)
        TqdmProgress(Tally("users", 10, done=5, clock=clock), Console(stream)).close()
        shown = os.read(ours, 4096).decode()
    os.close(ours)

    assert "users:  50%" in shown


def test_a_line_does_not_cut_through_the_bar(clock: Clock) -> None:
    """
    A message takes the bar off, is written as a line of its own, and the bar comes back below.
    """
    stream = Terminal()
    console = Console(stream)
    progress = TqdmProgress(Tally("users", 10, clock=clock), console)
    console.line("a message")
    progress.close()

    before, after = stream.getvalue().split("a message\n")
    assert before.endswith("\r")
    assert "users" in after


def test_a_terminal_that_goes_away_does_not_stop_the_run(clock: Clock) -> None:
    """
    When the terminal is gone the bar is given up, and the events still count.
    """

    class Gone(Terminal):
        gone = False

        def write(self, text: str) -> int:
            if self.gone:
                raise OSError(5, "Input/output error")
            return super().write(text)

    stream = Gone()
    tally = Tally("users", 10, clock=clock)
    progress = TqdmProgress(tally, Console(stream))
    stream.gone = True
    progress.update(Waiting("target", "oom", 1.0))
    progress.update(copied(5))
    progress.close()

    assert tally.rows == 5
