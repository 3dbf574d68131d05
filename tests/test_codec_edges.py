"""
Values at the edges of every type go from SQL to Redis and back exactly, through the real adapters.
"""

from __future__ import annotations

import binascii
import math
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from migrate.errors import SchemaMismatch
from migrate.mapping.compile import compile_mapping
from migrate.model.values import Cell
from tests import edges
from tests.edges import (
    BOTH,
    EDGED_SOURCES,
    EVERY_REDIS,
    POSTGRES,
    POSTGRES_TYPES,
    SQLITE,
    Copied,
    Edge,
    Record,
    Values,
    copy,
    create,
    drawn_values,
    edge_values,
    fill,
    mapping_of,
    opened,
    printed,
)
from tests.project import Project
from tests.servers import Database, PostgresDatabase, RedisServer, Servers, SqliteDatabase

RESERVED = {b"_v", b"_h"}

# One database serves all examples of a test: each example replaces every row. What fails is named
# by row and column, so that the minutes of shrinking would tell nothing more.
few = settings(
    max_examples=8,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)


def plain(record: Record) -> Record:
    """
    A record without the fields that are ours.
    """
    return {name: value for name, value in record.items() if name not in RESERVED}


def types_of(columns: Mapping[str, Edge]) -> dict[str, str]:
    """
    The declared type of each column.
    """
    return {name: edge.type for name, edge in columns.items()}


def forms_of(columns: Mapping[str, Edge]) -> dict[str, str | None]:
    """
    The form of each field.
    """
    return {name: edge.form for name, edge in columns.items()}


def unlike(
    wanted: Mapping[int, Record], found: Mapping[int, Record]
) -> list[tuple[int, str, bytes | None, bytes | None]]:
    """
    Each field that differs, with its row, what it should be and what it is.
    """
    assert wanted.keys() == found.keys()
    return [
        (number, name.decode(), one.get(name), other.get(name))
        for number, one in wanted.items()
        for other in [found[number]]
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
    ]


# --- PostgreSQL ---------------------------------------------------------------------------------


def postgres_table(database: PostgresDatabase) -> Mapping[str, Edge]:
    """
    A table with a column for each type, and another one to write back into.
    """
    columns = edges.known_to(database)
    create(database, types_of(columns), first=POSTGRES_TYPES)
    create(database, types_of(columns), "back")
    return columns


def postgres_there_and_back(
    database: PostgresDatabase, server: RedisServer, columns: Mapping[str, Edge], values: Values
) -> Copied:
    """
    The records hold what the server prints, and what they decode to is the same row again.
    """
    types = types_of(columns)
    fill(database, types, values)
    wire = printed(database, {name: edge.expected for name, edge in columns.items()})
    bare = dict.fromkeys(columns, "{c}")

    copied = copy(database, server, mapping_of(forms_of(columns)))

    found = {number: plain(record) for number, record in copied.records.items()}
    assert copied.rejects == []
    assert unlike(wire, found) == []
    fill(database, types, by_column(copied, columns), "back")
    assert unlike(printed(database, bare), printed(database, bare, "back")) == []
    return copied


def by_column(copied: Copied, columns: Mapping[str, Edge]) -> dict[str, list[Cell]]:
    """
    Decoded records, turned into the values of each column.
    """
    decoded = [copied.cells(number) for number in sorted(copied.records)]
    return {name: [cells[name] for cells in decoded] for name in columns}


def test_edges_of_every_postgresql_type_go_there_and_back(
    postgres: PostgresDatabase, redis_server: RedisServer
) -> None:
    """
    Each value at the edge of its type is, byte for byte, what the server itself prints.
    """
    columns = postgres_table(postgres)

    copied = postgres_there_and_back(postgres, redis_server, columns, edge_values(columns))

    assert len(copied.records) == 1 + max(len(edge.values) for edge in columns.values())


def test_drawn_values_of_every_postgresql_type_go_there_and_back(
    postgres: PostgresDatabase, redis_server: RedisServer
) -> None:
    """
    The same holds for values that nobody thought of.
    """
    columns = postgres_table(postgres)

    @few
    @given(values=drawn_values(columns))
    def check(values: Values) -> None:
        postgres_there_and_back(postgres, redis_server, columns, values)

    check()


# --- SQLite -------------------------------------------------------------------------------------


def sqlite_table(database: Database) -> Mapping[str, Edge]:
    """
    A table with a column for each kind of declaration, and another one to write back into.
    """
    create(database, types_of(SQLITE))
    create(database, types_of(SQLITE), "back")
    return SQLITE


def sqlite_there_and_back(
    database: Database, server: RedisServer, columns: Mapping[str, Edge], values: Values
) -> Copied:
    """
    The records hold what SQLite keeps, spelled by Python's own types, and give it back.
    """
    types = types_of(columns)
    fill(database, types, values)
    names = list(columns)
    kept = {
        number: dict(zip(names, row, strict=True))
        for number, *row in database.query("SELECT * FROM edges")
    }

    copied = copy(database, server, mapping_of(forms_of(columns)))

    found = {number: plain(record) for number, record in copied.records.items()}
    assert copied.rejects == []
    assert unlike({number: _sqlite_record(row) for number, row in kept.items()}, found) == []
    fill(database, types, _rebound(by_column(copied, columns)), "back")
    assert database.query(_KEPT.format("edges")) == database.query(_KEPT.format("back"))
    return copied


_KEPT = (
    "SELECT id, "
    + ", ".join(
        # Two floats that print alike need not be the same: the driver's own are compared as well.
        f"typeof({name}), CAST({name} AS BLOB), {name}"
        for name in SQLITE
    )
    + " FROM {} ORDER BY id"
)


def _sqlite_record(row: Mapping[str, Any]) -> Record:
    return {
        name.encode(): _SPELLED.get(name, _as_text)(value)
        for name, value in row.items()
        if value is not None
    }


def _as_text(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else b"%d" % value


def _decimal(value: float) -> bytes:
    number = Decimal(repr(value))
    if int(number.as_tuple().exponent) > -10:
        number = number.quantize(Decimal("1e-10"), context=Context(prec=400))
    return format(number, "f").encode()


def _float(value: float) -> bytes:
    """
    PostgreSQL's rule: the fewest digits that mean this float and no other.

    In plain notation from 1e-4 up to below 1e15.
    """
    if value == 0 or math.isinf(value):
        return {0.0: b"-0" if math.copysign(1, value) < 0 else b"0", math.inf: b"Infinity"}.get(
            value, b"-Infinity"
        )
    number = next(filter(None, (_nearest(value, places) for places in range(1, 18))))
    if -4 <= number.adjusted() < 15:
        return format(number, "f").encode()
    sign, digits, _ = number.as_tuple()
    first, rest = str(digits[0]), "".join(map(str, digits[1:]))
    return f"{'-' * sign}{first}{'.' if rest else ''}{rest}e{number.adjusted():+03d}".encode()


def _nearest(value: float, places: int) -> Decimal | None:
    """
    The nearest number of so many digits that is nearer to this float than to its neighbours.
    """
    found: list[tuple[Fraction, int, Decimal]] = []
    for rounding in (ROUND_FLOOR, ROUND_CEILING):
        number = Context(prec=places, rounding=rounding, Emin=-400).create_decimal(Decimal(value))
        away = Fraction(number) - Fraction(value)
        if 2 * abs(away) < abs(_gap(value, up=away > 0)):
            # Of two that are equally near, the even one.
            found.append((abs(away), number.as_tuple().digits[-1] % 2, number.normalize()))
    return min(found)[-1] if found else None


def _gap(value: float, *, up: bool) -> Fraction:
    neighbour = math.nextafter(value, math.inf if up else -math.inf)
    if math.isinf(neighbour):
        return _gap(value, up=not up)
    return Fraction(neighbour) - Fraction(value)


def _real(value: float) -> bytes:
    """
    A real number of a column without a type, told from an integer.
    """
    return re.sub(rb"^(-?[0-9]+)$", rb"\1.0", _float(value))


def _microseconds(value: str) -> bytes:
    day, clock = value.split(" ")
    days = (Decimal(_day_number(*map(int, day.split("-")))) - _day_number(1970, 1, 1)) * 86_400
    hours, minutes, seconds = map(Decimal, clock.split(":"))
    total = (days + hours * 3_600 + minutes * 60 + seconds) * 1_000_000
    return str(int(total)).encode()


def _day_number(year: int, month: int, day: int) -> int:
    """
    Days since the first of March of year 0, by the rule of the calendar.
    """
    year, month = (year, month - 3) if month > 2 else (year - 1, month + 9)
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + day - 1


_SPELLED: Mapping[str, Callable[[Any], bytes]] = {
    "amount": _decimal,
    "double": _float,
    "float_text": _float,
    "word": lambda value: b"true" if value else b"false",
    "raw": bytes,
    "base64": lambda value: binascii.b2a_base64(value, newline=False),
    "hex": lambda value: value.hex().encode(),
    "moment": lambda value: value.replace(" ", "T").encode(),
    "moment_us": _microseconds,
    "instant": lambda value: value.replace(" ", "T").replace("+00", "Z").encode(),
    "document": lambda value: str(value).encode(),
    "anything": lambda value: _real(value) if isinstance(value, float) else str(value).encode(),
}
"""What a record holds for a value that the standard library's driver gave."""


def _rebound(columns: Mapping[str, Sequence[Cell]]) -> dict[str, list[object]]:
    """
    Cells as a program would bind them again.
    """
    return {
        name: [None if cell is None else _BOUND.get(name, str)(cell) for cell in cells]
        for name, cells in columns.items()
    }


def _number(cell: Any) -> int | float:
    number = Decimal(cell)
    exact = number == number.to_integral_value() and -(2**63) <= number < 2**63
    return int(number) if exact else float(number)


def _anything(cell: Any) -> object:
    if re.fullmatch(r"-?[0-9]+", cell):
        return int(cell)
    real = re.fullmatch(r"-?([0-9.]+(e[+-][0-9]+)?|Infinity)", cell)
    return float(cell) if real else cell


_BOUND: Mapping[str, Callable[[Any], object]] = {
    "small": int,
    "large": int,
    "amount": _number,
    "double": float,
    "float_text": float,
    "truth": lambda cell: int(cell == "true"),
    "word": lambda cell: int(cell == "true"),
    "raw": bytes,
    "base64": bytes,
    "hex": bytes,
    "anything": _anything,
}


def test_edges_of_every_sqlite_declaration_go_there_and_back(
    sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    Each value that fits its declaration is in the record exactly as SQLite keeps it.
    """
    columns = sqlite_table(sqlite)

    copied = sqlite_there_and_back(sqlite, redis_server, columns, edge_values(columns))

    assert len(copied.records) == 1 + max(len(edge.values) for edge in columns.values())


def test_drawn_values_of_every_sqlite_declaration_go_there_and_back(
    sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    The same holds for values that nobody thought of.
    """
    columns = sqlite_table(sqlite)

    @few
    @given(values=drawn_values(columns))
    def check(values: Values) -> None:
        sqlite_there_and_back(sqlite, redis_server, columns, values)

    check()


# --- the same bytes -----------------------------------------------------------------------------


def both_tables(sqlite: Database, postgres: Database) -> None:
    """
    The same columns in both stores.
    """
    create(sqlite, {name: declared for name, (declared, _, _) in BOTH.items()})
    create(postgres, {name: declared for name, (_, declared, _) in BOTH.items()})


def both_copied(
    sqlite: Database, postgres: Database, server: RedisServer, values: Values
) -> tuple[dict[int, Record], dict[int, Record]]:
    """
    The records that the same values give from either store.
    """
    forms = {name: edge.form for name, (_, _, edge) in BOTH.items()}
    found = []
    for database, at in ((sqlite, 0), (postgres, 1)):
        fill(database, {name: types[at] for name, types in BOTH.items()}, values)
        copied = copy(database, server, mapping_of(forms))
        assert copied.rejects == []
        found.append(copied.records)
    return found[0], found[1]


BOTH_EDGES = {name: edge for name, (_, _, edge) in BOTH.items()}


def test_sqlite_and_postgresql_give_the_same_bytes(
    sqlite: SqliteDatabase, postgres: PostgresDatabase, redis_server: RedisServer
) -> None:
    """
    A value that both stores can hold gives one record, digest included, whichever it came from.
    """
    both_tables(sqlite, postgres)

    one, other = both_copied(sqlite, postgres, redis_server, edge_values(BOTH_EDGES))

    assert unlike(one, other) == []
    assert any(b"_h" in record for record in one.values())


def test_drawn_values_give_the_same_bytes_from_sqlite_and_postgresql(
    sqlite: SqliteDatabase, postgres: PostgresDatabase, redis_server: RedisServer
) -> None:
    """
    The same holds for values that nobody thought of.
    """
    both_tables(sqlite, postgres)

    @few
    @given(values=drawn_values(BOTH_EDGES))
    def check(values: Values) -> None:
        one, other = both_copied(sqlite, postgres, redis_server, values)
        assert unlike(one, other) == []

    check()


@pytest.mark.containers
@pytest.mark.parametrize("any_source", EDGED_SOURCES, indirect=True)
def test_edges_go_there_and_back_on_every_pair(
    any_source: Database, any_redis: RedisServer
) -> None:
    """
    Edges and drawn values alike, whatever the source and whatever the server.
    """
    there_and_back: Callable[..., Copied]
    if isinstance(any_source, PostgresDatabase):
        columns, there_and_back = postgres_table(any_source), postgres_there_and_back
    else:
        columns, there_and_back = sqlite_table(any_source), sqlite_there_and_back

    @few
    @given(values=drawn_values(columns))
    def check(values: Values) -> None:
        there_and_back(any_source, any_redis, columns, values)

    there_and_back(any_source, any_redis, columns, edge_values(columns))
    check()


@pytest.mark.containers
def test_every_redis_and_every_postgresql_gives_the_same_bytes(servers: Servers) -> None:
    """
    The same values give the same records, digests included, on all servers of the matrix.
    """
    columns = {name: edge for name, edge in POSTGRES.items() if edge.since <= 150000}
    targets = [servers.redis(name) for name in EVERY_REDIS]
    with (
        servers.postgres("postgres-15").database() as older,
        servers.postgres("postgres-17").database() as newer,
    ):
        for database in (older, newer):
            create(database, types_of(columns), first=POSTGRES_TYPES)

        def compare(values: Values) -> None:
            found = []
            for database in (older, newer):
                fill(database, types_of(columns), values)
                found += [
                    copy(database, server, mapping_of(forms_of(columns))) for server in targets
                ]
            assert [copied.rejects for copied in found] == [[]] * len(found)
            for other in found[1:]:
                assert unlike(found[0].records, other.records) == []

        @few
        @given(values=drawn_values(columns))
        def check(values: Values) -> None:
            compare(values)

        compare(edge_values(columns))
        check()


@pytest.mark.containers
def test_every_redis_gives_the_same_bytes_of_sqlite(
    sqlite: SqliteDatabase, servers: Servers
) -> None:
    """
    SQLite's values, too, are the same bytes on every server.
    """
    columns = sqlite_table(sqlite)
    targets = [servers.redis(name) for name in EVERY_REDIS]

    @few
    @given(values=drawn_values(columns))
    def check(values: Values) -> None:
        compare(values)

    def compare(values: Values) -> None:
        fill(sqlite, types_of(columns), values)
        first, *others = (
            copy(sqlite, server, mapping_of(forms_of(columns))).records for server in targets
        )
        for other in others:
            assert unlike(first, other) == []

    compare(edge_values(columns))
    check()


@pytest.mark.containers
def test_both_stores_give_the_same_bytes_on_every_pair(
    tmp_path: Path, any_redis: RedisServer, servers: Servers
) -> None:
    """
    SQLite and either PostgreSQL agree on every value that both can hold.
    """
    for name in ("postgres-15", "postgres-17"):
        sqlite = SqliteDatabase(tmp_path / f"{name}.db")
        with servers.postgres(name).database() as postgres:
            both_tables(sqlite, postgres)

            one, other = both_copied(sqlite, postgres, any_redis, edge_values(BOTH_EDGES))

            assert unlike(one, other) == []


# --- what does not move -------------------------------------------------------------------------

OUT_OF_RANGE = {
    "date": ("10000-01-01", "0001-12-31 BC", "5874897-12-31"),
    "timestamp": ("10000-01-01 00:00:00", "0001-12-31 23:59:59.999999 BC"),
    # Inside of the year where it was written, outside of it in UTC.
    "timestamptz": ("9999-12-31 23:59:59-01", "0001-01-01 00:00:00+01", "294276-12-31 23:59:59+00"),
}


@pytest.mark.parametrize("kind", OUT_OF_RANGE)
def test_years_that_a_record_cannot_hold_cost_only_their_rows(
    postgres: PostgresDatabase, redis_server: RedisServer, kind: str
) -> None:
    """
    Before year 1 and after 9999 a row is a reject that says so; its neighbours are moved.
    """
    values = ["2024-01-01", *OUT_OF_RANGE[kind], "0001-01-02", None, "9999-12-30"]
    create(postgres, {"v": kind})
    fill(postgres, {"v": kind}, {"v": values})

    copied = copy(postgres, redis_server, mapping_of({"v": None}))
    as_text = copy(postgres, redis_server, mapping_of({"v": "text"}))

    bad = range(1, 1 + len(OUT_OF_RANGE[kind]))
    refused = {reject.key: (reject.fault.column, reject.fault.reason) for reject in copied.rejects}
    assert refused == {(str(number),): ("v", "out-of-range") for number in bad}
    assert copied.records.keys() == set(range(len(values))) - set(bad)
    assert (len(as_text.records), as_text.rejects) == (len(values), [])


@pytest.mark.parametrize(
    ("column", "declared"),
    [
        ("cash", "money"),
        ("couple", "pair"),
        ("couples", "pair[]"),
        ("amounts", "money[]"),
        ("routine", "regproc"),
    ],
)
def test_a_type_without_a_codec_is_refused_before_anything_is_read(
    tmp_path: Path,
    postgres: PostgresDatabase,
    redis_server: RedisServer,
    column: str,
    declared: str,
) -> None:
    """
    The plan ends with 2, names the column's place in the file, and says what to write instead.
    """
    create(postgres, {column: declared}, first=POSTGRES_TYPES)
    project = Project(tmp_path, postgres.url, redis_server.url)
    head = (
        "version: 1\nname: edges\nsource: {table: edges, key: [id]}\n"
        'target: {key: "edge:{id}"}\nfields:\n  id: {}\n'
    )
    project.mapping("edges", f"{head}  {column}: {{}}\n")

    planned = project.run("plan", "edges")
    copied = project.run("backfill", "edges")
    project.mapping("edges", f"{head}  {column}: {{as: text}}\n")
    mended = project.run("plan", "edges")

    for ran in (planned, copied):
        assert (ran.exit, ran.error) == (2, "schema-mismatch")
        place = f"edges.yaml:7:{len(column) + 5}"
        assert f"{place}: [no-codec] Column '{column}' has type {declared}" in ran.err
        assert "`as: text`" in ran.err and "`drop: true`" in ran.err
    assert redis_server.client().dbsize() == 0
    assert mended.exit == 0, mended.err


def test_every_column_without_a_codec_is_named_at_once(postgres: PostgresDatabase) -> None:
    """
    A mapping without `fields` takes every column, and each that cannot be taken is a problem.
    """
    create(postgres, {"cash": "money", "ok": "text", "couple": "pair"}, first=POSTGRES_TYPES)
    with opened(postgres) as source:
        table = source.reflect(None, "edges")
    assert table is not None

    with pytest.raises(SchemaMismatch) as refused:
        compile_mapping(mapping_of(), table)

    rules = [problem.rule for problem in refused.value.problems]
    assert rules == ["no-codec", "no-codec"]


def test_a_value_that_cannot_be_decoded_costs_only_its_row(
    sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    Texts that are not UTF-8, in the middle of pages and at their ends, are rejects; the rest moves.
    """
    bad = {0, edges.PAGE - 1, edges.PAGE, 20}
    create(sqlite, {"v": "TEXT", "w": "TEXT"})
    sqlite.execute(
        "INSERT INTO edges VALUES (?, CAST(? AS TEXT), 'é')",
        *((number, b"a\xff\xfeb" if number in bad else b"fine") for number in range(40)),
    )

    copied = copy(sqlite, redis_server, mapping_of())

    refused = {reject.key: (reject.fault.column, reject.fault.reason) for reject in copied.rejects}
    assert refused == {(number,): ("v", "invalid-utf8") for number in sorted(bad)}
    assert copied.records.keys() == set(range(40)) - bad
    assert all(record[b"w"] == "é".encode() for record in copied.records.values())


def test_a_text_in_no_encoding_costs_only_its_row(
    postgres: PostgresDatabase, redis_server: RedisServer
) -> None:
    """
    A database that checks no encoding gives one reject for each bad text, and all other rows.
    """
    bad = {0, edges.PAGE - 1, edges.PAGE, 20}
    name = f"{postgres.name}_ascii"
    with postgres.server.connect() as connection:
        connection.execute(
            f"CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'"
        )
    try:
        unchecked = PostgresDatabase(postgres.server, name)
        create(unchecked, {"v": "text"})
        with unchecked.connect() as connection, connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO edges VALUES (%s, convert_from(%s, 'SQL_ASCII'))",
                [(number, b"a\xff\xfeb" if number in bad else b"fine") for number in range(40)],
            )

        copied = copy(unchecked, redis_server, mapping_of())
    finally:
        with postgres.server.connect() as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    refused = {reject.key: (reject.fault.column, reject.fault.reason) for reject in copied.rejects}
    assert refused == {(str(number),): ("v", "unreadable") for number in sorted(bad)}
    assert copied.records.keys() == set(range(40)) - bad


def test_a_record_of_nulls_is_told_from_one_of_empty_values(
    source: Database, redis_server: RedisServer
) -> None:
    """
    NULL is an absent field, an empty text or binary value an empty one, and both come back.
    """
    binary = "bytea" if isinstance(source, PostgresDatabase) else "BLOB"
    create(source, {"v": "text", "w": binary})
    fill(source, {"v": "text", "w": binary}, {"v": [None, ""], "w": [None, b""]})

    copied = copy(source, redis_server, mapping_of({"v": None, "w": None}))

    assert [plain(copied.records[number]) for number in (0, 1)] == [{}, {b"v": b"", b"w": b""}]
    assert [copied.cells(number) for number in (0, 1)] == [
        {"v": None, "w": None},
        {"v": "", "w": b""},
    ]
