"""The workspace permissions API, as the Databricks SDK calls it for each type of object."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.identity.permissions import PermissionService
from millpond.identity.wire.permissions import PermissionsInput, levels_json, permissions_json

_OBJECT = "/api/2.0/permissions/{object_type}/{object_id:path}"
_Me = Annotated[Principal, Depends(current_principal)]


def permissions_router(service: PermissionService) -> APIRouter:
    """Get, set, update, and the levels that there are."""
    router = APIRouter()

    @router.get(_OBJECT + "/permissionLevels")
    def levels(me: _Me, object_type: str, object_id: str) -> dict[str, Any]:
        object_type, object_id = _named(object_type, object_id)
        return levels_json(service.levels(me, object_type, object_id))

    @router.get(_OBJECT)
    def get(me: _Me, object_type: str, object_id: str) -> dict[str, Any]:
        return permissions_json(service.get(me, *_named(object_type, object_id)))

    @router.put(_OBJECT)
    def replace(me: _Me, object_type: str, object_id: str, body: PermissionsInput) -> dict[str, Any]:
        return _changed(me, object_type, object_id, body, only=True)

    @router.patch(_OBJECT)
    def update(me: _Me, object_type: str, object_id: str, body: PermissionsInput) -> dict[str, Any]:
        return _changed(me, object_type, object_id, body, only=False)

    def _changed(
        me: Principal, object_type: str, object_id: str, body: PermissionsInput, *, only: bool
    ) -> dict[str, Any]:
        wanted = [entry.change for entry in body.access_control_list]
        return permissions_json(service.change(me, *_named(object_type, object_id), wanted, only=only))

    return router


def _named(object_type: str, object_id: str) -> tuple[str, str]:
    """Type and id, also where a client writes `sql/warehouses` and `sql/queries`."""
    inner, slash, rest = object_id.partition("/")
    return (inner, rest) if object_type == "sql" and slash else (object_type, object_id)
