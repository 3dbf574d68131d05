"""
Deep compares every awkward value of every server as the plain way does, page by page.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from migrate.mapping.compile import CompiledMapping, compile_mapping
from migrate.mapping.digest import digest_of, seed_of
from migrate.mapping.files import load
from migrate.model.values import Chunk, KeyRange, Table
from migrate.pipeline.scope import find_table
from migrate.pipeline.verify_fields import fits
from migrate.source.dialects.mysql import EXACT_CHARSETS
from migrate.source.dialects.plain_columns import ODD
from migrate.source.plain_pages import FieldPage
from tests.awkward.cases import Sort
from tests.awkward.running import DRIVERS, Stand, mapping_of_sorts
from tests.project import Project
from tests.test_verify_fields import both

EVERY_STAND = [
    pytest.param(one, marks=[pytest.mark.containers] if "-" in one else []) for one in DRIVERS
]


def mapping_of_values(stand: Stand) -> str:
    """
    Of all sorts of values but texts in character sets that may have no form in UTF-8.
    """
    sorts = stand.sorts()
    return mapping_of_sorts({name: one for name, one in sorts.items() if usual(one)})


def usual(sort: Sort) -> bool:
    """
    Whether texts of this sort can be told in UTF-8.
    """
    found = re.search(r"CHARACTER SET (\w+)", sort.declared, re.IGNORECASE)
    return found is None or found[1].lower() in EXACT_CHARSETS


def compiled_of(stand: Stand, project: Project) -> tuple[CompiledMapping, Table]:
    """
    The mapping of a project.
    """
    mapping = load(project.folder / "mappings" / "t.yaml")["t"]
    table = find_table(stand.source, mapping)
    return compile_mapping(mapping, table), table


def pages(stand: Stand, project: Project) -> Iterator[tuple[CompiledMapping, Chunk, FieldPage]]:
    """
    The same rows both ways.
    """
    compiled, table = compiled_of(stand, project)
    assert fits(compiled)
    extractor = stand.source.extractor(compiled.query, table)
    fields = stand.source.fields(compiled.query, extractor)
    after = None
    while (chunk := extractor.read(KeyRange(), after, 50)).keys:
        page = fields.read(KeyRange(), after, len(chunk.keys))
        assert page is not None
        yield compiled, chunk, page
        after = chunk.keys[-1]


def made(stand: Stand) -> tuple[Project, Any]:
    """
    A project over the table of all awkward values, and the Redis that it is in.
    """
    stand.fill()
    client = stand.redis().client()
    project = stand.project(f"fields-{time.monotonic_ns()}", mapping_of_values(stand))
    assert project.run("backfill", "t").exit in (0, 3)
    return project, client


@pytest.mark.parametrize("stand", EVERY_STAND, indirect=True)
def test_values_are_spelled_as_cells_or_left(stand: Stand) -> None:
    """
    The second way gives the text of the first, or nothing: no row at fault is taken for right.
    """
    stand.fill()
    project = stand.project("spelled", mapping_of_values(stand))
    odd: Counter[str] = Counter()
    seen = 0
    for compiled, chunk, page in pages(stand, project):
        assert list(page.keys) == list(chunk.keys)
        for at, row in enumerate(chunk.rows):
            given = [column[at] for column in page.columns]
            for read, cell, value in zip(compiled.query.columns, row, given, strict=True):
                name = f"{chunk.keys[at]} {read.column.name}"
                seen += 1
                odd[read.column.name] += value is ODD
                fault = chunk.faults.get(at)
                if fault is not None and fault.column == read.column.name:
                    assert value is ODD, name
                elif value is not ODD:
                    assert value == (cell.encode() if isinstance(cell, str) else cell), name
    rows = seen // len(odd)
    usually = {name for name, count in odd.items() if count > rows // 2}
    assert usually == set()


@pytest.mark.parametrize("stand", EVERY_STAND, indirect=True)
def test_every_field_is_compared(stand: Stand) -> None:
    """
    One field of each row is another one, with the digest of what is there, without it, or gone.

    A digest that is right proves nothing: this is what an encoder with a fault leaves behind.
    """
    project, client = made(stand)
    assert both(project)[0] == set()
    compiled, _ = compiled_of(stand, project)
    expected = set()
    for place, field in enumerate(compiled.fields):
        name, key = field.name.encode(), f"awkward:{2 * place}".encode()
        value = client.hget(key, name)
        if value is None:
            continue
        if place % 3 == 2:
            client.hdel(key, name)
        elif name != b"id":
            client.hset(key, name, value + b"0")
        if place % 2 == 0:
            remade(client, compiled, key)
        kind = "absent_field" if place % 3 == 2 else "value"
        expected.add(("DIFFERENT", kind, key.decode(), field.name))

    found, _ = both(project)

    assert found == expected


def remade(client: Any, compiled: CompiledMapping, key: bytes) -> None:
    """
    Give a record the digest of what it holds.
    """
    held = client.hgetall(key)
    fields = [(name, value) for name, value in held.items() if name not in (b"_v", b"_h")]
    seed = seed_of(compiled.fingerprint)
    client.hset(key, "_h", digest_of(seed, key, fields))
