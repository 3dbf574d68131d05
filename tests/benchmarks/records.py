"""
The records that a load has left in Redis: written as a ready file, counted and compared.

A contender that loads something else than the others is no contender.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import redis

from tests.benchmarks.data import key_of

OUR_KEYS = b"profile-migrate:*"
"""What we keep in Redis beside records."""

OURS = frozenset({b"_v", b"_h"})
"""Fields that our records carry; only the ready file has them too."""

SAMPLE = 1_000
BATCH = 1_000

Fields = dict[bytes, bytes]


class Different(Exception):
    """
    A load has left other records than it should.
    """


@dataclass(frozen=True, slots=True)
class Expected:
    """
    What every load of a table must leave: so many keys, and these records among them.
    """

    keys: int
    sample: dict[bytes, Fields]

    def check(self, client: redis.Redis, *, marked: bool) -> None:
        """
        Count and compare.

        Args:
            marked: The records carry our two fields.

        Raises:
            Different: Something is missing, too much, or not the same.
        """
        keys = int(client.dbsize()) - sum(1 for _ in client.scan_iter(OUR_KEYS, count=10_000))
        if keys != self.keys:
            raise Different(f"left {keys:,} keys where {self.keys:,} are expected")
        for key, fields in _read(client, list(self.sample)):
            if marked and not fields.keys() >= OURS:
                raise Different(f"{key.decode()} has no {sorted(OURS - fields.keys())}")
            wanted = self.sample[key]
            found = {name: value for name, value in fields.items() if name not in OURS}
            if found != wanted:
                names = sorted(n for n in {*found, *wanted} if found.get(n) != wanted.get(n))
                raise Different(f"{key.decode()} differs in {b', '.join(names).decode()}")


def expected(client: redis.Redis, rows: int) -> Expected:
    """
    What the load that was just done has left, as the measure for all others.
    """
    chosen = random.Random(rows).sample(range(1, rows + 1), min(SAMPLE, rows))
    keys = [_key(number) for number in chosen]
    sample = {
        key: {name: value for name, value in fields.items() if name not in OURS}
        for key, fields in _read(client, keys)
    }
    if empty := [key for key, fields in sample.items() if not fields]:
        raise Different(f"left no {empty[0].decode()}")
    return Expected(rows, sample)


def write_ready(client: redis.Redis, rows: int, path: Path) -> None:
    """
    Write every record as the HSET that makes it, in the order of the ids, for `redis-cli --pipe`.
    """
    numbers = iter(range(1, rows + 1))
    with path.open("wb") as file:
        while keys := [_key(number) for number in islice(numbers, BATCH)]:
            file.writelines(_command(key, fields) for key, fields in _read(client, keys))


def _command(key: bytes, fields: Fields) -> bytes:
    parts = [b"HSET", key, *(part for pair in fields.items() for part in pair)]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts)


def _key(number: int) -> bytes:
    return b"profile:%d" % key_of(number)


def _read(client: redis.Redis, keys: Sequence[bytes]) -> Iterator[tuple[bytes, Fields]]:
    with client.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.hgetall(key)
        yield from zip(keys, pipeline.execute(), strict=True)
