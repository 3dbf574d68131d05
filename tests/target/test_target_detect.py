"""
What a configuration points at: real servers, real sentinels, a real cluster.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis

from migrate.errors import TargetAccessDenied, TargetUnavailable, UsageProblem
from migrate.model.secret import Secret
from migrate.model.settings import Node, RedisConfig, Topology
from migrate.model.values import Outcome
from migrate.target.detect import Detected, detect
from migrate.target.detect import _by_trial as by_trial
from migrate.target.nodes import Nodes
from migrate.target.retry import SystemClock
from migrate.target.store import RedisTarget
from tests.servers import HOST, RedisServer, free_port, local_redis, wait_until
from tests.target.conftest import Heard, Skipping, expected, loader, records, stored
from tests.topologies import SentinelGroup, cluster, sentinel_group


@pytest.fixture(scope="module")
def group() -> Iterator[SentinelGroup]:
    """
    One master, behind sentinels that ask for a password.
    """
    with sentinel_group("main", password="CANARY-sentinel") as made:
        yield made


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[RedisServer]]:
    """
    A cluster of three.
    """
    with cluster() as made:
        yield made.masters


def cluster_config(nodes: list[RedisServer], **changes: Any) -> RedisConfig:
    fields: dict[str, Any] = {
        "name": "target",
        "nodes": tuple(Node(HOST, node.port) for node in nodes),
    }
    return RedisConfig(**{**fields, **changes})


def address(server: RedisServer) -> str:
    return f"{HOST}:{server.port}"


@pytest.mark.parametrize("topology", [Topology.AUTO, Topology.STANDALONE])
def test_a_server_of_its_own(redis_server: RedisServer, topology: Topology) -> None:
    """
    A single server is found as such, with flavour, version and role.
    """
    said = redis_server.client().info("server")

    found = detect(redis_server.config(topology=topology))

    assert found == Detected(
        Topology.STANDALONE,
        "redis",
        said["redis_version"],
        "master",
        (address(redis_server),),
        told_by="info",
    )
    assert found.to_dict()["topology"] == "standalone"


@pytest.mark.containers
def test_flavour_and_version_of_every_server(any_redis: RedisServer) -> None:
    """
    Valkey is not taken for the Redis 7.2 that it claims to be.
    """
    found = detect(any_redis.config())

    flavour, version = any_redis.name.removeprefix("embedded-").rpartition("-")[::2]
    assert (found.flavour, found.topology) == (flavour or "redis", Topology.STANDALONE)
    assert found.version.startswith(version)


@pytest.mark.containers
def test_every_server_tells_without_info(any_redis: RedisServer) -> None:
    """
    A user without INFO learns the same from HELLO.
    """
    client = any_redis.client()
    before = detect(any_redis.config())
    client.execute_command("ACL SETUSER migrate on >CANARY ~* +@all -@dangerous".replace("  ", " "))
    try:
        found = detect(any_redis.config(username="migrate", password=Secret("CANARY")))
    finally:
        client.acl_deluser("migrate")

    assert found.told_by == "hello"
    assert (found.flavour, found.topology) == (before.flavour, Topology.STANDALONE)


def test_a_replica(redis_server: RedisServer) -> None:
    """
    A replica is named as one.
    """
    redis_server.client().execute_command("REPLICAOF", HOST, str(free_port()))

    assert detect(redis_server.config()).role == "replica"


@pytest.mark.parametrize("topology", [Topology.AUTO, Topology.SENTINEL])
def test_a_master_behind_sentinels(group: SentinelGroup, topology: Topology) -> None:
    """
    Sentinels are recognised, asked with their own password, and lead to the master.

    Where they watch one only, it need not be named.
    """
    service = "main" if topology is Topology.SENTINEL else None

    found = detect(group.config(topology=topology, service=service))

    assert found.topology is Topology.SENTINEL
    assert (found.service, found.role) == ("main", "master")
    assert found.nodes == (address(group.masters["main"]),)


def test_sentinels_with_a_wrong_password(
    group: SentinelGroup, clock: Skipping, heard: Heard
) -> None:
    """
    Exit 2 at once, whether the topology is named or not.
    """
    for changes in ({}, {"topology": Topology.SENTINEL, "service": "main"}):
        config = group.config(sentinel_password=Secret("CANARY-wrong"), **changes)

        with pytest.raises(TargetAccessDenied):
            detect(config, heard, clock)

    assert heard.waits == []


def test_sentinels_that_do_not_know_the_name(
    group: SentinelGroup, clock: Skipping, heard: Heard
) -> None:
    """
    A master that nobody watches is waited for (a failover hides it for a moment), then exit 6.
    """
    config = group.config(service="absent", retry_for_s=3)

    with pytest.raises(TargetUnavailable) as caught:
        detect(config, heard, clock)

    assert caught.value.where["reason"] == "no-master"


def test_loading_through_sentinel(
    group: SentinelGroup, open_target: Callable[..., RedisTarget], clock: Skipping
) -> None:
    """
    A master behind Sentinel is loaded like any server, even when one sentinel is away.
    """
    dead = Node(HOST, free_port())
    config = group.config(service="main")
    config = group.config(service="main", nodes=(dead, *config.nodes))

    with RedisTarget.open(config, clock=clock) as target:
        receipt = loader(target).write(records(300))

        assert set(receipt.outcomes) == {Outcome.WRITTEN}
        assert target.identity().topology == "sentinel"
        assert target.identity().address.endswith("/main/0")
    assert stored(group.masters["main"]) == expected(records(300))


def test_several_masters_and_no_name() -> None:
    """
    Which of two masters is meant is not guessed: both are named.
    """
    with sentinel_group("jobs", "profiles") as group:
        with pytest.raises(UsageProblem) as caught:
            detect(group.config())

        assert "jobs, profiles" in caught.value.what
        assert detect(group.config(service="jobs")).service == "jobs"


@pytest.mark.parametrize("topology", [Topology.AUTO, Topology.CLUSTER])
def test_a_cluster(nodes: list[RedisServer], topology: Topology) -> None:
    """
    A cluster is found from any of its nodes, with all its masters.
    """
    found = detect(cluster_config(nodes[:1], topology=topology))

    assert found.topology is Topology.CLUSTER
    assert found.nodes == tuple(sorted(address(node) for node in nodes))


@pytest.mark.parametrize("protocol", [2, 3])
def test_every_node_of_a_cluster_answers(nodes: list[RedisServer], protocol: int) -> None:
    """
    From one address all masters are found, and the client of each reaches it.
    """
    known = Nodes(cluster_config(nodes[:1]), protocol)
    try:
        ports = [known.client(node).config_get("port")["port"] for node in known.masters()]

        assert {int(port) for port in ports} == {node.port for node in nodes}
        assert known.connections >= 3
    finally:
        known.close()


def test_a_named_topology_that_the_server_contradicts(
    redis_server: RedisServer, nodes: list[RedisServer], group: SentinelGroup
) -> None:
    """
    A configuration that says otherwise is an error that says what was found.
    """
    wrong = {
        "standalone": [
            cluster_config([*nodes, redis_server][3:], topology=Topology.CLUSTER),
            redis_server.config(service="main"),
        ],
        "cluster": [cluster_config(nodes[:1], topology=Topology.STANDALONE)],
    }

    for found, configs in wrong.items():
        for config in configs:
            with pytest.raises(UsageProblem) as caught:
                detect(config)
            assert caught.value.where["found"] == found


def test_several_single_servers(redis_server: RedisServer, nodes: list[RedisServer]) -> None:
    """
    A list of servers that do not belong together is not taken for one.
    """
    config = redis_server.config(
        nodes=(Node(HOST, redis_server.port), Node(HOST, redis_server.port))
    )

    with pytest.raises(UsageProblem):
        detect(config)


def test_nobody_there(clock: Skipping, heard: Heard) -> None:
    """
    No server at the address: waited for, told, exit 6.
    """
    config = RedisConfig("target", nodes=(Node(HOST, free_port()),), retry_for_s=4)

    with pytest.raises(TargetUnavailable):
        detect(config, heard, clock)

    assert heard.reasons == {"connection"}
    assert clock.elapsed == pytest.approx(4)


def test_a_host_name_that_nobody_knows(clock: Skipping) -> None:
    """
    A name that cannot be resolved is named as such.
    """
    config = RedisConfig("target", nodes=(Node("no-such-host.invalid", 6379),), retry_for_s=1)

    with pytest.raises(TargetUnavailable) as caught:
        detect(config, clock=clock)

    assert caught.value.where["reason"] == "name"


def test_without_info_and_hello() -> None:
    """
    A server that tells nothing is taken for what it does: it has neither slots nor sentinels.
    """
    server = RedisServer.local(local_redis(), rename_command='HELLO ""')
    with contextlib.closing(server):
        server.runner.start()
        client = server.client(protocol=2)
        wait_until(lambda: _answers(client), "the server to answer")
        line = "ACL SETUSER migrate on >CANARY ~* +@all -info"
        client.execute_command(*line.split(" "))
        config = server.config(username="migrate", password=Secret("CANARY"))

        found = detect(config)
        named = detect(replace(config, topology=Topology.STANDALONE))

    assert found == Detected(
        Topology.STANDALONE, "", "", "unknown", (address(server),), told_by="trial"
    )
    assert named.told_by == "configuration"


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_trial_tells_a_cluster_and_a_sentinel(
    nodes: list[RedisServer], group: SentinelGroup
) -> None:
    """
    Only a cluster knows slots, and only a sentinel knows masters.
    """
    tried = [by_trial(server.client().execute_command) for server in (nodes[0], group.sentinels[0])]

    assert [answer.topology for answer in tried] == [Topology.CLUSTER, Topology.SENTINEL]


def test_a_cluster_tells_without_info(nodes: list[RedisServer]) -> None:
    """
    A user without INFO finds the cluster all the same.
    """
    line = "ACL SETUSER migrate on >CANARY ~* +@all -info"
    config = cluster_config(nodes, username="migrate", password=Secret("CANARY"))
    try:
        for node in nodes:
            node.client().execute_command(*line.split(" "))
        found = detect(config)
    finally:
        for node in nodes:
            node.client().acl_deluser("migrate")

    assert (found.topology, found.told_by) == (Topology.CLUSTER, "hello")


def test_a_failover_is_followed() -> None:
    """
    After a failover the same target writes to the new master, and the loader names another server.
    """
    with sentinel_group("main", replicas=True) as group:
        master, replica = group.masters["main"], group.replicas["main"]
        config = group.config(service="main", retry_for_s=60)
        with RedisTarget.open(config, clock=SystemClock()) as target:
            writes = loader(target)
            writes.write(records(100))
            before = writes.server
            wait_until(lambda: replica.client().dbsize() == 101, "the records to arrive")

            wait_until(lambda: _fails_over(group.sentinels[0]), "the failover", timeout_s=30)
            wait_until(lambda: _role(replica) == "master", "the promotion", timeout_s=30)
            master.kill()
            writes.write(records(200, version=2))

            assert stored(replica) == expected(records(200, version=2))
            assert writes.server not in {"", before}


def _fails_over(sentinel: RedisServer) -> bool:
    # It takes a moment until a sentinel knows a replica well enough to promote it.
    try:
        sentinel.client().execute_command("SENTINEL FAILOVER", "main")
    except redis.ResponseError:
        return False
    return True


def _role(server: RedisServer) -> str:
    try:
        return str(server.client().info("replication")["role"])
    except redis.ConnectionError:
        # A sentinel closes every connection of a server that it promotes.
        return "changing"
