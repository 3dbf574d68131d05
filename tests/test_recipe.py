"""
The recipe of docs/ci.md, carried out: its workflow step by step, its shell, its test.

A step runs as GitHub Actions runs it, by `bash -e`, in a team's empty folder. Services are servers
of ours, whose URLs take the place of those in the workflow; the program is the one under test
instead of a release, and actions of others (checkout, upload) are left out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.project import ROOT, SHIPPED, Ran
from tests.servers import IMAGES, Database, Missing, RedisServer, SqliteDatabase

pytestmark = pytest.mark.slow

FOLDER = ROOT / "docs" / "ci"
RECIPE = FOLDER / "profile-parity.yml"
PAGE = ROOT / "docs" / "ci.md"
OWN = ROOT / ".github" / "workflows" / "ci.yml"
MAPPING = "user_profiles"

SCHEMA = """
CREATE TABLE user_profiles (
  id INTEGER NOT NULL PRIMARY KEY, email_address VARCHAR(80), display_name VARCHAR(80),
  locale VARCHAR(10), bio VARCHAR(200), birth_date DATE, score NUMERIC(12, 4),
  follower_count INTEGER, rating DOUBLE PRECISION, is_verified BOOLEAN, created_at TIMESTAMP,
  updated_at TIMESTAMP, settings VARCHAR(200), avatar {bytes}, password_hash VARCHAR(80),
  deleted_at TIMESTAMP
);
"""
SEED = """
INSERT INTO user_profiles (id, email_address, birth_date, score, is_verified, created_at) VALUES
  (1, 'ada@example.org', '1815-12-10', 12.5, TRUE, '2024-02-29 12:00:00'),
  (2, NULL, NULL, NULL, NULL, NULL),
  (3, '', '1999-12-31', -0.0001, FALSE, '1970-01-01 00:00:00');
INSERT INTO user_profiles (id, email_address, deleted_at) VALUES (4, 'gone', '2024-01-01 00:00:00');
"""
REJECTED = "INSERT INTO user_profiles (id, birth_date) VALUES (5, {bad});\n"
"""One more row, for which there is no record."""

KEYS = {
    "workflow": {"name", "on", "permissions", "concurrency", "env", "jobs"},
    "job": {"runs-on", "timeout-minutes", "strategy", "services", "env", "steps"},
    "service": {"image", "env", "ports", "options"},
    "step": {"name", "uses", "with", "run", "if", "env"},
}
"""What GitHub Actions knows, as far as it is used here: any other key would be a typing error."""


def read(path: Path) -> dict[str, Any]:
    """
    A workflow file.
    """
    found: dict[str, Any] = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    return found


def fenced(language: str) -> Iterator[str]:
    """
    The blocks of docs/ci.md in a language.
    """
    text = PAGE.read_text(encoding="utf-8")
    yield from re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@dataclass(slots=True)
class Repository:
    """
    A team's repository in a pipeline.

    Args:
        between: Done before a step of this name.
    """

    folder: Path
    database: Database
    redis: RedisServer
    between: dict[str, Callable[[], object]] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        sqlite = self.database.dialect == "sqlite"
        self.write("mappings/user_profiles.yaml", SHIPPED.read_text(encoding="utf-8"))
        self.write("ci/migrate.yaml", (FOLDER / "migrate.yaml").read_text(encoding="utf-8"))
        self.write("db/schema.sql", SCHEMA.replace("{bytes}", "BLOB" if sqlite else "BYTEA"))
        self.write("db/seed.sql", SEED)
        self.write("bin/profile-migrate", f'#!/bin/sh\nexec "{sys.executable}" -m migrate "$@"\n')
        (self.folder / "bin" / "profile-migrate").chmod(0o755)

    def write(self, name: str, text: str) -> None:
        """
        A file of the repository.
        """
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def reject_a_row(self) -> None:
        """
        Seed a row that cannot be moved.
        """
        if self.database.dialect == "sqlite":
            self.write("db/seed.sql", SEED + REJECTED.replace("{bad}", "'tomorrow'"))
            return
        # PostgreSQL takes no date that is none; the place of the record may still be taken.
        self.write("db/seed.sql", SEED + REJECTED.replace("{bad}", "NULL"))
        client = self.redis.client()
        self.between["Backfill"] = lambda: client.set("profile:5", "theirs")

    def environment(self, **more: str) -> dict[str, str]:
        """
        What every step sees, and nothing of the machine's that could help it.
        """
        found = {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder),
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error",
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary.md"),
        }
        return {**found, **more}

    def bash(self, script: str, **environment: str) -> Ran:
        """
        Run a script as Actions does.
        """
        path = self.folder / "step.sh"
        path.write_text(script, encoding="utf-8")
        ended = subprocess.run(
            ["bash", "-e", str(path)],
            cwd=self.folder,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            check=False,
        )
        return Ran(ended.returncode, ended.stdout, ended.stderr)

    def workflow(self) -> tuple[str, Ran]:
        """
        Carry the workflow out; the step at which it ended, and how.
        """
        (job,) = read(RECIPE)["jobs"].values()
        (name,) = job["strategy"]["matrix"]["mapping"]
        environment = {
            key: str(value).replace("${{ matrix.mapping }}", name)
            for key, value in job["env"].items()
        }
        # psql knows no drivers.
        url = self.database.url.replace("+psycopg", "")
        environment["PROFILE_MIGRATE_SOURCE_URL"] = url
        environment["PROFILE_MIGRATE_REDIS_TARGET_URL"] = self.redis.url
        last = ("", Ran(1, "", ""))
        for step in job["steps"]:
            if "run" not in step:
                continue
            self.between.get(step["name"], lambda: None)()
            last = (step["name"], self.step(step, environment))
            self.ran.append(step["name"])
            if last[1].exit:
                break
        return last

    def step(self, step: dict[str, Any], environment: dict[str, str]) -> Ran:
        """
        One step; the program is not installed, and SQLite is loaded without a client.
        """
        script: str = step["run"]
        assert "${{" not in script, "an expression in a script is a way to run what it holds"
        if script.startswith("pip install "):
            return Ran(0, "", "")
        if script.startswith("psql ") and isinstance(self.database, SqliteDatabase):
            for name in re.findall(r"--file (\S+)", script):
                self.database.execute((self.folder / name).read_text(encoding="utf-8"))
            return Ran(0, "", "")
        if script.startswith("psql ") and not shutil.which("psql"):
            raise Missing("The recipe loads rows by psql: install the client of PostgreSQL.")
        return self.bash(script, **environment)

    def found(self, name: str) -> str:
        """
        What a step wrote.
        """
        return (self.folder / name).read_text(encoding="utf-8")

    def suite(self) -> ET.Element:
        """
        The JUnit file, read.
        """
        return ET.fromstring(self.found("parity.xml"))  # noqa: S314  written by the step before


@pytest.fixture(params=["sqlite", pytest.param("postgres-17", marks=pytest.mark.containers)])
def repository(
    request: pytest.FixtureRequest, servers: Any, redis_server: RedisServer, tmp_path: Path
) -> Iterator[Repository]:
    """
    A team's repository with a database of its own: in a file, and in the image of the workflow.
    """
    folder = tmp_path / "repository"
    folder.mkdir()
    if request.param == "sqlite":
        yield Repository(folder, SqliteDatabase(tmp_path / "source.db"), redis_server)
        return
    with servers.postgres(request.param).database() as database:
        yield Repository(folder, database, servers.redis("redis-8.0"))


# --- the workflow -------------------------------------------------------------------------------


def test_the_workflow_passes(repository: Repository) -> None:
    """
    Every step ends with 0, and JUnit, summary and page say that both stores hold the same.
    """
    step, ended = repository.workflow()

    assert (step, ended.exit) == ("Verify", 0), ended.err
    suite = repository.suite()
    assert (suite.get("failures"), suite.get("errors")) == ("0", "0")
    assert "PASS: user" in repository.found("summary.md").replace("&#95;", "_")
    assert "PASS" in repository.found("parity.html")
    assert repository.redis.client().hget("profile:1", "email") == b"ada@example.org"
    assert not repository.redis.client().exists("profile:4")


def test_a_row_that_cannot_be_moved_fails_the_workflow(repository: Repository) -> None:
    """
    It fails with 3 at its last step, not before, so that the JUnit file names the reason.
    """
    repository.reject_a_row()

    step, ended = repository.workflow()

    assert (step, ended.exit) == ("Verify", 3), ended.err
    suite = repository.suite()
    failed = [case for case in suite.iter("testcase") if case.find("failure") is not None]
    assert [case.get("name") for case in failed] == ["open rejects"]
    reason = "bad-date" if repository.database.dialect == "sqlite" else "collision"
    assert f"{reason}: 1" in ET.tostring(failed[0], encoding="unicode")
    assert "MISMATCH" in repository.found("summary.md")


def test_a_record_that_differs_fails_the_workflow(repository: Repository) -> None:
    """
    What somebody else wrote into a record fails with 3, and the JUnit file names key and field.
    """
    client = repository.redis.client()
    repository.between["Verify"] = lambda: client.hset("profile:3", "email", "other")

    step, ended = repository.workflow()

    assert (step, ended.exit) == ("Verify", 3), ended.err
    assert "profile:3 value email" in repository.found("parity.xml")
    assert "other" not in repository.found("parity.html").replace("another", "")


def test_a_defective_mapping_stops_the_workflow(repository: Repository) -> None:
    """
    A mapping that cannot be read ends the job with 2 before anything is written.
    """
    text = SHIPPED.read_text(encoding="utf-8").replace("email_address", "email_address, as: datum")
    repository.write("mappings/user_profiles.yaml", text)

    step, ended = repository.workflow()

    assert (step, ended.exit) == ("Check the mappings", 2)
    assert repository.redis.client().dbsize() == 0


def test_a_column_that_is_gone_stops_the_workflow(repository: Repository) -> None:
    """
    A mapping that no longer fits the schema ends the job at the check of the servers.
    """
    schema = repository.found("db/schema.sql")
    repository.write("db/schema.sql", schema.replace("follower_count", "followers"))

    step, ended = repository.workflow()

    assert step == "Check the servers"
    assert ended.exit
    assert "follower_count" in ended.out + ended.err


def test_no_rows_fail_the_workflow(repository: Repository) -> None:
    """
    A seed that leaves nothing to compare ends with 5, and not with success.
    """
    repository.write("db/seed.sql", "DELETE FROM user_profiles;\n")

    step, ended = repository.workflow()

    assert (step, ended.exit) == ("Verify", 5), ended.err
    assert "<error" in repository.found("parity.xml")


# --- the page -----------------------------------------------------------------------------------


def test_the_shell_of_the_page_works(repository: Repository) -> None:
    """
    The script for any other pipeline ends with 0 where all is equal, and with 3 where it is not.
    """
    (script,) = fenced("bash")
    for name in ("schema", "seed"):
        for statement in filter(str.strip, repository.found(f"db/{name}.sql").split(";")):
            repository.database.execute(statement)
    urls = {"SOURCE_URL": repository.database.url, "REDIS_URL": repository.redis.url}

    passed = repository.bash(script, **urls)
    repository.redis.client().delete("profile:2")
    failed = repository.bash(script.replace("profile-migrate backfill", "true"), **urls)

    assert passed.exit == 0, passed.err
    assert failed.exit == 3, failed.err
    assert "missing" in repository.found("parity.xml")


def test_the_test_of_the_page_works(tmp_path: Path, redis_server: RedisServer) -> None:
    """
    The files that the page shows are a test that passes, and that fails on a rejected row.
    """
    repository = Repository(tmp_path, SqliteDatabase(tmp_path / "none.db"), redis_server)
    for block in [*fenced("python"), *fenced("yaml")]:
        name = block.partition("\n")[0].removeprefix("# ")
        repository.write(name, block)
    installed = {one.name for one in entry_points(group="pytest11")}
    plugin = "" if "profile_migrate" in installed else "-p migrate.testing.plugin"
    command = f'"{sys.executable}" -m pytest -p no:cacheprovider {plugin} tests/test_parity.py'

    passed = repository.bash(command, TEST_REDIS_URL=redis_server.url)
    repository.reject_a_row()
    failed = repository.bash(command, TEST_REDIS_URL=redis_server.url)

    assert passed.exit == 0, passed.out
    assert failed.exit == 1
    assert "row 5: bad-date birth_date" in failed.out


# --- the files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [RECIPE, OWN], ids=lambda path: path.name)
def test_workflows_have_a_shape_that_actions_takes(path: Path) -> None:
    """
    Every key is one that GitHub Actions knows; actions are pinned, and rights are few.
    """
    if not path.exists():
        pytest.skip("This is not a whole checkout: .github is missing.")
    workflow = read(path)

    assert set(workflow) <= KEYS["workflow"]
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert set(job) <= KEYS["job"]
        assert job["runs-on"] == "ubuntu-latest"
        assert 0 < job["timeout-minutes"] <= 60
        for service in job.get("services", {}).values():
            assert set(service) <= KEYS["service"]
        for step in job["steps"]:
            assert set(step) <= KEYS["step"]
            assert ("uses" in step) != ("run" in step)
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@v\d+", step.get("uses", "a/b@v1"))


def test_the_recipe_starts_servers_that_are_tested() -> None:
    """
    Its images are of the matrix of this project, with a health check and the ports of its URLs.
    """
    (job,) = read(RECIPE)["jobs"].values()

    for service in job["services"].values():
        assert service["image"] in IMAGES.values()
        assert "--health-cmd" in service["options"]
    ports = {port.partition(":")[0] for one in job["services"].values() for port in one["ports"]}
    urls = [value for name, value in job["env"].items() if name.endswith("_URL")]
    assert {re.findall(r"127\.0\.0\.1:(\d+)", url)[0] for url in urls} == ports
    login = job["services"]["postgres"]["env"]
    assert f"{login['POSTGRES_USER']}:{login['POSTGRES_PASSWORD']}@" in urls[0]
    assert urls[0].endswith(f"/{login['POSTGRES_DB']}")


def test_what_was_found_is_kept_whatever_happens() -> None:
    """
    The last step of the recipe uploads the files that its verification writes, always.
    """
    (job,) = read(RECIPE)["jobs"].values()
    verify, upload = job["steps"][-2:]

    assert upload["if"] == "always()"
    assert upload["with"]["path"].split() == re.findall(r"parity\.\w+", verify["run"])
