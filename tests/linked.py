"""
Mappings with lookups, expiry and the rest, compiled against a table that needs no server.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from migrate.errors import Problem, SchemaMismatch
from migrate.mapping.compile import CompiledMapping, compile_mapping
from migrate.mapping.files import load
from migrate.model.values import Batch, Cell, Chunk, Column, Kind, Table

KINDS = {
    "id": Kind.INTEGER,
    "email": Kind.TEXT,
    "locale": Kind.TEXT,
    "avatar": Kind.BYTES,
    "age": Kind.INTEGER,
    "balance": Kind.DECIMAL,
    "rating": Kind.FLOAT,
    "active": Kind.BOOLEAN,
    "born": Kind.DATE,
    "seen": Kind.TIMESTAMP,
    "made": Kind.TIMESTAMPTZ,
    "settings": Kind.JSON,
    "clock": Kind.TIME,
}


def column(name: str, kind: Kind, **more: Any) -> Column:
    """
    A column whose type is called as its kind; everything but the id may be NULL.
    """
    given = {"nullable": name != "id", "supplied": name == "id", **more}
    return Column(name, kind.value, kind, **given)


USERS = Table(
    None,
    "users",
    tuple(column(name, kind) for name, kind in KINDS.items()),
    ("id",),
    (("id",),),
)


def mapping(sections: str = "", *, target: str = "", source: str = "") -> str:
    """
    The text of a mapping of all columns of the users.
    """
    return (
        f"version: 1\nname: users\nsource: {{table: users, key: [id]{source}}}\n"
        f'target: {{key: "user:{{id}}"{target}}}\n{sections}'
    )


def compiled(folder: Path, text: str, *, table: Table = USERS, **more: Any) -> CompiledMapping:
    """
    A mapping bound to the users.
    """
    file = folder / "users.yaml"
    file.write_text(text)
    return compile_mapping(load(file)["users"], table, **more)


@cache
def shared(text: str) -> CompiledMapping:
    """
    As `compiled`, for properties, whose examples cannot have a folder each.
    """
    with TemporaryDirectory() as folder:
        return compiled(Path(folder), text)


def refused(folder: Path, text: str, *, table: Table = USERS) -> list[tuple[str, int, int]]:
    """
    Rule and place of every problem that only the live schema shows.
    """
    file = folder / "users.yaml"
    file.write_text(text)
    (read,) = load(file).values()
    try:
        compile_mapping(read, table)
    except SchemaMismatch as mismatch:
        found: tuple[Problem, ...] = mismatch.problems
        assert all(problem.fix for problem in found)
        return [(one.rule, one.line, one.column) for one in found]
    return []


def encode(users: CompiledMapping, *rows: dict[str, Cell], **more: Any) -> Batch:
    """
    The batch of rows that hold these cells, and NULL elsewhere; ids count from 1.
    """
    order = [read.column.name for read in users.query.columns]
    numbered = [{"id": str(number), **row} for number, row in enumerate(rows, 1)]
    cells = [[row.get(name) for name in order] for row in numbered]
    return users.encode(Chunk([(int(str(row["id"])),) for row in numbered], cells, **more))
