"""Runs of many tasks that do nothing, and how soon a task's code begins: against Airflow, Dagster and Prefect.

    python -m bench.bench_jobs [WIDE] [CHAIN] [STARTS]

Each peer from PyPI in an environment of its own, made the first time. A task that does nothing is of the kind that the
scheduler does by itself: a condition here, an EmptyOperator in Airflow, an op in its caller's process in Dagster, a
task in a thread in Prefect. A start is from asking for a run to the first line of its only task, in a
process of its own.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uv
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.jobs import (
    ConditionTask,
    ConditionTaskOp,
    RunLifeCycleState,
    RunResultState,
    Task,
    TaskDependency,
)
from tests.servers import Server, running_server, wait_until

from bench import check_jobs_start, check_notebook_start
from bench.peers import free_port
from bench.report import heading, line, row

PEERS = {
    "airflow": ("apache-airflow==3.3.2",), "dagster": ("dagster==1.13.28",), "prefect": ("prefect==3.9.1",),
}  # fmt: skip
NOTHING = ConditionTask(ConditionTaskOp.EQUAL_TO, "1", "1")


def main(wide: int, chain: int, starts: int) -> None:
    """Measure all in one run, and print the ratios."""
    heading(f"Jobs: {wide} tasks beside each other, {chain} after one another, {starts} starts")
    with tempfile.TemporaryDirectory() as directory:
        ours = _ours(Path(directory), wide, chain, starts)
        for what, name, goal in (
            ("script", "script_ms", "goal: p95 below 300"), ("notebook", "notebook_ms", "goal: p95 below 1000"),
        ):  # fmt: skip
            line(f"warm start of a {what}, median", _at(ours[name], 0.5), "ms")
            line(f"warm start of a {what}, p95", _at(ours[name], 0.95), "ms", goal=goal)
        line("scheduler, for each task of the wide run", 1000 * ours["wide_s"] / wide, "ms")
        line("scheduler, for each task of the chain", 1000 * ours["chain_s"] / chain, "ms")
        for peer in PEERS:
            line(f"load before {peer}", os.getloadavg()[0], "")
            told = _peer(peer, Path(directory), wide, chain, starts)
            row(f"{wide} tasks wide, {peer}", ours["wide_s"], told["wide_s"], "s")
            row(f"{chain} tasks in a chain, {peer}", ours["chain_s"], told["chain_s"], "s")
            row(f"start of a script, median, {peer}", _at(ours["script_ms"], 0.5), _at(told["starts_ms"], 0.5), "ms")
            row(f"start of a script, p95, {peer}", _at(ours["script_ms"], 0.95), _at(told["starts_ms"], 0.95), "ms")


def _ours(place: Path, wide: int, chain: int, starts: int) -> dict[str, Any]:
    check_jobs_start.RUNS = starts
    with running_server(place / "data") as server:
        return {
            "wide_s": _run(server, [Task(f"t{number}", condition_task=NOTHING) for number in range(wide)]),
            "chain_s": _run(server, [
                Task(f"t{number}", depends_on=[TaskDependency(f"t{number - 1}")] if number else [],
                     condition_task=NOTHING) for number in range(chain)]),
            "script_ms": check_jobs_start.measure(server)[1:],
            "notebook_ms": check_notebook_start.measure(server)[1:],
        }  # fmt: skip


def _run(server: Server, tasks: list[Task]) -> float:
    w = WorkspaceClient(host=server.url, token=server.token, auth_type="pat")
    job = w.jobs.create(name="nothing", tasks=tasks).job_id
    began = time.perf_counter()
    run_id = w.jobs.run_now(job).run_id
    ended = RunLifeCycleState.TERMINATED
    wait_until(lambda: w.jobs.get_run(run_id).state.life_cycle_state is ended, timeout_s=600)
    took = time.perf_counter() - began
    assert w.jobs.get_run(run_id).state.result_state is RunResultState.SUCCESS
    return took


def _peer(name: str, place: Path, wide: int, chain: int, starts: int) -> dict[str, Any]:
    words = [str(place / name), str(wide), str(chain), str(starts), str(free_port())]
    script = Path(__file__).with_name("jobs_peers.py")
    done = subprocess.run([_environment(name), str(script), name, *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-4000:]}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def _environment(name: str) -> str:
    """The interpreter of a peer's environment, in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "millpond" / "-".join(PEERS[name])
    if not (cache / "whole").exists():
        for words in (
            ("venv", "-q", "--clear", "--python", sys.executable, str(cache)),
            ("pip", "install", "-q", "--python", str(cache / "bin" / "python"), *PEERS[name]),
        ):
            subprocess.run([uv.find_uv_bin(), *words], check=True, capture_output=True)
        (cache / "whole").touch()
    return str(cache / "bin" / "python")


def _at(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


if __name__ == "__main__":
    main(*map(int, (*sys.argv[1:], *(1000, 100, 30)[len(sys.argv) - 1 :])))
