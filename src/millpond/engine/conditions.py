"""Where the condition of an UPDATE, DELETE or MERGE stands in its text."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlglot import TokenType

_QUOTED = frozenset({TokenType.IDENTIFIER, TokenType.STRING})


def condition_span(kind: str, tokens: Sequence[Any]) -> tuple[int, int]:
    """Start and end of the condition of WHERE or ON, both at the statement's end when it has none."""
    tokens = [token for token in tokens if token.token_type is not TokenType.SEMICOLON]
    end = int(tokens[-1].end) + 1
    if kind != "merge":
        where = _first(tokens, lambda at: _is(tokens[at], "WHERE"))
        return (end, end) if where is None else (int(tokens[where].end) + 1, end)
    on = _first(tokens, lambda at: _is(tokens[at], "ON"))
    when = _first(tokens, lambda at: _starts_clause(tokens, at))
    if on is None or when is None:
        return end, end
    return int(tokens[on].end) + 1, int(tokens[when - 1].end) + 1


def _first(tokens: Sequence[Any], wanted: Callable[[int], bool]) -> int | None:
    """The first wanted token outside of parentheses."""
    depth = 0
    for at, token in enumerate(tokens):
        depth += (token.token_type is TokenType.L_PAREN) - (token.token_type is TokenType.R_PAREN)
        if depth == 0 and wanted(at):
            return at
    return None


def _is(token: Any, word: str) -> bool:
    return token.token_type not in _QUOTED and str(token.text).upper() == word


def _starts_clause(tokens: Sequence[Any], at: int) -> bool:
    """Whether WHEN [NOT] MATCHED stands here; a WHEN alone is one of CASE."""
    if not _is(tokens[at], "WHEN"):
        return False
    following = [token for token in tokens[at + 1 : at + 3] if not _is(token, "NOT")]
    return bool(following) and _is(following[0], "MATCHED")
