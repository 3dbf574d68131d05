"""
datayoga in a virtual environment of its own, with the job that copies a table into hashes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.servers import Missing, PostgresDatabase, RedisServer

PACKAGE = "datayoga"
EXTRAS = "datayoga-core[pg,redis]"
INSTALL_S = 600
VARIABLE = "PROFILE_MIGRATE_BENCH_DATAYOGA"

JOB = """
input:
  uses: relational.read
  with: {{connection: source, table: {table}}}
steps:
  - uses: redis.write
    with:
      connection: target
      command: HSET
      key: {{expression: "concat(['profile:', id])", language: jmespath}}
"""

CONNECTIONS = """
source:
  type: postgresql
  driver: postgresql+psycopg2
  host: {source.host}
  port: {source.port}
  user: {source.user}
  password: {source.password}
  database: {database}
target:
  type: redis
  host: {target.host}
  port: {target.port}
"""


def install(folder: Path) -> Path:
    """
    The program, installed by pip into this folder unless it is there or a variable names it.

    Raises:
        Missing: It is not wanted, or pip could not install it; says why.
    """
    named = os.environ.get(VARIABLE)
    if named == "no":
        raise Missing(f"datayoga is left out, because {VARIABLE} is no.")
    found = Path(named) if named else folder / "bin" / "datayoga"
    if found.exists():
        return found
    if named:
        raise Missing(f"{VARIABLE} names {named}, which is not there.")
    try:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, capture_output=True)
        subprocess.run(
            [folder / "bin" / "pip", "install", "--quiet", "--no-input", PACKAGE, EXTRAS],
            check=True, capture_output=True, text=True, timeout=INSTALL_S,
        )  # fmt: skip
    except (subprocess.SubprocessError, OSError) as failed:
        shutil.rmtree(folder, ignore_errors=True)
        said = str(getattr(failed, "stderr", "") or failed).strip().splitlines()
        raise Missing(f"datayoga could not be installed: {said[-1] if said else failed}") from None
    return found


def version(executable: Path) -> str:
    """
    The version of the installed package.
    """
    said = subprocess.run(
        [executable.parent / "pip", "show", "datayoga-core"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = said.stdout.splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("Version")), "?")


def write_job(folder: Path, source: PostgresDatabase, target: RedisServer, table: str) -> str:
    """
    Write the files of a job that copies a table, and answer the job's name.
    """
    (folder / "jobs").mkdir(parents=True, exist_ok=True)
    (folder / "connections.dy.yaml").write_text(
        CONNECTIONS.format(source=source.server, database=source.name, target=target)
    )
    (folder / "jobs" / f"{table}.dy.yaml").write_text(JOB.format(table=table))
    return table
