"""
Reads rows in pages by key: each page is one snapshot and one short transaction.

One statement where there are no children, and one more for each collection of them (`children`).
Streams nothing and holds nothing open between pages; memory is one page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import itemgetter
from typing import Any, TypeVar

import sqlalchemy as sa

from migrate.errors import SchemaDrift
from migrate.model.ports import ChildQuery, Query
from migrate.model.values import (
    GENERATION_DIGITS,
    Chunk,
    Column,
    ColumnRead,
    Fault,
    Key,
    KeyRange,
    Row,
    Table,
)
from migrate.source.children import CHILD_BYTES, CHILD_ROWS, Children, TooManyChildren
from migrate.source.connect import Connections
from migrate.source.control import CTL, MARK, VER, pk_text
from migrate.source.dialects.base import Decoded, Dialect, Keyed, Raw, Relation
from migrate.source.retry import UnreadableValue
from migrate.source.where import WhereCompiler

FETCH_AT_ONCE = 500
"""Keys in one statement of `fetch`; SQLite takes 32,766 parameters, a plan should stay small."""

KEYS_ALIKE = 100
"""Statements for a multiple of so many keys are kept: making one costs more than running it."""

SAMPLES_A_PART = 200
"""Sampled pages of the table behind each boundary of `split`."""

SHUFFLED = 1_000
"""Rows up to which a sample is drawn from some more, of which a sort at random leaves that many."""

T = TypeVar("T")

_BLOCK = 10**GENERATION_DIGITS


class _Moved(Exception):
    """
    Capture came or went while a page was read: read it again with the other statement.
    """


@dataclass(frozen=True, slots=True)
class Statements:
    """
    The SQL of one query against one relation, as SQLAlchemy expressions.

    Args:
        width: Columns of the query; what a statement selects behind them is ours.

        key_at: Where each key column is among the selected ones.
    """

    dialect: Dialect
    relation: Relation
    query: Query
    table: sa.TableClause
    width: int
    key_at: tuple[int, ...]
    reads: tuple[ColumnRead, ...]
    _pages: dict[tuple[bool, bool], sa.Select[Any]] = field(default_factory=dict)
    _keyed: dict[int, sa.Select[Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, dialect: Dialect, relation: Relation, query: Query) -> Statements:
        """
        Prepare the select list: the query's columns, key columns that are not among them as keys.
        """
        names = [column.name for column in relation.table.columns]
        table = sa.table(query.table, *(sa.column(name) for name in names), schema=query.schema)
        reads = [*query.columns]
        positions = []
        for key in query.key:
            plain = replace(key, verbatim=False)
            if plain not in reads:
                reads.append(plain)
            positions.append(reads.index(plain))
        return cls(
            dialect,
            relation,
            query,
            table,
            len(query.columns),
            tuple(positions),
            tuple(reads),
        )

    @property
    def keys(self) -> list[Column]:
        """
        The key's columns.
        """
        return [read.column for read in self.query.key]

    def key_of(self, source: sa.FromClause) -> list[sa.ColumnElement[Any]]:
        """
        The key's columns in this table or sample of it.
        """
        return [source.c[column.name] for column in self.keys]

    def rows(self, source: sa.FromClause) -> list[sa.ColumnElement[bool]]:
        """
        Which rows the query means: the filter, and keys that pages can stand on.
        """
        return [*self.filtered(source), *self.usable(source)]

    def usable(self, source: sa.FromClause) -> list[sa.ColumnElement[bool]]:
        """
        Conditions under which a page can stand on a row's key.
        """
        pairs = zip(self.keys, self.key_of(source), strict=True)
        found = (self.dialect.usable(column, expression) for column, expression in pairs)
        return [condition for condition in found if condition is not None]

    def filtered(self, source: sa.FromClause) -> list[sa.ColumnElement[bool]]:
        """
        The query's filter alone.
        """
        if self.query.where is None:
            return []
        named = dict(source.c.items())
        return [WhereCompiler(self.dialect, self.relation, named).compile(self.query.where)]

    def select(self, source: sa.FromClause | None = None) -> sa.Select[Any]:
        """
        The query's columns, the key's, and with capture each row's version and the generation.
        """
        rows = self.table if source is None else source
        columns: list[sa.ColumnElement[Any]] = [
            self.dialect.cell(self.relation, read, rows.c[read.column.name]).label(f"c{number}")
            for number, read in enumerate(self.reads)
        ]
        if self.relation.control:
            columns += [
                self.generation().label("generation"),
                self.version(rows).label("version"),
            ]
        return sa.select(*columns).select_from(rows).where(*self.rows(rows))

    def generation(self) -> sa.ScalarSelect[Any]:
        """
        The generation of this mapping's capture, NULL where it has none.
        """
        return (
            sa.select(CTL.c.generation).where(CTL.c.mapping == self.query.mapping).scalar_subquery()
        )

    def version(self, source: sa.FromClause) -> sa.ColumnElement[str]:
        """
        The version of each row, NULL where this mapping has no capture.
        """
        pk = pk_text(
            [
                self.dialect.key_text(self.relation, column, expression)
                for column, expression in zip(self.keys, self.key_of(source), strict=True)
            ]
        )
        folded = (
            sa.select(VER.c.n)
            .where(VER.c.mapping == self.query.mapping, VER.c.pk == pk)
            .correlate(source)
            .scalar_subquery()
        )
        marks = (
            sa.select(sa.func.count())
            .select_from(MARK)
            .where(MARK.c.mapping == self.query.mapping, MARK.c.pk == pk)
            .correlate(source)
            .scalar_subquery()
        )
        block = sa.literal_column(str(_BLOCK), sa.BigInteger())
        return sa.cast(self.generation() * block + sa.func.coalesce(folded, 0) + marks, sa.Text())

    def page(self, *, low: bool, high: bool) -> sa.Select[Any]:
        """
        The next rows in key order behind `low_*`, up to `high_*`, at most `n`.

        Kept: SQLAlchemy takes half a millisecond to see that a new object says the same.
        """
        if (low, high) not in self._pages:
            self._pages[low, high] = self._page(low=low, high=high)
        return self._pages[low, high]

    def _page(self, *, low: bool, high: bool) -> sa.Select[Any]:
        return (
            self.select()
            .where(*self.bounds(self.table, low=low, high=high))
            .order_by(*self.key_of(self.table))
            .limit(sa.bindparam("n", type_=sa.Integer()))
        )

    def bounds(
        self, source: sa.FromClause, *, low: bool, high: bool
    ) -> list[sa.ColumnElement[bool]]:
        """
        Conditions on the key as a whole, in the server's own order.
        """
        return self.between(self.key_of(source), low=low, high=high)

    def between(
        self, key: Sequence[sa.ColumnElement[Any]], *, low: bool, high: bool
    ) -> list[sa.ColumnElement[bool]]:
        """
        The same on other columns that hold keys.
        """
        found: list[sa.ColumnElement[bool]] = []
        if low:
            found.append(self._beyond(key, self._bound("low"), included=False))
        if high:
            found.append(self._beyond(key, self._bound("high"), included=True))
        return found

    def _beyond(
        self,
        key: Sequence[sa.ColumnElement[Any]],
        bound: Sequence[sa.ColumnElement[Any]],
        *,
        included: bool,
    ) -> sa.ColumnElement[bool]:
        """
        The key is above the bound, or with `included` not above it.
        """
        if self.dialect.compares_rows or len(key) == 1:
            return _row(key) <= _row(bound) if included else _row(key) > _row(bound)
        return _by_columns(key, bound, included=included)

    def _bound(self, name: str) -> list[sa.ColumnElement[Any]]:
        return [
            self.dialect.key_bind(self.relation, column, f"{name}_{number}")
            for number, column in enumerate(self.keys)
        ]

    def values(self, name: str, key: Key | None) -> dict[str, object]:
        """
        The parameters for one key.
        """
        if key is None:
            return {}
        return {
            f"{name}_{number}": self.dialect.key_value(column, part)
            for number, (column, part) in enumerate(zip(self.keys, key, strict=True))
        }

    def with_keys(self, count: int) -> sa.Select[Any]:
        """
        The rows with any of `count` keys `k0_*`, `k1_*`, ...
        """
        if count % KEYS_ALIKE:
            return self.select().where(self.matches(count))
        if count not in self._keyed:
            self._keyed[count] = self.select().where(self.matches(count))
        return self._keyed[count]

    def matches(self, count: int) -> sa.ColumnElement[bool]:
        """
        The condition of `with_keys`.
        """
        columns = self.key_of(self.table)
        binds = [
            [
                self.dialect.key_bind(self.relation, column, f"k{place}_{number}")
                for number, column in enumerate(self.keys)
            ]
            for place in range(count)
        ]
        if len(columns) == 1:
            return columns[0].in_([only for (only,) in binds])
        matches = (
            sa.and_(*(column == bind for column, bind in zip(columns, key, strict=True)))
            for key in binds
        )
        return sa.or_(*matches)


class KeysetExtractor:
    """
    An `Extractor` by keyset pages: any unique key, any order, no OFFSET and no open cursor.

    Every read checks, in its own transaction and behind the page, that the table is still the one
    that this extractor was made for.
    """

    def __init__(self, connections: Connections, query: Query, table: Table) -> None:
        self._connections = connections
        self._dialect = connections.dialect
        self._query = query
        self._where = {"table": f"{query.schema}.{query.table}" if query.schema else query.table}
        relation = connections.run(self._look, self._where)
        _require_same(table, relation.table, self._where)
        self._most = CHILD_ROWS
        self._adopt(relation, self._look_at_children())

    def _look(self, connection: sa.Connection) -> Relation:
        relation = self._dialect.relation(connection, self._query.schema, self._query.table)
        if relation is None:
            raise SchemaDrift(
                "The table is not there any more.",
                where=self._where,
                next_step="Compare the mapping with the source: profile-migrate doctor",
            )
        return relation

    def _look_at_children(self) -> dict[str, Relation]:
        def look(connection: sa.Connection) -> dict[str, Relation]:
            return {child.path: self._look_at(connection, child) for child in collections}

        collections = list(self._query.collections())
        return self._connections.run(look, self._where) if collections else {}

    def _look_at(self, connection: sa.Connection, child: ChildQuery) -> Relation:
        table = child.table
        relation = self._dialect.relation(connection, table.schema, table.name)
        where = {**self._where, "child": table.name}
        if relation is None:
            raise SchemaDrift(
                "The table of a child collection is not there any more.",
                where=where,
                next_step="Compare the mapping with the source: profile-migrate doctor",
            )
        _require_same(table, relation.table, where)
        return relation

    def _adopt(self, relation: Relation, children: dict[str, Relation]) -> None:
        self._relation = relation
        self._below = children
        self._sql = Statements.of(self._dialect, relation, self._query)
        self._reader = Reader.of(self._dialect, self._sql)
        self._children = self._children_of(self._query) if children else None
        # Every table of the snapshot, so that nobody changes one while it is read.
        self._steady = [relation, *children.values()] if children else ()

    def _children_of(self, query: Query) -> Children:
        return Children.of(
            self._dialect, query, self._sql.table, self._relation, self._below, self._reader.key
        )

    def read(self, within: KeyRange, after: Key | None, limit: int) -> Chunk:
        """
        The next rows of a range in the source's key order, with versions, from one snapshot.

        A page with a value that the driver cannot decode is read in halves, down to the row at
        fault; such a page may be shorter than what was asked for.
        """
        low = within.low if after is None else after
        limit = min(limit, self._most)
        pick = _Pick(low, within.high, limit)
        try:
            chunk = self._bounded(pick)
        except UnreadableValue:
            if limit == 1:
                return self._blank(pick)
        else:
            if chunk is not None:
                self._most = min(CHILD_ROWS, self._most * 2)
                return chunk
            # More children than memory may hold: a shorter page, and the next ones begin so.
            self._most = max(1, limit // 2)
            return self.read(within, after, self._most)
        first = self.read(within, after, limit // 2)
        if not first.keys:
            return first
        rest = self.read(within, first.keys[-1], limit - limit // 2)
        return _joined([first, rest]) if first.generation == rest.generation else first

    def fetch(self, keys: Sequence[Key]) -> Chunk:
        """
        The rows with these keys that exist and pass the filter.
        """
        starts = range(0, len(keys), FETCH_AT_ONCE)
        chunks = [self._fetched(keys[start : start + FETCH_AT_ONCE]) for start in starts]
        return _joined(chunks) if chunks else Chunk((), ())

    def _fetched(self, keys: Sequence[Key]) -> Chunk:
        pick = _Pick(keys=tuple(keys))
        try:
            chunk = self._bounded(pick)
            if chunk is not None:
                return chunk
        except UnreadableValue:
            if len(keys) == 1:
                return self._blank(pick)
        half = len(keys) // 2
        return _joined([self._fetched(keys[:half]), self._fetched(keys[half:])])

    def _bounded(self, pick: _Pick) -> Chunk | None:
        """
        A page with its children; None where they are too many and the page can be smaller.
        """

        def work(connection: sa.Connection) -> Chunk | str:
            try:
                return self._page(connection, pick)
            except TooManyChildren as many:
                # Caught here, because an exception would cost the connection.
                return many.path

        found = self._run(work)
        if isinstance(found, Chunk):
            return found
        return None if pick.rows > 1 else self._overfull(pick, found)

    def _overfull(self, pick: _Pick, path: str) -> Chunk:
        """
        The one row whose children alone are too many: its key and version, and the collection.
        """
        bare = self._run(partial(self._narrow, pick=pick, columns=self._query.key))
        detail = f"has more than {CHILD_ROWS:,} rows or {CHILD_BYTES:,} bytes for one record"
        return self._at_fault(bare, Fault(path, "too-many-children", detail))

    def _at_fault(self, bare: Chunk, fault: Fault) -> Chunk:
        if not bare.keys:
            return replace(bare, rows=())
        width = len(self._query.columns) + len(self._query.children)
        return replace(bare, rows=[(None,) * width], faults={0: fault})

    def _blank(self, pick: _Pick) -> Chunk:
        """
        The one row that cannot be read: its key and version, no cells, and the column at fault.
        """
        bare = self._run(partial(self._narrow, pick=pick, columns=self._query.key))
        looks: list[tuple[str, Callable[[sa.Connection], Chunk]]] = [
            (read.column.name, partial(self._narrow, pick=pick, columns=(read,)))
            for read in (self._query.columns if bare.keys else ())
        ]
        looks += [
            (child.path, partial(self._page, pick=pick, children=self._children_of(query)))
            for child in (self._query.children if bare.keys else ())
            for query in (replace(self._query, children=(child,)),)
        ]
        for name, look in looks:
            try:
                self._run(look)
            except UnreadableValue:
                fault = Fault(name, "unreadable", "the driver cannot decode the value")
                return self._at_fault(bare, fault)
        if not bare.keys:
            return replace(bare, rows=())
        # The row was corrected in between.
        return self._run(lambda connection: self._page(connection, pick))

    def _narrow(
        self, connection: sa.Connection, pick: _Pick, columns: tuple[ColumnRead, ...]
    ) -> Chunk:
        query = replace(self._query, columns=columns, children=())
        sql = Statements.of(self._dialect, self._relation, query)
        return Reader.of(self._dialect, sql).chunk(connection, *pick.of(sql))

    def split(self, parts: int) -> list[KeyRange]:
        """
        Divide the rows that exist now into at most `parts` ranges of about the same size.

        Boundaries are quantiles of the keys, or of a sample where the table is large.
        """
        return self._run(lambda connection: self._split(connection, max(1, parts)))

    def sample(self, count: int) -> Chunk:
        """
        About `count` rows from all over the table, in any order.
        """
        chunk = self._run(lambda connection: self._sample(connection, count))
        # With children the same rows are read again by their keys: a sample has no other name.
        return self.fetch(chunk.keys) if self._children else chunk

    def size(self) -> int:
        """
        How many rows pass the filter, those with unusable keys included.
        """
        return self._run(lambda connection: self._count(connection, usable=False))

    def unusable(self) -> int:
        """
        How many rows pass the filter but have a key that no page can stand on, as NULL.
        """

        def work(connection: sa.Connection) -> int:
            table = self._sql.table
            usable = self._sql.usable(table)
            if not usable:
                return 0
            statement = (
                sa.select(sa.func.count())
                .select_from(table)
                .where(*self._sql.filtered(table), sa.not_(sa.and_(*usable)))
            )
            return int(connection.execute(statement).scalar_one())

        return self._run(work)

    @property
    def collections(self) -> Children | None:
        """
        Those of the query, bound to the same tables as `statements`.
        """
        return self._children

    @property
    def statements(self) -> Statements:
        """
        The statements as the tables of capture are now; others when those come or go.
        """
        return self._sql

    def run(self, work: Callable[[sa.Connection, Statements], T]) -> T:
        """
        The result of `work` with the statements of now, if the table was unchanged until its end.
        """
        return self._run(lambda connection: work(connection, self._sql))

    def problems(self) -> list[str]:
        """
        Why pages would be slow; empty where an index serves them.
        """

        def work(connection: sa.Connection) -> list[str]:
            key = self._edge(connection)
            if key is None:
                return []
            statement, parameters = _Pick(low=key, limit=1000).of(self._sql)
            names = [column.name for column in self._sql.keys]
            return self._dialect.page_problems(
                connection, self._relation, names, statement, parameters
            )

        return self._connections.run(work, self._where)

    def close(self) -> None:
        """
        Give the connections back.
        """
        self._connections.close()

    def _run(self, work: Callable[[sa.Connection], T]) -> T:
        """
        The result of `work`, if the table was unchanged until its end.
        """

        def checked(connection: sa.Connection) -> T:
            result = work(connection)
            self._require_unchanged(connection)
            return result

        while True:
            try:
                return self._connections.run(checked, self._where, steady=self._steady)
            except _Moved:
                continue

    def _require_unchanged(self, connection: sa.Connection) -> None:
        known = (self._relation, *self._below.values())
        if all(self._dialect.stamp(connection, one) == one.stamp for one in known):
            return
        now = self._look(connection)
        _require_unmoved(self._relation, now, self._where)
        children = {}
        for child in self._query.collections():
            children[child.path] = self._look_at(connection, child)
            where = {**self._where, "child": child.table.name}
            _require_unmoved(self._below[child.path], children[child.path], where)
        moved = now.control != self._relation.control
        self._adopt(now, children)
        if moved:
            raise _Moved

    def _page(
        self, connection: sa.Connection, pick: _Pick, children: Children | None = None
    ) -> Chunk:
        chunk = self._reader.chunk(connection, *pick.of(self._sql))
        reader = children or self._children
        if reader is None:
            return chunk
        if pick.keys is None and chunk.keys:
            # Up to the last key that was read, which is the same rows without their number.
            pick = replace(pick, high=chunk.keys[-1])
        conditions, parameters = pick.conditions(self._sql)
        conditions += self._sql.rows(self._sql.table)
        shape = None if pick.keys is not None else pick.low is not None
        return reader.attach(connection, chunk, conditions, parameters, shape=shape)

    def _split(self, connection: sa.Connection, parts: int) -> list[KeyRange]:
        last = self._edge(connection)
        if last is None:
            return []
        table = self._sql.table
        wanted = parts * SAMPLES_A_PART
        sample = (
            self._dialect.part(connection, self._relation, table, wanted) if parts > 1 else table
        )
        total = None
        if sample is None:
            sample, total = table, self._count(connection, usable=True)
        inner = self._quantiles(connection, sample, parts, total) if parts > 1 else []
        ends = [key for key in inner if key != last]
        lows: list[Key | None] = [None, *ends]
        highs = [*ends, last]
        return [KeyRange(low, high) for low, high in zip(lows, highs, strict=True)]

    def _quantiles(
        self, connection: sa.Connection, sample: sa.FromClause, parts: int, total: int | None
    ) -> list[Key]:
        """
        The keys at the ends of all parts but the last.
        """
        order = self._sql.key_of(sample)
        # Of a sample the size is known only to the statement that draws it.
        size: sa.ColumnElement[int] = (
            sa.func.count().over()
            if total is None
            else sa.literal_column(str(max(1, total)), sa.BigInteger())
        )
        numbered = (
            sa.select(
                *(self._spelled(column, sample) for column in self._sql.keys),
                sa.func.row_number(type_=sa.BigInteger()).over(order_by=order).label("place"),
                size.label("size"),
            )
            .where(*self._sql.rows(sample))
            .subquery()
        )
        place, whole = numbered.c.place, numbered.c.size
        count = sa.literal_column(str(parts), sa.BigInteger())
        ends = (place * count) // whole > ((place - 1) * count) // whole
        names = [f"k{number}" for number in range(len(order))]
        statement = (
            sa.select(*(numbered.c[name] for name in names))
            .where(ends, place < whole)
            .order_by(place)
        )
        raw = self._dialect.fetch(connection, statement, {})
        return list(self._reader.key(raw)[0])

    def _spelled(self, column: Column, source: sa.FromClause) -> sa.ColumnElement[Any]:
        number = self._sql.keys.index(column)
        cell = self._dialect.cell(self._relation, ColumnRead(column), source.c[column.name])
        return cell.label(f"k{number}")

    def _edge(self, connection: sa.Connection) -> Key | None:
        """
        Today's highest key under the filter.
        """
        table = self._sql.table
        statement = (
            sa.select(*(self._spelled(column, table) for column in self._sql.keys))
            .where(*self._sql.rows(table))
            .order_by(*(column.desc() for column in self._sql.key_of(table)))
            .limit(1)
        )
        raw = self._dialect.fetch(connection, statement, {})
        keys = self._reader.key(raw)[0]
        return keys[0] if keys else None

    def _sample(self, connection: sa.Connection, count: int) -> Chunk:
        table = self._sql.table
        # More than asked for, because the filter may leave some out.
        source = self._dialect.part(connection, self._relation, table, count * 4)
        if source is not None:
            chunk = self._reader.chunk(
                connection, self._sql.select(source).order_by(sa.func.random()).limit(count), {}
            )
            if chunk.keys:
                return chunk
        total = self._count(connection, usable=True)
        statement = self._sql.select()
        # By chance alone few rows would now and then be none: ten deviations more are drawn.
        drawn = count + 10 * math.isqrt(count) + 50 if count <= SHUFFLED else count
        if total > drawn:
            statement = statement.where(self._dialect.chance(drawn / total))
        if drawn > count < total:
            statement = statement.order_by(sa.func.random())
        return self._reader.chunk(connection, statement.limit(count), {})

    def _count(self, connection: sa.Connection, *, usable: bool) -> int:
        table = self._sql.table
        rows = self._sql.rows(table) if usable else self._sql.filtered(table)
        statement = sa.select(sa.func.count()).select_from(table).where(*rows)
        return int(connection.execute(statement).scalar_one())


@dataclass(frozen=True, slots=True)
class _Pick:
    """
    Which rows to read: the next `limit` behind `low` up to `high`, or those with `keys`.
    """

    low: Key | None = None
    high: Key | None = None
    limit: int = 1
    keys: tuple[Key, ...] | None = None

    @property
    def rows(self) -> int:
        """
        How many rows it is at most.
        """
        return self.limit if self.keys is None else len(self.keys)

    def conditions(self, sql: Statements) -> tuple[list[sa.ColumnElement[bool]], dict[str, object]]:
        """
        What the rows up to `high` meet, without a limit, and the parameters of that.
        """
        if self.keys is not None:
            return [sql.matches(len(self.keys))], self.of(sql)[1]
        bounds = sql.bounds(sql.table, low=self.low is not None, high=self.high is not None)
        return bounds, {**sql.values("low", self.low), **sql.values("high", self.high)}

    def of(self, sql: Statements) -> tuple[sa.Select[Any], dict[str, object]]:
        """
        The statement and its parameters.
        """
        if self.keys is not None:
            parameters: dict[str, object] = {}
            for place, key in enumerate(self.keys):
                parameters.update(sql.values(f"k{place}", key))
            return sql.with_keys(len(self.keys)), parameters
        statement = sql.page(low=self.low is not None, high=self.high is not None)
        return statement, {
            **sql.values("low", self.low),
            **sql.values("high", self.high),
            "n": self.limit,
        }


@dataclass(frozen=True, slots=True)
class Reader:
    """
    Turns what a statement of `Statements` gives into a chunk.
    """

    dialect: Dialect
    sql: Statements
    decode: Callable[[Sequence[Raw]], Decoded]
    key: Callable[[Sequence[Raw]], Keyed]
    key_columns: Callable[[Sequence[Raw]], Sequence[Raw]]

    @classmethod
    def of(cls, dialect: Dialect, sql: Statements) -> Reader:
        """
        Prepare everything that does not change from page to page.
        """
        return cls(
            dialect,
            sql,
            dialect.decoder(sql.query.columns),
            dialect.keyer(sql.keys),
            _columns_at(sql.key_at),
        )

    def chunk(
        self, connection: sa.Connection, statement: sa.Select[Any], parameters: Mapping[str, Any]
    ) -> Chunk:
        """
        All rows of a statement.
        """
        raw = self.dialect.fetch(connection, statement, parameters)
        keys, key_faults = self.key(self.key_columns(raw))
        generation, versions = self._versions(connection, raw)
        width = self.sql.width
        exact = not raw or len(raw[0]) == width
        rows, faults = self.decode(raw if exact else [row[:width] for row in raw])
        return Chunk(keys, rows, versions, generation, key_faults | faults)

    def _versions(self, connection: sa.Connection, raw: Sequence[Raw]) -> tuple[int, Sequence[str]]:
        if not self.sql.relation.control:
            return 0, ()
        if not raw:
            return connection.execute(sa.select(self.sql.generation())).scalar() or 0, ()
        generation = int(raw[0][-2] or 0)
        return generation, [_digits(row[-1]) for row in raw] if generation else ()


def _digits(version: str | bytes) -> str:
    return version if isinstance(version, str) else version.decode()


def _columns_at(places: tuple[int, ...]) -> Callable[[Sequence[Raw]], Sequence[Raw]]:
    if len(places) == 1:
        only = itemgetter(places[0])
        return lambda rows: [(only(row),) for row in rows]
    several = itemgetter(*places)
    return lambda rows: list(map(several, rows))


def _row(columns: Sequence[sa.ColumnElement[Any]]) -> sa.ColumnElement[Any]:
    # A row of one is spelled without ROW() or parentheses: not every server takes those.
    return columns[0] if len(columns) == 1 else sa.tuple_(*columns)


def _by_columns(
    key: Sequence[sa.ColumnElement[Any]],
    bound: Sequence[sa.ColumnElement[Any]],
    *,
    included: bool,
) -> sa.ColumnElement[bool]:
    """
    A comparison of rows as `a >= x AND (a > x OR a = x AND ...)`, or with `included` its opposite.
    """
    first, limit = key[0], bound[0]
    beyond = first < limit if included else first > limit
    if len(key) == 1:
        return first <= limit if included else beyond
    rest = _by_columns(key[1:], bound[1:], included=included)
    edge = first <= limit if included else first >= limit
    return sa.and_(edge, sa.or_(beyond, sa.and_(first == limit, rest)))


def _joined(chunks: Sequence[Chunk]) -> Chunk:
    if len(chunks) == 1:
        return chunks[0]
    faults: dict[int, Fault] = {}
    keys: list[Key] = []
    rows: list[Row] = []
    versions: list[str] = []
    for chunk in chunks:
        faults.update({len(keys) + at: fault for at, fault in chunk.faults.items()})
        keys.extend(chunk.keys)
        rows.extend(chunk.rows)
        versions.extend(chunk.versions)
    # A generation that changed in between shows as the one that no run began with.
    generation = max(chunk.generation for chunk in chunks)
    return Chunk(keys, rows, versions, generation, faults)


def _require_same(expected: Table, now: Table, where: Mapping[str, object]) -> None:
    changes = _differences(expected, now)
    if changes:
        raise _drift(changes, where)


def _require_unmoved(before: Relation, now: Relation, where: Mapping[str, object]) -> None:
    changes = _differences(before.table, now.table)
    if not changes and before.identity != now.identity:
        changes = ["another table of the same name took its place"]
    if not changes:
        changes = [
            f"column '{name}' is another one than before"
            for name, place in now.places.items()
            if before.places.get(name) != place
        ]
    if changes:
        raise _drift(changes, where)


def _differences(before: Table, now: Table) -> list[str]:
    old = {column.name: column for column in before.columns}
    new = {column.name: column for column in now.columns}
    found = [f"column '{name}' is gone" for name in old if name not in new]
    found += [f"column '{name}' is new" for name in new if name not in old]
    for name in old.keys() & new.keys():
        if old[name].type != new[name].type:
            found.append(f"column '{name}' was {old[name].type} and is {new[name].type}")
        if old[name].nullable != new[name].nullable:
            found.append(f"column '{name}' became {'' if new[name].nullable else 'NOT '}NULL")
    return sorted(found)


def _drift(changes: Sequence[str], where: Mapping[str, object]) -> SchemaDrift:
    return SchemaDrift(
        "The table changed while it was being read; nothing of the last page was used.",
        where={**where, "changes": "; ".join(changes)},
        next_step="Compare the mapping with the table (profile-migrate doctor), then run the same "
        "command.",
    )
