"""
A TCP proxy for faults: loses the reply to a request, or cuts a request; speaks TLS if asked.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"

BLOCK = 65536


class Proxy:
    """
    Passes everything on, except what a test plans.

    Args:
        port: Of the server behind it.

        context: Terminate TLS with it.
    """

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        self._behind = port
        self._context = context
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._pattern = b"EVALSHA"
        self._lose_at: set[int] = set()
        self._cut_at: int | None = None
        self._seen = 0
        self._passed = 0
        self.connections = 0
        self.lost = 0

    def lose_replies(self, *which: int, of: bytes = b"EVALSHA") -> None:
        """
        Carry these requests to the server and close the connection in place of the reply.

        They are counted from 1 among those that run a script, or have another word.
        """
        with self._lock:
            self._pattern = of
            self._seen = 0
            self._lose_at = set(which)

    def cut_request(self, after: int, of: bytes = b"EVALSHA") -> None:
        """
        Close the connection, once, when so many bytes have gone to the server, scripts or others.
        """
        with self._lock:
            self._pattern = of
            self._passed = 0
            self._cut_at = after

    def lead_to(self, port: int) -> None:
        """
        Take new connections to another server; those that are there stay with the old one.
        """
        self._behind = port

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing = True
        # A listener that is only closed leaves accept() waiting.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(timeout=5)

    _closing = False

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing:
            try:
                front, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._start(self._serve, front)

    def _serve(self, front: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.callback(front.close)
            if self._context is not None:
                front = self._context.wrap_socket(front, server_side=True)
                stack.callback(front.close)
            back = stack.enter_context(socket.create_connection((HOST, self._behind)))
            self._relay(front, back)

    def _relay(self, front: socket.socket, back: socket.socket) -> None:
        selector = selectors.DefaultSelector()
        selector.register(front, selectors.EVENT_READ)
        selector.register(back, selectors.EVENT_READ)
        losing = False
        with selector:
            while not self._closing:
                if isinstance(front, ssl.SSLSocket) and front.pending():
                    ready = [front]
                else:
                    ready = [key.fileobj for key, _ in selector.select(timeout=0.2)]  # type: ignore[misc]
                for end in ready:
                    block = end.recv(BLOCK)
                    if not block:
                        return
                    if end is front:
                        losing = self._loses(block) or losing
                        keep = self._keeps(block)
                        back.sendall(block[:keep])
                        if keep < len(block):
                            return
                    elif losing:
                        self.lost += 1
                        return
                    else:
                        front.sendall(block)

    def _loses(self, block: bytes) -> bool:
        with self._lock:
            before = self._seen
            self._seen += block.count(self._pattern)
            hit = {n for n in self._lose_at if before < n <= self._seen}
            self._lose_at -= hit
            return bool(hit)

    def _keeps(self, block: bytes) -> int:
        with self._lock:
            if self._cut_at is None or (self._passed == 0 and self._pattern not in block):
                return len(block)
            if self._passed + len(block) <= self._cut_at:
                self._passed += len(block)
                return len(block)
            keep = self._cut_at - self._passed
            self._cut_at = None
            return keep
