"""
A mapping that changed: refused in the middle of a run, foretold by plan, and nothing of it left.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.project import Project
from tests.servers import RedisServer, SqliteDatabase

pytestmark = pytest.mark.slow

FIRST = """
version: 1
name: people
source: {table: people, key: [id]}
target: {key: "person:{id}"}
fields: {name: {}, email: {}, locale: {}}
lookups:
  by_email: {key: "person-email:{email}", unique: true}
  by_locale: {type: set, key: "person-locale:{locale}"}
"""

CHANGES = {
    "field added": FIRST.replace("locale: {}}", "locale: {}, age: {}}"),
    "field removed": FIRST.replace("name: {}, ", ""),
    "key template changed": FIRST.replace("person:{id}", "people:{id}"),
    "lookup removed": FIRST[: FIRST.index("  by_locale")],
    "lookup key changed": FIRST.replace("person-locale:", "person-language:"),
    "all lookups removed": FIRST[: FIRST.index("lookups")],
    "other names": FIRST.replace(
        '"person:{id}"', '"person:{id}", reserved: {version: v, digest: h}'
    ),
    "string records": FIRST[: FIRST.index("lookups")].replace(
        '"person:{id}"', '"person:{id}", type: string'
    ),
    "fewer rows": FIRST.replace("key: [id]", 'key: [id], where: "age IS NOT NULL"'),
}

NEIGHBOURS = (
    *(b"person:", b"person:*", b"person:[1]", b"person:?", b"person:1:x", b"person:01x%"),
    *(b"person:%2a", b"person:\xff\xfe", b"persona:1", b"person-email:", b"person-locale:*"),
    *(b"person-locale:zz", b"person:{1}", b"person:1 ", b"PERSON:1", b"person:\\1"),
)


@pytest.fixture
def project(tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer) -> Project:
    """
    300 people, and neighbours of their keys that belong to others.
    """
    sqlite.execute(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, email TEXT, locale TEXT, age INT)"
    )
    for number in range(300):
        sqlite.execute(
            "INSERT INTO people VALUES (?, ?, ?, ?, ?)",
            (
                number,
                f"n{number}",
                f"{number}@x",
                ("de", "en", "fr")[number % 3],
                number if number % 10 else None,
            ),
        )
    client = redis_server.client()
    for at, key in enumerate(NEIGHBOURS):
        if at % 2:
            client.set(key, b"theirs \x00 %d" % at)
        else:
            client.hset(key, mapping={"_v": "1", "theirs": str(at)})
    made = Project(tmp_path / "user", f"sqlite:///{sqlite.path}", redis_server.url)
    made.mapping("people", FIRST)
    return made


def dumps(client: redis.Redis, *, ours: bool) -> dict[bytes, bytes | None]:
    """
    The bytes of our keys, or of all others; without fences.
    """
    keys = [key for key in client.scan_iter() if not key.startswith(b"profile-migrate:")]
    return {key: client.dump(key) for key in keys if (key not in NEIGHBOURS) is ours}


def contents(client: redis.Redis) -> dict[bytes, Any]:
    """
    What our keys hold, without the version, which says how often a mapping was changed.
    """
    found: dict[bytes, Any] = {}
    for key in dumps(client, ours=True):
        kind = client.type(key)
        if kind == b"hash":
            held = client.hgetall(key)
            found[key] = {k: v for k, v in held.items() if k not in {b"_v", b"v"}}
        elif kind == b"set":
            found[key] = client.smembers(key)
        else:
            text = client.get(key)
            if text is not None and text.startswith(b"{"):
                found[key] = {k: v for k, v in json.loads(text).items() if k != "_v"}
            else:
                found[key] = text
    return found


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_of_the_old_shape_is_left(
    project: Project, redis_server: RedisServer, tmp_path: Path, change: str
) -> None:
    """
    After the change Redis holds what a first run of the new mapping writes, and tombstones.

    Neighbours keep every byte, and plan foretold the numbers.
    """
    client = redis_server.client()
    project.run("backfill", "people")
    foreign = dumps(client, ours=False)
    project.mapping("people", CHANGES[change])
    refused = project.run("backfill", "people", "--json")
    planned = project.run("plan", "people", "--json").json["mappings"][0]

    done = project.run("backfill", "people", "--start-over", "--json")

    assert refused.exit == 4
    assert done.exit == 0, done.err
    assert dumps(client, ours=False) == foreign
    buried = {key: held for key, held in contents(client).items() if b"_t" in set(held)}
    found = {key: held for key, held in contents(client).items() if key not in buried}
    gone = 30 if change == "fewer rows" else 0
    assert len(buried) == gone
    assert planned["change"]["tombstones"] == gone
    moved = change == "key template changed"
    waited = change == "other names"
    assert planned["change"]["removed"] == (300 if moved or waited else 0)
    assert planned["change"]["written"] == done.json["written"] == (300 if moved else 0)
    replaced = 0 if moved or waited else 300 - gone
    assert planned["change"]["replaced"] == done.json["replaced"] == replaced
    assert done.json["settled"] == (300 if waited else 0)
    for key in dumps(client, ours=True):
        client.delete(key)
    client.delete("profile-migrate:fence:people")
    fresh = Project(tmp_path / "fresh", project.source_url, redis_server.url)
    fresh.mapping("people", CHANGES[change])
    assert fresh.run("backfill", "people").exit == 0
    assert found == contents(client)


def test_a_change_is_refused_in_the_middle_of_a_run(
    project: Project, redis_server: RedisServer
) -> None:
    """
    Whatever is done of the run stays; the refusal names the way out.
    """
    project.run("backfill", "people", "--limit", "100")
    before = dumps(redis_server.client(), ours=True)
    project.mapping("people", CHANGES["field added"])

    ran = project.run("backfill", "people")

    assert ran.exit == 4
    assert "--start-over" in ran.err
    assert dumps(redis_server.client(), ours=True) == before


def test_a_run_that_died_before_it_swept_sweeps_again(
    project: Project, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The old records are found by the next execution of the same command, without --start-over.
    """
    project.run("backfill", "people")
    project.mapping("people", CHANGES["key template changed"])
    with monkeypatch.context() as patched:
        patched.setattr("migrate.workers.leftovers.left_behind", _dies)
        first = project.run("backfill", "people", "--start-over")
    client = redis_server.client()
    left = len(list(client.scan_iter("person:[0-9]*")))

    second = project.run("backfill", "people", "--json")

    assert (first.exit, left) == (130, 303)
    assert (second.exit, second.json["left_behind"]["removed"]) == (0, 300)
    assert len(list(client.scan_iter("person:[0-9]*"))) == 3


def _dies(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_record_that_somebody_changed_is_kept_and_named(
    project: Project, redis_server: RedisServer
) -> None:
    """
    What an application wrote into a record is not thrown away with the old shape; exit 3 says so.
    """
    project.run("backfill", "people")
    client = redis_server.client()
    client.hset("person:7", "name", "theirs now")
    project.mapping("people", CHANGES["key template changed"])

    ran = project.run("backfill", "people", "--start-over", "--json")

    assert (ran.exit, ran.json["left_behind"]["changed"]) == (3, 1)
    assert ran.json["left_behind"]["kept"] == ["person:7"]
    assert client.hget("person:7", "name") == b"theirs now"
    again = project.run("backfill", "people", "--json")
    assert (again.exit, again.json["left_behind"]["kept"]) == (3, ["person:7"])
    client.delete("person:7")
    assert project.run("backfill", "people").exit == 0
    assert project.run("backfill", "people", "--json").json["left_behind"] is None


def test_the_old_record_of_a_reject_goes_without_a_tombstone(
    project: Project, sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    Its row is still there: a reader that finds nothing asks SQL; one with a tombstone does not.
    """
    project.run("backfill", "people")
    sqlite.execute("UPDATE people SET name = CAST(x'FF' AS TEXT) WHERE id = 5")
    project.mapping("people", CHANGES["field added"])

    ran = project.run("backfill", "people", "--start-over", "--json")

    assert (ran.exit, ran.json["left_behind"]["removed"]) == (3, 1)
    assert redis_server.client().exists("person:5") == 0
