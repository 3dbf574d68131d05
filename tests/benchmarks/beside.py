"""
The part of a measurement that has a second client: what a backfill costs others who use Redis.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TypeVar

from tests.benchmarks import client, cores
from tests.benchmarks.contenders import PROFILES
from tests.benchmarks.data import ONE
from tests.benchmarks.figures import median, net
from tests.benchmarks.measured import Watched
from tests.benchmarks.ours import Ours
from tests.benchmarks.parts import Bench, alternating
from tests.servers import wait_until

CLIENT_RATE = 200.0
"""Requests a second of the second client: modest, and two thousand in ten seconds."""

IDLE_S = 10.0
"""How long the second client is watched while nothing else runs."""

THROTTLED_SHARE = 0.3
"""Of the unthrottled rate, as `rows_per_second` of the throttled run."""

FREE = "throttle: {redis_latency_ms: 10000}"
"""Its own limit is so high that nothing holds it back, as a user would say "full speed"."""

T = TypeVar("T")


def second_client(bench: Bench) -> list[Watched]:
    """
    A second client while nothing runs, during a backfill at full speed, and during throttled ones.

    Where that can be done, first with a core for Redis and this client, and then on shared cores.
    """
    found = []
    if cores.can_be_apart():
        server = int(bench.servers.redis.client().info("server")["process_id"])
        with cores.apart(server) as core:
            found += _watched(bench, "apart", str(core))
    return found + _watched(bench, "shared", "")


def _watched(bench: Bench, where: str, core: str) -> list[Watched]:
    idle = Watched("idle", "nothing else runs", where)
    full = Watched("unthrottled", "backfill at full speed", where, FREE)
    watching = _Watching(bench, core)
    for _ in range(bench.rounds):
        watching.idle(idle)
        watching.backfill(full)
    rate = f"rows_per_second: {int((full.rate or 0) * THROTTLED_SHARE) or 1}"
    limit = f"redis_latency_ms: {round(2 * idle.p99, 3)}"
    throttled = [
        Watched(
            "rows_per_second", "throttled by rows_per_second", where,
            f"throttle: {{{rate}, redis_latency_ms: 10000}}",
        ),
        Watched(
            "redis_latency_ms", "throttled by redis_latency_ms", where,
            f"throttle: {{{limit}}}",
        ),
        Watched("both", "throttled by both", where, f"throttle: {{{rate}, {limit}}}"),
    ]  # fmt: skip
    if not core:
        # A wait for the processor is no reason that such a limit could take away: it ends at its
        # floor, where a million rows take five minutes.
        throttled = throttled[:1]
    for _, watched in alternating(throttled, bench.rounds):
        watching.backfill(watched)
    return [idle, full, *throttled]


class _Watching:
    """
    Runs the second client beside something else.

    Args:
        core: Of the client; empty for any.
    """

    def __init__(self, bench: Bench, core: str) -> None:
        self._bench = bench
        self._core = core
        dialect = next(iter(bench.servers.databases))
        # One worker does what a throttle leaves of the rate, and more.
        self._fast, self._slow = (
            bench.ours(f"watched-{core or 'shared'}-{workers}", dialect, workers=workers)
            for workers in (2, 1)
        )
        self._start_ups = {
            free: median([self._first_row(ours) for _ in range(3)])
            for free, ours in ((True, self._fast), (False, self._slow))
        }

    def idle(self, watched: Watched) -> None:
        """
        Watch nothing.
        """
        # A trial with few rows takes no longer for this than for its backfills.
        seconds = min(IDLE_S, max(2.0, self._bench.rows / 20_000))
        _, latencies = self._beside(lambda: time.sleep(seconds))
        self._keep(watched, latencies, None)

    def backfill(self, watched: Watched) -> None:
        """
        Watch a backfill with these settings.
        """
        free = watched.setting == FREE
        ours = self._fast if free else self._slow
        ours.settings = watched.setting
        took, latencies = self._beside(lambda: ours.backfill(PROFILES))
        seconds = net(took.seconds, self._start_ups[free])
        self._keep(watched, latencies, self._bench.rows / seconds)

    def _first_row(self, ours: Ours) -> float:
        self._bench.servers.empty()
        return ours.backfill(ONE).seconds

    def _keep(self, watched: Watched, latencies: list[float], rate: float | None) -> None:
        watched.add(latencies, 1 / CLIENT_RATE, rate)
        told = f"  {watched.where}, {watched.name}: p99 {watched.p99_ms[-1]:.2f} ms"
        self._bench.say(told + (f", {rate:,.0f} rows/s" if rate else ""))

    def _beside(self, work: Callable[[], T]) -> tuple[T, list[float]]:
        self._bench.servers.empty()
        folder = self._bench.folder / f"client-{time.monotonic_ns()}"
        folder.mkdir()
        port = str(self._bench.servers.redis.port)
        words = [sys.executable, client.__file__, port, str(CLIENT_RATE), str(folder), self._core]
        with ExitStack() as stack:
            process = subprocess.Popen(words, start_new_session=True)
            stack.callback(process.wait)
            stack.callback(process.kill)
            wait_until((folder / "begun").exists, "the second client to begin")
            result = work()
            (folder / "stop").touch()
            process.wait(timeout=30)
        return result, json.loads((folder / "latencies.json").read_text())
