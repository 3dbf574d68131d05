"""
Commands for the rows that could not be moved: list, export, replay.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from migrate.cli.context import AppContext, pass_app
from migrate.cli.options import Group, json_option, mapping_argument
from migrate.errors import ExitCode, OutputFailed, UsageProblem
from migrate.ledger.access import open_ledger
from migrate.ledger.keys import show
from migrate.ledger.store import Ledger, OpenReject
from migrate.ops.tables import table
from migrate.workers.rejects import Export, Replay

SHOWN = 20
"""Rejects on the screen where nothing else is asked for."""


@click.group(cls=Group)
def rejects() -> None:
    """
    See, export and replay the rows that could not be moved.
    """


@rejects.command("list")
@mapping_argument
@click.option("--limit", type=click.IntRange(1), default=SHOWN, show_default=True, help="Rows.")
@json_option
@pass_app
def list_(app: AppContext, mapping: str, limit: int) -> int:
    r"""
    Show the rows of MAPPING that could not be moved, with their reasons.

    Keys are shown, values never.

    \b
    Examples:
      profile-migrate rejects list user_profiles
      profile-migrate rejects list user_profiles --limit 1000 --json
    """
    app.mapping(mapping)
    with closing(_ledger(app)) as ledger:
        counts = ledger.count_rejects(mapping)
        found = list(ledger.rejects(mapping, limit=limit))
    result = {
        "mapping": mapping,
        "open": counts,
        "rejects": [_as_json(entry) for entry in found],
    }
    app.emit(result, _as_text(mapping, counts, found))
    if counts:
        app.next_step(f"profile-migrate rejects replay {mapping}")
        return int(ExitCode.DIFFERENCES)
    app.next_step(f"profile-migrate status {mapping}")
    return int(ExitCode.DONE)


@rejects.command()
@mapping_argument
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="New file, JSON lines, readable by this user only.",
)
@click.option("--with-values", is_flag=True, help="Include the rows' values as SQL has them now.")
@json_option
@pass_app
def export(app: AppContext, *, mapping: str, output: Path, with_values: bool) -> None:
    r"""
    Write every open reject of MAPPING to FILE, one JSON object a line.

    The file holds personal data with --with-values: it is made for this user only.

    \b
    Examples:
      profile-migrate rejects export user_profiles --output rejects.jsonl
      profile-migrate rejects export user_profiles --output rows.jsonl --with-values
    """
    chosen = app.mapping(mapping)
    job = Export(app.settings, chosen, with_values=with_values)
    count = _export(output, job.run())
    app.emit(
        {"mapping": mapping, "file": str(output), "rejects": count},
        f"{count:,} rejects written to {output}.",
    )
    app.next_step(f"profile-migrate rejects replay {mapping}")


@rejects.command()
@mapping_argument
@json_option
@pass_app
def replay(app: AppContext, mapping: str) -> int:
    r"""
    Read every open reject of MAPPING again and write it, if it can be moved now.

    \b
    Examples:
      profile-migrate rejects replay user_profiles
    """
    chosen = app.mapping(mapping)
    report = Replay(app.settings, chosen, notify=_teller(app)).run()
    left = sum(report.open_rejects.values())
    app.emit(
        {
            "mapping": mapping,
            "tried": report.tried,
            "moved": report.moved,
            "gone": report.gone,
            "open": report.open_rejects,
        },
        f"{report.tried:,} tried, {report.moved:,} moved, {report.gone:,} no longer in SQL, "
        f"{left:,} left.",
    )
    action = "rejects list" if left else "status"
    app.next_step(f"profile-migrate {action} {mapping}")
    return int(ExitCode.DIFFERENCES if left else ExitCode.DONE)


def _ledger(app: AppContext) -> Ledger:
    return open_ledger(app.settings.ledger, wall=time.time)


def _teller(app: AppContext) -> Callable[[Any], None]:
    return lambda event: app.say(f"waiting for the {event.store}: {event.reason}")


def _as_json(entry: OpenReject) -> dict[str, Any]:
    fault = entry.reject.fault
    return {
        "key": show(entry.reject.key),
        "column": fault.column or None,
        "reason": fault.reason,
        "detail": fault.detail,
        "seen_at": entry.seen_at,
    }


def _as_text(mapping: str, counts: dict[str, int], found: list[OpenReject]) -> str:
    if not counts:
        return f"No open rejects of '{mapping}'."
    rows = [
        (
            show(e.reject.key),
            e.reject.fault.column or "-",
            e.reject.fault.reason,
            e.reject.fault.detail,
        )
        for e in found
    ]
    lines = [table(("key", "column", "reason", "why"), rows, align="llll")]
    total = sum(counts.values())
    if total > len(found):
        lines.append(f"... and {total - len(found):,} more; --limit shows them.")
    lines.append("open: " + ", ".join(f"{count:,} {reason}" for reason, count in counts.items()))
    return "\n".join(lines)


def _export(path: Path, lines: Iterable[dict[str, Any]]) -> int:
    """
    Write a new file of JSON lines and count them; one that was not finished is removed.
    """
    count = 0
    file = _new_file(path)
    try:
        with file:
            for line in lines:
                file.write(json.dumps(line, ensure_ascii=True) + "\n")
                count += 1
    except BaseException as error:
        path.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise OutputFailed(
            "The rejects could not be written to the file.",
            where={"file": str(path), "reason": error.strerror or type(error).__name__},
            next_step="Make room, or name another file, and run the command again.",
        ) from None
    return count


def _new_file(path: Path) -> Any:
    """
    A file that did not exist, for this user only.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise UsageProblem(
            "The file cannot be made.",
            where={"file": str(path), "reason": error.strerror or type(error).__name__},
            next_step="Name a file that does not exist yet, in a folder that you may write.",
        ) from None
    return os.fdopen(handle, "w", encoding="utf-8")
