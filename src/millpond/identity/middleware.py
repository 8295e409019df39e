"""The door: no request passes without a valid credential, but for a short list of public paths.

A pure ASGI middleware, so that streams (artifacts, files, events) pass through untouched. It takes a Bearer token, a
Basic password or token, or the browser's session cookie, and puts the principal where `current_principal` finds it.
`guarded` puts the whole door around an application.
"""

import base64
import binascii
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from urllib.parse import quote

from sqlalchemy.exc import OperationalError
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from millpond.identity import acts
from millpond.identity.domain import Principal
from millpond.identity.limits import BodyLimit
from millpond.identity.origin import is_foreign
from millpond.identity.page_headers import PageHeaders, is_https
from millpond.identity.seen_tokens import SeenTokens, Shown
from millpond.identity.service import IdentityService
from millpond.identity.sessions import SESSION_COOKIE, SIGN_IN_PATH, SIGN_OUT_PATH, SSO_CALLBACK_PATH, SSO_PATH
from millpond.journal import calls
from millpond.kernel.errors import MillpondError, PermissionDenied, Unauthenticated, Unavailable
from millpond.kernel.http import STATUS_OF_CODE, dialect_of, error_response, first_headers
from millpond.kernel.logs import get_logger

log = get_logger(__name__)

__all__ = [
    "LINK_PARAMETER",
    "PUBLIC_PATHS",
    "SESSION_COOKIE",
    "SIGN_IN_PATH",
    "AuthMiddleware",
    "act_as",
    "acting_as",
    "client_address",
    "current_principal",
    "guarded",
    "unreachable",
]

PUBLIC_PATHS = frozenset({
    "/health", "/health/live", "/health/ready", SIGN_IN_PATH, SSO_PATH, SSO_CALLBACK_PATH, "/favicon.ico",
    "/static/millpond.css", "/static/millpond.js",  # the looks of the sign-in page
    "/.well-known/databricks-config", "/oidc/.well-known/oauth-authorization-server",
    "/oidc/.well-known/openid-configuration", "/oidc/v1/token",
})  # fmt: skip
"""Compared with the decoded path, whole: nothing below them is public, nor any other spelling of them."""
LINK_PARAMETER = "millpond-signature"
"""Query parameter of a link that is good by itself: a signed token that is good for the link's own path alone."""
_RECHECK_S = 15
_POLICY_VIOLATION = 1008

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


def act_as(principal: Principal) -> None:
    """Make `current_principal` somebody for the rest of the task in which this runs."""
    _principal.set(principal)


def unreachable(error: OperationalError) -> Unavailable:
    """What is said at a door while nobody can be looked up; the log has the reason."""
    log.error("no database at the door", exc_info=error)
    return Unavailable("The database cannot be reached; try again.")


def client_address(connection: HTTPConnection) -> str:
    """Where a request comes from; empty when the server cannot tell."""
    return connection.client.host if connection.client else ""


def guarded(
    app: ASGIApp, *, identity: IdentityService, seen: SeenTokens | None = None, public_url: str | None = None
) -> ASGIApp:
    """The application behind the whole door: authentication, bounded bodies, and headers that protect its pages."""
    door = AuthMiddleware(app, identity=identity, seen=seen, public_url=public_url)
    return PageHeaders(BodyLimit(door, PUBLIC_PATHS), https_only=is_https(public_url))


class AuthMiddleware:
    """Authenticates HTTP requests and websockets before anything else sees them."""

    def __init__(
        self, app: ASGIApp, *, identity: IdentityService, seen: SeenTokens | None = None, public_url: str | None = None
    ) -> None:
        """`seen` may be shared with other doors."""
        self._app = app
        self._identity = identity
        self._seen = seen or SeenTokens(identity)
        self._public_url = public_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through with its principal, or answer 401, 403 or the way to the sign-in page."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        principal = None
        try:
            if is_foreign(connection, public_url=self._public_url, cookie=SESSION_COOKIE):
                raise PermissionDenied("The request comes from a page of another site.")
            if scope["path"] not in PUBLIC_PATHS:
                principal = await self._authenticated(connection)
        except OperationalError as error:
            await _refuse(scope, receive, send, connection, unreachable(error))
            return
        except MillpondError as error:
            calls.failed(STATUS_OF_CODE.get(error.code, 500), error.code)
            if scope["type"] == "websocket":
                acts.denied(None, "open", "path", scope["path"])
            await _refuse(scope, receive, send, connection, error)
            return
        if principal is not None:
            acts.identified(principal)
        if scope["type"] == "websocket":
            receive = self._rechecking(connection, receive)
        reset = _principal.set(principal)
        try:
            await self._app(scope, receive, send)
        finally:
            _principal.reset(reset)

    async def _authenticated(self, connection: HTTPConnection) -> Principal:
        return await self._seen.principal(_shown(connection), partial(self._authenticate, connection))

    def _authenticate(self, connection: HTTPConnection) -> Principal:
        header = connection.headers.get("authorization")
        if header:
            return self._by_header(header, connection)
        link = connection.query_params.get(LINK_PARAMETER)
        if link and connection.scope.get("method") in {"GET", "HEAD"}:
            return self._identity.authenticate_link(link, path=connection.scope["path"])
        cookie = connection.cookies.get(SESSION_COOKIE)
        if cookie:
            return self._identity.authenticate_session(cookie)
        raise Unauthenticated("No credential was given; send an access token as 'Authorization: Bearer TOKEN'.")

    def _by_header(self, header: str, connection: HTTPConnection) -> Principal:
        scheme, _, value = header.partition(" ")
        method = connection.scope.get("method")
        by_token = partial(self._identity.authenticate, path=connection.scope["path"], method=method)
        if scheme.casefold() == "bearer":
            return by_token(value.strip())
        if scheme.casefold() == "basic":
            name, password = _decode_basic(value.strip())
            if name == "token":  # the Databricks way to send a token to tools that only know Basic
                return by_token(password)
            return self._identity.authenticate_password(name, password, address=client_address(connection))
        raise Unauthenticated(f"Authorization scheme '{scheme[:20]}' is not supported; use Bearer.")

    def _rechecking(self, connection: HTTPConnection, receive: Receive) -> Receive:
        """Ends a websocket when its credential does: a page that stays open must not outlive its session."""
        checked = time.monotonic()

        async def receive_and_check() -> Message:
            nonlocal checked
            message = await receive()
            if message["type"] != "websocket.receive" or time.monotonic() - checked < _RECHECK_S:
                return message
            try:
                await self._authenticated(connection)
            except Unauthenticated:
                return {"type": "websocket.disconnect", "code": _POLICY_VIOLATION, "reason": "the session has ended"}
            checked = time.monotonic()
            return message

        return receive_and_check


def _shown(connection: HTTPConnection) -> Shown | None:
    """Token, path and method of a request; None where it shows another credential."""
    header = first_headers(connection.scope).get("authorization", "")
    if header[:7].casefold() != "bearer ":
        return None
    return header, connection.scope["path"], connection.scope.get("method", "")


def _decode_basic(value: str) -> tuple[str, str]:
    try:
        name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, ValueError) as error:
        raise Unauthenticated("The Basic credential is not base64 of NAME:PASSWORD.") from error
    return name, password


async def _refuse(scope: Scope, receive: Receive, send: Send, connection: HTTPConnection, error: MillpondError) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": "sign in first"})
    elif isinstance(error, Unauthenticated) and _is_page(scope, connection):
        raw = scope.get("raw_path") or scope["path"].encode()
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        target = "/" if scope["path"] == SIGN_OUT_PATH else (raw + query).decode("latin-1")
        await RedirectResponse(f"{SIGN_IN_PATH}?next={quote(target, safe='')}", status_code=303)(scope, receive, send)
    else:
        response = error_response(error.code, error.message, dialect_of(scope["path"]))
        await response(scope, receive, send)


def _is_page(scope: Scope, connection: HTTPConnection) -> bool:
    """Whether a browser shows the answer as a page, and its user can sign in."""
    if "authorization" in connection.headers or "text/html" not in connection.headers.get("accept", ""):
        return False
    return scope["method"] in {"GET", "HEAD"} or scope["path"] == SIGN_OUT_PATH
