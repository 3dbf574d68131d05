"""
Verdicts of a verification: what a row in SQL and a record in Redis say about each other.

`judge` is a pure function of the facts of one coherent pair: the record was read first, then the
row. Versions decide what is only late; nothing waits and nothing is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from migrate.model.values import Key, generation_of


class Level(StrEnum):
    """
    How closely a verification looks.
    """

    COUNT = "count"
    """Rows and records are counted."""
    SAMPLE = "sample"
    """Deep, for some rows at random."""
    FULL = "full"
    """Every row and every record; the stored digest is trusted."""
    DEEP = "deep"
    """Every field of every record, read back and compared with the server's own text."""

    @property
    def reads_fields(self) -> bool:
        """
        Whether each field is compared, instead of a digest that the record carries.
        """
        return self in (Level.SAMPLE, Level.DEEP)


class Verdict(StrEnum):
    """
    What one entity's row and record are to each other.
    """

    OK = "OK"
    IN_FLIGHT = "IN_FLIGHT"
    """SQL is ahead and the change is known to be on its way, or the two changed while compared."""
    PENDING = "PENDING"
    """The row was not copied yet."""
    EXPIRED = "EXPIRED"
    """The record's instant has passed."""
    REJECTED = "REJECTED"
    """The row is an open reject."""
    MISSING = "MISSING"
    ORPHAN = "ORPHAN"
    """A record, or an entry in a lookup, without a row."""
    DIFFERENT = "DIFFERENT"
    LOST_EVENT = "LOST_EVENT"
    """The record is older than the row, and no change is on its way."""
    RESURRECTED = "RESURRECTED"
    """A record whose row is known to have been deleted."""
    SPLIT_BRAIN = "SPLIT_BRAIN"
    """The record is newer than SQL has ever been."""
    COLLISION = "COLLISION"
    """A value that is not ours is in the record's place."""


HARD = frozenset(
    {
        Verdict.MISSING,
        Verdict.ORPHAN,
        Verdict.DIFFERENT,
        Verdict.LOST_EVENT,
        Verdict.RESURRECTED,
        Verdict.SPLIT_BRAIN,
        Verdict.COLLISION,
    }
)
"""Verdicts that make a verification fail."""


class Kind(StrEnum):
    """
    What is wrong, more closely.
    """

    NONE = ""
    VALUE = "value"
    TYPE = "type"
    """Redis holds another type under the key."""
    TTL = "ttl"
    LOOKUP = "lookup"
    CHILD = "child"
    """A collection of child rows."""
    EXTRA_FIELD = "extra_field"
    ABSENT_FIELD = "absent_field"
    DIGEST = "digest"
    """All fields are as they should be, and the digest is not."""
    TOMBSTONE = "tombstone"
    """A tombstone beside a living row."""


class Presence(StrEnum):
    """
    What is under a record's key.
    """

    ABSENT = "absent"
    RECORD = "record"
    TOMBSTONE = "tombstone"
    FOREIGN = "foreign"
    """Of the right type, and without our mark."""
    OTHER_TYPE = "other_type"


class Mismatch(NamedTuple):
    """
    One thing that is not as it should be. Its repr shows no values.

    Args:
        field: Of the record, or the name of a lookup.

        entry: Key of the lookup's entry; empty otherwise.
    """

    kind: Kind
    field: str = ""
    expected: bytes | None = None
    found: bytes | None = None
    entry: bytes = b""

    def __repr__(self) -> str:
        return f"Mismatch({self.kind.value!r}, {self.field!r})"


@dataclass(frozen=True, slots=True)
class RowFacts:
    """
    What SQL says of an entity.

    Args:
        present: It has a row that passes the filter.

        version: Of the row; of one that is gone the last that capture knows, or empty.

        dirty: A change of it is captured and not applied yet.

        rejected: It is an open reject, or cannot become a record.

        copied: A backfill has come past it.

        over: The instant at which its record expires has passed.
    """

    present: bool
    version: str = ""
    dirty: bool = False
    rejected: bool = False
    copied: bool = True
    over: bool = False


@dataclass(frozen=True, slots=True)
class RecordFacts:
    """
    What Redis says of the same entity.

    Args:
        version: Of a record or a tombstone.

        over: Its own instant has passed: it stays for a grace only.
    """

    presence: Presence
    version: str = ""
    over: bool = False


class Finding(NamedTuple):
    """
    One verdict about one key, with what is wrong. Its repr shows no values.

    Args:
        source_key: Of the row, where it is known.
    """

    verdict: Verdict
    key: bytes
    mismatch: Mismatch = Mismatch(Kind.NONE)
    source_key: Key | None = None

    def __repr__(self) -> str:
        return f"Finding({self.verdict.value}, {self.key!r}, {self.mismatch!r})"


BACK = 1_000_000
"""Number of the partition that is the way from Redis to SQL."""

CARRIED = -1
"""Instead of a partition's number: a key that an earlier pass left on its re-check list."""


class State(NamedTuple):
    """
    What SQL was seen to hold of an entity: a version, and the digest of its record.
    """

    version: str
    digest: bytes


class Recheck(NamedTuple):
    """
    A key on the re-check list: it was changing when it was compared. Its repr shows no values.

    Args:
        states: Of its row, as they were seen.

        number: The partition that listed it.

        tries: How often it was looked at since.
    """

    key: bytes
    source_key: Key
    states: tuple[State, ...] = ()
    number: int = 0
    tries: int = 0

    def __repr__(self) -> str:
        return f"Recheck({self.key!r}, tries={self.tries})"


def judge(row: RowFacts, record: RecordFacts, *, differs: bool = False) -> tuple[Verdict, Kind]:
    """
    The verdict about one coherent pair.

    Args:
        differs: At equal versions the two hold another content.
    """
    if not row.present:
        return _without_row(row, record), Kind.NONE
    if row.rejected:
        return Verdict.REJECTED, Kind.NONE
    match record.presence:
        case Presence.ABSENT:
            return _absent(row), Kind.NONE
        case Presence.FOREIGN:
            return Verdict.COLLISION, Kind.NONE
        case Presence.OTHER_TYPE:
            return Verdict.DIFFERENT, Kind.TYPE
    if is_newer(record.version, row.version):
        return Verdict.SPLIT_BRAIN, Kind.NONE
    if record.version != row.version:
        return _late(row), Kind.NONE
    if record.presence is Presence.TOMBSTONE:
        return Verdict.MISSING, Kind.TOMBSTONE
    if differs:
        return Verdict.DIFFERENT, Kind.NONE
    return (Verdict.EXPIRED if row.over or record.over else Verdict.OK), Kind.NONE


def _without_row(row: RowFacts, record: RecordFacts) -> Verdict:
    if record.presence is not Presence.RECORD:
        # What is not ours is nobody's orphan: the key belongs to whoever wrote it.
        return Verdict.OK
    if row.dirty:
        return Verdict.IN_FLIGHT
    if record.over:
        return Verdict.EXPIRED
    if row.version and generation_of(row.version):
        return Verdict.RESURRECTED
    return Verdict.ORPHAN


def _absent(row: RowFacts) -> Verdict:
    if row.over:
        return Verdict.EXPIRED
    if not row.copied:
        return Verdict.PENDING
    return Verdict.IN_FLIGHT if row.dirty else Verdict.MISSING


def _late(row: RowFacts) -> Verdict:
    if not row.copied:
        return Verdict.PENDING
    return Verdict.IN_FLIGHT if row.dirty else Verdict.LOST_EVENT


def is_newer(one: str, other: str) -> bool:
    """
    Whether version `one` is above `other`; digits by length and then by text, as in the script.
    """
    return (len(one), one) > (len(other), other)
