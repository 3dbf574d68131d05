"""
Ready payloads behind the fence: the same answers as the script, on real servers that misbehave.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from redis.exceptions import ResponseError

from migrate.errors import Fenced, MigrateError, TargetLostData, Unexpected
from migrate.model.settings import Node
from migrate.model.shape import RecordShape
from migrate.model.values import Expiry, Fence, LookupKind, Outcome, Receipt, Record, RecordType
from migrate.target.bulk import (
    LOOKED_AT,
    MAX_BATCH,
    MAX_BATCH_BYTES,
    BulkLoader,
    payload_of,
)
from migrate.target.fence import fence_key
from migrate.target.payload import seal
from migrate.target.probe import acl_rule
from migrate.target.restore import Item, command, payload_in
from migrate.target.retry import SystemClock
from migrate.target.store import RedisTarget
from tests.servers import HOST, RedisServer, Servers, free_port, wait_until
from tests.target.conftest import (
    AS_MIGRATE,
    MAPPING,
    OTHER_RUN,
    RUN,
    SHAPE,
    Heard,
    Skipping,
    begin,
    expected,
    record,
    records,
    stored,
)
from tests.target.network import Proxy
from tests.target.test_target_faults import BREAKS, check_waits_and_finishes
from tests.topologies import RedisCluster, sentinel_group

TEXTS = RecordShape(fingerprint="0" * 32, template="user:{id}", record=RecordType.STRING)
"""Of string records."""

CAPTURED = 3 * 10**12
"""A version that orders: of the third generation of a capture."""


@pytest.fixture
def bulk(
    bulk_redis: RedisServer, open_target: Callable[..., RedisTarget]
) -> Iterator[Callable[..., BulkLoader]]:
    """
    Makes loaders of the usual run: `bulk(retry_for_s=600)`.
    """
    made: list[BulkLoader] = []

    def make(fence: Fence | None = None, shape: RecordShape = SHAPE, **changes: Any) -> BulkLoader:
        target = open_target(bulk_redis, **changes)
        made.append(bulk_loader(target, fence, shape))
        return made[-1]

    yield make
    for one in made:
        one.close()


def bulk_loader(
    target: RedisTarget, fence: Fence | None = None, shape: RecordShape = SHAPE
) -> BulkLoader:
    """
    A loader of a target that takes payloads; begins the usual run unless a fence is given.
    """
    found = target.bulk(MAPPING, fence or begin(target), shape)
    assert found is not None
    return found


def items(batch: Sequence[Record], shape: RecordShape = SHAPE) -> list[Item]:
    """
    Commands for records that are small enough.
    """
    made = [(one.key, payload_of(one, shape)) for one in batch]
    return [command(key, payload) for key, payload in made if payload is not None]


def batched(found: Sequence[Item], size: int = 100) -> Iterator[Sequence[Item]]:
    """
    Batches of so many.
    """
    for start in range(0, len(found), size):
        yield found[start : start + size]


def text(number: int, version: int = 1, digest: str = "", more: str = "") -> Record:
    """
    A string record.
    """
    mark = digest or f"{number:016x}"
    held = f'{{"_v":"{version}","_h":"{mark}","name":"{number}{more}"}}'.encode()
    return Record(b"user:%d" % number, str(version).encode(), mark.encode(), (held,))


# --- what is written -----------------------------------------------------------------------------


def test_everything_reads_back(bulk_redis: RedisServer, bulk: Callable[..., BulkLoader]) -> None:
    """
    Field for field, over many batches of every size, on a server that checks what it is given.
    """
    bulk_redis.set(sanitize_dump_payload="yes")
    batch = records(3_000, fields=7, size=70)
    sizes = itertools.cycle([1, 2, 499, 500, 501, 3])
    found, batches = items(batch), []
    while found:
        size = next(sizes)
        batches.append(found[:size])
        found = found[size:]

    there = bulk().restore(iter(batches))

    assert there == []
    assert stored(bulk_redis) == expected(batch)


def test_batches_are_made_while_the_server_works(
    bulk_redis: RedisServer, bulk: Callable[..., BulkLoader]
) -> None:
    """
    The second batch is asked for when the first is on its way, and not before.
    """
    loader, client = bulk(), bulk_redis.client()
    seen = []

    def batches() -> Iterator[Sequence[Item]]:
        yield items(records(50))
        wait_until(lambda: client.exists("user:49"), "the batch before to be there")
        seen.append(client.dbsize())
        yield items([record(50)])

    assert loader.restore(batches()) == []
    assert seen == [51]


def test_nothing_is_written_of_nothing(
    bulk_redis: RedisServer, bulk: Callable[..., BulkLoader]
) -> None:
    """
    No batches and empty batches are no trouble.
    """
    loader = bulk()

    assert loader.restore([]) == []
    assert loader.restore([[], items([record(1)]), []]) == []
    assert list(loader.write([]).outcomes) == []
    assert len(stored(bulk_redis)) == 1


def test_large_batches_are_divided(
    bulk_redis: RedisServer, bulk: Callable[..., BulkLoader]
) -> None:
    """
    No transaction has more than 500 records, nor more than half a megabyte.
    """
    loader = bulk()
    sent: list[int] = []
    sizes: list[int] = []
    send = loader._wire.restore

    def count(transaction: bytes) -> None:
        sent.append(transaction.count(b"\r\nRESTORE\r\n"))
        sizes.append(len(transaction))
        send(transaction)

    # How many transactions there were is not to be seen from outside.
    loader._wire.restore = count  # type: ignore[method-assign]

    loader.restore([items(records(1_001))])
    loader.restore([items([record(n, fields=10, size=4_000) for n in range(2_000, 2_100)])])

    assert sent[:3] == [MAX_BATCH, MAX_BATCH, 1]
    assert sum(sent[3:]) == 100
    assert max(sent[3:]) * 40_000 < max(sizes) <= MAX_BATCH_BYTES


def test_what_a_server_queues_at_least_is_enough(
    bulk_redis: RedisServer, bulk: Callable[..., BulkLoader], heard: Heard
) -> None:
    """
    With the least `client-query-buffer-limit`, which servers since 7.2 hold transactions against.
    """
    bulk_redis.set(client_query_buffer_limit="1mb")
    batch = [
        one._replace(key=b"user:%0500d" % at)
        for at, one in enumerate(records(1_000, fields=1, size=1_990))
    ]

    assert bulk(retry_for_s=5).restore(batched(items(batch), MAX_BATCH)) == []

    assert heard.waits == []
    assert stored(bulk_redis) == expected(batch)


def test_texts_of_replies_in_values(
    bulk_redis: RedisServer, bulk: Callable[..., BulkLoader]
) -> None:
    """
    Values and keys that look like replies, errors or commands confuse nothing.
    """
    awkward = [
        b"-BUSYKEY Target key name already exists.\r\n",
        b"+OK\r\n", b"+QUEUED\r\n", b"*-1\r\n", b"$-1\r\n", b"\r\nEXEC\r\n",
        b"*1\r\n$4\r\nEXEC\r\n", b"-ERR", b":1\r\n", b"\x00\xff\r\n",
    ]  # fmt: skip
    batch = [
        Record(b"user:%d:%b" % (at, one), b"1", b"%016x" % at, (b"name" + one, one, one, b"x"))
        for at, one in enumerate(awkward)
    ]
    loader = bulk()

    first = loader.write(batch)
    again = loader.write(batch)

    assert set(first.outcomes) == {Outcome.WRITTEN}
    assert set(again.outcomes) == {Outcome.SAME}
    assert stored(bulk_redis) == expected(batch)


# --- as the script answers -----------------------------------------------------------------------


class Scene:
    """
    Records, each of which meets something else under its key.
    """

    def __init__(self, server: RedisServer, shape: RecordShape) -> None:
        self.client = server.client()
        self.texts = shape.record is RecordType.STRING
        self.made: list[Record] = []

    @property
    def key(self) -> str:
        return f"user:{len(self.made)}"

    def add(self, version: int, more: int = 0) -> None:
        number = len(self.made)
        if self.texts:
            self.made.append(text(number, version, more="x" * more))
        else:
            self.made.append(record(number, version=version, size=8 + more))

    def there(self, version: int, digest: str = "") -> None:
        if self.texts:
            self.client.set(self.key, text(len(self.made), version, digest).fields[0])
        else:
            mark = digest or f"{len(self.made):016x}"
            self.client.hset(self.key, mapping={"_v": version, "_h": mark, "old": "x"})

    def tombstone(self, version: int) -> None:
        if self.texts:
            self.client.set(self.key, f'{{"_v":"{version}","_t":1}}')
        else:
            self.client.hset(self.key, mapping={"_v": version, "_t": 1})

    def foreign(self, word: str, *values: Any) -> None:
        self.client.execute_command(word, self.key, *values)


def prepare(server: RedisServer, shape: RecordShape) -> list[Record]:
    """
    The whole scene: absent, older, same, newer, dead, foreign, too large, and twice in a batch.
    """
    scene = Scene(server, shape)
    for ours in (5, CAPTURED + 5):
        scene.add(ours)
        for theirs in (ours - 1, ours, ours + 1):
            for digest in ("", "f" * 16):
                scene.there(theirs, digest)
                scene.add(ours)
            scene.tombstone(theirs)
            scene.add(ours)
    for word, *values in (
        ("SET", "text"), ("HSET", "f", "v"), ("RPUSH", "x"), ("SADD", "x"), ("ZADD", 1, "x"),
        ("HSET", "_v", "01", "_h", "0" * 16), ("HSET", "_v", "5"), ("SET", "{}"),
    ):  # fmt: skip
        scene.foreign(word, *values)
        scene.add(5)
    scene.there(4)
    scene.add(5, more=5_000)
    scene.add(5, more=70_000)
    first = scene.made[0]
    scene.made += [first, *(_at_version(first, version) for version in (b"6", b"4"))]
    return scene.made


def _at_version(one: Record, version: bytes) -> Record:
    if len(one.fields) > 1:
        return one._replace(version=version)
    # The head of a string record says its version.
    tail = one.fields[0].partition(b'",')[2]
    return one._replace(version=version, fields=(b'{"_v":"%b",%b' % (version, tail),))


def everything(server: RedisServer) -> dict[bytes, bytes | dict[bytes, bytes] | None]:
    """
    What is under every key of a record.
    """
    client = server.client()
    found: dict[bytes, Any] = {}
    for key in sorted(client.scan_iter(match="user:*", count=1000)):
        kind = client.type(key)
        read = {b"hash": client.hgetall, b"string": client.get}.get(kind, lambda _: None)
        found[key] = read(key)
    return found


def plainly(receipt: Receipt) -> tuple[list[Outcome], dict[int, str], dict[int, int]]:
    """
    The parts of a receipt.
    """
    return list(receipt.outcomes), dict(receipt.found), dict(receipt.lookups)


@pytest.mark.parametrize("shape", [SHAPE, TEXTS], ids=["hash", "string"])
def test_the_answers_are_those_of_the_script(
    bulk_redis: RedisServer, open_target: Callable[..., RedisTarget], shape: RecordShape
) -> None:
    """
    Whatever is under a key, absent or older or newer or dead or foreign, both paths do the same.
    """
    target = open_target(bulk_redis)
    batch = prepare(bulk_redis, shape)
    receipt = target.loader(MAPPING, begin(target), shape).write(batch)
    by_script = plainly(receipt), everything(bulk_redis)
    bulk_redis.client().flushall()
    prepare(bulk_redis, shape)

    receipt = bulk_loader(target, begin(target), shape).write(batch)

    assert (plainly(receipt), everything(bulk_redis)) == by_script
    assert {*receipt.outcomes} == {
        Outcome.WRITTEN, Outcome.REPLACED, Outcome.SAME, Outcome.STALE, Outcome.CONFLICT,
        Outcome.COLLISION,
    }  # fmt: skip


@pytest.mark.parametrize("shape", [SHAPE, TEXTS], ids=["hash", "string"])
def test_restored_and_settled_is_the_same(
    bulk_redis: RedisServer, open_target: Callable[..., RedisTarget], shape: RecordShape
) -> None:
    """
    Payloads first, and the script for the keys that were there: the same as the script for all.
    """
    target = open_target(bulk_redis)
    batch = [one for one in prepare(bulk_redis, shape) if payload_of(one, shape)]
    by_script = plainly(target.loader(MAPPING, begin(target), shape).write(batch))
    state = everything(bulk_redis)
    bulk_redis.client().flushall()
    prepare(bulk_redis, shape)
    loader = bulk_loader(target, begin(target), shape)

    there = loader.restore(batched(items(batch, shape), 7))
    receipt = loader.settle([batch[at] for at in there])

    outcomes = [Outcome.WRITTEN] * len(batch)
    for at, outcome in zip(there, receipt.outcomes, strict=True):
        outcomes[at] = outcome
    assert outcomes == by_script[0]
    assert {there[at]: version for at, version in receipt.found.items()} == by_script[1]
    assert everything(bulk_redis) == state


def test_nobody_who_was_deleted_comes_back(
    bulk_redis: RedisServer, bulk: Callable[..., BulkLoader]
) -> None:
    """
    A tombstone answers like a record: RESTORE leaves it, and the script compares versions.
    """
    client = bulk_redis.client()
    client.hset("user:3", mapping={"_v": CAPTURED + 9, "_t": 1})
    loader = bulk()

    there = loader.restore([items(records(10, version=CAPTURED + 8))])
    receipt = loader.settle([record(3, version=CAPTURED + 8)])

    assert there == [3]
    assert list(receipt.outcomes) == [Outcome.STALE]
    assert client.hgetall("user:3") == {b"_v": b"%d" % (CAPTURED + 9), b"_t": b"1"}


def test_where_most_is_there_the_script_goes_first(
    bulk_redis: RedisServer, bulk: Callable[..., BulkLoader]
) -> None:
    """
    A second run does not try RESTORE in vain all the time, and takes it up again when it helps.
    """
    loader = bulk()
    assert loader.promising
    loader.write(records(400))
    assert loader.promising

    again = loader.write(records(400))

    assert set(again.outcomes) == {Outcome.SAME}
    assert not loader.promising
    assert set(loader.write(records(400, version=2)).outcomes) == {Outcome.REPLACED}
    assert not loader.promising
    receipt = loader.write([record(number) for number in range(350, 900)])
    assert receipt.outcomes.count(Outcome.WRITTEN) == 500
    assert loader.promising


# --- the fence -----------------------------------------------------------------------------------

FLIPS: dict[str, Callable[[Any], object]] = {
    "newer run of ours": lambda c: c.hincrby(fence_key(MAPPING), "epoch", 1),
    "closed": lambda c: c.hset(fence_key(MAPPING), "mode", "closed"),
    "another run": lambda c: c.hset(fence_key(MAPPING), "run", OTHER_RUN),
    "deleted": lambda c: c.delete(fence_key(MAPPING)),
    "renamed": lambda c: c.rename(fence_key(MAPPING), "elsewhere"),
    "another type": lambda c: c.set(fence_key(MAPPING), "text"),
    "emptied hash": lambda c: c.hdel(fence_key(MAPPING), "mode", "epoch"),
    "flushed": lambda c: c.flushall(),
    "database flushed": lambda c: c.flushdb(),
    "swapped": lambda c: c.swapdb(0, 1),
    "expired": lambda c: c.pexpire(fence_key(MAPPING), 1) and wait_until(
        lambda: not c.exists(fence_key(MAPPING)), "the fence to go"
    ),
}  # fmt: skip


def error_of(write: Callable[[], object]) -> MigrateError:
    """
    The error that a write ends with.
    """
    with pytest.raises(MigrateError) as caught:
        write()
    return caught.value


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("name", FLIPS)
def test_a_fence_that_changes_stops_everything(
    bulk_redis: RedisServer,
    open_target: Callable[..., RedisTarget],
    name: str,
    step: int,
) -> None:
    """
    Between WATCH and EXEC of any batch: nothing is written from then on, with the script's error.
    """
    target = open_target(bulk_redis)
    loader, client = bulk_loader(target), bulk_redis.client()
    send, sent = loader._wire.send, []

    def flip_then_send(commands: bytes) -> None:
        if b"RESTORE" in commands:
            sent.append(len(commands))
            if len(sent) == step:
                FLIPS[name](client)
        send(commands)

    # The moment between WATCH and RESTORE cannot be met from outside.
    loader._wire.send = flip_then_send  # type: ignore[method-assign]

    error = error_of(lambda: loader.restore(batched(items(records(400)))))

    assert isinstance(error, Fenced | TargetLostData)
    kept = 0 if name in {"flushed", "database flushed", "swapped"} else (step - 1) * 100
    assert len(stored(bulk_redis)) == kept
    plain = error_of(lambda: loader.script.write(records(400)))
    assert (type(error), str(error), error.where) == (type(plain), str(plain), plain.where)
    assert error_of(lambda: loader.write(records(3))).where == plain.where
    bulk_redis.client().flushall()
    bulk_redis.client(db=1).flushall()


@pytest.mark.parametrize("name", FLIPS)
def test_a_fence_that_changed_before(
    bulk_redis: RedisServer, open_target: Callable[..., RedisTarget], name: str
) -> None:
    """
    The same before the first batch, and between two calls.
    """
    target = open_target(bulk_redis)
    loader = bulk_loader(target)
    loader.restore([items(records(10))])
    FLIPS[name](bulk_redis.client())

    error = error_of(lambda: loader.restore([items(records(400))]))

    assert isinstance(error, Fenced | TargetLostData)
    assert len(stored(bulk_redis)) in {0, 10}
    assert error.where == error_of(lambda: loader.script.write(records(400))).where
    bulk_redis.client(db=1).flushall()


def test_a_fence_that_is_touched_and_stays_ours(
    bulk_redis: RedisServer, bulk: Callable[..., BulkLoader], heard: Heard
) -> None:
    """
    Somebody writes a field of the fence that does not concern us, again and again: all is written.
    """
    loader, client = bulk(), bulk_redis.client()
    send, sent = loader._wire.send, []

    def touch_then_send(commands: bytes) -> None:
        if b"RESTORE" in commands:
            sent.append(len(commands))
            if len(sent) % 2:
                client.hset(fence_key(MAPPING), "floor", len(sent))
        send(commands)

    # The moment between WATCH and RESTORE cannot be met from outside.
    loader._wire.send = touch_then_send  # type: ignore[method-assign]

    assert loader.restore(batched(items(records(2_000)))) == []
    assert len(sent) == 40
    assert stored(bulk_redis) == expected(records(2_000))
    assert heard.waits == []


def test_under_load_nothing_follows_a_flip(
    bulk_redis: RedisServer, bulk: Callable[..., BulkLoader]
) -> None:
    """
    A newer run that takes over while batches fly finds the number of records standing still.
    """
    loader, client = bulk(), bulk_redis.client()
    counted: list[int] = []

    def take_over() -> None:
        wait_until(lambda: client.dbsize() > 2_000, "some records")
        with client.pipeline(transaction=True) as pipe:
            pipe.hincrby(fence_key(MAPPING), "epoch", 1)
            pipe.dbsize()
            counted.append(pipe.execute()[1])

    def go_on() -> None:
        for start in range(0, 10_000_000, 1_000):
            loader.restore([items([record(n) for n in range(start, start + 1_000)])])

    thread = threading.Thread(target=take_over)
    thread.start()
    try:
        error = error_of(go_on)
    finally:
        thread.join()

    assert isinstance(error, Fenced)

    assert client.dbsize() == counted[0]


# --- connections and servers that fail -----------------------------------------------------------


@pytest.fixture
def bulk_proxy(bulk_redis: RedisServer) -> Iterator[Proxy]:
    """
    A way to the server that can lose requests and replies.
    """
    with Proxy(bulk_redis.port) as made:
        yield made


@pytest.mark.parametrize("word", [b"EXEC", b"WATCH", b"RESTORE"])
def test_replies_that_are_lost(
    bulk_redis: RedisServer,
    bulk: Callable[..., BulkLoader],
    bulk_proxy: Proxy,
    heard: Heard,
    word: bytes,
) -> None:
    """
    A transaction whose answer never came is sent again; what it had written is SAME.
    """
    loader = bulk(nodes=(Node(HOST, bulk_proxy.port),), retry_for_s=600)
    bulk_proxy.lose_replies(1, 3, 700, of=word)
    batch = records(2_500, fields=3)

    outcomes = loader.write(batch).outcomes

    assert set(outcomes) <= {Outcome.WRITTEN, Outcome.SAME}
    assert bulk_proxy.lost > 0
    assert heard.reasons == {"connection"}
    assert stored(bulk_redis) == expected(batch)


@pytest.mark.parametrize("after", [0, 1, 7, 40, 100, 1_000, 20_000, 60_000, 150_000])
def test_requests_that_are_cut(
    bulk_redis: RedisServer, bulk: Callable[..., BulkLoader], bulk_proxy: Proxy, after: int
) -> None:
    """
    A connection that breaks inside a transaction has written nothing of it, or all of it.
    """
    loader = bulk(nodes=(Node(HOST, bulk_proxy.port),), retry_for_s=600)
    bulk_proxy.cut_request(after, of=b"RESTORE")
    batch = records(1_600, fields=3, size=40)

    there = loader.restore(batched(items(batch), 400))

    assert len(there) in {0, 400}
    assert stored(bulk_redis) == expected(batch)


def test_a_source_that_fails_leaves_nothing_behind(
    bulk_redis: RedisServer, bulk: Callable[..., BulkLoader]
) -> None:
    """
    Whatever the caller raises while a batch flies: the next call gets answers of its own.
    """
    loader = bulk()

    def batches() -> Iterator[Sequence[Item]]:
        yield items(records(100))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loader.restore(batches())
    there = loader.restore(batched(items(records(300))))

    assert there in ([], list(range(100)))
    assert stored(bulk_redis) == expected(records(300))


def test_connections_that_are_killed(
    bulk_redis: RedisServer, bulk: Callable[..., BulkLoader], clock: Skipping
) -> None:
    """
    They are made again, and the server is the same.
    """
    loader = bulk()
    loader.write(records(10))
    server = loader.server

    bulk_redis.client().execute_command("CLIENT KILL TYPE normal")
    receipt = loader.write([record(number) for number in range(10, 40)])

    assert set(receipt.outcomes) == {Outcome.WRITTEN}
    assert loader.server == server != ""


def test_a_connection_that_the_driver_closes_meanwhile(
    bulk_redis: RedisServer, open_target: Callable[..., RedisTarget]
) -> None:
    """
    A new connection knows nothing of WATCH and MULTI: no record ever goes over it unfenced.
    """
    target = open_target(bulk_redis, retry_for_s=60)
    loader, client = bulk_loader(target), bulk_redis.client()
    loader.restore([items(records(10))])
    target._link.client.connection_pool.disconnect()
    assert loader.restore([items([record(10)])]) == []
    send, sent = loader._wire.send, []

    def close_then_send(commands: bytes) -> None:
        if b"RESTORE" in commands:
            sent.append(len(commands))
            target._link.client.connection_pool.disconnect()
            client.hincrby(fence_key(MAPPING), "epoch", 1)
        send(commands)

    # The moment between WATCH and RESTORE cannot be met from outside.
    loader._wire.send = close_then_send  # type: ignore[method-assign]

    assert isinstance(error_of(lambda: loader.restore([items([record(11)])])), Fenced)
    assert len(sent) == 1
    assert len(stored(bulk_redis)) == 11


@pytest.mark.parametrize("name", BREAKS)
def test_takes_no_writes_now(
    bulk_redis: RedisServer,
    bulk: Callable[..., BulkLoader],
    clock: Skipping,
    heard: Heard,
    name: str,
) -> None:
    """
    A server that answers "not now" is waited for, as by the script; then exit 5, nothing changed.
    """
    check_waits_and_finishes(bulk_redis, bulk(retry_for_s=5), clock, heard, name)


def test_a_server_that_loads(
    modern: None,
    redis_fresh: Callable[..., RedisServer],
    clock: Skipping,
    open_target: Callable[..., RedisTarget],
) -> None:
    """
    A server that was killed and comes back with its data is waited for, and named as another one.
    """
    server = redis_fresh(appendonly="yes", appendfsync="always")
    loader = bulk_loader(open_target(server, retry_for_s=60))
    loader.write(records(10))
    before = loader.server
    server.kill()
    clock.then = [server.start]

    loader.write([record(number) for number in range(10, 700)])

    assert loader.server not in {"", before}
    assert stored(server) == expected(records(700))


def test_a_restart_without_data_stops_the_run(
    modern: None,
    redis_fresh: Callable[..., RedisServer],
    clock: Skipping,
    open_target: Callable[..., RedisTarget],
) -> None:
    """
    A server that came back empty has no fence: nothing is written to it.
    """
    server = redis_fresh()
    loader = bulk_loader(open_target(server, retry_for_s=60))
    loader.write(records(10))
    server.kill()
    clock.then = [server.start]

    with pytest.raises(TargetLostData):
        loader.restore(batched(items(records(700))))

    assert server.client().dbsize() == 0


def test_a_restart_between_two_batches_of_one_call(
    modern: None,
    redis_fresh: Callable[..., RedisServer],
    open_target: Callable[..., RedisTarget],
) -> None:
    """
    What a restart took away in the middle of a call is written again before the call returns.
    """
    server = redis_fresh()
    loader = bulk_loader(open_target(server, retry_for_s=60))
    # The fence is saved, and nothing that comes after it.
    server.client().save()
    before = loader.server

    def batches() -> Iterator[Sequence[Item]]:
        for number, batch in enumerate(batched(items(records(600)))):
            if number == 3:
                server.kill()
                server.start()
            yield batch

    loader.restore(batches())

    assert loader.server not in {"", before}
    assert stored(server) == expected(records(600))


def test_a_failover_is_followed(modern: None) -> None:
    """
    After a failover the same loader writes to the new master, and names another server.
    """
    with sentinel_group("main", replicas=True) as group:
        master, replica = group.masters["main"], group.replicas["main"]
        config = group.config(service="main", retry_for_s=60)
        with RedisTarget.open(config, clock=SystemClock()) as target:
            loader = bulk_loader(target)
            loader.write(records(100))
            before = loader.server
            wait_until(lambda: replica.client().dbsize() == 101, "the records to arrive")

            group.fail_over("main")
            master.kill()
            loader.write([record(number) for number in range(100, 400)])

            assert stored(replica) == expected(records(400))
            assert loader.server not in {"", before}


def test_a_failover_behind_one_address_is_followed(
    modern: None,
    redis_fresh: Callable[..., RedisServer],
    open_target: Callable[..., RedisTarget],
    heard: Heard,
) -> None:
    """
    Connections that stay with the former master are given up: nothing is counted that it alone got.
    """
    former, later = redis_fresh(), redis_fresh()
    with Proxy(former.port) as address:
        target = open_target(former, nodes=(Node(HOST, address.port),), retry_for_s=60)
        loader = bulk_loader(target)
        # As the throttle does: from now on the others have a connection to the former master too.
        target.signals()
        later.client().execute_command("REPLICAOF", HOST, str(former.port))
        wait_until(lambda: later.client().exists(fence_key(MAPPING)), "the fence to arrive")
        later.client().execute_command("REPLICAOF", "NO", "ONE")

        def batches() -> Iterator[Sequence[Item]]:
            yield items(records(100))
            wait_until(lambda: former.client().dbsize() == 101, "the first batch to be there")
            former.client().execute_command("REPLICAOF", HOST, str(free_port()))
            address.lead_to(later.port)
            yield items([record(number) for number in range(100, 300)])

        loader.restore(batches())

        assert stored(later) == expected(records(300))
        assert loader.server == later.client().info("server")["run_id"]
        assert target.identity().run_id == loader.server
        assert set(loader.settle(records(300)).outcomes) == {Outcome.SAME}
        assert loader.script.server == loader.server
        assert "readonly" in heard.reasons


# --- what is not sent ----------------------------------------------------------------------------


def test_a_wrong_payload_is_not_sent(
    bulk_redis: RedisServer, bulk: Callable[..., BulkLoader]
) -> None:
    """
    A bug of the encoder stops the run in front of the server: with the first records.
    """
    broken = items(records(3))
    broken[1] = command(b"user:1", seal(payload_in(broken[1])[:-11] + b"\x00"))

    with pytest.raises(Unexpected) as caught:
        bulk().restore([broken])

    assert caught.value.where["mapping"] == MAPPING
    assert stored(bulk_redis) == {}


@pytest.mark.parametrize(
    "payload",
    [
        payload_of(text(1), TEXTS),
        seal(b"\x00\x02{}"),
        payload_of(record(1)._replace(version=b"01"), SHAPE),
        payload_of(record(1)._replace(digest=b"x" * 16), SHAPE),
    ],
    ids=["text", "no record", "version", "digest"],
)
def test_what_is_no_record_is_not_sent(bulk: Callable[..., BulkLoader], payload: bytes) -> None:
    """
    Nor what the script would call malformed.
    """
    with pytest.raises(Unexpected):
        bulk().restore([[command(b"user:1", payload)]])


def test_a_command_of_another_size_is_not_sent(
    bulk_redis: RedisServer, bulk: Callable[..., BulkLoader]
) -> None:
    """
    The server would take what is behind its end for commands.
    """
    (good,) = items([record(1)])
    shorter = (*good[:3], good[3][:-1])

    with pytest.raises(Unexpected) as caught:
        bulk().restore([[shorter]])

    assert caught.value.where["reason"] == "a size that is not its own"
    assert stored(bulk_redis) == {}


def test_later_payloads_are_looked_at_now_and_then(bulk: Callable[..., BulkLoader]) -> None:
    """
    One in a thousand of a run that goes on: a bug that begins later is found.
    """
    loader = bulk()
    good = items(records(LOOKED_AT))
    loader.restore([good])
    broken = [
        command(b"user:x%d" % at, payload_in(item)[:-1] + b"\x00") for at, item in enumerate(good)
    ]

    with pytest.raises(Unexpected):
        loader.restore([broken, broken])


def test_a_payload_that_the_server_refuses_stops_the_run(
    bulk_redis: RedisServer, bulk: Callable[..., BulkLoader], heard: Heard
) -> None:
    """
    Any answer but BUSYKEY is an error, told without waiting; what was whole is written.
    """
    loader = bulk()
    loader.restore([items(records(LOOKED_AT))])
    broken = items([record(number) for number in range(1_000, 1_010)])
    broken[4] = command(broken[4][1], payload_in(broken[4])[:-1] + b"\x00")

    with pytest.raises(Unexpected) as caught:
        loader.restore([broken])

    assert caught.value.where["prefix"] == "ERR"
    assert len(stored(bulk_redis)) == LOOKED_AT + 9
    assert heard.waits == []


@pytest.mark.parametrize(
    "replies",
    [
        [b"QUEUED", b"QUEUED", [b"OK"]],
        [b"QUEUED", b"QUEUED", [b"OK", b"OK", b"OK"]],
        [b"QUEUED", b"QUEUED", b"OK"],
        [b"OK", b"OK", [b"OK", b"OK"]],
        [b"QUEUED", b"QUEUED", [b"OK", None]],
    ],
    ids=["too few", "too many", "no array", "not queued", "nothing"],
)
def test_answers_that_no_transaction_gives(
    bulk: Callable[..., BulkLoader], monkeypatch: pytest.MonkeyPatch, replies: list[Any]
) -> None:
    """
    Something between us and the server that answers for itself never makes a record count.
    """
    loader = bulk()
    aimed = [b"OK", [RUN.encode(), b"fwd", b"1"], b"OK"]
    # No server of ours answers so.
    monkeypatch.setattr(loader._wire, "receive", lambda *_: None)
    loader._wire.restore(b"")
    monkeypatch.setattr(loader._wire, "receive", lambda *_: [*replies, *aimed])

    with pytest.raises(ResponseError):
        loader._wire.landed(2)


def test_a_fence_that_no_server_tells(
    bulk: Callable[..., BulkLoader], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Nor does such an answer to the question for the fence let anything through.
    """
    loader = bulk()
    # No server of ours answers so.
    monkeypatch.setattr(loader._wire, "receive", lambda *_: [b"OK", None, b"OK"])

    with pytest.raises(Unexpected):
        loader.restore([items(records(3))])


# --- where it is not used ------------------------------------------------------------------------


def test_an_old_server_is_written_by_the_script(
    servers: Servers, open_target: Callable[..., RedisTarget]
) -> None:
    """
    Redis 6.2 does not read the payloads; that is found out without leaving a key.
    """
    server = servers.redis("embedded-6.2")
    target = open_target(server)

    unfit = target.bulk_unfit()

    assert unfit is not None
    assert not unfit.denied
    assert "7.0" in unfit.what
    assert server.client().dbsize() == 0
    assert target.bulk(MAPPING, begin(target), SHAPE) is None


@pytest.mark.parametrize("name", ["restore", "watch", "multi", "exec"])
def test_without_a_right_the_script_does_it(
    bulk_redis: RedisServer, open_target: Callable[..., RedisTarget], name: str
) -> None:
    """
    Each of the commands that a user may lack is named, and no key is left.
    """
    client = bulk_redis.client()
    line = f"{acl_rule(['user:'])} ".replace("PASSWORD", "CANARY-acl")
    client.execute_command(*line.replace(f" +{name} ", " ").strip().split(" "))
    target = open_target(bulk_redis, **AS_MIGRATE)

    unfit = target.bulk_unfit()

    assert unfit is not None
    assert unfit.denied
    assert name.upper() in unfit.what
    assert list(client.scan_iter()) == []
    assert target.bulk(MAPPING, Fence("fwd", 1, OTHER_RUN), SHAPE) is None
    client.acl_deluser("migrate")


def test_the_printed_acl_line_is_enough(
    bulk_redis: RedisServer, open_target: Callable[..., RedisTarget]
) -> None:
    """
    A user made by the line that doctor prints can restore.
    """
    client = bulk_redis.client()
    client.execute_command(*acl_rule(["user:"]).replace("PASSWORD", "CANARY-acl").split(" "))
    target = open_target(bulk_redis, **AS_MIGRATE)

    assert target.bulk_unfit() is None
    loader = bulk_loader(target)
    assert set(loader.write(records(700)).outcomes) == {Outcome.WRITTEN}
    assert stored(bulk_redis) == expected(records(700))
    client.acl_deluser("migrate")


def test_a_right_that_is_taken_away_stops_the_run(
    bulk_redis: RedisServer, open_target: Callable[..., RedisTarget], heard: Heard
) -> None:
    """
    In the middle, it is an error that a person mends, and nothing is half written.
    """
    client = bulk_redis.client()
    client.execute_command(*acl_rule(["user:"]).replace("PASSWORD", "CANARY-acl").split(" "))
    loader = bulk_loader(open_target(bulk_redis, **AS_MIGRATE))
    loader.write(records(10))
    client.acl_setuser("migrate", commands=["-restore"])

    error = error_of(lambda: loader.write([record(number) for number in range(10, 100)]))

    assert error.where["reason"] == "noperm"
    assert len(stored(bulk_redis)) == 10
    assert heard.waits == []
    client.acl_deluser("migrate")


def test_one_connection_is_not_enough(
    bulk_redis: RedisServer, open_target: Callable[..., RedisTarget]
) -> None:
    """
    With a pool of one there is none to spare; with two all works.
    """
    unfit = open_target(bulk_redis, pool_size=1).bulk_unfit()

    assert unfit is not None
    assert "pool_size" in unfit.what
    target = open_target(bulk_redis, pool_size=2)
    loader = bulk_loader(target)
    assert set(loader.write(records(600)).outcomes) == {Outcome.WRITTEN}
    assert target.signals().used_memory > 0
    loader.close()
    assert bulk_loader(target, begin(target, expected=begin_run(target))).server


def begin_run(target: RedisTarget) -> str:
    """
    The run of the fence that is there.
    """
    found = target.fence(MAPPING)
    assert found is not None
    return found.run


@pytest.mark.parametrize(
    "shape",
    [
        RecordShape("0" * 32, "user:{id}", lookups=((LookupKind.UNIQUE, "mail:{m}"),)),
        RecordShape("0" * 32, "user:{id}", expiry=Expiry.FIXED),
    ],
    ids=["lookups", "expiry"],
)
def test_records_that_are_more_than_one_key(
    bulk_redis: RedisServer, open_target: Callable[..., RedisTarget], shape: RecordShape
) -> None:
    """
    Records with lookups or with a time to live are the script's alone.
    """
    target = open_target(bulk_redis)

    assert target.bulk(MAPPING, begin(target), shape) is None


def test_a_cluster_is_written_by_scripts(redis_cluster: RedisCluster) -> None:
    """
    A transaction is of one slot; a Cluster is refused politely, before anything is tried.
    """
    with RedisTarget.open(redis_cluster.config()) as target:
        unfit = target.bulk_unfit()

        assert unfit is not None
        assert "Cluster" in unfit.what
        assert target.bulk(MAPPING, begin(target), SHAPE) is None


def test_the_probe_leaves_nothing(
    bulk_redis: RedisServer, open_target: Callable[..., RedisTarget]
) -> None:
    """
    A server that takes payloads is found fit, and no key is left of the trial.
    """
    target = open_target(bulk_redis)

    assert target.bulk_unfit() is None
    assert bulk_redis.client().dbsize() == 0
