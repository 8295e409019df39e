"""The shapes in which MLflow's scoring protocol brings rows in JSON, read as rows.

Source: https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally (`dataframe_records`, `dataframe_split`,
`instances`, `inputs`, `params`).
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from millpond.kernel.errors import InvalidArgument

Row = dict[str, Any]


def read_rows(body: bytes) -> tuple[list[Row], Mapping[str, Any] | None]:
    """The rows of a request and its params. Raises InvalidArgument that says what is wrong."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"The request is not JSON: {error}") from error
    shapes = [name for name in _SHAPES if isinstance(told, dict) and name in told]
    if len(shapes) != 1:
        raise InvalidArgument(f"The request must be an object with one of {', '.join(_SHAPES)}.")
    params = told.get("params")
    if params is not None and not isinstance(params, dict):
        raise InvalidArgument("params must be an object.")
    return _SHAPES[shapes[0]](told[shapes[0]], shapes[0]), params


def _records(given: Any, shape: str) -> list[Row]:
    if not isinstance(given, list) or not all(isinstance(row, dict) for row in given):
        raise InvalidArgument(f"{shape} must be a list of objects, one for each row: its columns have to have names.")
    return given


def _split(given: Any, shape: str) -> list[Row]:
    if not isinstance(given, dict) or not isinstance(given.get("columns"), list) or "data" not in given:
        raise InvalidArgument(f"{shape} must be an object with columns and data.")
    names, data = given["columns"], given["data"]
    rows = isinstance(data, list) and all(isinstance(row, list) and len(row) == len(names) for row in data)
    if not rows or not all(isinstance(name, str) for name in names):
        raise InvalidArgument(
            f"The data of {shape} must be rows with a value for each of the columns, which are texts."
        )
    return [dict(zip(names, row, strict=True)) for row in data]


def _inputs(given: Any, shape: str) -> list[Row]:
    """Columns as lists, one row as an object of values, or rows."""
    if not isinstance(given, dict):
        return _records(given, shape)
    if not any(isinstance(values, list) for values in given.values()):
        return [given]
    lengths = {len(values) if isinstance(values, list) else -1 for values in given.values()}
    if len(lengths) != 1:
        raise InvalidArgument(f"The columns of {shape} must be lists of one length.")
    return [dict(zip(given, row, strict=True)) for row in zip(*given.values(), strict=True)]


_SHAPES: Mapping[str, Callable[[Any, str], list[Row]]] = {
    "dataframe_records": _records,
    "dataframe_split": _split,
    "instances": _records,
    "inputs": _inputs,
}
