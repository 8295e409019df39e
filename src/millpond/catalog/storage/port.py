"""What the catalog asks of a store of files.

A path is a tuple of plain names below the tree's root; the empty tuple is the root itself. Implementations raise
NotFound, AlreadyExists, InvalidArgument (a directory where a file is meant, or the other way), FailedPrecondition (a
directory that is not empty) and StorageFull, with the path as its user wrote it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

Parts = tuple[str, ...]
HOUSEKEEPING = ".millpond"
"""A directory in each root for unfinished uploads; never listed, and no path may begin with it."""


@dataclass(frozen=True, kw_only=True)
class FileStatus:
    """What is at a path."""

    is_directory: bool
    size_bytes: int
    modified_at: datetime
    etag: str
    """Changes when the content does; in double quotes, as in HTTP."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One name in a directory."""

    name: str
    is_directory: bool
    size_bytes: int | None
    modified_at: datetime | None
    """None for directories of a store that does not keep it."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Part of a directory, and the token of what follows or None at the end."""

    entries: tuple[Entry, ...]
    next_token: str | None


class Writer(Protocol):
    """A file on its way: invisible until `commit`, gone after `abort` or a crash."""

    def write(self, data: bytes) -> None:
        """Append."""

    def commit(self, *, overwrite: bool) -> str:
        """Make the whole file durable and visible, at once; its ETag. Raises AlreadyExists without `overwrite`."""

    def abort(self) -> None:
        """Leave nothing. Harmless after `commit`."""


class FileTree(Protocol):
    """The files below one root."""

    def status(self, parts: Parts) -> FileStatus | None:
        """What is at a path, or None."""

    def read(self, parts: Parts, *, start: int, length: int) -> Iterator[bytes]:
        """Bytes of a file, in pieces, from one version of it."""

    def save(self, parts: Parts, target: Path) -> None:
        """Have a file on this machine's disk too, at a path that is free: by a link where there can be one."""

    def writer(self, parts: Parts) -> Writer:
        """A new file; its directories are made when it is committed."""

    def list_directory(self, parts: Parts, *, token: str | None, limit: int) -> Listing:
        """Names in a directory, in a fixed order."""

    def make_directory(self, parts: Parts) -> None:
        """Make a directory and those above it; harmless when it exists."""

    def remove_directory(self, parts: Parts) -> None:
        """Remove an empty directory."""

    def remove_file(self, parts: Parts) -> None:
        """Remove a file."""

    def begin_upload(self, parts: Parts) -> str:
        """Start an upload in parts; a token that finds it again."""

    def part_writer(self, parts: Parts, token: str, number: int) -> Writer:
        """One part; what is committed under a number before is replaced."""

    def complete_upload(self, parts: Parts, token: str, etags: Sequence[tuple[int, str]], *, overwrite: bool) -> None:
        """Join the parts into a visible file. Raises InvalidArgument when a part is missing or another than named."""

    def abort_upload(self, parts: Parts, token: str) -> None:
        """Drop the parts; harmless when there are none."""

    def sweep(self, before: datetime) -> int:
        """Remove what uploads that stopped before a moment left behind; how many."""

    def remove_all(self) -> None:
        """Remove the root and everything in it; harmless when it is gone."""


class Storages(Protocol):
    """Finds the tree of a location."""

    def tree(self, location: str, *, shown: str) -> FileTree:
        """The files below a location; `shown` is its name in messages."""
