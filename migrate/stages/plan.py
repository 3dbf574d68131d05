"""
What the next backfill of a mapping would do: rows, records, bytes, time, and whether it may begin.

Found out by counting and by a sample that is read, encoded, weighed and looked up for real.
Writes nothing that anybody could see; what the sample does not show, the plan does not know.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import sqrt
from statistics import fmean, stdev

from migrate.errors import Refused
from migrate.ledger.store import FINISHED, RunState
from migrate.mapping.compile import CompiledMapping, compile_mapping
from migrate.mapping.values import Mapping as ProfileMapping
from migrate.model.ports import Clock, Loader
from migrate.model.settings import ThrottleConfig
from migrate.model.shape import RecordShape
from migrate.model.values import Batch, KeyRange, Kind, Outcome, Record, RecordType, Table
from migrate.pipeline.opening import Opening, Way, decide
from migrate.pipeline.scope import find_table, partitions_for
from migrate.source.store import SqlSource
from migrate.stages.change import Change, foresee
from migrate.stages.ledger_checks import Known
from migrate.target.health import TargetHealth, unsafe
from migrate.target.store import RedisTarget

SAMPLE_ROWS = 1_000
"""Rows from all over the table. With 200, one long text in fifty rows moved the mean by 20 %."""

TIMED_ROWS = 1_000
"""Rows read as a run reads them, to see how long that takes."""

COUNTED_ROWS = 1_000_000
"""Above this guess of the server rows are not counted, which could take minutes."""

EXAMPLES = 3
"""Commands, and keys of collisions, that are shown."""

SHOWN_CHARACTERS = 60
"""Of a value, where values are asked for."""

HEADROOM = 0.25
"""Share of maxmemory that should stay free: backups, buffers and replicas need memory as well."""

SLOT_BYTES = 12
"""Of the server's table of keys for each record: from 8 before that table grows to 16 behind it."""


class Verdict(StrEnum):
    """
    Whether the records fit into the target's memory.
    """

    FITS = "fits"
    LITTLE_HEADROOM = "little headroom"
    OVER_THROTTLE = "over the throttle limit"
    DOES_NOT_FIT = "does not fit"
    NO_LIMIT = "no limit"
    UNKNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Cost:
    """
    What was measured on the sample.

    Args:
        record_bytes: Memory of one record on this server; None where it was not measured.

        margin: Share by which that mean may be wrong, at two standard errors.

        unmeasured: Why not; empty where it was.

        seconds: For one row: read, encode and, where it was measured, write.
    """

    record_bytes: float | None
    unmeasured: str
    seconds: Mapping[str, float]
    margin: float | None = None

    @classmethod
    def of(cls, sizes: Sequence[int], seconds: Mapping[str, float]) -> Cost:
        """
        From the bytes of each record of the sample.
        """
        mean = fmean(sizes)
        spread = stdev(sizes) if len(sizes) > 1 else mean
        return cls(mean, "", seconds, 2 * spread / sqrt(len(sizes)) / mean)


@dataclass(frozen=True, slots=True)
class Sample:
    """
    What a few rows from all over the table became.

    Args:
        rejects: Rows that cannot become a record, by reason.

        outcomes: What a write would do now, of `records`.

        collisions: A few keys that something else holds, with its type.

        commands: A few writes as Redis would see them, values masked unless they were asked for.
    """

    rows: int
    records: int
    rejects: Mapping[str, int]
    outcomes: Mapping[Outcome, int]
    collisions: Sequence[tuple[str, str]]
    commands: Sequence[str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Beginning:
    """
    How the next backfill would begin.

    Args:
        way: first, continue, redo; None where it is refused.

        what: In a sentence.

        next_step: What to do where it is refused; empty otherwise.

        rows_done: By the unfinished run that it would continue.
    """

    way: Way | None
    what: str
    next_step: str = ""
    rows_done: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """
    The plan of one mapping.

    Args:
        exact: The rows were counted; otherwise the server guessed.

        records: Rows that the sample says will become one.

        new_records: Of these, those that are not there yet: the ones that take more memory.

        seconds: For the rows that are left, on `workers` processes; None where not measured.

        change: What becomes of records of an earlier form of the mapping; None without any.
    """

    mapping: str
    beginning: Beginning
    rows: int
    exact: bool
    partitions: int
    records: int
    new_records: int
    sample: Sample
    cost: Cost
    seconds: float | None
    workers: int
    change: Change | None = None

    @property
    def added_bytes(self) -> int | None:
        """
        Memory that the run would add; None where it was not measured.
        """
        if not self.new_records:
            return 0
        if self.cost.record_bytes is None:
            return None
        return round(self.new_records * (self.cost.record_bytes + SLOT_BYTES))


@dataclass(frozen=True, slots=True)
class Memory:
    """
    The target's memory before and after.

    Args:
        used, maxmemory: Bytes; None where they are hidden, maxmemory 0 where there is no limit.

        added: By all mappings of the plan; None where one was not measured.

        limit: The throttle's share of maxmemory.
    """

    used: int | None
    maxmemory: int | None
    added: int | None
    limit: float

    @property
    def share_after(self) -> float | None:
        """
        Of maxmemory; None where it is not known or where there is no limit.
        """
        if not self.maxmemory or self.used is None or self.added is None:
            return None
        return (self.used + self.added) / self.maxmemory

    @property
    def verdict(self) -> Verdict:
        """
        The gravest that holds.
        """
        if self.maxmemory == 0:
            return Verdict.NO_LIMIT
        share = self.share_after
        if share is None:
            full = self.maxmemory and self.used is not None and self.used >= self.maxmemory
            return Verdict.DOES_NOT_FIT if full else Verdict.UNKNOWN
        for limit, verdict in (
            (1.0, Verdict.DOES_NOT_FIT),
            (self.limit, Verdict.OVER_THROTTLE),
            (1 - HEADROOM, Verdict.LITTLE_HEADROOM),
        ):
            if share > limit:
                return verdict
        return Verdict.FITS


@dataclass(frozen=True, slots=True)
class Planner:
    """
    Makes the plans of mappings that share their stores.

    Args:
        known: What the ledger knows.

        clock: Times the sample.

        show_values: Let sample commands hold values of rows.
    """

    source: SqlSource
    target: RedisTarget
    known: Known
    throttle: ThrottleConfig
    clock: Clock
    workers: int = 1
    show_values: bool = False

    def plan(self, mapping: ProfileMapping) -> Plan:
        """
        The plan of one mapping.

        Raises:
            SchemaMismatch: The mapping does not fit the table.
            SourceUnavailable, TargetUnavailable: A store did not answer.
        """
        table = find_table(self.source, mapping)
        health = self.target.health()
        first = compile_mapping(mapping, table)
        beginning, opening = self._begin(first, health)
        over = opening or self._start_over(first)
        compiled = compile_mapping(mapping, table, revision=over.revision)
        rows, exact = self._count(compiled)
        chunk = self.source.sample(compiled.query, SAMPLE_ROWS)
        batch = compiled.encode(chunk)
        sample = self._sample(compiled, batch, len(chunk.keys))
        cost = self._cost(compiled, table, batch, health)
        records = _scaled(rows, sample.records, sample.rows)
        new_records = _scaled(records, sample.outcomes[Outcome.WRITTEN], sample.records)
        replaced = _scaled(records, sample.outcomes[Outcome.REPLACED], sample.records)
        earlier = self._earlier(compiled)
        return Plan(
            mapping=mapping.name,
            beginning=beginning,
            rows=rows,
            exact=exact,
            partitions=partitions_for(rows, self.workers),
            records=records,
            new_records=new_records,
            sample=sample,
            cost=cost,
            seconds=self._seconds(cost, max(0, rows - beginning.rows_done)),
            workers=self.workers,
            change=foresee(
                self.target,
                earlier,
                compiled,
                self.clock,
                written=new_records,
                replaced=replaced,
            )
            if earlier
            else None,
        )

    def memory(self, plans: Sequence[Plan]) -> Memory:
        """
        What all these plans together do to the target's memory.
        """
        health = self.target.health()
        parts = [plan.added_bytes for plan in plans]
        measured = [part for part in parts if part is not None]
        added = sum(measured) if len(measured) == len(parts) else None
        return Memory(health.used_memory, health.maxmemory, added, self.throttle.redis_memory)

    # --- how it begins ----------------------------------------------------------------------

    def _begin(
        self, compiled: CompiledMapping, health: TargetHealth
    ) -> tuple[Beginning, Opening | None]:
        try:
            opening = decide(
                compiled.name,
                compiled.fingerprint,
                self.known.mapping(compiled.name),
                self.target.fence(compiled.name),
                self.target.identity(),
                empty=self.target.is_empty,
            )
        except Refused as error:
            return Beginning(None, error.what, error.next_step), None
        return self._hindrance(compiled, health) or self._promise(compiled, opening), opening

    def _start_over(self, compiled: CompiledMapping) -> Opening:
        """
        What the way out of a refusal would begin with.
        """
        return decide(
            compiled.name,
            compiled.fingerprint,
            self.known.mapping(compiled.name),
            self.target.fence(compiled.name),
            self.target.identity(),
            empty=self.target.is_empty,
            start_over=True,
        )

    def _earlier(self, compiled: CompiledMapping) -> list[RecordShape]:
        """
        Other shapes in which records of this mapping may be there.
        """
        ledger = self.known.ledger
        shapes = ledger.shapes(compiled.name) if ledger else []
        return [shape for shape in shapes if shape.fingerprint != compiled.fingerprint]

    def _hindrance(self, compiled: CompiledMapping, health: TargetHealth) -> Beginning | None:
        """
        What a backfill refuses although the opening is fine.
        """
        for concern in unsafe(health):
            if concern.refuses:
                return Beginning(None, concern.message, concern.fix)
        count = self.source.null_keys(compiled.query)
        if count:
            return Beginning(
                None,
                f"{count:,} rows have a key that is NULL or of another type than its column.",
                "Give these rows a key, or exclude them with `where`.",
            )
        return None

    def _promise(self, compiled: CompiledMapping, opening: Opening) -> Beginning:
        ledger = self.known.ledger
        run = ledger.last_run(compiled.name) if ledger else None
        if opening.way is Way.REDO:
            return Beginning(opening.way, "Redis lost its data: every record is written again.")
        if opening.way is Way.FIRST or run is None:
            return Beginning(opening.way, "A first run: no record of this mapping is here.")
        if run.status == FINISHED:
            what = "The last run is complete: every row is read again, changed records replaced."
            return Beginning(opening.way, what)
        return Beginning(opening.way, _continued(run), rows_done=run.rows)

    # --- how much ---------------------------------------------------------------------------

    def _count(self, compiled: CompiledMapping) -> tuple[int, bool]:
        guess = self.source.count(compiled.query, estimate=True)
        if compiled.query.where is not None:
            return guess, True
        if guess > COUNTED_ROWS:
            return guess, False
        return self.source.count(compiled.query), True

    def _sample(self, compiled: CompiledMapping, batch: Batch, rows: int) -> Sample:
        loader: Loader = self.target.dry_loader(compiled.name, compiled.shape())
        outcomes = loader.write(batch.records).outcomes if batch.records else ()
        taken = [
            record.key
            for record, outcome in zip(batch.records, outcomes, strict=True)
            if outcome is Outcome.COLLISION
        ]
        held = self.target.lookup(taken[:EXAMPLES], compiled.shape())
        return Sample(
            rows=rows,
            records=len(batch.records),
            rejects=Counter(reject.fault.reason for reject in batch.rejects),
            outcomes=Counter(outcomes),
            collisions=[(shown(one.key), one.type) for one in held],
            commands=[
                command_of(compiled, record, show_values=self.show_values)
                for record in batch.records[:EXAMPLES]
            ],
        )

    # --- what it costs ----------------------------------------------------------------------

    def _cost(
        self, compiled: CompiledMapping, table: Table, batch: Batch, health: TargetHealth
    ) -> Cost:
        seconds = self._timed(compiled, table)
        unmeasured = _unmeasurable(health)
        if unmeasured or not batch.records:
            return Cost(None, unmeasured or "the sample has no record", seconds)
        found = self.target.measure(batch.records, compiled.shape())
        seconds["write"] = found.seconds / len(batch.records)
        if found.sizes is None:
            return Cost(None, "this user may not run MEMORY USAGE", seconds)
        return Cost.of(found.sizes, seconds)

    def _timed(self, compiled: CompiledMapping, table: Table) -> dict[str, float]:
        """
        Seconds a row for reading a page and for encoding it.
        """
        extractor = self.source.extractor(compiled.query, table)
        began = self.clock.now()
        chunk = extractor.read(KeyRange(), None, TIMED_ROWS)
        read = self.clock.now()
        compiled.encode(chunk)
        encoded = self.clock.now()
        rows = max(1, len(chunk.keys))
        return {"read": (read - began) / rows, "encode": (encoded - read) / rows}

    def _seconds(self, cost: Cost, rows: int) -> float | None:
        if not rows:
            return 0.0
        if "write" not in cost.seconds:
            return None
        alone = rows * sum(cost.seconds.values()) / self.workers
        rate = self.throttle.rows_per_second
        return max(alone, rows / rate) if rate else alone


def _continued(run: RunState) -> str:
    return (
        f"The unfinished run goes on: {run.partitions_done:,} of {run.partitions:,} partitions "
        f"and {run.rows:,} rows are done."
    )


def _scaled(whole: int, part: int, of: int) -> int:
    """
    The share that the sample shows, of the whole.
    """
    return round(whole * part / of) if of else 0


def _unmeasurable(health: TargetHealth) -> str:
    """
    Why a record cannot be written to be weighed: such a write would only be waited for.
    """
    if health.role == "replica":
        return "the server is a replica"
    if health.maxmemory and health.used_memory and health.used_memory >= health.maxmemory:
        return "the server is full"
    if health.min_replicas and (health.replicas or 0) < health.min_replicas:
        return "replicas are missing"
    return ""


# --- sample commands ----------------------------------------------------------------------------


def command_of(compiled: CompiledMapping, record: Record, *, show_values: bool = False) -> str:
    """
    The write of a record as Redis would see it. Bytes are never shown, other values on request.
    """
    if compiled.record is RecordType.STRING:
        text = _value(record.fields[0], Kind.JSON, show_values=show_values)
        return f"SET {shown(record.key)} {text}"
    kinds = {field.name.encode(): field.column.kind for field in compiled.fields}
    kinds |= {child.name.encode(): Kind.JSON for child in compiled.children}
    names = compiled.reserved
    words = ["HSET", shown(record.key), names.version, record.version.decode()]
    # The digest could be used to guess a small record's values.
    words += [names.digest, "<digest>"]
    for name, value in zip(record.fields[::2], record.fields[1::2], strict=True):
        words += [shown(name), _value(value, kinds[name], show_values=show_values)]
    return " ".join(words)


def _value(value: bytes, kind: Kind, *, show_values: bool) -> str:
    text = None if kind is Kind.BYTES or not show_values else _text(value)
    if text is None:
        return f"<{kind} {len(value):,} bytes>"
    if len(text) > SHOWN_CHARACTERS:
        return f"{text[:SHOWN_CHARACTERS]!r}... <{len(value):,} bytes>"
    return repr(text)


def _text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def shown(name: bytes) -> str:
    """
    A key or a field's name for people, in quotes where blanks are in it.
    """
    text = name.decode(errors="backslashreplace")
    return repr(text) if any(character.isspace() for character in text) else text
