"""Keeps the publishing process alive for as long as there is anything to publish or to follow."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from millpond.kernel.database import Database
from millpond.kernel.ids import new_id
from millpond.kernel.logs import get_logger
from millpond.kernel.process import Child
from millpond.online import store

_POLL_S = 1.0
_IDLE_ROUNDS = 60
_GRACE_S = 5.0

log = get_logger(__name__)


class Keeper:
    """One for each server; `start` starts a publisher under an owner's name."""

    def __init__(self, database: Database, start: Callable[[str], Child]) -> None:
        self._database = database
        self._start = start
        self._told = threading.Event()
        self._child: Child | None = None
        self._owner = ""
        self._idle = 0

    def tell(self) -> None:
        """There is something to do."""
        self._told.set()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Keep it while the block runs."""
        if self._database.is_sqlite:  # there is one server: what an earlier one had leased is nobody's
            with self._database.write() as connection:
                store.release(connection, "")
        stopped = threading.Event()
        thread = threading.Thread(target=self._run, args=(stopped,), name="publisher-keeper", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            self.tell()
            thread.join(2 * _GRACE_S)

    def _run(self, stopped: threading.Event) -> None:
        while not stopped.is_set():
            self._told.clear()
            try:
                self._look()
            except Exception as error:  # the boundary of a work item
                log.error("the publisher was not looked after", exc_info=error)
            self._told.wait(_POLL_S)
        self._end()

    def _look(self) -> None:
        """Start it when there is work, or it has died; end it when there was none for a while."""
        if self._child is not None and not self._child.running:
            log.error("the publisher ended", code=self._child.process.returncode)
            self._end()
        with self._database.read() as connection:
            has_work = store.has_work(connection)
        self._idle = 0 if has_work else self._idle + 1
        if has_work and self._child is None:
            self._owner = new_id()
            self._child = self._start(self._owner)
        elif self._idle > _IDLE_ROUNDS:
            self._end()

    def _end(self) -> None:
        """End it; what it was at is free for the next."""
        if self._child is None:
            return
        self._child.terminate(_GRACE_S)
        self._child = None
        with self._database.write() as connection:
            store.release(connection, self._owner)
