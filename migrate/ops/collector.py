"""
The metrics that are served: what the ledger says of every mapping, and the memory of Redis.

They outlive the process of a run: a killed worker leaves its progress in the ledger. No label ever
comes from data: mapping names, closed sets of words, never a key or a URL.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from migrate.ledger.verification import Kept
from migrate.model.values import Outcome
from migrate.ops.looks import Look, Seen
from migrate.ops.metrics import FAMILIES, Family, Sample, closed, exposition
from migrate.ops.standing import Standing, Trust, hard_counts
from migrate.pipeline.verify_result import PASS
from migrate.target.health import Signals

STATES = ("not started", "running", "interrupted", "incomplete", "complete", "purged")
PARTITION_STATES = ("pending", "claimed", "done")
_PREFIX = "profile_migrate_"


def _as_in_the_file(name: str) -> dict[str, Family]:
    return {name: FAMILIES[name]}


SERVED: Mapping[str, Family] = {
    **_as_in_the_file("profile_migrate_build_info"),
    "profile_migrate_ledger_up": Family("gauge", "Whether the ledger could be read.", ()),
    "profile_migrate_run_state": Family(
        "gauge", "1 for the state that a mapping is in, 0 for the others.", ("mapping", "state")
    ),
    "profile_migrate_partitions": Family(
        "gauge", "Partitions of the last run by their status.", ("mapping", "status")
    ),
    "profile_migrate_rows_estimated": Family("gauge", "Rows that the last run expects."),
    "profile_migrate_rows_done": Family("gauge", "Rows that the last run has read and saved."),
    "profile_migrate_run_rows": Family(
        "gauge",
        "Rows of the last run, all its attempts, by what became of them.",
        ("mapping", "result"),
    ),
    "profile_migrate_open_rejects": Family(
        "gauge", "Rows that wait for somebody to correct them.", ("mapping", "reason")
    ),
    "profile_migrate_checkpoint_age_seconds": Family(
        "gauge", "Time since a running run last saved its progress."
    ),
    **_as_in_the_file("profile_migrate_run_duration_seconds"),
    **_as_in_the_file("profile_migrate_run_exit_code"),
    **_as_in_the_file("profile_migrate_run_finished_timestamp_seconds"),
    "profile_migrate_verify_running": Family(
        "gauge",
        "Whether the newest verification of a level is not at its end.",
        ("mapping", "level"),
    ),
    "profile_migrate_verify_passed": Family(
        "gauge", "Whether the last verification of a level passed.", ("mapping", "level")
    ),
    "profile_migrate_verify_finished_timestamp_seconds": Family(
        "gauge", "When the last verification of a level came to its end.", ("mapping", "level")
    ),
    "profile_migrate_verify_rows_compared": Family(
        "gauge", "Rows and records that it compared.", ("mapping", "level")
    ),
    "profile_migrate_verify_mismatches": Family(
        "gauge", "Keys that it found to differ.", ("mapping", "level", "verdict")
    ),
    "profile_migrate_verify_saved_timestamp_seconds": Family(
        "gauge", "When the newest verification last saved its progress.", ("mapping", "level")
    ),
    "profile_migrate_verify_state": Family(
        "gauge",
        "1 for whether a mapping is not verified, verified or stale, 0 for the others.",
        ("mapping", "state"),
    ),
    "profile_migrate_verify_last_success_timestamp_seconds": Family(
        "gauge", "When everything was last compared and nothing differed."
    ),
    "profile_migrate_verify_max_age_seconds": Family(
        "gauge", "Age above which a verification no longer counts.", ()
    ),
    "profile_migrate_open_mismatches": Family(
        "gauge",
        "Keys that differ, until a verification of everything says otherwise.",
        ("mapping", "verdict"),
    ),
    "profile_migrate_redis_up": Family("gauge", "Whether Redis answered in time.", ("redis",)),
    "profile_migrate_redis_memory_used_bytes": Family(
        "gauge", "Memory that Redis uses; of a Cluster, its fullest master.", ("redis",)
    ),
    "profile_migrate_redis_memory_max_bytes": Family(
        "gauge", "Memory that Redis may use; 0 is without limit.", ("redis",)
    ),
    "profile_migrate_throttle_redis_memory_ratio": Family(
        "gauge", "Share of its memory above which a run pauses.", ()
    ),
    "profile_migrate_collector_errors_total": Family(
        "counter", "Looks at a store that failed or took too long.", ("store",)
    ),
    "profile_migrate_collector_duration_seconds": Family(
        "gauge", "Time that the last look at a store took.", ("store",)
    ),
}
"""Every metric that is served: what docs and alert rules may name."""


LedgerLook = Look[Sequence[Standing]]


class Collector:
    """
    Answers a scrape from looks at the ledger and at Redis, in about two seconds at most.

    Args:
        version: Of this program.

        redis: The name of the target's Redis in the configuration.

        throttle: Share of its memory above which a run pauses.

        max_age_s: Age above which a verification no longer counts.
    """

    def __init__(
        self,
        ledger: LedgerLook,
        target: Look[Signals],
        *,
        version: str,
        redis: str,
        throttle: float,
        max_age_s: float,
    ) -> None:
        self._ledger = ledger
        self._target = target
        self._version = version
        self._redis = redis
        self._throttle = throttle
        self._max_age_s = max_age_s

    def standing(self) -> Seen[Sequence[Standing]]:
        """
        What the ledger says, with its age, for the status page and the health check.
        """
        return self._ledger.take()

    def text(self, now: float) -> str:
        """
        Everything in the text exposition format, version 0.0.4.

        Args:
            now: Seconds since 1970.
        """
        until = self._ledger.begin()
        self._target.begin()
        ledger, target = self._ledger.take(until), self._target.take(until)
        samples: dict[str, list[Sample]] = {name.removeprefix(_PREFIX): [] for name in SERVED}
        samples["build_info"] = [("", (("version", self._version),), 1)]
        samples["ledger_up"] = [("", (), not ledger.problem)]
        samples["throttle_redis_memory_ratio"] = [("", (), self._throttle)]
        samples["verify_max_age_seconds"] = [("", (), self._max_age_s)]
        for mapping in ledger.current or ():
            _add_mapping(samples, mapping, now)
            _add_proof(samples, mapping)
            for verification in mapping.verifications:
                _add_verification(samples, mapping.mapping, verification)
        self._add_redis(samples, target)
        looks: Mapping[str, Look[Any]] = {"ledger": self._ledger, "target": self._target}
        for store, look_at in looks.items():
            label = (("store", store),)
            samples["collector_errors_total"].append(("", label, look_at.errors))
            samples["collector_duration_seconds"].append(("", label, look_at.seconds))
        return exposition(SERVED, {f"{_PREFIX}{name}": samples[name] for name in samples})

    def _add_redis(self, samples: dict[str, list[Sample]], target: Seen[Signals]) -> None:
        label = (("redis", self._redis),)
        samples["redis_up"].append(("", label, not target.problem))
        signals = target.current
        # 0 is hidden from this user: no Redis uses none.
        if signals is not None and signals.used_memory:
            samples["redis_memory_used_bytes"].append(("", label, signals.used_memory))
            samples["redis_memory_max_bytes"].append(("", label, signals.maxmemory))


def _add_mapping(samples: dict[str, list[Sample]], look: Standing, now: float) -> None:
    mapping = ("mapping", look.mapping)

    def add(name: str, label: str, values: Iterable[tuple[str, float]]) -> None:
        samples[name] += [("", (mapping, (label, word)), value) for word, value in values]

    def add_one(name: str, value: float | None) -> None:
        if value is not None:
            samples[name].append(("", (mapping,), value))

    states = dict.fromkeys(STATES, 0) | {look.state: 1}
    add("run_state", "state", ((state.replace(" ", "_"), on) for state, on in states.items()))
    reasons: dict[str, int] = {}
    for reason, count in look.open_rejects.items():
        word = closed(reason)
        reasons[word] = reasons.get(word, 0) + count
    add("open_rejects", "reason", reasons.items())
    run = look.run
    if run is None:
        return
    partitions = dict.fromkeys(PARTITION_STATES, 0) | dict(look.partitions)
    add("partitions", "status", partitions.items())
    results = {kind.name.lower(): run.outcomes.get(kind, 0) for kind in Outcome}
    add("run_rows", "result", {**results, "rejected": run.rejected}.items())
    add_one("rows_estimated", run.rows_estimated)
    add_one("rows_done", run.rows)
    if look.state == "running":
        add_one("checkpoint_age_seconds", max(0.0, now - run.updated_at))
    add_one("run_duration_seconds", run.seconds)
    if run.exit_code is not None:
        add_one("run_exit_code", run.exit_code)
        add_one("run_finished_timestamp_seconds", run.finished_at or run.updated_at)


def _add_proof(samples: dict[str, list[Sample]], look: Standing) -> None:
    mapping = ("mapping", look.mapping)
    proof = look.proof
    samples["verify_state"] += [
        ("", (mapping, ("state", trust.replace(" ", "_"))), trust is proof.trust) for trust in Trust
    ]
    samples["open_mismatches"] += [
        ("", (mapping, ("verdict", verdict.lower())), count)
        for verdict, count in proof.mismatches.items()
    ]
    if proof.kept is not None and proof.passed:
        samples["verify_last_success_timestamp_seconds"].append(
            ("", (mapping,), proof.kept.kept_at)
        )
    run = look.verifying
    for kept in look.verifications:
        if run is not None and kept.run == run.id:
            labels = (mapping, ("level", closed(kept.level)))
            samples["verify_saved_timestamp_seconds"].append(("", labels, run.updated_at))


def _add_verification(samples: dict[str, list[Sample]], mapping: str, verification: Kept) -> None:
    labels = (("mapping", mapping), ("level", closed(verification.level)))
    samples["verify_running"].append(("", labels, not verification.verdict))
    if not verification.result:
        return
    result = json.loads(verification.result)
    samples["verify_passed"].append(("", labels, verification.verdict == PASS))
    if result.get("complete"):
        samples["verify_finished_timestamp_seconds"].append(("", labels, verification.kept_at))
    compared = result.get("scope", {}).get("compared", 0)
    samples["verify_rows_compared"].append(("", labels, compared))
    samples["verify_mismatches"] += [
        ("", (*labels, ("verdict", verdict.lower())), count)
        for verdict, count in hard_counts(verification).items()
    ]
