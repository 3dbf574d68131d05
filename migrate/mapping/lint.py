"""
Rules of the mapping language that span several keys, or several files.

They read the document itself, not the checked model, so that a mistake in one section does not
hide those in the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from migrate.documents.reader import Document, Loc, words
from migrate.documents.shape import suggest
from migrate.errors import Problem
from migrate.mapping import lint_lookups, lint_return
from migrate.mapping.partial import (
    TEMPLATE,
    Item,
    fields_of,
    has,
    key_of,
    problem_at,
    problem_inside,
    section_at,
    template_at,
    value_at,
)
from migrate.mapping.values import Reserved


def lint(document: Document) -> list[Problem]:
    """
    Every problem of one file that its schema cannot see.
    """
    return [problem for rule in _RULES for problem in rule(document)]


def lint_together(documents: Sequence[Document]) -> list[Problem]:
    """
    Every problem between files: names given twice, keys that two mappings could both write.
    """
    return [*_same_names(documents), *lint_lookups.colliding_keys(documents)]


def _not_yet(document: Document) -> Iterator[Problem]:
    kind = value_at(document, "target", "type")
    if isinstance(kind, str) and kind.casefold() in ("json", "redisjson"):
        yield problem_at(
            document,
            ("target", "type"),
            "not-yet",
            f"`type: {words(kind)}` is not built yet in this version.",
            "Write `type: string` for JSON text, or `type: hash`.",
            key=True,
        )


def _template_names_the_key(document: Document) -> Iterator[Problem]:
    key, template = key_of(document), template_at(document)
    if not key or template is None:
        return
    for name, start in zip(template.names, template.starts, strict=True):
        if name not in key:
            yield problem_inside(
                document,
                TEMPLATE,
                start,
                "key-template-column",
                f"The placeholder {{{words(name)}}} is not a column of `source.key`.",
                suggest(name, key, "Key columns"),
            )
    for name in key:
        if name not in template.names:
            yield problem_at(
                document,
                TEMPLATE,
                "key-template-column",
                f"The key column `{words(name)}` is not in the template, so that two rows could "
                "share one record.",
                f"Add {{{words(name)}}}.",
            )


def _key_columns(document: Document) -> Iterator[Problem]:
    key = key_of(document)
    for index, name in enumerate(key):
        if name in key[:index]:
            yield problem_at(
                document,
                ("source", "key", index),
                "key-column-twice",
                f"The key column `{words(name)}` comes twice.",
                "Remove one of them.",
            )


def _reserved_names(document: Document) -> Iterator[Problem]:
    defaults = Reserved()
    given = section_at(document, "target", "reserved")
    names: dict[str, str] = {}
    for part, default in zip(_RESERVED, defaults.names(), strict=True):
        name = given.get(part, default)
        if not isinstance(name, str):
            continue
        if name in names:
            yield problem_at(
                document,
                ("target", "reserved", part),
                "reserved-name",
                f"`{part}` and `{names[name]}` have the same name.",
                "Give each a name of its own.",
            )
        names.setdefault(name, part)
    fields = [item.name for item in fields_of(document) if not item.dropped]
    places: list[Loc] = [("fields", name) for name in fields]
    places += [("children", name) for name in section_at(document, "children")]
    for place in places:
        name = str(place[-1])
        if name in names:
            what = _WORD.get(names[name], names[name])
            yield problem_at(
                document,
                place,
                "reserved-name",
                f"`{words(name)}` is the record's own field for its {what}.",
                f"Rename the field, or set another name by `target.reserved.{names[name]}`.",
                key=True,
            )


_RESERVED = ("version", "digest", "tombstone", "lookups", "expires")
"""Keys of `target.reserved`, in the order of `Reserved.names`."""

_WORD = {"expires": "expiry"}
"""What such a field is for, where its key is not the word."""


def _child_names(document: Document) -> Iterator[Problem]:
    """
    A collection is a field of the record, or a member of each child, and shares their names.
    """
    fields = {item.name for item in fields_of(document) if not item.dropped}
    for loc, section in _children(document):
        if len(loc) == len(_CHILD) and loc[-1] in fields:
            yield _same_field(document, loc, "a field of the record")
        named = _names(section.get("columns"))
        for index, name in enumerate(named):
            if name in named[:index]:
                yield problem_at(
                    document,
                    (*loc, "columns", index),
                    "column-twice",
                    f"The column `{words(name)}` comes twice.",
                    "Remove one of them.",
                )
        inner = section.get("children")
        for name in inner if isinstance(inner, dict) else ():
            if name in named:
                yield _same_field(document, (*loc, "children", name), "a member of each child")


_CHILD = ("children", "NAME")


def _same_field(document: Document, loc: Loc, what: str) -> Problem:
    return problem_at(
        document,
        loc,
        "field-twice",
        f"`{words(str(loc[-1]))}` is {what} already.",
        "Rename one of them.",
        key=True,
    )


def _names(columns: object) -> list[str]:
    """
    The names of members, of a list or of sections.
    """
    found = columns if isinstance(columns, list | dict) else ()
    return [name for name in found if isinstance(name, str)]


def _children(document: Document, *above: str) -> Iterator[tuple[Loc, dict[str, object]]]:
    """
    Every collection at any depth, as far as it can be told from the document.
    """
    for name in section_at(document, *above, "children"):
        here = (*above, "children", name)
        section = section_at(document, *here)
        if section:
            yield here, section
            yield from _children(document, *here)


def _masks(document: Document) -> Iterator[Problem]:
    key = key_of(document)
    for item in fields_of(document):
        loc = ("fields", item.name, "mask")
        if item.column in key and has(document, loc):
            yield problem_at(
                document,
                loc,
                "key-masked",
                f"`{words(item.column)}` is part of the key and leaves SQL inside the record key.",
                "Remove the mask, or choose another key.",
                key=True,
            )


def _field_columns(document: Document) -> Iterator[Problem]:
    first: dict[str, Item] = {}
    items = fields_of(document)
    for item in items:
        earlier = first.setdefault(item.column, item)
        if earlier is not item:
            yield _twice(document, earlier, item)
    key = key_of(document)
    for item in items:
        if item.dropped and item.column in key:
            yield problem_at(
                document,
                ("fields", item.name, "drop"),
                "key-dropped",
                f"`{words(item.column)}` is part of the key and leaves SQL inside the record key.",
                "Remove this field: a key column that is not listed is in no field either.",
                key=True,
            )
    if items and all(item.dropped for item in items):
        yield problem_at(
            document,
            ("fields",),
            "no-fields",
            "Every field is dropped, and only listed fields move.",
            "List the columns to move as well.",
            key=True,
        )


def _twice(document: Document, earlier: Item, item: Item) -> Problem:
    loc: Loc = ("fields", item.name)
    column, other = words(item.column), words(earlier.name)
    if earlier.dropped != item.dropped:
        message = f"The column `{column}` is moved and dropped; see the field `{other}`."
        return problem_at(
            document, loc, "dropped-and-moved", message, "Keep one of them.", key=True
        )
    message = f"The column `{column}` is in the field `{other}` already."
    fix = "Keep one field a column: the way back could not tell which holds."
    return problem_at(document, loc, "column-twice", message, fix, key=True)


_RULES: tuple[Callable[[Document], Iterator[Problem]], ...] = (
    _not_yet,
    _template_names_the_key,
    _key_columns,
    _reserved_names,
    _child_names,
    _masks,
    _field_columns,
    *lint_lookups.RULES,
    *lint_return.RULES,
)


def _same_names(documents: Sequence[Document]) -> Iterator[Problem]:
    first: dict[str, Document] = {}
    for document in documents:
        name = value_at(document, "name")
        if not isinstance(name, str):
            continue
        earlier = first.setdefault(name, document)
        if earlier is not document:
            yield problem_at(
                document,
                ("name",),
                "mapping-name-twice",
                f"The mapping `{words(name)}` is in {earlier.path} as well.",
                "Rename one of them.",
            )
