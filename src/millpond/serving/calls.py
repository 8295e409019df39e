"""Calls of functions, as a process in which users' code may run is asked for them and answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from millpond.feature_serving.service import Invocation
from millpond.kernel.errors import InvalidArgument, MillpondError
from millpond.serving import columns


def asked_bytes(asked: Sequence[Invocation]) -> bytes:
    """What `worker.functions` understands. Raises InvalidArgument for values that have no place in it."""
    calls = [
        {
            "name": each.function.name,
            "parameters": [name for name, _ in each.function.parameters],
            "body": each.function.body,
            "rows": each.rows,
        }
        for each in asked
    ]
    arguments = {
        f"{number}.{place}": values for number, each in enumerate(asked) for place, values in enumerate(each.arguments)
    }
    return encoded(arguments, calls=calls)


def results_of(body: bytes, asked: Sequence[Invocation]) -> Sequence[Sequence[Any]]:
    """The results of each call by row. Raises MillpondError for what is no answer to it."""
    found = decoded(body)
    results = [found.get(str(number)) for number in range(len(asked))]
    if any(values is None or len(values) != each.rows for values, each in zip(results, asked, strict=True)):
        raise MillpondError("The worker did not answer with a result for each row.")
    return [values for values in results if values is not None]


def encoded(given: Mapping[str, Sequence[Any]], **beside: Any) -> bytes:
    """Columns for a worker. Raises InvalidArgument."""
    try:
        return columns.encode(given, **beside)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"The request has values that cannot be passed on: {error}.") from error


def decoded(body: bytes) -> dict[str, list[Any]]:
    """The columns that a worker answers with. Raises MillpondError."""
    try:
        return columns.decode(body)[0]
    except ValueError as error:
        raise MillpondError(f"The worker did not keep to the protocol: {error}.") from error
