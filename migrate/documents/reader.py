"""
One YAML file as plain values, each with its line and column.

A strict subset: one document of text keys, YAML 1.2 core scalars, and none of the features that
run code, share nodes or hide a value (tags, anchors, aliases, merge keys, duplicate keys). It walks
the parser's events, never its composer, so no input recurses and no alias is expanded. It does not
know what the keys mean: that is `shape`.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from migrate.errors import InvalidFiles, Problem

MAX_BYTES = 1024 * 1024
"""A larger file is refused before it is parsed."""

MAX_DEPTH = 32
"""Sections within sections."""

MAX_VALUES = 20_000
"""Keys and values in one file; keeps the time to refuse a huge one below a second."""

MAX_PROBLEMS = 100
"""After that many the rest of a file is not looked at."""

MAX_DIGITS = 100
"""A plain number with more digits is refused, not converted."""

Loc = tuple[str | int, ...]
"""Path to a value: keys and list indexes from the root."""

Position = tuple[int, int]
"""Line and column, both from 1."""

Event = Any
"""One of ruamel's parser events; its classes declare their attributes to no type checker."""

Value = str | int | float | bool | dict[str, "Value"] | list["Value"] | None


@dataclass(frozen=True, slots=True)
class Document:
    """
    The values of one file and where each was written. Its repr shows no value.

    Args:
        path: As the user named it.

        broken: Places whose value was refused; what is wrong there has been said already.
    """

    path: str
    data: Value = field(repr=False)
    broken: frozenset[Loc] = field(default=frozenset(), repr=False)
    _values: dict[Loc, Position] = field(default_factory=dict, repr=False)
    _keys: dict[Loc, Position] = field(default_factory=dict, repr=False)
    _sources: dict[Loc, str] = field(default_factory=dict, repr=False)

    def position(self, loc: Loc, *, key: bool = False) -> Position:
        """
        Where the value at `loc` starts, or where its key does.

        A place that the file does not have falls back to the nearest section that it has.
        """
        loc = tuple(loc)
        if key and loc in self._keys:
            return self._keys[loc]
        if loc in self._values:
            return self._values[loc]
        while loc:
            loc = loc[:-1]
            if found := self._keys.get(loc) or self._values.get(loc):
                return found
        return (1, 1)

    def inside(self, loc: Loc, offset: int) -> Position:
        """
        Where the character `offset` of the text at `loc` was written.

        Exact where the text stands on one line; the start of the value otherwise.
        """
        line, column = self.position(loc)
        source = self._sources.get(tuple(loc))
        return (
            line,
            column if source is None else column + _source_offset(source, offset),
        )

    def is_broken(self, loc: Loc) -> bool:
        """
        Whether the value at `loc`, or a section around it, was refused while reading.
        """
        return any(loc[:length] in self.broken for length in range(len(loc) + 1))


def read(path: Path) -> Document:
    """
    The document in a file.

    Raises:
        InvalidFiles: With every problem of the file that can be seen at once.
    """
    problems: list[Problem] = []
    document = scan(path, problems)
    if document is None or problems:
        raise InvalidFiles(problems)
    return document


def scan(path: Path, problems: list[Problem]) -> Document | None:
    """
    The document in a file as far as it can be read; what is wrong is added to `problems`.

    For callers that go on to check the shape, so that all problems come at once. None where
    no tree could be built.
    """
    text = _text(path, problems)
    return None if text is None else _Walk(str(path), text, problems).document()


def words(text: str, limit: int = 40) -> str:
    """
    A key as an error may quote it: short, on one line, nothing that steers a terminal.
    """
    shown = "".join(c if c.isprintable() else "?" for c in text[:limit])
    return shown + ("..." if len(text) > limit else "")


def _text(path: Path, problems: list[Problem]) -> str | None:
    content = _content(path, problems)
    if content is None:
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.append(_not_utf8(path, content, error.start))
        return None
    bad = list(_UNPRINTABLE.finditer(text))
    for match in bad[:MAX_PROBLEMS]:
        line, column = _line_and_column(text, match.start())
        problems.append(
            Problem(
                str(path),
                line,
                column,
                "file-character",
                f"The control character U+{ord(match.group()):04X} is not allowed here.",
                "Remove it, or write it as an escape in double quotes.",
            )
        )
    return None if bad else text


_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _content(path: Path, problems: list[Problem]) -> bytes | None:
    try:
        refused = _kind_problem(path.stat().st_mode)
        content = b""
        if refused is None:
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        refused = "file-missing", "There is no such file.", "Check the path."
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "the path cannot be used"
        message = f"The file cannot be read: {reason}."
        refused = "file-unreadable", message, "Check the path and its permissions."
    else:
        if len(content) > MAX_BYTES:
            message = "The file is larger than 1 MiB."
            refused = "file-too-large", message, "Split it into several files."
    if refused is None:
        return content
    problems.append(Problem(str(path), 0, 0, *refused))
    return None


def _kind_problem(mode: int) -> tuple[str, str, str] | None:
    if stat.S_ISDIR(mode):
        return "file-directory", "This is a directory.", "Name a YAML file."
    if not stat.S_ISREG(mode):
        # A pipe or a device might never end.
        return "file-kind", "This is not a regular file.", "Name a YAML file."
    return None


def _not_utf8(path: Path, content: bytes, at: int) -> Problem:
    before = content[:at]
    line = before.count(b"\n") + 1
    column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8-sig", "replace")) + 1
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    what = "It looks like UTF-16." if wide else f"The byte 0x{content[at]:02X} is none of it."
    return Problem(
        str(path),
        line,
        column,
        "file-encoding",
        f"The file is not UTF-8. {what}",
        "Save it as UTF-8.",
    )


def _line_and_column(text: str, at: int) -> Position:
    return text.count("\n", 0, at) + 1, at - (text.rfind("\n", 0, at) + 1) + 1


@dataclass(slots=True)
class _Section:
    """
    A mapping or list that is being filled. `loc` is None where its values are thrown away.
    """

    loc: Loc | None
    items: dict[str, Value] | list[Value]
    opened: Position
    key: str | None = None
    """The key whose value comes next; None when the next event is a key."""
    skip: bool = False
    """The next value belongs to a key that was refused."""
    first: dict[str, int] = field(default_factory=dict)
    """Line of each key, to name it when it comes twice."""

    @property
    def wants_key(self) -> bool:
        return isinstance(self.items, dict) and self.key is None and not self.skip


class _Walk:
    """
    Builds the tree from the parser's events with a stack of its own.
    """

    def __init__(self, path: str, text: str, problems: list[Problem]) -> None:
        self._path = path
        self._text = text
        self._problems = problems
        self._root: Value = None
        self._stack: list[_Section] = []
        self._broken: set[Loc] = set()
        self._values: dict[Loc, Position] = {}
        self._keys: dict[Loc, Position] = {}
        self._sources: dict[Loc, str] = {}
        self._documents = 0

    def document(self) -> Document | None:
        """
        Walk all events; None where the tree is not to be trusted.
        """
        before = len(self._problems)
        try:
            whole = all(self._take(event) for event in self._events())
        except MarkedYAMLError as error:
            self._syntax(error)
            return None
        except YAMLError:
            self._refuse((1, 1), "yaml-syntax", "This is not valid YAML.", "Check the file.")
            return None
        if whole and self._root is None and len(self._problems) == before:
            self._refuse((1, 1), "file-empty", "The file is empty.", "Write `version: 1` first.")
            return None
        if not whole:
            return None
        return Document(
            self._path,
            self._root,
            frozenset(self._broken),
            self._values,
            self._keys,
            self._sources,
        )

    def _events(self) -> Iterator[Event]:
        for number, event in enumerate(YAML(typ="safe", pure=True).parse(self._text)):
            if number > MAX_VALUES:
                self._refuse(
                    _start(event),
                    "file-too-large",
                    f"The file has more than {MAX_VALUES:,} values.",
                    "Split it into several files.",
                )
                return
            yield event

    def _take(self, event: Event) -> bool:
        """
        Handle one event; False ends the walk.
        """
        if len(self._problems) >= MAX_PROBLEMS:
            return False
        handle = self._HANDLERS.get(type(event))
        return True if handle is None else handle(self, event)

    def _start_document(self, event: Event) -> bool:
        self._documents += 1
        if self._documents > 1:
            return self._refuse(
                _start(event),
                "yaml-documents",
                "A second document starts here.",
                "Keep one document a file: remove `---` or split the file.",
            )
        if event.version or event.tags:
            self._refuse(
                (1, 1),
                "yaml-directive",
                "Directives (%) are not allowed.",
                "Remove the line.",
            )
        return True

    def _take_scalar(self, event: Event) -> bool:
        self._check_properties(event)
        section = self._stack[-1] if self._stack else None
        if section is not None and section.wants_key:
            self._take_key(section, event)
            return True
        value: Value = event.value if event.style else self._plain(event)
        loc = self._place(value, _start(event))
        if loc in self._keys and not event.style and not event.value:
            # Nothing was written: the parser's position may be lines below the key.
            self._values[loc] = self._keys[loc]
        if loc is not None:
            self._note_refused(event, loc)
            source = self._text[event.start_mark.index : event.end_mark.index]
            if isinstance(value, str) and "\n" not in source and event.style in (None, "'", '"'):
                self._sources[loc] = source
        return True

    def _take_alias(self, event: Event) -> bool:
        self._refuse(
            _start(event),
            "yaml-alias",
            "Aliases (*) are not allowed.",
            "Write the value out.",
        )
        section = self._stack[-1] if self._stack else None
        if section is not None and section.wants_key:
            section.skip = True
            return True
        loc = self._place(None, _start(event))
        if loc is not None:
            self._broken.add(loc)
        return True

    def _take_key(self, section: _Section, event: Event) -> None:
        at, name = _start(event), event.value
        plain = not event.style
        if plain and name == "<<":
            self._refuse(
                at,
                "yaml-merge",
                "Merge keys (<<) are not allowed.",
                "Write the keys out.",
            )
            if section.loc is not None:
                self._broken.add((*section.loc, "<<"))
        elif plain and not isinstance(_scalar(name), str):
            self._refuse(
                at,
                "yaml-key",
                "A key must be text; this is read as a number, a truth value or nothing.",
                "Put the key in quotes.",
            )
        elif name in section.first:
            self._refuse(
                at,
                "duplicate-key",
                f"The key `{words(name)}` comes twice; it was first on line {section.first[name]}.",
                "Remove one of them.",
            )
        else:
            section.first[name] = at[0]
            section.key = name
            if section.loc is not None:
                self._keys[(*section.loc, name)] = at
            return
        section.skip = True

    def _start_section(self, event: Event, items: dict[str, Value] | list[Value]) -> bool:
        self._check_properties(event)
        at = _start(event)
        if len(self._stack) >= MAX_DEPTH:
            return self._refuse(
                at,
                "yaml-depth",
                f"More than {MAX_DEPTH} sections within each other.",
                "No key of ours nests that deep: flatten it.",
            )
        parent = self._stack[-1] if self._stack else None
        if parent is not None and parent.wants_key:
            braces = self._text.startswith("{", event.start_mark.index)
            self._refuse(
                at,
                "yaml-key",
                "A key must be text, not a section or a list.",
                QUOTE_TEMPLATE if braces else "Write the key as text.",
            )
            parent.skip = True
            self._stack.append(_Section(None, items, at))
            return True
        loc = self._place(items, at)
        if loc is not None:
            self._note_refused(event, loc)
        self._stack.append(_Section(loc, items, at))
        return True

    def _start_mapping(self, event: Event) -> bool:
        return self._start_section(event, {})

    def _start_list(self, event: Event) -> bool:
        return self._start_section(event, [])

    def _end_section(self, _: Event) -> bool:
        self._stack.pop()
        return True

    def _place(self, value: Value, at: Position) -> Loc | None:
        """
        Put a value where it belongs; None where it is thrown away.
        """
        if not self._stack:
            self._root = value
            self._values[()] = at
            return ()
        section = self._stack[-1]
        if section.skip:
            section.skip = False
            return None
        loc: Loc | None
        if isinstance(section.items, list):
            loc = None if section.loc is None else (*section.loc, len(section.items))
            section.items.append(value)
        else:
            name, section.key = str(section.key), None
            loc = None if section.loc is None else (*section.loc, name)
            section.items[name] = value
        if loc is not None:
            self._values[loc] = at
        return loc

    def _plain(self, event: Event) -> Value:
        value = _scalar(event.value)
        if value is _TOO_LONG:
            self._refuse(
                _start(event),
                "yaml-number",
                "This number is too long.",
                "Put it in quotes.",
            )
            return str(event.value)
        return value

    def _check_properties(self, event: Event) -> None:
        if event.anchor is not None:
            self._refuse(
                _start(event),
                "yaml-anchor",
                "Anchors (&) are not allowed.",
                "Remove the anchor.",
            )
        if event.tag is not None:
            self._refuse(
                _start(event),
                "yaml-tag",
                "Tags (!) are not allowed.",
                "Remove the tag.",
            )

    def _note_refused(self, event: Event, loc: Loc) -> None:
        # An anchored value is read as it stands; a tag may have meant anything.
        if event.tag is not None:
            self._broken.add(loc)

    def _syntax(self, error: MarkedYAMLError) -> None:
        problem, context = str(error.problem or ""), str(error.context or "")
        rule, at_context, message, fix = _reworded(f"{problem} {context}")
        mark = (error.context_mark if at_context else None) or error.problem_mark
        if mark is None:
            self._refuse((1, 1), rule, message, fix)
            return
        at = mark.line + 1, mark.column + 1
        if "flow node" in context and self._stack:
            # The file ended within brackets: show where they opened, not where it ended.
            at = self._stack[-1].opened
        line = self._text.splitlines()[mark.line : mark.line + 1]
        if rule == "yaml-syntax" and line and _LOOSE_TEMPLATE.search(line[0]):
            fix = QUOTE_TEMPLATE
        self._refuse(at, rule, message, fix)

    def _refuse(self, at: Position, rule: str, message: str, fix: str) -> bool:
        self._problems.append(Problem(self._path, *at, rule, message, fix))
        return False

    _HANDLERS: ClassVar[dict[type[Event], Callable[[_Walk, Event], bool]]] = {
        DocumentStartEvent: _start_document,
        ScalarEvent: _take_scalar,
        AliasEvent: _take_alias,
        MappingStartEvent: _start_mapping,
        MappingEndEvent: _end_section,
        SequenceStartEvent: _start_list,
        SequenceEndEvent: _end_section,
    }


QUOTE_TEMPLATE = 'Put text with braces in quotes, for example: key: "profile:{id}"'

_LOOSE_TEMPLATE = re.compile(r"[:\-]\s+\{+[\w. ]*\}+")
"""A value that begins with a brace, as a template without quotes does."""

_Told = tuple[str, bool, str, str]
"""Rule, whether to point at the context, message, fix."""

_SYNTAX: tuple[tuple[str, _Told], ...] = (
    # what ruamel's message holds -> what we say
    ("tag handle", ("yaml-tag", False, "Tags (!) are not allowed.", "Remove the tag.")),
    (
        "scanning a quoted scalar",
        (
            "yaml-syntax",
            True,
            "The text in quotes that starts here does not end.",
            "Add the closing quote.",
        ),
    ),
    (
        "unknown escape character",
        (
            "yaml-syntax",
            False,
            "This escape is not known in double quotes.",
            "Write the backslash twice, or use single quotes.",
        ),
    ),
    (
        "escape sequence of",
        (
            "yaml-syntax",
            False,
            "This escape has too few digits.",
            "Write the backslash twice, or use single quotes.",
        ),
    ),
    (r"'\t'", ("yaml-syntax", False, "A tab cannot indent.", "Indent with spaces.")),
    (
        "cannot start any token",
        (
            "yaml-syntax",
            False,
            "A value cannot start with this character.",
            "Put the value in quotes.",
        ),
    ),
    (
        "mapping values are not allowed",
        (
            "yaml-syntax",
            False,
            "A colon is not expected here.",
            "Put text that holds `: ` in quotes, and check the indentation.",
        ),
    ),
    (
        "could not find expected ':'",
        (
            "yaml-syntax",
            True,
            "This line is neither `key: value` nor a list entry.",
            "Add the colon, and a space after it.",
        ),
    ),
    (
        "parsing a flow",
        (
            "yaml-syntax",
            True,
            "The bracket or brace that starts here is not closed, or a comma is missing.",
            "Close it; text that holds brackets or braces goes in quotes.",
        ),
    ),
    (
        "parsing a block",
        (
            "yaml-syntax",
            False,
            "This does not belong to the section above.",
            "Check the indentation; text that holds braces, brackets or `: ` goes in quotes.",
        ),
    ),
)

_OTHER: _Told = (
    "yaml-syntax",
    False,
    "This is not valid YAML.",
    "Check indentation, quotes and brackets.",
)


def _reworded(text: str) -> _Told:
    """
    Our words for a parser's message, without what it quotes of the file.
    """
    for needle, told in _SYNTAX:
        if needle in text:
            return told
    return _OTHER


def _start(event: Event) -> Position:
    mark = event.start_mark
    return mark.line + 1, mark.column + 1


_TOO_LONG: Value = float("nan")
"""Told by identity: a number that is not worth converting."""

_WORDS: dict[str, Value] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}

_INTEGERS: tuple[tuple[re.Pattern[str], int], ...] = (
    (re.compile(r"[-+]?[0-9]+"), 10),
    (re.compile(r"0o[0-7]+"), 8),
    (re.compile(r"0x[0-9a-fA-F]+"), 16),
)

_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def _scalar(text: str) -> Value:
    """
    A plain scalar by YAML 1.2's core schema: `no`, `12:30` and dates stay text.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    for pattern, base in _INTEGERS:
        if pattern.fullmatch(text):
            return int(text, base) if len(text) <= MAX_DIGITS else _TOO_LONG
    if _FLOAT.fullmatch(text):
        return float(text) if len(text) <= MAX_DIGITS else _TOO_LONG
    return text


def _source_offset(source: str, offset: int) -> int:
    """
    How far into the written form of a one-line text its character `offset` stands.
    """
    quote = source[:1]
    if quote not in ("'", '"'):
        return offset
    at = 1
    for _ in range(offset):
        at += _source_width(source, at, quote)
    return min(at, len(source))


def _source_width(source: str, at: int, quote: str) -> int:
    if quote == "'":
        return 2 if source.startswith("''", at) else 1
    if source.startswith("\\", at):
        return 2 + {"x": 2, "u": 4, "U": 8}.get(source[at + 1 : at + 2], 0)
    return 1
