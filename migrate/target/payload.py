"""
Payloads of RESTORE: a small hash, or a text, as Redis itself keeps it on disk.

A hash record is one *listpack*: one block of memory that holds its names and values in a row.

    10                    type 16, a hash as a listpack
    length                of the listpack, as RDB writes lengths (below)
    total  4 bytes  LE  ┐ of the whole listpack, itself and the end included
    count  2 bytes  LE  │ of its entries: names and values
    name, value, ...    │ one entry each (below)
    ff                  ┘ the end
    0a 00                 RDB version 10: Redis 7.0 and later, and Valkey
    crc    8 bytes  LE    CRC-64 (Jones) of everything before it

An entry is its head, its text, and its tail. The head is its length in 6 bits (`10......`) or in 12
(`1110....` and a byte). The tail is the length of head and text, so that a listpack can be walked
backwards: 7 bits a byte, the lowest bits last, the top bit set on every byte but the first.

RDB writes lengths in 6 bits (`00......`), 14 bits (`01......` and a byte), or in 4 bytes after an
`80`, all of them big endian. A string record is type 0, its length, its text, version and CRC.

**A payload that is wrong and has the right CRC is taken, and ends the server at the next HGETALL.**
So this is kept narrow: no entry longer than 4,095 bytes and fewer than 128 fields, so that one form
of head, of count and of tail does; whatever is larger is None here and goes to the script. Two
fields of one name would be taken as well: whoever encodes sees to it that names differ. And
`payload_check`, which shares nothing with this file, looks at what it makes while it runs.

The server would keep `42` as an integer of 1 to 9 bytes; here it is the two bytes of its text. The
server reads either: HGET, HGETALL, HINCRBY and every later HSET do not tell them apart (seen in
`tests/target/test_payload.py`). It costs what the digits do, on average nothing or one step of the
allocator a record, and most records hold fewer numbers than texts; telling integers from texts
would cost more than the rest of the encoding.

The server keeps such a hash as it comes, however long its values are, so that a restored record is
smaller than one made by HSET, which turns to a table above 64 bytes a value. It stays small until
somebody writes a long value into it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from struct import Struct

from anycrc import Model  # type: ignore[import-untyped]

MAX_ENTRY = 4_095
"""Bytes of a name or a value at most."""

MAX_FIELDS = 127
"""Fields of a hash at most, those of our own included; below the limit of every server."""

MAX_TEXT = 64 * 1024
"""Bytes of a listpack, or of a string record, at most: a listpack is moved as a whole."""

_STRING = b"\x00"
_HASH = b"\x10"
_VERSION = (10).to_bytes(2, "little")

END = b"\xff" + _VERSION
"""What stands behind the entries of a hash, but for the CRC."""

_AROUND = 4 + 2 + 1
"""Bytes of a listpack around its entries."""

crc64: Callable[..., int] = Model("CRC64-REDIS").calc
"""Of a payload, all of it that stands before the CRC; of a second part with the first one's CRC."""

CRC_BYTES = 8

crc_bytes = Struct("<Q").pack
"""A CRC as it stands in a payload."""


def _head(length: int) -> bytes:
    if length < 64:
        return bytes([0x80 | length])
    return bytes([0xE0 | length >> 8, length & 0xFF])


def _tail(length: int) -> bytes:
    whole = len(_head(length)) + length
    if whole < 128:
        return bytes([whole])
    return bytes([whole >> 7, 0x80 | whole & 0x7F])


HEADS = [_head(length) for length in range(MAX_ENTRY + 1)]
"""What stands before a text of each length in a listpack."""

TAILS = [_tail(length) for length in range(MAX_ENTRY + 1)]
"""What stands behind it."""


def entry(text: bytes) -> bytes:
    """
    One name or value of a listpack.

    Raises:
        IndexError: It is longer than `MAX_ENTRY`.
    """
    length = len(text)
    return HEADS[length] + text + TAILS[length]


def seal(body: bytes) -> bytes:
    """
    Type and value with the version and the CRC behind them.
    """
    body += _VERSION
    return body + crc_bytes(crc64(body))


def hash_of(entries: bytes, fields: int) -> bytes | None:
    """
    The payload of a hash of these entries, joined; None where that would be too large.

    Args:
        fields: How many; there are twice as many entries.
    """
    try:
        start = start_of_hash(len(entries), fields)
    except IndexError:
        return None
    return seal(start + entries + b"\xff")


def start_of_hash(entries: int, fields: int) -> bytes:
    """
    What stands before the entries of a hash.

    Args:
        entries: Their bytes.

    Raises:
        IndexError: The payload would be too large.
    """
    size = entries + _AROUND
    if fields > MAX_FIELDS or size > MAX_TEXT:
        raise IndexError(size)
    return _start(size, fields)


def hash_payload(pairs: Sequence[bytes]) -> bytes | None:
    """
    The payload of a hash of name, value, name, value, ...; None where that would be too large.

    Raises:
        ValueError: There is nothing in it, or a name without a value.
    """
    if not pairs or len(pairs) % 2:
        raise ValueError("a hash is pairs of a name and a value, and at least one")
    if max(map(len, pairs)) > MAX_ENTRY:
        return None
    return hash_of(b"".join(map(entry, pairs)), len(pairs) // 2)


def string_payload(text: bytes) -> bytes | None:
    """
    The payload of a string; None where that would be too large.
    """
    if len(text) > MAX_TEXT:
        return None
    return seal(_STRING + _length(len(text)) + text)


# A record's size is mostly one of a few hundred.
@lru_cache(maxsize=16_384)
def _start(size: int, fields: int) -> bytes:
    count = 2 * fields
    return _HASH + _length(size) + size.to_bytes(4, "little") + count.to_bytes(2, "little")


def _length(length: int) -> bytes:
    if length < 1 << 6:
        return bytes([length])
    if length < 1 << 14:
        return (0x4000 | length).to_bytes(2, "big")
    return b"\x80" + length.to_bytes(4, "big")


__all__ = [
    "CRC_BYTES",
    "END",
    "HEADS",
    "MAX_ENTRY",
    "MAX_FIELDS",
    "MAX_TEXT",
    "TAILS",
    "crc64",
    "crc_bytes",
    "entry",
    "hash_of",
    "hash_payload",
    "seal",
    "start_of_hash",
    "string_payload",
]
