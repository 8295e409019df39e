"""Filters of a directory list, as SCIM clients write them: `userName eq "ada@example.com" and active eq true`.

Source: RFC 7644, section 3.4.2.2. Whether an attribute exists is for the store to say.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from millpond.kernel.errors import InvalidArgument

_MAX_LENGTH = 4000
_MAX_DEPTH = 20
_MAX_COMPARISONS = 50


class InvalidFilter(InvalidArgument):
    """A filter that cannot be read, or asks for what a list cannot be filtered by."""

    scim_type = "invalidFilter"


class Comparison(Enum):
    """How an attribute is compared with a value."""

    EQUAL = "eq"
    NOT_EQUAL = "ne"
    CONTAINS = "co"
    STARTS_WITH = "sw"
    ENDS_WITH = "ew"
    PRESENT = "pr"


Value: TypeAlias = str | bool | int | float | None


@dataclass(frozen=True, kw_only=True)
class Compare:
    """One comparison; `value` has no meaning for PRESENT."""

    attribute: str
    """Without its schema's URN, in lower case."""
    comparison: Comparison
    value: Value = None


@dataclass(frozen=True, kw_only=True)
class Not:
    """What does not pass the inner filter."""

    inner: "Filter"


@dataclass(frozen=True, kw_only=True)
class Both:
    """What passes both filters."""

    left: "Filter"
    right: "Filter"


@dataclass(frozen=True, kw_only=True)
class Either:
    """What passes one of the filters, or both."""

    left: "Filter"
    right: "Filter"


Filter: TypeAlias = Compare | Not | Both | Either


@dataclass(frozen=True, kw_only=True)
class SortKey:
    """The attribute (in lower case) by which a list is sorted."""

    attribute: str
    descending: bool = False


_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_TOKEN = re.compile(r'\s*(?:(?P<string>"(?:[^"\\]|\\.)*")|(?P<mark>[()\[\]])|(?P<word>[^\s()\[\]"]+))')


def parse_filter(text: str) -> Filter:
    """The filter that a text says.

    Raises InvalidFilter.
    """
    if len(text) > _MAX_LENGTH:
        raise InvalidFilter(f"The filter has {len(text)} characters; at most {_MAX_LENGTH} are allowed.")
    parser = _Parser(text)
    found = parser.either(0)
    parser.expect_end()
    return found


def attribute_name(text: str) -> str:
    """An attribute's path in lower case, without the schema URN that may stand before it."""
    return text.rpartition(":")[2].casefold() if text.casefold().startswith("urn:") else text.casefold()


class _Parser:
    """Recursive descent; `not` binds tighter than `and`, `and` tighter than `or`."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_scan(text))
        self._at = 0
        self._comparisons = 0

    def either(self, depth: int) -> Filter:
        found = self._both(depth)
        while self._take_word("or"):
            found = Either(left=found, right=self._both(depth))
        return found

    def expect_end(self) -> None:
        if self._at < len(self._tokens):
            raise self._wrong(f"'{self._tokens[self._at]}' was not expected")

    def _both(self, depth: int) -> Filter:
        found = self._single(depth)
        while self._take_word("and"):
            found = Both(left=found, right=self._single(depth))
        return found

    def _single(self, depth: int) -> Filter:
        if depth > _MAX_DEPTH:
            raise self._wrong("it is nested too deeply")
        if self._take_word("not"):
            return Not(inner=self._single(depth + 1))
        if self._take_word("("):
            found = self.either(depth + 1)
            if not self._take_word(")"):
                raise self._wrong("a ')' is missing")
            return found
        return self._compare()

    def _compare(self) -> Filter:
        self._comparisons += 1
        if self._comparisons > _MAX_COMPARISONS:
            raise self._wrong(f"it has more than {_MAX_COMPARISONS} comparisons")
        attribute = attribute_name(self._next("an attribute"))
        word = self._next("a comparison").casefold()
        try:
            comparison = Comparison(word)
        except ValueError:
            known = ", ".join(each.value for each in Comparison)
            raise self._wrong(f"'{word}' is not one of the comparisons {known}") from None
        if comparison is Comparison.PRESENT:
            return Compare(attribute=attribute, comparison=comparison)
        return Compare(attribute=attribute, comparison=comparison, value=self._value())

    def _value(self) -> Value:
        token = self._next("a value")
        try:
            value = json.loads(token.lower() if token.lower() in {"true", "false", "null"} else token)
        except ValueError:
            raise self._wrong(f"{token} is not a value; write text in double quotes") from None
        if not isinstance(value, (str, bool, int, float, type(None))):
            raise self._wrong(f"{token} is not a value")
        if isinstance(value, str) and _UNSTORABLE.search(value):
            raise self._wrong("the value has characters that no text may hold")
        return value

    def _next(self, what: str) -> str:
        if self._at >= len(self._tokens):
            raise self._wrong(f"{what} is missing at its end")
        self._at += 1
        return self._tokens[self._at - 1]

    def _take_word(self, word: str) -> bool:
        found = self._at < len(self._tokens) and self._tokens[self._at].casefold() == word
        self._at += found
        return found

    def _wrong(self, why: str) -> InvalidFilter:
        return InvalidFilter(f"The filter {self._text[:200]!r} cannot be read: {why}.")


def _scan(text: str) -> Iterator[str]:
    at = 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise InvalidFilter(f"The filter {text[:200]!r} cannot be read: a double quote is not closed.")
        yield match.group().strip()
        at = match.end()
