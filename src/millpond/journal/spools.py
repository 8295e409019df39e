"""Reading spools: the lines that processes have written, each once per reader, and the end of files that are done."""

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from millpond.journal.spool import SUFFIX


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Whole lines of a spool, from where the reader stopped."""

    path: Path
    lines: tuple[bytes, ...]
    end: int
    """Where the next piece begins."""


class SpoolReader:
    """Remembers how far it has read each file. One that starts anew reads again what is still there."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read: dict[str, int] = {}

    def pieces(self, limit_bytes: int) -> Iterator[Piece]:
        """What is new in each file, oldest file first. Files whose writer has ended and that are read are removed."""
        for path in sorted(self._directory.glob(f"[!.]*{SUFFIX}")):
            while (piece := self._next(path, limit_bytes)) is not None:
                yield piece

    def done(self, piece: Piece) -> None:
        """The piece is safe elsewhere."""
        self._read[piece.path.name] = piece.end

    def _next(self, path: Path, limit_bytes: int) -> Piece | None:
        position = self._read.get(path.name, 0)
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # another reader has removed it
            return None
        try:
            finished = _has_no_writer(file)
            data = os.pread(file, limit_bytes, position)
            whole = data.rfind(b"\n") + 1
            if not whole and finished and data:
                whole = len(data)  # the writer was cut off in its last line
            if whole:
                lines = tuple(line for line in data[:whole].split(b"\n") if line)
                return Piece(path=path, lines=lines, end=position + whole)
            if finished:
                path.unlink(missing_ok=True)
                self._read.pop(path.name, None)
            return None
        finally:
            os.close(file)


def _has_no_writer(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
