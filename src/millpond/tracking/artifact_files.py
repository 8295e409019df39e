"""Where artifacts lie: a directory, or an object store. Nothing here holds a whole file in memory."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

from millpond.catalog.storage.port import HOUSEKEEPING
from millpond.kernel.errors import InvalidArgument, NotFound, StorageFull
from millpond.tracking.domain import check_relative_path


class ArtifactFiles(Protocol):
    """Files by relative path below one root."""

    def writer(self, path: str) -> "ArtifactWriter":
        """Begin to write a file; it appears when `commit` is called."""

    def fetch(self, path: str) -> tuple[Path, bool]:
        """A local file with the content, and whether it is a copy that the caller deletes. Raises NotFound."""

    def delete(self, path: str) -> None:
        """Delete a file or a directory with all below it. Raises NotFound."""

    def list(self, path: str) -> list[tuple[str, bool, int | None]]:
        """Base name, whether a directory, and size in bytes, of what lies directly in a directory."""


class ArtifactWriter(Protocol):
    """A file being written. `write` and `commit` block, so call them in a thread."""

    def write(self, data: bytes) -> None:
        """Append."""

    def commit(self) -> None:
        """Make the file visible, on disk."""

    def abort(self) -> None:
        """Leave no trace; harmless after `commit`."""


@contextmanager
def disk_errors() -> Iterator[None]:
    """A full disk is an error that says so."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            message = "The disk that holds the artifacts is full; free space or ask the operator."
            raise StorageFull(message) from error
        raise


class LocalFiles:
    """Artifacts below a directory of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def place(self, path: str) -> Path:
        """The file of a relative path. Raises InvalidArgument for links: clients on this machine may make some."""
        place = self._root / check_relative_path(path)
        if place.parent.resolve() != place.parent or place.is_symlink():
            raise InvalidArgument(f"Artifact path '{path[:200]}' goes through a symbolic link, which is not followed.")
        return place

    def writer(self, path: str) -> "LocalWriter":
        """Begin a file beside its place."""
        place = self.place(path)
        with disk_errors():
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError) as error:
                raise InvalidArgument(f"Artifact path '{path[:200]}' goes through a file.") from error
            if place.is_dir():
                raise InvalidArgument(f"Artifact '{path[:200]}' is a directory.")
            return LocalWriter(place)

    def fetch(self, path: str) -> tuple[Path, bool]:
        """The file itself."""
        place = self.place(path)
        if place.is_dir():
            raise InvalidArgument(f"Artifact '{path[:200]}' is a directory, not a file.")
        if not place.is_file():
            raise NotFound(f"Artifact '{path[:200]}' does not exist.")
        return place, False

    def delete(self, path: str) -> None:
        """Delete a file or a tree."""
        place = self.place(path)
        if place.is_dir():
            shutil.rmtree(place)
        elif place.is_file():
            place.unlink()
        else:
            raise NotFound(f"Artifact '{path[:200]}' does not exist.")

    def list(self, path: str) -> list[tuple[str, bool, int | None]]:
        """What lies in a directory; a missing one is empty, as MLflow has it."""
        place = self.place(path)
        if not place.is_dir():
            return []
        entries = [entry for entry in os.scandir(place) if not entry.name.startswith(_UNFINISHED)]
        return [
            (entry.name, entry.is_dir(), None if entry.is_dir() else entry.stat().st_size)
            for entry in sorted(entries, key=lambda entry: entry.name)
        ]


_PARTIAL = ".partial-"
_UNFINISHED = (_PARTIAL, HOUSEKEEPING)
"""What uploads on their way are called: ours, and those of the catalog's Files API."""


class LocalWriter:
    """A file written beside its place and moved there when complete."""

    def __init__(self, place: Path) -> None:
        self._place = place
        descriptor, name = tempfile.mkstemp(prefix=_PARTIAL, dir=place.parent)
        self._partial = Path(name)
        self._file: IO[bytes] = os.fdopen(descriptor, "wb")

    def write(self, data: bytes) -> None:
        """Append."""
        with disk_errors():
            self._file.write(data)

    def commit(self) -> None:
        """Flush to disk and take the place."""
        with disk_errors():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._partial.chmod(0o644)
            self._partial.replace(self._place)

    def abort(self) -> None:
        """Delete what was written."""
        self._file.close()
        self._partial.unlink(missing_ok=True)


class RepositoryFiles:
    """Artifacts in an object store, through MLflow's own repository class; files pass through a local disk."""

    def __init__(self, repository: Any) -> None:
        self._repository = repository

    def writer(self, path: str) -> "RepositoryWriter":
        """Begin a file on the local disk, sent when complete."""
        return RepositoryWriter(self._repository, check_relative_path(path))

    def fetch(self, path: str) -> tuple[Path, bool]:
        """A local copy."""
        directory = Path(tempfile.mkdtemp(prefix="millpond-artifact-"))
        target = directory / "content"
        try:
            with disk_errors():
                self._repository._download_file(check_relative_path(path), str(target))
        except Exception as error:  # boto3's errors have no common base that is ours to import
            shutil.rmtree(directory, ignore_errors=True)
            if "404" in str(error) or "NoSuchKey" in str(error):
                raise NotFound(f"Artifact '{path[:200]}' does not exist.") from error
            raise
        return target, True

    def delete(self, path: str) -> None:
        """Delete what starts with the path."""
        self._repository.delete_artifacts(check_relative_path(path))

    def list(self, path: str) -> list[tuple[str, bool, int | None]]:
        """What lies below a prefix."""
        infos = self._repository.list_artifacts(check_relative_path(path))
        return [(info.path.rstrip("/").rsplit("/", 1)[-1], info.is_dir, info.file_size) for info in infos]


class RepositoryWriter:
    """A file collected on the local disk and sent to the object store when complete."""

    def __init__(self, repository: Any, path: str) -> None:
        self._repository = repository
        self._directory, _, name = path.rpartition("/")
        self._local = Path(tempfile.mkdtemp(prefix="millpond-artifact-"))
        self._path = self._local / name
        self._file = self._path.open("wb")

    def write(self, data: bytes) -> None:
        """Append."""
        with disk_errors():
            self._file.write(data)

    def commit(self) -> None:
        """Send the file."""
        self._file.close()
        self._repository.log_artifact(str(self._path), self._directory or None)
        shutil.rmtree(self._local, ignore_errors=True)

    def abort(self) -> None:
        """Delete the local copy."""
        self._file.close()
        shutil.rmtree(self._local, ignore_errors=True)
