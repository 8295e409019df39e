"""Answers of the database kept for as long as it has not changed, which SQLite can say in less than a microsecond.

PostgreSQL has no such mark; there nothing is kept.
"""

import mmap
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

Mark = Callable[[], bytes | None]
"""A value that changes with each commit of anybody; None when that is not known."""

_KEPT = 10_000
_HEADER_BYTES = 48
"""Of the WAL-index, with a counter of transactions and the last frame's checksum. There are two copies, which differ
while a commit writes them. Source: https://sqlite.org/walformat.html#the_wal_index_header"""


def change_mark(database_url: str) -> Mark:
    """The mark of the database behind a URL."""
    if not database_url.startswith("sqlite"):
        return lambda: None
    path = database_url.partition(":///")[2]
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    connection.execute("SELECT 1 FROM sqlite_schema").fetchone()  # the index is there for as long as a connection is
    with Path(path + "-shm").open("rb") as index:
        shared = mmap.mmap(index.fileno(), 2 * _HEADER_BYTES, prot=mmap.PROT_READ)

    def mark(_keeps_the_index: sqlite3.Connection = connection) -> bytes | None:
        both = shared[:]
        header = both[:_HEADER_BYTES]
        return header if header == both[_HEADER_BYTES:] else None

    return mark


class Kept(Generic[K, V]):
    """Values by key, all forgotten when the mark changes."""

    def __init__(self, mark: Mark) -> None:
        self._mark = mark
        self._at: bytes | None = None
        self._values: dict[K, V] = {}

    def get(self, key: K, find: Callable[[], V]) -> V:
        """The kept value, or what `find` gives now. The mark is read before, so that nothing newer is missed."""
        values = self.now()
        if values is None:
            return find()
        if key not in values:
            values[key] = find()
        return values[key]

    def now(self) -> dict[K, V] | None:
        """The values of now, to which what is looked up from now on may be added; None when nothing can be kept."""
        mark = self._mark()
        if mark is None:
            return None
        if mark != self._at or len(self._values) > _KEPT:
            self._values, self._at = {}, mark
        return self._values
