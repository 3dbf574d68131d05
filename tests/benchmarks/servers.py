"""
Servers of our own for a measurement: Redis, PostgreSQL and MariaDB as processes on loopback.

Every contender talks to the same servers over TCP on 127.0.0.1, without TLS. What this machine
lacks is named, and the contenders that need it are left out.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers import (
    HOST,
    Database,
    MariadbServer,
    Missing,
    PostgresServer,
    ProcessRunner,
    RedisServer,
    SqliteDatabase,
    as_user,
    postgres_programs,
    started,
)

PREFIX = "PROFILE_MIGRATE_BENCH_"
"""Variables that name programs begin with it."""

OLDEST_REDIS = (7, 0)
"""The format of payloads that the bulk path writes came with it."""

SETTLED_S = 1.0
"""After Redis was emptied. Its memory goes back to the system in the background: who began at once
loaded 141,000 rows a second, and 167,000 after a second (means of four, a ready file)."""

REDIS_SETTINGS = {"save": '""', "appendonly": "no"}

POSTGRES_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "256MB",
    "max_connections": "60",
    "unix_socket_directories": "",
}

MARIADB_SETTINGS = {
    "innodb-flush-log-at-trx-commit": "0",
    "sync-binlog": "0",
    "innodb-buffer-pool-size": "512M",
    "innodb-log-file-size": "256M",
    "max-connections": "60",
}


def program(name: str, *elsewhere: Path) -> Path:
    """
    The program that a variable names, or that is on the PATH, or in another usual place.

    Raises:
        Missing: Says which variable would name it.
    """
    variable = PREFIX + re.sub(r"\W", "_", name).upper()
    if named := os.environ.get(variable):
        if shutil.which(named) is None:
            raise Missing(f"{variable} names {named}, which is no program.")
        return Path(named).resolve()
    candidates = [shutil.which(name), *(shutil.which(str(path)) for path in elsewhere)]
    for found in candidates:
        if found is not None:
            return Path(found)
    raise Missing(f"There is no {name}: install it, or name it in {variable}.")


def version_of(executable: Path) -> str:
    """
    What a program says when asked for its version, in one line and without paths.

    It may name another one than was asked: of what a wrapper runs, or a link leads to.
    """
    said = subprocess.run([executable, "--version"], capture_output=True, text=True, check=False)
    lines = (said.stdout or said.stderr).strip().splitlines()
    if not lines:
        return "unknown"
    return " ".join(Path(word).name if word.startswith("/") else word for word in lines[0].split())


@dataclass(slots=True)
class Servers:
    """
    What runs for a measurement.

    Args:
        databases: By dialect; those that this machine lacks are not in it.

        absent: What is not here, and how to get it.
    """

    redis: RedisServer
    databases: dict[str, Database] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)

    def empty(self) -> None:
        """
        Redis as it was after its start: without keys, and with its memory given back.
        """
        client = self.redis.client(socket_timeout=120)
        client.execute_command("FLUSHALL", "SYNC")
        client.execute_command("SCRIPT", "FLUSH")
        client.execute_command("MEMORY", "PURGE")
        client.config_resetstat()
        before = -1
        for _ in range(100):
            used = int(client.info("memory")["used_memory"])
            if used == before:
                break
            before = used
            time.sleep(0.05)
        self.redis.close_clients()
        time.sleep(SETTLED_S)


@contextlib.contextmanager
def running(folder: Path, dialects: list[str]) -> Iterator[Servers]:
    """
    Start Redis and what there is of these dialects; end all of it behind the block.

    Raises:
        Missing: There is no Redis of 7.0 or later.
    """
    with ExitStack() as stack:
        executable = program("redis-server")
        server = started(RedisServer.local(executable, **REDIS_SETTINGS))
        stack.callback(server.close)
        found = Servers(server, versions={"redis-server": version_of(executable)})
        _check(server)
        makers: dict[str, Callable[[], Database]] = {
            "postgresql": lambda: _postgres(stack, found),
            "mariadb": lambda: _mariadb(stack, found),
            "sqlite": lambda: _sqlite(folder, found),
        }
        for dialect in dialects:
            try:
                found.databases[dialect] = makers[dialect]()
            except Missing as missing:
                found.absent.append(str(missing))
        yield found


def _check(server: RedisServer) -> None:
    version = str(server.client().info("server")["redis_version"])
    server.close_clients()
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
        raise Missing(
            f"The redis-server here is {version}; 7.0 is the oldest that is measured. "
            f"Name another one in {PREFIX}REDIS_SERVER."
        )


def _sqlite(folder: Path, found: Servers) -> Database:
    import sqlite3

    found.versions["sqlite"] = sqlite3.sqlite_version
    return SqliteDatabase(folder / "profiles.sqlite")


def _postgres(stack: ExitStack, found: Servers) -> Database:
    named = os.environ.get(PREFIX + "POSTGRES")
    programs = Path(named).resolve().parent if named else postgres_programs()
    user = "postgres" if os.geteuid() == 0 else None
    password = secrets.token_urlsafe(12)
    settings = [
        part for name, value in POSTGRES_SETTINGS.items() for part in ("-c", f"{name}={value}")
    ]
    runner = ProcessRunner(
        lambda data, port: [
            programs / "postgres", "-D", data, "-p", str(port),
            "-c", f"listen_addresses={HOST}", *settings,
        ],
        user=user,
    )  # fmt: skip
    stack.callback(runner.close)
    secret = runner.folder / "password"
    secret.write_text(password)
    secret.chmod(0o644)
    _prepare(
        [
            *as_user(user), programs / "initdb", "-D", runner.data, "-U", "postgres",
            "--no-sync", "--encoding=UTF8", "--locale=C", f"--pwfile={secret}",
            "--auth=scram-sha-256",
        ],
        runner.folder,
    )  # fmt: skip
    server = started(
        PostgresServer("postgres-bench", HOST, runner.port, "postgres", password, runner)
    )
    stack.callback(server.close)
    found.versions["postgresql"] = version_of(programs / "postgres")
    return stack.enter_context(server.database("bench"))


def _mariadb(stack: ExitStack, found: Servers) -> Database:
    executable = program("mariadbd", Path("/usr/sbin/mariadbd"), Path("/usr/libexec/mariadbd"))
    share = _share(executable)
    password = secrets.token_urlsafe(12)
    common = [
        "--no-defaults",
        f"--user={getpass.getuser()}",
        f"--lc-messages-dir={share}",
        f"--character-sets-dir={share / 'charsets'}",
    ]
    settings = [f"--{name}={value}" for name, value in MARIADB_SETTINGS.items()]
    runner = ProcessRunner(
        lambda data, port: [
            executable, *common, *settings, f"--datadir={data}", f"--port={port}",
            f"--bind-address={HOST}", f"--socket={data.parent / 's'}", "--skip-name-resolve",
            f"--pid-file={data.parent / 'pid'}", f"--init-file={data.parent / 'user.sql'}",
        ]
    )  # fmt: skip
    stack.callback(runner.close)
    tables = ("mysql_system_tables.sql", "mysql_system_tables_data.sql")
    script = "".join((share / name).read_text() for name in tables)
    _prepare(
        [executable, *common, "--bootstrap", f"--datadir={runner.data}"],
        runner.folder,
        f"CREATE DATABASE mysql;\nUSE mysql;\n{script}",
    )
    (runner.folder / "user.sql").write_text(
        f"CREATE USER 'bench'@'{HOST}' IDENTIFIED BY '{password}';\n"
        f"GRANT ALL ON *.* TO 'bench'@'{HOST}' WITH GRANT OPTION;\n"
    )
    server = started(MariadbServer("mariadb-bench", HOST, runner.port, "bench", password, runner))
    stack.callback(server.close)
    found.versions["mariadb"] = version_of(executable)
    return stack.enter_context(server.database("bench"))


def _prepare(command: Sequence[str | Path], folder: Path, typed: str = "") -> None:
    """
    Run the program that makes a server's data folder.
    """
    ran = subprocess.run(
        command, input=typed, capture_output=True, text=True, check=False, cwd=folder
    )
    if ran.returncode:
        name = next(Path(word).name for word in command if str(word).startswith("/"))
        raise Missing(f"{name} cannot be used here: {(ran.stderr or ran.stdout)[-600:].strip()}")


def _share(executable: Path) -> Path:
    """
    The folder with the SQL of MariaDB's own tables, and its messages.
    """
    variable = PREFIX + "MARIADB_SHARE"
    named = os.environ.get(variable)
    beside = executable.resolve().parent.parent / "share"
    folders = [Path(named)] if named else [beside / "mysql", beside / "mariadb"]
    for folder in (*folders, Path("/usr/share/mysql"), Path("/usr/share/mariadb")):
        if (folder / "mysql_system_tables.sql").exists():
            return folder
    raise Missing(
        f"mariadbd is here, but not the folder with its mysql_system_tables.sql: name it in "
        f"{variable}."
    )
