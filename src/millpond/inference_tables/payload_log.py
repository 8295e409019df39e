"""The payload log of this process: to answer a request costs it one gathering write to a file of its own.

A log is a directory below the root, by its id; its segments are `WRITER-NUMBER.open` while they are written and
`WRITER-NUMBER.segment` when no more comes. What was written outlives the process, `kill -9` included; what outlives the
machine is a setting. An open segment is locked (`flock`) as long as its writer lives: who gets the lock may seal it.
"""

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from millpond.inference_tables.segments import Record, encoded
from millpond.kernel.errors import StorageFull
from millpond.kernel.ids import new_id

_OPEN, _SEALED, _LOCK = ".open", ".segment", ".lock"
_FULL_BYTES = 16 << 20
"""Then the next segment begins: so much is in memory at once when it is committed, or one record if that is larger."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A file in which no more is written."""

    path: Path
    writer: str
    number: int
    size_bytes: int


class PayloadLog:
    """All logs of this process, and those that earlier ones left. Thread-safe."""

    def __init__(self, root: Path, *, durable: bool = False, full_bytes: int = _FULL_BYTES) -> None:
        """`durable` segments are on the disk, and not only with the operating system, when `append` returns."""
        self._root = root
        self._durable = durable
        self._full_bytes = full_bytes
        self._writer = new_id()
        self._open: dict[str, _OpenSegment] = {}
        self._numbers: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        """Bytes of each log that are not committed."""
        self._lock = threading.Lock()
        for log_id in self.ids():
            self._sizes[log_id] = sum(path.stat().st_size for path in (root / log_id).iterdir())

    def append(self, log_id: str, record: Record) -> None:
        """Write a record. Raises StorageFull when it cannot be kept."""
        pieces = encoded(record)
        size = sum(map(len, pieces))
        with self._lock:
            try:
                segment = self._open.get(log_id) or self._begin(log_id)
                segment.write(pieces, size)
            except OSError as error:
                raise StorageFull(
                    f"The payload log cannot be written to {self._root / log_id}: {error.strerror}. Make room there."
                ) from error
            self._sizes[log_id] = self._sizes.get(log_id, 0) + size
            if segment.size_bytes >= self._full_bytes:
                self._seal(log_id)
        if self._durable:
            segment.sync()

    @property
    def is_busy(self) -> bool:
        """Whether something is being written just now: who cannot wait lets a thread do it."""
        return self._lock.locked()

    def waiting_bytes(self, log_id: str) -> int:
        """How much of a log is not committed yet."""
        return self._sizes.get(log_id, 0)

    def ids(self) -> Sequence[str]:
        """All logs that there are on this disk."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(path.name for path in self._root.iterdir() if path.is_dir())
        return ()

    def seal(self, log_id: str) -> Sequence[Segment]:
        """All that was appended so far as segments that stay as they are, in the order of each writer."""
        with self._lock:
            if log_id in self._open:
                self._seal(log_id)
        for path in (self._root / log_id).glob(f"[!.]*{_OPEN}"):
            _seal_orphan(path)
        return sorted(self._sealed(log_id), key=lambda each: (each.writer, each.number))

    @contextlib.contextmanager
    def alone(self, log_id: str) -> Iterator[bool]:
        """Whether nobody else commits this log while the block runs, as a server would that has not ended yet."""
        file = os.open(self._root / log_id / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield _locked(file)
        finally:
            os.close(file)

    def remove(self, log_id: str, segments: Sequence[Segment]) -> None:
        """These are committed."""
        for segment in segments:
            segment.path.unlink(missing_ok=True)
        with self._lock:
            self._sizes[log_id] = max(0, self._sizes.get(log_id, 0) - sum(each.size_bytes for each in segments))

    def close(self) -> None:
        """Seal all; what is in them waits for whoever commits it."""
        with self._lock:
            for log_id in list(self._open):
                self._seal(log_id)

    def _sealed(self, log_id: str) -> Iterator[Segment]:
        for path in (self._root / log_id).glob(f"[!.]*{_SEALED}"):
            writer, _, number = path.stem.rpartition("-")
            yield Segment(path=path, writer=writer, number=int(number), size_bytes=path.stat().st_size)

    def _begin(self, log_id: str) -> "_OpenSegment":
        number = self._numbers[log_id] = self._numbers.get(log_id, 0) + 1
        directory = self._root / log_id
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        segment = _OpenSegment(directory / f"{self._writer}-{number:010d}", durable=self._durable)
        self._open[log_id] = segment
        return segment

    def _seal(self, log_id: str) -> None:
        self._open.pop(log_id).seal()


class _OpenSegment:
    """The segment that is being written."""

    def __init__(self, path: Path, *, durable: bool) -> None:
        """It is locked before it has a name that others look for."""
        self._path = path
        self._durable = durable
        self._synced = 0
        self._syncing = threading.Lock()
        self.size_bytes = 0
        draft = path.with_name(f".{path.name}")
        self._file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        draft.rename(path.with_suffix(_OPEN))
        if durable:
            _sync_directory(path.parent)

    def write(self, pieces: Sequence[bytes], size: int) -> None:
        """All pieces, or none of them. Raises OSError."""
        written = os.writev(self._file, pieces)
        if written < size:  # the disk is full: take the half record back
            os.ftruncate(self._file, self.size_bytes)
            raise OSError(28, "No space left on device")
        self.size_bytes += size

    def sync(self) -> None:
        """Return when all that was written before the call is on the disk; several callers share one `fsync`."""
        wanted = self.size_bytes
        with self._syncing:
            if self._synced < wanted:  # else whoever had the lock before has done it, or it was sealed
                reached = self.size_bytes
                os.fsync(self._file)
                self._synced = reached

    def seal(self) -> None:
        """End it."""
        with self._syncing:
            if self._durable:
                os.fsync(self._file)
                self._synced = self.size_bytes
            self._path.with_suffix(_OPEN).rename(self._path.with_suffix(_SEALED))
            os.close(self._file)


def _seal_orphan(path: Path) -> None:
    """Seal a segment whose writer has ended."""
    with contextlib.suppress(FileNotFoundError):
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _locked(file):  # else another process writes it, which lives
                path.rename(path.with_suffix(_SEALED))
        finally:
            os.close(file)


def _locked(file: int) -> bool:
    """Lock a file; false when somebody else has it locked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync_directory(directory: Path) -> None:
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
