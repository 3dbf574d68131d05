"""
Loaders write in the steps that a pace gives them, and wait where it says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from migrate.model.ports import Pace
from migrate.model.values import Outcome
from migrate.target.store import RedisTarget
from tests.servers import RedisServer
from tests.target.conftest import MAPPING, SHAPE, begin, records

STEP = 7


@dataclass
class Counting:
    """
    A pace that waits for nobody and keeps what it was asked.
    """

    most: int = STEP
    waited: list[int] = field(default_factory=list)
    looked: int = 0
    ends_at: int | None = None

    def wait(self, records: int) -> None:
        if self.ends_at is not None and sum(self.waited) >= self.ends_at:
            raise KeyboardInterrupt
        self.waited.append(records)

    def look(self) -> None:
        self.looked += 1


def calls(server: RedisServer, command: str) -> int:
    """
    How often the server ran a command since its statistics were reset.
    """
    with server.client() as client:
        return int(client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))


def test_the_script_writes_in_steps(
    redis_server: RedisServer, open_target: Callable[..., RedisTarget]
) -> None:
    """
    Each step is a script and a round trip of its own.
    """
    target = open_target(redis_server)
    pace = Counting()
    writes = target.loader(MAPPING, begin(target), SHAPE, pace=pace)
    with redis_server.client() as client:
        client.config_resetstat()

    receipt = writes.write(records(100))

    assert receipt.outcomes == [Outcome.WRITTEN] * 100
    assert pace.waited == [STEP] * 14 + [2]
    assert pace.looked == 15
    assert calls(redis_server, "evalsha") >= 15


def test_payloads_are_written_in_steps(
    bulk_redis: RedisServer, open_target: Callable[..., RedisTarget]
) -> None:
    """
    Each step is a transaction of its own.
    """
    target = open_target(bulk_redis)
    pace = Counting()
    writes = target.bulk(MAPPING, begin(target), SHAPE, pace)
    assert writes is not None
    assert list(writes.batches(STEP + 1)) == [slice(0, STEP), slice(STEP, 2 * STEP)]
    with bulk_redis.client() as client:
        client.config_resetstat()

    receipt = writes.write(records(100))
    writes.close()

    assert receipt.outcomes == [Outcome.WRITTEN] * 100
    assert pace.waited == [STEP] * 14 + [2]
    assert pace.looked == 15
    assert calls(bulk_redis, "exec") == 15


@pytest.mark.parametrize("way", ["script", "payloads"])
def test_a_run_that_ends_while_it_waits_can_be_repeated(
    bulk_redis: RedisServer, open_target: Callable[..., RedisTarget], way: str
) -> None:
    """
    Steps before the wait are written, those behind it are not, and the connection is sound.
    """
    target = open_target(bulk_redis)
    pace = Counting(ends_at=3 * STEP)
    fence = begin(target)

    def loader(pace: Pace) -> object:
        if way == "script":
            return target.loader(MAPPING, fence, SHAPE, pace=pace)
        return target.bulk(MAPPING, fence, SHAPE, pace)

    with pytest.raises(KeyboardInterrupt):
        loader(pace).write(records(100))  # type: ignore[attr-defined]
    receipt = loader(Counting()).write(records(100))  # type: ignore[attr-defined]

    there = receipt.outcomes.count(Outcome.SAME)
    assert 2 * STEP <= there <= 3 * STEP
    assert receipt.outcomes.count(Outcome.WRITTEN) == 100 - there
