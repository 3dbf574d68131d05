"""
Try rows again that were rejected before: read them anew, and write those that can be moved now.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from migrate.ledger.store import Ledger
from migrate.mapping.compile import CompiledMapping
from migrate.model.ports import Extractor
from migrate.model.values import Key
from migrate.pipeline.carry import BLOCKED, unwritten
from migrate.target.loader import ScriptLoader

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
    loader: ScriptLoader

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
        from one row to another is free once the first of them is written, a place is free once
        what an earlier mapping left there is removed, and rows that exchanged their values in a
        circle all give up what they had.

        Returns:
            How many were moved.
        """
        moved = 0
        while True:
            tried = [self._page(keys) for keys in self._waiting()]
            moved += sum(page.moved for page in tried)
            settled = any(page.moved or page.gone for page in tried)
            if not settled and not sum(map(self._give_up, self._waiting())):
                return moved

    def _waiting(self) -> Iterator[list[Key]]:
        entries = (
            entry.reject.key
            for entry in self.ledger.rejects(self.compiled.name)
            if entry.reject.fault.reason in BLOCKED
        )
        while page := list(islice(entries, PAGE)):
            yield page

    def _give_up(self, keys: Sequence[Key]) -> int:
        """
        Release what the old records of these rows have in lookups and SQL does not want any more.
        """
        if not self.compiled.lookups:
            return 0
        return self.loader.give_up(self.compiled.encode(self.extractor.fetch(keys)).records)

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
