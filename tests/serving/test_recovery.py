"""A server that stops in the middle goes on where it was."""

from pathlib import Path

import pytest

from millpond.kernel.database import Database
from tests.serving.harness import ServingServer, serving_server
from tests.serving.test_endpoints import API, config_of, predict, process_exists

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def worker_pids(server: ServingServer) -> list[int]:
    return [server.worker_pid(name) for name in ("stays", "fails") if server.runtime.find(name)]


def test_a_restart_brings_back_what_was_active_and_ends_what_was_begun(
    database: Database, tmp_path: Path, models: Path
) -> None:
    with serving_server(database, tmp_path, models) as server:
        server.create("stays", "churn")
        server.create("fails", "churn", wait=False)
        server.ready("fails")
        assert server.call("PUT", f"{API}/fails/config", config_of("broken")).status == 200
        server.settled("fails")
        server.create("begins", "scale", wait=False)
        assert server.call("PUT", f"{API}/stays/config", config_of("churn_swapped")).status == 200
        pids = worker_pids(server)
        downloads = server.source.downloads
    assert not any(process_exists(pid) for pid in pids)
    assert list((tmp_path / "run" / "serving").iterdir()) == []

    leftover = tmp_path / "serving" / "models" / ".half.copied"
    leftover.mkdir()
    with serving_server(database, tmp_path, models) as server:
        server.settled("stays", timeout_s=120)
        assert predict(server, "stays").json == {"predictions": [0]}
        server.ready("begins", timeout_s=120)
        failed = server.ready("fails", timeout_s=120)
        assert failed["state"]["config_update"] == "UPDATE_FAILED"
        assert failed["pending_config"]["served_entities"][0]["state"]["deployment"] == "DEPLOYMENT_FAILED"
        assert predict(server, "fails").json == {"predictions": [1]}
        assert server.source.downloads <= 2  # what is in the cache is not fetched again
        assert not leftover.exists()
    assert downloads >= 2


def test_an_endpoint_that_was_deleted_does_not_come_back(database: Database, tmp_path: Path, models: Path) -> None:
    with serving_server(database, tmp_path, models) as server:
        server.create("gone", "scale")
        assert server.call("DELETE", f"{API}/gone").status == 200
    with serving_server(database, tmp_path, models) as server:
        assert server.call("GET", API).json == {"endpoints": []}
        assert list((tmp_path / "serving" / "models").iterdir()) == []
