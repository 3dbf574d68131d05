"""
The fixtures that everyone needs: an empty Redis, an empty SQL database, real sample data.

What this machine lacks skips the test with a reason that says how to get it; where containers are
required (`make test-containers`) it fails instead.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from migrate.model.settings import RedisConfig
from tests.servers import (
    Database,
    MariadbDatabase,
    Missing,
    NotOurs,
    PostgresDatabase,
    RedisServer,
    Servers,
    SqliteDatabase,
    engine_problem,
    load_chinook,
    plain_redis,
)
from tests.topologies import RedisCluster, SentinelGroup, cluster, sentinel_group

REQUIRED = os.environ.get("PROFILE_MIGRATE_TEST_CONTAINERS") == "required"

CHINOOK = "PROFILE_MIGRATE_CHINOOK"

# Two cores may be shared with much else: a slow example is not a failure. CI runs the same
# examples every time, so that a red build says something about the change at hand.
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("local"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_sessionstart(session: pytest.Session) -> None:
    """
    Where containers are required, a machine without an engine is told so once.
    """
    # A shell starts what runs in the background with Ctrl-C ignored, and every program that a test
    # starts would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if REQUIRED and (problem := engine_problem()):
        pytest.exit(f"The container tests need a Docker engine: {problem}.", returncode=1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    Whatever asks for a MariaDB is part of the matrix: no package of Python brings that server.
    """
    for item in items:
        asked = getattr(item, "fixturenames", ())
        drawn = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if "mariadb" in asked or any(str(value).startswith("mariadb") for value in drawn):
            item.add_marker(pytest.mark.containers)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup() -> Iterator[None]:
    """
    Turn what is missing into a skip, or into a failure where everything is required.
    """
    try:
        return (yield)
    except (Missing, NotOurs) as reason:
        if REQUIRED:
            raise
        pytest.skip(str(reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """
    A test that stops a server which is not ours to stop is skipped.
    """
    try:
        return (yield)
    except (Missing, NotOurs) as reason:
        if REQUIRED:
            raise
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """
    The shared servers of this run, started when first asked for.
    """
    servers = Servers()
    yield servers
    servers.close()


@pytest.fixture
def redis_server(servers: Servers) -> Iterator[RedisServer]:
    """
    The shared Redis, empty and with default settings.
    """
    server = servers.redis()
    yield server
    server.close_clients()


def _modern(server: RedisServer) -> RedisServer:
    version = server.client().info("server")["redis_version"]
    if int(version.split(".")[0]) < 7:
        # Also where containers are required: one of those has it.
        pytest.skip(f"Redis {version} is older than 7.0: put a newer redis-server on the PATH")
    return server


@pytest.fixture
def modern(servers: Servers) -> None:
    """
    A local server that reads the payloads that we make.
    """
    _modern(servers.redis())


@pytest.fixture(
    params=[
        "local",
        *(
            pytest.param(name, marks=pytest.mark.containers)
            for name in ("redis-7.0", "redis-8.0", "valkey-8.1")
        ),
    ]
)
def bulk_redis(request: pytest.FixtureRequest, servers: Servers) -> Iterator[RedisServer]:
    """
    An empty Redis 7.0 or later, or Valkey: a server that reads the payloads that we make.
    """
    server = _modern(servers.redis(request.param))
    yield server
    server.close_clients()


@pytest.fixture
def redis_config(redis_server: RedisServer) -> RedisConfig:
    """
    What the program needs to connect to `redis_server`.
    """
    return redis_server.config()


@pytest.fixture
def redis_fresh() -> Iterator[Callable[..., RedisServer]]:
    """
    Makes Redis servers of the test's own: `redis_fresh(maxmemory="2mb", requirepass="x")`.
    """
    made: list[RedisServer] = []

    def make(**options: str) -> RedisServer:
        server = plain_redis(**options)
        made.append(server)
        server.start()
        return server

    yield make
    for server in made:
        server.close()


@pytest.fixture
def redis_cluster() -> Iterator[RedisCluster]:
    """
    A cluster of the test's own: three masters, each with a replica; empty.
    """
    with cluster(replicas=True) as made:
        yield made


@pytest.fixture
def redis_sentinel() -> Iterator[SentinelGroup]:
    """
    A master named `main` with a replica, behind two sentinels of the test's own; empty.
    """
    with sentinel_group("main", replicas=True) as made:
        yield made


@pytest.fixture
def sqlite(tmp_path: Path) -> SqliteDatabase:
    """
    A SQLite database of the test's own, empty.
    """
    return SqliteDatabase(tmp_path / "source.db")


@pytest.fixture
def postgres(servers: Servers) -> Iterator[PostgresDatabase]:
    """
    A PostgreSQL database of the test's own, empty; its server is `postgres.server`.
    """
    with servers.postgres().database() as database:
        yield database


@pytest.fixture
def mariadb(servers: Servers) -> Iterator[MariadbDatabase]:
    """
    A MariaDB database of the test's own, empty; its server is `mariadb.server`.
    """
    with servers.mariadb().database() as database:
        yield database


@pytest.fixture(params=["sqlite", "postgres"])
def source(request: pytest.FixtureRequest) -> Database:
    """
    An empty SQL database, once of each dialect that plain tests have.
    """
    database: Database = request.getfixturevalue(request.param)
    return database


@pytest.fixture(params=["embedded-6.2", "redis-7.0", "redis-8.0", "valkey-8.1"])
def any_redis(request: pytest.FixtureRequest, servers: Servers) -> Iterator[RedisServer]:
    """
    An empty Redis, once of each server of the matrix; for tests marked `containers`.
    """
    server = servers.redis(request.param)
    yield server
    server.close_clients()


@pytest.fixture(params=["sqlite", "postgres-15", "postgres-17", "mariadb-10.11", "mariadb-11.8"])
def any_source(
    request: pytest.FixtureRequest, servers: Servers, tmp_path: Path
) -> Iterator[Database]:
    """
    An empty SQL database, once of each source of the matrix; for tests marked `containers`.
    """
    if request.param == "sqlite":
        yield SqliteDatabase(tmp_path / "source.db")
        return
    kind: str = request.param
    server = servers.mariadb(kind) if kind.startswith("mariadb") else servers.postgres(kind)
    with server.database() as database:
        yield database


@pytest.fixture(scope="session")
def chinook() -> Path:
    """
    The folder with the Chinook sample database, named by an environment variable.
    """
    folder = Path(os.environ.get(CHINOOK) or "does-not-exist")
    if not (folder / "Chinook_Sqlite.sqlite").exists():
        pytest.skip(
            f"Set {CHINOOK} to a folder with Chinook_Sqlite.sqlite, Chinook_PostgreSql.sql and "
            "Chinook_MySql.sql (https://github.com/lerocha/chinook-database)."
        )
    return folder


@pytest.fixture
def load_sample(chinook: Path) -> Callable[[Database], None]:
    """
    Fills an empty database with Chinook: `load_sample(postgres)`.
    """
    return lambda database: load_chinook(database, chinook)
