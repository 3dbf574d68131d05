"""
Reads whole hashes in bulk, for a verification that compares every field.

One command reads mark and content of a record, so that they belong together. A script is asked
before which records are small, and live forever: only those are read here, so that no reply is
larger than a few megabytes, whatever someone has put under a key. All others are left to
`reader.RecordReader`, which reads them one by one and in portions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from migrate.target.link import Link, all_well, call_of, failed
from migrate.target.scripts import Script
from migrate.target.wire import Wire, reader_of_replies

AT_ONCE = 250
"""Records in one batch; another one is under way meanwhile."""

SMALL = 16 * 1024
"""Bytes that a record takes in Redis, names and bookkeeping included; larger ones are not read."""

_ASK = b"*2\r\n$7\r\nHGETALL\r\n$%d\r\n%b\r\n"

_LARGE = """
local most, largest = tonumber(ARGV[1]), tonumber(ARGV[2])
local found = {}
for i, key in ipairs(KEYS) do
  local fields = redis.pcall('HLEN', key)
  if type(fields) ~= 'number' or fields == 0 or fields > most
    or redis.call('PTTL', key) ~= -1
    or redis.call('MEMORY', 'USAGE', key, 'SAMPLES', most) > largest then
    found[#found + 1] = i
  end
end
return found
"""

LARGE = Script.of(_LARGE)
"""
Which keys hold no hash that is small and lives forever.

KEYS: record keys. ARGV: most fields, most bytes. Reply: places of the others, counted from 1.
"""


class Whole:
    """
    Reads small hashes of one server.

    Args:
        fields: How many a record has at most.
    """

    def __init__(self, link: Link, fields: int) -> None:
        self._link = link
        self._wire = _Replies(link.client)
        self._words = (fields, SMALL)

    def may(self, key: bytes) -> bool:
        """
        Whether this user may ask how large something is; such a key need not be there.
        """
        return not failed(self._link.replies([("MEMORY", "USAGE", key)])[0])

    def read(self, keys: Sequence[bytes]) -> list[list[bytes] | None]:
        """
        Names and values in turn of what is under each key; None where it is to be read elsewhere.
        """
        if not keys:
            return []
        return self._link.patience.call(lambda: self._read(keys))

    def close(self) -> None:
        """
        Give the connection back.
        """
        self._wire.close()

    def _read(self, keys: Sequence[bytes]) -> list[list[bytes] | None]:
        others = self._others(keys)
        small = [key for at, key in enumerate(keys) if at not in others] if others else keys
        replies = self._wire.contents(small)
        if not others:
            return replies
        found = iter(replies)
        return [None if at in others else next(found) for at in range(len(keys))]

    def _others(self, keys: Sequence[bytes]) -> set[int]:
        starts = range(0, len(keys), AT_ONCE)
        calls = [call_of(LARGE, keys[start : start + AT_ONCE], self._words) for start in starts]
        replies = self._link.scripts(calls, LARGE)
        return {
            start + place - 1
            for start, reply in zip(starts, replies, strict=True)
            for place in reply
        }


class _Replies(Wire):
    """
    A connection for many replies that are parsed, while the next ones are made.
    """

    def contents(self, keys: Sequence[bytes]) -> list[list[bytes] | None]:
        """
        What is in each hash; None for a key that has become something else.

        Raises:
            The most urgent error among the replies.
        """
        self.open()
        reader = reader_of_replies()
        parts = [keys[start : start + AT_ONCE] for start in range(0, len(keys), AT_ONCE)]
        replies: list[Any] = []
        try:
            for number, part in enumerate(parts):
                if not number:
                    self.send(_asked(part))
                for following in parts[number + 1 : number + 2]:
                    self.send(_asked(following))
                self.parse(reader, len(part), replies)
        except BaseException:
            # Replies that nobody has read would be taken for those to the next commands.
            self.drop()
            raise
        return _taken(replies)


def _asked(keys: Sequence[bytes]) -> bytes:
    return b"".join([_ASK % (len(key), key) for key in keys])


def _taken(replies: list[Any]) -> list[list[bytes] | None]:
    kept = all_well(replies, keep="WRONGTYPE")
    return [None if failed(one) else one for one in kept]


__all__ = ["LARGE", "Whole"]
