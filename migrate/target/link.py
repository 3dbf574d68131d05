"""
How the target side talks to one server: commands, pipelines and scripts, each with patience.

`cluster.ClusterLink` does the same for all masters of a Cluster.

Every command here is repeatable, for every one of them may be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from redis.exceptions import NoScriptError, RedisError, ResponseError

from migrate.errors import Unexpected
from migrate.model.settings import RedisConfig
from migrate.target.connect import Connected
from migrate.target.retry import Kind, Patience, classify, prefix_of
from migrate.target.scripts import Script

T = TypeVar("T")

Command = tuple[Any, ...]
"""The words of one command, as the driver packs them."""

_URGENCY = (Kind.BUG, Kind.DENIED, Kind.AWAY, Kind.NOT_NOW, Kind.FORGOTTEN)
"""Which of several errors of one pipeline speaks for it."""


class Link:
    """
    One client and the patience to use it.
    """

    def __init__(self, config: RedisConfig, connected: Connected, patience: Patience) -> None:
        self.config = config
        self.patience = patience
        self._connected = connected

    @property
    def connections(self) -> int:
        """
        How many connections were made so far.
        """
        return self._connected.connections

    @property
    def client(self) -> Any:
        """
        The driver's client, for what needs a connection of its own (`wire`).
        """
        return self._connected.client

    def renew(self) -> None:
        """
        Make sure that the next command reaches whoever is the master now, and not a former one.
        """
        self.patience.call(self._connected.renew)

    def hang_up(self) -> None:
        """
        Close every connection, those in use as well: what comes next is asked on a new one.
        """
        self._connected.client.connection_pool.disconnect()

    def command(self, *words: Any) -> Any:
        """
        The reply to one command.
        """
        client: Any = self._connected.client
        return self.patience.call(lambda: client.execute_command(*words))

    def ask(self, *words: Any) -> Any | None:
        """
        The reply to one command, or None where this user or this server does not have it.
        """
        return self.ask_all([words])[0]

    def ask_all(self, commands: Sequence[Command]) -> list[Any | None]:
        """
        The replies to several commands in one round trip; None where one is refused or unknown.
        """
        return self.patience.call(lambda: [_or_none(r) for r in self._send(commands)])

    def together(self, commands: Sequence[Command], *, keep: str = "") -> list[Any]:
        """
        The replies to several commands in one round trip; an error of one fails all of them.

        Args:
            keep: First word of errors that are left among the replies instead.
        """
        return self.patience.call(lambda: all_well(self._send(commands), keep))

    def atomically(self, commands: Sequence[Command]) -> list[Any]:
        """
        The same within MULTI and EXEC: nobody sees the steps, and a refused one stops all of them.
        """
        return self.patience.call(lambda: all_well(self._send(commands, transaction=True)))

    def replies(self, commands: Sequence[Command], *, transaction: bool = False) -> list[Any]:
        """
        Replies and errors by position; only a connection that fails is waited for.
        """
        return self.patience.call(lambda: _arrived(self._send(commands, transaction=transaction)))

    def run(self, script: Script, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        """
        The reply of one script.
        """
        return self.patience.call(lambda: self.scripts([call_of(script, keys, args)], script)[0])

    def scripts(self, calls: Sequence[Command], script: Script) -> list[Any]:
        """
        One round trip of calls of one script, loading it where the server has forgotten it.

        Without patience, for use inside an attempt. All of them are repeated after a load.

        Raises:
            The most urgent error among the replies.
        """
        return all_well(self.try_scripts(calls, script))

    def try_scripts(self, calls: Sequence[Command], script: Script) -> list[Any]:
        """
        The same, with errors left among the replies, at their positions.
        """
        replies = self._send(calls)
        missing = _forgotten(replies)
        if missing:
            _put_back(replies, missing, self._load_and_send(script, [calls[at] for at in missing]))
        for at in _forgotten(replies):
            # Someone keeps flushing: load and run in one step, which nobody can come between.
            replies[at] = self._send([load_of(script), calls[at]], transaction=True)[1]
        return replies

    def each(self, read: Callable[[Link], T]) -> dict[str, T]:
        """
        What a function reads from every server that takes writes, by the server's address.

        For commands without a key, which would otherwise reach one server of several. The function
        may be called again.
        """
        return {self.config.address: read(self)}

    def slot_of(self, key: bytes) -> int | None:
        """
        The slot that a key is in, on a Cluster; None where all keys are in one place.

        Only what is in one slot goes into one script, beside the fence of that slot.
        """
        return None

    def time_ms(self) -> int:
        """
        The server's clock in milliseconds since 1970; of several servers the latest.
        """
        seconds, micros = self.command("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    def scan(self, pattern: bytes, count: int = 1_000) -> Iterator[list[bytes]]:
        """
        Pages of the keys that match a glob, of every server that holds some.

        A key that is there all the time comes at least once, and may come twice.
        """
        cursor = 0
        while True:
            cursor, keys = self.command("SCAN", cursor, "MATCH", pattern, "COUNT", count)
            cursor = int(cursor)
            if keys:
                yield keys
            if not cursor:
                return

    def close(self) -> None:
        """
        Give the connections back.
        """
        self._connected.close()

    def _send(self, commands: Sequence[Command], *, transaction: bool = False) -> list[Any]:
        return send(self._connected.client, commands, transaction=transaction)

    def _load_and_send(self, script: Script, calls: Sequence[Command]) -> list[Any]:
        loaded, *replies = self._send([load_of(script), *calls])
        return [loaded] * len(replies) if failed(loaded) else replies


def send(client: Any, commands: Sequence[Command], *, transaction: bool = False) -> list[Any]:
    """
    One round trip to one server: replies and errors by position. No patience.
    """
    with client.pipeline(transaction=transaction) as pipe:
        for words in commands:
            pipe.execute_command(*words)
        # Replies are matched by position: errors stay where they belong.
        return list(pipe.execute(raise_on_error=False))


def load_of(script: Script) -> Command:
    """
    The command that gives a server a script to keep.
    """
    return ("SCRIPT LOAD", script.text)


def call_of(script: Script, keys: Sequence[Any], args: Sequence[Any]) -> Command:
    """
    The command that runs a script by its digest.
    """
    return ("EVALSHA", script.sha, len(keys), *keys, *args)


def urgent(errors: Sequence[Exception]) -> Exception:
    """
    The error that decides what to do: a permanent one before one that time may heal.
    """
    return min(errors, key=lambda error: _URGENCY.index(classify(error).kind))


def all_well(replies: list[Any], keep: str = "") -> list[Any]:
    """
    These replies, among which there is no error.

    Args:
        keep: First word of errors that may be there.

    Raises:
        The most urgent error among the replies.
    """
    errors = [
        reply for reply in replies if failed(reply) and not (keep and prefix_of(reply) == keep)
    ]
    if errors:
        raise urgent(errors)
    return replies


def failed(reply: Any) -> bool:
    """
    Whether a reply is an error.
    """
    return isinstance(reply, Exception)


def unexpected(what: str, config: RedisConfig) -> Unexpected:
    """
    A reply that no server should give.
    """
    return Unexpected(
        what,
        where={"redis": config.name, "address": config.address},
        next_step="Please report this with the server's name and version.",
    )


def _forgotten(replies: Sequence[Any]) -> list[int]:
    return [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]


def _put_back(replies: list[Any], places: Sequence[int], newer: Sequence[Any]) -> None:
    for at, reply in zip(places, newer, strict=True):
        replies[at] = reply


def _arrived(replies: list[Any]) -> list[Any]:
    """
    Replies of servers that all answered: on a Cluster one may be away and the others not.
    """
    errors = [reply for reply in replies if failed(reply) and not isinstance(reply, ResponseError)]
    if errors:
        raise urgent(errors)
    return replies


def _or_none(reply: Any) -> Any | None:
    if not isinstance(reply, RedisError):
        return reply
    refused = classify(reply).reason == "noperm"
    unknown = isinstance(reply, ResponseError) and prefix_of(reply) == "ERR"
    if refused or unknown:
        return None
    raise reply
