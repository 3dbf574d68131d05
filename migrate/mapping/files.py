"""
Loads the mapping files of a project, with all problems of all files at once.
"""

from __future__ import annotations

from collections.abc import Mapping as Map
from collections.abc import Sequence
from pathlib import Path

from migrate.documents.reader import Document, scan
from migrate.documents.shape import check
from migrate.errors import InvalidFiles, Problem
from migrate.mapping.identifiers import table_parts
from migrate.mapping.lint import lint, lint_together
from migrate.mapping.schema import (
    ChildSection,
    DeleteSection,
    FieldSection,
    IdsSection,
    LookupSection,
    MappingFile,
    MemberSection,
    TargetSection,
    TtlColumn,
    TtlSeconds,
)
from migrate.mapping.template import Template
from migrate.mapping.values import (
    ChildSpec,
    DeleteSpec,
    FieldSpec,
    IdMaker,
    IdsSpec,
    LookupSpec,
    Mapping,
    Reserved,
)
from migrate.mapping.where import parse_where
from migrate.model.values import Expiry, LookupKind, RecordType

SUFFIXES = frozenset({".yaml", ".yml"})
"""Other files of a mappings folder, and hidden ones, are left alone."""


def load(path: Path) -> dict[str, Mapping]:
    """
    The mappings of a folder, or of one file, by name and in the order of their names.

    Raises:
        InvalidFiles: With every problem of every file.
    """
    problems: list[Problem] = []
    documents: list[Document] = []
    mappings: list[Mapping] = []
    for file in _files(path, problems):
        document = scan(file, problems)
        if document is None:
            continue
        documents.append(document)
        model = check(MappingFile, document, problems)
        problems += lint(document)
        if model is not None:
            mappings.append(_mapping(model, document))
    problems += lint_together(documents)
    if problems:
        raise InvalidFiles(problems)
    return {mapping.name: mapping for mapping in sorted(mappings, key=lambda m: m.name)}


def _files(path: Path, problems: list[Problem]) -> list[Path]:
    """
    The files to read; a path that cannot be listed is read as a file, which says what is wrong.
    """
    try:
        if not path.is_dir():
            return [path]
        found = sorted(
            file
            for file in path.iterdir()
            if file.suffix in SUFFIXES and not file.name.startswith(".")
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "the path cannot be used"
        problems.append(
            Problem(
                str(path),
                0,
                0,
                "file-unreadable",
                f"The folder cannot be read: {reason}.",
                "Check the path and its permissions.",
            )
        )
        return []
    if not found:
        problems.append(
            Problem(
                str(path),
                0,
                0,
                "mappings-empty",
                "The folder holds no mapping file.",
                "Write one, ending in .yaml (docs/mapping.md), or name another folder.",
            )
        )
    return found


def _mapping(model: MappingFile, document: Document) -> Mapping:
    schema, table = table_parts(model.source.table)
    where = model.source.where
    fields = model.fields
    ttl = model.target.ttl
    return Mapping(
        name=model.name,
        file=document.path,
        schema=schema,
        table=table,
        key=tuple(model.source.key),
        template=Template.parse(model.target.key),
        where=None if where is None else parse_where(where),
        where_text=where,
        reserved=_reserved(model.target),
        fields=None if fields is None else tuple(_spec(*item) for item in fields.items()),
        children=_children(model.children),
        # Lint refuses the types that are neither; then nobody sees this value.
        record=RecordType.STRING if model.target.type == "string" else RecordType.HASH,
        lookups=tuple(_lookup(*item) for item in (model.lookups or {}).items()),
        expiry=_EXPIRY.get(type(ttl), Expiry.NONE),
        ttl_seconds=ttl.seconds if isinstance(ttl, TtlSeconds) else None,
        ttl_column=ttl.column if isinstance(ttl, TtlColumn) else None,
        delete=_delete(model.source.delete),
        ids=_ids(model.ids, model.source.key),
        document=document,
    )


_EXPIRY: Map[type, Expiry] = {TtlSeconds: Expiry.FIXED, TtlColumn: Expiry.COLUMN}

_KINDS: Map[str, LookupKind] = {
    "string": LookupKind.UNIQUE,
    "set": LookupKind.SET,
    "sorted_set": LookupKind.SORTED_SET,
}
"""Words of `lookups.NAME.type`."""


def _reserved(target: TargetSection) -> Reserved:
    given = target.reserved
    return Reserved(given.version, given.digest, given.tombstone, given.lookups, given.expires)


def _lookup(name: str, section: LookupSection) -> LookupSpec:
    template = Template.parse(section.key, fixed=True)
    return LookupSpec(name, _KINDS[section.type], template, section.unique, section.score)


def _delete(section: DeleteSection | None) -> DeleteSpec | None:
    return None if section is None else DeleteSpec(tuple(section.set.items()))


def _ids(section: IdsSection | None, key: Sequence[str]) -> IdsSpec | None:
    if section is None:
        return None
    sequence = None if section.sequence is None else table_parts(section.sequence)
    return IdsSpec(IdMaker(section.made_by), section.column or key[0], sequence)


def _spec(name: str, section: FieldSection | None) -> FieldSpec:
    given = section or FieldSection()
    return FieldSpec(name, given.column or name, given.form, given.drop, given.mask)


def _children(sections: Map[str, ChildSection] | None) -> tuple[ChildSpec, ...]:
    return tuple(_child(name, section) for name, section in (sections or {}).items())


def _child(name: str, section: ChildSection) -> ChildSpec:
    schema, table = table_parts(section.table)
    return ChildSpec(
        name=name,
        schema=schema,
        table=table,
        join=tuple(section.join.items()),
        order_by=tuple(section.order_by or ()),
        columns=_members(section),
        single=section.column is not None,
        children=_children(section.children),
    )


def _members(section: ChildSection) -> tuple[FieldSpec, ...]:
    if section.column is not None:
        return (FieldSpec(section.column, section.column),)
    if isinstance(section.columns, list):
        return tuple(FieldSpec(name, name) for name in section.columns)
    members = section.columns or {}
    return tuple(
        FieldSpec(name, given.column or name, given.form)
        for name, given in ((name, one or MemberSection()) for name, one in members.items())
    )
