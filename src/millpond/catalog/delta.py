"""The first commit of a Delta table that a client of the REST API creates, and the newest of any; the rest of Delta is
the engine room's."""

import json
from collections.abc import Sequence
from datetime import datetime

from millpond.catalog import column_statistics, locations
from millpond.catalog.column_statistics import Columns
from millpond.catalog.domain import Column
from millpond.catalog.storage import ConfiguredStorages
from millpond.kernel.errors import FailedPrecondition, InvalidArgument
from millpond.kernel.settings import S3Settings


def create_empty_table(location: str, columns: Sequence[Column], s3: S3Settings) -> None:
    """Write an empty table at a location that has none. Raises InvalidArgument for types that Delta lacks."""
    import deltalake  # here, because it is slow to import
    from deltalake.exceptions import DeltaError, SchemaMismatchError

    fields = [_field(column) for column in columns]
    indexes = sorted((c.partition_index, c.name) for c in columns if c.partition_index is not None)
    partitions = [name for _, name in indexes]
    try:
        deltalake.DeltaTable.create(
            location,
            schema=deltalake.Schema.from_json(json.dumps({"type": "struct", "fields": fields})),
            partition_by=partitions,
            configuration=column_statistics.properties(Columns(fields, partitions)),
            storage_options=storage_options(location, s3),
        )
    except (DeltaError, SchemaMismatchError, ValueError) as error:
        raise InvalidArgument(f"Delta cannot keep a table of these columns: {error}") from error


def newest_commit(location: str, s3: S3Settings) -> tuple[int, datetime]:
    """The newest version of a table and the time of its file, as in its history. Raises FailedPrecondition: none."""
    import deltalake
    from deltalake.exceptions import DeltaError

    try:
        version = deltalake.DeltaTable(location, storage_options=storage_options(location, s3)).version()
    except (DeltaError, OSError, ValueError) as error:
        raise FailedPrecondition(f"The table's log cannot be read: {error}") from error
    return version, _file_time(location, version, s3)


def _file_time(location: str, version: int, s3: S3Settings) -> datetime:
    """When a commit's file was written. Raises FailedPrecondition where the log does not have it any more."""
    file = ConfiguredStorages(s3).tree(location, shown="the table").status(("_delta_log", commit_file(version)))
    if file is None:
        raise FailedPrecondition(f"The table's log does not say when version {version} was committed.")
    return file.modified_at


def commit_file(version: int) -> str:
    """What a version's file is called in the log. Source: Delta protocol, "Delta Log Entries"."""
    return f"{version:020d}.json"


def has_version(location: str, version: int) -> bool:
    """Whether a table on this machine's disk has a version, told by one look at its log's directory."""
    return (locations.local_path(location) / "_delta_log" / commit_file(version)).exists()


def storage_options(location: str, s3: S3Settings) -> dict[str, str] | None:
    """What delta-rs needs to reach a location of ours; None for local files."""
    if not location.startswith("s3:"):
        return None
    given = {
        "AWS_REGION": s3.region,
        "AWS_ENDPOINT_URL": s3.endpoint_url,
        "AWS_ACCESS_KEY_ID": s3.access_key_id,
        "AWS_SECRET_ACCESS_KEY": s3.secret_access_key,
        "AWS_ALLOW_HTTP": "true" if s3.allow_http else None,
        "aws_conditional_put": "etag",
    }
    return {key: value for key, value in given.items() if value is not None}


def _field(column: Column) -> dict[str, object]:
    metadata = {} if column.comment is None else {"comment": column.comment}
    kind = json.loads(column.type_json)
    return {"name": column.name, "type": kind, "nullable": column.nullable, "metadata": metadata}
