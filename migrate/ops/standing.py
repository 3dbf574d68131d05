"""
How far each mapping is, as the ledger knows it: what `status`, the status page and metrics say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from migrate.ledger.store import FINISHED, PURGED, RUNNING, Ledger, Lock, RunState
from migrate.ledger.verification import Kept
from migrate.model.verdict import HARD, Level
from migrate.ops.tables import human_duration
from migrate.pipeline.verify_result import PASS

VERIFY = "verify"
"""Kind of the runs that are verifications."""


class Trust(StrEnum):
    """
    Whether a verification of everything passed, and still speaks of what is there.
    """

    NOT_VERIFIED = "not verified"
    VERIFIED = "verified"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Proof:
    """
    What the verifications of a mapping prove together.

    Args:
        kept: The newest that looked at everything or found differences; None without one.

        written: Whether the records, or the mapping, are other ones since.

        repairable: Whether nothing was verified after it, so that a repair knows its findings.
    """

    trust: Trust = Trust.NOT_VERIFIED
    kept: Kept | None = None
    written: bool = False
    repairable: bool = False

    @property
    def passed(self) -> bool:
        """
        Whether it found nothing.
        """
        return self.kept is not None and self.kept.verdict == PASS

    @property
    def mismatches(self) -> dict[str, int]:
        """
        Keys that it found to differ, by verdict; the closed set of them, where there is one.
        """
        return {} if self.kept is None else hard_counts(self.kept)

    def sentence(self, now: float) -> str:
        """
        The word, what it rests on, and how old that is.
        """
        if self.kept is None:
            return self.trust.value
        age = human_duration(max(0.0, now - self.kept.kept_at))
        about = f"level {self.kept.level}, {age} ago"
        if differ := sum(self.mismatches.values()):
            about += f", {differ:,} {'key differs' if differ == 1 else 'keys differ'}"
        elif not self.passed:
            about += ", with open rejects"
        if self.written:
            about += "; something was written since"
        return f"{self.trust} ({about})"


@dataclass(frozen=True, slots=True)
class Standing:
    """
    How far one mapping is.

    Args:
        run: The last backfill; None before the first.

        lock: Who works on it now.

        open_rejects: By reason.

        partitions: Of the last backfill, by status.

        verifications: The newest of each level, whole or not.

        verifying: The last run of a verification.
    """

    mapping: str
    run: RunState | None = None
    lock: Lock | None = None
    open_rejects: Mapping[str, int] = field(default_factory=dict)
    partitions: Mapping[str, int] = field(default_factory=dict)
    verifications: Sequence[Kept] = ()
    verifying: RunState | None = None
    proof: Proof = Proof()

    @property
    def state(self) -> str:
        """
        One word for people and for --json.
        """
        if self.run is None:
            return "not started"
        if self.lock is not None and self._is_copying(self.run):
            return "running"
        if self.run.status == FINISHED:
            return "complete"
        if self.run.status == PURGED:
            return "purged"
        return "interrupted" if self.run.status == RUNNING else "incomplete"

    def _is_copying(self, run: RunState) -> bool:
        """
        Whether whoever holds the mapping works on its backfill, and does not verify or repair.
        """
        other = self.verifying
        if other is not None and other.status == RUNNING and other.updated_at > run.updated_at:
            return False
        return run.status == RUNNING

    @property
    def holder(self) -> str | None:
        """
        Who works on it now, for people.
        """
        return None if self.lock is None else str(self.lock.holder)

    @property
    def next_command(self) -> str:
        """
        What to run next.
        """
        if self.lock is not None:
            return "profile-migrate status --watch"
        if self.run is None or self.state == "purged":
            return f"profile-migrate plan {self.mapping}"
        if self.state != "complete":
            return f"profile-migrate backfill {self.mapping}"
        if self.open_rejects:
            return f"profile-migrate rejects list {self.mapping}"
        return self._next_proof()

    def _next_proof(self) -> str:
        proof = self.proof
        if proof.trust is Trust.VERIFIED:
            return f"profile-migrate backfill {self.mapping}"
        if proof.kept is not None and proof.repairable and not (proof.passed or proof.written):
            return f"profile-migrate repair {self.mapping} --dry-run"
        deep = proof.kept is not None and proof.kept.level == Level.DEEP
        return f"profile-migrate verify {self.mapping}{' --level deep' if deep else ''}"


def standing(ledger: Ledger, name: str, *, max_age_s: float, now: float) -> Standing:
    """
    Read how far a mapping is.

    Args:
        max_age_s: Age above which a verification no longer counts.

        now: Seconds since 1970.
    """
    run = ledger.last_run(name)
    newest = [ledger.last_verification(name, level) for level in Level]
    return Standing(
        mapping=name,
        run=run,
        lock=ledger.lock_of(name),
        open_rejects=ledger.count_rejects(name),
        partitions={} if run is None else ledger.count_partitions(run.id),
        verifications=[kept for kept in newest if kept is not None],
        verifying=ledger.last_run(name, VERIFY),
        proof=_proof(ledger, name, run, now - max_age_s),
    )


def _proof(ledger: Ledger, name: str, run: RunState | None, oldest: float) -> Proof:
    """
    What is proved now: any write after a verification makes it one of the past.

    A backfill moves its run's time on; repairs, replays and removals are lines of the journal.
    """
    kept, state, last = (
        ledger.last_telling(name),
        ledger.mapping(name),
        ledger.last_verification(name),
    )
    if kept is None or state is None or run is None:
        return Proof()
    written = (
        run.updated_at > kept.kept_at
        or kept.fingerprint != state.fingerprint
        or ledger.written_after(name, kept.kept_at)
    )
    trust = Trust.NOT_VERIFIED
    if kept.verdict == PASS:
        trust = Trust.STALE if written or kept.kept_at < oldest else Trust.VERIFIED
    return Proof(trust, kept, written, last is not None and last.run == kept.run)


def hard_counts(kept: Kept) -> dict[str, int]:
    """
    Keys that a verification found to differ, by verdict; all of the closed set.
    """
    found = json.loads(kept.result).get("counts", {}) if kept.result else {}
    return {word: found.get(word, 0) for word in sorted(verdict.value for verdict in HARD)}
