"""
Try rows again that were rejected before: read them anew, and write those that can be moved now.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from migrate.ledger.store import Ledger
from migrate.mapping.compile import CompiledMapping
from migrate.model.ports import Extractor, Loader
from migrate.model.values import Key
from migrate.pipeline.backfill import BLOCKED, unwritten

PAGE = 500
"""Rejects read from the ledger, and rows from the source, at once."""


@dataclass(frozen=True, slots=True)
class Tried:
    """
    What became of some rejects.

    Args:
        gone: Rows that SQL no longer has, or that left the filter.
    """

    tried: int = 0
    moved: int = 0
    gone: int = 0


@dataclass(frozen=True, slots=True)
class Again:
    """
    The ports of trying again. Every write goes through the fence and compare-and-set of a run.
    """

    ledger: Ledger
    extractor: Extractor
    compiled: CompiledMapping
    loader: Loader

    def everything(self) -> Iterator[Tried]:
        """
        Try every open reject of the mapping once, page by page.
        """
        entries = self.ledger.rejects(self.compiled.name)
        while page := [entry.reject.key for entry in islice(entries, PAGE)]:
            yield self._page(page)

    def blocked(self) -> int:
        """
        Try rows whose place in Redis something else had, until none of them moves.

        The order in which rows are read decides nothing then: a unique value that was passed on
        from one row to another is free once the first of them is written, and a place is free once
        what an earlier mapping left there is removed.

        Returns:
            How many were moved.
        """
        moved = 0
        while True:
            entries = (
                entry.reject.key
                for entry in self.ledger.rejects(self.compiled.name)
                if entry.reject.fault.reason in BLOCKED
            )
            found = 0
            while page := list(islice(entries, PAGE)):
                tried = self._page(page)
                found += tried.moved + tried.gone
                moved += tried.moved
            if not found:
                return moved

    def _page(self, keys: Sequence[Key]) -> Tried:
        self.loader.lease()
        batch = self.compiled.encode(self.extractor.fetch(keys))
        receipt = self.loader.write(batch.records)
        again = [*batch.rejects, *unwritten(batch, receipt, self.compiled.lookups)]
        present = {*batch.keys, *(reject.key for reject in batch.rejects)}
        left = {reject.key for reject in again}
        settled = [key for key in keys if key not in left]
        self.ledger.settle(self.compiled.name, settled, again)
        moved = sum(1 for key in settled if key in present)
        return Tried(len(keys), moved, sum(1 for key in keys if key not in present))
