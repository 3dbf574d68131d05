"""
Lookups: a record and its entries change in one step, and nobody else's entry is ever touched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from migrate.model.lookups import entries_text, parse_entries
from migrate.model.shape import RecordShape
from migrate.model.values import Entry, LookupKind, Outcome, Receipt, Record
from migrate.target.fence import fence_key
from migrate.target.scripts import WRITE
from migrate.target.store import RedisTarget
from tests.servers import RedisServer
from tests.target.conftest import MAPPING, begin

SHAPE = RecordShape(
    "0" * 32,
    "user:{id}",
    lookups=(
        (LookupKind.UNIQUE, "email:{email}"),
        (LookupKind.SET, "locale:{locale}"),
        (LookupKind.SORTED_SET, "users:created"),
    ),
)
PLAIN = RecordShape("1" * 32, "user:{id}")


def user(
    number: int,
    email: str | None = None,
    locale: str | None = None,
    score: str | None = None,
    *,
    version: int = 1,
    digest: str = "0",
) -> Record:
    """
    A record with up to three entries.
    """
    return Record(
        b"user:%d" % number,
        str(version).encode(),
        digest.encode() * 16,
        (b"name", b"x"),
        (
            Entry(b"u", f"email:{email}".encode() if email else b""),
            Entry(b"s", f"locale:{locale}".encode() if locale else b""),
            Entry(b"z", b"users:created" if score else b"", (score or "").encode()),
        ),
    )


def write(
    target: RedisTarget, *records: Record, shape: RecordShape = SHAPE, adopt: bool = False
) -> Receipt:
    """
    Through a loader behind the current fence.
    """
    fence = target.fence(MAPPING)
    expected = fence.run if fence else None
    return target.loader(MAPPING, begin(target, expected=expected), shape, adopt=adopt).write(
        records
    )


def everything(client: redis.Redis) -> dict[bytes, Any]:
    """
    Every key but the fence, in a form that can be compared.
    """
    readers: dict[bytes, Callable[[bytes], Any]] = {
        b"hash": client.hgetall,
        b"string": client.get,
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    keys = (key for key in client.scan_iter() if not key.startswith(b"profile-migrate:fence:"))
    return {key: readers[client.type(key)](key) for key in keys}


def entries_of(client: redis.Redis) -> dict[bytes, Any]:
    """
    Every further key.
    """
    return {k: v for k, v in everything(client).items() if not k.startswith(b"user:")}


def test_a_record_is_entered_into_its_lookups(
    redis_server: RedisServer, target: RedisTarget
) -> None:
    """
    A unique string, a set and a sorted set name the record, which lists all three.
    """
    one = user(1, "a@x", "de", "17.5")

    receipt = write(target, one)

    client = redis_server.client()
    assert list(receipt.outcomes) == [Outcome.WRITTEN]
    assert entries_of(client) == {
        b"email:a@x": b"user:1",
        b"locale:de": {b"user:1"},
        b"users:created": [(b"user:1", 17.5)],
    }
    listed = parse_entries(client.hget("user:1", "_l"))
    assert [(e.kind, e.key) for e in listed] == [(e.kind, e.key) for e in one.entries]


def test_no_entry_is_made_of_null(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    A record without a value for its lookups has no entry and no list of them.
    """
    write(target, user(1))

    client = redis_server.client()
    assert entries_of(client) == {}
    assert client.hkeys("user:1") == [b"_v", b"_h", b"name"]


def test_a_changed_record_leaves_its_old_entries(
    redis_server: RedisServer, target: RedisTarget
) -> None:
    """
    The old e-mail and locale name it no more; a set that it was alone in is gone.
    """
    write(target, user(1, "a@x", "de", "1"), user(2, "b@x", "en", "2"))

    receipt = write(target, user(1, "c@x", "en", "3", digest="1"))

    assert list(receipt.outcomes) == [Outcome.REPLACED]
    assert entries_of(redis_server.client()) == {
        b"email:b@x": b"user:2",
        b"email:c@x": b"user:1",
        b"locale:en": {b"user:1", b"user:2"},
        b"users:created": [(b"user:2", 2.0), (b"user:1", 3.0)],
    }


def test_a_mapping_without_lookups_releases_those_of_its_records(
    redis_server: RedisServer, target: RedisTarget
) -> None:
    """
    A record that is replaced by one of a mapping that has no lookups any more leaves all of them.
    """
    write(target, user(1, "a@x", "de", "1"))
    plain = Record(b"user:1", b"2", b"1" * 16, (b"name", b"x"))

    receipt = write(target, plain, shape=PLAIN)

    client = redis_server.client()
    assert list(receipt.outcomes) == [Outcome.REPLACED]
    assert everything(client) == {
        b"user:1": {b"_v": b"2", b"_h": b"1" * 16, b"name": b"x"},
    }


def test_the_same_record_is_linked_again(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    Entries that were lost come back, one that is too many goes, when the record is written again.
    """
    one = user(1, "a@x", "de", "1")
    write(target, one)
    client = redis_server.client()
    before = everything(client)
    client.delete("email:a@x", "users:created")
    client.srem("locale:de", "user:1")
    client.set("email:old", "user:1")
    client.hset("user:1", "_l", entries_text([*one.entries, Entry(b"u", b"email:old")]))

    receipt = write(target, one)

    assert list(receipt.outcomes) == [Outcome.SAME]
    assert everything(client) == before


def test_a_unique_entry_is_never_taken_from_a_living_record(
    redis_server: RedisServer, target: RedisTarget
) -> None:
    """
    The second record with the e-mail is a duplicate, named by its lookup, and nothing of it shows.
    """
    write(target, user(1, "a@x"))
    before = everything(redis_server.client())

    receipt = write(target, user(2, "a@x", "de", "5"), user(3, "b@x"))

    assert list(receipt.outcomes) == [Outcome.DUPLICATE, Outcome.WRITTEN]
    assert receipt.lookups == {0: 0}
    after = everything(redis_server.client())
    assert {key: after[key] for key in before} == before
    assert set(after) - set(before) == {b"user:3", b"email:b@x"}


def test_duplicates_of_one_batch_are_seen(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    Of three records with one e-mail in one batch the first is written.
    """
    receipt = write(target, *(user(number, "a@x") for number in (3, 1, 2)))

    assert list(receipt.outcomes) == [Outcome.WRITTEN, Outcome.DUPLICATE, Outcome.DUPLICATE]
    assert redis_server.client().get("email:a@x") == b"user:3"


@pytest.mark.parametrize("why", ["deleted", "tombstone", "listed no more"])
def test_an_entry_that_its_record_gave_up_is_free(
    redis_server: RedisServer, target: RedisTarget, why: str
) -> None:
    """
    A lookup may name a record that is gone, or that says itself that it is not there any more.
    """
    write(target, user(1, "a@x"))
    client = redis_server.client()
    if why == "deleted":
        client.delete("user:1")
    elif why == "tombstone":
        client.delete("user:1")
        client.hset("user:1", mapping={"_v": "2", "_t": "1"})
    else:
        client.hdel("user:1", "_l")

    receipt = write(target, user(2, "a@x"))

    assert list(receipt.outcomes) == [Outcome.WRITTEN]
    assert client.get("email:a@x") == b"user:2"


def test_a_list_that_only_looks_like_it_holds_the_entry_does_not(
    redis_server: RedisServer, target: RedisTarget
) -> None:
    """
    The bytes of an entry inside the key of another entry are not that entry.
    """
    write(target, user(1, "a@x"))
    client = redis_server.client()
    client.hset("user:1", "_l", entries_text([Entry(b"u", b"email:u9:email:a@x!")]))

    assert list(write(target, user(2, "a@x")).outcomes) == [Outcome.WRITTEN]


FOREIGN: dict[str, Callable[[redis.Redis], Any]] = {
    "a string that is no record's key": lambda c: c.set("email:a@x", "theirs"),
    "a long string": lambda c: c.set("email:a@x", "t" * 100_000),
    "a hash for the string": lambda c: c.hset("email:a@x", "a", "b"),
    "a set of others": lambda c: c.sadd("locale:de", "theirs"),
    "a list for the set": lambda c: c.rpush("locale:de", "user:1"),
    "a sorted set of others": lambda c: c.zadd("users:created", {"theirs": 1}),
    "a set for the sorted set": lambda c: c.sadd("users:created", "user:1"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_not_ours_is_no_lookup(
    redis_server: RedisServer, target: RedisTarget, kind: str
) -> None:
    """
    A further key that somebody else uses is a collision, named by its lookup; it keeps its bytes.
    """
    client = redis_server.client()
    FOREIGN[kind](client)
    before = everything_dumped(client)

    receipt = write(target, user(1, "a@x", "de", "1"), user(2, "b@x", "en"))

    assert list(receipt.outcomes) == [Outcome.COLLISION, Outcome.WRITTEN]
    assert 0 in receipt.lookups
    after = everything_dumped(client)
    assert {key: after[key] for key in before} == before
    assert b"user:1" not in after


def everything_dumped(client: redis.Redis) -> dict[bytes, Any]:
    """
    Every key's bytes, but the fence's.
    """
    keys = (key for key in client.scan_iter() if not key.startswith(b"profile-migrate:fence:"))
    return {key: client.dump(key) for key in keys}


def test_a_stale_record_changes_no_entry(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    An older version, whatever its entries, is neither written nor linked.
    """
    write(target, user(1, "new@x", "de", version=5 * 10**12))
    before = everything(redis_server.client())

    receipt = write(target, user(1, "old@x", "en", version=4 * 10**12))

    assert list(receipt.outcomes) == [Outcome.STALE]
    assert everything(redis_server.client()) == before


def test_a_dry_run_decides_the_same(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    Outcomes of lookups are foretold, and nothing is written.
    """
    write(target, user(1, "a@x"))
    redis_server.client().sadd("locale:xx", "theirs")
    before = everything_dumped(redis_server.client())
    asked = [user(2, "a@x"), user(3, "c@x", "xx"), user(4, "d@x"), user(1, "a@x")]

    foretold = target.dry_loader(MAPPING, SHAPE).write(asked)

    assert everything_dumped(redis_server.client()) == before
    done = write(target, *asked)
    assert foretold == done
    assert list(done.outcomes) == [
        Outcome.DUPLICATE,
        Outcome.COLLISION,
        Outcome.WRITTEN,
        Outcome.SAME,
    ]


@pytest.mark.parametrize("entries", [3_000, 1])
def test_hostile_keys_of_lookups(
    redis_server: RedisServer, target: RedisTarget, entries: int
) -> None:
    """
    Keys with every byte, digits and colons are listed, found and released.
    """
    email = "u3:" + "".join(map(chr, range(256))) + "9:u" + "x" * entries

    write(target, user(1, email))
    write(target, user(1, "plain@x", digest="1"))

    assert entries_of(redis_server.client()) == {b"email:plain@x": b"user:1"}


def answer_when_full(server: RedisServer, target: RedisTarget, *records: Record) -> Any:
    """
    What the server itself answers to a write that adopts, while it has no memory left.
    """
    fence = target.fence(MAPPING)
    assert fence is not None
    keys = [fence_key(MAPPING), *(record.key for record in records)]
    loader = target.loader(MAPPING, begin(target, expected=fence.run), SHAPE, adopt=True)
    [call] = loader._calls(records)
    assert call.command[3 : 3 + len(keys)] == tuple(keys)
    client: Any = server.client()
    client.script_load(WRITE.text)
    server.set(maxmemory="1", **{"maxmemory-policy": "noeviction"})
    try:
        return client.execute_command(*call.command)
    except redis.ResponseError as error:
        return error
    finally:
        server.set(maxmemory="0")


def test_full_memory_takes_nothing_away(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    A replacement that has no room leaves the record and all of its entries as they were.
    """
    write(target, user(1, "a@x", "de", "1"))
    before = everything_dumped(redis_server.client())

    answer = answer_when_full(redis_server, target, user(1, "b@x", "en", "2", digest="1"))

    assert isinstance(answer, redis.ResponseError)
    assert everything_dumped(redis_server.client()) == before


def test_full_memory_leaves_a_foreign_value_in_its_place(
    redis_server: RedisServer, target: RedisTarget
) -> None:
    """
    A value is not put aside where the record that should take its place has no room.
    """
    write(target, user(2))
    redis_server.client().set("user:1", "theirs")
    before = everything_dumped(redis_server.client())

    answer = answer_when_full(redis_server, target, user(1, "a@x"))

    assert isinstance(answer, redis.ResponseError)
    assert everything_dumped(redis_server.client()) == before


NOT_OURS: dict[str, Callable[[redis.Redis], Any]] = {
    "string": lambda c: c.set("user:1", "theirs", ex=1_000),
    "hash": lambda c: c.hset("user:1", mapping={"theirs": "1", "_v": "no"}),
    "list": lambda c: c.rpush("user:1", "a", "b"),
    "zset": lambda c: c.zadd("user:1", {"a": 1}),
    "stream": lambda c: c.xadd("user:1", {"a": "b"}, id="1-1"),
}


@pytest.mark.parametrize("kind", NOT_OURS)
def test_a_foreign_value_is_put_aside_where_that_is_asked_for(
    redis_server: RedisServer, target: RedisTarget, kind: str
) -> None:
    """
    It keeps its bytes and time to live under another name; a second write changes nothing.
    """
    client = redis_server.client()
    NOT_OURS[kind](client)
    before, life = client.dump("user:1"), client.ttl("user:1")

    first = write(target, user(1, "a@x"), user(2), adopt=True)
    second = write(target, user(1, "a@x"), user(2), adopt=True)

    assert list(first.outcomes) == [Outcome.ADOPTED, Outcome.WRITTEN]
    assert list(second.outcomes) == [Outcome.SAME, Outcome.SAME]
    aside = f"profile-migrate:adopted:{MAPPING}:user:1"
    assert client.dump(aside) == before
    assert abs(client.ttl(aside) - life) <= 1
    assert client.get("email:a@x") == b"user:1"


def test_nothing_is_put_aside_twice(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    A key that somebody takes again after it was adopted is a collision: the first value is kept.
    """
    client = redis_server.client()
    client.set("user:1", "first")
    write(target, user(1), adopt=True)
    client.set("user:1", "second")

    receipt = write(target, user(1), adopt=True)

    assert list(receipt.outcomes) == [Outcome.COLLISION]
    assert client.get("user:1") == b"second"
    assert client.get(f"profile-migrate:adopted:{MAPPING}:user:1") == b"first"
