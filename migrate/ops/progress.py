"""
How far a run is, for people: a bar on a terminal, a line every ten seconds elsewhere, or nothing.

Reads events only; it neither changes the run nor needs to be told how it ended.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from tqdm import tqdm

from migrate.model.events import ChunkCopied, Event, PartitionDone, Throttled, Waiting
from migrate.model.values import Outcome
from migrate.ops.console import Console, one_line
from migrate.ops.tables import human_duration

PERIOD_S = 10.0
"""Between two lines where there is no terminal."""

RATE_WINDOW_S = 60.0
"""What is older weighs less than a third in the rate."""

RATE_STEP_S = 0.5
"""Chunks of several workers arrive in bursts; a shorter interval says nothing about speed."""

FIRST_ESTIMATE = 0.01
"""Share of the work below which no remaining time is shown: it would be a guess."""


BAR = "{l_bar}{bar:10}| {n_fmt}/{total_fmt} {rate_fmt}{postfix} [{elapsed}]"
"""What stands last is cut off where the terminal is narrow; the reason of a wait must not be."""

UNKNOWN_WIDTH = 80
"""Columns of a terminal that does not know its size."""


class Progress(Protocol):
    """
    Shows events.
    """

    def update(self, event: Event) -> None:
        """
        Take in one event.
        """

    def close(self) -> None:
        """
        Show the last state; nothing more comes.
        """


def progress_on(
    console: Console,
    *,
    mapping: str,
    total: int | None,
    done: int = 0,
    estimate: bool = False,
    quiet: bool = False,
    say: Callable[[str], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Progress:
    """
    The kind of progress that fits the console: nothing, a bar, or lines.

    Args:
        total: Rows of the whole job; None where nobody has counted them.

        done: Rows that earlier runs have finished already.

        estimate: The total comes from statistics and may be far off.

        say: Takes the lines where there is no terminal; the console itself unless given.
    """
    if quiet:
        return NoProgress()
    tally = Tally(mapping, total, done=done, estimate=estimate, clock=clock)
    if console.is_terminal:
        return TqdmProgress(tally, console)
    return LineProgress(tally, say or console.line, clock=clock)


class NoProgress:
    """
    Shows nothing (`--quiet`).
    """

    def update(self, event: Event) -> None:
        """
        Take in one event and keep silent.
        """

    def close(self) -> None:
        """
        There is nothing to end.
        """


class Tally:
    """
    What the events add up to: rows, rejects, collisions, the rate, and why it is slow.

    The rate is an exponentially weighted mean, so that it follows a change without jumping.
    """

    def __init__(
        self,
        mapping: str,
        total: int | None,
        *,
        done: int = 0,
        estimate: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.mapping = one_line(mapping)
        self.total = total
        self.first = done
        self.rows = done
        self.estimate = estimate
        self.rejects = 0
        self.collisions = 0
        self.reason = ""
        self._next_reason = ""
        self._clock = clock
        self._since = clock()
        self._fresh = 0
        self._rate = 0.0
        self._weight = 0.0

    def update(self, event: Event) -> None:
        """
        Add one event.
        """
        match event:
            case ChunkCopied():
                self._add(event)
            case Waiting(store, reason, _):
                self.reason = self._next_reason = one_line(f"waiting for the {store}: {reason}")
            case Throttled(reason, _):
                self.reason = self._next_reason = one_line(f"throttled: {reason}")
            case PartitionDone():
                return

    def _add(self, chunk: ChunkCopied) -> None:
        self.rows += chunk.rows
        self._fresh += chunk.rows
        self.rejects += chunk.rejects
        self.collisions += chunk.outcomes.get(Outcome.COLLISION, 0)
        # A throttled run pauses between chunks: its reason stays for the chunk that follows it.
        self.reason, self._next_reason = self._next_reason, ""

    @property
    def rate(self) -> float:
        """
        Rows a second, lately.
        """
        now = self._clock()
        passed = now - self._since
        if passed >= RATE_STEP_S:
            share = 1 - math.exp(-passed / RATE_WINDOW_S)
            self._rate += share * (self._fresh / passed - self._rate)
            self._weight += share * (1 - self._weight)
            self._since, self._fresh = now, 0
        return self._rate / self._weight if self._weight else 0.0

    @property
    def share(self) -> float | None:
        """
        Part of the total that is done, 0 to 1; None where the total is unknown or was exceeded.
        """
        if not self.total or self.rows > self.total:
            return None
        return self.rows / self.total

    @property
    def seconds_left(self) -> float | None:
        """
        Time that the rest will take at this rate; None while that would be a guess.
        """
        share, rate = self.share, self.rate
        if share is None or share < FIRST_ESTIMATE or self.reason or rate <= 0:
            return None
        return ((self.total or 0) - self.rows) / rate

    def counts(self) -> list[str]:
        """
        Rejects and collisions in words, where there are any.
        """
        found = (("reject", self.rejects), ("collision", self.collisions))
        return [f"{count:,} {word}{'s' if count > 1 else ''}" for word, count in found if count]


class LineProgress:
    """
    One line at the start, one every ten seconds, one when the run begins to wait, one at the end.

    A line is written when an event or a `tick` comes; there is no thread behind it.
    """

    def __init__(
        self,
        tally: Tally,
        say: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        period_s: float = PERIOD_S,
    ) -> None:
        self._tally = tally
        self._say = say
        self._clock = clock
        self._period_s = period_s
        self._said_reason = ""
        self._write()

    def update(self, event: Event) -> None:
        """
        Take in one event; write a line when one is due.
        """
        self._tally.update(event)
        if isinstance(event, Waiting) and self._tally.reason != self._said_reason:
            self._write()
        else:
            self.tick()

    def tick(self) -> None:
        """
        Write a line when the last one is a period old; for loops in which events may stay away.
        """
        if self._clock() - self._said_at >= self._period_s:
            self._write()

    def close(self) -> None:
        """
        Write the last state.
        """
        self._write()

    def _write(self) -> None:
        self._said_at = self._clock()
        self._said_reason = self._tally.reason
        self._say(describe(self._tally))


def describe(tally: Tally) -> str:
    """
    The tally as one line.
    """
    parts = [_rows(tally), f"{tally.rate:,.0f} rows/s", *tally.counts()]
    left = tally.seconds_left
    if left:
        parts.append(f"about {human_duration(left)} left")
    if tally.reason:
        parts.append(tally.reason)
    return f"{tally.mapping}: {', '.join(parts)}"


def _rows(tally: Tally) -> str:
    if tally.total is None:
        return f"{tally.rows:,} rows"
    about = "~" if tally.estimate else ""
    share = "" if tally.share is None else f" ({tally.share:.1%})"
    return f"{tally.rows:,} of {about}{tally.total:,} rows{share}"


class _Bar(tqdm):  # type: ignore[type-arg,misc,unused-ignore]
    # Neither a monitor thread nor a semaphore shared between processes: workers are forked.
    monitor_interval = 0


_Bar.set_lock(threading.RLock())


def _width_of(stream: TextIO) -> dict[str, Any]:
    # A terminal that was never told its size (docker exec -t) has 0 columns: tqdm drew nothing.
    try:
        known = os.get_terminal_size(stream.fileno()).columns > 0
    except (OSError, ValueError):
        known = False
    return {"dynamic_ncols": True} if known else {"ncols": UNKNOWN_WIDTH, "nrows": 2}


class TqdmProgress:
    """
    One bar for the whole run, which starts where earlier runs have ended.
    """

    def __init__(self, tally: Tally, console: Console) -> None:
        self._tally = tally
        self._console = console
        self._bar: Any = _Bar(
            desc=tally.mapping,
            total=tally.total,
            initial=tally.first,
            unit=" rows",
            bar_format=BAR,
            unit_scale=True,
            smoothing=0.05,
            **_width_of(console.stream),
            disable=None,
            file=console.stream,
        )
        console.bar = self._bar

    def update(self, event: Event) -> None:
        """
        Take in one event and move the bar.
        """
        shown, rows = self._tally.reason, self._tally.rows
        self._tally.update(event)
        left = self._tally.seconds_left
        about = f"about {human_duration(left)} left" if left else self._tally.reason
        note = ", ".join(filter(None, [about, *self._tally.counts()]))
        try:
            self._bar.set_postfix_str(note, refresh=self._tally.reason != shown)
            self._bar.update(self._tally.rows - rows)
        except OSError:
            # The terminal has gone; the run has not.
            self._bar.disable = True

    def close(self) -> None:
        """
        Leave the last state on the screen.
        """
        self._console.bar = None
        try:
            self._bar.close()
        except OSError:
            self._bar.disable = True
