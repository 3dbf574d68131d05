"""
The rows of verifications: counts by verdict, every finding, and the result as it was told.

Findings are told apart by what they say, so that a chunk that is done twice names nothing twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from migrate.ledger import keys, tables
from migrate.model.values import Key
from migrate.model.verdict import Finding, Recheck, Verdict

_SETTLED = ("PASS", "MISMATCH")

AT_ONCE = 500
"""Findings in one statement."""

PASSES = 1_000
"""Runs of verifications of one mapping that are kept."""


@dataclass(frozen=True, slots=True)
class Checked:
    """
    What one chunk of a verification added.

    Args:
        counts: Entities by verdict, where the verdict is no finding.

        rechecks: Keys that were changing.

        due: When to look at them again, by the clock of the verification.
    """

    cursor: Key | None
    rows: int
    counts: Mapping[Verdict, int] = field(default_factory=dict)
    findings: Sequence[tuple[Finding, str | None, str | None]] = ()
    """Each with the texts that tell what was expected and what was found, without values."""
    done: bool = False
    seen: bytes = b""
    """A large number, to be added to what the partition has kept; empty adds nothing."""
    rechecks: Sequence[Recheck] = ()
    due: float = 0.0


@dataclass(frozen=True, slots=True)
class Kept:
    """
    A verification as the ledger keeps it.

    Args:
        verdict: PASS, MISMATCH or INCOMPLETE; empty while it goes on.

        result: JSON of the result; empty while it goes on.
    """

    mapping: str
    level: str
    fingerprint: str
    epoch: int
    kept_at: float
    verdict: str = ""
    result: str = ""
    run: str = ""


class Found(NamedTuple):
    """
    One finding as it lies in the ledger.
    """

    verdict: str
    kind: str
    key: bytes
    field: str
    source_key: Key | None
    entry: bytes
    expected: str | None
    found: str | None


def keep(connection: Connection, run: str, kept: Kept) -> None:
    """
    Write down, or over, what is known of a verification.
    """
    table = tables.verification
    old = table.c.run == run
    if kept.verdict in _SETTLED:
        # A result takes the place of those before it; one that is not whole that of its like.
        old |= (table.c.mapping == kept.mapping) & (table.c.level == kept.level)
    elif kept.verdict:
        same = (table.c.mapping == kept.mapping) & (table.c.level == kept.level)
        old |= same & (table.c.verdict == kept.verdict)
    connection.execute(delete(table).where(old))
    connection.execute(
        insert(table).values(
            run=run,
            mapping=kept.mapping,
            level=kept.level,
            fingerprint=kept.fingerprint,
            epoch=kept.epoch,
            kept_at=kept.kept_at,
            verdict=kept.verdict,
            result=kept.result,
        )
    )


def last(
    connection: Connection, mapping: str, level: str | None, *, settled: bool = False
) -> Kept | None:
    """
    The newest one of a mapping.

    Args:
        settled: Only one that passed or failed.
    """
    table = tables.verification
    query = select(table).where(table.c.mapping == mapping)
    if settled:
        query = query.where(table.c.verdict.in_(_SETTLED))
    if level is not None:
        query = query.where(table.c.level == level)
    row = connection.execute(query.order_by(table.c.kept_at.desc()).limit(1)).one_or_none()
    if row is None:
        return None
    return Kept(
        mapping=row.mapping,
        level=row.level,
        fingerprint=row.fingerprint,
        epoch=row.epoch,
        kept_at=row.kept_at,
        verdict=row.verdict,
        result=row.result,
        run=row.run,
    )


def last_telling(connection: Connection, mapping: str) -> Kept | None:
    """
    The newest one that says how things stand: it looked at everything, or it found differences.

    One that passed on a part, or on two numbers, takes nothing back of what others found.
    """
    table = tables.verification
    query = select(table.c.level, table.c.verdict).where(
        table.c.mapping == mapping, table.c.verdict.in_(_SETTLED)
    )
    for level, verdict in connection.execute(query.order_by(table.c.kept_at.desc())):
        if verdict == "MISMATCH" or level in ("full", "deep"):
            return last(connection, mapping, level, settled=True)
    return None


def forget(connection: Connection, mapping: str) -> None:
    """
    Forget every verification of a mapping.
    """
    forget_findings(connection, mapping, but="")
    table = tables.verification
    connection.execute(delete(table).where(table.c.mapping == mapping))


def forget_findings(connection: Connection, mapping: str, *, but: str) -> None:
    """
    Forget what all verifications of a mapping but one found, and how far they were.
    """
    runs = select(tables.verification.c.run).where(
        tables.verification.c.mapping == mapping, tables.verification.c.run != but
    )
    of_passes = (tables.finding, tables.checked, tables.seen, tables.partition, tables.recheck)
    for table in of_passes:
        connection.execute(delete(table).where(table.c.run.in_(runs.scalar_subquery())))


def forget_passes(connection: Connection, mapping: str) -> None:
    """
    Forget the runs of passes long ago: a verification that goes round has no end of them.
    """
    run = tables.run
    ours = (run.c.mapping == mapping) & (run.c.kind == "verify")
    newest = select(run.c.id).where(ours).order_by(run.c.started_at.desc()).limit(PASSES)
    told = select(tables.verification.c.run).where(tables.verification.c.mapping == mapping)
    old = run.c.id.not_in(newest.scalar_subquery()) & run.c.id.not_in(told.scalar_subquery())
    connection.execute(delete(run).where(ours, old))


def forget_partition(connection: Connection, run: str, number: int) -> None:
    """
    Forget what one partition found.
    """
    for table in (tables.finding, tables.checked, tables.seen):
        connection.execute(delete(table).where(table.c.run == run, table.c.number == number))


def add(connection: Connection, run: str, number: int, checked: Checked) -> None:
    """
    Add counts and findings.
    """
    table = tables.checked
    for verdict, count in checked.counts.items():
        here = and_(table.c.run == run, table.c.number == number, table.c.verdict == verdict.value)
        added = connection.execute(
            update(table).where(here).values(count=table.c.count + count)
        ).rowcount
        if not added:
            values = {"run": run, "number": number, "verdict": verdict.value, "count": count}
            connection.execute(insert(table).values(**values))
    _add_findings(connection, run, number, checked)
    if checked.seen:
        _add_seen(connection, run, number, checked.seen)


def _add_seen(connection: Connection, run: str, number: int, added: bytes) -> None:
    table = tables.seen
    here = (table.c.run == run) & (table.c.number == number)
    kept = connection.scalar(select(table.c.sums).where(here))
    if kept is None:
        connection.execute(insert(table).values(run=run, number=number, sums=added))
        return
    total = int.from_bytes(kept, "little") + int.from_bytes(added, "little")
    connection.execute(update(table).where(here).values(sums=total.to_bytes(len(added), "little")))


def seen(connection: Connection, run: str) -> list[bytes]:
    """
    What each partition has kept of the records that it met.
    """
    table = tables.seen
    return list(connection.scalars(select(table.c.sums).where(table.c.run == run)))


def _add_findings(connection: Connection, run: str, number: int, checked: Checked) -> None:
    table = tables.finding
    rows: dict[tuple[str, str, str, str], dict[str, object]] = {}
    for one, expected, found in checked.findings:
        name = (one.key.hex(), one.verdict.value, one.mismatch.kind.value, one.mismatch.field)
        rows[name] = {
            "run": run,
            "key": name[0],
            "verdict": name[1],
            "kind": name[2],
            "field": name[3],
            "number": number,
            "source_key": keys.dump(one.source_key),
            "entry": one.mismatch.entry.hex(),
            "expected": expected,
            "found": found,
        }
    for key, verdict, kind, named in rows:
        connection.execute(
            delete(table).where(
                table.c.run == run,
                table.c.key == key,
                table.c.verdict == verdict,
                table.c.kind == kind,
                table.c.field == named,
            )
        )
    if rows:
        connection.execute(insert(table), list(rows.values()))


def forget_seen(connection: Connection, run: str) -> None:
    """
    Forget it once the way back is done.
    """
    connection.execute(delete(tables.seen).where(tables.seen.c.run == run))


def counts(connection: Connection, run: str) -> dict[tuple[int, str], int]:
    """
    Entities by partition and verdict.
    """
    table = tables.checked
    query = select(table.c.number, table.c.verdict, table.c.count).where(table.c.run == run)
    return {(number, verdict): count for number, verdict, count in connection.execute(query)}


def sums(connection: Connection, run: str) -> list[tuple[int, str, str, str, int]]:
    """
    Keys by partition, verdict, kind and field.
    """
    table = tables.finding
    names = (table.c.number, table.c.verdict, table.c.kind, table.c.field)
    query = (
        select(*names, func.count(table.c.key.distinct()))
        .where(table.c.run == run)
        .group_by(*names)
        .order_by(*names)
    )
    return [(row[0], row[1], row[2], row[3], row[4]) for row in connection.execute(query)]


def by_verdict(connection: Connection, run: str) -> dict[str, int]:
    """
    Keys by verdict, each counted once whatever is wrong with it.
    """
    table = tables.finding
    query = (
        select(table.c.verdict, func.count(table.c.key.distinct()))
        .where(table.c.run == run)
        .group_by(table.c.verdict)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def page(
    connection: Connection, run: str, verdict: str | None, after: Found | None, size: int
) -> list[Found]:
    """
    The next findings behind one.
    """
    table = tables.finding
    order = (table.c.verdict, table.c.key, table.c.kind, table.c.field)
    query = select(table).where(table.c.run == run)
    if verdict is not None:
        query = query.where(table.c.verdict == verdict)
    if after is not None:
        place = (after.verdict, after.key.hex(), after.kind, after.field)
        query = query.where(
            or_(
                *(
                    and_(
                        *(one == value for one, value in zip(order[:at], place, strict=False)),
                        order[at] > place[at],
                    )
                    for at in range(len(order))
                )
            )
        )
    rows = connection.execute(query.order_by(*order).limit(size)).all()
    return [
        Found(
            row.verdict,
            row.kind,
            bytes.fromhex(row.key),
            row.field,
            keys.load(row.source_key),
            bytes.fromhex(row.entry),
            row.expected,
            row.found,
        )
        for row in rows
    ]


def told(connection: Connection, run: str, entries: Sequence[bytes]) -> set[bytes]:
    """
    Those of these lookup keys that a finding names.
    """
    table = tables.finding
    found: set[bytes] = set()
    for start in range(0, len(entries), AT_ONCE):
        names = [entry.hex() for entry in entries[start : start + AT_ONCE]]
        query = select(table.c.entry).where(table.c.run == run, table.c.entry.in_(names))
        found.update(bytes.fromhex(text) for text in connection.scalars(query))
    return found
