"""Tables through Sail's own, unmodified Unity Catalog provider."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import deltalake
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from millpond.catalog.domain import ObjectName
from tests.catalog.conftest import Site, catalog, data_dir, database, make_table, people, site
from tests.catalog.test_storage import wait_for_port

__all__ = ["catalog", "data_dir", "database", "people", "site"]


@pytest.fixture
def spark(site: Site, tmp_path: Path) -> Iterator[SparkSession]:
    """A Sail server of its own process, which knows our catalog under the name `lake`."""
    site.catalog.create_catalog(site.people.alice, name="lake")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    token = site.people.tokens[site.people.alice.name]
    provider = (
        f'name="lake", type="unity", uri="{site.url}/api/2.1/unity-catalog", default_catalog="lake", token="{token}"'
    )
    environment = {
        **os.environ,
        "SAIL_CATALOG__LIST": f"[{{{provider}}}]",
        "SAIL_CATALOG__DEFAULT_CATALOG": "lake",
        "SAIL_CATALOG__DEFAULT_DATABASE": '["default"]',
    }
    command = [sys.executable, "-m", "pysail", "spark", "server", "--ip", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "sail.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait_for_port(port)
        session = SparkSession.builder.remote(f"sc://127.0.0.1:{port}").create()
        yield session
        session.stop()
    finally:
        process.kill()
        process.wait()


def test_sail_reads_and_writes_a_managed_table(site: Site, spark: SparkSession) -> None:
    """With rows that others see, though we list it to Sail as EXTERNAL."""
    table = make_table(site.catalog, site.people.alice, "lake.default.t")
    rows = pa.table({"id": pa.array([1, 2], pa.int64()), "name": ["a", "b"]})
    deltalake.write_deltalake(table.storage_location, rows)
    assert [row.tableName for row in spark.sql("SHOW TABLES IN default").collect()] == ["t"]
    assert spark.sql("SELECT name FROM default.t ORDER BY id").toPandas()["name"].tolist() == ["a", "b"]
    spark.sql("INSERT INTO default.t VALUES (3, 'c')").collect()
    names = deltalake.DeltaTable(table.storage_location).to_pyarrow_table()["name"].to_pylist()
    assert sorted(names) == ["a", "b", "c"]


def test_sail_does_not_make_tables_that_others_cannot_read(site: Site, spark: SparkSession) -> None:
    """Its managed tables would be of the catalogManaged kind, which is refused as not implemented."""
    with pytest.raises(Exception, match="501 Not Implemented"):
        spark.sql("CREATE TABLE default.n (a INT) USING delta").collect()
    assert site.catalog.find_table(site.people.alice, ObjectName.parse("lake.default.n")) is None
