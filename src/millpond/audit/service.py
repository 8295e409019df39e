"""Reading the audit: who may, what matches, and the rows of `system.access.audit`."""

from collections.abc import Iterator

from millpond.audit import chain, store
from millpond.audit.domain import AUDIT, Filter, Head, Link
from millpond.identity.access import Act, require
from millpond.identity.domain import Principal
from millpond.kernel.database import Database
from millpond.kernel.errors import NotFound
from millpond.kernel.paging import Page, cut_page, decode_number, page_size

_EXPORT_PAGE = 2000


class AuditService:
    """What one can ask the audit."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list_entries(
        self, principal: Principal, wanted: Filter, *, max_results: int | None = None, page_token: str | None = None
    ) -> Page[Link]:
        """Entries that a filter lets through, newest first. Raises NotFound for who may not read the audit."""
        require(principal, Act.READ, AUDIT)
        size, before = page_size(max_results), decode_number(page_token)
        with self._database.read() as connection:
            links = store.search(connection, wanted, before, size + 1)
        return cut_page(links, size, lambda link: str(link.sequence))

    def get_entry(self, principal: Principal, sequence: int) -> Link:
        """The entry at a place in the chain. Raises NotFound, also for who may not read the audit."""
        require(principal, Act.READ, AUDIT)
        with self._database.read() as connection:
            found = store.rows_after(connection, sequence - 1, 1, through=sequence)
        if not found:
            raise NotFound(f"The audit has no entry {sequence}; retention may have removed it.")
        return store.link_of(found[0])

    def head(self, principal: Principal) -> Head:
        """Both ends of the chain. Raises NotFound for who may not read the audit."""
        require(principal, Act.READ, AUDIT)
        with self._database.read() as connection:
            return store.head(connection)

    def verify(self, principal: Principal) -> chain.Verdict:
        """Look at the whole chain, which takes a while. Raises NotFound for who may not read the audit."""
        require(principal, Act.READ, AUDIT)
        return chain.verify(self._database)


def export(database: Database, wanted: Filter) -> Iterator[Link]:
    """Entries that a filter lets through, oldest first: for whoever holds the database itself."""
    after = 0
    while True:
        with database.read() as connection:
            links = store.search_after(connection, wanted, after, _EXPORT_PAGE)
        yield from links
        if len(links) < _EXPORT_PAGE:
            return
        after = links[-1].sequence
