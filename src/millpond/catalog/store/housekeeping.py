"""SQL of what the janitor cleans up: staged locations, dropped files and unfinished uploads."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, exists, func, insert, or_, select

from millpond.catalog.store.schema import purges, staged, tables, uploads, volumes


def insert_staged(connection: Connection, *, staged_id: str, location: str, created_at: datetime, by: str) -> None:
    """Note a location that is about to be written."""
    connection.execute(insert(staged).values(id=staged_id, location=location, created_at=created_at, created_by=by))


def take_staged(connection: Connection, staged_id: str) -> bool:
    """Remove the note, as its object is registered in this transaction; whether it was there."""
    return connection.execute(delete(staged).where(staged.c.id == staged_id)).rowcount == 1


def expire_staged(connection: Connection, before: datetime, due_at: datetime) -> int:
    """Turn notes older than `before` into purges; how many."""
    rows = connection.execute(
        delete(staged).where(staged.c.created_at < before).returning(staged.c.id, staged.c.location)
    ).all()
    for row in rows:
        if row.location:
            insert_purge(connection, purge_id=row.id, location=row.location, what="unregistered table", due_at=due_at)
    return len(rows)


def insert_purge(connection: Connection, *, purge_id: str, location: str, what: str, due_at: datetime) -> None:
    """Note files to remove once `due_at` has come."""
    connection.execute(insert(purges).values(id=purge_id, location=location, what=what[:800], due_at=due_at))


def list_due_purges(connection: Connection, now: datetime, limit: int) -> list[Any]:
    """Purges whose time has come, oldest first."""
    query = select(purges).where(purges.c.due_at <= now).order_by(purges.c.due_at).limit(limit)
    return list(connection.execute(query))


def delete_purge(connection: Connection, purge_id: str) -> None:
    """Forget a purge that is done."""
    connection.execute(delete(purges).where(purges.c.id == purge_id))


def location_in_use(connection: Connection, location: str) -> bool:
    """Whether a table or volume lives at, above or below a location."""
    for table in (tables, volumes):
        at = table.c.storage_location
        below = func.substr(at, 1, len(location) + 1) == location + "/"
        above = func.substr(location + "/", 1, func.length(at) + 1) == at + "/"
        if connection.execute(select(exists().where(at != "", or_(at == location, below, above)))).scalar():
            return True
    return False


def insert_upload(connection: Connection, values: dict[str, Any]) -> None:
    """Note an upload in parts."""
    connection.execute(insert(uploads).values(**values))


def find_upload(connection: Connection, upload_id: str) -> Any | None:
    """The upload with an id."""
    return connection.execute(select(uploads).where(uploads.c.id == upload_id)).first()


def delete_upload(connection: Connection, upload_id: str) -> bool:
    """Forget an upload; whether it was there."""
    return connection.execute(delete(uploads).where(uploads.c.id == upload_id)).rowcount == 1


def list_expired_uploads(connection: Connection, now: datetime, limit: int) -> list[Any]:
    """Uploads that nobody finished in time."""
    return list(connection.execute(select(uploads).where(uploads.c.expires_at <= now).limit(limit)))
