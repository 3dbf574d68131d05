"""
Carries one chunk from source to target: rows as cells through scripts, or lines as payloads.

Both read one page, make records of it, and write them; what they leave behind is the same, record
for record, since the second one hands every row that is not plain to the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from migrate.errors import CaptureChanged, SplitBrain
from migrate.model.ports import Clock, Extractor, Loader
from migrate.model.values import Batch, Chunk, Fault, Key, KeyRange, Outcome, Receipt, Reject


class Watch:
    """
    Seconds since the last lap, by name.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = clock.now()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """
        What ended just now had this name.
        """
        now = self._clock.now()
        self.laps[name] = self.laps.get(name, 0.0) + now - self._last
        self._last = now

    def less(self, name: str, seconds: float) -> None:
        """
        So much of what had this name was something else.
        """
        self.laps[name] = max(0.0, self.laps.get(name, 0.0) - seconds)

    @property
    def total(self) -> float:
        """
        All laps so far.
        """
        return sum(self.laps.values())


@dataclass(frozen=True, slots=True)
class Carried:
    """
    What became of one chunk; all of it is acknowledged by the target.

    Args:
        last: The key to continue behind; None where the range has no more rows.

        refused: Rejects of rows that could not become records.

        rejects: Those, and the ones of records that the target did not take.
    """

    rows: int
    last: Key | None
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    refused: int = 0
    rejects: Sequence[Reject] = ()


class Carrier(Protocol):
    """
    One way from source to target.
    """

    @property
    def server(self) -> str:
        """
        As `Loader.server`.
        """

    def carry(self, within: KeyRange, after: Key | None, limit: int, watch: Watch) -> Carried:
        """
        Read the next rows of a range and write their records.

        Raises:
            CaptureChanged: Capture came or went since the run began; nothing was written.

            SplitBrain: The target holds a version that the source, read again, never reached.
        """


@dataclass(frozen=True, slots=True)
class Rows:
    """
    Cells of rows, encoded one by one and written by compare-and-set.

    Args:
        encode: From rows to records and rejects; pure.

        generation: Of the capture when the run began; a chunk of another one is not written.

        lookups: Names of the mapping's lookups, in the order of a record's entries.
    """

    extractor: Extractor
    loader: Loader
    encode: Callable[[Chunk], Batch]
    generation: int = 0
    lookups: Sequence[str] = ()

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
        self.loader.lease()
        chunk = self.extractor.read(within, after, limit)
        watch.lap("read")
        if not chunk.keys:
            # Only an empty page ends a range: some drivers end a page early without a word.
            return Carried(0, None)
        return self.write(chunk, watch)

    def write(self, chunk: Chunk, watch: Watch) -> Carried:
        """
        Rows that were read.
        """
        require_generation(self.generation, chunk.generation)
        batch = self.encode(chunk)
        watch.lap("encode")
        receipt = self.loader.write(batch.records)
        rejects = [*batch.rejects, *self._settle(batch, receipt)]
        watch.lap("write")
        return Carried(
            len(chunk.keys), chunk.keys[-1], Counter(receipt.outcomes), len(batch.rejects), rejects
        )

    def _settle(self, batch: Batch, receipt: Receipt) -> list[Reject]:
        """
        Rejects for the records that were not written, once it is sure that this loses nothing.
        """
        stale = {
            key: receipt.found[index]
            for index, (key, outcome) in enumerate(zip(batch.keys, receipt.outcomes, strict=True))
            if outcome is Outcome.STALE
        }
        if stale:
            self._accept_stale(stale)
        return list(unwritten(batch, receipt, self.lookups))

    def _accept_stale(self, stale: dict[Key, str]) -> None:
        """
        Newer in Redis is harmless only where SQL, read again, is at least as new.
        """
        again = self.extractor.fetch(list(stale))
        for key, version in zip(again.keys, self._versions(again), strict=True):
            if newer(stale[key], version):
                raise SplitBrain(
                    "Redis holds a newer version of a record than SQL has given out.",
                    where={"key": key, "redis": stale[key], "sql": version},
                    next_step="Find out who wrote it: see docs/errors.md#split-brain.",
                )

    def _versions(self, chunk: Chunk) -> Sequence[str]:
        if chunk.versions:
            return chunk.versions
        return [record.version.decode() for record in self.encode(chunk).records]


BLOCKED = frozenset({"collision", "duplicate"})
"""Reasons of rejects that may be none any more once all other rows are written."""

_REFUSED = {
    Outcome.COLLISION: Fault("", "collision", "a key that is not ours is in its place in Redis"),
    Outcome.CONFLICT: Fault("", "conflict", "Redis holds the same version with another content"),
}

_REFUSED_ENTRY = {
    Outcome.COLLISION: ("collision", "a key that is not ours is in the place of this lookup's"),
    Outcome.DUPLICATE: ("duplicate", "another record has the entry in this unique lookup"),
}


def unwritten(batch: Batch, receipt: Receipt, lookups: Sequence[str]) -> Iterator[Reject]:
    """
    Rejects for the rows whose records were refused by what Redis holds.
    """
    for index, (key, outcome) in enumerate(zip(batch.keys, receipt.outcomes, strict=True)):
        which = receipt.lookups.get(index)
        if which is not None:
            yield Reject(key, Fault(lookups[which], *_REFUSED_ENTRY[outcome]))
        elif outcome in _REFUSED:
            yield Reject(key, _REFUSED[outcome])


def newer(one: str, other: str) -> bool:
    """
    Whether version `one` is above `other`; digits by length and then by text, as in the script.
    """
    return (len(one), one) > (len(other), other)


def require_generation(began: int, found: int) -> None:
    """
    Refuse rows that were read under another capture than the run's.
    """
    if began == found:
        return
    raise CaptureChanged(
        "Capture was installed, removed or raised while the backfill was going on.",
        where={"generation_at_start": began, "generation_now": found},
        next_step="Run the same command again: it takes the new generation.",
    )
