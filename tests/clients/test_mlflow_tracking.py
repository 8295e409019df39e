"""The official mlflow client logs runs here as it does on its own server."""

import math
import uuid

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from tests.clients.mlflow_session import signed_in
from tests.servers import Server

pytestmark = pytest.mark.filterwarnings("ignore")  # the clients' warnings are not ours


@pytest.fixture
def client(any_server: Server):
    with signed_in(any_server) as client:
        yield client


@pytest.fixture
def experiment_id(client: MlflowClient) -> str:
    return client.create_experiment(f"/Users/admin@millpond.local/{uuid.uuid4().hex}")


def test_a_run_carries_the_signed_in_user_whatever_the_client_claims(
    client: MlflowClient, experiment_id: str, any_server: Server
) -> None:
    run = client.create_run(experiment_id, tags={"mlflow.user": "somebody-else"})
    client.set_tag(run.info.run_id, "mlflow.user", "another")
    client.log_batch(run.info.run_id, tags=[mlflow.entities.RunTag("mlflow.user", "a-third")])
    found = client.get_run(run.info.run_id)
    assert (found.info.user_id, found.data.tags["mlflow.user"]) == (any_server.user, any_server.user)


def test_autologged_training_is_recorded_with_its_model(client: MlflowClient, experiment_id: str) -> None:
    features, labels = load_iris(return_X_y=True, as_frame=True)
    mlflow.sklearn.autolog()
    try:
        with mlflow.start_run(experiment_id=experiment_id) as run:
            LogisticRegression(max_iter=200).fit(features, labels)
    finally:
        mlflow.sklearn.autolog(disable=True)
    found = client.get_run(run.info.run_id)
    assert found.data.params["max_iter"] == "200"
    assert found.data.metrics["training_accuracy_score"] > 0.9
    models = client.search_logged_models([experiment_id])
    assert len(models) == 1
    loaded = mlflow.pyfunc.load_model(models[0].model_uri)
    assert len(loaded.predict(features)) == len(features)


def test_metrics_params_tags_and_history_come_back_as_logged(client: MlflowClient, experiment_id: str) -> None:
    with mlflow.start_run(experiment_id=experiment_id) as run:
        for step, value in enumerate([0.5, 0.25, float("nan"), float("inf")]):
            mlflow.log_metric("loss", value, step=step)
        mlflow.log_params({"depth": 6, "unicode": "größe ✓"})
        mlflow.set_tags({"team": "churn", "quote": 'it\'s "quoted"'})
    found = client.get_run(run.info.run_id)
    assert found.data.params == {"depth": "6", "unicode": "größe ✓"}
    assert found.data.tags["quote"] == 'it\'s "quoted"'
    assert found.data.metrics["loss"] == pytest.approx(1.7976931348623157e308)
    values = [metric.value for metric in client.get_metric_history(run.info.run_id, "loss")]
    assert values[:2] == [0.5, 0.25]
    assert math.isnan(values[2])
    assert found.info.status == "FINISHED"


def test_a_parameter_cannot_change(client: MlflowClient, experiment_id: str) -> None:
    run_id = client.create_run(experiment_id).info.run_id
    client.log_param(run_id, "depth", 6)
    client.log_param(run_id, "depth", 6)
    with pytest.raises(MlflowException, match="Changing param values is not allowed"):
        client.log_param(run_id, "depth", 7)


def test_runs_are_found_by_metric_param_and_tag_in_pages(client: MlflowClient, experiment_id: str) -> None:
    for number in range(5):
        run_id = client.create_run(experiment_id, run_name=f"run-{number}").info.run_id
        client.log_metric(run_id, "auc", number / 10)
        client.log_param(run_id, "kind", "odd" if number % 2 else "even")
    found = client.search_runs([experiment_id], "metrics.auc > 0.1 and params.kind = 'even'")
    assert sorted(run.info.run_name for run in found) == ["run-2", "run-4"]
    names: list[str] = []
    token = None
    while True:
        page = client.search_runs([experiment_id], max_results=2, order_by=["metrics.auc DESC"], page_token=token)
        names += [run.info.run_name for run in page]
        token = page.token
        if not token:
            break
    assert names == ["run-4", "run-3", "run-2", "run-1", "run-0"]


def test_a_dataset_input_names_its_table_and_version(client: MlflowClient, experiment_id: str) -> None:
    import pandas as pd

    frame = pd.DataFrame({"x": [1.0, 2.0]})
    dataset = mlflow.data.from_pandas(frame, name="customers", targets=None)
    with mlflow.start_run(experiment_id=experiment_id) as run:
        mlflow.log_input(dataset, context="training")
    inputs = client.get_run(run.info.run_id).inputs.dataset_inputs
    assert [item.dataset.name for item in inputs] == ["customers"]


def test_deleted_runs_and_experiments_can_be_restored(client: MlflowClient, experiment_id: str) -> None:
    run_id = client.create_run(experiment_id).info.run_id
    client.delete_run(run_id)
    assert client.search_runs([experiment_id]) == []
    client.restore_run(run_id)
    client.delete_experiment(experiment_id)
    assert client.get_experiment(experiment_id).lifecycle_stage == "deleted"
    client.restore_experiment(experiment_id)
    assert [run.info.run_id for run in client.search_runs([experiment_id])] == [run_id]


def test_traces_are_received_and_found(client: MlflowClient, experiment_id: str) -> None:
    mlflow.set_experiment(experiment_id=experiment_id)

    @mlflow.trace
    def outer(x: int) -> int:
        return inner(x) + 1

    @mlflow.trace
    def inner(x: int) -> int:
        return x * 2

    assert outer(3) == 7
    mlflow.flush_trace_async_logging()
    traces = client.search_traces(experiment_ids=[experiment_id])
    assert [span.name for span in traces[0].data.spans] == ["outer", "inner"]


def test_an_experiment_name_is_taken_only_once(client: MlflowClient) -> None:
    name = f"twice-{uuid.uuid4().hex}"
    client.create_experiment(name)
    with pytest.raises(MlflowException) as error:
        client.create_experiment(name)
    assert error.value.error_code == "RESOURCE_ALREADY_EXISTS"


@pytest.mark.parametrize("name", ["o'brien; DROP TABLE runs;--", "größe/✓", 'a"b', "a.b.c", "%_\\"])
def test_hostile_names_are_only_names(client: MlflowClient, name: str) -> None:
    unique = f"{name} {uuid.uuid4().hex}"
    experiment_id = client.create_experiment(unique)
    assert client.get_experiment_by_name(unique).experiment_id == experiment_id
    run_id = client.create_run(experiment_id).info.run_id
    client.log_param(run_id, "p", name)
    assert client.get_run(run_id).data.params == {"p": name}
