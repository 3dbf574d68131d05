"""
The nodes of a Cluster: who owns which slot, and a client of each, without the driver's routing.

The driver's own client for clusters refuses scripts in pipelines, and sends commands without a key
to a node of its choice. Here nothing is sent but what a caller names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import redis
from redis.exceptions import SlotNotCoveredError

from migrate.model.settings import Node, RedisConfig
from migrate.target.connect import PROTOCOL, Greeting, check_files, client_of
from migrate.target.retry import DRIVER_ERRORS, classify
from migrate.target.slots import SLOTS


class Nodes:
    """
    The slot table, as one of the nodes tells it, and a client of every node, made when needed.

    Nothing is asked before it is needed; driver errors are left to the caller's patience.
    """

    def __init__(self, config: RedisConfig, protocol: int = PROTOCOL) -> None:
        check_files(config)
        self._config = config
        self._protocol = protocol
        self.greeting = Greeting(config.name)
        self._clients: dict[Node, redis.Redis] = {}
        self._owners: tuple[Node | None, ...] = (None,) * SLOTS
        self._known: list[Node] = list(config.nodes)
        """Whom to ask for the table, the most trusted first."""
        self._stale = True
        self._changes = 0

    @property
    def connections(self) -> int:
        """
        How many connections were made, and how often the table changed.

        Either may mean that another server answers now than before.
        """
        return self.greeting.count + self._changes

    def client(self, node: Node) -> redis.Redis:
        """
        A client of exactly this node.
        """
        if node not in self._clients:
            made = client_of(self._config, node, self.greeting, self._protocol)
            self._clients[node] = made
        return self._clients[node]

    def owner(self, slot: int) -> Node:
        """
        The master that owns a slot.

        Raises:
            SlotNotCoveredError: None does.
        """
        self._renew()
        node = self._owners[slot]
        if node is None:
            self._stale = True
            raise SlotNotCoveredError(f"slot {slot} has no master")
        return node

    def masters(self) -> tuple[Node, ...]:
        """
        Every master that owns slots.

        Raises:
            SlotNotCoveredError: Some slots have none; a look at all of them would be incomplete.
        """
        self._renew()
        if None in self._owners:
            self._stale = True
            raise SlotNotCoveredError("some slots have no master")
        found = {node for node in self._owners if node is not None}
        return tuple(sorted(found, key=str))

    def moved(self, slot: int, node: Node) -> None:
        """
        A node said that another one owns this slot: believe it, and have that one tell the rest.
        """
        owners = list(self._owners)
        owners[slot] = node
        self._owners = tuple(owners)
        self._known = [node, *(other for other in self._known if other != node)]
        self._changes += 1
        self._stale = True

    def distrust(self, node: Node) -> None:
        """
        A node failed us: look at the table again, and ask this one last.
        """
        self._known = [*(other for other in self._known if other != node), node]
        self._stale = True

    def forget(self) -> None:
        """
        Look at the table again before it is used.
        """
        self._stale = True

    def close(self) -> None:
        """
        Close every connection. A server that is away is no reason to fail.
        """
        for client in self._clients.values():
            with suppress(redis.RedisError, OSError):
                client.close()

    def _renew(self) -> None:
        if not self._stale:
            return
        for at, node in enumerate(list(self._known)):
            try:
                client: Any = self.client(node)
                reply = client.execute_command("CLUSTER", "SLOTS")
            except DRIVER_ERRORS as error:
                if at == len(self._known) - 1 or not classify(error).waits:
                    raise
                continue
            self._take(node, reply)
            return

    def _take(self, told_by: Node, reply: list[list[Any]]) -> None:
        owners: list[Node | None] = [None] * SLOTS
        known = dict.fromkeys(self._config.nodes)
        for first, last, *servers in reply:
            nodes = list(_announced(servers, told_by))
            known |= dict.fromkeys(nodes)
            for slot in range(int(first), int(last) + 1):
                owners[slot] = nodes[0]
        # Next time another one is asked: a node that is cut off goes on to tell what it knew.
        self._known = [*(node for node in known if node != told_by), told_by]
        self._stale = False
        if tuple(owners) != self._owners:
            self._owners = tuple(owners)
            self._changes += 1


def _announced(servers: list[Any], told_by: Node) -> Iterator[Node]:
    """
    The addresses of the servers of a range, master first; one without a host is where we asked.
    """
    for server in servers:
        host, port, *_ = server
        name = host.decode() if isinstance(host, bytes) else str(host or "")
        yield Node(told_by.host if name in ("", "?") else name, int(port))
