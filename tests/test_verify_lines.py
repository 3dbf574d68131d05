"""
The fast way of a verification tells what the plain way tells, and nothing else.
"""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from migrate.model.events import Event
from migrate.model.ports import Partition
from migrate.model.values import Key, KeyRange, RawPage
from migrate.pipeline.verify import PAGE, Verifier
from migrate.pipeline.verify_back import Back
from migrate.pipeline.verify_lines import PAGE_BYTES, Lines
from migrate.pipeline.verify_seen import BUCKETS, Seen
from migrate.source.bulk import LineExtractor
from migrate.target.encoder import Marks
from migrate.target.glance import Glance
from migrate.target.reader import RecordReader
from migrate.target.whole import Whole
from tests import planted, profiles
from tests.captured import Captured
from tests.project import Project
from tests.servers import (
    Database,
    MariadbDatabase,
    PostgresDatabase,
    RedisServer,
    SqliteDatabase,
)
from tests.test_planted import named
from tests.test_verify import verified_rows
from tests.test_verify_faults import interrupted

pytestmark = pytest.mark.slow

ROWS = 3_000

HASH = """
version: 1
name: people
source: {table: user_profiles, key: [id]}
target: {key: "person:{id}"}
"""

TEXT = HASH.replace('{id}"}', '{id}", type: string}')

SHAPES = {"hash": HASH, "string": TEXT}


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def project(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer
) -> tuple[Project, Database, redis.Redis]:
    """
    Awkward profiles, some of them rejects.
    """
    database: Database = request.getfixturevalue(request.param)
    match database:
        case SqliteDatabase():
            profiles.create_sqlite(database.path, ROWS, with_rejects=True)
        case PostgresDatabase():
            profiles.create_postgres(database.execute, ROWS)
        case MariadbDatabase():
            profiles.create_mariadb(database.execute, ROWS)
    return (
        Project(tmp_path / "user", database.url, redis_server.url),
        database,
        redis_server.client(),
    )


@pytest.fixture
def flat(tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer) -> Project:
    """
    Profiles on SQLite, all of them in Redis.
    """
    profiles.create_sqlite(sqlite.path, ROWS)
    made = Project(tmp_path / "user", sqlite.url, redis_server.url)
    made.mapping("people", HASH)
    assert made.run("backfill", "people").exit == 0
    return made


def told(project: Project, level: str, bulk: str, *more: str) -> dict[str, Any]:
    """
    Everything that a verification says, but for names, times and pages.
    """
    project.configure(extra=f"bulk: {bulk}")
    found = project.run("verify", "people", "--level", level, "--json", *more)
    assert found.exit in (0, 3), found.err
    ours = ("exit_code", "verdict", "complete", "counts", "kinds", "fields", "open_rejects")
    return {
        **{name: found.json[name] for name in (*ours, "scope")},
        "named": named(project),
    }


# --- defects --------------------------------------------------------------------------------------

Plant = Callable[[redis.Redis, bytes], object]


def _in_place_of_a_field(name: str, value: str) -> Plant:
    """
    The number of fields stays what it should be.
    """

    def plant(client: redis.Redis, key: bytes) -> None:
        client.hdel(key, "locale")
        client.hset(key, name, value)

    return plant


def _retyped(client: redis.Redis, key: bytes) -> None:
    client.delete(key)
    client.rpush(key, "a")


def _foreign(client: redis.Redis, key: bytes) -> None:
    client.delete(key)
    client.hset(key, "name", "x")


def _tombstone(client: redis.Redis, key: bytes) -> None:
    client.delete(key)
    client.hset(key, mapping={"_v": "1", "_t": "1"})


ANY: Sequence[Plant] = (
    lambda client, key: client.delete(key),
    _retyped,
    lambda client, key: client.expire(key, 100_000),
)

IN_HASHES: Sequence[Plant] = (
    *ANY,
    _foreign,
    _tombstone,
    lambda client, key: client.hset(key, "nickname", "x"),
    lambda client, key: client.hdel(key, "locale"),
    lambda client, key: client.hset(key, "_v", "0"),
    lambda client, key: client.hset(key, "_v", "77"),
    lambda client, key: client.hset(key, "_v", "01"),
    lambda client, key: client.hset(key, "_h", "fedcba9876543210"),
    lambda client, key: client.hset(key, "_h", "FEDCBA9876543210"),
    lambda client, key: client.hset(key, "locale", "behind"),
    _in_place_of_a_field("_t", "1"),
    _in_place_of_a_field("_l", "u1:x"),
    _in_place_of_a_field("_e", "1700000000000"),
    _in_place_of_a_field("_e", "never"),
)


def _replaced(old: bytes, new: bytes) -> Plant:
    def plant(client: redis.Redis, key: bytes) -> None:
        text = client.get(key)
        assert isinstance(text, bytes)
        assert old in text
        client.set(key, text.replace(old, new, 1))

    return plant


def _behind_the_version(length: int, new: bytes) -> Plant:
    """
    Other bytes from the digest on; the string stays as long as it should be.
    """

    def plant(client: redis.Redis, key: bytes) -> None:
        text = client.get(key)
        assert isinstance(text, bytes)
        at = text.index(b'"_h":"') + length
        client.set(key, text[:at] + new + text[at + len(new) :])

    return plant


IN_STRINGS: Sequence[Plant] = (
    _behind_the_version(len('"_h":"'), b"fedcba9876543210"),
    _behind_the_version(len('"_h":"fedcba9876543210"'), b',"_e":"1700000000000"'),
    *ANY,
    _foreign,
    lambda client, key: client.set(key, "somebody's"),
    lambda client, key: client.set(key, '{"_v":"1","_t":1}'),
    lambda client, key: client.append(key, " "),
    _replaced(b'"_v":"1"', b'"_v":"0"'),
    _replaced(b'"_v":"1"', b'"_v":"7"'),
    _replaced(b'"_h":"', b'"_h":"0'),
    _replaced(b'","', b'","_e":"1700000000000","'),
    _replaced(b"}", b',"nickname":"x"}'),
)


def spoil(database: Database, client: redis.Redis, shape: str, each: int = 3) -> int:
    """
    Plant defects of each kind; how many.
    """
    keys = sorted(key for key in client.scan_iter("person:*", 1_000) if client.ttl(key) == -1)
    usual = [key for key in keys if shape == "string" or client.hexists(key, "locale")]
    kinds = IN_HASHES if shape == "hash" else IN_STRINGS
    chosen = random.Random(3).sample(usual, each * (len(kinds) + 2))
    for at, plant in enumerate(kinds):
        for key in chosen[at * each : (at + 1) * each]:
            plant(client, key)
    *_, deleted, changed = (chosen[-2 * each : -each], chosen[-each:])
    for statement, part in (
        ("DELETE FROM user_profiles WHERE id = {}", deleted),
        ("UPDATE user_profiles SET follower_count = follower_count + 1 WHERE id = {}", changed),
    ):
        for key in part:
            database.execute(statement.format(key.removeprefix(b"person:").decode()))
    if shape == "hash":
        client.hset("person:900000001", mapping={"_v": "1", "_h": "0123456789abcdef"})
        client.hset("person:900000002", mapping={"_v": "1", "_t": "1"})
    client.hset("person:nobody", mapping={"_v": "1", "_h": "0123456789abcdef"})
    if shape == "hash":
        client.hset("person:7:notes", mapping={"_v": "1", "_h": "0123456789abcdef"})
    else:
        client.set("person:7:notes", '{"_v":"1","_h":"0123456789abcdef"}')
    return len(chosen)


@pytest.mark.parametrize("shape", SHAPES)
def test_both_ways_tell_the_same(
    project: tuple[Project, Database, redis.Redis], shape: str
) -> None:
    """
    Verdicts, kinds, fields, counts and keys, before and after defects of every kind.
    """
    user, database, client = project
    user.mapping("people", SHAPES[shape])
    assert user.run("backfill", "people").exit in (0, 3)
    before = told(user, "full", "auto")
    assert before == told(user, "full", "off")
    assert before["named"] == set()
    spoiled = spoil(database, client, shape)

    plain = told(user, "full", "off")

    assert len(plain["named"]) > 0.8 * spoiled
    assert "person:7:notes" not in {key for _, _, key, _ in plain["named"]}
    assert told(user, "full", "auto") == plain
    assert told(user, "full", "auto", "--workers", "2") == plain
    assert told(user, "deep", "auto") == told(user, "deep", "off")


def test_most_rows_go_the_fast_way(
    project: tuple[Project, Database, redis.Redis], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Only what it cannot encode, and rejects, are left to the plain way; nothing to the way back.
    """
    user, _, _ = project
    compared: list[int] = []
    looked: list[int] = []
    compare, records = Verifier.compare, Back._records

    def counted(self: Verifier, chunk: Any, tally: Any = None) -> Any:
        compared.append(len(chunk.keys))
        return compare(self, chunk, tally)

    def read(self: Back, keys: Sequence[bytes]) -> Any:
        looked.append(len(keys))
        return records(self, keys)

    monkeypatch.setattr(Verifier, "compare", counted)
    monkeypatch.setattr(Back, "_records", read)
    for mapping in SHAPES.values():
        compared.clear()
        user.mapping("people", mapping)
        user.run("backfill", "people", "--start-over")
        told(user, "full", "auto")
        assert sum(compared) < 0.1 * ROWS
        assert looked == []


def test_off_is_the_plain_way(flat: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    No lines, no sums.
    """

    def never(*_: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(Lines, "compare", never)
    monkeypatch.setattr(Seen, "__init__", never)

    assert told(flat, "full", "off")["verdict"] == "PASS"


@pytest.mark.parametrize("room", [64 * 1024, PAGE_BYTES])
def test_a_page_holds_as_many_rows_as_their_size_lets_it(
    flat: Project, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """
    Short rows share the price of a page; long ones do not fill the memory.
    """
    wanted: list[int] = []
    sizes: list[int] = []
    read = LineExtractor.read

    def noted(self: LineExtractor, within: KeyRange, after: Key | None, limit: int) -> RawPage:
        page = read(self, within, after, limit)
        wanted.append(limit)
        sizes.append(sum(map(len, page.lines)))
        return page

    monkeypatch.setattr(LineExtractor, "read", noted)
    monkeypatch.setattr("migrate.pipeline.verify_lines.PAGE_BYTES", room)

    assert flat.run("verify", "people").exit == 0

    assert wanted[0] == PAGE
    later = slice(1, None)
    if room == PAGE_BYTES:
        assert min(wanted[later]) > PAGE
    else:
        assert room / 2 < max(sizes[later]) < room * 2


def test_an_open_reject_is_one_though_its_record_is_right(
    flat: Project, redis_server: RedisServer
) -> None:
    """
    The record came back behind our back: the row stays a reject, as the ledger says.
    """
    client = redis_server.client()
    key = sorted(client.scan_iter("person:*"))[7]
    record = client.dump(key)
    client.delete(key)
    client.set(key, "somebody's")
    assert flat.run("backfill", "people", "--start-over").exit == 3
    client.restore(key, 0, record, replace=True)

    found = told(flat, "full", "auto")

    assert (found["verdict"], found["counts"]["REJECTED"]) == ("MISMATCH", 1)
    assert found == told(flat, "full", "off")


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def captured(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer
) -> tuple[Project, Captured]:
    """
    People under capture, all of them in Redis.
    """
    database: Database = request.getfixturevalue(request.param)
    planted.create(database, ROWS)
    made = Captured(database)
    project = Project(tmp_path / "user", database.url, redis_server.url)
    project.mapping("people", planted.FLAT)
    assert project.run("backfill", "people").exit == 0
    return project, made


@pytest.mark.parametrize("level", ["full", "deep"])
def test_captured_rows_are_told_the_same(
    captured: tuple[Project, Captured], monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    """
    Late, lost and resurrected ones by their versions; the way back reads every record.
    """
    project, made = captured
    monkeypatch.setattr("migrate.pipeline.verify_again.DELAYS_S", (0.0, 0.0))
    for person in range(10, 40, 2):
        made.rename(person, "marked")
    for person in range(11, 41, 2):
        made.rename(person, "lost")
        made.fold(person)
    for person in range(50, 60, 2):
        made.change(person, f"DELETE FROM people WHERE id = {person}")
    for person in range(51, 61, 2):
        made.change(person, f"DELETE FROM people WHERE id = {person}")
        made.fold(person)

    found = told(project, level, "auto")

    assert found == told(project, level, "off")
    verdicts = {verdict: 0 for verdict, *_ in found["named"]}
    for verdict, *_ in found["named"]:
        verdicts[verdict] += 1
    assert verdicts == {"LOST_EVENT": 15, "RESURRECTED": 5}
    assert found["counts"]["IN_FLIGHT"] == 20


@pytest.mark.parametrize("level", ["full", "deep"])
def test_a_captured_row_that_is_deleted_behind_the_way_from_sql_is_told(
    captured: tuple[Project, Captured], monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    """
    Its record was met with it, which proves nothing where rows may change.
    """
    project, made = captured
    run = Back.run

    def late(self: Back, partition: Partition, found: Seen | None) -> Iterator[Event]:
        made.change(50, "DELETE FROM people WHERE id = 50")
        made.fold(50)
        return run(self, partition, found)

    monkeypatch.setattr(Back, "run", late)

    assert told(project, level, "auto")["named"] == {("RESURRECTED", "", "person:50", "")}


@pytest.mark.parametrize(
    ("level", "asks"), [("full", (Glance, "wrong")), ("deep", (Whole, "read"))]
)
def test_a_captured_row_that_changes_while_it_is_compared_is_in_flight(
    captured: tuple[Project, Captured],
    monkeypatch: pytest.MonkeyPatch,
    level: str,
    asks: tuple[type[Any], str],
) -> None:
    """
    Its record is that of the page, and no longer that of the row.
    """
    project, made = captured
    monkeypatch.setattr("migrate.pipeline.verify_again.DELAYS_S", (0.0, 0.0))
    made.rename(11, "lost")
    made.fold(11)
    before = getattr(*asks)
    late = [50]

    def ask(*words: Any) -> Any:
        for person in late:
            made.rename(person, "later")
        late.clear()
        return before(*words)

    monkeypatch.setattr(*asks, ask)

    found = told(project, level, "auto")

    assert found["named"] == {("LOST_EVENT", "", "person:11", "")}
    assert found["counts"]["IN_FLIGHT"] == 1


# --- each check is needed -------------------------------------------------------------------------


def test_a_glance_that_sees_nothing_wrong_fails_the_suite(
    flat: Project, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Nobody behind it finds what it lets pass.
    """
    client = redis_server.client()
    client.hset(sorted(client.scan_iter("person:*"))[7], "_h", "fedcba9876543210")
    assert told(flat, "full", "auto")["verdict"] == "MISMATCH"

    def blind(_: Glance, batches: Iterator[Marks], __: bytes) -> Iterator[list[int]]:
        return ([] for _ in batches)

    monkeypatch.setattr(Glance, "wrong", blind)

    assert told(flat, "full", "auto")["verdict"] == "PASS"


def test_a_glance_is_as_close_as_the_plain_look(
    flat: Project, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What is not as expected is left to the plain way, record by record, and nothing else is.
    """
    client = redis_server.client()
    keys = sorted(key for key in client.scan_iter("person:*") if client.hexists(key, "locale"))
    spoiled = keys[:: len(keys) // len(IN_HASHES)][: len(IN_HASHES)]
    for key, plant in zip(spoiled, IN_HASHES, strict=True):
        plant(client, key)
    unchanged = b"locale"  # a value behind its digest is not looked at by this level
    suspects: list[bytes] = []
    compare = Verifier.compare

    def noted(self: Verifier, chunk: Any, tally: Any = None) -> Any:
        suspects.extend(one.key for one in self.expect(chunk))
        return compare(self, chunk, tally)

    monkeypatch.setattr(Verifier, "compare", noted)
    told(flat, "full", "auto")

    expected = {
        key
        for key in spoiled
        if client.type(key) != b"hash" or client.hget(key, unchanged) != b"behind"
    }
    assert expected <= set(suspects)
    assert not {key for key in spoiled if key not in expected} & set(suspects)


@pytest.mark.parametrize("why", ["", "another key has one", "INFO is refused"])
def test_records_are_asked_for_their_time_to_live_where_the_server_does_not_answer_for_all(
    flat: Project, redis_server: RedisServer, why: str
) -> None:
    """
    And one that a record has is found either way.
    """
    client = redis_server.client()
    rules = "-info" if why == "INFO is refused" else ""
    client.execute_command(*f"ACL SETUSER mover on >pw ~* &* +@all {rules}".split())
    flat.configure(redis_url=f"redis://mover:pw@{redis_server.host}:{redis_server.port}/0")
    if why == "another key has one":
        client.set("session:1", "x", ex=100_000)
    record = min(client.scan_iter("person:*"))
    client.config_resetstat()
    try:
        clean = told(flat, "full", "auto")
        asked = client.info("commandstats").get("cmdstat_pttl", {"calls": 0})["calls"]
        client.expire(record, 100_000)
        spoiled = told(flat, "full", "auto")
    finally:
        client.execute_command("ACL", "DELUSER", "mover")

    assert clean["verdict"] == "PASS"
    # Of rows that only the plain way can encode it is always asked.
    assert asked > ROWS / 2 if why else asked < ROWS / 2
    assert spoiled["named"] == {("DIFFERENT", "ttl", record.decode(), "_e")}


def test_a_record_that_expires_while_its_page_is_compared_is_missing(
    flat: Project, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Behind it no key of the server has a time to live any more; before it one had.
    """
    client = redis_server.client()
    record = min(client.scan_iter("person:*"))
    client.expire(record, 100_000)
    mortal = Glance.mortal

    def late(self: Glance, keys: Sequence[bytes]) -> list[int]:
        client.delete(record)
        return mortal(self, keys)

    monkeypatch.setattr(Glance, "mortal", late)

    assert told(flat, "full", "auto")["named"] == {("MISSING", "", record.decode(), "")}


# --- what the way back is proven by ---------------------------------------------------------------


def test_a_key_too_many_is_seen_in_every_bucket() -> None:
    """
    One orphan, wherever it falls, makes its bucket another one, and no other.
    """
    keys = [b"person:%d" % n for n in range(10_000)]
    ours = Seen("run")
    ours.add(keys)
    left = set(range(BUCKETS))
    number = 0
    while left:
        orphan = b"orphan:%d" % number
        number += 1
        [bucket] = ours.buckets([orphan])
        if bucket not in left:
            continue
        left.discard(bucket)
        if len(left) % 64:
            continue
        theirs = Seen("run")
        theirs.add([*keys, orphan])
        assert ours.differing(theirs) == {bucket}
        assert theirs.count(but=set()) == len(keys) + 1


@pytest.mark.parametrize("swap", ["one for another", "two for two", "twice", "gone"])
def test_other_keys_are_seen(swap: str) -> None:
    """
    Equal numbers of keys prove nothing: which ones they are does.
    """
    keys = [b"person:%d" % n for n in range(1_000)]
    others = {
        "one for another": [*keys[1:], b"person:1001"],
        "two for two": [*keys[2:], b"person:1001", b"person:1002"],
        "twice": [*keys, keys[5]],
        "gone": keys[1:],
    }
    ours, theirs, same = Seen("run"), Seen("run"), Seen("run")
    ours.add(keys)
    theirs.add(others[swap])
    same.add(reversed(keys))

    assert ours.differing(theirs)
    assert ours.differing(same) == set()
    assert ours.count(but=ours.differing(theirs)) < len(keys)


def test_another_key_in_the_same_bucket_is_seen() -> None:
    """
    The count alone would not tell.
    """
    keys = [b"person:%d" % n for n in range(2 * BUCKETS)]
    ours = Seen("run")
    places: dict[int, bytes] = {}
    for key, bucket in zip(keys, ours.buckets(keys), strict=True):
        if bucket in places:
            one, other = places[bucket], key
            break
        places[bucket] = key
    theirs = Seen("run")
    ours.add([one])
    theirs.add([other])

    assert ours.differing(theirs) == {bucket}


def test_parts_add_up_to_the_whole() -> None:
    """
    In any division, and under one seed only.
    """
    keys = [b"person:%d" % n for n in range(5_000)]
    whole, parts = Seen("run"), [Seen("run") for _ in range(3)]
    whole.add(keys)
    for at, part in enumerate(parts):
        part.add(keys[at::3])
    other = Seen("another run")
    other.add(keys)

    assert whole.differing(Seen.of("run", [part.dump() for part in parts])) == set()
    assert len(whole.differing(other)) > 0.5 * BUCKETS
    assert Seen("run").dump() == b""


def test_a_sample_leaves_no_sums(flat: Project) -> None:
    """
    It has no way back that they would prove, and that would take them away.
    """
    flat.mapping("people", TEXT)
    assert flat.run("backfill", "people", "--start-over").exit == 0

    assert flat.run("verify", "people", "--level", "sample", "--sample", "100").exit == 0

    ledger = sqlite3.connect(flat.folder / ".profile-migrate" / "ledger.db")
    with closing(ledger):
        assert ledger.execute("SELECT count(*) FROM migrate_seen").fetchone() == (0,)


def test_an_orphan_is_found_wherever_it_falls(flat: Project, redis_server: RedisServer) -> None:
    """
    Each of many, and no other record.
    """
    client = redis_server.client()
    orphans = {f"person:{n}" for n in range(700_000_000, 700_000_200)}
    with client.pipeline(transaction=False) as pipe:
        for key in orphans:
            pipe.hset(key, mapping={"_v": "1", "_h": "0123456789abcdef"})
        pipe.execute()

    found = told(flat, "full", "auto")

    assert found["named"] == {("ORPHAN", "", key, "") for key in orphans}
    assert found["scope"]["records_redis"] == found["scope"]["rows_sql"] + len(orphans)


def test_sums_that_are_never_different_hide_an_orphan(
    flat: Project, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The sums alone stand between an orphan and a pass.
    """
    redis_server.client().hset("person:700000000", mapping={"_v": "1", "_h": "0123456789abcdef"})
    assert told(flat, "full", "auto")["counts"]["ORPHAN"] == 1
    monkeypatch.setattr(Seen, "differing", lambda *_: set())
    assert told(flat, "full", "auto")["verdict"] == "PASS"


def test_a_key_that_a_scan_gives_twice_is_not_wrong(
    flat: Project, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Its bucket is looked at closely, and found to be right.
    """
    before = told(flat, "full", "auto")
    scan = RecordReader.scan

    def twice(self: RecordReader, prefix: bytes) -> Iterator[list[bytes]]:
        for at, page in enumerate(scan(self, prefix)):
            yield page
            if not at:
                yield page[:50]

    monkeypatch.setattr(RecordReader, "scan", twice)

    assert told(flat, "full", "auto")["verdict"] == before["verdict"] == "PASS"


# --- faults ---------------------------------------------------------------------------------------


@pytest.fixture
def slow(tmp_path: Path, sqlite: SqliteDatabase, redis_fresh: Any) -> tuple[Project, RedisServer]:
    """
    Profiles in a Redis of the test's own, one of them missing and one too many.
    """
    server = redis_fresh()
    profiles.create_sqlite(sqlite.path, ROWS)
    made = Project(tmp_path / "user", sqlite.url, server.url)
    made.mapping("people", HASH)
    assert made.run("backfill", "people").exit == 0
    client = server.client()
    client.delete(sorted(client.scan_iter("person:*"))[100])
    client.hset("person:700000000", mapping={"_v": "1", "_h": "0123456789abcdef"})
    made.configure(extra="throttle: {rows_per_second: 500}")
    return made, server


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_an_interrupted_run_proves_the_way_back_all_the_same(
    slow: tuple[Project, RedisServer], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """
    What the pages before have met is added to what the others meet: little is left to look at.
    """
    user, _ = slow
    interrupted(user, lambda process: getattr(process, how)())
    assert verified_rows(user) < ROWS
    looked: list[int] = []
    records = Back._records

    def read(self: Back, keys: Sequence[bytes]) -> Any:
        looked.append(len(keys))
        return records(self, keys)

    monkeypatch.setattr(Back, "_records", read)

    found = told(user, "full", "auto")

    assert {one[:2] for one in found["named"]} == {("MISSING", ""), ("ORPHAN", "")}
    assert found["scope"]["compared"] == found["scope"]["rows_sql"]
    assert sum(looked) < 20


def test_connections_that_are_cut_change_nothing(slow: tuple[Project, RedisServer]) -> None:
    """
    A batch whose answers were lost is asked about again, and answers are never mixed up.
    """
    user, server = slow
    expected = told(user, "full", "off")
    over = threading.Event()

    def cut() -> None:
        client = server.client()
        while not over.wait(0.02):
            with suppress(redis.RedisError):
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        found = told(user, "full", "auto")
    finally:
        over.set()
        cutter.join()

    assert found == expected
