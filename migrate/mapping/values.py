"""
A mapping file as frozen values, with the places they came from.

Nothing here has seen a database: whether the columns exist is found out by `compile`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from migrate.documents.reader import Document, Loc
from migrate.errors import Problem
from migrate.mapping.template import Template
from migrate.model.filter import Filter


@dataclass(frozen=True, slots=True)
class Reserved:
    """
    Names of the fields that every record carries for us; no mapped field may have one.
    """

    version: str = "_v"
    digest: str = "_h"
    tombstone: str = "_t"

    def names(self) -> tuple[str, str, str]:
        """
        All three.
        """
        return self.version, self.digest, self.tombstone


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """
    One field of the record and the column that fills it.

    Args:
        form: The word after `as:`; None is the usual form of the column's kind.

        drop: The column never leaves the source; `name` is then only a name.
    """

    name: str
    column: str
    form: str | None = None
    drop: bool = False


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
    document: Document = field(default=Document("", None), repr=False, compare=False)

    def problem(self, loc: Loc, rule: str, message: str, fix: str, *, key: bool = False) -> Problem:
        """
        What is wrong at a place of this mapping's file: of the key there, or of its value.
        """
        line, column = self.document.position(loc, key=key)
        return Problem(self.file, line, column, rule, message, fix)
