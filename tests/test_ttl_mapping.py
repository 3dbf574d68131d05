"""
Expiry in a mapping, and what it says about the way back: values, instants, and the live schema.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrate.mapping.digest import digest_of, seed_of
from migrate.mapping.files import load
from migrate.mapping.instants import expires_at
from migrate.mapping.values import DeleteSpec, IdMaker, IdsSpec
from migrate.model.shape import RecordShape
from migrate.model.values import Cell, Expiry, Kind, Record
from tests.linked import KINDS, USERS, column, compiled, encode, mapping, refused

SECONDS = mapping(target=", ttl: {seconds: 60}")
COLUMN = mapping(target=", ttl: {column: made}")
AT = "2024-01-02 03:04:05.678+00"
MS = b"1704164645678"


def digest(record: Record, fingerprint: str, *, name: str = "") -> bytes:
    """
    The digest of a hash as its recipe says; with its instant where that has a name.
    """
    pairs = zip(record.fields[::2], record.fields[1::2], strict=True)
    expires = (name.encode(), record.expires) if name else None
    return digest_of(seed_of(fingerprint), record.key, pairs, expires)


# --- a fixed time to live ------------------------------------------------------------------------


def test_seconds_count_from_the_beginning_of_the_run(tmp_path: Path) -> None:
    """
    One instant for all records, by the source's clock.
    """
    users = compiled(tmp_path, SECONDS, instant=1_700_000_000_123)

    records = encode(users, {}, {"email": "a@x"}).records

    assert users.expiry is Expiry.FIXED
    assert [record.expires for record in records] == [b"1700000060123"] * 2


def test_without_a_run_there_is_no_instant(tmp_path: Path) -> None:
    """
    A plan encodes rows without knowing when a run will begin; the digest is the same.
    """
    (planned,) = encode(compiled(tmp_path, SECONDS), {"email": "a@x"}).records
    (written,) = encode(compiled(tmp_path, SECONDS, instant=5), {"email": "a@x"}).records

    assert (planned.expires, written.expires) == (b"", b"60005")
    assert planned.digest == written.digest
    assert planned.digest == digest(planned, compiled(tmp_path, SECONDS).fingerprint)


def test_another_time_to_live_is_another_mapping(tmp_path: Path) -> None:
    """
    Its seconds and the name of its field count, and nothing counts where nothing expires.
    """

    def of(text: str) -> str:
        return compiled(tmp_path, text).fingerprint

    texts = [
        mapping(),
        SECONDS,
        SECONDS.replace("60", "61"),
        SECONDS.replace("60}", "60}, reserved: {expires: until}"),
        COLUMN,
        COLUMN.replace("made", "seen"),
    ]

    assert len({of(text) for text in texts}) == len(texts)
    assert of(mapping(target=", ttl: none, reserved: {expires: until}")) == of(mapping())


# --- the instant of a column ---------------------------------------------------------------------


def test_a_column_gives_each_record_its_instant(tmp_path: Path) -> None:
    """
    NULL and infinity are never; the digest covers the instant behind the fields.
    """
    users = compiled(tmp_path, COLUMN)

    records = encode(users, {"made": AT}, {"made": None}, {"made": "infinity"}).records

    assert users.expiry is Expiry.COLUMN
    assert [record.expires for record in records] == [MS, b"", b""]
    assert records[0].digest == digest(records[0], users.fingerprint, name="_e")
    assert records[1].digest == digest(records[1], users.fingerprint)


def test_a_column_need_not_be_a_field(tmp_path: Path) -> None:
    """
    It is read for its instant alone; another instant is then another digest of the same fields.
    """
    users = compiled(tmp_path, mapping("fields: {email: {}}\n", target=", ttl: {column: made}"))

    one, other = encode(users, {"made": AT, "id": "1"}, {"id": "1"}).records

    assert [read.column.name for read in users.query.columns] == ["email", "id", "made"]
    assert one.fields == other.fields
    assert one.digest != other.digest


def test_a_string_record_carries_its_instant_behind_its_digest(tmp_path: Path) -> None:
    """
    In the head, under its reserved name, and nowhere else; the cells read back without it.
    """
    fields = "fields: {email: {}}\n"
    plain = compiled(tmp_path, mapping(fields, target=", type: string"))
    users = compiled(
        tmp_path,
        mapping(fields, target=", type: string, ttl: {column: made}, reserved: {expires: until}"),
    )

    one, never = encode(users, {"email": "a@x", "made": AT}, {"email": "a@x"}).records

    assert re.fullmatch(
        rb'\{"_v":"1","_h":"[0-9a-f]{16}","until":"1704164645678","email":"a@x"\}', one.fields[0]
    )
    assert re.fullmatch(rb'\{"_v":"1","_h":"[0-9a-f]{16}","email":"a@x"\}', never.fields[0])
    assert users.decode_text(one.fields[0]) == plain.decode_text(never.fields[0])
    expected = digest_of(
        seed_of(users.fingerprint), b"user:1", [(b"email", b'"a@x"')], (b"until", MS)
    )
    assert one.digest == expected


def test_a_fixed_instant_stands_in_a_string_record_too(tmp_path: Path) -> None:
    """
    Without being part of its digest.
    """
    text = mapping("fields: {email: {}}\n", target=", type: string, ttl: {seconds: 60}")
    one, other = (
        encode(compiled(tmp_path, text, instant=instant), {"email": "a@x"}).records[0]
        for instant in (0, 1)
    )

    assert b',"_e":"60000",' in one.fields[0]
    assert (one.expires, other.expires) == (b"60000", b"60001")
    assert one.digest == other.digest


def test_our_own_fields_are_none_of_the_row(tmp_path: Path) -> None:
    """
    Decoding a stored hash passes over version, digest, lookups and expiry.
    """
    users = compiled(tmp_path, mapping("fields: {email: {}}\n", target=", ttl: {column: made}"))
    stored = {b"_v": b"1", b"_h": b"0" * 16, b"_l": b"u1:x", b"_e": MS, b"email": b"a@x"}

    assert users.decode(stored) == {"email": "a@x"}


@pytest.mark.parametrize(
    ("cell", "instant"),
    [
        (None, b""),
        ("infinity", b""),
        ("-infinity", b"0"),
        ("2024-01-02", b"1704153600000"),
        ("2024-01-02 03:04:05", b"1704164645000"),
        (AT, MS),
        ("2024-01-02 03:04:05.6789+00", MS),
        ("1970-01-01 00:00:00+00", b"0"),
        ("1970-01-01 00:00:00.001", b"1"),
        ("1969-12-31 23:59:59.999+00", b"0"),
        ("0001-01-01", b"0"),
        ("0044-03-15 BC", b"0"),
        ("4713-01-01 00:00:00+00 BC", b"0"),
        ("9999-12-31 23:59:59.999999+00", b"253402300799999"),
        ("10000-01-01", b"253402300800000"),
        ("12345-06-07 08:09:10.5+00", b"327416976550500"),
        ("294276-12-31 23:59:59.999999+00", b"9224318015999999"),
        ("5874897-12-31", b"185331706992000000"),
    ],
)
def test_an_instant_is_in_whole_milliseconds_of_utc(cell: Cell, instant: bytes) -> None:
    """
    Of any year that a server holds; what has passed before 1970 is 0, and nothing is rounded up.
    """
    assert not isinstance(cell, bytes)
    assert expires_at(cell) == instant


@given(st.integers(1, 9_000), st.datetimes(datetime(1970, 1, 1), datetime(2369, 12, 31)))
def test_far_years_count_like_near_ones(cycles: int, moment: datetime) -> None:
    """
    Four hundred years are always 146,097 days.
    """
    near = int(expires_at(moment.isoformat(" ")))
    text = moment.isoformat(" ")
    far = f"{int(text[:4]) + 400 * cycles}{text[4:]}"

    days = (int(expires_at(far)) - near) // (24 * 3600 * 1000)

    assert days == cycles * 146_097
    assert near == (moment - datetime(1970, 1, 1)) // timedelta(milliseconds=1)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in
    (Kind.DATE, Kind.TIMESTAMP, Kind.TIMESTAMPTZ)])  # fmt: skip
def test_only_instants_can_expire(tmp_path: Path, kind: Kind) -> None:
    """
    A column of any other type is refused, at its place, with what to do.
    """
    columns = (column("id", Kind.INTEGER), column("email", Kind.TEXT), column("until", kind))
    text = mapping("fields: {email: {}}\n", target=", ttl: {column: until}")

    found = refused(tmp_path, text, table=replace(USERS, columns=columns))

    assert found == [("ttl-type", 4, 42)]


def test_a_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """
    As any other column of the mapping.
    """
    assert refused(tmp_path, COLUMN.replace("made", "mad")) == [("missing-column", 4, 42)]


def test_an_instant_that_no_server_prints_is_a_reject(tmp_path: Path) -> None:
    """
    It costs its own row, with its column, and shows nothing.
    """
    users = compiled(tmp_path, mapping("fields: {email: {}}\n", target=", ttl: {column: made}"))

    batch = encode(users, {"made": "soon"}, {"made": "2024-02-30 00:00:00+00"}, {"made": AT})

    assert [(r.key, r.fault.column, r.fault.reason) for r in batch.rejects] == [
        ((1,), "made", "out-of-range"),
        ((2,), "made", "out-of-range"),
    ]
    assert len(batch.records) == 1


def test_a_shape_says_how_records_expire(tmp_path: Path) -> None:
    """
    Whoever finds them later knows whether the digest covers the instant.
    """
    for text, expiry in (
        (mapping(), Expiry.NONE),
        (SECONDS, Expiry.FIXED),
        (COLUMN, Expiry.COLUMN),
    ):
        shape = compiled(tmp_path, text).shape()

        assert shape.expiry is expiry
        assert RecordShape.from_json(shape.to_json()) == shape


@pytest.mark.parametrize(
    ("text", "seconds", "name"),
    [(SECONDS, 60, None), (COLUMN, None, "made"), (mapping(), None, None)],
)
def test_the_value_of_a_mapping_says_what_the_file_says(
    tmp_path: Path, text: str, seconds: int | None, name: str | None
) -> None:
    """
    `none` is the same as no ttl.
    """
    (tmp_path / "users.yaml").write_text(text)
    found = load(tmp_path)["users"]

    assert (found.ttl_seconds, found.ttl_column) == (seconds, name)
    assert bool(found.expiry) == (text != mapping())


# --- the way back --------------------------------------------------------------------------------


def deleting(columns: str) -> str:
    """
    A mapping that sets these columns where a row is deleted.
    """
    where = ', where: "seen IS NULL AND active AND age > 0"'
    return mapping("fields: {email: {}}\n", source=f"{where}, delete: {{set: {{{columns}}}}}")


def test_a_delete_becomes_a_value(tmp_path: Path) -> None:
    """
    Columns and values in the order of the file; the fingerprint is the same without it.
    """
    text = deleting("seen: now, locale: gone, age: -1, active: false, email: null")
    (tmp_path / "users.yaml").write_text(text)

    found = load(tmp_path)["users"]

    assert found.delete == DeleteSpec(
        (("seen", "now"), ("locale", "gone"), ("age", -1), ("active", False), ("email", None))
    )
    without = re.sub(r", delete: \{set: \{.*\}\}\}", "}", text)
    assert "delete" not in without
    assert compiled(tmp_path, text).fingerprint == compiled(tmp_path, without).fingerprint


@pytest.mark.parametrize(
    ("columns", "problems"),
    [
        ("seen: now", []),
        ("seen: now, gone: true", [("missing-column", 3, 107)]),
        ("seen: now, locale: now", [("delete-value", 3, 115)]),
        ("seen: now, locale: true", [("delete-value", 3, 115)]),
        ("seen: now, locale: 5", [("delete-value", 3, 115)]),
        ("seen: now, age: old", [("delete-value", 3, 112)]),
        ("seen: now, active: 'no'", [("delete-value", 3, 115)]),
        ("seen: now, must: null", [("delete-value", 3, 113)]),
        ("seen: now, made_up: 1", [("delete-value", 3, 116)]),
        ("seen: true", [("delete-value", 3, 102)]),
        ("active: 0", []),
    ],
)
def test_a_delete_that_the_table_cannot_take_is_refused(
    tmp_path: Path, columns: str, problems: list[tuple[str, int, int]]
) -> None:
    """
    Columns that are not there, that the server computes, and values of another type.
    """
    table = replace(
        USERS,
        columns=(
            *USERS.columns,
            column("must", Kind.TEXT, nullable=False),
            column("made_up", Kind.INTEGER, generated=True),
        ),
    )

    assert refused(tmp_path, deleting(columns), table=table) == problems


@pytest.mark.parametrize(
    ("written", "spec"),
    [
        ("{made_by: sql}", IdsSpec(IdMaker.SQL, "id")),
        ("{made_by: application, column: id}", IdsSpec(IdMaker.APPLICATION, "id")),
        ("{made_by: sql, sequence: s}", IdsSpec(IdMaker.SQL, "id", (None, "s"))),
        (
            "{made_by: sql, sequence: '\"My.Schema\".ids'}",
            IdsSpec(IdMaker.SQL, "id", ("My.Schema", "ids")),
        ),
    ],
)
def test_ids_become_a_value(tmp_path: Path, written: str, spec: IdsSpec) -> None:
    """
    The only column of the key is the default; the fingerprint is the same without it.
    """
    text = mapping(f"ids: {written}\n")
    (tmp_path / "users.yaml").write_text(text)

    assert load(tmp_path)["users"].ids == spec
    assert compiled(tmp_path, text).fingerprint == compiled(tmp_path, mapping()).fingerprint


@pytest.mark.parametrize(
    ("written", "kind", "supplied", "problems"),
    [
        ("{made_by: sql}", Kind.INTEGER, True, []),
        ("{made_by: sql}", Kind.INTEGER, False, [("ids-not-supplied", 5, 16)]),
        ("{made_by: sql}", Kind.UUID, True, []),
        ("{made_by: sql, sequence: s}", Kind.INTEGER, False, []),
        ("{made_by: sql, sequence: s}", Kind.UUID, False, [("ids-type", 5, 31)]),
        ("{made_by: application}", Kind.UUID, False, []),
        ("{made_by: application, sequence: s}", Kind.TEXT, False, [("ids-type", 5, 39)]),
    ],
)
def test_ids_that_the_table_does_not_make_are_refused(
    tmp_path: Path, written: str, kind: Kind, supplied: bool, problems: list[tuple[str, int, int]]
) -> None:
    """
    Where SQL is to make them it has a default or a sequence, and a sequence makes numbers.
    """
    others = [column(name, of) for name, of in KINDS.items() if name != "id"]
    table = replace(USERS, columns=(column("id", kind, supplied=supplied), *others))

    assert refused(tmp_path, mapping(f"ids: {written}\n"), table=table) == problems
