"""
One worker's backfill: open the stores for what a job describes and run the engine over them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from migrate.ledger.access import open_ledger
from migrate.ledger.store import Ledger
from migrate.mapping.compile import compile_mapping
from migrate.mapping.values import Mapping
from migrate.model.events import Event, Notify
from migrate.model.ports import Checkpoints, Loader, Partition, Progress
from migrate.model.settings import Settings
from migrate.model.values import Fence, KeyRange, Table
from migrate.pipeline.backfill import LARGEST_CHUNK, Engine
from migrate.pipeline.dry_run import ForgetfulCheckpoints
from migrate.pipeline.throttle import Brakes
from migrate.source.store import SqlSource
from migrate.target.store import RedisTarget
from migrate.workers.stopping import Requested, StoppableClock, check


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
        extractor = stack.enter_context(closing(source.extractor(compiled.query, job.table)))
        loader: Loader
        checkpoints: Checkpoints
        if job.run is None or job.fence is None:
            loader = target.dry_loader(compiled.name, compiled.shape(), adopt=job.adopt)
            checkpoints = ForgetfulCheckpoints(job.ranges)
        else:
            loader = target.loader(job.mapping.name, job.fence, compiled.shape(), adopt=job.adopt)
            ledger = stack.enter_context(
                closing(
                    open_ledger(
                        job.settings.ledger, wall=time.time, sleep=clock.sleep, notify=notify
                    )
                )
            )
            checkpoints = LedgerCheckpoints(ledger, job.run, job.mapping.name)
        stack.enter_context(closing(loader))
        config = job.settings.throttle
        brakes = Brakes(
            config,
            clock=clock,
            signals=target.signals,
            paused=Path(config.pause_file).exists,
            patience_s=job.settings.redis["target"].retry_for_s,
            share=1 / job.workers,
        )
        engine = Engine(
            extractor=extractor,
            loader=loader,
            checkpoints=checkpoints,
            encode=compiled.encode,
            lookups=compiled.lookups,
            throttle=brakes,
            clock=clock,
            generation=job.generation,
            stop=lambda: check(requested),
            limit=job.limit,
            largest=_largest_chunk(config.rows_per_second, job.workers),
        )
        yield from engine.run(worker)


def _largest_chunk(rows_per_second: int | None, workers: int) -> int:
    """
    No chunk above a second's worth of rows, so that a rate limit is a rate and not a burst.
    """
    if rows_per_second is None:
        return LARGEST_CHUNK
    return max(1, min(LARGEST_CHUNK, rows_per_second // workers))
