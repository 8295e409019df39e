"""Two users and every door: what one is granted opens at once for the other, and closes at once when it is revoked.

Each door is tried three times by the same unmodified client, whose session stays open all the while: before the grant,
with it, and after its revocation. On both databases.
"""

import io
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import DatabricksError, NotFound
from databricks.sdk.service.iam import AccessControlRequest, PermissionLevel
from databricks.sdk.service.serving import EndpointCoreConfigInput, ServedEntityInput
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from sklearn.linear_model import LogisticRegression

from tests.clients.mlflow_session import signed_in
from tests.servers import Server, run_cli

pytestmark = [  # rights are asked in one way on both databases, and this one is stricter
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(900),
    pytest.mark.parametrize("any_server", ["postgresql"], indirect=True),
]
ROWS = pd.DataFrame({"tenure": [1.0, 60.0], "charges": [90.0, 20.0]})


@dataclass
class World:
    """What Ann has, and the clients of both."""

    server: Server
    ann: str
    bob: str
    bob_name: str
    ann_spark: Any
    bob_spark: Any
    name: str
    """Her catalog; in its schema `s` are table t, volume v and model m."""
    table_id: str = ""
    location: str = ""
    experiment: str = ""
    run: str = ""
    model: str = ""
    endpoint: str = ""
    endpoint_id: str = ""
    made: list[str] = field(default_factory=list)

    @property
    def w(self) -> WorkspaceClient:
        """The SDK as Bob."""
        return WorkspaceClient(host=self.server.url, token=self.bob, auth_type="pat")

    @property
    def ann_w(self) -> WorkspaceClient:
        return WorkspaceClient(host=self.server.url, token=self.ann, auth_type="pat")

    def mlflow(self, ask: Callable[[Any], Any]) -> Any:
        with signed_in(self.server, self.bob) as client:
            return ask(client)

    def sql(self, text: str) -> list[Any]:
        return self.bob_spark.sql(text.replace("$", self.name)).collect()


@pytest.fixture(scope="module")
def world(any_server: Server) -> Iterator[World]:
    tail = uuid.uuid4().hex[:8]
    ann_name, bob_name = f"ann-{tail}@example.org", f"bob-{tail}@example.org"
    ann, bob = any_server.new_user(ann_name), any_server.new_user(bob_name)
    remote = any_server.spark_remote
    sparks = [SparkSession.builder.remote(remote.replace(any_server.token, token)).create() for token in (ann, bob)]
    made = World(any_server, ann, bob, bob_name, *sparks, name=f"grants_{tail}")
    _build(made)
    yield made
    made.ann_w.serving_endpoints.delete(made.endpoint)
    sparks[0].sql(f"DROP CATALOG {made.name} CASCADE")
    for spark in sparks:
        spark.stop()


def _build(made: World) -> None:
    name = made.name
    for statement in (
        f"CREATE CATALOG {name}", f"CREATE SCHEMA {name}.s", f"CREATE TABLE {name}.s.t (a INT)",
        f"INSERT INTO {name}.s.t VALUES (1)", f"CREATE VIEW {name}.s.view AS SELECT a FROM {name}.s.t",
        f"CREATE VOLUME {name}.s.v",
    ):  # fmt: skip
        made.ann_spark.sql(statement).collect()
    made.ann_w.files.upload(f"/Volumes/{name}/s/v/a.txt", io.BytesIO(b"hello"))
    found = made.ann_w.tables.get(f"{name}.s.t")
    made.table_id, made.location = found.table_id or "", found.storage_location or ""
    made.model = f"plain-{name}"
    with signed_in(made.server, made.ann) as client:
        made.experiment = client.create_experiment(f"of-{name}")
        with mlflow.start_run(experiment_id=made.experiment) as run:
            made.run = run.info.run_id
            mlflow.log_text("hers", "notes.txt")
            _log_model(f"{name}.s.m")
        client.create_registered_model(made.model)
        client.create_model_version(made.model, f"runs:/{made.run}/notes.txt", made.run)
    made.endpoint = f"e-{name}".replace("_", "-")
    entity = ServedEntityInput(entity_name=f"{name}.s.m", entity_version="1", name="m")
    config = EndpointCoreConfigInput(name="", served_entities=[entity])
    ready = made.ann_w.serving_endpoints.create_and_wait(made.endpoint, config=config, timeout=timedelta(minutes=5))
    made.endpoint_id = ready.id or ""


def _log_model(name: str) -> None:
    labels = np.array([1, 0])
    model = LogisticRegression().fit(ROWS, labels)
    mlflow.sklearn.log_model(
        model, name="model", signature=infer_signature(ROWS, labels), pip_requirements=["mlflow", "scikit-learn"],
        registered_model_name=name,
    )  # fmt: skip


Way = Callable[[World, bool], None]
"""Opens a door, or closes it."""


def granting(*statements: str) -> Way:
    """`SELECT ON TABLE $.s.t`, with the way in, by Ann in SQL."""

    def change(world: World, give: bool) -> None:
        for text in ("USE CATALOG ON CATALOG $", "USE SCHEMA ON SCHEMA $.s", *statements):
            verb, word = ("GRANT", "TO") if give else ("REVOKE", "FROM")
            statement = f"{verb} {text} {word} `{world.bob_name}`".replace("$", world.name)
            world.ann_spark.sql(statement).collect()

    return change


def level(path: str, which: str, wanted: PermissionLevel) -> Way:
    """A permission level on one of Ann's objects, by Ann through the permissions API."""

    def change(world: World, give: bool) -> None:
        entry = AccessControlRequest(user_name=world.bob_name, permission_level=wanted)
        world.ann_w.permissions.set(path, getattr(world, which), access_control_list=[entry] if give else [])

    return change


SELECT = granting("SELECT ON TABLE $.s.t")
WRITE = granting("SELECT, MODIFY ON TABLE $.s.t")
READ_FILES = granting("READ VOLUME ON VOLUME $.s.v")
WRITE_FILES = granting("WRITE VOLUME ON SCHEMA $.s")
EXECUTE = granting("EXECUTE ON MODEL $.s.m")
ALL = granting("ALL PRIVILEGES ON SCHEMA $.s")
SEES_EXPERIMENT = level("experiments", "experiment", PermissionLevel.CAN_READ)
EDITS_EXPERIMENT = level("experiments", "experiment", PermissionLevel.CAN_EDIT)
MANAGES_EXPERIMENT = level("experiments", "experiment", PermissionLevel.CAN_MANAGE)
SEES_MODEL = level("registered-models", "model", PermissionLevel.CAN_READ)
EDITS_MODEL = level("registered-models", "model", PermissionLevel.CAN_EDIT)
VIEWS = level("serving-endpoints", "endpoint_id", PermissionLevel.CAN_VIEW)
QUERIES = level("serving-endpoints", "endpoint_id", PermissionLevel.CAN_QUERY)


def credentials(world: World, operation: str) -> Any:
    path = "/api/2.1/unity-catalog/temporary-table-credentials"
    status, body = world.server.call(
        "POST", path, {"table_id": world.table_id, "operation": operation}, token=world.bob
    )
    if status != 200:
        raise NotFound(str(body))
    return body


def explain(world: World) -> Any:
    query = f"privilege=SELECT&securable_type=table&name={world.name}.s.t"
    status, body = world.server.call("GET", f"/api/millpond/access/explain?{query}", token=world.bob)
    if status != 200:
        raise NotFound(str(body))
    return body


def register_version(client: Any, name: str) -> Any:
    """The next version of a model, from a run of one's own."""
    run = client.create_run("0").info.run_id
    client.log_text(run, "mine", "m.txt")
    return client.create_model_version(name, f"runs:/{run}/m.txt", run)


DOORS: dict[str, tuple[Way, Callable[[World], Any]]] = {
    "SQL view over a table": (granting("SELECT ON TABLE $.s.view"), lambda w: w.sql("SELECT * FROM $.s.view")),
    "SQL select": (SELECT, lambda w: w.sql("SELECT * FROM $.s.t")),
    "SQL select all privileges": (ALL, lambda w: w.sql("SELECT * FROM $.s.t")),
    "SQL time travel": (SELECT, lambda w: w.sql("SELECT * FROM $.s.t VERSION AS OF 1")),
    "SQL describe": (SELECT, lambda w: w.sql("DESCRIBE TABLE $.s.t")),
    "SQL history": (SELECT, lambda w: w.sql("DESCRIBE HISTORY $.s.t")),
    "SQL insert": (WRITE, lambda w: w.sql("INSERT INTO $.s.t VALUES (2)")),
    "SQL update": (WRITE, lambda w: w.sql("UPDATE $.s.t SET a = 1 WHERE a = 2")),
    "SQL merge": (WRITE, lambda w: w.sql(
        "MERGE INTO $.s.t USING (SELECT 9 AS a) s ON t.a = s.a WHEN NOT MATCHED THEN INSERT *")),
    "SQL create": (granting("CREATE TABLE, SELECT ON SCHEMA $.s"), lambda w: w.sql(
        f"CREATE TABLE $.s.b_{uuid.uuid4().hex} AS SELECT 1 AS a")),
    "DataFrame": (SELECT, lambda w: w.bob_spark.table(f"{w.name}.s.t").count()),
    "DataFrame write": (WRITE, lambda w: w.bob_spark.range(1).selectExpr("CAST(id AS INT) AS a").write.mode(
        "append").saveAsTable(f"{w.name}.s.t")),
    "DataFrame path": (SELECT, lambda w: w.bob_spark.read.format("delta").load(w.location).count()),
    "DataFrame volume": (READ_FILES, lambda w: w.bob_spark.read.text(f"/Volumes/{w.name}/s/v/a.txt").collect()),
    "REST table": (SELECT, lambda w: w.w.tables.get(f"{w.name}.s.t")),
    "REST list": (SELECT, lambda w: next(iter(w.w.tables.list(w.name, "s")))),
    "REST explain": (SELECT, explain),
    "REST credentials": (SELECT, lambda w: credentials(w, "READ")),
    "REST credentials to write": (WRITE, lambda w: credentials(w, "READ_WRITE")),
    "Files read": (READ_FILES, lambda w: w.w.files.download(f"/Volumes/{w.name}/s/v/a.txt").contents.close()),
    "Files write": (WRITE_FILES, lambda w: w.w.files.upload(
        f"/Volumes/{w.name}/s/v/b.txt", io.BytesIO(b"b"), overwrite=True)),
    "MLflow catalog model": (EXECUTE, lambda w: w.mlflow(lambda c: c.get_model_version(f"{w.name}.s.m", "1"))),
    "MLflow catalog version": (granting("CREATE MODEL VERSION ON MODEL $.s.m"), lambda w: w.mlflow(
        lambda c: register_version(c, f"{w.name}.s.m"))),
    "REST catalog model": (EXECUTE, lambda w: w.w.registered_models.get(f"{w.name}.s.m")),
    "MLflow experiment": (SEES_EXPERIMENT, lambda w: w.mlflow(lambda c: c.get_experiment(w.experiment))),
    "MLflow runs": (SEES_EXPERIMENT, lambda w: w.mlflow(lambda c: c.search_runs([w.experiment])[0])),
    "MLflow artifacts": (SEES_EXPERIMENT, lambda w: w.mlflow(lambda c: c.list_artifacts(w.run)[0])),
    "MLflow log": (EDITS_EXPERIMENT, lambda w: w.mlflow(lambda c: c.log_metric(w.run, "m", 1.0))),
    "MLflow create run": (EDITS_EXPERIMENT, lambda w: w.mlflow(lambda c: c.create_run(w.experiment))),
    "MLflow tag experiment": (EDITS_EXPERIMENT, lambda w: w.mlflow(
        lambda c: c.set_experiment_tag(w.experiment, "k", "v"))),
    "MLflow rename experiment": (MANAGES_EXPERIMENT, lambda w: w.mlflow(
        lambda c: c.rename_experiment(w.experiment, f"n-{uuid.uuid4().hex}"))),
    "MLflow model": (SEES_MODEL, lambda w: w.mlflow(lambda c: c.get_registered_model(w.model))),
    "MLflow model version": (SEES_MODEL, lambda w: w.mlflow(lambda c: c.get_model_version(w.model, "1"))),
    "MLflow model tag": (EDITS_MODEL, lambda w: w.mlflow(lambda c: c.set_registered_model_tag(w.model, "k", "v"))),
    "Serving get": (VIEWS, lambda w: w.w.serving_endpoints.get(w.endpoint)),
    "Serving list": (VIEWS, lambda w: next(iter(w.w.serving_endpoints.list()))),
    "Serving query": (QUERIES, lambda w: w.w.serving_endpoints.query(
        w.endpoint, dataframe_records=ROWS.to_dict(orient="records"))),
}  # fmt: skip


def is_open(world: World, use: Callable[[World], Any]) -> bool:
    """Whether a client gets through; every refusal is its own client's error."""
    try:
        use(world)
    except (PySparkException, DatabricksError, MlflowException, StopIteration, IndexError):
        return False
    return True


@pytest.mark.parametrize("door", DOORS)
def test_a_door_opens_with_its_grant_and_closes_with_it(world: World, door: str) -> None:
    """Closed, open, closed: at the next request or statement, for a session that was there all the while."""
    way, use = DOORS[door]
    assert not is_open(world, use)
    way(world, True)
    assert use(world) is not Ellipsis  # with the client's own error where it is refused
    way(world, False)
    assert not is_open(world, use)


LESSER: dict[str, tuple[Way, Callable[[World], Any], str]] = {
    "SQL insert": (SELECT, DOORS["SQL insert"][1], "MODIFY"),
    "SQL drop": (ALL, lambda w: w.sql("DROP TABLE $.s.t"), "MANAGE"),
    "SQL grant": (ALL, lambda w: w.sql("GRANT SELECT ON TABLE $.s.t TO `account users`"), "MANAGE"),
    "Files write": (READ_FILES, DOORS["Files write"][1], "WRITE VOLUME"),
    "MLflow log": (SEES_EXPERIMENT, DOORS["MLflow log"][1], "CAN_EDIT"),
    "MLflow delete": (EDITS_EXPERIMENT, lambda w: w.mlflow(lambda c: c.delete_experiment(w.experiment)), "CAN_MANAGE"),
    "MLflow model": (SEES_MODEL, DOORS["MLflow model tag"][1], "CAN_EDIT"),
    "MLflow model delete": (
        EDITS_MODEL, lambda w: w.mlflow(lambda c: c.delete_registered_model(w.model)), "CAN_MANAGE"),
    "Serving query": (VIEWS, DOORS["Serving query"][1], "CAN_QUERY"),
    "Serving delete": (QUERIES, lambda w: w.w.serving_endpoints.delete(w.endpoint), "CAN_MANAGE"),
}  # fmt: skip


@pytest.mark.parametrize("what", LESSER)
def test_a_lesser_right_is_told_what_is_missing(world: World, what: str) -> None:
    """Whoever sees an object is not told that it does not exist, but which privilege they lack."""
    way, use, lacks = LESSER[what]
    way(world, True)
    try:
        with pytest.raises((PySparkException, DatabricksError, MlflowException), match=lacks):
            use(world)
    finally:
        way(world, False)


def test_permissions_are_listed_with_owner_and_administrators(world: World) -> None:
    """By the SDK's calls for each type; levels in the order of their strength."""
    w = world.ann_w
    SEES_EXPERIMENT(world, True)
    found = w.experiments.get_permissions(world.experiment)
    assert (found.object_id, found.object_type) == (f"/experiments/{world.experiment}", "mlflowExperiment")
    shown: dict[str | None, list[tuple[str, bool]]] = {}
    for entry in found.access_control_list or []:
        levels_of = [(each.permission_level.value, each.inherited) for each in entry.all_permissions or []]
        shown[entry.user_name or entry.group_name] = levels_of
    assert shown[world.bob_name] == [("CAN_READ", False)]
    assert shown["admins"] == [("CAN_MANAGE", True)]
    assert len(shown) == 3
    own = world.w.experiments.get_permissions(world.experiment).access_control_list or []
    assert world.bob_name in {entry.user_name for entry in own}
    assert "admins" not in {entry.group_name for entry in own}
    SEES_EXPERIMENT(world, False)
    levels = w.serving_endpoints.get_permission_levels(world.endpoint_id).permission_levels or []
    assert [each.permission_level.value for each in levels] == ["CAN_VIEW", "CAN_QUERY", "CAN_MANAGE"]
    levels = w.model_registry.get_permission_levels(world.model).permission_levels or []
    assert len(levels) == 5
    with pytest.raises(NotFound, match=f"'{world.endpoint_id}'"):
        world.w.serving_endpoints.get_permissions(world.endpoint_id)


def test_the_shell_explains(world: World) -> None:
    """Yes with the grants, no with what is missing and where, for tables and for permission levels."""
    place = ("--data-dir", str(world.server.data_dir))
    asked = ("access", "explain", world.bob_name, "select", f"{world.name}.s.t", *place)
    told = run_cli(*asked, check=False)
    assert told.returncode == 2
    assert f"missing: SELECT, to be granted on table {world.name}.s.t or schema {world.name}.s" in told.stdout
    SELECT(world, True)
    told = run_cli(*asked)
    assert f"by the grant of SELECT on table {world.name}.s.t" in told.stdout
    SELECT(world, False)
    asked = ("access", "explain", world.bob_name, "CAN_EDIT", world.experiment, "--type", "experiments", *place)
    assert "missing: CAN_EDIT" in run_cli(*asked, check=False).stdout
    EDITS_EXPERIMENT(world, True)
    assert "by the grant of CAN_EDIT on experiment" in run_cli(*asked).stdout
    EDITS_EXPERIMENT(world, False)
