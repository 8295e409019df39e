"""Labels and explanations of predictions."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.inference_tables.predictions import PredictionService
from millpond.inference_tables.wire import LabelsInput, explanation_json

_ENDPOINT = "/api/millpond/serving-endpoints/{name}"
_Me = Annotated[Principal, Depends(current_principal)]


def router(service: PredictionService) -> APIRouter:
    """All routes of the room."""
    routes = APIRouter()

    @routes.post(_ENDPOINT + "/labels")
    def label(me: _Me, name: str, body: LabelsInput) -> dict[str, Any]:
        return {"accepted": service.label(me, name, body.all())}

    @routes.get(_ENDPOINT + "/predictions/{request_id}")
    def explain(me: _Me, name: str, request_id: str) -> dict[str, Any]:
        return explanation_json(service.explain(me, name, request_id))

    return routes
