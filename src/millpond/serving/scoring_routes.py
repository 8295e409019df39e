"""Predictions for whoever has many rows: what a name means, and versions asked by their URI."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from millpond.catalog.domain import ObjectName
from millpond.engine.reader import TableReader
from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.serving.by_uri import ModelsByUri, Target
from millpond.serving.frames import ARROW
from millpond.serving.routes import answer_of, body_of

_Me = Annotated[Principal, Depends(current_principal)]


def scoring_router(models: ModelsByUri, tables: TableReader) -> APIRouter:
    """Everything under `/api/millpond/scoring`."""
    routes = APIRouter()

    @routes.get("/api/millpond/scoring/target")
    def find(me: _Me, name: str) -> dict[str, Any]:
        return _target_json(models.find(me, name))

    @routes.post("/api/millpond/scoring/invocations")
    async def invoke(me: _Me, request: Request, model: str) -> Response:
        reply = await models.ask(
            me,
            model,
            content_type=request.headers.get("content-type", ""),
            body=await body_of(request),
            accept=ARROW if ARROW in request.headers.get("accept", "") else None,
        )
        return answer_of(reply)

    @routes.get("/api/millpond/scoring/transactions")
    def transactions(me: _Me, table: str, application: Annotated[list[str], Query(max_length=1000)]) -> dict[str, Any]:
        found = tables.transactions(me, ObjectName.of_full_name(table), application)
        return {"version": found.version, "transactions": dict(found.found)}

    return routes


def _target_json(target: Target) -> dict[str, Any]:
    return {
        "name": target.name,
        "path": target.path,
        "model": target.model,
        "version": target.version,
        "inputs": list(target.shape.inputs),
        "returns": target.shape.returns,
        "has_features": target.has_features,
        "node": {"kind": target.node.kind.value, "key": target.node.key, "name": target.node.name},
    }
