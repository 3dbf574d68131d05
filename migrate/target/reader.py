"""
Reads records in bulk for a verification: marks, instants, and whole contents where asked.

One script reads mark, content and time to live of a record in one step, so that they belong
together. Works on a server of its own and on Cluster, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from migrate.model.shape import RecordShape
from migrate.model.values import LookupKind
from migrate.model.verdict import Presence
from migrate.target.link import Command, Link, call_of, failed
from migrate.target.loader import GRACE_MS
from migrate.target.removal import LARGEST, MOST_FIELDS, TRIP_BYTES, escape_glob
from migrate.target.retry import DRIVER_ERRORS
from migrate.target.scripts import _HELD, MAX_RECORDS, Script
from migrate.target.wire import LEAST_POOL, Wire, packed

TRIP_CALLS = 16
"""Scripts sent in one round trip where they read marks only."""

LONGEST_LIST = 1024 * 1024
"""Bytes of a record's list of lookup entries that are read; no mapping has so many lookups."""

TTL_SLACK_MS = 50
"""The server rounds what is left of a time to live, and reads its clock twice."""

FAR_OWNER = "id"
"""Field with the record's key in a unique entry that is in another slot (`far_scripts`)."""

NEEDED = (
    *("evalsha", "script|load", "scan", "sscan", "zscan", "type", "time", "pttl", "hget", "hmget"),
    *("hgetall", "hkeys", "hlen", "hstrlen", "get", "getrange", "strlen", "sismember", "zscore"),
)
"""ACL names of the commands that a verification needs."""

_READ = """
local names = {ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]}
local kind, most, largest, room = ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local whole, longest = ARGV[10] == '1', tonumber(ARGV[11])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local taken = 0

local function weight(key)
  if redis.call('HLEN', key) > most then return end
  local size = 0
  for _, name in ipairs(redis.call('HKEYS', key)) do
    size = size + #name + redis.call('HSTRLEN', key, name)
    if size > largest then return end
  end
  return size
end

local function content(key)
  local size
  if kind == 'string' then size = redis.call('STRLEN', key) else size = weight(key) end
  if not size or size > largest then return false, {} end
  if taken > 0 and taken + size > room then return true end
  taken = taken + size
  if kind == 'string' then return false, {redis.call('GET', key)} end
  return false, redis.call('HGETALL', key)
end

local function read(key)
  local there = redis.call('TYPE', key).ok
  if there == 'none' then return {'absent'} end
  if there ~= kind then return {'other_type', there} end
  local version, digest, tombstone, entries, expires = held_by(key, there, names)
  if not is_version(version) or not (tombstone or is_digest(digest)) then return {'foreign'} end
  -- No list of ours is so long; in its place stands what is no list.
  if entries and #entries > longest then entries = '?' end
  local size, later, held
  if kind == 'hash' then
    size = redis.call('HLEN', key)
    expires = redis.call('HGET', key, names[5])
  else
    size = redis.call('STRLEN', key)
  end
  if whole then
    later, held = content(key)
    if later then return {'later'} end
  end
  local left = redis.call('PTTL', key)
  if left >= 0 then left = left + now end
  return {tombstone and 'tombstone' or 'record', version, digest or '', entries or '',
    expires or '', string.format('%.0f', left), tostring(size), held or {}}
end

local replies = {string.format('%.0f', now)}
for i, key in ipairs(KEYS) do replies[i + 1] = read(key) end
return replies
"""

READ = Script.of(_HELD, _READ)
"""
What is under keys, for a verification.

KEYS: record keys. ARGV: five reserved names, type, most fields, bytes of a record and of a reply,
1 to read everything, bytes of a list of entries. Reply: the server's clock in ms, and one a key:
absent; foreign; other_type and the type; later; or record or tombstone with version, digest,
entries, instant, instant at which the key goes (-1 for never), number of fields or bytes, and what
it holds.
"""


class Stored(NamedTuple):
    """
    What was read under one key. Its repr shows no values.

    Args:
        entries: Text of the record's list of lookup entries.

        expires: The instant that the record carries, or empty.

        goes: When the key goes, in milliseconds since 1970; None where it has no time to live.

        size: Fields of a hash, the marks among them; bytes of a string.

        content: Names and values of a hash in turn, or one text; empty unless asked for, and
            where it is larger than any record.

        now: The server's clock when it was read.
    """

    key: bytes
    presence: Presence
    type: str = ""
    version: str = ""
    digest: bytes = b""
    entries: bytes = b""
    expires: bytes = b""
    goes: int | None = None
    size: int = 0
    content: tuple[bytes, ...] = ()
    now: int = 0

    def __repr__(self) -> str:
        return f"Stored({self.key!r}, {self.presence.value}, {self.version!r})"

    @property
    def over(self) -> bool:
        """
        Whether the instant that it carries has passed.
        """
        return bool(self.expires) and int(self.expires) <= self.now

    def goes_at(self, expires: bytes) -> bool:
        """
        Whether its time to live is that of this instant; empty is none at all.
        """
        if not expires or self.goes is None:
            return not expires and self.goes is None
        return abs(self.goes - int(expires) - GRACE_MS) <= TTL_SLACK_MS


class Wanted(NamedTuple):
    """
    One entry of a record in a lookup that should be there.
    """

    kind: LookupKind
    key: bytes
    record: bytes


class RecordReader:
    """
    Reads records and entries of one mapping.
    """

    def __init__(self, link: Link, shape: RecordShape) -> None:
        self._link = link
        self._words = [*shape.reserved, shape.record.value, MOST_FIELDS, LARGEST, TRIP_BYTES]

    def read(self, keys: Sequence[bytes], *, whole: bool) -> dict[bytes, Stored]:
        """
        What is under each key.

        Args:
            whole: With everything that is in it, and not its marks alone.
        """
        found: dict[bytes, Stored] = {}
        left = list(dict.fromkeys(keys))
        at_once = 1 if whole else TRIP_CALLS
        while left:
            parts = list(self._parts(left))
            left = []
            for start in range(0, len(parts), at_once):
                here = parts[start : start + at_once]
                for part, reply in zip(here, self._cast(here, whole=whole), strict=True):
                    left += self._take(part, reply, found)
        return found

    def links(self, wanted: Sequence[Wanted]) -> list[bytes | None]:
        """
        What stands in each entry; None where the record is not in it.

        The record of a unique one, `1` of a set, the score of a sorted set. A key of another type
        counts as none.
        """
        commands: list[Command] = [_COMMANDS[one.kind](one.key, one.record) for one in wanted]
        replies: list[Any] = []
        for start in range(0, len(commands), MEMBERS):
            part = commands[start : start + MEMBERS]
            replies += self._link.together(part, keep="WRONGTYPE")
        keys = [one.key if one.kind is LookupKind.UNIQUE else b"" for one in wanted]
        replies = self._with_far(keys, replies)
        return [_link(one.kind, reply) for one, reply in zip(wanted, replies, strict=True)]

    def values(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """
        What each of these keys holds, where it is a string no longer than a key.
        """
        commands: list[Command] = [("GETRANGE", key, 0, _LONGEST_KEY) for key in keys]
        replies = self._link.together(commands, keep="WRONGTYPE") if keys else []
        replies = self._with_far(keys, replies)
        return {
            key: bytes(reply)
            for key, reply in zip(keys, replies, strict=True)
            if reply and not isinstance(reply, Exception)
        }

    def scan(self, prefix: bytes) -> Iterator[list[bytes]]:
        """
        Pages of the keys that begin so.
        """
        pattern = escape_glob(prefix) + b"*"
        several = self._link.slot_of(prefix) is not None
        alone = several or self._link.config.pool_size < LEAST_POOL
        for page in self._link.scan(pattern) if alone else self._ahead(pattern):
            yield list(dict.fromkeys(page))

    def _ahead(self, pattern: bytes) -> Iterator[list[bytes]]:
        """
        As `Link.scan`, with the next page asked for before the caller gets this one.
        """
        wire = Wire(self._link.client)
        cursor, flying = b"0", False

        def ask() -> None:
            nonlocal flying
            wire.open()
            wire.send(packed([("SCAN", cursor, "MATCH", pattern, "COUNT", MEMBERS)]))
            flying = True

        def attempt() -> tuple[bytes, list[bytes]]:
            nonlocal flying
            if not flying:
                ask()
            flying = False
            [reply] = wire.replies(1)
            if failed(reply):
                raise reply
            found, keys = reply
            return found, keys

        try:
            while True:
                cursor, page = self._link.patience.call(attempt)
                if cursor != b"0":
                    # What goes wrong here is met again, with patience, when the answer is fetched.
                    with suppress(*DRIVER_ERRORS):
                        ask()
                if page:
                    yield page
                if cursor == b"0":
                    return
        finally:
            wire.close()

    def members(self, key: bytes, kind: LookupKind) -> Iterator[list[bytes]]:
        """
        Pages of the record keys that a lookup holds; none where it is of another type.
        """
        if kind is LookupKind.UNIQUE:
            yield from ([value] for value in self.values([key]).values())
            return
        if self._link.command("TYPE", key) != _TYPES[kind]:
            return
        command = "SSCAN" if kind is LookupKind.SET else "ZSCAN"
        cursor = 0
        while True:
            cursor, found = self._link.command(command, key, cursor, "COUNT", MEMBERS)
            cursor = int(cursor)
            if found:
                yield [one[0] if isinstance(one, tuple) else one for one in found]
            if not cursor:
                return

    def _with_far(self, keys: Sequence[bytes], replies: list[Any]) -> list[Any]:
        """
        Replies with the owners of unique entries in other slots of a Cluster, which are hashes.
        """
        far = [
            at
            for at, (key, reply) in enumerate(zip(keys, replies, strict=True))
            if key and isinstance(reply, Exception) and self._link.slot_of(key) is not None
        ]
        asked = [("HGET", keys[at], FAR_OWNER) for at in far]
        for start in range(0, len(far), MEMBERS):
            part = asked[start : start + MEMBERS]
            owners = self._link.together(part, keep="WRONGTYPE")
            for at, owner in zip(far[start : start + MEMBERS], owners, strict=True):
                replies[at] = owner
        return replies

    def _cast(self, parts: Sequence[Sequence[bytes]], *, whole: bool) -> list[Any]:
        words = [*self._words, "1" if whole else "", LONGEST_LIST]
        calls = [call_of(READ, part, words) for part in parts]
        return self._link.patience.call(lambda: self._link.scripts(calls, READ))

    @staticmethod
    def _take(
        part: Sequence[bytes], reply: Sequence[Any], found: dict[bytes, Stored]
    ) -> list[bytes]:
        """
        Add what a reply says; the keys that have to be asked for again.
        """
        again = []
        for key, one in zip(part, reply[1:], strict=True):
            if one[0] == b"later":
                again.append(key)
            else:
                found[key] = _stored(key, one, int(reply[0]))
        return again

    def _parts(self, keys: Sequence[bytes]) -> Iterator[list[bytes]]:
        """
        Keys of one slot each time, no more than one script may take.
        """
        slots: dict[int | None, list[bytes]] = {}
        for key in keys:
            slots.setdefault(self._link.slot_of(key), []).append(key)
        for found in slots.values():
            for start in range(0, len(found), MAX_RECORDS):
                yield found[start : start + MAX_RECORDS]


MEMBERS = 1_000
"""Entries of lookups that are looked at together."""

_LONGEST_KEY = 1_023

_TYPES = {LookupKind.UNIQUE: b"string", LookupKind.SET: b"set", LookupKind.SORTED_SET: b"zset"}

_COMMANDS: Mapping[LookupKind, Callable[[bytes, bytes], Command]] = {
    LookupKind.UNIQUE: lambda key, _: ("GET", key),
    LookupKind.SET: lambda key, record: ("SISMEMBER", key, record),
    LookupKind.SORTED_SET: lambda key, record: ("ZSCORE", key, record),
}


def _link(kind: LookupKind, reply: Any) -> bytes | None:
    if reply is None or isinstance(reply, Exception):
        return None
    if kind is LookupKind.UNIQUE:
        return bytes(reply)
    if kind is LookupKind.SET:
        return b"1" if int(reply) else None
    return reply if isinstance(reply, bytes) else repr(float(reply)).encode()


def _stored(key: bytes, reply: Sequence[Any], now: int) -> Stored:
    presence = Presence(reply[0].decode())
    if presence is Presence.OTHER_TYPE:
        return Stored(key, presence, reply[1].decode(), now=now)
    if presence in (Presence.ABSENT, Presence.FOREIGN):
        return Stored(key, presence, now=now)
    _, version, digest, entries, expires, goes, size, content = reply
    return Stored(
        key,
        presence,
        version=version.decode(),
        digest=digest,
        entries=entries,
        expires=expires if expires.isdigit() else b"",
        goes=None if int(goes) < 0 else int(goes),
        size=int(size),
        content=tuple(content),
        now=now,
    )


__all__ = ["NEEDED", "READ", "RecordReader", "Stored", "Wanted"]
