"""
The life of a spawned worker: it waits for its job, does it, and tells its parent how that went.

It stops at its next chunk when its parent says so or is gone, and when it gets SIGTERM itself.
"""

from __future__ import annotations

import gc
import logging
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

from migrate.errors import ExitCode, MigrateError, Unexpected
from migrate.model.events import Event, Notify
from migrate.workers.stopping import Requested, check

POLL_S = 0.2
"""How often a wait between parent and worker looks whether a stop was asked for."""

COLLECTED_AT = 50_000
"""Objects that a worker makes more than it drops, before Python looks for cycles among them."""

STOPPING = (signal.SIGINT, signal.SIGTERM)
"""Signals that go to all processes of a run at once: from a terminal, or a service manager."""

Work = Callable[[Any, str, Requested, Notify], Iterator[Event]]
"""What one worker does; a function of a module, because it crosses process borders by its name."""


def live(worker: str, channel: Connection, work: Work) -> None:
    """
    Wait for a job, and do it.

    Sends its events, then None or the error that ended it. Begins with `STOPPING` blocked.
    """
    asked = _Asked(channel)
    _be_silent()
    # Pages are many objects without a cycle among them, and what was imported stays.
    gc.freeze()
    gc.set_threshold(COLLECTED_AT)
    try:
        for event in work(asked.job(), worker, asked, channel.send):
            channel.send(event)
        channel.send(None)
    except (_NoParent, BrokenPipeError, ConnectionResetError):
        return  # nobody is left who wants to know
    except MigrateError as error:
        _tell(channel, error)
    except Exception as bug:  # noqa: BLE001 - the parent tells it; nobody else is there to
        _tell(channel, _bug(bug))


def _tell(channel: Connection, error: MigrateError) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):
        channel.send(error)


class _NoParent(Exception):
    """
    The parent is gone, or has no job after all.
    """


class _Asked:
    """
    What a worker is asked for: its job, and then perhaps to stop. A `Requested`.
    """

    def __init__(self, channel: Connection) -> None:
        self._channel = channel
        self._code: int | None = None
        # Only the parent decides what Ctrl-C means, which gets it as well.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._terminated)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)

    def job(self) -> Any:
        """
        The job, as soon as there is one.

        Raises:
            Stopped: There will be none.
        """
        while not self._channel.poll(POLL_S):
            check(lambda: self._code)
        try:
            return self._channel.recv()
        except EOFError:
            raise _NoParent from None

    def __call__(self) -> int | None:
        if self._code is None and self._channel.poll():
            try:
                self._code = int(self._channel.recv())
            except (EOFError, OSError):
                self._code = ExitCode.TERMINATED
        return self._code

    def _terminated(self, number: int, frame: FrameType | None) -> None:
        self._code = ExitCode.TERMINATED


def _be_silent() -> None:
    """
    Keep what drivers log and warn of off standard error: such lines may hold values.

    Without a handler Python would print them, traces and messages of servers included.
    """
    logging.getLogger().addHandler(logging.NullHandler())
    logging.captureWarnings(capture=True)


def _bug(bug: Exception) -> Unexpected:
    """
    A foreign exception without its text, which may hold values.
    """
    frames = traceback.extract_tb(bug.__traceback__)
    return Unexpected(
        "A worker met a bug in this program.",
        where={
            "exception": type(bug).__name__,
            "trace": " < ".join(f"{frame.filename}:{frame.lineno}" for frame in frames[::-1]),
        },
        next_step="This is a bug: please report it with the line above.",
    )
