"""`ai_query(endpoint, request [, returnType] [, failOnError] [, modelParameters])`: predictions in SQL.

A call becomes one of a function that the session registers, as of Python functions of the catalog. What it asks is
found while the plan is bound: an alias is one version for the whole statement, and whoever may not ask hears so then.
Source: Databricks, SQL language reference, "ai_query function".
"""

import hashlib
import http.client
import json
import pickle
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from millpond.engine import proto
from millpond.engine.blocking import require_thread
from millpond.engine.engines import ApiDoor
from millpond.engine.errors import AnalysisError, unsupported
from millpond.engine.model_questions import ModelQuestion
from millpond.engine.python_bodies import TypeNamed
from millpond.engine.sql_functions import checked_type
from millpond.engine.syntax.columns import data_type
from millpond.engine.syntax.cursor import Cursor
from millpond.identity.domain import Principal

if TYPE_CHECKING:
    from millpond.engine.binding import Binder

NAME = "ai_query"
_PARAMETERS = ("endpoint", "request", "returntype", "failonerror", "modelparameters")
_ARROW_UDF = 250
"""Spark's number for a function that gets and gives Arrow arrays (`PythonEvalType.SQL_SCALAR_ARROW_UDF`)."""
_PYTHON = "3.11"
_TIMEOUT_S = 20.0
_TTL_S = 60.0
_TARGET = "/api/millpond/scoring/target"


@dataclass(frozen=True, kw_only=True)
class AskedModel:
    """What is asked: an endpoint, or a version of a model."""

    name: str
    path: str
    model: str
    version: str
    inputs: tuple[str, ...]
    returns: str | None
    """SQL; None where only the caller can say."""
    node: Mapping[str, str]
    """Kind, key and name, as lineage has it."""


FindModel = Callable[[Principal, str], AskedModel]


def model_finder(door: ApiDoor) -> FindModel:
    """Asks the server, as the principal. Blocks. Raises AnalysisError for what is not there, or not theirs."""

    def find(principal: Principal, name: str) -> AskedModel:
        told = _got(door, principal, f"{_TARGET}?{urlencode({'name': name})}")
        return AskedModel(
            name=told["name"], path=told["path"], model=told["model"], version=told["version"],
            inputs=tuple(told["inputs"]), returns=told["returns"], node=told["node"],
        )  # fmt: skip

    return find


def _got(door: ApiDoor, principal: Principal, path: str) -> dict[str, Any]:
    connection = http.client.HTTPConnection("localhost", timeout=_TIMEOUT_S)
    try:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(_TIMEOUT_S)
        connection.sock.connect(str(door.socket_path))
        connection.request(
            "GET", path, headers={"Authorization": f"Bearer {door.mint(principal, _TTL_S, paths=(_TARGET,))}"}
        )
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise AnalysisError(
            "AI_FUNCTION_COMPILATION_ERROR", f"The server did not say what is asked: {error}.", sql_state="42883"
        ) from error
    finally:
        connection.close()
    if response.status != 200:
        text = f"{NAME}: {answer.get('message', response.status)}"
        raise AnalysisError("AI_FUNCTION_COMPILATION_ERROR", text, sql_state="42883")
    return dict(answer)


def query_call(binder: "Binder", arguments: Sequence[tuple[str | None, str]]) -> str:
    """The text for a call. Raises AnalysisError, UnsupportedError."""
    if binder.is_absolute:  # it is asked when what is made now is read
        return f"{NAME}({', '.join(f'{key} => {text}' if key else text for key, text in arguments)})"
    if binder.trusted or {owner for _, owner in binder.authors} - {binder.invoker.name}:
        raise unsupported(
            f"{NAME} in a text of somebody else's (a row filter, a mask, a view or a function), which would ask as "
            "you; call it in a query, view or function of your own."
        )
    find = binder.world.find_model
    if find is None:
        raise unsupported(f"{NAME} before another Spark, or without the server: its engine has no way to the models.")
    given = _matched(arguments)
    name = _text(given, "endpoint")
    require_thread()
    asked = find(binder.invoker, name)
    function, returns = _function(asked, given)
    known_as, command = _registration(function, returns)
    binder.needs.functions[f"register_function:{known_as}"] = command
    binder.needs.runs_code = True
    binder.needs.models[asked.node["key"]] = asked.node
    return f"{known_as}({given['request']})"


def _matched(arguments: Sequence[tuple[str | None, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for place, (name, text) in enumerate(arguments):
        key = name.lower() if name else _PARAMETERS[place] if place < len(_PARAMETERS) else ""
        if key not in _PARAMETERS or key in found:
            raise unsupported(
                f"{NAME} with {name or f'{len(arguments)} arguments'}: it takes endpoint, request, returnType, "
                "failOnError and modelParameters, each once."
            )
        found[key] = text
    if not {"endpoint", "request"} <= found.keys():
        raise AnalysisError(
            "WRONG_NUM_ARGS.WITHOUT_SUGGESTION", f"The `{NAME}` requires endpoint and request.", sql_state="42605"
        )
    return found


def _function(asked: AskedModel, given: Mapping[str, str]) -> tuple[ModelQuestion, str]:
    """What the engine calls, and the SQL type of what that gives."""
    wanted = _text(given, "returntype") if "returntype" in given else asked.returns
    if wanted is None:
        raise AnalysisError(
            "AI_FUNCTION_COMPILATION_ERROR",
            f"{NAME}: the signature of {asked.name} does not say what it answers with; give a returnType.",
            sql_state="42883",
        )
    kind = checked_type(wanted)
    fails = _is_true(given.get("failonerror", "true"))
    plain = not asked.name.startswith("models:/")
    path = asked.path if plain else f"{asked.path}?model={quote(asked.name, safe='')}"
    question = ModelQuestion(
        name=asked.name,
        path=path,
        inputs=asked.inputs,
        returns=json.dumps(data_type(Cursor(kind))),
        fails=fails,
        plain=plain,
        params=_params(given["modelparameters"]) if "modelparameters" in given else None,
    )
    return question, kind if fails else f"struct<result:{kind},errorMessage:string>"


def _registration(function: ModelQuestion, returns: str) -> tuple[str, bytes]:
    command = proto.commands.Command()
    made = command.register_function
    made.deterministic = False
    made.python_udf.output_type.unparsed.data_type_string = returns
    made.python_udf.eval_type = _ARROW_UDF
    kind = TypeNamed(json.dumps(data_type(Cursor(returns))))
    made.python_udf.command = pickle.dumps((function, kind), protocol=4)
    made.python_udf.python_ver = _PYTHON
    digest = hashlib.sha256(command.SerializeToString(deterministic=True)).hexdigest()[:32]
    made.function_name = f"__millpond_{NAME}_{digest}"
    return made.function_name, command.SerializeToString()


def _text(given: Mapping[str, str], name: str) -> str:
    cursor = Cursor(given[name])
    if cursor.sees_string() and len(cursor.words()) == 1:
        return cursor.string()
    raise unsupported(f"{NAME}: {name} is a text that stands there as it is, not {given[name][:80]}.")


def _is_true(text: str) -> bool:
    word = text.strip().lower()
    if word not in {"true", "false"}:
        raise unsupported(f"{NAME}: failOnError is true or false, not {text[:80]}.")
    return word == "true"


def _params(text: str) -> dict[str, Any]:
    """The values of `named_struct('name', value, ...)`."""
    try:
        found = sqlglot.parse_one(text, dialect="databricks")
        if not isinstance(found, exp.Struct):
            raise ValueError
        return {each.this.name: _value(each.expression) for each in found.expressions}
    except (SqlglotError, ValueError, AttributeError) as error:
        raise unsupported(
            f"{NAME}: modelParameters is a named_struct of numbers, texts, true and false, not {text[:80]}."
        ) from error


def _value(node: Any) -> Any:
    if isinstance(node, exp.Neg):
        return -_value(node.this)
    if isinstance(node, exp.Boolean):
        return bool(node.this)
    if isinstance(node, exp.Literal):
        return node.this if node.is_string else json.loads(node.this)
    raise ValueError
