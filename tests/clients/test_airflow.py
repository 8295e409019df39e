"""Airflow's Databricks provider from PyPI, unmodified: a DAG of its operators, and calls that no other client makes."""

import io
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uv
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.catalog import VolumeType
from databricks.sdk.service.workspace import ImportFormat

from tests.servers import Server, wait_until

PACKAGES = ("apache-airflow==3.3.2", "apache-airflow-providers-databricks==7.23.0")
DAG = Path(__file__).parent / "airflow" / "drive.py"
SCRIPT = """import sys, time
print('got', sys.argv[1:])
if sys.argv[1:] == ['sleep']:
    time.sleep(300)
if sys.argv[1].startswith('/Volumes/'):
    try:
        dbutils.fs.head(sys.argv[1])
    except Exception:
        dbutils.fs.put(sys.argv[1], 'seen')
        sys.exit('went badly')
"""
NOTEBOOK = "# Databricks notebook source\ndbutils.notebook.exit('for ' + dbutils.widgets.get('who'))"


def client(server: Server) -> WorkspaceClient:
    return WorkspaceClient(host=server.url, token=server.token, auth_type="pat")


def volume_of(w: WorkspaceClient) -> str:
    schema = f"airflow_{uuid.uuid4().hex[:8]}"
    w.schemas.create(schema, "main")
    w.volumes.create("main", schema, "v", VolumeType.MANAGED)
    return f"/Volumes/main/{schema}/v"


def airflow() -> Path:
    """The interpreter of an environment with Airflow, made the first time and kept in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "millpond" / "-".join(PACKAGES)
    python = cache / "bin" / "python"
    if not (cache / "whole").exists():
        for words in (
            ("venv", "-q", "--clear", "--python", sys.executable, str(cache)),
            ("pip", "install", "-q", "--python", str(python), *PACKAGES),
        ):
            subprocess.run([uv.find_uv_bin(), *words], check=True, capture_output=True)
        (cache / "whole").touch()
    return python


@pytest.mark.long
def test_a_dag_of_the_providers_operators_succeeds(server: Server, tmp_path: Path) -> None:
    """Airflow has 4 s of imports, a database to make and a process for nothing; its own time is most of the test's."""
    w = client(server)
    volume, home = volume_of(w), f"/Users/{w.current_user.me().user_name}"
    w.files.upload(f"{volume}/s.py", io.BytesIO(SCRIPT.encode()))
    w.workspace.mkdirs(home)
    w.workspace.upload(f"{home}/airflow.py", io.BytesIO(NOTEBOOK.encode()), format=ImportFormat.AUTO, overwrite=True)
    at = urlsplit(server.url)
    connection = {
        "conn_type": "databricks", "schema": "http", "host": at.hostname, "port": at.port, "password": server.token,
    }  # fmt: skip
    variables = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false", "AIRFLOW__CORE__DAGS_FOLDER": str(DAG.parent),
        "AIRFLOW_CONN_DATABRICKS_DEFAULT": json.dumps(connection),
        "SCRIPT": f"{volume}/s.py", "NOTEBOOK": f"{home}/airflow", "MARK": f"{volume}/mark",
        "WAREHOUSE": str(next(iter(w.warehouses.list())).id),
    }  # fmt: skip
    for words in (["-m", "airflow", "db", "migrate"], [str(DAG)]):
        done = subprocess.run([str(airflow()), *words], env=variables, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"{done.stdout[-8000:]}\n{done.stderr[-4000:]}"
    job = next(job for job in w.jobs.list(name="made by airflow"))
    levels = {
        entry.group_name: [each.permission_level.value for each in entry.all_permissions]
        for entry in w.permissions.get("jobs", str(job.job_id)).access_control_list
    }
    assert levels["users"] == ["CAN_VIEW"]
    assert {run.run_name for run in w.jobs.list_runs(limit=25)} >= {"deferred", "single", "drive.flow", "long"}


def test_calls_of_the_provider_that_no_other_client_makes(any_server: Server) -> None:
    """One task at the top of a run, `run_id` in the body of a GET, lists that are empty, and levels among settings."""
    w = client(any_server)
    script = f"{volume_of(w)}/s.py"
    w.files.upload(script, io.BytesIO(b"import sys\nprint(sys.argv[1:])"))

    def call(method: str, path: str, body: Any) -> Any:
        status, told = any_server.call(method, f"/api/2.2/jobs/{path}", body)
        assert status == 200, told
        return told

    def ended(run_id: int) -> Any:
        def look() -> Any:
            run = call("GET", "runs/get", {"run_id": run_id})
            return run if run["state"]["life_cycle_state"] == "TERMINATED" else None

        return wait_until(look, timeout_s=120)

    task = {"python_file": script, "parameters": ["as", "said"]}
    run = ended(call("POST", "runs/submit", {"run_name": "a b", "spark_python_task": task, "libraries": []})["run_id"])
    [found] = run["tasks"]
    assert (found["task_key"], found["state"]["result_state"]) == ("a_b", "SUCCESS")
    assert call("GET", "runs/get-output", {"run_id": found["run_id"]})["logs"] == "['as', 'said']\n"
    [whole] = call("GET", f"runs/get?run_id={run['run_id']}&include_history=true", None)["repair_history"]
    assert (whole["type"], whole["task_run_ids"]) == ("ORIGINAL", [found["run_id"]])
    assert any_server.call("GET", "/api/2.2/jobs/runs/get")[0] == 400

    reader = any_server.new_user(f"reads{uuid.uuid4().hex[:8]}@x.org")
    settings = {
        "name": "levels", "tasks": [{"task_key": "a", "spark_python_task": task}], "job_clusters": [],
        "email_notifications": {"no_alert_for_skipped_runs": False}, "format": "MULTI_TASK", "timeout_seconds": 0,
    }  # fmt: skip
    everybody = {"group_name": "users", "permission_level": "CAN_VIEW"}
    mine = {"user_name": any_server.user, "permission_level": "IS_OWNER"}
    job_id = call("POST", "create", {**settings, "access_control_list": [everybody, mine]})["job_id"]
    assert any_server.call("GET", f"/api/2.2/jobs/get?job_id={job_id}", token=reader)[0] == 200
    asked = {"job_id": job_id, "jar_params": [], "python_params": [], "notebook_params": {}}
    assert any_server.call("POST", "/api/2.2/jobs/run-now", asked, token=reader)[0] == 403
    everybody["permission_level"] = "CAN_MANAGE_RUN"
    call("POST", "reset", {"job_id": job_id, "new_settings": {**settings, "access_control_list": [everybody]}})
    status, started = any_server.call("POST", "/api/2.2/jobs/run-now", asked, token=reader)
    assert (status, ended(started["run_id"])["state"]["result_state"]) == (200, "SUCCESS")
    told = call("GET", f"runs/get-output?run_id={started['run_id']}", None)
    assert told["logs"] == "['as', 'said']\n"
    bad = {**settings, "access_control_list": [{"group_name": "nobody knows", "permission_level": "CAN_VIEW"}]}
    status, told = any_server.call("POST", "/api/2.2/jobs/create", {**bad, "name": "never made"})
    assert (status, "nobody knows" in told["message"]) == (400, True)
    assert not list(w.jobs.list(name="never made"))
    w.jobs.delete(job_id)  # else everybody sees it, in other tests, too
