"""No door leads a version past the gates of a policy: MLflow's client, the SDK, Unity's REST and ours."""

import sys
import uuid
from collections.abc import Callable
from typing import Any

import cloudpickle
import mlflow
import pandas as pd
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature

from tests.clients.gated import OURS, call, plain_version, put_policy, run_sql
from tests.clients.mlflow_session import signed_in
from tests.servers import Server

pytestmark = pytest.mark.filterwarnings("ignore")  # the clients' warnings are not ours


class Constant(mlflow.pyfunc.PythonModel):
    """Says yes (1) to those whose `x` is at least the limit."""

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def predict(self, context, model_input):  # type: ignore[no-untyped-def]
        return [int(x >= self.limit) for x in model_input["x"]]


class Broken(mlflow.pyfunc.PythonModel):
    """Was logged, and does not load."""

    def load_context(self, context) -> None:  # type: ignore[no-untyped-def]
        raise RuntimeError("it was fine on my machine")

    def predict(self, context, model_input):  # type: ignore[no-untyped-def]
        return [0] * len(model_input)


@pytest.fixture
def client(any_server: Server):
    with signed_in(any_server) as client:
        yield client


@pytest.fixture
def schema(any_server: Server) -> str:
    name = f"gates_{uuid.uuid4().hex[:12]}"
    any_server.call("POST", "/api/2.1/unity-catalog/schemas", {"name": name, "catalog_name": "main"})
    return f"main.{name}"


DOORS: dict[str, Callable[[Server, MlflowClient, str], Any]] = {
    "mlflow alias": lambda _s, c, m: c.set_registered_model_alias(m, "prod", "1"),
    "mlflow stage": lambda _s, c, m: c.transition_model_version_stage(m, "1", "Production"),
    "sdk alias": lambda s, _c, m: _sdk(s).registered_models.set_alias(m, "prod", 1),
    "sdk stage": lambda s, _c, m: _sdk(s).model_registry.transition_stage(m, "1", "Production", True),
    "unity alias": lambda s, _c, m: _refused(
        s.call("PUT", f"/api/2.1/unity-catalog/models/{m}/aliases/prod", {"version_num": 1})
    ),
    "databricks-uc alias": lambda s, _c, m: _refused(
        s.call("POST", "/api/2.0/mlflow/unity-catalog/registered-models/alias",
               {"name": m, "alias": "prod", "version": "1"})
    ),
    "ours": lambda s, _c, m: _refused(call(s, "moves", name=m, version="1", alias="prod")),
}  # fmt: skip


def _sdk(server: Server) -> WorkspaceClient:
    return WorkspaceClient(host=server.url, token=server.token, auth_type="pat")


def _refused(answer: tuple[int, Any]) -> None:
    assert answer[0] == 400, answer
    raise BadRequest(answer[1]["message"])


def test_no_door_leads_past_a_gate_and_each_says_what_failed(
    any_server: Server, client: MlflowClient, schema: str
) -> None:
    name = f"{schema}.m"
    client.create_registered_model(name)
    plain_version(client, name)
    policy = "targets: [alias:prod, 'stage:Production']\nchecks: [description, {tags: {required: [team]}}]"
    put_policy(any_server, "schema", schema, policy)
    for door in DOORS.values():
        with pytest.raises((MlflowException, BadRequest)) as refused:
            door(any_server, client, name)
        assert "tags missing: team" in str(refused.value)
        assert "description" in str(refused.value)
    assert client.get_registered_model(name).aliases == {}
    assert client.get_model_version(name, "1").current_stage == "None"
    client.set_registered_model_alias(name, "other", "1")  # guards only what it names
    client.set_model_version_tag(name, "1", "team", "churn")
    client.update_model_version(name, "1", description="knows who leaves")
    client.set_registered_model_alias(name, "prod", "1")
    client.transition_model_version_stage(name, "1", "Production")
    moves = any_server.call("GET", f"{OURS}/history?name={name}")[1]["moves"]
    findings = moves[0]["evidence"]["gates"][0]["findings"]
    assert [(finding["check"], finding["passed"]) for finding in findings] == [("description", True), ("tags", True)]
    runs = any_server.call("GET", f"{OURS}/gates?name={name}&version=1")[1]["runs"]
    assert [run["state"] for run in runs] == ["refused"] * len(DOORS)


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER MODEL {name} SET ALIAS prod VERSION 1",
        "ALTER MODEL {name} VERSION 1 SET STAGE Production",
        "INSERT INTO registered_model_aliases VALUES ('prod', 1, '{name}')",
        "INSERT INTO system.mlops.model_history SELECT * FROM system.mlops.model_history",
        "UPDATE system.mlops.model_history SET target = 'prod' WHERE model_name = '{name}'",
        "DELETE FROM system.mlops.model_history WHERE model_name = '{name}'",
        "CREATE TABLE {schema}.registry USING sqlite OPTIONS (path '{database}')",
        "INSERT INTO delta.`{database}` VALUES (1)",
        "INSERT OVERWRITE DIRECTORY '{database}' USING parquet SELECT 1",
    ],
)
@pytest.mark.parametrize("any_server", ["sqlite"], indirect=True)
def test_sql_has_no_door_to_versions_and_their_record(
    any_server: Server, client: MlflowClient, schema: str, statement: str
) -> None:
    """Databricks' SQL has no statement that moves a version; nor is there a way through tables, for administrators."""
    name = f"{schema}.m"
    client.create_registered_model(name)
    plain_version(client, name)
    database = any_server.data_dir / "millpond.db"
    text = statement.format(name=name, schema=schema, database=database)
    body = {"statement": text, "warehouse_id": "starter", "wait_timeout": "50s"}
    answer = any_server.call("POST", "/api/2.0/sql/statements", body)[1]
    assert answer["status"]["state"] == "FAILED", answer
    found = client.get_registered_model(name)
    assert (found.aliases, client.get_model_version(name, "1").current_stage) == ({}, "None")
    assert any_server.call("GET", f"{OURS}/history?name={name}")[1]["moves"] == []


def test_a_model_does_not_move_into_a_guarded_schema_with_what_is_guarded_there(
    any_server: Server, client: MlflowClient, schema: str
) -> None:
    put_policy(any_server, "schema", schema, "targets: [alias:prod]\nchecks: [description]")
    name = f"m_{uuid.uuid4().hex[:10]}"
    client.create_registered_model(f"main.default.{name}")
    plain_version(client, f"main.default.{name}")
    client.set_registered_model_alias(f"main.default.{name}", "prod", "1")
    with pytest.raises(MlflowException, match="without having passed it"):
        client.rename_registered_model(f"main.default.{name}", f"{schema}.{name}")
    client.delete_registered_model_alias(f"main.default.{name}", "prod")
    client.rename_registered_model(f"main.default.{name}", f"{schema}.{name}")
    client.update_model_version(f"{schema}.{name}", "1", description="knows")
    client.set_registered_model_alias(f"{schema}.{name}", "prod", "1")
    client.rename_registered_model(f"{schema}.{name}", f"{schema}.{name}_again")


def test_only_an_administrator_with_a_reason_gets_past(any_server: Server, client: MlflowClient) -> None:
    owner = any_server.new_user(f"owner-{uuid.uuid4().hex[:8]}@gates.org")
    name = f"gated-{uuid.uuid4().hex[:10]}"
    with signed_in(any_server, owner) as theirs:
        theirs.create_registered_model(name)
        plain_version(theirs, name)
    put_policy(any_server, "model", name, "targets: [alias:prod]\nchecks: [description]")
    body = {"name": name, "version": "1", "alias": "prod", "override": True}
    assert any_server.call("POST", f"{OURS}/moves", {**body, "reason": "now"}, token=owner)[0] == 403
    assert call(any_server, "moves", **body)[1]["error_code"] == "INVALID_PARAMETER_VALUE"
    status, answer = call(any_server, "moves", **body, reason="the old one is down")
    assert (status, answer["activity"]["comment"]) == (200, "the old one is down")
    assert answer["activity"]["evidence"]["overridden"] is True


def test_somebody_else_than_author_and_asker_approves(any_server: Server) -> None:
    tail = uuid.uuid4().hex[:8]
    names = [f"{who}-{tail}@gates.org" for who in ("author", "first", "second")]
    author, first, second = (any_server.new_user(name) for name in names)
    name = f"reviewed-{tail}"
    with signed_in(any_server, author) as client:
        client.create_registered_model(name)
        plain_version(client, name)
    path = f"/api/2.0/permissions/registered-models/{name}"
    levels = [{"user_name": each, "permission_level": "CAN_MANAGE"} for each in names[1:]]
    any_server.call("PATCH", path, {"access_control_list": levels}, token=author)
    put_policy(any_server, "model", name, "targets: ['stage:Production']\nchecks: [{reviewers: {approvals: 2}}]")
    body = {"name": name, "version": "1", "stage": "Production"}

    def ask(act: str, token: str) -> int:
        return any_server.call("POST", f"/api/2.0/mlflow/transition-requests/{act}", body, token=token)[0]

    def stage() -> str:
        path = f"/api/2.0/mlflow/model-versions/get?name={name}&version=1"
        return any_server.call("GET", path)[1]["model_version"]["current_stage"]

    assert ask("create", author) == 200
    assert ask("approve", author) == 403
    assert (ask("approve", first), stage()) == (200, "None")
    assert (ask("approve", first), stage()) == (200, "None")  # counts once
    assert any_server.call("POST", f"{OURS}/moves", body, token=first)[0] == 400
    assert (ask("approve", second), stage()) == (200, "Production")


@pytest.fixture
def _pickled_by_value():
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@pytest.mark.usefixtures("_pickled_by_value")
@pytest.mark.parametrize("any_server", ["sqlite"], indirect=True)
def test_a_slice_floor_keeps_a_version_until_a_better_one_comes(
    any_server: Server, client: MlflowClient, schema: str
) -> None:
    name, table = f"{schema}.churn", f"{schema}.evaluation"
    _evaluation_table(any_server, table)
    experiment = client.create_experiment(f"gates-{uuid.uuid4().hex}")
    example = pd.DataFrame({"x": [1.0, 2.0]})
    for model in (Constant(5.0), Constant(3.0), Broken()):
        with mlflow.start_run(experiment_id=experiment):
            info = mlflow.pyfunc.log_model(
                name="model", python_model=model, input_example=example, pip_requirements=[],
                signature=infer_signature(example, [0, 1]),
            )  # fmt: skip
        mlflow.register_model(info.model_uri, name)
    told = f"table: {table}, table_version: 1, label: churned, name: accuracy"
    put_policy(
        any_server,
        "model",
        name,
        f"""targets: [alias:prod]
checks:
  - signature
  - predicts: {{calls: 5, p99_ms: 5000, memory_mb: 4000}}
  - metric: {{{told}, minimum: 0.5, margin: 0.0}}
  - slices: {{{told}, by: [region], floor: 0.7}}
""",
    )
    with pytest.raises(MlflowException, match=r"slices: accuracy misses the floor of 0.7 by region for south: 0.5"):
        client.set_registered_model_alias(name, "prod", "1")
    client.set_registered_model_alias(name, "prod", "2")
    with pytest.raises(MlflowException, match="it was fine on my machine"):
        client.set_registered_model_alias(name, "prod", "3")
    assert client.get_registered_model(name).aliases == {"prod": "2"}
    evidence = any_server.call("GET", f"{OURS}/history?name={name}")[1]["live"][0]["evidence"]["gates"][0]
    assert [(each["check"], each["passed"]) for each in evidence["findings"]] == [
        ("signature", True), ("predicts", True), ("metric", True), ("slices", True),
    ]  # fmt: skip
    assert evidence["findings"][3]["details"]["slices"] == {"north": 1.0, "south": 1.0}


def _evaluation_table(server: Server, table: str) -> None:
    rows = [("north", 1.0, 0), ("north", 2.0, 0), ("north", 8.0, 1), ("north", 9.0, 1),
            ("south", 1.0, 0), ("south", 3.5, 1), ("south", 4.0, 1), ("south", 2.0, 0)]  # fmt: skip
    values = ", ".join(f"('{region}', CAST({x} AS DOUBLE), {churned})" for region, x, churned in rows)
    create = f"CREATE TABLE {table} (region STRING, x DOUBLE, churned INT)"
    run_sql(server, create, f"INSERT INTO {table} VALUES {values}")


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("targets: [prod]\nchecks: [description]", "neither alias:NAME nor stage:NAME"),
        ("targets: [alias:prod]\nchecks: [magic]", "no check 'magic'"),
        ("targets: [alias:prod]\nchecks: [{tags: {}}]", "needs 'required'"),
        ("targets: [alias:prod]\nchecks: [{description: {min_length: long}}]", "wrong type"),
        ("a: [", "not YAML"),
        ("targets: &a [alias:prod]\nchecks: *a", "no YAML aliases"),
        ("targets: [alias:p]\nchecks: [{metric: {table: main.default.gone, table_version: 0, label: l, name: f1}}]",
         "does not exist"),
    ],
)  # fmt: skip
def test_a_policy_that_is_wrong_says_where(any_server: Server, policy: str, said: str) -> None:
    status, body = call(any_server, "policies", securable_type="catalog", name="main", policy=policy)
    assert (status in {400, 404}, said in body["message"]) == (True, True), body
