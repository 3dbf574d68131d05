"""
What cells of every dialect have in common: faults value by value, and floats as PostgreSQL's.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from migrate.model.values import Cell, Fault


class Misfit(Exception):
    """
    One value that cannot be its column's kind; caught for each cell, never leaves this package.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


Spell = Callable[[Any], str | bytes]
"""One value that is not NULL to its cell; raises `Misfit`."""

Converted = tuple[Sequence[Cell], dict[int, Fault]]
"""Cells, and by position what is wrong; a value that is at fault leaves None behind."""


def each(values: Sequence[Any], spell: Spell, name: str) -> Converted:
    """
    Value by value, for a column that holds one at fault.
    """
    cells: list[Cell] = []
    faults: dict[int, Fault] = {}
    for position, value in enumerate(values):
        if value is None:
            cells.append(None)
            continue
        try:
            cells.append(spell(value))
        except Misfit as misfit:
            cells.append(None)
            faults[position] = Fault(name, misfit.reason, misfit.detail)
    return cells, faults


SPECIAL = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}
"""How PostgreSQL calls the floats that are no numbers."""

EXPONENT_FROM = 15
"""PostgreSQL prints floats in plain notation below 1e15, Python below 1e16."""

TIES = (2.0**53, 1e40)
"""Where 17 digits or less can lie exactly half-way between two floats."""


def float_text(value: float) -> str:
    """
    The shortest text that reads back as this float, spelled as PostgreSQL does.
    """
    text = repr(value)
    if text in SPECIAL:
        return SPECIAL[text]
    if TIES[0] <= abs(value) < TIES[1]:
        text = _off_the_tie(value, text)
    text = text.removesuffix(".0")
    if len(text) <= EXPONENT_FROM:
        return text
    whole, _, fraction = text.partition(".")
    digits = whole.removeprefix("-")
    if "e" in text or len(digits) <= EXPONENT_FROM:
        return text
    tail = (digits[1:] + fraction).rstrip("0")
    sign = "-" if text.startswith("-") else ""
    return f"{sign}{digits[0]}{'.' if tail else ''}{tail}e+{len(digits) - 1}"


def _off_the_tie(value: float, text: str) -> str:
    """
    `text`, or a longer one where it lies exactly half-way to a neighbour of the float.

    Python relies on readers that round such a tie to even; PostgreSQL does not.
    """
    exact = int(value)
    shown = int(Decimal(text))
    neighbour = int(math.nextafter(value, math.inf if shown > exact else -math.inf))
    if 2 * shown != exact + neighbour:
        return text
    digits = len(Decimal(text).as_tuple().digits)
    return _off_the_tie(value, f"{value:.{digits}e}")


_SINGLE = struct.Struct("<f")
_BITS = struct.Struct("<I")
_SMALLEST_NORMAL = 2.0**-126
_SINGLE_EXPONENT_FROM = 6
"""PostgreSQL prints floats of four bytes in plain notation below a million."""


def single_text(value: float) -> str:
    """
    The shortest text that reads back as this float of four bytes, spelled as PostgreSQL does.

    Args:
        value: The same number in eight bytes.
    """
    size = abs(value)
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    if size == 0:
        return f"{sign}0"
    low, high = _borders(size)
    # Any six digits survive four bytes; next to zero fewer may be enough.
    for places in range(5 if size >= _SMALLEST_NORMAL else 0, 9):
        mantissa, _, exponent = f"{size:.{places}e}".partition("e")
        nearest = int(mantissa.replace(".", ""))
        # Above a power of two there is twice the room as below it.
        for digits in (nearest, nearest + 1):
            if low < float(f"{digits}e{int(exponent) - places}") < high:
                return sign + _spelled(str(digits), int(exponent))
    raise AssertionError("nine digits hold every float of four bytes")


def _borders(size: float) -> tuple[float, float]:
    """
    Half-way to the next floats of four bytes; PostgreSQL takes no text that lies on a border.
    """
    (bits,) = _BITS.unpack(_SINGLE.pack(size))
    (below,) = _SINGLE.unpack(_BITS.pack(bits - 1))
    (above,) = _SINGLE.unpack(_BITS.pack(bits + 1))
    if math.isinf(above):
        above = 2.0**128
    return (below + size) / 2, (size + above) / 2


def _spelled(digits: str, exponent: int) -> str:
    digits = digits.rstrip("0")
    if -5 < exponent < 0:
        return f"0.{'0' * (-1 - exponent)}{digits}"
    if 0 <= exponent < _SINGLE_EXPONENT_FROM:
        whole, fraction = digits[: exponent + 1].ljust(exponent + 1, "0"), digits[exponent + 1 :]
        return f"{whole}.{fraction}" if fraction else whole
    tail = f".{digits[1:]}" if digits[1:] else ""
    return f"{digits[0]}{tail}e{exponent:+03d}"
