"""Promotion is refused while serving gives a model other features than training did, and says which; then it is not."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import cloudpickle
import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from pyspark.sql import SparkSession

from millpond.features import FeatureEngineeringClient, FeatureFunction, FeatureLookup
from millpond.online.backends.lmdb import LmdbBackend
from tests.clients.gated import put_policy
from tests.clients.mlflow_session import signed_in
from tests.servers import MILLPOND, Server, wait_until

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]  # the clients' warnings are not ours
CHECKS = "/api/millpond/parity-checks"
NOW = pd.Timestamp.now("UTC").floor("s")
SPENDING = pd.DataFrame({
    "customer_id": [1, 1, 2, 3], "ts": [NOW - timedelta(days=days) for days in (40, 3, 2, 50)],
    "spent_30d": [1.0, 20.0, 30.0, 99.0],
})  # fmt: skip
CUSTOMERS = pd.DataFrame(
    {"customer_id": [1, 2, 3, 4], "region": ["n", "s", None, "n"], "age": [30.0, None, 50.0, 20.0]}
)
TWICE = """CREATE FUNCTION $s.twice(x DOUBLE) RETURNS DOUBLE LANGUAGE PYTHON AS $$
import math
return math.nan if x is None else 2 * x
$$"""


cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the server has not this module


class Sum(mlflow.pyfunc.PythonModel):
    """Adds up what it is given."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> list[float]:
        return model_input.select_dtypes("number").sum(axis=1).to_list()


@dataclass
class Story:
    """A model whose features are online, and people."""

    server: Server
    spark: SparkSession
    fe: FeatureEngineeringClient
    mlflow: MlflowClient
    schema: str
    tokens: dict[str, str]
    names: dict[str, str]

    @property
    def model(self) -> str:
        return f"{self.schema}.churn"

    @property
    def uri(self) -> str:
        return f"models:/{self.model}/1"

    def sql(self, text: str) -> None:
        self.spark.sql(text.replace("$s", self.schema).replace("$reader", self.names["reader"])).collect()

    def publish(self, table: str, mode: str = "TRIGGERED") -> dict[str, Any]:
        """Have a table online, up to its newest version; what is told of it."""
        name = f"{self.schema}.{table}_online"
        self.fe.publish_table(online_store=self.schema.partition(".")[0].replace("_", "-"), publish_mode=mode,
                              online_table_name=name, source_table_name=f"{self.schema}.{table}")  # fmt: skip

        def told() -> Any:
            found = self.server.call("GET", f"/api/millpond/online-tables/{name}")[1]
            return found if found["state"] == "ONLINE" and not found["is_pending"] else None

        return wait_until(told, timeout_s=60, what="rows online")

    def tamper(self, table: str, key: dict[str, Any], column: str, value: Any) -> None:
        """Break the online path: another value in the store than was published."""
        table_id = self.publish(table)["id"]
        backend = LmdbBackend(self.server.data_dir / "online")
        state = backend.published(table_id)
        assert state is not None
        encoded = state.shape.key(key)
        row = backend.read(table_id, [encoded])[1][0]
        assert row is not None
        names = [field.name for field in state.shape.fields]
        at, values = state.shape.time_of(row), list(raw(row))
        values[names.index(column)] = value
        backend.write(table_id, state.generation, [(encoded, state.shape.row(values, at))])
        backend.close()

    def check(self, check_id: str, who: str) -> tuple[int, Any]:
        return self.server.call("GET", f"{CHECKS}/{check_id}", token=self.tokens[who])

    def promote(self) -> None:
        """By the unmodified client, as anybody would."""
        self.mlflow.set_registered_model_alias(self.model, "prod", "1")

    def refusal(self) -> str:
        with pytest.raises(MlflowException) as refused:
            self.promote()
        return str(refused.value)


def raw(row: bytes) -> list[Any]:
    """The values of a row as a store keeps them."""
    import msgspec

    found: list[Any] = msgspec.msgpack.decode(row)[1]
    return found


@pytest.fixture(scope="module")
def story(any_server: Server) -> Iterator[Story]:
    run = uuid.uuid4().hex[:8]
    names = {role: f"{role}-{run}@shop.org" for role in ("reader", "stranger")}
    tokens = {"admin": any_server.token, **{role: any_server.new_user(name) for role, name in names.items()}}
    with pytest.MonkeyPatch.context() as patch, signed_in(any_server) as client:
        for name, value in any_server.client_env().items():
            if name.startswith(("DATABRICKS_", "SPARK_")):
                patch.setenv(name, value)
        spark = SparkSession.builder.remote(any_server.spark_remote).create()
        story = Story(any_server, spark, FeatureEngineeringClient(), client, f"par_{run}.s", tokens, names)
        for text in (f"CREATE CATALOG par_{run}", "CREATE SCHEMA $s", TWICE):
            story.sql(text)
        story.fe.create_online_store(name=f"par-{run}", capacity="CU_1")
        story.fe.create_table(name=f"{story.schema}.spending", primary_keys=["customer_id", "ts"],
                              timeseries_columns="ts", df=SPENDING)  # fmt: skip
        story.fe.create_table(name=f"{story.schema}.customers", primary_keys="customer_id", df=CUSTOMERS)
        mlflow.set_experiment(f"/Shared/parity-{run}")
        for table in ("spending", "customers"):
            story.publish(table)
        log(story)
        yield story
        spark.stop()


def lookups(schema: str) -> list[Any]:
    return [
        FeatureLookup(table_name=f"{schema}.spending", lookup_key="customer_id", timestamp_lookup_key="at",
                      feature_names=["spent_30d"], lookback_window=timedelta(days=30),
                      default_values={"spent_30d": 0.0}),
        FeatureLookup(table_name=f"{schema}.customers", lookup_key="customer_id", rename_outputs={"age": "years"}),
        FeatureFunction(udf_name=f"{schema}.twice", input_bindings={"x": "years"}, output_name="doubled"),
    ]  # fmt: skip


def log(story: Story) -> None:
    labels = pd.DataFrame({"customer_id": [1, 2, 3, 4], "at": [NOW] * 4, "churned": [0.0, 1.0, 1.0, 0.0]})
    made = story.fe.create_training_set(
        df=labels, feature_lookups=lookups(story.schema), label="churned", exclude_columns=["customer_id", "at"]
    )
    story.fe.log_model(model=Sum(), artifact_path="model", flavor=mlflow.pyfunc, training_set=made,
                       registered_model_name=story.model, pip_requirements=["mlflow"])  # fmt: skip


def test_a_broken_online_path_keeps_a_version_until_it_is_mended(story: Story) -> None:
    put_policy(story.server, "model", story.model, "targets: [alias:prod]\nchecks: [{feature_parity: {sample: 50}}]")
    story.tamper("spending", {"customer_id": 2}, "spent_30d", 31.0)
    said = story.refusal()
    assert "feature_parity: spent_30d differs in 1 of" in said
    assert f"{story.schema}.spending@" in said
    assert f"{story.schema}.spending_online in" in said
    assert "31" not in said.partition("feature_parity")[2].replace("spent_30d", ""), "values are not for everybody"
    story.publish("spending", "SNAPSHOT")
    story.promote()
    assert story.mlflow.get_model_version_by_alias(story.model, "prod").version == "1"
    evidence = story.server.call("GET", f"/api/millpond/registry/gates?name={story.model}&version=1")[1]["runs"]
    report_id = next(each for run in evidence if run["state"] == "failed" for each in run["findings"])["details"][
        "report"
    ]
    (bad,) = [each for each in story.check(report_id, "admin")[1]["check"]["report"]["features"] if each["mismatches"]]
    assert (bad["name"], bad["mismatches"][0]["offline"], bad["mismatches"][0]["online"]) == ("spent_30d", 30.0, 31.0)
    assert bad["mismatches"][0]["key"]["customer_id"] == 2
    assert bad["offline"].startswith(f"{story.schema}.spending@")


def test_what_is_only_not_online_yet_is_lag(story: Story) -> None:
    story.publish("customers")
    story.sql("UPDATE $s.customers SET age = 99 WHERE customer_id = 1")
    found = story.fe.check_parity(model_uri=story.uri)
    assert (found.passed, found.message) == (True, found.message)
    behind = {each["table"].rpartition(".")[2]: each["versions_behind"] for each in found.sources}
    assert set(behind) == {"spending", "customers"}
    assert behind["customers"] >= 1, "a pin may add commits to either"
    counts = {each["name"]: (each["compared"], each["equal"]) for each in found.features}
    assert set(counts) == {"spent_30d", "region", "years", "doubled"}
    assert len(set(counts.values())) == 1


def test_what_serving_gives_and_training_would_not_is_a_mismatch(story: Story) -> None:
    """A row that is dated later than now, and one whose time to live is over online alone."""
    for text in (
        "CREATE TABLE $s.events (id BIGINT NOT NULL, ts TIMESTAMP NOT NULL, v DOUBLE, "
        "CONSTRAINT events_pk PRIMARY KEY (id, ts TIMESERIES)) TBLPROPERTIES ('features.online_ttl_s' = '86400')",
        "INSERT INTO $s.events VALUES (1, current_timestamp(), 1), (2, current_timestamp() - INTERVAL 1 HOUR, 2), "
        "(2, current_timestamp() + INTERVAL 1 DAY, 3), (3, current_timestamp() - INTERVAL 2 DAYS, 4)",
    ):
        story.sql(text)
    story.publish("events")
    spec, lookup = f"{story.schema}.of_events", FeatureLookup(f"{story.schema}.events", "id", timestamp_lookup_key="at")
    story.fe.create_feature_spec(name=spec, features=[lookup])
    found = story.fe.check_parity(feature_spec=spec)
    assert not found.passed
    told = {each["key"]["id"]: (each["offline"], each["online"]) for each in found.features[0]["mismatches"]}
    assert told == {2: (2.0, 3.0), 3: (4.0, None)}
    assert (found.features[0]["missing_online"], found.features[0]["missing_offline"]) == (1, 0)


def test_logged_requests_are_replayed_at_their_times(story: Story) -> None:
    """What was asked before a newer value came cannot be asked again: it is told, and is no mismatch."""
    story.sql("CREATE TABLE $s.keyless (at TIMESTAMP)")
    story.sql("CREATE TABLE $s.requests (customer_id BIGINT, at TIMESTAMP, spent_30d DOUBLE)")
    story.sql(
        "INSERT INTO $s.requests VALUES (1, current_timestamp() - INTERVAL 10 DAYS, 7.0), (1, current_timestamp(), 7), "
        "(2, current_timestamp(), NULL), (9, current_timestamp(), NULL), (NULL, current_timestamp(), NULL)"
    )
    story.publish("customers")
    found = story.fe.check_parity(model_uri=story.uri, keys=f"{story.schema}.requests")
    assert found.passed, found.message
    spent, years = (next(each for each in found.features if each["name"] == name) for name in ("spent_30d", "years"))
    assert (spent["compared"], spent["superseded"]) == (4, 1)
    assert (years["compared"], years["superseded"]) == (5, 0)
    story.sql("CREATE TABLE $s.nobody (customer_id BIGINT)")
    with pytest.raises(RuntimeError, match=r"There are no rows to replay: .*nobody"):
        story.fe.check_parity(model_uri=story.uri, keys=f"{story.schema}.nobody")
    with pytest.raises(RuntimeError, match=r"lacks the columns \['customer_id'\]"):
        story.fe.check_parity(model_uri=story.uri, keys=f"{story.schema}.keyless")


def test_values_of_each_type_are_the_same(story: Story) -> None:
    """Composite keys, numbers of all widths, decimals, times with a zone and without, bytes, and what is nested."""
    story.sql(
        "CREATE TABLE $s.kinds (shop STRING NOT NULL, day DATE NOT NULL, tiny TINYINT, small SMALLINT, plain INT, "
        "single FLOAT, price DECIMAL(12, 3), yes BOOLEAN, at TIMESTAMP, local TIMESTAMP_NTZ, raw BINARY, "
        "parts ARRAY<DOUBLE>, place STRUCT<city: STRING, number: INT>, CONSTRAINT kinds_pk PRIMARY KEY (shop, day))"
    )
    story.sql(
        "INSERT INTO $s.kinds VALUES "
        "('a''b', DATE'2026-01-01', 1, 2, 3, 0.1, 1.250, true, TIMESTAMP'2026-01-01 10:00:00.123456', "
        "TIMESTAMP_NTZ'2026-01-01 10:00:00', X'00ff', array(1.5, NULL), named_struct('city', 'Ulm', 'number', 1)), "
        "('\\\\', DATE'1969-12-31', NULL, NULL, NULL, double('NaN'), NULL, NULL, NULL, NULL, NULL, NULL, NULL), "
        "('', DATE'2026-01-02', -1, -2, -3, double('Infinity'), -0.001, false, TIMESTAMP'1900-01-01 00:00:00', "
        "TIMESTAMP_NTZ'1900-01-01 00:00:00', X'', array(), named_struct('city', NULL, 'number', NULL))"
    )
    story.publish("kinds")
    spec = f"{story.schema}.of_kinds"
    wanted = [FeatureLookup(table_name=f"{story.schema}.kinds", lookup_key=["shop", "day"])]
    story.fe.create_feature_spec(name=spec, features=wanted)
    found = story.fe.check_parity(feature_spec=spec)
    assert found.passed, [each for each in found.features if each["mismatches"]]
    assert {each["found"] for each in found.features} == {2, 3}
    assert len(found.features) == 11


def test_a_spec_is_checked_by_the_command_line(story: Story) -> None:
    spec = f"{story.schema}.of_customers"
    story.fe.create_feature_spec(name=spec, features=lookups(story.schema)[:2])
    story.publish("customers")

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        command = [MILLPOND, "features", "parity", spec, "--data-dir", str(story.server.data_dir), *more]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    good = run()
    assert (good.returncode, good.stdout.startswith("passed: ")) == (0, True), good
    story.tamper("customers", {"customer_id": 4}, "age", 20.5)
    bad = run()
    assert bad.returncode == 1, bad
    assert '"customer_id": 4' in bad.stdout
    assert "20.0 offline, 20.5 online" in bad.stdout
    assert run("--tolerance", "years=0.1").returncode == 0
    assert run("--max-mismatches", "1").returncode == 0
    assert run("--tolerance", "nothing=0.1").returncode == 2
    story.publish("customers", "SNAPSHOT")


def test_who_may_not_read_the_tables_sees_no_values(story: Story) -> None:
    story.tamper("customers", {"customer_id": 4}, "age", 21.5)
    found = story.fe.check_parity(model_uri=story.uri)
    assert not found.passed
    story.publish("customers", "SNAPSHOT")
    for text in ("GRANT USE CATALOG ON CATALOG $c TO `$reader`", "GRANT USE SCHEMA, EXECUTE ON SCHEMA $s TO `$reader`"):
        story.sql(text.replace("$c", story.schema.partition(".")[0]))
    status, body = story.check(found.id, "reader")
    assert status == 200, body
    assert body["check"]["has_values"] is False
    assert not any(each["mismatches"] for each in body["check"]["report"]["features"])
    assert "21.5" not in str(body)
    assert story.check(found.id, "stranger")[0] == 404
    story.sql("CREATE TABLE $s.odd AS SELECT 'C-7' AS customer_id")
    body = {"subject": story.uri, "keys": f"{story.schema}.odd"}
    odd = story.server.call("POST", CHECKS, body)[1]["check"]["id"]
    wait_until(lambda: story.check(odd, "admin")[1]["check"]["ended_at"], what="the check")
    assert "'customer_id' is 'C-7'" in story.check(odd, "admin")[1]["check"]["report"]["problem"]
    told = story.check(odd, "reader")[1]["check"]
    assert (told["state"], "C-7" in str(told)) == ("error", False)
    status, body = story.server.call("POST", CHECKS, {"subject": story.uri}, token=story.tokens["reader"])
    assert status == 200, body
    theirs = body["check"]["id"]
    ended = wait_until(
        lambda: (told := story.check(theirs, "reader")[1]["check"])["ended_at"] and told, what="the check"
    )
    assert (ended["state"], ended["message"]) == ("error", f"Table '{story.schema}.spending' does not exist.")
    story.sql("GRANT SELECT ON SCHEMA $s TO `$reader`")
    assert "21.5" in str(story.check(found.id, "reader")[1])
    story.sql("CREATE FUNCTION $s.hide(v DOUBLE) RETURNS DOUBLE RETURN 0.0")
    story.sql("ALTER TABLE $s.customers ALTER COLUMN age SET MASK $s.hide")
    assert "21.5" not in str(story.check(found.id, "reader")[1]), "a mask holds for what was found before it, too"
    story.sql("ALTER TABLE $s.customers ALTER COLUMN age DROP MASK")
