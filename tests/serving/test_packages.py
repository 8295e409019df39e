"""Models that were logged with other packages than the server's run with those."""

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from millpond.kernel.environments import Environments
from millpond.kernel.settings import EnvironmentSettings, ServingSettings
from tests.databases import Databases
from tests.servers import wait_until
from tests.serving.harness import ServingServer, serving_server
from tests.serving.test_endpoints import API
from tests.wheels import Index, package_index

ASKED = {"dataframe_records": [{"x": 1}]}


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """An index with what one of the models needs, and an MLflow of which there is only the name."""
    with package_index(tmp_path / "index") as index:
        index.add("pond")
        index.add("msgspec", "0.19")
        index.add("mlflow", version("mlflow"))
        yield index


@pytest.fixture
def apart(databases: Databases, tmp_path: Path, models: Path, index: Index) -> Iterator[ServingServer]:
    """A server that builds environments from that index."""
    environments = Environments(tmp_path / "environments", EnvironmentSettings(index_url=index.url))
    with (
        databases.new("sqlite", tmp_path) as database,
        serving_server(database, tmp_path, models, environments=environments) as server,
    ):
        yield server


def state_of(server: ServingServer, name: str) -> Any:
    """How the only served entity of a pending configuration is doing."""
    return server.get(name)["pending_config"]["served_entities"][0]["state"]


def build_log(server: ServingServer, name: str, entity: str) -> str:
    return str(server.call("GET", f"{API}/{name}/served-models/{entity}/build-logs").json["logs"])


def test_an_environment_that_cannot_be_built_says_why(apart: ServingServer, index: Index) -> None:
    apart.create("lacking", "needs_package")
    assert apart.get("lacking")["state"]["config_update"] == "UPDATE_FAILED"
    state = state_of(apart, "lacking")
    assert state["deployment"] == "DEPLOYMENT_FAILED"
    assert "environment could not be built" in state["deployment_state_message"]
    assert "no-such-package" in state["deployment_state_message"]
    assert index.url not in state["deployment_state_message"]
    assert "missing: no-such-package==1.0" in build_log(apart, "lacking", "needs_package")


def test_what_is_built_is_told_meanwhile_and_afterwards(apart: ServingServer, index: Index) -> None:
    index.held.clear()
    apart.create("apart", "pond", wait=False)
    wait_until(lambda: "Building" in state_of(apart, "apart")["deployment_state_message"], what="the build")
    assert state_of(apart, "apart")["deployment"] == "DEPLOYMENT_CREATING"
    assert "An environment of its own is needed" in build_log(apart, "apart", "pond")
    index.held.set()
    apart.settled("apart")
    told = build_log(apart, "apart", "pond")
    assert "  pond==1.0\n" in told
    assert "ModuleNotFoundError" in told, "it has what it asked for and nothing of the server's"


def test_what_is_met_by_the_server_runs_with_its_packages(apart: ServingServer, index: Index) -> None:
    apart.create("here", "versions")
    answer = apart.call("POST", "/serving-endpoints/here/invocations", ASKED)
    assert answer.json["predictions"][0]["click"] == version("click")
    assert not index.asked


@pytest.mark.long
@pytest.mark.timeout(900)
def test_versions_of_one_endpoint_each_have_their_packages(databases: Databases, tmp_path: Path, models: Path) -> None:
    """From the index of the settings, with all that MLflow needs."""
    environments = Environments(tmp_path / "environments")
    patience = ServingSettings(start_timeout_s=300)
    with (
        databases.new("sqlite", tmp_path) as database,
        serving_server(database, tmp_path, models, serving=patience, environments=environments) as server,
    ):
        server.create("both", "versions", "other_click", wait=False)
        endpoint = server.settled("both", timeout_s=800)
        assert endpoint["state"]["config_update"] == "NOT_UPDATING", endpoint
        paths = [f"/serving-endpoints/both/served-models/{name}/invocations" for name in ("versions", "other_click")]
        own, other = (server.call("POST", path, ASKED).json["predictions"][0] for path in paths)
        assert (own["click"], other["click"]) == (version("click"), "8.1.7")
        assert str(tmp_path / "environments") in other["prefix"]
        assert not other["ours"]
        state = server.get("both")["config"]["served_entities"][1]["state"]
        assert "environment of its own" in state["deployment_state_message"]
