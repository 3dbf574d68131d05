"""
The command that goes back. In this version there is one way: remove what was written to Redis.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from migrate.cli.context import AppContext, pass_app
from migrate.cli.options import Command, dry_run_option, json_option, mapping_argument, yes_option
from migrate.cli.signals import StopFlag
from migrate.errors import Refused, UsageProblem
from migrate.pipeline.sweep import Fate
from migrate.stages.purge import Purge, Report
from migrate.workers.stopping import StoppableClock, check

SHOWN = 5
"""Keys that stay, named on the screen."""

PERIOD_S = 10.0
"""Between two lines of progress."""


@click.command(cls=Command)
@mapping_argument
@click.option(
    "--purge",
    is_flag=True,
    required=True,
    help="Remove the records from Redis; the one way back that there is, so it must be named.",
)
@dry_run_option
@click.option("--changed", is_flag=True, help="Also remove records that somebody else changed.")
@click.option("--confirm", metavar="NAME", help="The mapping's name again, where nobody is asked.")
@yes_option
@json_option
@pass_app
def rollback(
    app: AppContext,
    mapping: str,
    *,
    purge: bool,
    dry_run: bool,
    changed: bool,
    confirm: str | None,
    yes: bool,
) -> int:
    r"""
    Remove from Redis exactly what the backfills of MAPPING wrote.

    Nobody writes its records meanwhile and afterwards. Keys of others stay as they are, and values
    that were put aside get their keys back. SQL is not read. Safe to stop and to run again.

    \b
    Examples:
      profile-migrate rollback user_profiles --purge --dry-run
      profile-migrate rollback user_profiles --purge --confirm user_profiles
    """
    if not purge:
        raise UsageProblem("A rollback needs --purge.", next_step="Add --purge to the command.")
    if confirm is not None and confirm != mapping:
        raise UsageProblem(
            "The name after --confirm is not the mapping's.",
            where={"mapping": mapping, "confirm": confirm},
            next_step=f"profile-migrate rollback {mapping} --purge --confirm {mapping}",
        )
    with StopFlag() as stop:
        opened = Purge.open(
            app.settings,
            mapping,
            app.mappings.get(mapping),
            wall=time.time,
            clock=StoppableClock(stop),
            stop=lambda: check(stop),
            notify=lambda event: app.say(f"waiting for the {event.store}: {event.reason}"),
            changed=changed,
            dry_run=dry_run,
        )
        with opened as job:
            found = job.look()
            if dry_run or found.nothing:
                return _answer(app, found)
            app.say(_as_text(found, changed=changed))
            if not (yes or confirm):
                _ask(app, mapping)
            return _answer(app, _follow(app, job.run()))


def _ask(app: AppContext, name: str) -> None:
    """
    Have the name typed.

    Raises:
        UsageProblem: Nobody can be asked; names the flag.
        Refused: Something else was typed.
    """
    if app.no_input or not sys.stdin.isatty():
        raise UsageProblem(
            "A purge removes records, and nobody can be asked here.",
            where={"mapping": name},
            next_step=f"Add --confirm {name} to the same command.",
        )
    typed = click.prompt(f"Type '{name}' to remove them", default="", show_default=False, err=True)
    if typed.strip() != name:
        raise Refused("That is not the name; nothing was changed.", where={"mapping": name})


def _follow(app: AppContext, reports: Iterator[Report]) -> Report:
    last, said = None, time.monotonic()
    for report in reports:
        last = report
        if time.monotonic() - said > PERIOD_S:
            app.say(f"{report.mapping}: {report.fates[Fate.REMOVED]:,} removed")
            said = time.monotonic()
    if last is None:
        raise AssertionError("a purge reports its end")
    return last


def _answer(app: AppContext, report: Report) -> int:
    app.emit(_as_json(report), _as_text(report))
    if report.dry_run and not report.nothing:
        app.next_step(f"profile-migrate rollback {report.mapping} --purge")
    elif report.exit_code and not report.nothing:
        app.next_step(f"profile-migrate rollback {report.mapping} --purge --changed")
    else:
        app.next_step(f"profile-migrate journal show {report.mapping}")
    return int(report.exit_code)


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "mapping": report.mapping,
        "target": report.target,
        "dry_run": report.dry_run,
        "known_by": report.told_by,
        "nothing": report.nothing,
        "keys": report.looked,
        **report.counts(),
        "kept": [_shown(key) for key in report.kept],
        "exit_code": int(report.exit_code),
    }


_LINES: tuple[tuple[Fate, str, str], ...] = (
    (Fate.REMOVED, "records to remove", "records removed"),
    (Fate.RESTORED, "values to put back", "values put back"),
    (Fate.ENTRIES, "lookup entries without a record to release", "lookup entries released"),
    (Fate.CHANGED, "records that others changed: they stay", "records that others changed, kept"),
    (Fate.TAKEN, "values that cannot go back: they stay aside", "values that could not go back"),
)


def _as_text(report: Report, *, changed: bool = False) -> str:
    where = f"'{report.mapping}' in {report.target}"
    if report.nothing:
        return f"Nothing of {where} is known to be there."
    rows = [
        (f"{report.fates[fate]:,}", before if report.dry_run else after)
        for fate, before, after in _LINES
        if report.fates[fate] or fate is Fate.REMOVED
    ]
    lines = [f"Purge of {where}, known by the {report.told_by}:"]
    lines += [f"  {count:>10}  {what}" for count, what in rows]
    if report.kept:
        names = ", ".join(_shown(key) for key in report.kept[:SHOWN])
        lines.append(f"Kept, for example: {names}")
        if not changed and report.fates[Fate.CHANGED]:
            lines.append("--changed removes the records as well that others changed.")
    if report.dry_run:
        lines.append("Nothing was changed yet.")
    return "\n".join(lines)


def _shown(key: bytes) -> str:
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in key.decode(errors="backslashreplace")
    )
