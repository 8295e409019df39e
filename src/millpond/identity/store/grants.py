"""What was granted to whom, and the epoch that each change of it moves on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, ForeignKey, Index, Integer, Select, String, Table, bindparam, delete, select
from sqlalchemy import update as sql_update
from sqlalchemy.dialects import postgresql, sqlite

from millpond.identity.domain import USERS, PrincipalKind
from millpond.identity.privileges import Privilege
from millpond.identity.store.tables import principals
from millpond.kernel.database import BigId, UtcDateTime, metadata

grants = Table(
    "identity_grants",
    metadata,
    Column("securable_id", String(300), primary_key=True),
    Column("grantee_id", BigId, ForeignKey("identity_principals.id", ondelete="CASCADE"), primary_key=True),
    Column("privilege", String(40), primary_key=True),
    Column("securable_kind", String(40), nullable=False),
    Column("granted_by", String(255), nullable=False),
    Column("granted_at", UtcDateTime, nullable=False),
    Index("ix_identity_grants_grantee_id", "grantee_id"),
)

epochs = Table(
    "identity_grants_epoch",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("epoch", BigId, nullable=False),
)
"""One row, with id 1."""

EPOCH = select(epochs.c.epoch).scalar_subquery()
"""The epoch, as a column of another query."""


@dataclass(frozen=True, kw_only=True)
class GrantRow:
    """One privilege that somebody has on a securable."""

    securable_id: str
    kind: str
    grantee_id: str
    grantee: str
    grantee_kind: PrincipalKind
    grantee_display_name: str
    privilege: Privilege


def held(connection: Connection, grantee_ids: Iterable[str]) -> Sequence[tuple[str, str, Privilege]]:
    """Kind and id of securables, and the privilege, that these principals and `users` have."""
    rows = connection.execute(_HELD, {"grantees": [int(each) for each in grantee_ids]})
    return [(row.securable_kind, row.securable_id, Privilege(row.privilege)) for row in rows]


def on(connection: Connection, securable_ids: Sequence[str]) -> Sequence[GrantRow]:
    """All grants on these securables, by the grantee's name."""
    rows = connection.execute(_ON, {"securables": list(securable_ids)})
    return [
        GrantRow(
            securable_id=row.securable_id,
            kind=row.securable_kind,
            grantee_id=str(row.grantee_id),
            grantee=row.name,
            grantee_kind=PrincipalKind(row.kind),
            grantee_display_name=row.display_name,
            privilege=Privilege(row.privilege),
        )
        for row in rows
    ]


def lock(connection: Connection) -> None:
    """Move the epoch on, and wait for other changes of grants until this transaction ends."""
    connection.execute(sql_update(epochs).values(epoch=epochs.c.epoch + 1))


def add(
    connection: Connection, *, kind: str, securable_id: str, grantee_id: str, privileges: Iterable[Privilege],
    by: str, now: datetime,
) -> None:  # fmt: skip
    """Grant; what is granted already stays as it is."""
    values = [
        {"securable_id": securable_id, "grantee_id": int(grantee_id), "privilege": privilege.value,
         "securable_kind": kind, "granted_by": by, "granted_at": now}
        for privilege in privileges
    ]  # fmt: skip
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    if values:
        connection.execute(insert(grants).on_conflict_do_nothing(), values)


def remove(
    connection: Connection, *, securable_id: str, grantee_id: str, privileges: Iterable[Privilege]
) -> frozenset[Privilege]:
    """Revoke; returns what was granted."""
    names = [privilege.value for privilege in privileges]
    which = (grants.c.securable_id == securable_id, grants.c.grantee_id == int(grantee_id))
    query = delete(grants).where(*which, grants.c.privilege.in_(names)).returning(grants.c.privilege)
    return frozenset(map(Privilege, connection.execute(query).scalars()))


def granted_among(connection: Connection, securable_ids: Sequence[str]) -> list[str]:
    """Those of these securables that have grants."""
    found: list[str] = []
    for start in range(0, len(securable_ids), _MAX_IN_STATEMENT):
        some = grants.c.securable_id.in_(securable_ids[start : start + _MAX_IN_STATEMENT])
        found += connection.execute(select(grants.c.securable_id).where(some).distinct()).scalars()
    return found


def forget(connection: Connection, securable_id: str) -> None:
    """Remove all grants on a securable."""
    connection.execute(delete(grants).where(grants.c.securable_id == securable_id))


def rename(connection: Connection, old: str, new: str) -> None:
    """Let the grants on one securable be on another."""
    connection.execute(sql_update(grants).where(grants.c.securable_id == old).values(securable_id=new))


def _held() -> Select[Any]:
    everybody = select(principals.c.id).where(principals.c.name_key == USERS).scalar_subquery()
    mine = grants.c.grantee_id.in_(bindparam("grantees", expanding=True))
    return select(grants.c.securable_kind, grants.c.securable_id, grants.c.privilege).where(
        mine | (grants.c.grantee_id == everybody)
    )


_MAX_IN_STATEMENT = 1000
_HELD = _held()
_ON = (
    select(grants, principals.c.name, principals.c.kind, principals.c.display_name)
    .join(principals, principals.c.id == grants.c.grantee_id)
    .where(grants.c.securable_id.in_(bindparam("securables", expanding=True)))
    .order_by(principals.c.name_key, grants.c.privilege)
)
