"""
Checks what a mapping says about the way back to SQL against the live schema.

Nothing uses these parts before cut-over exists; they are checked now, so that none is found to be
wrong on the day of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from difflib import get_close_matches

from migrate.errors import Problem
from migrate.mapping.instants import TEMPORAL
from migrate.mapping.values import NOW, IdMaker, Mapping
from migrate.model.values import Column, Kind, Table

_NUMBERS = frozenset({Kind.INTEGER, Kind.DECIMAL, Kind.FLOAT})
_IDS = frozenset({Kind.INTEGER, Kind.DECIMAL})


def way_back_problems(mapping: Mapping, table: Table) -> Iterator[Problem]:
    """
    Every problem of `source.delete` and of `ids`.
    """
    yield from _delete_problems(mapping, table)
    yield from _ids_problems(mapping, table)


def _delete_problems(mapping: Mapping, table: Table) -> Iterator[Problem]:
    for name, value in mapping.delete.columns if mapping.delete else ():
        loc = ("source", "delete", "set", name)
        column = table.column(name)
        if column is None:
            names = [one.name for one in table.columns]
            near = get_close_matches(name, names, n=1)
            yield mapping.problem(
                loc,
                "missing-column",
                f"Table '{table.name}' has no column '{name}'.",
                f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(names)}.",
                key=True,
            )
            continue
        found = next((why for fits, why in _UNFIT if fits(column, value)), None)
        if found is not None:
            yield mapping.problem(
                loc,
                "delete-value",
                f"Column '{name}' of type {column.type} {found}.",
                "Set another value, or another column.",
            )


_UNFIT: tuple[tuple[Callable[[Column, object], bool], str], ...] = (
    (lambda column, _: column.generated, "is computed by the server and cannot be set"),
    (lambda column, value: value is None and not column.nullable, "is never NULL"),
    (lambda column, value: value == NOW and column.kind not in TEMPORAL, "cannot hold a time"),
    (
        lambda column, value: (
            isinstance(value, bool) and column.kind not in (Kind.BOOLEAN, Kind.INTEGER)
        ),
        "cannot hold a truth value",
    ),
    (
        lambda column, value: type(value) is int and column.kind not in _NUMBERS | {Kind.BOOLEAN},
        "cannot hold a number",
    ),
    (
        lambda column, value: (
            isinstance(value, str) and value != NOW and column.kind in _NUMBERS | {Kind.BOOLEAN}
        ),
        "cannot hold a text",
    ),
)
"""Values that a column does not take, and why; the first that fits is told."""


def _ids_problems(mapping: Mapping, table: Table) -> Iterator[Problem]:
    ids = mapping.ids
    column = table.column(ids.column) if ids else None
    if ids is None or column is None:
        return  # a key column that is not there has been told already
    if ids.sequence is not None and column.kind not in _IDS:
        yield mapping.problem(
            ("ids", "sequence"),
            "ids-type",
            f"Column '{column.name}' of type {column.type} takes no number from a sequence.",
            "Remove `sequence`.",
        )
    elif ids.made_by is IdMaker.SQL and ids.sequence is None and not column.supplied:
        yield mapping.problem(
            ("ids", "made_by"),
            "ids-not-supplied",
            f"The server makes no ids for column '{column.name}': it has no default.",
            "Name a `sequence`, or write `made_by: application`.",
        )
