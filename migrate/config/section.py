"""
One section of the merged settings while it becomes a value, with every problem on the way.

Knows how texts, references and tables of parsers are read; not what a store needs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from migrate.config.layers import Given, Loc, Rank, is_reference, is_setting, read_secret, resolve
from migrate.config.values import BadValue
from migrate.documents.reader import Document
from migrate.errors import Problem
from migrate.model.secret import Secret

T = TypeVar("T")

# NUL, and surrogates but for those that stand for undecodable bytes in names of files.
_NO_PATH = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")

Parsers = Mapping[str, tuple[str, Callable[[object], object]]]
"""Key -> (name of the field, what reads it)."""


@dataclass(frozen=True, slots=True)
class Merged:
    """
    All layers as one table, and what is needed to read it.

    Args:
        problems: Grows; whoever made it raises them.
    """

    table: dict[Loc, Given]
    environ: Mapping[str, str]
    document: Document | None
    problems: list[Problem]
    origin: dict[str, str]

    @property
    def folder(self) -> Path:
        """
        Where relative defaults start.
        """
        return Path(self.document.path).parent if self.document else Path()

    def section(self, loc: Loc) -> Section:
        """
        The settings below one place.
        """
        depth = len(loc)
        below = {
            ".".join(place[depth:]): given
            for place, given in self.table.items()
            if place[:depth] == loc and len(place) > depth
        }
        return Section(self, loc, self.place(loc, below.values()), below)

    def place(self, loc: Loc, given: Iterable[Given] = ()) -> Given:
        """
        Where a section is written: its key in the file, else the highest layer that names it.
        """
        one = max(given, key=lambda given: given.rank, default=None)
        if self.document is not None and (one is None or one.rank is Rank.FILE):
            line, column = self.document.position(loc, key=True)
            return Given(None, Rank.FILE, self.document.path, line, column)
        return one or Given(None, Rank.ENVIRONMENT, "environment (there is no migrate.yaml)")

    def is_spoiled(self, loc: Loc) -> bool:
        """
        Whether the file has something at or below this place that is a problem already.
        """
        broken = self.document.broken if self.document else frozenset()
        unknown = (
            place
            for place, given in self.table.items()
            if not is_setting(place) and given.value not in (None, {})
        )
        return any(place[: len(loc)] == loc for place in (*broken, *unknown))


class Section:
    """
    The settings below one place.

    Attributes:
        fields: What has been read so far, by the name of the value's field.

        failed: Something here was a problem: what seems to be missing may be its consequence.
    """

    def __init__(self, merged: Merged, loc: Loc, at: Given, given: dict[str, Given]) -> None:
        self._merged = merged
        self.loc = loc
        self.at = at
        self.given = given
        self.fields: dict[str, Any] = {}
        self.failed = merged.is_spoiled(loc)

    def refuse(self, rule: str, message: str, fix: str, at: Given | None = None) -> None:
        """
        Note a problem, at a setting or at the section's own name.
        """
        self.failed = True
        self._merged.problems.append((at or self.at).problem(rule, message, fix))

    def done(self) -> None:
        """
        Note where its settings came from.
        """
        for key, given in self.given.items():
            self._merged.origin[".".join((*self.loc, key))] = given.origin

    def fill(self, parsers: Parsers) -> None:
        """
        Read the keys of a table.
        """
        for key, (name, parse) in parsers.items():
            given = self.given.get(key)
            if given is None:
                continue
            try:
                self.fields[name] = parse(given.value)
            except BadValue as bad:
                dotted = ".".join((*self.loc, key))
                self.refuse(bad.rule, f"`{dotted}`: {bad.message}", bad.fix, given)

    def text(self, key: str) -> str | None:
        """
        The text of a key, its reference resolved; None where there is none.
        """
        given = self.given.get(key)
        return None if given is None else self.text_of(given)

    def text_of(self, given: Given) -> str | None:
        """
        The text of one setting.
        """
        if not isinstance(given.value, str):
            # Only the file holds other values than text, and its shape has been refused already.
            self.failed = True
            return None
        try:
            text = resolve(given, self._merged.environ)
        except BadValue as bad:
            self.refuse(bad.rule, bad.message, bad.fix, given)
            return None
        if not text:
            fix = "Write a value, or remove the key."
            self.refuse("empty-value", "The value is empty.", fix, given)
            return None
        return text

    def parsed(self, key: str, parse: Callable[[str], T]) -> T | None:
        """
        The value of a text; None where there is none or it cannot be read.
        """
        text = self.text(key)
        if text is None:
            return None
        try:
            return parse(text)
        except BadValue as bad:
            self.refuse(bad.rule, bad.message, bad.fix, self.given[key])
            return None

    def path(self, key: str) -> str | None:
        """
        A path, put beside the file that names it; relative to the working directory elsewhere.
        """
        text = self.text(key)
        if text is None:
            return None
        if _NO_PATH.search(text):
            fix = "Write the path of a file."
            self.refuse("path", "No path holds such a character.", fix, self.given[key])
            return None
        return str(self.given[key].folder / text)

    def truth(self, key: str) -> bool | None:
        """
        True or false; flags spell it.
        """
        given = self.given.get(key)
        if given is None:
            return None
        found = {"true": True, "false": False}.get(str(given.value).lower())
        if found is None and given.rank is not Rank.FILE:
            self.refuse("wrong-type", "This is neither true nor false.", "Write true.", given)
        self.failed |= found is None
        return found

    def take(self, key: str, **parts: Any) -> None:
        """
        Parts of a URL as if they were keys: the higher layer wins, one layer may not say both.
        """
        given = self.given[key]
        if parts.get("password") and given.rank is Rank.FLAG:
            fix = "Leave the password out of it and use password_file."
            self.refuse("secret-in-flag", "Every process of the machine sees flags.", fix, given)
        for name, value in parts.items():
            if value is not None:
                self._take_part(given, name, value)

    def _take_part(self, url: Given, name: str, value: object) -> None:
        rivals = ("password", "password_file") if name == "password" else (name,)
        rival = next((self.given[one] for one in rivals if one in self.given), None)
        if rival is not None and rival.rank == url.rank:
            message = f"The url holds a {name} already."
            self.refuse(f"two-{name}s", message, "Keep one of them.", rival)
        elif rival is None or rival.rank < url.rank:
            self.fields[name] = value
            for one in rivals:
                self.given.pop(one, None)

    def login(self, prefix: str = "") -> None:
        """
        User and password from their keys; the password from its file or its reference.
        """
        username = self.text(f"{prefix}username")
        if username is not None:
            self.fields[f"{prefix}username"] = username
        key, file_key = f"{prefix}password", f"{prefix}password_file"
        if key in self.given and file_key in self.given:
            message = f"Both {key} and {file_key} are given."
            self.refuse("two-passwords", message, "Keep one of them.", self.given[file_key])
        for secret in (self._password(key, file_key), self._password_of_file(file_key)):
            if secret is not None:
                self.fields[key] = secret

    def _password(self, key: str, file_key: str) -> Secret | None:
        given = self.given.get(key)
        if given is not None and isinstance(given.value, str) and not is_reference(given):
            message = "A password does not belong in this file."
            fix = f"Write {key}: ${{env:NAME}}, or use {file_key}."
            self.refuse("plain-password", message, fix, given)
            return None
        text = self.text(key)
        return None if text is None else Secret(text)

    def _password_of_file(self, key: str) -> Secret | None:
        path = self.text(key)
        if path is None:
            return None
        given = self.given[key]
        try:
            return Secret(read_secret(path, given.folder))
        except BadValue as bad:
            self.refuse(bad.rule, bad.message, bad.fix, given)
            return None
