"""
What the second ways of reading have in common, dialect by dialect: columns of spelled values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any, Protocol

import sqlalchemy as sa

from migrate.source.dialects.base import Raw

ODD = object()
"""In place of a value that has no simple spelling: it equals nothing that a record holds."""

Values = Sequence[Any]
"""Of one column: the text of each cell in UTF-8, the bytes of binary ones, None, or `ODD`."""

Spell = Callable[[Any], Any]
"""One value that is not NULL; raises one of `FAILURES` where it is odd."""

FetchRows = Callable[[sa.Connection, sa.Select[Any], Mapping[str, Any]], Sequence[Raw]]
"""As `Dialect.fetch`."""

Make = Callable[[Sequence[Any]], Values]
"""A column of what the server or the driver gave."""

FAILURES = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)


class Columns(Protocol):
    """
    How one dialect reads the columns of a query.
    """

    def select(self, source: sa.FromClause) -> list[sa.ColumnElement[Any]]:
        """
        What to select for all columns, behind what else is wanted.
        """

    def fetch(
        self,
        connection: sa.Connection,
        statement: sa.Select[Any],
        parameters: Mapping[str, Any],
        own: int,
    ) -> tuple[Sequence[Raw], Sequence[Values]]:
        """
        The first `own` values of each row as the dialect's keyer takes them, and the columns.
        """


def same_way(convert: Callable[[Sequence[Any]], tuple[Sequence[Any], Mapping[int, Any]]]) -> Make:
    """
    As the backfill does, where there is no second way.

    Args:
        convert: A dialect's own, from what came to cells and the faults among them.
    """

    def make(values: Sequence[Any]) -> Values:
        cells, faults = convert(values)
        found: list[Any] = [cell.encode() if isinstance(cell, str) else cell for cell in cells]
        for at in faults:
            found[at] = ODD
        return tuple(found)

    return make


def spelled(values: Sequence[Any], spell: Spell) -> Values:
    """
    A column of values, spelled.
    """
    try:
        if None in values:
            return tuple([None if one is None else spell(one) for one in values])
        return tuple(map(spell, values))
    except FAILURES:
        return tuple([_each(one, spell) for one in values])


def _each(value: Any, spell: Spell) -> Any:
    try:
        return None if value is None else spell(value)
    except FAILURES:
        return ODD


def texts(values: Sequence[Any]) -> Values:
    """
    A column of texts in bytes; one that is no UTF-8 is odd.
    """
    try:
        b"\n".join(filter(None, values)).decode()
    except FAILURES:
        return tuple([_each(one, _checked) for one in values])
    return tuple(values)


def _checked(text: bytes) -> bytes:
    text.decode()
    return text


_CLOCK = re.compile(rb"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?")
_DAY = len("2024-01-31")
_MOST_DAYS = 100_000


class _Days(dict[bytes, bytes]):
    """
    Texts of days that exist.
    """

    def __missing__(self, text: bytes) -> bytes:
        if len(text) != _DAY or date.fromisoformat(text.decode()).isoformat().encode() != text:
            raise ValueError("no day of the usual form")
        if len(self) >= _MOST_DAYS:
            self.clear()
        self[text] = text
        return text


_DAYS = _Days()

day: Spell = _DAYS.__getitem__
"""The text of a day that exists."""


def clock(text: bytes) -> bytes:
    """
    The text of a time of day; zeros at the end are left out.
    """
    if _CLOCK.fullmatch(text) is None:
        raise ValueError("no time of the usual form")
    return text.rstrip(b"0").rstrip(b".") if b"." in text else text


def moment(text: bytes) -> bytes:
    """
    The text of a day and a time; a day alone is its midnight.
    """
    if len(text) == _DAY:
        return _DAYS[text] + b" 00:00:00"
    return _DAYS[text[:_DAY]] + b" " + clock(_behind(text))


def _behind(text: bytes) -> bytes:
    if text[_DAY : _DAY + 1] not in _SEPARATORS:
        raise ValueError("no moment of the usual form")
    return text[_DAY + 1 :]


_SEPARATORS = (b" ", b"T")


__all__ = [
    "FAILURES",
    "ODD",
    "Columns",
    "FetchRows",
    "Spell",
    "Values",
    "clock",
    "day",
    "moment",
    "spelled",
    "texts",
]
