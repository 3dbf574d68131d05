"""
Redis failing in every way that we could produce on a real server, in the middle of a run.

Whatever happens: what is acknowledged is there, what is there was written exactly once, and
nothing is half written.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from migrate.errors import (
    MigrateError,
    TargetAccessDenied,
    TargetLostData,
    TargetNotWritable,
    TargetUnavailable,
)
from migrate.model.lookups import parse_entries
from migrate.model.ports import Loader
from migrate.model.secret import Secret
from migrate.model.settings import Node
from migrate.model.shape import RecordShape
from migrate.model.values import Entry, Expiry, LookupKind, Outcome, Record
from migrate.target.probe import acl_rule
from migrate.target.retry import SystemClock
from migrate.target.scripts import Script
from migrate.target.store import RedisTarget
from tests.servers import HOST, RedisServer, free_port, wait_until
from tests.target.conftest import (
    AS_MIGRATE,
    MAPPING,
    SHAPE,
    Heard,
    Skipping,
    begin,
    expected,
    loader,
    record,
    records,
    stored,
)
from tests.target.network import Proxy

Break = Callable[[RedisServer], Callable[[], object]]


def full(server: RedisServer) -> Callable[[], object]:
    server.set(maxmemory="1")
    return lambda: server.set(maxmemory="0")


def replica(server: RedisServer) -> Callable[[], object]:
    client = server.client()
    client.execute_command("REPLICAOF", HOST, str(free_port()))
    return lambda: client.execute_command("REPLICAOF", "NO", "ONE")


def lonely(server: RedisServer) -> Callable[[], object]:
    server.set(min_replicas_to_write="1")
    return lambda: server.set(min_replicas_to_write="0")


def orphan(server: RedisServer) -> Callable[[], object]:
    server.set(replica_serve_stale_data="no")
    return replica(server)


BREAKS: dict[str, tuple[Break, str]] = {
    "out of memory": (full, "oom"),
    "replica": (replica, "readonly"),
    "too few replicas": (lonely, "noreplicas"),
    "replica without its master": (orphan, "masterdown"),
}


def check_waits_and_finishes(
    server: RedisServer,
    writes: Loader,
    clock: Skipping,
    heard: Heard,
    name: str,
) -> None:
    """
    A loader whose server takes no writes for a while.
    """
    break_, reason = BREAKS[name]
    writes.write(records(300))
    heal = break_(server)
    before = stored(server) if reason != "masterdown" else expected(records(300))

    with pytest.raises(TargetNotWritable) as caught:
        writes.write(records(900, version=2, fields=3))

    assert caught.value.where["reason"] == reason
    # Who has looked at the fence before is told first that nobody writes to a replica.
    assert heard.reasons in ({reason}, {reason, "readonly"})
    clock.then = [lambda: None, heal]
    clock.elapsed = 0
    if reason != "masterdown":
        assert stored(server) == before

    receipt = writes.write(records(900, version=2, fields=3))

    assert receipt.outcomes.count(Outcome.REPLACED) == 300
    assert receipt.outcomes.count(Outcome.WRITTEN) == 600
    assert stored(server) == expected(records(900, version=2, fields=3))


@pytest.mark.parametrize("name", BREAKS)
def test_takes_no_writes_now(
    redis_server: RedisServer,
    open_target: Callable[..., RedisTarget],
    clock: Skipping,
    heard: Heard,
    name: str,
) -> None:
    """
    A server that answers "not now" is waited for; then exit 5, with every old record intact.

    The same batch goes through when the server takes writes again.
    """
    target = open_target(redis_server, retry_for_s=5)

    check_waits_and_finishes(redis_server, loader(target), clock, heard, name)


@pytest.mark.containers
@pytest.mark.parametrize("name", BREAKS)
def test_every_server_is_understood(
    any_redis: RedisServer,
    open_target: Callable[..., RedisTarget],
    clock: Skipping,
    heard: Heard,
    name: str,
) -> None:
    """
    The same on every server of the matrix, whose words and classes differ.
    """
    target = open_target(any_redis, retry_for_s=5)

    check_waits_and_finishes(any_redis, loader(target), clock, heard, name)


def test_memory_that_runs_out_in_the_middle(
    redis_server: RedisServer,
    open_target: Callable[..., RedisTarget],
    clock: Skipping,
    heard: Heard,
) -> None:
    """
    What went in before memory ran out is whole; the rest follows when there is room.
    """
    target = open_target(redis_server, retry_for_s=5)
    writes = loader(target)
    batch = records(6000, fields=12, size=40)
    limit = redis_server.client().info("memory")["used_memory"] + 2_500_000
    redis_server.set(maxmemory=str(limit))

    with pytest.raises(TargetNotWritable):
        writes.write(batch)

    part = stored(redis_server)
    assert 0 < len(part) < len(batch)
    whole = expected(batch)
    assert all(whole[key] == fields for key, fields in part.items())
    redis_server.set(maxmemory="0")
    receipt = writes.write(batch)
    assert receipt.outcomes.count(Outcome.SAME) == len(part)
    assert stored(redis_server) == whole


def test_disk_that_cannot_be_written(
    redis_fresh: Callable[..., RedisServer],
    open_target: Callable[..., RedisTarget],
    clock: Skipping,
) -> None:
    """
    A failed snapshot stops writes; the reason is named.
    """
    server = redis_fresh(dir="/proc", save="3600 1000000")
    target = open_target(server, retry_for_s=1)
    writes = loader(target)
    client = server.client()
    client.bgsave()
    wait_until(
        lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "a failed snapshot"
    )

    with pytest.raises(TargetNotWritable) as caught:
        writes.write(records(3))

    assert caught.value.where["reason"] == "misconf"
    clock.then = [lambda: server.set(stop_writes_on_bgsave_error="no")]
    assert list(writes.write(records(3)).outcomes) == [Outcome.WRITTEN] * 3


def test_a_script_of_someone_else(
    redis_server: RedisServer,
    open_target: Callable[..., RedisTarget],
    clock: Skipping,
    heard: Heard,
) -> None:
    """
    A server that is busy with an endless script is waited for.
    """
    target = open_target(redis_server, retry_for_s=30)
    writes = loader(target)
    redis_server.set(lua_time_limit="10")
    client, killer = redis_server.client(), redis_server.client()

    def hog() -> None:
        with pytest.raises(Exception, match="killed"):
            client.eval("while true do end", 0)

    thread = threading.Thread(target=hog)
    thread.start()
    wait_until(lambda: _busy(killer), "the script to be noticed")
    clock.then = [killer.script_kill]

    receipt = writes.write(records(3))

    thread.join(timeout=10)
    assert list(receipt.outcomes) == [Outcome.WRITTEN] * 3
    assert heard.reasons == {"busy"}


def _busy(client: object) -> bool:
    import redis

    try:
        client.ping()  # type: ignore[attr-defined]
    except redis.ResponseError as error:
        return "BUSY" in str(error)
    return False


def test_a_server_that_loads(
    redis_fresh: Callable[..., RedisServer], open_target: Callable[..., RedisTarget], heard: Heard
) -> None:
    """
    A server that is loading its data is waited for, from the first contact on.
    """
    # It answers while it loads only every two megabytes.
    server = redis_fresh(key_load_delay="10000", rdbcompression="no")
    with server.client().pipeline() as pipe:
        for number in range(80):
            pipe.set(f"k{number}", b"x" * 100_000)
        pipe.execute()
    server.stop()
    server.runner.start()

    with RedisTarget.open(server.config(), heard, SystemClock()) as target:
        receipt = loader(target).write(records(3))

    assert list(receipt.outcomes) == [Outcome.WRITTEN] * 3
    assert "loading" in heard.reasons


@pytest.mark.parametrize("lost", [(1,), (3,), tuple(range(1, 12)), (2, 5, 9)])
def test_lost_replies_write_nothing_twice(
    redis_server: RedisServer,
    open_target: Callable[..., RedisTarget],
    proxy: Proxy,
    heard: Heard,
    lost: tuple[int, ...],
) -> None:
    """
    A request whose answer is lost is repeated, and the records are those of one write.
    """
    target = open_target(redis_server, nodes=(Node(HOST, proxy.port),), retry_for_s=600)
    writes = loader(target)
    writes.write(records(1000))
    proxy.lose_replies(*lost)
    batch = records(2500, version=2, fields=3)

    receipts = [writes.write(batch[at : at + 500]) for at in range(0, 2500, 500)]

    outcomes = [outcome for receipt in receipts for outcome in receipt.outcomes]
    assert set(outcomes) <= {Outcome.REPLACED, Outcome.WRITTEN, Outcome.SAME}
    assert proxy.lost > 0
    assert heard.reasons == {"connection"}
    assert stored(redis_server) == expected(batch)


def test_a_request_cut_anywhere(
    redis_server: RedisServer,
    open_target: Callable[..., RedisTarget],
    proxy: Proxy,
) -> None:
    """
    A connection that breaks inside a request is made again, and the repetition adds the rest.
    """
    target = open_target(redis_server, nodes=(Node(HOST, proxy.port),), retry_for_s=600)
    writes = loader(target)

    for turn, after in enumerate([0, 1, 20, 100, 1_000, 9_999, 20_000, 33_333, 60_000], start=1):
        proxy.cut_request(after)
        batch = records(800, version=turn, fields=1 + turn % 3)

        writes.write(batch)

        assert stored(redis_server) == expected(batch)


def test_scripts_that_are_forgotten(
    redis_server: RedisServer, target: RedisTarget, heard: Heard
) -> None:
    """
    Whoever flushes the script cache, at whatever moment, changes nothing.
    """
    writes = loader(target)
    client = redis_server.client()
    done = threading.Event()

    def flush() -> None:
        while not done.is_set():
            client.script_flush()

    thread = threading.Thread(target=flush)
    thread.start()
    try:
        for version in range(1, 6):
            receipt = writes.write(records(2000, version=version))
            assert len(receipt.outcomes) == 2000
    finally:
        done.set()
        thread.join()

    assert stored(redis_server) == expected(records(2000, version=5))
    assert heard.waits == []


def test_connections_that_are_killed(
    redis_server: RedisServer, target: RedisTarget, clock: Skipping
) -> None:
    """
    Closed connections are made again, and the server is the same.
    """
    writes = loader(target)
    writes.write(records(10))
    server = writes.server

    redis_server.client().execute_command("CLIENT KILL TYPE normal")
    receipt = writes.write(records(20, version=2))

    assert receipt.outcomes.count(Outcome.WRITTEN) == 10
    assert writes.server == server != ""
    assert stored(redis_server) == expected(records(20, version=2))


def test_a_server_that_does_not_answer_in_time(
    redis_server: RedisServer, open_target: Callable[..., RedisTarget], heard: Heard
) -> None:
    """
    A command that is still queued on the server when it is repeated does no harm.
    """
    config = redis_server.config(timeout_s=0.2)
    with RedisTarget.open(config, heard, SystemClock()) as target:
        writes = loader(target)
        redis_server.client().execute_command("CLIENT PAUSE", 900)

        writes.write(records(200))

        assert heard.reasons == {"timeout"}
        assert stored(redis_server) == expected(records(200))


def test_a_server_that_is_away(
    redis_fresh: Callable[..., RedisServer],
    open_target: Callable[..., RedisTarget],
    clock: Skipping,
) -> None:
    """
    A server that is down is waited for, then exit 6; when it is back the batch goes through.

    The loader then names another server run: what was written before is not taken for safe.
    """
    server = redis_fresh(appendonly="yes")
    target = open_target(server, retry_for_s=5)
    writes = loader(target)
    writes.write(records(10))
    before = writes.server
    server.kill()

    with pytest.raises(TargetUnavailable) as caught:
        writes.write(records(20))

    assert caught.value.where["reason"] == "connection"
    clock.then = [server.start]
    writes.write(records(20))
    assert stored(server) == expected(records(20))
    assert writes.server not in {"", before}


def test_a_restart_between_batches_is_seen(
    redis_fresh: Callable[..., RedisServer], open_target: Callable[..., RedisTarget]
) -> None:
    """
    The driver reconnects without a word; the loader still tells one server run from another.
    """
    server = redis_fresh(appendonly="yes")
    writes = loader(open_target(server))
    writes.write(records(10))
    before = writes.server
    server.restart()

    writes.write(records(20))

    assert writes.server not in {"", before}


def test_a_restart_without_data_stops_the_run(
    redis_fresh: Callable[..., RedisServer],
    open_target: Callable[..., RedisTarget],
    clock: Skipping,
) -> None:
    """
    A server that came back empty is not filled from the middle on: exit 5, nothing written.
    """
    server = redis_fresh()
    writes = loader(open_target(server))
    writes.write(records(10))
    server.kill()
    clock.then = [server.start]

    with pytest.raises(TargetLostData):
        writes.write(records(500))

    assert server.client().dbsize() == 0


def test_a_restart_between_two_round_trips_of_one_batch(
    redis_fresh: Callable[..., RedisServer],
    open_target: Callable[..., RedisTarget],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    A receipt is for one server run: what a restart took away in the middle is written again.
    """
    server = redis_fresh()
    target = open_target(server)
    writes = loader(target)
    server.client().save()
    send, trips = target._link.try_scripts, []

    def restart_before_the_second(calls: Sequence[Any], script: Script) -> list[Any]:
        trips.append(len(calls))
        if len(trips) == 2:
            server.kill()
            server.start()
        return send(calls, script)

    # The moment between two round trips of one call cannot be met from outside.
    monkeypatch.setattr(target._link, "try_scripts", restart_before_the_second)

    receipt = writes.write(records(3000))

    assert len(trips) > 3
    assert len(receipt.outcomes) == 3000
    assert stored(server) == expected(records(3000))


def test_a_record_that_is_too_large_for_the_server(
    redis_server: RedisServer, open_target: Callable[..., RedisTarget], clock: Skipping
) -> None:
    """
    A server with a small limit is named as the cause; the other records of the batch are whole.
    """
    target = open_target(redis_server, retry_for_s=30)
    writes = loader(target)
    redis_server.set(proto_max_bulk_len="1mb")
    batch = records(250)
    batch[120] = record(120, size=1_500_000)

    with pytest.raises(MigrateError) as caught:
        writes.write(batch)

    assert caught.value.where["reason"] in {"too-large", "connection"}
    part, whole = stored(redis_server), expected(batch)
    assert len(part) >= 100
    assert all(whole[key] == fields for key, fields in part.items())


def test_a_wrong_password_is_said_once(
    redis_fresh: Callable[..., RedisServer], clock: Skipping, heard: Heard
) -> None:
    """
    Exit 2 at once, one attempt, no secret in anything that is shown.
    """
    server = redis_fresh(requirepass="CANARY-right")
    config = server.config(password=Secret("CANARY-wrong"))

    with pytest.raises(TargetAccessDenied) as caught:
        RedisTarget.open(config, heard, clock)

    error = caught.value
    assert error.where["reason"] == "auth"
    assert heard.waits == []
    assert "CANARY" not in f"{error!r} {error} {error.where} {error.next_step} {config!r}"


def test_a_password_that_changes_is_noticed_at_the_next_connection(
    redis_fresh: Callable[..., RedisServer], open_target: Callable[..., RedisTarget], heard: Heard
) -> None:
    """
    A revoked password ends the run when the connection does, and is not tried again.
    """
    server = redis_fresh(requirepass="CANARY-old")
    writes = loader(open_target(server))
    writes.write(records(3))
    server.set(requirepass="CANARY-new")
    server.client().execute_command("CLIENT KILL TYPE normal")

    with pytest.raises(TargetAccessDenied):
        writes.write(records(6))

    assert len(heard.waits) <= 1


def test_the_printed_acl_line_is_enough(
    restricted: Callable[[str], RedisServer], open_target: Callable[..., RedisTarget]
) -> None:
    """
    A user made by the line that doctor prints can do everything that a backfill does.
    """
    server = restricted(acl_rule(["user:"]))
    target = open_target(server, **AS_MIGRATE)

    probed = target.probe_commands(["user:"])
    receipt = loader(target).write(records(200))
    again = target.loader(MAPPING, begin(target, expected=target.fence(MAPPING).run), SHAPE)  # type: ignore[union-attr]
    replaced = again.write(records(200, version=2))

    assert [probe for probe in probed if not probe.ok] == []
    assert set(receipt.outcomes) == {Outcome.WRITTEN}
    assert set(replaced.outcomes) == {Outcome.REPLACED}
    assert target.health().policy == "noeviction"
    assert target.measure(records(3), SHAPE).sizes is not None
    assert "CANARY" not in repr(target.__dict__)


def test_every_required_command_is_missed_when_it_is_missing(
    restricted: Callable[[str], RedisServer], open_target: Callable[..., RedisTarget]
) -> None:
    """
    Without one of them the probe says which; the line has none too many.
    """
    from migrate.target.probe import EXPIRY, LOOKUPS, REQUIRED
    from migrate.target.removal import NEEDED

    line = acl_rule(["user:"], needed=(*LOOKUPS, *EXPIRY))
    for name in dict.fromkeys((*REQUIRED, *LOOKUPS, *EXPIRY, *NEEDED)):
        if name in {"ping", "multi", "exec"}:
            continue
        server = restricted(f"{line} ".replace(f" +{name} ", " ").strip())
        target = open_target(server, **AS_MIGRATE)

        probed = target.probe_commands(["user:"], (*LOOKUPS, *EXPIRY))
        failed = {probe.command for probe in probed if not probe.ok}

        assert name in failed
        assert failed <= {name, "evalsha", "hset", "hincrby", "set", "setrange", "sadd", "zadd"}


LOOKED_UP = RecordShape(
    "0" * 32,
    "user:{id}",
    lookups=((LookupKind.UNIQUE, "mail:{m}"), (LookupKind.SET, "in:{s}")),
    expiry=Expiry.NONE,
)


def looked_up(mail: bytes, group: bytes, digest: bytes) -> Record:
    """
    A record with two entries.
    """
    entries = (Entry(b"u", b"mail:" + mail), Entry(b"s", b"in:" + group))
    return Record(b"user:1", b"1", digest * 16, (b"name", b"x"), entries)


def test_the_printed_line_is_enough_for_lookups(
    restricted: Callable[[str], RedisServer], open_target: Callable[..., RedisTarget]
) -> None:
    """
    With the keys and commands of its lookups a user writes, replaces and finds the same.
    """
    from migrate.target.probe import LOOKUPS

    server = restricted(acl_rule(["user:", "mail:", "in:"], needed=LOOKUPS))
    target = open_target(server, **AS_MIGRATE)
    writes = target.loader(MAPPING, begin(target), LOOKED_UP)

    outcomes = [
        *writes.write([looked_up(b"a", b"x", b"0")]).outcomes,
        *writes.write([looked_up(b"b", b"y", b"1")]).outcomes,
        *writes.write([looked_up(b"b", b"y", b"1")]).outcomes,
    ]

    assert outcomes == [Outcome.WRITTEN, Outcome.REPLACED, Outcome.SAME]


@pytest.mark.parametrize("name", ["srem", "sadd", "hset", "set", "sismember"])
def test_a_missing_permission_loses_no_entry(
    restricted: Callable[[str], RedisServer], open_target: Callable[..., RedisTarget], name: str
) -> None:
    """
    Wherever the script is stopped, the record lists what it is in; once allowed, all is right.
    """
    from migrate.target.probe import LOOKUPS

    server = restricted(acl_rule(["user:", "mail:", "in:"], needed=LOOKUPS))
    writes = open_target(server, **AS_MIGRATE).loader(
        MAPPING, begin(open_target(server, **AS_MIGRATE)), LOOKED_UP
    )
    writes.write([looked_up(b"a", b"x", b"0")])
    client = server.client()
    client.acl_setuser("migrate", commands=[f"-{name}"])

    with pytest.raises(TargetAccessDenied):
        writes.write([looked_up(b"b", b"y", b"1")])

    listed = {entry.key for entry in parse_entries(client.hget("user:1", "_l"))}
    there = {key for key in client.scan_iter() if key.startswith((b"mail:", b"in:"))}
    assert there <= listed
    client.acl_setuser("migrate", commands=[f"+{name}"])
    writes.write([looked_up(b"b", b"y", b"1")])
    assert client.get("mail:b") == b"user:1"
    assert client.smembers("in:y") == {b"user:1"}
    assert client.exists("mail:a", "in:x") == 0


@pytest.mark.parametrize("name", ["hset", "unlink", "hmget", "type"])
def test_a_missing_permission_loses_no_record(
    restricted: Callable[[str], RedisServer],
    open_target: Callable[..., RedisTarget],
    heard: Heard,
    name: str,
) -> None:
    """
    A command that is refused inside the script stops the run at once, and the old record is whole.
    """
    server = restricted(acl_rule(["user:"]))
    writes = loader(open_target(server, **AS_MIGRATE))
    writes.write(records(3))
    server.client().acl_setuser("migrate", commands=[f"-{name}"])

    with pytest.raises(TargetAccessDenied) as caught:
        writes.write(records(3, version=2, fields=5))

    assert caught.value.where["reason"] == "noperm"
    assert stored(server) == expected(records(3))
    assert heard.waits == []


def test_keys_outside_the_users_reach(
    restricted: Callable[[str], RedisServer], open_target: Callable[..., RedisTarget]
) -> None:
    """
    A user without the records' keys is refused, and the probe names the key.
    """
    server = restricted(acl_rule(["other:"]))
    target = open_target(server, **AS_MIGRATE)

    with pytest.raises(TargetAccessDenied):
        loader(target).write([record(1)])

    failed = [probe for probe in target.probe_commands(["user:"]) if not probe.ok]
    assert [probe.command for probe in failed] == ["evalsha"]
    assert failed[0].key.startswith("user:")


def test_without_info_and_config_less_is_known(
    restricted: Callable[[str], RedisServer], open_target: Callable[..., RedisTarget]
) -> None:
    """
    Hidden facts are None, not guesses, and records are written all the same.
    """
    line = acl_rule(["user:"])
    for name in ("info", "config|get", "memory|usage", "time", "client|setname"):
        line = line.replace(f" +{name}", "")
    server = restricted(line)
    target = open_target(server, **AS_MIGRATE)

    health = target.health()
    identity = target.identity()
    receipt = loader(target).write(records(3))

    assert (health.role, health.policy, health.used_memory, health.time) == (None,) * 4
    assert health.keys == 0
    assert identity.run_id == ""
    assert target.signals().maxmemory == 0
    assert target.measure(records(3), SHAPE).sizes is None
    assert set(receipt.outcomes) == {Outcome.WRITTEN}
