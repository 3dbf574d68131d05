"""
Makes up a SQLite table of user profiles, awkward values included; no value is a real person's.

The same seed makes the same rows on every machine. What SQLite cannot hold (the minus of a
negative zero, a NaN) it changes by itself, and then that is what the profile says.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

TABLE = "user_profiles"

SCHEMA = f"""
CREATE TABLE {TABLE} (
    id BIGINT NOT NULL PRIMARY KEY,
    email_address TEXT NOT NULL,
    display_name TEXT,
    locale TEXT,
    bio TEXT,
    birth_date DATE,
    score DECIMAL(12,4),
    follower_count BIGINT,
    rating FLOAT,
    is_verified BOOLEAN,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at DATETIME,
    settings JSON,
    avatar BLOB,
    password_hash TEXT,
    deleted_at TIMESTAMP WITH TIME ZONE
)
"""

Value = str | int | float | bytes | None
Row = dict[str, Value]

SECRET_PREFIX = "$argon2id$v=19$m=65536,t=3,p=4$"
"""Every made-up password hash begins with it; the mapping drops them, so Redis never holds it."""

AWKWARD: dict[str, tuple[Value, ...]] = {
    "display_name": (
        None,
        "",
        "👩‍👩‍👧‍👦 the Family",
        "🏳️‍🌈🧑🏽‍🚀👍🏿",
        "محمد عبد الله",
        "שלום עולם",
        "\u202eright to left, forced\u202c",
        "Zo\u00eb",
        "Zoe\u0308",
        "Z\u0351\u036b\u0343a\u0363l\u0368g\u0369o\u0360",
        "王小明 / 王小明　（全角）",
        "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 \U0010fffd",
        "NUL\x00 in the middle",
        " blanks at both ends ",
        "two\r\nlines\tand a tab",
        "\"quotes\", 'more', `ticks` and \\backslashes\\",
        "{id} {{literal}} %s %00 $1",
        "NULL",
        "\\N",
        "\ufeffa mark in front",
        "\u2028\u2029\x85",
    ),
    "locale": (None, "", "zh-Hant-TW", "sr-Latn-RS-ekavsk"),
    "bio": (
        None,
        "",
        "é" * 5_000,
        "👩🏽‍💻 " * 1_000,
        "x" * 5_000,
        "a\x00b" * 10,
        "*3\r\n$3\r\nSET\r\n",
    ),
    "birth_date": (None, "0001-01-01", "1899-12-31", "1970-01-01", "2000-02-29", "9999-12-31"),
    "score": (None, 0, -0.0, 0.1, 1.1, 100, 12345678.9012, 99999999.9999, -99999999.9999, -0.0001),
    "follower_count": (
        None,
        0,
        -1,
        2**31,
        2**53 - 1,
        2**53,
        2**53 + 1,
        2**63 - 1,
        -(2**63),
    ),
    "rating": (
        None,
        0.0,
        -0.0,
        0.1,
        1 / 3,
        4.0,
        1e15,
        1e16,
        1e22,
        1e-5,
        2.0**53 + 2,
        5e-324,
        1.7976931348623157e308,
        float("inf"),
        float("-inf"),
    ),
    "is_verified": (None,),
    "created_at": (
        "0001-01-01 00:00:00+00:00",
        "9999-12-31T23:59:59.999999Z",
        "1969-12-31 23:59:59.5-12:00",
        "2024-02-29T23:59:59.999999+14:00",
        "2024-03-31 02:30:00+01:00",
        "2024-03-31T02:30:00.120000+02:00",
        "1970-01-01T00:00:00Z",
        "2021-07-01 12:00:00+05:45",
    ),
    "updated_at": (
        None,
        "0001-01-01 00:00:00",
        "9999-12-31 23:59:59.999999",
        "2024-10-27 02:30:00",
        "2024-01-02T03:04:05.600000",
        "2024-01-02 03:04:05.000001",
    ),
    "settings": (
        None,
        "null",
        "{}",
        "[]",
        '{"theme": "dark", "volume": 1.10}',
        '{"z": 1, "a": 2, "m": {"y": 1, "b": 2}}',
        '{"twice": 1, "twice": 2}',
        '{"big": 12345678901234567890, "exponent": 1E5, "zero": -0.0}',
        '{"escaped": "\\u00e9", "plain": "é", "slash": "\\/"}',
        '{ "blanks" : [ 1,2 , 3 ] }\n',
        '{"emoji": "👩‍👩‍👧‍👦", "surrogates": "\\ud83d\\ude00"}',
    ),
    "avatar": (
        None,
        b"",
        b"\x00",
        bytes(range(256)),
        b"\xff\xfe\xfd",
        b"$-1\r\n",
        b"\x1f\x8b" * 2_000,
    ),
}

_STRIDES = {column: 5 + 2 * at for at, column in enumerate(AWKWARD)}
"""Every so many rows a column takes its next awkward value; different for each column."""

EXTREME_IDS = (-(2**63), 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1)

IMMOVABLE: dict[str, tuple[str, str]] = {
    "follower_count": ("'lots'", "a word in an integer column"),
    "birth_date": ("'2023-02-30'", "a day that no calendar has"),
    "bio": ("CAST(x'66616cff73' AS TEXT)", "bytes that are not UTF-8 in a text column"),
}
"""Column, the SQL literal planted there, and what is wrong with it: SQLite keeps any of them."""

DELETED_EVERY = 37
_EPOCH = datetime(2024, 6, 1, tzinfo=UTC)
_OFFSETS = tuple(timezone(timedelta(minutes=m)) for m in (0, 60, -480, 330, 345, 840, -720, -210))
_NAMES = (
    "Ada",
    "Björn",
    "Chloé",
    "Đặng",
    "Émile",
    "Fatma",
    "Grzegorz",
    "Hüseyin",
    "Iñaki",
    "Jürgen",
)
_WORDS = (
    "reads",
    "runs",
    "paints",
    "writes",
    "café",
    "naïve",
    "smörgås",
    "日本",
    "музыка",
    "λόγος",
)
_LOCALES = ("en-GB", "de-DE", "fr-FR", "pt-BR", "ja-JP", "ar-EG", "he-IL", "uk-UA")


@dataclass(frozen=True, slots=True)
class Sample:
    """
    What was written.

    Args:
        rows: In the table, all of them.

        deleted: Rows with `deleted_at`, which the mapping's filter leaves out.

        immovable: Ids of the planted rows that cannot become a record, by column.
    """

    path: Path
    rows: int
    deleted: int
    immovable: dict[str, int]


def write_sample(
    path: Path, *, rows: int = 10_000, seed: int = 1, with_rejects: bool = True
) -> Sample:
    """
    Write a new SQLite database of made-up profiles.

    Args:
        path: A file that does not exist yet.

        with_rejects: Plant three rows that cannot be moved, each for another reason.

    Raises:
        sqlite3.OperationalError: The table is there already.
    """
    connection = sqlite3.connect(path)
    try:
        with connection:
            connection.execute(SCHEMA)
            connection.executemany(_INSERT, generate(rows, seed))
            immovable = _plant(connection) if with_rejects else {}
            deleted = connection.execute(f"SELECT count(deleted_at) FROM {TABLE}").fetchone()[0]
    finally:
        connection.close()
    return Sample(path, rows, deleted, immovable)


def generate(rows: int, seed: int) -> Iterator[Row]:
    """
    Profiles in the order of their ids, which have gaps and go below zero.
    """
    chance = random.Random(seed)
    for number, identity in enumerate(_ids(rows, chance)):
        row = {"id": identity} | {name: make(number, chance) for name, make in _ORDINARY.items()}
        for column, stride in _STRIDES.items():
            if number % stride == 0:
                row[column] = _awkward(column, number // stride)
        yield row


def _awkward(column: str, turn: int) -> Value:
    # Shifted by one each time round: otherwise two columns whose rhythms share a factor would
    # meet in a few combinations only.
    options = AWKWARD[column]
    return options[(turn + turn // len(options)) % len(options)]


def _ids(rows: int, chance: random.Random) -> list[int]:
    identities = list(EXTREME_IDS[: max(0, rows - 1)])
    last = -rows // 4
    while len(identities) < rows:
        last += chance.randint(1, 3) if chance.random() < 0.99 else chance.randint(100, 10_000)
        identities.append(last)
    return sorted(identities)


def _plant(connection: sqlite3.Connection) -> dict[str, int]:
    kept = f"FROM {TABLE} WHERE deleted_at IS NULL"
    step = connection.execute(f"SELECT count(*) {kept}").fetchone()[0] // (len(IMMOVABLE) + 1)
    chosen: dict[str, int] = {}
    for at, (column, (literal, _)) in enumerate(IMMOVABLE.items(), start=1):
        nth = f"SELECT id {kept} ORDER BY id LIMIT 1 OFFSET {at * step}"
        chosen[column] = connection.execute(nth).fetchone()[0]
        # A literal of ours: the driver cannot bind text that is not UTF-8.
        update = f"UPDATE {TABLE} SET {column} = {literal} WHERE id = ?"
        connection.execute(update, (chosen[column],))
    return chosen


def _created(number: int, chance: random.Random) -> str:
    moment = _EPOCH - timedelta(seconds=chance.randrange(10**8), microseconds=number % 3 * 125_000)
    separator = "T" if number % 2 else " "
    return moment.astimezone(_OFFSETS[number % len(_OFFSETS)]).isoformat(separator)


def _updated(number: int, chance: random.Random) -> str:
    moment = _EPOCH - timedelta(microseconds=chance.randrange(10**13))
    return moment.replace(tzinfo=None).isoformat(" ", "microseconds" if number % 4 else "seconds")


def _deleted(number: int, chance: random.Random) -> str | None:
    if number % DELETED_EVERY != DELETED_EVERY - 1:
        return None
    return (_EPOCH - timedelta(seconds=chance.randrange(10**6))).isoformat(" ")


def _settings(number: int, chance: random.Random) -> str:
    theme = chance.choice(("dark", "light", "system"))
    return f'{{"theme": "{theme}", "volume": {chance.randrange(100)}.50, "n": {number}}}'


_ORDINARY: dict[str, Callable[[int, random.Random], Value]] = {
    "email_address": lambda number, chance: f"user{number}@example.org",
    "display_name": lambda number, chance: f"{chance.choice(_NAMES)} {number}",
    "locale": lambda number, chance: chance.choice(_LOCALES),
    "bio": lambda number, chance: " ".join(chance.choices(_WORDS, k=chance.randint(1, 20))),
    "birth_date": lambda number, chance: str(
        date(1940, 1, 1) + timedelta(chance.randrange(25_000))
    ),
    "score": lambda number, chance: chance.randrange(-(10**8), 10**10) / 10_000,
    "follower_count": lambda number, chance: chance.randrange(10 ** chance.randint(1, 18)),
    "rating": lambda number, chance: chance.random() * 5,
    "is_verified": lambda number, chance: chance.randrange(2),
    "created_at": _created,
    "updated_at": _updated,
    "settings": _settings,
    "avatar": lambda number, chance: chance.randbytes(chance.randint(1, 64)),
    "password_hash": lambda number, chance: SECRET_PREFIX + chance.randbytes(16).hex(),
    "deleted_at": _deleted,
}

_COLUMNS = ("id", *_ORDINARY)
_INSERT = (
    f"INSERT INTO {TABLE} ({', '.join(_COLUMNS)}) "
    f"VALUES ({', '.join(f':{column}' for column in _COLUMNS)})"
)
