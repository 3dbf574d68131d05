"""
The row filter: a small allow-list grammar over the columns of the root table, read into values.

No function, subquery, cast, arithmetic, comment or second statement can be written in it, so a
filter has no side effect and depends on nothing but the row. Names are taken exactly as they are
written, in double quotes or without. Whether a column exists is found out by `compile`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from migrate.model.filter import (
    Between,
    ColumnRef,
    Comparison,
    Constant,
    Filter,
    IsNull,
    Junction,
    Membership,
    Negation,
    Operand,
    Truth,
)

MAX_FILTER = 10_000
"""Characters of a filter, at most."""

MAX_NESTING = 32
"""Parentheses and NOT within each other, at most."""

MAX_DIGITS = 100
"""Digits of a number, at most."""

ALLOWED = (
    "Allowed: columns, 'text', numbers, true, false, = <> < <= > >=, LIKE, IN (...), BETWEEN, "
    "IS NULL, IS TRUE, IS FALSE, NOT, AND, OR and parentheses."
)


class FilterError(ValueError):
    """
    A filter that is refused.

    Args:
        message: What is wrong, without the values in it.

        offset: Character of the filter, from 0.

        fix: What to write instead.
    """

    def __init__(self, message: str, offset: int, fix: str = ALLOWED) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.fix = fix


def parse_where(text: str) -> Filter:
    """
    The filter that a text stands for.

    Raises:
        FilterError: It holds something that the grammar does not allow.
    """
    if len(text) > MAX_FILTER:
        raise FilterError(f"The filter is longer than {MAX_FILTER:,} characters.", MAX_FILTER)
    return _Parser(_tokens(text)).whole()


@dataclass(frozen=True, slots=True)
class _Token:
    """
    One word of a filter. `kind` is word, column, text, number, an operator or a bracket, or end.
    """

    kind: str
    text: str
    offset: int

    @property
    def keyword(self) -> str:
        """
        The upper-case keyword that this is, or nothing.
        """
        return self.text.upper() if self.kind == "word" else ""


_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
    |(?P<comment>--|/\*|\#)
    |(?P<text>'(?:[^']|'')*')
    |(?P<column>"(?:[^"]|"")+")
    |(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?P<odd>[\w.]*))
    |(?P<word>[^\W\d]\w*)
    |(?P<operator><>|!=|<=|>=|==|::|\|\||=|<|>)
    |(?P<bracket>[(),+-])""",
    re.VERBOSE,
)

_REFUSED: dict[str, str] = {
    "'": "This text has no closing quote.",
    '"': "This name has no closing quote, or is empty.",
    ";": "A filter is one condition: no second statement.",
    "/": "Arithmetic is not allowed in a filter.",
    "*": "Arithmetic is not allowed in a filter.",
    "%": "Arithmetic is not allowed in a filter.",
    ":": "Parameters are not allowed in a filter.",
    "?": "Parameters are not allowed in a filter.",
    "$": "Parameters are not allowed in a filter.",
    "@": "Variables are not allowed in a filter.",
    ".": "Columns are named without their table.",
    "`": "Names are quoted with double quotes.",
    "[": "Names are quoted with double quotes.",
}

_RENAMED = {"!=": "<>"}

_COMPARISONS = frozenset({"=", "<>", "<", "<=", ">", ">="})

_KEYWORDS = frozenset({"AND", "OR", "NOT", "IS", "IN", "LIKE", "BETWEEN", "NULL", "TRUE", "FALSE"})

_FOREIGN: dict[str, str] = {
    "SELECT": "Subqueries are not allowed in a filter.",
    "EXISTS": "Subqueries are not allowed in a filter.",
    "ANY": "Subqueries are not allowed in a filter.",
    "ALL": "Subqueries are not allowed in a filter.",
    "CASE": "CASE is not allowed in a filter.",
    "CAST": "Casts are not allowed in a filter.",
    "COLLATE": "COLLATE is not allowed in a filter.",
    "ILIKE": "ILIKE is not allowed in a filter: it is not the same on every database.",
    "SIMILAR": "SIMILAR TO is not allowed in a filter.",
    "REGEXP": "Regular expressions are not allowed in a filter.",
    "RLIKE": "Regular expressions are not allowed in a filter.",
    "GLOB": "GLOB is not allowed in a filter.",
    "ESCAPE": "LIKE ... ESCAPE is not allowed in a filter.",
    "UNION": "A filter is one condition: no second statement.",
    **dict.fromkeys(
        (
            "CURRENT_DATE",
            "CURRENT_TIME",
            "CURRENT_TIMESTAMP",
            "CURRENT_USER",
            "LOCALTIME",
            "LOCALTIMESTAMP",
            "SESSION_USER",
        ),
        "Functions are not allowed in a filter: it may depend on the row alone.",
    ),
}


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise FilterError(
                _REFUSED.get(text[at], "This character is not allowed in a filter."), at
            )
        _check_token(match)
        if match.lastgroup != "space":
            found.append(_token(match))
        at = match.end()
    return [*found, _Token("end", "", len(text))]


def _check_token(match: re.Match[str]) -> None:
    at, written = match.start(), match.group()
    if match.group("comment"):
        raise FilterError("Comments are not allowed in a filter.", at, "Remove the comment.")
    if match.group("number") and (match.group("odd") or len(written) > MAX_DIGITS):
        raise FilterError("This is not a number.", at, "Write digits, with one point at most.")
    if written == "::":
        raise FilterError("Casts are not allowed in a filter.", at)
    if written == "||":
        raise FilterError("Text cannot be joined in a filter.", at)
    if written == "==":
        raise FilterError("This is not a comparison.", at, "Write one `=`.")
    if match.group("text") or match.group("column"):
        for offset, character in enumerate(written):
            if ord(character) < 0x20 or character == "\x7f":
                raise FilterError("Control characters are not allowed in a filter.", at + offset)


def _token(match: re.Match[str]) -> _Token:
    kind, written, at = str(match.lastgroup), match.group(), match.start()
    if match.group("number"):
        return _Token("number", written, at)
    if kind == "text":
        return _Token(kind, written[1:-1].replace("''", "'"), at)
    if kind == "column":
        return _Token(kind, written[1:-1].replace('""', '"'), at)
    if kind in ("operator", "bracket"):
        written = _RENAMED.get(written, written)
        return _Token(written, written, at)
    return _Token(kind, written, at)


class _Parser:
    """
    Recursive descent over the tokens, one method a rule.
    """

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def whole(self) -> Filter:
        """
        The whole text as one condition.
        """
        if self._next.kind == "end":
            raise FilterError("The filter is empty.", 0, "Remove `where`, or write a condition.")
        found = self._any_of()
        if self._next.kind != "end":
            raise self._unexpected("AND, OR or the end")
        return found

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._tokens[self._at]
        self._at += token.kind != "end"
        return token

    def _skip(self, *words: str) -> bool:
        """
        Whether the next tokens are these keywords or signs; they are then behind us.
        """
        ahead = self._tokens[self._at : self._at + len(words)]
        same = [t.keyword or t.kind for t in ahead] == list(words)
        self._at += len(words) if same else 0
        return same

    def _expect(self, sign: str) -> None:
        if not self._skip(sign):
            raise self._unexpected(f"`{sign}`")

    def _unexpected(self, wanted: str) -> FilterError:
        token = self._next
        after = self._tokens[min(self._at + 1, len(self._tokens) - 1)]
        if token.keyword in _FOREIGN:
            return FilterError(_FOREIGN[token.keyword], token.offset)
        if token.kind in ("+", "-"):
            return FilterError("Arithmetic is not allowed in a filter.", token.offset)
        if token.kind in ("word", "column") and after.kind == "(":
            return self._function(token)
        if token.kind == "end":
            return FilterError(f"The filter ends where {wanted} is expected.", token.offset)
        return FilterError(f"{wanted[0].upper()}{wanted[1:]} is expected here.", token.offset)

    @staticmethod
    def _function(token: _Token) -> FilterError:
        return FilterError(
            "Functions are not allowed in a filter: it may depend on the row alone.", token.offset
        )

    def _deeper(self, part: Callable[[], Filter]) -> Filter:
        if self._depth == MAX_NESTING:
            raise FilterError(
                f"More than {MAX_NESTING} conditions within each other.",
                self._next.offset,
                "Write it flatter.",
            )
        self._depth += 1
        found = part()
        self._depth -= 1
        return found

    def _any_of(self) -> Filter:
        return self._joined("OR", self._all_of)

    def _all_of(self) -> Filter:
        return self._joined("AND", self._not)

    def _joined(self, word: str, part: Callable[[], Filter]) -> Filter:
        parts = [part()]
        while self._skip(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Junction(word.lower(), tuple(parts))

    def _not(self) -> Filter:
        if self._skip("NOT"):
            return Negation(self._deeper(self._not))
        return self._condition()

    def _condition(self) -> Filter:
        if self._skip("("):
            if self._next.keyword == "SELECT":
                raise self._unexpected("a condition")
            found = self._deeper(self._any_of)
            self._expect(")")
            return found
        start = self._next.offset
        left = self._operand()
        if self._next.kind in _COMPARISONS:
            return self._comparison(left, start)
        negated = self._next_but_one in ("IN", "LIKE", "BETWEEN") and self._skip("NOT")
        if self._skip("LIKE"):
            return self._like(left, start, negated=negated)
        column = self._column(left, start)
        if self._skip("IN"):
            return self._membership(column, negated=negated)
        if self._skip("BETWEEN"):
            low = self._value()
            self._expect("AND")
            return Between(column, low, self._value(), negated)
        return self._test(column) if self._skip("IS") else Truth(column)

    @property
    def _next_but_one(self) -> str:
        return self._tokens[min(self._at + 1, len(self._tokens) - 1)].keyword

    def _comparison(self, left: Operand, start: int) -> Filter:
        operator = self._take().kind
        right = self._value()
        if left == Constant(None):
            raise self._null(start)
        if isinstance(left, Constant) and isinstance(right, Constant):
            raise FilterError("A comparison needs a column on one side.", start)
        return Comparison(operator, left, right)

    def _like(self, left: Operand, start: int, *, negated: bool) -> Filter:
        pattern = self._next
        if pattern.kind != "text":
            raise self._unexpected("a 'text' as the pattern")
        self._take()
        column = self._column(left, start)
        return Comparison("not like" if negated else "like", column, Constant(pattern.text))

    def _membership(self, column: ColumnRef, *, negated: bool) -> Filter:
        self._expect("(")
        options = [self._option()]
        while self._skip(","):
            options.append(self._option())
        self._expect(")")
        return Membership(column, tuple(options), negated)

    def _option(self) -> Constant:
        start = self._next.offset
        value = self._value()
        if isinstance(value, ColumnRef):
            raise FilterError("IN takes 'text', numbers, true and false.", start)
        return value

    def _test(self, column: ColumnRef) -> Filter:
        negated = self._skip("NOT")
        if self._skip("NULL"):
            return IsNull(column, negated)
        for word, wanted in (("TRUE", True), ("FALSE", False)):
            if self._skip(word):
                return Truth(column, wanted, negated)
        raise self._unexpected("NULL, TRUE or FALSE")

    def _column(self, operand: Operand, start: int) -> ColumnRef:
        if isinstance(operand, Constant):
            raise FilterError("A condition starts with a column.", start)
        return operand

    def _value(self) -> Operand:
        """
        An operand that may be compared; NULL is not, since no comparison with it is ever true.
        """
        start = self._next.offset
        operand = self._operand()
        if operand == Constant(None):
            raise self._null(start)
        return operand

    @staticmethod
    def _null(start: int) -> FilterError:
        return FilterError(
            "A comparison with NULL is never true.", start, "Write IS NULL or IS NOT NULL."
        )

    def _operand(self) -> Operand:
        sign = ""
        following = self._tokens[min(self._at + 1, len(self._tokens) - 1)]
        if self._next.kind in ("+", "-") and following.kind == "number":
            sign = self._take().kind
        token = self._next
        if token.kind == "number":
            self._take()
            text = sign + token.text
            return Constant(Decimal(text) if "." in text else int(text))
        if token.kind == "text":
            self._take()
            return Constant(token.text)
        if token.keyword in _LITERALS:
            self._take()
            return Constant(_LITERALS[token.keyword])
        return self._name()

    def _name(self) -> ColumnRef:
        token = self._next
        named = token.kind == "column" or (
            token.kind == "word" and token.keyword not in _KEYWORDS | _FOREIGN.keys()
        )
        if not named:
            raise self._unexpected("a column or a value")
        self._take()
        if self._next.kind == "(":
            raise self._function(token)
        if self._next.kind == "text":
            raise FilterError(
                "Typed literals are not allowed in a filter.",
                token.offset,
                "Write the 'text' alone: the database reads it as the column's type.",
            )
        return ColumnRef(token.text)


_LITERALS: dict[str, bool | None] = {"TRUE": True, "FALSE": False, "NULL": None}
