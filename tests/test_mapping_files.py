"""
Mapping files: what they become, and the schema that editors get.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from migrate.documents.reader import read
from migrate.errors import ExitCode, InvalidFiles
from migrate.mapping.files import load
from migrate.mapping.identifiers import table_parts
from migrate.mapping.schema import MappingFile, json_schema
from migrate.mapping.values import FieldSpec, Mapping, Reserved
from migrate.model.filter import ColumnRef, IsNull
from tests.test_bad_files import BAD

ROOT = Path(__file__).resolve().parent.parent

WHOLE = """\
version: 1
name: user_profiles
source:
  table: '"My Schema".user_profiles'
  key: [tenant, id]
  where: "deleted_at IS NULL"
target:
  key: "profile:{tenant}:{id}"
  type: hash
  ttl: none
  reserved: {version: _version, tombstone: _gone}
fields:
  id:
  email: {column: email_address}
  created_at: {as: iso8601}
  password_hash: {drop: true}
"""

SMALL = """\
version: 1
name: small
source: {table: t, key: [id]}
target: {key: "small:{id}"}
"""


def test_a_file_becomes_a_mapping(tmp_path: Path) -> None:
    """
    Every key of the language has its place in the value.
    """
    file = tmp_path / "profiles.yaml"
    file.write_text(WHOLE)

    mapping = load(file)["user_profiles"]

    assert mapping == Mapping(
        name="user_profiles",
        file=str(file),
        schema="My Schema",
        table="user_profiles",
        key=("tenant", "id"),
        template=mapping.template,
        where=IsNull(ColumnRef("deleted_at")),
        where_text="deleted_at IS NULL",
        reserved=Reserved("_version", "_h", "_gone"),
        fields=(
            FieldSpec("id", "id"),
            FieldSpec("email", "email_address"),
            FieldSpec("created_at", "created_at", form="iso8601"),
            FieldSpec("password_hash", "password_hash", drop=True),
        ),
    )
    assert mapping.template.text == "profile:{tenant}:{id}"


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    """
    Four lines are a mapping: every row, every column, the usual reserved names.
    """
    (tmp_path / "small.yml").write_text(SMALL)

    mapping = load(tmp_path)["small"]

    assert (mapping.schema, mapping.where, mapping.fields) == (None, None, None)
    assert mapping.reserved.names() == ("_v", "_h", "_t", "_l", "_e")


def test_a_folder_holds_one_mapping_a_file(tmp_path: Path) -> None:
    """
    Files ending in .yaml and .yml are read, hidden and other ones left alone; names are in order.
    """
    (tmp_path / "1.yaml").write_text(SMALL.replace("small", "z"))
    (tmp_path / "2.yml").write_text(SMALL.replace("small:", "small-a:").replace("small\n", "a\n"))
    (tmp_path / ".hidden.yaml").write_text("not: a mapping")
    (tmp_path / "readme.md").write_text("# Mappings")
    (tmp_path / "old").mkdir()

    with pytest.raises(InvalidFiles) as caught:
        load(tmp_path)

    assert [p.rule for p in caught.value.problems] == ["key-template"]  # "z:" is too short
    (tmp_path / "1.yaml").write_text(SMALL)
    assert list(load(tmp_path)) == ["a", "small"]


def test_a_problem_of_the_live_schema_finds_its_place(tmp_path: Path) -> None:
    """
    Whoever compares a mapping with a database can point at the key or value that is wrong.
    """
    file = tmp_path / "profiles.yaml"
    file.write_text(WHOLE)
    mapping = load(file)["user_profiles"]

    value = mapping.problem(("fields", "email", "column"), "missing-column", "No.", "Yes.")
    key = mapping.problem(("fields", "id"), "missing-column", "No.", "Yes.", key=True)
    fallback = mapping.problem(("fields", "id", "column"), "missing-column", "No.", "Yes.")

    assert str(value) == f"{file}:14:19: [missing-column] No. Yes."
    assert (key.line, key.column) == (fallback.line, fallback.column) == (13, 3)


def test_the_repr_of_a_mapping_holds_no_document(tmp_path: Path) -> None:
    """
    Two mappings are equal where they mean the same, wherever they were written.
    """
    (tmp_path / "a.yaml").write_text(SMALL)
    one = load(tmp_path / "a.yaml")["small"]
    (tmp_path / "a.yaml").write_text("# a comment\n\n" + SMALL)

    assert load(tmp_path / "a.yaml")["small"] == one
    assert "Document" not in repr(one)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("users", (None, "users")),
        ("public.users", ("public", "users")),
        ('"My.Schema"."My Table"', ("My.Schema", "My Table")),
        ('public."Üser"', ("public", "Üser")),
        ("My Table", (None, "My Table")),
    ],
)
def test_tables_are_written_with_or_without_schema(
    text: str, expected: tuple[str | None, str]
) -> None:
    """
    A dot separates, double quotes keep what is between them.
    """
    assert table_parts(text) == expected


def test_problems_of_all_files_come_at_once(tmp_path: Path) -> None:
    """
    A file that is no YAML does not hide what is wrong in the others; exit code 2.
    """
    (tmp_path / "a.yaml").write_text("a: [")
    (tmp_path / "b.yaml").write_bytes(b"\xff")
    (tmp_path / "c.yaml").write_text(SMALL.replace("key: [id]", "key: id"))
    (tmp_path / "d.yaml").mkdir()

    with pytest.raises(InvalidFiles) as caught:
        load(tmp_path)

    assert [(Path(p.file).name, p.rule) for p in caught.value.problems] == [
        ("a.yaml", "yaml-syntax"),
        ("b.yaml", "file-encoding"),
        ("c.yaml", "wrong-type"),
        ("d.yaml", "file-directory"),
    ]
    assert caught.value.exit_code == ExitCode.USAGE
    assert caught.value.what.startswith("4 problems")


def test_a_path_without_mappings_is_refused(tmp_path: Path) -> None:
    """
    An empty folder and a missing one say so, instead of a run that moves nothing.
    """
    for path, rule in ((tmp_path, "mappings-empty"), (tmp_path / "no", "file-missing")):
        with pytest.raises(InvalidFiles) as caught:
            load(path)

        assert [p.rule for p in caught.value.problems] == [rule]


def test_the_shipped_mapping_is_sound() -> None:
    """
    The example moves what it lists and keeps the password hash in SQL.
    """
    mapping = load(ROOT / "mappings")["user_profiles"]

    assert mapping.fields is not None
    assert [f.column for f in mapping.fields if f.drop] == ["password_hash"]
    assert "deleted_at" not in {f.column for f in mapping.fields}


def test_the_published_schema_is_the_one_of_the_program() -> None:
    """
    Editors check against what the program accepts (make it anew: python -m tests.test_docs).
    """
    published = json.loads((ROOT / "docs" / "schema" / "mapping.schema.json").read_text())

    assert published == json_schema()


def test_the_schema_keeps_to_what_editors_understand() -> None:
    """
    Nothing newer than draft 7, a description for every key, and null is never offered for a key.
    """
    nodes = list(_nodes(json_schema()))

    assert not any(
        {"prefixItems", "unevaluatedProperties", "$dynamicRef"} & n.keys() for n in nodes
    )
    assert all("default" not in n or n["default"] is not None for n in nodes)
    for properties in (n["properties"] for n in nodes if isinstance(n.get("properties"), dict)):
        assert all("description" in p for p in properties.values()), properties


def test_every_key_of_the_language_is_in_the_reference() -> None:
    """
    docs/mapping.md explains every key that a mapping may hold.
    """
    text = (ROOT / "docs" / "mapping.md").read_text()
    keys = {
        key
        for node in _nodes(json_schema())
        if isinstance(node.get("properties"), dict)
        for key in node["properties"]
    }

    explained = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`([^`\n]+)`", text))))

    assert keys - explained == set()


def test_every_rule_is_in_the_reference() -> None:
    """
    docs/mapping.md lists every rule that a bad file can break, and no other.
    """
    text = (ROOT / "docs" / "mapping.md").read_text()
    listed = text[text.index("## What lint says") : text.index("## Parsed")]
    code = "".join(
        (ROOT / "migrate" / part).read_text()
        for part in (
            "documents/reader.py",
            "documents/shape.py",
            "mapping/schema.py",
            "mapping/lint.py",
            "mapping/lint_lookups.py",
            "mapping/lint_return.py",
            "mapping/files.py",
        )
    )
    rules = set(re.findall(r"^\| (`.*?`) \|", listed, re.MULTILINE))

    for rule in re.findall(r"`([a-z-]+)`", " ".join(rules)):
        assert f'"{rule}"' in code
    for rule in {rule for _, problems in BAD.values() for rule, _, _ in problems}:
        assert f"`{rule}`" in listed


def test_models_show_no_value_in_their_errors() -> None:
    """
    Should a pydantic error ever be printed, its values are hidden.
    """
    with pytest.raises(ValueError, match="validation error") as caught:
        MappingFile.model_validate({"version": 1, "name": ["CANARY"]})

    assert "CANARY" not in str(caught.value)


def test_a_mapping_document_can_be_read_by_itself() -> None:
    """
    The shipped file is in the strict subset, with positions from its first key on.
    """
    document = read(ROOT / "mappings" / "user_profiles.yaml")

    assert document.position(("version",), key=True)[1] == 1


def _nodes(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return [node for item in value for node in _nodes(item)]
    if isinstance(value, dict):
        return [value, *(node for item in value.values() for node in _nodes(item))]
    return []
