"""
Loaders: batches of records into Redis by compare-and-set scripts, and a dry one that only decides.

Never reads a row and never saves progress: a batch that was not acknowledged is written again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from migrate.errors import Fenced, MigrateError
from migrate.model.values import Fence, Outcome, Receipt, Record, RecordType, ServerIdentity
from migrate.target.fence import fence_key, lost
from migrate.target.link import Command, Link, call_of, unexpected, urgent
from migrate.target.scripts import DRY, MAX_BYTES, MAX_RECORDS, WRITE, Script

TRIP_CALLS = 16
"""Scripts sent in one round trip at most."""

TRIP_BYTES = 4 * 1024 * 1024
"""Bytes sent in one round trip at most, unless a single record is larger."""

RECORD_OVERHEAD = 64
"""Bytes that a record costs on the wire besides its key and values; an estimate for splitting."""

_FOUND = (Outcome.STALE, Outcome.CONFLICT)
_BY_DIGIT = {ord(str(int(outcome))): outcome for outcome in Outcome}


class ReservedNames(Protocol):
    """
    The names of a record's own fields; a mapping may change them.
    """

    @property
    def version(self) -> str:
        """
        The field of the version.
        """

    @property
    def digest(self) -> str:
        """
        The field of the digest.
        """

    @property
    def tombstone(self) -> str:
        """
        The field that marks a tombstone.
        """

    @property
    def lookups(self) -> str:
        """
        The field of the record's entries in lookups.
        """

    @property
    def expires(self) -> str:
        """
        The field of the instant at which the record expires.
        """


def names_of(reserved: ReservedNames) -> tuple[str, str, str]:
    """
    The three names in the order in which the scripts take them.
    """
    return reserved.version, reserved.digest, reserved.tombstone


class ScriptLoader:
    """
    Keeps the newest version of every record, behind the fence of its run (`scripts.WRITE`).

    Several scripts go in one round trip; what was not acknowledged is repeated, which changes
    nothing that was written before. A record whose first answer was lost is counted as SAME.
    """

    def __init__(
        self,
        link: Link,
        mapping: str,
        fence: Fence,
        reserved: ReservedNames,
        identify: Callable[[], ServerIdentity],
        kind: RecordType = RecordType.HASH,
    ) -> None:
        self._link = link
        self._mapping = mapping
        self._head: tuple[Any, ...] = (
            *(fence.mode, fence.epoch, fence.run),
            *names_of(reserved),
            kind.value,
        )
        self._epoch = fence.epoch
        self._key = fence_key(mapping)
        self._identify = identify
        self._identity = identify()
        self._connections = link.connections

    @property
    def server(self) -> str:
        """
        Run id of the server that acknowledged the last batch, all of it, between two restarts.

        Read again after every reconnect; empty where INFO is refused. A partition whose batches
        name different ones was written across a restart, and what it wrote before may be lost.
        """
        return self._identity.run_id

    def write(self, records: Sequence[Record]) -> Receipt:
        """
        Compare-and-set each record. See `model.ports.Loader`.
        """
        while True:
            before = self._current()
            replies = _cast(self._link, WRITE, records, self._call, self._refused)
            # A restart between two round trips may have taken the first one's records with it.
            if self._current().run_id == before.run_id:
                return _receipt(replies)

    def close(self) -> None:
        """
        Nothing to give back: the connections belong to the target.
        """

    def _current(self) -> ServerIdentity:
        if self._link.connections != self._connections:
            self._identity = self._identify()
            self._connections = self._link.connections
        return self._identity

    def _call(self, records: Sequence[Record]) -> Command:
        keys = [self._key, *(record.key for record in records)]
        return call_of(WRITE, keys, [*self._head, *_arguments(records)])

    def _refused(self, reply: list[Any]) -> MigrateError | None:
        if reply[0] == b"OK":
            return None
        if reply[0] == b"LOST":
            return lost(self._link, self._mapping, reply[1].decode(errors="replace"))
        if reply[0] == b"FENCED":
            return Fenced(
                "A newer run, or a change of stage, took over; this one wrote nothing more.",
                where={
                    "mapping": self._mapping,
                    "epoch": self._epoch,
                    "found_epoch": reply[2].decode(errors="replace"),
                    "found_mode": reply[1].decode(errors="replace"),
                },
                next_step=f"profile-migrate status {self._mapping}",
            )
        return unexpected(
            "Redis answered a write with a word that we do not know.", self._link.config
        )


class DryLoader:
    """
    Says what a write would do and writes nothing; needs no fence (`scripts.DRY`).
    """

    def __init__(self, link: Link, reserved: ReservedNames) -> None:
        self._link = link
        self._head = names_of(reserved)

    @property
    def server(self) -> str:
        """
        Empty: nothing was written to it.
        """
        return ""

    def write(self, records: Sequence[Record]) -> Receipt:
        """
        What would become of each record now. See `model.ports.Loader`.
        """
        return _receipt(_cast(self._link, DRY, records, self._call, _accept))

    def close(self) -> None:
        """
        Nothing to give back: the connections belong to the target.
        """

    def _call(self, records: Sequence[Record]) -> Command:
        arguments: list[Any] = [*self._head]
        for record in records:
            arguments += (record.version, record.digest, 0)
        return call_of(DRY, [record.key for record in records], arguments)


def _accept(_: list[Any]) -> None:
    return None


def _arguments(records: Sequence[Record]) -> list[Any]:
    arguments: list[Any] = []
    for _, version, digest, fields, *_ in records:
        arguments += (version, digest, len(fields))
        arguments += fields
    return arguments


def size_of(record: Record) -> int:
    """
    About how many bytes a record takes on the wire.
    """
    fields = record.fields
    return RECORD_OVERHEAD + len(record.key) + sum(map(len, fields)) + 8 * len(fields)


def batches(records: Sequence[Record]) -> Iterator[tuple[Sequence[Record], int]]:
    """
    Divide records for scripts, in order, with the bytes of each part.
    """
    start, size = 0, 0
    for at, record in enumerate(records):
        more = size_of(record)
        if at > start and (at - start >= MAX_RECORDS or size + more > MAX_BYTES):
            yield records[start:at], size
            start, size = at, 0
        size += more
    if start < len(records):
        yield records[start:], size


def _trips(
    records: Sequence[Record], call: Callable[[Sequence[Record]], Command]
) -> Iterator[list[Command]]:
    trip: list[Command] = []
    bytes_ = 0
    for batch, size in batches(records):
        if trip and (len(trip) >= TRIP_CALLS or bytes_ + size > TRIP_BYTES):
            yield trip
            trip, bytes_ = [], 0
        trip.append(call(batch))
        bytes_ += size
    if trip:
        yield trip


def _cast(
    link: Link,
    script: Script,
    records: Sequence[Record],
    call: Callable[[Sequence[Record]], Command],
    refused: Callable[[list[Any]], MigrateError | None],
) -> list[list[Any]]:
    """
    Run every batch until each is acknowledged; replies in the order of the records.
    """
    replies: list[list[Any]] = []
    for trip in _trips(records, call):
        replies += _acknowledged(link, script, trip, refused)
    return replies


def _acknowledged(
    link: Link,
    script: Script,
    calls: Sequence[Command],
    refused: Callable[[list[Any]], MigrateError | None],
) -> list[list[Any]]:
    done: dict[int, list[Any]] = {}
    attempts = 0

    def attempt() -> None:
        nonlocal attempts
        attempts += 1
        left = [at for at in range(len(calls)) if at not in done]
        if attempts == 1:
            step(left)
            return
        # After trouble one call at a time: a connection that breaks again costs one answer, not
        # all, and a call that breaks it by its size gets the server's own words.
        for at in left:
            step([at])

    def step(places: list[int]) -> None:
        answers = link.try_scripts([calls[at] for at in places], script)
        errors = []
        for at, answer in zip(places, answers, strict=True):
            if isinstance(answer, Exception):
                errors.append(answer)
                continue
            refusal = refused(answer)
            if refusal is not None:
                raise refusal
            done[at] = answer
        if errors:
            raise urgent(errors)

    link.patience.call(attempt)
    return [done[at] for at in range(len(calls))]


def _receipt(replies: Sequence[list[Any]]) -> Receipt:
    outcomes: list[Outcome] = []
    found: dict[int, str] = {}
    for _, digits, *versions in replies:
        start = len(outcomes)
        outcomes += [_BY_DIGIT[digit] for digit in digits]
        if versions:
            asked = [at for at in range(start, len(outcomes)) if outcomes[at] in _FOUND]
            found |= {at: v.decode() for at, v in zip(asked, versions, strict=True)}
    return Receipt(outcomes, found)
