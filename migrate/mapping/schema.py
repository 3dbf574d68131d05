"""
The shape of a mapping file, as models that check it and as the JSON Schema that editors use.

The whole language is here, with the parts that a later version builds: `lint` refuses those by
name. Descriptions are the reference of each key; docs/mapping.md tells the story around them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from migrate.documents.shape import refuse, suggest
from migrate.mapping.codecs import FORMS, MASKS
from migrate.mapping.identifiers import MAPPING_NAME, name_problem, table_parts
from migrate.mapping.template import Template, TemplateError
from migrate.mapping.where import FilterError, parse_where

VERSION = 1
"""Of the mapping language."""


def _check_version(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value != VERSION:
        raise refuse(
            "language-version",
            "This program reads version 1 of the mapping language.",
            "Write `version: 1`, or use the profile-migrate that knows this version.",
        )
    return value


def _check_mapping_name(name: str) -> str:
    if not MAPPING_NAME.fullmatch(name):
        raise refuse(
            "mapping-name",
            "A mapping's name starts with a letter and has lower-case letters, digits, _ and - "
            "only, 63 at most.",
            "Rename it, for example user_profiles.",
        )
    return name


def _check_identifier(name: str) -> str:
    if problem := name_problem(name):
        raise refuse("identifier", problem, "Write the bare name, as the database shows it.")
    return name


def _check_table(text: str) -> str:
    try:
        table_parts(text)
    except ValueError as error:
        raise refuse(
            "identifier",
            str(error),
            'Write table, schema.table, or "My Schema"."My Table" in single quotes.',
        ) from None
    return text


def _check_template(text: str) -> str:
    try:
        Template.parse(text)
    except TemplateError as error:
        raise refuse("key-template", error.message, error.fix, offset=error.offset) from None
    return text


def _check_filter(text: str) -> str:
    try:
        parse_where(text)
    except FilterError as error:
        raise refuse("where", error.message, error.fix, offset=error.offset) from None
    return text


def _check_form(word: str) -> str:
    if word not in FORMS:
        raise refuse(
            "unknown-form", "This form of a value is not known.", suggest(word, sorted(FORMS))
        )
    return word


def _check_mask(word: str) -> str:
    if word not in MASKS:
        raise refuse("unknown-mask", "This mask is not known.", suggest(word, sorted(MASKS)))
    return word


def _check_ttl(value: object) -> object:
    if not isinstance(value, dict | str):
        raise refuse(
            "wrong-type",
            "`target.ttl` must be none, {seconds: n} or {column: name}.",
            "Write `ttl: none`, or remove the key.",
        )
    return value


def _ttl_kind(value: object) -> str:
    if not isinstance(value, dict):
        return _WORD
    return _SECONDS if "seconds" in value else _COLUMN


def _check_given(value: object) -> object:
    # A key without a value is an accident, and `fields:` or `where:` without one would move more
    # than was meant.
    if value is None:
        raise refuse("empty-value", "This key has no value.", "Write one, or remove the key.")
    return value


_WORD, _SECONDS, _COLUMN = "<word>", "<seconds>", "<column>"
"""Names of the kinds of ttl; no key can be called so, which keeps them out of positions."""


def _fold_redisjson(value: object) -> object:
    # It is known under many spellings; lint refuses all of them by name.
    return "redisjson" if isinstance(value, str) and value.casefold() == "redisjson" else value


def _check_field(value: object) -> object:
    if isinstance(value, str):
        raise refuse(
            "wrong-type",
            "A field is a section, not text.",
            "Write {column: name} for a column of another name, or {} for one of the same.",
        )
    return value


Identifier = Annotated[str, AfterValidator(_check_identifier)]
TableName = Annotated[str, AfterValidator(_check_table)]
KeyTemplate = Annotated[str, AfterValidator(_check_template)]
RowFilter = Annotated[str, AfterValidator(_check_filter)]
Given = BeforeValidator(_check_given)
Mask = Annotated[str, AfterValidator(_check_mask), Field(json_schema_extra={"enum": sorted(MASKS)})]
Form = Annotated[str, AfterValidator(_check_form), Field(json_schema_extra={"enum": sorted(FORMS)})]


class Section(BaseModel):
    """
    A section of a mapping file: only known keys, no conversion, never changed, values not shown.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class DeleteSection(Section):
    """
    What a delete means on the way back to SQL.
    """

    set: dict[Identifier, str | int | bool | None] = Field(
        description="Columns to set instead of deleting the row; `now` is the time of the delete.",
    )


class SourceSection(Section):
    """
    Which rows of the SQL source are moved.
    """

    table: TableName = Field(
        description="The root table or view: `table`, `schema.table` or "
        '\'"My Schema"."My Table"\'. Names are taken exactly as written.',
        examples=["user_profiles", "public.user_profiles"],
    )
    key: list[Identifier] = Field(
        min_length=1,
        description="One or more columns that identify a row, unique and never NULL: "
        "usually the primary key.",
        examples=[["id"], ["tenant", "id"]],
    )
    where: Annotated[RowFilter | None, Given] = Field(
        default=None,
        description="Which rows: a condition over the columns of the table, without functions "
        "or subqueries. Without it every row is moved.",
        examples=["deleted_at IS NULL"],
    )
    delete: Annotated[DeleteSection | None, Given] = Field(
        default=None,
        description="What a delete means on the way back. Not built yet in this version.",
    )


class TtlSeconds(Section):
    """
    Records that expire a fixed time after an instant of the row.
    """

    seconds: int = Field(ge=1, description="Seconds to live.")


class TtlColumn(Section):
    """
    Records that expire at an instant that the row holds.
    """

    column: Identifier = Field(description="Column with the instant.")


class ReservedSection(Section):
    """
    Names of the fields that every record carries for profile-migrate.
    """

    version: Identifier = Field(default="_v", description="Field of the record's version.")
    digest: Identifier = Field(default="_h", description="Field of the record's digest.")
    tombstone: Identifier = Field(
        default="_t", description="Field that marks the record of a deleted row."
    )
    lookups: Identifier = Field(
        default="_l", description="Field of the record's entries in lookups."
    )
    expires: Identifier = Field(
        default="_e", description="Field of the instant at which the record expires."
    )


Ttl = Annotated[
    Annotated[Literal["none"], Tag(_WORD)]
    | Annotated[TtlSeconds, Tag(_SECONDS)]
    | Annotated[TtlColumn, Tag(_COLUMN)],
    Discriminator(_ttl_kind),
]


class TargetSection(Section):
    """
    What a record is in Redis.
    """

    key: KeyTemplate = Field(
        description="The Redis key: text with every key column once as {column}; {{ and }} are "
        "literal braces. Needs a prefix of its own.",
        examples=["profile:{id}", "profile:{tenant}:{id}"],
    )
    type: Annotated[
        Literal["hash", "string", "json", "redisjson"], BeforeValidator(_fold_redisjson)
    ] = Field(
        default="hash",
        description="How a record is kept: `hash`, or `string` for one text of JSON. The others "
        "are not built in this version.",
    )
    ttl: Annotated[Ttl, BeforeValidator(_check_ttl)] = Field(
        default="none",
        description="When a record expires. Only `none` is built in this version.",
    )
    reserved: ReservedSection = Field(
        default=ReservedSection(),
        description="Other names for the fields that every record carries for profile-migrate.",
    )


class FieldSection(Section):
    """
    One field of the record. Nothing below it: the column of the same name, as it is.
    """

    column: Annotated[Identifier | None, Given] = Field(
        default=None,
        description="The column that fills the field; by default the one of the field's name.",
    )
    form: Annotated[Form | None, Given] = Field(
        default=None,
        alias="as",
        description="How the value is written; by default the first form of the column's type.",
    )
    drop: bool = Field(
        default=False,
        description="true: the column never leaves SQL. It is named so that a reader of the "
        "file sees that nobody forgot it.",
    )
    mask: Annotated[Mask | None, Given] = Field(
        default=None,
        description="Write a one-way form instead of the value: `sha256` is the hexadecimal "
        "SHA-256 of the bytes that the field would hold.",
    )

    @model_validator(mode="after")
    def _drops_alone(self) -> Self:
        for name, value in (("as", self.form), ("mask", self.mask)):
            if self.drop and value is not None:
                raise refuse(
                    "drop-with-form",
                    f"A dropped column is never written, so `{name}` means nothing.",
                    f"Remove `{name}` or `drop`.",
                    at=(name,),
                    key=True,
                )
        return self


class MemberSection(Section):
    """
    One member of each child. Nothing below it: the column of the same name, as it is.
    """

    column: Annotated[Identifier | None, Given] = Field(
        default=None,
        description="The column that fills the member; by default the one of the member's name.",
    )
    form: Annotated[Form | None, Given] = Field(
        default=None,
        alias="as",
        description="How the value is written; by default the first form of the column's type.",
    )


def _columns_kind(value: object) -> str:
    return _MEMBERS if isinstance(value, dict) else _NAMES


_NAMES, _MEMBERS = "<names>", "<members>"


class ChildSection(Section):
    """
    Rows of another table that become one field of the record.
    """

    table: TableName = Field(description="The child table or view.")
    join: dict[Identifier, Identifier] = Field(
        min_length=1,
        description="Column of the child: column of its parent. The parent's columns cover its "
        "key.",
        examples=[{"user_id": "id"}],
    )
    order_by: Annotated[list[Identifier] | None, Given] = Field(
        default=None,
        description="Columns of the child that put the rows in order; NULL comes last. Ties are "
        "broken by the child's own key.",
    )
    columns: Annotated[
        Annotated[
            Annotated[list[Identifier], Field(min_length=1), Tag(_NAMES)]
            | Annotated[
                dict[Identifier, Annotated[MemberSection | None, BeforeValidator(_check_field)]],
                Field(min_length=1),
                Tag(_MEMBERS),
            ],
            Discriminator(_columns_kind),
        ]
        | None,
        Given,
    ] = Field(
        default=None,
        description="Columns of each child, which becomes an object: a list of names, or "
        "sections with `column` and `as`.",
        examples=[["street", "city"]],
    )
    column: Annotated[Identifier | None, Given] = Field(
        default=None, description="The one column of each child, which becomes a plain value."
    )
    children: Annotated[dict[Identifier, ChildSection] | None, Given] = Field(
        default=None, description="Rows of further tables inside each child."
    )

    @model_validator(mode="after")
    def _takes_one_of_both(self) -> Self:
        if (self.columns is None) == (self.column is None):
            raise refuse(
                "child-columns",
                "A child takes either `columns` or `column`.",
                "Keep one of them.",
                key=True,
            )
        if self.column is not None and self.children is not None:
            raise refuse(
                "child-columns",
                "A child of one `column` is a plain value, which has no room for `children`.",
                "Write `columns` with this one column.",
                at=("children",),
                key=True,
            )
        return self


class LookupSection(Section):
    """
    A further key that finds the record by another field.
    """

    type: Literal["string", "set", "sorted_set"] = Field(
        default="string", description="What the further key is in Redis."
    )
    key: str = Field(description="The further key, with {field} of the record.")
    unique: bool = Field(default=False, description="At most one record has it.")
    score: Annotated[Identifier | None, Given] = Field(
        default=None, description="Field that orders a sorted set."
    )


class MappingFile(Section):
    """
    How the rows of one SQL table become records in Redis.
    """

    version: Annotated[Literal[1], BeforeValidator(_check_version)] = Field(
        description="Version of the mapping language."
    )
    name: Annotated[str, AfterValidator(_check_mapping_name)] = Field(
        description="What every command calls this mapping; unique among all files.",
        examples=["user_profiles"],
        json_schema_extra={"pattern": f"^{MAPPING_NAME.pattern}$"},
    )
    source: SourceSection = Field(description="Which rows are moved.")
    target: TargetSection = Field(description="What they become.")
    fields: Annotated[
        dict[Identifier, Annotated[FieldSection | None, BeforeValidator(_check_field)]] | None,
        Given,
    ] = Field(
        default=None,
        min_length=1,
        description="The fields of a record. Given, only what is listed moves; omitted, every "
        "column moves under its own name.",
    )
    children: Annotated[dict[Identifier, ChildSection] | None, Given] = Field(
        default=None,
        description="Rows of other tables, each collection one field of the record.",
    )
    lookups: Annotated[dict[Identifier, LookupSection] | None, Given] = Field(
        default=None, description="Further keys kept in step. Not built yet in this version."
    )
    ids: Annotated[dict[str, Any] | None, Given] = Field(
        default=None,
        description="Who makes new ids when Redis is the authority. Not built yet in this version.",
    )


def json_schema() -> dict[str, Any]:
    """
    The JSON Schema of a mapping file, for editors (`# yaml-language-server: $schema=...`).
    """
    schema: dict[str, Any] = _for_editors(MappingFile.model_json_schema(by_alias=True))
    return {"$schema": "http://json-schema.org/draft-07/schema#", **schema}


def _for_editors(node: Any) -> Any:
    """
    A schema that never offers null for a key that may be left out: the file must not hold it.
    """
    if isinstance(node, list):
        return [_for_editors(value) for value in node]
    if not isinstance(node, dict):
        return node
    found = {key: _for_editors(value) for key, value in node.items()}
    if "default" in found and found["default"] is None:
        del found["default"]
        (kind,) = (k for k in found.pop("anyOf", [{}]) if k != {"type": "null"})
        found |= {key: value for key, value in kind.items() if key not in found}
    return found
