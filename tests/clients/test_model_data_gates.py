"""Gates that look at data, at the clock, and at a model in an environment of its own."""

import sys
import uuid
from datetime import timedelta
from typing import Any

import cloudpickle
import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature

from millpond.kernel.clock import utc_now
from tests.clients.gated import OURS, call, plain_version, put_policy, run_sql
from tests.clients.mlflow_session import signed_in
from tests.servers import Server, wait_until

pytestmark = pytest.mark.filterwarnings("ignore")  # the clients' warnings are not ours


@pytest.fixture
def client(any_server: Server):
    with signed_in(any_server) as client:
        yield client


@pytest.fixture
def model(any_server: Server, client: MlflowClient) -> str:
    """A model with one version, in a schema of its own."""
    schema = f"data_{uuid.uuid4().hex[:12]}"
    any_server.call("POST", "/api/2.1/unity-catalog/schemas", {"name": schema, "catalog_name": "main"})
    client.create_registered_model(f"main.{schema}.m")
    plain_version(client, f"main.{schema}.m")
    return f"main.{schema}.m"


def refusal(client: MlflowClient, model: str) -> str:
    with pytest.raises(MlflowException) as refused:
        client.set_registered_model_alias(model, "prod", "1")
    return str(refused.value)


def test_what_is_wrong_with_the_evaluation_data_keeps_a_version(
    any_server: Server, client: MlflowClient, model: str
) -> None:
    table = model.replace(".m", ".people")
    run_sql(
        any_server,
        f"CREATE TABLE {table} (id INT, age INT, region STRING, paid DOUBLE, due DOUBLE)",
        f"INSERT INTO {table} VALUES (1, 30, 'north', 5, 5), (1, NULL, 'south', 9, 5), (3, 200, 'mars', 1, NULL)",
        f"INSERT OVERWRITE {table} VALUES (1, 30, 'north', 5, 5), (2, 41, 'south', 4, 5)",
    )
    policy = f"""targets: [alias:prod]
checks:
  - data_quality:
      table: {table}
      table_version: %d
      min_rows: %d
      unique: [id]
      columns:
        age: {{max_null_ratio: 0.0, minimum: 0, maximum: 120}}
        region: {{allowed: [north, south]}}
      expectations: ["paid <= due"]
"""
    put_policy(any_server, "model", model, policy % (1, 4))
    said = refusal(client, model)
    for problem in ("age is null in 1 of 3 rows", "age > 120 in 1 of 3", "region is not allowed in 1 of 3",
                    "paid <= due in 2 of 3", "3 rows, at least 4", "1 values of id in several rows"):  # fmt: skip
        assert problem in said
    put_policy(any_server, "model", model, policy % (2, 2))
    client.set_registered_model_alias(model, "prod", "1")
    put_policy(any_server, "model", model, policy.replace("paid", "gone") % (2, 2))
    client.delete_registered_model_alias(model, "prod")
    assert "gone" in refusal(client, model)


def test_drift_from_what_it_was_trained_on_keeps_a_version(
    any_server: Server, client: MlflowClient, model: str
) -> None:
    table = model.replace(".m", ".incomes")
    run_sql(
        any_server,
        f"CREATE TABLE {table} (income DOUBLE, region STRING)",
        f"INSERT INTO {table} SELECT id, CASE WHEN id % 2 = 0 THEN 'north' ELSE 'south' END FROM range(200)",
        f"INSERT OVERWRITE {table} SELECT id + 150, 'north' FROM range(200)",
    )
    policy = f"""targets: [alias:prod]
checks:
  - drift: {{table: {table}, table_version: %d, baseline: {table}, baseline_version: 1,
             columns: {{income: {{ks: 0.1, psi: 0.2}}, region: {{js_distance: 0.1}}}}}}
"""
    put_policy(any_server, "model", model, policy % 2)
    said = refusal(client, model)
    assert "ks of income is 0.75, the limit 0.1" in said
    assert "psi of income" in said
    assert "js_distance of region" in said
    put_policy(any_server, "model", model, policy % 1)
    client.set_registered_model_alias(model, "prod", "1")


@pytest.mark.parametrize("any_server", ["sqlite"], indirect=True)
def test_a_gate_sees_of_a_table_what_its_author_sees(any_server: Server, client: MlflowClient, model: str) -> None:
    """A row filter holds for gates too: else one could learn of hidden rows by asking for limits."""
    table, function = model.replace(".m", ".people"), model.replace(".m", ".mine")
    author = f"author-{uuid.uuid4().hex[:8]}@gates.org"
    token = any_server.new_user(author)
    schema = model.rpartition(".")[0]
    run_sql(
        any_server,
        f"CREATE TABLE {table} (region STRING)",
        f"INSERT INTO {table} VALUES ('north'), ('north'), ('south')",
        f"CREATE FUNCTION {function}(region STRING) RETURNS BOOLEAN RETURN region = 'north'",
        f"ALTER TABLE {table} SET ROW FILTER {function} ON (region)",
        f"GRANT USE CATALOG ON CATALOG main TO `{author}`",
        f"GRANT USE SCHEMA, SELECT, EXECUTE ON SCHEMA {schema} TO `{author}`",
        f"GRANT MANAGE ON SCHEMA {schema} TO `{author}`",
    )
    version = run_sql(any_server, f"DESCRIBE HISTORY {table} LIMIT 1")[0][0]
    told = f"table: {table}, table_version: {version}, max_rows: 1"
    policy = f"targets: [alias:prod]\nchecks: [{{data_quality: {{{told}}}}}]"
    put_policy(any_server, "model", model, policy, token=token)
    assert "2 rows, at most 1" in refusal(client, model)


def test_nothing_moves_while_it_is_frozen(any_server: Server, client: MlflowClient, model: str) -> None:
    today, later = utc_now().date(), utc_now().date() + timedelta(days=2)
    freeze = "targets: [alias:prod]\nchecks: [{window: {freezes: [{from: %s, until: %s}]}}]"
    put_policy(any_server, "model", model, freeze % (today - timedelta(days=1), later))
    assert "nothing moves from" in refusal(client, model)
    put_policy(any_server, "model", model, freeze % (later, later))
    client.set_registered_model_alias(model, "prod", "1")


class Smiling(mlflow.pyfunc.PythonModel):
    """Needs a package that the server has not."""

    def predict(self, context, model_input):  # type: ignore[no-untyped-def]
        import emoji

        return [len(emoji.emojize(":thumbs_up:")) for _ in model_input["x"]]


@pytest.mark.long
@pytest.mark.parametrize("any_server", ["sqlite"], indirect=True)
def test_a_version_is_tried_with_the_packages_that_it_requires(
    any_server: Server, client: MlflowClient, model: str
) -> None:
    """The server's packages do not do for it; its own do, and what was installed is in the evidence."""
    example = pd.DataFrame({"x": [1.0, 2.0]})
    lean = ["mlflow-skinny==" + mlflow.__version__, "pandas<3", "cloudpickle==" + cloudpickle.__version__]
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    for requirements in (["emoji==2.14.0"], ["emoji==0.0.99"], ["--extra-index-url http://127.0.0.1/", "emoji"]):
        with mlflow.start_run(experiment_id="0"):
            info = mlflow.pyfunc.log_model(
                name="model", python_model=Smiling(), pip_requirements=lean + requirements, input_example=example,
                signature=infer_signature(example, [1, 1]),
            )  # fmt: skip
        mlflow.register_model(info.model_uri, model)
    cloudpickle.unregister_pickle_by_value(module)
    policy = "targets: [alias:prod]\nchecks: [{predicts: {calls: 3, environment: %s}}]"
    put_policy(any_server, "model", model, policy % "server")
    assert "No module named 'emoji'" in found(any_server, model, "2")["message"]
    put_policy(any_server, "model", model, policy % "own")
    passed = found(any_server, model, "2")
    assert (passed["passed"], "emoji==2.14.0" in passed["details"].get("installed", [])) == (True, True), passed
    assert "no version of emoji==0.0.99" in found(any_server, model, "3")["message"]
    assert "options, paths and files are not taken" in found(any_server, model, "4")["message"]
    client.set_registered_model_alias(model, "prod", "2")


def found(server: Server, model: str, version: str) -> dict[str, Any]:
    """What the only check finds about a version, once it has looked."""
    run = call(server, "gates/run", name=model, version=version, alias="prod")[1]["runs"][0]

    def ended() -> Any:
        runs = server.call("GET", f"{OURS}/gates?name={model}&version={version}")[1]["runs"]
        return next(each["findings"] for each in runs if each["id"] == run["id"])

    return wait_until(ended, timeout_s=250)[0]
