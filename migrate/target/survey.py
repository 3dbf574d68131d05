"""
What is under given keys, and what records cost on this very server.

Leaves nothing behind: a scratch key never exists outside one transaction or one script.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from migrate.errors import TargetAccessDenied
from migrate.model.ports import Clock
from migrate.model.values import Record
from migrate.target.fence import RESERVED_PREFIX
from migrate.target.link import Command, Link, call_of
from migrate.target.loader import ReservedNames, batches, names_of
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
        ours: A hash with a version of ours; anything else that exists would be a collision.

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
    A key that nobody else uses.
    """
    return f"{RESERVED_PREFIX}scratch:{uuid4()}"


def lookup(link: Link, keys: Sequence[bytes], reserved: ReservedNames) -> list[Held]:
    """
    What is under each key. Reads only.
    """
    found: list[Held] = []
    for start in range(0, len(keys), KEYS_AT_ONCE):
        found += _lookup(link, keys[start : start + KEYS_AT_ONCE], reserved)
    return found


def measure(link: Link, clock: Clock, records: Sequence[Record], reserved: ReservedNames) -> Cost:
    """
    Write sample records and take them away again, weighing each and timing all.
    """
    sizes: list[int] | None = []
    started = clock.now()
    calls = [_timed(part, reserved) for part, _ in batches(records)]
    for call in calls:
        link.patience.call(lambda call=call: link.scripts([call], MEASURE))  # type: ignore[misc]
    seconds = clock.now() - started
    for part, _ in batches(records):
        weighed = _weigh(link, part, reserved)
        sizes = None if weighed is None or sizes is None else sizes + weighed
    return Cost(None if sizes is None else tuple(sizes), seconds)


def _timed(records: Sequence[Record], reserved: ReservedNames) -> Command:
    arguments: list[object] = [*names_of(reserved)]
    for _, version, digest, fields in records:
        arguments += (version, digest, len(fields), *fields)
    return call_of(MEASURE, [scratch_key()], arguments)


def _weigh(link: Link, records: Sequence[Record], reserved: ReservedNames) -> list[int] | None:
    key = scratch_key()
    names = (reserved.version, reserved.digest)
    commands = [*_weighing(key, ("name", "value")), *_weighing(key + PADDING, ("name", "value"))]
    for _, version, digest, fields in records:
        commands += _weighing(key, (names[0], version, names[1], digest, *fields))
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


def _weighing(key: str, values: Sequence[object]) -> list[Command]:
    return [("HSET", key, *values), ("MEMORY USAGE", key, "SAMPLES", 0), ("UNLINK", key)]


def _lookup(link: Link, keys: Sequence[bytes], reserved: ReservedNames) -> list[Held]:
    kinds = [kind.decode() for kind in link.together([("TYPE", key) for key in keys])]
    hashes = [key for key, kind in zip(keys, kinds, strict=True) if kind == "hash"]
    names = names_of(reserved)
    values = iter(link.together([("HMGET", key, *names) for key in hashes]))
    held = []
    for key, kind in zip(keys, kinds, strict=True):
        version, digest, tombstone = next(values) if kind == "hash" else (None, None, None)
        ours = is_version(version) and (tombstone is not None or is_digest(digest))
        text = version.decode() if version is not None and ours else None
        held.append(Held(key, kind != "none", ours, text, kind))
    return held


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
