"""Routes of canaries: all our own."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.serving.canary.service import CanaryService
from millpond.serving.canary.wire import CanaryInput, canary_json

_CANARY = "/api/millpond/serving-endpoints/{name}/canary"
_Me = Annotated[Principal, Depends(current_principal)]


def router(service: CanaryService) -> APIRouter:
    """All of them."""
    routes = APIRouter()

    @routes.post(_CANARY)
    def begin(me: _Me, name: str, body: CanaryInput) -> dict[str, Any]:
        return {"canary": canary_json(service.begin(me, name, body.asked()))}

    @routes.get(_CANARY)
    def get(me: _Me, name: str) -> dict[str, Any]:
        return {"canary": canary_json(service.get(me, name))}

    @routes.post(_CANARY + "/pause")
    def pause(me: _Me, name: str) -> dict[str, Any]:
        return {"canary": canary_json(service.pause(me, name))}

    @routes.post(_CANARY + "/resume")
    def resume(me: _Me, name: str) -> dict[str, Any]:
        return {"canary": canary_json(service.resume(me, name))}

    @routes.post(_CANARY + "/promote")
    def promote(me: _Me, name: str) -> dict[str, Any]:
        return {"canary": canary_json(service.promote(me, name))}

    @routes.post(_CANARY + "/abort")
    def abort(me: _Me, name: str) -> dict[str, Any]:
        return {"canary": canary_json(service.abort(me, name))}

    return routes
