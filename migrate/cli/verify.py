"""
The command that proves that SQL and Redis hold the same, or says where they do not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from migrate.cli.context import AppContext, pass_app
from migrate.cli.options import Command, json_option, mapping_argument
from migrate.cli.signals import StopFlag
from migrate.errors import ExitCode, UsageProblem
from migrate.model.events import ChunkVerified, Event
from migrate.model.verdict import HARD, Level
from migrate.ops.report import html, junit, summary
from migrate.ops.tables import human_duration, human_rate, table
from migrate.workers.verify import Request, Verify

PERIOD_S = 10.0
"""Between two lines of progress."""

SHOWN = 10
"""Findings that are named on the screen."""


@click.command(cls=Command)
@mapping_argument
@click.option(
    "--level",
    type=click.Choice([level.value for level in Level]),
    default=Level.FULL.value,
    show_default=True,
    help="How closely to look.",
)
@click.option(
    "--sample",
    type=click.IntRange(1),
    metavar="ROWS",
    help="Rows of level sample.",
)
@click.option(
    "--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes."
)
@click.option(
    "--max-runtime",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Stop after so long; the same command goes on.",
)
@click.option("--show-values", is_flag=True, help="Keep and show values of what differs.")
@click.option(
    "--junit",
    "junit_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the result there as JUnit XML.",
)
@click.option(
    "--report",
    "report_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the result there as one HTML page.",
)
@click.option(
    "--summary",
    "summary_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help='Add the result there as Markdown: in GitHub Actions "$GITHUB_STEP_SUMMARY".',
)
@json_option
@pass_app
def verify(  # noqa: PLR0913 - one for each option
    app: AppContext,
    mapping: str,
    *,
    level: str,
    sample: int | None,
    workers: int,
    max_runtime: float | None,
    show_values: bool,
    junit_file: Path | None,
    report_file: Path | None,
    summary_file: Path | None,
) -> int:
    r"""
    Compare SQL and Redis in both directions, and change nothing.

    Safe to stop and to run again: it continues after the last saved page.

    \b
    Examples:
      profile-migrate verify user_profiles
      profile-migrate verify user_profiles --level deep --report verify.html
    """
    chosen = app.mapping(mapping)
    if (level == Level.SAMPLE.value) != (sample is not None):
        raise UsageProblem(
            "Level sample and --sample ROWS belong together.",
            next_step=f"profile-migrate verify {mapping} --level sample --sample 1000",
        )
    request = Request(Level(level), sample, workers, max_runtime, show_values)
    with StopFlag() as stop:
        job = Verify(
            app.settings,
            chosen,
            request,
            requested=stop,
            notify=lambda event: app.say(f"waiting for the {event.store}: {event.reason}"),
            ready=lambda rows: app.say(f"{mapping}: about {rows:,} rows, level {level}"),
        )
        _follow(app, mapping, job.run())
    result = job.result
    if junit_file is not None:
        _write(junit_file, junit(result))
    if report_file is not None:
        _write(report_file, html(result))
    if summary_file is not None:
        _write(summary_file, summary(result), mode="a")
    app.emit(result, "\n".join(_lines(result)))
    app.next_step(_next(result))
    return int(result["exit_code"])


def _follow(app: AppContext, mapping: str, events: Iterator[Event]) -> None:
    rows = hard = 0
    said = time.monotonic()
    for event in events:
        if not isinstance(event, ChunkVerified):
            continue
        rows, hard = rows + event.rows, hard + event.hard
        if time.monotonic() - said > PERIOD_S:
            app.say(f"{mapping}: {rows:,} compared, {hard:,} differ")
            said = time.monotonic()


def _write(path: Path, text: str, mode: str = "w") -> None:
    try:
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageProblem(
            "The result cannot be written to that file.",
            where={"file": str(path), "reason": error.strerror or type(error).__name__},
            next_step="Name a file in a folder that exists and can be written.",
        ) from None


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    scope = result["scope"]
    yield (
        f"{result['verdict']}: {result['mapping']}, level {result['level']}, "
        f"{scope['compared']:,} compared in {human_duration(result['seconds'])}, "
        f"{human_rate(scope['compared'], result['seconds'])}"
    )
    rows = [(name, f"{count:,}") for name, count in sorted(result["counts"].items())]
    if rows:
        yield table(("verdict", "entities"), rows, align="lr")
    if result["bound"] is not None:
        share = result["bound"]["at_most"]
        yield f"0 of {scope['compared']:,} differ: at most {share:.4%} of all do, at 95 %."
    for name, kinds in sorted(result["fields"].items()):
        told = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))
        yield f"  {name}: {told}"
    for one in result["samples"][:SHOWN]:
        what = " ".join(part for part in (one["kind"], one["field"]) if part)
        yield f"  {one['verdict']} {one['key']} {what}".rstrip()
    if result["trusted_digests"]:
        yield "The digest that each record carries was trusted; --level deep does not."
    if result["open_rejects"]:
        reasons = ", ".join(f"{n:,} {name}" for name, n in result["open_rejects"].items())
        yield f"Open rejects: {reasons}."
    for text in result["not_checked"]:
        yield f"Not checked: {text}"


def _next(result: Mapping[str, Any]) -> str:
    name = result["mapping"]
    if any(result["counts"].get(verdict.value) for verdict in HARD):
        return f"profile-migrate repair {name} --dry-run"
    if result["open_rejects"]:
        return f"profile-migrate rejects list {name}"
    if result["exit_code"] == ExitCode.DONE:
        return f"profile-migrate status {name}"
    return f"profile-migrate verify {name} --level {result['level']}"
