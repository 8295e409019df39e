"""Answers of the database kept for as long as it has not changed, which SQLite can say in a few microseconds.

Source: https://sqlite.org/pragma.html#pragma_data_version. PostgreSQL has no such mark; there nothing is kept.
"""

import sqlite3
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

Mark = Callable[[], int | None]
"""A value that changes with each commit of anybody; None when that is not known."""

_KEPT = 10_000


def change_mark(database_url: str) -> Mark:
    """The mark of the database behind a URL."""
    if not database_url.startswith("sqlite"):
        return lambda: None
    path = database_url.partition(":///")[2]
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    lock = threading.Lock()

    def mark() -> int | None:
        with lock:
            return int(connection.execute("PRAGMA data_version").fetchone()[0])

    return mark


class Kept(Generic[K, V]):
    """Values by key, all forgotten when the mark changes."""

    def __init__(self, mark: Mark) -> None:
        self._mark = mark
        self._at: int | None = None
        self._values: dict[K, V] = {}

    def get(self, key: K, find: Callable[[], V]) -> V:
        """The kept value, or what `find` gives now. The mark is read before, so that nothing newer is missed."""
        mark = self._mark()
        if mark is None:
            return find()
        if mark != self._at or len(self._values) > _KEPT:
            self._values, self._at = {}, mark
        values = self._values
        if key not in values:
            values[key] = find()
        return values[key]
