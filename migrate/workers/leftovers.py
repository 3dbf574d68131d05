"""
After the last row: remove what a changed mapping left behind, and write the rows that waited.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from migrate.ledger.journal import DONE, INTENT, Note
from migrate.ledger.store import Ledger
from migrate.mapping.compile import CompiledMapping
from migrate.model.ports import Clock
from migrate.model.values import Fence, Table
from migrate.pipeline.carry import BLOCKED
from migrate.pipeline.sweep import Fate, Swept, left_behind, total
from migrate.source.store import SqlSource
from migrate.target.store import RedisTarget
from migrate.workers.again import Again

STEP = "remove-left-behind"
"""Name of the step in the journal."""


@dataclass(frozen=True, slots=True)
class Leftovers:
    """
    The stores and rules of a run that has seen every row.

    Args:
        compiled: With the run's revision and instant.

        stop: Asked between pages; raises to end the work.
    """

    ledger: Ledger
    source: SqlSource
    target: RedisTarget
    compiled: CompiledMapping
    table: Table
    fence: Fence
    clock: Clock
    stop: Callable[[], None]

    def sweep(self) -> Swept | None:
        """
        Remove the records of earlier shapes that this run did not replace; None without any.

        The shapes are forgotten only afterwards, so that a run that dies here sweeps again.
        """
        current = self.compiled.shape()
        earlier = [
            shape
            for shape in self.ledger.shapes(self.compiled.name)
            if shape.fingerprint != current.fingerprint
        ]
        if not earlier:
            return None
        self._note(INTENT, {"shapes": [shape.fingerprint for shape in earlier]})
        swept = total(
            left_behind(
                self.target,
                earlier,
                current,
                self.fence,
                mapping=self.compiled.name,
                stop=self.stop,
                clock=self.clock,
                rejected=self._rejected().__contains__,
            )
        )
        if not swept.fates.get(Fate.CHANGED):
            self.ledger.forget_shapes(self.compiled.name, {current.fingerprint})
        self._note(DONE, {fate.value: count for fate, count in swept.fates.items()})
        return swept

    def settle(self) -> int:
        """
        Write the rows whose place became free meanwhile. See `Again.blocked`.
        """
        if not BLOCKED & self.ledger.count_rejects(self.compiled.name).keys():
            return 0
        loader = self.target.loader(self.compiled.name, self.fence, self.compiled.shape())
        with closing(self.source.extractor(self.compiled.query, self.table)) as extractor:
            return Again(self.ledger, extractor, self.compiled, loader).blocked()

    def _rejected(self) -> set[bytes]:
        """
        Record keys of the rows that are rejects now: their old records go without a tombstone.
        """
        keys = (
            self.compiled.record_key(entry.reject.key)
            for entry in self.ledger.rejects(self.compiled.name)
        )
        return {key for key in keys if key is not None}

    def _note(self, phase: str, payload: dict[str, object]) -> None:
        self.ledger.note(
            Note(
                self.compiled.name,
                STEP,
                phase,
                run=self.fence.run,
                epoch=self.fence.epoch,
                payload=payload,
            )
        )
