"""Parameters of UPDATE, DELETE and MERGE, written into the text as the values that they stand for.

The embedded engine takes parameters in queries only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import TokenType

from millpond.engine.errors import AnalysisError

_ENDS_A_VALUE = frozenset({TokenType.VAR, TokenType.IDENTIFIER, TokenType.R_PAREN, TokenType.R_BRACKET})
"""A colon right after one of them begins a path into a value, `column:field`."""


@dataclass(frozen=True, kw_only=True)
class ParameterSite:
    """A parameter in the text: `text[start:end]`."""

    start: int
    end: int
    name: str | None
    """Of `:name`; None for `?`."""


def parameter_sites(tokens: Sequence[Any]) -> tuple[ParameterSite, ...]:
    """The parameters of a statement, in their order."""
    found = []
    for at, token in enumerate(tokens):
        start, end = int(token.start), int(token.end) + 1
        if token.token_type is TokenType.PLACEHOLDER:
            found.append(ParameterSite(start=start, end=end, name=None))
        elif token.token_type is TokenType.COLON and at + 1 < len(tokens) and not _continues_a_value(tokens, at):
            name = tokens[at + 1]
            if int(name.start) == end:
                found.append(ParameterSite(start=start, end=int(name.end) + 1, name=str(name.text)))
    return tuple(found)


def value_edits(sql: Any, sites: Sequence[ParameterSite]) -> list[tuple[int, int, str]]:
    """Edits that put the values of a SQL relation in the places of its parameters, and take them off the relation.

    Raises AnalysisError for a parameter without a value.
    """
    named, positional = _values(sql)
    for field in ("args", "pos_args", "named_arguments", "pos_arguments"):
        sql.ClearField(field)
    edits, rest = [], iter(positional)
    for site in sites:
        value = next(rest, None) if site.name is None else named.get(site.name)
        if value is None:
            raise _unbound(site.name or "_" + str(site.start))
        edits.append((site.start, site.end, value))
    return edits


def _values(sql: Any) -> tuple[dict[str, str], list[str]]:
    """Texts by name, and in order. Clients before 4.0 give literals, later ones expressions."""
    from millpond.engine.expression_text import ExpressionText  # loads Spark's messages, which commands do without
    from millpond.engine.literals import literal_text

    text = ExpressionText(alias="", plan_ids=frozenset())
    named = {name: literal_text(value) for name, value in sql.args.items()}
    named |= {name: text(value) for name, value in sql.named_arguments.items()}
    return named, [*map(literal_text, sql.pos_args), *map(text, sql.pos_arguments)]


def _continues_a_value(tokens: Sequence[Any], at: int) -> bool:
    return (
        at > 0 and tokens[at - 1].token_type in _ENDS_A_VALUE and int(tokens[at - 1].end) + 1 == int(tokens[at].start)
    )


def _unbound(name: str) -> AnalysisError:
    return AnalysisError(
        "UNBOUND_SQL_PARAMETER",
        f"Found the unbound parameter: {name}. Fix `args` and provide a mapping of the parameter to a SQL literal.",
        sql_state="42P02",
        parameters={"name": name},
    )
