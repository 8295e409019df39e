"""Runs projects of dbt and MLflow in a task's process, in whose environment these are.

Standard library only, besides what the project's own tools bring.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from millpond.jobs.written import write_at_once
from millpond.sdk.dbutils.api import Api

ARTIFACTS = "artifacts.tar.gz"
_MOST_ARTIFACTS = 32 << 20
_DBT = "from dbt.cli.main import cli; cli()"
_TARGET = "databricks_warehouse"
_THREADS = 4
_FAILED_RUN = re.compile(r"\(ID '([0-9a-f]{32})'\)")
Told = dict[str, Any]


def run_dbt(directory: Path, root: Path, body: Mapping[str, Any], api: Api) -> Told:
    """Run the commands up to the first that fails; how that ended. What dbt leaves is kept."""
    os.environ |= {
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "DO_NOT_TRACK": "1",
        "DBT_DATABRICKS_CONNECTOR_LOG_LEVEL": "ERROR",  # its warnings have the signed links of results
    }  # fmt: skip
    if body.get("warehouse_id"):
        catalog, schema = body.get("catalog") or "main", body.get("schema") or "default"
        _ensure_schema(api, catalog, schema)
        os.environ["DBT_PROFILES_DIR"] = _write_profile(directory, root, body, catalog, schema)
    else:
        os.environ["DBT_PROFILES_DIR"] = str(root / (body.get("profiles_directory") or "."))
    try:
        return _run_all(body["commands"], root)
    finally:
        _keep_artifacts(directory, root)


def _run_all(commands: Sequence[str], root: Path) -> Told:
    for command in commands:
        print(f"$ {command}", flush=True)
        code = subprocess.run([sys.executable, "-c", _DBT, *shlex.split(command)[1:]], cwd=root).returncode
        if code:
            return {"ok": False, "message": f"'{command}' ended with code {code}; the log says why.", "error": ""}
    return {"ok": True}


def _write_profile(directory: Path, root: Path, body: Mapping[str, Any], catalog: str, schema: str) -> str:
    """The profile that the project names, on the warehouse; the token stays in the environment."""
    import yaml  # type: ignore[import-untyped]  # dbt's own

    name = yaml.safe_load((root / "dbt_project.yml").read_text()).get("profile") or "default"
    output = {
        "type": "databricks", "catalog": catalog, "schema": schema, "threads": _THREADS,
        # the connector puts a port behind the host, which already has one: then that belongs to a path, and is not read
        "host": os.environ["DATABRICKS_HOST"] + "/-",
        "http_path": f"/sql/1.0/warehouses/{body['warehouse_id']}",
        "token": body["token_prefix"] + "{{ env_var('DATABRICKS_TOKEN') }}",
        "connection_parameters": {"use_sea": True, "enable_telemetry": False},
    }  # fmt: skip
    place = directory / "profiles"
    place.mkdir()
    profiles = {name: {"target": _TARGET, "outputs": {_TARGET: output}}}
    (place / "profiles.yml").write_text(json.dumps(profiles))
    return str(place)


def _ensure_schema(api: Api, catalog: str, schema: str) -> None:
    """Make the schema where it is not there: dbt would do so, but by a session that begins in it."""
    try:
        api.ask(f"/api/2.1/unity-catalog/schemas/{catalog}.{schema}")
    except FileNotFoundError:
        data = json.dumps({"name": schema, "catalog_name": catalog}).encode()
        api.open(
            "POST", "/api/2.1/unity-catalog/schemas", data=data, headers={"Content-Type": "application/json"}
        ).close()


def _keep_artifacts(directory: Path, root: Path) -> None:
    """`target` and `logs` of the project, packed; what is too large is left out."""
    place = directory / ARTIFACTS
    with tarfile.open(place, "w:gz") as packed:
        for name in ("target", "logs"):
            if (root / name).is_dir():
                packed.add(root / name, arcname=name)
    if place.stat().st_size > _MOST_ARTIFACTS:
        place.unlink()
        print(f"The artifacts have more than {_MOST_ARTIFACTS >> 20} MiB, and are not kept.", file=sys.stderr)
        return
    write_at_once(directory / "output.json", json.dumps({"artifacts": True}))


def run_mlflow_project(
    directory: Path, root: Path, body: Mapping[str, Any], hand_on: Callable[[str, str], None]
) -> Told:
    """Run an entry point; the run that came of it is handed on as the task value `mlflow_run_id`."""
    from mlflow import MlflowClient
    from mlflow.exceptions import ExecutionException
    from mlflow.projects import run

    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    told: Told = {"ok": True}
    try:
        run_id = run(
            uri=str(root), entry_point=body["entry_point"], parameters=body.get("parameters") or {},
            experiment_name=body.get("experiment_name"), experiment_id=body.get("experiment_id"), env_manager="local",
        ).run_id  # fmt: skip
    except ExecutionException as error:
        found = _FAILED_RUN.search(str(error))
        run_id = found[1] if found else None
        told = {"ok": False, "message": str(error), "error": ""}
    if run_id:
        for key, value in json.loads(os.environ["MLFLOW_RUN_CONTEXT"]).items():  # MLflow does it for other runs
            MlflowClient().set_tag(run_id, key, value)
        hand_on("mlflow_run_id", run_id)
        write_at_once(directory / "output.json", json.dumps({"mlflow_run_id": run_id}))
    return told
