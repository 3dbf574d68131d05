"""
Pages of values read a second way, column by column, for a verification that compares whole columns.

The same rows as a page of `extract`, in one statement: key, version and values are of one moment.
Like `plain` it asks by other expressions than the backfill's, and spells what comes by rules of its
own. What has no simple spelling (infinity, the year 10000, a value of another storage than its
column's) is `ODD`: it equals nothing, so that such a row is left to the `PlainReader`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import sqlalchemy as sa

from migrate.errors import SourceLimit
from migrate.model.ports import Query
from migrate.model.values import ColumnRead, Key, KeyRange, first_version, generation_of
from migrate.source.dialects.base import Dialect, Raw, Relation
from migrate.source.dialects.mysql import CHARSET, EXACT_CHARSETS
from migrate.source.dialects.mysql_plain import MysqlColumns
from migrate.source.dialects.plain_columns import Columns, Values
from migrate.source.dialects.postgresql_plain import PostgresColumns
from migrate.source.dialects.sqlite_plain import SqliteColumns
from migrate.source.extract import KeysetExtractor, Statements
from migrate.source.plain import is_other, mysql_expression


class FieldPage(NamedTuple):
    """
    Rows read at once. Its repr shows no values.

    Args:
        columns: Of the query, in its order.

        keys: Of the rows, to continue after or to be fetched again.

        versions: One a row.

        generation: Of the capture at the time of the snapshot; 0 without capture.

        odd: Rows with a key that only the plain way can judge.
    """

    columns: Sequence[Values]
    keys: Sequence[Key]
    versions: Sequence[bytes]
    generation: int = 0
    odd: frozenset[int] = frozenset()

    def __repr__(self) -> str:
        return f"FieldPage({len(self.keys)} rows)"


_EMPTY = FieldPage((), (), ())


@dataclass(frozen=True, slots=True)
class _Plan:
    """
    What does not change from page to page as long as the statements are the same.
    """

    sql: Statements
    columns: Columns
    statements: dict[object, sa.Select[Any]] = field(default_factory=dict)

    def page(self, *, low: bool, high: bool) -> sa.Select[Any]:
        """
        The page of `Statements` with these columns.
        """
        if (low, high) not in self.statements:
            self.statements[low, high] = self._with_own(self.sql.page(low=low, high=high))
        return self.statements[low, high]

    def keyed(self, count: int) -> sa.Select[Any]:
        """
        The rows of so many keys.
        """
        if count not in self.statements:
            self.statements[count] = self._with_own(self.sql.with_keys(count))
        return self.statements[count]

    def _with_own(self, statement: sa.Select[Any]) -> sa.Select[Any]:
        rows = self.sql.table
        own = [
            self.sql.dialect.cell(self.sql.relation, ColumnRead(column), rows.c[column.name])
            for column in self.sql.keys
        ]
        if self.sql.relation.control:
            own.append(self.sql.version(rows))
        selected = [*own, *self.columns.select(rows)]
        return statement.with_only_columns(
            *(one.label(f"p{number}") for number, one in enumerate(selected))
        )

    def fetch(
        self, connection: sa.Connection, statement: sa.Select[Any], parameters: Mapping[str, Any]
    ) -> FieldPage:
        """
        What a statement of ours brings.
        """
        control, width = self.sql.relation.control, len(self.sql.keys)
        own, columns = self.columns.fetch(connection, statement, parameters, width + control)
        if not own:
            return _EMPTY
        keys, faults = self.sql.dialect.keyer(self.sql.keys)(
            [row[:width] for row in own] if control else own
        )
        generation, versions = self._versions(own, control=control)
        return FieldPage(columns, keys, versions, generation, frozenset(faults))

    def _versions(self, own: Sequence[Raw], *, control: bool) -> tuple[int, Sequence[bytes]]:
        """
        The generation, and the version of each row: without capture of this mapping its base.
        """
        if control and own[0][-1] is not None:
            versions = [row[-1] for row in own]
            texts = [one if isinstance(one, bytes) else str(one).encode() for one in versions]
            return generation_of(texts[0].decode()), tuple(texts)
        base = str(first_version(0, self.sql.query.revision)).encode()
        return 0, (base,) * len(own)


class FieldPages:
    """
    Reads pages for one query, over the extractor that checks that the table is still the same.
    """

    def __init__(self, extractor: KeysetExtractor, query: Query) -> None:
        self._extractor = extractor
        self._query = query
        self._plan = self._made(extractor.statements)

    def read(self, within: KeyRange, after: Key | None, limit: int) -> FieldPage | None:
        """
        The rows that the extractor would read; None where this way cannot read them.
        """
        low = within.low if after is None else after

        def work(connection: sa.Connection, sql: Statements) -> FieldPage | None:
            plan = self._of(sql)
            if plan is None:
                return None
            values = {**sql.values("low", low), **sql.values("high", within.high), "n": limit}
            statement = plan.page(low=low is not None, high=within.high is not None)
            return plan.fetch(connection, statement, values)

        return self._run(work)

    def fetch(self, keys: Sequence[Key]) -> FieldPage | None:
        """
        The rows with these keys that the extractor would fetch, in any order.

        Args:
            keys: Of one statement: `extract.FETCH_AT_ONCE` at most.
        """

        def work(connection: sa.Connection, sql: Statements) -> FieldPage | None:
            plan = self._of(sql)
            if plan is None:
                return None
            values: dict[str, object] = {}
            for place, key in enumerate(keys):
                values.update(sql.values(f"k{place}", key))
            return plan.fetch(connection, plan.keyed(len(keys)), values)

        return self._run(work)

    def _run(
        self, work: Callable[[sa.Connection, Statements], FieldPage | None]
    ) -> FieldPage | None:
        if self._plan is not None:
            # A value that this way cannot read, or not at once: of this way alone.
            with suppress(SourceLimit):
                return self._extractor.run(work)
        return None

    def _of(self, sql: Statements) -> _Plan | None:
        if self._plan is None or self._plan.sql is not sql:
            # Capture came or went.
            self._plan = self._made(sql)
        return self._plan

    def _made(self, sql: Statements) -> _Plan | None:
        columns = _columns(sql.dialect, sql.relation, self._query)
        return None if columns is None else _Plan(sql, columns)


def _columns(dialect: Dialect, relation: Relation, query: Query) -> Columns | None:
    """
    The way of a dialect; None where a column has none.
    """
    others = [is_other(read) for read in query.columns]
    match dialect.name:
        case "postgresql":
            return PostgresColumns.of(dialect, relation, query.columns, others)
        case "sqlite":
            return SqliteColumns.of(query.columns, others, dialect.fetch)
    charsets = {relation.charsets.get(read.column.name, (CHARSET, ""))[0] for read in query.columns}
    if not charsets <= EXACT_CHARSETS:
        # A text may have no form in UTF-8, which the plain way looks at.
        return None
    return MysqlColumns.of(dialect, relation, query.columns, others, mysql_expression)


__all__ = ["FieldPage", "FieldPages"]
