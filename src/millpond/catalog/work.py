"""The janitor: removes what nobody will ask for again. Each step may be cut off and repeated.

- tables that were dropped, with their grants and tags, once they cannot be brought back;
- files of managed tables and volumes that were dropped, once their time has come;
- staged locations that were never registered;
- uploads that nobody finished.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta

from millpond.catalog.service import CatalogService
from millpond.catalog.store import housekeeping, objects
from millpond.catalog.store.rows import volume_of
from millpond.catalog.store.schema import volumes
from millpond.identity import acts
from millpond.identity.domain import SYSTEM
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import MillpondError
from millpond.kernel.logs import get_logger
from millpond.kernel.rounds import rounds

STAGED_FOR = timedelta(days=1)
UPLOAD_LEFTOVERS_FOR = timedelta(days=1)
_BATCH = 100

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Swept:
    """What one round removed."""

    staged: int
    purged: int
    uploads: int
    leftovers: int


class Janitor:
    """Cleans up behind the catalog. Several may run; each step is harmless when repeated."""

    def __init__(self, catalog: CatalogService, database: Database) -> None:
        self._catalog = catalog
        self._database = database

    def run_once(self) -> Swept:
        """One round over everything that is due."""
        self._catalog.forget_dropped()
        staged = self._expire_staged()
        return Swept(
            staged=staged, purged=self._purge(), uploads=self._forget_uploads(), leftovers=self._sweep_volumes()
        )

    def at_work(self, *, interval_s: float = 600) -> AbstractContextManager[None]:
        """Rounds in a thread of its own, while the block runs."""
        failure = "the catalog's janitor failed"
        return rounds(self._sweep, name="catalog-janitor", interval_s=interval_s, log=log, failure=failure)

    def _sweep(self) -> None:
        log.info("the catalog's janitor swept", **vars(self.run_once()))

    def _expire_staged(self) -> int:
        now = utc_now()
        with self._database.write() as connection:
            return housekeeping.expire_staged(connection, before=now - STAGED_FOR, due_at=now)

    def _purge(self) -> int:
        with self._database.read() as connection:
            due = housekeeping.list_due_purges(connection, utc_now(), _BATCH)
        return sum(self._purge_one(row.id, row.location, row.what) for row in due)

    def _purge_one(self, purge_id: str, location: str, what: str) -> bool:
        """Files first, then the note: cut off in between, it is done again."""
        with self._database.read() as connection:
            shared = self._catalog.is_used_by_models(connection, location)
            in_use = shared or housekeeping.location_in_use(connection, location)
        if shared:
            log.info("another version has these files too; they stay until it goes", location=location, what=what)
        elif in_use:
            log.error("a purge names a location in use; its files stay", location=location, what=what)
        else:
            try:
                self._catalog.storages.tree(location, shown=what).remove_all()
            except (MillpondError, OSError) as error:
                log.warning("files cannot be removed yet", location=location, what=what, error=str(error))
                return False
        with self._database.write() as connection:
            housekeeping.delete_purge(connection, purge_id)
            if not in_use:
                acts.changed(connection, SYSTEM.name, "purge", "files", what, location=location)
        return not in_use

    def _forget_uploads(self) -> int:
        with self._database.write() as connection:
            expired = housekeeping.list_expired_uploads(connection, utc_now(), 10 * _BATCH)
            for row in expired:
                housekeeping.delete_upload(connection, row.id)
        return len(expired)

    def _sweep_volumes(self) -> int:
        before, swept = utc_now() - UPLOAD_LEFTOVERS_FOR, 0
        with self._database.read() as connection:
            roots = [volume_of(row).storage_location for row in objects.all_rows(connection, volumes)]
        for root in roots:
            try:
                swept += self._catalog.storages.tree(root, shown=root).sweep(before)
            except (MillpondError, OSError) as error:
                log.warning("a volume cannot be swept", location=root, error=str(error))
        return swept
