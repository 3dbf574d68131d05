"""
Generated profiles for tests: the sample table on SQLite, and its shape on PostgreSQL and MariaDB.

The same number of rows is always the same content.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from migrate.cli.demo.sample import (
    AWKWARD,
    DELETED_EVERY,
    EXTREME_IDS,
    SECRET_PREFIX,
    Sample,
    write_sample,
)

TYPES = {
    "id": "integer",
    "email": "text",
    "display_name": "text",
    "locale": "text",
    "bio": "text",
    "birth_date": "date",
    "score": "decimal:4",
    "follower_count": "integer",
    "rating": "float",
    "is_verified": "boolean",
    "created_at": "timestamptz",
    "updated_at": "timestamp",
    "settings": "json",
    "avatar": "bytes",
}
"""What each field of `mappings/user_profiles.yaml` holds, for `parity.compare_hashes`."""

QUERY = """
SELECT id, email_address AS email, display_name, locale, bio, birth_date, score, follower_count,
       rating, is_verified, created_at, updated_at, settings, avatar
FROM user_profiles WHERE deleted_at IS NULL
"""
"""The rows that should have a record, by field name."""


def key_of(row: Any) -> str:
    """
    The Redis key of a profile.
    """
    return f"profile:{row['id']}"


def create_sqlite(path: Path, rows: int, *, seed: int = 1, with_rejects: bool = False) -> Sample:
    """
    The sample table in a new SQLite file; without rows that cannot be moved unless asked.
    """
    return write_sample(path, rows=rows, seed=seed, with_rejects=with_rejects)


def create_postgres(
    execute: Callable[[str], object],
    rows: int,
    *,
    table: str = "user_profiles",
    json_type: str = "jsonb",
) -> None:
    """
    The same table on PostgreSQL, made by the server itself: a million rows in seconds.

    Args:
        execute: Runs one statement without parameters, for example `PostgresDatabase.execute`;
            not SQLAlchemy's `text`, which sees parameters in the literals.

        json_type: jsonb, or json, which keeps blanks, key order and repeated keys.
    """
    expressions = ", ".join(_expressions(json_type))
    statements = (
        f"CREATE TABLE {table} ({_columns(json_type)})",
        f"INSERT INTO {table} SELECT {expressions} FROM generate_series(1, {rows}) AS i",
        f"ALTER TABLE {table} ADD PRIMARY KEY (id)",
        f"ANALYZE {table}",
    )
    for statement in statements:
        execute(statement)


CHILDREN = """
children:
  addresses:
    table: user_addresses
    join: {user_id: id}
    order_by: [position]
    columns: [position, street, city]
  roles: {table: user_roles, join: {user_id: id}, order_by: [role], column: role}
"""
"""For the end of the shipped mapping, with the tables of `create_children`."""


def create_children(execute: Callable[[str], object]) -> None:
    """
    Two child tables of the profiles on PostgreSQL: up to three addresses and two roles each.
    """
    for statement in (
        "CREATE TABLE user_addresses (user_id bigint, position int, street text, city text)",
        """
        INSERT INTO user_addresses
        SELECT id, n, n || ' Rue de la Paix ' || id, CASE WHEN id % 5 <> 0 THEN 'Zürich' END
        FROM user_profiles, generate_series(1, abs(id / 3 % 4)::int) AS n
        """,
        "ALTER TABLE user_addresses ADD PRIMARY KEY (user_id, position)",
        "CREATE TABLE user_roles (user_id bigint, role text)",
        """
        INSERT INTO user_roles SELECT id, (ARRAY['admin', 'editor'])[n]
        FROM user_profiles, generate_series(1, abs(id / 5 % 3)::int) AS n
        """,
        "ALTER TABLE user_roles ADD PRIMARY KEY (user_id, role)",
        "ANALYZE user_addresses",
        "ANALYZE user_roles",
    ):
        execute(statement)


_POSTGRES = {
    "id": "bigint",
    "email_address": "text NOT NULL",
    "display_name": "text",
    "locale": "text",
    "bio": "text",
    "birth_date": "date",
    "score": "numeric(12,4)",
    "follower_count": "bigint",
    "rating": "double precision",
    "is_verified": "boolean",
    "created_at": "timestamptz NOT NULL",
    "updated_at": "timestamp",
    "settings": "{json}",
    "avatar": "bytea",
    "password_hash": "text",
    "deleted_at": "timestamptz",
}

_POSTGRES_ONLY: dict[str, tuple[str, ...]] = {
    "birth_date": ("infinity", "-infinity"),
    "score": ("NaN", "-0.0000", "0.1000"),
    "rating": ("NaN", "-0"),
    "created_at": ("infinity", "-infinity"),
    "updated_at": ("infinity", "-infinity"),
}
"""Values that SQLite has no way to hold."""

_ORDINARY = {
    # Ids with gaps that go below zero; i*3 keeps them apart, the last term makes them uneven.
    "id": (
        f"CASE WHEN i <= {len(EXTREME_IDS)} "
        f"THEN ('{{{','.join(map(str, EXTREME_IDS))}}}'::bigint[])[i] "
        "ELSE i::bigint * 3 - 300000 + i % 2 END"
    ),
    "email_address": "'user' || i || '@example.org'",
    "display_name": "(ARRAY['Ada','Björn','Chloé','Đặng','Fatma'])[1 + i % 5] || ' ' || i",
    "locale": "(ARRAY['en-GB','de-DE','fr-FR','pt-BR','ja-JP','ar-EG','he-IL'])[1 + i % 7]",
    "bio": "repeat('reads, café, 日本 ', 1 + i % 6) || md5(i::text)",
    "birth_date": "date '1940-01-01' + (i::bigint * 7919 % 25000)::int",
    "score": "(i::bigint * 7368787 % 1000000000000)::numeric / 10000",
    "follower_count": "i::bigint * 48271 % 2147483647",
    "rating": "(i::bigint * 16807 % 2147483647) / 429496729.4",
    "is_verified": "i % 3 = 0",
    "created_at": "timestamptz '2024-06-01 00:00:00+00' - i * interval '12.345678 seconds'",
    "updated_at": "timestamp '2024-06-01 00:00:00' - i * interval '1.5 seconds'",
    "settings": (
        """('{"theme": "dark", "volume": ' || i % 100 || '.50, "n": ' || i || '}')::{json}"""
    ),
    "avatar": "decode(md5(i::text), 'hex')",
    "password_hash": f"'{SECRET_PREFIX}' || md5((i + 1)::text)",
    "deleted_at": (
        f"CASE WHEN i % {DELETED_EVERY} = 0 THEN timestamptz '2024-05-01 00:00:00+00' END"
    ),
}


def _columns(json_type: str) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in _POSTGRES.items()).replace(
        "{json}", json_type
    )


def _expressions(json_type: str) -> list[str]:
    found = []
    for number, (column, declared) in enumerate(_POSTGRES.items()):
        kind = declared.removesuffix(" NOT NULL").replace("{json}", json_type)
        ordinary = _ORDINARY[column].replace("{json}", json_type)
        options = [_literal(value, kind) for value in _options(column)]
        # A stride of its own, so that rows meet many combinations.
        stride = 5 + 2 * number
        found.append(
            f"CASE WHEN i % {stride} = 0 "
            # Shifted by one each time round, as in the sample.
            f"THEN (ARRAY[{', '.join(options)}])"
            f"[1 + (i / {stride} + i / {stride * len(options)}) % {len(options)}] "
            f"ELSE {ordinary} END"
            if options
            else ordinary
        )
    return found


def _options(column: str) -> list[object]:
    # PostgreSQL takes no NUL in text.
    values = [v for v in AWKWARD.get(column, ()) if not (isinstance(v, str) and "\x00" in v)]
    return [*values, *_POSTGRES_ONLY.get(column, ())]


def _literal(value: object, kind: str) -> str:
    if value is None:
        return f"NULL::{kind}"
    text = f"\\x{value.hex()}" if isinstance(value, bytes) else str(value)
    return "'" + text.replace("'", "''") + f"'::{kind}"


def create_mariadb(execute: Callable[[str], object], rows: int) -> None:
    """
    The same table on MariaDB, made by the server itself.

    Args:
        execute: Runs one statement without parameters: `MariadbDatabase.execute`.
    """
    columns = ", ".join(f"{name} {declared}" for name, declared in _MARIADB.items())
    expressions = ", ".join(_mariadb_expressions())
    execute(f"CREATE TABLE user_profiles ({columns}) CHARACTER SET utf8mb4")
    numbers = f"SELECT CAST(seq AS SIGNED) AS i FROM seq_1_to_{rows}"
    execute(f"INSERT INTO user_profiles SELECT {expressions} FROM ({numbers}) AS n")
    execute("ALTER TABLE user_profiles ADD PRIMARY KEY (id)")
    execute("ANALYZE TABLE user_profiles")


_MARIADB = {
    "id": "BIGINT NOT NULL",
    "email_address": "VARCHAR(255) NOT NULL",
    "display_name": "TEXT",
    "locale": "VARCHAR(40)",
    "bio": "MEDIUMTEXT",
    "birth_date": "DATE",
    "score": "DECIMAL(12,4)",
    "follower_count": "BIGINT",
    "rating": "DOUBLE",
    "is_verified": "BOOLEAN",
    "created_at": "TIMESTAMP(6) NOT NULL DEFAULT '2001-01-01'",
    "updated_at": "DATETIME(6)",
    "settings": "JSON",
    "avatar": "LONGBLOB",
    "password_hash": "TEXT",
    "deleted_at": "TIMESTAMP NULL",
}

_MARIADB_MOMENTS = (
    "1970-01-01 00:00:01",
    "2038-01-19 03:14:07.999999",
    "2024-03-31 00:30:00",
    "2024-03-31 01:30:00.12",
    "2024-02-29 23:59:59.999999",
)
"""What a TIMESTAMP can hold there."""

_MARIADB_ORDINARY = {
    "id": (
        f"IF(i <= {len(EXTREME_IDS)}, CAST(ELT(i, {', '.join(map(str, EXTREME_IDS))}) AS SIGNED), "
        "i * 3 - 300000 + i % 2)"
    ),
    "email_address": "CONCAT('user', i, '@example.org')",
    "display_name": "CONCAT(ELT(1 + i % 5, 'Ada','Björn','Chloé','Đặng','Fatma'), ' ', i)",
    "locale": "ELT(1 + i % 7, 'en-GB','de-DE','fr-FR','pt-BR','ja-JP','ar-EG','he-IL')",
    "bio": "CONCAT(REPEAT('reads, café, 日本 ', 1 + i % 6), MD5(i))",
    "birth_date": "'1940-01-01' + INTERVAL (i * 7919 % 25000) DAY",
    "score": "(i * 7368787 % 1000000000000) / 10000",
    "follower_count": "i * 48271 % 2147483647",
    "rating": "(i * 16807 % 2147483647) / 429496729.4e0",
    "is_verified": "i % 3 = 0",
    "created_at": "'2024-06-01 00:00:00' - INTERVAL i * 12345678 MICROSECOND",
    "updated_at": "'2024-06-01 00:00:00' - INTERVAL i * 1500000 MICROSECOND",
    "settings": """CONCAT('{"theme": "dark", "volume": ', i % 100, '.50, "n": ', i, '}')""",
    "avatar": "UNHEX(MD5(i))",
    "password_hash": f"CONCAT('{SECRET_PREFIX}', MD5(i + 1))",
    "deleted_at": f"IF(i % {DELETED_EVERY} = 0, '2024-05-01 00:00:00', NULL)",
}


def _mariadb_expressions() -> list[str]:
    found = []
    for number, column in enumerate(_MARIADB):
        options = [_mariadb_literal(value) for value in _mariadb_options(column)]
        ordinary = _MARIADB_ORDINARY[column]
        stride = 5 + 2 * number
        turn = f"(i DIV {stride} + i DIV {stride * max(1, len(options))}) % {max(1, len(options))}"
        found.append(
            f"CASE WHEN i % {stride} = 0 THEN ELT(1 + {turn}, {', '.join(options)}) "
            f"ELSE {ordinary} END"
            if options
            else ordinary
        )
    return found


def _mariadb_options(column: str) -> list[object]:
    if column == "created_at":
        return list(_MARIADB_MOMENTS)
    # No double of this server is infinite.
    return [value for value in AWKWARD.get(column, ()) if "inf" not in str(value)[:4]]


def _mariadb_literal(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"X'{value.hex()}'"
    return "'" + str(value).replace("'", "''") + "'"
