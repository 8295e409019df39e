"""SQL text of queries: where the names of tables stand in it, so that others can be put there.

The text is parsed (sqlglot, dialect Databricks) but never written again from the parse tree, because that changes one
query in twenty: names are cut out and put in at their positions, and everything else stays as the user wrote it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.dialects.databricks import Databricks
from sqlglot.errors import ParseError as SqlglotParseError
from sqlglot.errors import TokenError

from millpond.engine.call_sites import GROUP_FUNCTIONS, RoutineSite, is_result, may_call_routines, routine_sites
from millpond.engine.conditions import condition_span
from millpond.engine.errors import AnalysisError, syntax_error, unsupported
from millpond.engine.parameters import ParameterSite, parameter_sites

_DIALECT = Databricks()
_MAX_TEXT = 1_000_000

# After the name of a table: which state of it. The expression is a literal; others are refused with a clear message.
_AS_OF = re.compile(
    r"\s+(?:FOR\s+)?(?P<kind>VERSION|SYSTEM_VERSION|TIMESTAMP|SYSTEM_TIME)\s+AS\s+OF\s+"
    r"(?P<value>\d+|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")",
    re.IGNORECASE,
)

EVOLUTION = re.compile(r"\A(\s*MERGE\s+)(WITH\s+SCHEMA\s+EVOLUTION)(?=\s+INTO\b)", re.IGNORECASE)
"""Of MERGE; the parser does not know it, so it is shown blanks of the same length."""

TABLE_FUNCTIONS = frozenset({
    "collations", "explode", "explode_outer", "inline", "inline_outer", "json_tuple", "posexplode", "posexplode_outer",
    "range", "sql_keywords", "stack", "unnest", "values", "variant_explode", "variant_explode_outer",
})  # fmt: skip
"""Functions that make rows from their arguments alone. Others read files or call out, and are refused."""

DENIED_FUNCTIONS = frozenset({"java_method", "reflect", "try_reflect"})
"""They call any Java method inside the engine."""

SESSION_FUNCTIONS = frozenset({
    "current_catalog", "current_database", "current_schema", "current_user", "session_user", "user",
})  # fmt: skip
"""What only the gateway knows: their calls are replaced by the answer."""

_MAYBE_NEEDS_PARSE = re.compile(
    r"\b(?:select|from|table|identifier|with|values|" + "|".join(sorted(DENIED_FUNCTIONS | SESSION_FUNCTIONS)) + r")\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class TableSite:
    """A name of a table in the text: `text[start:end]`, with the clause that says which state of it."""

    parts: tuple[str, ...]
    start: int
    end: int
    name_end: int
    """Where the name alone ends; between there and `end` stands VERSION or TIMESTAMP AS OF."""
    alias: str
    """Empty where it has none."""
    version: str | None = None
    timestamp: str | None = None
    is_target: bool = False
    """Whether the statement changes this table."""

    @property
    def aliased(self) -> bool:
        """Whether it has another name in the statement."""
        return bool(self.alias)

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for sites that mean the same state of the same table."""
        return (tuple(part.lower() for part in self.parts), self.version, self.timestamp, self.is_target)


@dataclass(frozen=True, kw_only=True)
class ColumnSite:
    """A column qualified by more than a table's name: `catalog.schema.table.column`."""

    qualifiers: tuple[str, ...]
    start: int
    table_start: int


@dataclass(frozen=True, kw_only=True)
class CallSite:
    """A call of a session function: `text[start:end]`."""

    function: str
    start: int
    end: int
    is_column: bool
    """Whether it is a result column without a name of its own."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """A statement's text with the places that the gateway must look at."""

    text: str
    kind: str
    """`query`, `update`, `delete` or `merge`."""
    tables: tuple[TableSite, ...] = ()
    columns: tuple[ColumnSite, ...] = ()
    calls: tuple[CallSite, ...] = ()
    routines: tuple[RoutineSite, ...] = ()
    cte_names: frozenset[str] = frozenset()
    table_functions: frozenset[str] = frozenset()
    """Functions that stand where a table may, other than TABLE_FUNCTIONS: the user's own, or to be refused."""
    condition: tuple[int, int] = (0, 0)
    """Of what changes a table: where the condition of WHERE or ON stands, or would stand if empty."""
    parameters: tuple[ParameterSite, ...] = ()
    """Of what changes a table."""
    with_schema_evolution: bool = False


@lru_cache(maxsize=2048)
def analyse(text: str) -> Query:
    """What a query, UPDATE, DELETE or MERGE names.

    Raises ParseError as Spark would, and UnsupportedError for statements of other kinds.
    """
    if len(text) > _MAX_TEXT:
        raise AnalysisError(
            "STATEMENT_TOO_LONG", f"The statement has {len(text)} characters; at most {_MAX_TEXT}.", sql_state="54001"
        )
    tokens, trees = _parse(EVOLUTION.sub(lambda found: found[1] + " " * len(found[2]), text))
    trees = [tree for tree in trees if tree is not None]
    if len(trees) != 1:
        raise syntax_error(text, 0 if not trees else _second_statement(tokens), "", "give one statement at a time")
    return _describe(text, tokens, trees[0])


def may_need_analysis(expression: str) -> bool:
    """Whether an expression's text may name a table or a function that the gateway must see."""
    return _MAYBE_NEEDS_PARSE.search(expression) is not None or may_call_routines(expression)


def require_plain(expression: str) -> None:
    """Refuse an expression's text that names a table or calls a function that the gateway must see.

    Raises UnsupportedError, ParseError.
    """
    if not may_need_analysis(expression):
        return
    query = analyse(f"SELECT {expression}")
    asks = any(len(site.parts) > 1 or site.parts[0].lower() in GROUP_FUNCTIONS for site in query.routines)
    if query.tables or query.table_functions or query.calls or asks:
        raise unsupported(
            f"Subqueries, session functions and functions of the catalog in the condition {expression[:80]!r}."
        )


def _parse(text: str) -> tuple[list[Any], list[Any]]:
    try:
        tokens = _DIALECT.tokenize(text)
        return tokens, list(_DIALECT.parser().parse(tokens, text))
    except TokenError as error:
        raise syntax_error(text, len(text), "", "a quote or comment is not closed") from error
    except SqlglotParseError as error:
        first: dict[str, Any] = error.errors[0] if error.errors else {}
        if str(tokens[0].text).upper() not in _QUERY_STARTS | _KNOWN_STATEMENTS:
            raise syntax_error(text, int(tokens[0].start), str(tokens[0].text)) from error
        near = str(first.get("highlight") or "")
        offset = _offset(text, int(first.get("line") or 1), int(first.get("col") or 0), near)
        at_end = offset + len(near) >= len(text.rstrip())
        raise syntax_error(text, len(text.rstrip()) if at_end else offset, "" if at_end else near) from error
    except RecursionError as error:
        raise syntax_error(text, 0, "", "the statement is nested too deep") from error


def _offset(text: str, line: int, column: int, near: str) -> int:
    lines = text.splitlines(keepends=True)
    offset = sum(map(len, lines[: line - 1])) + column - len(near)
    return min(max(offset, 0), len(text))


def _second_statement(tokens: list[Any]) -> int:
    return next((int(token.start) for token in tokens if token.text == ";"), 0)


def _describe(text: str, tokens: list[Any], tree: exp.Expression) -> Query:
    kind = _kind(text, tokens, tree)
    tables: list[TableSite] = []
    functions: set[str] = set()
    target = tree.this if kind in {"update", "delete", "merge"} else None
    for table in tree.find_all(exp.Table):
        if table.find_ancestor(exp.Hint):
            continue
        if isinstance(table.this, exp.Identifier):
            if not _is_cte(table):
                tables.append(_table_site(text, table, is_target=table is target))
        else:
            functions.add(_function_name(text, table.this))
    for lateral in tree.find_all(exp.Lateral):
        if not isinstance(lateral.this, exp.Subquery):
            functions.add(_function_name(text, lateral.this))
    calls = _calls(text, tokens, tree)
    return Query(
        text=text,
        kind=kind,
        tables=tuple(sorted(tables, key=lambda site: site.start)),
        columns=tuple(_columns(tree)),
        calls=tuple(calls),
        routines=tuple(routine_sites(tokens, tree)),
        cte_names=frozenset(cte.alias.lower() for cte in tree.find_all(exp.CTE)),
        table_functions=frozenset(functions) - TABLE_FUNCTIONS,
        condition=(0, 0) if kind == "query" else condition_span(kind, tokens),
        parameters=() if kind == "query" else parameter_sites(tokens),
        with_schema_evolution=EVOLUTION.match(text) is not None,
    )


_NOT_IN_QUERIES = (exp.Into, exp.Command, exp.Create, exp.Drop, exp.Insert)


def _kind(text: str, tokens: list[Any], tree: exp.Expression) -> str:
    inside = (exp.Into, exp.Command, exp.Create, exp.Drop) if isinstance(tree, exp.Merge) else _NOT_IN_QUERIES
    if tree.find(*inside):
        raise _not_a_query(text, tokens)
    if isinstance(tree, exp.Query | exp.Values | exp.Table):
        return "query"
    for kind, name in ((exp.Update, "update"), (exp.Delete, "delete"), (exp.Merge, "merge")):
        if isinstance(tree, kind):
            return name
    raise _not_a_query(text, tokens)


def _not_a_query(text: str, tokens: list[Any]) -> Exception:
    first = str(tokens[0].text).upper() if tokens else ""
    if first in _KNOWN_STATEMENTS:
        return unsupported(f"The statement {first} is not supported here: {text[:80].strip()!r}.")
    return syntax_error(text, int(tokens[0].start) if tokens else 0, str(tokens[0].text) if tokens else "")


_QUERY_STARTS = frozenset({"(", "DELETE", "FROM", "MERGE", "SELECT", "TABLE", "UPDATE", "VALUES", "WITH"})

_KNOWN_STATEMENTS = frozenset({
    "ADD", "ALTER", "ANALYZE", "BEGIN", "CACHE", "CALL", "CLEAR", "COMMENT", "COPY", "CREATE", "DECLARE",
    "DENY", "DESC", "DESCRIBE", "DROP", "EXECUTE", "EXPLAIN", "EXPORT", "GRANT", "IMPORT", "INSERT", "LIST",
    "LOAD", "LOCK", "MSCK", "PUT", "REFRESH", "REPAIR", "REPLACE", "RESET", "REVOKE", "ROLLBACK", "SELECT",
    "SET", "SHOW", "SYNC", "TRUNCATE", "UNCACHE", "UNLOCK", "USE",
})  # fmt: skip


def _table_site(text: str, table: exp.Table, *, is_target: bool) -> TableSite:
    identifiers = [part for part in table.parts if isinstance(part, exp.Identifier)]
    if len(identifiers) != len(table.parts) or any("start" not in part.meta for part in identifiers):
        raise unsupported(f"A table must be named by identifiers here, not as {table.sql(dialect='databricks')!r}.")
    parts = [str(part.this) for part in identifiers]
    start, name_end = int(identifiers[0].meta["start"]), int(identifiers[-1].meta["end"]) + 1
    version, timestamp, end = _as_of(text, table, name_end)
    return TableSite(
        parts=tuple(parts),
        start=start,
        end=end,
        name_end=name_end,
        alias=str(table.alias),
        version=version,
        timestamp=timestamp,
        is_target=is_target,
    )


def _as_of(text: str, table: exp.Table, name_end: int) -> tuple[str | None, str | None, int]:
    clause = _AS_OF.match(text, name_end)
    if clause is None:
        if table.args.get("version") is not None or table.args.get("when") is not None:
            raise unsupported(
                "VERSION AS OF and TIMESTAMP AS OF take a literal here: a number, or a timestamp in quotes."
            )
        return None, None, name_end
    value = clause["value"]
    value = value[1:-1] if value[0] in "'\"" else value
    if clause["kind"].upper() in {"VERSION", "SYSTEM_VERSION"}:
        return value, None, clause.end()
    return None, value, clause.end()


def _is_cte(table: exp.Table) -> bool:
    """Whether a one-part name means a common table expression that is visible where it stands."""
    if table.args.get("db") is not None:
        return False
    name = table.name.lower()
    child: exp.Expr = table
    parent = table.parent
    while parent is not None:
        if isinstance(parent, exp.With):
            if _is_earlier_cte(parent, child, name):
                return True
        elif _defines(_with_clause(parent), child, name):
            return True
        child, parent = parent, parent.parent
    return False


def _defines(clause: exp.With | None, child: exp.Expr, name: str) -> bool:
    """Whether a WITH clause, seen from outside of it, defines the name."""
    return clause is not None and clause is not child and any(cte.alias.lower() == name for cte in clause.expressions)


def _is_earlier_cte(clause: exp.With, child: exp.Expr, name: str) -> bool:
    for cte in clause.expressions:
        if cte is child:
            return bool(clause.args.get("recursive")) and cte.alias.lower() == name
        if cte.alias.lower() == name:
            return True
    return False


def _with_clause(node: exp.Expr) -> exp.With | None:
    clause = node.args.get("with_") or node.args.get("with")
    return clause if isinstance(clause, exp.With) else None


def _function_name(text: str, node: exp.Expression | None) -> str:
    if isinstance(node, exp.Anonymous):
        return str(node.name).lower()
    if isinstance(node, exp.Func):
        # several names may stand for one class; the one in the text is not kept, any of them identifies it
        names = [name.lower() for name in node.sql_names()]
        return next((name for name in names if name in TABLE_FUNCTIONS), _SAME_CLASS.get(type(node).__name__, names[0]))
    if isinstance(node, exp.Values | exp.Unnest):
        return "values"
    if isinstance(node, exp.Dot):
        raise AnalysisError(
            "IDENTIFIER_TOO_MANY_NAME_PARTS",
            f"`{node.sql(dialect='databricks')}` is not a valid identifier: it has more than 3 name parts.",
            sql_state="42601",
        )
    raise unsupported(f"This source of rows is not supported in {text[:80]!r}.")


_SAME_CLASS = {"GenerateSeries": "range", "GenerateDateArray": "sequence", "ExplodingGenerateSeries": "range"}


def _columns(tree: exp.Expression) -> Iterator[ColumnSite]:
    for column in tree.find_all(exp.Column):
        if column.args.get("db") is None:
            continue
        qualifiers = [part for part in column.parts[:-1] if isinstance(part, exp.Identifier) and "start" in part.meta]
        if len(qualifiers) == len(column.parts) - 1:
            yield ColumnSite(
                qualifiers=tuple(str(part.this) for part in qualifiers),
                start=int(qualifiers[0].meta["start"]),
                table_start=int(qualifiers[-1].meta["start"]),
            )


def _calls(text: str, tokens: list[Any], tree: exp.Expression) -> list[CallSite]:
    found: list[CallSite] = []
    for at, token in enumerate(tokens):
        name = str(token.text).lower()
        if (
            name not in SESSION_FUNCTIONS and name not in DENIED_FUNCTIONS
        ) or token.token_type == sqlglot.TokenType.STRING:
            continue
        before = str(tokens[at - 1].text) if at else ""
        after = [str(other.text) for other in tokens[at + 1 : at + 3]]
        if name in DENIED_FUNCTIONS:
            if after[:1] == ["("]:
                raise unsupported(f"The function {name} is not allowed.")
        elif before != "." and after == ["(", ")"]:
            end = int(tokens[at + 2].end) + 1
            found.append(
                CallSite(function=name, start=int(token.start), end=end, is_column=is_result(tokens, at, at + 3))
            )
    return found


def user_error_of_table_function(name: str) -> AnalysisError:
    """The error for a function that may not stand where a table does."""
    return AnalysisError(
        "UNRESOLVABLE_TABLE_VALUED_FUNCTION",
        f"Could not resolve `{name}` to a table-valued function. Files are read as tables, through "
        "spark.read, or as format.`/Volumes/catalog/schema/volume/path`.",
        sql_state="42883",
        parameters={"name": f"`{name}`"},
    )
