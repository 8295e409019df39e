"""Requests and answers in Arrow's stream format."""

import io
import json
from typing import Any

import numpy
import pandas
import pyarrow


def read(body: bytes) -> tuple[pandas.DataFrame, Any]:
    """The rows of a stream, and the params that its schema has under `params`, as JSON.

    Raises ValueError and its like for what is none, and for one with broken offsets.
    """
    with pyarrow.ipc.open_stream(io.BytesIO(body)) as stream:
        table = stream.read_all()
    table.validate(full=True)  # pyarrow would read past the end of a buffer whose offsets lie
    params = (table.schema.metadata or {}).get(b"params")
    return table.to_pandas(), None if params is None else json.loads(params)


def stream_of(result: Any) -> bytes:
    """Predictions as a stream: a data frame's columns; else one column `predictions`, or columns by number.

    Raises TypeError, ValueError, NotImplementedError for what is no table.
    """
    table = _table(result)
    written = io.BytesIO()
    with pyarrow.ipc.new_stream(written, table.schema) as stream:
        stream.write_table(table)
    return written.getvalue()


def _table(result: Any) -> pyarrow.Table:
    if isinstance(result, pandas.DataFrame):
        return pyarrow.Table.from_pandas(result.rename(columns=str), preserve_index=False)
    if isinstance(result, dict):
        return pyarrow.table({str(name): pyarrow.array(values) for name, values in result.items()})
    if isinstance(result, numpy.ndarray) and result.ndim == 2:
        return pyarrow.table({str(number): pyarrow.array(column) for number, column in enumerate(result.T)})
    if isinstance(result, list | pandas.Series | numpy.ndarray):
        return pyarrow.table({"predictions": pyarrow.array(result)})
    raise TypeError(f"a {type(result).__name__} is no table")
