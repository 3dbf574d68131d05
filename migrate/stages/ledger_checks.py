"""
The checks of the ledger. Makes none: where there is no ledger yet, its place is looked at.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from migrate.ledger.access import open_ledger
from migrate.ledger.store import Ledger, MappingState, has_ledger
from migrate.model.events import Notify
from migrate.model.settings import SourceConfig
from migrate.stages.checks import Check, failed, guarded, ok, opened, warning

SMALLEST_FREE = 100_000_000
"""Bytes of free disk; a ledger of a million rejects takes about as much."""


@dataclass(frozen=True, slots=True)
class Known:
    """
    What the ledger knows; nothing before the first run.
    """

    ledger: Ledger | None = None

    def mapping(self, name: str) -> MappingState | None:
        """
        What is known of a mapping.
        """
        return self.ledger.mapping(name) if self.ledger else None


def ledger_checks(
    config: SourceConfig,
    stack: ExitStack,
    *,
    wall: Callable[[], float],
    sleep: Callable[[float], None],
    notify: Notify,
) -> Generator[Check, None, Known | None]:
    """
    Whether the ledger can be opened and written, and has room.

    Returns:
        What it knows; None where it cannot be read.
    """
    name = "ledger.open"

    def make() -> Known:
        if not has_ledger(config, sleep=sleep, notify=notify):
            return Known()
        # Opening it begins a write: a ledger that takes none shows here.
        ledger = open_ledger(config, wall=wall, sleep=sleep, notify=notify)
        return Known(stack.enter_context(closing(ledger)))

    known = yield from opened(name, make)
    if known is not None and known.ledger is not None:
        yield ok(name, f"Can be read and written: {config.address}.")
    elif known is not None:
        yield _place(name, config)
    if config.dialect == "sqlite":
        yield from guarded("ledger.space", lambda: _space(config))
    return known


def _place(name: str, config: SourceConfig) -> Check:
    what = f"None yet; the first run makes {config.address}."
    if config.dialect != "sqlite":
        return ok(name, what)
    folder = _nearest(config)
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
        return ok(name, what)
    return failed(
        name,
        f"The ledger cannot be made: {folder} is not a folder that this user may write.",
        "Give this user the right to write there, or name another ledger.",
    )


def _space(config: SourceConfig) -> Iterator[Check]:
    folder = _nearest(config)
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return
    megabytes = free // 1_000_000
    if free < SMALLEST_FREE:
        yield warning(
            "ledger.space",
            f"The disk of the ledger has {megabytes} MB left.",
            "Free some space: nothing is acknowledged that the ledger cannot keep.",
        )
    else:
        yield ok("ledger.space", f"The disk of the ledger has {megabytes:,} MB left.")


def _nearest(config: SourceConfig) -> Path:
    """
    The ledger's folder, or of the folders above it the first one that exists.
    """
    path = Path(config.database or "").absolute().parent
    return next((folder for folder in (path, *path.parents) if folder.exists()), path)
