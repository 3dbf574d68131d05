"""
The compare-and-set, decision by decision, against a model in Python and on real servers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrate.model import values
from migrate.model.values import Outcome, Record
from migrate.target import scripts
from migrate.target.store import RedisTarget
from tests.servers import RedisServer
from tests.target.conftest import MAPPING, SHAPE, begin, expected, loader, record, stored

DIGESTS = ("0" * 16, "f" * 16)

EDGES = [0, 1, 9, 10, 99, 100, 10**12 - 1, 10**12, 2**53, 2**63, 2**64, 10**30 - 1]

versions = st.builds(
    lambda edge, step: str(min(max(edge + step, 0), 10**30 - 1)),
    st.sampled_from(EDGES),
    st.integers(-2, 2),
)


def model(held: tuple[str, str] | None, version: str, digest: str) -> Outcome:
    """
    What must become of a record: the promise, in numbers of any size.
    """
    if held is None:
        return Outcome.WRITTEN
    found, mark = held
    if int(version) != int(found):
        return Outcome.REPLACED if int(version) > int(found) else Outcome.STALE
    if mark == digest:
        return Outcome.SAME
    return Outcome.REPLACED if int(version) < 10**12 else Outcome.CONFLICT


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    held=st.none() | st.tuples(versions, st.sampled_from(DIGESTS)),
    version=versions,
    digest=st.sampled_from(DIGESTS),
)
def test_decides_as_the_model_does(
    redis_server: RedisServer,
    target: RedisTarget,
    held: tuple[str, str] | None,
    version: str,
    digest: str,
) -> None:
    """
    Any two versions of 1 to 30 digits are ordered as the numbers that they are.

    Neighbours around 2^53 and 2^63 included. The dry run says the same, and nothing changes
    unless it must.
    """
    redis_server.client().flushall()
    writes = loader(target)
    if held is not None:
        writes.write([record(1, version=held[0], digest=held[1])])
    before = stored(redis_server)
    incoming = record(1, version=version, digest=digest, fields=3)

    said = target.dry_loader(MAPPING, SHAPE).write([incoming])
    done = writes.write([incoming])

    outcome = model(held, version, digest)
    assert list(done.outcomes) == [outcome]
    assert said == done
    changed = outcome in {Outcome.WRITTEN, Outcome.REPLACED}
    assert stored(redis_server) == (expected([incoming]) if changed else before)
    found = {0: held[0]} if held and outcome in {Outcome.STALE, Outcome.CONFLICT} else {}
    assert done.found == found


NOT_OURS: dict[str, Callable[[redis.Redis], Any]] = {
    "string": lambda client: client.set("user:1", "x"),
    "list": lambda client: client.rpush("user:1", "x"),
    "set": lambda client: client.sadd("user:1", "x"),
    "zset": lambda client: client.zadd("user:1", {"x": 1}),
    "stream": lambda client: client.xadd("user:1", {"_v": "1"}),
    "hash without a version": lambda client: client.hset("user:1", "name", "x"),
    "version alone": lambda client: client.hset("user:1", "_v", "1"),
    "version with a leading zero": lambda client: client.hset(
        "user:1", mapping={"_v": "01", "_h": "0" * 16}
    ),
    "version of letters": lambda client: client.hset(
        "user:1", mapping={"_v": "1e3", "_h": "0" * 16}
    ),
    "negative version": lambda client: client.hset("user:1", mapping={"_v": "-1", "_h": "0" * 16}),
    "empty version": lambda client: client.hset("user:1", mapping={"_v": "", "_h": "0" * 16}),
    "version of 31 digits": lambda client: client.hset(
        "user:1", mapping={"_v": "1" * 31, "_h": "0" * 16}
    ),
    "short digest": lambda client: client.hset("user:1", mapping={"_v": "1", "_h": "0" * 15}),
    "digest of other letters": lambda client: client.hset(
        "user:1", mapping={"_v": "1", "_h": "g" * 16}
    ),
}


@pytest.mark.parametrize("kind", NOT_OURS)
def test_what_is_not_ours_is_a_collision(
    redis_server: RedisServer, target: RedisTarget, kind: str
) -> None:
    """
    A key that is not a record of ours is reported and keeps every byte.
    """
    client = redis_server.client()
    NOT_OURS[kind](client)
    before = client.dump("user:1")

    receipt = loader(target).write([record(0), record(1, version=10**29), record(2)])

    assert list(receipt.outcomes) == [Outcome.WRITTEN, Outcome.COLLISION, Outcome.WRITTEN]
    assert client.dump("user:1") == before
    [held] = target.lookup([b"user:1"], SHAPE)
    assert (held.exists, held.ours, held.version) == (True, False, None)


def test_a_tombstone_holds_its_version(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    A tombstone refuses older records, as the record that was deleted would have.
    """
    client = redis_server.client()
    base = 10**12
    client.hset("user:1", mapping={"_v": str(base + 5), "_t": "1"})
    client.hset("user:2", mapping={"_v": "3", "_t": "1"})
    writes = loader(target)

    older = writes.write([record(1, version=base + 4)])
    equal = writes.write([record(1, version=base + 5)])
    uncaptured = writes.write([record(2, version=3)])
    newer = writes.write([record(1, version=base + 6)])

    assert list(older.outcomes) == [Outcome.STALE]
    assert list(equal.outcomes) == [Outcome.CONFLICT]
    assert list(uncaptured.outcomes) == [Outcome.REPLACED]
    assert list(newer.outcomes) == [Outcome.REPLACED]
    assert client.hexists("user:1", "_t") is False


def test_replacing_leaves_nothing_of_the_old(
    redis_server: RedisServer, target: RedisTarget
) -> None:
    """
    A replaced record has exactly the new fields, and no time to live that the old one had.
    """
    writes = loader(target)
    writes.write([record(1, fields=5)])
    client = redis_server.client()
    client.expire("user:1", 100)

    receipt = writes.write([record(1, version=2, fields=1)])

    assert list(receipt.outcomes) == [Outcome.REPLACED]
    assert stored(redis_server) == expected([record(1, version=2, fields=1)])
    assert client.ttl("user:1") == -1


@pytest.mark.parametrize("fields", [0, 1, 499, 500, 501, 1000, 1001, 4001, 9000])
def test_any_number_of_fields(redis_server: RedisServer, target: RedisTarget, fields: int) -> None:
    """
    A record may have no field of its own or thousands; each arrives once.
    """
    batch = [record(1, fields=fields), record(2)]

    receipt = loader(target).write(batch)

    assert list(receipt.outcomes) == [Outcome.WRITTEN] * 2
    assert stored(redis_server) == expected(batch)


def test_any_bytes(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    Keys, names and values are bytes: NUL, line ends and what is no text at all arrive as they are.
    """
    wild = Record(
        b"user:\x00\xff\r\n", b"1", b"a" * 16, (b"\xff\x00", bytes(range(256)), b"e", b"")
    )

    loader(target).write([wild])

    assert stored(redis_server) == expected([wild])


def test_the_same_key_twice_in_a_batch(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    Within one batch as between batches, the newest version stays.
    """
    batch = [record(1, version=3), record(1, version=2), record(1, version=4)]

    receipt = loader(target).write(batch)

    assert list(receipt.outcomes) == [Outcome.WRITTEN, Outcome.STALE, Outcome.REPLACED]
    assert stored(redis_server) == expected(batch[2:])


@pytest.mark.parametrize(
    "broken",
    [
        Record(b"user:2", b"", b"a" * 16, ()),
        Record(b"user:2", b"1.5", b"a" * 16, ()),
        Record(b"user:2", b"01", b"a" * 16, ()),
        Record(b"user:2", b"1", b"a" * 15, ()),
        Record(b"user:2", b"1", b"a" * 16, (b"name without value",)),
    ],
)
def test_a_malformed_record_touches_nothing(
    redis_server: RedisServer, target: RedisTarget, broken: Record
) -> None:
    """
    A record that the scripts could not write whole is refused before its key is touched.
    """
    from migrate.errors import Unexpected

    writes = loader(target)
    writes.write([record(1), record(2)])

    with pytest.raises(Unexpected) as caught:
        writes.write([record(1, version=2), broken])

    assert caught.value.where["prefix"] == "MALFORMED"
    assert stored(redis_server)[b"user:2"] == expected([record(2)])[b"user:2"]


def test_scripts_are_constant_and_know_the_model() -> None:
    """
    The scripts agree with the model on generations, and their text never depends on data.
    """
    assert scripts.GENERATION_DIGITS == values.GENERATION_DIGITS
    assert f"#version <= {values.GENERATION_DIGITS}" in scripts.WRITE.text
    assert all("tonumber(version" not in script.text for script in scripts.ALL)
    assert len({script.sha for script in scripts.ALL}) == len(scripts.ALL)


def test_the_server_agrees_on_the_digest_of_each_script(
    redis_server: RedisServer, target: RedisTarget
) -> None:
    """
    EVALSHA names each script as the server does.
    """
    client = redis_server.client()

    loaded = [client.script_load(script.text) for script in scripts.ALL]

    assert loaded == [script.sha for script in scripts.ALL]


@pytest.mark.containers
def test_every_server_decides_alike(
    any_redis: RedisServer, open_target: Callable[..., RedisTarget]
) -> None:
    """
    Every server of the matrix gives the same outcomes and stores the same bytes.
    """
    target = open_target(any_redis)
    any_redis.client().rpush("user:9", "not ours")
    writes = target.loader(MAPPING, begin(target), SHAPE)
    neighbours = [str(edge + step) for edge in EDGES[1:-1] for step in (-1, 0, 1)]

    for held in neighbours:
        for version in neighbours:
            any_redis.client().delete("user:1")
            writes.write([record(1, version=held, digest=DIGESTS[0])])
            done = writes.write([record(1, version=version, digest=DIGESTS[1])])
            assert list(done.outcomes) == [model((held, DIGESTS[0]), version, DIGESTS[1])]

    assert list(writes.write([record(9)]).outcomes) == [Outcome.COLLISION]
    batch = [record(1, version=10**29, fields=1200), record(2, fields=0)]
    writes.write(batch)
    any_redis.client().delete("user:9")
    assert stored(any_redis) == expected(batch)
