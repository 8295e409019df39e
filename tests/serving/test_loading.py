"""Models that do not load: what their endpoint says, and what it costs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from millpond.kernel.database import Database
from millpond.kernel.settings import ServingSettings
from tests.databases import Databases
from tests.serving.harness import ServingServer, serving_server
from tests.serving.test_endpoints import API

SAID = {
    "hoarder": "MemoryError",
    "quitter": "the model's process ended with code 9",
    "needs_package": "The model needs the Python package 'no_such_package', which is not installed",
    "broken": "RuntimeError: the weights are missing",
}


@pytest.fixture(scope="module")
def serving(databases: Databases, tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[ServingServer]:
    """A server with an endpoint for each model that does not load, and one that does."""
    directory = tmp_path_factory.mktemp("loading")
    limits = ServingSettings(memory_limit_bytes=1 << 30)
    with (
        databases.new("sqlite", directory) as database,
        serving_server(database, directory, models, serving=limits) as server,
    ):
        server.create("good", "scale", wait=False)
        for name in SAID:
            server.create(name, name, wait=False)
        yield server


@pytest.mark.parametrize("model", SAID)
def test_a_model_that_does_not_load_says_why(serving: ServingServer, model: str) -> None:
    endpoint = serving.settled(model, timeout_s=180)
    assert endpoint["state"] == {"ready": "NOT_READY", "config_update": "UPDATE_FAILED"}
    state = endpoint["pending_config"]["served_entities"][0]["state"]
    assert state["deployment"] == "DEPLOYMENT_FAILED"
    assert SAID[model] in state["deployment_state_message"]
    assert str(serving.data_dir) not in state["deployment_state_message"]


def test_a_model_that_never_ends_loading_is_given_up(database: Database, tmp_path: Path, models: Path) -> None:
    with serving_server(database, tmp_path, models, serving=ServingSettings(start_timeout_s=3)) as server:
        endpoint = server.create("sleeper", "sleeper")
        state = endpoint["pending_config"]["served_entities"][0]["state"]
        assert state["deployment_state_message"] == "The model did not load within 3 s."


def test_what_is_missing_is_named_with_its_version(serving: ServingServer) -> None:
    state = serving.settled("needs_package", timeout_s=180)["pending_config"]["served_entities"][0]["state"]
    assert "not installed here: no-such-package==1.0" in state["deployment_state_message"]


def test_what_a_model_printed_before_it_quit_is_told(serving: ServingServer) -> None:
    state = serving.settled("quitter", timeout_s=180)["pending_config"]["served_entities"][0]["state"]
    assert "about to quit" in state["deployment_state_message"]
    assert "about to quit" in serving.call("GET", f"{API}/quitter/served-models/quitter/logs").json["logs"]


def test_a_neighbour_loads_all_the_same(serving: ServingServer) -> None:
    serving.ready("good", timeout_s=180)
    answer = serving.call("POST", "/serving-endpoints/good/invocations", {"dataframe_records": [{"x": 2}]})
    assert answer.json == {"predictions": [{"y": 2.0}]}
