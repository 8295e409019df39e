"""What somebody chose for their pages, and its SQL."""

from sqlalchemy import Column, Connection, PrimaryKeyConstraint, String, Table, insert, select, update

from millpond.kernel.database import metadata
from millpond.ui.theme import Theme

preferences = Table(
    "ui_preferences",
    metadata,
    Column("principal_id", String(36), nullable=False),
    Column("theme", String(10), nullable=False),
    PrimaryKeyConstraint("principal_id"),
)


def find_theme(connection: Connection, principal_id: str) -> Theme:
    """The theme that a principal chose; AUTO when none."""
    value = connection.execute(select(preferences.c.theme).where(preferences.c.principal_id == principal_id)).scalar()
    return Theme(value) if value else Theme.AUTO


def save_theme(connection: Connection, principal_id: str, theme: Theme) -> None:
    """Keep a principal's theme; the caller's transaction writes."""
    changed = update(preferences).where(preferences.c.principal_id == principal_id).values(theme=theme.value)
    if connection.execute(changed).rowcount == 0:
        connection.execute(insert(preferences).values(principal_id=principal_id, theme=theme.value))
