"""
Tries a mapping on some rows before anybody relies on it, and names columns that rows do not fit.

Reads and encodes; writes nothing, and says nothing of what the values are.
"""

from __future__ import annotations

from collections.abc import Iterator

from migrate.mapping.compile import compile_mapping
from migrate.mapping.values import Mapping
from migrate.model.catalogue import TableName
from migrate.model.ports import Query
from migrate.pipeline.scope import find_table
from migrate.source.store import SqlSource

ROWS = 2_000
"""Rows that are tried, from all over the table."""


def misfits(source: SqlSource, mapping: Mapping) -> Iterator[tuple[TableName, str]]:
    """
    Table and column of each value that cannot become part of a record, each once.

    Raises:
        SchemaMismatch: The mapping does not fit the source.
    """
    compiled = compile_mapping(mapping, find_table(source, mapping))
    chunk = source.sample(compiled.query, ROWS)
    faults = dict.fromkeys(reject.fault.column for reject in compiled.encode(chunk).rejects)
    for column in faults:
        yield _place(compiled.query, column)


def _place(query: Query, column: str) -> tuple[TableName, str]:
    for child in query.collections():
        head = f"{child.path}."
        if column.startswith(head) and child.table.column(column.removeprefix(head)) is not None:
            return TableName(child.table.schema, child.table.name), column.removeprefix(head)
    return TableName(query.schema, query.table), column
