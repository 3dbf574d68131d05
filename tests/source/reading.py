"""
What the tests of the source share: queries from a live table, and reading everything in pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from migrate.model.filter import Filter
from migrate.model.ports import Query
from migrate.model.values import Cell, Chunk, ColumnRead, Fault, Key, KeyRange, Table
from migrate.source.extract import KeysetExtractor
from migrate.source.store import SqlSource
from tests.servers import Database


def open_source(server: Database, **changes: object) -> SqlSource:
    """
    The source over a test database.
    """
    return SqlSource.open(server.config(**changes))


def query_of(
    table: Table,
    key: tuple[str, ...] | None = None,
    columns: tuple[str, ...] | None = None,
    where: Filter | None = None,
    verbatim: frozenset[str] = frozenset(),
) -> Query:
    """
    A query for all columns of a table, or for some.
    """
    named = {column.name: column for column in table.columns}
    wanted = columns or tuple(named)
    key = key or table.primary_key
    return Query(
        mapping="profiles",
        schema=table.schema,
        table=table.name,
        key=tuple(ColumnRead(named[name]) for name in key),
        columns=tuple(ColumnRead(named[name], name in verbatim) for name in wanted),
        where=where,
    )


@dataclass
class Reading:
    """
    Everything that pages gave.
    """

    keys: list[Key]
    rows: list[tuple[Cell, ...]]
    faults: list[Fault]
    versions: list[str]

    def cells(self, at: int = 0) -> list[Cell]:
        """
        One column of all rows.
        """
        return [row[at] for row in self.rows]


def read_all(
    extractor: KeysetExtractor,
    limit: int = 2,
    within: KeyRange | None = None,
    between: Callable[[], None] | None = None,
) -> Reading:
    """
    Every row, in pages of `limit`; `between` is called after each page.
    """
    found = Reading([], [], [], [])
    for chunk in pages(extractor, limit, within):
        assert len(chunk.keys) == len(chunk.rows) <= limit
        found.keys += chunk.keys
        found.rows += [tuple(row) for row in chunk.rows]
        found.faults += [chunk.faults[at] for at in sorted(chunk.faults)]
        found.versions += chunk.versions
        if between:
            between()
    return found


def pages(
    extractor: KeysetExtractor, limit: int, within: KeyRange | None = None
) -> Iterator[Chunk]:
    """
    Page after page until one is empty.
    """
    after: Key | None = None
    for _ in range(100_000):
        chunk = extractor.read(within or KeyRange(), after, limit)
        if not chunk.keys:
            return
        yield chunk
        after = chunk.keys[-1]
    raise AssertionError("paging does not end")


def reader(
    source: SqlSource,
    table: str,
    key: tuple[str, ...] | None = None,
    columns: tuple[str, ...] | None = None,
    where: Filter | None = None,
    verbatim: frozenset[str] = frozenset(),
) -> KeysetExtractor:
    """
    An extractor for a table as it is now.
    """
    reflected = source.reflect(None, table)
    assert reflected is not None
    return source.extractor(query_of(reflected, key, columns, where, verbatim), reflected)
