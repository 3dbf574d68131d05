"""
Who holds a mapping: a row that names a process, and how to tell that the process is gone.

The row keeps honest runs apart and says who works; that a paused old run writes nothing after a
new one began is the fence's promise, not the lock's (ADR 0010).
"""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

LEASE_S = 30.0
"""How long a lock of another host stands after its last sign of life."""

COMMAND_LENGTH = 255


@dataclass(frozen=True, slots=True)
class Holder:
    """
    A process, told apart from a later one with the same number by the time it was born.
    """

    host: str
    boot: str
    pid: int
    born: str
    command: str

    def is_gone(self) -> bool | None:
        """
        Whether the process has ended; None where this host cannot know.
        """
        here = this_process()
        if (self.host, self.boot) != (here.host, here.boot):
            return None
        return _born(self.pid) != self.born

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} ({self.command})"


def this_process() -> Holder:
    """
    The process that runs this code.
    """
    pid = os.getpid()
    name = Path(sys.argv[0]).name or "python"
    command = " ".join([name, *sys.argv[1:3]])[:COMMAND_LENGTH]
    return Holder(socket.gethostname(), _boot(), pid, _born(pid), command)


def _boot() -> str:
    """
    Changes when the machine restarts; empty where the system does not say.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _born(pid: int) -> str:
    """
    When a process started, in the kernel's ticks; empty where no such process lives.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return _alive_without_proc(pid)
    except OSError:
        return ""
    # The name in brackets may hold anything; the fields after the last bracket are numbers.
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in ("Z", "X") else fields[19]


def _alive_without_proc(pid: int) -> str:
    if Path("/proc/self").exists():
        return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        return "alive"
    return "alive"
