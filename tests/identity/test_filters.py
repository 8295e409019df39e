"""Directory filters are read as RFC 7644 says, and what cannot be read is named."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.identity.filters import Both, Compare, Comparison, Either, InvalidFilter, Not, parse_filter

EQ = Comparison.EQUAL


def compare(attribute: str, value: object, comparison: Comparison = EQ) -> Compare:
    return Compare(attribute=attribute, comparison=comparison, value=value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('userName eq "ada@example.com"', compare("username", "ada@example.com")),
        ('USERNAME EQ "x"', compare("username", "x")),
        ("active eq true", compare("active", True)),
        ("active eq False", compare("active", False)),
        ("externalId pr", compare("externalid", None, Comparison.PRESENT)),
        ('displayName co "a \\"b\\" c"', compare("displayname", 'a "b" c', Comparison.CONTAINS)),
        ('displayName sw "a) or ("', compare("displayname", "a) or (", Comparison.STARTS_WITH)),
        ('urn:ietf:params:scim:schemas:core:2.0:User:userName eq "x"', compare("username", "x")),
        ('emails.value eq "x"', compare("emails.value", "x")),
        ("id eq 7", compare("id", 7)),
    ],
)
def test_a_comparison_is_read(text: str, expected: Compare) -> None:
    assert parse_filter(text) == expected


def test_and_binds_tighter_than_or() -> None:
    found = parse_filter('a eq "1" or b eq "2" and not c eq "3"')
    assert found == Either(
        left=compare("a", "1"), right=Both(left=compare("b", "2"), right=Not(inner=compare("c", "3")))
    )


def test_parentheses_bind_first() -> None:
    found = parse_filter('(a eq "1" or b eq "2") and c eq "3"')
    assert found == Both(left=Either(left=compare("a", "1"), right=compare("b", "2")), right=compare("c", "3"))


@pytest.mark.parametrize(
    "text",
    [
        "", "userName", "userName eq", 'userName like "x"', "userName eq x", 'userName eq "x', '(userName eq "x"',
        'userName eq "x")', 'userName eq "x" and', 'userName eq "a\\u0000"', 'userName eq "\\ud800"', "userName eq [1]",
        "not " * 30 + "a pr",
        "(" * 30 + "a pr" + ")" * 30, " or ".join(["a pr"] * 60), "a eq " + '"' + "x" * 5000 + '"',
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InvalidFilter):
        parse_filter(text)


@given(st.text())
def test_any_text_is_read_or_refused_but_never_crashes(text: str) -> None:
    with contextlib.suppress(InvalidFilter):
        parse_filter(text)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_any_value_survives_quoting(value: str) -> None:
    assert parse_filter(f"userName eq {json.dumps(value)}") == compare("username", value)
