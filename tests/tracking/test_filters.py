"""A filter read once for all that differ in their texts says what MLflow reads in each."""

from typing import Any

import pytest
from mlflow.utils.search_utils import SearchModelVersionUtils
from sqlalchemy import BindParameter

from millpond.tracking.stores.filters import template_of, with_parameters

parse = SearchModelVersionUtils.parse_search_filter


@pytest.mark.parametrize(
    "text",
    [
        "name = 'a'",
        "name='a' and tag.colour != 'light blue; -- /* red'",
        "name IN ('a', 'b') AND run_id NOT IN ('c')",
        "tags.x LIKE '%a_%' and version_number > 3",
        "tag.x = 'text_1' and tag.y = 'text_0'",
        "tag.x = ''",
        "attribute.name = 'ümläut'",
    ],
)
def test_texts_are_put_back_where_they_were(text: str) -> None:
    template, texts = template_of(text)
    assert texts
    found = with_parameters(parse(template), tuple(texts))
    assert [{**each, "value": _given(each["value"], texts)} for each in found] == parse(text)


def _given(value: Any, texts: dict[str, str]) -> Any:
    if isinstance(value, list):
        return tuple(_given(each, texts) for each in value)
    return texts[value.key] if isinstance(value, BindParameter) else value


@pytest.mark.parametrize(
    "text",
    [
        'name = "a"',
        """tag.x = "it's 'b'" """,
        "tag.`x y` = 'a'",
        "name = 'a' -- 'b'",
        "name = 'a' /* 'b' */",
        r"name = 'a\'b'",
    ],
)
def test_what_could_be_read_otherwise_is_left_as_it_is(text: str) -> None:
    assert template_of(text) == (text, {})


@pytest.mark.parametrize("text", ["name = 'it''s'", "name IN ('a' 'b')"])
def test_a_text_in_pieces_is_refused(text: str) -> None:
    template, texts = template_of(text)
    with pytest.raises(ValueError, match="text_"):
        with_parameters(parse(template), tuple(texts))
