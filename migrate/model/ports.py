"""
What the engines ask of the stores, as protocols. Batches of rows throughout, never single rows.

More than one implementation of each is meant: keyset SELECT and COPY, compare-and-set script and
RESTORE, a ledger in SQL and one that forgets (dry run).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from migrate.model.filter import Filter
from migrate.model.values import (
    Chunk,
    Column,
    ColumnRead,
    Key,
    KeyRange,
    Outcome,
    RawPage,
    Receipt,
    Record,
    Reject,
    Table,
)


@dataclass(frozen=True, slots=True)
class ChildQuery:
    """
    What to read of one collection of child rows.

    Args:
        path: The collection's name behind those of the collections that it is in: `orders.lines`.

        table: As the catalogue described it; another one later is drift.

        join: Pairs of a column of the child and the column of its parent that it equals.

        columns: In the order in which a child row holds them.

        order: Columns that put the rows of one parent in an order without ties.
    """

    path: str
    table: Table
    join: tuple[tuple[Column, Column], ...]
    columns: tuple[ColumnRead, ...]
    order: tuple[Column, ...]
    children: tuple[ChildQuery, ...] = ()

    def everything(self) -> Iterator[ChildQuery]:
        """
        Itself and all collections below it.
        """
        yield self
        for child in self.children:
            yield from child.everything()


@dataclass(frozen=True, slots=True)
class Query:
    """
    What to read from a source: the root table, its key, its columns, its filter, its children.

    Args:
        mapping: Name under which the capture tables count versions.

        columns: In the order in which a chunk's rows hold them.

        key: Names of the key columns; all of them are among `columns`.

        where: None reads every row.

        revision: Number of the mapping's revision, the base of versions without capture.

        children: Collections whose rows stand behind the columns of each row.
    """

    mapping: str
    schema: str | None
    table: str
    key: tuple[ColumnRead, ...]
    columns: tuple[ColumnRead, ...]
    where: Filter | None = None
    revision: int = 1
    children: tuple[ChildQuery, ...] = ()

    def collections(self) -> Iterator[ChildQuery]:
        """
        All collections, at any depth.
        """
        for child in self.children:
            yield from child.everything()


class Extractor(Protocol):
    """
    Reads rows of one query in key order. Each read is one short transaction on the primary.
    """

    def split(self, parts: int) -> list[KeyRange]:
        """
        Divide the rows that exist now into at most `parts` ranges of about the same size.

        The last range ends at today's highest key: rows that arrive later belong to another run.
        Empty where there are no rows.

        Raises:
            SourceUnavailable: The source did not answer. Safe to repeat.
        """

    def read(self, within: KeyRange, after: Key | None, limit: int) -> Chunk:
        """
        The next rows of a range in the source's key order, with versions, from one snapshot.

        Args:
            after: Continue behind this key; None starts at the range's low end.

        Returns:
            At most `limit` rows; no rows means that the range has no more.

        Raises:
            SchemaDrift: The table is not what it was when this extractor was made.
            SourceUnavailable: The source did not answer. Safe to repeat.
        """

    def fetch(self, keys: Sequence[Key]) -> Chunk:
        """
        The rows with these keys that exist and pass the filter, in any order.
        """

    def close(self) -> None:
        """
        Give the connections back.
        """


class BulkExtractor(Protocol):
    """
    Reads the same rows as an `Extractor`, as lines of bytes that nobody takes apart unless asked.
    """

    def read(self, within: KeyRange, after: Key | None, limit: int) -> RawPage:
        """
        The next rows of a range, as `Extractor.read` finds them.

        Returns:
            At most `limit` rows; no rows means that the range has no more.
        """

    def keys(self, page: RawPage, positions: Sequence[int]) -> Sequence[Key]:
        """
        Keys of some rows of a page.
        """

    def chunk(self, page: RawPage, positions: Sequence[int]) -> Chunk:
        """
        Some rows of a page as `Extractor.read` gives them: cells, keys, versions and faults.

        Nothing is read again: it is the snapshot of the page.
        """

    def close(self) -> None:
        """
        Give the connections back.
        """


class Loader(Protocol):
    """
    Keeps the newest version of every record, whatever order they arrive in.
    """

    @property
    def server(self) -> str:
        """
        Run id of the server that answered the last write; empty where it may not be asked.
        """

    def lease(self) -> None:
        """
        To be called before rows are read: they may be written for a while from now on.

        Only where records expire: a row that was read before an expiry was shortened must not
        bring back a record that has expired meanwhile.
        """

    def write(self, records: Sequence[Record]) -> Receipt:
        """
        Compare-and-set each record. Writing the same batch again changes nothing.

        Not atomic: after an error some records may be stored, and repeating repairs that.

        Raises:
            Fenced: A newer run took over; nothing was written.
            ReadTooLongAgo: The lease is over; read the rows again.
            TargetLostData: The fence is gone or another's; nothing was written.
            TargetNotWritable: Redis took no writes for as long as we may wait.
            TargetUnavailable: Redis did not answer. Safe to repeat.
        """

    def close(self) -> None:
        """
        Give the connections back.
        """


@dataclass(frozen=True, slots=True)
class Partition:
    """
    One range of keys in a run, and how far it is.

    Args:
        cursor: The last key whose record is acknowledged; None before the first.

        token: Raised at every claim; a save with an older one is refused.

        saves: How often it was saved, so that a save is never counted twice.
    """

    number: int
    range: KeyRange
    cursor: Key | None = None
    token: int = 0
    saves: int = 0

    def saved(self, cursor: Key | None) -> Partition:
        """
        The partition after one more save.
        """
        return replace(self, cursor=cursor, saves=self.saves + 1)


@dataclass(frozen=True, slots=True)
class Progress:
    """
    What one chunk added to a partition, saved in one transaction with its rejects.

    Args:
        cursor: The last key that was handled.

        done: No rows are left in the range.

        rejects: Kept with the checkpoint, so that no row is passed over unrecorded.

        seconds: That the chunk took.

        done: No rows are left in the range.

        server: The run id of the server that took the records; another one later means that they
            may be lost and are done again.
    """

    cursor: Key | None
    rows: int
    outcomes: dict[Outcome, int] = field(default_factory=dict)
    rejects: Sequence[Reject] = ()
    seconds: float = 0.0
    done: bool = False
    server: str = ""


class Checkpoints(Protocol):
    """
    Where the partitions of one run are handed out and their progress is kept.
    """

    def claim(self, worker: str) -> Partition | None:
        """
        A partition that nobody works on, or None when none is left for us.
        """

    def save(self, partition: Partition, progress: Progress) -> Partition:
        """
        Keep what a chunk added. Durable when this returns.

        Returns:
            The partition as it is now, for the next save.

        Raises:
            Fenced: Another worker has claimed the partition since.
            LedgerFull: Nothing was kept; the chunk will be done again.
        """


class Throttle(Protocol):
    """
    Decides how long to hold a run back.
    """

    def pause(self, rows: int) -> tuple[str, float] | None:
        """
        After `rows` more rows: the reason and the seconds to wait now, or None to go on.
        """

    def held(self) -> Sequence[tuple[str, float]]:
        """
        How long a `Pace` has held the run back since this was last asked: reasons and seconds.
        """


class Pace(Protocol):
    """
    How much is sent to a target at once, and when, so that its other clients come in between.
    """

    @property
    def most(self) -> int:
        """
        Records of the next step, at most.
        """

    def wait(self, records: int) -> None:
        """
        Hold back until a step of so many records may begin.

        Raises:
            Whatever ends a run: nothing of this step was sent.
        """

    def look(self) -> None:
        """
        Called while the target works on a step, or right behind it.
        """


class Clock(Protocol):
    """
    Time as a port, so that tests own it.
    """

    def now(self) -> float:
        """
        Seconds that only go forward.
        """

    def sleep(self, seconds: float) -> None:
        """
        Wait.

        Raises:
            Stopped: The run was asked to stop meanwhile.
        """


__all__ = [
    "BulkExtractor",
    "Checkpoints",
    "ChildQuery",
    "Clock",
    "Extractor",
    "Loader",
    "Pace",
    "Partition",
    "Progress",
    "Query",
    "Throttle",
]
