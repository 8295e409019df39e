"""Work beside requests that is in no hurry and needs Python's lock all the time."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

_TURN_S = 0.002


class Turns:
    """Leaves the lock to other threads after each turn of the work, for as long as the turn took.

    An event loop asks for the lock at each of its callbacks, and waits for it as long as a thread may have it: beside
    work without a pause it hardly gets on. Of one thread.
    """

    def __init__(self) -> None:
        self._began_s = time.thread_time()

    def of(self, items: Iterable[T]) -> Iterator[T]:
        """The same items, on each of which the work takes less than a turn."""
        for item in items:
            yield item
            took_s = time.thread_time() - self._began_s
            if took_s >= _TURN_S:
                time.sleep(took_s)
                self._began_s = time.thread_time()
