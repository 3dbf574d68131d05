"""
What can be done with rows that were not moved: show them with their values, or try them again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from migrate.errors import TargetChanged
from migrate.ledger.access import held, open_ledger
from migrate.ledger.journal import DONE, INTENT, Note
from migrate.ledger.keys import show
from migrate.ledger.store import Ledger, OpenReject
from migrate.mapping.compile import compile_mapping
from migrate.mapping.values import Mapping
from migrate.model.events import Notify, silent
from migrate.model.ports import Extractor
from migrate.model.settings import Settings
from migrate.model.values import Key
from migrate.pipeline.scope import find_table
from migrate.source.store import SqlSource
from migrate.target.store import RedisTarget
from migrate.workers.again import PAGE, Again

STEP = "replay"
"""Its name in the journal."""


@dataclass(slots=True)
class ReplayReport:
    """
    What a replay did.

    Args:
        gone: Rows that SQL no longer has, or that left the filter.
    """

    tried: int = 0
    moved: int = 0
    gone: int = 0
    open_rejects: dict[str, int] = field(default_factory=dict)


class Replay:
    """
    Reads the open rejects of a mapping again and writes those that can be moved now.

    Every write goes through the same fence and compare-and-set as the backfill's.
    """

    def __init__(self, settings: Settings, mapping: Mapping, *, notify: Notify = silent) -> None:
        self._settings = settings
        self._mapping = mapping
        self._notify = notify
        self._report = ReplayReport()

    def run(self) -> ReplayReport:
        """
        Do it, page by page.

        Raises:
            TargetChanged: The target is not the one that the records are in.
        """
        name = self._mapping.name
        with ExitStack() as stack:
            ledger = stack.enter_context(
                closing(open_ledger(self._settings.ledger, wall=time.time, notify=self._notify))
            )
            if not ledger.count_rejects(name):
                return self._report
            stack.enter_context(held(ledger, name))
            for tried in self._open(stack, ledger).everything():
                self._report.tried += tried.tried
                self._report.moved += tried.moved
                self._report.gone += tried.gone
            self._report.open_rejects = left = ledger.count_rejects(name)
            done = {"moved": self._report.moved, "left": sum(left.values())}
            ledger.note(Note(name, STEP, DONE, payload=done))
        return self._report

    def _open(self, stack: ExitStack, ledger: Ledger) -> Again:
        name = self._mapping.name
        source = stack.enter_context(closing(SqlSource.open(self._settings.source, self._notify)))
        target = stack.enter_context(
            closing(RedisTarget.open(self._settings.redis["target"], self._notify))
        )
        state, fence = ledger.mapping(name), target.fence(name)
        table = find_table(source, self._mapping)
        last = ledger.last_run(name)
        compiled = compile_mapping(
            self._mapping,
            table,
            revision=state.revision if state else 1,
            instant=last.instant if last else None,
        )
        if (
            state is None
            or fence is None
            or fence.run != state.run
            or state.fingerprint != compiled.fingerprint
        ):
            raise TargetChanged(
                "The mapping or the target is not the one that the records were written with.",
                where={"mapping": name, "target": self._settings.redis["target"].address},
                next_step=f"profile-migrate backfill {name}",
            )
        # Before the first write: an earlier verification is then one of the past.
        ledger.note(Note(name, STEP, INTENT, state.run, payload=ledger.count_rejects(name)))
        taken = target.begin(
            name,
            run=state.run,
            expected=fence.run,
            generation=state.generation,
            revision=state.revision,
            fingerprint=state.fingerprint,
        )
        extractor = stack.enter_context(closing(source.extractor(compiled.query, table)))
        return Again(ledger, extractor, compiled, target.loader(name, taken, compiled.shape()))


class Export:
    """
    The open rejects of a mapping as plain values, with the rows' values where they are asked for.
    """

    def __init__(self, settings: Settings, mapping: Mapping, *, with_values: bool) -> None:
        self._settings = settings
        self._mapping = mapping
        self._with_values = with_values

    def run(self) -> Iterator[dict[str, Any]]:
        """
        One object a reject; `row` is None where SQL no longer has the row.
        """
        with ExitStack() as stack:
            ledger = stack.enter_context(
                closing(open_ledger(self._settings.ledger, wall=time.time))
            )
            extractor: Extractor | None = None
            names: list[str] = []
            if self._with_values:
                source = stack.enter_context(closing(SqlSource.open(self._settings.source)))
                table = find_table(source, self._mapping)
                query = compile_mapping(self._mapping, table).query
                names = [read.column.name for read in query.columns]
                names += [child.path for child in query.children]
                extractor = stack.enter_context(closing(source.extractor(query, table)))
            entries = ledger.rejects(self._mapping.name)
            while page := list(islice(entries, PAGE)):
                rows = _rows(extractor, names, [entry.reject.key for entry in page])
                for entry in page:
                    yield _exported(entry, rows)


def _rows(
    extractor: Extractor | None, names: list[str], keys: list[Key]
) -> dict[Key, dict[str, Any]] | None:
    if extractor is None:
        return None
    chunk = extractor.fetch(keys)
    return {
        key: {name: _plain(cell) for name, cell in zip(names, row, strict=True)}
        for key, row in zip(chunk.keys, chunk.rows, strict=True)
    }


def _plain(cell: Any) -> object:
    if isinstance(cell, list | tuple):
        return [_plain(part) for part in cell]
    return {"hex": cell.hex()} if isinstance(cell, bytes) else cell


def _exported(entry: OpenReject, rows: dict[Key, dict[str, Any]] | None) -> dict[str, Any]:
    reject = entry.reject
    line: dict[str, Any] = {
        "key": show(reject.key),
        "column": reject.fault.column or None,
        "reason": reject.fault.reason,
        "detail": reject.fault.detail,
    }
    if rows is not None:
        line["row"] = rows.get(reject.key)
    return line
