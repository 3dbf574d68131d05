"""
Compares SQL and Redis in both directions, page by page, and repairs nothing.

From SQL to Redis by keyset pages, from Redis to SQL by scanning for records. Whatever does not
match is looked at once more, the record first and then the row, before it is told: a row that
changed in between is not a difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
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
    RecordFacts,
    RowFacts,
    Verdict,
    judge,
)
from migrate.pipeline import verify_compare as compare
from migrate.source.plain import PlainReader, filled_up
from migrate.target.reader import RecordReader, Stored, Wanted

PAGE = 1_000
"""Rows compared at once."""

AGAIN = 100
"""Suspects looked at once more together, each read whole."""


@dataclass(slots=True)
class Tally:
    """
    What a page brought: entities by verdict, and every finding that is hard.
    """

    rows: int = 0
    counts: Counter[Verdict] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    @property
    def hard(self) -> int:
        """
        Keys with a hard verdict.
        """
        return len({finding.key for finding in self.findings})


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


Suspects = dict[Key, bytes]


@dataclass(frozen=True, slots=True)
class Verifier:
    """
    The ports and rules of one worker's verification.

    Args:
        copied: A backfill has seen every row; otherwise what is not in Redis may still come.

        stop: Asked between pages; raises to end the run.

        over_from: The earliest instant from which records may have expired, where all share one.
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
            chunk = self.extractor.read(partition.range, partition.cursor, self.page)
            tally = self.compare(chunk) if chunk.keys else Tally()
            cursor = chunk.keys[-1] if chunk.keys else partition.cursor
            seconds = self.clock.now() - began
            done = not chunk.keys
            partition = self.books.save(partition, cursor, tally, seconds, done=done)
            yield ChunkVerified(partition.number, tally.rows, tally.hard, seconds)
            if done:
                yield PartitionDone(partition.number)
                return
            yield from pauses(self.throttle, self.clock, self.stop, tally.rows)

    def compare(self, chunk: Chunk) -> Tally:
        """
        The rows of a chunk against their records; every mismatch is looked at a second time.
        """
        expected = self.expect(chunk)
        stored = self.reader.read([one.key for one in expected], whole=self.level.reads_fields)
        tally = Tally(rows=len(chunk.keys))
        tally.counts[Verdict.REJECTED] += len(chunk.keys) - len(expected)
        suspects: Suspects = {}
        for one, found in self._judged(expected, stored, whole=self.level.reads_fields):
            if any(finding.verdict in HARD for finding in found):
                suspects[one.source_key] = one.key
            else:
                _count(tally, found)
        names = list(suspects)
        for start in range(0, len(names), AGAIN):
            self._again({key: suspects[key] for key in names[start : start + AGAIN]}, tally)
        return tally

    def _again(self, suspects: Suspects, tally: Tally) -> None:
        """
        The records once more, and only then their rows.
        """
        stored = self.reader.read(list(suspects.values()), whole=True)
        chunk = self.extractor.fetch(filled_up(list(suspects)))
        expected = self.expect(chunk)
        # A row whose own key was changed has another record now.
        known = [one for one in expected if suspects.get(one.source_key) == one.key]
        tally.counts[Verdict.REJECTED] += len(chunk.keys) - len(expected)
        for _, found in self._judged(known, stored, whole=True):
            _count(tally, found)
        for key in suspects.keys() - set(chunk.keys):
            _count(tally, self._gone(key, stored[suspects[key]]))

    def _gone(self, key: Key, stored: Stored) -> list[Finding]:
        """
        A row that went away while it was compared.
        """
        history = self.plain.history([key]).get(key)
        row = RowFacts(
            present=False,
            version=history.version if history else "",
            dirty=bool(history and history.dirty),
        )
        verdict, kind = judge(row, facts_of(stored))
        return [Finding(verdict, stored.key, Mismatch(kind), key)]

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


def _count(tally: Tally, found: Sequence[Finding]) -> None:
    for finding in found:
        if finding.verdict in HARD:
            tally.findings.append(finding)
        else:
            tally.counts[finding.verdict] += 1


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
