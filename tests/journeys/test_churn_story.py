"""The churn story, as the tutorial tells it and `millpond demo` runs it, by unmodified clients."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import fresh_database
from tests.servers import Server, run_cli, server_of

TABLE = "prod_catalog.silver.customer_features"
MODEL = "prod_catalog.ml_models.churn_predictor"
ELSEWHERE = {"MLFLOW_REGISTRY_URI": "sqlite:///elsewhere.db", "DATABRICKS_CONFIG_PROFILE": "elsewhere"}
"""What the shell of somebody may hold who also works on another platform."""


@pytest.fixture(scope="module", params=[pytest.param("sqlite", marks=pytest.mark.long), "postgresql"])
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on which `millpond demo` has just told the story."""
    data_dir = tmp_path_factory.mktemp("story") / "data"
    flags = ["--data-dir", str(data_dir), "--port", "0", "--spark-port", "0", "--no-open"]
    if request.param == "sqlite":
        yield from _tell(flags, ELSEWHERE | {"PATH": f"{_another_uv(data_dir.parent)}:{os.environ['PATH']}"})
        return
    with fresh_database(request.getfixturevalue("postgres_url")) as url:
        yield from _tell(flags, {"MILLPOND_DATABASE_URL": url})


def _another_uv(directory: Path) -> Path:
    """A folder with a `uv` that knows other packages than are installed, as an old lock file does."""
    script = directory / "uv"
    script.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "uv 9.9.9" || echo "cloudpickle==1.2.1"\n')
    script.chmod(0o755)
    return directory


def _tell(flags: list[str], env: dict[str, str]) -> Iterator[Server]:
    data_dir = Path(flags[1])
    try:
        done = run_cli("demo", *flags, env=env, timeout_s=280)
        assert "Customer 1: Month-to-month -> One year" in done.stdout
        server = server_of(data_dir)
        ending = done.stdout.partition("The story ran")[2]
        pages = [word for word in ending.split() if word.startswith(server.url)]
        assert len(pages) >= 4, "it ends with what to look at"
        assert [page for page in pages if _status(server, page) != 200] == []
        yield server
    finally:
        run_cli("down", "--data-dir", str(data_dir), check=False)


def test_the_table_is_in_the_catalog_with_its_columns(told: Server) -> None:
    """What PySpark wrote is what the REST API tells."""
    status, table = told.call("GET", f"/api/2.1/unity-catalog/tables/{TABLE}")
    assert status == 200
    columns = {column["name"]: column["type_name"] for column in table["columns"]}
    assert columns["customer_id"] == "LONG"
    assert columns["total_charges"] == "DOUBLE"
    assert (table["table_type"], table["data_source_format"], table["owner"]) == ("MANAGED", "DELTA", told.user)


def test_the_run_names_its_table_and_version(told: Server) -> None:
    """The run's dataset input is the Delta table at the version after the MERGE."""
    run = _only_run(told)
    (dataset,) = [item["dataset"] for item in run["inputs"]["dataset_inputs"]]
    source = json.loads(dataset["source"])
    assert (source["delta_table_name"], source["delta_table_version"]) == (TABLE, "1")
    assert run["info"]["user_id"] == told.user


def test_the_run_has_parameters_metrics_a_plot_and_a_model(told: Server) -> None:
    """Autologging and explicit logging both arrived."""
    run = _only_run(told)
    metrics = {item["key"]: item["value"] for item in run["data"]["metrics"]}
    assert metrics["test_accuracy"] > 0.75
    assert {item["key"] for item in run["data"]["params"]} >= {"features", "randomforestclassifier__n_estimators"}
    _, listed = told.call("GET", f"/api/2.0/mlflow/artifacts/list?run_id={run['info']['run_id']}")
    assert any(item["path"].endswith(".png") for item in listed["files"])
    assert run["outputs"]["model_outputs"]


def test_aliases_name_the_version(told: Server) -> None:
    """Both aliases point at version 1, and the description is there."""
    _, answer = told.call("GET", f"/api/2.0/mlflow/registered-models/get?name={MODEL}")
    model = answer["registered_model"]
    aliases = {item["alias"]: item["version"] for item in model["aliases"]}
    assert aliases == {"staging": "1", "production": "1"}
    assert model["description"] == "Which customers are about to leave."


def test_stages_move_from_none_to_archived(told: Server) -> None:
    """The older way to promote works on the same version."""
    for stage in ("Staging", "Production", "Archived", "None"):
        body = {"name": MODEL, "version": "1", "stage": stage, "archive_existing_versions": False}
        status, answer = told.call("POST", "/api/2.0/mlflow/model-versions/transition-stage", body)
        assert status == 200, answer
        assert answer["model_version"]["current_stage"] == stage


def test_curl_gets_a_prediction(told: Server) -> None:
    """The endpoint answers a plain HTTP client."""
    body = json.dumps({"dataframe_records": [_customer(told)]})
    url = f"{told.url}/serving-endpoints/churn-predictor/invocations"
    headers = ["-H", f"Authorization: Bearer {told.token}", "-H", "Content-Type: application/json"]
    done = subprocess.run(["curl", "-sS", "-X", "POST", *headers, "-d", body, url], capture_output=True, text=True)
    assert json.loads(done.stdout)["predictions"][0] in {"Yes", "No"}, done.stdout + done.stderr


def test_every_customer_has_a_prediction(told: Server, tmp_path: Path) -> None:
    """The batch scoring wrote one row for each customer of the table."""
    script = tmp_path / "count.py"  # PySpark takes `python -c` for its own doctests
    script.write_text(f"""
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
print(spark.sql("SELECT count(DISTINCT customer_id) n FROM prod_catalog.ml_models.churn_predictions").first().n,
      spark.table("{TABLE}").count())
""")
    done = subprocess.run([sys.executable, str(script)], env=told.client_env(), capture_output=True, text=True)
    assert done.stdout.split() == ["7043", "7043"], done.stderr


def _status(server: Server, page: str) -> int:
    """What a browser gets that is signed in."""
    request = urllib.request.Request(page, headers={"Authorization": f"Bearer {server.token}", "Accept": "text/html"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def _only_run(told: Server) -> dict:
    experiment = f"/Users/{told.user}/churn-prediction"
    _, found = told.call("GET", f"/api/2.0/mlflow/experiments/get-by-name?experiment_name={experiment}")
    body = {"experiment_ids": [found["experiment"]["experiment_id"]]}
    _, answer = told.call("POST", "/api/2.0/mlflow/runs/search", body)
    (run,) = answer["runs"]
    return run


def _customer(told: Server) -> dict:
    import pandas as pd

    from millpond.examples.churn import run

    frame = pd.read_parquet(Path(run.__file__).parent / "telco_churn.parquet")
    return json.loads(frame.drop(columns=["churn", "_split"]).head(1).to_json(orient="records"))[0]
