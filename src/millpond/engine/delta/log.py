"""Metadata-only commits that delta-rs has no call for: written to `_delta_log` as the protocol says, put-if-absent.

Source: Delta protocol, "Delta Log Entries" and "Change Metadata". Only on local file systems, where a hard link is the
atomic put-if-absent (delta-rs does the same); an object store needs a conditional write that is not ours to make.
"""

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from deltalake import DeltaTable, Schema

from millpond import __version__
from millpond.engine.delta.schema import SchemaPlan
from millpond.engine.delta.table import MARK, Author, CommitConflict, Storage, delta_errors
from millpond.engine.errors import unsupported
from millpond.kernel.clock import epoch_ms, utc_now
from millpond.kernel.ids import new_id


def commit_metadata(table: DeltaTable, storage: Storage, author: Author, plan: SchemaPlan) -> None:
    """Commit `plan.state` as the version after the one that `table` shows.

    Raises: `CommitConflict` when that version exists by now; `UnsupportedError` off local storage.
    """
    log = _local_log(storage, plan.operation)
    metadata = _metadata(table, plan)
    _refuse_unreadable(metadata["schemaString"])
    actions = [{"commitInfo": _commit_info(table, author, plan)}, {"metaData": metadata}]
    protocol = _protocol(table, plan)
    if protocol is not None:
        actions.append({"protocol": protocol})
    text = "".join(json.dumps(action, ensure_ascii=False) + "\n" for action in actions)
    _put_if_absent(log, table.version() + 1, text)


def _local_log(storage: Storage, operation: str) -> Path:
    address = urlparse(storage.url)
    if address.scheme != "file":
        raise unsupported(f"{operation} on {address.scheme}:// storage; this change works on local storage only.")
    return Path(unquote(address.path)) / "_delta_log"


def _put_if_absent(log: Path, version: int, text: str) -> None:
    target = log / f"{version:020d}.json"
    # the dot hides it from every reader of the log; one left behind by a crash is harmless
    draft = log / f".{new_id()}.json.tmp"
    try:
        with draft.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, target)
    except FileExistsError as error:
        raise CommitConflict(
            "DELTA_CONCURRENT_WRITE", f"Version {version} was committed by another writer.", sql_state="2D521"
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    _sync_directory(log)


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refuse_unreadable(schema: str) -> None:
    """A schema that delta-rs cannot read would make the table unreadable for good: fail before writing it."""
    with delta_errors("the new schema"):
        Schema.from_json(schema)


def _protocol(table: DeltaTable, plan: SchemaPlan) -> dict[str, Any] | None:
    """The protocol action that the plan needs, None if the table's own will do."""
    current = table.protocol()
    if current.min_writer_version >= 7:
        features = set(current.writer_features or [])
        if plan.writer_version < 3 or "checkConstraints" in features:
            return None
        return {
            "minReaderVersion": current.min_reader_version,
            "minWriterVersion": current.min_writer_version,
            "readerFeatures": sorted(current.reader_features or []),
            "writerFeatures": sorted(features | {"checkConstraints"}),
        }
    if current.min_writer_version >= plan.writer_version:
        return None
    return {"minReaderVersion": current.min_reader_version, "minWriterVersion": plan.writer_version}


def _commit_info(table: DeltaTable, author: Author, plan: SchemaPlan) -> dict[str, Any]:
    return {
        "timestamp": epoch_ms(utc_now()),
        "userId": author.id,
        "userName": author.name,
        "operation": plan.operation,
        "operationParameters": dict(plan.parameters),
        "readVersion": table.version(),
        "isolationLevel": "Serializable",
        "isBlindAppend": True,
        "engineInfo": f"Millpond/{__version__}",
        MARK: new_id(),
    }


def _metadata(table: DeltaTable, plan: SchemaPlan) -> dict[str, Any]:
    current = table.metadata()
    return {
        "id": str(current.id),
        "name": current.name,
        "description": plan.state.description,
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": list(plan.state.fields)}, ensure_ascii=False),
        "partitionColumns": list(plan.state.partition_columns),
        "createdTime": current.created_time,
        "configuration": dict(plan.state.configuration),
    }
