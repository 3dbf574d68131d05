"""
Rules of the mapping language that span several keys, or several files.

They read the document itself, not the checked model, so that a mistake in one section does not
hide those in the others: a value of the wrong shape is the schema's affair and is passed over here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from migrate.documents.reader import Document, Loc, words
from migrate.documents.shape import suggest
from migrate.errors import Problem
from migrate.mapping.template import Template, TemplateError
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
    return [*_same_names(documents), *_colliding_templates(documents)]


def _not_yet(document: Document) -> Iterator[Problem]:
    for loc in _NOT_YET:
        if _has(document, loc):
            yield _refuse_feature(document, loc, loc[-1])
    ttl = _value(document, "target", "ttl")
    if isinstance(ttl, dict) and ttl:
        yield _refuse_feature(document, ("target", "ttl"), "ttl")
    kind = _value(document, "target", "type")
    if isinstance(kind, str) and kind.casefold() in ("json", "redisjson"):
        fix = "Write `type: string` for JSON text, or `type: hash`."
        yield _refuse_feature(document, ("target", "type"), f"type: {words(kind)}", fix)


_NOT_YET: tuple[tuple[str, ...], ...] = (
    ("lookups",),
    ("ids",),
    ("source", "delete"),
)
"""Parts of the language that a later version builds."""


def _refuse_feature(document: Document, loc: Loc, word: object, fix: str = "") -> Problem:
    return _problem(
        document,
        loc,
        "not-yet",
        f"`{word}` is not built yet in this version.",
        fix or "Remove it.",
        key=True,
    )


def _template_names_the_key(document: Document) -> Iterator[Problem]:
    key, template = _key(document), _template(document)
    if not key or template is None:
        return
    for name, start in zip(template.names, template.starts, strict=True):
        if name not in key:
            line, column = document.inside(_TEMPLATE, start)
            yield Problem(
                document.path,
                line,
                column,
                "key-template-column",
                f"The placeholder {{{words(name)}}} is not a column of `source.key`.",
                suggest(name, key, "Key columns"),
            )
    for name in key:
        if name not in template.names:
            yield _problem(
                document,
                _TEMPLATE,
                "key-template-column",
                f"The key column `{words(name)}` is not in the template, so that two rows could "
                "share one record.",
                f"Add {{{words(name)}}}.",
            )


_TEMPLATE: Loc = ("target", "key")


def _key_columns(document: Document) -> Iterator[Problem]:
    key = _key(document)
    for index, name in enumerate(key):
        if name in key[:index]:
            yield _problem(
                document,
                ("source", "key", index),
                "key-column-twice",
                f"The key column `{words(name)}` comes twice.",
                "Remove one of them.",
            )


def _reserved_names(document: Document) -> Iterator[Problem]:
    defaults = Reserved()
    given = _section(document, "target", "reserved")
    names: dict[str, str] = {}
    for part, default in zip(_RESERVED, defaults.names(), strict=True):
        name = given.get(part, default)
        if not isinstance(name, str):
            continue
        if name in names:
            yield _problem(
                document,
                ("target", "reserved", part),
                "reserved-name",
                f"`{part}` and `{names[name]}` have the same name.",
                "Give each a name of its own.",
            )
        names.setdefault(name, part)
    fields = [item.name for item in _fields(document) if not item.dropped]
    places: list[Loc] = [("fields", name) for name in fields]
    places += [("children", name) for name in _section(document, "children")]
    for place in places:
        name = str(place[-1])
        if name in names:
            yield _problem(
                document,
                place,
                "reserved-name",
                f"`{words(name)}` is the record's own field for its {names[name]}.",
                f"Rename the field, or set another name by `target.reserved.{names[name]}`.",
                key=True,
            )


_RESERVED = ("version", "digest", "tombstone", "lookups", "expires")
"""Keys of `target.reserved`, in the order of `Reserved.names`."""


def _child_names(document: Document) -> Iterator[Problem]:
    """
    A collection is a field of the record, or a member of each child, and shares their names.
    """
    fields = {item.name for item in _fields(document) if not item.dropped}
    for loc, section in _children(document):
        if len(loc) == len(_CHILD) and loc[-1] in fields:
            yield _same_field(document, loc, "a field of the record")
        named = _names(section.get("columns"))
        for index, name in enumerate(named):
            if name in named[:index]:
                yield _problem(
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
    return _problem(
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
    for name in _section(document, *above, "children"):
        here = (*above, "children", name)
        section = _section(document, *here)
        if section:
            yield here, section
            yield from _children(document, *here)


def _masks(document: Document) -> Iterator[Problem]:
    key = _key(document)
    for item in _fields(document):
        loc = ("fields", item.name, "mask")
        if item.column in key and _has(document, loc):
            yield _problem(
                document,
                loc,
                "key-masked",
                f"`{words(item.column)}` is part of the key and leaves SQL inside the record key.",
                "Remove the mask, or choose another key.",
                key=True,
            )


def _field_columns(document: Document) -> Iterator[Problem]:
    first: dict[str, _Item] = {}
    items = _fields(document)
    for item in items:
        earlier = first.setdefault(item.column, item)
        if earlier is not item:
            yield _twice(document, earlier, item)
    key = _key(document)
    for item in items:
        if item.dropped and item.column in key:
            yield _problem(
                document,
                ("fields", item.name, "drop"),
                "key-dropped",
                f"`{words(item.column)}` is part of the key and leaves SQL inside the record key.",
                "Remove this field: a key column that is not listed is in no field either.",
                key=True,
            )
    if items and all(item.dropped for item in items):
        yield _problem(
            document,
            ("fields",),
            "no-fields",
            "Every field is dropped, and only listed fields move.",
            "List the columns to move as well.",
            key=True,
        )


def _twice(document: Document, earlier: _Item, item: _Item) -> Problem:
    loc: Loc = ("fields", item.name)
    column, other = words(item.column), words(earlier.name)
    if earlier.dropped != item.dropped:
        message = f"The column `{column}` is moved and dropped; see the field `{other}`."
        return _problem(document, loc, "dropped-and-moved", message, "Keep one of them.", key=True)
    message = f"The column `{column}` is in the field `{other}` already."
    fix = "Keep one field a column: the way back could not tell which holds."
    return _problem(document, loc, "column-twice", message, fix, key=True)


_RULES: tuple[Callable[[Document], Iterator[Problem]], ...] = (
    _not_yet,
    _template_names_the_key,
    _key_columns,
    _reserved_names,
    _child_names,
    _masks,
    _field_columns,
)


def _same_names(documents: Sequence[Document]) -> Iterator[Problem]:
    first: dict[str, Document] = {}
    for document in documents:
        name = _value(document, "name")
        if not isinstance(name, str):
            continue
        earlier = first.setdefault(name, document)
        if earlier is not document:
            yield _problem(
                document,
                ("name",),
                "mapping-name-twice",
                f"The mapping `{words(name)}` is in {earlier.path} as well.",
                "Rename one of them.",
            )


def _colliding_templates(documents: Sequence[Document]) -> Iterator[Problem]:
    earlier: list[tuple[Document, Template]] = []
    for document in documents:
        template = _template(document)
        if template is None:
            continue
        for other, theirs in earlier:
            if template.overlaps(theirs):
                name = _value(other, "name")
                of = f"mapping `{words(name)}`" if isinstance(name, str) else "mapping"
                yield _problem(
                    document,
                    _TEMPLATE,
                    "key-template-collides",
                    f"This template and that of {of} in {other.path} can give the same key.",
                    "Give one of them another prefix.",
                )
        earlier.append((document, template))


@dataclass(frozen=True, slots=True)
class _Item:
    """
    A field as far as it can be told from the document.
    """

    name: str
    column: str
    dropped: bool


def _fields(document: Document) -> list[_Item]:
    found = []
    for name, value in _section(document, "fields").items():
        section = value if isinstance(value, dict) else {}
        column = section.get("column")
        found.append(
            _Item(name, column if isinstance(column, str) else name, section.get("drop") is True)
        )
    return found


def _key(document: Document) -> list[str]:
    key = _value(document, "source", "key")
    return [name for name in key if isinstance(name, str)] if isinstance(key, list) else []


def _template(document: Document) -> Template | None:
    text = _value(document, *_TEMPLATE)
    try:
        return Template.parse(text) if isinstance(text, str) else None
    except TemplateError:
        return None


def _value(document: Document, *loc: str | int) -> object:
    value: object = document.data
    for part in loc:
        value = value.get(part) if isinstance(value, dict) else None
    return None if document.is_broken(loc) else value


def _section(document: Document, *loc: str | int) -> dict[str, object]:
    value = _value(document, *loc)
    return value if isinstance(value, dict) else {}


def _has(document: Document, loc: tuple[str, ...]) -> bool:
    return loc[-1] in _section(document, *loc[:-1])


def _problem(
    document: Document, loc: Loc, rule: str, message: str, fix: str, *, key: bool = False
) -> Problem:
    line, column = document.position(loc, key=key)
    return Problem(document.path, line, column, rule, message, fix)
