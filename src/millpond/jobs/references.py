"""`{{job.run_id}}` and the like in a task's texts, and the answers of conditions.

Source: "What is a dynamic value reference?" of the Databricks documentation. A reference that is none stays as it is
written, as there; one to a value that was never set is an error.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from millpond.kernel.errors import InvalidArgument

_REFERENCE = re.compile(r"\{\{\s*([^{}]+?)\s*\}\}")
Look = Callable[[str], str | None]


def resolved(value: Any, look: Look) -> Any:
    """A JSON value with each reference in its texts replaced by what `look` says."""
    if isinstance(value, str):
        return _REFERENCE.sub(lambda found: found[0] if (to := look(found[1])) is None else to, value)
    if isinstance(value, Mapping):
        return {key: resolved(item, look) for key, item in value.items()}
    return [resolved(item, look) for item in value] if isinstance(value, list | tuple) else value


def as_text(value: Any) -> str:
    """A value as it stands in a text: texts as they are, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def looking(
    known: Mapping[str, str],
    parameters: Mapping[str, str],
    task_values: Mapping[str, Mapping[str, Any]],
    results: Mapping[str, str],
    item: Any = None,
) -> Look:
    """What references mean: plain names, job parameters, values of tasks before, their results, and `{{input}}`."""

    def look(name: str) -> str | None:
        match name.split("."):
            case ["job", "parameters", key] if key in parameters:
                return parameters[key]
            case ["tasks", task, "values", *path] if path:
                return as_text(_inside(task_values.get(task, {}), path, name))
            case ["tasks", task, "result_state"] if task in results:
                return results[task].lower()
            case ["input", *path] if item is not None:
                return as_text(_inside(item, path, name))
        return known.get(name)

    return look


def _inside(value: Any, path: list[str], name: str) -> Any:
    for part in path:
        if not isinstance(value, Mapping) or part not in value:
            raise InvalidArgument(f"The reference {{{{{name}}}}} leads to no value.")
        value = value[part]
    return value


_OPERATIONS: Mapping[str, Callable[[float, float], bool]] = {
    "GREATER_THAN": lambda left, right: left > right,
    "GREATER_THAN_OR_EQUAL": lambda left, right: left >= right,
    "LESS_THAN": lambda left, right: left < right,
    "LESS_THAN_OR_EQUAL": lambda left, right: left <= right,
}
OPERATIONS = ("EQUAL_TO", "NOT_EQUAL", *_OPERATIONS)


def holds(operation: str, left: str, right: str) -> bool:
    """Whether a condition is met. Equality compares texts, all else numbers. Raises InvalidArgument."""
    if operation in ("EQUAL_TO", "NOT_EQUAL"):
        return (left == right) is (operation == "EQUAL_TO")
    try:
        numbers = float(left), float(right)
    except ValueError as error:
        raise InvalidArgument(f"{operation} compares numbers, not '{left[:40]}' and '{right[:40]}'.") from error
    return _OPERATIONS[operation](*numbers)
