"""
Where and of what a measurement was made: machine, system, versions, commit.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from tests.project import ROOT

PACKAGES = ("redis", "hiredis", "sqlalchemy", "psycopg", "PyMySQL", "anycrc")


def machine() -> dict[str, Any]:
    """
    Processor, cores, memory, system, and how busy it was before we began.
    """
    return {
        "processor": _first(Path("/proc/cpuinfo"), "model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "memory": _first(Path("/proc/meminfo"), "MemTotal"),
        "system": f"{platform.system()} {platform.release()}",
        "load_average": [round(value, 2) for value in os.getloadavg()],
    }


def busy(found: dict[str, Any]) -> bool:
    """
    Whether something else was running, so that the figures say little.
    """
    return bool(found["load_average"][0] > 0.3 * (found["cores"] or 1))


def libraries() -> dict[str, str]:
    """
    Versions of Python and of the packages that a backfill spends its time in.
    """
    # How it was compiled makes a tenth. Its path would say more, and the name of its user too.
    build = f"built {platform.python_build()[1]} by {platform.python_compiler()}"
    found = {"python": f"{platform.python_version()}, {build}"}
    for name in PACKAGES:
        try:
            found[name.lower()] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """
    The commit that was measured, and whether files differ from it.
    """
    head = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=normal")
    return f"{head or 'unknown'}{' with changes' if changed else ''}"


def _git(*words: str) -> str:
    try:
        said = subprocess.run(
            ["git", "-C", ROOT, *words], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return said.stdout.strip()


def _first(path: Path, name: str) -> str:
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith(name):
                return line.partition(":")[2].strip()
    return ""
