"""Models that know their features: logged with the spec, scored by keys, followed by lineage."""

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

import mlflow
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from databricks.sdk import WorkspaceClient
from mlflow.tracking import MlflowClient
from pyspark.sql import SparkSession
from sklearn.linear_model import LinearRegression

from millpond.features import (
    AggregationFunction,
    DeltaTableSource,
    Feature,
    FeatureEngineeringClient,
    FeatureFunction,
    FeatureLookup,
    RollingWindow,
    windows,
)
from millpond.features.models import spec_of
from tests.clients.mlflow_session import signed_in
from tests.servers import Server, wait_until

DAY = pd.Timestamp("2024-01-01")
LABELS = pd.DataFrame({"id": [1, 2, 1], "at": [DAY, DAY, DAY + dt.timedelta(days=2)], "amount": [1.0, 2.0, 3.0],
                       "y": [11.0, 22.0, 33.0]})  # fmt: skip


@pytest.fixture
def shop(fe: FeatureEngineeringClient, spark: SparkSession, schema: str, server: Server) -> Iterator[str]:
    """A feature table over time, a function, and MLflow pointed at the server."""
    spent = pd.DataFrame({"id": [1, 2, 1], "ts": [DAY, DAY, DAY + dt.timedelta(days=1)], "spent": [10.0, 20.0, 30.0],
                          "unused": ["a", "b", "c"]})  # fmt: skip
    fe.create_table(name=f"{schema}.spent", primary_keys=["id", "ts"], timeseries_columns="ts", df=spent)
    spark.sql(f"CREATE FUNCTION {schema}.twice(x DOUBLE) RETURNS DOUBLE RETURN 2 * x").collect()
    with signed_in(server):
        mlflow.set_experiment(f"/Shared/{schema}")
        yield schema


def lookups(shop: str) -> list[Any]:
    return [
        FeatureLookup(table_name=f"{shop}.spent", lookup_key="id", timestamp_lookup_key="at", feature_names="spent",
                      default_values={"spent": 0.0}),
        FeatureFunction(udf_name=f"{shop}.twice", input_bindings={"x": "spent"}, output_name="twice"),
    ]  # fmt: skip


class Sum(mlflow.pyfunc.PythonModel):
    """Adds up what it is given, so that a test sees what that was."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> list[float]:
        return model_input.sum(axis=1).to_list()


def logged(fe: FeatureEngineeringClient, shop: str, model: Any, flavor: Any, **more: Any) -> Any:
    made = fe.create_training_set(df=LABELS, feature_lookups=lookups(shop), label="y", exclude_columns=["id", "at"])
    frame = made.load_df()
    if hasattr(model, "fit"):
        model.fit(frame.drop(columns="y"), frame["y"])
    return fe.log_model(
        model=model,
        artifact_path="model",
        flavor=flavor,
        training_set=made,
        infer_input_example=True,
        pip_requirements=["mlflow"],
        **more,
    )


def test_a_model_is_scored_by_its_keys(fe: FeatureEngineeringClient, spark: SparkSession, shop: str) -> None:
    name = f"{shop}.adder"
    info = logged(fe, shop, Sum(), mlflow.pyfunc, registered_model_name=name)
    uri = f"models:/{name}/{info.registered_model_version}"
    asked = pd.DataFrame({"id": [1, 9], "at": [DAY + dt.timedelta(hours=30)] * 2, "amount": [1.0, 2.0]}, index=[7, 8])
    found = fe.score_batch(model_uri=uri, df=asked)
    assert list(found.columns) == ["id", "at", "amount", "spent", "twice", "prediction"]
    assert found["prediction"].to_list() == [91.0, 2.0]
    assert list(found.index) == [7, 8]
    by_hand = fe.score_batch(
        model_uri=uri, df=pl.from_pandas(asked).with_columns(spent=pl.lit(5.0)), result_type="long"
    )
    assert by_hand["prediction"].to_list() == [16, 17]
    in_spark = fe.score_batch(
        model_uri=uri, df=spark.createDataFrame(pa.Table.from_pandas(asked, preserve_index=False))
    )
    assert [row["prediction"] for row in in_spark.collect()] == [91.0, 2.0]
    with pytest.raises(ValueError, match=r"df lacks the columns \['amount'\]"):
        fe.score_batch(model_uri=uri, df=asked.drop(columns="amount"))
    with pytest.raises(ValueError, match="result_type 'complex' is not known"):
        fe.score_batch(model_uri=uri, df=asked, result_type="complex")


def test_a_model_of_any_flavor_stays_one(fe: FeatureEngineeringClient, shop: str) -> None:
    info = logged(fe, shop, LinearRegression(), mlflow.sklearn)
    assert mlflow.sklearn.load_model(info.model_uri).coef_.shape == (3,)
    assert info.signature.inputs.input_names() == ["amount", "spent", "twice"]
    assert info.signature.outputs.input_names() == ["y"]
    spec = spec_of(info.model_uri)
    assert (spec.features, spec.labels, spec.excluded) == (("amount", "spent", "twice"), ("y",), ("id", "at"))
    assert spec.versions == {f"{shop}.spent": 1}
    found = fe.score_batch(model_uri=info.model_uri, df=LABELS.drop(columns="y"))
    assert found["prediction"].round(6).to_list() == LABELS["y"].to_list()


def test_a_run_has_the_certificate_and_the_tables(fe: FeatureEngineeringClient, shop: str) -> None:
    with mlflow.start_run() as run:
        logged(fe, shop, Sum(), mlflow.pyfunc)
    told = json.loads(mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/feature_certificate.json"))
    assert (told["rows_in"], told["rows_out"], told["holds"]) == (3, 3, True)
    kept = MlflowClient().get_run(run.info.run_id)
    assert kept.data.tags["millpond.features.digest"] == told["digest"]
    source = json.loads(kept.inputs.dataset_inputs[0].dataset.source)
    assert (source["delta_table_name"], source["delta_table_version"]) == (f"{shop}.spent", 1)


def test_lineage_knows_which_features_a_model_is_made_of(fe: FeatureEngineeringClient, shop: str) -> None:
    info = logged(fe, shop, Sum(), mlflow.pyfunc, registered_model_name=f"{shop}.adder")
    api = WorkspaceClient().api_client
    model = f"{shop}.adder/{info.registered_model_version}"

    def affected(column: str) -> list[str]:
        """The names of what breaks without a column of the table."""
        query = {"table_name": f"{shop}.spent", "column_name": column}
        found: Any = api.do("GET", "/api/millpond/lineage/impact", query=query)
        return [each["name"] for each in found["affected"]]

    assert model in affected("spent")
    assert model in affected("ts")
    assert affected("unused") == []
    query = {"name": f"{shop}.adder", "version": info.registered_model_version}
    found: Any = api.do("GET", "/api/millpond/model-features", query=query)
    assert found["feature_tables"] == [{"table_name": f"{shop}.spent", "features": ["spent"]}]
    told: Any = api.do("GET", f"/api/millpond/features/{shop}.spent")
    assert {each["name"]: each["is_unused"] for each in told["features"]} == {"spent": False, "unused": True}


def test_the_audit_says_which_features_a_run_uses(fe: FeatureEngineeringClient, server: Server, shop: str) -> None:
    with mlflow.start_run() as run:
        logged(fe, shop, Sum(), mlflow.pyfunc)

    def told() -> list[Any]:
        _, answer = server.call("GET", f"/api/millpond/audit?max_results=1000&object_name={shop}.spent")
        return [each for each in answer["events"] if each["request_params"].get("run") == run.info.run_id]

    (event,) = wait_until(told, what="an event of the use of features")
    assert event["action_name"] == "useFeaturesTable"
    assert event["request_params"]["columns"] == "id,ts,spent"


def test_models_without_a_spec_say_so(fe: FeatureEngineeringClient, shop: str) -> None:
    info = mlflow.pyfunc.log_model(name="plain", python_model=Sum(), pip_requirements=[])
    with pytest.raises(ValueError, match=r"has no feature_spec\.yaml"):
        fe.score_batch(model_uri=info.model_uri, df=LABELS)
    with pytest.raises(ValueError, match="training_set is missing"):
        fe.log_model(model=Sum(), artifact_path="model", flavor=mlflow.pyfunc)


@pytest.mark.long
def test_a_model_finds_its_declared_features_again(fe: FeatureEngineeringClient, shop: str) -> None:
    """By their definition in its spec, be they in the catalog or not; its run has their source as input."""
    catalog, schema = shop.split(".")
    source = DeltaTableSource(
        catalog_name=catalog, schema_name=schema, table_name="spent", entity_columns="id", timeseries_column="ts"
    )
    window = RollingWindow(window_duration=dt.timedelta(days=9))
    spent = Feature(source=source, function=AggregationFunction(windows.Sum("spent"), window), name="spent_9d")
    labels = LABELS.rename(columns={"at": "ts"}).assign(ts=LABELS["at"] + dt.timedelta(days=2))
    made = fe.create_training_set(df=labels, features=[spent], label="y", exclude_columns=["id", "ts"])
    with mlflow.start_run() as run:
        logged = fe.log_model(model=Sum(), name="m", flavor=mlflow.pyfunc, training_set=made, infer_input_example=True)
    assert spec_of(logged.model_uri).wanted == (spent,)
    assert [each.dataset.name for each in MlflowClient().get_run(run.info.run_id).inputs.dataset_inputs] == [
        f"{shop}.spent"
    ]
    scored = fe.score_batch(model_uri=logged.model_uri, df=labels.drop(columns="y"))
    assert list(scored["spent_9d"]) == [40.0, 20.0, 40.0]
    assert list(scored["prediction"]) == [41.0, 22.0, 43.0]
    given = fe.score_batch(model_uri=logged.model_uri, df=labels.drop(columns="y").assign(spent_9d=0.0))
    assert list(given["prediction"]) == [1.0, 2.0, 3.0]
