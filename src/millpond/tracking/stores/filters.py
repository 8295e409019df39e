"""Filters of searches apart from the texts that they compare with: what is made of one serves all that differ in them.

MLflow reads a filter with a parser of SQL, and a statement is made of what it reads; each takes longer than to run it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.entities.model_registry.prompt_version import IS_PROMPT_TAG_KEY
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

    Raises ValueError where a name is not, just once, all that something is compared with, and where MLflow looks at the
    text itself.
    """
    used: list[str] = []
    made = [{**each, "value": _parameter(each["value"], used)} for each in parsed]
    if sorted(used) != sorted(names) or any(each["key"] == IS_PROMPT_TAG_KEY for each in parsed):
        raise ValueError(names)
    return made


def _parameter(value: Any, used: list[str]) -> Any:
    if isinstance(value, tuple):
        return [_parameter(each, used) for each in value]
    if not isinstance(value, str):
        return value
    used.append(value)
    return bindparam(value)
