"""
A run that is held back takes small steps, evenly, and smaller ones where the server answers late.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from migrate.model.settings import ThrottleConfig
from migrate.pipeline import pace
from migrate.pipeline.pace import Pacer
from tests.test_throttle import Watch


@dataclass
class Latency:
    """
    What the server takes for an answer, and how often it was asked.
    """

    ms: float = 0.1
    asked: int = field(default=0)

    def __call__(self) -> float:
        self.asked += 1
        return self.ms


def pacer(
    watch: Watch, latency: Latency | None = None, share: float = 1.0, **config: float
) -> Pacer:
    return Pacer(
        ThrottleConfig(**config),  # type: ignore[arg-type]
        clock=watch,
        latency=latency or Latency(),
        share=share,
    )


def steps(made: Pacer, watch: Watch, rows: int, took: float = 0.0) -> list[int]:
    """
    Write so many rows as a loader does; the sizes of its steps.
    """
    sizes = []
    while rows:
        size = min(rows, made.most)
        made.wait(size)
        made.look()
        watch.sleep(took)
        sizes.append(size)
        rows -= size
    return sizes


def late(made: Pacer, watch: Watch, times: int) -> None:
    """
    Let it look so often.
    """
    for _ in range(times):
        watch.sleep(pace.LOOK_EVERY_S)
        made.look()


def test_without_a_limit_nothing_is_made_smaller_and_nothing_waits() -> None:
    """
    A loader's own limits hold.
    """
    watch = Watch()
    made = pacer(watch)

    assert steps(made, watch, 100_000) == [100_000]
    assert (watch.at, made.held()) == (100.0, [])


def test_a_rate_is_kept_from_step_to_step() -> None:
    """
    No moment has more than its share: every step is what the rate allows in half a millisecond.
    """
    watch = Watch()
    made = pacer(watch, rows_per_second=40_000)

    sizes = steps(made, watch, 8_000)

    assert set(sizes) == {20}
    # The last step may begin when all others are due.
    assert watch.at - 100.0 == pytest.approx(0.2 - 0.0005)
    assert made.held() == [("rows_per_second", pytest.approx(0.2 - 0.0005))]
    assert made.held() == []


def test_the_smallest_step_is_worth_its_trip() -> None:
    """
    A slow run does not send one record after the other; it waits longer instead.
    """
    watch = Watch()
    made = pacer(watch, rows_per_second=100)

    assert steps(made, watch, 30) == [10, 10, 10]
    assert watch.at - 100.0 == pytest.approx(0.2)


def test_workers_share_the_rate() -> None:
    """
    Four workers with a quarter each.
    """
    watch = Watch()
    made = pacer(watch, share=0.25, rows_per_second=80_000)

    steps(made, watch, 8_000)

    assert watch.at - 100.0 == pytest.approx(0.4, abs=0.001)


def test_rows_that_waited_count_once() -> None:
    """
    Behind a chunk there is nothing left to wait for but the last step; others are charged whole.
    """
    watch = Watch()
    made = pacer(watch, rows_per_second=1_000)
    steps(made, watch, 100)

    assert made.charge(100) == pytest.approx(0.01)
    assert made.charge(100) == pytest.approx(0.11)
    assert made.charge(0) == pytest.approx(0.11)


def test_the_time_that_reading_takes_is_made_up_for() -> None:
    """
    Half of the time goes into pages, and the rate is kept all the same.
    """
    watch = Watch()
    made = pacer(watch, rows_per_second=1_000)

    for _ in range(100):
        watch.sleep(0.05)
        steps(made, watch, 100)

    assert watch.at - 100.0 == pytest.approx(10.0, abs=0.1)


def test_a_long_absence_is_no_licence_for_a_burst() -> None:
    """
    After a pause of an hour a tenth of a second's worth may go at once, and no more.
    """
    watch = Watch()
    made = pacer(watch, rows_per_second=1_000)
    steps(made, watch, 10)
    watch.sleep(3_600)
    began = watch.at

    steps(made, watch, 1_100)

    assert watch.at - began == pytest.approx(1.0, abs=0.02)


def test_late_answers_halve_the_step_and_then_add_pauses() -> None:
    """
    Multiplicative decrease, down to a floor in both.
    """
    watch, latency = Watch(), Latency(ms=11.0)
    made = pacer(watch, latency, redis_latency_ms=10)
    sizes = []
    for _ in range(10):
        late(made, watch, 1)
        sizes.append(made.most)

    assert sizes == [250, 125, 62, 31, 15, 15, 15, 15, 15, 15]
    made.wait(15)
    watch.sleep(0.004)
    before = watch.at
    made.wait(15)
    assert watch.at - before == pytest.approx(8 * 0.004)
    assert [reason for reason, _ in made.held()] == ["redis_latency"]


def test_a_pause_for_a_slow_server_is_bounded() -> None:
    """
    However long a step took, the next one begins after a tenth of a second.
    """
    watch, latency = Watch(), Latency(ms=11.0)
    made = pacer(watch, latency)
    late(made, watch, 10)
    made.wait(15)
    watch.sleep(5.0)
    before = watch.at

    made.wait(15)

    assert watch.at - before == pytest.approx(pace.LONGEST_PAUSE_S)


def test_it_comes_back_when_the_server_is_calm_again() -> None:
    """
    Additive increase: fifty answers in time for each late one, and one late one begins it anew.
    """
    watch, latency = Watch(), Latency(ms=11.0)
    made = pacer(watch, latency)
    late(made, watch, 2)
    latency.ms = 9.0

    late(made, watch, pace.CALM - 1)
    assert made.most == 125
    late(made, watch, 1)
    assert made.most == 250
    late(made, watch, pace.CALM)
    assert made.most == pace.UNHURRIED


def test_it_looks_rarely_while_all_is_well_and_often_while_it_is_not() -> None:
    """
    A question costs a round trip: four in a second, or up to fifty while others wait.
    """
    watch, latency = Watch(), Latency()
    made = pacer(watch, latency)

    for _ in range(1_000):
        watch.sleep(0.001)
        made.look()
    assert latency.asked == 4
    latency.ms = 11.0
    for _ in range(1_000):
        watch.sleep(0.001)
        made.look()
    assert 30 <= latency.asked - 4 <= 50


def test_a_rate_and_a_late_server_hold_together() -> None:
    """
    The smaller of both steps, and never none.
    """
    watch, latency = Watch(), Latency(ms=11.0)
    made = pacer(watch, latency, rows_per_second=100_000)

    assert made.most == 50
    late(made, watch, 5)
    assert made.most == 15
    assert pacer(watch, latency, rows_per_second=1).most == pace.SMALLEST_STEP
