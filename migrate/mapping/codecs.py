"""
Codecs: bijections between a cell (neutral text of a value) and the bytes that a record holds.

`decode(encode(cell)) == cell` for every cell that a column of the codec's kind can hold. A cell
that a form cannot hold exactly is refused with a reason, never bent (ADR 0005). NULL never
reaches a codec: it is an absent field.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256

from migrate.model.values import Kind

Encode = Callable[[str], bytes]
Decode = Callable[[bytes], str | bytes]


class Unencodable(ValueError):
    """
    A cell that the codec cannot hold exactly. Carries a stable reason and a text without the value.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class Undecodable(ValueError):
    """
    Bytes that the codec never writes.
    """


@dataclass(frozen=True, slots=True)
class Codec:
    """
    One form of one kind of value.

    Args:
        encode: From a cell; raises Unencodable, or UnicodeEncodeError for a lone surrogate.

        decode: Back to the same cell; raises Undecodable for bytes that `encode` never gives.

        mask: Name of the one-way form that `encode` ends in; `decode` then refuses everything.
    """

    form: str
    encode: Callable[..., bytes]
    decode: Decode
    mask: str | None = None

    @property
    def reversible(self) -> bool:
        """
        Whether `decode` gives the cell back; a mask is one-way.
        """
        return self.mask is None


def _same(pattern: str) -> Codec:
    """
    The cell's own text, which has to look like `pattern` on the way back.
    """
    accepts = re.compile(pattern).fullmatch

    def decode(value: bytes) -> str:
        text = _utf8(value)
        if accepts(text) is None:
            raise Undecodable("not the canonical text of this type")
        return text

    return Codec("plain", str.encode, decode)


def _utf8(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Undecodable("not UTF-8") from None


def _named(form: str, codec: Codec) -> Codec:
    return Codec(form, codec.encode, codec.decode)


# --- booleans -----------------------------------------------------------------------------------

_DIGITS = {"true": b"1", "false": b"0"}
_WORDS = {b"1": "true", b"0": "false"}


def _decode_digit(value: bytes) -> str:
    try:
        return _WORDS[value]
    except KeyError:
        raise Undecodable("neither 1 nor 0") from None


# --- bytes --------------------------------------------------------------------------------------


def _raw(cell: bytes) -> bytes:
    return cell


def _unbase64(value: bytes) -> bytes:
    try:
        decoded = base64.b64decode(value, validate=True)
    except binascii.Error:
        raise Undecodable("not base64") from None
    if base64.b64encode(decoded) != value:
        raise Undecodable("not canonical base64")
    return decoded


def _unhex(value: bytes) -> bytes:
    try:
        decoded = binascii.unhexlify(value)
    except (binascii.Error, ValueError):
        raise Undecodable("not hexadecimal") from None
    if binascii.hexlify(decoded) != value:
        raise Undecodable("not canonical hexadecimal")
    return decoded


# --- dates and times ----------------------------------------------------------------------------

INFINITIES = frozenset({"infinity", "-infinity"})
_INFINITE_BYTES = frozenset(text.encode() for text in INFINITIES)
_DATE_LENGTH = len("2024-01-31")
_CLOCK = r"\d\d:\d\d:\d\d(\.\d{0,5}[1-9])?"
_STAMP = re.compile(r"\d{4}-\d\d-\d\d[ T]" + _CLOCK)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - cells are UTC or naive, both without tzinfo
_MICROSECOND = timedelta(microseconds=1)


def _out_of_range() -> Unencodable:
    return Unencodable("out-of-range", "lies outside the years 1 to 9999")


def _encode_date(cell: str) -> bytes:
    # PostgreSQL spells a fifth digit or " BC" outside of years 1 to 9999.
    if len(cell) != _DATE_LENGTH and cell not in INFINITIES:
        raise _out_of_range()
    return cell.encode()


def _decode_date(value: bytes) -> str:
    text = _utf8(value)
    if text not in INFINITIES and (len(text) != _DATE_LENGTH or not _exists(text)):
        raise Undecodable("not a date")
    return text


def _zoned(cell: str) -> str:
    """
    The date and clock of a cell that ends in +00, without its zone.
    """
    if not cell.endswith("+00"):
        raise _out_of_range()
    return cell[:-3]


def _stamp(text: str) -> str:
    """
    `text` if it is `YYYY-MM-DD HH:MM:SS[.f]` of the years 1 to 9999.
    """
    if text[_DATE_LENGTH : _DATE_LENGTH + 1] != " " or text.endswith("BC"):
        raise _out_of_range()
    return text


def _encode_iso(cell: str) -> bytes:
    if cell in INFINITIES:
        return cell.encode()
    return _stamp(cell).replace(" ", "T").encode()


def _encode_iso_zoned(cell: str) -> bytes:
    if cell in INFINITIES:
        return cell.encode()
    return (_stamp(_zoned(cell)).replace(" ", "T") + "Z").encode()


def _checked_stamp(text: str, separator: str) -> str:
    if (
        _STAMP.fullmatch(text) is None
        or text[_DATE_LENGTH] != separator
        or not _exists(text[:_DATE_LENGTH])
    ):
        raise Undecodable("not a time stamp")
    return text.replace("T", " ")


def _exists(day: str) -> bool:
    try:
        date.fromisoformat(day)
    except ValueError:
        return False
    return True


def _decode_iso(value: bytes) -> str:
    text = _utf8(value)
    return text if text in INFINITIES else _checked_stamp(text, "T")


def _decode_iso_zoned(value: bytes) -> str:
    text = _utf8(value)
    if text in INFINITIES:
        return text
    if not text.endswith("Z"):
        raise Undecodable("a time stamp without its zone")
    return _checked_stamp(text[:-1], "T") + "+00"


def _epoch(form: str, microseconds: int, *, zoned: bool) -> Codec:
    """
    Whole units since 1970-01-01 UTC; a stamp that is finer than the unit is refused.
    """

    def encode(cell: str) -> bytes:
        if cell in INFINITIES:
            raise Unencodable("no-epoch", "is infinite, which has no number; use `as: iso8601`")
        text = _stamp(_zoned(cell) if zoned else cell)
        count, rest = divmod((datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND, microseconds)
        if rest:
            raise Unencodable("precision-lost", f"is finer than `as: {form}` can hold")
        return b"%d" % count

    def decode(value: bytes) -> str:
        if re.fullmatch(rb"-?[1-9]\d*|0", value) is None:
            raise Undecodable("not a whole number")
        try:
            stamp = _EPOCH + int(value) * microseconds * _MICROSECOND
        except OverflowError:
            raise Undecodable("outside the years 1 to 9999") from None
        return _postgres_stamp(stamp) + ("+00" if zoned else "")

    return Codec(form, encode, decode)


def _postgres_stamp(stamp: datetime) -> str:
    text = stamp.replace(tzinfo=UTC).isoformat(sep=" ", timespec="microseconds")[:26]
    return text.rstrip("0").rstrip(".") if "." in text else text


# --- the table ----------------------------------------------------------------------------------

_ANYTHING = r"(?s:.*)"
_PLAIN = _same(_ANYTHING)
TEXT = _named("text", _PLAIN)
"""The server's own text, for any type; asked for by `as: text`."""

_FLOAT = _same(r"-?(\d+(\.\d+)?(e[+-]\d\d+)?|Infinity)|NaN")
_DECIMAL = _same(r"-?(\d+(\.\d+)?|Infinity)|NaN")
_INTEGER = _same(r"-?[1-9]\d*|0")
_TIME = _same(_CLOCK)
_TIMETZ = _same(_CLOCK + r"[+-]\d\d(:\d\d){0,2}")
_BYTES = Codec("raw", _raw, lambda value: value)

CODECS: dict[Kind, tuple[Codec, ...]] = {
    Kind.INTEGER: (_INTEGER,),
    Kind.DECIMAL: (_DECIMAL,),
    Kind.FLOAT: (_FLOAT,),
    Kind.BOOLEAN: (
        Codec("digit", _DIGITS.__getitem__, _decode_digit),
        _named("word", _same("true|false")),
    ),
    Kind.TEXT: (TEXT,),
    Kind.BYTES: (
        _BYTES,
        Codec("base64", base64.b64encode, _unbase64),
        Codec("hex", binascii.hexlify, _unhex),
    ),
    Kind.DATE: (Codec("iso8601", _encode_date, _decode_date),),
    Kind.TIME: (_named("iso8601", _TIME),),
    Kind.TIMETZ: (_named("iso8601", _TIMETZ),),
    Kind.TIMESTAMP: (
        Codec("iso8601", _encode_iso, _decode_iso),
        _epoch("epoch_s", 1_000_000, zoned=False),
        _epoch("epoch_ms", 1_000, zoned=False),
        _epoch("epoch_us", 1, zoned=False),
    ),
    Kind.TIMESTAMPTZ: (
        Codec("iso8601", _encode_iso_zoned, _decode_iso_zoned),
        _epoch("epoch_s", 1_000_000, zoned=True),
        _epoch("epoch_ms", 1_000, zoned=True),
        _epoch("epoch_us", 1, zoned=True),
    ),
    Kind.INTERVAL: (_named("iso8601", _PLAIN),),
    Kind.UUID: (TEXT,),
    Kind.ENUM: (TEXT,),
    Kind.JSON: (_named("json", _PLAIN),),
    Kind.ARRAY: (_named("literal", _PLAIN),),
    Kind.LITERAL: (_named("literal", _PLAIN),),
    Kind.UNSUPPORTED: (),
}
"""The forms of each kind; the first is what a field takes when it names none."""

MASKS: dict[str, Callable[[bytes], bytes]] = {
    "sha256": lambda value: sha256(value).hexdigest().encode(),
}
"""One-way forms of the bytes that a field would hold: every word that `mask:` knows."""


def masked(codec: Codec, mask: str) -> Codec:
    """
    The codec with a mask over what it writes.
    """
    plain, hide = codec.encode, MASKS[mask]

    def encode(cell: object) -> bytes:
        return hide(plain(cell))

    def decode(_: bytes) -> str:
        raise Undecodable(f"masked by {mask}, which is one-way")

    return Codec(codec.form, encode, decode, mask)


FORMS: frozenset[str] = frozenset(
    {codec.form for codecs in CODECS.values() for codec in codecs} | {TEXT.form}
)
"""Every word that `as:` knows."""


def forms_of(kind: Kind) -> tuple[str, ...]:
    """
    The words that `as:` takes for a column of this kind, the default first.
    """
    forms = tuple(codec.form for codec in CODECS[kind])
    return forms if TEXT.form in forms or kind is Kind.BYTES else (*forms, TEXT.form)


def codec_for(kind: Kind, form: str | None) -> Codec | None:
    """
    The codec of a kind in a form, the kind's default where none is named; None where there is none.
    """
    if form is None:
        return next(iter(CODECS[kind]), None)
    if form == TEXT.form and kind is not Kind.BYTES:
        return TEXT
    return next((codec for codec in CODECS[kind] if codec.form == form), None)
