"""
Child collections: rows of other tables inside the record of their root, from one snapshot.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrate.errors import SchemaMismatch
from migrate.mapping.codecs import Undecodable, codec_for
from migrate.mapping.compile import CompiledMapping, compile_mapping
from migrate.mapping.files import load
from migrate.mapping.json_text import Collection, Member, value_of
from migrate.model.values import KeyRange, Kind
from migrate.pipeline.scope import find_table
from migrate.source import children as bounds
from migrate.source.store import SqlSource
from tests.project import Project, kill_all, until_exit
from tests.servers import Database, PostgresDatabase, RedisServer, SqliteDatabase

TABLES = """
CREATE TABLE users (tenant VARCHAR(10) NOT NULL, id INTEGER NOT NULL, name VARCHAR(20),
                    PRIMARY KEY (tenant, id));
CREATE TABLE orders (no INTEGER PRIMARY KEY, tenant VARCHAR(10), user_id INTEGER, place INTEGER,
                     total NUMERIC(10, 2));
CREATE INDEX orders_user ON orders (tenant, user_id);
CREATE TABLE order_lines (order_no INTEGER NOT NULL, line INTEGER NOT NULL, sku VARCHAR(20),
                    PRIMARY KEY (order_no, line));
CREATE TABLE roles (tenant VARCHAR(10), user_id INTEGER, role VARCHAR(20));
INSERT INTO users VALUES ('a', 1, 'Ada'), ('a', 2, 'Bob'), ('b', 1, NULL);
INSERT INTO orders VALUES (10, 'a', 1, 2, 1.50), (11, 'a', 1, 1, 20.00), (12, 'b', 1, NULL, NULL),
                          (13, 'b', 1, NULL, 0.10), (14, 'b', 1, 5, 7), (15, 'z', 9, 1, 1);
INSERT INTO order_lines VALUES (10, 2, 'two "quoted"'), (10, 1, 'one'), (13, 1, NULL),
                               (15, 1, 'lost');
INSERT INTO roles VALUES ('a', 1, 'editor'), ('a', 1, 'admin'), ('a', 1, NULL), ('a', 2, '');
"""

MAPPING = """
version: 1
name: users
source: {table: users, key: [tenant, id]}
target: {key: "user:{tenant}:{id}"}
children:
  orders:
    table: orders
    join: {tenant: tenant, user_id: id}
    order_by: [place]
    columns: [no, total]
    children:
      lines:
        table: order_lines
        join: {order_no: no}
        order_by: [line]
        columns: {sku: {}, number: {column: line}}
  roles: {table: roles, join: {tenant: tenant, user_id: id}, order_by: [role], column: role}
"""

EXPECTED = {
    "user:a:1": {
        "orders": [
            {"lines": [], "no": 11, "total": Decimal("20.00")},
            {
                "lines": [{"number": 1, "sku": "one"}, {"number": 2, "sku": 'two "quoted"'}],
                "no": 10,
                "total": Decimal("1.50"),
            },
        ],
        "roles": ["admin", "editor", None],
    },
    "user:a:2": {"orders": [], "roles": [""]},
    "user:b:1": {
        "orders": [
            {"lines": [], "no": 14, "total": Decimal("7.00")},
            {"lines": [], "no": 12},
            {"lines": [{"number": 1}], "no": 13, "total": Decimal("0.10")},
        ],
        "roles": [],
    },
}


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def source(request: pytest.FixtureRequest) -> Database:
    """
    An empty SQL database, once of each dialect.
    """
    database: Database = request.getfixturevalue(request.param)
    return database


def parsed(text: bytes) -> Any:
    """
    JSON by the standard library, with every digit of a number kept.
    """
    return json.loads(text, parse_float=Decimal)


def created(database: Database, tables: str = TABLES) -> None:
    """
    Run a script of statements on any database.
    """
    for statement in tables.split(";"):
        if statement.strip():
            database.execute(statement)


def project_on(database: Database, server: RedisServer, folder: Path, text: str) -> Project:
    """
    A user's folder with one mapping.
    """
    made = Project(folder, database.url, server.url)
    made.mapping("users", text)
    return made


def reader(database: Database, folder: Path, text: str) -> tuple[SqlSource, CompiledMapping, Any]:
    """
    An open source, a mapping bound to it, and its extractor.
    """
    folder.mkdir(exist_ok=True)
    (folder / "m.yaml").write_text(text)
    (mapping,) = load(folder / "m.yaml").values()
    source = SqlSource.open(database.config())
    try:
        table = find_table(source, mapping)
        compiled = compile_mapping(mapping, table)
        return source, compiled, source.extractor(compiled.query, table)
    except BaseException:
        source.close()
        raise


def test_children_become_json_in_one_field(
    source: Database, redis_server: RedisServer, tmp_path: Path
) -> None:
    """
    At any depth, by composite keys, in order with ties broken, NULL last and absent; empty is [].
    """
    created(source)
    project = project_on(source, redis_server, tmp_path / "user", MAPPING)

    ran = project.run("backfill", "users", "--json")
    again = project.run("backfill", "users", "--json")

    assert ran.exit == 0, ran.err
    assert ran.json["written"] == 3
    assert again.json["same"] == 3
    client = redis_server.client()
    found = {
        key: {name: parsed(client.hget(key, name)) for name in ("orders", "roles")}
        for key in EXPECTED
    }
    assert found == EXPECTED
    assert client.hget("user:a:1", "orders").startswith(b'[{"lines":[],"no":11,"total":20.00},')


def test_a_record_reads_back_to_its_cells(source: Database, tmp_path: Path) -> None:
    """
    Decoding a record gives the cells of the chunk, children included.
    """
    created(source)
    store, compiled, extractor = reader(source, tmp_path / "m", MAPPING)
    with closing(store):
        chunk = extractor.read(KeyRange(), None, 10)
        batch = compiled.encode(chunk)

    names = [read.column.name for read in compiled.query.columns]
    names += [child.path for child in compiled.query.children]
    for row, record in zip(chunk.rows, batch.records, strict=True):
        stored = dict(zip(record.fields[::2], record.fields[1::2], strict=True))
        decoded = compiled.decode(stored)
        assert _plain([decoded[name] for name in names]) == _plain(row)


def _plain(value: Any) -> Any:
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def test_a_changed_child_is_another_record(
    source: Database, redis_server: RedisServer, tmp_path: Path
) -> None:
    """
    The digest covers children: a second run replaces the records whose children changed.
    """
    created(source)
    project = project_on(source, redis_server, tmp_path / "user", MAPPING)
    project.run("backfill", "users")
    source.execute("UPDATE order_lines SET sku = 'uno' WHERE order_no = 10 AND line = 1")

    ran = project.run("backfill", "users", "--json")

    assert ran.json["replaced"] == 1
    assert ran.json["same"] == 2


def test_a_bad_child_value_is_its_roots_reject(
    sqlite: SqliteDatabase, redis_server: RedisServer, tmp_path: Path
) -> None:
    """
    It is named by the path of its column, and costs no other root.
    """
    created(sqlite)
    sqlite.execute("UPDATE order_lines SET sku = CAST(x'ff41' AS TEXT) WHERE order_no = 13")
    sqlite.execute("UPDATE orders SET total = 'much' WHERE no = 11")
    project = project_on(sqlite, redis_server, tmp_path / "user", MAPPING)

    ran = project.run("backfill", "users", "--json")
    listed = project.run("rejects", "list", "users", "--json")
    exported = project.run(
        "rejects", "export", "users", "--with-values", "--output", str(tmp_path / "r.jsonl")
    )

    assert ran.exit == 3
    columns = {one["column"]: one["reason"] for one in listed.json["rejects"]}
    assert columns == {"orders.lines.sku": "invalid-utf8", "orders.total": "wrong-type"}
    assert exported.exit == 0, exported.err
    assert redis_server.client().exists("user:a:2")


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("table: orders", "table: order", "missing-table"),
        ("{order_no: no}", "{order_n: no}", "missing-column"),
        ("{order_no: no}", "{order_no: num}", "missing-column"),
        ("[no, total]", "[no, totl]", "missing-column"),
        ("[place]", "[plac]", "missing-column"),
        ("{tenant: tenant, user_id: id}\n    order", "{user_id: id}\n    order", "join-key"),
        ("{order_no: no}", "{order_no: total}", "join-key"),
        ("{order_no: no}", "{sku: no}", "join-type"),
        ("{column: line}", "{column: line, as: hex}", "wrong-form"),
    ],
)
def test_what_does_not_fit_the_schema_is_refused(
    source: Database, tmp_path: Path, old: str, new: str, rule: str
) -> None:
    """
    Before a row is read, with rule, line and column.
    """
    created(source)
    assert old in MAPPING

    with pytest.raises(SchemaMismatch) as caught:
        reader(source, tmp_path / "m", MAPPING.replace(old, new))

    (problem,) = caught.value.problems
    assert problem.rule == rule
    assert (
        new.split("\n", maxsplit=1)[0].strip("{}[]").split(":")[0].split(",")[0]
        in (MAPPING.replace(old, new).split("\n")[problem.line - 1])
    )
    assert problem.fix


def test_a_page_is_as_small_as_its_children_are_many(
    source: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Too many children halve the page; a root that has too many alone is a reject; all rows are met.
    """
    monkeypatch.setattr(bounds.Budget.__init__, "__defaults__", (5, 10**9))
    created(
        source, "CREATE TABLE u (id INTEGER PRIMARY KEY);" + "CREATE TABLE c (u INTEGER, v INTEGER)"
    )
    for number in range(1, 9):
        source.execute(f"INSERT INTO u VALUES ({number})")
        for value in range(9 if number == 4 else 2):
            source.execute(f"INSERT INTO c VALUES ({number}, {value})")
    text = (
        'version: 1\nname: u\nsource: {table: u, key: [id]}\ntarget: {key: "unit:{id}"}\n'
        "children: {c: {table: c, join: {u: id}, column: v}}\n"
    )
    store, compiled, extractor = reader(source, tmp_path / "m", text)

    records, rejects = [], []
    with closing(store):
        after = None
        while (chunk := extractor.read(KeyRange(), after, 100)).keys:
            batch = compiled.encode(chunk)
            records += batch.records
            rejects += batch.rejects
            after = chunk.keys[-1]

    assert [record.key for record in records] == [b"unit:%d" % n for n in (1, 2, 3, 5, 6, 7, 8)]
    assert [(reject.fault.column, reject.fault.reason) for reject in rejects] == [
        ("c", "too-many-children")
    ]


def test_no_entity_is_torn_while_it_is_written(
    source: Database, redis_server: RedisServer, tmp_path: Path
) -> None:
    """
    A writer that changes a root and all its children together is seen whole or not at all.
    """
    created(
        source,
        "CREATE TABLE u (id INTEGER PRIMARY KEY, n INTEGER);"
        "CREATE TABLE c (u INTEGER, i INTEGER, n INTEGER, PRIMARY KEY (u, i))",
    )
    with source.connect() as connection:
        cursor = connection.cursor()
        cursor.execute("INSERT INTO u VALUES " + ",".join(f"({i}, 0)" for i in range(300)))
        cursor.execute(
            "INSERT INTO c VALUES " + ",".join(f"({i}, {j}, 0)" for i in range(300) for j in (1, 2))
        )
    text = (
        'version: 1\nname: u\nsource: {table: u, key: [id]}\ntarget: {key: "unit:{id}"}\n'
        "children: {c: {table: c, join: {u: id}, order_by: [i], column: n}}\n"
    )
    over = threading.Event()
    written = []

    def write() -> None:
        while not over.is_set():
            source.execute("BEGIN; UPDATE u SET n = n + 1; UPDATE c SET n = n + 1; COMMIT")
            written.append(1)

    if isinstance(source, SqliteDatabase):
        source.execute("PRAGMA journal_mode = WAL")
    store, compiled, extractor = reader(source, tmp_path / "m", text)
    thread = threading.Thread(target=write)
    thread.start()
    states = set()
    try:
        with closing(store):
            while len(written) < 40:
                chunk = extractor.read(KeyRange(), None, 300)
                for record in compiled.encode(chunk).records:
                    stored = dict(zip(record.fields[::2], record.fields[1::2], strict=True))
                    states.add((int(stored[b"n"]), *parsed(stored[b"c"])))
    finally:
        over.set()
        thread.join()

    assert len(states) > 1
    assert all(root == one == two for root, one, two in states)


def test_a_child_table_rewritten_meanwhile_is_not_read_as_empty(
    postgres: PostgresDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The tables are held before the snapshot is taken, so that no rewrite comes in between.
    """
    created(postgres)
    store, _, extractor = reader(postgres, tmp_path / "m", MAPPING)
    refused: list[str] = []
    plain = type(extractor)._page

    def page(self: Any, connection: Any, *rest: Any, **more: Any) -> Any:
        if not refused:
            try:
                postgres.execute(
                    "SET lock_timeout = '200ms'; "
                    "ALTER TABLE orders ALTER COLUMN total TYPE numeric(20, 4)"
                )
            except Exception as error:  # noqa: BLE001 - whatever the driver raises for a timeout
                refused.append(type(error).__name__)
        return plain(self, connection, *rest, **more)

    monkeypatch.setattr(type(extractor), "_page", page)
    with closing(store):
        chunk = extractor.read(KeyRange(), None, 10)

    assert refused == ["LockNotAvailable"]
    assert [len(row[-2]) for row in chunk.rows] == [2, 0, 3]


def test_a_killed_run_goes_on_and_ends_the_same(
    tmp_path: Path, sqlite: SqliteDatabase, redis_server: RedisServer
) -> None:
    """
    Kill -9 in the middle, the same command again: every record with all its children.
    """
    created(
        sqlite, "CREATE TABLE u (id INTEGER PRIMARY KEY);" + "CREATE TABLE c (u INTEGER, v INTEGER)"
    )
    sqlite.execute("CREATE INDEX c_u ON c (u)")
    sqlite.execute("INSERT INTO u VALUES (?)", *((i,) for i in range(6_000)))
    sqlite.execute("INSERT INTO c VALUES (?, ?)", *((i, j) for i in range(6_000) for j in range(3)))
    text = (
        'version: 1\nname: users\nsource: {table: u, key: [id]}\ntarget: {key: "unit:{id}"}\n'
        "children: {c: {table: c, join: {u: id}, column: v}}\n"
    )
    project = project_on(sqlite, redis_server, tmp_path / "user", text)
    project.configure(extra="throttle: {rows_per_second: 2000}")
    with project.started("backfill", "users") as process:
        project.wait_for_rows(2_000)
        kill_all(process)
        assert until_exit(process).exit == -signal.SIGKILL
    project.configure(extra="")

    ran = project.run("backfill", "users", "--json")

    assert ran.exit == 0, ran.err
    client = redis_server.client()
    found = [client.hget(f"unit:{i}", "c") for i in range(6_000)]
    assert found == [b"[0,1,2]"] * 6_000


def test_doctor_names_a_join_without_an_index(
    source: Database, redis_server: RedisServer, tmp_path: Path
) -> None:
    """
    A warning with the index to make; joins that an index serves are fine.
    """
    created(source)
    project = project_on(source, redis_server, tmp_path / "user", MAPPING)

    checks = project.run("doctor", "--json").json["checks"]

    warned = [one for one in checks if one["id"].endswith(".children")]
    assert [one["result"] for one in warned] == ["warning"]
    assert "roles" in warned[0]["what"]


CUSTOMERS = """
version: 1
name: customers
source: {table: CUSTOMER, key: [CUSTOMER_ID]}
target: {key: "customer:{CUSTOMER_ID}"}
fields:
  name: {column: LAST_NAME}
children:
  invoices:
    table: INVOICE
    join: {CUSTOMER_ID: CUSTOMER_ID}
    order_by: [INVOICE_ID]
    columns: {id: {column: INVOICE_ID}, total: {column: TOTAL}, city: {column: BILLING_CITY}}
    children:
      lines:
        table: INVOICE_LINE
        join: {INVOICE_ID: INVOICE_ID}
        columns: {track: {column: TRACK_ID}, price: {column: UNIT_PRICE}, n: {column: QUANTITY}}
"""


def test_chinook_customers_with_their_invoices(
    source: Database,
    load_sample: Callable[[Database], None],
    redis_server: RedisServer,
    tmp_path: Path,
) -> None:
    """
    Customers with invoices and lines have the same bytes on every source, and every value of SQL.
    """
    load_sample(source)
    lower = isinstance(source, PostgresDatabase)
    text = CUSTOMERS
    for name in _names(CUSTOMERS):
        spelled = name.lower() if lower else name.title().replace("_", "")
        text = text.replace(name, spelled)
    project = project_on(source, redis_server, tmp_path / "user", text)

    ran = project.run("backfill", "customers", "--json")

    assert ran.exit == 0, ran.err
    client = redis_server.client()
    fields = {i: client.hget(f"customer:{i}", "invoices") for i in range(1, 60)}
    invoices = [one for text in fields.values() for one in parsed(text)]
    assert len(invoices) == 412
    assert sum(len(one["lines"]) for one in invoices) == 2_240
    assert all(
        one["total"] == sum(line["price"] * line["n"] for line in one["lines"]) for one in invoices
    )
    assert fields[1].startswith(CHINOOK_FIRST)
    # The samples themselves differ in one: "Edinburgh " on SQLite, "Edinburgh" on PostgreSQL.
    alike = [text for customer, text in fields.items() if customer != 54]
    assert sha256(b"\n".join(alike)).hexdigest() == CHINOOK_ALIKE


CHINOOK_ALIKE = "544d6fbcab6b9e57c561c3710eafe6655e44270984091f54539221015d599688"
"""One digest over the invoices of 58 customers: the same bytes on every source."""

CHINOOK_FIRST = (
    b'[{"city":"S\xc3\xa3o Jos\xc3\xa9 dos Campos","id":98,"lines":'
    b'[{"n":1,"price":1.99,"track":3247},{"n":1,"price":1.99,"track":3248}],"total":3.98},'
)


def _names(text: str) -> list[str]:
    words = text.replace("{", " ").replace("}", " ").replace(":", " ").replace("]", " ")
    found = {word.strip('[,"') for word in words.replace(",", " ").split()}
    return sorted((word for word in found if word.isupper() and len(word) > 3), key=len)[::-1]


# --- the encoder alone --------------------------------------------------------------------------

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
FLOATS = st.sampled_from(["0", "-0", "0.1", "1e+22", "-1.5e-07", "NaN", "Infinity", "-Infinity"])
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
).flatmap(
    lambda value: st.sampled_from(
        [json.dumps(value), f" {json.dumps(value, ensure_ascii=False, indent=1)}\n"]
    )
)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, places=3).map("{:f}".format)
KINDS: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.INTEGER: st.integers().map(str),
    Kind.DECIMAL: DECIMALS | st.sampled_from(["NaN", "Infinity", "-0.00", "-0"]),
    Kind.FLOAT: FLOATS,
    Kind.BOOLEAN: st.sampled_from(["true", "false"]),
    Kind.TEXT: TEXT,
    Kind.BYTES: st.binary(),
    Kind.JSON: JSONS,
    Kind.DATE: st.dates().map(str) | st.just("infinity"),
    Kind.TIMESTAMPTZ: st.just("2024-03-01 09:30:00.25+00"),
    Kind.ARRAY: st.just('{1,"a b",NULL}'),
}


def collection(*, single: Kind | None = None) -> Collection:
    """
    A collection with a column of every kind and one inner collection, or of one column alone.
    """
    if single:
        return Collection("c", [member("v", 0, single)], single=True)
    members = [member(str(kind), at, kind) for at, kind in enumerate(KINDS)]
    inner = Collection("c.in", [member("x", 0, Kind.TEXT)])
    return Collection("c", members, [("in", len(members), inner)])


def member(name: str, position: int, kind: Kind) -> Member:
    codec = codec_for(kind, None)
    assert codec is not None
    return Member(name, position, name, value_of(kind, codec))


ROWS = st.lists(
    st.tuples(
        *(cells | st.none() for cells in KINDS.values()),
        st.lists(st.tuples(TEXT | st.none()).map(list), max_size=2),
    ).map(list),
    max_size=3,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ROWS)
def test_children_survive_the_round_trip(rows: list[list[Any]]) -> None:
    """
    decode(encode(rows)) == rows for every kind, and the bytes are JSON to a parser not ours.
    """
    encoded = collection().encode(rows)

    assert collection().decode(encoded) == rows
    values = json.loads(encoded, parse_float=Decimal)
    for row, value in zip(rows, values, strict=True):
        present = {str(kind) for kind, cell in zip(KINDS, row, strict=False) if cell is not None}
        assert set(value) == present | {"in"}
        if row[0] is not None:
            assert value["integer"] == int(row[0])
        if row[4] is not None:
            assert value["text"] == row[4]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not Kind.JSON])
def test_a_list_of_values_survives_the_round_trip(kind: Kind) -> None:
    """
    NULL is null, and nothing else is.
    """

    @given(st.lists(KINDS[kind] | st.none()))
    def check(cells: list[Any]) -> None:
        rows = [[cell] for cell in cells]
        assert collection(single=kind).decode(collection(single=kind).encode(rows)) == rows

    check()


@pytest.mark.parametrize(
    "stored",
    [b"", b"{}", b"[", b"[{}", b'[{"nope":1}]', b'[ {"in":[]}]', b'[{"in":[]} ]', b"[{}]", b"\xff",
     b'[{"in":[],"integer":01}]', b'[{"in":[],"integer":1.0}]', b'[{"integer":1,"in":[]}]',
     b'[{"in":[],"text":"\\u0041"}]', b'[{"in":[],"float":"nan"}]', b'[{"in":[]},]'],
)  # fmt: skip
def test_what_is_never_written_is_not_read(stored: bytes) -> None:
    """
    The decoder takes the encoder's bytes and nothing else.
    """
    with pytest.raises(Undecodable):
        collection().decode(stored)


@pytest.mark.parametrize(
    "text", ["", "{", "NaN", "01", "[1,]", "'a'", '"\x01"', "[" * 500 + "]" * 500]
)
def test_json_that_is_none_is_refused(text: str) -> None:
    """
    It would break the whole array; deep nesting would break its readers.
    """
    rows: list[list[Any]] = [[None] * len(KINDS) + [[]]]
    rows[0][list(KINDS).index(Kind.JSON)] = text

    found = collection().fault(rows)

    assert found is not None
    assert found[0] == "c.json"
    assert found[1].reason in {"invalid-json", "json-too-deep"}


def test_minus_zero_keeps_its_sign_in_any_reader() -> None:
    """
    `-0` alone is an integer to many readers.
    """
    encoded = collection(single=Kind.FLOAT).encode([["-0"]])

    assert encoded == b"[-0.0]"
    assert collection(single=Kind.FLOAT).decode(encoded) == [["-0"]]
