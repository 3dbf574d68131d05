"""
Cells as numbers that Redis can use: instants at which records expire, and scores that order them.

Neither leads back to the cell: that is what the fields are for.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date

from migrate.mapping.codecs import Unencodable
from migrate.model.values import Kind

TEMPORAL = frozenset({Kind.DATE, Kind.TIMESTAMP, Kind.TIMESTAMPTZ})
"""Kinds that are an instant: a date is its midnight, and what has no zone is in UTC."""

NEVER = b""
"""Instead of an instant: the record does not expire."""

_INSTANT = re.compile(
    r"(?P<year>\d{4,})-(?P<month>\d\d)-(?P<day>\d\d)"
    r"(?: (?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)(?:\.(?P<fraction>\d{1,6}))?)?"
    r"(?:\+00)?(?P<bc> BC)?"
)
_CYCLE_YEARS, _CYCLE_DAYS = 400, 146_097
"""After so many years the calendar begins anew, to the day of the week."""

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_INFINITE_SCORES = {
    "Infinity": b"inf",
    "-Infinity": b"-inf",
    "infinity": b"inf",
    "-infinity": b"-inf",
}


def milliseconds(cell: str) -> int:
    """
    Whole milliseconds since 1970 of a date or time stamp of any year; what is finer is cut off.

    Raises:
        Unencodable: It is none that a server prints.
    """
    found = _INSTANT.fullmatch(cell)
    if found is None:
        raise Unencodable("out-of-range", "is no instant")
    year = 1 - int(found["year"]) if found["bc"] else int(found["year"])
    cycles, year = divmod(year, _CYCLE_YEARS)
    try:
        day = date(year + _CYCLE_YEARS, int(found["month"]), int(found["day"])).toordinal()
    except ValueError:
        raise Unencodable("out-of-range", "is a day that does not exist") from None
    days = day + (cycles - 1) * _CYCLE_DAYS - _EPOCH_DAY
    hours = days * 24 + int(found["hour"] or 0)
    seconds = (hours * 60 + int(found["minute"] or 0)) * 60 + int(found["second"] or 0)
    return seconds * 1000 + int((found["fraction"] or "").ljust(3, "0")[:3])


def expires_at(cell: str | None) -> bytes:
    """
    The instant at which a record expires, from its cell: NULL and infinity are never.

    Everything before 1970 has passed and is 0, of which any server makes the same.
    """
    if cell is None or cell == "infinity":
        return NEVER
    if cell == "-infinity":
        return b"0"
    return b"%d" % max(0, milliseconds(cell))


def score_of(kind: Kind) -> Callable[[str], bytes] | None:
    """
    How cells of a kind become scores of a sorted set; None for kinds without an order in numbers.
    """
    if kind in TEMPORAL:
        return _stamp_score
    return _SCORES.get(kind)


def _stamp_score(cell: str) -> bytes:
    return _INFINITE_SCORES.get(cell) or b"%d" % milliseconds(cell)


def _number_score(cell: str) -> bytes:
    """
    The number's own text, which the server reads as a double.
    """
    if cell in _INFINITE_SCORES:
        return _INFINITE_SCORES[cell]
    number = float(cell)
    if number != number:  # noqa: PLR0124 - only NaN differs from itself
        raise Unencodable("score-nan", "is not a number, which has no place in an order")
    if number in (float("inf"), float("-inf")):
        raise Unencodable("score-too-large", "is beyond the numbers that a sorted set can hold")
    # The server refuses a text that a double rounds to zero.
    return cell.encode() if number else b"0"


_SCORES: dict[Kind, Callable[[str], bytes]] = {
    Kind.INTEGER: _number_score,
    Kind.DECIMAL: _number_score,
    Kind.FLOAT: _number_score,
    Kind.BOOLEAN: {"true": b"1", "false": b"0"}.__getitem__,
}
