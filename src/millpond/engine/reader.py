"""What pages show of a table: its first rows, its history and its size, for a principal who may read it."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from millpond.catalog.delta import commit_file
from millpond.catalog.domain import ObjectName, Table
from millpond.catalog.locations import is_local, local_path
from millpond.catalog.service import CatalogService
from millpond.engine.client import GatewayClient
from millpond.engine.delta import describe
from millpond.engine.delta.table import Storage, open_table
from millpond.engine.errors import SparkError
from millpond.engine.pinning import newest_version
from millpond.identity.access import Act, allows, require
from millpond.identity.domain import Principal
from millpond.kernel.clock import from_epoch_ms
from millpond.kernel.errors import FailedPrecondition

_LOGS_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class Commit:
    """One entry of a table's history."""

    version: int
    timestamp_ms: int
    user: str
    operation: str
    parameters: Mapping[str, Any]
    metrics: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Detail:
    """What a table's log says about its size."""

    version: int
    size_bytes: int
    files: int
    partition_columns: tuple[str, ...]
    reader_version: int
    writer_version: int


@dataclass(frozen=True, kw_only=True)
class Transactions:
    """What a log has of applications that write once."""

    version: int
    """The table's newest."""
    found: Mapping[str, int]
    """The number of the last transaction of each application that has one."""


class TableReader:
    """Reads tables for pages. Every method blocks and raises NotFound, PermissionDenied or FailedPrecondition."""

    def __init__(
        self, catalog: CatalogService, gateway: GatewayClient, storage_options: Mapping[str, str] | None = None
    ) -> None:
        self._catalog = catalog
        self._gateway = gateway
        self._storage_options = dict(storage_options or {})

    def preview(self, principal: Principal, name: ObjectName, *, limit: int) -> pa.Table:
        """The first rows of a table or view, as the principal may see them."""
        return self._gateway.read_table(principal, name.quoted, limit=limit)

    def history(self, principal: Principal, name: ObjectName, *, limit: int) -> Sequence[Commit]:
        """A Delta table's commits, newest first."""
        storage = self._storage(principal, name)
        try:
            entries = describe.history(storage, limit)
        except SparkError as error:
            raise FailedPrecondition(str(error)) from error
        return tuple(
            Commit(
                version=entry["version"],
                timestamp_ms=entry["timestamp"],
                user=entry["userName"] or "",
                operation=entry["operation"] or "",
                parameters=entry["operationParameters"],
                metrics=entry["operationMetrics"],
            )
            for entry in entries
        )

    def detail(self, principal: Principal, name: ObjectName) -> Detail:
        """A Delta table's size and protocol."""
        storage = self._storage(principal, name)
        try:
            detail = describe.detail(storage)
            version = open_table(storage).version()
        except SparkError as error:
            raise FailedPrecondition(str(error)) from error
        return Detail(
            version=version,
            size_bytes=detail.size_bytes,
            files=detail.files,
            partition_columns=tuple(detail.partition_columns),
            reader_version=detail.reader_version,
            writer_version=detail.writer_version,
        )

    def transactions(self, principal: Principal, name: ObjectName, applications: Sequence[str]) -> Transactions:
        """A Delta table's newest version, and what it has of each application's transactions."""
        storage = self._storage(principal, name)
        try:
            table = open_table(storage)
        except SparkError as error:
            raise FailedPrecondition(str(error)) from error
        found = {each: table.transaction_version(each) for each in applications}
        return Transactions(
            version=table.version(), found={key: version for key, version in found.items() if version is not None}
        )

    def last_written(self, principal: Principal, tables: Sequence[Table]) -> Mapping[str, datetime]:
        """When Delta tables were last committed to, whoever did it, by their ids; without those that the principal
        may not read or whose logs cannot be read. Looks into each log, several at a time."""
        readable = [each for each in tables if allows(principal, Act.READ, each.securable)]
        with ThreadPoolExecutor(_LOGS_AT_ONCE) as threads:
            found = threads.map(lambda each: _last_commit(self._place(each)), readable)
            times = dict(zip((each.id for each in readable), found, strict=True))
        return {table_id: time for table_id, time in times.items() if time is not None}

    def _storage(self, principal: Principal, name: ObjectName) -> Storage:
        table: Table = self._catalog.get_table(principal, name)
        require(principal, Act.READ, table.securable)
        return self._place(table)

    def _place(self, table: Table) -> Storage:
        return Storage(url=table.storage_location, options=self._storage_options)


def _last_commit(storage: Storage) -> datetime | None:
    """When the newest commit was written: on a disk of ours its file tells, without the rest of the log."""
    version = newest_version(storage.url, storage.options)
    if version is None:
        return None
    try:
        if is_local(storage.url):
            commit = local_path(storage.url) / "_delta_log" / commit_file(version)
            return datetime.fromtimestamp(commit.stat().st_mtime, UTC)
        return from_epoch_ms(describe.history(storage, 1)[0]["timestamp"])
    except (OSError, SparkError):
        return None
