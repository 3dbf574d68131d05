"""
String records: one JSON text a key, under the same compare-and-set as hashes.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from migrate.errors import MigrateError
from migrate.mapping.compile import compile_mapping
from migrate.mapping.files import load
from migrate.model.shape import RecordShape
from migrate.model.values import Fence, Outcome, Record, RecordType
from migrate.pipeline.scope import find_table
from migrate.source.store import SqlSource
from migrate.target.store import RedisTarget
from tests.project import Project
from tests.servers import Database, RedisServer

TABLES = """
CREATE TABLE people (id INTEGER PRIMARY KEY, name VARCHAR(40), score NUMERIC(8, 3), ok BOOLEAN,
                     born DATE);
CREATE TABLE tags (person INTEGER, tag VARCHAR(20));
INSERT INTO people VALUES (1, 'Ad"a é', 1.500, TRUE, '1815-12-10'), (2, NULL, NULL, NULL, NULL);
INSERT INTO tags VALUES (1, 'x'), (1, 'y')
"""

MAPPING = """
version: 1
name: people
source: {table: people, key: [id]}
target: {key: "person:{id}", type: string}
children: {tags: {table: tags, join: {person: id}, order_by: [tag], column: tag}}
"""

OLD, NEW = b"1000000000001", b"1000000000002"
ONE, OTHER = b"0123456789abcdef", b"fedcba9876543210"


@pytest.fixture
def project(source: Database, redis_server: RedisServer, tmp_path: Path) -> Project:
    """
    Two people with tags, and a mapping to string records.
    """
    for statement in TABLES.split(";"):
        source.execute(statement)
    made = Project(tmp_path / "user", source.url, redis_server.url)
    made.mapping("people", MAPPING)
    return made


def text_record(version: bytes, digest: bytes, body: bytes = b',"a":1') -> Record:
    """
    A string record as the compiler makes it.
    """
    text = b'{"_v":"' + version + b'","_h":"' + digest + b'"' + body + b"}"
    return Record(b"person:1", version, digest, (text,))


def hash_record(version: bytes, digest: bytes) -> Record:
    """
    The same key as a hash.
    """
    return Record(b"person:1", version, digest, (b"a", b"1"))


def shape_of(kind: RecordType) -> RecordShape:
    """
    Of the records that the two functions above make.
    """
    return RecordShape("0" * 32, "person:{id}", record=kind)


def loading(target: RedisTarget, kind: RecordType) -> Any:
    """
    A loader behind a fence of its own.
    """
    fence = target.begin(
        "people", run="r", expected="r", generation=1, revision=1, fingerprint="f", start_over=True
    )
    assert isinstance(fence, Fence)
    return target.loader("people", fence, shape_of(kind))


def test_a_record_is_one_json_text(project: Project, redis_server: RedisServer) -> None:
    """
    Version and digest first, then the fields by name, children as JSON; NULL is absent.
    """
    ran = project.run("backfill", "people", "--json")

    assert ran.exit == 0, ran.err
    client = redis_server.client()
    texts = [client.get(f"person:{i}") for i in (1, 2)]
    assert all(re.match(rb'\{"_v":"1","_h":"[0-9a-f]{16}",', text) for text in texts)
    first = json.loads(texts[0], parse_float=Decimal)
    assert list(first) == ["_v", "_h", "born", "id", "name", "ok", "score", "tags"]
    assert {name: first[name] for name in list(first)[2:]} == {
        "born": "1815-12-10",
        "id": 1,
        "name": 'Ad"a é',
        "ok": True,
        "score": Decimal("1.500"),
        "tags": ["x", "y"],
    }
    assert texts[1].endswith(b'"id":2,"tags":[]}')


def test_a_second_run_finds_them_the_same(project: Project, source: Database) -> None:
    """
    Version and digest are read back from the text; a changed row is replaced.
    """
    project.run("backfill", "people")
    again = project.run("backfill", "people", "--json")
    source.execute("UPDATE people SET name = 'B' WHERE id = 2")
    changed = project.run("backfill", "people", "--json")
    dry = project.run("backfill", "people", "--dry-run", "--json")
    plan = project.run("plan", "people", "--json")

    assert again.json["same"] == 2
    assert (changed.json["same"], changed.json["replaced"]) == (1, 1)
    assert dry.json["same"] == 2
    assert plan.exit == 0, plan.err
    assert plan.json["mappings"][0]["sample"]["commands"][0].startswith("SET person:")


def test_a_text_reads_back_to_its_cells(
    project: Project, source: Database, redis_server: RedisServer
) -> None:
    """
    Decoding the stored text gives the cells that SQL gave.
    """
    project.run("backfill", "people")
    mapping = load(project.folder / "mappings")["people"]
    store = SqlSource.open(source.config())
    compiled = compile_mapping(mapping, find_table(store, mapping))
    store.close()

    cells = compiled.decode_text(redis_server.client().get("person:1"))

    assert {name: cells[name] for name in ("id", "name", "score", "ok", "born")} == {
        "id": "1",
        "name": 'Ad"a é',
        "score": "1.500",
        "ok": "true",
        "born": "1815-12-10",
    }


EXPIRING = """
version: 1
name: people
source: {table: people, key: [id]}
target: {key: "person:{id}", type: string, ttl: {column: until}}
fields: {name: {}}
"""


def test_a_text_carries_its_instant(
    project: Project, source: Database, redis_server: RedisServer
) -> None:
    """
    Behind version and digest, from any dialect.

    A second run finds it the same, a changed instant replaces it, and a passed one removes it.
    """
    for statement in (
        "ALTER TABLE people ADD until DATE",
        "UPDATE people SET until = '2199-01-01' WHERE id = 1",
    ):
        source.execute(statement)
    project.mapping("people", EXPIRING)
    client = redis_server.client()

    first = project.run("backfill", "people", "--json")
    texts = [client.get(f"person:{i}") for i in (1, 2)]
    left = [client.pttl(f"person:{i}") for i in (1, 2)]
    again = project.run("backfill", "people", "--json")
    source.execute("UPDATE people SET until = '2199-01-02' WHERE id = 1")
    changed = project.run("backfill", "people", "--json")
    later = client.get("person:1")
    source.execute("UPDATE people SET until = '2001-01-01' WHERE id = 1")
    over = project.run("backfill", "people", "--json")

    assert (first.exit, again.exit, changed.exit, over.exit) == (0, 0, 0, 0), first.err
    assert re.fullmatch(
        rb'\{"_v":"1","_h":"[0-9a-f]{16}","_e":"7226582400000","name":"Ad\\"a \xc3\xa9"\}', texts[0]
    )
    assert re.fullmatch(rb'\{"_v":"1","_h":"[0-9a-f]{16}"\}', texts[1])
    assert left[0] > 0
    assert left[1] == -1
    assert again.json["same"] == 2
    assert (changed.json["same"], changed.json["replaced"]) == (1, 1)
    assert b'"_e":"7226668800000"' in later
    assert not client.exists("person:1")


@pytest.mark.parametrize(
    "foreign",
    [b"", b"x", b"{}", b'{"_v":"1"}', b'{"_v":1,"_h":"0123456789abcdef"}',
     b'{"_v":"01","_h":"0123456789abcdef"}', b'{"_v":"1","_h":"0123456789ABCDEF"}',
     b'{"_v":"1","_h":"0123456789abcdef', b' {"_v":"1","_h":"0123456789abcdef"}',
     b'{"_v":"1","_h":"0123456789abcdef0"}', b'{"a":1,"_v":"1","_h":"0123456789abcdef"}',
     b'{"_v":"1", "_h":"0123456789abcdef"}', b'{"_v":"' + b"9" * 31 + b'","_h":"0123456789abcdef"}',
     b'{"_v":"1\n","_h":"0123456789abcdef"}', b"\x00\xff"],
)  # fmt: skip
@pytest.mark.parametrize("kind", list(RecordType))
def test_any_other_text_is_a_collision(
    redis_server: RedisServer, foreign: bytes, kind: RecordType
) -> None:
    """
    It is never overwritten, whatever type our records have, and the dry run says the same.
    """
    redis_server.client().set("person:1", foreign)
    record = text_record(NEW, ONE) if kind is RecordType.STRING else hash_record(NEW, ONE)
    with RedisTarget.open(redis_server.config()) as target:
        written = loading(target, kind).write([record]).outcomes
        dry = target.dry_loader("people", shape_of(RecordType.STRING)).write([record]).outcomes
        (held,) = target.lookup([b"person:1"], shape_of(RecordType.STRING))

    assert written == dry == [Outcome.COLLISION]
    assert not held.ours
    assert redis_server.client().get("person:1") == foreign


TOMBSTONE = b'{"_v":"%b","_t":"1"}'


@pytest.mark.parametrize(
    ("held", "outcome"),
    [
        (text_record(OLD, ONE).fields[0], Outcome.REPLACED),
        (text_record(NEW, ONE).fields[0], Outcome.SAME),
        (text_record(NEW, OTHER).fields[0], Outcome.CONFLICT),
        (text_record(NEW + b"0", ONE).fields[0], Outcome.STALE),
        (TOMBSTONE % OLD, Outcome.REPLACED),
        (TOMBSTONE % NEW, Outcome.CONFLICT),
        (TOMBSTONE % (NEW + b"0"), Outcome.STALE),
        (text_record(OLD, ONE, b"").fields[0], Outcome.REPLACED),
    ],
)
def test_texts_are_compared_and_set_as_hashes(
    redis_server: RedisServer, held: bytes, outcome: Outcome
) -> None:
    """
    The same rules of version and digest; what is not replaced keeps its bytes.
    """
    client = redis_server.client()
    client.set("person:1", held)
    record = text_record(NEW, ONE)
    with RedisTarget.open(redis_server.config()) as target:
        dry = target.dry_loader("people", shape_of(RecordType.STRING)).write([record])
        (found,) = target.lookup([b"person:1"], shape_of(RecordType.STRING))
        written = loading(target, RecordType.STRING).write([record])

    assert found.ours
    assert written.outcomes == dry.outcomes == [outcome]
    expected = record.fields[0] if outcome is Outcome.REPLACED else held
    assert client.get("person:1") == expected


@pytest.mark.parametrize("kind", list(RecordType))
def test_a_record_of_the_other_type_is_ours(redis_server: RedisServer, kind: RecordType) -> None:
    """
    A mapping that changed its type replaces its records, and leaves nothing of the old shape.
    """
    records = {
        RecordType.HASH: (hash_record(OLD, ONE), hash_record(NEW, OTHER)),
        RecordType.STRING: (text_record(OLD, ONE), text_record(NEW, OTHER)),
    }
    (before,) = [one for one in RecordType if one is not kind]
    with RedisTarget.open(redis_server.config()) as target:
        loading(target, before).write([records[before][0]])
        outcomes = loading(target, kind).write([records[kind][1]]).outcomes

    assert outcomes == [Outcome.REPLACED]
    assert redis_server.client().type("person:1").decode() == kind.value


def test_a_text_that_says_another_version_is_not_written(redis_server: RedisServer) -> None:
    """
    Its head must be what the compare-and-set was told; a bug of ours stops before it is stored.
    """
    lying = Record(b"person:1", NEW, ONE, text_record(OLD, ONE).fields)
    with (
        RedisTarget.open(redis_server.config()) as target,
        pytest.raises(MigrateError),
    ):
        loading(target, RecordType.STRING).write([lying])

    assert not redis_server.client().exists("person:1")
