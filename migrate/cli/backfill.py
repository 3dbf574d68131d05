"""
The command that copies what exists.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from migrate import __version__
from migrate.cli.context import AppContext, pass_app
from migrate.cli.options import Command, dry_run_option, json_option, mapping_argument
from migrate.cli.signals import StopFlag
from migrate.errors import ExitCode, MigrateError, UsageProblem
from migrate.model.events import Waiting
from migrate.model.values import Outcome
from migrate.ops.console import encodable
from migrate.ops.metrics import RunMetrics
from migrate.ops.progress import Progress, progress_on
from migrate.ops.tables import TICK, Summary, summary
from migrate.pipeline.sweep import Fate
from migrate.workers.backfill import Backfill, Report, Request


@click.command(cls=Command)
@mapping_argument
@click.option(
    "--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes."
)
@click.option("--limit", type=click.IntRange(1), metavar="ROWS", help="Copy so many rows and stop.")
@dry_run_option
@click.option(
    "--start-over",
    is_flag=True,
    help="Forget the checkpoints; take the mapping and the target as they are now.",
)
@click.option(
    "--adopt",
    is_flag=True,
    help="Put values that are in the place of records aside, for the way back.",
)
@click.option("--accept-eviction", is_flag=True, help="The target may drop records: I know.")
@click.option(
    "--metrics-textfile",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write Prometheus metrics there at the end.",
)
@json_option
@pass_app
def backfill(  # noqa: PLR0913 - one for each option
    app: AppContext,
    mapping: str,
    *,
    workers: int,
    limit: int | None,
    dry_run: bool,
    start_over: bool,
    adopt: bool,
    accept_eviction: bool,
    metrics_textfile: Path | None,
) -> int:
    r"""
    Copy the existing rows of MAPPING into Redis.

    Safe to stop and to run again: it continues after the last saved chunk. Once it is complete, the
    same command reads every row again and brings Redis up to date.

    \b
    Examples:
      profile-migrate backfill user_profiles --dry-run
      profile-migrate backfill user_profiles --workers 2
    """
    chosen = app.mapping(mapping)
    request = Request(workers, dry_run, limit, start_over, accept_eviction, adopt)
    face = _Face(app, mapping, metrics_textfile)
    with StopFlag() as stop:
        job = Backfill(
            app.settings, chosen, request, requested=stop, notify=face.waiting, ready=face.begin
        )
        code = int(ExitCode.FAILED)
        try:
            face.follow(job)
            code = int(job.report.exit_code)
        except MigrateError as error:
            code = int(error.exit_code)
            face.tell(job.report)
            raise
        finally:
            face.finish(job.report, code)
    face.answer(job.report)
    return code


class _Face:
    """
    Shows a backfill: progress while it goes on, its summary at the end.
    """

    def __init__(self, app: AppContext, mapping: str, metrics_file: Path | None) -> None:
        self._app = app
        self._mapping = mapping
        self._metrics_file = metrics_file
        self._metrics = RunMetrics(mapping, __version__)
        if metrics_file is not None:
            # A file that cannot be written is said now, not after hours of work.
            self._metrics.write(metrics_file)
        self._progress: Progress | None = None

    def waiting(self, event: Waiting) -> None:
        """
        A store that is opened before the work begins says "not now".
        """
        self._metrics.update(event)
        if self._progress is not None:
            self._progress.update(event)
        else:
            self._app.say(f"{self._mapping}: waiting for the {event.store}: {event.reason}")

    def follow(self, job: Backfill) -> None:
        """
        Take in the events of a backfill until it ends.
        """
        try:
            for event in job.run():
                self._metrics.update(event)
                if self._progress is not None:
                    self._progress.update(event)
        finally:
            if self._progress is not None:
                self._progress.close()

    def begin(self, report: Report) -> None:
        """
        Show that the work begins.
        """
        for line in _notices(report):
            self._app.warn(line)
        self._progress = progress_on(
            self._app.console,
            mapping=self._mapping,
            total=report.rows_estimated,
            done=report.rows_before,
            estimate=True,
            quiet=self._app.quiet or self._app.json,
        )

    def finish(self, report: Report, exit_code: int) -> None:
        """
        Write the metrics, where they were asked for.

        Raises:
            UsageProblem: They cannot be written, and there is nothing worse to tell.
        """
        self._metrics.finish(exit_code=exit_code, seconds=report.seconds, finished_at=time.time())
        if self._metrics_file is None:
            return
        try:
            self._metrics.write(self._metrics_file)
        except UsageProblem as problem:
            if exit_code in (ExitCode.DONE, ExitCode.DIFFERENCES):
                raise
            self._app.warn(f"{problem.what} ({problem.where['reason']})")

    def tell(self, report: Report) -> None:
        """
        What was done before the error that follows.
        """
        if report.rows and not self._app.json:
            self._app.say(self._table(report))

    def answer(self, report: Report) -> None:
        """
        The result of a backfill that came to its end.
        """
        self._app.emit(_as_json(report), "\n".join([self._table(report), *self._remarks(report)]))
        self._app.next_step(self._next(report))

    def _table(self, report: Report) -> str:
        tick = TICK if encodable(TICK, sys.stdout) else "0"
        row = Summary(self._mapping, report.rows, report.outcomes, report.rejected, report.seconds)
        return summary([row], tick=tick)

    def _remarks(self, report: Report) -> Iterator[str]:
        if report.dry_run:
            yield "Dry run: nothing was written."
        elif not report.complete:
            yield "The limit is reached; the run is not complete."
        if report.settled:
            yield f"Their place was taken at first, moved at the end: {report.settled:,}."
        yield from _left_behind(report)
        if report.open_rejects:
            reasons = ", ".join(f"{count:,} {name}" for name, count in report.open_rejects.items())
            yield f"Not moved, kept with their reason: {reasons}."

    def _next(self, report: Report) -> str:
        if report.dry_run:
            return f"profile-migrate backfill {self._mapping}"
        if report.open_rejects:
            return f"profile-migrate rejects list {self._mapping}"
        if not report.complete:
            return f"profile-migrate backfill {self._mapping}"
        return f"profile-migrate status {self._mapping}"


_FATES = {
    Fate.REMOVED: "removed",
    Fate.BURIED: "replaced by a tombstone",
    Fate.CHANGED: "kept, for somebody else changed them",
}


def _left_behind(report: Report) -> Iterator[str]:
    """
    What became of the records that a changed mapping left behind.
    """
    if report.left_behind is None:
        return
    fates = report.left_behind.fates
    parts = [f"{fates[fate]:,} {words}" for fate, words in _FATES.items() if fates.get(fate)]
    yield f"Left behind by the earlier mapping: {', '.join(parts) or 'nothing'}."
    if report.left_behind.kept:
        keys = ", ".join(repr(key)[1:] for key in report.left_behind.kept)
        yield f"Kept: {keys}."


def _notices(report: Report) -> Iterator[str]:
    """
    What must be known before the first chunk.
    """
    if report.way == "redo":
        yield "Redis lost its data: every record is written again."
    elif report.redone:
        yield f"Redis restarted: {report.redone} partitions that it may have lost are done again."


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "mapping": report.mapping,
        "dry_run": report.dry_run,
        "began": report.way,
        "complete": report.complete,
        "exit_code": int(report.exit_code),
        "rows": report.rows,
        "rows_total": report.run.rows if report.run else report.rows,
        **{outcome.name.lower(): report.outcomes.get(outcome, 0) for outcome in Outcome},
        "rejected": report.rejected,
        "open_rejects": dict(report.open_rejects),
        "settled": report.settled,
        "left_behind": None
        if report.left_behind is None
        else {
            **{fate.value: report.left_behind.fates.get(fate, 0) for fate in _FATES},
            "kept": [repr(key)[2:-1] for key in report.left_behind.kept],
        },
        "partitions_redone": report.redone,
        "seconds": round(report.seconds, 3),
        "throttled_seconds": round(report.throttled_s, 3),
        "run": report.run.id if report.run else None,
    }
