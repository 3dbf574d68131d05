"""
The values that flow from source to target; no I/O and no driver in them.

A *cell* is one column value as text that every source spells the same way: the text that
PostgreSQL prints with ISO dates, UTC, shortest floats and ISO 8601 intervals (docs/mapping.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple

Cell = str | bytes | None
"""Neutral text of one value; bytes for binary columns; None for NULL."""

Row = Sequence[Any]
"""Cells, then lists of child rows: `Cell | list[Row]`, which costs a cast at every use to say."""

KeyPart = int | str | bytes
"""One column of a primary key as the source's driver takes it back in a comparison."""

Key = tuple[KeyPart, ...]
"""A primary key; ordered by the source alone, never by Python."""

GENERATION_DIGITS = 12
"""A version of at most this many digits is of generation 0, which orders nothing (ADR 0003)."""


class Kind(StrEnum):
    """
    What a column holds, whatever the dialect calls it. Decides the codec.
    """

    INTEGER = "integer"
    DECIMAL = "decimal"
    FLOAT = "float"
    BOOLEAN = "boolean"
    TEXT = "text"
    BYTES = "bytes"
    DATE = "date"
    TIME = "time"
    TIMETZ = "timetz"
    TIMESTAMP = "timestamp"
    TIMESTAMPTZ = "timestamptz"
    INTERVAL = "interval"
    UUID = "uuid"
    ENUM = "enum"
    JSON = "json"
    ARRAY = "array"
    LITERAL = "literal"
    """A type without a form of its own whose server text reads back exactly: inet, bit, ranges."""
    UNSUPPORTED = "unsupported"
    """A type whose text depends on settings or loses something; needs an explicit `as: text`."""


@dataclass(frozen=True, slots=True)
class Column:
    """
    One column of a reflected table.

    Args:
        type: As the server spells it, with its modifiers: `numeric(10,2)`.

        scale: Declared digits after the point; None where none is declared.

        supplied: The server fills it when an insert leaves it out (default, identity, generated).
    """

    name: str
    type: str
    kind: Kind
    nullable: bool
    scale: int | None = None
    supplied: bool = False
    generated: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """
    A table or view as the source's catalogue describes it.

    Args:
        unique: Column sets that the server keeps unique, the primary key first.

        relation: table, view, partitioned or foreign.

        indexes: Leading columns of every index; empty for a view, which has none of its own.

        children: Tables of the mapping's child collections, by the path of each.
    """

    schema: str | None
    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    unique: tuple[tuple[str, ...], ...] = ()
    relation: str = "table"
    indexes: tuple[tuple[str, ...], ...] = ()
    children: Mapping[str, Table] = field(default_factory=dict, compare=False, repr=False)

    def column(self, name: str) -> Column | None:
        """
        The column of exactly this name, or None.
        """
        return next((c for c in self.columns if c.name == name), None)


@dataclass(frozen=True, slots=True)
class ColumnRead:
    """
    A column to read, and how: as the cell of its kind, or as the server's bare text.
    """

    column: Column
    verbatim: bool = False


@dataclass(frozen=True, slots=True)
class KeyRange:
    """
    A half-open range of keys: after `low`, up to and including `high`. None is an open end.
    """

    low: Key | None = None
    high: Key | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """
    Why a value cannot be moved. `detail` describes it without showing it.
    """

    column: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """
    Rows read at once, in the source's key order, with their versions, from one snapshot.

    Its repr shows keys, never cells.

    Args:
        keys: One per row, to continue after.

        rows: Cells in the order of the columns that were asked for; behind them, for each child
            collection that was asked for, the list of its rows, which look the same.

        versions: Decimal digits, one per row; empty where every row is at the run's base.

        generation: Of the capture at the time of the snapshot; 0 without capture.

        faults: Rows, by position, with a value that cannot be read as its column's kind.
    """

    keys: Sequence[Key]
    rows: Sequence[Row] = field(repr=False)
    versions: Sequence[str] = ()
    generation: int = 0
    faults: Mapping[int, Fault] = field(default_factory=dict)


class RawPage(NamedTuple):
    """
    Rows read at once as lines of bytes, in the source's key order, from one snapshot.

    Its repr shows the last key, never a line.

    Args:
        lines: One a row: the cells in the order of the columns that were asked for, as `lines` of
            the model spells them, and then one of each collection. A row that only `chunk` can
            judge has a line that is no UTF-8.

        generation: Of the capture at the time of the snapshot; 0 without capture.

        last: Key of the last row; None where there is no row.

        versioned: The last cell of each line is the row's version, and no column.

        held: What the reader keeps of the page for `keys` and `chunk`; nobody else looks at it.

        below: The same of the rows of collections.

        sound: The server vouches for it that every line is UTF-8.
    """

    lines: list[bytes]
    generation: int = 0
    last: Key | None = None
    versioned: bool = False
    held: Any = None
    below: Any = None
    sound: bool = False

    def __repr__(self) -> str:
        return f"RawPage({len(self.lines)} lines, {self.generation}, {self.last!r})"


class RecordType(StrEnum):
    """
    What a record is in Redis.
    """

    HASH = "hash"
    STRING = "string"


class LookupKind(StrEnum):
    """
    What a lookup's further key is in Redis. The value is its letter in a record's list of entries.
    """

    UNIQUE = "u"
    """A string that holds the key of the one record that has it."""
    SET = "s"
    """A set of keys of records."""
    SORTED_SET = "z"
    """A sorted set of keys of records."""


class Expiry(StrEnum):
    """
    Where the instant comes from at which a record expires.
    """

    NONE = ""
    FIXED = "fixed"
    """From the source's clock when the run began: a record keeps the one it was written with."""
    COLUMN = "column"
    """From the row; covered by the digest."""


class Entry(NamedTuple):
    """
    One entry of a record in a lookup: the further key that names the record.

    Args:
        kind: Letter of the `LookupKind`.

        key: The further key; empty where the record has no entry in this lookup.

        score: Of a sorted set, as Redis reads it; empty otherwise.
    """

    kind: bytes
    key: bytes
    score: bytes = b""


class Record(NamedTuple):
    """
    One Redis key to be: key, version digits, digest, and what it holds.

    Of a hash `fields` are name, value, name, value, ...; of a string record its one whole text.
    `entries` has one for each lookup of the mapping, in the mapping's order. `expires` is the
    instant at which the record expires, in decimal milliseconds since 1970, or empty.

    Its repr shows neither values nor the digest, from which a small record could be guessed.
    """

    key: bytes
    version: bytes
    digest: bytes
    fields: tuple[bytes, ...]
    entries: tuple[Entry, ...] = ()
    expires: bytes = b""

    def __repr__(self) -> str:
        return f"Record({self.key!r}, {self.version!r}, {len(self.fields) // 2} fields)"


@dataclass(frozen=True, slots=True)
class Reject:
    """
    A row that cannot become a record, kept with its reason. Holds no value of the row but its key.
    """

    key: Key
    fault: Fault


@dataclass(frozen=True, slots=True)
class Batch:
    """
    Records to be written at once, with the keys of the rows they come from (same positions).
    """

    records: Sequence[Record]
    keys: Sequence[Key]
    rejects: Sequence[Reject] = ()


class Outcome(IntEnum):
    """
    What became of one record in the compare-and-set.
    """

    WRITTEN = 0
    """There was nothing under the key."""
    REPLACED = 1
    """An older version, or another content of generation 0, was there."""
    SAME = 2
    """The same version with the same digest was there already."""
    STALE = 3
    """A newer version is there; nothing was written."""
    CONFLICT = 4
    """The same version with another digest is there; nothing was written."""
    COLLISION = 5
    """A key that is not ours is there; nothing was written."""
    EXPIRED = 6
    """The record's instant has passed: nothing was written, and an older record was removed."""
    DUPLICATE = 7
    """Another record has a unique lookup's entry; nothing was written."""
    ADOPTED = 8
    """A key that was not ours was put aside, and the record is in its place."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """
    What became of a batch.

    Args:
        outcomes: One per record, same positions.

        found: The version that is there, by position, for STALE and CONFLICT.

        lookups: By position, for DUPLICATE and for a COLLISION in a lookup: which entry of the
            record, counted from 0.
    """

    outcomes: Sequence[Outcome]
    found: Mapping[int, str] = field(default_factory=dict)
    lookups: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fence:
    """
    Who may write: the key in Redis that every write checks.

    Args:
        mode: `fwd` while SQL is the authority, `closed` when nobody may write.

        epoch: Raised by every run and every change of mode; an older one writes nothing.

        run: Identity of this migration's data in this target.

        floor: Versions handed out by Redis start above it.
    """

    mode: str
    epoch: int
    run: str
    floor: int = 0


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """
    What tells one target from another, and a server from itself after a restart.

    Args:
        address: Hosts, database and service as configured, without user or password.

        topology: standalone, sentinel or cluster, as detected.

        flavour: redis or valkey.

        version: Of the server software.

        run_id: New at every start of the server process.

        replication_id: Changes at a failover.

        offset: Replication offset when this was read.
    """

    address: str
    topology: str
    flavour: str
    version: str
    run_id: str
    replication_id: str
    offset: int


def generation_of(version: str) -> int:
    """
    The capture generation that a version belongs to; 0 means that versions order nothing.
    """
    return int(version[:-GENERATION_DIGITS] or "0")


def first_version(generation: int, revision: int) -> int:
    """
    The version `base` of a row that was never marked.

    Without capture it is the number of the mapping's revision; with capture it is the start of
    the generation's block, which leaves room for 10**12 changes a row.
    """
    return generation * 10**GENERATION_DIGITS if generation else revision
