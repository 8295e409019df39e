"""MLflow under a `databricks` tracking address: the host and token of the Databricks SDK are all that it is told."""

import uuid
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from tests.clients.mlflow_session import signed_in
from tests.servers import Server

pytestmark = pytest.mark.filterwarnings("ignore")  # the clients' warnings are not ours


@pytest.fixture
def client(any_server: Server):
    with signed_in(any_server), pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABRICKS_HOST", any_server.url)
        patch.setenv("DATABRICKS_TOKEN", any_server.token)
        mlflow.set_tracking_uri("databricks")
        mlflow.set_registry_uri("databricks")
        yield MlflowClient("databricks", "databricks")


@pytest.fixture
def run(client: MlflowClient, any_server: Server) -> mlflow.entities.Run:
    return client.create_run(client.create_experiment(f"/Users/{any_server.user}/{uuid.uuid4().hex}"))


def test_artifacts_lie_where_the_client_looks_for_them(
    client: MlflowClient, run: mlflow.entities.Run, tmp_path: Path
) -> None:
    assert run.info.artifact_uri.startswith(f"dbfs:/databricks/mlflow-tracking/{run.info.experiment_id}/")
    (tmp_path / "sub dir").mkdir()
    contents = {"a b.txt": b"q", "sub dir/größe.bin": bytes(range(256)) * 1000}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    client.log_artifacts(run.info.run_id, str(tmp_path), "up")
    assert [(file.path, file.is_dir, file.file_size) for file in client.list_artifacts(run.info.run_id, "up")] == [
        ("up/a b.txt", False, 1),
        ("up/sub dir", True, None),
    ]
    down = Path(client.download_artifacts(run.info.run_id, "up"))
    assert {str(f.relative_to(down)): f.read_bytes() for f in down.rglob("*") if f.is_file()} == contents


def test_a_model_is_logged_registered_and_loaded(client: MlflowClient, run: mlflow.entities.Run) -> None:
    class Constant(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input: list[int]) -> list[int]:  # type: ignore[no-untyped-def]
            return [7] * len(model_input)

    with mlflow.start_run(run_id=run.info.run_id):
        info = mlflow.pyfunc.log_model(name="model", python_model=Constant(), pip_requirements=[])
    assert mlflow.pyfunc.load_model(info.model_uri).predict([1, 2]) == [7, 7]
    name = f"workspace-{uuid.uuid4().hex}"
    mlflow.register_model(info.model_uri, name)
    client.transition_model_version_stage(name, "1", "Production")
    assert mlflow.pyfunc.load_model(f"models:/{name}/Production").predict([1]) == [7]


def test_both_addresses_show_the_same_run(client: MlflowClient, run: mlflow.entities.Run, any_server: Server) -> None:
    client.log_text(run.info.run_id, "written here", "note.txt")
    with signed_in(any_server) as plain:
        there = plain.get_run(run.info.run_id)
        assert there.info.artifact_uri.startswith("mlflow-artifacts:/")
        assert mlflow.artifacts.load_text(f"{there.info.artifact_uri}/note.txt") == "written here"


def test_another_user_finds_no_artifact(run: mlflow.entities.Run, any_server: Server) -> None:
    token = any_server.new_user(f"eve-{uuid.uuid4().hex[:8]}@example.org")
    place = f"WorkspaceInternal/Mlflow/Artifacts/{run.info.experiment_id}/Runs/{run.info.run_id}/artifacts"
    for method, path in (
        ("GET", f"/api/2.0/fs/files/{place}/note.txt"),
        ("PUT", f"/api/2.0/fs/files/{place}/note.txt"),
        ("DELETE", f"/api/2.0/fs/files/{place}/note.txt"),
        ("GET", f"/api/2.0/fs/directories/{place}"),
        ("PUT", f"/api/2.0/fs/directories/{place}/x"),
        ("GET", "/api/2.0/fs/files/WorkspaceInternal/Mlflow/Artifacts/0/Runs/../../../../secret.key"),
        ("GET", "/api/2.0/fs/files/WorkspaceInternal/Mlflow/Artifacts/0/Runs/%2e%2e/%2e%2e/secret.key"),
    ):
        status, answer = any_server.call(method, path, token=token)
        assert status in {400, 404}, (method, path, answer)
