"""
What a dialect has to know, as a protocol: everything that differs between SQL servers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa

from migrate.model.filter import Constant
from migrate.model.settings import SourceConfig
from migrate.model.values import Cell, Column, ColumnRead, Fault, Key, KeyPart, Kind, Table

Raw = Sequence[Any]
"""One row as the driver gives it."""

Decoded = tuple[Sequence[Sequence[Cell]], dict[int, Fault]]
"""Rows of cells, and by position what is wrong with a row."""

Keyed = tuple[Sequence[Key], dict[int, Fault]]
"""Keys, and by position what is wrong with a key."""


PORTION = 2_000
"""Rows that `Dialect.portions` hands over at once."""


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """
    What the source says about itself.

    Args:
        version: Of the server software.

        now: The server's time as unix seconds.

        read_only: This session could not write even if it wanted to outside of our transactions.

        replica: It follows another server; captures and versions need the primary.
    """

    dialect: str
    version: str
    now: float
    read_only: bool
    replica: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """
    A table as the catalogue knows it now, with what a later look is compared to.

    Args:
        stamp: Cheap to read again; equal means that nothing changed.

        identity: Of the table itself; another one under the same name is another table.

        places: For each column what stays the same when it is renamed or made anew.

        bind_types: The type that a parameter of each column is cast to, where one is needed.

        charsets: Character set and collation of each text column, where parameters need them.

        ordered: Column lists of the indexes that are sorted, where the catalogue is asked for them.

        control: The tables of capture are there.

        lockable: Its definition can be held for a transaction.
    """

    table: Table
    stamp: Hashable
    identity: Hashable
    control: bool
    places: Mapping[str, Hashable] = field(default_factory=dict)
    bind_types: Mapping[str, str] = field(default_factory=dict)
    charsets: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    ordered: Sequence[tuple[str, ...]] = ()
    lockable: bool = True


class Fetched(NamedTuple):
    """
    A page as the server spelled it. Its repr shows no values.

    Args:
        keys: Key columns of each row as `Dialect.keyer` takes them, where no line has them.

        rows: By position what `Dialect.decoder` takes and then more, of rows that have no line.

        sound: The server vouches for it that every line is UTF-8.
    """

    lines: list[bytes]
    keys: Sequence[Raw] = ()
    rows: Mapping[int, Raw] = MappingProxyType({})
    sound: bool = False

    def __repr__(self) -> str:
        return f"Fetched({len(self.lines)} lines)"


class TooMuch(Exception):
    """
    Lines are more than memory may hold; the connection is as it was.
    """


class Lines(Protocol):
    """
    How a server spells whole rows of some columns as lines (`migrate.model.lines`).

    A cell that begins with `UNJUDGED` holds what the server has instead of the cell's own text.
    """

    def columns(
        self, source: sa.FromClause, version: sa.ColumnElement[str] | None
    ) -> list[sa.ColumnElement[Any]]:
        """
        What to select, so that `fetch` gives lines that end in the version, if there is one.
        """

    def behind(self, front: Lines, source: sa.FromClause, cells: int) -> Lines:
        """
        The same with the cells of other lines of this dialect in front, from another table.

        Args:
            cells: How many those are.
        """

    def fetch(
        self,
        connection: sa.Connection,
        statement: sa.Select[Any],
        parameters: Mapping[str, Any],
        most: int | None = None,
    ) -> Fetched | None:
        """
        All rows of a statement; None where the page has to be read the plain way.

        Args:
            most: Bytes of the lines at most.

        Raises:
            TooMuch: They are more than that.
        """

    def cell(self, at: int, text: bytes) -> Cell:
        """
        The neutral cell of one column that is not NULL; not asked of rows that `fetch` gave.

        Raises:
            Misfit: It is none.
        """

    def key(self, cells: Sequence[bytes | None]) -> Raw:
        """
        The key columns of a line as `Dialect.keyer` takes them; not asked where `fetch` gave them.
        """


UNJUDGED = b"\xff"
"""Never part of a text in UTF-8, so that nobody takes such a line for a record."""


def places_of(reads: Sequence[ColumnRead], key: Sequence[Column]) -> list[int | None]:
    """
    Where the cell of each key column is; verbatim is as good, but for bytes that are spelled twice.
    """
    found: list[int | None] = []
    for column in key:
        wanted = [
            at
            for at, read in enumerate(reads)
            if read.column == column and not (read.verbatim and column.kind is Kind.BYTES)
        ]
        found.append(wanted[0] if wanted else None)
    return found


class Dialect(Protocol):
    """
    Everything that one kind of SQL server does differently. Holds no connection and no state.
    """

    @property
    def name(self) -> str:
        """
        As a source's URL begins.
        """

    @property
    def drivers(self) -> tuple[str, ...]:
        """
        SQLAlchemy's names of the drivers that this module knows; the first is the default.
        """

    @property
    def compares_rows(self) -> bool:
        """
        Whether an index serves `(a, b) > (x, y)`; where not, each column is compared by itself.
        """

    def engine(self, config: SourceConfig) -> sa.Engine:
        """
        An engine with a pool of one connection, read-only where the driver can.
        """

    def begin(self, connection: sa.Connection) -> None:
        """
        Start a read-only transaction in which every setting that changes text is pinned.
        """

    def begin_steady(self, connection: sa.Connection, relations: Sequence[Relation]) -> None:
        """
        As `begin`, but every statement sees the same moment, and these tables keep their shape.
        """

    def facts(self, connection: sa.Connection) -> SourceFacts:
        """
        What the source says about itself.
        """

    def tables(self, connection: sa.Connection, schema: str | None) -> list[str]:
        """
        Names of all tables and views of a schema, sorted.
        """

    def relation(self, connection: sa.Connection, schema: str | None, name: str) -> Relation | None:
        """
        The table or view of this name, or None.
        """

    def stamp(self, connection: sa.Connection, relation: Relation) -> Hashable:
        """
        The stamp of this relation's name as it is in this transaction.
        """

    def missing(
        self, connection: sa.Connection, relation: Relation, columns: Sequence[str]
    ) -> list[str]:
        """
        What this user may not read, in words; empty where nothing is missing.
        """

    def fetch(
        self, connection: sa.Connection, statement: sa.Select[Any], parameters: Mapping[str, Any]
    ) -> Sequence[Raw]:
        """
        All rows of a statement as the driver gives them.
        """

    def portions(
        self, connection: sa.Connection, statement: sa.Select[Any], parameters: Mapping[str, Any]
    ) -> Iterator[Sequence[Raw]]:
        """
        All rows of a statement as the driver gives them, some thousand at once and no more held.
        """

    def cell(
        self, relation: Relation, read: ColumnRead, column: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[Any]:
        """
        What to select for a column.
        """

    def lines(
        self, relation: Relation, reads: Sequence[ColumnRead], key: Sequence[Column]
    ) -> Lines | None:
        """
        How the server itself spells rows as lines; None where it would be no faster, or not exact.
        """

    def decoder(self, reads: Sequence[ColumnRead]) -> Callable[[Sequence[Raw]], Decoded]:
        """
        Turns raw rows of exactly these columns into neutral cells.
        """

    def keyer(self, columns: Sequence[Column]) -> Callable[[Sequence[Raw]], Keyed]:
        """
        Turns raw key columns into keys that can be bound again.
        """

    def key_bind(self, relation: Relation, column: Column, name: str) -> sa.ColumnElement[Any]:
        """
        A named parameter for one key column, in the column's own type.
        """

    def key_value(self, column: Column, part: KeyPart) -> object:
        """
        The value to bind for one part of a key.
        """

    def key_text(
        self, relation: Relation, column: Column, expression: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[str]:
        """
        The text of a key column in SQL, equal to the text of its key part in Python.
        """

    def told_apart(
        self, relation: Relation, column: Column, expression: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[Any]:
        """
        What orders values that the column's own order holds for equal although they are not alike.
        """

    def usable(
        self, column: Column, expression: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[bool] | None:
        """
        Which values of a key column pages can stand on; None where all can.
        """

    def literal(
        self, relation: Relation, column: Column | None, constant: Constant
    ) -> sa.ColumnElement[Any]:
        """
        A literal of `where`, bound in the type of the column that it is compared with.
        """

    def part(
        self, connection: sa.Connection, relation: Relation, table: sa.TableClause, rows: int
    ) -> sa.FromClause | None:
        """
        A random part of the table of at least about `rows` rows, cheaply; None: take the whole.
        """

    def chance(self, share: float) -> sa.ColumnElement[bool]:
        """
        True for about this share of rows.
        """

    def estimate(self, connection: sa.Connection, relation: Relation) -> int | None:
        """
        The number of rows as the server guesses it; None where it cannot.
        """

    def page_problems(
        self,
        connection: sa.Connection,
        relation: Relation,
        key: Sequence[str],
        statement: sa.Select[Any],
        parameters: Mapping[str, Any],
    ) -> list[str]:
        """
        Why this page of keys would be slow: no index serves its order.
        """
