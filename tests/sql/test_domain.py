"""What a statement is, from its text alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.kernel.errors import InvalidArgument
from millpond.sql.domain import Parameter, check_parameters, leaves_session_alone, statement_kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("SELECT 1", "SELECT"),
        ("  -- why\n/* and\nhow */ (select 1)", "SELECT"),
        ("WITH a AS (SELECT 1) SELECT * FROM a", "SELECT"),
        ("WITH a AS (SELECT ')' AS b) INSERT INTO t SELECT * FROM a", "INSERT"),
        ("with a (x) as (select 1), `b)` as (select 2 /* ( */) -- (\nmerge into t using a on true", "MERGE"),
        ("WITH a AS (SELECT 1", "SELECT"),
        ("desc t", "DESCRIBE"),
        ("INSERT INTO t VALUES (1)", "INSERT"),
        ("VACUUM t", "OTHER"),
        ("", "OTHER"),
        ("/* never closed", "OTHER"),
    ],
)
def test_the_first_word_says_the_kind(text: str, kind: str) -> None:
    assert statement_kind(text) == kind


@given(st.text(max_size=80))
def test_any_text_has_a_kind(text: str) -> None:
    assert statement_kind(text)


def test_what_changes_a_session_never_shares_one() -> None:
    for text in ("SET a = 1", "USE main", "CREATE TEMPORARY VIEW v AS SELECT 1", "RESET", "UNCACHE TABLE t"):
        assert not leaves_session_alone(statement_kind(text)), text


@given(st.text(max_size=40))
def test_no_type_of_a_parameter_smuggles_sql(text: str) -> None:
    """Whatever passes is words, digits, and one pair of parentheses of a decimal's."""
    try:
        check_parameters([Parameter(name="a", value="1", type=text)])
    except InvalidArgument:
        return
    assert all(character.isalnum() or character in "_(), \t\n\r\f\v" or character.isspace() for character in text)
    assert text.count("(") <= 1


@pytest.mark.parametrize(
    "parameters",
    [
        [Parameter(name="a", value="1"), Parameter(name="a", value="2")],
        [Parameter(name="a", value="1"), Parameter(ordinal=1, value="2")],
        [Parameter(ordinal=2, value="1")],
        [Parameter(value="1")],
        [Parameter(name="a.b", value="1")],
    ],
)
def test_parameters_have_one_place_each(parameters: list[Parameter]) -> None:
    with pytest.raises(InvalidArgument):
        check_parameters(parameters)
