"""
The ports of a dry run: checkpoints that forget, so that a rehearsal never looks like progress.

Its loader, which predicts outcomes instead of writing, belongs to the target side.
"""

from __future__ import annotations

from collections.abc import Sequence

from migrate.model.ports import Partition, Progress
from migrate.model.values import KeyRange, Reject

EXAMPLES = 3
"""Rejects that a dry run shows; the rest is counted."""


class ForgetfulCheckpoints:
    """
    Hands out every range once and keeps nothing but counts and a few examples.
    """

    def __init__(self, ranges: Sequence[KeyRange]) -> None:
        self._left = [Partition(number, part) for number, part in enumerate(ranges)][::-1]
        self.examples: list[Reject] = []
        self.rejected = 0

    def claim(self, worker: str) -> Partition | None:
        """
        The next range, or None when all were handed out.
        """
        return self._left.pop() if self._left else None

    def save(self, partition: Partition, progress: Progress) -> Partition:
        """
        Count; nothing is kept.
        """
        self.rejected += len(progress.rejects)
        self.examples += progress.rejects[: EXAMPLES - len(self.examples)]
        return partition.saved(progress.cursor)
