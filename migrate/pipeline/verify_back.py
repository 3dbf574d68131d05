"""
From Redis to SQL: records without a row, and entries of lookups that no record stands for.

Where the way from SQL has left which records it met (`verify_seen`), one walk over the keys alone
says in which buckets there are just those: each of them was seen with its row, and no others are
there. The records of the buckets that differ are read in a second walk, and judged as ever. The
first walk may be over before the way from SQL is: a record that was written in between, and met,
makes its bucket differ, and one without a row that was written behind the walk is not looked for.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from migrate.mapping.compile import CompiledMapping
from migrate.mapping.template import Template
from migrate.model.events import ChunkVerified, Event, KeysCounted, PartitionDone
from migrate.model.ports import Clock, Extractor, Partition, Throttle
from migrate.model.shape import RecordShape
from migrate.model.values import Key, LookupKind
from migrate.model.verdict import (
    HARD,
    Finding,
    Kind,
    Mismatch,
    Presence,
    Recheck,
    Verdict,
    judge,
)
from migrate.pipeline.verify import PAGE, Books, Tally, facts_of, marks_of, pauses, row_that_is_gone
from migrate.pipeline.verify_compare import listed_in
from migrate.pipeline.verify_seen import Seen
from migrate.source.plain import History, PlainReader, filled_up
from migrate.target.reader import RecordReader, Stored

_PLAIN = string.ascii_letters + string.digits + "-_"

LOOKS = 5
"""At an entry whose record changes while it is looked at; then it is told as in flight."""

Told = Callable[[Sequence[bytes]], set[bytes]]
"""Those of these entries of lookups that a finding names already."""


class Place(NamedTuple):
    """
    One lookup to be walked through.
    """

    name: str
    kind: LookupKind
    template: Template


@dataclass(frozen=True, slots=True)
class Back:
    """
    The ports and rules of the way from Redis to SQL.

    Args:
        extractor: Of the key columns alone; rows pass the mapping's filter.

        shapes: Every way in which records of this mapping may have been written.

        told: Entries that the way from SQL named: a unique one that points elsewhere is not told
            twice.

        counting: Makes what keys are counted in, as the way from SQL did.
    """

    compiled: CompiledMapping
    shape: RecordShape
    shapes: Sequence[RecordShape]
    extractor: Extractor
    plain: PlainReader
    reader: RecordReader
    books: Books
    told: Told
    throttle: Throttle
    clock: Clock
    stop: Callable[[], None] = lambda: None
    counting: Callable[[], Seen] | None = None

    def walk(self) -> Iterator[Event]:
        """
        Count the keys, where the way from SQL does. A scan has no place to go on from.
        """
        if self.counting is None or self.plain.is_captured():
            return
        found = self.counting()
        for keys in self._keys():
            self.stop()
            found.add(keys)
            yield from pauses(self.throttle, self.clock, self.stop, len(keys))
        yield KeysCounted(found.dump())

    def run(self, partition: Partition, found: Seen | None = None) -> Iterator[Event]:
        """
        All of it; an interrupted one begins again.

        Args:
            found: What a walk has counted; None where every record is read.
        """
        seen = None if found is None else self.books.seen()
        suspects = None
        if seen is not None and found is not None:
            suspects = seen.differing(found)
            tally = Tally(rows=found.count(but=suspects))
            partition = self.books.save(partition, None, tally, 0.0, done=False)
            yield ChunkVerified(partition.number, tally.rows, tally.hard)
        for tally in self._pages(seen, suspects):
            self.stop()
            partition = self.books.save(partition, None, tally, 0.0, done=False)
            yield ChunkVerified(partition.number, tally.rows, tally.hard)
            yield from pauses(self.throttle, self.clock, self.stop, tally.rows)
        self.books.save(partition, None, Tally(), 0.0, done=True)
        yield PartitionDone(partition.number)

    def count(self) -> int:
        """
        How many records there are; tombstones are none.
        """
        found = 0
        for keys in self._keys():
            self.stop()
            stored = self.reader.read(keys, whole=False)
            found += sum(1 for one in stored.values() if one.presence is Presence.RECORD)
        return found

    def _pages(self, seen: Seen | None, suspects: set[int] | None) -> Iterator[Tally]:
        if seen is None or suspects is None:
            for keys in self._keys():
                yield self._records(keys)
        elif suspects:
            yield from self._suspects(seen, suspects)
        for place in self._places():
            yield from self._lookup(place)

    def _suspects(self, seen: Seen, suspects: set[int]) -> Iterator[Tally]:
        """
        The records of some buckets, as many at once as a page of all of them has.
        """
        here: list[bytes] = []
        for keys in self._keys():
            self.stop()
            buckets = zip(keys, seen.buckets(keys), strict=True)
            here += [key for key, bucket in buckets if bucket in suspects]
            if len(here) >= PAGE:
                yield self._records(here)
                here = []
        if here:
            yield self._records(here)

    def _keys(self) -> Iterator[list[bytes]]:
        """
        Keys whose names fit a template under which records were written.
        """
        templates = [Template.parse(text) for text in {one.template for one in self.shapes}]
        for prefix in sorted({template.prefix for template in templates}):
            here = [template for template in templates if template.prefix == prefix]
            plain = _plain(here[0])
            for page in self.reader.scan(prefix):
                fits = page
                if not _all_fit(plain, page):
                    fits = [key for key in page if any(one.match(key) is not None for one in here)]
                if fits:
                    yield fits

    # --- records ----------------------------------------------------------------------------

    def _records(self, keys: Sequence[bytes]) -> Tally:
        stored = self.reader.read(keys, whole=False)
        live = [one for one in stored.values() if one.presence is Presence.RECORD]
        tally = Tally(rows=len(live))
        present = self._with_row([one.key for one in live])
        lonely = [one.key for one in live if one.key not in present]
        if not lonely:
            return tally
        again = self.reader.read(lonely, whole=False)
        present = self._with_row(lonely)
        gone = [key for key in lonely if key not in present]
        known = self._known(gone)
        last = self.reader.read(gone, whole=False) if gone else {}
        for key in gone:
            self._judge(again[key], known.get(key), tally, moved=_moved(again[key], last[key]))
        return tally

    def _with_row(self, keys: Sequence[bytes]) -> set[bytes]:
        """
        Those of these record keys whose rows are there.
        """
        wanted = [self.plain.bound(parts) for key in keys if (parts := self._parts(key))]
        rows = self.extractor.fetch(filled_up(wanted)).rows if wanted else ()
        return {self.compiled.key_of(row) for row in rows}

    def _known(self, keys: Sequence[bytes]) -> dict[bytes, History]:
        """
        What capture knows of the rows of these records.
        """
        bound = {key: self.plain.bound(parts) for key in keys if (parts := self._parts(key))}
        history = self.plain.history(list(bound.values()))
        return {key: history[source] for key, source in bound.items() if source in history}

    def _parts(self, key: bytes) -> Key | None:
        parts = self.compiled.key_parts(key)
        return parts if parts is not None and self.plain.can_be(parts) else None

    def _judge(self, stored: Stored, known: History | None, tally: Tally, *, moved: bool) -> None:
        parts = self._parts(stored.key)
        verdict, kind = judge(row_that_is_gone(known), facts_of(stored))
        if parts and (verdict is Verdict.IN_FLIGHT or (moved and verdict in HARD)):
            tally.rechecks.append(Recheck(stored.key, self.plain.bound(parts)))
        elif verdict in HARD:
            source = self.plain.bound(parts) if parts else None
            tally.findings.append(Finding(verdict, stored.key, Mismatch(kind), source))
        elif verdict is not Verdict.OK:
            tally.counts[verdict] += 1

    # --- lookups ----------------------------------------------------------------------------

    def _places(self) -> Iterator[Place]:
        for name, (kind, text) in zip(self.compiled.lookups, self.shape.lookups, strict=True):
            yield Place(name, kind, Template.parse(text, fixed=True))

    def _lookup(self, place: Place) -> Iterator[Tally]:
        for page in self.reader.scan(place.template.prefix):
            self.stop()
            keys = [key for key in page if self._is_of(place, key)]
            if place.kind is LookupKind.UNIQUE:
                yield self._unique(place, keys)
                continue
            for key in keys:
                for members in self.reader.members(key, place.kind):
                    self.stop()
                    tally = self._members(place, key, members)
                    if tally.findings or tally.counts:
                        yield tally

    def _unique(self, place: Place, keys: Sequence[bytes]) -> Tally:
        """
        A page of unique entries at once; those that do not stand once more one by one.
        """
        tally = Tally()
        named = self.reader.values(keys)
        stored = self.reader.read(list(set(named.values())), whole=False) if named else {}
        kind = place.kind.value.encode()
        for key, member in named.items():
            if not _stands(stored[member], kind, key):
                found = self._members(place, key, [member])
                tally.findings += found.findings
                tally.counts += found.counts
        return tally

    def _is_of(self, place: Place, key: bytes) -> bool:
        return place.template.match(key) is not None and self.compiled.key_parts(key) is None

    def _members(self, place: Place, key: bytes, members: Sequence[bytes]) -> Tally:
        """
        Members that are no entry of a record that lists them; others than our keys are not ours.
        """
        tally = Tally()
        ours = [one for one in members if self.compiled.template.match(one) is not None]
        suspects = self._unlisted(place, key, ours)
        if not suspects or (place.kind is LookupKind.UNIQUE and self.told([key])):
            return tally
        for _ in range(LOOKS):
            pages = self.reader.members(key, place.kind)
            there = {one for page in pages for one in page if one in suspects}
            still = self._unlisted(place, key, sorted(there))
            late = {one for one, known in self._known(sorted(still)).items() if known.dirty}
            for member, stored in still.items():
                if not _moved(suspects[member], stored) and member not in late:
                    wrong = Mismatch(Kind.LOOKUP, place.name, None, member, key)
                    tally.findings.append(Finding(Verdict.ORPHAN, key, wrong))
            suspects = {
                one: stored
                for one, stored in still.items()
                if one in late or _moved(suspects[one], stored)
            }
            if not suspects:
                return tally
        tally.counts[Verdict.IN_FLIGHT] += len(suspects)
        return tally

    def _unlisted(self, place: Place, key: bytes, members: Sequence[bytes]) -> dict[bytes, Stored]:
        stored = self.reader.read(members, whole=False) if members else {}
        kind = place.kind.value.encode()
        return {member: one for member, one in stored.items() if not _stands(one, kind, key)}


def _plain(template: Template) -> re.Pattern[bytes]:
    """
    A page of keys of this template, each with a line of its own, where nothing is escaped in them.
    """
    shown = "".join(one for one in _PLAIN if one not in template.escaped)
    component = f"[{re.escape(shown)}]*"
    return re.compile(f"(?:{component.join(map(re.escape, template.literals))}\n)*".encode())


def _all_fit(plain: re.Pattern[bytes], keys: Sequence[bytes]) -> bool:
    """
    Whether all keys are plain ones; asked of the page at once, because nearly all of them are.
    """
    text = b"\n".join([*keys, b""])
    return text.count(b"\n") == len(keys) and plain.fullmatch(text) is not None


def _moved(before: Stored, after: Stored) -> bool:
    """
    Whether a record was written between two looks.
    """
    return marks_of(before) != marks_of(after)


def _stands(stored: Stored, kind: bytes, key: bytes) -> bool:
    """
    Whether there is a record that lists this entry.
    """
    return stored.presence is Presence.RECORD and (kind, key) in listed_in(stored)
