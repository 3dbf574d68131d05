"""
What holds a worker back, made of a run's settings.
"""

from __future__ import annotations

from pathlib import Path

from migrate.model.ports import Clock
from migrate.model.settings import Settings
from migrate.pipeline.pace import Pacer
from migrate.pipeline.throttle import Brakes
from migrate.target.store import RedisTarget


def brakes_of(settings: Settings, target: RedisTarget, clock: Clock, workers: int) -> Brakes:
    """
    The brakes of one worker of so many, which share the rate.
    """
    config = settings.throttle
    return Brakes(
        config,
        clock=clock,
        pacer=Pacer(config, clock=clock, latency=target.latency_ms, share=1 / workers),
        signals=target.signals,
        paused=Path(config.pause_file).exists,
        patience_s=settings.redis["target"].retry_for_s,
    )


__all__ = ["brakes_of"]
