"""
A Cluster as a target: routing, moving slots, lost nodes, fences, health. Real servers throughout.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from migrate.errors import (
    Fenced,
    Refused,
    TargetLostData,
    TargetNotWritable,
    TargetTaken,
    TargetUnavailable,
    UsageProblem,
)
from migrate.model.secret import Secret
from migrate.model.settings import Topology
from migrate.model.shape import RecordShape
from migrate.model.values import Entry, Fence, LookupKind, Outcome
from migrate.target.cluster import ClusterLink
from migrate.target.detect import detect
from migrate.target.far import tag_of
from migrate.target.fence import FenceState, fence_key
from migrate.target.health import unsafe
from migrate.target.nodes import Nodes
from migrate.target.retry import Patience, SystemClock
from migrate.target.slots import SLOTS, slot_of, tags
from migrate.target.store import RedisTarget
from tests.project import ROOT
from tests.servers import HOST, wait_until
from tests.target.conftest import (
    MAPPING,
    OTHER_RUN,
    RUN,
    SHAPE,
    Heard,
    Skipping,
    begin,
    expected,
    loader,
    record,
    records,
)
from tests.topologies import RedisCluster, cluster

pytestmark = pytest.mark.containers
"""A Cluster of real servers takes seconds to start and to change: part of the matrix."""


@pytest.fixture(scope="module")
def shared() -> Iterator[RedisCluster]:
    """
    Three masters without replicas, for tests that leave them as they were.
    """
    with cluster() as made:
        yield made


@pytest.fixture
def three(shared: RedisCluster) -> RedisCluster:
    """
    The shared cluster, empty.
    """
    for node in shared.masters:
        node.client().flushall()
        node.client().script_flush()
    return shared


@pytest.fixture
def open_cluster(heard: Heard) -> Iterator[Callable[..., RedisTarget]]:
    """
    Opens targets that are closed with the test; they wait by the real clock, but not for long.
    """
    with ExitStack() as stack:

        def make(where: RedisCluster, *, clock: Any = None, **changes: Any) -> RedisTarget:
            config = where.config(**{"retry_for_s": 30.0, **changes})
            return stack.enter_context(RedisTarget.open(config, heard, clock or SystemClock()))

        yield make


@pytest.fixture
def link(three: RedisCluster, heard: Heard) -> Iterator[ClusterLink]:
    """
    A link to the shared cluster.
    """
    config = three.config(retry_for_s=5.0)
    with closing(
        ClusterLink(config, Nodes(config), Patience(config, heard, SystemClock()))
    ) as made:
        yield made


def stored(where: RedisCluster) -> dict[bytes, dict[bytes, bytes]]:
    """
    Every record in the cluster, read by the driver's own client.
    """
    with closing(where.client()) as client:
        return {key: client.hgetall(key) for key in client.scan_iter("user:*", 1_000)}


def fences(where: RedisCluster) -> list[int]:
    """
    How many fences each running master holds.
    """
    return [
        len(list(node.client().scan_iter("profile-migrate:fence:*", 5_000)))
        for node in where.masters
        if node.running()
    ]


# --- routing ------------------------------------------------------------------------------------


def test_every_record_is_written_in_its_slot(
    three: RedisCluster, open_cluster: Callable[..., RedisTarget]
) -> None:
    """
    Records of all slots arrive whole, in whatever order, and are the same the second time.
    """
    batch = records(2_000)
    writes = loader(open_cluster(three))

    first = writes.write(batch)
    second = writes.write(list(reversed(batch)))

    assert set(first.outcomes) == {Outcome.WRITTEN}
    assert set(second.outcomes) == {Outcome.SAME}
    assert stored(three) == expected(batch)
    assert all(node.client().dbsize() > 5_500 for node in three.masters)


def test_keys_with_a_hash_tag_share_a_slot(
    three: RedisCluster, open_cluster: Callable[..., RedisTarget]
) -> None:
    """
    Hundreds of records in one slot are written by a few scripts, in order.
    """
    batch = [one._replace(key=b"user:{t}:%d" % at) for at, one in enumerate(records(300))]
    newer = [one._replace(version=b"2") for one in batch]
    writes = loader(open_cluster(three))

    receipt = writes.write([*batch, *newer])

    assert receipt.outcomes == [Outcome.WRITTEN] * 300 + [Outcome.REPLACED] * 300
    assert stored(three) == expected(newer)


def test_a_script_that_every_node_forgets_is_loaded_again(
    three: RedisCluster, open_cluster: Callable[..., RedisTarget]
) -> None:
    """
    SCRIPT FLUSH on each node between two batches loses nothing.
    """
    writes = loader(open_cluster(three))
    for version in range(1, 4):
        for node in three.masters:
            node.client().script_flush()
        writes.write(records(200, version=version))

    assert stored(three) == expected(records(200, version=3))


def test_a_command_without_a_key_goes_to_no_node(link: ClusterLink) -> None:
    """
    What no key directs is refused here, and said to all masters where it is meant for all.
    """
    for words in (("DBSIZE",), ("PING",), ("FLUSHALL",), ("SLOWLOG", "GET"), ("SCAN", 0)):
        with pytest.raises(ValueError, match="no key"):
            link.command(*words)

    assert list(link.each(lambda one: one.command("PING")).values()) == [True] * 3


def test_replies_keep_their_places(link: ClusterLink) -> None:
    """
    Replies and errors of all nodes stand where their commands stood.
    """
    keys = [f"user:{at}" for at in range(60)]
    link.together([("SET", key, key) for key in keys])

    found = link.replies(
        [("GET", key) if at % 7 else ("HGET", key, "x") for at, key in enumerate(keys)]
    )

    assert [at for at, reply in enumerate(found) if isinstance(reply, Exception)] == list(
        range(0, 60, 7)
    )
    assert all(reply == keys[at].encode() for at, reply in enumerate(found) if at % 7)


def test_a_transaction_is_of_one_slot(link: ClusterLink) -> None:
    """
    Commands of one slot go together, and more than that is a mistake of ours.
    """
    assert link.atomically([("SET", "{a}1", "x"), ("GET", "{a}1"), ("UNLINK", "{a}1")]) == [
        True,
        b"x",
        1,
    ]
    with pytest.raises(ValueError, match="too many values"):
        link.atomically([("SET", "a", "x"), ("SET", "b", "x")])


def test_every_key_is_scanned(three: RedisCluster, link: ClusterLink) -> None:
    """
    A scan sees all masters.
    """
    keys = {b"user:%d" % at for at in range(3_000)}
    link.together([("SET", key, "x") for key in keys])
    link.command("SET", "other", "x")

    pages = list(link.scan(b"user:*", 100))

    assert {key for page in pages for key in page} == keys


def test_the_clock_and_emptiness_are_of_all_masters(
    three: RedisCluster, open_cluster: Callable[..., RedisTarget], link: ClusterLink
) -> None:
    """
    One key on any node is not empty; the clock is one of theirs.
    """
    target = open_cluster(three)
    assert target.is_empty()
    for at in range(3):
        three.masters[at].client().flushall()
        key = next(
            key
            for key in map(str, range(100))
            if three.owner(slot_of(key.encode())) is three.masters[at]
        )
        link.command("SET", key, "x")
        assert not target.is_empty()
        link.command("UNLINK", key)
    seconds = three.masters[0].client().time()[0]
    assert abs(link.time_ms() / 1000 - seconds) < 5


def test_any_node_is_enough_to_find_the_others(three: RedisCluster, heard: Heard) -> None:
    """
    Of three addresses two may lead nowhere.
    """
    one = three.config().nodes[2]
    gone = [node.__class__(HOST, 1) for node in three.config().nodes[:1]]
    config = three.config(nodes=(*gone, one))
    with RedisTarget.open(config, heard) as target:
        assert len(target.detected.nodes) == 3
        assert set(loader(target).write(records(50)).outcomes) == {Outcome.WRITTEN}


def test_a_unix_socket_of_a_node_is_refused(three: RedisCluster, tmp_path: Path) -> None:
    """
    One node's socket does not reach the others, and the error says what to configure.
    """
    with cluster(masters=1, unixsocket=str(tmp_path / "s")) as made:
        config = made.config(nodes=(), socket=str(tmp_path / "s"))
        with pytest.raises(UsageProblem) as caught:
            detect(config)
    assert "nodes" in caught.value.next_step


# --- slots that move ----------------------------------------------------------------------------


def test_a_slot_that_moved_is_found(
    three: RedisCluster, open_cluster: Callable[..., RedisTarget]
) -> None:
    """
    MOVED after a finished move: the record is written where its slot is now.
    """
    writes = loader(open_cluster(three))
    writes.write(records(100))
    slot = slot_of(b"user:7")
    home = three.owner(slot)
    away = next(node for node in three.masters if node is not home)
    three.move(slot, away)
    try:
        receipt = writes.write(records(100, version=2))

        assert set(receipt.outcomes) == {Outcome.REPLACED}
        assert stored(three) == expected(records(100, version=2))
        assert away.client().hget("user:7", "_v") == b"2"
    finally:
        three.move(slot, home)


def test_a_record_that_moved_ahead_of_the_slot_is_reached(
    three: RedisCluster, open_cluster: Callable[..., RedisTarget]
) -> None:
    """
    ASK: record and fence are on the new node already, and the slot is not.
    """
    writes = loader(open_cluster(three))
    batch = records(50)
    writes.write(batch)
    slot = slot_of(b"user:7")
    home = three.owner(slot)
    away = next(node for node in three.masters if node is not home)
    three.begin_move(slot, away)
    try:
        three.move_keys(home, slot, away, b"user:7", fence_key(MAPPING, slot).encode())

        receipt = writes.write([record(7, version=2)])

        assert receipt.outcomes == [Outcome.REPLACED]
        assert writes.write(batch).outcomes.count(Outcome.STALE) == 1
    finally:
        three.move_keys(home, slot, away)
        three.end_move(slot, away)
        three.move(slot, home)
    assert stored(three)[b"user:7"] == expected([record(7, version=2)])[b"user:7"]


def test_a_slot_split_between_two_nodes_is_waited_for(
    three: RedisCluster, heard: Heard, open_cluster: Callable[..., RedisTarget]
) -> None:
    """
    Fence moved, records not, one of them new: TRYAGAIN until the move is over, then all is written.
    """
    clock = Skipping()
    writes = loader(open_cluster(three, clock=clock))
    batch = [one._replace(key=b"user:{t}:%d" % at) for at, one in enumerate(records(40))]
    writes.write(batch[:20])
    slot = slot_of(b"user:{t}:0")
    home = three.owner(slot)
    away = next(node for node in three.masters if node is not home)
    three.begin_move(slot, away)
    three.move_keys(
        home, slot, away, fence_key(MAPPING, slot).encode(), *(one.key for one in batch[:7])
    )
    clock.then = [
        lambda: None,
        lambda: three.move_keys(home, slot, away),
        lambda: three.end_move(slot, away),
    ]
    try:
        receipt = writes.write([*batch, record(1)])
    finally:
        three.move_keys(home, slot, away)
        three.end_move(slot, away)
        three.move(slot, home)

    assert receipt.outcomes == [Outcome.SAME] * 20 + [Outcome.WRITTEN] * 21
    assert heard.reasons == {"resharding"}
    assert stored(three) == expected([*batch, record(1)])


def test_a_move_that_never_ends_is_not_waited_for_for_ever(
    three: RedisCluster, open_cluster: Callable[..., RedisTarget]
) -> None:
    """
    Exit 5 with what to do, and records of other slots are written all the same.
    """
    clock = Skipping()
    target = open_cluster(three, clock=clock, retry_for_s=5.0)
    writes = loader(target)
    slot = slot_of(b"user:7")
    home = three.owner(slot)
    away = next(node for node in three.masters if node is not home)
    three.begin_move(slot, away)
    try:
        with pytest.raises(TargetNotWritable) as caught:
            writes.write(records(30))
    finally:
        three.move_keys(home, slot, away)
        three.end_move(slot, away)
        three.move(slot, home)

    assert caught.value.where["reason"] == "resharding"
    assert caught.value.exit_code == 5
    others = [one for one in records(30) if slot_of(one.key) != slot]
    assert stored(three) == expected(others)


def test_a_scan_is_complete_while_slots_move(three: RedisCluster, link: ClusterLink) -> None:
    """
    Keys that move from a node that was not looked at yet to one that was are still found.
    """
    keys = {b"user:%d" % at for at in range(900)}
    link.together([("SET", key, "x") for key in keys])
    first, last = sorted(three.masters, key=lambda node: f"{HOST}:{node.port}")[::2]
    moved = [slot for slot in map(slot_of, keys) if three.owner(slot) is last][:20]
    found: set[bytes] = set()
    try:
        for number, page in enumerate(link.scan(b"user:*", 50)):
            found.update(page)
            if number == 7:
                for slot in moved:
                    three.move(slot, first)
    finally:
        for slot in moved:
            three.move(slot, last)

    assert found == keys


# --- nodes that go away -------------------------------------------------------------------------


def test_a_master_that_is_killed_is_replaced_by_its_replica(
    redis_cluster: RedisCluster, heard: Heard, open_cluster: Callable[..., RedisTarget]
) -> None:
    """
    The writer waits for the failover, goes on, and names another server than before.
    """
    target = open_cluster(redis_cluster, retry_for_s=60.0)
    writes = loader(target)
    writes.write(records(300))
    before = writes.server
    redis_cluster.wait_until_replicated()

    redis_cluster.masters[1].kill()
    receipt = writes.write(records(600, version=2))

    assert set(receipt.outcomes) <= {Outcome.REPLACED, Outcome.WRITTEN, Outcome.SAME}
    assert heard.reasons <= {"connection", "clusterdown", "resharding", "timeout"}
    assert heard.waits
    assert stored(redis_cluster) == expected(records(600, version=2))
    assert writes.server not in {"", before}
    assert target.identity().run_id == writes.server
    assert target.fence(MAPPING) == FenceState("fwd", 1, RUN, 0, 0, 1, "f1")


def test_a_dead_master_without_a_replica_ends_the_run(heard: Heard) -> None:
    """
    Nothing is sent elsewhere: after `retry_for` the run ends with exit 5 or 6.
    """
    with cluster() as made:
        config = made.config(retry_for_s=3.0)
        with RedisTarget.open(config, heard) as target:
            writes = loader(target)
            made.masters[2].kill()
            with pytest.raises((TargetNotWritable, TargetUnavailable)):
                writes.write(records(300))
            with pytest.raises((TargetNotWritable, TargetUnavailable)):
                target.is_empty()


def test_a_node_that_was_flushed_stops_the_writer(
    three: RedisCluster, open_cluster: Callable[..., RedisTarget]
) -> None:
    """
    FLUSHALL on one node takes its fences with it: exit 5; the same migration may begin again.
    """
    target = open_cluster(three)
    writes = loader(target)
    writes.write(records(300))
    lost = three.masters[1]
    slots = sum(three.owner(slot) is lost for slot in range(0, SLOTS, 64)) * 64
    lost.client().flushall()

    with pytest.raises(TargetLostData):
        writes.write(records(300))
    state = target.fence(MAPPING)

    assert state is not None
    assert (state.run, state.mixed) == (RUN, False)
    assert abs(state.missing - slots) < 200
    with pytest.raises(TargetLostData):
        begin(target, expected=RUN)
    again = begin(target)
    assert target.fence(MAPPING) == FenceState("fwd", again.epoch, RUN, 0, 0, 1, "f1")
    loader(target, again).write(records(300))
    assert stored(three) == expected(records(300))


# --- fences -------------------------------------------------------------------------------------


def test_there_is_a_tag_for_every_slot() -> None:
    """
    A fence stands in the slot that it is for.
    """
    assert len(set(tags())) == SLOTS
    assert [slot_of(fence_key("users", slot).encode()) for slot in range(0, SLOTS, 99)] == list(
        range(0, SLOTS, 99)
    )


def test_the_first_run_writes_a_fence_into_every_slot(
    three: RedisCluster, open_cluster: Callable[..., RedisTarget]
) -> None:
    """
    All 16,384 are alike, and read as one.
    """
    target = open_cluster(three)
    assert target.fence(MAPPING) is None

    fence = begin(target, generation=2, revision=3, fingerprint="abc")

    assert (fence.epoch, fence.run) == (1, RUN)
    assert sum(fences(three)) == SLOTS
    assert target.fence(MAPPING) == FenceState("fwd", 1, RUN, 0, 2, 3, "abc")


def test_a_newer_run_locks_the_older_one_out_of_every_slot(
    three: RedisCluster, open_cluster: Callable[..., RedisTarget]
) -> None:
    """
    An older epoch writes nothing anywhere.
    """
    target = open_cluster(three)
    old = loader(target)
    new = loader(target, begin(target, expected=RUN))

    with pytest.raises(Fenced):
        old.write(records(200))
    assert stored(three) == {}
    assert set(new.write(records(200)).outcomes) == {Outcome.WRITTEN}


def test_the_fences_of_another_migration_are_not_taken(
    three: RedisCluster, open_cluster: Callable[..., RedisTarget]
) -> None:
    """
    Another run's fences refuse, and are taken over on request alone.
    """
    target = open_cluster(three)
    begin(target)

    with pytest.raises(TargetTaken):
        begin(target, run=OTHER_RUN, expected=OTHER_RUN)
    assert begin(target, run=OTHER_RUN, expected=None, start_over=True).epoch == 2


def test_one_fence_of_another_migration_is_enough_to_refuse(
    three: RedisCluster, open_cluster: Callable[..., RedisTarget], link: ClusterLink
) -> None:
    """
    Fences of two runs show, and a run does not begin over them.
    """
    target = open_cluster(three)
    begin(target)
    link.command("HSET", fence_key(MAPPING, 77), "run", OTHER_RUN)

    state = target.fence(MAPPING)

    assert state is not None
    assert state.mixed
    with pytest.raises(TargetTaken):
        begin(target, expected=RUN)


def test_a_closed_fence_lets_nobody_begin(
    three: RedisCluster, open_cluster: Callable[..., RedisTarget], link: ClusterLink
) -> None:
    """
    One closed slot is enough, and starting over does not open it.
    """
    target = open_cluster(three)
    begin(target)
    link.command("HSET", fence_key(MAPPING, 77), "mode", "closed")

    for claim in ({"expected": RUN}, {"run": OTHER_RUN, "start_over": True}):
        with pytest.raises(Refused):
            begin(target, **claim)


def test_after_a_purge_a_first_run_begins(
    three: RedisCluster, open_cluster: Callable[..., RedisTarget], link: ClusterLink
) -> None:
    """
    It takes over what the purge left, even where some of that has gone already, and for good.
    """
    target = open_cluster(three)
    begin(target)
    closed = target.close_fence(MAPPING, expected=RUN, own=RUN)
    target.expire_fence(MAPPING, closed)
    link.command("UNLINK", fence_key(MAPPING, 78))

    fence = begin(target, run=OTHER_RUN, expected=RUN)

    assert (fence.run, fence.epoch) == (OTHER_RUN, closed.epoch + 1)
    assert link.command("PTTL", fence_key(MAPPING, 77)) == -1


@pytest.mark.parametrize("command", [("SET", "x"), ("HSET", "name", "x")])
def test_something_else_under_a_fence_is_left_alone(
    three: RedisCluster,
    open_cluster: Callable[..., RedisTarget],
    link: ClusterLink,
    command: tuple[str, ...],
) -> None:
    """
    A key that is no fence is never overwritten.
    """
    key = fence_key(MAPPING, 77)
    name, *words = command
    link.command(name, key, *words)

    with pytest.raises(TargetTaken) as caught:
        begin(open_cluster(three))

    assert caught.value.where["key"] == key
    assert link.command("TYPE", key) == (b"string" if name == "SET" else b"hash")


BEGIN = """
import sys
from migrate.model.settings import Node, RedisConfig
from migrate.target.store import RedisTarget
nodes = tuple(Node("127.0.0.1", int(port)) for port in sys.argv[1:])
with RedisTarget.open(RedisConfig(name="target", nodes=nodes)) as target:
    print("open", flush=True)
    target.begin("users", run={run!r}, expected={expected!r}, generation=0, revision=1,
                 fingerprint="f1")
"""


@pytest.mark.parametrize("expected_run", [None, RUN])
def test_a_beginning_that_was_killed_is_made_good(
    three: RedisCluster,
    open_cluster: Callable[..., RedisTarget],
    link: ClusterLink,
    expected_run: str | None,
) -> None:
    """
    Killed between two fences; the next beginning gives all slots one epoch, above every other.
    """
    target = open_cluster(three)
    if expected_run:
        begin(target)
    told = textwrap.dedent(BEGIN).format(run=RUN, expected=expected_run)
    epoch = b"2" if expected_run else b"1"
    process = subprocess.Popen(
        [sys.executable, "-c", told, *(str(node.port) for node in three.masters)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    with process:
        last = fence_key(MAPPING, 4_000)
        wait_until(
            lambda: link.command("HGET", last, "epoch") == epoch, "some fences", every_s=0.001
        )
        process.send_signal(signal.SIGKILL)
    epochs = link.together([("HGET", fence_key(MAPPING, slot), "epoch") for slot in range(SLOTS)])
    assert 4_000 <= epochs.count(epoch) < SLOTS

    fence = begin(target, expected=expected_run)

    assert fence.epoch == int(epoch) + 1
    assert target.fence(MAPPING) == FenceState("fwd", fence.epoch, RUN, 0, 0, 1, "f1")


# --- lookups ------------------------------------------------------------------------------------

NEAR = RecordShape(
    fingerprint="0" * 32,
    template="user:{{{tenant}}}:{id}",
    lookups=((LookupKind.UNIQUE, "email:{{{tenant}}}:{email}"),),
)


def test_entries_are_written_beside_their_records(
    three: RedisCluster, open_cluster: Callable[..., RedisTarget]
) -> None:
    """
    With a hash tag in common, records and their unique entries are one step.
    """
    target = open_cluster(three)
    batch = [
        one._replace(
            key=b"user:{t%d}:%d" % (at % 7, at),
            entries=(Entry(b"u", b"email:{t%d}:%d" % (at % 7, at)),),
        )
        for at, one in enumerate(records(70))
    ]
    writes = target.loader(MAPPING, begin(target), NEAR)

    assert set(writes.write(batch).outcomes) == {Outcome.WRITTEN}
    with closing(three.client()) as client:
        assert [client.get(one.entries[0].key) for one in batch] == [one.key for one in batch]


@pytest.mark.parametrize(
    ("record_key", "lookup"),
    [
        ("user:{id}", "email:{email}"),
        ("user:{{{tenant}}}:{id}", "email:{email}"),
        ("user:{id}", "email:{{{tenant}}}:{email}"),
        ("user:{{{tenant}}}:{id}", "email:{{{email}}}"),
    ],
)
def test_lookups_in_another_slot_are_refused(
    three: RedisCluster, open_cluster: Callable[..., RedisTarget], record_key: str, lookup: str
) -> None:
    """
    Exit 4 before anything is written, with the way out.
    """
    target = open_cluster(three)
    shape = replace(NEAR, template=record_key, lookups=((LookupKind.SET, lookup),))

    for make in (
        lambda: target.loader(MAPPING, Fence("fwd", 1, RUN, 0), shape),
        lambda: target.dry_loader(MAPPING, shape),
    ):
        with pytest.raises(Refused) as caught:
            make()
        assert "hash tag" in caught.value.next_step


def test_a_row_whose_tag_is_empty_is_refused(
    three: RedisCluster, open_cluster: Callable[..., RedisTarget]
) -> None:
    """
    An empty tag is none: then record and entry are in two slots, and nothing is written.
    """
    target = open_cluster(three)
    odd = record(1)._replace(key=b"user:{}:1", entries=(Entry(b"u", b"email:{}:1"),))
    for writes in (
        target.loader(MAPPING, begin(target), NEAR),
        target.dry_loader(MAPPING, NEAR),
    ):
        with pytest.raises(Refused):
            writes.write([odd])
    assert stored(three) == {}


@pytest.mark.parametrize(
    ("template", "tag"),
    [
        ("user:{id}", ""),
        ("user:{{{tenant}}}:{id}", "{tenant}"),
        ("user:{{all}}:{id}", "all"),
        ("user:{{t{tenant}x}}:{id}", "t{tenant}x"),
        ("user:{{}}{id}", ""),
        ("user:{{{id}", ""),
        ("user:{{a}}:{{b}}:{id}", "a"),
        ("users:seen", ""),
    ],
)
def test_the_tag_of_a_template(template: str, tag: str) -> None:
    """
    It is what Redis sees: from the first brace to the next closing one, if anything is between.
    """
    assert tag_of(template) == tag


# --- health and identity ------------------------------------------------------------------------


def test_the_worst_master_speaks_for_all(
    three: RedisCluster, open_cluster: Callable[..., RedisTarget]
) -> None:
    """
    Memory is that of the fullest, and a concern names the master that it is about.
    """
    target = open_cluster(three)
    for node in three.masters:
        node.set(maxmemory="100mb")
    full = three.masters[1]
    used = full.client().info("memory")["used_memory"]
    full.set(maxmemory=str(used * 2), maxmemory_policy="allkeys-lru")
    try:
        health, signals = target.health(), target.signals()
        concerns = {concern.check: concern.message for concern in unsafe(health)}
    finally:
        for node in three.masters:
            node.set(maxmemory="0", maxmemory_policy="noeviction")

    assert health.maxmemory is not None
    assert health.used_memory is not None
    assert 0.3 < health.used_memory / health.maxmemory < 0.7
    assert 0.3 < signals.used_memory / signals.maxmemory < 0.7
    assert health.policy == "allkeys-lru"
    assert len(health.servers) == 3
    assert concerns["eviction"].startswith(f"{HOST}:{full.port}: ")
    assert health.role == "master"
    assert isinstance(health.to_dict()["servers"], dict)


def test_the_identity_is_that_of_all_masters(
    open_cluster: Callable[..., RedisTarget],
) -> None:
    """
    A restart of any master changes it, and a slot that moves between them does not.
    """
    with cluster(appendonly="yes") as made:
        target = open_cluster(made, retry_for_s=60.0)
        before = target.identity()
        made.move(5, made.masters[2])
        moved = target.identity()
        made.masters[0].restart()
        after = target.identity()

    assert before.topology == Topology.CLUSTER
    assert len(before.run_id) == 40
    assert before.run_id == moved.run_id
    assert after.run_id not in ("", before.run_id)
    assert after.address == before.address


def test_every_command_is_tried_on_every_master(
    three: RedisCluster, open_cluster: Callable[..., RedisTarget]
) -> None:
    """
    All commands work, and the line that doctor prints is enough for a user.
    """
    target = open_cluster(three)
    rule = target.acl_rule(["user:"]).replace("PASSWORD", "secret")
    for node in three.masters:
        node.client().execute_command(*rule.split(" "))
    limited = open_cluster(three, username="migrate", password=Secret("secret"))
    try:
        assert [one.command for one in target.probe_commands(["user:"]) if not one.ok] == []
        assert [one.command for one in limited.probe_commands(["user:"]) if not one.ok] == []
        assert set(loader(limited).write(records(50)).outcomes) == {Outcome.WRITTEN}
        assert limited.identity().run_id == target.identity().run_id
    finally:
        for node in three.masters:
            node.client().acl_deluser("migrate")
    assert set(stored(three)) == {one.key for one in records(50)}


def test_a_sample_is_measured(
    three: RedisCluster, open_cluster: Callable[..., RedisTarget]
) -> None:
    """
    What records cost is learnt without leaving a key behind.
    """
    target = open_cluster(three)

    cost = target.measure(records(30), SHAPE)

    assert cost.sizes is not None
    assert all(size > 0 for size in cost.sizes)
    assert target.is_empty()
