"""
A row filter (`where:`) as a tree: what the mapping side parses and the source side compiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

Literal = str | int | Decimal | bool | None


@dataclass(frozen=True, slots=True)
class ColumnRef:
    """
    A column of the root table.
    """

    name: str


@dataclass(frozen=True, slots=True)
class Constant:
    """
    A literal; always bound as a parameter, never pasted into SQL.
    """

    value: Literal


Operand = ColumnRef | Constant


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    `=`, `<>`, `<`, `<=`, `>`, `>=`, `like` or `not like` between two operands.
    """

    operator: str
    left: Operand
    right: Operand


@dataclass(frozen=True, slots=True)
class IsNull:
    """
    `IS NULL`, or `IS NOT NULL` where negated.
    """

    operand: ColumnRef
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Truth:
    """
    A boolean column standing alone, `IS TRUE`, `IS NOT TRUE`, `IS FALSE` or `IS NOT FALSE`.

    `wanted` None is the bare column.
    """

    operand: ColumnRef
    wanted: bool | None = None
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Membership:
    """
    `IN (...)`, or `NOT IN (...)` where negated.
    """

    operand: ColumnRef
    options: tuple[Constant, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Between:
    """
    `BETWEEN low AND high`, both ends included.
    """

    operand: ColumnRef
    low: Operand
    high: Operand
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Negation:
    """
    `NOT (...)`.
    """

    part: Filter


@dataclass(frozen=True, slots=True)
class Junction:
    """
    Parts joined by `and` or by `or`.
    """

    operator: str
    parts: tuple[Filter, ...]


Filter = Comparison | IsNull | Truth | Membership | Between | Negation | Junction


def columns_of(node: Filter | Operand) -> frozenset[str]:
    """
    The names of all columns that a filter looks at.
    """
    match node:
        case ColumnRef(name):
            return frozenset({name})
        case Constant():
            return frozenset()
        case Comparison(_, left, right):
            return columns_of(left) | columns_of(right)
        case Between(operand, low, high):
            return columns_of(operand) | columns_of(low) | columns_of(high)
        case IsNull(operand) | Truth(operand) | Membership(operand):
            return columns_of(operand)
        case Negation(part):
            return columns_of(part)
        case Junction(_, parts):
            return frozenset[str]().union(*(columns_of(part) for part in parts))
