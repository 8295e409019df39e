"""What DataFrame.writeStream asks for, as a value; what cannot be done is refused by name."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from millpond.catalog.names import split_name
from millpond.engine.errors import AnalysisError, unsupported

MERGE_FORMAT = "millpond.merge"
"""The format by which a stream is merged into a table by the table's primary key."""
_UNITS_S = {
    "microsecond": 1e-6, "millisecond": 1e-3, "second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0,
    "week": 604800.0, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0,
}  # fmt: skip
_INTERVAL = re.compile(r"(?:interval\s+)?((?:\d+\s*[a-z]+\s*)+)", re.IGNORECASE)
_TERM = re.compile(r"(\d+)\s*([a-z]+)", re.IGNORECASE)
_OPTIONS = {"checkpointlocation", "mergeschema", "usermetadata"}


class When(Enum):
    """When batches run."""

    AS_DATA_COMES = "processingTime"
    ONCE = "once"
    AVAILABLE_NOW = "availableNow"


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """When batches run, and how far apart they begin."""

    when: When = When.AS_DATA_COMES
    interval_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class StreamWrite:
    """A streaming query that was asked for."""

    relation: Any
    """As the client sent it."""
    table: tuple[str, ...]
    merges: bool
    """Whether rows replace those of the same primary key, instead of being added."""
    checkpoint: str
    trigger: Trigger
    name: str | None = None
    partitioned_by: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    """Those of each batch's write."""


def stream_write_of(operation: Any) -> StreamWrite:
    """What a write_stream_operation_start asks for. Raises SparkError for what cannot be done."""
    merges = _merges(operation)
    options = {key.lower(): value for key, value in operation.options.items()}
    unknown = [key for key in operation.options if key.lower() not in _OPTIONS]
    if unknown:
        raise unsupported(
            f"The option '{unknown[0]}' of a streaming write. Known are checkpointLocation, mergeSchema, userMetadata."
        )
    _check_mode(operation.output_mode, merges=merges)
    if operation.clustering_column_names:
        raise unsupported("clusterBy of a streaming write: OPTIMIZE the table with ZORDER BY.")
    if not operation.table_name:
        raise unsupported("A stream into a path: name a table, with toTable(name).")
    if merges and (operation.partitioning_column_names or "mergeschema" in options):
        raise unsupported(f"partitionBy and mergeSchema of {MERGE_FORMAT}: the table is there, with its columns.")
    return StreamWrite(
        relation=operation.input,
        table=split_name(operation.table_name),
        merges=merges,
        checkpoint=_checkpoint(options),
        trigger=_trigger(operation),
        name=operation.query_name or None,
        partitioned_by=tuple(operation.partitioning_column_names),
        options={key: value for key, value in options.items() if key != "checkpointlocation"},
    )


def _merges(operation: Any) -> bool:
    for name, called in (("foreach_writer", "foreach"), ("foreach_batch", "foreachBatch")):
        if operation.HasField(name):
            raise unsupported(
                f"{called} of a stream: write to a table, with toTable(name), or merge by a table's primary key, with "
                f"format('{MERGE_FORMAT}').toTable(name)."
            )
    sink = operation.format.lower()
    if sink not in {"", "delta", MERGE_FORMAT}:
        raise unsupported(f"The streaming sink '{operation.format}': write to a Delta table, with toTable(name).")
    return bool(sink == MERGE_FORMAT)


def _check_mode(mode: str, *, merges: bool) -> None:
    known = {"", "append", "update"} if merges else {"", "append"}
    if mode.lower() not in known:
        raise AnalysisError(
            "STREAMING_OUTPUT_MODE.UNSUPPORTED_OPERATION",
            f"Invalid streaming output mode: {mode}. This output mode is not supported for streaming queries without "
            "aggregations, which are those that this server has; use 'append'.",
            sql_state="42KDE",
            parameters={"outputMode": mode},
        )


def _checkpoint(options: Mapping[str, str]) -> str:
    found = options.get("checkpointlocation", "").strip()
    if not found:
        raise AnalysisError(
            "STREAMING_CHECKPOINT_LOCATION_MISSING",
            'checkpointLocation must be specified through option("checkpointLocation", ...), as a path that you may '
            "write, such as /Volumes/main/default/checkpoints/my_query.",
            sql_state="42000",
        )
    return found.rstrip("/")


def _trigger(operation: Any) -> Trigger:
    kind = operation.WhichOneof("trigger")
    if kind in {"continuous_checkpoint_interval", "real_time_batch_duration"}:
        name = "continuous" if kind.startswith("continuous") else "realTime"
        raise unsupported(f"The trigger {name}: use processingTime, or no trigger, which runs a batch as data comes.")
    if kind == "available_now":
        return Trigger(when=When.AVAILABLE_NOW)
    if kind == "once":
        return Trigger(when=When.ONCE)
    return Trigger(interval_s=interval_s(operation.processing_time_interval) if kind else 0.0)


def interval_s(text: str) -> float:
    """An interval such as `5 seconds` in seconds. Raises AnalysisError."""
    found = _INTERVAL.fullmatch(text.strip())
    terms = [(int(number), unit.lower()) for number, unit in _TERM.findall(found[1])] if found else []
    units = [unit if unit in _UNITS_S else unit.removesuffix("s") for _, unit in terms]
    if not terms or any(unit not in _UNITS_S for unit in units):
        raise AnalysisError(
            "INVALID_INTERVAL_FORMAT",
            f"Error parsing '{text}' to interval. Write it as '5 seconds' or '1 minute 30 seconds'.",
            sql_state="22006",
        )
    return sum(number * _UNITS_S[unit] for (number, _), unit in zip(terms, units, strict=True))
