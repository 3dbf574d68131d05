"""
The checks of what hangs on a mapping's tables: it stops no backfill, and matters before cut-over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from migrate.mapping.compile import CompiledMapping
from migrate.mapping.values import Mapping
from migrate.model.catalogue import Dependent, ForeignKey, Surroundings, TableName
from migrate.model.values import Table
from migrate.stages.checks import Check, ok, warning

SHOWN = 5
"""Names in one line; the others are counted."""

_SPREADING = ("CASCADE", "SET NULL", "SET DEFAULT")

_OURS = "migrate_"
"""What the names of capture's own triggers begin with."""


def mapped_tables(table: Table) -> dict[TableName, Table]:
    """
    The root and the tables of all collections, as the catalogue names them.
    """
    return {TableName(one.schema, one.name): one for one in (table, *table.children.values())}


def surroundings_checks(
    name: str, mapping: Mapping, compiled: CompiledMapping, table: Table, around: Surroundings
) -> Iterator[Check]:
    """
    Inbound foreign keys, views, cascades, triggers, and columns that SQL fills by itself.

    Args:
        name: What the ids of the checks begin with.
    """
    tables = mapped_tables(table)
    yield _inbound(f"{name}.inbound", tables, around.foreign_keys)
    yield _views(f"{name}.views", around.views)
    yield _cascades(f"{name}.cascades", tables, around)
    yield _triggers(f"{name}.triggers", around.triggers)
    yield _ids(f"{name}.ids", mapping, compiled, around.counters)
    yield _supplied(f"{name}.supplied", table, compiled, around.counters)


def _inbound(name: str, tables: Iterable[TableName], keys: Sequence[ForeignKey]) -> Check:
    mapped = set(tables)
    found = [
        f"{key.child} ({', '.join(key.columns)})"
        for key in keys
        if key.parent in mapped and key.child not in mapped
    ]
    if not found:
        return ok(name, "Every table that refers to these rows moves with them.")
    return warning(
        name,
        f"Tables that refer to these rows and do not move with them: {_list(found)}.",
        "Add them under `children`, or plan for them: after cut-over a new row is in Redis first, "
        "and their foreign keys find it in SQL only when it has come back.",
    )


def _views(name: str, views: Sequence[Dependent]) -> Check:
    found = [f"{view.name} (over {view.table.name})" for view in views]
    if not found:
        return ok(name, "No view reads these tables.")
    return warning(
        name,
        f"Views over these tables: {_list(found)}.",
        "Find out who reads them: after cut-over they show what has come back to SQL.",
    )


def _cascades(name: str, tables: Iterable[TableName], around: Surroundings) -> Check:
    mapped = set(tables)
    found = [
        f"{key.parent} to {key.child}"
        for key in around.foreign_keys
        if key.child in mapped and {key.on_delete, key.on_update} & set(_SPREADING)
    ]
    if not found:
        return ok(name, "No foreign key changes these rows by itself.")
    if not around.cascades_silently:
        return ok(name, f"Cascades, which fire triggers on this server: {_list(found)}.")
    return warning(
        name,
        f"Cascades that fire no triggers on this server: {_list(found)}.",
        "Nothing to do for a backfill; before capture let the application change these rows "
        "itself, and declare the foreign keys ON DELETE RESTRICT ON UPDATE RESTRICT.",
    )


def _triggers(name: str, triggers: Sequence[Dependent]) -> Check:
    found = [
        f"{one.name} (on {one.table.name})" for one in triggers if not one.name.startswith(_OURS)
    ]
    if not found:
        return ok(name, "No triggers are on these tables.")
    return warning(
        name,
        f"Triggers are there already: {_list(found)}.",
        "Read what they do: after cut-over they fire when a change comes back to SQL, not when the "
        "application makes it.",
    )


def _ids(
    name: str, mapping: Mapping, compiled: CompiledMapping, counters: Sequence[Dependent]
) -> Check:
    root = _root(compiled)
    key = {read.column.name for read in compiled.query.key}
    found = [one.name for one in counters if one.table == root and one.name in key]
    if not found or mapping.ids is not None:
        return ok(name, "It is known who makes new keys.")
    return warning(
        name,
        f"SQL counts up {', '.join(found)}, and the mapping does not say who will after cut-over.",
        "Nothing to do for a backfill; before cut-over declare it: `ids: {made_by: sql}`.",
    )


def _supplied(
    name: str, table: Table, compiled: CompiledMapping, counters: Sequence[Dependent]
) -> Check:
    # Of primary keys SQLite says that it fills them; who does is another check.
    known = {(one.table, one.name) for one in counters}
    for called, one in mapped_tables(table).items():
        known |= {(called, name) for name in one.primary_key}
    known |= {(_root(compiled), read.column.name) for read in compiled.query.key}
    found = [
        f"{one.name}.{column.name} ({'generated' if column.generated else 'default'})"
        for called, one in mapped_tables(table).items()
        for column in one.columns
        if (column.generated or column.supplied) and (called, column.name) not in known
    ]
    if not found:
        return ok(name, "SQL fills no other column by itself.")
    return warning(
        name,
        f"Columns that SQL fills by itself: {_list(found)}.",
        "Nothing to do for a backfill; before cut-over the application has to give what is a "
        "default today, and what is generated stays out of what comes back.",
    )


def _root(compiled: CompiledMapping) -> TableName:
    return TableName(compiled.query.schema, compiled.query.table)


def _list(names: Iterable[str]) -> str:
    found = list(dict.fromkeys(names))
    more = f" and {len(found) - SHOWN:,} more" if len(found) > SHOWN else ""
    return f"{', '.join(found[:SHOWN])}{more}"
