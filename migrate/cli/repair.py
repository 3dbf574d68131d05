"""
The command that mends what a verification named.
"""

from __future__ import annotations

import time

import click

from migrate.cli.context import AppContext, pass_app
from migrate.cli.options import Command, dry_run_option, json_option, mapping_argument, yes_option
from migrate.cli.signals import StopFlag
from migrate.stages.repair import Options, Repair, Report
from migrate.workers.stopping import StoppableClock, check


@click.command(cls=Command)
@mapping_argument
@click.option(
    "--max-repairs",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    metavar="KEYS",
    help="Refuse when more were named.",
)
@click.option(
    "--force-version",
    is_flag=True,
    help="Also replace content whose captured version says that it is the same.",
)
@click.option("--adopt", is_flag=True, help="Put values that are in the place of records aside.")
@dry_run_option
@yes_option
@json_option
@pass_app
def repair(
    app: AppContext,
    mapping: str,
    *,
    max_repairs: int,
    force_version: bool,
    adopt: bool,
    dry_run: bool,
    yes: bool,
) -> int:
    r"""
    Mend in Redis what the last verification of MAPPING named, and nothing else.

    Reads each row again and writes it as a backfill would; a record without a row becomes a
    tombstone. Verify again afterwards: a repair proves nothing.

    \b
    Examples:
      profile-migrate repair user_profiles --dry-run
      profile-migrate repair user_profiles --yes
    """
    options = Options(max_repairs, force_version, adopt, dry_run)
    with StopFlag() as stop:
        opened = Repair.open(
            app.settings,
            app.mapping(mapping),
            options,
            wall=time.time,
            clock=StoppableClock(stop),
            stop=lambda: check(stop),
            notify=lambda event: app.say(f"waiting for the {event.store}: {event.reason}"),
        )
        with opened as job:
            if not dry_run:
                app.confirm(f"Repair what was named of '{mapping}' in Redis?", yes=yes)
            report = job.do()
    app.emit(
        {
            "mapping": mapping,
            "dry_run": dry_run,
            "named": report.named,
            "mended": report.mended,
            "left": report.left,
            "exit_code": int(report.exit_code),
        },
        _as_text(report),
    )
    if dry_run and report.named:
        app.next_step(f"profile-migrate repair {mapping}")
    else:
        app.next_step(f"profile-migrate verify {mapping}")
    return int(report.exit_code)


def _as_text(report: Report) -> str:
    if not report.named:
        return f"The last verification of '{report.mapping}' named nothing."
    told = ", ".join(f"{count:,} {word}" for word, count in sorted(report.mended.items()))
    if report.dry_run:
        return f"{report.named:,} keys were named: {told}.\nDry run: nothing was written."
    lines = [f"{report.named:,} keys were named; mended: {told or 'none'}."]
    if report.left:
        left = ", ".join(f"{count:,} {word}" for word, count in sorted(report.left.items()))
        lines.append(f"Left as they are: {left}.")
    return "\n".join(lines)
