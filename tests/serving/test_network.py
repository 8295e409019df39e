"""A served model reaches nobody unless it was let, and learns nothing of the server where its file is loaded."""

import socketserver
import threading
from collections.abc import Iterator

import pytest

from tests.serving.harness import ServingServer
from tests.serving.test_endpoints import API

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


def test_a_pickle_learns_nothing_of_the_server(serving: ServingServer) -> None:
    serving.create("thief", "thief")
    (found,) = serving.call("POST", "/serving-endpoints/thief/invocations", {"dataframe_records": [{"x": 1}]}).json[
        "predictions"
    ]
    assert found["parent"] == found["logs"] == found["data"] == "PermissionError"
    assert (found["tcp"], found["udp"]) == ("ConnectionRefusedError", "OSError")
    assert "PYTEST_CURRENT_TEST" not in found["environ"], "the server has it"
    assert not [name for name in found["environ"] if name.startswith(("MILLPOND_SECRET", "MILLPOND_DATA", "AWS_"))]
