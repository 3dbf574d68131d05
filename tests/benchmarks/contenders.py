"""
The ways to load the profiles into Redis that run against each other.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import datayoga, naive, processes, resp
from tests.benchmarks.data import ONE, PROFILE
from tests.benchmarks.ours import Ours, has_bulk
from tests.benchmarks.processes import Took
from tests.benchmarks.servers import Servers, program, version_of
from tests.servers import Missing, PostgresDatabase, RedisServer

READY = "ready"
"""The contender that all others are measured against."""

PROFILES = "profiles"


@dataclass(frozen=True, slots=True)
class Contender:
    """
    One way to load a table.

    Args:
        load: Copies `PROFILES` or `ONE`, from the start of its process to the end.

        marked: Its records carry `_v` and `_h`.

        ours: Runs profile-migrate; then its last load can be verified.

        plain: With `bulk: off`.
    """

    name: str
    title: str
    load: Callable[[str], Took]
    marked: bool = False
    ours: Ours | None = None
    plain: bool = False


def all_contenders(servers: Servers, folder: Path, venvs: Path) -> list[Contender]:
    """
    Those that this machine can run; what it cannot is added to `servers.absent`.
    """
    makers = (_redis_cli, _psql, _most_people, _datayoga)
    found: list[Contender] = []
    for make in makers:
        try:
            found += make(servers, folder, venvs)
        except Missing as missing:
            servers.absent.append(str(missing))
    return [*found, *ours(servers, folder)]


def ours(servers: Servers, folder: Path) -> Iterator[Contender]:
    """
    profile-migrate from each database, on the bulk path and on the plain one.
    """
    if not has_bulk():
        servers.absent.append("This version has no setting `bulk`: its one path is measured.")
    settings = {"": "bulk: auto", "-plain": "bulk: off"} if has_bulk() else {"": ""}
    for dialect, database in servers.databases.items():
        for suffix, setting in settings.items():
            for workers in _workers(dialect, plain=bool(suffix)):
                name = f"ours-{dialect}-{workers}{suffix}"
                one = Ours(folder / name, database, servers.redis.url, workers, setting)
                title = f"profile-migrate, {TITLES[dialect]}, --workers {workers}"
                title += ", bulk: off" if suffix else ""
                yield Contender(name, title, one.backfill, True, one, bool(suffix))


def _workers(dialect: str, *, plain: bool) -> Sequence[int]:
    """
    How it goes with workers is shown from one database; the plain path takes minutes.
    """
    if dialect != "postgresql":
        return (2,) if plain else (1, 2)
    return (1, 2) if plain else (1, 2, 3)


TITLES = {"postgresql": "PostgreSQL", "mariadb": "MariaDB", "sqlite": "SQLite"}


def ready_file(folder: Path, table: str) -> Path:
    """
    Where the ready file of a table is.
    """
    return folder / f"{table}.resp"


def _pipe(executable: Path, server: RedisServer) -> list[str]:
    return [str(executable), "-h", server.host, "-p", str(server.port), "--pipe"]


def _piped(took: Took) -> Took:
    if "errors: 0" not in took.out:
        raise processes.Failed(f"redis-cli says {took.out[-500:]}")
    return took


def _redis_cli(servers: Servers, folder: Path, venvs: Path) -> Iterator[Contender]:
    executable = program("redis-cli")
    servers.versions["redis-cli"] = version_of(executable)
    command = _pipe(executable, servers.redis)
    yield Contender(
        READY,
        "redis-cli --pipe, ready file",
        lambda table: _piped(processes.run(command, stdin=ready_file(folder, table))),
        marked=True,
    )


def _psql(servers: Servers, folder: Path, venvs: Path) -> Iterator[Contender]:
    command = _pipe(program("redis-cli"), servers.redis)
    psql = program("psql")
    database = _postgres(servers)
    servers.versions["psql"] = version_of(psql)
    server = database.server
    words = [
        psql, "--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--host", server.host,
        "--port", server.port, "--username", server.user, "--dbname", database.name,
        "--set", "ON_ERROR_STOP=1",
    ]  # fmt: skip
    environment = {"PGPASSWORD": server.password, "PGCLIENTENCODING": "UTF8"}

    def load(query: Callable[[str], str], *more: str) -> Callable[[str], Took]:
        def run(table: str) -> Took:
            script = folder / f"{table}.sql"
            script.write_text(query(table), encoding="utf-8")
            source = [*map(str, words), *more, "--file", str(script)]
            return _piped(processes.run(source, command, env=environment))

        return run

    # As the recipe is passed on: psql keeps the whole result in memory first.
    yield Contender("psql", "psql | redis-cli --pipe", load(resp.usual))
    yield Contender("psql-lean", "psql, lengths counted before | redis-cli --pipe", load(resp.lean))
    yield Contender(
        "psql-portions",
        "psql, the same by FETCH_COUNT | redis-cli --pipe",
        load(resp.lean, "--set", "FETCH_COUNT=10000"),
    )


def _most_people(servers: Servers, folder: Path, venvs: Path) -> Iterator[Contender]:
    database = _postgres(servers)
    script = Path(naive.__file__)

    def load(table: str) -> Took:
        return processes.run([sys.executable, script, database.url, servers.redis.url, table])

    yield Contender("sqlalchemy", "SQLAlchemy stream + redis-py pipeline", load)


def _datayoga(servers: Servers, folder: Path, venvs: Path) -> Iterator[Contender]:
    database = _postgres(servers)
    executable = datayoga.install(venvs / "datayoga")
    servers.versions["datayoga-core"] = datayoga.version(executable)
    project = folder / "datayoga"
    for table in (PROFILES, ONE):
        # It hands values to redis-py as the driver gives them, which takes no dates and truth
        # values; a view that has texts is the least that has to be done for it.
        texts = ", ".join(f"{resp.as_text(name)} AS {name}" for name in PROFILE)
        database.execute(f"CREATE OR REPLACE VIEW {table}_texts AS SELECT {texts} FROM {table}")
        datayoga.write_job(project, database, servers.redis, f"{table}_texts")

    def load(table: str) -> Took:
        return processes.run(
            [executable, "run", f"{table}_texts", "--dir", project, "--loglevel", "error"]
        )

    yield Contender("datayoga", "datayoga", load)


def _postgres(servers: Servers) -> PostgresDatabase:
    database = servers.databases.get("postgresql")
    if not isinstance(database, PostgresDatabase):
        raise Missing("Without PostgreSQL there is nothing that the other tools could read.")
    return database
