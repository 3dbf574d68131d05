"""
Copy what exists from a source to a target, chunk by chunk, so that a kill costs one chunk at most.

Rows that are deleted in SQL are not seen here: without capture a record of a deleted row stays
until a verification names it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from migrate.errors import ReadTooLongAgo
from migrate.model.events import ChunkCopied, Event, PartitionDone, Throttled
from migrate.model.ports import Checkpoints, Clock, Partition, Progress, Throttle
from migrate.pipeline.carry import Carrier, Watch

SMALLEST_CHUNK = 100
LARGEST_CHUNK = 5_000
"""Rows; with the size limit of a record this bounds the memory of a worker."""

FIRST_CHUNK = 1_000
"""Of a worker; later ones go by how long the one before took, in whichever partition it was."""

TARGET_SECONDS = 0.25
"""How long a chunk should take: a kill repeats this much, a stop waits this long."""


class _Done(NamedTuple):
    """
    What happened to a chunk, how long it was held back on the way, and where its partition is now.
    """

    event: ChunkCopied | PartitionDone
    held: Sequence[Throttled]
    partition: Partition


@dataclass(frozen=True, slots=True)
class Engine:
    """
    The ports and rules of one worker's backfill.

    Args:
        carrier: Reads, encodes and writes a chunk.

        stop: Asked between chunks; raises to end the run.

        limit: Rows to read at most; None reads them all.

        largest: Rows of a chunk at most; smaller where a rate limit is.
    """

    carrier: Carrier
    checkpoints: Checkpoints
    throttle: Throttle
    clock: Clock
    stop: Callable[[], None] = lambda: None
    limit: int | None = None
    largest: int = LARGEST_CHUNK

    def run(self, worker: str) -> Iterator[Event]:
        """
        Copy partitions until none is left.

        The order is: read, encode, write, acknowledged by Redis, saved in the ledger, event. A
        crash between any two repeats at most the chunk at hand, and repeating is harmless because
        every write is a compare-and-set.

        Yields:
            A `ChunkCopied` after each chunk's checkpoint, `PartitionDone`, and `Throttled` before
            each pause, or once behind the chunk for all pauses within it.
        """
        size = min(FIRST_CHUNK, self.largest)
        copied = 0
        while self.limit is None or copied < self.limit:
            partition = self.checkpoints.claim(worker)
            if partition is None:
                return
            copied, size = yield from self._partition(partition, copied, size)

    def _partition(
        self, partition: Partition, copied: int, size: int
    ) -> Generator[Event, None, tuple[int, int]]:
        """
        Returns the rows that are copied by now, and how many to read next.
        """
        while self.limit is None or copied < self.limit:
            self.stop()
            wanted = size if self.limit is None else min(size, self.limit - copied)
            event, held, partition = self._chunk(partition, wanted)
            yield event
            if isinstance(event, PartitionDone):
                break
            copied += event.rows
            yield from held
            seconds = sum(event.seconds.values()) + sum(one.seconds for one in held)
            whole = event.rows == wanted
            size = _next_size(size, whole=whole, seconds=seconds, largest=self.largest)
            yield from self._pauses(event.rows)
        return copied, size

    def _chunk(self, partition: Partition, wanted: int) -> _Done:
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

    def _copy(self, partition: Partition, wanted: int) -> _Done:
        watch = Watch(self.clock)
        carried = self.carrier.carry(partition.range, partition.cursor, wanted, watch)
        if carried.last is None:
            done = Progress(partition.cursor, 0, done=True, server=self.carrier.server)
            return _Done(
                PartitionDone(partition.number), [], self.checkpoints.save(partition, done)
            )
        progress = Progress(
            cursor=carried.last,
            rows=carried.rows,
            outcomes=carried.outcomes,
            rejects=carried.rejects,
            seconds=watch.total,
            server=self.carrier.server,
        )
        partition = self.checkpoints.save(partition, progress)
        watch.lap("save")
        held = [Throttled(reason, seconds) for reason, seconds in self.throttle.held()]
        watch.less("write", sum(one.seconds for one in held))
        event = ChunkCopied(
            partition.number, carried.rows, carried.outcomes, carried.refused, watch.laps
        )
        return _Done(event, held, partition)

    def _pauses(self, rows: int) -> Iterator[Throttled]:
        while (pause := self.throttle.pause(rows)) is not None:
            reason, seconds = pause
            yield Throttled(reason, seconds)
            self.clock.sleep(seconds)
            self.stop()
            rows = 0


def _next_size(size: int, *, whole: bool, seconds: float, largest: int) -> int:
    """
    A chunk size that comes closer to the target time, at most doubled or halved at once.

    Args:
        whole: There were as many rows as were wanted; fewer are no reason to want more.
    """
    most = 2.0 if whole else 1.0
    factor = min(most, max(0.5, TARGET_SECONDS / seconds)) if seconds > 0 else most
    return min(largest, max(SMALLEST_CHUNK, int(size * factor)))
