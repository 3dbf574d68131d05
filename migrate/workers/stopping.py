"""
Stopping between chunks, and a clock whose sleep ends when a stop is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from migrate.errors import ExitCode, Stopped

Requested = Callable[[], int | None]
"""The exit code that a signal asked for, or None to go on."""

SLICE_S = 0.1
"""How long a stop may wait for a sleep."""


def check(requested: Requested) -> None:
    """
    End the work here if somebody asked for it.

    Raises:
        Stopped: Somebody asked the run to stop.
    """
    code = requested()
    if code is not None:
        error = Stopped(
            "Stopped between two chunks; everything up to here is saved.",
            next_step="Run the same command to continue.",
        )
        error.exit_code = ExitCode(code)
        raise error


class StoppableClock:
    """
    Monotonic time, and a sleep that raises as soon as the run is asked to stop.
    """

    def __init__(self, requested: Requested) -> None:
        self._requested = requested

    def now(self) -> float:
        """
        Seconds that only go forward.
        """
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """
        Wait in slices.

        Raises:
            Stopped: The run was asked to stop meanwhile.
        """
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            check(self._requested)
            time.sleep(min(left, SLICE_S))
        check(self._requested)
