"""
A user's folder: migrate.yaml, mappings, and the program run in it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from migrate.cli.main import cli
from tests.servers import wait_until

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "mappings" / "user_profiles.yaml"
PATIENCE_S = 180.0


@dataclass(frozen=True, slots=True)
class Ran:
    """
    How a command ended.

    Args:
        shown: Both outputs in the order in which a terminal shows them, where that is known.
    """

    exit: int
    out: str
    err: str
    shown: str = ""

    @property
    def json(self) -> dict[str, Any]:
        """
        The object on standard output.
        """
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def error(self) -> str:
        """
        The code of the error that ended it, in text or as JSON.
        """
        for line in self.err.splitlines():
            if line.startswith("error["):
                return line[6 : line.index("]")]
            if line.startswith("{"):
                return str(json.loads(line)["code"])
        return ""


@dataclass(slots=True)
class Project:
    """
    One folder with a configuration.

    Args:
        extra: Further sections of migrate.yaml.

        redis_keys: Instead of a url: `nodes: [...]` of a cluster or of sentinels.
    """

    folder: Path
    source_url: str
    redis_url: str
    extra: str = ""
    retry_for: str = "2s"
    environment: Mapping[str, str] = field(default_factory=dict)
    redis_keys: str = ""

    def __post_init__(self) -> None:
        (self.folder / "mappings").mkdir(parents=True, exist_ok=True)
        self.configure()

    def configure(self, **changes: str) -> None:
        """
        Write migrate.yaml anew, with these attributes changed.
        """
        for name, value in changes.items():
            setattr(self, name, value)
        target = self.redis_keys or f'url: "{self.redis_url}"'
        (self.folder / "migrate.yaml").write_text(
            "version: 1\n"
            f'source: {{url: "{self.source_url}", retry_for: {self.retry_for}}}\n'
            f"redis: {{target: {{{target}, retry_for: {self.retry_for}}}}}\n"
            f"{self.extra}\n"
        )

    def mapping(self, name: str, text: str) -> None:
        """
        Write a mapping file.
        """
        (self.folder / "mappings" / f"{name}.yaml").write_text(text)

    def shipped(self) -> None:
        """
        Take the mapping that the project ships.
        """
        self.mapping("user_profiles", SHIPPED.read_text())

    def run(self, *arguments: str) -> Ran:
        """
        Run a command to its end, in this process: starting one costs more than most commands.
        """
        ours = {name: None for name in os.environ if name.startswith("PROFILE_MIGRATE_")}
        # Spawned workers import the package from here, wherever the command runs.
        environment = {**ours, "PYTHONPATH": str(ROOT), **self.environment}
        with chdir(self.folder):
            ended = CliRunner().invoke(cli, arguments, env=environment)
        return Ran(ended.exit_code, ended.stdout, ended.stderr, ended.output)

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """
        Start a command in a group of its own; whatever is left of it is killed at the end.
        """
        process = subprocess.Popen(
            self._command(arguments),
            cwd=self.folder,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            kill_all(process)
            process.communicate()

    def rows_done(self) -> int:
        """
        Rows that the ledger says are done, over all mappings.
        """
        shown = self.run("status", "--json")
        if shown.exit:
            return 0
        return sum(one["run"]["rows"] for one in shown.json["mappings"] if one["run"])

    def wait_for_rows(self, count: int, timeout_s: float = 60.0) -> None:
        """
        Wait until a run has saved so many rows.
        """
        wait_until(lambda: self.rows_done() >= count, f"{count} rows", timeout_s=timeout_s)

    def files(self) -> Iterator[tuple[Path, bytes]]:
        """
        Every file under the folder with its content.
        """
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                yield path, path.read_bytes()

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-W", "error", "-m", "migrate", *arguments]

    def _environment(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PROFILE_MIGRATE_")}
        return {**clean, "PYTHONPATH": str(ROOT), **self.environment}


def kill_all(process: subprocess.Popen[str]) -> None:
    """
    End a started command and its workers at once, by kill -9.
    """
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # all have ended


def until_exit(process: subprocess.Popen[str], timeout_s: float = PATIENCE_S) -> Ran:
    """
    Wait for a started command.
    """
    out, err = process.communicate(timeout=timeout_s)
    return Ran(process.returncode, out, err)


def poll(seconds: float) -> None:
    """
    The one place where a test waits by the clock: between two looks, or to let a process run on.
    """
    time.sleep(seconds)
