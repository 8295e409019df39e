"""Grammar of CREATE FUNCTION."""

from dataclasses import dataclass
from typing import Any

from millpond.engine.errors import unsupported
from millpond.engine.syntax.columns import data_type
from millpond.engine.syntax.cursor import Cursor
from millpond.engine.syntax.model import DeltaType


@dataclass(frozen=True, kw_only=True)
class FunctionParameter:
    """One parameter."""

    name: str
    type: DeltaType
    default: str | None = None
    comment: str | None = None


def function_head(cursor: Cursor, *, temporary: bool) -> dict[str, Any]:
    """From `[IF NOT EXISTS] name (...)` to the word RETURN, behind which the body begins; of Python with its body."""
    if temporary:
        raise unsupported("CREATE TEMPORARY FUNCTION; make a function of the catalog, or register one of Python.")
    made: dict[str, Any] = {"if_not_exists": cursor.accept("IF", "NOT", "EXISTS"), "name": cursor.name()}
    made["parameters"] = () if cursor.accept("(", ")") else cursor.in_parentheses(_parameter)
    if cursor.accept("RETURNS"):
        if cursor.accept("TABLE"):
            made["returns_table"] = True
            made["columns"] = cursor.in_parentheses(_parameter) if cursor.sees("(") else ()
        else:
            made["returns"] = data_type(cursor)
    while not cursor.accept("RETURN"):
        if made.get("language") == "PYTHON" and cursor.accept("AS"):
            made["query"] = cursor.string()
            cursor.expect_end()
            return made
        _characteristic(cursor, made)
    if made.get("language") == "PYTHON":
        cursor.fail("the body of a Python function stands after AS, between $$ and $$")
    return made


def _parameter(cursor: Cursor) -> FunctionParameter:
    name, kind = cursor.identifier(), data_type(cursor)
    default = cursor.text_until("COMMENT") if cursor.accept("DEFAULT") else None
    comment = cursor.string() if cursor.accept("COMMENT") else None
    return FunctionParameter(name=name, type=kind, default=default, comment=comment)


def _characteristic(cursor: Cursor, made: dict[str, Any]) -> None:
    if cursor.accept("LANGUAGE"):
        made["language"] = cursor.identifier().upper()
        if made["language"] not in ("SQL", "PYTHON"):
            raise unsupported(f"Functions in the language {made['language']}; only SQL and PYTHON can be kept here.")
    elif cursor.accept("COMMENT"):
        made["comment"] = cursor.string()
    elif cursor.accept("NOT", "DETERMINISTIC"):
        made["deterministic"] = False
    elif not (
        cursor.accept("DETERMINISTIC") or cursor.accept("CONTAINS", "SQL") or cursor.accept("READS", "SQL", "DATA")
    ):
        cursor.fail("expected RETURN and an expression")
