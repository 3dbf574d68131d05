"""
The backfill engine over small ports of its own: order of steps, crashes, stale and colliding keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from migrate.errors import CaptureChanged, ReadTooLongAgo, SplitBrain
from migrate.model.events import ChunkCopied, PartitionDone, Throttled
from migrate.model.ports import Partition, Progress
from migrate.model.values import (
    Batch,
    Chunk,
    Fault,
    Key,
    KeyRange,
    Outcome,
    Receipt,
    Record,
    Reject,
)
from migrate.pipeline.backfill import Engine
from migrate.pipeline.carry import Rows, newer
from migrate.pipeline.dry_run import ForgetfulCheckpoints


class Crash(Exception):
    """
    The process died here.
    """


@dataclass
class World:
    """
    A source, a target and a ledger that count the steps and can die before any of them.
    """

    rows: dict[int, str]
    die_at: int | None = None
    step: int = 0
    redis: dict[bytes, Record] = field(default_factory=dict)
    foreign: set[bytes] = field(default_factory=set)
    cursor: Key | None = None
    done: bool = False
    saved_rows: int = 0
    written: int = 0
    rejects: list[Reject] = field(default_factory=list)
    generation: int = 0
    server: str = "server-1"
    leases: int = 0

    def tick(self) -> None:
        self.step += 1
        if self.step == self.die_at:
            raise Crash

    # the extractor

    def split(self, parts: int) -> list[KeyRange]:
        return [KeyRange()]

    def read(self, within: KeyRange, after: Key | None, limit: int) -> Chunk:
        self.tick()
        low = after[0] if after else -1
        assert isinstance(low, int)
        return self._chunk([k for k in sorted(self.rows) if k > low][:limit])

    def fetch(self, keys: Sequence[Key]) -> Chunk:
        return self._chunk([key[0] for key in keys if key[0] in self.rows])

    def _chunk(self, keys: Sequence[object]) -> Chunk:
        numbers = [key for key in keys if isinstance(key, int)]
        return Chunk(
            keys=[(number,) for number in numbers],
            rows=[(str(number), self.rows[number]) for number in numbers],
            generation=self.generation,
        )

    def close(self) -> None:
        self.rows = dict(self.rows)

    # the loader

    def lease(self) -> None:
        self.leases += 1

    def write(self, records: Sequence[Record]) -> Receipt:
        outcomes = []
        for record in records:
            self.tick()
            outcomes.append(self._set(record))
        self.tick()
        found = {
            index: self.redis[records[index].key].version.decode()
            for index, outcome in enumerate(outcomes)
            if outcome is Outcome.STALE
        }
        return Receipt(outcomes, found)

    def _set(self, record: Record) -> Outcome:
        if record.key in self.foreign:
            return Outcome.COLLISION
        there = self.redis.get(record.key)
        if there is not None and newer(there.version.decode(), record.version.decode()):
            return Outcome.STALE
        if there == record:
            return Outcome.SAME
        self.redis[record.key] = record
        self.written += 1
        return Outcome.WRITTEN if there is None else Outcome.REPLACED

    # the checkpoints

    def claim(self, worker: str) -> Partition | None:
        return None if self.done else Partition(0, KeyRange(), self.cursor)

    def save(self, partition: Partition, progress: Progress) -> Partition:
        self.tick()
        self.cursor, self.done = progress.cursor, progress.done
        self.saved_rows += progress.rows
        self.rejects += progress.rejects
        self.tick()
        return partition.saved(progress.cursor)


def encode(chunk: Chunk) -> Batch:
    """
    A record a row; rows that hold "bad" are rejects.
    """
    records, keys, rejects = [], [], []
    for key, (name, value) in zip(chunk.keys, chunk.rows, strict=True):
        if value == "bad":
            rejects.append(Reject(key, Fault("value", "bad", "is bad")))
            continue
        text = f"{value}".encode()
        records.append(Record(f"k:{name}".encode(), b"1", text, (b"value", text)))
        keys.append(key)
    return Batch(records, keys, rejects)


@dataclass
class Stopwatch:
    """
    A clock that only the test moves.
    """

    at: float = 0.0
    slept: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds


class NoBrakes:
    """
    Never holds back.
    """

    def pause(self, rows: int) -> tuple[str, float] | None:
        return None

    def held(self) -> list[tuple[str, float]]:
        return []


def engine(world: World, *, generation: int = 0, **changes: object) -> Engine:
    """
    An engine whose ports are all the world.
    """
    parts: dict[str, object] = {
        "carrier": Rows(world, world, encode, generation),
        "checkpoints": world,
        "throttle": NoBrakes(),
        "clock": Stopwatch(),
        "largest": 2,
    }
    return Engine(**(parts | changes))  # type: ignore[arg-type]


ROWS = {1: "a", 2: "b", 3: "bad", 4: "d", 5: "e"}


def finished(world: World) -> tuple[dict[bytes, Record], set[Reject], bool]:
    """
    What counts at the end: records, rejects, and that the end was reached.
    """
    return world.redis, set(world.rejects), world.done


def test_every_row_becomes_a_record_or_a_reject() -> None:
    """
    Five rows give four records and one reject, in chunks of two, and a last empty page ends it.
    """
    world = World(ROWS)

    events = list(engine(world).run("w"))

    assert set(world.redis) == {b"k:1", b"k:2", b"k:4", b"k:5"}
    assert world.rejects == [Reject((3,), Fault("value", "bad", "is bad"))]
    assert [e.rows for e in events if isinstance(e, ChunkCopied)] == [2, 2, 1]
    assert isinstance(events[-1], PartitionDone)


@pytest.mark.parametrize("die_at", range(1, 40))
def test_a_crash_at_any_step_loses_nothing(die_at: int) -> None:
    """
    Killed before any step and run again, the end is that of a run that was never killed.
    """
    whole = World(dict(ROWS))
    list(engine(whole).run("w"))
    world = World(dict(ROWS), die_at=die_at)

    try:
        list(engine(world).run("w"))
    except Crash:
        list(engine(world).run("w"))

    assert finished(world) == finished(whole)
    assert world.written == whole.written


def test_nothing_is_saved_before_redis_acknowledged() -> None:
    """
    When the write of the second chunk dies, the cursor stands behind the first.
    """
    world = World(dict(ROWS))
    calls: list[int] = []
    original = world.write

    def write(records: Sequence[Record]) -> Receipt:
        calls.append(len(records))
        if len(calls) == 2:
            raise Crash
        return original(records)

    world.write = write  # type: ignore[method-assign]

    with pytest.raises(Crash):
        list(engine(world).run("w"))

    assert world.cursor == (2,)
    assert world.saved_rows == 2


def test_rows_that_were_kept_too_long_are_read_again() -> None:
    """
    Each time with fewer of them, under a new lease, until the write is in time; none is lost.
    """
    world = World(dict.fromkeys(range(5), "a"))
    sizes: list[int] = []
    original = world.write

    def write(records: Sequence[Record]) -> Receipt:
        sizes.append(len(records))
        if len(sizes) < 3:
            raise ReadTooLongAgo("late")
        return original(records)

    world.write = write  # type: ignore[method-assign]

    list(engine(world, largest=32).run("w"))

    assert sizes[:3] == [5, 5, 2]
    assert len(world.redis) == 5
    assert world.leases >= len(sizes)


def test_a_foreign_key_is_kept_as_a_collision() -> None:
    """
    The row whose key is taken becomes a reject with the reason collision; the foreign key stays.
    """
    world = World({1: "a", 2: "b"}, foreign={b"k:2"})

    list(engine(world).run("w"))

    assert set(world.redis) == {b"k:1"}
    assert [(r.key, r.fault.reason) for r in world.rejects] == [((2,), "collision")]


def test_newer_in_redis_than_sql_ever_was_stops_the_run() -> None:
    """
    A version that SQL, read again, never reached is a split brain, and the chunk is not saved.
    """
    world = World({1: "a"})
    world.redis[b"k:1"] = Record(b"k:1", b"7", b"x", (b"value", b"x"))

    with pytest.raises(SplitBrain):
        list(engine(world).run("w"))

    assert world.cursor is None
    assert world.redis[b"k:1"].version == b"7"


def test_a_chunk_of_another_generation_is_not_written() -> None:
    """
    Capture that is installed in mid-run stops the run before its chunk is written.
    """
    world = World({1: "a"}, generation=1)

    with pytest.raises(CaptureChanged):
        list(engine(world, generation=0).run("w"))

    assert world.redis == {}


def test_a_stop_falls_between_two_chunks() -> None:
    """
    Asked to stop after the first chunk, the run ends with that chunk saved.
    """
    world = World(dict(ROWS))

    def stop() -> None:
        if world.saved_rows:
            raise Crash

    with pytest.raises(Crash):
        list(engine(world, stop=stop).run("w"))

    assert world.saved_rows == 2
    assert world.cursor == (2,)


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 9])
def test_a_limit_is_kept_to_the_row(limit: int) -> None:
    """
    No more rows than the limit are read, and what was read is saved.
    """
    world = World(dict(ROWS))

    list(engine(world, limit=limit).run("w"))

    assert world.saved_rows == min(limit, len(ROWS))


def test_a_pause_is_told_and_then_slept() -> None:
    """
    The throttle's reason is yielded before the wait, and it is asked again after it.
    """
    answers = [("pause_file", 1.0), ("pause_file", 1.0), None]

    class Brakes(NoBrakes):
        def pause(self, rows: int) -> tuple[str, float] | None:
            return answers.pop(0) if answers else None

    watch = Stopwatch()
    world = World({1: "a"})

    events = list(engine(world, throttle=Brakes(), clock=watch).run("w"))

    assert [e for e in events if isinstance(e, Throttled)] == [Throttled("pause_file", 1.0)] * 2
    assert watch.slept == [1.0, 1.0]


def test_a_worker_begins_small_once_and_not_with_every_partition() -> None:
    """
    What it has learned of chunks holds for the next range; a short one, at an end, teaches nothing.
    """
    world = World(dict.fromkeys(range(10000), "a"))
    checkpoints = ForgetfulCheckpoints([KeyRange(), KeyRange()])

    events = list(engine(world, checkpoints=checkpoints, largest=5_000).run("w"))

    chunks = [e.rows for e in events if isinstance(e, ChunkCopied)]
    assert chunks == [1_000, 2_000, 4_000, 3_000, 5_000, 5_000]


@pytest.mark.parametrize(("seconds", "then"), [(0.5, [1_000, 500, 500]), (0.25, [1_000, 1_000])])
def test_chunks_go_by_the_time_they_take(seconds: float, then: list[int]) -> None:
    """
    Half of a chunk that took twice as long as it should, and as many again of one that was right.
    """
    watch = Stopwatch()

    class Slow(World):
        def write(self, records: Sequence[Record]) -> Receipt:
            watch.at += seconds if len(records) == 1_000 else seconds / 2
            return super().write(records)

    world = Slow(dict.fromkeys(range(2000), "a"))
    events = list(engine(world, clock=watch, largest=5_000).run("w"))

    assert [e.rows for e in events if isinstance(e, ChunkCopied)] == then


def test_pauses_within_a_chunk_are_told_once_behind_it() -> None:
    """
    They are no time that writing took, and nobody sleeps for them a second time.
    """
    watch = Stopwatch()

    class Brakes(NoBrakes):
        def held(self) -> list[tuple[str, float]]:
            return [("rows_per_second", 0.4), ("redis_latency", 0.1)]

    class Slow(World):
        def write(self, records: Sequence[Record]) -> Receipt:
            watch.at += 0.7
            return super().write(records)

    events = list(engine(Slow({1: "a"}), throttle=Brakes(), clock=watch).run("w"))

    chunk, *held, _ = events
    assert isinstance(chunk, ChunkCopied)
    assert chunk.seconds["write"] == pytest.approx(0.2)
    assert held == [Throttled("rows_per_second", 0.4), Throttled("redis_latency", 0.1)]
    assert watch.slept == []


def test_a_dry_run_forgets() -> None:
    """
    Two dry runs in a row see the same rows: neither leaves a cursor behind.
    """
    world = World(dict(ROWS))

    seen = []
    for _ in range(2):
        checkpoints = ForgetfulCheckpoints([KeyRange()])
        events = list(engine(world, checkpoints=checkpoints).run("w"))
        seen.append(sum(e.rows for e in events if isinstance(e, ChunkCopied)))
        assert checkpoints.rejected == 1

    assert seen == [5, 5]
    assert world.cursor is None


@pytest.mark.parametrize(
    ("one", "other", "answer"),
    [
        ("2", "1", True),
        ("10", "9", True),
        ("9007199254740993", "9007199254740992", True),
        ("1", "1", False),
        ("9", "10", False),
    ],
)
def test_versions_compare_as_digits(one: str, other: str, answer: bool) -> None:
    """
    Length first, then text: exact where a double is not.
    """
    assert newer(one, other) is answer
