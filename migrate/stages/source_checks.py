"""
The checks of the source, and of each mapping against its live schema. Reads only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from migrate.mapping.compile import CompiledMapping, compile_mapping
from migrate.mapping.values import Mapping
from migrate.model.filter import columns_of
from migrate.model.ports import ChildQuery
from migrate.model.values import Column, KeyRange, Table
from migrate.pipeline.scope import find_table
from migrate.source.catalogue import read_surroundings
from migrate.source.dialects.base import SourceFacts
from migrate.source.store import SqlSource
from migrate.stages.catalogue_checks import mapped_tables, surroundings_checks
from migrate.stages.checks import Check, failed, guarded, ok, opened, warning


def source_checks(facts: SourceFacts, address: str) -> Iterator[Check]:
    """
    What the server says of itself.
    """
    yield ok("source.reach", f"{facts.dialect} {facts.version} at {address}.")
    if facts.replica:
        yield warning(
            "source.replica",
            "The source is a replica: rows may be older than on its primary.",
            "Read from the primary; versions of rows need it as well.",
        )
    else:
        yield ok("source.replica", "The source is no replica.")


def mapping_checks(source: SqlSource, mapping: Mapping) -> Iterator[Check]:
    """
    Whether a mapping fits the table, and whether all of the table can be read.
    """
    name = f"mapping.{mapping.name}"
    table = yield from opened(f"{name}.table", lambda: find_table(source, mapping))
    if table is None:
        return
    yield ok(f"{name}.table", f"{_called(table)} is a {table.relation}.")
    compiled = yield from opened(f"{name}.columns", lambda: compile_mapping(mapping, table))
    if compiled is None:
        return
    yield ok(f"{name}.columns", f"{len(compiled.fields)} fields fit the columns of the table.")
    yield from _unmapped(f"{name}.unmapped", mapping, table)
    yield from _required(f"{name}.required", compiled, table)
    refused = yield from opened(f"{name}.rights", lambda: source.missing_privileges(compiled.query))
    if refused is None:
        return
    if refused:
        yield failed(
            f"{name}.rights",
            f"This user lacks {'; '.join(refused)}.",
            "GRANT it to this user, or read as another one.",
        )
        return
    yield ok(f"{name}.rights", "This user may read all that the mapping needs.")
    yield from guarded(f"{name}.key", lambda: _key(f"{name}.key", source, compiled))
    yield from guarded(f"{name}.pages", lambda: _pages(f"{name}.pages", source, compiled))
    if compiled.children:
        check = f"{name}.children"
        yield from guarded(check, lambda: _children(check, source, compiled, table))
    yield from guarded(f"{name}.inbound", lambda: _around(name, source, mapping, compiled, table))


def _around(
    name: str, source: SqlSource, mapping: Mapping, compiled: CompiledMapping, table: Table
) -> Iterator[Check]:
    around = read_surroundings(source.connections, list(mapped_tables(table)))
    yield from surroundings_checks(name, mapping, compiled, table, around)


def _called(table: Table) -> str:
    return f"{table.schema}.{table.name}" if table.schema else table.name


def _unmapped(name: str, mapping: Mapping, table: Table) -> Iterator[Check]:
    """
    Columns that the mapping does not speak of at all: added later, or forgotten.
    """
    if mapping.fields is None:
        yield ok(name, "Every column moves.")
        return
    spoken = {field.column for field in mapping.fields} | set(mapping.key)
    spoken |= columns_of(mapping.where) if mapping.where else frozenset()
    silent = [column.name for column in table.columns if column.name not in spoken]
    if silent:
        yield warning(
            name,
            f"Columns that neither move nor are dropped: {', '.join(silent)}.",
            "List them under `fields`, or declare them there with `drop: true`.",
        )
    else:
        yield ok(name, "The mapping speaks of every column.")


def _required(name: str, compiled: CompiledMapping, table: Table) -> Iterator[Check]:
    """
    Columns that SQL asks for and the records do not hold: a way back could not fill them.
    """
    moved = {field.column.name for field in (*compiled.key, *compiled.fields)}
    needed = [c.name for c in table.columns if c.name not in moved and _is_required(c)]
    for query in compiled.query.collections():
        held = {read.column.name for read in query.columns}
        held |= {child.name for child, _ in query.join}
        needed += [
            f"{query.path}.{column.name}"
            for column in query.table.columns
            if column.name not in held and _is_required(column)
        ]
    if needed:
        yield warning(
            name,
            f"NOT NULL columns without a default that do not move: {', '.join(needed)}.",
            "Nothing to do for a backfill; before cut-over map them or give them a default.",
        )
    else:
        yield ok(name, "Every column that SQL asks for moves or has a default.")


def _is_required(column: Column) -> bool:
    return not (column.nullable or column.supplied or column.generated)


def _key(name: str, source: SqlSource, compiled: CompiledMapping) -> Iterator[Check]:
    nullable = [read.column.name for read in compiled.query.key if read.column.nullable]
    count = source.null_keys(compiled.query)
    if count:
        yield failed(
            name,
            f"{count:,} rows have a key that is NULL or of another type than its column.",
            "Give these rows a key, or exclude them with `where`.",
        )
    elif not nullable:
        yield ok(name, "The key is NOT NULL and unique.")
    else:
        yield warning(
            name,
            f"The key may become NULL: {', '.join(nullable)}. No row has such a key now.",
            "Declare it NOT NULL in the source.",
        )


def _pages(name: str, source: SqlSource, compiled: CompiledMapping) -> Iterator[Check]:
    problems = source.explain_problems(compiled.query)
    if problems:
        yield warning(
            name,
            f"Reading will be slow: {'; '.join(problems)}.",
            "Create an index that begins with the key columns, in their order.",
        )
    else:
        yield ok(name, "An index gives the pages their order.")


def _children(
    name: str, source: SqlSource, compiled: CompiledMapping, table: Table
) -> Iterator[Check]:
    """
    Whether pages find their children by an index, and whether one page can be read at all.
    """
    slow = [query for query in compiled.query.collections() if not _is_served(query)]
    for query in slow:
        columns = ", ".join(child.name for child, _ in query.join)
        yield warning(
            name,
            f"Each page reads all of '{query.table.name}': no index begins with {columns}.",
            f"Create an index on {query.table.name} ({columns}).",
        )
    with closing(source.extractor(compiled.query, table)) as extractor:
        extractor.read(KeyRange(), None, 1)
    if not slow:
        yield ok(name, "An index finds the children of a page.")


def _is_served(query: ChildQuery) -> bool:
    """
    An index begins with the columns of the join. What is behind a view is not looked at.
    """
    wanted = {child.name for child, _ in query.join}
    return query.table.relation in ("view", "foreign") or any(
        set(index[: len(wanted)]) == wanted or (index and set(index) <= wanted)
        for index in query.table.indexes
    )
