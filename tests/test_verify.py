"""
A verification says what it compared, ends with the right exit code, and goes on where it stopped.
"""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from migrate.model.verdict import (
    HARD,
    Kind,
    Presence,
    RecordFacts,
    RowFacts,
    Verdict,
    judge,
)
from migrate.pipeline import verify, verify_back, verify_compare
from migrate.pipeline.verify import Verifier
from migrate.target.reader import Stored
from tests import planted
from tests.planted import DEEP, FULL
from tests.project import Project, until_exit
from tests.servers import RedisServer, SqliteDatabase, wait_until
from tests.test_planted import named

ROWS = 600

ROW = RowFacts(present=True, version="7")
GONE = RowFacts(present=False)
NEW = "1000000000001"

CASES = {
    "equal": (ROW, RecordFacts(Presence.RECORD, "7"), False, Verdict.OK),
    "other content": (ROW, RecordFacts(Presence.RECORD, "7"), True, Verdict.DIFFERENT),
    "nothing there": (ROW, RecordFacts(Presence.ABSENT), False, Verdict.MISSING),
    "not copied": (
        RowFacts(present=True, version="7", copied=False),
        RecordFacts(Presence.ABSENT),
        False,
        Verdict.PENDING,
    ),
    "on its way": (
        RowFacts(present=True, version="7", dirty=True),
        RecordFacts(Presence.ABSENT),
        False,
        Verdict.IN_FLIGHT,
    ),
    "over": (
        RowFacts(present=True, version="7", over=True),
        RecordFacts(Presence.ABSENT),
        False,
        Verdict.EXPIRED,
    ),
    "in its grace": (ROW, RecordFacts(Presence.RECORD, "7", over=True), False, Verdict.EXPIRED),
    "a reject": (
        RowFacts(present=True, version="7", rejected=True),
        RecordFacts(Presence.FOREIGN),
        True,
        Verdict.REJECTED,
    ),
    "not ours": (ROW, RecordFacts(Presence.FOREIGN), False, Verdict.COLLISION),
    "another type": (ROW, RecordFacts(Presence.OTHER_TYPE), False, Verdict.DIFFERENT),
    "a tombstone": (ROW, RecordFacts(Presence.TOMBSTONE, "7"), False, Verdict.MISSING),
    "behind": (ROW, RecordFacts(Presence.RECORD, "6"), True, Verdict.LOST_EVENT),
    "behind and known": (
        RowFacts(present=True, version="7", dirty=True),
        RecordFacts(Presence.RECORD, "6"),
        True,
        Verdict.IN_FLIGHT,
    ),
    "ahead": (ROW, RecordFacts(Presence.RECORD, "10"), True, Verdict.SPLIT_BRAIN),
    "both gone": (GONE, RecordFacts(Presence.ABSENT), False, Verdict.OK),
    "buried": (GONE, RecordFacts(Presence.TOMBSTONE, "7"), False, Verdict.OK),
    "without a row": (GONE, RecordFacts(Presence.RECORD, "7"), False, Verdict.ORPHAN),
    "of others, without a row": (GONE, RecordFacts(Presence.FOREIGN), False, Verdict.OK),
    "deleted and back": (
        RowFacts(present=False, version=NEW),
        RecordFacts(Presence.RECORD, NEW),
        False,
        Verdict.RESURRECTED,
    ),
    "delete on its way": (
        RowFacts(present=False, version=NEW, dirty=True),
        RecordFacts(Presence.RECORD, NEW),
        False,
        Verdict.IN_FLIGHT,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_versions_decide(case: str) -> None:
    """
    The verdict follows from the facts of one pair alone.
    """
    row, record, differs, verdict = CASES[case]

    found, kind = judge(row, record, differs=differs)

    assert found is verdict
    expected = {"another type": Kind.TYPE, "a tombstone": Kind.TOMBSTONE}
    assert kind is expected.get(case, Kind.NONE)


def test_every_verdict_has_a_case() -> None:
    """
    The table above leaves out no verdict.
    """
    assert {case[3] for case in CASES.values()} == set(Verdict)
    assert len(HARD) == 7


@pytest.fixture
def project(tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer) -> Project:
    """
    People with orders and lookups; nothing is in Redis yet.
    """
    planted.create(sqlite, ROWS)
    made = Project(tmp_path / "user", sqlite.url, redis_server.url)
    made.mapping("people", planted.MAPPING)
    return made


def filled(project: Project) -> Project:
    """
    The same after a backfill.
    """
    assert project.run("backfill", "people").exit == 0
    return project


def verified_rows(project: Project) -> int:
    """
    Rows that the ledger says were compared.
    """
    path = project.folder / ".profile-migrate" / "ledger.db"
    with closing(sqlite3.connect(path)) as connection:
        query = (
            "SELECT coalesce(sum(p.rows), 0) FROM migrate_partition p JOIN migrate_run r "
            "ON r.id = p.run WHERE r.kind = 'verify'"
        )
        return int(connection.execute(query).fetchone()[0])


def test_what_was_never_backfilled_is_refused(project: Project) -> None:
    """
    There is nothing to verify, which is no success: exit 4.
    """
    ran = project.run("verify", "people")

    assert (ran.exit, ran.error) == (4, "refused")


@pytest.mark.parametrize("level", ["count", FULL, DEEP])
def test_nothing_compared_is_no_success(
    project: Project, sqlite: SqliteDatabase, level: str
) -> None:
    """
    A table without rows ends with exit 5 and says so.
    """
    sqlite.execute("DELETE FROM people; DELETE FROM orders;")
    filled(project)

    ran = project.run("verify", "people", "--level", level, "--json")

    assert (ran.exit, ran.json["verdict"]) == (5, "INCOMPLETE"), ran.err
    assert ran.json["not_checked"][0].startswith("Nothing was compared")


def test_a_sample_tells_its_bound(project: Project) -> None:
    """
    0 of 300 says at most 1 % at 95 %, and nothing is called the whole.
    """
    filled(project)

    ran = project.run("verify", "people", "--level", "sample", "--sample", "300", "--json")

    compared = ran.json["scope"]["compared"]
    assert (ran.exit, ran.json["verdict"]) == (0, "PASS"), ran.err
    assert 0 < compared <= 300
    assert ran.json["bound"] == {"confidence": 0.95, "at_most": 3 / compared}
    assert any("outside of the sample" in text for text in ran.json["not_checked"])
    assert "at 95 %" in project.run("verify", "people", "--level", "sample", "--sample", "50").out


def test_counts_that_differ_are_a_mismatch(project: Project, redis_server: RedisServer) -> None:
    """
    Two records less are two missing ones, without a name.
    """
    filled(project)
    redis_server.client().delete("person:1", "person:2")

    ran = project.run("verify", "people", "--level", "count", "--json")

    assert (ran.exit, ran.json["counts"]["MISSING"]) == (3, 2)


def test_open_rejects_are_named_and_fail(
    project: Project, sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    A row that could not be moved is REJECTED, never MISSING, and the exit code is 3.
    """
    sqlite.execute("UPDATE people SET email = '2@example.org' WHERE id = 5")
    assert project.run("backfill", "people").exit == 3

    ran = project.run("verify", "people", "--level", DEEP, "--json")

    assert (ran.exit, ran.json["open_rejects"]) == (3, {"duplicate": 1}), ran.err
    assert ran.json["counts"]["REJECTED"] == 1
    assert named(project) == set()


def test_an_interrupted_backfill_leaves_pending_rows(project: Project) -> None:
    """
    What was not copied yet is PENDING and the whole INCOMPLETE: exit 5.
    """
    project.run("backfill", "people", "--limit", "200")

    ran = project.run("verify", "people", "--json")

    assert (ran.exit, ran.json["verdict"]) == (5, "INCOMPLETE")
    assert ran.json["counts"]["PENDING"] == ROWS - 200


def test_a_store_that_is_away_is_exit_6(project: Project, redis_server: RedisServer) -> None:
    """
    No verdict is made up where Redis does not answer.
    """
    filled(project)
    project.configure(redis_url="redis://127.0.0.1:1/0")

    assert project.run("verify", "people").exit == 6


def test_the_end_of_its_time_is_no_end(project: Project, redis_server: RedisServer) -> None:
    """
    A run that has to stop says INCOMPLETE and exit 5; the same command goes on to the end.
    """
    filled(project)
    redis_server.client().delete("person:1", "person:599")

    first = project.run("verify", "people", "--max-runtime", "0.000001", "--json")
    again = project.run("verify", "people", "--json")

    assert (first.exit, first.json["complete"]) == (5, False)
    assert again.json["run"] == first.json["run"]
    assert (again.exit, again.json["counts"]["MISSING"]) == (3, 2)
    assert again.json["scope"]["compared"] == ROWS


def test_two_workers_find_the_same(project: Project, redis_server: RedisServer) -> None:
    """
    However the rows are shared out, the same is named.
    """
    filled(project)
    redis_server.client().delete("person:1", "person:300", "person:600")

    ran = project.run("verify", "people", "--workers", "2", "--json")

    assert (ran.exit, ran.json["counts"]["MISSING"]) == (3, 3), ran.err


def test_a_killed_run_goes_on(project: Project, redis_server: RedisServer) -> None:
    """
    Killed between two pages, the same command ends with every row compared once.
    """
    filled(project)
    redis_server.client().delete("person:1")
    project.configure(extra="throttle: {rows_per_second: 200}")
    with project.started("verify", "people", "--json") as process:
        wait_until(lambda: verified_rows(project) > 0, "a page that was compared")
        process.send_signal(signal.SIGKILL)
        until_exit(process)
    project.configure(extra="")

    ran = project.run("verify", "people", "--json")

    assert (ran.exit, ran.json["counts"]["MISSING"]) == (3, 1), ran.err
    assert ran.json["scope"]["compared"] == ROWS


def test_values_are_shown_only_when_asked(project: Project, redis_server: RedisServer) -> None:
    """
    Otherwise there are types, lengths and digests, in results and in files.
    """
    filled(project)
    redis_server.client().hset("person:7", "name", "Canary 4711")
    page, tests = project.folder / "v.html", project.folder / "v.xml"

    ran = project.run(
        "verify", "people", "--level", DEEP, "--json", "--report", str(page), "--junit", str(tests)
    )
    [sample] = ran.json["samples"]
    shown = project.run("verify", "people", "--level", DEEP, "--show-values", "--json").json

    assert sample["found"].keys() == {"type", "length", "digest"}
    for text in (ran.out, page.read_text(), tests.read_text()):
        assert "Canary 4711" not in text
    assert shown["samples"][0]["found"]["value"] == "Canary 4711"
    assert "person:7" in page.read_text()


def test_a_pipeline_gets_a_summary_added(project: Project) -> None:
    """
    Behind what other steps have written there already.
    """
    filled(project)
    file = project.folder / "summary.md"
    file.write_text("# Before\n", encoding="utf-8")

    ran = project.run("verify", "people", "--summary", str(file))

    text = file.read_text(encoding="utf-8")
    assert ran.exit == 0, ran.err
    assert text.startswith("# Before\n")
    assert "people" in text
    assert "PASS" in text


def test_status_tells_verified_and_stale(project: Project) -> None:
    """
    Not verified, verified, and stale once a backfill came after it.
    """

    def said() -> str:
        [one] = project.run("status", "people", "--json").json["mappings"]
        return str(one["verified"])

    filled(project)
    project.run("verify", "people", "--level", "count")
    assert said() == "not verified"
    project.run("verify", "people")
    project.run("verify", "people", "--level", "deep", "--max-runtime", "0.000001")
    assert said() == "verified"
    filled(project)
    assert said() == "stale"


LIFE = """
version: 1
name: people
source: {table: people, key: [id]}
target: {key: "person:{id}", ttl: {column: ends}%s}
fields: {name: {}, ends: {}}
"""


@pytest.mark.parametrize("kind", ["", ", type: string"])
@pytest.mark.parametrize("level", [FULL, DEEP])
def test_times_to_live_are_verified(
    tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer, level: str, kind: str
) -> None:
    """
    Another end is DIFFERENT in ttl, one that has passed EXPIRED; hashes and strings alike.
    """
    sqlite.execute(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, ends DATETIME);"
        "INSERT INTO people VALUES (1, 'Ada', '2999-01-01 00:00:00'), (2, 'Bo', NULL), "
        "(3, 'Cy', '2020-01-01 00:00:00'), (4, 'Di', '2999-01-01 00:00:00')"
    )
    project = Project(tmp_path / "user", sqlite.url, redis_server.url)
    project.mapping("people", LIFE % kind)
    assert project.run("backfill", "people").exit == 0
    right = project.run("verify", "people", "--level", level, "--json")
    assert (right.exit, right.json["counts"]) == (0, {"OK": 3, "EXPIRED": 1}), right.out

    client = redis_server.client()
    client.expire("person:1", 1_000)
    client.expire("person:2", 1_000)
    client.persist("person:4")
    ran = project.run("verify", "people", "--level", level, "--json")

    assert ran.exit == 3
    assert named(project) == {("DIFFERENT", "ttl", f"person:{n}", "_e") for n in (1, 2, 4)}


TEXTS = """
version: 1
name: people
source: {table: people, key: [id]}
target: {key: "person:{id}", type: string}
fields: {name: {}, note: {}, rating: {}, points: {}}
children:
  orders: {table: orders, join: {person: id}, columns: [id, total]}
"""


def test_string_records_are_read_member_by_member(
    project: Project, redis_server: RedisServer
) -> None:
    """
    One changed byte behind the digest is named with its member by deep.
    """
    project.mapping("people", TEXTS)
    filled(project)
    assert project.run("verify", "people", "--level", DEEP).exit == 0
    client = redis_server.client()
    text = client.get("person:7")
    client.set("person:7", text.replace(b"Name 7", b"Name 8"))

    ran = project.run("verify", "people", "--level", DEEP, "--json")

    assert ran.exit == 3
    assert named(project) == {("DIFFERENT", "value", "person:7", "name")}


# --- each check is needed ------------------------------------------------------------------------


CHECKS = {
    "fields": (verify_compare, "by_cells", DEEP, []),
    "digest": (Verifier, "_by_own_digest", DEEP, []),
    "stored digest": (Verifier, "_by_digest", FULL, []),
    "life": (verify_compare, "life", DEEP, []),
    "links": (Verifier, "_links", DEEP, {}),
    "records without a row": (verify_back.Back, "_judge", FULL, None),
    "entries left over": (verify_back.Back, "_unlisted", FULL, {}),
    "verdicts": (verify, "judge", DEEP, (Verdict.OK, Kind.NONE)),
}


@pytest.mark.parametrize("check", CHECKS)
def test_without_a_check_the_suite_fails(
    project: Project,
    sqlite: SqliteDatabase,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    check: str,
) -> None:
    """
    With each check taken out some planted defect is not named any more.
    """
    filled(project)
    made = planted.plant(sqlite, redis_server.client(), ROWS, 1)
    owner, name, level, empty = CHECKS[check]
    monkeypatch.setattr(owner, name, lambda *_, **__: empty)

    project.run("verify", "people", "--level", level)

    assert made.expected[level] - named(project)


def test_what_is_read_shows_no_value() -> None:
    """
    The repr of what was read holds key and kind alone.
    """
    stored = Stored(b"k", Presence.RECORD, content=(b"name", b"secret"))

    assert "secret" not in repr(stored)
