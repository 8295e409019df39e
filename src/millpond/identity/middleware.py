"""The door: no request passes without a valid credential, but for a short list of public paths.

A pure ASGI middleware, so that streams (artifacts, files, events) pass through untouched. It takes a Bearer token, a
Basic password or token, or the browser's session cookie, and puts the principal where `current_principal` finds it.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from millpond.identity.domain import Principal
from millpond.identity.service import IdentityService
from millpond.kernel.errors import PermissionDenied, Unauthenticated
from millpond.kernel.http import dialect_of, error_response, unauthenticated

SESSION_COOKIE = "millpond_session"
SIGN_IN_PATH = "/sign-in"

PUBLIC_PATHS = frozenset({
    "/health", "/health/live", "/health/ready", SIGN_IN_PATH, "/favicon.ico",
    "/.well-known/databricks-config", "/oidc/.well-known/oauth-authorization-server",
    "/oidc/.well-known/openid-configuration", "/oidc/v1/token",
})  # fmt: skip
PUBLIC_PREFIXES = ("/_nicegui/", "/static/")  # scripts and styles of the sign-in page; no data
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_principal: ContextVar[Principal | None] = ContextVar("millpond_principal", default=None)


def current_principal() -> Principal:
    """Whoever makes the current request (a FastAPI dependency, and callable from handlers' threads)."""
    principal = _principal.get()
    if principal is None:
        raise Unauthenticated("No credential was given.")
    return principal


@contextmanager
def acting_as(principal: Principal) -> Iterator[None]:
    """Make `current_principal` somebody inside the block, for work that happens outside their request."""
    reset = _principal.set(principal)
    try:
        yield
    finally:
        _principal.reset(reset)


class AuthMiddleware:
    """Authenticates HTTP requests and websockets before anything else sees them."""

    def __init__(self, app: ASGIApp, *, identity: IdentityService) -> None:
        self._app = app
        self._identity = identity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through with its principal, or answer 401, 403 or the way to the sign-in page."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        try:
            principal = await run_in_threadpool(self._authenticate, connection)
            _refuse_foreign_origin(scope, connection)
        except Unauthenticated as error:
            principal = None
            if not _is_public(scope["path"]):
                await _refuse(scope, receive, send, connection, error)
                return
        except PermissionDenied as error:
            await error_response(error.code, error.message, dialect_of(scope["path"]))(scope, receive, send)
            return
        reset = _principal.set(principal)
        try:
            await self._app(scope, receive, send)
        finally:
            _principal.reset(reset)

    def _authenticate(self, connection: HTTPConnection) -> Principal:
        header = connection.headers.get("authorization")
        if header:
            return self._by_header(header)
        cookie = connection.cookies.get(SESSION_COOKIE)
        if cookie:
            return self._identity.authenticate_session(cookie)
        raise Unauthenticated("No credential was given; send an access token as 'Authorization: Bearer TOKEN'.")

    def _by_header(self, header: str) -> Principal:
        scheme, _, value = header.partition(" ")
        if scheme.lower() == "bearer":
            return self._identity.authenticate(value.strip())
        if scheme.lower() == "basic":
            name, password = _decode_basic(value)
            if name == "token":  # the Databricks way to send a token to tools that only know Basic
                return self._identity.authenticate(password)
            return self._identity.authenticate_password(name, password)
        raise Unauthenticated(f"Authorization scheme '{scheme[:20]}' is not supported; use Bearer.")


def _decode_basic(value: str) -> tuple[str, str]:
    try:
        name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise Unauthenticated("The Basic credential is not base64 of NAME:PASSWORD.") from error
    return name, password


def _is_public(path: str) -> bool:
    return path in PUBLIC_PATHS or path.startswith(PUBLIC_PREFIXES)


def _refuse_foreign_origin(scope: Scope, connection: HTTPConnection) -> None:
    """A page of another site must not act with our cookie (CSRF); clients with a header are not browsers' forms."""
    unsafe = scope["type"] == "websocket" or scope["method"] not in _SAFE_METHODS
    if not unsafe or "authorization" in connection.headers:
        return
    origin = connection.headers.get("origin")
    if origin and origin.partition("://")[2] != _host(connection.headers):
        raise PermissionDenied("The request comes from another site.")


def _host(headers: Mapping[str, str] | Headers) -> str:
    return headers.get("x-forwarded-host") or headers.get("host") or ""


async def _refuse(
    scope: Scope, receive: Receive, send: Send, connection: HTTPConnection, error: Unauthenticated
) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": "sign in first"})
    elif scope["method"] == "GET" and "text/html" in connection.headers.get("accept", ""):
        target = scope["path"] + (f"?{scope['query_string'].decode()}" if scope["query_string"] else "")
        await RedirectResponse(f"{SIGN_IN_PATH}?next={quote(target)}", status_code=303)(scope, receive, send)
    else:
        await unauthenticated(scope["path"], error.message)(scope, receive, send)
