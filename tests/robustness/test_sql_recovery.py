"""SQL survives kill -9: each statement ends, results stay, and no session goes on as another."""

import os
import signal
from pathlib import Path

import pytest

from tests.robustness.test_tree import _child, _ready
from tests.servers import Server, running_server, wait_until

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="reads the process tree from /proc")
SLOW = "SELECT count(*) FROM range(100000) a CROSS JOIN range(1000000) b WHERE (a.id * b.id) % 7 = 3"
STATEMENTS = "/api/2.0/sql/statements"


def send(server: Server, text: str, **more: object) -> tuple[int, dict]:
    return server.call("POST", STATEMENTS, {"statement": text, "warehouse_id": "starter", **more})


def kill(server: Server, name: str) -> None:
    """Kill a process of the tree and wait until the supervisor has started another."""
    module = f"millpond.{name}_process"
    victim = _child(server.state["pid"], module)
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: _child(server.state["pid"], module) not in {None, victim}, timeout_s=60)
    wait_until(lambda: _ready(server), timeout_s=60, what="readiness")


@pytest.mark.long
def test_killed_processes_leave_no_statement_without_an_end(tmp_path: Path) -> None:
    """First the server, then the gateway, under running statements, with a session open."""
    with running_server(tmp_path / "data") as server:
        done = send(server, "SELECT 42", wait_timeout="30s")[1]
        assert done["status"]["state"] == "SUCCEEDED", done
        running = send(server, SLOW, wait_timeout="0s")[1]["statement_id"]
        kill(server, "server")
        status = server.call("GET", f"{STATEMENTS}/{running}")[1]["status"]
        assert (status["state"], status["error"]["error_code"]) == ("FAILED", "ABORTED")
        assert "run it again" in status["error"]["message"]
        assert server.call("GET", f"{STATEMENTS}/{done['statement_id']}")[1]["result"]["data_array"] == [["42"]]

        body = {"warehouse_id": "starter", "catalog": "system"}
        session = server.call("POST", "/api/2.0/sql/sessions", body)[1]["session_id"]
        assert send(server, "SELECT current_catalog()")[1]["result"]["data_array"] == [["main"]]
        running = send(server, SLOW, wait_timeout="0s")[1]["statement_id"]
        kill(server, "gateway")

        def state() -> str:
            return server.call("GET", f"{STATEMENTS}/{running}")[1]["status"]["state"]

        wait_until(lambda: state() == "FAILED", what="the end of the statement")
        lost = send(server, "SELECT current_catalog()", session_id=session, wait_timeout="30s")[1]["status"]
        assert (lost["state"], lost["sql_state"]) == ("FAILED", "HY000"), lost
        assert "session was lost" in lost["error"]["message"]
        assert send(server, "SELECT 1", session_id=session)[0] == 404
        again = send(server, "SELECT current_catalog()", wait_timeout="30s")[1]
        assert again["result"]["data_array"] == [["main"]]
