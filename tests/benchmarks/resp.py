"""
The recipe of `psql | redis-cli --pipe`: one SELECT that prints the protocol of Redis.

As it is passed on, the server counts the length of every word as it prints it: a command's name and
a field's like any value. That is `usual`. What all rows have in common can be counted beforehand,
which makes the same SELECT a fifth faster, and a good deal harder to write: `lean`.
"""

from __future__ import annotations

from tests.benchmarks.data import PROFILE

ALWAYS = [name for name in PROFILE if name != "bio"]
"""Columns that are never NULL."""


def usual(table: str) -> str:
    """
    Each word with its length, counted by the server; psql adds the last line feed.
    """
    bio = _line(_word("'bio'"), _word("bio"))
    words = ["'HSET'", "'profile:' || id"]
    for name in ALWAYS:
        words += (f"'{name}'", as_text(name))
    parts = [
        f"'*' || (CASE WHEN bio IS NULL THEN {len(words)} ELSE {len(words) + 2} END)",
        *map(_word, words),
    ]
    return rf"SELECT {_line(*parts)} || COALESCE(E'\r\n' || {bio}, '') || E'\r' FROM {table};" "\n"


def lean(table: str) -> str:
    """
    The same lines, with the lengths that every row shares written into the statement.
    """
    parts = [
        f"'*' || (CASE WHEN bio IS NULL THEN {2 + 2 * len(ALWAYS)} ELSE {4 + 2 * len(ALWAYS)} END)",
        r"E'\r\n$4\r\nHSET\r\n$' || octet_length('profile:' || id)",
        r"E'\r\nprofile:' || id",
        r"COALESCE(E'\r\n$3\r\nbio\r\n$' || octet_length(bio) || E'\r\n' || bio, '')",
    ]
    for name in ALWAYS:
        value = as_text(name)
        parts.append(
            rf"E'\r\n${len(name)}\r\n{name}\r\n$' || octet_length({value}) || E'\r\n' || {value}"
        )
    return f"SELECT {' || '.join(parts)} || E'\\r' FROM {table};\n"


def as_text(name: str) -> str:
    """
    The column as its record has it.
    """
    forms = {"is_verified": "is_verified::int::text", "created_at": "replace({}::text, ' ', 'T')"}
    return forms.get(name, "{}::text").format(name)


def _word(value: str) -> str:
    return rf"'$' || octet_length({value}) || E'\r\n' || {value}"


def _line(*parts: str) -> str:
    return r" || E'\r\n' || ".join(parts)


__all__ = ["as_text", "lean", "usual"]
