"""Usage survives kill -9 of the server: what was written counts once, and what was not is the last round's."""

import os
import signal
from pathlib import Path

import pytest

from tests.robustness.test_jobs_recovery import put, run_of
from tests.robustness.test_tree import _child, _ready
from tests.servers import running_server, wait_until

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="reads the process tree from /proc")
SCRIPT = """
import time
while time.process_time() < 300:
    until = time.process_time() + 0.1
    while time.process_time() < until:
        pass
    print(time.process_time(), flush=True)
    time.sleep(0.1)
"""


@pytest.mark.long
def test_a_killed_server_has_counted_what_a_task_used_once(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", env={"MILLPOND_BILLING__INTERVAL_S": "0.5"}) as server:
        volume = {"catalog_name": "main", "schema_name": "default", "name": "v", "volume_type": "MANAGED"}
        assert server.call("POST", "/api/2.1/unity-catalog/volumes", volume)[0] == 200
        put(server, path := "/Volumes/main/default/v/s.py", SCRIPT)
        tasks = [{"task_key": "t", "spark_python_task": {"python_file": path}}]
        run_id = server.call("POST", "/api/2.2/jobs/runs/submit", {"tasks": tasks})[1]["run_id"]

        def counted() -> float:
            found = server.call("GET", f"/api/millpond/jobs/runs/{run_id}/usage")[1]["usage"]
            return sum(each["usage_quantity"] for each in found if each["sku_name"] == "JOBS_CPU")

        wait_until(lambda: counted() > 1.5, timeout_s=60, what="some rounds of the meter")
        victim = _child(server.state["pid"], "millpond.server_process")
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: _ready(server), timeout_s=60, what="readiness")
        wait_until(lambda: run_of(server, run_id)["state"]["life_cycle_state"] == "TERMINATED", what="the run's end")
        [task] = run_of(server, run_id)["tasks"]
        printed = server.call("GET", f"/api/2.2/jobs/runs/get-output?run_id={task['run_id']}")[1]["logs"]
        used = float(printed.split()[-1])
        # the looks at a task are 4 s apart by then, at half a core
        assert 1.5 < counted() <= used + 0.5
        assert counted() > used - 4
