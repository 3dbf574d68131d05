"""
Lookups on a Cluster: near ones are written with their record, and unique ones may be elsewhere.

A lookup is near if its template has the records' hash tag; its entries are in the record's script.
The entry of a far one is a hash, `{id, v, s}`: key and version of the record, and a stamp. It is
claimed before the record is written and left after that, and the record lists it all the while.
Sets in another slot are refused: nobody could say who is in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from migrate.errors import MigrateError, Refused, TargetNotWritable
from migrate.mapping.template import Template
from migrate.model.lookups import entries_text, parse_entries
from migrate.model.ports import Pace
from migrate.model.shape import RecordShape
from migrate.model.values import Fence, LookupKind, Outcome, Receipt, Record, ServerIdentity
from migrate.target.claims import Claims, Held, Leaving, Seen, Wanted
from migrate.target.far_scripts import FAR_WRITE, LOOK, OWN, PEEK
from migrate.target.link import Link, call_of
from migrate.target.loader import AT_ONCE, Call, DryLoader, ScriptLoader, cast
from migrate.target.slots import slot_of

ROUNDS = 100
"""How often a batch begins anew, at most, because other writers change the same records."""

CONTESTED = 10
"""How often a record tries for an entry that others claim at the same time: then it is theirs."""

_FIX = (
    "Give the templates of record and lookup one hash tag in common, as in "
    '"profile:{{{tenant}}}:{id}" and "email:{{{tenant}}}:{email}"; or use a server of its own.'
)

_WRITES = frozenset({Outcome.WRITTEN, Outcome.REPLACED, Outcome.SAME, Outcome.ADOPTED})
_VERSIONED = frozenset({Outcome.STALE, Outcome.CONFLICT})
_REFUSED = frozenset({Outcome.COLLISION, Outcome.DUPLICATE})
_BLOCKED = ord("R")


# --- which lookups are far ------------------------------------------------------------------------


def far_lookups(shape: RecordShape) -> frozenset[int]:
    """
    The places of the lookups whose entries are in other slots than their records.
    """
    tag = tag_of(shape.template)
    return frozenset(
        at for at, (_, template) in enumerate(shape.lookups) if not tag or tag_of(template) != tag
    )


def refuse_far_sets(mapping: str, shape: RecordShape) -> None:
    """
    Refuse a mapping whose sets cannot be in the slots of their records.

    Raises:
        Refused: A template has no hash tag, or another one than the records'.
    """
    for at in sorted(far_lookups(shape)):
        kind, template = shape.lookups[at]
        if kind is not LookupKind.UNIQUE:
            raise Refused(
                "On a Cluster a set must be in the slot of its records, and this one is not.",
                where={"mapping": mapping, "record": shape.template, "lookup": template},
                next_step=_FIX,
            )


def refuse_far_entries(
    mapping: str, records: Sequence[Record], far: frozenset[int] = frozenset()
) -> None:
    """
    Refuse records of which some entry is in another slot though its template has their tag.

    Tags of two templates may look alike and still differ for a value: an empty one makes no tag.

    Raises:
        Refused: Names the lookup by its place, and never a value.
    """
    for record in records:
        slot = slot_of(record.key)
        for at, entry in enumerate(record.entries):
            if entry.key and at not in far and slot_of(entry.key) != slot:
                raise Refused(
                    "A lookup is in another slot of the Cluster than its record: for this row "
                    "their hash tags differ.",
                    where={"mapping": mapping, "lookup": at + 1},
                    next_step=_FIX,
                )


def tag_of(template: str) -> str:
    """
    The hash tag that the keys of a template have, with its placeholders; empty where none.
    """
    parsed = Template.parse(template, fixed=True)
    # Braces of values are escaped in keys, so the literal ones alone make the tag.
    text = parsed.literals[0]
    for name, literal in zip(parsed.names, parsed.literals[1:], strict=True):
        text += f"\0{name}\1{literal}"
    tag, closed, _ = text.partition("{")[2].partition("}")
    return tag.replace("\0", "{").replace("\1", "}") if closed else ""


class _Links:
    """
    The far entries of a mapping's records.
    """

    def __init__(self, mapping: str, shape: RecordShape) -> None:
        self._mapping = mapping
        self._far = far_lookups(shape)
        self._any = bool(shape.lookups)
        self.prefix = Template.parse(shape.template).literals[0].encode()

    def check(self, records: Sequence[Record]) -> None:
        """
        See `refuse_far_entries`.
        """
        if self._any:
            refuse_far_entries(self._mapping, records, self._far)

    def of(self, record: Record) -> list[tuple[int, bytes]]:
        """
        Place and key of each.
        """
        if not self._far:
            return []
        return [
            (at, entry.key)
            for at, entry in enumerate(record.entries)
            if entry.key and at in self._far
        ]

    def marked(self, record: Record, *, claimed: bool) -> Record:
        """
        The record as the scripts are told of it.
        """
        if not self._far:
            return record
        letter = b"f" if claimed else b"w"
        entries = tuple(
            entry._replace(kind=letter) if at in self._far else entry
            for at, entry in enumerate(record.entries)
        )
        return record._replace(entries=entries)


class _Look(NamedTuple):
    """
    What would become of a record, its far entries aside.

    Args:
        told: The version that is there, or which entry is refused.

        listed: Unique entries that the record lists.
    """

    outcome: Outcome
    told: bytes
    listed: frozenset[bytes]
    expires: bytes


def _look(reply: Sequence[bytes]) -> _Look:
    digit, told, held, expires = reply
    return _Look(Outcome(int(digit)), told, frozenset(_unique(held)), expires)


def _unique(text: bytes) -> tuple[bytes, ...]:
    try:
        return tuple(entry.key for entry in parse_entries(text) if entry.kind == b"u")
    except ValueError:
        # Somebody else wrote it; the scripts take it for empty as well.
        return ()


# --- writing --------------------------------------------------------------------------------------


class FarLoader(ScriptLoader):
    """
    Writes a batch whose unique entries are in other slots, in steps that may end anywhere.

    1. LOOK: what would become of each record, and the stamp of its slot.
    2. CLAIM: each entry, if it is free or one's own. From a record that has no part in it, it is
       taken after PART, which makes sure that this stays so: it raises the stamp of that record's
       slot.
    3. WRITE: record and list, if the stamp is still the one that was seen. Otherwise again from 1.
       What the record was in before stays in its list.
    4. PART, LEAVE, SHRINK: those entries go, and then their places in the list.

    So an entry that a record lists is never taken from it, and of two that claim one entry at the
    same time the second to write finds a raised stamp. What a crash leaves is an entry too many:
    one that a record lists goes with the next write of it, and any other is free for whoever wants
    it, and found by a purge.
    """

    def __init__(
        self,
        link: Link,
        mapping: str,
        fence: Fence,
        shape: RecordShape,
        identify: Callable[[], ServerIdentity],
        *,
        adopt: bool = False,
        pace: Pace = AT_ONCE,
    ) -> None:
        super().__init__(link, mapping, fence, shape, identify, adopt=adopt, pace=pace)
        self._links = _Links(mapping, shape)
        self._claims = Claims(link, mapping, fence, shape.reserved, self.refusal)
        self._names = shape.reserved

    def _write(self, records: Sequence[Record]) -> Receipt:
        self._links.check(records)
        work = _Work(records, self._links)
        for number in range(ROUNDS):
            if not work.left:
                return work.receipt()
            self._round(work, number)
        raise TargetNotWritable(
            "Records and their entries do not come to rest: others change them all the time.",
            where={"mapping": self._mapping, "records": len(work.left), "rounds": ROUNDS},
            next_step="Make sure that one run alone works on this mapping, and repeat the command.",
        )

    def refusal(self, reply: list[Any]) -> MigrateError | None:
        return None if reply[0] == b"RETRY" else super().refusal(reply)

    def _round(self, work: _Work, number: int) -> None:
        """
        Bring as many records to their end as nobody is in the way of.
        """
        before = len(work.left)
        places = work.next_places()
        looks = self._look(work, places)
        self._claim(work, looks, final=number >= CONTESTED)
        self._claims.give_back(work.take_unused())
        self._put(work, [at for at in places if at in work.left and at not in work.waiting])
        self._claims.give_back(work.take_unused())
        self._claims.leave(work.take_leavings())
        work.patient = len(work.left) < before

    def _look(self, work: _Work, places: Sequence[int]) -> dict[int, _Look]:
        """
        Look at the records that want far entries; those that are refused are at their end.
        """
        linked = [at for at in places if work.links.of(work.records[at])]
        marked = [work.links.marked(work.records[at], claimed=True) for at in linked]
        calls = self._calls(marked, LOOK, values=False)
        looks: dict[int, _Look] = {}
        work.stamps = {}
        for found, (_, stamp, *replies) in cast(self._link, LOOK, calls, self.refusal):
            slot = self._link.slot_of(marked[found[0]].key)
            # Of several answers about one slot the first: a stamp never falls.
            work.stamps.setdefault(slot, stamp)
            for at, reply in zip(found, replies, strict=True):
                looks[linked[at]] = _look(reply)
        for at, look in looks.items():
            if look.outcome not in _WRITES and look.outcome is not Outcome.EXPIRED:
                work.end(at, look.outcome, look.told)
        return {at: looks[at] for at in linked if at in work.left}

    def _claim(self, work: _Work, looks: dict[int, _Look], *, final: bool) -> None:
        """
        Claim the entries of all records that would be written.
        """
        wanted = [
            (at, which, self._wanted(work, at, key, look))
            for at, look in looks.items()
            if look.outcome in _WRITES
            for which, key in work.links.of(work.records[at])
        ]
        held = self._claims.claim([one for *_, one in wanted])
        contested: list[tuple[int, int, Wanted]] = []
        for (at, which, one), there in zip(wanted, held, strict=True):
            if there is None:
                work.claimed(at, one.key, listed=one.key in looks[at].listed)
                continue
            outcome = self._judged(work, at, one, there, final=final)
            if outcome is None:
                contested.append((at, which, one._replace(seen=there.seen)))
            else:
                work.refuse(at, which, outcome)
        self._take(work, contested, looks)
        work.end_refused()

    def _wanted(self, work: _Work, at: int, key: bytes, look: _Look) -> Wanted:
        record = work.records[at]
        stamp = work.stamps[self._link.slot_of(record.key)]
        linked = look.outcome is Outcome.SAME and key in look.listed
        return Wanted(key, record.key, record.version, stamp, look.expires, linked)

    def _judged(
        self, work: _Work, at: int, one: Wanted, there: Held, *, final: bool
    ) -> Outcome | None:
        """
        What is in the way of a claim: an outcome, WRITTEN to wait for it, None to try to take it.
        """
        if there.what == b"foreign":
            return Outcome.COLLISION
        owner = there.seen.record
        if work.patient and owner in work.going:
            return Outcome.WRITTEN
        if final:
            return Outcome.DUPLICATE
        if owner.startswith(work.links.prefix):
            return None
        if there.what == b"string":
            return Outcome.COLLISION
        word = self._link.run(OWN, [owner], [*self._names, one.key, work.records[at].version])
        return {b"no": Outcome.COLLISION, b"yes": Outcome.DUPLICATE}.get(word)

    def _take(
        self, work: _Work, contested: Sequence[tuple[int, int, Wanted]], looks: dict[int, _Look]
    ) -> None:
        """
        Take entries from records that have no part in them.
        """
        stamps = self._claims.part((one.seen.record, one.key, one.version) for *_, one in contested)
        free = []
        for (at, which, one), stamp in zip(contested, stamps, strict=True):
            if stamp:
                free.append((at, which, one))
            else:
                work.refuse(at, which, Outcome.DUPLICATE)
        held = self._claims.claim([one for *_, one in free])
        for (at, which, one), there in zip(free, held, strict=True):
            if there is None:
                work.claimed(at, one.key, listed=one.key in looks[at].listed)
            else:
                # Somebody claimed it again in between.
                work.refuse(at, which, Outcome.WRITTEN)

    def _put(self, work: _Work, places: Sequence[int]) -> None:
        """
        Write the records whose entries are claimed, and remove those that are over.
        """
        marked = [work.links.marked(work.records[at], claimed=at in work.ready) for at in places]
        calls = self._calls(marked, FAR_WRITE, tail=lambda slot: (work.stamps.get(slot, b""),))
        for found, reply in self._paced(FAR_WRITE, calls):
            if reply[0] == b"OK":
                _, digits, *told = reply
                left = iter(told)
                for at, digit in zip(found, digits, strict=True):
                    work.acknowledge(places[at], digit, left)


@dataclass
class _Work:
    """
    A batch on its way.

    Args:
        left: Places of the records that are not at their end.

        patient: Whether a record waits for another one of the same round; not where that helped
            nobody.
    """

    records: Sequence[Record]
    links: _Links
    patient: bool = True
    left: dict[int, None] = field(default_factory=dict)
    going: frozenset[bytes] = frozenset()
    stamps: dict[int | None, bytes] = field(default_factory=dict)
    ready: set[int] = field(default_factory=set)
    waiting: set[int] = field(default_factory=set)
    _outcomes: dict[int, Outcome] = field(default_factory=dict)
    _found: dict[int, str] = field(default_factory=dict)
    _lookups: dict[int, int] = field(default_factory=dict)
    _obstacles: dict[int, tuple[int, Outcome]] = field(default_factory=dict)
    _fresh: dict[int, set[bytes]] = field(default_factory=dict)
    _unused: list[tuple[bytes, bytes]] = field(default_factory=list)
    _leavings: list[Leaving] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.left = dict.fromkeys(range(len(self.records)))

    def receipt(self) -> Receipt:
        """
        What became of all of them.
        """
        outcomes = [self._outcomes[at] for at in range(len(self.records))]
        return Receipt(outcomes, self._found, self._lookups)

    def next_places(self) -> list[int]:
        """
        Records for one round; of those with one key the first.
        """
        keys: dict[bytes, int] = {}
        for at in self.left:
            keys.setdefault(self.records[at].key, at)
        self.going = frozenset(keys)
        self.ready, self.waiting = set(), set()
        return list(keys.values())

    def claimed(self, at: int, key: bytes, *, listed: bool) -> None:
        """
        A record has an entry now.
        """
        self.ready.add(at)
        if not listed:
            self._fresh.setdefault(at, set()).add(key)

    def refuse(self, at: int, which: int, outcome: Outcome) -> None:
        """
        A record cannot have an entry; WRITTEN says that it may later.
        """
        if outcome is Outcome.WRITTEN:
            self.waiting.add(at)
        else:
            self._obstacles[at] = min(self._obstacles.get(at, (which, outcome)), (which, outcome))

    def end_refused(self) -> None:
        """
        End the records of which an entry is somebody else's.
        """
        for at, (which, outcome) in self._obstacles.items():
            self.end(at, outcome, b"%d" % which)
        self._obstacles = {}

    def end(self, at: int, outcome: Outcome, told: bytes = b"") -> None:
        """
        Note what became of a record.
        """
        del self.left[at]
        self._outcomes[at] = outcome
        if outcome in _VERSIONED:
            self._found[at] = told.decode()
        elif outcome in _REFUSED and told:
            self._lookups[at] = int(told)
        fresh = self._fresh.pop(at, ())
        if outcome not in _WRITES:
            self._unused += [(self.records[at].key, key) for key in sorted(fresh)]

    def acknowledge(self, at: int, digit: int, told: Iterator[bytes]) -> None:
        """
        Note what a write answered.
        """
        record = self.records[at]
        if digit == _BLOCKED:
            left, version, digest, held = (next(told) for _ in range(4))
            if left:
                gone = _unique(left)
                kept = entries_text(e for e in parse_entries(held) if e.key not in gone)
                self._leavings.append(Leaving(record.key, version, digest, gone, held, kept))
            return
        outcome = Outcome(digit - ord("0"))
        if outcome in (Outcome.REPLACED, Outcome.SAME):
            left = next(told)
            if left:
                kept = entries_text(record.entries)
                self._leavings.append(
                    Leaving(
                        record.key, record.version, record.digest, _unique(left), kept + left, kept
                    )
                )
            self.end(at, outcome)
        else:
            self.end(at, outcome, next(told) if outcome in _VERSIONED | _REFUSED else b"")

    def take_unused(self) -> list[tuple[bytes, bytes]]:
        """
        Entries claimed for records that were not written.
        """
        unused, self._unused = self._unused, []
        return unused

    def take_leavings(self) -> list[Leaving]:
        """
        Entries that records list and do not want.
        """
        leavings, self._leavings = self._leavings, []
        return leavings


# --- deciding only --------------------------------------------------------------------------------


class FarDryLoader(DryLoader):
    """
    The same for a run that only decides.
    """

    def __init__(
        self, link: Link, mapping: str, shape: RecordShape, *, adopt: bool = False
    ) -> None:
        super().__init__(link, mapping, shape, adopt=adopt)
        self._links = _Links(mapping, shape)
        self._names = shape.reserved

    def write(self, records: Sequence[Record]) -> Receipt:
        """
        What would become of each record now. See `model.ports.Loader`.
        """
        self._links.check(records)
        near = [self._near(record) for record in records]
        receipt = super().write(near)
        outcomes, lookups = list(receipt.outcomes), dict(receipt.lookups)
        wanted = [
            (at, which, key)
            for at, record in enumerate(records)
            if outcomes[at] in _WRITES
            for which, key in self._links.of(record)
        ]
        for (at, which, key), there in zip(
            wanted, self._peek([key for *_, key in wanted]), strict=True
        ):
            outcome = self._judged(records[at], key, there)
            if outcome is not None and outcomes[at] in _WRITES:
                outcomes[at], lookups[at] = outcome, which
        return Receipt(outcomes, receipt.found, lookups)

    def _near(self, record: Record) -> Record:
        far = {at for at, _ in self._links.of(record)}
        if not far:
            return record
        entries = tuple(
            entry._replace(key=b"") if at in far else entry
            for at, entry in enumerate(record.entries)
        )
        return record._replace(entries=entries)

    def _peek(self, keys: Sequence[bytes]) -> list[Held]:
        calls = (Call([at], call_of(PEEK, [key], []), len(key)) for at, key in enumerate(keys))
        replies = cast(self._link, PEEK, calls, lambda _: None)
        return [Held(what, Seen(*seen)) for _, [(what, *seen)] in replies]

    def _judged(self, record: Record, key: bytes, there: Held) -> Outcome | None:
        owner = there.seen.record
        if there.what == b"free" or owner == record.key:
            return None
        ours = owner.startswith(self._links.prefix)
        if there.what == b"foreign" or (there.what == b"string" and not ours):
            return Outcome.COLLISION
        word = self._link.run(OWN, [owner], [*self._names, key, record.version])
        if word == b"no" and not ours:
            return Outcome.COLLISION
        return Outcome.DUPLICATE if word == b"yes" else None
