"""
A whole verification: decide what to go on with, hand out the work, and keep the result.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from migrate import __version__
from migrate.errors import MappingChanged, MigrateError, Refused, Stopped, TargetChanged
from migrate.ledger.access import held, open_ledger
from migrate.ledger.store import FINISHED, HALTED, Ledger, MappingState
from migrate.ledger.verification import Checked, Kept
from migrate.mapping.compile import CompiledMapping, compile_mapping
from migrate.mapping.values import Mapping as ProfileMapping
from migrate.model.events import ChunkVerified, Event, Notify
from migrate.model.ports import Partition
from migrate.model.settings import Settings
from migrate.model.values import Expiry, Key, Table
from migrate.model.verdict import HARD, Kind, Level, Verdict
from migrate.pipeline import verify_result as results
from migrate.pipeline.scope import find_table, partitions_for
from migrate.pipeline.throttle import Brakes
from migrate.pipeline.verify import Tally, Verifier
from migrate.pipeline.verify_back import Back
from migrate.source.store import SqlSource
from migrate.target.store import RedisTarget
from migrate.workers.local import run_local
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
    """

    level: Level
    sample: int | None = None
    workers: int = 1
    max_runtime_s: float | None = None
    show_values: bool = False


@dataclass(frozen=True, slots=True)
class VerifyJob:
    """
    What every worker has to know; crosses process borders.

    Args:
        secret: Key of the digests that stand for values.

        over_from: The earliest instant from which records may have expired.
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


@dataclass(frozen=True, slots=True)
class LedgerBooks:
    """
    The `Books` of one verification in a ledger.
    """

    ledger: Ledger
    job: VerifyJob

    def claim(self, worker: str) -> Partition | None:
        """
        A partition that nobody works on.
        """
        return self.ledger.claim(self.job.run, worker)

    def save(
        self, partition: Partition, cursor: Key | None, tally: Tally, seconds: float, *, done: bool
    ) -> Partition:
        """
        Keep what a page found, durably.
        """
        findings = [
            (one, self._told(one.mismatch.expected), self._told(one.mismatch.found))
            for one in tally.findings
        ]
        checked = Checked(cursor, tally.rows, dict(tally.counts), findings, done=done)
        return self.ledger.save_checked(self.job.run, partition, checked, seconds=seconds)

    def rejected(self, keys: Sequence[Key]) -> set[Key]:
        """
        Those of these rows that are open rejects.
        """
        return self.ledger.rejected(self.job.mapping.name, keys)

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
        config = self.job.settings.throttle
        return Brakes(
            config,
            clock=self.clock,
            signals=self.target.signals,
            paused=Path(config.pause_file).exists,
            patience_s=self.job.settings.redis["target"].retry_for_s,
            share=1 / self.job.workers,
        )

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
            compiled=compiled,
            shape=compiled.shape(),
            extractor=extractor,
            plain=self.source.plain(compiled.query),
            reader=self.target.reader(compiled.shape()),
            books=LedgerBooks(self.ledger, self.job),
            throttle=self.brakes(),
            clock=self.clock,
            stop=lambda: check(self.requested),
            copied=self.job.copied,
            over_from=self.job.over_from,
        )

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
            books=LedgerBooks(self.ledger, self.job),
            told=lambda entries: self.ledger.told_entries(self.job.run, entries),
            throttle=self.brakes(),
            clock=self.clock,
            stop=lambda: check(self.requested),
        )


def work(job: VerifyJob, worker: str, requested: Requested, notify: Notify) -> Iterator[Event]:
    """
    One worker's part of the way from SQL to Redis.
    """
    with ExitStack() as stack:
        yield from Bench.open(job, requested, notify, stack).forward().run(worker)


class Verify:
    """
    One execution of a verification; `result` is there once `run` is over.

    Args:
        requested: Asked between pages whether to stop.

        ready: Told the estimated rows once, before the first page.
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
    ) -> None:
        self.result: dict[str, Any] = {}
        self._settings = settings
        self._mapping = mapping
        self._request = request
        self._notify = notify
        self._ready = ready
        self._secret = secrets.token_bytes(16)
        until = None
        if request.max_runtime_s is not None:
            until = time.monotonic() + request.max_runtime_s
        self._requested = _with_end(requested, until)

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
            yield from self._run(bench)

    def _run(self, bench: Bench) -> Iterator[Event]:
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
        epoch = _epoch(bench, compiled.name)
        run, rows = self._begin(bench, compiled, table, epoch)
        job = self._job(bench, table, state, run)
        bench = replace(bench, job=job)
        self._ready(rows)
        stopped: int | None = None
        try:
            yield from self._levels(bench, job)
        except Stopped as stop:
            stopped = int(stop.exit_code)
        except MigrateError as failed:
            self._end(bench.ledger, run, HALTED, int(failed.exit_code), failed.code, began)
            raise
        self.result = _Told(bench, self._request, epoch, stopped).result(
            rows, started, time.monotonic() - began
        )
        status = FINISHED if self.result["complete"] else HALTED
        self._keep(bench.ledger, run, state, epoch)
        self._end(bench.ledger, run, status, self.result["exit_code"], None, began)

    def _levels(self, bench: Bench, job: VerifyJob) -> Iterator[Event]:
        match job.level:
            case Level.COUNT:
                yield from _counted(bench)
            case Level.SAMPLE:
                yield from _sampled(bench, self._request.sample or 1)
            case _:
                yield from run_local(job, self._requested, self._notify, work)
                yield from _backwards(bench)

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
            whole = request.level in (Level.FULL, Level.DEEP)
            ranges = extractor.split(partitions_for(rows, request.workers)) if whole else []
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
                throttled_s=0.0,
            )
        except MigrateError:
            if error is None:
                raise


BACK = 1_000_000
"""Number of the partition that is the way from Redis to SQL."""


def _backwards(bench: Bench) -> Iterator[Event]:
    """
    From Redis to SQL, from the beginning: a scan has no place to go on from.
    """
    run = bench.job.run
    bench.ledger.add_partition(run, BACK)
    done = {part["number"] for part in bench.ledger.parts_of(run) if part["done"]}
    if BACK in done:
        return
    bench.ledger.restart_partition(run, BACK)
    partition = bench.ledger.claim(run, "parent")
    if partition is not None:
        yield from bench.back().run(partition)


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
    books = LedgerBooks(bench.ledger, bench.job)
    books.save(partition, None, Tally(rows=records), 0.0, done=True)
    yield ChunkVerified(0, records, 0)


def _with_end(requested: Requested, until: float | None) -> Requested:
    def asked() -> int | None:
        code = requested()
        if code is None and until is not None and time.monotonic() >= until:
            return 5
        return code

    return asked


def _epoch(bench: Bench, mapping: str) -> int:
    fence = bench.target.fence(mapping)
    return fence.epoch if fence else 0


@dataclass(frozen=True, slots=True)
class _Told:
    """
    Makes the result of what lies in the ledger.
    """

    bench: Bench
    request: Request
    epoch: int
    stopped: int | None

    def result(self, rows: int, started: float, seconds: float) -> dict[str, Any]:
        """
        The whole object.
        """
        bench, job = self.bench, self.bench.job
        counted = self._counts()
        parts = results.partitions(counted)
        forward = sum(p["rows"] for p in parts if p["number"] != BACK)
        backward = sum(p["rows"] for p in parts if p["number"] == BACK)
        verdicts = dict(counted.verdicts)
        if job.level is Level.COUNT:
            verdicts |= self._difference(rows, forward, counted)
            counted = replace(counted, verdicts=verdicts)
        hard = sum(verdicts.get(verdict.value, 0) for verdict in HARD)
        complete = self._is_complete(parts, verdicts)
        compared = forward + (backward if not forward else 0)
        word, code = results.judged(
            counted, complete=complete, compared=compared, stopped=self.stopped
        )
        kinds, fields = results.kinds(counted)
        identity, facts = bench.target.identity(), bench.source.facts()
        count = job.level is Level.COUNT
        return {
            "schema": results.SCHEMA,
            "mapping": job.mapping.name,
            "level": job.level.value,
            "continuous": False,
            "verdict": word,
            "exit_code": code,
            "complete": complete,
            "nothing_compared": compared == 0,
            "run": job.run,
            "passes": 1,
            "scope": {
                "rows_sql": rows if count or not complete else max(forward, 0),
                "rows_estimated": not count and not complete,
                "records_redis": forward if count else backward,
                "compared": compared,
                "where": job.mapping.where_text,
                "sample": self.request.sample,
            },
            "bound": results.bound(job.level, compared, hard),
            "counts": verdicts,
            "kinds": kinds,
            "fields": fields,
            "open_rejects": dict(counted.open_rejects),
            "not_checked": list(self._not_checked(compared)),
            "trusted_digests": job.level is Level.FULL,
            "partitions": parts,
            "samples": list(self._samples()),
            "fingerprint": bench.compiled().fingerprint,
            "tool": __version__,
            "epoch": self.epoch,
            "redis": {
                "address": identity.address,
                "flavour": identity.flavour,
                "version": identity.version,
                "topology": identity.topology,
            },
            "source": {
                "address": job.settings.source.address,
                "dialect": facts.dialect,
                "version": facts.version,
            },
            "started_at": started,
            "finished_at": started + seconds,
            "seconds": round(seconds, 3),
            "rows_per_s": round(compared / seconds, 1) if seconds > 0 else 0.0,
        }

    def _counts(self) -> results.Counted:
        ledger, run = self.bench.ledger, self.bench.job.run
        verdicts: dict[str, int] = {}
        for (_, verdict), count in ledger.checked(run).items():
            verdicts[verdict] = verdicts.get(verdict, 0) + count
        verdicts |= ledger.keys_of_findings(run)
        return results.Counted(
            verdicts={name: count for name, count in verdicts.items() if count},
            parts=ledger.parts_of(run),
            sums=ledger.sums_of_findings(run),
            open_rejects=ledger.count_rejects(self.bench.job.mapping.name),
        )

    def _difference(self, rows: int, records: int, counted: results.Counted) -> Mapping[str, int]:
        """
        What two numbers say: how many are missing, or too many, and nothing of which.
        """
        wanted = rows - sum(counted.open_rejects.values())
        if self.bench.job.mapping.expiry is not Expiry.NONE:
            wanted = min(wanted, records)
        found = {"OK": min(wanted, records)}
        if wanted > records:
            found[Verdict.MISSING.value] = wanted - records
        if records > wanted:
            found[Verdict.ORPHAN.value] = records - wanted
        return {name: count for name, count in found.items() if count > 0}

    def _is_complete(self, parts: Sequence[Mapping[str, Any]], verdicts: Mapping[str, int]) -> bool:
        if self.stopped is not None or not self.bench.job.copied:
            return False
        if verdicts.get(Verdict.PENDING.value) or verdicts.get(Verdict.IN_FLIGHT.value):
            return False
        return bool(parts) and all(part["done"] for part in parts)

    def _not_checked(self, compared: int) -> Iterator[str]:
        job = self.bench.job
        if not compared:
            yield "Nothing was compared: the mapping selects no row, and no record is there."
        if not job.copied:
            yield "The backfill is not complete: rows without a record may still be copied."
        if self.stopped is not None:
            yield "The verification was stopped before its end."
        if job.level is Level.COUNT:
            yield "Which records they are and what is in them: two numbers were compared."
        if job.level is Level.COUNT and job.mapping.expiry is not Expiry.NONE:
            yield "Missing records: those that expired are not there either."
        if job.level is Level.SAMPLE:
            yield "Rows outside of the sample, and records without a row."
        if job.level is Level.FULL:
            yield "Fields behind their digest: the digest that each record carries is trusted."
        if job.level.reads_fields:
            yield from self._same_way()

    def _same_way(self) -> Iterator[str]:
        compiled = self.bench.compiled()
        same = self.bench.source.plain(compiled.query).same_way()
        if same:
            names = ", ".join(same)
            yield f"Columns whose type is read in one way only, that of the backfill: {names}."
        if compiled.children:
            yield "Child rows were read as the backfill reads them."
        masked = [one.name for one in compiled.fields if not one.codec.reversible]
        if masked:
            names = ", ".join(masked)
            yield f"Masked fields lead nowhere back; the mask was made again: {names}."

    def _samples(self) -> Iterator[dict[str, Any]]:
        job = self.bench.job
        for verdict in sorted(HARD):
            found = self.bench.ledger.findings(
                job.run, verdict=verdict.value, limit=results.SAMPLES
            )
            for one in found:
                personal = one.verdict == Verdict.ORPHAN.value and one.kind == Kind.LOOKUP.value
                yield {
                    "verdict": one.verdict,
                    "kind": one.kind,
                    "key": results.key_shown(one.key, job.secret, personal=personal),
                    "field": one.field,
                    "expected": json.loads(one.expected or "{}"),
                    "found": json.loads(one.found or "{}"),
                }
