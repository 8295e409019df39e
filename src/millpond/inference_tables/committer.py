"""The committer: whole segments become rows of Delta tables, once, and are deleted.

A commit holds, as a transaction of the Delta log, its writer with the log and the number of the last of its segments.
So who finds segments up to that number has been killed before it could delete them, and only deletes them. Each log is
its own: a table that cannot be written to keeps nobody else's rows waiting.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa
from deltalake import ColumnProperties, CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake

from millpond.catalog.delta import storage_options
from millpond.catalog.domain import Table
from millpond.catalog.service import CatalogService
from millpond.engine.delta.table import delta_errors
from millpond.identity.access import Act, require
from millpond.identity.domain import SYSTEM, Principal
from millpond.inference_tables import metrics, store
from millpond.inference_tables.domain import LABELS_SUFFIX, InferenceTable
from millpond.inference_tables.payload_log import PayloadLog, Segment
from millpond.inference_tables.rows import BODIES, LABELS_SCHEMA, PAYLOAD_SCHEMA, label_rows, payload_rows
from millpond.inference_tables.segments import Record, read_segment
from millpond.kernel.database import Database
from millpond.kernel.errors import FailedPrecondition
from millpond.kernel.logs import get_logger
from millpond.kernel.settings import S3Settings
from millpond.kernel.turns import Turns

log = get_logger(__name__)
_AT_ONCE = 4
_BATCH_BYTES = 16 << 20
"""Segments of one commit; one alone may be larger. It takes twenty times as much memory while it is written."""
_LONGEST_PAUSE_S = 60.0
_AS_THEY_ARE = ColumnProperties(dictionary_enabled=False, statistics_enabled="NONE")
"""Half of Parquet's work with bodies was to look for equal ones, and for the least and the greatest."""
_FOUND_BY = ColumnProperties(dictionary_enabled=True, statistics_enabled="PAGE")
_OTHERS = {name: _FOUND_BY for name in (*PAYLOAD_SCHEMA.names, *LABELS_SCHEMA.names) if name not in BODIES}
_WHEN_COMMITTED, _WHEN_COMPACTED = (
    WriterProperties(compression=codec, default_column_properties=_AS_THEY_ARE, column_properties=_OTHERS)
    for codec in ("LZ4_RAW", "ZSTD")
)
"""Later half as large; while requests are answered there is no time for it."""


@dataclass
class _Pause:
    """After failures, when to try again."""

    failures: int = 0
    until: float = 0.0

    def failed(self) -> None:
        self.failures += 1
        self.until = time.monotonic() + min(2.0**self.failures, _LONGEST_PAUSE_S)


class Committer:
    """One for each server. Each round may be cut off at any point and run again."""

    def __init__(
        self,
        database: Database,
        catalog: CatalogService,
        payload_log: PayloadLog,
        s3: S3Settings,
        *,
        principal_named: Callable[[str], Principal],
        compact_every: int,
    ) -> None:
        """`principal_named` gives somebody active by name, or raises NotFound."""
        self._database = database
        self._catalog = catalog
        self._log = payload_log
        self._s3 = s3
        self._principal_named = principal_named
        self._compact_every = compact_every
        self._pauses: dict[str, _Pause] = {}
        self._tables: dict[str, DeltaTable] = {}
        self._commits: dict[str, int] = {}
        """Of each log since its table was compacted."""
        self._lock = threading.Lock()

    def run_once(self) -> None:
        """All that waits now, of all logs."""
        with self._lock, ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="payloads") as threads:
            list(threads.map(self._empty, self._log.ids()))
        metrics.WAITING.set(sum(map(self._log.waiting_bytes, self._log.ids())))

    def compact(self) -> None:
        """Put small files together where there have been many commits."""
        for log_id, commits in list(self._commits.items()):
            if commits >= self._compact_every:
                self._commits[log_id] = 0
                self._compact(log_id)

    def _empty(self, log_id: str) -> None:
        pause = self._pauses.setdefault(log_id, _Pause())
        if time.monotonic() < pause.until:
            return
        with self._log.alone(log_id) as is_alone:
            if is_alone and (segments := self._log.seal(log_id)):
                self._try(log_id, segments, pause)

    def _try(self, log_id: str, segments: Sequence[Segment], pause: _Pause) -> None:
        try:
            self._commit_all(log_id, segments)
        except Exception as error:  # the boundary of a work item: what is wrong becomes the table's state
            pause.failed()
            self._tables.pop(log_id, None)
            self._tell(log_id, f"{type(error).__name__}: {error}"[:1000])
            log.warning("an inference table was not written", log_id=log_id, exc_info=error)
        else:
            pause.failures = 0
            self._tell(log_id, "")

    def _commit_all(self, log_id: str, segments: Sequence[Segment]) -> None:
        known = self._known(log_id)
        table = self._writable(known, is_label=log_id.endswith(LABELS_SUFFIX))
        for batch in _batches(segments):
            opened = self._opened(log_id, table)
            done = opened.transaction_version(_application(batch[0], log_id)) or 0
            fresh = [each for each in batch if each.number > done]
            records = [record for segment in fresh for record in _records(segment)]
            if records:
                self._commit(log_id, opened, known, fresh[-1], records)
            self._log.remove(log_id, batch)

    def _commit(
        self, log_id: str, opened: DeltaTable, known: InferenceTable, last: Segment, records: Sequence[Record]
    ) -> None:
        properties = CommitProperties(
            app_transactions=[Transaction(_application(last, log_id), last.number)],
            custom_metadata={"userId": SYSTEM.id, "userName": SYSTEM.name},
        )
        with delta_errors(known.name):
            if log_id.endswith(LABELS_SUFFIX):
                _merge(opened, label_rows(records), properties)
            else:
                rows = _padded(payload_rows(records, known.endpoint), opened)
                write_deltalake(
                    opened, rows, mode="append", writer_properties=_WHEN_COMMITTED, commit_properties=properties
                )
        metrics.ROWS.inc(len(records))
        self._commits[log_id] = self._commits.get(log_id, 0) + 1

    def _known(self, log_id: str) -> InferenceTable:
        with self._database.read() as connection:
            found = store.with_ids(connection, [log_id.removesuffix(LABELS_SUFFIX)])
        if not found:
            raise FailedPrecondition(f"The database knows no inference table {log_id}, of which rows wait here.")
        return found[0]

    def _writable(self, known: InferenceTable, *, is_label: bool) -> Table:
        """The table in the catalog, if whoever turned it on may still write there."""
        table_id = known.labels_id if is_label else known.payload_id
        table = self._catalog.find_tables_by_id(SYSTEM, [table_id]).get(table_id)
        if table is None:
            raise FailedPrecondition(f"Table '{known.name}' was dropped; bring it back with UNDROP TABLE.")
        if not is_label:
            require(self._principal_named(known.writer), Act.WRITE, table.securable)
        return table

    def _opened(self, log_id: str, table: Table) -> DeltaTable:
        """The table at its newest version, whose log is read from where it was left."""
        opened = self._tables.get(log_id)
        with delta_errors(str(table.name)):
            if opened is None:
                options = storage_options(table.storage_location, self._s3)
                opened = self._tables[log_id] = DeltaTable(table.storage_location, storage_options=options)
            else:
                opened.update_incremental()
        return opened

    def _tell(self, log_id: str, error: str) -> None:
        """Note how the table is doing, where that is new. Labels are beside it, and only in the server's log."""
        if log_id.endswith(LABELS_SUFFIX):
            return
        with self._database.read() as connection:
            known = store.with_ids(connection, [log_id])
        if known and known[0].error != error:
            with self._database.write() as connection:
                store.change(connection, known[0].id, error=error)

    def _compact(self, log_id: str) -> None:
        known = self._known(log_id)
        table = self._writable(known, is_label=log_id.endswith(LABELS_SUFFIX))
        options = storage_options(table.storage_location, self._s3)
        by = {"userId": SYSTEM.id, "userName": SYSTEM.name}
        with delta_errors(known.name):
            opened = DeltaTable(table.storage_location, storage_options=options)
            opened.optimize.compact(
                max_concurrent_tasks=1,
                writer_properties=_WHEN_COMPACTED,
                commit_properties=CommitProperties(custom_metadata=by),
            )


def _application(segment: Segment, log_id: str) -> str:
    """Who writes, as the Delta log knows it. A writer counts each log's segments by themselves, and two logs may come
    into one table: one that was dropped and is there again, or that two inference tables have had in turn.
    """
    return f"{segment.writer}:{log_id}"


def _batches(segments: Sequence[Segment]) -> Iterator[Sequence[Segment]]:
    """Segments that are committed together: of one writer, in order."""
    for _, of_writer in groupby(segments, key=lambda each: each.writer):
        batch: list[Segment] = []
        for segment in of_writer:
            if batch and sum(each.size_bytes for each in batch) + segment.size_bytes > _BATCH_BYTES:
                yield batch
                batch = []
            batch.append(segment)
        yield batch


def _records(segment: Segment) -> Iterator[Record]:
    """The records of a segment. What cannot be read is told and counted; a record that was cut off nobody waits for."""
    for each in Turns().of(read_segment(segment.path)):
        if isinstance(each, Record):
            yield each
        elif not each.cut_off:
            metrics.DAMAGED.inc(each.size_bytes)
            log.error("a segment is damaged", path=str(segment.path), at=each.position, size_bytes=each.size_bytes)


def _padded(rows: pa.Table, opened: DeltaTable) -> pa.Table:
    """The rows with nulls in the columns that users have added to the table."""
    for field in pa.schema(opened.schema().to_arrow()):
        if field.name not in rows.column_names:
            rows = rows.append_column(field, pa.nulls(len(rows), field.type))
    return rows


def _merge(opened: DeltaTable, rows: pa.Table, properties: CommitProperties) -> None:
    """Each label once: one that was there is replaced, unless it is newer."""
    merging: Any = opened.merge(
        rows,
        predicate="t.databricks_request_id = s.databricks_request_id AND t.row_index = s.row_index",
        source_alias="s",
        target_alias="t",
        commit_properties=properties,
    )
    newer = "s.timestamp_ms >= t.timestamp_ms"
    merging.when_matched_update_all(predicate=newer).when_not_matched_insert_all().execute()
