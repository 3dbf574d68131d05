"""
Columns of every type with values at their edges, and a copy of them through the real adapters.

What a record must hold is an expression that the SQL server itself evaluates, or Python's own
types; nothing here asks a codec what is right.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time
from itertools import zip_longest
from typing import Any

from hypothesis import strategies as st

from migrate.mapping.compile import CompiledMapping, compile_mapping
from migrate.mapping.template import Template
from migrate.mapping.values import FieldSpec
from migrate.mapping.values import Mapping as MappingFile
from migrate.model.values import Cell, Key, KeyRange, Reject
from migrate.source.store import SqlSource
from migrate.target.store import RedisTarget
from tests.servers import IMAGES, Database, PostgresDatabase, RedisServer

EVERY_REDIS = (
    "embedded-6.2",
    *(name for name in IMAGES if name.startswith(("redis", "valkey"))),
)
"""The servers of the matrix, by the names that `Servers.redis` takes."""

EVERY_SOURCE = (
    "sqlite",
    *(name for name in IMAGES if name.startswith(("postgres", "mariadb"))),
)
"""The sources of the matrix, by the names that `any_source` takes."""

EDGED_SOURCES = ("sqlite", "postgres-15", "postgres-17")
"""Those whose columns and mappings are written down here; MariaDB's are in `tests/awkward`."""

PAGE = 7
"""Rows of a page: small, so that pages end between the rows of a test."""

Record = dict[bytes, bytes]
Values = Mapping[str, Sequence[Any]]
"""By column; columns may be of different length, what is missing is NULL."""


@dataclass(frozen=True, slots=True)
class Edge:
    """
    A column of one type.

    Args:
        values: That are always tried.

        drawn: Further ones.

        form: The word after `as:`; None is the usual form.

        expected: What the record holds, as an expression of the server about the column {c}.

        since: The first PostgreSQL whose {c} takes these values.
    """

    type: str
    values: tuple[Any, ...]
    drawn: st.SearchStrategy[Any]
    form: str | None = None
    expected: str = "{c}"
    since: int = 0


def _texts(**limits: Any) -> st.SearchStrategy[str]:
    return st.text(st.characters(codec="utf-8", exclude_characters="\x00"), **limits)


TEXTS = (
    "",
    " ",
    "e\u0301 é \u1e9b\u0323",
    "\u202eעברית\u202c العربية",
    "😀 👩\u200d👩\u200d👧 \U00010000\U0001f1e9\U0001f1ea",
    # One character of each plane, the last ones of the first and of the whole included.
    "".join(chr(plane * 0x10000 + 0x0CAF) for plane in range(17)) + "\ufffd\uffff\U0010ffff",
    "\ufeff\u2028\u0085\r\n\t\x01\x7f",
    "'\"\\%_{}$1:x ?;--",
    "NULL",
    "x" * 100_000,
)
BYTES = (b"", b"\x00", bytes(range(256)), b"\xff\xfe\x80", b"\\x00", bytes(range(256)) * 4096)
FLOATS = (
    "0",
    "-0",
    "1",
    "0.1",
    "0.30000000000000004",
    "1e15",
    "999999999999999",
    "123456789012345680",
    "1e-5",
    "0.0001",
    "1e22",
    # Their shortest text lies half-way to a neighbour.
    "56403310965980384",
    "-3.619591070457202e16",
    "5e-324",
    "2.2250738585072011e-308",
    "2.2250738585072014e-308",
    "1.7976931348623157e308",
    "-1.7976931348623157e308",
    "Infinity",
    "-Infinity",
    "NaN",
)
REALS = (
    "0",
    "-0",
    "0.1",
    "16777217",
    "1e6",
    "999999",
    "1e-45",
    "1.1754942e-38",
    "1.17549435e-38",
    "3.4028235e38",
    "-3.4028235e38",
    "Infinity",
    "-Infinity",
    "NaN",
)
DATES = ("0001-01-01", "9999-12-31", "2000-02-29", "1582-10-10", "infinity", "-infinity")
STAMPS = (
    "0001-01-01 00:00:00",
    "9999-12-31 23:59:59.999999",
    "1969-12-31 23:59:59.999999",
    "1970-01-01 00:00:00",
    "2024-02-29 12:00:00.5",
    "2000-01-01 00:00:00.000001",
    "2016-12-31 23:59:60",
)
ZONED = (
    *(f"{stamp}+00" for stamp in STAMPS),
    # The hour that does not exist, the two that are one, and an offset with seconds.
    "2024-03-31 02:30:00 Europe/Berlin",
    "2024-10-27 02:30:00+02",
    "2024-10-27 02:30:00+01",
    "1890-01-01 00:00:00+00:19:32",
    "2024-06-01 00:00:00+15:59:59",
    "0001-01-01 12:00:00+12",
)
INFINITE = ("infinity", "-infinity")
SPANS = (
    "0",
    "1 mon",
    "30 days",
    "24:00:00",
    "-1 mon 30 days -00:00:00.000001",
    "178000000 years",
    "-178000000 years",
    "2147483647 days",
    "-2147483648 days",
    "9223372036854775807 microseconds",
    "-9223372036854775808 microseconds",
    "1 year 2 mons -3 days 04:05:06.7",
    "-0.5 seconds",
)
JSONS = (
    "null",
    "true",
    '""',
    "[]",
    "{}",
    "1.10",
    "-0",
    "1e2",
    "123456789012345678901234567890.10",
    '{"b": 1, "a": {"d": [1, 2.0, "x"], "c": null}}',
    '{"a": 1, "b": 2, "a": 3}',
    ' { "blank" :\n[ ] } ',
    '"\\u00e9 é \\ud83d\\ude00"',
    '{"\\"": "\\\\/\\/"}',
)
INTS = (
    "{}",
    "{NULL}",
    "{1,NULL,-2147483648}",
    "{{1,NULL},{3,4}}",
    "[-1:0]={1,2}",
    "{{{1}},{{2}}}",
    "[0:1][2:3]={{1,2},{3,4}}",
)

_INT64 = st.integers(-(2**63), 2**63 - 1)
_ORDINARY_DATES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))


def _digits(most: int, places: int) -> st.SearchStrategy[str]:
    return st.decimals(
        -(10 ** (most - places)) + 1,
        10 ** (most - places) - 1,
        allow_nan=False,
        allow_infinity=False,
        places=places,
    ).map(lambda number: format(number, "f"))


def _floats(width: int) -> st.SearchStrategy[str]:
    return st.floats(width=width).map(repr)


def _zoned() -> st.SearchStrategy[str]:
    hours = st.integers(-15, 15).map(lambda hour: f"{hour:+03d}:30")
    return st.builds(lambda stamp, zone: f"{stamp.isoformat(' ')}{zone}", _ORDINARY_DATES, hours)


def _spans() -> st.SearchStrategy[str]:
    return st.builds(
        lambda months, days, micros: f"{months} mons {days} days {micros} microseconds",
        st.integers(-(2**31), 2**31 - 1),
        st.integers(-(2**31), 2**31 - 1),
        _INT64,
    )


def _json() -> st.SearchStrategy[str]:
    """
    JSON as people write it: blanks, any order, repeated keys, numbers in many spellings.
    """
    blank = st.sampled_from(["", " ", "\n  "])
    string = st.builds(
        lambda text, plain: json.dumps(text, ensure_ascii=plain), _texts(max_size=5), st.booleans()
    )
    number = st.from_regex(
        r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,2})?",
        fullmatch=True,
        alphabet="0123456789.eE+-",
    )
    leaf = st.sampled_from(["null", "true", "false"]) | string | number

    def nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        pair = st.builds("{0}:{2}{1}".format, string, inner, blank)
        joined = st.builds(
            lambda parts, gap: f",{gap}".join(parts), st.lists(inner, max_size=3), blank
        )
        pairs = st.builds(
            lambda parts, gap: f"{gap},".join(parts), st.lists(pair, max_size=3), blank
        )
        return st.builds("[{}]".format, joined) | st.builds("{{{}}}".format, pairs)

    return st.recursive(leaf, nested, max_leaves=6)


def _array(element: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """
    The literal of an array of one or two dimensions that may begin at any index.
    """

    def literal(rows: list[list[str]], low: int | None, flat: bool) -> str:
        lines = [f"{{{','.join(row)}}}" for row in rows]
        if flat:
            bounds = f"[{low}:{low + len(rows[0]) - 1}]=" if low is not None else ""
            return bounds + lines[0]
        return f"{{{','.join(lines)}}}"

    item = element | st.just("NULL")
    rows = st.integers(1, 3).flatmap(
        lambda width: st.lists(
            st.lists(item, min_size=width, max_size=width), min_size=1, max_size=3
        )
    )
    return st.builds(literal, rows, st.none() | st.integers(-5, 5), st.booleans())


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _range(bound: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    def literal(ends: list[Any], brackets: str, openings: int) -> str:
        low, high = (str(end) for end in sorted(ends))
        return (
            brackets[0]
            + ("" if openings & 1 else low)
            + ","
            + ("" if openings & 2 else high)
            + brackets[1]
        )

    ends = st.lists(bound, min_size=2, max_size=2)
    return st.builds(literal, ends, st.sampled_from(["[]", "[)", "(]", "()"]), st.integers(0, 3))


def _address(*, network: bool) -> st.SearchStrategy[str]:
    def spell(address: Any, share: float) -> str:
        text = f"{address}/{round(share * address.max_prefixlen)}"
        return str(ipaddress.ip_network(text, strict=False)) if network else text

    return st.builds(spell, st.ip_addresses(), st.floats(0, 1))


_ISO = "replace({c}::text, ' ', 'T')"
_ISO_ZONED = "regexp_replace(replace({c}::text, ' ', 'T'), '[+]00$', 'Z')"


def _epoch(units: int) -> str:
    return f"trunc(extract(epoch FROM {{c}}) * {units})"


def _whole(step_us: int) -> st.SearchStrategy[str]:
    """
    Time stamps that have whole units of so many microseconds.
    """
    return _ORDINARY_DATES.map(
        lambda stamp: stamp.replace(
            microsecond=stamp.microsecond // step_us * step_us if step_us < 10**6 else 0
        ).isoformat(" ")
    )


POSTGRES_TYPES = (
    "CREATE TYPE mood AS ENUM ('so''so', 'fine', 'ärgerlich', 'a,b {x}', '');"
    "CREATE DOMAIN price AS numeric(10,2); CREATE DOMAIN short AS char(5);"
    "CREATE TYPE pair AS (a int, b text);"
)

POSTGRES: Mapping[str, Edge] = {
    "small": Edge("smallint", ("-32768", "32767", "0"), st.integers(-(2**15), 2**15 - 1)),
    "whole": Edge("integer", ("-2147483648", "2147483647"), st.integers(-(2**31), 2**31 - 1)),
    "large": Edge("bigint", (str(-(2**63)), str(2**63 - 1), str(2**53 + 1)), _INT64),
    "object": Edge("oid", ("0", "4294967295"), st.integers(0, 2**32 - 1)),
    "amount": Edge(
        "numeric(38,10)", ("0", "-0.0000000001", "9" * 28 + "." + "9" * 10, "NaN"), _digits(38, 10)
    ),
    "number": Edge(
        "numeric",
        ("0", "0.00", "1.10", "-0.5", "1e1000", "1e-1000", "NaN", "Infinity", "-Infinity"),
        st.integers(0, 30).flatmap(lambda places: _digits(60, places)),
    ),
    "rounded": Edge(
        "numeric(5,-2)",
        ("0", "1234500", "-9999900"),
        st.integers(-9999949, 9999949),
        since=150000,
    ),
    "price": Edge("price", ("0", "99999999.99", "-0.01"), _digits(10, 2)),
    "single": Edge("real", REALS, _floats(32)),
    "double": Edge("double precision", FLOATS, _floats(64)),
    "float_text": Edge("double precision", FLOATS, _floats(64), "text"),
    "truth": Edge("boolean", ("t", "f"), st.sampled_from("tf"), expected="{c}::int"),
    "word": Edge("boolean", ("t", "f"), st.sampled_from("tf"), "word", "{c}::text"),
    "words": Edge("text", TEXTS, _texts()),
    "limited": Edge("varchar(20)", ("", " ", "é" * 20, "😀" * 20), _texts(max_size=20)),
    "padded": Edge("char(10)", ("", "a", " a", "é" * 10, "tail  "), _texts(max_size=10)),
    "short": Edge("short", ("", "abc"), _texts(max_size=5)),
    "letter": Edge(
        '"char"', ("", "x", "\x7f", " "), st.characters(min_codepoint=1, max_codepoint=127)
    ),
    "title": Edge("name", ("", "x" * 63), _texts(max_size=15)),
    "raw": Edge("bytea", BYTES, st.binary()),
    "base64": Edge(
        "bytea", BYTES, st.binary(), "base64", r"replace(encode({c}, 'base64'), E'\n', '')"
    ),
    "hex": Edge("bytea", BYTES, st.binary(), "hex", "encode({c}, 'hex')"),
    "day": Edge("date", DATES, st.dates()),
    "day_text": Edge("date", ("0044-03-15 BC", "5874897-12-31", *DATES), st.dates(), "text"),
    "moment": Edge("timestamp", (*STAMPS, *INFINITE), st.datetimes(), expected=_ISO),
    "moment_s": Edge(
        "timestamp",
        ("0001-01-01 00:00:00", "9999-12-31 23:59:59"),
        _whole(10**6),
        "epoch_s",
        _epoch(1),
    ),
    "moment_us": Edge("timestamp", STAMPS, st.datetimes(), "epoch_us", _epoch(1_000_000)),
    "moment_text": Edge(
        "timestamp",
        (*STAMPS, "0044-03-15 00:00:00 BC", "294276-12-31 23:59:59.999999"),
        st.datetimes(),
        "text",
    ),
    "instant": Edge("timestamptz", (*ZONED, *INFINITE), _zoned(), expected=_ISO_ZONED),
    "instant_ms": Edge(
        "timestamptz",
        ("0001-01-01 00:00:00+00", "1969-12-31 23:59:59.999+00"),
        _whole(1_000),
        "epoch_ms",
        _epoch(1_000),
    ),
    "instant_us": Edge("timestamptz", ZONED, _zoned(), "epoch_us", _epoch(1_000_000)),
    "instant_text": Edge("timestamptz", (*ZONED, *INFINITE), _zoned(), "text"),
    "clock": Edge("time", ("00:00:00", "24:00:00", "23:59:59.999999", "12:00:00.5"), st.times()),
    "clock_zoned": Edge(
        "timetz",
        ("00:00:00+00", "24:00:00-15:59:59", "23:59:59.999999+15:59", "12:00:00.1+05:45"),
        st.builds(
            lambda clock, hour: f"{clock.isoformat()}{hour:+03d}:15",
            st.times(),
            st.integers(-14, 14),
        ),
    ),
    "span": Edge("interval", SPANS, _spans()),
    "endless": Edge("interval", INFINITE, st.sampled_from(INFINITE), since=170000),
    "identity": Edge(
        "uuid", ("0" * 32, "F" * 32, "{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}"), st.uuids()
    ),
    "mood": Edge(
        "mood", ("so'so", "fine", "ärgerlich", "a,b {x}", ""), st.sampled_from(["so'so", ""])
    ),
    "document": Edge("json", (*JSONS, '"\\u0000"', '"\\ud800"'), _json()),
    "binary_document": Edge("jsonb", (*JSONS, "1e400", "1e-400"), _json()),
    "document_text": Edge("json", JSONS, _json(), "text"),
    "ints": Edge("integer[]", INTS, _array(st.integers(-(2**31), 2**31 - 1).map(str))),
    "texts": Edge(
        "text[]",
        ("{}", '{"a,b","NULL",NULL,"",null,"\\"\\\\"}', '{{"{}"},{" x "}}'),
        _array(_texts(max_size=6).map(_quoted)),
    ),
    "doubles": Edge("double precision[]", (f"{{{','.join(FLOATS)}}}",), _array(_floats(64))),
    "prices": Edge("numeric(12,4)[]", ("{1.1,NaN,-0.00001}",), _array(_digits(12, 4))),
    "truths": Edge("boolean[]", ("{t,f,NULL}",), _array(st.sampled_from("tf"))),
    "instants": Edge(
        "timestamptz[]",
        ('{"2024-03-31 02:30:00 Europe/Berlin",infinity}',),
        _array(_zoned().map(_quoted)),
    ),
    "spans": Edge("interval[]", ('{"1 mon -1 day",PT0S}',), _array(_spans().map(_quoted))),
    "raws": Edge(
        "bytea[]",
        ('{"\\\\x00ff",""}',),
        _array(st.binary(max_size=5).map(lambda raw: f'"\\\\x{raw.hex()}"')),
    ),
    "documents": Edge(
        "jsonb[]", ('{"{\\"b\\": 1, \\"a\\": 1.10}"}',), _array(_json().map(_quoted))
    ),
    "moods": Edge("mood[]", ('{so\'so,"a,b {x}",""}',), _array(st.just("fine"))),
    "host": Edge(
        "inet",
        ("10.0.0.1", "10.0.0.1/8", "::1", "2001:db8::1/64", "::ffff:1.2.3.4", "0.0.0.0/0"),
        _address(network=False),
    ),
    "host_text": Edge("inet", ("10.0.0.1", "10.0.0.1/8"), _address(network=False), "text"),
    "network": Edge("cidr", ("10.0.0.0/8", "10.0.0.1", "::/0"), _address(network=True)),
    "card": Edge(
        "macaddr",
        ("00:00:00:00:00:00", "FF-FF-FF-FF-FF-FF"),
        st.binary(min_size=6, max_size=6).map(bytes.hex),
    ),
    "long_card": Edge(
        "macaddr8", ("08:00:2b:01:02:03:04:05",), st.binary(min_size=8, max_size=8).map(bytes.hex)
    ),
    "bits": Edge("bit(8)", ("00000000", "11111111"), st.text("01", min_size=8, max_size=8)),
    "some_bits": Edge("bit varying", ("", "1", "0" * 100), st.text("01")),
    "int_range": Edge(
        "int4range", ("empty", "[1,5]", "(,)", "(1,2)"), _range(st.integers(-(2**31), 2**31 - 2))
    ),
    "number_range": Edge(
        "numrange", ("empty", "[1.10,2.0)", "[,5.00]"), _range(st.decimals(-9, 9, places=3))
    ),
    "day_range": Edge(
        "daterange",
        ("[2024-01-01,infinity)", "[-infinity,2024-01-01]"),
        _range(st.dates(max_value=date(9999, 12, 30))),
    ),
    "moment_range": Edge(
        "tsrange",
        ('["2024-01-01 00:00:00.5",)',),
        _range(st.datetimes().map(lambda stamp: f'"{stamp}"')),
    ),
    "instant_range": Edge(
        "tstzrange",
        ('("2024-01-01 00:00:00.5+05:30",]',),
        _range(st.datetimes().map(lambda stamp: f'"{stamp}+00"')),
    ),
    "ranges": Edge(
        "int4multirange",
        ("{}", "{[1,3),[5,9)}", "{(,)}"),
        _range(st.integers(-9, 9)).map("{{{}}}".format),
    ),
    "point": Edge(
        "point",
        ("(0.1,-0)", "(NaN,Infinity)"),
        st.builds("({},{})".format, _floats(64), _floats(64)),
    ),
    "terms": Edge("tsvector", ("", "'a b':1A,2 c:3"), st.just("x:1 'y''z':2B")),
    "position": Edge(
        "pg_lsn",
        ("0/0", "FFFFFFFF/FFFFFFFF"),
        _INT64.map(lambda at: f"{at >> 32 & 0xFFFFFFFF:X}/{at & 0xFFFFFFFF:X}"),
    ),
    "cash": Edge(
        "money", ("0", "-12.50", "92233720368547758.07"), _digits(15, 2), "text", "{c}::text"
    ),
    "couple": Edge(
        "pair", ('(1,"a,b")', "(,)", '(-1,"""")'), st.integers(-9, 9).map("({},x)".format), "text"
    ),
}


def _stored_stamp(zone: str = "") -> st.SearchStrategy[str]:
    return st.datetimes().map(
        lambda stamp: (
            (
                stamp.isoformat(" ").rstrip("0").rstrip(".")
                if stamp.microsecond
                else stamp.isoformat(" ")
            )
            + zone
        )
    )


def _stored_time(clock: time) -> str:
    text = clock.isoformat()
    return text.rstrip("0") if "." in text else text


SQLITE: Mapping[str, Edge] = {
    "small": Edge("SMALLINT", (-32768, 32767, 0), st.integers(-(2**15), 2**15 - 1)),
    "large": Edge("BIGINT", (-(2**63), 2**63 - 1, 2**53 + 1, 0), _INT64),
    "amount": Edge(
        "DECIMAL(38,10)",
        (0, 2**63 - 1, 0.1, 1e-7, -1e22, 1.5),
        _INT64 | st.floats(allow_nan=False, allow_infinity=False, min_value=1e-30, max_value=1e30),
    ),
    "double": Edge(
        "DOUBLE PRECISION",
        tuple(map(float, FLOATS)),
        st.floats(allow_nan=False),
    ),
    "float_text": Edge("REAL", (0.1, 1e22, 5e-324), st.floats(allow_nan=False), "text"),
    "truth": Edge("BOOLEAN", (0, 1), st.integers(0, 1)),
    "word": Edge("BOOLEAN", (0, 1), st.integers(0, 1), "word"),
    "words": Edge("TEXT", (*TEXTS, "\x00", "a\x00b\x00"), st.text(st.characters(codec="utf-8"))),
    "limited": Edge("VARCHAR(3)", ("", "longer than three"), _texts(max_size=8)),
    "padded": Edge("NCHAR(10)", ("", "a", " a "), _texts(max_size=10)),
    "raw": Edge("BLOB", BYTES, st.binary()),
    "base64": Edge("BLOB", BYTES, st.binary(), "base64"),
    "hex": Edge("VARBINARY(9)", BYTES, st.binary(), "hex"),
    "day": Edge("DATE", ("0001-01-01", "9999-12-31", "2000-02-29"), st.dates().map(str)),
    "day_text": Edge("DATE", ("31.12.1999", "", "0000-00-00"), _texts(max_size=10), "text"),
    "moment": Edge(
        "DATETIME",
        ("0001-01-01 00:00:00", "9999-12-31 23:59:59.999999", "1969-12-31 23:59:59.999999"),
        _stored_stamp(),
    ),
    "moment_us": Edge(
        "TIMESTAMP",
        ("0001-01-01 00:00:00", "9999-12-31 23:59:59.999999", "1969-12-31 23:59:59.999999"),
        _stored_stamp(),
        "epoch_us",
    ),
    "moment_text": Edge("DATETIME", ("now", "2024-01-01T00:00"), _texts(max_size=10), "text"),
    "instant": Edge(
        "TIMESTAMP WITH TIME ZONE",
        ("0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00", "2024-03-31 01:30:00+00"),
        _stored_stamp("+00"),
    ),
    "clock": Edge(
        "TIME",
        ("00:00:00", "23:59:59.999999", "12:00:00.5"),
        st.times().map(_stored_time),
    ),
    "identity": Edge("UUID", ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",), st.uuids().map(str)),
    # SQLite takes a text that is a number for a number: only those that come back the same.
    "document": Edge(
        "JSON",
        (*(text for text in JSONS if text[:1] in '[{" '), "5", "1.5"),
        _json().filter(lambda text: text[:1] in '[{"'),
    ),
    "anything": Edge(
        "",
        (5, 5.0, -(2**63), 1.5, 1e300, -0.0, float("inf"), "five", "", " 5 5", "infinity"),
        _INT64 | st.floats(allow_nan=False) | st.text("abc -"),
    ),
}
"""What SQLite keeps exactly as it was bound, in the neutral spelling already."""


_SIMPLE = _texts(max_size=20)
BOTH: Mapping[str, tuple[str, str, Edge]] = {
    name: (sqlite, edge.type, edge)
    for name, sqlite, edge in (
        (
            "whole",
            "INTEGER",
            Edge("integer", (-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1)),
        ),
        ("large", "BIGINT", Edge("bigint", (-(2**63), 2**63 - 1), _INT64)),
        (
            "amount",
            "DECIMAL(12,4)",
            Edge(
                "numeric(12,4)",
                (0, 1.5, -99999999.9999, 0.0001),
                st.integers(-(10**11), 10**11).map(lambda n: n / 10_000),
            ),
        ),
        (
            "double",
            "DOUBLE PRECISION",
            Edge(
                "double precision",
                tuple(float(text) for text in FLOATS if text not in ("NaN", "-0")),
                st.floats(allow_nan=False).map(lambda x: x + 0.0),
            ),
        ),
        ("truth", "BOOLEAN", Edge("boolean", (False, True), st.booleans())),
        ("words", "TEXT", Edge("text", TEXTS, _texts())),
        ("limited", "VARCHAR(20)", Edge("varchar(20)", ("", "é" * 20), _SIMPLE)),
        ("raw", "BLOB", Edge("bytea", BYTES, st.binary())),
        ("hex", "BYTEA", Edge("bytea", BYTES, st.binary(), "hex")),
        ("day", "DATE", Edge("date", ("0001-01-01", "9999-12-31"), st.dates().map(str))),
        (
            "moment",
            "TIMESTAMP",
            Edge(
                "timestamp",
                ("0001-01-01T00:00:00", "9999-12-31 23:59:59.999999"),
                st.datetimes().map(str),
            ),
        ),
        (
            "moment_us",
            "DATETIME",
            Edge(
                "timestamp",
                ("0001-01-01 00:00:00",),
                st.datetimes().map(datetime.isoformat),
                "epoch_us",
            ),
        ),
        (
            "instant",
            "TIMESTAMPTZ",
            Edge(
                "timestamptz", ("0001-01-01 00:00:00+00", "2024-03-31T02:30:00.120+01:00"), _zoned()
            ),
        ),
        (
            "clock",
            "TIME",
            Edge("time", ("00:00:00", "23:59:59.999999"), st.times().map(time.isoformat)),
        ),
        (
            "identity",
            "UUID",
            Edge("uuid", ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",), st.uuids().map(str)),
        ),
        (
            "document",
            "JSON",
            Edge(
                "json",
                tuple(text for text in JSONS if text[:1] in "[{"),
                _json().filter(lambda text: text[:1] in "[{"),
            ),
        ),
    )
}
"""Columns that either store can have: its types in SQLite and PostgreSQL, values for both."""


def edge_values(edges: Mapping[str, Edge]) -> Values:
    """
    What is always tried, with a NULL behind the last.
    """
    return {name: (*edge.values, None) for name, edge in edges.items()}


def drawn_values(edges: Mapping[str, Edge], most: int = 3) -> st.SearchStrategy[Values]:
    """
    A few further values of each column.
    """
    return st.fixed_dictionaries(
        {name: st.lists(edge.drawn | st.none(), max_size=most) for name, edge in edges.items()}
    )


def known_to(database: PostgresDatabase) -> Mapping[str, Edge]:
    """
    The columns that this server can have.
    """
    [(version,)] = database.query("SELECT current_setting('server_version_num')::int")
    return {name: edge for name, edge in POSTGRES.items() if edge.since <= version}


def create(
    database: Database, types: Mapping[str, str], table: str = "edges", first: str = ""
) -> None:
    """
    An empty table with these columns behind its key.
    """
    columns = ", ".join(f"{name} {declared}" for name, declared in types.items())
    database.execute(f"{first} CREATE TABLE {table} (id BIGINT NOT NULL PRIMARY KEY, {columns})")


def fill(
    database: Database, types: Mapping[str, str], values: Values, table: str = "edges"
) -> None:
    """
    Replace all rows; PostgreSQL reads text as its own types, SQLite keeps what is bound.
    """
    rows = [
        (number, *row)
        for number, row in enumerate(zip_longest(*(values.get(name, ()) for name in types)))
    ]
    if not isinstance(database, PostgresDatabase):
        database.execute(f"DELETE FROM {table}")
        marks = ", ".join("?" for _ in types)
        _insert(database, f"INSERT INTO {table} VALUES (?, {marks})", rows)
        return
    marks = ", ".join(
        f"%s::{'bytea' if declared == 'bytea' else 'text'}::{declared}"
        for declared in types.values()
    )
    database.execute(f"TRUNCATE {table}")
    bound = [[_bound(value) for value in row] for row in rows]
    _insert(database, f"INSERT INTO {table} VALUES (%s::bigint, {marks})", bound)


def _insert(database: Database, statement: str, rows: Sequence[Sequence[object]]) -> None:
    if rows:
        database.execute(statement, *rows)


def _bound(value: Any) -> object:
    return value if value is None or isinstance(value, bytes) else str(value)


@dataclass(frozen=True, slots=True)
class Copied:
    """
    What a table became.

    Args:
        records: By the row's id, with every field.
    """

    compiled: CompiledMapping
    records: dict[int, Record]
    rejects: list[Reject]

    def cells(self, number: int) -> dict[str, Cell]:
        """
        A record's fields, decoded.
        """
        return self.compiled.decode(self.records[number])


def mapping_of(fields: Mapping[str, str | None] | None = None, table: str = "edges") -> MappingFile:
    """
    A mapping of a table with the key `id`: these fields in these forms, or every column.
    """
    specs = (
        None
        if fields is None
        else tuple(FieldSpec(name, name, form) for name, form in fields.items())
    )
    return MappingFile(
        "edges", "edges.yaml", None, table, ("id",), Template.parse("edge:{id}"), fields=specs
    )


@contextmanager
def opened(database: Database) -> Iterator[SqlSource]:
    """
    The program's own way to read a database.
    """
    with closing(SqlSource.open(database.config())) as source:
        yield source


def copy(database: Database, server: RedisServer, mapping: MappingFile) -> Copied:
    """
    Copy the table into the emptied server by extractor, mapping and loader, page by page.
    """
    client = server.client()
    client.flushall()
    with opened(database) as source, RedisTarget.open(server.config()) as target:
        table = source.reflect(mapping.schema, mapping.table)
        assert table is not None
        compiled = compile_mapping(mapping, table)
        fence = target.begin(
            mapping.name,
            run="r",
            expected=None,
            generation=0,
            revision=1,
            fingerprint=compiled.fingerprint,
        )
        loader = target.loader(mapping.name, fence, compiled.shape())
        extractor = source.extractor(compiled.query, table)
        rejects: list[Reject] = []
        after: Key | None = None
        while (chunk := extractor.read(KeyRange(), after, PAGE)).keys:
            batch = compiled.encode(chunk)
            loader.write(batch.records)
            rejects += batch.rejects
            after = chunk.keys[-1]
    records = {int(key.split(b":")[1]): record for key, record in records_of(server).items()}
    return Copied(compiled, records, rejects)


def records_of(server: RedisServer) -> dict[bytes, Record]:
    """
    Every record with all its fields, as Redis has them.
    """
    client = server.client()
    keys = [key for key in client.scan_iter(count=5_000) if not key.startswith(b"profile-migrate:")]
    with client.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.hgetall(key)
        return dict(zip(keys, pipeline.execute(), strict=True))


_PINNED = (
    "SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'iso_8601'; "
    "SET extra_float_digits = 1; SET bytea_output = 'hex'; SET lc_monetary = 'C'"
)


def printed(
    database: PostgresDatabase, expressions: Mapping[str, str], table: str = "edges"
) -> dict[int, Record]:
    """
    What the server writes on the wire for each row: its own text, touched by no driver.
    """
    selected = ", ".join(
        expression.replace("{c}", name) for name, expression in expressions.items()
    )
    with database.connect() as connection:
        connection.execute(_PINNED)
        result = connection.execute(f"SELECT id, {selected} FROM {table}").pgresult
        assert result is not None
        binary = [
            connection.adapters.types["bytea"].oid == result.ftype(at)
            for at in range(result.nfields)
        ]
        found: dict[int, Record] = {}
        for row in range(result.ntuples):
            record: Record = {}
            for at, name in enumerate(expressions, start=1):
                value = result.get_value(row, at)
                if value is not None:
                    raw = bytes.fromhex(value[2:].decode()) if binary[at] else bytes(value)
                    record[name.encode()] = raw
            found[int(result.get_value(row, 0) or b"")] = record
    return found
