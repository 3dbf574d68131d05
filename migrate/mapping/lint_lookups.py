"""
Rules of record keys, lookups and expiry: which keys could meet, and what lookups may read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from migrate.documents.reader import Document, Loc, words
from migrate.documents.shape import suggest
from migrate.errors import Problem
from migrate.mapping.partial import (
    TEMPLATE,
    fields_of,
    problem_at,
    problem_inside,
    section_at,
    template_at,
    value_at,
)
from migrate.mapping.template import Template

SETS = ("set", "sorted_set")
"""Types of a lookup whose key holds many records."""


def _of_hashes_only(document: Document) -> Iterator[Problem]:
    if section_at(document, "lookups") and value_at(document, "target", "type") == "string":
        yield problem_at(
            document,
            ("lookups",),
            "lookup-record",
            "Lookups are kept in step with hashes; a string record has no place for them.",
            "Remove `type: string` or `lookups`.",
            key=True,
        )


def _no_sets_that_expire(document: Document) -> Iterator[Problem]:
    ttl = value_at(document, "target", "ttl")
    if not isinstance(ttl, dict) or not ttl:
        return
    for name, section in _lookups(document):
        if section.get("type") in SETS:
            yield problem_at(
                document,
                ("lookups", name, "type"),
                "lookup-ttl",
                "A record that expires cannot leave a set: the server removes it without a word.",
                "Remove this lookup or `target.ttl`; a unique lookup goes with a ttl.",
            )


def _read_fields_of_the_record(document: Document) -> Iterator[Problem]:
    for name, section in _lookups(document):
        template = template_at(document, ("lookups", name, "key"), fixed=True)
        if template is not None:
            for field, start in zip(template.names, template.starts, strict=True):
                yield from _unreadable(document, ("lookups", name, "key"), field, start)
        score = section.get("score")
        if isinstance(score, str):
            yield from _unreadable(document, ("lookups", name, "score"), score, 0)


def _unreadable(document: Document, loc: Loc, name: str, start: int) -> Iterator[Problem]:
    """
    Why a lookup cannot read a field.
    """
    items = fields_of(document)
    known = [item.name for item in items if not item.dropped and not item.masked]
    item = next((item for item in items if item.name == name), None)
    fix = suggest(name, known, "Fields") or "Name a field of the record."
    if name in section_at(document, "children") or name.partition(".")[0] in section_at(
        document, "children"
    ):
        message = f"`{words(name)}` is a collection of children, which no lookup reads."
    elif item is None and items:
        message = f"`{words(name)}` is not a field of the record."
    elif item is not None and item.dropped:
        message = f"`{words(name)}` is dropped and in no record, so no lookup can hold it."
    elif item is not None and item.masked:
        message = f"`{words(name)}` is masked, and a lookup would only ever find the mask."
    else:
        return
    yield problem_inside(document, loc, start, "lookup-field", message, fix)


RULES: tuple[Callable[[Document], Iterator[Problem]], ...] = (
    _of_hashes_only,
    _no_sets_that_expire,
    _read_fields_of_the_record,
)


@dataclass(frozen=True, slots=True)
class _Keys:
    """
    Keys that one mapping may write: those of its records, or of one of its lookups.
    """

    document: Document
    loc: Loc
    template: Template

    @property
    def whose(self) -> str:
        """
        What they are, as a problem of another mapping or lookup names it.
        """
        name = value_at(self.document, "name")
        of = f"mapping `{words(name)}`" if isinstance(name, str) else "mapping"
        what = of if self.loc == TEMPLATE else f"lookup `{words(str(self.loc[1]))}` of {of}"
        return f"{what} in {self.document.path}"


def colliding_keys(documents: Sequence[Document]) -> Iterator[Problem]:
    """
    Templates of records and lookups, of one mapping or of several, that could give the same key.
    """
    earlier: list[_Keys] = []
    for keys in (keys for document in documents for keys in _templates(document)):
        for other in earlier:
            if keys.template.overlaps(other.template):
                yield problem_at(
                    keys.document,
                    keys.loc,
                    "key-template-collides",
                    f"This template and that of {other.whose} can give the same key.",
                    "Give one of them another prefix.",
                )
        earlier.append(keys)


def _templates(document: Document) -> Iterator[_Keys]:
    record = template_at(document)
    if record is not None:
        yield _Keys(document, TEMPLATE, record)
    for name, _ in _lookups(document):
        loc = ("lookups", name, "key")
        template = template_at(document, loc, fixed=True)
        if template is not None:
            yield _Keys(document, loc, template)


def _lookups(document: Document) -> Iterator[tuple[str, dict[str, object]]]:
    for name in section_at(document, "lookups"):
        yield name, section_at(document, "lookups", name)
