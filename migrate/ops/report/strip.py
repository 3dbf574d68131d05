"""
The strip of partitions: one cell each, in the order of their keys, as inline SVG.

States differ in height and place as well as in colour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from migrate.ops.report.facts import plural
from migrate.ops.report.markup import Markup, joined, tag

MOST_CELLS = 240
"""Cells that can still be told apart on a wide screen; more partitions share cells."""

HEIGHT = 32
SHAPES = {"clean": (10, 22), "hard": (0, 32), "open": (24, 8)}
"""Top and height of a cell by what became of its partition."""

WORST_FIRST = ("hard", "open", "clean")

LEGEND = {
    "clean": "done, no hard difference (middle height)",
    "hard": "with hard differences (full height)",
    "open": "not done (low)",
}


def strip(states: Sequence[str]) -> Markup:
    """
    The picture, with its content in words for those who do not see it.
    """
    cells = list(_cells(states))
    drawn = joined(_cell(place, state) for place, state in enumerate(cells))
    return tag(
        "svg",
        drawn,
        class_="strip",
        viewBox=f"0 0 {max(len(cells), 1) * 10} {HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=in_words(states),
    )


def in_words(states: Sequence[str]) -> str:
    """
    How many partitions are in which state.
    """
    return (
        f"{plural(len(states), 'partition', 'partitions')}:"
        f" {states.count('clean'):,} done without a hard difference,"
        f" {states.count('hard'):,} with hard differences, {states.count('open'):,} not done"
    )


def shared_by(states: Sequence[str]) -> int:
    """
    How many partitions stand behind one cell.
    """
    return -(-len(states) // MOST_CELLS) or 1


def _cells(states: Sequence[str]) -> Iterator[str]:
    size = shared_by(states)
    for first in range(0, len(states), size):
        group = states[first : first + size]
        yield next(state for state in WORST_FIRST if state in group)


def _cell(place: int, state: str) -> Markup:
    top, height = SHAPES[state]
    return tag(
        "rect", class_=state, x=str(place * 10), y=str(top), width="10", height=str(height)
    )  # fmt: skip


def legend() -> Markup:
    """
    What the cells mean.
    """
    entries = (
        tag("li", tag("span", class_=f"swatch {state}", aria_hidden="true"), " ", text)
        for state, text in LEGEND.items()
    )
    return tag("ul", *entries, class_="legend")
