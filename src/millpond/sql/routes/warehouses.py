"""The SQL warehouses API."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.kernel.errors import NotImplementedHere
from millpond.sql.domain import Warehouse
from millpond.sql.warehouses import WarehouseService
from millpond.sql.wire import CONFIG, WarehouseInput, data_source_json, warehouse_json

_API = "/api/2.0/sql/warehouses"
_CONFIG = "/api/2.0/sql/config/warehouses"
_Me = Annotated[Principal, Depends(current_principal)]


def add(routes: APIRouter, service: WarehouseService, public_url: str | None) -> None:
    """Warehouses, their configuration, and data sources."""

    def shown(warehouse: Warehouse, request: Request) -> dict[str, Any]:
        return warehouse_json(warehouse, service.count_sessions(warehouse), public_url or str(request.base_url))

    @routes.post(_API)
    def create(me: _Me, body: WarehouseInput) -> dict[str, Any]:
        return {"id": service.create(me, body.spec()).id}

    @routes.get(_API)
    def list_all(me: _Me, request: Request) -> dict[str, Any]:
        return {"warehouses": [shown(warehouse, request) for warehouse in service.list_all(me)]}

    @routes.get(_API + "/{warehouse_id}")
    def get(me: _Me, warehouse_id: str, request: Request) -> dict[str, Any]:
        return shown(service.get(me, warehouse_id), request)

    @routes.post(_API + "/{warehouse_id}/edit")
    def edit(me: _Me, warehouse_id: str, body: WarehouseInput) -> dict[str, Any]:
        service.edit(me, warehouse_id, body.change)
        return {}

    @routes.post(_API + "/{warehouse_id}/start")
    def start(me: _Me, warehouse_id: str) -> dict[str, Any]:
        service.start(me, warehouse_id)
        return {}

    @routes.post(_API + "/{warehouse_id}/stop")
    def stop(me: _Me, warehouse_id: str) -> dict[str, Any]:
        service.stop(me, warehouse_id)
        return {}

    @routes.delete(_API + "/{warehouse_id}")
    def delete(me: _Me, warehouse_id: str) -> dict[str, Any]:
        service.delete(me, warehouse_id)
        return {}

    @routes.get(_CONFIG)
    def get_config(_me: _Me) -> dict[str, Any]:
        return CONFIG

    @routes.put(_CONFIG)
    def set_config(_me: _Me) -> None:
        raise NotImplementedHere("This Millpond has no workspace-wide configuration of warehouses; set it on each.")

    @routes.get("/api/2.0/preview/sql/data_sources")
    def data_sources(me: _Me) -> list[dict[str, Any]]:
        return [data_source_json(warehouse) for warehouse in service.list_all(me)]
