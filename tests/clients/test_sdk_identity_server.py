"""One person at every door of a running server: the SDK, MLflow and Spark, from first token to deletion."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import Unauthenticated
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

from tests.servers import Server, wait_until


def client(server: Server, token: str | None = None) -> WorkspaceClient:
    return WorkspaceClient(host=server.url, token=token or server.token, auth_type="pat", config_file="/nowhere")


@pytest.fixture
def spark_as() -> Iterator[Callable[[Server, str], SparkSession]]:
    """Opens Spark sessions with a token, and stops them while their server still answers."""
    with ExitStack() as stack:

        def open_session(server: Server, token: str) -> SparkSession:
            session = SparkSession.builder.remote(server.spark_remote.replace(server.token, token)).create()
            stack.callback(session.stop)
            return session

        yield open_session


def is_refused(spark: SparkSession) -> bool:
    try:
        spark.sql("SELECT 1").collect()
    except AnalysisException as error:
        return "UNAUTHENTICATED" in str(error)
    return False


def test_a_person_comes_to_every_door_and_goes(
    any_server: Server, monkeypatch: pytest.MonkeyPatch, spark_as: Callable[[Server, str], SparkSession]
) -> None:
    name = "door@example.com"
    token = any_server.new_user(name)
    admin, person = client(any_server), client(any_server, token)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token)
    mlflow = MlflowClient(any_server.url)
    spark = spark_as(any_server, token)

    assert person.current_user.me().user_name == name
    assert mlflow.create_experiment(f"/Users/{name}/x")
    assert spark.sql("SELECT current_user() AS me").first()["me"] == name  # type: ignore[index]

    admin.users.delete(str(person.current_user.me().id))
    with pytest.raises(Unauthenticated):
        person.current_user.me()
    with pytest.raises(MlflowException, match="UNAUTHENTICATED"):
        mlflow.search_experiments()
    wait_until(lambda: is_refused(spark), timeout_s=5, what="Spark, which trusts a credential for a second, refuses")


def test_a_service_principal_works_through_mlflow_and_the_sdk(any_server: Server) -> None:
    admin = client(any_server)
    robot = admin.service_principals.create(display_name="nightly")
    secret = admin.service_principal_secrets_proxy.create(str(robot.id))
    acting = WorkspaceClient(
        host=any_server.url,
        client_id=robot.application_id,
        client_secret=secret.secret,
        auth_type="oauth-m2m",
        config_file="/nowhere",
    )
    made = acting.experiments.create_experiment(f"/nightly-{robot.id}")
    assert made.experiment_id
    assert acting.get_workspace_id() == admin.get_workspace_id()
    admin.service_principal_secrets_proxy.delete(str(robot.id), str(secret.id))
    with pytest.raises(Unauthenticated):
        acting.experiments.get_experiment(made.experiment_id)
