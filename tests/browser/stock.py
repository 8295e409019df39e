"""Fills a server with something to look at, through the unmodified clients; run as a program with their variables set.

Names, comments and values hold markup and formulas, as hostile users would write them.
"""

import io
import os
import sys

import mlflow
import numpy as np
import pandas as pd
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import OperationFailed
from databricks.sdk.service.catalog import VolumeType
from databricks.sdk.service.serving import AutoCaptureConfigInput, EndpointCoreConfigInput, ServedEntityInput
from mlflow import MlflowClient
from pyspark.sql import SparkSession
from sklearn.linear_model import LogisticRegression

from tests.browser.markup import MARKUP


def main() -> None:
    """Make tables, files, runs, a model and endpoints."""
    _make_tables()
    _make_files()
    run_id = _make_runs()
    _make_model(run_id)
    _make_endpoints()


def _make_tables() -> None:
    spark = SparkSession.builder.remote(os.environ["SPARK_REMOTE"]).getOrCreate()
    spark.sql("CREATE CATALOG shop COMMENT 'What the shop knows'")
    spark.sql("CREATE SCHEMA shop.silver")
    customers = pd.DataFrame({
        "customer_id": [f"C-{number:04d}" for number in range(300)],
        "tenure": range(300),
        "charges": np.arange(300) / 4,
        "remark": [MARKUP, "fine"] * 150,
        ":onclick": ["window.hurt=1"] * 300,
    })  # fmt: skip
    spark.createDataFrame(customers).write.saveAsTable("shop.silver.customers")
    spark.createDataFrame(customers.head(5)).write.mode("append").saveAsTable("shop.silver.customers")
    spark.sql("CREATE TABLE shop.silver.nothing (id BIGINT, name STRING)")
    spark.sql(
        "CREATE VIEW shop.silver.loyal AS SELECT customer_id, tenure FROM shop.silver.customers WHERE tenure > 290"
    )
    workspace = WorkspaceClient()
    workspace.api_client.do(
        "PATCH", "/api/2.1/unity-catalog/tables/shop.silver.customers", body={"comment": f"One row each. {MARKUP}"}
    )
    spark.stop()


def _make_files() -> None:
    workspace = WorkspaceClient()
    workspace.volumes.create("shop", "silver", "raw", VolumeType.MANAGED, comment="Files as they came")
    workspace.files.create_directory("/Volumes/shop/silver/raw/2026 <b>")
    workspace.files.upload("/Volumes/shop/silver/raw/notes.html", io.BytesIO(b"<script>window.hurt=1</script>"))


def _make_runs() -> str:
    mlflow.set_experiment(f"/Users/{WorkspaceClient().current_user.me().user_name}/churn")
    for depth in (2, 4, 6):
        with mlflow.start_run(run_name=MARKUP if depth == 4 else f"depth-{depth}") as run:
            mlflow.log_param("depth", depth)
            mlflow.log_metrics({"auc": 0.7 + depth / 100, "log_loss": 1 / depth})
            if depth == 6:
                features = pd.DataFrame({"tenure": [1, 2, 30, 40], "charges": [70.5, 80.25, 20.0, 30.0]})
                model = LogisticRegression().fit(features, [1, 1, 0, 0])
                mlflow.log_input(mlflow.data.from_pandas(features, name="shop.silver.customers"))
                mlflow.sklearn.log_model(model, name="model", input_example=features.head(2))
    return run.info.run_id


def _make_model(run_id: str) -> None:
    for _ in range(2):
        mlflow.register_model(f"runs:/{run_id}/model", "shop.silver.churn")
    client = MlflowClient()
    client.update_registered_model("shop.silver.churn", f"Who leaves. {MARKUP}")
    client.set_registered_model_tag("shop.silver.churn", "team", MARKUP)
    client.set_registered_model_alias("shop.silver.churn", "production", "1")
    client.create_registered_model("plain-model")


class _Broken(mlflow.pyfunc.PythonModel):
    """Loads nowhere."""

    def load_context(self, context: object) -> None:
        raise ValueError("the weights are <b>missing</b>")

    def predict(self, context: object, model_input: list[str]) -> list[str]:
        return model_input


def _make_endpoints() -> None:
    with mlflow.start_run(run_name="broken"):
        logged = mlflow.pyfunc.log_model(name="model", python_model=_Broken(), pip_requirements=["mlflow"])
    mlflow.register_model(logged.model_uri, "shop.silver.broken")
    serving = WorkspaceClient().serving_endpoints
    serving.create("broken", config=_serving("broken", "shop.silver.broken"))
    config = _serving("churn", "shop.silver.churn")
    config.auto_capture_config = AutoCaptureConfigInput(catalog_name="main", schema_name="default")
    serving.create_and_wait("churn", config=config)
    try:
        serving.wait_get_serving_endpoint_not_updating("broken")
    except OperationFailed:
        return
    raise AssertionError("an endpoint came up whose model does not load")


def _serving(name: str, model: str) -> EndpointCoreConfigInput:
    served = ServedEntityInput(
        entity_name=model, entity_version="1", workload_size="Small", scale_to_zero_enabled=False
    )
    return EndpointCoreConfigInput(name=name, served_entities=[served])


if __name__ == "__main__":
    sys.exit(main())
