"""The outbox: events of changes, written in the transaction of the change, so that neither is without the other."""

from sqlalchemy import Column, Connection, Table, Text, insert

from millpond.journal.domain import Event
from millpond.kernel.database import BigId, metadata

outbox = Table(
    "journal_outbox",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("event", Text, nullable=False),
)

_INSERT = insert(outbox)


def put(connection: Connection, event: Event) -> None:
    """Add an event in the caller's transaction."""
    connection.execute(_INSERT, {"event": event.line().decode()})
