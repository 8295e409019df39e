"""Records of segments as rows of the tables, and the rows of a request and its predictions told apart."""

import base64
import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import orjson
import pyarrow as pa

from millpond.inference_tables.segments import Record
from millpond.kernel.logs import get_logger
from millpond.serving import columns

T = TypeVar("T")

log = get_logger(__name__)
LARGEST_TOLD_APART_BYTES = 8 << 20
"""Of larger requests and answers the rows are not told apart; they are kept whole all the same."""
_US_PER_MS = 1000

PAYLOAD_SCHEMA = pa.schema([
    ("client_request_id", pa.string()),
    ("databricks_request_id", pa.string()),
    ("date", pa.date32()),
    ("timestamp_ms", pa.int64()),
    ("status_code", pa.int32()),
    ("sampling_fraction", pa.float64()),
    ("execution_time_ms", pa.int64()),
    ("request", pa.string()),
    ("response", pa.string()),
    ("request_metadata", pa.map_(pa.string(), pa.string())),
    ("served_entity_name", pa.string()),
    ("model_name", pa.string()),
    ("model_version", pa.string()),
    ("config_version", pa.int32()),
    ("route", pa.string()),
    ("requester", pa.string()),
    ("total_ms", pa.float64()),
    ("queue_ms", pa.float64()),
    ("features_ms", pa.float64()),
    ("model_ms", pa.float64()),
    ("router_ms", pa.float64()),
    ("features", pa.string()),
    ("request_bytes", pa.int64()),
    ("response_bytes", pa.int64()),
    ("inputs", pa.list_(pa.string())),
    ("predictions", pa.list_(pa.string())),
])  # fmt: skip
LABELS_SCHEMA = pa.schema([
    ("databricks_request_id", pa.string()),
    ("row_index", pa.int32()),
    ("label", pa.string()),
    ("timestamp_ms", pa.int64()),
    ("labelled_by", pa.string()),
])  # fmt: skip


def payload_rows(records: Sequence[Record], endpoint: str) -> pa.Table:
    """Requests and answers, a row each, in the order of the records."""
    return pa.Table.from_pylist([_row_of(each, endpoint) for each in records], schema=PAYLOAD_SCHEMA)


def label_rows(records: Sequence[Record]) -> pa.Table:
    """Labels; of those of one row of a request the last one counts."""
    found = {
        (request_id, row): {
            "databricks_request_id": request_id,
            "row_index": row,
            "label": label,
            "timestamp_ms": record.about["at"],
            "labelled_by": record.about["who"],
        }
        for record in records
        for request_id, row, label in orjson.loads(record.request)
    }
    return pa.Table.from_pylist(list(found.values()), schema=LABELS_SCHEMA)


def _row_of(record: Record, endpoint: str) -> dict[str, Any]:
    """A row for whatever was sent: without what is told apart, where that fails in a way that nobody foresaw."""
    row = _payload_row(record, endpoint)
    try:
        return row | _told_apart(record)
    except Exception as error:  # the boundary of one record: else its log would wait for it for ever
        log.error("a request was not told apart", request_id=record.about["id"], exc_info=error)
        return row


def _told_apart(record: Record) -> dict[str, Any]:
    """What is only known when the bodies are parsed."""
    about: Mapping[str, Any] = record.about
    asked, answered = _parsed(record.request, about["type"]), _parsed(record.response, "")
    return {
        "client_request_id": _if_told(partial(_client_id, about["client"]), asked),
        "features": _if_told(_features, record.features),
        "inputs": _if_told(partial(inputs_of, size=len(record.request)), asked),
        "predictions": _if_told(partial(predictions_of, size=len(record.response)), answered)
        if about["status"] == 200
        else None,
    }


def _payload_row(record: Record, endpoint: str) -> dict[str, Any]:
    about: Mapping[str, Any] = record.about
    request, encoding = _text(record.request)
    metadata = {"endpoint_name": endpoint, "model_name": about["model"], "model_version": about["version"]}
    return {
        "client_request_id": about["client"],
        "databricks_request_id": about["id"],
        "date": datetime.fromtimestamp(about["at"] / 1000, UTC).date(),
        "timestamp_ms": about["at"],
        "status_code": about["status"],
        "sampling_fraction": 1.0,
        "request": request,
        "response": _text(record.response)[0],
        "request_metadata": list({**metadata, "content_type": about["type"], **encoding}.items()),
        "served_entity_name": about["entity"],
        "model_name": about["model"],
        "model_version": about["version"] or None,
        "config_version": about["config"],
        "route": "direct" if about["direct"] else "traffic",
        "requester": about["who"],
        **_times(*about["s"]),
        "request_bytes": len(record.request),
        "response_bytes": len(record.response),
    }


def _times(total_s: float, queue_s: float, features_s: float, model_s: float) -> dict[str, float]:
    rest_s = max(0.0, total_s - queue_s - features_s - model_s)
    told = {"total": total_s, "queue": queue_s, "features": features_s, "model": model_s, "router": rest_s}
    found = {f"{name}_ms": round(seconds * 1000, 3) for name, seconds in told.items()}
    return {"execution_time_ms": round((model_s or total_s) * 1000), **found}


def _text(body: bytes) -> tuple[str, dict[str, str]]:
    """A body as text, and what to know to get the bytes back."""
    try:
        return body.decode(), {}
    except UnicodeDecodeError:
        return base64.b64encode(body).decode(), {"request_encoding": "base64"}


def _client_id(in_header: str | None, asked: Any) -> str | None:
    in_body = asked.get("client_request_id") if isinstance(asked, dict) else None
    told = None if in_body is None else _if_told(as_text, in_body)
    return in_header if told is None else told


def _features(body: bytes) -> str | None:
    """The rows that the model was given."""
    if not body or len(body) > LARGEST_TOLD_APART_BYTES:
        return None
    found, _ = columns.decode(body)
    if not _is_bounded(found, len(next(iter(found.values()), ())), len(body)):
        return None
    rows = [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]
    return json.dumps(rows, default=str)


# -- rows of requests and answers -------------------------------------------------------------------------------------


def _parsed(body: bytes, content_type: str) -> Any:
    """A body's JSON, the rows of CSV, or None."""
    if len(body) > LARGEST_TOLD_APART_BYTES:
        return None
    try:
        if content_type.partition(";")[0].strip().lower() == "text/csv":
            return _of_csv(body.decode(), len(body))
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return _lenient(body)
    except (UnicodeDecodeError, csv.Error):
        return None


def _of_csv(text: str, size: int) -> dict[str, Any] | None:
    """The rows of CSV by their names; None of more than may be told apart."""
    reader, rows = csv.DictReader(io.StringIO(text)), []
    for row in reader:
        rows.append(row)
        if not _is_bounded(reader.fieldnames or (), len(rows), size):
            return None
    return {"dataframe_records": rows}


def _is_bounded(names: Iterable[object], rows: int, size: int) -> bool:
    """Whether rows may be told apart of so many bytes, as each of them repeats the names."""
    return size + rows * sum(len(str(name)) + 4 for name in names) <= LARGEST_TOLD_APART_BYTES  # quotes, colon, comma


def _lenient(body: bytes) -> Any:
    """JSON with NaN and Infinity, as Python writes it."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _if_told(find: Callable[[Any], T | None], body: Any) -> T | None:
    """What is found in a body; nothing in one that is nested too deeply. Whatever a client sends, its row is kept."""
    try:
        return find(body)
    except (RecursionError, ValueError):
        return None


def inputs_of(asked: Any, size: int = 0) -> list[str] | None:
    """The rows of a request in any of MLflow's four shapes, as JSON; None where they cannot be told, or are too large.

    `size` is how many bytes it had.
    """
    if not isinstance(asked, dict):
        return None
    if isinstance(asked.get("dataframe_split"), dict):
        return _of_split(asked["dataframe_split"], size)
    for shape in ("dataframe_records", "instances"):
        if isinstance(asked.get(shape), list):
            return [_json(row) for row in asked[shape]]
    return _of_columns(asked["inputs"], size) if "inputs" in asked else None


def _of_split(split: Mapping[str, Any], size: int) -> list[str] | None:
    names, data = split.get("columns"), split.get("data")
    if not isinstance(data, list):
        return None
    if not isinstance(names, list):
        return [_json(row) for row in data]
    whole = all(isinstance(row, list) and len(row) == len(names) for row in data)
    whole = whole and _is_bounded(names, len(data), size)
    return [_json(dict(zip(map(str, names), row, strict=True))) for row in data] if whole else None


def _of_columns(given: Any, size: int) -> list[str] | None:
    """`inputs`: a column for each name, or rows."""
    if isinstance(given, list):
        return [_json(row) for row in given]
    if not isinstance(given, dict) or not given or not all(isinstance(each, list) for each in given.values()):
        return [_json(given)]
    lengths = {len(each) for each in given.values()}
    if len(lengths) > 1 or not _is_bounded(given, max(lengths), size):
        return None
    return [_json(dict(zip(given, row, strict=True))) for row in zip(*given.values(), strict=True)]


def predictions_of(answered: Any, size: int = 0) -> list[str] | None:
    """What was answered for each row; None where it cannot be told, or is too large."""
    if not isinstance(answered, dict):
        return None
    found = answered.get("predictions", answered.get("outputs"))
    if isinstance(found, list):
        return [as_text(each) for each in found]
    return _of_columns(found, size) if isinstance(found, dict) else None


def as_text(value: Any) -> str:
    """A text as it is, all else as JSON; so are texts that are none in UTF-8."""
    if isinstance(value, str) and value.isascii():
        return value
    try:
        return value.encode().decode() if isinstance(value, str) else _json(value)
    except UnicodeEncodeError:
        return _json(value)


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a whole number that is larger than 64 bits, half of a character
        return json.dumps(value)
