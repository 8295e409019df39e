"""Nobody reaches another user's experiments, runs, models or artifacts, by any door that mlflow or a browser knows."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from requests import HTTPError

from tests.clients.mlflow_session import signed_in
from tests.servers import Server

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # the clients' warnings are not ours
    pytest.mark.parametrize("any_server", ["postgresql"], indirect=True),  # the stricter of the databases
]


@dataclass(frozen=True)
class World:
    """What Alice has, and two users."""

    server: Server
    alice: str
    alice_name: str
    bob: str
    bob_name: str
    experiment_id: str
    experiment_name: str
    run_id: str
    model_id: str
    trace_id: str
    registered: str
    shared_run_id: str


@pytest.fixture(scope="module")
def world(any_server: Server) -> World:
    tail = uuid.uuid4().hex[:8]
    alice_name, bob_name = f"alice-{tail}@example.org", f"bob-{tail}@example.org"
    alice, bob = any_server.new_user(alice_name), any_server.new_user(bob_name)
    experiment_name = f"/Users/{alice_name}/secret"
    registered = f"alices-model-{tail}"
    with signed_in(any_server, alice) as client:
        experiment_id = client.create_experiment(experiment_name)
        with mlflow.start_run(experiment_id=experiment_id) as run:
            mlflow.log_metric("auc", 0.9)
            mlflow.log_text("nobody else reads this", "notes.txt")
            model = mlflow.create_external_model(name="m", source_run_id=run.info.run_id)
        client.create_registered_model(registered)
        client.create_model_version(registered, f"runs:/{run.info.run_id}/notes.txt", run.info.run_id)
        mlflow.set_experiment(experiment_id=experiment_id)
        with mlflow.start_span("secret span") as span:
            pass
        mlflow.flush_trace_async_logging()
        shared_run_id = client.create_run("0").info.run_id
    return World(
        any_server, alice, alice_name, bob, bob_name, experiment_id, experiment_name, run.info.run_id, model.model_id,
        span.trace_id, registered, shared_run_id,
    )  # fmt: skip


@pytest.fixture
def bob(world: World):
    with signed_in(world.server, world.bob) as client:
        yield client


Ask = Callable[[MlflowClient, World], Any]

REFUSED: dict[str, Ask] = {
    "get experiment": lambda c, w: c.get_experiment(w.experiment_id),
    "delete experiment": lambda c, w: c.delete_experiment(w.experiment_id),
    "rename experiment": lambda c, w: c.rename_experiment(w.experiment_id, f"mine-{uuid.uuid4().hex}"),
    "tag experiment": lambda c, w: c.set_experiment_tag(w.experiment_id, "a", "b"),
    "create run": lambda c, w: c.create_run(w.experiment_id),
    "get run": lambda c, w: c.get_run(w.run_id),
    "delete run": lambda c, w: c.delete_run(w.run_id),
    "end run": lambda c, w: c.set_terminated(w.run_id),
    "log metric": lambda c, w: c.log_metric(w.run_id, "auc", 0),
    "log batch": lambda c, w: c.log_batch(w.run_id, metrics=[Metric("auc", 0, 0, 0)]),
    "log param": lambda c, w: c.log_param(w.run_id, "p", 1),
    "set tag": lambda c, w: c.set_tag(w.run_id, "a", "b"),
    "delete tag": lambda c, w: c.delete_tag(w.run_id, "mlflow.runName"),
    "metric history": lambda c, w: c.get_metric_history(w.run_id, "auc"),
    "list artifacts": lambda c, w: c.list_artifacts(w.run_id),
    "download artifact": lambda c, w: c.download_artifacts(w.run_id, "notes.txt"),
    "upload artifact": lambda c, w: c.log_text(w.run_id, "mine now", "notes.txt"),
    "get logged model": lambda c, w: c.get_logged_model(w.model_id),
    "tag logged model": lambda c, w: c.set_logged_model_tags(w.model_id, {"a": "b"}),
    "delete logged model": lambda c, w: c.delete_logged_model(w.model_id),
    "metric on a logged model": lambda c, w: c.log_metric(c.create_run("0").info.run_id, "a", 1, model_id=w.model_id),
    "get trace": lambda c, w: c.get_trace(w.trace_id),
    "tag trace": lambda c, w: c.set_trace_tag(w.trace_id, "a", "b"),
    "delete traces": lambda c, w: _deleted(c.delete_traces(w.experiment_id, trace_ids=[w.trace_id])),
    "get model": lambda c, w: c.get_registered_model(w.registered),
    "describe model": lambda c, w: c.update_registered_model(w.registered, "mine"),
    "rename model": lambda c, w: c.rename_registered_model(w.registered, f"mine-{uuid.uuid4().hex}"),
    "delete model": lambda c, w: c.delete_registered_model(w.registered),
    "get version": lambda c, w: c.get_model_version(w.registered, "1"),
    "stage": lambda c, w: c.transition_model_version_stage(w.registered, "1", "Production"),
    "alias": lambda c, w: c.set_registered_model_alias(w.registered, "a", "1"),
    "download uri": lambda c, w: c.get_model_version_download_uri(w.registered, "1"),
    "version of another's run": lambda c, w: _version_of(c, w.run_id),
    "another's folder": lambda c, w: c.create_experiment(f"/Users/{w.alice_name}/x"),
    "rename into another's folder": lambda c, w: c.rename_experiment(
        c.create_experiment(uuid.uuid4().hex), f"/users/{w.alice_name}/x"
    ),
    "change the default experiment": lambda c, w: c.rename_experiment("0", "mine"),
    "change another's run in the default experiment": lambda c, w: c.set_tag(w.shared_run_id, "a", "b"),
    "delete another's run in the default experiment": lambda c, w: c.delete_run(w.shared_run_id),
    "choose where artifacts lie": lambda c, w: c.create_experiment(uuid.uuid4().hex, artifact_location="file:///etc"),
    "create a webhook": lambda c, w: c.create_webhook("w", "https://example.org", ["registered_model.created"]),
}


def _deleted(count: int) -> None:
    if not count:
        raise MlflowException("nothing was deleted")


def _version_of(client: MlflowClient, run_id: str) -> Any:
    name = f"bobs-{uuid.uuid4().hex}"
    client.create_registered_model(name)
    return client.create_model_version(name, f"runs:/{run_id}/notes.txt", run_id)


@pytest.mark.parametrize("ask", REFUSED.values(), ids=REFUSED.keys())
def test_the_client_is_refused(bob: MlflowClient, world: World, ask: Ask) -> None:
    with pytest.raises((MlflowException, HTTPError)):
        ask(bob, world)


def test_nothing_was_changed_by_the_refused(world: World) -> None:
    with signed_in(world.server, world.alice) as alice:
        run = alice.get_run(world.run_id)
        assert (run.data.metrics, run.data.params, run.info.lifecycle_stage) == ({"auc": 0.9}, {}, "active")
        assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/notes.txt") == "nobody else reads this"
        assert alice.get_model_version(world.registered, "1").current_stage == "None"
        assert alice.get_logged_model(world.model_id).tags.get("a") is None
        assert alice.get_trace(world.trace_id).info.tags.get("a") is None


def test_searches_do_not_find_anothers(bob: MlflowClient, world: World) -> None:
    ids = [world.experiment_id]
    assert bob.search_runs(ids) == []
    assert bob.search_logged_models(ids) == []
    assert bob.search_traces(experiment_ids=ids) == []
    assert bob.get_experiment_by_name(world.experiment_name) is None
    assert world.experiment_id not in [experiment.experiment_id for experiment in bob.search_experiments()]
    assert world.registered not in [model.name for model in bob.search_registered_models()]
    assert bob.search_model_versions(f"name = '{world.registered}'") == []
    assert bob.search_model_versions(f"run_id = '{world.run_id}'") == []


def test_the_default_experiment_is_read_by_all(bob: MlflowClient, world: World) -> None:
    assert bob.get_run(world.shared_run_id).info.user_id == world.alice_name


DOORS = {
    "graphql run": ("POST", "/graphql", {
        "query": "query($i: String!) { mlflowGetRun(input: {runId: $i}) { run { info { runId } } } }",
        "variables": {"i": "RUN"},
    }),
    "graphql runs": ("POST", "/graphql", {
        "query": 'query($e: [String]) { mlflowSearchRuns(input: {experimentIds: $e}) { runs { info { runId } } } }',
        "variables": {"e": ["EXPERIMENT"]},
    }),
    "ui run artifact": ("GET", "/get-artifact?run_uuid=RUN&path=notes.txt", None),
    "ui run artifact below /ml": ("GET", "/ml/get-artifact?run_uuid=RUN&path=notes.txt", None),
    "ui version artifact": ("GET", "/model-versions/get-artifact?name=MODEL&version=1&path=x", None),
    "ui upload": ("POST", "/ajax-api/2.0/mlflow/upload-artifact?run_uuid=RUN&path=x.txt", {"a": 1}),
    "proxy read": ("GET", "/api/2.0/mlflow-artifacts/artifacts/EXPERIMENT/RUN/artifacts/notes.txt", None),
    "proxy read, the pages' way": (
        "GET", "/ajax-api/2.0/mlflow-artifacts/artifacts/EXPERIMENT/RUN/artifacts/notes.txt", None,
    ),
    "proxy write": ("PUT", "/api/2.0/mlflow-artifacts/artifacts/EXPERIMENT/RUN/artifacts/notes.txt", {"a": 1}),
    "proxy delete": ("DELETE", "/api/2.0/mlflow-artifacts/artifacts/EXPERIMENT/RUN/artifacts", None),
    "proxy list": ("GET", "/api/2.0/mlflow-artifacts/artifacts?path=EXPERIMENT/RUN/artifacts", None),
    "proxy list of all": ("GET", "/api/2.0/mlflow-artifacts/artifacts", None),
    "another's run in the default experiment": (
        "PUT", "/api/2.0/mlflow-artifacts/artifacts/0/SHARED/artifacts/x.txt", {"a": 1},
    ),
    "bulk history": ("GET", "/ajax-api/2.0/mlflow/metrics/get-history-bulk?run_id=RUN&metric_key=auc", None),
    "bulk intervals": (
        "GET", "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval?run_ids=RUN&metric_key=auc&max_results=10", None,
    ),
    "datasets": ("POST", "/ajax-api/2.0/mlflow/experiments/search-datasets", {"experiment_ids": ["EXPERIMENT"]}),
    "trace artifact": ("GET", "/ajax-api/3.0/mlflow/get-trace-artifact?request_id=TRACE", None),
    "spans into another's experiment": ("POST", "/v1/traces", {"resourceSpans": []}),
    "presigned upload": ("POST", "/api/2.0/mlflow/artifacts/presigned-upload-url", {"run_id": "RUN", "path": "x"}),
    "multipart upload": ("POST", "/api/2.0/mlflow-artifacts/mpu/create/EXPERIMENT/RUN/artifacts/x", {"path": "x"}),
    "gateway secrets": ("GET", "/api/3.0/mlflow/gateway/secrets/list", None),
    "gateway call": ("POST", "/gateway/any/mlflow/invocations", {}),
    "scorer": ("POST", "/ajax-api/3.0/mlflow/scorer/invoke", {}),
    "jobs": ("GET", "/ajax-api/3.0/mlflow/jobs/1", None),
    "assistant": ("POST", "/ajax-api/3.0/mlflow/assistant/message", {"message": "hello"}),
    "demo": ("POST", "/ajax-api/3.0/mlflow/demo/generate", {}),
    "workspaces": ("GET", "/api/3.0/mlflow/workspaces", None),
    "review queues": ("GET", "/api/3.0/mlflow/review-queues/list?experiment_id=EXPERIMENT", None),
    "prompt jobs": ("GET", "/api/3.0/mlflow/prompt-optimization/jobs/search?experiment_id=EXPERIMENT", None),
}  # fmt: skip


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS.keys())
def test_no_door_of_the_pages_or_the_proxy_opens(world: World, door: tuple[str, str, Any]) -> None:
    method, path, body = door
    status, answer = world.server.call(method, _fill(path, world), _fill(body, world), token=world.bob)
    assert "nobody else" not in str(answer)
    assert world.run_id not in str((answer or {}).get("data") if isinstance(answer, dict) else answer)
    if status == 200:
        assert _empty(answer), answer
    else:
        assert status in {400, 403, 404, 405, 422, 501}, (status, answer)


def _fill(value: Any, world: World) -> Any:
    if isinstance(value, dict):
        return {key: _fill(item, world) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, world) for item in value]
    if not isinstance(value, str):
        return value
    names = {
        "EXPERIMENT": world.experiment_id, "RUN": world.run_id, "MODEL": world.registered, "TRACE": world.trace_id,
        "SHARED": world.shared_run_id,
    }  # fmt: skip
    for name, text in names.items():
        value = value.replace(name, text)
    return value


def _empty(answer: Any) -> bool:
    """No list, table or object of the answer holds anything."""
    if isinstance(answer, dict):
        return all(_empty(item) for key, item in answer.items() if key not in {"errors", "apiError"})
    return not answer


def test_what_is_granted_is_read_at_once_and_no_longer_when_it_is_revoked(bob: MlflowClient, world: World) -> None:
    """By the reads that are answered before MLflow's handlers, whose statements are kept."""
    name, permissions = world.registered, f"/api/2.0/permissions/registered-models/{world.registered}"
    point = {"name": name, "alias": "champion", "version": "1"}
    assert world.server.call("POST", "/api/2.0/mlflow/registered-models/alias", point, token=world.alice)[0] == 200

    def found() -> list[int]:
        versions = bob.search_model_versions(f"name = '{name}'"), bob.search_registered_models(f"name = '{name}'")
        singles = (
            f"registered-models/get?name={name}", f"model-versions/get?name={name}&version=1",
            f"registered-models/alias?name={name}&alias=champion",
        )  # fmt: skip
        paths = [f"/api/2.0/mlflow/{path}" for path in singles]
        return [*map(len, versions), *(world.server.call("GET", path, token=world.bob)[0] for path in paths)]

    nothing, everything = [0, 0, 404, 404, 404], [1, 1, 200, 200, 200]
    assert found() == nothing
    for level, expected in (("CAN_READ", everything), (None, nothing), ("CAN_READ", everything), (None, nothing)):
        granted = [{"user_name": world.bob_name, "permission_level": level}] if level else []
        status, said = world.server.call("PUT", permissions, {"access_control_list": granted}, token=world.alice)
        assert status == 200, said
        assert found() == expected
