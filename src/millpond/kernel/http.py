"""HTTP edges: one error shape for each wire dialect, and the mapping from our error codes to HTTP.

Sources: the Databricks SDK reads `error_code` first and then the status (`databricks/sdk/errors/platform.py`); MLflow's
client reads `error_code` and expects 400 for a duplicate; SCIM errors follow RFC 7644, section 3.12; OAuth errors
RFC 6749, section 5.2.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from millpond.kernel.errors import InvalidArgument, MillpondError, StorageFull, Unauthenticated
from millpond.kernel.logs import get_logger

log = get_logger(__name__)

STATUS_OF_CODE: Mapping[str, int] = {
    "INVALID_PARAMETER_VALUE": 400,
    "BAD_REQUEST": 400,
    "MALFORMED_REQUEST": 400,
    "RESOURCE_LIMIT_EXCEEDED": 400,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "ENDPOINT_NOT_FOUND": 404,
    "RESOURCE_ALREADY_EXISTS": 409,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "ABORTED": 409,
    "INVALID_STATE": 400,
    "DIRECTORY_NOT_EMPTY": 400,
    "MAX_NOTEBOOK_SIZE_EXCEEDED": 400,
    "RESOURCE_EXHAUSTED": 429,
    "NOT_IMPLEMENTED": 501,
    "TEMPORARILY_UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
    "DATA_LOSS": 500,
    "INTERNAL_ERROR": 500,
}

_MLFLOW_STATUS = {**STATUS_OF_CODE, "RESOURCE_ALREADY_EXISTS": 400}
_HEADERS_OF_STATUS = {
    401: {"WWW-Authenticate": 'Bearer realm="millpond"'},
    429: {"Retry-After": "1"},  # the SDK retries these two by itself, so they are never the answer of a lasting state
    503: {"Retry-After": "1"},
}
_CODE_OF_STATUS = {404: "ENDPOINT_NOT_FOUND", 405: "BAD_REQUEST", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED"}


class Dialect(Enum):
    """Whose client is asking, so whose error shape it reads."""

    DATABRICKS = "databricks"
    MLFLOW = "mlflow"
    SCIM = "scim"
    OAUTH = "oauth"


def dialect_of(path: str) -> Dialect:
    """The dialect of a request path."""
    if re.match(r"/(ajax-)?api/[23]\.0/mlflow", path):
        return Dialect.MLFLOW
    if "/scim/v2/" in path:
        return Dialect.SCIM
    return Dialect.OAUTH if path.startswith("/oidc/") else Dialect.DATABRICKS


def error_response(
    code: str,
    message: str,
    dialect: Dialect,
    *,
    status: int | None = None,
    scim_type: str | None = None,
    retry_after_s: int | None = None,
) -> Response:
    """The answer that a client of the dialect turns into its own exception."""
    status = status or (_MLFLOW_STATUS if dialect is Dialect.MLFLOW else STATUS_OF_CODE).get(code, 500)
    body = _body(code, message, dialect, status, scim_type)
    headers = _HEADERS_OF_STATUS.get(status)
    if headers and retry_after_s and "Retry-After" in headers:
        headers = {"Retry-After": str(retry_after_s)}
    return JSONResponse(body, status_code=status, headers=headers)


def _body(code: str, message: str, dialect: Dialect, status: int, scim_type: str | None) -> dict[str, Any]:
    match dialect:
        case Dialect.SCIM:
            body: dict[str, Any] = {
                "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"],
                "detail": message,
                "status": str(status),
            }
            # always there: the Databricks SDK writes it before the message, and "None" where it is absent
            kind = {400: "invalidValue", 409: "uniqueness"}.get(status, "")
            return body | {"scimType": scim_type or kind}
        case Dialect.OAUTH:
            return {"error": "invalid_client" if status == 401 else "invalid_request", "error_description": message}
        case Dialect.MLFLOW:
            return {"error_code": code, "message": message}
        case Dialect.DATABRICKS:
            return {"error_code": code, "message": message, "details": []}


def join(into: FastAPI | APIRouter, *routers: APIRouter) -> None:
    """Add the routers' routes as they are. FastAPI's `include_router` builds each a second time: 2 ms of the start."""
    for router in routers:
        into.routes.extend(router.routes)


def install_error_handlers(app: FastAPI) -> None:
    """Turn every exception of a handler into the error shape of the request's dialect."""

    for kind, answer in _ANSWERS.items():
        app.add_exception_handler(kind, _handler(answer))


def answer_to(request: Request, error: Exception) -> Response:
    """The answer to a request whose handler has raised."""
    kind = next(each for each in _ANSWERS if isinstance(error, each))
    return _ANSWERS[kind](request, error)


def _handler(answer: Callable[[Request, Any], Response]) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handle(request: Request, error: Exception) -> Response:
        return answer(request, error)

    return handle


def _ours(request: Request, error: MillpondError) -> Response:
    status = 507 if isinstance(error, StorageFull) else None
    scim_type = getattr(error, "scim_type", None)  # what RFC 7644 calls it, where its class knows
    return error_response(
        error.code,
        error.message,
        dialect_of(request.url.path),
        status=status,
        scim_type=scim_type,
        retry_after_s=getattr(error, "retry_after_s", None),
    )


def _invalid(request: Request, error: RequestValidationError) -> Response:
    problems = [
        f"{'.'.join(str(part) for part in item['loc'][1:]) or 'body'}: {item['msg']}" for item in error.errors()
    ]
    message = "The request is not valid: " + "; ".join(problems)
    return error_response("INVALID_PARAMETER_VALUE", message, dialect_of(request.url.path))


def _framework(request: Request, error: HTTPException) -> Response:
    code = _CODE_OF_STATUS.get(error.status_code, "BAD_REQUEST" if error.status_code < 500 else "INTERNAL_ERROR")
    message = f"No API at {request.method} {request.url.path}." if error.status_code == 404 else str(error.detail)
    return error_response(code, message, dialect_of(request.url.path), status=error.status_code)


def _gone(_request: Request, _error: ClientDisconnect) -> Response:
    return Response(status_code=400)  # nobody reads it: who left in the middle of a body is no failure of ours


def _unexpected(request: Request, error: Exception) -> Response:
    log.error("request failed", path=request.url.path, method=request.method, exc_info=error)
    message = "The server failed on this request; its log has the details."
    return error_response("INTERNAL_ERROR", message, dialect_of(request.url.path))


_ANSWERS: Mapping[type[Exception], Callable[[Request, Any], Response]] = {
    MillpondError: _ours,
    RequestValidationError: _invalid,
    HTTPException: _framework,
    ClientDisconnect: _gone,
    Exception: _unexpected,
}

_NOTHING: Mapping[str, BaseRoute] = MappingProxyType({})


class Straight:
    """Leads requests for a few routes to their handlers, past all layers of the application, and others to it.

    The layers and three hundred routes that would come before cost more than some handlers.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[Route], below: Mapping[str, BaseRoute] = _NOTHING) -> None:
        """Routes of plain handlers, which take a Request and return the Response; and others, for all paths that begin
        so."""
        self._app = app
        self._routes = routes
        self._below = below
        self._beginnings = tuple(below)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"].startswith(self._beginnings):
            await self._hand_over(scope, receive, send)
        elif found := self._find(scope):
            scope["route"], scope["path_params"] = found
            request = Request(scope, receive)
            try:
                response: Response = await found[0].endpoint(request)
            except Exception as error:
                response = answer_to(request, error)
            await response(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _hand_over(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = next(route for start, route in self._below.items() if scope["path"].startswith(start))
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await scope["route"].handle(scope, receive, noted)
        except Exception as error:
            if begun:
                raise
            await answer_to(Request(scope), error)(scope, receive, send)

    def _find(self, scope: Scope) -> tuple[Route, dict[str, str]] | None:
        for route in self._routes:
            if scope["method"] in (route.methods or ()) and (found := route.path_regex.match(scope["path"])):
                return route, found.groupdict()
        return None


def first_headers(scope: Scope) -> dict[str, str]:
    """The headers of a request by their names in lower case; of several with one name the first."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}


async def read_json(request: Request) -> dict[str, Any]:
    """The JSON object of a request body; an empty body is an empty object.

    Raises InvalidArgument for anything else.
    """
    raw = await request.body()
    if not raw:
        return {}
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidArgument(f"The request body is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise InvalidArgument("The request body must be a JSON object.")
    return value


def unauthenticated(path: str, message: str) -> Response:
    """The 401 of a dialect."""
    return error_response(Unauthenticated.code, message, dialect_of(path))
