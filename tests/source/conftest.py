"""
An open source over an empty database of each dialect.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from migrate.source.store import SqlSource
from tests.servers import Database, MariadbDatabase, PostgresDatabase, SqliteDatabase
from tests.source.reading import open_source


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def source(request: pytest.FixtureRequest) -> Database:
    """
    An empty SQL database, once of each kind of source.
    """
    database: Database = request.getfixturevalue(request.param)
    return database


@pytest.fixture
def opened(source: Database) -> Iterator[SqlSource]:
    """
    The source over `source`, once of each dialect.
    """
    source.execute("CREATE TABLE made_so_that_the_file_exists (id INTEGER PRIMARY KEY)")
    store = open_source(source)
    yield store
    store.close()


@pytest.fixture
def from_postgres(postgres: PostgresDatabase) -> Iterator[SqlSource]:
    """
    The source over `postgres`.
    """
    store = open_source(postgres)
    yield store
    store.close()


@pytest.fixture
def from_mariadb(mariadb: MariadbDatabase) -> Iterator[SqlSource]:
    """
    The source over `mariadb`.
    """
    store = open_source(mariadb)
    yield store
    store.close()


@pytest.fixture
def from_sqlite(sqlite: SqliteDatabase) -> Iterator[SqlSource]:
    """
    The source over `sqlite`.
    """
    sqlite.execute("CREATE TABLE made_so_that_the_file_exists (id INTEGER PRIMARY KEY)")
    store = open_source(sqlite)
    yield store
    store.close()
