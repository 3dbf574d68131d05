"""
Remove from a target everything that a mapping's backfills wrote, and nothing else (ADR 0014).

Asks no SQL source as long as the ledger, or the fence, knows what was written. It may be stopped or
killed at any point: the same command goes on, and ends the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from migrate.errors import (
    ExitCode,
    MigrateError,
    Refused,
    TargetChanged,
    TargetTaken,
    UnknownMapping,
    Unreachable,
)
from migrate.ledger.access import held, open_ledger
from migrate.ledger.journal import DONE, FAILED, INTENT, Note
from migrate.ledger.store import Ledger, MappingState, has_ledger
from migrate.mapping.compile import compile_mapping
from migrate.mapping.values import Mapping
from migrate.model.events import Notify, silent
from migrate.model.ports import Clock
from migrate.model.settings import Settings
from migrate.model.shape import RecordShape
from migrate.model.values import Fence, ServerIdentity
from migrate.pipeline.opening import new_run
from migrate.pipeline.scope import find_table
from migrate.pipeline.sweep import EXAMPLES, Fate, Stop, Sweepable, Swept, everything
from migrate.source.store import SqlSource
from migrate.target.fence import FenceState
from migrate.target.removal import CLOSED, PURGED
from migrate.target.store import RedisTarget

STEP = "purge"
"""Its name in the journal."""


class Purgeable(Sweepable, Protocol):
    """
    What a purge asks of the target beside the sweep. See `target.store.RedisTarget`.
    """

    def identity(self) -> ServerIdentity:
        """
        The server that answers now.
        """

    def fence(self, mapping: str) -> FenceState | None:
        """
        The fence of a mapping.
        """

    def close_fence(self, mapping: str, *, expected: str | None, own: str) -> Fence:
        """
        Close the fence, so that nobody writes any more.
        """

    def expire_fence(self, mapping: str, fence: Fence) -> None:
        """
        Let a closed fence go after a while.
        """


@dataclass(frozen=True, slots=True)
class Knowledge:
    """
    What may be in the target.

    Args:
        shapes: None of them means that there is nothing to remove.

        told_by: Where they were learnt: ledger, fence, or mapping.

        run: The run that the fence must carry; None where any is accepted.
    """

    shapes: tuple[RecordShape, ...]
    told_by: str
    run: str | None = None


@dataclass(slots=True)
class Report:
    """
    What was found, and what became of it; filled while it goes on.

    Args:
        kept: Keys of the first few that stay.
    """

    mapping: str
    target: str = ""
    told_by: str = ""
    dry_run: bool = False
    nothing: bool = False
    looked: int = 0
    fates: Counter[Fate] = field(default_factory=Counter)
    kept: tuple[bytes, ...] = ()
    epoch: int | None = None

    def count(self, swept: Swept) -> None:
        """
        Add what an event tells.
        """
        self.looked += swept.looked
        self.fates.update(swept.fates)
        self.kept = (*self.kept, *swept.kept)[:EXAMPLES]

    @property
    def exit_code(self) -> ExitCode:
        """
        3 where something of ours, or something that we put aside, had to stay.
        """
        stays = self.fates[Fate.CHANGED] + self.fates[Fate.TAKEN]
        return ExitCode.DIFFERENCES if stays else ExitCode.DONE

    def counts(self) -> dict[str, int]:
        """
        For the journal and for --json.
        """
        return {fate.value: self.fates[fate] for fate in Fate if fate is not Fate.BURIED}


class Purge:
    """
    One purge: first a look, then the removal.

    Args:
        mapping: None where its file is gone; the ledger then has to know what was written.

        shapes_of: Makes the shape from the live schema where nobody knows it any more.

        changed: Remove the records as well that somebody else changed.

        stop: Asked between pages; raises to end the work.
    """

    def __init__(
        self,
        name: str,
        mapping: Mapping | None,
        target: Purgeable,
        ledger: Ledger | None,
        *,
        shape_of: Callable[[Mapping], RecordShape],
        stop: Stop,
        changed: bool = False,
    ) -> None:
        self._name = name
        self._mapping = mapping
        self._target = target
        self._ledger = ledger
        self._shape_of = shape_of
        self._stop = stop
        self._changed = changed
        self._address = target.identity().address
        self._known = self._knowledge()

    @classmethod
    @contextmanager
    def open(  # noqa: PLR0913 - as above
        cls,
        settings: Settings,
        name: str,
        mapping: Mapping | None,
        *,
        wall: Callable[[], float],
        clock: Clock,
        stop: Stop,
        notify: Notify = silent,
        changed: bool = False,
        dry_run: bool = False,
    ) -> Iterator[Self]:
        """
        Open the stores, and hold the mapping unless nothing is to be changed.

        Raises:
            LockHeld: A run works on the mapping.
        """
        with ExitStack() as stack:
            target = stack.enter_context(
                closing(RedisTarget.open(settings.redis["target"], notify, clock))
            )
            ledger = None
            if not dry_run or has_ledger(settings.ledger, sleep=clock.sleep, notify=notify):
                ledger = stack.enter_context(
                    closing(
                        open_ledger(settings.ledger, wall=wall, sleep=clock.sleep, notify=notify)
                    )
                )
            if ledger is not None and not dry_run:
                stack.enter_context(held(ledger, name))

            def shape_of(one: Mapping) -> RecordShape:
                return _from_source(settings, one, notify, clock)

            yield cls(name, mapping, target, ledger, shape_of=shape_of, stop=stop, changed=changed)

    def look(self) -> Report:
        """
        What a purge would do now; nothing is changed.
        """
        report = self._report()
        report.dry_run = True
        for swept in self._sweep(None):
            report.count(swept)
        return report

    def run(self, report: Report | None = None) -> Iterator[Report]:
        """
        Do it: close the fence, remove, let the fence go, forget.

        Yields:
            The report, after each page and at the end.

        Raises:
            TargetTaken: The fence is of a run that this ledger does not know.
            MigrateError: Why it did not come to its end; the same command goes on.
        """
        report = report or self._report()
        if report.nothing:
            yield report
            return
        ledger = self._the_ledger
        plan = {"target": self._address, "changed": self._changed, "told_by": self._known.told_by}
        plan["shapes"] = [shape.fingerprint for shape in self._known.shapes]
        ledger.note(self._note(INTENT, plan))
        try:
            yield from self._remove(report)
        except MigrateError as error:
            self._failed(error, report)
            raise
        ledger.forget_mapping(
            self._name,
            keep_shapes=report.exit_code is not ExitCode.DONE,
            note=self._note(DONE, report.counts(), report.epoch),
        )
        yield report

    def _remove(self, report: Report) -> Iterator[Report]:
        fence = self._target.close_fence(
            self._name, expected=self._known.run, own=self._known.run or new_run()
        )
        report.epoch = fence.epoch
        for swept in self._sweep(fence):
            report.count(swept)
            yield report
        self._target.expire_fence(self._name, fence)

    def _sweep(self, fence: Fence | None) -> Iterator[Swept]:
        if self._known.shapes:
            yield from everything(
                self._target,
                self._known.shapes,
                fence,
                mapping=self._name,
                stop=self._stop,
                changed=self._changed,
            )

    def _report(self) -> Report:
        known = self._known
        return Report(self._name, self._address, known.told_by, nothing=not known.shapes)

    def _note(self, phase: str, payload: dict[str, Any], epoch: int | None = None) -> Note:
        return Note(self._name, STEP, phase, self._known.run, epoch, payload)

    def _failed(self, error: MigrateError, report: Report) -> None:
        try:
            payload = {"error": error.code, **report.counts()}
            self._the_ledger.note(self._note(FAILED, payload, report.epoch))
        except MigrateError:
            # The line of the intent stays without an end, which says the same.
            return

    @property
    def _the_ledger(self) -> Ledger:
        if self._ledger is None:
            raise AssertionError("a purge that changes something has a ledger")
        return self._ledger

    # --- what was written -------------------------------------------------------------------

    def _knowledge(self) -> Knowledge:
        state = self._ledger.mapping(self._name) if self._ledger else None
        shapes = tuple(self._ledger.shapes(self._name)) if self._ledger else ()
        fence = self._target.fence(self._name)
        if state is not None:
            self._refuse_another_target(state)
        if fence is not None and (state or shapes) and not _is_own(state, fence):
            raise self._taken(fence)
        run = state.run if state else None
        if shapes:
            return Knowledge(shapes, "ledger", run)
        if state is not None:
            # Written by a version that kept no shapes.
            return Knowledge((self._shape(state.fingerprint, state.revision),), "ledger", run)
        if fence is not None and fence.mode != PURGED and fence.fingerprint:
            shape = self._shape(fence.fingerprint, fence.revision)
            return Knowledge((shape,), "fence", fence.run)
        if fence is None and not self._was_purged():
            return Knowledge((self._shape_of(self._need_mapping()),), "mapping")
        if fence is not None and fence.mode != PURGED:
            return Knowledge((self._shape_of(self._need_mapping()),), "mapping", fence.run)
        return Knowledge((), "ledger")

    def _was_purged(self) -> bool:
        last = self._ledger.last_entry(self._name) if self._ledger else None
        return last is not None and (last.step, last.phase) == (STEP, DONE)

    def _refuse_another_target(self, state: MappingState) -> None:
        found = self._target.identity()
        if (state.address, state.topology) != (found.address, found.topology):
            raise TargetChanged(
                "The records that this ledger knows are in another Redis.",
                where={
                    "mapping": self._name,
                    "expected": f"{state.address} {state.topology}",
                    "found": f"{found.address} {found.topology}",
                },
                next_step="Point redis.target to it, and run the same command again.",
            )

    def _taken(self, fence: FenceState) -> TargetTaken:
        return TargetTaken(
            f"The target holds records of another migration named '{self._name}'.",
            where={"mapping": self._name, "run": fence.run, "epoch": fence.epoch},
            next_step="Purge with the ledger that wrote them.",
        )

    def _shape(self, fingerprint: str, revision: int) -> RecordShape:
        """
        The shape of the mapping's file with the fingerprint that the records were written with.
        """
        mapping = self._need_mapping()
        return RecordShape(
            fingerprint=fingerprint,
            template=mapping.template.text,
            reserved=mapping.reserved.names(),
            record=mapping.record,
            lookups=tuple((one.kind, one.template.text) for one in mapping.lookups),
            expiry=mapping.expiry,
            revision=revision,
        )

    def _need_mapping(self) -> Mapping:
        if self._mapping is not None:
            return self._mapping
        raise UnknownMapping(
            f"There is no file of mapping '{self._name}', and nothing else says how it wrote.",
            where={"mapping": self._name, "target": self._address},
            next_step="Correct the name, or put its file back as it was when it was backfilled.",
        )


def _is_own(state: MappingState | None, fence: FenceState) -> bool:
    """
    Whether the fence is of the run that the ledger knows, or stands for nobody.
    """
    if state is None:
        return fence.mode in (CLOSED, PURGED)
    return fence.run == state.run or not state.fenced


def _from_source(settings: Settings, mapping: Mapping, notify: Notify, clock: Clock) -> RecordShape:
    """
    The shape that a backfill would write now: neither ledger nor fence know another.

    Raises:
        Refused: The source does not answer either.
    """
    try:
        with closing(SqlSource.open(settings.source, notify, sleep=clock.sleep)) as source:
            return compile_mapping(mapping, find_table(source, mapping)).shape()
    except Unreachable as error:
        raise Refused(
            "Neither the ledger nor the fence knows what was written, and the source is away.",
            where={"mapping": mapping.name, **error.where},
            next_step="Restore the ledger from a backup, or run it again when the source answers.",
        ) from None
