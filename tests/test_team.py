"""
Workers that are spawned before there is a job: whatever becomes of the job, none is left behind.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from migrate.errors import Stopped, WorkerDied
from migrate.model.events import Event, Notify, PartitionDone, silent
from migrate.workers.local import Team
from migrate.workers.stopping import Requested, check
from tests.project import ROOT


def number_of(job: int, worker: str, requested: Requested, notify: Notify) -> Iterator[Event]:
    """
    A job is a number; each worker adds its own.
    """
    yield PartitionDone(job + int(worker.removeprefix("worker-")))


def until_stopped(job: int, worker: str, requested: Requested, notify: Notify) -> Iterator[Event]:
    """
    Work that only a stop ends.
    """
    yield PartitionDone(job)
    while True:
        check(requested)


def never() -> int | None:
    """
    Nobody asks to stop.
    """
    return None


def test_workers_wait_for_their_job() -> None:
    """
    They are there before the job is; each does it, and all are gone behind it.
    """
    with Team(3, number_of) as team:
        waiting = len(multiprocessing.active_children())
        found = list(team.run(10, never, silent))

        assert waiting == 3
        assert set(found) == {PartitionDone(number) for number in (10, 11, 12)}
        assert multiprocessing.active_children() == []


def test_a_second_job_has_workers_as_well() -> None:
    """
    A run is repeated where the server restarted meanwhile.
    """
    with Team(2, number_of) as team:
        found = [event for job in (10, 20) for event in team.run(job, never, silent)]

    assert set(found) == {PartitionDone(number) for number in (10, 11, 20, 21)}


def test_one_worker_works_in_place() -> None:
    """
    Nobody is spawned for it.
    """
    with Team(1, number_of) as team:
        assert multiprocessing.active_children() == []
        assert list(team.run(10, never, silent)) == [PartitionDone(10)]


def test_no_job_leaves_nobody_waiting() -> None:
    """
    What fails while it is planned ends the workers that were to do it.
    """
    with pytest.raises(ZeroDivisionError), Team(2, number_of):
        _ = 1 // 0

    assert multiprocessing.active_children() == []


def test_a_worker_that_died_waiting_is_told() -> None:
    """
    Its part is missing, so that the job is not done.
    """
    with Team(2, number_of) as team:
        lost = multiprocessing.active_children()[0]
        lost.kill()
        lost.join()
        with pytest.raises(WorkerDied):
            list(team.run(10, never, silent))


def test_a_stop_reaches_all_workers() -> None:
    """
    Asked for by the parent, or by whoever listens no longer.
    """
    with Team(2, until_stopped) as team:
        with pytest.raises(Stopped):
            list(team.run(10, lambda: 143, silent))
        with closing(team.run(10, never, silent)) as events:
            assert next(events) == PartitionDone(10)

        assert multiprocessing.active_children() == []


ALONE = """
import multiprocessing, time
from migrate.workers.local import Team
from tests.test_team import number_of
if __name__ == "__main__":
    with Team(2, number_of):
        print(len(multiprocessing.active_children()), "wait", flush=True)
        time.sleep(60)
"""


def test_workers_without_a_parent_end() -> None:
    """
    Killed while it plans, the parent tells nobody that there will be no job.
    """
    command = [sys.executable, "-c", ALONE]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        waiting = parent.stdout.readline()
        parent.kill()
        # Workers have its standard output as well, which ends with the last of them.
        rest, _ = parent.communicate(timeout=30)

    assert (waiting, rest) == ("2 wait\n", "")
