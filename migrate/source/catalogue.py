"""
Asks a source about its tables together: foreign keys, views, triggers, counters. Reads only.

In queries of its own, because SQLAlchemy's Inspector reads foreign keys out of the text of
definitions: it fails, or warns, where names hold quotes and where types are new to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from migrate.model.catalogue import (
    Catalogue,
    Dependent,
    ForeignKey,
    Spread,
    Surroundings,
    TableName,
    same_table,
)
from migrate.model.values import Table
from migrate.source.connect import Connections
from migrate.source.control import METADATA

ROWS_LOOKED_AT = 1_000_000
"""Rows up to which it is worth reading a column to see whether its values repeat."""

_OURS = frozenset(METADATA.tables)

_Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _Questions:
    """
    What to ask one dialect; every answer has the same columns.

    Args:
        tables: `schema`, `name`, `kind`; a kind other than `table` says why it is no table.

        keys: `child_schema`, `child`, `part`, `parent_schema`, `parent`, `parent_part`,
            `on_delete`, `on_update`, and `id`; one row a column, in order.

        triggers, views, counters: `schema`, `table`, `name`; views for :schema and :table.
    """

    tables: str
    keys: str
    triggers: str
    views: str
    counters: str
    default_schema: str


_SQLITE = _Questions(
    tables="""
        SELECT NULL AS schema, name,
               CASE WHEN lower(sql) LIKE 'create virtual table%' THEN 'a virtual table'
                    ELSE 'table' END AS kind
        FROM sqlite_master WHERE type = 'table' AND substr(name, 1, 7) <> 'sqlite_'
    """,
    keys="""
        SELECT m.name || '/' || f.id AS id, NULL AS child_schema, m.name AS child,
               f."from" AS part, NULL AS parent_schema, f."table" AS parent,
               f."to" AS parent_part, f.on_delete, f.on_update
        FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) f
        WHERE m.type = 'table' ORDER BY m.name, f.id, f.seq
    """,
    triggers="""
        SELECT NULL AS schema, tbl_name AS "table", name FROM sqlite_master WHERE type = 'trigger'
    """,
    # No catalogue says what a view reads: its text has to name the table.
    views="""
        SELECT NULL AS schema, :table AS "table", name FROM sqlite_master
        WHERE type = 'view' AND instr(lower(sql), lower(:table)) > 0 AND :schema IS NULL
    """,
    counters="""
        SELECT NULL AS schema, m.name AS "table", c.name
        FROM sqlite_master m JOIN pragma_table_info(m.name) c
        WHERE m.type = 'table' AND c.pk = 1 AND upper(m.sql) LIKE '%AUTOINCREMENT%'
    """,
    default_schema="SELECT NULL",
)

_POSTGRESQL = _Questions(
    tables="""
        SELECT CASE WHEN pg_catalog.pg_table_is_visible(c.oid) THEN NULL
                    ELSE CAST(n.nspname AS TEXT) END AS schema,
               CAST(c.relname AS TEXT) AS name, 'table' AS kind
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
          AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                          WHERE d.objid = c.oid AND d.deptype = 'e')
        ORDER BY 1 NULLS FIRST, 2
    """,
    keys="""
        SELECT CAST(k.oid AS TEXT) AS id,
               CASE WHEN pg_catalog.pg_table_is_visible(c.oid) THEN NULL
                    ELSE CAST(cn.nspname AS TEXT) END AS child_schema,
               CAST(c.relname AS TEXT) AS child, CAST(ca.attname AS TEXT) AS part,
               CASE WHEN pg_catalog.pg_table_is_visible(p.oid) THEN NULL
                    ELSE CAST(pn.nspname AS TEXT) END AS parent_schema,
               CAST(p.relname AS TEXT) AS parent, CAST(pa.attname AS TEXT) AS parent_part,
               CAST(k.confdeltype AS TEXT) AS on_delete, CAST(k.confupdtype AS TEXT) AS on_update
        FROM pg_catalog.pg_constraint k
        JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
        JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace
        JOIN pg_catalog.pg_class p ON p.oid = k.confrelid
        JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
        CROSS JOIN LATERAL unnest(k.conkey, k.confkey) WITH ORDINALITY AS u(part, up, place)
        JOIN pg_catalog.pg_attribute ca ON ca.attrelid = c.oid AND ca.attnum = u.part
        JOIN pg_catalog.pg_attribute pa ON pa.attrelid = p.oid AND pa.attnum = u.up
        WHERE k.contype = 'f' AND k.conparentid = 0
        ORDER BY cn.nspname, c.relname, k.conname, k.oid, u.place
    """,
    triggers="""
        SELECT CASE WHEN pg_catalog.pg_table_is_visible(c.oid) THEN NULL
                    ELSE CAST(n.nspname AS TEXT) END AS schema,
               CAST(c.relname AS TEXT) AS "table", CAST(t.tgname AS TEXT) AS name
        FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE NOT t.tgisinternal ORDER BY 1, 2, 3
    """,
    views="""
        SELECT DISTINCT CAST(:schema AS TEXT) AS schema, CAST(:table AS TEXT) AS "table",
               CAST(v.relname AS TEXT) AS name
        FROM pg_catalog.pg_depend d
        JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
        JOIN pg_catalog.pg_class v ON v.oid = r.ev_class
        JOIN pg_catalog.pg_class c ON c.oid = d.refobjid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE d.classid = CAST('pg_catalog.pg_rewrite' AS regclass)
          AND d.refclassid = CAST('pg_catalog.pg_class' AS regclass)
          AND v.relkind IN ('v', 'm') AND v.oid <> c.oid AND c.relname = :table
          AND CASE WHEN CAST(:schema AS TEXT) IS NULL THEN pg_catalog.pg_table_is_visible(c.oid)
                   ELSE n.nspname = CAST(:schema AS TEXT) END
        ORDER BY 3
    """,
    counters="""
        SELECT CASE WHEN pg_catalog.pg_table_is_visible(c.oid) THEN NULL
                    ELSE CAST(n.nspname AS TEXT) END AS schema,
               CAST(c.relname AS TEXT) AS "table", CAST(a.attname AS TEXT) AS name
        FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
          AND (a.attidentity <> '' OR EXISTS (
              SELECT FROM pg_catalog.pg_attrdef d
              WHERE d.adrelid = c.oid AND d.adnum = a.attnum
                AND pg_catalog.pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%'))
        ORDER BY 1, 2, a.attnum
    """,
    default_schema="SELECT CAST(pg_catalog.current_schema() AS TEXT)",
)

_MYSQL = _Questions(
    tables="""
        SELECT NULL AS `schema`, TABLE_NAME AS name, 'table' AS kind
        FROM information_schema.TABLES
        WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')
        ORDER BY TABLE_NAME
    """,
    keys="""
        SELECT CONCAT(k.CONSTRAINT_SCHEMA, '/', k.TABLE_NAME, '/', k.CONSTRAINT_NAME) AS id,
               NULLIF(k.TABLE_SCHEMA, DATABASE()) AS child_schema, k.TABLE_NAME AS child,
               k.COLUMN_NAME AS part,
               NULLIF(k.REFERENCED_TABLE_SCHEMA, DATABASE()) AS parent_schema,
               k.REFERENCED_TABLE_NAME AS parent, k.REFERENCED_COLUMN_NAME AS parent_part,
               r.DELETE_RULE AS on_delete, r.UPDATE_RULE AS on_update
        FROM information_schema.KEY_COLUMN_USAGE k
        JOIN information_schema.REFERENTIAL_CONSTRAINTS r
          ON r.CONSTRAINT_SCHEMA = k.CONSTRAINT_SCHEMA AND r.TABLE_NAME = k.TABLE_NAME
         AND r.CONSTRAINT_NAME = k.CONSTRAINT_NAME
        WHERE k.REFERENCED_TABLE_NAME IS NOT NULL
          AND DATABASE() IN (k.TABLE_SCHEMA, k.REFERENCED_TABLE_SCHEMA)
        ORDER BY k.TABLE_SCHEMA, k.TABLE_NAME, k.CONSTRAINT_NAME, k.ORDINAL_POSITION
    """,
    triggers="""
        SELECT NULLIF(EVENT_OBJECT_SCHEMA, DATABASE()) AS `schema`, EVENT_OBJECT_TABLE AS `table`,
               TRIGGER_NAME AS name
        FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE()
        ORDER BY EVENT_OBJECT_TABLE, TRIGGER_NAME
    """,
    # MariaDB has no table of what a view reads; the text of its definition quotes every name.
    views="""
        SELECT :schema AS `schema`, :table AS `table`, TABLE_NAME AS name
        FROM information_schema.VIEWS
        WHERE TABLE_SCHEMA = COALESCE(:schema, DATABASE())
          AND LOCATE(CONCAT('`', REPLACE(:table, '`', '``'), '`'), VIEW_DEFINITION) > 0
        ORDER BY TABLE_NAME
    """,
    counters="""
        SELECT NULLIF(TABLE_SCHEMA, DATABASE()) AS `schema`, TABLE_NAME AS `table`,
               COLUMN_NAME AS name
        FROM information_schema.COLUMNS
        WHERE TABLE_SCHEMA = DATABASE() AND EXTRA LIKE '%auto_increment%'
        ORDER BY TABLE_NAME
    """,
    default_schema="SELECT DATABASE()",
)

_QUESTIONS = {
    "sqlite": _SQLITE,
    "postgresql": _POSTGRESQL,
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
}

_ACTIONS = {
    "a": "NO ACTION",
    "r": "RESTRICT",
    "c": "CASCADE",
    "n": "SET NULL",
    "d": "SET DEFAULT",
}
"""PostgreSQL's letters."""


def read_catalogue(connections: Connections, named: Sequence[TableName] = ()) -> Catalogue:
    """
    Every table of the source, and those that are named, with their foreign keys.

    Views, foreign tables and tables of other schemas that the search path does not reach are read
    where they are named; on PostgreSQL every schema is looked at.
    """
    questions = _QUESTIONS[connections.dialect.name]

    def work(connection: sa.Connection) -> Catalogue:
        reader = _Reader(connections, connection, questions)
        return reader.catalogue(named)

    return connections.run(work)


def read_surroundings(connections: Connections, tables: Sequence[TableName]) -> Surroundings:
    """
    What hangs on these tables.
    """
    questions = _QUESTIONS[connections.dialect.name]

    def work(connection: sa.Connection) -> Surroundings:
        reader = _Reader(connections, connection, questions)
        spelled = reader.spelling(tables)

        def hanging(what: str) -> tuple[Dependent, ...]:
            found = (replace(one, table=spelled(one.table)) for one in reader.hanging(what))
            return tuple(one for one in found if one.table in tables)

        keys = (
            replace(key, child=spelled(key.child), parent=spelled(key.parent))
            for key in reader.foreign_keys()
        )
        return Surroundings(
            foreign_keys=tuple(key for key in keys if {key.child, key.parent} & set(tables)),
            triggers=hanging("triggers"),
            views=tuple(view for table in dict.fromkeys(tables) for view in reader.views(table)),
            counters=hanging("counters"),
            cascades_silently=questions is _MYSQL,
        )

    return connections.run(work)


def read_spread(connections: Connections, table: Table, columns: Sequence[str]) -> Spread | None:
    """
    Whether the values of these columns repeat, NULL aside; None where the table is too large.
    """
    source = sa.table(table.name, *(sa.column(name) for name in columns), schema=table.schema)
    part = sa.select(*source.c).limit(ROWS_LOOKED_AT + 1).subquery("part")
    given = sa.and_(*(column.is_not(None) for column in part.c))
    groups = sa.select(sa.func.count().label("n")).where(given).group_by(*part.c).subquery("groups")
    lengths = [sa.func.coalesce(sa.func.max(sa.func.length(_text(column))), 0) for column in part.c]

    def work(connection: sa.Connection) -> Spread | None:
        rows, *longest = connection.execute(sa.select(sa.func.count(), *lengths)).one()
        if rows > ROWS_LOOKED_AT:
            return None
        most = connection.execute(sa.select(sa.func.max(groups.c.n))).scalar()
        return Spread(repeated=(most or 0) > 1, longest=sum(longest))

    return connections.run(work, {"table": table.name})


def _text(column: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    return sa.cast(column, sa.CHAR().with_variant(sa.Text(), "postgresql", "sqlite"))


@dataclass(frozen=True, slots=True)
class _Reader:
    """
    One look at a catalogue, in one transaction.
    """

    connections: Connections
    connection: sa.Connection
    questions: _Questions

    def catalogue(self, named: Sequence[TableName]) -> Catalogue:
        shadows = self._shadows()
        tables: list[Table] = []
        unusable: dict[TableName, str] = {}
        for name, kind in self._listed(named, shadows):
            found = self._table(name) if kind == "table" else kind
            if isinstance(found, Table):
                tables.append(found)
            else:
                unusable[name] = found
        return Catalogue(
            tables=tuple(tables),
            foreign_keys=tuple(self.foreign_keys()),
            unusable=unusable,
            default_schema=self._default_schema(),
            any_case=self.questions is _SQLITE,
        )

    def _listed(
        self, named: Sequence[TableName], shadows: frozenset[str]
    ) -> Iterator[tuple[TableName, str]]:
        seen = []
        for row in self._ask(self.questions.tables):
            name = TableName(row["schema"], row["name"])
            if name.name not in _OURS and name.name not in shadows:
                seen.append(name)
                yield name, row["kind"]
        for name in named:
            if same_table(name, seen, self._default_schema()) is None:
                yield name, "table"

    def _default_schema(self) -> str | None:
        found: str | None = self.connection.exec_driver_sql(self.questions.default_schema).scalar()
        return found

    def spelling(self, tables: Sequence[TableName]) -> Callable[[TableName], TableName]:
        """
        Gives a table of the catalogue the name that it has among these, where it is one of them.
        """
        default = self._default_schema()

        def folded(name: TableName) -> TableName:
            schema = None if name.schema == default else name.schema
            # SQLite alone does not tell capitals apart.
            text = name.name.casefold() if self.questions is _SQLITE else name.name
            return TableName(schema, text)

        known = {folded(name): name for name in tables}
        return lambda name: known.get(folded(name), name)

    def _shadows(self) -> frozenset[str]:
        """
        Tables in which SQLite's own full-text and other modules keep their affairs.
        """
        if self.questions is not _SQLITE:
            return frozenset()
        version = self.connection.exec_driver_sql("SELECT sqlite_version()").scalar() or ""
        if tuple(map(int, version.split("."))) < (3, 37):
            return frozenset()
        rows = self.connection.exec_driver_sql(
            "SELECT name FROM pragma_table_list WHERE type = 'shadow'"
        )
        return frozenset(rows.scalars())

    def _table(self, name: TableName) -> Table | str:
        dialect = self.connections.dialect
        relation = dialect.relation(self.connection, name.schema, name.name)
        if relation is None:
            return "there is no such table"
        columns = [column.name for column in relation.table.columns]
        refused = dialect.missing(self.connection, relation, columns)
        return f"this user lacks {'; '.join(refused)}" if refused else relation.table

    def foreign_keys(self) -> Iterator[ForeignKey]:
        """
        All that the user can see, in a steady order; names as the tables themselves have them.
        """
        rows = self._ask(self.questions.keys)
        for _, parts in groupby(rows, key=lambda row: row["id"]):
            yield self._foreign_key(list(parts))

    def _foreign_key(self, parts: _Rows) -> ForeignKey:
        first = parts[0]
        ups = [row["parent_part"] for row in parts]
        return ForeignKey(
            child=TableName(first["child_schema"], first["child"]),
            columns=tuple(row["part"] for row in parts),
            parent=TableName(first["parent_schema"], first["parent"]),
            # SQLite leaves them out where the primary key is meant.
            parent_columns=tuple(up for up in ups if up is not None),
            on_delete=_ACTIONS.get(first["on_delete"]) or first["on_delete"],
            on_update=_ACTIONS.get(first["on_update"]) or first["on_update"],
        )

    def hanging(self, what: str) -> Iterator[Dependent]:
        """
        Triggers or counters of every table.
        """
        for row in self._ask(getattr(self.questions, what)):
            yield Dependent(TableName(row["schema"], row["table"]), row["name"])

    def views(self, table: TableName) -> Iterator[Dependent]:
        """
        Views over one table.
        """
        for row in self._ask(self.questions.views, {"schema": table.schema, "table": table.name}):
            yield Dependent(table, row["name"])

    def _ask(self, question: str, parameters: Mapping[str, Any] | None = None) -> _Rows:
        found = self.connection.execute(sa.text(question), parameters or {})
        return [dict(row) for row in found.mappings()]
