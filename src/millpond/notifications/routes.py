"""The notification destinations API, as `databricks-sdk` calls it."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.notifications.service import DestinationService
from millpond.notifications.wire import DestinationInput, destination_json

_PATH = "/api/2.0/notification-destinations"
_Me = Annotated[Principal, Depends(current_principal)]


def destinations_router(service: DestinationService) -> APIRouter:
    """All of it."""
    router = APIRouter()

    @router.post(_PATH)
    def create(me: _Me, body: DestinationInput) -> dict[str, Any]:
        return destination_json(service.create(me, body.given), whole=True)

    @router.get(_PATH)
    def list_all(me: _Me, page_size: int | None = None, page_token: str | None = None) -> dict[str, Any]:
        page = service.list(me, limit=page_size, page_token=page_token)
        told = [destination_json(each, whole=False) for each in page.items]
        return {"results": told, "next_page_token": page.next_page_token}

    @router.get(f"{_PATH}/{{destination_id}}")
    def get(me: _Me, destination_id: str) -> dict[str, Any]:
        return destination_json(service.get(me, destination_id), whole=me.is_admin)

    @router.patch(f"{_PATH}/{{destination_id}}")
    def update(me: _Me, destination_id: str, body: DestinationInput) -> dict[str, Any]:
        return destination_json(service.update(me, destination_id, body.given), whole=True)

    @router.delete(f"{_PATH}/{{destination_id}}")
    def delete(me: _Me, destination_id: str) -> dict[str, Any]:
        service.delete(me, destination_id)
        return {}

    return router
