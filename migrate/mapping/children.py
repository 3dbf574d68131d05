"""
Binds the child collections of a mapping to the live schema: what to read, and how it becomes JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from migrate.documents.reader import Loc
from migrate.errors import Problem
from migrate.mapping.codecs import Codec, codec_for, forms_of
from migrate.mapping.json_text import Collection, Member, value_of
from migrate.mapping.values import ChildSpec, FieldSpec, Mapping
from migrate.model.ports import ChildQuery
from migrate.model.values import Column, ColumnRead, Kind, Table

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

_NUMBERS = frozenset({Kind.INTEGER, Kind.DECIMAL})


@dataclass(frozen=True, slots=True)
class BoundChild:
    """
    One collection, ready to be read and encoded.
    """

    name: str
    collection: Collection
    query: ChildQuery


class ChildBinder:
    """
    Looks every name of the collections up and collects what does not fit.

    Args:
        table: The root's, with the tables of all collections in `children`.
    """

    def __init__(self, mapping: Mapping, table: Table) -> None:
        self.mapping = mapping
        self.table = table
        self.problems: list[Problem] = []

    def bind(self) -> list[BoundChild]:
        """
        The collections of the root; `problems` tells what was wrong.
        """
        root_key = (self.mapping.key,)
        return self._all((), "", self.mapping.children, self.table, root_key)

    def _all(
        self,
        loc: Loc,
        prefix: str,
        specs: Sequence[ChildSpec],
        parent: Table,
        keys: Sequence[tuple[str, ...]],
    ) -> list[BoundChild]:
        found = []
        for spec in specs:
            here = (*loc, "children", spec.name)
            path = f"{prefix}{spec.name}"
            table = self.table.children.get(path)
            if table is None:
                # `find_table` reports it; a table that was never looked for is a bug there.
                self._problem((*here, "table"), "missing-table", f"No table '{spec.table}'.", "")
                continue
            found.append(self._one(here, path, spec, table, parent, keys))
        return found

    def _one(
        self,
        loc: Loc,
        path: str,
        spec: ChildSpec,
        table: Table,
        parent: Table,
        keys: Sequence[tuple[str, ...]],
    ) -> BoundChild:
        join = list(self._join(loc, spec, table, parent))
        self._covers(loc, spec, parent, keys)
        reads: list[ColumnRead] = []
        members = list(self._members(loc, spec, table, reads))
        order = list(self._order(loc, spec, table))
        inner = self._all(loc, f"{path}.", spec.children, table, table.unique)
        names = {member.name for member in members}
        for child in inner:
            if child.name in names:
                self._problem(
                    (*loc, "children", child.name),
                    "field-twice",
                    f"'{child.name}' is a member of each child already.",
                    "Rename one of them.",
                    key=True,
                )
        collection = Collection(
            path,
            sorted(members, key=lambda member: member.name.encode()),
            [(one.name, len(reads) + at, one.collection) for at, one in enumerate(inner)],
            single=spec.single,
        )
        query = ChildQuery(
            path=path,
            table=table,
            join=tuple(join),
            columns=tuple(reads),
            order=complete(order, table),
            children=tuple(one.query for one in inner),
        )
        return BoundChild(spec.name, collection, query)

    def _join(
        self, loc: Loc, spec: ChildSpec, table: Table, parent: Table
    ) -> Iterator[tuple[Column, Column]]:
        for child_name, parent_name in spec.join:
            here = (*loc, "join", child_name)
            child = self._column(here, table, child_name, key=True)
            above = self._column(here, parent, parent_name)
            if child is None or above is None:
                continue
            for column in (child, above):
                if column.kind not in KEY_KINDS:
                    self._problem(
                        here,
                        "join-type",
                        f"Column '{column.name}' has type {column.type}, which has no exact text.",
                        "Join by integers, text, uuid, dates or decimals.",
                    )
            if child.kind != above.kind and not {child.kind, above.kind} <= _NUMBERS:
                self._problem(
                    here,
                    "join-type",
                    f"Column '{child.name}' is {child.type} and '{above.name}' is {above.type}.",
                    "Join columns of one type, or give the child a view with a cast.",
                )
            yield child, above

    def _covers(
        self, loc: Loc, spec: ChildSpec, parent: Table, keys: Sequence[tuple[str, ...]]
    ) -> None:
        above = {name for _, name in spec.join}
        if any(parent.column(name) is None for name in above):
            return  # told already, and it may be the one that is missing
        if any(above >= set(key) for key in keys):
            return
        known = "; ".join(", ".join(key) for key in keys)
        self._problem(
            (*loc, "join"),
            "join-key",
            f"The join does not cover a key of '{parent.name}': a child could have two parents.",
            f"Join with all of: {known}." if known else "Give that table a primary key.",
        )

    def _members(
        self, loc: Loc, spec: ChildSpec, table: Table, reads: list[ColumnRead]
    ) -> Iterator[Member]:
        for place, given in enumerate(spec.columns):
            at = _member_at(loc, spec, place, given)
            column = self._column(at, table, given.column)
            if column is None:
                continue
            codec = self._codec(at, given, column)
            if codec is None:
                continue
            if spec.single and column.kind is Kind.JSON and column.nullable:
                self._problem(
                    at,
                    "json-null",
                    f"In a list of values NULL and JSON's null of '{column.name}' are the same.",
                    f"Write `columns: [{column.name}]`, or declare the column NOT NULL.",
                )
            verbatim = given.form == "text" and codec_for(column.kind, None) is not codec
            read = ColumnRead(column, verbatim)
            position = len(reads)
            reads.append(read)
            value = value_of(column.kind, codec)
            yield Member(given.name, position, column.name, value, codec.form)

    def _codec(self, at: Loc, given: FieldSpec, column: Column) -> Codec | None:
        codec = codec_for(column.kind, given.form)
        if codec is not None:
            return codec
        if given.form is None:
            self._problem(
                at,
                "no-codec",
                f"Column '{column.name}' has type {column.type}, whose text depends on settings.",
                f"Take the server's text: `columns: {{{given.name}: {{as: text}}}}`.",
            )
        else:
            self._problem(
                at,
                "wrong-form",
                f"`as: {given.form}` does not fit column '{column.name}' of type {column.type}.",
                f"Known for it: {', '.join(forms_of(column.kind))}.",
            )
        return None

    def _order(self, loc: Loc, spec: ChildSpec, table: Table) -> Iterator[Column]:
        for place, name in enumerate(spec.order_by):
            here = (*loc, "order_by", place)
            column = self._column(here, table, name)
            if column is None:
                continue
            if column.kind in (Kind.JSON, Kind.UNSUPPORTED):
                self._problem(
                    here,
                    "order-type",
                    f"Column '{name}' has type {column.type}, which has no order.",
                    "Order by another column.",
                )
            yield column

    def _column(self, loc: Loc, table: Table, name: str, *, key: bool = False) -> Column | None:
        column = table.column(name)
        if column is None:
            names = [one.name for one in table.columns]
            near = get_close_matches(name, names, n=1)
            fix = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(names)}."
            what = f"Table '{table.name}' has no column '{name}'."
            self._problem(loc, "missing-column", what, fix, key=key)
        return column

    def _problem(self, loc: Loc, rule: str, message: str, fix: str, *, key: bool = False) -> None:
        self.problems.append(self.mapping.problem(loc, rule, message, fix, key=key))


def _member_at(loc: Loc, spec: ChildSpec, place: int, given: FieldSpec) -> Loc:
    # A list of names is found by place, sections by name; the reader takes the longest that exists.
    if spec.single:
        return (*loc, "column")
    plain = given.form is None and given.name == given.column
    return (*loc, "columns", place) if plain else (*loc, "columns", given.name)


def complete(order: Sequence[Column], table: Table) -> tuple[Column, ...]:
    """
    The order with what breaks its ties: a key that is never NULL, or else every column.
    """
    for unique in table.unique:
        columns = [table.column(name) for name in unique]
        sure = [column for column in columns if column is not None and not column.nullable]
        if len(sure) == len(unique):
            return (*order, *(column for column in sure if column not in order))
    return (*order, *(column for column in table.columns if column not in order))
