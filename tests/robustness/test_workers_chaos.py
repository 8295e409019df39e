"""Two servers on one PostgreSQL and eight workers, while workers and servers are killed."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.postgres import fresh_database
from tests.robustness.test_jobs_chaos import SCRIPT, check, dag, ended
from tests.robustness.test_jobs_recovery import JOBS, put
from tests.robustness.test_tree import _child
from tests.servers import Server, running_server, wait_until
from tests.workers import RunningWorker, new_worker_token, start_worker

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not Path("/proc").exists(), reason="reads the process tree from /proc"),
]
TROUBLE_S, EVERY_S, RUN_EVERY_S, SERVER_SPARED_S = 60.0, 2.0, 15.0, 15.0
WORKERS = 8


@pytest.mark.timeout(900)
def test_whatever_is_killed_each_task_ends_well_and_no_code_begins_twice(tmp_path: Path, postgres_url: str) -> None:
    env = {"MILLPOND_JOBS__TASKS_AT_ONCE": "0", "MILLPOND_JOBS__WORKER_LEASE_S": "10"}
    storage = {"MILLPOND_STORAGE_ROOT": str(tmp_path / "one" / "tables")}
    workers: dict[Path, RunningWorker] = {}
    with (
        fresh_database(postgres_url) as url,
        running_server(tmp_path / "one", "--database-url", url, env=env) as one,
    ):
        volume = {"catalog_name": "main", "schema_name": "default", "name": "chaos", "volume_type": "MANAGED"}
        assert one.call("POST", "/api/2.1/unity-catalog/volumes", volume)[0] == 200
        put(one, "/Volumes/main/default/chaos/s.py", SCRIPT.replace("sleep(0.2)", "sleep(2)"))
        token = new_worker_token(one)
        with running_server(tmp_path / "two", "--database-url", url, env=env | storage) as two:
            servers = (one, two)
            try:
                for number in range(WORKERS):
                    place = tmp_path / f"worker-{number}"
                    workers[place] = start_worker(servers[number % 2], place, token=token)
                body = {"name": "chaos", "tasks": dag(), "max_concurrent_runs": 9}
                job = one.call("POST", f"{JOBS}/create", body)[1]["job_id"]
                runs: list[int] = []

                def run_again() -> None:
                    runs.append(one.call("POST", f"{JOBS}/run-now", {"job_id": job})[1]["run_id"])

                killed = make_trouble(servers, workers, token, run_again)
                attempts = 0
                for run_id in runs:
                    what = f"the end of run {run_id}"
                    run = wait_until(lambda run_id=run_id: ended(one, run_id), timeout_s=300, what=what)
                    attempts += len(run["tasks"])
                    check(one, run, dag())
                assert attempts > len(runs) * len(dag()), "no attempt was lost"
                print(f"{TROUBLE_S:g} s of trouble: {dict(killed)}; {len(runs)} runs with {attempts} attempts")
            finally:
                for worker in workers.values():
                    worker.kill()


def make_trouble(
    servers: tuple[Server, Server], workers: dict[Path, RunningWorker], token: str, run_again: Callable[[], None]
) -> Counter[str]:
    """Kill a worker at work every other second, which is started again; and now and then a server's process, which its
    supervisor starts again."""
    chance, killed = random.Random(), Counter[str]()
    until, spared_until, run_at = time.monotonic() + TROUBLE_S, time.monotonic() + SERVER_SPARED_S, 0.0
    while (now := time.monotonic()) < until:
        if now > run_at:
            with suppress(OSError):  # the server is away
                run_again()
                run_at = now + RUN_EVERY_S
        if now > spared_until and chance.random() < 0.5:
            victim = _child(chance.choice(servers).state["pid"], "millpond.server_process")
            if victim is not None:
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                    killed["server"] += 1
            spared_until = now + SERVER_SPARED_S
        elif at_work := busy(servers[0], workers):
            place = chance.choice(at_work)
            workers[place].kill()
            killed["worker"] += 1
            number = int(place.name.rpartition("-")[2])
            workers[place] = start_worker(servers[number % 2], place, token=token)
        wait_until(lambda now=now: time.monotonic() >= now + EVERY_S, what="the next victim's time")
    return killed


def busy(server: Server, workers: dict[Path, RunningWorker]) -> list[Path]:
    """The workers that have a task now."""
    try:
        found = server.call("GET", "/api/millpond/workers")[1]["workers"]
    except OSError:  # the server is away
        return []
    names = {each["name"] for each in found if each["running"]}
    return [place for place in workers if place.name in names]
