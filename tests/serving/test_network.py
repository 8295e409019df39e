"""A served model reaches nobody unless it was let, and learns nothing of the server where its file is loaded."""

import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import Databases
from tests.servers import wait_until
from tests.serving.harness import ServingServer, serving_server
from tests.serving.test_endpoints import API
from tests.serving.test_following import CHAMPION

pytestmark = pytest.mark.parametrize("serving", ["sqlite"], indirect=True)
OPEN = {"MILLPOND_NETWORK": "true"}


class _Greeting(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(b"hello")


@pytest.fixture(scope="module")
def peer() -> Iterator[str]:
    """Somebody who listens on this machine, as the database of a server may."""
    with socketserver.TCPServer(("127.0.0.1", 0), _Greeting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_model_reaches_nobody_unless_an_administrator_lets_it(serving: ServingServer, peer: str) -> None:
    serving.create("alone", "obedient")
    answer = serving.ask("alone", f"connect:{peer}")
    assert answer.status == 400
    assert "Error" in answer.json["message"]
    state = serving.get("alone")["config"]["served_entities"][0]["state"]
    assert "network" not in state["deployment_state_message"], "this system lets a process have one of its own"
    serving.create("open", "obedient", environment_vars=OPEN)
    assert serving.ask("open", f"connect:{peer}").json == {"predictions": ["hello"]}


def test_others_are_refused_by_name(serving: ServingServer) -> None:
    ann = serving.user("ann@example.com")
    entity = {"entity_name": "obedient", "entity_version": "1", "environment_vars": OPEN}
    body = {"name": "hers", "config": {"served_entities": [entity]}}
    serving.source.owner = "ann@example.com"
    try:
        answer = serving.call("POST", API, body, token=ann)
    finally:
        serving.source.owner = serving.admin.name
    assert (answer.status, answer.json["error_code"]) == (403, "PERMISSION_DENIED")
    assert "MILLPOND_NETWORK" in answer.json["message"]
    entity["environment_vars"] = {"MILLPOND_NETWORK": "please"}
    assert serving.call("POST", API, body).status == 400


def follows_with_network(serving: ServingServer, name: str) -> tuple[str, str]:
    """An endpoint that an administrator has made, of an alias and with the network; its model, and whom it reached."""
    model = f"prod.ml.{name}"
    serving.source.versions.update({(model, "1"): "obedient", (model, "2"): "obedient"})
    serving.source.moved[model, CHAMPION] = "1"
    entity = {"entity_name": model, "entity_version": "@champion", "name": "main", "environment_vars": OPEN}
    body = {"name": name, "config": {"served_entities": [entity]}}
    assert serving.call("POST", API, body).status == 200
    serving.settled(name)
    return model, name


def answers(serving: ServingServer, name: str, peer: str) -> str:
    """The version that answers, which reaches the peer."""
    answer = serving.ask(name, f"connect:{peer}")
    assert answer.json == {"predictions": ["hello"]}
    return answer.headers["served-model-version"]


def said(serving: ServingServer, name: str) -> str:
    (shown,) = serving.get(name)["config"]["served_entities"]
    return str(shown["state"]["deployment_state_message"])


def test_a_moved_alias_takes_the_network_along_only_where_an_administrator_moved_it(
    serving: ServingServer, peer: str
) -> None:
    model, name = follows_with_network(serving, "reaching")
    assert answers(serving, name, peer) == "1"
    serving.user("mover@example.com")
    for mover in (None, "nobody@example.com", "mover@example.com"):
        if mover is not None:
            serving.source.movers[(model, CHAMPION), "2"] = mover
        serving.source.moved[model, CHAMPION] = "2"
        wait_until(lambda: "Version 1 stays: an administrator opened the network" in said(serving, name), what="why")
        assert "let alias 'champion' name version 2" in said(serving, name)
        assert answers(serving, name, peer) == "1"
        serving.source.moved[model, CHAMPION] = "1"
        wait_until(lambda: "stays" not in said(serving, name), what="the alias being where it was")
    serving.source.movers[(model, CHAMPION), "2"] = serving.admin.name
    serving.source.moved[model, CHAMPION] = "2"
    wait_until(lambda: answers(serving, name, peer) == "2", timeout_s=30, what="what an administrator moved")
    assert "stays" not in said(serving, name)


def test_whoever_manages_an_endpoint_may_be_trusted_with_it(
    serving: ServingServer, databases: Databases, tmp_path: Path, models: Path, peer: str
) -> None:
    with (
        databases.new("sqlite", tmp_path) as database,
        serving_server(database, tmp_path, models, managers_open_network=True) as trusting,
    ):
        model, name = follows_with_network(trusting, "trusting")
        trusting.source.moved[model, CHAMPION] = "2"
        wait_until(lambda: answers(trusting, name, peer) == "2", timeout_s=30, what="what anybody moved")


def test_a_pickle_learns_nothing_of_the_server(serving: ServingServer) -> None:
    serving.create("thief", "thief")
    (found,) = serving.call("POST", "/serving-endpoints/thief/invocations", {"dataframe_records": [{"x": 1}]}).json[
        "predictions"
    ]
    assert found["parent"] == found["logs"] == found["data"] == "PermissionError"
    assert (found["tcp"], found["udp"]) == ("ConnectionRefusedError", "OSError")
    assert "PYTEST_CURRENT_TEST" not in found["environ"], "the server has it"
    assert not [name for name in found["environ"] if name.startswith(("MILLPOND_SECRET", "MILLPOND_DATA", "AWS_"))]
