"""
Elements of HTML, safe by default: every text is escaped unless it is `Markup` already.

Knows nothing of what is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import islice

from migrate.ops.console import one_line

LONGEST = 400
"""Characters of one text that are shown; what is longer is cut, and says so."""


class Markup(str):
    """
    Text that is HTML already.
    """

    __slots__ = ()


def shown(text: str) -> Markup:
    """
    A text as HTML: cut, with control characters and direction marks spelled out, escaped.
    """
    if isinstance(text, Markup):
        return text
    more = len(text) - LONGEST
    kept = escape(one_line(text[:LONGEST]))
    return Markup(kept + more_characters(more) if more > 0 else kept)


def more_characters(count: int) -> Markup:
    """
    How much of a text is left out, kept apart from the direction of the text before it.
    """
    return Markup(f"\u2066… ({count:,} more characters)\u2069")


def joined(parts: Iterable[str], between: str = "") -> Markup:
    """
    Several texts one after another.
    """
    return Markup(between.join(shown(part) for part in parts))


def tag(name: str, *children: str, **attributes: str | bool) -> Markup:
    """
    An element; `class_="x"` gives `class="x"`, `aria_label` gives `aria-label`.

    Args:
        attributes: True stands without a value, False is left out.
    """
    given = "".join(_attribute(key, value) for key, value in attributes.items())
    return Markup(f"<{name}{given}>{joined(children)}</{name}>")


def _attribute(key: str, value: str | bool) -> str:  # noqa: FBT001 - HTML has both
    spelled = key.rstrip("_").replace("_", "-")
    if isinstance(value, bool):
        return f" {spelled}" if value else ""
    return f' {spelled}="{shown(value)}"'


def code(text: str) -> Markup:
    """
    A name from the data, kept apart from the direction of the text around it.
    """
    return tag("bdi", tag("code", text))


def items(texts: Iterable[str], **attributes: str | bool) -> Markup:
    """
    A list.
    """
    return tag("ul", *(tag("li", text) for text in texts), **attributes)


def table(
    caption: str, headers: Sequence[str], rows: Iterable[Sequence[str]], **attributes: str | bool
) -> Markup:
    """
    A table whose first cell of each row is the row's header.
    """
    head = tag("tr", *(tag("th", text, scope="col") for text in headers))
    body = (
        tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in rest))
        for first, *rest in rows
    )
    parts = (tag("caption", caption), tag("thead", head), tag("tbody", joined(body, "\n")))
    return tag("table", *parts, **attributes)


def sideways(label: str, content: Markup) -> Markup:
    """
    Something wide that scrolls by itself, by keyboard as well, so that the page need not.
    """
    return tag("div", content, class_="wide", role="region", aria_label=label, tabindex="0")


def fitting(parts: Sequence[Markup], *, at_most: int, room: int) -> tuple[list[Markup], int]:
    """
    As many from the beginning as the page has room for, and how many are left out.

    Args:
        room: Bytes for all of them together.
    """
    kept = []
    for part in islice(parts, at_most):
        room -= len(part.encode())
        if room < 0:
            break
        kept.append(part)
    return kept, len(parts) - len(kept)
