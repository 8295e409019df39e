"""Captures: taken in from clients, and shown with what is known of the run besides."""

import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millpond.catalog import locations
from millpond.catalog.delta import storage_options
from millpond.catalog.domain import Table
from millpond.catalog.service import CatalogService
from millpond.identity.access import Act, allows
from millpond.identity.domain import Principal
from millpond.identity.middleware import acting_as
from millpond.kernel.clock import from_epoch_ms
from millpond.kernel.database import Database
from millpond.kernel.errors import InvalidArgument, NotFound, PermissionDenied
from millpond.kernel.settings import S3Settings
from millpond.lineage.pins import VersionRead, reads_of
from millpond.reproduction import store
from millpond.reproduction.domain import PARTS, Capture, blocking, check_capture_id, doubtful
from millpond.reproduction.wire import check_shape
from millpond.sdk import CAPTURE_TAG
from millpond.tracking.artifact_files import ArtifactFiles
from millpond.tracking.translation import millpond_errors

if TYPE_CHECKING:
    from millpond.tracking.embed import Stores

MOST_BYTES = 64 << 20
_MOST_JSON = 16 << 20
_FOLDER = "captures"
"""Below the artifact root; no experiment's number, so that MLflow's own doors do not lead there."""
_MOST_FILES_CHECKED = 10_000


@dataclass(frozen=True, kw_only=True)
class TableRead:
    """A table at the version that a run read, and whether it can be read so again."""

    name: str
    version: int
    problem: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What is known of how a run was made."""

    id: str
    capture: Capture | None
    tables: tuple[TableRead, ...]
    missing: tuple[str, ...]
    """Why there is no capture."""

    @property
    def lacks(self) -> tuple[str, ...]:
        """All that keeps the run from coming out the same, as far as the capture tells."""
        found = [*self.missing]
        if self.capture is not None:
            found += [*blocking(self.capture), *doubtful(self.capture)]
        return (*found, *(f"table {each.name}@{each.version}: {each.problem}" for each in self.tables if each.problem))


class Captures:
    """The captures of runs."""

    def __init__(
        self,
        database: Database,
        catalog: CatalogService,
        stores: Callable[[], "Stores"],
        files: Callable[[], ArtifactFiles],
        s3: S3Settings,
        catch_up: Callable[[], object],
    ) -> None:
        """`catch_up` lets lineage take in what the gateways have noted."""
        self._database = database
        self._catalog = catalog
        self._stores = stores
        self._files = files
        self._s3 = s3
        self._catch_up = catch_up

    # -- taking in ----------------------------------------------------------------------------------------------

    def keep(self, principal: Principal, capture_id: str, part: str, bundle: Path) -> None:
        """Keep a part of a capture: the first that comes counts. Raises InvalidArgument, PermissionDenied."""
        place = _place(check_capture_id(capture_id), part)
        check_shape(_read_told(bundle), part)
        with self._database.read() as connection:
            row = store.find_capture(connection, capture_id)
        _require_own(principal, row)
        if row is not None and part in row.parts:
            return
        writer = self._files().writer(place)
        try:
            with bundle.open("rb") as stream:
                while chunk := stream.read(1 << 20):
                    writer.write(chunk)
            writer.commit()
        finally:
            writer.abort()
        with self._database.write() as connection:
            _require_own(principal, store.find_capture(connection, capture_id))
            store.put_capture(connection, capture_id, principal.id, principal.name, part)

    # -- showing ------------------------------------------------------------------------------------------------

    def run(self, principal: Principal, run_id: str) -> Any:
        """MLflow's run. Raises NotFound."""
        with acting_as(principal), millpond_errors():
            return self._stores().tracking.get_run(run_id)

    def of_run(self, principal: Principal, run_id: str) -> Shown:
        """What is known of how a run was made. Raises NotFound without the run."""
        run = self.run(principal, run_id)
        name = run.data.tags.get(CAPTURE_TAG, "")
        try:
            row = self._row(run, name)
        except NotFound as error:
            return Shown(id=name, capture=None, tables=(), missing=(error.message,))
        start, end = (self._told(name, part) if part in row.parts else None for part in PARTS)
        if start is None:
            return Shown(id=name, capture=None, tables=(), missing=("Only the end of the capture has come.",))
        capture = Capture(id=name, start=start, end=end)
        return Shown(id=name, capture=capture, tables=tuple(self._tables(principal, run, capture)), missing=())

    @contextmanager
    def bundle(self, principal: Principal, run_id: str, part: str) -> Iterator[Path]:
        """A part as a file, while the block runs. Raises NotFound."""
        run = self.run(principal, run_id)
        row = self._row(run, run.data.tags.get(CAPTURE_TAG, ""))
        if part not in row.parts:
            raise NotFound(f"The capture of run '{run_id}' has no part '{part[:20]}'.")
        with self._local(row.id, part) as path:
            yield path

    def text(self, principal: Principal, run_id: str, name: str) -> str:
        """A text of the capture: `code.diff`, `requirements.lock` or a file of the code. Raises NotFound."""
        with self.bundle(principal, run_id, "start") as path, zipfile.ZipFile(path) as archive:
            if name not in archive.namelist() or archive.getinfo(name).file_size > _MOST_JSON:
                raise NotFound(f"The capture of run '{run_id}' has no text '{name[:80]}'.")
            return archive.read(name).decode(errors="replace")

    def _row(self, run: Any, name: str) -> Any:
        """The row of the capture that a run names; one of its owner's own, so that nobody shows another's."""
        if not name:
            raise NotFound(
                "The run names no capture: it was made without Millpond's plugin of the MLflow client, with "
                "MILLPOND_CAPTURE=off, or through a client that starts runs without contexts."
            )
        with self._database.read() as connection:
            row = store.find_capture(connection, name)
        if row is None or row.owner != run.info.user_id:
            raise NotFound("The capture that the run names has not come: the process was killed before it was sent.")
        return row

    def _told(self, capture_id: str, part: str) -> dict[str, Any]:
        with self._local(capture_id, part) as path:
            return _read_told(path)

    @contextmanager
    def _local(self, capture_id: str, part: str) -> Iterator[Path]:
        path, is_copy = self._files().fetch(_place(capture_id, part))
        try:
            yield path
        finally:
            if is_copy:
                path.unlink()
                path.parent.rmdir()

    # -- tables -------------------------------------------------------------------------------------------------

    def _tables(self, principal: Principal, run: Any, capture: Capture) -> list[TableRead]:
        self._catch_up()
        until = from_epoch_ms(run.info.end_time) if run.info.end_time else None
        through_gateway = reads_of(self._database, [capture.process], until)
        told = {(read.table_id, read.version) for read in through_gateway}
        declared = [
            read for read in reads_of(self._database, [run.info.run_id])
            if (read.table_id, read.version) not in told
        ]  # fmt: skip
        tables = self._catalog.find_tables_by_id(principal, [read.table_id for read in (*through_gateway, *declared)])
        return [
            *(self._read(principal, read, tables, _several(read, through_gateway)) for read in through_gateway),
            *(self._read(principal, read, tables, _BY_ITSELF) for read in declared),
        ]

    def _read(self, principal: Principal, read: VersionRead, tables: Mapping[str, Table], problem: str) -> TableRead:
        table = tables.get(read.table_id)
        if table is None or not allows(principal, Act.READ, table.securable):
            gone = "it was dropped, or you may not read it"
            return TableRead(name=read.name, version=read.version, problem=gone)
        newest, lost = self._state(table, read.version)
        if problem == _BY_ITSELF and newest == read.version:
            problem = ""
        note = f"now at version {newest}" if newest is not None and newest != read.version else ""
        return TableRead(name=str(table.name), version=read.version, problem=lost or problem, note=note)

    def _state(self, table: Table, version: int) -> tuple[int | None, str]:
        """The newest version, and why an earlier one cannot be read."""
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        location = table.storage_location
        options = storage_options(location, self._s3)
        try:
            newest = DeltaTable(location, storage_options=options, without_files=True).version()
            found = DeltaTable(location, version=version, storage_options=options)
        except (DeltaError, OSError):
            return None, f"version {version} is not in the table's log any more"
        if locations.is_local(location):
            root = locations.local_path(location)
            files = found.get_add_actions(flatten=True)["path"].to_pylist()[:_MOST_FILES_CHECKED]
            lost = sum(not os.path.exists(root / name) for name in files)
            if lost:
                return newest, f"VACUUM has removed {lost} of the files of version {version}"
        return newest, ""


_BY_ITSELF = (
    "the client read it by itself, not through Spark: it gets the version that the code names, the newest otherwise"
)


def _several(read: VersionRead, all_reads: Sequence[VersionRead]) -> str:
    versions = sorted({each.version for each in all_reads if each.table_id == read.table_id})
    if len(versions) == 1:
        return ""
    last = [each.version for each in all_reads if each.table_id == read.table_id][-1]
    return f"the process read versions {', '.join(map(str, versions))} of it; the reproduction reads version {last}"


def _place(capture_id: str, part: str) -> str:
    if part not in PARTS:
        raise InvalidArgument(f"A capture has no part '{part[:20]}'; it has {' and '.join(PARTS)}.")
    return f"{_FOLDER}/{capture_id}/{part}.zip"


def _require_own(principal: Principal, row: Any) -> None:
    if row is not None and row.owner_id != principal.id:
        raise PermissionDenied("A capture of this name is somebody else's.")


def _read_told(bundle: Path) -> dict[str, Any]:
    """`capture.json` of a bundle. Raises InvalidArgument for a file that is none: a client has made it."""
    try:
        with zipfile.ZipFile(bundle) as archive:
            if archive.getinfo("capture.json").file_size > _MOST_JSON:
                raise InvalidArgument("The capture's description is too large.")
            told: dict[str, Any] = json.loads(archive.read("capture.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError) as error:
        raise InvalidArgument("This is not a capture as Millpond's plugin sends it.") from error
    if not isinstance(told, dict) or told.get("format") != 1:
        raise InvalidArgument("The capture has another format than this server reads; update Millpond on the client.")
    return told
