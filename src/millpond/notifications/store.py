"""The tables of notifications and all their SQL."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, Index, Integer, String, Table, Text, delete, insert, select, update

from millpond.kernel.database import Json, UtcDateTime, metadata
from millpond.notifications.domain import Delivery, Destination, Kind

destinations = Table(
    "notification_destinations",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(256), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("addresses", Json, nullable=False),
    Column("sealed", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
deliveries = Table(
    "notification_deliveries",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("about", String(100), nullable=False),
    Column("address", String(400), nullable=False),
    Column("destination_id", String(36), nullable=False),
    Column("event", String(60), nullable=False),
    Column("notice", Json, nullable=False),
    Column("state", String(20), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("status_code", Integer),
    Column("error", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index("ix_notification_deliveries_about", "about"),
    Index("ix_notification_deliveries_updated_at", "updated_at"),
)


def add_destination(connection: Connection, made: Destination) -> None:
    """Add one."""
    connection.execute(insert(destinations).values(**vars(made)))


def change_destination(connection: Connection, made: Destination) -> None:
    """Write one as it is."""
    connection.execute(update(destinations).where(destinations.c.id == made.id).values(**vars(made)))


def delete_destination(connection: Connection, destination_id: str) -> None:
    """Remove one."""
    connection.execute(delete(destinations).where(destinations.c.id == destination_id))


def find_destination(connection: Connection, destination_id: str) -> Destination | None:
    """One."""
    row = connection.execute(select(destinations).where(destinations.c.id == destination_id)).first()
    return _destination(row) if row else None


def list_destinations(connection: Connection, *, after: str | None, limit: int) -> list[Destination]:
    """All, the oldest first, after an id."""
    query = select(destinations).order_by(destinations.c.id).limit(limit)
    if after is not None:
        query = query.where(destinations.c.id > after)
    return [_destination(row) for row in connection.execute(query)]


def add_delivery(connection: Connection, values: dict[str, Any]) -> None:
    """Add one."""
    connection.execute(insert(deliveries).values(**values))


def find_delivery(connection: Connection, delivery_id: str) -> Any:
    """A delivery's row, or None."""
    return connection.execute(select(deliveries).where(deliveries.c.id == delivery_id)).first()


def change_delivery(connection: Connection, delivery_id: str, values: dict[str, Any]) -> None:
    """Set columns of one."""
    connection.execute(update(deliveries).where(deliveries.c.id == delivery_id).values(**values))


def forget_deliveries(connection: Connection, before: datetime) -> None:
    """Remove those of long ago."""
    connection.execute(delete(deliveries).where(deliveries.c.updated_at < before))


def deliveries_about(connection: Connection, about: str, limit: int) -> Sequence[Delivery]:
    """What was told of something, the newest first."""
    query = select(deliveries).where(deliveries.c.about == about).order_by(deliveries.c.id.desc()).limit(limit)
    return [_delivery(row) for row in connection.execute(query)]


def _destination(row: Any) -> Destination:
    return Destination(**{**row._mapping, "kind": Kind(row.kind), "addresses": tuple(row.addresses)})


def _delivery(row: Any) -> Delivery:
    return Delivery(
        id=row.id, about=row.about, target=row.destination_id or row.address, event=row.event, state=row.state,
        attempts=row.attempts, status_code=row.status_code, error=row.error, created_at=row.created_at,
        updated_at=row.updated_at,
    )  # fmt: skip
