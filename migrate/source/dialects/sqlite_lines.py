"""
SQLite: values as they are stored, looked at and put together column by column.

The library is in this process: a row of values costs less than a text of it would. What costs is to
look at each value for its type, which is cheapest for a column at once, and memory: some hundred
rows at a time stay in the processor's cache and are a third cheaper than a page.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from migrate.model.lines import ODD_LINE, TAB, lines_of_columns
from migrate.model.values import Cell, ColumnRead, Kind
from migrate.source.dialects.base import Fetched, Keyed, Lines, Raw, TooMuch
from migrate.source.dialects.spelling import Converted

AT_ONCE = 1_000
"""Rows that are taken from the driver and spelled before the next ones."""

FetchPortions = Callable[
    [sa.Connection, sa.Select[Any], Mapping[str, Any]], Iterator[Sequence[Raw]]
]
Converter = Callable[[Sequence[Any]], Converted]


@dataclass(frozen=True, slots=True)
class StoredLines:
    """
    Lines of the values that the driver gives, by the converters of the plain way.

    Args:
        converters: One of each column.

        places: Where among the selected columns those of the key are.

        beside: Names of key columns that are selected behind the others.

        keyer: Says which keys are at fault.

        front: Columns of another table that begin each line.
    """

    reads: tuple[ColumnRead, ...]
    converters: tuple[Converter, ...]
    places: tuple[int, ...]
    beside: tuple[str, ...]
    keyer: Callable[[Sequence[Raw]], Keyed]
    portions: FetchPortions
    front: tuple[sa.ColumnElement[Any], ...] = ()
    front_converters: tuple[Converter, ...] = ()

    def columns(
        self, source: sa.FromClause, version: sa.ColumnElement[str] | None
    ) -> list[sa.ColumnElement[Any]]:
        """
        The columns, what is missing of the key, and the version.
        """
        names = [*(read.column.name for read in self.reads), *self.beside]
        found: list[sa.ColumnElement[Any]] = [*self.front, *(source.c[name] for name in names)]
        found += [] if version is None else [version]
        return [column.label(f"c{number}") for number, column in enumerate(found)]

    def behind(self, front: Lines, source: sa.FromClause, cells: int) -> StoredLines:
        """
        The same with more columns, which are looked at as well. See `Lines.behind`.
        """
        if not isinstance(front, StoredLines):
            raise TypeError(front)
        return replace(
            self, front=tuple(front.columns(source, None)), front_converters=front.converters
        )

    def fetch(
        self,
        connection: sa.Connection,
        statement: sa.Select[Any],
        parameters: Mapping[str, Any],
        most: int | None = None,
    ) -> Fetched:
        """
        The lines of a page; a row with a value at fault has one that is no text, and is kept.
        """
        lines: list[bytes] = []
        keys: list[Raw] = []
        kept: dict[int, Raw] = {}
        left = most
        for rows in self.portions(connection, statement, parameters):
            if not rows:
                continue
            start = len(lines)
            odd = self._spell(rows, lines, keys)
            if left is not None:
                left -= sum(map(len, lines[start:]))
                if left < 0:
                    # Read on to the end, which leaves the connection as it was.
                    del lines[:], keys[:]
                    continue
            kept.update((start + at, rows[at]) for at in odd)
        if left is not None and left < 0:
            raise TooMuch
        return Fetched(lines, keys, kept)

    def _spell(self, rows: Sequence[Raw], lines: list[bytes], keys: list[Raw]) -> set[int]:
        """
        Add lines and keys of some rows; the positions of those at fault.
        """
        values = list(zip(*rows, strict=True))
        converters = (*self.front_converters, *self.converters)
        width = len(converters)
        columns: list[Sequence[Cell]] = []
        odd: set[int] = set()
        for convert, column in zip(converters, values[:width], strict=True):
            cells, faults = convert(column)
            columns.append(cells)
            odd.update(faults)
        found = list(zip(*(values[place] for place in self.places), strict=True))
        odd.update(self.keyer(found)[1])
        versions = values[width + len(self.beside) :]
        spelled = lines_of_columns([*columns, *versions])
        for at in odd:
            spelled[at] = TAB.join((ODD_LINE, *(_version(column[at]) for column in versions)))
        lines += spelled
        keys += found
        return odd

    def cell(self, at: int, text: bytes) -> Cell:
        """
        The text; of binary columns what its digits say.
        """
        read = self.reads[at]
        if read.column.kind is Kind.BYTES and not read.verbatim:
            return binascii.unhexlify(text)
        return text.decode()

    def key(self, cells: Sequence[bytes | None]) -> Raw:
        """
        Never asked: lines do not say how a key was stored.
        """
        raise NotImplementedError


def _version(text: str | None) -> bytes:
    return b"\\N" if text is None else text.encode()


__all__ = ["StoredLines"]
