"""System tables: tables of the database that users read as Delta tables below `system`.

A room gives a `SystemTable`; here it becomes a table of the catalog and a Delta table below the storage root, which is
brought up to date when a plan or command is about to read it. The version of a transaction of its own in the Delta log
says how far the table has come, in the same commit as the rows: so it has each row once, whoever dies when, and several
processes may bring it on, of which a slower one starts again. Deleting the files is harmless: they are made anew.
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Protocol

from millpond.catalog import column_statistics
from millpond.catalog.column_statistics import Columns
from millpond.catalog.domain import ObjectName
from millpond.catalog.service import CatalogService
from millpond.engine.syntax.columns import columns_of, data_type
from millpond.engine.syntax.cursor import Cursor
from millpond.identity.domain import SYSTEM
from millpond.kernel.logs import get_logger

log = get_logger(__name__)
_FRESH_S = 1.0
"""A table that was brought up to date so short a time ago is not looked at again: one query makes several calls."""
_BATCH = 20_000
_TIDIED_EVERY = 50
"""Commits, each of which adds a small file."""


class SystemTable(Protocol):
    """What a room tells about one of its tables. Rows are only ever added, at the end, and removed at the front."""

    @property
    def name(self) -> str:
        """`system.schema.table`."""

    @property
    def comment(self) -> str:
        """What it tells."""

    @property
    def columns(self) -> Sequence[tuple[str, str, str]]:
        """Name, SQL type and meaning of each."""

    @property
    def day_column(self) -> str:
        """The column, of type date, by which it is partitioned."""

    @property
    def origin(self) -> str:
        """Names the database from which positions count."""

    def catch_up(self) -> None:
        """Called before rows are asked for: whatever waits elsewhere may be taken in."""

    def rows_after(self, position: int, limit: int) -> tuple[list[dict[str, Any]], int]:
        """At most so many rows behind a position (0 is before the first), and the position of the last of them."""

    def first_day(self) -> date | None:
        """All rows of earlier days are gone; None when none ever went."""


class SystemTables:
    """The system tables that this process can bring up to date."""

    def __init__(
        self, catalog: CatalogService, tables: Sequence[SystemTable], storage_options: Mapping[str, str]
    ) -> None:
        """Makes each known to the catalog."""
        self._copies = {}
        for table in tables:
            kept = catalog.keep_system_table(
                ObjectName(*table.name.split(".")), columns_of(table.columns, day=table.day_column), table.comment
            )
            self._copies[kept.storage_location] = _Copy(table, kept.storage_location, storage_options)

    async def refresh(self, places: Iterable[str]) -> None:
        """Bring those up to date that lie at one of these places."""
        for place in places:
            copy = self._copies.get(place)
            if copy is not None and not copy.is_fresh:
                await asyncio.to_thread(copy.refresh)

    def refresh_now(self, place: str) -> None:
        """The same for one place, for who may block."""
        copy = self._copies.get(place)
        if copy is not None and not copy.is_fresh:
            copy.refresh()


class _Copy:
    """One system table's Delta table."""

    def __init__(self, table: SystemTable, location: str, storage_options: Mapping[str, str]) -> None:
        self._table = table
        self._location = location
        self._options = dict(storage_options) if location.startswith("s3") else {}
        self._lock = threading.Lock()
        self._refreshed = -_FRESH_S
        self._trimmed_to: date | None = None

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() - self._refreshed < _FRESH_S

    def refresh(self) -> None:
        """Add what is new, remove what is gone."""
        from millpond.engine.delta.table import until_no_conflict

        with self._lock:
            if self.is_fresh:
                return
            self._table.catch_up()
            began = time.monotonic()
            while until_no_conflict(self._append):
                pass
            self._trim()
            self._refreshed = began

    def _append(self) -> bool:
        """Add one batch of rows; whether there was one. Raises CommitConflict when another process was faster."""
        from deltalake import CommitProperties, Transaction, write_deltalake

        from millpond.engine.delta.table import delta_errors

        opened = self._open()
        stream = f"{self._table.name}@{self._table.origin}"
        rows, last = self._table.rows_after(opened.transaction_version(stream) or 0, _BATCH)
        if not rows:
            return False
        # exactly on top of the version that told the position, else start again
        properties = CommitProperties(
            app_transactions=[Transaction(stream, last)],
            max_commit_retries=0,
            custom_metadata={"userId": SYSTEM.id, "userName": SYSTEM.name},
        )
        with delta_errors(self._table.name):
            write_deltalake(opened, self._arrow(rows), mode="append", commit_properties=properties)
        if opened.version() % _TIDIED_EVERY == _TIDIED_EVERY - 1:
            self._tidy(opened)
        return True

    def _arrow(self, rows: list[dict[str, Any]]) -> Any:
        import pyarrow as pa

        from millpond.engine.types import arrow_type

        fields = [pa.field(field["name"], arrow_type(field["type"])) for field in _fields(self._table)]
        return pa.Table.from_pylist(rows, schema=pa.schema(fields))

    def _open(self) -> Any:
        from deltalake import DeltaTable, Schema

        from millpond.engine.delta.table import delta_errors

        with delta_errors(self._table.name):
            if not DeltaTable.is_deltatable(self._location, storage_options=self._options):
                fields, partitions = _fields(self._table), [self._table.day_column]
                schema = Schema.from_json(json.dumps({"type": "struct", "fields": fields}))
                DeltaTable.create(
                    self._location,
                    schema,
                    mode="ignore",
                    partition_by=partitions,
                    configuration=column_statistics.properties(Columns(fields, partitions)),
                    storage_options=self._options,
                )
            return DeltaTable(self._location, storage_options=self._options)

    def _tidy(self, opened: Any) -> None:
        """Put small files together, and remove what nobody reads any more; the next time will do if it fails."""
        from deltalake.exceptions import DeltaError

        try:
            opened.update_incremental()
            opened.optimize.compact()
            opened.vacuum(dry_run=False)
        except DeltaError as error:
            log.info("a system table was not tidied", table=self._table.name, error=str(error))

    def _trim(self) -> None:
        first = self._table.first_day()
        if first is None or first == self._trimmed_to:
            return
        from millpond.engine.delta.table import delta_errors

        with delta_errors(self._table.name):
            opened = self._open()
            opened.delete(f"{self._table.day_column} < DATE '{first.isoformat()}'")
        self._trimmed_to = first


def _fields(table: SystemTable) -> list[dict[str, Any]]:
    return [
        {"name": name, "type": data_type(Cursor(text)), "nullable": True, "metadata": {"comment": comment}}
        for name, text, comment in table.columns
    ]
