"""
The ratios that matter, drawn from one run: whoever wants to know whether it is fast reads these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.benchmarks.contenders import READY, TITLES
from tests.benchmarks.measured import WHERE, Measured, Watched

Ratio = tuple[str, float]


def ratios(found: Mapping[str, Sequence[Any]]) -> list[Ratio]:
    """
    Of each part that ran, what it is measured for. Of several numbers of workers, the fastest.
    """
    return [
        *_loads(found.get("loads", ())),
        *_shapes(found.get("shapes", ())),
        *_sizes(found.get("sizes", ())),
        *_client(found.get("client", ())),
    ]


def _rate(measured: Sequence[Measured], name: str) -> float | None:
    return next((one.rate for one in measured if one.name == name and one.counts), None)


def _best(measured: Sequence[Measured], prefix: str) -> float | None:
    rates = [
        one.rate
        for one in measured
        if one.counts and one.name.startswith(prefix) and not one.name.endswith("-plain")
    ]
    return max(rates, default=None)


def _quotient(label: str, value: float | None, measure: float | None) -> Iterator[Ratio]:
    if value and measure:
        yield label, value / measure


def _loads(measured: Sequence[Measured]) -> Iterator[Ratio]:
    ours = _best(measured, "ours-postgresql-")
    for name, title in (
        (READY, "redis-cli --pipe, ready file"),
        ("psql", "psql | redis-cli --pipe"),
        ("psql-lean", "psql, lengths counted before | redis-cli --pipe"),
        ("psql-portions", "psql, the same by FETCH_COUNT | redis-cli --pipe"),
        ("sqlalchemy", "SQLAlchemy + redis-py"),
        ("datayoga", "datayoga"),
    ):
        yield from _quotient(f"backfill from PostgreSQL : {title}", ours, _rate(measured, name))
    for dialect, title in (("mariadb", "MariaDB"), ("sqlite", "SQLite")):
        rate = _best(measured, f"ours-{dialect}-")
        yield from _quotient(f"backfill from {title} : from PostgreSQL", rate, ours)
    for dialect, title in TITLES.items():
        load = _best(measured, f"ours-{dialect}-")
        for level in ("full", "deep"):
            rate = _best(measured, f"verify-{level}-ours-{dialect}-")
            yield from _quotient(f"verify {level} : backfill, {title}", rate, load)


def _shapes(measured: Sequence[Measured]) -> Iterator[Ratio]:
    for dialect, title in TITLES.items():
        nested, flat = (_rate(measured, f"{name}-{dialect}") for name in ("children", "flat"))
        yield from _quotient(f"with two child tables : flat, {title}", nested, flat)


def _sizes(measured: Sequence[Measured]) -> Iterator[Ratio]:
    counted = [one for one in measured if one.counts]
    if len(counted) > 1:
        first, last = counted[0], counted[-1]
        sizes = f"at {last.rows:,} rows : at {first.rows:,}"
        yield f"cost a row {sizes}", first.rate / last.rate
        if first.peak_kb and last.peak_kb:
            yield f"peak memory {sizes}", last.peak_kb / first.peak_kb


def _client(measured: Sequence[Watched]) -> Iterator[Ratio]:
    for where in dict.fromkeys(one.where for one in measured):
        idle, full, *throttled = (one for one in measured if one.where == where)
        for one in (full, *throttled):
            yield (
                f"second client's p99, cores {WHERE[where]}, {one.title} : idle",
                one.p99 / idle.p99,
            )
        for one in throttled:
            title = f"backfill, cores {WHERE[where]}, {one.title} : unthrottled"
            yield from _quotient(title, one.rate, full.rate)
