"""Everything on an object store: tables, volumes and artifacts below `s3://`, by unmodified clients."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import mlflow
import numpy as np
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.catalog import VolumeType
from mlflow.models import infer_signature
from moto.server import ThreadedMotoServer
from pyspark.sql import SparkSession
from pyspark.sql.functions import udf

from tests.clients.mlflow_session import signed_in
from tests.clients.test_mlflow_unity import constant
from tests.servers import Server, running_server

KEYS = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """The address of an S3 server of this process, with one bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    url = f"http://127.0.0.1:{port}"
    boto3.client("s3", endpoint_url=url, **KEYS).create_bucket(Bucket="lake")
    yield url
    server.stop()


@pytest.fixture(scope="module")
def on_s3(store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose storage root is in the bucket."""
    env = {
        "MILLPOND_S3__ENDPOINT_URL": store,
        "MILLPOND_S3__ACCESS_KEY_ID": KEYS["aws_access_key_id"],
        "MILLPOND_S3__SECRET_ACCESS_KEY": KEYS["aws_secret_access_key"],
        "MILLPOND_S3__ALLOW_HTTP": "true",
    }
    data_dir: Path = tmp_path_factory.mktemp("s3") / "data"
    with running_server(data_dir, "--storage-root", "s3://lake/root", env=env) as server:
        yield server


def test_tables_volumes_and_artifacts_live_in_the_bucket(on_s3: Server, store: str) -> None:
    """Write, change, optimise and read a table; a file of a volume read by Spark; an artifact up and down."""
    spark = SparkSession.builder.remote(on_s3.spark_remote).create()
    spark.range(100).write.saveAsTable("main.default.numbers")
    spark.sql("UPDATE main.default.numbers SET id = 1000 WHERE id = 99")
    spark.sql("OPTIMIZE main.default.numbers")
    found = spark.sql("SELECT count(*) AS n, max(id) AS top FROM main.default.numbers").first()
    operations = [row.operation for row in spark.sql("DESCRIBE HISTORY main.default.numbers").collect()]
    assert (found.n, found.top) == (100, 1000)
    assert operations[-1] == "CREATE TABLE"

    workspace = WorkspaceClient(host=on_s3.url, token=on_s3.token)
    workspace.volumes.create("main", "default", "raw", VolumeType.MANAGED)
    workspace.files.upload("/Volumes/main/default/raw/x.csv", io.BytesIO(b"a,b\n1,2\n"))
    assert spark.read.option("header", True).csv("/Volumes/main/default/raw/x.csv").first().asDict() == {
        "a": "1",
        "b": "2",
    }
    spark.stop()

    with signed_in(on_s3), mlflow.start_run() as run:
        mlflow.log_text("hello", "notes/a.txt")
        assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/notes/a.txt") == "hello"

    listed = _listed(store)
    places = {key.split("/")[1] for key in listed}
    assert places == {"delta", "volumes", "artifacts"}


@pytest.mark.long
def test_a_stream_and_its_checkpoint_live_in_the_bucket(on_s3: Server) -> None:
    """Appended and merged, begun and gone on with."""
    spark = SparkSession.builder.remote(on_s3.spark_remote).create()
    spark.sql("CREATE VOLUME main.default.checkpoints")
    spark.sql("CREATE TABLE main.default.events (id BIGINT NOT NULL, city STRING) PARTITIONED BY (city)")
    spark.sql("CREATE TABLE main.default.latest (id BIGINT NOT NULL, city STRING, PRIMARY KEY (id))")
    for rows in ("(1, 'a b'), (2, NULL)", "(3, 'c')"):
        spark.sql(f"INSERT INTO main.default.events VALUES {rows}")
        for sink, table in (("delta", "copied"), ("millpond.merge", "latest")):
            writer = spark.readStream.table("main.default.events").writeStream.format(sink)
            writer = writer.option("checkpointLocation", f"/Volumes/main/default/checkpoints/{table}")
            writer.trigger(availableNow=True).toTable(f"main.default.{table}").awaitTermination()
    for table in ("copied", "latest"):
        found = spark.table(f"main.default.{table}").orderBy("id").collect()
        assert [tuple(row) for row in found] == [(1, "a b"), (2, None), (3, "c")]
    spark.stop()


def _seen_by_a_function(table: str, others: str) -> Callable[[Any], Any]:
    def look(_):  # type hints would make it a pandas function
        import os

        import boto3

        store = boto3.client("s3")  # with all that the engine has
        attempts = {
            "own": lambda: store.list_objects_v2(Bucket="lake", Prefix=table),
            "all": lambda: store.list_objects_v2(Bucket="lake"),
            "others": lambda: store.list_objects_v2(Bucket="lake", Prefix=others),
            "climb": lambda: store.get_object(
                Bucket="lake", Key=f"{table}/../{others}/_delta_log/00000000000000000000.json"
            ),
            "log": lambda: store.get_object(Bucket="lake", Key=f"{others}/_delta_log/00000000000000000000.json"),
            "copy": lambda: store.copy_object(
                Bucket="lake", Key=f"{table}/x", CopySource=f"lake/{others}/_delta_log/00000000000000000000.json"
            ),
            "write": lambda: store.put_object(Bucket="lake", Key=f"{others}/x", Body=b"x"),
            "delete": lambda: store.delete_objects(Bucket="lake", Delete={"Objects": [{"Key": f"{others}/x"}]}),
            "bucket": lambda: store.create_bucket(Bucket="mine"),
        }
        found = [] if os.environ["AWS_SECRET_ACCESS_KEY"] != "secret" else ["the key"]
        for name, attempt in attempts.items():
            try:
                attempt()
                found.append(name)
            except Exception as error:
                if "AccessDenied" not in str(error):
                    found.append(f"{name}: {error!r}")
        return found

    return look


def test_a_function_finds_no_key_and_reaches_nothing_of_others(on_s3: Server) -> None:
    """The engine has a relay in place of a key, which lets through what its user may reach: no filtered table."""
    admin = SparkSession.builder.remote(on_s3.spark_remote).create()
    admin.range(3).write.saveAsTable("main.default.others")
    admin.sql("GRANT USE CATALOG ON CATALOG main TO `account users`")
    admin.sql("GRANT USE SCHEMA, CREATE TABLE, SELECT ON SCHEMA main.default TO `account users`")
    admin.sql("CREATE FUNCTION main.default.above_one(id BIGINT) RETURNS BOOLEAN RETURN id > 1")
    admin.sql("ALTER TABLE main.default.others SET ROW FILTER main.default.above_one ON (id)")
    others = _place(admin, "main.default.others")
    admin.stop()
    remote = on_s3.spark_remote.replace(on_s3.token, on_s3.new_user("bob@example.com"))
    bob = SparkSession.builder.remote(remote).create()
    bob.range(3).write.saveAsTable("main.default.own")
    look = udf(_seen_by_a_function(_place(bob, "main.default.own"), others), "array<string>")
    assert bob.table("main.default.own").select(look("id")).first()[0] == ["own"]
    assert bob.table("main.default.others").select("id", look("id")).collect() == [(2, ["own"])]
    bob.stop()


def _place(spark: SparkSession, table: str) -> str:
    location: str = spark.sql(f"DESCRIBE DETAIL {table}").first()["location"]
    return location.removeprefix("s3://lake/")


@pytest.mark.filterwarnings("ignore")  # the clients' warnings are not ours
def test_model_versions_live_in_the_bucket(
    on_s3: Server, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One client sends the files through the server; the other, with keys that the server got for it, itself."""
    path, rows = tmp_path / "model", np.array([[1.0], [2.0]])
    signature = infer_signature(rows, np.array([7, 7]))
    mlflow.pyfunc.save_model(path, python_model=constant(7), signature=signature, pip_requirements=[])
    monkeypatch.setenv("DATABRICKS_HOST", on_s3.url)
    monkeypatch.setenv("DATABRICKS_TOKEN", on_s3.token)
    monkeypatch.setenv("MLFLOW_UC_OSS_TOKEN", on_s3.token)
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", store)
    with signed_in(on_s3):
        for registry, name in (("databricks-uc", "main.default.sent"), (f"uc:{on_s3.url}", "main.default.written")):
            mlflow.set_registry_uri(registry)
            client = mlflow.MlflowClient()
            client.create_registered_model(name)
            client.create_model_version(name, str(path))
            assert mlflow.pyfunc.load_model(f"models:/{name}/1").predict(rows) == [7, 7]
        mlflow.set_registry_uri(on_s3.url)
        for name in ("main.default.sent", "main.default.written"):
            assert mlflow.pyfunc.load_model(f"models:/{name}/1").predict(rows) == [7, 7]
    models = [key for key in _listed(store) if key.endswith("/MLmodel")]
    assert len(models) == 2
    assert all(key.startswith("root/artifacts/registry/") for key in models)


def _listed(store: str) -> list[str]:
    found = boto3.client("s3", endpoint_url=store, **KEYS).list_objects_v2(Bucket="lake")
    return [item["Key"] for item in found["Contents"]]
