"""
The status page: one document without script, font or picture, which loads nothing from anywhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from html import escape

from migrate.ops.console import one_line
from migrate.ops.looks import Seen
from migrate.ops.standing import Standing
from migrate.ops.tables import human_duration, human_rate

RELOAD_S = 10
"""The page asks for itself again after so many seconds."""

OLD_S = 30.0
"""Data that is older is said to be old."""

_HEADERS = (
    "mapping", "state", "rows", "partitions", "open rejects", "last change", "rate", "verified",
    "next command",
)  # fmt: skip

_LINKS = '<a href="metrics">metrics</a> · <a href="healthz">health</a>'

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 75rem;
  padding: 0 1rem; }
h1 { font-size: 1.3rem; margin: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; min-width: 100%; }
caption { text-align: left; padding: .3rem 0; }
th, td { border-bottom: 1px solid var(--line); padding: .4rem .7rem; text-align: left;
  vertical-align: top; white-space: nowrap; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
td:last-child { min-width: 9rem; white-space: normal; }
[role=alert] { border: 2px solid; border-radius: .3rem; padding: .5rem .8rem;
  background: var(--soft); font-weight: 600; }
.old table, .old ul { opacity: .6; }
code { font-family: ui-monospace, monospace; overflow-wrap: anywhere; }
"""


def status_page(seen: Seen[Sequence[Standing]], *, version: str, now: float) -> str:
    """
    How far every mapping is, as `profile-migrate status` says it, and how old that is.

    Args:
        now: Seconds since 1970.
    """
    old = bool(seen.problem) or now - seen.at > OLD_S
    looks = seen.value or ()
    states = ", ".join(sorted({look.state for look in looks})) or "no data"
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="refresh" content="{RELOAD_S}">',
        f"<title>{_text(states)} · profile-migrate</title>",
        f"<style>{_STYLE}</style></head>",
        f"<body{' class=old' if old else ''}><main>",
        "<h1>profile-migrate</h1>",
        f"<p>{_age(seen, now)} The page loads itself anew every {RELOAD_S} s.</p>",
        *_warning(seen.problem),
        *_table(looks, now),
        *_details(looks, now),
        f"<p>Version {_text(version)} · {_LINKS}</p>",
        "</main></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _text(value: object) -> str:
    return escape(one_line(str(value)))


def _age(seen: Seen[Sequence[Standing]], now: float) -> str:
    if seen.value is None:
        return "The ledger was not read yet."
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seen.at))
    age = human_duration(max(0.0, now - seen.at))
    return f"Read from the ledger {age} ago (<time>{stamp}</time> UTC)."


def _warning(problem: str) -> Iterable[str]:
    if problem:
        yield (
            f"<p role=alert>The ledger cannot be read: {_text(problem)}. "
            "What stands below, if anything, is what it said last.</p>"
        )


def _table(looks: Sequence[Standing], now: float) -> Iterable[str]:
    if not looks:
        yield "<p>There is no mapping to show.</p>"
        return
    yield '<div class="wide" tabindex="0" role="region" aria-label="Mappings"><table>'
    yield "<caption>Mappings</caption>"
    heads = "".join(f'<th scope="col">{head}</th>' for head in _HEADERS)
    yield f"<thead><tr>{heads}</tr></thead><tbody>"
    for look in looks:
        yield f"<tr>{''.join(_cells(look, now))}</tr>"
    yield "</tbody></table></div>"


def _cells(look: Standing, now: float) -> Iterable[str]:
    run = look.run
    numbers: tuple[str, ...] = ("-",) * 5
    if run is not None:
        numbers = (
            f"{run.rows:,} of ~{max(run.rows, run.rows_estimated):,}",
            f"{run.partitions_done:,} of {run.partitions:,}",
            f"{sum(look.open_rejects.values()):,}",
            f"{human_duration(max(0.0, now - run.updated_at))} ago",
            human_rate(run.rows, run.seconds),
        )
    yield f'<th scope="row">{_text(look.mapping)}</th>'
    yield f"<td>{_text(look.state)}</td>"
    for number in numbers:
        yield f'<td class="number">{_text(number)}</td>'
    yield f"<td>{_text(look.proof.trust)}</td>"
    yield f"<td><code>{_text(look.next_command)}</code></td>"


def _details(looks: Sequence[Standing], now: float) -> Iterable[str]:
    lines = [f"<li>{_text(line)}</li>" for look in looks for line in _sentences(look, now)]
    if lines:
        yield f"<ul>{''.join(lines)}</ul>"


def _sentences(look: Standing, now: float) -> Iterable[str]:
    run = look.run
    if look.holder:
        yield f"{look.mapping}: held by {look.holder}"
    if run is not None and run.exit_code:
        code = f" and error[{run.error}]" if run.error else ""
        yield f"{look.mapping}: the last run ended with exit code {run.exit_code}{code}"
    if look.open_rejects:
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in look.open_rejects.items())
        yield f"{look.mapping}: open rejects by reason: {reasons}"
    if run is not None:
        yield f"{look.mapping}: {look.proof.sentence(now)}"
    for one in look.verifications:
        age = human_duration(max(0.0, now - one.kept_at))
        told = one.verdict or "goes on, or was killed"
        yield f"{look.mapping}: verification at level {one.level}, {age} ago: {told}"
    if run is not None:
        yield f"{look.mapping}: from {run.source} to {run.target}"
