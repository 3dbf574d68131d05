"""
MariaDB and MySQL: a whole row as one text, put together by the server and escaped here.

The driver takes rows apart value by value in Python, which is most of what reading costs; one value
a row is read in a tenth of the time (`mysql_wire`). Cells stand between bytes that no UTF-8 has, so
that the server has nothing to escape: here that is a few replacements in a page at once.
"""

from __future__ import annotations

import binascii
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from migrate.model.lines import NULL
from migrate.model.values import Cell, Column, ColumnRead, Kind
from migrate.source.dialects.base import UNJUDGED, Fetched, Lines, Raw, TooMuch
from migrate.source.dialects.mysql_cells import spelling, type_name
from migrate.source.dialects.mysql_wire import values_of
from migrate.source.dialects.prepared import Prepared, compiled

AT_ONCE = 500
"""Lines that are escaped together: memory for a whole page would come from the system each time."""

FetchRows = Callable[[sa.Connection, sa.Select[Any], Mapping[str, Any]], Sequence[Raw]]

_CHARSET = "utf8mb4"
_CELL, _NULL, _LINE = b"\xfe", b"\xfd", b"\xfc"
"""Before a cell, in place of one that is NULL, and between lines: none occurs in UTF-8."""

_ESCAPES = ((b"\\", b"\\\\"), (b"\t", b"\\t"), (b"\n", b"\\n"), (b"\r", b"\\r"))
_WIDTH = re.compile(r"\((\d+)\)")
_FRACTION = re.compile(r"\([1-6]\)")
_AS_THEY_ARE = frozenset(
    {Kind.TEXT, Kind.UUID, Kind.ENUM, Kind.JSON, Kind.LITERAL, Kind.UNSUPPORTED}
)
_SECONDS = len("2024-01-31 12:00:00")
_CLOCK = len("12:00:00")

Spelled = sa.ColumnElement[Any]


@dataclass(frozen=True, slots=True)
class _Compiled:
    """
    The text of a statement and how its parameters are given, as SQLAlchemy would.
    """

    text: str
    compiled: sa.Compiled
    names: Sequence[str] | None
    made: Mapping[str, Callable[[Any], Any]]

    @classmethod
    def of(cls, statement: sa.Select[Any], dialect: sa.Dialect) -> _Compiled:
        """
        Prepare what does not change from page to page.
        """
        whole: Any = compiled(statement, dialect)
        made = {}
        for name, bind in whole.binds.items():
            processor = bind.type.dialect_impl(dialect).bind_processor(dialect)
            if processor is not None:
                made[name] = processor
        # By position or by name, as SQLAlchemy's version has it.
        return cls(str(whole), whole, getattr(whole, "positiontup", None), made)

    def given(self, parameters: Mapping[str, Any]) -> Any:
        """
        What the driver is given.
        """
        values = dict(self.compiled.construct_params(dict(parameters)) or {})
        for name, processor in self.made.items():
            if name in values:
                values[name] = processor(values[name])
        return values if self.names is None else tuple(values[name] for name in self.names)


@dataclass(frozen=True, slots=True)
class ConcatLines:
    """
    Lines by CONCAT of the texts of all cells and what stands between them.

    Args:
        cells: What gives each column's text as bytes, or whatever the plain way has instead.

        places: Where the cell of each key column is, if it is just what its key is made of.

        width: Cells of a line, the version counted.

        beside: Otherwise: key columns to select beside the line, as the plain way does.

        front: Texts of another table that begin each line.
    """

    reads: tuple[ColumnRead, ...]
    cells: tuple[Callable[[sa.ColumnElement[Any]], Spelled], ...]
    places: tuple[int, ...]
    beside: tuple[tuple[str, Callable[[sa.ColumnElement[Any]], Spelled]], ...]
    rows: FetchRows
    width: int
    _texts: Prepared[_Compiled] = field(default_factory=lambda: Prepared(_Compiled.of))
    front: tuple[Spelled, ...] = ()

    def columns(
        self, source: sa.FromClause, version: sa.ColumnElement[str] | None
    ) -> list[sa.ColumnElement[Any]]:
        """
        One text of bytes, and behind it the key columns that are not in it.
        """
        texts = [*self.front]
        for read, cell in zip(self.reads, self.cells, strict=True):
            column = source.c[read.column.name]
            texts.append(_begun(spelled(read, cell, column), column.is_(None)))
        if version is not None:
            begun = sa.func.concat(_bytes(_CELL), binary(version))
            texts.append(sa.func.ifnull(begun, _bytes(_NULL)))
        # Not CONCAT_WS: what is too long for one text of the server becomes NULL, and with it the
        # whole line, so that nobody takes the one for the other.
        whole = sa.func.concat(*texts)
        keys = [cell(source.c[name]) for name, cell in self.beside]
        return [
            whole.label("line"),
            *(key.label(f"k{number}") for number, key in enumerate(keys)),
        ]

    def behind(self, front: Lines, source: sa.FromClause, cells: int) -> ConcatLines:
        """
        The same with a longer text. See `Lines.behind`.
        """
        texts = tuple(front.columns(source, None))
        return replace(self, front=texts, width=len(self.reads) + cells)

    def fetch(
        self,
        connection: sa.Connection,
        statement: sa.Select[Any],
        parameters: Mapping[str, Any],
        most: int | None = None,
    ) -> Fetched | None:
        """
        The lines of a page; None where one is too long for the server, or holds no UTF-8.
        """
        beside: Sequence[Raw] = ()
        texts: Sequence[bytes | None] | None
        if self.beside:
            rows = self.rows(connection, statement, parameters)
            texts, beside = [row[0] for row in rows], [row[1:] for row in rows]
        else:
            driver: Any = connection.connection.dbapi_connection
            query = self._query(connection, statement, parameters)
            texts = values_of(driver, query, sys.maxsize if most is None else most)
            if texts is None:
                raise TooMuch
        whole = [text for text in texts if text is not None]
        if len(whole) < len(texts):
            return None
        lines: list[bytes] = []
        for start in range(0, len(whole), AT_ONCE):
            some = escaped(whole[start : start + AT_ONCE], self.width)
            if some is None:
                return None
            lines += some
        return Fetched(lines, beside)

    def _query(
        self, connection: sa.Connection, statement: sa.Select[Any], parameters: Mapping[str, Any]
    ) -> str:
        """
        The statement with its parameters in it, as the driver writes them.
        """
        prepared = self._texts.of(connection, statement)
        driver: Any = connection.connection.dbapi_connection
        with driver.cursor() as cursor:
            query: str = cursor.mogrify(prepared.text, prepared.given(parameters))
        return query

    def cell(self, at: int, text: bytes) -> Cell:
        """
        The text, or what the plain way makes of the server's own.
        """
        read = self.reads[at]
        if text.startswith(UNJUDGED):
            # Of a text without a form in UTF-8 this byte is part of what the server sent.
            return _judged(read, text if read.column.kind in _AS_THEY_ARE else text[1:])
        if read.column.kind is Kind.BYTES and not read.verbatim:
            return binascii.unhexlify(text)
        try:
            return text.decode()
        except UnicodeDecodeError:
            return _judged(read, text)

    def key(self, cells: Sequence[bytes | None]) -> Raw:
        """
        Key columns as the server sends them.
        """
        found = []
        for place in self.places:
            cell = cells[place]
            binary = self.reads[place].column.kind is Kind.BYTES
            found.append(binascii.unhexlify(cell) if binary and cell is not None else cell)
        return tuple(found)


def escaped(texts: Sequence[bytes], width: int) -> list[bytes] | None:
    """
    Texts with our bytes as lines; None where a value has such a byte itself.

    Args:
        width: Cells of a line.
    """
    page = _LINE.join(texts)
    if page.count(_LINE) != len(texts) - 1:
        return None
    if page.count(_CELL) + page.count(_NULL) != len(texts) * width:
        return None
    for character, escape in _ESCAPES:
        if character in page:
            page = page.replace(character, escape)
    page = page.replace(_NULL, _CELL + NULL).translate(_MARKS)
    # Each line begins with the byte before its first cell.
    lines = page[1:].split(b"\n\t")
    return lines if len(lines) == len(texts) else None


_MARKS = bytes.maketrans(_CELL + _LINE, b"\t\n")


def _begun(text: Spelled, absent: sa.ColumnElement[bool]) -> Spelled:
    """
    A cell with the byte before it. What is NULL although the column is not stays NULL.
    """
    return sa.case((absent, _bytes(_NULL)), else_=sa.func.concat(_bytes(_CELL), text))


def _judged(read: ColumnRead, raw: bytes) -> Cell:
    """
    As a page of one value.

    Raises:
        Misfit: What the plain way finds wrong with it.
    """
    spell = spelling(read)
    return raw if spell is None else spell(raw)


def exact(read: ColumnRead) -> bool:
    """
    Whether the server can spell cells of this column at all.
    """
    name = type_name(read.column)
    if name == "float" or (read.column.kind is Kind.UNSUPPORTED and not read.verbatim):
        return False
    return not (name == "decimal" and "zerofill" in read.column.type and not read.verbatim)


def bare(read: ColumnRead) -> bool:
    """
    Whether a cell of this column is what the driver gives of it, or the hexadecimal digits of that.
    """
    name, kind = type_name(read.column), read.column.kind
    if kind is Kind.BYTES:
        return True
    if name in ("bit", "float", "double", "year") or "zerofill" in read.column.type:
        return False
    return kind in _AS_THEY_ARE or kind in (Kind.INTEGER, Kind.DECIMAL)


def spelled(
    read: ColumnRead,
    cell: Callable[[sa.ColumnElement[Any]], Spelled],
    column: sa.ColumnElement[Any],
) -> Spelled:
    """
    The bytes of a cell; behind `UNJUDGED` what the server has, where the cell is not simply that.
    """
    name, kind = type_name(read.column), read.column.kind
    if kind is Kind.BYTES:
        return sa.func.lower(sa.func.hex(column))
    if name == "bit":
        width = _WIDTH.search(read.column.type)
        digits = _word(width[1] if width else "1")
        return binary(sa.func.lpad(sa.func.bin(column), digits, _word("'0'")))
    raw = cell(column)
    if read.verbatim and name != "double":
        return raw
    make = _SPELLED.get(kind)
    return raw if make is None else make(read, column, raw)


def _integer(read: ColumnRead, column: sa.ColumnElement[Any], raw: Spelled) -> Spelled:
    padded = "zerofill" in read.column.type or type_name(read.column) == "year"
    return binary(column + _word("0")) if padded else raw


def _double(_: ColumnRead, column: sa.ColumnElement[Any], raw: Spelled) -> Spelled:
    # In this range both servers, Python and PostgreSQL print the same digits without an exponent.
    size = sa.func.abs(column)
    plain = sa.or_(
        sa.and_(size >= _word("1e-4"), size < _word("1e15")),
        column == _word("0"),
    )
    return _if(plain, raw, raw)


def _boolean(_: ColumnRead, column: sa.ColumnElement[Any], raw: Spelled) -> Spelled:
    return sa.case(
        (column == _word("0"), _bytes(b"false")),
        (column == _word("1"), _bytes(b"true")),
        else_=sa.func.concat(_bytes(UNJUDGED), raw),
    )


def _day(read: ColumnRead, column: sa.ColumnElement[Any], raw: Spelled) -> Spelled:
    zone = read.column.kind is Kind.TIMESTAMPTZ
    text = raw if read.column.kind is Kind.DATE else _trimmed(read, column, raw, _SECONDS)
    # The last day of a month that does not exist is NULL, which is not true either.
    last = sa.func.dayofmonth(sa.func.last_day(column))
    there = sa.and_(
        sa.func.year(column) > _word("0"),
        sa.func.dayofmonth(column).between(_word("1"), last),
    )
    return _if(there, sa.func.concat(text, _bytes(b"+00")) if zone else text, raw)


def _time(read: ColumnRead, column: sa.ColumnElement[Any], raw: Spelled) -> Spelled:
    of_day = column.between(_word("TIME'00:00:00'"), _word("TIME'23:59:59.999999'"))
    return _if(of_day, _trimmed(read, column, raw, _CLOCK), raw)


def _trimmed(read: ColumnRead, column: sa.ColumnElement[Any], raw: Spelled, whole: int) -> Spelled:
    """
    Without zeros at the end of the fraction.
    """
    if not _FRACTION.search(read.column.type):
        return raw
    return sa.case(
        (
            sa.func.microsecond(column) == _word("0"),
            sa.func.left(raw, _word(str(whole))),
        ),
        else_=_trim(raw),
    )


def _trim(raw: Spelled) -> Spelled:
    return sa.func.trim(_word("TRAILING X'30' FROM").op("")(raw))


_SPELLED: Mapping[Kind, Callable[[ColumnRead, sa.ColumnElement[Any], Spelled], Spelled]] = {
    Kind.INTEGER: _integer,
    Kind.FLOAT: _double,
    Kind.BOOLEAN: _boolean,
    Kind.DATE: _day,
    Kind.TIMESTAMP: _day,
    Kind.TIMESTAMPTZ: _day,
    Kind.TIME: _time,
}
"""Kinds whose server text is not yet the cell, as in `mysql_cells`."""


def _if(condition: sa.ColumnElement[bool], text: Spelled, raw: Spelled) -> Spelled:
    """
    The text, or the server's own behind the mark; NULL stays NULL.
    """
    return sa.case((condition, text), else_=sa.func.concat(_bytes(UNJUDGED), raw))


def direct(column: Column, charset: str | None) -> bool:
    """
    Whether the bytes that the server holds or prints are those of UTF-8 already.

    A second cast would be a third of what such a statement costs.
    """
    if charset is not None:
        return charset in _UTF8
    return type_name(column) in _PRINTED_AS_ASCII and "zerofill" not in column.type


_UTF8 = frozenset({"utf8mb4", "utf8mb3", "utf8"})

_PRINTED_AS_ASCII = frozenset(
    {"tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "date", "datetime"}
    | {"timestamp", "time"}
)


def bytes_of(expression: sa.ColumnElement[Any]) -> Spelled:
    """
    A value as the bytes of its text, in the character set that it has.
    """
    return sa.cast(expression, mysql.BINARY())


def binary(expression: sa.ColumnElement[Any]) -> Spelled:
    """
    A text as the bytes of its UTF-8.
    """
    return sa.cast(sa.cast(expression, mysql.CHAR(charset=_CHARSET)), mysql.BINARY())


def _word(text: str) -> sa.ColumnElement[Any]:
    return sa.literal_column(text)


def _bytes(value: bytes) -> sa.ColumnElement[Any]:
    return _word(f"X'{value.hex()}'")


__all__ = ["ConcatLines", "bare", "binary", "bytes_of", "direct", "escaped", "exact"]
