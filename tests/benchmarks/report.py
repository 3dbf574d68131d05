"""
What a measurement found, as tables for a terminal and as one chart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from migrate.ops.tables import table
from tests.benchmarks.chart import Bar, bars, ratio
from tests.benchmarks.contenders import READY
from tests.benchmarks.figures import spread
from tests.benchmarks.measured import WHERE, Measured, Watched


def measure_of(found: Sequence[Measured]) -> Measured | None:
    """
    The load of the ready file, if it ran.
    """
    return next((one for one in found if one.name == READY and one.counts), None)


def rates(found: Sequence[Measured], measure: Measured | None) -> str:
    """
    A table of medians, and the ratio of each to the ready file where there is one.

    Once without the start-up of both, and once with it.
    """
    header = (
        "median of the rounds", "rows/s", "of ready", "start-up s", "rows/s with it", "of ready",
        "us/row", "cpu s", "peak MB", "spread",
    )  # fmt: skip
    lines = [tuple(_cells(one, measure)) for one in found if one.counts]
    return table(header, lines, align="l" + "r" * (len(header) - 1))


def _cells(one: Measured, measure: Measured | None) -> Iterator[str]:
    cpu = sorted(took.cpu_s for took in one.rounds)[len(one.rounds) // 2]
    yield one.title
    yield f"{'~' if one.is_mostly_start_up else ''}{one.rate:,.0f}"
    yield ratio(one.rate, measure.rate) if measure else "-"
    yield f"{one.start_up_s:.2f}"
    yield f"{one.whole_rate:,.0f}"
    yield ratio(one.whole_rate, measure.whole_rate) if measure else "-"
    yield f"{1e6 / one.rate:.2f}"
    yield f"{cpu:.1f}"
    yield f"{one.peak_kb / 1024:,.0f}" if one.peak_kb else "-"
    yield f"{spread(one.rates):.0%}"


def watched(found: Sequence[Watched]) -> str:
    """
    A table of what the second client saw, beside the rate of the backfill.
    """
    of = {(one.where, one.name): one for one in found}
    header = (
        "cores", "second client while", "p50 ms", "p99 ms", "of idle", "backfill rows/s",
        "of unthrottled",
    )  # fmt: skip
    lines = [
        (
            WHERE[one.where],
            one.title,
            f"{sorted(one.p50_ms)[len(one.p50_ms) // 2]:.3f}",
            f"{one.p99:.3f}",
            f"{one.p99 / of[one.where, 'idle'].p99:.2f}",
            f"{one.rate:,.0f}" if one.rate else "-",
            _share(one.rate, of[one.where, "unthrottled"].rate),
        )
        for one in found
    ]
    return table(header, lines, align="llrrrrr")


def _share(rate: float | None, whole: float | None) -> str:
    return f"{rate / whole:.2f}" if rate and whole else "-"


def charted(found: Sequence[Measured]) -> list[Measured]:
    """
    The few that the chart shows, fastest first: all others, and of ours the best of each kind.

    A kind is a database, the plain path from PostgreSQL, and its verification at each level.
    """
    counted = sorted((one for one in found if one.counts), key=lambda one: -one.rate)
    chosen = [one for one in counted if "ours-" not in one.name]
    for kind in _CHARTED:
        chosen += [one for one in counted if re.fullmatch(kind, one.name)][:1]
    return sorted(chosen, key=lambda one: -one.rate)


_CHARTED = (
    r"ours-postgresql-\d+",
    r"ours-mariadb-\d+",
    r"ours-sqlite-\d+",
    r"ours-postgresql-\d+-plain",
    r"verify-full-ours-postgresql-\d+",
    r"verify-deep-ours-postgresql-\d+",
)


def chart(found: Sequence[Measured], document: dict[str, Any]) -> str:
    """
    Loads and verifications of one run.
    """
    counted = charted(found)
    rows = counted[0].rows if counted else 0
    machine, versions = document["machine"], document["versions"]
    note = " · ".join(
        part
        for part in (
            machine["processor"],
            f"{machine['cores']} cores",
            versions.get("redis-server", "").split(" sha=")[0],
            versions.get("postgresql", ""),
            document["date"][:10],
        )
        if part
    )
    measure = measure_of(found)
    return bars(
        f"Rows a second into and from Redis, {rows:,} profiles of 11 columns",
        note,
        [Bar(one.title, one.rate, "ours" in one.name) for one in counted],
        measure.rate if measure else None,
    )
