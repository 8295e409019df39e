"""Records of segments as rows of the tables."""

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import pyarrow as pa

from millpond.inference_tables.bodies import (
    LARGEST_TOLD_APART_BYTES,
    if_told,
    is_bounded,
    told_by_answer,
    told_by_request,
)
from millpond.inference_tables.segments import Record
from millpond.kernel.logs import get_logger
from millpond.kernel.turns import Turns
from millpond.serving import columns

log = get_logger(__name__)
_AT_A_TIME = 64
"""Making an Arrow array of more rows keeps all other threads waiting for too long."""

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
BODIES = ("request", "response", "features", "inputs", "predictions")
"""Columns of long texts, each of which is there once."""
LABELS_SCHEMA = pa.schema([
    ("databricks_request_id", pa.string()),
    ("row_index", pa.int32()),
    ("label", pa.string()),
    ("timestamp_ms", pa.int64()),
    ("labelled_by", pa.string()),
])  # fmt: skip


def payload_rows(records: Sequence[Record], endpoint: str) -> pa.Table:
    """Requests and answers, a row each, in the order of the records."""
    turns, batches = Turns(), []
    for begin in range(0, len(records), _AT_A_TIME):
        rows = [_row_of(each, endpoint) for each in turns.of(records[begin : begin + _AT_A_TIME])]
        batches.append(pa.RecordBatch.from_pylist(rows, schema=PAYLOAD_SCHEMA))
    return pa.Table.from_batches(batches, schema=PAYLOAD_SCHEMA)


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
    asked = told_by_request(record.request, about["type"])
    return {
        "client_request_id": about["client"] if asked.client_id is None else asked.client_id,
        "features": if_told(_features, record.features),
        "inputs": asked.inputs,
        "predictions": told_by_answer(record.response) if about["status"] == 200 else None,
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


def _features(body: bytes) -> str | None:
    """The rows that the model was given."""
    if not body or len(body) > LARGEST_TOLD_APART_BYTES:
        return None
    found, _ = columns.decode(body)
    if not is_bounded(found, len(next(iter(found.values()), ())), len(body)):
        return None
    rows = [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]
    return json.dumps(rows, default=str)
