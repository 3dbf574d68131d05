"""
What a failed test says: the verdict, what differs, and what to do. Never a value of a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from migrate.ledger.keys import show
from migrate.model.values import Reject
from migrate.ops.console import one_line
from migrate.ops.report import facts
from migrate.ops.report.facts import Result, readable

SHOWN = 10
"""Keys that differ, rejected rows, and fields: whoever reads a failed test wants an example."""

LONGEST = 200
"""Characters of one text from the data."""

_MARGIN = 13


def broken(result: Result, rejects: Sequence[Reject], *, written: bool, ledger: str) -> str:
    """
    Why parity does not hold, in a few lines.

    Args:
        rejects: Some of the open ones.

        written: Whether the test did the backfill itself.

        ledger: Its URL, for those who look further.
    """
    name, level = str(result.get("mapping", "")), str(result.get("level", ""))
    lines = [f"{name}: {facts.outcome(result)}, level {level}. {facts.sentence(result)}"]
    counts = [f"{readable(one.name)} {n:,}" for one, n in facts.counts(result) if n]
    lines += _part("verdicts", [", ".join(counts)] if counts else [])
    lines += _part("fields", _first(_fields(result)))
    lines += _part("found", _first(_samples(result)))
    lines += _part("rejects", [*_reasons(result), *_first(map(_reject, rejects))])
    lines += _part("not checked", facts.not_checked(result))
    lines += _part("next", _next(result, written=written))
    lines += _part("ledger", [ledger] if ledger and rejects else [])
    return "\n".join(lines)


def _part(title: str, texts: Iterable[str]) -> Iterator[str]:
    head = f"  {title}:".ljust(_MARGIN + 2)
    for text in texts:
        yield f"{head}{one_line(text)}"
        head = " " * (_MARGIN + 2)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _first(texts: Iterable[str]) -> list[str]:
    every = list(texts)
    more = len(every) - SHOWN
    return [*every[:SHOWN], f"and {more:,} more"] if more > 0 else every


def _fields(result: Result) -> Iterator[str]:
    for name, kinds in facts.fields(result):
        yield f"{name}: {', '.join(f'{readable(kind)} {n:,}' for kind, n in sorted(kinds.items()))}"


def _samples(result: Result) -> Iterator[str]:
    for verdict, group in facts.samples(result):
        for one in group:
            about = (readable(one.get("kind") or ""), str(one.get("field") or ""))
            words = (readable(verdict), _cut(str(one.get("key", ""))), *about)
            yield " ".join(word for word in words if word)


def _reasons(result: Result) -> Iterator[str]:
    for reason, count in facts.rejects(result):
        yield f"{reason} {count:,}"


def _reject(reject: Reject) -> str:
    fault = reject.fault
    column = f" {fault.column}" if fault.column else ""
    return f"row {_cut(show(reject.key))}: {fault.reason}{column}, {fault.detail}"


def _next(result: Result, *, written: bool) -> Iterator[str]:
    name = str(result.get("mapping", ""))
    if not (result.get("scope") or {}).get("compared"):
        yield "Insert rows that the mapping selects before the call, or correct its `where`."
        yield "Without a row, an equal result proves nothing."
        return
    rejects, hard = facts.rejects(result), facts.hard_total(result)
    if rejects:
        yield (
            "Correct these rows, or how the mapping takes their columns (docs/ci.md)."
            if written
            else f"profile-migrate rejects list {name}"
        )
    if hard:
        yield (
            "Call it with purge=False and look at these keys (docs/ci.md)."
            if written
            else f"profile-migrate repair {name} --dry-run"
        )
    if not rejects and not hard:
        yield "Run it again; if it ends so again, see what was not checked."
