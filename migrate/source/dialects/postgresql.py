"""
PostgreSQL: the server spells every value itself, under pinned settings; no driver's idea of it.

Nothing here depends on the role's, the database's or a pooler's settings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import UserDefinedType

from migrate.errors import InvalidInput
from migrate.model.filter import Constant, Literal
from migrate.model.settings import SourceConfig
from migrate.model.values import Column, ColumnRead, Key, KeyPart, Kind, Table
from migrate.source.dialects.base import (
    PORTION,
    Decoded,
    Keyed,
    Raw,
    Relation,
    SourceFacts,
    places_of,
)
from migrate.source.dialects.postgresql_lines import CopyLines
from migrate.source.dialects.prepared import compiled

CONNECT_TIMEOUT_S = 10
"""For one attempt to connect, unless the URL says otherwise."""

EXACT_PAGES = 16_384
"""Pages of 8 KiB up to which a table is divided by looking at every key."""

_SETTINGS = "; ".join(  # noqa: FLY002  (one setting a line)
    (
        "SET LOCAL TimeZone = 'UTC'",
        "SET LOCAL DateStyle = 'ISO, YMD'",
        "SET LOCAL IntervalStyle = 'iso_8601'",
        "SET LOCAL extra_float_digits = 1",
        "SET LOCAL bytea_output = 'hex'",
        "SET LOCAL xmlbinary = 'base64'",
        "SET LOCAL lc_monetary = 'C'",
        # With row-level security the server would leave rows out without a word; now it refuses.
        "SET LOCAL row_security = off",
    )
)
"""One round trip; in the same one as BEGIN so that a pooler cannot come between."""

_BEGIN = f"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; {_SETTINGS}"

_BEGIN_STEADY = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {_SETTINGS}"
"""The snapshot is taken by the first query, behind the locks."""

_KINDS: Mapping[str, Kind] = {
    "int2": Kind.INTEGER,
    "int4": Kind.INTEGER,
    "int8": Kind.INTEGER,
    "oid": Kind.INTEGER,
    "numeric": Kind.DECIMAL,
    "float4": Kind.FLOAT,
    "float8": Kind.FLOAT,
    "bool": Kind.BOOLEAN,
    "text": Kind.TEXT,
    "varchar": Kind.TEXT,
    "bpchar": Kind.TEXT,
    "name": Kind.TEXT,
    "bytea": Kind.BYTES,
    "date": Kind.DATE,
    "time": Kind.TIME,
    "timetz": Kind.TIMETZ,
    "timestamp": Kind.TIMESTAMP,
    "timestamptz": Kind.TIMESTAMPTZ,
    "interval": Kind.INTERVAL,
    "uuid": Kind.UUID,
    "json": Kind.JSON,
    "jsonb": Kind.JSON,
}

_LITERALS = frozenset(
    [
        *("char", "inet", "cidr", "macaddr", "macaddr8", "bit", "varbit", "xml", "jsonpath"),
        *("tsvector", "tsquery", "pg_lsn", "xid8"),
        *("point", "line", "lseg", "box", "path", "polygon", "circle"),
    ]
)
"""Types of the server whose text reads back exactly."""

_EXTENSIONS: Mapping[str, Kind] = {
    "citext": Kind.TEXT,
    "ltree": Kind.LITERAL,
    "hstore": Kind.LITERAL,
}
"""Types of extensions, in whatever schema they were put."""

_OUTPUT: Mapping[str, str] = {
    "bpchar": "bpcharout",
    "inet": "inet_out",
    '"char"': "charout",
    "xml": "xml_out",
}
"""
Types whose cast to text says something else than the server prints: padding lost, mask added, or an
encoding named that the text is no longer in.
"""

_COPIED = frozenset(
    [
        *("smallint", "integer", "bigint", "oid", "numeric", "real", "double precision"),
        *("text", "character varying", "date", "interval", "uuid", "json", "jsonb"),
        *("time without time zone", "time with time zone"),
        *("timestamp without time zone", "timestamp with time zone"),
    ]
)
"""Types of the server that are cast to text by their own output function, as COPY prints them."""

_NUMBERS = frozenset({Kind.INTEGER, Kind.DECIMAL, Kind.FLOAT})

_RELATIONS = {"r": "table", "p": "partitioned", "v": "view", "m": "view", "f": "foreign"}

_RELATION = sa.text(
    """
    SELECT c.oid, c.relkind, n.nspname
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relname = :name AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND CASE WHEN CAST(:schema AS TEXT) IS NULL THEN pg_catalog.pg_table_is_visible(c.oid)
               ELSE n.nspname = CAST(:schema AS TEXT) END
    """
)

_COLUMNS = sa.text(
    """
    WITH RECURSIVE base AS (
        SELECT a.attnum, a.atttypid AS typid, a.atttypmod AS mod, 0 AS depth
        FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT b.attnum, t.typbasetype, CASE WHEN b.mod = -1 THEN t.typtypmod ELSE b.mod END,
               b.depth + 1
        FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.typid
        WHERE t.typtype = 'd'
    )
    SELECT DISTINCT ON (a.attnum)
           a.attname, a.attnum, pg_catalog.format_type(a.atttypid, a.atttypmod) AS declared,
           pg_catalog.format_type(b.typid, -1) AS bound, b.mod, a.attnotnull,
           a.atthasdef OR a.attidentity <> '' AS supplied, a.attgenerated <> '' AS generated,
           t.typname, t.typtype, t.typcategory, tn.nspname AS typschema,
           e.typname AS elename, e.typtype AS eletype, en.nspname AS eleschema
    FROM pg_catalog.pg_attribute a
    JOIN base b ON b.attnum = a.attnum
    JOIN pg_catalog.pg_type t ON t.oid = b.typid
    JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
    LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typlen = -1 AND t.typcategory = 'A'
    LEFT JOIN pg_catalog.pg_namespace en ON en.oid = e.typnamespace
    WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum, b.depth DESC
    """
)

_UNIQUE = sa.text(
    """
    SELECT i.indisprimary, array_agg(CAST(a.attname AS TEXT) ORDER BY k.place) AS names
    FROM pg_catalog.pg_index i
    CROSS JOIN LATERAL unnest(CAST(i.indkey AS int2[]), CAST(i.indcollation AS oid[]))
        WITH ORDINALITY AS k(attnum, collid, place)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    LEFT JOIN pg_catalog.pg_collation o ON o.oid = a.attcollation
    WHERE i.indrelid = :oid AND i.indisunique AND i.indisvalid
      AND i.indpred IS NULL AND i.indexprs IS NULL AND k.place <= i.indnkeyatts
      -- An index of a table that others inherit from does not see their rows; a SELECT does.
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits h
                      JOIN pg_catalog.pg_class p ON p.oid = h.inhparent
                      WHERE h.inhparent = i.indrelid AND p.relkind = 'r')
    GROUP BY i.indexrelid, i.indisprimary
    -- Keys that the column's order holds for equal would hide each other between two pages.
    HAVING bool_and(k.collid = a.attcollation
                    OR COALESCE(CAST(to_jsonb(o) ->> 'collisdeterministic' AS boolean), true))
    ORDER BY i.indisprimary DESC, i.indexrelid
    """
)

_INDEXES = sa.text(
    """
    SELECT array_agg(CAST(a.attname AS TEXT) ORDER BY k.place) AS names
    FROM pg_catalog.pg_index i
    CROSS JOIN LATERAL unnest(CAST(i.indkey AS int2[])) WITH ORDINALITY AS k(attnum, place)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    WHERE i.indrelid = :oid AND i.indisvalid AND i.indpred IS NULL AND k.place <= i.indnkeyatts
      AND k.place <= (SELECT COALESCE(min(e.place) - 1, i.indnkeyatts)
                      FROM unnest(CAST(i.indkey AS int2[])) WITH ORDINALITY AS e(attnum, place)
                      WHERE e.attnum = 0)
    GROUP BY i.indexrelid
    ORDER BY i.indexrelid
    """
)
"""Of an index over expressions the columns before the first of those."""

_STAMP = sa.text(
    """
    SELECT string_agg(concat_ws(':', a.attrelid, a.attnum, a.atttypid, a.atttypmod, a.attnotnull,
                                a.attname), ',' ORDER BY a.attnum)
           || concat(';', CAST(pg_catalog.to_regclass('migrate_ctl') AS oid))
    FROM pg_catalog.pg_attribute a
    WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attrelid = (
        SELECT c.oid
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = :name AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
          AND CASE WHEN CAST(:schema AS TEXT) IS NULL THEN pg_catalog.pg_table_is_visible(c.oid)
                   ELSE n.nspname = CAST(:schema AS TEXT) END)
    """
)

_TABLES = sa.text(
    """
    SELECT CAST(c.relname AS TEXT)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
      AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
      AND CASE WHEN CAST(:schema AS TEXT) IS NULL THEN pg_catalog.pg_table_is_visible(c.oid)
               ELSE n.nspname = CAST(:schema AS TEXT) END
    ORDER BY 1
    """
)

_FACTS = sa.text(
    """
    SELECT current_setting('server_version'), CAST(extract(epoch FROM clock_timestamp()) AS float8),
           current_setting('default_transaction_read_only') = 'on', pg_is_in_recovery()
    """
)

_MISSING = sa.text(
    """
    SELECT has_schema_privilege(c.relnamespace, 'USAGE'),
           has_table_privilege(c.oid, 'SELECT'),
           ARRAY(SELECT CAST(a.attname AS TEXT) FROM pg_catalog.pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                   AND a.attname = ANY (CAST(:columns AS TEXT[]))
                   AND NOT has_column_privilege(c.oid, a.attnum, 'SELECT') ORDER BY a.attnum),
           row_security_active(c.oid)
    FROM pg_catalog.pg_class c WHERE c.oid = :oid
    """
)

_SIZE = sa.text(
    """
    SELECT CAST(COALESCE((SELECT sum(pg_relation_size(p.relid)) FROM pg_partition_tree(c.oid) p
                          WHERE p.isleaf), pg_relation_size(c.oid)) / 8192 AS bigint),
           CAST(c.reltuples AS float8), c.relkind
    FROM pg_catalog.pg_class c WHERE c.oid = :oid
    """
)


class ServerType(UserDefinedType[Any]):
    """
    A type by the name that the server's own `format_type` gives it, quotes included.
    """

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: object) -> str:
        """
        The name, with the percent sign doubled for the driver's placeholders.
        """
        return self.name.replace("%", "%%")


@dataclass(frozen=True, slots=True)
class PostgreSQL:
    """
    PostgreSQL through psycopg 3.

    Args:
        exact_pages: Up to this size a table is divided by looking at every key.
    """

    exact_pages: int = EXACT_PAGES
    name: str = "postgresql"
    drivers: tuple[str, ...] = ("psycopg",)
    compares_rows: bool = True

    def engine(self, config: SourceConfig) -> sa.Engine:
        """
        An engine with a pool of one connection; transactions are begun by `begin` alone.
        """
        url = sa.URL.create(
            f"postgresql+{self.drivers[0]}",
            username=config.username,
            password=config.password.reveal() if config.password else None,
            host=config.host,
            port=config.port,
            database=config.database,
            query=dict(config.options),
        )
        arguments: dict[str, object] = {
            "connect_timeout": CONNECT_TIMEOUT_S,
            "application_name": "profile-migrate",
            "client_encoding": "utf8",
            # A prepared plan dies with every DDL and does not live through a pooler.
            "prepare_threshold": None,
        }
        given = {name: value for name, value in arguments.items() if name not in config.options}
        return sa.create_engine(
            url,
            connect_args=given,
            isolation_level="AUTOCOMMIT",
            use_native_hstore=False,
            hide_parameters=True,
            pool_size=1,
            max_overflow=4,
        )

    def begin(self, connection: sa.Connection) -> None:
        """
        Start a READ COMMITTED, read-only transaction with pinned settings, in one round trip.
        """
        connection.exec_driver_sql(_BEGIN)

    def begin_steady(self, connection: sa.Connection, relations: Sequence[Relation]) -> None:
        """
        Start a REPEATABLE READ, read-only transaction that holds the tables' definitions.

        Without the locks a table that is rewritten or truncated behind the snapshot reads as
        empty, and the catalogue of the snapshot would not show it.
        """
        names = [_quoted(connection, one.table) for one in relations if one.lockable]
        lock = f"; LOCK TABLE {', '.join(names)} IN ACCESS SHARE MODE" if names else ""
        connection.exec_driver_sql(_BEGIN_STEADY + lock)

    def facts(self, connection: sa.Connection) -> SourceFacts:
        """
        What the server says about itself.
        """
        version, now, read_only, replica = connection.execute(_FACTS).one()
        return SourceFacts(self.name, version, now, read_only or replica, replica)

    def tables(self, connection: sa.Connection, schema: str | None) -> list[str]:
        """
        Names of all tables and views of a schema, or of the search path.
        """
        return list(connection.execute(_TABLES, {"schema": schema}).scalars())

    def relation(self, connection: sa.Connection, schema: str | None, name: str) -> Relation | None:
        """
        The table or view of this name as the catalogue has it, domains resolved.
        """
        found = connection.execute(_RELATION, {"schema": schema, "name": name}).first()
        if found is None:
            return None
        rows = [dict(row) for row in connection.execute(_COLUMNS, {"oid": found.oid}).mappings()]
        unique = connection.execute(_UNIQUE, {"oid": found.oid}).all()
        table = Table(
            schema=schema,
            name=name,
            columns=tuple(_column(row) for row in rows),
            primary_key=next((tuple(names) for primary, names in unique if primary), ()),
            unique=tuple(tuple(names) for _, names in unique),
            relation=_RELATIONS[found.relkind],
            indexes=tuple(
                tuple(names) for names in connection.execute(_INDEXES, {"oid": found.oid}).scalars()
            ),
        )
        stamp = self._stamp(connection, schema, name)
        return Relation(
            table=table,
            stamp=stamp,
            identity=found.oid,
            control=not str(stamp).endswith(";"),
            places={row["attname"]: row["attnum"] for row in rows},
            bind_types={row["attname"]: row["bound"] for row in rows},
            lockable=found.relkind in "rpv",
        )

    def stamp(self, connection: sa.Connection, relation: Relation) -> Hashable:
        """
        Name, number, type and nullability of every column, as one text.

        Taken behind a read in the same transaction: the read's lock keeps DDL out until the end.
        """
        return self._stamp(connection, relation.table.schema, relation.table.name)

    def _stamp(self, connection: sa.Connection, schema: str | None, name: str) -> Hashable:
        return connection.execute(_STAMP, {"schema": schema, "name": name}).scalar()

    def missing(
        self, connection: sa.Connection, relation: Relation, columns: Sequence[str]
    ) -> list[str]:
        """
        What this user may not read; row-level security counts, because it hides rows.
        """
        usage, select, unreadable, hidden = connection.execute(
            _MISSING, {"oid": relation.identity, "columns": list(columns)}
        ).one()
        table = relation.table.name
        found = [] if usage else [f"USAGE on the schema of {table}"]
        if not select and unreadable:
            found.append(f"SELECT on {table} ({', '.join(unreadable)})")
        if hidden:
            found.append(f"BYPASSRLS: row-level security would hide rows of {table}")
        return found

    def fetch(
        self, connection: sa.Connection, statement: sa.Select[Any], parameters: Mapping[str, Any]
    ) -> Sequence[Raw]:
        """
        All rows as psycopg's own tuples: no object of ours for each row.
        """
        result = connection.execute(statement, parameters)
        cursor: Any = result.cursor
        rows: list[Raw] = cursor.fetchall()
        result.close()
        return rows

    def portions(
        self, connection: sa.Connection, statement: sa.Select[Any], parameters: Mapping[str, Any]
    ) -> Iterator[Sequence[Raw]]:
        """
        Rows through a cursor of the server, which holds what was not fetched.
        """
        # SQLAlchemy takes rows from the cursor ahead of us, so they come through its result.
        with connection.execute(
            statement, parameters, execution_options={"yield_per": PORTION}
        ) as result:
            yield from result.partitions()

    def cell(
        self, relation: Relation, read: ColumnRead, column: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[Any]:
        """
        The server's text of the value; binary columns as they are.
        """
        if read.column.kind is Kind.BYTES and not read.verbatim:
            return column
        return _printed(relation, read.column, column)

    def lines(
        self, relation: Relation, reads: Sequence[ColumnRead], key: Sequence[Column]
    ) -> CopyLines | None:
        """
        COPY of the same texts; without a cast where the type's own output is what a cast says.
        """
        places = [place for place in places_of(reads, key) if place is not None]
        if len(places) < len(key):
            return None

        def spelled(read: ColumnRead, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
            if read.column.kind is Kind.BYTES and not read.verbatim:
                return sa.func.encode(column, "hex", type_=sa.Text())
            plain = relation.bind_types[read.column.name] in _COPIED
            return column if plain else _printed(relation, read.column, column)

        return CopyLines(tuple(reads), tuple(places), spelled)

    def decoder(self, reads: Sequence[ColumnRead]) -> Callable[[Sequence[Raw]], Decoded]:
        """
        Raw rows are cells already.
        """
        return _as_they_are

    def keyer(self, columns: Sequence[Column]) -> Callable[[Sequence[Raw]], Keyed]:
        """
        Key columns come as text (binary ones as bytes) and are bound back in the same form.
        """
        return _keys

    def key_bind(self, relation: Relation, column: Column, name: str) -> sa.ColumnElement[Any]:
        """
        A parameter sent as text and cast by the server to the column's own type.
        """
        plain: sa.types.TypeEngine[Any] = (
            sa.LargeBinary() if column.kind is Kind.BYTES else sa.Text()
        )
        return sa.cast(
            sa.bindparam(name, type_=plain), ServerType(relation.bind_types[column.name])
        )

    def key_value(self, column: Column, part: KeyPart) -> object:
        """
        Text, or bytes for a binary column.
        """
        return part if isinstance(part, bytes) else str(part)

    def key_text(
        self, relation: Relation, column: Column, expression: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[str]:
        """
        The server's text; binary columns in hex digits.
        """
        if column.kind is Kind.BYTES:
            return sa.func.encode(expression, "hex", type_=sa.Text())
        return _printed(relation, column, expression)

    def told_apart(
        self, relation: Relation, column: Column, expression: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[Any]:
        """
        The bytes of the server's text, by which 1.0 and 1.00 are two, and so are `a` and `A`.
        """
        return sa.collate(_printed(relation, column, expression), "C")

    def usable(
        self, column: Column, expression: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[bool] | None:
        """
        Pages cannot stand on NULL; the server keeps every other value in order.
        """
        return expression.is_not(None) if column.nullable else None

    def literal(
        self, relation: Relation, column: Column | None, constant: Constant
    ) -> sa.ColumnElement[Any]:
        """
        Numbers against numbers stay numbers; everything else is cast to the column's plain type.

        Without a modifier, because a cast to varchar(3) would cut the literal silently.
        """
        text, kind = _spelled(constant.value)
        if column is None or (kind != "text" and column.kind in _NUMBERS):
            return sa.cast(sa.bindparam(None, text, type_=sa.Text(), unique=True), ServerType(kind))
        bound = ServerType(relation.bind_types[column.name])
        return sa.cast(sa.bindparam(None, text, type_=sa.Text(), unique=True), bound)

    def part(
        self, connection: sa.Connection, relation: Relation, table: sa.TableClause, rows: int
    ) -> sa.FromClause | None:
        """
        A TABLESAMPLE by pages, at least one page for each wanted row: neighbours are alike.
        """
        pages, _, relkind = connection.execute(_SIZE, {"oid": relation.identity}).one()
        wanted = max(rows, self.exact_pages // 8)
        if relkind not in ("r", "p", "m") or pages <= self.exact_pages or wanted * 2 > pages:
            return None
        share = sa.func.system(sa.literal_column(repr(100.0 * wanted / pages)))
        return table.tablesample(share, name="sample")

    def chance(self, share: float) -> sa.ColumnElement[bool]:
        """
        True for about this share of rows.
        """
        return sa.func.random() < sa.literal(share, sa.Double())

    def estimate(self, connection: sa.Connection, relation: Relation) -> int | None:
        """
        The planner's number of rows, where the table was analysed.
        """
        _, tuples, relkind = connection.execute(_SIZE, {"oid": relation.identity}).one()
        return int(tuples) if tuples > 0 and relkind in ("r", "p", "m") else None

    def page_problems(
        self,
        connection: sa.Connection,
        relation: Relation,
        key: Sequence[str],
        statement: sa.Select[Any],
        parameters: Mapping[str, Any],
    ) -> list[str]:
        """
        Asks the planner with sorting and full scans made expensive: what is left is unavoidable.
        """
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
        asked = compiled(statement, connection.dialect)
        rows = connection.exec_driver_sql(
            f"EXPLAIN (FORMAT JSON) {asked}", asked.construct_params(dict(parameters))
        ).scalar()
        plan: Any = json.loads(rows) if isinstance(rows, str) else rows
        nodes = set(_nodes(plan[0]["Plan"]))
        found = []
        if "Seq Scan" in nodes:
            found.append("each page reads the whole table: no index begins with the key columns")
        if nodes & {"Sort", "Incremental Sort"}:
            found.append("each page sorts: no index has the order of the key columns")
        return found


def _quoted(connection: sa.Connection, table: Table) -> str:
    quote = connection.dialect.identifier_preparer.quote_identifier
    parts = [part for part in (table.schema, table.name) if part is not None]
    return ".".join(quote(part) for part in parts)


def _column(row: Mapping[str, Any]) -> Column:
    return Column(
        name=row["attname"],
        type=row["declared"],
        kind=_kind(row),
        nullable=not row["attnotnull"],
        scale=_scale(row["mod"]) if row["typname"] == "numeric" else None,
        supplied=row["supplied"],
        generated=row["generated"],
    )


def _kind(row: Mapping[str, Any]) -> Kind:
    if row["elename"] is not None:
        element = _scalar(row["elename"], row["eletype"], row["eleschema"])
        return Kind.UNSUPPORTED if element is Kind.UNSUPPORTED else Kind.ARRAY
    return _scalar(row["typname"], row["typtype"], row["typschema"])


def _scalar(name: str, typtype: str, schema: str) -> Kind:
    if typtype == "e":
        return Kind.ENUM
    if typtype in ("r", "m"):
        return Kind.LITERAL
    if typtype == "b" and schema == "pg_catalog":
        return _KINDS.get(name, Kind.LITERAL if name in _LITERALS else Kind.UNSUPPORTED)
    return _EXTENSIONS.get(name, Kind.UNSUPPORTED) if typtype == "b" else Kind.UNSUPPORTED


def _scale(modifier: int) -> int | None:
    # Eleven bits, signed since PostgreSQL 15.
    return (((modifier - 4) & 0x7FF) ^ 1024) - 1024 if modifier >= 4 else None


def _printed(
    relation: Relation, column: Column, expression: sa.ColumnElement[Any]
) -> sa.ColumnElement[Any]:
    output = _OUTPUT.get(relation.bind_types[column.name])
    if output is None:
        return sa.cast(expression, sa.Text())
    printed = getattr(sa.func.pg_catalog, output)(expression)
    return sa.func.pg_catalog.textin(printed, type_=sa.Text())


def _as_they_are(rows: Sequence[Raw]) -> Decoded:
    return rows, {}


def _keys(rows: Sequence[Raw]) -> Keyed:
    keys: list[Key] = [tuple(row) for row in rows]
    return keys, {}


def _spelled(value: Literal) -> tuple[str | None, str]:
    match value:
        case None:
            return None, "text"
        case bool():
            return str(value).lower(), "boolean"
        case int():
            return str(value), "bigint" if abs(value) < 2**63 else "numeric"
        case str():
            if "\x00" in value:
                raise InvalidInput(
                    "A text of PostgreSQL cannot hold the character U+0000.",
                    next_step="Correct `where` in the mapping.",
                )
            return value, "text"
        case _:
            return format(value, "f"), "numeric"


def _nodes(plan: Mapping[str, Any]) -> Iterator[str]:
    yield plan["Node Type"]
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


__all__ = ["PostgreSQL", "ServerType"]
