"""
Verification pass after pass, until somebody or the clock ends it.

The mapping's lock is held during a pass only: whoever wants the mapping gets it in between.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol

from migrate.errors import ExitCode, LockHeld, Stopped
from migrate.model.events import Event
from migrate.model.ports import Clock
from migrate.pipeline.verify_result import MISMATCH, PASS

LOOK_S = 2.0
"""Between two looks at a mapping that another process holds."""


class Pass(Protocol):
    """
    One whole verification, run once.
    """

    result: dict[str, Any]
    stopped: int | None

    def run(self) -> Iterator[Event]:
        """
        Do it.
        """


class Continuous:
    """
    Passes, one behind the other; `result` is that of the last whole one once `run` is over.

    A pass is whole where it was not stopped and everything could be told: PASS or MISMATCH.

    Args:
        begin: Makes the pass with this number.

        every_s: From the beginning of one pass to that of the next, at least.

        clock: Its sleep raises as soon as the run is asked to stop.

        passed: Told each pass that ended by itself, and the result of the last whole one.

        waits: Told once that another process holds the mapping.
    """

    def __init__(
        self,
        begin: Callable[[int], Pass],
        *,
        every_s: float,
        clock: Clock,
        passed: Callable[[dict[str, Any], dict[str, Any]], None],
        waits: Callable[[LockHeld], None],
    ) -> None:
        self.result: dict[str, Any] = {}
        self._begin = begin
        self._every_s = every_s
        self._clock = clock
        self._passed = passed
        self._waits = waits
        self._ended = 0
        self._whole: dict[str, Any] = {}
        self._last: dict[str, Any] = {}

    def run(self) -> Iterator[Event]:
        """
        Go round.

        Raises:
            LockHeld: Another process holds the mapping before the first pass.
            Stopped: Nothing can be told, because no pass came to its end.
            MigrateError: Why a pass could tell nothing.
        """
        try:
            while True:
                began = yield from self._round()
                self._clock.sleep(max(0.0, began + self._every_s - self._clock.now()))
        except Stopped as stop:
            if not self._last:
                raise
            self.result = self._told(int(stop.exit_code))

    def _round(self) -> Generator[Event, None, float]:
        """
        The next pass, as soon as the mapping is free; returns when it began.
        """
        told = False
        while True:
            began = self._clock.now()
            one = self._begin(self._ended + 1)
            try:
                yield from one.run()
            except LockHeld as held:
                if not self._ended:
                    raise
                if not told:
                    self._waits(held)
                told = True
                self._clock.sleep(LOOK_S)
                continue
            self._keep(one)
            return began

    def _keep(self, one: Pass) -> None:
        self._last = one.result
        if one.stopped is not None:
            stop = Stopped("Stopped between two pages; everything up to here is saved.")
            stop.exit_code = ExitCode(one.stopped)
            raise stop
        self._ended += 1
        if one.result["verdict"] in (PASS, MISMATCH):
            self._whole = one.result
        self._passed(one.result, self._whole or one.result)

    def _told(self, code: int) -> dict[str, Any]:
        """
        The last whole result, with the exit code of whoever ended the run; a clock has none.
        """
        if not self._whole:
            return {**self._last, "exit_code": code}
        return self._whole if code == ExitCode.INCOMPLETE else {**self._whole, "exit_code": code}
