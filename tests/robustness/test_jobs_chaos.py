"""Jobs while processes are killed: every second one of the server, what starts tasks, and the tasks themselves."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.audit.test_server import events
from tests.postgres import fresh_database
from tests.robustness.test_jobs_recovery import JOBS, put
from tests.robustness.test_tree import _tree
from tests.servers import Server, running_server, wait_until

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="reads the process tree from /proc")

VICTIMS = {"server": "/logs/server.log", "starter of tasks": "/logs/jobs.log", "task": "/logs/jobs/"}
"""Kinds of processes, and where each writes."""
SERVER_SPARED_S = 8.0
SCRIPT = """
import os, sys, time, urllib.request, uuid
key, task, attempt = sys.argv[1:4]
print("BEGAN", task, attempt, flush=True)
time.sleep(0.2)
place = f"{os.environ['DATABRICKS_HOST']}/api/2.0/fs/files/Volumes/main/default/chaos/ledger/{task}-{uuid.uuid4()}"
request = urllib.request.Request(place, data=key.encode(), method="PUT")
request.add_header("Authorization", "Bearer " + os.environ["DATABRICKS_TOKEN"])
urllib.request.urlopen(request, timeout=20).close()
dbutils.jobs.taskValues.set("key", key)
"""


def dag() -> list[dict[str, Any]]:
    """Twenty tasks: one, then eight, a join with an iteration and a condition, then seven more, and an end."""

    def task(key: str, *needs: str, **more: Any) -> dict[str, Any]:
        parameters = [key, "{{task.run_id}}", "{{task.execution_count}}"]
        script = {"python_file": "/Volumes/main/default/chaos/s.py", "parameters": parameters}
        after = [{"task_key": need} for need in needs]
        return {"task_key": key, "spark_python_task": script, "max_retries": -1, "depends_on": after, **more}

    fan = [task(f"fan{number}", "root") for number in range(8)]
    each = {"inputs": "[1, 2, 3]", "concurrency": 2, "task": task("one")}
    spread = {
        "task_key": "spread",
        "depends_on": [{"task_key": key} for key in ("fan0", "fan1")],
        "for_each_task": each,
    }
    is_fan = {"op": "EQUAL_TO", "left": "{{tasks.fan0.values.key}}", "right": "fan0"}
    gate = {"task_key": "gate", "depends_on": [{"task_key": "spread"}], "condition_task": is_fan}
    after_gate = [{"task_key": "gate", "outcome": "true"}]
    wide = [task(f"wide{number}", f"fan{number}") for number in range(2, 8)]
    last = task("last", *(each["task_key"] for each in wide))
    return [task("root"), *fan, spread, gate, task("passed") | {"depends_on": after_gate}, *wide, last,
            task("always", "last", "passed", run_if="ALL_DONE")]  # fmt: skip


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def chaotic(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Server, float]]:
    """A server, and for how long it has trouble."""
    env = {"MILLPOND_JOBS__TASKS_AT_ONCE": "4"}
    if request.param == "sqlite":
        with running_server(tmp_path / "data", env=env) as server:
            yield server, 8.0
        return
    with (
        fresh_database(request.getfixturevalue("postgres_url")) as url,
        running_server(tmp_path / "data", "--database-url", url, env=env) as server,
    ):
        yield server, 60.0


def test_whatever_is_killed_each_run_ends_well_and_no_code_begins_twice(chaotic: tuple[Server, float]) -> None:
    server, trouble_s = chaotic
    volume = {"catalog_name": "main", "schema_name": "default", "name": "chaos", "volume_type": "MANAGED"}
    assert server.call("POST", "/api/2.1/unity-catalog/volumes", volume)[0] == 200
    put(server, "/Volumes/main/default/chaos/s.py", SCRIPT)
    tasks = dag()
    assert len(tasks) == 20
    job = server.call("POST", f"{JOBS}/create", {"name": "chaos", "tasks": tasks, "max_concurrent_runs": 9})[1][
        "job_id"
    ]
    runs = [server.call("POST", f"{JOBS}/run-now", {"job_id": job})[1]["run_id"] for _ in range(2)]
    killed = make_trouble(server, trouble_s)
    assert killed, "nobody was killed"
    print(f"{trouble_s:g} s of trouble: {dict(killed)}")
    for run_id in runs:
        run = wait_until(lambda run_id=run_id: ended(server, run_id), timeout_s=240, what=f"the end of run {run_id}")
        check(server, run, tasks)
        check_audit(server, run)


def check(server: Server, run: dict[str, Any], tasks: list[dict[str, Any]]) -> None:
    """Each task's last attempt did well, each before it failed, and each attempt's code began once at most."""
    assert run["state"]["result_state"] == "SUCCESS", run["state"]
    iterations: list[dict[str, Any]] = []
    for task in tasks:
        attempts = sorted(
            (each for each in run["tasks"] if each["task_key"] == task["task_key"]),
            key=lambda each: each["attempt_number"],
        )
        assert [each["attempt_number"] for each in attempts] == [*range(len(attempts))]
        results = [each["state"]["result_state"] for each in attempts]
        assert results == ["FAILED"] * (len(results) - 1) + ["SUCCESS"], (task["task_key"], attempts)
        if "for_each_task" in task:
            iterations += server.call("GET", f"{JOBS}/runs/get?run_id={attempts[-1]['run_id']}")[1]["iterations"]
    done = {each["run_id"] for each in [*run["tasks"], *iterations] if each["state"]["result_state"] == "SUCCESS"}
    began = Counter(line for each in [*run["tasks"], *iterations] for line in log(server, each["run_id"]))
    assert set(began.values()) <= {1}, began
    wrote = ledger(server)
    assert {number: count for number, count in wrote.items() if count > 1} == {}
    scripts = {each["run_id"] for each in run["tasks"] if "spark_python_task" in each} | {
        each["run_id"] for each in iterations
    }
    assert done & scripts <= set(wrote), "what ended well left its mark"


def check_audit(server: Server, run: dict[str, Any]) -> None:
    """Each attempt began once and ended once, under the name of whoever the job runs as."""
    wanted = {str(each["run_id"]) for each in run["tasks"]}

    def told(*actions: str) -> Counter[str]:
        found = [each for action in actions for each in events(server, action_name=action, service_name="jobs")]
        assert {each["user_identity"]["email"] for each in found} <= {server.user}
        return Counter(each["request_params"]["object_name"] for each in found)

    wait_until(lambda: wanted <= set(told("runSucceeded", "runFailed")), what="the audit of each attempt")
    counts = told("runStart"), told("runSucceeded", "runFailed")
    assert [{each[number] for number in wanted} for each in counts] == [{1}, {1}]


def log(server: Server, run_id: int) -> list[str]:
    text = server.call("GET", f"{JOBS}/runs/get-output?run_id={run_id}")[1]["logs"]
    return [line for line in text.splitlines() if line.startswith("BEGAN")]


def ledger(server: Server) -> Counter[int]:
    """How often each attempt left a mark."""
    place = "/api/2.0/fs/directories/Volumes/main/default/chaos/ledger"
    found = server.call("GET", f"{place}?page_size=1000")[1]["contents"]
    return Counter(int(each["name"].split("-")[0]) for each in found)


def ended(server: Server, run_id: int) -> dict[str, Any] | None:
    try:
        run = server.call("GET", f"{JOBS}/runs/get?run_id={run_id}")[1]
    except OSError:
        return None
    return run if run.get("state", {}).get("life_cycle_state") == "TERMINATED" else None


def make_trouble(server: Server, seconds: float) -> Counter[str]:
    """Kill a process each second, of a kind that there is: tasks more often, as the others take them along, and a
    server once it had time to start any."""
    chance, killed = random.Random(), Counter[str]()
    until = time.monotonic() + seconds
    spared_until = 0.0
    while (now := time.monotonic()) < until:
        tree = _tree(server.data_dir)
        found = {kind: pids for kind in VICTIMS if (pids := [pid for pid in tree if is_a(kind, pid)])}
        if now < spared_until:
            found.pop("server", None)
        if found:
            kind = chance.choices([*found], [3 if kind == "task" else 1 for kind in found])[0]
            with suppress(ProcessLookupError):
                os.kill(chance.choice(found[kind]), signal.SIGKILL)
                killed[kind] += 1
                spared_until = now + SERVER_SPARED_S if kind == "server" else spared_until
        wait_until(lambda now=now: time.monotonic() >= now + 1, what="the next second")
    return killed


def is_a(kind: str, pid: int) -> bool:
    """Whether a process is of a kind; those that it started without a log of their own are not."""
    try:
        writes = os.readlink(f"/proc/{pid}/fd/1")
    except OSError:
        return False
    return VICTIMS[kind] in writes
