"""
MariaDB and MySQL: the server's own text of every value, read in short consistent snapshots.

Nothing here depends on the server's, the user's or a pool's settings, nor on what the driver
would make of a value.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.types import NullType

from migrate.errors import InvalidInput, SourceAccessDenied, SourceUnavailable
from migrate.model.filter import Constant
from migrate.model.settings import SourceConfig
from migrate.model.values import Column, ColumnRead, Fault, Key, KeyPart, Kind, Table
from migrate.source.dialects.base import (
    PORTION,
    Decoded,
    Keyed,
    Raw,
    Relation,
    SourceFacts,
    places_of,
)
from migrate.source.dialects.mysql_cells import (
    NO_TEXT,
    converter,
    kind_of,
    labels_of,
    type_name,
)
from migrate.source.dialects.mysql_lines import ConcatLines, bare, binary, bytes_of, direct, exact

CONNECT_TIMEOUT_S = 10
"""For one attempt to connect, unless the URL says otherwise."""

LOCK_TIMEOUT_S = 10
"""How long to wait behind somebody's ALTER TABLE before the source counts as away."""

EXACT_ROWS = 100_000
"""Rows up to which a table is counted and divided by looking at every key."""

SMALL_ROWS = 10_000
"""Below it the server may read a whole table, however good its indexes are."""

OLDEST = {"MariaDB": (10, 5), "MySQL": (8, 0)}
"""Before these there are no window functions, or no snapshots that can be had read-only."""

CHARSET = "utf8mb4"

EXACT_CHARSETS = frozenset({"utf8mb4", "utf8mb3", "utf8", "latin1"})
"""Character sets whose every text the server turns into utf8mb4 and back unchanged."""

# Dates as they are, even those that do not exist; quotes and backslashes as the driver writes them.
_SQL_MODE = "ALLOW_INVALID_DATES"

_SETTINGS = {
    "character_set_client": CHARSET,
    "character_set_connection": CHARSET,
    "character_set_results": CHARSET,
    "time_zone": "'+00:00'",
    "sql_mode": f"'{_SQL_MODE}'",
    "sql_auto_is_null": 0,
    "sql_select_limit": 2**64 - 1,
    "div_precision_increment": 4,
    "lock_wait_timeout": LOCK_TIMEOUT_S,
}

_BEGIN = (
    # Of the session as well, because DDL ends a transaction and would run behind it.
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
    # Behind START, so that a pooler cannot send it to another session.
    "SET " + ", ".join(f"{name} = {value}" for name, value in _SETTINGS.items()),
)

_PINNED = (CHARSET, "+00:00", _SQL_MODE)

_SESSION = sa.text(
    """
    SELECT @@character_set_results, @@time_zone, @@sql_mode,
           EXISTS (SELECT 1 FROM information_schema.TABLES
                   WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'migrate_ctl')
    """
)

_TABLE = sa.text(
    """
    SELECT TABLE_TYPE AS kind, ENGINE AS engine, CREATE_OPTIONS AS options, TABLE_ROWS AS estimate
    FROM information_schema.TABLES
    WHERE TABLE_SCHEMA = COALESCE(:schema, DATABASE()) AND TABLE_NAME = :name
    """
)

_TABLES = sa.text(
    """
    SELECT TABLE_NAME FROM information_schema.TABLES
    WHERE TABLE_SCHEMA = COALESCE(:schema, DATABASE())
      AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED', 'VIEW')
    """
)

_COLUMNS = sa.text(
    """
    SELECT COLUMN_NAME AS name, ORDINAL_POSITION AS place, DATA_TYPE AS type,
           COLUMN_TYPE AS declared, IS_NULLABLE = 'YES' AS nullable, NUMERIC_SCALE AS scale,
           COLUMN_DEFAULT AS supplied, EXTRA AS extra, GENERATION_EXPRESSION AS expression,
           CHARACTER_SET_NAME AS charset, COLLATION_NAME AS collation, PRIVILEGES AS rights
    FROM information_schema.COLUMNS
    WHERE TABLE_SCHEMA = COALESCE(:schema, DATABASE()) AND TABLE_NAME = :name
    ORDER BY ORDINAL_POSITION
    """
)

_INDEXES = sa.text(
    """
    SELECT INDEX_NAME AS name, NON_UNIQUE AS repeats, COLUMN_NAME AS part, SUB_PART AS prefix,
           INDEX_TYPE AS type
    FROM information_schema.STATISTICS
    WHERE TABLE_SCHEMA = COALESCE(:schema, DATABASE()) AND TABLE_NAME = :name
    ORDER BY INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX
    """
)

_FOREIGN = frozenset({"CONNECT", "FEDERATED", "SPIDER"})
_COUNTER = re.compile(r" AUTO_INCREMENT=\d+")
_VERSION = re.compile(r"(\d+)\.(\d+)")
_NUMBERS = frozenset({Kind.INTEGER, Kind.DECIMAL, Kind.FLOAT, Kind.BOOLEAN})
_DAYS = frozenset({Kind.DATE, Kind.TIMESTAMP, Kind.TIMESTAMPTZ})
_DAY = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?)?")

_PRINTED: Mapping[str, str] = {
    **dict.fromkeys(("geometry", "point", "linestring", "polygon", "multipoint"), "ST_AsText"),
    **dict.fromkeys(("multilinestring", "multipolygon", "geometrycollection"), "ST_AsText"),
    "geomcollection": "ST_AsText",
    "vector": "VEC_ToText",
}
"""What gives the text of a type that is sent as bytes of no documented order."""

_NO_SUCH_RIGHT = frozenset({1044, 1142, 1143, 1227})
_NO_SUCH_STATEMENT = 1064


@dataclass(frozen=True, slots=True)
class MySQL:
    """
    MariaDB and MySQL through PyMySQL.

    Args:
        name: Both names mean the same; the server says what it is.

        exact_rows: Up to this size a table is divided by looking at every key.
    """

    name: str = "mysql"
    exact_rows: int = EXACT_ROWS
    drivers: tuple[str, ...] = ("pymysql",)
    # A comparison of rows reads the whole index here.
    compares_rows: bool = False

    def engine(self, config: SourceConfig) -> sa.Engine:
        """
        An engine with a pool of one connection; transactions are begun by `begin` alone.

        Raises:
            InvalidInput: An option of the URL is unknown, or a certificate cannot be read.
        """
        arguments = _arguments(config)

        def connect() -> Any:
            import pymysql  # noqa: PLC0415  (an extra; its absence is told by create_engine)

            try:
                connection = pymysql.connect(**arguments)
            except RuntimeError:
                # The only one: a way to log in for which the driver needs another package.
                raise SourceAccessDenied(
                    "The server asks for a way to log in that the driver lacks here.",
                    where={"source": config.address, "reason": "login"},
                    next_step="Install it: pip install 'PyMySQL[rsa,ed25519]'",
                ) from None
            _require_encryption(connection, arguments, config)
            return connection

        return sa.create_engine(
            f"mysql+{self.drivers[0]}://",
            creator=connect,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
            pool_size=1,
            max_overflow=4,
            # Every use ends with a rollback or with the connection thrown away.
            pool_reset_on_return=None,
        )

    def begin(self, connection: sa.Connection) -> None:
        """
        Start a read-only transaction on one consistent snapshot, with pinned settings.
        """
        for statement in _BEGIN:
            connection.exec_driver_sql(statement)

    def begin_steady(self, connection: sa.Connection, relations: Sequence[Relation]) -> None:
        """
        The same: every transaction is one snapshot, and a table made anew under it is an error.
        """
        self.begin(connection)

    def facts(self, connection: sa.Connection) -> SourceFacts:
        """
        What the server says about itself.

        Raises:
            InvalidInput: The server is older than what this program reads.
        """
        version, now, read_only = connection.exec_driver_sql(
            "SELECT VERSION(), UNIX_TIMESTAMP(NOW(6)), @@global.read_only"
        ).one()
        _require_version(version)
        replica = _is_replica(connection)
        writes_not = str(read_only) not in ("0", "OFF")
        return SourceFacts(self.name, version, float(now), writes_not or replica, replica)

    def tables(self, connection: sa.Connection, schema: str | None) -> list[str]:
        """
        Names of all tables and views of a database, by default the one of the connection.
        """
        return sorted(connection.execute(_TABLES, {"schema": schema}).scalars())

    def relation(self, connection: sa.Connection, schema: str | None, name: str) -> Relation | None:
        """
        The table or view of this name as the catalogue has it.
        """
        at = {"schema": schema, "name": name}
        found = connection.execute(_TABLE, at).first()
        if found is None:
            return None
        relation = _relation_of(found)
        rows = [dict(row) for row in connection.execute(_COLUMNS, at).mappings()]
        unique, ordered = _indexes(
            [dict(row) for row in connection.execute(_INDEXES, at).mappings()]
        )
        definition = self._definition(connection, schema, name, relation)
        table = Table(
            schema=schema,
            name=name,
            columns=tuple(_column(row, definition) for row in rows),
            primary_key=unique.get("PRIMARY", ()),
            unique=tuple(unique.values()),
            relation=relation,
            indexes=ordered,
        )
        return Relation(
            table=table,
            stamp=self._stamp(connection, definition),
            identity=relation,
            control=_session(connection),
            # Renamed and made anew shows in the order; another collation is another order of keys.
            places={row["name"]: (row["place"], row["collation"]) for row in rows},
            charsets={
                row["name"]: (row["charset"], row["collation"]) for row in rows if row["charset"]
            },
            ordered=ordered,
        )

    def stamp(self, connection: sa.Connection, relation: Relation) -> Hashable:
        """
        The table as the server would make it again, without its counter.

        Taken behind a read in the same transaction: the read's lock keeps DDL out until the end.
        """
        table = relation.table
        return self._stamp(
            connection, self._definition(connection, table.schema, table.name, table.relation)
        )

    def _stamp(self, connection: sa.Connection, definition: Hashable) -> Hashable:
        return definition, _session(connection)

    def _definition(
        self, connection: sa.Connection, schema: str | None, name: str, relation: str
    ) -> Hashable:
        """
        The text of CREATE TABLE; the catalogue's columns where that is not shown.

        It takes a twentieth of the time, but of a view it says nothing about the tables under it,
        and it asks for a right to the whole table.
        """
        if relation != "view":
            quoted = connection.dialect.identifier_preparer.format_table(
                sa.table(name, schema=schema)
            )
            try:
                row = connection.exec_driver_sql(f"SHOW CREATE TABLE {quoted}").one()
            except sa.exc.DBAPIError as exc:
                if _number(exc) not in _NO_SUCH_RIGHT:
                    raise
            else:
                return _COUNTER.sub("", row[1])
        rows = connection.execute(_COLUMNS, {"schema": schema, "name": name}).all()
        return tuple(tuple(row) for row in rows)

    def missing(
        self, connection: sa.Connection, relation: Relation, columns: Sequence[str]
    ) -> list[str]:
        """
        Columns that this user may not read. What it may not even see is not there at all.
        """
        table = relation.table
        rows = connection.execute(_COLUMNS, {"schema": table.schema, "name": table.name}).mappings()
        rights = {row["name"]: row["rights"].split(",") for row in rows}
        refused = [name for name in columns if "select" not in rights.get(name, ())]
        return [f"SELECT on {table.name} ({', '.join(refused)})"] if refused else []

    def fetch(
        self, connection: sa.Connection, statement: sa.Select[Any], parameters: Mapping[str, Any]
    ) -> Sequence[Raw]:
        """
        All rows, each value as the bytes that the server sent; the cursor is never a streaming one.
        """
        with _undecoded(connection.connection.dbapi_connection):
            result = connection.execute(statement, parameters)
            cursor: Any = result.cursor
            rows: Sequence[Raw] = cursor.fetchall()
            result.close()
        return rows

    def portions(
        self, connection: sa.Connection, statement: sa.Select[Any], parameters: Mapping[str, Any]
    ) -> Iterator[Sequence[Raw]]:
        """
        Rows of one whole answer: this driver's streaming cursors end early without a word.
        """
        rows = self.fetch(connection, statement, parameters)
        for start in range(0, len(rows), PORTION):
            yield rows[start : start + PORTION]

    def cell(
        self, relation: Relation, read: ColumnRead, column: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[Any]:
        """
        The value as it is, where the server's text of it is exact; otherwise what is.
        """
        name = type_name(read.column)
        if name in ("float", "double"):
            # As an expression it is printed whole; a column of four bytes with six digits, and one
            # of FLOAT(7,2) with two behind the point.
            return column * _ONE
        if read.verbatim and name in _PRINTED:
            printed: sa.ColumnElement[Any] = getattr(sa.func, _PRINTED[name])(column)
            return printed
        charset, _ = relation.charsets.get(read.column.name, (CHARSET, ""))
        return column if charset in EXACT_CHARSETS else _checked(column, charset)

    def lines(
        self, relation: Relation, reads: Sequence[ColumnRead], key: Sequence[Column]
    ) -> ConcatLines | None:
        """
        One text a row; None for columns whose cells the server has no way to spell.
        """
        if not all(map(exact, reads)):
            return None

        def text(read: ColumnRead, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
            charset, _ = relation.charsets.get(read.column.name, (None, ""))
            cell = self.cell(relation, read, column)
            if cell is column and direct(read.column, charset):
                return bytes_of(cell)
            return binary(cell) if charset is None or charset in EXACT_CHARSETS else cell

        places = [
            place for place in places_of(reads, key) if place is not None and bare(reads[place])
        ]
        within = len(places) == len(key)
        beside = () if within else tuple(key)
        return ConcatLines(
            tuple(reads),
            tuple(partial(text, read) for read in reads),
            tuple(places),
            tuple(
                (column.name, partial(self.cell, relation, ColumnRead(column))) for column in beside
            ),
            self.fetch,
            len(reads) + relation.control,
        )

    def decoder(self, reads: Sequence[ColumnRead]) -> Callable[[Sequence[Raw]], Decoded]:
        """
        Turns each column's bytes into cells.
        """
        converters = [converter(read) for read in reads]

        def decode(rows: Sequence[Raw]) -> Decoded:
            if not rows:
                return (), {}
            faults: dict[int, Fault] = {}
            columns = []
            for convert, values in zip(converters, zip(*rows, strict=True), strict=True):
                cells, found = convert(values)
                columns.append(cells)
                if found:
                    faults = found | faults
            return list(zip(*columns, strict=True)), faults

        return decode

    def keyer(self, columns: Sequence[Column]) -> Callable[[Sequence[Raw]], Keyed]:
        """
        Key columns as the server's text, binary ones and texts that are not UTF-8 as bytes.

        Raises:
            InvalidInput: A label of one of them stands for two.
        """
        for column in columns:
            _require_one_empty_label(column)
        parts = [_plain if column.kind is Kind.BYTES else _text for column in columns]

        def keys(rows: Sequence[Raw]) -> Keyed:
            found: list[Key] = []
            faults: dict[int, Fault] = {}
            for position, row in enumerate(rows):
                key = tuple(part(value) for part, value in zip(parts, row, strict=True))
                found.append(key)
                for column, value in zip(columns, key, strict=True):
                    if type(value) is bytes and column.kind is not Kind.BYTES:
                        faults[position] = Fault(
                            column.name, "invalid-utf8", "a key column holds text that is not UTF-8"
                        )
            return found, faults

        return keys

    def key_bind(self, relation: Relation, column: Column, name: str) -> sa.ColumnElement[Any]:
        """
        A literal of the column's type; texts in its own character set and by its own order.
        """
        plain: sa.ColumnElement[Any] = sa.bindparam(name, type_=NullType())
        if column.kind is Kind.ENUM or column.name not in relation.charsets:
            return plain
        charset, collation = relation.charsets[column.name]
        return sa.collate(sa.cast(plain, mysql.CHAR(charset=charset)), collation)

    def key_value(self, column: Column, part: KeyPart) -> object:
        """
        A number for a number, the place in its list for an ENUM, which is how it is ordered.
        """
        if type(part) is bytes:
            return part
        text = str(part)
        if column.kind is Kind.INTEGER:
            return int(text)
        if column.kind is Kind.DECIMAL:
            return Decimal(text)
        return _place(column, text) if column.kind is Kind.ENUM else text

    def key_text(
        self, relation: Relation, column: Column, expression: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[str]:
        """
        The bytes of the server's text, blanks at the end included; of binary columns hex digits.
        """
        if column.kind is Kind.BYTES:
            return sa.func.lower(sa.func.hex(expression), type_=sa.Text())
        text = sa.cast(expression, mysql.CHAR(charset=CHARSET))
        return sa.type_coerce(sa.cast(text, mysql.BINARY()), sa.Text())

    def told_apart(
        self, relation: Relation, column: Column, expression: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[Any]:
        """
        The bytes of the server's text: most collations hold `a` and `A` for equal, or `a` and `a `.
        """
        return bytes_of(expression)

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
        The value as the column's type, because this server compares anything with anything.

        Raises:
            InvalidInput: It is none: 'abc' would be 0, and 1 every text that begins with it.
        """
        return sa.bindparam(None, _literal(column, constant.value), type_=NullType(), unique=True)

    def part(
        self, connection: sa.Connection, relation: Relation, table: sa.TableClause, rows: int
    ) -> sa.FromClause | None:
        """
        Rows drawn one by one, of a large table; the server reads its smallest index for that.
        """
        size = self.estimate(connection, relation)
        if size is None or rows * 2 > size:
            return None
        return sa.select(*table.c).where(self.chance(rows / size)).subquery("sample")

    def chance(self, share: float) -> sa.ColumnElement[bool]:
        """
        True for about this share of rows.
        """
        return sa.func.rand(type_=sa.Double()) < sa.literal(share, NullType())

    def estimate(self, connection: sa.Connection, relation: Relation) -> int | None:
        """
        The server's guess of a large table; it may be wrong by half, and a small one is counted.
        """
        guess = self._guess(connection, relation)
        return guess if guess is not None and guess > self.exact_rows else None

    def _guess(self, connection: sa.Connection, relation: Relation) -> int | None:
        table = relation.table
        found = connection.execute(_TABLE, {"schema": table.schema, "name": table.name}).first()
        return found.estimate if found else None

    def page_problems(
        self,
        connection: sa.Connection,
        relation: Relation,
        key: Sequence[str],
        statement: sa.Select[Any],
        parameters: Mapping[str, Any],
    ) -> list[str]:
        """
        What EXPLAIN says of a table that is not small, and whether an index has the key's order.
        """
        indexed = any(list(names[: len(key)]) == list(key) for names in relation.ordered)
        guess = self._guess(connection, relation)
        if indexed and guess is not None and guess < SMALL_ROWS:
            return []
        compiled = statement.compile(
            dialect=connection.dialect, compile_kwargs={"render_postcompile": True}
        )
        values = compiled.construct_params(dict(parameters))
        # By position or by name, as SQLAlchemy's version has it.
        names = getattr(compiled, "positiontup", None)
        given = values if names is None else tuple(values[name] for name in names)
        plan = connection.exec_driver_sql(f"EXPLAIN {compiled}", given).mappings()
        found = []
        for step in plan:
            if step["type"] in ("ALL", "index"):
                found.append("each page reads from the table's begin: no index serves its key")
            if "filesort" in (step["Extra"] or ""):
                found.append("each page sorts: no index has the order of the key columns")
        return found


def _relation_of(found: sa.Row[Any]) -> str:
    if found.kind == "VIEW":
        return "view"
    if found.engine in _FOREIGN:
        return "foreign"
    return "partitioned" if "partitioned" in (found.options or "") else "table"


def _column(row: Mapping[str, Any], definition: Hashable) -> Column:
    declared = row["declared"]
    kind = kind_of(row["type"], declared)
    if kind is Kind.TEXT and _is_json(row["name"], definition):
        kind = Kind.JSON
    generated = bool(row["expression"])
    return Column(
        name=row["name"],
        type=declared,
        kind=kind,
        nullable=bool(row["nullable"]),
        scale=row["scale"] if kind is Kind.DECIMAL else None,
        supplied=generated
        or row["supplied"] not in (None, "NULL")
        or "auto_increment" in row["extra"],
        generated=generated,
    )


def _is_json(name: str, definition: Hashable) -> bool:
    """
    MariaDB's JSON is a LONGTEXT with a check; its catalogue shows the check to few users.
    """
    quoted = re.escape("`" + name.replace("`", "``") + "`")
    form = rf"(?m)^  {quoted} longtext\b.* CHECK \(json_valid\({quoted}\)\),?$"
    return isinstance(definition, str) and re.search(form, definition) is not None


def _indexes(
    rows: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, tuple[str, ...]], tuple[tuple[str, ...], ...]]:
    """
    By name the columns of indexes that keep whole values unique, and those of all that are sorted.
    """
    names: dict[str, list[str]] = {}
    partial, repeating, unsorted = set(), set(), set()
    for row in rows:
        names.setdefault(row["name"], []).append(row["part"])
        # An expression has no column.
        if row["prefix"] is not None or row["part"] is None:
            partial.add(row["name"])
        if row["repeats"]:
            repeating.add(row["name"])
        if row["type"] != "BTREE":
            unsorted.add(row["name"])
    whole = {name: tuple(parts) for name, parts in names.items() if name not in partial}
    unique = {name: parts for name, parts in whole.items() if name not in repeating}
    return unique, tuple(parts for name, parts in whole.items() if name not in unsorted)


def _session(connection: sa.Connection) -> bool:
    """
    Whether the tables of capture are there, if the session is still the one that was set up.
    """
    *settings, control = connection.execute(_SESSION).one()
    if tuple(settings) != _PINNED:
        raise SourceUnavailable(
            "The session lost its settings while it was being read; nothing of it was used.",
            where={"reason": "session"},
            next_step="Connect to the server itself, not through a proxy that shares sessions.",
        )
    return bool(control)


def _require_version(version: str) -> None:
    found = _VERSION.match(version)
    flavour = "MariaDB" if "mariadb" in version.lower() else "MySQL"
    if found is None or (int(found[1]), int(found[2])) >= OLDEST[flavour]:
        return
    oldest = ".".join(map(str, OLDEST[flavour]))
    raise InvalidInput(
        f"{flavour} before {oldest} is not supported as a source.",
        where={"version": f"{found[1]}.{found[2]}"},
        next_step=f"Upgrade the server, or read from a copy of it on {flavour} {oldest} or later.",
    )


def _is_replica(connection: sa.Connection) -> bool:
    running = connection.exec_driver_sql("SHOW GLOBAL STATUS LIKE 'Slave_running'").first()
    if running is not None and running[1] == "ON":
        return True
    try:
        return connection.exec_driver_sql("SHOW REPLICA STATUS").first() is not None
    except sa.exc.DBAPIError as exc:
        # Not told to everybody, nor by MySQL before 8.0.22: one that stands still is then taken
        # for a primary.
        if _number(exc) not in {*_NO_SUCH_RIGHT, _NO_SUCH_STATEMENT}:
            raise
        return False


def _number(exc: sa.exc.DBAPIError) -> int:
    return int(exc.orig.args[0]) if exc.orig is not None and exc.orig.args else 0


@contextmanager
def _undecoded(driver: Any) -> Iterator[None]:
    """
    Has the driver hand out what the server sends, as bytes, for one statement.
    """
    before = driver.use_unicode, driver.decoders
    driver.use_unicode, driver.decoders = False, {}
    try:
        yield
    finally:
        driver.use_unicode, driver.decoders = before


_ONE: sa.ColumnElement[Any] = sa.literal_column("1e0")


def _checked(column: sa.ColumnElement[Any], charset: str) -> sa.ColumnElement[Any]:
    """
    A text as UTF-8 if the way back gives the same bytes: elsewhere the server puts question marks.
    """
    text = sa.cast(column, mysql.CHAR(charset=CHARSET))
    back = sa.cast(text, mysql.CHAR(charset=charset))
    return sa.case(
        (
            sa.cast(back, mysql.BINARY()) != sa.cast(column, mysql.BINARY()),
            sa.func.concat(_NO_TEXT, sa.cast(column, mysql.BINARY())),
        ),
        else_=sa.cast(text, mysql.BINARY()),
    )


_NO_TEXT: sa.ColumnElement[Any] = sa.literal_column(f"X'{NO_TEXT.hex()}'")


def _plain(value: bytes) -> KeyPart:
    return value


def _text(value: bytes) -> KeyPart:
    try:
        return value.decode()
    except UnicodeDecodeError:
        # The column's own bytes: nothing that a record could be named by, but the next page
        # continues behind them.
        return value.removeprefix(NO_TEXT)


def _place(column: Column, label: str) -> int:
    # The empty text is what a server that is not strict makes of an unknown label.
    return labels_of(column).index(label) + 1 if label else 0


def _require_one_empty_label(column: Column) -> None:
    """
    Refuse a key in which a listed empty text and any unknown label would be one record.
    """
    if column.kind is Kind.ENUM and "" in labels_of(column):
        raise InvalidInput(
            f"Column '{column.name}' lists an empty text, which also stands for unknown labels.",
            where={"column": column.name},
            next_step="Choose another key in the mapping.",
        )


def _literal(column: Column | None, value: Any) -> object:
    if isinstance(value, bool):
        return int(value)
    if column is None or value is None:
        return value
    if column.kind in _NUMBERS:
        return _number_of(column, value)
    if column.kind in _DAYS:
        return _day_of(column, str(value))
    return value if column.kind is Kind.LITERAL else str(value)


def _number_of(column: Column, value: Any) -> object:
    try:
        return Decimal(value) if isinstance(value, str) else value
    except InvalidOperation:
        raise _unfit(column, "a number") from None


def _day_of(column: Column, text: str) -> str:
    """
    A date or time in UTC as it is; one with an offset as UTC, where the column holds moments.
    """
    if _DAY.fullmatch(text):
        return text
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _unfit(column, "a date or time") from None
    if moment.tzinfo is None or column.kind is not Kind.TIMESTAMPTZ:
        raise _unfit(column, "a date or time without a zone")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ")


def _unfit(column: Column, wanted: str) -> InvalidInput:
    return InvalidInput(
        f"Column '{column.name}' of type {column.type} is compared with what is not {wanted}.",
        where={"column": column.name},
        next_step="Correct `where` in the mapping.",
    )


_SWITCHES = {"true": True, "1": True, "false": False, "0": False}
_TLS = ("ssl", "ssl_ca", "ssl_cert", "ssl_key", "ssl_verify_cert", "ssl_verify_identity")
OPTIONS = ("charset", "connect_timeout", "unix_socket", *_TLS)
"""Parameters of a URL that are known; every other one is a mistake."""


def _arguments(config: SourceConfig) -> dict[str, Any]:
    """
    What the driver connects with.
    """
    options = config.options
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        raise _bad_option(config, unknown[0], f"known are {', '.join(OPTIONS)}")
    if options.get("charset", CHARSET) != CHARSET:
        raise _bad_option(config, "charset", f"texts are always read as {CHARSET}")
    timeout = options.get("connect_timeout", str(CONNECT_TIMEOUT_S))
    if not timeout.isdigit() or not int(timeout):
        raise _bad_option(config, "connect_timeout", "it is a number of seconds")
    arguments: dict[str, Any] = {
        "host": config.host or "localhost",
        "port": config.port or 3306,
        "user": config.username,
        "password": config.password.reveal() if config.password else "",
        "database": config.database,
        "charset": CHARSET,
        "connect_timeout": int(timeout),
        "unix_socket": options.get("unix_socket"),
        "program_name": "profile-migrate",
        "autocommit": True,
        # SQLAlchemy looks at it once, to learn how names are quoted.
        "sql_mode": _SQL_MODE,
        # Bytes among the parameters are marked as such.
        "binary_prefix": True,
    }
    if not _switch(config, "ssl"):
        arguments["ssl_disabled"] = True
    elif any(name in options for name in _TLS):
        arguments["ssl"] = _context(config)
    return arguments


def _context(config: SourceConfig) -> ssl.SSLContext:
    """
    Certificate and host name are verified unless the URL says otherwise.
    """
    try:
        context = ssl.create_default_context(cafile=config.options.get("ssl_ca"))
        if "ssl_cert" in config.options:
            context.load_cert_chain(config.options["ssl_cert"], config.options.get("ssl_key"))
    except OSError:
        raise _bad_option(config, "ssl_ca, ssl_cert", "a file cannot be read") from None
    if not _switch(config, "ssl_verify_identity"):
        context.check_hostname = False
    if not _switch(config, "ssl_verify_cert"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _switch(config: SourceConfig, name: str) -> bool:
    text = config.options.get(name, "true").lower()
    if text not in _SWITCHES:
        raise _bad_option(config, name, "it is true or false")
    return _SWITCHES[text]


def _bad_option(config: SourceConfig, name: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"A parameter of the source's URL cannot be used: {name}; {why}.",
        where={"source": config.address},
        next_step="Correct the URL of `source` in migrate.yaml.",
    )


def _require_encryption(
    connection: Any, arguments: Mapping[str, Any], config: SourceConfig
) -> None:
    # Some versions of the driver go on in plain text where the server offers nothing else.
    if "ssl" not in arguments or isinstance(connection._sock, ssl.SSLSocket):  # noqa: SLF001
        return
    connection.close()
    raise SourceAccessDenied(
        "The server offers no encrypted connection.",
        where={"source": config.address, "reason": "tls"},
        next_step="Configure TLS on the server, or leave the ssl parameters out of the URL.",
    )


__all__ = ["MySQL"]
