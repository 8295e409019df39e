"""Asks a model for predictions, a batch of rows at a time: what a call of `ai_query` is in its user's engine.

It asks this Millpond's own API with the token of its user, whose engine has a way there. The model runs elsewhere.
Pickled by the gateway and found by its name in the engine, so it imports little.
"""

import json
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_MOST_ROWS = 4096
_MOST_BYTES = 8 << 20
"""Of a request: the API takes 16 MiB."""
_PATIENCE_S = 180.0
"""So long a model may have no place, or no process."""
_TIMEOUT_S = 600.0
_LATER = (429, 503)
_TOO_LARGE, _LATE = 413, 504
_PARTS = 8
"""Of a request that took too long: its single rows are reached in a few steps."""
_MOST_UNANSWERED = 8
"""So many requests in a row without an answer end the statement, though errors of rows would not."""
_OF_ROWS = (400, 422)
"""What a model says of rows that it cannot take; other errors are of the whole request."""
_NOBODYS = (401, 403, 404)
"""Whoever asks may not any more, or nothing is there to ask: no row has a prediction."""
_ARROW, _JSON = "application/vnd.apache.arrow.stream", "application/json"


class Refused(Exception):
    """The answer is an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class _Going:
    """How one call goes."""

    unanswered: int = 0
    """Requests since the last one that the model said something to."""


class ModelQuestion:
    """Gives a prediction for each row of a column: an Arrow function of Spark's."""

    def __init__(
        self,
        *,
        name: str,
        path: str,
        inputs: tuple[str, ...],
        returns: str,
        fails: bool,
        params: Mapping[str, Any] | None,
        plain: bool,
    ) -> None:
        """An endpoint is asked in `plain` JSON, which its inference table and its quick path read. `returns` is the
        type of a prediction as Spark's JSON. Without `fails`, each row tells of its own error."""
        self._name, self._path, self._inputs = name, path, inputs
        self._returns, self._fails, self._params = returns, fails, params
        self._format = _JSON if plain else _ARROW
        self._connections: dict[int, Any] = {}
        """By thread: the engine calls one function from several."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_connections": {}}

    def __call__(self, request: Any) -> Any:
        """The predictions for an Arrow array of structs, or of values of a model's only input."""
        import pyarrow as pa

        table = self._table(request)
        kind = _arrow_type(self._returns)
        if not self._fails:
            kind = pa.struct([("result", kind), ("errorMessage", pa.string())])
        going = _Going()
        parts = [part for rows in _portions(table) for part in self._answers(rows, going)]
        return pa.concat_arrays(parts) if parts else pa.array([], kind)

    def _table(self, request: Any) -> Any:
        import pyarrow as pa

        if isinstance(request, pa.ChunkedArray):
            request = request.combine_chunks()
        if pa.types.is_struct(request.type):
            names = [field.name for field in request.type]
            columns = request.flatten()
        elif len(self._inputs) == 1:
            names, columns = list(self._inputs), [request]
        else:
            raise ValueError(
                f"ai_query: {self._name} takes the columns {', '.join(self._inputs) or 'that its signature would name'}"
                ": give them as named_struct('NAME', value, ...) or struct(*)."
            )
        return pa.table([_without_zone(column) for column in columns], names=names)

    def _answers(self, rows: Any, going: _Going) -> Iterator[Any]:
        """Arrays for the rows. A request that is too large, takes too long or has a bad row is divided."""
        try:
            found = self._ask(rows)
        except Refused as error:
            going.unanswered = going.unanswered + 1 if error.status in (_LATE, *_LATER) else 0
            if going.unanswered == _MOST_UNANSWERED:
                raise RuntimeError(
                    f"ai_query: {self._name} answered none of {_MOST_UNANSWERED} requests in a row: {error}"
                ) from error
            parts = self._parts(error.status)
            if rows.num_rows > 1 and parts:
                size = -(-rows.num_rows // parts)
                for start in range(0, rows.num_rows, size):
                    yield from self._answers(rows.slice(start, size), going)
            elif self._fails or error.status in _NOBODYS:
                raise RuntimeError(f"ai_query: {self._name} answered {error.status}: {error}") from error
            else:
                yield self._told(None, str(error), rows.num_rows)
        else:
            going.unanswered = 0
            yield self._told(found, None)

    def _parts(self, status: int) -> int:
        """Into how many a request is divided after an answer; 0 where that would not help."""
        if status == _LATE:
            return _PARTS
        return 2 if status == _TOO_LARGE or (not self._fails and status in _OF_ROWS) else 0

    def _told(self, predictions: Any, error: str | None, count: int = 0) -> Any:
        if self._fails:
            return predictions
        import pyarrow as pa

        if error is None:
            return pa.StructArray.from_arrays(
                [predictions, pa.nulls(len(predictions), pa.string())], ["result", "errorMessage"]
            )
        none = pa.nulls(count, _arrow_type(self._returns))
        return pa.StructArray.from_arrays([none, pa.array([error] * count, pa.string())], ["result", "errorMessage"])

    def _ask(self, rows: Any) -> Any:
        body = _in_arrow(rows, self._params) if self._format == _ARROW else _in_json(rows, self._params)
        content_type, body = self._answer(body)
        found = _fitted(_columns(content_type, body), _arrow_type(self._returns))
        if len(found) != rows.num_rows:
            raise RuntimeError(f"ai_query: {self._name} gave {len(found)} predictions for {rows.num_rows} rows.")
        return found

    def _answer(self, body: bytes) -> tuple[str, bytes]:
        """The answer, once there is one. It may have got lost, so each attempt bears the same id. Raises Refused."""
        deadline = time.monotonic() + _PATIENCE_S
        request_id = uuid.uuid4().hex
        while True:
            status, headers, answer = self._post(body, request_id)
            if status == 200:
                return headers.get("content-type", ""), answer
            if status not in _LATER or time.monotonic() > deadline:
                raise Refused(status, _message(answer))
            time.sleep(min(float(headers.get("retry-after", "0.5")), 5.0))

    def _post(self, body: bytes, request_id: str) -> tuple[int, Mapping[str, str], bytes]:
        import http.client
        from urllib.parse import urlsplit

        headers = {
            "Authorization": f"Bearer {os.environ['DATABRICKS_TOKEN']}", "User-Agent": "millpond-ai-query",
            "Content-Type": self._format, "Accept": self._format, "X-Client-Request-Id": request_id,
        }  # fmt: skip
        address = urlsplit(os.environ["DATABRICKS_HOST"])
        thread = threading.get_ident()
        connection = self._connections.pop(thread, None) or http.client.HTTPConnection(
            address.hostname or "", address.port, timeout=_TIMEOUT_S
        )
        try:
            connection.request("POST", self._path, body, headers)
            response = connection.getresponse()
            answer = response.read()
            self._connections[thread] = connection
            return response.status, {key.lower(): value for key, value in response.getheaders()}, answer
        except (OSError, http.client.HTTPException) as error:  # the server is being started again, or went away
            connection.close()
            return 503, {}, f"the server went away: {error}".encode()


def _in_arrow(rows: Any, params: Mapping[str, Any] | None) -> bytes:
    import pyarrow as pa

    if params is not None:
        rows = rows.replace_schema_metadata({"params": json.dumps(params)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def _in_json(rows: Any, params: Mapping[str, Any] | None) -> bytes:
    import orjson

    data = list(zip(*(column.to_pylist() for column in rows.columns), strict=True))
    asked: dict[str, Any] = {"dataframe_split": {"columns": rows.column_names, "data": data}}
    return orjson.dumps(asked if params is None else {**asked, "params": params}, default=_plain)


def _plain(value: Any) -> Any:
    """What JSON has no form for, as MLflow reads it."""
    from base64 import b64encode

    return b64encode(value).decode() if isinstance(value, bytes) else float(value)


def _portions(table: Any) -> Iterator[Any]:
    """The rows in as many requests as they need."""
    rows = max(1, min(_MOST_ROWS, int(table.num_rows * _MOST_BYTES / max(table.nbytes, 1))))
    for start in range(0, table.num_rows, rows):
        yield table.slice(start, rows)


def _without_zone(column: Any) -> Any:
    """Instants as times in UTC: so MLflow gets them from Spark, too."""
    import pyarrow as pa

    is_instant = pa.types.is_timestamp(column.type) and column.type.tz is not None
    return column.cast(pa.timestamp(column.type.unit)) if is_instant else column


def _arrow_type(returns: str) -> Any:
    from pyspark.sql.pandas.types import to_arrow_type

    from millpond.engine.python_bodies import spark_type

    return to_arrow_type(spark_type(returns))


def _columns(content_type: str, body: bytes) -> Any:
    """An answer as a table."""
    import pyarrow as pa

    if content_type.startswith(_ARROW):
        with pa.ipc.open_stream(body) as stream:
            return stream.read_all()
    told = json.loads(body)
    rows = told.get("predictions", told.get("outputs")) if isinstance(told, dict) else told
    if isinstance(rows, dict):
        return pa.table({name: pa.array(values) for name, values in rows.items()})
    rows = rows if isinstance(rows, list) else [rows]
    if rows and isinstance(rows[0], dict):
        return pa.Table.from_pylist(rows)
    return pa.table({"predictions": pa.array(rows)})


def _fitted(table: Any, kind: Any) -> Any:
    """One array of the wanted type. Raises ValueError where the answer is no such thing."""
    import pyarrow as pa

    column = table.column(0).combine_chunks() if table.num_columns == 1 else None
    try:
        if pa.types.is_struct(kind) and (column is None or not pa.types.is_struct(column.type)):
            arrays = [table.column(field.name).combine_chunks().cast(field.type) for field in kind]
            return pa.StructArray.from_arrays(arrays, fields=list(kind))
        if column is None and pa.types.is_list(kind):
            rows = zip(*(each.to_pylist() for each in table.columns), strict=True)
            return pa.array([list(row) for row in rows], kind)
        if column is None and pa.types.is_string(kind):
            return pa.array([json.dumps(row, default=str) for row in table.to_pylist()])
        if column is not None and pa.types.is_list(column.type) and not pa.types.is_nested(kind):
            column = pa.array([row[0] if row else None for row in column.to_pylist()])  # of one value each
        if column is not None:
            return pa.array(column.to_pylist(), kind) if pa.types.is_nested(kind) else column.cast(kind)
    except (KeyError, pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise ValueError(f"ai_query: the predictions are no {kind}: {error}. Give another returnType.") from error
    raise ValueError(
        f"ai_query: the model answers with the columns {table.column_names}, which are no {kind}. Give a returnType, "
        "such as 'STRUCT<...>' with their names."
    )


def _message(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["message"])
    except (ValueError, KeyError, TypeError):
        return answer[:500].decode(errors="replace")
