"""
Lookups in a mapping: what they become, the entries of a record, and what the live schema refuses.
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrate.errors import InvalidFiles
from migrate.mapping.digest import digest_of, seed_of
from migrate.mapping.files import load
from migrate.mapping.instants import milliseconds, score_of
from migrate.mapping.values import LookupSpec, Reserved
from migrate.model.shape import RecordShape
from migrate.model.values import Cell, Entry, Kind, LookupKind
from tests.linked import USERS, column, compiled, encode, mapping, refused, shared

THREE = """\
lookups:
  by_email: {key: "user:email:{email}", unique: true}
  by_locale: {type: set, key: "users:locale:{locale}"}
  by_made: {type: sorted_set, key: "users:made", score: made}
"""


def lookup(text: str) -> str:
    """
    A mapping with one lookup.
    """
    return mapping(f"lookups: {{one: {text}}}\n")


# --- from the file -------------------------------------------------------------------------------


def test_lookups_become_values_in_the_order_of_the_file(tmp_path: Path) -> None:
    """
    Kind, template, uniqueness and score of each.
    """
    (tmp_path / "users.yaml").write_text(mapping(THREE))

    found = load(tmp_path)["users"].lookups

    templates = [one.template for one in found]
    assert found == (
        LookupSpec("by_email", LookupKind.UNIQUE, templates[0], unique=True),
        LookupSpec("by_locale", LookupKind.SET, templates[1]),
        LookupSpec("by_made", LookupKind.SORTED_SET, templates[2], score="made"),
    )
    assert [one.text for one in templates] == [
        "user:email:{email}",
        "users:locale:{locale}",
        "users:made",
    ]
    assert [one.fields() for one in found] == [("email",), ("locale",), ("made",)]


def test_lookups_of_two_mappings_never_meet(tmp_path: Path) -> None:
    """
    A further key is nobody else's record and in nobody else's lookup, sets of one name included.
    """
    one = mapping(
        'lookups:\n  a: {type: set, key: "all:{email}"}\n  b: {type: set, key: "x:all"}\n'
    )
    (tmp_path / "a.yaml").write_text(one)
    (tmp_path / "b.yaml").write_text(
        'version: 1\nname: others\nsource: {table: t, key: [id]}\ntarget: {key: "all:{id}"}\n'
        'lookups:\n  c: {type: set, key: "x:all"}\n  d: {type: set, key: "user:{v}"}\n'
    )

    with pytest.raises(InvalidFiles) as caught:
        load(tmp_path)

    found = [(Path(p.file).name, p.rule, p.line) for p in caught.value.problems]
    assert found == [("b.yaml", "key-template-collides", line) for line in (4, 6, 7)]
    assert [p.message.split("that of ")[1].split(" in ")[0] for p in caught.value.problems] == [
        "lookup `a` of mapping `users`",
        "lookup `b` of mapping `users`",
        "mapping `users`",
    ]


def test_reserved_names_of_lookups_and_expiry_can_be_chosen(tmp_path: Path) -> None:
    """
    All five names of the file reach the record's shape.
    """
    users = compiled(tmp_path, mapping(THREE, target=", reserved: {lookups: keys, expires: until}"))

    assert users.reserved == Reserved("_v", "_h", "_t", "keys", "until")
    assert users.shape().reserved == ("_v", "_h", "_t", "keys", "until")


# --- entries -------------------------------------------------------------------------------------


def test_a_record_has_an_entry_for_each_lookup(tmp_path: Path) -> None:
    """
    In the order of the mapping, with the score of the sorted set in milliseconds.
    """
    users = compiled(tmp_path, mapping(THREE))

    batch = encode(users, {"email": "a@x", "locale": "de", "made": "1970-01-01 00:00:01.5+00"})

    assert users.lookups == ("by_email", "by_locale", "by_made")
    assert batch.records[0].entries == (
        Entry(b"u", b"user:email:a@x"),
        Entry(b"s", b"users:locale:de"),
        Entry(b"z", b"users:made", b"1500"),
    )


def test_null_is_no_entry_and_empty_text_is_one(tmp_path: Path) -> None:
    """
    The place of the entry stays, so that entries and lookups go together by position.
    """
    batch = encode(compiled(tmp_path, mapping(THREE)), {"locale": ""}, {"email": "b@x"})

    assert [record.entries for record in batch.records] == [
        (Entry(b"u", b""), Entry(b"s", b"users:locale:"), Entry(b"z", b"")),
        (Entry(b"u", b"user:email:b@x"), Entry(b"s", b""), Entry(b"z", b"")),
    ]


def test_a_key_of_several_fields_needs_all_of_them(tmp_path: Path) -> None:
    """
    One NULL among them is no entry.
    """
    users = compiled(tmp_path, lookup('{key: "all:{locale}:{age}", unique: true}'))

    batch = encode(users, {"locale": "a:b", "age": "7"}, {"locale": "de"}, {"age": "7"})

    assert [record.entries[0].key for record in batch.records] == [b"all:a%3Ab:7", b"", b""]


def test_entries_are_made_of_what_the_field_stores(tmp_path: Path) -> None:
    """
    In the form that `as:` says, under the field's name; bytes beyond ASCII are escaped.
    """
    users = compiled(
        tmp_path,
        mapping(
            "fields: {mail: {column: email}, made: {as: epoch_ms}, avatar: {}}\n"
            'lookups:\n  a: {key: "u:mail:{mail}", unique: true}\n'
            '  b: {type: set, key: "u:made:{made}"}\n  c: {type: set, key: "u:pic:{avatar}"}\n'
        ),
    )

    (record,) = encode(
        users, {"email": "Zoë x", "made": "1970-01-01 00:00:01+00", "avatar": b"\x00\xff"}
    ).records

    assert [entry.key for entry in record.entries] == [
        "u:mail:Zoë%20x".encode(),
        b"u:made:1000",
        b"u:pic:%00%FF",
    ]


TEXTS = st.text(st.characters(codec="utf-8"), max_size=30) | st.sampled_from(
    ["Bob", "bob", "bob ", "böb", "b%6Fb", ""]
)


@given(st.lists(TEXTS, max_size=5))
def test_different_values_never_share_a_key(texts: list[str]) -> None:
    """
    Case, blanks and accents count, whatever the source's collation says; the value reads back.
    """
    records = encode(shared(mapping(THREE)), *({"email": text} for text in texts)).records

    keys = [record.entries[0].key.removeprefix(b"user:email:") for record in records]
    assert [unquote_to_bytes(key).decode() for key in keys] == texts


def test_an_entry_that_cannot_be_costs_its_row_alone(tmp_path: Path) -> None:
    """
    A further key of more than 512 bytes and a score that is no number are rejects with a column.
    """
    users = compiled(
        tmp_path,
        mapping(
            'lookups:\n  a: {key: "user:email:{email}", unique: true}\n'
            '  b: {type: sorted_set, key: "users:all", score: rating}\n'
        ),
    )

    batch = encode(
        users,
        {"email": "a@x", "rating": "1"},
        {"email": "é" * 300, "rating": "1"},
        {"email": "b@x", "rating": "NaN"},
        {"email": "c@x", "rating": "Infinity"},
    )

    assert batch.keys == [(1,), (4,)]
    assert [(r.key, r.fault.column, r.fault.reason) for r in batch.rejects] == [
        ((2,), "email", "key-too-long"),
        ((3,), "rating", "score-nan"),
    ]
    assert "'a'" in batch.rejects[0].fault.detail
    assert "é" not in batch.rejects[0].fault.detail


def test_lookups_are_no_part_of_the_digest_but_of_the_fingerprint(tmp_path: Path) -> None:
    """
    What a record holds is as before; a mapping with other lookups is another mapping.
    """
    plain = compiled(tmp_path, mapping())
    users = compiled(tmp_path, mapping(THREE))
    row: dict[str, Cell] = {"email": "a@x"}

    (before,), (after,) = encode(plain, row).records, encode(users, row).records

    assert before.fields == after.fields
    assert before.entries == ()
    pairs = zip(after.fields[::2], after.fields[1::2], strict=True)
    assert after.digest == digest_of(seed_of(users.fingerprint), after.key, pairs)
    assert users.fingerprint != plain.fingerprint


@pytest.mark.parametrize(
    ("text", "fingerprint", "digest"),
    [
        (mapping(), "e74536b057731f523aa7dd1e0b523650", b"c5280a5da52f1aa1"),
        (
            mapping("fields: {email: {}, born: {}, avatar: {as: hex}}\n", target=", type: string"),
            "9120cd502bcb0f46a26247e01e2c9ed2",
            b"ed8c571a26a616a2",
        ),
    ],
)
def test_a_mapping_without_them_is_what_it_was(
    tmp_path: Path, text: str, fingerprint: str, digest: bytes
) -> None:
    """
    Fingerprints and digests of records that are in Redis already stay: nothing is written again.
    """
    users = compiled(tmp_path, text)

    (record,) = encode(users, {"email": "a@x", "born": "2024-01-02"}).records

    assert (users.fingerprint, record.digest) == (fingerprint, digest)
    assert (record.entries, record.expires) == ((), b"")


def test_a_mask_beside_lookups_is_allowed(tmp_path: Path) -> None:
    """
    Only the field that a lookup reads has to be readable.
    """
    users = compiled(
        tmp_path,
        mapping(
            "fields: {email: {}, locale: {mask: sha256}, age: {drop: true}}\n"
            'lookups: {one: {key: "user:email:{email}", unique: true}}\n'
        ),
    )

    assert encode(users, {"email": "a@x"}).records[0].entries == (Entry(b"u", b"user:email:a@x"),)


def test_only_what_changes_keys_changes_the_fingerprint(tmp_path: Path) -> None:
    """
    Order and names of lookups are free; their keys, types, scores and the list's name count.
    """

    def of(sections: str, target: str = "") -> str:
        return compiled(tmp_path, mapping(sections, target=target)).fingerprint

    lines = THREE.splitlines(keepends=True)
    same = "".join([lines[0], *reversed(lines[1:])]).replace("by_locale", "locales")

    assert of(same) == of(THREE)
    others = [
        of(THREE.replace("user:email:", "user:mail:")),
        of(THREE.replace("score: made", "score: seen")),
        of(THREE.replace("type: set,", "type: sorted_set, score: made,")),
        of("".join(lines[:-1])),
        of(THREE, ", reserved: {lookups: keys}"),
    ]
    assert len({of(THREE), *others}) == len(others) + 1
    assert of("", ", reserved: {lookups: keys, expires: until}") == of("")


def test_a_shape_says_what_lookups_look_like(tmp_path: Path) -> None:
    """
    Enough to find and remove them later, and it survives its text.
    """
    shape = compiled(tmp_path, mapping(THREE), revision=7).shape()

    assert shape.lookups == (
        (LookupKind.UNIQUE, "user:email:{email}"),
        (LookupKind.SET, "users:locale:{locale}"),
        (LookupKind.SORTED_SET, "users:made"),
    )
    assert shape.revision == 7
    assert RecordShape.from_json(shape.to_json()) == shape


def test_lookups_cross_process_borders(tmp_path: Path) -> None:
    """
    Workers get the mapping by pickle.
    """
    (tmp_path / "users.yaml").write_text(mapping(THREE))
    read = load(tmp_path)["users"]

    assert pickle.loads(pickle.dumps(read)) == read  # noqa: S301 - our own bytes


# --- scores --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "cell", "score"),
    [
        (Kind.INTEGER, "-42", b"-42"),
        (Kind.INTEGER, "9007199254740993", b"9007199254740993"),
        (Kind.DECIMAL, "10.50", b"10.50"),
        (Kind.DECIMAL, "0." + "0" * 400 + "1", b"0"),
        (Kind.DECIMAL, "-Infinity", b"-inf"),
        (Kind.FLOAT, "1e+22", b"1e+22"),
        (Kind.FLOAT, "-0", b"0"),
        (Kind.FLOAT, "Infinity", b"inf"),
        (Kind.BOOLEAN, "true", b"1"),
        (Kind.BOOLEAN, "false", b"0"),
        (Kind.DATE, "1970-01-02", b"86400000"),
        (Kind.DATE, "infinity", b"inf"),
        (Kind.TIMESTAMP, "2024-01-02 03:04:05.678912", b"1704164645678"),
        (Kind.TIMESTAMP, "1969-12-31 23:59:59.999", b"-1"),
        (Kind.TIMESTAMPTZ, "2024-01-02 03:04:05+00", b"1704164645000"),
        (Kind.TIMESTAMPTZ, "-infinity", b"-inf"),
    ],
)
def test_a_score_is_a_number_that_redis_reads(kind: Kind, cell: str, score: bytes) -> None:
    """
    Numbers as they are spelled, truth values as 1 and 0, instants in milliseconds.
    """
    spell = score_of(kind)

    assert spell is not None
    assert spell(cell) == score


@pytest.mark.parametrize(
    "kind",
    [kind for kind in Kind if kind not in
     (Kind.INTEGER, Kind.DECIMAL, Kind.FLOAT, Kind.BOOLEAN, Kind.DATE, Kind.TIMESTAMP,
      Kind.TIMESTAMPTZ)],
)  # fmt: skip
def test_other_kinds_have_no_score(kind: Kind) -> None:
    """
    Text, times of day, bytes and the rest are in no order of numbers.
    """
    assert score_of(kind) is None


def test_a_number_beyond_doubles_is_a_reject(tmp_path: Path) -> None:
    """
    A decimal of four hundred digits has no score, and its row says so.
    """
    users = compiled(tmp_path, lookup('{type: sorted_set, key: "users:all", score: balance}'))

    batch = encode(users, {"balance": "9" * 400}, {"balance": "9"}, {})

    assert [reject.fault.reason for reject in batch.rejects] == ["score-too-large"]
    assert [record.entries[0] for record in batch.records] == [
        Entry(b"z", b"users:all", b"9"),
        Entry(b"z", b""),
    ]


@given(st.datetimes())
def test_milliseconds_are_those_of_the_calendar(moment: datetime) -> None:
    """
    Every moment of the years 1 to 9999, against the library's own count.
    """
    count = (moment - datetime(1970, 1, 1)) // timedelta(milliseconds=1)

    assert milliseconds(moment.isoformat(" ")) == count


# --- against the live schema ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (
            '{key: "all:{locale}:{emial}", unique: true}',
            [("lookup-field", 5, 36)],
        ),
        ('{type: sorted_set, key: "users:all", score: mad}', [("lookup-field", 5, 60)]),
        *(
            (
                f'{{type: sorted_set, key: "users:all", score: {name}}}',
                [("lookup-score-type", 5, 60)],
            )
            for name in ("email", "avatar", "settings", "clock")
        ),
    ],
)
def test_a_lookup_that_does_not_fit_the_table_is_refused(
    tmp_path: Path, text: str, problems: list[tuple[str, int, int]]
) -> None:
    """
    Fields that no column gives, and scores that are no numbers, at their place in the file.
    """
    assert refused(tmp_path, lookup(text)) == problems


def test_a_score_of_the_servers_own_text_is_refused(tmp_path: Path) -> None:
    """
    `as: text` may be spelled in any way.
    """
    text = mapping(
        "fields: {age: {as: text}}\n"
        'lookups: {one: {type: sorted_set, key: "users:all", score: age}}\n'
    )

    assert refused(tmp_path, text) == [("lookup-score-type", 6, 60)]


def test_a_field_that_was_told_is_not_told_again(tmp_path: Path) -> None:
    """
    A field whose column is missing is one problem, not one for each lookup that reads it.
    """
    text = mapping(
        "fields: {email: {column: nothing}}\n"
        'lookups: {one: {key: "user:email:{email}", unique: true}}\n'
    )

    assert refused(tmp_path, text) == [("missing-column", 5, 26)]


# --- keys of records -----------------------------------------------------------------------------


@given(st.integers())
def test_a_source_key_gives_the_key_of_its_record(number: int) -> None:
    """
    The same key that the row gives, from the number or from its text.
    """
    users = shared(mapping(THREE))
    (record,) = encode(users, {"id": str(number)}).records

    assert users.record_key((number,)) == users.record_key((str(number),)) == record.key


def test_a_key_that_no_row_has_gives_none(tmp_path: Path) -> None:
    """
    Bytes, text of another form, and keys that are too long: there is no such record.
    """
    users = compiled(tmp_path, mapping())

    assert [users.record_key((part,)) for part in (b"1", "x", "01", "", "9" * 600)] == [None] * 5


def test_parts_of_a_key_stand_where_the_template_has_them(tmp_path: Path) -> None:
    """
    The order of `source.key` is not that of the template; decimals have their scale.
    """
    columns = (
        column("tenant", Kind.TEXT),
        column("price", Kind.DECIMAL, scale=2),
        column("day", Kind.DATE),
        column("at", Kind.TIMESTAMP),
    )
    key = ("tenant", "price", "day", "at")
    table = replace(USERS, columns=columns, primary_key=key, unique=(key,))
    text = (
        "version: 1\nname: users\nsource: {table: users, key: [tenant, price, day, at]}\n"
        'target: {key: "user:{at}:{day}:{price}:{tenant}"}\n'
    )
    users = compiled(tmp_path, text, table=table)

    found = users.record_key(("a:b", 9, "2024-01-02", "2024-01-02 03:04:05"))

    assert found == b"user:2024-01-02T03%3A04%3A05:2024-01-02:9.00:a%3Ab"
    assert users.record_key(("\ud800", 9, "2024-01-02", "2024-01-02 03:04:05")) is None
    assert users.record_key(("a", 9, "2024-13-02", "2024-01-02 03:04:05")) is None
    assert users.record_key(("a", 9, "2024-01-02", "2024-01-02T03:04:05")) is None
