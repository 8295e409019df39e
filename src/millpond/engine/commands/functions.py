"""DESCRIBE FUNCTION."""

import pyarrow as pa

from millpond.catalog.domain import Function
from millpond.engine.commands.answer import texts
from millpond.engine.commands.context import CommandContext
from millpond.engine.commands.describe import java_date
from millpond.engine.sql_functions import returns_table, routine_not_found
from millpond.engine.syntax.model import DescribeFunction
from millpond.kernel.errors import NotFound


def describe_function(command: DescribeFunction, context: CommandContext) -> pa.Table:
    """The lines that Databricks prints; functions that the engine has itself are not described."""
    try:
        found = context.catalog.get_function(context.principal, context.object_name(command.name))
    except NotFound as error:
        raise routine_not_found(command.name) from error
    lines = [*_lines(found), *(_more(found) if command.extended else ())]
    return texts(["function_desc"], [(f"{key + ':':15}{value}",) for key, value in lines if value])


def _lines(found: Function) -> list[tuple[str, str]]:
    given = (found.definition.get("input_params") or {}).get("parameters") or []
    inputs = [f"{each.get('name')} {str(each.get('type_text') or '').upper()}" for each in given]
    returns = str(found.definition.get("full_data_type") or found.definition.get("data_type") or "").upper()
    if returns_table(found):
        columns = (found.definition.get("return_params") or {}).get("parameters") or []
        returns = ", ".join(f"{each.get('name')} {str(each.get('type_text') or '').upper()}" for each in columns)
    return [
        ("Function", str(found.name)),
        ("Type", "TABLE" if returns_table(found) else "SCALAR"),
        ("Language", str(found.definition.get("external_language") or "")),
        ("Input", ", ".join(inputs) or "()"),
        ("Returns", returns),
        ("Comment", found.comment or ""),
    ]


def _more(found: Function) -> list[tuple[str, str]]:
    kept = found.definition
    return [
        ("Deterministic", str(kept.get("is_deterministic", "")).lower()),
        ("Data Access", str(kept.get("sql_data_access") or "").replace("_", " ")),
        ("Owner", found.owner),
        ("Create Time", java_date(found.created_at)),
        ("Body", str(kept.get("routine_definition") or "")),
    ]
