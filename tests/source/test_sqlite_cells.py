"""
Whole columns of SQLite at once against one value at a time: the same cells and the same faults.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from migrate.model.values import Column, ColumnRead, Kind
from migrate.source.dialects import sqlite_cells
from migrate.source.dialects.spelling import each
from migrate.source.dialects.sqlite_cells import Undecoded, converter, kind_of, scale_of

DECLARED = (
    *("INTEGER", "BIGINT", "DECIMAL(12,4)", "DECIMAL(5)", "NUMERIC", "DECIMAL(30,20)", "REAL"),
    *("BOOLEAN", "DATE", "TIME", "DATETIME", "TIMESTAMPTZ", "TEXT", "BLOB", "JSON", "UUID", ""),
)

DAYS = st.dates().map(str) | st.sampled_from(
    ["2024-02-30", "0000-01-01", "2024-W01-1", "20240131", "2024-1-1", "9999-12-31", "1-01-01"]
)
MOMENTS = st.datetimes().map(lambda moment: moment.isoformat(" ")) | st.sampled_from(
    [
        *("2024-01-31 12:00:00", "2024-01-31 12:00:00.50", "2024-01-31 24:00:00", "2024-01-31"),
        *("2024-01-31T12:00:00", "2024-01-31 12:00:00+00:00", "2024-01-31 12:00:00.1234567"),
        *("2024-01-31 12:00:00\n2024-01-31 12:00:00", "2024-01-31 12:00:00\n", "2024-02-30 12:00"),
    ]
)
MOMENTS_IN_UTC = MOMENTS.map(lambda text: f"{text}+00:00")
DECIMALS = st.integers(-(10**12), 10**12).map(lambda number: number / 10_000)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | DECIMALS
OTHERS = (
    st.none()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.just(Undecoded(b"\xff"))
    | st.sampled_from(["t", "FALSE", "1", "0", "5", "1.50"])
)
SMALL = st.sampled_from([0, 1, -0.0, 1.0, 0.1, 0.00001, 1e15, 1e16, -1e15, 2**53, 1e22, 5e-324])
COLUMNS = st.one_of(
    *(
        st.lists(values | rest, min_size=1, max_size=6)
        for values in (DAYS, MOMENTS, MOMENTS_IN_UTC, NUMBERS, DECIMALS, SMALL, st.integers(0, 1))
        for rest in (st.nothing(), st.none(), OTHERS)
    )
)


@pytest.mark.parametrize("declared", DECLARED)
@pytest.mark.parametrize("verbatim", [False, True])
@given(values=COLUMNS)
@example(values=[1.5, None, 2])
@example(values=[float("inf")])
@example(values=[99999999999.9999, 100000000000.0, 123456789012345.6])
@example(values=["2024-01-31 12:00:00", None, "2024-01-31 12:00:00.5"])
def test_a_column_at_once_is_its_values_one_by_one(
    declared: str, values: list[Any], *, verbatim: bool
) -> None:
    """
    Whatever is stored in a column of any declared type.
    """
    kind = kind_of(declared)
    scale = scale_of(declared) if kind is Kind.DECIMAL else None
    column = Column("c", declared, kind, nullable=True, scale=scale)

    cells, faults = converter(ColumnRead(column, verbatim))(tuple(values))

    wanted, wrong = each(values, _spell(column, verbatim=verbatim), "c")
    assert (list(cells), faults) == (wanted, wrong)


def _spell(column: Column, *, verbatim: bool) -> Any:
    spells: Any = sqlite_cells._SPELLS
    if verbatim:
        return sqlite_cells._verbatim
    return lambda value: spells[column.kind](column, value)


@pytest.mark.parametrize(
    ("declared", "values"),
    [
        ("BIGINT", [1, None, -5]),
        ("DECIMAL(12,4)", [1.5, 2, -0.0001]),
        ("REAL", [0.1, 1e-7, 123.0]),
        ("BOOLEAN", [0, 1, None]),
        ("DATE", ["2024-01-31"]),
        ("DATETIME", ["2024-01-31 12:00:00", None]),
        ("TIMESTAMPTZ", ["2024-01-31 12:00:00.5+00:00"]),
    ],
)
def test_what_is_usual_is_never_looked_at_one_by_one(declared: str, values: list[Any]) -> None:
    """
    Otherwise it would be right, and slow.
    """
    kind = kind_of(declared)
    scale = scale_of(declared) if kind is Kind.DECIMAL else None
    column = Column("c", declared, kind, nullable=True, scale=scale)
    stored, whole = sqlite_cells._WHOLES[kind]
    given_values = [value for value in values if value is not None]

    assert {type(value) for value in given_values} <= stored
    assert whole(column, given_values) is not None
