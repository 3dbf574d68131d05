"""
Keys and values that nobody of ours wrote, under the names of records: each gets a verdict.

Nothing of it ends a verification with an error, and nothing large is pulled into memory.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pytest
import redis

from migrate.target.reader import RecordReader
from tests.planted import DEEP, FULL
from tests.project import Project
from tests.servers import Database, RedisServer, SqliteDatabase
from tests.test_planted import named
from tests.test_verify_faults import REPAIR, filled

pytestmark = pytest.mark.slow

FAKE = {"_v": "1", "_h": "0123456789abcdef", "name": "x"}

# --- record keys that no row can have ------------------------------------------------------------

ONE = """
version: 1
name: people
source: {table: people, key: [id]}
target: {key: "person:{id}"}
fields: {name: {}}
"""
TWO = ONE.replace("key: [id]", "key: [id, n]").replace("{id}", "{id}:{n}")


@dataclass(frozen=True, slots=True)
class Type:
    """
    A type of key columns.

    Args:
        rows: Two keys as records name them.

        orphans: Keys that no row has; most of them are texts that no server takes as this type.

        names: What the servers call it, where that is another name.
    """

    rows: tuple[str, str]
    orphans: tuple[str, ...]
    names: tuple[tuple[str, str], ...] = ()


UUID = "00000000-0000-4000-8000-00000000000"

TYPES = {
    "integer": Type(
        ("1", "2"), ("99999999999", "9" * 40, "9" * 490, "-5", "abc", "1.5", "", "007")
    ),
    "bigint": Type(
        ("1", "2"), ("9223372036854775808", "-9223372036854775809", "18446744073709551616")
    ),
    "text": Type(
        ("a", "\u00e9\u4e2d"),
        (
            *("a%00b", "x" * 500, "y" * 65_536, "%ED%A0%80", "%FF", "\U0001f600", "A", "a%20"),
            *("'", '"', "null", ""),
        ),
        (("", "varchar(80)"),),
    ),
    "uuid": Type(
        (f"{UUID}1", f"{UUID}2"),
        (f"{UUID}9", UUID, f"{UUID}g", f"{UUID}A", "not-a-uuid", f"%7B{UUID}1%7D", "%00"),
        (("sqlite", "varchar(36)"),),
    ),
    "date": Type(
        ("2024-02-29", "2000-01-01"),
        (
            *("2023-02-29", "infinity", "-infinity", "2024-13-01", "0000-00-00", "today"),
            *("2024-2-3", "12024-01-01", "0044-03-15%20BC"),
        ),
    ),
    "time": Type(
        ("01%3A02%3A03", "23%3A59%3A59"),
        ("25%3A00%3A00", "99%3A99%3A99", "24%3A00%3A00.5", "23%3A59%3A60", "allballs"),
    ),
    "timestamp": Type(
        ("2024-02-29T01%3A02%3A03", "2000-01-01T00%3A00%3A00"),
        (
            *("2024-01-01T25%3A00%3A00", "2024-01-01T23%3A59%3A60", "2024-01-01T23%3A61%3A00"),
            *("2024-01-01T24%3A00%3A00", "now", "infinity", "-infinity"),
        ),
        (("mariadb", "datetime"),),
    ),
    "zoned": Type(
        ("2024-02-29T01%3A02%3A03Z", "2000-01-01T00%3A00%3A00Z"),
        ("2024-01-01T25%3A00%3A00Z", "2024-01-01T23%3A59%3A60Z", "infinity", "epoch"),
        (("", "timestamp with time zone"), ("mariadb", "timestamp")),
    ),
    "numeric": Type(
        ("1.50", "-2.00"),
        ("9" * 400, "NaN", "Infinity", "-Infinity", "1e5", "x", "1.5", "99999999999999.99", "3.00"),
        (("", "numeric(10,2)"),),
    ),
    "enum": Type(
        ("red", "blue"),
        ("green", "", "re%00d", "RED", "red%20", "x" * 100, "1"),
        (("postgresql", "colour"), ("mariadb", "enum('red','blue')"), ("sqlite", "text")),
    ),
}


def keyed(database: Database, name: str, *, wide: bool) -> list[str]:
    """
    A table whose key, or half of whose key, is of this type; the keys of its records.
    """
    kind = TYPES[name]
    names = dict(kind.names)
    type_name = names.get(database.dialect) or names.get("", name)
    if type_name == "colour":
        database.execute("CREATE TYPE colour AS ENUM ('red', 'blue')")
    exact = " COLLATE utf8mb4_bin" if database.dialect == "mariadb" else ""
    database.execute(
        f"CREATE TABLE people (id {type_name} NOT NULL, n INTEGER NOT NULL, name VARCHAR(9), "
        f"PRIMARY KEY (id{', n' if wide else ''})){exact}"
    )
    for text in kind.rows:
        value = unquote(text)
        if name in ("timestamp", "zoned"):
            value = value.replace("T", " ").replace("Z", "" if exact else "+00:00")
        database.execute(f"INSERT INTO people VALUES ('{value}', 7, 'x')")
    return [f"person:{text}{':7' if wide else ''}" for text in kind.rows]


@pytest.mark.parametrize("wide", [False, True], ids=["one", "two"])
@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("server", ["sqlite", "postgres", "mariadb"])
def test_a_key_that_no_row_can_have_is_an_orphan(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    redis_server: RedisServer,
    server: str,
    name: str,
    wide: bool,
) -> None:
    """
    Whatever its text is, and whether the server would take it: told as such, and buried.
    """
    if (server, name) == ("sqlite", "numeric"):
        pytest.skip("SQLite keeps no digits behind the point: such rows are rejects")
    database: Database = request.getfixturevalue(server)
    rows = keyed(database, name, wide=wide)
    project = Project(tmp_path / "user", database.url, redis_server.url)
    project.mapping("people", TWO if wide else ONE)
    assert project.run("backfill", "people").exit == 0
    client = redis_server.client()
    assert {key.decode() for key in client.scan_iter("person:*")} == set(rows)
    tails = (":7", ":99999999999999", ":x") if wide else ("",)
    orphans = {f"person:{text}{tail}" for text in TYPES[name].orphans for tail in tails}
    for key in orphans:
        client.hset(key, mapping=FAKE)

    ran = project.run("verify", "people", "--level", DEEP, "--json")

    assert ran.exit == 3, ran.err
    assert named(project) == {("ORPHAN", "", key, "") for key in orphans}
    assert ran.json["counts"] == {"OK": 2, "ORPHAN": len(orphans)}
    assert project.run(*REPAIR).exit == 0
    assert {key for key in orphans if not client.hexists(key, "_t")} == set()
    assert project.run("verify", "people").exit == 0


@pytest.mark.parametrize("server", ["sqlite", "postgres", "mariadb"])
def test_a_row_that_came_for_an_orphan_keeps_its_record(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer, server: str
) -> None:
    """
    Its key is spelled as this server takes it, so that the repair finds the row and writes it.
    """
    database: Database = request.getfixturevalue(server)
    keyed(database, "zoned", wide=False)
    project = Project(tmp_path / "user", database.url, redis_server.url)
    project.mapping("people", ONE)
    assert project.run("backfill", "people").exit == 0
    key = "person:2001-02-03T04%3A05%3A06Z"
    client = redis_server.client()
    client.hset(key, mapping=FAKE)
    assert project.run("verify", "people").exit == 3
    zone = "" if server == "mariadb" else "+00:00"
    database.execute(f"INSERT INTO people VALUES ('2001-02-03 04:05:06{zone}', 7, 'new')")

    assert project.run(*REPAIR).exit == 0

    assert client.hget(key, "name") == b"new"
    assert project.run("verify", "people", "--level", DEEP).exit == 0


@pytest.mark.parametrize("server", ["sqlite", "mariadb"])
def test_a_text_with_a_zero_byte_is_a_key_where_the_server_takes_it(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer, server: str
) -> None:
    """
    A row whose key holds one has its record, which is no orphan.
    """
    database: Database = request.getfixturevalue(server)
    keyed(database, "text", wide=False)
    letter = "char(0)" if server == "sqlite" else "char(0 using utf8mb4)"
    joined = f"'a' || {letter}" if server == "sqlite" else f"concat('a', {letter})"
    database.execute(f"INSERT INTO people VALUES ({joined}, 7, 'x')")
    project = Project(tmp_path / "user", database.url, redis_server.url)
    project.mapping("people", ONE)
    assert project.run("backfill", "people").exit == 0
    assert redis_server.client().exists("person:a%00")

    ran = project.run("verify", "people", "--level", DEEP, "--json")

    assert (ran.exit, ran.json["counts"]) == (0, {"OK": 3}), ran.shown


# --- values --------------------------------------------------------------------------------------

MIB = 1024 * 1024


def _many_fields(client: redis.Redis, key: str) -> None:
    client.execute_command(
        "EVAL",
        "for i = 1, 100000 do redis.call('HSET', KEYS[1], i, i) end "
        "redis.call('HSET', KEYS[1], '_v', '1', '_h', '0123456789abcdef')",
        1,
        key,
    )


def _marked(**fields: str | bytes) -> Callable[[redis.Redis, str], object]:
    return lambda client, key: client.hset(key, mapping={**FAKE, **fields})


VALUES: dict[str, tuple[Callable[[redis.Redis, str], object], str]] = {
    # What is written in the place of a record, and whether its row is DIFFERENT or COLLISION.
    "a hash of 100,000 fields": (_many_fields, "DIFFERENT"),
    "a string of 64 MB": (lambda client, key: client.setrange(key, 64 * MIB, "x"), "DIFFERENT"),
    "a list": (lambda client, key: client.rpush(key, *range(10_000)), "DIFFERENT"),
    "a set": (lambda client, key: client.sadd(key, "person:1"), "DIFFERENT"),
    "a sorted set": (lambda client, key: client.zadd(key, {"person:1": 1}), "DIFFERENT"),
    "a stream": (lambda client, key: client.xadd(key, FAKE), "DIFFERENT"),
    "a HyperLogLog": (lambda client, key: client.pfadd(key, "x"), "DIFFERENT"),
    "a version of 1 MB": (_marked(_v="1" * MIB), "COLLISION"),
    "a negative version": (_marked(_v="-1"), "COLLISION"),
    "a version with a zero": (_marked(_v="01"), "COLLISION"),
    "a version that is no text": (_marked(_v=b"\xff\x00"), "COLLISION"),
    "a short digest": (_marked(_h="0123"), "COLLISION"),
    "a long digest": (_marked(_h="0" * 17), "COLLISION"),
    "a digest that is no text": (_marked(_h=b"\xff" * 16), "COLLISION"),
    "a list of entries that is none": (_marked(_l=b"\xff\x00u999999:x"), "DIFFERENT"),
    "a list too long to be read": (_marked(_l="u1:x" * 300_000), "DIFFERENT"),
    "a list of 2,000 entries": (_marked(_l="u1:x" * 2_000), "DIFFERENT"),
    "an instant that is none": (_marked(_e="soon"), "DIFFERENT"),
    "an instant of 1,000 digits": (_marked(_e="9" * 1_000), "DIFFERENT"),
    "a field name of 1 MB": (_marked(**{"f" * MIB: "x"}), "DIFFERENT"),
    "a field name that is no text": (
        lambda client, key: client.hset(key, mapping={**FAKE, b"\xff\x00": b"\xfe"}),
        "DIFFERENT",
    ),
    "a value of 32 MB": (_marked(name="x" * 32 * MIB), "DIFFERENT"),
    "a tombstone with a digest": (_marked(_t="1"), "MISSING"),
}


@pytest.fixture
def project(tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer) -> Project:
    """
    Some people with orders and lookups, all of them in Redis.
    """
    return filled(tmp_path, sqlite, redis_server, 100)


@pytest.mark.parametrize("level", [FULL, DEEP])
def test_whatever_is_in_the_place_of_a_record_gets_a_verdict(
    project: Project, redis_server: RedisServer, level: str
) -> None:
    """
    Beside a row and without one; memory stays small, and a repair makes all of it right.
    """
    client = redis_server.client()
    wanted, lonely = {}, {}
    for at, (plant, verdict) in enumerate(VALUES.values()):
        key = f"person:{at + 1}"
        client.delete(key)
        plant(client, key)
        wanted[key] = verdict
        # No row has these: what carries our marks is an orphan, anything else is of others.
        plant(client, f"person:{at + 901}")
        lonely[f"person:{at + 901}"] = verdict == "DIFFERENT" and client.type(key) == b"hash"
    client.set("person-email:x@example.org", b"\xff" * MIB)
    client.sadd("people-city:Nowhere", b"\xff\x00", "person:1", "person:901", "x" * MIB)
    client.rpush("people-city:Wrong", "person:1")
    tracemalloc.start()

    ran = project.run("verify", "people", "--level", level, "--json")

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert ran.exit == 3, ran.err
    found: dict[str, set[str]] = {}
    for verdict, _, key, _ in named(project):
        found.setdefault(key, set()).add(verdict)
    told = {key: found.get(key) for key in wanted}
    assert told == {key: {verdict} for key, verdict in wanted.items()}
    alone = {key: verdicts for key, verdicts in found.items() if key in lonely}
    assert alone == {key: {"ORPHAN"} for key in lonely if lonely[key]}
    assert peak < 48 * MIB
    mended = project.run(*REPAIR, "--json")
    assert (mended.exit, mended.json["left"]) == (0, {}), mended.shown
    last = project.run("verify", "people", "--level", level)
    assert (last.exit, named(project)) == (0, set()), last.shown


def test_records_that_go_while_they_are_read_do_no_harm(
    project: Project, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A time to live of a millisecond, set between any two looks: MISSING or right, never an error.
    """
    client = redis_server.client()
    read = RecordReader.read
    looks = 0

    def reads(self: RecordReader, keys: list[bytes], *, whole: bool) -> object:
        nonlocal looks
        looks += 1
        client.pexpire(f"person:{looks}", 1)
        client.hset(f"person:{900 + looks}", mapping=FAKE)
        client.pexpire(f"person:{900 + looks}", 1)
        return read(self, keys, whole=whole)

    monkeypatch.setattr(RecordReader, "read", reads)
    for level in (FULL, DEEP):
        ran = project.run("verify", "people", "--level", level, "--json")
        assert ran.exit in (3, 5), ran.err
        assert ran.json["scope"]["compared"] == 100
    monkeypatch.undo()

    ran = project.run("verify", "people", "--json")

    assert ran.exit == 3
    missing = {key for verdict, _, key, _ in named(project) if verdict == "MISSING"}
    assert missing == {f"person:{n}" for n in range(1, min(looks, 100) + 1)}
