"""databricks-sdk reads and manages the models and experiments that mlflow made."""

import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import NotFound, ResourceAlreadyExists, ResourceDoesNotExist
from databricks.sdk.service import ml

from tests.clients.mlflow_session import signed_in
from tests.servers import Server

pytestmark = pytest.mark.filterwarnings("ignore")  # the clients' warnings are not ours


@pytest.fixture
def workspace(any_server: Server) -> WorkspaceClient:
    return WorkspaceClient(host=any_server.url, token=any_server.token)


@pytest.fixture
def schema(any_server: Server) -> tuple[str, str]:
    name = f"sdk_{uuid.uuid4().hex[:12]}"
    status, body = any_server.call("POST", "/api/2.1/unity-catalog/schemas", {"name": name, "catalog_name": "main"})
    assert status in {200, 201}, body
    return "main", name


@pytest.fixture
def versions(any_server: Server, schema: tuple[str, str]) -> str:
    """A model with three versions."""
    full_name = ".".join([*schema, "churn"])
    with signed_in(any_server) as client:
        run = client.create_run(client.create_experiment(uuid.uuid4().hex))
        client.log_text(run.info.run_id, "x", "model/MLmodel")
        client.create_registered_model(full_name)
        for _ in range(3):
            client.create_model_version(full_name, f"{run.info.artifact_uri}/model", run.info.run_id)
    return full_name


def test_a_registered_model_lives_its_life(workspace: WorkspaceClient, schema: tuple[str, str]) -> None:
    catalog, place = schema
    models = workspace.registered_models
    made = models.create(catalog_name=catalog, schema_name=place, name="Churn", comment="first")
    assert (made.full_name, made.comment) == (f"{catalog}.{place}.churn", "first")
    with pytest.raises(ResourceAlreadyExists):
        models.create(catalog_name=catalog, schema_name=place, name="churn")
    assert models.update(made.full_name, comment="second").comment == "second"
    renamed = models.update(made.full_name, new_name="leavers")
    assert renamed.full_name == f"{catalog}.{place}.leavers"
    assert [model.full_name for model in models.list(catalog_name=catalog, schema_name=place)] == [renamed.full_name]
    models.delete(renamed.full_name)
    with pytest.raises(NotFound):
        models.get(renamed.full_name)


def test_models_are_listed_in_pages(workspace: WorkspaceClient, schema: tuple[str, str]) -> None:
    names = [f"model_{number}" for number in range(5)]
    for name in names:
        workspace.registered_models.create(catalog_name=schema[0], schema_name=schema[1], name=name)
    within = workspace.registered_models.list(catalog_name=schema[0], schema_name=schema[1], max_results=2)
    assert [model.name for model in within] == names
    everywhere = [model.full_name for model in workspace.registered_models.list(max_results=2)]
    assert everywhere == sorted(everywhere)
    assert {".".join([*schema, name]) for name in names} <= set(everywhere)


def test_versions_and_aliases(workspace: WorkspaceClient, versions: str) -> None:
    workspace.registered_models.set_alias(versions, "production", 2)
    assert [found.version for found in workspace.model_versions.list(versions, max_results=2)] == [3, 2, 1]
    found = workspace.model_versions.get_by_alias(versions, "production")
    assert (found.version, found.status.value, found.aliases[0].alias_name) == (2, "READY", "production")
    assert (Path(urlsplit(found.storage_location).path) / "MLmodel").is_file()
    model = workspace.registered_models.get(versions, include_aliases=True)
    assert [(alias.alias_name, alias.version_num) for alias in model.aliases] == [("production", 2)]
    assert workspace.model_versions.update(versions, 2, comment="the good one").comment == "the good one"
    workspace.registered_models.delete_alias(versions, "production")
    with pytest.raises(NotFound):
        workspace.model_versions.get_by_alias(versions, "production")
    workspace.model_versions.delete(versions, 3)
    with pytest.raises(NotFound):
        workspace.model_versions.get(versions, 3)
    with pytest.raises(NotFound):
        workspace.registered_models.set_alias(versions, "production", 99)


def test_another_user_sees_no_model(any_server: Server, versions: str) -> None:
    token = any_server.new_user(f"eve-{uuid.uuid4().hex[:8]}@example.org")
    stranger = WorkspaceClient(host=any_server.url, token=token)
    assert versions not in [model.full_name for model in stranger.registered_models.list()]
    for ask in (
        lambda: stranger.registered_models.get(versions),
        lambda: stranger.registered_models.update(versions, comment="mine"),
        lambda: stranger.registered_models.delete(versions),
        lambda: stranger.registered_models.set_alias(versions, "mine", 1),
        lambda: stranger.model_versions.get(versions, 1),
        lambda: stranger.model_versions.delete(versions, 1),
        lambda: list(stranger.model_versions.list(versions)),
    ):
        with pytest.raises(NotFound):
            ask()


def test_the_owner_of_a_model_can_be_another(any_server: Server, workspace: WorkspaceClient, versions: str) -> None:
    name = f"heir-{uuid.uuid4().hex[:8]}@example.org"
    token = any_server.new_user(name)
    assert workspace.registered_models.update(versions, owner=name).owner == name
    heir = WorkspaceClient(host=any_server.url, token=token)
    assert heir.model_versions.get(versions, 1).version == 1
    with signed_in(any_server, token) as client:
        client.set_registered_model_alias(versions, "mine", "1")
        path = mlflow.artifacts.download_artifacts(f"models:/{versions}@mine/MLmodel")
        assert path.endswith("MLmodel")


def test_experiments_and_runs(workspace: WorkspaceClient, any_server: Server) -> None:
    name = f"/Users/{any_server.user}/sdk-{uuid.uuid4().hex}"
    experiment_id = workspace.experiments.create_experiment(name).experiment_id
    assert workspace.experiments.get_by_name(name).experiment.experiment_id == experiment_id
    assert name in [found.name for found in workspace.experiments.search_experiments()]
    assert name in [found.name for found in workspace.experiments.list_experiments()]
    run_id = workspace.experiments.create_run(experiment_id=experiment_id).run.info.run_id
    now = int(time.time() * 1000)
    workspace.experiments.log_metric(key="auc", value=0.9, timestamp=now, run_id=run_id)
    workspace.experiments.log_batch(run_id=run_id, params=[ml.Param(key="depth", value="6")])
    workspace.experiments.set_tag(key="team", value="churn", run_id=run_id)
    workspace.experiments.update_run(run_id=run_id, status=ml.UpdateRunStatus.FINISHED, end_time=now)
    run = workspace.experiments.get_run(run_id).run
    assert run.info.status is ml.RunInfoStatus.FINISHED
    assert [(m.key, m.value) for m in run.data.metrics] == [("auc", 0.9)]
    assert [point.value for point in workspace.experiments.get_history("auc", run_id=run_id)] == [0.9]
    found = workspace.experiments.search_runs(experiment_ids=[experiment_id], filter="params.depth = '6'")
    assert [item.info.run_id for item in found] == [run_id]
    workspace.experiments.delete_experiment(experiment_id)
    with pytest.raises(ResourceDoesNotExist):
        workspace.experiments.get_run("0" * 32)


def test_the_workspace_registry_and_its_stages(workspace: WorkspaceClient, any_server: Server) -> None:
    name = f"workspace-{uuid.uuid4().hex}"
    registry = workspace.model_registry
    registry.create_model(name)
    with signed_in(any_server) as client:
        run = client.create_run(client.create_experiment(uuid.uuid4().hex))
        client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id)
    assert registry.get_model(name).registered_model_databricks.name == name
    moved = registry.transition_stage(name, "1", "Production", True).model_version_databricks
    assert moved.current_stage == "Production"
    assert [version.version for version in registry.get_latest_versions(name, stages=["Production"])] == ["1"]
    assert name in [model.name for model in registry.list_models()]
    registry.transition_stage(name, "1", "Archived", False)
    registry.delete_model(name)
    with pytest.raises(NotFound):
        registry.get_model(name)
