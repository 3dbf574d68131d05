"""
Takes records away again: close the fence, read what is there, remove it, put back what was aside.

Each removal is one step in the server that checks the fence and the record's own mark. What a
record is, and whether it may go, is decided elsewhere (`pipeline.sweep`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from migrate.errors import Fenced, TargetTaken
from migrate.model.lookups import entries_text, parse_entries
from migrate.model.shape import RecordShape
from migrate.model.values import Fence, LookupKind, RecordType
from migrate.target.claims import Claims, Leaving
from migrate.target.far_scripts import _NEAR, PEEK
from migrate.target.fence import RESERVED_PREFIX, adopted_key, fence_key, lost
from migrate.target.link import Command, Link, call_of, failed, unexpected
from migrate.target.scripts import _FENCED, _HELD, MAX_RECORDS, Script
from migrate.target.slots import SLOTS

CLOSED = "closed"
"""The mode of a fence behind which nobody writes but who closed it."""

PURGED = "purged"
"""The mode of a fence whose records are gone; the next first run may take it over."""

MOST_FIELDS = 40_000
"""Fields of a hash that is read at all: more than any table has columns."""

LARGEST = 9 * 1024 * 1024
"""Bytes of a record that is read at all: more than a backfill ever writes."""

TRIP_BYTES = 4 * 1024 * 1024
"""Bytes that one script answers, unless a single record is larger."""

TRIP_CALLS = 16
"""Scripts sent in one round trip."""

FENCE_LASTS_S = 120
"""How long the fence outlives a purge: longer than a worker may hold a batch in its hands."""

MEMBERS = 1_000
"""Members of a lookup that are looked at together."""

FENCES_AT_ONCE = 1_024
"""Fences of a Cluster that are closed in one round trip."""

NEEDED = (
    *("evalsha", "script|load", "scan", "sscan", "zscan", "type", "exists"),
    *("hmget", "hgetall", "hkeys", "hlen", "hstrlen", "hset", "hdel"),
    *("get", "getrange", "strlen", "set", "persist", "expire"),
    *("unlink", "rename", "srem", "zrem"),
)
"""ACL names of the commands without which nothing can be removed, proven by a test."""

_READ = """
local names = {ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]}
local kind, most, largest, room = ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local passed_over = ARGV[10]

-- Bytes in a hash; nothing where it has more than any record. No value is fetched for that.
local function weight(key)
  if redis.call('HLEN', key) > most then return end
  local size = 0
  for _, name in ipairs(redis.call('HKEYS', key)) do
    size = size + #name + redis.call('HSTRLEN', key, name)
    if size > largest then return end
  end
  return size
end

local taken = 0

local function read(key)
  local there = redis.call('TYPE', key).ok
  if there == 'none' then return {'gone'} end
  if there ~= kind then return {'foreign'} end
  local version, digest, tombstone = held_by(key, there, names)
  if not is_version(version) or not (tombstone or is_digest(digest)) then return {'foreign'} end
  if version == passed_over then return {'passed'} end

  local size
  if kind == 'string' then size = redis.call('STRLEN', key) else size = weight(key) end
  local mark = tombstone and '' or digest
  if not size or size > largest then return {'large', version, mark} end
  if taken > 0 and taken + size > room then return {'later'} end
  taken = taken + size
  local reply = {'marked', version, mark, tombstone and '1' or ''}
  if kind == 'string' then
    reply[5] = redis.call('GET', key)
  else
    reply[5] = redis.call('HGETALL', key)
  end
  return reply
end

local replies = {}
for i, key in ipairs(KEYS) do replies[i] = read(key) end
return replies
"""

_REMOVE = """
local names = {ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]}
local kind, successor, aside = ARGV[9], ARGV[10], ARGV[11]

local function release_all(key, entries)
  for _, entry in ipairs(listed(entries or '')) do release(entry[1], entry[2], key) end
end

-- The first write is one that needs memory: a server without any refuses it, and nothing is lost.
local function bury(key, entries)
  if kind == 'string' then
    redis.call('SET', key,
      '{' .. quoted(names[1]) .. ':"' .. successor .. '",' .. quoted(names[3]) .. ':1}')
    return
  end
  redis.call('HSET', key, names[1], successor, names[3], '1')
  redis.call('PERSIST', key)
  release_all(key, entries)
  for _, name in ipairs(redis.call('HKEYS', key)) do
    if name ~= names[1] and name ~= names[3] then redis.call('HDEL', key, name) end
  end
end

local function put_back(key)
  if aside == '' or redis.call('EXISTS', aside .. key) == 0 then return 'removed' end
  redis.call('RENAME', aside .. key, key)
  return 'restored'
end

local function remove(key, version, mark)
  local there = redis.call('TYPE', key).ok
  if there == 'none' then return 'gone' end
  local found, digest, tombstone, entries = held_by(key, there, names)
  if tombstone then digest = '' end
  if there ~= kind or found ~= version or digest ~= mark then return 'changed' end
  if successor ~= '' then
    bury(key, entries)
    return 'buried'
  end
  -- The record lists its entries until it is out of all of them.
  release_all(key, entries)
  redis.call('UNLINK', key)
  return put_back(key)
end

local replies = {'OK'}
for i = 2, #KEYS do
  replies[i] = remove(KEYS[i], ARGV[2 * i + 8], ARGV[2 * i + 9])
end
return replies
"""

_FAR = """
-- A record that is still in an entry of another slot is not removed.
local any_held_by = held_by
local function held_by(key, kind, names)
  local version, digest, tombstone, entries = any_held_by(key, kind, names)
  if not tombstone and #left_in(entries, '', key) > 0 then digest = nil end
  return version, digest, tombstone, entries
end

local any_release = release
local function release(kind, key, record)
  if is_near({kind, key}, record) then any_release(kind, key, record) end
end
"""

_CLOSE = """
local expected, own, least = ARGV[1], ARGV[2], tonumber(ARGV[3])

local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'none' and kind ~= 'hash' then return {'FOREIGN'} end
if kind == 'none' then
  redis.call('HSET', KEYS[1], 'mode', ARGV[4], 'epoch', math.max(1, least), 'run', own,
    'floor', '0', 'generation', '0', 'revision', '0', 'fingerprint', '')
  return {'OK', tostring(math.max(1, least)), own}
end

local held = redis.call('HMGET', KEYS[1], 'mode', 'epoch', 'run')
if not held[1] or not held[3] or not is_version(held[2]) then return {'FOREIGN'} end
if expected ~= '' and held[3] ~= expected then return {'TAKEN', held[3]} end
local epoch = string.format('%.0f', math.max(held[2] + 1, least))
redis.call('HSET', KEYS[1], 'mode', ARGV[4], 'epoch', epoch)
redis.call('PERSIST', KEYS[1])
return {'OK', epoch, held[3]}
"""

_EXPIRE = """
-- Our own mark may be there already: an answer was lost and we ask again.
local ours = redis.call('HMGET', KEYS[1], 'run', 'mode', 'epoch')
if ours[1] ~= ARGV[3] then return {'LOST', ours[1] or ''} end
if ours[3] ~= ARGV[2] or (ours[2] ~= ARGV[1] and ours[2] ~= ARGV[4]) then
  return {'FENCED', ours[2] or '', ours[3] or ''}
end
redis.call('HSET', KEYS[1], 'mode', ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[5])
return {'OK'}
"""

_PUT_BACK = """
if redis.call('EXISTS', KEYS[2]) == 0 then return {'OK', 'gone'} end
if redis.call('EXISTS', KEYS[3]) == 1 then return {'OK', 'taken'} end
redis.call('RENAME', KEYS[2], KEYS[3])
return {'OK', 'restored'}
"""

_RELEASE = """
for i = 5, #ARGV do release(ARGV[4], KEYS[2], ARGV[i]) end
return {'OK'}
"""

READ = Script.of(_HELD, _READ)
"""
What is under keys, as far as it carries a mark of ours and is no larger than any record.

KEYS: record keys. ARGV: five reserved names, type, most fields, bytes of a record and of a reply,
version to pass over ('' for none). Reply, one a key: gone, foreign, passed, later; large with
version and digest; or marked with version, digest, 1 for a tombstone, and everything in it.
"""

REMOVE = Script.of(_HELD, _FENCED, _REMOVE)
"""
Remove records that are still what was read, and take them out of their lookups.

KEYS: fence, record keys. ARGV: mode, epoch, run, five reserved names, type, version of the
tombstone that takes their place ('' for none), prefix under which foreign values were put aside
('' to leave them there); then for each record version and digest ('' of a tombstone).
Reply: OK, and for each removed, restored, buried, gone or changed; or LOST or FENCED.
"""

FAR_REMOVE = Script.of(_HELD, _NEAR, _FAR, _FENCED, _REMOVE)
"""
The same on a Cluster; entries in other slots were left before.
"""

CLOSE = Script.of(_HELD, _CLOSE)
"""
Close a fence: raise its epoch, so that nobody writes who was given an older one.

KEYS: fence. ARGV: run that must be there ('' for any), run to write where there is none, least
epoch, mode. Reply: OK, epoch, run; TAKEN, run; or FOREIGN.
"""

EXPIRE = Script.of(_EXPIRE)
"""
Give a closed fence its last mode and an end.

KEYS: fence. ARGV: mode, epoch, run, last mode, seconds. Reply: OK; or LOST or FENCED.
"""

PUT_BACK = Script.of(_FENCED, _PUT_BACK)
"""
Give a value that was put aside its key back, if that is free.

KEYS: fence, key aside, its own key. ARGV: mode, epoch, run. Reply: OK and restored, gone or taken.
"""

RELEASE = Script.of(_HELD, _FENCED, _RELEASE)
"""
Take records that are gone out of a lookup.

KEYS: fence, key of the lookup. ARGV: mode, epoch, run, kind, record keys.
"""

ALL = (READ, REMOVE, FAR_REMOVE, CLOSE, EXPIRE, PUT_BACK, RELEASE)
"""Every script of this module."""


class There(StrEnum):
    """
    What is under a key, as far as its mark tells.
    """

    GONE = "gone"
    FOREIGN = "foreign"
    LARGE = "large"
    """It has our mark, and is larger than any record of ours."""
    PASSED = "passed"
    """It has the version that was to be passed over."""
    MARKED = "marked"


class Removed(StrEnum):
    """
    What became of one key.
    """

    REMOVED = "removed"
    RESTORED = "restored"
    """Removed, and the value that was there before us is in its place again."""
    BURIED = "buried"
    """A tombstone is in its place."""
    GONE = "gone"
    CHANGED = "changed"
    """It was written between reading and removing; it is kept."""
    TAKEN = "taken"
    """A value that was put aside cannot go back, because its key holds something else."""


class Found(NamedTuple):
    """
    What was read under one key. Its repr shows no values.

    Args:
        digest: Empty of a tombstone.

        content: Names and values of a hash in turn, or one text; empty unless marked.
    """

    key: bytes
    there: There
    version: bytes = b""
    digest: bytes = b""
    tombstone: bool = False
    content: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"Found({self.key!r}, {self.there.value}, {self.version!r})"


class Aside(NamedTuple):
    """
    A foreign value that was put aside: where it is, and the key that it had.
    """

    key: bytes
    original: bytes


@dataclass(frozen=True, slots=True)
class Tombstone:
    """
    What takes the place of a record whose row is gone.
    """

    version: int


def close_fence(link: Link, mapping: str, *, expected: str | None, own: str) -> Fence:
    """
    Close the fence of a mapping, in every slot, and return it as it is now.

    Repeating it raises the epoch again, which locks out whoever began the same before.

    Args:
        expected: The run that must be there; None takes whatever is.

        own: The run to write where there is no fence.

    Raises:
        TargetTaken: Another run's fence is there, or something that is no fence.
    """
    least = 0
    while True:
        replies = _at_fences(link, mapping, CLOSE, [expected or "", own, least, CLOSED])
        for word, *rest in replies:
            if word != b"OK":
                raise _not_ours(link, mapping, rest)
        epochs = {int(epoch) for _, epoch, _ in replies}
        if len(epochs) == 1:
            return Fence(CLOSED, epochs.pop(), replies[0][2].decode())
        # Slots were closed at different times: give all of them one epoch.
        least = max(epochs) + 1


def expire_fence(link: Link, mapping: str, fence: Fence) -> None:
    """
    Let a closed fence stand for a while and then go.

    Raises:
        Fenced: Somebody closed it again.
    """
    words = [fence.mode, fence.epoch, fence.run, PURGED, FENCE_LASTS_S]
    for reply in _at_fences(link, mapping, EXPIRE, words):
        _accept(link, mapping, fence, reply)


def _at_fences(
    link: Link, mapping: str, script: Script, words: Sequence[object]
) -> list[list[bytes]]:
    slots: Sequence[int | None] = (None,) if link.slot_of(b"") is None else range(SLOTS)
    calls = [call_of(script, [fence_key(mapping, slot)], words) for slot in slots]
    return _cast(link, script, calls, at_once=FENCES_AT_ONCE)


def _cast(
    link: Link, script: Script, calls: Sequence[Command], at_once: int = TRIP_CALLS
) -> list[Any]:
    replies: list[Any] = []
    for start in range(0, len(calls), at_once):
        part = calls[start : start + at_once]
        replies += link.patience.call(lambda part=part: link.scripts(part, script))  # type: ignore[misc]
    return replies


def _accept(link: Link, mapping: str, fence: Fence, reply: Sequence[bytes]) -> Sequence[bytes]:
    """
    The words behind OK.

    Raises:
        Fenced: The fence is not the one that we were given.
        TargetLostData: It is gone, or of another run.
    """
    word, *rest = reply
    if word == b"OK":
        return rest
    if word == b"LOST":
        raise lost(link, mapping, rest[0].decode(errors="replace"))
    if word == b"FENCED":
        raise Fenced(
            "A newer run, or a change of stage, took over; this one removed nothing more.",
            where={
                "mapping": mapping,
                "epoch": fence.epoch,
                "found_epoch": rest[1].decode(errors="replace"),
                "found_mode": rest[0].decode(errors="replace"),
            },
            next_step=f"profile-migrate status {mapping}",
        )
    raise unexpected("Redis answered a removal with a word that we do not know.", link.config)


def _not_ours(link: Link, mapping: str, rest: Sequence[bytes]) -> TargetTaken:
    where: dict[str, object] = {
        "mapping": mapping,
        "redis": link.config.name,
        "address": link.config.address,
    }
    if not rest:
        return TargetTaken(
            "The key of the fence holds something that is not a fence.",
            where=where | {"key": fence_key(mapping)},
            next_step="Rename or delete that key if nobody needs it.",
        )
    return TargetTaken(
        "This Redis holds the records of another run of this mapping.",
        where=where | {"run": rest[0].decode(errors="replace")},
        next_step="Use the ledger of that run, or the Redis that this ledger knows.",
    )


class Remover:
    """
    Finds, reads and removes keys behind a fence; without one it reads only.

    Args:
        fence: None for a look that changes nothing: every removal is then said to succeed.
    """

    def __init__(self, link: Link, mapping: str, fence: Fence | None) -> None:
        self._link = link
        self._mapping = mapping
        self._fence = fence
        self._has_slots = link.slot_of(b"") is not None

    def scan(self, prefix: bytes) -> Iterator[list[bytes]]:
        """
        Pages of the keys that begin so, whatever characters are in it.
        """
        for page in self._link.scan(escape_glob(prefix) + b"*"):
            yield list(dict.fromkeys(page))

    def read(
        self, keys: Sequence[bytes], shape: RecordShape, pass_over: str = ""
    ) -> Iterator[list[Found]]:
        """
        What is under these keys, a few megabytes at a time.

        Args:
            pass_over: A version whose records are not looked at.
        """
        words = [*shape.reserved, shape.record.value, MOST_FIELDS, LARGEST, TRIP_BYTES, pass_over]
        left = list(keys)
        while left:
            taken, left = left[: MAX_RECORDS * TRIP_CALLS], left[MAX_RECORDS * TRIP_CALLS :]
            parts = [part for _, part in self._by_slot(taken)]
            # One answer at a time is held: it may be as large as a few records.
            for part in parts:
                reply = self._link.run(READ, part, words)
                found = [_found(key, one) for key, one in zip(part, reply, strict=True)]
                yield [one for one in found if one is not None]
                left += [key for key, one in zip(part, found, strict=True) if one is None]

    def remove(
        self,
        found: Sequence[Found],
        shape: RecordShape,
        *,
        tombstone: Tombstone | None = None,
        put_back: bool = False,
    ) -> list[tuple[Found, Removed]]:
        """
        Remove what is still as it was read.

        Args:
            tombstone: Leave one in each place.

            put_back: Give a value that was put aside its key back, in the same step.
        """
        if self._fence is None:
            done = Removed.BURIED if tombstone else Removed.REMOVED
            return [(one, done) for one in found]
        by_key = {one.key: one for one in found}
        script = REMOVE
        if self._has_slots:
            script = FAR_REMOVE
            self._leave(self._fence, found, shape)
        head = [*self._head(self._fence), *shape.reserved, shape.record.value]
        head.append(tombstone.version if tombstone else "")
        calls, parts = [], []
        for slot, part in self._by_slot(list(by_key)):
            aside = adopted_key(self._mapping, b"", slot) if put_back else b""
            words: list[object] = [*head, aside]
            for key in part:
                words += (by_key[key].version, by_key[key].digest)
            calls.append(call_of(script, [fence_key(self._mapping, slot), *part], words))
            parts.append(part)
        done_with: list[tuple[Found, Removed]] = []
        for part, reply in zip(parts, _cast(self._link, script, calls), strict=True):
            words_back = _accept(self._link, self._mapping, self._fence, reply)
            done_with += [
                (by_key[key], Removed(word.decode()))
                for key, word in zip(part, words_back, strict=True)
            ]
        return done_with

    def exist(self, keys: Sequence[bytes]) -> list[bool]:
        """
        Whether there is something under each key.
        """
        return [bool(there) for there in self._link.together([("EXISTS", key) for key in keys])]

    # --- lookups ----------------------------------------------------------------------------

    def members(self, key: bytes, kind: LookupKind) -> Iterator[list[bytes]]:
        """
        Pages of the record keys that a lookup holds; none where it is of another type.
        """
        if kind is LookupKind.UNIQUE and self._has_slots:
            [(what, record, *_)] = self._link.run(PEEK, [key], [])
            if what in (b"entry", b"string"):
                yield [record]
            return
        there = self._link.command("TYPE", key)
        if there != _TYPES[kind]:
            return
        if kind is LookupKind.UNIQUE:
            value = self._link.command("GETRANGE", key, 0, _LONGEST_KEY)
            if value:
                yield [value]
            return
        command = "SSCAN" if kind is LookupKind.SET else "ZSCAN"
        cursor = 0
        while True:
            cursor, found = self._link.command(command, key, cursor, "COUNT", MEMBERS)
            cursor = int(cursor)
            if found:
                # The driver makes pairs of members and scores.
                yield [one[0] if isinstance(one, tuple) else one for one in found]
            if not cursor:
                return

    def release(self, key: bytes, kind: LookupKind, records: Sequence[bytes]) -> None:
        """
        Take records out of a lookup, and nobody else.
        """
        if self._fence is None:
            return
        if kind is LookupKind.UNIQUE and self._has_slots:
            self._claims(self._fence).forget(key, records)
            return
        fence = fence_key(self._mapping, self._link.slot_of(key))
        words = [*self._head(self._fence), kind.value, *records]
        reply = self._link.run(RELEASE, [fence, key], words)
        _accept(self._link, self._mapping, self._fence, reply)

    # --- values that were put aside ---------------------------------------------------------

    def aside(self) -> Iterator[list[Aside]]:
        """
        Pages of the foreign values of this mapping that are still put aside.
        """
        start = f"{RESERVED_PREFIX}adopted:".encode()
        name = f"{self._mapping}:".encode()
        one_place = self._link.slot_of(b"") is None
        pattern = start + (b"" if one_place else b"{*}:") + name + b"*"
        for page in self._link.scan(pattern):
            found = []
            for key in dict.fromkeys(page):
                rest = key[len(start) :]
                if not one_place:
                    rest = rest.partition(b"}:")[2]
                original = rest[len(name) :]
                slot = self._link.slot_of(original)
                if key == adopted_key(self._mapping, original, slot):
                    found.append(Aside(key, original))
            if found:
                yield found

    def put_back(self, aside: Aside) -> Removed:
        """
        Give a value its key back, if that is free.
        """
        if self._fence is None:
            [taken] = self.exist([aside.original])
            return Removed.TAKEN if taken else Removed.RESTORED
        fence = fence_key(self._mapping, self._link.slot_of(aside.original))
        keys = [fence, aside.key, aside.original]
        reply = self._link.run(PUT_BACK, keys, self._head(self._fence))
        [word] = _accept(self._link, self._mapping, self._fence, reply)
        return Removed(word.decode())

    # --- inside -----------------------------------------------------------------------------

    def _claims(self, fence: Fence, shape: RecordShape | None = None) -> Claims:
        def refused(reply: list[Any]) -> None:
            _accept(self._link, self._mapping, fence, reply)

        reserved = shape.reserved if shape else ()
        return Claims(self._link, self._mapping, fence, reserved, refused)

    def _leave(self, fence: Fence, found: Sequence[Found], shape: RecordShape) -> None:
        """
        Take records out of their unique entries, wherever these are, and out of their lists.
        """
        if shape.record is not RecordType.HASH:
            return
        leavings = []
        for one, text in zip(found, self._lists(found, shape.reserved[3].encode()), strict=True):
            try:
                listed = parse_entries(text)
            except ValueError:
                continue
            unique = tuple(e.key for e in listed if e.kind == b"u")
            kept = entries_text(e for e in listed if e.kind != b"u")
            if unique and not one.tombstone:
                leavings.append(Leaving(one.key, one.version, one.digest, unique, text, kept))
        if leavings:
            self._claims(fence, shape).leave(leavings)

    def _lists(self, found: Sequence[Found], name: bytes) -> list[bytes]:
        """
        The list of entries of each record; asked for where the record was not read.
        """
        large = [one.key for one in found if not one.content]
        asked = self._link.together([("HMGET", key, name) for key in large], keep="WRONGTYPE")
        told = dict(zip(large, asked, strict=True))
        lists = []
        for one in found:
            if one.content:
                lists.append(
                    dict(zip(one.content[::2], one.content[1::2], strict=True)).get(name, b"")
                )
            else:
                reply = told[one.key]
                lists.append(b"" if failed(reply) else reply[0] or b"")
        return lists

    @staticmethod
    def _head(fence: Fence) -> list[object]:
        return [fence.mode, fence.epoch, fence.run]

    def _by_slot(self, keys: Sequence[bytes]) -> Iterator[tuple[int | None, list[bytes]]]:
        """
        Keys of one slot each time, no more than one script may take.
        """
        slots: dict[int | None, list[bytes]] = {}
        for key in keys:
            slots.setdefault(self._link.slot_of(key), []).append(key)
        for slot, found in slots.items():
            for start in range(0, len(found), MAX_RECORDS):
                yield slot, found[start : start + MAX_RECORDS]


_TYPES = {LookupKind.UNIQUE: b"string", LookupKind.SET: b"set", LookupKind.SORTED_SET: b"zset"}

_LONGEST_KEY = 1_023
"""Bytes of a unique entry that are read: record keys are shorter."""

_SPECIAL = frozenset(b"\\*?[]^-")


def escape_glob(text: bytes) -> bytes:
    """
    A pattern that fits exactly this text.
    """
    return b"".join(b"\\%c" % code if code in _SPECIAL else bytes((code,)) for code in text)


def _found(key: bytes, reply: Sequence[Any]) -> Found | None:
    """
    What a reply says; None where the key has to be asked for again.
    """
    word = reply[0].decode()
    if word == "later":
        return None
    there = There(word)
    if there is There.LARGE:
        return Found(key, there, reply[1], reply[2], tombstone=not reply[2])
    if there is not There.MARKED:
        return Found(key, there)
    _, version, digest, tombstone, content = reply
    held = (content,) if isinstance(content, bytes) else tuple(content)
    return Found(key, there, version, digest, bool(tombstone), held)
