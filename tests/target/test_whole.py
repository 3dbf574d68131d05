"""
Whole hashes are read as they are, and what is large, mortal or no hash is left to others.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from migrate.model.values import RecordType
from migrate.target.store import RedisTarget
from migrate.target.whole import AT_ONCE, SMALL, Whole
from tests.servers import RedisServer
from tests.target.conftest import AS_MIGRATE, SHAPE

FIELDS = 4


@pytest.fixture
def whole(target: RedisTarget) -> Any:
    """
    A reader of records of at most four fields.
    """
    found = target.whole(SHAPE, FIELDS)
    assert found is not None
    with closing(found):
        yield found


def read(whole: Whole, *keys: bytes) -> list[dict[bytes, bytes] | None]:
    """
    As dictionaries.
    """
    return [
        None if one is None else dict(zip(one[::2], one[1::2], strict=True))
        for one in whole.read(keys)
    ]


def test_many_hashes_are_read_in_their_order(whole: Whole, redis_server: RedisServer) -> None:
    """
    More than one batch of them, of both encodings, and with what texts can hold.
    """
    client = redis_server.client()
    count = 2 * AT_ONCE + 7
    keys = [b"user:%d" % number for number in range(count)]
    with client.pipeline(transaction=False) as pipe:
        for number, key in enumerate(keys):
            value = "x" * (5 if number % 2 else 500)
            pipe.hset(key, mapping={"a": number, "b": value, "c": "-ERR\r\n$-1\r\n"})
        pipe.execute()

    found = read(whole, *keys)

    assert [one and one[b"a"] for one in found] == [b"%d" % number for number in range(count)]
    assert all(one and one[b"c"] == b"-ERR\r\n$-1\r\n" for one in found)
    assert read(whole) == []


@pytest.mark.parametrize(
    "put",
    [
        lambda client: client.delete("user:1"),
        lambda client: client.set("user:1", "x"),
        lambda client: client.sadd("set", "x") and client.rename("set", "user:1"),
        lambda client: client.hset("user:1", "b", "x" * (SMALL + 1)),
        lambda client: client.hset("user:1", mapping={str(n): "x" for n in range(FIELDS + 1)}),
        lambda client: client.expire("user:1", 1_000),
    ],
)
def test_what_is_large_mortal_or_no_hash_is_left(
    whole: Whole, redis_server: RedisServer, put: Callable[[Any], object]
) -> None:
    """
    That key alone; its neighbours are read.
    """
    client = redis_server.client()
    for number in range(3):
        client.hset(f"user:{number}", "a", number)
    put(client)

    found = read(whole, b"user:0", b"user:1", b"user:2")

    assert found == [{b"a": b"0"}, None, {b"a": b"2"}]


def test_a_key_that_becomes_something_else_meanwhile_is_left(
    whole: Whole, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Between the look at its size and the reading of it.
    """
    client = redis_server.client()
    for number in range(3):
        client.hset(f"user:{number}", "a", number)
    look = Whole._others

    def looked(self: Whole, keys: list[bytes]) -> set[int]:
        found = look(self, keys)
        client.delete("user:1")
        client.set("user:1", "x")
        return found

    monkeypatch.setattr(Whole, "_others", looked)

    assert read(whole, b"user:0", b"user:1", b"user:2") == [{b"a": b"0"}, None, {b"a": b"2"}]


def test_a_lost_connection_is_made_again(whole: Whole, redis_server: RedisServer) -> None:
    """
    The page is read once more.
    """
    client = redis_server.client()
    client.hset("user:1", "a", 1)
    assert read(whole, b"user:1") == [{b"a": b"1"}]
    client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    assert read(whole, b"user:1") == [{b"a": b"1"}]


def test_other_records_and_users_have_no_such_way(
    target: RedisTarget, redis_server: RedisServer, open_target: Callable[..., RedisTarget]
) -> None:
    """
    Strings, and whoever may not ask for the size of a key.
    """
    assert target.whole(replace(SHAPE, record=RecordType.STRING), FIELDS) is None
    client = redis_server.client()
    client.execute_command(
        *["ACL", "SETUSER", "migrate", "reset", "on", ">CANARY-acl", "~*", "+@all", "-memory"]
    )
    try:
        assert open_target(redis_server, **AS_MIGRATE).whole(SHAPE, FIELDS) is None
    finally:
        client.execute_command("ACL", "DELUSER", "migrate")
