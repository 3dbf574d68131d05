"""
The JSON of a collection from lines: the same bytes that `Collection.encode` gives of cells.

A line without a backslash, a quotation mark or a control character has no NULL in it and nothing
that JSON escapes: its cells are put between constant texts as they are, column by column for all
lines of some hundred parents at once. Any other line is taken apart by itself.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, compress, islice, repeat
from typing import NamedTuple

from migrate.mapping.bulk import ODD, Convert, Gather, Odd, text_convert
from migrate.mapping.json_text import Collection, Member, quoted
from migrate.model.lines import ODD_LINE, TAB, cells_of
from migrate.model.ports import ChildQuery
from migrate.model.values import Kind

AT_ONCE = 500
"""Parents: so many go the slow way together where a cell of one of their children is odd."""

_unsafe = re.compile(rb'[\x00-\x08\x0a-\x1f"\\]').search
"""What makes a line one to take apart; a tab in it is between two cells."""

_is_number = re.compile(rb"-?(?:0(?=\.)|[1-9][0-9]*)(?:\.[0-9]+)?|0").fullmatch
"""A number as JSON has it too, but for `-0`, and exponents, which `Value.spell` judges."""

_NUMBERS = frozenset({Kind.DECIMAL, Kind.FLOAT})


class _Part(NamedTuple):
    """
    One member of each object.

    Args:
        quote: What stands before its value, and behind.

        plain: Makes its value of a cell in which nothing is to be escaped; None: it is the cell.

        any: Makes its value, and what is around it, of any cell.
    """

    position: int
    head: bytes
    quote: bytes
    plain: Convert | None
    any: Convert


def gather_of(collection: Collection, query: ChildQuery) -> Gather | None:
    """
    What makes the collection's JSON of its lines; None where other collections are in it.
    """
    if collection.inner:
        return None
    parts = [_part(member, query) for member in collection.members]
    single = collection.single
    usual = _usual_of(parts, len(query.columns), single=single)
    odd = _value_of(parts[0]) if single else _object_of(parts)

    def each(rows: Sequence[bytes]) -> list[bytes]:
        text = TAB.join(rows)
        if _unsafe(text) is None:
            return usual(text, len(rows))
        safe = [_unsafe(row) is None for row in rows]
        made = iter(usual(TAB.join(compress(rows, safe)), sum(safe)))
        return [next(made) if fine else odd(row) for row, fine in zip(rows, safe, strict=True)]

    def some(groups: Sequence[Sequence[bytes]]) -> list[bytes]:
        try:
            made = iter(each(list(chain.from_iterable(groups))))
        except ODD:
            return [_one(rows, odd) for rows in groups]
        return [b"[%b]" % b",".join(islice(made, len(rows))) for rows in groups]

    def gather(groups: Sequence[Sequence[bytes]]) -> list[bytes]:
        parts = (groups[start : start + AT_ONCE] for start in range(0, len(groups), AT_ONCE))
        return list(chain.from_iterable(map(some, parts)))

    return gather


def _one(rows: Sequence[bytes], odd: Convert) -> bytes:
    try:
        return b"[%b]" % b",".join(map(odd, rows))
    except ODD:
        return ODD_LINE


def _usual_of(
    parts: Sequence[_Part], width: int, *, single: bool
) -> Callable[[bytes, int], list[bytes]]:
    """
    For so many lines, joined, in which every cell is there and nothing is to be escaped.

    Args:
        width: Cells of a line.
    """
    first, *behind = _between(parts, single=single)

    def convert(text: bytes, count: int) -> list[bytes]:
        cells = text.split(TAB) if count else []
        if len(cells) != width * count:
            raise Odd
        pieces: list[Iterable[bytes]] = [repeat(first, count)]
        for part, after in zip(parts, behind, strict=True):
            column: Iterable[bytes] = cells[part.position :: width]
            pieces += (column if part.plain is None else map(part.plain, column), repeat(after))
        # Not strict: what stands behind values is repeated for ever.
        return list(map(b"".join, zip(*pieces, strict=False)))

    return convert


def _between(parts: Sequence[_Part], *, single: bool) -> list[bytes]:
    """
    What stands before the first value, between one and the next, and behind the last.
    """
    if single:
        return [parts[0].quote, parts[0].quote]
    texts = [b"{"]
    for part in parts:
        texts[-1] += part.head + part.quote
        texts.append(part.quote + b",")
    return [*texts[:-1], texts[-1][:-1] + b"}"]


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
        return _Part(member.position, head, b'"', text_convert(text), _spelled(member))
    if kind is Kind.INTEGER and member.form == "plain":
        return _Part(member.position, head, b"", None, bytes)
    if kind in _NUMBERS:
        convert = _spelled(member)
        return _any(member, head, lambda cell: cell if _is_number(cell) else convert(cell))
    return _any(member, head, _spelled(member))


def _any(member: Member, head: bytes, convert: Convert) -> _Part:
    return _Part(member.position, head, b"", convert, convert)


def _spelled(member: Member) -> Convert:
    spell = member.value.spell
    return lambda cell: spell(cell.decode()).encode()


__all__ = ["gather_of"]
