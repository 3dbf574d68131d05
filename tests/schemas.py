"""
Schemas that a scaffold must cope with: odd names, keys, types and references, for each dialect.

Names are in double quotes, which every connection of the tests takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ALL = ("sqlite", "postgresql", "mariadb")


@dataclass(frozen=True, slots=True)
class Schema:
    """
    Tables with some rows, and what init is to make of them.

    Args:
        mappings: Records of each mapping.

        left_out: A part of the reason for each table that no mapping can hold.

        children: Every collection, as mapping and path.
    """

    name: str
    sql: str
    mappings: Mapping[str, int]
    left_out: Mapping[str, str] = field(default_factory=dict)
    children: frozenset[str] = frozenset()
    dialects: tuple[str, ...] = ALL


PERSON = "CREATE TABLE people (id INTEGER NOT NULL PRIMARY KEY, email VARCHAR(80));"
TWO = "INSERT INTO people VALUES (1, 'a@x'), (2, 'b@x');"
PG, LITE, MARIA = ("postgresql",), ("sqlite",), ("mariadb",)

SCHEMAS = [
    Schema("one table", f"{PERSON}{TWO}", {"people": 2}),
    Schema("no rows", PERSON, {"people": 0}),
    Schema(
        "names with spaces",
        'CREATE TABLE "my people" ("the id" INTEGER NOT NULL PRIMARY KEY, "e mail" VARCHAR(80));'
        "INSERT INTO \"my people\" VALUES (1, 'a'), (2, NULL);",
        {"my_people": 2},
    ),
    Schema(
        "reserved words",
        'CREATE TABLE "order" ("select" INTEGER NOT NULL PRIMARY KEY, "from" VARCHAR(9), '
        '"null" VARCHAR(9), "true" INTEGER, "table" INTEGER, "key" INTEGER);'
        "INSERT INTO \"order\" VALUES (1, 'x', NULL, 3, 4, 5);",
        {"order": 1},
    ),
    Schema(
        "other scripts",
        'CREATE TABLE "naïve größe" ("ключ" INTEGER NOT NULL PRIMARY KEY, "名前" VARCHAR(9), '
        '"prénom" VARCHAR(9));'
        "INSERT INTO \"naïve größe\" VALUES (1, 'я', 'é');",
        {"naive_groe": 1},
    ),
    Schema(
        "a table in no alphabet of ours",
        'CREATE TABLE "ユーザー" (id INTEGER NOT NULL PRIMARY KEY);'
        'INSERT INTO "ユーザー" VALUES (1);',
        {"table": 1},
    ),
    Schema(
        "columns called as the record's own fields",
        'CREATE TABLE users (id INTEGER NOT NULL PRIMARY KEY, "_v" INTEGER, "_h" INTEGER, '
        '"_t" INTEGER, "_l" INTEGER, "_e" INTEGER, v INTEGER);'
        "INSERT INTO users VALUES (1, 2, 3, 4, 5, 6, 7);",
        {"users": 1},
    ),
    Schema(
        "columns that fold alike",
        'CREATE TABLE users (id INTEGER NOT NULL PRIMARY KEY, "a b" INTEGER, a_b INTEGER, '
        '"a-b" INTEGER, "aB" INTEGER);'
        "INSERT INTO users VALUES (1, 2, 3, 4, 5);",
        {"users": 1},
    ),
    Schema(
        "columns of signs alone",
        'CREATE TABLE users (id INTEGER NOT NULL PRIMARY KEY, "?" INTEGER, "!!" INTEGER, '
        '"*" INTEGER, "{x}" INTEGER, "%" INTEGER, "a:b" INTEGER, "#" INTEGER);'
        "INSERT INTO users VALUES (1, 2, 3, 4, 5, 6, 7, 8);",
        {"users": 1},
    ),
    Schema(
        "tables that fold alike",
        'CREATE TABLE "user list" (id INTEGER NOT NULL PRIMARY KEY, email VARCHAR(9));'
        'CREATE TABLE "user-list" (id INTEGER NOT NULL PRIMARY KEY, email VARCHAR(9));'
        "CREATE TABLE user_list (id INTEGER NOT NULL PRIMARY KEY, email VARCHAR(9));"
        "INSERT INTO \"user list\" VALUES (1, 'a'); INSERT INTO \"user-list\" VALUES (1, 'b');"
        "INSERT INTO user_list VALUES (1, 'c');",
        {"user_list": 1, "user_list_2": 1, "user_list_3": 1},
    ),
    Schema(
        "a table whose name others begin with",
        "CREATE TABLE u (id INTEGER NOT NULL PRIMARY KEY, email VARCHAR(9));"
        "CREATE TABLE u_email (id INTEGER NOT NULL PRIMARY KEY, email VARCHAR(9));"
        "INSERT INTO u VALUES (1, 'a'); INSERT INTO u_email VALUES (1, 'b');",
        {"u": 1, "u_email": 1},
    ),
    Schema(
        "digits first",
        'CREATE TABLE "2024 users" ("1st" INTEGER NOT NULL PRIMARY KEY, "2nd" INTEGER);'
        'INSERT INTO "2024 users" VALUES (1, 2);',
        {"t_2024_users": 1},
    ),
    Schema(
        "a dot in the names",
        'CREATE TABLE "my.users" (id INTEGER NOT NULL PRIMARY KEY, "a.b" INTEGER);'
        'INSERT INTO "my.users" VALUES (1, 2);',
        {"my_users": 1},
    ),
    Schema(
        "a dot in the key",
        f'{PERSON}{TWO}CREATE TABLE users ("a.b" INTEGER NOT NULL PRIMARY KEY);',
        {"people": 2},
        {"users": "cannot stand in a template"},
    ),
    Schema(
        "quotes in a column",
        f'{PERSON}{TWO}CREATE TABLE users (id INTEGER NOT NULL PRIMARY KEY, "a""b" INTEGER, '
        '"c\'d" INTEGER, "e`f" INTEGER, "g;h" INTEGER);'
        "INSERT INTO users VALUES (1, 2, 3, 4, 5);",
        {"people": 2, "users": 1},
    ),
    Schema(
        "quotes in a table",
        f'{PERSON}{TWO}CREATE TABLE "us""ers" (id INTEGER NOT NULL PRIMARY KEY);',
        {"people": 2},
        {'us"ers': "holds what no mapping may hold"},
    ),
    Schema(
        "a line end in a table",
        f'{PERSON}{TWO}CREATE TABLE "us\ners" (id INTEGER NOT NULL PRIMARY KEY);',
        {"people": 2},
        {"us\\ners": "holds what no mapping may hold"},
    ),
    Schema(
        "no key at all",
        f"{PERSON}{TWO}CREATE TABLE users (id INTEGER, email VARCHAR(9));",
        {"people": 2},
        {"users": "no primary key and no unique index"},
    ),
    Schema(
        "only keyless tables beside",
        "CREATE TABLE logs (line VARCHAR(9));"
        "CREATE TABLE things (id INTEGER NOT NULL PRIMARY KEY);"
        "INSERT INTO things VALUES (1);",
        {"things": 1},
        {"logs": "no primary key and no unique index"},
    ),
    Schema(
        "a unique key that may be NULL",
        f"{PERSON}{TWO}CREATE TABLE users (code VARCHAR(9) UNIQUE);",
        {"people": 2},
        {"users": "may be NULL"},
    ),
    Schema(
        "a unique key without a primary one",
        "CREATE TABLE users (code VARCHAR(9) NOT NULL UNIQUE, email VARCHAR(9));"
        "INSERT INTO users VALUES ('a', 'x'), ('b', 'x');",
        {"users": 2},
    ),
    Schema(
        "a float as key",
        f"{PERSON}{TWO}CREATE TABLE users (at DOUBLE PRECISION NOT NULL PRIMARY KEY);",
        {"people": 2},
        {"users": "no exact order and text"},
    ),
    Schema(
        "a composite key with lookups",
        "CREATE TABLE users (tenant INTEGER NOT NULL, id INTEGER NOT NULL, email VARCHAR(80), "
        "PRIMARY KEY (tenant, id), UNIQUE (tenant, email));"
        "INSERT INTO users VALUES (1, 1, 'a'), (1, 2, NULL), (2, 1, 'a');",
        {"users": 3},
    ),
    Schema(
        "children by a composite key, three deep",
        "CREATE TABLE users (tenant INTEGER NOT NULL, id INTEGER NOT NULL, email VARCHAR(9), "
        "PRIMARY KEY (tenant, id));"
        "CREATE TABLE orders (tenant INTEGER NOT NULL, user_id INTEGER NOT NULL, no INTEGER NOT "
        "NULL, PRIMARY KEY (tenant, user_id, no), "
        "FOREIGN KEY (tenant, user_id) REFERENCES users (tenant, id));"
        "CREATE TABLE order_lines (tenant INTEGER NOT NULL, user_id INTEGER NOT NULL, no INTEGER "
        "NOT NULL, line INTEGER NOT NULL, sku VARCHAR(9), PRIMARY KEY (tenant, user_id, no, line), "
        "FOREIGN KEY (tenant, user_id, no) REFERENCES orders (tenant, user_id, no));"
        "INSERT INTO users VALUES (1, 1, 'a'), (2, 1, 'b'); INSERT INTO orders VALUES (1, 1, 1);"
        "INSERT INTO order_lines VALUES (1, 1, 1, 1, 'x'), (1, 1, 1, 2, NULL);",
        {"users": 2},
        children=frozenset({"users/orders", "users/orders.lines"}),
    ),
    Schema(
        "a table that joins",
        "CREATE TABLE users (id INTEGER NOT NULL PRIMARY KEY, email VARCHAR(9));"
        "CREATE TABLE roles (id INTEGER NOT NULL PRIMARY KEY, label VARCHAR(9));"
        "CREATE TABLE user_roles (user_id INTEGER NOT NULL, role_id INTEGER NOT NULL, "
        "PRIMARY KEY (user_id, role_id), FOREIGN KEY (user_id) REFERENCES users (id), "
        "FOREIGN KEY (role_id) REFERENCES roles (id));"
        "INSERT INTO users VALUES (1, 'a'); INSERT INTO roles VALUES (5, 'x'), (6, 'y');"
        "INSERT INTO user_roles VALUES (1, 6), (1, 5);",
        {"users": 1},
        children=frozenset({"users/roles"}),
    ),
    Schema(
        "a table that names itself",
        "CREATE TABLE employees (id INTEGER NOT NULL PRIMARY KEY, boss INTEGER, email VARCHAR(9), "
        "FOREIGN KEY (boss) REFERENCES employees (id));"
        "INSERT INTO employees VALUES (1, NULL, 'a'); INSERT INTO employees VALUES (2, 1, 'b');",
        {"employees": 2},
    ),
    Schema(
        "a circle",
        "CREATE TABLE a (id INTEGER NOT NULL PRIMARY KEY, b_id INTEGER NOT NULL REFERENCES b (id));"
        "CREATE TABLE b (id INTEGER NOT NULL PRIMARY KEY, a_id INTEGER NOT NULL REFERENCES a (id));"
        "CREATE TABLE c (id INTEGER NOT NULL PRIMARY KEY, b_id INTEGER NOT NULL REFERENCES b (id), "
        "a_id INTEGER NOT NULL REFERENCES a (id));"
        "INSERT INTO a VALUES (1, 1); INSERT INTO b VALUES (1, 1); INSERT INTO c VALUES (1, 1, 1);",
        {"a": 1},
        children=frozenset({"a/bs", "a/bs.cs"}),
        dialects=LITE,
    ),
    Schema(
        "a circle through profiles, each of which may be alone",
        "CREATE TABLE users (id INTEGER NOT NULL PRIMARY KEY, account_id INTEGER);"
        "CREATE TABLE accounts (id INTEGER NOT NULL PRIMARY KEY, user_id INTEGER NOT NULL, "
        "FOREIGN KEY (user_id) REFERENCES users (id));"
        "ALTER TABLE users ADD FOREIGN KEY (account_id) REFERENCES accounts (id);"
        "INSERT INTO users VALUES (1, NULL), (2, NULL); INSERT INTO accounts VALUES (1, 1);",
        {"accounts": 1, "users": 2},
        dialects=("postgresql", "mariadb"),
    ),
    Schema(
        "lines that name their grandparent, too",
        "CREATE TABLE a (id INTEGER NOT NULL PRIMARY KEY, x INTEGER);"
        "CREATE TABLE b (id INTEGER NOT NULL PRIMARY KEY, a_id INTEGER NOT NULL, "
        "FOREIGN KEY (a_id) REFERENCES a (id));"
        "CREATE TABLE c (id INTEGER NOT NULL PRIMARY KEY, a_id INTEGER NOT NULL, b_id INTEGER NOT "
        "NULL, FOREIGN KEY (a_id) REFERENCES a (id), FOREIGN KEY (b_id) REFERENCES b (id));"
        "INSERT INTO a VALUES (1, 1); INSERT INTO b VALUES (1, 1); INSERT INTO c VALUES (1, 1, 1);",
        {"a": 1},
        children=frozenset({"a/bs", "a/bs.cs"}),
    ),
    Schema(
        "one beside another",
        "CREATE TABLE users (id INTEGER NOT NULL PRIMARY KEY, email VARCHAR(9));"
        "CREATE TABLE user_profiles (user_id INTEGER NOT NULL PRIMARY KEY, bio VARCHAR(9), "
        "FOREIGN KEY (user_id) REFERENCES users (id));"
        "INSERT INTO users VALUES (1, 'a'), (2, 'b'); INSERT INTO user_profiles VALUES (1, 'x');",
        {"users": 2},
        children=frozenset({"users/profiles"}),
    ),
    Schema(
        "a child of nothing but its parent",
        "CREATE TABLE users (id INTEGER NOT NULL PRIMARY KEY, email VARCHAR(9));"
        "CREATE TABLE vips (user_id INTEGER NOT NULL PRIMARY KEY, "
        "FOREIGN KEY (user_id) REFERENCES users (id));"
        "INSERT INTO users VALUES (1, 'a'), (2, 'b'); INSERT INTO vips VALUES (1);",
        {"users": 2},
        children=frozenset({"users/vips"}),
    ),
    Schema(
        "a child without a key, called as a column",
        "CREATE TABLE users (id INTEGER NOT NULL PRIMARY KEY, notes VARCHAR(9));"
        "CREATE TABLE notes (user_id INTEGER, word VARCHAR(9), place INTEGER, "
        "FOREIGN KEY (user_id) REFERENCES users (id));"
        "INSERT INTO users VALUES (1, 'a'); INSERT INTO notes VALUES (1, 'x', 1), (NULL, 'y', 2);",
        {"users": 1},
        children=frozenset({"users/notes_2"}),
    ),
    Schema(
        "a lookup table of many",
        "CREATE TABLE country (code CHAR(2) NOT NULL PRIMARY KEY, label VARCHAR(9));"
        "CREATE TABLE shop (id INTEGER NOT NULL PRIMARY KEY, code CHAR(2) NOT NULL, x INTEGER, "
        "FOREIGN KEY (code) REFERENCES country (code));"
        "CREATE TABLE depot (id INTEGER NOT NULL PRIMARY KEY, code CHAR(2) NOT NULL, x INTEGER, "
        "FOREIGN KEY (code) REFERENCES country (code));"
        "INSERT INTO country VALUES ('ch', 'x'); INSERT INTO shop VALUES (1, 'ch', 1);"
        "INSERT INTO depot VALUES (1, 'ch', 1), (2, 'ch', 1);",
        {"depot": 2, "shop": 1},
    ),
    Schema(
        "e-mail addresses that repeat, and long ones",
        "CREATE TABLE users (id INTEGER NOT NULL PRIMARY KEY, email VARCHAR(999), "
        "mail VARCHAR(999), e_mail VARCHAR(999));"
        f"INSERT INTO users VALUES (1, 'a', 'x', '{'y' * 700}'), (2, 'a', NULL, NULL);",
        {"users": 2},
    ),
    Schema(
        "a long text that is unique",
        "CREATE TABLE users (id INTEGER NOT NULL PRIMARY KEY, url VARCHAR(700) UNIQUE);"
        f"INSERT INTO users VALUES (1, '{'y' * 600}');",
        {"users": 1},
    ),
    Schema(
        "secrets, expiry and soft deletes",
        'CREATE TABLE users (id INTEGER NOT NULL PRIMARY KEY, password VARCHAR(9), "Deleted At" '
        "TIMESTAMP NULL, expires_at TIMESTAMP NULL, is_deleted BOOLEAN, birth_date DATE);"
        "INSERT INTO users VALUES (1, 'x', NULL, '2031-01-01 00:00:00', NULL, '1999-01-01');",
        {"users": 1},
        dialects=("postgresql", "mariadb"),
    ),
    Schema(
        "forty tables in a row",
        "CREATE TABLE users (id INTEGER NOT NULL PRIMARY KEY, email VARCHAR(9));"
        + "".join(
            f"CREATE TABLE t{n} (id INTEGER NOT NULL PRIMARY KEY, up INTEGER NOT NULL, "
            f"FOREIGN KEY (up) REFERENCES {'users' if n == 1 else f't{n - 1}'} (id));"
            for n in range(1, 41)
        )
        + "INSERT INTO users VALUES (1, 'a'); INSERT INTO t1 VALUES (1, 1);",
        {"users": 1},
        children=frozenset(
            "users/" + ".".join(f"t{n}s" for n in range(1, depth + 1)) for depth in range(1, 9)
        ),
    ),
    # --- SQLite
    Schema(
        "values of other types than their columns",
        "CREATE TABLE users (id INTEGER PRIMARY KEY, age INTEGER, born DATE, photo BLOB, x, "
        "flag BOOLEAN, t DATETIME, n NUMERIC(4,2));"
        "INSERT INTO users VALUES (1, 'old', 'long ago', 'text', '5', 7, '12', 'a');"
        "INSERT INTO users VALUES (2, 5, '1999-01-01', x'00', 5, 1, '1999-01-01 00:00:00', 1.5);",
        {"users": 2},
        dialects=LITE,
    ),
    Schema(
        "full-text search",
        f"{PERSON}{TWO}CREATE VIRTUAL TABLE user_search USING fts5(email);",
        {"people": 2},
        {"user_search": "a virtual table"},
        dialects=LITE,
    ),
    Schema(
        "references in other capitals, and to a primary key that is not named",
        "CREATE TABLE Users (Id INTEGER PRIMARY KEY, Email TEXT);"
        "CREATE TABLE Notes (Id INTEGER PRIMARY KEY, UserId INTEGER REFERENCES USERS, t TEXT);"
        "CREATE TABLE Tags (Id INTEGER PRIMARY KEY, UserId INTEGER REFERENCES users(ID), t TEXT);"
        "CREATE TABLE Lost (Id INTEGER PRIMARY KEY, UserId INTEGER REFERENCES nowhere(ID));"
        "INSERT INTO Users VALUES (1, 'a'); INSERT INTO Notes VALUES (1, 1, 'x');",
        {"users": 1},
        children=frozenset({"users/notes", "users/tags"}),
        dialects=LITE,
    ),
    Schema(
        "no types, no rowid, generated columns",
        "CREATE TABLE users (id TEXT NOT NULL PRIMARY KEY, a, b AS (upper(id)), email) "
        "WITHOUT ROWID; INSERT INTO users (id, a, email) VALUES ('x', 5, 'e'), ('y', 'z', NULL);",
        {"users": 2},
        dialects=LITE,
    ),
    # --- PostgreSQL
    Schema(
        "types of many kinds",
        "CREATE TYPE mood AS ENUM ('ok', 'bad'); CREATE TYPE pair AS (a int, b text);"
        "CREATE DOMAIN mail AS text; CREATE TABLE users (id uuid PRIMARY KEY, email mail UNIQUE, "
        "m mood, p pair, c money, j jsonb, a int[], r int4range, g point, i inet, b bytea, x xml, "
        "t tsvector, w interval, z timestamptz, n numeric, mm money[]);"
        "INSERT INTO users VALUES ('11111111-1111-1111-1111-111111111111', 'e', 'ok', (1, 'x'), "
        "'1.50', '{\"a\": 1}', '{1,2}', '[1,3)', '(1,2)', '::1', '\\x00ff', '<a/>', 'a b', "
        "'1 day', 'infinity', 'NaN', '{1.5}');",
        {"users": 1},
        dialects=PG,
    ),
    Schema(
        "tables of another schema",
        'CREATE SCHEMA "My.Shop"; CREATE SCHEMA crm;'
        "CREATE TABLE crm.users (id int PRIMARY KEY, email text);"
        'CREATE TABLE "My.Shop".orders (id int PRIMARY KEY, user_id int NOT NULL REFERENCES '
        "crm.users (id), total numeric(10,2));"
        "CREATE TABLE notes (id int PRIMARY KEY, user_id int REFERENCES crm.users (id), t text);"
        "CREATE TABLE users (id int PRIMARY KEY, email text);"
        "INSERT INTO crm.users VALUES (1, 'a'), (2, 'b'); INSERT INTO users VALUES (7, 'c');"
        "INSERT INTO \"My.Shop\".orders VALUES (1, 1, 1.5); INSERT INTO notes VALUES (1, 2, 'x');",
        {"users": 2, "users_2": 1},
        children=frozenset({"users/orders", "users/notes"}),
        dialects=PG,
    ),
    Schema(
        "a partitioned table",
        "CREATE TABLE users (id int, part int, email text, PRIMARY KEY (id, part)) "
        "PARTITION BY LIST (part); CREATE TABLE users_1 PARTITION OF users FOR VALUES IN (1);"
        "CREATE TABLE users_2 PARTITION OF users FOR VALUES IN (2);"
        "CREATE TABLE notes (user_id int, part int, t text, "
        "FOREIGN KEY (user_id, part) REFERENCES users);"
        "INSERT INTO users VALUES (1, 1, 'a'), (1, 2, 'b'); INSERT INTO notes VALUES (1, 2, 'x');",
        {"users": 2},
        children=frozenset({"users/notes"}),
        dialects=PG,
    ),
    Schema(
        "indexes that keep nothing unique",
        f"{PERSON}{TWO}CREATE TABLE users (email text, gone bool);"
        "CREATE UNIQUE INDEX ON users (lower(email)); CREATE UNIQUE INDEX ON users (email) "
        "WHERE NOT gone; CREATE VIEW user_view AS SELECT * FROM users;",
        {"people": 2},
        {"users": "no primary key and no unique index"},
        dialects=PG,
    ),
    Schema(
        "children of one odd column",
        "CREATE TABLE users (id int PRIMARY KEY, email text);"
        "CREATE TABLE extras (user_id int NOT NULL REFERENCES users, j json);"
        "CREATE TABLE pays (user_id int NOT NULL REFERENCES users, m money);"
        "CREATE TABLE photos (user_id int NOT NULL REFERENCES users, b bytea);"
        "CREATE TABLE sets (user_id int NOT NULL REFERENCES users, a int[], PRIMARY KEY (a));"
        "INSERT INTO users VALUES (1, 'a'); INSERT INTO extras VALUES (1, NULL), (1, '[]');"
        "INSERT INTO pays VALUES (1, '1.5'); INSERT INTO photos VALUES (1, '\\x00');"
        "INSERT INTO sets VALUES (1, '{1}');",
        {"users": 1},
        children=frozenset({"users/extras", "users/pays", "users/photos", "users/sets"}),
        dialects=PG,
    ),
    Schema(
        "names as long as they may be, and many columns",
        f'CREATE TABLE "{"u" * 63}" (id int PRIMARY KEY, email text);'
        f'CREATE TABLE "{"u" * 62}v" (id int PRIMARY KEY, "{"c" * 62}1" int, "{"c" * 62}2" int);'
        f"CREATE TABLE wide (id int PRIMARY KEY, {', '.join(f'c{n} int' for n in range(900))});"
        f"INSERT INTO \"{'u' * 63}\" VALUES (1, 'a');",
        {"u" * 50: 1},
        dialects=PG,
    ),
    Schema(
        "serial, identity and generated columns",
        "CREATE TABLE users (id serial PRIMARY KEY, no int GENERATED ALWAYS AS IDENTITY UNIQUE, "
        "email text, low text GENERATED ALWAYS AS (lower(email)) STORED);"
        "INSERT INTO users (email) VALUES ('A'), ('B');",
        {"users": 2},
        dialects=PG,
    ),
    # --- MariaDB
    Schema(
        "types of many kinds there",
        "CREATE TABLE users (id BIGINT UNSIGNED NOT NULL PRIMARY KEY, m ENUM('ok','bad'), "
        "s SET('a','b'), g POINT, b BIT(4), j JSON, y YEAR, t TIME, d DATETIME(6), f FLOAT, "
        "z TIMESTAMP NULL, x VARBINARY(9), i INET6, u UUID, n DECIMAL(30,10), l LONGTEXT);"
        "INSERT INTO users VALUES (18446744073709551615, 'ok', 'a,b', POINT(1, 2), b'101', "
        "'{\"a\": 1}', 2024, '10:00:00', '2024-01-01 00:00:00.5', 1.5, '2024-01-01 00:00:00', "
        "x'00ff', '::1', '11111111-1111-1111-1111-111111111111', 1.5, 'x');",
        {"users": 1},
        dialects=MARIA,
    ),
    Schema(
        "values that are no dates, truths or times of day",
        "SET sql_mode = 'ALLOW_INVALID_DATES';"
        "CREATE TABLE users (id INT NOT NULL PRIMARY KEY, d DATE, f TINYINT(1), t TIME);"
        "INSERT INTO users VALUES (1, '0000-00-00', 2, '100:00:00');"
        "INSERT INTO users VALUES (2, '2024-01-01', 1, '01:00:00');",
        {"users": 2},
        dialects=MARIA,
    ),
    Schema(
        "a key by a prefix, a key of binary",
        f"{PERSON}{TWO}CREATE TABLE users (bio TEXT NOT NULL, UNIQUE (bio(9)));"
        "CREATE TABLE accounts (id BINARY(16) NOT NULL PRIMARY KEY);",
        {"people": 2},
        {"users": "no primary key and no unique index", "accounts": "no exact order and text"},
        dialects=MARIA,
    ),
    Schema(
        "accents and capitals that compare equal",
        "CREATE TABLE users (id VARCHAR(9) NOT NULL PRIMARY KEY, email VARCHAR(80) UNIQUE) "
        "COLLATE utf8mb4_unicode_ci;"
        "INSERT INTO users VALUES ('a', 'É'), ('b', 'f'), ('C', NULL);",
        {"users": 3},
        dialects=MARIA,
    ),
]
"""Each with what is odd about it."""


def schemas_of(dialect: str) -> list[Schema]:
    """
    Those that this dialect can hold.
    """
    return [schema for schema in SCHEMAS if dialect in schema.dialects]
