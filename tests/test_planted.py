"""
Planted defects are named, exactly they, at the levels that docs/verify.md promises.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import redis

from migrate.ledger.store import Ledger
from migrate.model.settings import SourceConfig
from tests import planted
from tests.planted import DEEP, FULL, Named, Planted
from tests.project import Project
from tests.servers import Database, RedisServer

pytestmark = pytest.mark.slow

ROWS = 3_000
EACH = 5


def named(project: Project) -> set[Named]:
    """
    Everything that the last verification found, as it lies in the ledger.
    """
    path = project.folder / ".profile-migrate" / "ledger.db"
    ledger = Ledger(
        SourceConfig(dialect="sqlite", database=str(path)), wall=time.time, sleep=time.sleep
    )
    try:
        kept = ledger.last_verification("people")
        assert kept is not None
        return {
            (one.verdict, one.kind, one.key.decode(), one.field)
            for one in ledger.findings(kept.run)
        }
    finally:
        ledger.close()


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def project(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer
) -> tuple[Project, Database]:
    """
    People with orders and lookups, all of them in Redis.
    """
    database: Database = request.getfixturevalue(request.param)
    planted.create(database, ROWS)
    made = Project(tmp_path / "user", database.url, redis_server.url)
    made.mapping("people", planted.MAPPING)
    assert made.run("backfill", "people").exit == 0
    return made, database


def planted_in(
    project: tuple[Project, Database], redis_server: RedisServer, each: int = EACH
) -> Planted:
    """
    Defects of every kind.
    """
    return planted.plant(project[1], redis_server.client(), ROWS, each)


def contents(client: redis.Redis) -> dict[bytes, bytes]:
    """
    Every key but fences, as Redis would dump it.
    """
    keys = [key for key in client.scan_iter(count=5_000) if b":fence:" not in key]
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.dump(key)
        return dict(zip(keys, pipe.execute(), strict=True))


def test_what_is_right_passes(project: tuple[Project, Database]) -> None:
    """
    Without a defect every level passes, and says how much it compared.
    """
    for level in ("count", FULL, DEEP):
        ran = project[0].run("verify", "people", "--level", level, "--json")
        assert (ran.exit, ran.json["verdict"]) == (0, "PASS"), (level, ran.out, ran.err)
        assert ran.json["scope"]["compared"] == ROWS
    assert named(project[0]) == set()


@pytest.mark.parametrize("level", [FULL, DEEP])
def test_planted_defects_are_named_and_nothing_else(
    project: tuple[Project, Database], redis_server: RedisServer, level: str
) -> None:
    """
    Each of them with its verdict, kind, key and field.
    """
    expected = planted_in(project, redis_server).expected[level]

    ran = project[0].run("verify", "people", "--level", level, "--json")

    found = named(project[0])
    assert ran.exit == 3, ran.err
    assert found - expected == set()
    assert expected - found == set()
    assert ran.json["verdict"] == "MISMATCH"


def test_repair_mends_what_was_named_and_nothing_else(
    project: tuple[Project, Database], redis_server: RedisServer
) -> None:
    """
    Neighbours keep their bytes, each key is in the journal, and the next pass is clean.
    """
    client = redis_server.client()
    before = contents(client)
    made = planted.plant(project[1], client, ROWS, EACH, without={"a version ahead"})
    project[0].run("verify", "people", "--level", DEEP)
    names = len({(verdict, key) for verdict, _, key, _ in made.expected[DEEP]})
    assert project[0].run("repair", "people", "--yes").error == "refused"

    ran = project[0].run("repair", "people", "--yes", "--adopt", "--max-repairs", "500", "--json")

    assert (ran.exit, ran.json["left"]) == (0, {}), ran.err
    assert ran.json["named"] == names
    lines = project[0].run("journal", "show", "people").out
    assert lines.count("repair") >= names
    after = contents(client)
    touched = {key.encode() for key in made.touched}
    entries = (b"person-email:", b"people-city:", b"profile-migrate:")
    for key, dumped in before.items():
        if key not in touched and not key.startswith(entries):
            assert after[key] == dumped, key
    again = project[0].run("verify", "people", "--level", DEEP, "--json")
    assert (again.exit, named(project[0])) == (0, set()), again.out


@pytest.mark.long
@pytest.mark.parametrize("name", ["sqlite", "postgres", "mariadb"])
def test_defects_among_100_000_entities(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer, name: str
) -> None:
    """
    A hundred of each kind among 100,000: exactly those are named, at both levels, and mended.

    What is left is what a person has to decide: records that are newer than SQL.
    """
    database: Database = request.getfixturevalue(name)
    planted.create(database, 100_000)
    project = Project(tmp_path / "user", database.url, redis_server.url)
    project.mapping("people", planted.MAPPING)
    assert project.run("backfill", "people").exit == 0
    client = redis_server.client()
    before = contents(client)
    made = planted.plant(database, client, 100_000, 100)
    for level in (FULL, DEEP):
        assert project.run("verify", "people", "--level", level).exit == 3
        assert named(project) == made.expected[level]

    ran = project.run("repair", "people", "--yes", "--adopt", "--max-repairs", "5000", "--json")

    assert (ran.exit, ran.json["left"]) == (3, {"newer-in-redis": 100}), ran.err
    after = contents(client)
    touched = {key.encode() for key in made.touched}
    entries = (b"person-email:", b"people-city:", b"profile-migrate:")
    neighbours = {key for key in before if key not in touched and not key.startswith(entries)}
    assert {key for key in neighbours if before[key] != after[key]} == set()
    assert project.run("verify", "people", "--level", DEEP).exit == 3
    assert {verdict for verdict, *_ in named(project)} == {"SPLIT_BRAIN"}
    assert len({key for _, _, key, _ in named(project)}) == 100
