"""Results on disk: one directory for each statement, one Arrow stream for each chunk; bounded, and gone after a time.

`<root>/<statement id>/<n>.arrow`. The database says which results there are; whatever else lies there is removed when
the server starts.
"""

import shutil
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from millpond.kernel.errors import InvalidArgument, NotFound, ResourceExhausted
from millpond.sql.domain import MAX_INLINE_BYTES, Chunk, Disposition, Manifest, Statement
from millpond.sql.formats import column_of

CHUNK_BYTES = 8 << 20
_SHARE = 4
"""One user's results may take this part of the whole room."""


@dataclass
class _Kept:
    principal_id: str
    size_bytes: int
    ended_at: datetime | None = None
    """None while it is being written."""


@dataclass
class Room:
    """Who takes how much of the disk. Asking for more closes the asker's own oldest results first."""

    limit_bytes: int
    _kept: dict[str, _Kept] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, statement_id: str, principal_id: str, size_bytes: int) -> list[str]:
        """Take room for a chunk; returns statements whose results must go for it. Raises ResourceExhausted."""
        with self._lock:
            entry = self._kept.setdefault(statement_id, _Kept(principal_id, 0))
            share = self.limit_bytes // _SHARE
            closed = []
            while self._used(principal_id) + size_bytes > share or self._used() + size_bytes > self.limit_bytes:
                oldest = self._oldest(principal_id)
                if oldest is None:
                    raise ResourceExhausted(
                        f"There is no room for this result: a user's results may take {share >> 20} MiB "
                        f"(MILLPOND_SQL__RESULTS_LIMIT_BYTES). Select less, or write the result to a table."
                    )
                del self._kept[oldest]
                closed.append(oldest)
            entry.size_bytes += size_bytes
            return closed

    def keep(self, statement: Statement) -> None:
        """Note that a result is complete."""
        with self._lock:
            size = statement.manifest.size_bytes if statement.manifest else 0
            self._kept[statement.id] = _Kept(statement.principal_id, size, statement.ended_at)

    def leave(self, statement_id: str) -> None:
        """Give back what a result took."""
        with self._lock:
            self._kept.pop(statement_id, None)

    def older_than(self, moment: datetime) -> list[str]:
        """Complete results from before a time."""
        with self._lock:
            return [key for key, kept in self._kept.items() if kept.ended_at is not None and kept.ended_at < moment]

    def _used(self, principal_id: str | None = None) -> int:
        return sum(
            kept.size_bytes for kept in self._kept.values() if principal_id is None or kept.principal_id == principal_id
        )

    def _oldest(self, principal_id: str) -> str | None:
        complete = [
            (kept.ended_at, key)
            for key, kept in self._kept.items()
            if kept.principal_id == principal_id and kept.ended_at is not None and kept.size_bytes
        ]
        return min(complete)[1] if complete else None


class ResultStore:
    """Where results are. Thread-safe."""

    def __init__(self, root: Path, room: Room) -> None:
        self.root = root
        self.room = room

    def open(self, kept: Iterable[Statement]) -> None:
        """Begin with the results that the database knows; remove all else."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        known = {statement.id: statement for statement in kept}
        for path in self.root.iterdir():
            if path.name not in known:
                shutil.rmtree(path, ignore_errors=True)
        for statement in known.values():
            self.room.keep(statement)

    def path(self, statement_id: str, index: int) -> Path:
        """The file of a chunk. Raises NotFound."""
        path = self.root / statement_id / f"{index}.arrow"
        if not path.is_file():
            raise NotFound(f"Chunk {index} of the result of statement {statement_id} is gone; run it again.")
        return path

    def read(self, statement_id: str, index: int) -> pa.Table:
        """A chunk. Raises NotFound."""
        with pa.memory_map(str(self.path(statement_id, index))) as source, pa.ipc.open_stream(source) as reader:
            return reader.read_all()

    def remove(self, statement_id: str) -> None:
        """Remove a result; harmless when it is gone."""
        shutil.rmtree(self.root / statement_id, ignore_errors=True)
        self.room.leave(statement_id)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Where a result is cut, and where it is too much."""

    rows: int | None = None
    size_bytes: int | None = None
    inline: bool = False


class ResultWriter:
    """Writes one result, chunk by chunk. `evicted` is told which others had to go."""

    def __init__(self, store: ResultStore, statement: Statement, limits: Limits) -> None:
        self._store = store
        self._statement = statement
        self._limits = limits
        self._directory = store.root / statement.id
        self._chunks: list[Chunk] = []
        self._pending: list[pa.RecordBatch] = []
        self._pending_bytes = 0
        self._rows = 0
        self._bytes = 0
        self.evicted: list[str] = []
        self.truncated = False

    def add(self, batch: pa.RecordBatch) -> bool:
        """Take rows; False when no more are wanted. Raises InvalidArgument, ResourceExhausted."""
        if not batch.num_columns:  # the answer of a command that has none
            return True
        batch = self._cut(batch)
        self._pending.append(batch)
        self._pending_bytes += batch.nbytes
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._limits.inline and self._bytes > MAX_INLINE_BYTES:
            raise InvalidArgument(
                f"Inline byte limit exceeded. Statements executed with disposition=INLINE can have a result size of at "
                f"most {MAX_INLINE_BYTES} bytes. Please execute the statement with disposition=EXTERNAL_LINKS if you "
                "want to download the full result."
            )
        if self._pending_bytes >= CHUNK_BYTES:
            self._flush()
        return not self.truncated

    def finish(self, schema: pa.Schema | None) -> Manifest:
        """Write what is left; what the result consists of. A result with columns has a chunk even without rows."""
        schema = schema if schema is not None else pa.schema([])
        if not self._chunks and not self._pending and len(schema):
            self._pending.append(pa.RecordBatch.from_pylist([], schema=schema))
        self._flush()
        return Manifest(
            columns=tuple(column_of(field) for field in schema), chunks=tuple(self._chunks), truncated=self.truncated
        )

    def _cut(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        room = batch.num_rows
        if self._limits.rows is not None:
            room = min(room, self._limits.rows - self._rows)
        if self._limits.size_bytes is not None and batch.nbytes > self._limits.size_bytes - self._bytes:
            room = min(room, (self._limits.size_bytes - self._bytes) * batch.num_rows // batch.nbytes)
        if room < batch.num_rows:
            self.truncated = True
            return batch.slice(0, max(room, 0))
        return batch

    def _flush(self) -> None:
        """Write the rows that wait, in chunks of about CHUNK_BYTES."""
        if not self._pending:
            return
        table = pa.Table.from_batches(self._pending)
        self._pending, self._pending_bytes = [], 0
        step = max(1, table.num_rows * CHUNK_BYTES // max(table.nbytes, 1)) if table.nbytes > 2 * CHUNK_BYTES else None
        for start in range(0, max(table.num_rows, 1), step or max(table.num_rows, 1)):
            self._write(table.slice(start, step))

    def _write(self, table: pa.Table) -> None:
        self.evicted += self._store.room.take(self._statement.id, self._statement.principal_id, table.nbytes)
        self._directory.mkdir(mode=0o700, exist_ok=True)
        path = self._directory / f"{len(self._chunks)}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
            if not table.num_rows:  # without a batch some readers miss the columns
                writer.write_batch(pa.RecordBatch.from_pylist([], schema=table.schema))
        self._chunks.append(Chunk(rows=table.num_rows, size_bytes=path.stat().st_size))


def limits_of(row_limit: int | None, byte_limit: int | None, disposition: Disposition) -> Limits:
    """The limits of a request."""
    return Limits(rows=row_limit, size_bytes=byte_limit, inline=disposition is Disposition.INLINE)


def chunk_info(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Each chunk with its index and the number of its first row, as the API describes it."""
    offset = 0
    for index, chunk in enumerate(manifest.chunks):
        yield {"chunk_index": index, "row_offset": offset, "row_count": chunk.rows, "byte_count": chunk.size_bytes}
        offset += chunk.rows
