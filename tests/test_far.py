"""
Unique lookups in other slots than their records, by the command: whole runs into a real Cluster.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from migrate.model.lookups import parse_entries
from tests.project import Project, kill_all, until_exit
from tests.topologies import RedisCluster, cluster

pytestmark = pytest.mark.containers
"""A Cluster of real servers takes seconds to start and to change: part of the matrix."""

ROWS = 1_500

MAPPING = """
version: 1
name: members
source: {table: customers, key: [id]}
target: {key: "member:{id}"%s}
fields: {name: {}, email: {column: email_address}, ends: {}}
"""
LOOKUPS = 'lookups: {by_email: {key: "member-email:{email}", unique: true}}\n'
OTHERS = 'lookups: {by_name: {key: "member-name:{name}", unique: true}}\n'


@pytest.fixture(scope="module")
def shared() -> Iterator[RedisCluster]:
    """
    Three masters without replicas.
    """
    with cluster() as made:
        yield made


@pytest.fixture
def three(shared: RedisCluster) -> RedisCluster:
    """
    The shared cluster, empty.
    """
    for node in shared.masters:
        node.client().flushall()
    return shared


@pytest.fixture
def project(tmp_path: Path, three: RedisCluster) -> Project:
    """
    Customers with an e-mail each, but for every tenth.
    """
    with closing(sqlite3.connect(tmp_path / "app.db")) as database:
        database.execute(
            "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, email_address TEXT, "
            "ends DATETIME)"
        )
        database.executemany(
            "INSERT INTO customers VALUES (?, ?, ?, '2999-01-01 00:00:00')",
            [(n, f"Name {n}", f"user{n}@x" if n % 10 else None) for n in range(1, ROWS + 1)],
        )
        database.commit()
    made = Project(tmp_path / "user", f"sqlite:///{tmp_path}/app.db", "", retry_for="60s")
    made.configure(redis_keys=three.yaml)
    made.mapping("members", MAPPING % "" + LOOKUPS)
    return made


def change(project: Project, *statements: str) -> None:
    """
    Change rows.
    """
    with closing(sqlite3.connect(project.source_url.removeprefix("sqlite:///"))) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def rows(project: Project) -> dict[bytes, bytes | None]:
    """
    The e-mail of each row, by the key that its record has.
    """
    with closing(sqlite3.connect(project.source_url.removeprefix("sqlite:///"))) as database:
        found = database.execute("SELECT id, email_address FROM customers").fetchall()
    return {b"member:%d" % number: email.encode() if email else None for number, email in found}


def keys(three: RedisCluster) -> dict[bytes, Any]:
    """
    Every hash in the cluster but the fences.
    """
    found: dict[bytes, Any] = {}
    for node in three.masters:
        client = node.client()
        ours = [k for k in client.scan_iter("*", 5_000) if not k.startswith(b"profile-migrate:")]
        with client.pipeline(transaction=False) as pipe:
            for key in ours:
                pipe.hgetall(key)
            found |= dict(zip(ours, pipe.execute(), strict=True))
    return found


def check(project: Project, three: RedisCluster) -> None:
    """
    Every row has its record and its entry, and every entry its record and row.
    """
    held, wanted = keys(three), rows(project)
    records = {key: value for key, value in held.items() if key.startswith(b"member:")}
    entries = {key: value for key, value in held.items() if key.startswith(b"member-email:")}
    assert {key: record.get(b"email") for key, record in records.items()} == wanted
    assert {key: entry[b"id"] for key, entry in entries.items()} == {
        b"member-email:" + email: key for key, email in wanted.items() if email
    }
    for entry in entries.values():
        assert entry[b"v"] == records[entry[b"id"]][b"_v"]
    for record in records.values():
        listed = [entry.key for entry in parse_entries(record.get(b"_l", b""))]
        assert listed == ([b"member-email:" + record[b"email"]] if b"email" in record else [])


CHAINS = (
    "UPDATE customers SET email_address = 'kept' || id WHERE id % 7 = 0",
    "UPDATE customers SET email_address = 'user' || (id + 1) || '@x' WHERE id % 7 = 6",
    "UPDATE customers SET email_address = 'user' || (id + 1) || '@x' WHERE id % 7 = 5",
    "UPDATE customers SET email_address = NULL WHERE id % 7 = 4 AND (id + 1) % 10 = 0",
    "UPDATE customers SET email_address = 'user' || (id - 700) || '@x' WHERE id = 1401",
    "UPDATE customers SET email_address = NULL WHERE id IN (701, 702)",
)
"""E-mails that pass from row to row, and from one worker's rows to another's."""


def test_entries_and_records_agree_in_both_directions(
    project: Project, three: RedisCluster
) -> None:
    """
    A backfill of two workers, the same again, and e-mails that were passed on in chains.
    """
    first = project.run("backfill", "members", "--workers", "2", "--json")
    assert (first.exit, first.json["written"]) == (0, ROWS), first.err
    check(project, three)

    again = project.run("backfill", "members", "--json")
    assert (again.exit, again.json["same"]) == (0, ROWS), again.err

    change(project, *CHAINS)
    passed_on = project.run("backfill", "members", "--workers", "2", "--json")
    assert (passed_on.exit, passed_on.json["open_rejects"]) == (0, {}), passed_on.err
    check(project, three)


def test_a_killed_run_is_mended_by_the_same_command(project: Project, three: RedisCluster) -> None:
    """
    Killed twice while e-mails pass from row to row; then everything is as it should be.

    But for claims of the dead whose rows have changed since: verify names them, repair releases
    them, and nothing else is found.
    """
    project.configure(redis_keys=three.yaml, extra="throttle: {rows_per_second: 1000}")
    for _ in range(2):
        with project.started("backfill", "members", "-q", "--workers", "2") as process:
            project.wait_for_rows(ROWS // 3)
            kill_all(process)
            until_exit(process)
        change(project, *CHAINS)

    ended = project.run("backfill", "members", "--json")
    settled = project.run("backfill", "members", "--json")

    assert ended.exit in (0, 3), ended.err
    assert (settled.exit, settled.json["open_rejects"]) == (0, {}), settled.err
    verified = project.run("verify", "members", "--json")
    assert set(verified.json["kinds"]) <= {"lookup"}, verified.json["kinds"]
    assert set(verified.json["counts"]) <= {"OK", "ORPHAN"}, verified.json["counts"]
    if verified.exit:
        repaired = project.run("repair", "members", "--yes", "--max-repairs", str(ROWS), "--json")
        assert (repaired.exit, repaired.json["left"]) == (0, {}), repaired.err
    check(project, three)


def test_a_duplicate_is_a_reject(project: Project, three: RedisCluster) -> None:
    """
    The second row with an e-mail is named with its lookup, and a dry run foretells it.
    """
    project.run("backfill", "members")
    change(project, "INSERT INTO customers VALUES (9001, 'Ed', 'user1@x', NULL)")
    before = keys(three)

    foretold = project.run("backfill", "members", "--dry-run", "--json")
    ran = project.run("backfill", "members", "--json")

    assert foretold.json["duplicate"] == ran.json["duplicate"] == 1
    assert ran.exit == 3
    [reject] = project.run("rejects", "list", "members", "--json").json["rejects"]
    assert (reject["column"], reject["reason"]) == ("by_email", "duplicate")
    assert keys(three) == before


@pytest.mark.parametrize("lookups", ["", OTHERS], ids=["none", "others"])
def test_a_changed_mapping_leaves_no_entry_behind(
    project: Project, three: RedisCluster, lookups: str
) -> None:
    """
    Entries of lookups that the mapping has no more are gone after its next run.
    """
    project.run("backfill", "members")
    project.mapping("members", MAPPING % "" + lookups)
    change(project, "DELETE FROM customers WHERE id = 3")

    ran = project.run("backfill", "members", "--start-over", "--json")

    assert ran.exit == 0, ran.err
    held = keys(three)
    assert set(held.pop(b"member:3")) == {b"_v", b"_t"}
    names = {key for key in held if not key.startswith(b"member:")}
    wanted = {b"member-name:Name %d" % n for n in range(1, ROWS + 1) if n != 3}
    assert {name.replace(b"%20", b" ") for name in names} == (wanted if lookups else set())


def test_another_key_template_takes_the_entries_along(
    project: Project, three: RedisCluster
) -> None:
    """
    Records under the earlier template go, and every entry names the new ones.
    """
    project.run("backfill", "members")
    project.mapping("members", (MAPPING % "").replace("member:{id}", "person:{id}") + LOOKUPS)

    ran = project.run("backfill", "members", "--start-over", "--json")

    assert ran.exit == 0, ran.err
    held = keys(three)
    assert not [key for key in held if key.startswith(b"member:")]
    entries = [value for key, value in held.items() if key.startswith(b"member-email:")]
    assert len(entries) == sum(email is not None for email in rows(project).values())
    assert all(entry[b"id"].startswith(b"person:") for entry in entries)


def test_a_purge_leaves_nothing(project: Project, three: RedisCluster) -> None:
    """
    Records, entries and entries of records that went without us; what others wrote stays.
    """
    project.run("backfill", "members")
    with closing(three.client()) as client:
        client.delete("member:1")
        client.hset("member-email:orphan", mapping={"id": "member:77777", "v": "1", "s": "0"})
        theirs = {b"member-email:theirs": {b"id": b"member:5"}, b"member-email:more": {b"a": b"b"}}
        for key, value in theirs.items():
            client.hset(key, mapping=value)

        looked = project.run("rollback", "members", "--purge", "--dry-run", "--json")
        assert len(keys(three)) > ROWS
        purged = project.run("rollback", "members", "--purge", "--yes", "--json")

    assert (looked.exit, purged.exit) == (0, 0), purged.err
    assert keys(three) == theirs


def test_entries_expire_with_their_records(project: Project, three: RedisCluster) -> None:
    """
    A time to live from a column: record and entry end at one instant, and past ones are not there.
    """
    project.mapping("members", MAPPING % ", ttl: {column: ends}" + LOOKUPS)
    project.run("backfill", "members")
    change(project, "UPDATE customers SET ends = '2001-01-01 00:00:00' WHERE id = 2")

    ran = project.run("backfill", "members", "--json")

    assert (ran.exit, ran.json["expired"]) == (0, 1), ran.err
    with closing(three.client()) as client:
        assert client.exists("member:2") + client.exists("member-email:user2%40x") == 0
        assert abs(client.pttl("member:1") - client.pttl("member-email:user1@x")) < 1_000


def test_a_verification_knows_far_entries(project: Project, three: RedisCluster) -> None:
    """
    Both levels find every entry right; one that names somebody else and one too many are told.
    """
    project.run("backfill", "members")

    clean = [
        project.run("verify", "members", "--level", level, "--json") for level in ("full", "deep")
    ]
    assert [(ran.exit, ran.json["verdict"]) for ran in clean] == [(0, "PASS")] * 2, clean[0].err

    def on(key: str) -> Any:
        for node in three.masters:
            client = node.client()
            if list(client.scan_iter(key, 5_000)):
                return client
        raise AssertionError(key)

    on("member-email:user1@x").hset("member-email:user1@x", "id", "member:2")
    on("member-email:user3@x").delete("member-email:user3@x")

    ran = project.run("verify", "members", "--level", "full", "--json")

    assert (ran.exit, ran.json["kinds"]) == (3, {"lookup": 2}), ran.json
    assert {sample["key"] for sample in ran.json["samples"]} == {"member:1", "member:3"}
