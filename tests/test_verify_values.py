"""
Awkward values on every server are the same by the second way of reading, and on a Cluster as well.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from migrate.target.reader import NEEDED
from tests import planted, profiles
from tests.project import Project
from tests.servers import MariadbDatabase, PostgresDatabase, RedisServer, SqliteDatabase
from tests.test_planted import named
from tests.topologies import RedisCluster

pytestmark = pytest.mark.slow

ROWS = 1_000


def verified(project: Project, *, rejects: bool = False) -> None:
    """
    Full and deep find nothing after a backfill.
    """
    project.shipped()
    assert project.run("backfill", "user_profiles").exit == (3 if rejects else 0)
    for level in ("full", "deep"):
        ran = project.run("verify", "user_profiles", "--level", level, "--json")
        assert ran.json["samples"] == [], ran.json["samples"][:3]
        assert ran.exit == (3 if rejects else 0), ran.out


def test_profiles_of_sqlite(tmp_path: Path, redis_server: RedisServer) -> None:
    """
    Rows that cannot be moved are REJECTED, all others OK.
    """
    profiles.create_sqlite(tmp_path / "app.db", ROWS, with_rejects=True)
    verified(
        Project(tmp_path / "user", f"sqlite:///{tmp_path}/app.db", redis_server.url), rejects=True
    )


@pytest.mark.parametrize("json_type", ["json", "jsonb"])
def test_profiles_of_postgresql(
    tmp_path: Path, postgres: PostgresDatabase, redis_server: RedisServer, json_type: str
) -> None:
    """
    Infinities, -0, NaN and text of every length.
    """
    profiles.create_postgres(postgres.execute, ROWS, json_type=json_type)
    verified(Project(tmp_path / "user", postgres.url, redis_server.url))


def test_profiles_of_mariadb(
    tmp_path: Path, mariadb: MariadbDatabase, redis_server: RedisServer
) -> None:
    """
    The same on MariaDB.
    """
    profiles.create_mariadb(mariadb.execute, ROWS)
    verified(Project(tmp_path / "user", mariadb.url, redis_server.url))


def test_a_cluster_is_verified(tmp_path: Path, redis_cluster: RedisCluster) -> None:
    """
    All masters are read, in both directions.
    """
    profiles.create_sqlite(tmp_path / "app.db", ROWS)
    project = Project(tmp_path / "user", f"sqlite:///{tmp_path}/app.db", "", retry_for="60s")
    project.configure(redis_keys=redis_cluster.yaml)
    verified(project)


def test_the_named_rights_are_enough(
    tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    A user with the commands that a verification names, and reading INFO, can do all of it.
    """
    planted.create(sqlite, 50)
    project = Project(tmp_path / "user", sqlite.url, redis_server.url)
    project.mapping("people", planted.MAPPING)
    project.run("backfill", "people")
    rights = " ".join(f"+{name}" for name in NEEDED)
    client = redis_server.client()
    client.execute_command(
        *f"ACL SETUSER reader on >secret ~* -@all +ping +info +config|get +dbsize {rights}".split()
    )
    try:
        scheme, rest = redis_server.url.split("://")
        project.configure(redis_url=f"{scheme}://reader:secret@{rest}")

        ran = project.run("verify", "people", "--level", "deep", "--json")

        assert (ran.exit, named(project)) == (0, set()), ran.err
    finally:
        client.execute_command("ACL", "DELUSER", "reader")
