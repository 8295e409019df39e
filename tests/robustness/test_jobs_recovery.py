"""Jobs survive kill -9 of the server: each run ends, nothing is lost, and only retries run twice."""

import os
import signal
import urllib.request
from pathlib import Path

import pytest

from tests.robustness.test_tree import _child, _ready
from tests.servers import Server, running_server, wait_until

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="reads the process tree from /proc")
JOBS = "/api/2.2/jobs"
SCRIPT = """
import sys, time
print("attempt", sys.argv[1], flush=True)
if sys.argv[1] in sys.argv[2:]:
    time.sleep(600)
"""


def run_of(server: Server, run_id: int) -> dict:
    return server.call("GET", f"{JOBS}/runs/get?run_id={run_id}")[1]


def test_a_killed_server_finishes_its_runs_when_it_is_back(tmp_path: Path) -> None:
    """One task has ended, one is tried again, one is not, one waits."""
    with running_server(tmp_path / "data", env={"MILLPOND_JOBS__TRIGGER_POLL_S": "0.3"}) as server:
        volume = {"catalog_name": "main", "schema_name": "default", "name": "v", "volume_type": "MANAGED"}
        assert server.call("POST", "/api/2.1/unity-catalog/volumes", volume)[0] == 200
        put(server, path := "/Volumes/main/default/v/s.py", SCRIPT)

        def task(key: str, *parameters: str, **more: object) -> dict:
            script = {"python_file": path, "parameters": ["{{task.execution_count}}", *parameters]}
            return {"task_key": key, "spark_python_task": script, **more}

        tasks = [
            task("first"),
            task("again", "1", depends_on=[{"task_key": "first"}], max_retries=1),
            task("never", "1", depends_on=[{"task_key": "first"}]),
            task("last", depends_on=[{"task_key": "again"}]),
        ]
        run_id = server.call("POST", f"{JOBS}/runs/submit", {"tasks": tasks})[1]["run_id"]

        def printed(key: str) -> str:
            number = next(each["run_id"] for each in run_of(server, run_id)["tasks"] if each["task_key"] == key)
            return server.call("GET", f"{JOBS}/runs/get-output?run_id={number}")[1]["logs"]

        wait_until(lambda: printed("again") and printed("never"), what="both to be at work")
        watching, landing = watched(server)
        victim = _child(server.state["pid"], "millpond.server_process")
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        (landing / "new.csv").write_text("while no server ran")
        wait_until(lambda: _ready(server), timeout_s=60, what="readiness")
        wait_until(lambda: run_of(server, run_id)["state"]["life_cycle_state"] == "TERMINATED", what="the run's end")
        ended = [
            (each["task_key"], each["attempt_number"], each["state"]["result_state"])
            for each in run_of(server, run_id)["tasks"]
        ]
        assert sorted(ended) == [
            ("again", 0, "FAILED"),
            ("again", 1, "SUCCESS"),
            ("first", 0, "SUCCESS"),
            ("last", 0, "SUCCESS"),
            ("never", 0, "FAILED"),
        ]
        assert "server ended" in run_of(server, run_id)["state"]["state_message"]
        found = wait_until(lambda: runs_of(server, watching), what="the run for the file")
        assert [each["trigger"] for each in found] == ["FILE_ARRIVAL"]


def watched(server: Server) -> tuple[int, Path]:
    """A job that waits for files, and the directory of this machine where they arrive."""
    volume = {"catalog_name": "main", "schema_name": "default", "name": "landing", "volume_type": "MANAGED"}
    place = server.call("POST", "/api/2.1/unity-catalog/volumes", volume)[1]["storage_location"]
    task = {"task_key": "a", "condition_task": {"op": "EQUAL_TO", "left": "1", "right": "1"}}
    trigger = {"file_arrival": {"url": "/Volumes/main/default/landing/"}}
    job_id = server.call("POST", f"{JOBS}/create", {"tasks": [task], "trigger": trigger})[1]["job_id"]
    directory = Path(place.removeprefix("file://"))
    directory.mkdir(parents=True, exist_ok=True)
    return job_id, directory


def runs_of(server: Server, job_id: int) -> list[dict]:
    return server.call("GET", f"{JOBS}/runs/list?job_id={job_id}")[1]["runs"]


def put(server: Server, path: str, text: str) -> None:
    """Write a file through the Files API."""
    request = urllib.request.Request(f"{server.url}/api/2.0/fs/files{path}", data=text.encode(), method="PUT")
    request.add_header("Authorization", f"Bearer {server.token}")
    urllib.request.urlopen(request, timeout=60).close()
