"""Metadata-only commits that delta-rs has no call for: written to `_delta_log` as the protocol says, put-if-absent.

Source: Delta protocol, "Delta Log Entries" and "Change Metadata". Put-if-absent is a hard link on a local file system,
and a PUT with `If-None-Match: *` on S3, as delta-rs does both.
"""

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from deltalake import DeltaTable, Schema

from millpond import __version__
from millpond.catalog.delta import commit_file
from millpond.engine.authorship import MARK, Author
from millpond.engine.delta.schema import SchemaPlan
from millpond.engine.delta.table import CommitConflict, Storage, delta_errors
from millpond.engine.errors import ExecutionError, unsupported
from millpond.kernel.clock import epoch_ms, utc_now
from millpond.kernel.ids import new_id


def commit_metadata(table: DeltaTable, storage: Storage, author: Author, plan: SchemaPlan) -> None:
    """Commit `plan.state` as the version after the one that `table` shows.

    Raises: `CommitConflict` when that version exists by now.
    """
    metadata = _metadata(table, plan)
    _refuse_unreadable(metadata["schemaString"])
    actions = [{"commitInfo": _commit_info(table, author, plan)}, {"metaData": metadata}]
    protocol = _protocol(table, plan)
    if protocol is not None:
        actions.append({"protocol": protocol})
    text = "".join(json.dumps(action, ensure_ascii=False) + "\n" for action in actions)
    put_if_absent(storage, table.version() + 1, text)


def put_if_absent(storage: Storage, version: int, text: str) -> None:
    """Write one log entry, all at once and only if there is none of that version. Raises: `CommitConflict`."""
    address = urlparse(storage.url)
    name = f"_delta_log/{commit_file(version)}"
    try:
        if address.scheme == "file":
            _link_local(Path(unquote(address.path)) / name, text)
        elif address.scheme == "s3":
            _put_s3(storage, address.netloc, f"{address.path.strip('/')}/{name}", text)
        else:
            raise unsupported(f"Changing a table's metadata on {address.scheme}:// storage.")
    except FileExistsError as error:
        raise CommitConflict(
            "DELTA_CONCURRENT_WRITE", f"Version {version} was committed by another writer.", sql_state="2D521"
        ) from error


def _link_local(target: Path, text: str) -> None:
    log = target.parent
    # the dot hides it from every reader of the log; one left behind by a crash is harmless
    draft = log / f".{new_id()}.json.tmp"
    try:
        with draft.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, target)
    finally:
        draft.unlink(missing_ok=True)
    _sync_directory(log)


def _put_s3(storage: Storage, bucket: str, key: str, text: str) -> None:
    import boto3  # an extra, and slow to import: only who keeps tables on S3 has it
    from botocore.exceptions import ClientError

    options = storage.options
    client = boto3.client(
        "s3",
        aws_access_key_id=options.get("AWS_ACCESS_KEY_ID"),
        aws_secret_access_key=options.get("AWS_SECRET_ACCESS_KEY"),
        aws_session_token=options.get("AWS_SESSION_TOKEN"),
        endpoint_url=options.get("AWS_ENDPOINT_URL"),
        region_name=options.get("AWS_REGION"),
    )
    try:
        client.put_object(Bucket=bucket, Key=key, Body=text.encode(), IfNoneMatch="*")
    except ClientError as error:
        # 412: there is one; 409: another conditional write of the key is under way
        if error.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412):
            raise FileExistsError(key) from error
        raise ExecutionError("DELTA_IO_ERROR", f"s3://{bucket}/{key}: {error}.", sql_state="58030") from error
    finally:
        client.close()


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
