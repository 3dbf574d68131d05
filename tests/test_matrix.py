"""
The main job on every supported pair of a source and a target: each row against its record.

What Redis should hold is worked out by `parity`, `profiles` and `people`, which share no code with
the writer: fields, children, further keys with all that they hold, and times to live. A key without
a row is a difference too, so that nothing can be left behind unseen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import MovedError

from tests import parity, people, profiles
from tests.edges import EVERY_REDIS, EVERY_SOURCE
from tests.people import People
from tests.project import Project
from tests.servers import Database, RedisServer, Servers, SqliteDatabase
from tests.topologies import cluster, sentinel_group

pytestmark = pytest.mark.containers

ROWS = 1_200
FEW = 240
CHANGES = 60
MOVED = "deleted_at IS NULL"
MAPPINGS = ("user_profiles", "people", "vouchers")
EVERY_TARGET = (*EVERY_REDIS, "sentinel", "cluster")

Held = dict[bytes, tuple[str, Any]]

every_source = pytest.mark.parametrize("any_source", EVERY_SOURCE, indirect=True)
every_target = pytest.mark.parametrize("target", EVERY_TARGET, indirect=True)


@dataclass(frozen=True, slots=True)
class Target:
    """
    A Redis of the matrix.

    Args:
        primaries: The servers that have its keys.

        keys: Of migrate.yaml, where a URL does not say it.
    """

    primaries: list[RedisServer]
    keys: str = ""

    def stored(self) -> dict[bytes, parity.Stored]:
        """
        Everything that it holds.
        """
        return parity.read_all([server.client() for server in self.primaries])

    def project(self, folder: Path, database: Database) -> Project:
        """
        A user's folder with all mappings, between this database and this Redis.
        """
        made = Project(folder, database.url, self.primaries[0].url, redis_keys=self.keys)
        made.shipped()
        made.mapping("people", people.MAPPING)
        made.mapping("vouchers", people.VOUCHERS)
        return made


@pytest.fixture(scope="module")
def targets(servers: Servers) -> Iterator[Callable[[str], Target]]:
    """
    Gives a target by its name, empty; the servers of the module are started when first asked for.
    """
    groups: dict[str, Target] = {}
    with ExitStack() as stack:

        def named(name: str) -> Target:
            if name in EVERY_REDIS:
                return Target([servers.redis(name)])
            if name not in groups and name == "sentinel":
                group = stack.enter_context(sentinel_group("main"))
                groups[name] = Target(list(group.masters.values()), group.yaml)
            elif name not in groups:
                made = stack.enter_context(cluster())
                groups[name] = Target(made.masters, made.yaml)
            for server in groups[name].primaries:
                server.client().flushall()
            return groups[name]

        yield named


@pytest.fixture(scope="module")
def first_held() -> dict[str, Held]:
    """
    What the first target of the module held, by the name of its source.
    """
    return {}


@pytest.fixture
def target(request: pytest.FixtureRequest, targets: Callable[[str], Target]) -> Iterator[Target]:
    """
    An empty Redis of the matrix.
    """
    found = targets(request.param)
    yield found
    for server in found.primaries:
        server.close_clients()


def filled(database: Database, rows: int) -> People:
    """
    All tables of the matrix, in this database.
    """
    if isinstance(database, SqliteDatabase):
        profiles.create_sqlite(database.path, rows)
    elif database.dialect == "mariadb":
        profiles.create_mariadb(database.execute, rows)
    else:
        profiles.create_postgres(database.execute, rows)
    made = People(database)
    made.create(rows)
    return made


def wanted(database: Database, made: People) -> Iterator[parity.Wanted]:
    """
    What Redis should hold of all rows.
    """
    for row in parity.rows_of(database.url, profiles.QUERY):
        yield parity.Wanted(profiles.key_of(row).encode(), row, profiles.TYPES)
    yield from made.wanted()


def copied(
    project: Project, *mappings: str, options: tuple[str, ...] = ()
) -> dict[str, dict[str, Any]]:
    """
    Run the main job for these mappings, or for all, and give its reports.
    """
    found = {}
    for name in mappings or MAPPINGS:
        ran = project.run("backfill", name, "--json", *options)
        assert (ran.exit, ran.json["complete"], ran.json["open_rejects"]) == (0, True, {}), ran.err
        found[name] = ran.json
    return found


def rewritten(reports: dict[str, Any]) -> dict[str, int]:
    """
    How many records each mapping wrote, or replaced.
    """
    return {name: said["written"] + said["replaced"] for name, said in reports.items()}


@every_source
@every_target
def test_every_row_is_its_record_and_stays_so(
    tmp_path: Path,
    request: pytest.FixtureRequest,
    any_source: Database,
    target: Target,
    first_held: dict[str, Held],
) -> None:
    """
    In both directions; a second run writes nothing, and one after changes exactly what changed.

    What a source has is the same bytes on every target, digests and further keys included.
    """
    source: str = request.node.callspec.params["any_source"]
    made = filled(any_source, ROWS)
    project = target.project(tmp_path / "user", any_source)

    first = copied(project)
    at_first = list(wanted(any_source, made))
    after_first = target.stored()
    again = copied(project)
    after_again = target.stored()
    made.change(CHANGES)
    changed = change_profiles(any_source)
    third = copied(project)

    assert parity.compare(at_first, after_first) == []
    assert sum(rewritten(first).values()) == len(at_first)
    assert rewritten(again) == dict.fromkeys(MAPPINGS, 0)
    assert bare(after_again) == bare(after_first)
    assert parity.compare(wanted(any_source, made), target.stored()) == []
    assert rewritten(third)["user_profiles"] == changed
    assert bare(after_first) == first_held.setdefault(source, bare(after_first))


def change_profiles(database: Database) -> int:
    """
    Change a tenth of the profiles and add one; how many that are.
    """
    chosen = f"{MOVED} AND id % 10 = 0"
    [(count,)] = database.query(f"SELECT count(*) FROM user_profiles WHERE {chosen}")
    database.execute(
        "UPDATE user_profiles SET display_name = NULL, bio = '', avatar = NULL, score = 1.25, "
        "follower_count = CASE WHEN follower_count = 7 THEN 8 ELSE 7 END WHERE id % 10 = 0"
    )
    zone = "" if database.dialect == "mariadb" else "+00"
    database.execute(
        "INSERT INTO user_profiles (id, email_address, created_at) "
        f"VALUES (-9007199254740993, 'né@example.org', '2024-02-29 23:59:59.999999{zone}')"
    )
    return int(count) + 1


def bare(stored: dict[bytes, parity.Stored]) -> Held:
    """
    Types and bytes of all keys, without times to live, which are known to the millisecond only.
    """
    return {key: (one.kind, one.value) for key, one in stored.items()}


@every_target
def test_keys_that_are_not_ours_cost_only_their_rows(
    tmp_path: Path, sqlite: SqliteDatabase, target: Target
) -> None:
    """
    Foreign keys in the places of records and lookups keep their bytes; all other rows are there.
    """
    made = filled(sqlite, FEW)
    project = target.project(tmp_path / "user", sqlite)
    records = {one.key: one for one in made.wanted() if one.entries and one.expires is None}
    [string, hash_] = [key for key in records if key.startswith(b"person:")][10:12]
    taken = next(one for one in list(records.values())[20:] if one.entries[0][0] == "u")
    run_on(target, "SET", string, "theirs")
    run_on(target, "HSET", hash_, "theirs", "1")
    run_on(target, "SADD", taken.entries[0][1], "theirs")
    foreign = {string, hash_, taken.entries[0][1]}
    before = {key: target.stored()[key] for key in foreign}

    ran = {name: project.run("backfill", name, "--json") for name in MAPPINGS}

    assert [said.exit for said in ran.values()] == [0, 3, 0]
    assert ran["people"].json["open_rejects"] == {"collision": 3}
    stored = target.stored()
    assert {key: stored.pop(key) for key in foreign} == before
    lost = {string, hash_, taken.key}
    assert parity.compare((o for o in wanted(sqlite, made) if o.key not in lost), stored) == []


@every_target
def test_a_changed_mapping_leaves_nothing_behind(
    tmp_path: Path, sqlite: SqliteDatabase, target: Target
) -> None:
    """
    With other record keys and one lookup less, old records and all their entries are gone.
    """
    made = People(sqlite)
    made.create(FEW)
    project = target.project(tmp_path / "user", sqlite)
    copied(project, "people")
    project.mapping("people", RENAMED)

    copied(project, "people", options=("--start-over",))

    assert parity.compare(renamed(made), target.stored()) == []


RENAMED = re.sub(r"  by_locale:.*\n", "", people.MAPPING.replace('"person:', '"human:'))


def renamed(made: People) -> Iterator[parity.Wanted]:
    """
    What Redis should hold of the people under `RENAMED`.
    """
    for one in made.wanted():
        if one.key.startswith(b"person:"):
            kept = [entry for entry in one.entries if not entry[1].startswith(b"people-locale:")]
            yield replace(one, key=one.key.replace(b"person:", b"human:", 1), entries=kept)


def run_on(target: Target, *words: Any) -> None:
    """
    Have the primary that owns the key run a command.
    """
    for server in target.primaries:
        try:
            server.client().execute_command(*words)
        except MovedError:
            continue
        return
    raise AssertionError("no primary owns the key")
