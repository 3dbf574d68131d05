"""
One worker's backfill: open the stores for what a job describes and run the engine over them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass

from migrate.ledger.access import open_ledger
from migrate.ledger.store import Ledger
from migrate.mapping.compile import CompiledMapping, compile_mapping
from migrate.mapping.values import Mapping
from migrate.model.events import Event, Notify
from migrate.model.ports import Checkpoints, Loader, Pace, Partition, Progress
from migrate.model.settings import Settings
from migrate.model.values import Fence, KeyRange, Table
from migrate.pipeline.backfill import LARGEST_CHUNK, SMALLEST_CHUNK, Engine
from migrate.pipeline.bulk import LARGEST_PAGE, Lines
from migrate.pipeline.carry import Carrier, Rows
from migrate.pipeline.dry_run import ForgetfulCheckpoints
from migrate.source.store import SqlSource
from migrate.target.encoder import Encoder
from migrate.target.store import RedisTarget
from migrate.workers.brakes import brakes_of
from migrate.workers.stopping import Requested, StoppableClock, check

READ_S = 0.02
"""Of a run with a rate limit, what it may copy in this time is read at once."""


@dataclass(frozen=True, slots=True)
class Job:
    """
    What every worker of a run has to know; crosses process borders.

    Args:
        run: Id in the ledger; None for a dry run.

        ranges: Of a dry run, which asks no ledger for them.

        workers: How many share the rate limit.

        adopt: Put values that are not ours aside instead of rejecting their rows.

        instant: The source's clock in ms when the run began, for records that expire after it.
    """

    settings: Settings
    mapping: Mapping
    table: Table
    revision: int
    generation: int
    fence: Fence | None
    run: str | None
    ranges: tuple[KeyRange, ...] = ()
    workers: int = 1
    limit: int | None = None
    adopt: bool = False
    instant: int | None = None


@dataclass(frozen=True, slots=True)
class LedgerCheckpoints:
    """
    The `Checkpoints` of one run in a ledger.
    """

    ledger: Ledger
    run: str
    mapping: str

    def claim(self, worker: str) -> Partition | None:
        """
        A partition that nobody works on.
        """
        return self.ledger.claim(self.run, worker)

    def save(self, partition: Partition, progress: Progress) -> Partition:
        """
        Keep what a chunk added, durably.
        """
        return self.ledger.save(self.run, self.mapping, partition, progress)


def work(job: Job, worker: str, requested: Requested, notify: Notify) -> Iterator[Event]:
    """
    Run the job's engine until no partition is left.

    Raises:
        MigrateError: Whatever ended the work; all that was yielded before is saved.
    """
    clock = StoppableClock(requested)
    with ExitStack() as stack:
        source = stack.enter_context(
            closing(SqlSource.open(job.settings.source, notify, sleep=clock.sleep))
        )
        target = stack.enter_context(
            closing(RedisTarget.open(job.settings.redis["target"], notify, clock))
        )
        compiled = compile_mapping(
            job.mapping, job.table, revision=job.revision, instant=job.instant
        )
        brakes = brakes_of(job.settings, target, clock, job.workers)
        carrier: Carrier
        checkpoints: Checkpoints
        if job.run is None or job.fence is None:
            carrier = _dry(job, compiled, source, target, stack)
            checkpoints = ForgetfulCheckpoints(job.ranges)
        else:
            carrier = _wet(job, compiled, source, target, brakes.pacer, stack)
            ledger = stack.enter_context(
                closing(
                    open_ledger(
                        job.settings.ledger, wall=time.time, sleep=clock.sleep, notify=notify
                    )
                )
            )
            checkpoints = LedgerCheckpoints(ledger, job.run, job.mapping.name)
        engine = Engine(
            carrier=carrier,
            checkpoints=checkpoints,
            throttle=brakes,
            clock=clock,
            stop=lambda: check(requested),
            limit=job.limit,
            largest=_largest_chunk(carrier, job.settings.throttle.rows_per_second, job.workers),
        )
        yield from engine.run(worker)


def _dry(
    job: Job, compiled: CompiledMapping, source: SqlSource, target: RedisTarget, stack: ExitStack
) -> Carrier:
    loader = target.dry_loader(compiled.name, compiled.shape(), adopt=job.adopt)
    return _rows(job, compiled, source, loader, stack)


def _wet(
    job: Job,
    compiled: CompiledMapping,
    source: SqlSource,
    target: RedisTarget,
    pace: Pace,
    stack: ExitStack,
) -> Carrier:
    """
    The fast way where both stores and the mapping have it, and the plain one otherwise.
    """
    fence, shape = job.fence, compiled.shape()
    if fence is None:
        raise AssertionError("a run that writes has a fence")
    plan = compiled.bulk()
    bulk = None
    if job.settings.bulk and not job.adopt:
        bulk = target.bulk(compiled.name, fence, shape, pace)
    if bulk is None:
        loader = target.loader(compiled.name, fence, shape, adopt=job.adopt, pace=pace)
        return _rows(job, compiled, source, loader, stack)
    rows = _rows(job, compiled, source, bulk, stack)
    lines = None
    if plan is not None and Encoder.takes(plan):
        lines = source.bulk(compiled.query, job.table, plan.collections)
    if plan is None or lines is None:
        return rows
    stack.enter_context(closing(lines))
    return Lines(lines, plan, bulk, compiled.query.revision, rows)


def _rows(
    job: Job, compiled: CompiledMapping, source: SqlSource, loader: Loader, stack: ExitStack
) -> Rows:
    extractor = stack.enter_context(closing(source.extractor(compiled.query, job.table)))
    stack.enter_context(closing(loader))
    return Rows(extractor, loader, compiled.encode, job.generation, compiled.lookups)


def _largest_chunk(carrier: Carrier, rows_per_second: int | None, workers: int) -> int:
    """
    Rows of a chunk at most; where there is a rate limit, what a short moment allows.

    Reading a chunk is a burst for the source, and waiting for it would be a gap in the rate. But
    few rows are not worth a round trip, so that a slow run reads up to a second's worth.
    """
    largest = LARGEST_PAGE if isinstance(carrier, Lines) else LARGEST_CHUNK
    if rows_per_second is None:
        return largest
    second = rows_per_second // workers
    return max(1, min(largest, second, max(SMALLEST_CHUNK, int(second * READ_S))))
