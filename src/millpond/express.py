"""Small requests for a few routes, answered before the web server's and the application's layers, which cost more.

A request goes this way when it is beyond doubt: POST over HTTP/1.1 for a `WholeRoute`, with a bearer token, each header
once, its length given, nothing that asks for more than an answer. All others are left to uvicorn's own parser as they
came. What the layers do is done here too: the token is checked, the call is in the audit before its answer begins, it
is counted and timed, and the answer has those of their headers that are no page's.
"""

import asyncio
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy.exc import OperationalError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Scope
from uvicorn.protocols.http.httptools_impl import HEADER_VALUE_RE, STATUS_LINE, HttpToolsProtocol

from millpond.audit.domain import FIRST_FAILURE
from millpond.audit.door import CLIENT_CLOSED_REQUEST, error_code, unwritten_response
from millpond.identity import acts
from millpond.identity.domain import Principal
from millpond.identity.middleware import act_as, unreachable
from millpond.identity.page_headers import data_headers, is_https
from millpond.identity.seen_tokens import SeenTokens, Shown
from millpond.identity.service import IdentityService
from millpond.identity.whole import Whole, WholeRoute
from millpond.journal import calls
from millpond.journal.calls import Call
from millpond.kernel import metrics
from millpond.kernel.errors import StorageFull
from millpond.kernel.http import answer_to
from millpond.kernel.logs import get_logger

MOST_BYTES = 64 << 10
"""Of a body; larger ones are not quick to answer anyway."""
_MOST_HEAD_BYTES, _MOST_HEADERS = 4 << 10, 64
_MOST_KEPT = 1024
_HEAD = re.compile(rb"POST (/[!$&-<>@-~]*) HTTP/1\.1\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*\r\n)+)\r\n")
"""A path without a query and without what could be spelt in another way. Source: RFC 9112, sections 3 and 5."""
_ASKS_FOR_MORE = frozenset({"transfer-encoding", "expect", "upgrade", "te", "trailer"})
_TELL_S = 1.0
_GOODBYE_S = 1.0
_PROXIES = frozenset({"x-forwarded-for", "x-forwarded-proto", "forwarded"})

log = get_logger(__name__)

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the head of a request says."""

    route: WholeRoute
    path: str
    path_params: Mapping[str, str]
    headers: Mapping[str, str]
    agent: str
    shown: Shown
    length: int
    """Bytes of the body that follows."""


@dataclass(slots=True)
class Refused:
    """What is said to requests for which there is no time, within a second and of one kind."""

    asked: Asked
    call: Call
    response: Response
    headers: Headers
    times: int = 0
    _encoded: bytes = b""

    def encoded(self, encode: Callable[[Response, Headers], bytes]) -> bytes:
        """The answer, the same for all."""
        if not self._encoded:
            self._encoded = encode(self.response, self.headers)
        return self._encoded


class Express:
    """Answers the requests of an application's whole routes."""

    def __init__(
        self, routes: Sequence[WholeRoute], *, identity: IdentityService, seen: SeenTokens, public_url: str | None
    ) -> None:
        self._routes = routes
        self._identity = identity
        self._seen = seen
        self._public_url = public_url
        self._always = tuple(data_headers(https_only=is_https(public_url)))
        self._refused: dict[tuple[str, str, str, str], Refused] = {}
        """What is not in the audit yet: by whose id, the path, from where, and with which client."""
        self._read: dict[bytes, Asked] = {}
        """By their heads; most clients send the same again and again."""

    def read(self, head: bytes) -> Asked | None:
        """What a request's head says, with the empty line; None where it is not answered here."""
        known = self._read.get(head)
        return known or (self._parsed(head) if len(head) <= _MOST_HEAD_BYTES else None)

    def admit(self, asked: Asked, address: str) -> "Refused | Callable[[], None]":
        """The answer where there is no time for another one, or what is to be called when it is answered.

        Such an answer is in the audit within a second, with how many were refused alike."""
        who = self._seen.lately(asked.shown)
        if who is None:
            return _nothing
        found = asked.route.admit(who, asked.path_params)
        if not isinstance(found, Response):
            return found or _nothing
        kind = (who.id, asked.path, address, asked.agent)
        refused = self._refused.get(kind)
        if refused is None:
            if not self._refused:
                asyncio.get_running_loop().call_later(_TELL_S, self.tell)
            call = _call(asked, address)
            call.actor_id, call.actor = who.id, who.name
            refused = self._refused[kind] = Refused(asked, call, found, self._headers(call))
        refused.times += 1
        return refused

    def tell(self) -> None:
        """Write down what was refused since the last time."""
        refused, self._refused = self._refused, {}
        for each in refused.values():
            status = each.response.status_code
            metrics.refused("POST", each.asked.route.path, status, each.times)
            with suppress(StorageFull):  # nothing was done, and those who were answered cannot be told otherwise
                each.call.end(status, error_code(bytes(each.response.body)), {"times": str(each.times)})

    async def answer(self, asked: Asked, head: bytes, request: Whole, address: str) -> tuple[Response, Headers]:
        """The answer, and its headers beside its own, in a task of its own."""
        began = time.perf_counter()
        call = _call(asked, address)
        calls.begin(call)
        try:
            response = await self._answered(asked, head, request)
        except asyncio.CancelledError:
            call.end(CLIENT_CLOSED_REQUEST, "CANCELLED")
            raise
        status = response.status_code
        try:
            call.end(status, error_code(bytes(response.body)) if status >= FIRST_FAILURE else "")
        except StorageFull as error:
            response = unwritten_response(error, asked.path)
        metrics.counted("POST", asked.route.path, response.status_code, time.perf_counter() - began)
        return response, self._headers(call)

    def _headers(self, call: Call) -> Headers:
        return (*self._always, (b"x-request-id", call.request.encode()))

    async def _answered(self, asked: Asked, head: bytes, request: Whole) -> Response:
        try:
            act_as(await self._principal(asked))
            self._keep(head, asked)
            response = await asked.route.answer(request)
            if not hasattr(response, "body"):
                await response(_scope(asked), _gone, _unheard)  # it lets go of what it has
                raise TypeError(f"{asked.route.path} was to answer at once")
        except Exception as error:
            return answer_to(Request(_scope(asked)), error)
        return response

    async def _principal(self, asked: Asked) -> Principal:
        header, path, method = asked.shown
        token = header.partition(" ")[2].strip()
        authenticate = partial(self._identity.authenticate, token, path=path, method=method)
        try:
            principal = await self._seen.principal(asked.shown, authenticate)
        except OperationalError as error:
            raise unreachable(error) from error
        acts.identified(principal)
        return principal

    def _keep(self, head: bytes, asked: Asked) -> None:
        """Read it no more: whoever sent it has shown who they are."""
        if len(self._read) >= _MOST_KEPT:
            self._read.clear()
        self._read[head] = asked

    def _parsed(self, head: bytes) -> Asked | None:
        found = _HEAD.fullmatch(head)
        if found is None:
            return None
        path = found[1].decode("ascii")
        route, path_params = self._find(path)
        given = [line.partition(":") for line in found[2].decode("latin-1").split("\r\n")[:-1]]
        headers = {name.lower(): value.strip(" \t") for name, _, value in given}
        length = headers.get("content-length", "")
        if (
            route is None
            or len(headers) < len(given)
            or not _ASKS_FOR_MORE.isdisjoint(headers)
            or (self._public_url is not None and not _PROXIES.isdisjoint(headers))
            or headers.get("connection", "keep-alive").lower() != "keep-alive"
            or len(headers) > _MOST_HEADERS
            or headers.get("authorization", "")[:7].casefold() != "bearer "
            or not length.isdecimal()
            or len(length) > 6
            or int(length) > MOST_BYTES
        ):
            return None
        return Asked(
            route=route, path=path, path_params=path_params, headers=headers, agent=headers.get("user-agent", ""),
            shown=(headers["authorization"], path, "POST"), length=int(length),
        )  # fmt: skip

    def _find(self, path: str) -> tuple[WholeRoute | None, Mapping[str, str]]:
        for route in self._routes:
            if found := route.path_regex.match(path):
                return route, found.groupdict()
        return None, {}


class ExpressProtocol(HttpToolsProtocol):
    """uvicorn's protocol for a connection, with the express way before its parser."""

    def __init__(self, *, express: Express, **given: Any) -> None:
        super().__init__(**given)
        self._express = express
        self._is_parsing = False
        """Whether uvicorn's parser is in the midst of a request."""
        self._begun = b""
        """A request whose body is not all there."""
        self._behind = b""
        """What came behind the request that is being answered here."""
        self._is_answering = False
        self._is_closing = False
        self._idle_from = math.inf
        """Since when nothing is asked, in the loop's time."""

    def data_received(self, data: bytes) -> None:
        """Bytes of the client, as they come."""
        if self._is_answering:
            self._behind += data
            self.flow.pause_reading()
        elif self._is_parsing or not (self.cycle is None or self.cycle.response_complete):
            super().data_received(data)
        else:
            self._begin(self._begun + data if self._begun else data)

    def on_message_begin(self) -> None:
        """uvicorn's parser has the first byte of a request."""
        self._is_parsing = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """And the last."""
        self._is_parsing = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """uvicorn has answered a request."""
        super().on_response_complete()
        self._idle_from = self.loop.time()

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection where nothing has been asked for long enough; else look again when it may be so."""
        self.timeout_keep_alive_task = None
        left_s = self._idle_from + self.timeout_keep_alive - self.loop.time()
        if left_s <= 0:
            super().timeout_keep_alive_handler()
        elif left_s < math.inf:
            self._look_later(left_s)

    def shutdown(self) -> None:
        """End the connection when what has come, or is coming, is answered."""
        if self._is_answering or self._begun:
            self._is_closing = True
        else:
            super().shutdown()
        if self.scheme == "https":
            self._cut_later()

    def _cut_later(self) -> None:
        self.loop.call_later(_GOODBYE_S, self._cut)

    def _cut(self) -> None:
        """End a connection over TLS, which waits 30 s for the client's goodbye; an idle client does not say one."""
        if self.transport.is_closing() and not self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self._cut_later()

    def _begin(self, data: bytes) -> None:
        """What begins with a request."""
        self._begun = b""
        while data:
            end = data.find(b"\r\n\r\n") + 4
            asked = self._express.read(data[:end]) if end > 3 else None
            if asked is None:
                super().data_received(data)
                return
            self._idle_from = math.inf
            length = end + asked.length
            if len(data) < length:
                self._begun = data
                return
            address = self.client[0] if self.client else ""
            admitted = _nothing if self.flow.write_paused else self._express.admit(asked, address)
            if isinstance(admitted, Refused):
                self.transport.write(admitted.encoded(self._encoded))
                if self._is_closing:
                    self.transport.close()
                    return
                self._rest()
                data = data[length:]
                continue
            request = Whole(asked.path_params, asked.headers, data[end:length])
            if not asked.route.is_plain(request):
                admitted()
                super().data_received(data)
                return
            self._behind, self._is_answering = data[length:], True
            task = self.loop.create_task(self._answer(asked, data[:end], request, address, admitted))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
            return

    def _rest(self) -> None:
        """A request is answered. One timer for all of them costs less than one for each."""
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._idle_from = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_later(self.timeout_keep_alive)

    def _look_later(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    async def _answer(
        self, asked: Asked, head: bytes, request: Whole, address: str, answered: Callable[[], None]
    ) -> None:
        try:
            try:
                found = await self._express.answer(asked, head, request, address)
            finally:
                answered()
            if not self.transport.is_closing():
                self.transport.write(self._encoded(*found))
                await self.flow.drain()
        except Exception as error:  # of ours: the client's is answered
            log.error("a request could not be answered", path=asked.path, exc_info=error)
            self.transport.close()
        self._is_answering = False
        if self._is_closing:
            self.transport.close()
        if self.transport.is_closing():
            return
        self._rest()
        behind, self._behind = self._behind, b""
        if behind:
            self.data_received(behind)

    def _encoded(self, response: Response, more: Headers) -> bytes:
        parts = [STATUS_LINE[response.status_code]]
        for name, value in (*self.server_state.default_headers, *response.raw_headers, *more):
            if HEADER_VALUE_RE.search(value):
                raise ValueError(f"the value of header {name!r} cannot be sent")
            parts += (name, b": ", value, b"\r\n")
        if self._is_closing:
            parts.append(b"connection: close\r\n")
        parts += (b"\r\n", bytes(response.body))
        return b"".join(parts)


def _call(asked: Asked, address: str) -> Call:
    return Call(door="http", act="POST", kind=calls.PATH, name=asked.path, address=address, agent=asked.agent)


def _scope(asked: Asked) -> Scope:
    return {"type": "http", "method": "POST", "path": asked.path, "query_string": b"", "headers": []}


async def _gone() -> Message:
    return {"type": "http.disconnect"}


async def _unheard(_message: Message) -> None:
    return


def _nothing() -> None:
    return
