"""
The key template: how the columns of a key become the name of one Redis key, and back.

`{column}` is a placeholder, `{{` and `}}` are literal braces, and that is the whole language: no
format specification, no attribute, no expression. Rendering is injective: two different keys never
give the same name, whatever their text holds. Lookups use the same templates over fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

RESERVED_PREFIX = "profile-migrate:"
"""Keys that begin so are ours (fences); no template may reach them."""

SEPARATORS = ":/.-_|"
"""A prefix holds one of these, so that it tells our keys from all others."""

MIN_PREFIX = 3
"""Characters before the first placeholder, at least."""

MAX_TEMPLATE = 256
"""Characters of a template, at most."""

ALWAYS_ESCAPED = frozenset("%:{}*?[]\\ ") | {chr(code) for code in (*range(0x20), 0x7F)}
"""Separator, braces, glob and control characters never come from a component as they are."""

_FORMATS = frozenset(".!:()[]'\"\\")
"""What other template languages put between braces."""

_HEX = "0123456789ABCDEF"

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")


class TemplateError(ValueError):
    """
    A key template that is refused.

    Args:
        message: What is wrong.

        offset: Character of the template, from 0.

        fix: What to write instead.
    """

    def __init__(self, message: str, offset: int, fix: str) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Template:
    """
    A parsed key template.

    Args:
        text: As it was written.

        names: The placeholders, in order; none comes twice.

        starts: Where each placeholder begins in the text.

        literals: The text before, between and after them: one more than names.

        escaped: Characters that a component never shows as they are.
    """

    text: str
    names: tuple[str, ...]
    starts: tuple[int, ...] = field(repr=False, compare=False)
    literals: tuple[str, ...]
    escaped: frozenset[str] = field(repr=False)
    _unsafe: re.Pattern[str] = field(repr=False, compare=False)
    _edges: tuple[bytes, ...] = field(repr=False, compare=False)
    _form: re.Pattern[str] = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str, *, fixed: bool = False) -> Template:
        """
        The template that a text stands for.

        Args:
            fixed: It may have no placeholder, which gives one key for all.

        Raises:
            TemplateError: It is not one, its keys would not be unique, or not recognisably ours.
        """
        if len(text) > MAX_TEMPLATE:
            raise TemplateError(
                f"The template is longer than {MAX_TEMPLATE} characters.",
                MAX_TEMPLATE,
                "Shorten the prefix.",
            )
        names, starts, literals, offsets = _split(text)
        if not names and not fixed:
            raise TemplateError(
                "The template has no placeholder, so that all rows would share one key.",
                0,
                'Add the key column, for example "profile:{id}".',
            )
        _check_prefix(literals[0])
        escaped = ALWAYS_ESCAPED | _separators(literals, offsets)
        unsafe = re.escape("".join(sorted(escaped)))
        component = f"((?:[^{unsafe}]|%[0-9A-F]{{2}})*)"
        template = cls(
            text=text,
            names=tuple(names),
            starts=tuple(starts),
            literals=tuple(literals),
            escaped=escaped,
            _unsafe=re.compile(f"[{unsafe}]"),
            _edges=tuple(literal.encode() for literal in literals),
            _form=re.compile(component.join(map(re.escape, literals))),
        )
        if _meet(template._tokens(), [*RESERVED_PREFIX, _ANYTHING]):
            raise TemplateError(
                f"The template can give keys that begin with {RESERVED_PREFIX}",
                0,
                "Choose another prefix: that one is reserved.",
            )
        return template

    def render(self, components: Sequence[str | bytes]) -> bytes:
        """
        The Redis key for the values of `names`, in that order.

        Text stays readable: only the characters in `escaped` become %XX. In bytes everything
        beyond ASCII does as well. Called once a row.

        Raises:
            UnicodeEncodeError: A text is not valid Unicode.
        """
        edges = self._edges
        if len(edges) == 2:
            return edges[0] + self._escape(components[0]) + edges[1]
        parts = [edges[0]]
        for component, edge in zip(components, edges[1:], strict=True):
            parts.append(self._escape(component))
            parts.append(edge)
        return b"".join(parts)

    def match(self, key: bytes) -> tuple[str | bytes, ...] | None:
        """
        The components that render to exactly this key; None for a key that `render` never gives.

        Text where they are text, bytes where only bytes give the key.
        """
        try:
            found = self._form.fullmatch(key.decode())
        except UnicodeDecodeError:
            return None
        if found is None:
            return None
        # Each literal between two components holds a character that none of them shows, so that
        # there is one way to part the key; what is left is whether each escape is one of ours.
        components = [self._unescape(shown) for shown in found.groups()]
        known = tuple(component for component in components if component is not None)
        return known if len(known) == len(components) else None

    @property
    def prefix(self) -> bytes:
        """
        What every key begins with: the bytes before the first placeholder.
        """
        return self._edges[0]

    def overlaps(self, other: Template) -> bool:
        """
        Whether some key could be rendered by both.

        Exact for components that may hold any text or bytes; what a column's type rules out is
        not considered.
        """
        return _meet(self._tokens(), other._tokens())

    def _escape(self, component: str | bytes) -> bytes:
        if isinstance(component, bytes):
            if not component.isascii():
                return b"".join(map(self._escape_byte, component))
            component = component.decode()
        if self._unsafe.search(component) is None:
            return component.encode()
        return self._unsafe.sub(_percent, component).encode()

    def _escape_byte(self, code: int) -> bytes:
        if code >= 0x80 or chr(code) in self.escaped:
            return b"%%%02X" % code
        return bytes((code,))

    def _unescape(self, shown: str) -> str | bytes | None:
        """
        The component that is shown so; None where it would be shown otherwise.
        """
        raw = _ESCAPED.sub(lambda found: bytes((int(found[1], 16),)), shown.encode())
        candidates: list[str | bytes] = [raw]
        with suppress(UnicodeDecodeError):
            candidates.insert(0, raw.decode())
        return next((one for one in candidates if self._escape(one) == shown.encode()), None)

    def _tokens(self) -> list[_Token]:
        component = _Component(self.escaped)
        tokens: list[_Token] = [*self.literals[0]]
        for literal in self.literals[1:]:
            tokens += [component, *literal]
        return tokens


def escape(component: str) -> str:
    """
    A text as every template escapes it at least.
    """
    return _ESCAPE.sub(_percent, component)


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{code:02X}" for code in match.group().encode())


_ESCAPE = re.compile("[" + re.escape("".join(sorted(ALWAYS_ESCAPED))) + "]")
_ESCAPED = re.compile(b"%([0-9A-F]{2})")


def _split(text: str) -> tuple[list[str], list[int], list[str], list[int]]:
    """
    Placeholders and the literals around them, and where each of them begins in the text.
    """
    names: list[str] = []
    starts: list[int] = []
    literals, offsets = [""], [0]
    for match in _PIECE.finditer(text):
        piece, name, at = match.group(), match.group(1), match.start()
        if piece in ("{{", "}}"):
            literals[-1] += piece[0]
        elif name is not None:
            _check_name(name, names, at)
            names.append(name)
            starts.append(at)
            literals.append("")
            offsets.append(match.end())
        elif piece in ("{", "}"):
            raise TemplateError(
                f"This `{piece}` has no partner.",
                at,
                f"Write `{piece * 2}` for a literal brace, or {{column}} for a placeholder.",
            )
        else:
            _check_literal(piece, at)
            literals[-1] += piece
    return names, starts, literals, offsets


def _check_name(name: str, earlier: Sequence[str], at: int) -> None:
    fix = "Write one name between the braces and nothing else."
    if not name.strip():
        raise TemplateError("This placeholder has no name.", at, fix)
    for offset, character in enumerate(name):
        edge = offset in (0, len(name) - 1)
        if character in _FORMATS or not character.isprintable() or (edge and character == " "):
            raise TemplateError(
                "A placeholder is a bare column name: no attribute, index, format or expression.",
                at + 1 + offset,
                fix,
            )
    if name in earlier:
        raise TemplateError(f"The placeholder {{{name}}} comes twice.", at, "Remove one of them.")


def _check_literal(piece: str, at: int) -> None:
    for offset, character in enumerate(piece):
        if not character.isprintable():
            raise TemplateError(
                "The template holds a control or invisible character.", at + offset, "Remove it."
            )


def _check_prefix(prefix: str) -> None:
    if len(prefix) < MIN_PREFIX or not any(c in SEPARATORS for c in prefix):
        raise TemplateError(
            f"The text before the first placeholder must have {MIN_PREFIX} characters or more, "
            f"one of them of {' '.join(SEPARATORS)}",
            0,
            'Give the keys a prefix of their own, for example "profile:{id}".',
        )


def _separators(literals: Sequence[str], offsets: Sequence[int]) -> frozenset[str]:
    """
    What components must escape further, so that the end of each can be told.

    Each literal between two placeholders needs one character that no component shows. `%` and
    the letters and digits of escapes are no such character.
    """
    more = set()
    for literal, offset in zip(literals[1:-1], offsets[1:-1], strict=True):
        usable = [c for c in literal if c != "%" and not c.isalnum()]
        if not usable:
            raise TemplateError(
                "Two placeholders need a separator between them, or two keys could be one.",
                offset,
                "Write `:` between them.",
            )
        if not any(c in ALWAYS_ESCAPED for c in usable):
            more.add(usable[0])
    return frozenset(more)


@dataclass(frozen=True, slots=True)
class _Component:
    """
    Any text or bytes in their escaped form. With nothing escaped: any characters at all.
    """

    escaped: frozenset[str]

    def step(self, partial: str, character: str) -> str | None:
        """
        What of an escape has been seen after one more character; None where it cannot follow.
        """
        if not partial:
            if character == "%" and self.escaped:
                return "%"
            return None if character in self.escaped else ""
        if character not in _HEX:
            return None
        if len(partial) == 1:
            return partial + character
        code = int(partial[1] + character, 16)
        return "" if code >= 0x80 or chr(code) in self.escaped else None


_ANYTHING = _Component(frozenset())

_Token = str | _Component

_State = tuple[int, str]
"""Position among the tokens, and what of an escape has been seen there."""


def _meet(one: Sequence[_Token], two: Sequence[_Token]) -> bool:
    """
    Whether one text fits both: a walk through the product of two small automata.
    """
    ends = (len(one), ""), (len(two), "")
    waiting: list[tuple[_State, _State]] = [((0, ""), (0, ""))]
    seen = set(waiting)
    while waiting:
        left, right = waiting.pop()
        if (left, right) == ends:
            return True
        for pair in _next_pairs(one, two, left, right):
            if pair not in seen:
                seen.add(pair)
                waiting.append(pair)
    return False


def _next_pairs(
    one: Sequence[_Token], two: Sequence[_Token], left: _State, right: _State
) -> Iterator[tuple[_State, _State]]:
    for after in _leave(one, left):
        yield after, right
    for after in _leave(two, right):
        yield left, after
    # Two components may walk on together, which leads nowhere new: only the rest is walked.
    for character in _choices(one, left) or _choices(two, right):
        after_left, after_right = _step(one, left, character), _step(two, right, character)
        if after_left is not None and after_right is not None:
            yield after_left, after_right


def _leave(tokens: Sequence[_Token], state: _State) -> Iterator[_State]:
    at, partial = state
    if at < len(tokens) and isinstance(tokens[at], _Component) and not partial:
        yield at + 1, ""


def _choices(tokens: Sequence[_Token], state: _State) -> str:
    """
    The characters that can follow where they are few; empty where they are many or none.
    """
    at, partial = state
    if partial:
        return _HEX
    token = tokens[at] if at < len(tokens) else ""
    return token if isinstance(token, str) else ""


def _step(tokens: Sequence[_Token], state: _State, character: str) -> _State | None:
    at, partial = state
    if at == len(tokens):
        return None
    token = tokens[at]
    if isinstance(token, str):
        return (at + 1, "") if token == character else None
    rest = token.step(partial, character)
    return None if rest is None else (at, rest)
