"""
The comparison that the matrix rests on finds what is planted, and nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import parity, people
from tests.parity import Difference
from tests.people import People
from tests.project import Project
from tests.servers import Database, RedisServer

ROWS = 150


@pytest.fixture
def made(source: Database, redis_server: RedisServer, tmp_path: Path) -> People:
    """
    People and vouchers that have been moved.
    """
    found = People(source)
    found.create(ROWS)
    project = Project(tmp_path / "user", source.url, redis_server.url)
    project.mapping("people", people.MAPPING)
    project.mapping("vouchers", people.VOUCHERS)
    for name in ("people", "vouchers"):
        ran = project.run("backfill", name, "--json")
        assert (ran.exit, ran.json["complete"]) == (0, True), ran.err
    return found


def compared(made: People, server: RedisServer) -> list[Difference]:
    """
    What SQL and Redis do not agree on.
    """
    return parity.compare(made.wanted(), parity.read_all([server.client()]))


def test_nothing_is_found_where_nothing_is_wrong(made: People, redis_server: RedisServer) -> None:
    """
    Every kind of thing was there to be compared, and a chain of changes leaves SQL ahead.
    """
    stored = parity.read_all([redis_server.client()]).values()
    assert {one.kind for one in stored} == {"hash", "string", "set", "zset"}
    assert {one.ends is None for one in stored} == {True, False}
    assert compared(made, redis_server) == []
    made.change(10)
    kinds = {one.kind for one in compared(made, redis_server)}
    assert kinds >= {"record missing", "another value", "other children", "another list"}
    assert kinds >= {"entry missing", "entry without a row", "another instant"}


def test_every_planted_defect_is_found(made: People, redis_server: RedisServer) -> None:
    """
    In fields, children, lists of entries, lookups of each kind, and times to live; by its place.
    """
    client = redis_server.client()
    person, other, third = [
        one for one in made.wanted() if len(one.entries) == 4 and one.nested["orders"]
    ][:3]
    voucher = next(one for one in made.wanted() if one.expires is not None and one.entries)
    (_, email, _), (_, locale, _), (_, born, _), (_, points, _) = person.entries

    def orders(change: Any) -> bytes:
        held: bytes = client.hget(person.key, "orders") or b""
        return bytes(change(held))

    client.hset(person.key, mapping={"name": "somebody", "more": "1", "_h": "short"})
    client.hset(person.key, "orders", orders(lambda text: text.replace(b'"no":', b'"no":1')))
    client.hset(other.key, "_l", "")
    client.hdel(other.key, "id")
    client.delete(third.key)
    client.set(email, other.key)
    client.srem(locale, person.key)
    client.sadd(locale, "person:nobody")
    client.zadd(born, {person.key: 1.5})
    client.delete(points)
    client.set("left:behind", "1")
    client.persist(voucher.key)
    client.pexpire(voucher.entries[0][1], 60_000)
    client.hset(voucher.key, "_e", "1")

    found = {(one.key, one.field, one.kind) for one in compared(made, redis_server)}

    def planted(key: bytes, kind: str, field: str = "") -> tuple[str, str, str]:
        return key.decode(), field, kind

    assert found == {
        planted(person.key, "another value", "name"),
        planted(person.key, "field without a column", "more"),
        planted(person.key, "not as it should be", "_h"),
        planted(person.key, "other children", "orders"),
        planted(other.key, "another list", "_l"),
        planted(other.key, "field missing", "id"),
        planted(third.key, "record missing"),
        planted(email, "entry missing", person.key.decode()),
        planted(email, "entry without a row", other.key.decode()),
        planted(locale, "entry missing", person.key.decode()),
        planted(locale, "entry without a row", "person:nobody"),
        planted(born, "another score", person.key.decode()),
        planted(points, "lookup missing"),
        planted(b"left:behind", "key without a row"),
        planted(voucher.key, "another time to live"),
        planted(voucher.key, "another instant", "_e"),
        planted(voucher.entries[0][1], "another time to live"),
    }
