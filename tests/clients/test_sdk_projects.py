"""The unmodified Databricks SDK on tasks that are projects: of dbt, and of MLflow."""

import io
import json
import subprocess
import tarfile
import urllib.request
import uuid
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import InvalidParameterValue, PermissionDenied
from databricks.sdk.service.catalog import VolumeType
from databricks.sdk.service.jobs import (
    DbtTask,
    JobAccessControlRequest,
    JobPermissionLevel,
    RunResultState,
    SparkJarTask,
    Task,
)  # fmt: skip
from databricks.sdk.service.workspace import ImportFormat
from mlflow import MlflowClient

from tests.servers import Server, wait_until

LONG = timedelta(minutes=15)
DBT = {
    "dbt_project.yml": "name: shop\nversion: '1.0'\nprofile: shop\nmodels: {shop: {+materialized: table}}\n",
    "models/one.sql": "select 1 as id, 'a' as name union all select 2, '{{ var(\"last\", \"b\") }}'\n",
    "models/two.sql": "{{ config(materialized='view') }} select * from {{ ref('one') }} where id > 1\n",
    "models/grown.sql": "{{ config(materialized='incremental', unique_key='id') }} select * from {{ ref('one') }}\n",
    "models/schema.yml": "models: [{name: one, columns: [{name: id, data_tests: [unique, not_null]}]}]\n",
}
MLPROJECT = """
name: line
entry_points:
  main:
    parameters:
      slope: {type: float, default: 2}
      name: string
    command: "python train.py {slope} {name}"
  bad:
    command: "python train.py"
"""
TRAIN = """
import sys, mlflow
from beside import KEY
with mlflow.start_run():
    mlflow.log_metric(KEY, float(sys.argv[1]))
    mlflow.set_tag("name", sys.argv[2])
"""
MLFLOW = {"MLproject": MLPROJECT, "train.py": TRAIN, "beside.py": "KEY = 'slope_seen'\n"}


def client(server: Server) -> WorkspaceClient:
    return WorkspaceClient(host=server.url, token=server.token, auth_type="pat")


def in_workspace(w: WorkspaceClient, files: Mapping[str, str]) -> str:
    root = f"/Users/{w.current_user.me().user_name}/project-{uuid.uuid4().hex[:8]}"
    for name, text in files.items():
        place = f"{root}/{name}"
        w.workspace.mkdirs(place.rpartition("/")[0])
        w.workspace.upload(place, io.BytesIO(text.encode()), format=ImportFormat.AUTO)
    return root


def in_volume(w: WorkspaceClient, files: Mapping[str, str]) -> str:
    schema = f"projects_{uuid.uuid4().hex[:8]}"
    w.schemas.create(schema, "main")
    w.volumes.create("main", schema, "v", VolumeType.MANAGED)
    root = f"/Volumes/main/{schema}/v/project"
    for name, text in files.items():
        w.files.upload(f"{root}/{name}", io.BytesIO(text.encode()))
    return root


def ended(server: Server, run_id: int) -> Any:
    def look() -> Any:
        told = server.call("GET", f"/api/2.2/jobs/runs/get?run_id={run_id}")[1]
        return told if told["state"]["life_cycle_state"] == "TERMINATED" else None

    return wait_until(look, timeout_s=LONG.total_seconds())


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_project_of_dbt_builds_tables_on_a_warehouse_and_leaves_its_artifacts(any_server: Server) -> None:
    """dbt's own adapter for Databricks, in an environment that is made for it; a schema that is not there yet."""
    w = client(any_server)
    schema = f"dbt_{uuid.uuid4().hex[:8]}"
    warehouse = next(iter(w.warehouses.list())).id
    task = DbtTask(
        ["dbt build", "dbt docs generate"],
        project_directory=in_workspace(w, DBT),
        warehouse_id=warehouse,
        catalog="main",
        schema=schema,
    )
    job = w.jobs.create(name="dbt", tasks=[Task("build", dbt_task=task)])
    run = w.jobs.run_now_and_wait(job.job_id, timeout=LONG)
    output = w.jobs.get_run_output(run.tasks[0].run_id)
    assert run.state.result_state is RunResultState.SUCCESS, output.logs
    assert "PASS=5" in output.logs
    assert any_server.token not in output.logs
    assert "signature=" not in output.logs
    named = w.tables.list("main", schema)
    assert {each.name: each.table_type.value for each in named} == {"one": "MANAGED", "two": "VIEW", "grown": "MANAGED"}
    request = urllib.request.Request(output.dbt_output.artifacts_link)
    request.add_header("Authorization", f"Bearer {any_server.token}")
    with urllib.request.urlopen(request) as answer, tarfile.open(fileobj=io.BytesIO(answer.read())) as packed:
        assert {"target/manifest.json", "target/run_results.json", "logs/dbt.log"} <= set(packed.getnames())
        catalog = json.load(packed.extractfile("target/catalog.json"))  # what `dbt docs generate` found
    assert {name: [*node["columns"]] for name, node in catalog["nodes"].items()} == {
        f"model.shop.{name}": ["id", "name"] for name in ("one", "two", "grown")
    }
    assert {node["metadata"]["type"] for node in catalog["nodes"].values()} == {"table", "view"}
    assert catalog["errors"] is None
    commands = ["dbt run --vars '{last: c}'", "dbt run --no-such-option", "dbt parse"]
    again = w.jobs.run_now_and_wait(job.job_id, dbt_commands=commands, timeout=LONG)
    assert again.state.result_state is RunResultState.FAILED
    told = w.jobs.get_run_output(again.tasks[0].run_id)
    assert told.error == "'dbt run --no-such-option' ended with code 2; the log says why.", told.logs
    assert "No such option" in told.logs
    assert "$ dbt parse" not in told.logs
    rows = w.statement_execution.execute_statement(
        f"SELECT name FROM main.{schema}.grown ORDER BY id", warehouse, wait_timeout="50s"
    )
    assert rows.result.data_array == [["a"], ["c"]]


@pytest.mark.long
def test_a_project_of_mlflow_runs_from_a_volume_and_a_repository(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", server.token)
    w = client(server)
    experiment = f"/Users/{server.user}/line-{uuid.uuid4().hex[:8]}"
    body = {
        "uri": in_volume(w, MLFLOW), "parameters": {"slope": "{{job.parameters.slope}}", "name": "of a volume"},
        "experiment_name": experiment,
    }  # fmt: skip
    code = "import sys; print('made', sys.argv[1])"
    script = in_volume(w, {"s.py": code}) + "/s.py"
    after = {
        "task_key": "after", "depends_on": [{"task_key": "fit"}],
        "spark_python_task": {"python_file": script, "parameters": ["{{tasks.fit.values.mlflow_run_id}}"]},
    }  # fmt: skip
    job = {
        "name": "line", "parameters": [{"name": "slope", "default": "3"}],
        "tasks": [{"task_key": "fit", "mlflow_project_task": body}, after],
    }  # fmt: skip
    status, made = server.call("POST", "/api/2.2/jobs/create", job)
    assert status == 200, made
    _, started = server.call("POST", "/api/2.2/jobs/run-now", {"job_id": made["job_id"]})
    run = ended(server, started["run_id"])
    fit, then = (
        server.call("GET", f"/api/2.2/jobs/runs/get-output?run_id={each['run_id']}")[1] for each in run["tasks"]
    )
    assert run["state"]["result_state"] == "SUCCESS", fit["logs"]
    run_id = fit["mlflow_project_output"]["run_id"]
    assert then["logs"] == f"made {run_id}\n"
    mlflow = MlflowClient(server.url)
    found = mlflow.get_run(run_id)
    assert (found.data.metrics["slope_seen"], found.data.tags["name"]) == (3.0, "of a volume")
    assert found.data.tags["mlflow.databricks.jobRunID"] == str(run["run_id"])
    assert mlflow.get_experiment(found.info.experiment_id).name == experiment

    root = tmp_path / "repository"
    (root / "line").mkdir(parents=True)
    for name, text in MLFLOW.items():
        (root / "line" / name).write_text(text)
    who = ("-c", "user.name=t", "-c", "user.email=t@x.org")
    for words in (("init", "-q", "-b", "main"), ("add", "."), (*who, "commit", "-q", "-m", "one")):
        subprocess.run(["git", *words], cwd=root, check=True)
    body = {"uri": "line", "entry_point": "bad", "experiment_name": experiment}
    source = {"git_url": f"file://{root}", "git_provider": "gitHub", "git_branch": "main"}
    _, started = server.call("POST", "/api/2.2/jobs/runs/submit", {"git_source": source, "mlflow_project_task": body})
    run = ended(server, started["run_id"])
    told = server.call("GET", f"/api/2.2/jobs/runs/get-output?run_id={run['tasks'][0]['run_id']}")[1]
    assert (run["state"]["result_state"], "IndexError" in told["logs"]) == ("FAILED", True), told
    assert mlflow.get_run(told["mlflow_project_output"]["run_id"]).info.status == "FAILED"


def test_projects_that_cannot_run_are_refused_with_the_reason(server: Server) -> None:
    w = client(server)

    def refused(task: Task) -> str:
        with pytest.raises(InvalidParameterValue) as told:
            w.jobs.create(name="bad", tasks=[task])
        return str(told.value)

    assert "warehouse_id" in refused(
        Task("a", dbt_task=DbtTask(["dbt run"], catalog="c", project_directory="/Users/x"))
    )
    assert "commands.0" in refused(Task("a", dbt_task=DbtTask(["rm -r /"], project_directory="/Users/x")))
    assert "from the root" in refused(Task("a", dbt_task=DbtTask(["dbt run"], project_directory="shop")))
    with pytest.raises(Exception, match="has spark_jar_task, which this Millpond's jobs do not have"):
        w.jobs.create(name="bad", tasks=[Task("a", spark_jar_task=SparkJarTask(main_class_name="a.B"))])
    conda = "name: c\nconda_env: conda.yaml\n"
    for uri, why in (
        (in_workspace(w, {"readme.md": "x"}), "has no MLproject"), ("/Shared", "no project's directory"),
        (in_workspace(w, {"MLproject": conda}), "conda_env"), ("/Users/nobody/x", "does not exist"),
    ):  # fmt: skip
        task = {"task_key": "a", "mlflow_project_task": {"uri": uri}}
        _, started = server.call("POST", "/api/2.2/jobs/runs/submit", {"tasks": [task]})
        run = ended(server, started["run_id"])
        assert why in run["state"]["state_message"]


def test_other_commands_of_dbt_are_for_whoever_manages_the_job(server: Server) -> None:
    """They may be any SQL, with the rights of whom the job runs as."""
    w = client(server)
    name = f"{uuid.uuid4().hex[:8]}@x.org"
    reader = WorkspaceClient(host=server.url, token=server.new_user(name), auth_type="pat")
    task = Task("a", dbt_task=DbtTask(["dbt build"], project_directory="/Users/nobody/x"))
    run = JobAccessControlRequest(user_name=name, permission_level=JobPermissionLevel.CAN_MANAGE_RUN)
    job_id = w.jobs.create(name="dbt", tasks=[task], access_control_list=[run]).job_id
    commands = ["dbt show --inline 'select 1'"]
    with pytest.raises(PermissionDenied):
        reader.jobs.run_now(job_id, dbt_commands=commands)
    started = reader.jobs.run_now(job_id).run_id
    ended(server, started)
    with pytest.raises(PermissionDenied):
        reader.jobs.repair_run(started, rerun_all_failed_tasks=True, dbt_commands=commands)
    w.jobs.repair_run(started, rerun_all_failed_tasks=True, dbt_commands=commands)
    ended(server, started)
