"""
Planted passwords and planted values of rows are found in nothing that the program says or keeps.

Primary keys may appear; values appear only where the user asks for them by name.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from migrate.config.load import load
from migrate.documents.reader import read
from migrate.errors import MigrateError
from migrate.mapping.compile import compile_mapping
from migrate.mapping.files import load as load_mappings
from migrate.model.secret import Redactor
from migrate.model.values import Batch, Fault, Record, Reject
from migrate.pipeline.scope import find_table
from migrate.source.store import SqlSource
from tests.project import ROOT, Project, Ran
from tests.servers import PostgresDatabase, RedisServer, SqliteDatabase

VALUE = "CANARY-VALUE-7f3a"
PASSWORD = "Can/ary p@ss:w%rd&é'7f3a"

MAPPING = """
version: 1
name: people
source: {table: people, key: [id]}
target: {key: "person:{id}", type: hash}
"""

COLUMNS = "id INTEGER PRIMARY KEY, name TEXT, age INT, born DATE, about JSON, photo BLOB"

ROWS: Sequence[tuple[object, ...]] = (
    (1, VALUE, 1, "2001-02-03", json.dumps({VALUE: [VALUE]}), VALUE.encode()),
    (2, f"{VALUE}\n\x1b[31m", 2, None, f'"{VALUE}"', b"\xff" + VALUE.encode()),
    (3, VALUE, VALUE, "2001-02-03", "{}", b""),
    (4, VALUE, 4, VALUE, "{}", b""),
    (5, VALUE, 5, f"2001-02-30 {VALUE}", "{}", b""),
    (6, VALUE, 6, None, VALUE.encode(), b""),
    (7, VALUE, 7, None, "{}", VALUE),
    (8, VALUE.encode(), 8, None, "{}", b""),
    (9, f"{VALUE} " * 500_000, 9, None, "{}", b""),
    (10, VALUE, 10, None, "{}", b""),
    (11, VALUE, 11, None, "{}", b""),
)
"""Of the eleven rows 3 to 9 cannot move, and two more meet a key that is not ours."""

COMMANDS: Sequence[tuple[str, ...]] = (
    ("mapping", "lint"),
    ("mapping", "show", "people"),
    ("redis", "detect"),
    ("doctor",),
    ("plan", "people"),
    ("backfill", "people", "--dry-run"),
    ("backfill", "people", "--metrics-textfile", "run.prom"),
    ("status",),
    ("rejects", "list", "people"),
    ("rejects", "replay", "people"),
    ("backfill", "people", "--start-over"),
)
"""Every command that reads settings or rows, in an order in which each finds something to do."""

Fresh = Callable[..., RedisServer]


def spellings(text: str) -> set[bytes]:
    """
    A text as it may show itself: plain, in a URL, in JSON, in a repr, in hex and base64.
    """
    found = {text, quote(text), quote(text, safe=""), quote_plus(text), quote_plus(text, safe="/")}
    found |= {form.replace("%2F", "%2f").replace("%3A", "%3a") for form in found}
    found |= {json.dumps(text)[1:-1], repr(text)[1:-1], ascii(text)[1:-1]}
    found |= {text.encode().hex(), base64.b64encode(text.encode()).decode()[:-4]}
    return {form.encode() for form in found}


def leaks(text: str, *places: bytes | str) -> list[bytes]:
    """
    The spellings of a planted text that are in one of the places.
    """
    found = [place.encode(errors="surrogateescape") for place in places if isinstance(place, str)]
    found += [place for place in places if isinstance(place, bytes)]
    return [form for form in spellings(text) if any(form in place for place in found)]


def kept(project: Project) -> list[bytes]:
    """
    Everything that was written below the folder: ledger with its log, traces, metrics, exports.
    """
    ours = ("migrate.yaml", "secret.txt")
    return [content for path, content in project.files() if path.name not in ours]


def all_commands(project: Project, commands: Sequence[tuple[str, ...]] = COMMANDS) -> list[Ran]:
    """
    Run every command as text and as JSON, saying all that it can say.
    """
    return [
        project.run(*command, *more)
        for command in commands
        for more in (("-vv",), ("-vv", "--log-format", "json", "--json"))
    ]


def said(runs: Sequence[Ran]) -> list[str]:
    """
    Both streams of every run.
    """
    return [stream for ran in runs for stream in (ran.out, ran.err)]


# --- values -------------------------------------------------------------------------------------


@pytest.fixture
def people(tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer) -> Project:
    """
    A planted value in every column, in rows that move, in rows that cannot, and in Redis.
    """
    sqlite.execute(f"CREATE TABLE people ({COLUMNS})")
    sqlite.execute("INSERT INTO people VALUES (?, ?, ?, ?, ?, ?)", *ROWS)
    # A text that is not UTF-8.
    sqlite.execute(
        "INSERT INTO people (id, name) VALUES (12, CAST(? AS TEXT))", (b"\xff" + VALUE.encode(),)
    )
    client = redis_server.client()
    client.set("person:10", VALUE)
    client.hset("person:11", mapping={"name": VALUE, "_v": VALUE, "_h": VALUE})
    project = Project(tmp_path / "user", f"sqlite:///{sqlite.path}", redis_server.url)
    project.mapping("people", MAPPING)
    return project


def test_no_command_shows_or_keeps_a_value(people: Project, redis_server: RedisServer) -> None:
    """
    Rows that move, rows that do not, and foreign keys: none shows on a stream or in a file.
    """
    runs = all_commands(people)

    report = json.loads(runs[13].out)
    assert report["open_rejects"] == {
        "bad-date": 2,
        "collision": 2,
        "invalid-utf8": 1,
        "too-large": 1,
        "wrong-type": 4,
    }
    assert {ran.exit for ran in runs} == {0, 3}
    assert leaks(VALUE, *said(runs), *kept(people)) == []
    # The canary sings: it was there to be found.
    assert leaks(VALUE, *redis_server.client().hgetall("person:1").values())


def test_values_show_where_they_are_asked_for(people: Project) -> None:
    """
    `plan --show-values` and the file of `rejects export --with-values` hold them, no other answer.
    """
    people.run("backfill", "people")

    plan = people.run("plan", "people", "--show-values")
    plain = people.run("rejects", "export", "people", "--output", "plain.jsonl")
    full = people.run("rejects", "export", "people", "--output", "full.jsonl", "--with-values")

    assert leaks(VALUE, plan.out)
    assert leaks(VALUE, *said([plain, full]), (people.folder / "plain.jsonl").read_bytes()) == []
    assert leaks(VALUE, (people.folder / "full.jsonl").read_bytes())


def test_postgresql_shows_no_value(
    tmp_path: Path, postgres: PostgresDatabase, redis_server: RedisServer
) -> None:
    """
    The same rows in PostgreSQL, with a table that is dropped, and one that may not be read.
    """
    postgres.execute(
        "CREATE TABLE people (id int PRIMARY KEY, name text, about jsonb, photo bytea)"
    )
    postgres.execute(
        "INSERT INTO people VALUES (%s, %s, %s, %s)",
        *[(id_, VALUE, f'{{"{VALUE}": 1}}', VALUE.encode()) for id_ in range(1, 4)],
    )
    redis_server.client().rpush("person:2", VALUE)
    project = Project(tmp_path / "user", postgres.url, redis_server.url)
    project.mapping("people", MAPPING)

    runs = all_commands(project)
    project.mapping("people", MAPPING.replace("[id]", f"[id], where: \"id = '{VALUE}'\""))
    runs.append(project.run("backfill", "people", "--start-over", "-vv"))
    postgres.execute("DROP TABLE people")
    runs += all_commands(project, COMMANDS[4:6])

    assert {ran.exit for ran in runs} == {0, 2, 3}
    assert leaks(VALUE, *said(runs), *kept_but_mappings(project)) == []


def kept_but_mappings(project: Project) -> list[bytes]:
    """
    What was kept, without the mapping in which the test itself wrote a value.
    """
    return [
        content
        for path, content in project.files()
        if path.parent.name != "mappings" and path.name != "migrate.yaml"
    ]


# --- bugs ---------------------------------------------------------------------------------------


def broken(project: Project, bug: str, *arguments: str) -> Ran:
    """
    Run the program with a bug in it, in processes of its own.
    """
    ended = subprocess.run(
        [sys.executable, "-m", "tests.broken", bug, *arguments],
        cwd=project.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Ran(ended.returncode, ended.stdout, ended.stderr)


@pytest.mark.parametrize(
    ("bug", "workers", "code", "error"),
    [
        ("encode", "1", 1, "unexpected"),
        ("encode", "2", 1, "unexpected"),
        ("write", "1", 1, "unexpected"),
        ("chatter", "2", 3, ""),
    ],
)
def test_a_bug_shows_no_value(
    people: Project, bug: str, workers: str, code: int, error: str
) -> None:
    """
    An exception full of values, here or in a worker, is told by its class and its lines of code.
    """
    ran = broken(people, bug, "backfill", "people", "--workers", workers, "-vv")

    assert (ran.exit, ran.error) == (code, error), ran.err
    assert "Traceback" not in ran.out + ran.err
    assert leaks(VALUE, ran.out, ran.err, *kept(people)) == []


def test_a_worker_that_dies_shows_no_value(people: Project) -> None:
    """
    It is named with its exit code, and the same command goes on.
    """
    ran = broken(people, "die", "backfill", "people", "--workers", "2", "-vv")

    assert (ran.exit, ran.error) == (5, "worker-died")
    assert leaks(VALUE, ran.out, ran.err, *kept(people)) == []
    assert people.run("backfill", "people").exit == 3


# --- passwords ----------------------------------------------------------------------------------


@pytest.fixture
def reader(postgres: PostgresDatabase) -> Iterator[str]:
    """
    A user of the database whose password is planted; may read and keep a ledger.
    """
    name = f"reader_{postgres.name}"
    literal = PASSWORD.replace("'", "''")
    postgres.execute("CREATE TABLE people (id int PRIMARY KEY, name text)")
    postgres.execute("INSERT INTO people VALUES (1, 'Ada'), (2, 'Bob')")
    postgres.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{literal}'")
    postgres.execute(f"GRANT SELECT ON people TO {name}; GRANT CREATE ON SCHEMA public TO {name}")
    yield name
    postgres.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


@pytest.fixture
def locked(redis_fresh: Fresh) -> RedisServer:
    """
    A Redis with the planted password.
    """
    server = redis_fresh()
    server.set(requirepass=PASSWORD)
    return server


def guarded(
    folder: Path, postgres: PostgresDatabase, reader: str, locked: RedisServer, way: str
) -> Project:
    """
    A project whose source, target, sentinels and ledger all have the planted password.
    """
    server = postgres.server
    encoded = quote(PASSWORD, safe="")
    login = f"{reader}:{encoded}" if way == "url" else reader
    sql = f"postgresql+psycopg://{login}@{server.host}:{server.port}/{postgres.name}"
    secret = {"url": "", "env": "${env:SECRET_OF_TEST}", "file": "secret.txt"}[way]
    key = {"url": "", "env": "password: ", "file": "password_file: "}[way]
    more = f', {key}"{secret}"' if key else ""
    sentinel = f', sentinel_{key}"{secret}"' if key else ""
    project = Project(
        folder, sql, locked.url, environment={"SECRET_OF_TEST": PASSWORD}, retry_for="none"
    )
    (folder / "secret.txt").write_text(PASSWORD + "\n")
    (folder / "secret.txt").chmod(0o600)
    redis_url = locked.url if way == "url" else f"redis://{locked.host}:{locked.port}/0"
    (folder / "migrate.yaml").write_text(
        f"""
version: 1
source: {{url: "{sql}", retry_for: none{more}}}
ledger: {{url: "{sql}", retry_for: none{more}}}
redis:
  target: {{url: "{redis_url}", retry_for: none{more}}}
  watched:
    topology: sentinel
    service: main
    nodes: ["{locked.host}:{locked.port}"]
    retry_for: none
    password_file: secret.txt
    {sentinel.removeprefix(", ") or "sentinel_password_file: secret.txt"}
"""
    )
    project.mapping("people", MAPPING)
    return project


@pytest.mark.parametrize("way", ["url", "env", "file"])
def test_no_command_shows_a_password(
    tmp_path: Path, postgres: PostgresDatabase, reader: str, locked: RedisServer, way: str
) -> None:
    """
    However it was given: source, target, sentinel and ledger keep it to themselves.
    """
    project = guarded(tmp_path / "user", postgres, reader, locked, way)

    runs = all_commands(project, COMMANDS if way == "url" else COMMANDS[4:8])
    watched = all_commands(project, [("redis", "detect", "watched")])

    assert ({ran.exit for ran in runs}, {ran.exit for ran in watched}) == ({0}, {2})
    assert leaks(PASSWORD, *said([*runs, *watched]), *kept(project)) == []
    rows = postgres.query("SELECT source, target FROM migrate_run")
    assert rows
    assert leaks(PASSWORD, str(rows)) == []


def test_no_failure_shows_a_password(
    tmp_path: Path, postgres: PostgresDatabase, reader: str, locked: RedisServer
) -> None:
    """
    A store that refuses the password, is away, or is another program: nobody repeats it.
    """
    project = guarded(tmp_path / "user", postgres, reader, locked, "url")
    commands = [("doctor",), ("plan", "people"), ("backfill", "people"), ("redis", "detect")]
    postgres.execute(f"ALTER ROLE {reader} PASSWORD 'another'")
    runs = all_commands(project, [("status",), *commands[:3]])
    project.mapping("people", MAPPING + f"{PASSWORD}: [\n")
    runs += all_commands(project, [("mapping", "lint"), ("backfill", "people")])
    project.mapping("people", MAPPING)
    locked.set(requirepass="another")
    runs += all_commands(project, commands)
    locked.kill()
    runs += all_commands(project, [("backfill", "people"), ("redis", "detect")])
    (project.folder / "secret.txt").chmod(0o644)
    runs += all_commands(project, [("status",)])

    assert {ran.exit for ran in runs} <= {2, 4, 6}
    assert leaks(PASSWORD, *said(runs), *kept_but_mappings_and_secret(project)) == []


def kept_but_mappings_and_secret(project: Project) -> list[bytes]:
    """
    What was kept, without the two files that hold the password by design.
    """
    files = project.files()
    return [text for path, text in files if path.suffix not in (".yaml", ".txt")]


@pytest.mark.parametrize(
    "wrong",
    [
        "postgresql://app:{raw}@db/x",
        "postgresql+psycopg2://app:{quoted}@db/x",
        "postgres://app:{quoted}@db:port/x",
        "postgresql://app:{quoted}@[::1/x",
        "postgresql://db/x?sslpassword={quoted}",
        "postgresql://db/x?password={quoted}&password={quoted}",
        "redis://:{quoted}@db/x",
        "http://app:{quoted}@db/x",
        "{raw}",
    ],
)
@pytest.mark.parametrize("place", ["source", "redis", "ledger", "environment"])
def test_a_wrong_url_is_not_repeated(tmp_path: Path, wrong: str, place: str) -> None:
    """
    A URL that cannot be read may hold a password anywhere: its place is told, never the URL.
    """
    url = wrong.format(raw=PASSWORD, quoted=quote(PASSWORD, safe=""))
    good = {"source": "sqlite:///app.db", "redis": "redis://127.0.0.1:1/0"}
    given = {**good, place: url if place == "source" else "redis://127.0.0.1:1/x/" + url}
    project = Project(tmp_path / "user", given["source"], given["redis"], retry_for="none")
    if place == "ledger":
        project.configure(extra=f'ledger: {{url: "{url}"}}')
    if place == "environment":
        project.environment = {"PROFILE_MIGRATE_SOURCE_URL": url}
    project.mapping("people", MAPPING)

    runs = all_commands(project, [("doctor",)])

    # A URL that can be read after all names a store that is not there.
    assert {ran.exit for ran in runs} <= {2, 4, 6}, said(runs)
    assert leaks(PASSWORD, *said(runs)) == []
    assert not any("Traceback" in text for text in said(runs))


# --- reprs --------------------------------------------------------------------------------------


def test_no_repr_shows_a_password(tmp_path: Path) -> None:
    """
    Settings, their parts, the file they come from and the filter that knows all secrets.
    """
    secret = tmp_path / "secret.txt"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    encoded = quote(PASSWORD, safe="")
    path = tmp_path / "migrate.yaml"
    path.write_text(
        f"""
version: 1
source: {{url: "postgresql://app:{encoded}@db/x"}}
ledger: {{url: "postgresql://app@db/x", password_file: secret.txt}}
redis:
  target: {{url: "rediss://app:{encoded}@cache/0"}}
  queue:
    topology: sentinel
    service: main
    nodes: [one, two]
    password: "${{env:SECRET_OF_TEST}}"
    sentinel_password_file: secret.txt
"""
    )

    settings = load(path, {"SECRET_OF_TEST": PASSWORD})

    passwords = [settings.source, settings.ledger, *settings.redis.values()]
    assert all(one.password and one.password.reveal() == PASSWORD for one in passwords)
    objects = [settings, *passwords, *settings.secrets, Redactor.of(settings.secrets), read(path)]
    assert leaks(PASSWORD, *(f"{one!r} {one}" for one in objects)) == []
    assert leaks(PASSWORD, *(one.address for one in passwords)) == []


def test_no_repr_shows_a_value(people: Project) -> None:
    """
    Chunks, records, batches, rejects and the mapping that makes them show keys and counts.
    """
    mapping = load_mappings(people.folder / "mappings")["people"]
    settings = load(people.folder / "migrate.yaml", {})
    with closing(SqlSource.open(settings.source)) as source:
        compiled = compile_mapping(mapping, find_table(source, mapping))
        chunk = source.sample(compiled.query, 100)
    batch = compiled.encode(chunk)

    objects = [chunk, batch, *batch.records, *batch.rejects, compiled, compiled.query, mapping]

    assert (len(batch.records), len(batch.rejects)) == (4, 8)
    assert leaks(VALUE, *(f"{one!r} {one}" for one in objects)) == []
    assert "person:1" in repr(batch)


def test_a_record_stays_a_record() -> None:
    """
    Hiding its values costs it nothing: it compares, unpacks and travels as before.
    """
    record = Record(b"k", b"1", b"0" * 16, (b"name", VALUE.encode()))
    batch = Batch([record], [(1,)], [Reject((2,), Fault("age", "wrong-type", "holds text"))])

    key, _, _, fields, *_ = record

    assert (key, fields) == (b"k", (b"name", VALUE.encode()))
    assert pickle.loads(pickle.dumps(batch)) == batch  # noqa: S301 - our own bytes
    assert repr(record) == "Record(b'k', b'1', 1 fields)"


def test_no_error_object_shows_a_password(locked: RedisServer) -> None:
    """
    Neither the text nor the parts of an error that crosses to another process hold it.
    """
    from migrate.target.store import RedisTarget

    config = locked.config(retry_for_s=0.0)
    locked.set(requirepass="another")

    with pytest.raises(MigrateError) as caught:
        RedisTarget.open(config)

    error = caught.value
    assert leaks(PASSWORD, f"{error!r} {error} {vars(error)}", pickle.dumps(error)) == []
