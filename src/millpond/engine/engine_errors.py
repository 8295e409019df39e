"""The engine's errors as a Spark user knows them: with error class, SQLSTATE, and names where it says paths."""

import json
import re
from collections.abc import Callable
from typing import Any

from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from millpond.engine.errors import AnalysisError, ExecutionError, ParseError, SparkError, UnsupportedError
from millpond.engine.needs import Needs
from millpond.engine.wire import STATUS_KEY

_CLASS_IN_TEXT = re.compile(r"\[([A-Z][A-Z0-9_]+(?:\.[A-Z0-9_]+)*)\]\s*")
_SQL_STATE_IN_TEXT = re.compile(r"SQLSTATE:?\s*([0-9A-Z]{5})")
_FILE_URL = re.compile(r"file:/{1,3}[^\s'\"`,;)\]}]*")

_SQL_STATES = {
    "TABLE_OR_VIEW_NOT_FOUND": "42P01",
    "UNRESOLVED_COLUMN.WITHOUT_SUGGESTION": "42703",
    "UNRESOLVED_ROUTINE": "42883",
    "PARSE_SYNTAX_ERROR": "42601",
    "DIVIDE_BY_ZERO": "22012",
    "CAST_INVALID_INPUT": "22018",
    "DATATYPE_MISMATCH": "42K09",
    "DELTA_NOT_NULL_CONSTRAINT_VIOLATED": "23502",
    "DELTA_VIOLATE_CONSTRAINT_WITH_VALUES": "23001",
    "DELTA_CONCURRENT_WRITE": "2D521",
    "DELTA_REPLACE_WHERE_MISMATCH": "44000",
    "UNSUPPORTED_FEATURE": "0A000",
    "ARITHMETIC_OVERFLOW": "22003",
    "PATH_NOT_FOUND": "42K03",
    "AMBIGUOUS_REFERENCE": "42704",
    "DELTA_VERSION_NOT_FOUND": "22003",
}


class EngineError(ExecutionError):
    """An error that keeps the Java class that the engine gave it."""

    def __init__(self, java: str, error_class: str, message: str, *, sql_state: str) -> None:
        super().__init__(error_class, message, sql_state=sql_state)
        self._java = java

    @property
    def java_classes(self) -> tuple[str, ...]:
        return (
            self._java,
            "java.lang.RuntimeException",
            "java.lang.Exception",
            "java.lang.Throwable",
            "java.lang.Object",
        )


_BY_ZERO = "Division by zero. Use `try_divide` to tolerate divisor being 0 and return NULL instead."
_NO_VERSION = r"Cannot time travel Delta table to version \1. Available versions: [0, \2]."

Make = Callable[[str, "re.Match[str]"], SparkError]


def _analysis(error_class: str, text: str = "") -> Make:
    return lambda message, match: AnalysisError(
        error_class, match.expand(text) if text else message, sql_state=_SQL_STATES.get(error_class, "42000")
    )


def _execution(error_class: str, java: str, text: str = "") -> Make:
    return lambda message, match: EngineError(
        java, error_class, match.expand(text) if text else message, sql_state=_SQL_STATES.get(error_class, "XX000")
    )


def _parse_error(message: str, match: "re.Match[str]") -> SparkError:
    near, offset, hint = match[1], int(match[2]), match[3]
    return ParseError(
        "PARSE_SYNTAX_ERROR",
        f"Syntax error at or near '{near}': expected {hint}.",
        sql="",
        line=1,
        column=offset,
        parameters={"error": f"'{near}'", "hint": hint},
    )


# What Sail 0.7 says, in the order in which it is looked for.
_SAYINGS: tuple[tuple["re.Pattern[str]", Make], ...] = (
    (re.compile(r"found (.+?) at (\d+):\d+ expected (.+)", re.DOTALL), _parse_error),
    (
        re.compile(r"attribute ObjectName\(\[(?P<name>.*?)\]\) is missing from the schema", re.DOTALL),
        lambda message, match: _missing_column(match["name"]),
    ),
    (
        re.compile(r"cannot resolve attribute|No field named|Schema error: .*field", re.IGNORECASE),
        _analysis("UNRESOLVED_COLUMN.WITHOUT_SUGGESTION"),
    ),
    (
        re.compile(r"(?:unknown|unsupported)(?: table)? function: ?(\S+)|^function: (\S+)", re.IGNORECASE),
        _analysis("UNRESOLVED_ROUTINE"),
    ),
    (re.compile(r"Table not found|table or view not found", re.IGNORECASE), _analysis("TABLE_OR_VIEW_NOT_FOUND")),
    (
        re.compile(r"divide by zero", re.IGNORECASE),
        _execution("DIVIDE_BY_ZERO", "org.apache.spark.SparkArithmeticException", _BY_ZERO),
    ),
    (
        re.compile(r"Arithmetic overflow|overflow", re.IGNORECASE),
        _execution("ARITHMETIC_OVERFLOW", "org.apache.spark.SparkArithmeticException"),
    ),
    (
        re.compile(r"Cannot cast (?:string|value) '?(.*?)'? to value of (\w+)", re.DOTALL),
        _execution("CAST_INVALID_INPUT", "org.apache.spark.SparkNumberFormatException"),
    ),
    (
        re.compile(r"CHECK constraint|constraint .*violat|violat.* constraint", re.IGNORECASE),
        _execution("DELTA_VIOLATE_CONSTRAINT_WITH_VALUES", "org.apache.spark.SparkException"),
    ),
    (
        re.compile(
            r"commit conflict|concurrent|VersionAlreadyExists|version \d+ already exists|Transaction.*failed"
            r"|Failed to commit transaction: \d+$"  # so many attempts were made
            r"|Missing commit file: expected version \d+, found \d+",  # the log grew while Sail listed it
            re.IGNORECASE,
        ),
        _execution("DELTA_CONCURRENT_WRITE", "org.apache.spark.SparkException"),
    ),
    (
        re.compile(r"Missing commit file: expected final version (\d+), replay reached (\d+)"),
        _analysis("DELTA_VERSION_NOT_FOUND", _NO_VERSION),
    ),
    (
        re.compile(r"No commit files found in _delta_log"),
        _analysis("DELTA_TABLE_NOT_FOUND", "The path is not a Delta table."),
    ),
    (
        re.compile(r"Delta table already exists"),
        _analysis("DELTA_PATH_EXISTS", "A Delta table already exists there. Use mode append or overwrite."),
    ),
    (
        re.compile(r"No such file or directory|not found.*os error 2|Object at location .* not found", re.IGNORECASE),
        _analysis("PATH_NOT_FOUND"),
    ),
    (
        re.compile(r"No space left on device", re.IGNORECASE),
        _execution(
            "DISK_FULL", "org.apache.spark.SparkException", "There is no space left for data on the server's disk."
        ),
    ),
    (
        re.compile(r"Permission denied|os error 13", re.IGNORECASE),
        _analysis("INSUFFICIENT_PERMISSIONS", "The engine may not touch a file that this query needs."),
    ),
    (
        re.compile(r"Resources exhausted|Failed to allocate", re.IGNORECASE),
        _execution("OUT_OF_MEMORY", "org.apache.spark.SparkException"),
    ),
    (
        re.compile(r"not supported|not implemented|unsupported|does not support", re.IGNORECASE),
        lambda message, _: UnsupportedError("UNSUPPORTED_FEATURE", message, sql_state="0A000"),
    ),
)


def translated(error: aio.AioRpcError, needs: Needs) -> SparkError:
    """The engine's error, with its class found or guessed, and locations named as users know them."""
    message = _without_paths(str(error.details() or "The engine failed without a message."), needs)
    info = _error_info(error)
    java = str(info.get("java", "org.apache.spark.SparkException"))
    given = info.get("error_class") or (found[1] if (found := _CLASS_IN_TEXT.search(message)) else None)
    if given:
        return _with_class(str(given), java, message, info)
    if "PythonException" in java or "Traceback (most recent call last)" in message:
        return EngineError(
            "org.apache.spark.api.python.PythonException", "PYTHON_EXCEPTION", message, sql_state="38000"
        )
    for pattern, make in _SAYINGS:
        match = pattern.search(message)
        if match:
            return make(message, match)
    if "AnalysisException" in java or "IllegalArgumentException" in java:
        return AnalysisError("INVALID_PLAN", message, sql_state="42000")
    if "UnsupportedOperationException" in java:
        return UnsupportedError(
            "UNSUPPORTED_FEATURE", f"The engine does not support this: {message}.", sql_state="0A000"
        )
    return EngineError(java, "ENGINE_ERROR", message, sql_state="XX000")


def _with_class(error_class: str, java: str, message: str, info: dict[str, Any]) -> SparkError:
    found = _SQL_STATE_IN_TEXT.search(message)
    sql_state = str(info.get("sql_state") or (found[1] if found else _SQL_STATES.get(error_class, "XX000")))
    text = message[match.end() :] if (match := _CLASS_IN_TEXT.search(message)) else message
    text = re.sub(r"\s*SQLSTATE:?\s*[0-9A-Z]{5}\s*$", "", text)
    if "ParseException" in java:
        return ParseError(error_class, text, sql="", line=1, column=0)
    if "AnalysisException" in java:
        return AnalysisError(error_class, text, sql_state=sql_state)
    return EngineError(java, error_class, text, sql_state=sql_state)


def _missing_column(shown: str) -> SparkError:
    name = ".".join(f"`{part}`" for part in re.findall(r'Identifier\("(.*?)"\)', shown)) or shown
    return AnalysisError(
        "UNRESOLVED_COLUMN.WITHOUT_SUGGESTION",
        f"A column, variable, or function parameter with name {name} cannot be resolved.",
        sql_state="42703",
        parameters={"objectName": name},
    )


def _error_info(error: aio.AioRpcError) -> dict[str, Any]:
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_KEY:
            status = status_pb2.Status.FromString(value)
            for detail in status.details:
                if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                    info = error_details_pb2.ErrorInfo.FromString(detail.value)
                    classes = json.loads(info.metadata.get("classes") or "[]")
                    return {
                        "java": classes[0] if classes else info.reason,
                        "error_class": info.metadata.get("errorClass"),
                        "sql_state": info.metadata.get("sqlState"),
                    }
    return {}


def without_paths(message: str, needs: Needs) -> str:
    """The text with locations shown as the names that users know them by."""
    for location, name in sorted(needs.names.items(), key=lambda item: -len(item[0])):
        for form in (location, location.removeprefix("file://"), location.removeprefix("file:///")):
            message = message.replace(form, name)
    return message


def _without_paths(message: str, needs: Needs) -> str:
    return _FILE_URL.sub("[a file of the server]", without_paths(message, needs))
