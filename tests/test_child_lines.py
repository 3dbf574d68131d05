"""
Child collections on the fast way: lines of child rows become the JSON that their cells become.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrate.mapping.bulk_children import AT_ONCE, gather_of
from migrate.mapping.codecs import Unencodable, codec_for, forms_of
from migrate.mapping.compile import CompiledMapping
from migrate.mapping.json_text import Collection, Member, value_of
from migrate.model.lines import ODD_LINE, cells_of, escaped, lines_of
from migrate.model.ports import ChildQuery
from migrate.model.values import Cell, Chunk, Column, ColumnRead, Key, KeyRange, Kind, Table
from migrate.source import child_lines
from migrate.source import children as bounds
from migrate.source.bulk import LineExtractor
from migrate.source.control import create_control
from migrate.source.extract import KeysetExtractor
from migrate.source.store import SqlSource
from migrate.target.encoder import Encoder
from migrate.target.restore import payload_in
from tests.project import Project
from tests.servers import Database, MariadbDatabase, RedisServer, SqliteDatabase
from tests.target.test_encoder import TYPICAL, line_of, plain_payload
from tests.test_children import KINDS, TEXT, created, reader

ANY_TEXT = st.text() | st.text(alphabet='a"\\\t\n\r\b\x01\x7f\x1f N%é\udc80')
CELLS: dict[Kind, st.SearchStrategy[Cell]] = {
    kind: st.sampled_from(cells) | KINDS.get(kind, st.nothing())
    for kind, cells in TYPICAL.items()
    if kind is not Kind.UNSUPPORTED
}
CELLS[Kind.TEXT] |= ANY_TEXT
WAYS = [(kind, form) for kind in CELLS for form in forms_of(kind)]
MOSTLY_TEXT = [*WAYS, *[(Kind.TEXT, "text")] * len(WAYS), *[(Kind.JSON, "json")] * 5]


def bound(ways: list[tuple[Kind, str]], names: list[str], *, single: bool) -> Any:
    """
    A collection of such columns, and what reads it.
    """
    members = []
    reads = []
    for at, ((kind, form), name) in enumerate(zip(ways, names, strict=True)):
        codec = codec_for(kind, form)
        assert codec is not None
        members.append(Member(name, at, name, value_of(kind, codec), codec.form))
        reads.append(ColumnRead(Column(name, str(kind), kind, nullable=True)))
    members.sort(key=lambda member: member.name.encode())
    table = Table(None, "c", tuple(read.column for read in reads))
    query = ChildQuery("c", table, (), tuple(reads), ())
    return Collection("c", members, single=single), query


def wanted(collection: Collection, rows: list[list[Cell]]) -> bytes | None:
    """
    What the cells become; None for those that nothing can be made of.
    """
    try:
        return collection.encode(rows)
    except (Unencodable, UnicodeEncodeError):
        return None


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_lines_become_what_cells_become(data: st.DataObject) -> None:
    """
    Any columns in any form under any names, any cells, NULL: the same bytes, or none at all.
    """
    single = data.draw(st.booleans())
    ways = data.draw(
        st.lists(st.sampled_from(MOSTLY_TEXT), min_size=1, max_size=1 if single else 5)
    )
    names = data.draw(
        st.lists(TEXT, min_size=len(ways), max_size=len(ways), unique=True), label="names"
    )
    collection, query = bound(ways, names, single=single)
    row = st.tuples(*(CELLS[kind] | st.none() for kind, _ in ways)).map(list)
    rows = data.draw(st.lists(row, max_size=4), label="rows")
    gather = gather_of(collection, query)
    assert gather is not None

    lines = [line_of(one) for one in rows]
    [found] = gather([lines])

    # What the rows of one parent become does not depend on those of its neighbours.
    alone = [gather([[line]])[0] for line in lines]
    assert gather([[line] for line in lines]) == alone
    assert gather([(), lines, (), lines]) == [b"[]", found, b"[]", found]
    expected = wanted(collection, rows)
    if expected is None:
        assert not _is_text(found)
    elif found != ODD_LINE:
        assert found == expected
    else:
        # What few rows hold is left to the plain way; it must stay few.
        assert any(_is_rare(cell) for one in rows for cell in one)
    # Of texts come texts, or the one mark that a page is looked through for.
    assert _is_text(found) or found == ODD_LINE or not all(map(_is_text, lines))
    if _is_text(found):
        assert cells_of(escaped(found) + b"\tx") == [found, b"x"]


def _is_rare(cell: Cell) -> bool:
    return isinstance(cell, str) and (
        "infinity" in cell or cell.endswith("BC") or cell.startswith("12024")
    )


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize(("kind", "form"), WAYS)
@pytest.mark.parametrize("single", [True, False])
def test_typical_cells_of_every_kind_and_form(kind: Kind, form: str, *, single: bool) -> None:
    """
    One at a time, so that no odd one hides another.
    """
    collection, query = bound([(kind, form)], ['a%b"é'], single=single)
    gather = gather_of(collection, query)
    assert gather is not None

    for cell in (*TYPICAL[kind], None):
        [found] = gather([[line_of([cell])]])

        expected = wanted(collection, [[cell]])
        if found == ODD_LINE:
            assert expected is None or _is_rare(cell), cell
        else:
            assert found == expected, cell


def test_no_rows_are_an_empty_list() -> None:
    """
    As in a record that the plain way makes.
    """
    collection, query = bound([(Kind.TEXT, "text")], ["a"], single=False)
    gather = gather_of(collection, query)
    assert gather is not None

    assert gather([()]) == [collection.encode([])] == [b"[]"]
    assert gather([]) == []


def test_a_line_of_another_width_shifts_no_neighbour() -> None:
    """
    A cell too many or too few is odd, and what is beside it stays as it is.
    """
    collection, query = bound([(Kind.TEXT, "text")] * 2, ["a", "b"], single=False)
    gather = gather_of(collection, query)
    assert gather is not None

    assert gather([[b"1\t2"], [b"3"], [b"4\t5"]]) == [
        b'[{"a":"1","b":"2"}]', ODD_LINE, b'[{"a":"4","b":"5"}]',
    ]  # fmt: skip


def test_each_of_many_parents_has_its_own_children() -> None:
    """
    Whatever is done for some hundred parents at once; an odd cell is that of one of them.
    """
    collection, query = bound([(Kind.TEXT, "text")] * 2, ["a", "b"], single=False)
    gather = gather_of(collection, query)
    assert gather is not None
    groups = [[b"%d\t%d" % (at, child) for child in range(at % 3)] for at in range(2 * AT_ONCE + 7)]
    odd = AT_ONCE + 2
    groups[odd] = [b"1"]

    found = gather(groups)

    assert found[odd] == ODD_LINE
    for at, cell in enumerate(found):
        children = [f'{{"a":"{at}","b":"{child}"}}' for child in range(at % 3)]
        assert at == odd or cell.decode() == f"[{','.join(children)}]"


def test_collections_in_collections_have_no_lines() -> None:
    """
    They are left to the plain way.
    """
    collection, query = bound([(Kind.TEXT, "text")], ["a"], single=False)
    outer = Collection("o", [], [("c", 0, collection)])

    assert gather_of(outer, query) is None


# --- both ways from a source --------------------------------------------------------------------

ROWS = 700

TABLES = """
CREATE TABLE people (id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(40));
CREATE TABLE addresses (person INTEGER, position INTEGER NOT NULL, street VARCHAR(60),
                        since TIMESTAMP NULL, rent NUMERIC(10, 2), no INTEGER NOT NULL PRIMARY KEY);
CREATE INDEX addresses_person ON addresses (person, position);
CREATE TABLE roles (person INTEGER NOT NULL, role VARCHAR(5000))
"""

MAPPING = """
version: 1
name: users
source: {{table: people, key: [id]{where}}}
target: {{key: "user:{{id}}", type: {type}}}
children:
  addresses:
    table: addresses
    join: {{person: id}}
    order_by: [position]
    columns: {{street: {{}}, from: {{column: since}}, "rent %b": {{column: rent}}, no: {{}}}}
  roles: {{table: roles, join: {{person: id}}, order_by: [role], column: role}}
"""

STREETS = [
    "Main Street 1", "", "Größe 7", 'the "Old" Mill', "back\\slash", "tab\there", "two\nlines",
    "\x01\x1f\x7f", "%d %s", "\\N", "日本",
]  # fmt: skip


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def empty(request: pytest.FixtureRequest) -> Database:
    """
    An empty database of each dialect.
    """
    database: Database = request.getfixturevalue(request.param)
    return database


def filled(database: Database) -> None:
    """
    People with none to three addresses and roles, some awkward, one with more than a payload takes.
    """
    created(database, TABLES)
    drawn = random.Random(5)
    people = [f"({n}, {'NULL' if n % 7 == 0 else _sql(drawn.choice(STREETS))})" for n in _ids()]
    addresses, roles = ["(NULL, 1, 'nobody', NULL, 1, 0)", "(-5, 1, 'gone', NULL, 1, 1)"], []
    for n in _ids():
        for _ in range(drawn.randrange(4)):
            street = "NULL" if drawn.random() < 0.2 else _sql(drawn.choice(STREETS))
            since = (
                f"'2024-03-0{drawn.randrange(1, 9)} 10:00:00'" if drawn.random() < 0.7 else "NULL"
            )
            rent = drawn.choice(["0", "-1.5", "99999.99", "NULL"])
            place = drawn.randrange(2)
            addresses.append(f"({n}, {place}, {street}, {since}, {rent}, {len(addresses)})")
        roles += [f"({n}, {_sql(drawn.choice(STREETS))})" for _ in range(drawn.randrange(3))]
    roles.append(f"({_ids()[9]}, '{'x' * 4_500}')")
    for name, values in (("people", people), ("addresses", addresses), ("roles", roles)):
        database.execute(f"INSERT INTO {name} VALUES {', '.join(values)}")


def _ids() -> list[int]:
    return [3 * number - 900 for number in range(ROWS)]


def _sql(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def source(request: pytest.FixtureRequest) -> Iterator[Database]:
    """
    Such people in a database of each dialect.
    """
    database: Database = request.getfixturevalue(request.param)
    if request.param == "mariadb":
        # There a backslash in a literal is an escape, and the clock has a first and a last second.
        STREETS[:] = [text for text in STREETS if "\\" not in text]
    filled(database)
    yield database
    STREETS[:] = ALL_STREETS


ALL_STREETS = list(STREETS)


def read_all(extractor: KeysetExtractor, limit: int) -> Chunk:
    """
    All rows by the plain way.
    """
    keys: list[Key] = []
    rows: list[Any] = []
    while (chunk := extractor.read(KeyRange(), keys[-1] if keys else None, limit)).keys:
        keys += chunk.keys
        rows += chunk.rows
    return Chunk(keys, rows)


def opened(
    database: Database, folder: Path, **more: str
) -> tuple[SqlSource, CompiledMapping, KeysetExtractor, LineExtractor]:
    """
    The same mapping's readers, both of them.
    """
    text = MAPPING.format(**{"where": "", "type": "hash", **more})
    store, compiled, plain = reader(database, folder, text)
    plan = compiled.bulk()
    assert plan is not None
    lines = store.bulk(compiled.query, compiled_table(store), plan.collections)
    assert lines is not None
    return store, compiled, plain, lines


def compiled_table(store: SqlSource) -> Table:
    """
    The root's table as the catalogue has it.
    """
    table = store.reflect(None, "people")
    assert table is not None
    return table


@pytest.mark.parametrize("where", ["", ', where: "name is not null and id > -300"'])
@pytest.mark.parametrize("limit", [1, 97, 10_000])
def test_both_ways_read_the_same(source: Database, tmp_path: Path, where: str, limit: int) -> None:
    """
    Every line is its row, with its collections as the record has them; every row comes back whole.
    """
    store, compiled, plain, lines = opened(source, tmp_path / "m", where=where)
    width = len(compiled.query.columns)
    seen = 0
    with closing(store):
        expected = read_all(plain, 10_000)
        after = None
        while (page := lines.read(KeyRange(), after, limit)).last is not None:
            chunk = lines.chunk(page, range(len(page.lines)))
            there = slice(seen, seen + len(page.lines))
            assert list(chunk.keys) == list(expected.keys[there])
            assert _plain(chunk.rows) == _plain(expected.rows[there])
            for line, row in zip(page.lines, expected.rows[there], strict=True):
                texts = [
                    child.collection.encode(row[child.position]) for child in compiled.children
                ]
                assert cells_of(line)[:width] == cells_of(lines_of([row[:width]])[0])
                assert cells_of(line)[width:] == texts
            seen += len(page.lines)
            after = page.last
    assert seen == len(expected.keys) > 300


def _plain(value: Any) -> Any:
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("budget", [(40, 10**9), (10**9, 3_000)])
def test_a_page_is_as_small_as_its_children_are_many(
    source: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: tuple[int, int]
) -> None:
    """
    By rows and by bytes: all rows are met once, and who has too many alone is a fault.
    """
    monkeypatch.setattr(bounds.Budget.__init__, "__defaults__", budget)
    store, _, plain, lines = opened(source, tmp_path / "m")
    keys: list[Key] = []
    faults = []
    with closing(store):
        expected = read_all(plain, 10_000)
        after = None
        while (page := lines.read(KeyRange(), after, 10_000)).last is not None:
            chunk = lines.chunk(page, range(len(page.lines)))
            keys += chunk.keys
            faults += [fault.reason for fault in chunk.faults.values()]
            after = page.last
            assert len(page.lines) < ROWS / 4
    assert keys == list(expected.keys)
    assert faults == (["too-many-children"] if budget[1] == 3_000 else [])


@pytest.mark.parametrize("source", ["postgres", "mariadb"], indirect=True)
def test_servers_spell_children_themselves(
    source: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    And not a single page is read the plain way.
    """
    store, _, _, lines = opened(source, tmp_path / "m")
    monkeypatch.setattr(child_lines, "lines_of", None)
    monkeypatch.setattr(KeysetExtractor, "read", None)
    with closing(store):
        page = lines.read(KeyRange(), None, 10_000)

    assert len(page.lines) == ROWS


KEYED = """
CREATE TABLE shops (tenant VARCHAR(10) NOT NULL, code VARCHAR(20) NOT NULL, id INTEGER NOT NULL,
                    PRIMARY KEY (tenant, code), UNIQUE (id));
CREATE TABLE staff (tenant VARCHAR(10), code VARCHAR(20), shop INTEGER, name VARCHAR(20),
                    no INTEGER PRIMARY KEY);
INSERT INTO shops VALUES ('a', 'x\ty', 1), ('a\tx', 'y', 2), ('a', 'x', 3), ('', '', 4),
                         ('é', 'two\nlines', -5);
INSERT INTO staff VALUES ('a', 'x\ty', 1, 'tab', 1), ('a\tx', 'y', 2, 'tab', 2),
                         ('a', 'x', 3, NULL, 3), ('', '', 4, 'none', 4), (NULL, NULL, 9, 'no', 5),
                         ('é', 'two\nlines', -5, 'b', 7), ('é', 'two\nlines', -5, 'a', 6)
"""

BY = """
version: 1
name: users
source: {{table: shops, key: [{key}]}}
target: {{key: "shop:{name}"}}
fields: {{name: {{column: code}}}}
children: {{staff: {{table: staff, join: {{{join}}}, order_by: [no], columns: [no, name]}}}}
"""


@pytest.mark.parametrize("limit", [2, 100])
@pytest.mark.parametrize(
    ("key", "name", "join"),
    [
        ("tenant, code", "{tenant}:{code}", "tenant: tenant, code: code"),
        ("code, tenant", "{tenant}:{code}", "tenant: tenant, code: code"),
        ("id", "{id}", "shop: id"),
        # By more than the root's key, which is read the plain way.
        ("id", "{id}", "tenant: tenant, shop: id"),
    ],
)
def test_children_find_their_parents_by_any_key(
    empty: Database, tmp_path: Path, key: str, name: str, join: str, limit: int
) -> None:
    """
    Of several columns, of texts with what separates cells, in any order; with and without capture.
    """
    created(empty, KEYED)
    text = BY.format(key=key, name=name, join=join)
    for capture in (False, True):
        if capture:
            captured(empty)
        store, compiled, plain = reader(empty, tmp_path / "m", text)
        plan = compiled.bulk()
        table = store.reflect(None, "shops")
        assert plan is not None
        assert table is not None
        lines = store.bulk(compiled.query, table, plan.collections)
        assert lines is not None
        with closing(store):
            wanted = plain.read(KeyRange(), None, 100)
            encoder = Encoder(plan, versioned=capture)
            records = compiled.encode(wanted).records
            seen: list[Key] = []
            while (page := lines.read(KeyRange(), seen[-1] if seen else None, limit)).lines:
                assert page.versioned == capture
                found = lines.chunk(page, range(len(page.lines)))
                here = slice(len(seen), len(seen) + len(page.lines))
                assert _plain(found.rows) == _plain(wanted.rows[here])
                assert list(found.versions) == list(wanted.versions[here])
                made = encoder.encode(page.lines, b"1")
                for at, item in zip(made.rows, made.items, strict=True):
                    record = records[len(seen) + at]
                    assert (item[1], payload_in(item)) == (
                        record.key,
                        plain_payload(compiled, record),
                    )
                seen += found.keys
        assert seen == list(wanted.keys)
        assert len(seen) == 5
        assert {len(row[-1]) for row in wanted.rows} == {1, 2}


ALIKE = {"sqlite": "TEXT COLLATE NOCASE", "postgresql": "NUMERIC", "mariadb": "VARCHAR(20)"}

SPELLED_ALIKE = {
    "sqlite": ["admin", "Admin", "ADMIN"],
    "postgresql": ["1", "1.0", "1.00"],
    "mariadb": ["admin", "Admin", "admin ", "ADMIN"],
}

BY_ROLE = """
version: 1
name: users
source: {table: people, key: [id]}
target: {key: "user:{id}"}
children: {roles: {table: roles, join: {person: id}, order_by: [role], column: role}}
"""


def test_rows_that_are_equal_to_the_server_have_one_order(empty: Database, tmp_path: Path) -> None:
    """
    Of a table without any key: not that of the statement, which another page would not have.
    """
    created(
        empty,
        "CREATE TABLE people (id INTEGER NOT NULL PRIMARY KEY);"
        f"CREATE TABLE roles (person INTEGER, role {ALIKE[empty.dialect]});"
        "CREATE INDEX roles_person ON roles (person)",
    )
    drawn = random.Random(3)
    roles = [
        f"({n}, '{role}')"
        for n in range(40)
        for role in drawn.sample(3 * SPELLED_ALIKE[empty.dialect], 9)
    ]
    drawn.shuffle(roles)
    empty.execute(f"INSERT INTO people VALUES {', '.join(f'({n})' for n in range(40))}")
    empty.execute(f"INSERT INTO roles VALUES {', '.join(roles)}")
    store, compiled, plain = reader(empty, tmp_path / "m", BY_ROLE)
    plan = compiled.bulk()
    assert plan is not None
    lines = store.bulk(compiled.query, compiled_table(store), plan.collections)
    assert lines is not None
    with closing(store):
        large, small = read_all(plain, 100), read_all(plain, 3)
        page = lines.read(KeyRange(), None, 100)
        spelled = lines.chunk(page, range(len(page.lines)))

    for _, found in large.rows:
        assert found == sorted(found, key=lambda row: [cell.encode() for cell in row])
    assert _plain(large.rows) == _plain(small.rows) == _plain(spelled.rows)


YEARS = """
CREATE TABLE people (id INTEGER NOT NULL PRIMARY KEY);
CREATE TABLE vintages (person YEAR, no INTEGER NOT NULL PRIMARY KEY);
INSERT INTO people VALUES (5), (50), (69), (1950), (1999), (2005), (2050);
INSERT INTO vintages VALUES (1950, 1), (1999, 2), (2005, 3), (2050, 4)
"""

BY_YEAR = """
version: 1
name: users
source: {table: people, key: [id]}
target: {key: "user:{id}"}
children: {vintages: {table: vintages, join: {person: id}, order_by: [no], column: no}}
"""


def test_a_year_is_not_compared_with_the_key_of_a_page(
    mariadb: MariadbDatabase, tmp_path: Path
) -> None:
    """
    The server takes the 50 behind which a page begins for 2050, and would leave 1950 out.
    """
    created(mariadb, YEARS)
    store, compiled, plain = reader(mariadb, tmp_path / "m", BY_YEAR)
    plan = compiled.bulk()
    assert plan is not None
    lines = store.bulk(compiled.query, compiled_table(store), plan.collections)
    assert lines is not None
    found: list[bytes] = []
    with closing(store):
        expected = read_all(plain, 2)
        after = None
        while (page := lines.read(KeyRange(), after, 2)).last is not None:
            found += page.lines
            after = page.last

    assert [len(row[-1]) for row in expected.rows] == [0, 0, 0, 1, 1, 1, 1]
    assert found == [b"5\t[]", b"50\t[]", b"69\t[]"] + [
        b"%d\t[%d]" % one for one in ((1950, 1), (1999, 2), (2005, 3), (2050, 4))
    ]


def captured(database: Database) -> None:
    """
    Tables of capture, with a generation of the mapping and a change of some rows.
    """
    engine = sa.create_engine(database.url)
    create_control(engine)
    engine.dispose()
    database.execute(
        "INSERT INTO migrate_ctl (mapping, generation, base, stage) "
        "VALUES ('users', 3, 0, 'backfill')"
    )
    database.execute("INSERT INTO migrate_mark (mapping, pk) VALUES ('users', '3')")


def test_odd_children_are_not_given_to_odd_parents(sqlite: SqliteDatabase, tmp_path: Path) -> None:
    """
    A row without a line and a child without one are no kin; each is told by its own fault.
    """
    created(sqlite, TABLES)
    sqlite.execute("INSERT INTO people VALUES (1, CAST(x'ff' AS TEXT)), (2, 'b'), (3, 'c')")
    sqlite.execute("INSERT INTO roles VALUES (2, CAST(x'ff41' AS TEXT)), (3, 'c'), (2, 'b')")
    store, _, plain, lines = opened(sqlite, tmp_path / "m")
    with closing(store):
        expected = read_all(plain, 10)
        page = lines.read(KeyRange(), None, 10)
        chunk = lines.chunk(page, range(3))

    assert {at: fault.column for at, fault in chunk.faults.items()} == {0: "name", 1: "roles.role"}
    assert [_is_text(line) for line in page.lines] == [False, False, True]
    assert _plain(chunk.rows) == _plain(expected.rows)


# --- both ways into a target --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["hash", "string"])
def test_both_ways_leave_the_same_records(
    source: Database, bulk_redis: RedisServer, tmp_path: Path, kind: str
) -> None:
    """
    Every field of every record, and the second run finds the same; most went by payload.
    """
    client = bulk_redis.client()
    found = {}
    for bulk in ("auto", "off"):
        client.flushall()
        client.config_resetstat()
        user = Project(tmp_path / bulk, source.url, bulk_redis.url)
        user.configure(extra=f"bulk: {bulk}")
        user.mapping("users", MAPPING.format(where="", type=kind))
        ran = user.run("backfill", "users", "--json")
        assert ran.exit == 0, ran.err
        assert ran.json["written"] == ROWS
        restored = client.info("commandstats").get("cmdstat_restore", {"calls": 0})["calls"]
        assert restored > 0.9 * ROWS if bulk == "auto" else not restored
        found[bulk] = records(client)
        assert user.run("backfill", "users", "--json").json["same"] == ROWS

    assert found["auto"] == found["off"]
    assert len(found["auto"]) == ROWS


def records(client: redis.Redis) -> dict[bytes, Any]:
    """
    Every record, whatever it is.
    """
    found = {}
    for key in client.scan_iter("user:*", 1_000):
        found[key] = client.get(key) if client.type(key) == b"string" else client.hgetall(key)
    return found
