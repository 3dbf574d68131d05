"""
Reads the child rows of a page, in the snapshot of the page, and puts each with its parent.

One statement a collection: the server joins the page to its children by its own idea of equality,
and says with each child which root it belongs to. Memory is bounded; what is more is not read.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from migrate.model.ports import ChildQuery, Query
from migrate.model.values import Chunk, Column, ColumnRead, Fault, Key, Kind
from migrate.source.dialects.base import Decoded, Dialect, Keyed, Raw, Relation

CHILD_ROWS = 100_000
"""Child rows of one page at most, over all collections."""

CHILD_BYTES = 32 * 1024 * 1024
"""Bytes of their cells at most; a page with more is read in smaller ones."""


_UNSORTABLE = frozenset({Kind.JSON, Kind.LITERAL, Kind.UNSUPPORTED})
"""Kinds that may be of a type without an order: json, point, xml."""


_TIED = frozenset(
    {Kind.TEXT, Kind.DECIMAL, Kind.FLOAT, Kind.INTERVAL, Kind.ARRAY, Kind.JSON, Kind.LITERAL}
)
"""Kinds with values that some server's order holds for equal, and that are not alike."""


_ALIKE = frozenset({Kind.INTEGER})
"""Kinds that every server compares in one way, whatever the column."""

_YEAR = "year"
"""But for this type: MariaDB and MySQL compare a YEAR with 5 as with 2005, and not so in a join."""


class TooManyChildren(Exception):
    """
    The children of a page are more than memory may hold. Caught by the extractor.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


@dataclass(slots=True)
class Budget:
    """
    What may still be read for one page.
    """

    rows: int = CHILD_ROWS
    bytes: int = CHILD_BYTES

    def spend(self, path: str, raw: Sequence[Raw]) -> None:
        """
        Count rows that were read.

        Raises:
            TooManyChildren: They are more than was left.
        """
        self.rows -= len(raw)
        self.bytes -= sum(map(_size, zip(*raw, strict=True)))
        if self.rows < 0 or self.bytes < 0:
            raise TooManyChildren(path)


def _size(column: Sequence[Any]) -> int:
    """
    Bytes or characters of one column's cells; numbers have none.
    """
    if set(map(type, column)) <= _SIZED:
        return sum(map(len, filter(None, column)))
    return sum(len(cell) for cell in column if isinstance(cell, str | bytes))


_SIZED = frozenset({str, bytes, type(None)})

Parents = Mapping[Any, list[Any]]
"""The lists that children are put in, by the identity of their parent."""


@dataclass(frozen=True, slots=True)
class Level:
    """
    One collection against the live tables: what to select, and where it stands in a raw row.

    A raw row holds the child's own columns, the columns that name its parent, the root's key, and
    for each inner collection the columns that its rows name this one by.
    """

    query: ChildQuery
    relation: Relation
    table: sa.FromClause
    joins: tuple[tuple[sa.FromClause, sa.ColumnElement[bool]], ...]
    selected: tuple[sa.ColumnElement[Any], ...]
    order: tuple[sa.ColumnElement[Any], ...]
    above: slice
    root: slice
    own: tuple[slice, ...]
    decode: Callable[[Sequence[Raw]], Decoded]
    inner: tuple[Level, ...]

    def keyed(self, key: Sequence[Column]) -> tuple[sa.ColumnElement[Any], ...]:
        """
        Columns that equal the root's key, if all that is said of the one is true of the other.
        """
        above = {up.name: child for child, up in self.query.join}
        pairs = [(column, above.get(column.name)) for column in key]
        if len(self.joins) > 1:
            return ()
        return tuple(
            self.table.c[child.name]
            for column, child in pairs
            if child is not None
            and column.kind in _ALIKE
            and child.kind is column.kind
            and not child.type.startswith(_YEAR)
        )

    def statement(
        self, root: sa.TableClause, conditions: Sequence[sa.ColumnElement[bool]]
    ) -> sa.Select[Any]:
        """
        The children of the roots that meet the conditions, in the order of each parent's list.
        """
        source: sa.FromClause = root
        for table, condition in self.joins:
            source = source.join(table, condition)
        # One more than may be read says that there are more, also where a driver takes all at once.
        return (
            sa.select(*self.selected)
            .select_from(source)
            .where(*conditions)
            .order_by(*self.order)
            .limit(CHILD_ROWS + 1)
        )


@dataclass(slots=True)
class Children:
    """
    The collections of one query, ready to be read behind any page of it.

    Args:
        key: How the root's key is read, so that it is the same as in the chunk.
    """

    dialect: Dialect
    root: sa.TableClause
    levels: tuple[Level, ...]
    key: Callable[[Sequence[Raw]], Keyed]
    _kept: dict[tuple[str, object], sa.Select[Any]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        dialect: Dialect,
        query: Query,
        root: sa.TableClause,
        relation: Relation,
        relations: Mapping[str, Relation],
        key: Callable[[Sequence[Raw]], Keyed],
    ) -> Children:
        """
        Prepare the statements of every collection.
        """
        maker = _Maker(dialect, query, root, relation, relations)
        levels = maker.levels(query.children, root, relation, ())
        return cls(dialect, root, levels, key)

    def attach(
        self,
        connection: sa.Connection,
        chunk: Chunk,
        conditions: Sequence[sa.ColumnElement[bool]],
        parameters: Mapping[str, Any],
        *,
        shape: object = None,
    ) -> Chunk:
        """
        The chunk with its children behind the cells of each row.

        Args:
            conditions: Those that the rows of the chunk meet, and no other row of its table.

            shape: Equal where the conditions are; such statements are kept.

        Raises:
            TooManyChildren: They are more than a page may hold.
        """
        budget = Budget()
        faults: dict[int, Fault] = {}
        places = {key: at for at, key in enumerate(chunk.keys)}
        lists: list[list[list[Any]]] = []
        for level in self.levels:
            lists.append([[] for _ in chunk.keys])
            if chunk.keys:
                parents = dict(zip(chunk.keys, lists[-1], strict=True))
                page = _Page(connection, conditions, parameters, shape, places, budget, faults)
                self._read(level, page, parents, by_root=True)
        rows = [(*row, *found) for row, *found in zip(chunk.rows, *lists, strict=True)]
        return replace(chunk, rows=rows, faults=faults | dict(chunk.faults))

    def _read(self, level: Level, page: _Page, parents: Parents, *, by_root: bool) -> None:
        inner: list[dict[object, list[Any]]] = [{} for _ in level.inner]
        with closing(self._portions(level, page)) as portions:
            for raw in portions:
                page.budget.spend(level.query.path, raw)
                self._put(level, page, raw, parents, inner, by_root=by_root)
        for one, known in zip(level.inner, inner, strict=True):
            if known:
                self._read(one, page, known, by_root=False)

    def _put(
        self,
        level: Level,
        page: _Page,
        raw: Sequence[Raw],
        parents: Parents,
        inner: Sequence[dict[object, list[Any]]],
        *,
        by_root: bool,
    ) -> None:
        """
        Children to their parents, and an empty list of each inner collection to each child.
        """
        width = len(level.query.columns)
        roots = self.key([row[level.root] for row in raw])[0]
        rows, faults = level.decode([row[:width] for row in raw])
        for at, fault in sorted(faults.items()):
            column = f"{level.query.path}.{fault.column}"
            page.faults.setdefault(page.places[roots[at]], replace(fault, column=column))
        if by_root and not inner:
            for root, cells in zip(roots, rows, strict=True):
                parents[root].append(cells)
            return
        for given, root, cells in zip(raw, roots, rows, strict=True):
            below: list[list[Any]] = [[] for _ in inner]
            for known, own, children in zip(inner, level.own, below, strict=True):
                known[tuple(given[own])] = children
            parent = root if by_root else tuple(given[level.above])
            parents[parent].append((*cells, *below))

    def _portions(self, level: Level, page: _Page) -> Generator[Sequence[Raw], None, None]:
        name = (level.query.path, page.shape)
        statement = self._kept.get(name)
        if statement is None:
            statement = level.statement(self.root, page.conditions)
            if page.shape is not None:
                self._kept[name] = statement
        yield from self.dialect.portions(page.connection, statement, page.parameters)


@dataclass(frozen=True, slots=True)
class _Page:
    connection: sa.Connection
    conditions: Sequence[sa.ColumnElement[bool]]
    parameters: Mapping[str, Any]
    shape: object
    places: Mapping[Key, int]
    budget: Budget
    faults: dict[int, Fault]


@dataclass(slots=True)
class _Maker:
    """
    Numbers the aliases, so that a table may be its own child.
    """

    dialect: Dialect
    query: Query
    root: sa.TableClause
    relation: Relation
    relations: Mapping[str, Relation]
    count: int = 0

    def levels(
        self,
        queries: Sequence[ChildQuery],
        parent: sa.FromClause,
        relation: Relation,
        joins: tuple[tuple[sa.FromClause, sa.ColumnElement[bool]], ...],
    ) -> tuple[Level, ...]:
        return tuple(self._level(query, parent, relation, joins) for query in queries)

    def _level(
        self,
        query: ChildQuery,
        parent: sa.FromClause,
        above: Relation,
        joins: tuple[tuple[sa.FromClause, sa.ColumnElement[bool]], ...],
    ) -> Level:
        relation = self.relations[query.path]
        self.count += 1
        plain = sa.table(
            query.table.name,
            *(sa.column(column.name) for column in query.table.columns),
            schema=query.table.schema,
        )
        table: sa.FromClause = plain.alias(f"migrate_child_{self.count}")
        equal = sa.and_(*(table.c[child.name] == parent.c[up.name] for child, up in query.join))
        joins = (*joins, (table, equal))
        parts: list[list[tuple[Relation, ColumnRead, sa.FromClause]]] = [
            [(relation, read, table) for read in query.columns],
            [(above, ColumnRead(up), parent) for _, up in query.join],
            [(self.relation, replace(read, verbatim=False), self.root) for read in self.query.key],
            *(
                [(relation, ColumnRead(up), table) for _, up in inner.join]
                for inner in query.children
            ),
        ]
        slices, selected = self._select(parts)
        return Level(
            query=query,
            relation=relation,
            table=table,
            joins=joins,
            selected=selected,
            order=tuple(self._order(query, relation, table)),
            above=slices[1],
            root=slices[2],
            own=tuple(slices[3:]),
            decode=self.dialect.decoder(query.columns),
            inner=self.levels(query.children, table, relation, joins),
        )

    def _select(
        self, parts: Sequence[Sequence[tuple[Relation, ColumnRead, sa.FromClause]]]
    ) -> tuple[list[slice], tuple[sa.ColumnElement[Any], ...]]:
        slices: list[slice] = []
        found: list[sa.ColumnElement[Any]] = []
        for part in parts:
            slices.append(slice(len(found), len(found) + len(part)))
            for relation, read, table in part:
                cell = self.dialect.cell(relation, read, table.c[read.column.name])
                found.append(cell.label(f"c{len(found)}"))
        return slices, tuple(found)

    def _order(
        self, query: ChildQuery, relation: Relation, table: sa.FromClause
    ) -> Iterator[sa.ColumnElement[Any]]:
        for column in query.order:
            expression = table.c[column.name]
            if column.nullable:
                # Servers differ in where NULL stands.
                yield sa.case((expression.is_(None), 1), else_=0)
            yield self._sortable(relation, column, expression)
        if set(query.order) == set(query.table.columns):
            # No key breaks the ties, and rows that are equal to the server may differ to others.
            for column in query.order:
                if column.kind in _TIED:
                    yield self.dialect.told_apart(relation, column, table.c[column.name])

    def _sortable(
        self, relation: Relation, column: Column, expression: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[Any]:
        if column.kind not in _UNSORTABLE:
            return expression
        # A type without an order, such as json, is put in that of its text.
        return self.dialect.cell(relation, ColumnRead(column), expression)
