"""Warehouses: read, added, changed, removed."""

from typing import Any

from sqlalchemy import Column, Connection, Integer, String, Table, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from millpond.kernel.database import Json, UtcDateTime, metadata
from millpond.kernel.errors import AlreadyExists
from millpond.sql.domain import Warehouse, WarehouseSpec, WarehouseState

MAX_WAREHOUSES = 1000

warehouses = Table(
    "sql_warehouses",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("creator", String(255), nullable=False),
    Column("state", String(20), nullable=False),
    Column("cluster_size", String(20), nullable=False),
    Column("max_clusters", Integer, nullable=False),
    Column("auto_stop_mins", Integer, nullable=False),
    Column("statement_timeout_s", Integer, nullable=False),
    Column("details", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)


def find(connection: Connection, warehouse_id: str) -> Warehouse | None:
    """The warehouse with an id."""
    if "\0" in warehouse_id:  # which PostgreSQL refuses, and no id has
        return None
    row = connection.execute(select(warehouses).where(warehouses.c.id == warehouse_id)).first()
    return _warehouse(row) if row else None


def list_all(connection: Connection) -> tuple[Warehouse, ...]:
    """All warehouses by name, at most MAX_WAREHOUSES."""
    rows = connection.execute(select(warehouses).order_by(warehouses.c.name).limit(MAX_WAREHOUSES))
    return tuple(map(_warehouse, rows))


def add(connection: Connection, warehouse: Warehouse) -> None:
    """Add one. Raises AlreadyExists."""
    values = {
        "id": warehouse.id,
        "creator": warehouse.creator,
        "state": warehouse.state.value,
        "created_at": warehouse.created_at,
    }
    _naming(connection, insert(warehouses).values(**values, **_values(warehouse.spec)), warehouse.spec.name)


def change(connection: Connection, warehouse_id: str, spec: WarehouseSpec) -> bool:
    """Give a warehouse another specification; False when it is gone. Raises AlreadyExists for its name."""
    changed = update(warehouses).where(warehouses.c.id == warehouse_id).values(**_values(spec))
    return bool(_naming(connection, changed, spec.name).rowcount)


def set_creator(connection: Connection, warehouse_id: str, name: str) -> None:
    """Give a warehouse to somebody."""
    connection.execute(update(warehouses).where(warehouses.c.id == warehouse_id).values(creator=name))


def set_state(connection: Connection, warehouse_id: str, state: WarehouseState) -> bool:
    """Start or stop a warehouse; False when it was so, or is gone."""
    changed = (
        update(warehouses)
        .where(warehouses.c.id == warehouse_id, warehouses.c.state != state.value)
        .values(state=state.value)
    )
    return bool(connection.execute(changed).rowcount)


def remove(connection: Connection, warehouse_id: str) -> bool:
    """Remove a warehouse; False when it is gone."""
    return bool(connection.execute(delete(warehouses).where(warehouses.c.id == warehouse_id)).rowcount)


def _naming(connection: Connection, statement: Any, name: str) -> Any:
    try:
        return connection.execute(statement)
    except IntegrityError as error:
        raise AlreadyExists(f"There is a warehouse named '{name}' already; choose another name.") from error


def _values(spec: WarehouseSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "cluster_size": spec.cluster_size,
        "max_clusters": spec.max_clusters,
        "auto_stop_mins": spec.auto_stop_mins,
        "statement_timeout_s": spec.statement_timeout_s,
        "details": dict(spec.details),
    }


def _warehouse(row: Any) -> Warehouse:
    return Warehouse(
        id=row.id,
        creator=row.creator,
        state=WarehouseState(row.state),
        created_at=row.created_at,
        spec=WarehouseSpec(
            name=row.name,
            cluster_size=row.cluster_size,
            max_clusters=row.max_clusters,
            auto_stop_mins=row.auto_stop_mins,
            statement_timeout_s=row.statement_timeout_s,
            details=row.details,
        ),
    )
