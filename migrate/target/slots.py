"""
Slots of a Cluster, and for each a short text that is in it.

With that text as its hash tag, a key of ours stands in the slot of any record key, so that record
keys never change their shape.
"""

from __future__ import annotations

from functools import cache
from itertools import count

from redis.crc import key_slot

SLOTS = 16_384


def slot_of(key: bytes) -> int:
    """
    The slot of a key: of its hash tag, where it has one.
    """
    return key_slot(key)


@cache
def tags() -> tuple[str, ...]:
    """
    A hash tag for each slot: the lowest number whose digits are in it.
    """
    found: dict[int, str] = {}
    for number in count():
        found.setdefault(key_slot(b"%d" % number), str(number))
        if len(found) == SLOTS:
            return tuple(found[slot] for slot in range(SLOTS))
    raise AssertionError("there are more numbers than slots")
