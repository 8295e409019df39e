"""Python functions of the catalog: called in the caller's own engine, which runs the caller's functions anyway.

A call becomes one of a function that the session registers under a name made of what it is. Where others than the
caller have written the call (row filters, masks, views of others), it is refused: the body would run as the caller.
"""

import ast
import hashlib
import json
import keyword
import pickle
from dataclasses import dataclass

from millpond.catalog.domain import Function
from millpond.engine import proto
from millpond.engine.errors import AnalysisError, unsupported
from millpond.engine.python_bodies import PythonBody, TypeNamed, source_of
from millpond.engine.sql_functions import Parameter, check_defaults, checked_type, parameters_of
from millpond.engine.syntax.columns import data_type
from millpond.engine.syntax.cursor import Cursor

_SQL_BATCHED_UDF = 100
"""Spark's number for a function that gets one row at a time."""
_PYTHON = "3.11"


@dataclass(frozen=True, kw_only=True)
class PythonFunction:
    """A function whose body is Python."""

    name: str
    parameters: tuple[Parameter, ...]
    returns: str
    """SQL."""
    body: str


def is_python(function: Function) -> bool:
    """Whether a function's body is Python."""
    kept = function.definition
    return str(kept.get("routine_body") or "").upper() == "EXTERNAL" and (
        str(kept.get("external_language") or "").upper() == "PYTHON"
    )


def python_function(function: Function) -> PythonFunction:
    """The function as it can be called. Raises AnalysisError, UnsupportedError for what cannot be."""
    kept = function.definition
    made = PythonFunction(
        name=str(function.name),
        parameters=parameters_of(function),
        returns=checked_type(str(kept.get("full_data_type") or kept.get("data_type") or "")),
        body=str(kept.get("routine_definition") or ""),
    )
    check_python(made)
    return made


def check_python(function: PythonFunction) -> None:
    """Refuse what is no Python, without running any of it. Raises AnalysisError, UnsupportedError."""
    check_defaults(function.parameters)
    names = tuple(each.name for each in function.parameters)
    bad = next((name for name in names if not name.isidentifier() or keyword.iskeyword(name)), None)
    if bad is not None or len(set(names)) < len(names):
        raise unsupported(f"The parameters of {function.name} must be different names of Python.")
    try:
        ast.parse(source_of(names, function.body))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise AnalysisError(
            "INVALID_PYTHON_FUNCTION", f"The body of {function.name} is no Python: {error}.", sql_state="42601"
        ) from error


def registration(function: PythonFunction) -> tuple[str, bytes]:
    """The name under which the engine knows the function, and the command that makes it known."""
    body = PythonBody(function.name, tuple(each.name for each in function.parameters), function.body)
    command = proto.commands.Command()
    made = command.register_function
    made.deterministic = False
    made.python_udf.output_type.unparsed.data_type_string = function.returns
    made.python_udf.eval_type = _SQL_BATCHED_UDF
    made.python_udf.command = pickle.dumps((body, TypeNamed(json.dumps(_type_json(function.returns)))), protocol=4)
    made.python_udf.python_ver = _PYTHON
    digest = hashlib.sha256(command.SerializeToString(deterministic=True)).hexdigest()[:32]
    made.function_name = f"__millpond_{digest}"
    return made.function_name, command.SerializeToString()


def _type_json(text: str) -> object:
    return data_type(Cursor(text))
