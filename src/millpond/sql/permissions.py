"""Warehouses, saved queries and alerts as objects with permission levels."""

from sqlalchemy import Connection

from millpond.identity.access import Securable
from millpond.identity.permissions import ObjectType
from millpond.kernel.errors import NotFound
from millpond.sql.alerts import store as alerts
from millpond.sql.store import queries, warehouses


def permission_types() -> tuple[ObjectType, ...]:
    """The types of this room, by the ids of their objects."""
    return (
        ObjectType(
            path="warehouses", name="warehouses", kind="warehouse", find=_find_warehouse, give=warehouses.set_creator
        ),
        ObjectType(path="queries", name="query", kind="query", find=_find_query),
        *(ObjectType(path=path, name="alert", kind="alert", find=_find_alert) for path in ("alerts", "alertsv2")),
    )


def _find_warehouse(connection: Connection, warehouse_id: str) -> Securable:
    warehouse = warehouses.find(connection, warehouse_id)
    if warehouse is None:
        raise NotFound(f"Warehouse '{warehouse_id[:80]}' does not exist.")
    return warehouse.securable


def _find_query(connection: Connection, query_id: str) -> Securable:
    query = queries.find(connection, query_id)
    if query is None:
        raise NotFound(f"Query '{query_id[:80]}' does not exist.")
    return query.securable


def _find_alert(connection: Connection, alert_id: str) -> Securable:
    alert = alerts.find(connection, alert_id)
    if alert is None:
        raise NotFound(f"Alert '{alert_id[:80]}' does not exist.")
    return alert.securable
