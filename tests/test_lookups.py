"""
Lookups and times to live from a real table into a real Redis, by the command that users run.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.project import Project
from tests.servers import RedisServer, SqliteDatabase

MAPPING = """
version: 1
name: people
source: {table: people, key: [id]}
target: {key: "person:{id}"%s}
fields: {name: {}, email: {}, locale: {}, born: {}}
lookups:
  by_email: {key: "person-email:{email}", unique: true}
"""
SETS = """
  by_locale: {type: set, key: "person-locale:{locale}"}
  by_birth: {type: sorted_set, key: "persons:born", score: born}
"""
TABLE = (
    "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, email TEXT, locale TEXT, "
    "born DATE, ends DATETIME)"
)


@pytest.fixture
def project(tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer) -> Project:
    """
    Four people, one of them without an e-mail.
    """
    sqlite.execute(TABLE)
    sqlite.execute(
        "INSERT INTO people VALUES (1, 'Ada', 'a@x', 'de', '1970-01-02', '2999-01-01 00:00:00'), "
        "(2, 'Bo', 'b@x', 'en', '1969-12-31', '2020-01-01 00:00:00'), "
        "(3, 'Cy', NULL, 'en', NULL, NULL), (4, 'Di', 'd@x', NULL, '2000-01-01', '2999-01-01')"
    )
    made = Project(tmp_path / "user", f"sqlite:///{sqlite.path}", redis_server.url)
    made.mapping("people", MAPPING % "" + SETS)
    return made


def entries(client: redis.Redis) -> dict[bytes, Any]:
    """
    Every further key.
    """
    found: dict[bytes, Any] = {}
    for key in client.scan_iter("person-*"):
        found[key] = client.get(key) if client.type(key) == b"string" else client.smembers(key)
    if client.exists("persons:born"):
        found[b"persons:born"] = client.zrange("persons:born", 0, -1, withscores=True)
    return found


def test_rows_are_found_by_their_lookups(project: Project, redis_server: RedisServer) -> None:
    """
    By e-mail, by locale and in the order of birth; NULL is in none of them.
    """
    ran = project.run("backfill", "people", "--json")

    assert (ran.exit, ran.json["written"]) == (0, 4), ran.err
    assert entries(redis_server.client()) == {
        b"person-email:a@x": b"person:1",
        b"person-email:b@x": b"person:2",
        b"person-email:d@x": b"person:4",
        b"person-locale:de": {b"person:1"},
        b"person-locale:en": {b"person:2", b"person:3"},
        b"persons:born": [
            (b"person:2", -86_400_000.0),
            (b"person:1", 86_400_000.0),
            (b"person:4", 946_684_800_000.0),
        ],
    }
    assert project.run("backfill", "people", "--json").json["same"] == 4


def test_a_duplicate_is_a_reject_and_costs_nobody_else(
    project: Project, sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    The first owner keeps its entry; the second row is kept with its reason and its lookup.
    """
    sqlite.execute("INSERT INTO people VALUES (5, 'Ed', 'a@x', 'fr', NULL, NULL)")

    ran = project.run("backfill", "people", "--json")

    assert (ran.exit, ran.json["duplicate"]) == (3, 1)
    assert ran.json["open_rejects"] == {"duplicate": 1}
    [reject] = project.run("rejects", "list", "people", "--json").json["rejects"]
    assert (reject["column"], reject["reason"]) == ("by_email", "duplicate")
    client = redis_server.client()
    assert client.get("person-email:a@x") == b"person:1"
    assert client.exists("person:5", "person-locale:fr") == 0


def test_a_value_that_was_passed_on_is_no_duplicate(
    project: Project, sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    Rows that exchange their e-mails in a chain all arrive, in whatever order they are read.
    """
    project.run("backfill", "people")
    sqlite.execute("UPDATE people SET email = 'new@x' WHERE id = 4")
    sqlite.execute("UPDATE people SET email = 'd@x' WHERE id = 2")
    sqlite.execute("UPDATE people SET email = 'b@x' WHERE id = 1")

    ran = project.run("backfill", "people", "--json")

    assert (ran.exit, ran.json["open_rejects"]) == (0, {}), ran.err
    assert ran.json["settled"] == 2
    client = redis_server.client()
    found = {key: value for key, value in entries(client).items() if b"email" in key}
    assert found == {
        b"person-email:b@x": b"person:1",
        b"person-email:d@x": b"person:2",
        b"person-email:new@x": b"person:4",
    }


def test_values_that_were_exchanged_in_a_circle_arrive(
    project: Project, sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    None of the rows can be first, so all of them give up what they had; nobody else's entry moves.
    """
    project.run("backfill", "people")
    sqlite.execute(
        "UPDATE people SET email = CASE id WHEN 1 THEN 'b@x' WHEN 2 THEN 'd@x' ELSE 'a@x' END "
        "WHERE id IN (1, 2, 4)"
    )
    sqlite.execute("INSERT INTO people VALUES (5, 'Ed', 'a@x', 'fr', NULL, NULL)")

    ran = project.run("backfill", "people", "--json")

    assert (ran.exit, ran.json["open_rejects"]) == (3, {"duplicate": 1}), ran.err
    client = redis_server.client()
    owners = {key: client.get(key) for key in client.scan_iter("person-email:*")}
    assert owners[b"person-email:b@x"] == b"person:1"
    assert owners[b"person-email:d@x"] == b"person:2"
    assert owners[b"person-email:a@x"] in {b"person:4", b"person:5"}
    assert len(owners) == 3


def test_a_foreign_key_in_the_place_of_a_lookup_is_a_reject(
    project: Project, redis_server: RedisServer
) -> None:
    """
    A collision that names the lookup; the foreign set keeps its members.
    """
    client = redis_server.client()
    client.sadd("person-locale:en", "theirs")

    ran = project.run("backfill", "people", "--json")

    assert (ran.exit, ran.json["open_rejects"]) == (3, {"collision": 2})
    listed = project.run("rejects", "list", "people", "--json").json["rejects"]
    assert {one["column"] for one in listed} == {"by_locale"}
    assert client.smembers("person-locale:en") == {b"theirs"}
    client.delete("person-locale:en")
    assert project.run("rejects", "replay", "people").exit == 0


def test_times_to_live_come_from_the_column(project: Project, redis_server: RedisServer) -> None:
    """
    The past is not written, NULL never ends, and a second run renews nothing.
    """
    project.mapping("people", MAPPING % ", ttl: {column: ends}")

    first = project.run("backfill", "people", "--json")
    client = redis_server.client()
    ends = {key: client.pttl(key) + int(time.time() * 1000) for key in (b"person:1", b"person:4")}
    second = project.run("backfill", "people", "--json")

    assert (first.exit, first.json["written"], first.json["expired"]) == (0, 3, 1)
    assert (second.exit, second.json["same"], second.json["expired"]) == (0, 3, 1)
    instant = 32_472_144_000_000
    assert client.hget("person:1", "_e") == str(instant).encode()
    assert all(abs(end - instant - 60_000) < 1_000 for end in ends.values())
    assert client.pttl("person:3") == -1
    assert client.exists("person:2", "person-email:b@x") == 0
    assert abs(client.pttl("person-email:a@x") - client.pttl("person:1")) < 1_000


def test_a_fixed_time_to_live_begins_with_the_run(
    project: Project, redis_server: RedisServer
) -> None:
    """
    All records of a run end at one instant; one that is resumed or repeated gives no new life.
    """
    project.mapping("people", MAPPING % ", ttl: {seconds: 86400}")
    began = int(time.time() * 1000)
    client = redis_server.client()

    project.run("backfill", "people", "--limit", "2")
    first = client.hget("person:1", "_e")
    project.run("backfill", "people")
    project.run("backfill", "people")

    assert first is not None
    assert abs(int(first) - began - 86_400_000) < 10_000
    assert {client.hget(f"person:{number}", "_e") for number in (1, 2, 3, 4)} == {first}


def test_adopting_puts_foreign_values_aside(project: Project, redis_server: RedisServer) -> None:
    """
    Without the flag they are rejects; with it their rows arrive and they are kept under our name.
    """
    client = redis_server.client()
    client.set("person:1", "theirs", ex=9_000)
    without = project.run("backfill", "people", "--json")

    adopted = project.run("backfill", "people", "--adopt", "--json")

    assert (without.exit, without.json["open_rejects"]) == (3, {"collision": 1})
    assert (adopted.exit, adopted.json["adopted"], adopted.json["open_rejects"]) == (0, 1, {})
    assert client.get("profile-migrate:adopted:people:person:1") == b"theirs"
    assert client.hget("person:1", "name") == b"Ada"


def test_a_dry_run_foretells_duplicates_and_expiry(
    project: Project, sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    It writes nothing and says what a run would do now.
    """
    project.run("backfill", "people")
    before = entries(redis_server.client())
    sqlite.execute("INSERT INTO people VALUES (5, 'Ed', 'a@x', 'fr', NULL, NULL)")

    ran = project.run("backfill", "people", "--dry-run", "--json")

    assert (ran.exit, ran.json["duplicate"], ran.json["same"]) == (3, 1, 4)
    assert entries(redis_server.client()) == before
