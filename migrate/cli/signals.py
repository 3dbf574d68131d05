"""
The first Ctrl-C or SIGTERM asks the run to stop after the batch; the second ends it at once.

Nothing has to be cleaned up: progress is saved with each batch, and the next run continues.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import NoReturn, Self

from migrate.errors import ExitCode, Stopped

EXIT_CODES: Mapping[int, ExitCode] = {
    signal.SIGINT: ExitCode.INTERRUPTED,
    signal.SIGTERM: ExitCode.TERMINATED,
}

ANNOUNCEMENT = "Finishing the batch; Ctrl-C again stops at once.\n"


class Terminated(BaseException):
    """
    SIGTERM arrived while nothing was running that could be finished first.
    """


def terminate(*_signal: object) -> NoReturn:
    """
    Handle SIGTERM outside of runs: leave through the one place that says goodbye.
    """
    raise Terminated


def stopped(exit_code: ExitCode = ExitCode.INTERRUPTED) -> Stopped:
    """
    What a run raises, or the face shows, after a signal.
    """
    error = Stopped("Stopped. Run the same command to continue.")
    error.exit_code = exit_code
    return error


class StopFlag:
    """
    Whether a signal asked the run to stop, and which one.

    A context manager that takes over SIGINT and SIGTERM (main thread only) and gives them back.
    Calling it answers like `requested`, for engines that take a plain function.

    Args:
        announce: Written to standard error at the first signal; empty says nothing.

        before_exit: Called at the second signal before the process ends, to end workers with it.
    """

    def __init__(
        self, announce: str = ANNOUNCEMENT, before_exit: Callable[[], object] | None = None
    ) -> None:
        self._announce = announce.encode()
        self._before_exit = before_exit
        self._requested: ExitCode | None = None
        self._before: dict[int, signal.Handlers | Callable[..., object] | int | None] = {}
        # A pipe, not an event: a handler that sets an event can lock up with a waiting main thread.
        self._awake, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._woken_before = -1

    @property
    def requested(self) -> ExitCode | None:
        """
        The exit code that the signal asks for, or None.
        """
        return self._requested

    def __call__(self) -> ExitCode | None:
        return self._requested

    def raise_if_requested(self) -> None:
        """
        End a loop between two batches.

        Raises:
            Stopped: A signal asked for it; carries the right exit code.
        """
        if self._requested is not None:
            raise stopped(self._requested)

    def sleep(self, seconds: float) -> None:
        """
        Wait; return at once when a signal asks to stop.
        """
        until = time.monotonic() + seconds
        while self._requested is None and (left := until - time.monotonic()) > 0:
            ready, _, _ = select.select([self._awake], [], [], left)
            if ready:
                # The interpreter's handler comes behind this byte, or it is of another signal.
                os.read(self._awake, 1)

    def __enter__(self) -> Self:
        # Written at the signal itself, in whatever thread and however shortly before a wait;
        # the interpreter runs its handlers in the main thread alone, once that does something.
        self._woken_before = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for number in EXIT_CODES:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before.clear()
        signal.set_wakeup_fd(self._woken_before)
        os.close(self._awake)
        os.close(self._wake)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._requested is not None:
            self._end(EXIT_CODES[number])
        self._requested = EXIT_CODES[number]
        _say(self._announce)

    def _end(self, exit_code: ExitCode) -> NoReturn:
        # Not an exception: it could get stuck in the very thing that the person wants to leave.
        try:
            if self._before_exit is not None:
                self._before_exit()
        finally:
            os._exit(exit_code)


def _say(text: bytes) -> None:
    # Straight to the descriptor: a handler may interrupt a write of the stream that it would use.
    try:
        os.write(2, text)
    except OSError:
        return
