"""
The home page: how far every mapping is, who works on it, and the next command.
"""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from migrate.cli.context import AppContext, pass_app
from migrate.cli.options import Command, json_option
from migrate.errors import ExitCode
from migrate.ledger.access import open_ledger
from migrate.model.settings import SourceConfig
from migrate.model.values import Outcome
from migrate.ops.standing import Proof, Standing, standing
from migrate.ops.tables import human_duration, human_rate, table

PERIOD_S = 2.0
"""Between two looks of --watch."""


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
            {"mappings": [_as_json(one) for one in standings], "settings": _origins(app)},
            _as_text(app, standings),
        )
        if not watch:
            break
        time.sleep(PERIOD_S)
    if standings:
        app.next_step(standings[0].next_command)
    return int(ExitCode.DONE)


def _look(app: AppContext, names: list[str]) -> list[Standing]:
    config = app.settings.ledger
    if _is_missing(config):
        return [Standing(name) for name in names]
    ledger = open_ledger(config, wall=time.time)
    with closing(ledger):
        max_age_s = app.settings.gates.verification_max_age_s
        return [standing(ledger, name, max_age_s=max_age_s, now=time.time()) for name in names]


def _is_missing(config: SourceConfig) -> bool:
    # Looking must not make a ledger.
    return config.dialect == "sqlite" and not Path(config.database or "").exists()


def _as_json(one: Standing) -> dict[str, Any]:
    run = one.run
    told: dict[str, Any] = {
        "mapping": one.mapping,
        "state": one.state,
        "open_rejects": dict(one.open_rejects),
        "verified": one.proof.trust.value,
        "verification": _proof_as_json(one.proof),
        "next": one.next_command,
        "holder": one.holder,
        "run": None,
    }
    if run is not None:
        told["run"] = {
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
    return told


def _proof_as_json(proof: Proof) -> dict[str, Any] | None:
    kept = proof.kept
    if kept is None:
        return None
    return {
        "run": kept.run,
        "level": kept.level,
        "verdict": kept.verdict,
        "differences": sum(proof.mismatches.values()),
        "finished_at": kept.kept_at,
        "age_seconds": round(max(0.0, time.time() - kept.kept_at), 3),
        "written_since": proof.written,
    }


def _origins(app: AppContext) -> dict[str, str]:
    return dict(app.settings.origin) if app.verbosity > 0 else {}


def _as_text(app: AppContext, standings: list[Standing]) -> str:
    if not standings:
        return f"No mappings in {app.mappings_folder}."
    headers = ("mapping", "state", "rows", "partitions", "rejects", "last change", "rate")
    lines = [table(headers, [_row(one) for one in standings], align="llrrrrr")]
    for one in standings:
        lines += _details(one)
        if len(standings) > 1:
            lines.append(f"{one.mapping}: next is {one.next_command}")
    lines += [f"{name} = {origin}" for name, origin in _origins(app).items()]
    return "\n".join(lines)


def _row(one: Standing) -> tuple[object, ...]:
    run = one.run
    if run is None:
        return (one.mapping, one.state, None, None, None, None, None)
    total = max(run.rows, run.rows_estimated)
    return (
        one.mapping,
        one.state,
        f"{run.rows:,} of ~{total:,}",
        f"{run.partitions_done} of {run.partitions}",
        sum(one.open_rejects.values()),
        f"{human_duration(max(0.0, time.time() - run.updated_at))} ago",
        human_rate(run.rows, run.seconds),
    )


def _details(one: Standing) -> list[str]:
    lines = []
    if one.holder:
        lines.append(f"{one.mapping}: held by {one.holder}")
    if one.run is not None and one.run.error and one.state == "incomplete":
        lines.append(f"{one.mapping}: the last run ended with error[{one.run.error}]")
    if one.run is not None:
        lines.append(
            f"{one.mapping}: {one.proof.sentence(time.time())}; reads and writes belong to SQL, "
            "nothing to go back from."
        )
    return lines
