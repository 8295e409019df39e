"""MLflow's client with the open Unity Catalog's registry (`uc:http://...`), which reads and writes files itself."""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from tests.clients.mlflow_session import signed_in
from tests.clients.test_mlflow_unity import ROWS, constant, predictions, schema
from tests.servers import Server

__all__ = ["schema"]
pytestmark = pytest.mark.filterwarnings("ignore")  # the clients' warnings are not ours


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """MLflow's tracking in a file of the client's."""
    return f"sqlite:///{tmp_path_factory.mktemp('runs')}/mlflow.db"


@pytest.fixture
def client(any_server: Server, runs: str) -> Iterator[MlflowClient]:
    """Runs on the client's own disk, models in Millpond."""
    with signed_in(any_server), pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_TOKEN")
        patch.setenv("MLFLOW_UC_OSS_TOKEN", any_server.token)
        mlflow.set_tracking_uri(runs)
        mlflow.set_registry_uri(f"uc:{any_server.url}")
        yield MlflowClient()


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A model on the client's disk."""
    path = tmp_path / "model"
    mlflow.pyfunc.save_model(
        path, python_model=constant(3), signature=infer_signature(ROWS, np.array([3, 3])), pip_requirements=[]
    )
    return str(path)


def test_a_model_lives_its_life(client: MlflowClient, schema: str, model: str, any_server: Server) -> None:
    name = f"{schema}.churn"
    client.create_registered_model(name, description="first")
    assert client.create_model_version(name, model).status == "READY"
    assert client.create_model_version(name, model).version == 2
    assert predictions(f"models:/{name}/1") == [3, 3]
    assert client.update_registered_model(name, "second").description == "second"
    assert client.update_model_version(name, "1", "the one").description == "the one"
    assert client.get_registered_model(name).description == "second"
    assert name in {found.name for found in client.search_registered_models()}
    assert {int(found.version) for found in client.search_model_versions(f"name='{name}'")} == {1, 2}
    client.delete_model_version(name, "2")
    with pytest.raises(MlflowException) as error:
        client.get_model_version(name, "2")
    assert error.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    with signed_in(any_server) as plain:
        assert plain.get_model_version(name, "1").source == model
        assert predictions(f"models:/{name}/1") == [3, 3]
        plain.delete_registered_model(name)


def test_it_loads_what_mlflow_registered(client: MlflowClient, schema: str, model: str, any_server: Server) -> None:
    with signed_in(any_server) as plain:
        run = plain.create_run(plain.create_experiment(uuid.uuid4().hex))
        plain.log_artifacts(run.info.run_id, model, "m")
        plain.create_registered_model(f"{schema}.churn")
        plain.create_model_version(f"{schema}.churn", f"{run.info.artifact_uri}/m", run.info.run_id)
    mlflow.set_registry_uri(f"uc:{any_server.url}")
    assert predictions(f"models:/{schema}.churn/1") == [3, 3]


def test_a_client_without_the_servers_disk_makes_no_version(
    client: MlflowClient, schema: str, model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On another machine the client writes to a disk of its own, so the server never sees the files."""
    monkeypatch.setattr(
        LocalArtifactRepository,
        "log_artifacts",
        lambda _self, local_dir, artifact_path: shutil.copytree(local_dir, tmp_path / "other machine"),
    )
    client.create_registered_model(f"{schema}.churn")
    with pytest.raises(MlflowException, match="must run where the server's disk is"):
        client.create_model_version(f"{schema}.churn", model)
    assert client.get_model_version(f"{schema}.churn", "1").status == "PENDING_REGISTRATION"


def test_credentials_are_for_those_who_may(client: MlflowClient, schema: str, model: str, any_server: Server) -> None:
    client.create_registered_model(f"{schema}.churn")
    client.create_model_version(f"{schema}.churn", model)
    place = client.get_model_version_download_uri(f"{schema}.churn", "1")
    assert (Path(urlsplit(place).path) / "MLmodel").is_file()
    catalog, schema_name = schema.split(".")
    body = {"catalog_name": catalog, "schema_name": schema_name, "model_name": "churn", "version": 1}
    ask = ("POST", "/api/2.1/unity-catalog/temporary-model-version-credentials")
    status, answer = any_server.call(*ask, body | {"operation": "READ_MODEL_VERSION"})
    assert (status, answer["url"]) == (200, place)
    status, answer = any_server.call(*ask, body | {"operation": "READ_WRITE_MODEL_VERSION"})
    assert (status, answer["error_code"]) == (400, "INVALID_STATE")
    stranger = any_server.new_user(f"eve-{uuid.uuid4().hex[:8]}@example.org")
    assert any_server.call(*ask, body, token=stranger)[0] == 404
    begin = body | {"source": "x"}
    assert any_server.call("POST", "/api/2.1/unity-catalog/models/versions", begin, token=stranger)[0] == 404
    finalize = f"/api/2.1/unity-catalog/models/{schema}.churn/versions/1/finalize"
    assert any_server.call("PATCH", finalize, {}, token=stranger)[0] == 404
