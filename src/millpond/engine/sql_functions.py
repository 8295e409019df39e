"""Functions of the catalog whose body is one SQL expression: what they are, and whether their text is one."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import sqlglot
from sqlglot import exp

from millpond.catalog.domain import Function
from millpond.engine.errors import AnalysisError, quoted, unsupported
from millpond.engine.queries import analyse, require_plain
from millpond.engine.syntax.columns import data_type
from millpond.engine.syntax.cursor import Cursor

TABLE_TYPE = "TABLE_TYPE"
"""What the REST API calls the type of what returns a table."""
PREFIX, SUFFIX = "SELECT (", "\n)"  # the body may end with a comment


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
    is_query: bool = False
    """Whether it returns a table, and its body is a query in parentheses."""
    columns: tuple[Parameter, ...] = ()
    """Names and types of the columns of such a table, once they are known."""


@dataclass(frozen=True, kw_only=True)
class Heads:
    """What a body says that is not the names of tables."""

    columns: tuple[tuple[str, int, int, bool], ...]
    """First part of each column's name in lower case, where it stands, and whether it is all of the name."""
    bound: frozenset[str]
    """Names that mean something inside only: aliases, common table expressions, variables of lambdas."""


def sql_function(function: Function) -> SqlFunction:
    """The function as it can be put into a text. Raises AnalysisError and UnsupportedError for what cannot be."""
    kept = function.definition
    body = str(kept.get("routine_definition") or "")
    if str(kept.get("routine_body") or "SQL").upper() != "SQL" or not body:
        raise unsupported(f"The function {function.name} is not of SQL; only such functions can stand here.")
    path = str(kept.get("sql_path") or "").split(".")
    columns = _parameters_in(function, "return_params") if returns_table(function) else ()
    kind = "" if columns else checked_type(str(kept.get("full_data_type") or kept.get("data_type") or ""))
    made = SqlFunction(
        name=str(function.name),
        parameters=parameters_of(function),
        returns=kind or None,
        is_query=bool(columns),
        columns=columns,
        body=f"({body}\n)" if columns else body,
        home=(path[0], path[1]) if len(path) == 2 else (function.name.catalog, function.name.schema),
    )
    check_body(made)
    return made


def returns_table(function: Function) -> bool:
    """Whether it stands where a table may."""
    return str(function.definition.get("data_type") or "").upper() == TABLE_TYPE


def parameters_of(function: Function) -> tuple[Parameter, ...]:
    """Its parameters."""
    return _parameters_in(function, "input_params")


def _parameters_in(function: Function, key: str) -> tuple[Parameter, ...]:
    """What the REST object says of them, which its maker may have written in any form."""
    try:
        given = (function.definition.get(key) or {}).get("parameters") or []
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
    _check_balance(function.body, enclosed=function.is_query)
    check_defaults(function.parameters)
    query = analyse(f"{PREFIX}{function.body}{SUFFIX}")
    if query.kind != "query":
        raise unsupported(f"The body of {function.name} must be an expression.")
    names = {each.name.lower() for each in function.parameters}
    if len(names) < len(function.parameters):
        raise AnalysisError(
            "DUPLICATE_ROUTINE_PARAMETER_NAMES",
            f"Found duplicate names in the parameter list of {function.name}.",
            sql_state="42734",
        )
    unknown = [name for name, _, _, _ in heads_of(query.text).columns if name not in names]
    if unknown and not query.tables:
        raise AnalysisError(
            "UNRESOLVED_COLUMN.WITHOUT_SUGGESTION",
            f"A column, variable, or function parameter with name {quoted((unknown[0],))} cannot be resolved in "
            f"function {function.name}.",
            sql_state="42703",
        )


def check_defaults(parameters: Sequence[Parameter]) -> None:
    """Refuse a default that is not one plain expression: it goes into the text as it is. Raises ParseError."""
    for default in (each.default for each in parameters if each.default is not None):
        _check_balance(default)
        require_plain(default)


def _check_balance(text: str, *, enclosed: bool = False) -> None:
    """Raises ParseError where the text closes what it did not open, or has more than one expression.

    Of an `enclosed` one, the first parenthesis is closed by the last.
    """
    cursor = Cursor(text)
    depth = 0
    while (word := cursor.word()) is not None:
        bare = not (word.is_name or word.is_string)
        depth += (bare and word.text in "([{") - (bare and word.text in ")]}")
        if depth < 0 or (bare and (word.text == ";" or (word.text == "," and depth == 0))):
            cursor.fail("the function's body must be one expression")
        if enclosed and depth == 0 and cursor.word(1) is not None:
            cursor.fail("the function's body must be one query")
        cursor.take()
    if depth:
        cursor.fail("the function's body must be one expression")


@lru_cache(maxsize=1024)
def heads_of(text: str) -> Heads:
    """What a query that a body was made into says besides."""
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
    return Heads(columns=tuple(columns), bound=frozenset(bound))


class Called(Protocol):
    """A function of any language, as far as a call is concerned."""

    @property
    def name(self) -> str: ...

    @property
    def parameters(self) -> tuple[Parameter, ...]: ...


def wrong_number_of_arguments(function: Called, given: int) -> AnalysisError:
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
