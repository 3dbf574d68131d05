"""
What a source says about its tables together: which refer to which, and what else hangs on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from migrate.model.values import Table


class TableName(NamedTuple):
    """
    Schema and name of a table; without a schema it is one that is found without naming any.
    """

    schema: str | None
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name


def same_table(
    wanted: TableName, known: Iterable[TableName], default_schema: str | None
) -> TableName | None:
    """
    The known table that a person means: spelled so, in the default schema, or in other capitals.
    """
    found = list(known)
    bare = TableName(None, wanted.name) if wanted.schema == default_schema else wanted
    for name in (wanted, bare):
        if name in found:
            return name
    near = [one for one in found if str(one).casefold() == str(bare).casefold()]
    return near[0] if len(near) == 1 else None


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """
    Columns of one table that refer to those of another, or of itself.

    Args:
        on_delete: What SQL does with the child, in capitals: CASCADE, SET NULL, RESTRICT, ...
    """

    child: TableName
    columns: tuple[str, ...]
    parent: TableName
    parent_columns: tuple[str, ...]
    on_delete: str = "NO ACTION"
    on_update: str = "NO ACTION"


@dataclass(frozen=True, slots=True)
class Dependent:
    """
    Something that hangs on a table: a trigger of it, or a view over it.
    """

    table: TableName
    name: str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """
    The tables that a mapping could be made of.

    Args:
        unusable: Tables that cannot be read, with the reason in words.

        default_schema: What the source calls the schema of tables that are named without one.

        any_case: Foreign keys may name tables in other capitals than they have.
    """

    tables: tuple[Table, ...]
    foreign_keys: tuple[ForeignKey, ...]
    unusable: Mapping[TableName, str] = field(default_factory=dict)
    default_schema: str | None = None
    any_case: bool = False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """
    What hangs on the tables of a mapping and is no part of it.

    Args:
        foreign_keys: From or to any of the tables.

        counters: Columns that the server counts up by itself, by table.

        cascades_silently: Cascaded changes fire no triggers on this server.
    """

    foreign_keys: tuple[ForeignKey, ...] = ()
    triggers: tuple[Dependent, ...] = ()
    views: tuple[Dependent, ...] = ()
    counters: tuple[Dependent, ...] = ()
    cascades_silently: bool = False


@dataclass(frozen=True, slots=True)
class Spread:
    """
    How the values of some columns are spread over the rows, as far as that was looked at.

    Args:
        repeated: Some values occur more than once.

        longest: Length of the longest text, all columns together.
    """

    repeated: bool
    longest: int
