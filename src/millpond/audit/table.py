"""`system.access.audit`: the chain as rows. Whoever brings the table up to date drains what waits before."""

from collections.abc import Sequence
from datetime import date
from typing import Any

from millpond.audit import store
from millpond.audit.domain import TABLE_NAME
from millpond.audit.drain import Drain
from millpond.audit.wire import COLUMNS, PARTITION, row_of
from millpond.kernel.database import Database


class AuditTable:
    """The audit as a system table."""

    name = TABLE_NAME
    comment = "Who did what, when, from where, with what result."
    columns: Sequence[tuple[str, str, str]] = COLUMNS
    day_column = PARTITION

    def __init__(self, database: Database, drain: Drain, *, workspace_id: int) -> None:
        self._database = database
        self._drain = drain
        self._workspace_id = workspace_id

    @property
    def origin(self) -> str:
        """The chain is this workspace's."""
        return str(self._workspace_id)

    def catch_up(self) -> None:
        """Take in what this machine's processes have written down."""
        self._drain.run_once()

    def rows_after(self, position: int, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Rows behind a place in the chain."""
        with self._database.read() as connection:
            links = [store.link_of(row) for row in store.rows_after(connection, position, limit)]
        rows = [row_of(link.entry, self._workspace_id) for link in links]
        return rows, links[-1].sequence if links else position

    def first_day(self) -> date | None:
        """The day of the oldest entry, once retention has removed some."""
        with self._database.read() as connection:
            oldest = store.oldest(connection) if store.head(connection).anchor_sequence else None
        return None if oldest is None else oldest.date()
