"""
A mapping as far as it can be told from its document, whatever else is wrong in it.

For rules that span several keys: a value of the wrong shape is the schema's affair, and is passed
over here, so that a mistake in one section does not hide those in the others.
"""

from __future__ import annotations

from dataclasses import dataclass

from migrate.documents.reader import Document, Loc
from migrate.errors import Problem
from migrate.mapping.template import Template, TemplateError

TEMPLATE: Loc = ("target", "key")
"""Where the template of the record key is written."""


@dataclass(frozen=True, slots=True)
class Item:
    """
    A field as far as it can be told from the document.
    """

    name: str
    column: str
    dropped: bool
    masked: bool


def fields_of(document: Document) -> list[Item]:
    """
    The fields that are listed; none where every column is taken.
    """
    found = []
    for name, value in section_at(document, "fields").items():
        given = value if isinstance(value, dict) else {}
        column = given.get("column")
        found.append(
            Item(
                name,
                column if isinstance(column, str) else name,
                given.get("drop") is True,
                "mask" in given,
            )
        )
    return found


def key_of(document: Document) -> list[str]:
    """
    The columns of the key.
    """
    key = value_at(document, "source", "key")
    return [name for name in key if isinstance(name, str)] if isinstance(key, list) else []


def template_at(document: Document, loc: Loc = TEMPLATE, *, fixed: bool = False) -> Template | None:
    """
    The template at a place, if it is one.
    """
    text = value_at(document, *loc)
    try:
        return Template.parse(text, fixed=fixed) if isinstance(text, str) else None
    except TemplateError:
        return None


def value_at(document: Document, *loc: str | int) -> object:
    """
    What is at a place; None where there is nothing, or nothing that could be read.
    """
    found: object = document.data
    for part in loc:
        found = found.get(part) if isinstance(found, dict) else None
    return None if document.is_broken(loc) else found


def section_at(document: Document, *loc: str | int) -> dict[str, object]:
    """
    The section at a place; empty where there is none.
    """
    found = value_at(document, *loc)
    return found if isinstance(found, dict) else {}


def has(document: Document, loc: tuple[str, ...]) -> bool:
    """
    Whether the file has a key at this place.
    """
    return loc[-1] in section_at(document, *loc[:-1])


def problem_at(
    document: Document, loc: Loc, rule: str, message: str, fix: str, *, key: bool = False
) -> Problem:
    """
    What is wrong at a place of a file: of the value there, or of its key.
    """
    line, column = document.position(loc, key=key)
    return Problem(document.path, line, column, rule, message, fix)


def problem_inside(
    document: Document, loc: Loc, offset: int, rule: str, message: str, fix: str
) -> Problem:
    """
    What is wrong at one character of a text.
    """
    line, column = document.inside(loc, offset)
    return Problem(document.path, line, column, rule, message, fix)
