"""
Commands that read mapping files: lint, show, schema. None of them needs a server.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from migrate.cli.context import AppContext, pass_app
from migrate.cli.options import Group, json_option, mapping_argument
from migrate.mapping.choice import pick
from migrate.mapping.files import load
from migrate.mapping.schema import json_schema
from migrate.mapping.values import NOW, FieldSpec
from migrate.mapping.values import Mapping as ProfileMapping
from migrate.model.values import LookupKind
from migrate.ops.console import one_line
from migrate.ops.tables import table

_FILE_ENDINGS = (".yaml", ".yml")

path_option = click.option(
    "--path",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where the mappings are; the configured folder otherwise.",
)


@click.group(cls=Group)
def mapping() -> None:
    """
    Check and show mapping files.
    """


@mapping.command()
@click.argument("names", nargs=-1, metavar="[NAME|FILE]...")
@path_option
@json_option
@pass_app
def lint(app: AppContext, names: tuple[str, ...], path: Path | None) -> None:
    r"""
    Check mapping files; every problem at once, with file, line, column and fix.

    Reads files only; `doctor` checks them against the live schema.

    \b
    Examples:
      profile-migrate mapping lint
      profile-migrate mapping lint user_profiles
      profile-migrate mapping lint mappings/user_profiles.yaml
    """
    found = _chosen(app, names, path)
    app.emit(
        {
            "mappings": [
                {"name": one.name, "file": one.file, "one_way": one_way(one)} for one in found
            ]
        },
        "\n".join(f"{one.file}: '{one.name}' is sound.{_warned(one)}" for one in found),
    )
    first = found[0].name if len(found) == 1 else "NAME"
    app.next_step(f"profile-migrate mapping show {first}")


@mapping.command()
@mapping_argument
@path_option
@json_option
@pass_app
def show(app: AppContext, mapping: str, path: Path | None) -> None:
    r"""
    Print MAPPING as it was understood, defaults included.

    \b
    Examples:
      profile-migrate mapping show user_profiles
      profile-migrate mapping show user_profiles --json
    """
    chosen = pick(load(path or app.mappings_folder), mapping)
    app.emit(described(chosen), as_text(chosen))


@mapping.command()
@pass_app
def schema(app: AppContext) -> None:
    r"""
    Print the JSON Schema of mapping files, for editors.

    \b
    Examples:
      profile-migrate mapping schema > mapping.schema.json
    """
    app.write(json.dumps(json_schema(), indent=2))


def _chosen(app: AppContext, names: Sequence[str], path: Path | None) -> list[ProfileMapping]:
    files = [Path(name) for name in names if _is_file(name)]
    wanted = [name for name in names if not _is_file(name)]
    found = [one for file in files for one in load(file).values()]
    if wanted or not names:
        known = load(path or app.mappings_folder)
        found += [pick(known, name) for name in wanted or known]
    return found


def _warned(mapping: ProfileMapping) -> str:
    names = one_way(mapping)
    return f" One-way: {', '.join(names)}; SQL cannot be restored from them." if names else ""


def _is_file(name: str) -> bool:
    return "/" in name or name.endswith(_FILE_ENDINGS)


def described(mapping: ProfileMapping) -> dict[str, Any]:
    """
    The mapping as plain values, for `--json`; `fields` None takes every column.
    """
    fields = mapping.fields
    return {
        "name": mapping.name,
        "file": mapping.file,
        "source": {
            "schema": mapping.schema,
            "table": mapping.table,
            "key": list(mapping.key),
            "where": mapping.where_text,
            "delete": mapping.delete and {"set": dict(mapping.delete.columns)},
        },
        "target": {
            "key": mapping.template.text,
            "type": mapping.record.value,
            "ttl": _ttl(mapping),
            "reserved": asdict(mapping.reserved),
        },
        "fields": fields
        and [
            {
                "name": one.name,
                "column": one.column,
                "as": one.form,
                "drop": one.drop,
                "mask": one.mask,
            }
            for one in fields
        ],
        "children": [
            {
                "path": path,
                "table": child.table,
                "join": dict(child.join),
                "order_by": list(child.order_by),
                "columns": [one.column for one in child.columns],
                "single": child.single,
            }
            for _, path, child in mapping.collections()
        ],
        "lookups": [
            {
                "name": one.name,
                "type": _LOOKUP_TYPES[one.kind],
                "key": one.template.text,
                "unique": one.unique,
                "score": one.score,
            }
            for one in mapping.lookups
        ],
        "ids": mapping.ids
        and {
            "made_by": mapping.ids.made_by.value,
            "column": mapping.ids.column,
            "sequence": _sequence(mapping),
        },
        "one_way": one_way(mapping),
    }


_LOOKUP_TYPES = {
    LookupKind.UNIQUE: "string",
    LookupKind.SET: "set",
    LookupKind.SORTED_SET: "sorted_set",
}
"""As the mapping file spells them."""


def _ttl(mapping: ProfileMapping) -> dict[str, int | str] | None:
    if mapping.ttl_seconds is not None:
        return {"seconds": mapping.ttl_seconds}
    return None if mapping.ttl_column is None else {"column": mapping.ttl_column}


def _sequence(mapping: ProfileMapping) -> str | None:
    named = mapping.ids and mapping.ids.sequence
    return ".".join(part for part in named if part is not None) if named else None


def one_way(mapping: ProfileMapping) -> list[str]:
    """
    Fields that no way leads back from: the mapping is then not reversible.
    """
    return [one.name for one in mapping.fields or () if one.mask is not None]


def as_text(mapping: ProfileMapping) -> str:
    """
    The mapping for people.
    """
    table_name = f"{mapping.schema}.{mapping.table}" if mapping.schema else mapping.table
    facts = {
        "mapping": mapping.name,
        "file": mapping.file,
        "table": table_name,
        "key": ", ".join(mapping.key),
        "where": mapping.where_text or "every row",
        "record key": mapping.template.text,
        "type": mapping.record.value,
        "expires": _expires(mapping),
        **_way_back(mapping),
        "reserved": ", ".join(mapping.reserved.names()),
    }
    lines = [f"{name:<12}{one_line(value)}" for name, value in facts.items()]
    return "\n".join([*lines, *_fields(mapping), *_collections(mapping), *_lookups(mapping)])


def _expires(mapping: ProfileMapping) -> str:
    if mapping.ttl_seconds is not None:
        return f"{mapping.ttl_seconds} seconds after the beginning of the run"
    return "never" if mapping.ttl_column is None else f"at {mapping.ttl_column}"


def _way_back(mapping: ProfileMapping) -> dict[str, str]:
    """
    What is kept for the way back to SQL, where it is said.
    """
    facts = {}
    if mapping.delete is not None:
        changes = (f"{name} = {_spelled(value)}" for name, value in mapping.delete.columns)
        facts["delete"] = f"sets {', '.join(changes)}"
    if mapping.ids is not None:
        sequence = _sequence(mapping)
        from_ = f", sequence {sequence}" if sequence else ""
        facts["ids"] = f"{mapping.ids.column}, made by {mapping.ids.made_by.value}{from_}"
    return facts


def _spelled(value: object) -> str:
    return NOW if value == NOW else json.dumps(value)


def _fields(mapping: ProfileMapping) -> list[str]:
    if mapping.fields is None:
        return [f"{'fields':<12}every column as it is"]
    rows = [
        (one.name, one.column, "never leaves SQL" if one.drop else _form(one))
        for one in mapping.fields
    ]
    return ["", table(("field", "column", "as"), rows, align="lll")]


def _form(field: FieldSpec) -> str:
    form = field.form or "usual form"
    return f"{form}, masked by {field.mask}: one-way" if field.mask else form


def _collections(mapping: ProfileMapping) -> list[str]:
    rows = [
        (
            path,
            child.table,
            ", ".join(f"{one} = {other}" for one, other in child.join),
            ", ".join(one.column for one in child.columns),
        )
        for _, path, child in mapping.collections()
    ]
    if not rows:
        return []
    return ["", table(("children", "table", "join", "columns"), rows, align="llll")]


def _lookups(mapping: ProfileMapping) -> list[str]:
    rows = [
        (one.name, _LOOKUP_TYPES[one.kind], one.template.text, one.score or "")
        for one in mapping.lookups
    ]
    if not rows:
        return []
    return ["", table(("lookup", "type", "key", "score"), rows, align="llll")]
