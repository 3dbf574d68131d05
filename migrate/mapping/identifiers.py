"""
Names that a mapping may hold: of tables, columns, record fields and mappings.

Every SQL name is quoted by the adapter that uses it; what is refused here is what only an attack
or an accident writes.
"""

from __future__ import annotations

import re

MAX_NAME = 128
"""Characters of one SQL or field name, at most; no supported database takes longer ones."""

MAPPING_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
"""A mapping's name appears in Redis keys, file names, metrics and the shell."""

_HOSTILE: tuple[tuple[str, str], ...] = (
    # what is in the name, how to call it
    (";", "a semicolon"),
    ("--", "a comment marker"),
    ("/*", "a comment marker"),
    ("*/", "a comment marker"),
    ('"', "a quote"),
    ("'", "a quote"),
    ("`", "a quote"),
)

_PART = re.compile(r'"((?:[^"])*)"|([^".]+)')


def name_problem(name: str) -> str | None:
    """
    Why this cannot be the name of a column or field, in words; None when it can.
    """
    if not name.strip():
        return "The name is empty."
    if len(name) > MAX_NAME:
        return f"The name is longer than {MAX_NAME} characters."
    if not name.isprintable():
        return "The name holds a control or invisible character."
    found = next((what for mark, what in _HOSTILE if mark in name), None)
    return found and f"The name holds {found}."


def table_parts(text: str) -> tuple[str | None, str]:
    """
    Schema and table of `table`, `schema.table` or `"My.Schema"."My Table"`.

    Raises:
        ValueError: It is none of these; says why.
    """
    parts, at = [], 0
    while True:
        match = _PART.match(text, at)
        if match is None:
            raise ValueError(name_problem(text) or "A table is written `table` or `schema.table`.")
        part = match[1] if match[1] is not None else match[2]
        if problem := name_problem(part):
            raise ValueError(problem)
        parts.append(part)
        at = match.end()
        if at == len(text):
            break
        if text[at] != ".":
            raise ValueError(name_problem(text) or "A table is written `table` or `schema.table`.")
        at += 1
    if len(parts) > 2:
        raise ValueError("A table has at most a schema before it.")
    return (parts[0], parts[1]) if len(parts) == 2 else (None, parts[0])
