"""
Numbers for people: plain text tables, sizes, durations, rates, and the summary of a backfill.

No colour and no box drawing: every table survives a pipe, a log and a ticket.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from migrate.model.values import Outcome
from migrate.ops.console import one_line

GAP = "  "
TICK = "✓"

_BYTES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def width(text: str) -> int:
    """
    Columns that the text takes on a terminal: wide characters two, combining ones none.
    """
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], align: str = "") -> str:
    """
    Lay out rows under headers.

    Integers get thousands separators and None is shown as `-`. Control characters in cells are
    escaped, so that no value can break the layout.

    Args:
        align: One letter a column, `l` or `r`; columns without one are right-aligned.
    """
    lines = [[_cell(value) for value in row] for row in (headers, *rows)]
    widths = [max(map(width, column)) for column in zip(*lines, strict=True)]
    sides = align.ljust(len(headers), "r")
    return "\n".join(
        GAP.join(_pad(*cell) for cell in zip(line, widths, sides, strict=True)).rstrip()
        for line in lines
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return one_line(str(value))


def _pad(text: str, columns: int, side: str) -> str:
    filler = " " * (columns - width(text))
    return text + filler if side == "l" else filler + text


def human_bytes(count: float) -> str:
    """
    A size in units of 1024: `512 B`, `1.5 KiB`, `3.2 GiB`.
    """
    size, step = float(count), 0
    while round(abs(size), 1) >= 1024 and step < len(_BYTES) - 1:
        size, step = size / 1024, step + 1
    return f"{size:,.0f} {_BYTES[0]}" if step == 0 else f"{size:,.1f} {_BYTES[step]}"


def human_duration(seconds: float) -> str:
    """
    A length of time in its largest units: `0.4 s`, `12 s`, `4 min 05 s`, `1 h 03 min`, `2 d 04 h`.
    """
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02} h"


def human_rate(rows: float, seconds: float) -> str:
    """
    Rows in a second: `21,400 rows/s`; `-` where no time has passed.
    """
    return f"{rows / seconds:,.0f} rows/s" if seconds > 0 else "-"


@dataclass(frozen=True, slots=True)
class Summary:
    """
    What one run did to one mapping.

    Args:
        rows: Rows read.

        outcomes: How many records ended how; missing outcomes are 0.

        rejects: Rows that could not become a record.

        seconds: Length of the run.
    """

    mapping: str
    rows: int
    outcomes: Mapping[Outcome, int]
    rejects: int
    seconds: float


_ALWAYS = {
    Outcome.WRITTEN: "written",
    Outcome.REPLACED: "replaced",
    Outcome.SAME: "same",
    Outcome.STALE: "stale",
    Outcome.CONFLICT: "conflict",
    Outcome.COLLISION: "collisions",
}
"""Columns that every summary has."""

_WHERE_THERE = {
    Outcome.EXPIRED: "expired",
    Outcome.DUPLICATE: "duplicates",
    Outcome.ADOPTED: "adopted",
}
"""Columns of a summary in which something ended so: few mappings can."""

_BAD = frozenset({Outcome.CONFLICT, Outcome.COLLISION})


def summary(runs: Sequence[Summary], *, tick: str = TICK) -> str:
    """
    The table at the end of a backfill, with a total where there are several mappings.

    Args:
        tick: Shown for no conflicts, collisions and rejects; give `0` where it cannot be shown.
    """
    columns = _ALWAYS | {
        outcome: name
        for outcome, name in _WHERE_THERE.items()
        if any(run.outcomes.get(outcome) for run in runs)
    }
    shown = [*runs, _total(runs)] if len(runs) > 1 else runs
    headers = ("mapping", "rows", *columns.values(), "rejects", "seconds", "rows/s")
    return table(headers, [_summary_row(run, columns, tick) for run in shown], align="l")


def _summary_row(run: Summary, columns: Iterable[Outcome], tick: str) -> tuple[object, ...]:
    counts = (
        run.outcomes.get(outcome, 0) or (tick if outcome in _BAD else 0) for outcome in columns
    )
    return (
        run.mapping,
        run.rows,
        *counts,
        run.rejects or tick,
        f"{run.seconds:,.1f}",
        f"{run.rows / run.seconds:,.0f}" if run.seconds > 0 else None,
    )


def _total(runs: Sequence[Summary]) -> Summary:
    return Summary(
        mapping="total",
        rows=sum(run.rows for run in runs),
        outcomes={
            outcome: sum(run.outcomes.get(outcome, 0) for run in runs) for outcome in Outcome
        },
        rejects=sum(run.rejects for run in runs),
        seconds=sum(run.seconds for run in runs),
    )
