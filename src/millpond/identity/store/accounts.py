"""Users, service principals and groups: read, found, added, changed, removed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from millpond.identity.domain import Account, Draft, PrincipalKind, Profile, name_key
from millpond.identity.filters import Filter, SortKey
from millpond.identity.store.conditions import condition, order
from millpond.identity.store.tables import principals, row_id, workspace

_MAX_IN_STATEMENT = 1000


def account_of(row: Any) -> Account:
    """The account of a row of `principals`."""
    return Account(
        id=str(row.id),
        name=row.name,
        kind=PrincipalKind(row.kind),
        display_name=row.display_name,
        active=row.active,
        external_id=row.external_id,
        profile=_profile_of(row.profile),
        created_at=row.created_at,
    )


def _profile_of(stored: Mapping[str, Any]) -> Profile:
    return Profile(
        given_name=stored.get("given_name"),
        family_name=stored.get("family_name"),
        emails=tuple(stored.get("emails", ())),
        entitlements=tuple(stored.get("entitlements", ())),
        roles=tuple(stored.get("roles", ())),
    )


def find(connection: Connection, principal_id: str, kind: PrincipalKind | None = None) -> Account | None:
    """The account with an id (of this kind, where given)."""
    number = row_id(principal_id)
    if number is None:
        return None
    query = select(principals).where(principals.c.id == number)
    if kind is not None:
        query = query.where(principals.c.kind == kind.value)
    row = connection.execute(query).first()
    return account_of(row) if row else None


def find_by_name(connection: Connection, name: str) -> Account | None:
    """The account with a name, without regard to case."""
    if "\0" in name:  # which PostgreSQL refuses, and no name has
        return None
    row = connection.execute(select(principals).where(principals.c.name_key == name_key(name))).first()
    return account_of(row) if row else None


def find_many(connection: Connection, ids: Sequence[str]) -> dict[str, Account]:
    """The accounts with these ids, by id; those that do not exist are left out."""
    numbers = [number for number in map(row_id, ids) if number is not None]
    found = {}
    for start in range(0, len(numbers), _MAX_IN_STATEMENT):
        some = principals.c.id.in_(numbers[start : start + _MAX_IN_STATEMENT])
        found.update({str(row.id): account_of(row) for row in connection.execute(select(principals).where(some))})
    return found


def page(
    connection: Connection, kind: PrincipalKind, wanted: Filter | None, sort: SortKey | None, *, offset: int, limit: int
) -> tuple[int, tuple[Account, ...]]:
    """How many accounts of a kind pass the filter, and those of one page."""
    clauses: list[ColumnElement[bool]] = [principals.c.kind == kind.value]
    if wanted is not None:
        clauses.append(condition(wanted, kind))
    total = connection.execute(select(func.count()).select_from(principals).where(*clauses)).scalar_one()
    query = select(principals).where(*clauses).order_by(*order(sort, kind), principals.c.id)
    rows = connection.execute(query.offset(offset).limit(limit)) if limit and offset < total else ()
    return total, tuple(account_of(row) for row in rows)


def add(connection: Connection, kind: PrincipalKind, draft: Draft, now: datetime) -> Account:
    """Add an account without its groups and members.

    Raises sqlalchemy's IntegrityError when the name is taken.
    """
    values = {"kind": kind.value, "created_at": now, **_values(draft)}
    return account_of(connection.execute(insert(principals).values(values).returning(principals)).one())


def change(connection: Connection, principal_id: str, draft: Draft) -> None:
    """Replace an account's own fields, not its groups, members and password."""
    connection.execute(update(principals).where(principals.c.id == int(principal_id)).values(_values(draft)))


def remove(connection: Connection, principal_id: str) -> None:
    """Remove an account with its memberships and credentials."""
    connection.execute(delete(principals).where(principals.c.id == int(principal_id)))


def password_hash(connection: Connection, principal_id: str) -> str | None:
    """The stored hash of a password."""
    query = select(principals.c.password_hash).where(principals.c.id == int(principal_id))
    value: str | None = connection.execute(query).scalar()
    return value


def set_password_hash(connection: Connection, principal_id: str, value: str | None) -> None:
    """Replace the stored hash of a password."""
    connection.execute(update(principals).where(principals.c.id == int(principal_id)).values(password_hash=value))


def has_users(connection: Connection) -> bool:
    """Whether there is any user."""
    query = select(principals.c.id).where(principals.c.kind == PrincipalKind.USER.value).limit(1)
    return connection.execute(query).first() is not None


def workspace_id(connection: Connection) -> int:
    """The number of this workspace, drawn when its database was made."""
    return int(connection.execute(select(workspace.c.workspace_id)).scalar_one())


def _values(draft: Draft) -> dict[str, Any]:
    profile = {key: value for key, value in asdict(draft.profile).items() if value}
    return {
        "name": draft.name,
        "name_key": name_key(draft.name),
        "display_name": draft.display_name,
        "display_key": name_key(draft.display_name),
        "active": draft.active,
        "external_id": draft.external_id,
        "profile": profile,
    }
