"""Airflow, Dagster and Prefect as `bench_jobs.py` measures them, each in an environment of its own; imports nothing of
this repository.

    python jobs_peers.py airflow|dagster|prefect DIRECTORY WIDE CHAIN STARTS PORT

Prints a line of JSON: seconds of a run of WIDE tasks that do nothing and do not depend on each other, of one of CHAIN
tasks after one another, and milliseconds from asking for a run to the first line of its task's code, STARTS times.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

_PATIENCE_S = 1800.0

AIRFLOW = """
import datetime, time
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, task

def dag(name):
    return DAG(name, schedule=None, start_date=datetime.datetime(2026, 1, 1), is_paused_upon_creation=False,
               max_active_tasks=100_000)

with dag("wide"):
    for number in range(WIDE):
        EmptyOperator(task_id=f"t{number}")
with dag("chain"):
    before = None
    for number in range(CHAIN):
        task_ = EmptyOperator(task_id=f"t{number}")
        before and before >> task_
        before = task_
with dag("start"):
    @task
    def one(dag_run=None):
        with open(f"{PLACE}/started-{dag_run.run_id}", "w") as stream:
            stream.write(str(time.time()))
    one()
"""

DAGSTER = """
import os, time
from dagster import Nothing, In, Out, job, op

@op(out=Out(Nothing))
def nothing():
    pass

@op(ins={"before": In(Nothing)}, out=Out(Nothing))
def after():
    pass

@op
def one():
    with open(os.environ["BENCH_STARTED"], "w") as stream:
        stream.write(str(time.time()))

@job
def wide():
    for number in range(WIDE):
        nothing.alias(f"t{number}")()

@job
def chain():
    before = nothing()
    for number in range(CHAIN - 1):
        before = after.alias(f"t{number}")(before)

@job
def start():
    one()
"""

PREFECT = """
import sys, time
from prefect import flow, task

@task
def nothing(before=None):
    return 1

@flow(log_prints=False)
def wide():
    for future in [nothing.submit() for _ in range(WIDE)]:
        future.result()

@flow
def chain():
    before = None
    for _ in range(CHAIN):
        before = nothing.submit(before)
    before.result()

@flow
def start(place: str):
    with open(place, "w") as stream:
        stream.write(str(time.time()))

if __name__ == "__main__":
    start.serve(name="start")
"""


def main() -> None:
    """Measure one peer."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started ends too
    name, place = sys.argv[1], Path(sys.argv[2])
    wide, chain, starts, port = map(int, sys.argv[3:7])
    place.mkdir(parents=True)
    text, measure = {
        "airflow": (AIRFLOW, airflow), "dagster": (DAGSTER, dagster), "prefect": (PREFECT, prefect),
    }[name]  # fmt: skip
    (place / "dags").mkdir()
    code = place / "dags" / "peer_jobs.py"
    code.write_text(f"WIDE, CHAIN, PLACE = {wide}, {chain}, {str(place)!r}\n{text}")
    print(json.dumps(measure(place, code, starts, port)))


def airflow(place: Path, _code: Path, starts: int, port: int) -> dict[str, Any]:
    """Its scheduler with its executor of local processes, on SQLite, as `airflow standalone` starts them."""
    os.environ |= {
        "AIRFLOW_HOME": str(place), "AIRFLOW__CORE__LOAD_EXAMPLES": "false", "AIRFLOW__CORE__PARALLELISM": "8",
        "AIRFLOW__CORE__DAGS_FOLDER": str(place / "dags"), "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://localhost:{port}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "true", "PATH": f"{_beside('')}:{os.environ['PATH']}",
    }  # fmt: skip
    with (place / "log").open("wb") as log:
        server = subprocess.Popen([_beside("airflow"), "standalone"], stdout=log, stderr=log, start_new_session=True)
    try:
        _until(lambda: _rows(place, "SELECT count(*) FROM dag WHERE dag_id IN ('wide', 'chain', 'start')") == [(3,)])
        _until(lambda: _answers(f"http://localhost:{port}/api/v2/version"))

        def run(dag: str) -> tuple[str, float, float]:
            run_id = f"{dag}-{time.time()}"
            subprocess.run([_beside("airflow"), "dags", "trigger", dag, "-r", run_id], check=True, capture_output=True)
            query = f"SELECT queued_at, end_date, state FROM dag_run WHERE run_id = '{run_id}' AND end_date IS NOT NULL"
            [(queued, ended, state)] = _until(lambda: _rows(place, query))
            if state != "success":
                raise RuntimeError(f"{run_id} is {state}")
            return run_id, _epoch(queued), _epoch(ended)

        _until(lambda: _tried(lambda: run("start")))  # on a busy machine its first task fails, as its server is late
        took = {}
        for dag in ("wide", "chain"):
            _, queued, ended = run(dag)
            took[f"{dag}_s"] = ended - queued
        began = []
        for _ in range(starts):
            run_id, queued, _ = run("start")
            began.append(1000 * (float((place / f"started-{run_id}").read_text()) - queued))
        return {**took, "starts_ms": began}
    finally:
        _end(server)


def dagster(place: Path, code: Path, starts: int, _port: int) -> dict[str, Any]:
    """Tasks that do nothing in this process; for starts its default, a process for each op."""
    os.environ["DAGSTER_HOME"] = str(place)
    os.chdir(code.parent)  # where the processes of ops look for modules
    (place / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    sys.path.insert(0, str(code.parent))
    import peer_jobs
    from dagster import DagsterInstance, execute_job, reconstructable

    with DagsterInstance.get() as instance:
        took = {
            f"{job.name}_s": _timed(lambda job=job: job.execute_in_process(instance=instance))
            for job in (peer_jobs.wide, peer_jobs.chain)
        }
        began = []
        for number in range(starts + 1):
            started = place / f"started-{number}"
            os.environ["BENCH_STARTED"] = str(started)
            asked = time.time()
            assert execute_job(reconstructable(peer_jobs.start), instance).success
            began.append(1000 * (float(started.read_text()) - asked))
    return {**took, "starts_ms": began[1:]}


def prefect(place: Path, code: Path, starts: int, port: int) -> dict[str, Any]:
    """Its server on SQLite, tasks in threads, and for starts a flow that is served, as its own command does it."""
    os.environ |= {
        "PREFECT_HOME": str(place), "PREFECT_API_URL": f"http://127.0.0.1:{port}/api", "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_LOGGING_LEVEL": "ERROR",
    }  # fmt: skip
    sys.path.insert(0, str(code.parent))
    log = (place / "log").open("wb")
    command = [_beside("prefect"), "server", "start", "--port", str(port)]
    server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    served = None
    try:
        _until(lambda: _answers(f"http://127.0.0.1:{port}/api/health"))
        import peer_jobs
        from prefect.deployments import run_deployment

        peer_jobs.chain()
        took = {"wide_s": _timed(peer_jobs.wide), "chain_s": _timed(peer_jobs.chain)}
        served = subprocess.Popen([sys.executable, str(code)], stdout=log, stderr=log, start_new_session=True)

        def start(number: int) -> float:
            started = place / f"started-{number}"
            asked = time.time()
            run_deployment("start/start", parameters={"place": str(started)}, timeout=0)
            _until(lambda: started.exists() and started.read_text())
            return 1000 * (float(started.read_text()) - asked)

        _until(lambda: _tried(lambda: start(-1)))
        return {**took, "starts_ms": [start(number) for number in range(starts)]}
    finally:
        for each in filter(None, (served, server)):
            _end(each)


def _end(leader: "subprocess.Popen[bytes]") -> None:
    """End a process and its group, which is gone afterwards: else it would take from what is measured next."""
    os.killpg(leader.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        leader.wait(20)
    with suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGKILL)
    leader.wait()


def _beside(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _rows(place: Path, query: str) -> list[Any]:
    try:
        with sqlite3.connect(f"file:{place}/airflow.db?mode=ro", uri=True) as connection:
            return connection.execute(query).fetchall()
    except sqlite3.OperationalError:  # is not there yet, or is written to
        return []


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text if "+" in text else f"{text}+00:00").timestamp()


def _answers(url: str) -> bool:
    return _tried(lambda: urllib.request.urlopen(url, timeout=5).close())


def _tried(act: Callable[[], Any]) -> bool:
    try:
        act()
    except Exception:
        return False
    return True


def _timed(act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + _PATIENCE_S
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError("the peer did not get there")
        time.sleep(0.02)
    return found


if __name__ == "__main__":
    main()
