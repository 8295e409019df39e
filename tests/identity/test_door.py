"""The door: what passes without a credential, what another site's page may send, and how much."""

import base64
import http.client
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from millpond.identity import middleware, seen_tokens
from millpond.identity.directory import DirectoryService
from millpond.identity.domain import PrincipalKind
from millpond.identity.limits import MAX_BODY_BYTES, MAX_PUBLIC_BODY_BYTES
from millpond.identity.middleware import current_principal, guarded
from millpond.identity.page_headers import _FILES
from millpond.kernel.database import Database
from tests.applications import served
from tests.databases import BACKENDS, Databases
from tests.identity.conftest import ADMIN, PASSWORD, Identity, Site, build_identity, build_site_app


@pytest.fixture(scope="module")
def site(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for all tests here, on SQLite: the door itself asks no SQL."""
    with databases.new("sqlite", tmp_path_factory.mktemp("door")) as database:
        identity = build_identity(database)
        with served(build_site_app(identity)) as url:
            yield Site(url=url, identity=identity)


@pytest.fixture
def own_identity(databases: Databases, tmp_path: Path) -> Iterator[Identity]:
    """The services for one test, on SQLite."""
    with databases.new("sqlite", tmp_path) as database:
        yield build_identity(database)


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def session_cookie(site: Site) -> dict[str, str]:
    _, secret = site.identity.service.sign_in(user_name=ADMIN, password=PASSWORD)
    return {"Cookie": f"millpond_session={secret}"}


def raw(site: Site, method: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """One request whose path no client library has tidied up."""
    with closing(http.client.HTTPConnection(urlsplit(site.url).netloc, timeout=20)) as connection:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read()


# A token that was just good


@pytest.mark.parametrize("kind", BACKENDS)
def test_a_token_is_looked_up_once_while_nothing_changes(
    kind: str, databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And again after each change, by whatever process: who was put out is out with the next request."""
    with databases.new(kind, tmp_path) as database:
        _ask_again_and_again(build_identity(database), monkeypatch)


def _ask_again_and_again(own_identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    user = own_identity.user("ann@door.org")
    token, service = own_identity.token_of("ann@door.org"), own_identity.service
    looks: list[str] = []
    by_secret = service.authenticate
    monkeypatch.setattr(service, "authenticate", lambda *asked, **more: looks.append("") or by_secret(*asked, **more))
    monkeypatch.setattr(seen_tokens, "_GOOD_FOR_S", 600.0)
    other = Database(own_identity.database.url)
    with served(build_site_app(own_identity)) as url, Site(url=url, identity=own_identity).http(token) as http_client:
        for _ in range(20):
            assert http_client.get("/api/2.0/token/list").status_code == 200
        assert len(looks) == 1 if other.is_sqlite else len(looks) < 10, "PostgreSQL's own work changes its mark, too"
        looks.clear()
        DirectoryService(other).delete(own_identity.admin, PrincipalKind.USER, user.id)
        assert http_client.get("/api/2.0/token/list").status_code == 401
        monkeypatch.setattr(seen_tokens, "_GOOD_FOR_S", 0.0)
        with Site(url=url, identity=own_identity).http() as admin:
            assert [admin.get("/api/2.0/token/list").status_code for _ in range(2)] == [200, 200]
    assert len(looks) == 3, "what may have expired is looked up again"
    other.dispose()


# Public or not


def test_only_the_listed_paths_answer_without_a_credential(site: Site) -> None:
    with site.http("") as http_client:
        assert http_client.get("/health").status_code == 200
        assert http_client.get("/.well-known/databricks-config").status_code == 200
        assert http_client.get("/oidc/.well-known/oauth-authorization-server").status_code == 200
        for path in ("/", "/act", "/api/2.0/token/list", "/metrics", "/_nicegui/3.0.0/static/x.js", "/static/other.js"):
            answer = http_client.get(path)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"] == 'Bearer realm="millpond"'


@pytest.mark.parametrize(
    "path",
    [
        "//health", "/health/", "/health/../act", "/health/..%2fact", "/health/%2e%2e/act", "/health%2f..%2fact",
        "/./health", "/HEALTH", "/health;/act", "/health%00", "/health%2f", "/oidc/v1/token/../../act",
        "/_nicegui/../act", "/_nicegui/..%2fact",
        "/static/millpond.css/../../act", "/sign-in/", "/sign-in%2f..%2fact", "/act?/health", "/act%3f/health",
        "/oidc//v1/token", "/\\health", "/health\\..\\act",
    ],
)  # fmt: skip
def test_no_other_spelling_of_a_public_path_is_public(site: Site, path: str) -> None:
    assert raw(site, "GET", path)[0] in {400, 401}


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "DELETE", "TRACE", "CONNECT", "PROPFIND"])
def test_no_method_passes_without_a_credential(site: Site, method: str) -> None:
    assert raw(site, method, "/act")[0] in {400, 401}


def test_a_token_passes_as_bearer_and_as_basic(site: Site) -> None:
    token = site.identity.admin_token
    for headers in (
        {"Authorization": f"Bearer {token}"}, {"Authorization": f"bearer   {token}"}, basic("token", token),
        basic(ADMIN, PASSWORD), session_cookie(site),
    ):  # fmt: skip
        with site.http("", headers=headers) as http_client:
            assert http_client.get("/act").json() == {"name": ADMIN}


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer x", "Basic", "Basic !!!", "Basic eA==", "Digest x", "x" * 5000, "Bearer a.b.c"],
)
def test_a_wrong_credential_is_refused_in_the_dialect_of_the_path(site: Site, header: str) -> None:
    with site.http("", headers={"Authorization": header}) as http_client:
        assert http_client.get("/api/2.0/token/list").json()["error_code"] == "UNAUTHENTICATED"
        scim = http_client.get("/api/2.0/preview/scim/v2/Me")
        assert (scim.status_code, scim.json()["status"]) == (401, "401")
        assert http_client.get("/health").status_code == 200


def test_a_browser_is_led_to_the_sign_in_page_and_back(site: Site) -> None:
    with site.http("", headers={"Accept": "text/html"}) as http_client:
        answer = http_client.get("/catalog/a%2Fb?tab=x&y=%26")
        assert answer.status_code == 303
        assert answer.headers["location"] == "/sign-in?next=%2Fcatalog%2Fa%252Fb%3Ftab%3Dx%26y%3D%2526"
        assert http_client.post("/act").status_code == 401
        assert http_client.get("/act", headers={"Authorization": "Bearer x"}).status_code == 401


def test_a_wrong_session_cookie_is_refused(site: Site) -> None:
    for secret in ("x", site.identity.admin_token, ""):
        assert raw(site, "GET", "/act", {"Cookie": f"millpond_session={secret}"})[0] == 401


def test_guessing_passwords_is_stopped(site: Site) -> None:
    with site.http("") as http_client:
        answers = [
            http_client.get("/act", headers=basic("nobody@example.com", f"guess{number}")) for number in range(11)
        ]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429]
    assert answers[-1].headers["retry-after"]


# Other sites' pages


FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://127.0.0.1"},
    {"Origin": "http://HOST@evil.example"},
    {"Origin": "http://HOST.evil.example"},
    {"Origin": "http://HOST", "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "http://evil.example", "X-Forwarded-Host": "evil.example"},
    {},
]


def with_host(site: Site, headers: dict[str, str]) -> dict[str, str]:
    return {name: value.replace("HOST", urlsplit(site.url).netloc) for name, value in headers.items()}


@pytest.mark.parametrize("headers", FOREIGN)
def test_another_sites_page_cannot_act_with_our_cookie(site: Site, headers: dict[str, str]) -> None:
    with site.http("", headers=session_cookie(site) | with_host(site, headers)) as http_client:
        assert http_client.post("/act").status_code == 403
        assert http_client.delete("/act").status_code == 403
        assert http_client.get("/act").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://HOST"},
        {"Origin": "http://HOST", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_our_own_page_acts_with_our_cookie(site: Site, headers: dict[str, str]) -> None:
    with site.http("", headers=session_cookie(site) | with_host(site, headers)) as http_client:
        assert http_client.post("/act").json() == {"name": ADMIN}


def test_a_remembered_basic_password_is_no_more_than_a_cookie(site: Site) -> None:
    with site.http("", headers=basic(ADMIN, PASSWORD)) as http_client:
        assert http_client.post("/act").status_code == 200
        assert http_client.post("/act", headers={"Origin": "https://evil.example"}).status_code == 403


def test_a_program_with_a_token_may_come_from_anywhere(site: Site) -> None:
    with site.http(headers={"Origin": "https://notebook.example"}) as http_client:
        assert http_client.post("/act").status_code == 200


def test_another_site_cannot_sign_a_browser_in(site: Site) -> None:
    with site.http("", headers={"Origin": "https://evil.example"}) as http_client:
        assert http_client.post("/sign-in", data={"token": "x"}).status_code == 403
        assert http_client.post("/oidc/v1/token", data={}).status_code == 403


def test_a_preflight_gets_no_permission(site: Site) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    with site.http("", headers=headers) as http_client:
        answer = http_client.options("/act")
    assert answer.status_code == 401
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.fixture
def proxied(own_identity: Identity) -> Iterator[Site]:
    """A site behind a proxy that ends TLS and changes the Host header."""
    with served(build_site_app(own_identity, public_url="https://millpond.example")) as url:
        yield Site(url=url, identity=own_identity)


def test_the_configured_address_is_ours_behind_a_proxy(proxied: Site) -> None:
    with proxied.http("", headers=session_cookie(proxied)) as http_client:
        assert http_client.post("/act", headers={"Origin": "https://millpond.example"}).status_code == 200
        for foreign in ("http://millpond.example", "https://millpond.example:8443", "https://millpond.example.evil"):
            assert http_client.post("/act", headers={"Origin": foreign}).status_code == 403
        config = http_client.get("/.well-known/databricks-config").json()
    assert config["oidc_endpoint"] == "https://millpond.example/oidc"


# Websockets


def socket_url(site: Site) -> str:
    return site.url.replace("http://", "ws://") + "/socket"


def test_a_websocket_needs_a_credential_and_our_origin(site: Site) -> None:
    cookie = session_cookie(site)
    with connect(socket_url(site), additional_headers=cookie, origin=site.url) as talking:  # type: ignore[arg-type]
        talking.send("hello")
        assert talking.recv() == f"{ADMIN}: hello"
    foreign = "https://evil.example"
    for headers, origin in [
        ({}, site.url),
        (cookie, foreign),
        (cookie, "null"),
        (cookie, None),
        ({"Cookie": "millpond_session=x"}, site.url),
    ]:
        with pytest.raises(InvalidStatus) as caught:
            connect(socket_url(site), additional_headers=headers, origin=origin)  # type: ignore[arg-type]
        assert caught.value.response.status_code == 403


def test_a_websocket_ends_with_its_session(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "_RECHECK_S", 0)
    cookie = session_cookie(site)
    with connect(socket_url(site), additional_headers=cookie, origin=site.url) as talking:  # type: ignore[arg-type]
        talking.send("hello")
        assert talking.recv() == f"{ADMIN}: hello"
        site.identity.service.close_session(cookie["Cookie"].partition("=")[2])
        talking.send("still there?")
        with pytest.raises(ConnectionClosed):
            talking.recv(timeout=10)


# Sizes


def test_a_body_that_is_read_into_memory_is_bounded(site: Site) -> None:
    def chunks(total: int) -> Iterator[bytes]:
        for _ in range(total >> 20):
            yield b" " * (1 << 20)

    with site.http() as http_client:
        assert http_client.post("/echo", content=b"x" * (1 << 20)).json() == {"size": 1 << 20}
        # announced: refused before it is sent
        status, body = raw(site, "POST", "/echo", {"Content-Length": str(MAX_BODY_BYTES + 1), **auth(site)})
        assert (status, b"INVALID_PARAMETER_VALUE" in body) == (413, True)
        # not announced: refused when it grows too large
        answer = http_client.post("/echo", content=chunks(MAX_BODY_BYTES + (2 << 20)))
        assert answer.status_code == 400
        assert "larger than" in answer.json()["message"]
        # a file streams
        size = MAX_BODY_BYTES + (2 << 20)
        assert http_client.post("/api/2.0/fs/files/Volumes/x", content=chunks(size)).json() == {"size": size}


def auth(site: Site) -> dict[str, str]:
    return {"Authorization": f"Bearer {site.identity.admin_token}"}


def test_a_body_of_nobody_is_small(site: Site) -> None:
    with site.http("") as http_client:
        answer = http_client.post("/oidc/v1/token", content=b"x" * (MAX_PUBLIC_BODY_BYTES + 1))
    assert answer.status_code == 413


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"\xff\xfe", b"{" * 100_000, b"null", b"1"])
def test_a_malformed_body_is_the_clients_mistake(site: Site, body: bytes) -> None:
    with site.http() as http_client:
        for path in ("/api/2.0/preview/scim/v2/Users", "/api/2.0/token/create", "/api/2.0/token/delete"):
            answer = http_client.post(path, content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code == 400, (path, answer.text)


def test_half_a_character_is_no_text(site: Site) -> None:
    with site.http(headers={"Content-Type": "application/json"}) as http_client:
        for path, key in (("/api/2.0/preview/scim/v2/Users", "userName"), ("/api/2.0/token/create", "comment")):
            answer = http_client.post(path, content=f'{{"{key}": "\\ud800"}}')
            assert answer.status_code == 400, (path, answer.text)


def test_a_torn_request_costs_only_itself(site: Site) -> None:
    address = urlsplit(site.url)
    for lines in (
        b"\r\n\r\n",
        b"GET /act HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET \0 HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01",
    ):
        with socket.create_connection((address.hostname or "", address.port or 0), timeout=10) as connection:
            connection.sendall(lines)
    assert httpx.get(site.url + "/health").status_code == 200


# Headers of pages and files


def test_answers_tell_browsers_what_they_must_not_do(site: Site) -> None:
    with site.http() as http_client:
        for path in ("/act", "/nothing", "/health"):
            headers = http_client.get(path).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert "frame-ancestors 'self'" in headers["content-security-policy"]
            assert "object-src 'none'" in headers["content-security-policy"]
            assert headers["referrer-policy"] == "same-origin"
        file = http_client.post("/api/2.0/fs/files/x", content=b"").headers
        assert "sandbox" in file["content-security-policy"]
        assert "default-src 'none'" in file["content-security-policy"]
    with site.http("") as http_client:
        assert http_client.get("/act").headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "is_file"),
    [
        ("/", False), ("/catalog/api", False), ("/ml/", False), ("/ml/static-files/a.js", False), ("/sign-in", False),
        ("/models/get-artifact", False),
        ("/api/2.0/fs/files/x.html", True), ("/get-artifact", True), ("/ml/get-artifact", True),
        ("/ml/ajax-api/2.0/mlflow/logged-models/m-1/artifacts/files", True),
        ("/ml//get-artifact", True), ("//get-artifact", True),
        ("/model-versions/get-artifact", True),
        ("/ajax-api/2.0/mlflow-artifacts/artifacts/1/x.svg", True), ("/ml/x.html", True),
    ],
)  # fmt: skip
def test_stored_files_are_told_from_pages(path: str, is_file: bool) -> None:
    assert bool(_FILES.match(path)) is is_file


def test_slow_handlers_keep_nobody_waiting_at_the_door(own_identity: Identity) -> None:
    release, waiting = threading.Event(), threading.Semaphore(0)

    def wait() -> None:
        waiting.release()
        release.wait(30)

    app = FastAPI()
    app.add_api_route("/slow", wait)

    @app.get("/quick")
    async def quick() -> str:
        return current_principal().name

    with served(guarded(app, identity=own_identity.service)) as url, ThreadPoolExecutor(60) as pool:
        headers = {"Authorization": f"Bearer {own_identity.admin_token}"}
        slow = [pool.submit(httpx.get, url + "/slow", headers=headers, timeout=60) for _ in range(60)]
        for _ in range(40):  # every thread that handlers have
            assert waiting.acquire(timeout=30)
        assert httpx.get(url + "/quick", headers=headers, timeout=10).json() == ADMIN
        release.set()
        assert {answer.result().status_code for answer in slow} == {200}
