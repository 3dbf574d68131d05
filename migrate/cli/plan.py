"""
The command that looks ahead: what a backfill would do, how long and how large.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any

import click

from migrate.cli.context import AppContext, pass_app
from migrate.cli.options import Command, json_option
from migrate.errors import ExitCode
from migrate.ledger.access import open_ledger
from migrate.ledger.store import has_ledger
from migrate.model.events import Waiting
from migrate.model.values import Outcome
from migrate.ops.console import one_line
from migrate.ops.tables import human_bytes, human_duration, human_rate
from migrate.source.store import SqlSource
from migrate.stages.change import Change
from migrate.stages.ledger_checks import Known
from migrate.stages.plan import HEADROOM, Memory, Plan, Planner, Verdict, shown
from migrate.target.retry import SystemClock
from migrate.target.store import RedisTarget


@click.command(cls=Command)
@click.argument("mapping", required=False)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Processes to reckon the time for.",
)
@click.option("--show-values", is_flag=True, help="Show values of rows in sample commands.")
@json_option
@pass_app
def plan(app: AppContext, *, mapping: str | None, workers: int, show_values: bool) -> int:
    r"""
    Say what a backfill of MAPPING would do, from counts and a sample.

    Rows, records, memory on this server, time, collisions, sample commands. Writes nothing. Without
    MAPPING all mappings are planned together. Ends with 4 where a backfill would be refused or its
    records do not fit.

    \b
    Examples:
      profile-migrate plan user_profiles
      profile-migrate plan user_profiles --workers 4 --json
    """
    chosen = [app.mapping(mapping)] if mapping else list(app.mappings.values())

    with ExitStack() as stack:
        planner = _planner(app, stack, workers, show_values=show_values)
        plans = [planner.plan(one) for one in chosen]
        memory = planner.memory(plans)
    refused = any(one.beginning.way is None for one in plans)
    fits = memory.verdict is not Verdict.DOES_NOT_FIT
    code = ExitCode.DONE if fits and not refused else ExitCode.REFUSED
    app.emit(_as_json(plans, memory, code), "\n".join(_as_text(plans, memory)))
    _say_next(app, plans, mapping, code)
    return int(code)


def _planner(app: AppContext, stack: ExitStack, workers: int, *, show_values: bool) -> Planner:
    settings = app.settings

    def tell(waiting: Waiting) -> None:
        app.say(f"Waiting for the {waiting.store}: {waiting.reason}.")

    known = Known()
    if has_ledger(settings.ledger, sleep=time.sleep, notify=tell):
        ledger = open_ledger(settings.ledger, wall=time.time, notify=tell)
        known = Known(stack.enter_context(closing(ledger)))
    source = SqlSource.open(settings.source, tell)
    stack.enter_context(closing(source))
    target = RedisTarget.open(settings.redis["target"], tell)
    stack.enter_context(closing(target))
    return Planner(
        source=source,
        target=target,
        known=known,
        throttle=settings.throttle,
        clock=SystemClock(),
        workers=workers,
        show_values=show_values,
    )


def _say_next(app: AppContext, plans: Sequence[Plan], mapping: str | None, code: ExitCode) -> None:
    if code is not ExitCode.DONE:
        words = ["doctor", *([mapping] if mapping else [])]
        app.next_step(f"profile-migrate {' '.join(words)}")
    else:
        app.next_step(f"profile-migrate backfill {plans[0].mapping} --dry-run")


# --- as JSON ------------------------------------------------------------------------------------


def _as_json(plans: Sequence[Plan], memory: Memory, code: ExitCode) -> dict[str, Any]:
    share = memory.share_after
    return {
        "mappings": [_plan_as_json(one) for one in plans],
        "memory": {
            "used_bytes": memory.used,
            "maxmemory_bytes": memory.maxmemory,
            "added_bytes": memory.added,
            "share_after": None if share is None else round(share, 4),
            "throttle_limit": memory.limit,
            "verdict": str(memory.verdict),
        },
        "exit_code": int(code),
    }


def _plan_as_json(one: Plan) -> dict[str, Any]:
    sample, cost = one.sample, one.cost
    return {
        "mapping": one.mapping,
        "begins": one.beginning.way,
        "begins_what": one.beginning.what,
        "begins_fix": one.beginning.next_step or None,
        "change": None if one.change is None else _change_as_json(one.change),
        "rows": one.rows,
        "rows_exact": one.exact,
        "rows_done": one.beginning.rows_done,
        "partitions": one.partitions,
        "records": one.records,
        "new_records": one.new_records,
        "record_bytes": None if cost.record_bytes is None else round(cost.record_bytes, 1),
        "record_bytes_margin": None if cost.margin is None else round(cost.margin, 3),
        "added_bytes": one.added_bytes,
        "not_measured": cost.unmeasured or None,
        "seconds": None if one.seconds is None else round(one.seconds, 3),
        "workers": one.workers,
        "seconds_a_row": {step: round(value, 9) for step, value in cost.seconds.items()},
        "sample": {
            "rows": sample.rows,
            "records": sample.records,
            "rejects": dict(sample.rejects),
            **{outcome.name.lower(): sample.outcomes.get(outcome, 0) for outcome in Outcome},
            "collisions": [{"key": key, "type": kind} for key, kind in sample.collisions],
            "commands": list(sample.commands),
        },
    }


def _change_as_json(change: Change) -> dict[str, Any]:
    return {
        "written": change.written,
        "replaced": change.replaced,
        "removed": change.removed,
        "tombstones": change.buried,
        "kept": change.kept,
        "kept_examples": [shown(key) for key in change.examples],
    }


# --- for people ---------------------------------------------------------------------------------


def _as_text(plans: Sequence[Plan], memory: Memory) -> Iterator[str]:
    for one in plans:
        yield one.mapping
        for name, text in _facts(one):
            yield f"  {name:<12}{one_line(text)}"
        yield ""
    yield "redis"
    yield f"  {'memory':<12}{_memory(memory)}"
    yield f"  {'verdict':<12}{_VERDICTS[memory.verdict]}"


def _facts(one: Plan) -> Iterator[tuple[str, str]]:
    sample = one.sample
    yield "begins", one.beginning.what if one.beginning.way else f"REFUSED: {one.beginning.what}"
    if one.beginning.next_step:
        yield "fix", one.beginning.next_step
    if one.change is not None:
        yield "change", _change(one.change)
    for kept in one.change.examples if one.change else ():
        yield "kept", f"{shown(kept)} was changed by somebody else"
    told = "counted" if one.exact else "the server's estimate"
    parts = "partition" if one.partitions == 1 else "partitions"
    yield "rows", f"{one.rows:,} ({told}), about {one.partitions:,} {parts}"
    yield "records", f"{one.records:,}, of them {one.new_records:,} new"
    yield "memory", _added(one)
    yield "time", _time(one)
    yield "sample", f"{sample.rows:,} rows: {_counts(sample.outcomes, sample.rejects)}"
    for key, kind in sample.collisions:
        yield "collision", f"{key} is there as {kind} and not ours"
    for command in sample.commands:
        yield "command", command


def _change(change: Change) -> str:
    """
    Of records of an earlier form of the mapping.
    """
    return (
        f"with the mapping as it is now about {change.written:,} records are written and "
        f"{change.replaced:,} replaced; of the earlier ones {change.removed:,} are removed, about "
        f"{change.buried:,} become tombstones, {change.kept:,} are kept"
    )


def _added(one: Plan) -> str:
    if one.cost.record_bytes is None or one.added_bytes is None:
        return f"not measured: {one.cost.unmeasured}"
    each, margin = human_bytes(one.cost.record_bytes), one.cost.margin or 0.0
    more = human_bytes(one.added_bytes)
    return f"{each} a record, give or take {margin:.0%}; {more} more in all"


def _time(one: Plan) -> str:
    if one.seconds is None:
        return "not measured"
    left = max(0, one.rows - one.beginning.rows_done)
    workers = "worker" if one.workers == 1 else "workers"
    rate = human_rate(left, one.seconds)
    return f"about {human_duration(one.seconds)} with {one.workers} {workers} ({rate})"


def _counts(outcomes: Mapping[Outcome, int], rejects: Mapping[str, int]) -> str:
    found = [f"{count} {outcome.name.lower()}" for outcome, count in sorted(outcomes.items())]
    if rejects:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(rejects.items()))
        found.append(f"{sum(rejects.values())} rejected ({reasons})")
    return ", ".join(found) or "nothing"


def _memory(memory: Memory) -> str:
    used = "hidden" if memory.used is None else human_bytes(memory.used)
    added = "not measured" if memory.added is None else human_bytes(memory.added)
    if memory.maxmemory is None:
        return f"{used} used + {added}; maxmemory is hidden"
    if memory.maxmemory == 0:
        return f"{used} used + {added}; maxmemory is not set"
    share = "" if memory.share_after is None else f": {memory.share_after:.0%}"
    return f"{used} used + {added} of {human_bytes(memory.maxmemory)}{share}"


_VERDICTS: Mapping[Verdict, str] = {
    Verdict.FITS: f"fits, with {HEADROOM:.0%} of maxmemory to spare",
    Verdict.LITTLE_HEADROOM: f"fits, but leaves less than {HEADROOM:.0%} of maxmemory free",
    Verdict.OVER_THROTTLE: "over the throttle limit: the run would pause and end incomplete. "
    "Raise maxmemory or throttle.redis_memory",
    Verdict.DOES_NOT_FIT: "DOES NOT FIT: raise maxmemory or free memory first",
    Verdict.NO_LIMIT: "no limit to compare with: set maxmemory to what the machine can give",
    Verdict.UNKNOWN: "not known",
}
