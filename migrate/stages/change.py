"""
What starting over with a changed mapping would do to the records that are there.

Counted by looking at every record of the earlier shapes; writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from migrate.mapping.compile import CompiledMapping
from migrate.model.ports import Clock
from migrate.model.shape import RecordShape
from migrate.pipeline.sweep import Fate, count_left_behind
from migrate.target.store import RedisTarget

KEPT_SHOWN = 3
"""Keys of records that would be kept, that are shown."""


@dataclass(frozen=True, slots=True)
class Change:
    """
    What a run with `--start-over` would write, replace and leave behind.

    Args:
        written: Records under keys where nothing is; scaled up from the sample.

        replaced: Records in the place of one of the earlier mapping; scaled up from the sample.

        removed: Records under a key template that the mapping has no more; counted.

        buried: Records whose row is not in the mapping any more, which become tombstones: those
            that are there and that the run would not replace.

        kept: Records that somebody else changed, which stay; counted.

        examples: Keys of a few of those.
    """

    written: int
    replaced: int
    removed: int
    buried: int
    kept: int
    examples: tuple[bytes, ...] = ()


def foresee(
    target: RedisTarget,
    earlier: Sequence[RecordShape],
    compiled: CompiledMapping,
    clock: Clock,
    *,
    written: int,
    replaced: int,
) -> Change:
    """
    Look at what is there and say what becomes of it.
    """
    swept = count_left_behind(
        target, earlier, compiled.shape(), mapping=compiled.name, stop=_go_on, clock=clock
    )
    fates = swept.fates
    removed, older = fates.get(Fate.REMOVED, 0), fates.get(Fate.BURIED, 0)
    return Change(
        written=written,
        replaced=replaced,
        # A record of another type in the place of a new one is not there any more to be removed.
        removed=max(0, removed - max(0, replaced - older)),
        buried=max(0, older - replaced),
        kept=fates.get(Fate.CHANGED, 0),
        examples=swept.kept[:KEPT_SHOWN],
    )


def _go_on() -> None:
    """
    A plan is stopped by its user's interrupt alone.
    """
