"""Jobs survive kill -9 of the server: each run ends, nothing is lost, and only retries run twice."""

import urllib.request
from pathlib import Path

import pytest

from tests.robustness.test_sql_recovery import kill
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
    with running_server(tmp_path / "data") as server:
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
        kill(server, "server")
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


def put(server: Server, path: str, text: str) -> None:
    """Write a file through the Files API."""
    request = urllib.request.Request(f"{server.url}/api/2.0/fs/files{path}", data=text.encode(), method="PUT")
    request.add_header("Authorization", f"Bearer {server.token}")
    urllib.request.urlopen(request, timeout=60).close()
