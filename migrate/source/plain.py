"""
Reads values a second way, for a verification that shares nothing with what wrote the records.

Each dialect is asked for the value by another expression than the backfill's (hexadecimal digits of
texts, parts of dates by name), and what comes is spelled as a cell by rules of this module alone.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from migrate.errors import SchemaDrift
from migrate.model.ports import Query
from migrate.model.values import Cell, Column, ColumnRead, Key, Kind
from migrate.source.connect import Connections
from migrate.source.control import MARK, VER, key_text
from migrate.source.dialects.base import Relation
from migrate.source.dialects.mysql_cells import labels_of
from migrate.source.dialects.postgresql import ServerType
from migrate.source.dialects.spelling import float_text, single_text
from migrate.source.extract import FETCH_AT_ONCE, KEYS_ALIKE, Statements

INDEPENDENT = frozenset(
    {
        *(Kind.INTEGER, Kind.DECIMAL, Kind.FLOAT, Kind.BOOLEAN, Kind.TEXT, Kind.BYTES, Kind.DATE),
        *(Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ, Kind.UUID, Kind.ENUM, Kind.JSON),
    }
)
"""Kinds that are read a second way; others only by the text that the backfill reads."""

_ZONES = {"sqlite": "+00:00", "postgresql": "+00", "mysql": "", "mariadb": ""}

_TRUTHS = {"t": "true", "f": "false", "true": "true", "false": "false", "1": "true", "0": "false"}


@dataclass(frozen=True, slots=True)
class History:
    """
    What capture knows of an entity.

    Args:
        version: Number of its changes, as a version; empty without capture.

        dirty: Some of them were not applied yet.
    """

    version: str = ""
    dirty: bool = False


class PlainReader:
    """
    Reads the root columns of rows by their keys, by expressions of its own.
    """

    def __init__(self, connections: Connections, query: Query) -> None:
        self._connections = connections
        self._dialect = connections.dialect
        self._query = replace(query, children=())
        self._relation = connections.run(self._look)
        self._sql = Statements.of(self._dialect, self._relation, self._query)
        self._keys = self._dialect.keyer(self._sql.keys)
        self._kept: dict[int, sa.Select[Any]] = {}
        self._labels: dict[str, frozenset[str]] = {}
        self._expression, self._spell = _WAYS[self._dialect.name]

    def same_way(self) -> list[str]:
        """
        Columns that are read by the same text as the backfill's, because of their types.
        """
        return [read.column.name for read in self._query.columns if not is_other(read)]

    def cells(self, keys: Sequence[Key]) -> dict[Key, tuple[Cell, ...]]:
        """
        The cells of the rows that exist and pass the filter, in the order of the query's columns.
        """
        found: dict[Key, tuple[Cell, ...]] = {}
        for start in range(0, len(keys), FETCH_AT_ONCE):
            part = filled_up(keys[start : start + FETCH_AT_ONCE])
            found |= self._connections.run(partial(self._cells, keys=part))
        return found

    def bound(self, key: Key) -> Key:
        """
        A key of cells as this source takes it in a comparison: it spells zones in its own way.
        """
        ends = _ZONES[self._dialect.name]
        return tuple(
            part.removesuffix("+00") + ends
            # An infinity has no zone, and PostgreSQL 16 and later refuses one behind it.
            if column.kind is Kind.TIMESTAMPTZ and isinstance(part, str) and part.endswith("+00")
            else part
            for column, part in zip(self._sql.keys, key, strict=True)
        )

    def can_be(self, key: Key) -> bool:
        """
        Whether a row can have this key: a server refuses a text that is none of the type.
        """
        return all(
            self._can_be(column, str(part))
            for column, part in zip(self._sql.keys, key, strict=True)
        )

    def _can_be(self, column: Column, text: str) -> bool:
        if column.kind is Kind.ENUM:
            return self._is_label(column, text)
        # A domain's own type is the one that it is over.
        bound = replace(column, type=self._relation.bind_types.get(column.name, column.type))
        return _TAKES[self._dialect.name](bound, text)

    def _is_label(self, column: Column, text: str) -> bool:
        """
        Whether an ENUM lists this text; PostgreSQL is asked again, because labels are added.
        """
        if self._dialect.name != "postgresql":
            return not text or text in labels_of(column)
        if text not in self._labels.get(column.name, ()):
            self._labels[column.name] = self._connections.run(partial(self._listed, column=column))
        return text in self._labels[column.name]

    def _listed(self, connection: sa.Connection, column: Column) -> frozenset[str]:
        bound = sa.cast(sa.null(), ServerType(self._relation.bind_types[column.name]))
        labels = sa.func.unnest(sa.func.enum_range(bound))
        return frozenset(connection.scalars(sa.select(sa.cast(labels, sa.Text()))))

    def history(self, keys: Sequence[Key]) -> dict[Key, History]:
        """
        What capture knows of these keys; empty where there is none.
        """
        if not self._relation.control or not keys:
            return {}
        return self._connections.run(lambda connection: self._history(connection, keys))

    def is_captured(self) -> bool:
        """
        Whether changes of these rows are captured.
        """
        return self._relation.control and bool(self._connections.run(self._generation))

    def _look(self, connection: sa.Connection) -> Relation:
        relation = self._dialect.relation(connection, self._query.schema, self._query.table)
        if relation is None:
            raise SchemaDrift(
                "The table is not there any more.",
                where={"table": self._query.table},
                next_step="Compare the mapping with the source: profile-migrate doctor",
            )
        return relation

    def _cells(self, connection: sa.Connection, keys: Sequence[Key]) -> dict[Key, tuple[Cell, ...]]:
        sql = self._sql
        width = len(sql.keys)
        parameters: dict[str, object] = {}
        for place, key in enumerate(keys):
            parameters.update(sql.values(f"k{place}", key))
        raw = self._dialect.fetch(connection, self._statement(len(keys)), parameters)
        found = self._keys([row[:width] for row in raw])[0]
        fallback = self._fallback([row[width:] for row in raw])
        return {
            key: tuple(
                self._spell(one.column, value) if is_other(one) else before[at]
                for at, (one, value) in enumerate(
                    zip(self._query.columns, row[width:], strict=True)
                )
            )
            for key, row, before in zip(found, raw, fallback, strict=True)
        }

    def _statement(self, count: int) -> sa.Select[Any]:
        if count in self._kept:
            return self._kept[count]
        sql = self._sql
        rows = sql.table
        own = [
            self._dialect.cell(self._relation, ColumnRead(column), rows.c[column.name])
            for column in sql.keys
        ]
        read = [self._select(one, rows.c[one.column.name]) for one in self._query.columns]
        statement = (
            sa.select(*(part.label(f"p{at}") for at, part in enumerate([*own, *read])))
            .select_from(rows)
            .where(*sql.rows(rows), sql.matches(count))
        )
        self._kept[count] = statement
        return statement

    def _select(self, read: ColumnRead, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        if is_other(read):
            return self._expression(read.column, column)
        return self._dialect.cell(self._relation, read, column)

    def _fallback(self, rows: Sequence[Sequence[Any]]) -> Sequence[Sequence[Cell]]:
        """
        The cells of columns that are not read another way, and nothing in the others.
        """
        places = [at for at, one in enumerate(self._query.columns) if not is_other(one)]
        if not places:
            return [()] * len(rows)
        decode = self._dialect.decoder([self._query.columns[at] for at in places])
        cells, _ = decode([[row[at] for at in places] for row in rows])
        width = len(self._query.columns)
        wide: list[list[Cell]] = [[None] * width for _ in rows]
        for line, given in zip(wide, cells, strict=True):
            for at, cell in zip(places, given, strict=True):
                line[at] = cell
        return wide

    def _generation(self, connection: sa.Connection) -> int:
        return int(connection.scalar(sa.select(self._sql.generation())) or 0)

    def _history(self, connection: sa.Connection, keys: Sequence[Key]) -> dict[Key, History]:
        generation = self._generation(connection)
        if not generation:
            return {}
        texts = {key_text(key): key for key in keys}
        name = self._query.mapping
        # Marks first: one that is folded in between is counted twice, and never lost.
        marks = self._counted(
            connection,
            sa.select(MARK.c.pk, sa.func.count()).where(MARK.c.mapping == name).group_by(MARK.c.pk),
            MARK.c.pk,
            texts,
        )
        folded = self._counted(
            connection, sa.select(VER.c.pk, VER.c.n).where(VER.c.mapping == name), VER.c.pk, texts
        )
        known = marks.keys() | folded.keys()
        block = generation * 10**12
        return {
            texts[text]: History(
                str(block + folded.get(text, 0) + marks.get(text, 0)), dirty=text in marks
            )
            for text in known
        }

    def _counted(
        self,
        connection: sa.Connection,
        statement: sa.Select[Any],
        column: sa.ColumnElement[Any],
        texts: Mapping[str, Key],
    ) -> dict[str, int]:
        # MariaDB and MySQL keep an entity as its bytes.
        binary = self._dialect.name in ("mysql", "mariadb")
        wanted = [text.encode() if binary else text for text in texts]
        rows = connection.execute(statement.where(column.in_(wanted))).all()
        return {pk.decode() if isinstance(pk, bytes) else pk: int(count) for pk, count in rows}


def _postgresql_takes(column: Column, text: str) -> bool:
    match column.kind:
        case Kind.INTEGER:
            return _fits(text, _RANGES.get(column.type, _WIDEST))
        case Kind.DECIMAL:
            return column.scale is None or not text.endswith("Infinity")
        case Kind.TEXT:
            return "\x00" not in text
        case Kind.UUID:
            return _UUID.fullmatch(text) is not None
        case Kind.TIME | Kind.TIMESTAMP | Kind.TIMESTAMPTZ:
            return _has_clock(text)
        case _:
            return True


def _mysql_takes(column: Column, text: str) -> bool:
    match column.kind:
        case Kind.INTEGER:
            return _fits(text, _UNSIGNED)
        case Kind.DECIMAL:
            return text[-1].isdigit()
        case Kind.UUID:
            return _UUID.fullmatch(text) is not None
        case Kind.DATE | Kind.TIMESTAMP | Kind.TIMESTAMPTZ:
            return not text.endswith("infinity") and _has_clock(text)
        case _:
            return True


def _sqlite_takes(column: Column, text: str) -> bool:
    return column.kind is not Kind.INTEGER or _fits(text, _WIDEST)


_TAKES: Mapping[str, Callable[[Column, str], bool]] = {
    "sqlite": _sqlite_takes,
    "postgresql": _postgresql_takes,
    "mysql": _mysql_takes,
    "mariadb": _mysql_takes,
}
"""What a key's text has to be, beyond the form that its codec demands."""

_CLOCK = re.compile(r"\d\d:(\d\d):(\d\d)")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_WIDEST = (-(2**63), 2**63 - 1)
_UNSIGNED = (-(2**63), 2**64 - 1)
_RANGES = {"smallint": (-(2**15), 2**15 - 1), "integer": (-(2**31), 2**31 - 1)}


def _fits(text: str, bounds: tuple[int, int]) -> bool:
    low, high = bounds
    return low <= int(text) <= high


def _has_clock(text: str) -> bool:
    """
    Whether the time of day in a text is one; a date alone has none that is wrong.
    """
    found = _CLOCK.search(text)
    if found is None or text == "24:00:00":
        return True
    return found[0] < "24" and all(part < "60" for part in found.groups())


def filled_up(keys: Sequence[Key]) -> Sequence[Key]:
    """
    The same keys, the last one repeated up to a round number: few statements serve all.
    """
    return [*keys, *[keys[-1]] * (-len(keys) % KEYS_ALIKE)] if keys else keys


def is_other(read: ColumnRead) -> bool:
    """
    Whether a column is read a second way.
    """
    return read.column.kind in INDEPENDENT and not read.verbatim


# --- PostgreSQL ----------------------------------------------------------------------------------


def _postgresql(column: Column, value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """
    What the type's output function prints, and not the cast to text; digits of binary values.
    """
    if column.kind is Kind.BYTES:
        return sa.func.encode(value, "hex")
    if column.kind in (Kind.TEXT, Kind.ENUM):
        printed = sa.func.convert_to(sa.func.concat(value), "UTF8")
        return sa.case((value.is_not(None), sa.func.encode(printed, "hex")))
    return sa.case((value.is_not(None), sa.func.concat(value)))


def _from_postgresql(column: Column, value: Any) -> Cell:
    if value is None:
        return None
    if column.kind is Kind.BYTES:
        return bytes.fromhex(value)
    if column.kind in (Kind.TEXT, Kind.ENUM):
        return bytes.fromhex(value).decode()
    return _TRUTHS[value] if column.kind is Kind.BOOLEAN else str(value)


# --- MariaDB and MySQL ---------------------------------------------------------------------------


def mysql_expression(column: Column, value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """
    Digits of texts, Base64 of binary values, and parts of dates and times by their names.
    """
    match column.kind:
        case Kind.BYTES:
            return sa.func.to_base64(value)
        case Kind.TEXT | Kind.ENUM | Kind.JSON | Kind.UUID:
            return sa.func.hex(sa.cast(value, mysql.CHAR(charset="utf8mb4")))
        case Kind.DATE:
            return sa.func.date_format(value, "%Y-%m-%d")
        case Kind.TIME:
            return sa.func.time_format(value, "%H:%i:%s.%f")
        case Kind.TIMESTAMP | Kind.TIMESTAMPTZ:
            return sa.func.date_format(value, "%Y-%m-%d %H:%i:%s.%f")
        case Kind.FLOAT:
            return sa.func.concat(value * sa.literal_column("1e0"))
        case _:
            return sa.func.concat(value)


def _from_mysql(column: Column, value: Any) -> Cell:
    if value is None:
        return None
    text = value.decode() if isinstance(value, bytes) else str(value)
    match column.kind:
        case Kind.BYTES:
            return binascii.a2b_base64(text)
        case Kind.TEXT | Kind.ENUM | Kind.JSON | Kind.UUID:
            return bytes.fromhex(text).decode()
        case Kind.TIMESTAMPTZ:
            return _trimmed(text) + "+00"
        case Kind.TIME | Kind.TIMESTAMP:
            return _trimmed(text)
        case Kind.FLOAT:
            single = column.type.lower().startswith("float")
            return (single_text if single else float_text)(float(text))
        case Kind.BOOLEAN:
            return _TRUTHS.get(text, text)
        case Kind.INTEGER:
            return str(int(text))
        case Kind.DECIMAL:
            return format(Decimal(text), "f")
        case _:
            return text


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


# --- SQLite --------------------------------------------------------------------------------------


def _sqlite(column: Column, value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:  # noqa: ARG001
    """
    The type that SQLite itself names, with digits of texts and binary values.
    """
    kind = sa.func.typeof(value)
    return sa.case(
        (kind == "text", sa.literal("t").concat(sa.func.hex(value))),
        (kind == "blob", sa.literal("b").concat(sa.func.hex(value))),
        (kind == "integer", sa.literal("i").concat(sa.cast(value, sa.Text()))),
        (kind == "real", value),
    )


def _from_sqlite(column: Column, value: Any) -> Cell:
    if value is None:
        return None
    if isinstance(value, float):
        return _real(column, value)
    tag, rest = value[0], value[1:]
    if tag == "b":
        return bytes.fromhex(rest)
    if tag == "i":
        return _whole(column, rest)
    return _moment(column, bytes.fromhex(rest).decode(errors="surrogateescape"))


def _real(column: Column, value: float) -> str:
    if column.kind is Kind.DECIMAL:
        return _padded(format(Decimal(repr(value)), "f").removesuffix(".0"), column.scale)
    return repr(value) if column.kind is Kind.JSON else float_text(value)


def _whole(column: Column, digits: str) -> str:
    match column.kind:
        case Kind.BOOLEAN:
            return _TRUTHS.get(digits, digits)
        case Kind.FLOAT:
            return float_text(float(digits))
        case Kind.DECIMAL:
            return _padded(digits, column.scale)
        case _:
            return digits


def _padded(text: str, scale: int | None) -> str:
    whole, _, fraction = text.partition(".")
    fraction = fraction.ljust(scale or 0, "0")
    return f"{whole}.{fraction}" if fraction else whole


def _moment(column: Column, text: str) -> str:
    """
    A text, or the moment that it spells in one of several ways.
    """
    try:
        match column.kind:
            case Kind.BOOLEAN:
                return _TRUTHS.get(text.lower(), text)
            case Kind.DATE:
                return date.fromisoformat(text).isoformat()
            case Kind.TIME:
                return _trimmed(time.fromisoformat(text).isoformat())
            case Kind.TIMESTAMP:
                return _trimmed(datetime.fromisoformat(text).isoformat(" "))
            case Kind.TIMESTAMPTZ:
                moment = datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)
                return _trimmed(moment.isoformat(" ")) + "+00"
    except (ValueError, OverflowError):
        # No record can be equal to it.
        return text
    return text


_Way = tuple[
    Callable[[Column, sa.ColumnElement[Any]], sa.ColumnElement[Any]], Callable[[Column, Any], Cell]
]

_WAYS: Mapping[str, _Way] = {
    "sqlite": (_sqlite, _from_sqlite),
    "postgresql": (_postgresql, _from_postgresql),
    "mysql": (mysql_expression, _from_mysql),
    "mariadb": (mysql_expression, _from_mysql),
}
