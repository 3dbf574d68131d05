"""
The fast way from SQL to Redis: lines of bytes, and a glance at what Redis says of their records.

A row whose record is exactly as expected is told at once. Everything else is judged by `Verifier`
from the same page: what differs, what only the plain way can encode, open rejects, and rows of
which capture knows of a change. So verdicts, kinds and re-checks are those of the plain way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from migrate.mapping.bulk import BulkPlan
from migrate.model.ports import BulkExtractor, Partition
from migrate.model.values import Key, RawPage, first_version
from migrate.model.verdict import Verdict
from migrate.pipeline.verify import PAGE, Tally, Verifier
from migrate.source.plain import PlainReader
from migrate.target.encoder import Marker, Marks
from migrate.target.glance import AT_ONCE, Glance

LARGEST_PAGE = 20_000
"""Rows of a page of lines; it is saved as a whole, and compared again if it was not."""

PAGE_BYTES = 8 * 1024 * 1024
"""Of the lines of a page, about."""

_LEAST = 100


@dataclass
class Lines:
    """
    Pages of lines for one worker, the next as long as the rows of the last one let it be.

    Args:
        reserved: Names of our own in a record.

        plain: For what capture knows.

        page: Rows of one at most.
    """

    extractor: BulkExtractor
    plan: BulkPlan
    reserved: Sequence[str]
    glance: Glance
    plain: PlainReader
    revision: int
    page: int = LARGEST_PAGE
    _rows: int = field(default=PAGE, init=False)
    """Of the next page; a small one first, so that something is saved soon."""

    def compare(self, verifier: Verifier, partition: Partition) -> tuple[Tally, Key | None]:
        """
        The next rows of a partition against their records, and the key of the last of them.
        """
        limit = min(self._rows, self.page)
        page = self.extractor.read(partition.range, partition.cursor, limit)
        if page.last is None:
            return Tally(), None
        self._rows = _fitting(page.lines)
        places, keys = self._right(page)
        left = self._left(verifier, page, places)
        if left:
            keys = [key for at, key in zip(places, keys, strict=True) if at not in left]
        tally = verifier.tally(page.generation)
        tally.rows = len(keys)
        if keys:
            tally.counts[Verdict.OK] = len(keys)
        if tally.seen is not None:
            tally.seen.add(keys)
        rest = sorted(left)
        for start in range(0, len(rest), PAGE):
            chunk = self.extractor.chunk(page, rest[start : start + PAGE])
            verifier.compare(chunk, tally)
        return tally, page.last

    def _right(self, page: RawPage) -> tuple[list[int], list[bytes]]:
        """
        Positions of the rows whose records are as expected, and the keys of these.
        """
        marker = self._marker(versioned=page.versioned)
        version = str(first_version(page.generation, self.revision)).encode()
        made: deque[Marks] = deque()

        def batches() -> Iterator[Marks]:
            for start in range(0, len(page.lines), AT_ONCE):
                lines = page.lines[start : start + AT_ONCE]
                marks = marker.mark(lines, version, sound=page.sound)
                made.append(marks)
                yield marks

        places: list[int] = []
        keys: list[bytes] = []
        for number, wrong in enumerate(self.glance.wrong(batches(), version)):
            marks, start, but = made.popleft(), number * AT_ONCE, set(wrong)
            rows, found = marks.rows, marks.keys
            if but:
                rows = [row for at, row in enumerate(rows) if at not in but]
                found = [key for at, key in enumerate(found) if at not in but]
            places += [start + row for row in rows]
            keys += found
        mortal = set(self.glance.mortal(keys))
        if mortal:
            places = [place for at, place in enumerate(places) if at not in mortal]
            keys = [key for at, key in enumerate(keys) if at not in mortal]
        return places, keys

    def _left(self, verifier: Verifier, page: RawPage, places: Sequence[int]) -> set[int]:
        """
        Positions of all rows that are not to be told at once.

        Args:
            places: Of those that are as expected.
        """
        count = len(page.lines)
        left = set(range(count)) - set(places) if len(places) < count else set()
        if places and verifier.books.has_rejects():
            keys = self.extractor.keys(page, places)
            rejected = verifier.books.rejected(keys)
            left.update(at for at, key in zip(places, keys, strict=True) if key in rejected)
        if page.generation:
            for start in range(0, len(places), PAGE):
                left.update(self._known(page, places[start : start + PAGE]))
        return left

    def _known(self, page: RawPage, places: Sequence[int]) -> Iterator[int]:
        """
        Rows that capture says are changing, or were changed since the page was read.
        """
        chunk = self.extractor.chunk(page, places)
        history = self.plain.history(chunk.keys)
        base = str(first_version(chunk.generation, self.revision))
        versions = chunk.versions or [base] * len(places)
        for at, key, version in zip(places, chunk.keys, versions, strict=True):
            known = history.get(key)
            if known is not None and (known.dirty or known.version != version):
                yield at

    @cached_property
    def _markers(self) -> dict[bool, Marker]:
        return {}

    def _marker(self, *, versioned: bool) -> Marker:
        if versioned not in self._markers:
            self._markers[versioned] = Marker(self.plan, self.reserved, versioned=versioned)
        return self._markers[versioned]


def _fitting(lines: Sequence[bytes]) -> int:
    """
    How many lines like these a page may have.
    """
    return max(_LEAST, PAGE_BYTES * len(lines) // max(1, sum(map(len, lines))))


__all__ = ["LARGEST_PAGE", "Lines"]
