"""
Closing the fence and removing records: one step in the server each, and only what was read.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from migrate.errors import Fenced, TargetLostData, TargetTaken
from migrate.model.lookups import entries_text
from migrate.model.settings import Node
from migrate.model.shape import RecordShape
from migrate.model.values import Entry, Fence, LookupKind, RecordType
from migrate.target import scripts
from migrate.target.fence import FenceState, fence_key
from migrate.target.removal import (
    ALL,
    FENCE_LASTS_S,
    Aside,
    Found,
    Removed,
    Remover,
    There,
    Tombstone,
    escape_glob,
)
from migrate.target.store import RedisTarget
from tests.servers import HOST, RedisServer
from tests.target.conftest import MAPPING, OTHER_RUN, RUN, begin
from tests.target.network import Proxy

KEY = fence_key(MAPPING)
SHAPE = RecordShape("ab" * 16, "user:{id}")
STRINGS = RecordShape("ab" * 16, "user:{id}", record=RecordType.STRING)
MARK = {"_v": "1", "_h": "0123456789abcdef"}


def close(target: RedisTarget, expected: str | None = RUN, own: str = RUN) -> Fence:
    """
    Close the usual fence.
    """
    return target.close_fence(MAPPING, expected=expected, own=own)


def read(remover: Remover, *keys: bytes, shape: RecordShape = SHAPE) -> list[Found]:
    """
    All that is under these keys.
    """
    return [one for part in remover.read(keys, shape) for one in part]


def fates(done: list[tuple[Found, Removed]]) -> dict[bytes, Removed]:
    """
    What became of each key.
    """
    return {found.key: removed for found, removed in done}


# --- the fence -----------------------------------------------------------------------------------


def test_a_closed_fence_locks_its_writers_out(target: RedisTarget) -> None:
    """
    The epoch is raised, each time again, and what it says of the run stays.
    """
    begin(target, revision=3, fingerprint="f3")

    assert close(target) == Fence("closed", 2, RUN)
    assert close(target, None) == Fence("closed", 3, RUN)

    assert target.fence(MAPPING) == FenceState("closed", 3, RUN, 0, 0, 3, "f3")


def test_a_fence_that_is_gone_is_made_closed(target: RedisTarget) -> None:
    """
    A worker whose fence was lost finds one that is not its own, or none.
    """
    assert close(target, RUN, own=RUN) == Fence("closed", 1, RUN)


def test_the_fence_of_another_is_not_closed(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    Neither another run's, nor a key that is no fence.
    """
    begin(target, run=OTHER_RUN)
    with pytest.raises(TargetTaken):
        close(target)
    state = target.fence(MAPPING)
    assert state is not None
    assert state.mode == "fwd"

    for plant in (["SET", KEY, "x"], ["HSET", KEY, "a", "b"]):
        redis_server.client().delete(KEY)
        redis_server.client().execute_command(*plant)
        with pytest.raises(TargetTaken):
            close(target)


def test_a_purged_fence_ends_by_itself(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    Once more after a lost answer is the same; behind somebody else's back it is not.
    """
    begin(target)
    fence = close(target)

    target.expire_fence(MAPPING, fence)
    target.expire_fence(MAPPING, fence)

    state = target.fence(MAPPING)
    assert state is not None
    assert (state.mode, state.epoch) == ("purged", 2)
    assert 0 < redis_server.client().ttl(KEY) <= FENCE_LASTS_S
    close(target)
    assert redis_server.client().ttl(KEY) == -1
    with pytest.raises(Fenced):
        target.expire_fence(MAPPING, fence)


def test_a_first_run_takes_a_purged_fence_over(
    redis_server: RedisServer, target: RedisTarget
) -> None:
    """
    With a run of its own; the purged run itself does not come back.
    """
    begin(target)
    target.expire_fence(MAPPING, close(target))
    with pytest.raises(Exception, match="closed"):
        begin(target, expected=RUN)

    fence = begin(target, run=OTHER_RUN, expected=RUN, fingerprint="f2")

    assert fence == Fence("fwd", 3, OTHER_RUN, 0)
    assert begin(target, run=OTHER_RUN, expected=RUN).epoch == 4
    assert redis_server.client().ttl(KEY) == -1


# --- reading -------------------------------------------------------------------------------------


def test_what_is_there_is_told_by_its_mark(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    Records and tombstones are read; the rest is named and not fetched.
    """
    client = redis_server.client()
    client.hset("user:1", mapping={**MARK, "a": "1"})
    client.hset("user:2", mapping={"_v": "2", "_t": "1"})
    client.hset("user:3", mapping={"_v": "1", "_h": "short"})
    client.set("user:4", "text")
    client.hset("user:6", mapping={**MARK, "a": "x" * 10_000_000})
    keys = [b"user:%d" % number for number in range(1, 7)]

    found = read(target.remover(MAPPING, None), *keys)

    assert [one.there for one in found] == [
        There.MARKED, There.MARKED, There.FOREIGN, There.FOREIGN, There.GONE, There.LARGE,
    ]  # fmt: skip
    assert (found[0].version, found[0].digest) == (b"1", b"0123456789abcdef")
    assert dict(zip(found[0].content[::2], found[0].content[1::2], strict=True))[b"a"] == b"1"
    assert (found[1].tombstone, found[1].digest) == (True, b"")
    assert found[5].content == ()
    assert b"0123456789abcdef".decode() not in repr(found[0])


def test_large_records_are_read_in_several_answers(
    redis_server: RedisServer, target: RedisTarget
) -> None:
    """
    No answer holds more than a few megabytes, and every key comes once.
    """
    client = redis_server.client()
    keys = [b"user:%d" % number for number in range(12)]
    for key in keys:
        client.hset(key, mapping={**MARK, "a": "x" * 1_000_000})

    parts = list(target.remover(MAPPING, None).read(keys, SHAPE))

    assert [one.key for part in parts for one in part] == keys
    assert max(sum(sum(map(len, one.content)) for one in part) for part in parts) < 5_000_000


def test_a_version_can_be_passed_over(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    Records of the run that is over are not fetched.
    """
    redis_server.client().hset("user:1", mapping=MARK)

    [[found]] = target.remover(MAPPING, None).read([b"user:1"], SHAPE, "1")

    assert (found.there, found.content) == (There.PASSED, ())


@pytest.mark.parametrize(
    "name", [b"plain:", b"user[1]:", b"*:", b"u?er:", b"back\\slash:", b"^a-z]:", b"\xff\x00:"]
)
def test_a_prefix_fits_itself_alone(
    redis_server: RedisServer, target: RedisTarget, name: bytes
) -> None:
    """
    A scan for a prefix with glob characters finds its keys, and no neighbour's.
    """
    client = redis_server.client()
    client.mset({name + b"1": 1, b"user1:1": 2, b"userX:1": 3, b"zz:1": 4, b"a:1": 5})

    found = [key for page in target.remover(MAPPING, None).scan(name) for key in page]

    assert found == [name + b"1"]
    assert escape_glob(b"plain:") == b"plain:"


# --- removing ------------------------------------------------------------------------------------


def test_only_what_is_still_the_same_is_removed(
    redis_server: RedisServer, target: RedisTarget
) -> None:
    """
    Another version, another digest, another type, a tombstone meanwhile, gone: all are kept.
    """
    client = redis_server.client()
    begin(target)
    remover = target.remover(MAPPING, close(target))
    for number in range(1, 7):
        client.hset(f"user:{number}", mapping=MARK)
    found = read(remover, *(b"user:%d" % number for number in range(1, 7)))
    client.hset("user:2", "_v", "2")
    client.hset("user:3", "_h", "fedcba9876543210")
    client.delete("user:4")
    client.set("user:4", "theirs")
    client.hset("user:5", "_t", "1")
    client.delete("user:6")

    done = fates(remover.remove(found, SHAPE))

    changed = Removed.CHANGED
    assert list(done.values()) == [
        Removed.REMOVED, changed, changed, changed, changed, Removed.GONE,
    ]  # fmt: skip
    assert sorted(client.keys("user:*")) == [b"user:2", b"user:3", b"user:4", b"user:5"]


def test_a_record_leaves_its_lookups(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    Its own entries alone: others' members, and a unique key that somebody else has, stay.
    """
    client = redis_server.client()
    text = entries_text(
        [
            Entry(b"u", b"mail:a"),
            Entry(b"u", b"mail:b"),
            Entry(b"s", b"city:x"),
            Entry(b"z", b"seen"),
            Entry(b"s", b"not a set"),
        ]
    )
    client.hset("user:1", mapping={**MARK, "_l": text})
    client.mset({"mail:a": "user:1", "mail:b": "user:12", "not a set": "x"})
    client.sadd("city:x", "user:1", "user:2")
    client.zadd("seen", {"user:1": 1, "user:3": 2})
    begin(target)
    remover = target.remover(MAPPING, close(target))

    remover.remove(read(remover, b"user:1"), SHAPE)

    assert client.exists("user:1", "mail:a") == 0
    assert client.mget("mail:b", "not a set") == [b"user:12", b"x"]
    assert client.smembers("city:x") == {b"user:2"}
    assert client.zrange("seen", 0, -1) == [b"user:3"]


@pytest.mark.parametrize("shape", [SHAPE, STRINGS], ids=["hash", "string"])
def test_a_tombstone_is_nothing_but_that(
    redis_server: RedisServer, target: RedisTarget, shape: RecordShape
) -> None:
    """
    Version and mark, no field, no time to live; and the scripts know it as one.
    """
    client = redis_server.client()
    if shape is SHAPE:
        client.hset("user:1", mapping={**MARK, "a": "1", "_l": "s4:city", "_e": "1"})
        client.sadd("city", "user:1")
        client.expire("user:1", 1_000)
    else:
        client.set("user:1", '{"_v":"1","_h":"0123456789abcdef","a":1}', ex=1_000)
    begin(target)
    remover = target.remover(MAPPING, close(target))

    done = remover.remove(read(remover, b"user:1", shape=shape), shape, tombstone=Tombstone(7))

    assert fates(done) == {b"user:1": Removed.BURIED}
    if shape is SHAPE:
        assert client.hgetall("user:1") == {b"_v": b"7", b"_t": b"1"}
    else:
        assert client.get("user:1") == b'{"_v":"7","_t":1}'
    assert (client.ttl("user:1"), client.exists("city")) == (-1, 0)
    [found] = read(remover, b"user:1", shape=shape)
    assert (found.tombstone, found.version) == (True, b"7")


def test_a_foreign_value_takes_its_key_back_in_the_same_step(
    redis_server: RedisServer, target: RedisTarget
) -> None:
    """
    With its time to live; nobody sees the key empty.
    """
    client = redis_server.client()
    client.hset("user:1", mapping=MARK)
    client.set("profile-migrate:adopted:users:user:1", "old", ex=500)
    begin(target)
    remover = target.remover(MAPPING, close(target))

    done = remover.remove(read(remover, b"user:1"), SHAPE, put_back=True)

    assert fates(done) == {b"user:1": Removed.RESTORED}
    assert client.get("user:1") == b"old"
    assert 400 < client.ttl("user:1") <= 500


def test_leftovers_that_were_put_aside_are_found(
    redis_server: RedisServer, target: RedisTarget
) -> None:
    """
    Of this mapping alone, and put back where the key is free.
    """
    client = redis_server.client()
    head = "profile-migrate:adopted:users:"
    client.mset({f"{head}user:1": "a", f"{head}user:2": "b", "user:2": "new"})
    client.set("profile-migrate:adopted:users2:user:3", "c")
    begin(target)
    remover = target.remover(MAPPING, close(target))

    found = sorted(one for page in remover.aside() for one in page)

    assert found == [
        Aside(b"profile-migrate:adopted:users:user:1", b"user:1"),
        Aside(b"profile-migrate:adopted:users:user:2", b"user:2"),
    ]
    assert [remover.put_back(one) for one in found] == [Removed.RESTORED, Removed.TAKEN]
    assert remover.put_back(found[0]) is Removed.GONE
    assert client.mget("user:1", "user:2") == [b"a", b"new"]


def test_entries_are_released_by_name(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    Members of each kind come in pages, and only those that are named go.
    """
    client = redis_server.client()
    client.set("mail", "user:1")
    client.sadd("city", *(f"user:{number}" for number in range(3_000)))
    client.zadd("seen", {f"user:{number}": number for number in range(3_000)})
    begin(target)
    remover = target.remover(MAPPING, close(target))
    kinds = {b"mail": LookupKind.UNIQUE, b"city": LookupKind.SET, b"seen": LookupKind.SORTED_SET}

    for key, kind in kinds.items():
        members = {one for page in remover.members(key, kind) for one in page}
        assert len(members) == (1 if key == b"mail" else 3_000)
        remover.release(key, kind, [b"user:1", b"user:9"])
        assert list(remover.members(key, LookupKind.UNIQUE if key != b"mail" else kind)) == []

    assert (client.exists("mail"), client.scard("city"), client.zcard("seen")) == (0, 2_998, 2_998)


def test_nothing_is_removed_behind_another_fence(
    redis_server: RedisServer, target: RedisTarget
) -> None:
    """
    An older epoch, another run, none: each kind of removal says so and changes nothing.
    """
    client = redis_server.client()
    client.hset("user:1", mapping=MARK)
    client.sadd("city", "user:1")
    client.set("profile-migrate:adopted:users:user:2", "old")
    begin(target)
    late = target.remover(MAPPING, close(target))
    found = read(late, b"user:1")
    aside = Aside(b"profile-migrate:adopted:users:user:2", b"user:2")

    for change, error in (
        (lambda: close(target), Fenced),
        (lambda: client.hset(KEY, "run", OTHER_RUN), TargetLostData),
        (lambda: client.delete(KEY), TargetLostData),
    ):
        change()
        with pytest.raises(error):
            late.remove(found, SHAPE)
        with pytest.raises(error):
            late.put_back(aside)
        with pytest.raises(error):
            late.release(b"city", LookupKind.SET, [b"user:1"])

    assert client.exists("user:1", "city", "profile-migrate:adopted:users:user:2") == 3


def test_a_look_changes_nothing(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    Without a fence removals are said to succeed, and the server is as before.
    """
    client = redis_server.client()
    client.hset("user:1", mapping=MARK)
    client.set("profile-migrate:adopted:users:user:1", "old")
    client.sadd("city", "user:1")
    before = {key: client.dump(key) for key in client.scan_iter()}
    remover = target.remover(MAPPING, None)
    found = read(remover, b"user:1")

    assert fates(remover.remove(found, SHAPE)) == {b"user:1": Removed.REMOVED}
    assert remover.put_back(Aside(b"x", b"user:1")) is Removed.TAKEN
    remover.release(b"city", LookupKind.SET, [b"user:1"])

    assert {key: client.dump(key) for key in client.scan_iter()} == before


def test_a_full_server_is_emptied_all_the_same(
    redis_fresh: Callable[..., RedisServer], open_target: Callable[..., RedisTarget]
) -> None:
    """
    Removing asks for no memory; a tombstone does, and is refused before anything is lost.
    """
    server = redis_fresh()
    client = server.client()
    client.hset("user:1", mapping={**MARK, "a": "1", "_l": "s4:city"})
    client.hset("user:2", mapping=MARK)
    client.sadd("city", "user:1")
    target = open_target(server, retry_for_s=0.1)
    begin(target)
    remover = target.remover(MAPPING, close(target))
    found = read(remover, b"user:1", b"user:2")
    client.config_set("maxmemory", "1")

    with pytest.raises(Exception, match=r"(?i)memory|writes"):
        remover.remove(found[:1], SHAPE, tombstone=Tombstone(2))
    assert client.hget("user:1", "a") == b"1"
    assert client.sismember("city", "user:1") == 1

    assert set(fates(remover.remove(found, SHAPE)).values()) == {Removed.REMOVED}
    assert client.keys("user:*") == []


def test_a_lost_answer_is_asked_for_again(
    redis_server: RedisServer, proxy: Proxy, open_target: Callable[..., RedisTarget]
) -> None:
    """
    What was removed by the first attempt is found gone by the second.
    """
    client = redis_server.client()
    for number in range(50):
        client.hset(f"user:{number}", mapping=MARK)
    target = open_target(redis_server, nodes=(Node(HOST, proxy.port),), retry_for_s=600)
    begin(target)
    remover = target.remover(MAPPING, close(target))
    found = read(remover, *(b"user:%d" % number for number in range(50)))
    proxy.lose_replies(1)

    done = fates(remover.remove(found, SHAPE))

    assert set(done.values()) <= {Removed.GONE, Removed.REMOVED}
    assert client.keys("user:*") == []


def test_every_script_is_loaded_by_its_digest(redis_server: RedisServer) -> None:
    """
    The name under which a script is called is the server's own.
    """
    client = redis_server.client()

    for script in ALL:
        assert client.script_load(script.text) == script.sha


def test_no_two_scripts_are_the_same() -> None:
    """
    Neither here nor among those that write.
    """
    shas = [script.sha for script in (*ALL, *scripts.ALL)]

    assert len(set(shas)) == len(shas)
