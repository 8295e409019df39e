"""A reproduction that is cut off by kill -9 of everything begins anew, and ends with a verdict."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.environments import client_environment
from tests.robustness.test_tree import kill_tree
from tests.servers import Server, running_server, server_of, up, wait_until

_TRAIN = """
import time

import mlflow

mlflow.set_experiment("/Shared/killed")
with mlflow.start_run() as run:
    mlflow.log_metric("m", 1.5)
    while len(mlflow.MlflowClient().search_runs([run.info.experiment_id])) == 2:
        time.sleep(0.1)  # the first attempt, until it is killed
"""


@pytest.mark.long
def test_a_kill_in_the_middle_ends_with_a_verdict_all_the_same(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    up(data_dir)
    before = server_of(data_dir)
    run_id = _first_run(before, tmp_path)
    status, made = before.call("POST", "/api/millpond/reproductions", {"run_id": run_id})
    assert status == 200, made
    wait_until(lambda: len(_runs(before)) == 2, timeout_s=120, what="the new run's beginning")
    kill_tree(data_dir)

    with running_server(data_dir) as server:
        path = f"/api/millpond/reproductions/{made['reproduction']['id']}"
        ended = wait_until(lambda: _done(server.call("GET", path)[1]), timeout_s=120, what="the verdict")
        assert ended["outcome"] == "bit-identical", ended
        runs = {run["info"]["run_id"]: run for run in _runs(server)}
        cut = next(run for key, run in runs.items() if key not in {run_id, ended["new_run_id"]})
        assert (len(runs), cut["info"]["status"], _tags(cut)["millpond.verdict"]) == (3, "KILLED", "interrupted")
        assert _tags(runs[ended["new_run_id"]])["millpond.verdict"] == "bit-identical"
        assert list((data_dir / "run" / "reproduction").glob("*")) == []


def _first_run(server: Server, directory: Path) -> str:
    python = client_environment(directory / "env")
    (directory / "train.py").write_text(_TRAIN)
    done = subprocess.run(
        [python, "train.py"], cwd=directory, env=server.client_env(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return str(_runs(server)[0]["info"]["run_id"])


def _runs(server: Server) -> list[dict[str, Any]]:
    _, found = server.call("GET", "/api/2.0/mlflow/experiments/get-by-name?experiment_name=/Shared/killed")
    asked = {"experiment_ids": [found["experiment"]["experiment_id"]], "max_results": 10}
    runs: list[dict[str, Any]] = server.call("POST", "/api/2.0/mlflow/runs/search", asked)[1].get("runs", [])
    return runs


def _tags(run: dict[str, Any]) -> dict[str, str]:
    return {each["key"]: each["value"] for each in run["data"]["tags"]}


def _done(answer: dict[str, Any]) -> dict[str, Any] | None:
    found: dict[str, Any] = answer["reproduction"]
    return found if found["state"] == "done" else None
