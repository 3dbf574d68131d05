"""
Binds the lookups of a mapping to its fields: what to read, and how it becomes a further key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as Map
from dataclasses import dataclass

from migrate.documents.reader import Loc
from migrate.documents.shape import suggest
from migrate.errors import Problem
from migrate.mapping.codecs import CODECS, TEXT, Codec
from migrate.mapping.instants import score_of
from migrate.mapping.template import Template
from migrate.mapping.values import LookupSpec, Mapping
from migrate.model.values import Column, Entry, Kind, Row


@dataclass(frozen=True, slots=True)
class Field:
    """
    One field of the record: where its cell stands in a row and how it becomes bytes.
    """

    name: str
    position: int
    column: Column
    codec: Codec


@dataclass(frozen=True, slots=True)
class BoundLookup:
    """
    One lookup, ready to name the further key of a record.

    Args:
        names: Fields that its key is made of, in the template's order.

        order: Field that gives the score, and how its cell becomes one.
    """

    spec: LookupSpec
    names: tuple[bytes, ...]
    columns: tuple[Column, ...]
    order: tuple[Field, Callable[[str], bytes]] | None = None

    @property
    def template(self) -> Template:
        """
        Of the further key.
        """
        return self.spec.template

    def entry(self, held: Map[bytes, bytes], row: Row) -> Entry:
        """
        The entry of a record with these fields; without a key where one of its fields is NULL.

        The key is made of what the fields store, so that records with different values never meet.

        Raises:
            Unencodable: The score is no number.
        """
        kind = self.spec.kind.value.encode()
        parts: list[str | bytes] = []
        for name, column in zip(self.names, self.columns, strict=True):
            value = held.get(name)
            if value is None:
                return Entry(kind, b"")
            parts.append(value if column.kind is Kind.BYTES else value.decode())
        if self.order is None:
            return Entry(kind, self.template.render(parts))
        field, score = self.order
        cell = row[field.position]
        if cell is None:
            return Entry(kind, b"")
        return Entry(kind, self.template.render(parts), score(cell))


class LookupBinder:
    """
    Looks the fields of the lookups up and collects what does not fit.

    Args:
        fields: Of the record, as far as they fit.
    """

    def __init__(self, mapping: Mapping, fields: Sequence[Field]) -> None:
        self.mapping = mapping
        self.fields = {field.name: field for field in fields}
        self.problems: list[Problem] = []
        # A field that was listed and does not fit has been told already.
        self._told = {spec.name for spec in mapping.fields or ()} - self.fields.keys()

    def bind(self) -> tuple[BoundLookup, ...]:
        """
        The lookups in the order of the file; `problems` tells what was wrong.
        """
        return tuple(self._one(spec) for spec in self.mapping.lookups)

    def _one(self, spec: LookupSpec) -> BoundLookup:
        loc: Loc = ("lookups", spec.name)
        found = list(self._named(spec, (*loc, "key")))
        order = None if spec.score is None else self._order(spec.score, (*loc, "score"))
        return BoundLookup(
            spec,
            tuple(field.name.encode() for field in found),
            tuple(field.column for field in found),
            order,
        )

    def _named(self, spec: LookupSpec, loc: Loc) -> Iterator[Field]:
        for name, start in zip(spec.template.names, spec.template.starts, strict=True):
            field = self._field(name, loc, start)
            if field is not None:
                yield field

    def _order(self, name: str, loc: Loc) -> tuple[Field, Callable[[str], bytes]] | None:
        field = self._field(name, loc, 0)
        if field is None:
            return None
        score = score_of(field.column.kind)
        usual = field.codec is not TEXT or TEXT in CODECS[field.column.kind]
        if score is not None and usual:
            return field, score
        of = f"type {field.column.type}" if field.column.type else "no declared type"
        self._problem(
            loc,
            0,
            "lookup-score-type",
            f"Field '{name}' has {of}{'' if usual else ' `as: text`'}, which is no number.",
            "Choose a number, a truth value, a date or a time stamp, without `as: text`.",
        )
        return None

    def _field(self, name: str, loc: Loc, start: int) -> Field | None:
        field = self.fields.get(name)
        if field is None and name not in self._told:
            self._problem(
                loc,
                start,
                "lookup-field",
                f"The record has no field '{name}'.",
                suggest(name, tuple(self.fields), "Fields"),
            )
        return field

    def _problem(self, loc: Loc, start: int, rule: str, message: str, fix: str) -> None:
        line, column = self.mapping.document.inside(loc, start)
        self.problems.append(Problem(self.mapping.file, line, column, rule, message, fix))
