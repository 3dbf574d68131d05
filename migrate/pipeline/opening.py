"""
Decide how a backfill begins: first, continued, repeated, done over, or refused.

A pure function of what the ledger knows, what the target holds and what the user asked for
(ADR 0010). It writes nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from migrate.errors import MappingChanged, Refused, TargetChanged, TargetTaken
from migrate.ledger.store import MappingState
from migrate.model.values import ServerIdentity
from migrate.target.fence import FenceState
from migrate.target.removal import CLOSED, PURGED


class Way(StrEnum):
    """
    How a backfill begins.
    """

    FIRST = "first"
    CONTINUE = "continue"
    REDO = "redo"
    """The target lost its data: every partition of an unfinished run starts over."""
    START_OVER = "start-over"


@dataclass(frozen=True, slots=True)
class Opening:
    """
    What to do before the first chunk.

    Args:
        run: Identity of this migration's data in the target, for the fence.

        expected: The run that the fence holds now; None where there is none, or not in every slot.

        revision: Of the mapping, the version of rows without capture.
    """

    way: Way
    run: str
    expected: str | None
    revision: int


def new_run() -> str:
    """
    An identity that no other migration has.
    """
    return str(uuid.uuid4())


def decide(  # noqa: PLR0913 - what is known, what is there, what is asked for
    mapping: str,
    fingerprint: str,
    known: MappingState | None,
    fence: FenceState | None,
    identity: ServerIdentity,
    *,
    empty: Callable[[], bool],
    start_over: bool = False,
    written: int = 0,
    make_run: Callable[[], str] = new_run,
) -> Opening:
    """
    How to begin, or the reason why not.

    Args:
        known: The ledger's knowledge; None before the first run.

        fence: What the target holds; None where it holds none.

        empty: Whether the target holds no key at all; asked only where it matters.

        written: The highest revision that the ledger's shapes name: a purge may have left records
            of it that others had changed.

    Raises:
        Refused: The records are being purged.
        TargetTaken: The fence belongs to another migration.
        TargetChanged: The target is another server, or lost the fence but not its data.
        MappingChanged: The mapping would write other records than those that are there.
    """
    if fence is not None and fence.mode == CLOSED:
        raise _closed(mapping, fence)
    if start_over:
        return _start_over(fingerprint, known, fence, make_run())
    if fence is not None and _is_purged(known, fence):
        before = max(written, fence.revision, known.revision if known else 0)
        return Opening(Way.FIRST, make_run(), fence.run, before + 1)
    if known is None or not known.fenced:
        opening = _first(mapping, fingerprint, known, fence, make_run)
        return replace(opening, revision=written + 1) if known is None else opening
    if fence is not None and (fence.run != known.run or fence.mixed):
        raise _taken(mapping, fence)
    _same_target(mapping, known, fence, identity, empty)
    if known.fingerprint != fingerprint:
        raise MappingChanged(
            f"Mapping '{mapping}', or the schema under it, is not the one that wrote the records.",
            where={"mapping": mapping, "expected": known.fingerprint, "found": fingerprint},
            next_step=f"Undo the change, or run: profile-migrate backfill {mapping} --start-over",
        )
    # A node of a Cluster that lost its fences has lost its records with them.
    whole = fence is not None and not fence.missing
    way = Way.CONTINUE if whole else Way.REDO
    return Opening(way, known.run, known.run if whole else None, known.revision)


def _is_purged(known: MappingState | None, fence: FenceState) -> bool:
    """
    Whether the fence is what a purge of our own records left, for a while.
    """
    ours = known is None or not known.fenced or known.run == fence.run
    return fence.mode == PURGED and ours


def _closed(mapping: str, fence: FenceState) -> Refused:
    return Refused(
        "The records of this mapping are being purged, and nobody may write them.",
        where={"mapping": mapping, "run": fence.run, "epoch": fence.epoch},
        next_step=f"Finish it with: profile-migrate rollback {mapping} --purge",
    )


def _first(
    mapping: str,
    fingerprint: str,
    known: MappingState | None,
    fence: FenceState | None,
    make_run: Callable[[], str],
) -> Opening:
    # A run may have died between the ledger and the fence; either side of that moment is ours.
    if (
        known is not None
        and known.fingerprint == fingerprint
        and (fence is None or fence.run == known.run)
    ):
        expected = fence.run if fence and not fence.missing else None
        return Opening(Way.FIRST, known.run, expected, known.revision)
    if fence is not None:
        raise _taken(mapping, fence)
    return Opening(Way.FIRST, make_run(), None, known.revision + 1 if known else 1)


def _start_over(
    fingerprint: str, known: MappingState | None, fence: FenceState | None, run: str
) -> Opening:
    revisions = [part.revision for part in (known, fence) if part is not None]
    written = {part.fingerprint for part in (known, fence) if part is not None}
    revision = max(revisions, default=0)
    if written != {fingerprint}:
        revision += 1
    return Opening(Way.START_OVER, run, fence.run if fence else None, revision)


def _same_target(
    mapping: str,
    known: MappingState,
    fence: FenceState | None,
    identity: ServerIdentity,
    empty: Callable[[], bool],
) -> None:
    if (known.address, known.topology) != (identity.address, identity.topology):
        raise _changed(mapping, "The target is at another address.", known, identity)
    if fence is not None:
        return
    if (known.flavour, known.version) != (identity.flavour, identity.version):
        raise _changed(mapping, "The target is another server without our data.", known, identity)
    if not empty():
        raise _changed(
            mapping, "The target holds data, but not the fence of this migration.", known, identity
        )


def _changed(
    mapping: str, what: str, known: MappingState, identity: ServerIdentity
) -> TargetChanged:
    return TargetChanged(
        what,
        where={
            "mapping": mapping,
            "expected": f"{known.address} {known.flavour} {known.version} {known.topology}",
            "found": f"{identity.address} {identity.flavour} {identity.version} "
            f"{identity.topology}",
        },
        next_step="Point redis.target back, or take the new one with: "
        f"profile-migrate backfill {mapping} --start-over",
    )


def _taken(mapping: str, fence: FenceState) -> TargetTaken:
    return TargetTaken(
        f"The target holds records of another migration named '{mapping}'.",
        where={"mapping": mapping, "run": fence.run, "epoch": fence.epoch},
        next_step="Use the ledger that wrote them, or take them over with: "
        f"profile-migrate backfill {mapping} --start-over",
    )
