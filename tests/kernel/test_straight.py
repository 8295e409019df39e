"""The straight way to a handler answers as the application does."""

import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from millpond.kernel.errors import NotFound, ResourceExhausted, StorageFull
from millpond.kernel.http import Straight, first_headers, install_error_handlers

FAILURES = {
    "absent": NotFound("There is no such thing."),
    "often": ResourceExhausted("Too often.", retry_after_s=7),
    "full": StorageFull("The disk is full."),
    "broken": ZeroDivisionError("a secret"),
    "torn": ZeroDivisionError("torn"),
}


async def told(request: Request) -> Response:
    """Fails as its path says, else tells what it was asked."""
    if failure := FAILURES.get(request.path_params["name"]):
        raise failure
    return JSONResponse({"name": request.path_params["name"], "body": (await request.body()).decode()})


@pytest.fixture(params=["straight", "through the application"])
def client(request: pytest.FixtureRequest) -> TestClient:
    app = FastAPI()
    install_error_handlers(app)
    route = Route("/things/{name}/ask", told, methods=["POST"])
    app.router.routes.append(route)
    return TestClient(
        Straight(app, [route] if request.param == "straight" else []),
        raise_server_exceptions=False,
        follow_redirects=False,
    )


def test_a_request_is_answered(client: TestClient) -> None:
    assert client.post("/things/a b/ask", content="x").json() == {"name": "a b", "body": "x"}


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("absent", 404, "RESOURCE_DOES_NOT_EXIST"),
        ("often", 429, "RESOURCE_EXHAUSTED"),
        ("full", 507, "RESOURCE_EXHAUSTED"),
        ("broken", 500, "INTERNAL_ERROR"),
    ],
)
def test_errors_have_one_shape(client: TestClient, name: str, status: int, code: str) -> None:
    answer = client.post(f"/things/{name}/ask")
    assert (answer.status_code, answer.json()["error_code"]) == (status, code)
    assert "secret" not in answer.text
    assert answer.headers.get("retry-after") == ("7" if name == "often" else None)


def test_other_methods_and_paths_are_the_applications(client: TestClient) -> None:
    assert client.get("/things/a/ask").status_code == 405
    assert client.post("/things/a/b/ask").status_code == 404
    assert client.post("/things/a/ask/").status_code == 307


class _Whole(BaseRoute):
    """A route that answers all below it by itself."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"].rpartition("/")[2]
        if name == "torn":
            await send({"type": "http.response.start", "status": 200, "headers": []})
        if failure := FAILURES.get(name):
            raise failure
        await JSONResponse({"name": name, "by": scope["route"] is self})(scope, receive, send)


def test_all_paths_of_a_beginning_are_handed_over() -> None:
    app = FastAPI()
    install_error_handlers(app)
    client = TestClient(Straight(app, [], {"/whole/": _Whole()}), raise_server_exceptions=False)
    assert client.get("/whole/a").json() == {"name": "a", "by": True}
    assert client.delete("/whole/a/b").json() == {"name": "b", "by": True}
    assert client.get("/whole").status_code == client.get("/other/whole/").status_code == 404
    for name, status in (("absent", 404), ("often", 429), ("broken", 500)):
        answer = client.get(f"/whole/{name}")
        assert answer.status_code == status
        assert "secret" not in answer.text


def test_a_failure_in_the_midst_of_an_answer_is_not_a_second_answer() -> None:
    straight = Straight(FastAPI(), [], {"/whole/": _Whole()})
    with pytest.raises(ZeroDivisionError, match="torn"):
        TestClient(straight).get("/whole/torn")


def test_of_several_headers_the_first_counts() -> None:
    assert first_headers({"headers": [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]}) == {"a": "1", "b": "2"}
