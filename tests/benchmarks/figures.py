"""
Medians, percentiles and ratios of what was measured. Values in, values out.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence


def median(values: Sequence[float]) -> float:
    """
    The middle value; of an even number, the mean of the two in the middle.
    """
    return statistics.median(values)


def spread(values: Sequence[float]) -> float:
    """
    How far the rounds lie apart: highest less lowest, as a share of the median.
    """
    middle = median(values)
    return (max(values) - min(values)) / middle if middle else 0.0


def percentile(values: Iterable[float], share: float) -> float:
    """
    The smallest value that at least this share of all values does not exceed (nearest rank).
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("a percentile of nothing")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def with_unsent(latencies: Iterable[float], every: float) -> list[float]:
    """
    What a client that sends on time, whatever it still waits for, would have seen.

    Ours waits for each answer. An answer that takes longer than the interval keeps requests from
    being sent; each of these would have waited one interval less than the one before it.
    """
    found: list[float] = []
    for latency in latencies:
        waited = latency
        while waited > 0:
            found.append(waited)
            waited -= every
    return found


def net(seconds: float, start_up: float) -> float:
    """
    What is left of a run without its start-up; never nothing, so that rates stay finite.

    A start-up that takes most of a run leaves noise: trials with few rows say little.
    """
    return max(seconds - start_up, seconds / 100, 1e-9)
