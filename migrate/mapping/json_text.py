"""
Cells as JSON text and back, exactly: for child collections, and for records that are one text.

A cell becomes the JSON value of its kind: numbers keep every digit, and what JSON cannot say is a
string. Text is never parsed into Python's numbers, so nothing is rounded on either way (ADR 0012).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]  # public, but not typed
from json.encoder import encode_basestring
from typing import Any

from migrate.mapping.codecs import CODECS, Codec, Undecodable, Unencodable
from migrate.model.values import Cell, Kind

Spell = Callable[[Any], str]
"""A cell that is not NULL to its JSON text."""

Read = Callable[[str], Cell]
"""JSON text of one value back to its cell."""

quoted: Callable[[str], str] = encode_basestring
"""A JSON string; only what JSON says must be escaped is."""

_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:e[+-]\d\d+)?")
_NUMBERS = frozenset({Kind.INTEGER, Kind.DECIMAL, Kind.FLOAT})
_EPOCHS = frozenset({"epoch_s", "epoch_ms", "epoch_us"})
_DEEPEST = 100
"""Levels of a JSON value; readers differ in how many they take, none takes endless ones."""


@dataclass(frozen=True, slots=True)
class Value:
    """
    One kind of cell in one form, as JSON.

    Args:
        spell: Raises Unencodable, or UnicodeEncodeError for a lone surrogate.

        read: Raises Undecodable for text that `spell` never gives.

        text: Where it is a JSON string: what makes the bytes in it, before anything is escaped.
    """

    spell: Spell
    read: Read
    text: Callable[..., bytes] | None = None


def value_of(kind: Kind, codec: Codec) -> Value:
    """
    How the cells of a kind are spelled in JSON, in the form that a codec gives.
    """
    if codec.reversible:
        if kind is Kind.JSON and codec.form == "json":
            return Value(_checked_json, _read_json)
        if kind is Kind.BOOLEAN and codec.form == "digit":
            return Value(str, _read_boolean)
        if kind is Kind.BYTES and codec.form == "raw":
            return _strings(next(one for one in CODECS[kind] if one.form == "base64"))
        if codec.form in _EPOCHS or (kind in _NUMBERS and codec.form != "text"):
            return _numbers(codec, zero="-0.0" if kind is Kind.FLOAT else "-0")
    return _strings(codec)


def _strings(codec: Codec) -> Value:
    encode, decode = codec.encode, codec.decode

    def spell(cell: Any) -> str:
        return quoted(encode(cell).decode())

    def read(text: str) -> Cell:
        return decode(_string(text).encode())

    return Value(spell, read, encode)


def _numbers(codec: Codec, zero: str) -> Value:
    """
    Digits as they are; NaN and infinities as strings.

    Args:
        zero: What becomes of `-0`: many readers take it for an integer, which has no sign.
    """
    encode, decode = codec.encode, codec.decode

    def spell(cell: Any) -> str:
        text = encode(cell).decode()
        if text == "-0":
            return zero
        return text if _NUMBER.fullmatch(text) else quoted(text)

    def read(text: str) -> Cell:
        if text.startswith('"'):
            return decode(_string(text).encode())
        return decode(b"-0" if text == zero else text.encode())

    return Value(spell, read)


def _string(text: str) -> str:
    if not text.startswith('"'):
        raise Undecodable("not a JSON string")
    try:
        value, end = scanstring(text, 1)
    except ValueError:
        raise Undecodable("not a JSON string") from None
    if end != len(text):
        raise Undecodable("not a JSON string")
    return str(value)


def _read_boolean(text: str) -> Cell:
    if text not in ("true", "false"):
        raise Undecodable("neither true nor false")
    return text


def _kept(text: str) -> str:
    return text


def _not_json(word: str) -> object:
    raise ValueError(word)


_SCANNER = json.JSONDecoder(parse_int=_kept, parse_float=_kept, parse_constant=_not_json)
"""Finds where a value ends; keeps numbers as text, because a long one costs time or an error."""


def _checked_json(cell: str) -> str:
    """
    The text itself: key order, number text and blanks are the server's.
    """
    try:
        value = _SCANNER.decode(cell)
    except RecursionError:
        raise Unencodable("json-too-deep", "holds JSON of too many levels") from None
    except ValueError:
        raise Unencodable("invalid-json", "holds text that is not JSON") from None
    if _depth(value) > _DEEPEST:
        raise Unencodable("json-too-deep", f"holds JSON of more than {_DEEPEST} levels")
    return cell


def _depth(value: object) -> int:
    deepest = 0
    level: list[object] = [value]
    while level := [part for one in level for part in _parts(one)]:
        deepest += 1
    return deepest


def _parts(value: object) -> Sequence[object]:
    if isinstance(value, dict):
        return list(value.values()) or [None]
    return value or [None] if isinstance(value, list) else ()


def _read_json(text: str) -> Cell:
    return text


@dataclass(frozen=True, slots=True)
class Member:
    """
    One member of an object: its name, where its cell stands in a row, and how it is spelled.

    Args:
        column: For rejects; the path of it where a collection is the member.

        form: The codec's, for the fingerprint.
    """

    name: str
    position: int
    column: str
    value: Value
    form: str = ""


class Collection:
    """
    The rows of one child collection as one JSON array; `spell` and `read` are inverse.

    Args:
        path: Of the collection, for rejects.

        members: In the order of their names.

        inner: Collections inside each row, which become members as well.

        single: Each row is its one value, and NULL is `null`.
    """

    def __init__(
        self,
        path: str,
        members: Sequence[Member],
        inner: Sequence[tuple[str, int, Collection]] = (),
        *,
        single: bool = False,
    ) -> None:
        self.path = path
        self.single = single
        self.members = tuple(members)
        self.inner = tuple(inner)
        whole = [
            *members,
            *(
                Member(name, at, f"{path}.{name}", Value(one.spell, one.read))
                for name, at, one in inner
            ),
        ]
        self._whole = tuple(sorted(whole, key=lambda member: member.name.encode()))
        self._plan = tuple((m.position, f"{quoted(m.name)}:", m.value.spell) for m in self._whole)
        self._width = len(whole)
        self._by_name = {member.name: member for member in self._whole}

    def encode(self, rows: Sequence[Sequence[Any]]) -> bytes:
        """
        The array, compact and in UTF-8.

        Raises:
            Unencodable: A cell cannot be said in JSON; `fault` says which.
        """
        return self.spell(rows).encode()

    def spell(self, rows: Sequence[Sequence[Any]]) -> str:
        """
        The array as text.
        """
        if self.single:
            return f"[{','.join(self._values(rows))}]"
        plan = self._plan
        return (
            "["
            + ",".join(
                [
                    "{"
                    + ",".join(
                        [
                            head + spell(row[position])
                            for position, head, spell in plan
                            if row[position] is not None
                        ]
                    )
                    + "}"
                    for row in rows
                ]
            )
            + "]"
        )

    def _values(self, rows: Sequence[Sequence[Any]]) -> list[str]:
        (member,) = self.members
        spell, position = member.value.spell, member.position
        return ["null" if row[position] is None else spell(row[position]) for row in rows]

    def fault(self, rows: Sequence[Sequence[Any]]) -> tuple[str, Unencodable] | None:
        """
        The first column whose cell cannot be spelled, and why.
        """
        for row in rows:
            for member in self.members:
                cell = row[member.position]
                try:
                    if cell is not None:
                        member.value.spell(cell).encode()
                except Unencodable as refused:
                    return f"{self.path}.{member.column}", refused
                except UnicodeEncodeError:
                    lone = Unencodable("invalid-utf8", "holds a lone surrogate")
                    return f"{self.path}.{member.column}", lone
            for _, position, inner in self.inner:
                found = inner.fault(row[position])
                if found is not None:
                    return found
        return None

    def decode(self, stored: bytes) -> list[list[Any]]:
        """
        Rows of cells, with the rows of inner collections behind them, from `encode`'s bytes.

        Raises:
            Undecodable: Bytes that `encode` never gives.
        """
        try:
            text = stored.decode()
        except UnicodeDecodeError:
            raise Undecodable("not UTF-8") from None
        rows: list[list[Any]] = self.read(text)
        return rows

    def read(self, text: str) -> Any:
        """
        As `decode`, from text.
        """
        rows = [self._row(part) for part in elements(text)]
        try:
            same = self.spell(rows) == text
        except Unencodable:
            same = False
        if not same:
            raise Undecodable("not the canonical JSON of this collection")
        return rows

    def _row(self, text: str) -> list[Any]:
        row: list[Any] = [None] * self._width
        if self.single:
            (member,) = self.members
            row[member.position] = None if text == "null" else member.value.read(text)
            return row
        for name, part in members(text):
            if name not in self._by_name:
                raise Undecodable("a member that is not mapped")
            known = self._by_name[name]
            row[known.position] = known.value.read(part)
        if any(row[position] is None for _, position, _ in self.inner):
            raise Undecodable("a collection is missing; an empty one is []")
        return row


def elements(text: str) -> list[str]:
    """
    The texts of an array's elements, blanks around them included.

    Raises:
        Undecodable: The text is not an array.
    """
    found: list[str] = []
    if text == "[]":
        return found
    at = _past(text, 0, "[")
    while True:
        end = _end(text, at)
        found.append(text[at:end])
        if text[end : end + 1] != ",":
            break
        at = end + 1
    if text[end:] != "]":
        raise Undecodable("not an array")
    return found


def members(text: str) -> list[tuple[str, str]]:
    """
    The names of an object's members and their texts, blanks around those included.

    Raises:
        Undecodable: The text is not an object.
    """
    found: list[tuple[str, str]] = []
    if text == "{}":
        return found
    at = _past(text, 0, "{")
    while True:
        try:
            name, at = scanstring(text, _past(text, at, '"'))
        except ValueError:
            raise Undecodable("not an object") from None
        at = _past(text, at, ":")
        end = _end(text, at)
        found.append((name, text[at:end]))
        if text[end : end + 1] != ",":
            break
        at = end + 1
    if text[end:] != "}":
        raise Undecodable("not an object")
    return found


def _past(text: str, at: int, mark: str) -> int:
    if text[at : at + 1] != mark:
        raise Undecodable("not JSON")
    return at + 1


_BLANKS = re.compile(r"[ \t\n\r]*")


def _blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found else at


def _end(text: str, at: int) -> int:
    """
    Where the value that begins here ends, with the blanks behind it.
    """
    try:
        _, end = _SCANNER.raw_decode(text, _blanks(text, at))
    except (ValueError, RecursionError):
        raise Undecodable("not JSON") from None
    return _blanks(text, end)
