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


def _knows(sentinel: RedisServer, masters: dict[str, RedisServer]) -> bool:
    known = sentinel.client().sentinel_masters()
    return len(known) == len(masters) and all(m["is_master"] for m in known.values())


@contextmanager
def cluster() -> Iterator[list[RedisServer]]:
    """
    Three masters that cover all slots.
    """
    binary = local_redis()
    with ExitStack() as stack:
        nodes = [start(stack, _node(binary, f"node-{at}")) for at in range(3)]
        for at, node in enumerate(nodes):
            client = node.client()
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", at + 1)
            slots = range(at * SLOTS // 3, (at + 1) * SLOTS // 3)
            client.execute_command("CLUSTER ADDSLOTS", *slots)
            client.execute_command("CLUSTER MEET", HOST, nodes[0].port)
        for node in nodes:
            wait_until(lambda at=node: _covers(at), "the cluster to cover all slots", timeout_s=30)  # type: ignore[misc]
        yield nodes


def _node(binary: Path, name: str) -> RedisServer:
    server = RedisServer.local(
        binary,
        name,
        cluster_enabled="yes",
        cluster_node_timeout="2000",
        cluster_announce_ip=HOST,
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


def _covers(node: RedisServer) -> bool:
    state = node.client().execute_command("CLUSTER INFO")
    fields = state if isinstance(state, dict) else {}
    return fields.get("cluster_state") == "ok" and fields.get("cluster_known_nodes") == "3"
