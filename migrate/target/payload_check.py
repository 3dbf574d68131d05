"""
Reads payloads of RESTORE back, by other means than those that made them (`payload`).

Slow and suspicious: it is run on the first records of a run and on a few of all others, before the
server sees them, for a wrong payload ends the server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

NEWEST = 10
"""Version of RDB that every server reads which reads any of ours."""

_POLYNOMIAL = 0x95AC9329AC4BC9B5
"""CRC-64 (Jones) with its bits reversed, as it is applied to bytes whose lowest bit comes first."""


class BadPayload(Exception):
    """
    A server that takes this payload may end by it. The text says what is wrong, without values.
    """


class Entry(NamedTuple):
    """
    One entry of a listpack. Its repr shows no value.

    Args:
        size: Bytes that it takes without its tail.
    """

    text: bytes
    size: int

    def __repr__(self) -> str:
        return f"Entry({len(self.text)} bytes)"


def contents(payload: bytes) -> dict[bytes, bytes] | bytes:
    """
    What RESTORE would make of it: the fields of a hash, or the text of a string.

    Raises:
        BadPayload: It is not exactly one of these.
    """
    body, version, crc = payload[:-10], payload[-10:-8], payload[-8:]
    if int.from_bytes(version, "little") != NEWEST:
        raise BadPayload("another version of RDB")
    if int.from_bytes(crc, "little") != crc64(payload[:-8]):
        raise BadPayload("the checksum differs")
    kind, text = body[:1], _text(body[1:])
    if kind == b"\x00":
        return text
    if kind != b"\x10":
        raise BadPayload("neither a hash nor a string")
    return _fields(listpack(text))


def crc64(data: bytes) -> int:
    """
    The checksum that Redis puts behind a dump.
    """
    crc = 0
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc


def listpack(block: bytes) -> list[bytes]:
    """
    The texts of all entries, walked forwards, with every tail looked at on the way.
    """
    if len(block) < 7 or block[-1] != 0xFF:
        raise BadPayload("no listpack")
    if int.from_bytes(block[:4], "little") != len(block):
        raise BadPayload("a listpack of another length")
    found = list(_entries(block[6:-1]))
    if int.from_bytes(block[4:6], "little") != len(found):
        raise BadPayload("another number of entries")
    return found


def _fields(texts: list[bytes]) -> dict[bytes, bytes]:
    if not texts or len(texts) % 2:
        raise BadPayload("names without values")
    fields = dict(zip(texts[::2], texts[1::2], strict=True))
    if 2 * len(fields) != len(texts):
        raise BadPayload("a name that is there twice")
    return fields


def _text(rest: bytes) -> bytes:
    """
    A text behind its length, and nothing else.
    """
    if not rest:
        raise BadPayload("it ends too early")
    form = rest[0] >> 6
    if form == 0:
        start, length = 1, rest[0] & 0x3F
    elif form == 1:
        start, length = 2, int.from_bytes(rest[:2], "big") & 0x3FFF
    elif rest[0] == 0x80:
        start, length = 5, int.from_bytes(rest[1:5], "big")
    else:
        raise BadPayload("a length of an unknown form")
    if len(rest) != start + length:
        raise BadPayload("a text of another length")
    return rest[start:]


def _entries(rest: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(rest):
        text, size = _entry(rest, at)
        at += size
        tail = rest[at : at + _tail_length(size)]
        if _tail_value(tail) != size:
            raise BadPayload("a tail that does not lead back")
        at += len(tail)
        if at > len(rest):
            raise BadPayload("an entry behind the end")
        yield text


def _entry(rest: bytes, at: int) -> Entry:
    first = rest[at]
    if first < 0x80:
        return Entry(b"%d" % first, 1)
    if first < 0xC0:
        return _string(rest, at + 1, first & 0x3F, 1)
    if first < 0xE0:
        number = (first & 0x1F) << 8 | _number(rest, at + 1, 1)
        return Entry(b"%d" % (number - (1 << 13) if number >> 12 else number), 2)
    if first < 0xF0:
        return _string(rest, at + 2, (first & 0x0F) << 8 | _number(rest, at + 1, 1), 2)
    width = _WIDTHS.get(first)
    if width is None:
        raise BadPayload("an entry of an unknown form")
    return Entry(b"%d" % _signed(rest, at + 1, width), 1 + width)


_WIDTHS: Mapping[int, int] = {0xF1: 2, 0xF2: 3, 0xF3: 4, 0xF4: 8}
"""Bytes of an integer behind each first byte."""


def _string(rest: bytes, at: int, length: int, head: int) -> Entry:
    text = rest[at : at + length]
    if len(text) != length:
        raise BadPayload("an entry behind the end")
    return Entry(text, head + length)


def _number(rest: bytes, at: int, width: int) -> int:
    digits = rest[at : at + width]
    if len(digits) != width:
        raise BadPayload("an entry behind the end")
    return int.from_bytes(digits, "little")


def _signed(rest: bytes, at: int, width: int) -> int:
    number = _number(rest, at, width)
    return number - (1 << 8 * width) if number >> (8 * width - 1) else number


def _tail_length(size: int) -> int:
    length = 1
    while size >> 7 * length:
        length += 1
    return length


def _tail_value(tail: bytes) -> int:
    """
    Read as the server reads it: from the last byte on, until one has no top bit.
    """
    value = 0
    for at, byte in enumerate(reversed(tail)):
        value |= (byte & 0x7F) << 7 * at
        if byte < 0x80:
            return value if at == len(tail) - 1 else -1
    return -1


def _byte(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ _POLYNOMIAL if value & 1 else value >> 1
    return value


_TABLE = [_byte(value) for value in range(256)]

__all__ = ["BadPayload", "contents", "crc64", "listpack"]
