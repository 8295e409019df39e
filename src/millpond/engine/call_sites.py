"""Calls in SQL text of what may be a function of the catalog, or answers by who asks: where they stand."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlglot import TokenType, exp
from sqlglot.dialects.databricks import Databricks

GROUP_FUNCTIONS = frozenset({"is_account_group_member", "is_member"})
"""Whether whoever asks is a member of the group that is named: only the gateway knows."""

_CALLED = re.compile(r"([\w`]+)\s*\(")
_DOTTED = re.compile(r"\.\s*(?:\w+|`[^`]+`)\s*\(")
_WORD = re.compile(r"\w+\Z")
_OPENING = frozenset({TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE})
_CLOSING = frozenset({TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE})


@dataclass(frozen=True, kw_only=True)
class Argument:
    """One argument: `text[start:end]`, without the name that `name => value` gives it."""

    start: int
    end: int
    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class RoutineSite:
    """A call: `text[start:end]`."""

    parts: tuple[str, ...]
    start: int
    end: int
    arguments: tuple[Argument, ...]
    is_column: bool
    """Whether it is a result column without a name of its own."""


@cache
def builtin_names() -> frozenset[str]:
    """Names of functions that the engine has; a function of the catalog goes by its full name beside one of them."""
    names = {str(name).lower() for name in Databricks.Parser.FUNCTIONS}
    found = find_spec("pyspark")
    for place in (found.submodule_search_locations or ()) if found else ():
        source = Path(place) / "sql" / "connect" / "functions" / "builtin.py"
        names.update(name.lower() for name in re.findall(r"^def (\w+)", source.read_text(), re.MULTILINE))
    return frozenset(names)


def may_call_routines(text: str) -> bool:
    """Whether a text may call a function of the catalog, or ask for a group."""
    if _DOTTED.search(text):
        return True
    called = {name.lower() for name in _CALLED.findall(text)}
    return bool(called) and not called <= builtin_names()


def routine_sites(tokens: Sequence[Any], tree: exp.Expr) -> Iterator[RoutineSite]:
    """The calls in a text, each after those that stand in its arguments."""
    unknown = {node.name.lower() for node in tree.find_all(exp.Anonymous)} | _dotted_ends(tokens)
    if not unknown:
        return
    found = (_site(tokens, at) for at, token in enumerate(tokens) if token.token_type is TokenType.L_PAREN)
    sites = [site for site in found if site is not None and site.parts[-1].lower() in unknown]
    yield from sorted(sites, key=lambda site: site.end - site.start)


def _dotted_ends(tokens: Sequence[Any]) -> set[str]:
    return {
        str(tokens[at - 1].text).lower()
        for at in range(2, len(tokens))
        if tokens[at].token_type is TokenType.L_PAREN and tokens[at - 2].token_type is TokenType.DOT
    }


def _site(tokens: Sequence[Any], opening: int) -> RoutineSite | None:
    first = opening
    parts: list[str] = []
    while first and _is_name(tokens[first - 1]):
        first -= 1
        parts.insert(0, str(tokens[first].text))
        if not first or tokens[first - 1].token_type is not TokenType.DOT:
            break
        first -= 1
    if not parts or (len(parts) == 1 and not _is_routine(parts[0])):
        return None
    closing = _closing(tokens, opening)
    return RoutineSite(
        parts=tuple(parts),
        start=int(tokens[first].start),
        end=int(tokens[closing].end) + 1,
        arguments=tuple(_arguments(tokens, opening + 1, closing)),
        is_column=is_result(tokens, first, closing + 1),
    )


def _is_name(token: Any) -> bool:
    quoted = token.token_type is TokenType.IDENTIFIER
    return quoted or (token.token_type is not TokenType.STRING and _WORD.match(str(token.text)) is not None)


def _is_routine(name: str) -> bool:
    return name.lower() in GROUP_FUNCTIONS or name.lower() not in builtin_names()


def _closing(tokens: Sequence[Any], opening: int) -> int:
    depth = 0
    for at in range(opening, len(tokens)):
        depth += (tokens[at].token_type in _OPENING) - (tokens[at].token_type in _CLOSING)
        if depth == 0:
            return at
    return len(tokens) - 1


def _arguments(tokens: Sequence[Any], first: int, closing: int) -> Iterator[Argument]:
    depth, start = 0, first
    for at in range(first, closing + 1):
        kind = tokens[at].token_type
        if start < at and depth == 0 and (kind is TokenType.COMMA or at == closing):
            yield _argument(tokens, start, at)
        if depth == 0 and kind is TokenType.COMMA:
            start = at + 1
        depth += (kind in _OPENING) - (kind in _CLOSING)


def _argument(tokens: Sequence[Any], start: int, stop: int) -> Argument:
    name = None
    if stop - start > 2 and tokens[start + 1].token_type is TokenType.FARROW:
        name, start = str(tokens[start].text), start + 2
    return Argument(start=int(tokens[start].start), end=int(tokens[stop - 1].end) + 1, name=name)


def is_result(tokens: Sequence[Any], before: int, after: int) -> bool:
    """Whether the tokens stand alone between SELECT or a comma and a comma, FROM or the end."""
    previous = str(tokens[before - 1].text).upper() if before else ""
    following = str(tokens[after].text).upper() if after < len(tokens) else ""
    return (previous == "SELECT" and following in {"", ",", "FROM", ")", ";"}) or (
        previous == "," and following in {"", "FROM", ";"}
    )
