"""
A whole backfill: take the lock, decide how to begin, hand out the work, write down how it ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace

from migrate import __version__
from migrate.errors import (
    ChecksFailed,
    ExitCode,
    Incomplete,
    MigrateError,
    UnsafeTarget,
)
from migrate.ledger.access import held, open_ledger
from migrate.ledger.store import (
    FINISHED,
    HALTED,
    Ledger,
    MappingState,
    RunState,
)
from migrate.mapping.compile import CompiledMapping, compile_mapping
from migrate.mapping.values import Mapping
from migrate.model.events import ChunkCopied, Event, Notify, Throttled
from migrate.model.ports import Extractor
from migrate.model.settings import Settings
from migrate.model.values import GENERATION_DIGITS, Expiry, Fence, KeyRange, Outcome, Table
from migrate.pipeline.backfill import FIRST_CHUNK
from migrate.pipeline.opening import Opening, Way, decide
from migrate.pipeline.scope import find_table, partitions_for
from migrate.pipeline.sweep import Fate, Swept
from migrate.source.store import SqlSource
from migrate.target.fence import FenceState
from migrate.target.health import unsafe
from migrate.target.store import RedisTarget
from migrate.workers.leftovers import Leftovers
from migrate.workers.local import Team
from migrate.workers.stopping import Requested, StoppableClock, check
from migrate.workers.work import Job

ROUNDS = 3
"""How often partitions are done again because the server restarted meanwhile."""


@dataclass(frozen=True, slots=True)
class Request:
    """
    What the user asked for.

    Args:
        limit: Rows to copy in this execution; None copies all.

        start_over: Forget the checkpoints and take the target and mapping as they are now.

        accept_eviction: The user knows that the target may drop records.

        adopt: Put values that are not ours aside instead of rejecting their rows.
    """

    workers: int = 1
    dry_run: bool = False
    limit: int | None = None
    start_over: bool = False
    accept_eviction: bool = False
    adopt: bool = False


@dataclass(slots=True)
class Report:
    """
    How a backfill went, filled while it goes on.

    Args:
        way: How it began.

        redone: Partitions done again because the target may have lost them.

        rows, outcomes, rejected: Of this execution alone.

        run: Sums over all executions of the run; None for a dry run.

        settled: Rows whose place was taken at first and that could be written at the end.

        left_behind: What became of records that a changed mapping left behind; None where there
            were none.

        open_rejects: In the ledger now, by reason.
    """

    mapping: str
    dry_run: bool = False
    way: Way | None = None
    redone: int = 0
    rows_estimated: int = 0
    rows_before: int = 0
    rows: int = 0
    outcomes: dict[Outcome, int] = field(default_factory=dict)
    rejected: int = 0
    seconds: float = 0.0
    throttled_s: float = 0.0
    complete: bool = False
    run: RunState | None = None
    settled: int = 0
    left_behind: Swept | None = None
    open_rejects: dict[str, int] = field(default_factory=dict)

    def count(self, event: Event) -> None:
        """
        Add what an event tells.
        """
        if isinstance(event, ChunkCopied):
            self.rows += event.rows
            self.rejected += event.rejects
            for outcome, number in event.outcomes.items():
                self.outcomes[outcome] = self.outcomes.get(outcome, 0) + number
        elif isinstance(event, Throttled):
            self.throttled_s += event.seconds

    @property
    def exit_code(self) -> ExitCode:
        """
        Of a backfill that came to its end.
        """
        unwritten = sum(self.outcomes.get(outcome, 0) for outcome in _UNWRITTEN)
        if self.open_rejects or (self.dry_run and self.rejected + unwritten):
            return ExitCode.DIFFERENCES
        if self.left_behind is not None and self.left_behind.fates.get(Fate.CHANGED):
            return ExitCode.DIFFERENCES
        return ExitCode.DONE


_UNWRITTEN = (Outcome.COLLISION, Outcome.CONFLICT, Outcome.DUPLICATE)


class Backfill:
    """
    One execution of a backfill; `report` is right at any time.

    Args:
        requested: Asked between chunks whether to stop.

        notify: Told before each wait of a store.

        ready: Told once what is to be done, before the first chunk.
    """

    def __init__(
        self,
        settings: Settings,
        mapping: Mapping,
        request: Request,
        *,
        requested: Requested,
        notify: Notify,
        ready: Callable[[Report], None],
    ) -> None:
        self.report = Report(mapping.name, dry_run=request.dry_run)
        self._settings = settings
        self._mapping = mapping
        self._request = request
        self._requested = requested
        self._notify = notify
        self._ready = ready
        self._clock = StoppableClock(requested)

    def run(self) -> Iterator[Event]:
        """
        Do it.

        Yields:
            What the workers report.

        Raises:
            MigrateError: Why it did not come to its end; the ledger keeps what was done.
        """
        began = self._clock.now()
        with ExitStack() as stack:
            try:
                for event in self._run(stack):
                    self.report.count(event)
                    yield event
            finally:
                self.report.seconds = self._clock.now() - began

    def _run(self, stack: ExitStack) -> Iterator[Event]:
        source = stack.enter_context(
            closing(SqlSource.open(self._settings.source, self._notify, sleep=self._clock.sleep))
        )
        target = stack.enter_context(
            closing(RedisTarget.open(self._settings.redis["target"], self._notify, self._clock))
        )
        table = find_table(source, self._mapping)
        compiled = compile_mapping(self._mapping, table)
        refuse_unusable_keys(source, compiled)
        if self._request.dry_run:
            yield from self._dry_run(source, target, compiled, table)
            return
        ledger = stack.enter_context(
            closing(
                open_ledger(
                    self._settings.ledger,
                    wall=time.time,
                    sleep=self._clock.sleep,
                    notify=self._notify,
                )
            )
        )
        stack.enter_context(held(ledger, self._mapping.name))
        yield from self._wet_run(ledger, source, target, compiled, table, stack)

    # --- dry --------------------------------------------------------------------------------

    def _dry_run(
        self, source: SqlSource, target: RedisTarget, compiled: CompiledMapping, table: Table
    ) -> Iterator[Event]:
        extractor = source.extractor(compiled.query, table)
        with closing(extractor):
            ranges = extractor.split(1)
            generation = _generation(extractor, ranges)
        self.report.rows_estimated = source.count(compiled.query, estimate=True)
        job = Job(
            settings=self._settings,
            mapping=self._mapping,
            table=table,
            revision=_next_revision(target.fence(compiled.name), compiled.fingerprint),
            generation=generation,
            fence=None,
            run=None,
            ranges=tuple(ranges),
            limit=self._request.limit,
            adopt=self._request.adopt,
            instant=_instant(source, self._mapping),
        )
        self._ready(self.report)
        with Team(1) as team:
            yield from team.run(job, self._requested, self._notify)
        self.report.complete = True

    # --- wet --------------------------------------------------------------------------------

    def _wet_run(
        self,
        ledger: Ledger,
        source: SqlSource,
        target: RedisTarget,
        compiled: CompiledMapping,
        table: Table,
        stack: ExitStack,
    ) -> Iterator[Event]:
        workers = 1 if self._request.limit is not None else self._request.workers
        self._refuse_unsafe(target)
        target.refuse_unfit(compiled.name, compiled.shape())
        extractor = source.extractor(compiled.query, table)
        with closing(extractor):
            opening = self._open(ledger, target, compiled)
            if opening.way in (Way.FIRST, Way.START_OVER):
                opening = replace(
                    opening,
                    revision=max(opening.revision, _revision_there(extractor, target, compiled)),
                )
            team = stack.enter_context(Team(workers))
            generation = _generation(extractor, [KeyRange()])
            fence = self._begin(ledger, target, compiled, opening, generation)
            last = self._resume(ledger, target, compiled, opening)
            if last is not None:
                run, instant = last.id, last.instant
            else:
                instant = _instant(source, self._mapping)
                run = self._plan(ledger, source, compiled, extractor, instant)
        job = Job(
            settings=self._settings,
            mapping=self._mapping,
            table=table,
            revision=opening.revision,
            generation=generation,
            fence=fence,
            run=run,
            workers=workers,
            limit=self._request.limit,
            adopt=self._request.adopt,
            instant=instant,
        )
        self._ready(self.report)
        leftovers = Leftovers(
            ledger=ledger,
            source=source,
            target=target,
            compiled=compile_mapping(
                self._mapping, table, revision=opening.revision, instant=instant
            ),
            table=table,
            fence=fence,
            clock=self._clock,
            stop=lambda: check(self._requested),
        )
        yield from self._execute(ledger, target, job, run, leftovers, team)

    def _refuse_unsafe(self, target: RedisTarget) -> None:
        for concern in unsafe(target.health()):
            # The other concerns show themselves as a refused write, which waits.
            if concern.check == "eviction" and not self._request.accept_eviction:
                raise UnsafeTarget(
                    concern.message,
                    where={"redis": self._settings.redis["target"].address},
                    next_step=f"{concern.fix} The flag for that is --accept-eviction.",
                )

    def _open(self, ledger: Ledger, target: RedisTarget, compiled: CompiledMapping) -> Opening:
        return decide(
            compiled.name,
            compiled.fingerprint,
            ledger.mapping(compiled.name),
            target.fence(compiled.name),
            target.identity(),
            empty=target.is_empty,
            start_over=self._request.start_over,
            written=max((shape.revision for shape in ledger.shapes(compiled.name)), default=0),
        )

    def _begin(
        self,
        ledger: Ledger,
        target: RedisTarget,
        compiled: CompiledMapping,
        opening: Opening,
        generation: int,
    ) -> Fence:
        """
        Write down the intent, take the fence, write down that it is taken.

        In this order a kill in between leaves a fence that the next run knows as its own.
        """
        identity = target.identity()

        def keep(*, fenced: bool) -> None:
            ledger.keep_mapping(
                MappingState(
                    name=compiled.name,
                    fingerprint=compiled.fingerprint,
                    revision=opening.revision,
                    generation=generation,
                    run=opening.run,
                    address=identity.address,
                    topology=identity.topology,
                    flavour=identity.flavour,
                    version=identity.version,
                    fenced=fenced,
                )
            )

        # Whoever removes records later knows them by their shape; it is written down before any is.
        ledger.keep_shape(compiled.name, replace(compiled.shape(), revision=opening.revision))
        if opening.way is not Way.CONTINUE:
            keep(fenced=False)
        fence = target.begin(
            compiled.name,
            run=opening.run,
            expected=opening.expected,
            generation=generation,
            revision=opening.revision,
            fingerprint=compiled.fingerprint,
            start_over=opening.way is Way.START_OVER,
        )
        keep(fenced=True)
        self.report.way = opening.way
        return fence

    def _resume(
        self, ledger: Ledger, target: RedisTarget, compiled: CompiledMapping, opening: Opening
    ) -> RunState | None:
        """
        The unfinished run to go on with, or None where a new one has to be planned.
        """
        last = ledger.last_run(compiled.name)
        if opening.way in (Way.FIRST, Way.START_OVER) or last is None or last.status == FINISHED:
            return None
        ledger.resume_run(last.id, workers=self._request.workers)
        server = target.identity().run_id
        if opening.way is Way.REDO:
            self.report.redone += ledger.redo(last.id, unless_server=None)
        elif server:
            self.report.redone += ledger.redo(last.id, unless_server=server)
        self.report.rows_estimated = last.rows_estimated
        resumed = ledger.last_run(compiled.name)
        self.report.rows_before = resumed.rows if resumed else 0
        return last

    def _plan(
        self,
        ledger: Ledger,
        source: SqlSource,
        compiled: CompiledMapping,
        extractor: Extractor,
        instant: int | None,
    ) -> str:
        """
        Divide the rows that there are now, and write down a run over them.
        """
        rows = source.count(compiled.query, estimate=True)
        self.report.rows_estimated = rows
        return ledger.begin_run(
            compiled.name,
            kind="backfill",
            fingerprint=compiled.fingerprint,
            tool=__version__,
            source=self._settings.source.address,
            target=self._settings.redis["target"].address,
            ranges=extractor.split(partitions_for(rows, self._request.workers)),
            rows_estimated=rows,
            workers=self._request.workers,
            instant=instant,
        )

    def _execute(
        self,
        ledger: Ledger,
        target: RedisTarget,
        job: Job,
        run: str,
        leftovers: Leftovers,
        team: Team,
    ) -> Iterator[Event]:
        status, code, error = HALTED, int(ExitCode.FAILED), None
        began = self._clock.now()
        try:
            yield from self._rounds(ledger, target, job, run, team)
            self.report.complete = ledger.partitions_left(run) == 0
            if self.report.complete:
                # An old record may hold the unique entry that a new one waits for.
                self.report.left_behind = leftovers.sweep()
                self.report.settled = leftovers.settle()
            status = FINISHED if self.report.complete else HALTED
            code = int(ExitCode.DONE)
        except MigrateError as failed:
            code, error = int(failed.exit_code), failed.code
            raise
        finally:
            self._end(ledger, run, status, code, error, self._clock.now() - began)

    def _rounds(
        self, ledger: Ledger, target: RedisTarget, job: Job, run: str, team: Team
    ) -> Iterator[Event]:
        """
        Run the job, and again what a restart of the server may have lost meanwhile.
        """
        for _ in range(ROUNDS):
            yield from team.run(job, self._requested, self._notify)
            server = target.identity().run_id
            lost = ledger.redo(run, unless_server=server) if server else 0
            if not lost or job.limit is not None:
                return
            self.report.redone += lost
        raise Incomplete(
            "Redis restarted again and again while the backfill was going on.",
            where={"mapping": job.mapping.name, "rounds": ROUNDS},
            next_step="Find out why it restarts; then run the same command again.",
        )

    def _end(
        self, ledger: Ledger, run: str, status: str, code: int, error: str | None, seconds: float
    ) -> None:
        """
        Write down how it ended, as far as the ledger can still be written.
        """
        mapping = self._mapping.name
        try:
            if code == ExitCode.DONE:
                # As the command will: rejects that this run did not see again are settled with it.
                stay = run if status == FINISHED else None
                self.report.open_rejects = ledger.count_rejects(mapping, run=stay)
                code = int(self.report.exit_code)
            ledger.end_run(
                run,
                status=status,
                exit_code=code,
                error=error,
                seconds=seconds,
                throttled_s=self.report.throttled_s,
            )
            self.report.open_rejects = ledger.count_rejects(mapping)
            self.report.run = ledger.last_run(mapping)
        except MigrateError:
            # The next run repairs a run without an end; a success must not hide behind it.
            if error is None:
                raise


def refuse_unusable_keys(source: SqlSource, compiled: CompiledMapping) -> None:
    """
    Pages never see a row whose key is NULL, or in SQLite of another type than its column.

    Such a table is refused, not half copied.

    Raises:
        ChecksFailed: With the number of such rows.
    """
    count = source.null_keys(compiled.query)
    if count:
        raise ChecksFailed(
            f"{count} rows have a key that is NULL or of another type than its column.",
            where={"mapping": compiled.name, "table": compiled.query.table},
            next_step="Give these rows a key, or exclude them with `where`.",
        )


def _next_revision(fence: FenceState | None, fingerprint: str) -> int:
    """
    The version that rows without capture would get, as far as the target alone tells.
    """
    if fence is None:
        return 1
    return fence.revision + (fence.fingerprint != fingerprint)


def _revision_there(extractor: Extractor, target: RedisTarget, compiled: CompiledMapping) -> int:
    """
    The highest revision among the records that the first rows have already; 0 where there are none.

    Ledger and fence may both be lost while the records are not: a lower revision would find each
    of them newer than SQL has ever been.
    """
    chunk = extractor.read(KeyRange(), None, FIRST_CHUNK)
    keys = [record.key for record in compiled.encode(chunk).records]
    versions = (held.version for held in target.lookup(keys, compiled.shape()) if held.ours)
    found = [version for version in versions if version and len(version) <= GENERATION_DIGITS]
    return max(map(int, found), default=0)


def _instant(source: SqlSource, mapping: Mapping) -> int | None:
    """
    The source's clock in milliseconds since 1970, where records expire some time after it.
    """
    return int(source.facts().now * 1000) if mapping.expiry is Expiry.FIXED else None


def _generation(extractor: Extractor, ranges: list[KeyRange]) -> int:
    """
    The capture generation that the next chunk will carry.
    """
    return extractor.read(ranges[0], None, 1).generation if ranges else 0
