"""
Find records by their shape and remove them: all of them, or those that a new mapping left behind.

A key is a record of ours if its whole name fits the template, it carries our mark, and the digest
in it can be made again from what it holds. One with our name and mark but another content was
changed by somebody else: it is kept, and reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Protocol

from migrate.mapping.codecs import Undecodable
from migrate.mapping.digest import digest_of, seed_of
from migrate.mapping.json_text import members, quoted
from migrate.mapping.template import Template
from migrate.model.lookups import parse_entries
from migrate.model.ports import Clock
from migrate.model.shape import RecordShape
from migrate.model.values import GENERATION_DIGITS, Expiry, Fence, LookupKind, RecordType
from migrate.target.removal import Aside, Found, Removed, There, Tombstone

Stop = Callable[[], None]
"""Asked between pages; raises to end the work."""


class Sweeping(Protocol):
    """
    What a sweep asks of the target. See `target.removal.Remover`.
    """

    def scan(self, prefix: bytes) -> Iterator[list[bytes]]:
        """
        Pages of the keys that begin so.
        """

    def read(
        self, keys: Sequence[bytes], shape: RecordShape, pass_over: str = ""
    ) -> Iterator[list[Found]]:
        """
        What is under these keys.
        """

    def remove(
        self,
        found: Sequence[Found],
        shape: RecordShape,
        *,
        tombstone: Tombstone | None = None,
        put_back: bool = False,
    ) -> list[tuple[Found, Removed]]:
        """
        Remove what is still as it was read.
        """

    def exist(self, keys: Sequence[bytes]) -> list[bool]:
        """
        Whether there is something under each key.
        """

    def members(self, key: bytes, kind: LookupKind) -> Iterator[list[bytes]]:
        """
        Pages of the record keys that a lookup holds.
        """

    def release(self, key: bytes, kind: LookupKind, records: Sequence[bytes]) -> None:
        """
        Take records out of a lookup.
        """

    def aside(self) -> Iterator[list[Aside]]:
        """
        Pages of the foreign values that are put aside.
        """

    def put_back(self, aside: Aside) -> Removed:
        """
        Give a value its key back, if that is free.
        """


class Sweepable(Protocol):
    """
    A target that can be swept.
    """

    def remover(self, mapping: str, fence: Fence | None) -> Sweeping:
        """
        Removes behind this fence; without one it only looks.
        """


class Fate(StrEnum):
    """
    What became, or would become, of something that was found.
    """

    REMOVED = "removed"
    RESTORED = "restored"
    """A value that was there before us is in its place again."""
    BURIED = "tombstones"
    """A tombstone is in its place."""
    CHANGED = "changed"
    """Somebody else changed the record: kept."""
    TAKEN = "taken"
    """A value that was put aside stays there: its key holds something else."""
    ENTRIES = "entries"
    """Entries in lookups, of records that are no longer there, were released."""


@dataclass(frozen=True, slots=True)
class Swept:
    """
    What one page brought.

    Args:
        looked: Keys whose names fit.

        kept: Keys of the records that stay because somebody changed them, or of the values that
            cannot go back.
    """

    looked: int = 0
    fates: Mapping[Fate, int] = field(default_factory=dict)
    kept: tuple[bytes, ...] = ()


class Verdict(StrEnum):
    """
    What a key with our mark holds.
    """

    RECORD = "record"
    TOMBSTONE = "tombstone"
    CHANGED = "changed"


class Act(StrEnum):
    """
    What is to be done with it.
    """

    REMOVE = "remove"
    BURY = "bury"
    KEEP = "keep"
    """It stays, and is reported."""
    PASS = "pass"
    """It stays, and is as it should be."""


Policy = Callable[[Found, Verdict], Act]


@dataclass(frozen=True, slots=True)
class _Known:
    """
    A shape and what is needed to recognise its records.
    """

    shape: RecordShape
    template: Template

    @classmethod
    def of(cls, shape: RecordShape) -> _Known:
        return cls(shape, Template.parse(shape.template))

    @property
    def reading(self) -> tuple[tuple[str, ...], RecordType]:
        """
        Shapes that agree in it are read in the same way.
        """
        return self.shape.reserved, self.shape.record


def everything(
    target: Sweepable,
    shapes: Sequence[RecordShape],
    fence: Fence | None,
    *,
    mapping: str,
    stop: Stop,
    changed: bool = False,
) -> Iterator[Swept]:
    """
    Remove every record, release entries that nobody lists any more, and put back what was aside.

    Repeating it after a crash at any point ends the same: each removal is one step in the server.

    Args:
        fence: The closed one; None looks and changes nothing.

        changed: Remove the records as well that somebody else changed.
    """
    remover = target.remover(mapping, fence)

    def policy(_: Found, verdict: Verdict) -> Act:
        return Act.KEEP if verdict is Verdict.CHANGED and not changed else Act.REMOVE

    yield from _sweep(remover, shapes, policy, stop, put_back=True)
    # Before a value takes its key back: an entry whose record is gone must not seem to have one.
    yield from _release(remover, shapes, stop)
    yield from _put_back(remover, stop, looking=fence is None)


def left_behind(
    target: Sweepable,
    shapes: Sequence[RecordShape],
    current: RecordShape,
    fence: Fence | None,
    *,
    mapping: str,
    stop: Stop,
    clock: Clock,
    rejected: Callable[[bytes], bool] = lambda _: False,
) -> Iterator[Swept]:
    """
    After a run with a changed mapping: what earlier shapes wrote and this run did not replace.

    Records under another template go. A record under the current one whose version is that of an
    earlier revision has no row any more: a tombstone takes its place.

    Args:
        fence: Of the run that is over; None looks and changes nothing.

        rejected: Whether the row of a record became a reject: its old record goes without a
            tombstone, for the row is still there.
    """
    now = _Known.of(current)

    def policy(found: Found, verdict: Verdict) -> Act:
        if not now.template.match(found.key):
            return Act.KEEP if verdict is Verdict.CHANGED else Act.REMOVE
        older = len(found.version) <= GENERATION_DIGITS and int(found.version) < current.revision
        if not older or verdict is Verdict.TOMBSTONE:
            return Act.PASS
        if verdict is Verdict.CHANGED:
            return Act.KEEP
        return Act.REMOVE if rejected(found.key) else Act.BURY

    remover = target.remover(mapping, fence)
    began = clock.now()
    for swept in _sweep(remover, [*shapes, current], policy, stop, now=now):
        yield swept
        if clock.now() - began > BREATH_S:
            # The applications that share this server come first.
            clock.sleep(BREATH_S / 10)
            began = clock.now()


BREATH_S = 0.5
"""A sweep that nobody waits for pauses after so long, for a tenth of it."""


def count_left_behind(
    target: Sweepable,
    shapes: Sequence[RecordShape],
    current: RecordShape,
    *,
    mapping: str,
    stop: Stop,
    clock: Clock,
) -> Swept:
    """
    What `left_behind` would do if no row were written before; nothing is changed.

    Before a run, records under the current template that it will replace are counted as well
    (`tombstones`): those that go in any case are the removed ones.
    """
    return total(
        left_behind(target, shapes, current, None, mapping=mapping, stop=stop, clock=clock)
    )


EXAMPLES = 20
"""Keys that are kept, named in a sum."""


def total(parts: Iterator[Swept]) -> Swept:
    """
    The sum of a sweep, with the first few keys that are kept.
    """
    looked, fates, kept = 0, Counter[Fate](), ()  # type: tuple[int, Counter[Fate], tuple[bytes, ...]]
    for part in parts:
        looked += part.looked
        fates.update(part.fates)
        kept = (*kept, *part.kept)[:EXAMPLES]
    return Swept(looked, dict(fates), kept)


# --- records -------------------------------------------------------------------------------------


def _sweep(
    remover: Sweeping,
    shapes: Sequence[RecordShape],
    policy: Policy,
    stop: Stop,
    *,
    put_back: bool = False,
    now: _Known | None = None,
) -> Iterator[Swept]:
    known = [_Known.of(shape) for shape in {shape.fingerprint: shape for shape in shapes}.values()]
    for prefix in dict.fromkeys(one.template.prefix for one in known):
        here = [one for one in known if one.template.prefix == prefix]
        for page in remover.scan(prefix):
            stop()
            for reading in dict.fromkeys(one.reading for one in here):
                alike = [one for one in here if one.reading == reading]
                templates = {one.shape.template: one.template for one in alike}.values()
                fits = [key for key in page if any(one.match(key) for one in templates)]
                for part, pass_over in _parts(fits, reading, now):
                    for found in remover.read(part, alike[0].shape, pass_over):
                        yield _settle(remover, found, alike, policy, put_back=put_back, now=now)


def _parts(
    keys: Sequence[bytes], reading: tuple[tuple[str, ...], RecordType], now: _Known | None
) -> Iterator[tuple[list[bytes], str]]:
    """
    Keys, and the version under them that need not be looked at: that of the run that is over.
    """
    if now is None or now.reading != reading:
        yield list(keys), ""
        return
    fit = {key for key in keys if now.template.match(key)}
    yield [key for key in keys if key in fit], str(now.shape.revision)
    yield [key for key in keys if key not in fit], ""


def _settle(
    remover: Sweeping,
    found: Sequence[Found],
    known: Sequence[_Known],
    policy: Policy,
    *,
    put_back: bool,
    now: _Known | None,
) -> Swept:
    """
    Judge what was read and do what the policy says.
    """
    shape = known[0].shape
    acts: dict[Act, list[Found]] = {act: [] for act in Act}
    for one in found:
        if one.there in (There.MARKED, There.LARGE):
            alone = len(known) == 1
            fitting = [k.shape for k in known if alone or k.template.match(one.key)]
            acts[policy(one, judge(one, fitting))].append(one)
    done = remover.remove(acts[Act.REMOVE], shape, put_back=put_back) if acts[Act.REMOVE] else []
    if now is not None and acts[Act.BURY]:
        # Where the names in a record have changed since, a tombstone would not be understood.
        alike = (shape.reserved, shape.record) == now.reading
        tombstone = Tombstone(now.shape.revision) if alike else None
        done += remover.remove(acts[Act.BURY], shape, tombstone=tombstone)
    fates = Counter(fate for _, removed in done for fate in _FATES[removed])
    kept = [one.key for one in acts[Act.KEEP]]
    kept += [one.key for one, removed in done if removed is Removed.CHANGED]
    if acts[Act.KEEP]:
        fates[Fate.CHANGED] += len(acts[Act.KEEP])
    return Swept(len(found), dict(fates), tuple(kept))


_FATES: Mapping[Removed, tuple[Fate, ...]] = {
    Removed.REMOVED: (Fate.REMOVED,),
    Removed.RESTORED: (Fate.REMOVED, Fate.RESTORED),
    Removed.BURIED: (Fate.BURIED,),
    Removed.CHANGED: (Fate.CHANGED,),
    Removed.GONE: (),
    Removed.TAKEN: (Fate.TAKEN,),
}


def judge(found: Found, shapes: Sequence[RecordShape]) -> Verdict:
    """
    Whether a key with our mark holds what one of these shapes wrote.
    """
    if found.there is There.LARGE:
        return Verdict.CHANGED
    if found.tombstone:
        whole = any(_is_tombstone(found, shape) for shape in shapes)
        return Verdict.TOMBSTONE if whole else Verdict.CHANGED
    same = any(_digest(found, shape) == found.digest for shape in shapes)
    return Verdict.RECORD if same else Verdict.CHANGED


def _is_tombstone(found: Found, shape: RecordShape) -> bool:
    version, _, tombstone, *_ = shape.reserved
    if shape.record is RecordType.HASH:
        names = {version.encode(), tombstone.encode()}
        return set(found.content[::2]) == names
    text = f'{{{quoted(version)}:"{found.version.decode()}",{quoted(tombstone)}:1}}'
    return found.content == (text.encode(),)


def _digest(found: Found, shape: RecordShape) -> bytes | None:
    """
    The digest of what is there under a shape; None where that shape never wrote such a thing.
    """
    parts = _parts_of(found, shape)
    if parts is None:
        return None
    _, _, _, lookups, expires = (name.encode() for name in shape.reserved)
    if not _is_list(parts.get(lookups, b"")):
        return None
    ours = {name.encode() for name in shape.reserved}
    fields = [(name, value) for name, value in parts.items() if name not in ours]
    instant = parts.get(expires) if shape.expiry is Expiry.COLUMN else None
    covered = None if instant is None else (expires, instant)
    return digest_of(_seed(shape.fingerprint), found.key, fields, covered)


_seed = lru_cache(maxsize=64)(seed_of)


def _parts_of(found: Found, shape: RecordShape) -> dict[bytes, bytes] | None:
    """
    Names and values as the digest saw them.
    """
    if shape.record is RecordType.HASH:
        return dict(zip(found.content[::2], found.content[1::2], strict=True))
    try:
        pairs = members(found.content[0].decode())
    except (Undecodable, UnicodeDecodeError):
        return None
    again = "{" + ",".join(f"{quoted(name)}:{text}" for name, text in pairs) + "}"
    if again.encode() != found.content[0]:
        return None
    reserved = set(shape.reserved)
    return {
        name.encode(): (text.strip('"') if name in reserved else text).encode()
        for name, text in pairs
    }


def _is_list(text: bytes) -> bool:
    try:
        parse_entries(text)
    except ValueError:
        return False
    return True


# --- what was put aside, and lookups -------------------------------------------------------------


def _put_back(remover: Sweeping, stop: Stop, *, looking: bool) -> Iterator[Swept]:
    """
    Values whose record was gone before it could be removed.
    """
    for page in remover.aside():
        stop()
        fates: Counter[Fate] = Counter()
        kept = []
        for one in page:
            removed = remover.put_back(one)
            if removed is Removed.TAKEN and looking:
                # The record that is still in its place would go first.
                fates[Fate.RESTORED] += 1
            elif removed is Removed.TAKEN:
                fates[Fate.TAKEN] += 1
                kept.append(one.original)
            elif removed is Removed.RESTORED:
                fates[Fate.RESTORED] += 1
        yield Swept(len(page), dict(fates), tuple(kept))


def _release(remover: Sweeping, shapes: Sequence[RecordShape], stop: Stop) -> Iterator[Swept]:
    """
    Entries of records that went without us: expired, evicted or deleted by hand.
    """
    records = [Template.parse(text) for text in {shape.template for shape in shapes}]
    lookups = dict.fromkeys(lookup for shape in shapes for lookup in shape.lookups)
    for kind, text in lookups:
        template = Template.parse(text, fixed=True)
        for page in remover.scan(template.prefix):
            stop()
            released = 0
            fits = [key for key in page if template.match(key) is not None]
            for key in fits:
                released += _release_one(remover, key, kind, records)
            yield Swept(len(fits), {Fate.ENTRIES: released} if released else {})


def _release_one(
    remover: Sweeping, key: bytes, kind: LookupKind, records: Sequence[Template]
) -> int:
    """
    Take out of one lookup what is no longer there; one that holds anything else is not ours.
    """
    released = 0
    for members_ in remover.members(key, kind):
        if not all(any(one.match(member) for one in records) for member in members_):
            break
        there = remover.exist(members_)
        gone = [member for member, exists in zip(members_, there, strict=True) if not exists]
        if gone:
            remover.release(key, kind, gone)
            released += len(gone)
    return released
