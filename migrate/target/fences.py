"""
The fences of a Cluster: one for each slot, beside the records of that slot, all of them alike.

They change one by one, so that a change may die half-way. It counts as done only when all are read
back, and whoever comes next sees the mixture and makes them alike again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from uuid import uuid4

from migrate.errors import Fenced, TargetNotWritable
from migrate.target.fence import (
    FIELDS,
    FORWARD,
    Claim,
    FenceState,
    closed,
    fence_key,
    lost,
    not_a_fence,
    state_of,
    taken,
)
from migrate.target.link import Command, Link, call_of, failed
from migrate.target.removal import PURGED
from migrate.target.scripts import Script
from migrate.target.slots import SLOTS

AT_ONCE = 2_048
"""Fences read or changed in one round trip."""

ATTEMPTS = 5
"""How often a change begins anew because somebody else changes the fences meanwhile."""

CLAIM = "claim"
"""Field beside `FIELDS`: which change wrote this fence, so that two of one epoch are told apart."""

SWING = Script.of("""
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'none' and kind ~= 'hash' then return {'FOREIGN'} end
local held = redis.call('HMGET', KEYS[1], 'run', 'mode', 'epoch', 'claim')
for i = 1, 4 do held[i] = held[i] or '' end

-- An answer was lost and we ask again.
if held[1] == ARGV[7] and held[2] == ARGV[5] and held[3] == ARGV[6] and held[4] == ARGV[12] then
  return {'OK'}
end
-- A hash in which no fence was seen is somebody's.
if kind == 'hash' and ARGV[3] == '' and held[4] == '' then return {'FOREIGN'} end
for i = 1, 4 do
  if held[i] ~= ARGV[i] then return {'CHANGED', held[3]} end
end
redis.call('HSET', KEYS[1], 'mode', ARGV[5], 'epoch', ARGV[6], 'run', ARGV[7], 'floor', ARGV[8],
  'generation', ARGV[9], 'revision', ARGV[10], 'fingerprint', ARGV[11], 'claim', ARGV[12])
-- What a purge left would go by itself.
if held[2] == 'purged' then redis.call('PERSIST', KEYS[1]) end
return {'OK'}
""")
"""
Replace the fence of one slot, if it is still the one that was read.

KEYS: fence. ARGV: run, mode, epoch and claim that were read ('' each where there was none); the
seven fields to write, and the claim. Reply: OK; CHANGED and the epoch that is there; or FOREIGN.
"""

_NONE = FenceState("", 0, "", 0, 0, 0, "")

Held = list[tuple[FenceState | None, str]]
"""The fence of each slot with its claim."""


def read_fences(link: Link, mapping: str) -> FenceState | None:
    """
    What the fences of all slots say together: the newest, and whether the others differ.

    Raises:
        TargetTaken: A key holds something that is not a fence of ours.
    """
    return _together(_read(link, mapping))


def begin_fences(link: Link, mapping: str, claim: Claim) -> FenceState:
    """
    Create or take over the fence of every slot, all with one epoch above every earlier one.

    Slots without a fence get one where none was expected: after a loss, and after a first run that
    died half-way.

    Raises:
        TargetLostData: Fences were expected and some are not there.
        TargetTaken: Another run's fence is in some slot.
        Refused: The fences are closed.
        Fenced: A newer run takes them over at the same time.
    """
    token = uuid4().hex
    for _ in range(ATTEMPTS):
        held = _read(link, mapping)
        _refuse(link, mapping, claim, held)
        written = _next(claim, [state for state, _ in held if state is not None])
        if not _swing(link, mapping, held, written, token):
            continue
        if _read(link, mapping) == [(written, token)] * SLOTS:
            return written
    raise TargetNotWritable(
        "The fences of this mapping do not come to rest: slots lose them, or someone changes them.",
        where={"mapping": mapping, "redis": link.config.name, "address": link.config.address},
        next_step="Make sure that one run alone works on this mapping, and repeat the command.",
    )


def _read(link: Link, mapping: str) -> Held:
    held: Held = []
    for slots in _portions():
        commands: list[Command] = [
            ("HMGET", fence_key(mapping, slot), *FIELDS, CLAIM) for slot in slots
        ]
        for slot, reply in zip(slots, link.together(commands, keep="WRONGTYPE"), strict=True):
            if failed(reply):
                raise not_a_fence(link, mapping, slot)
            *values, claim = reply
            state = state_of(values)
            held.append((state, (claim or b"").decode(errors="replace")))
    return held


def _together(held: Held) -> FenceState | None:
    states = [state for state, _ in held if state is not None]
    if not states:
        return None
    newest = max(states, key=lambda state: state.epoch)
    return replace(
        newest,
        missing=SLOTS - len(states),
        mixed=any(state.run != newest.run for state in states),
    )


def _next(claim: Claim, there: Sequence[FenceState]) -> FenceState:
    """
    What every slot is to hold: above every epoch, and not below a floor of records still there.
    """
    return FenceState(
        FORWARD,
        1 + max((state.epoch for state in there), default=0),
        claim.run,
        max((state.floor for state in there if state.mode != PURGED), default=0),
        claim.generation,
        claim.revision,
        claim.fingerprint,
    )


def _refuse(link: Link, mapping: str, claim: Claim, held: Held) -> None:
    left = [state for state, _ in held if state is not None and not _is_over(state, claim)]
    was_purged = not left and any(state for state, _ in held)
    if len(left) < SLOTS and claim.expected and not (claim.start_over or was_purged):
        raise lost(link, mapping, "")
    for state in left:
        if state.mode != FORWARD:
            raise closed(link, mapping, state.mode)
        if state.run not in (claim.expected, claim.run) and not claim.start_over:
            raise taken(link, mapping, state.run)


def _is_over(state: FenceState, claim: Claim) -> bool:
    """
    Whether nothing of that run is there any more, and it is not the one that begins.
    """
    return state.mode == PURGED and state.run != claim.run


def _swing(
    link: Link,
    mapping: str,
    held: Held,
    written: FenceState,
    token: str,
) -> bool:
    """
    Change every fence; False where one is not what was read.
    """
    words = [getattr(written, name) for name in FIELDS]
    for slots in _portions():
        calls = []
        for slot in slots:
            found, claim = held[slot]
            old = found or _NONE
            seen = (old.run, old.mode, old.epoch if found else "", claim)
            calls.append(call_of(SWING, [fence_key(mapping, slot)], [*seen, *words, token]))
        replies = link.patience.call(lambda calls=calls: link.scripts(calls, SWING))  # type: ignore[misc]
        for slot, (word, *rest) in zip(slots, replies, strict=True):
            if word == b"FOREIGN":
                raise not_a_fence(link, mapping, slot)
            if word == b"CHANGED":
                _give_way(mapping, written, rest[0])
                return False
    return True


def _give_way(mapping: str, written: FenceState, found: bytes) -> None:
    """
    Leave the fences to whoever has a higher epoch already.
    """
    if found.isdigit() and int(found) > written.epoch:
        raise Fenced(
            "A newer run took over while this one began; this one wrote nothing.",
            where={"mapping": mapping, "epoch": written.epoch, "found_epoch": int(found)},
            next_step=f"profile-migrate status {mapping}",
        )


def _portions() -> Iterator[Sequence[int]]:
    for start in range(0, SLOTS, AT_ONCE):
        yield range(start, min(start + AT_ONCE, SLOTS))
