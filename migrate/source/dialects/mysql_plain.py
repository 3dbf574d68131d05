"""
MariaDB and MySQL: the expressions of `plain`, a row in one text: the driver is slow by value.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import sqlalchemy as sa

from migrate.model.values import Column, ColumnRead, Kind
from migrate.source.dialects.base import Dialect, Raw, Relation
from migrate.source.dialects.mysql_cells import converter
from migrate.source.dialects.plain_columns import (
    ODD,
    FetchRows,
    Make,
    Spell,
    Values,
    clock,
    day,
    moment,
    same_way,
    spelled,
    texts,
)
from migrate.source.dialects.spelling import float_text, single_text

Expression = Callable[[Column, sa.ColumnElement[Any]], sa.ColumnElement[Any]]

_HEX = frozenset({Kind.TEXT, Kind.ENUM, Kind.JSON, Kind.UUID})
_BETWEEN, _NULL = b",", b"-"
_TRUTHS = {b"0": b"false", b"1": b"true"}
_ZERO = ord("0")


def _integer(text: bytes) -> bytes:
    return b"%d" % int(text)


def _decimal(text: bytes) -> bytes:
    if text[0] != _ZERO:
        return text
    # A column may be declared to show zeros in front.
    bare = text.lstrip(b"0")
    return bare if bare[:1].isdigit() else b"0" + bare


def _zoned(text: bytes) -> bytes:
    return moment(text) + b"+00"


def _double(text: bytes) -> bytes:
    return float_text(float(text)).encode()


def _single(text: bytes) -> bytes:
    return single_text(float(text)).encode()


_SPELLS: Mapping[Kind, Spell] = {
    Kind.INTEGER: _integer,
    Kind.DECIMAL: _decimal,
    Kind.BOOLEAN: _TRUTHS.__getitem__,
    Kind.BYTES: binascii.a2b_base64,
    Kind.DATE: day,
    Kind.TIME: clock,
    Kind.TIMESTAMP: moment,
    Kind.TIMESTAMPTZ: _zoned,
}


def _made(read: ColumnRead) -> Make:
    if read.column.kind in _HEX:
        return lambda values: texts(spelled(values, binascii.unhexlify))
    if read.column.kind is Kind.FLOAT:
        single = read.column.type.lower().startswith("float")
        return partial(spelled, spell=_single if single else _double)
    return partial(spelled, spell=_SPELLS[read.column.kind])


@dataclass(frozen=True, slots=True)
class MysqlColumns:
    """
    Columns out of one text a row: `=` and the value's expression, or `-`, between commas.

    Args:
        others: Whether each column is read a second way; what is not stands behind the text.

        expression: Of the second way; gives digits, letters and signs other than a comma.

        cell: Of the first way.
    """

    reads: tuple[ColumnRead, ...]
    others: tuple[bool, ...]
    expression: Expression
    cell: Callable[[ColumnRead, sa.ColumnElement[Any]], sa.ColumnElement[Any]]
    rows: FetchRows
    makes: tuple[Make, ...]

    @classmethod
    def of(
        cls,
        dialect: Dialect,
        relation: Relation,
        reads: Sequence[ColumnRead],
        others: Sequence[bool],
        expression: Expression,
    ) -> MysqlColumns:
        """
        The way of these columns.
        """
        makes = [
            _made(read) if other else same_way(converter(read))
            for read, other in zip(reads, others, strict=True)
        ]
        cell = partial(dialect.cell, relation)
        return cls(tuple(reads), tuple(others), expression, cell, dialect.fetch, tuple(makes))

    def select(self, source: sa.FromClause) -> list[sa.ColumnElement[Any]]:
        """
        One text of all columns, and the others.
        """
        parts: list[sa.ColumnElement[Any]] = []
        behind: list[sa.ColumnElement[Any]] = []
        for read, other in zip(self.reads, self.others, strict=True):
            column = source.c[read.column.name]
            if not other:
                behind.append(self.cell(read, column))
                continue
            value = self.expression(read.column, column)
            if read.column.kind is Kind.TIME:
                # A span is no time of day, and the format may leave its sign out.
                below = column < sa.literal_column("TIME'00:00:00'")
                value = sa.case((below, _word("x")), else_=value)
            begun = sa.func.concat(_word("="), value)
            parts += (sa.case((column.is_(None), _word("-")), else_=begun), _word(","))
        return [sa.func.concat(*parts, _word(".")), *behind]

    def fetch(
        self,
        connection: sa.Connection,
        statement: sa.Select[Any],
        parameters: Mapping[str, Any],
        own: int,
    ) -> tuple[Sequence[Raw], Sequence[Values]]:
        """
        Rows, and the columns of their texts.
        """
        rows = self.rows(connection, statement, parameters)
        if not rows:
            return (), ()
        width = sum(self.others)
        within = zip(*[_cells(row[own], width) for row in rows], strict=True)
        behind = zip(*[row[own + 1 :] for row in rows], strict=True)
        found = []
        for make, other in zip(self.makes, self.others, strict=True):
            found.append(_with_odd(make, next(within)) if other else make(next(behind)))
        return [row[:own] for row in rows], found


def _with_odd(make: Make, cells: Sequence[Any]) -> Values:
    if ODD not in cells:
        return make(cells)
    bare = make([None if cell is ODD else cell for cell in cells])
    return tuple([ODD if cell is ODD else one for cell, one in zip(cells, bare, strict=True)])


def _cells(line: bytes | None, width: int) -> Sequence[Any]:
    """
    The cells of a line, which ends in a dot; of one that is too long for the server none.
    """
    cells = [] if line is None else line.split(_BETWEEN)
    if len(cells) != width + 1:
        return (ODD,) * width
    return [None if cell == _NULL else cell[1:] for cell in cells[:width]]


def _word(text: str) -> sa.ColumnElement[Any]:
    return sa.literal_column(f"'{text}'")


__all__ = ["MysqlColumns"]
