"""
Times to live: an instant that comes with the record, outlived by a grace, and never renewed.
"""

from __future__ import annotations

import time

import pytest
import redis

from migrate.errors import ReadTooLongAgo
from migrate.model.shape import RecordShape
from migrate.model.values import Entry, Expiry, LookupKind, Outcome, Receipt, Record, RecordType
from migrate.target.loader import GRACE_MS, LEASE_MS
from migrate.target.store import RedisTarget
from tests.servers import RedisServer
from tests.target.conftest import MAPPING, begin

LOOKUPS = ((LookupKind.UNIQUE, "email:{email}"),)
COLUMN = RecordShape("0" * 32, "user:{id}", lookups=LOOKUPS, expiry=Expiry.COLUMN)
FIXED = RecordShape("0" * 32, "user:{id}", lookups=LOOKUPS, expiry=Expiry.FIXED)
NEVER = RecordShape("0" * 32, "user:{id}", lookups=LOOKUPS)
TEXT = RecordShape("0" * 32, "user:{id}", record=RecordType.STRING, expiry=Expiry.FIXED)

HOUR = 3_600_000


def now() -> int:
    """
    Milliseconds since 1970; the servers of these tests have the same clock.
    """
    return int(time.time() * 1000)


def user(
    expires: int | None, *, email: bytes = b"email:a@x", version: int = 1, digest: str = "0"
) -> Record:
    """
    User 1 with an e-mail.
    """
    instant = b"" if expires is None else str(expires).encode()
    entries = (Entry(b"u", email),)
    mark = digest.encode() * 16
    return Record(b"user:1", str(version).encode(), mark, (b"name", b"x"), entries, instant)


def text(expires: int, digest: str = "0") -> Record:
    """
    User 1 as a string record.
    """
    body = f'{{"_v":"1","_h":"{digest * 16}","_e":"{expires}","a":1}}'.encode()
    return Record(b"user:1", b"1", digest.encode() * 16, (body,), (), str(expires).encode())


def write(target: RedisTarget, record: Record, shape: RecordShape = COLUMN) -> Receipt:
    """
    Through a loader behind the current fence.
    """
    fence = target.fence(MAPPING)
    loader = target.loader(MAPPING, begin(target, expected=fence.run if fence else None), shape)
    loader.lease()
    return loader.write([record])


def dies_at(client: redis.Redis, key: str) -> int:
    """
    When the server removes a key, in milliseconds since 1970, to about 100 ms; -1 for never.
    """
    left = client.pttl(key)
    return left if left < 0 else now() + left


@pytest.fixture
def client(redis_server: RedisServer) -> redis.Redis:
    """
    The shared Redis, seen past the tool.
    """
    return redis_server.client()


@pytest.mark.parametrize("shape", [COLUMN, FIXED])
def test_a_record_outlives_its_instant_by_the_grace(
    client: redis.Redis, target: RedisTarget, shape: RecordShape
) -> None:
    """
    The field holds the instant itself; record and unique entry go together, a grace later.
    """
    instant = now() + HOUR

    write(target, user(instant), shape)

    assert client.hget("user:1", "_e") == str(instant).encode()
    for key in ("user:1", "email:a@x"):
        assert abs(dies_at(client, key) - instant - GRACE_MS) < 200


def test_the_grace_is_longer_than_rows_may_be_kept() -> None:
    """
    What was read before a record expired is refused before the record is gone.
    """
    assert GRACE_MS > LEASE_MS


def test_a_row_without_an_instant_never_expires(client: redis.Redis, target: RedisTarget) -> None:
    """
    NULL in the column is for ever, also for a record that had an end before.
    """
    write(target, user(now() + HOUR))

    receipt = write(target, user(None, digest="1"))

    assert list(receipt.outcomes) == [Outcome.REPLACED]
    assert client.hget("user:1", "_e") is None
    assert [dies_at(client, key) for key in ("user:1", "email:a@x")] == [-1, -1]


def test_a_mapping_without_ttl_takes_the_end_away(client: redis.Redis, target: RedisTarget) -> None:
    """
    After a change of the mapping neither the record nor its entry keeps the old time to live.
    """
    write(target, user(now() + HOUR))

    write(target, user(None, version=2), NEVER)

    assert client.hget("user:1", "_e") is None
    assert [dies_at(client, key) for key in ("user:1", "email:a@x")] == [-1, -1]


def test_what_is_over_is_not_written(client: redis.Redis, target: RedisTarget) -> None:
    """
    A past instant leaves nothing, in the record's place or in its lookup.
    """
    receipt = write(target, user(now() - GRACE_MS - 1_000))

    assert list(receipt.outcomes) == [Outcome.EXPIRED]
    assert client.exists("user:1", "email:a@x") == 0


def test_what_has_just_ended_is_there_for_the_grace(
    client: redis.Redis, target: RedisTarget
) -> None:
    """
    Inside the grace the record is written, so that an older one cannot come back.
    """
    instant = now() - 1_000

    assert list(write(target, user(instant)).outcomes) == [Outcome.WRITTEN]
    assert client.hget("user:1", "_e") == str(instant).encode()


@pytest.mark.parametrize("version", [1, 2])
def test_a_record_that_is_over_now_is_removed(
    client: redis.Redis, target: RedisTarget, version: int
) -> None:
    """
    An expiry that was moved into the past takes the record and its entries away.
    """
    write(target, user(now() + HOUR))

    receipt = write(target, user(now() - 2 * GRACE_MS, version=version, digest="1"))

    assert list(receipt.outcomes) == [Outcome.EXPIRED]
    assert client.exists("user:1", "email:a@x") == 0


def test_what_is_over_never_takes_a_foreign_value_away(
    client: redis.Redis, target: RedisTarget
) -> None:
    """
    Not even where foreign values may be put aside.
    """
    client.set("user:1", "theirs")
    loader = target.loader(MAPPING, begin(target), COLUMN, adopt=True)

    receipt = loader.write([user(now() - 2 * GRACE_MS)])

    assert list(receipt.outcomes) == [Outcome.EXPIRED]
    assert client.get("user:1") == b"theirs"


def test_the_same_record_gets_its_end_back(client: redis.Redis, target: RedisTarget) -> None:
    """
    An end that was taken away or moved is set again by the next run.
    """
    instant = now() + HOUR
    write(target, user(instant))
    client.persist("user:1")
    client.pexpire("email:a@x", 10 * HOUR)

    receipt = write(target, user(instant))

    assert list(receipt.outcomes) == [Outcome.SAME]
    for key in ("user:1", "email:a@x"):
        assert abs(dies_at(client, key) - instant - GRACE_MS) < 200


def test_a_later_run_gives_no_new_life(client: redis.Redis, target: RedisTarget) -> None:
    """
    Where the end comes from the run, a record that did not change keeps its first one.
    """
    first = now() + HOUR
    write(target, user(first), FIXED)

    receipt = write(target, user(first + 10 * HOUR), FIXED)

    assert list(receipt.outcomes) == [Outcome.SAME]
    assert client.hget("user:1", "_e") == str(first).encode()
    assert abs(dies_at(client, "user:1") - first - GRACE_MS) < 200


def test_a_changed_record_gets_the_end_of_the_later_run(
    client: redis.Redis, target: RedisTarget
) -> None:
    """
    A record with another content is a new one.
    """
    write(target, user(now() + HOUR), FIXED)
    later = now() + 5 * HOUR

    receipt = write(target, user(later, digest="1"), FIXED)

    assert list(receipt.outcomes) == [Outcome.REPLACED]
    assert client.hget("user:1", "_e") == str(later).encode()


def test_a_string_record_keeps_its_end_too(client: redis.Redis, target: RedisTarget) -> None:
    """
    The instant stands in the text; the same record is not renewed by a later run.
    """
    first = now() + HOUR
    write(target, text(first), TEXT)
    client.persist("user:1")

    again = write(target, text(first + HOUR), TEXT)

    assert list(again.outcomes) == [Outcome.SAME]
    assert abs(dies_at(client, "user:1") - first - GRACE_MS) < 200
    assert client.get("user:1") == text(first).fields[0]


def test_rows_that_were_read_too_long_ago_are_not_written(
    client: redis.Redis, target: RedisTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A worker that was stopped between reading and writing reads again instead of writing.
    """
    loader = target.loader(MAPPING, begin(target), COLUMN)
    monkeypatch.setattr("migrate.target.loader.LEASE_MS", -1)
    loader.lease()

    with pytest.raises(ReadTooLongAgo):
        loader.write([user(now() + HOUR)])

    assert client.exists("user:1") == 0


def test_the_year_9999_is_kept_exactly(client: redis.Redis, target: RedisTarget) -> None:
    """
    No digit of a far instant is lost on its way through Lua.
    """
    instant = 253_402_300_799_999

    write(target, user(instant))

    assert client.hget("user:1", "_e") == str(instant).encode()
    assert abs(dies_at(client, "user:1") - instant - GRACE_MS) < 200
