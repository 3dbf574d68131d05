"""
A Sentinel group and a Cluster of three, from the same binary as the plain server.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from migrate.model.secret import Secret
from migrate.model.settings import Node, RedisConfig
from tests.servers import HOST, ProcessRunner, RedisServer, local_redis, wait_until

SLOTS = 16384

BUS = 10_000
"""How far above its port a node of a cluster listens for the other nodes."""


def start(stack: ExitStack, server: RedisServer) -> RedisServer:
    """
    Start it, and end it with the stack.
    """
    stack.callback(server.close)
    server.start()
    return server


@dataclass
class SentinelGroup:
    """
    Masters and two sentinels that watch them.
    """

    masters: dict[str, RedisServer]
    replicas: dict[str, RedisServer]
    sentinels: list[RedisServer]
    password: str | None

    @property
    def yaml(self) -> str:
        """
        The keys of migrate.yaml that point at the first master, through the sentinels.
        """
        nodes = ", ".join(f"{HOST}:{sentinel.port}" for sentinel in self.sentinels)
        return f"nodes: [{nodes}], topology: sentinel, service: {next(iter(self.masters))}"

    def fail_over(self, name: str) -> None:
        """
        Have the sentinels promote the replica of a master, and wait until it is one.
        """
        wait_until(lambda: self._promotes(name), "the failover", timeout_s=60)
        wait_until(lambda: _promoted(self.replicas[name]), "the promotion", timeout_s=60)

    def _promotes(self, name: str) -> bool:
        # It takes a moment until a sentinel knows a replica well enough to promote it.
        try:
            self.sentinels[0].client().execute_command("SENTINEL FAILOVER", name)
        except redis.ResponseError:
            return False
        return True

    def config(self, **changes: Any) -> RedisConfig:
        """
        What the program needs to find a master through the sentinels.
        """
        fields: dict[str, Any] = {
            "name": "target",
            "nodes": tuple(Node(HOST, sentinel.port) for sentinel in self.sentinels),
            "sentinel_password": Secret(self.password) if self.password else None,
        }
        return RedisConfig(**{**fields, **changes})


def _sentinel(binary: Path, masters: dict[str, RedisServer], password: str | None) -> RedisServer:
    def command(data: Path, port: int) -> list[str | Path]:
        lines = [f"port {port}", f"bind {HOST}", f"dir {data}"]
        if password:
            lines.append(f"requirepass {password}")
        for name, master in masters.items():
            lines.append(f"sentinel monitor {name} {HOST} {master.port} 1")
            lines.append(f"sentinel down-after-milliseconds {name} 1000")
        path = data / "sentinel.conf"
        path.write_text("\n".join(lines) + "\n")
        return [binary, path, "--sentinel"]

    options = {"requirepass": password} if password else {}
    return RedisServer("sentinel", ProcessRunner(command), options)


@contextmanager
def sentinel_group(
    *names: str, password: str | None = None, replicas: bool = False
) -> Iterator[SentinelGroup]:
    """
    A group that watches masters of these names; `password` is that of the sentinels.
    """
    binary = local_redis()
    with ExitStack() as stack:
        masters = {name: start(stack, RedisServer.local(binary, name)) for name in names}
        followers = {}
        for name, master in masters.items() if replicas else ():
            made = RedisServer.local(binary, f"{name}-2", replicaof=f"{HOST} {master.port}")
            followers[name] = start(stack, made)
            # A sentinel asks for replicas at its start, and then only every ten seconds.
            wait_until(lambda at=made: _follows(at), "the replica to follow", timeout_s=30)  # type: ignore[misc]
        sentinels = [start(stack, _sentinel(binary, masters, password)) for _ in range(2)]
        for sentinel in sentinels:
            wait_until(lambda at=sentinel: _knows(at, masters), "the sentinels to know the masters")  # type: ignore[misc]
        yield SentinelGroup(masters, followers, sentinels, password)


def _follows(replica: RedisServer) -> bool:
    said = replica.client().info("replication")
    return said.get("master_link_status") == "up"


def _promoted(server: RedisServer) -> bool:
    try:
        return bool(server.client().info("replication")["role"] == "master")
    except redis.ConnectionError:
        # A sentinel closes every connection of a server that it promotes.
        return False


def _knows(sentinel: RedisServer, masters: dict[str, RedisServer]) -> bool:
    known = sentinel.client().sentinel_masters()
    return len(known) == len(masters) and all(m["is_master"] for m in known.values())


@dataclass
class RedisCluster:
    """
    Masters that cover all slots, and a replica of each where asked for.
    """

    masters: list[RedisServer]
    replicas: list[RedisServer]

    @property
    def nodes(self) -> list[RedisServer]:
        """
        All of them.
        """
        return [*self.masters, *self.replicas]

    @property
    def yaml(self) -> str:
        """
        The keys of migrate.yaml that point at this cluster.
        """
        return f"nodes: [{', '.join(f'{HOST}:{node.port}' for node in self.nodes)}]"

    def config(self, **changes: Any) -> RedisConfig:
        """
        What the program needs to connect; `changes` replace fields of `RedisConfig`.
        """
        fields: dict[str, Any] = {
            "name": "target",
            "nodes": tuple(Node(HOST, node.port) for node in self.nodes),
        }
        return RedisConfig(**{**fields, **changes})

    def client(self) -> redis.RedisCluster:
        """
        The driver's own client, which shares nothing with the program's routing.
        """
        alive = next(node for node in self.nodes if node.running())
        return redis.RedisCluster(host=HOST, port=alive.port)

    def owner(self, slot: int) -> RedisServer:
        """
        The master of a slot, as the nodes that run see it.
        """
        table = self._ask("CLUSTER", "SLOTS")
        port = next(int(row[2][1]) for row in table if row[0] <= slot <= row[1])
        return next(node for node in self.nodes if node.port == port)

    def begin_move(self, slot: int, to: RedisServer) -> None:
        """
        Open a slot for moving; no key is moved yet.
        """
        source = self.owner(slot)
        to.client().execute_command("CLUSTER SETSLOT", slot, "IMPORTING", node_id(source))
        source.client().execute_command("CLUSTER SETSLOT", slot, "MIGRATING", node_id(to))

    def move_keys(self, source: RedisServer, slot: int, to: RedisServer, *keys: bytes) -> None:
        """
        Move these keys of an open slot, or all of them.
        """
        client = source.client()
        while found := keys or client.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
            client.execute_command("MIGRATE", HOST, to.port, "", 0, 5_000, "KEYS", *found)
            if keys:
                return

    def end_move(self, slot: int, to: RedisServer) -> None:
        """
        Give an open slot to its new master, and tell the others.
        """
        owner = node_id(to)
        to.client().execute_command("CLUSTER SETSLOT", slot, "NODE", owner)
        for node in self.masters:
            if node.running() and _is_master(node):
                node.client().execute_command("CLUSTER SETSLOT", slot, "NODE", owner)

    def move(self, slot: int, to: RedisServer) -> None:
        """
        Move a slot with all its keys.
        """
        source = self.owner(slot)
        self.begin_move(slot, to)
        self.move_keys(source, slot, to)
        self.end_move(slot, to)

    def wait_until_replicated(self) -> None:
        """
        Wait until every replica has what its master has.
        """
        for node in self.replicas:
            wait_until(lambda at=node: _follows(at), "the replica to follow", timeout_s=30)  # type: ignore[misc]
        for node in self.masters:
            if node.running() and _is_master(node):
                assert node.client().wait(1, 10_000) >= 1

    def fail_over(self, master: RedisServer) -> RedisServer:
        """
        Kill -9 a master and wait until its replica has taken over.
        """
        replica = self.replica_of(master)
        master.kill()
        wait_until(lambda: _is_master(replica), "the replica to take over", timeout_s=60)
        for node in self.nodes:
            if node.running():
                wait_until(lambda at=node: _is_up(at), "the cluster to be up", timeout_s=60)  # type: ignore[misc]
        return replica

    def replica_of(self, master: RedisServer) -> RedisServer:
        """
        The replica that follows this master.
        """
        return next(
            node
            for node in self.replicas
            if node.running()
            and int(node.client().info("replication").get("master_port", 0)) == master.port
        )

    def _ask(self, *words: Any) -> Any:
        alive = next(node for node in self.nodes if node.running())
        return alive.client().execute_command(*words)


def node_id(node: RedisServer) -> str:
    """
    How the nodes of a cluster name this one.
    """
    return str(node.client().execute_command("CLUSTER MYID").decode())


@contextmanager
def cluster(*, replicas: bool = False, masters: int = 3, **options: str) -> Iterator[RedisCluster]:
    """
    Masters that cover all slots, each with a replica where asked for.
    """
    binary = local_redis()
    with ExitStack() as stack:
        made = [start(stack, _node(binary, f"node-{at}", options)) for at in range(masters)]
        for at, node in enumerate(made):
            client = node.client()
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", at + 1)
            slots = range(at * SLOTS // masters, (at + 1) * SLOTS // masters)
            client.execute_command("CLUSTER ADDSLOTS", *slots)
        followers = []
        if replicas:
            followers = [
                start(stack, _node(binary, f"replica-{at}", options)) for at in range(masters)
            ]
        found = RedisCluster(made, followers)
        for node in found.nodes:
            node.client().execute_command("CLUSTER MEET", HOST, made[0].port)
        for node in found.nodes:
            wait_until(
                lambda at=node: _is_up(at, len(found.nodes)),  # type: ignore[misc]
                "the cluster to cover all slots",
                timeout_s=60,
            )
        for master, follower in zip(made, followers, strict=False):
            follower.client().execute_command("CLUSTER REPLICATE", node_id(master))
        for follower in followers:
            wait_until(lambda at=follower: _follows(at), "the replica to follow", timeout_s=60)  # type: ignore[misc]
        for node in made if replicas else ():
            # Only then can a failover be decided: every master knows every replica.
            wait_until(
                lambda at=node: _replicas_known(at) == masters,  # type: ignore[misc]
                "the masters to know the replicas",
                timeout_s=60,
            )
        yield found


def _node(binary: Path, name: str, options: dict[str, str]) -> RedisServer:
    server = RedisServer.local(
        binary,
        name,
        **{
            "cluster_enabled": "yes",
            "cluster_node_timeout": "2000",
            "cluster_announce_ip": HOST,
            **options,
        },
    )
    # Nodes talk on their port + 10000, which must not be one of the ephemeral ports either.
    server.runner.port = next(port for port in _ports() if _is_free(port) and _is_free(port + BUS))
    return server


def _ports() -> Iterator[int]:
    while True:
        yield random.SystemRandom().randrange(20_000, 22_000)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _is_up(node: RedisServer, known: int | None = None) -> bool:
    state = node.client().execute_command("CLUSTER INFO")
    fields = state if isinstance(state, dict) else {}
    return fields.get("cluster_state") == "ok" and known in (
        None,
        int(fields.get("cluster_known_nodes", 0)),
    )


def _is_master(node: RedisServer) -> bool:
    return bool(node.client().info("replication")["role"] == "master")


def _replicas_known(node: RedisServer) -> int:
    text = node.client().execute_command("CLUSTER", "NODES")
    return sum(b"slave" in line for line in text.splitlines())
