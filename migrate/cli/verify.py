"""
The command that proves that SQL and Redis hold the same, or says where they do not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from migrate.cli.context import AppContext, pass_app
from migrate.cli.options import Command, json_option, mapping_argument
from migrate.cli.signals import StopFlag
from migrate.errors import ExitCode, LockHeld, UsageProblem
from migrate.model.events import ChunkVerified, Event
from migrate.model.verdict import HARD, Level, Verdict
from migrate.ops.report import html, junit, summary
from migrate.ops.tables import human_duration, human_rate, table
from migrate.workers.continuous import Continuous
from migrate.workers.stopping import StoppableClock
from migrate.workers.verify import Verify
from migrate.workers.verify_job import Request, with_end

PERIOD_S = 10.0
"""Between two lines of progress."""

SHOWN = 10
"""Findings that are named on the screen."""

EVERY_S = 60.0
"""Between the beginnings of two passes."""


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
@click.option("--continuous", is_flag=True, help="Pass after pass, until it is stopped.")
@click.option(
    "--every",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Of --continuous: from the beginning of a pass to the next; 60 unless given.",
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
    continuous: bool,
    every: float | None,
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
      profile-migrate verify user_profiles --continuous --every 300
    """
    chosen = app.mapping(mapping)
    if (level == Level.SAMPLE.value) != (sample is not None):
        raise UsageProblem(
            "Level sample and --sample ROWS belong together.",
            next_step=f"profile-migrate verify {mapping} --level sample --sample 1000",
        )
    _check_continuous(mapping, Level(level), continuous=continuous, every=every)
    request = Request(
        Level(level),
        sample,
        workers,
        None if continuous else max_runtime,
        show_values=show_values,
        continuous=continuous,
    )
    faces = _Faces(app, mapping, level, junit_file, report_file)
    with StopFlag() as stop:
        until = None if max_runtime is None else time.monotonic() + max_runtime
        requested = with_end(stop, until) if continuous else stop

        def begin(number: int) -> Verify:
            return Verify(
                app.settings,
                chosen,
                request,
                requested=requested,
                notify=lambda event: app.say(f"waiting for the {event.store}: {event.reason}"),
                ready=faces.ready if number == 1 else lambda _: None,
                passes=number,
            )

        job = (
            Continuous(
                begin,
                every_s=every or EVERY_S,
                clock=StoppableClock(requested),
                passed=faces.passed,
                waits=faces.waits,
            )
            if continuous
            else begin(1)
        )
        faces.follow(job.run())
    result = job.result
    faces.write(result)
    if summary_file is not None:
        _write(summary_file, summary(result), mode="a")
    app.emit(result, "\n".join(_lines(result)))
    app.next_step(_next(result))
    return int(result["exit_code"])


def _check_continuous(mapping: str, level: Level, *, continuous: bool, every: float | None) -> None:
    """
    Only what looks at everything goes round, and only what goes round has a rhythm.
    """
    if continuous and level not in (Level.FULL, Level.DEEP):
        raise UsageProblem(
            "--continuous goes with level full or deep.",
            next_step=f"profile-migrate verify {mapping} --level full --continuous",
        )
    if every is not None and not continuous:
        raise UsageProblem(
            "--every belongs to --continuous.",
            next_step=f"profile-migrate verify {mapping} --continuous --every {every:g}",
        )


@dataclass(slots=True)
class _Faces:
    """
    What people see of a verification while it works: lines, and files that are written anew.
    """

    app: AppContext
    mapping: str
    level: str
    junit_file: Path | None
    report_file: Path | None
    rows: int = 0
    hard: int = 0

    def ready(self, rows: int) -> None:
        self.app.say(f"{self.mapping}: about {rows:,} rows, level {self.level}")

    def follow(self, events: Iterator[Event]) -> None:
        said = time.monotonic()
        for event in events:
            if not isinstance(event, ChunkVerified):
                continue
            self.rows, self.hard = self.rows + event.rows, self.hard + event.hard
            if time.monotonic() - said > PERIOD_S:
                self.app.say(f"{self.mapping}: {self.rows:,} compared, {self.hard:,} differ")
                said = time.monotonic()

    def passed(self, one: Mapping[str, Any], whole: Mapping[str, Any]) -> None:
        """
        A line for a pass, and the files anew.
        """
        self.rows = self.hard = 0
        counts = one["counts"]
        differ = sum(counts.get(verdict.value, 0) for verdict in HARD)
        self.app.say(
            f"{self.mapping}: pass {one['passes']}: {one['verdict']}, "
            f"{one['scope']['compared']:,} compared, {differ:,} differ, "
            f"{counts.get(Verdict.IN_FLIGHT.value, 0):,} still changing, "
            f"{human_duration(one['seconds'])}"
        )
        self.write(whole)

    def waits(self, held: LockHeld) -> None:
        holder = held.where.get("holder", "another process")
        self.app.say(f"{self.mapping}: waiting for {holder}, which holds the mapping")

    def write(self, result: Mapping[str, Any]) -> None:
        if self.junit_file is not None:
            _write(self.junit_file, junit(result))
        if self.report_file is not None:
            _write(self.report_file, html(result))


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
