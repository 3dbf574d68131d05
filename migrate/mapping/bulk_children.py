"""
The JSON of a collection from lines: the same bytes that `Collection.encode` gives of cells.

A line without a backslash, a quotation mark or a control character has no NULL in it and nothing
that JSON escapes: it is put between constant texts as it is. Any other line is taken apart.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple

from migrate.mapping.bulk import ODD, Convert, Gather, text_convert
from migrate.mapping.json_text import Collection, Member, quoted
from migrate.model.lines import ODD_LINE, TAB, cells_of
from migrate.model.ports import ChildQuery
from migrate.model.values import Kind

_unsafe = re.compile(rb'[\x00-\x08\x0a-\x1f"\\]').search
"""What makes a line one to take apart; a tab in it is between two cells."""

_is_number = re.compile(rb"-?(?:0(?=\.)|[1-9][0-9]*)(?:\.[0-9]+)?|0").fullmatch
"""A number as JSON has it too, but for `-0`, and exponents, which `Value.spell` judges."""

_NUMBERS = frozenset({Kind.DECIMAL, Kind.FLOAT})


class _Part(NamedTuple):
    """
    One member of each object.

    Args:
        around: What stands before its value, and behind.

        plain: Makes its value of a cell in which nothing is to be escaped; None: it is the cell.

        any: Makes its value, and what is around it, of any cell.
    """

    position: int
    head: bytes
    around: bytes
    plain: Convert | None
    any: Convert


def gather_of(collection: Collection, query: ChildQuery) -> Gather | None:
    """
    What makes the collection's JSON of its lines; None where other collections are in it.
    """
    if collection.inner:
        return None
    parts = [_part(member, query) for member in collection.members]
    line = _line_of(parts, single=collection.single)
    odd_line = _value_of(parts[0]) if collection.single else _object_of(parts)

    def gather(lines: Sequence[bytes]) -> bytes:
        try:
            return b"[%b]" % b",".join(
                [line(one) if _unsafe(one) is None else odd_line(one) for one in lines]
            )
        except ODD:
            return ODD_LINE

    return gather


def _line_of(parts: Sequence[_Part], *, single: bool) -> Convert:
    """
    For lines in which every cell is there and nothing is to be escaped.
    """
    if single:
        (only,) = parts
        plain, around = only.plain, only.around
        if plain is None:
            return around.__mod__
        return lambda line: around % plain(line)
    members = b",".join(part.head.replace(b"%", b"%%") + part.around for part in parts)
    template = b"{%b}" % members
    taken = _taken([part.position for part in parts])
    if all(part.plain is None for part in parts):
        return lambda line: template % taken(line.split(TAB))
    converts = [part.plain or bytes for part in parts]

    def convert(line: bytes) -> bytes:
        cells = zip(converts, taken(line.split(TAB)), strict=True)
        return template % tuple([convert(cell) for convert, cell in cells])

    return convert


def _taken(positions: Sequence[int]) -> Callable[[list[bytes]], tuple[bytes, ...]]:
    """
    The cells in the order of the members' names.
    """
    if list(positions) == list(range(len(positions))):
        return tuple
    return itemgetter(*positions)


def _object_of(parts: Sequence[_Part]) -> Convert:
    def convert(line: bytes) -> bytes:
        return b"{%b}" % b",".join(_members(parts, cells_of(line)))

    return convert


def _members(parts: Sequence[_Part], cells: Sequence[bytes | None]) -> Iterator[bytes]:
    for part in parts:
        cell = cells[part.position]
        if cell is not None:
            yield part.head + part.any(cell)


def _value_of(part: _Part) -> Convert:
    def convert(line: bytes) -> bytes:
        (cell,) = cells_of(line)
        return b"null" if cell is None else part.any(cell)

    return convert


def _part(member: Member, query: ChildQuery) -> _Part:
    kind = query.columns[member.position].column.kind
    head = f"{quoted(member.name)}:".encode()
    spell, text = member.value.spell, member.value.text
    if kind is Kind.BYTES:
        return _any(member, head, lambda cell: spell(binascii.unhexlify(cell)).encode())
    if text is not None:
        return _Part(member.position, head, b'"%b"', text_convert(text), _spelled(member))
    if kind is Kind.INTEGER and member.form == "plain":
        return _Part(member.position, head, b"%b", None, bytes)
    if kind in _NUMBERS:
        convert = _spelled(member)
        return _any(member, head, lambda cell: cell if _is_number(cell) else convert(cell))
    return _any(member, head, _spelled(member))


def _any(member: Member, head: bytes, convert: Convert) -> _Part:
    return _Part(member.position, head, b"%b", convert, convert)


def _spelled(member: Member) -> Convert:
    spell = member.value.spell
    return lambda cell: spell(cell.decode()).encode()


__all__ = ["gather_of"]
