"""Two servers on one PostgreSQL: schedules fire once, both take tasks, and one goes on where the other was killed."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.postgres import fresh_database
from tests.robustness.test_jobs_recovery import JOBS, put, run_of
from tests.robustness.test_tree import kill_tree
from tests.servers import Server, running_server, up, wait_until

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not Path("/proc").exists(), reason="reads the process tree from /proc"),
]
SCRIPT = """
import sys, time
print("attempt", sys.argv[1], flush=True)
if sys.argv[1] == "1":
    time.sleep(600)
"""


def submit(server: Server) -> int:
    script = {"python_file": "/Volumes/main/default/v/s.py", "parameters": ["{{task.execution_count}}"]}
    body = {"tasks": [{"task_key": "a", "spark_python_task": script, "max_retries": 1}]}
    return server.call("POST", f"{JOBS}/runs/submit", body)[1]["run_id"]


def attempts(server: Server, run_id: int) -> list[dict[str, Any]]:
    return sorted(run_of(server, run_id)["tasks"], key=lambda each: each["attempt_number"])


def test_one_goes_on_where_the_other_was_killed_and_the_clock_strikes_once(tmp_path: Path, postgres_url: str) -> None:
    env, other_dir = {"MILLPOND_JOBS__TASKS_AT_ONCE": "1", "MILLPOND_JOBS__TRIGGER_POLL_S": "0.3"}, tmp_path / "other"
    with fresh_database(postgres_url) as url, running_server(tmp_path / "one", "--database-url", url, env=env) as one:
        volume = {"catalog_name": "main", "schema_name": "default", "name": "v", "volume_type": "MANAGED"}
        assert one.call("POST", "/api/2.1/unity-catalog/volumes", volume)[0] == 200
        put(one, "/Volumes/main/default/v/s.py", SCRIPT)
        first = submit(one)
        wait_until(lambda: logs(tmp_path / "one", one, first), what="the first server to be busy")
        up(other_dir, "--database-url", url, env={**env, "MILLPOND_STORAGE_ROOT": storage(one)})
        fired, took_s = strikes(one)
        assert 3 <= fired <= took_s + 2
        assert arrivals(one, files=4) == 4
        second = submit(one)
        wait_until(lambda: logs(other_dir, one, second), what="the second server to take the other task")
        wait_until(lambda: "attempt 1" in printed(one, second, 0), what="what it prints there to be told here")
        kill_tree(other_dir)
        wait_until(lambda: len(attempts(one, second)) == 2, timeout_s=120, what="the second attempt")
        assert "server that ran the task is gone" in attempts(one, second)[0]["state"]["state_message"]
        told, _, rest = printed(one, second, 0).partition("attempt 1\n")
        assert not told
        assert "not all that it printed and left has come from the server that ran it" in rest
        one.call("POST", f"{JOBS}/runs/cancel", {"run_id": first})
        wait_until(lambda: run_of(one, second)["state"].get("result_state") == "SUCCESS", what="its end")


def printed(server: Server, run_id: int, attempt: int) -> str:
    """What an attempt has printed, as a server tells it."""
    number = attempts(server, run_id)[attempt]["run_id"]
    told: str = server.call("GET", f"{JOBS}/runs/get-output?run_id={number}")[1]["logs"]
    return told


def logs(data_dir: Path, server: Server, run_id: int) -> bool:
    """Whether the first attempt of a run prints on the server of a directory."""
    path = data_dir / "logs" / "jobs" / f"{attempts(server, run_id)[0]['run_id']}.log"
    return path.exists() and "attempt 1" in path.read_text()


def storage(server: Server) -> str:
    """Where the first server keeps tables and files, which both read."""
    return str(server.data_dir / "tables")


def arrivals(server: Server, *, files: int) -> int:
    """How many runs files start that come one by one, each when the one before was noticed."""
    task = {"task_key": "a", "condition_task": {"op": "EQUAL_TO", "left": "1", "right": "1"}}
    body = {"tasks": [task], "trigger": {"file_arrival": {"url": "/Volumes/main/default/v/"}}, "max_concurrent_runs": 9}
    job = server.call("POST", f"{JOBS}/create", body)[1]["job_id"]

    def count() -> int:
        return len(server.call("GET", f"{JOBS}/runs/list?job_id={job}")[1]["runs"])

    def looked() -> int:
        told = server.call("GET", f"{JOBS}/get?job_id={job}&include_trigger_state=true")[1]
        return told["trigger_details"][0]["history"].get("last_not_triggered", {}).get("timestamp", 0)

    for number in range(files):
        put(server, f"/Volumes/main/default/v/{number}.csv", "1")
        wait_until(lambda number=number: count() > number, what="the run for a file")
    for _ in range(3):
        before = looked()
        wait_until(lambda before=before: looked() > before, what="another look")
    server.call("POST", f"{JOBS}/delete", {"job_id": job})
    return count()


def strikes(server: Server) -> tuple[int, float]:
    """How many runs a schedule of each second started, and in how many seconds."""
    task = {"task_key": "a", "condition_task": {"op": "EQUAL_TO", "left": "1", "right": "1"}}
    every = {"quartz_cron_expression": "* * * * * ?", "timezone_id": "UTC"}
    began = time.monotonic()
    body = {"tasks": [task], "schedule": every, "max_concurrent_runs": 100}
    job = server.call("POST", f"{JOBS}/create", body)[1]["job_id"]

    def count() -> int:
        return len(server.call("GET", f"{JOBS}/runs/list?job_id={job}&limit=25")[1]["runs"])

    wait_until(lambda: count() >= 5, what="five runs")
    server.call("POST", f"{JOBS}/delete", {"job_id": job})
    return count(), time.monotonic() - began
