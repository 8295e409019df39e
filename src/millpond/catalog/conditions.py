"""Conditions over tags: `has_tag('pii') AND NOT has_tag_value('region', 'EU')`.

Source: Databricks, "CREATE POLICY", condition. `hasTag` and `hasTagValue` are their older names.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from millpond.kernel.errors import InvalidArgument

MAX_LENGTH = 4000
_MAX_DEPTH = 50
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*")|(?P<word>\w+)|(?P<mark>[(),]))""", re.DOTALL
)
_ARGUMENTS = {"has_tag": 1, "hastag": 1, "has_tag_value": 2, "hastagvalue": 2}
_HINT = "conditions are made of has_tag('key'), has_tag_value('key', 'value'), AND, OR and NOT"

Holds = Callable[[Mapping[str, str]], bool]


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What a table's or a column's tags must be."""

    holds: Holds
    tags: frozenset[tuple[str, str | None]] = frozenset()
    """The keys that it asks for, each with a value, or None where any will do."""


@dataclass
class _Reader:
    """Reads tokens from left to right; `tags` are noted on the way."""

    text: str
    tokens: list[tuple[str, str]]
    at: int = 0
    depth: int = 0
    tags: set[tuple[str, str | None]] = field(default_factory=set)

    def accept(self, *wanted: str) -> str | None:
        kind, value = self.tokens[self.at]
        if kind == "text" or value.lower() not in wanted:
            return None
        self.at += 1
        return value.lower()

    def expect(self, wanted: str) -> None:
        if self.accept(wanted) is None:
            raise self.error(f"expected {wanted}")

    def string(self) -> str:
        kind, value = self.tokens[self.at]
        if kind != "text":
            raise self.error("expected a text in quotes")
        self.at += 1
        return _unquoted(value)

    def error(self, hint: str) -> InvalidArgument:
        found = self.tokens[self.at][1] or "its end"
        return _unreadable(self.text, found, hint)


@lru_cache(maxsize=1024)
def parse_condition(text: str) -> Condition:
    """The condition of a text; an empty one always holds. Raises InvalidArgument."""
    if not text.strip():
        return Condition(holds=lambda _tags: True)
    if len(text) > MAX_LENGTH:
        raise InvalidArgument(f"A condition has at most {MAX_LENGTH} characters; this has {len(text)}.")
    reader = _Reader(text, list(_tokens(text)))
    holds = _any(reader)
    if reader.tokens[reader.at][0]:
        raise reader.error("extra input")
    return Condition(holds=holds, tags=frozenset(reader.tags))


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at, end = 0, len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            raise _unreadable(text, text[at : at + 20].strip(), _HINT)
        yield found.lastgroup, found[found.lastgroup]
        at = found.end()
    yield "", ""


def _unreadable(text: str, found: str, hint: str) -> InvalidArgument:
    return InvalidArgument(f"The condition '{text[:200]}' cannot be read at {found[:60]}: {hint}.")


def _unquoted(literal: str) -> str:
    quote, inner = literal[0], literal[1:-1]
    return re.sub(r"\\(.)", r"\1", inner.replace(quote * 2, quote), flags=re.DOTALL)


def _any(reader: _Reader) -> Holds:
    parts = [_all(reader)]
    while reader.accept("or"):
        parts.append(_all(reader))
    return lambda tags: any(part(tags) for part in parts)


def _all(reader: _Reader) -> Holds:
    parts = [_one(reader)]
    while reader.accept("and"):
        parts.append(_one(reader))
    return lambda tags: all(part(tags) for part in parts)


def _one(reader: _Reader) -> Holds:
    reader.depth += 1
    if reader.depth > _MAX_DEPTH:
        raise reader.error(f"nested deeper than {_MAX_DEPTH} levels")
    found = _unnested(reader)
    reader.depth -= 1
    return found


def _unnested(reader: _Reader) -> Holds:
    if reader.accept("not"):
        inner = _one(reader)
        return lambda tags: not inner(tags)
    if reader.accept("("):
        inner = _any(reader)
        reader.expect(")")
        return inner
    constant = reader.accept("true", "false")
    if constant is not None:
        return lambda _tags: constant == "true"
    return _call(reader)


def _call(reader: _Reader) -> Holds:
    name = reader.accept(*_ARGUMENTS)
    if name is None:
        raise reader.error(_HINT)
    reader.expect("(")
    key = reader.string()
    value = None
    if _ARGUMENTS[name] == 2:
        reader.expect(",")
        value = reader.string()
    reader.expect(")")
    reader.tags.add((key, value))
    return lambda tags: key in tags and value in (None, tags[key])
