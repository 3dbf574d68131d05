"""
The fence: who may write, and what happens to those who may no longer.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from migrate.errors import Fenced, Refused, TargetLostData, TargetTaken, Unexpected
from migrate.model.values import Fence, Outcome
from migrate.target.fence import FenceState, fence_key
from migrate.target.store import RedisTarget
from tests.servers import RedisServer
from tests.target.conftest import (
    MAPPING,
    OTHER_RUN,
    RUN,
    Heard,
    begin,
    expected,
    loader,
    record,
    records,
    stored,
)

KEY = "profile-migrate:fence:users"


def test_a_first_run_creates_the_fence(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    Before the first run there is no fence; it then says whose data this is.
    """
    assert target.fence(MAPPING) is None
    assert target.is_empty()

    fence = begin(target, generation=2, revision=3, fingerprint="abc")

    assert fence == Fence("fwd", 1, RUN, 0)
    assert target.fence(MAPPING) == FenceState("fwd", 1, RUN, 0, 2, 3, "abc")
    assert fence_key(MAPPING) == KEY
    assert redis_server.client().keys() == [KEY.encode()]
    assert not target.is_empty()


def test_every_run_raises_the_epoch(target: RedisTarget) -> None:
    """
    The same migration's next run takes over with a higher epoch and its own facts.
    """
    begin(target)

    again = begin(target, expected=RUN, revision=2, fingerprint="f2")

    assert again == Fence("fwd", 2, RUN, 0)
    assert target.fence(MAPPING) == FenceState("fwd", 2, RUN, 0, 0, 2, "f2")


def test_repeating_a_begin_whose_answer_was_lost_is_harmless(target: RedisTarget) -> None:
    """
    A first run that asks again finds its own run and goes on.
    """
    begin(target)

    assert begin(target, expected=None).run == RUN


def test_another_runs_fence_is_refused(target: RedisTarget) -> None:
    """
    Data of another run is not taken over, whether none or a third was expected.
    """
    begin(target, run=OTHER_RUN)
    before = target.fence(MAPPING)

    for expects in (None, "0f6b2c1e-0000-4000-8000-000000000003"):
        with pytest.raises(TargetTaken) as caught:
            begin(target, expected=expects)
        assert caught.value.where["run"] == OTHER_RUN

    assert target.fence(MAPPING) == before


def test_starting_over_takes_any_fence_and_keeps_the_floor(
    redis_server: RedisServer, target: RedisTarget
) -> None:
    """
    A new run takes over another's data: new identity, higher epoch, same floor.
    """
    begin(target, run=OTHER_RUN)
    redis_server.client().hset(KEY, "floor", "1800000000000000")

    fence = begin(target, start_over=True)

    assert fence == Fence("fwd", 2, RUN, 1800000000000000)


def test_starting_over_on_an_empty_target_is_a_first_run(target: RedisTarget) -> None:
    """
    Nothing to take over is no reason to fail.
    """
    assert begin(target, expected=OTHER_RUN, start_over=True) == Fence("fwd", 1, RUN, 0)


def test_a_fence_that_should_be_there_and_is_not(target: RedisTarget) -> None:
    """
    A run that expects a fence does not create one: Redis lost data, and someone must know.
    """
    with pytest.raises(TargetLostData):
        begin(target, expected=RUN)

    assert target.fence(MAPPING) is None


@pytest.mark.parametrize("start_over", [False, True])
def test_a_closed_fence_stays_closed(
    redis_server: RedisServer, target: RedisTarget, start_over: bool
) -> None:
    """
    What was closed on purpose is not opened by a backfill, not even one that starts over.
    """
    begin(target)
    redis_server.client().hset(KEY, "mode", "closed")

    with pytest.raises(Refused) as caught:
        begin(target, expected=RUN, start_over=start_over)

    assert caught.value.where["mode"] == "closed"
    state = target.fence(MAPPING)
    assert state is not None and (state.mode, state.epoch) == ("closed", 1)


@pytest.mark.parametrize(
    "plant",
    [
        lambda client: client.set(KEY, "x"),
        lambda client: client.hset(KEY, "name", "x"),
        lambda client: client.hset(KEY, mapping={"mode": "fwd", "run": RUN, "epoch": "1e3"}),
    ],
)
def test_a_key_that_is_no_fence_is_left_alone(
    redis_server: RedisServer, target: RedisTarget, plant: Callable[[redis.Redis], object]
) -> None:
    """
    Something else under the fence's key is named and not overwritten.
    """
    client = redis_server.client()
    plant(client)
    before = client.dump(KEY)

    with pytest.raises(TargetTaken):
        target.fence(MAPPING)
    with pytest.raises(TargetTaken):
        begin(target, start_over=True)

    assert client.dump(KEY) == before


def test_an_older_run_writes_nothing_more(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    From the moment a newer run begins, the older one's writes are refused, whole batches of them.
    """
    older = loader(target)
    older.write(records(10))
    newer = loader(target, begin(target, expected=RUN))

    with pytest.raises(Fenced) as caught:
        older.write(records(500, version=2))

    assert caught.value.where == {
        "mapping": MAPPING,
        "epoch": 1,
        "found_epoch": "2",
        "found_mode": "fwd",
    }
    assert stored(redis_server) == expected(records(10))
    assert list(newer.write([record(1, version=2)]).outcomes) == [Outcome.REPLACED]


def test_a_closed_fence_stops_a_run(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    Closing the fence ends every writer at its next batch.
    """
    writes = loader(target)
    redis_server.client().hset(KEY, "mode", "closed")

    with pytest.raises(Fenced):
        writes.write(records(3))

    assert stored(redis_server) == {}


@pytest.mark.parametrize(
    "plant",
    [
        lambda client: client.flushall(),
        lambda client: client.flushdb(),
        lambda client: client.delete(KEY),
        lambda client: client.rename(KEY, "elsewhere"),
        lambda client: client.set(KEY, "x"),
        lambda client: client.hdel(KEY, "run"),
    ],
    ids=["flushall", "flushdb", "del", "rename", "overwritten", "damaged"],
)
def test_a_lost_fence_stops_a_run(
    redis_server: RedisServer,
    target: RedisTarget,
    heard: Heard,
    plant: Callable[[redis.Redis], object],
) -> None:
    """
    Data that Redis loses in the middle of a run is missed at the next batch, without waiting.

    Nothing is written into what is left.
    """
    writes = loader(target)
    writes.write(records(10))
    plant(redis_server.client())
    before = stored(redis_server)

    with pytest.raises(TargetLostData):
        writes.write(records(500, version=2))

    assert stored(redis_server) == before
    assert heard.waits == []


def test_another_runs_fence_stops_a_run(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    A server that now holds another run's data is not written to.
    """
    writes = loader(target)
    redis_server.client().hset(KEY, "run", OTHER_RUN)

    with pytest.raises(TargetLostData) as caught:
        writes.write(records(3))

    assert caught.value.where["found_run"] == OTHER_RUN
    assert stored(redis_server) == {}


def test_mappings_do_not_share_a_fence(target: RedisTarget) -> None:
    """
    Each mapping has a fence of its own.
    """
    begin(target)

    assert target.fence("accounts") is None


def test_errors_cross_process_borders(target: RedisTarget) -> None:
    """
    A worker's error arrives in the parent with all its parts.
    """
    import pickle

    with pytest.raises(TargetLostData) as caught:
        begin(target, expected=RUN)

    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  our own bytes

    assert (again.what, again.where, again.next_step) == (
        caught.value.what,
        caught.value.where,
        caught.value.next_step,
    )
    assert not isinstance(again, Unexpected)
