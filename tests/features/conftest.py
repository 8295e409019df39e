"""The feature store's client against a real server."""

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from millpond.features import FeatureEngineeringClient
from tests.servers import Server


@pytest.fixture(scope="module")
def spark(server: Server) -> Iterator[SparkSession]:
    """A session of the administrator, the active one."""
    session = SparkSession.builder.remote(server.spark_remote).create()
    yield session
    session.stop()


@pytest.fixture
def environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `millpond env` tells a notebook."""
    for name, value in server.client_env().items():
        if name.startswith(("DATABRICKS_", "MLFLOW_", "SPARK_")):
            monkeypatch.setenv(name, value)


@pytest.fixture
def fe(spark: SparkSession, environment: None) -> FeatureEngineeringClient:
    """The client as a notebook has it."""
    return FeatureEngineeringClient()


@pytest.fixture
def schema(spark: SparkSession, request: pytest.FixtureRequest) -> Iterator[str]:
    """A schema of the test's own."""
    name = "main.f_" + request.node.name.partition("[")[0].removeprefix("test_")[:40]
    spark.sql(f"CREATE SCHEMA {name}")
    yield name
    spark.sql(f"DROP SCHEMA {name} CASCADE")
