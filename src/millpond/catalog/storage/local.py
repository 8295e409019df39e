"""Files on the local disk.

Every path is walked from the root by descriptor without following symbolic links, so that no link, however it came
into the tree or in its place, and whenever it is swapped in, leads out of it.
"""

import errno
import heapq
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from millpond.catalog.storage.port import HOUSEKEEPING, Entry, FileStatus, Listing, Parts
from millpond.kernel.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, StorageFull
from millpond.kernel.ids import new_id

_CHUNK_BYTES = 1 << 20
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # NONBLOCK: a FIFO must not hang us
_PART_DIGITS = 5


class LocalTree:
    """The files below one directory."""

    def __init__(self, root: Path, *, shown: str) -> None:
        self._root = root
        self._shown = shown

    def status(self, parts: Parts) -> FileStatus | None:
        """See `FileTree`."""
        if not parts:
            return _status(self._root.lstat()) if self._is_there() else None
        try:
            with self._directory(parts[:-1]) as parent:
                found = os.stat(parts[-1], dir_fd=parent, follow_symlinks=False)
        except (NotFound, FileNotFoundError):
            return None
        is_plain = stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)
        return _status(found) if is_plain else None

    def read(self, parts: Parts, *, start: int, length: int) -> Iterator[bytes]:
        """See `FileTree`."""
        return _pieces(self.open(parts), start, length)

    def save(self, parts: Parts, target: Path) -> None:
        """See `FileTree`."""
        with self.open(parts) as file:
            try:
                _link(file.fileno(), target)
            except OSError:  # another file system, or another owner
                with target.open("xb") as copy:
                    shutil.copyfileobj(file, copy, _CHUNK_BYTES)

    def writer(self, parts: Parts) -> "LocalWriter":
        """See `FileTree`."""
        if not parts:
            raise InvalidArgument(f"'{self._shown}' is a directory; name a file in it.")
        return LocalWriter(self, self._housekeeping() / new_id(), parts)

    def list_directory(self, parts: Parts, *, token: str | None, limit: int) -> Listing:
        """See `FileTree`."""
        if not parts and not os.path.lexists(self._root):
            return Listing(entries=(), next_token=None)  # a volume to which nobody has written
        with self._directory(parts) as directory, os.scandir(directory) as found:
            names = (e.name for e in found if (token is None or e.name > token) and not _hidden(parts, e.name))
            chosen = heapq.nsmallest(limit + 1, names)
            entries = [entry for name in chosen[:limit] if (entry := _entry(directory, name)) is not None]
        return Listing(entries=tuple(entries), next_token=chosen[limit - 1] if len(chosen) > limit else None)

    def make_directory(self, parts: Parts) -> None:
        """See `FileTree`."""
        with self._directory(parts, create=True):
            return

    def remove_directory(self, parts: Parts) -> None:
        """See `FileTree`."""
        if not parts:
            raise InvalidArgument(f"'{self._shown}' is a volume's root; drop the volume instead.")
        with self._directory(parts[:-1]) as parent, self._explained(parts):
            try:
                os.rmdir(parts[-1], dir_fd=parent)
            except OSError as error:
                if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                    raise FailedPrecondition(f"Directory '{self.show(parts)}' is not empty.") from error
                raise

    def remove_file(self, parts: Parts) -> None:
        """See `FileTree`."""
        found = self.status(parts)
        if found is None:
            raise NotFound(f"File '{self.show(parts)}' does not exist.")
        if found.is_directory:
            raise InvalidArgument(f"'{self.show(parts)}' is a directory, not a file.")
        with self._directory(parts[:-1]) as parent, self._explained(parts):
            os.unlink(parts[-1], dir_fd=parent)

    def begin_upload(self, parts: Parts) -> str:
        """See `FileTree`."""
        token = new_id()
        with self._explained(parts):
            (self._housekeeping() / token).mkdir()
        return token

    def part_writer(self, parts: Parts, token: str, number: int) -> "PartWriter":
        """See `FileTree`."""
        return PartWriter(self, self._upload(parts, token) / _part_name(number), parts)

    def complete_upload(self, parts: Parts, token: str, etags: Sequence[tuple[int, str]], *, overwrite: bool) -> None:
        """See `FileTree`."""
        directory = self._upload(parts, token)
        pieces = [self._checked_part(directory, number, etag) for number, etag in etags]
        whole = self.writer(parts)
        try:
            for piece in pieces:
                whole.append(piece)
            whole.commit(overwrite=overwrite)
        finally:
            whole.abort()
        shutil.rmtree(directory, ignore_errors=True)

    def abort_upload(self, parts: Parts, token: str) -> None:
        """See `FileTree`."""
        shutil.rmtree(self._root / HOUSEKEEPING / _plain(token), ignore_errors=True)

    def sweep(self, before: datetime) -> int:
        """See `FileTree`."""
        swept = 0
        if not self._is_there():
            return swept
        with suppress(FileNotFoundError, NotADirectoryError):
            for item in (self._root / HOUSEKEEPING).iterdir():
                if item.lstat().st_mtime < before.timestamp():
                    shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink(missing_ok=True)
                    swept += 1
        return swept

    def remove_all(self) -> None:
        """See `FileTree`."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self._root)

    def publish(self, temporary: Path, parts: Parts, *, overwrite: bool) -> None:
        """Give a finished temporary file its name, durably and at once."""
        with self._directory(parts[:-1], create=True) as parent, self._explained(parts):
            if overwrite:
                os.replace(temporary, parts[-1], dst_dir_fd=parent)
            else:
                os.link(temporary, parts[-1], dst_dir_fd=parent, follow_symlinks=False)
                temporary.unlink()
            os.fsync(parent)

    def show(self, parts: Parts) -> str:
        """A path as its user wrote it."""
        return "/".join((self._shown, *parts))

    @contextmanager
    def explained(self, parts: Parts) -> Iterator[None]:
        """Errors of the operating system as ours."""
        with self._explained(parts):
            yield

    @contextmanager
    def _explained(self, parts: Parts) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._error(error, parts) from error

    def _error(self, error: OSError, parts: Parts) -> Exception:
        path = self.show(parts)
        if error.errno in _NO_ROOM:
            return StorageFull(f"There is no room left on the server's disk for '{path}'; nothing of it was kept.")
        if error.errno == errno.ENOENT:
            return NotFound(f"'{path}' does not exist.")
        if error.errno == errno.EEXIST:
            return AlreadyExists(f"'{path}' already exists; pass overwrite=true to replace a file.")
        if error.errno in {errno.ENOTDIR, errno.ELOOP, errno.EISDIR}:
            return InvalidArgument(
                f"'{path}' goes through, or is, something else than it is used as (file, directory or link)."
            )
        return error

    @contextmanager
    def _directory(self, parts: Parts, *, create: bool = False) -> Iterator[int]:
        with self._explained(()):
            if create:
                self._root.mkdir(parents=True, exist_ok=True)
            current = os.open(self._root, _DIRECTORY)
        try:
            for depth, part in enumerate(parts, start=1):
                with self._explained(parts[:depth]):
                    following = _enter(current, part, create=create)
                os.close(current)
                current = following
            yield current
        finally:
            os.close(current)

    def open(self, parts: Parts) -> BinaryIO:
        """A file to read, which is a plain one. Raises NotFound, InvalidArgument."""
        if not parts:
            raise InvalidArgument(f"'{self._shown}' is a directory, not a file.")
        with self._directory(parts[:-1]) as parent, self._explained(parts):
            descriptor = os.open(parts[-1], _FILE, dir_fd=parent)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise InvalidArgument(f"'{self.show(parts)}' is not a file.")
        return os.fdopen(descriptor, "rb", buffering=0)

    def _is_there(self) -> bool:
        """Whether the root is a directory itself, and no link to one."""
        return self._root.is_dir() and not self._root.is_symlink()

    def _housekeeping(self) -> Path:
        path = self._root / HOUSEKEEPING
        with self._directory((), create=True), self._explained(()):
            path.mkdir(parents=True, exist_ok=True)
            if path.is_symlink():
                raise NotADirectoryError(errno.ENOTDIR, "is a link")
        return path

    def _upload(self, parts: Parts, token: str) -> Path:
        path = self._root / HOUSEKEEPING / _plain(token)
        if not self._is_there() or path.is_symlink() or not path.is_dir():
            raise NotFound(f"The upload of '{self.show(parts)}' has ended or expired; start it again.")
        return path

    def _checked_part(self, directory: Path, number: int, etag: str) -> Path:
        path = directory / _part_name(number)
        try:
            found = path.lstat()
        except FileNotFoundError:
            found = None
        if found is None or not stat.S_ISREG(found.st_mode) or _etag(found) != etag:
            raise InvalidArgument(f"Part {number} was not uploaded with ETag {etag}; upload it again.")
        return path


class LocalWriter:
    """A file that becomes visible by a rename."""

    def __init__(self, tree: LocalTree, temporary: Path, parts: Parts) -> None:
        self._tree = tree
        self._temporary = temporary
        self._parts = parts
        with tree.explained(parts):
            self._file = temporary.open("xb", buffering=0)

    def write(self, data: bytes) -> None:
        """See `Writer`."""
        with self._tree.explained(self._parts):
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]

    def append(self, source: Path) -> None:
        """Append a whole file of this tree's housekeeping."""
        with self._tree.explained(self._parts), source.open("rb", buffering=0) as piece:
            shutil.copyfileobj(piece, _Unbuffered(self), _CHUNK_BYTES)

    def commit(self, *, overwrite: bool) -> str:
        """See `Writer`."""
        etag = self._finish()
        self._tree.publish(self._temporary, self._parts, overwrite=overwrite)
        return etag

    def abort(self) -> None:
        """See `Writer`."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def _finish(self) -> str:
        with self._tree.explained(self._parts):
            os.fsync(self._file.fileno())
            etag = _etag(os.fstat(self._file.fileno()))
            self._file.close()
        return etag


class PartWriter(LocalWriter):
    """One part of an upload."""

    def __init__(self, tree: LocalTree, place: Path, parts: Parts) -> None:
        super().__init__(tree, place.with_name(f"{place.name}.{new_id()}"), parts)
        self._place = place

    def commit(self, *, overwrite: bool) -> str:
        """See `Writer`."""
        etag = self._finish()
        with self._tree.explained(self._parts):
            os.replace(self._temporary, self._place)
        return etag


class _Unbuffered:
    def __init__(self, writer: LocalWriter) -> None:
        self._writer = writer

    def write(self, data: bytes) -> int:
        self._writer.write(data)
        return len(data)


def _enter(parent: int, name: str, *, create: bool) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        if not create:
            raise
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=parent)
        os.fsync(parent)
    return os.open(name, _DIRECTORY, dir_fd=parent)


def _link(descriptor: int, target: Path) -> None:
    """Give the very file that was opened another name, whatever its own leads to by now."""
    opened = f"/proc/self/fd/{descriptor}"
    os.link(opened, target, src_dir_fd=descriptor, follow_symlinks=True)  # without src_dir_fd, Python does not follow


def _pieces(file: BinaryIO, start: int, length: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        while length > 0 and (data := file.read(min(length, _CHUNK_BYTES))):
            length -= len(data)
            yield data


def _entry(directory: int, name: str) -> Entry | None:
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None  # removed while we listed
    is_directory = stat.S_ISDIR(found.st_mode)
    if not (is_directory or stat.S_ISREG(found.st_mode)):
        return None
    size = None if is_directory else found.st_size
    return Entry(name=name, is_directory=is_directory, size_bytes=size, modified_at=_moment(found))


def _status(found: os.stat_result) -> FileStatus:
    return FileStatus(
        is_directory=stat.S_ISDIR(found.st_mode),
        size_bytes=found.st_size,
        modified_at=_moment(found),
        etag=_etag(found),
    )


def _moment(found: os.stat_result) -> datetime:
    return datetime.fromtimestamp(found.st_mtime, UTC)


def _etag(found: os.stat_result) -> str:
    return f'"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"'


def _hidden(parts: Parts, name: str) -> bool:
    return not parts and name == HOUSEKEEPING


def _part_name(number: int) -> str:
    return f"{number:0{_PART_DIGITS}d}"


def _plain(token: str) -> str:
    """A token of ours, which is one plain name."""
    if not token or "/" in token or token.startswith("."):
        raise InvalidArgument("The session token is not one that this server gave.")
    return token
