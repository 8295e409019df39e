"""Statements that wrap a query: INSERT, CREATE TABLE AS, CREATE VIEW, EXPLAIN, DESCRIBE QUERY; and session statements.

Only the head is read here; the query inside stays text for `queries.py`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from millpond.engine.errors import unsupported
from millpond.engine.syntax.columns import properties
from millpond.engine.syntax.cursor import Cursor
from millpond.engine.syntax.functions import FunctionParameter, function_head
from millpond.engine.syntax.model import DeltaType, Name
from millpond.engine.syntax.tables import cluster_columns


@dataclass(frozen=True, kw_only=True)
class Insert:
    """INSERT INTO or OVERWRITE a table."""

    name: Name
    columns: tuple[str, ...] = ()
    by_name: bool = False
    overwrite: bool = False
    partition: Mapping[str, str | None] = field(default_factory=dict)
    """Of PARTITION (...): the SQL of each constant, None for a dynamic one."""
    replace_where: str | None = None
    with_schema_evolution: bool = False
    query: str


@dataclass(frozen=True, kw_only=True)
class CreateTableAs:
    """CREATE [OR REPLACE] TABLE ... AS query."""

    name: Name
    or_replace: bool = False
    must_exist: bool = False
    """REPLACE TABLE without CREATE."""
    if_not_exists: bool = False
    using: str | None = None
    partitioned_by: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    comment: str | None = None
    location: str | None = None
    query: str


@dataclass(frozen=True, kw_only=True)
class CreateView:
    """CREATE VIEW in the catalog, or a temporary one in the session (or for all of the user's sessions)."""

    name: Name
    or_replace: bool = False
    if_not_exists: bool = False
    temporary: bool = False
    is_global: bool = False
    columns: tuple[tuple[str, str | None], ...] = ()
    """Names with comments; empty takes those of the query."""
    comment: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    query: str


@dataclass(frozen=True, kw_only=True)
class CreateFunction:
    """CREATE FUNCTION ... RETURN expression, or LANGUAGE PYTHON AS $$ statements $$."""

    name: Name
    or_replace: bool = False
    if_not_exists: bool = False
    parameters: tuple[FunctionParameter, ...] = ()
    returns: DeltaType | None = None
    returns_table: bool = False
    columns: tuple[FunctionParameter, ...] = ()
    """Of the table that it returns; empty takes those of the query."""
    comment: str | None = None
    deterministic: bool = True
    language: str = "SQL"
    query: str
    """The body: an expression or a query of one value, or Python."""


@dataclass(frozen=True, kw_only=True)
class Explain:
    """EXPLAIN a query; `mode` is one of Spark's, in upper case, or empty."""

    mode: str
    query: str


@dataclass(frozen=True, kw_only=True)
class DescribeQuery:
    """DESCRIBE [QUERY] query: names and types of its columns."""

    query: str


@dataclass(frozen=True, kw_only=True)
class SetSetting:
    """SET key = value; without a value it shows, without a key it shows all."""

    key: str | None = None
    value: str | None = None


@dataclass(frozen=True, kw_only=True)
class ResetSetting:
    """RESET, one key or all."""

    key: str | None = None


@dataclass(frozen=True, kw_only=True)
class Nothing:
    """A statement about caches and statistics that this server does not keep: it names a table, and does nothing."""

    name: Name = ()


Statement = (
    Insert | CreateTableAs | CreateView | CreateFunction | Explain | DescribeQuery | SetSetting | ResetSetting | Nothing
)

_FIRST_WORD = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*([A-Za-z]+)", re.DOTALL)
_SET = re.compile(r"\s*SET\s+(?P<key>\w[\w.$:-]*)(?:\s*=\s*(?P<value>.*?))?\s*;?\s*$", re.IGNORECASE | re.DOTALL)


def parse_statement(sql: str) -> Statement | None:
    """The statement with its query, or None for what is a query (or UPDATE, DELETE, MERGE) itself.

    Raises ParseError.
    """
    first = _FIRST_WORD.match(sql)
    reader = _READERS.get(first[1].upper()) if first else None
    return reader(Cursor(sql)) if reader is not None else None


def _rest(cursor: Cursor) -> str:
    """The text from here on, which must be a query."""
    word = cursor.word()
    if word is None:
        cursor.fail("expected a query")
    return cursor.sql[word.start :].rstrip().rstrip(";")


def _insert(cursor: Cursor, with_clause: str = "") -> Statement:
    cursor.expect("INSERT")
    evolution = cursor.accept("WITH", "SCHEMA", "EVOLUTION")
    overwrite = cursor.expect_any("INTO", "OVERWRITE") == "OVERWRITE"
    if cursor.sees("DIRECTORY") or cursor.sees("LOCAL", "DIRECTORY"):
        raise unsupported("INSERT OVERWRITE DIRECTORY; write to a volume with df.write instead.")
    cursor.accept("TABLE")
    made: dict[str, Any] = {"name": cursor.name(), "overwrite": overwrite, "with_schema_evolution": evolution}
    if cursor.accept("PARTITION"):
        made["partition"] = dict(cursor.in_parentheses(_partition_value))
    if cursor.accept("BY", "NAME"):
        made["by_name"] = True
    elif cursor.sees("(") and not _query_in_parentheses(cursor):
        made["columns"] = cursor.in_parentheses(lambda inner: inner.identifier())
    if not overwrite and cursor.accept("REPLACE", "WHERE"):
        made |= {"overwrite": True, "replace_where": cursor.text_until("SELECT", "WITH", "VALUES", "TABLE", "FROM")}
    query = _rest(cursor)
    return Insert(query=f"{with_clause} {query}" if with_clause else query, **made)


def _query_in_parentheses(cursor: Cursor) -> bool:
    ahead = 0
    while (word := cursor.word(ahead)) is not None and word.text == "(":
        ahead += 1
    return word is not None and word.is_bare and word.text.upper() in {"SELECT", "WITH", "VALUES", "TABLE", "FROM"}


def _partition_value(cursor: Cursor) -> tuple[str, str | None]:
    name = cursor.identifier()
    return name, cursor.text_until() if cursor.accept("=") else None


def _with(cursor: Cursor) -> Statement | None:
    """WITH ... INSERT INTO: the common table expressions belong to the query of the insert."""
    depth = 0
    start = cursor.position
    while (word := cursor.word()) is not None:
        depth += (word.text == "(" and not word.is_bare) - (word.text == ")" and not word.is_bare)
        if (
            depth == 0
            and word.is_bare
            and word.text.upper() in {"SELECT", "VALUES", "FROM", "MERGE", "UPDATE", "DELETE"}
        ):
            return None
        if depth == 0 and cursor.sees_any("INSERT"):
            head = cursor.sql[: word.start]
            return _insert(cursor, with_clause=head.strip())
        cursor.take()
    cursor.rewind(start)
    return None


def _create(cursor: Cursor) -> Statement | None:
    cursor.expect("CREATE")
    or_replace = cursor.accept("OR", "REPLACE")
    cursor.accept("EXTERNAL")
    is_global = cursor.accept("GLOBAL")
    temporary = cursor.accept_any("TEMPORARY", "TEMP") is not None
    if cursor.accept("VIEW"):
        return _create_view(cursor, or_replace=or_replace, temporary=temporary, is_global=is_global)
    if cursor.accept("FUNCTION"):
        head = function_head(cursor, temporary=temporary)
        query = head.pop("query") if "query" in head else _rest(cursor)
        return CreateFunction(or_replace=or_replace, query=query, **head)
    if cursor.accept("TABLE") and not temporary:
        return _create_table_as(cursor, or_replace=or_replace)
    raise unsupported(f"CREATE {cursor.sql.strip()[7:60]!r}: this kind of object cannot be made by SQL here.")


def _replace(cursor: Cursor) -> Statement:
    cursor.expect("REPLACE", "TABLE")
    return _create_table_as(cursor, or_replace=True, must_exist=True)


def _create_table_as(cursor: Cursor, *, or_replace: bool, must_exist: bool = False) -> Statement:
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    made: dict[str, Any] = {"name": cursor.name()}
    while not cursor.accept("AS"):
        if cursor.sees_any("SELECT", "WITH", "VALUES", "FROM") or (cursor.sees("(") and _query_in_parentheses(cursor)):
            break
        _table_clause(cursor, made)
    return CreateTableAs(
        or_replace=or_replace, must_exist=must_exist, if_not_exists=if_not_exists, query=_rest(cursor), **made
    )


def _table_clause(cursor: Cursor, made: dict[str, Any]) -> None:
    if cursor.accept("USING"):
        made["using"] = cursor.identifier()
    elif cursor.accept("PARTITIONED", "BY"):
        made["partitioned_by"] = cursor.in_parentheses(lambda inner: inner.identifier())
    elif cursor.accept("CLUSTER", "BY"):
        made.setdefault("properties", {})
        cluster_columns(cursor)  # accepted; OPTIMIZE ZORDER BY orders the files here
    elif cursor.accept("TBLPROPERTIES"):
        made["properties"] = properties(cursor)
    elif cursor.accept("OPTIONS"):
        made["options"] = properties(cursor)
    elif cursor.accept("COMMENT"):
        made["comment"] = cursor.string()
    elif cursor.accept("LOCATION"):
        made["location"] = cursor.string()
    elif cursor.sees("("):
        raise unsupported("CREATE TABLE AS takes its columns from the query; leave the column list out.")
    else:
        cursor.fail("expected AS and a query")


def _create_view(cursor: Cursor, *, or_replace: bool, temporary: bool, is_global: bool) -> Statement:
    made: dict[str, Any] = {"if_not_exists": cursor.accept("IF", "NOT", "EXISTS"), "name": cursor.name()}
    if cursor.sees("("):
        made["columns"] = cursor.in_parentheses(_view_column)
    while not cursor.accept("AS"):
        if cursor.accept("COMMENT"):
            made["comment"] = cursor.string()
        elif cursor.accept("TBLPROPERTIES"):
            made["properties"] = properties(cursor)
        elif cursor.accept("WITH", "SCHEMA"):
            cursor.take()
            cursor.accept("EVOLUTION")
        elif cursor.accept("DEFAULT", "COLLATION"):
            cursor.identifier()
        elif cursor.sees("USING"):
            raise unsupported(
                "CREATE TEMPORARY VIEW ... USING; use CREATE TEMPORARY VIEW v AS SELECT * FROM format.`path`."
            )
        else:
            cursor.fail("expected AS and a query")
    return CreateView(or_replace=or_replace, temporary=temporary, is_global=is_global, query=_rest(cursor), **made)


def _view_column(cursor: Cursor) -> tuple[str, str | None]:
    name = cursor.identifier()
    return name, cursor.string() if cursor.accept("COMMENT") else None


def _explain(cursor: Cursor) -> Statement:
    cursor.expect("EXPLAIN")
    mode = cursor.accept_any("EXTENDED", "CODEGEN", "COST", "FORMATTED", "LOGICAL", "ANALYZE", "VERBOSE")
    return Explain(mode=mode or "", query=_rest(cursor))


def _describe(cursor: Cursor) -> Statement | None:
    cursor.expect_any("DESCRIBE", "DESC")
    cursor.accept("QUERY")
    return DescribeQuery(query=_rest(cursor))


def _set(cursor: Cursor) -> Statement:
    if cursor.accept("SET", "TIME", "ZONE"):
        zone = cursor.string() if cursor.sees_string() else cursor.identifier()
        cursor.expect_end()
        return SetSetting(key="spark.sql.session.timeZone", value=zone)
    found = _SET.match(cursor.sql)
    if found is None:
        cursor.expect("SET")
        cursor.accept("-", "v")
        cursor.expect_end()
        return SetSetting()
    value = found["value"]
    if value is not None and len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        value = value[1:-1]
    return SetSetting(key=found["key"], value=value)


def _reset(cursor: Cursor) -> Statement:
    cursor.expect("RESET")
    text = cursor.sql[word.start :].strip().rstrip(";").strip("`") if (word := cursor.word()) else None
    return ResetSetting(key=text)


def _cache(cursor: Cursor) -> Statement:
    word = cursor.take().text.upper()
    if word == "CLEAR":
        cursor.expect("CACHE")
        return Nothing()
    cursor.accept("LAZY")
    if word == "ANALYZE" or word in {"CACHE", "UNCACHE"} or cursor.sees("TABLE"):
        cursor.expect("TABLE")
    cursor.accept("IF", "EXISTS")
    name = cursor.name()
    if word == "CACHE" and cursor.sees("AS"):
        cursor.expect("AS")
        return CreateView(name=name, temporary=True, or_replace=False, query=_rest(cursor))
    return Nothing(name=name)


_READERS: dict[str, Callable[[Cursor], Statement | None]] = {
    "ANALYZE": _cache,
    "CACHE": _cache,
    "CLEAR": _cache,
    "CREATE": _create,
    "DESC": _describe,
    "DESCRIBE": _describe,
    "EXPLAIN": _explain,
    "INSERT": _insert,
    "REFRESH": _cache,
    "REPLACE": _replace,
    "RESET": _reset,
    "SET": _set,
    "UNCACHE": _cache,
    "WITH": _with,
}
