"""
The steps around a record whose unique entries are in other slots: claim, part, leave, shrink.

Each is one script a slot, behind that slot's fence, and each may be repeated. In which order they
are safe is told in `far` and ADR-0016.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from migrate.errors import MigrateError
from migrate.model.values import Fence
from migrate.target.far_scripts import CLAIM, LEAVE, PART, SHRINK
from migrate.target.fence import fence_key
from migrate.target.link import Link, call_of
from migrate.target.loader import GRACE_MS, RECORD_OVERHEAD, Call, cast
from migrate.target.scripts import MAX_RECORDS, Script

Item = tuple[bytes, tuple[Any, ...]]
"""A key and what a script is told about it."""


_NEVER = b"9" * 30
"""A stamp above every other."""


class Seen(NamedTuple):
    """
    What an entry was seen to hold.
    """

    record: bytes = b""
    version: bytes = b""
    stamp: bytes = b""


class Wanted(NamedTuple):
    """
    An entry that a record is to have.

    Args:
        stamp: Of the record's slot when the record was looked at.

        linked: The record is as it should be and lists the entry: an intact one is left alone.

        seen: What may be taken from somebody who has no part in it.
    """

    key: bytes
    record: bytes
    version: bytes
    stamp: bytes
    expires: bytes = b""
    linked: bool = False
    seen: Seen = Seen()


class Held(NamedTuple):
    """
    What is in the way of a claim: a string, an entry, or something foreign.
    """

    what: bytes
    seen: Seen = Seen()


class Leaving(NamedTuple):
    """
    A record and the entries that it lists and does not want.

    Args:
        held: The list that it has.

        kept: The list that it is to have.
    """

    record: bytes
    version: bytes
    digest: bytes
    entries: tuple[bytes, ...]
    held: bytes
    kept: bytes


class Claims:
    """
    Takes and leaves entries behind a fence.

    Args:
        refused: The error for a reply that is not OK; None where it is.
    """

    def __init__(
        self,
        link: Link,
        mapping: str,
        fence: Fence,
        reserved: Sequence[str],
        refused: Callable[[list[Any]], MigrateError | None],
    ) -> None:
        self._link = link
        self._mapping = mapping
        self._head = (fence.mode, fence.epoch, fence.run)
        self._names = tuple(reserved)
        self._refused = refused

    def claim(self, wanted: Sequence[Wanted]) -> list[Held | None]:
        """
        Take entries, in order; what is in the way of each, or None.
        """
        items: list[Item] = [
            (
                one.key,
                (one.record, one.version, one.stamp, one.expires, int(one.linked), *one.seen),
            )
            for one in wanted
        ]
        return [_held(reply) for reply in self._each(CLAIM, items, (GRACE_MS,))]

    def part(self, parts: Iterable[tuple[bytes, bytes, bytes]]) -> list[bytes]:
        """
        Part records from entries that somebody else of a version wants: a stamp, or b"" each.
        """
        items = [(record, (key, version, b"", b"")) for record, key, version in parts]
        return self._each(PART, items, self._names)

    def give_back(self, claimed: Sequence[tuple[bytes, bytes]]) -> None:
        """
        Leave entries that were claimed for records which were then not written.
        """
        stamps = self.part((record, key, b"") for record, key in claimed)
        self._leave(
            (key, record, stamp)
            for (record, key), stamp in zip(claimed, stamps, strict=True)
            if stamp
        )

    def leave(self, leavings: Sequence[Leaving]) -> None:
        """
        Take records out of entries that they want no more, and out of their lists.

        A record that was written anew meanwhile keeps both, for that writer to settle.
        """
        asked = [(one, key) for one in leavings for key in one.entries]
        items = [(one.record, (key, b"", one.version, one.digest)) for one, key in asked]
        stamps = self._each(PART, items, self._names)
        parted = [(one, key, stamp) for (one, key), stamp in zip(asked, stamps, strict=True)]
        self._leave((key, one.record, stamp) for one, key, stamp in parted if stamp)
        whole = {one.record for one, _, stamp in parted if not stamp}
        self._each(
            SHRINK,
            [
                (one.record, (one.version, one.digest, one.held, one.kept))
                for one in leavings
                if one.record not in whole
            ],
            self._names,
        )

    def forget(self, key: bytes, records: Sequence[bytes]) -> None:
        """
        Leave an entry for records that are gone, whenever it was claimed.
        """
        self._leave((key, record, _NEVER) for record in records)

    def _leave(self, entries: Iterable[tuple[bytes, bytes, bytes]]) -> None:
        self._each(LEAVE, [(key, (record, stamp)) for key, record, stamp in entries])

    def _each(self, script: Script, items: Sequence[Item], head: tuple[Any, ...] = ()) -> list[Any]:
        """
        The answer about each key, in the order in which they were given.
        """
        answers: list[Any] = [None] * len(items)
        for places, (_, *told) in cast(
            self._link, script, self._calls(script, items, head), self._refused
        ):
            for at, answer in zip(places, told, strict=False):
                answers[at] = answer
        return answers

    def _calls(
        self, script: Script, items: Sequence[Item], head: tuple[Any, ...]
    ) -> Iterator[Call]:
        slots: dict[int | None, list[int]] = {}
        for at, (key, _) in enumerate(items):
            slots.setdefault(self._link.slot_of(key), []).append(at)
        for slot, places in slots.items():
            for start in range(0, len(places), MAX_RECORDS):
                taken = places[start : start + MAX_RECORDS]
                keys = [fence_key(self._mapping, slot), *(items[at][0] for at in taken)]
                words = [word for at in taken for word in items[at][1]]
                size = sum(RECORD_OVERHEAD + len(items[at][0]) for at in taken)
                yield Call(taken, call_of(script, keys, [*self._head, *head, *words]), size)


def _held(reply: Sequence[bytes]) -> Held | None:
    word, *rest = reply
    if word == b"ours":
        return None
    if word == b"other":
        what, *seen = rest
        return Held(what, Seen(*seen))
    return Held(word)
