"""What tasks printed, read in parts and searched, each within a bound."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_LONGEST_LINE = 2000
_BLOCK_BYTES = 1 << 20


class Log(Protocol):
    """Bytes that were printed, wherever they are kept."""

    def size(self) -> int:
        """How many there are by now."""

    def read(self, start: int, most_bytes: int) -> bytes:
        """Some of them."""


@dataclass(frozen=True)
class FileLog:
    """A log in a file, which may not be there yet."""

    path: Path

    def size(self) -> int:
        """Bytes in the file."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def read(self, start: int, most_bytes: int) -> bytes:
        """Some of them."""
        if not self.path.is_file():
            return b""
        with self.path.open("rb") as stream:
            stream.seek(start)
            return stream.read(most_bytes)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some of a log."""

    text: str
    next: int
    """Where what comes after it begins, in bytes."""
    cut: bool = False
    """Whether something before it was left out."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a log, and which one it is, from 1."""

    number: int
    text: str


def part(log: Log, start: int, most_bytes: int, *, whole: bool) -> Part:
    """What a log holds from a byte on; where that is much, its end. A line, or a character, that is being written is
    left for the next part, unless the log is `whole`."""
    begin = max(start, log.size() - most_bytes)
    raw = log.read(begin, most_bytes)
    if not whole and len(raw) < most_bytes:
        raw = raw[: raw.rfind(b"\n") + 1]
    return Part(text=raw.decode(errors="replace"), next=begin + len(raw), cut=begin > start)


def lines_with(log: Log, text: str, most_bytes: int) -> Iterator[Line]:
    """The lines of a log's first bytes that hold a text, in either case of letters."""
    wanted = text.casefold()
    for number, raw in enumerate(_lines(log, most_bytes), 1):
        line = raw.decode(errors="replace")
        if wanted in line.casefold():
            yield Line(number=number, text=line.rstrip("\r\n")[:_LONGEST_LINE])


def _lines(log: Log, most_bytes: int) -> Iterator[bytes]:
    """Lines that begin among the first bytes, cut where they are very long."""
    end, place, begin, rest = min(log.size(), most_bytes), 0, 0, b""
    while begin < end and (block := log.read(place, _BLOCK_BYTES)):
        place += len(block)
        *whole, rest = (rest + block).split(b"\n")
        if len(rest) >= _BLOCK_BYTES:
            whole, rest = [*whole, rest], b""
        for line in whole:
            if begin >= end:
                return
            yield line
            begin += len(line) + 1
    if rest and begin < end:
        yield rest
