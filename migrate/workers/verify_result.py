"""
Makes the result of a verification of what lies in the ledger.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from migrate import __version__
from migrate.model.values import Expiry
from migrate.model.verdict import BACK, HARD, Kind, Level, Verdict
from migrate.pipeline import verify_result as results
from migrate.workers.verify_job import Bench, Request


@dataclass(frozen=True, slots=True)
class Told:
    """
    Makes the result of one pass.

    Args:
        stopped: The exit code of whoever stopped it.

        passes: Its number, from 1.
    """

    bench: Bench
    request: Request
    epoch: int
    stopped: int | None
    passes: int = 1

    def result(self, rows: int, started: float, seconds: float) -> dict[str, Any]:
        """
        The whole object.
        """
        bench, job = self.bench, self.bench.job
        counted = self._counts()
        parts = results.partitions(counted)
        forward = sum(p["rows"] for p in parts if p["number"] != BACK)
        backward = sum(p["rows"] for p in parts if p["number"] == BACK)
        verdicts = dict(counted.verdicts)
        if job.level is Level.COUNT:
            verdicts |= self._difference(rows, forward, counted)
            counted = replace(counted, verdicts=verdicts)
        hard = sum(verdicts.get(verdict.value, 0) for verdict in HARD)
        complete = self._is_complete(parts, verdicts)
        compared = forward + (backward if not forward else 0)
        word, code = results.judged(
            counted, complete=complete, compared=compared, stopped=self.stopped
        )
        kinds, fields = results.kinds(counted)
        identity, facts = bench.target.identity(), bench.source.facts()
        count = job.level is Level.COUNT
        return {
            "schema": results.SCHEMA,
            "mapping": job.mapping.name,
            "level": job.level.value,
            "continuous": self.request.continuous,
            "verdict": word,
            "exit_code": code,
            "complete": complete,
            "nothing_compared": compared == 0,
            "run": job.run,
            "passes": self.passes,
            "scope": {
                "rows_sql": rows if count or not complete else max(forward, 0),
                "rows_estimated": not count and not complete,
                "records_redis": forward if count else backward,
                "compared": compared,
                "where": job.mapping.where_text,
                "sample": self.request.sample,
            },
            "bound": results.bound(job.level, compared, hard),
            "counts": verdicts,
            "kinds": kinds,
            "fields": fields,
            "open_rejects": dict(counted.open_rejects),
            "not_checked": list(self._not_checked(compared, verdicts)),
            "trusted_digests": job.level is Level.FULL,
            "partitions": parts,
            "samples": list(self._samples()),
            "fingerprint": bench.compiled().fingerprint,
            "tool": __version__,
            "epoch": self.epoch,
            "redis": {
                "address": identity.address,
                "flavour": identity.flavour,
                "version": identity.version,
                "topology": identity.topology,
            },
            "source": {
                "address": job.settings.source.address,
                "dialect": facts.dialect,
                "version": facts.version,
            },
            "started_at": started,
            "finished_at": started + seconds,
            "seconds": round(seconds, 3),
            "rows_per_s": round(compared / seconds, 1) if seconds > 0 else 0.0,
        }

    def _counts(self) -> results.Counted:
        ledger, run = self.bench.ledger, self.bench.job.run
        verdicts: dict[str, int] = {}
        for (_, verdict), count in ledger.checked(run).items():
            verdicts[verdict] = verdicts.get(verdict, 0) + count
        left = ledger.rechecks_left(run)
        verdicts[Verdict.IN_FLIGHT.value] = verdicts.get(Verdict.IN_FLIGHT.value, 0) + left
        verdicts |= ledger.keys_of_findings(run)
        return results.Counted(
            verdicts={name: count for name, count in verdicts.items() if count},
            parts=ledger.parts_of(run),
            sums=ledger.sums_of_findings(run),
            open_rejects=ledger.count_rejects(self.bench.job.mapping.name),
        )

    def _difference(self, rows: int, records: int, counted: results.Counted) -> Mapping[str, int]:
        """
        What two numbers say: how many are missing, or too many, and nothing of which.
        """
        wanted = rows - sum(counted.open_rejects.values())
        if self.bench.job.mapping.expiry is not Expiry.NONE:
            wanted = min(wanted, records)
        found = {"OK": min(wanted, records)}
        if wanted > records:
            found[Verdict.MISSING.value] = wanted - records
        if records > wanted:
            found[Verdict.ORPHAN.value] = records - wanted
        return {name: count for name, count in found.items() if count > 0}

    def _is_complete(self, parts: Sequence[Mapping[str, Any]], verdicts: Mapping[str, int]) -> bool:
        if self.stopped is not None or not self.bench.job.copied:
            return False
        if verdicts.get(Verdict.PENDING.value) or verdicts.get(Verdict.IN_FLIGHT.value):
            return False
        return bool(parts) and all(part["done"] for part in parts)

    def _not_checked(self, compared: int, verdicts: Mapping[str, int]) -> Iterator[str]:
        job = self.bench.job
        if not compared:
            yield "Nothing was compared: the mapping selects no row, and no record is there."
        if not job.copied:
            yield "The backfill is not complete: rows without a record may still be copied."
        if self.stopped is not None:
            yield "The verification was stopped before its end."
        changing = verdicts.get(Verdict.IN_FLIGHT.value)
        if changing:
            yield f"{changing:,} keys kept changing while they were compared."
        if job.level is Level.COUNT:
            yield "Which records they are and what is in them: two numbers were compared."
        if job.level is Level.COUNT and job.mapping.expiry is not Expiry.NONE:
            yield "Missing records: those that expired are not there either."
        if job.level is Level.SAMPLE:
            yield "Rows outside of the sample, and records without a row."
        if job.level is Level.FULL:
            yield "Fields behind their digest: the digest that each record carries is trusted."
        if job.level.reads_fields:
            yield from self._same_way()

    def _same_way(self) -> Iterator[str]:
        compiled = self.bench.compiled()
        same = self.bench.source.plain(compiled.query).same_way()
        if same:
            names = ", ".join(same)
            yield f"Columns whose type is read in one way only, that of the backfill: {names}."
        if compiled.children:
            yield "Child rows were read as the backfill reads them."
        masked = [one.name for one in compiled.fields if not one.codec.reversible]
        if masked:
            names = ", ".join(masked)
            yield f"Masked fields lead nowhere back; the mask was made again: {names}."

    def _samples(self) -> Iterator[dict[str, Any]]:
        job = self.bench.job
        for verdict in sorted(HARD):
            found = self.bench.ledger.findings(
                job.run, verdict=verdict.value, limit=results.SAMPLES
            )
            for one in found:
                personal = one.verdict == Verdict.ORPHAN.value and one.kind == Kind.LOOKUP.value
                yield {
                    "verdict": one.verdict,
                    "kind": one.kind,
                    "key": results.key_shown(one.key, job.secret, personal=personal),
                    "field": one.field,
                    "expected": json.loads(one.expected or "{}"),
                    "found": json.loads(one.found or "{}"),
                }
