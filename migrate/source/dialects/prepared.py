"""
Statements compiled once, for those that are given to a driver past SQLAlchemy's own execution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

T = TypeVar("T")


class Prepared(Generic[T]):
    """
    What was made of each statement, which does not change from page to page.

    Args:
        make: Of a statement for a dialect.
    """

    def __init__(self, make: Callable[[sa.Select[Any], sa.Dialect], T]) -> None:
        self._make = make
        self._made: dict[int, tuple[sa.Select[Any], T]] = {}

    def of(self, connection: sa.Connection, statement: sa.Select[Any]) -> T:
        """
        Kept with the statement itself, so that its identity is not given to another one.
        """
        if id(statement) not in self._made:
            self._made[id(statement)] = statement, self._make(statement, connection.dialect)
        return self._made[id(statement)][1]


def compiled(statement: sa.Select[Any], dialect: sa.Dialect) -> sa.Compiled:
    """
    A statement with its whole text, lists of parameters spelled out.
    """
    return statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})


__all__ = ["Prepared", "compiled"]
