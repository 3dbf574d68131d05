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
    WithJsonSchema,
    model_validator,
)

from migrate.documents.shape import refuse, suggest
from migrate.mapping.codecs import FORMS, MASKS
from migrate.mapping.identifiers import MAPPING_NAME, name_problem, table_parts
from migrate.mapping.template import Template, TemplateError
from migrate.mapping.where import FilterError, parse_where

VERSION = 1
"""Of the mapping language."""

MAX_TTL_SECONDS = 100 * 366 * 24 * 3600
"""A hundred years: more is a mistake of the unit."""


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


def _check_lookup_template(text: str) -> str:
    try:
        Template.parse(text, fixed=True)
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
    forms = "`target.ttl` must be none, {seconds: n} or {column: name}"
    fix = "Write {seconds: 3600} for a time to live, or {column: expires_at} for an instant."
    if isinstance(value, str) and value != "none":
        raise refuse("unknown-word", f"{forms}.", fix)
    if not isinstance(value, dict | str):
        raise refuse("wrong-type", f"{forms}.", fix)
    if isinstance(value, dict) and len({"seconds", "column"} & value.keys()) != 1:
        raise refuse("ttl-form", f"{forms}: one of the two.", fix)
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
LookupTemplate = Annotated[str, AfterValidator(_check_lookup_template)]
RowFilter = Annotated[str, AfterValidator(_check_filter)]
Given = BeforeValidator(_check_given)
Mask = Annotated[str, AfterValidator(_check_mask), Field(json_schema_extra={"enum": sorted(MASKS)})]
Form = Annotated[str, AfterValidator(_check_form), Field(json_schema_extra={"enum": sorted(FORMS)})]


class Section(BaseModel):
    """
    A section of a mapping file: only known keys, no conversion, never changed, values not shown.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


def _check_column_value(value: object) -> object:
    if isinstance(value, dict | list | float):
        raise refuse(
            "wrong-type",
            "A column is set to text, a whole number, true, false, null, or `now`.",
            "Write the value alone; put other numbers in quotes.",
        )
    return value


ColumnValue = Annotated[
    Any,
    BeforeValidator(_check_column_value),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "integer"},
                {"type": "boolean"},
                {"type": "null"},
            ]
        }
    ),
]


class DeleteSection(Section):
    """
    What a delete means on the way back to SQL.
    """

    set: dict[Identifier, ColumnValue] = Field(
        min_length=1,
        description="Columns to set instead of deleting the row; `now` is the time of the delete. "
        "Needs a `where` that looks at one of them, so that the row leaves the mapping.",
        examples=[{"deleted_at": "now"}],
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
        description="What a delete means on the way back to SQL; without it the row is deleted. "
        "Checked and kept; nothing uses it before cut-over exists.",
    )


class TtlSeconds(Section):
    """
    Records that expire a fixed time after the run that wrote them began.
    """

    seconds: int = Field(
        ge=1,
        le=MAX_TTL_SECONDS,
        description="Seconds to live, from the beginning of the run by the source's clock.",
        examples=[86400],
    )


class TtlColumn(Section):
    """
    Records that expire at an instant that the row holds.
    """

    column: Identifier = Field(
        description="Column with the instant: a date, or a timestamp with or without time zone "
        "(then UTC). NULL never expires.",
        examples=["expires_at"],
    )


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
        examples=["string"],
    )
    ttl: Annotated[Ttl, BeforeValidator(_check_ttl)] = Field(
        default="none",
        description="When a record expires: `none`, `{seconds: n}` or `{column: name}`. Kept as "
        "an instant, which no repetition of a run moves.",
        examples=[{"column": "expires_at"}],
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
        examples=["email_address"],
    )
    form: Annotated[Form | None, Given] = Field(
        default=None,
        alias="as",
        description="How the value is written; by default the first form of the column's type.",
        examples=["epoch_ms"],
    )
    drop: bool = Field(
        default=False,
        description="true: the column never leaves SQL. It is named so that a reader of the "
        "file sees that nobody forgot it.",
        examples=[True],
    )
    mask: Annotated[Mask | None, Given] = Field(
        default=None,
        description="Write a one-way form instead of the value: `sha256` is the hexadecimal "
        "SHA-256 of the bytes that the field would hold.",
        examples=["sha256"],
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

    table: TableName = Field(
        description="The child table or view; without a schema it is in the root's.",
        examples=["user_addresses"],
    )
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
        examples=[["position"]],
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
        default=None,
        description="The one column of each child, which becomes a plain value.",
        examples=["role"],
    )
    children: Annotated[dict[Identifier, ChildSection] | None, Given] = Field(
        default=None, description="Rows of further tables inside each child, to any depth."
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
    A further key that finds records by other fields.
    """

    type: Literal["string", "set", "sorted_set"] = Field(
        default="string",
        description="What the further key is in Redis: `string` holds the key of the one record, "
        "`set` and `sorted_set` hold the keys of many.",
        examples=["sorted_set"],
    )
    key: LookupTemplate = Field(
        description="The further key: text with fields of the record as {field}, or without any. "
        "Needs a prefix of its own.",
        examples=["profile:email:{email}"],
    )
    unique: bool = Field(
        default=False,
        description="true: at most one record has the key. Required for `string`, and for it only.",
        examples=[True],
    )
    score: Annotated[Identifier | None, Given] = Field(
        default=None,
        description="Field that orders a `sorted_set`: a number, a truth value, or a date or time "
        "(milliseconds since 1970). Required for it, and for it only.",
        examples=["created_at"],
    )

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        unique = self.type == "string"
        if unique and not self.unique:
            raise refuse(
                "lookup-unique",
                "A key that holds one record is unique, which has to be said.",
                "Add `unique: true`, or write `type: set` where several records share a key.",
                key=True,
            )
        if unique and not Template.parse(self.key, fixed=True).names:
            raise refuse(
                "lookup-unique",
                "A unique key without a field would be one key for all records.",
                "Add a field, for example {email}.",
                at=("key",),
            )
        if not unique and self.unique:
            raise refuse(
                "lookup-unique",
                "A set holds any number of records.",
                "Remove `unique`, or remove `type` for a key of one record.",
                at=("unique",),
                key=True,
            )
        self._check_score()
        return self

    def _check_score(self) -> None:
        if self.type == "sorted_set" and self.score is None:
            raise refuse(
                "lookup-score",
                "A sorted set needs a field that orders it.",
                "Add `score:` with the name of a field, or write `type: set`.",
                key=True,
            )
        if self.type != "sorted_set" and self.score is not None:
            raise refuse(
                "lookup-score",
                "Only a sorted set has an order.",
                "Remove `score`, or write `type: sorted_set`.",
                at=("score",),
                key=True,
            )


class IdsSection(Section):
    """
    Where new ids come from while Redis is the authority.
    """

    made_by: Literal["sql", "application"] = Field(
        description="Who makes the id of a new row: `sql` draws it from a sequence of the source, "
        "`application` brings its own, such as a uuid.",
        examples=["sql"],
    )
    column: Annotated[Identifier | None, Given] = Field(
        default=None,
        description="Column of the key that holds the id; by default the only one.",
        examples=["id"],
    )
    sequence: Annotated[TableName | None, Given] = Field(
        default=None,
        description="Sequence of the source that ids are drawn from, and that is set above the "
        "highest id on the way back; by default the column's own.",
        examples=["user_profiles_id_seq"],
    )


class MappingFile(Section):
    """
    How the rows of one SQL table become records in Redis.
    """

    version: Annotated[Literal[1], BeforeValidator(_check_version)] = Field(
        description="Version of the mapping language: always 1.", examples=[1]
    )
    name: Annotated[str, AfterValidator(_check_mapping_name)] = Field(
        description="What every command calls this mapping: a lower-case letter, then letters, "
        "digits, _ and -, 63 at most; unique among all files.",
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
        default=None,
        min_length=1,
        description="Further keys that find hashes by other fields, kept in step with them.",
    )
    ids: Annotated[IdsSection | None, Given] = Field(
        default=None,
        description="Where new ids come from while Redis is the authority. Checked and kept; "
        "nothing uses it before cut-over exists.",
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
