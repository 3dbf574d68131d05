"""
The source as the rest of the program sees it: reflect, count, sample, read; never write.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from migrate.errors import SchemaDrift
from migrate.model.events import Notify, silent
from migrate.model.ports import Query
from migrate.model.settings import SourceConfig
from migrate.model.values import Chunk, Table
from migrate.source.bulk import LineExtractor
from migrate.source.child_lines import Gather
from migrate.source.connect import Connections
from migrate.source.dialects.base import Relation, SourceFacts
from migrate.source.extract import KeysetExtractor
from migrate.source.plain import PlainReader
from migrate.source.plain_pages import FieldPages


@dataclass(frozen=True, slots=True)
class SqlSource:
    """
    One SQL store, opened for reading. Not to be shared between processes.
    """

    connections: Connections

    @classmethod
    def open(
        cls,
        config: SourceConfig,
        notify: Notify = silent,
        sleep: Callable[[float], None] = time.sleep,
    ) -> SqlSource:
        """
        Connect, so that what is wrong with the address or the login shows at once.

        Args:
            notify: Told before each wait for a source that is away.

            sleep: How to wait.

        Raises:
            InvalidInput: The dialect is not supported, or the SQLite file is not there.
            SourceAccessDenied: Login, certificate or permission.
            SourceUnavailable: The source did not answer for `retry_for`.
        """
        return cls(Connections.open(config, notify, sleep))

    def facts(self) -> SourceFacts:
        """
        Version, clock and role of the server.
        """
        return self.connections.run(self.connections.dialect.facts)

    def tables(self, schema: str | None = None) -> list[str]:
        """
        Names of the tables and views of a schema, or of those found without naming one.
        """
        dialect = self.connections.dialect
        return self.connections.run(lambda connection: dialect.tables(connection, schema))

    def reflect(self, schema: str | None, table: str) -> Table | None:
        """
        The table or view as the catalogue describes it, or None where there is none.
        """
        relation = self._relation(schema, table)
        return relation.table if relation else None

    def extractor(self, query: Query, table: Table) -> KeysetExtractor:
        """
        A reader of one query.

        Raises:
            SchemaDrift: The table is not what it was when `table` was reflected.
        """
        return KeysetExtractor(self.connections, query, table)

    def bulk(
        self, query: Query, table: Table, gathers: Sequence[Gather] = ()
    ) -> LineExtractor | None:
        """
        A reader of the same rows as lines; None for some queries with children (see `no_bulk`).

        Args:
            gathers: What makes a cell of the rows of each of the query's children.

        Raises:
            SchemaDrift: The table is not what it was when `table` was reflected.
        """
        if self.no_bulk(query) or len(gathers) < len(query.children):
            return None
        return LineExtractor(self.extractor(query, table), query, gathers)

    def no_bulk(self, query: Query) -> str:
        """
        Why rows of this query do not come as lines, in words; empty where they do.
        """
        nested = any(child.children for child in query.children)
        return "a record has rows of children of child tables" if nested else ""

    def plain(self, query: Query) -> PlainReader:
        """
        A reader of the same rows by other expressions, for a verification.
        """
        return PlainReader(self.connections, query)

    def fields(self, query: Query, extractor: KeysetExtractor) -> FieldPages:
        """
        A reader of whole pages by those other expressions, over the extractor of the same query.
        """
        return FieldPages(extractor, query)

    def count(self, query: Query, *, estimate: bool = False) -> int:
        """
        How many rows pass the filter.

        Args:
            estimate: Take the server's own guess where it has one and there is no filter.
        """
        if estimate and query.where is None:
            guess = self._estimate(query)
            if guess is not None:
                return guess
        return self._reader(query).size()

    def _estimate(self, query: Query) -> int | None:
        def work(connection: sa.Connection) -> int | None:
            dialect = self.connections.dialect
            relation = dialect.relation(connection, query.schema, query.table)
            return dialect.estimate(connection, relation) if relation else None

        return self.connections.run(work, {"table": query.table})

    def sample(self, query: Query, n: int) -> Chunk:
        """
        About `n` rows from all over the table, never more.
        """
        return self._reader(query).sample(n)

    def null_keys(self, query: Query) -> int:
        """
        How many rows no page can reach: NULL in the key, or on SQLite storage of another family.
        """
        return self._reader(query).unusable()

    def missing_privileges(self, query: Query) -> list[str]:
        """
        What this user may not read of what the query needs, in words.
        """
        dialect = self.connections.dialect
        wanted = {(query.schema, query.table): {read.column.name for read in query.columns}}
        wanted[query.schema, query.table] |= {read.column.name for read in query.key}
        for child in query.collections():
            names = wanted.setdefault((child.table.schema, child.table.name), set())
            names |= {read.column.name for read in child.columns}
            names |= {column.name for column, _ in child.join} | {one.name for one in child.order}

        def work(connection: sa.Connection) -> list[str]:
            found: list[str] = []
            for (schema, table), names in wanted.items():
                relation = dialect.relation(connection, schema, table)
                if relation is not None:
                    found += dialect.missing(connection, relation, sorted(names))
            return found

        return self.connections.run(work, {"table": query.table})

    def explain_problems(self, query: Query) -> list[str]:
        """
        Why reading in pages would be slow; empty where an index serves the key's order.
        """
        return self._reader(query).problems()

    def close(self) -> None:
        """
        Close all connections.
        """
        self.connections.close()

    def _reader(self, query: Query) -> KeysetExtractor:
        relation = self._relation(query.schema, query.table)
        if relation is None:
            raise SchemaDrift(
                "The table is not there any more.",
                where={"table": query.table},
                next_step="Compare the mapping with the source: profile-migrate doctor",
            )
        return KeysetExtractor(self.connections, query, relation.table)

    def _relation(self, schema: str | None, table: str) -> Relation | None:
        dialect = self.connections.dialect
        return self.connections.run(
            lambda connection: dialect.relation(connection, schema, table), {"table": table}
        )
