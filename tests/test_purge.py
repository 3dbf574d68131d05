"""
A purge removes what we wrote and nothing else, from every state, however often it is interrupted.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from migrate.errors import ExitCode
from migrate.ledger.store import Ledger
from migrate.mapping.digest import digest_of, seed_of
from migrate.mapping.files import load
from migrate.model.settings import SourceConfig
from migrate.model.shape import RecordShape
from migrate.model.values import Expiry, Fence, Record
from migrate.pipeline.sweep import Fate, Swept, count_left_behind, left_behind, total
from migrate.stages.purge import Purge
from migrate.target.fence import adopted_key, fence_key
from migrate.target.removal import FENCE_LASTS_S, NEEDED
from migrate.target.retry import SystemClock
from migrate.target.slots import slot_of
from migrate.target.store import RedisTarget
from tests.project import ROOT, Project, until_exit
from tests.servers import RedisServer, SqliteDatabase, wait_until
from tests.test_examples import FOLDER, SHOP
from tests.topologies import RedisCluster

pytestmark = pytest.mark.slow

ROWS = 120
PURGE = ("rollback", "people", "--purge", "--confirm", "people")
FENCE = b"profile-migrate:fence:people"

MAPPING = """
version: 1
name: people
source: {table: people, key: [id]}
target: {key: "person:{id}"}
fields: {name: {}, email: {}, city: {}}
lookups:
  by_email: {key: "person:email:{email}", unique: true}
  by_city: {type: set, key: "people:city:{city}"}
"""

OTHERS = """
version: 1
name: others
source: {table: people, key: [id]}
target: {key: "other:{id}"}
fields: {name: {}}
"""


@pytest.fixture
def project(tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer) -> Project:
    """
    A user's folder with a table of people, and a mapping with lookups.
    """
    sqlite.execute(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, email TEXT, city TEXT);"
        "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n "
        f"WHERE id < {ROWS}) INSERT INTO people SELECT id, 'P' || id, id || '@example.org', "
        "'City ' || (id % 3) FROM n",
    )
    made = Project(tmp_path / "project", sqlite.url, redis_server.url)
    made.mapping("people", MAPPING)
    return made


def contents(server: RedisServer) -> dict[bytes, str]:
    """
    Every key but fences with a digest of all that Redis would dump of it.
    """
    client = server.client()
    keys = [key for key in client.scan_iter(count=5_000) if b":fence:" not in key]
    found = {}
    for start in range(0, len(keys), 5_000):
        part = keys[start : start + 5_000]
        with client.pipeline(transaction=False) as pipe:
            for key in part:
                pipe.dump(key)
            for key, dumped in zip(part, pipe.execute(), strict=True):
                found[key] = sha256(dumped).hexdigest()
    return found


def backfill(project: Project) -> None:
    """
    All people into Redis.
    """
    assert project.run("backfill", "people").exit == ExitCode.DONE


def plant_neighbours(server: RedisServer, count: int) -> None:
    """
    Keys of others whose names look like ours, like patterns, or like no text at all.
    """
    client = server.client()
    with client.pipeline(transaction=False) as pipe:
        for n in range(count // 10):
            pipe.set(f"person:{n}x", n)
            pipe.set(f"person:[{n}]", n)
            pipe.rpush(f"person:{n}:*", n, "?")
            pipe.hset(f"person:%ZZ{n}", mapping={"_v": "1", "_h": "0" * 16, "n": n})
            pipe.set(b"person:\xff\x00%d" % n, b"\x00\xff")
            pipe.sadd(f"person:{n}?", "person:1")
            pipe.hset(f"Person:{n}", mapping={"_v": "1", "_h": "0" * 16})
            pipe.zadd(f"people:city:zset:{n}", {"person:1": n})
            pipe.hset(f"person:h{n}", mapping={"_v": "one", "_h": "0" * 16, "name": "x"})
            pipe.xadd(f"person:s{n}", {"_v": "1"}, id="1-1")
        pipe.set("person:*", "star")
        pipe.set("person:?", "any")
        pipe.set("person:\\", "backslash")
        pipe.set("person:", "nothing behind it")
        pipe.set("person:email:x@example.org", "not a key of ours")
        pipe.sadd("people:city:Foreign", "person:1", "someone else")
        pipe.execute()


def test_keys_of_others_keep_their_bytes(project: Project, redis_server: RedisServer) -> None:
    """
    Among 100,000 keys with neighbouring names nothing of ours is left, and theirs are the same.
    """
    project.mapping("others", OTHERS)
    plant_neighbours(redis_server, 100_000)
    project.run("backfill", "others")
    before = contents(redis_server)
    backfill(project)
    assert len(contents(redis_server)) == len(before) + 2 * ROWS + 3

    ran = project.run(*PURGE, "--json")

    assert ran.exit == ExitCode.DONE, ran.shown
    assert (ran.json["removed"], ran.json["changed"]) == (ROWS, 0)
    assert contents(redis_server) == before
    client = redis_server.client()
    assert client.hget(FENCE, "mode") == b"purged"
    assert 0 < client.ttl(FENCE) <= FENCE_LASTS_S


def test_running_it_twice_is_running_it_once(project: Project, redis_server: RedisServer) -> None:
    """
    The second time there is nothing to do, whether the fence is still there or gone.
    """
    backfill(project)
    assert project.run(*PURGE).exit == ExitCode.DONE

    for wait in (False, True):
        if wait:
            redis_server.client().delete(FENCE)
        again = project.run(*PURGE, "--json")
        assert (again.exit, again.json["nothing"]) == (ExitCode.DONE, True)

    assert contents(redis_server) == {}


def test_a_dry_run_changes_nothing(project: Project, redis_server: RedisServer) -> None:
    """
    It says what would go, and neither Redis, the fence nor the journal is another afterwards.
    """
    backfill(project)
    before = contents(redis_server), redis_server.client().dump(FENCE)

    ran = project.run("rollback", "people", "--purge", "--dry-run", "--json")

    assert (ran.exit, ran.json["removed"], ran.json["dry_run"]) == (ExitCode.DONE, ROWS, True)
    assert (contents(redis_server), redis_server.client().dump(FENCE)) == before
    assert project.run("journal", "show", "--json").json["entries"] == []


def test_nobody_is_purged_by_a_slip(project: Project, redis_server: RedisServer) -> None:
    """
    Without a terminal the name has to be given, and it has to be the right one.
    """
    backfill(project)
    before = contents(redis_server)

    assert project.run("rollback", "people").error == "usage"
    unasked = project.run("rollback", "people", "--purge")
    assert (unasked.exit, unasked.error) == (ExitCode.USAGE, "usage")
    assert "--confirm people" in unasked.err
    wrong = project.run("rollback", "people", "--purge", "--confirm", "peple")
    assert wrong.error == "usage"

    assert contents(redis_server) == before


@pytest.mark.parametrize(("typed", "code"), [("people", 0), ("peple", 4), ("", 4)])
def test_on_a_terminal_the_name_is_typed(
    project: Project, redis_server: RedisServer, typed: str, code: int
) -> None:
    """
    The plan is shown before; another name changes nothing.
    """
    backfill(project)
    ours, theirs = os.openpty()
    os.write(ours, f"{typed}\n".encode())

    ended = subprocess.run(
        [sys.executable, "-W", "error", "-m", "migrate", *PURGE[:3]],
        cwd=project.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=theirs,
        capture_output=True,
        text=True,
        check=False,
    )
    os.close(ours)
    os.close(theirs)

    assert ended.returncode == code, ended.stderr
    assert f"{ROWS}  records to remove" in ended.stderr
    assert bool(contents(redis_server)) == bool(code)


def test_what_others_changed_is_kept_and_reported(
    project: Project, redis_server: RedisServer
) -> None:
    """
    A record with another field, one without one, a look-alike: exit 3; --changed removes them too.
    """
    backfill(project)
    client = redis_server.client()
    client.hset("person:1", "note", "mine")
    client.hdel("person:2", "city")
    client.hset("person:like", mapping={"_v": "7", "_h": "0123456789abcdef"})

    ran = project.run(*PURGE, "--json")

    assert (ran.exit, ran.json["changed"]) == (ExitCode.DIFFERENCES, 3)
    assert sorted(ran.json["kept"]) == ["person:1", "person:2", "person:like"]
    left = set(contents(redis_server))
    assert {b"person:1", b"person:2", b"person:like"} <= left
    assert not [key for key in left if key.startswith(b"person:3")]
    assert project.run(*PURGE).exit == ExitCode.DIFFERENCES

    assert project.run(*PURGE, "--changed").exit == ExitCode.DONE
    assert contents(redis_server) == {}


def test_a_backfill_after_a_purge_begins_anew(project: Project, redis_server: RedisServer) -> None:
    """
    The fence of the purge is taken over by the next first run, and stays.
    """
    backfill(project)
    project.run(*PURGE)
    assert project.run("status", "people", "--json").json["mappings"][0]["state"] == "purged"

    backfill(project)

    assert redis_server.client().ttl(FENCE) == -1
    assert redis_server.client().hget(FENCE, "mode") == b"fwd"
    assert len(contents(redis_server)) == 2 * ROWS + 3


def test_a_backfill_after_a_purge_that_kept_records_is_not_held_up(
    project: Project, redis_server: RedisServer
) -> None:
    """
    A record that stayed with a higher revision does not look like a newer truth.
    """
    backfill(project)
    project.mapping("people", MAPPING.replace("name: {}, ", ""))
    assert project.run("backfill", "people", "--start-over").exit == ExitCode.DONE
    redis_server.client().hset("person:5", "note", "mine")
    assert project.run(*PURGE).exit == ExitCode.DIFFERENCES
    redis_server.client().delete(FENCE)

    backfill(project)

    assert redis_server.client().hget("person:6", "city") == b"City 0"


def test_adopted_values_get_their_keys_back(project: Project, redis_server: RedisServer) -> None:
    """
    With bytes, type and time to live; one whose key holds something else stays aside: exit 3.
    """
    backfill(project)
    client = redis_server.client()
    aside = "profile-migrate:adopted:people:"
    client.set(f"{aside}person:1", b"\x00old")
    client.rpush(f"{aside}person:2", "a", "b")
    client.expire(f"{aside}person:2", 1_000)
    client.delete("person:2")
    client.set(f"{aside}person:3", "old")
    client.set("person:3", "new")
    client.set("profile-migrate:adopted:people2:person:4", "of another mapping")

    ran = project.run(*PURGE, "--json")

    assert (ran.exit, ran.json["restored"], ran.json["taken"]) == (ExitCode.DIFFERENCES, 2, 1)
    assert client.get("person:1") == b"\x00old"
    assert client.lrange("person:2", 0, -1) == [b"a", b"b"]
    assert 900 < client.ttl("person:2") <= 1_000
    assert client.get("person:3") == b"new"
    assert client.get("profile-migrate:adopted:people2:person:4") == b"of another mapping"


def test_what_adopt_put_aside_comes_back_as_it_was(
    project: Project, redis_server: RedisServer
) -> None:
    """
    A backfill that adopts, and its purge, leave every key of others as they found it.
    """
    client = redis_server.client()
    client.set("person:1", b"\x00theirs")
    client.rpush("person:2", "a", "b")
    before = contents(redis_server)
    assert project.run("backfill", "people", "--adopt").exit == ExitCode.DONE
    assert client.hget("person:1", "name") == b"P1"

    ran = project.run(*PURGE, "--json")

    assert (ran.exit, ran.json["restored"]) == (ExitCode.DONE, 2)
    assert contents(redis_server) == before


def test_lookups_of_records_that_went_without_us_are_released(
    project: Project, redis_server: RedisServer
) -> None:
    """
    A record that was deleted by hand leaves its entries; foreign members and keys stay.
    """
    backfill(project)
    client = redis_server.client()
    client.delete("person:1", "person:2")
    client.sadd("people:city:Mixed", "person:1", "not ours")

    assert project.run(*PURGE, "--json").json["entries"] == 4

    assert set(contents(redis_server)) == {b"people:city:Mixed"}


def test_string_records_and_tombstones_go(project: Project, redis_server: RedisServer) -> None:
    """
    A JSON record is recognised by its digest; tombstones by being nothing else.
    """
    strings = MAPPING.partition("lookups:")[0].replace(
        'key: "person:{id}"', 'key: "person:{id}", type: string'
    )
    project.mapping("people", strings)
    backfill(project)
    client = redis_server.client()
    client.set("person:900", '{"_v":"1","_t":1}')
    client.set("person:901", '{"_v":"1","_t":1,"more":2}')
    client.set("person:902", client.get("person:1") or b"")
    client.set("person:903", b'{"_v":"1","_h":"0123456789abcdef"')

    ran = project.run(*PURGE, "--json")

    assert (ran.exit, ran.json["removed"]) == (ExitCode.DIFFERENCES, ROWS + 1)
    assert set(contents(redis_server)) == {b"person:901", b"person:902", b"person:903"}


def test_a_huge_hash_under_our_prefix_is_not_pulled(
    project: Project, redis_server: RedisServer
) -> None:
    """
    Its size is asked first: a million fields of somebody else cost nothing and stay.
    """
    backfill(project)
    client = redis_server.client()
    client.execute_command(
        "EVAL",
        "for i = 1, 60000 do redis.call('HSET', KEYS[1], i, i) end "
        "redis.call('HSET', KEYS[1], '_v', '1', '_h', '0123456789abcdef')",
        1,
        "person:huge",
    )

    ran = project.run(*PURGE, "--json")

    assert (ran.exit, ran.json["kept"]) == (ExitCode.DIFFERENCES, ["person:huge"])
    assert client.hlen("person:huge") == 60_002


@pytest.mark.parametrize("example", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_every_example_is_purged_whole(
    tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer, example: str
) -> None:
    """
    Children, JSON records, masks, lookups, instants: each record is known again by its digest.
    """
    sqlite.execute(SHOP)
    [name] = load(FOLDER / f"{example}.yaml")
    project = Project(tmp_path / "shop", sqlite.url, redis_server.url)
    project.mapping(name, (FOLDER / f"{example}.yaml").read_text())
    assert project.run("backfill", name).exit == ExitCode.DONE
    assert contents(redis_server)

    ran = project.run("rollback", name, "--purge", "--yes", "--json")

    assert (ran.exit, ran.json["changed"], ran.json["entries"]) == (ExitCode.DONE, 0, 0)
    assert contents(redis_server) == {}


# --- what is known -------------------------------------------------------------------------------


def forget(project: Project) -> None:
    """
    The ledger is lost.
    """
    shutil.rmtree(project.folder / ".profile-migrate")


def test_no_source_is_needed(project: Project, redis_server: RedisServer) -> None:
    """
    With the source away and the mapping's file gone, the ledger knows enough.
    """
    backfill(project)
    project.configure(source_url="postgresql://nobody@127.0.0.1:1/none")
    project.mapping("others", OTHERS)
    (project.folder / "mappings" / "people.yaml").unlink()

    ran = project.run(*PURGE)

    assert ran.exit == ExitCode.DONE, ran.err
    assert contents(redis_server) == {}


def test_a_lost_ledger_is_made_up_for_by_the_fence(
    project: Project, redis_server: RedisServer
) -> None:
    """
    The fence names the fingerprint and the file the rest; the source is not asked.
    """
    backfill(project)
    forget(project)
    project.configure(source_url="postgresql://nobody@127.0.0.1:1/none")

    ran = project.run(*PURGE, "--json")

    assert (ran.exit, ran.json["known_by"]) == (ExitCode.DONE, "fence"), ran.err
    assert contents(redis_server) == {}


def test_a_ledger_that_kept_no_shapes_is_made_up_for_by_the_file(
    project: Project, redis_server: RedisServer
) -> None:
    """
    As after an upgrade: the last fingerprint is known, and the rest is in the mapping's file.
    """
    backfill(project)
    path = project.folder / ".profile-migrate" / "ledger.db"
    config = SourceConfig("sqlite", database=str(path))
    with closing(Ledger(config, wall=time.time, sleep=time.sleep)) as ledger:
        ledger.forget_shapes("people", keep=[])
    project.configure(source_url="postgresql://nobody@127.0.0.1:1/none")

    ran = project.run(*PURGE, "--json")

    assert (ran.exit, ran.json["known_by"]) == (ExitCode.DONE, "ledger"), ran.err
    assert contents(redis_server) == {}


def test_without_ledger_and_fence_the_source_is_asked(
    project: Project, redis_server: RedisServer
) -> None:
    """
    The shape that a backfill would write now; where the source is away, it is refused.
    """
    backfill(project)
    forget(project)
    redis_server.client().delete(FENCE)
    url = project.source_url
    project.configure(source_url="postgresql://nobody@127.0.0.1:1/none")
    refused = project.run(*PURGE)
    assert (refused.exit, refused.error) == (ExitCode.REFUSED, "refused")
    project.configure(source_url=url)

    ran = project.run(*PURGE, "--json")

    assert (ran.exit, ran.json["known_by"]) == (ExitCode.DONE, "mapping")
    assert contents(redis_server) == {}


def test_a_name_that_nobody_knows_is_refused(project: Project) -> None:
    """
    Neither a file nor the ledger has it.
    """
    ran = project.run("rollback", "poeple", "--purge", "--yes")

    assert (ran.exit, ran.error) == (ExitCode.USAGE, "unknown-mapping")


def test_another_redis_is_not_purged(
    project: Project, redis_server: RedisServer, redis_fresh: Callable[..., RedisServer]
) -> None:
    """
    The ledger says where the records are; another address, or another run's fence, is refused.
    """
    backfill(project)
    project.configure(redis_url=redis_fresh().url)
    assert project.run(*PURGE).error == "target-changed"
    project.configure(redis_url=redis_server.url)
    redis_server.client().hset(FENCE, "run", "of somebody else")

    assert project.run(*PURGE).error == "target-taken"

    assert len(contents(redis_server)) == 2 * ROWS + 3


def test_records_of_earlier_mappings_go_as_well(
    project: Project, redis_server: RedisServer
) -> None:
    """
    Every shape that may still be there is known: of a run that is half done with another template.
    """
    plain = MAPPING.partition("lookups:")[0]
    project.mapping("people", plain)
    backfill(project)
    project.mapping("people", plain.replace("person:{id}", "human:{id}"))
    project.run("backfill", "people", "--start-over", "--limit", "50")
    assert len(contents(redis_server)) == ROWS + 50

    assert project.run(*PURGE).exit == ExitCode.DONE

    assert contents(redis_server) == {}


def test_a_user_who_may_do_no_more_than_is_said_can_purge(
    project: Project, redis_fresh: Callable[..., RedisServer]
) -> None:
    """
    The commands that the documents name are enough, and each of them is named.
    """
    server = redis_fresh()
    project.configure(redis_url=server.url)
    backfill(project)
    spoil(server)
    rights = " ".join(f"+{name}" for name in NEEDED)
    assert rights in (ROOT / "runbooks" / "purge-a-target.md").read_text()
    server.client().execute_command(
        "ACL", "SETUSER", "purger", "on", ">pass", "resetkeys", "~profile-migrate:*",
        "~person:*", "~people:*", "-@all", "+ping", "+client|setname", *rights.split(),
    )  # fmt: skip
    address = server.url.removeprefix("redis://")
    project.configure(redis_url=f"redis://purger:pass@{address}")

    ran = project.run(*PURGE)

    assert ran.exit == ExitCode.DONE, ran.shown
    assert set(contents(server)) == {b"person:1", b"person:2"}


# --- who else is at it ---------------------------------------------------------------------------


def test_a_run_that_holds_the_mapping_is_not_disturbed(
    project: Project, redis_server: RedisServer
) -> None:
    """
    Exit 7 names the holder, and nothing is removed.
    """
    backfill(project)
    ledger = Ledger(
        SourceConfig("sqlite", database=str(project.folder / ".profile-migrate" / "ledger.db")),
        wall=time.time,
        sleep=time.sleep,
    )
    with closing(ledger):
        lock = ledger.lock("people")
        ran = project.run(*PURGE)
        ledger.unlock(lock)

    assert (ran.exit, ran.error) == (ExitCode.LOCKED, "lock-held")
    assert len(contents(redis_server)) == 2 * ROWS + 3


def test_a_backfill_does_not_begin_while_a_purge_is_unfinished(
    project: Project, redis_server: RedisServer
) -> None:
    """
    A closed fence is refused with the command that finishes the purge.
    """
    backfill(project)
    redis_server.client().hset(FENCE, "mode", "closed")

    ran = project.run("backfill", "people")

    assert ran.exit == ExitCode.REFUSED
    assert "rollback people --purge" in ran.err


def test_a_stopped_worker_that_goes_on_afterwards_writes_nothing(
    tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer, project: Project
) -> None:
    """
    A real backfill is stopped by SIGSTOP, its parent killed, all purged, and it is let go on.
    """
    sqlite.execute(
        "WITH RECURSIVE n(id) AS (SELECT 1000 UNION ALL SELECT id + 1 FROM n WHERE id < 60000) "
        "INSERT INTO people SELECT id, 'P' || id, id || '@example.org', 'City' FROM n"
    )
    client = redis_server.client()
    with project.started("backfill", "people", "--workers", "2") as process:
        wait_until(lambda: client.dbsize() > 3_000, "records", timeout_s=60)
        workers = children_of(process.pid)
        stop_between_saves(workers, project.folder / ".profile-migrate" / "ledger.db")
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
        before = client.dbsize()
        assert 3_000 < before < 100_000

        ran = project.run(*PURGE, "--json")
        assert ran.exit == ExitCode.DONE, ran.shown
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        wait_until(lambda: not any(map(alive, workers)), "the workers' end", timeout_s=60)

    assert client.keys() == [FENCE]
    assert client.hget(FENCE, "mode") == b"purged"


def stop_between_saves(workers: Sequence[int], ledger: Path) -> None:
    """
    Stop processes at a moment at which none of them holds the ledger, which has one writer.
    """
    for _ in range(100):
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        try:
            with closing(sqlite3.connect(ledger, timeout=0.2)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.rollback()
        except sqlite3.OperationalError:
            for pid in workers:
                os.kill(pid, signal.SIGCONT)
        else:
            return
    raise AssertionError("the workers hold the ledger all the time")


def children_of(pid: int) -> list[int]:
    """
    The workers of a program: its children that are Python spawned for work.
    """
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == pid and b"spawn_main" in command:
            found.append(int(stat.parent.name))
    return found


def alive(pid: int) -> bool:
    """
    Whether a process runs, zombies not counted.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_cluster_is_purged_slot_by_slot(project: Project, redis_cluster: RedisCluster) -> None:
    """
    Records and values aside of every slot; each fence is closed, and goes by itself.
    """
    project.mapping("people", MAPPING.partition("lookups:")[0])
    project.configure(redis_keys=redis_cluster.yaml)
    backfill(project)
    client = redis_cluster.client()

    def size() -> int:
        return sum(node.client().dbsize() for node in redis_cluster.masters)

    slot = slot_of(b"person:1")
    client.set(adopted_key("people", b"person:1", slot), "old")
    client.set("person:1x:2", "theirs")
    before = size()

    ran = project.run(*PURGE, "--json")

    assert (ran.exit, ran.json["removed"], ran.json["restored"]) == (ExitCode.DONE, ROWS, 1)
    left = set(client.scan_iter("person:*", count=1_000))
    assert left == {b"person:1", b"person:1x:2"}
    assert client.get("person:1") == b"old"
    assert size() == before - ROWS
    assert client.hget(fence_key("people", slot), "mode") == b"purged"
    backfill_again = project.run("backfill", "people")
    assert backfill_again.exit == ExitCode.DIFFERENCES, "person:1 is taken again"
    assert client.ttl(fence_key("people", slot)) == -1


# --- interrupted ---------------------------------------------------------------------------------


class Died(BaseException):
    """
    The process ends here.
    """


@dataclass
class Fuse:
    """
    Ends the process before or after the n-th call that changes something.
    """

    at: int = 0
    after: bool = False
    calls: int = 0

    def __call__(self, work: Callable[..., Any], *args: Any, **named: Any) -> Any:
        self.calls += 1
        if self.calls == self.at and not self.after:
            raise Died
        answer = work(*args, **named)
        if self.calls == self.at:
            raise Died
        return answer


class Wired:
    """
    Stands before an object and sends some of its methods through a fuse.
    """

    def __init__(self, inner: Any, fuse: Fuse, *names: str) -> None:
        self.inner, self.fuse, self.names = inner, fuse, names

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if name not in self.names:
            return found
        return lambda *args, **named: self.fuse(found, *args, **named)


class SmallPages(Wired):
    """
    A remover whose pages are small, so that there are many places to die at.
    """

    def scan(self, prefix: bytes) -> Iterator[list[bytes]]:
        for page in self.inner.scan(prefix):
            for start in range(0, len(page), 100):
                yield page[start : start + 100]


class WiredTarget(Wired):
    """
    A target whose remover is wired as well.
    """

    def remover(self, mapping: str, fence: Fence | None) -> SmallPages:
        return SmallPages(
            self.inner.remover(mapping, fence), self.fuse, "remove", "put_back", "release"
        )


def purge_through(project: Project, server: RedisServer, fuse: Fuse) -> None:
    """
    The purge of the program, its stores behind a fuse.
    """
    path = project.folder / ".profile-migrate" / "ledger.db"
    ledger = Ledger(SourceConfig("sqlite", database=str(path)), wall=time.time, sleep=time.sleep)
    with closing(ledger), RedisTarget.open(server.config()) as target:
        job = Purge(
            "people",
            load(project.folder / "mappings")["people"],
            WiredTarget(target, fuse, "close_fence", "expire_fence"),
            Wired(ledger, fuse, "note", "forget_mapping"),  # type: ignore[arg-type]
            shape_of=lambda _: pytest.fail("the ledger knows"),
            stop=lambda: None,
        )
        for _ in job.run():
            continue


def spoil(server: RedisServer) -> None:
    """
    Values aside, with and without a record in their place, and entries without a record.
    """
    client = server.client()
    client.set("profile-migrate:adopted:people:person:1", "old")
    client.set("profile-migrate:adopted:people:person:2", "older")
    client.delete("person:2", "person:3")


def test_killed_at_any_step_it_ends_the_same(project: Project, redis_server: RedisServer) -> None:
    """
    Before and after each call that changes something; the next run finishes, the one after rests.
    """
    backfill(project)
    spoil(redis_server)
    whole = Fuse()
    purge_through(project, redis_server, whole)
    expected = contents(redis_server)
    assert set(expected) == {b"person:1", b"person:2"}
    assert whole.calls >= 9

    for at in range(1, whole.calls + 1):
        for after in (False, True):
            redis_server.client().flushall()
            forget(project)
            backfill(project)
            spoil(redis_server)
            with pytest.raises(Died):
                purge_through(project, redis_server, Fuse(at, after))

            ran = project.run(*PURGE)

            assert ran.exit == ExitCode.DONE, f"call {at}, after: {after}\n{ran.shown}"
            assert contents(redis_server) == expected
            assert redis_server.client().hget(FENCE, "mode") == b"purged"
            assert project.run("journal", "verify").exit == ExitCode.DONE
            last = project.run("journal", "show", "--json").json["entries"][-1]
            assert (last["step"], last["phase"]) == ("purge", "done")
            known = project.run("status", "people", "--json").json["mappings"][0]["state"]
            assert known == "purged"


def test_kill_9_in_the_middle_loses_nothing_but_time(
    project: Project, sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    A real process, killed while records go: what is left goes with the same command.
    """
    sqlite.execute(
        "WITH RECURSIVE n(id) AS (SELECT 1000 UNION ALL SELECT id + 1 FROM n WHERE id < 11000) "
        "INSERT INTO people SELECT id, 'P' || id, id || '@example.org', 'City' FROM n"
    )
    backfill(project)
    client = redis_server.client()
    client.set("person:foreign:1", "x")
    full = client.dbsize()
    with project.started(*PURGE) as process:
        wait_until(lambda: client.dbsize() < full - 500, "removals", timeout_s=60)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
    assert client.dbsize() > 2
    assert client.hget(FENCE, "mode") == b"closed"

    assert project.run(*PURGE).exit == ExitCode.DONE

    assert set(client.keys()) == {FENCE, b"person:foreign:1"}


def test_ctrl_c_stops_between_pages(
    project: Project, sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    Exit 130, journalled as failed; the same command continues.
    """
    sqlite.execute(
        "WITH RECURSIVE n(id) AS (SELECT 1000 UNION ALL SELECT id + 1 FROM n WHERE id < 11000) "
        "INSERT INTO people SELECT id, 'P' || id, id || '@example.org', 'City' FROM n"
    )
    backfill(project)
    client = redis_server.client()
    full = client.dbsize()
    with project.started(*PURGE) as process:
        wait_until(lambda: client.dbsize() < full - 500, "removals", timeout_s=60)
        os.kill(process.pid, signal.SIGINT)
        ended = until_exit(process)

    assert ended.exit == ExitCode.INTERRUPTED, ended
    assert "Run the same command to continue." in ended.err
    last = project.run("journal", "show", "--json").json["entries"][-1]
    assert (last["phase"], last["payload"]["error"]) == ("failed", "stopped")
    assert project.run(*PURGE).exit == ExitCode.DONE
    assert client.keys() == [FENCE]


# --- what a changed mapping leaves behind --------------------------------------------------------

OLD = RecordShape("ab" * 16, "user:{id}", revision=1)
NEW = RecordShape("cd" * 16, "user:{id}", revision=2)
MOVED = RecordShape("cd" * 16, "member:{id}", revision=2)


def made(shape: RecordShape, number: int, version: int | None = None) -> Record:
    """
    A sound record of a shape.
    """
    key = shape.template.replace("{id}", str(number)).encode()
    fields = ((b"a", b"%d" % number), (b"b", b"x"))
    digest = digest_of(seed_of(shape.fingerprint), key, fields)
    flat = tuple(part for pair in fields for part in pair)
    return Record(key, str(version or shape.revision).encode(), digest, flat)


def begun(target: RedisTarget, shape: RecordShape) -> Fence:
    """
    A run of a shape over whatever was there before.
    """
    return target.begin(
        "users",
        run=f"run {shape.fingerprint}",
        expected=None,
        generation=0,
        revision=shape.revision,
        fingerprint=shape.fingerprint,
        start_over=True,
    )


def write(target: RedisTarget, shape: RecordShape, numbers: Sequence[int]) -> Fence:
    """
    Records of a shape, by the program's own loader.
    """
    fence = begun(target, shape)
    target.loader("users", fence, shape).write([made(shape, number) for number in numbers])
    return fence


def swept(target: RedisTarget, fence: Fence | None, current: RecordShape, **more: Any) -> Swept:
    """
    What is left behind, gone.
    """
    return total(
        left_behind(
            target,
            [OLD],
            current,
            fence,
            mapping="users",
            stop=lambda: None,
            clock=SystemClock(),
            **more,
        )
    )


def test_records_under_an_old_template_go(redis_server: RedisServer) -> None:
    """
    All of them that are ours; neighbours with glob characters, and what others changed, stay.
    """
    client = redis_server.client()
    with RedisTarget.open(redis_server.config()) as target:
        write(target, OLD, range(300))
        client.set("user:*", "star")
        client.set("user:[1]", "bracket")
        client.hset("user:7", "note", "mine")
        fence = write(target, MOVED, range(300))

        found = swept(target, fence, MOVED)

    assert found.fates == {Fate.REMOVED: 299, Fate.CHANGED: 1}
    assert found.kept == (b"user:7",)
    assert set(client.scan_iter("user:*")) == {b"user:*", b"user:[1]", b"user:7"}
    assert len(client.keys("member:*")) == 300


def test_records_without_a_row_become_tombstones(redis_server: RedisServer) -> None:
    """
    Under the same template an older revision was not replaced: the row is gone, or was rejected.
    """
    client = redis_server.client()
    with RedisTarget.open(redis_server.config()) as target:
        write(target, OLD, range(10))
        client.hset("user:9", mapping={"_v": "5000000000000"})
        fence = write(target, NEW, range(5))

        counted = swept(target, None, NEW)
        found = swept(target, fence, NEW, rejected=lambda key: key == b"user:6")
        again = swept(target, fence, NEW)

    assert counted.fates == {Fate.BURIED: 4}
    assert found.fates == {Fate.BURIED: 3, Fate.REMOVED: 1}
    assert client.hgetall("user:5") == {b"_v": b"2", b"_t": b"1"}
    assert client.exists("user:6") == 0
    assert client.hget("user:4", "a") == b"4"
    assert client.hget("user:9", "_v") == b"5000000000000"
    assert again.fates == {}


def test_a_sweep_behind_a_fence_that_moved_on_changes_nothing(redis_server: RedisServer) -> None:
    """
    The run that sweeps must be the one that writes.
    """
    with RedisTarget.open(redis_server.config()) as target:
        fence = write(target, OLD, range(10))
        begun(target, MOVED)
        before = contents(redis_server)

        with pytest.raises(Exception, match="of another run"):
            swept(target, fence, MOVED)

    assert contents(redis_server) == before


def test_counting_changes_nothing_and_needs_no_fence(redis_server: RedisServer) -> None:
    """
    Before a run: what goes in any case, and what is older than the run's revision.
    """
    with RedisTarget.open(redis_server.config()) as target:
        write(target, OLD, range(10))
        before = contents(redis_server)

        moved = count_left_behind(
            target, [OLD], MOVED, mapping="users", stop=lambda: None, clock=SystemClock()
        )
        changed = count_left_behind(
            target, [OLD], NEW, mapping="users", stop=lambda: None, clock=SystemClock()
        )

    assert (moved.fates, changed.fates) == ({Fate.REMOVED: 10}, {Fate.BURIED: 10})
    assert contents(redis_server) == before


def test_an_instant_from_a_column_is_covered(redis_server: RedisServer) -> None:
    """
    A record whose instant was changed by hand does not verify; one with a shared instant does.
    """
    column = RecordShape("ab" * 16, "user:{id}", expiry=Expiry.COLUMN)
    fixed = RecordShape("ab" * 16, "user:{id}", expiry=Expiry.FIXED)
    instant = b"4000000000000"
    client = redis_server.client()
    for number, covered in ((1, (b"_e", instant)), (2, None)):
        key = b"user:%d" % number
        digest = digest_of(seed_of(column.fingerprint), key, [(b"a", b"1")], covered)
        client.hset(key, mapping={"_v": "1", "_h": digest, "a": "1", "_e": instant})

    with RedisTarget.open(redis_server.config()) as target:
        remover = target.remover("users", None)
        read = [one for page in remover.read([b"user:1", b"user:2"], column) for one in page]

    from migrate.pipeline.sweep import Verdict, judge

    assert [judge(one, [column]) for one in read] == [Verdict.RECORD, Verdict.CHANGED]
    assert [judge(one, [fixed]) for one in read] == [Verdict.CHANGED, Verdict.RECORD]
