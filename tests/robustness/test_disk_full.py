"""A full disk is an error that says so, and leaves nothing half done."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from tests.servers import Server, running_server

SIZE = 24 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)], capture_output=True)
    if mount.returncode:
        pytest.skip("needs the right to mount a small file system; continuous integration has it")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def server(small_disk: Path, tmp_path: Path) -> Iterator[Server]:
    """A server whose tables are on the small disk."""
    with running_server(tmp_path / "data", "--storage-root", str(small_disk / "root")) as running:
        yield running


def test_a_write_that_does_not_fit_changes_nothing(server: Server) -> None:
    """The append fails in PySpark, the table is as it was, and the next write that fits succeeds."""
    spark = SparkSession.builder.remote(server.spark_remote).create()
    spark.range(1000).write.saveAsTable("main.default.t")
    too_much = spark.range(8_000_000).selectExpr("id * 7919 % 1000003 * 31337 AS id")
    with pytest.raises(PySparkException):
        too_much.write.mode("append").saveAsTable("main.default.t")
    assert spark.table("main.default.t").count() == 1000
    assert len(spark.sql("DESCRIBE HISTORY main.default.t").collect()) == 1
    spark.range(10).write.mode("append").saveAsTable("main.default.t")
    assert spark.table("main.default.t").count() == 1010

    with pytest.raises(PySparkException):
        too_much.write.saveAsTable("main.default.never")
    assert not spark.catalog.tableExists("main.default.never")
    spark.stop()
    assert server.call("GET", "/health/ready")[0] == 200
