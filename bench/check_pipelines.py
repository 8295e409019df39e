"""What tables of a pipeline cost over CREATE TABLE AS of the same rows; and an update that finds nothing new."""

import tempfile
import time
from pathlib import Path

from pyspark.sql import SparkSession
from tests.pipelines.pipelines import Pipeline
from tests.servers import running_server

ROWS, RUNS = 3_000_000, 3
TABLES = {
    "plain": "",
    "counted": "(CONSTRAINT a EXPECT (x < 3000000), CONSTRAINT b EXPECT (s <> '7'))",
    "dropping": "(CONSTRAINT a EXPECT (x < 3000000) ON VIOLATION DROP ROW, CONSTRAINT b EXPECT (s <> '7'))",
}


def main() -> None:
    """Print seconds, the best of RUNS, and their ratio to the statement's."""
    with tempfile.TemporaryDirectory() as place, running_server(Path(place) / "data") as server:
        spark = SparkSession.builder.remote(server.spark_remote).create()
        server.call("POST", "/api/2.1/unity-catalog/schemas", {"name": "p", "catalog_name": "main"})
        pipeline = Pipeline(server=server, schema="p", spark=spark, directory=Path(place))
        pipeline.sql(
            "CREATE TABLE source AS SELECT id, id % 1000 AS k, CAST(id AS STRING) AS s, id * 1.5D AS x "
            f"FROM range({ROWS})"
        )
        statement = min(_statement(pipeline, number) for number in range(RUNS))
        print(f"CREATE TABLE AS  {statement:.2f} s")
        for name, expected in TABLES.items():
            pipeline.sql_file(f"CREATE STREAMING TABLE {name} {expected} AS SELECT * FROM STREAM(source)")
            took = min(_updated(pipeline, full_refresh=True) for _ in range(RUNS))
            print(f"{name:15}  {took:.2f} s  {took / statement:.1f} times")
        print(f"nothing new      {min(_updated(pipeline) for _ in range(RUNS)):.2f} s")
        spark.stop()


def _statement(pipeline: Pipeline, number: int) -> float:
    began = time.monotonic()
    pipeline.sql(f"CREATE TABLE copied_{number} AS SELECT * FROM source")
    return time.monotonic() - began


def _updated(pipeline: Pipeline, *, full_refresh: bool = False) -> float:
    began = time.monotonic()
    pipeline.updated(full_refresh=full_refresh)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
