"""
SQLite, opened read-only: values are checked against what their column was declared to hold.

Never creates a file, never writes one, and never lets one bad text cost a page.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, takewhile
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import sqlalchemy as sa
from sqlalchemy.pool import QueuePool
from sqlalchemy.types import NullType

from migrate.errors import InvalidInput
from migrate.model.filter import Constant
from migrate.model.settings import SourceConfig
from migrate.model.values import Cell, Column, ColumnRead, Fault, Key, KeyPart, Kind, Table
from migrate.source.dialects.base import (
    PORTION,
    Decoded,
    Keyed,
    Raw,
    Relation,
    SourceFacts,
    places_of,
)
from migrate.source.dialects.sqlite_cells import (
    KEY_SPELLINGS,
    Undecoded,
    converter,
    kind_of,
    scale_of,
)
from migrate.source.dialects.sqlite_lines import AT_ONCE, StoredLines
from migrate.source.retry import TroubleKind, classify

BUSY_TIMEOUT_S = 5.0
"""SQLite's own wait for a writer, before the source counts as busy."""

_REAL = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?")
_INFINITE = "9e999"
"""SQLite's own spelling of a number beyond all doubles."""

_COLUMNS = sa.text(
    'SELECT name, type, "notnull" AS required, dflt_value, pk, hidden '
    "FROM pragma_table_xinfo(:name, :schema) ORDER BY cid"
)
_INDEXES = sa.text(
    'SELECT name, origin, "unique" AS is_unique FROM pragma_index_list(:name, :schema) '
    "WHERE NOT partial ORDER BY seq"
)
_INDEXED = sa.text(
    "SELECT cid, name, coll FROM pragma_index_xinfo(:name, :schema) WHERE key ORDER BY seqno"
)

_STORED = "migrate_stored"
"""Our name in SQL for `_stored`."""

_ENCODING: sa.ColumnElement[Any] = sa.literal_column("(SELECT encoding FROM pragma_encoding)")

_OTHER_SPELLING = (
    "a key column holds a time that is not of the form YYYY-MM-DD HH:MM:SS[.F], without zeros at "
    "the end of F: another row may have the same time in another form"
)

_STORAGE: Mapping[Kind, tuple[str, ...]] = {
    Kind.TEXT: ("text",),
    Kind.BYTES: ("blob",),
    Kind.LITERAL: ("integer",),
}
_STORAGE_ELSE = ("integer", "real", "text")
"""Storage that pages can stand on, because it can be bound again in the column's order."""


@dataclass(frozen=True, slots=True)
class SQLite:
    """
    SQLite through the standard library.
    """

    name: str = "sqlite"
    drivers: tuple[str, ...] = ("pysqlite",)
    compares_rows: bool = True

    def engine(self, config: SourceConfig) -> sa.Engine:
        """
        An engine that opens the file read-only and never makes one.

        Raises:
            InvalidInput: There is no such file.
        """
        path = Path(config.database or "")
        if not config.database or not path.is_file():
            raise InvalidInput(
                "The SQLite file of the source does not exist.",
                where={"path": config.database or ""},
                next_step="Correct the path of `source` in migrate.yaml; it is relative to where "
                "the command runs.",
            )
        options = {**config.options, "mode": "ro"}
        uri = f"file:{quote(str(path.absolute()))}?{urlencode(options)}"

        def connect() -> sqlite3.Connection:
            connection = sqlite3.connect(
                uri,
                uri=True,
                timeout=BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
            )
            connection.create_function(_STORED, 2, _stored, deterministic=True)
            return connection

        return sa.create_engine(
            "sqlite://",
            creator=connect,
            poolclass=QueuePool,
            pool_size=1,
            max_overflow=4,
            hide_parameters=True,
        )

    def begin(self, connection: sa.Connection) -> None:
        """
        Start a transaction: its first read fixes the snapshot.
        """
        connection.exec_driver_sql("BEGIN")

    def begin_steady(self, connection: sa.Connection, relations: Sequence[Relation]) -> None:
        """
        The same: a transaction of SQLite is one snapshot, definitions included.
        """
        self.begin(connection)

    def facts(self, connection: sa.Connection) -> SourceFacts:
        """
        What the library says; the clock is this machine's.
        """
        version, now = connection.exec_driver_sql(
            "SELECT sqlite_version(), (julianday('now') - 2440587.5) * 86400.0"
        ).one()
        connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
        return SourceFacts(self.name, version, now, read_only=True, replica=False)

    def tables(self, connection: sa.Connection, schema: str | None) -> list[str]:
        """
        Names of all tables and views but SQLite's own.
        """
        master = sa.table("sqlite_master", sa.column("name"), sa.column("type"), schema=schema)
        statement = (
            sa.select(master.c.name)
            .where(master.c.type.in_(["table", "view"]))
            .where(sa.func.substr(master.c.name, 1, 7) != "sqlite_")
            .order_by(master.c.name)
        )
        return list(connection.execute(statement).scalars())

    def relation(self, connection: sa.Connection, schema: str | None, name: str) -> Relation | None:
        """
        The table or view of this name; SQLite does not tell upper from lower case in it.
        """
        at = {"name": name, "schema": schema or "main"}
        found = self._master(connection, schema, name)
        if found is None:
            return None
        rows = [dict(row) for row in connection.execute(_COLUMNS, at).mappings()]
        indexes = connection.execute(_INDEXES, at).all()
        primary = tuple(row["name"] for row in sorted(rows, key=lambda r: r["pk"]) if row["pk"])
        alias = _rowid_alias(rows, [origin for _, origin, _ in indexes])
        unique = [primary] if alias else []
        leading = [primary] if alias is not None else []
        for index, origin, is_unique in indexes:
            columns = self._indexed(connection, index, schema)
            names = tuple(column for column, _ in columns)
            leading.append(tuple(takewhile(lambda name: name is not None, names)))
            if is_unique and self._keeps_apart(connection, schema, name, columns):
                unique.insert(0 if origin == "pk" else len(unique), tuple(filter(None, names)))
        table = Table(
            schema=schema,
            name=name,
            columns=tuple(_column(row, alias) for row in rows if row["hidden"] != 1),
            primary_key=primary,
            unique=tuple(unique),
            relation=found,
            indexes=tuple(leading),
        )
        return Relation(
            table=table,
            stamp=self._stamp(connection),
            identity=found,
            control=self._master(connection, None, "migrate_ctl") is not None,
            places={column.name: place for place, column in enumerate(table.columns)},
        )

    def _master(self, connection: sa.Connection, schema: str | None, name: str) -> str | None:
        master = sa.table("sqlite_master", sa.column("name"), sa.column("type"), schema=schema)
        statement = (
            sa.select(master.c.type)
            .where(sa.func.lower(master.c.name) == sa.func.lower(name))
            .where(master.c.type.in_(["table", "view"]))
        )
        found: str | None = connection.execute(statement).scalar()
        return found

    def _indexed(
        self, connection: sa.Connection, index: str, schema: str | None
    ) -> list[tuple[str | None, str]]:
        """
        The columns of an index with their collations; None for a row's number or an expression.
        """
        rows = connection.execute(_INDEXED, {"name": index, "schema": schema or "main"}).all()
        return [(name if cid >= 0 else None, collation) for cid, name, collation in rows]

    def _keeps_apart(
        self,
        connection: sa.Connection,
        schema: str | None,
        table: str,
        columns: Sequence[tuple[str | None, str]],
    ) -> bool:
        """
        Whether a unique index tells apart what its columns' own order tells apart, and no more.
        """
        # Keys that the column's order holds for equal would hide each other between two pages.
        return all(
            name is not None
            and self._collation(connection, schema, table, name) in ("BINARY", collation.upper())
            for name, collation in columns
        )

    def _collation(
        self, connection: sa.Connection, schema: str | None, table: str, column: str
    ) -> str:
        """
        By which collation a column compares. No catalogue says so: a union takes that of its first.
        """
        place = sa.table(table, sa.column(column), schema=schema)
        none = sa.select(place.c[column]).where(sa.literal_column("0"))
        for other, name in (("A", "NOCASE"), ("a ", "RTRIM")):
            texts = (sa.select(sa.literal(text)) for text in ("a", other))
            pair = sa.union(none, *texts).subquery()
            if connection.execute(sa.select(sa.func.count()).select_from(pair)).scalar() == 1:
                return name
        return "BINARY"

    def stamp(self, connection: sa.Connection, relation: Relation) -> Hashable:
        """
        SQLite's own count of changes to any table's definition.
        """
        return self._stamp(connection)

    def _stamp(self, connection: sa.Connection) -> Hashable:
        return connection.exec_driver_sql("PRAGMA schema_version").scalar()

    def missing(
        self, connection: sa.Connection, relation: Relation, columns: Sequence[str]
    ) -> list[str]:
        """
        Nothing: who can open the file can read all of it.
        """
        return []

    def fetch(
        self, connection: sa.Connection, statement: sa.Select[Any], parameters: Mapping[str, Any]
    ) -> Sequence[Raw]:
        """
        All rows as the driver's own tuples.

        Texts are decoded by the driver; only a page with one that is not UTF-8 is read once more,
        in the same snapshot, by a decoder that marks it.
        """
        try:
            return _fetch(connection, statement, parameters)
        except (sqlite3.Error, sa.exc.DBAPIError) as exc:
            trouble = classify(exc)
            if trouble is None or trouble.kind is not TroubleKind.UNREADABLE:
                raise
        driver: Any = connection.connection.dbapi_connection
        driver.text_factory = _careful
        try:
            return _fetch(connection, statement, parameters)
        finally:
            driver.text_factory = str

    def portions(
        self,
        connection: sa.Connection,
        statement: sa.Select[Any],
        parameters: Mapping[str, Any],
        at_once: int = PORTION,
    ) -> Iterator[Sequence[Raw]]:
        """
        Rows as the driver steps to them; from a text that is not UTF-8 on by the marking decoder.
        """
        given = 0
        try:
            for rows in _stream(connection, statement, parameters, at_once):
                yield rows
                given += len(rows)
        except (sqlite3.Error, sa.exc.DBAPIError) as exc:
            trouble = classify(exc)
            if trouble is None or trouble.kind is not TroubleKind.UNREADABLE:
                raise
        else:
            return
        driver: Any = connection.connection.dbapi_connection
        driver.text_factory = _careful
        try:
            # The same snapshot and order: what was handed over is passed by.
            for rows in _stream(connection, statement, parameters, at_once):
                yield rows[given:]
                given = max(0, given - len(rows))
        finally:
            driver.text_factory = str

    def cell(
        self, relation: Relation, read: ColumnRead, column: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[Any]:
        """
        The value as it is stored.
        """
        return column

    def lines(
        self, relation: Relation, reads: Sequence[ColumnRead], key: Sequence[Column]
    ) -> StoredLines:
        """
        What is stored, looked at column by column.
        """
        places = places_of([ColumnRead(read.column) for read in reads], key)
        beside = [column.name for column, place in zip(key, places, strict=True) if place is None]
        behind = iter(range(len(reads), len(reads) + len(beside)))
        return StoredLines(
            tuple(reads),
            tuple(map(converter, reads)),
            tuple(next(behind) if place is None else place for place in places),
            tuple(beside),
            self.keyer(key),
            partial(self.portions, at_once=AT_ONCE),
        )

    def decoder(self, reads: Sequence[ColumnRead]) -> Callable[[Sequence[Raw]], Decoded]:
        """
        Checks each value against what its column was declared to hold.
        """
        converters = [converter(read) for read in reads]

        def decode(rows: Sequence[Raw]) -> Decoded:
            faults: dict[int, Fault] = {}
            columns: list[Sequence[Cell]] = []
            for convert, values in zip(converters, zip(*rows, strict=True), strict=True):
                cells, found = convert(values)
                columns.append(cells)
                if found:
                    faults = found | faults
            return list(zip(*columns, strict=True)), faults

        return lambda rows: decode(rows) if rows else ((), {})

    def keyer(self, columns: Sequence[Column]) -> Callable[[Sequence[Raw]], Keyed]:
        """
        Integers, texts and binary values as they are; a real number as text, with a fault.

        A moment in another spelling than the usual one is a fault as well: the same moment may be
        another row's key, and SQLite tells the two texts apart where a record key could not.
        """
        wanted = [bytes if column.kind is Kind.BYTES else None for column in columns]
        spelled = any(column.kind in KEY_SPELLINGS for column in columns)

        def keys(rows: Sequence[Raw]) -> Keyed:
            types = set(map(type, chain.from_iterable(rows)))
            plain = types <= {int, str} and not spelled
            if plain or (types == {bytes} and all(wanted)):
                return list(map(tuple, rows)), {}
            found: list[Key] = []
            faults: dict[int, Fault] = {}
            for position, row in enumerate(rows):
                found.append(tuple(_part(value) for value in row))
                faults.update(_key_faults(position, columns, row))
            return found, faults

        return keys

    def key_bind(self, relation: Relation, column: Column, name: str) -> sa.ColumnElement[Any]:
        """
        A parameter as it is; bytes in a column of another kind are a text that is not UTF-8.
        """
        plain: sa.ColumnElement[Any] = sa.bindparam(name, type_=NullType())
        if column.kind is Kind.BYTES:
            return plain
        # The driver gives every text as UTF-8, but a cast takes bytes for the file's encoding.
        stored = getattr(sa.func, _STORED)(plain, _ENCODING)
        return sa.case(
            (sa.func.typeof(plain) == sa.literal_column("'blob'"), sa.cast(stored, sa.Text())),
            else_=plain,
        )

    def key_value(self, column: Column, part: KeyPart) -> object:
        """
        The part itself; a real number is read back from its text, exactly.
        """
        if type(part) is not str or column.kind in (Kind.TEXT, Kind.BYTES):
            return part
        exact = _REAL.fullmatch(part) and ("." in part or "e" in part)
        return float(part) if exact else part

    def key_text(
        self, relation: Relation, column: Column, expression: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[str]:
        """
        The value as text; binary columns in hex digits.
        """
        if column.kind is Kind.BYTES:
            return sa.func.lower(sa.func.hex(expression), type_=sa.Text())
        return sa.cast(expression, sa.Text())

    def told_apart(
        self, relation: Relation, column: Column, expression: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[Any]:
        """
        The digits of its text, whatever the collation; 1 and 1.0 are two.
        """
        return sa.func.hex(expression)

    def usable(
        self, column: Column, expression: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[bool] | None:
        """
        Storage that can be bound again in the column's order: never NULL, never another family.

        Asked of NOT NULL columns too: that they hold what they are declared for is not checked.
        """
        allowed = _STORAGE.get(column.kind, _STORAGE_ELSE)
        return sa.func.typeof(expression).in_([sa.literal_column(f"'{name}'") for name in allowed])

    def literal(
        self, relation: Relation, column: Column | None, constant: Constant
    ) -> sa.ColumnElement[Any]:
        """
        The value itself; SQLite applies the column's affinity to it.
        """
        value: Any = constant.value
        if isinstance(value, bool):
            value = int(value)
        elif isinstance(value, int):
            value = value if abs(value) < 2**63 else float(value)
        elif value is not None and not isinstance(value, str):
            value = float(value)
        return sa.bindparam(None, value, type_=NullType(), unique=True)

    def part(
        self, connection: sa.Connection, relation: Relation, table: sa.TableClause, rows: int
    ) -> sa.FromClause | None:
        """
        None: a pass over the key's index is cheap enough.
        """
        return None

    def chance(self, share: float) -> sa.ColumnElement[bool]:
        """
        True for about this share of rows.
        """
        million = 1_000_000
        drawn = sa.func.abs(sa.func.random() % million, type_=sa.Integer())
        return drawn < sa.literal(max(1, int(share * million)), sa.Integer())

    def estimate(self, connection: sa.Connection, relation: Relation) -> int | None:
        """
        None: counting is what SQLite can do.
        """
        return None

    def page_problems(
        self,
        connection: sa.Connection,
        relation: Relation,
        key: Sequence[str],
        statement: sa.Select[Any],
        parameters: Mapping[str, Any],
    ) -> list[str]:
        """
        What the query plan says about sorting.
        """
        compiled = statement.compile(
            dialect=connection.dialect, compile_kwargs={"render_postcompile": True}
        )
        values = compiled.construct_params(dict(parameters))
        names = getattr(compiled, "positiontup", None) or []
        rows = connection.exec_driver_sql(
            f"EXPLAIN QUERY PLAN {compiled}", tuple(values[name] for name in names)
        ).all()
        if any("TEMP B-TREE FOR ORDER BY" in str(row[-1]) for row in rows):
            return ["each page sorts: no index has the order of the key columns"]
        return []


def _fetch(
    connection: sa.Connection, statement: sa.Select[Any], parameters: Mapping[str, Any]
) -> Sequence[Raw]:
    result = connection.execute(statement, parameters)
    cursor: Any = result.cursor
    rows: list[Raw] = cursor.fetchall()
    result.close()
    return rows


def _stream(
    connection: sa.Connection,
    statement: sa.Select[Any],
    parameters: Mapping[str, Any],
    at_once: int,
) -> Iterator[Sequence[Raw]]:
    result = connection.execute(statement, parameters)
    try:
        cursor: Any = result.cursor
        while rows := cursor.fetchmany(at_once):
            yield rows
    finally:
        result.close()


def _stored(text: bytes, encoding: str) -> bytes:
    """
    The bytes that a file of this encoding holds for a text of which the driver gave these.
    """
    if encoding == "UTF-8":
        return text
    order = "utf-16-le" if encoding == "UTF-16le" else "utf-16-be"
    return text.decode("utf-8", "surrogatepass").encode(order, "surrogatepass")


def _careful(text: bytes) -> str | Undecoded:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return Undecoded(text)


def _column(row: Mapping[str, Any], alias: str | None) -> Column:
    declared = row["type"]
    kind = kind_of(declared)
    return Column(
        name=row["name"],
        type=declared,
        kind=kind,
        nullable=not row["required"] and row["name"] != alias,
        scale=scale_of(declared) if kind is Kind.DECIMAL else None,
        supplied=row["dflt_value"] is not None or bool(row["hidden"]) or row["name"] == alias,
        generated=bool(row["hidden"]),
    )


def _rowid_alias(rows: Sequence[Mapping[str, Any]], origins: Sequence[str]) -> str | None:
    # An INTEGER PRIMARY KEY is the row's number itself exactly where it has no index of its own.
    primary = [row for row in rows if row["pk"]]
    if len(primary) != 1 or "pk" in origins or primary[0]["type"].upper() != "INTEGER":
        return None
    name: str = primary[0]["name"]
    return name


def _part(value: Any) -> KeyPart:
    if type(value) is float:
        text = repr(value)
        return _INFINITE if text == "inf" else f"-{_INFINITE}" if text == "-inf" else text
    if type(value) is Undecoded:
        return bytes(value)
    part: KeyPart = value
    return part


def _key_faults(position: int, columns: Sequence[Column], row: Raw) -> dict[int, Fault]:
    for column, value in zip(columns, row, strict=True):
        fault = _key_fault(column, value)
        if fault is not None:
            return {position: Fault(column.name, *fault)}
    return {}


def _key_fault(column: Column, value: Any) -> tuple[str, str] | None:
    if type(value) is float:
        return "wrong-type", "a key column holds a real number"
    if type(value) is Undecoded:
        return "invalid-utf8", "a key column holds text that is not UTF-8"
    spelling = KEY_SPELLINGS.get(column.kind)
    if spelling is not None and type(value) is str and not spelling.fullmatch(value):
        return "ambiguous", _OTHER_SPELLING
    return None
