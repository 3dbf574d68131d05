"""
SQLite's values, typed by storage and not by column, turned into neutral cells or into faults.

Works column by column: one look at the types that occur decides whether any value needs care.
Guesses nothing: what could mean two things is a fault.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import partial
from typing import Any

from migrate.model.values import Column, ColumnRead, Kind
from migrate.source.dialects.spelling import SPECIAL, Converted, Misfit, each, float_text


class Undecoded(bytes):
    """
    A text that is not UTF-8, as the careful text factory hands it over.
    """

    __slots__ = ()


_STORED = {
    int: "an integer",
    float: "a real number",
    str: "text",
    bytes: "binary data",
    Undecoded: "text that is not UTF-8",
}

_PLAIN_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*")
_WHOLE = re.compile(r"-?[0-9]+")
# Newer Pythons read 24:00 as the next day, and would let it stand here.
_HOUR = r"(?:[01][0-9]|2[0-3])"
_TIME = rf"({_HOUR}:[0-9]{{2}})(:[0-9]{{2}})?(?:\.([0-9]+))?"
_ZONE = r"(Z|[+-][0-9]{2}(?::?[0-9]{2})?)?"
_CANONICAL_CLOCK = re.compile(rf"{_HOUR}:[0-9]{{2}}:[0-9]{{2}}(?:\.[0-9]{{0,5}}[1-9])?")
_CANONICAL = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} " + _CANONICAL_CLOCK.pattern)
_CANONICAL_UTC = re.compile(_CANONICAL.pattern + r"\+00:00")
_CLOCK = re.compile(_TIME + r" ?" + _ZONE)
_INSTANT = re.compile(rf"([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})(?:[ T]{_TIME} ?{_ZONE})?")

_TRUTHS: Mapping[object, str] = {
    0: "false",
    1: "true",
    "0": "false",
    "1": "true",
    "f": "false",
    "t": "true",
    "false": "false",
    "true": "true",
}


def converter(read: ColumnRead) -> Callable[[Sequence[Any]], Converted]:
    """
    How to turn the values of one column into cells.
    """
    kind = Kind.TEXT if read.verbatim else read.column.kind
    spell = _verbatim if read.verbatim else partial(_SPELLS[kind], read.column)
    plain = _PLAIN.get(kind, frozenset())
    stored, whole = _WHOLES.get(kind, (frozenset(), _unknown))
    name = read.column.name

    def convert(values: Sequence[Any]) -> Converted:
        types = set(map(type, values))
        absent = type(None) in types
        types.discard(type(None))
        if types <= plain:
            return values, {}
        if types <= stored:
            given = [value for value in values if value is not None] if absent else values
            cells = whole(read.column, given)
            if cells is not None:
                return _woven(cells, values) if absent else cells, {}
        try:
            return [None if value is None else spell(value) for value in values], {}
        except Misfit:
            return each(values, spell, name)

    return convert


def _woven(cells: Sequence[str], values: Sequence[Any]) -> list[str | None]:
    """
    The cells, with NULL where it was.
    """
    left = iter(cells)
    return [None if value is None else next(left) for value in values]


_PLAIN: Mapping[Kind, frozenset[type]] = {
    Kind.TEXT: frozenset({str}),
    Kind.UUID: frozenset({str}),
    Kind.JSON: frozenset({str}),
    Kind.BYTES: frozenset({bytes}),
}
"""Storage that is a cell already."""


# --- whole columns ------------------------------------------------------------------------------

_EXACT_DIGITS = 15
"""No two decimals of so many digits are the same float."""

_PLAIN_BELOW = 1e15
"""Floats below it are printed as Python prints them, but for `.0` at the end."""


def _unknown(column: Column, values: Sequence[Any]) -> None:
    """
    No short way.
    """


def _integers(column: Column, values: Sequence[int]) -> list[str]:  # noqa: ARG001
    return list(map(str, values))


def _decimals(column: Column, values: Sequence[float]) -> list[str] | None:
    """
    Printed with the declared digits; only if each is read back as the same float.

    Of so few digits there is no other text of the same float, and so no shorter one.
    """
    scale = column.scale
    if scale is None or scale >= _EXACT_DIGITS:
        return None
    bound = 10 ** (_EXACT_DIGITS - scale)
    if min(values) <= -bound or max(values) >= bound:
        return None
    texts = list(map(f"%.{scale}f".__mod__, values))
    return texts if list(map(float, texts)) == list(values) else None


def _floats(column: Column, values: Sequence[float]) -> list[str] | None:  # noqa: ARG001
    if min(values) <= -_PLAIN_BELOW or max(values) >= _PLAIN_BELOW:
        return None
    return [text.removesuffix(".0") for text in map(repr, values)]


def _booleans(column: Column, values: Sequence[int]) -> list[str] | None:  # noqa: ARG001
    return [_TRUTHS[value] for value in values] if {0, 1}.issuperset(values) else None


def _dates(column: Column, values: Sequence[str]) -> Sequence[str] | None:
    # There are few days, and most occur again and again.
    try:
        for text in set(values):
            _date(column, text)
    except Misfit:
        return None
    return values


def _timestamps(column: Column, values: Sequence[str]) -> Sequence[str] | None:  # noqa: ARG001
    return values if _all_exist(values, _CANONICALS) else None


def _timestamptzs(column: Column, values: Sequence[str]) -> Sequence[str] | None:  # noqa: ARG001
    return [value[:-3] for value in values] if _all_exist(values, _CANONICALS_UTC) else None


_CANONICALS = re.compile(rf"(?:{_CANONICAL.pattern}\n)*+")
_CANONICALS_UTC = re.compile(rf"(?:{_CANONICAL_UTC.pattern}\n)*+")


def _all_exist(values: Sequence[str], forms: re.Pattern[str]) -> bool:
    """
    `_exists` of every value: one look at all of them for the form, and one each for the moment.
    """
    if not forms.fullmatch("\n".join(values) + "\n"):
        return False
    try:
        # Refuses a value that holds two moments in two lines as well.
        for _ in map(datetime.fromisoformat, values):
            pass
    except ValueError:
        return False
    return True


_Whole = Callable[[Column, Sequence[Any]], Sequence[str] | None]

_WHOLES: Mapping[Kind, tuple[frozenset[type], _Whole]] = {
    Kind.INTEGER: (frozenset({int}), _integers),
    Kind.DECIMAL: (frozenset({int, float}), _decimals),
    Kind.FLOAT: (frozenset({float}), _floats),
    Kind.BOOLEAN: (frozenset({int}), _booleans),
    Kind.DATE: (frozenset({str}), _dates),
    Kind.TIMESTAMP: (frozenset({str}), _timestamps),
    Kind.TIMESTAMPTZ: (frozenset({str}), _timestamptzs),
}
"""
By storage what makes cells of a column at once, as `_SPELLS` does one by one.

None means that some value has to be looked at by itself. No value is NULL, and there is one.
"""


# --- single values ------------------------------------------------------------------------------


def _wrong(column: Column, value: object) -> Misfit:
    if isinstance(value, Undecoded):
        return Misfit("invalid-utf8", "holds text that is not UTF-8")
    stored = _STORED.get(type(value), "something else")
    declared = column.type or "without a type"
    return Misfit("wrong-type", f"holds {stored} where the column is declared {declared}")


def _verbatim(value: Any) -> str:
    match value:
        case str():
            return value
        case int():
            return str(value)
        case float():
            return float_text(value)
        case Undecoded():
            raise Misfit("invalid-utf8", "holds text that is not UTF-8")
        case _:
            raise Misfit("wrong-type", "holds binary data, which has no text")


def _integer(column: Column, value: Any) -> str:
    if type(value) is int:
        return str(value)
    raise _wrong(column, value)


def _decimal(column: Column, value: Any) -> str:
    if type(value) is str and _PLAIN_DECIMAL.fullmatch(value):
        return value
    if type(value) is int:
        return _padded(str(value), column.scale)
    if type(value) is not float:
        raise _wrong(column, value)
    text = repr(value)
    if text in SPECIAL:
        raise Misfit("not-finite", "holds infinity, which a decimal cannot be")
    if "e" in text:
        text = format(Decimal(text), "f")
    return _padded(text.removesuffix(".0"), column.scale)


def _padded(text: str, scale: int | None) -> str:
    whole, _, fraction = text.partition(".")
    fraction = fraction.ljust(scale or 0, "0")
    return f"{whole}.{fraction}" if fraction else whole


def _float(column: Column, value: Any) -> str:
    if type(value) is float:
        return float_text(value)
    if type(value) is not int:
        raise _wrong(column, value)
    if abs(value) > 2**53 and int(float(value)) != value:
        raise Misfit("too-precise", "holds an integer that no float can be")
    return float_text(float(value))


def _boolean(column: Column, value: Any) -> str:
    known = value.lower() if type(value) is str else value
    if type(known) is not float and known in _TRUTHS:
        return _TRUTHS[known]
    if type(value) in (int, str):
        raise Misfit("wrong-type", "holds neither true nor false")
    raise _wrong(column, value)


def _text(column: Column, value: Any) -> str:
    if type(value) is str:
        return value
    raise _wrong(column, value)


def _bytes(column: Column, value: Any) -> bytes:
    if type(value) is bytes:
        return value
    raise _wrong(column, value)


def _json(column: Column, value: Any) -> str:
    # A column declared JSON has numeric affinity: SQLite keeps the JSON text 5 as the integer 5.
    if type(value) is int or (type(value) is float and repr(value) not in SPECIAL):
        return repr(value)
    return _text(column, value)


def _date(column: Column, value: Any) -> str:
    text = _text(column, value)
    try:
        printed = date.fromisoformat(text).isoformat()
    except ValueError:
        printed = None
    # The library reads other forms as well; only the extended one prints back the same.
    if printed != text:
        raise Misfit("bad-date", "holds no date that exists, of the form YYYY-MM-DD")
    return text


def _time(column: Column, value: Any) -> str:
    found = _CLOCK.fullmatch(_text(column, value))
    if found is None:
        raise Misfit("bad-time", "holds no time of the form HH:MM:SS")
    if found[4]:
        raise Misfit("zone-present", "holds a time with a zone; " + _AS_TEXT)
    clock = _clock(found[1], found[2], found[3])
    _check(lambda: time.fromisoformat(clock), "bad-time", "holds a time that does not exist")
    return clock


_AS_TEXT = "take it as it is with `as: text`, or correct the data"


def _timestamp(column: Column, value: Any) -> str:
    if _exists(value, _CANONICAL):
        return _text(column, value)
    day, clock, zone = _instant(column, value)
    if zone:
        raise Misfit(
            "zone-present",
            f"holds a zone where the column is declared {column.type}; declare it TIMESTAMPTZ, or "
            + _AS_TEXT,
        )
    text = f"{day} {clock}"
    _check(lambda: datetime.fromisoformat(text))
    return text


def _timestamptz(column: Column, value: Any) -> str:
    if _exists(value, _CANONICAL_UTC):
        return _text(column, value)[:-3]
    day, clock, zone = _instant(column, value)
    if not zone:
        raise Misfit(
            "zone-missing",
            "holds a time without a zone in a column with zones; declare it DATETIME, or "
            + _AS_TEXT,
        )
    try:
        moment = datetime.fromisoformat(f"{day} {clock}{zone}").astimezone(UTC)
    except OverflowError:
        raise Misfit("bad-date", "holds a time outside of the years 1 to 9999 in UTC") from None
    except ValueError:
        raise Misfit("bad-date", _NO_SUCH_DAY) from None
    text = moment.replace(tzinfo=None).isoformat(" ")
    return (text.rstrip("0") if "." in text else text) + "+00"


def _exists(value: object, form: re.Pattern[str]) -> bool:
    """
    Whether a text is canonical already and a moment that exists: most are, and this is short.
    """
    if type(value) is not str or not form.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


KEY_SPELLINGS: Mapping[Kind, re.Pattern[str]] = {
    Kind.TIME: _CANONICAL_CLOCK,
    Kind.TIMESTAMP: _CANONICAL,
    Kind.TIMESTAMPTZ: _CANONICAL_UTC,
}
"""The one text of each moment that a key may hold: two texts of one would be one record."""


_NO_SUCH_DAY = "holds a date or time that does not exist"


def _instant(column: Column, value: Any) -> tuple[str, str, str | None]:
    found = _INSTANT.fullmatch(_text(column, value))
    if found is None:
        raise Misfit("bad-date", "holds no time of the form YYYY-MM-DD HH:MM:SS")
    if found[2] is None:
        return found[1], "00:00:00", None
    return found[1], _clock(found[2], found[3], found[4]), found[5]


def _clock(minutes: str, seconds: str | None, fraction: str | None) -> str:
    kept = (fraction or "").rstrip("0")
    if len(kept) > 6:
        raise Misfit("too-precise", "holds more than six digits of a second")
    return f"{minutes}{seconds or ':00'}{'.' if kept else ''}{kept}"


def _check(
    read: Callable[[], object], reason: str = "bad-date", detail: str = _NO_SUCH_DAY
) -> None:
    try:
        read()
    except ValueError:
        raise Misfit(reason, detail) from None


def _literal(column: Column, value: Any) -> str:
    if type(value) is int:
        return str(value)
    if type(value) is float:
        text = float_text(value)
        # Without a declared type the integer 5 and the real 5.0 are two values.
        return f"{text}.0" if _WHOLE.fullmatch(text) else text
    text = _text(column, value)
    if _NUMBER.fullmatch(text) or text.removeprefix("-") == "Infinity":
        raise Misfit("ambiguous", "holds text that reads like a number in a column without a type")
    return text


_SPELLS: Mapping[Kind, Callable[[Column, Any], str | bytes]] = {
    Kind.INTEGER: _integer,
    Kind.DECIMAL: _decimal,
    Kind.FLOAT: _float,
    Kind.BOOLEAN: _boolean,
    Kind.TEXT: _text,
    Kind.UUID: _text,
    Kind.JSON: _json,
    Kind.BYTES: _bytes,
    Kind.DATE: _date,
    Kind.TIME: _time,
    Kind.TIMESTAMP: _timestamp,
    Kind.TIMESTAMPTZ: _timestamptz,
    Kind.LITERAL: _literal,
}


KINDS: Mapping[str, Kind] = {
    "": Kind.LITERAL,
    "BOOL": Kind.BOOLEAN,
    "BOOLEAN": Kind.BOOLEAN,
    "DATE": Kind.DATE,
    "TIME": Kind.TIME,
    "DATETIME": Kind.TIMESTAMP,
    "TIMESTAMP": Kind.TIMESTAMP,
    "TIMESTAMP WITHOUT TIME ZONE": Kind.TIMESTAMP,
    "TIMESTAMPTZ": Kind.TIMESTAMPTZ,
    "TIMESTAMP WITH TIME ZONE": Kind.TIMESTAMPTZ,
    "DATETIMETZ": Kind.TIMESTAMPTZ,
    "DATETIME_TZ": Kind.TIMESTAMPTZ,
    "DATETIME WITH TIME ZONE": Kind.TIMESTAMPTZ,
    "DATETIMEOFFSET": Kind.TIMESTAMPTZ,
    "DEC": Kind.DECIMAL,
    "DECIMAL": Kind.DECIMAL,
    "NUMERIC": Kind.DECIMAL,
    "NUMBER": Kind.DECIMAL,
    "JSON": Kind.JSON,
    "JSONB": Kind.JSON,
    "UUID": Kind.UUID,
    "GUID": Kind.UUID,
    "UNIQUEIDENTIFIER": Kind.UUID,
    "BINARY": Kind.BYTES,
    "VARBINARY": Kind.BYTES,
    "BYTEA": Kind.BYTES,
    "INTERVAL": Kind.LITERAL,
    "POINT": Kind.LITERAL,
}
"""Declared names that say more than SQLite's own rules for affinity."""

_AFFINITIES: tuple[tuple[str, Kind], ...] = (
    ("INT", Kind.INTEGER),
    ("CHAR", Kind.TEXT),
    ("CLOB", Kind.TEXT),
    ("TEXT", Kind.TEXT),
    ("BLOB", Kind.BYTES),
    ("REAL", Kind.FLOAT),
    ("FLOA", Kind.FLOAT),
    ("DOUB", Kind.FLOAT),
)
"""SQLite's rules, in SQLite's order; what is left has numeric affinity."""

_MODIFIERS = re.compile(r"\(([^)]*)\)")


def kind_of(declared: str) -> Kind:
    """
    What a column of this declared type is meant to hold.
    """
    name = " ".join(_MODIFIERS.sub(" ", declared.upper()).split())
    if name in KINDS:
        return KINDS[name]
    return next((kind for part, kind in _AFFINITIES if part in name), Kind.LITERAL)


def scale_of(declared: str) -> int | None:
    """
    The declared digits behind the point; 0 where only a precision is declared.
    """
    found = _MODIFIERS.search(declared)
    if found is None:
        return None
    numbers = [part.strip() for part in found[1].split(",")]
    if not all(part.isdigit() for part in numbers):
        return None
    return int(numbers[1]) if len(numbers) > 1 else 0
