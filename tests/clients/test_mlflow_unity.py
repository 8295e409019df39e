"""MLflow's client with Unity Catalog's registry, its default under a `databricks` tracking address."""

import io
import uuid
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import DatabricksError
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from mlflow.tracking._model_registry.registry import ModelRegistryStoreRegistry
from pyspark.sql import SparkSession

from tests.clients.mlflow_session import signed_in
from tests.servers import Server

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # the clients' warnings are not ours
    pytest.mark.parametrize("any_server", ["postgresql"], indirect=True),  # the stricter of the databases
]
ROWS = np.array([[1.0], [2.0]])
UNITY = "/api/2.0/mlflow/unity-catalog"


def constant(value: int) -> mlflow.pyfunc.PythonModel:
    """A model that predicts one number; of a class of its own, which is kept with it and not looked for by name."""

    class Constant(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input):  # type: ignore[no-untyped-def]
            return [value] * len(model_input)

    return Constant()


@pytest.fixture
def client(any_server: Server) -> Iterator[MlflowClient]:
    """As a user of Databricks has it: a host, a token, and nothing said of a registry."""
    with signed_in(any_server), pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_TOKEN")
        patch.delenv("MLFLOW_REGISTRY_URI")
        patch.setenv("DATABRICKS_HOST", any_server.url)
        patch.setenv("DATABRICKS_TOKEN", any_server.token)
        mlflow.set_registry_uri(None)
        mlflow.set_tracking_uri("databricks")
        mlflow.set_experiment(f"/Users/{any_server.user}/{uuid.uuid4().hex}")
        yield MlflowClient()


@pytest.fixture
def schema(any_server: Server) -> str:
    name = f"unity_{uuid.uuid4().hex[:12]}"
    status, body = any_server.call("POST", "/api/2.1/unity-catalog/schemas", {"name": name, "catalog_name": "main"})
    assert status in {200, 201}, body
    return f"main.{name}"


def log_model(value: int = 1, name: str | None = None, *, signed: bool = True) -> mlflow.models.model.ModelInfo:
    with mlflow.start_run():
        mlflow.log_metric("auc", 0.9)
        return mlflow.pyfunc.log_model(
            name="model",
            python_model=constant(value),
            signature=infer_signature(ROWS, [1, 1]) if signed else None,
            registered_model_name=name,
            pip_requirements=[],
            params={"depth": 3},
        )


def predictions(uri: str) -> list[int]:
    return mlflow.pyfunc.load_model(uri).predict(ROWS)


def files_of(version: str) -> str:
    """The path of a version `catalog.schema.model/number` in the Files API."""
    return f"/Models/{version.replace('.', '/')}"


@pytest.fixture(params=["false", "true"], ids=["own", "native"])
def dialect(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The client's two ways to speak to this registry: its own API, and, where told so, Unity Catalog's general one."""
    monkeypatch.setenv("MLFLOW_ENABLE_UC_NATIVE_MODEL_REGISTRY", request.param)
    ModelRegistryStoreRegistry._get_store_with_resolved_uri.cache_clear()  # the client decides once in its life
    yield
    ModelRegistryStoreRegistry._get_store_with_resolved_uri.cache_clear()


@pytest.mark.usefixtures("dialect")
def test_a_model_is_logged_registered_loaded_and_copied(client: MlflowClient, schema: str) -> None:
    assert mlflow.get_registry_uri() == "databricks-uc"
    name = f"{schema}.churn"
    info = log_model(1, name)
    run_id = info.run_id
    assert mlflow.register_model(log_model(2).model_uri, name, tags={"team": "crm"}).version == "2"
    assert mlflow.register_model(f"runs:/{run_id}/model", name).run_id == run_id
    client.set_registered_model_alias(name, "champion", "2")
    assert (predictions(f"models:/{name}@champion"), predictions(f"models:/{name}/1")) == ([2, 2], [1, 1])
    copied = client.copy_model_version(f"models:/{name}@champion", f"{schema}.prod")
    assert (copied.version, copied.tags, predictions(f"models:/{schema}.prod/1")) == ("1", {"team": "crm"}, [2, 2])
    place = mlflow.artifacts.download_artifacts(client.get_model_version_download_uri(name, "1"))
    assert "MLmodel" in {path.name for path in Path(place).iterdir()}
    found = client.get_model_version(name, "1")
    described = {param.key: param.value for param in found.params} | {m.key: m.value for m in found.metrics}
    assert (found.model_id, described) == (info.model_id, {"depth": "3", "auc": 0.9})


@pytest.mark.usefixtures("dialect")
def test_the_registrys_calls(client: MlflowClient, schema: str) -> None:
    name, renamed = f"{schema}.Churn", f"{schema}.left"
    client.create_registered_model(name, tags={"a": "1"}, description="first")
    mlflow.register_model(log_model().model_uri, name)
    client.set_registered_model_tag(name, "b", "2")
    client.delete_registered_model_tag(name, "a")
    client.set_registered_model_alias(name, "champion", "1")
    assert client.update_registered_model(name, "second").description == "second"
    assert client.update_model_version(name, "1", "the one").description == "the one"
    client.set_model_version_tag(name, "1", "checked", "yes")
    client.set_model_version_tag(name, "1", "gone", "yes")
    client.delete_model_version_tag(name, "1", "gone")
    client.rename_registered_model(name, renamed)
    model, version = client.get_registered_model(renamed), client.get_model_version_by_alias(renamed, "champion")
    assert (model.description, model.tags, model.aliases) == ("second", {"b": "2"}, {"champion": "1"})
    assert (version.description, version.tags, version.aliases) == ("the one", {"checked": "yes"}, ["champion"])
    assert predictions(f"models:/{renamed}@champion") == [1, 1]
    client.delete_registered_model_alias(renamed, "champion")
    for gone in (
        lambda: client.get_model_version_by_alias(renamed, "champion"),
        lambda: client.get_registered_model(name),
        lambda: client.get_model_version(renamed, "2"),
        lambda: client.create_registered_model("main.not_there.model"),
    ):
        with pytest.raises(MlflowException) as error:
            gone()
        assert error.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    client.delete_model_version(renamed, "1")
    assert client.search_model_versions(f"name='{renamed}'") == []
    client.delete_registered_model(renamed)
    assert renamed not in {found.name for found in client.search_registered_models()}


def test_searches_find_models_of_three_levels_only(client: MlflowClient, schema: str, any_server: Server) -> None:
    versions = [mlflow.register_model(log_model().model_uri, f"{schema}.m{number}") for number in range(2)]
    with signed_in(any_server) as plain:
        for other in ("plain", "two.levels", "of.four.levels.x"):
            plain.create_registered_model(f"{other}-{uuid.uuid4().hex}")
    mlflow.set_tracking_uri("databricks")
    mlflow.set_registry_uri("databricks-uc")
    found, token = [], None
    while token != "":
        page = client.search_registered_models(max_results=1, page_token=token)
        found, token = found + [model.name for model in page], page.token or ""
    assert all(name.count(".") == 2 for name in found)
    assert {version.name for version in versions} <= set(found)
    by_run = client.search_model_versions(f"run_id='{versions[0].run_id}'")
    assert [(version.name, version.version) for version in by_run] == [(f"{schema}.m0", "1")]


def test_a_name_without_three_levels_is_refused_with_the_clients_hint(client: MlflowClient) -> None:
    with pytest.raises(MlflowException, match=r"specify all three levels.*legacy Workspace Model Registry"):
        client.create_registered_model("churn")
    with pytest.raises(MlflowException, match="specify all three levels"):
        client.get_registered_model("churn")


def test_a_deployment_job_is_refused_rather_than_ignored(client: MlflowClient, schema: str, any_server: Server) -> None:
    with pytest.raises(MlflowException, match="no deployment jobs"):
        client.create_registered_model(f"{schema}.model", deployment_job_id="7")
    body = {"catalog_name": "main", "schema_name": schema.split(".")[1], "name": "model", "deployment_job_id": "7"}
    status, answer = any_server.call("POST", "/api/2.1/unity-catalog/models", body)
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def test_a_model_without_a_signature_is_refused_by_the_client(client: MlflowClient, schema: str) -> None:
    with pytest.raises(MlflowException, match="did not contain any signature metadata"):
        mlflow.register_model(log_model(signed=False).model_uri, f"{schema}.model")
    assert client.search_model_versions(f"name='{schema}.model'") == []


def test_presigned_addresses_move_the_files_too(
    client: MlflowClient, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As clients do that are told to leave the Databricks SDK alone."""
    monkeypatch.setenv("MLFLOW_USE_DATABRICKS_SDK_MODEL_ARTIFACTS_REPO_FOR_UC", "false")
    log_model(4, f"{schema}.model")
    assert predictions(f"models:/{schema}.model/1") == [4, 4]


def test_each_client_loads_what_the_other_registered(client: MlflowClient, schema: str, any_server: Server) -> None:
    unity, plain = f"{schema}.by_unity", f"{schema}.by_mlflow"
    log_model(1, unity)
    with signed_in(any_server) as other:
        mlflow.set_experiment(experiment_id=other.create_experiment(uuid.uuid4().hex))
        log_model(2, plain)
        assert predictions(f"models:/{unity}/1") == [1, 1]
        assert other.get_model_version(unity, "1").status == "READY"
        other.copy_model_version(f"models:/{unity}/1", f"{schema}.copy")
        assert predictions(f"models:/{schema}.copy/1") == [1, 1]
    mlflow.set_tracking_uri("databricks")
    mlflow.set_registry_uri("databricks-uc")
    assert predictions(f"models:/{plain}/1") == [2, 2]


def test_a_version_is_pending_until_its_files_have_come(client: MlflowClient, schema: str, any_server: Server) -> None:
    name = f"{schema}.model"
    client.create_registered_model(name)
    asked = {"name": name, "source": "/home/ann/model"}
    assert any_server.call("POST", f"{UNITY}/model-versions/create", asked)[1]["model_version"]["version"] == "1"
    files = WorkspaceClient(host=any_server.url, token=any_server.token).files
    files.upload(f"{files_of(name)}/1/conda.yaml", io.BytesIO(b"x"))
    status, body = any_server.call("POST", f"{UNITY}/model-versions/finalize", {"name": name, "version": "1"})
    assert (status, body["error_code"]) == (400, "INVALID_STATE")
    assert "no file MLmodel" in body["message"]
    with signed_in(any_server) as other:
        assert other.get_model_version(name, "1").status == "PENDING_REGISTRATION"
        with pytest.raises(MlflowException, match="PENDING_REGISTRATION: its files have not all come"):
            predictions(f"models:/{name}/1")
    sdk = WorkspaceClient(host=any_server.url, token=any_server.token)
    assert sdk.model_versions.get(name, 1).status.value == "PENDING_REGISTRATION"
    sdk.model_versions.delete(name, 1)
    assert any_server.call("POST", f"{UNITY}/model-versions/finalize", {"name": name, "version": "1"})[0] == 404
    with pytest.raises(DatabricksError, match="does not exist"):
        files.upload(f"{files_of(name)}/1/MLmodel", io.BytesIO(b"x"))


def test_files_of_a_ready_version_do_not_change(client: MlflowClient, schema: str, any_server: Server) -> None:
    name = f"{schema}.model"
    log_model(1, name)
    files = WorkspaceClient(host=any_server.url, token=any_server.token).files
    for change in (
        lambda: files.upload(f"{files_of(name)}/1/MLmodel", io.BytesIO(b"x"), overwrite=True),
        lambda: files.delete(f"{files_of(name)}/1/MLmodel"),
        lambda: files.create_directory(f"{files_of(name)}/1/more"),
    ):
        with pytest.raises(DatabricksError, match="its files do not change any more"):
            change()
    assert any_server.call("POST", f"{UNITY}/model-versions/finalize", {"name": name, "version": "1"})[0] == 200
    assert predictions(f"models:/{name}/1") == [1, 1]


def test_another_user_finds_neither_model_nor_files(client: MlflowClient, schema: str, any_server: Server) -> None:
    name = f"{schema}.model"
    log_model(1, name)
    token = any_server.new_user(f"eve-{uuid.uuid4().hex[:8]}@example.org")
    version = {"name": name, "version": "1"}
    for method, path, body in (
        ("GET", f"{UNITY}/registered-models/get?name={name}", None),
        ("PATCH", f"{UNITY}/registered-models/update", {"name": name, "description": "mine"}),
        ("DELETE", f"{UNITY}/registered-models/delete", {"name": name}),
        ("POST", f"{UNITY}/registered-models/alias", version | {"alias": "mine"}),
        ("GET", f"{UNITY}/model-versions/get?name={name}&version=1", None),
        ("GET", f"{UNITY}/model-versions/get-download-uri?name={name}&version=1", None),
        ("POST", f"{UNITY}/model-versions/create", {"name": name, "source": "x"}),
        ("POST", f"{UNITY}/model-versions/finalize", version),
        ("POST", f"{UNITY}/model-versions/generate-temporary-credentials", version),
        ("POST", f"{UNITY}/model-versions/emit-lineage", version),
        ("POST", f"{UNITY}/model-versions/set-tag", version | {"key": "a", "value": "b"}),
        ("PATCH", f"/api/2.1/unity-catalog/securable-tags/FUNCTION/{name}", {"changes": {"remove": ["a"]}}),
        ("PATCH", f"/api/2.1/unity-catalog/subentity-tags/FUNCTION/{name}/1", {"changes": {"remove": ["a"]}}),
        ("GET", f"/api/2.0/fs/files{files_of(name)}/1/MLmodel", None),
        ("GET", f"/api/2.0/fs/directories{files_of(name)}/1", None),
        ("PUT", f"/api/2.0/fs/files{files_of(name)}/1/MLmodel", {}),
        ("DELETE", f"/api/2.0/fs/files{files_of(name)}/1/MLmodel", None),
    ):
        status, answer = any_server.call(method, path, body, token=token)
        assert status == 404, (method, path, answer)
    found = any_server.call("GET", f"{UNITY}/registered-models/search", token=token)[1]["registered_models"]
    assert name not in {model["name"] for model in found}


def test_who_may_only_browse_sees_a_model_without_its_versions(
    client: MlflowClient, schema: str, any_server: Server
) -> None:
    name, user = f"{schema}.model", f"eve-{uuid.uuid4().hex[:8]}@example.org"
    log_model(1, name)
    token = any_server.new_user(user)
    grants = f"/api/2.1/unity-catalog/permissions/catalog/{schema.split('.')[0]}"

    def latest() -> list[list[str]]:
        """The newest versions as the user sees them: of the model alone, and among all that the user sees."""
        path = "/api/2.0/mlflow/registered-models"
        alone = any_server.call("GET", f"{path}/get?name={name}", token=token)[1]["registered_model"]
        listed = any_server.call("GET", f"{path}/search?max_results=100", token=token)[1]["registered_models"]
        among = next(model for model in listed if model["name"] == name)
        return [[version["version"] for version in model.get("latest_versions", [])] for model in (alone, among)]

    for privileges, seen in ((["BROWSE"], [[], []]), (["USE_CATALOG", "USE_SCHEMA", "EXECUTE"], [["1"], ["1"]])):
        change = {"principal": user, "add": privileges}
        assert any_server.call("PATCH", grants, {"changes": [change]})[0] == 200
        assert latest() == seen


def test_other_places_below_models_are_no_files(client: MlflowClient, schema: str, any_server: Server) -> None:
    client.create_registered_model(f"{schema}.model")
    made = {"name": f"{schema}.model", "source": "x"}
    assert any_server.call("POST", f"{UNITY}/model-versions/create", made)[0] == 200
    model = files_of(f"{schema}.model")
    for path in ("/Models", "/Models/main/x", model, f"{model}/x", f"{model}/1/../../x", f"{model}/1/.millpond/x"):
        status, answer = any_server.call("PUT", f"/api/2.0/fs/files{path}", {})
        assert (status, answer["error_code"]) in {
            (400, "INVALID_PARAMETER_VALUE"),
            (404, "RESOURCE_DOES_NOT_EXIST"),
        }, (path, answer)


def test_a_function_in_spark_loads_the_model(client: MlflowClient, schema: str, any_server: Server) -> None:
    log_model(5, f"{schema}.model")
    client.set_registered_model_alias(f"{schema}.model", "champion", "1")
    spark = SparkSession.builder.remote(any_server.spark_remote).create()
    predict = mlflow.pyfunc.spark_udf(spark, f"models:/{schema}.model@champion", "long", env_manager="local")
    assert [row.y for row in spark.range(3).select(predict("id").alias("y")).collect()] == [5, 5, 5]
    spark.stop()
