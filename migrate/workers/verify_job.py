"""
What every worker of a verification is handed, and the open stores that it works with.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial

from migrate.errors import ExitCode
from migrate.ledger.access import open_ledger
from migrate.ledger.recheck import Looked as KeptLook
from migrate.ledger.store import Ledger
from migrate.ledger.verification import Checked
from migrate.mapping.compile import CompiledMapping, compile_mapping
from migrate.mapping.values import Mapping as ProfileMapping
from migrate.model.events import Event, Notify
from migrate.model.ports import Clock, Partition
from migrate.model.settings import Settings
from migrate.model.values import Key, Table
from migrate.model.verdict import BACK, Level, Recheck
from migrate.pipeline import verify_fields
from migrate.pipeline import verify_result as results
from migrate.pipeline.throttle import Brakes
from migrate.pipeline.verify import Tally, Verifier
from migrate.pipeline.verify_again import DELAYS_S, Looked, Rechecks
from migrate.pipeline.verify_back import Back
from migrate.pipeline.verify_fields import Fields
from migrate.pipeline.verify_lines import LARGEST_PAGE, Lines
from migrate.pipeline.verify_seen import Seen
from migrate.source.extract import KeysetExtractor
from migrate.source.store import SqlSource
from migrate.target.encoder import Marker
from migrate.target.store import RedisTarget
from migrate.workers.brakes import brakes_of
from migrate.workers.local import FIRST
from migrate.workers.stopping import Requested, StoppableClock, check

KIND = "verify"
"""Of these runs in the ledger."""


@dataclass(frozen=True, slots=True)
class Request:
    """
    What the user asked for.

    Args:
        sample: Rows to look at, where the level is a sample.

        max_runtime_s: After it no further page is begun; None has no end.

        show_values: Keep and show values of what differs.

        continuous: One pass of several: what keeps changing is taken over into the next.
    """

    level: Level
    sample: int | None = None
    workers: int = 1
    max_runtime_s: float | None = None
    show_values: bool = False
    continuous: bool = False


@dataclass(frozen=True, slots=True)
class VerifyJob:
    """
    What every worker has to know; crosses process borders.

    Args:
        secret: Key of the digests that stand for values.

        over_from: The earliest instant from which records may have expired.

        counts: Whether keys are counted for the way back.
    """

    settings: Settings
    mapping: ProfileMapping
    table: Table
    revision: int
    run: str
    level: Level
    workers: int
    instant: int | None
    copied: bool
    over_from: int | None
    secret: bytes = field(repr=False)
    show_values: bool = False
    counts: bool = False


@dataclass(frozen=True, slots=True)
class LedgerBooks:
    """
    The `Books` of one verification in a ledger, and its re-check list.

    Args:
        clock: By which keys on the list are due.
    """

    ledger: Ledger
    job: VerifyJob
    clock: Clock

    def claim(self, worker: str) -> Partition | None:
        """
        A partition of rows that nobody works on; the way back is a walk of its own.
        """
        return self.ledger.claim(self.job.run, worker, but=(BACK,))

    def save(
        self, partition: Partition, cursor: Key | None, tally: Tally, seconds: float, *, done: bool
    ) -> Partition:
        """
        Keep what a page found, durably.
        """
        checked = self._checked(tally, cursor, done=done)
        return self.ledger.save_checked(self.job.run, partition, checked, seconds=seconds)

    def next_due(self) -> float | None:
        """
        When the next listed key is to be looked at.
        """
        return self.ledger.next_recheck(self.job.run)

    def due(self, until: float, limit: int) -> Sequence[Recheck]:
        """
        Listed keys whose time has come.
        """
        return self.ledger.rechecks(self.job.run, until, limit)

    def settle(self, looked: Sequence[Looked]) -> None:
        """
        Keep what a page of looks at listed keys brought.
        """
        kept = [
            KeptLook(
                one.listed,
                None if one.tally is None else self._checked(one.tally, None, done=False),
                one.states,
                one.due,
            )
            for one in looked
        ]
        self.ledger.save_rechecked(self.job.run, kept)

    def _checked(self, tally: Tally, cursor: Key | None, *, done: bool) -> Checked:
        findings = [
            (one, self._told(one.mismatch.expected), self._told(one.mismatch.found))
            for one in tally.findings
        ]
        return Checked(
            cursor,
            tally.rows,
            dict(tally.counts),
            findings,
            done=done,
            seen=b"" if tally.seen is None else tally.seen.dump(),
            rechecks=tally.rechecks,
            due=self.clock.now() + DELAYS_S[0],
        )

    def rejected(self, keys: Sequence[Key]) -> set[Key]:
        """
        Those of these rows that are open rejects.
        """
        return self.ledger.rejected(self.job.mapping.name, keys)

    def has_rejects(self) -> bool:
        """
        Whether any row of the mapping is an open reject.
        """
        return self.ledger.has_rejects(self.job.mapping.name)

    def seen(self) -> Seen | None:
        """
        What all partitions of the way from SQL have left; None where they left nothing.
        """
        kept = self.ledger.seen(self.job.run)
        return Seen.of(self.job.run, kept) if kept else None

    def _told(self, value: bytes | None) -> str:
        return json.dumps(
            results.describe(value, self.job.secret, show=self.job.show_values), sort_keys=True
        )


@dataclass(frozen=True, slots=True)
class Bench:
    """
    The open stores of one worker, and the engines over them.
    """

    job: VerifyJob
    source: SqlSource
    target: RedisTarget
    ledger: Ledger
    clock: StoppableClock
    requested: Requested
    stack: ExitStack

    @classmethod
    def open(cls, job: VerifyJob, requested: Requested, notify: Notify, stack: ExitStack) -> Bench:
        """
        Connect to all three stores.
        """
        clock = StoppableClock(requested)
        source = stack.enter_context(
            closing(SqlSource.open(job.settings.source, notify, sleep=clock.sleep))
        )
        target = stack.enter_context(
            closing(RedisTarget.open(job.settings.redis["target"], notify, clock))
        )
        ledger = stack.enter_context(
            closing(
                open_ledger(job.settings.ledger, wall=time.time, sleep=clock.sleep, notify=notify)
            )
        )
        return cls(job, source, target, ledger, clock, requested, stack)

    def compiled(self) -> CompiledMapping:
        """
        The mapping as the backfill wrote by it.
        """
        job = self.job
        return compile_mapping(job.mapping, job.table, revision=job.revision, instant=job.instant)

    def brakes(self) -> Brakes:
        """
        What holds this worker back.
        """
        return brakes_of(self.job.settings, self.target, self.clock, self.job.workers)

    def books(self) -> LedgerBooks:
        """
        What is kept of the verification.
        """
        return LedgerBooks(self.ledger, self.job, self.clock)

    def forward(self) -> Verifier:
        """
        From SQL to Redis.
        """
        compiled = self.compiled()
        extractor = self.stack.enter_context(
            closing(self.source.extractor(compiled.query, self.job.table))
        )
        return Verifier(
            level=self.job.level,
            fast=self._lines(compiled) or self._fields(compiled, extractor),
            seeing=self._seeing(),
            compiled=compiled,
            shape=compiled.shape(),
            extractor=extractor,
            plain=self.source.plain(compiled.query),
            reader=self.target.reader(compiled.shape()),
            books=self.books(),
            throttle=self.brakes(),
            clock=self.clock,
            stop=lambda: check(self.requested),
            copied=self.job.copied,
            over_from=self.job.over_from,
        )

    def _seeing(self) -> Callable[[], Seen] | None:
        """
        What the way back is proven by, where there is a way back.
        """
        if not self.job.settings.bulk or self.job.level not in (Level.FULL, Level.DEEP):
            return None
        return partial(Seen, self.job.run)

    def _lines(self, compiled: CompiledMapping) -> Lines | None:
        """
        The fast way, where level, mapping, source and target have it.
        """
        job, plan = self.job, compiled.bulk()
        if job.level is not Level.FULL or not job.settings.bulk or plan is None:
            return None
        extractor = self.source.bulk(compiled.query, job.table, plan.collections)
        if extractor is None:
            return None
        self.stack.enter_context(closing(extractor))
        shape = compiled.shape()
        glance = self.target.glance(shape, Marker.head_of(plan, shape.reserved))
        if glance is None:
            return None
        self.stack.enter_context(closing(glance))
        return Lines(
            extractor,
            plan,
            shape.reserved,
            glance,
            self.source.plain(compiled.query),
            compiled.query.revision,
            self._page(LARGEST_PAGE),
        )

    def _fields(self, compiled: CompiledMapping, extractor: KeysetExtractor) -> Fields | None:
        """
        The fast way of levels that read fields.
        """
        job = self.job
        if not job.level.reads_fields or not job.settings.bulk or not verify_fields.fits(compiled):
            return None
        whole = self.target.whole(compiled.shape(), len(compiled.fields) + verify_fields.MARKS)
        if whole is None:
            return None
        self.stack.enter_context(closing(whole))
        page = self._page(verify_fields.LARGEST_PAGE)
        return Fields(compiled, self.source.fields(compiled.query, extractor), whole, page)

    def _page(self, largest: int) -> int:
        """
        Rows of a page: a second's worth at most where there is a rate, which holds between pages.
        """
        rate = self.job.settings.throttle.rows_per_second
        return largest if rate is None else max(1, min(largest, rate // self.job.workers))

    def back(self) -> Back:
        """
        From Redis to SQL.
        """
        compiled = self.compiled()
        keys = replace(compiled.query, columns=compiled.query.key, children=())
        extractor = self.stack.enter_context(
            closing(self.source.extractor(keys, replace(self.job.table, children={})))
        )
        return Back(
            compiled=compiled,
            shape=compiled.shape(),
            shapes=self.ledger.shapes(compiled.name) or [compiled.shape()],
            extractor=extractor,
            plain=self.source.plain(compiled.query),
            reader=self.target.reader(compiled.shape()),
            books=self.books(),
            told=lambda entries: self.ledger.told_entries(self.job.run, entries),
            throttle=self.brakes(),
            clock=self.clock,
            stop=lambda: check(self.requested),
            counting=self._seeing(),
        )

    def again(self) -> Iterator[Event]:
        """
        The re-check list, as long as there is something to do.
        """
        books = self.books()
        if books.next_due() is not None:
            yield from Rechecks(self.forward(), books).run()


def work(job: VerifyJob, worker: str, requested: Requested, notify: Notify) -> Iterator[Event]:
    """
    One worker's part of the way from SQL to Redis; the first also counts the keys for the way back.

    Where there are others they go on meanwhile. Alone it counts last: what was compared is kept
    when a run is stopped, and a walk is not.
    """
    with ExitStack() as stack:
        bench = Bench.open(job, requested, notify, stack)
        counts = job.counts and worker == FIRST
        if counts and job.workers > 1:
            yield from bench.back().walk()
        yield from bench.forward().run(worker)
        if counts and job.workers == 1:
            yield from bench.back().walk()


def with_end(requested: Requested, until: float | None) -> Requested:
    """
    A stop that is also asked for by the clock, with the exit code of what is not complete.

    Args:
        until: On the monotonic clock; None has no end.
    """

    def asked() -> int | None:
        code = requested()
        if code is None and until is not None and time.monotonic() >= until:
            return int(ExitCode.INCOMPLETE)
        return code

    return asked
