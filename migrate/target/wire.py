"""
One connection of our own, for what must stay on one: WATCH and the transaction behind it.

Replies are compared with the bytes that are expected, and parsed only where they differ: that is
what makes thousands of small replies cheap. Without patience, for use inside an attempt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hiredis import Reader, pack_command
from redis.exceptions import ConnectionError as Closed
from redis.exceptions import InvalidResponse, ResponseError

from migrate.target.link import Command

BLOCK = 64 * 1024
"""Bytes that are read from the connection at once."""

LEAST_POOL = 2
"""Connections that a client must be allowed, for one of our own beside the others."""

_ABORTED = "EXECABORT Transaction discarded because of: "
_MORE = object()


class Wire:
    """
    A connection from a client's pool; made at its first use, and again after any trouble.

    Args:
        client: Its pool has room for this connection besides its own.
    """

    def __init__(self, client: Any) -> None:
        self._pool = client.connection_pool
        self._connection: Any = None
        self._socket: Any = None

    def open(self) -> None:
        """
        Make sure that there is a connection.
        """
        if self._connection is None:
            self._connection = self._pool.get_connection()
        self._connection.connect()
        self._socket = self._connection._sock  # noqa: SLF001

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """
        The replies to a few commands, errors among them.
        """
        self.open()
        self.send(packed(commands))
        return self._parse(b"", len(commands))

    def send(self, commands: bytes) -> None:
        """
        Send commands over the very connection that was opened; their replies are received later.

        The driver would make a new one unasked, which knows nothing of WATCH and MULTI.
        """
        if self._socket is None or self._connection._sock is not self._socket:  # noqa: SLF001
            self.drop()
            raise Closed("Connection closed meanwhile.")
        try:
            self._connection.send_packed_command([commands])
        except BaseException:
            self.drop()
            raise

    def receive(self, wanted: bytes, count: int) -> list[Any] | None:
        """
        The replies to `count` commands, errors among them; None where they are what was wanted.
        """
        got = b""
        while got != wanted:
            got += self._read()
            if not wanted.startswith(got):
                return self._parse(got, count)
        return None

    def replies(self, count: int) -> list[Any]:
        """
        The replies to commands that were sent, errors among them.
        """
        return self._parse(b"", count)

    def renew(self) -> None:
        """
        Connect anew: to whoever is the master now.
        """
        self.drop()
        self.open()

    def drop(self) -> None:
        """
        Close the connection, and with it whatever it was told.
        """
        self._socket = None
        if self._connection is not None:
            self._connection.disconnect()

    def close(self) -> None:
        """
        Give the connection back, closed.
        """
        self.drop()
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.release(connection)

    def _read(self) -> bytes:
        try:
            # Past the driver's parser, which has nothing to say about bytes that are expected.
            block: bytes = self._socket.recv(BLOCK)
        except BaseException:
            self.drop()
            raise
        if not block:
            self.drop()
            raise Closed("Connection closed by server.")
        return block

    def _parse(self, got: bytes, count: int) -> list[Any]:
        reader = reader_of_replies()
        reader.feed(got)
        replies: list[Any] = []
        self.parse(reader, count, replies)
        return replies

    def parse(self, reader: Reader, count: int, replies: list[Any]) -> None:
        """
        Add so many more replies, errors among them, which a reader takes apart.
        """
        wanted = len(replies) + count
        while len(replies) < wanted:
            try:
                reply = reader.gets()
            except InvalidResponse:
                self.drop()
                raise
            if reply is _MORE:
                reader.feed(self._read())
            else:
                replies.append(reply)


def reader_of_replies() -> Reader:
    """
    A parser; what it was fed beyond the replies that were wanted, it keeps for the next ones.
    """
    return Reader(protocolError=InvalidResponse, replyError=_error, notEnoughData=_MORE)


def packed(commands: Sequence[Command]) -> bytes:
    """
    Commands as they go over a connection.
    """
    return b"".join(map(pack_command, commands))


def _error(text: str) -> ResponseError:
    # EXEC says why it gave up, behind a word of its own.
    return ResponseError(text.removeprefix(_ABORTED))
