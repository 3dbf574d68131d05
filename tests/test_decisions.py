"""
The decision records: numbers, template, index, links, and that each Confirmation is true.

`python -m tests.test_decisions` writes the index anew.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "adr"
KEPT_NUMBERS = {"0044"}
"""Numbers that a decision had before this project (ADR 0001)."""

STATUSES = ("Proposed", "Accepted", "Deprecated", "Superseded")
LABELS = ("Status", "Date", "Decision Makers", "Tags")
HEADINGS = (
    "## Context",
    "## Decision",
    "## Alternatives Considered",
    "## Rationale",
    "## Consequences",
    "### Positive",
    "### Negative",
    "### Neutral / Notes",
    "## Implementation",
    "### Timeline",
    "### Migration Plan",
    "### Success Metrics",
    "## Confirmation",
    "## Related Decisions",
    "## References",
    "## Review and Updates",
    "## Notes",
)
ALTERNATIVE = re.compile(
    r"### Alternative \d+: .+\n\n"
    r"\*\*Description:\*\* .+\n\n"
    r"\*\*Pros:\*\*\n\n(?:- .+\n)+\n"
    r"\*\*Cons:\*\*\n\n(?:- .+\n)+\n"
    r"\*\*Why not chosen:\*\* .+\n"
)
BEGIN, END = "<!-- index: begin -->", "<!-- index: end -->"


@dataclass(frozen=True, slots=True)
class Decision:
    """
    One record and what its header says.
    """

    path: Path
    text: str

    @property
    def number(self) -> str:
        return self.path.name[:4]

    @property
    def title(self) -> str:
        return self.text.partition("\n")[0].partition(": ")[2]

    def label(self, name: str) -> str:
        found = re.search(rf"^\*\*{name}:\*\* (.+)$", self.text, re.MULTILINE)
        assert found, f"{self.path.name} has no **{name}:**"
        return found.group(1)

    def section(self, heading: str) -> str:
        """
        The text below a heading, up to the next one of level two or three.
        """
        found = re.search(
            rf"^{re.escape(heading)}\n(.*?)(?=^##|\Z)", self.text, re.MULTILINE | re.DOTALL
        )
        assert found, f"{self.path.name} has no '{heading}'"
        return found.group(1).strip().removesuffix("---").strip()


def read_all() -> list[Decision]:
    """
    Every record, by number.
    """
    paths = sorted(path for path in FOLDER.glob("*.md") if path.name != "README.md")
    return [Decision(path, path.read_text(encoding="utf-8")) for path in paths]


def index(decisions: list[Decision]) -> str:
    """
    The table of the index as it must be.
    """
    rows = [
        f"| [{d.number}]({d.path.name}) | {d.title} | {d.label('Status')} | {d.label('Date')} |"
        for d in decisions
    ]
    return "\n".join(["| Number | Decision | Status | Date |", "| --- | --- | --- | --- |", *rows])


DECISIONS = read_all()
each_decision = pytest.mark.parametrize("decision", DECISIONS, ids=lambda d: d.path.stem)


def test_numbers_have_no_gap() -> None:
    """
    Numbers count from 0001; a number kept from an older record is the only exception.
    """
    own = [d.number for d in DECISIONS if d.number not in KEPT_NUMBERS]

    assert own == [f"{n:04}" for n in range(1, len(own) + 1)]


def test_kept_numbers_are_kept() -> None:
    """
    A record that had a number before this project still has it.
    """
    assert {d.number for d in DECISIONS} >= KEPT_NUMBERS


@each_decision
def test_file_and_title_carry_the_number(decision: Decision) -> None:
    """
    The file is `NNNN-kebab-title.md` and its first line is `# ADR-NNNN: Title`.
    """
    assert re.fullmatch(r"\d{4}(-[a-z0-9]+)+\.md", decision.path.name)
    assert decision.text.startswith(f"# ADR-{decision.number}: {decision.title}\n")
    assert decision.title


@each_decision
def test_header_has_its_labels_in_order(decision: Decision) -> None:
    """
    Status, date, decision makers and tags stand above the first heading, in the template's order.
    """
    head = decision.text.partition("\n---\n")[0]

    assert re.findall(r"^\*\*(.+?):\*\* \S", head, re.MULTILINE) == list(LABELS)


@each_decision
def test_status_and_date_are_allowed(decision: Decision) -> None:
    """
    The status is one of the template's, and the date is a day of the calendar.
    """
    assert decision.label("Status").split()[0] in STATUSES
    assert date.fromisoformat(decision.label("Date")).isoformat() == decision.label("Date")


@each_decision
def test_headings_follow_the_template(decision: Decision) -> None:
    """
    Every heading of the template is there, in its order, and no other.
    """
    found = re.findall(r"^##+ .+$", decision.text, re.MULTILINE)

    assert tuple(h for h in found if not h.startswith("### Alternative")) == HEADINGS


@each_decision
def test_no_section_is_empty(decision: Decision) -> None:
    """
    A heading is followed by something to read.
    """
    # Their text lies in the headings below them.
    parents = {"## Alternatives Considered", "## Consequences", "## Implementation"}

    assert [h for h in HEADINGS if h not in parents and not decision.section(h)] == []


@each_decision
def test_alternatives_are_weighed(decision: Decision) -> None:
    """
    At least two alternatives, each with description, pros, cons and the reason why it lost.
    """
    titles = re.findall(r"^### Alternative (\d+): ", decision.text, re.MULTILINE)

    assert len(titles) >= 2
    assert titles == [str(n) for n in range(1, len(titles) + 1)]
    assert len(ALTERNATIVE.findall(decision.text)) == len(titles)


@each_decision
def test_negative_consequences_and_rollback_are_named(decision: Decision) -> None:
    """
    Every decision costs something and says how it is undone.
    """
    assert decision.section("### Negative").startswith("- ")
    assert "ollback" in decision.section("### Migration Plan")


@each_decision
def test_confirmation_names_something_that_exists(decision: Decision) -> None:
    """
    The Confirmation names a test or a make target, and each one that it names exists.
    """
    text = decision.section("## Confirmation")
    files = re.findall(r"`(tests/[\w./-]+)`", text)
    targets = re.findall(r"`make ([\w-]+)`", text)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    assert files or targets
    assert [name for name in files if not (ROOT / name).exists()] == []
    assert [t for t in targets if not re.search(rf"^{t}:", makefile, re.MULTILINE)] == []


@each_decision
def test_supersede_links_have_both_ends(decision: Decision) -> None:
    """
    A superseded record names its successor, and the successor names it.
    """
    by_number = {d.number: d for d in DECISIONS}
    successors = re.findall(r"[Ss]uperseded by \[ADR-(\d{4})", decision.text)
    predecessors = re.findall(r"[Ss]upersedes \[ADR-(\d{4})", decision.text)

    assert bool(successors) == decision.label("Status").startswith("Superseded")
    for number in successors:
        assert f"upersedes [ADR-{decision.number}" in by_number[number].text
    for number in predecessors:
        assert f"uperseded by [ADR-{decision.number}" in by_number[number].text


@each_decision
def test_links_to_other_decisions_carry_their_titles(decision: Decision) -> None:
    """
    A related decision is linked by its number and its present title.
    """
    titles = {d.path.name: f"ADR-{d.number}: {d.title}" for d in DECISIONS}
    links = re.findall(r"\[(.+?)\]\((\d{4}-.+?\.md)\)", decision.section("## Related Decisions"))

    assert [(text, name) for text, name in links if titles.get(name) != text] == []


def test_index_equals_the_files() -> None:
    """
    docs/adr/README.md lists every record with its title, status and date.
    """
    text = (FOLDER / "README.md").read_text(encoding="utf-8")

    found = text.partition(BEGIN)[2].partition(END)[0].strip()

    assert found == index(DECISIONS), "run: python -m tests.test_decisions"


def write_index() -> None:
    """
    Replace the table of the index.
    """
    path = FOLDER / "README.md"
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    path.write_text(f"{before}{BEGIN}\n{index(DECISIONS)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    write_index()
