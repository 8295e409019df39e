"""The express way answers as the application does, and leaves to it whatever is not beyond doubt."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from fastapi import FastAPI
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from millpond.audit.door import AuditDoor
from millpond.express import MOST_BYTES, Express, ExpressProtocol
from millpond.health import Measured
from millpond.identity.domain import Principal, PrincipalKind
from millpond.identity.middleware import current_principal, guarded
from millpond.identity.seen_tokens import SeenTokens
from millpond.identity.whole import Whole, WholeRoute
from millpond.journal import calls
from millpond.kernel.errors import NotFound, PermissionDenied, ResourceExhausted
from millpond.kernel.http import Straight, install_error_handlers
from millpond.kernel.metrics import REQUESTS
from tests.applications import served
from tests.databases import Databases
from tests.identity.conftest import ADMIN, Identity, build_identity
from tests.servers import wait_until

PATH = "/things/{name}/ask"
OF_PAGES = {
    "x-layers", "content-security-policy", "x-frame-options", "referrer-policy", "cross-origin-opener-policy",
    "cross-origin-resource-policy",
}  # fmt: skip
FAILURES = {
    "absent": NotFound("There is no such thing."),
    "denied": PermissionDenied("Not for you."),
    "often": ResourceExhausted("Too often.", retry_after_s=7),
    "broken": ZeroDivisionError("a secret"),
}


@dataclass(frozen=True, kw_only=True)
class Site:
    """A server with one whole route."""

    address: tuple[str, int]
    identity: Identity
    spools: Path
    before: int = 0
    """Events that are no test's concern."""

    def head(self, name: str = "a", *, length: int = 0, more: str = "", token: str | None = None) -> bytes:
        """The head of a request that is beyond doubt, with further header lines."""
        token = self.identity.admin_token if token is None else token
        lines = [f"POST /things/{name}/ask HTTP/1.1", "Host: x", f"Authorization: Bearer {token}"]
        return "\r\n".join([*lines, f"Content-Length: {length}{more}", "", ""]).encode()

    def events(self) -> list[dict[str, Any]]:
        """What was written down in this test."""
        lines = [line for path in self.spools.glob("*.jsonl") for line in path.read_bytes().splitlines()]
        return [orjson.loads(line) for line in lines[self.before :]]


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def is_express(self) -> bool:
        """Whether the application never saw the request."""
        return "x-layers" not in self.headers


LET_GO = threading.Event()


class Odd(StreamingResponse):
    """Tells when it is over."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            LET_GO.set()


async def told(asked: Whole) -> Response:
    """Fails as its path says, else tells what it was asked."""
    name = asked.path_params["name"]
    if failure := FAILURES.get(name):
        raise failure
    if name == "slow":
        await asyncio.to_thread(GATE.wait, 30)
    if name == "odd":
        return Odd(iter([b"1"]))
    if name == "parts":
        return StreamingResponse(iter([b"1", b"2"]))
    return JSONResponse({"who": current_principal().name, "name": name, "body": asked.body.decode("latin-1")})


GATE = threading.Event()
"""Until it is set, requests for `slow` wait."""


@pytest.fixture(scope="module")
def running(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server behind all layers of the real one."""
    tmp_path = tmp_path_factory.mktemp("express")
    calls.open_spool(tmp_path / "spools")
    route = WholeRoute(PATH, told, is_plain=lambda asked: asked.path_params["name"] != "parts", admit=_admit)
    app = FastAPI()
    install_error_handlers(app)
    app.router.routes.append(route)
    with databases.new("sqlite", tmp_path) as database:
        identity = build_identity(database)
        seen = SeenTokens(identity.service)
        express = Express([route], identity=identity.service, seen=seen, public_url=None)
        layers = Measured(AuditDoor(guarded(_marked(Straight(app, [route])), identity=identity.service, seen=seen)))
        with served(layers, http=partial(ExpressProtocol, express=express)) as url:
            host, port = url.removeprefix("http://").split(":")
            yield Site(address=(host, int(port)), identity=identity, spools=tmp_path / "spools")
    calls.close_spool()


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    """The same for one test."""
    GATE.clear()
    yield replace(running, before=len(running.events()))
    GATE.set()


NO_TIME = JSONResponse({"error_code": "RESOURCE_EXHAUSTED"}, 429)
UNDER_WAY: list[str] = []


def _admit(who: Principal, asked: Mapping[str, str]) -> Response | Callable[[], None] | None:
    if asked["name"] == "busy" and who.is_admin:
        return NO_TIME
    UNDER_WAY.append(who.name)
    return lambda: UNDER_WAY.remove(who.name)


def _marked(app: ASGIApp) -> ASGIApp:
    async def marked(scope: Scope, receive: Receive, send: Send) -> None:
        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-layers", b"all")]
            await send(message)

        await app(scope, receive, noted)

    return marked


class Line:
    """A connection."""

    def __init__(self, site: Site) -> None:
        self._socket = socket.create_connection(site.address, timeout=20)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_raised: object) -> None:
        self._socket.close()

    def send(self, *parts: bytes) -> None:
        for part in parts:
            self._socket.sendall(part)

    def is_closed(self) -> bool:
        return not self._received and self._socket.recv(1) == b""

    def until_continue(self) -> bool:
        return self._until(b"\r\n\r\n")[0] == b"HTTP/1.1 100 Continue"

    def answer(self) -> Answered:
        """The next answer."""
        head, body = self._until(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        if "content-length" in headers:
            length = int(headers["content-length"])
            while len(body) < length:
                body += self._more()
            body, self._received = body[:length], body[length:]
        else:
            self._received = body
            body = self._until(b"0\r\n\r\n")[0]
        return Answered(status=int(status.split()[1]), headers=headers, body=body)

    def _until(self, end: bytes) -> tuple[bytes, bytes]:
        while end not in self._received:
            self._received += self._more()
        found, _, rest = self._received.partition(end)
        self._received = rest
        return found, rest

    def _more(self) -> bytes:
        data = self._socket.recv(65536)
        assert data, "the connection is closed"
        return data


def ask(site: Site, *parts: bytes) -> Answered:
    with Line(site) as line:
        line.send(*parts)
        return line.answer()


def the_slow_way(site: Site, name: str = "a", body: bytes = b"") -> Answered:
    return ask(site, site.head(name, length=len(body), more="\r\nTE: trailers"), body)


@pytest.mark.parametrize("name", ["a", *FAILURES])
def test_answers_are_those_of_the_application(site: Site, name: str) -> None:
    quick, slow = ask(site, site.head(name, length=3) + b"x=1"), the_slow_way(site, name, b"x=1")
    assert (quick.is_express, slow.is_express) == (True, False)
    assert (quick.status, quick.body) == (slow.status, slow.body)
    assert b"secret" not in quick.body
    assert quick.headers.keys() == slow.headers.keys() - OF_PAGES
    own = {"x-request-id", "date"} | OF_PAGES
    assert {key: value for key, value in quick.headers.items() if key not in own} == {
        key: value for key, value in slow.headers.items() if key not in own
    }


@pytest.mark.parametrize("name", ["a", *FAILURES])
def test_the_audit_and_the_metrics_know_both_ways_alike(site: Site, name: str) -> None:
    counted = REQUESTS.labels("POST", PATH, str(200 if name == "a" else 0))
    before = counted._value.get()
    quick = ask(site, site.head(name, more="\r\nUser-Agent: me"))
    the_slow_way(site, name)
    mine, its = site.events()
    assert mine["request"] == quick.headers["x-request-id"]
    assert (mine["agent"], mine["actor"], mine["address"]) == ("me", ADMIN, "127.0.0.1")
    own = {"id", "request", "time_us", "agent"}
    assert {key: mine[key] for key in mine if key not in own} == {key: its[key] for key in its if key not in own}
    assert counted._value.get() - before == (2 if name == "a" else 0)


def test_what_cannot_be_written_down_is_not_answered(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millpond.journal.spool.os.write", lambda *_: 0)
    assert ask(site, site.head()).status == 507


def test_a_request_may_come_in_pieces(site: Site) -> None:
    whole = site.head(length=5) + b"hello"
    with Line(site) as line:
        for parts in ([whole], [whole[:-5], b"hello"], [whole[:-5], b"he", b"llo"]):
            line.send(*parts)
            answer = line.answer()
            assert answer.is_express
            assert orjson.loads(answer.body) == {"who": ADMIN, "name": "a", "body": "hello"}
        line.send(*(bytes([each]) for each in whole))
        assert orjson.loads(line.answer().body)["body"] == "hello"


def test_requests_in_a_row_are_answered_in_their_order(site: Site) -> None:
    quick, slow = site.head("q", length=1), site.head("s", length=1, more="\r\nTE: trailers")
    with Line(site) as line:
        line.send(quick + b"1" + slow + b"2" + quick + b"3" + quick + b"4" + slow + b"5")
        assert [orjson.loads(line.answer().body)["body"] for _ in range(5)] == ["1", "2", "3", "4", "5"]
        line.send(site.head("slow") + quick + b"6")
        line.send(quick + b"7")
        GATE.set()
        assert [orjson.loads(line.answer().body)["name"] for _ in range(3)] == ["slow", "q", "q"]


@pytest.mark.parametrize(
    "more",
    [
        "\r\nConnection: close", "\r\nConnection: upgrade", "\r\nAuthorization: Bearer x", "\r\nX: a\r\nx: b",
        "\r\nTE: trailers", f"\r\nX: {'a' * 5000}",
    ],
)  # fmt: skip
def test_doubtful_heads_are_the_applications(site: Site, more: str) -> None:
    """Here uvicorn's own parser decides, so nothing is read in two ways."""
    assert not ask(site, site.head(more=more)).is_express


@pytest.mark.parametrize(
    "more",
    [
        "\r\nContent-Length: 7", "\r\nTransfer-Encoding: chunked", "\r\n folded: x", "\r\nbad name: x", "\r\nx : y",
        "\r\nX: a\x00b", "\r\nX: a\nY: b",
    ],
)  # fmt: skip
def test_malformed_heads_are_refused_and_not_answered(site: Site, more: str) -> None:
    with Line(site) as line:
        line.send(site.head(length=1, more=more) + b"x")
        assert line.answer().status == 400
        assert line.is_closed()


def test_a_client_may_wait_until_its_body_is_wanted(site: Site) -> None:
    with Line(site) as line:
        line.send(site.head(length=1, more="\r\nExpect: 100-continue"))
        assert line.until_continue()
        line.send(b"x")
        assert not line.answer().is_express


@pytest.mark.parametrize(
    "first",
    [
        "GET /things/a/ask HTTP/1.1", "POST /things/a/ask?b=1 HTTP/1.1", "POST /things/%61/ask HTTP/1.1",
        "POST /things/a/ask HTTP/1.0", "POST /things/a/ask/ HTTP/1.1", "POST /things/a/b/ask HTTP/1.1",
    ],
)  # fmt: skip
def test_other_requests_are_the_applications(site: Site, first: str) -> None:
    assert not ask(site, site.head().replace(b"POST /things/a/ask HTTP/1.1", first.encode())).is_express


def test_large_bodies_and_answers_in_parts_are_the_applications(site: Site) -> None:
    assert ask(site, site.head(length=MOST_BYTES), b"x" * MOST_BYTES).is_express
    assert not ask(site, site.head(length=MOST_BYTES + 1), b"x" * (MOST_BYTES + 1)).is_express
    parts = ask(site, site.head("parts"))
    assert not parts.is_express
    assert parts.status == 200


@pytest.mark.parametrize("token", ["dapi0123", "", "nonsense é"])
def test_nobody_gets_in_without_a_good_token(site: Site, token: str) -> None:
    quick, slow = (ask(site, site.head(token=token, more=more)) for more in ("", "\r\nTE: trailers"))
    assert quick.status == 401
    assert "www-authenticate" in quick.headers
    assert quick.body == slow.body
    assert quick.headers.keys() - OF_PAGES == slow.headers.keys() - OF_PAGES
    mine, its = site.events()
    assert (mine["status"], mine["actor"], mine["error"]) == (401, "", "UNAUTHENTICATED")
    own = {"id", "request", "time_us"}
    assert {key: mine[key] for key in mine if key not in own} == {key: its[key] for key in its if key not in own}


def test_who_has_no_good_token_and_leaves_is_in_the_audit(site: Site) -> None:
    with Line(site) as line:
        line.send(site.head(token="dapi0123"))
    wait_until(lambda: any(event["status"] == 401 for event in site.events()), what="the refusal in the audit")


def test_an_answer_that_is_not_plain_after_all_is_none(site: Site) -> None:
    answer = ask(site, site.head("odd"))
    assert (answer.status, answer.is_express) == (500, True)
    assert LET_GO.is_set(), "what it holds is let go of"


def test_a_token_counts_no_longer_than_it_is_good(site: Site) -> None:
    identity = site.identity
    ann = identity.user("ann@example.com")
    token = identity.token_of("ann@example.com")
    with Line(site) as line:
        line.send(site.head(token=token))
        assert line.answer().is_express
        identity.directory.delete(identity.admin, PrincipalKind.USER, ann.id)
        line.send(site.head(token=token))
        assert line.answer().status == 401


def test_what_there_is_no_time_for_is_refused_at_once_and_told_in_sum(site: Site) -> None:
    ask(site, site.head("a"))
    busy = site.head("busy", length=1, more="\r\nUser-Agent: me") + b"x"
    with Line(site) as line:
        line.send(busy)
        assert line.answer().status == 200, "who was not seen for this path yet is let through"
        line.send(busy * 40 + site.head("q"))
        refused = [line.answer() for _ in range(40)]
        assert {each.status for each in refused} == {429}
        assert orjson.loads(line.answer().body)["name"] == "q"
    wait_until(lambda: site.events()[-1]["status"] == 429, what="the refusals in the audit")
    told = site.events()[-1]
    assert (told["name"], told["actor"], told["agent"]) == ("/things/busy/ask", ADMIN, "me")
    assert (told["error"], told["details"]) == ("RESOURCE_EXHAUSTED", {"times": "40"})
    assert {each.headers["x-request-id"] for each in refused} == {told["request"]}


def test_only_who_is_known_is_counted_and_only_until_there_is_an_answer(site: Site) -> None:
    ask(site, site.head("a"))
    with Line(site) as known, Line(site) as stranger, Line(site) as other:
        known.send(site.head("slow"))
        GATE.set()
        known.answer()
        GATE.clear()
        stranger.send(site.head("slow", token="dapi0123"))
        assert stranger.answer().status == 401
        assert not UNDER_WAY
        known.send(site.head("slow"))
        wait_until(lambda: UNDER_WAY == [ADMIN], what="the request being counted")
        other.send(site.head("a"))
        other.answer()
        GATE.set()
        assert known.answer().status == 200
        wait_until(lambda: not UNDER_WAY, what="it being counted no more")


def test_who_leaves_harms_nobody(site: Site) -> None:
    with Line(site) as line:
        line.send(site.head("slow"))
    with Line(site) as line:
        line.send(site.head(length=9), b"half")
    GATE.set()
    assert ask(site, site.head()).is_express


@pytest.mark.parametrize("more", ["", "\r\nTE: trailers"])
def test_a_connection_is_closed_when_it_is_idle_and_not_before(
    site: Site, monkeypatch: pytest.MonkeyPatch, more: str
) -> None:
    """Whichever way its last request went, and whichever those before it."""
    monkeypatch.setattr(ExpressProtocol, "timeout_keep_alive", property(lambda _: 0.4, lambda *_: None), raising=False)
    with Line(site) as line:
        began = time.monotonic()
        while time.monotonic() - began < 1.0:
            for head, is_express in ((site.head(more="\r\nTE: trailers"), False), (site.head(), True)):
                line.send(head)
                assert line.answer().is_express == is_express
        line.send(site.head(more=more))
        line.answer()
        assert line.is_closed()
