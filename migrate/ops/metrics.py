"""
Counters of one run, and the Prometheus text file that carries them.

No label ever comes from data: mapping names, closed sets of words, never a key or a URL.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from migrate.errors import UsageProblem
from migrate.model.events import ChunkCopied, Event, PartitionDone, Throttled, Waiting
from migrate.model.values import Outcome

RESULTS = (*(outcome.name.lower() for outcome in Outcome), "rejected")
STEPS = ("read", "encode", "write", "save")
THROTTLE_REASONS = (
    "rows_per_second",
    "redis_memory",
    "redis_latency",
    "replica_lag",
    "pause_file",
)
WAIT_REASONS: Mapping[str, tuple[str, ...]] = {
    "source": (
        "connection",
        "starting",
        "shutdown",
        "crash",
        "too-many-connections",
        "idle-session",
        "lock",
        "deadlock",
        "serialization",
        "in-use",
        "busy",
        "io",
        "system",
        "pool",
        "schema-moving",
    ),
    "target": (
        "connection",
        "timeout",
        "name",
        "loading",
        "max-clients",
        "no-master",
        "oom",
        "readonly",
        "misconf",
        "noreplicas",
        "busy",
        "masterdown",
        "failover",
        "clusterdown",
        "resharding",
    ),
    "ledger": ("unavailable",),
}
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Family(NamedTuple):
    """
    One metric: its type, its help text, and the labels of its series.
    """

    kind: str
    explanation: str
    labels: tuple[str, ...] = ("mapping",)


FAMILIES: Mapping[str, Family] = {
    "profile_migrate_build_info": Family(
        "gauge", "Version of the program; the value is always 1.", ("version",)
    ),
    "profile_migrate_rows_read_total": Family("counter", "Rows read from the source."),
    "profile_migrate_rows_total": Family(
        "counter", "Rows by what became of them.", ("mapping", "result")
    ),
    "profile_migrate_rejects_total": Family("counter", "Rows that could not become a record."),
    "profile_migrate_batches_total": Family("counter", "Batches acknowledged and saved."),
    "profile_migrate_partitions_done_total": Family(
        "counter", "Partitions of which every row was seen."
    ),
    "profile_migrate_batch_duration_seconds": Family(
        "histogram", "Time of one step of one batch.", ("mapping", "step")
    ),
    "profile_migrate_throttled_seconds_total": Family(
        "counter", "Time held back on purpose.", ("mapping", "reason")
    ),
    "profile_migrate_waiting_seconds_total": Family(
        "counter", "Time waited for a store.", ("mapping", "store", "reason")
    ),
    "profile_migrate_run_duration_seconds": Family("gauge", "Length of the last run."),
    "profile_migrate_run_exit_code": Family("gauge", "Exit code of the last run."),
    "profile_migrate_run_finished_timestamp_seconds": Family("gauge", "When the last run ended."),
}
"""Every metric of the text file of a run: what docs and alert rules may name."""

_WORD = re.compile(r"[a-z][a-z0-9_-]{0,31}")

Sample = tuple[str, tuple[tuple[str, str], ...], float]
"""Suffix of the name, labels, value."""


class RunMetrics:
    """
    Collects what the events of one run say.

    Args:
        mapping: The run's mapping.

        version: Of this program.
    """

    def __init__(self, mapping: str, version: str) -> None:
        self._mapping = mapping
        self._version = version
        self._rows_read = 0
        self._batches = 0
        self._partitions = 0
        self._rows = Counter(dict.fromkeys(RESULTS, 0))
        self._throttled = dict.fromkeys(THROTTLE_REASONS, 0.0)
        self._waiting = {
            (store, reason): 0.0 for store, reasons in WAIT_REASONS.items() for reason in reasons
        }
        self._steps = {step: _Histogram() for step in STEPS}
        self._end: tuple[int, float, float] | None = None

    def update(self, event: Event) -> None:
        """
        Count one event.
        """
        match event:
            case ChunkCopied():
                self._count_chunk(event)
            case PartitionDone():
                self._partitions += 1
            case Waiting(store, reason, seconds):
                waited = (closed(store), closed(reason))
                self._waiting[waited] = self._waiting.get(waited, 0.0) + seconds
            case Throttled(reason, seconds):
                reason = closed(reason)
                self._throttled[reason] = self._throttled.get(reason, 0.0) + seconds

    def _count_chunk(self, chunk: ChunkCopied) -> None:
        self._batches += 1
        self._rows_read += chunk.rows
        self._rows["rejected"] += chunk.rejects
        for outcome, count in chunk.outcomes.items():
            self._rows[outcome.name.lower()] += count
        for step, seconds in chunk.seconds.items():
            self._steps.setdefault(closed(step), _Histogram()).observe(seconds)

    def finish(self, *, exit_code: int, seconds: float, finished_at: float) -> None:
        """
        Say how the run ended.

        Args:
            seconds: Length of the run.

            finished_at: Unix time, from the caller's clock.
        """
        self._end = (exit_code, seconds, finished_at)

    def text(self) -> str:
        """
        Everything in the text exposition format, version 0.0.4.
        """
        return exposition(FAMILIES, self._samples())

    def _samples(self) -> dict[str, list[Sample]]:
        mapping = ("mapping", self._mapping)
        exit_code, seconds, finished_at = self._end or (None, None, None)
        values: dict[str, Iterable[Sample]] = {
            "build_info": [("", (("version", self._version),), 1)],
            "rows_read_total": [("", (mapping,), self._rows_read)],
            "rows_total": [
                ("", (mapping, ("result", result)), count) for result, count in self._rows.items()
            ],
            "rejects_total": [("", (mapping,), self._rows["rejected"])],
            "batches_total": [("", (mapping,), self._batches)],
            "partitions_done_total": [("", (mapping,), self._partitions)],
            "batch_duration_seconds": [
                sample
                for step, histogram in self._steps.items()
                for sample in histogram.samples((mapping, ("step", step)))
            ],
            "throttled_seconds_total": [
                ("", (mapping, ("reason", reason)), waited)
                for reason, waited in self._throttled.items()
            ],
            "waiting_seconds_total": [
                ("", (mapping, ("store", store), ("reason", reason)), waited)
                for (store, reason), waited in self._waiting.items()
            ],
            "run_duration_seconds": _known(mapping, seconds),
            "run_exit_code": _known(mapping, exit_code),
            "run_finished_timestamp_seconds": _known(mapping, finished_at),
        }
        return {f"profile_migrate_{name}": list(found) for name, found in values.items()}

    def write(self, path: Path) -> None:
        """
        Replace the file at once, so that no collector reads half of it.

        Raises:
            UsageProblem: The file cannot be written there.
        """
        try:
            _replace(path, self.text().encode())
        except OSError as exc:
            raise UsageProblem(
                "The metrics file cannot be written.",
                where={"path": path, "reason": errno.errorcode.get(exc.errno or 0, "unknown")},
                next_step="Give --metrics-textfile a file in a folder that this user may write.",
            ) from None


def exposition(families: Mapping[str, Family], samples: Mapping[str, Iterable[Sample]]) -> str:
    """
    Samples by the names of their metrics as the text that a Prometheus server reads.
    """
    lines: list[str] = []
    for name, family in families.items():
        lines += [f"# HELP {name} {family.explanation}", f"# TYPE {name} {family.kind}"]
        lines += [_line(name, *sample) for sample in samples.get(name, ())]
    return "\n".join(lines) + "\n"


class _Histogram:
    """
    Counts of durations under fixed limits, with their sum.
    """

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS_S) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(BUCKETS_S, seconds)] += 1
        self._sum += seconds

    def samples(self, labels: tuple[tuple[str, str], ...]) -> Iterator[Sample]:
        limits = (*map(_number, BUCKETS_S), "+Inf")
        totals = list(accumulate(self._counts))
        for limit, count in zip(limits, totals, strict=True):
            yield "_bucket", (*labels, ("le", limit)), count
        yield "_sum", labels, self._sum
        yield "_count", labels, totals[-1]


def _known(mapping: tuple[str, str], value: float | None) -> list[Sample]:
    return [] if value is None else [("", (mapping,), value)]


def closed(word: str) -> str:
    """
    The word where it is plain, `other` otherwise: a label carries no text of a driver or a row.
    """
    return word if _WORD.fullmatch(word) else "other"


def _line(name: str, suffix: str, labels: tuple[tuple[str, str], ...], value: float) -> str:
    inside = ",".join(f'{label}="{_escape(text)}"' for label, text in labels)
    braced = f"{{{inside}}}" if inside else ""
    return f"{name}{suffix}{braced} {_number(value)}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _replace(path: Path, content: bytes) -> None:
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        # Renaming over a device or a pipe would remove it.
        raise OSError(errno.EINVAL, "not a regular file")
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o644)  # whatever the umask: a collector of another user reads it
            file.write(content)
            file.flush()
            os.fsync(handle)
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
