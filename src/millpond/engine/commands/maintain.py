"""OPTIMIZE, VACUUM, RESTORE and TRUNCATE: rights, then the Delta operation, then Spark's result."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from millpond.engine.commands.answer import LONG, TEXT, nothing, table, texts
from millpond.engine.commands.context import CommandContext, delta_target, record
from millpond.engine.delta import maintain
from millpond.engine.syntax.model import Optimize, RestoreTable, TruncateTable, Vacuum
from millpond.identity.access import Act
from millpond.lineage.pins import Pin

_MOST_TOLD = 10
RETENTION_CHECK = "spark.databricks.delta.retentionDurationCheck.enabled"

_SIZES = pa.struct([("min", LONG), ("max", LONG), ("avg", pa.float64()), ("totalFiles", LONG), ("totalSize", LONG)])
_CUBE = pa.struct([("num", LONG), ("size", LONG)])
_ZORDER = pa.struct(
    [
        ("strategyName", TEXT),
        ("inputCubeFiles", _CUBE),
        ("inputOtherFiles", _CUBE),
        ("inputNumCubes", LONG),
        ("mergedFiles", _CUBE),
        ("numOutputCubes", LONG),
        ("mergedNumCubes", LONG),
    ]
)
# Source: Delta Lake, OptimizeMetrics in OptimizeStats.scala: names, order and types
METRICS = pa.struct(
    [
        ("numFilesAdded", LONG),
        ("numFilesRemoved", LONG),
        ("filesAdded", _SIZES),
        ("filesRemoved", _SIZES),
        ("partitionsOptimized", LONG),
        ("zOrderStats", _ZORDER),
        ("numBins", LONG),
        ("numBatches", LONG),
        ("totalConsideredFiles", LONG),
        ("totalFilesSkipped", LONG),
        ("preserveInsertionOrder", pa.bool_()),
        ("numFilesSkippedToReduceWriteAmplification", LONG),
        ("numBytesSkippedToReduceWriteAmplification", LONG),
        ("startTimeMs", LONG),
        ("endTimeMs", LONG),
        ("totalClusterParallelism", LONG),
        ("totalScheduledTasks", LONG),
        ("numTableColumns", LONG),
        ("numTableColumnsWithStats", LONG),
    ]
)


def optimize(command: Optimize, context: CommandContext) -> pa.Table:
    target = delta_target(context, command.table, Act.WRITE, operation="OPTIMIZE", tells_of_all_rows=True)
    started = time.time_ns() // 1_000_000
    found = maintain.optimize(target.storage, context.author, where=command.where, zorder_by=command.zorder_by)
    metrics = _metrics(found) | {"startTimeMs": started, "endTimeMs": time.time_ns() // 1_000_000}
    return table([("path", TEXT), ("metrics", METRICS)], [(target.storage.url, metrics)])


def _metrics(found: dict[str, Any]) -> dict[str, Any]:
    added, removed = _sizes(found["filesAdded"]), _sizes(found["filesRemoved"])
    metrics = {field.name: found.get(field.name, 0) for field in METRICS if pa.types.is_int64(field.type)}
    cube = {"num": removed["totalFiles"], "size": removed["totalSize"]}
    zorder = {
        "strategyName": "all",
        "inputCubeFiles": {"num": 0, "size": 0},
        "inputOtherFiles": cube,
        "inputNumCubes": 0,
        "mergedFiles": cube,
        "numOutputCubes": found.get("partitionsOptimized", 0),
        "mergedNumCubes": None,
    }
    return {
        **metrics,
        "filesAdded": added,
        "filesRemoved": removed,
        "zOrderStats": zorder if found["zOrdered"] else None,
        "numBins": found.get("numBatches", 0),
        "preserveInsertionOrder": bool(found.get("preserveInsertionOrder", False)),
        "numTableColumnsWithStats": found["numTableColumns"],
    }


def _sizes(found: dict[str, Any]) -> dict[str, Any]:
    """delta-rs gives 0 as the least and greatest size of no files, Spark NULL."""
    if not found["totalFiles"]:
        return {"min": None, "max": None, "avg": 0.0, "totalFiles": 0, "totalSize": 0}
    return {**found, "avg": float(found["avg"])}


def vacuum(command: Vacuum, context: CommandContext) -> pa.Table:
    """The path of the table, or for DRY RUN the files that would go."""
    target = delta_target(context, command.table, Act.WRITE, operation="VACUUM", tells_of_all_rows=True)
    pins = context.pins(target)
    files = maintain.vacuum(
        target.storage,
        context.author,
        retain_hours=command.retain_hours,
        dry_run=command.dry_run,
        lite=command.lite,
        check_retention=(context.session.setting(RETENTION_CHECK) or "true").lower() != "false",
        keep_versions=sorted({pin.table_version for pin in pins}),
        why_kept=_why_kept(pins),
    )
    if not command.dry_run:
        return texts(["path"], [(target.storage.url,)])
    return texts(["path"], [(f"{target.storage.url.rstrip('/')}/{file}",) for file in files])


def _why_kept(pins: Sequence[Pin]) -> str:
    """What the table's history says of versions that models were trained on."""
    told = [f"version {pin.table_version} for {pin.model} version {pin.model_version}" for pin in pins[:_MOST_TOLD]]
    more = f" and {len(pins) - _MOST_TOLD} more" if len(pins) > _MOST_TOLD else ""
    return f"kept: {', '.join(told)}{more}"


_RESTORED = (
    ("table_size_after_restore", "table_size"),
    ("num_of_files_after_restore", "files"),
    ("num_removed_files", "removed_files"),
    ("num_restored_files", "restored_files"),
    ("removed_files_size", "removed_size"),
    ("restored_files_size", "restored_size"),
)


def restore(command: RestoreTable, context: CommandContext) -> pa.Table:
    target = delta_target(context, command.table, Act.WRITE, operation="RESTORE", tells_of_all_rows=True)
    done = asdict(maintain.restore(target.storage, context.author, command.as_of, time_zone=context.time_zone))
    record(context, target)
    return table([(name, LONG) for name, _ in _RESTORED], [[done[key] for _, key in _RESTORED]])


def truncate(command: TruncateTable, context: CommandContext) -> pa.Table:
    target = delta_target(context, command.table, Act.WRITE, operation="TRUNCATE TABLE")
    maintain.truncate(target.storage, context.author)
    return nothing()
