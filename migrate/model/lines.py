"""
Rows as lines of bytes: UTF-8 between tabs, NULL and control characters as COPY spells them.

A cell is the text of the plain way; of a binary column its digits in lowercase hexadecimal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from migrate.model.values import Cell, Row

NULL = b"\\N"

TAB = b"\t"

ODD_LINE = b"\xff"
"""In place of a row that has no line: no text in UTF-8 has such a byte."""

_LETTERS: Mapping[bytes, bytes] = {
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
}

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})

_BYTES = ((b"\\", b"\\\\"), (b"\t", b"\\t"), (b"\n", b"\\n"), (b"\r", b"\\r"))


def cells_of(line: bytes) -> list[bytes | None]:
    """
    The cells of a line: None for NULL, escapes resolved.
    """
    cells = line.split(TAB)
    if line.count(b"\\") == cells.count(NULL):
        return [None if cell == NULL else cell for cell in cells]
    return [None if cell == NULL else unescaped(cell) for cell in cells]


def unescaped(cell: bytes) -> bytes:
    """
    A cell without its escapes.
    """
    if b"\\" not in cell:
        return cell
    first, *rest = cell.split(b"\\")
    parts = [first]
    left = iter(rest)
    for part in left:
        if part:
            parts += (_LETTERS.get(part[:1], part[:1]), part[1:])
        else:
            # Two backslashes stand for one, and what follows is plain.
            parts += (b"\\", next(left))
    return b"".join(parts)


def escaped(text: bytes) -> bytes:
    """
    A text as it stands in a cell.
    """
    for plain, escape in _BYTES:
        if plain in text:
            text = text.replace(plain, escape)
    return text


def lines_of(rows: Sequence[Row]) -> list[bytes]:
    """
    Rows of cells as lines.
    """
    return lines_of_columns(list(zip(*rows, strict=True)))


def lines_of_columns(columns: Sequence[Sequence[Cell]]) -> list[bytes]:
    """
    The same of all cells of each column.

    Put together as they are, and looked at then, all at once: few have an escape.
    """
    texts = []
    absent = 0
    for cells in columns:
        text, nulls = _texts(cells)
        texts.append(text)
        absent += nulls
    lines = list(map(str.encode, map("\t".join, zip(*texts, strict=True))))
    page = b"\n".join(lines)
    if (
        page.count(TAB) == len(lines) * (len(columns) - 1)
        and page.count(b"\n") == len(lines) - 1
        and b"\r" not in page
        and (b"\\" not in page if not absent else page.count(b"\\") == absent)
    ):
        return lines
    rows = zip(lines, zip(*columns, strict=True), strict=True)
    return [_checked(line, row) for line, row in rows]


def _texts(cells: Sequence[Cell]) -> tuple[Sequence[str], int]:
    """
    Of one column, nothing escaped yet, and how many are NULL.
    """
    types = set(map(type, cells))
    if types == {str}:
        return cast("Sequence[str]", cells), 0
    if bytes in types:
        return [_cell(cell) for cell in cells], cells.count(None)
    return ["\\N" if cell is None else str(cell) for cell in cells], cells.count(None)


def _checked(line: bytes, row: Row) -> bytes:
    """
    The line, or another one in which everything is escaped.
    """
    marks = line.count(b"\\")
    if (
        line.count(TAB) == len(row) - 1
        and b"\n" not in line
        and b"\r" not in line
        and (not marks or marks == row.count(None))
    ):
        return line
    return "\t".join(_cell(cell) for cell in row).encode()


def _cell(cell: Cell) -> str:
    if cell is None:
        return "\\N"
    return cell.hex() if isinstance(cell, bytes) else cell.translate(_ESCAPES)


__all__ = [
    "NULL",
    "ODD_LINE",
    "TAB",
    "cells_of",
    "escaped",
    "lines_of",
    "lines_of_columns",
    "unescaped",
]
