"""The spool of a process: a file to which it appends one line for each event, with one `write` and no `fsync`.

So an event outlives the process (`kill -9` included), at the price of a system call; only a power cut may take the last
seconds. A file is locked (`flock`) as long as its writer lives: who gets the lock knows that nothing more will come.
"""

import fcntl
import os
import threading
import time
from pathlib import Path

from millpond.kernel.errors import StorageFull

SUFFIX = ".jsonl"
_FULL_BYTES = 4 << 20
"""Then the next file begins, so that files can go once they are read."""


class Spool:
    """Appends to a file of its own below a directory. Thread-safe."""

    def __init__(self, directory: Path, *, full_bytes: int = _FULL_BYTES) -> None:
        self._directory = directory
        self._full_bytes = full_bytes
        self._lock = threading.Lock()
        self._file: int | None = None
        self._size = 0

    def append(self, line: bytes) -> None:
        """Write a line that ends with a line feed. Raises StorageFull when it cannot be kept."""
        with self._lock:
            try:
                if self._file is None or self._size > self._full_bytes:
                    self._begin()
                self._write(line)
            except OSError as error:
                raise StorageFull(
                    f"The audit cannot be written to {self._directory}: {error.strerror}. Nothing is answered that "
                    "cannot be recorded; make room there."
                ) from error

    def close(self) -> None:
        """Let go of the file; what is in it waits for whoever drains it."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
            self._file = None

    def _write(self, line: bytes) -> None:
        assert self._file is not None
        written = os.write(self._file, line)
        if written < len(line):  # the disk is full: take the half line back
            os.ftruncate(self._file, self._size)
            raise OSError(28, "No space left on device")
        self._size += written

    def _begin(self) -> None:
        """A new file, which is locked before it has a name that others look for."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self._directory / f".{time.time_ns():020d}-{os.getpid()}"  # their names sort by age
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        draft.rename(self._directory / (draft.name[1:] + SUFFIX))
        self._file, self._size = file, 0
