"""
Filters mean on every dialect what they mean to a reader, and their literals are only ever bound.
"""

from __future__ import annotations

from decimal import Decimal

import pytest

from migrate.errors import InvalidInput
from migrate.model.filter import (
    Between,
    ColumnRef,
    Comparison,
    Constant,
    Filter,
    IsNull,
    Junction,
    Membership,
    Negation,
    Truth,
)
from migrate.model.values import KeyRange
from migrate.source.store import SqlSource
from tests.servers import Database
from tests.source.reading import query_of, read_all, reader

ID, NAME, BALANCE = ColumnRef("id"), ColumnRef("name"), ColumnRef("bal:an%ce")
ACTIVE, BORN, GONE = ColumnRef("active"), ColumnRef("born"), ColumnRef("gone")


def _is(operator: str, left: ColumnRef, value: object) -> Comparison:
    return Comparison(operator, left, Constant(value))  # type: ignore[arg-type]


CASES: dict[str, tuple[Filter, list[int]]] = {
    "equal": (_is("=", ID, 2), [2]),
    "an integer beyond the column's type": (_is("<", ID, 10**30), [1, 2, 3, 4]),
    "a number with a fraction": (_is(">", ID, Decimal("1.5")), [2, 3, 4]),
    "a decimal": (_is("<=", BALANCE, Decimal("1.10")), [1, 4]),
    "an integer against decimals": (_is(">", BALANCE, 1), [1, 2]),
    "a text with everything in it": (_is("=", NAME, "a%b:c'd\"e\\"), [1]),
    "an injection": (_is("=", NAME, "'; DROP TABLE people; --"), []),
    "another text": (_is("<>", NAME, "Bob"), [1, 4]),
    "a literal longer than the column": (_is("=", NAME, "Bob" + "b" * 100), []),
    "like": (_is("like", NAME, "B%"), [2]),
    "not like": (_is("not like", NAME, "B%"), [1, 4]),
    "a date": (_is(">=", BORN, "2000-01-01"), [2, 4]),
    "a boolean": (_is("=", ACTIVE, True), [1, 3]),
    "a bare boolean": (Truth(ACTIVE), [1, 3]),
    "not a bare boolean": (Negation(Truth(ACTIVE)), [2]),
    "is true": (Truth(ACTIVE, True), [1, 3]),
    "is not true": (Truth(ACTIVE, True, True), [2, 4]),
    "is false": (Truth(ACTIVE, False), [2]),
    "is not false": (Truth(ACTIVE, False, True), [1, 3, 4]),
    "is null": (IsNull(GONE), [1, 2, 4]),
    "is not null": (IsNull(GONE, True), [3]),
    "in": (Membership(ID, (Constant(1), Constant(4), Constant(9))), [1, 4]),
    "not in": (Membership(NAME, (Constant("Bob"),), True), [1, 4]),
    "between": (Between(ID, Constant(2), Constant(3)), [2, 3]),
    "not between": (Between(ID, Constant(2), Constant(3), True), [1, 4]),
    "between columns": (Between(ID, Constant(1), ID), [1, 2, 3, 4]),
    "columns": (Comparison("=", ID, ID), [1, 2, 3, 4]),
    "literals": (Comparison("=", Constant(1), Constant(2)), []),
    "and": (Junction("and", (_is(">", ID, 1), _is("<", ID, 4))), [2, 3]),
    "or within and": (
        Junction("and", (Junction("or", (_is("=", ID, 1), _is("=", ID, 2))), _is(">", ID, 1))),
        [2],
    ),
    "not": (Negation(Junction("or", (_is("=", ID, 1), _is("=", ID, 2)))), [3, 4]),
}


@pytest.fixture
def people(source: Database) -> None:
    """
    Four rows with something for every filter.
    """
    source.execute(
        """
        CREATE TABLE people (id INTEGER PRIMARY KEY, name VARCHAR(12), "bal:an%ce" NUMERIC(10,2),
                             active BOOLEAN, born DATE, gone TIMESTAMP);
        INSERT INTO people VALUES
            (1, 'a%b:c''d"e\\', 1.10, TRUE, '1999-12-31', NULL),
            (2, 'Bob', 2.5, FALSE, '2000-01-01', NULL),
            (3, NULL, NULL, TRUE, NULL, '2024-01-01 00:00:00'),
            (4, '', -1, NULL, '2024-01-01', NULL);
        """
    )


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("case", CASES)
def test_a_filter_selects_the_rows_it_means(opened: SqlSource, case: str) -> None:
    """
    The same rows from every dialect: in pages, as lines, in counts and in boundaries.
    """
    where, expected = CASES[case]
    table = opened.reflect(None, "people")
    assert table is not None

    found = read_all(reader(opened, "people", where=where), 2)
    bulk = opened.bulk(query_of(table, where=where), table)
    assert bulk is not None
    page = bulk.read(KeyRange(), None, 10)

    assert [int(str(key[0])) for key in found.keys] == expected
    assert [int(line.split(b"\t")[0]) for line in page.lines] == expected
    assert opened.count(query_of(table, where=where)) == len(expected)
    ranges = reader(opened, "people", where=where).split(2)
    assert len(ranges) == min(2, len(expected))


@pytest.mark.usefixtures("people")
def test_fetching_by_key_applies_the_filter(opened: SqlSource) -> None:
    """
    A row that left the filter is not there.
    """
    keys = read_all(reader(opened, "people")).keys

    found = reader(opened, "people", where=_is("<", ID, 3)).fetch(keys)

    assert len(found.keys) == 2


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(
    ("where", "said"),
    [(_is("like", ID, "1%"), "texts"), (_is("=", ColumnRef("nobody"), 1), "'nobody'")],
)
def test_a_filter_that_cannot_be_meant_is_refused(
    opened: SqlSource, where: Filter, said: str
) -> None:
    """
    Unknown columns and patterns against numbers are the mapping's mistakes.
    """
    with pytest.raises(InvalidInput, match=said):
        read_all(reader(opened, "people", where=where))
