"""
A team's own test says whether SQL and Redis hold the same: the fixture `assert_parity`.

Each test here runs a pytest of its own, as a team would, on real stores.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.project import ROOT, Project, Ran, until_exit
from tests.servers import Database, RedisServer, SqliteDatabase

pytestmark = pytest.mark.slow

pytest_plugins = ["pytester"]

PLUGIN = "migrate.testing.plugin"
NAME = "profile_migrate"
VALUE = "nobody.should-see@this.example"
MAPPING = """
version: 1
name: people
source: {table: people, key: [id], where: "id > 0"}
target: {key: "person:{id}"}
fields: {id: {}, email: {}, born: {}}
"""
TABLE = "CREATE TABLE people (id INTEGER NOT NULL PRIMARY KEY, email VARCHAR(80), born DATE)"
ROWS = [f"INSERT INTO people VALUES ({n}, '{n}.{VALUE}', '2001-02-03')" for n in (1, 2, 3)]
CALL = "def test_people(assert_parity):\n    assert_parity('people'{})\n"

HEAVY = ("sqlalchemy", "redis", "pydantic", "click", "tqdm", "ruamel", "tenacity", "rq")


class Team:
    """
    A team's repository: configuration, mapping, tests.
    """

    def __init__(self, pytester: pytest.Pytester, source: str, redis: str) -> None:
        self.pytester = pytester
        self.project = Project(pytester.path, source, redis)
        self.project.mapping("people", MAPPING)

    def command(self, *arguments: str) -> Ran:
        """
        Run the program to its end, in a process of its own: pytester puts modules back.
        """
        with self.project.started(*arguments) as process:
            return until_exit(process)

    def tests(self, text: str) -> None:
        """
        Write the test file.
        """
        self.pytester.makepyfile(test_parity=text)

    def run(self, *arguments: str) -> pytest.RunResult:
        """
        Run pytest, every warning an error.
        """
        installed = {one.name for one in entry_points(group="pytest11")}
        named = () if NAME in installed else ("-p", PLUGIN)
        return self.pytester.runpytest_subprocess(
            *named, "-p", "no:cacheprovider", "-W", "error", "--showlocals", *arguments
        )

    def passes(self, *arguments: str) -> None:
        """
        Every test passes, and its end as well.
        """
        outcomes = self.run(*arguments).parseoutcomes()
        assert set(outcomes) == {"passed"}, outcomes

    def fails(self, *arguments: str) -> str:
        """
        One test fails; what pytest shows, from which no value and no password can be read.
        """
        result = self.run(*arguments)
        assert result.parseoutcomes() == {"failed": 1}
        shown = str(result.stdout) + str(result.stderr)
        assert VALUE not in shown
        assert "hunter2" not in shown
        return shown


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The package is found from a team's folder, and nothing else of ours is.
    """
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # There pytest repeats the whole text of a failure in its summary.
    monkeypatch.delenv("CI", raising=False)


@pytest.fixture
def people(sqlite: SqliteDatabase) -> SqliteDatabase:
    """
    Three people.
    """
    sqlite.execute(";".join([TABLE, *ROWS]))
    return sqlite


@pytest.fixture
def team(pytester: pytest.Pytester, people: SqliteDatabase, redis_server: RedisServer) -> Team:
    """
    A team whose three people are in SQLite.
    """
    return Team(pytester, people.url, redis_server.url)


def keys(server: RedisServer) -> list[str]:
    """
    The keys that are there, but for the fence, which goes by itself.
    """
    found = [key.decode() for key in server.client().keys("*")]
    return sorted(key for key in found if not key.startswith("profile-migrate:"))


# --- parity holds -------------------------------------------------------------------------------


def test_equal_stores_pass(team: Team, redis_server: RedisServer) -> None:
    """
    The test has the whole result and the records, which are gone afterwards.

    The project's own ledger is never made.
    """
    team.tests(f"""
        import redis

        def test_people(assert_parity):
            result = assert_parity("people")
            assert result["schema"] == "profile-migrate.verify/1"
            assert (result["verdict"], result["level"]) == ("PASS", "deep")
            assert result["scope"]["compared"] == result["scope"]["records_redis"] == 3
            with redis.Redis.from_url({redis_server.url!r}) as client:
                assert client.hget("person:2", "email") == b"2.{VALUE}"
    """)

    team.passes()

    assert keys(redis_server) == []
    assert not (team.project.folder / ".profile-migrate").exists()


def test_it_can_be_run_again_at_once(team: Team) -> None:
    """
    What a run leaves behind in Redis does not stop the next one.
    """
    team.tests(CALL.format(""))

    team.passes()
    team.passes()


def test_a_second_call_brings_redis_up_to_date(team: Team, people: SqliteDatabase) -> None:
    """
    Within a test the calls share a ledger: rows that changed between them are copied again.
    """
    team.tests(f"""
        import sqlite3

        def test_people(assert_parity):
            assert_parity("people")
            connection = sqlite3.connect({str(people.path)!r})
            with connection:
                connection.execute("UPDATE people SET born = NULL WHERE id = 1")
                connection.execute("INSERT INTO people VALUES (4, NULL, NULL)")
            connection.close()
            assert assert_parity("people")["scope"]["compared"] == 4
    """)

    team.passes()


def test_levels_and_workers(team: Team) -> None:
    """
    Each level passes on equal stores, and several processes do as well.
    """
    team.tests("""
        import pytest

        @pytest.mark.parametrize(
            "extra", [{"level": "count"}, {"level": "full"}, {"level": "sample", "sample": 2}]
        )
        def test_level(assert_parity, extra):
            assert assert_parity("people", **extra)["level"] == extra["level"]

        def test_workers(assert_parity):
            assert assert_parity("people", workers=2)["scope"]["compared"] == 3
    """)

    team.passes()


def test_records_may_stay(team: Team, redis_server: RedisServer) -> None:
    """
    With `purge=False` the records stay.

    The next test, which knows nothing of them, is refused, told what to do, and removes nothing.
    """
    team.tests(CALL.format(", purge=False"))
    team.passes()
    kept = keys(redis_server)

    team.tests(CALL.format(""))
    shown = team.fails()

    assert kept == keys(redis_server) == ["person:1", "person:2", "person:3"]
    assert "error[target-taken]" in shown
    assert "next:  Give each test a Redis, or a database number, of its own" in shown
    assert "--start-over" not in shown


def test_values_of_others_stay(team: Team, redis_server: RedisServer) -> None:
    """
    A key that somebody else holds fails the test as a reject, and is left as it was.
    """
    redis_server.client().set("person:2", "theirs")
    team.tests(CALL.format(""))

    shown = team.fails()

    assert "collision 1" in shown
    assert keys(redis_server) == ["person:2"]
    assert redis_server.client().get("person:2") == b"theirs"


@pytest.mark.parametrize("end", ["client.flushall()", "client.shutdown(nosave=True)"])
def test_a_redis_that_ends_first_is_no_error(
    pytester: pytest.Pytester,
    people: SqliteDatabase,
    redis_fresh: Callable[..., RedisServer],
    end: str,
) -> None:
    """
    A test, or a fixture that is taken down first, may empty or stop the server.
    """
    server = redis_fresh()
    team = Team(pytester, people.url, server.url)
    team.tests(f"""
        import redis

        def test_people(assert_parity):
            assert_parity("people")
            with redis.Redis.from_url({server.url!r}) as client:
                {end}
    """)

    team.passes()


# --- parity is broken ---------------------------------------------------------------------------


def test_a_rejected_row_fails(team: Team, people: SqliteDatabase) -> None:
    """
    A row that cannot become a record is named with its key, its column and its reason.
    """
    people.execute(f"INSERT INTO people VALUES (4, '4.{VALUE}', 'tomorrow')")
    team.tests(CALL.format(""))

    shown = team.fails()

    assert "people: MISMATCH, level deep. Compared 4 of 4 rows (100 %)" in shown
    assert "1 open reject" in shown
    assert "row 4: " in shown
    assert "born" in shown
    assert "Correct these rows, or how the mapping takes their columns" in shown
    assert "tomorrow" not in shown
    assert "test_parity.py:2: in test_people" in shown


def test_the_named_ledger_has_the_rejects(team: Team, people: SqliteDatabase) -> None:
    """
    The ledger that the failure names has the rejected rows, although the records are gone.
    """
    people.execute("INSERT INTO people VALUES (4, NULL, 'tomorrow')")
    team.tests(CALL.format(""))
    line = next(line for line in team.fails().splitlines() if "ledger:" in line)

    team.project.environment = {"PROFILE_MIGRATE_LEDGER_URL": line.split()[-1]}
    listed = team.command("rejects", "list", "people")

    assert listed.exit == 3
    assert "4" in listed.out


def test_a_changed_record_fails(team: Team, redis_server: RedisServer) -> None:
    """
    With `backfill=False` a record that was changed is named with what differs.

    It goes by the project's own ledger, and not one byte in Redis changes.
    """
    assert team.command("backfill", "people").exit == 0
    client = redis_server.client()
    client.hset("person:2", "email", f"changed.{VALUE}")
    client.delete("person:3")
    before = {key: client.dump(key) for key in client.keys("*")}
    team.tests(CALL.format(", backfill=False"))

    shown = team.fails()

    assert "verdicts:    missing 1, different 1, ok 1" in shown
    assert "fields:      email: value 1" in shown
    assert "missing person:3" in shown
    assert "different person:2 value email" in shown
    assert "next:        profile-migrate repair people --dry-run" in shown
    assert {key: client.dump(key) for key in client.keys("*")} == before


def test_no_rows_fail(team: Team, people: SqliteDatabase) -> None:
    """
    A mapping that selects nothing proves nothing, and the failure says so.
    """
    people.execute("UPDATE people SET id = -id")
    team.tests(CALL.format(""))

    shown = team.fails()

    assert "people: INCOMPLETE" in shown
    assert "Nothing was compared" in shown
    assert "Insert rows that the mapping selects before the call" in shown


def test_the_failure_carries_the_result(team: Team, people: SqliteDatabase) -> None:
    """
    It is an AssertionError, with the whole result for those who want more than its text.
    """
    people.execute("INSERT INTO people VALUES (4, NULL, 'tomorrow')")
    team.tests("""
        import pytest
        from migrate.testing import ParityBroken

        def test_people(assert_parity):
            with pytest.raises(AssertionError) as broken:
                assert_parity("people")
            assert isinstance(broken.value, ParityBroken)
            assert broken.value.result["exit_code"] == 3
            assert sum(broken.value.result["open_rejects"].values()) == 1
    """)

    team.passes()


def test_many_differences_stay_short(
    team: Team, people: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    Of many keys ten are shown, and how many more there are.
    """
    people.execute("INSERT INTO people VALUES (?, NULL, NULL)", *((n,) for n in range(4, 40)))
    assert team.command("backfill", "people").exit == 0
    redis_server.client().delete(*(f"person:{n}" for n in range(1, 31)))
    team.tests(CALL.format(", backfill=False"))

    shown = team.fails()

    assert shown.count(" missing person:") == 10
    assert "and 20 more" in shown


# --- it cannot be tried -------------------------------------------------------------------------

UNPROVEN = {
    "an unknown name": ("'peeple'", "error[unknown-mapping]: Unknown mapping 'peeple'."),
    "no such file": ("'people', config='none.yaml'", "none.yaml"),
    "a wrong level": ("'people', level='exact'", "Known: count, sample, full, deep."),
    "a sample of nothing": ("'people', level='sample'", "sample=1000"),
    "a wrong URL": ("'people', source='oracle://x/y'", "argument source: [unknown-scheme]"),
    "a wrong password": (
        "'people', redis='redis://:hunter2@127.0.0.1:1/0'",
        "error[target-unavailable]",
    ),
    "nothing to compare": ("'people', backfill=False", "Nothing of this mapping was ever backf"),
}


def test_what_cannot_be_tried_says_what_to_do(team: Team) -> None:
    """
    An error of the configuration, or a store that is away, is told in the words of the program.
    """
    tests = [
        f"""
def test_{case.replace(" ", "_")}(assert_parity):
    with pytest.raises(pytest.UsageError) as unproven:
        assert_parity({arguments})
    assert {said!r} in str(unproven.value)
    assert "next:" in str(unproven.value)
    assert "hunter2" not in str(unproven.value)
"""
        for case, (arguments, said) in UNPROVEN.items()
    ]
    team.tests("import pytest\n" + "".join(tests))

    team.passes()


def test_a_password_is_not_shown(
    pytester: pytest.Pytester, people: SqliteDatabase, redis_fresh: Callable[..., RedisServer]
) -> None:
    """
    A test that fails shows neither its arguments nor the password in a URL.
    """
    server = redis_fresh(requirepass="hunter2")
    team = Team(pytester, people.url, "redis://127.0.0.1:1/0")
    people.execute("INSERT INTO people VALUES (4, NULL, 'tomorrow')")
    (pytester.path / "url").write_text(f"redis://:hunter2@{server.host}:{server.port}/0")
    pytester.makeconftest("""
        import pathlib, pytest

        @pytest.fixture
        def url():
            return pathlib.Path("url").read_text()
    """)
    team.tests("""
        def test_people(url, assert_parity):
            assert_parity("people", redis=url)
    """)

    assert "ParityBroken: people: MISMATCH" in team.fails()


# --- where the configuration is -----------------------------------------------------------------


@pytest.fixture
def elsewhere(team: Team) -> Path:
    """
    The configuration in another place than the root folder, which has none.
    """
    place = team.project.folder / "ci" / "parity.yaml"
    place.parent.mkdir()
    text = (team.project.folder / "migrate.yaml").read_text() + "mappings: ../mappings\n"
    (team.project.folder / "migrate.yaml").unlink()
    place.write_text(text)
    return place


def test_the_configuration_is_named_in_pytests_own(team: Team, elsewhere: Path) -> None:
    """
    `profile_migrate_config` names it, from the root folder on.
    """
    team.pytester.makeini("[pytest]\nprofile_migrate_config = ci/parity.yaml\n")
    team.tests(CALL.format(""))

    team.passes()


def test_the_option_wins_over_pytests_own(team: Team, elsewhere: Path) -> None:
    """
    `--profile-migrate-config` names it for one run.
    """
    team.pytester.makeini("[pytest]\nprofile_migrate_config = none.yaml\n")
    team.tests(CALL.format(""))

    team.passes("--profile-migrate-config", "ci/parity.yaml")


def test_the_call_wins_over_the_option(team: Team, elsewhere: Path) -> None:
    """
    A test may name a configuration of its own.
    """
    team.tests(CALL.format(", config='ci/parity.yaml'"))

    team.passes("--profile-migrate-config", "none.yaml")


def test_no_configuration_is_needed_beside_urls(
    team: Team, people: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    With both URLs in the call, the mappings in the root folder are enough.
    """
    (team.project.folder / "migrate.yaml").unlink()
    team.tests(CALL.format(f", source={people.url!r}, redis={redis_server.url!r}"))

    team.passes()


def test_a_url_takes_the_place_of_the_whole_store(
    team: Team, people: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    Secrets and certificates that a pipeline does not have are not asked for.
    """
    (team.project.folder / "migrate.yaml").write_text(
        "version: 1\n"
        'source: {url: "postgresql://app@db/profiles", password_file: /run/secrets/none}\n'
        "redis:\n"
        '  target: {url: "rediss://cache:6380/3", password_file: /run/secrets/none,\n'
        "           username: app, tls: {ca_file: /none.pem}}\n"
        "throttle: {rows_per_second: 1}\n"
    )
    team.tests(CALL.format(f", source={people.url!r}, redis={redis_server.url!r}"))

    team.passes()


# --- the plugin itself --------------------------------------------------------------------------


def test_every_pytest_loads_it_for_nothing() -> None:
    """
    The module that each pytest on the machine imports brings no driver and no engine with it.
    """
    code = f"import json, sys, {PLUGIN}; print(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, check=True
    )

    loaded = {name.partition(".")[0] for name in json.loads(ran.stdout)}
    ours = {name for name in json.loads(ran.stdout) if name.startswith("migrate.")}

    assert loaded & set(HEAVY) == set()
    assert ours == {"migrate.testing", PLUGIN}


def test_the_distribution_declares_it() -> None:
    """
    The plugin is found by the entry point of the distribution.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert project["entry-points"]["pytest11"] == {NAME: PLUGIN}
    assert "Framework :: Pytest" in project["classifiers"]


# --- on servers ---------------------------------------------------------------------------------


@pytest.fixture(params=["postgres", "mariadb"])
def served(request: pytest.FixtureRequest) -> Database:
    """
    Three people on a server, with a password.
    """
    database: Database = request.getfixturevalue(request.param)
    for statement in (TABLE, *ROWS):
        database.execute(statement)
    return database


@pytest.mark.containers
def test_on_servers(pytester: pytest.Pytester, served: Database, redis_server: RedisServer) -> None:
    """
    The same holds for PostgreSQL and MariaDB: equal stores pass, a key of others fails.
    """
    team = Team(pytester, served.url, redis_server.url)
    team.tests(CALL.format(", workers=2"))
    team.passes()

    redis_server.client().set("person:1", "theirs")

    assert "collision 1" in team.fails()
