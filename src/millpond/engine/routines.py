"""Functions of the catalog, put into the text that calls them: `CAST((body) AS type)`, with arguments for parameters.

The engine knows nothing of them. A body reads tables with the caller's rights in a query, whose text the caller wrote
and whose engine is the caller's; in a row filter, a mask and a view of others with the function's owner's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import sqlglot
from sqlglot import exp

from millpond.catalog.domain import Function
from millpond.catalog.names import quote, split_name
from millpond.engine.call_sites import GROUP_FUNCTIONS
from millpond.engine.errors import AnalysisError, quoted, unsupported
from millpond.engine.expression_text import ExpressionText
from millpond.engine.queries import analyse
from millpond.engine.syntax.columns import data_type
from millpond.engine.syntax.cursor import Cursor
from millpond.identity.access import Act, require
from millpond.identity.domain import Principal
from millpond.kernel.errors import NotFound

if TYPE_CHECKING:
    from millpond.engine.binding import Binder
    from millpond.engine.rewriting import Sources

MAX_DEPTH = 20
_EVERYBODY = "account users"
_PREFIX, _SUFFIX = "SELECT (", "\n)"  # the body may end with a comment

Given = tuple[str | None, str]
"""An argument's name, where it has one, and its text."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of a function."""

    name: str
    type: str
    """SQL."""
    default: str | None = None


@dataclass(frozen=True, kw_only=True)
class SqlFunction:
    """A function whose body is one SQL expression."""

    name: str
    parameters: tuple[Parameter, ...]
    returns: str | None
    """SQL; None for what the body is."""
    body: str
    home: tuple[str, str]
    """Catalog and schema in which the body's names are meant."""


@dataclass(frozen=True, kw_only=True)
class _Heads:
    """What a body says that is not the names of tables."""

    columns: tuple[tuple[str, int, int, bool], ...]
    """First part of each column's name in lower case, where it stands, and whether it is all of the name."""
    bound: frozenset[str]
    """Names that mean something inside only: aliases, common table expressions, variables of lambdas."""


def called(binder: "Binder", parts: tuple[str, ...], arguments: Sequence[Given], sources: "Sources") -> str | None:
    """The text for a call with arguments that are rewritten already; None for what the engine itself must know."""
    if len(parts) == 1 and parts[0].lower() in GROUP_FUNCTIONS:
        return None if binder.is_absolute else _membership(binder.invoker, parts[0], arguments)
    function = binder.function(parts)
    if function is None:
        return None
    if binder.is_absolute:  # it is called when what is made now is read
        name = ".".join(map(quote, (function.name.catalog, function.name.schema, function.name.name)))
        return f"{name}({', '.join(f'{key} => {text}' if key else text for key, text in arguments)})"
    try:
        require(binder.principal, Act.USE, function.securable)
    except NotFound as error:
        raise routine_not_found(parts) from error
    owner = binder.world.owner_of(function) if binder.trusted else None
    return inlined(binder, sql_function(function), arguments, sources, owner)


def call_of_function(
    binder: "Binder", parts: tuple[str, ...], arguments: Sequence[Any], sources: "Sources"
) -> str | None:
    """The same for a call that is no text, with arguments that are bound already."""
    if len(parts) > 1 or parts[0].lower() in GROUP_FUNCTIONS or binder.function(parts) is not None:
        write = _ArgumentText(alias="", plan_ids=frozenset())
        texts = [(None, write(each)) for each in arguments]
        if write.functions:
            raise unsupported("A function of your own inside a call of the catalog's; compute it as a column first.")
        return called(binder, parts, texts, sources)
    return None


class _ArgumentText(ExpressionText):
    """Columns by their names, whichever DataFrame they were taken from."""

    def column(self, attribute: Any) -> str:
        return ".".join(map(quote, split_name(attribute.unparsed_identifier)))


def inlined(
    binder: "Binder",
    function: SqlFunction,
    arguments: Sequence[Given],
    sources: "Sources",
    owner: Principal | None = None,
) -> str:
    """The function's body for some arguments; it reads with the rights of `owner`, or else the binder's."""
    from millpond.engine.rewriting import rewritten

    if binder.depth >= MAX_DEPTH:
        raise AnalysisError(
            "RECURSIVE_FUNCTION", f"Functions call each other deeper than {MAX_DEPTH} times at {function.name}."
        )
    values = _matched(function, arguments)
    query = analyse(f"{_PREFIX}{function.body}{_SUFFIX}")
    inner = binder.nested(home=function.home, views=False, principal=owner)
    heads = _heads(query.text)
    _refuse_capture(inner, function, query, heads, [text for _, text in arguments])
    edits = [
        (start, end, values[name])
        for name, start, end, alone in heads.columns
        if name in values and (alone or name not in heads.bound)
    ]
    text = rewritten(inner, query, sources, edits)
    body = text.removeprefix("SELECT ")
    return body if function.returns is None else f"CAST({body} AS {function.returns})"


def sql_function(function: Function) -> SqlFunction:
    """The function as it can be put into a text. Raises AnalysisError and UnsupportedError for what cannot be."""
    kept = function.definition
    body = str(kept.get("routine_definition") or "")
    if str(kept.get("routine_body") or "SQL").upper() != "SQL" or not body:
        raise unsupported(f"The function {function.name} is not of SQL; only such functions can be called here.")
    path = str(kept.get("sql_path") or "").split(".")
    made = SqlFunction(
        name=str(function.name),
        parameters=_parameters(function),
        returns=checked_type(str(kept.get("full_data_type") or kept.get("data_type") or "")),
        body=body,
        home=(path[0], path[1]) if len(path) == 2 else (function.name.catalog, function.name.schema),
    )
    check_body(made)
    return made


def _parameters(function: Function) -> tuple[Parameter, ...]:
    """What the REST object says of them, which its maker may have written in any form."""
    try:
        given = (function.definition.get("input_params") or {}).get("parameters") or []
        return tuple(
            Parameter(
                name=str(item["name"]),
                type=checked_type(str(item["type_text"])),
                default=item.get("parameter_default") and str(item["parameter_default"]),
            )
            for item in given
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise unsupported(f"The parameters of {function.name} are not described as in Unity Catalog.") from error


@lru_cache(maxsize=1024)
def checked_type(text: str) -> str:
    """A type's SQL, written anew, so that nothing else can stand in it."""
    from millpond.engine.types import sql_text

    cursor = Cursor(text)
    kind = data_type(cursor)
    cursor.expect_end()
    return sql_text(kind)


@lru_cache(maxsize=1024)
def check_body(function: SqlFunction) -> None:
    """Refuse a body that is not one expression, or that reads what is neither a parameter nor of a table in it.

    Raises ParseError, AnalysisError.
    """
    for text in (function.body, *(each.default for each in function.parameters if each.default is not None)):
        _check_balance(text)
    query = analyse(f"{_PREFIX}{function.body}{_SUFFIX}")
    if query.kind != "query":
        raise unsupported(f"The body of {function.name} must be an expression.")
    names = {each.name.lower() for each in function.parameters}
    if len(names) < len(function.parameters):
        raise AnalysisError(
            "DUPLICATE_ROUTINE_PARAMETER_NAMES",
            f"Found duplicate names in the parameter list of {function.name}.",
            sql_state="42734",
        )
    unknown = [name for name, _, _, _ in _heads(query.text).columns if name not in names]
    if unknown and not query.tables:
        raise AnalysisError(
            "UNRESOLVED_COLUMN.WITHOUT_SUGGESTION",
            f"A column, variable, or function parameter with name {quoted((unknown[0],))} cannot be resolved in "
            f"function {function.name}.",
            sql_state="42703",
        )


def _check_balance(text: str) -> None:
    """Raises ParseError where the text closes what it did not open, or has more than one expression."""
    cursor = Cursor(text)
    depth = 0
    while (word := cursor.word()) is not None:
        bare = not (word.is_name or word.is_string)
        depth += (bare and word.text in "([{") - (bare and word.text in ")]}")
        if depth < 0 or (bare and (word.text == ";" or (word.text == "," and depth == 0))):
            cursor.fail("the function's body must be one expression")
        cursor.take()
    if depth:
        cursor.fail("the function's body must be one expression")


@lru_cache(maxsize=1024)
def _heads(text: str) -> _Heads:
    tree = sqlglot.parse_one(text, dialect="databricks")
    columns = []
    for column in tree.find_all(exp.Column):
        first = column.parts[0]
        if isinstance(first, exp.Identifier) and "start" in first.meta:
            place = (int(first.meta["start"]), int(first.meta["end"]) + 1)
            columns.append((first.name.lower(), *place, len(column.parts) == 1))
    bound = {alias.name.lower() for alias in tree.find_all(exp.TableAlias) if alias.name}
    bound |= {table.name.lower() for table in tree.find_all(exp.Table)}
    bound |= {each.name.lower() for node in tree.find_all(exp.Lambda) for each in node.expressions}
    return _Heads(columns=tuple(columns), bound=frozenset(bound))


def _matched(function: SqlFunction, arguments: Sequence[Given]) -> dict[str, str]:
    """The text of each parameter, by its name in lower case."""
    wanted = {each.name.lower(): each for each in function.parameters}
    if len(arguments) > len(wanted):
        raise wrong_number_of_arguments(function, len(arguments))
    given = {name.lower() if name else key: text for key, (name, text) in zip(wanted, arguments, strict=False)}
    unknown = set(given) - set(wanted)
    if unknown or len(given) < len(arguments):
        raise AnalysisError(
            "UNRECOGNIZED_PARAMETER_NAME",
            f"Cannot invoke routine {function.name} because of the named arguments {sorted(unknown or given)}; its "
            f"parameters are {', '.join(wanted)}.",
            sql_state="4274K",
        )
    given = {key: each.default for key, each in wanted.items() if each.default is not None} | given
    if len(given) < len(wanted):
        raise wrong_number_of_arguments(function, len(arguments))
    return {key: f"CAST(({given[key]}\n) AS {each.type})" for key, each in wanted.items()}


def _refuse_capture(
    binder: "Binder", function: SqlFunction, query: Any, heads: _Heads, arguments: Sequence[str]
) -> None:
    """Refuse an argument that would mean something else in the body: a column of its table, a lambda's variable."""
    if not heads.bound or not arguments:
        return
    hidden = set(heads.bound)
    for site in query.tables:
        if len(site.parts) != 2 or site.parts[0].lower() != "delta":
            hidden |= {column.name.lower() for column in binder.table(site.parts).columns}
    for argument in arguments:
        cursor = Cursor(argument)
        while (word := cursor.word()) is not None:
            cursor.take()
            if word.is_name and word.text.lower() in hidden:
                raise unsupported(
                    f"An argument of {function.name} is called {word.text}, and so is something in its body; give the "
                    "argument another name in a subquery first."
                )


def _membership(who: Principal, function: str, arguments: Sequence[Given]) -> str:
    """Whether the name that an expression gives is a group of whoever asks; `is_member` knows the same groups."""
    if len(arguments) != 1:
        raise AnalysisError(
            "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
            f"The `{function}` requires 1 parameters but the actual number is {len(arguments)}.",
            sql_state="42605",
        )
    names = ", ".join("'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'" for name in groups_of(who))
    return f"(({arguments[0][1]}\n) IN ({names}))"


def groups_of(who: Principal) -> list[str]:
    """The names of the groups of whoever asks, that of everybody too."""
    return sorted({*who.groups, _EVERYBODY})


def wrong_number_of_arguments(function: SqlFunction, given: int) -> AnalysisError:
    """The error for a call."""
    wanted = len(function.parameters)
    return AnalysisError(
        "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
        f"The `{function.name}` requires {wanted} parameters but the actual number is {given}.",
        sql_state="42605",
        parameters={"functionName": f"`{function.name}`", "expectedNum": str(wanted), "actualNum": str(given)},
    )


def routine_not_found(parts: tuple[str, ...]) -> AnalysisError:
    """The error for a function that is not there, or not for the asker."""
    return AnalysisError(
        "UNRESOLVED_ROUTINE",
        f"Cannot resolve routine {quoted(parts)} on search path [`system`.`builtin`, `system`.`session`, current "
        "schema]. Verify the spelling, and that you have EXECUTE on it.",
        sql_state="42883",
        parameters={"routineName": quoted(parts)},
    )
