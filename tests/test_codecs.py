"""
Codecs are bijections on cells, and refuse what they cannot hold exactly.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrate.mapping.codecs import CODECS, FORMS, Undecodable, Unencodable, codec_for, forms_of
from migrate.model.values import Kind

TEXTS = st.text(st.characters(codec="utf-8"))


def _postgres(stamp: datetime) -> str:
    text = stamp.isoformat(sep=" ", timespec="microseconds")
    return text.rstrip("0").rstrip(".")


def _plain(number: Decimal) -> str:
    return format(number, "f")


STAMPS = st.one_of(st.datetimes().map(_postgres), st.sampled_from(["infinity", "-infinity"]))
EDGES = st.sampled_from(
    ["NaN", "Infinity", "-Infinity", "2.2250738585072014e-308", "5e-324", "1.7976931348623157e+308"]
)
FLOATS = st.sampled_from(
    ["0", "-0", "1", "-1.5", "0.1", "1e-05", "123456789012345", "1e+15", "1e+22", "3.4028235e+38"]
)
CELLS: dict[Kind, st.SearchStrategy[str | bytes]] = {
    Kind.INTEGER: st.integers().map(str),
    Kind.DECIMAL: st.one_of(
        st.decimals(allow_nan=False, allow_infinity=False).map(_plain),
        st.sampled_from(["NaN", "Infinity", "-Infinity", "0.00", "1.10", "-0.5"]),
    ),
    Kind.FLOAT: st.one_of(FLOATS, EDGES),
    Kind.BOOLEAN: st.sampled_from(["true", "false"]),
    Kind.TEXT: TEXTS,
    Kind.BYTES: st.binary(),
    Kind.DATE: st.one_of(
        st.dates().map(date.isoformat), st.sampled_from(["infinity", "-infinity"])
    ),
    Kind.TIME: st.one_of(
        st.times().map(lambda t: _postgres(datetime.combine(date.min, t))[11:]),
        st.just("24:00:00"),
    ),
    Kind.TIMETZ: st.sampled_from(["00:00:00+00", "23:59:59.5-03:30", "12:00:00+05:45:10"]),
    Kind.TIMESTAMP: STAMPS,
    Kind.TIMESTAMPTZ: STAMPS.map(lambda text: text if "inf" in text else text + "+00"),
    Kind.INTERVAL: st.sampled_from(["P1Y2M3DT4H5M6.789S", "PT0S", "P1M", "P30D", "PT-1S"]),
    Kind.UUID: st.uuids().map(str),
    Kind.ENUM: TEXTS,
    Kind.JSON: st.sampled_from(['{"b":1,"a":1.10,"a":2}', "null", "[]", '"\\u0000"', " 1e2"]),
    Kind.ARRAY: st.sampled_from(["{}", "{1,NULL,3}", '{"a,b","NULL"}', "[0:1]={1,2}"]),
    Kind.LITERAL: st.sampled_from(["192.168.0.1/24", "[1,5)", "1010", "empty"]),
}
CASES = [(kind, form) for kind in CELLS for form in forms_of(kind)]


def test_every_kind_has_cells_to_be_tried_with() -> None:
    """
    No kind with a codec is left out of the properties below.
    """
    assert set(CELLS) == {kind for kind, codecs in CODECS.items() if codecs}


@pytest.mark.parametrize(("kind", "form"), CASES, ids=str)
@given(data=st.data())
def test_what_is_encoded_comes_back(kind: Kind, form: str, data: st.DataObject) -> None:
    """
    Decoding gives back the very cell, or the cell was refused with a reason.
    """
    cell = data.draw(CELLS[kind])
    codec = codec_for(kind, form)
    assert codec is not None

    try:
        stored = codec.encode(cell)
    except Unencodable:
        # Only a number of whole units cannot hold every instant.
        assert form.startswith("epoch")
        return

    assert isinstance(stored, bytes)
    assert codec.decode(stored) == cell


@pytest.mark.parametrize(("kind", "form"), CASES, ids=str)
@given(stored=st.one_of(st.binary(max_size=24), TEXTS.map(str.encode)))
def test_what_decodes_was_encoded(kind: Kind, form: str, stored: bytes) -> None:
    """
    Bytes either are what the codec writes, to the letter, or are refused.
    """
    codec = codec_for(kind, form)
    assert codec is not None

    try:
        cell = codec.decode(stored)
    except Undecodable:
        return

    assert codec.encode(cell) == stored


@pytest.mark.parametrize(
    ("kind", "form", "cell", "stored"),
    [
        (Kind.BOOLEAN, None, "true", b"1"),
        (Kind.BOOLEAN, "word", "false", b"false"),
        (Kind.DECIMAL, None, "1.10", b"1.10"),
        (Kind.FLOAT, None, "-0", b"-0"),
        (Kind.TEXT, None, "", b""),
        (Kind.TEXT, None, "e\u0301", b"e\xcc\x81"),
        (Kind.BYTES, None, b"\x00\xff", b"\x00\xff"),
        (Kind.BYTES, "base64", b"\x00\xff", b"AP8="),
        (Kind.BYTES, "hex", b"\x00\xff", b"00ff"),
        (Kind.TIMESTAMPTZ, None, "2024-02-29 12:00:00.5+00", b"2024-02-29T12:00:00.5Z"),
        (Kind.TIMESTAMPTZ, "epoch_ms", "1970-01-01 00:00:01.5+00", b"1500"),
        (Kind.TIMESTAMPTZ, "epoch_us", "1969-12-31 23:59:59.999999+00", b"-1"),
        (Kind.TIMESTAMP, "epoch_s", "2000-01-01 00:00:00", b"946684800"),
        (Kind.TIMESTAMP, None, "0001-01-01 00:00:00", b"0001-01-01T00:00:00"),
        (Kind.TIMESTAMP, "text", "0001-01-01 00:00:00", b"0001-01-01 00:00:00"),
        (Kind.DATE, None, "infinity", b"infinity"),
        (Kind.JSON, None, '{"b": 1, "a": 1.10}', b'{"b": 1, "a": 1.10}'),
    ],
)
def test_the_form_is_the_documented_one(
    kind: Kind, form: str | None, cell: str | bytes, stored: bytes
) -> None:
    """
    Each form looks as docs/mapping.md shows it.
    """
    codec = codec_for(kind, form)

    assert codec is not None
    assert codec.encode(cell) == stored


@pytest.mark.parametrize(
    ("kind", "form", "cell", "reason"),
    [
        (Kind.DATE, None, "10000-01-01", "out-of-range"),
        (Kind.DATE, None, "0044-03-15 BC", "out-of-range"),
        (Kind.TIMESTAMP, None, "10000-01-01 00:00:00", "out-of-range"),
        (Kind.TIMESTAMP, None, "0044-03-15 00:00:00 BC", "out-of-range"),
        (Kind.TIMESTAMPTZ, None, "0044-03-15 00:00:00+00 BC", "out-of-range"),
        (Kind.TIMESTAMPTZ, "epoch_s", "1970-01-01 00:00:00.5+00", "precision-lost"),
        (Kind.TIMESTAMPTZ, "epoch_us", "infinity", "no-epoch"),
    ],
)
def test_what_cannot_be_held_exactly_is_refused(
    kind: Kind, form: str | None, cell: str, reason: str
) -> None:
    """
    A value outside the form is refused with its reason, never bent.
    """
    codec = codec_for(kind, form)
    assert codec is not None

    with pytest.raises(Unencodable) as refused:
        codec.encode(cell)

    assert refused.value.reason == reason
    assert cell not in refused.value.detail


def test_neighbours_that_compare_equal_keep_different_bytes() -> None:
    """
    -0.0 and 0.0, 1.1 and 1.10, composed and decomposed, empty and absent stay apart.
    """
    pairs = [
        (Kind.FLOAT, "0", "-0"),
        (Kind.DECIMAL, "1.1", "1.10"),
        (Kind.TEXT, "\u00e9", "e\u0301"),
        (Kind.JSON, "1.0", "1.00"),
    ]

    for kind, one, other in pairs:
        codec = codec_for(kind, None)
        assert codec is not None
        assert codec.encode(one) != codec.encode(other)


def test_the_words_of_as_are_known() -> None:
    """
    Every form that some kind takes is a word that lint accepts, and `text` fits all but bytes.
    """
    assert {form for kind in Kind for form in forms_of(kind)} == FORMS
    assert all("text" in forms_of(kind) for kind in Kind if kind is not Kind.BYTES)


def test_dates_of_the_standard_library_are_covered_at_their_edges() -> None:
    """
    The first and the last instant that Python knows go there and back.
    """
    codec = codec_for(Kind.TIMESTAMPTZ, "epoch_us")
    assert codec is not None

    for stamp in (datetime.min, datetime.max, datetime.combine(date(1970, 1, 1), time())):
        cell = _postgres(stamp.replace(tzinfo=None)) + "+00"
        assert codec.decode(codec.encode(cell)) == cell
    assert datetime.max.replace(tzinfo=UTC).year == 9999
