"""Routes of replays: all our own."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.replay.service import ReplayService
from millpond.replay.wire import BeginBody, replay_json, seen_json

_REPLAYS = "/api/millpond/serving-endpoints/{name}/replays"
_Me = Annotated[Principal, Depends(current_principal)]


def router(service: ReplayService) -> APIRouter:
    """All of them."""
    routes = APIRouter()

    @routes.post("/api/2.0/serving-endpoints/{name}/replay")
    @routes.post(_REPLAYS)
    def begin(me: _Me, name: str, body: BeginBody) -> dict[str, Any]:
        return {"replay": replay_json(service.begin(me, name, body.model, body.asked))}

    @routes.get(_REPLAYS)
    def list_all(me: _Me, name: str) -> dict[str, Any]:
        return {"replays": [replay_json(each) for each in service.list(me, name)]}

    @routes.get(_REPLAYS + "/{replay_id}")
    def get(me: _Me, name: str, replay_id: str) -> dict[str, Any]:
        return {"replay": seen_json(service.get(me, name, replay_id))}

    @routes.post(_REPLAYS + "/{replay_id}/cancel")
    def cancel(me: _Me, name: str, replay_id: str) -> dict[str, Any]:
        return {"replay": replay_json(service.cancel(me, name, replay_id))}

    return routes
