"""Functions of the catalog, put into the text that calls them: `CAST((body) AS type)`, with arguments for parameters.

The engine knows nothing of them. A body reads tables with the caller's rights in a query, whose text the caller wrote
and whose engine is the caller's; in a row filter, a mask and a view of others with the function's owner's.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from millpond.catalog.names import quote, split_name, text_literal
from millpond.engine.ai_query import NAME as AI_QUERY
from millpond.engine.ai_query import query_call
from millpond.engine.call_sites import GROUP_FUNCTIONS
from millpond.engine.errors import AnalysisError, unsupported
from millpond.engine.expression_text import ExpressionText
from millpond.engine.python_routines import PythonFunction, is_python, python_function, registration
from millpond.engine.queries import analyse
from millpond.engine.sql_functions import (
    PREFIX,
    SUFFIX,
    Called,
    Heads,
    SqlFunction,
    heads_of,
    routine_not_found,
    sql_function,
    wrong_number_of_arguments,
)
from millpond.engine.syntax.cursor import Cursor
from millpond.identity.access import Act, require
from millpond.identity.domain import Principal
from millpond.kernel.errors import NotFound

if TYPE_CHECKING:
    from millpond.engine.binding import Binder
    from millpond.engine.rewriting import Sources

MAX_DEPTH = 20
MAX_CALLS = 1000
MAX_TEXT = 250_000
"""Of a body with what its calls became: it may double with each call."""
_EVERYBODY = "account users"

Given = tuple[str | None, str]
"""An argument's name, where it has one, and its text."""


def called(binder: "Binder", parts: tuple[str, ...], arguments: Sequence[Given], sources: "Sources") -> str | None:
    """The text for a call with arguments that are rewritten already; None for what the engine itself must know."""
    if len(parts) == 1 and parts[0].lower() in GROUP_FUNCTIONS:
        return None if binder.is_absolute else _membership(binder.invoker, parts[0], arguments)
    if _is_ai_query(binder, parts):
        return query_call(binder, arguments)
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
    if is_python(function):
        return _python_call(binder, python_function(function), arguments)
    owner = binder.world.owner_of(function) if binder.trusted else None
    return inlined(binder, sql_function(function), arguments, sources, owner, author=function.owner)


def _python_call(binder: "Binder", function: PythonFunction, arguments: Sequence[Given]) -> str:
    """A call under the name that the session has for it. The body runs as whoever asks, so they must have called it."""
    if binder.trusted or {owner for _, owner in binder.authors} - {binder.invoker.name}:
        raise unsupported(
            f"{function.name} is a Python function, called by a text of somebody else's (a row filter, a mask, a view "
            "or a function), which would run it as you; call it in a query, view or function of your own."
        )
    if binder.world.spools is None:
        raise unsupported(
            f"{function.name} is a Python function, and another Spark runs the query; it knows none here."
        )
    _refuse_positional(function.name, arguments)
    values = _matched(function, arguments)
    name, command = registration(function)
    binder.needs.functions[f"register_function:{name}"] = command
    binder.needs.runs_code = True
    given = ", ".join(values[each.name.lower()] for each in function.parameters)
    return f"CAST({name}({given}) AS {function.returns})"


def call_of_function(
    binder: "Binder", parts: tuple[str, ...], arguments: Sequence[Any], sources: "Sources"
) -> str | None:
    """The same for a call that is no text, with arguments that are bound already."""
    known = len(parts) > 1 or parts[0].lower() in GROUP_FUNCTIONS or _is_ai_query(binder, parts)
    if known or binder.function(parts) is not None:
        write = _ArgumentText(alias="", plan_ids=frozenset())
        texts = [(None, write(each)) for each in arguments]
        if write.functions:
            raise unsupported("A function of your own inside a call of the catalog's; compute it as a column first.")
        return called(binder, parts, texts, sources)
    return None


def _is_ai_query(binder: "Binder", parts: tuple[str, ...]) -> bool:
    return (
        len(parts) == 1
        and parts[0].lower() == AI_QUERY
        and f"register_function:{AI_QUERY}" not in (binder.session.functions)
    )


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
    *,
    author: str = "",
) -> str:
    """The function's body for some arguments; it reads with the rights of `owner`, or else the binder's.

    `author` has written it, where that is known.
    """
    from millpond.engine.rewriting import rewritten

    binder.needs.inlined += 1
    if binder.depth >= MAX_DEPTH or binder.needs.inlined > MAX_CALLS:
        raise _too_large(function)
    _refuse_positional(function.name, arguments)
    values = _matched(function, arguments)
    query = analyse(f"{PREFIX}{function.body}{SUFFIX}")
    written_by = frozenset({("function", author)} if author else ())
    inner = binder.nested(home=function.home, views=False, principal=owner, authors=written_by)
    heads = heads_of(query.text)
    _refuse_capture(inner, function, query, heads, [text for _, text in arguments])
    edits = [
        (start, end, values[name])
        for name, start, end, alone in heads.columns
        if name in values and (alone or name not in heads.bound)
    ]
    text = rewritten(inner, query, sources, edits)
    if len(text) > MAX_TEXT:
        raise _too_large(function)
    body = text.removeprefix("SELECT ")
    if function.columns:
        return _as_table(function, body)
    return body if function.returns is None else f"CAST({body} AS {function.returns})"


def _as_table(function: SqlFunction, body: str) -> str:
    """A query in parentheses with the columns that the function says, whatever the body calls them."""
    inner = [f"__millpond_{at}" for at in range(len(function.columns))]
    listed = ", ".join(
        f"CAST({name} AS {each.type}) AS {quote(each.name)}" for name, each in zip(inner, function.columns, strict=True)
    )
    return f"(SELECT {listed} FROM {body} AS __millpond_rows({', '.join(inner)}))"  # noqa: S608 - a text of the catalog


def _too_large(function: SqlFunction) -> AnalysisError:
    return AnalysisError(
        "FUNCTION_TOO_LARGE",
        f"Calls of functions, put in the place of each other, become too large at {function.name}: at most {MAX_DEPTH} "
        f"deep, {MAX_CALLS} in all and {MAX_TEXT} characters.",
        sql_state="54001",
    )


def _matched(function: Called, arguments: Sequence[Given]) -> dict[str, str]:
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


def _refuse_positional(function: str, arguments: Sequence[Given]) -> None:
    """A body may say a parameter twice or never, and then the marks would be counted wrongly."""
    for _, text in arguments:
        if "?" in text and any(word.text == "?" and not word.is_string for word in Cursor(text).words()):
            raise unsupported(f"A parameter ? in a call of {function}; give it a name (:name).")


def _refuse_capture(
    binder: "Binder", function: SqlFunction, query: Any, heads: Heads, arguments: Sequence[str]
) -> None:
    """Refuse an argument that would mean something else in the body: a column of its table, a lambda's variable."""
    if not heads.bound or not arguments:
        return
    hidden = set(heads.bound)
    for site in query.tables:
        if len(site.parts) != 2 or site.parts[0].lower() != "delta":
            hidden |= {column.name.lower() for column in binder.table(site.parts).columns}
    for argument in arguments:
        for word in Cursor(argument).words():
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
    names = ", ".join(map(text_literal, groups_of(who)))
    return f"(({arguments[0][1]}\n) IN ({names}))"


def groups_of(who: Principal) -> list[str]:
    """The names of the groups of whoever asks, that of everybody too."""
    return sorted({*who.groups, _EVERYBODY})
