"""
The fence: the key in Redis that says whose data this is and who may write it.

Its state is read and taken over here; every write checks it in the server (`scripts.WRITE`). On a
Cluster every slot has one (`fences`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from migrate.errors import Refused, TargetLostData, TargetTaken
from migrate.target.link import Link, unexpected
from migrate.target.scripts import BEGIN
from migrate.target.slots import tags

RESERVED_PREFIX = "profile-migrate:"
"""Keys that begin so are ours; no mapping may produce one."""

FIELDS = ("mode", "epoch", "run", "floor", "generation", "revision", "fingerprint")
"""Of the hash, in the order in which scripts answer them."""

FORWARD = "fwd"
"""The mode in which SQL is the authority and we write."""


def fence_key(mapping: str, slot: int | None = None) -> str:
    """
    The key of a mapping's fence; on a Cluster there is one for each slot.
    """
    tag = "" if slot is None else f"{{{tags()[slot]}}}:"
    return f"{RESERVED_PREFIX}fence:{tag}{mapping}"


def adopted_key(mapping: str, key: bytes, slot: int | None = None) -> bytes:
    """
    Where a value that was in a record's place is kept, byte for byte, until it is put back.
    """
    tag = "" if slot is None else f"{{{tags()[slot]}}}:"
    return f"{RESERVED_PREFIX}adopted:{tag}{mapping}:".encode() + key


@dataclass(frozen=True, slots=True)
class FenceState:
    """
    What a fence says.

    Args:
        run: UUID of this migration's data in this target; new when it is started over.

        generation: Of the capture when the last run began; 0 without capture.

        revision: Of the mapping when the last run began.

        fingerprint: Of the mapping when the last run began.

        missing: Slots of a Cluster that have lost it, or never had it.

        mixed: Slots of a Cluster hold fences of several runs; this is the newest one.
    """

    mode: str
    epoch: int
    run: str
    floor: int
    generation: int
    revision: int
    fingerprint: str
    missing: int = 0
    mixed: bool = False

    def to_dict(self) -> dict[str, object]:
        """
        The same for `--json`.
        """
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Claim:
    """
    What a run writes into the fence when it begins.

    Args:
        run: The migration's UUID in this target.

        expected: The UUID that must be there; None where no fence may be there.

        start_over: Take over whatever fence is there, with the new UUID.
    """

    run: str
    expected: str | None
    generation: int
    revision: int
    fingerprint: str
    start_over: bool = False


def read_fence(link: Link, mapping: str) -> FenceState | None:
    """
    The fence of a mapping, or None where there is none.

    Raises:
        TargetTaken: The key holds something that is not a fence of ours.
    """
    key = fence_key(mapping)
    kind = link.command("TYPE", key)
    if kind == b"none":
        return None
    if kind != b"hash":
        raise not_a_fence(link, mapping)
    state = state_of(link.command("HMGET", key, *FIELDS))
    if state is None:
        raise not_a_fence(link, mapping)
    return state


def begin(link: Link, mapping: str, claim: Claim) -> FenceState:
    """
    Create the fence, or take it over and raise its epoch, in one step.

    An older run's writes answer FENCED from then on. Repeating it after a lost answer is harmless.

    Raises:
        TargetLostData: A fence was expected and none is there.
        TargetTaken: Another run's fence is there.
        Refused: The fence is closed.
    """
    words = [
        claim.run,
        claim.expected or "",
        "1" if claim.start_over else "0",
        claim.generation,
        claim.revision,
        claim.fingerprint,
    ]
    word, *rest = link.run(BEGIN, [fence_key(mapping)], words)
    if word == b"OK":
        state = state_of(rest)
        if state is not None:
            return state
    if word == b"LOST":
        raise lost(link, mapping, "")
    if word == b"FOREIGN":
        raise not_a_fence(link, mapping)
    if word == b"CLOSED":
        raise closed(link, mapping, rest[0].decode())
    if word == b"TAKEN":
        raise taken(link, mapping, rest[2].decode())
    raise unexpected(
        "Redis answered the fence script with a word that we do not know.", link.config
    )


def lost(link: Link, mapping: str, found: str) -> TargetLostData:
    """
    The error for a fence that is gone, or of another run, in the middle of work.
    """
    what = "holds the fence of another run" if found else "has lost the fence of this mapping"
    where = _where(link, mapping) | ({"found_run": found} if found else {})
    return TargetLostData(
        f"Redis {what}: it was emptied, restored, or is another server. Nothing more was written.",
        where=where,
        next_step="Find out why. The same command writes everything again.",
    )


def closed(link: Link, mapping: str, mode: str) -> Refused:
    """
    The error for a fence behind which nobody writes any more.
    """
    return Refused(
        "The fence of this mapping is closed: nobody may write its records.",
        where=_where(link, mapping) | {"mode": mode},
        next_step=f"profile-migrate status {mapping}",
    )


def taken(link: Link, mapping: str, run: str) -> TargetTaken:
    """
    The error for the fence of somebody else.
    """
    return TargetTaken(
        "This Redis holds the records of another run of this mapping.",
        where=_where(link, mapping) | {"run": run},
        next_step="Use the ledger of that run, another target, or --start-over to take over.",
    )


def not_a_fence(link: Link, mapping: str, slot: int | None = None) -> TargetTaken:
    """
    The error for something else under the key of a fence.
    """
    return TargetTaken(
        "The key of the fence holds something that is not a fence.",
        where=_where(link, mapping) | {"key": fence_key(mapping, slot)},
        next_step="Rename or delete that key if nobody needs it.",
    )


def _where(link: Link, mapping: str) -> dict[str, object]:
    return {"mapping": mapping, "redis": link.config.name, "address": link.config.address}


def state_of(values: list[Any]) -> FenceState | None:
    """
    The fence that these values of `FIELDS` are; None where they are none.
    """
    mode, epoch, run, floor, generation, revision, fingerprint = (
        (value or b"").decode(errors="replace") for value in values
    )
    if not (mode and run and epoch.isdecimal()):
        return None
    return FenceState(
        mode, int(epoch), run, _int(floor), _int(generation), _int(revision), fingerprint
    )


def _int(text: str) -> int:
    return int(text) if text.isdecimal() else 0
