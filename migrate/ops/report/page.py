"""
A verification result as one HTML page that needs nothing but itself.

No script is needed to read it, no link leaves it, and it is at most `LARGEST` bytes long.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from string import Template
from typing import Any

from migrate.model.verdict import BACK
from migrate.ops.report import facts
from migrate.ops.report.difference import sample_details
from migrate.ops.report.facts import Result, Sample, number, readable
from migrate.ops.report.markup import Markup, code, fitting, items, joined, sideways, table, tag
from migrate.ops.report.strip import in_words, legend, shared_by, strip

LARGEST = 10_000_000
"""Bytes of a page, as far as mail and browsers take without pain."""

ROOM = {"samples": 300_000, "fields": 500_000, "partitions": 500_000, "texts": 200_000}
"""Bytes for the samples of one verdict, the fields, the partitions, and other lists."""

MOST_SAMPLES = 50
MOST_FIELDS = 500
MOST_PARTITIONS = 1_000
MOST_TEXTS = 100

Section = tuple[str, str, Markup]
"""Anchor, heading and content."""


def html(result: Result) -> str:
    """
    The page.
    """
    style, script = _asset("page.css"), _asset("page.js")
    sections = [make(result) for make in SECTIONS]
    word = facts.outcome(result)
    shell = Template(_asset("page.html"))
    parts = {
        "policy": _policy(style, script),
        "title": joined((f"{word}: {result.get('mapping', '')}, level {result.get('level', '')}",)),
        "style": style,
        "script": script,
        "banner": _banner(result),
        "contents": items(tag("a", name, href=f"#{anchor}") for anchor, name, _ in sections),
        "sections": joined(map(_section, sections), "\n"),
    }
    length = len(shell.substitute(parts, json="").encode())
    return shell.substitute(parts, json=embedded(result, LARGEST - length))


@cache
def _asset(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """
    What the browser may do: nothing but our own style and script, known by their digests.
    """
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}';"
        " img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def embedded(result: Result, room: int) -> str:
    """
    The result as JSON that stays data wherever it stands in a page.

    Where it is too long, its lists are left out, and it names them.
    """
    whole = _inert(result)
    if len(whole) <= room:
        return whole
    lists = ("samples", "partitions", "fields", "not_checked")
    short = {name: value for name, value in result.items() if name not in lists}
    text = _inert(short | {"left_out": sorted(name for name in lists if name in result)})
    return text if len(text) <= room else _inert({"left_out": sorted(map(str, result))[:100]})


def _inert(value: object) -> str:
    text = json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _banner(result: Result) -> Markup:
    word = facts.outcome(result)
    sign = tag("span", facts.GLYPHS[word], aria_hidden="true")
    # The verdict is part of the heading: who goes from heading to heading must not miss it.
    return tag(
        "div",
        tag(
            "h1",
            "Verification of ",
            code(str(result.get("mapping", ""))),
            tag("span", ": ", class_="unseen"),
            tag("span", sign, " ", word, class_="verdict"),
        ),
        tag("p", facts.sentence(result)),
        class_=f"banner {word.lower()}",
    )


def _section(section: Section) -> Markup:
    anchor, name, content = section
    heading = tag("h2", name, id=f"{anchor}-name")
    return tag("section", heading, content, id=anchor, aria_labelledby=f"{anchor}-name")


def _left_out(count: int) -> Markup:
    """
    A line that says how many more there are; nothing where there are none.
    """
    return tag("p", f"… and {count:,} more in the JSON.", class_="soft") if count else Markup()


# --- sections ------------------------------------------------------------------------------------


def _not_checked(result: Result) -> Section:
    lines = [tag("li", text) for text in facts.not_checked(result)]
    kept, more = fitting(lines, at_most=MOST_TEXTS, room=ROOM["texts"])
    listed = tag("ul", *kept) if kept else tag("p", "Nothing is named beyond that.")
    return (
        "not-checked",
        "What was not checked",
        joined((tag("p", facts.trust(result)), listed, _left_out(more))),
    )


def _verdicts(result: Result) -> Section:
    found = [
        (
            joined((readable(verdict.name), tag("span", "hard", class_="badge")), " ")
            if verdict.hard
            else readable(verdict.name),
            number(count),
            verdict.meaning,
        )
        for verdict, count in facts.counts(result)
        if count or verdict.hard
    ]
    titles = ("verdict", "count", "meaning")
    by_verdict = table("Rows and records by verdict", titles, found, class_="counted")
    return "verdicts", "Verdicts", joined((by_verdict, _rejects(result)))


def _rejects(result: Result) -> Markup:
    found = [tag("li", code(reason), f": {count:,}") for reason, count in facts.rejects(result)]
    kept, more = fitting(found, at_most=MOST_TEXTS, room=ROOM["texts"])
    listed = tag("ul", *kept) if kept else tag("p", "None.")
    return joined((tag("h3", "Open rejects"), listed, _left_out(more)))


def _differences(result: Result) -> Section:
    of_kind = [
        (readable(kind), number(count), facts.KINDS.get(facts.word(kind), ""))
        for kind, count in facts.kinds(result)
    ]
    if not of_kind and not facts.fields(result):
        return "differences", "Kinds and fields", tag("p", "No difference of any kind.")
    titles = ("kind", "count", "what is wrong")
    listed = table("Differences by kind", titles, of_kind, class_="counted")
    return "differences", "Kinds and fields", joined((listed, _fields(result)))


def _fields(result: Result) -> Markup:
    found = facts.fields(result)
    if not found:
        return tag("p", "No difference belongs to a single field.")
    names = sorted({kind for _, by_kind in found for kind in by_kind})[:20]
    rows = [
        joined(
            (
                tag("th", code(field), scope="row"),
                tag("td", number(sum(by_kind.values()))),
                *(tag("td", number(by_kind.get(name, 0))) for name in names),
            )
        )
        for field, by_kind in found
    ]
    kept, more = fitting([tag("tr", row) for row in rows], at_most=MOST_FIELDS, room=ROOM["fields"])
    head = tag("tr", *(tag("th", text, scope="col") for text in _titles(names)))
    drawn = tag(
        "table",
        tag("caption", "Differences by field"),
        tag("thead", head),
        tag("tbody", joined(kept, "\n")),
        class_="numbers",
    )
    return joined((sideways("Differences by field", drawn), _left_out(more)))


def _titles(names: Sequence[str]) -> list[str]:
    return ["field", "all", *map(readable, names)]


def _partitions(result: Result) -> Section:
    found = facts.partition_states(result)
    if not found:
        return "partitions", "Partitions", tag("p", "No partition was begun.")
    states = [state for _, state in found]
    each = shared_by(states)
    share = tag("p", f"A cell stands for {each:,} partitions and shows the worst of them.")
    rows = [tag("tr", _partition(one, state)) for one, state in found]
    kept, more = fitting(rows, at_most=MOST_PARTITIONS, room=ROOM["partitions"])
    titles = ("partition", "state", "rows", "compared", "hard", "seconds")
    drawn = tag(
        "table",
        tag("caption", "Partitions in the order of their keys"),
        tag("thead", tag("tr", *(tag("th", text, scope="col") for text in titles))),
        tag("tbody", joined(kept, "\n")),
        class_="numbers",
    )
    in_table = tag(
        "details",
        tag("summary", "The same as a table"),
        sideways("Partitions", drawn),
        _left_out(more),
    )
    words = tag("p", f"{in_words(states)}.")
    shared = share if each > 1 else Markup()
    return "partitions", "Partitions", joined((words, strip(states), legend(), shared, in_table))


def _partition(partition: Mapping[str, Any], state: str) -> Markup:
    said = {"hard": "differences", "clean": "done", "open": "not done"}
    numbers = (partition.get(name) for name in ("rows", "compared", "hard", "seconds"))
    return joined(
        (
            tag("th", _numbered(partition.get("number")), scope="row"),
            tag("td", said[state]),
            *(tag("td", "-" if value is None else number(value)) for value in numbers),
        )
    )


def _numbered(given: object) -> str:
    return "Redis to SQL" if given == BACK else str(given)


def _samples(result: Result) -> Section:
    groups = facts.samples(result)
    if not groups:
        return "samples", "Samples", tag("p", "There is nothing to show.")
    totals = {verdict.name: count for verdict, count in facts.counts(result)}
    shown = [
        _sample_group(place, name, group, totals.get(name, 0))
        for place, (name, group) in enumerate(groups, 1)
    ]
    boxes = (
        tag("label", _box(place), f" {readable(name)}") for place, (name, _) in enumerate(groups, 1)
    )
    chooser = tag(
        "fieldset",
        tag("legend", "Show samples of"),
        *boxes,
        tag("output", id="chosen"),
        id="chooser",
        hidden=True,
    )
    said = tag(
        "p", f"Up to {MOST_SAMPLES} of each verdict; the first of each is open.{_hidden(groups)}"
    )
    return "samples", "Samples", joined((said, chooser, *shown))


def _hidden(groups: Sequence[tuple[str, list[Sample]]]) -> str:
    """
    How to see values, where there are none.
    """
    sides = (
        side
        for _, group in groups
        for sample in group
        for side in (sample.get("expected"), sample.get("found"))
    )
    if any("value" in (side or ()) for side in sides):
        return ""
    return " Values are left out; verify --show-values keeps them."


def _box(place: int) -> Markup:
    return Markup(f'<input type="checkbox" value="samples-{place}" autocomplete="off" checked>')


def _sample_group(place: int, name: str, group: Sequence[Sample], total: int) -> Markup:
    drawn = [
        sample_details(sample, is_open=not index)
        for index, sample in enumerate(group[:MOST_SAMPLES])
    ]
    kept, _ = fitting(drawn, at_most=MOST_SAMPLES, room=ROOM["samples"])
    # Beyond what the result holds there are those that were only counted.
    more, uncounted = len(group) - len(kept), max(total - len(group), 0)
    counted = tag("p", f"… and {uncounted:,} more were counted and not kept.", class_="soft")
    heading = f"{readable(name)}: {len(kept):,} of {max(total, len(group)):,}"
    return tag(
        "section",
        tag("h3", heading),
        *kept,
        _left_out(more),
        counted if uncounted else Markup(),
        id=f"samples-{place}",
        class_="group",
    )


def _environment(result: Result) -> Section:
    pairs = (
        tag("div", tag("dt", name), tag("dd", tag("bdi", value)))
        for name, value in facts.environment(result)
    )
    return "environment", "Environment", tag("dl", *pairs)


def _again(result: Result) -> Section:
    told = tag("p", "The same comparison again, from the folder with migrate.yaml:")
    command = tag("pre", tag("code", facts.command(result)))
    return "again", "How to reproduce", joined((told, command))


SECTIONS: tuple[Callable[[Result], Section], ...] = (
    _not_checked,
    _verdicts,
    _differences,
    _partitions,
    _samples,
    _environment,
    _again,
)
"""In the order of the page."""
