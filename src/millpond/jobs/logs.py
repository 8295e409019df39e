"""What tasks printed, read in parts and searched, each within a bound."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LONGEST_LINE = 2000


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


def part(path: Path, start: int, most_bytes: int, *, whole: bool) -> Part:
    """What a log holds from a byte on; where that is much, its end. A line, or a character, that is being written is
    left for the next part, unless the log is `whole`."""
    if not path.is_file():
        return Part(text="", next=start)
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        begin = max(start, size - most_bytes)
        stream.seek(begin)
        raw = stream.read(most_bytes)
    if not whole and len(raw) < most_bytes:
        raw = raw[: raw.rfind(b"\n") + 1]
    return Part(text=raw.decode(errors="replace"), next=begin + len(raw), cut=begin > start)


def lines_with(path: Path, text: str, most_bytes: int) -> Iterator[Line]:
    """The lines of a log's first bytes that hold a text, in either case of letters."""
    if not path.is_file():
        return
    wanted = text.casefold()
    with path.open("rb") as stream:
        number = 0
        while stream.tell() < most_bytes and (raw := stream.readline(1 << 20)):
            number += 1
            line = raw.decode(errors="replace")
            if wanted in line.casefold():
                yield Line(number=number, text=line.rstrip("\r\n")[:_LONGEST_LINE])
