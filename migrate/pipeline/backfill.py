"""
Copy what exists from a source to a target, chunk by chunk, so that a kill costs one chunk at most.

Rows that are deleted in SQL are not seen here: without capture a record of a deleted row stays
until a verification names it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from migrate.errors import CaptureChanged, ReadTooLongAgo, SplitBrain
from migrate.model.events import ChunkCopied, Event, PartitionDone, Throttled
from migrate.model.ports import (
    Checkpoints,
    Clock,
    Extractor,
    Loader,
    Partition,
    Progress,
    Throttle,
)
from migrate.model.values import Batch, Chunk, Fault, Key, Outcome, Receipt, Reject

SMALLEST_CHUNK = 100
LARGEST_CHUNK = 5_000
"""Rows; with the size limit of a record this bounds the memory of a worker."""

FIRST_CHUNK = 1_000
TARGET_SECONDS = 0.25
"""How long a chunk should take: a kill repeats this much, a stop waits this long."""


@dataclass(frozen=True, slots=True)
class Engine:
    """
    The ports and rules of one worker's backfill.

    Args:
        encode: From rows to records and rejects; pure.

        generation: Of the capture when the run began; a chunk of another one is not written.

        stop: Asked between chunks; raises to end the run.

        limit: Rows to read at most; None reads them all.

        largest: Rows of a chunk at most; smaller where a rate limit is.

        lookups: Names of the mapping's lookups, in the order of a record's entries.
    """

    extractor: Extractor
    loader: Loader
    checkpoints: Checkpoints
    encode: Callable[[Chunk], Batch]
    throttle: Throttle
    clock: Clock
    generation: int = 0
    stop: Callable[[], None] = lambda: None
    limit: int | None = None
    largest: int = LARGEST_CHUNK
    lookups: Sequence[str] = ()

    def run(self, worker: str) -> Iterator[Event]:
        """
        Copy partitions until none is left.

        The order is: read, encode, write, acknowledged by Redis, saved in the ledger, event. A
        crash between any two repeats at most the chunk at hand, and repeating is harmless because
        every write is a compare-and-set.

        Yields:
            A `ChunkCopied` after each chunk's checkpoint, `PartitionDone`, and `Throttled` before
            each pause.
        """
        left = self.limit
        while left is None or left > 0:
            partition = self.checkpoints.claim(worker)
            if partition is None:
                return
            for event in self._partition(partition, left):
                if isinstance(event, ChunkCopied) and left is not None:
                    left -= event.rows
                yield event

    def _partition(self, partition: Partition, limit: int | None) -> Iterator[Event]:
        size = min(FIRST_CHUNK, self.largest)
        copied = 0
        while limit is None or copied < limit:
            self.stop()
            wanted = size if limit is None else min(size, limit - copied)
            event, partition = self._chunk(partition, wanted)
            yield event
            if isinstance(event, PartitionDone):
                return
            copied += event.rows
            size = min(self.largest, _next_size(size, sum(event.seconds.values())))
            yield from self._pauses(event.rows)

    def _chunk(
        self, partition: Partition, wanted: int
    ) -> tuple[ChunkCopied | PartitionDone, Partition]:
        """
        Copy one chunk, and again with fewer rows where it took longer than rows may be kept.
        """
        while True:
            try:
                return self._copy(partition, wanted)
            except ReadTooLongAgo:
                if wanted == 1:
                    raise
                wanted = max(1, wanted // 4)
                self.stop()

    def _copy(
        self, partition: Partition, wanted: int
    ) -> tuple[ChunkCopied | PartitionDone, Partition]:
        watch = _Watch(self.clock)
        self.loader.lease()
        chunk = self.extractor.read(partition.range, partition.cursor, wanted)
        watch.lap("read")
        if not chunk.keys:
            # Only an empty page ends a range: some drivers end a page early without a word.
            done = Progress(partition.cursor, 0, done=True, server=self.loader.server)
            return PartitionDone(partition.number), self.checkpoints.save(partition, done)
        if chunk.generation != self.generation:
            raise _capture_changed(self.generation, chunk.generation)
        batch = self.encode(chunk)
        watch.lap("encode")
        receipt = self.loader.write(batch.records)
        rejects = [*batch.rejects, *self.settle(batch, receipt)]
        watch.lap("write")
        outcomes = Counter(receipt.outcomes)
        progress = Progress(
            cursor=chunk.keys[-1],
            rows=len(chunk.keys),
            outcomes=outcomes,
            rejects=rejects,
            seconds=watch.total,
            server=self.loader.server,
        )
        partition = self.checkpoints.save(partition, progress)
        watch.lap("save")
        event = ChunkCopied(
            partition.number, len(chunk.keys), outcomes, len(batch.rejects), watch.laps
        )
        return event, partition

    def settle(self, batch: Batch, receipt: Receipt) -> list[Reject]:
        """
        Rejects for the records that were not written, once it is sure that this loses nothing.

        Raises:
            SplitBrain: Redis holds a version that SQL, read again, never reached.
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

    def _pauses(self, rows: int) -> Iterator[Throttled]:
        while (pause := self.throttle.pause(rows)) is not None:
            reason, seconds = pause
            yield Throttled(reason, seconds)
            self.clock.sleep(seconds)
            self.stop()
            rows = 0


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


def _next_size(size: int, seconds: float) -> int:
    """
    A chunk size that comes closer to the target time, at most doubled or halved at once.
    """
    factor = min(2.0, max(0.5, TARGET_SECONDS / seconds)) if seconds > 0 else 2.0
    return max(SMALLEST_CHUNK, min(LARGEST_CHUNK, int(size * factor)))


def _capture_changed(began: int, found: int) -> CaptureChanged:
    return CaptureChanged(
        "Capture was installed, removed or raised while the backfill was going on.",
        where={"generation_at_start": began, "generation_now": found},
        next_step="Run the same command again: it takes the new generation.",
    )


class _Watch:
    """
    Seconds since the last lap, by name.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = clock.now()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = self._clock.now()
        self.laps[name] = now - self._last
        self._last = now

    @property
    def total(self) -> float:
        return sum(self.laps.values())
