"""
Turn a mapping and the live schema into functions between rows and records.

Everything that can be wrong between the two is found here, before a row is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as Map
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from hashlib import blake2b

from migrate.errors import Problem, SchemaMismatch
from migrate.mapping.codecs import CODECS, Codec, Unencodable, codec_for, forms_of
from migrate.mapping.template import Template
from migrate.mapping.values import FieldSpec, Mapping, Reserved
from migrate.model.filter import columns_of
from migrate.model.ports import Query
from migrate.model.values import (
    Batch,
    Cell,
    Chunk,
    Column,
    ColumnRead,
    Fault,
    Kind,
    Record,
    Reject,
    Table,
    first_version,
)

ENCODER = 1
"""Raised when the same row would give other bytes, so that old and new records are told apart."""

MAX_KEY_BYTES = 512
MAX_RECORD_BYTES = 8 * 1024 * 1024
"""A record above this is a reject: Redis would cut the connection, a retry would send it again."""

KEY_KINDS = frozenset(
    {
        Kind.INTEGER,
        Kind.DECIMAL,
        Kind.TEXT,
        Kind.UUID,
        Kind.ENUM,
        Kind.DATE,
        Kind.TIME,
        Kind.TIMESTAMP,
        Kind.TIMESTAMPTZ,
    }
)
"""Kinds with an exact order and an exact text."""


@dataclass(frozen=True, slots=True)
class Field:
    """
    One field of the record: where its cell stands in a row and how it becomes bytes.
    """

    name: str
    position: int
    column: Column
    codec: Codec


def _prefixed(text: bytes) -> bytes:
    """
    Length, then bytes, so that no two lists of parts ever join to the same bytes.
    """
    return len(text).to_bytes(4, "big") + text


class CompiledMapping:
    """
    A mapping bound to a schema: rows in, records out, and back.

    Promises: the same row gives the same bytes on every server and driver; distinct keys give
    distinct record keys; a row that cannot be moved becomes a reject and never costs its
    neighbours.

    Args:
        name: Of the mapping.

        query: What an extractor has to read for `encode`.

        fields: In the order of their names, which is the order in the record and in the digest.
    """

    def __init__(
        self, mapping: Mapping, query: Query, key: tuple[Field, ...], fields: tuple[Field, ...]
    ) -> None:
        self.name = mapping.name
        self.query = query
        self.reserved: Reserved = mapping.reserved
        self.template: Template = mapping.template
        self.key = key
        self.fields = fields
        self.fingerprint = _fingerprint(mapping, key, fields)
        self._seed = blake2b(bytes.fromhex(self.fingerprint), digest_size=8)
        self._plan = tuple(
            (f.position, f.codec.encode, f.name.encode(), _prefixed(f.name.encode()))
            for f in fields
        )
        parts = {f.name: (f.position, f.codec.encode) for f in key}
        self._key_plan = tuple(parts[name] for name in mapping.template.names)

    def encode(self, chunk: Chunk) -> Batch:
        """
        Records for the rows of a chunk, and rejects for those that cannot become one.
        """
        records: list[Record] = []
        keys = []
        rejects = []
        base = str(first_version(chunk.generation, self.query.revision))
        for index, row in enumerate(chunk.rows):
            fault = chunk.faults.get(index)
            if fault is None:
                version = chunk.versions[index] if chunk.versions else base
                try:
                    record = self._record(row, version.encode())
                except (Unencodable, UnicodeEncodeError):
                    fault = self._why(row)
                else:
                    fault = self._too_large(record)
            if fault is None:
                records.append(record)
                keys.append(chunk.keys[index])
            else:
                rejects.append(Reject(chunk.keys[index], fault))
        return Batch(records, keys, rejects)

    def _record(self, row: Sequence[Cell], version: bytes) -> Record:
        key = self._render(row)
        fields: list[bytes] = []
        parts = [_prefixed(key)]
        for position, encode, name, head in self._plan:
            cell = row[position]
            if cell is None:
                continue
            value = encode(cell)
            fields += (name, value)
            parts += (head, len(value).to_bytes(4, "big"), value)
        digest = self._seed.copy()
        digest.update(b"".join(parts))
        return Record(key, version, digest.hexdigest().encode(), tuple(fields))

    def _render(self, row: Sequence[Cell]) -> bytes:
        components = []
        for position, encode in self._key_plan:
            cell = row[position]
            if cell is None:
                raise Unencodable("null-key", "is NULL, and a record needs its whole key")
            components.append(encode(cell).decode())
        return self.template.render(components)

    def record_key(self, row: Sequence[Cell]) -> bytes:
        """
        The Redis key of a row.

        Raises:
            Unencodable: A part of the key is NULL or has no exact text.
        """
        return self._render(row)

    def _why(self, row: Sequence[Cell]) -> Fault:
        """
        The first column of a row whose cell cannot be encoded, found by trying each alone.
        """
        for field in (*self.key, *self.fields):
            cell = row[field.position]
            try:
                if cell is not None:
                    field.codec.encode(cell)
                elif field in self.key:
                    return Fault(field.column.name, "null-key", "is NULL, and a record needs it")
            except Unencodable as refused:
                return Fault(field.column.name, refused.reason, refused.detail)
            except UnicodeEncodeError:
                return Fault(field.column.name, "invalid-utf8", "holds a lone surrogate")
        raise AssertionError("a row was refused that every codec takes")

    def _too_large(self, record: Record) -> Fault | None:
        if len(record.key) > MAX_KEY_BYTES:
            column = self.key[0].column.name
            return Fault(column, "key-too-long", f"gives a key of more than {MAX_KEY_BYTES} bytes")
        size = sum(map(len, record.fields))
        if size > MAX_RECORD_BYTES:
            largest = max(range(1, len(record.fields), 2), key=lambda i: len(record.fields[i]))
            name = record.fields[largest - 1].decode()
            column = next(f.column.name for f in self.fields if f.name == name)
            return Fault(column, "too-large", f"makes a record of {size} bytes")
        return None

    def decode(self, stored: Map[bytes, bytes]) -> dict[str, Cell]:
        """
        Cells by field name from the fields of a stored hash; absent fields are NULL.

        Raises:
            Undecodable: A field holds bytes that its codec never writes.
        """
        cells: dict[str, Cell] = {}
        for field in self.fields:
            value = stored.get(field.name.encode())
            cells[field.name] = None if value is None else field.codec.decode(value)
        return cells

    def describe(self) -> dict[str, object]:
        """
        The mapping as it was understood, for people and for --json.
        """
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "key": self.template.text,
            "fields": [
                {
                    "name": f.name,
                    "column": f.column.name,
                    "type": f.column.type,
                    "as": f.codec.form,
                }
                for f in self.fields
            ],
        }


def compile_mapping(mapping: Mapping, table: Table, *, revision: int = 1) -> CompiledMapping:
    """
    Bind a mapping to the table that the catalogue describes.

    Args:
        revision: Number of this mapping's revision, the version of rows without capture.

    Raises:
        SchemaMismatch: With every problem, each at its place in the mapping's file.
    """
    binder = _Binder(mapping, table)
    fields = tuple(sorted(binder.fields(), key=lambda field: field.name.encode()))
    key = tuple(binder.key())
    problems = [*binder.problems, *binder.key_problems(), *binder.where_problems()]
    if problems:
        raise SchemaMismatch(problems)
    query = Query(
        mapping=mapping.name,
        schema=table.schema,
        table=table.name,
        key=tuple(ColumnRead(f.column) for f in key),
        columns=tuple(binder.reads),
        where=mapping.where,
        revision=revision,
    )
    return CompiledMapping(mapping, query, key, fields)


_UNIQUE = (
    "Add a primary key, or a unique index in the columns' own collation.",
    "A view keeps nothing unique by itself: map the table under it.",
)
"""What to do about a table, and about a view, without any unique key."""


class _Binder:
    """
    Looks every name of a mapping up in a table and collects what does not fit.
    """

    def __init__(self, mapping: Mapping, table: Table) -> None:
        self.mapping = mapping
        self.table = table
        self.problems: list[Problem] = []
        self.reads: list[ColumnRead] = []
        self._positions: dict[ColumnRead, int] = {}

    def key(self) -> Iterator[Field]:
        for index, name in enumerate(self.mapping.key):
            column = self.table.column(name)
            if column is None:
                self._missing(("source", "key", index), name)
            elif column.kind not in KEY_KINDS:
                self._problem(
                    ("source", "key", index),
                    "key-type",
                    f"Column '{name}' has {_type_of(column)}, which has no exact order and text.",
                    "Choose a key of integers, text, uuid, dates or decimals.",
                )
            else:
                codec = CODECS[column.kind][0]
                yield Field(name, self._position(ColumnRead(column)), column, codec)

    def fields(self) -> Iterator[Field]:
        specs = self.mapping.fields
        if specs is None:
            specs = tuple(
                FieldSpec(c.name, c.name, form=None, drop=False) for c in self.table.columns
            )
        for spec in specs:
            field = self._field(spec)
            if field is not None:
                yield field

    def _field(self, spec: FieldSpec) -> Field | None:
        loc = ("fields", spec.name) if self.mapping.fields is not None else ("source", "table")
        column = self.table.column(spec.column)
        if column is None:
            self._missing((*loc, "column"), spec.column)
            return None
        if spec.drop:
            return None
        if spec.name in self.mapping.reserved.names():
            self._problem(
                loc,
                "reserved-field",
                f"Column '{spec.name}' has the name of a reserved field.",
                "Rename the field, or choose other names under `target.reserved`.",
            )
            return None
        codec = codec_for(column.kind, spec.form)
        if codec is None:
            self._no_codec(loc, spec, column)
            return None
        verbatim = spec.form == "text" and codec_for(column.kind, None) is not codec
        return Field(spec.name, self._position(ColumnRead(column, verbatim)), column, codec)

    def _no_codec(self, loc: tuple[str | int, ...], spec: FieldSpec, column: Column) -> None:
        if spec.form is None:
            self._problem(
                loc,
                "no-codec",
                f"Column '{column.name}' has type {column.type}, whose text depends on settings.",
                "Take the server's text with `as: text`, or declare `drop: true`.",
            )
        else:
            known = ", ".join(forms_of(column.kind))
            self._problem(
                (*loc, "as"),
                "wrong-form",
                f"`as: {spec.form}` does not fit column '{column.name}' of type {column.type}.",
                f"Known for it: {known}.",
            )

    def _position(self, read: ColumnRead) -> int:
        if read not in self._positions:
            self._positions[read] = len(self.reads)
            self.reads.append(read)
        return self._positions[read]

    def key_problems(self) -> Iterator[Problem]:
        key = set(self.mapping.key)
        if not any(key >= set(unique) for unique in self.table.unique):
            known = "; ".join(", ".join(unique) for unique in self.table.unique)
            yield self.mapping.problem(
                ("source", "key"),
                "key-not-unique",
                f"Nothing keeps ({', '.join(self.mapping.key)}) unique in '{self.table.name}'.",
                f"Unique there: {known}." if known else _UNIQUE[self.table.relation == "view"],
            )

    def where_problems(self) -> Iterator[Problem]:
        if self.mapping.where is None:
            return
        for name in sorted(columns_of(self.mapping.where)):
            if self.table.column(name) is None:
                yield self._unknown(("source", "where"), name)

    def _missing(self, loc: tuple[str | int, ...], name: str) -> None:
        self.problems.append(self._unknown(loc, name))

    def _unknown(self, loc: tuple[str | int, ...], name: str) -> Problem:
        names = [column.name for column in self.table.columns]
        near = get_close_matches(name, names, n=1)
        fix = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(names)}."
        return self.mapping.problem(
            loc, "missing-column", f"Table '{self.table.name}' has no column '{name}'.", fix
        )

    def _problem(self, loc: tuple[str | int, ...], rule: str, message: str, fix: str) -> None:
        self.problems.append(self.mapping.problem(loc, rule, message, fix))


def _type_of(column: Column) -> str:
    # SQLite lets a column go without one.
    return f"type {column.type}" if column.type else "no declared type"


def _fingerprint(mapping: Mapping, key: Sequence[Field], fields: Sequence[Field]) -> str:
    """
    Tells two mappings apart that would write other records; comments and order do not count.
    """
    meaning = {
        "encoder": ENCODER,
        "name": mapping.name,
        "table": [mapping.schema, mapping.table],
        "where": repr(mapping.where),
        "template": mapping.template.text,
        "reserved": asdict(mapping.reserved),
        "key": [_shape(field) for field in key],
        "fields": [_shape(field) for field in fields],
    }
    text = json.dumps(meaning, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _shape(field: Field) -> list[object]:
    return [field.name, field.column.name, field.column.kind, field.column.scale, field.codec.form]
