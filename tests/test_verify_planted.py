"""
Planted defects are named the fast way, exactly they, mended, and gone in the next pass.

`test_planted` has lookups, with which most levels go the plain way; here are the mappings without.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from migrate.pipeline.verify import Verifier
from migrate.pipeline.verify_back import Back
from tests import planted
from tests.planted import DEEP, FULL, OF_CHILDREN, OF_LOOKUPS, Planted
from tests.project import Project
from tests.servers import Database, RedisServer, SqliteDatabase
from tests.test_planted import contents, named
from tests.test_verify import verified_rows
from tests.test_verify_faults import interrupted

pytestmark = pytest.mark.slow

ROWS = 3_000
EACH = 5

SHAPES = {
    "flat": (planted.FLAT, OF_LOOKUPS | OF_CHILDREN),
    "children": (planted.WITHOUT_LOOKUPS, OF_LOOKUPS),
}
"""Mappings, each with the kinds of defects that it cannot have."""

FAST = {("flat", FULL), ("flat", DEEP), ("children", FULL)}
"""Where the fast way is gone; others have to tell the same the plain way."""


class Stand(NamedTuple):
    """
    People who are all in Redis, and what can be wrong with them.
    """

    project: Project
    database: Database
    shape: str

    def plant(self, redis_server: RedisServer, *but: str) -> Planted:
        """
        Defects of each kind that this mapping can have.
        """
        without = {*SHAPES[self.shape][1], *but}
        return planted.plant(self.database, redis_server.client(), ROWS, EACH, without=without)

    def verify(self, level: str, *more: str) -> Any:
        """
        One verification, and what it says.
        """
        ran = self.project.run("verify", "people", "--level", level, "--json", *more)
        assert ran.exit in (0, 3), ran.err
        return ran.json


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> str:
    """
    Of the mapping.
    """
    return str(request.param)


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def stand(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer, shape: str
) -> Stand:
    """
    People, backfilled.
    """
    database: Database = request.getfixturevalue(request.param)
    planted.create(database, ROWS)
    project = Project(tmp_path / "user", database.url, redis_server.url)
    project.mapping("people", SHAPES[shape][0])
    assert project.run("backfill", "people").exit == 0
    return Stand(project, database, shape)


class Slowly:
    """
    How many rows and records went the plain way.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows = self.records = 0
        compare, records = Verifier.compare, Back._records

        def compared(verifier: Verifier, chunk: Any, tally: Any = None) -> Any:
            self.rows += len(chunk.keys)
            return compare(verifier, chunk, tally)

        def read(back: Back, keys: Sequence[bytes]) -> Any:
            self.records += len(keys)
            return records(back, keys)

        monkeypatch.setattr(Verifier, "compare", compared)
        monkeypatch.setattr(Back, "_records", read)


@pytest.mark.parametrize("level", [FULL, DEEP])
def test_planted_defects_are_named_and_nothing_else(
    stand: Stand, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    """
    Each with its verdict, kind, key and field; what is right is told at once.
    """
    assert stand.verify(level)["verdict"] == "PASS"
    made = stand.plant(redis_server)
    slowly = Slowly(monkeypatch)

    said = stand.verify(level)

    assert said["verdict"] == "MISMATCH"
    assert named(stand.project) - made.expected[level] == set()
    assert made.expected[level] - named(stand.project) == set()
    assert slowly.records < ROWS // 5
    assert (slowly.rows <= len(made.touched)) == ((stand.shape, level) in FAST)
    stand.verify(level, "--workers", "2")
    assert named(stand.project) == made.expected[level]


@pytest.mark.parametrize("level", [FULL, DEEP])
def test_repair_mends_what_a_level_named_and_nothing_else(
    stand: Stand, redis_server: RedisServer, level: str
) -> None:
    """
    Neighbours keep their bytes; the next pass is clean, but for what only deep can see.
    """
    client = redis_server.client()
    before = contents(client)
    made = stand.plant(redis_server, "a version ahead")
    stand.verify(level)

    ran = stand.project.run(
        "repair", "people", "--yes", "--adopt", "--max-repairs", "500", "--json"
    )

    assert (ran.exit, ran.json["left"]) == (0, {}), ran.err
    assert ran.json["named"] == len({(one[0], one[2]) for one in made.expected[level]})
    after = contents(client)
    touched = {key.encode() for key in made.touched}
    spared = {
        key
        for key, dumped in before.items()
        if key not in touched and not key.startswith(b"profile-migrate:") and after[key] != dumped
    }
    assert spared == set()
    assert stand.verify(level)["verdict"] == "PASS"
    stand.verify(DEEP)
    assert named(stand.project) == made.expected[DEEP] - made.expected[level]


@pytest.mark.parametrize("shape", ["flat"])
@pytest.mark.parametrize("level", [FULL, DEEP])
def test_a_zero_below_zero_in_sql_is_another_one(
    stand: Stand, redis_server: RedisServer, level: str
) -> None:
    """
    PostgreSQL and MariaDB keep the sign; SQLite has no such number, and no difference.
    """
    stand.database.execute("UPDATE people SET rating = 0 WHERE id IN (7, 8)")
    assert stand.project.run("backfill", "people", "--start-over").exit == 0
    stand.database.execute("UPDATE people SET rating = '-0' WHERE id = 7")
    assert redis_server.client().hget("person:8", "rating") == b"0"

    stand.verify(level)

    signed = stand.database.dialect != "sqlite"
    expected = {("DIFFERENT", "value", "person:7", "rating")} if signed else set()
    assert named(stand.project) == expected


@pytest.mark.parametrize("how", ["kill", "terminate"])
@pytest.mark.parametrize("level", [FULL, DEEP])
def test_an_interrupted_verification_names_each_of_them_once(
    tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer, level: str, how: str
) -> None:
    """
    Stopped behind its first page and again behind the next: nothing is lost, and nothing twice.
    """
    planted.create(sqlite, ROWS)
    project = Project(tmp_path / "user", sqlite.url, redis_server.url)
    project.mapping("people", planted.FLAT)
    assert project.run("backfill", "people").exit == 0
    stand = Stand(project, sqlite, "flat")
    made = stand.plant(redis_server)
    project.configure(extra="throttle: {rows_per_second: 600}")
    for _ in range(2):
        interrupted(project, lambda process: getattr(process, how)(), "--level", level)
    assert 0 < verified_rows(project) < ROWS
    project.configure(extra="")

    said = stand.verify(level)

    assert named(project) == made.expected[level]
    assert said["scope"]["compared"] == said["scope"]["rows_sql"] == ROWS - EACH
    assert sum(said["counts"].values()) == ROWS - EACH + len(
        {one[2] for one in made.expected[level] if one[0] == "ORPHAN"}
    )
