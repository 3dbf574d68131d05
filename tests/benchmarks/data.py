"""
The tables that are moved, made by each server itself, with the same content on all of them.

Standard SQL as far as it goes; what differs between the dialects stands in one table here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.servers import Database

ONE = "profiles_one"
"""A table with the first profile only: what a run costs before its first row."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """
    How a server says what the others say differently.

    Args:
        before: Goes in front of each script.

        numbers: Rows `i` from 1 to {rows}.

        date: The same text as a date, where a server wants to be told.

        after: Run once a table is filled, with {table}.
    """

    before: str
    numbers: str
    divide: str
    date: str
    timestamp: str
    hexadecimal: str
    text: str
    moment: str
    after: str


DIALECTS = {
    "postgresql": Dialect(
        before="",
        numbers="(SELECT CAST(g AS bigint) AS i FROM generate_series(1, {rows}) AS g) AS n",
        divide="/",
        date="CAST({} AS date)",
        timestamp="CAST({} AS timestamp)",
        hexadecimal="to_hex({})",
        text="text",
        moment="timestamp",
        after="VACUUM (ANALYZE) {table}",
    ),
    "mariadb": Dialect(
        before="SET sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT', unique_checks = 0;",
        numbers="(SELECT CAST(seq AS SIGNED) AS i FROM seq_1_to_{rows}) AS n",
        divide="DIV",
        date="{}",
        timestamp="{}",
        hexadecimal="LOWER(HEX({}))",
        text="VARCHAR(255)",
        moment="DATETIME",
        after="ANALYZE TABLE {table}",
    ),
    "sqlite": Dialect(
        before="PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;",
        numbers=(
            "(WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < {rows}) "
            "SELECT i FROM c) AS n"
        ),
        divide="/",
        date="{}",
        timestamp="{}",
        hexadecimal="printf('%x', {})",
        text="TEXT",
        moment="TIMESTAMP",
        after="ANALYZE {table}",
    ),
}


@dataclass(frozen=True, slots=True)
class Table:
    """
    One table.

    Args:
        columns: Name: declared type and the expression of its value in row `i`.

        rows: How many values `i` has.

        kept: Which of them make a row, and how many each: a further source of rows `n.j`.

        key: The primary key.
    """

    name: str
    columns: Mapping[str, tuple[str, str]]
    rows: int
    key: Sequence[str] = ("id",)
    kept: str = ""


def key_of(number: int) -> int:
    """
    The id of the profile that was made of this number, counted from 1.
    """
    return 3 * number


def _pick(values: Sequence[str], turn: str) -> str:
    cases = " ".join(f"WHEN {place} THEN '{value}'" for place, value in enumerate(values))
    return f"CASE ({turn}) % {len(values)} {cases} END"


def _two(number: str) -> str:
    return f"substr(('' || (100 + ({number}))), 2, 2)"


_DAY = f"{_two('1 + i % 12')} || '-' || {_two('1 + i % 28')}"
_CLOCK = f"{_two('i % 24')} || ':' || {_two('i % 60')} || ':' || {_two('(i * 7) % 60')}"
_BIO = (
    "'Reads, writes and walks: café, 日本, ' || {hex(i * 2654435761 % 4294967296)} || "
    "' and again ' || {hex(i * 40503 % 65536)} || ', most of all on ' || "
    f"{_pick(['Sundays', 'Mondays at noon', 'holidays', 'rainy days'], 'i')} || "
    "'. Born near a river, at home wherever there is one.'"
)

PROFILE = {
    "id": ("BIGINT NOT NULL", "3 * i"),
    "email": ("{text} NOT NULL", "'user' || i || '@example.org'"),
    "display_name": (
        "{text}",
        _pick(["Ada", "Björn", "Chloé", "Đặng", "Fatma"], "i") + " || ' ' || i",
    ),
    "locale": ("{text}", _pick(["en-GB", "de-DE", "fr-FR", "pt-BR", "ja-JP", "ar-EG"], "i")),
    "avatar_url": (
        "{text}",
        "'https://cdn.example.org/avatars/' || {hex(i * 48271 % 2147483647)} || '/large.png'",
    ),
    # One in ten is NULL, which is a field that the record does not have.
    "bio": ("{text}", f"CASE WHEN i % 10 = 0 THEN NULL ELSE {_BIO} END"),
    "birth_date": ("DATE", "{date(('' || (1940 + i % 60)) || '-' || " + _DAY + ")}"),
    "score": ("DECIMAL(12,4)", "(i * 7368787 % 100000000) / 10000.0"),
    "follower_count": ("BIGINT", "i * 48271 % 2147483647"),
    "is_verified": ("BOOLEAN", "i % 3 = 0"),
    "created_at": (
        "{moment}",
        "{timestamp(('' || (2000 + i % 24)) || '-' || " + _DAY + " || ' ' || " + _CLOCK + ")}",
    ),
}
"""Eleven columns, about 300 bytes of values a row."""

NARROW = {name: PROFILE[name] for name in ("id", "email", "display_name")}


def _wide() -> dict[str, tuple[str, str]]:
    found = {"id": PROFILE["id"]}
    for number in range(2, 61):
        kinds = (
            ("{text}", f"'value {number} of ' || i"),
            ("BIGINT", f"i * {number}"),
            ("{text}", _pick(["red", "green", "blue", "gelb", "weiß"], f"i + {number}")),
            ("DECIMAL(12,4)", f"(i * {number} % 100000000) / 10000.0"),
            ("BOOLEAN", f"(i + {number}) % 2 = 0"),
            ("DATE", PROFILE["birth_date"][1]),
        )
        found[f"c{number:02}"] = kinds[number % len(kinds)]
    return found


WIDE = _wide()
"""Sixty columns of mixed types."""

ADDRESSES = {
    "profile_id": ("BIGINT NOT NULL", "3 * i"),
    "position": ("INTEGER NOT NULL", "j"),
    "street": ("{text}", "'Rue de la Paix ' || j || ', house ' || i"),
    "city": ("{text}", _pick(["Zürich", "Kyoto", "Lagos", "Lima"], "i + j")),
}

ROLES = {
    "profile_id": ("BIGINT NOT NULL", "3 * i"),
    "position": ("INTEGER NOT NULL", "j"),
    "role": ("{text}", _pick(["admin", "editor"], "i + j")),
}


def _up_to(count: int, turn: str) -> str:
    numbers = " UNION ALL ".join(f"SELECT {n} AS j" for n in range(1, count + 1))
    return f"CROSS JOIN ({numbers}) AS m WHERE j <= {turn}"


def sizes(rows: int) -> list[Table]:
    """
    Three tenths, once and three times as many profiles: what a row costs at each size.
    """
    return [
        Table("profiles_small", PROFILE, max(1, rows * 3 // 10)),
        Table("profiles", PROFILE, rows),
        Table("profiles_large", PROFILE, rows * 3),
    ]


def tables(rows: int) -> list[Table]:
    """
    All other tables for so many profiles.
    """
    children = ("profile_id", "position")
    return [
        Table(ONE, PROFILE, 1),
        Table("profiles", PROFILE, rows),
        Table("wide", WIDE, max(1, rows // 10)),
        Table("narrow", NARROW, rows),
        Table("addresses", ADDRESSES, rows, children, _up_to(3, "(i {div} 3) % 4")),
        Table("roles", ROLES, rows, children, _up_to(2, "(i {div} 5) % 3")),
    ]


def create(database: Database, table: Table) -> None:
    """
    Make and fill a table, and have the server look at it.
    """
    dialect = DIALECTS[database.dialect]
    columns = ", ".join(f"{name} {kind}" for name, (kind, _) in table.columns.items())
    columns = columns.replace("{text}", dialect.text).replace("{moment}", dialect.moment)
    values = ", ".join(value for _, value in table.columns.values())
    numbers = dialect.numbers.format(rows=table.rows)
    kept = table.kept.replace("{div}", dialect.divide)
    suffix = " CHARACTER SET utf8mb4" if database.dialect == "mariadb" else ""
    script = (
        f"{dialect.before} CREATE TABLE {table.name} "
        f"({columns}, PRIMARY KEY ({', '.join(table.key)})){suffix}; "
        f"INSERT INTO {table.name} SELECT {_spelled(values, dialect)} FROM {numbers} {kept}"
    )
    database.execute(script)
    database.execute(dialect.after.format(table=table.name))


def _spelled(expression: str, dialect: Dialect) -> str:
    """
    The expressions with `{date(...)}` and the like as the dialect says them.
    """
    forms = {"hex(": dialect.hexadecimal, "date(": dialect.date, "timestamp(": dialect.timestamp}
    for name, form in forms.items():
        start = "{" + name
        while (at := expression.find(start)) >= 0:
            end = expression.index(")}", at)
            inner = expression[at + len(start) : end]
            expression = expression[:at] + form.format(inner) + expression[end + 2 :]
    return expression


def warm(database: Database, table: str) -> int:
    """
    Read a table once, so that no contender is the first; answers its number of rows.
    """
    [(found, _)] = database.query(f"SELECT count(*), max(length(email)) FROM {table}")
    return int(found)
