"""
What a backfill of one mapping covers: its table, and into how many partitions its rows go.
"""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches

from migrate.documents.reader import Loc
from migrate.errors import Problem, SchemaMismatch
from migrate.mapping.values import Mapping
from migrate.model.values import Table
from migrate.source.store import SqlSource

ROWS_A_PARTITION = 50_000
PARTITIONS_A_WORKER = 4
MOST_PARTITIONS = 1_024


def find_table(source: SqlSource, mapping: Mapping) -> Table:
    """
    The mapping's root table from the catalogue, with the tables of its collections.

    Raises:
        SchemaMismatch: A table is not there; names the nearest to each.
    """
    problems: list[Problem] = []

    def look(schema: str | None, name: str, loc: Loc) -> Table | None:
        table = source.reflect(schema, name)
        if table is None:
            problems.append(_missing(source, mapping, schema, name, loc))
        return table

    root = look(mapping.schema, mapping.table, ("source", "table"))
    children = {
        path: look(child.schema or mapping.schema, child.table, (*loc, "table"))
        for loc, path, child in mapping.collections()
    }
    if root is None or problems:
        raise SchemaMismatch(problems)
    found = {path: table for path, table in children.items() if table is not None}
    return replace(root, children=found) if found else root


def _missing(
    source: SqlSource, mapping: Mapping, schema: str | None, name: str, loc: Loc
) -> Problem:
    near = get_close_matches(name, source.tables(schema), n=1)
    fix = f"Did you mean '{near[0]}'?" if near else "Check the schema and this user's rights."
    return mapping.problem(loc, "missing-table", f"The source has no table '{name}'.", fix)


def partitions_for(rows: int, workers: int) -> int:
    """
    Enough partitions that workers end together, not so many that claiming them shows.
    """
    wanted = max(rows // ROWS_A_PARTITION, workers * PARTITIONS_A_WORKER if rows > 1_000 else 1)
    return max(1, min(MOST_PARTITIONS, wanted))
