"""What an answer by keys costs more than one to a request that brings the features itself, in one run.

    bench_keys.py [ROUNDS]      by default 1000

One model of 50 features, asked for 1 and 10 rows: features looked up online, the same with a Python function, and, as
the peer, the same model with everything in the request.
"""

import http.client
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))

import mlflow
import numpy as np
import pandas as pd
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.serving import EndpointCoreConfigInput, ServedEntityInput
from pyspark.sql import SparkSession
from sklearn.linear_model import LinearRegression
from tests.servers import Server, running_server

from bench.peers import wait_for
from bench.report import heading, row
from millpond.features import FeatureEngineeringClient, FeatureFunction, FeatureLookup

WIDTH, CUSTOMERS, COUNTS = 50, 2000, (1, 10)
NAMES = [f"f{number}" for number in range(WIDTH)]
GAP = "CREATE FUNCTION main.bench.gap(f0 DOUBLE, f1 DOUBLE) RETURNS DOUBLE LANGUAGE PYTHON AS $$ return abs(f0 - f1) $$"


def main() -> None:
    """The three ways, one after the other."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as directory, running_server(Path(directory) / "data") as server:
        os.environ |= {name: value for name, value in server.client_env().items() if "_" in name}
        frame = pd.DataFrame(np.random.default_rng(7).random((CUSTOMERS, WIDTH)), columns=NAMES)
        endpoints = _prepared(server, frame.assign(id=range(CUSTOMERS)))
        everything = frame.assign(gap=(frame["f0"] - frame["f1"]).abs()).to_dict(orient="records")
        heading(f"A model of {WIDTH} features, asked over HTTP; the peer's requests bring the features themselves")
        for count in COUNTS:
            peer = _timed(server, endpoints["plain"], count, rounds, lambda n: {**everything[n], "id": n})
            for name, words in (("plain", "by keys"), ("computed", "by keys, with a Python function")):
                ours = _timed(server, endpoints[name], count, rounds, lambda n: {"id": n})
                row(f"{count} rows {words}, p50", statistics.median(ours), statistics.median(peer), "us")
                row(f"{count} rows {words}, p99", _p99(ours), _p99(peer), "us")


def _prepared(server: Server, features: pd.DataFrame) -> dict[str, str]:
    """An endpoint without and one with a function, over one online table."""
    spark, fe = SparkSession.builder.remote(server.spark_remote).create(), FeatureEngineeringClient()
    for text in ("CREATE SCHEMA main.bench", GAP):
        spark.sql(text).collect()
    fe.create_online_store(name="bench", capacity="CU_1")
    fe.create_table(name="main.bench.features", primary_keys="id", df=features)
    fe.publish_table(
        online_store="bench", source_table_name="main.bench.features", online_table_name="main.bench.online"
    )
    wait_for(lambda: server.call("GET", "/api/millpond/online-tables/main.bench.online")[1]["state"] == "ONLINE")
    lookups: list[Any] = [FeatureLookup(table_name="main.bench.features", lookup_key="id")]
    function = FeatureFunction(udf_name="main.bench.gap", output_name="gap")
    made = {
        name: _served(fe, f"main.bench.{name}", wanted)
        for name, wanted in (("plain", lookups), ("computed", [*lookups, function]))
    }
    spark.stop()
    return made


def _served(fe: FeatureEngineeringClient, model: str, wanted: list[Any]) -> str:
    labels = pd.DataFrame({"id": range(100), "label": np.arange(100.0)})
    made = fe.create_training_set(df=labels, feature_lookups=wanted, label="label", exclude_columns="id")
    frame = made.load_df()
    fitted = LinearRegression().fit(frame.drop(columns="label"), frame["label"])
    fe.log_model(model=fitted, artifact_path="model", flavor=mlflow.sklearn, training_set=made,
                 registered_model_name=model, pip_requirements=["mlflow"])  # fmt: skip
    name = model.rpartition(".")[2]
    config = EndpointCoreConfigInput(name, served_entities=[ServedEntityInput(entity_name=model, entity_version="1")])
    WorkspaceClient().serving_endpoints.create_and_wait(name, config=config, timeout=timedelta(minutes=5))
    return name


def _timed(server: Server, endpoint: str, count: int, rounds: int, record: Callable[[int], Any]) -> list[float]:
    """Microseconds of each of so many answers, without the first few."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}
    found = []
    for number in range(rounds + 50):
        records = [record((number * 7919 + each * 104_729) % CUSTOMERS) for each in range(count)]
        body = json.dumps({"dataframe_records": records})
        began = time.perf_counter_ns()
        connection.request("POST", f"/serving-endpoints/{endpoint}/invocations", body, headers)
        answer = connection.getresponse()
        assert len(json.loads(answer.read())["predictions"]) == count, answer.status
        found.append((time.perf_counter_ns() - began) / 1000)
    connection.close()
    return found[50:]


def _p99(values: list[float]) -> float:
    return sorted(values)[int(0.99 * len(values))]


if __name__ == "__main__":
    main()
