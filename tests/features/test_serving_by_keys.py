"""Models asked by keys alone, and features by keys: the stories of churn and of sessions, and who gets in."""

import io
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, NotFound, NotImplemented, PermissionDenied
from databricks.sdk.service.serving import (
    AutoCaptureConfigInput,
    DataframeSplitInput,
    EndpointCoreConfigInput,
    ServedEntityInput,
)
from mlflow.deployments import get_deploy_client
from pyspark.sql import SparkSession
from sklearn.linear_model import LinearRegression

from millpond.features import EndpointCoreConfig, FeatureEngineeringClient, FeatureFunction, FeatureLookup, ServedEntity
from tests.clients.mlflow_session import signed_in
from tests.servers import Server, wait_until

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(900)]  # the clients' warnings are not ours
PATIENCE = timedelta(minutes=5)
TELLING = Path(__file__).parents[1] / "serving" / "pyfuncs" / "telling.py"
NOW = pd.Timestamp.now("UTC").floor("s")
SPENDING = pd.DataFrame({
    "customer_id": [1, 1, 2, 3], "ts": [NOW - timedelta(days=days) for days in (40, 3, 2, 50)],
    "spent_30d": [1.0, 20.0, 30.0, 99.0], "orders": np.array([1, 2, 3, 4], dtype="int32"),
})  # fmt: skip
CUSTOMERS = pd.DataFrame({
    "customer_id": [1, 2, 3, 4], "region": ["north", "south", "south", "north"], "age": [30.0, None, 50.0, 20.0],
})  # fmt: skip
DISTANCE = """CREATE FUNCTION $s.gap(spent DOUBLE, cart DOUBLE) RETURNS DOUBLE LANGUAGE PYTHON AS $$
import math
return math.nan if spent is None or cart is None else abs(spent - cart)
$$"""


@dataclass
class Story:
    """A server with feature tables online, and people."""

    server: Server
    spark: SparkSession
    fe: FeatureEngineeringClient
    schema: str
    names: dict[str, str]
    tokens: dict[str, str]

    def sql(self, text: str) -> None:
        self.spark.sql(text.replace("$s", self.schema)).collect()

    def sdk(self, who: str = "admin") -> WorkspaceClient:
        return WorkspaceClient(host=self.server.url, token=self.tokens[who], auth_type="pat", config_file="/nowhere")

    def publish(self, table: str) -> str:
        name = f"{self.schema}.{table}_online"
        self.fe.publish_table(online_store=self.schema.partition(".")[0].replace("_", "-"), online_table_name=name,
                              source_table_name=f"{self.schema}.{table}")  # fmt: skip
        told = lambda: self.server.call("GET", f"/api/millpond/online-tables/{name}")[1]  # noqa: E731
        wait_until(lambda: told()["state"] == "ONLINE" and not told()["is_pending"], timeout_s=60, what="rows online")
        return name

    def serve(self, model: str, version: str | None = "1", *, who: str = "admin", name: str = "") -> str:
        """A ready endpoint."""
        entity = ServedEntityInput(entity_name=model, entity_version=version, name="it")
        name = name or f"e-{uuid.uuid4().hex[:10]}"
        config = EndpointCoreConfigInput(name=name, served_entities=[entity])
        self.sdk(who).serving_endpoints.create_and_wait(name, config=config, timeout=PATIENCE)
        return name

    def ask(self, endpoint: str, *rows: dict[str, Any], who: str = "admin") -> Any:
        return self.sdk(who).serving_endpoints.query(endpoint, dataframe_records=list(rows)).predictions

    def in_parts(self, endpoint: str, row: dict[str, Any]) -> list[Any]:
        client = get_deploy_client("databricks")
        return list(client.predict_stream(endpoint=endpoint, inputs={"dataframe_records": [row]}))

    def told(self, endpoint: str, body: Any, *, who: str = "admin") -> tuple[int, Any]:
        """Status and body of a request."""
        return self.server.call("POST", f"/serving-endpoints/{endpoint}/invocations", body, token=self.tokens[who])


@pytest.fixture(scope="module")
def story(any_server: Server) -> Iterator[Story]:
    run = uuid.uuid4().hex[:8]
    names = {role: f"{role}-{run}@shop.org" for role in ("maker", "caller", "stranger")}
    tokens = {"admin": any_server.token, **{role: any_server.new_user(name) for role, name in names.items()}}
    with pytest.MonkeyPatch.context() as patch, signed_in(any_server):
        for name, value in any_server.client_env().items():
            if name.startswith(("DATABRICKS_", "SPARK_")):
                patch.setenv(name, value)
        spark = SparkSession.builder.remote(any_server.spark_remote).create()
        fe = FeatureEngineeringClient()
        story = Story(any_server, spark, fe, f"keys_{run}.s", names, tokens)
        for text in (
            f"CREATE CATALOG keys_{run}",
            "CREATE SCHEMA $s",
            DISTANCE,
            f"GRANT USE CATALOG, USE SCHEMA, BROWSE, SELECT, EXECUTE ON CATALOG keys_{run} TO `{names['maker']}`",
        ):
            story.sql(text)
        fe.create_online_store(name=f"keys-{run}", capacity="CU_1")
        fe.create_table(name=f"{story.schema}.spending", primary_keys=["customer_id", "ts"], timeseries_columns="ts",
                        df=SPENDING)  # fmt: skip
        fe.create_table(name=f"{story.schema}.customers", primary_keys="customer_id", df=CUSTOMERS)
        mlflow.set_experiment(f"/Shared/keys-{run}")
        yield story
        spark.stop()


def lookups(schema: str) -> list[Any]:
    return [
        FeatureLookup(table_name=f"{schema}.spending", lookup_key="customer_id", timestamp_lookup_key="at",
                      feature_names=["spent_30d", "orders"], lookback_window=timedelta(days=30),
                      default_values={"spent_30d": 0.0, "orders": 0}),
        FeatureLookup(table_name=f"{schema}.customers", lookup_key="customer_id", feature_names=["age"],
                      rename_outputs={"age": "years"}),
        FeatureFunction(udf_name=f"{schema}.gap", input_bindings={"spent": "spent_30d"}, output_name="gap"),
    ]  # fmt: skip


def logged(story: Story, model: Any, flavor: Any, name: str) -> str:
    """A model of churn, registered; its full name."""
    labels = pd.DataFrame({"customer_id": [1, 2, 3, 4], "at": [NOW] * 4, "cart": [5.0, 6.0, 7.0, 8.0],
                           "churned": [0.0, 1.0, 1.0, 0.0]})  # fmt: skip
    made = story.fe.create_training_set(
        df=labels, feature_lookups=lookups(story.schema), label="churned", exclude_columns=["customer_id", "at"]
    )
    frame = made.load_df()
    if hasattr(model, "fit"):
        model.fit(frame.drop(columns="churned").fillna(0), frame["churned"])
    full = f"{story.schema}.{name}"
    story.fe.log_model(model=model, artifact_path="model", flavor=flavor, training_set=made,
                       registered_model_name=full, pip_requirements=["mlflow"])  # fmt: skip
    return full


@pytest.fixture(scope="module")
def churn(story: Story) -> str:
    """The endpoint of a model that tells what it is given, by tables that are online."""
    model = logged(story, str(TELLING), mlflow.pyfunc, "churn")
    entity = ServedEntityInput(entity_name=model, entity_version="1")
    with pytest.raises(BadRequest, match=r"'.*\.spending' is not published"):
        story.sdk().serving_endpoints.create("early", config=EndpointCoreConfigInput("early", served_entities=[entity]))
    for table in ("spending", "customers"):
        story.publish(table)
    return story.serve(model)


def test_keys_are_enough(story: Story, churn: str) -> None:
    """The churn story: the endpoint is given what score_batch gives, by the unmodified clients."""
    rows = [{"customer_id": number, "cart": 5.0} for number in (1, 2, 3, 4, 9)]
    found = story.ask(churn, *rows)
    asked = pd.DataFrame(rows).assign(at=pd.Timestamp.now("UTC"))
    expected = story.fe.score_batch(model_uri=f"models:/{story.schema}.churn/1", df=asked, result_type="string")
    assert found == expected["prediction"].to_list()
    assert (
        found[0]
        == "cart:float64 spent_30d:float64 orders:int32 years:float64 gap:float64 ['5.0', '20.0', '2', '30.0', '15.0']"
    )
    assert "['5.0', '0.0', '0', '50.0', '5.0']" in found[2], "older than the window"
    client = get_deploy_client("databricks")
    assert client.predict(endpoint=churn, inputs={"dataframe_records": rows}).predictions == found


def test_what_was_looked_up_is_in_the_inference_table(story: Story, churn: str) -> None:
    catalog, schema = story.schema.split(".")
    capture = AutoCaptureConfigInput(catalog_name=catalog, schema_name=schema, table_name_prefix="churn")
    story.sdk().serving_endpoints.update_config_and_wait(churn, auto_capture_config=capture, timeout=PATIENCE)
    story.ask(churn, {"customer_id": 1, "cart": 5.0})
    rows = lambda: story.spark.table(f"{story.schema}.churn_payload").collect()  # noqa: E731
    (row,) = wait_until(rows, timeout_s=20, what="the row")
    (given,) = json.loads(row.features)
    assert (given["spent_30d"], given["orders"], given["years"]) == (20.0, 2, 30.0)
    assert 0 < row.features_ms < row.total_ms
    story.in_parts(churn, {"customer_id": 1, "cart": 5.0})
    two = wait_until(lambda: len(found := rows()) == 2 and found, timeout_s=20, what="the row of an answer in parts")
    assert [json.loads(each.features) for each in two] == [[given]] * 2
    assert all(0 < each.features_ms < each.total_ms for each in two)


def test_answers_in_parts_are_of_what_was_looked_up(story: Story, churn: str) -> None:
    expected = [{"cart": 5.0}, {"spent_30d": 20.0}, {"orders": 2}, {"years": 30.0}, {"gap": 15.0}]
    assert story.in_parts(churn, {"customer_id": 1, "cart": 5.0}) == expected
    status, body = story.told(churn, {"dataframe_records": [{"cart": 5.0}], "stream": True})
    assert (status, body["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert "'customer_id' is missing" in body["message"]
    status, body = story.told(churn, {"dataframe_records": [{"customer_id": 1}], "stream": True})
    assert (status, "'cart' is missing" in body["message"]) == (400, True), body


def test_every_shape_brings_keys(story: Story, churn: str) -> None:
    rows = pd.DataFrame({"customer_id": [1, 9], "cart": [5.0, 5.0]})
    expected = story.ask(churn, *rows.to_dict(orient="records"))
    split = DataframeSplitInput(columns=list(rows.columns), data=rows.values.tolist())
    assert story.sdk().serving_endpoints.query(churn, dataframe_split=split).predictions == expected
    records = rows.to_dict(orient="records")
    for body in ({"instances": records}, {"inputs": records}, {"inputs": rows.to_dict(orient="list")}):
        assert story.told(churn, body) == (200, {"predictions": expected})
    assert story.told(churn, {"instances": records, "params": {"any": 1}}) == (200, {"predictions": expected})
    assert story.told(churn, {"instances": records, "params": 1})[0] == 400
    parquet = io.BytesIO()
    rows.to_parquet(parquet)
    for kind, data in (
        ("text/csv", rows.to_csv(index=False).encode()),
        ("application/vnd.apache.parquet", parquet.getvalue()),
    ):
        found = story.sdk().api_client.do("POST", f"/serving-endpoints/{churn}/invocations", data=data,
                                          headers={"Content-Type": kind})  # fmt: skip
        assert found == {"predictions": expected}, kind


def test_a_model_is_given_the_types_of_training(story: Story) -> None:
    """The same dtypes and values as in score_batch, for each type of column, for keys that are there and others."""
    story.sql("""CREATE TABLE $s.types (k STRING NOT NULL, b BIGINT, i INT, s SMALLINT, t TINYINT, f FLOAT, d DOUBLE,
        name STRING, vip BOOLEAN, day DATE, seen TIMESTAMP, parts ARRAY<DOUBLE>, words ARRAY<STRING>,
        CONSTRAINT types_pk PRIMARY KEY (k))""")
    story.sql("""INSERT INTO $s.types VALUES
        ('x', 1, 2, 3, 4, 0.1, 0.2D, 'X', true, DATE '2026-01-02', TIMESTAMP '2026-01-02 03:04:05.000006',
         array(1.5D, 2D), array('a', 'b')),
        ('y', 5, 6, 7, 8, 0.3, CAST('NaN' AS DOUBLE), 'Y', false, DATE '1900-01-02', TIMESTAMP '1900-01-02 03:04:05',
         array(3D), array('c')),
        ('z', 5, 6, 7, 8, 0.3, 0.7D, 'Z', false, DATE '1900-01-02', TIMESTAMP '1900-01-02 03:04:05',
         array(3D), array('c'))""")
    lookup = FeatureLookup(table_name=f"{story.schema}.types", lookup_key="k")
    labels = pd.DataFrame({"k": ["x", "y"], "label": [0.0, 1.0]})
    made = story.fe.create_training_set(df=labels, feature_lookups=[lookup], label="label", exclude_columns="k")
    model, nullable = f"{story.schema}.typed", f"{story.schema}.nullable"
    story.fe.log_model(model=str(TELLING), artifact_path="model", flavor=mlflow.pyfunc, training_set=made,
                       registered_model_name=model, pip_requirements=["mlflow"])  # fmt: skip
    story.fe.log_model(model=str(TELLING), artifact_path="model", flavor=mlflow.pyfunc, training_set=made,
                       registered_model_name=nullable, pip_requirements=["mlflow"], signature=None)  # fmt: skip
    story.publish("types")
    for name, keys in ((model, ["x", "y"]), (nullable, ["x", "y"]), (nullable, ["y", "none", None])):
        endpoint = story.serve(name)
        asked = pd.DataFrame({"k": keys})
        expected = story.fe.score_batch(model_uri=f"models:/{name}/1", df=asked, result_type="string")
        assert story.ask(endpoint, *({"k": key} for key in keys)) == expected["prediction"].to_list()
    status, body = story.told(story.serve(model), {"dataframe_records": [{"k": "none"}]})
    assert (status, "Can not safely convert" in body["message"]) == (400, True), body


def test_requests_override_and_say_what_they_lack(story: Story, churn: str) -> None:
    found = story.ask(
        churn, {"customer_id": 1, "cart": 5.0, "spent_30d": 7, "gap": None}, {"customer_id": 1, "cart": 5}
    )
    assert "['5.0', '7.0', '2', '30.0', 'nan']" in found[0]
    assert "['5.0', '20.0', '2', '30.0', '15.0']" in found[1]
    assert "['5.0', '0.0', '0', 'nan', '5.0']" in story.ask(churn, {"customer_id": None, "cart": 5.0})[0]
    for row, why in (
        ({"cart": 5.0}, "'customer_id' is missing"),
        ({"customer_id": 1}, "'cart' is missing, which function"),
        ({"customer_id": 1, "gap": 1.0}, "lacks the columns ['cart']"),
        ({"customer_id": "one", "cart": 5.0}, "'customer_id' is 'one', which is no BIGINT"),
        ({"customer_id": 1, "cart": "much"}, "'cart' is 'much', which is no DOUBLE"),
    ):
        status, body = story.told(churn, {"dataframe_records": [row]})
        assert (status, body["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), body
        assert f"Model '{story.schema}.churn' version 1" in body["message"]
        assert why in body["message"]
    for odd in ({"instances": [[1]]}, {"inputs": 1}, {}, {"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}, []):
        assert story.told(churn, odd)[0] == 400
    document: Any = story.sdk().api_client.do("GET", f"/api/2.0/serving-endpoints/{churn}/openapi")
    schema = document["paths"][f"/serving-endpoints/{churn}/invocations"]["post"]["requestBody"]["content"]
    asked = schema["application/json"]["schema"]["oneOf"][0]["properties"]["dataframe_records"]["items"]
    assert sorted(asked["required"]) == ["cart", "customer_id"]


def test_the_makers_rights_count_at_each_request(story: Story, churn: str) -> None:
    """Somebody who may not read a table gets its features through no endpoint of theirs, and others' answer as long as
    their makers may."""
    catalog = story.schema.partition(".")[0]
    maker, caller = story.names["maker"], story.names["caller"]
    endpoint = story.serve(f"{story.schema}.churn", who="maker")
    path = f"/api/2.0/permissions/serving-endpoints/{story.sdk().serving_endpoints.get(endpoint).id}"
    rule = {"access_control_list": [{"user_name": caller, "permission_level": "CAN_QUERY"}]}
    assert story.server.call("PATCH", path, rule)[0] == 200
    row = {"customer_id": 1, "cart": 5.0}
    assert story.ask(endpoint, row, who="caller") == story.ask(churn, row)
    assert story.told(endpoint, {"dataframe_records": [row]}, who="stranger")[0] == 404
    rule["access_control_list"].append({"user_name": story.names["stranger"], "permission_level": "CAN_MANAGE"})
    assert story.server.call("PATCH", path, rule)[0] == 200
    lookup = FeatureLookup(table_name=f"{story.schema}.customers", lookup_key="customer_id")
    story.fe.create_feature_spec(name=f"{story.schema}.all", features=[lookup])
    story.sql(f"GRANT USE CATALOG, USE SCHEMA, EXECUTE ON CATALOG {catalog} TO `{story.names['stranger']}`")
    theirs = ServedEntityInput(entity_name=f"{story.schema}.all", name="it")
    with pytest.raises(NotFound, match=r"customers' does not exist"):
        story.sdk("stranger").serving_endpoints.update_config(endpoint, served_entities=[theirs])
    story.sql(f"REVOKE SELECT ON CATALOG {catalog} FROM `{maker}`")
    status, body = story.told(endpoint, {"dataframe_records": [row]}, who="caller")
    assert (status, body["error_code"]) == (400, "INVALID_STATE")
    assert f"with the rights of {maker}" in body["message"]
    with pytest.raises(PermissionDenied, match="needs features"):
        story.serve(f"{story.schema}.churn", who="maker")
    story.sql(f"GRANT SELECT ON CATALOG {catalog} TO `{maker}`")
    assert story.told(endpoint, {"dataframe_records": [row]}, who="caller")[0] == 200
    story.sql(f"REVOKE EXECUTE ON CATALOG {catalog} FROM `{maker}`")
    assert story.told(endpoint, {"dataframe_records": [row]}, who="caller")[0] == 400
    story.sql(f"GRANT EXECUTE ON CATALOG {catalog} TO `{maker}`")
    story.sql("CREATE FUNCTION $s.hide(v DOUBLE) RETURNS DOUBLE RETURN 0.0")
    story.sql("ALTER TABLE $s.customers ALTER COLUMN age SET MASK $s.hide")
    status, body = story.told(endpoint, {"dataframe_records": [row]}, who="caller")
    assert (status, "customers' has a row filter or column masks" in body["message"]) == (400, True), body
    story.sql("ALTER TABLE $s.customers ALTER COLUMN age DROP MASK")
    assert story.told(endpoint, {"dataframe_records": [row]}, who="caller")[0] == 200


def test_an_online_table_that_goes_and_comes_back(story: Story, churn: str) -> None:
    body = {"dataframe_records": [{"customer_id": 1, "cart": 5.0}]}
    story.fe.delete_online_table(name=f"{story.schema}.customers_online")
    status, told = story.told(churn, body)
    assert (status, f"'{story.schema}.customers' is not published" in told["message"]) == (400, True), told
    story.publish("customers")
    assert story.told(churn, body)[0] == 200


def test_functions_run_as_they_are_now_and_tell_what_they_raise(story: Story, churn: str) -> None:
    row = {"customer_id": 1, "cart": 5.0}
    before = story.ask(churn, row)
    story.sql(DISTANCE.replace("CREATE", "CREATE OR REPLACE").replace("import math", "raise ValueError('no gap')"))

    def refused() -> Any:
        status, body = story.told(churn, {"dataframe_records": [row]})
        return body if status == 400 else None

    told = wait_until(refused, what="the function of now")
    assert told["message"] == f"Function '{story.schema}.gap' raised ValueError: no gap"
    assert story.told(churn, {"dataframe_records": [row], "stream": True}) == (400, told)
    story.sql(DISTANCE.replace("CREATE", "CREATE OR REPLACE"))
    wait_until(
        lambda: story.told(churn, {"dataframe_records": [row]}) == (200, {"predictions": before}), what="it again"
    )
    story.sql("CREATE FUNCTION $s.two(x DOUBLE) RETURNS DOUBLE RETURN 2 * x")
    spec = f"{story.schema}.sql_spec"
    twice = FeatureFunction(udf_name=f"{story.schema}.two", input_bindings={"x": "cart"}, output_name="t")
    story.fe.create_feature_spec(name=spec, features=[twice])
    with pytest.raises(NotImplemented, match="not of Python"):
        story.serve(spec, None)


def test_lineage_and_audit_know_which_features_an_endpoint_reads(story: Story, churn: str) -> None:
    story.told(churn, {"dataframe_records": [{"customer_id": 1, "cart": 5.0}]})
    api = story.sdk().api_client

    def affected(column: str) -> list[str]:
        query = {"table_name": f"{story.schema}.spending", "column_name": column}
        found: Any = api.do("GET", "/api/millpond/lineage/impact", query=query)
        return [each["name"] for each in found["affected"]]

    assert churn in affected("spent_30d")
    assert churn in affected("ts")

    def events(query: str) -> Any:
        return story.server.call("GET", f"/api/millpond/audit?max_results=1000&{query}")[1]["events"]

    def noted() -> Any:
        used = events(f"object_name={story.schema}.spending")
        return [each for each in used if each["request_params"].get("endpoint") == churn]

    event, *_ = wait_until(noted, what="the use in the audit")
    assert event["action_name"] == "useFeaturesTable"
    assert set(event["request_params"]["columns"].split(",")) == {"customer_id", "ts", "spent_30d", "orders"}


def test_a_session_is_recommended_by_history_and_what_just_happened(story: Story) -> None:
    """Features of the session come with the request, those of 30 days from online, and one is computed from both."""
    history = pd.DataFrame({
        "user_id": ["ann", "bob"], "ts": [NOW, NOW], "views_30d": [40, 4], "favourite": ["shoes", "hats"],
    })  # fmt: skip
    fe, s = story.fe, story.schema
    fe.create_table(name=f"{s}.history", primary_keys=["user_id", "ts"], timeseries_columns="ts", df=history)
    story.sql("CREATE FUNCTION $s.heat(clicks BIGINT, views BIGINT) RETURNS DOUBLE LANGUAGE PYTHON AS "
              "$$ return clicks / max(views or 1, 1) $$")  # fmt: skip
    features = [
        FeatureLookup(table_name=f"{s}.history", lookup_key="user_id", timestamp_lookup_key="at",
                      feature_names=["views_30d", "favourite"]),
        FeatureFunction(udf_name=f"{s}.heat", input_bindings={"clicks": "session_clicks", "views": "views_30d"},
                        output_name="heat"),
    ]  # fmt: skip
    fe.create_feature_spec(name=f"{s}.session", features=features, exclude_columns=["views_30d"])
    sessions = pd.DataFrame({"user_id": ["ann", "bob", "ann"], "at": [NOW] * 3, "session_clicks": [4, 2, 8],
                             "bought": [0.1, 0.5, 0.2]})  # fmt: skip
    made = fe.create_training_set(df=sessions, feature_lookups=features, label="bought",
                                  exclude_columns=["user_id", "at", "favourite"])  # fmt: skip
    frame = made.load_df()
    model = LinearRegression().fit(frame.drop(columns="bought"), frame["bought"])
    fe.log_model(model=model, name="model", flavor=mlflow.sklearn, training_set=made,
                 registered_model_name=f"{s}.recommender", pip_requirements=["mlflow"])  # fmt: skip
    story.publish("history")
    endpoint = story.serve(f"{s}.recommender")
    assert "columns of the signature's types" in story.sdk().serving_endpoints.build_logs(endpoint, "it").logs
    found = story.ask(endpoint, {"user_id": "ann", "session_clicks": 6}, {"user_id": "bob", "session_clicks": 1})
    asked = pd.DataFrame({"user_id": ["ann", "bob"], "at": [NOW] * 2, "session_clicks": [6, 1]})
    assert found == pytest.approx(
        fe.score_batch(model_uri=f"models:/{s}.recommender/1", df=asked)["prediction"].to_list()
    )

    name = f"session-{uuid.uuid4().hex[:8]}"
    config = EndpointCoreConfig(served_entities=ServedEntity(feature_spec_name=f"{s}.session", workload_size="SMALL"))
    fe.create_feature_serving_endpoint(name=name, config=config)
    sdk = story.sdk().serving_endpoints
    sdk.wait_get_serving_endpoint_not_updating(name)
    assert fe.get_feature_serving_endpoint(name=name).state == "READY"
    (entity,) = sdk.get(name).config.served_entities
    assert (entity.entity_name, entity.entity_version) == (f"{s}.session", None)
    outputs = sdk.query(
        name, dataframe_records=[{"user_id": "ann", "session_clicks": 6}, {"user_id": "zoe", "session_clicks": 1}]
    ).outputs
    assert outputs == [
        {"user_id": "ann", "session_clicks": 6, "favourite": "shoes", "heat": 0.15},
        {"user_id": "zoe", "session_clicks": 1, "favourite": None, "heat": 1.0},
    ]
    fe.delete_feature_serving_endpoint(name=name)
    assert fe.get_feature_serving_endpoint(name=name) is None


def test_features_alone_need_no_process(story: Story) -> None:
    """And are given to who may use the spec's tables, until the spec's endpoint goes; the spec may change meanwhile."""
    fe, s = story.fe, story.schema
    moment = datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=UTC)
    rows = pd.DataFrame({"shop": ["a", "a"], "day": [1, 2], "at": [moment] * 2, "share": [0.5, float("nan")]})
    fe.create_table(name=f"{s}.shops", primary_keys=["shop", "day"], df=rows)
    story.publish("shops")
    fe.create_feature_spec(
        name=f"{s}.shop", features=[FeatureLookup(table_name=f"{s}.shops", lookup_key=["day", "shop"])]
    )
    endpoint = story.serve(f"{s}.shop", None, who="maker")
    rows_asked = [{"shop": "a", "day": 1}, {"shop": "a", "day": 2}, {"shop": "b", "day": 1}]
    assert story.sdk("maker").serving_endpoints.query(endpoint, dataframe_records=rows_asked).outputs == [
        {"shop": "a", "day": 1, "at": "2026-01-02T03:04:05.000600+00:00", "share": 0.5},
        {"shop": "a", "day": 2, "at": "2026-01-02T03:04:05.000600+00:00", "share": None},
        {"shop": "b", "day": 1, "at": None, "share": None},
    ]
    assert story.sdk("maker").serving_endpoints.logs(endpoint, "it").logs == ""
    status, body = story.told(endpoint, {"dataframe_records": rows_asked, "stream": True})
    assert (status, "ask it without stream" in body["message"]) == (400, True), body
    fe.delete_feature_spec(name=f"{s}.shop")
    assert story.told(endpoint, {"dataframe_records": [{"shop": "a", "day": 1}]})[0] == 200
    status, body = story.told(endpoint, {"dataframe_records": [{"shop": "a"}]})
    assert (status, f"Feature spec '{s}.shop': The column 'day' is missing" in body["message"]) == (400, True), body
    for odd in (10**30, "\ud800", [[]] * 3):
        status, body = story.told(endpoint, {"dataframe_records": [{"shop": "a", "day": 1, "odd": odd}]})
        assert status == (200 if odd == [[]] * 3 else 400), body
    with pytest.raises(NotFound, match=r"shop' does not exist"):
        story.serve(f"{s}.shop", None)
    with pytest.raises(BadRequest, match="no feature spec"):
        story.serve(f"{s}.gap", None)
