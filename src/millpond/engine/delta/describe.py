"""DESCRIBE HISTORY and DESCRIBE DETAIL of a table, as values."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deltalake import DeltaTable

from millpond.catalog.delta import commit_file
from millpond.engine.authorship import MARK, unsigned
from millpond.engine.delta.alter import CLUSTERING
from millpond.engine.delta.table import (
    OPERATION,
    PARAMETERS,
    Storage,
    delta_errors,
    file_sizes,
    open_table,
    partition_columns,
)


@dataclass(frozen=True, kw_only=True)
class Detail:
    """One row of DESCRIBE DETAIL; times in milliseconds since 1970."""

    id: str
    name: str | None
    description: str | None
    location: str
    created_ms: int | None
    modified_ms: int | None
    partition_columns: list[str]
    clustering_columns: list[str]
    files: int
    size_bytes: int
    properties: dict[str, str]
    reader_version: int
    writer_version: int
    features: list[str]


def history(storage: Storage, limit: int | None = None) -> list[dict[str, Any]]:
    """Commits, newest first, with Delta's names; maps hold text only."""
    table = open_table(storage)
    with delta_errors(storage.url):
        commits = table.history(limit) if limit != 0 else []
        is_few = len(commits) <= _NEWEST
        times = commit_times(table, [commit["version"] for commit in commits] if is_few else None)
    return [_entry(commit) | {"timestamp": times.get(commit["version"])} for commit in commits]


def commit_times(table: DeltaTable, versions: Sequence[int] | None = None) -> Mapping[int, int]:
    """When commits were made, in milliseconds since 1970: when their files were, which is what `timestampAsOf` goes by.

    Asks for each of `versions`; without them lists the log, for all that it has up to the table's version.
    Source: Delta protocol, "In-Commit Timestamps": without these, a commit's time is that of its file.
    """
    from deltalake.fs import DeltaStorageHandler  # takes 25 ms of a start
    from pyarrow.fs import FileSelector

    log = DeltaStorageHandler.from_table(table._table)
    if versions is None:
        found = log.get_file_info_selector(FileSelector("_delta_log"))
    else:
        found = log.get_file_info([f"_delta_log/{commit_file(version)}" for version in versions])
    written_ns = {file.base_name: file.mtime_ns for file in found if file.mtime_ns}
    numbers = {int(name[:20]) for name in written_ns if name[:20].isdecimal()}
    files = {number: commit_file(number) for number in numbers if number <= table.version()}
    return {number: written_ns[file] // 10**6 for number, file in files.items() if file in written_ns}


def has_commit(storage: Storage, commit: str) -> bool:
    """Whether one of the newest commits has this id of its own."""
    with delta_errors(storage.url):
        newest = open_table(storage).history(_NEWEST)
    return any(unsigned(each).get(MARK) == commit for each in newest)


_NEWEST = 50
"""How many of the newest commits are looked at one by one; the log is listed for more."""


def _entry(commit: dict[str, Any]) -> dict[str, Any]:
    raw = unsigned(commit)
    return {
        "version": raw["version"],
        "userId": raw.get("userId"),
        "userName": raw.get("userName"),
        "operation": raw.get(OPERATION) or raw.get("operation"),
        "operationParameters": _texts(raw.get(PARAMETERS, raw.get("operationParameters")) or {}),
        "readVersion": raw.get("readVersion"),
        "isolationLevel": raw.get("isolationLevel"),
        "isBlindAppend": raw.get("isBlindAppend"),
        "operationMetrics": _texts(_spark_metrics(raw)),
        "userMetadata": raw.get("userMetadata"),
        "engineInfo": raw.get("engineInfo"),
        MARK: raw.get(MARK),
    }


def _texts(values: dict[str, Any]) -> dict[str, str]:
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for key, value in values.items()
    }


_WRITE_METRICS = {"num_added_files": "numFiles", "num_added_rows": "numOutputRows"}


def _spark_metrics(raw: dict[str, Any]) -> dict[str, Any]:
    """delta-rs writes `num_added_rows` where Delta on Spark writes `numOutputRows`; other engines' names stay."""
    metrics: dict[str, Any] = raw.get("operationMetrics") or {}
    special = _WRITE_METRICS if raw.get("operation") == "WRITE" else {}
    return {special.get(key) or _camel(key): value for key, value in metrics.items()}


def _camel(key: str) -> str:
    first, *others = key.split("_")
    return first + "".join(word.capitalize() for word in others)


def detail(storage: Storage) -> Detail:
    table = open_table(storage)
    metadata = table.metadata()
    protocol = table.protocol()
    with delta_errors(storage.url):
        sizes = file_sizes(table).values()
        modified = commit_times(table, [table.version()])
    return Detail(
        id=str(metadata.id),
        name=metadata.name,
        description=metadata.description or None,
        location=storage.url,
        created_ms=metadata.created_time,
        modified_ms=modified.get(table.version()),
        partition_columns=partition_columns(table),
        clustering_columns=json.loads(metadata.configuration.get(CLUSTERING, "[]")),
        files=len(sizes),
        size_bytes=sum(sizes),
        properties={key: value for key, value in metadata.configuration.items() if key != CLUSTERING},
        reader_version=protocol.min_reader_version,
        writer_version=protocol.min_writer_version,
        features=_features(table),
    )


_BY_WRITER_VERSION = ((2, "appendOnly"), (2, "invariants"), (3, "checkConstraints"))
_BY_WRITER_VERSION_4 = ("changeDataFeed", "generatedColumns")


def _features(table: DeltaTable) -> list[str]:
    """Named features, or those that the old version numbers imply. Source: Delta protocol, "Valid Feature Names"."""
    protocol = table.protocol()
    named = {*(protocol.writer_features or []), *(protocol.reader_features or [])}
    if protocol.min_writer_version < 7:
        named |= {feature for version, feature in _BY_WRITER_VERSION if protocol.min_writer_version >= version}
        named |= set(_BY_WRITER_VERSION_4) if protocol.min_writer_version >= 4 else set()
    return sorted(named)
