"""
The worst rows, keys, names, files and users: each gets its exit code and a way out.

Nobody's data is touched, and nothing is lost without a word.
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

import pytest

from migrate.model.shape import RecordShape
from migrate.model.values import Outcome, Record
from migrate.target.store import RedisTarget
from tests.project import Project, Ran, poll, until_exit
from tests.servers import (
    Database,
    PostgresDatabase,
    RedisServer,
    SqliteDatabase,
    wait_until,
)

Fresh = Callable[..., RedisServer]
Make = Callable[..., Project]

LUA = '"]=1} redis.call("flushall") local x={["'

TEXTS = (
    "",
    " ",
    "plain",
    LUA,
    "]] redis.call('flushall') --[[",
    "{tag}",
    "}{",
    "*",
    "user:[a-z]?",
    "a:b",
    "a",
    "b:c",
    "%",
    "%3A",
    "%s %(x)s :x $1 ?",
    "two\nlines",
    "carriage\r\nreturn",
    "*3\r\n$8\r\nFLUSHALL\r\n",
    "\x1b[31mred\x1b[0m",
    "\x07\x08\x7f\x85",
    "\u2028\u202egnp.exe",
    "'; DROP TABLE t; --",
    '"quoted" \\ back`tick',
    "../../etc/passwd",
    "é" * 80,
    "e\u0301",
    "日本語 🧑‍🚀",
    "=cmd|' /C calc'!A0",
    "None",
    "x" * 240,
)
"""Text that some layer between two stores could take for something else."""

NEIGHBOURS = {b"neighbour": b"untouched", b"rec": b"1", b"rec:": b"2", b"rec:*": b"3"}
"""Keys of other people that look like ours."""


def mapping(
    table: str = "t", key: str = "[id]", template: str = "rec:{id}", where: str = "", more: str = ""
) -> str:
    """
    A mapping file; `table` and `where` as YAML scalars.
    """
    filter_ = f", where: {where}" if where else ""
    return (
        f"version: 1\nname: t\nsource: {{table: {table}, key: {key}{filter_}}}\n"
        f'target: {{key: "{template}", type: hash}}\n{more}'
    )


@pytest.fixture
def make(tmp_path: Path, redis_server: RedisServer) -> Make:
    """
    Makes a project over a source: `make(source, key="[a, b]", template="rec:{a}:{b}")`.
    """

    def make(source: Database, *, redis_url: str = "", **parts: str) -> Project:
        project = Project(tmp_path / "user", source.url, redis_url or redis_server.url)
        project.mapping("t", mapping(**parts))
        return project

    return make


@pytest.fixture
def three(sqlite: SqliteDatabase, make: Make) -> Project:
    """
    A table of three plain rows.
    """
    sqlite.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
    sqlite.execute("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    return make(sqlite)


def told(ran: Ran) -> str:
    """
    What a failed command said, once it is sure that it said it as it should.
    """
    assert "Traceback" not in ran.out + ran.err
    assert "This is a bug" not in ran.err
    assert "error[" in ran.err, ran.err
    assert "  where: " in ran.err
    assert "  next:  " in ran.err
    return ran.err


def keys(server: RedisServer) -> set[bytes]:
    """
    Every key but the program's own.
    """
    return {k for k in server.client().scan_iter(count=1_000) if not k.startswith(b"profile-mig")}


def controls(text: str) -> set[str]:
    """
    Characters that would end a line or drive a terminal, line ends of ours left out.
    """
    return {c for c in text if not c.isprintable() and c != "\n"}


# --- keys and values ----------------------------------------------------------------------------


def test_hostile_text_arrives_as_it_is(
    source: Database, make: Make, redis_server: RedisServer
) -> None:
    """
    In every part of a key and in every value; distinct keys stay distinct, neighbours untouched.
    """
    pairs = [(a, b) for number, a in enumerate(TEXTS) for b in (TEXTS[-number - 1], "c", LUA)]
    rows = [(*pair, pair[1], f'{{"x": "{number}"}}') for number, pair in enumerate({*pairs})]
    source.execute("CREATE TABLE t (a VARCHAR, b VARCHAR, v TEXT, j TEXT, PRIMARY KEY (a, b))")
    marks = "?, ?, ?, ?" if source.dialect == "sqlite" else "%s, %s, %s, %s"
    source.execute(f"INSERT INTO t VALUES ({marks})", *rows)
    client = redis_server.client()
    client.mset(NEIGHBOURS)
    project = make(source, key="[a, b]", template="rec:{a}:{b}")

    ran = project.run("backfill", "t", "--workers", "1", "--json")

    assert (ran.exit, ran.json["written"]) == (0, len(rows)), ran.err
    found = keys(redis_server) - NEIGHBOURS.keys()
    read_back = {
        tuple(unquote_to_bytes(part).decode() for part in key[4:].split(b":")) for key in found
    }
    assert read_back == {row[:2] for row in rows}
    values = {client.hget(key, "v").decode() for key in found}
    assert values == {row[2] for row in rows}
    assert {key: client.get(key) for key in NEIGHBOURS} == NEIGHBOURS
    assert client.dbsize() == len(rows) + len(NEIGHBOURS) + 1


def test_keys_never_drive_a_terminal(sqlite: SqliteDatabase, make: Make) -> None:
    """
    A rejected row is one line, whatever its key holds; so is each line of plan and of the export.
    """
    sqlite.execute("CREATE TABLE t (id TEXT PRIMARY KEY, n INT)")
    texts = (*TEXTS, "nul\0nul", "x" * 600)
    sqlite.execute("INSERT INTO t VALUES (?, ?)", *[(text, b"bytes") for text in texts])
    project = make(sqlite)

    ran = project.run("backfill", "t")
    listed = project.run("rejects", "list", "t", "--limit", "1000")
    as_json = project.run("rejects", "list", "t", "--limit", "1000", "--json")
    exported = project.run("rejects", "export", "t", "--output", "r.jsonl")
    sqlite.execute("UPDATE t SET n = 1")
    runs = [ran, listed, as_json, exported, project.run("plan", "t"), project.run("doctor")]

    assert ran.exit == listed.exit == 3
    assert len(listed.out.splitlines()) == 1 + len(texts) + 1
    assert len(as_json.json["rejects"]) == len(texts)
    assert len((project.folder / "r.jsonl").read_bytes().splitlines()) == len(texts)
    assert controls("".join(run.out + run.err for run in runs)) == set()


def test_a_key_has_512_bytes_at_most(
    sqlite: SqliteDatabase, make: Make, redis_server: RedisServer
) -> None:
    """
    The longest that fits moves, one byte more is a reject; its neighbours move.
    """
    sqlite.execute("CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT)")
    fits, long, escaped = "k" * 508, "k" * 509, ":" * 170
    sqlite.execute("INSERT INTO t VALUES (?, 'v')", *[(k,) for k in (fits, long, escaped, "z")])
    project = make(sqlite)

    ran = project.run("backfill", "t", "--json")

    assert (ran.exit, ran.json["open_rejects"]) == (3, {"key-too-long": 2})
    assert keys(redis_server) == {b"rec:" + fits.encode(), b"rec:z"}


def test_a_value_of_nine_megabytes_is_a_reject(
    sqlite: SqliteDatabase, make: Make, redis_server: RedisServer
) -> None:
    """
    It costs its own row only, and is there to be replayed.
    """
    sqlite.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
    sqlite.execute("INSERT INTO t VALUES (?, ?)", (1, "a"), (2, "x" * 9_000_000), (3, "c"))
    project = make(sqlite)

    ran = project.run("backfill", "t", "--json")
    sqlite.execute("UPDATE t SET v = 'b' WHERE id = 2")
    replayed = project.run("rejects", "replay", "t")

    assert (ran.exit, ran.json["open_rejects"]) == (3, {"too-large": 1})
    assert replayed.exit == 0
    assert keys(redis_server) == {b"rec:1", b"rec:2", b"rec:3"}


def test_a_server_that_takes_no_such_value_says_so(
    sqlite: SqliteDatabase, make: Make, redis_fresh: Fresh
) -> None:
    """
    With proto-max-bulk-len below a record: 2 with the setting's name, and done once it is raised.
    """
    server = redis_fresh(proto_max_bulk_len="1mb")
    sqlite.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
    sqlite.execute("INSERT INTO t VALUES (?, ?)", (1, "a"), (2, "x" * 2_000_000), (3, "c"))
    project = make(sqlite, redis_url=server.url)

    refused = project.run("backfill", "t")
    server.set(proto_max_bulk_len="512mb")
    done = project.run("backfill", "t", "--json")

    assert (refused.exit, refused.error) == (2, "target-access")
    assert "proto-max-bulk-len" in told(refused)
    assert (done.exit, done.json["complete"]) == (0, True)
    assert keys(server) == {b"rec:1", b"rec:2", b"rec:3"}


def test_numbers_beyond_64_bits(
    postgres: PostgresDatabase, make: Make, redis_server: RedisServer
) -> None:
    """
    Keys and values of any length stay exact.
    """
    huge = 10**38 - 1
    postgres.execute("CREATE TABLE t (id numeric(40) PRIMARY KEY, n numeric)")
    postgres.execute("INSERT INTO t VALUES (%s, %s)", (huge, 10**100 + 1), (-huge, -(2**64)))

    ran = make(postgres).run("backfill", "t")

    assert ran.exit == 0
    client = redis_server.client()
    assert client.hget(f"rec:{huge}", "n") == str(10**100 + 1).encode()
    assert client.hget(f"rec:-{huge}", "n") == str(-(2**64)).encode()


def test_sqlite_numbers_that_lost_digits_are_rejects(
    sqlite: SqliteDatabase, make: Make, redis_server: RedisServer
) -> None:
    """
    Beyond 64 bits SQLite keeps a rounded number: it is not passed off as the real one.
    """
    sqlite.execute("CREATE TABLE t (id INT PRIMARY KEY, n INT)")
    sqlite.execute(f"INSERT INTO t VALUES ({2**63}, 1), ({2**63 - 1}, 2), (3, {2**64})")

    ran = make(sqlite).run("backfill", "t", "--json")

    assert (ran.exit, ran.json["open_rejects"]) == (3, {"wrong-type": 2})
    assert keys(redis_server) == {f"rec:{2**63 - 1}".encode()}


def test_a_row_of_many_columns(
    sqlite: SqliteDatabase, make: Make, redis_server: RedisServer
) -> None:
    """
    As many as SQLite takes.
    """
    names = ", ".join(f"c{number} TEXT" for number in range(1_900))
    sqlite.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, {names})")
    marks = ", ".join("?" * 1_901)
    sqlite.execute(f"INSERT INTO t VALUES ({marks})", *[(n, *["v"] * 1_900) for n in range(3)])

    ran = make(sqlite).run("backfill", "t")

    assert ran.exit == 0
    assert redis_server.client().hlen("rec:2") == 1_901 + 2


def test_a_record_of_five_thousand_fields(redis_server: RedisServer) -> None:
    """
    More than Lua can unpack at once; written whole, and replaced whole.
    """
    names = [str(number).encode() for number in range(5_000)]
    fields = tuple(part for name in names for part in (name, LUA.encode()))
    with RedisTarget.open(redis_server.config()) as target:
        fence = target.begin("t", run="r", expected=None, generation=0, revision=1, fingerprint="f")
        loader = target.loader("t", fence, RecordShape("0" * 32, "rec:{id}"))

        first = loader.write([Record(b"rec:1", b"1", b"0" * 16, fields)])
        second = loader.write([Record(b"rec:1", b"1", b"1" * 16, fields[:6_000])])

    assert [*first.outcomes, *second.outcomes] == [Outcome.WRITTEN, Outcome.REPLACED]
    assert redis_server.client().hlen("rec:1") == 3_000 + 2


# --- keys that pages cannot stand on ------------------------------------------------------------

UNUSABLE = {
    "NULL": (
        "CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT); INSERT INTO t VALUES (NULL, 1), ('b', 2)"
    ),
    "bytes in a text": (
        "CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, v TEXT);"
        "INSERT INTO t VALUES ('a', 1), (x'6162', 2)"
    ),
    "bytes in an integer": (
        "CREATE TABLE t (id INTEGER NOT NULL UNIQUE, v TEXT);"
        "INSERT INTO t VALUES (1, 1), (x'FF', 2)"
    ),
    "bytes in a date": (
        "CREATE TABLE t (id DATE NOT NULL PRIMARY KEY, v TEXT);"
        "INSERT INTO t VALUES ('2020-01-01', 1), (x'01', 2)"
    ),
}


@pytest.mark.parametrize("sql", UNUSABLE.values(), ids=UNUSABLE)
def test_a_table_is_not_half_copied(
    sqlite: SqliteDatabase, make: Make, redis_server: RedisServer, sql: str
) -> None:
    """
    A key that no page would ever reach stops the run, the plan and doctor: 4, nothing written.
    """
    sqlite.execute(sql)
    project = make(sqlite)

    ran, plan, doctor = (project.run(word, "t") for word in ("backfill", "plan", "doctor"))

    assert (ran.exit, ran.error, plan.exit, doctor.exit) == (4, "checks-failed", 4, 4)
    assert told(ran).startswith(
        "error[checks-failed]: 1 rows have a key that is NULL or of another"
    )
    assert "mapping.t.key" in doctor.out
    assert redis_server.client().dbsize() == 0


def test_other_values_in_a_key_are_rejects(
    sqlite: SqliteDatabase, make: Make, redis_server: RedisServer
) -> None:
    """
    What pages can stand on but no key can hold costs its own row, and is counted.
    """
    sqlite.execute("CREATE TABLE t (id INT NOT NULL PRIMARY KEY, v TEXT)")
    sqlite.execute("INSERT INTO t VALUES (1, 1), ('abc', 2), (2.5, 3), (CAST(x'FF41' AS TEXT), 4)")

    ran = make(sqlite).run("backfill", "t", "--json")

    assert (ran.exit, ran.json["rows"], ran.json["rejected"]) == (3, 4, 3)
    assert keys(redis_server) == {b"rec:1"}


NOT_UNIQUE = {
    "no key": "CREATE TABLE t (id INTEGER NOT NULL, v TEXT)",
    "view": "CREATE TABLE u (id INTEGER PRIMARY KEY, v TEXT); CREATE VIEW t AS SELECT * FROM u",
    "finer collation": (
        "CREATE TABLE t (id TEXT NOT NULL COLLATE NOCASE, v TEXT);"
        "CREATE UNIQUE INDEX i ON t (id COLLATE BINARY); INSERT INTO t VALUES ('a', 1), ('A', 2)"
    ),
    "part of the rows": (
        "CREATE TABLE t (id TEXT NOT NULL, v TEXT); CREATE UNIQUE INDEX i ON t (id) WHERE v > 1"
    ),
    "expression": (
        "CREATE TABLE t (id TEXT NOT NULL, v TEXT); CREATE UNIQUE INDEX i ON t (lower(id))"
    ),
}


@pytest.mark.parametrize("sql", NOT_UNIQUE.values(), ids=NOT_UNIQUE)
def test_keys_that_nothing_keeps_apart_are_refused(
    sqlite: SqliteDatabase, make: Make, sql: str
) -> None:
    """
    Two rows of one key would be one record, or hide each other between two pages: 2.
    """
    sqlite.execute(sql)

    ran = make(sqlite).run("backfill", "t")

    assert (ran.exit, ran.error) == (2, "schema-mismatch")
    assert "mappings/t.yaml:3:" in told(ran)
    assert "[key-not-unique]" in ran.err


POSTGRES_NOT_UNIQUE = {
    "inherited": (
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE child () INHERITS (t);"
        "INSERT INTO t VALUES (1); INSERT INTO child VALUES (1)"
    ),
    "view": "CREATE TABLE u (id int PRIMARY KEY); CREATE VIEW t AS SELECT * FROM u",
    "part of the rows": (
        "CREATE TABLE t (id int NOT NULL, v int); CREATE UNIQUE INDEX ON t (id) WHERE v > 1"
    ),
    "finer collation": (
        "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
        "CREATE TABLE t (id text COLLATE ci NOT NULL);"
        "CREATE UNIQUE INDEX ON t (id COLLATE \"C\"); INSERT INTO t VALUES ('a'), ('A')"
    ),
}


@pytest.mark.parametrize("sql", POSTGRES_NOT_UNIQUE.values(), ids=POSTGRES_NOT_UNIQUE)
def test_postgresql_keys_that_nothing_keeps_apart_are_refused(
    postgres: PostgresDatabase, make: Make, sql: str
) -> None:
    """
    The same in PostgreSQL, where tables inherit and collations may hold 'a' for 'A'.
    """
    postgres.execute(sql)

    ran = make(postgres).run("backfill", "t")

    assert (ran.exit, ran.error) == (2, "schema-mismatch")
    assert "[key-not-unique]" in told(ran)


@pytest.mark.parametrize("declared", ["REAL", "", "BLOB"])
def test_keys_without_an_exact_text_are_refused(
    sqlite: SqliteDatabase, make: Make, declared: str
) -> None:
    """
    Floats, bytes and columns without a type.
    """
    sqlite.execute(f"CREATE TABLE t (id {declared} NOT NULL PRIMARY KEY)")

    ran = make(sqlite).run("backfill", "t")

    assert (ran.exit, ran.error) == (2, "schema-mismatch")
    assert "mappings/t.yaml:3:" in told(ran)
    assert "[key-type]" in ran.err


# --- names and filters --------------------------------------------------------------------------


def test_names_are_names(source: Database, make: Make, redis_server: RedisServer) -> None:
    """
    Quotes, percent signs, colons, placeholders and semicolons in names of tables and columns.
    """
    columns = ("a:b", "100%", "%s", ":x", 'q"q', "it's", "; --", "{id}", "%(x)s", "new\nline")
    quoted = [name.replace('"', '""') for name in columns]
    declared = ", ".join(f'"{name}" TEXT' for name in quoted)
    source.execute(f'CREATE TABLE "we%%ird :x %s" (id INTEGER PRIMARY KEY, {declared})')
    values = ", ".join(f"'{number}'" for number in range(len(columns)))
    source.execute(f'INSERT INTO "we%%ird :x %s" VALUES (1, {values})')
    project = make(source, table="'we%%ird :x %s'")

    ran = project.run("backfill", "t", "--json")
    plan = project.run("plan", "t")

    record = redis_server.client().hgetall("rec:1")
    assert (ran.exit, plan.exit, ran.json["written"]) == (0, 0, 1), ran.err
    assert {name: record[name.encode()] for name in columns} == {
        name: str(number).encode() for number, name in enumerate(columns)
    }
    assert controls(plan.out) == set()


FILTERS = {
    "id = 1; DROP TABLE t": "no second statement",
    "id = 1 OR (SELECT 1) = 1": "",
    "load_extension('x') = 1": "Functions are not allowed",
    "id = 1 -- ": "",
    "id = 1 /* */": "",
    "id = 1 UNION SELECT 1": "",
    "v = 'x' OR 1=1) --": "",
    "nobody = 1": "no column 'nobody'",
}


@pytest.mark.parametrize("where", FILTERS)
def test_a_filter_is_a_filter(three: Project, where: str) -> None:
    """
    Statements, functions, comments and subqueries are refused at their place: 2.
    """
    three.mapping("t", mapping(where=f'"{where}"'))

    ran = three.run("backfill", "t")

    assert ran.exit == 2
    assert "mappings/t.yaml:3:" in told(ran)
    assert FILTERS[where] in ran.err


def test_a_literal_is_a_literal(source: Database, make: Make, redis_server: RedisServer) -> None:
    """
    A quote inside of a text of the filter ends nothing.
    """
    source.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
    source.execute("INSERT INTO t VALUES (1, 'a'), (2, 'x'' OR 1=1 --')")

    ran = make(source, where="\"v = 'x'' OR 1=1 --'\"").run("backfill", "t")

    assert ran.exit == 0
    assert keys(redis_server) == {b"rec:2"}


@pytest.mark.parametrize("name", ["../../x", "profile-migrate:fence:t", "t; flushall", "", "T"])
def test_a_mapping_is_named_by_a_name(three: Project, name: str) -> None:
    """
    Neither in the file nor on the command line does a name reach for anything else.
    """
    asked = three.run("rejects", "replay", "--", name)
    three.mapping("t", mapping().replace("name: t", f'name: "{name}"'))
    linted = three.run("mapping", "lint")

    assert (asked.exit, asked.error) == (2, "unknown-mapping")
    assert linted.exit == 2
    assert "mappings/t.yaml:2:7: [" in told(linted)
    told(asked)


# --- files --------------------------------------------------------------------------------------


def _make_directory(path: Path) -> None:
    path.mkdir()


def _make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's path may not be long
        try:
            listener.bind(path.name)
        finally:
            os.chdir(here)


ODD_FILES: dict[str, Callable[[Path], object]] = {
    "directory": _make_directory,
    "pipe": os.mkfifo,
    "socket": _make_socket,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path.name),
    "dangling": lambda path: path.symlink_to("nowhere"),
    "empty": lambda path: path.write_bytes(b""),
    "binary": lambda path: path.write_bytes(bytes(range(256))),
}


@pytest.mark.parametrize("odd", ODD_FILES)
@pytest.mark.parametrize("name", ["migrate.yaml", "mappings/t.yaml"])
def test_a_file_that_is_none_is_told_at_once(three: Project, name: str, odd: str) -> None:
    """
    Nothing waits for a pipe or reads a device to its end: 2, with the file's name.
    """
    path = three.folder / name
    path.unlink()
    ODD_FILES[odd](path)

    ran = three.run("backfill", "t")

    assert (ran.exit, ran.error) == (2, "invalid-file")
    assert told(ran).startswith(f"{name}:")


@pytest.mark.parametrize("there", [True, False], ids=["empty", "missing"])
@pytest.mark.parametrize("words", [("backfill", "t"), ("status",), ("plan",), ("mapping", "lint")])
def test_no_mappings_at_all(three: Project, words: Sequence[str], there: bool) -> None:
    """
    A folder that is empty or not there: 2, with the folder's name.
    """
    shutil.rmtree(three.folder / "mappings")
    if there:
        (three.folder / "mappings").mkdir()

    ran = three.run(*words)

    assert (ran.exit, ran.error) == (2, "invalid-file")
    assert "mappings: [" in told(ran)


LEDGERS = {
    "directory": ("mappings", 2, "ledger-access"),
    "pipe": ("pipe", 2, "ledger-access"),
    "full": ("/dev/full", 2, "ledger-access"),
    "no folder": ("/proc/nowhere/ledger.db", 2, "ledger-access"),
    "below a file": ("migrate.yaml/ledger.db", 2, "ledger-access"),
    "another file": ("migrate.yaml", 8, "ledger-damaged"),
}


@pytest.mark.parametrize("case", LEDGERS.values(), ids=LEDGERS)
def test_a_ledger_that_is_none(
    three: Project, redis_server: RedisServer, case: tuple[str, int, str]
) -> None:
    """
    Nothing is written to Redis, the file keeps its bytes, and doctor says the same.
    """
    path, code, error = case
    os.mkfifo(three.folder / "pipe")
    three.configure(extra=f'ledger: {{url: "sqlite:///{path}"}}')
    before = (three.folder / "migrate.yaml").read_bytes()

    ran, doctor = three.run("backfill", "t"), three.run("doctor")

    assert (ran.exit, ran.error) == (code, error)
    assert "ledger=" in told(ran)
    # Who may write everywhere (root) is told by the run alone that /proc takes no folder.
    assert doctor.exit == 4 or path.startswith("/proc")
    assert "Traceback" not in doctor.err
    assert redis_server.client().dbsize() == 0
    assert (three.folder / "migrate.yaml").read_bytes() == before


@pytest.mark.parametrize("path", ["migrate.yaml", "mappings", "pipe", "/dev/full", "nowhere.db"])
def test_a_source_that_is_no_database(three: Project, path: str) -> None:
    """
    2, and no file is made.
    """
    os.mkfifo(three.folder / "pipe")
    three.configure(source_url=f"sqlite:///{path}")

    ran = three.run("backfill", "t")

    assert (ran.exit, ran.error) == (2, "invalid-input")
    assert path in told(ran)
    assert not (three.folder / "nowhere.db").exists()


@pytest.mark.parametrize("path", ["/dev/full", "mappings", "nowhere/run.prom", "/proc/run.prom"])
def test_metrics_that_cannot_be_written_are_said_first(
    three: Project, redis_server: RedisServer, path: str
) -> None:
    """
    Before the work, not after hours of it: 2, nothing written.
    """
    ran = three.run("backfill", "t", "--metrics-textfile", path)

    assert (ran.exit, ran.error) == (2, "usage")
    assert "metrics" in told(ran) or "is a directory" in ran.err
    assert redis_server.client().dbsize() == 0


def test_metrics_that_vanish_hide_no_error(three: Project) -> None:
    """
    A run that fails keeps its exit code when its metrics cannot be written either.
    """
    place = three.folder / "metrics" / "run.prom"
    place.parent.mkdir()
    three.configure(redis_url="redis://127.0.0.1:1/0", retry_for="1s")

    with three.started("backfill", "t", "--metrics-textfile", str(place)) as process:
        wait_until(place.exists, "the first metrics", timeout_s=30)
        shutil.rmtree(place.parent)
        ended = until_exit(process)

    assert (ended.exit, ended.error) == (6, "target-unavailable")
    assert "warning: The metrics file cannot be written. (ENOENT)" in told(ended)


@pytest.fixture
def rejected(three: Project, sqlite: SqliteDatabase) -> Project:
    """
    A project with many open rejects.
    """
    sqlite.execute("CREATE TABLE bad (id INTEGER PRIMARY KEY, n INT)")
    sqlite.execute("INSERT INTO bad VALUES (?, 'x')", *[(number,) for number in range(1_200)])
    three.mapping("t", mapping(table="bad"))
    assert three.run("backfill", "t").exit == 3
    return three


@pytest.mark.parametrize("place", ["link", "there.jsonl", "mappings", "/dev/full", "nowhere/r"])
def test_an_export_makes_a_new_file(rejected: Project, place: str) -> None:
    """
    It follows no link and overwrites nothing: 2.
    """
    (rejected.folder / "link").symlink_to("aim")
    (rejected.folder / "there.jsonl").write_text("mine")

    ran = rejected.run("rejects", "export", "t", "--output", place)

    assert (ran.exit, ran.error) == (2, "usage")
    told(ran)
    assert not (rejected.folder / "aim").exists()
    assert (rejected.folder / "there.jsonl").read_text() == "mine"


def test_an_export_that_finds_no_room_leaves_no_half(rejected: Project) -> None:
    """
    1 with the reason; the file is gone, so that the same command can be run again.
    """
    with limited(50_000):
        ran = rejected.run("rejects", "export", "t", "--output", "r.jsonl")
    again = rejected.run("rejects", "export", "t", "--output", "r.jsonl")

    assert (ran.exit, ran.error) == (1, "output-failed")
    assert "r.jsonl" in told(ran)
    assert again.exit == 0


@contextmanager
def limited(size: int) -> Iterator[None]:
    """
    No file of this process grows beyond a size: what a full disk looks like.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_files_are_for_this_user_only(rejected: Project) -> None:
    """
    Whatever the umask: the ledger with its log, its folder, and an export.
    """
    shutil.rmtree(rejected.folder / ".profile-migrate")
    before = os.umask(0)
    try:
        rejected.run("backfill", "t", "--start-over")
        rejected.run("rejects", "export", "t", "--output", "r.jsonl")
    finally:
        os.umask(before)

    kept = [*(rejected.folder / ".profile-migrate").rglob("*"), rejected.folder / "r.jsonl"]
    modes = {path.name: path.stat().st_mode & 0o077 for path in (kept[0].parent, *kept)}
    assert "ledger.db" in modes
    assert set(modes.values()) == {0}


def test_a_reader_that_goes_away_costs_nothing(rejected: Project) -> None:
    """
    `rejects list ... | head -1`: the code of the command, and silence.
    """
    words = ("rejects", "list", "t", "--limit", "1200", "-q")

    with rejected.started(*words) as process:
        process.stdout.close()  # type: ignore[union-attr]
        process.stdout = None
        ended = until_exit(process)

    assert (ended.exit, ended.err) == (3, "")


# --- a source in motion, and one that says no ---------------------------------------------------


def test_rows_that_change_while_they_are_read(
    sqlite: SqliteDatabase, make: Make, redis_server: RedisServer
) -> None:
    """
    Rows that stay are all there after the run; the next one brings the others up to date.
    """
    sqlite.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
    sqlite.execute("INSERT INTO t VALUES (?, 'old')", *[(id_ * 10,) for id_ in range(1, 601)])
    project = make(sqlite)
    project.configure(extra="throttle: {rows_per_second: 500}")

    with project.started("backfill", "t", "-q") as process:
        project.wait_for_rows(1)
        for step in range(1, 6):
            sqlite.execute(f"UPDATE t SET v = 'new' WHERE id % 70 = {step % 7 * 10}")
            sqlite.execute(f"UPDATE t SET id = id + {step} WHERE id = {step * 1_000}")
            sqlite.execute(f"INSERT INTO t VALUES ({step * 1_000 - 3}, 'born')")
            poll(0.05)
        ended = until_exit(process)

    assert ended.exit == 0, ended.err
    client = redis_server.client()
    stayed = [id_ for (id_,) in sqlite.query("SELECT id FROM t WHERE id % 10 = 0")]
    assert [id_ for id_ in stayed if not client.exists(f"rec:{id_}")] == []
    project.configure(extra="")
    assert project.run("backfill", "t").exit == 0
    rows = sqlite.query("SELECT id, v FROM t")
    assert {id_: client.hget(f"rec:{id_}", "v").decode() for id_, _ in rows} == dict(rows)


@pytest.fixture
def poor(postgres: PostgresDatabase, make: Make) -> Iterator[Project]:
    """
    A project whose user may log in to PostgreSQL and nothing else; table `t` is somebody else's.
    """
    name = f"poor_{postgres.name}"
    postgres.execute("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')")
    postgres.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'poor'")
    project = make(postgres)
    login = f"{postgres.server.user}:{quote(postgres.server.password, safe='')}"
    project.configure(source_url=postgres.url.replace(login, f"{name}:poor"))
    yield project
    postgres.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


@pytest.mark.parametrize(
    ("grant", "lack"),
    [
        ("SELECT 1", "SELECT on t (id, v)"),
        ("GRANT SELECT (id) ON t TO {poor}", "SELECT on t (v)"),
        ("GRANT SELECT ON t TO {poor}; ALTER TABLE t ENABLE ROW LEVEL SECURITY", "BYPASSRLS"),
    ],
    ids=["nothing", "a column", "rows hidden"],
)
def test_rights_that_are_missing_are_named(
    poor: Project, postgres: PostgresDatabase, redis_server: RedisServer, grant: str, lack: str
) -> None:
    """
    A backfill ends with 2 before it writes, and doctor says what is missing.
    """
    postgres.execute(grant.replace("{poor}", f"poor_{postgres.name}"))

    ran, doctor = poor.run("backfill", "t"), poor.run("doctor", "t")

    assert (ran.exit, ran.error, doctor.exit) == (2, "source-access", 4)
    assert "Grant SELECT" in told(ran)
    assert lack in doctor.out
    assert redis_server.client().dbsize() == 0


def test_a_user_who_may_only_read_is_enough(
    poor: Project, postgres: PostgresDatabase, redis_server: RedisServer
) -> None:
    """
    SELECT on the table, and nothing more.
    """
    postgres.execute(f"GRANT SELECT ON t TO poor_{postgres.name}")

    ran, doctor = poor.run("backfill", "t"), poor.run("doctor", "t")

    assert (ran.exit, doctor.exit) == (0, 0), ran.err
    assert keys(redis_server) == {b"rec:1"}


# --- a Redis that says no -----------------------------------------------------------------------

MINIMAL = (
    "+ping +type +hmget +hset +hincrby +unlink +evalsha +script|load +dbsize +multi +exec "
    "+info +time +memory|usage +config|get +client|setname"
)


@pytest.mark.parametrize(
    "rules",
    [
        "~*",
        f"~* {MINIMAL.replace(' +evalsha', '')}",
        f"~* {MINIMAL.replace(' +script|load', '')}",
        f"~rec:* {MINIMAL}",
        f"~profile-migrate:* {MINIMAL}",
    ],
    ids=["nothing", "no EVALSHA", "no SCRIPT LOAD", "no fence", "no records"],
)
def test_a_redis_user_who_may_too_little(three: Project, redis_fresh: Fresh, rules: str) -> None:
    """
    2 at once, and doctor prints the ACL line; a user made by that line is enough.
    """
    server = redis_fresh()
    client = server.client()
    client.execute_command("ACL", "SETUSER", "app", "reset", "on", ">pw", "-@all", *rules.split())
    three.configure(redis_url=f"redis://app:pw@{server.host}:{server.port}/0", retry_for="60s")

    ran, plan, doctor = (three.run(word, "t") for word in ("backfill", "plan", "doctor"))

    assert (ran.exit, ran.error, plan.exit, doctor.exit) == (2, "target-access", 2, 4)
    assert "profile-migrate doctor" in told(ran)
    [line] = {li.partition("fix: ")[2] for li in doctor.out.splitlines() if "ACL SETUSER app" in li}
    client.execute_command("ACL", "DELUSER", "app")
    client.execute_command(*line.replace("PASSWORD", "pw").split())
    assert three.run("doctor", "t").exit == 0
    assert three.run("backfill", "t").exit == 0
    assert keys(server) == {b"rec:1", b"rec:2", b"rec:3"}


def test_a_user_who_may_not_delete_leaves_nothing_behind(
    three: Project, redis_fresh: Fresh
) -> None:
    """
    Plan and doctor write no scratch key that they could not take away.
    """
    server = redis_fresh()
    rules = f"~* {MINIMAL.replace(' +unlink', '')}".split()
    server.client().execute_command("ACL", "SETUSER", "app", "reset", "on", ">pw", "-@all", *rules)
    three.configure(redis_url=f"redis://app:pw@{server.host}:{server.port}/0")

    plan, doctor = three.run("plan", "t"), three.run("doctor", "t")

    assert (plan.exit, doctor.exit) == (2, 4)
    assert "unlink" in doctor.out
    assert server.client().dbsize() == 0


@pytest.mark.parametrize("command", ["EVALSHA", "HMGET", "SCRIPT"])
def test_a_redis_without_a_command(three: Project, redis_fresh: Fresh, command: str) -> None:
    """
    Renamed or switched off: 2, and doctor names it.
    """
    server = redis_fresh(rename_command=f'{command} ""')
    three.configure(redis_url=server.url, retry_for="60s")

    ran, doctor = three.run("backfill", "t"), three.run("doctor", "t")

    assert (ran.exit, ran.error, doctor.exit) == (2, "target-access", 4)
    assert "rename-command" in told(ran)
    assert command.lower() in doctor.out
    assert keys(server) == set()


@pytest.mark.parametrize(
    ("answer", "code", "error"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n", 6, "target-unavailable"),
        (b"-DENIED Redis is running in protected mode because\r\n", 2, "target-access"),
        (b"-ERR max number of clients reached\r\n", 6, "target-unavailable"),
        (b"\x15\x03\x03\x00\x02\x02\x46", 6, "target-unavailable"),
        (b"", 6, "target-unavailable"),
    ],
    ids=["http", "protected mode", "too many clients", "tls", "silence"],
)
def test_a_server_that_is_no_redis_for_us(
    three: Project, answer: bytes, code: int, error: str
) -> None:
    """
    Another protocol, or one that sends us away: the code that says whether waiting helps.
    """
    with answering(answer) as port:
        three.configure(redis_url=f"redis://127.0.0.1:{port}/0", retry_for="250ms")

        ran = three.run("backfill", "t")

    assert (ran.exit, ran.error) == (code, error)
    assert "redis=target" in told(ran)


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """
    A port on which everybody is told the same, and then the connection ends.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1_000)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


# --- bad mappings and configurations, as the user meets them ------------------------------------

BAD_MAPPINGS = {
    "unknown key": mapping(more="colour: red\n"),
    "wrong type": mapping(key="id"),
    "duplicate key": mapping(more="name: u\n"),
    "attribute": mapping(template="rec:{id.__class__}"),
    "format": mapping(template="rec:{id:>9}"),
    "no prefix": mapping(template="{id}"),
    "our prefix": mapping(template="profile-migrate:{id}"),
    "reserved field": mapping(more="fields: {_v: {column: v}}\n"),
    "tag": mapping(more="fields: {v: !!python/object/apply:os.system [id]}\n"),
    "anchor": mapping(more="fields: &f {v: {}, w: *f}\n"),
    "injection": mapping(table="'t; DROP TABLE t'"),
    "not yet": mapping().replace("type: hash", "type: json"),
    "not UTF-8": mapping(more="# \udcff\n"),
}


@pytest.mark.parametrize("text", BAD_MAPPINGS.values(), ids=BAD_MAPPINGS)
def test_a_bad_mapping_is_told_by_every_command(
    three: Project, redis_server: RedisServer, text: str
) -> None:
    """
    File, line and column, the fix, exit 2 (doctor: 4), no stack trace, nothing written.
    """
    path = three.folder / "mappings" / "t.yaml"
    path.write_bytes(text.encode(errors="surrogateescape"))

    lint, ran, doctor = (
        three.run(*words) for words in (("mapping", "lint"), ("backfill", "t"), ("doctor",))
    )

    assert (lint.exit, ran.exit, doctor.exit) == (2, 2, 4)
    for stream in (told(lint), told(ran), doctor.out):
        assert any(f"mappings/t.yaml:{line}:" in stream for line in range(1, 6)), stream
    assert "Traceback" not in doctor.err
    assert redis_server.client().dbsize() == 0


BAD_SCHEMAS = {
    "missing table": (mapping(table="tt"), "Did you mean 't'?"),
    "missing column": (mapping(more="fields: {w: {}}\n"), "Known: id, v."),
    "wrong form": (mapping(more="fields: {v: {as: base64}}\n"), "Known for it: text."),
}


@pytest.mark.parametrize("case", BAD_SCHEMAS.values(), ids=BAD_SCHEMAS)
def test_a_mapping_that_does_not_fit_is_told_at_its_place(
    three: Project, case: tuple[str, str]
) -> None:
    """
    What only the live schema shows has file, line and column as well.
    """
    text, hint = case
    three.mapping("t", text)

    ran, doctor = three.run("backfill", "t"), three.run("doctor")

    assert (ran.exit, ran.error, doctor.exit) == (2, "schema-mismatch", 4)
    assert "mappings/t.yaml:" in told(ran)
    assert hint in ran.err
    assert "mappings/t.yaml:" in doctor.out


BAD_CONFIGURATIONS = {
    "unknown section": ("throtle: {redis_memory: 80%}", "unknown-key"),
    "wrong unit": ("throttle: {rows_per_second: fast}", "number"),
    "duplicate section": ("version: 1", "duplicate"),
    "password in the file": ("ledger: {url: 'postgresql://a@b/c', password: x}", "plain-password"),
    "broken url": ("ledger: {url: 'postgresql://a:b@c:d/e'}", "bad-port"),
    "tag": ("mappings: !!python/name:os.system m", "tag"),
}


@pytest.mark.parametrize("case", BAD_CONFIGURATIONS.values(), ids=BAD_CONFIGURATIONS)
def test_a_bad_configuration_is_told_by_every_command(
    three: Project, case: tuple[str, str]
) -> None:
    """
    migrate.yaml with line and column, exit 2 (doctor: 4), no stack trace.
    """
    text, rule = case
    three.configure(extra=text)

    runs = [three.run(*words) for words in (("backfill", "t"), ("status",), ("redis", "detect"))]
    doctor = three.run("doctor")

    for ran in runs:
        assert (ran.exit, ran.error) == (2, "invalid-file")
        assert "migrate.yaml:4:" in told(ran)
        assert rule in ran.err
    assert doctor.exit == 4
    assert "migrate.yaml:4:" in doctor.out


def test_the_program_as_a_process_says_the_same(three: Project) -> None:
    """
    Not only in a test's own process: 2, three parts, no trace.
    """
    three.mapping("t", BAD_MAPPINGS["attribute"])

    with three.started("backfill", "t") as process:
        ended = until_exit(process)

    assert (ended.exit, ended.out) == (2, "")
    assert "mappings/t.yaml:4:" in told(ended)
