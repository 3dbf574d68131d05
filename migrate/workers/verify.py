"""
One pass of a verification: decide what to go on with, hand out the work, and keep the result.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

from migrate import __version__
from migrate.errors import MappingChanged, MigrateError, Refused, Stopped, TargetChanged
from migrate.ledger.access import held
from migrate.ledger.store import FINISHED, HALTED, Ledger, MappingState
from migrate.ledger.verification import Kept
from migrate.mapping.compile import CompiledMapping, compile_mapping
from migrate.mapping.values import Mapping as ProfileMapping
from migrate.model.events import ChunkVerified, Event, KeysCounted, Notify, Throttled
from migrate.model.settings import Settings
from migrate.model.values import Expiry, Table
from migrate.model.verdict import BACK, Level
from migrate.pipeline.scope import find_table, partitions_for
from migrate.pipeline.verify import Tally
from migrate.pipeline.verify_fields import Fields
from migrate.pipeline.verify_seen import Seen
from migrate.workers.local import Team
from migrate.workers.stopping import Requested
from migrate.workers.verify_job import KIND, Bench, Request, VerifyJob, with_end, work
from migrate.workers.verify_result import Told


class Verify:
    """
    One pass of a verification; `result` is there once `run` is over.

    Args:
        requested: Asked between pages whether to stop.

        ready: Told the estimated rows once, before the first page.

        passes: Its number, from 1.
    """

    def __init__(
        self,
        settings: Settings,
        mapping: ProfileMapping,
        request: Request,
        *,
        requested: Requested,
        notify: Notify,
        ready: Callable[[int], None],
        passes: int = 1,
    ) -> None:
        self.result: dict[str, Any] = {}
        self.stopped: int | None = None
        self._passes = passes
        self._throttled_s = 0.0
        self._settings = settings
        self._mapping = mapping
        self._request = request
        self._notify = notify
        self._ready = ready
        self._secret = secrets.token_bytes(16)
        until = None
        if request.max_runtime_s is not None:
            until = time.monotonic() + request.max_runtime_s
        self._requested = with_end(requested, until)

    def run(self) -> Iterator[Event]:
        """
        Do it.

        Raises:
            MigrateError: Why nothing could be told. A stop is no error: the result says it.
        """
        probe = VerifyJob(
            self._settings,
            self._mapping,
            Table(None, "", ()),
            revision=1,
            run="",
            level=self._request.level,
            workers=1,
            instant=None,
            copied=True,
            over_from=None,
            secret=self._secret,
        )
        with ExitStack() as stack:
            bench = Bench.open(probe, self._requested, self._notify, stack)
            stack.enter_context(held(bench.ledger, self._mapping.name))
            yield from self._run(bench, stack)

    def _run(self, bench: Bench, stack: ExitStack) -> Iterator[Event]:
        began, started = time.monotonic(), time.time()
        state = self._state(bench)
        table = find_table(bench.source, self._mapping)
        compiled = compile_mapping(self._mapping, table, revision=state.revision)
        if compiled.fingerprint != state.fingerprint:
            raise MappingChanged(
                "The mapping is another one than the records were written with.",
                where={"mapping": compiled.name},
                next_step=f"profile-migrate backfill {compiled.name}",
            )
        team = stack.enter_context(Team(self._request.workers if self._is_whole else 1, work))
        epoch = _epoch(bench, compiled.name)
        run, rows = self._begin(bench, compiled, table, epoch)
        job = self._job(bench, table, state, run)
        bench = replace(bench, job=job)
        self._ready(rows)
        try:
            for event in self._levels(bench, job, team):
                self._throttled_s += event.seconds if isinstance(event, Throttled) else 0.0
                yield event
        except Stopped as stop:
            self.stopped = int(stop.exit_code)
        except MigrateError as failed:
            self._end(bench.ledger, run, HALTED, int(failed.exit_code), failed.code, began)
            raise
        told = Told(bench, self._request, epoch, self.stopped, self._passes)
        self.result = told.result(rows, started, time.monotonic() - began)
        # Where everything was looked at there is nothing to go on with, whatever was found.
        status = FINISHED if self.stopped is None else HALTED
        self._keep(bench.ledger, run, state, epoch)
        self._end(bench.ledger, run, status, self.result["exit_code"], None, began)

    @property
    def _is_whole(self) -> bool:
        """
        Whether every row is looked at.
        """
        return self._request.level in (Level.FULL, Level.DEEP)

    def _levels(self, bench: Bench, job: VerifyJob, team: Team) -> Iterator[Event]:
        match job.level:
            case Level.COUNT:
                yield from _counted(bench)
            case Level.SAMPLE:
                yield from _sampled(bench, self._request.sample or 1)
                yield from bench.again()
            case _:
                yield from self._both_ways(bench, job, team)
                yield from bench.again()

    def _both_ways(self, bench: Bench, job: VerifyJob, team: Team) -> Iterator[Event]:
        """
        From SQL to Redis, and from Redis to SQL where that is not done.
        """
        done = {part["number"] for part in bench.ledger.parts_of(job.run) if part["done"]}
        job = replace(job, counts=BACK not in done)
        found = None
        for event in team.run(job, self._requested, self._notify):
            if isinstance(event, KeysCounted):
                found = Seen.of(job.run, [event.seen])
            else:
                yield event
        if job.counts:
            yield from _backwards(bench, found)

    def _state(self, bench: Bench) -> MappingState:
        state = bench.ledger.mapping(self._mapping.name)
        if state is None or bench.ledger.last_run(self._mapping.name) is None:
            raise Refused(
                "Nothing of this mapping was ever backfilled: there is nothing to verify.",
                where={"mapping": self._mapping.name},
                next_step=f"profile-migrate backfill {self._mapping.name}",
            )
        found = bench.target.identity()
        if (state.address, state.topology) != (found.address, found.topology):
            raise TargetChanged(
                "The records that this ledger knows are in another Redis.",
                where={"mapping": self._mapping.name, "expected": state.address},
                next_step="Point redis.target to it, and run the same command again.",
            )
        return state

    def _job(self, bench: Bench, table: Table, state: MappingState, run: str) -> VerifyJob:
        last = bench.ledger.last_run(self._mapping.name)
        earliest = bench.ledger.first_instant(self._mapping.name, state.fingerprint)
        seconds = self._mapping.ttl_seconds
        over = None
        if self._mapping.expiry is Expiry.FIXED and earliest is not None and seconds is not None:
            over = earliest + seconds * 1000
        return VerifyJob(
            settings=self._settings,
            mapping=self._mapping,
            table=table,
            revision=state.revision,
            run=run,
            level=self._request.level,
            workers=self._request.workers,
            instant=last.instant if last else None,
            copied=last is not None and last.status == FINISHED,
            over_from=over,
            secret=self._secret,
            show_values=self._request.show_values,
        )

    def _begin(
        self, bench: Bench, compiled: CompiledMapping, table: Table, epoch: int
    ) -> tuple[str, int]:
        """
        Go on with an unfinished run of the same level over the same records, or begin one.
        """
        ledger, request = bench.ledger, self._request
        last = ledger.last_run(compiled.name, KIND)
        kept = ledger.last_verification(compiled.name)
        same = (
            last is not None
            and kept is not None
            and kept.run == last.id
            and (kept.level, kept.epoch, kept.fingerprint)
            == (request.level.value, epoch, compiled.fingerprint)
        )
        if same and last is not None and last.status != FINISHED and request.sample is None:
            ledger.resume_run(last.id, workers=request.workers)
            return last.id, last.rows_estimated
        rows = bench.source.count(compiled.query, estimate=request.level is not Level.COUNT)
        with closing(bench.source.extractor(compiled.query, table)) as extractor:
            parts = partitions_for(rows, request.workers)
            ranges = extractor.split(parts) if self._is_whole else []
        run = ledger.begin_run(
            compiled.name,
            kind=KIND,
            fingerprint=compiled.fingerprint,
            tool=__version__,
            source=self._settings.source.address,
            target=self._settings.redis["target"].address,
            ranges=ranges,
            rows_estimated=rows,
            workers=request.workers,
        )
        ledger.begin_verification(
            run,
            Kept(compiled.name, request.level.value, compiled.fingerprint, epoch, time.time()),
            carry=request.continuous,
        )
        return run, rows

    def _keep(self, ledger: Ledger, run: str, state: MappingState, epoch: int) -> None:
        ledger.keep_verification(
            run,
            Kept(
                state.name,
                self._request.level.value,
                state.fingerprint,
                epoch,
                time.time(),
                self.result["verdict"],
                json.dumps(self.result),
            ),
        )

    def _end(
        self, ledger: Ledger, run: str, status: str, code: int, error: str | None, began: float
    ) -> None:
        try:
            ledger.end_run(
                run,
                status=status,
                exit_code=code,
                error=error,
                seconds=time.monotonic() - began,
                throttled_s=self._throttled_s,
            )
        except MigrateError:
            if error is None:
                raise


def _backwards(bench: Bench, found: Seen | None) -> Iterator[Event]:
    """
    From Redis to SQL, from the beginning: a scan has no place to go on from.
    """
    run = bench.job.run
    bench.ledger.add_partition(run, BACK)
    bench.ledger.restart_partition(run, BACK)
    partition = bench.ledger.claim(run, "parent")
    if partition is not None:
        yield from bench.back().run(partition, found)


def _sampled(bench: Bench, count: int) -> Iterator[Event]:
    """
    Some rows at random, each compared as closely as can be.
    """
    bench.ledger.add_partition(bench.job.run, 0)
    partition = bench.ledger.claim(bench.job.run, "parent")
    if partition is None:
        return
    verifier = bench.forward()
    chunk = bench.source.sample(verifier.compiled.query, count)
    if isinstance(verifier.fast, Fields):
        tally = verifier.fast.sample(verifier, chunk.keys)
    else:
        tally = verifier.compare(chunk) if chunk.keys else Tally()
    verifier.books.save(partition, None, tally, 0.0, done=True)
    yield ChunkVerified(0, tally.rows, tally.hard)


def _counted(bench: Bench) -> Iterator[Event]:
    """
    Rows and records, counted.
    """
    run = bench.job.run
    bench.ledger.add_partition(run, 0)
    partition = bench.ledger.claim(run, "parent")
    if partition is None:
        return
    records = bench.back().count()
    bench.books().save(partition, None, Tally(rows=records), 0.0, done=True)
    yield ChunkVerified(0, records, 0)


def _epoch(bench: Bench, mapping: str) -> int:
    fence = bench.target.fence(mapping)
    return fence.epoch if fence else 0
