"""
PostgreSQL: whole rows by COPY, which the server spells and escapes itself.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from migrate.model.values import Cell, ColumnRead, Kind
from migrate.source.dialects.base import Fetched, Lines, Raw, TooMuch
from migrate.source.dialects.prepared import Prepared, compiled
from migrate.source.dialects.spelling import Misfit


@dataclass(frozen=True, slots=True)
class CopyLines:
    """
    Lines by COPY of a statement.

    Args:
        places: Where the cell of each key column is.

        spelled: What to select for a column.

        front: Cells of another table that begin each line.
    """

    reads: tuple[ColumnRead, ...]
    places: tuple[int, ...]
    spelled: Callable[[ColumnRead, sa.ColumnElement[Any]], sa.ColumnElement[Any]]
    front: tuple[sa.ColumnElement[Any], ...] = ()
    _texts: Prepared[sa.Compiled] = field(default_factory=lambda: Prepared(compiled))

    def columns(
        self, source: sa.FromClause, version: sa.ColumnElement[str] | None
    ) -> list[sa.ColumnElement[Any]]:
        """
        A column a cell: COPY puts the tabs between them.
        """
        found = [*self.front]
        found += [self.spelled(read, source.c[read.column.name]) for read in self.reads]
        found += [] if version is None else [version]
        return [column.label(f"c{number}") for number, column in enumerate(found)]

    def behind(self, front: Lines, source: sa.FromClause, cells: int) -> CopyLines:
        """
        The same with more columns. See `Lines.behind`.
        """
        return replace(self, front=tuple(front.columns(source, None)), _texts=Prepared(compiled))

    def fetch(
        self,
        connection: sa.Connection,
        statement: sa.Select[Any],
        parameters: Mapping[str, Any],
        most: int | None = None,
    ) -> Fetched:
        """
        The lines as the server sent them.

        COPY takes no parameters, so the driver writes them into the statement as literals, which
        libpq quotes for this connection: keys are texts that somebody else has chosen.
        """
        # Optional: a source of another dialect does not need it.
        from psycopg import ClientCursor  # noqa: PLC0415

        prepared = self._texts.of(connection, statement)
        text = f"COPY ({prepared}) TO STDOUT (FORMAT text, ENCODING 'UTF8')"
        driver: Any = connection.connection.dbapi_connection
        values = prepared.construct_params(dict(parameters))
        with ClientCursor(driver) as cursor, cursor.copy(text, values):
            # The server has checked its texts when it took them in; of a database without an
            # encoding, which takes anything, COPY checks each text that it prints.
            return Fetched(_received(driver.pgconn, most), sound=True)

    def cell(self, at: int, text: bytes) -> Cell:
        """
        The server's text; of binary columns what its digits say.
        """
        return self._value(at, text)

    def key(self, cells: Sequence[bytes | None]) -> Raw:
        """
        Key columns as cells, which is how they are bound.
        """
        found = []
        for place in self.places:
            cell = cells[place]
            found.append(None if cell is None else self._value(place, cell))
        return tuple(found)

    def _value(self, at: int, text: bytes) -> str | bytes:
        read = self.reads[at]
        if read.column.kind is Kind.BYTES and not read.verbatim:
            return bytes.fromhex(text.decode())
        try:
            return text.decode()
        except UnicodeDecodeError:
            raise Misfit("unreadable", "the driver cannot decode the value") from None


def _received(pgconn: Any, most: int | None) -> list[bytes]:
    """
    All lines, without their ends.

    What is too much is passed by, because a COPY that is broken off costs the transaction.

    What has arrived is taken from libpq itself, which costs a third of asking the driver for it. A
    wait hears signals, as the driver's does.
    """
    from psycopg import pq  # noqa: PLC0415
    from psycopg.errors import error_from_result  # noqa: PLC0415

    lines: list[bytes] = []
    left = sys.maxsize if most is None else most
    add, take = lines.append, pgconn.get_copy_data
    arrival = select.poll()
    arrival.register(pgconn.socket, select.POLLIN)
    while True:
        size, data = take(1)
        while size > 0:
            if left >= 0:
                add(data[:-1].tobytes())
                left -= size
            size, data = take(1)
        if size < 0:
            break
        arrival.poll()
        pgconn.consume_input()
    results = list(iter(pgconn.get_result, None))
    # Behind the last one: the driver would cancel what is over, and print the server's words.
    for result in results:
        if result.status != pq.ExecStatus.COMMAND_OK:
            raise error_from_result(result)
    return _within(lines, left)


def _within(lines: list[bytes], left: int) -> list[bytes]:
    if left < 0:
        raise TooMuch
    return lines


__all__ = ["CopyLines"]
