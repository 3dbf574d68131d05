"""
Plan: what a backfill would do is told before it does it, near enough to decide by, without a value.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from migrate.stages import plan as stage
from migrate.stages.plan import Memory, Verdict
from tests import profiles
from tests.project import Project, Ran
from tests.servers import PostgresDatabase, RedisServer, SqliteDatabase

CANARY = "PII-CANARY-7f3a"
PASSWORD = "pw-canary-51c2"
MEGABYTE = 1 << 20

PEOPLE = """\
version: 1
name: people
source: {table: people, key: [id]}
target: {key: "person:{id}", type: hash}
"""

Fresh = Callable[..., RedisServer]


@pytest.fixture
def people(tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer) -> Project:
    """
    Three people on SQLite, one of them with bytes, and an empty Redis.
    """
    sqlite.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, born DATE, face BLOB)")
    sqlite.execute(
        "INSERT INTO people VALUES (?, ?, ?, ?)",
        (1, CANARY, "1815-12-10", CANARY.encode()),
        (2, "", None, None),
        (3, None, "1906-12-09", None),
    )
    made = Project(tmp_path / "user", f"sqlite:///{sqlite.path}", redis_server.url)
    made.mapping("people", PEOPLE)
    return made


@pytest.fixture
def sample(tmp_path: Path, redis_server: RedisServer) -> Project:
    """
    Two thousand sample profiles on SQLite, the shipped mapping, and an empty Redis.
    """
    profiles.create_sqlite(tmp_path / "app.db", 2_000)
    made = Project(tmp_path / "sample", f"sqlite:///{tmp_path}/app.db", redis_server.url)
    made.shipped()
    return made


def planned(ran: Ran) -> dict[str, object]:
    """
    The plan of the only mapping.
    """
    [found] = ran.json["mappings"]
    return dict(found)


def used_memory(server: RedisServer) -> int:
    """
    Bytes that a server says it uses.
    """
    return int(server.client().info("memory")["used_memory"])


# --- what it tells ------------------------------------------------------------------------------


def test_a_plan_of_a_small_table(people: Project, redis_server: RedisServer) -> None:
    """
    Rows, records, outcomes and commands are told, the exit code is 0, a dry run comes next.
    """
    redis_server.set(maxmemory="100mb")

    ran = people.run("plan", "people")
    told = people.run("plan", "people", "--json")

    found = planned(told)
    assert (ran.exit, told.exit) == (0, 0)
    assert ran.err == "next: profile-migrate backfill people --dry-run\n"
    assert (found["rows"], found["rows_exact"], found["records"]) == (3, True, 3)
    assert (found["begins"], found["new_records"], found["partitions"]) == ("first", 3, 1)
    assert told.json["memory"]["verdict"] == "fits"
    assert "3 (counted), about 1 partition\n" in ran.out
    assert "A first run" in ran.out
    assert "3 written" in ran.out


def test_planning_leaves_nothing_behind(
    people: Project, sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    No ledger, no key, no fence, no change of the source: a plan may be made at any time.
    """
    before = (sqlite.path.read_bytes(), dict(people.files()))

    people.run("plan", "people")

    assert (sqlite.path.read_bytes(), dict(people.files())) == before
    assert redis_server.client().dbsize() == 0


def test_the_estimate_of_memory_is_near(sample: Project, redis_server: RedisServer) -> None:
    """
    What the plan says a backfill adds is within 15 % of what it adds.
    """
    redis_server.set(maxmemory="100mb")
    ran = sample.run("plan", "user_profiles", "--json")
    estimated = ran.json["memory"]["added_bytes"]
    before = used_memory(redis_server)

    moved = sample.run("backfill", "user_profiles", "--json")

    actual = used_memory(redis_server) - before
    found = planned(ran)
    assert moved.exit == 0
    assert found["records"] == moved.json["written"]
    assert estimated == found["added_bytes"]
    assert abs(estimated - actual) < 0.15 * actual
    assert found["record_bytes"] > 500
    assert 0 < found["record_bytes_margin"] < 0.3


def test_the_time_follows_workers_and_the_rate(sample: Project) -> None:
    """
    More workers take less time, and a limit of rows a second takes at least as long as it says.
    """
    alone = planned(sample.run("plan", "--json"))
    sample.configure(extra="throttle: {rows_per_second: 100}")

    limited = planned(sample.run("plan", "--workers", "4", "--json"))

    assert set(alone["seconds_a_row"]) == {"read", "encode", "write"}
    assert 0 < alone["seconds"] < 20
    assert (limited["workers"], limited["partitions"]) == (4, 16)
    assert limited["seconds"] == pytest.approx(limited["rows"] / 100)


def test_rejects_of_the_sample_are_told_by_reason(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """
    Rows that cannot become a record are counted by their reason before anything is moved.
    """
    profiles.create_sqlite(tmp_path / "app.db", 200, with_rejects=True)
    project = Project(tmp_path / "user", f"sqlite:///{tmp_path}/app.db", redis_server.url)
    project.shipped()

    found = planned(project.run("plan", "--json"))

    rejects = found["sample"]["rejects"]
    assert rejects == {"bad-date": 1, "invalid-utf8": 1, "wrong-type": 1}
    assert found["records"] == found["rows"] - 3


def test_collisions_of_the_sample_are_named(people: Project, redis_server: RedisServer) -> None:
    """
    A key that something else holds is named with its type; a foreign hash is a collision too.
    """
    client = redis_server.client()
    client.set("person:1", "somebody else's")
    client.hset("person:2", "name", "somebody else's")

    ran, text = people.run("plan", "--json"), people.run("plan")

    found = planned(ran)["sample"]
    assert (found["collision"], found["written"]) == (2, 1)
    assert {one["key"]: one["type"] for one in found["collisions"]} == {
        "person:1": "string",
        "person:2": "hash",
    }
    assert "person:1 is there as string and not ours" in text.out
    assert "somebody else" not in ran.out + text.out


def test_an_empty_table_costs_nothing(people: Project, sqlite: SqliteDatabase) -> None:
    """
    A plan of no rows is a plan: no records, no bytes, no time.
    """
    sqlite.execute("DELETE FROM people")

    ran = people.run("plan", "--json")

    found = planned(ran)
    assert ran.exit == 0
    assert (found["rows"], found["records"], found["added_bytes"]) == (0, 0, 0)
    assert found["seconds"] == 0
    assert people.run("plan").exit == 0


def test_mappings_are_planned_together(
    people: Project, sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    Without a name every mapping is planned, and memory is the sum of them all.
    """
    redis_server.set(maxmemory="100mb")
    sqlite.execute("CREATE TABLE pets (id INTEGER PRIMARY KEY); INSERT INTO pets VALUES (1), (2)")
    people.mapping("pets", PEOPLE.replace("people", "pets").replace("person", "pet"))

    ran = people.run("plan", "--json")

    plans = ran.json["mappings"]
    assert [one["mapping"] for one in plans] == ["people", "pets"]
    assert ran.json["memory"]["added_bytes"] == sum(one["added_bytes"] for one in plans) > 0


def test_large_tables_are_estimated(
    people: Project, postgres: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A table that the server guesses to be large is not counted, and the plan says so.
    """
    profiles.create_postgres(postgres.execute, 500, table="people")
    people.configure(source_url=postgres.url)
    monkeypatch.setattr(stage, "COUNTED_ROWS", 400)
    guessed = people.run("plan")
    monkeypatch.setattr(stage, "COUNTED_ROWS", 600)

    counted = people.run("plan")

    assert "500 (the server's estimate)" in guessed.out
    assert "500 (counted)" in counted.out


# --- what is there already ----------------------------------------------------------------------


def test_after_a_backfill_all_is_the_same(people: Project, sqlite: SqliteDatabase) -> None:
    """
    A second run would replace what changed and nothing else, and needs no more memory.
    """
    assert people.run("backfill", "people").exit == 0
    sqlite.execute("UPDATE people SET name = 'Grace' WHERE id = 3")

    found = planned(people.run("plan", "--json"))

    assert (found["begins"], found["new_records"], found["added_bytes"]) == ("continue", 0, 0)
    assert (found["sample"]["same"], found["sample"]["replaced"]) == (2, 1)


def test_an_unfinished_run_goes_on(sample: Project) -> None:
    """
    What a run has done already is told, and the time is that of the rest.
    """
    whole = planned(sample.run("plan", "--json"))
    assert sample.run("backfill", "user_profiles", "--limit", "500").exit == 0

    ran = sample.run("plan")
    found = planned(sample.run("plan", "--json"))

    assert (found["begins"], found["rows_done"]) == ("continue", 500)
    assert "500 rows are done" in ran.out
    assert 0 < found["new_records"] < whole["new_records"]


def test_a_target_that_lost_its_data_is_written_again(
    people: Project, redis_server: RedisServer
) -> None:
    """
    The same server, empty, means that everything is done again; the plan says it first.
    """
    assert people.run("backfill", "people").exit == 0
    redis_server.client().flushall()

    found = planned(people.run("plan", "--json"))

    assert (found["begins"], found["new_records"]) == ("redo", 3)


# --- what would be refused ----------------------------------------------------------------------


def test_a_changed_mapping_is_refused(people: Project) -> None:
    """
    Where a backfill would refuse to begin, the plan ends with 4, says why, and how to go on.
    """
    assert people.run("backfill", "people").exit == 0
    people.mapping("people", f"{PEOPLE}fields: {{name: {{}}}}\n")

    ran, told = people.run("plan"), people.run("plan", "--json")

    assert (ran.exit, told.exit) == (4, 4)
    assert planned(told)["begins"] is None
    assert "profile-migrate backfill people --start-over" in planned(told)["begins_fix"]
    assert "begins      REFUSED: " in ran.out
    assert ran.err == "next: profile-migrate doctor\n"


def test_records_of_another_migration_are_refused(people: Project, tmp_path: Path) -> None:
    """
    A target that holds the records of another ledger is not taken over by accident.
    """
    assert people.run("backfill", "people").exit == 0
    other = Project(tmp_path / "other", people.source_url, people.redis_url)
    other.mapping("people", PEOPLE)

    ran = other.run("plan", "--json")

    assert ran.exit == 4
    assert "--start-over" in planned(ran)["begins_fix"]


def test_an_evicting_server_is_refused(people: Project, redis_server: RedisServer) -> None:
    """
    A server that may drop records is refused by the plan as by the backfill.
    """
    redis_server.set(maxmemory="50mb", maxmemory_policy="allkeys-random")

    ran = people.run("plan", "--json")

    assert (ran.exit, ran.json["exit_code"]) == (4, 4)
    assert "allkeys-random" in planned(ran)["begins_what"]
    assert people.run("backfill", "people").exit == 4


def test_rows_without_a_key_are_refused(people: Project, sqlite: SqliteDatabase) -> None:
    """
    Rows that no page reaches would be left out silently: the plan counts them.
    """
    sqlite.execute("DROP TABLE people; CREATE TABLE people (id TEXT PRIMARY KEY, name TEXT)")
    sqlite.execute("INSERT INTO people VALUES (NULL, 'a'), ('x', 'b')")

    ran = people.run("plan", "--json")

    assert ran.exit == 4
    assert planned(ran)["begins_what"].startswith("1 rows ")


def test_records_that_do_not_fit_are_refused(sample: Project, redis_server: RedisServer) -> None:
    """
    Where maxmemory is smaller than what is there and what would come, the plan ends with 4.
    """
    redis_server.set(maxmemory=str(used_memory(redis_server) + MEGABYTE))

    ran, told = sample.run("plan"), sample.run("plan", "--json")

    assert (ran.exit, told.exit) == (4, 4)
    assert "DOES NOT FIT" in ran.out
    assert told.json["memory"]["share_after"] > 1
    assert planned(told)["begins"] == "first"


def test_a_full_server_is_not_written_to(people: Project, redis_server: RedisServer) -> None:
    """
    A server without any room is told so at once; nothing is weighed on it.
    """
    redis_server.set(maxmemory="500kb")

    ran = people.run("plan", "--json")

    found = planned(ran)
    assert ran.exit == 4
    assert (found["not_measured"], found["added_bytes"]) == ("the server is full", None)
    assert ran.json["memory"]["verdict"] == "does not fit"


@pytest.mark.parametrize(
    ("used", "added", "maxmemory", "verdict"),
    [
        (10, 64, 100, Verdict.FITS),
        (10, 66, 100, Verdict.LITTLE_HEADROOM),
        (10, 71, 100, Verdict.OVER_THROTTLE),
        (10, 91, 100, Verdict.DOES_NOT_FIT),
        (100, None, 100, Verdict.DOES_NOT_FIT),
        (10, None, 100, Verdict.UNKNOWN),
        (10, 91, 0, Verdict.NO_LIMIT),
        (None, 91, None, Verdict.UNKNOWN),
        (None, 91, 100, Verdict.UNKNOWN),
    ],
)
def test_the_verdict_follows_the_share(
    used: int | None, added: int | None, maxmemory: int | None, verdict: Verdict
) -> None:
    """
    A quarter of maxmemory stays free, the throttle's limit is kept, what is hidden is not known.
    """
    assert Memory(used, maxmemory, added, limit=0.8).verdict is verdict


# --- stores that say no -------------------------------------------------------------------------


def test_a_missing_column_is_told_by_line(people: Project) -> None:
    """
    A mapping that does not fit ends with 2, every problem at its place.
    """
    people.mapping("people", f"{PEOPLE}fields:\n  nmae: {{}}\n  height: {{}}\n")

    ran = people.run("plan")

    assert (ran.exit, ran.error, ran.out) == (2, "schema-mismatch", "")
    assert "people.yaml:6:" in ran.err
    assert "people.yaml:7:" in ran.err
    assert "Did you mean 'name'?" in ran.err


def test_a_wrong_password_is_told_without_it(people: Project, redis_fresh: Fresh) -> None:
    """
    A login that Redis refuses ends with 2; the password is in nothing that is printed.
    """
    server = redis_fresh(requirepass="the-right-one-9d")
    people.configure(redis_url=f"redis://:{PASSWORD}@{server.host}:{server.port}/0")

    ran = people.run("plan", "-vv")

    assert (ran.exit, ran.error) == (2, "target-access")
    assert PASSWORD not in ran.out + ran.err


def test_a_target_that_is_away_is_waited_for(people: Project, redis_fresh: Fresh) -> None:
    """
    A store that does not answer ends with 6, after the wait was announced.
    """
    server = redis_fresh()
    server.kill()
    people.configure(redis_url=server.url, retry_for="300ms")

    ran = people.run("plan")

    assert (ran.exit, ran.error) == (6, "target-unavailable")
    assert "Waiting for the target: connection." in ran.err


def test_memory_that_may_not_be_asked_for_is_not_measured(
    people: Project, redis_server: RedisServer
) -> None:
    """
    Without MEMORY USAGE the rest of the plan is made, and the bytes are said to be unknown.
    """
    client = redis_server.client()
    people.configure(
        redis_url=f"redis://mover:{PASSWORD}@{redis_server.host}:{redis_server.port}/0"
    )
    client.execute_command(
        "ACL", "SETUSER", "mover", "on", f">{PASSWORD}", "~*", "+@all", "-memory"
    )
    try:
        ran = people.run("plan", "--json")
    finally:
        client.execute_command("ACL", "DELUSER", "mover")

    found = planned(ran)
    assert ran.exit == 0, ran.err
    assert found["not_measured"] == "this user may not run MEMORY USAGE"
    assert (found["record_bytes"], found["added_bytes"]) == (None, None)
    assert found["seconds"] > 0
    assert redis_server.client().dbsize() == 0


# --- values -------------------------------------------------------------------------------------


def test_values_are_masked(people: Project) -> None:
    """
    Sample commands show key, fields, kinds and sizes; a planted personal value is nowhere.
    """
    ran = [people.run("plan"), people.run("plan", "--json"), people.run("-vv", "plan", "people")]

    shown = "".join(one.out + one.err for one in ran)
    expected = (
        "HSET person:1 _v 1 _h <digest> born <date 10 bytes> face <bytes 15 bytes> "
        "id <integer 1 bytes> name <text 15 bytes>"
    )
    assert [one.exit for one in ran] == [0, 0, 0]
    assert planned(ran[1])["sample"]["commands"][0] == expected
    assert expected in ran[0].out
    assert CANARY not in shown
    assert "1815" not in shown


def test_values_are_shown_when_asked_for(people: Project) -> None:
    """
    With --show-values texts are shown, bytes never.
    """
    ran = people.run("plan", "--show-values", "--json")

    command = planned(ran)["sample"]["commands"][0]
    assert command.endswith(f"born '1815-12-10' face <bytes 15 bytes> id '1' name '{CANARY}'")
    assert ran.out.count(CANARY) == 1


def test_a_long_or_hostile_value_stays_on_its_line(people: Project, sqlite: SqliteDatabase) -> None:
    """
    A value that is shown is cut, and cannot drive the terminal.
    """
    sqlite.execute("DELETE FROM people")
    sqlite.execute(
        "INSERT INTO people (id, name) VALUES (?, ?)", (7, "\x1b[2J\n\u202e" + "x" * 500)
    )

    ran = people.run("plan", "--show-values")

    line = next(line for line in ran.out.splitlines() if "HSET" in line)
    assert line.endswith("... <508 bytes>")
    assert "\x1b" not in ran.out
    assert "\u202e" not in ran.out
    assert "x" * 100 not in ran.out
