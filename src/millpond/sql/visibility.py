"""Whose statements somebody may see: one's own, those in warehouses that one may monitor, an administrator's all; and
which queries and alerts: those that one owns, and those of which one has grants."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from millpond.identity.access import Act, allows
from millpond.identity.domain import Principal
from millpond.identity.privileges import levels
from millpond.sql.store import warehouses
from millpond.sql.store.queries import Reach


def seen_by(connection: Connection, principal: Principal) -> dict[str, Any]:
    """The fields of a HistoryFilter that say so."""
    if principal.is_admin:
        return {}
    return {"seen_by": principal.id, "seen_in": monitored(connection, principal)}


def monitored(connection: Connection, principal: Principal) -> tuple[str, ...]:
    """Warehouses in which the principal may see what others run."""
    found = warehouses.list_all(connection)
    return tuple(warehouse.id for warehouse in found if allows(principal, Act.MONITOR, warehouse.securable))


def reach_of(principal: Principal, kind: str, grant_id: Callable[[str], str]) -> Reach | None:
    """Which objects of a kind the principal may see; None for all. `grant_id` is under which one has grants."""
    if principal.is_admin:
        return None
    granted = {each for level in levels(kind) for each in principal.grants.ids(kind, level)}
    ids = frozenset(each.removeprefix(grant_id("")) for each in granted)
    return Reach(owners=frozenset({principal.name, *principal.groups}), ids=ids)
