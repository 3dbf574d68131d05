"""
Workers that are spawned before there is a job: whatever becomes of the job, none is left behind.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from migrate.errors import ExitCode, Stopped, WorkerDied
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


def test_ctrl_c_while_workers_start_is_left_to_the_parent(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """
    The terminal sends it to all of them, also to those that are still being imported.
    """
    with Team(2, number_of) as team:
        tell_all(signal.SIGINT)
        found = list(team.run(10, never, silent))

    assert set(found) == {PartitionDone(10), PartitionDone(11)}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("started", [False, True])
def test_a_service_that_is_stopped_is_no_failure(
    capfd: pytest.CaptureFixture[str], *, started: bool
) -> None:
    """
    SIGTERM goes to all processes of a service: workers stop as their parent does, 143.
    """
    with Team(2, until_stopped) as team, closing(team.run(10, never, silent)) as events:
        if started:
            assert [next(events), next(events)] == [PartitionDone(10)] * 2
        tell_all(signal.SIGTERM)
        with pytest.raises(Stopped) as stopped:
            list(events)

    assert stopped.value.exit_code == ExitCode.TERMINATED
    assert capfd.readouterr() == ("", "")


def tell_all(number: signal.Signals) -> None:
    """
    Send a signal to every worker.
    """
    for process in multiprocessing.active_children():
        assert process.pid is not None
        os.kill(process.pid, number)


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


FIRST_OF_ALL = """
import multiprocessing, os, signal
from migrate.model.events import silent
from migrate.workers.local import Team
from tests.test_team import never, number_of
if __name__ == "__main__":
    with Team(2, number_of) as team:
        for process in multiprocessing.active_children():
            os.kill(process.pid, signal.SIGINT)
        print(len(list(team.run(10, never, silent))), "done")
"""


def test_the_first_worker_of_a_program_is_spared_as_well() -> None:
    """
    With it Python starts a process of its own, which lets signals through again.
    """
    ran = subprocess.run(
        [sys.executable, "-c", FIRST_OF_ALL], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (ran.stdout, ran.stderr) == ("2 done\n", "")
