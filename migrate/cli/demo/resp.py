"""
The Redis protocol in a few lines over a socket: commands out, replies in.

Knows nothing of records and shares no code with `migrate.target`, so that what the demo reads
back is not seen through the eyes of the writer. No TLS, no retries, no RESP3.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self


class ServerSaidNo(Exception):
    """
    An error reply, for example LOADING, NOAUTH or WRONGTYPE.
    """


Reply = bytes | int | ServerSaidNo | None | list["Reply"]
"""Bulk and simple strings are bytes; nil is None; an error among many replies is one of them."""


class Connection:
    """
    One connection, logged in. Replies come in the order of the commands.
    """

    def __init__(self, host: str, port: int, password: str, *, timeout_s: float = 10.0) -> None:
        self._socket = socket.create_connection((host, port), timeout=timeout_s)
        self._reader = self._socket.makefile("rb")
        try:
            self.call("AUTH", password)
        except BaseException:
            self.close()
            raise

    def call(self, *command: str | bytes) -> Reply:
        """
        Send one command and wait for its reply.

        Raises:
            ServerSaidNo: The reply is an error.

            OSError: The connection broke.
        """
        reply = self.call_all([command])[0]
        if isinstance(reply, ServerSaidNo):
            raise reply
        return reply

    def call_all(self, commands: Iterable[Sequence[str | bytes]]) -> list[Reply]:
        """
        Send commands together and wait for all replies; keep each bundle to a few thousand.
        """
        encoded = [_encode(command) for command in commands]
        self._socket.sendall(b"".join(encoded))
        return [self._read() for _ in encoded]

    def close(self) -> None:
        """
        Hang up.
        """
        self._reader.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self) -> Reply:
        line = self._reader.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("the server hung up")
        mark, rest = line[:1], line[1:-2]
        if mark == b"-":
            return ServerSaidNo(rest.decode(errors="replace"))
        if mark == b"+":
            return rest
        length = int(rest)
        if mark == b":":
            return length
        if length < 0:
            return None
        if mark == b"*":
            return [self._read() for _ in range(length)]
        return self._reader.read(length + 2)[:-2]


def _encode(command: Sequence[str | bytes]) -> bytes:
    parts = [part.encode() if isinstance(part, str) else part for part in command]
    head = b"*%d\r\n" % len(parts)
    return head + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
