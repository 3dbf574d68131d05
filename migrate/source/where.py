"""
A row filter as a SQL expression: every literal a bound parameter of its column's type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from migrate.errors import InvalidInput
from migrate.model.filter import (
    Between,
    ColumnRef,
    Comparison,
    Constant,
    Filter,
    IsNull,
    Junction,
    Membership,
    Negation,
    Operand,
    Truth,
)
from migrate.model.values import Column, Kind
from migrate.source.dialects.base import Dialect, Relation

_Expression = sa.ColumnElement[Any]

_COMPARE: Mapping[str, Callable[[_Expression, _Expression], sa.ColumnElement[bool]]] = {
    "=": lambda left, right: left == right,
    "<>": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


@dataclass(frozen=True, slots=True)
class WhereCompiler:
    """
    Compiles filters against one relation.

    Args:
        columns: The expression of each column in the statement at hand.
    """

    dialect: Dialect
    relation: Relation
    columns: Mapping[str, _Expression]

    def compile(self, node: Filter) -> sa.ColumnElement[bool]:
        """
        The condition that a filter means.

        Raises:
            InvalidInput: A column does not exist, or an operator does not fit its type.
        """
        match node:
            case Comparison(operator, left, right):
                return self._comparison(operator, left, right)
            case IsNull(operand, negated):
                column = self._column(operand)
                return column.is_not(None) if negated else column.is_(None)
            case Truth():
                return self._truth(node)
            case Membership():
                return self._membership(node)
            case Between():
                return self._between(node)
            case Negation(part):
                return sa.not_(self.compile(part))
            case Junction(operator, parts):
                join = sa.and_ if operator == "and" else sa.or_
                return join(*(self.compile(part).self_group() for part in parts))

    def _comparison(self, operator: str, left: Operand, right: Operand) -> sa.ColumnElement[bool]:
        beside = self._known(left) or self._known(right)
        if operator in _COMPARE:
            return _COMPARE[operator](self._operand(left, beside), self._operand(right, beside))
        self._require_text(operator, left, right)
        first, pattern = self._operand(left, beside), self._operand(right, None)
        return first.not_like(pattern) if operator == "not like" else first.like(pattern)

    def _require_text(self, operator: str, *operands: Operand) -> None:
        for operand in operands:
            column = self._known(operand)
            if column is not None and column.kind is not Kind.TEXT:
                raise InvalidInput(
                    f"`{operator}` compares texts; column '{column.name}' is {column.type}.",
                    where={"table": self.relation.table.name, "column": column.name},
                    next_step="Correct `where` in the mapping.",
                )

    def _truth(self, node: Truth) -> sa.ColumnElement[bool]:
        column = self._column(node.operand)
        if node.wanted is None:
            return sa.not_(_bare(column)) if node.negated else _bare(column)
        wanted = sa.true() if node.wanted else sa.false()
        return column.is_not(wanted) if node.negated else column.is_(wanted)

    def _membership(self, node: Membership) -> sa.ColumnElement[bool]:
        column = self._column(node.operand)
        known = self._known(node.operand)
        options = [self.dialect.literal(self.relation, known, option) for option in node.options]
        return column.not_in(options) if node.negated else column.in_(options)

    def _between(self, node: Between) -> sa.ColumnElement[bool]:
        known = self._known(node.operand)
        low, high = self._operand(node.low, known), self._operand(node.high, known)
        within = self._column(node.operand).between(low, high)
        return sa.not_(within) if node.negated else within

    def _operand(self, operand: Operand, beside: Column | None) -> _Expression:
        if isinstance(operand, Constant):
            return self.dialect.literal(self.relation, beside, operand)
        return self._column(operand)

    def _column(self, reference: ColumnRef) -> _Expression:
        self._known(reference)
        return self.columns[reference.name]

    def _known(self, operand: Operand) -> Column | None:
        if isinstance(operand, Constant):
            return None
        column = self.relation.table.column(operand.name)
        if column is None:
            raise InvalidInput(
                f"The filter names a column that the table does not have: '{operand.name}'.",
                where={"table": self.relation.table.name},
                next_step="Correct `where` in the mapping.",
            )
        return column


def _bare(column: _Expression) -> sa.ColumnElement[bool]:
    return sa.type_coerce(column, sa.Boolean(create_constraint=False))
