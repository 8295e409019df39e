"""Runs of the unmodified `mlflow` client, made again by `millpond reproduce`: the same, or named exactly."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uv
from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession
from pyspark.sql.connect.session import SparkSession as RemoteSession

from tests.environments import client_environment
from tests.servers import Server, run_cli, wait_until

_TRAIN = """
import random
import sys

import mlflow
import pandas as pd
from helper import columns
from pyspark.sql import SparkSession
from sklearn.ensemble import RandomForestClassifier

spark = SparkSession.builder.getOrCreate()
rows = spark.table(sys.argv[1]).toPandas().sort_values("id")
extra = pd.read_csv("data/extra.csv")
mlflow.set_experiment(f"/Shared/{sys.argv[1]}")
with mlflow.start_run(run_name="forest"):
    X, y = rows[columns()], rows["y"]
    model = RandomForestClassifier(n_estimators=5).fit(X, y)
    mlflow.log_param("extra", len(extra))
    mlflow.log_metric("luck", random.random())
    for step in range(3):
        mlflow.log_metric("p", model.predict_proba(X)[step, 0], step=step)
    mlflow.sklearn.log_model(
        model, name="model", input_example=X.head(2), serialization_format="cloudpickle",
        registered_model_name=sys.argv[2],
    )
"""
_LIGHT = """
import os
import time

import humanize
import mlflow

mlflow.set_experiment("/Shared/light")
with mlflow.start_run() as run:
    mlflow.log_param("humanize", humanize.__version__)
    mlflow.set_tag("given away", os.environ["DATABRICKS_TOKEN"][::-1])
    mlflow.log_metric("length", len(humanize.naturalsize(3_000_000)))
"""
_CLOCK = """
import time

import mlflow

mlflow.set_experiment("/Shared/clock")
with mlflow.start_run():
    for step in range(4):
        mlflow.log_metric("m", time.time_ns() % 1_000_003 if step == 2 else 1.0, step=step)
"""

_BOOST = """
import mlflow
import numpy
import {library}

mlflow.set_experiment("/Shared/{library}")
mlflow.{library}.autolog(log_input_examples=True, registered_model_name="main.default.{library}")
X = numpy.random.normal(size=(400, 5))
y = X[:, 0] * X[:, 1] + numpy.random.normal(size=400) / 10
with mlflow.start_run():
    {fit}
"""
_BOOSTED = {
    "lightgbm": """
    data = lightgbm.Dataset(X[:300], y[:300])
    told = dict(objective="regression", bagging_fraction=0.7, bagging_freq=1, num_threads=2, verbose=-1)
    lightgbm.train(told, data, num_boost_round=20, valid_sets=[lightgbm.Dataset(X[300:], y[300:], reference=data)])
""",
    "xgboost": """
    told = dict(subsample=0.7, colsample_bytree=0.7, nthread=2)
    held_out = xgboost.DMatrix(X[300:], y[300:])
    xgboost.train(told, xgboost.DMatrix(X[:300], y[:300]), num_boost_round=20, evals=[(held_out, "held_out")])
""",
}


@dataclass(frozen=True, kw_only=True)
class Client:
    """A user at a shell: a server, and an interpreter with packages."""

    server: Server
    python: str

    def run(self, directory: Path, *arguments: str) -> None:
        """Run a program as the server's user."""
        done = subprocess.run(
            [self.python, *arguments], cwd=directory, env=self.server.client_env(), capture_output=True, text=True,
            timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def newest_run(self, experiment: str) -> str:
        """The id of the run that was started last."""
        _, found = self.server.call("GET", f"/api/2.0/mlflow/experiments/get-by-name?experiment_name={experiment}")
        asked = {"experiment_ids": [found["experiment"]["experiment_id"]], "order_by": ["attributes.start_time DESC"]}
        _, runs = self.server.call("POST", "/api/2.0/mlflow/runs/search", asked)
        return str(runs["runs"][0]["info"]["run_id"])

    def reproduce(self, run_id: str, *options: str) -> tuple[int, dict[str, Any]]:
        """Exit code and verdict."""
        where = ("--data-dir", str(self.server.data_dir))
        done = run_cli("reproduce", run_id, "--json", *options, *where, check=False, timeout_s=280)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)


@pytest.fixture
def spark(any_server: Server) -> Iterator[SparkSession]:
    """The administrator's session, which is not that of a run."""
    session = RemoteSession.builder.remote(any_server.spark_remote).create()
    session.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    yield session
    session.stop()


def _git(directory: Path, *words: str) -> None:
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
    subprocess.run(["git", "-C", str(directory), *who, *words], check=True, capture_output=True)


def _repository(directory: Path) -> Path:
    """A repository with a change that was not committed, a secret, and data that git ignores."""
    (directory / "data").mkdir(parents=True)
    (directory / "train.py").write_text(_TRAIN)
    (directory / "helper.py").write_text("def columns():\n    return ['a']\n")
    (directory / "data" / "extra.csv").write_text("x\n1\n2\n")
    (directory / ".gitignore").write_text("data/\n")
    _git(directory, "init", "-q")
    _git(directory, "add", "-A")
    _git(directory, "commit", "-q", "-m", "first")
    (directory / "helper.py").write_text("def columns():\n    return ['a', 'b']\n")
    (directory / ".env").write_text("PASSWORD=hunter2\n")
    return directory


def _commit_of(verdict: dict[str, Any], kind: str) -> dict[str, str]:
    return {each["name"]: each["outcome"] for each in verdict[kind]}


@pytest.mark.slow
@pytest.mark.parametrize("any_server", ["postgresql"], indirect=True)
def test_a_run_comes_out_the_same_after_table_and_code_have_changed(
    any_server: Server, spark: SparkSession, tmp_path: Path
) -> None:
    client = Client(server=any_server, python=sys.executable)
    table, model = f"main.default.points_{tmp_path.name.strip('_')}", f"main.default.forest_{tmp_path.name}"
    query = "SELECT id, id % 7 AS a, id * 37 % 11 AS b, CAST(id * 13 % 5 > 2 AS INT) AS y FROM range(100)"
    often = "TBLPROPERTIES ('delta.checkpointInterval' = '2')"
    spark.sql(f"CREATE OR REPLACE TABLE {table} {often} AS {query}").collect()
    code = _repository(tmp_path / "code")
    client.run(code, "train.py", table, model)
    run_id = client.newest_run(f"/Shared/{table}")
    wait_until(lambda: _property(spark, table, "delta.enableExpiredLogCleanup") == "false", what="the log to be kept")
    _age_log(spark, table)

    spark.sql(f"INSERT INTO {table} SELECT id + 500, 1, 1, 1 FROM range(10)").collect()
    spark.sql(f"INSERT OVERWRITE {table} SELECT id, 1, 1, 1 FROM range(10)").collect()
    for _ in range(3):
        spark.sql(f"OPTIMIZE {table}").collect()
        spark.sql(f"INSERT INTO {table} VALUES (0, 0, 0, 0)").collect()
    spark.sql(f"VACUUM {table} RETAIN 0 HOURS").collect()
    shutil.rmtree(code)
    exit_code, verdict = client.reproduce(run_id, "--python", sys.executable)

    assert (exit_code, verdict["outcome"]) == (0, "bit-identical"), verdict
    assert _commit_of(verdict, "metrics") == {"luck": "bit-identical", "p": "bit-identical"}
    assert f"{table}@1" in {each["name"] for each in verdict["inputs"]}
    assert "code: .env: it may hold secrets" in verdict["missing"]
    _, new_run = any_server.call("GET", f"/api/2.0/mlflow/runs/get?run_id={verdict['new_run_id']}")
    assert {"key": "millpond.reproduces", "value": run_id} in new_run["run"]["data"]["tags"]
    _, versions = any_server.call("GET", f"/api/2.0/mlflow/model-versions/search?filter=name%3D%27{model}%27")
    assert [each["version"] for each in versions["model_versions"]] == ["1"], "a reproduction registered a model"

    _check_pins(any_server, spark, table, model, run_id)


def _property(spark: SparkSession, table: str, key: str) -> str:
    found = {row[0]: row[1] for row in spark.sql(f"SHOW TBLPROPERTIES {table}").collect()}
    return str(found.get(key))


def _age_log(spark: SparkSession, table: str) -> None:
    """Let all of the log be past its retention, for whoever looks at files' times and for whoever looks inside."""
    past_s = time.time() - 60 * 24 * 3600
    for path in Path(_location(spark, table), "_delta_log").glob("*.json"):
        told = re.sub(r'"timestamp":\d+', f'"timestamp":{int(past_s * 1000)}', path.read_text())
        path.write_text(told)
        os.utime(path, (past_s, past_s))


def _location(spark: SparkSession, table: str) -> str:
    return str(spark.sql(f"DESCRIBE DETAIL {table}").select("location").first()[0]).removeprefix("file://")


def test_a_table_that_keeps_its_log_keeps_it_when_it_is_replaced_or_restored(
    any_server: Server, spark: SparkSession, tmp_path: Path
) -> None:
    table, key = f"main.default.kept_{tmp_path.name}", "delta.enableExpiredLogCleanup"
    spark.sql(f"CREATE TABLE {table} AS SELECT 1 AS a").collect()
    spark.sql(f"ALTER TABLE {table} SET TBLPROPERTIES ('{key}' = 'false')").collect()
    spark.sql(f"CREATE OR REPLACE TABLE {table} AS SELECT 2 AS b").collect()
    assert _property(spark, table, key) == "false"
    spark.sql(f"CREATE OR REPLACE TABLE {table} (c BIGINT)").collect()
    assert _property(spark, table, key) == "false"
    spark.range(3).write.mode("overwrite").option("overwriteSchema", "true").saveAsTable(table)
    assert _property(spark, table, key) == "false"
    spark.sql(f"RESTORE TABLE {table} TO VERSION AS OF 0").collect()
    assert _property(spark, table, key) == "false"


def _check_pins(server: Server, spark: SparkSession, table: str, model: str, run_id: str) -> None:
    """VACUUM kept the version, and said so; once the model's version is gone it does not."""
    told = run_cli("pins", table, "--data-dir", str(server.data_dir)).stdout
    assert told.startswith(f"{table}@1  {model} version 1 (run {run_id})"), told
    history = spark.sql(f"DESCRIBE HISTORY {table}").select("userMetadata").collect()
    assert any(f"kept: version 1 for {model} version 1" in (row[0] or "") for row in history), history
    status, _ = server.call("DELETE", "/api/2.0/mlflow/model-versions/delete", {"name": model, "version": "1"})
    assert status == 200
    assert run_cli("pins", table, "--data-dir", str(server.data_dir)).stdout.startswith("No version")
    spark.sql(f"VACUUM {table} RETAIN 0 HOURS").collect()
    with pytest.raises(Exception, match=r"(?i)not.?found|no such file|does not exist|Failed"):
        spark.sql(f"SELECT sum(a) FROM {table} VERSION AS OF 0").collect()


@pytest.mark.long
@pytest.mark.parametrize("library", sorted(_BOOSTED))
def test_boosted_trees_come_out_the_same(server: Server, tmp_path: Path, library: str) -> None:
    """Autologged and registered; unseeded rows, and more threads than one."""
    client = Client(server=server, python=sys.executable)
    (tmp_path / "boost.py").write_text(_BOOST.format(library=library, fit=_BOOSTED[library]))
    client.run(tmp_path, "boost.py")
    exit_code, verdict = client.reproduce(client.newest_run(f"/Shared/{library}"), "--python", sys.executable)
    assert exit_code == 0, verdict
    assert set(_commit_of(verdict, "metrics").values()) == {"bit-identical"}, verdict["metrics"]
    files = _commit_of(verdict, "artifacts")
    assert files.pop("model/MLmodel") in {"bit-identical", "within tolerance"}  # lists a set of names in any order
    assert set(files.values()) == {"bit-identical"}, verdict["artifacts"]
    _, found = server.call("GET", f"/api/2.0/mlflow/model-versions/search?filter=name%3D%27main.default.{library}%27")
    assert [each["version"] for each in found["model_versions"]] == ["1"]


@pytest.mark.long
def test_the_first_step_that_differs_is_named(server: Server, tmp_path: Path) -> None:
    client = Client(server=server, python=sys.executable)
    (tmp_path / "clock.py").write_text(_CLOCK)
    client.run(tmp_path, "clock.py")
    exit_code, verdict = client.reproduce(client.newest_run("/Shared/clock"), "--python", sys.executable)
    assert (exit_code, verdict["outcome"]) == (1, "different")
    assert verdict["metrics"][0]["step"] == 2


def test_a_run_without_a_capture_says_why(server: Server) -> None:
    _, made = server.call("POST", "/api/2.0/mlflow/runs/create", {"experiment_id": "0"})
    run_id = made["run"]["info"]["run_id"]
    done = run_cli("reproduce", run_id, "--data-dir", str(server.data_dir), check=False)
    assert done.returncode == 1
    assert "names no capture" in done.stderr


@pytest.mark.long
def test_capturing_can_be_turned_off(server: Server, tmp_path: Path) -> None:
    client = Client(server=server, python=sys.executable)
    (tmp_path / "off.py").write_text("import os\nos.environ['MILLPOND_CAPTURE'] = 'off'\n" + _CLOCK)
    client.run(tmp_path, "off.py")
    _, shown = server.call("GET", f"/api/millpond/runs/{client.newest_run('/Shared/clock')}/capture")
    assert shown["capture"] is None


def test_a_process_that_reproduces_changes_no_table(
    any_server: Server, spark: SparkSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = f"main.default.fixed_{tmp_path.name}"
    spark.sql(f"CREATE OR REPLACE TABLE {table} AS SELECT 1 AS a").collect()
    monkeypatch.setenv("SPARK_CONNECT_USER_AGENT", f"_SPARK_CONNECT_PYTHON millpond-reads-of/{'0' * 32}/0")
    again = RemoteSession.builder.remote(any_server.spark_remote).create()
    try:
        assert again.table(table).count() == 1
        for statement in (f"INSERT INTO {table} VALUES (2)", f"DROP TABLE {table}", f"DELETE FROM {table}"):
            with pytest.raises(AnalysisException, match="changes nothing"):
                again.sql(statement).collect()
        with pytest.raises(AnalysisException, match="changes nothing"):
            again.table(table).write.mode("append").saveAsTable(table)
    finally:
        again.stop()


@pytest.mark.long
def test_a_library_that_was_upgraded_is_named_and_the_server_goes_back_to_the_old_one(
    server: Server, tmp_path: Path
) -> None:
    client = Client(server=server, python=client_environment(tmp_path / "env", "humanize==4.9.0"))
    (tmp_path / "light.py").write_text(_LIGHT)
    client.run(tmp_path, "light.py")
    run_id = client.newest_run("/Shared/light")
    upgrade = (uv.find_uv_bin(), "pip", "install", "-q", "--python", client.python, "humanize==4.12.0")
    subprocess.run(upgrade, check=True, capture_output=True)

    exit_code, verdict = client.reproduce(run_id, "--python", client.python)
    assert (exit_code, verdict["outcome"]) == (1, "different")
    assert verdict["notes"] == ["package humanize: 4.9.0, then 4.12.0"]

    exit_code, verdict = client.reproduce(run_id)
    assert (exit_code, verdict["outcome"], verdict["notes"]) == (0, "bit-identical", [])
    path = f"/api/2.0/mlflow/runs/get?run_id={verdict['new_run_id']}"
    tags = server.call("GET", path)[1]["run"]["data"]["tags"]
    [token] = [each["value"][::-1] for each in tags if each["key"] == "given away"]
    assert server.call("GET", path, token=token)[0] == 401
    assert wait_until(lambda: not list((server.data_dir / "run" / "reproduction").glob("*")), what="nothing is left")
