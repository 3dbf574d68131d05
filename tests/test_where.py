"""
Row filters: what the grammar accepts, what it turns it into, and what it refuses.
"""

from __future__ import annotations

import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrate.mapping.where import MAX_FILTER, FilterError, parse_where
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
    columns_of,
)

A, B, C = ColumnRef("a"), ColumnRef("b"), ColumnRef("c")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a IS NULL", IsNull(A)),
        ("a is not null", IsNull(A, negated=True)),
        ("a", Truth(A)),
        ("a IS TRUE", Truth(A, wanted=True)),
        ("a IS NOT FALSE", Truth(A, wanted=False, negated=True)),
        ("a = 1", Comparison("=", A, Constant(1))),
        ("a != 1", Comparison("<>", A, Constant(1))),
        ("a<>1", Comparison("<>", A, Constant(1))),
        ("a <= -1", Comparison("<=", A, Constant(-1))),
        ("1.50 > a", Comparison(">", Constant(Decimal("1.50")), A)),
        ("a = .5", Comparison("=", A, Constant(Decimal(".5")))),
        ("a >= b", Comparison(">=", A, B)),
        ("a = TRUE", Comparison("=", A, Constant(value=True))),
        ("a = ''", Comparison("=", A, Constant(""))),
        ("a = 'it''s; -- /* x */'", Comparison("=", A, Constant("it's; -- /* x */"))),
        ('"My ""Column" = 1', Comparison("=", ColumnRef('My "Column'), Constant(1))),
        ('"NULL" = 1', Comparison("=", ColumnRef("NULL"), Constant(1))),
        ("Größe < 1", Comparison("<", ColumnRef("Größe"), Constant(1))),
        ("a LIKE 'x%'", Comparison("like", A, Constant("x%"))),
        ("a NOT LIKE 'x%'", Comparison("not like", A, Constant("x%"))),
        ("a IN (1, 'x', TRUE)", Membership(A, (Constant(1), Constant("x"), Constant(value=True)))),
        ("a NOT IN (-1)", Membership(A, (Constant(-1),), negated=True)),
        ("a BETWEEN 1 AND b", Between(A, Constant(1), B)),
        ("a NOT BETWEEN 1 AND 2", Between(A, Constant(1), Constant(2), negated=True)),
        ("NOT a", Negation(Truth(A))),
        ("a AND b OR c", Junction("or", (Junction("and", (Truth(A), Truth(B))), Truth(C)))),
        ("a AND (b OR c)", Junction("and", (Truth(A), Junction("or", (Truth(B), Truth(C)))))),
        ("a OR b OR c", Junction("or", (Truth(A), Truth(B), Truth(C)))),
        ("NOT a AND b", Junction("and", (Negation(Truth(A)), Truth(B)))),
        (
            "a BETWEEN 1 AND 2 AND b",
            Junction("and", (Between(A, Constant(1), Constant(2)), Truth(B))),
        ),
        ("\n  a\n  = 1\t", Comparison("=", A, Constant(1))),
    ],
)
def test_a_filter_becomes_a_tree(text: str, expected: Filter) -> None:
    """
    Each form of the grammar has one value, with the precedence of SQL.
    """
    assert parse_where(text) == expected


def test_all_columns_can_be_listed() -> None:
    """
    What a filter looks at is known before any SQL is made of it.
    """
    assert columns_of(parse_where("a = 1 AND NOT (b IN (1) OR c < a)")) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("text", "offset", "word"),
    [
        ("", 0, "empty"),
        ("   ", 0, "empty"),
        ("a = 1; DROP TABLE users", 5, "statement"),
        ("a = 1 -- x", 6, "Comments"),
        ("a = 1 /* x */", 6, "Comments"),
        ("a = 1 # x", 6, "Comments"),
        ("a = --1", 4, "Comments"),
        ("now() > a", 0, "Functions"),
        ("a > now()", 4, "Functions"),
        ("lower(a) = 'x'", 0, "Functions"),
        ("a IN (lower('x'))", 6, "Functions"),
        ("a > CURRENT_TIMESTAMP", 4, "Functions"),
        ("pg_sleep(10) IS NULL", 0, "Functions"),
        ('"pg_sleep"(10) IS NULL', 0, "Functions"),
        ("a IN (SELECT 1)", 6, "Subqueries"),
        ("EXISTS (SELECT 1)", 0, "Subqueries"),
        ("(SELECT 1) = a", 1, "Subqueries"),
        ("a = ANY (b)", 4, "Subqueries"),
        ("a = 1 UNION SELECT 1", 6, "statement"),
        ("a::int = 1", 1, "Casts"),
        ("CAST(a AS int) = 1", 0, "Casts"),
        ("CASE WHEN a THEN b END", 0, "CASE"),
        ("a || b = 'c'", 2, "joined"),
        ("a + 1 = 2", 2, "Arithmetic"),
        ("a = 1 - 1", 6, "Arithmetic"),
        ("a = 2 * 3", 6, "Arithmetic"),
        ("a % 2 = 0", 2, "Arithmetic"),
        ("users.a = 1", 5, "table"),
        ("a = :x", 4, "Parameters"),
        ("a = ?", 4, "Parameters"),
        ("a = $1", 4, "Parameters"),
        ("a = %s", 4, "Arithmetic"),
        ("a = @@version", 4, "Variables"),
        ("`a` = 1", 0, "double quotes"),
        ("[a] = 1", 0, "double quotes"),
        ("a = 'x", 4, "closing quote"),
        ('"a = 1', 0, "closing quote"),
        ('"" = 1', 0, "closing quote"),
        ("a = 'x\x00y'", 6, "Control"),
        ("a = 'x\ny'", 6, "Control"),
        ("a = 1e5", 4, "number"),
        ("a = 1.2.3", 4, "number"),
        ("a = 0x10", 4, "number"),
        ("a = " + "1" * 200, 4, "number"),
        ("a = ٣", 4, "character"),
        ("a == 1", 2, "comparison"),
        ("a = NULL", 4, "never true"),
        ("NULL = a", 0, "never true"),
        ("a IN (1, NULL)", 9, "never true"),
        ("a BETWEEN 1 AND NULL", 16, "never true"),
        ("1 = 1", 0, "needs a column"),
        ("TRUE", 0, "starts with a column"),
        ("'a' IS NULL", 0, "starts with a column"),
        ("a IN ()", 6, "column or a value"),
        ("a IN (b)", 6, "IN takes"),
        ("a LIKE b", 7, "pattern"),
        ("a LIKE 'x' ESCAPE 'y'", 11, "ESCAPE"),
        ("a ILIKE 'x'", 2, "ILIKE"),
        ("a IS DISTINCT FROM b", 5, "NULL, TRUE or FALSE"),
        ("a = DATE '2020-01-01'", 4, "Typed literals"),
        ("a = E'x'", 4, "Typed literals"),
        ("(a, b) = 1", 2, "`)`"),
        ("(a", 2, "ends"),
        ("a AND", 5, "ends"),
        ("a b", 2, "AND, OR or the end"),
        ("a & 1", 2, "character"),
        ("a ~ 'x'", 2, "character"),
        ("(" * 5000 + "a", 33, "within each other"),
        ("NOT " * 2000 + "a", 132, "within each other"),
        ("a" + " OR a" * 5000, MAX_FILTER, "longer"),
    ],
)
def test_everything_else_is_refused_where_it_stands(text: str, offset: int, word: str) -> None:
    """
    Each refusal has its offset and its reason, says what is allowed, and comes at once.
    """
    start = time.process_time()

    with pytest.raises(FilterError) as caught:
        parse_where(text)

    error = caught.value
    assert error.offset == offset
    assert word in error.message
    assert error.fix
    assert time.process_time() - start < 5


@given(st.text(st.sampled_from("ab1 =<>'\"()%;-/*,.:NOTANDORISLKE\n"), max_size=40) | st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """
    No text gives another error than ours, and no refusal repeats a literal.
    """
    try:
        parse_where(text)
    except FilterError as error:
        assert 0 <= error.offset <= len(text)  # noqa: PT017 - either end is fine


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=30))
def test_text_is_kept_whatever_it_holds(value: str) -> None:
    """
    A quoted text is a constant with exactly its characters, never syntax.
    """
    quoted = value.replace("'", "''")

    assert parse_where(f"a = '{quoted}'") == Comparison("=", A, Constant(value))


def test_a_refusal_repeats_no_literal() -> None:
    """
    Values in a filter may be personal; the message does not hold them.
    """
    with pytest.raises(FilterError) as caught:
        parse_where("email = 'jane@example.org' + 1")

    assert "jane" not in f"{caught.value} {caught.value.fix}"
