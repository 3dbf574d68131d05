"""
Init: what it writes from a schema lints clean and is backfilled as it stands, and nothing else is.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from migrate.mapping.naming import collection_name, field_name, plural, singular, snake
from tests.project import Project, Ran
from tests.schemas import Schema, schemas_of
from tests.servers import Database, MariadbDatabase, PostgresDatabase, RedisServer, SqliteDatabase

USERS = "CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT, note TEXT)"


def empty(folder: Path, database: Database, server: RedisServer) -> Project:
    """
    A user's folder without any file.
    """
    made = Project(folder, database.url, server.url)
    (folder / "migrate.yaml").unlink()
    return made


def init(project: Project, database: Database, *words: str, options: str = "") -> Ran:
    """
    Run init as a user would: the password, where there is one, is in a file.
    """
    url, login = database.url, []
    if isinstance(database, PostgresDatabase | MariadbDatabase):
        (project.folder / "password").write_text(database.server.password)
        login = ["--source-password-file", "password"] if database.server.password else []
        scheme, _, rest = url.partition("://")
        url = f"{scheme}://{database.server.user}@{rest.rpartition('@')[2]}"
        url += f"?options={quote(options)}" if options else ""
    return project.run("init", "--source", url, *login, "--redis", project.redis_url, *words)


def moved(project: Project, ran: Ran) -> dict[str, int]:
    """
    Lint and backfill what was made; the records of each mapping.
    """
    assert project.run("mapping", "lint").exit == 0, project.run("mapping", "lint").err
    written = {}
    for one in ran.json["mappings"]:
        copied = project.run("backfill", one["name"], "--json")
        assert copied.exit == 0, (copied.err, [path.read_text() for path in yaml_of(project)])
        written[one["name"]] = copied.json["written"]
    return written


def yaml_of(project: Project) -> list[Path]:
    """
    Every file that was made.
    """
    return sorted(project.folder.rglob("*.yaml"))


def check(folder: Path, database: Database, server: RedisServer, schema: Schema) -> None:
    """
    Init, lint and backfill a schema; what was made is what it promises.
    """
    database.execute(schema.sql)
    project = empty(folder, database, server)

    ran = init(project, database, "--json")

    assert ran.exit == 0, ran.err
    assert moved(project, ran) == schema.mappings
    reasons = {one["table"]: one["reason"] for one in ran.json["left_out"]}
    for table, reason in schema.left_out.items():
        assert reason in reasons[table.replace("\\n", "\n")]
        assert table in ran.err
        assert table in (folder / "migrate.yaml").read_text()
    paths = {f"{one['name']}/{path}" for one in ran.json["mappings"] for path in one["children"]}
    assert paths == set(schema.children)
    assert len(hashes(server)) == sum(schema.mappings.values())


def hashes(server: RedisServer) -> dict[bytes, dict[bytes, bytes]]:
    """
    Every record; what lookups keep is of other types, and fences are not ours to compare.
    """
    client = server.client()
    keys = [
        key
        for key in client.scan_iter(count=5_000, _type="hash")
        if not key.startswith(b"profile-migrate:")
    ]
    return {key: client.hgetall(key) for key in keys}


# --- any schema ---------------------------------------------------------------------------------


@pytest.mark.parametrize("schema", schemas_of("sqlite"), ids=lambda schema: schema.name)
def test_any_schema_of_sqlite_is_backfilled_without_an_edit(
    tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer, schema: Schema
) -> None:
    """
    Odd names, keys, references and values become mappings, or are left out with their reason.
    """
    check(tmp_path / "user", sqlite, redis_server, schema)


@pytest.mark.containers
@pytest.mark.parametrize("schema", schemas_of("postgresql"), ids=lambda schema: schema.name)
def test_any_schema_of_postgresql_is_backfilled_without_an_edit(
    tmp_path: Path, postgres: PostgresDatabase, redis_server: RedisServer, schema: Schema
) -> None:
    """
    The same.
    """
    check(tmp_path / "user", postgres, redis_server, schema)


@pytest.mark.containers
@pytest.mark.parametrize("schema", schemas_of("mariadb"), ids=lambda schema: schema.name)
def test_any_schema_of_mariadb_is_backfilled_without_an_edit(
    tmp_path: Path, mariadb: MariadbDatabase, redis_server: RedisServer, schema: Schema
) -> None:
    """
    The same.
    """
    check(tmp_path / "user", mariadb, redis_server, schema)


# --- what is written ----------------------------------------------------------------------------


@pytest.fixture
def users(tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer) -> Project:
    """
    A user's empty folder and a table of users.
    """
    sqlite.execute(USERS)
    sqlite.execute("INSERT INTO users VALUES (1, 'a@x', 'n'), (2, 'b@x', NULL)")
    return empty(tmp_path / "user", sqlite, redis_server)


def init_users(project: Project, *words: str) -> Ran:
    """
    Init for the table of users.
    """
    return project.run("init", "--source", project.source_url, "--redis", project.redis_url, *words)


def test_init_says_what_it_wrote_and_what_comes_next(users: Project) -> None:
    """
    Each file is named on standard output, the next command on standard error.
    """
    ran = init_users(users)

    assert ran.exit == 0
    assert ran.out.splitlines() == [
        "migrate.yaml: the configuration.",
        "mappings/users.yaml: 'users' of users, lookups by_email.",
    ]
    assert ran.err == "next: profile-migrate doctor\n"


def test_nothing_is_overwritten(users: Project) -> None:
    """
    Every file in the way is named at once, exit 2, and nothing is written or changed.
    """
    (users.folder / "migrate.yaml").write_text("mine")
    (users.folder / "mappings" / "other.yaml").write_text("mine, too")

    ran = init_users(users)

    assert ran.exit == 2
    assert "migrate.yaml, mappings/other.yaml" in ran.err
    assert {path.read_text() for path in yaml_of(users)} == {"mine", "mine, too"}


def test_a_dry_run_shows_the_files_and_writes_none(users: Project) -> None:
    """
    The text on standard output is what would be in the files, even where others are in the way.
    """
    dry = init_users(users, "--dry-run", "--json")
    shown = init_users(users, "-n")

    assert (dry.exit, shown.exit) == (0, 0)
    assert yaml_of(users) == []
    init_users(users)
    assert dry.json["texts"] == {
        str(path.relative_to(users.folder)): path.read_text() for path in yaml_of(users)
    }
    assert all(text in shown.out for text in dry.json["texts"].values())


def test_another_folder_finds_the_same_database(users: Project, tmp_path: Path) -> None:
    """
    With --into, relative paths are written as seen from there, and the folder is made.
    """
    database = Path(users.source_url.removeprefix("sqlite:///"))
    (users.folder / "data").mkdir()
    database.rename(users.folder / "data" / "app.db")

    ran = users.run(
        "init", "--source", "sqlite:///data/app.db", "--redis", users.redis_url, "--into", "new/it"
    )

    assert ran.exit == 0, ran.err
    assert ran.err == "next: cd new/it && profile-migrate doctor\n"
    made = Project(tmp_path / "look", users.source_url, users.redis_url)
    copied = made.run(
        "backfill", "users", "--config", str(users.folder / "new/it/migrate.yaml"), "--json"
    )
    assert (copied.exit, copied.json["written"]) == (0, 2), copied.err


def test_a_password_is_never_written(users: Project) -> None:
    """
    A URL with a password is refused, the password shown nowhere; a file of it is named instead.
    """
    canary = "pw-canary-51c2"
    (users.folder / "secret").write_text(canary)

    for words in (
        ("--source", f"postgresql://app:{canary}@127.0.0.1:1/x"),
        ("--source", f"postgresql://app@127.0.0.1:1/x?password={canary}"),
        ("--source", users.source_url, "--redis", f"redis://:{canary}@127.0.0.1:1/0"),
    ):
        ran = users.run("init", *words)
        assert ran.exit == 2
        assert "password_file" in ran.err
        assert canary not in ran.shown
    assert init_users(users, "--redis-password-file", "secret").exit == 0
    assert 'password_file: "secret"\n' in (
        (users.folder / "migrate.yaml").read_text().replace("file: secret", 'file: "secret"')
    )
    assert all(canary not in path.read_text() for path in yaml_of(users))


def test_tables_that_are_named_become_the_roots(
    users: Project, sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    --table takes any table with a key, in any capitals; what refers to it becomes its children.
    """
    sqlite.execute("CREATE TABLE Box (id INTEGER PRIMARY KEY, u INTEGER REFERENCES users (id))")
    sqlite.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, b INTEGER REFERENCES Box (id), n)")
    sqlite.execute("INSERT INTO Box VALUES (1, 1); ")

    ran = init_users(users, "--table", "box", "--json")

    assert ran.exit == 0, ran.err
    assert [(one["name"], one["children"]) for one in ran.json["mappings"]] == [("box", ["items"])]
    assert moved(users, ran) == {"box": 1}


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ("nowhere", "there is no such table"),
        ("logs", "no primary key and no unique index"),
        ("user_view", "a view keeps nothing unique"),
        ("a;b", "semicolon"),
    ],
)
def test_a_table_that_cannot_be_a_root_is_refused(
    users: Project, sqlite: SqliteDatabase, table: str, why: str
) -> None:
    """
    With the reason, exit 2, and nothing is written.
    """
    sqlite.execute("CREATE TABLE logs (x); CREATE VIEW user_view AS SELECT * FROM users")

    ran = init_users(users, "--table", table)

    assert ran.exit == 2
    assert why in ran.err
    assert yaml_of(users) == []


def test_a_table_that_may_not_be_read_is_left_out(
    tmp_path: Path, postgres: PostgresDatabase, redis_server: RedisServer
) -> None:
    """
    With what the user lacks; what it may read is moved.
    """
    role = f"reader_{postgres.name}"
    postgres.execute(
        "CREATE TABLE users (id int PRIMARY KEY, email text); INSERT INTO users VALUES (1, 'a');"
        "CREATE TABLE accounts (id int PRIMARY KEY, email text);"
        f'CREATE ROLE "{role}"; GRANT SELECT ON users TO "{role}"; '
        f'GRANT USAGE ON SCHEMA public TO "{role}"'
    )
    project = empty(tmp_path / "user", postgres, redis_server)
    try:
        ran = init(project, postgres, "--json", options=f"-crole={role}")

        assert ran.exit == 0, ran.err
        assert moved(project, ran) == {"users": 1}
    finally:
        postgres.execute(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"')
    assert [one["table"] for one in ran.json["left_out"]] == ["accounts"]
    assert "lacks SELECT on accounts" in ran.json["left_out"][0]["reason"]


def test_a_database_without_any_key_is_refused(
    tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    Every table is named with its reason, exit 2.
    """
    sqlite.execute("CREATE TABLE a (x); CREATE TABLE b (x UNIQUE)")
    project = empty(tmp_path / "user", sqlite, redis_server)

    ran = init_users(project)

    assert ran.exit == 2
    assert "no primary key and no unique index: a." in ran.err
    assert "may be NULL: b." in ran.err


def test_what_a_person_has_to_decide_is_a_comment(
    tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    Secrets, personal columns, expiry and soft deletes are marked; taking the marks off works.
    """
    sqlite.execute(
        'CREATE TABLE users (id INTEGER PRIMARY KEY, "Deleted At" DATETIME, expires_at DATETIME, '
        "is_deleted BOOLEAN, api_token TEXT, phone TEXT)"
    )
    sqlite.execute("INSERT INTO users VALUES (1, NULL, '2999-01-01', 0, 't', 'p')")
    project = empty(tmp_path / "user", sqlite, redis_server)

    assert init_users(project).exit == 0

    file = project.folder / "mappings" / "users.yaml"
    text = file.read_text()
    for line in (
        '  # where: "\\"Deleted At\\" IS NULL"  # leaves out rows marked as deleted',
        '  # where: "NOT is_deleted"  # leaves out rows marked as deleted',
        "  # ttl: {column: expires_at}  # records expire at that moment",
        "  api_token: {}  # a secret? {drop: true} keeps it in SQL, {mask: sha256} hides it",
        "  phone: {}  # personal: a telephone number",
    ):
        assert line in text.splitlines()
    file.write_text(text.replace('# where: "\\', 'where: "\\').replace("# ttl:", "ttl:"))
    assert project.run("mapping", "lint").exit == 0
    assert project.run("backfill", "users").exit == 0


def test_an_address_that_repeats_is_found_through_a_set(
    tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    Without a unique index the data decide; a unique index decides without a word.
    """
    sqlite.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT, mail TEXT UNIQUE)")
    sqlite.execute("INSERT INTO users VALUES (1, 'a', 'x'), (2, 'a', 'y')")
    project = empty(tmp_path / "user", sqlite, redis_server)

    ran = init_users(project, "--json")

    assert moved(project, ran) == {"users": 2}
    text = (project.folder / "mappings" / "users.yaml").read_text()
    assert 'by_email: {key: "users:email:{email}", type: set}' in text
    assert 'by_mail: {key: "users:mail:{mail}", unique: true}' in text
    assert redis_server.client().smembers("users:email:a") == {b"users:1", b"users:2"}


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("CustomerId", "customer_id"),
        ("customer_id", "customer_id"),
        ("HTTPServer", "http_server"),
        ("addressLine2", "address_line2"),
        ("E-Mail", "e_mail"),
        ("_v", "v"),
        ("Größe", "größe"),
        ("???", "field"),
    ],
)
def test_fields_are_in_snake_case(name: str, field: str) -> None:
    """
    Words are parted by `_`, signs and capitals are gone, letters of any script stay.
    """
    assert field_name(name, ()) == field
    assert snake(field) == field


@pytest.mark.parametrize(
    ("table", "parent", "name"),
    [
        ("Invoice", "Customer", "invoices"),
        ("InvoiceLine", "Invoice", "lines"),
        ("user_addresses", "users", "addresses"),
        ("user_roles", "users", "roles"),
        ("box", "users", "boxes"),
        ("category", "users", "categories"),
        ("users", "users", "users"),
    ],
)
def test_collections_are_called_after_their_table(table: str, parent: str, name: str) -> None:
    """
    For many, and without the name of the parent in front.
    """
    assert collection_name(table, parent) == name


def test_one_and_many_are_told_apart() -> None:
    """
    By endings alone, which fit most names.
    """
    words = ("user", "box", "category", "match", "day")

    assert [singular(plural(word)) for word in words] == list(words)
