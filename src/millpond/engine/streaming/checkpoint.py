"""A query's checkpoint: who it is, what each of its batches reads, and which batches are done. Files as Spark has them.

    metadata     {"id": "..."}
    sources/S/0  where source S began, as it was when the query first ran
    offsets/N    what batch N reads of each source up to, written before it runs
    commits/N    written when batch N is in the sink

Each file appears at once and only if there is none of its name, so of two runs of a query one fails.
Source: Spark, `StreamMetadata`, `OffsetSeqLog` and `CommitLog`.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID, uuid4

from millpond.catalog import locations
from millpond.catalog.locations import VolumePath
from millpond.catalog.service import CatalogService
from millpond.catalog.storage import FileTree
from millpond.engine.errors import ExecutionError
from millpond.identity.domain import Principal
from millpond.kernel.clock import epoch_ms, utc_now
from millpond.kernel.errors import AlreadyExists, NotFound

_VERSION = "v1"
_METADATA, _SOURCES, _OFFSETS, _COMMITS = "metadata", "sources", "offsets", "commits"
_KEPT_BATCHES = 100
_MOST_BYTES = 1 << 20
_PAGE = 1000


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a query has come to. Offsets are texts, one for each source."""

    batch_id: int
    """Of the batch that runs next."""
    start: tuple[str, ...]
    end: tuple[str, ...] | None
    """Where the batch ends, if that was decided before the query last stopped."""


class Checkpoint:
    """The files of one checkpoint. Its methods block, and raise ExecutionError when the files make no sense."""

    def __init__(self, tree: FileTree, parts: tuple[str, ...], shown: str, location: str) -> None:
        """`parts` are the checkpoint's own directory in the tree, `shown` is what its user calls it."""
        self.location = location
        self._tree = tree
        self._parts = parts
        self.shown = shown

    def query_id(self) -> str:
        """The id of the query, which it gets when it first runs."""
        text = self._read(_METADATA)
        if text is None:
            made = str(uuid4())
            try:
                self._write((_METADATA,), json.dumps({"id": made}))
                return made
            except AlreadyExists:
                text = self._read(_METADATA) or ""
        try:
            return str(UUID(json.loads(text)["id"]))
        except (ValueError, KeyError, TypeError) as error:
            raise self._unreadable(_METADATA) from error

    def position(self, sources: Sequence[Callable[[], str]]) -> Position:
        """Where the query goes on; each of its sources says where it would begin.

        Raises ExecutionError when it had another number of sources.
        """
        last = max(self._numbers(_OFFSETS), default=None)
        if last is None:
            return Position(batch_id=0, start=self._first(sources), end=None)
        end = self._offsets(last, len(sources))
        if self._read(_COMMITS, str(last)) is not None:
            return Position(batch_id=last + 1, start=end, end=None)
        start = self._offsets(last - 1, len(sources)) if last else self._first(sources)
        return Position(batch_id=last, start=start, end=end)

    def _first(self, sources: Sequence[Callable[[], str]]) -> tuple[str, ...]:
        return tuple(self._begin(number, begin) for number, begin in enumerate(sources))

    def _begin(self, number: int, begin: Callable[[], str]) -> str:
        """Where a source began. What is decided once stays, or rows that come meanwhile would be passed over."""
        parts = (_SOURCES, str(number), "0")
        text = self._read(*parts)
        if text is None:
            text = f"{_VERSION}\n{begin()}"
            with suppress(AlreadyExists):
                self._write(parts, text)
            text = self._read(*parts) or ""
        version, _, offset = text.partition("\n")
        if version != _VERSION:
            raise self._unreadable("/".join(parts))
        return offset

    def plan(self, batch_id: int, end: Sequence[str]) -> None:
        """Remember what a batch reads up to."""
        known = {"batchWatermarkMs": 0, "batchTimestampMs": epoch_ms(utc_now()), "conf": {}}
        self._append(_OFFSETS, batch_id, [json.dumps(known), *end])

    def commit(self, batch_id: int) -> None:
        """Remember that a batch is in the sink, and forget batches of long ago."""
        self._append(_COMMITS, batch_id, [json.dumps({"nextBatchWatermarkMs": 0})])
        for kind in (_OFFSETS, _COMMITS):
            self._remove(kind, str(batch_id - _KEPT_BATCHES))

    def _offsets(self, batch_id: int, sources: int) -> tuple[str, ...]:
        lines = (self._read(_OFFSETS, str(batch_id)) or "").splitlines()
        if len(lines) < 3 or lines[0] != _VERSION:
            raise self._unreadable(f"{_OFFSETS}/{batch_id}")
        if len(lines) - 2 != sources:
            raise ExecutionError(
                "STREAMING_SOURCES_CHANGED",
                f"There are {len(lines) - 2} sources in the checkpoint offsets of {self.shown} and now there are "
                f"{sources} sources requested by the query. Cannot continue; use another checkpointLocation.",
                sql_state="55019",
            )
        return tuple(lines[2:])

    def _numbers(self, kind: str) -> Iterator[int]:
        token: str | None = None
        while True:
            try:
                found = self._tree.list_directory((*self._parts, kind), token=token, limit=_PAGE)
            except NotFound:
                return
            yield from (int(entry.name) for entry in found.entries if entry.name.isdecimal())
            token = found.next_token
            if token is None:
                return

    def _append(self, kind: str, batch_id: int, lines: Sequence[str]) -> None:
        try:
            self._write((kind, str(batch_id)), "\n".join([_VERSION, *lines]))
        except AlreadyExists as error:
            raise ExecutionError(
                "CONCURRENT_STREAM_LOG_UPDATE",
                f"Concurrent update to the log. Multiple streaming jobs detected for {batch_id}. Please make sure only "
                f"one streaming job runs on the checkpoint location {self.shown} at a time.",
                sql_state="40000",
            ) from error

    def _write(self, parts: tuple[str, ...], text: str) -> None:
        writer = self._tree.writer((*self._parts, *parts))
        try:
            writer.write(text.encode())
            writer.commit(overwrite=False)
        finally:
            writer.abort()

    def _read(self, *parts: str) -> str | None:
        try:
            pieces = self._tree.read((*self._parts, *parts), start=0, length=_MOST_BYTES)
            return b"".join(pieces).decode(errors="replace")
        except NotFound:
            return None

    def _remove(self, *parts: str) -> None:
        try:
            self._tree.remove_file((*self._parts, *parts))
        except NotFound:
            return

    def _unreadable(self, name: str) -> ExecutionError:
        return ExecutionError(
            "STREAMING_CHECKPOINT_UNREADABLE",
            f"{self.shown}/{name} is no file of a streaming query's checkpoint. Use another checkpointLocation.",
            sql_state="55019",
        )


def open_checkpoint(catalog: CatalogService, principal: Principal, path: str) -> Checkpoint:
    """The checkpoint at a path where the principal may write. Raises PermissionDenied, NotFound, InvalidArgument."""
    location = catalog.check_path(principal, path, write=True)
    volume = locations.find_volume_path(path)
    if volume is None:
        return Checkpoint(catalog.storages.tree(location, shown=path), (), path, location)
    root = catalog.volume_location(principal, volume, write=True)
    shown = str(VolumePath(volume.volume, ()))
    return Checkpoint(catalog.storages.tree(root, shown=shown), volume.parts, path, location)
