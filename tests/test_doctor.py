"""
Doctor: what is wrong is named with its fix, hides nothing else, and looking changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from migrate.model.settings import TLS, Node, RedisConfig
from migrate.stages.checks import Check, Result
from migrate.stages.doctor import clock_check
from migrate.stages.target_checks import tls_check, version_check
from tests import profiles
from tests.project import Project, Ran
from tests.servers import (
    Database,
    MariadbDatabase,
    PostgresDatabase,
    RedisServer,
    SqliteDatabase,
)
from tests.topologies import cluster

CANARY = "PII-CANARY-7f3a"
PASSWORD = "pw-canary-51c2"
FAST_S = 20.0
"""Far above what doctor takes, far below the patience of a run."""

PEOPLE = """\
version: 1
name: people
source: {table: people, key: [id]}
target: {key: "person:{id}", type: hash}
"""
FIELDS = f"{PEOPLE}fields:\n  id: {{}}\n  name: {{}}\n"

Fresh = Callable[..., RedisServer]


@pytest.fixture
def people(tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer) -> Project:
    """
    A small table of people on SQLite, a Redis that drops nothing, and a sound mapping.
    """
    sqlite.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, age INTEGER)")
    sqlite.execute(f"INSERT INTO people VALUES (1, '{CANARY}', 36), (2, '', NULL)")
    made = Project(tmp_path / "user", f"sqlite:///{sqlite.path}", redis_server.url)
    made.mapping("people", PEOPLE)
    return made


def checks(ran: Ran) -> dict[str, dict[str, str]]:
    """
    The last check of each id.
    """
    return {check["id"]: check for check in ran.json["checks"]}


def examine(project: Project, *words: str) -> dict[str, dict[str, str]]:
    """
    What doctor finds.
    """
    return checks(project.run("doctor", *words, "--json"))


# --- a sound project ----------------------------------------------------------------------------


def test_a_sound_project_passes(people: Project, redis_server: RedisServer) -> None:
    """
    With everything in place nothing fails, the exit code is 0, and plan comes next.
    """
    redis_server.set(maxmemory="100mb", appendonly="yes")

    ran, told = people.run("doctor"), people.run("doctor", "people", "--json")

    assert (ran.exit, told.exit) == (0, 0)
    assert ran.err == "next: profile-migrate plan\n"
    assert (told.json["failed"], told.json["warnings"]) == (0, 0)
    assert {check["result"] for check in told.json["checks"]} == {"ok", "skipped"}
    assert checks(told)["source.reach"]["fix"] is None


def test_looking_changes_nothing(
    people: Project, sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    No ledger is made, the source keeps every byte, and Redis stays empty.
    """
    before = (sqlite.path.read_bytes(), dict(people.files()))

    people.run("doctor")

    assert (sqlite.path.read_bytes(), dict(people.files())) == before
    assert not (people.folder / ".profile-migrate").exists()
    assert redis_server.client().dbsize() == 0


def test_the_shipped_mapping_fits_the_sample(tmp_path: Path, redis_server: RedisServer) -> None:
    """
    The mapping that the project ships raises no warning about the table that it is made for.
    """
    profiles.create_sqlite(tmp_path / "app.db", 20)
    project = Project(tmp_path / "user", f"sqlite:///{tmp_path}/app.db", redis_server.url)
    project.shipped()

    found = examine(project)

    of_mapping = {name: c["result"] for name, c in found.items() if name.startswith("mapping.")}
    assert set(of_mapping.values()) == {"ok"}
    assert len(of_mapping) == 14


# --- files --------------------------------------------------------------------------------------


def test_a_broken_configuration_is_told_by_line(people: Project) -> None:
    """
    A configuration that cannot be read fails with file, line and column, and nothing is asked.
    """
    people.configure(extra="throtle: {}")

    ran = people.run("doctor", "--json")

    found = checks(ran)
    assert ran.exit == 4
    assert found["config.file"]["what"].startswith("migrate.yaml:4:1: ")
    assert "throttle" in found["config.file"]["fix"]
    assert set(found) == {"config.file", "config.mappings"}


def test_a_broken_mapping_hides_no_server(people: Project) -> None:
    """
    Mappings that cannot be read fail by line; source, target and ledger are looked at all the same.
    """
    people.mapping("people", PEOPLE.replace("key:", "keys:", 1))

    found = examine(people)

    assert found["config.mappings"]["result"] == "failed"
    assert "people.yaml:3:" in found["config.mappings"]["what"]
    assert {found[name]["result"] for name in ("source.reach", "target.reach", "ledger.open")} == {
        "ok"
    }


def test_an_unknown_mapping_is_a_usage_error(people: Project) -> None:
    """
    Asking for a mapping that does not exist ends with 2 and the nearest name.
    """
    ran = people.run("doctor", "peple")

    assert (ran.exit, ran.error, ran.out) == (2, "unknown-mapping", "")
    assert "Did you mean 'people'?" in ran.err


# --- the source ---------------------------------------------------------------------------------


def test_a_source_that_is_away_hides_no_target(people: Project) -> None:
    """
    Where the source cannot be opened its checks fail or are skipped; Redis is checked whole.
    """
    people.configure(source_url="sqlite:////nowhere/app.db")

    ran = people.run("doctor", "--json")

    found = checks(ran)
    assert ran.exit == 4
    assert found["source.reach"]["result"] == "failed"
    assert "source" in found["source.reach"]["fix"]
    assert found["mapping.people.table"]["result"] == "skipped"
    assert found["target.commands"]["result"] == "ok"
    assert found["mapping.people.fence"]["result"] == "ok"


def test_a_missing_table_names_the_nearest(people: Project) -> None:
    """
    A mapping of a table that is not there fails at its line, with the name that was meant.
    """
    people.mapping("people", PEOPLE.replace("table: people", "table: peopel"))

    check = examine(people)["mapping.people.table"]

    assert check["result"] == "failed"
    assert "mappings/people.yaml:3:17: " in check["what"]
    assert check["fix"] == "Did you mean 'people'?"


def test_every_missing_column_is_a_check(people: Project) -> None:
    """
    Each column that the table does not have is a failed check of its own, at its line.
    """
    people.mapping("people", f"{FIELDS}  nmae: {{}}\n  height: {{}}\n  age: {{}}\n")

    ran = people.run("doctor", "--json")

    found = [c for c in ran.json["checks"] if c["id"] == "mapping.people.columns"]
    assert ran.exit == 4
    assert [check["result"] for check in found] == ["failed", "failed"]
    assert "people.yaml:8:" in found[0]["what"]
    assert found[0]["fix"] == "Did you mean 'name'?"
    assert "people.yaml:9:" in found[1]["what"]


def test_columns_that_nobody_speaks_of_are_named(people: Project, sqlite: SqliteDatabase) -> None:
    """
    A column that neither moves nor is dropped is a warning, and one that SQL asks for another.
    """
    sqlite.execute("ALTER TABLE people ADD COLUMN nick TEXT")
    sqlite.execute("ALTER TABLE people ADD COLUMN tier TEXT NOT NULL DEFAULT 'free'")
    sqlite.execute("ALTER TABLE people RENAME TO old")
    sqlite.execute(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, age INTEGER, nick TEXT, "
        "tier TEXT NOT NULL DEFAULT 'free', secret TEXT NOT NULL)"
    )
    people.mapping("people", f"{FIELDS}  secret: {{drop: true}}\n")

    ran = people.run("doctor", "--json")

    found = checks(ran)
    assert ran.exit == 0
    assert found["mapping.people.unmapped"]["result"] == "warning"
    assert found["mapping.people.unmapped"]["what"].endswith(": age, nick, tier.")
    assert "drop: true" in found["mapping.people.unmapped"]["fix"]
    assert found["mapping.people.required"]["what"].endswith(": secret.")


def test_rows_without_a_key_fail(people: Project, sqlite: SqliteDatabase) -> None:
    """
    Rows that no page could reach, because their key is NULL, are counted and refused.
    """
    sqlite.execute("DROP TABLE people; CREATE TABLE people (id TEXT PRIMARY KEY, name TEXT)")
    may_become_null = examine(people)["mapping.people.key"]
    sqlite.execute("INSERT INTO people VALUES (NULL, 'a'), (NULL, 'b'), ('x', 'c')")

    has_become_null = examine(people)["mapping.people.key"]

    assert may_become_null["result"] == "warning"
    assert has_become_null["result"] == "failed"
    assert has_become_null["what"].startswith("2 rows ")


def test_pages_without_an_index_are_a_warning(people: Project, sqlite: SqliteDatabase) -> None:
    """
    A key in another order than its index has makes every page a sort; that is said.
    """
    sqlite.execute("CREATE TABLE pairs (a INTEGER NOT NULL, b INTEGER NOT NULL, UNIQUE (a, b))")
    sqlite.execute("INSERT INTO pairs VALUES (1, 2), (2, 1)")
    text = "version: 1\nname: pairs\nsource: {table: pairs, key: [KEY]}\n"
    text += 'target: {key: "pair:{a}:{b}", type: hash}\n'
    people.mapping("pairs", text.replace("KEY", "b, a"))
    sorted_ = examine(people, "pairs")["mapping.pairs.pages"]
    people.mapping("pairs", text.replace("KEY", "a, b"))

    indexed = examine(people, "pairs")["mapping.pairs.pages"]

    assert (sorted_["result"], indexed["result"]) == ("warning", "ok")
    assert "index" in sorted_["fix"]


def test_missing_rights_are_named(
    tmp_path: Path, postgres: PostgresDatabase, redis_server: RedisServer
) -> None:
    """
    A PostgreSQL user without SELECT is told what it lacks; with it, the check passes.
    """
    user = f"reader_{postgres.name}"
    postgres.execute("CREATE TABLE people (id bigint PRIMARY KEY, name text)")
    postgres.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'")
    at = f"{postgres.server.host}:{postgres.server.port}/{postgres.name}"
    url = f"postgresql+psycopg://{user}:{PASSWORD}@{at}"
    project = Project(tmp_path / "user", url, redis_server.url)
    project.mapping("people", PEOPLE)
    try:
        refused = examine(project)["mapping.people.rights"]
        postgres.execute(f"GRANT SELECT ON people TO {user}")
        allowed = examine(project)
    finally:
        postgres.execute(f"DROP OWNED BY {user}; DROP ROLE {user}")

    assert refused["result"] == "failed"
    assert "SELECT on people (id, name)" in refused["what"]
    assert {allowed[f"mapping.people.{name}"]["result"] for name in ("rights", "key", "pages")} == {
        "ok"
    }
    assert allowed["source.reach"]["what"].startswith("postgresql ")


def test_a_wrong_source_password_is_a_failed_check(
    people: Project, postgres: PostgresDatabase
) -> None:
    """
    A login that PostgreSQL refuses fails with its fix, at once, and shows no password.
    """
    wrong = postgres.url.replace(quote(postgres.server.password, safe=""), PASSWORD)
    # A server that trusts every local login has no wrong password; a wrong user is refused too.
    people.configure(source_url=wrong.replace("//postgres:", "//nobody_at_all:"))

    ran = people.run("doctor", "--json")

    found = checks(ran)
    assert ran.exit == 4
    assert found["source.reach"]["result"] == "failed"
    assert "user and password" in found["source.reach"]["fix"]
    assert PASSWORD not in ran.out + ran.err


# --- the target ---------------------------------------------------------------------------------


def test_a_target_that_is_away_is_told_fast(people: Project, redis_fresh: Fresh) -> None:
    """
    However patient the configuration is, doctor says within seconds that nobody answers.
    """
    server = redis_fresh()
    server.kill()
    people.configure(redis_url=server.url, retry_for="10m")
    began = time.monotonic()

    ran = people.run("doctor", "--json")

    found = checks(ran)
    assert time.monotonic() - began < FAST_S
    assert ran.exit == 4
    assert found["target.reach"]["result"] == "failed"
    assert found["mapping.people.fence"]["result"] == "skipped"
    assert found["mapping.people.pages"]["result"] == "ok"


def test_a_wrong_redis_password_is_a_failed_check(people: Project, redis_fresh: Fresh) -> None:
    """
    A refused login fails with its fix and shows neither the wrong password nor the right one.
    """
    server = redis_fresh(requirepass="the-right-one-9d")
    people.configure(redis_url=f"redis://:{PASSWORD}@{server.host}:{server.port}/0")

    ran, text = people.run("doctor", "--json"), people.run("doctor")

    found = checks(ran)
    assert (ran.exit, text.exit) == (4, 4)
    assert "password_file" in found["target.reach"]["fix"]
    shown = ran.out + ran.err + text.out + text.err
    assert PASSWORD not in shown
    assert "the-right-one-9d" not in shown


def test_an_evicting_server_fails(people: Project, redis_server: RedisServer) -> None:
    """
    A server that would drop records when it is full fails, and the fix stands below the table.
    """
    redis_server.set(maxmemory="50mb", maxmemory_policy="allkeys-lru")

    ran = people.run("doctor")

    assert ran.exit == 4
    assert "failed target.eviction\n  fix: CONFIG SET maxmemory-policy noeviction" in ran.out
    assert "1 failed, " in ran.out
    assert ran.err == "next: profile-migrate doctor\n"


def test_a_replica_fails(people: Project, redis_server: RedisServer, redis_fresh: Fresh) -> None:
    """
    A replica fails as such, and its refused writes are not put down to missing permission.
    """
    replica = redis_fresh()
    replica.client().execute_command("REPLICAOF", redis_server.host, redis_server.port)
    people.configure(redis_url=replica.url)

    found = examine(people)

    assert found["target.replica"]["result"] == "failed"
    assert found["target.commands"]["result"] == "failed"
    assert "READONLY" in found["target.commands"]["what"]
    assert "ACL" not in found["target.commands"]["fix"]


@pytest.mark.slow
def test_a_full_server_fails(people: Project, redis_server: RedisServer) -> None:
    """
    Memory above the throttle's limit fails, because a run would only pause.
    """
    redis_server.set(maxmemory="900kb")

    found = examine(people)

    assert found["target.memory"]["result"] == "failed"
    assert "80%" in found["target.memory"]["what"]


def test_missing_memory_limit_and_persistence_are_warnings(people: Project) -> None:
    """
    What a test server lacks is worth a warning and stops nothing.
    """
    ran = people.run("doctor", "--json")

    found = checks(ran)
    assert ran.exit == 0
    assert found["target.memory"]["result"] == "warning"
    assert found["target.persistence"]["result"] == "warning"
    assert ran.json["warnings"] == 2


def test_a_slow_log_that_keeps_values_is_a_warning(
    people: Project, redis_server: RedisServer
) -> None:
    """
    A slow log with a low threshold would show values of rows to whoever may read it.
    """
    redis_server.set(slowlog_log_slower_than="0")

    assert examine(people)["target.slowlog"]["result"] == "warning"


def test_bulk_is_tried(people: Project, redis_server: RedisServer) -> None:
    """
    Doctor says whether records are written as payloads, and what a user lacks for it.
    """
    modern = not redis_server.client().info("server")["redis_version"].startswith("6.")
    tried = examine(people)["target.bulk"]
    assert tried["result"] == ("ok" if modern else "skipped")
    client = redis_server.client()
    login = f"redis://mover:{PASSWORD}@{redis_server.host}:{redis_server.port}/0"
    people.configure(redis_url=login)
    client.execute_command(*f"ACL SETUSER mover on >{PASSWORD} ~* +@all -restore".split())
    try:
        lacking = examine(people)["target.bulk"]
    finally:
        client.execute_command("ACL", "DELUSER", "mover")

    assert lacking["result"] == "warning"
    assert "RESTORE" in lacking["what"]
    assert " +restore " in lacking["fix"]


def test_bulk_that_is_switched_off_is_not_tried(people: Project) -> None:
    """
    With `bulk: off` the check says so.
    """
    people.configure(extra="bulk: off")

    check = examine(people)["target.bulk"]

    assert check["result"] == "skipped"
    assert "off" in check["what"]


def test_the_printed_rule_is_all_that_a_user_needs(
    people: Project, redis_server: RedisServer
) -> None:
    """
    A user who lacks a command is shown the smallest ACL line; with it doctor and a backfill pass.
    """
    client = redis_server.client()
    login = f"redis://mover:{PASSWORD}@{redis_server.host}:{redis_server.port}/0"
    people.configure(redis_url=login)
    client.execute_command("ACL", "SETUSER", "mover", "on", f">{PASSWORD}", "~person:*", "+ping")
    try:
        refused = people.run("doctor", "--json")
        rule = checks(refused)["target.commands"]["fix"]
        client.execute_command(*rule.replace("PASSWORD", PASSWORD).split())
        allowed = people.run("doctor", "--json")
        moved = people.run("backfill", "people", "--json")
    finally:
        client.execute_command("ACL", "DELUSER", "mover")

    assert refused.exit == 4
    assert "evalsha" in checks(refused)["target.commands"]["what"]
    assert rule.startswith("ACL SETUSER mover on >PASSWORD resetkeys ~profile-migrate:* ~person:* ")
    assert (allowed.exit, allowed.json["failed"]) == (0, 0)
    assert checks(allowed)["target.optional-commands"]["result"] == "ok"
    assert (moved.exit, moved.json["written"]) == (0, 2)
    assert PASSWORD not in refused.out + refused.err + allowed.out + allowed.err


def test_keys_of_another_prefix_are_refused(people: Project, redis_server: RedisServer) -> None:
    """
    A user whose rule leaves out the mapping's keys fails, though every command is allowed.
    """
    client = redis_server.client()
    people.configure(
        redis_url=f"redis://mover:{PASSWORD}@{redis_server.host}:{redis_server.port}/0"
    )
    client.execute_command(
        "ACL", "SETUSER", "mover", "on", f">{PASSWORD}", "~profile-migrate:*", "~other:*", "+@all"
    )
    try:
        found = examine(people)["target.commands"]
    finally:
        client.execute_command("ACL", "DELUSER", "mover")

    assert found["result"] == "failed"
    assert found["what"] == "Refused: evalsha on person:* (NOPERM)."


def test_a_cluster_is_looked_at_master_by_master(people: Project) -> None:
    """
    All masters are looked at; what one of them does wrong is reported with its address.
    """
    with cluster() as made:
        people.configure(redis_keys=made.yaml)
        odd = made.masters[1]
        odd.set(maxmemory_policy="allkeys-lru")

        found = examine(people)

    assert found["target.reach"]["result"] == "ok"
    assert "cluster" in found["target.reach"]["what"]
    assert found["target.commands"]["result"] == "ok"
    assert found["target.eviction"]["result"] == "failed"
    assert str(odd.port) in found["target.eviction"]["what"]


def test_records_of_another_migration_fail(people: Project, tmp_path: Path) -> None:
    """
    A fence that another ledger made fails with the way out; for its own project it is ours.
    """
    other = Project(tmp_path / "other", people.source_url, people.redis_url)
    other.mapping("people", PEOPLE)
    assert people.run("backfill", "people").exit == 0

    ours, theirs = examine(people), examine(other)

    assert ours["mapping.people.fence"]["result"] == "ok"
    assert "ours" in ours["mapping.people.fence"]["what"]
    assert theirs["mapping.people.fence"]["result"] == "failed"
    assert "--start-over" in theirs["mapping.people.fence"]["fix"]


def test_a_lost_fence_is_a_warning(people: Project, redis_server: RedisServer) -> None:
    """
    A target that no longer knows our run is said so before the next one finds out.
    """
    assert people.run("backfill", "people").exit == 0
    redis_server.client().flushall()

    check = examine(people)["mapping.people.fence"]

    assert check["result"] == "warning"
    assert check["fix"].endswith("profile-migrate plan people")


# --- the ledger and the pause file --------------------------------------------------------------


def test_a_ledger_that_cannot_be_made_fails(people: Project) -> None:
    """
    Where the ledger's place is no folder that can be written, that is told before a run needs it.
    """
    (people.folder / ".profile-migrate").write_text("in the way")

    check = examine(people)["ledger.open"]

    assert check["result"] == "failed"
    assert check["fix"]


def test_a_damaged_ledger_hides_nothing(people: Project) -> None:
    """
    A ledger that is none fails; whose records are in Redis is then not claimed to be known.
    """
    folder = people.folder / ".profile-migrate"
    folder.mkdir()
    (folder / "ledger.db").write_text("not a database, and long enough to be looked at " * 50)

    found = examine(people)

    assert found["ledger.open"]["result"] == "failed"
    assert found["mapping.people.fence"]["result"] == "skipped"
    assert found["target.commands"]["result"] == "ok"


def test_a_pause_file_is_a_warning(people: Project) -> None:
    """
    A forgotten pause file would hold every run: it is named, with how to remove it.
    """
    folder = people.folder / ".profile-migrate"
    folder.mkdir()
    (folder / "pause").touch()

    check = examine(people)["throttle.pause"]

    assert check["result"] == "warning"
    assert check["fix"] == "rm .profile-migrate/pause"


# --- rules without a server ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flavour", "version", "result"),
    [
        ("redis", "6.0.16", Result.FAILED),
        ("redis", "5.0.14", Result.FAILED),
        ("redis", "6.2.0", Result.OK),
        ("redis", "8.0.2", Result.OK),
        ("redis", "10.0.0", Result.OK),
        ("valkey", "8.1.0", Result.OK),
        ("", "", Result.WARNING),
    ],
)
def test_versions_before_6_2_fail(flavour: str, version: str, result: Result) -> None:
    """
    Redis before 6.2 is refused; a version that is hidden is only a warning.
    """
    assert version_check(flavour, version).result is result


@pytest.mark.parametrize(
    ("ahead", "result"),
    [
        ({}, Result.SKIPPED),
        ({"source": 0.4, "target": -0.4}, Result.OK),
        ({"source": 0.7, "target": -0.7}, Result.WARNING),
        ({"target": 7200.0}, Result.WARNING),
        ({"source": -61.0, "target": -61.0}, Result.WARNING),
    ],
)
def test_clocks_more_than_a_second_apart_are_a_warning(
    ahead: dict[str, float], result: Result
) -> None:
    """
    Any two of the three clocks are compared.
    """
    assert clock_check(ahead).result is result


@pytest.mark.parametrize(
    ("tls", "result"),
    [(None, Result.SKIPPED), (TLS(), Result.OK), (TLS(verify=False), Result.WARNING)],
)
def test_unverified_certificates_are_a_warning(tls: TLS | None, result: Result) -> None:
    """
    Encryption without verification protects from nobody in between.
    """
    config = RedisConfig("target", (Node("localhost", 6379),), tls=tls)

    check: Check = tls_check(config)

    assert check.result is result


def test_no_value_of_a_row_is_shown(people: Project) -> None:
    """
    A planted personal value is in nothing that doctor prints.
    """
    ran = [people.run("doctor"), people.run("doctor", "--json"), people.run("-vv", "doctor")]

    assert [one.exit for one in ran] == [0, 0, 0]
    assert CANARY not in "".join(one.out + one.err for one in ran)


# --- what hangs on the tables -------------------------------------------------------------------

SHOP = """
CREATE TABLE people (id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(9),
  since VARCHAR(9) DEFAULT 'x');
CREATE TABLE orders (id INTEGER NOT NULL PRIMARY KEY, person_id INTEGER NOT NULL,
  no INTEGER NOT NULL,
  FOREIGN KEY (person_id) REFERENCES people (id) ON DELETE CASCADE);
CREATE INDEX by_person ON orders (person_id);
CREATE TABLE parts (id INTEGER NOT NULL PRIMARY KEY, order_id INTEGER NOT NULL, sku VARCHAR(9));
CREATE TABLE visits (id INTEGER NOT NULL PRIMARY KEY, person_id INTEGER,
  FOREIGN KEY (person_id) REFERENCES people (id));
CREATE VIEW adults AS SELECT id, name FROM people;
"""
ORDERS = f"""{PEOPLE}children:
  orders:
    table: orders
    join: {{person_id: id}}
    columns: [id]
    children:
      parts: {{table: parts, join: {{order_id: id}}, columns: [sku]}}
"""


def shop(folder: Path, database: Database, server: RedisServer) -> dict[str, dict[str, str]]:
    """
    What doctor says of people with orders and their parts, where much else hangs on the tables.
    """
    database.execute(SHOP)
    project = Project(folder / "user", database.url, server.url)
    project.mapping("people", ORDERS)
    return examine(project)


def test_what_hangs_on_the_tables_is_told(
    tmp_path: Path, source: Database, redis_server: RedisServer
) -> None:
    """
    Tables that refer to the rows, views, defaults, and what records leave out; each with its fix.
    """
    found = shop(tmp_path, source, redis_server)

    told = {name: c["what"] for name, c in found.items() if c["result"] == "warning" and c["fix"]}
    assert told["mapping.people.inbound"] == (
        "Tables that refer to these rows and do not move with them: visits (person_id)."
    )
    assert told["mapping.people.views"] == "Views over these tables: adults (over people)."
    assert told["mapping.people.supplied"] == (
        "Columns that SQL fills by itself: people.since (default)."
    )
    assert "orders.no" in told["mapping.people.required"]
    assert "no index begins with order_id" in told["mapping.people.children"]
    assert found["mapping.people.cascades"]["result"] == "ok"
    assert "people to orders" in found["mapping.people.cascades"]["what"]


@pytest.mark.containers
def test_cascades_pass_triggers_by_on_mariadb(
    tmp_path: Path, mariadb: MariadbDatabase, redis_server: RedisServer
) -> None:
    """
    There they are a warning, with the rest as on the other servers; counters are told, too.
    """
    mariadb.execute(
        "CREATE TABLE more (id INT PRIMARY KEY AUTO_INCREMENT, n INT);"
        "CREATE TRIGGER watch AFTER INSERT ON more FOR EACH ROW SET @x = 1;"
    )
    found = shop(tmp_path, mariadb, redis_server)
    project = Project(tmp_path / "more", mariadb.url, redis_server.url)
    project.mapping("more", PEOPLE.replace("people", "more").replace("person", "more"))

    counted = examine(project)

    assert found["mapping.people.cascades"]["result"] == "warning"
    assert found["mapping.people.inbound"]["result"] == "warning"
    assert found["mapping.people.views"]["result"] == "warning"
    assert counted["mapping.more.ids"]["result"] == "warning"
    assert counted["mapping.more.triggers"]["what"] == (
        "Triggers are there already: watch (on more)."
    )


def test_a_table_is_known_by_any_of_its_names(
    tmp_path: Path, sqlite: SqliteDatabase, postgres: PostgresDatabase, redis_server: RedisServer
) -> None:
    """
    A mapping that spells its table with a schema, or in other capitals, is told the same.
    """
    for database, table in ((sqlite, "PEOPLE"), (postgres, "public.people")):
        database.execute(SHOP)
        project = Project(tmp_path / database.dialect, database.url, redis_server.url)
        project.mapping("people", PEOPLE.replace("table: people", f"table: {table}"))

        found = examine(project)

        assert "orders (person_id), visits (person_id)" in found["mapping.people.inbound"]["what"]
        assert found["mapping.people.views"]["result"] == "warning"


def test_counters_and_triggers_are_told(
    tmp_path: Path, postgres: PostgresDatabase, redis_server: RedisServer
) -> None:
    """
    A key that SQL counts up needs `ids` before cut-over, which settles it; a trigger is named.
    """
    postgres.execute(
        "CREATE TABLE people (id serial PRIMARY KEY, low text GENERATED ALWAYS AS ('x') STORED);"
        "CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
        "CREATE TRIGGER watching AFTER INSERT ON people FOR EACH ROW EXECUTE FUNCTION watch()"
    )
    project = Project(tmp_path / "user", postgres.url, redis_server.url)
    project.mapping("people", PEOPLE)

    before = examine(project)
    project.mapping("people", f"{PEOPLE}ids: {{made_by: sql}}\n")
    after = examine(project)

    assert before["mapping.people.ids"]["result"] == "warning"
    assert "ids: {made_by: sql}" in before["mapping.people.ids"]["fix"]
    assert after["mapping.people.ids"]["result"] == "ok"
    assert before["mapping.people.triggers"]["what"] == (
        "Triggers are there already: watching (on people)."
    )
    assert before["mapping.people.supplied"]["what"] == (
        "Columns that SQL fills by itself: people.low (generated)."
    )


def test_a_type_without_a_form_fails_with_its_fix(
    tmp_path: Path, postgres: PostgresDatabase, redis_server: RedisServer
) -> None:
    """
    In the root as in a collection, with the place in the file.
    """
    postgres.execute(
        "CREATE TABLE people (id int PRIMARY KEY, pay money);"
        "CREATE TABLE orders (id int PRIMARY KEY, person_id int, pay money)"
    )
    project = Project(tmp_path / "user", postgres.url, redis_server.url)
    project.mapping(
        "people",
        f"{PEOPLE}children:\n"
        "  orders: {table: orders, join: {person_id: id}, columns: [pay]}\n",
    )

    ran = project.run("doctor", "--json")

    bad = [c for c in ran.json["checks"] if c["id"] == "mapping.people.columns"]
    assert ran.exit == 4
    assert [check["result"] for check in bad] == ["failed", "failed"]
    assert all("as: text" in check["fix"] for check in bad)
