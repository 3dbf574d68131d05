"""
PostgreSQL: values in the binary form of the wire, which the server makes without any text.

A backfill takes what the types' output functions print; this is what their send functions say:
numbers as numbers, moments as microseconds since 2000, decimals in base 10,000. They are spelled as
cells here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import sqlalchemy as sa

from migrate.model.values import ColumnRead, Kind
from migrate.source.dialects.base import Dialect, Raw, Relation
from migrate.source.dialects.plain_columns import Spell, Values, spelled, texts
from migrate.source.dialects.prepared import Prepared, compiled
from migrate.source.dialects.spelling import float_text, single_text

_DAY = 86_400_000_000
_EPOCH = date(2000, 1, 1).toordinal()
_MOST_DAYS = 100_000
_MOST_MEMBERS = 64


class _Days(dict[int, bytes]):
    """
    The text of each day since 2000 that was asked for.
    """

    def __missing__(self, days: int) -> bytes:
        if len(self) >= _MOST_DAYS:
            self.clear()
        # Raises beyond the years 1 to 9999, and for the two infinities.
        text = self[days] = date.fromordinal(days + _EPOCH).isoformat().encode()
        return text


class _Clocks(dict[int, bytes]):
    """
    The text of each second of a day.
    """

    def __missing__(self, seconds: int) -> bytes:
        if not 0 <= seconds < 86_400:
            raise LookupError(seconds)
        minutes, second = divmod(seconds, 60)
        text = self[seconds] = b"%02d:%02d:%02d" % (*divmod(minutes, 60), second)
        return text


_DAYS, _CLOCKS = _Days(), _Clocks()


def _clock(micros: int) -> bytes:
    seconds, fraction = divmod(micros, 1_000_000)
    text = _CLOCKS[seconds]
    return text if not fraction else text + (b".%06d" % fraction).rstrip(b"0")


def _moment(micros: int) -> bytes:
    days, rest = divmod(micros, _DAY)
    return b"%b %b" % (_DAYS[days], _clock(rest))


def _zoned(micros: int) -> bytes:
    days, rest = divmod(micros, _DAY)
    return b"%b %b+00" % (_DAYS[days], _clock(rest))


def _whole(number: int) -> bytes:
    return b"%d" % number


_TRUTHS = {True: b"true", False: b"false"}

_DIGITS = [struct.Struct(f">HhHH{count}H") for count in range(_MOST_MEMBERS + 1)]
_POSITIVE, _NEGATIVE = 0, 0x4000


def _decimal(raw: bytes) -> bytes:
    """
    Digits of a number in base 10,000: how many, the power of the first, sign, digits to show.
    """
    count = (len(raw) - 8) >> 1
    _, weight, sign, scale, *digits = _DIGITS[count].unpack(raw)
    number = 0
    for digit in digits:
        number = number * 10_000 + digit
    # As a whole number of units of 10 ** -scale.
    power = 4 * (weight - count + 1) + scale
    if power >= 0:
        number *= 10**power
    else:
        number, lost = divmod(number, 10**-power)
        if lost:
            raise ValueError(lost)
    if sign not in (_POSITIVE, _NEGATIVE):
        # NaN and the infinities.
        raise ValueError(sign)
    minus = b"-" if sign else b""
    if not scale:
        return b"%b%d" % (minus, number)
    text = b"%0*d" % (scale + 1, number)
    return b"%b%b.%b" % (minus, text[:-scale], text[-scale:])


def _uuid(raw: bytes) -> bytes:
    digits = raw.hex()
    return (f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}").encode()


def _jsonb(raw: bytes) -> bytes:
    if raw[0] != 1:
        raise ValueError("another version of jsonb")
    return raw[1:]


def _double(number: float) -> bytes:
    return float_text(number).encode()


def _single(number: float) -> bytes:
    return single_text(number).encode()


_SPELLS: Mapping[str, Spell | None] = {
    **dict.fromkeys(("smallint", "integer", "bigint", "oid"), _whole),
    **dict.fromkeys(("text", "character varying", "character", "bpchar", "name", "citext")),
    "numeric": _decimal,
    "real": _single,
    "double precision": _double,
    "boolean": _TRUTHS.__getitem__,
    "bytea": None,
    "date": _DAYS.__getitem__,
    "time without time zone": _clock,
    "timestamp without time zone": _moment,
    "timestamp with time zone": _zoned,
    "uuid": _uuid,
    "json": None,
    "jsonb": _jsonb,
}
"""By the type's own name: what its binary form says; None where it is the cell."""

_TEXTS = frozenset({Kind.TEXT, Kind.ENUM})
"""Whose binary form is the text, or the label, whatever the type is called."""

_Cell = Callable[[sa.ColumnElement[Any]], sa.ColumnElement[Any]]


@dataclass(frozen=True, slots=True)
class PostgresColumns:
    """
    Columns by a cursor that asks for binary values.

    Args:
        printed: For a column without a binary form of ours: the text that the backfill reads.
    """

    reads: tuple[ColumnRead, ...]
    spells: tuple[Spell | None, ...]
    printed: tuple[_Cell | None, ...]
    _texts: Prepared[sa.Compiled] = field(default_factory=lambda: Prepared(compiled))

    @classmethod
    def of(
        cls,
        dialect: Dialect,
        relation: Relation,
        reads: Sequence[ColumnRead],
        others: Sequence[bool],
    ) -> PostgresColumns | None:
        """
        The way of these columns; None where one of them has no binary form that is known here.
        """
        spells: list[Spell | None] = []
        printed: list[_Cell | None] = []
        for read, other in zip(reads, others, strict=True):
            name = relation.bind_types[read.column.name]
            if other and name not in _SPELLS and read.column.kind not in _TEXTS:
                return None
            spells.append(_SPELLS.get(name) if other else None)
            printed.append(None if other else _printed(dialect, relation, read))
        return cls(tuple(reads), tuple(spells), tuple(printed))

    def select(self, source: sa.FromClause) -> list[sa.ColumnElement[Any]]:
        """
        The columns as they are.
        """
        columns = [source.c[read.column.name] for read in self.reads]
        return [
            column if cell is None else cell(column)
            for cell, column in zip(self.printed, columns, strict=True)
        ]

    def fetch(
        self,
        connection: sa.Connection,
        statement: sa.Select[Any],
        parameters: Mapping[str, Any],
        own: int,
    ) -> tuple[Sequence[Raw], Sequence[Values]]:
        """
        All rows at once: the driver takes them apart in C.
        """
        prepared = self._texts.of(connection, statement)
        driver: Any = connection.connection.dbapi_connection
        values = prepared.construct_params(dict(parameters))
        with driver.cursor(binary=True) as cursor:
            _take_raw(cursor.adapters)
            cursor.execute(str(prepared), values, prepare=False)
            rows = cursor.fetchall()
        if not rows:
            return (), ()
        columns = list(zip(*rows, strict=True))
        keys = [tuple([_text(one) for one in column]) for column in columns[:own]]
        found = [
            column if spell is None else spelled(column, spell)
            for column, spell in zip(columns[own:], self.spells, strict=True)
        ]
        if driver.info.parameter_status("server_encoding") == "SQL_ASCII":
            # Nobody has looked at what the texts are made of.
            found = [
                texts(column) if read.column.kind is not Kind.BYTES else column
                for column, read in zip(found, self.reads, strict=True)
            ]
        return list(zip(*keys, strict=True)), found


def _printed(dialect: Dialect, relation: Relation, read: ColumnRead) -> _Cell:
    return lambda column: dialect.cell(relation, read, column)


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _take_raw(adapters: Any) -> None:
    """
    Have the driver hand over what was sent: numbers of the wire, and bytes of everything else.
    """
    # Optional: a source of another dialect does not need it.
    from psycopg.types.numeric import Int4BinaryLoader, Int8BinaryLoader  # noqa: PLC0415
    from psycopg.types.string import ByteaBinaryLoader  # noqa: PLC0415

    for name in ("text", "varchar", "bpchar", "name", "json", "jsonb", "uuid", "numeric", 0):
        adapters.register_loader(name, ByteaBinaryLoader)
    adapters.register_loader("date", Int4BinaryLoader)
    for name in ("time", "timestamp", "timestamptz"):
        adapters.register_loader(name, Int8BinaryLoader)


__all__ = ["PostgresColumns"]
