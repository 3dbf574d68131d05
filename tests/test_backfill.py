"""
The main job as a user runs it: rows of a real SQL store into a real Redis, and every way it begins.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from migrate.source.control import create_control
from tests import parity, profiles
from tests.project import Project, kill_all, until_exit
from tests.servers import Database, RedisServer, SqliteDatabase

ROWS = 1_500

PEOPLE = """
version: 1
name: people
source: {table: people, key: [id]}
target: {key: "person:{id}", type: hash}
"""


@pytest.fixture
def project(tmp_path: Path, redis_server: RedisServer) -> Project:
    """
    The sample profiles on SQLite, the shipped mapping, and an empty Redis.
    """
    profiles.create_sqlite(tmp_path / "app.db", ROWS)
    made = Project(tmp_path / "user", f"sqlite:///{tmp_path}/app.db", redis_server.url)
    made.shipped()
    return made


@pytest.fixture
def people(tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer) -> Project:
    """
    A small table of people on SQLite.
    """
    sqlite.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, age INTEGER)")
    sqlite.execute("INSERT INTO people VALUES (1, 'Ada', 36), (2, '', NULL), (3, NULL, 7)")
    made = Project(tmp_path / "user", f"sqlite:///{sqlite.path}", redis_server.url)
    made.mapping("people", PEOPLE)
    return made


def compare(project: Project, redis_server: RedisServer) -> list[parity.Difference]:
    """
    What is not as SQL has it, by rules that the tool does not share.
    """
    rows = parity.sqlite_rows(Path(project.source_url.removeprefix("sqlite:///")), profiles.QUERY)
    return parity.compare_hashes(rows, redis_server.client(), profiles.key_of, profiles.TYPES)


def records(redis_server: RedisServer) -> dict[bytes, dict[bytes, bytes]]:
    """
    Every record with all its fields.
    """
    client = redis_server.client()
    return {
        key: client.hgetall(key)
        for key in client.scan_iter(count=1_000)
        if not key.startswith(b"profile-migrate:")
    }


@pytest.mark.parametrize("workers", ["1", "2"])
def test_every_row_is_there_field_by_field(
    project: Project, redis_server: RedisServer, workers: str
) -> None:
    """
    After a backfill each row that the filter takes is a record, and each record a row.
    """
    ran = project.run("backfill", "user_profiles", "--workers", workers, "--json")

    assert (ran.exit, ran.json["complete"]) == (0, True)
    assert ran.json["written"] == ran.json["rows"] == len(records(redis_server))
    assert compare(project, redis_server) == []


def test_postgresql_gives_the_same(
    tmp_path: Path, postgres: Database, redis_server: RedisServer
) -> None:
    """
    The same holds for PostgreSQL.
    """
    profiles.create_postgres(postgres.execute, ROWS)
    project = Project(tmp_path / "user", postgres.url, redis_server.url)
    project.shipped()

    ran = project.run("backfill", "user_profiles", "--json")

    rows = parity.postgres_rows(postgres.url, profiles.QUERY)
    client = redis_server.client()
    assert ran.exit == 0
    assert ran.json["written"] == len(records(redis_server)) > 0
    assert parity.compare_hashes(rows, client, profiles.key_of, profiles.TYPES) == []


def test_a_record_carries_version_and_digest(people: Project, redis_server: RedisServer) -> None:
    """
    Without capture the version is the mapping's revision; NULL is an absent field, '' an empty one.
    """
    people.run("backfill", "people")

    found = records(redis_server)
    plain = {key: {k: v for k, v in f.items() if k != b"_h"} for key, f in found.items()}
    assert plain == {
        b"person:1": {b"_v": b"1", b"id": b"1", b"name": b"Ada", b"age": b"36"},
        b"person:2": {b"_v": b"1", b"id": b"2", b"name": b""},
        b"person:3": {b"_v": b"1", b"id": b"3", b"age": b"7"},
    }
    assert all(len(fields[b"_h"]) == 16 for fields in found.values())


def test_a_second_run_brings_redis_up_to_date(
    people: Project, redis_server: RedisServer, sqlite: SqliteDatabase
) -> None:
    """
    Rows that changed are replaced, the others are the same; a column that became NULL is gone.
    """
    people.run("backfill", "people")
    sqlite.execute("UPDATE people SET name = NULL, age = 37 WHERE id = 1")
    sqlite.execute("INSERT INTO people VALUES (4, 'new', 1)")

    ran = people.run("backfill", "people", "--json")

    counts = {name: ran.json[name] for name in ("written", "replaced", "same")}
    assert counts == {"written": 1, "replaced": 1, "same": 2}
    assert b"name" not in records(redis_server)[b"person:1"]


def test_a_dry_run_writes_nothing(people: Project, redis_server: RedisServer) -> None:
    """
    It says what would be written, and leaves neither a key nor a ledger behind.
    """
    ran = people.run("backfill", "people", "--dry-run", "--json")

    assert (ran.exit, ran.json["written"]) == (0, 3)
    assert redis_server.client().dbsize() == 0
    assert not (people.folder / ".profile-migrate").exists()


def test_a_limit_stops_and_the_same_command_goes_on(
    people: Project, redis_server: RedisServer
) -> None:
    """
    Two of three rows are copied, and the next run copies the third only.
    """
    first = people.run("backfill", "people", "--limit", "2", "--json")
    state = people.run("status", "people", "--json").json["mappings"][0]["state"]
    second = people.run("backfill", "people", "--json")

    assert (first.exit, first.json["complete"], first.json["rows"]) == (0, False, 2)
    assert state == "incomplete"
    assert (second.json["complete"], second.json["rows"], second.json["rows_total"]) == (True, 1, 3)


def test_rows_that_cannot_move_are_kept_with_their_reason(
    people: Project, redis_server: RedisServer, sqlite: SqliteDatabase
) -> None:
    """
    A bad value costs its own row only; mended, a replay moves it and the list is empty.
    """
    sqlite.execute("UPDATE people SET age = 'secret text' WHERE id = 2")

    ran = people.run("backfill", "people", "--json")
    listed = people.run("rejects", "list", "people", "--json")

    assert (ran.exit, ran.json["rejected"], ran.json["written"]) == (3, 1, 2)
    [reject] = listed.json["rejects"]
    assert (reject["key"], reject["column"], reject["reason"]) == ("2", "age", "wrong-type")
    assert "secret text" not in listed.out + listed.err + ran.out + ran.err

    exported = people.run("rejects", "export", "people", "--output", "r.jsonl", "--with-values")
    assert exported.exit == 0
    assert (people.folder / "r.jsonl").stat().st_mode & 0o077 == 0

    assert people.run("rejects", "replay", "people").exit == 3
    sqlite.execute("UPDATE people SET age = 8 WHERE id = 2")
    replayed = people.run("rejects", "replay", "people", "--json")
    assert (replayed.exit, replayed.json["moved"], replayed.json["open"]) == (0, 1, {})
    assert records(redis_server)[b"person:2"][b"age"] == b"8"
    assert people.run("rejects", "list", "people").exit == 0


@pytest.mark.parametrize("foreign", ["string", "hash", "list"])
def test_a_key_that_is_not_ours_is_never_touched(
    people: Project, redis_server: RedisServer, foreign: str
) -> None:
    """
    A collision is kept with its reason, and the foreign key keeps its bytes.
    """
    client = redis_server.client()
    {
        "string": lambda: client.set("person:2", "theirs"),
        "hash": lambda: client.hset("person:2", "name", "theirs"),
        "list": lambda: client.rpush("person:2", "theirs"),
    }[foreign]()
    before = client.dump("person:2")

    ran = people.run("backfill", "people", "--json")

    assert (ran.exit, ran.json["collision"], ran.json["written"]) == (3, 1, 2)
    assert ran.json["open_rejects"] == {"collision": 1}
    assert client.dump("person:2") == before


def test_a_changed_mapping_is_refused_with_the_way_out(
    people: Project, redis_server: RedisServer
) -> None:
    """
    Another shape is not mixed in; with --start-over every record gets it.
    """
    people.run("backfill", "people")
    people.mapping("people", PEOPLE + "fields: {name: {}, years: {column: age}}\n")

    refused = people.run("backfill", "people")
    again = people.run("backfill", "people", "--start-over", "--json")

    assert (refused.exit, refused.error) == (4, "mapping-changed")
    assert "--start-over" in refused.err
    assert (again.exit, again.json["replaced"]) == (0, 3)
    assert records(redis_server)[b"person:1"].keys() == {b"_v", b"_h", b"name", b"years"}


def test_a_dry_run_of_a_mapping_that_changed_tells_what_a_run_would_do(people: Project) -> None:
    """
    Before --start-over every record would be replaced, after it all are the same.
    """
    people.run("backfill", "people")
    people.mapping("people", PEOPLE + "fields: {name: {}, years: {column: age}}\n")

    before = people.run("backfill", "people", "--dry-run", "--json")
    people.run("backfill", "people", "--start-over")
    after = people.run("backfill", "people", "--dry-run", "--json")

    assert (before.exit, before.json["replaced"], before.json["same"]) == (0, 3, 0)
    assert (after.exit, after.json["replaced"], after.json["same"]) == (0, 0, 3)


def test_records_whose_ledger_and_fence_are_lost_are_taken_over(
    people: Project, redis_server: RedisServer
) -> None:
    """
    Records of a later revision than the first are not taken for newer than SQL has ever been.
    """
    people.run("backfill", "people")
    people.mapping("people", PEOPLE + "fields: {name: {}, years: {column: age}}\n")
    people.run("backfill", "people", "--start-over")
    (people.folder / ".profile-migrate").rename(people.folder / "lost")
    redis_server.client().delete("profile-migrate:fence:people")

    ran = people.run("backfill", "people", "--json")

    assert (ran.exit, ran.json["same"]) == (0, 3), ran.err
    assert records(redis_server)[b"person:1"][b"_v"] == b"2"


def test_a_comment_does_not_change_a_mapping(people: Project) -> None:
    """
    Only what changes the records counts.
    """
    people.run("backfill", "people")
    people.mapping("people", "# a remark\n" + PEOPLE.replace("[id]", "[ id ]"))

    assert people.run("backfill", "people").exit == 0


def test_another_server_is_refused_with_the_way_out(
    people: Project, redis_fresh: Callable[..., RedisServer]
) -> None:
    """
    A target that became another one between two runs gets nothing until it is asked for.
    """
    people.run("backfill", "people")
    other = redis_fresh()
    people.configure(redis_url=other.url)

    refused = people.run("backfill", "people")
    taken = people.run("backfill", "people", "--start-over", "--json")

    assert (refused.exit, refused.error) == (4, "target-changed")
    assert "--start-over" in refused.err
    assert (taken.exit, taken.json["written"]) == (0, 3)


def test_a_server_that_was_flushed_and_used_by_others_is_refused(
    people: Project, redis_server: RedisServer
) -> None:
    """
    The fence is gone but the server is not empty: it may be somebody else's by now.
    """
    people.run("backfill", "people")
    redis_server.client().flushall()
    redis_server.client().set("theirs", "1")

    assert people.run("backfill", "people").error == "target-changed"


def test_the_fence_of_another_ledger_is_respected(people: Project) -> None:
    """
    A lost ledger does not silently take over records that it knows nothing of.
    """
    people.run("backfill", "people")
    ledger = people.folder / ".profile-migrate"
    ledger.rename(people.folder / "elsewhere")

    refused = people.run("backfill", "people")
    taken = people.run("backfill", "people", "--start-over", "--json")

    assert (refused.exit, refused.error) == (4, "target-taken")
    assert (taken.exit, taken.json["same"]) == (0, 3)


@pytest.mark.slow
def test_the_second_of_two_backfills_is_told_who_holds_the_mapping(project: Project) -> None:
    """
    It ends with 7, names the process, and the first one goes on undisturbed.
    """
    project.configure(extra="throttle: {rows_per_second: 300}")
    with project.started("backfill", "user_profiles") as first:
        project.wait_for_rows(1)

        second = project.run("backfill", "user_profiles")

        assert (second.exit, second.error) == (7, "lock-held")
        assert f"process {first.pid} on" in second.err
        assert until_exit(first).exit == 0


def to_parent(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """
    As `kill` sends it.
    """
    process.send_signal(number)


def to_all(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """
    As a terminal sends SIGINT, and a service manager SIGTERM.
    """
    os.killpg(process.pid, number)


@pytest.mark.slow
@pytest.mark.parametrize("send", [to_parent, to_all])
def test_ctrl_c_ends_after_the_chunk_and_the_same_command_continues(
    project: Project,
    redis_server: RedisServer,
    send: Callable[[subprocess.Popen[str], signal.Signals], None],
) -> None:
    """
    Stopped by SIGINT the run exits 130 with its progress saved, by SIGTERM 143.
    """
    project.configure(extra="throttle: {rows_per_second: 300}")
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        done = project.rows_done()
        with project.started("backfill", "user_profiles", "--workers", "2") as process:
            project.wait_for_rows(done + 1)
            send(process, number)
            ended = until_exit(process)
        assert ended.exit == code
        assert "Run the same command to continue." in ended.err
    project.configure(extra="")

    last = project.run("backfill", "user_profiles", "--json")

    assert last.exit == 0
    assert last.json["rows"] < last.json["rows_total"]
    assert compare(project, redis_server) == []


def kill_parent(process: subprocess.Popen[str]) -> None:
    """
    The workers are left to notice it.
    """
    process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("kill", [kill_parent, kill_all])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_kill_9_at_any_moment_loses_nothing(
    project: Project,
    redis_server: RedisServer,
    workers: str,
    kill: Callable[[subprocess.Popen[str]], None],
) -> None:
    """
    Killed three times and run again, the records are those of a run that was never killed.
    """
    project.run("backfill", "user_profiles")
    whole = records(redis_server)
    redis_server.client().flushall()
    (project.folder / ".profile-migrate").rename(project.folder / "first")
    project.configure(extra="throttle: {rows_per_second: 400}")

    for _ in range(3):
        done = project.rows_done()
        with project.started("backfill", "user_profiles", "--workers", workers) as process:
            project.wait_for_rows(done + 1)
            kill(process)
            assert until_exit(process).exit == -signal.SIGKILL
    project.configure(extra="")
    last = project.run("backfill", "user_profiles", "--workers", workers, "--json")

    assert last.exit == 0
    assert records(redis_server) == whole


def test_metrics_of_a_run_are_left_in_a_file(people: Project) -> None:
    """
    The file holds what the summary says, in Prometheus' format.
    """
    people.run("backfill", "people", "--metrics-textfile", "m.prom")

    text = (people.folder / "m.prom").read_text()
    assert 'profile_migrate_rows_total{mapping="people",result="written"} 3' in text
    assert 'profile_migrate_run_exit_code{mapping="people"} 0' in text


def test_a_source_without_rows_is_complete(
    people: Project, sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    An empty table is copied as what it is.
    """
    sqlite.execute("DELETE FROM people")

    ran = people.run("backfill", "people", "--json")

    assert (ran.exit, ran.json["complete"], ran.json["rows"]) == (0, True, 0)
    assert records(redis_server) == {}


def test_a_null_key_is_refused_before_anything_is_written(
    tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    SQLite lets a text key be NULL; pages would never see such a row.
    """
    sqlite.execute("CREATE TABLE people (id TEXT PRIMARY KEY, name TEXT)")
    sqlite.execute("INSERT INTO people VALUES ('a', 'Ada'), (NULL, 'nobody')")
    project = Project(tmp_path / "user", f"sqlite:///{sqlite.path}", redis_server.url)
    project.mapping("people", PEOPLE)

    ran = project.run("backfill", "people")

    assert (ran.exit, ran.error) == (4, "checks-failed")
    assert "1 rows have a key that is NULL" in ran.err
    assert redis_server.client().dbsize() == 0


def test_versions_of_capture_are_in_the_records(
    tmp_path: Path, source: Database, redis_server: RedisServer
) -> None:
    """
    With capture tables a record's version is base, counter and visible marks of its row.
    """
    source.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, age INTEGER)")
    source.execute("INSERT INTO people VALUES (1, 'Ada', 36), (2, '', NULL)")
    engine = sa.create_engine(source.url.replace("postgresql:", "postgresql+psycopg:"))
    create_control(engine)
    engine.dispose()
    source.execute(
        "INSERT INTO migrate_ctl (mapping, generation, base, stage, ramp, epoch) "
        "VALUES ('people', 2, 2000000000000, 'backfill', 0, 1)"
    )
    source.execute("INSERT INTO migrate_ver (mapping, pk, n) VALUES ('people', '1', 5)")
    source.execute("INSERT INTO migrate_mark (mapping, pk) VALUES ('people', '1')")
    project = Project(tmp_path / "user", source.url, redis_server.url)
    project.mapping("people", PEOPLE)

    ran = project.run("backfill", "people")

    versions = {key: fields[b"_v"] for key, fields in records(redis_server).items()}
    assert ran.exit == 0, ran.err
    assert versions == {b"person:1": b"2000000000006", b"person:2": b"2000000000000"}


def test_newer_in_redis_than_sql_ever_was_is_for_a_person_to_look_at(
    people: Project, redis_server: RedisServer
) -> None:
    """
    A record with a version that SQL never gave out stops the run with 8 and keeps its bytes.
    """
    people.run("backfill", "people")
    client = redis_server.client()
    client.hset("person:2", "_v", "5000000000001")
    before = client.dump("person:2")

    ran = people.run("backfill", "people")

    assert (ran.exit, ran.error) == (8, "split-brain")
    assert client.dump("person:2") == before


def test_a_server_that_evicts_is_refused(people: Project, redis_server: RedisServer) -> None:
    """
    Under allkeys-lru an acknowledged record may vanish; the flag says that this is known.
    """
    redis_server.set(maxmemory_policy="allkeys-lru")

    refused = people.run("backfill", "people")
    accepted = people.run("backfill", "people", "--accept-eviction")

    assert (refused.exit, refused.error) == (4, "unsafe-target")
    assert accepted.exit == 0
