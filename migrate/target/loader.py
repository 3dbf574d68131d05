"""
Loaders: batches of records into Redis by compare-and-set scripts, and a dry one that only decides.

Never reads a row and never saves progress: a batch that was not acknowledged is written again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from migrate.errors import Fenced, MigrateError, ReadTooLongAgo
from migrate.mapping.template import Template
from migrate.model.lookups import entries_text
from migrate.model.ports import Pace
from migrate.model.shape import RecordShape
from migrate.model.values import (
    Entry,
    Expiry,
    Fence,
    Outcome,
    Receipt,
    Record,
    ServerIdentity,
)
from migrate.target.fence import adopted_key, fence_key, lost
from migrate.target.link import Command, Link, call_of, unexpected, urgent
from migrate.target.scripts import DRY, GIVE_UP, MAX_BYTES, MAX_RECORDS, WRITE, Script

TRIP_RECORDS = 16 * MAX_RECORDS
"""Records sent in one round trip at most."""

TRIP_BYTES = 4 * 1024 * 1024
"""Bytes sent in one round trip at most, unless a single record is larger."""

RECORD_OVERHEAD = 64
"""Bytes that a record costs on the wire besides its key and values; an estimate for splitting."""

GRACE_MS = 60_000
"""How long a record outlives its instant: longer than `LEASE_MS`, so that nothing that was read
before it expired is written after it is gone."""

LEASE_MS = 30_000
"""How long after they were read rows of a mapping with a time to live may be written."""


class AtOnce:
    """
    The `Pace` of whoever is in nobody's way: everything as soon as possible.
    """

    most = TRIP_RECORDS

    def wait(self, records: int) -> None:
        """
        Not at all.
        """

    def look(self) -> None:
        """
        Nobody waits.
        """


AT_ONCE = AtOnce()

_FOUND = frozenset({Outcome.STALE, Outcome.CONFLICT})
_REFUSED = frozenset({Outcome.DUPLICATE, Outcome.COLLISION})
_BY_DIGIT = {ord(str(int(outcome))): outcome for outcome in Outcome}


class ScriptLoader:
    """
    Keeps the newest version of every record, behind the fence of its run (`scripts.WRITE`).

    Several scripts go in one round trip; what was not acknowledged is repeated, which changes
    nothing that was written before. A record whose first answer was lost is counted as SAME.

    Args:
        adopt: Put aside what is not ours and in a record's place, instead of leaving it.

        pace: Of what is written.
    """

    def __init__(
        self,
        link: Link,
        mapping: str,
        fence: Fence,
        shape: RecordShape,
        identify: Callable[[], ServerIdentity],
        *,
        adopt: bool = False,
        pace: Pace = AT_ONCE,
    ) -> None:
        self._link = link
        self.pace = pace
        self._mapping = mapping
        self._fence: tuple[Any, ...] = (fence.mode, fence.epoch, fence.run)
        self._form = _Form(shape)
        self._adopt = adopt
        self._epoch = fence.epoch
        self._deadline: int | None = None
        self._acquaintance = Acquaintance(link, identify)

    @property
    def server(self) -> str:
        """
        Run id of the server that acknowledged the last batch, all of it, between two restarts.

        Read again after every reconnect; empty where INFO is refused. A partition whose batches
        name different ones was written across a restart, and what it wrote before may be lost.
        """
        return self._acquaintance.run_id

    def lease(self) -> None:
        """
        Rows that are read from now on may be written for a while. See `model.ports.Loader`.
        """
        if self._form.expires:
            self._deadline = self._link.time_ms() + LEASE_MS

    def write(self, records: Sequence[Record]) -> Receipt:
        """
        Compare-and-set each record. See `model.ports.Loader`.
        """
        while True:
            before = self._acquaintance.renewed()
            receipt = self._write(records)
            # A restart between two round trips may have taken the first one's records with it.
            if self._acquaintance.renewed() == before:
                return receipt

    def give_up(self, records: Sequence[Record]) -> int:
        """
        Take what is under these keys out of lookups that its row does not want any more.

        The old records themselves stay: for rows that are rejects, so that others can have the
        unique values that they had. Entries in another slot of a Cluster stay as well.

        Returns:
            How many entries were released.
        """
        replies = cast(self._link, GIVE_UP, self._yields(records), self.refusal)
        return sum(int(reply[1]) for _, reply in replies)

    def refusal(self, reply: list[Any]) -> MigrateError | None:
        """
        The error for what a script answered before it wrote anything; None where it went on.
        """
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
        if reply[0] == b"LATE":
            return ReadTooLongAgo(
                "Rows were read so long ago that they may be older than an expired record.",
                where={"mapping": self._mapping, "lease_s": LEASE_MS // 1000},
                next_step="Run the same command again when the stores answer faster.",
            )
        return unexpected(
            "Redis answered a write with a word that we do not know.", self._link.config
        )

    def close(self) -> None:
        """
        Nothing to give back: the connections belong to the target.
        """

    def _yields(self, records: Sequence[Record]) -> Iterator[Call]:
        for slot, places in _by_slot(self._link, records):
            for start in range(0, len(places), MAX_RECORDS):
                taken = places[start : start + MAX_RECORDS]
                batch = [records[at] for at in taken]
                wanted = [entries_text(record.entries) for record in batch]
                keys = [fence_key(self._mapping, slot), *(record.key for record in batch)]
                words = [*self._fence, *self._form.names, *wanted]
                yield Call(taken, call_of(GIVE_UP, keys, words), sum(map(len, wanted)))

    def _write(self, records: Sequence[Record]) -> Receipt:
        return _receipt(self._paced(WRITE, self._calls(records)), len(records))

    def _paced(self, script: Script, calls: Iterator[Call]) -> Replies:
        """
        Run calls that write.
        """
        return cast(self._link, script, calls, self.refusal, self.pace)

    def _calls(
        self,
        records: Sequence[Record],
        script: Script = WRITE,
        *,
        values: bool = True,
        tail: Callable[[int | None], tuple[Any, ...]] = lambda _: (),
    ) -> Iterator[Call]:
        deadline = "" if self._deadline is None else self._deadline
        for slot, places in _by_slot(self._link, records):
            aside = adopted_key(self._mapping, b"", slot) if self._adopt else b""
            head = (*self._fence, *self._form.words(aside), deadline)
            fence, last = fence_key(self._mapping, slot), tail(slot)
            at = 0
            here = [records[place] for place in places]
            for batch, size in batches(here, min(MAX_RECORDS, self.pace.most)):
                keys = [fence, *(record.key for record in batch)]
                arguments = self._form.arguments(batch, values=values)
                command = call_of(script, keys, [*head, *arguments, *last])
                yield Call(places[at : at + len(batch)], command, size)
                at += len(batch)


class Acquaintance:
    """
    Which run of the server we know, for as long as no connection is made anew.
    """

    def __init__(self, link: Link, identify: Callable[[], ServerIdentity]) -> None:
        self._link = link
        self._identify = identify
        self.run_id = identify().run_id
        self._connections = link.connections

    def renewed(self) -> str:
        """
        Its run id: asked for again where there was a reconnect, since another server may answer.
        """
        if self._link.connections != self._connections:
            self.run_id = self._identify().run_id
            self._connections = self._link.connections
        return self.run_id


class DryLoader:
    """
    Says what a write would do and writes nothing; needs no fence (`scripts.DRY`).

    It does not see what other records of the same run would change: two of them that want one
    unique entry are both let through.
    """

    def __init__(
        self, link: Link, mapping: str, shape: RecordShape, *, adopt: bool = False
    ) -> None:
        self._link = link
        self._mapping = mapping
        self._form = _Form(shape)
        self._adopt = adopt

    @property
    def server(self) -> str:
        """
        Empty: nothing was written to it.
        """
        return ""

    def lease(self) -> None:
        """
        Nothing is written, however late.
        """

    def write(self, records: Sequence[Record]) -> Receipt:
        """
        What would become of each record now. See `model.ports.Loader`.
        """
        return _receipt(cast(self._link, DRY, self._calls(records), _accept), len(records))

    def close(self) -> None:
        """
        Nothing to give back: the connections belong to the target.
        """

    def _calls(self, records: Sequence[Record]) -> Iterator[Call]:
        for slot, places in _by_slot(self._link, records):
            aside = adopted_key(self._mapping, b"", slot) if self._adopt else b""
            head = self._form.words(aside)
            for start in range(0, len(places), MAX_RECORDS):
                taken = places[start : start + MAX_RECORDS]
                batch = [records[at] for at in taken]
                arguments = self._form.arguments(batch, values=False)
                keys = [record.key for record in batch]
                yield Call(taken, call_of(DRY, keys, [*head, *arguments]), 0)


def _accept(_: list[Any]) -> None:
    return None


def size_of(record: Record) -> int:
    """
    About how many bytes a record takes on the wire.
    """
    fields = record.fields
    size = RECORD_OVERHEAD + len(record.key) + sum(map(len, fields)) + 8 * len(fields)
    return size + sum(RECORD_OVERHEAD + len(entry.key) for entry in record.entries)


def batches(
    records: Sequence[Record], most: int = MAX_RECORDS
) -> Iterator[tuple[Sequence[Record], int]]:
    """
    Divide records for scripts, at most so many each, in order, with the bytes of each part.
    """
    start, size = 0, 0
    for at, record in enumerate(records):
        more = size_of(record)
        if at > start and (at - start >= most or size + more > MAX_BYTES):
            yield records[start:at], size
            start, size = at, 0
        size += more
    if start < len(records):
        yield records[start:], size


class Call(NamedTuple):
    """
    One script call: the positions of its records in what was to be written, and its bytes.
    """

    places: Sequence[int]
    command: Command
    size: int


class _Form:
    """
    What all records of a mapping have in common, in the words of the scripts.
    """

    def __init__(self, shape: RecordShape) -> None:
        self.expires = shape.expiry is not Expiry.NONE
        self.names = shape.reserved
        self._lookups = len(shape.lookups)
        self._before = (*shape.reserved, shape.record.value, shape.expiry.value, GRACE_MS)
        self._after = (Template.parse(shape.template).literals[0].encode(), self._lookups)

    def words(self, aside: bytes) -> tuple[Any, ...]:
        """
        Of a call; foreign values are put aside under `aside`, or left where it is empty.
        """
        return (*self._before, aside, *self._after)

    def arguments(self, records: Sequence[Record], *, values: bool = True) -> list[Any]:
        """
        Of the records of a call.
        """
        arguments: list[Any] = []
        plain = not self.expires and not self._lookups
        for _, version, digest, fields, entries, expires in records:
            held = fields if values else ()
            arguments += (version, digest, len(held))
            if not plain:
                arguments += self._extras(entries, expires)
            arguments += held
        return arguments

    def _extras(self, entries: Sequence[Entry], expires: bytes) -> Iterator[bytes]:
        if self.expires:
            yield expires
        if self._lookups:
            for entry in entries:
                yield from entry


def _by_slot(link: Link, records: Sequence[Record]) -> Iterator[tuple[int | None, Sequence[int]]]:
    """
    The positions of the records of each slot, in order; one script works in one slot.
    """
    if not records:
        return
    slots: dict[int | None, list[int]] = {}
    for at, record in enumerate(records):
        slots.setdefault(link.slot_of(record.key), []).append(at)
    yield from slots.items()


def _trips(calls: Iterator[Call], pace: Pace) -> Iterator[list[Call]]:
    trip: list[Call] = []
    records, bytes_ = 0, 0
    for call in calls:
        records += len(call.places)
        bytes_ += call.size
        if trip and (records > min(TRIP_RECORDS, pace.most) or bytes_ > TRIP_BYTES):
            yield trip
            trip, records, bytes_ = [], len(call.places), call.size
        trip.append(call)
    if trip:
        yield trip


Replies = list[tuple[Sequence[int], list[Any]]]
"""The answer to each call, with the positions of its records."""


def cast(
    link: Link,
    script: Script,
    calls: Iterator[Call],
    refused: Callable[[list[Any]], MigrateError | None],
    pace: Pace = AT_ONCE,
) -> Replies:
    """
    Run every call until each is acknowledged.
    """
    replies: Replies = []
    for trip in _trips(calls, pace):
        pace.wait(sum(len(call.places) for call in trip))
        answers = _acknowledged(link, script, [call.command for call in trip], refused)
        pace.look()
        replies += [(call.places, answer) for call, answer in zip(trip, answers, strict=True)]
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


def _receipt(replies: Replies, count: int) -> Receipt:
    outcomes: list[Outcome] = [Outcome.STALE] * count
    found: dict[int, str] = {}
    lookups: dict[int, int] = {}
    for places, (_, digits, *told) in replies:
        left = iter(told)
        for at, digit in zip(places, digits, strict=True):
            outcome = outcomes[at] = _BY_DIGIT[digit]
            if outcome in _FOUND:
                found[at] = next(left).decode()
            elif outcome in _REFUSED and (which := next(left)):
                lookups[at] = int(which)
    return Receipt(outcomes, found, lookups)
