"""Who owns the experiments, workspace models and items of the default experiment: this room's table and its SQL."""

from sqlalchemy import Column, Connection, Index, Select, String, Table, delete, insert, select, update

from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import UtcDateTime, metadata
from millpond.tracking.domain import Owned

owners = Table(
    "tracking_owners",
    metadata,
    Column("kind", String(20), primary_key=True),
    Column("object_id", String(256), primary_key=True),
    Column("owner", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Index("ix_tracking_owners_owner_kind", "owner", "kind"),
)


def record_owner(connection: Connection, kind: Owned, object_id: str, owner: str) -> None:
    """The object is new and has this owner."""
    connection.execute(insert(owners).values(kind=kind.value, object_id=object_id, owner=owner, created_at=utc_now()))


def find_owner(connection: Connection, kind: Owned, object_id: str) -> str | None:
    """The owner's name, or None when nobody is recorded."""
    query = select(owners.c.owner).where(owners.c.kind == kind.value, owners.c.object_id == object_id)
    return connection.execute(query).scalar_one_or_none()


def rename_owned(connection: Connection, kind: Owned, object_id: str, new_id: str) -> None:
    """The object has another name now."""
    connection.execute(
        update(owners).where(owners.c.kind == kind.value, owners.c.object_id == object_id).values(object_id=new_id)
    )


def forget_owner(connection: Connection, kind: Owned, object_id: str) -> None:
    """The object is gone."""
    connection.execute(delete(owners).where(owners.c.kind == kind.value, owners.c.object_id == object_id))


def owned_ids(kind: Owned, principal: Principal) -> Select[tuple[str]]:
    """The ids of what a principal or one of its groups owns, to be used inside a query."""
    names = (principal.name, *principal.groups)
    return select(owners.c.object_id).where(owners.c.kind == kind.value, owners.c.owner.in_(names))
