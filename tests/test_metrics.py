"""
The metrics file, read back by Prometheus' own parser.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from migrate.errors import UsageProblem
from migrate.model.events import ChunkCopied, PartitionDone, Throttled, Waiting
from migrate.model.values import Outcome
from migrate.ops.metrics import FAMILIES, RESULTS, THROTTLE_REASONS, WAIT_REASONS, RunMetrics

parser = pytest.importorskip("prometheus_client.parser", reason="pip install prometheus-client")

CANARY = "PII-CANARY-7f3a jane@example.com"


def parsed(metrics: RunMetrics) -> tuple[dict[tuple[object, ...], float], dict[str, str]]:
    """
    Name and labels of every sample with its value, and the types by family.
    """
    families = list(parser.text_string_to_metric_families(metrics.text()))
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }
    return samples, {family.name: family.type for family in families}


def key(name: str, **labels: str) -> tuple[object, ...]:
    return (f"profile_migrate_{name}", *sorted({"mapping": "users", **labels}.items()))


def test_every_series_exists_before_anything_happens() -> None:
    """
    All closed label values begin at 0, so that rates and alerts see the first increase.
    """
    samples, _ = parsed(RunMetrics("users", "1.2.3"))

    assert samples[("profile_migrate_build_info", ("version", "1.2.3"))] == 1
    assert {samples[key("rows_total", result=result)] for result in RESULTS} == {0}
    assert {samples[key("throttled_seconds_total", reason=one)] for one in THROTTLE_REASONS} == {0}
    for store, reasons in WAIT_REASONS.items():
        for reason in reasons:
            assert samples[key("waiting_seconds_total", store=store, reason=reason)] == 0
    assert samples[key("batch_duration_seconds_count", step="write")] == 0


def test_events_are_counted() -> None:
    """
    Rows by result, batches, partitions, and seconds throttled and waited add up.
    """
    metrics = RunMetrics("users", "1")
    chunk = ChunkCopied(0, 10, {Outcome.WRITTEN: 7, Outcome.COLLISION: 1}, 2)

    for event in (
        chunk,
        chunk,
        PartitionDone(0),
        Throttled("redis_memory", 1.5),
        Waiting("target", "oom", 0.25),
        Waiting("target", "oom", 0.5),
    ):
        metrics.update(event)

    samples, _ = parsed(metrics)
    assert samples[key("rows_read_total")] == 20
    assert samples[key("rows_total", result="written")] == 14
    assert samples[key("rows_total", result="collision")] == 2
    assert samples[key("rows_total", result="rejected")] == 4
    assert samples[key("rejects_total")] == 4
    assert samples[key("batches_total")] == 2
    assert samples[key("partitions_done_total")] == 1
    assert samples[key("throttled_seconds_total", reason="redis_memory")] == 1.5
    assert samples[key("waiting_seconds_total", store="target", reason="oom")] == 0.75


def test_durations_fall_into_cumulative_buckets() -> None:
    """
    A bucket counts what took at most its limit; the last one counts everything.
    """
    metrics = RunMetrics("users", "1")
    for seconds in (0.001, 0.002, 99.0):
        metrics.update(ChunkCopied(0, 1, {}, 0, {"write": seconds}))

    samples, types = parsed(metrics)
    name = "batch_duration_seconds"
    assert types["profile_migrate_batch_duration_seconds"] == "histogram"
    assert samples[key(f"{name}_bucket", step="write", le="0.001")] == 1
    assert samples[key(f"{name}_bucket", step="write", le="0.0025")] == 2
    assert samples[key(f"{name}_bucket", step="write", le="10")] == 2
    assert samples[key(f"{name}_bucket", step="write", le="+Inf")] == 3
    assert samples[key(f"{name}_count", step="write")] == 3
    assert samples[key(f"{name}_sum", step="write")] == pytest.approx(99.003)


def test_the_end_of_a_run_is_told_once_it_has_come() -> None:
    """
    Exit code, length and time of the end are absent while the run goes on.
    """
    metrics = RunMetrics("users", "1")
    before, _ = parsed(metrics)

    metrics.finish(exit_code=5, seconds=12.5, finished_at=1795248000.25)

    after, _ = parsed(metrics)
    assert key("run_exit_code") not in before
    assert after[key("run_exit_code")] == 5
    assert after[key("run_duration_seconds")] == 12.5
    assert after[key("run_finished_timestamp_seconds")] == 1795248000.25


def test_every_family_is_declared() -> None:
    """
    The file holds exactly the declared metrics, each with help and type.
    """
    _, types = parsed(RunMetrics("users", "1"))

    assert types == {
        name.removesuffix("_total") if family.kind == "counter" else name: family.kind
        for name, family in FAMILIES.items()
    }


def test_labels_are_escaped() -> None:
    """
    No name of a mapping can end a label or a line.
    """
    metrics = RunMetrics('a"b\\c\nd', "1")

    samples, _ = parsed(metrics)

    assert ("profile_migrate_batches_total", ("mapping", 'a"b\\c\nd')) in samples


def test_no_data_becomes_a_label() -> None:
    """
    A reason or step that is no plain word is counted as `other`.
    """
    metrics = RunMetrics("users", "1")
    metrics.update(Waiting("target", CANARY, 1.0))
    metrics.update(Throttled(CANARY, 2.0))
    metrics.update(ChunkCopied(0, 1, {}, 0, {CANARY: 3.0}))

    samples, _ = parsed(metrics)
    assert "CANARY" not in metrics.text()
    assert samples[key("waiting_seconds_total", store="target", reason="other")] == 1
    assert samples[key("throttled_seconds_total", reason="other")] == 2


def test_reasons_of_the_adapters_are_closed() -> None:
    """
    Every reason for which an adapter waits has its series from the start.
    """
    from migrate.source import retry as source
    from migrate.target import retry as target

    tables = (source.SQLSTATES, source.SQLITE_CODES, source.SQLALCHEMY_ERRORS)
    from_source = {
        reason
        for found in tables
        for kind, reason in found.values()
        if kind is source.TroubleKind.AWAY
    }
    troubles = [*target.WORDS.values(), *target.CLASSES.values(), *dict(target.PHRASES).values()]
    from_target = {trouble.reason for trouble in troubles if trouble.waits}

    assert set(WAIT_REASONS["source"]) == from_source
    assert set(WAIT_REASONS["target"]) == from_target


def test_the_file_is_replaced_at_once_and_readable(tmp_path: Path) -> None:
    """
    The file appears whole, for everybody to read, and leaves no draft beside it.
    """
    path = tmp_path / "backfill.prom"
    path.write_text("old")
    metrics = RunMetrics("users", "1")
    umask = os.umask(0o077)
    try:
        metrics.write(path)
    finally:
        os.umask(umask)

    assert path.read_text() == metrics.text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["missing/backfill.prom", "", "pipe"])
def test_a_place_that_takes_no_file_is_named(tmp_path: Path, name: str) -> None:
    """
    A missing folder, a folder or a pipe is refused, and nothing is left behind.
    """
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / name

    with pytest.raises(UsageProblem) as caught:
        RunMetrics("users", "1").write(path)

    assert caught.value.where["path"] == path
    assert [one.name for one in tmp_path.iterdir()] == ["pipe"]
