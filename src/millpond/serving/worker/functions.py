"""Functions of the catalog that compute features: called here, where users' code may run."""

import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from millpond.engine.python_bodies import PythonBody
from millpond.serving import columns
from millpond.serving.worker.answers import Refusal

_MOST_KEPT = 1000


class Functions:
    """Calls functions by their text; compiled once for as long as it stays the same."""

    def __init__(self) -> None:
        self._compiled: dict[tuple[str, ...], PythonBody] = {}

    def call(self, body: bytes) -> bytes:
        """The results of what a CALL frame asks for, as its answer has them. Raises Refusal where a function raises."""
        arguments, told = columns.decode(body)
        results = {str(number): self._results(number, each, arguments) for number, each in enumerate(told["calls"])}
        try:
            return columns.encode(results)
        except (TypeError, ValueError) as error:
            names = ", ".join(each["name"] for each in told["calls"])
            raise _refused(f"What the function {names} returned cannot be passed on: {error}.") from error

    def _results(self, number: int, asked: Mapping[str, Any], arguments: Mapping[str, Sequence[Any]]) -> list[Any]:
        names = tuple(asked["parameters"])
        given = [arguments[f"{number}.{place}"] for place in range(len(names))]
        rows = zip(*given, strict=True) if given else ((),) * asked["rows"]
        function = self._function(asked["name"], names, asked["body"])
        try:
            return [_plain(function(*row)) for row in rows]
        except MemoryError:
            raise
        except BaseException as error:  # a function may raise anything, SystemExit included
            traceback.print_exc()
            raise _refused(f"Function '{asked['name']}' raised {type(error).__name__}: {error}") from error

    def _function(self, name: str, parameters: tuple[str, ...], body: str) -> PythonBody:
        key = (name, body, *parameters)
        if key not in self._compiled:
            if len(self._compiled) >= _MOST_KEPT:
                self._compiled.clear()
            self._compiled[key] = PythonBody(name, parameters, body)
        return self._compiled[key]


def _plain(value: Any) -> Any:
    """What NumPy made, as Python has it."""
    return value.tolist() if hasattr(value, "tolist") else value


def _refused(message: str) -> Refusal:
    return Refusal(message, code="BAD_REQUEST", status=400)
