"""
What engines and adapters report while they work. Faces turn these into bars, lines and metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from migrate.model.values import Outcome


@dataclass(frozen=True, slots=True)
class ChunkCopied:
    """
    One chunk is in Redis, acknowledged, and its checkpoint is saved.

    Args:
        rows: Rows read.

        outcomes: How many records ended how.

        rejects: Rows that could not become a record.

        seconds: Time of each step: read, encode, write, save.
    """

    partition: int
    rows: int
    outcomes: Mapping[Outcome, int]
    rejects: int
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChunkVerified:
    """
    One chunk was compared, and what was found is saved.

    Args:
        rows: Rows of SQL, or records of Redis on the way back.

        hard: Keys with a verdict that makes the verification fail.
    """

    partition: int
    rows: int
    hard: int
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class KeysCounted:
    """
    A walk over the keys of all records is over.

    Args:
        seen: What they add up to. See `verify_seen.Seen`.
    """

    seen: bytes


@dataclass(frozen=True, slots=True)
class PartitionDone:
    """
    Every row of a partition was seen.
    """

    partition: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """
    A store says "not now"; the run waits and tries again.

    Args:
        store: source, target or ledger.

        reason: Short and closed: connection, loading, oom, readonly, misconf, noreplicas, busy ...

        seconds: How long this wait takes.
    """

    store: str
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Throttled:
    """
    The run slowed down on purpose.

    Args:
        reason: rows_per_second, redis_memory, redis_latency, replica_lag or pause_file.
    """

    reason: str
    seconds: float


Event = ChunkCopied | ChunkVerified | KeysCounted | PartitionDone | Waiting | Throttled
Notify = Callable[[Waiting], None]
"""Adapters call it before they sleep; the run shows the reason."""


def silent(waiting: Waiting) -> None:
    """
    A `Notify` that tells nobody.
    """
