"""The audit's door: what counts as an act, and when it is written down."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from fastapi import FastAPI

from millpond.audit.door import AuditDoor
from millpond.journal import calls
from millpond.kernel.http import install_error_handlers


@pytest.fixture
def spools(tmp_path: Path) -> Iterator[Path]:
    """This process's spool, while a test runs."""
    calls.open_spool(tmp_path / "spools")
    yield tmp_path / "spools"
    calls.close_spool()


def written(spools: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for path in spools.glob("*.jsonl") for line in path.read_bytes().splitlines()]


def ask(app: Any, path: str = "/api/2.1/unity-catalog/catalogs", method: str = "GET") -> list[dict[str, Any]]:
    """The messages of an answer."""
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [],
        "client": ("10.0.0.1", 1),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(AuditDoor(app)(scope, receive, send))  # type: ignore[arg-type]
    return sent


async def well(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


@pytest.mark.parametrize(
    ("path", "method", "counts"),
    [
        ("/health", "GET", False), ("/health/ready", "GET", False), ("/metrics", "GET", False),
        ("/static/millpond.css", "GET", False), ("/_nicegui/3.0/components/x.js", "GET", False),
        ("/_nicegui_ws/socket.io/", "GET", False), ("/sign-in", "GET", False), ("/oidc/.well-known/x", "GET", False),
        ("/healthy", "GET", True), ("/_nicegui/client/1/upload/2", "POST", True), ("/sign-in", "POST", True),
        ("/api/2.0/fs/files/Volumes/a/b/c/.well-known/x", "GET", True), ("/api/2.0/fs/files/static/x", "GET", True),
        ("/", "GET", True), ("/ml/ajax-api/2.0/mlflow/runs/get", "GET", True),
    ],
)  # fmt: skip
def test_acts_count_and_noise_does_not(spools: Path, path: str, method: str, counts: bool) -> None:
    """Nothing that reads or changes can be made to look like noise."""
    ask(well, path, method)
    assert len(written(spools)) == counts


def test_an_answer_begins_when_its_event_is_written(spools: Path) -> None:
    """So that whoever has an answer is in the audit."""
    seen: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def watched(message: Any) -> None:
            await send(message)
            seen.append(len(written(spools)))

        await well(scope, receive, watched)

    ask(app)
    assert seen == [1, 1]


def test_what_cannot_be_written_down_is_not_answered(spools: Path) -> None:
    """A disk without room: 507, and not a byte of the answer."""
    spools.write_text("a file where the directory should be")
    app = FastAPI()
    install_error_handlers(app)
    app.get("/api/2.1/unity-catalog/catalogs")(lambda: "hidden")
    for answering in (well, app):
        start, body = ask(answering)
        assert start["status"] == 507
        assert orjson.loads(body["body"])["error_code"] == "RESOURCE_EXHAUSTED"


def test_a_failure_is_told_with_its_code(spools: Path) -> None:
    """The code comes out of the body; an exception that nobody handled is an internal error."""

    async def refusing(_scope: Any, _receive: Any, send: Any) -> None:
        calls.refused("7", "eve", "read", "table", "main.s.t")
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}'})

    async def breaking(_scope: Any, _receive: Any, _send: Any) -> None:
        raise ZeroDivisionError

    assert [message["type"] for message in ask(refusing)] == ["http.response.start", "http.response.body"]
    with pytest.raises(ZeroDivisionError):
        ask(breaking)
    first, second = written(spools)
    assert (first["status"], first["error"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert first["details"] == {"refused": "read", "object_kind": "table", "object_name": "main.s.t"}
    assert (second["status"], second["error"]) == (500, "INTERNAL_ERROR")
