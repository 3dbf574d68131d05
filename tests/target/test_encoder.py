"""
The written encoder makes of every line the payload that the plain way makes of the same row.
"""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrate.mapping.children import KEY_KINDS
from migrate.mapping.codecs import FORMS, MASKS, forms_of
from migrate.mapping.compile import CompiledMapping, compile_mapping
from migrate.mapping.files import load
from migrate.model.lines import cells_of, unescaped
from migrate.model.values import Cell, Chunk, Column, Kind, Record, RecordType, Table
from migrate.source.dialects.base import Fetched
from migrate.target.encoder import FEW_FIELDS, Encoder, Marker
from migrate.target.payload import hash_payload, string_payload
from migrate.target.payload_check import Entry
from migrate.target.restore import command, payload_in

KINDS = tuple(kind for kind in Kind if kind is not Kind.UNSUPPORTED)

TYPICAL: dict[Kind, list[Cell]] = {
    Kind.INTEGER: ["0", "-7", "9223372036854775807"],
    Kind.DECIMAL: ["1.50", "-0.00", "NaN", "Infinity"],
    Kind.FLOAT: ["-0", "1.5", "1e+300", "NaN"],
    Kind.BOOLEAN: ["true", "false"],
    Kind.TEXT: [
        "",
        "a",
        "é",
        "e\u0301",
        "\\",
        "a\\tb\t\n\r\b\f\v\\N",
        "\\N",
        "x" * 64,
        "ü" * 5_000,
    ],
    Kind.BYTES: [b"", b"\x00\xff\\N\t", b"-BUSYKEY", bytes(range(256))],
    Kind.DATE: ["2024-01-31", "infinity", "0044-03-15 BC", "12024-01-01"],
    Kind.TIME: ["12:13:14.5", "00:00:00"],
    Kind.TIMETZ: ["12:13:14+02"],
    Kind.TIMESTAMP: ["2024-01-31 12:13:14.000001", "-infinity", "0044-03-15 00:00:00 BC"],
    Kind.TIMESTAMPTZ: ["2024-01-31 12:13:14+00", "infinity", "12024-01-31 12:13:14+00"],
    Kind.INTERVAL: ["P1DT2S"],
    Kind.UUID: ["6c9f2b9e-1b1a-4f57-9e36-2d2a0b5d7f10"],
    Kind.ENUM: ["sad"],
    Kind.JSON: ['{"b": 1, "a": [1.0]}', "[" * 200 + "]" * 200, "{"],
    Kind.ARRAY: ["{1,2}"],
    Kind.LITERAL: ["10.0.0.1"],
}


def compiled_for(
    folder: Path,
    columns: Sequence[Column],
    fields: Sequence[tuple[str, str, str]],
    *,
    record: RecordType = RecordType.HASH,
    key: str = "id",
    template: str = "",
) -> CompiledMapping:
    """
    A mapping with these fields: name, column, and how.
    """
    file = folder / "things.yaml"
    named = json.dumps(template or f"thing:{{{key}}}", ensure_ascii=False)
    listed = "\n".join(f"  {name}: {{column: {column}{how}}}" for name, column, how in fields)
    file.write_text(
        f"version: 1\nname: things\nsource: {{table: things, key: [{key}]}}\n"
        f"target: {{key: {named}, type: {record.value}}}\nfields:\n{listed}\n",
        encoding="utf-8",
    )
    table = Table(None, "things", tuple(columns), (key,), ((key,),))
    return compile_mapping(load(file)["things"], table, revision=3)


def line_of(cells: Sequence[Cell]) -> bytes:
    r"""
    A line as COPY writes it: `\N` for NULL, escapes for what would end a cell or a line.
    """
    return b"\t".join(_copied(cell) for cell in cells)


def _copied(cell: Cell) -> bytes:
    if cell is None:
        return b"\\N"
    text = cell.hex().encode() if isinstance(cell, bytes) else cell.encode(errors="surrogateescape")
    for plain, letter in (
        (b"\\", b"\\"),
        (b"\t", b"t"),
        (b"\n", b"n"),
        (b"\r", b"r"),
        (b"\b", b"b"),
        (b"\f", b"f"),
        (b"\v", b"v"),
    ):
        text = text.replace(plain, b"\\" + letter)
    return text


def plain_payload(compiled: CompiledMapping, record: Record) -> bytes | None:
    """
    The payload of a record that the plain way made.
    """
    if compiled.record is RecordType.STRING:
        return string_payload(record.fields[0])
    marks = (b"_v", record.version, b"_h", record.digest)
    return hash_payload((*marks, *record.fields))


def hold_together(compiled: CompiledMapping, rows: Sequence[Sequence[Cell]]) -> set[int]:
    """
    Compare both ways for these rows; the lines that went the plain way.
    """
    plan = compiled.bulk()
    assert plan is not None
    encoded = Encoder(plan).encode([line_of(row) for row in rows], b"3")
    assert sorted([*encoded.rows, *encoded.odd]) == list(range(len(rows)))
    batch = compiled.encode(Chunk([(at,) for at in range(len(rows))], rows))
    records = {key[0]: record for key, record in zip(batch.keys, batch.records, strict=True)}
    for at, item in zip(encoded.rows, encoded.items, strict=True):
        record = records[at]
        payload = plain_payload(compiled, record)
        assert payload is not None
        assert payload_in(item) == payload, rows[at]
        assert b"".join(item) == b"".join(command(record.key, payload)), rows[at]
    assert set(marked(compiled, rows, records)) <= set(encoded.odd)
    return set(encoded.odd)


def marked(
    compiled: CompiledMapping, rows: Sequence[Sequence[Cell]], records: dict[object, Record]
) -> list[int]:
    """
    Hold the marks of these rows against their records; the lines that are odd.
    """
    plan = compiled.bulk()
    assert plan is not None
    marker = Marker(plan, compiled.shape().reserved)
    marks = marker.mark([line_of(row) for row in rows], b"3")
    assert sorted([*marks.rows, *marks.odd]) == list(range(len(rows)))
    assert marks.versions == []
    found = zip(marks.rows, marks.keys, marks.marks, marks.sizes, strict=True)
    for at, *told in found:
        assert told == marks_of(compiled, records[at], marker.head), rows[at]
    return marks.odd


def marks_of(compiled: CompiledMapping, record: Record, head: int) -> list[object]:
    """
    Key, mark and size of a record that the plain way made.
    """
    if compiled.record is RecordType.STRING:
        return [record.key, record.fields[0][:head], len(record.fields[0])]
    return [record.key, record.digest, len(record.fields) // 2 + 2]


ID = Column("id", "bigint", Kind.INTEGER, nullable=False)


def everything(folder: Path, record: RecordType) -> tuple[CompiledMapping, dict[str, Kind]]:
    """
    A mapping with a column for each form of each kind, and a masked one.
    """
    columns, fields, kinds = [ID], [], {}
    for kind in KINDS:
        ways = [(form, f", as: {form}") for form in forms_of(kind)]
        ways += [(mask, f", mask: {mask}") for mask in MASKS]
        for word, how in ways:
            name = f"{kind.value}_{word}"
            kinds[name] = kind
            columns.append(Column(name, kind.value, kind, nullable=True))
            fields.append((name, name, how))
    return compiled_for(folder, columns, fields, record=record), kinds


@pytest.mark.parametrize("record", RecordType)
def test_typical_cells_of_every_kind_and_form(tmp_path: Path, record: RecordType) -> None:
    """
    One column at a time, the others NULL: so that no odd cell hides another.
    """
    compiled, kinds = everything(tmp_path, record)
    assert {form for kind in KINDS for form in forms_of(kind)} == FORMS
    names = [read.column.name for read in compiled.query.columns]
    rows = []
    for name, kind in kinds.items():
        for cell in TYPICAL[kind]:
            row: list[Cell] = [None] * len(names)
            row[names.index("id")] = str(len(rows))
            row[names.index(name)] = cell
            rows.append(row)

    odd = hold_together(compiled, rows)

    assert len(odd) < len(rows) / 2


@given(data=st.data())
@pytest.mark.parametrize("record", RecordType)
def test_drawn_texts_and_bytes(
    tmp_path_factory: pytest.TempPathFactory, record: RecordType, data: st.DataObject
) -> None:
    """
    Any text, lone surrogates included, any bytes, and NULL, in any number of rows.
    """
    columns = [
        ID,
        Column("a", "text", Kind.TEXT, nullable=True),
        Column("b", "text", Kind.TEXT, nullable=False),
        Column("c", "bytea", Kind.BYTES, nullable=True),
    ]
    fields = [("name", "a", ""), ("nachname", "b", ""), ("ö", "c", "")]
    compiled = compiled_for(tmp_path_factory.mktemp("drawn"), columns, fields, record=record)
    names = [read.column.name for read in compiled.query.columns]
    text = st.text(st.one_of(st.characters(), st.sampled_from("\\\t\nN\udc80"))) | st.just("\\N")
    cells = {
        "id": st.integers(-10, 10**20).map(str),
        "a": st.none() | text,
        "b": text,
        "c": st.none() | st.binary(max_size=5_000),
    }
    row = st.tuples(*(cells[name] for name in names))
    rows = data.draw(st.lists(row.filter(_can_be), max_size=20))

    odd = hold_together(compiled, rows)

    assert all("\udc80" in str(rows[at]) or _is_long(rows[at]) for at in odd)


@pytest.mark.parametrize("many", [1, FEW_FIELDS, FEW_FIELDS + 1, 60])
def test_cells_of_every_length_that_matters(tmp_path: Path, many: int) -> None:
    """
    Heads and tails change their form with the length, in few fields as in many.
    """
    names = [f"c{n}" for n in range(many)]
    columns = [ID, *(Column(name, "text", Kind.TEXT, nullable=True) for name in names)]
    compiled = compiled_for(tmp_path, columns, [(name, name, "") for name in names])
    lengths = [0, 1, 60, 61, 62, 63, 64, 124, 125, 126, 127, 128, 300, 4_094, 4_095, 4_096, 5_000]
    order = [read.column.name for read in compiled.query.columns]
    rows = [
        [str(at) if name == "id" else "x" * length for name in order]
        for at, length in enumerate(lengths)
    ]

    odd = hold_together(compiled, rows)

    large = [at for at, length in enumerate(lengths) if length > 4_095 or length * many > 64_000]
    assert sorted(odd) == large


def _can_be(row: Sequence[Cell]) -> bool:
    """
    No high surrogate: no source can give one, and the line cannot say it.
    """
    return not any(
        isinstance(cell, str)
        and any("\ud800" <= one < "\udc80" or "\udcff" < one <= "\udfff" for one in cell)
        for cell in row
    )


def _is_long(row: Sequence[Cell]) -> bool:
    return any(cell is not None and len(cell) > 1_000 for cell in row)


@given(key=st.text(st.characters(codec="utf-8"), min_size=1, max_size=600))
def test_text_keys_are_escaped_by_the_plain_way(
    tmp_path_factory: pytest.TempPathFactory, key: str
) -> None:
    """
    A component that a template would escape is odd; any other gives the same record key.
    """
    columns = [Column("id", "text", Kind.TEXT, nullable=False)]
    compiled = compiled_for(tmp_path_factory.mktemp("key"), columns, [("id", "id", "")])

    odd = hold_together(compiled, [(key,)])

    plain = set(key) <= set(string.ascii_letters + string.digits) and len(key) < 500
    assert not (plain and odd)


ODDITIES: dict[Kind, list[Cell]] = {
    Kind.INTEGER: ["", "0", "-7"],
    Kind.DECIMAL: ["1.50", "-0.00", "NaN", "-Infinity"],
    Kind.TEXT: ["", "x" * 505, "x" * 506, "x" * 4_096, "\x7f", "\x00", "%41", "\u2028", "🎉"],
    Kind.UUID: [*TYPICAL[Kind.UUID], "6C9F2B9E 1B1A", "a:b"],
    Kind.ENUM: ["", "sad", "a b"],
    Kind.DATE: [*TYPICAL[Kind.DATE], "-infinity", "9999-12-31"],
    Kind.TIME: ["24:00:00", *TYPICAL[Kind.TIME]],
    Kind.TIMESTAMP: TYPICAL[Kind.TIMESTAMP],
    Kind.TIMESTAMPTZ: TYPICAL[Kind.TIMESTAMPTZ],
}
"""Cells of keys, of every kind that a key may have."""


@pytest.mark.parametrize("record", list(RecordType))
@pytest.mark.parametrize("template", ["thing:{id}", "thing-{id}.", "ü'\"\\'''{{x}}/{id}:ö\"\"\"\\"])
@pytest.mark.parametrize("kind", sorted(KEY_KINDS))
def test_keys_of_every_kind(tmp_path: Path, kind: Kind, template: str, record: RecordType) -> None:
    """
    A cell of a key that the plain way refuses, or spells otherwise, is odd; so is no key at all.
    """
    columns = [Column("id", "x", kind, nullable=False), Column("a", "text", Kind.TEXT, True)]
    fields = [("a", "a", "")]
    compiled = compiled_for(tmp_path, columns, fields, record=record, template=template)

    odd = hold_together(compiled, [("v", cell) for cell in (*ODDITIES[kind], None)])

    assert len(ODDITIES[kind]) in odd


def test_wrong_lines_are_odd(tmp_path: Path) -> None:
    """
    A NULL key, a NULL where none may be, too few and too many cells, and bytes that are no UTF-8.
    """
    columns = [ID, Column("a", "text", Kind.TEXT, nullable=False)]
    compiled = compiled_for(tmp_path, columns, [("a", "a", "")])
    plan = compiled.bulk()
    assert plan is not None
    lines = [b"x\t\\N", b"\\N\t1", b"x", b"1\t2\t3", b"\xff\t1", b"", b"5\t5"]

    encoded = Encoder(plan).encode(lines, b"1")

    assert encoded.odd == [0, 1, 2, 3, 4, 5]
    assert encoded.rows == [6]


def test_a_line_can_bring_its_version(tmp_path: Path) -> None:
    """
    With capture the last cell is the row's version.
    """
    columns = [ID, Column("a", "text", Kind.TEXT, nullable=True)]
    compiled = compiled_for(tmp_path, columns, [("a", "a", "")])
    plan = compiled.bulk()
    assert plan is not None

    assert [read.column.name for read in compiled.query.columns] == ["a", "id"]

    encoded = Encoder(plan, versioned=True).encode([b"x\t1\t1000000000017", b"\\N\t2\t5"])

    rows = [("x", "1"), (None, "2")]
    batch = compiled.encode(Chunk([(1,), (2,)], rows, versions=["1000000000017", "5"]))
    assert [payload_in(item) for item in encoded.items] == [
        plain_payload(compiled, record) for record in batch.records
    ]
    marker = Marker(plan, compiled.shape().reserved, versioned=True)
    marks = marker.mark([b"x\t1\t1000000000017", b"x\t7\t\\N", b"\\N\t2\t5"])
    assert (marks.versions, marks.odd) == ([b"1000000000017", b"5"], [1])
    assert marks.marks == [record.digest for record in batch.records]
    assert marks.sizes == [3, 2]


def test_records_that_are_more_than_their_row_have_no_plan(tmp_path: Path) -> None:
    """
    Lookups are written by a script that holds the record.
    """
    file = tmp_path / "things.yaml"
    file.write_text(
        "version: 1\nname: things\nsource: {table: things, key: [id]}\n"
        'target: {key: "thing:{id}"}\nfields: {a: {}}\n'
        'lookups: {by_a: {key: "by-a:{a}", unique: true}}\n',
        encoding="utf-8",
    )
    columns = (ID, Column("a", "text", Kind.TEXT, nullable=True))
    table = Table(None, "things", columns, ("id",), (("id",),))

    assert compile_mapping(load(file)["things"], table).bulk() is None


def test_what_was_made_of_rows_shows_none_of_them(tmp_path: Path) -> None:
    """
    Neither keys nor values stand in a traceback or a log that shows what it has in hand.
    """
    name = Column("name", "text", Kind.TEXT, nullable=True)
    compiled = compiled_for(tmp_path, [ID, name], [("name", "name", "")])
    plan = compiled.bulk()
    assert plan is not None
    order = [read.column.name for read in compiled.query.columns]
    lines = [line_of(["777" if one == "id" else "Ada" for one in order])]
    made = Encoder(plan).encode(lines, b"3")
    marks = Marker(plan, ["_v", "_h", "_d"]).mark(lines, b"3")
    assert len(made.items) == len(marks.keys) == 1

    shown = f"{made!r} {marks!r} {Fetched(lines)!r} {Entry(b'Ada 777', 8)!r}"

    assert "777" not in shown
    assert "Ada" not in shown


@given(st.binary(max_size=60))
def test_escapes_lead_back(cell: bytes) -> None:
    """
    A cell, escaped as COPY does, comes back.
    """
    line = _copied(cell.decode(errors="surrogateescape"))

    assert unescaped(line) == cell
    assert cells_of(line + b"\t\\N") == [cell, None]
