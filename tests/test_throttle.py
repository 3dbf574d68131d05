"""
The brakes hold a run back for a named reason, and let it go on when the reason is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from migrate.errors import TargetNotWritable
from migrate.model.settings import ThrottleConfig
from migrate.pipeline.pace import Pacer
from migrate.pipeline.throttle import Brakes


@dataclass
class Watch:
    """
    A clock that only the test moves.
    """

    at: float = 100.0

    def now(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


@dataclass
class Server:
    """
    What a target says.
    """

    used_memory: int = 0
    maxmemory: int = 0
    latency_ms: float = 0.1
    asked: int = field(default=0)

    def __call__(self) -> Server:
        self.asked += 1
        return self


def brakes(
    watch: Watch,
    server: Server,
    config: ThrottleConfig | None = None,
    paused: Callable[[], bool] = lambda: False,
    share: float = 1.0,
) -> Brakes:
    config = config or ThrottleConfig()
    return Brakes(
        config,
        clock=watch,
        pacer=Pacer(config, clock=watch, latency=lambda: server.latency_ms, share=share),
        signals=server,
        paused=paused,
        patience_s=60.0,
    )


def test_without_a_reason_nothing_waits() -> None:
    """
    An idle server and no limit let every chunk pass.
    """
    brake = brakes(Watch(), Server())

    assert [brake.pause(1_000) for _ in range(5)] == [None] * 5


def test_the_rate_holds_over_many_chunks() -> None:
    """
    Ten chunks of 100 rows at 1,000 rows a second take one second, whatever their own time.
    """
    watch = Watch()
    brake = brakes(watch, Server(), ThrottleConfig(rows_per_second=1_000))

    for _ in range(10):
        while (pause := brake.pause(100)) is not None:
            assert pause[0] == "rows_per_second"
            watch.sleep(pause[1])
            if brake.pause(0) is None:
                break

    assert watch.at - 100.0 == pytest.approx(1.0)


def test_workers_share_the_rate() -> None:
    """
    One of four workers waits four times as long for the same rows.
    """
    config = ThrottleConfig(rows_per_second=1_000)

    alone = brakes(Watch(), Server(), config).pause(100)
    one_of_four = brakes(Watch(), Server(), config, share=0.25).pause(100)

    assert alone == ("rows_per_second", pytest.approx(0.1))
    assert one_of_four == ("rows_per_second", pytest.approx(0.4))


def test_a_pause_file_holds_the_run_as_long_as_it_is_there() -> None:
    """
    The reason is named, and the run goes on when the file is gone.
    """
    there = [True, True, False]
    brake = brakes(Watch(), Server(), paused=lambda: there.pop(0))

    assert brake.pause(1) == ("pause_file", 1.0)
    assert brake.pause(0) == ("pause_file", 1.0)
    assert brake.pause(0) is None


def test_full_memory_waits_and_then_gives_up() -> None:
    """
    Above the share the run pauses; after its patience it ends with the reason and goes on later.
    """
    watch, server = Watch(), Server(used_memory=90, maxmemory=100)
    brake = brakes(watch, server)

    assert brake.pause(1) == ("redis_memory", 1.0)
    watch.sleep(30)
    assert brake.pause(0) == ("redis_memory", 1.0)
    server.used_memory = 50
    assert brake.pause(0) is None
    server.used_memory = 90
    watch.sleep(2)
    assert brake.pause(0) == ("redis_memory", 1.0)
    watch.sleep(61)
    with pytest.raises(TargetNotWritable):
        brake.pause(0)


def test_a_slow_server_slows_the_run() -> None:
    """
    A late answer costs as long again, and is not asked for more than once a second.
    """
    watch, server = Watch(), Server(latency_ms=50.0)
    brake = brakes(watch, server)

    assert brake.pause(1) == ("redis_latency", 0.05)
    assert brake.pause(0) is None
    assert server.asked == 1
