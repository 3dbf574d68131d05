"""
When a run holds itself back between two chunks, and why: rate, memory, latency, a pause file.

Within a chunk it is `pace` that does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from migrate.errors import TargetNotWritable
from migrate.model.ports import Clock
from migrate.model.settings import ThrottleConfig
from migrate.pipeline.pace import Pacer

LOOK_EVERY_S = 1.0
"""How often Redis is asked for its memory and latency; a question costs a round trip."""

MEMORY_PAUSE_S = 1.0
PAUSE_FILE_S = 1.0


class Signals(Protocol):
    """
    What the target says of itself.
    """

    @property
    def used_memory(self) -> int:
        """
        Bytes; 0 where it is hidden from us.
        """

    @property
    def maxmemory(self) -> int:
        """
        Bytes; 0 is without limit.
        """

    @property
    def latency_ms(self) -> float:
        """
        One round trip.
        """


class Brakes:
    """
    The `Throttle` of a worker.

    Args:
        pacer: Keeps the rate; whoever writes through it has waited already.

        signals: Asks the target.

        paused: Whether the pause file exists.

        patience_s: How long to wait for memory before the run gives up.
    """

    def __init__(
        self,
        config: ThrottleConfig,
        *,
        clock: Clock,
        pacer: Pacer,
        signals: Callable[[], Signals],
        paused: Callable[[], bool],
        patience_s: float,
    ) -> None:
        self._config = config
        self._clock = clock
        self._signals = signals
        self._paused = paused
        self._patience_s = patience_s
        self.pacer = pacer
        self._look_at = clock.now()
        self._full_since: float | None = None

    def pause(self, rows: int) -> tuple[str, float] | None:
        """
        After `rows` more rows: the reason and the seconds to wait now, or None to go on.

        Raises:
            TargetNotWritable: Redis' memory stayed above the limit for as long as we may wait.
        """
        wait = self.pacer.charge(rows)
        if self._paused():
            return ("pause_file", PAUSE_FILE_S)
        held = self._target()
        if held is not None:
            return held
        return ("rows_per_second", wait) if wait > 0 else None

    def held(self) -> Sequence[tuple[str, float]]:
        """
        See `model.ports.Throttle.held`.
        """
        return self.pacer.held()

    def _target(self) -> tuple[str, float] | None:
        now = self._clock.now()
        if now < self._look_at and self._full_since is None:
            return None
        self._look_at = now + LOOK_EVERY_S
        signals = self._signals()
        share = signals.used_memory / signals.maxmemory if signals.maxmemory else 0.0
        if share > self._config.redis_memory:
            return self._full(now, share)
        self._full_since = None
        if signals.latency_ms > self._config.redis_latency_ms:
            # As long again as the answer was late: half the load, and no more than a second.
            return ("redis_latency", min(1.0, signals.latency_ms / 1000))
        return None

    def _full(self, now: float, share: float) -> tuple[str, float]:
        self._full_since = now if self._full_since is None else self._full_since
        if now - self._full_since > self._patience_s:
            raise TargetNotWritable(
                "Redis' memory stayed above the throttle's limit.",
                where={
                    "used": f"{share:.0%}",
                    "limit": f"{self._config.redis_memory:.0%}",
                },
                next_step="Raise maxmemory or throttle.redis_memory; the same command continues.",
            )
        return ("redis_memory", MEMORY_PAUSE_S)
