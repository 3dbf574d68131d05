"""
The four layers of configuration as one table of settings: default, file, environment, flag.

Every setting remembers where it was written. Nothing is interpreted here but references to secrets.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from migrate.config.schema import (
    GatesSection,
    RedisSection,
    StoreSection,
    ThrottleSection,
    TlsSection,
    keys_of,
)
from migrate.config.values import BadValue
from migrate.documents.reader import Document
from migrate.documents.shape import suggest
from migrate.errors import Problem

PREFIX = "PROFILE_MIGRATE_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
DEFAULT_FILE = "migrate.yaml"

# Bytes; a password or URL that is longer was not meant.
MAX_SECRET = 16 * 1024

Loc = tuple[str, ...]


class Rank(IntEnum):
    """
    A higher layer wins.
    """

    FILE = 1
    ENVIRONMENT = 2
    FLAG = 3


@dataclass(frozen=True, slots=True)
class Given:
    """
    One setting as somebody wrote it, and where.

    Args:
        value: As written; may be a secret, so no repr shows it.

        file: The file, variable or flag, for a problem.

        origin: The same, for people who ask which layer won.

        folder: Where its relative paths start.
    """

    value: object = field(repr=False)
    rank: Rank
    file: str
    line: int = 0
    column: int = 0
    folder: Path = Path()

    @property
    def origin(self) -> str:
        """
        Where it comes from: `file:line`, the variable's name, or the flag.
        """
        return f"{self.file}:{self.line}" if self.line else self.file

    def problem(self, rule: str, message: str, fix: str) -> Problem:
        """
        Something that is wrong with it.
        """
        return Problem(self.file, self.line, self.column, rule, message, fix)


_STORE_KEYS = keys_of(StoreSection)
_SECTIONS: dict[str, tuple[str, ...]] = {
    "source": _STORE_KEYS,
    "ledger": _STORE_KEYS,
    "throttle": keys_of(ThrottleSection),
    "gates": keys_of(GatesSection),
}
# Settings that stand in no section.
_PLAIN = ("mappings", "bulk")
_INSTANCE_KEYS = frozenset(
    {(key,) for key in keys_of(RedisSection) if key != "tls"}
    | {("tls", key) for key in keys_of(TlsSection)}
)

# What stands for the same thing: one of them in a higher layer puts away all of them below.
_ALTERNATIVES = (
    frozenset({"url", "nodes"}),
    frozenset({"password", "password_file"}),
    frozenset({"sentinel_password", "sentinel_password_file"}),
)


def is_setting(loc: Loc) -> bool:
    """
    Whether there is a setting of this name.
    """
    match loc:
        case (name,):
            return name in _PLAIN
        case ("redis", _, *rest):
            return tuple(rest) in _INSTANCE_KEYS
        case (section, key):
            return key in _SECTIONS.get(section, ())
        case _:
            return False


def merge(layers: Iterable[Mapping[Loc, Given]]) -> dict[Loc, Given]:
    """
    One table of all layers, lowest first.
    """
    merged: dict[Loc, Given] = {}
    for layer in layers:
        for loc in layer:
            group = next((names for names in _ALTERNATIVES if loc[-1] in names), frozenset())
            for name in group:
                merged.pop((*loc[:-1], name), None)
        merged.update(layer)
    return merged


def of_file(document: Document) -> dict[Loc, Given]:
    """
    The settings of migrate.yaml; what could not be read is left out, empty sections are kept.
    """
    folder = Path(document.path).parent

    def given(loc: tuple[str | int, ...], value: object) -> Given:
        line, column = document.position(loc)
        return Given(value, Rank.FILE, document.path, line, column, folder)

    def leaves(loc: Loc, value: object) -> Iterator[tuple[Loc, Given]]:
        if isinstance(value, dict) and value and not is_setting(loc):
            for key, inner in value.items():
                yield from leaves((*loc, key), inner)
        elif document.is_broken(loc):
            return
        elif isinstance(value, list):
            yield loc, given(loc, [given((*loc, at), one) for at, one in enumerate(value)])
        else:
            yield loc, given(loc, value)

    return dict(leaves((), document.data))


_FIXED: dict[str, Loc] = {
    "SOURCE_URL": ("source", "url"),
    "SOURCE_URL_FILE": ("source", "url"),
    "SOURCE_PASSWORD_FILE": ("source", "password_file"),
    "LEDGER_URL": ("ledger", "url"),
    "MAPPINGS": ("mappings",),
}
_REDIS_VARIABLE = re.compile(r"REDIS_([A-Z][A-Z0-9_]*?)_(URL|URL_FILE|PASSWORD_FILE)")
_REDIS_ENDINGS = ("URL", "URL_FILE", "PASSWORD_FILE")
# Known to others: where the configuration is, and what the project's own tests read.
_FOREIGN = ("CONFIG", "CHINOOK")
_FOREIGN_PREFIX = "TEST_"
# Share of equal letters from which a name is taken for a typing error.
_NEAR = 0.75


def of_environment(
    environ: Mapping[str, str], instances: Iterable[str], problems: list[Problem]
) -> dict[Loc, Given]:
    """
    The settings in variables; a name that looks like a wrong one of ours is a problem.

    Args:
        instances: Redis instances that the file names.
    """
    known = {*instances, "target"}
    found: dict[Loc, Given] = {}
    for variable in sorted(name for name in environ if name.upper().startswith(PREFIX)):
        loc = _setting_of(variable, known, problems)
        if loc is None:
            continue
        given = Given(environ[variable], Rank.ENVIRONMENT, variable)
        try:
            given = _read_variable(given)
        except BadValue as bad:
            problems.append(given.problem(bad.rule, bad.message, bad.fix))
            continue
        if loc in found:
            message = f"{found[loc].file} and {variable} say the same thing twice."
            problems.append(given.problem("two-variables", message, "Unset one of them."))
        found[loc] = given
    return found


def _setting_of(variable: str, instances: set[str], problems: list[Problem]) -> Loc | None:
    name = variable[len(PREFIX) :]
    if name in _FOREIGN or name.startswith(_FOREIGN_PREFIX):
        return None
    match = _REDIS_VARIABLE.fullmatch(name)
    if variable.startswith(PREFIX) and name in _FIXED:
        return _FIXED[name]
    instance = match[1].lower() if match else ""
    if variable.startswith(PREFIX) and match and not _is_near(instance, instances):
        return ("redis", instance, "url" if match[2] == "URL_FILE" else match[2].lower())
    if nearest := _nearest_variable(name.upper(), instances):
        fix = f"Did you mean {PREFIX}{nearest}?"
        message = "No setting has this variable."
        problems.append(Problem(variable, 0, 0, "unknown-variable", message, fix))
    return None


def _is_near(name: str, known: set[str]) -> bool:
    """
    Whether a name is almost, but not quite, one of these.
    """
    return name not in known and bool(difflib.get_close_matches(name, known, 1, _NEAR))


def _nearest_variable(name: str, instances: set[str]) -> str | None:
    redis = (f"REDIS_{one.upper()}_{end}" for one in sorted(instances) for end in _REDIS_ENDINGS)
    close = difflib.get_close_matches(name, [*_FIXED, *_FOREIGN, *redis], 1, _NEAR)
    return close[0] if close else None


def _read_variable(given: Given) -> Given:
    value = str(given.value)
    if not value:
        raise BadValue("empty-value", "The variable is set, but empty.", "Unset it or fill it.")
    if given.file.endswith("_URL_FILE"):
        value = read_secret(value, given.folder)
    return Given(value, given.rank, given.file, folder=given.folder)


def of_flags(overrides: Mapping[str, str], problems: list[Problem]) -> dict[Loc, Given]:
    """
    The settings in flags, by dotted name; secrets do not belong there, every process sees them.
    """
    found: dict[Loc, Given] = {}
    for name, value in overrides.items():
        loc = tuple(name.split("."))
        given = Given(value, Rank.FLAG, f"flag {name}")
        if not is_setting(loc):
            known = [*(f"{section}.{key}" for section, keys in _SECTIONS.items() for key in keys)]
            fix = suggest(name, [*known, *_PLAIN])
            problems.append(given.problem("unknown-setting", "No setting has this name.", fix))
        elif loc[-1].endswith("password"):
            fix = "Use its password_file instead."
            problems.append(given.problem("secret-in-flag", "A flag shows its value.", fix))
        elif loc[-1] == "nodes":
            nodes = [Given(one, given.rank, given.file) for one in value.split(",")]
            found[loc] = Given(nodes, given.rank, given.file)
        else:
            found[loc] = given
    return found


_NOT_OF_A_STORE = frozenset({"retry_for", "timeout", "pool_size"})
"""How to ask a store, whichever it is: another URL does not change that."""


def put_stores(table: dict[Loc, Given], urls: Mapping[str, str]) -> None:
    """
    Other stores in the place of those that the table names, with all that belongs to their login.

    Args:
        urls: By dotted name: `source`, `ledger`, `redis.target`. They come from a program and not
            from a command line, so they may hold a password.
    """
    for name, url in urls.items():
        loc = tuple(name.split("."))
        for one in [one for one in table if one[: len(loc)] == loc]:
            if one[-1] not in _NOT_OF_A_STORE:
                del table[one]
        table[*loc, "url"] = Given(url, Rank.ENVIRONMENT, f"argument {loc[0]}")


_REFERENCE = re.compile(r"\$\{(env|file):([^{}]+)\}")


def resolve(given: Given, environ: Mapping[str, str]) -> str:
    """
    The text of a setting; in the file, `${env:NAME}` and `${file:/path}` stand for other texts.

    Raises:
        BadValue: The reference leads nowhere, or is only a part of the value.
    """
    text = str(given.value)
    if given.rank is not Rank.FILE or "${" not in text:
        return text
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise BadValue(
            "reference",
            "A reference must be ${env:NAME} or ${file:/path}, and the whole value.",
            "Put the password into `password: ${env:NAME}` or `password_file`, not into the URL.",
        )
    if match[1] == "file":
        return read_secret(match[2], given.folder)
    if not environ.get(match[2]):
        # The name is shown where it can be one: anything else may be a password in its place.
        name = f" {match[2]}" if re.fullmatch(r"[A-Z][A-Z0-9_]*", match[2]) else ""
        raise BadValue(
            "unresolved-reference",
            f"The variable{name} is not set, or is empty.",
            "Set it, or correct its name.",
        )
    return _decoded(environ[match[2]])


def _decoded(text: str) -> str:
    if re.search("[\ud800-\udfff]", text):
        message = "The variable holds bytes that are not UTF-8."
        raise BadValue("bad-character", message, "Set it as UTF-8, or use a file.")
    return text


def is_reference(given: Given) -> bool:
    """
    Whether the value is read from elsewhere.
    """
    return "${" in str(given.value)


def read_secret(path: str, folder: Path) -> str:
    """
    The text in a file without one newline at its end.

    Raises:
        BadValue: There is none. The path is not repeated: it may be the secret, in the wrong place.
    """
    where = "Check the path; a relative one starts at the folder of the file that names it."
    try:
        with (folder / path).open("rb") as file:
            content = file.read(MAX_SECRET + 1)
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise BadValue("unreadable-file", "The secret's file is not UTF-8.", where) from None
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or "the path cannot be used").lower()
        raise BadValue(
            "unreadable-file", f"The secret's file cannot be read: {reason}.", where
        ) from None
    text = text.removesuffix("\r\n" if text.endswith("\r\n") else "\n")
    if not text:
        raise BadValue(
            "unreadable-file", "The secret's file is empty.", "Write the secret into it."
        )
    if len(content) > MAX_SECRET:
        raise BadValue("unreadable-file", "The secret's file is larger than 16 KiB.", where)
    return text
