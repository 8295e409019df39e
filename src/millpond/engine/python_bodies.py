"""Bodies of Python functions of the catalog, as the engine of whoever calls them runs them.

Nothing of a body runs before that: the gateway pickles its text, and `PythonBody` is found by its name in the engine.
Imported in each engine, so it imports nothing.
"""

from typing import Any


class PythonBody:
    """Statements with `return`, over named values. Compiled at the first call."""

    def __init__(self, name: str, parameters: tuple[str, ...], body: str) -> None:
        self._name, self._parameters, self._body = name, parameters, body
        self._function: Any = None

    def __call__(self, *values: Any) -> Any:
        if self._function is None:
            scope: dict[str, Any] = {"__name__": "__main__"}
            exec(compile(source_of(self._parameters, self._body), self._name, "exec"), scope)  # noqa: S102 - confined
            self._function = scope["_body"]
        return self._function(*values)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_function": None}


class TypeNamed:
    """A Spark type by its JSON, which becomes one where it is unpickled: the gateway does not load PySpark."""

    def __init__(self, json_text: str) -> None:
        self._json_text = json_text

    def __reduce__(self) -> tuple[Any, ...]:
        return spark_type, (self._json_text,)


def spark_type(json_text: str) -> Any:
    """The type of PySpark's."""
    from pyspark.sql.types import _parse_datatype_json_string

    return _parse_datatype_json_string(json_text)


def source_of(parameters: tuple[str, ...], body: str) -> str:
    """A function definition around the statements of a body."""
    from textwrap import dedent, indent

    return f"def _body({', '.join(parameters)}):\n{indent(dedent(body.strip(chr(10))), '    ')}\n"
