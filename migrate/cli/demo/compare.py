"""
Compares every sample row with its record by rules of its own; what it says is the demo's verdict.

It reads SQLite with the standard library and Redis over a bare socket, and shares no code with
what wrote the records: no mapping, no codec, no source, no target. It knows one table only.
"""

from __future__ import annotations

import re
import sqlite3
import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

from migrate.cli.demo.resp import Connection, Reply

BUNDLE = 500
"""Rows compared at once."""

SqlValue = int | float | bytes
"""As SQLite keeps it; text is its bytes."""


@dataclass(frozen=True, slots=True)
class Difference:
    """
    One thing that is not as SQL has it. Names the key and the field, never a value.
    """

    key: str
    field: str
    kind: str

    def __str__(self) -> str:
        return f"{self.key} {self.field}: {self.kind}" if self.field else f"{self.key}: {self.kind}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    What was compared and what differs.

    Args:
        rows: Rows that the mapping's filter lets through.

        records: Keys found in Redis, the tool's own bookkeeping aside.

        fields: Values compared, NULL against absence included.
    """

    rows: int
    records: int
    fields: int
    differences: tuple[Difference, ...]


def _is_text(sql: SqlValue, stored: bytes) -> bool:
    return stored == sql


def _is_integer(sql: SqlValue, stored: bytes) -> bool:
    return re.fullmatch(rb"-?\d+", stored) is not None and int(stored) == sql


def _is_decimal(sql: SqlValue, stored: bytes) -> bool:
    if re.fullmatch(rb"-?\d+\.\d{4}", stored) is None or isinstance(sql, bytes):
        return False
    # repr: SQLite keeps the number nearest to the decimal, and repr is that decimal again.
    return Decimal(stored.decode()) == Decimal(repr(sql))


def _is_float(sql: SqlValue, stored: bytes) -> bool:
    if re.fullmatch(rb"-?(\d+(\.\d+)?(e[+-]\d+)?|Infinity)", stored) is None:
        return False
    # By their bits, so that 0.0 and -0.0 differ.
    return struct.pack(">d", float(stored)) == struct.pack(">d", float(sql))


def _is_boolean(sql: SqlValue, stored: bytes) -> bool:
    return {b"0": 0, b"1": 1}.get(stored) == sql


def _is_date(sql: SqlValue, stored: bytes) -> bool:
    return _date(stored) is not None and _date(stored) == _date(sql)


def _date(text: SqlValue) -> date | None:
    if not isinstance(text, bytes) or re.fullmatch(rb"\d{4}-\d\d-\d\d", text) is None:
        return None
    return date.fromisoformat(text.decode())


_STAMP = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?"


def _is_instant(sql: SqlValue, stored: bytes) -> bool:
    if re.fullmatch(_STAMP + b"Z", stored) is None or not isinstance(sql, bytes):
        return False
    instant = datetime.fromisoformat(sql.decode())
    return instant.tzinfo is not None and instant == datetime.fromisoformat(stored.decode())


def _is_clock_time(sql: SqlValue, stored: bytes) -> bool:
    if re.fullmatch(_STAMP, stored) is None or not isinstance(sql, bytes):
        return False
    return datetime.fromisoformat(sql.decode()) == datetime.fromisoformat(stored.decode())


FIELDS: dict[str, tuple[str, Callable[[SqlValue, bytes], bool]]] = {
    "id": ("id", _is_integer),
    "email": ("email_address", _is_text),
    "display_name": ("display_name", _is_text),
    "locale": ("locale", _is_text),
    "bio": ("bio", _is_text),
    "birth_date": ("birth_date", _is_date),
    "score": ("score", _is_decimal),
    "follower_count": ("follower_count", _is_integer),
    "rating": ("rating", _is_float),
    "is_verified": ("is_verified", _is_boolean),
    "created_at": ("created_at", _is_instant),
    "updated_at": ("updated_at", _is_clock_time),
    "settings": ("settings", _is_text),
    "avatar": ("avatar", _is_text),
}
"""Field, its column, and what makes the two equal. Every other column has no business in Redis."""

_RESERVED = {"_v": rb"\d+", "_h": rb"[0-9a-f]{16}"}


def compare(
    database: Path, connection: Connection, *, immovable: Collection[int] = ()
) -> Comparison:
    """
    Look at every row and at every record, in both directions.

    A NULL has to be absent, a row outside the filter has to have no record, and a record has to
    have a row. Nothing may write meanwhile.

    Args:
        immovable: Ids of rows that cannot become a record, which therefore must not exist.
    """
    rows = fields = 0
    expected: set[str] = set()
    differences: list[Difference] = []
    for bundle in _bundles(database):
        keys = [f"profile:{row['id']}" for row in bundle]
        replies = connection.call_all(["HGETALL", key] for key in keys)
        for row, key, reply in zip(bundle, keys, replies, strict=True):
            rows += 1
            if row["id"] in immovable:
                # Found by the second direction if it has a record.
                continue
            expected.add(key)
            fields += len(FIELDS)
            differences += _differences(key, row, reply)
    found = set(_keys(connection))
    differences += (Difference(key, "", "record without a row") for key in sorted(found - expected))
    return Comparison(rows, len(found), fields, tuple(differences))


def _bundles(database: Path) -> Iterator[Sequence[sqlite3.Row]]:
    connection = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    connection.text_factory = bytes
    try:
        cursor = connection.execute(
            "SELECT * FROM user_profiles WHERE deleted_at IS NULL ORDER BY id"
        )
        while bundle := cursor.fetchmany(BUNDLE):
            yield bundle
    finally:
        connection.close()


def _keys(connection: Connection) -> Iterator[str]:
    cursor: Reply = b"0"
    while True:
        cursor, page = _list(connection.call("SCAN", _bytes(cursor), "COUNT", "1000"))
        keys = (_bytes(key).decode(errors="backslashreplace") for key in _list(page))
        yield from (key for key in keys if not key.startswith("profile-migrate:"))
        if cursor == b"0":
            return


def _differences(key: str, row: sqlite3.Row, reply: Reply) -> Iterator[Difference]:
    if not isinstance(reply, list):
        yield Difference(key, "", "not a hash")
    elif not reply:
        yield Difference(key, "", "record missing")
    else:
        record = _record(reply)
        for name, (column, is_equal) in FIELDS.items():
            if kind := _judge(row[column], record.pop(name, None), is_equal):
                yield Difference(key, name, kind)
        for name, pattern in _RESERVED.items():
            if re.fullmatch(pattern, record.pop(name, b"")) is None:
                yield Difference(key, name, "not as it should be")
        for name in record:
            yield Difference(key, name, "field without a column")


def _judge(
    sql: SqlValue | None, stored: bytes | None, is_equal: Callable[[SqlValue, bytes], bool]
) -> str:
    if sql is None:
        return "" if stored is None else "present though NULL"
    if stored is None:
        return "field missing"
    try:
        return "" if is_equal(sql, stored) else "another value"
    except ValueError:
        return "not readable"


def _record(reply: list[Reply]) -> dict[str, bytes]:
    parts = [_bytes(part) for part in reply]
    names = (part.decode(errors="backslashreplace") for part in parts[::2])
    return dict(zip(names, parts[1::2], strict=True))


def _bytes(reply: Reply) -> bytes:
    if not isinstance(reply, bytes):
        raise TypeError("the server sent something else than a string")
    return reply


def _list(reply: Reply) -> list[Reply]:
    if not isinstance(reply, list):
        raise TypeError("the server sent something else than a list")
    return reply
