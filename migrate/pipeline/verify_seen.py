"""
What the way from SQL leaves for the way back: how many records it met, and which, as sums.

Each record key has a number of 64 bits, a hash of it under a seed of the run. The number's lowest
bits name one of `BUCKETS` buckets, which keeps how many keys were added and the sum of their
numbers. Two sets of keys with the same counts and sums are the same set: one key in the place of
another would have to have its whole number, which is a chance of one in 2^64. A key too many, too
few, or given twice makes its bucket another one.

A bucket is 128 bits, 96 of the sum and 32 of the count, and all of them stand side by side in one
large number, so that adding two such numbers adds every bucket to its like.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Self

BUCKETS = 4_096
"""A power of two; as many of all keys are looked at for one that is wrong."""

_ONE = 1 << 96
_LOWEST = BUCKETS - 1
_BYTES = 16


class Seen:
    """
    Counts and sums of record keys by bucket.

    Args:
        run: What all that is ever compared or added has in common; nobody knows it beforehand.
    """

    def __init__(self, run: str) -> None:
        self._seed = blake2b(run.encode(), digest_size=8).copy
        self._cells = [0] * BUCKETS

    @classmethod
    def of(cls, run: str, added: Iterable[bytes]) -> Self:
        """
        The sum of several as `dump` gave them.
        """
        made = cls(run)
        total = sum((int.from_bytes(one, "little") for one in added), 0)
        whole = total.to_bytes(BUCKETS * _BYTES, "little")
        made._cells = [
            int.from_bytes(whole[at : at + _BYTES], "little") for at in range(0, len(whole), _BYTES)
        ]
        return made

    def add(self, keys: Iterable[bytes]) -> None:
        """
        Add each of these keys, as often as it is given.
        """
        cells = self._cells
        for number in self._numbers(keys):
            cells[number & _LOWEST] += number + _ONE

    def buckets(self, keys: Iterable[bytes]) -> Sequence[int]:
        """
        The bucket of each key.
        """
        return [number & _LOWEST for number in self._numbers(keys)]

    def differing(self, other: Seen) -> set[int]:
        """
        Buckets that do not hold the same keys in both.
        """
        pairs = enumerate(zip(self._cells, other._cells, strict=True))
        return {at for at, (one, two) in pairs if one != two}

    def count(self, but: set[int]) -> int:
        """
        How many keys were added, those of some buckets left out.
        """
        return sum(cell // _ONE for at, cell in enumerate(self._cells) if at not in but)

    def dump(self) -> bytes:
        """
        The large number; nothing at all where no key was added.
        """
        if not any(self._cells):
            return b""
        return b"".join(cell.to_bytes(_BYTES, "little") for cell in self._cells)

    def _numbers(self, keys: Iterable[bytes]) -> Iterable[int]:
        seed = self._seed
        digests = []
        for key in keys:
            hashed = seed()
            hashed.update(key)
            digests.append(hashed.digest())
        return memoryview(b"".join(digests)).cast("Q")


__all__ = ["BUCKETS", "Seen"]
