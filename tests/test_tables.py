"""
Tables, sizes, durations and the summary of a backfill.
"""

from __future__ import annotations

import pytest

from migrate.model.values import Outcome
from migrate.ops.tables import (
    Summary,
    human_bytes,
    human_duration,
    human_rate,
    summary,
    table,
    width,
)


def test_numbers_stand_right_and_names_left() -> None:
    """
    Columns are as wide as their widest cell; integers are grouped; None is a dash.
    """
    shown = table(("name", "rows"), [("users", 1234567), ("a", None)], align="l")

    assert shown.splitlines() == [
        "name        rows",
        "users  1,234,567",
        "a              -",
    ]


def test_wide_characters_take_two_columns() -> None:
    """
    Columns stay straight with East Asian and combining characters.
    """
    shown = table(("who", "n"), [("東京", 1), ("é", 2), ("abcd", 3)], align="l")

    assert [width(line) for line in shown.splitlines()] == [7, 7, 7, 7]


def test_a_cell_cannot_break_the_layout() -> None:
    """
    Line ends, escapes and direction marks in a cell are shown, not obeyed.
    """
    shown = table(("key",), [("a\nb\x1b[2J\u202e",)])

    assert shown.splitlines()[1] == "a\\nb\\x1b[2J\\u202e"


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1023, "1,023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (3.2 * 1024**3, "3.2 GiB"),
        (5000 * 1024**5, "5,000.0 PiB"),
    ],
)
def test_sizes_are_readable(count: float, shown: str) -> None:
    """
    Sizes are shown in units of 1024 with one digit after the point.
    """
    assert human_bytes(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "0.0 s"),
        (0.42, "0.4 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (245, "4 min 05 s"),
        (3780, "1 h 03 min"),
        (187200, "2 d 04 h"),
    ],
)
def test_durations_are_readable(seconds: float, shown: str) -> None:
    """
    Durations are shown in their two largest units; none ever shows 60 seconds.
    """
    assert human_duration(seconds) == shown


def test_a_rate_without_time_is_unknown() -> None:
    """
    No time is no rate, rather than a division by zero.
    """
    assert (human_rate(42800, 2), human_rate(5, 0)) == ("21,400 rows/s", "-")


def test_the_summary_shows_ticks_for_no_errors_and_a_total() -> None:
    """
    Every outcome has its column; no conflicts, collisions and rejects are ticks.
    """
    runs = [
        Summary("users", 1000, {Outcome.WRITTEN: 990, Outcome.COLLISION: 7}, 3, 2.0),
        Summary("groups", 10, {Outcome.SAME: 10}, 0, 0.0),
    ]

    shown = [" ".join(line.split()) for line in summary(runs).splitlines()]

    assert shown == [
        "mapping rows written replaced same stale conflict collisions rejects seconds rows/s",
        "users 1,000 990 0 0 0 ✓ 7 3 2.0 500",
        "groups 10 0 0 10 0 ✓ ✓ ✓ 0.0 -",
        "total 1,010 990 0 10 0 ✓ 7 3 2.0 505",
    ]


def test_the_tick_has_a_plain_form() -> None:
    """
    Where the stream has no tick, a zero stands for it.
    """
    assert summary([Summary("users", 1, {Outcome.WRITTEN: 1}, 0, 1.0)], tick="0").isascii()


def test_rare_outcomes_have_a_column_where_there_are_some() -> None:
    """
    Expired, duplicate and adopted records show in their own columns, and nowhere else.
    """
    usual = Summary("users", 1, {Outcome.WRITTEN: 1}, 0, 1.0)
    rare = Summary("people", 3, {Outcome.EXPIRED: 2, Outcome.DUPLICATE: 1}, 0, 1.0)

    assert summary([usual]).split()[:9] == [
        *("mapping", "rows", "written", "replaced", "same", "stale", "conflict", "collisions"),
        "rejects",
    ]
    header, first, second, total = (line.split() for line in summary([usual, rare]).splitlines())
    assert header[8:10] == ["expired", "duplicates"]
    assert [line[8:10] for line in (first, second, total)] == [["0", "0"], ["2", "1"], ["2", "1"]]
