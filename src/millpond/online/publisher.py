"""Who publishes: takes what is due, one table at a time under a lease, until its process ends.

Each round reads the source's log and writes rows, then the mark, then our row; killed between any two it is done again
and finds what is done. Nothing is written after a lease is over, should the process have been stopped for so long.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from millpond.catalog import locations
from millpond.catalog.delta import has_version, storage_options
from millpond.catalog.domain import Table
from millpond.catalog.service import CatalogService
from millpond.identity.domain import SYSTEM
from millpond.kernel.clock import from_epoch_ms
from millpond.kernel.database import Database
from millpond.kernel.errors import Conflict, MillpondError, NotFound
from millpond.kernel.logs import get_logger
from millpond.kernel.rounds import rounds
from millpond.kernel.settings import S3Settings
from millpond.online import store
from millpond.online.backends.port import Backend, Change
from millpond.online.domain import Published
from millpond.online.publishing import Outcome, publish
from millpond.online.source import Source
from millpond.online.stores import Backends
from millpond.online.tables import OnlineTable, wanted_of

POLL_S = 0.2
_RENEW_S = 3.0
_REMOTE_LOOK_S = 0.5
_PORTION = 5_000

log = get_logger(__name__)


@dataclass(frozen=True)
class Fenced:
    """A backend that is written to only while a lease holds."""

    backend: Backend
    holds: Callable[[], bool]

    def published(self, table: str) -> Published | None:
        """As the backend says."""
        return self.backend.published(table)

    def read(self, table: str, keys: Sequence[bytes]) -> tuple[Published | None, list[bytes | None]]:
        """As the backend says."""
        return self.backend.read(table, keys)

    def write(self, table: str, generation: int, changes: Iterable[Change]) -> int:
        """Row by row as they come, with a look at the lease before each portion."""
        self._check()
        return self.backend.write(table, generation, self._checked(changes))

    def publish(self, table: str, state: Published) -> None:
        """Set the mark."""
        self._check()
        self.backend.publish(table, state)

    def drop(self, table: str, generation: int | None = None) -> None:
        """Take rows away."""
        self._check()
        self.backend.drop(table, generation)

    def close(self) -> None:
        """It is not ours to close."""

    def _checked(self, changes: Iterable[Change]) -> Iterator[Change]:
        rest = iter(changes)
        while portion := list(islice(rest, _PORTION)):
            self._check()
            yield from portion

    def _check(self) -> None:
        if not self.holds():
            raise Conflict("Somebody else publishes the table now, or it was removed.")


class Publisher:
    """One for each process; `owner` is a name that no other has, with which its leases begin."""

    def __init__(
        self, database: Database, catalog: CatalogService, backends: Backends, s3: S3Settings, *, owner: str
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._backends = backends
        self._s3 = s3
        self._owner = owner
        self._looked: dict[str, float] = {}
        """When the log of a table was last looked at whole, by the table's id."""

    def run(self, stopped: threading.Event, thread: int) -> None:
        """Publish what is due until told to stop; one of several threads."""
        while not stopped.is_set():
            try:
                worked = self.run_once(thread)
            except Exception as error:  # the database is away: the next round tries again
                log.error("nothing can be published", exc_info=error)
                worked = False
            if not worked:
                stopped.wait(POLL_S)

    def run_once(self, thread: int = 0) -> bool:
        """One round for one table that is due; whether there was one."""
        owner = f"{self._owner}.{thread}"
        with self._database.read() as connection:
            due = store.due_tables(connection)
        for table in due:
            if self._has_work(table) and (leased := self._lease(table, owner)) is not None:
                self._work(leased, owner)
                return True
        return False

    def _lease(self, table: OnlineTable, owner: str) -> OnlineTable | None:
        with self._database.write() as connection:
            return store.lease(connection, table, owner)

    def _has_work(self, table: OnlineTable) -> bool:
        """Whether it was told to follow, or its log has a version that is not published."""
        if table.removed or table.asked > table.answered or table.failures or table.version is None:
            return True
        source = self._source(table)
        if source is None:
            return True
        is_local, now = locations.is_local(source.storage_location), time.monotonic()
        if is_local and table.id in self._looked:
            return has_version(source.storage_location, table.version + 1)
        if now - self._looked.get(table.id, 0.0) < _REMOTE_LOOK_S:
            return False
        self._looked[table.id] = now
        return self._delta(source).version() != table.version

    def _source(self, table: OnlineTable) -> Table | None:
        return self._catalog.find_tables_by_id(SYSTEM, [table.source_id]).get(table.source_id)

    def _delta(self, source: Table) -> Source:
        options = storage_options(source.storage_location, self._s3)
        return Source(location=source.storage_location, options=options or {})

    def _work(self, table: OnlineTable, owner: str) -> None:
        began = time.monotonic()
        try:
            with self._held(table, owner) as holds:
                backend = Fenced(self._backends.of(table.kind, table.store), holds)
                outcome = None if table.removed else self._publish(table, backend)
                if outcome is None:
                    backend.drop(table.id)
        except Exception as error:  # the boundary of a work item
            log.warning("a table was not published", table=table.name, exc_info=error)
            with self._database.write() as connection:
                store.failed(connection, table, owner, _told(error))
            return
        self._done(table, owner, outcome)
        seconds = round(time.monotonic() - began, 3)
        log.info("published", table=table.name, outcome=outcome, seconds=seconds)

    def _publish(self, table: OnlineTable, backend: Backend) -> Outcome:
        source = self._source(table)
        if source is None:
            raise NotFound("The source table was dropped; delete the online table, or bring the source back.")
        return publish(self._delta(source), wanted_of(source), backend, table.id, anew=table.anew)

    def _done(self, table: OnlineTable, owner: str, outcome: Outcome | None) -> None:
        with self._database.write() as connection:
            if outcome is None:
                store.forget(connection, table, owner)
            else:
                at = from_epoch_ms(outcome.committed_ms)
                store.succeeded(connection, table, owner, version=outcome.version, committed_at=at)

    @contextmanager
    def _held(self, table: OnlineTable, owner: str) -> Iterator[Callable[[], bool]]:
        """Keep the lease while the block runs; gives what says whether it still holds."""
        lease_s = store.LEASE.total_seconds()
        ends = [time.monotonic() + lease_s]

        def renew() -> None:
            asked, held = time.monotonic(), False
            try:
                with self._database.write() as connection:
                    held = store.renew(connection, table, owner)
            finally:
                ends[0] = asked + lease_s if held else 0.0

        with rounds(renew, name="lease", interval_s=_RENEW_S, log=log, failure="a lease could not be renewed"):
            yield lambda: time.monotonic() < ends[0]


def _told(error: Exception) -> str:
    """What users may read of an error; of one that is not ours only its type, as it may hold places and secrets."""
    if isinstance(error, MillpondError):
        return error.message
    return f"{type(error).__name__}; the server's log says more."
