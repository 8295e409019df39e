"""What managed tables take of the disk or object store, looked at once in each hour."""

from datetime import datetime

from millpond.billing.domain import Product, Resource, Subject, hour_of
from millpond.billing.store import usage as rows
from millpond.catalog.domain import Table
from millpond.catalog.service import CatalogService
from millpond.catalog.storage.port import FileTree, Parts
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import MillpondError
from millpond.kernel.logs import get_logger

_AT_ONCE = 200
_PAGE = 1000
_GIB = 2**30

log = get_logger(__name__)


class StorageMeter:
    """Looks how large tables are. One in each server: of several on one database the first counts."""

    def __init__(self, database: Database, catalog: CatalogService) -> None:
        self._database = database
        self._catalog = catalog
        self._looked_at: datetime | None = None

    def look(self) -> None:
        """Look at all tables, unless that was done in this hour."""
        now = utc_now()
        if self._looked_at == hour_of(now):
            return
        found = []
        for table in self._catalog.managed_tables():
            try:
                size = self._size_bytes(table)
            except (MillpondError, OSError) as error:
                log.warning("the size of a table is not known", table=str(table.name), error=str(error))
                continue
            subject = Subject(
                product=Product.STORAGE, run_as=table.owner, kind="table", object_id=table.id,
                object_name=str(table.name),
            )  # fmt: skip
            found.append((subject, {Resource.STORAGE: size / _GIB}))
        for start in range(0, len(found), _AT_ONCE):
            with self._database.write() as connection:
                rows.set_once(connection, now, found[start : start + _AT_ONCE])
        self._looked_at = hour_of(now)

    def _size_bytes(self, table: Table) -> int:
        """All files, those of old versions too: they take room until they are vacuumed."""
        tree = self._catalog.storages.tree(table.storage_location, shown=str(table.name))
        return 0 if tree.status(()) is None else _size_below(tree, ())


def _size_below(tree: FileTree, parts: Parts) -> int:
    size, token = 0, None
    while True:
        listing = tree.list_directory(parts, token=token, limit=_PAGE)
        for entry in listing.entries:
            size += _size_below(tree, (*parts, entry.name)) if entry.is_directory else entry.size_bytes or 0
        token = listing.next_token
        if token is None:
            return size
