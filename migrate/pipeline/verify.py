"""
Compares SQL and Redis in both directions, page by page, and repairs nothing.

From SQL to Redis by keyset pages, from Redis to SQL by scanning for records. Whatever does not
match is looked at once more before it is told: the record, the row, what capture knows of it, and
the record again. Where one of them changed meanwhile nothing is told: the key is listed, to be
looked at later (`verify_again`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from migrate.mapping.codecs import Unencodable
from migrate.mapping.compile import CompiledMapping
from migrate.mapping.template import Template
from migrate.model.events import ChunkVerified, Event, PartitionDone, Throttled
from migrate.model.ports import Clock, Extractor, Partition, Throttle
from migrate.model.shape import RecordShape
from migrate.model.values import Chunk, Entry, Key, LookupKind, Record, Row, first_version
from migrate.model.verdict import (
    HARD,
    Finding,
    Kind,
    Level,
    Mismatch,
    Presence,
    Recheck,
    RecordFacts,
    RowFacts,
    State,
    Verdict,
    judge,
)
from migrate.pipeline import verify_compare as compare
from migrate.pipeline.verify_seen import Seen
from migrate.source.plain import History, PlainReader, filled_up
from migrate.target.reader import RecordReader, Stored, Wanted

PAGE = 1_000
"""Rows compared at once."""

AGAIN = 100
"""Suspects looked at once more together, each read whole."""

_UNSETTLED = HARD | {Verdict.IN_FLIGHT}


@dataclass(slots=True)
class Tally:
    """
    What a page brought: entities by verdict, every finding that is hard, and what to look at again.

    Args:
        seen: Records that were met with their rows; None where that proves nothing.
    """

    rows: int = 0
    counts: Counter[Verdict] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    rechecks: list[Recheck] = field(default_factory=list)
    seen: Seen | None = None

    @property
    def hard(self) -> int:
        """
        Keys with a hard verdict.
        """
        return len({finding.key for finding in self.findings})

    def take(self, look: Look) -> None:
        """
        Count what was told of a key, or list it.
        """
        if look.changing:
            states = () if look.state is None else (look.state,)
            self.rechecks.append(Recheck(look.stored.key, look.source_key, states))
        else:
            self.count(look.findings)

    def count(self, found: Sequence[Finding]) -> None:
        """
        Keep what is hard, and count the rest.
        """
        for finding in found:
            if finding.verdict in HARD:
                self.findings.append(finding)
            else:
                self.counts[finding.verdict] += 1


class Books(Protocol):
    """
    Where partitions of a verification are handed out and what they found is kept.
    """

    def claim(self, worker: str) -> Partition | None:
        """
        A partition that nobody works on, or None.
        """

    def save(
        self, partition: Partition, cursor: Key | None, tally: Tally, seconds: float, *, done: bool
    ) -> Partition:
        """
        Keep what a page found, durably, with its cursor.
        """

    def rejected(self, keys: Sequence[Key]) -> set[Key]:
        """
        Those of these rows that are open rejects.
        """

    def has_rejects(self) -> bool:
        """
        Whether any row of the mapping is an open reject.
        """

    def seen(self) -> Seen | None:
        """
        The records that all of the way from SQL met with their rows; None where nothing is kept.
        """


class Fast(Protocol):
    """
    A faster way to compare the next rows of a partition. See `verify_lines`.
    """

    def compare(self, verifier: Verifier, partition: Partition) -> tuple[Tally, Key | None]:
        """
        What a page brought, and the key of its last row; None where the range has no more.
        """


class Expected(NamedTuple):
    """
    A row and what its record should be.

    Args:
        record: As a backfill would write it; None where nothing is encoded, or nothing can be.
    """

    source_key: Key
    key: bytes
    row: Row
    version: str
    rejected: bool
    instant: bytes
    record: Record | None


class Look(NamedTuple):
    """
    What one close look at a key brought.

    Args:
        stored: The record, read before the row.

        state: That the row had, where the key was changing.
    """

    source_key: Key
    stored: Stored
    findings: list[Finding]
    state: State | None = None

    @property
    def changing(self) -> bool:
        """
        Whether nothing can be told of it yet.
        """
        return any(finding.verdict is Verdict.IN_FLIGHT for finding in self.findings)


Spelled = tuple[str | bytes, ...]

Suspects = Mapping[bytes, Key]
"""Keys of records that do not match, each with the key of its row."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """
    The ports and rules of one worker's verification.

    Args:
        copied: A backfill has seen every row; otherwise what is not in Redis may still come.

        stop: Asked between pages; raises to end the run.

        over_from: The earliest instant from which records may have expired, where all share one.

        fast: A faster way for rows that are as expected.

        seeing: Makes what the way back is proven by; None where it reads every record.
    """

    level: Level
    compiled: CompiledMapping
    shape: RecordShape
    extractor: Extractor
    plain: PlainReader
    reader: RecordReader
    books: Books
    throttle: Throttle
    clock: Clock
    stop: Callable[[], None] = lambda: None
    copied: bool = True
    over_from: int | None = None
    page: int = PAGE
    fast: Fast | None = None
    seeing: Callable[[], Seen] | None = None

    def run(self, worker: str) -> Iterator[Event]:
        """
        Compare partitions until none is left.
        """
        while (partition := self.books.claim(worker)) is not None:
            yield from self._partition(partition)

    def _partition(self, partition: Partition) -> Iterator[Event]:
        while True:
            self.stop()
            began = self.clock.now()
            tally, last = self._page(partition)
            cursor = partition.cursor if last is None else last
            seconds = self.clock.now() - began
            done = last is None
            partition = self.books.save(partition, cursor, tally, seconds, done=done)
            yield ChunkVerified(partition.number, tally.rows, tally.hard, seconds)
            if done:
                yield PartitionDone(partition.number)
                return
            yield from pauses(self.throttle, self.clock, self.stop, tally.rows)

    def _page(self, partition: Partition) -> tuple[Tally, Key | None]:
        if self.fast is not None:
            return self.fast.compare(self, partition)
        chunk = self.extractor.read(partition.range, partition.cursor, self.page)
        return (self.compare(chunk), chunk.keys[-1]) if chunk.keys else (Tally(), None)

    def tally(self, generation: int = 0) -> Tally:
        """
        An empty one. What changes under capture is looked for from both sides.
        """
        seen = None if self.seeing is None or generation else self.seeing()
        return Tally(seen=seen)

    def compare(self, chunk: Chunk, tally: Tally | None = None) -> Tally:
        """
        The rows of a chunk against their records; every mismatch is looked at a second time.

        Args:
            tally: To add to; None begins one.
        """
        expected = self.expect(chunk)
        stored = self.reader.read([one.key for one in expected], whole=self.level.reads_fields)
        if tally is None:
            tally = self.tally(chunk.generation)
        tally.rows += len(chunk.keys)
        tally.counts[Verdict.REJECTED] += len(chunk.keys) - len(expected)
        suspects: dict[bytes, Key] = {}
        for one, found in self._judged(expected, stored, whole=self.level.reads_fields):
            if any(finding.verdict in _UNSETTLED for finding in found):
                suspects[one.key] = one.source_key
            else:
                tally.count(found)
        names = list(suspects)
        for start in range(0, len(names), AGAIN):
            for look in self.look({key: suspects[key] for key in names[start : start + AGAIN]}):
                tally.take(look)
        if tally.seen is not None:
            # The way back judges itself what is not as it seemed.
            tally.seen.add(
                one.key
                for one in expected
                if one.key not in suspects and stored[one.key].presence is Presence.RECORD
            )
        return tally

    def look(self, suspects: Suspects) -> Iterator[Look]:
        """
        The records, then their rows, what capture knows, and the records once more.

        Only what stood still meanwhile is hard: the record that was read first was there while
        capture's knowledge was read, and that was of the row that was read.
        """
        stored = self.reader.read(list(suspects), whole=True)
        chunk = self.extractor.fetch(filled_up(list(suspects.values())))
        expected = {one.key: one for one in self.expect(chunk)}
        known = [expected[key] for key in suspects if key in expected]
        found = {one.key: findings for one, findings in self._judged(known, stored, whole=True)}
        found |= self._without_row(
            {key: source for key, source in suspects.items() if key not in expected},
            {spelled(key) for key in chunk.keys},
            {spelled(one.source_key) for one in expected.values()},
            stored,
        )
        self._set_aside_what_moved(found, stored)
        states = self._states(chunk, found)
        for key, source in suspects.items():
            yield Look(source, stored[key], found[key], states.get(key))

    def _without_row(
        self,
        suspects: Suspects,
        present: set[Spelled],
        known: set[Spelled],
        stored: Mapping[bytes, Stored],
    ) -> dict[bytes, list[Finding]]:
        """
        Rows that went away while they were compared, or that have another record now, or none.
        """
        found: dict[bytes, list[Finding]] = {}
        gone: dict[bytes, Key] = {}
        for key, source in suspects.items():
            if spelled(source) not in present:
                gone[key] = source
            elif spelled(source) in known:
                # Its key was changed: the way back judges the record that it left.
                found[key] = []
            else:
                found[key] = [Finding(Verdict.REJECTED, key, source_key=source)]
        history = self.plain.history(list(gone.values()))
        for key, source in gone.items():
            verdict, kind = judge(row_that_is_gone(history.get(source)), facts_of(stored[key]))
            found[key] = [Finding(verdict, key, Mismatch(kind), source)]
        return found

    def _set_aside_what_moved(
        self, found: dict[bytes, list[Finding]], stored: Mapping[bytes, Stored]
    ) -> None:
        hard = [key for key, told in found.items() if any(one.verdict in HARD for one in told)]
        again = self.reader.read(hard, whole=False) if hard else {}
        for key in hard:
            if marks_of(again[key]) != marks_of(stored[key]):
                found[key] = [Finding(Verdict.IN_FLIGHT, key)]

    def _states(self, chunk: Chunk, found: Mapping[bytes, Sequence[Finding]]) -> dict[bytes, State]:
        """
        What the rows of changing keys hold now: once Redis has it, they are right.
        """
        wanted = {
            key
            for key, told in found.items()
            if any(one.verdict is Verdict.IN_FLIGHT for one in told)
        }
        if not wanted or not chunk.keys:
            return {}
        records = self.compiled.encode(chunk).records
        return {
            one.key: State(one.version.decode(), one.digest) for one in records if one.key in wanted
        }

    # --- what is expected -------------------------------------------------------------------

    def expect(self, chunk: Chunk) -> list[Expected]:
        """
        What each row's record should be; rows that cannot have one are left out.
        """
        rejected = self.books.rejected(chunk.keys)
        base = str(first_version(chunk.generation, self.compiled.query.revision))
        encoded = self._encoded(chunk)
        found = []
        for at, (key, row) in enumerate(zip(chunk.keys, chunk.rows, strict=True)):
            version = chunk.versions[at] if chunk.versions else base
            record = encoded.get(key) if encoded is not None else None
            unfit = at in chunk.faults or (encoded is not None and record is None)
            try:
                name = self.compiled.key_of([row[part.position] for part in self.compiled.key])
                instant = self.compiled.instant_of(row)
            except (Unencodable, UnicodeEncodeError):
                continue
            gone = unfit or key in rejected
            found.append(Expected(key, name, row, version, gone, instant, record))
        return found

    def _encoded(self, chunk: Chunk) -> dict[Key, Record] | None:
        """
        The records as a backfill would write them; nothing is encoded where fields are read.
        """
        if self.level.reads_fields:
            return None
        batch = self.compiled.encode(chunk)
        return dict(zip(batch.keys, batch.records, strict=True))

    # --- judging ----------------------------------------------------------------------------

    def _judged(
        self, expected: Sequence[Expected], stored: dict[bytes, Stored], *, whole: bool
    ) -> Iterator[tuple[Expected, list[Finding]]]:
        live = [one for one in expected if not one.rejected]
        cells = (
            self.plain.cells([one.source_key for one in live]) if self.level.reads_fields else {}
        )
        history = self.plain.history([one.source_key for one in live])
        entries = {one.key: self._entries(one, stored[one.key]) for one in live}
        links = self._links(live, stored, entries)
        for one in expected:
            there = stored[one.key]
            wrong: list[Mismatch] = []
            same_version = there.version == one.version
            if not one.rejected and there.presence is Presence.RECORD and same_version:
                wrong = self._content(one, there, cells.get(one.source_key), whole=whole)
                wrong += compare.life(there, one.instant, self.shape)
                wrong += compare.listing(there, entries[one.key])
                wrong += links.get(one.key, [])
            known = history.get(one.source_key)
            if known is not None and known.version != one.version:
                # Changed since it was read: its cells may be of the one moment or of the other.
                yield one, [Finding(Verdict.IN_FLIGHT, one.key, source_key=one.source_key)]
                continue
            row = RowFacts(
                present=True,
                version=one.version,
                dirty=bool(known and known.dirty),
                rejected=one.rejected,
                copied=self.copied,
                over=self._over(one.instant, there.now),
            )
            yield one, self._findings(one, row, there, wrong)

    def _findings(
        self, one: Expected, row: RowFacts, there: Stored, wrong: Sequence[Mismatch]
    ) -> list[Finding]:
        left_over = [part for part in wrong if part.kind is Kind.LOOKUP and part.expected is None]
        differs = [part for part in wrong if part not in left_over]
        verdict, kind = judge(row, facts_of(there), differs=bool(differs))
        found = [Finding(Verdict.ORPHAN, part.entry, part, one.source_key) for part in left_over]
        if verdict is Verdict.DIFFERENT and differs:
            unique = {(part.kind, part.field): part for part in reversed(differs)}
            return found + [
                Finding(verdict, one.key, part, one.source_key)
                for part in reversed(unique.values())
            ]
        if verdict is Verdict.DIFFERENT:
            wrong_type = Mismatch(kind, "", self.shape.record.value.encode(), there.type.encode())
            return [*found, Finding(verdict, one.key, wrong_type, one.source_key)]
        versions = Mismatch(kind, "", row.version.encode(), there.version.encode() or None)
        return [*found, Finding(verdict, one.key, versions, one.source_key)]

    def _over(self, instant: bytes, now: int) -> bool:
        if self.over_from is not None:
            return self.over_from <= now
        return bool(instant) and int(instant) <= now

    def _content(
        self,
        one: Expected,
        there: Stored,
        cells: Sequence[str | bytes | None] | None,
        *,
        whole: bool,
    ) -> list[Mismatch]:
        if one.record is not None:
            return self._by_digest(one.record, there, whole=whole)
        fields = compare.fields_in(there.content, self.shape)
        if cells is None:
            # The row went away between two reads, which the second look will see.
            return [Mismatch(Kind.VALUE)]
        wrong = compare.by_cells(self.compiled, one.row, cells, fields)
        if wrong or fields is None:
            return wrong
        return self._by_own_digest(there, fields)

    def _by_own_digest(self, there: Stored, fields: dict[bytes, bytes]) -> list[Mismatch]:
        made = compare.digest_in(fields, there, self.shape)
        if made == there.digest:
            return []
        return [Mismatch(Kind.DIGEST, self.shape.reserved[1], made, there.digest)]

    def _by_digest(self, record: Record, there: Stored, *, whole: bool) -> list[Mismatch]:
        """
        The stored digest and the size; the fields as well where they were read.
        """
        wrong = [Mismatch(Kind.DIGEST, self.shape.reserved[1], record.digest, there.digest)]
        same = record.digest == there.digest and there.size == _size(record, there, self.shape)
        if not whole:
            return [] if same else wrong
        wanted = compare.fields_in(record.fields, self.shape) or {}
        children = frozenset(child.name for child in self.compiled.children)
        stored = compare.fields_in(there.content, self.shape)
        return compare.by_bytes(wanted, stored, children) or ([] if same else wrong)

    # --- lookups ----------------------------------------------------------------------------

    def _entries(self, one: Expected, there: Stored) -> list[tuple[str, Entry]]:
        """
        The entries that a record should have, by the names of the lookups.
        """
        if not self.compiled.lookups or there.presence is not Presence.RECORD:
            return []
        if one.record is not None:
            found = zip(self.compiled.lookups, one.record.entries, strict=True)
            return [(name, entry) for name, entry in found if entry.key]
        fields = compare.fields_in(there.content, self.shape) or {}
        try:
            made = self.compiled.entries_of(fields, one.row)
        except (Unencodable, UnicodeDecodeError):
            return []
        return [(name, entry) for name, entry in made if entry.key]

    def _asked(
        self, there: Stored, entries: Sequence[tuple[str, Entry]]
    ) -> Iterator[tuple[str, Entry, bool]]:
        """
        The entries that a record should have, and those that it lists and should not have.
        """
        for name, entry in entries:
            yield name, entry, True
        if there.entries:
            stated = {(entry.kind, entry.key) for _, entry in entries}
            for kind, key in sorted(compare.listed_in(there) - stated):
                yield self.lookup_of(key), Entry(kind, key), False

    def lookup_of(self, key: bytes) -> str:
        """
        The name of the lookup that a further key belongs to, or nothing.
        """
        for name, (_, template) in zip(self.compiled.lookups, self.shape.lookups, strict=True):
            if Template.parse(template, fixed=True).match(key) is not None:
                return name
        return ""

    def _links(
        self,
        live: Sequence[Expected],
        there: dict[bytes, Stored],
        entries: dict[bytes, list[tuple[str, Entry]]],
    ) -> dict[bytes, list[Mismatch]]:
        """
        Entries that do not name the record that they should, or do and should not, by record.
        """
        wanted = [
            (stored, name, entry, stated)
            for one in live
            for stored in (one.key,)
            for name, entry, stated in self._asked(there[stored], entries[stored])
        ]
        asked = [
            Wanted(LookupKind(entry.kind.decode()), entry.key, key) for key, _, entry, _ in wanted
        ]
        found: dict[bytes, list[Mismatch]] = {}
        replies = self.reader.links(asked) if asked else []
        for (key, name, entry, stated), reply in zip(wanted, replies, strict=True):
            there_too = _names(entry, key, reply, scored=stated)
            if there_too != stated:
                want, have = (key, reply) if stated else (None, key)
                wrong = Mismatch(Kind.LOOKUP, name, want, have, entry.key)
                found.setdefault(key, []).append(wrong)
        return found


def pauses(
    throttle: Throttle, clock: Clock, stop: Callable[[], None], rows: int
) -> Iterator[Throttled]:
    """
    Hold back for as long as the throttle says, and tell why.
    """
    while (pause := throttle.pause(rows)) is not None:
        reason, seconds = pause
        yield Throttled(reason, seconds)
        clock.sleep(seconds)
        stop()
        rows = 0


def facts_of(stored: Stored) -> RecordFacts:
    """
    What a record says for its verdict.
    """
    return RecordFacts(stored.presence, stored.version, over=stored.over)


def marks_of(stored: Stored) -> tuple[Presence, str, str, bytes]:
    """
    What tells one write of a record from another.
    """
    return stored.presence, stored.type, stored.version, stored.digest


def row_that_is_gone(known: History | None) -> RowFacts:
    """
    What SQL says of an entity without a row.
    """
    return RowFacts(
        present=False,
        version=known.version if known else "",
        dirty=bool(known and known.dirty),
    )


def spelled(key: Key) -> Spelled:
    """
    A key for comparisons: drivers give numbers as such or as digits.
    """
    return tuple(part if isinstance(part, bytes) else str(part) for part in key)


def _names(entry: Entry, key: bytes, reply: bytes | None, *, scored: bool = True) -> bool:
    if reply is None:
        return False
    if entry.kind == LookupKind.UNIQUE.value.encode():
        return reply == key
    if scored and entry.kind == LookupKind.SORTED_SET.value.encode():
        return float(reply) == float(entry.score)
    return True


def _size(record: Record, there: Stored, shape: RecordShape) -> int:
    """
    The size that a record should have: fields of a hash with the marks, bytes of a string.
    """
    if shape.record.value == "string":
        return len(record.fields[0])
    marks = 2 + bool(there.expires) + bool(there.entries)
    return len(record.fields) // 2 + marks
