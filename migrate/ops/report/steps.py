"""
A verification result as Markdown for the summary of a pipeline step.

A short table; whoever wants samples opens the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from migrate.ops.console import one_line
from migrate.ops.report import facts
from migrate.ops.report.facts import Result, number, readable

MOST_LINES = 20
"""Lines of one list: a summary is read beside those of other steps."""

LONGEST = 200
"""Characters of one text from the data."""

_ACTIVE = re.compile(r"^[^A-Za-z]|[!-~](?<![0-9A-Za-z.,;%()+/-])|(?<=www)\.", re.IGNORECASE)
"""
What might mean something to Markdown or HTML: the signs of ASCII but for a few, whatever may begin
a list or a block of code, and the dot that makes a link.
"""

_SIGNS = {"PASS": "✅", "MISMATCH": "❌", "INCOMPLETE": "⚪"}


def summary(result: Result) -> str:
    """
    The text to append to the file that `GITHUB_STEP_SUMMARY` names.
    """
    word = facts.outcome(result)
    mapping, level = _plain(str(result.get("mapping", ""))), _plain(str(result.get("level", "")))
    lines = [
        f"## {_SIGNS[word]} {word}: {mapping}, level {level}",
        "",
        facts.sentence(result),
        "",
        "| verdict | hard | count |",
        "| --- | --- | ---: |",
        *_counts(result),
        "",
        *_listed("Fields that differ", [name for name, _ in facts.fields(result)]),
        *_listed("Not checked", facts.not_checked(result)),
        facts.trust(result),
        "",
    ]
    return "\n".join(lines)


def _counts(result: Result) -> Iterator[str]:
    for verdict, count in facts.counts(result):
        if count:
            hard = "hard" if verdict.hard else ""
            yield f"| {_plain(readable(verdict.name))} | {hard} | {number(count)} |"
    for reason, count in facts.rejects(result)[:MOST_LINES]:
        yield f"| rejected, still open: {_plain(reason)} | | {number(count)} |"


def _listed(title: str, texts: Sequence[str]) -> list[str]:
    if not texts:
        return []
    kept = [f"- {_plain(text)}" for text in texts[:MOST_LINES]]
    more = len(texts) - len(kept)
    if more > 0:
        kept.append(f"- and {more:,} more in the JSON")
    return [f"{title}:", "", *kept, ""]


def _plain(text: str) -> str:
    """
    A text on one line that Markdown shows as it is.
    """
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return _ACTIVE.sub(lambda found: f"&#{ord(found.group())};", one_line(cut))
