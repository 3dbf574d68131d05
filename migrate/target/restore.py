"""
RESTORE as it goes over a connection, in pieces: those of a whole batch are joined only once.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from migrate.target.payload_check import BadPayload

Item = tuple[bytes, ...]
"""The pieces of one command: what stands before the key, the key, then how it goes on."""

_END = b"\r\n"
_FOR_EVER = b"\r\n$1\r\n0\r\n$%d\r\n"
_PAYLOADS = [_FOR_EVER % size for size in range(4_096)]

BEFORE_KEY = [_END + b"*4\r\n$7\r\nRESTORE\r\n$%d\r\n" % size for size in range(4_096)]
"""What stands between a payload and the next key, by the size of the key; none is longer.

Looked up, because formatting costs as much as all the rest of a command."""


def before_payload(size: int) -> bytes:
    """
    What stands between a key and a payload of so many bytes, which will stay until it is deleted.
    """
    return _PAYLOADS[size] if size < len(_PAYLOADS) else _FOR_EVER % size


def command(key: bytes, payload: bytes) -> Item:
    """
    The command for one key.
    """
    return BEFORE_KEY[len(key)], key, before_payload(len(payload)), payload


def payload_in(item: Item) -> bytes:
    """
    The payload of a command, in one piece.

    Raises:
        BadPayload: The server would take it for another command, or for several.
    """
    payload = b"".join(item[2:]).split(_END, 4)[-1]
    if b"".join(item) != b"".join(command(item[1], payload)):
        raise BadPayload("a size that is not its own")
    return payload


def joined(items: Iterable[Item], behind: bytes) -> bytes:
    """
    The commands, one behind the other, and what is sent with them.
    """
    pieces = list(chain.from_iterable(items))
    if pieces:
        pieces[0] = pieces[0].removeprefix(_END)
        pieces.append(_END)
    pieces.append(behind)
    return b"".join(pieces)


__all__ = ["BEFORE_KEY", "Item", "before_payload", "command", "joined", "payload_in"]
