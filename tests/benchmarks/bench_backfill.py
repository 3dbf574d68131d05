"""
How fast the steps of a backfill are, each alone and all together: `make bench`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from migrate.mapping.compile import compile_mapping
from migrate.mapping.files import load
from migrate.model.values import Batch, Chunk, KeyRange
from migrate.ops.tables import table
from migrate.source.store import SqlSource
from migrate.target.store import RedisTarget
from tests import profiles
from tests.project import SHIPPED, Project
from tests.servers import Database, PostgresDatabase, RedisServer

ROWS = int(os.environ.get("PROFILE_MIGRATE_TEST_BENCH_ROWS", "100000"))
CHUNK = 2_000


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """
    The generated profiles, once on each dialect.
    """
    made: Database = request.getfixturevalue(request.param)
    if isinstance(made, PostgresDatabase):
        profiles.create_postgres(made.execute, ROWS)
    else:
        profiles.create_sqlite(Path(made.path), ROWS)
    return made


def test_the_steps_and_the_whole(
    database: Database, redis_server: RedisServer, tmp_path: Path
) -> None:
    """
    Rows a second of read, encode, write and rewrite, and of whole backfills.
    """
    lines = [*_steps(database, redis_server), *_whole(database, redis_server, tmp_path)]

    print()  # noqa: T201 - figures are the result
    print(f"{database.dialect}, {ROWS:,} profiles")  # noqa: T201
    print(table(("step", "rows/s"), lines, align="lr"))  # noqa: T201


CHILDREN = """
version: 1
name: with_children
source: {table: user_profiles, key: [id]}
target: {key: "nested:{id}"}
fields: {email: {column: email_address}}
children:
  tags: {table: profile_tags, join: {profile_id: id}, order_by: [place], columns: [place, tag]}
"""


def test_children_cost(database: Database, redis_server: RedisServer, tmp_path: Path) -> None:
    """
    Root rows a second with three children each, and of the same columns without them.
    """
    database.execute(
        "CREATE TABLE profile_tags (profile_id BIGINT, place INTEGER, tag VARCHAR(20), "
        "PRIMARY KEY (profile_id, place))"
    )
    database.execute(
        "INSERT INTO profile_tags SELECT p.id, n.n, 'tag' FROM user_profiles p "
        "CROSS JOIN (SELECT 1 AS n UNION ALL SELECT 2 UNION ALL SELECT 3) n"
    )
    project = Project(tmp_path / "children", database.url, redis_server.url)
    flat = CHILDREN[: CHILDREN.index("children:")].replace("with_children", "flat")
    project.mapping("with_children", CHILDREN)
    project.mapping("flat", flat.replace("nested:", "flat:"))
    lines = []
    for name in ("flat", "with_children"):

        def copy(name: str = name) -> int:
            ran = project.run("backfill", name, "--json")
            assert ran.exit == 0, ran.err
            return int(ran.json["rows"])

        lines.append((name, _rate(copy)))

    print()  # noqa: T201 - figures are the result
    print(f"{database.dialect}, {ROWS:,} profiles with three children each")  # noqa: T201
    print(table(("backfill", "rows/s"), lines, align="lr"))  # noqa: T201


def _steps(database: Database, server: RedisServer) -> Iterator[tuple[str, int]]:
    mapping = load(SHIPPED)["user_profiles"]
    with (
        closing(SqlSource.open(database.config())) as source,
        closing(RedisTarget.open(server.config())) as target,
    ):
        found = source.reflect(mapping.schema, mapping.table)
        assert found is not None
        compiled = compile_mapping(mapping, found)
        extractor = source.extractor(compiled.query, found)
        fence = target.begin(
            "user_profiles",
            run="bench",
            expected=None,
            generation=0,
            revision=1,
            fingerprint=compiled.fingerprint,
        )
        loader = target.loader("user_profiles", fence, compiled.shape())
        chunks: list[Chunk] = []
        batches: list[Batch] = []

        def read() -> int:
            after = None
            while (chunk := extractor.read(KeyRange(), after, CHUNK)).keys:
                chunks.append(chunk)
                after = chunk.keys[-1]
            return sum(len(chunk.keys) for chunk in chunks)

        def encode() -> int:
            batches.extend(compiled.encode(chunk) for chunk in chunks)
            return sum(len(batch.records) for batch in batches)

        def write() -> int:
            return sum(len(loader.write(batch.records).outcomes) for batch in batches)

        yield "read", _rate(read)
        yield "encode", _rate(encode)
        yield "write", _rate(write)
        yield "write again", _rate(write)


def _whole(database: Database, server: RedisServer, tmp_path: Path) -> Iterator[tuple[str, int]]:
    for workers in ("1", "2"):
        server.client().flushall()
        project = Project(tmp_path / f"user{workers}", database.url, server.url)
        project.shipped()

        def copy(project: Project = project, workers: str = workers) -> int:
            ran = project.run("backfill", "user_profiles", "--workers", workers, "--json")
            assert ran.exit == 0, ran.err
            return int(ran.json["rows"])

        yield f"backfill --workers {workers}", _rate(copy)


def _rate(work: Callable[[], int]) -> int:
    began = time.perf_counter()
    rows = work()
    return int(rows / (time.perf_counter() - began))
