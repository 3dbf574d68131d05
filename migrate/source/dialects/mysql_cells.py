"""
The texts of MariaDB and MySQL turned into neutral cells or into faults, and types into kinds.

Works on the bytes that the server sent, column by column: one value that cannot be moved never
costs its neighbours, and no driver has an opinion in between.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import partial

from migrate.model.values import Column, ColumnRead, Kind
from migrate.source.dialects.spelling import Converted, Misfit, each, float_text, single_text

Value = bytes | None
"""One value as the server sent it."""

NO_TEXT = b"\xff"
"""What a statement puts before the bytes of a text that has no exact form in UTF-8."""

_AS_TEXT = "take it as it is with `as: text`, or correct the data"
_DAY = len("2024-01-31")
_LABEL = re.compile(r"'((?:[^']|'')*)'")
_NAME = re.compile(r"[a-z0-9]+")
_WIDTH = re.compile(r"\((\d+)\)")
_ORDINARY = re.compile(rb"-?[1-9][0-9]*|0")
_LEADING = re.compile(r"\A0+(?=[0-9])")

KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "bigint", "year"), Kind.INTEGER),
    **dict.fromkeys(("char", "varchar", "tinytext", "text"), Kind.TEXT),
    **dict.fromkeys(("mediumtext", "longtext"), Kind.TEXT),
    **dict.fromkeys(("binary", "varbinary", "tinyblob", "blob"), Kind.BYTES),
    **dict.fromkeys(("mediumblob", "longblob"), Kind.BYTES),
    **dict.fromkeys(("bit", "set", "inet4", "inet6"), Kind.LITERAL),
    "decimal": Kind.DECIMAL,
    "float": Kind.FLOAT,
    "double": Kind.FLOAT,
    "date": Kind.DATE,
    "time": Kind.TIME,
    "datetime": Kind.TIMESTAMP,
    "timestamp": Kind.TIMESTAMPTZ,
    "enum": Kind.ENUM,
    "json": Kind.JSON,
    "uuid": Kind.UUID,
}
"""By the type's name alone; what is not here has no exact text."""

FLAG = "tinyint(1)"
"""How both servers spell a column that was declared BOOLEAN."""


def type_name(column: Column) -> str:
    """
    The type without its modifiers: `bigint` of `bigint(20) unsigned zerofill`.
    """
    found = _NAME.match(column.type)
    return found[0] if found else ""


def kind_of(name: str, declared: str) -> Kind:
    """
    What a column of this type holds.

    Args:
        declared: With its modifiers; of one digit's width an integer is a truth value.
    """
    return Kind.BOOLEAN if declared == FLAG else KINDS.get(name, Kind.UNSUPPORTED)


def labels_of(column: Column) -> tuple[str, ...]:
    """
    The texts that an ENUM column lists, in its order.
    """
    return tuple(label.replace("''", "'") for label in _LABEL.findall(column.type))


def converter(read: ColumnRead) -> Callable[[Sequence[Value]], Converted]:
    """
    How to turn the values of one column into cells.
    """
    spell = spelling(read)
    if spell is None:
        return lambda values: (values, {})
    name = read.column.name

    def convert(values: Sequence[Value]) -> Converted:
        try:
            return [None if value is None else spell(value) for value in values], {}
        except Misfit:
            return each(values, spell, name)

    return convert


def spelling(read: ColumnRead) -> Callable[[bytes], str] | None:
    """
    What makes a cell of a value; None where the value is one. Raises `Misfit`.
    """
    name = type_name(read.column)
    if read.column.kind is Kind.BYTES:
        return bytes.hex if read.verbatim else None
    if name == "bit":
        width = _WIDTH.search(read.column.type)
        return partial(_bits, int(width[1]) if width else 1)
    if name == "float":
        return _single
    if read.verbatim and name != "double":
        return _text
    return _SPELLS.get(read.column.kind, _text)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Misfit("invalid-utf8", "holds text that has no form in UTF-8") from None


def _bits(width: int, value: bytes) -> str:
    return format(int.from_bytes(value), f"0{width}b")


def _integer(value: bytes) -> str:
    # A column may be declared to show zeros in front, and the year 0 has four of them.
    return value.decode() if _ORDINARY.fullmatch(value) else str(int(value))


def _decimal(value: bytes) -> str:
    text = value.decode()
    return _LEADING.sub("", text) if text.startswith("0") else text


def _double(value: bytes) -> str:
    return float_text(float(value))


def _single(value: bytes) -> str:
    return single_text(float(value))


def _boolean(value: bytes) -> str:
    try:
        return _TRUTHS[value]
    except KeyError:
        raise Misfit(
            "wrong-type", f"holds neither 0 nor 1 where the column is {FLAG}; {_AS_TEXT}"
        ) from None


_TRUTHS = {b"0": "false", b"1": "true"}


def _date(value: bytes) -> str:
    text = value.decode()
    _require_day(text)
    return text


def _timestamp(value: bytes) -> str:
    text = value.decode()
    _require_day(text[:_DAY])
    return _trimmed(text)


def _timestamptz(value: bytes) -> str:
    return _timestamp(value) + "+00"


def _require_day(text: str) -> None:
    try:
        date.fromisoformat(text)
    except ValueError:
        raise Misfit("bad-date", f"holds a date that does not exist; {_AS_TEXT}") from None


def _time(value: bytes) -> str:
    text = value.decode()
    # A TIME is a span of up to 838 hours, either way; sorted as text, two digits come first.
    if not "00" <= text.partition(":")[0] <= "23" or text[2] != ":":
        raise Misfit("out-of-range", f"holds a span that is no time of day; {_AS_TEXT}")
    return _trimmed(text)


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


_SPELLS: Mapping[Kind, Callable[[bytes], str]] = {
    Kind.INTEGER: _integer,
    Kind.DECIMAL: _decimal,
    Kind.FLOAT: _double,
    Kind.BOOLEAN: _boolean,
    Kind.DATE: _date,
    Kind.TIME: _time,
    Kind.TIMESTAMP: _timestamp,
    Kind.TIMESTAMPTZ: _timestamptz,
}
"""Kinds whose server text is not yet the cell."""
