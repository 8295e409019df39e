"""Writes down each request of the HTTP API and the pages, before its answer begins.

The outermost ASGI middleware: it sees what the door below refuses, too. Not written down: health, metrics, the looks of
pages, and the traffic with which an open page keeps itself alive.
"""

import re
from urllib.parse import parse_qsl

import orjson
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from millpond.audit.domain import FIRST_FAILURE
from millpond.identity.middleware import client_address
from millpond.journal import calls
from millpond.journal.calls import Call
from millpond.kernel.errors import StorageFull
from millpond.kernel.http import dialect_of, error_response, first_headers

_NOISE = re.compile(
    r"/health(?:/live|/ready)?|/metrics|/static/[^/]*|/favicon\.ico|/_nicegui(?:_ws)?/(?!client/).*|/ml/static-files/.*"
    r"|(?:/oidc)?/\.well-known/[^/]*",
    re.DOTALL,
)
_QUIET = re.compile(r"/api/millpond/worker/(?:claim|beat|output)")
"""Asked again and again by workers; what becomes of it is written where it is done, and refusals here."""
_NAMING = frozenset({
    "catalog_name", "schema_name", "full_name", "name", "version", "alias", "experiment_id", "experiment_name",
    "run_id", "run_uuid", "model_id", "request_id", "path", "artifact_path", "key", "metric_key",
})  # fmt: skip
"""Parameters of a query string that say which object is meant; all others may hold anything."""
_SIGN_IN_FORM = ("GET", "/sign-in")
_INSUFFICIENT_STORAGE = 507
CLIENT_CLOSED_REQUEST = 499
_MAX_ERROR_BYTES = 65_536


class AuditDoor:
    """Begins a call for each request and ends it with the status of its answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, within its call."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        call = _call_of(scope)
        with calls.during(call):
            if scope["type"] == "websocket" or not _counts(scope):
                call.ends = False
                await self._app(scope, receive, send)
            else:
                await _Answer(call, scope, receive, send).pass_on(self._app)


class _Answer:
    """The answer to one request on its way out."""

    def __init__(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        self._call = call
        self._scope = scope
        self._receive = receive
        self._send = send
        self._start: Message | None = None
        self._told = False
        self._started = False
        self._unwritten: StorageFull | None = None

    async def pass_on(self, app: ASGIApp) -> None:
        try:
            await app(self._scope, self._receive, self._forward)
        except Exception:
            self._end_without_answer(500, "INTERNAL_ERROR")
            if self._unwritten is None:
                raise
        finally:  # whoever asked went away
            self._end_without_answer(CLIENT_CLOSED_REQUEST, "CANCELLED")
        if self._unwritten is not None and not self._started:
            response = unwritten_response(self._unwritten, self._scope["path"])
            await response(self._scope, self._receive, self._send)

    async def _forward(self, message: Message) -> None:
        """Failures wait for their body, which says the code; all else is told before it starts."""
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self._call.request.encode())]
        if not self._told and message["type"] == "http.response.start" and message["status"] >= FIRST_FAILURE:
            self._start = message
            return
        if self._start is not None:
            start, self._start = self._start, None
            self._end(start["status"], error_code(message.get("body", b"")))
            self._started = True
            await self._send(start)
        elif not self._told and message["type"] == "http.response.start":
            self._end(message["status"], "")
            self._started = True
        await self._send(message)

    def _end_without_answer(self, status: int, error: str) -> None:
        if not self._told:
            self._end(status, error)

    def _end(self, status: int, error: str) -> None:
        self._told = True
        if status < FIRST_FAILURE and _QUIET.fullmatch(self._scope["path"]):
            self._call.ends = False
            return
        try:
            self._call.end(status, error, _named_in(self._scope["query_string"]))
        except StorageFull as unwritten:  # then it is not answered either, whatever the application makes of this
            self._unwritten = unwritten
            raise


def unwritten_response(error: StorageFull, path: str) -> Response:
    """The answer instead of one that cannot be written down."""
    return error_response(error.code, error.message, dialect_of(path), status=_INSUFFICIENT_STORAGE)


def _call_of(scope: Scope) -> Call:
    return Call(
        door="http",
        act=scope.get("method", "websocket"),
        kind="path",
        name=scope["path"],
        address=client_address(HTTPConnection(scope)),
        agent=first_headers(scope).get("user-agent", ""),
    )


def _counts(scope: Scope) -> bool:
    path = scope["path"]
    return (scope["method"], path) != _SIGN_IN_FORM and _NOISE.fullmatch(path) is None


def _named_in(query: bytes) -> dict[str, str]:
    if not query:
        return {}
    return {key: value for key, value in parse_qsl(query.decode("latin-1")) if key in _NAMING}


def error_code(body: bytes) -> str:
    """The code in an error's body, whichever dialect; empty when there is none."""
    if body[:1] != b"{" or len(body) > _MAX_ERROR_BYTES:
        return ""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    code = found.get("error_code") or found.get("scimType") or found.get("error") or ""
    return code[:100] if isinstance(code, str) else ""
