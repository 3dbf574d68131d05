"""
Reads pages of rows as lines of bytes: the same rows as `extract` reads, taken apart only if asked.

Where the server can spell whole rows itself, it does; elsewhere, and for a page that it cannot
spell, the page is read the plain way and spelled here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from migrate.errors import SourceLimit
from migrate.model.lines import ODD_LINE, TAB, cells_of, lines_of
from migrate.model.ports import Query
from migrate.model.values import Chunk, Fault, Key, KeyRange, RawPage, Row, generation_of
from migrate.source.child_lines import ChildLines, Gather, Groups, groups_of, with_cells
from migrate.source.children import CHILD_ROWS, TooManyChildren
from migrate.source.dialects.base import Decoded, Keyed, Lines, Raw
from migrate.source.dialects.spelling import Misfit
from migrate.source.extract import KeysetExtractor, Statements


@dataclass(frozen=True, slots=True)
class _Plan:
    """
    What does not change from page to page as long as the statements are the same.
    """

    sql: Statements
    lines: Lines
    below: ChildLines | None = None
    pages: dict[tuple[bool, bool], sa.Select[Any]] = field(default_factory=dict)

    def page(self, *, low: bool, high: bool) -> sa.Select[Any]:
        """
        The page of `Statements` with lines instead of cells.
        """
        if (low, high) not in self.pages:
            sql = self.sql
            version = sql.version(sql.table) if sql.relation.control else None
            self.pages[low, high] = sql.page(low=low, high=high).with_only_columns(
                *self.lines.columns(sql.table, version)
            )
        return self.pages[low, high]

    def keyed(self, rows: Sequence[Raw]) -> Keyed:
        """
        Keys and their faults.
        """
        return self.sql.dialect.keyer(self.sql.keys)(rows)

    def key_rows(
        self, page: RawPage, positions: Sequence[int], cells: Sequence[Sequence[bytes | None]]
    ) -> Sequence[Raw]:
        """
        Key columns of some rows: what `fetch` gave beside the lines, or else what is in them.
        """
        if page.held:
            return [page.held.keys[at] for at in positions]
        return [self.lines.key(row) for row in cells]

    def decoded(
        self, page: RawPage, positions: Sequence[int], cells: Sequence[Sequence[bytes | None]]
    ) -> Decoded:
        """
        Some rows: what is in their lines, or what `fetch` kept of those that have none.
        """
        columns = self.sql.query.columns
        kept: Mapping[int, Raw] = page.held.rows if page.held else {}
        rows: list[Row] = []
        faults: dict[int, Fault] = {}
        for at, position in enumerate(positions):
            if position in kept:
                (whole,), found = self.sql.dialect.decoder(columns)(
                    [kept[position][: len(columns)]]
                )
                fault = found.get(0)
            else:
                whole, fault = self._row(cells[at])
            rows.append(tuple(whole))
            if fault is not None:
                faults[at] = fault
        return rows, faults

    def _row(self, cells: Sequence[bytes | None]) -> tuple[Row, Fault | None]:
        """
        A row, and the first of its cells that is at fault.
        """
        row: list[object] = []
        first = None
        for at, cell in enumerate(cells):
            try:
                row.append(None if cell is None else self.lines.cell(at, cell))
            except Misfit as misfit:
                name = self.sql.query.columns[at].column.name
                first = first or Fault(name, misfit.reason, misfit.detail)
                row.append(None)
        return tuple(row), first


class LineExtractor:
    """
    A `BulkExtractor` over a `KeysetExtractor`, which stays the authority on every row.

    Args:
        gathers: What makes a cell of the rows of each collection; such cells stand behind the
            columns of a line.
    """

    def __init__(
        self, plain: KeysetExtractor, query: Query, gathers: Sequence[Gather] = ()
    ) -> None:
        self._plain = plain
        self._query = query
        self._gathers = gathers
        self._most = CHILD_ROWS
        self._plan = self._made(plain.statements)

    def read(self, within: KeyRange, after: Key | None, limit: int) -> RawPage:
        """
        The next rows of a range in the source's key order, from one snapshot.
        """
        low = within.low if after is None else after
        if self._gathers:
            limit = min(limit, self._most)

        def work(connection: sa.Connection, sql: Statements) -> RawPage | str | None:
            plan = self._plan
            if plan is None or plan.sql is not sql:
                # Capture came or went.
                plan = self._plan = self._made(sql)
            if plan is None:
                return None
            parameters = {**sql.values("low", low), **sql.values("high", within.high), "n": limit}
            statement = plan.page(low=low is not None, high=within.high is not None)
            page = _page(plan, connection, statement, parameters)
            return page if page is None else self._whole(plan, connection, page, low)

        page: RawPage | str | None = None
        if self._plan is not None:
            # A value that cannot be decoded, or a row too long to be one text: of this way alone.
            with suppress(SourceLimit):
                page = self._plain.run(work)
        if isinstance(page, str) and limit > 1:
            # More children than memory may hold: a shorter page, and the next ones begin so.
            self._most = limit // 2
            return self.read(within, after, self._most)
        if isinstance(page, RawPage):
            self._most = min(CHILD_ROWS, self._most + self._most // 8 + 1)
            return page
        return self._spelled(self._plain.read(within, after, limit))

    def _made(self, sql: Statements) -> _Plan | None:
        lines = sql.dialect.lines(sql.relation, self._query.columns, sql.keys)
        children = self._plain.collections
        if lines is None or children is None:
            return None if lines is None else _Plan(sql, lines)
        below = ChildLines.of(self._query, sql, children)
        return None if below is None else _Plan(sql, lines, below)

    def _whole(
        self, plan: _Plan, connection: sa.Connection, page: RawPage, low: Key | None
    ) -> RawPage | str | None:
        """
        A page with its collections; the path of one that is too large.
        """
        if plan.below is None or page.last is None:
            return page
        try:
            groups = plan.below.read(connection, page, low)
        except TooManyChildren as many:
            # Caught here, because an exception would cost the connection.
            return many.path
        return None if groups is None else self._gathered(page, groups)

    def _gathered(self, page: RawPage, groups: Sequence[Groups]) -> RawPage:
        cells = [gather(one) for gather, one in zip(self._gathers, groups, strict=True)]
        lines = with_cells(page.lines, cells, versioned=page.versioned)
        # The server that has spelled the page has spelled its children.
        sound = page.sound and not any(ODD_LINE in one for one in cells)
        return page._replace(lines=lines, below=groups, sound=sound)

    def _spelled(self, chunk: Chunk) -> RawPage:
        page = _spelled(chunk, len(self._query.columns))
        if not self._gathers or page.last is None:
            return page
        return self._gathered(page, groups_of(chunk, len(self._query.columns)))

    def keys(self, page: RawPage, positions: Sequence[int]) -> Sequence[Key]:
        """
        Keys of some rows of a page.
        """
        if isinstance(page.held, Chunk):
            return [page.held.keys[at] for at in positions]
        plan = self._of(page)
        cells = () if page.held else [cells_of(page.lines[at]) for at in positions]
        return plan.keyed(plan.key_rows(page, positions, cells))[0]

    def chunk(self, page: RawPage, positions: Sequence[int]) -> Chunk:
        """
        Some rows of a page as `KeysetExtractor.read` gives them.
        """
        if isinstance(page.held, Chunk):
            return _picked(page.held, positions)
        plan = self._of(page)
        taken = [cells_of(page.lines[at]) for at in positions]
        versions = [(row.pop() or b"").decode() for row in taken] if page.versioned else ()
        keys, key_faults = plan.keyed(plan.key_rows(page, positions, taken))
        width = len(self._query.columns)
        rows, faults = plan.decoded(page, positions, [row[:width] for row in taken])
        faults = {**key_faults, **faults}
        if plan.below is not None:
            rows = list(rows)
            for new, at in enumerate(positions):
                children, fault = plan.below.rows(page.below, at)
                rows[new] = (*rows[new], *children)
                if fault is not None:
                    faults.setdefault(new, fault)
        return Chunk(keys, rows, versions, page.generation, faults)

    def _of(self, page: RawPage) -> _Plan:
        if self._plan is None:
            raise ValueError(f"{page!r} was read by another reader")
        return self._plan

    def close(self) -> None:
        """
        Give the connections back.
        """
        self._plain.close()


def _page(
    plan: _Plan,
    connection: sa.Connection,
    statement: sa.Select[Any],
    parameters: Mapping[str, Any],
) -> RawPage | None:
    fetched = plan.lines.fetch(connection, statement, parameters)
    if fetched is None:
        return None
    lines = fetched.lines
    control = plan.sql.relation.control
    if not lines:
        asked = sa.select(plan.sql.generation())
        return RawPage([], (connection.execute(asked).scalar() or 0) if control else 0)
    generation = _generation(lines[-1]) if control else 0
    if control and not generation:
        # There is capture, but not of this mapping: every row is at the run's base.
        lines = [line[: line.rindex(TAB)] for line in lines]
    held = fetched._replace(lines=[]) if fetched.keys else None
    page = RawPage(lines, generation, versioned=bool(generation), held=held, sound=fetched.sound)
    ends = () if held else [cells_of(lines[-1])]
    (last,), _ = plan.keyed(plan.key_rows(page, [len(lines) - 1], ends))
    return page._replace(last=last)


def _generation(line: bytes) -> int:
    version = line[line.rindex(TAB) + 1 :]
    return generation_of(version.decode()) if version.isdigit() else 0


def _spelled(chunk: Chunk, width: int) -> RawPage:
    """
    A page that was read the plain way, without its collections.
    """
    versioned = bool(chunk.versions)
    rows = [row[:width] for row in chunk.rows]
    if versioned:
        rows = [(*row, version) for row, version in zip(rows, chunk.versions, strict=True)]
    lines = lines_of(rows)
    for at in chunk.faults:
        lines[at] = ODD_LINE
    last = chunk.keys[-1] if chunk.keys else None
    return RawPage(lines, chunk.generation, last, versioned, chunk)


def _picked(chunk: Chunk, positions: Sequence[int]) -> Chunk:
    return Chunk(
        [chunk.keys[at] for at in positions],
        [chunk.rows[at] for at in positions],
        [chunk.versions[at] for at in positions] if chunk.versions else (),
        chunk.generation,
        {new: chunk.faults[at] for new, at in enumerate(positions) if at in chunk.faults},
    )


__all__ = ["LineExtractor"]
