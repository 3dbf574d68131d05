"""
What the tests of the Redis side share: targets, records, a clock that does not wait, a proxy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from migrate.model.events import Waiting
from migrate.model.secret import Secret
from migrate.model.shape import RecordShape
from migrate.model.values import Fence, Record
from migrate.target.loader import ScriptLoader
from migrate.target.store import RedisTarget
from tests.servers import RedisServer
from tests.target.network import Proxy

RUN = "0f6b2c1e-0000-4000-8000-000000000001"

OTHER_RUN = "0f6b2c1e-0000-4000-8000-000000000002"

MAPPING = "users"

AS_MIGRATE = {"username": "migrate", "password": Secret("CANARY-acl")}
"""The login of whoever `restricted` makes."""

SHAPE = RecordShape(fingerprint="0" * 32, template="user:{id}")
"""Of the records that `record` makes."""


@dataclass
class Skipping:
    """
    A clock that jumps over every wait; `then` happens during a wait, once each, in order.
    """

    slept: list[float] = field(default_factory=list)
    then: list[Callable[[], object]] = field(default_factory=list)
    elapsed: float = 0.0

    def now(self) -> float:
        return self.elapsed

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.elapsed += seconds
        if self.then:
            self.then.pop(0)()


@dataclass
class Heard:
    """
    A `Notify` that remembers.
    """

    waits: list[Waiting] = field(default_factory=list)

    def __call__(self, waiting: Waiting) -> None:
        self.waits.append(waiting)

    @property
    def reasons(self) -> set[str]:
        return {waiting.reason for waiting in self.waits}


def record(
    number: int,
    *,
    version: int | str = 1,
    digest: str | None = None,
    fields: int = 2,
    size: int = 8,
) -> Record:
    """
    A sound record; its digest follows from its number unless given.
    """
    pairs = []
    for at in range(fields):
        pairs += [b"field_%d" % at, (b"%d.%d." % (number, at)).ljust(size, b"x")]
    mark = digest or f"{number:016x}"
    return Record(b"user:%d" % number, str(version).encode(), mark.encode(), tuple(pairs))


def records(count: int, **changes: Any) -> list[Record]:
    """
    Records of the numbers from 0.
    """
    return [record(number, **changes) for number in range(count)]


def stored(server: RedisServer) -> dict[bytes, dict[bytes, bytes]]:
    """
    Every record that the server holds.
    """
    client = server.client()
    keys = sorted(client.scan_iter(match="user:*", count=1000))
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.hgetall(key)
        return dict(zip(keys, pipe.execute(), strict=True))


def expected(batch: list[Record]) -> dict[bytes, dict[bytes, bytes]]:
    """
    What the server must hold after these records were written exactly once.
    """
    return {
        one.key: {
            b"_v": one.version,
            b"_h": one.digest,
            **dict(zip(one.fields[::2], one.fields[1::2], strict=True)),
        }
        for one in batch
    }


def begin(target: RedisTarget, **changes: Any) -> Fence:
    """
    Begin the usual run.
    """
    claim: dict[str, Any] = {
        "run": RUN,
        "expected": None,
        "generation": 0,
        "revision": 1,
        "fingerprint": "f1",
    }
    return target.begin(MAPPING, **{**claim, **changes})


def loader(target: RedisTarget, fence: Fence | None = None) -> ScriptLoader:
    """
    A loader of the usual run, begun unless a fence is given.
    """
    return target.loader(MAPPING, fence or begin(target), SHAPE)


@pytest.fixture
def clock() -> Skipping:
    """
    A clock that jumps over waits.
    """
    return Skipping()


@pytest.fixture
def heard() -> Heard:
    """
    What adapters say before they wait.
    """
    return Heard()


@pytest.fixture
def open_target(clock: Skipping, heard: Heard) -> Iterator[Callable[..., RedisTarget]]:
    """
    Opens targets that are closed with the test: `open_target(server, timeout_s=1)`.
    """
    with ExitStack() as stack:

        def make(server: RedisServer, **changes: Any) -> RedisTarget:
            target = RedisTarget.open(server.config(**changes), heard, clock)
            return stack.enter_context(target)

        yield make


@pytest.fixture
def target(redis_server: RedisServer, open_target: Callable[..., RedisTarget]) -> RedisTarget:
    """
    The shared Redis, empty, as a target.
    """
    return open_target(redis_server)


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    """
    A way to the shared Redis that can lose requests and replies.
    """
    with Proxy(redis_server.port) as made:
        yield made


@pytest.fixture
def restricted(redis_server: RedisServer) -> Iterator[Callable[[str], RedisServer]]:
    """
    Makes the user `migrate` with the commands and keys of an ACL line.
    """
    client = redis_server.client()

    def make(line: str) -> RedisServer:
        client.execute_command(*line.replace("PASSWORD", "CANARY-acl").split(" "))
        return redis_server

    yield make
    client.acl_deluser("migrate")
