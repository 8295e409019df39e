"""What a client sends is taken for no more than it is."""

import io
import json
import sys
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from millpond.kernel.errors import FailedPrecondition, InvalidArgument
from millpond.reproduction.domain import Capture, Outcome, State
from millpond.reproduction.restoring import restore_code, restore_inputs, write_order
from millpond.reproduction.service import CLIENT, SERVER, as_seen
from millpond.reproduction.store import Reproduction
from millpond.reproduction.wire import check_shape
from millpond.sdk import randomness
from millpond.sdk.bundle import end_bundle, start_bundle
from tests.servers import Server


def _told(data: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        told: dict[str, Any] = json.loads(archive.read("capture.json"))
        return told


@pytest.fixture(scope="module")
def start() -> dict[str, Any]:
    """What the plugin tells of this very process."""
    seen = {"random": {"python": [], "numpy": None}, "seeds": randomness.seeds(), "cells": None}
    return _told(start_bundle(seen, []))


def test_what_the_plugin_tells_has_the_shape(start: dict[str, Any]) -> None:
    check_shape(start, "start")
    check_shape(_told(end_bundle([], 0)), "end")
    assert start["python"]["version"] == ".".join(map(str, sys.version_info[:3]))


@pytest.mark.parametrize("key", ["code", "packages", "inputs", "variables", "platform", "random"])
def test_what_has_another_shape_is_refused_by_name(start: dict[str, Any], key: str) -> None:
    with pytest.raises(InvalidArgument, match=key):
        check_shape({**start, key: 7}, "start")


@pytest.mark.parametrize("name", ["code/../out.py", "code//etc/out.py", "code/a/../../../out.py"])
def test_code_stays_in_its_directory(tmp_path: Path, name: str) -> None:
    bundle = tmp_path / "start.zip"
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(FailedPrecondition, match="outside"):
        restore_code([bundle], tmp_path / "code")
    assert not list(tmp_path.rglob("out.py"))


def test_a_working_directory_elsewhere_is_not_made(start: dict[str, Any], tmp_path: Path) -> None:
    capture = Capture(id="x", start={**start, "code": {**start["code"], "cwd": "../../made"}})
    with pytest.raises(FailedPrecondition, match="outside"):
        write_order(tmp_path, capture, tmp_path / "a" / "b", "")
    assert not (tmp_path / "made").exists()


def test_a_file_elsewhere_is_not_looked_at(start: dict[str, Any], tmp_path: Path) -> None:
    """Not even compared: whether the digest is right would tell what a file of the server has in it."""
    root, told = start["code"]["root"], {"size": 1, "sha256": "0" * 64}
    inputs = [{"path": f"{root}/../../../../etc/passwd", **told}, {"path": "/etc/passwd", **told}]
    capture = Capture(id="x", start={**start, "inputs": inputs})
    found = restore_inputs(capture, tmp_path, may_look=False)
    assert [each.outcome for each in found] == [Outcome.MISSING, Outcome.MISSING]


def test_a_capture_is_its_senders_alone(server: Server, start: dict[str, Any]) -> None:
    """Naming another's capture in a run of one's own shows nothing of it."""
    capture_id, data = f"{'a' * 32}-1", io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("capture.json", json.dumps(start))
    ann, bob = server.new_user("ann@captures.org"), server.new_user("bob@captures.org")
    assert _put(server, capture_id, data.getvalue(), ann) == 200
    assert _put(server, capture_id, data.getvalue(), ann) == 200, "the same again is no harm"
    assert _put(server, capture_id, data.getvalue(), bob) == 403
    tags = [{"key": "millpond.capture", "value": capture_id}]
    for token, seen in ((ann, True), (bob, False)):
        body = {"experiment_id": "0", "tags": tags}
        _, made = server.call("POST", "/api/2.0/mlflow/runs/create", body, token=token)
        path = f"/api/millpond/runs/{made['run']['info']['run_id']}/capture"
        _, shown = server.call("GET", path, token=token)
        assert (shown["capture"] is not None) == seen


def test_the_token_of_a_reproduction_elsewhere_ends_when_it_is_concluded(server: Server, start: dict[str, Any]) -> None:
    capture_id, data = f"{'c' * 32}-1", io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("capture.json", json.dumps(start))
    ann = server.new_user("ann@reproduces.org")
    assert _put(server, capture_id, data.getvalue(), ann) == 200
    body = {"experiment_id": "0", "tags": [{"key": "millpond.capture", "value": capture_id}]}
    run_id = server.call("POST", "/api/2.0/mlflow/runs/create", body, token=ann)[1]["run"]["info"]["run_id"]
    ours = "/api/millpond/reproductions"
    status, begun = server.call("POST", ours, {"run_id": run_id, "place": "client"}, token=ann)
    assert status == 200, begun

    def seen() -> int:
        return server.call("GET", f"/api/2.0/mlflow/runs/get?run_id={run_id}", token=begun["token"])[0]

    assert seen() == 200
    path = f"{ours}/{begun['reproduction']['id']}/verdict"
    assert server.call("POST", path, {"outcome": "failed"}, token=ann)[0] == 200
    assert seen() == 401


def _put(server: Server, capture_id: str, data: bytes, token: str) -> int:
    import httpx

    headers = {"Authorization": f"Bearer {token}"}
    return httpx.put(
        f"{server.url}/api/millpond/captures/{capture_id}/start", content=data, headers=headers
    ).status_code


def test_what_a_client_never_ended_is_over_when_its_credential_is() -> None:
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    found = Reproduction(
        id="x", run_id="r", new_run_id="", requester="ann", place=CLIENT, state=State.RUNNING, outcome="", verdict={},
        created_at=begun, ended_at=None,
    )  # fmt: skip
    assert as_seen(found, 60, begun + timedelta(seconds=59)) == found
    ended = as_seen(found, 60, begun + timedelta(seconds=60))
    assert (ended.state, ended.outcome) == (State.DONE, Outcome.IMPOSSIBLE)
    assert "did not tell" in ended.verdict["missing"][0]
    by_server = replace(found, place=SERVER)
    assert as_seen(by_server, 60, begun + timedelta(days=1)) == by_server
