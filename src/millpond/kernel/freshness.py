"""Answers of the database kept for as long as it has not changed.

SQLite can say so in less than a microsecond (`change_mark`). PostgreSQL has to be asked, which is a thread's work and
takes a tenth of the time of a query that joins (`snapshot_mark`).
"""

import mmap
import os
import sqlite3
from collections.abc import Callable
from functools import cache
from typing import Generic, TypeVar

from sqlalchemy.exc import DBAPIError

from millpond.kernel.database import Database

K = TypeVar("K")
V = TypeVar("V")

Mark = Callable[[], bytes | None]
"""A value that changes with each commit of anybody; None when that is not known."""

_KEPT = 10_000
_HEADER_BYTES = 48
"""Of the WAL-index, with a counter of transactions and the last frame's checksum. There are two copies, which differ
while a commit writes them. Source: https://sqlite.org/walformat.html#the_wal_index_header"""


@cache
def change_mark(database_url: str) -> Mark:
    """The mark of the database behind a URL, for the life of the process.

    The index is never closed: a process that closes one descriptor of a file loses all its locks on that file, SQLite's
    too, and another process would then cut the index short as nobody's. Source: https://sqlite.org/howtocorrupt.html
    (2.2).
    """
    if not database_url.startswith("sqlite"):
        return lambda: None
    path = database_url.partition(":///")[2]
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    connection.execute("SELECT 1 FROM sqlite_schema").fetchone()  # the index is there for as long as a connection is
    shared = mmap.mmap(os.open(path + "-shm", os.O_RDONLY), 2 * _HEADER_BYTES, prot=mmap.PROT_READ)

    def mark(_keeps_the_index: sqlite3.Connection = connection) -> bytes | None:
        both = shared[:]
        header = both[:_HEADER_BYTES]
        return header if header == both[_HEADER_BYTES:] else None

    return mark


def snapshot_mark(database: Database) -> Mark:
    """The mark of any database, for threads: on PostgreSQL its snapshot, which says what is committed and what is not.

    Where two snapshots are the same, so is all that can be seen.
    Source: https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT
    """
    if database.is_sqlite:
        return change_mark(database.url)

    def mark() -> bytes | None:
        try:
            with database.read() as connection:
                cursor = connection.connection.cursor()  # the driver's own: SQLAlchemy's takes longer than the answer
                cursor.execute("SELECT pg_current_snapshot()::text")
                return str(cursor.fetchall()[0][0]).encode()
        except (database.engine.dialect.loaded_dbapi.Error, DBAPIError):
            return None  # whoever looks for the answer then finds out what is wrong

    return mark


class Kept(Generic[K, V]):
    """Values by key, all forgotten when the mark changes. Threads may share it."""

    def __init__(self, mark: Mark) -> None:
        self._mark = mark
        self._kept: tuple[bytes | None, dict[K, V]] = (None, {})

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
        at, values = self._kept
        if mark != at or len(values) > _KEPT:
            values = {}
            self._kept = (mark, values)  # at once, as another thread may have read a newer mark meanwhile
        return values
