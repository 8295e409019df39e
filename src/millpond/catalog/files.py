"""Files by their path: those of volumes, and of whatever other rooms put under a prefix of their own."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from millpond.catalog import locations
from millpond.catalog.service import CatalogService
from millpond.catalog.storage import FileStatus, FileTree, Listing, Writer
from millpond.catalog.store import housekeeping
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import AlreadyExists, InvalidArgument, NotFound
from millpond.kernel.ids import new_id
from millpond.kernel.paging import page_size

UPLOAD_TTL = timedelta(days=1)
MAX_PARTS = 10_000


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a path is: the tree that holds it, and its parts there."""

    tree: FileTree
    parts: tuple[str, ...]


Resolver = Callable[[Principal, tuple[str, ...], bool], Place]
"""From a principal, the parts of a path below a prefix, and whether it is to write, to a place it may reach.

Raises NotFound or PermissionDenied for the rest."""


class Files:
    """What one can do with files. Each call resolves the path, and with it the right, anew."""

    def __init__(self, catalog: CatalogService, database: Database) -> None:
        self._catalog = catalog
        self._database = database
        self._resolvers: dict[tuple[str, ...], Resolver] = {}

    def register(self, prefix: str, resolver: Resolver) -> None:
        """Let another room answer for the paths below a prefix, such as `WorkspaceInternal/Mlflow`."""
        self._resolvers[tuple(prefix.strip("/").split("/"))] = resolver

    def status(self, principal: Principal, path: str) -> FileStatus:
        """What is at a path. Raises NotFound, PermissionDenied, InvalidArgument."""
        place = self._resolve(principal, path, write=False)
        found = place.tree.status(place.parts)
        if found is None:
            raise NotFound(f"'{shown(path)}' does not exist.")
        return found

    def read(self, principal: Principal, path: str, *, start: int, length: int) -> Iterator[bytes]:
        """Bytes of a file, in pieces. Raises NotFound, PermissionDenied, InvalidArgument."""
        place = self._resolve(principal, path, write=False)
        return place.tree.read(place.parts, start=start, length=length)

    def read_whole(self, principal: Principal, path: str, *, most_bytes: int) -> bytes:
        """A file that fits into memory. Raises as `read`, and InvalidArgument for a larger one."""
        size = self.status(principal, path).size_bytes or 0
        if size > most_bytes:
            raise InvalidArgument(f"{path} has more than {most_bytes >> 20} MiB.")
        return b"".join(self.read(principal, path, start=0, length=size))

    def writer(self, principal: Principal, path: str, *, overwrite: bool) -> Writer:
        """A new file on its way. Raises AlreadyExists at once where that is already known."""
        place = self._writable(principal, path, overwrite=overwrite)
        return place.tree.writer(place.parts)

    def check_writable(self, principal: Principal, path: str) -> None:
        """Raises PermissionDenied or NotFound for who may not write a file here."""
        self._resolve(principal, path, write=True)

    def list_directory(
        self, principal: Principal, path: str, *, page_token: str | None = None, limit: int | None = None
    ) -> Listing:
        """Names in a directory. Raises NotFound, InvalidArgument for a file."""
        place = self._resolve(principal, path, write=False)
        return place.tree.list_directory(place.parts, token=page_token, limit=page_size(limit, default=1000))

    def make_directory(self, principal: Principal, path: str) -> None:
        """Make a directory and those above it; harmless when it exists. Raises AlreadyExists for a file."""
        place = self._resolve(principal, path, write=True)
        try:
            place.tree.make_directory(place.parts)
        except InvalidArgument as error:
            raise AlreadyExists(f"A file is in the way of directory '{shown(path)}'.") from error

    def remove_directory(self, principal: Principal, path: str) -> None:
        """Remove an empty directory. Raises NotFound, FailedPrecondition when not empty."""
        place = self._resolve(principal, path, write=True)
        place.tree.remove_directory(place.parts)

    def remove_file(self, principal: Principal, path: str) -> None:
        """Remove a file. Raises NotFound, InvalidArgument for a directory."""
        place = self._resolve(principal, path, write=True)
        place.tree.remove_file(place.parts)

    def begin_upload(self, principal: Principal, path: str, *, overwrite: bool) -> str:
        """Start an upload in parts and return the token of its session. Raises AlreadyExists."""
        place = self._writable(principal, path, overwrite=overwrite)
        upload_id, token = new_id(), place.tree.begin_upload(place.parts)
        with self._database.write() as connection:
            values = {
                "id": upload_id, "path": shown(path), "overwrite": overwrite, "store_token": token,
                "created_by": principal.name, "expires_at": utc_now() + UPLOAD_TTL,
            }  # fmt: skip
            housekeeping.insert_upload(connection, values)
        return upload_id

    def part_writer(self, principal: Principal, path: str, *, session_token: str, number: int) -> Writer:
        """One part of an upload; a part sent again replaces the former."""
        if not 1 <= number <= MAX_PARTS:
            raise InvalidArgument(f"part_number is {number}; it must be 1 to {MAX_PARTS}.")
        store_token, _ = self._upload(principal, path, session_token)
        place = self._resolve(principal, path, write=True)
        return place.tree.part_writer(place.parts, store_token, number)

    def complete_upload(
        self, principal: Principal, path: str, *, session_token: str, etags: Sequence[tuple[int, str]]
    ) -> None:
        """Join the parts into a visible file. Raises NotFound, InvalidArgument, AlreadyExists."""
        if not etags or [number for number, _ in etags] != list(range(1, len(etags) + 1)):
            raise InvalidArgument("parts must be numbered 1, 2, 3, ... in order, and there must be one.")
        store_token, overwrite = self._upload(principal, path, session_token)
        place = self._resolve(principal, path, write=True)
        place.tree.complete_upload(place.parts, store_token, etags, overwrite=overwrite)
        self._forget(session_token)

    def abort_upload(self, principal: Principal, path: str, *, session_token: str) -> None:
        """Drop an upload and its parts; harmless when it has ended."""
        try:
            store_token, _ = self._upload(principal, path, session_token)
        except NotFound:
            return
        place = self._resolve(principal, path, write=True)
        place.tree.abort_upload(place.parts, store_token)
        self._forget(session_token)

    def _writable(self, principal: Principal, path: str, *, overwrite: bool) -> Place:
        place = self._resolve(principal, path, write=True)
        found = place.tree.status(place.parts)
        if found is not None and found.is_directory:
            raise InvalidArgument(f"'{shown(path)}' is a directory; name a file.")
        if found is not None and not overwrite:
            raise AlreadyExists(f"'{shown(path)}' already exists; pass overwrite=true to replace it.")
        return place

    def _resolve(self, principal: Principal, path: str, *, write: bool) -> Place:
        path = shown(path)
        volume = locations.find_volume_path(path)
        if volume is not None:
            location = self._catalog.volume_location(principal, volume, write=write)
            root = str(locations.VolumePath(volume.volume, ()))
            return Place(tree=self._catalog.storages.tree(location, shown=root), parts=volume.parts)
        parts = locations.check_parts([part for part in path.split("/") if part], path)
        for prefix, resolver in self._resolvers.items():
            if parts[: len(prefix)] == prefix:
                return resolver(principal, parts[len(prefix) :], write)
        raise NotFound(f"'{path}' does not exist; files are in volumes: /Volumes/catalog/schema/volume/...")

    def _upload(self, principal: Principal, path: str, session_token: str) -> tuple[str, bool]:
        with self._database.read() as connection:
            row = housekeeping.find_upload(connection, session_token)
        if row is None or row.path != shown(path) or row.created_by != principal.name or row.expires_at <= utc_now():
            raise NotFound(f"The upload session of '{shown(path)}' has ended or expired; start the upload again.")
        return row.store_token, row.overwrite

    def _forget(self, session_token: str) -> None:
        with self._database.write() as connection:
            housekeeping.delete_upload(connection, session_token)


def shown(path: str) -> str:
    """A path as messages and answers show it: from the root, without a scheme."""
    return "/" + path.removeprefix("dbfs:").lstrip("/")
