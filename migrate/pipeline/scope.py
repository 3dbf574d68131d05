"""
What a backfill of one mapping covers: its table, and into how many partitions its rows go.
"""

from __future__ import annotations

from difflib import get_close_matches

from migrate.errors import SchemaMismatch
from migrate.mapping.values import Mapping
from migrate.model.values import Table
from migrate.source.store import SqlSource

ROWS_A_PARTITION = 50_000
PARTITIONS_A_WORKER = 4
MOST_PARTITIONS = 1_024


def find_table(source: SqlSource, mapping: Mapping) -> Table:
    """
    The mapping's root table from the catalogue.

    Raises:
        SchemaMismatch: There is no such table; names the nearest.
    """
    table = source.reflect(mapping.schema, mapping.table)
    if table is not None:
        return table
    names = source.tables(mapping.schema)
    near = get_close_matches(mapping.table, names, n=1)
    fix = f"Did you mean '{near[0]}'?" if near else "Check the schema and this user's rights."
    raise SchemaMismatch(
        [
            mapping.problem(
                ("source", "table"),
                "missing-table",
                f"The source has no table '{mapping.table}'.",
                fix,
            )
        ]
    )


def partitions_for(rows: int, workers: int) -> int:
    """
    Enough partitions that workers end together, not so many that claiming them shows.
    """
    wanted = max(rows // ROWS_A_PARTITION, workers * PARTITIONS_A_WORKER if rows > 1_000 else 1)
    return max(1, min(MOST_PARTITIONS, wanted))
