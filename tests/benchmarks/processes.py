"""
Runs a program to its end and says what it took: time, processor time, and peak memory.

Memory is read from /proc, and so it is unknown on other systems than Linux.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

LOOK_EVERY_S = 0.2
"""How often memory is read; the kernel keeps the peaks, so a look only must come before the end."""


class Failed(Exception):
    """
    A program ended with an error; the text has the end of what it said.
    """


@dataclass(frozen=True, slots=True)
class Took:
    """
    What a run of one program, or of a pipe of several, cost.

    Args:
        cpu_s: Processor time of the programs and of the workers that they waited for.

        peak_kb: Sum of the peaks of all processes; None where nobody could look.
    """

    seconds: float
    cpu_s: float
    peak_kb: int | None
    out: str


class _Started:
    """
    A pipe of programs, each in a session of its own.
    """

    def __init__(
        self, commands: Sequence[Sequence[str]], options: Mapping[str, Any], stdin: IO[bytes] | None
    ) -> None:
        self.out = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the pipe
        self.err = tempfile.TemporaryFile()  # noqa: SIM115
        self.processes: list[subprocess.Popen[bytes]] = []
        source: IO[bytes] | int = stdin if stdin is not None else subprocess.DEVNULL
        for number, command in enumerate(commands):
            last = number == len(commands) - 1
            process = subprocess.Popen(
                command,
                stdin=source,
                stdout=self.out if last else subprocess.PIPE,
                stderr=self.err,
                start_new_session=True,
                **options,
            )
            self.processes.append(process)
            if number:
                # Held by us too, it would keep the writer from noticing that its reader has ended.
                self._close(number - 1)
            if process.stdout is not None:
                source = process.stdout

    def wait(self) -> tuple[list[int], float]:
        """
        Exit statuses and processor time, once all have ended.
        """
        cpu = 0.0
        codes = []
        for process in self.processes:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            codes.append(process.returncode)
            cpu += usage.ru_utime + usage.ru_stime
        return codes, cpu

    def close(self) -> None:
        """
        End what is left, and close the files.
        """
        for process in self.processes:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        for number in range(len(self.processes)):
            self._close(number)
        self.out.close()
        self.err.close()

    def _close(self, number: int) -> None:
        stdout = self.processes[number].stdout
        if stdout is not None:
            stdout.close()


def run(
    *commands: Sequence[str | Path],
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: Path | None = None,
) -> Took:
    """
    Run one program, or several of which each reads what the one before it prints.

    Raises:
        Failed: One of them ended with another status than 0.
    """
    words = [[str(part) for part in command] for command in commands]
    options = {"cwd": cwd, "env": {**os.environ, **(env or {})}}
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(stdin.open("rb")) if stdin else None
        began = time.perf_counter()
        started = _Started(words, options, source)
        stack.callback(started.close)
        memory = _Memory([process.pid for process in started.processes])
        stack.callback(memory.stop)
        codes, cpu = started.wait()
        seconds = time.perf_counter() - began
        memory.stop()
        said = [_text(started.out), _text(started.err)]
    if any(codes):
        raise Failed(f"{words[0][0]} ended with {codes}: {' '.join(said)[-1500:]}")
    return Took(seconds, cpu, memory.peak_kb, said[0])


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


class _Memory:
    """
    Looks at some processes and their children again and again, on a thread of its own.
    """

    def __init__(self, roots: Sequence[int]) -> None:
        self._roots = roots
        self._peaks: dict[int, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    @property
    def peak_kb(self) -> int | None:
        """
        Sum of the highest memory of each process.
        """
        return sum(self._peaks.values()) or None

    def stop(self) -> None:
        """
        Look no more.
        """
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            for pid in family(self._roots):
                with contextlib.suppress(OSError, ValueError):
                    self._peaks[pid] = max(self._peaks.get(pid, 0), _peak_of(pid))


def family(roots: Sequence[int]) -> list[int]:
    """
    These processes and all that they have started, and those have.
    """
    found = list(roots)
    for pid in found:
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in children.read_text().split()]
    return found


def _peak_of(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0
