"""
Reads the child rows of a page of lines, as lines, and puts each with its parent.

The same statements as in `children`, joined by the server, which spells the root's key in front of
each line; so a child finds its parent by bytes that the server has spelled twice in one way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import sqlalchemy as sa

from migrate.model.lines import ODD_LINE, TAB, cells_of, escaped, lines_of
from migrate.model.ports import Query
from migrate.model.values import Chunk, Fault, Key, RawPage
from migrate.source.children import Budget, Children, Level, TooManyChildren
from migrate.source.dialects.base import Lines, TooMuch, places_of
from migrate.source.dialects.spelling import Misfit
from migrate.source.extract import Statements

Groups = Sequence[Sequence[bytes]]
"""For each row of a page the lines of its children."""

Gather = Callable[[Groups], list[bytes]]
"""From them to the bytes of one cell of each row."""


@dataclass(frozen=True, slots=True)
class ChildLines:
    """
    The collections of one query, to be read behind any page of lines.

    Args:
        places: Where in a line the cells of its key are.
    """

    sql: Statements
    places: tuple[int, ...]
    readers: tuple[_Reader, ...]

    @classmethod
    def of(cls, query: Query, sql: Statements, children: Children) -> ChildLines | None:
        """
        Prepare the statements; None where the server does not spell all that is needed.
        """
        places = [place for place in places_of(query.columns, sql.keys) if place is not None]
        if len(places) < len(sql.keys):
            return None
        reads = [query.columns[place] for place in places]
        key = sql.dialect.lines(sql.relation, reads, ())
        readers = [_Reader.of(sql, key, len(reads), level) for level in children.levels]
        found = tuple(reader for reader in readers if reader is not None)
        return cls(sql, tuple(places), found) if len(found) == len(readers) else None

    def read(
        self, connection: sa.Connection, page: RawPage, low: Key | None
    ) -> Sequence[Groups] | None:
        """
        The lines of each collection of a page; None where it has to be read the plain way.

        Raises:
            TooManyChildren: They are more than a page may hold.
        """
        keys = self._keys(page.lines)
        found = set(keys)
        # An odd line has no key, and so has the odd line of a child: they would be taken for kin.
        if page.last is None or len(found) < len(page.lines) or ODD_LINE in found:
            return None
        parameters = {**self.sql.values("low", low), **self.sql.values("high", page.last)}
        budget = Budget()
        collections = []
        for reader in self.readers:
            lines = reader.lines(connection, parameters, budget, low=low is not None)
            groups = None if lines is None else _grouped(lines, len(self.places), keys)
            if groups is None:
                return None
            collections.append(groups)
        return collections

    def _keys(self, lines: Sequence[bytes]) -> list[bytes]:
        """
        Of each line; none at all where one has no cells.
        """
        try:
            if len(self.places) == 1:
                (place,) = self.places
                return [line.split(TAB, place + 1)[place] for line in lines]
            split = (line.split(TAB) for line in lines)
            return [TAB.join([cells[at] for at in self.places]) for cells in split]
        except IndexError:
            return []

    def rows(self, groups: Sequence[Groups], at: int) -> tuple[list[Any], Fault | None]:
        """
        The rows of each collection of one parent as `children` gives them, and what is wrong.
        """
        first = None
        found = []
        for reader, lines in zip(self.readers, groups, strict=True):
            rows = []
            for line in lines[at]:
                row, fault = reader.row(line)
                rows.append(row)
                first = first or fault
            found.append(rows)
        return found, first


def _grouped(lines: Sequence[bytes], width: int, keys: Sequence[bytes]) -> Groups | None:
    """
    Lines by the key in front of them; None where a key is of no row.
    """
    groups: defaultdict[bytes, list[bytes]] = defaultdict(list)
    if width == 1:
        for line in lines:
            key, _, rest = line.partition(TAB)
            groups[key].append(rest)
    else:
        for line in lines:
            *parts, rest = line.split(TAB, width)
            groups[TAB.join(parts)].append(rest)
    found = [groups.pop(key, ()) for key in keys]
    return None if groups else found


@dataclass(frozen=True, slots=True)
class _Reader:
    """
    One collection.

    Args:
        own: Spells its cells, and the key of the root in front of them.

        roots: Columns of the root's key.

        within: Its columns that equal those, where the same bounds hold for them.
    """

    sql: Statements
    level: Level
    own: Lines
    roots: tuple[sa.ColumnElement[Any], ...]
    within: tuple[sa.ColumnElement[Any], ...]
    _kept: dict[bool, sa.Select[Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, sql: Statements, key: Lines | None, width: int, level: Level) -> _Reader | None:
        query = level.query
        own = sql.dialect.lines(level.relation, query.columns, ())
        names = {column.name for column in sql.keys}
        # Otherwise a page could hold more than its lines say: other columns are read to join by.
        by_key = {above.name for _, above in query.join} <= names
        if key is None or own is None or query.children or not by_key:
            return None
        behind = own.behind(key, sql.table, width)
        roots = tuple(sql.key_of(sql.table))
        within = level.keyed(sql.keys)
        return cls(sql, level, behind, roots, within if len(within) == len(roots) else ())

    def lines(
        self,
        connection: sa.Connection,
        parameters: Mapping[str, Any],
        budget: Budget,
        *,
        low: bool,
    ) -> list[bytes] | None:
        """
        All lines of a page's children, in the order of each parent's list.
        """
        path = self.level.query.path
        try:
            # The plain way counts the key of the root twice, and characters: never more than this.
            fetched = self.own.fetch(
                connection, self._statement(low=low), parameters, budget.bytes // 2
            )
        except TooMuch:
            raise TooManyChildren(path) from None
        if fetched is None:
            return None
        budget.rows -= len(fetched.lines)
        budget.bytes -= 2 * sum(map(len, fetched.lines))
        if budget.rows < 0 or budget.bytes < 0:
            raise TooManyChildren(path)
        return fetched.lines

    def _statement(self, *, low: bool) -> sa.Select[Any]:
        if low not in self._kept:
            sql, level = self.sql, self.level
            conditions = [*sql.bounds(sql.table, low=low, high=True), *sql.rows(sql.table)]
            if self.within:
                # It follows from the join, which no planner sees.
                conditions += sql.between(self.within, low=low, high=True)
            self._kept[low] = (
                level.statement(sql.table, conditions)
                .with_only_columns(*self.own.columns(level.table, None))
                .order_by(None)
                .order_by(*self.roots, *level.order)
            )
        return self._kept[low]

    def row(self, line: bytes) -> tuple[tuple[object, ...], Fault | None]:
        """
        The cells of one line, and the first that is at fault.
        """
        query = self.level.query
        row: list[object] = []
        first = None
        for at, cell in enumerate(cells_of(line)):
            try:
                row.append(None if cell is None else self.own.cell(at, cell))
            except Misfit as misfit:
                name = f"{query.path}.{query.columns[at].column.name}"
                first = first or Fault(name, misfit.reason, misfit.detail)
                row.append(None)
        return tuple(row), first


def groups_of(chunk: Chunk, width: int) -> list[Groups]:
    """
    The same of rows that were read the plain way.

    Args:
        width: Columns of a row; behind them stand its collections.
    """
    found: list[Groups] = []
    for collection in list(zip(*chunk.rows, strict=True))[width:]:
        lists: Any = [rows or () for rows in collection]
        lines = iter(lines_of([row for rows in lists for row in rows]))
        found.append([list(islice(lines, len(rows))) for rows in lists])
    return found


def with_cells(
    lines: Sequence[bytes], cells: Sequence[Sequence[bytes]], *, versioned: bool
) -> list[bytes]:
    """
    Lines with one more cell of each collection, in front of the version.
    """
    cells = [_escaped(one) for one in cells]
    if not versioned:
        return list(map(TAB.join, zip(lines, *cells, strict=True)))
    parted = (line.rpartition(TAB) for line in lines)
    return [
        TAB.join((row, *more, version))
        for (row, _, version), *more in zip(parted, *cells, strict=True)
    ]


def _escaped(cells: Sequence[bytes]) -> Sequence[bytes]:
    """
    Looked at all at once, since few have anything to escape.
    """
    whole = b"".join(cells)
    return cells if escaped(whole) is whole else list(map(escaped, cells))


__all__ = ["ChildLines", "Gather", "Groups", "groups_of", "with_cells"]
