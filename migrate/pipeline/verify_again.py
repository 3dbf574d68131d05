"""
Works off the re-check list: keys that were changing when they were compared.

A key is settled by any coherent pair: equal versions with equal content, or a record that SQL was
seen to hold earlier. One that changes all the time is left on the list and holds nobody up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from migrate.model.events import ChunkVerified, Event
from migrate.model.verdict import BACK, CARRIED, Finding, Presence, Recheck, State, Verdict
from migrate.pipeline.verify import AGAIN, Look, Tally, Verifier, pauses
from migrate.pipeline.verify_compare import digest_in, fields_in

DELAYS_S = (1.0, 2.0, 4.0, 8.0)
"""Before each further look at a key; behind the last it is told as in flight."""


class Looked(NamedTuple):
    """
    What one more look at a listed key brought.

    Args:
        tally: What is told of it; None where it was still changing.

        due: When to look again, by the verifier's clock; None where that was the last time.
    """

    listed: Recheck
    tally: Tally | None = None
    states: tuple[State, ...] = ()
    due: float | None = None


class RecheckList(Protocol):
    """
    Where the listed keys of a verification are kept, so that memory holds a page of them.
    """

    def next_due(self) -> float | None:
        """
        When the next key is to be looked at, or None where nothing is left to do.
        """

    def due(self, until: float, limit: int) -> Sequence[Recheck]:
        """
        Keys whose time has come.
        """

    def settle(self, looked: Sequence[Looked]) -> None:
        """
        Keep what a page of looks brought, durably.
        """


@dataclass(frozen=True, slots=True)
class Rechecks:
    """
    The rounds of one verification. Everything that is waited for is the verifier's clock.
    """

    verifier: Verifier
    listed: RecheckList

    def run(self) -> Iterator[Event]:
        """
        Look again until each key is settled or was tried often enough.
        """
        clock = self.verifier.clock
        while (due := self.listed.next_due()) is not None:
            self.verifier.stop()
            # A list of an earlier boot may be due at another clock's time: never wait for longer.
            wait = min(due - clock.now(), DELAYS_S[-1])
            if wait > 0:
                clock.sleep(wait)
            began = clock.now()
            page = self.listed.due(max(began, due), AGAIN)
            looked = self._page(page)
            self.listed.settle(looked)
            hard = sum(one.tally.hard for one in looked if one.tally is not None)
            yield ChunkVerified(BACK, 0, hard, clock.now() - began)
            yield from pauses(self.verifier.throttle, clock, self.verifier.stop, len(page))

    def _page(self, page: Sequence[Recheck]) -> list[Looked]:
        listed = {one.key: one for one in page}
        looks = self.verifier.look({one.key: one.source_key for one in page})
        return [self._looked(listed[look.stored.key], look) for look in looks]

    def _looked(self, listed: Recheck, look: Look) -> Looked:
        if not look.changing:
            return Looked(listed, self._told(listed, look.findings))
        if self._was_right(listed, look):
            return Looked(listed, self._told(listed, [Finding(Verdict.OK, listed.key)]))
        if listed.number == CARRIED:
            # This pass compared it, or else it would be listed under a number of this pass.
            return Looked(listed, Tally())
        states = listed.states if look.state is None else (*listed.states, look.state)
        tries = listed.tries + 1
        due = self.verifier.clock.now() + DELAYS_S[tries] if tries < len(DELAYS_S) else None
        return Looked(listed, None, states, due)

    def _told(self, listed: Recheck, findings: Sequence[Finding]) -> Tally:
        tally = Tally()
        tally.count(findings)
        if listed.number in (BACK, CARRIED):
            # The way from SQL has counted it, or it has no row to be counted.
            tally.counts.clear()
        return tally

    def _was_right(self, listed: Recheck, look: Look) -> bool:
        """
        Whether Redis holds what SQL was seen to hold, field for field.
        """
        stored, shape = look.stored, self.verifier.shape
        if stored.presence is not Presence.RECORD:
            return False
        if State(stored.version, stored.digest) not in listed.states:
            return False
        fields = fields_in(stored.content, shape)
        return fields is not None and digest_in(fields, stored, shape) == stored.digest
