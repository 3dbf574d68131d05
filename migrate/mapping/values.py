"""
A mapping file as frozen values, with the places they came from.

Nothing here has seen a database: whether the columns exist is found out by `compile`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from migrate.documents.reader import Document, Loc
from migrate.errors import Problem
from migrate.mapping.template import Template
from migrate.model.filter import Filter
from migrate.model.values import Expiry, LookupKind, RecordType


@dataclass(frozen=True, slots=True)
class Reserved:
    """
    Names of the fields that every record carries for us; no mapped field may have one.
    """

    version: str = "_v"
    digest: str = "_h"
    tombstone: str = "_t"
    lookups: str = "_l"
    """The record's entries in lookups (`model.lookups`)."""
    expires: str = "_e"
    """The instant at which the record expires, in milliseconds since 1970."""

    def names(self) -> tuple[str, str, str, str, str]:
        """
        All of them.
        """
        return self.version, self.digest, self.tombstone, self.lookups, self.expires


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """
    One field of the record and the column that fills it.

    Args:
        form: The word after `as:`; None is the usual form of the column's kind.

        drop: The column never leaves the source; `name` is then only a name.

        mask: One-way form that is written instead of the value; None writes the value.
    """

    name: str
    column: str
    form: str | None = None
    drop: bool = False
    mask: str | None = None


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """
    Rows of another table as one field of the record.

    Args:
        join: Pairs of a column of the child and a column of its parent.

        order_by: Ties are broken by a unique key of the child.

        columns: Members of each child; one of them alone where `single`.

        single: The field is a list of values and not of objects.
    """

    name: str
    schema: str | None
    table: str
    join: tuple[tuple[str, str], ...]
    order_by: tuple[str, ...]
    columns: tuple[FieldSpec, ...]
    single: bool = False
    children: tuple[ChildSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class LookupSpec:
    """
    Further keys that find records by other fields.

    Args:
        template: Of the further key; its placeholders are fields of the record, or there is none.

        unique: At most one record has the key.

        score: Field that orders a sorted set.
    """

    name: str
    kind: LookupKind
    template: Template
    unique: bool = False
    score: str | None = None

    def fields(self) -> tuple[str, ...]:
        """
        Every field that it reads.
        """
        return (*self.template.names, *((self.score,) if self.score is not None else ()))


NOW = "now"
"""As a value of `delete`: the time of the delete."""


@dataclass(frozen=True, slots=True)
class DeleteSpec:
    """
    What a delete means on the way back to SQL: columns and what they are set to.
    """

    columns: tuple[tuple[str, str | int | bool | None], ...]


class IdMaker(StrEnum):
    """
    Who makes the id of a new row while Redis is the authority.
    """

    SQL = "sql"
    APPLICATION = "application"


@dataclass(frozen=True, slots=True)
class IdsSpec:
    """
    Where new ids come from while Redis is the authority.

    Args:
        column: Of the key.

        sequence: Schema and name of the SQL sequence; None is the column's own.
    """

    made_by: IdMaker
    column: str
    sequence: tuple[str | None, str] | None = None


_Collection = tuple[Loc, str, ChildSpec]


@dataclass(frozen=True, slots=True)
class Mapping:
    """
    How the rows of one table become records.

    Args:
        file: As the user named it.

        schema: None is the source's default schema.

        key: Columns of the key, in order.

        where_text: The filter as it was written, to be shown.

        fields: None takes every column as it is.

        children: Collections of child rows, each a field of the record.

        record: What a record is in Redis.

        lookups: Further keys that find the records, in the order of the file.

        expiry: Where the instant comes from at which a record expires.

        ttl_seconds: After the beginning of the run; where expiry is fixed.

        ttl_column: That holds the instant; where expiry is a column.

        delete: What a delete means on the way back; None removes the row.

        ids: Who makes new ids while Redis is the authority.

        document: Where each part was written, for problems that only the live schema shows.
    """

    name: str
    file: str
    schema: str | None
    table: str
    key: tuple[str, ...]
    template: Template
    where: Filter | None = None
    where_text: str | None = None
    reserved: Reserved = Reserved()
    fields: tuple[FieldSpec, ...] | None = None
    children: tuple[ChildSpec, ...] = ()
    record: RecordType = RecordType.HASH
    lookups: tuple[LookupSpec, ...] = ()
    expiry: Expiry = Expiry.NONE
    ttl_seconds: int | None = None
    ttl_column: str | None = None
    delete: DeleteSpec | None = None
    ids: IdsSpec | None = None
    document: Document = field(default=Document("", None), repr=False, compare=False)

    def collections(self) -> Iterator[tuple[Loc, str, ChildSpec]]:
        """
        Every collection at any depth: its place in the file, its path, and what it says.
        """

        def below(loc: Loc, path: str, specs: tuple[ChildSpec, ...]) -> Iterator[_Collection]:
            for spec in specs:
                here, name = (*loc, "children", spec.name), f"{path}{spec.name}"
                yield here, name, spec
                yield from below(here, f"{name}.", spec.children)

        return below((), "", self.children)

    def problem(self, loc: Loc, rule: str, message: str, fix: str, *, key: bool = False) -> Problem:
        """
        What is wrong at a place of this mapping's file: of the key there, or of its value.
        """
        line, column = self.document.position(loc, key=key)
        return Problem(self.file, line, column, rule, message, fix)
