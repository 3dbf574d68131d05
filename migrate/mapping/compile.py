"""
Turn a mapping and the live schema into functions between rows and records.

Everything that can be wrong between the two is found here, before a row is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as Map
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from hashlib import blake2b
from itertools import islice
from typing import Any, NamedTuple

from migrate.errors import Problem, SchemaMismatch
from migrate.mapping.bulk import BulkField, BulkPlan, convert_of, key_check
from migrate.mapping.bulk_children import gather_of
from migrate.mapping.children import KEY_KINDS, ChildBinder
from migrate.mapping.codecs import (
    CODECS,
    Undecodable,
    Unencodable,
    codec_for,
    forms_of,
    masked,
)
from migrate.mapping.digest import prefixed, seed_of
from migrate.mapping.instants import TEMPORAL, expires_at
from migrate.mapping.json_text import Collection, Spell, members, quoted, value_of
from migrate.mapping.lookups import BoundLookup, Field, LookupBinder
from migrate.mapping.template import Template
from migrate.mapping.values import FieldSpec, Mapping, Reserved
from migrate.mapping.way_back import way_back_problems
from migrate.model.filter import columns_of
from migrate.model.ports import ChildQuery, Query
from migrate.model.shape import RecordShape
from migrate.model.values import (
    Batch,
    Chunk,
    Column,
    ColumnRead,
    Entry,
    Expiry,
    Fault,
    Key,
    KeyPart,
    Kind,
    Record,
    RecordType,
    Reject,
    Row,
    Table,
    first_version,
)

ENCODER = 1
"""Raised when the same row would give other bytes, so that old and new records are told apart."""

MAX_KEY_BYTES = 512
MAX_RECORD_BYTES = 8 * 1024 * 1024
"""A record above this is a reject: Redis would cut the connection, a retry would send it again."""


@dataclass(frozen=True, slots=True)
class ChildField:
    """
    One field that holds a collection: where its rows stand in a row and how they become JSON.
    """

    name: str
    position: int
    collection: Collection
    query: ChildQuery


class BoundExpiry(NamedTuple):
    """
    When records expire: at an instant that all share, or at that of a column.

    Args:
        fixed: The instant of all records; empty where it is not known, or where there is none.

        column: That holds the instant of its row, and where its cell stands.
    """

    kind: Expiry = Expiry.NONE
    fixed: bytes = b""
    column: Column | None = None
    position: int = 0
    seconds: int | None = None


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

        children: The fields that hold collections; they stand among the others by their names.

        lookups: Names of the lookups, in the order of a record's entries.
    """

    def __init__(
        self,
        mapping: Mapping,
        query: Query,
        key: tuple[Field, ...],
        fields: tuple[Field, ...],
        *,
        children: tuple[ChildField, ...] = (),
        lookups: tuple[BoundLookup, ...] = (),
        expiry: BoundExpiry,
    ) -> None:
        self.name = mapping.name
        self.query = query
        self.reserved: Reserved = mapping.reserved
        self.template: Template = mapping.template
        self.key = key
        self.fields = fields
        self.children = children
        self.record = mapping.record
        self.lookups = tuple(lookup.spec.name for lookup in lookups)
        self.expiry = expiry.kind
        self.fingerprint = _fingerprint(mapping, key, fields, children, lookups, expiry)
        self._lookups = lookups
        self._expiry = expiry
        # Asked once a row: most mappings have neither, and should not pay for them.
        self._extended = bool(lookups) or expiry.kind is not Expiry.NONE
        self._expires_head = prefixed(mapping.reserved.expires.encode())
        self._seed = seed_of(self.fingerprint)
        self._values = {f.name: value_of(f.column.kind, f.codec) for f in fields}
        self._plan = tuple(
            (position, encode, self._spelled(name), prefixed(name.encode()))
            for name, position, encode in sorted(
                self._encoders(), key=lambda encoder: encoder[0].encode()
            )
        )
        self._names = tuple(sorted((name for name, _, _ in self._encoders()), key=str.encode))
        self._head = f'{{{quoted(mapping.reserved.version)}:"'.encode()
        self._middle = f'",{quoted(mapping.reserved.digest)}:"'.encode()
        self._instant = f'",{quoted(mapping.reserved.expires)}:"'.encode()
        self._finish = self._hash if self.record is RecordType.HASH else self._text
        parts = {f.name: (f.position, f.codec.encode) for f in key}
        self._key_plan = tuple(parts[name] for name in mapping.template.names)
        order = [field.name for field in key]
        self._key_order = tuple(order.index(name) for name in mapping.template.names)

    def _spelled(self, name: str) -> bytes:
        return name.encode() if self.record is RecordType.HASH else f"{quoted(name)}:".encode()

    def _encoders(self) -> Iterator[tuple[str, int, Callable[[Any], bytes]]]:
        for child in self.children:
            yield child.name, child.position, child.collection.encode
        for field in self.fields:
            if self.record is RecordType.HASH:
                yield field.name, field.position, field.codec.encode
            else:
                yield field.name, field.position, _as_bytes(self._values[field.name].spell)

    def encode(self, chunk: Chunk) -> Batch:
        """
        Records for the rows of a chunk, and rejects for those that cannot become one.
        """
        records: list[Record] = []
        keys = []
        rejects = []
        base = str(first_version(chunk.generation, self.query.revision)).encode()
        for index, row in enumerate(chunk.rows):
            fault = chunk.faults.get(index)
            if fault is None:
                version = chunk.versions[index].encode() if chunk.versions else base
                try:
                    record = self._record(row, version)
                except (Unencodable, UnicodeEncodeError):
                    fault = self._why(row)
                else:
                    fault = self._too_large(record, row)
            if fault is None:
                records.append(record)
                keys.append(chunk.keys[index])
            else:
                rejects.append(Reject(chunk.keys[index], fault))
        return Batch(records, keys, rejects)

    def _record(self, row: Row, version: bytes) -> Record:
        key = self._render(row)
        fields: list[bytes] = []
        parts = [prefixed(key)]
        for position, encode, name, head in self._plan:
            cell = row[position]
            if cell is None:
                continue
            value = encode(cell)
            fields += (name, value)
            parts += (head, len(value).to_bytes(4, "big"), value)
        if self._extended:
            return self._with_extras(row, key, version, fields, parts)
        digest = self._seed.copy()
        digest.update(b"".join(parts))
        return self._finish(key, version, digest.hexdigest().encode(), fields)

    def _with_extras(
        self, row: Row, key: bytes, version: bytes, fields: list[bytes], parts: list[bytes]
    ) -> Record:
        """
        A record with its instant and its entries in lookups.
        """
        expires = self._expires(row, parts)
        digest = self._seed.copy()
        digest.update(b"".join(parts))
        record = self._finish(key, version, digest.hexdigest().encode(), fields, expires)
        return record._replace(entries=self._entries(fields, row), expires=expires)

    def _expires(self, row: Row, parts: list[bytes]) -> bytes:
        """
        The instant of a record; part of its digest where it comes from the row.
        """
        if self.expiry is not Expiry.COLUMN:
            return self._expiry.fixed
        expires = expires_at(row[self._expiry.position])
        if expires:
            parts += (self._expires_head, prefixed(expires))
        return expires

    def _entries(self, fields: Sequence[bytes], row: Row) -> tuple[Entry, ...]:
        held = dict(zip(fields[::2], fields[1::2], strict=True))
        return tuple(lookup.entry(held, row) for lookup in self._lookups)

    @staticmethod
    def _hash(
        key: bytes, version: bytes, digest: bytes, fields: list[bytes], _: bytes = b""
    ) -> Record:
        return Record(key, version, digest, tuple(fields))

    def _text(
        self, key: bytes, version: bytes, digest: bytes, fields: list[bytes], expires: bytes = b""
    ) -> Record:
        """
        One JSON text that begins with version, digest and expiry, which the script reads there.
        """
        text = [self._head, version, self._middle, digest, b'"']
        if expires:
            text[-1:] = [self._instant, expires, b'"']
        for name, value in zip(fields[::2], fields[1::2], strict=True):
            text += (b",", name, value)
        text.append(b"}")
        return Record(key, version, digest, (b"".join(text),))

    def _render(self, row: Row) -> bytes:
        components = []
        for position, encode in self._key_plan:
            cell = row[position]
            if cell is None:
                raise Unencodable("null-key", "is NULL, and a record needs its whole key")
            components.append(encode(cell).decode())
        return self.template.render(components)

    def record_key(self, key: Key) -> bytes | None:
        """
        The key of the record that a row with this key has, or would have.

        None where it has none: a part is no text of its column's kind, or the key is too long.
        """
        components = []
        for at in self._key_order:
            field = self.key[at]
            text = _cell_of(key[at], field.column)
            if text is None:
                return None
            try:
                encoded = field.codec.encode(text)
                if field.codec.decode(encoded) != text:
                    return None
            except (Unencodable, Undecodable, UnicodeEncodeError):
                return None
            components.append(encoded.decode())
        found = self.template.render(components)
        return found if len(found) <= MAX_KEY_BYTES else None

    def _why(self, row: Row) -> Fault:
        """
        The first column of a row whose cell cannot be encoded, found by trying each alone.
        """
        found = self._column_fault(row)
        for child in () if found else self.children:
            fault = child.collection.fault(row[child.position])
            if fault is not None:
                column, refused = fault
                return Fault(column, refused.reason, refused.detail)
        found = found or self._number_fault(row)
        if found is None:
            raise AssertionError("a row was refused that every codec takes")
        return found

    def _number_fault(self, row: Row) -> Fault | None:
        """
        The column of an instant or a score that cannot be told.
        """
        numbers = [(one.order[0].column, one.order) for one in self._lookups if one.order]
        for column, (field, score) in numbers:
            cell = row[field.position]
            try:
                if cell is not None:
                    score(cell)
            except Unencodable as refused:
                return Fault(column.name, refused.reason, refused.detail)
        if self._expiry.column is not None:
            try:
                expires_at(row[self._expiry.position])
            except Unencodable as refused:
                return Fault(self._expiry.column.name, refused.reason, refused.detail)
        return None

    def _column_fault(self, row: Row) -> Fault | None:
        text = self.record is RecordType.STRING
        for field in (*self.key, *self.fields):
            cell = row[field.position]
            try:
                if cell is not None:
                    field.codec.encode(cell)
                    if text and field in self.fields:
                        self._values[field.name].spell(cell)
                elif field in self.key:
                    return Fault(field.column.name, "null-key", "is NULL, and a record needs it")
            except Unencodable as refused:
                return Fault(field.column.name, refused.reason, refused.detail)
            except UnicodeEncodeError:
                return Fault(field.column.name, "invalid-utf8", "holds a lone surrogate")
        return None

    def _too_large(self, record: Record, row: Row) -> Fault | None:
        if len(record.key) > MAX_KEY_BYTES:
            column = self.key[0].column.name
            return Fault(column, "key-too-long", f"gives a key of more than {MAX_KEY_BYTES} bytes")
        if record.entries and (fault := self._lookup_too_long(record)) is not None:
            return fault
        size = sum(map(len, record.fields))
        if size > MAX_RECORD_BYTES:
            sizes = {
                name: len(encode(row[position]))
                for name, (position, encode, _, _) in zip(self._names, self._plan, strict=True)
                if row[position] is not None
            }
            name = max(sizes, key=sizes.__getitem__)
            column = next((f.column.name for f in self.fields if f.name == name), name)
            return Fault(column, "too-large", f"makes a record of {size} bytes")
        return None

    def _lookup_too_long(self, record: Record) -> Fault | None:
        for lookup, entry in zip(self._lookups, record.entries, strict=True):
            if len(entry.key) > MAX_KEY_BYTES:
                return Fault(
                    next((one.name for one in lookup.columns), self.key[0].column.name),
                    "key-too-long",
                    f"gives a key of more than {MAX_KEY_BYTES} bytes in the lookup "
                    f"'{lookup.spec.name}'",
                )
        return None

    def decode(self, stored: Map[bytes, bytes]) -> dict[str, Any]:
        """
        Cells by field name from the fields of a stored hash; absent fields are NULL.

        A collection is a list of rows, each with the rows of its inner collections behind its
        cells.

        Raises:
            Undecodable: A field holds bytes that its codec never writes, or is masked.
        """
        cells: dict[str, Any] = {}
        for field in self.fields:
            value = stored.get(field.name.encode())
            cells[field.name] = None if value is None else field.codec.decode(value)
        for child in self.children:
            cells[child.name] = child.collection.decode(_present(stored, child.name))
        return cells

    def decode_text(self, stored: bytes) -> dict[str, Any]:
        """
        As `decode`, from the text of a string record.

        Raises:
            Undecodable: The text is none that `encode` gives.
        """
        try:
            parts = dict(members(stored.decode()))
        except UnicodeDecodeError:
            raise Undecodable("not UTF-8") from None
        cells: dict[str, Any] = {}
        for field in self.fields:
            part = parts.get(field.name)
            cells[field.name] = None if part is None else self._values[field.name].read(part)
        for child in self.children:
            cells[child.name] = child.collection.decode(_present(parts, child.name))
        if set(parts) - set(cells) - set(self.reserved.names()):
            raise Undecodable("a member that is not mapped")
        return cells

    def cell_of(self, name: str, stored: bytes) -> Any:
        """
        The cell, or the rows of a collection, that one field of a record stands for.

        Args:
            stored: Of a hash the field's value; of a string record the member's JSON text.

        Raises:
            Undecodable: `encode` never gives these bytes, or they are masked.
        """
        for child in self.children:
            if child.name == name:
                return child.collection.decode(stored)
        field = next(field for field in self.fields if field.name == name)
        if self.record is RecordType.HASH:
            return field.codec.decode(stored)
        try:
            text = stored.decode()
        except UnicodeDecodeError:
            raise Undecodable("not UTF-8") from None
        return self._values[name].read(text)

    def entries_of(self, stored: Map[bytes, bytes], row: Row) -> tuple[tuple[str, Entry], ...]:
        """
        Names of the lookups, and the entries that a record with these fields has in them.
        """
        return tuple((one.spec.name, one.entry(stored, row)) for one in self._lookups)

    def instant_of(self, row: Row) -> bytes:
        """
        The instant at which the record of a row expires, or empty.
        """
        if self.expiry is not Expiry.COLUMN:
            return self._expiry.fixed
        return expires_at(row[self._expiry.position])

    def key_of(self, cells: Sequence[Any]) -> bytes:
        """
        The record key of a row with these cells of its key, in the key's order.

        Raises:
            Unencodable: A cell is NULL, or none of its column's kind.
        """
        components = []
        for at in self._key_order:
            if cells[at] is None:
                raise Unencodable("null-key", "is NULL, and a record needs its whole key")
            components.append(self.key[at].codec.encode(cells[at]).decode())
        return self.template.render(components)

    def key_parts(self, key: bytes) -> Key | None:
        """
        The key of the row that a record key names; None where no row can have such a record.
        """
        components = self.template.match(key)
        if components is None:
            return None
        parts: dict[int, KeyPart] = {}
        for at, component in zip(self._key_order, components, strict=True):
            if isinstance(component, bytes):
                return None
            try:
                cell = self.key[at].codec.decode(component.encode())
            except Undecodable:
                return None
            parts[at] = cell
        found = tuple(parts[at] for at in range(len(parts)))
        return found if self.record_key(found) == key else None

    @property
    def reversible(self) -> bool:
        """
        Whether every field can be turned back into what SQL held.
        """
        return all(field.codec.reversible for field in self.fields)

    def bulk(self) -> BulkPlan | None:
        """
        The same for rows that come as lines; None where a record is more than its row's fields.
        """
        gathers = [gather_of(child.collection, child.query) for child in self.children]
        collections = tuple(gather for gather in gathers if gather is not None)
        if self._extended or len(collections) < len(self.children):
            return None
        by_name = {field.name: field for field in self.fields}
        fields = []
        for name, (position, _, spelled, head) in zip(self._names, self._plan, strict=True):
            field = by_name.get(name)
            if field is None:
                # A collection, which is never NULL, and whose cell is what it is in the record.
                fields.append(BulkField(position, spelled, head, None, nullable=False))
                continue
            convert = convert_of(field.column.kind, field.codec, self.record)
            fields.append(BulkField(position, spelled, head, convert, field.column.nullable))
        literals = [text.encode() for text in self.template.literals]
        key: list[bytes | int] = [literals[0]]
        for (position, _), literal in zip(self._key_plan, literals[1:], strict=True):
            key += (position, literal)
        kinds = [field.column.kind for field in self.key]
        return BulkPlan(
            width=len(self.query.columns) + len(collections),
            fields=tuple(fields),
            key=tuple(key),
            check=key_check(self.template, kinds),
            seed=self._seed,
            record=self.record,
            reserved=(self.reserved.version, self.reserved.digest),
            collections=collections,
        )

    def shape(self) -> RecordShape:
        """
        What its records look like from outside.
        """
        return RecordShape(
            fingerprint=self.fingerprint,
            template=self.template.text,
            reserved=self.reserved.names(),
            record=self.record,
            lookups=tuple((one.spec.kind, one.template.text) for one in self._lookups),
            expiry=self.expiry,
            revision=self.query.revision,
        )

    def describe(self) -> dict[str, object]:
        """
        The mapping as it was understood, for people and for --json.
        """
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "key": self.template.text,
            "type": str(self.record),
            "reversible": self.reversible,
            "fields": [
                {
                    "name": f.name,
                    "column": f.column.name,
                    "type": f.column.type,
                    "as": f.codec.form,
                    "mask": f.codec.mask,
                    "reversible": f.codec.reversible,
                }
                for f in self.fields
            ],
            "children": [
                {
                    "path": query.path,
                    "table": query.table.name,
                    "columns": [read.column.name for read in query.columns],
                }
                for query in self.query.collections()
            ],
            "lookups": [
                {
                    "name": one.spec.name,
                    "type": one.spec.kind.name.lower(),
                    "key": one.template.text,
                }
                for one in self._lookups
            ],
            "expires": self.expiry.value or None,
        }


def _as_bytes(spell: Spell) -> Callable[[Any], bytes]:
    return lambda cell: spell(cell).encode()


def _present(parts: Map[Any, Any], name: str) -> bytes:
    value = parts.get(name) or parts.get(name.encode())
    if value is None:
        raise Undecodable("a collection is missing; an empty one is []")
    return value if isinstance(value, bytes) else str(value).encode()


def _cell_of(part: KeyPart, column: Column) -> str | None:
    """
    The cell that a part of a key stands for; None for bytes, which no key column holds.
    """
    if isinstance(part, bytes):
        return None
    text = str(part)
    if column.kind is Kind.DECIMAL and column.scale and text.lstrip("-").replace(".", "").isdigit():
        whole, _, fraction = text.partition(".")
        return f"{whole}.{fraction.ljust(column.scale, '0')}"
    return text


def compile_mapping(
    mapping: Mapping, table: Table, *, revision: int = 1, instant: int | None = None
) -> CompiledMapping:
    """
    Bind a mapping to the table that the catalogue describes.

    Args:
        revision: Number of this mapping's revision, the version of rows without capture.

        instant: The source's clock in milliseconds when the run began: what a fixed time to live
            counts from. Without it no record of such a mapping has an instant, which is for plans.

    Raises:
        SchemaMismatch: With every problem, each at its place in the mapping's file.
    """
    binder = _Binder(mapping, table)
    fields = tuple(sorted(binder.fields(), key=lambda field: field.name.encode()))
    key = tuple(binder.key())
    expiry = binder.expiry(instant)
    lookups = LookupBinder(mapping, fields)
    bound_lookups = lookups.bind()
    children = ChildBinder(mapping, table)
    bound = children.bind()
    problems = [
        *binder.problems,
        *binder.key_problems(),
        *binder.where_problems(),
        *binder.clashes(),
        *children.problems,
        *lookups.problems,
        *way_back_problems(mapping, table),
    ]
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
        children=tuple(child.query for child in bound),
    )
    collections = tuple(
        ChildField(child.name, len(binder.reads) + place, child.collection, child.query)
        for place, child in enumerate(bound)
    )
    return CompiledMapping(
        mapping, query, key, fields, children=collections, lookups=bound_lookups, expiry=expiry
    )


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
        unmasked = codec
        if spec.mask is not None:
            codec = masked(codec, spec.mask)
        verbatim = spec.form == "text" and codec_for(column.kind, None) is not unmasked
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

    def expiry(self, instant: int | None) -> BoundExpiry:
        """
        When records expire, with the column that says so among those that are read.
        """
        kind, name, seconds = (
            self.mapping.expiry,
            self.mapping.ttl_column,
            self.mapping.ttl_seconds,
        )
        if seconds is not None:
            fixed = b"" if instant is None else b"%d" % (instant + seconds * 1000)
            return BoundExpiry(kind, fixed, seconds=seconds)
        if name is None:
            return BoundExpiry()
        loc = ("target", "ttl", "column")
        column = self.table.column(name)
        if column is None:
            self._missing(loc, name)
        elif column.kind not in TEMPORAL:
            self._problem(
                loc,
                "ttl-type",
                f"Column '{name}' has {_type_of(column)}, which is no instant.",
                "Choose a date or a timestamp, or give the source a view that has one.",
            )
        else:
            return BoundExpiry(kind, column=column, position=self._position(ColumnRead(column)))
        return BoundExpiry(kind)

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

    def clashes(self) -> Iterator[Problem]:
        """
        Collections with the name of a column where `fields` is left out: lint cannot see those.
        """
        if self.mapping.fields is not None:
            return
        for child in self.mapping.children:
            if self.table.column(child.name) is not None:
                yield self.mapping.problem(
                    ("children", child.name),
                    "field-twice",
                    f"Table '{self.table.name}' has a column '{child.name}', which moves as well.",
                    "Rename the collection, or list the fields that move.",
                    key=True,
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


def _fingerprint(
    mapping: Mapping,
    key: Sequence[Field],
    fields: Sequence[Field],
    children: Sequence[ChildField],
    lookups: Sequence[BoundLookup],
    expiry: BoundExpiry,
) -> str:
    """
    Tells two mappings apart that would write other records; comments and order do not count.
    """
    meaning: dict[str, object] = {
        "encoder": ENCODER,
        "name": mapping.name,
        "table": [mapping.schema, mapping.table],
        "where": repr(mapping.where),
        "template": mapping.template.text,
        "reserved": dict(islice(asdict(mapping.reserved).items(), 3)),
        "key": [_shape(field) for field in key],
        "fields": [_shape(field) for field in fields],
    }
    if mapping.record is not RecordType.HASH:
        meaning["record"] = mapping.record
    if children:
        meaning["children"] = [
            _collection_shape(child.query, child.collection) for child in children
        ]
    if lookups:
        specs = [one.spec for one in lookups]
        meaning["lookups"] = [
            mapping.reserved.lookups,
            *sorted([spec.kind.value, spec.template.text, spec.score or ""] for spec in specs),
        ]
    if expiry.kind:
        column = expiry.column
        meaning["ttl"] = [
            mapping.reserved.expires,
            expiry.seconds if column is None else [column.name, column.kind],
        ]
    text = json.dumps(meaning, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _shape(field: Field) -> list[object]:
    column = field.column
    shape: list[object] = [field.name, column.name, column.kind, column.scale, field.codec.form]
    return shape if field.codec.reversible else [*shape, field.codec.mask]


def _collection_shape(query: ChildQuery, collection: Collection) -> dict[str, object]:
    reads = query.columns
    return {
        "path": query.path,
        "table": [query.table.schema, query.table.name],
        "join": [[child.name, parent.name] for child, parent in query.join],
        "order": [column.name for column in query.order],
        "single": collection.single,
        "members": [
            [
                member.name,
                member.column,
                reads[member.position].column.kind,
                reads[member.position].column.scale,
                member.form,
            ]
            for member in collection.members
        ],
        "children": [
            _collection_shape(inner, one)
            for inner, (_, _, one) in zip(query.children, collection.inner, strict=True)
        ],
    }
