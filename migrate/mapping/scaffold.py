"""
Writes a mapping file for an entity: every column, its children, its lookups, and what to look at.

Values to text. What the language cannot hold is left out and said in a comment; what a person has
to decide (secrets, expiry, soft deletes) is a comment, so that the file works as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from migrate.mapping.codecs import codec_for
from migrate.mapping.entities import Branch, Entity, template_text
from migrate.mapping.identifiers import name_problem
from migrate.mapping.naming import (
    collection_name,
    column_text,
    field_name,
    shown,
    snake,
    table_text,
    unused,
    yaml_list,
    yaml_text,
)
from migrate.model.catalogue import Spread, TableName
from migrate.model.values import Column, Kind, Table

Look = Callable[[Table, Sequence[str]], Spread | None]
"""How the values of columns are spread; None where that is not known."""

Corrections = Mapping[tuple[TableName, str], str]
"""Columns whose usual form some row does not fit: `text` or `drop`, by table and name."""

LONGEST_LOOKUP = 160
"""Characters that fit a further key, whatever is escaped in it."""

_LOOKED_UP = frozenset({Kind.INTEGER, Kind.TEXT, Kind.UUID, Kind.ENUM, Kind.DATE})
"""Kinds of which two values that SQL tells apart are two texts, on every server."""

_MOMENTS = frozenset({Kind.TIMESTAMP, Kind.TIMESTAMPTZ, Kind.DATE})

_EXPIRY = re.compile(r"(expire[sd]?|expiry|expiration|valid_(until|to|thru))(_(at|on|date|time))?")
_SOFT = re.compile(r"(deleted|removed|deletion)(_(at|on|date|time))?")
_SOFT_FLAG = re.compile(r"(is_)?(deleted|removed)")
_SECRET = re.compile(
    r"(^|_)(password|passwd|pwd|secret|token|api_key|private_key|pin|cvv|cvc|otp|salt|"
    r"card_number|credentials?)(_|$)"
)
_MAIL = re.compile(r"(^|_)(e_?mail|mail)(_addr(ess)?)?$")
_PERSONAL: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(^|_)(e_?mail|mail)(_|$)"), "an e-mail address"),
    (re.compile(r"(^|_)(phone|mobile|telephone|fax|cell)(_|$)"), "a telephone number"),
    (re.compile(r"(^|_)(birth|birthday|birthdate|dob)(_|$)"), "a date of birth"),
    (re.compile(r"(^|_)(ssn|passport|iban|tax_id|vat_id|national_id)(_|$)"), "an official number"),
    (re.compile(r"(^|_)(address|street|city|zip|postal|postcode)(_|$)"), "an address"),
    (re.compile(r"(^|_)(ip|ip_address|latitude|longitude)(_|$)"), "a place"),
    (re.compile(r"(^|_)(name|surname|firstname|lastname|nickname|username)$"), "a name"),
)


@dataclass(frozen=True, slots=True)
class Draft:
    """
    One mapping file that is not written yet.

    Args:
        children: Paths of the collections.

        lookups: Names of the lookups.

        notes: What a person should know, in sentences.
    """

    name: str
    table: TableName
    text: str
    children: tuple[str, ...]
    lookups: tuple[str, ...]
    notes: tuple[str, ...]


def draft(
    entity: Entity,
    look: Look = lambda _table, _columns: None,
    corrections: Corrections | None = None,
    default_schema: str | None = None,
) -> Draft:
    """
    The file of one entity.

    Args:
        default_schema: Of tables named without one, for children of a root in another schema.
    """
    return _Writer(entity, look, corrections or {}, default_schema).draft()


@dataclass(slots=True)
class _Writer:
    entity: Entity
    look: Look
    corrections: Corrections
    default_schema: str | None
    lines: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    lookups: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def draft(self) -> Draft:
        entity, table = self.entity, self.entity.table
        names = _field_names(table)
        self._head(table)
        self._add(0, "fields:")
        self._columns(1, table, names)
        self._children(0, entity.children, table, set(names.values()))
        self._lookups(names)
        return Draft(
            entity.name,
            TableName(table.schema, table.name),
            "\n".join([*self.lines, ""]),
            tuple(self.paths),
            tuple(self.lookups),
            tuple(self.notes),
        )

    def _add(self, depth: int, text: str) -> None:
        self.lines.append(f"{'  ' * depth}{text}")

    def _head(self, table: Table) -> None:
        entity = self.entity
        self._add(0, "# Made by `profile-migrate init`: correct it at will, then run")
        self._add(0, f"# `profile-migrate doctor {entity.name}`.")
        self._add(0, "version: 1")
        self._add(0, f"name: {entity.name}")
        self._add(0, "source:")
        self._add(1, f"table: {yaml_text(table_text(table.schema, table.name))}")
        self._add(1, f"key: {yaml_list(entity.key)}")
        for condition in _soft_deletes(table):
            self._add(1, f"# where: {yaml_text(condition)}  # leaves out rows marked as deleted")
        self._add(0, "target:")
        self._add(1, f"key: {yaml_text(entity.template)}")
        self._add(1, "type: hash")
        for column in _expiries(table):
            self._add(1, f"# ttl: {{column: {yaml_text(column)}}}  # records expire at that moment")

    def _columns(
        self, depth: int, table: Table, names: Mapping[str, str], passed: Sequence[str] = ()
    ) -> None:
        """
        One line for each column: its field or member, its form, and what to think about.
        """
        root = table is self.entity.table
        for column in table.columns:
            if column.name in passed:
                continue
            name = names.get(column.name)
            if name is None:
                self._add(
                    depth, f"# {shown(column.name)}: left out, a mapping cannot hold its name"
                )
                self._note(table, column, "its name holds what no mapping may hold")
                continue
            section, comment = self._section(table, column, name)
            if not root and self._is_dropped(table, column):
                self._add(depth, f"# {yaml_text(name)}: left out, {comment}")
                continue
            remarks = "; ".join(filter(None, [comment, _remark(name, root=root)]))
            line = f"{yaml_text(name)}: {section}"
            self._add(depth, f"{line}  # {remarks}" if remarks else line)

    def _section(self, table: Table, column: Column, name: str) -> tuple[str, str]:
        parts = [] if name == column.name else [f"column: {yaml_text(column.name)}"]
        correction = self.corrections.get((TableName(table.schema, table.name), column.name))
        kind = shown(column.type) or "no declared type"
        if correction == "drop":
            self._note(table, column, f"values of {kind} that have no exact form")
            return "{" + ", ".join([*parts, "drop: true"]) + "}", f"{kind}: some row has no text"
        if correction is not None:
            parts.append("as: text")
            comment = f"as SQL spells it: some row does not fit {kind}"
            return "{" + ", ".join(parts) + "}", comment
        if codec_for(column.kind, None) is None:
            parts.append("as: text")
            return "{" + ", ".join(parts) + "}", f"{kind} has no form of its own"
        return "{" + ", ".join(parts) + "}", ""

    def _note(self, table: Table, column: Column, why: str) -> None:
        self.notes.append(f"{shown(table.name)}.{shown(column.name)} does not move: {why}.")

    # Children

    def _children(
        self, depth: int, branches: Sequence[Branch], parent: Table, taken: set[str], path: str = ""
    ) -> None:
        written = False
        for branch in branches:
            if not written:
                self._add(depth, "children:")
                written = True
            name = unused(collection_name(branch.table.name, parent.name), taken)
            taken.add(name)
            self.paths.append(f"{path}{name}")
            self._add(depth + 1, f"{yaml_text(name)}:")
            self._child(depth + 2, branch, f"{path}{name}.")

    def _child(self, depth: int, branch: Branch, path: str) -> None:
        table = branch.table
        joined = [child for child, _ in branch.join]
        names = _field_names(table)
        moved = [c for c in table.columns if c.name in names and c.name not in joined]
        moved = [c for c in moved if not self._is_dropped(table, c)]
        passed = joined if moved else []
        self._add(depth, f"table: {yaml_text(self._child_table(table))}")
        pairs = (f"{yaml_text(child)}: {yaml_text(up)}" for child, up in branch.join)
        self._add(depth, f"join: {{{', '.join(pairs)}}}")
        order = _order(table, joined)
        if order:
            self._add(depth, f"order_by: {yaml_list(order)}")
        if self._is_plain(table, moved, branch):
            self._add(depth, f"column: {yaml_text(moved[0].name)}")
            return
        self._add(depth, "columns:")
        self._columns(depth + 1, table, names, passed)
        self._children(depth, branch.children, table, set(names.values()), path)

    def _is_dropped(self, table: Table, column: Column) -> bool:
        name = TableName(table.schema, table.name), column.name
        return self.corrections.get(name) == "drop"

    def _is_plain(self, table: Table, moved: Sequence[Column], branch: Branch) -> bool:
        """
        One column says it all, as in a table that joins two others.
        """
        if len(moved) != 1 or branch.children:
            return False
        corrected = (TableName(table.schema, table.name), moved[0].name) in self.corrections
        odd = codec_for(moved[0].kind, None) is None or corrected
        return not odd and not (moved[0].kind is Kind.JSON and moved[0].nullable)

    def _child_table(self, table: Table) -> str:
        """
        As its mapping has to name it: without a schema it would be looked for in the root's.
        """
        root = self.entity.table.schema
        if table.schema == root:
            return table_text(None, table.name)
        return table_text(table.schema or self.default_schema, table.name)

    # Lookups

    def _lookups(self, names: Mapping[str, str]) -> None:
        found = list(self._unique(names))
        found += self._mails(names, {columns for columns, _, _ in found})
        taken: set[str] = set()
        for place, (columns, unique, comment) in enumerate(found):
            if place == 0:
                self._add(0, "lookups:")
            fields = [names[column] for column in columns]
            part = unused("_".join(fields)[:100], taken)
            taken.add(part)
            if comment:
                self._add(1, f"# {comment}")
            # Of a key of several columns `{a}:{b}` could be `email:{b}`.
            prefix = self.entity.prefix
            if len(self.entity.key) > 1:
                prefix = f"{prefix.removesuffix(':')}."
            key = yaml_text(template_text(f"{prefix}{part}:", fields))
            how = "unique: true" if unique else "type: set"
            self.lookups.append(f"by_{part}")
            self._add(1, f"{yaml_text(f'by_{part}')}: {{key: {key}, {how}}}")

    def _unique(self, names: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], bool, str]]:
        table, key = self.entity.table, set(self.entity.key)
        seen: list[set[str]] = []
        for columns in table.unique:
            if set(columns) in seen or set(columns) >= key:
                continue
            seen.append(set(columns))
            if not self._can_look_up(columns, names):
                continue
            spread = self.look(table, columns)
            if spread is None or spread.longest <= LONGEST_LOOKUP:
                yield columns, True, ""

    def _mails(
        self, names: Mapping[str, str], known: set[tuple[str, ...]]
    ) -> Iterator[tuple[tuple[str, ...], bool, str]]:
        for column in self.entity.table.columns:
            columns = (column.name,)
            mail = column.kind is Kind.TEXT and _MAIL.search(names.get(column.name, ""))
            if not mail or columns in known or column.name in self.entity.key:
                continue
            if not self._can_look_up(columns, names):
                continue
            spread = self.look(self.entity.table, columns)
            if spread is None:
                yield columns, False, "SQL does not keep it unique, and the table is large."
            elif spread.longest > LONGEST_LOOKUP:
                continue
            elif spread.repeated:
                yield columns, False, "Several rows share a value."
            else:
                yield columns, True, _UNIQUE_TODAY

    def _can_look_up(self, columns: Sequence[str], names: Mapping[str, str]) -> bool:
        table = self.entity.table
        return all(
            name in names
            and (column := table.column(name)) is not None
            and column.kind in _LOOKED_UP
            and (TableName(table.schema, table.name), name) not in self.corrections
            for name in columns
        )


_UNIQUE_TODAY = "SQL does not keep it unique, but today it is: a row that repeats one is a reject."


def _field_names(table: Table) -> dict[str, str]:
    """
    A field for each column that a mapping can name.
    """
    found: dict[str, str] = {}
    for column in table.columns:
        if not name_problem(column.name):
            found[column.name] = field_name(column.name, found.values())
    return found


def _order(table: Table, joined: Sequence[str]) -> list[str]:
    """
    The child's own key, without what is the same for all children of one parent.
    """
    unsorted = (Kind.JSON, Kind.UNSUPPORTED)
    for unique in table.unique:
        columns = [column for name in unique if (column := table.column(name)) is not None]
        sure = not any(column.nullable or column.kind in unsorted for column in columns)
        if sure and not any(name_problem(name) for name in unique):
            return [name for name in unique if name not in joined]
    return []


def _soft_deletes(table: Table) -> Iterator[str]:
    for column in table.columns:
        name = snake(column.name)
        if name_problem(column.name):
            continue
        if column.kind in _MOMENTS and column.nullable and _SOFT.fullmatch(name):
            yield f"{column_text(column.name)} IS NULL"
        if column.kind is Kind.BOOLEAN and _SOFT_FLAG.fullmatch(name):
            yield f"NOT {column_text(column.name)}"


def _expiries(table: Table) -> Iterator[str]:
    for column in table.columns:
        fits = column.kind in _MOMENTS and _EXPIRY.fullmatch(snake(column.name))
        if fits and not name_problem(column.name):
            yield column.name


def _remark(name: str, *, root: bool) -> str:
    if _SECRET.search(name):
        return "a secret? {drop: true} keeps it in SQL" + (", {mask: sha256} hides it" * root)
    what = next((what for form, what in _PERSONAL if form.search(name)), None)
    return f"personal: {what}" if what else ""
