"""
How a run that is held back spreads its writes: in small steps, evenly, so that others come between.

A second's worth of rows at once and a pause for the rest of the second is a rate as well, but while
it lasts every other client of Redis waits as if there were no limit, and p99 is made of such
moments. So a rate is kept from step to step; and where Redis answers late, steps get smaller first,
and then further apart. The rule is that of TCP for congestion, additive increase and multiplicative
decrease: one late answer halves, fifty in time take one halving back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from migrate.model.ports import Clock
from migrate.model.settings import ThrottleConfig

STEP_S = 0.000_5
"""A step is what the rate allows in this time; Redis works on it for a tenth of that, or less."""

SMALLEST_STEP = 10
"""Records: what surrounds a step costs Redis as much as these."""

LARGEST_STEP = 500
"""Records of the steps that get smaller where Redis answers late."""

UNHURRIED = 1_000_000
"""Records of a step that nothing holds back: whoever writes has limits of its own."""

CREDIT_S = 0.1
"""A run that fell behind its rate, because a page took its time, may make up for so much."""

LOOK_EVERY_S = 0.25
"""How often it is asked how long others wait, as long as they do not wait too long ..."""

LOOK_AGAIN_S = 0.02
"""... and while they do."""

CALM = 50
"""Answers in time that take one late one back: p99 is what one of a hundred may exceed."""

HALVINGS = 5
"""Late answers that halve the step; those beyond double the pause behind it."""

LATE_AT_MOST = 8
"""Late answers that count: a server that stays slow is left alone for 8 of 9 moments."""

LONGEST_PAUSE_S = 0.1


class Pacer:
    """
    The `model.ports.Pace` of a worker.

    Args:
        latency: Asks the target how long an answer takes, in milliseconds.

        share: Of `rows_per_second`, where several workers run: 1 / workers.
    """

    def __init__(
        self,
        config: ThrottleConfig,
        *,
        clock: Clock,
        latency: Callable[[], float],
        share: float = 1.0,
    ) -> None:
        self._limit_ms = config.redis_latency_ms
        self._clock = clock
        self._latency = latency
        self._rate = config.rows_per_second * share if config.rows_per_second else None
        self._free_at = self._began_at = self._look_at = clock.now()
        self._late = 0
        self._in_time = 0
        self._held: dict[str, float] = {}
        self._waited = 0

    @property
    def most(self) -> int:
        """
        Records of the next step, at most.
        """
        most = UNHURRIED if self._rate is None else int(self._rate * STEP_S)
        if self._late:
            most = min(most, LARGEST_STEP >> min(self._late, HALVINGS))
        return max(SMALLEST_STEP, most)

    def wait(self, records: int) -> None:
        """
        Until a step of so many records may begin.
        """
        if self._late > HALVINGS:
            took = self._clock.now() - self._began_at
            pause = took * (1 << (self._late - HALVINGS))
            self._hold("redis_latency", min(pause, LONGEST_PAUSE_S))
        self._hold("rows_per_second", self._free_at - self._clock.now())
        self._count(records)
        self._waited += records
        self._began_at = self._clock.now()

    def look(self) -> None:
        """
        Ask how long others wait, while the target works on a step.
        """
        if self._clock.now() < self._look_at:
            return
        if self._latency() > self._limit_ms:
            self._late = min(self._late + 1, LATE_AT_MOST)
            self._in_time = 0
        elif self._late:
            self._in_time += 1
            if self._in_time == CALM:
                self._late -= 1
                self._in_time = 0
        self._look_at = self._clock.now() + (LOOK_AGAIN_S if self._late else LOOK_EVERY_S)

    def charge(self, rows: int) -> float:
        """
        Seconds to wait behind so many rows; those that were waited for count once.
        """
        self._count(max(0, rows - self._waited))
        self._waited = 0
        return max(0.0, self._free_at - self._clock.now())

    def held(self) -> Sequence[tuple[str, float]]:
        """
        See `model.ports.Throttle.held`.
        """
        held, self._held = list(self._held.items()), {}
        return held

    def _count(self, rows: int) -> None:
        if rows and self._rate is not None:
            self._free_at = max(self._free_at, self._clock.now() - CREDIT_S) + rows / self._rate

    def _hold(self, reason: str, seconds: float) -> None:
        if seconds > 0:
            self._clock.sleep(seconds)
            self._held[reason] = self._held.get(reason, 0.0) + seconds


__all__ = ["Pacer"]
