"""`mlflow.models.evaluate` on versions: what it finds is theirs, for people and for gates."""

import uuid
from collections.abc import Iterator
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import MetricThreshold
from mlflow.models.evaluation.validation import ModelValidationFailedException
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LinearRegression, LogisticRegression

from tests.clients.gated import OURS, put_policy
from tests.clients.mlflow_session import signed_in
from tests.servers import Server

pytestmark = pytest.mark.filterwarnings("ignore")  # the clients' warnings, and those of SHAP, are not ours


@pytest.fixture
def client(any_server: Server) -> Iterator[MlflowClient]:
    with signed_in(any_server) as client:
        yield client


@pytest.fixture
def name(any_server: Server, client: MlflowClient) -> str:
    """A model in a schema of its own."""
    schema = f"judged_{uuid.uuid4().hex[:12]}"
    any_server.call("POST", "/api/2.1/unity-catalog/schemas", {"name": schema, "catalog_name": "main"})
    client.create_registered_model(f"main.{schema}.m")
    return f"main.{schema}.m"


def data(load: Any, columns: int) -> tuple[pd.DataFrame, Any]:
    rows, labels = load(return_X_y=True, as_frame=True)
    return rows.iloc[:, :columns], labels


def registered(name: str, model: Any, rows: pd.DataFrame) -> str:
    """A version of it, in a run of the default experiment."""
    with mlflow.start_run(experiment_id="0"):
        info = mlflow.sklearn.log_model(
            model, name="model", input_example=rows.head(2), pip_requirements=["scikit-learn"]
        )
    return str(mlflow.register_model(info.model_uri, name).version)


def evaluated(name: str, version: str, rows: pd.DataFrame, labels: Any, kind: str, **options: Any) -> Any:
    dataset = mlflow.data.from_pandas(rows.assign(target=labels), targets="target", name="holdout")
    with mlflow.start_run(experiment_id=options.pop("experiment_id", "0")) as run:
        result = mlflow.models.evaluate(
            f"models:/{name}/{version}", dataset, model_type=kind, evaluators=["default"],
            evaluator_config={"default": options},
        )  # fmt: skip
    return run.info.run_id, result


def record(server: Server, name: str, version: str, token: str | None = None) -> list[dict[str, Any]]:
    status, body = server.call("GET", f"{OURS}/evaluations?name={name}&version={version}", token=token)
    assert status == 200, body
    return body["evaluations"]


@pytest.mark.slow
@pytest.mark.parametrize("any_server", ["sqlite"], indirect=True)
def test_a_classifier_is_evaluated_with_plots_and_shap(any_server: Server, client: MlflowClient, name: str) -> None:
    rows, labels = data(load_breast_cancer, 4)
    version = registered(name, LogisticRegression(max_iter=2000).fit(rows, labels), rows)
    run_id, result = evaluated(name, version, rows, labels, "classifier")
    (found,) = record(any_server, name, version)
    assert (found["run_id"], found["status"], found["made_by"]) == (run_id, "FINISHED", any_server.user)
    assert found["metrics"]["roc_auc"] == pytest.approx(result.metrics["roc_auc"])
    assert [each["name"] for each in found["datasets"]] == ["holdout"]
    wanted = {"roc_curve_plot.png", "confusion_matrix.png", "shap_beeswarm_plot.png", "shap_summary_plot.png"}
    assert wanted <= set(found["artifacts"])
    assert record(any_server, name, version)[0]["metrics"] == client.get_run(run_id).data.metrics


@pytest.mark.long
@pytest.mark.parametrize("any_server", ["sqlite"], indirect=True)
def test_a_regressor_is_evaluated_and_validated_against_another(
    any_server: Server, client: MlflowClient, name: str
) -> None:
    rows, labels = data(load_diabetes, 4)
    good = registered(name, LinearRegression().fit(rows, labels), rows)
    bad = registered(name, LinearRegression().fit(rows, labels.sample(frac=1, random_state=3)), rows)
    _, champion = evaluated(name, good, rows, labels, "regressor")
    _, challenger = evaluated(name, bad, rows, labels, "regressor", log_model_explainability=False)
    thresholds = {"root_mean_squared_error": MetricThreshold(min_absolute_change=0.1, greater_is_better=False)}
    with pytest.raises(ModelValidationFailedException, match="root_mean_squared_error"):
        mlflow.validate_evaluation_results(
            candidate_result=challenger, baseline_result=champion, validation_thresholds=thresholds
        )
    mlflow.validate_evaluation_results(
        candidate_result=champion, baseline_result=challenger, validation_thresholds=thresholds
    )
    assert "shap_feature_importance_plot.png" in record(any_server, name, good)[0]["artifacts"]
    worse = record(any_server, name, bad)[0]["metrics"]["root_mean_squared_error"]
    assert worse > record(any_server, name, good)[0]["metrics"]["root_mean_squared_error"]


@pytest.mark.parametrize("any_server", ["sqlite"], indirect=True)
def test_a_gate_takes_the_evaluations_of_those_whom_it_trusts(
    any_server: Server, client: MlflowClient, name: str
) -> None:
    tail = uuid.uuid4().hex[:8]
    judge, helper = f"judge-{tail}@gates.org", f"helper-{tail}@gates.org"
    token = any_server.new_user(judge)
    any_server.new_user(helper)
    any_server.call("PATCH", f"/api/2.1/unity-catalog/permissions/schema/{name.rpartition('.')[0]}", {
        "changes": [{"principal": judge, "add": ["USE_SCHEMA", "EXECUTE"]}]})  # fmt: skip
    any_server.call("PATCH", "/api/2.1/unity-catalog/permissions/catalog/main", {
        "changes": [{"principal": judge, "add": ["USE_CATALOG"]}]})  # fmt: skip
    rows, labels = data(load_breast_cancer, 4)
    first = registered(name, LogisticRegression(max_iter=2000).fit(rows, labels), rows)
    worse = registered(name, LogisticRegression(max_iter=2000).fit(rows, labels.sample(frac=1, random_state=3)), rows)
    fast = {"log_model_explainability": False}
    rule = "by: [%s], dataset: holdout, metric: accuracy_score, minimum: %s, margin: 0.0, greater_is_better: true"
    policy = "targets: [alias:prod]\nchecks: [{evaluation: {%s}}]"
    put_policy(any_server, "model", name, policy % (rule % (judge, 0.6)))
    evaluated(name, first, rows, labels, "classifier", **fast)  # by its author
    with pytest.raises(MlflowException, match=f"was made by {any_server.user}"):
        client.set_registered_model_alias(name, "prod", first)
    with signed_in(any_server, token) as theirs:
        experiment = theirs.create_experiment(f"judged-{tail}")
        for version in (first, worse):
            evaluated(name, version, rows, labels, "classifier", experiment_id=experiment, **fast)
        level = [{"user_name": helper, "permission_level": "CAN_EDIT"}]
        path = f"/api/2.0/permissions/experiments/{experiment}"
        any_server.call("PATCH", path, {"access_control_list": level}, token=token)
    with pytest.raises(MlflowException, match=f"may be written by {helper}"):
        client.set_registered_model_alias(name, "prod", first)
    any_server.call("PUT", path, {"access_control_list": []}, token=token)
    client.set_registered_model_alias(name, "prod", first)
    with pytest.raises(MlflowException, match=r"has to be better by 0.0|minimum 0.6 is asked for"):
        client.set_registered_model_alias(name, "prod", worse)
    evidence = any_server.call("GET", f"{OURS}/history?name={name}")[1]["live"][0]["evidence"]["gates"][0]
    assert evidence["findings"][0]["details"]["made_by"] == judge
    put_policy(any_server, "model", name, policy % (rule % (any_server.user, 0.6)))
    client.delete_registered_model_alias(name, "prod")
    with pytest.raises(MlflowException, match="made by who made the version"):
        client.set_registered_model_alias(name, "prod", first)


def test_an_evaluation_is_seen_by_who_may_read_its_run(any_server: Server, client: MlflowClient, name: str) -> None:
    reader = f"reader-{uuid.uuid4().hex[:8]}@gates.org"
    token = any_server.new_user(reader)
    path = f"/api/2.1/unity-catalog/permissions/schema/{name.rpartition('.')[0]}"
    rows, labels = data(load_diabetes, 2)
    version = registered(name, LinearRegression().fit(rows, labels), rows)
    assert any_server.call("GET", f"{OURS}/evaluations?name={name}&version={version}", token=token)[0] == 404
    any_server.call("PATCH", path, {"changes": [{"principal": reader, "add": ["USE_SCHEMA", "EXECUTE"]}]})
    any_server.call("PATCH", "/api/2.1/unity-catalog/permissions/catalog/main", {
        "changes": [{"principal": reader, "add": ["USE_CATALOG"]}]})  # fmt: skip
    private = client.create_experiment(f"private-{uuid.uuid4().hex[:8]}")
    evaluated(name, version, rows, labels, "regressor", experiment_id=private, log_model_explainability=False)
    assert len(record(any_server, name, version)) == 1
    assert record(any_server, name, version, token) == []
