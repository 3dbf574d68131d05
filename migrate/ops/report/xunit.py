"""
A verification result as JUnit XML: one test case for each hard verdict, one for rejects.

A comparison that did not reach its end is an error, and what it did not find is skipped: neither
may look like a success in a pipeline.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree as ET  # only written, never parsed

from migrate.ops.console import one_line
from migrate.ops.report import facts
from migrate.ops.report.facts import Result, Verdict, plural, readable

MOST_KEYS = 10
"""Keys named in a failure."""

LONGEST = 400
"""Characters of one text from the data."""


def junit(result: Result) -> str:
    """
    The file, as text to be written in UTF-8.
    """
    cases = list(_cases(result))
    suite = ET.Element("testsuite", _attributes(result, cases))
    suite.extend(cases)
    told = [facts.sentence(result), facts.trust(result)]
    told += [f"not checked: {text}" for text in facts.not_checked(result)]
    told.append(f"again: {facts.command(result)}")
    ET.SubElement(suite, "system-out").text = "\n".join(map(_legal, told))
    ET.indent(suite)
    body = ET.tostring(suite, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _attributes(result: Result, cases: list[ET.Element]) -> dict[str, str]:
    def having(child: str) -> str:
        return str(sum(case.find(child) is not None for case in cases))

    given = {
        "name": _legal(f"profile-migrate verify {result.get('mapping', '')}"),
        "tests": str(len(cases)),
        "failures": having("failure"),
        "errors": having("error"),
        "skipped": having("skipped"),
        "time": f"{result.get('seconds') or 0:.3f}",
    }
    started = facts.instant(result.get("started_at"))
    if started:
        given["timestamp"] = _legal(started)
    return given


def _cases(result: Result) -> Iterator[ET.Element]:
    yield _compared(result)
    keys = {name: _keys(group) for name, group in facts.samples(result)}
    unproven = _unproven(result)
    for verdict, count in facts.counts(result):
        if verdict.hard:
            yield _hard(result, verdict, count, keys.get(verdict.name, []), unproven)
    yield _rejects(result)


def _compared(result: Result) -> ET.Element:
    case = _case(result, "compared")
    if facts.outcome(result) == "INCOMPLETE":
        ET.SubElement(case, "error", type="incomplete", message=_legal(facts.sentence(result)))
    return case


def _unproven(result: Result) -> str:
    """
    Why finding nothing proves nothing; empty where it does prove something.
    """
    if result.get("level") == "count":
        return facts.trust(result)
    return "" if result.get("complete") else "The comparison did not reach its end."


def _hard(
    result: Result, verdict: Verdict, count: int, keys: list[str], unproven: str
) -> ET.Element:
    case = _case(result, readable(verdict.name))
    if count:
        message = f"{count:,} {readable(verdict.name)}: {verdict.meaning}"
        _failure(case, verdict.name, message, keys, count)
    elif unproven:
        ET.SubElement(case, "skipped", message=unproven)
    return case


def _rejects(result: Result) -> ET.Element:
    case = _case(result, "open rejects")
    found = facts.rejects(result)
    if found:
        total = sum(count for _, count in found)
        message = plural(total, "open reject", "open rejects")
        _failure(case, "rejects", message, [f"{reason}: {count:,}" for reason, count in found])
    return case


def _failure(
    case: ET.Element, kind: str, message: str, lines: list[str], total: int | None = None
) -> None:
    failure = ET.SubElement(case, "failure", type=_legal(kind), message=_legal(message))
    kept = [_legal(line) for line in lines[:MOST_KEYS]]
    more = (len(lines) if total is None else total) - len(kept)
    failure.text = "\n".join([*kept, f"and {more:,} more in the JSON"] if more > 0 else kept)


def _keys(group: list[facts.Sample]) -> list[str]:
    """
    Each key once, with what is wrong there.
    """
    lines = []
    for sample in group:
        about = (readable(sample.get("kind") or ""), str(sample.get("field") or ""))
        lines.append(" ".join(text for text in (str(sample.get("key", "")), *about) if text))
    return list(dict.fromkeys(lines))


def _case(result: Result, name: str) -> ET.Element:
    # A dot would be read as a further package by those who draw a tree of them.
    mapping = _legal(str(result.get("mapping", ""))).replace(".", "_")
    classname = f"profile_migrate.verify.{mapping}"
    return ET.Element("testcase", classname=classname, name=_legal(name), time="0")


def _legal(text: str) -> str:
    """
    A text that XML can hold, on one line, and not longer than a report can bear.
    """
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return one_line(cut)
