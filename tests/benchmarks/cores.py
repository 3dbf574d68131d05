"""
Gives Redis and its second client a core of their own, as a machine of its own would.

On shared cores a client waits for other programs to leave the processor, whatever they do: on two
cores, two processes that compute for 1.5 ms in every 5 and never speak to Redis raise its p99 from
0.2 ms to between 0.6 and 1.3. That is no property of Redis, nor of who writes to it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.processes import family


def can_be_apart() -> bool:
    """
    Whether this system has two cores or more, and lets us choose among them.
    """
    return hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1


@contextlib.contextmanager
def apart(server: int) -> Iterator[int]:
    """
    One core for a server, all others for this process and whatever it has started or will start.

    Args:
        server: Process id, of a child of ours.

    Yields:
        The core, which a client of the server may take as well.
    """
    every = os.sched_getaffinity(0)
    own = max(every)
    others = [pid for pid in family([os.getpid()]) if pid != server]
    try:
        _keep(others, every - {own})
        _keep([server], {own})
        yield own
    finally:
        _keep([server, *others], every)


def _keep(processes: list[int], cores: set[int]) -> None:
    for pid in processes:
        # One that has ended meanwhile needs no core.
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), cores)
