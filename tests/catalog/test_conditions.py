"""Conditions over tags: what they say, and what is none."""

import pytest

from millpond.catalog.conditions import MAX_LENGTH, parse_condition
from millpond.kernel.errors import InvalidArgument

TAGS = {"pii": "ssn", "reviewed": "", "it's": "a"}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("", True),
        ("TRUE", True),
        ("false", False),
        ("has_tag('pii')", True),
        ("has_tag('PII')", False),
        ("has_tag_value('pii', 'ssn')", True),
        ("has_tag_value('pii', 'email')", False),
        ("has_tag_value('reviewed', '')", True),
        ("HASTAG(\"pii\") and hasTagValue('pii','ssn')", True),
        ("NOT has_tag('pii') OR has_tag('reviewed')", True),
        ("NOT (has_tag('pii') OR has_tag('reviewed'))", False),
        ("has_tag('no') AND has_tag('no') OR has_tag('pii')", True),
        ("has_tag('no') AND (has_tag('no') OR has_tag('pii'))", False),
        ("NOT NOT has_tag('pii')", True),
        ("has_tag('it''s')", True),
        (r"has_tag('it\'s')", True),
    ],
)
def test_it_holds_for_tags(text: str, holds: bool) -> None:
    """AND binds closer than OR; case counts in keys and values, not in words."""
    assert parse_condition(text).holds(TAGS) is holds


def test_it_tells_which_tags_it_asks_for() -> None:
    """With their values, where it asks for one."""
    found = parse_condition("has_tag('a') OR NOT has_tag_value('b', 'c')")
    assert found.tags == {("a", None), ("b", "c")}


@pytest.mark.parametrize(
    "text",
    [
        "pii", "has_tag", "has_tag()", "has_tag(pii)", "has_tag('a', 'b')", "has_tag_value('a')", "has_tag(TRUE)", "()",
        "has_tag('a') has_tag('b')", "has_tag('a'", "AND has_tag('a')", "has_tag('a') AND", "NOT", "1 = 1",
        "has_tag('a", "has_tag('a') -- and", "current_user() = 'x'", "NOT " * 60 + "TRUE", "(" * 60 + "TRUE" + ")" * 60,
        "has_tag('" + "a" * MAX_LENGTH + "')",
    ],
)  # fmt: skip
def test_what_is_none_is_refused(text: str) -> None:
    """With its text, and where it went wrong."""
    with pytest.raises(InvalidArgument, match="condition"):
        parse_condition(text)
