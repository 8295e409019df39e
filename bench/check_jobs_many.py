"""A thousand runs that do nothing, and what a thousand that wait cost an idle server. No peer yet: it prints seconds.

The runs have a condition task, which needs no process, so this is what the scheduler and its database cost.
"""

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.servers import Server, running_server, wait_until

RUNS = 1000
CLIENTS = 8
IDLE_S = 10.0
JOBS = "/api/2.2/jobs"


def make(server: Server, left: str, **more: Any) -> int:
    """A job whose one task compares a text with 1."""
    condition = {"op": "LESS_THAN", "left": left, "right": "1"}
    body = {"tasks": [{"task_key": "a", "condition_task": condition, **more}], "max_concurrent_runs": 1000}
    return int(server.call("POST", f"{JOBS}/create", body)[1]["job_id"])


def start(server: Server, job_id: int) -> float:
    """Seconds to ask for RUNS runs with some clients."""
    began = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        asked = list(pool.map(lambda _: server.call("POST", f"{JOBS}/run-now", {"job_id": job_id})[0], range(RUNS)))
    assert set(asked) == {200}, set(asked)
    return time.monotonic() - began


def active(server: Server, job_id: int) -> int:
    """Runs that have not ended, at most 25."""
    return len(server.call("GET", f"{JOBS}/runs/list?job_id={job_id}&active_only=true&limit=25")[1]["runs"])


def processor_s(server: Server) -> float:
    """Seconds of processor time that the server process has used."""
    children = Path(f"/proc/{server.state['pid']}/task").glob("*/children")
    pids = [pid for each in children for pid in each.read_text().split()]
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(each[11]) + int(each[12]) for each in fields) / 100


def idle(server: Server) -> float:
    """Processor time per second of a server that nobody asks."""
    before, began = processor_s(server), time.monotonic()
    wait_until(lambda: time.monotonic() > began + IDLE_S)
    return (processor_s(server) - before) / (time.monotonic() - began)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory, running_server(Path(directory) / "data") as running:
        alone = idle(running)
        done = make(running, "0")
        took = start(running, done)
        wait_until(lambda: active(running, done) == 0, timeout_s=300)
        print(f"{RUNS} runs of one condition: {took:.1f} s, {1000 * took / RUNS:.1f} ms each, with {CLIENTS} clients")
        waiting = make(running, "a", max_retries=-1, min_retry_interval_millis=3_600_000)
        start(running, waiting)
        print(f"idle: {100 * alone:.1f} % of a core; with {RUNS} open runs that wait: {100 * idle(running):.1f} %")
