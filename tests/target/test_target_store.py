"""
What a target says of itself and of keys, and what measuring leaves behind.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from migrate.model.values import Outcome
from migrate.target.health import TargetHealth, unsafe
from migrate.target.loader import MAX_BYTES, MAX_RECORDS, batches
from migrate.target.store import RedisTarget
from tests.servers import RedisServer
from tests.target.conftest import MAPPING, SHAPE, begin, expected, loader, record, records, stored


def test_health_is_what_the_server_says(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    Every fact is read from the server, its clock included.
    """
    redis_server.set(
        maxmemory="100mb",
        maxmemory_policy="allkeys-lru",
        min_replicas_to_write="1",
        slowlog_log_slower_than="123",
        appendonly="yes",
        save="900 1",
    )
    client = redis_server.client()

    health = target.health()

    assert health.role == "master"
    assert health.maxmemory == 100 * 1024 * 1024
    assert health.policy == "allkeys-lru"
    assert (health.aof, health.rdb) == (True, True)
    assert (health.replicas, health.min_replicas) == (0, 1)
    assert (health.evicted_keys, health.expired_keys, health.keys) == (0, 0, 0)
    assert health.slowlog_us == 123
    assert health.time == pytest.approx(client.time()[0], abs=5)
    assert set(health.to_dict()) == {field.name for field in dataclasses.fields(TargetHealth)}


SOUND = TargetHealth(
    role="master",
    maxmemory=0,
    used_memory=1,
    policy="noeviction",
    aof=True,
    rdb=True,
    evicted_keys=0,
    expired_keys=0,
    replicas=0,
    min_replicas=0,
    latency_ms=0.1,
    time=0.0,
    slowlog_us=10_000,
    keys=0,
)


@pytest.mark.parametrize(
    ("changes", "check", "refuses"),
    [
        ({"policy": "allkeys-lru"}, "eviction", True),
        ({"policy": "volatile-ttl"}, "eviction", True),
        ({"policy": None}, "eviction", True),
        ({"role": "replica"}, "replica", True),
        ({"min_replicas": 1}, "min-replicas", True),
        ({"aof": False}, "persistence", False),
        ({"aof": False, "rdb": False}, "persistence", False),
        ({"slowlog_us": 0}, "slowlog", False),
    ],
)
def test_what_is_unsafe(changes: dict[str, object], check: str, refuses: bool) -> None:
    """
    A server that may drop or refuse records is named; what is hidden is not taken for safe.
    """
    assert unsafe(SOUND) == []

    [concern] = unsafe(dataclasses.replace(SOUND, **changes))  # type: ignore[arg-type]

    assert (concern.check, concern.refuses) == (check, refuses)


def test_identity_tells_a_server_from_itself(
    redis_fresh: Callable[..., RedisServer], open_target: Callable[..., RedisTarget]
) -> None:
    """
    Address and version stay the same over a restart, the run id does not.
    """
    server = redis_fresh()
    target = open_target(server)
    before = target.identity()

    server.restart()
    after = target.identity()

    assert before.run_id != after.run_id
    assert (before.address, before.flavour, before.version) == (
        after.address,
        after.flavour,
        after.version,
    )


def test_lookup_says_what_is_there(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    Records, tombstones, foreign keys and nothing are told apart.
    """
    loader(target).write([record(1, version=7)])
    client = redis_server.client()
    client.hset("user:2", mapping={"_v": "8", "_t": "1"})
    client.set("user:3", "x")
    client.hset("user:4", "name", "x")

    held = target.lookup([b"user:%d" % number for number in range(6)], SHAPE)

    assert [(one.exists, one.ours, one.version, one.type) for one in held] == [
        (False, False, None, "none"),
        (True, True, "7", "hash"),
        (True, True, "8", "hash"),
        (True, False, None, "string"),
        (True, False, None, "hash"),
        (False, False, None, "none"),
    ]


def test_measuring_weighs_what_will_be_stored(
    redis_server: RedisServer, target: RedisTarget
) -> None:
    """
    The weight of a sample is that of the records when they are written, and nothing is left.
    """
    batch = [record(n, fields=n % 14, size=8 + 10 * (n % 9)) for n in range(250)]

    cost = target.measure(batch, SHAPE)

    assert redis_server.client().dbsize() == 0
    loader(target).write(batch)
    client = redis_server.client()
    actual = [client.memory_usage(one.key, samples=0) for one in batch]
    assert cost.sizes is not None
    assert sum(cost.sizes) == pytest.approx(sum(actual), rel=0.05)


@pytest.mark.containers
def test_measuring_on_every_server(
    any_redis: RedisServer, open_target: Callable[..., RedisTarget]
) -> None:
    """
    The same on every server of the matrix, whose layouts differ.
    """
    test_measuring_weighs_what_will_be_stored(any_redis, open_target(any_redis))


@pytest.mark.containers
def test_every_command_works_on_every_server(
    any_redis: RedisServer, open_target: Callable[..., RedisTarget]
) -> None:
    """
    The ACL line of doctor is valid and enough on every server of the matrix.
    """
    from migrate.model.secret import Secret
    from migrate.target.probe import acl_rule

    client = any_redis.client()
    client.execute_command(*acl_rule(["user:"]).replace("PASSWORD", "x").split(" "))
    try:
        target = open_target(any_redis, username="migrate", password=Secret("x"))
        probed = target.probe_commands(["user:"])
        loader(target).write(records(500))
        health = target.health()
    finally:
        client.acl_deluser("migrate")

    assert [probe for probe in probed if not probe.ok] == []
    assert health.policy == "noeviction" and health.used_memory
    assert stored(any_redis) == expected(records(500))


def test_probing_leaves_nothing(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    Every command was tried and no key is there that was not there before.
    """
    client = redis_server.client()
    client.set("theirs", "x")

    probed = target.probe_commands(["user:", "theirs"])

    assert all(probe.ok for probe in probed)
    assert client.keys() == [b"theirs"]
    assert {key for probe in probed for key in probe.to_dict()} == {
        "command",
        "ok",
        "error",
        "required",
        "key",
    }


def test_scratch_keys_are_never_seen(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    MONITOR shows each scratch key written and taken away within one transaction or script.
    """
    client = redis_server.client()
    with client.monitor() as monitor:
        target.measure(records(3), SHAPE)
        target.probe_commands()
        client.echo("end")
        seen = []
        for command in iter(monitor.next_command, None):
            if "ECHO" in command["command"]:
                break
            seen.append(command)

    open_step = False
    for command in seen:
        word = command["command"].split(" ")[0].upper()
        if command["client_type"] == "lua":
            continue
        if word in {"MULTI", "EXEC"}:
            open_step = word == "MULTI"
        assert open_step or word not in {"HSET", "HINCRBY"}


def test_a_dry_run_writes_nothing(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    The dry loader says what would become of each record, without a fence, and leaves no trace.
    """
    client = redis_server.client()
    client.set("user:5", "not ours")
    before = client.dbsize()

    receipt = target.dry_loader(MAPPING, SHAPE).write(records(300))

    assert receipt.outcomes.count(Outcome.WRITTEN) == 299
    assert receipt.outcomes[5] is Outcome.COLLISION
    assert client.dbsize() == before
    assert target.dry_loader(MAPPING, SHAPE).server == ""


def test_a_batch_of_any_size(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    None, one, or many records; small ones and ones of megabytes: each is written once.
    """
    writes = loader(target)
    large = [record(n, size=3_000_000 if n % 40 == 0 else 10) for n in range(170)]

    assert list(writes.write([]).outcomes) == []
    assert list(writes.write(large).outcomes) == [Outcome.WRITTEN] * 170
    assert stored(redis_server) == expected(large)


def test_no_script_is_larger_than_it_may_be() -> None:
    """
    Records are divided by number and by bytes, none is lost and the order stays.
    """
    batch = [record(n, size=10 + (n * 7919) % 200_000) for n in range(700)]

    parts = [part for part, _ in batches(batch)]

    assert [one for part in parts for one in part] == batch
    assert max(len(part) for part in parts) <= MAX_RECORDS
    assert all(size <= MAX_BYTES or len(part) == 1 for part, size in batches(batch))


def test_signals_are_small_and_true(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    The throttle is told memory, its limit and the latency.
    """
    redis_server.set(maxmemory="64mb")
    begin(target)

    signals = target.signals()

    assert signals.maxmemory == 64 * 1024 * 1024
    assert 0 < signals.used_memory < signals.maxmemory
    assert signals.latency_ms >= 0
