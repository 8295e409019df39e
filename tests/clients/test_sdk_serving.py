"""The official databricks-sdk makes endpoints for models that the official mlflow client registered, and asks them."""

import contextlib
import io
import json
import os
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
from databricks.sdk import WorkspaceClient
from databricks.sdk.core import Config
from databricks.sdk.errors import (
    BadRequest,
    InvalidState,
    NotFound,
    NotImplemented,
    OperationFailed,
    ResourceConflict,
)
from databricks.sdk.service.catalog import PermissionsChange, Privilege, VolumeType
from databricks.sdk.service.iam import Patch, PatchOp, PatchSchema
from databricks.sdk.service.serving import (
    AiGatewayRateLimit,
    AiGatewayRateLimitKey,
    AiGatewayRateLimitRenewalPeriod,
    AiGatewayUsageTrackingConfig,
    AutoCaptureConfigInput,
    DataframeSplitInput,
    EmailNotifications,
    EndpointCoreConfigInput,
    EndpointStateConfigUpdate,
    EndpointStateReady,
    EndpointTag,
    RateLimit,
    RateLimitRenewalPeriod,
    Route,
    ServedEntityInput,
    ServedModelInput,
    ServedModelStateDeployment,
    TrafficConfig,
)
from mlflow.deployments import get_deploy_client
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

from millpond.bundles.deploying import Deployment
from millpond.bundles.reading import read_bundle
from millpond.cli.api import Api
from millpond.features import EndpointCoreConfig, FeatureEngineeringClient, FeatureLookup, ServedEntity
from tests.clients.mlflow_session import signed_in
from tests.servers import Server, run_cli, running_server, server_of, up, wait_until

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(900)]  # the clients' warnings are not ours
READY = EndpointStateReady.READY
PATIENCE = timedelta(minutes=5)
PATCH_OP = PatchSchema.URN_IETF_PARAMS_SCIM_API_MESSAGES_2_0_PATCH_OP
ROWS = pd.DataFrame({"tenure": [1.0, 60.0, 3.0, 48.0], "charges": [90.0, 20.0, 80.0, 30.0]})
RECORDS = ROWS.to_dict(orient="records")


PYFUNCS = Path(__file__).parents[1] / "serving" / "pyfuncs"


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A server, and a three-level model with versions 1 (good), 2 (good, other way round), 3 (broken) and 4 (answers
    in parts)."""

    server: Server
    name: str

    @property
    def sdk(self) -> WorkspaceClient:
        """A client as the administrator."""
        return sdk_of(self.server, self.server.token)


def sdk_of(server: Server, token: str) -> WorkspaceClient:
    return WorkspaceClient(host=server.url, token=token, auth_type="pat")


def register_models(server: Server) -> Registered:
    schema = f"serving_{uuid.uuid4().hex[:12]}"
    status, body = server.call("POST", "/api/2.1/unity-catalog/schemas", {"name": schema, "catalog_name": "main"})
    assert status in {200, 201}, body
    name = f"main.{schema}.churn_predictor"
    with signed_in(server) as client:
        experiment = client.create_experiment(f"serving-{uuid.uuid4().hex}")
        with mlflow.start_run(experiment_id=experiment):
            for labels in ([1, 0, 1, 0], [0, 1, 0, 1]):
                model = LogisticRegression().fit(ROWS, labels)
                mlflow.sklearn.log_model(
                    model,
                    name="model",
                    signature=infer_signature(ROWS, np.array(labels)),
                    input_example=ROWS.head(1),
                    pip_requirements=["mlflow", "scikit-learn"],
                    registered_model_name=name,
                )
            for source in ("broken", "teller"):
                mlflow.pyfunc.log_model(
                    name="model",
                    python_model=str(PYFUNCS / f"{source}.py"),
                    pip_requirements=["mlflow"],
                    registered_model_name=name,
                )
    return Registered(server=server, name=name)


@pytest.fixture(scope="module")
def registered(any_server: Server) -> Registered:
    return register_models(any_server)


@pytest.fixture(scope="module")
def endpoint(registered: Registered) -> Iterator[str]:
    """An endpoint that serves version 1."""
    name = f"churn-{uuid.uuid4().hex[:8]}"
    created = registered.sdk.serving_endpoints.create_and_wait(
        name, config=config_of(registered.name, "1"), tags=[EndpointTag("team", "ml")], timeout=PATIENCE
    )
    assert created.state.ready is READY
    yield name
    registered.sdk.serving_endpoints.delete(name)


def config_of(model: str, *versions: str) -> EndpointCoreConfigInput:
    entities = [
        ServedEntityInput(entity_name=model, entity_version=version, name=f"v{version}") for version in versions
    ]
    routes = [Route(served_entity_name=f"v{v}", traffic_percentage=0 if i else 100) for i, v in enumerate(versions)]
    return EndpointCoreConfigInput(name="", served_entities=entities, traffic_config=TrafficConfig(routes=routes))


def test_the_waiter_ends_at_once_and_the_endpoint_tells_what_it_serves(registered: Registered, endpoint: str) -> None:
    found = registered.sdk.serving_endpoints.get(endpoint)
    assert found.state.config_update is EndpointStateConfigUpdate.NOT_UPDATING
    assert found.creator == registered.server.user
    (entity,) = found.config.served_entities
    assert (entity.name, entity.entity_name, entity.entity_version) == ("v1", registered.name, "1")
    assert entity.state.deployment is ServedModelStateDeployment.DEPLOYMENT_READY
    assert found.pending_config is None
    assert endpoint in [listed.name for listed in registered.sdk.serving_endpoints.list()]


def test_every_input_shape_gives_the_models_own_prediction(registered: Registered, endpoint: str) -> None:
    with signed_in(registered.server):
        own = mlflow.pyfunc.load_model(f"models:/{registered.name}/1").predict(ROWS).tolist()
    ask = registered.sdk.serving_endpoints.query
    split = DataframeSplitInput(columns=list(ROWS.columns), data=ROWS.values.tolist())
    answers = [
        ask(endpoint, dataframe_records=RECORDS),
        ask(endpoint, dataframe_split=split),
        ask(endpoint, instances=RECORDS),
        ask(endpoint, inputs={name: ROWS[name].tolist() for name in ROWS}),
        ask(endpoint, dataframe_records=RECORDS, client_request_id="42"),
    ]
    assert [answer.predictions for answer in answers] == [own] * len(answers)
    assert {answer.served_model_name for answer in answers} == {"v1"}


def test_curl_gets_the_same(registered: Registered, endpoint: str) -> None:
    done = subprocess.run(
        [
            "curl", "-sS", "-H", f"Authorization: Bearer {registered.server.token}", "-H", "Content-Type: text/csv",
            "--data-binary", ROWS.to_csv(index=False),
            f"{registered.server.url}/serving-endpoints/{endpoint}/invocations",
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == {"predictions": [1, 0, 1, 0]}


def test_bad_input_is_a_bad_request_that_names_the_column(registered: Registered, endpoint: str) -> None:
    with pytest.raises(BadRequest, match=r"missing inputs \['charges'\]"):
        registered.sdk.serving_endpoints.query(endpoint, dataframe_records=[{"tenure": 1.0}])
    with pytest.raises(BadRequest, match="charges"):
        registered.sdk.serving_endpoints.query(endpoint, dataframe_records=[{"tenure": 1.0, "charges": "much"}])


def test_reports_parse(registered: Registered, endpoint: str) -> None:
    sdk = registered.sdk.serving_endpoints
    assert b"openapi" in read(sdk.get_open_api(endpoint).contents)
    assert "answered its own input example" in sdk.build_logs(endpoint, "v1").logs
    assert isinstance(sdk.logs(endpoint, "v1").logs, str)
    sdk.query(endpoint, dataframe_records=RECORDS)
    assert f'endpoint="{endpoint}"'.encode() in read(sdk.export_metrics(endpoint).contents)
    tags = sdk.patch(endpoint, add_tags=[EndpointTag("stage", "test")], delete_tags=["team"]).tags
    assert [(tag.key, tag.value) for tag in tags] == [("stage", "test")]


def read(contents: Any) -> bytes:
    return contents.read() if isinstance(contents, io.IOBase) or hasattr(contents, "read") else bytes(contents)


def test_updates_move_on_or_fail_and_leave_the_old(registered: Registered) -> None:
    sdk, name = registered.sdk.serving_endpoints, f"updated-{uuid.uuid4().hex[:8]}"
    legacy = ServedModelInput(
        model_name=registered.name, model_version="1", scale_to_zero_enabled=False, workload_size="Small"
    )
    sdk.create_and_wait(name, config=EndpointCoreConfigInput(name=name, served_models=[legacy]), timeout=PATIENCE)
    assert sdk.query(name, dataframe_records=RECORDS).predictions == [1, 0, 1, 0]
    assert sdk.get(name).config.served_models[0].name == "churn_predictor-1"

    wanted = config_of(registered.name, "2")
    waiter = sdk.update_config(name, served_entities=wanted.served_entities, traffic_config=wanted.traffic_config)
    with pytest.raises(ResourceConflict, match="is being updated"):
        sdk.update_config(name, served_entities=wanted.served_entities)
    assert waiter.result(timeout=PATIENCE).config.config_version == 2
    assert sdk.query(name, dataframe_records=RECORDS).predictions == [0, 1, 0, 1]

    with pytest.raises(OperationFailed, match="UPDATE_FAILED"):
        sdk.update_config_and_wait(
            name, served_entities=config_of(registered.name, "3").served_entities, timeout=PATIENCE
        )
    after = sdk.get(name)
    assert after.state.ready is READY
    (failed,) = after.pending_config.served_entities
    assert failed.state.deployment is ServedModelStateDeployment.DEPLOYMENT_FAILED
    assert "RuntimeError: the weights are missing" in failed.state.deployment_state_message
    assert sdk.query(name, dataframe_records=RECORDS).predictions == [0, 1, 0, 1]

    sdk.delete(name)
    with pytest.raises(NotFound, match=f"Endpoint '{name}' does not exist"):
        sdk.get(name)
    with pytest.raises(NotFound):
        sdk.query(name, dataframe_records=RECORDS)


def test_a_first_deployment_that_fails_stays_to_be_looked_at(registered: Registered) -> None:
    sdk, name = registered.sdk.serving_endpoints, f"failed-{uuid.uuid4().hex[:8]}"
    with pytest.raises(OperationFailed, match="UPDATE_FAILED"):
        sdk.create_and_wait(name, config=config_of(registered.name, "3"), timeout=PATIENCE)
    assert sdk.get(name).state.ready is EndpointStateReady.NOT_READY
    with pytest.raises(InvalidState, match="no configuration that works"):
        sdk.query(name, dataframe_records=RECORDS)
    sdk.delete(name)


def test_another_users_model_and_endpoint_do_not_exist(registered: Registered, endpoint: str) -> None:
    stranger = sdk_of(registered.server, registered.server.new_user(f"s-{uuid.uuid4().hex[:8]}@example.com"))
    with pytest.raises(NotFound):
        stranger.serving_endpoints.create("stolen", config=config_of(registered.name, "1"))
    with pytest.raises(NotFound):
        stranger.serving_endpoints.query(endpoint, dataframe_records=RECORDS)
    with pytest.raises(NotFound):
        stranger.serving_endpoints.get(endpoint)
    assert endpoint not in [listed.name for listed in stranger.serving_endpoints.list()]


def test_a_version_that_does_not_exist_is_not_found(registered: Registered) -> None:
    for version in ("99", "latest", "-1"):
        with pytest.raises(NotFound):
            registered.sdk.serving_endpoints.create("nothing", config=config_of(registered.name, version))
    with pytest.raises(NotFound):
        registered.sdk.serving_endpoints.create("nothing", config=config_of("main.nowhere.model", "1"))


# Aliases and stages


@pytest.mark.parametrize("reference", ["@champion", "Production"])
def test_an_endpoint_follows_what_the_registry_says(registered: Registered, reference: str) -> None:
    sdk, name = registered.sdk.serving_endpoints, f"following-{uuid.uuid4().hex[:8]}"
    separator = "" if reference.startswith("@") else "/"
    entity = ServedEntityInput(entity_name=f"models:/{registered.name}{separator}{reference}", workload_size="Small")
    with signed_in(registered.server) as client:
        point(client, registered.name, reference, "1")
        sdk.create_and_wait(name, config=EndpointCoreConfigInput(name=name, served_entities=[entity]), timeout=PATIENCE)
        assert sdk.query(name, dataframe_records=RECORDS).predictions == [1, 0, 1, 0]
        point(client, registered.name, reference, "2")
    moved = [0, 1, 0, 1]
    wait_until(lambda: sdk.query(name, dataframe_records=RECORDS).predictions == moved, timeout_s=30, what="the move")
    (shown,) = sdk.wait_get_serving_endpoint_not_updating(name).config.served_entities
    assert (shown.name, shown.entity_version) == (f"churn_predictor-{reference.strip('@')}", "2")
    assert f"'{reference.strip('@')}'" in shown.state.deployment_state_message
    sdk.delete(name)


@pytest.mark.parametrize("reference", ["@beacon", "Staging"])
def test_the_network_stays_where_an_administrator_put_it(registered: Registered, reference: str) -> None:
    """Whoever may move the alias or stage does not give it to a version of theirs; an administrator does."""
    sdk, name, who = registered.sdk, f"open-{uuid.uuid4().hex[:8]}", f"mover-{uuid.uuid4().hex[:8]}@example.com"
    mover, (catalog, schema, _) = registered.server.new_user(who), registered.name.split(".")
    for kind, full, right in (
        ("catalog", catalog, [Privilege.USE_CATALOG]),
        ("schema", f"{catalog}.{schema}", [Privilege.USE_SCHEMA]),
    ):
        sdk.grants.update(kind, full, changes=[PermissionsChange(principal=who, add=right)])
    owner = sdk.registered_models.get(registered.name).owner
    sdk.registered_models.update(registered.name, owner=who)
    entity = ServedEntityInput(
        entity_name=registered.name, entity_version=reference, environment_vars={"MILLPOND_NETWORK": "true"}
    )
    with signed_in(registered.server) as client:
        point(client, registered.name, reference, "1")
    config = EndpointCoreConfigInput(name=name, served_entities=[entity])
    sdk.serving_endpoints.create_and_wait(name, config=config, timeout=PATIENCE)
    with signed_in(registered.server, mover) as client:
        point(client, registered.name, reference, "4")

    def shown() -> Any:
        return sdk.serving_endpoints.get(name).config.served_entities[0]

    told = "Version 1 stays: an administrator opened the network for it (MILLPOND_NETWORK), but nobody who is one let"
    wait_until(lambda: told in shown().state.deployment_state_message, timeout_s=30, what="why it stays")
    assert shown().entity_version == "1"
    with signed_in(registered.server) as client:
        point(client, registered.name, reference, "1")
        point(client, registered.name, reference, "4")
    wait_until(lambda: shown().entity_version == "4", timeout_s=60, what="what the administrator moved")
    sdk.registered_models.update(registered.name, owner=owner)
    sdk.serving_endpoints.delete(name)


def point(client: Any, model: str, reference: str, version: str) -> None:
    if reference.startswith("@"):
        client.set_registered_model_alias(model, reference[1:], version)
    else:
        client.transition_model_version_stage(model, version, reference, archive_existing_versions=True)


# Limits, mail and the other client


def test_rate_limits_are_set_shown_and_kept_to(registered: Registered) -> None:
    sdk, name = registered.sdk.serving_endpoints, f"limited-{uuid.uuid4().hex[:8]}"
    sdk.create_and_wait(name, config=config_of(registered.name, "1"), timeout=PATIENCE)
    set_by_put = sdk.put(name, rate_limits=[RateLimit(calls=50, renewal_period=RateLimitRenewalPeriod.MINUTE)])
    assert [limit.as_dict() for limit in set_by_put.rate_limits] == [
        {"key": "endpoint", "calls": 50, "renewal_period": "minute"}
    ]
    minute = AiGatewayRateLimitRenewalPeriod.MINUTE
    each = AiGatewayRateLimit(renewal_period=minute, calls=2, key=AiGatewayRateLimitKey.USER)
    assert sdk.put_ai_gateway(name, rate_limits=[each]).rate_limits == [each]
    assert sdk.get(name).ai_gateway.rate_limits == [each]
    config = Config(host=registered.server.url, token=registered.server.token, retry_timeout_seconds=1)
    impatient = WorkspaceClient(config=config).serving_endpoints
    assert [impatient.query(name, dataframe_records=RECORDS).predictions for _ in range(2)] == [[1, 0, 1, 0]] * 2
    url = f"{registered.server.url}/serving-endpoints/{name}/invocations"
    headers = {"Authorization": f"Bearer {registered.server.token}"}
    refused = requests.post(url, json={"dataframe_records": RECORDS}, headers=headers, timeout=30)
    assert (refused.status_code, refused.json()["error_code"]) == (429, "RESOURCE_EXHAUSTED")
    assert 1 < int(refused.headers["Retry-After"]) <= 121
    sdk.put_ai_gateway(name, rate_limits=[])
    assert sdk.get(name).ai_gateway is None
    assert sdk.query(name, dataframe_records=RECORDS).predictions == [1, 0, 1, 0]
    with pytest.raises(NotImplemented, match="usage_tracking_config is not supported"):
        sdk.put_ai_gateway(name, usage_tracking_config=AiGatewayUsageTrackingConfig(enabled=True))
    with pytest.raises(BadRequest, match=r"smtp\.host"):
        sdk.update_notifications(name, email_notifications=EmailNotifications(on_update_success=["a@b.org"]))
    sdk.delete(name)


def test_the_deployments_client_of_mlflow_does_what_it_says(registered: Registered) -> None:
    name = f"deployed-{uuid.uuid4().hex[:8]}"
    entity = {"entity_name": registered.name, "entity_version": "1", "workload_size": "Small", "name": "v1"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABRICKS_HOST", registered.server.url)
        patch.setenv("DATABRICKS_TOKEN", registered.server.token)
        client = get_deploy_client("databricks")
        limits = [{"key": "user", "renewal_period": "minute", "calls": 1000}]
        client.create_endpoint(
            config={"name": name, "config": {"served_entities": [entity]}, "ai_gateway": {"rate_limits": limits}}
        )
        registered.sdk.serving_endpoints.wait_get_serving_endpoint_not_updating(name, timeout=PATIENCE)
        assert client.predict(endpoint=name, inputs={"dataframe_records": RECORDS}).predictions == [1, 0, 1, 0]
        assert client.get_endpoint(name).ai_gateway == {"rate_limits": limits}
        assert name in [each["name"] for each in client.list_endpoints()]
        client.update_endpoint_config(name, {"served_entities": [entity | {"entity_version": "2"}]})
        registered.sdk.serving_endpoints.wait_get_serving_endpoint_not_updating(name, timeout=PATIENCE)
        assert client.predict(endpoint=name, inputs={"dataframe_records": RECORDS}).predictions == [0, 1, 0, 1]
        client.update_endpoint_config(name, {"served_entities": [entity | {"entity_version": "4"}]})
        registered.sdk.serving_endpoints.wait_get_serving_endpoint_not_updating(name, timeout=PATIENCE)
        parts = client.predict_stream(endpoint=name, inputs={"inputs": {"do": "raise", "count": 2}})
        assert [next(parts)["number"] for _ in range(2)] == [0, 1]
        assert "no luck" in next(parts)["databricks_output"]["error"]["message"]
        assert list(parts) == []
        client.update_endpoint_tags(name, {"add_tags": [{"key": "by", "value": "mlflow"}]})
        client.update_endpoint_rate_limits(name, {"rate_limits": limits})
        client.delete_endpoint(name)
    with pytest.raises(NotFound):
        registered.sdk.serving_endpoints.get(name)


# The server dies


@pytest.mark.long
def test_endpoints_come_back_after_kill_9_and_leave_no_worker_behind(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        registered = register_models(server)
        sdk = registered.sdk.serving_endpoints
        config = config_of(registered.name, "1")
        config.auto_capture_config = AutoCaptureConfigInput(catalog_name="main", schema_name="default")
        sdk.create_and_wait("steady", config=config, timeout=PATIENCE)
        (worker,) = workers_of(server.data_dir)

        kill(parent_of(worker))  # the server alone: its supervisor starts another
        wait_until(lambda: not alive(worker), what="the worker ending with its server")
        wait_until(lambda: workers_of(server.data_dir), timeout_s=120, what="another worker")
        check_answers(sdk, "steady", [1, 0, 1, 0])

        serve_features(server, "features")
        sdk.create("begun", config=config_of(registered.name, "2"))
        tree = processes_below(server.state["pid"])
        with under_load(server, "steady") as answered:
            wait_until(lambda: len(answered) > 200, timeout_s=60, what="some answers")
            for pid in (server.state["pid"], *tree):
                kill(pid)
            wait_until(lambda: not any(alive(pid) for pid in tree), what="the whole tree being gone")
        up(server.data_dir)
        server = server_of(server.data_dir)
        sdk = sdk_of(server, server.token).serving_endpoints
        check_answers(sdk, "steady", [1, 0, 1, 0])
        check_answers(sdk, "begun", [0, 1, 0, 1])
        assert sdk.query("features", dataframe_records=[{"id": 1}]).outputs == [{"id": 1, "spend": 2.5}]
        wait_until(lambda: set(answered) <= set(captured_ids(server)), timeout_s=30, what="each answer in its table")
        found = captured_ids(server)
        assert len(found) == len(set(found)), "some are there twice"
        workers = workers_of(server.data_dir)
        assert len(workers) == 2
        run_cli("down", "--data-dir", str(server.data_dir))
        wait_until(lambda: not any(alive(pid) for pid in workers), what="no worker being left")


@contextmanager
def under_load(server: Server, name: str) -> Iterator[list[str]]:
    """Ask an endpoint from several threads until the server is gone; the ids of all requests that were answered."""
    answered: list[str] = []
    url, headers = f"{server.url}/serving-endpoints/{name}/invocations", {"Authorization": f"Bearer {server.token}"}

    def ask() -> None:
        with requests.Session() as session, contextlib.suppress(requests.exceptions.RequestException):
            while True:
                answer = session.post(url, json={"dataframe_records": RECORDS}, headers=headers, timeout=60)
                if answer.ok:
                    answered.append(answer.headers["x-request-id"])

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    yield answered
    for thread in threads:
        thread.join(60)


def captured_ids(server: Server) -> list[str]:
    """The requests in the inference table."""
    text = "SELECT databricks_request_id FROM main.default.steady_payload"
    statement = {"statement": text, "warehouse_id": "starter", "wait_timeout": "50s"}
    _, told = server.call("POST", "/api/2.0/sql/statements", statement)
    return [row[0] for row in told["result"].get("data_array", [])] if "result" in told else []


def serve_features(server: Server, name: str) -> None:
    """An endpoint that gives features by keys, without a process of its own."""
    for text in (
        "CREATE TABLE main.default.spending (id BIGINT NOT NULL, spend DOUBLE, CONSTRAINT pk PRIMARY KEY (id))",
        "INSERT INTO main.default.spending VALUES (1, 2.5)",
    ):
        statement = {"statement": text, "warehouse_id": "starter", "wait_timeout": "50s"}
        _, told = server.call("POST", "/api/2.0/sql/statements", statement)
        assert told["status"]["state"] == "SUCCEEDED", told
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABRICKS_HOST", server.url)
        patch.setenv("DATABRICKS_TOKEN", server.token)
        fe = FeatureEngineeringClient()
        fe.create_online_store(name="store", capacity="CU_1")
        online = "main.default.spending_online"
        fe.publish_table(online_store="store", source_table_name="main.default.spending", online_table_name=online)
        path = f"/api/millpond/online-tables/{online}"
        wait_until(lambda: server.call("GET", path)[1]["state"] == "ONLINE", timeout_s=60, what="the rows online")
        lookup = FeatureLookup(table_name="main.default.spending", lookup_key="id")
        fe.create_feature_spec(name="main.default.spec", features=[lookup])
        config = EndpointCoreConfig(served_entities=ServedEntity(feature_spec_name="main.default.spec"))
        fe.create_feature_serving_endpoint(name=name, config=config)


def check_answers(sdk: Any, name: str, expected: list[int]) -> None:
    def ready() -> bool:
        try:
            return sdk.get(name).state.ready is READY
        except requests.exceptions.ConnectionError:  # the server has just been killed
            return False

    wait_until(ready, timeout_s=180, what=f"{name} being ready")
    assert sdk.query(name, dataframe_records=RECORDS).predictions == expected


def workers_of(data_dir: Path) -> list[int]:
    """Processes whose working directory is a worker's."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if (directory / "cwd").readlink().is_relative_to(data_dir / "run" / "serving"):
                found.append(int(directory.name))
        except OSError:
            continue
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def processes_below(pid: int) -> list[int]:
    """Every descendant of a process."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, frontier = [], [pid]
    while frontier:
        children = parents.get(frontier.pop(), [])
        found += children
        frontier += children
    return found


# The data plane with OAuth


def test_a_service_principal_asks_through_the_data_plane(registered: Registered, endpoint: str) -> None:
    sdk = registered.sdk
    principal = sdk.service_principals.create(display_name=f"asker-{uuid.uuid4().hex[:8]}")
    secret = sdk.service_principal_secrets_proxy.create(service_principal_id=principal.id).secret
    (admins,) = sdk.groups.list(filter='displayName eq "admins"')
    joined = Patch(op=PatchOp.ADD, path="members", value=[{"value": principal.id}])
    sdk.groups.patch(admins.id, operations=[joined], schemas=[PATCH_OP])
    own = WorkspaceClient(
        host=registered.server.url,
        client_id=principal.application_id,
        client_secret=secret,
        auth_type="oauth-m2m",
    )
    answer = own.serving_endpoints_data_plane.query(endpoint, dataframe_records=RECORDS)
    assert (answer.predictions, answer.served_model_name) == ([1, 0, 1, 0], "v1")
    (info,) = own.serving_endpoints_data_plane._data_plane_details.values()
    token = own.serving_endpoints_data_plane._dpts.token(info.endpoint_url, info.authorization_details)
    stolen = token.access_token  # good for that endpoint, and for nothing else that its holder may do
    for method, path, body in (
        ("GET", f"/api/2.0/serving-endpoints/{endpoint}", None),
        ("POST", "/api/2.0/token/create", {}),
        ("POST", "/serving-endpoints/another/invocations", {"dataframe_records": RECORDS}),
        ("POST", "/serving-endpoints/chat/completions", {"model": endpoint, "messages": []}),
    ):
        assert registered.server.call(method, path, body, token=stolen)[0] == 403, path
    asked = f"/api/millpond/audit?user={principal.application_id}&object_name={endpoint}"
    events = wait_until(lambda: registered.server.call("GET", asked)[1]["events"], what="the audit")
    assert {each["user_identity"]["email"] for each in events} == {principal.application_id}
    sdk.service_principals.delete(principal.id)


BUNDLE = """
bundle: {name: serve}
workspace: {root_path: "ROOT"}
variables: {team: {default: ml}}
resources:
  model_serving_endpoints:
    churn:
      name: NAME
      config: {served_entities: [{name: v1, entity_name: MODEL, entity_version: "1", workload_size: Small}]}
      tags: [{key: "team-${var.team}", value: x}]
      permissions: [{level: CAN_QUERY, group_name: users}]
targets: {only: {}}
"""


def test_a_bundle_declares_an_endpoint(registered: Registered, tmp_path: Path) -> None:
    sdk, name = registered.sdk, f"bundled-{uuid.uuid4().hex[:8]}"
    catalog, schema, _ = registered.name.split(".")
    sdk.volumes.create(catalog, schema, name, VolumeType.MANAGED)
    text = BUNDLE.replace("ROOT", f"/Volumes/{catalog}/{schema}/{name}/b").replace("NAME", name)
    (tmp_path / "databricks.yml").write_text(text.replace("MODEL", registered.name))
    api = Api(url=registered.server.url, token=registered.server.token)

    def deployment(team: str) -> Deployment:
        return Deployment(read_bundle(tmp_path, None, {"team": team}), api)

    assert deployment("ml").deploy(lambda _: None, lambda _: True)
    found = sdk.serving_endpoints.wait_get_serving_endpoint_not_updating(name, timeout=PATIENCE)
    assert [each.entity_version for each in found.config.served_entities] == ["1"]
    assert "CAN_QUERY" in str(sdk.serving_endpoints.get_permissions(found.id).as_dict())
    assert deployment("other").deploy(lambda _: None, lambda _: True)
    assert [tag.key for tag in sdk.serving_endpoints.get(name).tags] == ["team-other"]
    assert not deployment("other").plan().changes
    assert deployment("other").destroy(lambda _: None, lambda _: True)
    assert name not in [each.name for each in sdk.serving_endpoints.list()]
