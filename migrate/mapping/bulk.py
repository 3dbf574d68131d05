"""
What a mapping does to rows that come as lines of bytes, for an encoder that works on whole pages.

A `BulkPlan` says the same as `CompiledMapping.encode`, of bytes instead of text, so that nothing is
decoded only to be encoded again. It knows the common case alone: whatever it cannot say of a cell
is `Odd`, and such a row goes through `CompiledMapping.encode`, which stays the one authority.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from migrate.mapping.codecs import CODECS, Codec, Unencodable
from migrate.mapping.json_text import quoted, value_of
from migrate.mapping.template import Template
from migrate.model.values import Kind, RecordType

Convert = Callable[[bytes], bytes]
"""From a cell of a line to the bytes of a field; raises one of `ODD`."""


Gather = Callable[[Sequence[Sequence[bytes]]], list[bytes]]
"""From the lines of each row's children to the bytes of its field; of what only the plain way can
judge one that no text has."""


class Odd(ValueError):
    """
    A cell that only the plain way can judge.
    """


ODD = (Odd, Unencodable, UnicodeError, LookupError, TypeError, AttributeError, binascii.Error)
"""What may be raised for a row that has to go the plain way: all of it, and nothing is lost."""


class BulkField(NamedTuple):
    """
    One field of a record.

    Args:
        position: Of its cell in a line.

        name: As the record spells it: of a string record with quotes and colon.

        head: What stands before the length of its value in the digest.

        convert: None where the cell is the value.
    """

    position: int
    name: bytes
    head: bytes
    convert: Convert | None
    nullable: bool


@dataclass(frozen=True, slots=True)
class BulkPlan:
    """
    How lines become records.

    Args:
        width: Cells of a line, those of collections counted, a version not.

        fields: In the order of the record and of its digest.

        key: Literals of the record key, and between them positions of cells.

        check: Raises `Odd` for a component of the key that would have to be escaped; None where no
            component of this mapping ever has to.

        seed: Begins the digest of each record; to be copied.

        reserved: Names of version and digest.

        collections: What makes one more cell, behind the columns, of the rows of each collection.
    """

    width: int
    fields: tuple[BulkField, ...]
    key: tuple[bytes | int, ...]
    check: Callable[[bytes], object] | None
    seed: blake2b
    record: RecordType
    reserved: tuple[str, str]
    collections: tuple[Gather, ...] = ()

    @property
    def opening(self) -> tuple[bytes, bytes]:
        """
        Of a string record: what stands before its version, and between version and digest.
        """
        version, digest = self.reserved
        return f'{{{quoted(version)}:"'.encode(), f'",{quoted(digest)}:"'.encode()


def convert_of(kind: Kind, codec: Codec, record: RecordType) -> Convert | None:
    """
    What makes a field of a cell of a line.

    Bytes come as hexadecimal digits in a line, every other cell as the UTF-8 of its text.
    """
    if record is RecordType.STRING:
        return _spelled(kind, codec)
    if kind is Kind.BYTES:
        if codec.form == "hex" and codec.reversible:
            return None
        return lambda cell: codec.encode(binascii.unhexlify(cell))
    return text_convert(codec.encode)


def _spelled(kind: Kind, codec: Codec) -> Convert | None:
    if kind is Kind.INTEGER and codec.form == "plain" and codec.reversible:
        return None
    spell = value_of(kind, codec).spell
    if kind is Kind.BYTES:
        return lambda cell: spell(binascii.unhexlify(cell)).encode()
    return lambda cell: spell(cell.decode()).encode()


def _iso(cell: bytes) -> bytes:
    found = cell.replace(b" ", b"T")
    # Years of five digits put the T elsewhere; those before our era have a BC behind them.
    if found[_BETWEEN] != _T or found[-1] == _C:
        raise Odd
    return found


def _iso_zoned(cell: bytes) -> bytes:
    found = cell.replace(b" ", b"T").replace(b"+00", b"Z")
    if found[_BETWEEN] != _T or found[-1] != _Z:
        raise Odd
    return found


_BETWEEN = len("2024-01-31")
_T, _C, _Z = b"TCZ"


def _date(cell: bytes) -> bytes:
    if len(cell) != len(b"2024-01-31"):
        raise Odd
    return cell


def text_convert(encode: Callable[..., bytes]) -> Convert | None:
    """
    What makes the bytes of a text that this encoder makes of cells; None: the cell is them.
    """
    if encode is str.encode:
        return None
    known = _KNOWN.get(encode)
    return known if known is not None else lambda cell: encode(cell.decode())


def _known() -> Iterator[tuple[Callable[..., bytes], Convert]]:
    """
    Encoders of codecs that have a form for bytes; tests hold the two together.
    """
    for kind, convert in (
        (Kind.TIMESTAMP, _iso),
        (Kind.TIMESTAMPTZ, _iso_zoned),
        (Kind.DATE, _date),
        (Kind.BOOLEAN, {b"true": b"1", b"false": b"0"}.__getitem__),
    ):
        yield CODECS[kind][0].encode, convert


_KNOWN = dict(_known())


def key_check(template: Template, kinds: list[Kind]) -> Callable[[bytes], object] | None:
    """
    The check of `BulkPlan.check`: only what a template shows as it is passes.

    Of integers alone it is sure what they look like: a UUID of SQLite is whatever text is stored.
    """
    if set(kinds) <= {Kind.INTEGER} and not template.escaped & set("0123456789-"):
        return None
    characters = f"[{re.escape(''.join(sorted(template.escaped)))}]"
    # A day outside of the years 1 to 9999, which no record has; BC stands behind a blank.
    days = r"|\A[0-9]{5,}-" if Kind.DATE in kinds else ""
    unsafe = re.compile(f"{characters}{days}".encode()).search
    if not all(character.isascii() for character in template.escaped):
        return _never

    def check(component: bytes) -> None:
        if unsafe(component) is not None:
            raise Odd

    return check


def _never(_: bytes) -> None:
    raise Odd


__all__ = [
    "ODD",
    "BulkField",
    "BulkPlan",
    "Convert",
    "Gather",
    "Odd",
    "convert_of",
    "key_check",
    "text_convert",
]
