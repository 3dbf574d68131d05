"""
The local executor: one process works in place, several are spawned and watched.

A worker that dies takes its chunk with it and nothing else.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Self, cast

from migrate.errors import ExitCode, MigrateError, WorkerDied
from migrate.model.events import Event, Notify
from migrate.workers.spawned import POLL_S, STOPPING, Work, live
from migrate.workers.stopping import Requested
from migrate.workers.work import work

SEVERITY = (
    ExitCode.AMBIGUOUS,
    ExitCode.FAILED,
    ExitCode.USAGE,
    ExitCode.LOCKED,
    ExitCode.REFUSED,
    ExitCode.UNREACHABLE,
    ExitCode.INCOMPLETE,
)
"""Which of several workers' errors is told; a stop comes last."""

FIRST = "worker-0"
"""The name of the worker that there always is."""


@dataclass(frozen=True, slots=True)
class _Worker:
    process: BaseProcess
    channel: Connection


class Team:
    """
    Who does the work of a run: one worker in place, or several that are spawned.

    Spawned ones start when the block is entered and wait there for their job: starting takes
    longer than planning. Each has a channel of its own, so that a dead one blocks no other.

    Args:
        workers: How many.

        work: What each of them does.
    """

    def __init__(self, workers: int, work: Work = work) -> None:
        self._count = workers
        self._work = work
        self._team: list[_Worker] = []
        self._errors: list[MigrateError] = []

    def __enter__(self) -> Self:
        if self._count > 1:
            self._spawn()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end()

    def run(self, job: Any, requested: Requested, notify: Notify) -> Generator[Event, None, None]:
        """
        Do a job; within the block, and another one behind it.

        Args:
            job: Crosses process borders.

            notify: Told before a wait of the one worker that works in place; those of spawned
                workers come as events.

        Yields:
            The events of all workers, in the order of their arrival.

        Raises:
            MigrateError: The gravest error of a worker, once all have ended.
        """
        if self._count == 1:
            yield from self._work(job, FIRST, requested, notify)
            return
        if not self._team:
            self._spawn()
        self._errors = []
        try:
            for worker in self._team:
                with suppress(OSError):  # it has ended already, as its channel will tell
                    worker.channel.send(job)
            yield from self._watch(requested)
        finally:
            self._end()
        if self._errors:
            raise min(self._errors, key=_severity)

    def _spawn(self) -> None:
        context = multiprocessing.get_context("spawn")
        try:
            for number in range(self._count):
                here, there = context.Pipe()
                process = context.Process(
                    target=live, args=(f"worker-{number}", there, self._work), daemon=True
                )
                with _held_back():
                    process.start()
                there.close()
                self._team.append(_Worker(process, here))
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        """
        End whoever is left, and wait for it.

        The end of its channel tells it that nobody wants its work, or has any for it. It could not
        be waited for otherwise: nobody reads what it still has to say.
        """
        team, self._team = self._team, []
        for worker in team:
            worker.channel.close()
        for worker in team:
            worker.process.join()

    def _watch(self, requested: Requested) -> Iterator[Event]:
        alive = {worker.channel: worker for worker in self._team}
        told = False
        while alive:
            code = requested()
            if not told and (code is not None or self._errors):
                told = True
                for channel in alive:
                    with suppress(OSError):
                        channel.send(code or ExitCode.TERMINATED)
            for ready in wait(list(alive), timeout=POLL_S):
                channel = cast("Connection", ready)
                message = self._receive(alive[channel])
                if message is None:
                    del alive[channel]
                else:
                    yield message

    def _receive(self, worker: _Worker) -> Event | None:
        """
        The worker's next event; None when it has ended.
        """
        try:
            message = worker.channel.recv()
        except (EOFError, OSError):
            worker.process.join()
            self._errors.append(_died(worker.process))
            return None
        if message is None:
            return None
        if isinstance(message, MigrateError):
            self._errors.append(message)
            return None
        event: Event = message
        return event


@contextmanager
def _held_back() -> Iterator[None]:
    """
    Keep `STOPPING` waiting, also in a process that is started meanwhile, until that can hear them.

    While it is being imported it would die of one, with a trace.
    """
    # With the first process Python starts one of its own, and lets signals through behind it.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _severity(error: MigrateError) -> int:
    code = ExitCode(error.exit_code)
    return SEVERITY.index(code) if code in SEVERITY else len(SEVERITY)


def _died(process: BaseProcess) -> WorkerDied:
    return WorkerDied(
        "A worker process ended without a word.",
        where={"worker": process.name, "exit": process.exitcode},
        next_step="Run the same command again: it continues after the last saved chunk.",
    )
