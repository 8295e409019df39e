"""The files that were added to a table, as a Delta table of their own: what the engine reads for one batch.

Its log names links to the files, or copies where they lie elsewhere. It has no statistics of columns, so that nothing
is concluded from them, and lies where the engine that may read it can.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from millpond.catalog import locations
from millpond.catalog.delta import commit_file
from millpond.catalog.domain import Table
from millpond.catalog.storage.local import LocalTree
from millpond.engine.errors import ExecutionError
from millpond.engine.spools import Spools
from millpond.engine.streaming.log import AddedFile, Shape, TableLog
from millpond.engine.streaming.source import Source, Taken
from millpond.identity.domain import Principal
from millpond.kernel.errors import NotFound
from millpond.kernel.ids import new_id


class AddedRows:
    """The rows that a batch reads of one source. Its methods block."""

    def __init__(self, source: Source, taken: Taken, spools: Spools, principal: Principal, run_id: str) -> None:
        self._source = source
        self._files = taken.files
        self._homes = {kind: spools.stream_home(principal, run_id, guarded=kind) for kind in (False, True)}
        self._made: dict[bool, str] = {}

    @property
    def table(self) -> Table:
        """Whose rows they are."""
        return self._source.table

    def home(self, *, guarded: bool) -> str:
        """Where the query's batches lie."""
        return self._homes[guarded]

    def location(self, *, guarded: bool) -> str:
        """Where the rows are: for the user's engine, or for one that applies what guards the table first."""
        if guarded not in self._made:
            location = locations.join(self._homes[guarded], new_id())
            lay_out(locations.local_path(location), self._files, self._source.shape, self._source.log)
            self._made[guarded] = location
        return self._made[guarded]

    def count(self) -> int:
        """How many rows the files have, of which filters and masks may hide some. To be asked before `remove`."""
        return sum(self._rows_of(number, file) for number, file in enumerate(self._files))

    def _rows_of(self, number: int, file: AddedFile) -> int:
        """What the log says, or else the file itself, if it was read."""
        if file.rows is not None or not self._made:
            return file.rows or 0
        return rows_in(locations.local_path(next(iter(self._made.values()))), number)

    def remove(self) -> None:
        """The batch is over."""
        for location in self._made.values():
            shutil.rmtree(locations.local_path(location), ignore_errors=True)


def rows_in(directory: Path, number: int) -> int:
    """How many rows a file has that was laid out. Raises InvalidArgument for what is not a file any more."""
    from pyarrow import parquet

    with LocalTree(directory, shown="batch").open((_link_name(number),)) as file:
        return int(parquet.read_metadata(file).num_rows)


def remove_home(spools: Spools, principal: Principal, run_id: str) -> None:
    """Leave nothing of a run."""
    for guarded in (False, True):
        place = spools.stream_home(principal, run_id, guarded=guarded)
        shutil.rmtree(locations.local_path(place), ignore_errors=True)


def lay_out(directory: Path, files: tuple[AddedFile, ...], shape: Shape, log: TableLog) -> None:
    """Make a Delta table of some files of another. Raises ExecutionError for a file that is not there any more."""
    (directory / "_delta_log").mkdir(parents=True, mode=0o700)
    actions: list[dict[str, Any]] = [{"protocol": _protocol(shape)}, {"metaData": _metadata(shape)}]
    for number, file in enumerate(files):
        name = _link_name(number)
        _fetch(log, file, directory / name)
        actions.append({"add": _add(file, name)})
    text = "".join(json.dumps(action) + "\n" for action in actions)
    (directory / "_delta_log" / commit_file(0)).write_text(text, encoding="utf-8")


def _link_name(number: int) -> str:
    return f"{number:06d}.parquet"


def _protocol(shape: Shape) -> dict[str, Any]:
    protocol: dict[str, Any] = {"minReaderVersion": shape.reader_version, "minWriterVersion": shape.writer_version}
    if shape.reader_features is not None:
        protocol["readerFeatures"] = list(shape.reader_features)
    if shape.writer_features is not None:
        protocol["writerFeatures"] = list(shape.writer_features)
    return protocol


def _metadata(shape: Shape) -> dict[str, Any]:
    return {
        "id": new_id(),
        "format": {"provider": "parquet", "options": {}},
        "schemaString": shape.schema,
        "partitionColumns": list(shape.partition_columns),
        "configuration": {},
    }


def _add(file: AddedFile, name: str) -> dict[str, Any]:
    return {
        "path": name,
        "partitionValues": dict(file.partition_values),
        "size": file.size_bytes,
        "modificationTime": file.modified_ms,
        "dataChange": True,
    }


def _fetch(log: TableLog, file: AddedFile, target: Path) -> None:
    try:
        log.tree.save(tuple(file.path.split("/")), target)
    except NotFound as error:
        raise ExecutionError(
            "DELTA_FILE_NOT_FOUND",
            f"{log.shown} does not have the data file {file.path} any more, which is to be read: VACUUM removed "
            "it. Begin anew: a stream at another checkpointLocation, scoring into another table.",
            sql_state="42K03",
        ) from error
