"""
Commands for the journal: read it, check its chain, take a copy away.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import click

from migrate.cli.context import AppContext, pass_app
from migrate.cli.options import Group, json_option
from migrate.errors import ExitCode, OutputFailed, UsageProblem
from migrate.ledger.access import open_ledger
from migrate.ledger.journal import Broken, JournalEntry, check
from migrate.ledger.store import Ledger, has_ledger
from migrate.ops.tables import table


@click.group(cls=Group)
def journal() -> None:
    """
    See, check and export what was changed, by whom and when.
    """


@journal.command()
@click.argument("mapping", required=False)
@json_option
@pass_app
def show(app: AppContext, mapping: str | None) -> None:
    r"""
    Show what was changed, oldest first; of one MAPPING or all of it.

    \b
    Examples:
      profile-migrate journal show
      profile-migrate journal show user_profiles --json
    """
    ledger = _ledger(app)
    found: list[JournalEntry] = []
    if ledger is not None:
        with closing(ledger):
            found = list(ledger.journal(mapping))
    app.emit({"entries": [entry.to_dict() for entry in found]}, _as_text(found))
    app.next_step("profile-migrate journal verify")


@journal.command()
@json_option
@pass_app
def verify(app: AppContext) -> int:
    r"""
    Check that no line was changed, removed or put in between; exits 3 at the first that was.

    Lines cut off at the end are seen only against an earlier export.

    \b
    Examples:
      profile-migrate journal verify
    """
    ledger = _ledger(app)
    lines, last, broken = 0, "", None
    if ledger is not None:
        with closing(ledger):
            for entry in check(ledger.journal()):
                if isinstance(entry, Broken):
                    broken = entry
                else:
                    lines, last = lines + 1, entry.hash
    app.emit(
        {
            "entries": lines,
            "last_hash": last or None,
            "broken": None if broken is None else {"seq": broken.seq, "why": broken.why},
        },
        f"The journal is broken at line {broken.seq}: {broken.why}."
        if broken
        else f"The journal holds: {lines:,} lines.",
    )
    return int(ExitCode.DIFFERENCES if broken else ExitCode.DONE)


@journal.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@json_option
@pass_app
def export(app: AppContext, file: Path) -> None:
    r"""
    Write the journal to a new FILE, one JSON object a line.

    \b
    Examples:
      profile-migrate journal export journal.jsonl
    """
    ledger = _ledger(app)
    if ledger is None:
        count = _export(file, [])
    else:
        with closing(ledger):
            count = _export(file, ledger.journal())
    app.emit({"file": str(file), "entries": count}, f"{count:,} lines written to {file}.")


def _ledger(app: AppContext) -> Ledger | None:
    """
    The ledger, or None: looking must not make one.
    """
    config = app.settings.ledger
    if not has_ledger(config, sleep=time.sleep):
        return None
    return open_ledger(config, wall=time.time)


def _as_text(entries: list[JournalEntry]) -> str:
    if not entries:
        return "The journal is empty."
    rows = [
        (
            entry.seq,
            datetime.fromtimestamp(entry.at, UTC).strftime("%Y-%m-%d %H:%M:%SZ"),
            entry.actor,
            entry.mapping,
            entry.step,
            entry.phase,
            entry.payload,
        )
        for entry in entries
    ]
    headers = ("line", "at", "who", "mapping", "step", "phase", "what")
    return table(headers, rows, align="rllllll")


def _export(path: Path, entries: Iterable[JournalEntry]) -> int:
    """
    Write a new file for this user only and count its lines.
    """
    count = 0
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise UsageProblem(
            "The file cannot be made.",
            where={"file": str(path), "reason": error.strerror or type(error).__name__},
            next_step="Name a file that does not exist yet, in a folder that you may write.",
        ) from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            for entry in entries:
                file.write(json.dumps(entry.to_dict(), ensure_ascii=True) + "\n")
                count += 1
    except OSError as error:
        path.unlink(missing_ok=True)
        raise OutputFailed(
            "The journal could not be written to the file.",
            where={"file": str(path), "reason": error.strerror or type(error).__name__},
            next_step="Make room, or name another file, and run the command again.",
        ) from None
    return count
