"""
Masks: a one-way form in the record instead of the value.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from migrate.mapping.codecs import Undecodable, codec_for, masked
from migrate.mapping.compile import compile_mapping
from migrate.mapping.files import load
from migrate.model.values import Kind
from migrate.pipeline.scope import find_table
from migrate.source.store import SqlSource
from tests.project import Project
from tests.servers import Database, RedisServer

MAPPING = """
version: 1
name: people
source: {table: people, key: [id]}
target: {key: "person:{id}"}
fields:
  phone: {mask: sha256}
  born: {as: text, mask: sha256}
  name: {}
"""


@pytest.fixture
def project(source: Database, redis_server: RedisServer, tmp_path: Path) -> Project:
    """
    Two people, and a mapping that masks two columns.
    """
    source.execute(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name VARCHAR(9), phone VARCHAR(9), born DATE)"
    )
    source.execute(
        "INSERT INTO people VALUES (1, 'Ada', '+44é', '1815-12-10'), (2, 'Bob', NULL, NULL)"
    )
    made = Project(tmp_path / "user", source.url, redis_server.url)
    made.mapping("people", MAPPING)
    return made


@pytest.mark.parametrize("record", ["hash", "string"])
def test_a_masked_field_is_the_hex_digest_of_its_bytes(
    project: Project, redis_server: RedisServer, record: str
) -> None:
    """
    The digest of what the field would hold; NULL stays absent; the value is nowhere in Redis.
    """
    project.mapping("people", MAPPING.replace('"person:{id}"', f'"person:{{id}}", type: {record}'))

    ran = project.run("backfill", "people", "--json")

    assert ran.exit == 0, ran.err
    stored = redis_server.client().dump("person:1")
    assert sha256("+44é".encode()).hexdigest().encode() in stored
    assert sha256(b"1815-12-10").hexdigest().encode() in stored
    assert "+44é".encode() not in stored
    assert b"phone" not in redis_server.client().dump("person:2")


def test_it_is_named_one_way(project: Project) -> None:
    """
    By lint and by show, for people and as JSON.
    """
    lint, shown = project.run("mapping", "lint"), project.run("mapping", "show", "people")

    assert "One-way: phone, born" in lint.out
    assert "masked by sha256: one-way" in shown.out
    as_json = project.run("mapping", "show", "people", "--json").json
    assert as_json["one_way"] == ["phone", "born"]


def test_a_masked_mapping_is_not_reversible(project: Project, source: Database) -> None:
    """
    The compiled mapping says so, and refuses to decode what it masked.
    """
    mapping = load(project.folder / "mappings")["people"]
    store = SqlSource.open(source.config())
    compiled = compile_mapping(mapping, find_table(store, mapping))
    store.close()

    described = compiled.describe()

    assert described["reversible"] is False
    with pytest.raises(Undecodable, match="one-way"):
        compiled.decode({b"phone": b"0" * 64})


@pytest.mark.parametrize("kind", [Kind.TEXT, Kind.INTEGER, Kind.BYTES, Kind.TIMESTAMPTZ])
def test_a_mask_covers_the_codecs_own_bytes(kind: Kind) -> None:
    """
    So that the same value has the same digest on every source.
    """
    codec = codec_for(kind, None)
    assert codec is not None
    cell = {
        Kind.TEXT: "é",
        Kind.INTEGER: "42",
        Kind.BYTES: b"\x00",
        Kind.TIMESTAMPTZ: "2024-01-01 00:00:00+00",
    }[kind]

    hidden = masked(codec, "sha256").encode(cell)

    assert hidden.decode() == sha256(codec.encode(cell)).hexdigest()


def test_an_unmasked_mapping_is_another_mapping(project: Project) -> None:
    """
    Taking a mask away or putting one on changes the fingerprint, so that no run mixes both.
    """
    project.run("backfill", "people")
    project.mapping("people", MAPPING.replace("phone: {mask: sha256}", "phone: {}"))

    ran = project.run("backfill", "people")

    assert ran.exit == 4
    assert ran.error == "mapping-changed"
