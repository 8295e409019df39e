"""Who belongs to what: memberships, nested groups, and the administrators, which follow from them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CTE, Connection, Select, bindparam, delete, insert, literal, select, true

from millpond.identity.domain import ADMINS, USERS, Account, PrincipalKind, Related
from millpond.identity.store.grants import epochs
from millpond.identity.store.tables import memberships, principals

_MAX_MEMBERS_READ = 100_000
_MAX_IN_STATEMENT = 1000


def lock(connection: Connection) -> None:
    """Wait for other changes of the directory, so that the checks after a change see all of them."""
    connection.execute(select(principals.c.id).where(principals.c.name_key == ADMINS).with_for_update())


@dataclass(frozen=True, kw_only=True)
class Standing:
    """An account with what decides what it may do."""

    account: Account
    groups: Mapping[str, str]
    """Names by id of all its groups, direct or through another; without `users`."""
    epoch: int
    """Of all grants, as they are."""


def standing_of(connection: Connection, account: Account) -> Standing:
    """The account's standing now."""
    rows = connection.execute(_ABOVE, {"member": int(account.id)}).all()
    groups = {str(row.id): row.name for row in rows if row.id is not None}
    return Standing(account=account, groups=groups, epoch=rows[0].epoch)


def above_all(direct: Select[tuple[int]]) -> CTE:
    """The ids (`group_id`) of some groups and of every group that they are in."""
    above = direct.cte("above", recursive=True)
    return above.union(select(memberships.c.group_id).join(above, memberships.c.member_id == above.c.group_id))


def _above() -> Select[Any]:
    above = above_all(select(memberships.c.group_id).where(memberships.c.member_id == bindparam("member")))
    group = select(principals.c.id, principals.c.name).join(above, principals.c.id == above.c.group_id).subquery()
    return select(epochs.c.epoch, group.c.id, group.c.name).outerjoin(group, true())


_ABOVE = _above()  # built once


def ids_above(connection: Connection, principal_id: str) -> frozenset[str]:
    """The ids of all groups of an account, `users` among them."""
    above = above_all(select(memberships.c.group_id).where(memberships.c.member_id == int(principal_id)))
    everybody = select(principals.c.id).where(principals.c.name_key == USERS)
    return frozenset(map(str, connection.execute(select(above.c.group_id).union(everybody)).scalars()))


def contains(connection: Connection, outer_id: str, inner_id: str) -> bool:
    """Whether a group is, or holds at any depth, another principal."""
    below = select(literal(int(outer_id), principals.c.id.type).label("id")).cte(recursive=True)
    below = below.union(select(memberships.c.member_id).join(below, memberships.c.group_id == below.c.id))
    return connection.execute(select(below.c.id).where(below.c.id == int(inner_id))).first() is not None


def names_below(connection: Connection, group_id: str) -> frozenset[str]:
    """The names of all users and service principals in a group, directly or through another."""
    below = select(memberships.c.member_id).where(memberships.c.group_id == int(group_id)).cte(recursive=True)
    below = below.union(select(memberships.c.member_id).join(below, memberships.c.group_id == below.c.member_id))
    query = select(principals.c.name).join(below, principals.c.id == below.c.member_id)
    return frozenset(connection.execute(query.where(principals.c.kind != PrincipalKind.GROUP.value)).scalars())


def has_administrator(connection: Connection) -> bool:
    """Whether some active user is an administrator."""
    below = select(principals.c.id).where(principals.c.name_key == ADMINS).cte(recursive=True)
    below = below.union(select(memberships.c.member_id).join(below, memberships.c.group_id == below.c.id))
    query = select(principals.c.id).join(below, principals.c.id == below.c.id)
    query = query.where(principals.c.kind == PrincipalKind.USER.value, principals.c.active).limit(1)
    return connection.execute(query).first() is not None


def groups_of(connection: Connection, ids: Iterable[str]) -> dict[str, tuple[Related, ...]]:
    """The direct groups of each of some principals; all but groups are in `users`."""
    query = (
        select(memberships.c.member_id, principals)
        .join(principals, principals.c.id == memberships.c.group_id)
        .where(memberships.c.member_id.in_([int(value) for value in ids]))
        .order_by(principals.c.id)
    )
    found = defaultdict(list)
    for row in connection.execute(query):
        found[str(row.member_id)].append(_related(row))
    return {key: tuple(value) for key, value in found.items()}


def members_of(connection: Connection, ids: Iterable[str]) -> dict[str, tuple[Related, ...]]:
    """The direct members of each of some groups other than `users`."""
    query = (
        select(memberships.c.group_id, principals)
        .join(principals, principals.c.id == memberships.c.member_id)
        .where(memberships.c.group_id.in_([int(value) for value in ids]))
        .order_by(principals.c.id)
        .limit(_MAX_MEMBERS_READ)
    )
    found = defaultdict(list)
    for row in connection.execute(query):
        found[str(row.group_id)].append(_related(row))
    return {key: tuple(value) for key, value in found.items()}


def everybody(connection: Connection) -> tuple[Related, ...]:
    """The members of `users`: every user and service principal."""
    query = select(principals).where(principals.c.kind != PrincipalKind.GROUP.value).order_by(principals.c.id)
    return tuple(_related(row) for row in connection.execute(query.limit(_MAX_MEMBERS_READ)))


def group_named(connection: Connection, name: str) -> Related:
    """A built-in group."""
    return _related(connection.execute(select(principals).where(principals.c.name_key == name)).one())


def join(connection: Connection, group_id: str, member_ids: Iterable[str]) -> None:
    """Add members that are not in the group yet."""
    rows = [{"group_id": int(group_id), "member_id": int(member_id)} for member_id in member_ids]
    if rows:
        connection.execute(insert(memberships), rows)


def leave(connection: Connection, group_id: str, member_ids: Iterable[str]) -> None:
    """Take members out of a group."""
    numbers = [int(value) for value in member_ids]
    for start in range(0, len(numbers), _MAX_IN_STATEMENT):
        some = memberships.c.member_id.in_(numbers[start : start + _MAX_IN_STATEMENT])
        connection.execute(delete(memberships).where(memberships.c.group_id == int(group_id), some))


def _related(row: object) -> Related:
    return Related(
        id=str(row.id),  # type: ignore[attr-defined]  # a row of `principals`
        name=row.name,  # type: ignore[attr-defined]
        display_name=row.display_name,  # type: ignore[attr-defined]
        kind=PrincipalKind(row.kind),  # type: ignore[attr-defined]
    )
