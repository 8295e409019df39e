"""Whose statements somebody may see: one's own, those in warehouses that one may monitor, an administrator's all."""

from typing import Any

from sqlalchemy import Connection

from millpond.identity.access import Act, allows
from millpond.identity.domain import Principal
from millpond.sql.store import warehouses


def seen_by(connection: Connection, principal: Principal) -> dict[str, Any]:
    """The fields of a HistoryFilter that say so."""
    if principal.is_admin:
        return {}
    return {"seen_by": principal.id, "seen_in": monitored(connection, principal)}


def monitored(connection: Connection, principal: Principal) -> tuple[str, ...]:
    """Warehouses in which the principal may see what others run."""
    found = warehouses.list_all(connection)
    return tuple(warehouse.id for warehouse in found if allows(principal, Act.MONITOR, warehouse.securable))
