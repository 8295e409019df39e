"""Routes of parity checks: all our own."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.parity.service import ParityService
from millpond.parity.wire import BeginBody, check_json, seen_json

_CHECKS = "/api/millpond/parity-checks"
_Me = Annotated[Principal, Depends(current_principal)]


def parity_router(service: ParityService) -> APIRouter:
    """All of them."""
    router = APIRouter()

    @router.post(_CHECKS)
    def begin(me: _Me, body: BeginBody) -> dict[str, Any]:
        return {"check": check_json(service.begin(me, body.subject, body.replay))}

    @router.get(_CHECKS)
    def list_all(me: _Me, subject: str) -> dict[str, Any]:
        return {"checks": [check_json(each) for each in service.list(me, subject)]}

    @router.get(_CHECKS + "/{check_id}")
    def get(me: _Me, check_id: str) -> dict[str, Any]:
        return {"check": seen_json(service.get(me, check_id))}

    return router
