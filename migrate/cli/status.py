"""
The home page: how far every mapping is, who works on it, and the next command.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from migrate.cli.context import AppContext, pass_app
from migrate.cli.options import Command, json_option
from migrate.errors import ExitCode
from migrate.ledger.access import open_ledger
from migrate.ledger.store import FINISHED, PURGED, RUNNING, Ledger, Lock, RunState
from migrate.model.settings import SourceConfig
from migrate.model.values import Outcome
from migrate.ops.tables import human_duration, human_rate, table

NOT_VERIFIED, VERIFIED, STALE = "not verified", "verified", "stale"
"""Whether a verification passed, and whether it still speaks of what is there."""

PERIOD_S = 2.0
"""Between two looks of --watch."""


@dataclass(frozen=True, slots=True)
class Standing:
    """
    How far one mapping is.

    Args:
        run: The last run; None before the first.

        lock: Who works on it now.

        open_rejects: By reason.

        verified: Not verified, verified, or stale.
    """

    mapping: str
    run: RunState | None = None
    lock: Lock | None = None
    open_rejects: dict[str, int] | None = None
    verified: str = NOT_VERIFIED

    @property
    def state(self) -> str:
        """
        One word for people and for --json.
        """
        if self.run is None:
            return "not started"
        if self.lock is not None:
            return "running"
        if self.run.status == FINISHED:
            return "complete"
        if self.run.status == PURGED:
            return "purged"
        return "interrupted" if self.run.status == RUNNING else "incomplete"

    @property
    def next_command(self) -> str:
        """
        What to run next.
        """
        if self.state == "running":
            return "profile-migrate status --watch"
        if self.run is None or self.state == "purged":
            return f"profile-migrate plan {self.mapping}"
        if self.state != "complete":
            return f"profile-migrate backfill {self.mapping}"
        if self.open_rejects:
            return f"profile-migrate rejects list {self.mapping}"
        return f"profile-migrate backfill {self.mapping}"


@click.command(cls=Command)
@click.argument("mapping", required=False)
@click.option("--watch", is_flag=True, help="Look again every two seconds until Ctrl-C.")
@json_option
@pass_app
def status(app: AppContext, *, mapping: str | None, watch: bool) -> int:
    r"""
    Show how far each mapping is and what to run next.

    Reads the ledger only: neither the source nor Redis is asked.

    \b
    Examples:
      profile-migrate status
      profile-migrate status user_profiles --json
    """
    names = [app.mapping(mapping).name] if mapping else sorted(app.mappings)
    while True:
        standings = _look(app, names)
        app.emit(
            {"mappings": [_as_json(standing) for standing in standings], "settings": _origins(app)},
            _as_text(app, standings),
        )
        if not watch:
            break
        time.sleep(PERIOD_S)
    for standing in standings[:1] if mapping else standings:
        app.next_step(standing.next_command)
        break
    return int(ExitCode.DONE)


def _look(app: AppContext, names: list[str]) -> list[Standing]:
    config = app.settings.ledger
    if _is_missing(config):
        return [Standing(name) for name in names]
    ledger = open_ledger(config, wall=time.time)
    with closing(ledger):
        return [
            Standing(
                name,
                ledger.last_run(name),
                ledger.lock_of(name),
                ledger.count_rejects(name),
                _verified(ledger, name, app.settings.gates.verification_max_age_s),
            )
            for name in names
        ]


def _verified(ledger: Ledger, name: str, max_age_s: float) -> str:
    """
    Whether the last verification passed, and is of the records as they are.

    The epoch is raised by every run that writes; any run after it makes a verification stale.
    """
    kept, state, run = ledger.last_passed(name), ledger.mapping(name), ledger.last_run(name)
    if kept is None or state is None or run is None:
        return NOT_VERIFIED
    fresh = time.time() - kept.kept_at <= max_age_s
    later = run.updated_at > kept.kept_at or ledger.written_after(name, kept.kept_at)
    same = kept.fingerprint == state.fingerprint and not later
    return VERIFIED if fresh and same else STALE


def _is_missing(config: SourceConfig) -> bool:
    # Looking must not make a ledger.
    return config.dialect == "sqlite" and not Path(config.database or "").exists()


def _as_json(standing: Standing) -> dict[str, Any]:
    run = standing.run
    found: dict[str, Any] = {
        "mapping": standing.mapping,
        "state": standing.state,
        "open_rejects": standing.open_rejects or {},
        "verified": standing.verified,
        "next": standing.next_command,
        "holder": str(standing.lock.holder) if standing.lock else None,
        "run": None,
    }
    if run is not None:
        found["run"] = {
            "id": run.id,
            "exit_code": run.exit_code,
            "error": run.error,
            "rows": run.rows,
            "rows_estimated": run.rows_estimated,
            "partitions": run.partitions,
            "partitions_done": run.partitions_done,
            "rejected": run.rejected,
            **{outcome.name.lower(): run.outcomes.get(outcome, 0) for outcome in Outcome},
            "started_at": run.started_at,
            "updated_at": run.updated_at,
            "finished_at": run.finished_at,
            "seconds": round(run.seconds, 3),
            "throttled_seconds": round(run.throttled_s, 3),
            "source": run.source,
            "target": run.target,
        }
    return found


def _origins(app: AppContext) -> dict[str, str]:
    return dict(app.settings.origin) if app.verbosity > 0 else {}


def _as_text(app: AppContext, standings: list[Standing]) -> str:
    if not standings:
        return f"No mappings in {app.mappings_folder}."
    rows = [_row(standing) for standing in standings]
    headers = ("mapping", "state", "rows", "partitions", "rejects", "last change", "rate")
    lines = [table(headers, rows, align="llrrrrr")]
    for standing in standings:
        lines += _details(standing)
    lines += [f"{name} = {origin}" for name, origin in _origins(app).items()]
    return "\n".join(lines)


def _row(standing: Standing) -> tuple[object, ...]:
    run = standing.run
    rejects = sum((standing.open_rejects or {}).values())
    if run is None:
        return (standing.mapping, standing.state, None, None, None, None, None)
    total = max(run.rows, run.rows_estimated)
    return (
        standing.mapping,
        standing.state,
        f"{run.rows:,} of ~{total:,}",
        f"{run.partitions_done} of {run.partitions}",
        rejects,
        f"{human_duration(max(0.0, time.time() - run.updated_at))} ago",
        human_rate(run.rows, run.seconds),
    )


def _details(standing: Standing) -> list[str]:
    lines = []
    if standing.lock is not None:
        lines.append(f"{standing.mapping}: held by {standing.lock.holder}")
    if standing.run is not None and standing.run.error and standing.state == "incomplete":
        lines.append(f"{standing.mapping}: the last run ended with error[{standing.run.error}]")
    if standing.run is not None:
        lines.append(
            f"{standing.mapping}: {standing.verified}; reads and writes belong to SQL, nothing to "
            "go back from."
        )
    return lines
