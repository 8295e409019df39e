"""The report over HTTP, which is ours alone."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.waste.service import DEFAULT_DAYS, Waste, WasteService

_Me = Annotated[Principal, Depends(current_principal)]


def waste_router(service: WasteService) -> APIRouter:
    """All of it."""
    router = APIRouter()

    @router.get("/api/millpond/waste")
    def report(me: _Me, days: int = DEFAULT_DAYS) -> dict[str, Any]:
        return {"days": days, "waste": [_json(each) for each in service.report(me, days=days)]}

    return router


def _json(found: Waste) -> dict[str, Any]:
    used = [{"usage_unit": resource.unit, "usage_quantity": amount} for resource, amount in found.used.items()]
    return {"kind": found.kind, "id": found.id, "name": found.name, "owner": found.owner, "why": found.why,
            "advice": found.advice, "used": used}  # fmt: skip
