"""Features as the data frame that a model was trained with, and requests as columns."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import pandas
from mlflow.types import Schema
from mlflow.utils.proto_json_utils import cast_df_types_according_to_schema

_NUMBERS = {
    "double": numpy.float64, "float": numpy.float32, "bigint": numpy.int64, "long": numpy.int64, "int": numpy.int32,
    "integer": numpy.int32, "smallint": numpy.int16, "short": numpy.int16, "tinyint": numpy.int8, "byte": numpy.int8,
}  # fmt: skip
_TIMES = {"timestamp": "datetime64[us]", "timestamp_ntz": "datetime64[us]", "date": "datetime64[ms]"}


def frame_of(columns: Mapping[str, Sequence[Any]], types: Mapping[str, str], schema: Schema | None) -> pandas.DataFrame:
    """The frame: what was looked up and computed by its SQL type as in training sets, the rest by the signature.

    Raises MlflowException for a column of the request that is of another type than the signature says.
    """
    brought = pandas.DataFrame({name: list(values) for name, values in columns.items() if name not in types})
    if schema is not None and schema.has_input_names() and len(brought.columns):
        brought = cast_df_types_according_to_schema(brought, schema)
    return pandas.DataFrame({
        name: _column(values, types[name]) if name in types else brought[name] for name, values in columns.items()
    })  # fmt: skip


def columns_of(frame: pandas.DataFrame) -> dict[str, list[Any]]:
    """The columns of a request that was read into a frame, missing values as None but for those of numbers."""
    return {str(name): _values(frame[name]) for name in frame.columns}


def _column(values: Sequence[Any], kind: str) -> Any:
    """What pandas makes a column of this SQL type of."""
    base, _, rest = kind.lower().partition("<")
    base = base.partition("(")[0].strip()
    if base in _NUMBERS:
        return _numbers(values, base)
    if base in _TIMES:
        return numpy.array(values, dtype=_TIMES[base])
    if base == "array":
        return [None if each is None else _array(each, rest.removesuffix(">")) for each in values]
    return list(values)


def _numbers(values: Sequence[Any], base: str) -> "numpy.ndarray[Any, Any]":
    """Numbers of a SQL type; whole ones of which some are missing are fractions, as pandas has it."""
    dtype = _NUMBERS[base]
    missing = any(value is None for value in values)
    return numpy.array(values, dtype=numpy.float64 if missing and issubclass(dtype, numpy.integer) else dtype)


def _array(values: Sequence[Any], kind: str) -> "numpy.ndarray[Any, Any]":
    if kind in _NUMBERS:
        return _numbers(values, kind)
    made = numpy.empty(len(values), dtype=object)
    made[:] = values
    return made


def _values(column: pandas.Series) -> list[Any]:
    if column.dtype.kind == "M":
        return [None if pandas.isna(value) else value.to_pydatetime() for value in column]
    if column.dtype.kind == "O" or isinstance(column.dtype, pandas.StringDtype):
        return [_plain(value) for value in column]
    return list(column.tolist())


def _plain(value: Any) -> Any:
    """Arrays as lists; what pandas takes for missing as None."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return None if pandas.api.types.is_scalar(value) and pandas.isna(value) else value
