"""
A small HTTP server for this machine alone: it answers GET and HEAD, and changes nothing.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from typing import Any

logger = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""How long a client may say nothing, or take nothing, before it is hung up on."""

LIMIT_S = 10.0
"""How long one connection may last, however busy its client seems."""

SLICE_S = 0.25
"""Between two looks at connections that last too long, while a new one waits for its turn."""

AT_ONCE = 64
"""Connections that are answered at the same time; the others wait their turn."""

PLAIN = "text/plain; charset=utf-8"

_HOST = re.compile(r"(?P<name>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
"""A name or an address, and perhaps a port: anything else is no Host of a browser."""

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What one path says.
    """

    body: str
    media_type: str = PLAIN
    status: int = HTTPStatus.OK


Routes = Mapping[str, Callable[[], Answer]]


class LoopbackServer(ThreadingHTTPServer):
    """
    Listens at once; answers after `serve_forever`.

    Args:
        address: A loopback IP address and a port; 0 takes any that is free.

        routes: What answers each path.

        between: Called at least twice a second; what it raises ends `serve_forever`.

    Raises:
        OSError: The address cannot be listened at.
    """

    daemon_threads = True
    # Two servers on one port would share its scrapes.
    allow_reuse_port = False
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], routes: Routes, between: Callable[[], None]
    ) -> None:
        self.routes = routes
        self._between = between
        self._turns = threading.BoundedSemaphore(AT_ONCE)
        self._open: dict[Any, float] = {}
        self._lock = threading.Lock()
        version = ipaddress.ip_address(address[0]).version
        self.address_family = socket.AF_INET6 if version == 6 else socket.AF_INET
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """
        Take the address, without asking a name server what it is called.
        """
        socketserver.TCPServer.server_bind(self)
        host, port = self.server_address[:2]
        self.server_name, self.server_port = str(host), int(port)

    def service_actions(self) -> None:
        """
        Give the program its turn, and end what lasts too long.
        """
        self._hang_up()
        self._between()

    def _hang_up(self) -> None:
        """
        End connections that were given enough time: a client that drips bytes is not silent.
        """
        until = monotonic() - LIMIT_S
        with self._lock:
            late = [request for request, begun in self._open.items() if begun < until]
        for request in late:
            with suppress(OSError):  # it has ended by itself
                request.shutdown(socket.SHUT_RDWR)

    @property
    def url(self) -> str:
        """
        Where to find it.
        """
        host = f"[{self.server_name}]" if ":" in self.server_name else self.server_name
        return f"http://{host}:{self.server_port}/"

    @property
    def connections(self) -> int:
        """
        How many are answered now.
        """
        with self._lock:
            return len(self._open)

    def process_request(self, request: Any, client_address: Any) -> None:
        """
        Hand a connection to a thread, unless too many are at work.
        """
        until = monotonic() + PATIENCE_S
        while not self._turns.acquire(timeout=SLICE_S):
            self._hang_up()
            if monotonic() > until:
                self.shutdown_request(request)
                return
        with self._lock:
            self._open[request] = monotonic()
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._forget(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """
        Answer one connection.
        """
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(request)

    def _forget(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        self._turns.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """
        A client that hung up is no trouble of ours.
        """
        logger.debug("A client went away before it was answered.")


class _Handler(BaseHTTPRequestHandler):
    """
    One request.
    """

    server: LoopbackServer
    timeout = PATIENCE_S
    server_version = "profile-migrate"
    sys_version = ""

    def do_GET(self) -> None:
        """
        Answer with a body.
        """
        self._send(self._answer())

    def do_HEAD(self) -> None:
        """
        Answer the same without its body.
        """
        self._send(self._answer())

    def _answer(self) -> Answer:
        if not all(map(_is_for_loopback, self.headers.get_all("Host", []))):
            return Answer(
                "This server answers to the names of its own machine only.\n",
                status=HTTPStatus.MISDIRECTED_REQUEST,
            )
        route = self.server.routes.get(self.path.partition("?")[0])
        if route is None:
            return Answer("There is nothing here.\n", status=HTTPStatus.NOT_FOUND)
        try:
            return route()
        except Exception as error:  # noqa: BLE001 - one failed answer must not end the server
            # Without its traceback, whose lines may hold values.
            logger.error("A page could not be made: %s.", type(error).__name__)  # noqa: TRY400
            return Answer("failed\n", status=HTTPStatus.INTERNAL_SERVER_ERROR)

    def _send(self, answer: Answer) -> None:
        body = answer.body.encode("utf-8", "backslashreplace")
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.media_type)
        self.send_header("Content-Length", str(len(body)))
        if answer.status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """
        Refuse what the library refuses, in our words: nothing of a request is ever sent back.
        """
        if code == HTTPStatus.NOT_IMPLEMENTED:
            code = HTTPStatus.METHOD_NOT_ALLOWED
        self.close_connection = True
        # A request line without a version is answered as one of today: with a status.
        self.request_version = "HTTP/1.0"
        self._send(Answer(f"{HTTPStatus(code).phrase}\n", status=code))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """
        Requests are worth a line for those who want all of them only.
        """
        logger.debug("A request was answered.")


def _is_for_loopback(host: str) -> bool:
    """
    Whether a request names this machine as itself.

    A page of the internet can give its own name our address, and would then read what we answer.
    No browser leaves the name out.
    """
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    return match["name"].lower() == "localhost" or is_loopback(match["name"].strip("[]"))


def is_loopback(host: str) -> bool:
    """
    Whether this is an IP address that no other machine can reach.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
