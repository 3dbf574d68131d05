"""
The servers that all other tests stand on keep their own promises.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from tests.servers import Database, PostgresDatabase, RedisServer, Servers, free_port

CREATE = "CREATE TABLE t (id integer PRIMARY KEY)"


def test_the_shared_redis_is_empty_for_every_test(servers: Servers) -> None:
    """
    What one test wrote, and what it set, is gone when the next one asks for the server.
    """
    server = servers.redis()
    server.client().set("left", "over")
    server.set(maxmemory="5mb")

    again = servers.redis()

    assert again is server
    assert again.client().dbsize() == 0
    assert set(again.client().config_get("maxmemory").values()) <= {"0", b"0"}


def test_a_redis_restart_keeps_port_and_data(redis_fresh: Callable[..., RedisServer]) -> None:
    """
    Another process answers on the same port, with the same data.
    """
    server = redis_fresh()
    port, before = server.port, server.client().info("server")["run_id"]
    server.client().set("kept", "yes")

    server.restart()

    assert server.port == port
    assert server.client().info("server")["run_id"] != before
    assert server.client().get("kept") == b"yes"


def test_an_empty_redis_restart_loses_the_data(redis_fresh: Callable[..., RedisServer]) -> None:
    """
    Even saved data is gone after an empty restart.
    """
    server = redis_fresh(appendonly="yes")
    server.client().set("lost", "yes")

    server.restart(empty=True)

    assert server.client().dbsize() == 0


def test_a_killed_redis_has_only_what_was_on_disk(redis_fresh: Callable[..., RedisServer]) -> None:
    """
    Without persistence kill -9 loses everything; the server can be started again.
    """
    server = redis_fresh()
    server.client().set("lost", "yes")

    server.kill()

    assert not server.running()
    server.start()
    assert server.client().dbsize() == 0


def test_redis_options_hold_from_the_start(redis_fresh: Callable[..., RedisServer]) -> None:
    """
    Options are redis.conf directives; the password is known to client and configuration.
    """
    server = redis_fresh(maxmemory="3mb", requirepass="open sesame"[:4])

    assert server.config().password is not None
    assert server.client().info("memory")["maxmemory"] == 3 * 1024 * 1024
    with pytest.raises(redis.AuthenticationError):
        server.client(password=None).ping()


def test_every_test_has_a_database_of_its_own(source: Database, servers: Servers) -> None:
    """
    The database starts without tables and takes scripts, rows and queries.
    """
    mark = "?" if source.dialect == "sqlite" else "%s"
    source.execute(CREATE)
    source.execute(f"INSERT INTO t VALUES ({mark})", (1,), (2,))

    assert source.query("SELECT id FROM t ORDER BY id") == [(1,), (2,)]


def test_two_postgres_databases_are_apart(servers: Servers, postgres: PostgresDatabase) -> None:
    """
    A table of one database does not exist in the next.
    """
    postgres.execute(CREATE)

    with servers.postgres().database() as other:
        found = other.query("SELECT count(*) FROM pg_tables WHERE tablename = 't'")

    assert found == [(0,)]


def test_a_postgres_restart_keeps_port_and_data(postgres: PostgresDatabase) -> None:
    """
    After a restart, and after a crash, the same port serves the same rows.
    """
    postgres.execute(CREATE + "; INSERT INTO t VALUES (7)")
    port = postgres.server.port

    postgres.server.restart()
    postgres.server.crash()
    postgres.server.start()

    assert postgres.server.port == port
    assert postgres.query("SELECT id FROM t") == [(7,)]


def test_chinook_is_loaded_into_the_database_of_the_test(
    source: Database, load_sample: Callable[[Database], None]
) -> None:
    """
    Real customers are there, in SQLite and in PostgreSQL.
    """
    load_sample(source)

    name = '"Customer"' if source.dialect == "sqlite" else "customer"
    assert source.query(f"SELECT count(*) FROM {name}") == [(59,)]


def test_a_free_port_is_below_the_ephemeral_ones() -> None:
    """
    A stopped server's port is not handed to an outgoing connection.
    """
    assert 20_000 <= free_port() < 32_000


@pytest.mark.containers
def test_every_redis_of_the_matrix_restarts_on_its_port(any_redis: RedisServer) -> None:
    """
    Data stays through a restart and is lost by an empty one, on every server.
    """
    port = any_redis.port
    any_redis.client().set("kept", "yes")

    any_redis.restart()
    kept = any_redis.client().get("kept")
    any_redis.restart(empty=True)

    assert (any_redis.port, kept, any_redis.client().dbsize()) == (port, b"yes", 0)


@pytest.mark.containers
def test_every_source_of_the_matrix_takes_rows(any_source: Database) -> None:
    """
    An empty database of each kind takes a table and a row.
    """
    any_source.execute(CREATE)
    any_source.execute("INSERT INTO t VALUES (1)")

    assert any_source.query("SELECT id FROM t") == [(1,)]
