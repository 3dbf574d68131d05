"""
Finds the entities of a schema: which tables become mappings, and whose rows become children.

Values in, values out. Without being told it takes what looks like a profile:

1. A table is *like a profile* when it has a column such as an e-mail address, or is called after
   people (`users`, `customer_accounts`). It is a root, unless it belongs to another such table: by
   a foreign key in its own key, or by one that is never NULL where nobody refers to it.
2. Where no table is like a profile, the roots are the tables that belong to no other one. Tables
   of nothing but a key and a label, to which several others or one with other parents refer, are
   lookup tables, and no roots.
3. Every other table becomes children of at most one table, of one whose key its foreign key
   covers: where the foreign key is never NULL before where it may be, and of the nearest parent
   (lines go to invoices, although they name the customer, too).

Self references are cut, and so are cycles, at the root.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from migrate.mapping.children import KEY_KINDS
from migrate.mapping.identifiers import name_problem
from migrate.mapping.naming import ascii_snake, shown, singular, snake, unused
from migrate.mapping.template import MIN_PREFIX, Template, TemplateError
from migrate.model.catalogue import Catalogue, ForeignKey, TableName
from migrate.model.values import Column, Kind, Table

MAX_DEPTH = 8
"""Collections inside of each other, at most; what is deeper stays in SQL."""

_PEOPLE = frozenset(
    [
        *("user", "customer", "client", "member", "person", "people", "patient", "student"),
        *("employee", "account", "profile", "subscriber", "contact", "citizen", "guest"),
    ]
)
_TELLING = frozenset(
    [
        *("email", "mail", "phone", "mobile", "telephone", "fax", "birthday", "birthdate", "dob"),
        *("ssn", "password", "passwd", "username", "firstname", "lastname", "surname", "nickname"),
    ]
)
_TELLING_NAMES = re.compile(r"e_mail|(first|last|given|family|middle|full|user)_name|birth_date")

_NUMBERS = frozenset({Kind.INTEGER, Kind.DECIMAL})


@dataclass(frozen=True, slots=True)
class Branch:
    """
    A table whose rows become children, and those below it.

    Args:
        join: Pairs of a column of the table and the column of its parent.
    """

    table: Table
    join: tuple[tuple[str, str], ...]
    children: tuple[Branch, ...] = ()


@dataclass(frozen=True, slots=True)
class Entity:
    """
    A root table that becomes a mapping.

    Args:
        name: Of the mapping.

        prefix: Text of the key template before its first placeholder.
    """

    name: str
    table: Table
    key: tuple[str, ...]
    prefix: str
    children: tuple[Branch, ...] = ()

    @property
    def template(self) -> str:
        """
        The key template.
        """
        return template_text(self.prefix, self.key)


@dataclass(frozen=True, slots=True)
class Outline:
    """
    The entities of a schema, and why a table is in none of them.
    """

    entities: tuple[Entity, ...]
    left_out: Mapping[TableName, str]


def outline(catalogue: Catalogue, named: Sequence[TableName] = ()) -> Outline:
    """
    What a scaffold is made of.

    Args:
        named: The roots; without any they are chosen by the rule above.
    """
    schema = _Schema.of(catalogue)
    roots = [name for name in named if name in schema.keys] if named else schema.roots()
    owners = schema.owners(roots)
    entities = []
    names: set[str] = set()
    for root in roots:
        name = unused(ascii_snake(root.name) or "table", names)
        names.add(name)
        prefix = f"{name}:" if len(name) + 1 >= MIN_PREFIX else f"{name}-record:"
        entities.append(
            Entity(
                name=name,
                table=schema.tables[root],
                key=schema.keys[root],
                prefix=prefix,
                children=schema.branches(root, owners),
            )
        )
    return Outline(tuple(entities), schema.left_out(entities, named))


def template_text(prefix: str, names: Iterable[str]) -> str:
    """
    A template of placeholders with a colon between them.
    """
    return prefix + ":".join(f"{{{name}}}" for name in names)


def usable_key(table: Table) -> tuple[str, ...] | str:
    """
    The columns that identify a row, the primary key first; or why there are none, in words.
    """
    reason = "it has no primary key and no unique index"
    for names in table.unique:
        columns = [column for name in names if (column := table.column(name)) is not None]
        problem = _key_problem(table, names, columns)
        if problem is None:
            return names
        reason = problem
    if table.relation != "table" and not table.unique:
        return f"a {table.relation} keeps nothing unique"
    return reason


def _key_problem(table: Table, names: Sequence[str], columns: Sequence[Column]) -> str | None:
    text = ", ".join(map(shown, names))
    if any(column.nullable for column in columns) and tuple(names) != table.primary_key:
        return f"the key ({text}) may be NULL"
    for column in columns:
        if column.kind not in KEY_KINDS:
            called = f"of type {shown(column.type)}" if column.type else "without a type"
            return f"the key ({text}) has a column {called}, which has no exact order and text"
    try:
        parsed = Template.parse(template_text("a" * MAX_PREFIX + ":", names))
    except TemplateError:
        return f"the name of a column of the key ({text}) cannot stand in a template"
    if parsed.names != tuple(names) or any(map(name_problem, names)):
        return f"the name of a column of the key ({text}) cannot stand in a mapping"
    return None


NOT_CHOSEN = "it is like no profile, and no root leads to it"
NOT_REACHED = "no root leads to it"
"""Why a table that could be moved is in no mapping."""

MAX_PREFIX = 60
"""Characters of the longest prefix that is made up."""


@dataclass(frozen=True, slots=True)
class _Edge:
    """
    A foreign key by which rows of one table can be children of rows of another.

    Args:
        sure: It is never NULL.

        own: Its columns are among the child's key.

        place: Of its first column in the table, to choose between equals on every server alike.
    """

    child: TableName
    parent: TableName
    join: tuple[tuple[str, str], ...]
    sure: bool
    own: bool
    place: int

    @property
    def rank(self) -> tuple[bool, bool, int]:
        return not self.sure, not self.own, self.place


@dataclass(slots=True)
class _Schema:
    """
    Tables and the edges between them, all that no mapping could hold taken off.
    """

    tables: dict[TableName, Table]
    keys: dict[TableName, tuple[str, ...]]
    keyless: dict[TableName, str]
    any_case: bool = False
    edges: list[_Edge] = field(default_factory=list)

    @classmethod
    def of(cls, catalogue: Catalogue) -> _Schema:
        tables: dict[TableName, Table] = {}
        keys: dict[TableName, tuple[str, ...]] = {}
        without = dict(catalogue.unusable)
        for table in catalogue.tables:
            name = TableName(table.schema, table.name)
            if any(name_problem(part) for part in name if part is not None):
                without[name] = "its name holds what no mapping may hold"
                continue
            tables[name] = table
            key = usable_key(table)
            if isinstance(key, str):
                without[name] = key
            else:
                keys[name] = key
        schema = cls(tables, keys, without, any_case=catalogue.any_case)
        schema.edges = [edge for key in catalogue.foreign_keys for edge in schema._edge(key)]
        return schema

    def _edge(self, key: ForeignKey) -> Iterator[_Edge]:
        child, parent = self._called(key.child), self._called(key.parent)
        if child is None or parent is None or child == parent:
            return
        table, above = self.tables[child], self.tables[parent]
        columns = _columns(table, key.columns)
        ups = _columns(above, key.parent_columns or above.primary_key)
        if not columns or len(columns) != len(ups) or not _joinable(columns, ups):
            return
        joined = {column.name for column in ups}
        own = {column.name for column in columns}
        wanted = [self.keys[parent]] if parent in self.keys else []
        if not any(joined >= set(unique) for unique in wanted):
            return
        yield _Edge(
            child=child,
            parent=parent,
            join=tuple((one.name, up.name) for one, up in zip(columns, ups, strict=True)),
            sure=not any(column.nullable for column in columns),
            own=own <= set(self.keys.get(child, ())),
            place=min(table.columns.index(column) for column in columns),
        )

    def _called(self, name: TableName) -> TableName | None:
        """
        The table of this name, as it is itself called.
        """
        if name in self.tables:
            return name
        if not self.any_case:
            return None
        near = [
            one
            for one in self.tables
            if one.schema == name.schema and one.name.casefold() == name.name.casefold()
        ]
        return near[0] if len(near) == 1 else None

    # Roots

    def roots(self) -> list[TableName]:
        """
        The tables that become mappings, in the order of their names.
        """
        people = {name for name in self.keys if _like_a_profile(self.tables[name])}
        if people:
            found = [name for name in people if not self._belongs(name, people)]
            return self._sorted(found or [self._first(people)])
        labels = {name for name in self.keys if self._is_lookup(name)}
        left = set(self.keys) - labels or set(self.keys)
        edges = [edge for edge in self.edges if edge.parent in left]
        owned = {edge.child for edge in edges if edge.sure}
        roots = left - owned
        while rest := left - self._reached(roots, [edge for edge in edges if edge.sure]):
            # A cycle: it is cut at the table that most others name.
            roots.add(self._first(rest))
        return self._sorted(roots)

    def _belongs(self, name: TableName, people: set[TableName]) -> bool:
        edges = [edge for edge in self.edges if edge.child == name and edge.parent in people]
        named = any(edge.parent == name for edge in self.edges)
        return any(edge.own or (edge.sure and not named) for edge in edges)

    def _is_lookup(self, name: TableName) -> bool:
        table = self.tables[name]
        if any(edge.child == name for edge in self.edges):
            return False
        if len(table.columns) > len(self.keys[name]) + 1:
            return False
        below = self._reached({name}, self.edges)
        children = {edge.child for edge in self.edges if edge.parent == name}
        apart = [one for one in children if not self._is_under(one, children - {one})]
        mixed = any(e.child in children and e.parent not in below for e in self.edges)
        return len(apart) > 1 or mixed

    def _is_under(self, name: TableName, others: set[TableName]) -> bool:
        return name in self._reached(others, self.edges)

    def _first(self, names: Iterable[TableName]) -> TableName:
        def rank(name: TableName) -> tuple[int, str, TableName]:
            named = {edge.child for edge in self.edges if edge.parent == name}
            return -len(named), snake(name.name), name

        return min(names, key=lambda name: (rank(name)[:2], str(name)))

    def _sorted(self, names: Iterable[TableName]) -> list[TableName]:
        return sorted(names, key=lambda name: (snake(name.name), str(name)))

    def _reached(self, roots: set[TableName], edges: Sequence[_Edge]) -> set[TableName]:
        found = set(roots)
        while more := {e.child for e in edges if e.parent in found} - found:
            found |= more
        return found

    # Children

    def owners(self, roots: Sequence[TableName]) -> dict[TableName, _Edge]:
        """
        For each table below a root the one edge that puts it there.
        """
        placed = set(roots)
        owners: dict[TableName, _Edge] = {}
        sure = [edge for edge in self.edges if edge.sure]
        for edges in self._turns(sure):
            while True:
                reached = self._reached(placed, edges)
                found = self._choose(edges, placed, reached)
                if not found:
                    break
                owners |= found
                placed |= set(found)
        return owners

    def _turns(self, sure: Sequence[_Edge]) -> Iterator[Sequence[_Edge]]:
        """
        Sure edges as far as they lead, then all, and again while an unsure one led to new ones.
        """
        for _ in self.tables:
            yield sure
            yield self.edges

    def _choose(
        self, edges: Sequence[_Edge], placed: set[TableName], reached: set[TableName]
    ) -> dict[TableName, _Edge]:
        """
        The tables whose nearest parent is placed; in a cycle, one of those with any placed parent.
        """
        found: dict[TableName, _Edge] = {}
        spare: list[_Edge] = []
        below = cache(lambda name: self._reached({name}, edges))
        for child in self._sorted(reached - placed):
            ways = sorted((e for e in edges if e.child == child and e.parent in reached), key=_rank)
            near = [way for way in ways if not _is_beyond(way, ways, below)] or ways
            if near and near[0].parent in placed:
                found[child] = near[0]
            spare += [way for way in ways if way.parent in placed][:1]
        return found or {edge.child: edge for edge in spare[:1]}

    def branches(
        self, parent: TableName, owners: Mapping[TableName, _Edge], depth: int = 1
    ) -> tuple[Branch, ...]:
        """
        The tables that are put below this one.
        """
        if depth > MAX_DEPTH:
            return ()
        below = [name for name, edge in owners.items() if edge.parent == parent]
        return tuple(
            Branch(
                self.tables[name],
                owners[name].join,
                self.branches(name, owners, depth + 1),
            )
            for name in self._sorted(below)
        )

    def left_out(
        self, entities: Sequence[Entity], named: Sequence[TableName]
    ) -> dict[TableName, str]:
        """
        Every table that is nowhere, with the reason.
        """
        used: set[TableName] = set()
        for entity in entities:
            used.add(TableName(entity.table.schema, entity.table.name))
            used |= set(_tables(entity.children))
        quiet = NOT_REACHED if named else NOT_CHOSEN
        found = {name: self.keyless.get(name, quiet) for name in [*self.keyless, *self.tables]}
        return {name: why for name, why in sorted(found.items(), key=str) if name not in used}


def _tables(branches: Sequence[Branch]) -> Iterator[TableName]:
    for branch in branches:
        yield TableName(branch.table.schema, branch.table.name)
        yield from _tables(branch.children)


def _rank(edge: _Edge) -> tuple[bool, bool, int]:
    return edge.rank


def _is_beyond(
    way: _Edge, ways: Sequence[_Edge], below: Callable[[TableName], set[TableName]]
) -> bool:
    """
    Another parent is itself below this one, and so nearer.
    """
    return any(
        other.parent in below(way.parent) and way.parent not in below(other.parent)
        for other in ways
        if other.parent != way.parent
    )


def _columns(table: Table, names: Sequence[str]) -> list[Column]:
    """
    The columns of these names, in any case where only one fits; none where one is missing.
    """
    found = []
    for name in names:
        exact = [c for c in table.columns if c.name == name]
        near = exact or [c for c in table.columns if c.name.casefold() == name.casefold()]
        if len(near) != 1:
            return []
        found.append(near[0])
    return found


def _joinable(columns: Sequence[Column], ups: Sequence[Column]) -> bool:
    for one, up in zip(columns, ups, strict=True):
        if not {one.kind, up.kind} <= KEY_KINDS or name_problem(one.name) or name_problem(up.name):
            return False
        if one.kind != up.kind and not {one.kind, up.kind} <= _NUMBERS:
            return False
    return len({column.name for column in columns}) == len(columns)


def _like_a_profile(table: Table) -> bool:
    last = snake(table.name).rpartition("_")[2]
    if {last, singular(last)} & _PEOPLE:
        return True
    names = [snake(column.name) for column in table.columns]
    return any(_TELLING_NAMES.search(name) or set(name.split("_")) & _TELLING for name in names)
