"""Models that tests of scoring ask: registered by the official mlflow client, in a schema of their own."""

import sys
import uuid
from dataclasses import dataclass
from typing import Any

import cloudpickle
import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from pyspark.sql import SparkSession
from sklearn.linear_model import LinearRegression

from tests.clients.mlflow_session import signed_in
from tests.servers import Server


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A server with a schema, a session, and models in it."""

    server: Server
    schema: str
    spark: SparkSession

    def sql(self, text: str) -> list[tuple[Any, ...]]:
        """Rows of a statement in which {s} is the schema, as plain tuples."""
        return [tuple(row) for row in self.spark.sql(text.replace("{s}", self.schema)).collect()]

    def log(self, name: str, model: Any, **kwargs: Any) -> str:
        """Another version of a model, as its number."""
        with signed_in(self.server) as client:
            found = client.get_experiment_by_name(self.schema)
            experiment = found.experiment_id if found else client.create_experiment(self.schema)
            with mlflow.start_run(experiment_id=experiment):
                flavor = mlflow.pyfunc if isinstance(model, mlflow.pyfunc.PythonModel) else mlflow.sklearn
                first = {"python_model": model} if flavor is mlflow.pyfunc else {"sk_model": model}
                kwargs = {"pip_requirements": ["mlflow", "scikit-learn"]} | kwargs
                info = flavor.log_model(name="model", registered_model_name=f"{self.schema}.{name}", **first, **kwargs)
                return str(info.registered_model_version)

    def alias(self, name: str, alias: str, version: str) -> None:
        """Let an alias name a version."""
        with signed_in(self.server) as client:
            client.set_registered_model_alias(f"{self.schema}.{name}", alias, version)


def open_scored(server: Server) -> Scored:
    """A new schema and session."""
    schema = f"scored_{uuid.uuid4().hex[:10]}"
    status, body = server.call("POST", "/api/2.1/unity-catalog/schemas", {"name": schema, "catalog_name": "main"})
    assert status in {200, 201}, body
    spark = SparkSession.builder.remote(server.spark_remote).create()
    return Scored(server=server, schema=f"main.{schema}", spark=spark)


def line(slope: float) -> tuple[LinearRegression, dict[str, Any]]:
    """A model y = slope * (a + b), and how to log it."""
    rows = pd.DataFrame({"a": [0.0, 1.0, 2.0, 5.0], "b": [1.0, 0.0, 4.0, 2.0]})
    labels = slope * (rows.a + rows.b)
    return LinearRegression().fit(rows, labels), {"signature": infer_signature(rows, np.array(labels))}


cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the server has not this module


class Told(mlflow.pyfunc.PythonModel):
    """Several columns of answers, and a param; refuses negative numbers."""

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        if (model_input["x"] < 0).any():
            raise ValueError("a negative number")
        return pd.DataFrame({"twice": model_input["x"] * (params or {}).get("by", 2.0), "word": "w"})


TOLD_SIGNATURE = mlflow.models.ModelSignature(
    inputs=Schema([ColSpec(DataType.double, "x")]),
    outputs=Schema([ColSpec(DataType.double, "twice"), ColSpec(DataType.string, "word")]),
    params=ParamSchema([ParamSpec("by", DataType.double, 2.0)]),
)
