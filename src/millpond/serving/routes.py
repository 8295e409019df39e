"""The serving-endpoints API and the invocations."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.kernel.errors import InvalidArgument, NotImplementedHere
from millpond.serving.domain import Endpoint
from millpond.serving.service import Reply, ServingService
from millpond.serving.wire import ConfigInput, CreateInput, TagsInput, detailed, summary, tags

MAX_REQUEST_BYTES = 16 << 20
_API = "/api/2.0/serving-endpoints"
_Me = Annotated[Principal, Depends(current_principal)]


def router(service: ServingService, *, base_url: str) -> APIRouter:
    """Everything under `/api/2.0/serving-endpoints` and `/serving-endpoints`."""
    routes = APIRouter()
    _add_management(routes, service, base_url)
    _add_reports(routes, service, base_url)
    _add_invocations(routes, service)
    return routes


def _add_management(routes: APIRouter, service: ServingService, base_url: str) -> None:
    def told(endpoint: Endpoint, me: Principal) -> dict[str, Any]:
        return detailed(endpoint, me, base_url, service.capture_states(endpoint))

    @routes.post(_API)
    def create(me: _Me, body: CreateInput) -> dict[str, Any]:
        config = body.check()
        endpoint = service.create_endpoint(
            me,
            body.name,
            entities=config.entities() or [],
            routes=config.routes(),
            description=body.description,
            tags={tag.key: tag.value for tag in body.tags},
            route_optimized=body.route_optimized,
            capture=config.capture(),
        )
        return told(endpoint, me)

    @routes.get(_API)
    def list_all(me: _Me) -> dict[str, Any]:
        return {"endpoints": [summary(endpoint) for endpoint in service.list_endpoints(me)]}

    @routes.get(_API + "/{name}")
    def get(me: _Me, name: str) -> dict[str, Any]:
        return told(service.get_endpoint(me, name), me)

    @routes.put(_API + "/{name}/config")
    def update_config(me: _Me, name: str, body: ConfigInput) -> dict[str, Any]:
        endpoint = service.update_config(
            me, name, entities=body.entities(), routes=body.routes(), capture=body.capture()
        )
        return told(endpoint, me)

    @routes.patch(_API + "/{name}/tags")
    def patch_tags(me: _Me, name: str, body: TagsInput) -> dict[str, Any]:
        added = {tag.key: tag.value for tag in body.add_tags}
        return {"tags": tags(service.patch_tags(me, name, add=added, delete=body.delete_tags))}

    @routes.delete(_API + "/{name}")
    def delete(me: _Me, name: str) -> dict[str, Any]:
        service.delete_endpoint(me, name)
        return {}

    @routes.put(_API + "/{name}/rate-limits")
    @routes.put(_API + "/{name}/ai-gateway")
    @routes.patch(_API + "/{name}/notifications")
    @routes.patch(_API + "/{name}/telemetry-config")
    def not_here(me: _Me, name: str, request: Request) -> None:
        service.get_endpoint(me, name)
        raise NotImplementedHere(f"This Millpond does not have {request.url.path.rsplit('/', 1)[1]} on endpoints.")


def _add_reports(routes: APIRouter, service: ServingService, base_url: str) -> None:
    @routes.get(_API + "/{name}/served-models/{served_model}/logs")
    def logs(me: _Me, name: str, served_model: str) -> dict[str, Any]:
        return {"logs": service.read_logs(me, name, served_model)}

    @routes.get(_API + "/{name}/served-models/{served_model}/build-logs")
    def build_logs(me: _Me, name: str, served_model: str) -> dict[str, Any]:
        return {"logs": service.read_build_log(me, name, served_model)}

    @routes.get(_API + "/{name}/metrics")
    def metrics(me: _Me, name: str) -> Response:
        return PlainTextResponse(service.export_metrics(me, name))

    @routes.get(_API + "/{name}/openapi")
    def openapi(me: _Me, name: str) -> dict[str, Any]:
        return service.describe_api(me, name, base_url)


def _add_invocations(routes: APIRouter, service: ServingService) -> None:
    async def invoke(request: Request) -> Response:
        reply = await service.query(
            current_principal(),
            request.path_params["name"],
            content_type=request.headers.get("content-type", ""),
            body=await _body(request),
            served_model=request.path_params.get("served_model"),
            client_request_id=request.headers.get("x-client-request-id"),
        )
        return _response(reply)

    # plain routes: FastAPI's dependencies would cost a third of the time of a small prediction
    routes.add_route("/serving-endpoints/{name}/invocations", invoke, methods=["POST"])
    routes.add_route("/serving-endpoints/{name}/served-models/{served_model}/invocations", invoke, methods=["POST"])


def _response(reply: Reply) -> Response:
    headers = {"served-model-name": reply.entity}
    return Response(reply.body, status_code=reply.status, media_type=reply.content_type, headers=headers)


async def _body(request: Request) -> bytes:
    """The request's body. Raises InvalidArgument when it is larger than MAX_REQUEST_BYTES."""
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > MAX_REQUEST_BYTES:
                raise InvalidArgument(f"The request has more than {MAX_REQUEST_BYTES} bytes; send fewer rows.")
            chunks.append(chunk)
    except ClientDisconnect as error:
        raise InvalidArgument("The request ended before its body did.") from error
    return b"".join(chunks)
