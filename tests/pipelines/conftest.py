"""A pipeline of each test's own."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.pipelines.pipelines import Pipeline
from tests.servers import Server


@pytest.fixture(scope="module")
def spark(server: Server) -> Iterator[SparkSession]:
    session = SparkSession.builder.remote(server.spark_remote).create()
    yield session
    session.stop()


@pytest.fixture
def pipeline(server: Server, spark: SparkSession, tmp_path: Path) -> Pipeline:
    schema = f"flows_{uuid.uuid4().hex[:10]}"
    status, body = server.call("POST", "/api/2.1/unity-catalog/schemas", {"name": schema, "catalog_name": "main"})
    assert status in {200, 201}, body
    return Pipeline(server=server, schema=schema, spark=spark, directory=tmp_path)
