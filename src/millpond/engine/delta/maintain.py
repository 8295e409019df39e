"""OPTIMIZE, VACUUM, RESTORE and TRUNCATE of a table."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from deltalake import DeltaTable

from millpond.engine.authorship import Author
from millpond.engine.delta.alter import CLUSTERING, keep_log
from millpond.engine.delta.describe import commit_times
from millpond.engine.delta.predicates import partition_filters
from millpond.engine.delta.properties import keeps_log
from millpond.engine.delta.table import (
    Storage,
    commit,
    delta_errors,
    fields,
    file_sizes,
    open_for_write,
    partition_columns,
)
from millpond.engine.errors import AnalysisError, SparkError
from millpond.engine.syntax.model import AsOf

DEFAULT_RETENTION_HOURS = 168


# -- optimize -----------------------------------------------------------------------------------------------------


def optimize(storage: Storage, author: Author, *, where: str | None, zorder_by: Sequence[str]) -> dict[str, Any]:
    """Compact small files, or order them along a Z-curve; a clustered table is ordered by its clustering columns.

    Returns delta-rs' metrics with Spark's names, file statistics as dicts; zeros when nothing was to be done.
    """
    table = open_for_write(storage)
    filters = partition_filters(where, table) if where else None
    clustered = json.loads(table.metadata().configuration.get(CLUSTERING, "[]"))
    columns = _zorder_columns(table, zorder_by) or clustered
    parameters = {
        "predicate": json.dumps([where] if where else [], ensure_ascii=False),
        "zOrderBy": json.dumps(columns if zorder_by else [], ensure_ascii=False),
        "clusterBy": json.dumps([] if zorder_by else clustered, ensure_ascii=False),
        "auto": "false",
    }

    def write(noted: Any) -> dict[str, Any]:
        if columns and table.file_uris():
            return table.optimize.z_order(columns, partition_filters=filters, commit_properties=noted)
        return table.optimize.compact(partition_filters=filters, commit_properties=noted)

    metrics = commit(table, author, write, parameters=parameters)
    if metrics is None:  # delta-rs reported an error, and the commit is in the log with its metrics
        metrics = dict(table.history(1)[0].get("operationMetrics", {}))
    for key in ("filesAdded", "filesRemoved"):
        if isinstance(metrics.get(key), str):
            metrics[key] = json.loads(metrics[key])
    return {**metrics, "numTableColumns": len(fields(table)), "zOrdered": bool(columns)}


def _zorder_columns(table: DeltaTable, wanted: Sequence[str]) -> list[str]:
    names = {field["name"].lower(): field["name"] for field in fields(table)}
    partitions = {column.lower() for column in partition_columns(table)}
    for column in wanted:
        if column.lower() not in names:
            raise AnalysisError(
                "DELTA_ZORDERING_COLUMN_DOES_NOT_EXIST",
                f"Z-Ordering column {column} does not exist in data schema.",
                sql_state="42703",
                parameters={"columnName": column},
            )
        if column.lower() in partitions:
            raise AnalysisError(
                "DELTA_ZORDERING_ON_PARTITION_COLUMN",
                f"{column} is a partition column. Z-Ordering can only be performed on data columns.",
                sql_state="42P10",
                parameters={"colName": column},
            )
    return [names[column.lower()] for column in wanted]


# -- vacuum -------------------------------------------------------------------------------------------------------


def vacuum(
    storage: Storage,
    author: Author,
    *,
    retain_hours: float | None,
    dry_run: bool,
    lite: bool,
    check_retention: bool,
    keep_versions: Sequence[int] = (),
    why_kept: str | None = None,
) -> list[str]:
    """Delete files that no version within the retention needs; their paths relative to the table.

    FULL also finds files that no commit ever named. Hours round up: never less is kept than was asked. What
    `keep_versions` need stays, however old it is; the history says `why_kept`.
    """
    table = open_for_write(storage)
    hours = None if retain_hours is None else math.ceil(retain_hours)
    configured = _configured_hours(table)
    if hours is not None and check_retention and hours < configured:
        raise AnalysisError(
            "DELTA_VACUUM_RETENTION_PERIOD_TOO_SHORT",
            f"Are you sure you would like to vacuum files with such a low retention period, {hours} hours? Readers and "
            f"time travel may still need them; at least {configured} hours are kept. If you are certain, set "
            "spark.databricks.delta.retentionDurationCheck.enabled to false in your session.",
            sql_state="22003",
        )

    kept = [version for version in keep_versions if version <= table.version() and _exists(table, version)]

    def write(noted: Any) -> list[str]:
        return table.vacuum(
            retention_hours=hours,
            dry_run=dry_run,
            enforce_retention_duration=check_retention,
            full=not lite,
            commit_properties=noted,
            keep_versions=kept,
        )

    return commit(table, author, write, user_metadata=why_kept if kept else None) or []


def _configured_hours(table: DeltaTable) -> int:
    text = table.metadata().configuration.get("delta.deletedFileRetentionDuration")
    if text is None:
        return DEFAULT_RETENTION_HOURS
    number, unit = text.lower().removeprefix("interval").split()
    hours = {"week": 168.0, "day": 24.0, "hour": 1.0, "minute": 1 / 60, "second": 1 / 3600}
    return math.ceil(int(number) * hours.get(unit.removesuffix("s"), 0.0))


# -- restore ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What RESTORE did; sizes in bytes."""

    table_size: int
    files: int
    removed_files: int
    restored_files: int
    removed_size: int
    restored_size: int


def restore(storage: Storage, author: Author, as_of: AsOf, *, time_zone: Any = UTC) -> Restored:
    """Bring back an earlier version, schema and properties included, as a new commit; the newest is there already."""
    table = open_for_write(storage)
    version = version_at(table, as_of, time_zone=time_zone)
    before = file_sizes(table)
    if version < table.version():
        kept = keeps_log(table.metadata().configuration)
        commit(table, author, lambda noted: table.restore(version, commit_properties=noted))
        if kept:
            keep_log(storage)
    after = file_sizes(table)
    removed = {path: size for path, size in before.items() if path not in after}
    restored = {path: size for path, size in after.items() if path not in before}
    return Restored(
        table_size=sum(after.values()),
        files=len(after),
        removed_files=len(removed),
        restored_files=len(restored),
        removed_size=sum(removed.values()),
        restored_size=sum(restored.values()),
    )


def version_at(table: DeltaTable, as_of: AsOf, *, time_zone: Any = UTC) -> int:
    """The version number that `as_of` names.

    Raises: `AnalysisError` for versions that do not exist (any more), and moments before the first or after the last.
    """
    newest = table.version()
    if as_of.version is not None:
        if as_of.version > newest or not _exists(table, as_of.version):
            oldest = min(commit_times(table))
            raise AnalysisError(
                "DELTA_CANNOT_RESTORE_TABLE_VERSION",
                f"Cannot restore table to version {as_of.version}. Available versions: [{oldest}, {newest}].",
                sql_state="22003",
                parameters={"version": str(as_of.version), "endVersion": str(newest)},
            )
        return as_of.version
    moment = parse_timestamp(as_of.timestamp or "", time_zone=time_zone)
    times = commit_times(table)
    earlier = [version for version, ms in times.items() if ms / 1000 <= moment.timestamp()]
    if not earlier:
        raise _timestamp_error("EARLIER", as_of.timestamp or "", min(times.values()))
    if moment.timestamp() > max(times.values()) / 1000:
        raise _timestamp_error("GREATER", as_of.timestamp or "", max(times.values()))
    return max(earlier)


def _timestamp_error(kind: str, asked: str, available_ms: int) -> SparkError:
    shown = datetime.fromtimestamp(available_ms / 1000, UTC).isoformat(sep=" ", timespec="milliseconds")
    side = "before the earliest" if kind == "EARLIER" else "after the latest"
    return AnalysisError(
        f"DELTA_CANNOT_RESTORE_TIMESTAMP_{kind}",
        f"Cannot restore table to timestamp ({asked}) as it is {side} version available. Please use a timestamp "
        f"{'after' if kind == 'EARLIER' else 'before'} ({shown}).",
        sql_state="22003",
    )


def parse_timestamp(text: str, *, time_zone: Any = UTC) -> datetime:
    """An aware moment from `2026-01-31`, `2026-01-31 12:00:00.5`, with or without an offset."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise AnalysisError(
            "DELTA_TIMESTAMP_INVALID",
            f"The provided timestamp ({text}) cannot be converted to a valid timestamp.",
            sql_state="42816",
            parameters={"expr": text},
        ) from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=time_zone)


def _exists(table: DeltaTable, version: int) -> bool:
    try:
        with delta_errors(table.table_uri):
            DeltaTable(table.table_uri, version=version, storage_options=table._storage_options)
    except SparkError:
        return False
    return True


def truncate(storage: Storage, author: Author) -> None:
    """Remove all rows in one commit."""
    table = open_for_write(storage)
    commit(table, author, lambda noted: table.delete(commit_properties=noted), operation="TRUNCATE", parameters={})
