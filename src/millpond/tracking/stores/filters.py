"""Filters of searches apart from the texts that they compare with: what is made of one serves all that differ in them.

MLflow reads a filter with a parser of SQL, and a statement is made of what it reads; each takes longer than to run it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam

_TEXT = re.compile(r"'([^'\"`\\]*)'")
_PLAIN = re.compile(r"[\w\s.,()=!<>']*")


def template_of(filter_string: str) -> tuple[str, dict[str, str]]:
    """A filter with a name in the place of each text, and the texts by name; without any where that could be wrong."""
    texts: dict[str, str] = {}

    def name(found: re.Match[str]) -> str:
        name = f"text_{len(texts)}"
        texts[name] = found[1]
        return f"'{name}'"

    template = _TEXT.sub(name, filter_string)
    return (template, texts) if _PLAIN.fullmatch(template) else (filter_string, {})


def with_parameters(parsed: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """A template's comparisons, as MLflow has read them, with parameters of these names in the places of the texts.

    Raises ValueError where a name is only a part of what is compared with.
    """
    return [{**each, "value": _parameter(each["value"], names)} for each in parsed]


def _parameter(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, tuple):
        return [_parameter(each, names) for each in value]
    if not isinstance(value, str):
        return value
    if value not in names:
        raise ValueError(value)
    return bindparam(value)
