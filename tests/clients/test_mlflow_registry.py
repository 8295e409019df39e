"""The official mlflow client registers models: three-level names are the catalog's objects, others stay MLflow's."""

import uuid

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tests.clients.mlflow_session import signed_in
from tests.servers import Server

pytestmark = pytest.mark.filterwarnings("ignore")  # the clients' warnings are not ours


class Constant(mlflow.pyfunc.PythonModel):
    """Predicts the number that it was made with."""

    def __init__(self, value: int) -> None:
        self.value = value

    def predict(self, context, model_input):  # type: ignore[no-untyped-def]
        return [self.value] * len(model_input)


@pytest.fixture
def client(any_server: Server):
    with signed_in(any_server) as client:
        yield client


@pytest.fixture
def schema(any_server: Server) -> str:
    name = f"models_{uuid.uuid4().hex[:12]}"
    status, body = any_server.call("POST", "/api/2.1/unity-catalog/schemas", {"name": name, "catalog_name": "main"})
    assert status in {200, 201}, body
    return f"main.{name}"


def log_model(client: MlflowClient, value: int) -> str:
    experiment = client.create_experiment(f"registry-{uuid.uuid4().hex}")
    with mlflow.start_run(experiment_id=experiment):
        return mlflow.pyfunc.log_model(
            name="model", python_model=Constant(value), input_example=[1, 2], pip_requirements=[]
        ).model_uri


def test_versions_aliases_and_stages_of_a_catalog_model(client: MlflowClient, schema: str) -> None:
    name = f"{schema}.churn_predictor"
    for value in (1, 2):
        mlflow.register_model(log_model(client, value), name)
    client.update_registered_model(name, description="who leaves")
    client.set_registered_model_tag(name, "team", "churn")
    client.set_registered_model_alias(name, "staging", "2")
    client.set_registered_model_alias(name, "production", "1")
    assert mlflow.pyfunc.load_model(f"models:/{name}@production").predict([0, 0]) == [1, 1]
    assert mlflow.pyfunc.load_model(f"models:/{name}/2").predict([0]) == [2]
    for stage in ("Staging", "Production", "Archived", "None"):
        assert client.transition_model_version_stage(name, "1", stage).current_stage == stage
    client.transition_model_version_stage(name, "2", "Production")
    assert mlflow.pyfunc.load_model(f"models:/{name}/Production").predict([0]) == [2]
    found = client.get_registered_model(name)
    assert (found.description, found.tags, found.aliases) == (
        "who leaves",
        {"team": "churn"},
        {"staging": "2", "production": "1"},
    )


@pytest.mark.parametrize("name", ["churn {id}", "two.part-{id}", "größe-{id}"])
def test_names_of_other_levels_are_the_workspace_registrys(client: MlflowClient, name: str) -> None:
    name = name.format(id=uuid.uuid4().hex[:12])
    mlflow.register_model(log_model(client, 5), name)
    client.transition_model_version_stage(name, "1", "Staging")
    assert mlflow.pyfunc.load_model(f"models:/{name}/Staging").predict([0]) == [5]
    client.rename_registered_model(name, f"{name} renamed")
    assert client.get_model_version(f"{name} renamed", "1").current_stage == "Staging"
    client.transition_model_version_stage(f"{name} renamed", "1", "Archived")
    client.delete_registered_model(f"{name} renamed")


def test_a_model_needs_its_schema(client: MlflowClient) -> None:
    with pytest.raises(MlflowException, match=r"Schema 'main\.not_there' does not exist") as error:
        client.create_registered_model("main.not_there.model")
    assert error.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_both_sides_see_a_model_come_change_and_go(client: MlflowClient, schema: str, any_server: Server) -> None:
    catalog, place = schema.split(".")
    client.create_registered_model(f"{schema}.First", description="made by mlflow")
    path = f"/api/2.1/unity-catalog/models/{schema}."
    assert any_server.call("GET", f"{path}first")[1]["comment"] == "made by mlflow"
    client.rename_registered_model(f"{schema}.first", f"{schema}.second")
    assert any_server.call("GET", f"{path}first")[0] == 404
    body = {"name": "third", "catalog_name": catalog, "schema_name": place, "comment": "made by REST"}
    assert any_server.call("POST", "/api/2.1/unity-catalog/models", body)[0] == 200
    assert client.get_registered_model(f"{schema}.third").description == "made by REST"
    assert any_server.call("DELETE", f"{path}third")[0] == 200
    client.delete_registered_model(f"{schema}.second")
    listed = any_server.call("GET", f"/api/2.1/unity-catalog/models?catalog_name={catalog}&schema_name={place}")[1]
    assert listed["registered_models"] == []


def test_a_schema_with_models_is_dropped_only_with_them(client: MlflowClient, schema: str, any_server: Server) -> None:
    mlflow.register_model(log_model(client, 1), f"{schema}.model")
    path = f"/api/2.1/unity-catalog/schemas/{schema}"
    status, body = any_server.call("DELETE", path)
    assert (status, body["error_code"]) == (400, "INVALID_STATE")
    assert any_server.call("DELETE", f"{path}?force=true")[0] == 200
    with pytest.raises(MlflowException, match="not found"):
        client.get_registered_model(f"{schema}.model")
    assert client.search_model_versions(f"name = '{schema}.model'") == []


def test_a_taken_name_is_refused(client: MlflowClient, schema: str) -> None:
    client.create_registered_model(f"{schema}.model")
    with pytest.raises(MlflowException) as error:
        client.create_registered_model(f"{schema}.MODEL")
    assert error.value.error_code == "RESOURCE_ALREADY_EXISTS"


@pytest.mark.parametrize("source", ["file:///etc", "/etc/passwd", "s3://bucket/model", "http://169.254.169.254/latest"])
def test_a_version_comes_only_from_artifacts_of_this_server(client: MlflowClient, schema: str, source: str) -> None:
    client.create_registered_model(f"{schema}.model")
    with pytest.raises(MlflowException) as error:
        client.create_model_version(f"{schema}.model", source)
    assert error.value.error_code == "INVALID_PARAMETER_VALUE"
    assert client.search_model_versions(f"name = '{schema}.model'") == []


def test_prompts_are_registered_and_loaded(client: MlflowClient) -> None:
    name = f"prompt_{uuid.uuid4().hex}"
    mlflow.genai.register_prompt(name=name, template="Hello {{name}}")
    assert mlflow.genai.load_prompt(f"prompts:/{name}/1").format(name="pond") == "Hello pond"
    assert name not in [model.name for model in client.search_registered_models()]
