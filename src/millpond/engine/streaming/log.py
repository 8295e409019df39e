"""A Delta table's log as a stream reads it: which files a version has, which ones a commit added, and what else it did.

Source: Delta protocol, "Actions".
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from millpond.catalog.delta import commit_file
from millpond.catalog.storage import FileTree
from millpond.engine.delta.table import KNOWN_FEATURES, Storage, open_table, refuse_unknown_features, unknown_features
from millpond.engine.errors import unsupported
from millpond.engine.pinning import newest_version
from millpond.kernel.errors import NotFound

_MOST_BYTES = 1 << 30
_LOG = "_delta_log"


@dataclass(frozen=True, kw_only=True)
class AddedFile:
    """A data file."""

    path: str
    """Below the table, as the file system has it."""
    partition_values: Mapping[str, str | None]
    size_bytes: int
    modified_ms: int
    rows: int | None
    """None where the log does not say."""


@dataclass(frozen=True, kw_only=True)
class Commit:
    """What one version did, as far as it changed data."""

    version: int
    added: tuple[AddedFile, ...]
    removed: str | None
    """One of the files that it removed."""
    fields: tuple[Mapping[str, Any], ...] | None
    """The table's columns, where it set them."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a table is, but for its files."""

    table_id: str
    schema: str
    """As JSON, in Delta's form."""
    partition_columns: tuple[str, ...]
    reader_version: int
    writer_version: int
    reader_features: tuple[str, ...] | None
    writer_features: tuple[str, ...] | None


class TableLog:
    """The log of one table. Its methods block."""

    def __init__(self, storage: Storage, tree: FileTree, shown: str) -> None:
        """`tree` has the table's files; `shown` is its name in messages."""
        self.storage = storage
        self.tree = tree
        self.shown = shown

    def newest(self) -> int:
        """The newest version. Raises AnalysisError when there is no table."""
        found = newest_version(self.storage.url, self.storage.options)
        return int(open_table(self.storage).version()) if found is None else found

    def shape(self) -> Shape:
        """The table as it is now. Raises UnsupportedError when it uses what we cannot read."""
        table = open_table(self.storage)
        refuse_unknown_features(table, self.shown)
        protocol, metadata = table.protocol(), table.metadata()
        return Shape(
            table_id=str(metadata.id),
            schema=table.schema().to_json(),
            partition_columns=tuple(metadata.partition_columns),
            reader_version=protocol.min_reader_version,
            writer_version=protocol.min_writer_version,
            reader_features=_names(protocol.reader_features),
            writer_features=_names(protocol.writer_features),
        )

    def snapshot(self, version: int) -> tuple[AddedFile, ...]:
        """All files of a version, in an order that stays."""
        import pyarrow as pa

        rows = pa.table(open_table(self.storage, version=version).get_add_actions()).to_pylist()
        files = [
            AddedFile(
                path=_below(row["path"], self.shown),
                partition_values={name: _text(value) for name, value in (row.get("partition") or {}).items()},
                size_bytes=row["size_bytes"],
                modified_ms=row["modification_time"],
                rows=row.get("num_records"),
            )
            for row in rows
        ]
        return tuple(sorted(files, key=lambda file: (file.modified_ms, file.path)))

    def has(self, version: int) -> bool:
        """Whether there is a commit of this version in the log, which costs one look."""
        return self.tree.status((_LOG, commit_file(version))) is not None

    def commit(self, version: int) -> Commit | None:
        """What a version did; None when it is not in the log."""
        try:
            data = b"".join(self.tree.read((_LOG, commit_file(version)), start=0, length=_MOST_BYTES))
        except NotFound:
            return None
        return self._commit(version, [json.loads(line) for line in data.splitlines() if line.strip()])

    def _commit(self, version: int, actions: list[dict[str, Any]]) -> Commit:
        added, removed, fields = [], None, None
        for action in actions:
            if "add" in action and action["add"].get("dataChange", True):
                added.append(_added(action["add"], self.shown))
            elif "remove" in action and action["remove"].get("dataChange", True):
                removed = str(action["remove"]["path"])
            elif "metaData" in action:
                fields = tuple(json.loads(action["metaData"]["schemaString"])["fields"])
            elif "protocol" in action:
                self._check(action["protocol"])
        return Commit(version=version, added=tuple(added), removed=removed, fields=fields)

    def _check(self, protocol: Mapping[str, Any]) -> None:
        unknown = set(protocol.get("readerFeatures") or ()) - KNOWN_FEATURES
        if unknown:
            raise unknown_features(sorted(unknown), self.shown)


def _added(action: Mapping[str, Any], shown: str) -> AddedFile:
    if action.get("deletionVector"):
        raise unknown_features(["deletionVectors"], shown)
    statistics = json.loads(action.get("stats") or "{}")
    return AddedFile(
        path=_below(action["path"], shown),
        partition_values=dict(action.get("partitionValues") or {}),
        size_bytes=int(action["size"]),
        modified_ms=int(action["modificationTime"]),
        rows=statistics.get("numRecords"),
    )


def _below(path: str, shown: str) -> str:
    """The path of a data file, which lies in the table's own directory."""
    plain = unquote(path)
    leads_out = any(part in {"", ".", ".."} for part in plain.split("/"))  # the first is empty where it is absolute
    if urlsplit(path).scheme or leads_out or "\0" in plain:
        raise unsupported(f"Streaming from {shown}, whose log names files outside of the table (a shallow clone).")
    return plain


def _text(value: Any) -> str | None:
    """A partition's value as the log writes it. Source: Delta protocol, "Partition Value Serialization"."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
    if isinstance(value, bytes):
        raise unsupported("Streaming from a table that is partitioned by a BINARY column.")
    return value.isoformat() if isinstance(value, date) else str(value)


def _names(features: list[str] | None) -> tuple[str, ...] | None:
    return None if features is None else tuple(str(feature) for feature in features)
