"""
Horizontal bars as one SVG file: readable on light and dark pages, and without seeing it.

Nothing is loaded from elsewhere and nothing moves; the text alternative has every figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

NAMESPACE = "http://www.w3.org/2000/svg"

WIDTH = 860
LABELS = 372
FIGURES = 126
BAR = 18
STEP = 27
TOP = 64
BOTTOM = 30

STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328; }
.page { fill: #ffffff; }
.title { font-size: 16px; font-weight: 600; }
.small { font-size: 11.5px; fill: #59636e; }
.ours { fill: #0f766e; }
.other { fill: #8c959f; }
.mark { stroke: #59636e; stroke-dasharray: 3 3; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .page { fill: #0d1117; }
  .small { fill: #9198a1; }
  .ours { fill: #2dd4bf; }
  .other { fill: #6e7681; }
  .mark { stroke: #9198a1; }
}
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """
    One way, and how fast it was.

    Args:
        ours: Drawn in our colour; the text says what it is, so colour is not needed to tell.
    """

    label: str
    value: float
    ours: bool = False


def bars(title: str, note: str, values: Sequence[Bar], measure: float | None = None) -> str:
    """
    The SVG.

    Args:
        note: One line of small print: machine, versions, date.

        measure: The value that a dashed line marks and that every bar's ratio refers to.
    """
    longest = max((bar.value for bar in values), default=0) or 1.0
    room = WIDTH - LABELS - FIGURES
    height = TOP + STEP * len(values) + BOTTOM
    size = f'width="{WIDTH}" height="{height}"'
    told = 'aria-labelledby="title told"'
    parts = [
        f'<svg xmlns="{NAMESPACE}" viewBox="0 0 {WIDTH} {height}" {size} role="img" {told}>',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="told">{escape(alternative(values, measure))}</desc>',
        f"<style>{STYLE}</style>",
        # A ground of its own: the page's colours are not always those that the system prefers.
        f'<path class="page" d="M0 0h{WIDTH}v{height}H0z"/>',
        f'<text class="title" x="12" y="26">{escape(title)}</text>',
        f'<text class="small" x="12" y="46">{escape(note)}</text>',
    ]
    if measure is not None:
        x = LABELS + room * measure / longest
        end = height - BOTTOM
        parts += [
            f'<line class="mark" x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{end}"/>',
            f'<text class="small" x="{x:.1f}" y="{end + 16}" text-anchor="middle">1.0</text>',
        ]
    for place, bar in enumerate(values):
        top = TOP + STEP * place
        width = max(1.0, room * bar.value / longest)
        kind = "ours" if bar.ours else "other"
        box = f'x="{LABELS}" y="{top}" width="{width:.1f}" height="{BAR}" rx="2"'
        base = top + BAR - 5
        parts += [
            f'<text x="{LABELS - 10}" y="{base}" text-anchor="end">{escape(bar.label)}</text>',
            f'<rect class="{kind}" {box}/>',
            f'<text x="{LABELS + width + 8:.1f}" y="{base}">{figure(bar.value, measure)}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def figure(value: float, measure: float | None) -> str:
    """
    `123,000/s · 1.20`: the rate to three digits, and its ratio to the measure.
    """
    rate = f"{float(f'{value:.3g}'):,.0f}/s"
    return f"{rate} · {ratio(value, measure)}" if measure else rate


def ratio(value: float, measure: float) -> str:
    """
    The quotient with two places, or with two digits where that would be too few.
    """
    quotient = value / measure
    return f"{quotient:.2f}" if quotient >= 0.1 else f"{quotient:.2g}"


def alternative(values: Sequence[Bar], measure: float | None) -> str:
    """
    What the chart shows, in words.
    """
    told = "; ".join(f"{bar.label}: {figure(bar.value, measure)}" for bar in values)
    return f"Rows a second{' and ratio to the dashed line' if measure else ''}. {told}."
