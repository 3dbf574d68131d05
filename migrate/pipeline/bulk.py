"""
The fast way of a chunk: lines of bytes from the source, payloads for RESTORE, nothing in between.

What is plain goes this way; a row that is odd, or whose key is there already, goes the other one
(`carry.Rows`) behind it, in the same chunk and before its checkpoint.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from migrate.mapping.bulk import BulkPlan
from migrate.model.ports import BulkExtractor
from migrate.model.values import Key, KeyRange, Outcome, RawPage, first_version
from migrate.pipeline.carry import Carried, Rows, Watch, require_generation
from migrate.target.bulk import BulkLoader
from migrate.target.encoder import Encoder
from migrate.target.restore import Item

LARGEST_PAGE = 20_000
"""Rows of a chunk at most; a line is a tenth of what its row costs as cells and records."""


@dataclass(frozen=True)
class Lines:
    """
    A `Carrier` for pages of lines.

    Args:
        plan: What the mapping does to a line.

        revision: Of the mapping, the version of rows without capture.

        rows: The plain way, over the same loader.
    """

    extractor: BulkExtractor
    plan: BulkPlan
    loader: BulkLoader
    revision: int
    rows: Rows

    @property
    def server(self) -> str:
        """
        Who acknowledged the last chunk.
        """
        return self.loader.server

    def carry(self, within: KeyRange, after: Key | None, limit: int, watch: Watch) -> Carried:
        """
        The next rows. See `Carrier`.
        """
        if not self.loader.promising:
            return self.rows.carry(within, after, limit, watch)
        page = self.extractor.read(within, after, limit)
        watch.lap("read")
        if page.last is None:
            return Carried(0, None)
        require_generation(self.rows.generation, page.generation)
        while True:
            left = self._restored(page)
            watch.lap("write")
            carried = self._left(page, left, watch)
            # A restart in between may have taken the payloads with it.
            if not left or self._rest.server == self.loader.server:
                return carried

    @cached_property
    def _rest(self) -> Rows:
        return replace(self.rows, loader=self.loader.script)

    @cached_property
    def _encoders(self) -> dict[bool, Encoder]:
        return {}

    def _encoder(self, *, versioned: bool) -> Encoder:
        if versioned not in self._encoders:
            self._encoders[versioned] = Encoder(self.plan, versioned=versioned)
        return self._encoders[versioned]

    def _restored(self, page: RawPage) -> list[int]:
        """
        Write what is plain and absent; the positions of all other lines.
        """
        encoder = self._encoder(versioned=page.versioned)
        version = str(first_version(page.generation, self.revision)).encode()
        rows: list[tuple[int, Sequence[int]]] = []
        left: list[int] = []

        def batches() -> Iterator[Sequence[Item]]:
            for batch in self.loader.batches(len(page.lines)):
                made = encoder.encode(page.lines[batch], version, sound=page.sound)
                rows.append((batch.start, made.rows))
                left.extend(batch.start + at for at in made.odd)
                yield made.items

        there = self.loader.restore(batches())
        if not there:
            return left
        places = [start + at for start, ats in rows for at in ats]
        return sorted([*left, *(places[at] for at in there)])

    def _left(self, page: RawPage, left: Sequence[int], watch: Watch) -> Carried:
        """
        All of the chunk, once its odd and present rows went the plain way.
        """
        plain = len(page.lines) - len(left)
        outcomes = Counter({Outcome.WRITTEN: plain} if plain else {})
        if not left:
            return Carried(plain, page.last, outcomes)
        rest = self._rest.write(self.extractor.chunk(page, left), watch)
        return replace(
            rest, rows=len(page.lines), last=page.last, outcomes=outcomes + rest.outcomes
        )
