"""What a query tells of a batch, in Spark's shape. Source: PySpark, `StreamingQueryProgress.fromJson`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Read:
    """What a batch read of one source."""

    description: str
    start: str
    end: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class Done:
    """A batch that is over."""

    query_id: str
    run_id: str
    name: str | None
    batch_id: int
    began: datetime
    idle_s: float
    """From the beginning of the batch before it, or of the query."""
    took_s: float
    durations_s: dict[str, float]
    reads: Sequence[Read]
    sink: str


def progress(done: Done) -> str:
    """As JSON."""
    rows = sum(read.rows for read in done.reads)
    came, went = _rate(rows, done.idle_s), _rate(rows, done.took_s)
    values: dict[str, Any] = {
        "id": done.query_id,
        "runId": done.run_id,
        "name": done.name,
        "timestamp": done.began.strftime("%Y-%m-%dT%H:%M:%S.") + f"{done.began.microsecond // 1000:03d}Z",
        "batchId": done.batch_id,
        "batchDuration": _ms(done.took_s),
        "numInputRows": rows,
        "inputRowsPerSecond": came,
        "processedRowsPerSecond": went,
        "durationMs": {name: _ms(seconds) for name, seconds in done.durations_s.items()},
        "stateOperators": [],
        "sources": [_source(read, done) for read in done.reads],
        "sink": {"description": done.sink, "numOutputRows": -1},
    }
    return json.dumps(values)


def _source(read: Read, done: Done) -> dict[str, Any]:
    return {
        "description": read.description,
        "startOffset": json.loads(read.start),
        "endOffset": json.loads(read.end),
        "latestOffset": None,
        "numInputRows": read.rows,
        "inputRowsPerSecond": _rate(read.rows, done.idle_s),
        "processedRowsPerSecond": _rate(read.rows, done.took_s),
    }


def _rate(rows: int, seconds: float) -> float:
    return rows / seconds if seconds > 0 else 0.0


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
