"""
Runbooks as values: what a file of `runbooks/` says, and everything that is wrong with its form.

Reads text only; what the commands do is shown by the rehearsals in `test_runbooks.py`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from migrate.errors import Problem

BEFORE = "Before you start"
STEPS = "Steps"
VERIFY = "Verify"
ABORT = "Abort criteria"
HEADINGS = (
    "When to use and when not to",
    "Impact and risk",
    BEFORE,
    STEPS,
    VERIFY,
    ABORT,
    "Escalate",
    "Afterwards",
)
"""Of the second level, in this order; appendices may follow."""

CONSOLE, MANUAL = "console", "manual"
ATTRIBUTES: Mapping[str, Mapping[str, str]] = {
    CONSOLE: {
        "id": r"[a-z][a-z0-9-]*",
        "expect-exit": r"\d{1,3}",
        "changes": r"true",
        "reversible": r"true|false",
        "timeout": r"\d+s",
        "test": r"skip",
        "test-reason": r".+",
    },
    MANUAL: {"id": r"[a-z][a-z0-9-]*"},
}
"""What a fence may say of its block, by language. A block without an id is prose, never run."""

FRONT: Mapping[str, Callable[[Any], bool]] = {
    "id": lambda v: isinstance(v, str) and re.fullmatch(r"RB-\d\d", v) is not None,
    "title": lambda v: isinstance(v, str) and bool(v),
    "situation": lambda v: isinstance(v, str) and bool(v),
    "errors": lambda v: isinstance(v, list) and all(isinstance(code, str) for code in v),
    "severity": lambda v: v in ("page", "ticket"),
    "est_minutes": lambda v: type(v) is int and v > 0,
    "reversible": lambda v: isinstance(v, bool),
    "approver": lambda v: v in ("none", "second-person"),
    "alerts": lambda v: isinstance(v, list) and all(_is_alert(name) for name in v),
    "vars": lambda v: isinstance(v, dict) and all(_is_pattern(one) for one in v.values()),
}
"""The keys of the front matter and what each may hold; all of them are needed."""

_FENCE = re.compile(
    r"^```(?P<language>\w*)[ \t]*(?P<attributes>\{[^\n]*\})?[^\n]*\n(?P<text>.*?)^```[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
_STEP = re.compile(r"(?P<number>\d+)\. .+ \((?P<minutes>\d+) min\)")
_EXPORT = re.compile(r"export (?P<name>[A-Z][A-Z0-9_]*)=(?P<value>.*)", re.DOTALL)


def _is_alert(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"ProfileMigrate[A-Za-z]+", value) is not None


def _is_pattern(value: Any) -> bool:
    try:
        re.compile(value)
    except (re.error, TypeError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Block:
    """
    One fenced block that has attributes.

    Args:
        line: Of the opening fence, from 1.

        section: The heading of the second level that it stands under.

        answered: Whether a branch for the other outcome ("> **If ...") follows.
    """

    language: str
    attributes: Mapping[str, str]
    text: str
    line: int
    section: str
    answered: bool

    @property
    def id(self) -> str:
        """
        Its name in the book; empty where it is prose.
        """
        return self.attributes.get("id", "")

    @property
    def commands(self) -> list[str]:
        """
        What a person pastes, without the prompts.
        """
        found: list[str] = []
        for line in self.text.splitlines():
            if found and found[-1].endswith("\\"):
                found[-1] += f"\n{line}"
            elif line.startswith("$ "):
                found.append(line[2:])
        return found

    @property
    def exports(self) -> dict[str, str]:
        """
        The variables that it sets, as written; empty where it runs a command.
        """
        matches = [_EXPORT.fullmatch(command) for command in self.commands]
        if not all(matches):
            return {}
        return {match["name"]: match["value"] for match in matches if match}

    @property
    def expected(self) -> str:
        """
        What it must print; `...` stands for anything, and nothing at all for whatever it likes.
        """
        lines = self.text.splitlines()
        last = -1
        for number, line in enumerate(lines):
            if line.startswith("$ ") or (number == last + 1 and number and lines[last][-1] == "\\"):
                last = number
        return "\n".join(lines[last + 1 :]).strip()

    @property
    def exit(self) -> int:
        """
        The exit code that it must have.
        """
        return int(self.attributes.get("expect-exit", "0"))

    @property
    def timeout_s(self) -> float:
        """
        How long it may take.
        """
        return float(self.attributes.get("timeout", "60s").removesuffix("s"))


@dataclass(frozen=True, slots=True)
class Heading:
    """
    A heading with its line, from 1.
    """

    level: int
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Book:
    """
    One runbook.

    Args:
        front: The front matter; empty where it cannot be read.

        broken: What could not be read at all.
    """

    name: str
    front: Mapping[str, Any]
    headings: Sequence[Heading]
    blocks: Sequence[Block]
    sections: Mapping[str, str]
    broken: Sequence[Problem] = ()

    def block(self, name: str) -> Block:
        """
        The block with this id.
        """
        [found] = [block for block in self.blocks if block.id == name]
        return found

    @property
    def runnable(self) -> list[Block]:
        """
        The blocks with an id, in order.
        """
        return [block for block in self.blocks if block.id]


def read(path: Path) -> Book:
    """
    The runbook in a file.
    """
    return parse(path.read_text(encoding="utf-8"), path.name)


def parse(text: str, name: str) -> Book:
    """
    The runbook in a text; what is wrong with it is kept for `lint`.
    """
    front, broken = _front(text, name)
    fences = list(_FENCE.finditer(text))
    headings = list(_headings(text, fences))
    blocks = []
    for fence in fences:
        if fence["attributes"] is None:
            continue
        line = _line(text, fence.start())
        attributes, problem = _attributes(fence["attributes"])
        if problem:
            broken.append(Problem(name, line, 1, "attributes", problem))
        above = [h.text for h in headings if h.level == 2 and h.line < line]
        after = text[fence.end() :].lstrip()
        blocks.append(
            Block(
                fence["language"],
                attributes,
                fence["text"],
                line,
                above[-1] if above else "",
                after.startswith("> **If"),
            )
        )
    return Book(name, front, headings, blocks, _sections(text, headings), broken)


def _front(text: str, name: str) -> tuple[dict[str, Any], list[Problem]]:
    match = re.match(r"---\n(.*?)^---\n", text, re.DOTALL | re.MULTILINE)
    try:
        found = YAML(typ="safe", pure=True).load(StringIO(match[1])) if match else None
    except YAMLError:
        found = None
    if isinstance(found, dict):
        return found, []
    return {}, [Problem(name, 1, 1, "front-matter", "The front matter cannot be read.")]


def _headings(text: str, fences: Sequence[re.Match[str]]) -> Iterator[Heading]:
    for match in re.finditer(r"^(#{1,6}) (.+)$", text, re.MULTILINE):
        if not any(fence.start() < match.start() < fence.end() for fence in fences):
            yield Heading(len(match[1]), match[2], _line(text, match.start()))


def _sections(text: str, headings: Sequence[Heading]) -> dict[str, str]:
    lines = text.splitlines()
    tops = [heading for heading in headings if heading.level <= 2]
    ends = [heading.line - 1 for heading in tops[1:]] + [len(lines)]
    return {
        heading.text: "\n".join(lines[heading.line : end]).strip()
        for heading, end in zip(tops, ends, strict=True)
    }


def _attributes(text: str) -> tuple[dict[str, str], str]:
    try:
        words = shlex.split(text[1:-1])
    except ValueError:
        return {}, "The attributes have an open quotation mark."
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key in found:
            return found, f"'{word}' is not one key=value."
        found[key] = value
    return found, ""


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


# --- what may be wrong ---------------------------------------------------------------------------


def lint(book: Book) -> list[Problem]:
    """
    Everything that is wrong with the form of a runbook, in the order of its lines.
    """
    found = list(book.broken)
    for name, rule in _OF_BOOKS.items():
        found += [Problem(book.name, line, 1, name, what) for line, what in rule(book)]
    for block in book.blocks:
        for name, look in _OF_BLOCKS.items():
            found += [Problem(book.name, block.line, 1, name, what) for what in look(block)]
    return sorted(found)


Found = Iterator[tuple[int, str]]


def _front_matter(book: Book) -> Found:
    for key in sorted({*FRONT} ^ {*book.front}):
        yield 1, f"'{key}' is {'missing' if key in FRONT else 'not known'}."
    for key, fits in FRONT.items():
        if key in book.front and not fits(book.front[key]):
            yield 1, f"'{key}' may not be {book.front[key]!r}."


def _order(book: Book) -> Found:
    title = f"{book.front.get('id')} {book.front.get('title')}"
    if [h.text for h in book.headings if h.level == 1] != [title]:
        yield 1, f"The only heading of the first level must be '{title}'."
    seconds = [h for h in book.headings if h.level == 2]
    texts = [h.text for h in seconds]
    if tuple(texts[: len(HEADINGS)]) != HEADINGS:
        yield seconds[0].line if seconds else 1, f"The sections must be {', '.join(HEADINGS)}."
    for letter, heading in zip("ABCDEFG", seconds[len(HEADINGS) :], strict=False):
        if not heading.text.startswith(f"Appendix {letter}: "):
            yield heading.line, f"Only 'Appendix {letter}: ...' may stand here."


def _steps(book: Book) -> Found:
    section, number, minutes = "", 0, 0
    for heading in book.headings:
        section = heading.text if heading.level == 2 else section
        if heading.level != 3 or section != STEPS:
            continue
        number += 1
        match = _STEP.fullmatch(heading.text)
        if match is None or int(match["number"]) != number:
            yield heading.line, f"A step is called '{number}. What to do (M min)'."
        else:
            minutes += int(match["minutes"])
    if not 0 < minutes <= book.front.get("est_minutes", 0):
        yield 1, f"The steps take {minutes} minutes; est_minutes says otherwise."


def _content(book: Book) -> Found:
    for name, text in book.sections.items():
        if not text and name in HEADINGS:
            yield 1, f"The section '{name}' is empty."
    if not re.search(r"\d", book.sections.get(ABORT, "")):
        yield 1, "Abort criteria are numbers."


def _ids(book: Book) -> Found:
    seen: set[str] = set()
    for block in book.runnable:
        if block.id in seen:
            yield block.line, f"The id '{block.id}' is there twice."
        seen.add(block.id)


def _variables(book: Book) -> Found:
    declared: Mapping[str, str] = book.front.get("vars") or {}
    if not book.runnable or book.runnable[0].id != "variables":
        yield 1, "The first block sets the variables and is called 'variables'."
        return
    given: set[str] = set()
    for block in book.runnable:
        for name in sorted(_used(block) - given):
            yield block.line, f"${name} is used before it is set."
        for name, value in block.exports.items():
            given.add(name)
            if name not in declared:
                yield block.line, f"{name} is not declared under vars."
            elif "$" not in value and not re.fullmatch(declared[name], "".join(shlex.split(value))):
                yield block.line, f"{name} does not match its own pattern."
    for name in sorted(set(declared) - given):
        yield 1, f"{name} is declared and never set."
    checked = "\n".join(block.text for block in book.runnable if block.section == BEFORE)
    for name in book.runnable[0].exports:
        if f'"${name}" =~ {declared.get(name)}' not in checked:
            yield 1, f"Nothing checks {name} against its pattern before the start."


def _used(block: Block) -> set[str]:
    if block.language != CONSOLE:
        return set()
    return set(re.findall(r"\$\{?([A-Z][A-Z0-9_]+)", "\n".join(block.commands)))


def _known_attributes(block: Block) -> Iterator[str]:
    known = ATTRIBUTES.get(block.language)
    if known is None:
        yield f"A block of '{block.language}' has no attributes."
        return
    for key, value in block.attributes.items():
        if key not in known:
            yield f"The attribute '{key}' is not known; known are {', '.join(known)}."
        elif not re.fullmatch(known[key], value):
            yield f"The attribute '{key}' may not be '{value}'."


def _needed_attributes(block: Block) -> Iterator[str]:
    has = block.attributes
    if not block.id:
        yield "A block with attributes has an id."
    if block.language == CONSOLE and "expect-exit" not in has:
        yield "A command says which exit code is expected: expect-exit."
    if ("changes" in has) != ("reversible" in has):
        yield "A change says whether it is reversible, and nothing else does."
    if ("test" in has) != ("test-reason" in has):
        yield "test=skip needs a test-reason."


def _one_command(block: Block) -> Iterator[str]:
    if block.language == CONSOLE and len(block.commands) != 1 and not block.exports:
        yield "One block is one command, or sets variables."


def _branches(block: Block) -> Iterator[str]:
    if block.id and block.section in (BEFORE, STEPS, VERIFY) and not block.answered:
        yield "What to do if it goes otherwise must follow: '> **If ...'."


def _words(block: Block) -> Iterator[str]:
    for command in block.commands:
        if re.search(r"<[a-z][\w -]*>", command):
            yield "A command is whole: a value comes from a variable."
        outside = re.sub(r'"[^"]*"', "", command)
        if re.search(r"\$\{?[A-Z]", outside):
            yield 'A variable stands in double quotes: "$NAME".'


_OF_BOOKS: Mapping[str, Callable[[Book], Found]] = {
    "front-matter": _front_matter,
    "order": _order,
    "steps": _steps,
    "content": _content,
    "ids": _ids,
    "variables": _variables,
}

_OF_BLOCKS: Mapping[str, Callable[[Block], Iterator[str]]] = {
    "known-attributes": _known_attributes,
    "needed-attributes": _needed_attributes,
    "one-command": _one_command,
    "branches": _branches,
    "words": _words,
}
