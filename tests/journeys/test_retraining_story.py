"""The retraining story, as `millpond init` makes it: files, training, gate, promotion, scores, and an alert."""

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service import settings
from databricks.sdk.service.jobs import Run, RunLifeCycleState, RunResultState
from mlflow import MlflowClient

from tests.conftest import FOR_TESTS
from tests.receivers import Receiver, receiving
from tests.servers import Server, run_cli, running_server, wait_until

PATIENCE_S = 1500


@pytest.fixture
def alone(tmp_path: Path, database_flags: list[str]) -> Iterator[Server]:
    """A fresh server on each kind of database, with nothing in it."""
    with running_server(tmp_path / "data", *database_flags, env=FOR_TESTS) as server:
        yield server


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as state:
        yield state


def bundle(server: Server, project: Path, *words: str) -> str:
    place = ("--directory", str(project), "--data-dir", str(server.data_dir))
    return run_cli("bundle", *words, *place, timeout_s=PATIENCE_S).stdout


def made(server: Server, tmp_path: Path) -> tuple[Path, WorkspaceClient]:
    project = tmp_path / "project"
    run_cli("init", str(project), "--name", "leavers")
    return project, WorkspaceClient(host=server.url, token=server.token, auth_type="pat")


@pytest.mark.long
def test_a_new_project_is_planned_deployed_and_run(alone: Server, tmp_path: Path) -> None:
    project, w = made(alone, tmp_path)
    with pytest.raises(AssertionError, match="is not empty"):
        run_cli("init", str(project))
    assert "jobs.retrain" in bundle(alone, project, "validate")
    assert "+ create schemas.churn: main.dev_admin_leavers" in bundle(alone, project, "plan")
    assert bundle(alone, project, "deploy").endswith("Deployed.\n")
    assert "Nothing to do" in bundle(alone, project, "plan")
    landing = "/Volumes/main/dev_admin_leavers/landing"
    with pytest.raises(AssertionError, match=f"features: FAILED: There is nothing in {landing} yet"):
        bundle(alone, project, "run", "retrain", "--only", "features")
    with (project / "sample" / "customers.parquet").open("rb") as sample:
        w.files.upload(f"{landing}/one.parquet", sample)
    assert "features: SUCCESS" in bundle(alone, project, "run", "retrain", "--only", "features")
    assert {each.name for each in w.tables.list("main", "dev_admin_leavers")} == {"customers", "exam"}
    [policy] = alone.call(
        "GET", "/api/millpond/registry/policies?securable_type=model&name=main.dev_admin_leavers.dev_admin_churn"
    )[1]["policies"]
    assert "main.dev_admin_leavers.exam" in policy["policy"]


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_good_files_promote_a_version_and_worse_ones_do_not(
    alone: Server, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, w = made(alone, tmp_path)
    done = subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    hook = settings.Config(generic_webhook=settings.GenericWebhookConfig(url=receiver.url))
    destination = w.notification_destinations.create(display_name="team", config=hook).id
    bundle(alone, project, "deploy", "-t", "prod", "--var", f"alerts={destination}")
    sample = pl.read_parquet(project / "sample" / "customers.parquet")
    landing, model = "/Volumes/main/leavers/landing", "main.leavers.churn"
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", alone.token)
    registry = MlflowClient(alone.url)

    def come(name: str, frame: pl.DataFrame) -> None:
        packed = io.BytesIO()
        frame.write_parquet(packed)
        w.files.upload(f"{landing}/{name}.parquet", io.BytesIO(packed.getvalue()))

    def champion() -> str:
        return registry.get_model_version_by_alias(model, "champion").version

    come("one", sample)
    first = ended(w, 1)
    assert results(first) == {
        "features": "SUCCESS", "train": "SUCCESS", "promote": "SUCCESS", "promoted": "SUCCESS", "serve": "SUCCESS",
        "score": "SUCCESS", "alert": "EXCLUDED",
    }  # fmt: skip
    assert champion() == "1"
    assert query(w, "SELECT count(*), min(version), max(version) FROM main.leavers.scores") == [["7043", "1", "1"]]
    status, endpoint = alone.call("GET", "/api/2.0/serving-endpoints/main-leavers-churn")
    [entity] = (endpoint.get("config") or endpoint["pending_config"])["served_entities"]
    assert (status, entity["entity_name"], entity["entity_version"]) == (200, model, "1")

    come("two", sample.with_columns(pl.col("churn").shuffle(seed=7)))
    second = ended(w, 2)
    assert results(second) | {"train": "", "features": ""} == {
        "features": "", "train": "", "promote": "SUCCESS", "promoted": "SUCCESS", "serve": "EXCLUDED",
        "score": "EXCLUDED", "alert": "FAILED",
    }  # fmt: skip
    assert second.state.result_state is RunResultState.FAILED
    assert "Version 2 was not promoted" in second.state.state_message
    assert "roc_auc is 0.5" in second.state.state_message or "below the minimum of 0.75" in second.state.state_message
    assert champion() == "1"
    assert query(w, "SELECT max(version) FROM main.leavers.scores") == [["1"]]
    told = wait_until(lambda: receiver.about(lambda body: body["event_type"] == "jobs.on_failure"), timeout_s=60)
    assert [body["run"]["run_id"] for _, body in told] == [second.run_id]


def ended(w: WorkspaceClient, count: int) -> Run:
    """The run of `retrain` that is the so-and-so-many-th, once it has ended."""
    job = next(job for job in w.jobs.list(name="leavers retrain"))

    def look() -> Run | None:
        runs = list(w.jobs.list_runs(job_id=job.job_id))
        is_over = len(runs) == count and runs[0].state.life_cycle_state is RunLifeCycleState.TERMINATED
        return w.jobs.get_run(runs[0].run_id) if is_over else None

    found: Run = wait_until(look, timeout_s=PATIENCE_S, what=f"the end of run {count}")
    return found


def results(run: Run) -> dict[str, str]:
    return {task.task_key: task.state.result_state.value for task in run.tasks or ()}


def query(w: WorkspaceClient, text: str) -> Any:
    return w.statement_execution.execute_statement(text, "starter", wait_timeout="50s").result.data_array
