"""
SQLite: texts as binary values and integers as texts, which tell the storage by the driver's types.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

import sqlalchemy as sa

from migrate.model.values import ColumnRead, Kind
from migrate.source.dialects.base import Raw
from migrate.source.dialects.plain_columns import (
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
from migrate.source.dialects.spelling import SPECIAL, float_text
from migrate.source.dialects.sqlite_cells import converter

_DECIMAL = re.compile(rb"-?[0-9]+(\.[0-9]+)?")
_TRUTHS = {"0": b"false", "1": b"true"}
_BINARY = "b"
_ZONES = (b"+00:00", b"+00", b"Z")


def _column(value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """
    Bytes of a text, a text of an integer's digits, a real number, or `b` and digits of a binary.
    """
    kind = sa.func.typeof(value)
    return sa.case(
        {
            "text": sa.cast(value, sa.LargeBinary()),
            "integer": sa.cast(value, sa.Text()),
            "blob": sa.literal_column(f"'{_BINARY}'").concat(sa.func.hex(value)),
        },
        value=kind,
        else_=value,
    )


def _digits(value: Any) -> bytes:
    if value[:1] == _BINARY:
        raise ValueError("binary data")
    digits: bytes = value.encode()
    return digits


def _binary(value: str) -> bytes:
    if value[:1] != _BINARY:
        raise ValueError("an integer")
    return bytes.fromhex(value[1:])


def _double(value: Any) -> bytes:
    if type(value) is not float:
        raise TypeError(value)
    return float_text(value).encode()


def _json(value: Any) -> bytes:
    if type(value) is bytes:
        value.decode()
        return value
    if type(value) is float:
        text = repr(value)
        if text in SPECIAL:
            raise ValueError("no number")
        return text.encode()
    return _digits(value)


def _decimal(scale: int | None) -> Spell:
    def spell(value: Any) -> bytes:
        if type(value) is bytes:
            if _DECIMAL.fullmatch(value) is None:
                raise ValueError("no number")
            return value
        text = repr(value) if type(value) is float else _digits(value).decode()
        if text in SPECIAL:
            raise ValueError("no number")
        if "e" in text:
            text = format(Decimal(text), "f")
        whole, _, fraction = text.removesuffix(".0").partition(".")
        fraction = fraction.ljust(scale or 0, "0")
        return (f"{whole}.{fraction}" if fraction else whole).encode()

    return spell


def _zoned(text: bytes) -> bytes:
    for zone in _ZONES:
        if text.endswith(zone):
            return moment(text[: -len(zone)]) + b"+00"
    raise ValueError("another zone")


def _made(read: ColumnRead) -> Make:
    match read.column.kind:
        case Kind.TEXT | Kind.UUID:
            return texts
        case Kind.DECIMAL:
            return partial(spelled, spell=_decimal(read.column.scale))
        case kind:
            return partial(spelled, spell=_SPELLS[kind])


_SPELLS: Mapping[Kind, Spell] = {
    Kind.INTEGER: _digits,
    Kind.FLOAT: _double,
    Kind.BOOLEAN: _TRUTHS.__getitem__,
    Kind.BYTES: _binary,
    Kind.DATE: day,
    Kind.TIME: clock,
    Kind.TIMESTAMP: moment,
    Kind.TIMESTAMPTZ: _zoned,
    Kind.JSON: _json,
}


@dataclass(frozen=True, slots=True)
class SqliteColumns:
    """
    Columns as values of their storage.

    Args:
        others: Whether each column is read a second way.
    """

    reads: tuple[ColumnRead, ...]
    others: tuple[bool, ...]
    makes: tuple[Make, ...]
    rows: FetchRows

    @classmethod
    def of(
        cls, reads: Sequence[ColumnRead], others: Sequence[bool], rows: FetchRows
    ) -> SqliteColumns | None:
        """
        The way of these columns; None where one of them has none.
        """
        known = _SPELLS.keys() | {Kind.TEXT, Kind.UUID, Kind.DECIMAL}
        if any(
            other and read.column.kind not in known
            for read, other in zip(reads, others, strict=True)
        ):
            return None
        makes = [
            _made(read) if other else same_way(converter(read))
            for read, other in zip(reads, others, strict=True)
        ]
        return cls(tuple(reads), tuple(others), tuple(makes), rows)

    def select(self, source: sa.FromClause) -> list[sa.ColumnElement[Any]]:
        """
        Expressions of another type than the value's.
        """
        return [
            _column(source.c[read.column.name]) if other else source.c[read.column.name]
            for read, other in zip(self.reads, self.others, strict=True)
        ]

    def fetch(
        self,
        connection: sa.Connection,
        statement: sa.Select[Any],
        parameters: Mapping[str, Any],
        own: int,
    ) -> tuple[Sequence[Raw], Sequence[Values]]:
        """
        Rows as the driver's own tuples, and of them the columns.
        """
        rows = self.rows(connection, statement, parameters)
        if not rows:
            return (), ()
        columns = list(zip(*rows, strict=True))
        found = [make(column) for make, column in zip(self.makes, columns[own:], strict=True)]
        return list(zip(*columns[:own], strict=True)), found


__all__ = ["SqliteColumns"]
