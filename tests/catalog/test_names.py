"""Names: what is allowed, how they fold, how they are quoted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.catalog.names import ObjectName, SchemaName, fold_name, quote, split_name
from millpond.kernel.errors import InvalidArgument


def test_names_fold_to_lower_case_and_one_unicode_form() -> None:
    """Two spellings of one name are one name."""
    assert ObjectName("Main", "S", "CAFE\u0301") == ObjectName("main", "s", "caf\u00e9")


def test_a_quoted_name_is_parsed_with_its_backticks() -> None:
    """A doubled backtick inside quotes is one."""
    assert str(ObjectName.parse("`My``Cat`.s.`t-1`")) == "my`cat.s.t-1"


@pytest.mark.parametrize("text", ["a.b", "a.b.c.d", "a..c", "`a.b.c", "`a`b.c.d", "", "a.b.`c.d`", "a.b. c"])
def test_what_is_no_three_level_name_is_refused(text: str) -> None:
    """The error says what is wrong."""
    with pytest.raises(InvalidArgument, match="name"):
        ObjectName.parse(text)


@pytest.mark.parametrize("bad", ["", "a b", "a/b", "a.b", "a\nb", "a\x00b", "\ud800", "\x7f", "x" * 256, ".."])
def test_characters_that_unity_forbids_are_refused(bad: str) -> None:
    """In every level."""
    for make in (lambda: SchemaName(bad, "s"), lambda: SchemaName("c", bad), lambda: ObjectName("c", "s", bad)):
        with pytest.raises(InvalidArgument):
            make()


@given(st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_quoting_and_splitting_are_inverse(parts: list[str]) -> None:
    """Whatever characters the parts hold."""
    assert split_name(".".join(quote(part) for part in parts)) == tuple(parts)


@given(st.text(max_size=300))
def test_folding_is_idempotent_or_refuses(text: str) -> None:
    """A stored name means itself."""
    try:
        name = fold_name(text, "table")
    except InvalidArgument:
        return
    assert fold_name(name, "table") == name
