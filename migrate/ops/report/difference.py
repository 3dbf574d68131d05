"""
One sample: what was expected beside what was found, with the difference marked.

Shows what the result holds; values are in there only when they were asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from unicodedata import normalize

from migrate.ops.report.facts import KINDS, Sample, readable, word
from migrate.ops.report.markup import LONGEST, Markup, code, joined, more_characters, shown, tag

FIRST = ("type", "length", "digest", "value")
"""Order of what is known of a cell; anything else follows by name."""

BEFORE = 40
"""Characters shown before the first one that differs."""

OF_VERSIONS = frozenset({"", "tombstone"})
"""Kinds whose samples without a field hold the versions of both sides."""

Side = Mapping[str, Any] | None


def sample_details(sample: Sample, *, is_open: bool) -> Markup:
    """
    A sample that opens on demand: its key, kind and field, then both sides in a table.
    """
    kind, field = word(sample.get("kind") or ""), sample.get("field")
    expected, found = sample.get("expected"), sample.get("found")
    about = [tag("span", KINDS.get(kind, readable(kind)), class_="kind")] if kind else []
    if field:
        about.append(joined(("field ", code(str(field)))))
    elif kind in OF_VERSIONS and (_is_there(expected) or _is_there(found)):
        about.append(Markup("version"))
    heading = joined((code(str(sample.get("key", ""))), *about), ", ")
    return tag("details", tag("summary", heading), _sides(expected, found), open=is_open)


def _is_there(side: Side) -> bool:
    return bool((side or {"type": "absent"}).get("type") != "absent")


def _sides(expected: Side, found: Side) -> Markup:
    if not _is_there(expected) and not _is_there(found):
        return tag("p", "Nothing more is known of it.", class_="soft")
    given = {*(expected or ()), *(found or ())}
    names = [name for name in FIRST if name in given] + sorted(given - set(FIRST))
    titles = (tag("th", text, scope="col") for text in ("expected", "found"))
    head = tag("tr", tag("td"), *titles)
    body = joined(_row(name, expected, found) for name in names)
    return tag(
        "table",
        tag("thead", head),
        tag("tbody", body),
        class_="sides",
        aria_label="What was expected and what was found",
    )


def _row(name: str, expected: Side, found: Side) -> Markup:
    left, right = _cell(name, expected), _cell(name, found)
    differs = left != right
    title: list[str] = [name]
    if differs:
        title += [
            " ",
            tag("span", "≠", aria_hidden="true"),
            tag("span", "differs", class_="unseen"),
        ]
    cells = _marked(left, right) if name == "value" and differs else (left, right)
    shown_cells = (tag("td", tag("bdi", cell)) for cell in cells)
    row_class = "differs" if differs else "same"
    return tag("tr", tag("th", *title, scope="row"), *shown_cells, class_=row_class)


def _cell(name: str, side: Side) -> str:
    """
    What one side says: its text, or in markup that there is nothing to show.
    """
    if not side or not _is_there(side):
        return tag("i", "absent")
    if name not in side:
        return tag("i", "not shown")
    value = side[name]
    if value is None:
        return tag("i", "NULL")
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if name == "length" else str(value)
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text or tag("i", "empty")


def _marked(left: str, right: str) -> tuple[Markup, Markup]:
    """
    Both values from shortly before their first difference on, with what differs marked.

    Values that look the same are spelled out, so that the difference can be seen.
    """
    if isinstance(left, Markup) or isinstance(right, Markup):
        return shown(left), shown(right)
    start, tail = _alike_ends(left, right)
    alone = left[start : len(left) - tail] + right[start : len(right) - tail]
    if normalize("NFKC", left) == normalize("NFKC", right) or not alone.isprintable():
        left, right = ascii(left)[1:-1], ascii(right)[1:-1]
        start, tail = _alike_ends(left, right)
    return _excerpt(left, start, tail), _excerpt(right, start, tail)


def _alike_ends(left: str, right: str) -> tuple[int, int]:
    """
    How many characters at the beginning, and how many of the rest at the end, are the same.
    """
    start = _alike(left, right)
    return start, _alike(left[start:][::-1], right[start:][::-1])


def _alike(left: str, right: str) -> int:
    """
    How many characters at the beginning are the same.
    """
    pairs = enumerate(zip(left, right, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(left), len(right)))


def _excerpt(text: str, start: int, tail: int) -> Markup:
    end = len(text) - tail
    first, last = max(start - BEFORE, 0), start - BEFORE + LONGEST
    before = ("… " if first else "") + text[first:start]
    after = text[end : max(last, end)] if end < last else ""
    left_out = len(text) - max(last, 0)
    more = more_characters(left_out) if left_out > 0 else ""
    differing = text[start : min(end, last)]
    return joined((before, tag("mark", differing) if differing else "", after, more))
