"""
What was measured, round by round, and the figures that are drawn from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.benchmarks.figures import median, net, percentile, spread, with_unsent
from tests.benchmarks.processes import Took


@dataclass(slots=True)
class Measured:
    """
    One thing that was run in each round: a contender's load, or a verification of ours.

    Args:
        rounds: Over the whole table.

        start_ups: The same over a table of one row.

        failed: Why it does not count.
    """

    name: str
    title: str
    rows: int
    rounds: list[Took] = field(default_factory=list)
    start_ups: list[Took] = field(default_factory=list)
    failed: str = ""

    def fail(self, reason: object) -> None:
        """
        Take it out of the comparison.
        """
        self.failed = str(reason)

    @property
    def counts(self) -> bool:
        """
        Whether it has figures.
        """
        return bool(self.rounds) and not self.failed

    @property
    def start_up_s(self) -> float:
        """
        Median of what passes before the first row and after the last.
        """
        return median([took.seconds for took in self.start_ups])

    @property
    def is_mostly_start_up(self) -> bool:
        """
        Whether there were too few rows to say how fast they are.
        """
        return self.start_up_s > 0.5 * median([took.seconds for took in self.rounds])

    @property
    def rates(self) -> list[float]:
        """
        Rows a second of each round, start-up apart.
        """
        return [self.rows / net(took.seconds, self.start_up_s) for took in self.rounds]

    @property
    def rate(self) -> float:
        """
        Median of the rounds' rows a second, start-up apart.
        """
        return median(self.rates)

    @property
    def whole_rate(self) -> float:
        """
        Median of the rounds' rows a second, start-up included.
        """
        return median([self.rows / took.seconds for took in self.rounds])

    @property
    def peak_kb(self) -> int | None:
        """
        The highest peak of all rounds.
        """
        return max((took.peak_kb for took in self.rounds if took.peak_kb), default=None)

    def as_json(self) -> dict[str, Any]:
        """
        Every round's figure, and those that the tables show.
        """
        found: dict[str, Any] = {
            "name": self.name,
            "title": self.title,
            "rows": self.rows,
            "failed": self.failed or None,
            "rounds": [_without_out(took) for took in self.rounds],
            "start_ups": [_without_out(took) for took in self.start_ups],
        }
        if self.counts:
            found |= {
                "rows_per_second": round(self.rate),
                "rows_per_second_with_start_up": round(self.whole_rate),
                "start_up_s": round(self.start_up_s, 3),
                "is_mostly_start_up": self.is_mostly_start_up,
                "us_per_row": round(1e6 / self.rate, 3),
                "spread": round(spread(self.rates), 3),
                "peak_kb": self.peak_kb,
            }
        return found


WHERE = {"apart": "one for Redis", "shared": "shared"}
"""How the cores of the machine are given out while a second client is watched."""


@dataclass(slots=True)
class Watched:
    """
    What a second client saw while something ran, or while nothing did.

    Args:
        where: A name in `WHERE`; the client has the core that Redis has.

        setting: Of the backfill.

        rates: Rows a second of the backfill, in each round.
    """

    name: str
    title: str
    where: str = "shared"
    setting: str = ""
    rates: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)

    def add(self, latencies: Sequence[float], every_s: float, rate: float | None) -> None:
        """
        Keep one round.
        """
        seen = with_unsent(latencies, every_s)
        self.p50_ms.append(percentile(seen, 0.5) * 1000)
        self.p99_ms.append(percentile(seen, 0.99) * 1000)
        self.requests.append(len(latencies))
        if rate is not None:
            self.rates.append(rate)

    @property
    def p99(self) -> float:
        """
        Median of the rounds' p99, in milliseconds.
        """
        return median(self.p99_ms)

    @property
    def rate(self) -> float | None:
        """
        Median of the backfill's rows a second.
        """
        return median(self.rates) if self.rates else None

    def as_json(self) -> dict[str, Any]:
        """
        Every round's figures.
        """
        return asdict(self)


def _without_out(took: Took) -> dict[str, Any]:
    return {name: value for name, value in asdict(took).items() if name != "out"}
