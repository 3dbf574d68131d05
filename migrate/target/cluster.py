"""
How the target side talks to a Cluster: every command goes to the master of its key's slot.

Commands are grouped into one plain pipeline a node, and replies put back by position. Redirections
are followed; a slot that is on its way, and a node that is away, are waited for as anything else.
A command without a key is never sent on its own: `each` says it to all masters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import redis
from redis.exceptions import AskError, ClusterError, MovedError, TryAgainError

from migrate.errors import TargetNotWritable
from migrate.model.settings import Node, RedisConfig
from migrate.target.connect import Connected
from migrate.target.link import Command, Link, failed, load_of, send
from migrate.target.nodes import Nodes
from migrate.target.retry import ADVICE, DRIVER_ERRORS, Impatient, Kind, Patience, classify
from migrate.target.scripts import Script
from migrate.target.slots import slot_of

T = TypeVar("T")

REDIRECTS = 5
"""How often a command follows the table or a redirection in one attempt."""

PASSES = 10
"""How often all keys are looked through, at most, until no slot moved meanwhile."""

_KEYED = """
DEL DUMP EXISTS EXPIRE GET GETRANGE HDEL HEXISTS HGET HGETALL HINCRBY HKEYS HLEN HMGET HSCAN HSET
HSTRLEN PERSIST PEXPIRE PEXPIREAT PTTL RENAME RENAMENX RESTORE SADD SCARD SET SETRANGE SISMEMBER
SMEMBERS SRANDMEMBER SREM SSCAN STRLEN TTL TYPE UNLINK ZADD ZCARD ZRANGE ZREM ZSCAN ZSCORE
"""

FIRST_KEY: Mapping[str, int] = {
    **dict.fromkeys(_KEYED.split(), 1),
    **dict.fromkeys(("MEMORY USAGE", "OBJECT ENCODING"), 1),
    **dict.fromkeys(("EVAL", "EVALSHA"), 3),
}
"""Where a command has its first key. One that is not here is not sent by its key."""


class ClusterLink(Link):
    """
    The masters of a Cluster and the patience to use them.
    """

    def __init__(self, config: RedisConfig, nodes: Nodes, patience: Patience) -> None:
        self.config = config
        self.patience = patience
        self._nodes = nodes

    @property
    def connections(self) -> int:
        """
        How many connections to any node were made, and how often slots changed hands.
        """
        return self._nodes.connections

    def renew(self) -> None:
        """
        Have the slot table read anew before the next command.
        """
        self._nodes.forget()

    def command(self, *words: Any) -> Any:
        """
        The reply to one command.
        """
        return self.together([words])[0]

    def each(self, read: Callable[[Link], T]) -> dict[str, T]:
        """
        What a function reads from every master that owns slots, by its address.
        """
        return self.patience.call(lambda: self._each(read))

    def slot_of(self, key: bytes) -> int | None:
        """
        The slot that a key is in.
        """
        return slot_of(key)

    def time_ms(self) -> int:
        """
        The latest of the masters' clocks.
        """
        return max(self.each(Link.time_ms).values())

    def scan(self, pattern: bytes, count: int = 1_000) -> Iterator[list[bytes]]:
        """
        Pages of the keys that match a glob, of every master.

        Looks again at everything for as long as slots move: a key may move from a master that was
        not looked at yet to one that was.

        Raises:
            TargetNotWritable: Slots moved all the time.
        """
        for _ in range(PASSES):
            before = self._layout()
            for node in self.patience.call(self._nodes.masters):
                yield from self._scan(node, pattern, count)
            if before == self._layout() and not any(_is_moving(line) for line in before):
                return
        raise TargetNotWritable(
            ADVICE["resharding"].what,
            where={"redis": self.config.name, "address": self.config.address, "passes": PASSES},
            next_step=ADVICE["resharding"].next_step,
        )

    def close(self) -> None:
        """
        Give the connections back.
        """
        self._nodes.close()

    # --- one attempt ------------------------------------------------------------------------

    def _send(self, commands: Sequence[Command], *, transaction: bool = False) -> list[Any]:
        if transaction:
            return self._send_as_one(commands)
        return self._route(commands)

    def _load_and_send(self, script: Script, calls: Sequence[Command]) -> list[Any]:
        return self._route(calls, first=load_of(script))

    def _route(self, commands: Sequence[Command], first: Command | None = None) -> list[Any]:
        """
        Replies and errors by position, of as many round trips as redirections ask for.

        Args:
            first: A command that every node is told before its part.
        """
        slots = [_slot(words) for words in commands]
        replies: list[Any] = [ClusterError("TTL exhausted.")] * len(commands)
        left = list(range(len(commands)))
        for _ in range(REDIRECTS):
            parts: dict[Node, list[int]] = {}
            for at in left:
                parts.setdefault(self._nodes.owner(slots[at]), []).append(at)
            left = []
            for node, places in parts.items():
                answers = self._ask_node(node, [commands[at] for at in places], first)
                for at, answer in zip(places, answers, strict=True):
                    if isinstance(answer, MovedError):
                        self._nodes.moved(slots[at], _named(answer, node))
                        left.append(at)
                    elif isinstance(answer, AskError):
                        replies[at] = self._ask_there(_named(answer, node), commands[at], first)
                    else:
                        replies[at] = answer
            if not left:
                break
        return replies

    def _ask_node(
        self, node: Node, commands: Sequence[Command], first: Command | None
    ) -> list[Any]:
        before = [] if first is None else [first]
        try:
            replies = send(self._nodes.client(node), [*before, *commands])
        except DRIVER_ERRORS as error:
            self._nodes.distrust(node)
            return [error] * len(commands)
        if any(failed(reply) and _is_astray(reply) for reply in replies):
            self._nodes.distrust(node)
        if before and failed(replies[0]):
            return [replies[0]] * len(commands)
        return replies[len(before) :]

    def _ask_there(self, node: Node, words: Command, first: Command | None) -> Any:
        """
        The reply of the node that a slot is moving to, whose key is there already.
        """
        reply = self._ask_node(node, [("ASKING",), words], first)[1]
        # It has moved on, or back: the next attempt begins where it should.
        return ClusterError("TTL exhausted.") if isinstance(reply, MovedError) else reply

    def _send_as_one(self, commands: Sequence[Command]) -> list[Any]:
        """
        A transaction on the node of the one slot that its commands are in.
        """
        [slot] = {_slot(words) for words in commands if words[0] not in _ALONG}
        for _ in range(REDIRECTS):
            node = self._nodes.owner(slot)
            try:
                return send(self._nodes.client(node), commands, transaction=True)
            except MovedError as error:
                self._nodes.moved(slot, _named(error, node))
            except AskError as error:
                raise TryAgainError("a transaction does not follow a slot that moves") from error
            except DRIVER_ERRORS:
                self._nodes.distrust(node)
                raise
        raise ClusterError("TTL exhausted.")

    def _each(self, read: Callable[[Link], T]) -> dict[str, T]:
        found = {}
        for node in self._nodes.masters():
            try:
                found[str(node)] = read(self._alone(node))
            except DRIVER_ERRORS:
                self._nodes.distrust(node)
                raise
        return found

    def _alone(self, node: Node) -> Link:
        connected = Connected(self._nodes.client(node), self._nodes.greeting)
        return Link(self.config, connected, Impatient())

    # --- all keys ---------------------------------------------------------------------------

    def _scan(self, node: Node, pattern: bytes, count: int) -> Iterator[list[bytes]]:
        cursor: int | None = 0
        while cursor is not None:
            page = self.patience.call(lambda at=cursor: self._page(node, at, pattern, count))  # type: ignore[misc]
            if page is None:
                return
            after, keys = page
            if keys:
                yield keys
            cursor = int(after) or None

    def _page(self, node: Node, cursor: int, pattern: bytes, count: int) -> Any | None:
        """
        A page of one master; None where it is a master no longer.
        """
        if node not in self._nodes.masters():
            return None
        try:
            return self._alone(node).command("SCAN", cursor, "MATCH", pattern, "COUNT", count)
        except DRIVER_ERRORS:
            self._nodes.distrust(node)
            raise

    def _layout(self) -> list[bytes]:
        """
        What each master says that it has: its id, epoch and slots, and what is moving.
        """
        lines = self.each(lambda link: link.command("CLUSTER", "NODES").splitlines())
        own = [next(line for line in all_ if b"myself" in line) for all_ in lines.values()]
        return sorted(b" ".join([*line.split()[:1], *line.split()[6:]]) for line in own)


_ALONG = ("SCRIPT LOAD",)
"""Commands without a key that go along with the others of a transaction."""


def _slot(words: Command) -> int:
    """
    The slot of a command's first key.
    """
    at = FIRST_KEY.get(words[0])
    if at is None:
        raise ValueError(f"{words[0]} has no key that says which node of a cluster it is for")
    key = words[at]
    return slot_of(key if isinstance(key, bytes) else str(key).encode())


def _named(error: AskError, told_by: Node) -> Node:
    """
    The node that a redirection names; without a host it is on the machine that says so.
    """
    return Node(error.host or told_by.host, error.port)


def _is_moving(line: bytes) -> bool:
    return b"[" in line


def _is_astray(error: redis.RedisError) -> bool:
    """
    Whether an error may mean that the table is out of date.
    """
    trouble = classify(error)
    return trouble.kind is Kind.AWAY or trouble.reason in ("clusterdown", "masterdown", "readonly")
