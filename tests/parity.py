"""
Compares any SQL query with what is in any Redis, by rules that the tool does not share.

Values are loaded by the drivers' own types and records parsed from their text, so that a codec
and its inverse cannot be wrong together. `compare_hashes` looks at flat records page by page;
`compare` at everything that a Redis holds, further keys and times to live included. Imports
nothing of `migrate`.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit
from uuid import UUID

import redis

BUNDLE = 1_000
"""Rows compared at once."""

OURS = b"profile-migrate:"
"""How the tool's own keys begin, which have no row."""

TOLERANCE_MS = 1_000
"""How far a time to live may be off: where only the rest of it can be asked for, not its end."""

Row = Mapping[str, Any]
Rule = Callable[[Any, str], bool]
Entry = tuple[str, bytes, float | None]
"""Letter of the kind (u, s or z), further key, score."""


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """
    One thing that is not as SQL has it. Names the key and the field, never a value.
    """

    key: str
    field: str
    kind: str


def compare_hashes(
    rows: Iterable[Row],
    client: redis.Redis,
    key_of: Callable[[Row], str],
    types: Mapping[str, str],
    *,
    match: str = "*",
) -> list[Difference]:
    """
    Every row against its hash, and every hash against the rows.

    Args:
        rows: By field name (rename in the query), the fields of `types` and what `key_of` needs.

        client: Without `decode_responses`.

        types: Field to a name of `RULES`; `decimal:4` wants four digits after the point.

        match: Which keys must have a row; the tool's own `profile-migrate:*` never do.
    """
    expected: set[str] = set()
    found: list[Difference] = []
    remaining = iter(rows)
    while bundle := list(islice(remaining, BUNDLE)):
        keys = [key_of(row) for row in bundle]
        expected.update(keys)
        with client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hgetall(key)
            replies = pipeline.execute(raise_on_error=False)
        for row, key, reply in zip(bundle, keys, replies, strict=True):
            found += _differences(key, row, reply, types)
    present = {_shown(key) for key in client.scan_iter(match, 5_000) if not key.startswith(OURS)}
    orphans = present - expected
    return sorted([*found, *(Difference(key, "", "record without a row") for key in orphans)])


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    What Redis should hold of one row.

    Args:
        row: By field name, at least the fields of `types`.

        types: Field to a name of `RULES`, as for `compare_hashes`.

        nested: Fields with JSON, as Python reads it.

        entries: Further keys that name the record, in the mapping's order.

        expires: Instant in milliseconds since 1970; None is never.

        grace: How many milliseconds the key outlives it.
    """

    key: bytes
    row: Row
    types: Mapping[str, str]
    nested: Mapping[str, Any] = field(default_factory=dict)
    entries: Sequence[Entry] = ()
    expires: int | None = None
    grace: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """
    One key of a Redis.

    Args:
        kind: As TYPE says.

        value: A dict, bytes, a set, or a dict of scores.

        ends: When it expires, in milliseconds since 1970.
    """

    kind: str
    value: Any
    ends: int | None


def read_all(primaries: Sequence[redis.Redis]) -> dict[bytes, Stored]:
    """
    Every key but the tool's own, of all primaries together.

    Args:
        primaries: A plain client for each, without `decode_responses`.
    """
    found: dict[bytes, Stored] = {}
    for client in primaries:
        keys = [key for key in set(client.scan_iter(count=5_000)) if not key.startswith(OURS)]
        if twice := found.keys() & set(keys):
            raise AssertionError(f"more than one primary has {sorted(twice)[:3]}")
        for at in range(0, len(keys), BUNDLE):
            found.update(_read(client, keys[at : at + BUNDLE]))
    return found


def _read(client: redis.Redis, keys: Sequence[bytes]) -> Iterator[tuple[bytes, Stored]]:
    with client.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.type(key)
        kinds = [kind.decode() for kind in pipeline.execute()]
        reading: dict[str, Callable[[bytes], object]] = {
            "hash": pipeline.hgetall,
            "string": pipeline.get,
            "set": pipeline.smembers,
            "zset": lambda key: pipeline.zrange(key, 0, -1, withscores=True),
        }
        for key, kind in zip(keys, kinds, strict=True):
            reading.get(kind, pipeline.exists)(key)
        values = pipeline.execute()
        pipeline.time()
        for key in keys:
            pipeline.pttl(key)
        (seconds, micros), *left = pipeline.execute()
    now = seconds * 1_000 + micros // 1_000
    for key, kind, value, rest in zip(keys, kinds, values, left, strict=True):
        held = dict(value) if kind == "zset" else value
        yield key, Stored(kind, held, now + rest if rest >= 0 else None)


def compare(wanted: Iterable[Wanted], stored: Mapping[bytes, Stored]) -> list[Difference]:
    """
    Every row against its record, and every key of a Redis against the rows.

    Args:
        wanted: Of all mappings that write into this Redis.
    """
    found: list[Difference] = []
    further: dict[bytes, dict[bytes, float | None]] = defaultdict(dict)
    kinds: dict[bytes, str] = {}
    ends: dict[bytes, int | None] = {}
    records = set()
    for one in wanted:
        records.add(one.key)
        found += _judge_record(one, stored.get(one.key))
        for kind, key, score in one.entries:
            if kinds.setdefault(key, kind) != kind or (kind == "u" and further[key]):
                found.append(Difference(_shown(key), "", "two rows want it"))
            further[key][one.key] = score
            ends[key] = None if one.expires is None else one.expires + one.grace
    for key, members in further.items():
        found += _judge_lookup(key, kinds[key], members, ends[key], stored.get(key))
    for key in stored.keys() - records - further.keys():
        found.append(Difference(_shown(key), "", "key without a row"))
    return sorted(found)


def _judge_record(one: Wanted, there: Stored | None) -> Iterator[Difference]:
    name = _shown(one.key)
    if there is None or there.kind != "hash":
        yield Difference(name, "", "not a hash" if there else "record missing")
        return
    record = dict(there.value)
    listed = b"".join(b"%s%d:%s" % (kind.encode(), len(key), key) for kind, key, _ in one.entries)
    if record.pop(b"_l", b"") != listed:
        yield Difference(name, "_l", "another list")
    instant = b"" if one.expires is None else b"%d" % one.expires
    if record.pop(b"_e", b"") != instant:
        yield Difference(name, "_e", "another instant")
    if not _ends_at(there, None if one.expires is None else one.expires + one.grace):
        yield Difference(name, "", "another time to live")
    for path, expected in one.nested.items():
        text = record.pop(path.encode(), b"null")
        # The text of both tells 1 from 1.0 and 1.50 from 1.5, and knows the order of members.
        if repr(json.loads(text, parse_float=Decimal)) != repr(expected):
            yield Difference(name, path, "other children")
    yield from _differences(name, one.row, record, one.types)


_TYPES = {"u": "string", "s": "set", "z": "zset"}


def _judge_lookup(
    key: bytes,
    kind: str,
    members: Mapping[bytes, float | None],
    ends: int | None,
    there: Stored | None,
) -> Iterator[Difference]:
    name = _shown(key)
    if there is None or there.kind != _TYPES[kind]:
        yield Difference(name, "", "of another type" if there else "lookup missing")
        return
    if not _ends_at(there, ends):
        yield Difference(name, "", "another time to live")
    value = {there.value} if kind == "u" else there.value
    held = value if isinstance(value, dict) else dict.fromkeys(value)
    for member in members.keys() - held.keys():
        yield Difference(name, _shown(member), "entry missing")
    for member in held.keys() - members.keys():
        yield Difference(name, _shown(member), "entry without a row")
    for member in held.keys() & members.keys():
        if held[member] != members[member]:
            yield Difference(name, _shown(member), "another score")


def _ends_at(there: Stored, wanted: int | None) -> bool:
    if there.ends is None or wanted is None:
        return there.ends == wanted
    return abs(there.ends - wanted) <= TOLERANCE_MS


def _shown(key: bytes) -> str:
    return key.decode(errors="backslashreplace")


def _differences(
    key: str, row: Row, reply: object, types: Mapping[str, str]
) -> Iterator[Difference]:
    if isinstance(reply, redis.ResponseError):
        yield Difference(key, "", "not a hash")
        return
    if isinstance(reply, Exception):
        raise reply
    record = {name.decode(): value for name, value in cast("dict[bytes, bytes]", reply).items()}
    if not record:
        yield Difference(key, "", "record missing")
        return
    for name, pattern in (("_v", rb"\d+"), ("_h", rb"[0-9a-f]{16}")):
        if re.fullmatch(pattern, record.pop(name, b"")) is None:
            yield Difference(key, name, "not as it should be")
    for name, expected in types.items():
        if kind := _judge(row[name], record.pop(name, None), expected):
            yield Difference(key, name, kind)
    for name in record:
        yield Difference(key, name, "field without a column")


def _judge(sql: Any, stored: bytes | None, expected: str) -> str:
    if sql is None:
        return "" if stored is None else "present though NULL"
    if stored is None:
        return "field missing"
    if expected == "bytes":
        return "" if bytes(sql) == stored else "another value"
    name, _, scale = expected.partition(":")
    try:
        text = stored.decode()
        if scale:
            return "" if _is_decimal(sql, text, int(scale)) else "another value"
        return "" if RULES[name](sql, text) else "another value"
    except (ValueError, ArithmeticError):
        return "not readable"


def _is_integer(sql: Any, text: str) -> bool:
    return text == str(int(text)) and int(text) == sql


def _is_decimal(sql: Any, text: str, scale: int | None = None) -> bool:
    value = Decimal(text)
    if re.fullmatch(r"-?\d+(\.\d+)?|NaN|-?Infinity", text) is None:
        return False
    if scale is not None and value.is_finite() and value.as_tuple().exponent != -scale:
        return False
    if isinstance(sql, Decimal):
        return value.as_tuple() == sql.as_tuple()
    return value == Decimal(repr(sql))


def _is_float(sql: Any, text: str) -> bool:
    if re.fullmatch(r"-?(\d+(\.\d+)?(e[+-]\d+)?|Infinity)|NaN", text) is None:
        return False
    return (math.isnan(sql) and text == "NaN") or struct.pack(">d", float(text)) == struct.pack(
        ">d", sql
    )


def _is_boolean(sql: Any, text: str) -> bool:
    return text == {False: "0", True: "1"}[bool(sql)]


def _is_date(sql: Any, text: str) -> bool:
    wanted = sql if isinstance(sql, date) else _unless_infinite(sql, date.fromisoformat)
    return bool(_unless_infinite(text, date.fromisoformat) == wanted)


def _is_timestamp(sql: Any, text: str) -> bool:
    return _stamp(text, r"") == (sql if isinstance(sql, datetime) else _stamp_of(sql))


def _is_timestamptz(sql: Any, text: str) -> bool:
    stored = _stamp(text, r"Z")
    wanted = sql if isinstance(sql, datetime) else _stamp_of(sql)
    if isinstance(wanted, datetime) and wanted.tzinfo is None:
        return False
    return stored == wanted


def _stamp(text: str, zone: str) -> object:
    """
    The record's spelling, which has one form only.
    """
    pattern = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,5}[1-9])?"
    if text not in _INFINITIES and re.fullmatch(pattern + zone, text) is None:
        raise ValueError("not a time stamp")
    return _stamp_of(text)


def _stamp_of(text: str) -> object:
    return _unless_infinite(text, datetime.fromisoformat)


_INFINITIES = ("infinity", "-infinity")


def _unless_infinite(text: str, read: Callable[[str], object]) -> object:
    return text if text in _INFINITIES else read(text)


def _is_time(sql: Any, text: str) -> bool:
    wanted = sql if isinstance(sql, time) else time.fromisoformat(sql)
    return time.fromisoformat(text) == wanted


RULES: dict[str, Rule] = {
    "text": lambda sql, text: bool(text == sql),
    "json": lambda sql, text: bool(text == sql),
    "integer": _is_integer,
    "decimal": _is_decimal,
    "float": _is_float,
    "boolean": _is_boolean,
    "date": _is_date,
    "time": _is_time,
    "timestamp": _is_timestamp,
    "timestamptz": _is_timestamptz,
    "uuid": lambda sql, text: text == str(UUID(text)) and UUID(text) == UUID(str(sql)),
}
"""What makes an SQL value and a record's text equal; `bytes` are compared as they are."""


def rows_of(url: str, query: str) -> Iterator[Row]:
    """
    Rows of any of these databases, named by the URL that SQLAlchemy takes.
    """
    if url.startswith("sqlite:///"):
        return sqlite_rows(Path(url.removeprefix("sqlite:///")), query)
    return (mariadb_rows if url.startswith(("mariadb", "mysql")) else postgres_rows)(url, query)


def sqlite_rows(path: Path, query: str) -> Iterator[Row]:
    """
    Rows of a SQLite file as the standard library gives them.
    """
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    connection.row_factory = sqlite3.Row
    try:
        for row in connection.execute(query):
            yield dict(row)
    finally:
        connection.close()


def postgres_rows(url: str, query: str) -> Iterator[Row]:
    """
    Rows of a PostgreSQL database with psycopg's own types; JSON stays the server's text.

    Args:
        url: As libpq takes it, or SQLAlchemy's with `+psycopg`.
    """
    import psycopg
    from psycopg.rows import dict_row

    where = url.replace("postgresql+psycopg://", "postgresql://", 1)
    with psycopg.connect(where, options="-c timezone=UTC") as connection:
        for name, loader in _loaders().items():
            connection.adapters.register_loader(name, loader)
        with connection.cursor(name="parity", row_factory=dict_row) as cursor:
            cursor.itersize = BUNDLE
            yield from cursor.execute(query)


def mariadb_rows(url: str, query: str) -> Iterator[Row]:
    """
    Rows of a MariaDB or MySQL database with PyMySQL's own types; a TIMESTAMP is an instant in UTC.

    Args:
        url: As SQLAlchemy takes it, or without a driver's name.
    """
    import pymysql
    from pymysql.constants import FIELD_TYPE
    from pymysql.converters import conversions
    from pymysql.cursors import DictCursor

    parts = urlsplit(url)
    connection = pymysql.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=parts.path.removeprefix("/"),
        charset="utf8mb4",
        init_command="SET time_zone = '+00:00'",
        conv={**conversions, FIELD_TYPE.TIMESTAMP: _utc},
        cursorclass=DictCursor,
    )
    with closing(connection), connection.cursor() as cursor:
        cursor.execute(query)
        yield from cursor


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _loaders() -> dict[str, Any]:
    """
    The driver's own, but for infinity, which Python's dates do not know and which stays text.
    """
    from psycopg.types.datetime import DateLoader, TimestampLoader, TimestamptzLoader
    from psycopg.types.string import TextLoader

    def lenient(base: Any) -> Any:
        class Loader(base):  # type: ignore[misc]
            def load(self, data: Any) -> Any:
                text = bytes(data).decode()
                return text if text in _INFINITIES else super().load(data)

        return Loader

    dates = {"date": DateLoader, "timestamp": TimestampLoader, "timestamptz": TimestamptzLoader}
    return {"json": TextLoader, "jsonb": TextLoader} | {
        name: lenient(base) for name, base in dates.items()
    }
