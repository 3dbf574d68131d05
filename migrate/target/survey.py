"""
What is under given keys, and what records cost on this very server.

Leaves nothing behind: a scratch key never exists outside one transaction or one script.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from migrate.errors import TargetAccessDenied
from migrate.model.lookups import entries_text
from migrate.model.ports import Clock
from migrate.model.shape import RecordShape
from migrate.model.values import LookupKind, Record, RecordType
from migrate.target.fence import RESERVED_PREFIX
from migrate.target.link import Command, Link, call_of
from migrate.target.loader import batches
from migrate.target.scripts import MEASURE

KEYS_AT_ONCE = 1000
"""Keys looked up in one round trip."""


PADDING = "." * 64
"""Makes a second scratch key longer, to learn what a byte of a key's name costs."""


@dataclass(frozen=True, slots=True)
class Held:
    """
    What is under one key.

    Args:
        ours: A hash or text with a version of ours; anything else that exists would be a collision.

        type: As Redis names it; `none` where there is nothing.
    """

    key: bytes
    exists: bool
    ours: bool
    version: str | None
    type: str


@dataclass(frozen=True, slots=True)
class Cost:
    """
    What records cost on this server.

    Args:
        sizes: Bytes of memory of each record, its key included; None where MEMORY is refused.

        seconds: Writing all of them took so long, over the network and in the server.
    """

    sizes: tuple[int, ...] | None
    seconds: float


def scratch_key() -> str:
    """
    A key that nobody else uses; longer ones that begin so are in the same slot of a Cluster.
    """
    return f"{RESERVED_PREFIX}scratch:{{{uuid4()}}}"


def lookup(link: Link, keys: Sequence[bytes], shape: RecordShape) -> list[Held]:
    """
    What is under each key. Reads only.
    """
    found: list[Held] = []
    for start in range(0, len(keys), KEYS_AT_ONCE):
        found += _lookup(link, keys[start : start + KEYS_AT_ONCE], shape.reserved)
    return found


def measure(link: Link, clock: Clock, records: Sequence[Record], shape: RecordShape) -> Cost:
    """
    Write sample records and take them away again, weighing each and timing all.

    A record weighs what its entries in lookups do as well; a further key that several records of
    the sample share is divided among them.
    """
    sizes: list[int] | None = []
    started = clock.now()
    calls = [_timed(part, shape) for part, _ in batches(records)]
    for call in calls:
        link.patience.call(lambda call=call: link.scripts([call], MEASURE))  # type: ignore[misc]
    seconds = clock.now() - started
    for part, _ in batches(records):
        weighed = _weigh(link, part, shape)
        sizes = None if weighed is None or sizes is None else sizes + weighed
    if sizes is not None and shape.lookups:
        more = _weigh_entries(link, records) // max(1, len(records))
        sizes = [size + more for size in sizes]
    return Cost(None if sizes is None else tuple(sizes), seconds)


def _timed(records: Sequence[Record], shape: RecordShape) -> Command:
    arguments: list[object] = [*shape.reserved[:3], shape.record.value]
    for _, version, digest, fields, *_ in records:
        arguments += (version, digest, len(fields), *fields)
    return call_of(MEASURE, [scratch_key()], arguments)


def _weigh(link: Link, records: Sequence[Record], shape: RecordShape) -> list[int] | None:
    key = scratch_key()
    names = shape.reserved
    commands = [*_weighing(key, ("name", "value")), *_weighing(key + PADDING, ("name", "value"))]
    for _, version, digest, fields, entries, expires in records:
        if shape.record is RecordType.STRING:
            commands += _weighing(key, fields, "SET")
            continue
        own: list[object] = [names[0], version, names[1], digest]
        own += (names[3], entries_text(entries)) if shape.lookups else ()
        own += (names[4], expires) if expires else ()
        commands += _weighing(key, (*own, *fields))
    try:
        short, padded, *weights = link.atomically(commands)[1::3]
    except TargetAccessDenied:
        return None
    # The scratch key is longer than most record keys, and servers count a key's name differently.
    byte = (padded - short) / len(PADDING)
    return [
        round(weight - byte * (len(key) - len(record.key)))
        for weight, record in zip(weights, records, strict=True)
    ]


def _weigh_entries(link: Link, records: Sequence[Record]) -> int:
    """
    Bytes of all further keys that these records need.
    """
    members: dict[tuple[bytes, bytes], list[bytes]] = {}
    for record in records:
        for kind, key, _ in record.entries:
            if key:
                members.setdefault((kind, key), []).append(record.key)
    commands: list[Command] = []
    scratch = scratch_key()
    for (kind, key), held in members.items():
        # As long a name as the real key's, as far as the scratch prefix allows.
        name = scratch + "." * max(0, len(key) - len(scratch))
        if kind == LookupKind.UNIQUE.value.encode():
            commands += _weighing(name, held[:1], "SET")
        elif kind == LookupKind.SET.value.encode():
            commands += _weighing(name, held, "SADD")
        else:
            scored = [word for member in held for word in (0, member)]
            commands += _weighing(name, scored, "ZADD")
    return sum(int(weight) for weight in link.atomically(commands)[1::3]) if commands else 0


def _weighing(key: str, values: Sequence[object], command: str = "HSET") -> list[Command]:
    return [(command, key, *values), ("MEMORY USAGE", key, "SAMPLES", 0), ("UNLINK", key)]


def _lookup(link: Link, keys: Sequence[bytes], reserved: Sequence[str]) -> list[Held]:
    kinds = [kind.decode() for kind in link.together([("TYPE", key) for key in keys])]
    names = reserved[:3]
    readers = {"hash": ("HMGET", *names), "string": ("GETRANGE", 0, HEAD)}
    asked = [
        (readers[kind][0], key, *readers[kind][1:])
        for key, kind in zip(keys, kinds, strict=True)
        if kind in readers
    ]
    values = iter(link.together(asked))
    held = []
    for key, kind in zip(keys, kinds, strict=True):
        answer: Any = next(values) if kind in readers else (None, None, None)
        version, digest, tombstone = head_of(answer, names) if kind == "string" else answer
        ours = is_version(version) and (tombstone is not None or is_digest(digest))
        text = version.decode() if version is not None and ours else None
        held.append(Held(key, kind != "none", ours, text, kind))
    return held


HEAD = 1_024
"""Bytes of a string record that are enough for its names, version and digest."""


def head_of(text: bytes, names: Sequence[str]) -> tuple[bytes | None, bytes | None, bytes | None]:
    """
    Version, digest and tombstone at the head of a string record, as the scripts see them.
    """
    version, digest, tombstone = (re.escape(_quoted(name)) for name in names)
    found = re.match(
        rb"\{%b:\"(\d+)\",(?:%b:\"([0-9a-f]+)\"[,}]|(%b:))" % (version, digest, tombstone), text
    )
    return (found[1], found[2], found[3]) if found else (None, None, None)


def _quoted(name: str) -> bytes:
    escaped = name.replace("\\", "\\\\")
    return f'"{escaped}"'.encode()


def is_version(text: bytes | None) -> bool:
    """
    1 to 30 digits without a leading zero, as the scripts see it.
    """
    if text is None or not text.isdigit() or len(text) > 30:
        return False
    return text == b"0" or not text.startswith(b"0")


def is_digest(text: bytes | None) -> bool:
    """
    16 lower-case hex digits, as the scripts see it.
    """
    return text is not None and len(text) == 16 and set(text) <= set(b"0123456789abcdef")
