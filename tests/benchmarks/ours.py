"""
profile-migrate as a user runs it: a folder with a configuration, and the command in a process.
"""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from migrate.config.schema import ConfigFile
from tests.benchmarks import processes
from tests.benchmarks.processes import Took
from tests.project import ROOT
from tests.servers import Database

FLAT = """
version: 1
name: {name}
source: {{table: {table}, key: [id]}}
target: {{key: "profile:{{id}}"}}
"""

NESTED = (
    FLAT
    + """
children:
  addresses:
    table: addresses
    join: {{profile_id: id}}
    order_by: [position]
    columns: [street, city]
  roles: {{table: roles, join: {{profile_id: id}}, order_by: [position], column: role}}
"""
)


def has_bulk() -> bool:
    """
    Whether this version has the setting `bulk`.
    """
    return "bulk" in ConfigFile.model_fields


@dataclass(slots=True)
class Ours:
    """
    Runs of one configuration, each in a folder of its own, so that none continues another.

    Args:
        settings: Further lines of migrate.yaml.
    """

    folder: Path
    database: Database
    redis_url: str
    workers: int = 1
    settings: str = ""
    mapping: str = FLAT
    _project: Path = field(init=False)
    _numbers: itertools.count[int] = field(init=False, default_factory=itertools.count)

    def backfill(self, table: str) -> Took:
        """
        Copy a table, from an empty ledger.
        """
        project = self.folder / f"run-{next(self._numbers)}"
        (project / "mappings").mkdir(parents=True)
        (project / "migrate.yaml").write_text(
            "version: 1\n"
            f'source: {{url: "{self.database.url}"}}\n'
            f'redis: {{target: {{url: "{self.redis_url}"}}}}\n'
            f"{self.settings}\n"
        )
        (project / "mappings" / "profiles.yaml").write_text(
            self.mapping.format(name="profiles", table=table)
        )
        self._project = project
        return self._run("backfill", "profiles")

    def verify(self, level: str) -> Took:
        """
        Verify what the last backfill has copied.
        """
        return self._run("verify", "profiles", "--level", level)

    def _run(self, *arguments: str) -> Took:
        took = processes.run(
            [
                sys.executable, "-m", "migrate", *arguments,
                "--workers", str(self.workers), "--json",
            ],
            cwd=self._project,
            env={"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        said: dict[str, Any] = json.loads(took.out)
        if said.get("exit_code", 0) or said.get("rejects", 0):
            raise processes.Failed(f"{arguments[0]} says {took.out[:500]}")
        return took
