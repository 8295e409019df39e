"""The serving-endpoints API and the invocations."""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Annotated, Any, TypedDict

from fastapi import APIRouter, Depends, Query
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.identity.whole import Whole, WholeRoute
from millpond.kernel.asides import aside_unless
from millpond.kernel.errors import InvalidArgument, NotImplementedHere, PermissionDenied, ResourceExhausted
from millpond.kernel.http import Dialect, error_response
from millpond.serving.domain import Endpoint
from millpond.serving.event_stream import OPENAI_PATHS, EventStream, endpoint_in, without_endpoint
from millpond.serving.frames import ARROW
from millpond.serving.options import MAX_EVENTS, EndpointOptions
from millpond.serving.predicting import Reply
from millpond.serving.routing import KEY_HEADER
from millpond.serving.service import ServingService
from millpond.serving.streaming import StreamedAnswer, may_want_stream, wants_stream
from millpond.serving.tracing import Trace
from millpond.serving.wire import ConfigInput, CreateInput, TagsInput, detailed, summary, tags
from millpond.serving.wire_options import (
    GatewayInput,
    NotificationsInput,
    RateLimitsInput,
    ShadowsInput,
    email_notifications,
    event_json,
    rate_limits,
    shadow_json,
)

MAX_REQUEST_BYTES = 16 << 20
_FEW_BYTES = 64 << 10
TIMEOUT_HEADER = "x-request-timeout-seconds"
_KEY_HEADER = KEY_HEADER.lower()
_API = "/api/2.0/serving-endpoints"
_OURS = "/api/millpond/serving-endpoints"
_Me = Annotated[Principal, Depends(current_principal)]


def router(service: ServingService, options: EndpointOptions, *, base_url: str) -> APIRouter:
    """Everything under `/api/2.0/serving-endpoints` and `/serving-endpoints`."""
    routes = APIRouter()
    _add_management(routes, service, base_url)
    _add_options(routes, service, options)
    _add_reports(routes, service, base_url)
    _add_invocations(routes, service)
    return routes


def _add_management(routes: APIRouter, service: ServingService, base_url: str) -> None:
    def told(endpoint: Endpoint, me: Principal) -> dict[str, Any]:
        return detailed(endpoint, me, base_url, service.capture_states(endpoint))

    @routes.post(_API + "/")  # as MLflow's deployments client writes it
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
            rate_limits=body.limits(),
            notifications=body.notifications(),
            capture=config.capture(),
        )
        return told(endpoint, me)

    @routes.get(_API + "/")
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


def _add_options(routes: APIRouter, service: ServingService, options: EndpointOptions) -> None:
    @routes.put(_API + "/{name}/rate-limits")
    def put_rate_limits(me: _Me, name: str, body: RateLimitsInput) -> dict[str, Any]:
        return {"rate_limits": rate_limits(options.set_rate_limits(me, name, body.limits()))}

    @routes.put(_API + "/{name}/ai-gateway")
    def put_ai_gateway(me: _Me, name: str, body: GatewayInput) -> dict[str, Any]:
        return {"rate_limits": rate_limits(options.set_rate_limits(me, name, body.limits()))}

    @routes.patch(_API + "/{name}/notifications")
    def patch_notifications(me: _Me, name: str, body: NotificationsInput) -> dict[str, Any]:
        endpoint = options.set_notifications(me, name, body.notifications())
        return {"name": endpoint.name, "email_notifications": email_notifications(endpoint)}

    @routes.get(_OURS + "/{name}/events")
    def events(me: _Me, name: str, max_results: Annotated[int, Query(ge=1, le=MAX_EVENTS)] = 100) -> dict[str, Any]:
        return {"events": [event_json(each) for each in options.list_events(me, name, limit=max_results)]}

    @routes.put(_OURS + "/{name}/shadows")
    def put_shadows(me: _Me, name: str, body: ShadowsInput) -> dict[str, Any]:
        options.set_shadows(me, name, body.asked())
        return {"shadows": [shadow_json(*each) for each in options.get_shadows(me, name)]}

    @routes.get(_OURS + "/{name}/shadows")
    def get_shadows(me: _Me, name: str) -> dict[str, Any]:
        return {"shadows": [shadow_json(*each) for each in options.get_shadows(me, name)]}

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
    tracing = service.predictions.tracing

    async def invoke(request: Whole) -> Response:
        return await answer(request, request.path_params["name"], request.body)

    async def invoke_named(request: Whole) -> Response:
        body = request.body
        name = await aside_unless(len(body) <= _FEW_BYTES, partial(endpoint_in, body))
        if not current_principal().may_call(f"/serving-endpoints/{name}/invocations"):
            raise PermissionDenied(f"This access token is not good for endpoint '{name[:80]}'.")
        await service.predictions.check(current_principal(), name)
        return await answer(request, name, await without_endpoint(body))

    async def answer(request: Whole, name: str, body: bytes) -> Response:
        headers = request.headers
        content_type = headers.get("content-type", "")
        asked: _Asked = {
            "body": body,
            "served_model": request.path_params.get("served_model"),
            "routing_key": headers.get(_KEY_HEADER),
            "timeout_s": _timeout_s(headers.get(TIMEOUT_HEADER)),
            "client_request_id": headers.get("x-client-request-id"),
            "trace": tracing.begin(headers) if tracing is not None else None,
        }
        if await wants_parts(name, content_type, body):
            found = await service.predictions.stream(current_principal(), name, **asked)
            return EventStream(found) if isinstance(found, StreamedAnswer) else answer_of(found)
        accept = ARROW if ARROW in headers.get("accept", "") else None
        return answer_of(
            await service.predictions.query(
                current_principal(), name, content_type=content_type, accept=accept, **asked
            )
        )

    async def wants_parts(name: str, content_type: str, body: bytes) -> bool:
        if not may_want_stream(content_type, body):
            return False
        await service.predictions.check(current_principal(), name)  # before anybody's 16 MiB are looked through
        return await wants_stream(body)

    def is_plain(request: Whole) -> bool:
        return not may_want_stream(request.headers.get("content-type", ""), request.body)

    def is_plain_at_openai_paths(request: Whole) -> bool:
        return b"\\" not in request.body and is_plain(request)  # what is written in another way there is written anew

    def admit(me: Principal, asked: Mapping[str, str]) -> Response | Callable[[], None] | None:
        found = service.predictions.admit(me, asked["name"], asked.get("served_model"))
        return refused(found) if isinstance(found, ResourceExhausted) else found

    # FastAPI's dependencies would cost a third of the time of a small prediction
    for path in ("/{name}/invocations", "/{name}/served-models/{served_model}/invocations"):
        routes.routes.append(
            WholeRoute(f"/serving-endpoints{path}", invoke, read=body_of, is_plain=is_plain, admit=admit)
        )
    for path in OPENAI_PATHS:
        routes.routes.append(
            WholeRoute(f"/serving-endpoints{path}", invoke_named, read=body_of, is_plain=is_plain_at_openai_paths)
        )


class _Asked(TypedDict):
    """What both ways to ask have in common."""

    body: bytes
    served_model: str | None
    routing_key: str | None
    timeout_s: float | None
    client_request_id: str | None
    trace: Trace | None


def _timeout_s(text: str | None) -> float | None:
    """How long the client waits, if it says so. Raises InvalidArgument."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise InvalidArgument(f"{TIMEOUT_HEADER} is a number of seconds above 0, not '{text[:40]}'.")
    return seconds


def refused(error: ResourceExhausted) -> Response:
    """The same again and again, where many are refused."""
    return _refused(error.message, error.retry_after_s)


@lru_cache(maxsize=256)
def _refused(message: str, retry_after_s: int) -> Response:
    return error_response(ResourceExhausted.code, message, Dialect.DATABRICKS, retry_after_s=retry_after_s)


def answer_of(reply: Reply) -> Response:
    """What a model answered, as HTTP."""
    headers = {"served-model-name": reply.entity, "served-model-version": reply.version}
    return Response(reply.body, status_code=reply.status, media_type=reply.content_type, headers=headers)


async def body_of(request: Request) -> bytes:
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
