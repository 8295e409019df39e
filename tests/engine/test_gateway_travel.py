"""Each version of a table can be read, wherever the checkpoints of its log are."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.engine.gateways import ADMIN, RunningGateway

USER = "traveller@example.com"
COMMITS = 13
"""Three more than the engine makes between two checkpoints."""


@pytest.fixture(scope="module")
def spark(gateway: RunningGateway) -> Iterator[Any]:
    session = gateway.spark(ADMIN)
    session.sql("CREATE CATALOG IF NOT EXISTS travelled")
    session.sql("CREATE SCHEMA IF NOT EXISTS travelled.s")
    session.sql("USE travelled.s")
    yield session
    session.stop()


@pytest.fixture
def table(spark: Any, request: pytest.FixtureRequest) -> Iterator[str]:
    """A table whose version n has n + 1 rows."""
    name = f"travelled.s.{request.node.name.partition('[')[0]}"
    for _ in range(COMMITS):
        spark.range(1).write.mode("append").saveAsTable(name)
    assert _hint(spark, name).exists()
    yield name
    spark.sql(f"DROP TABLE {name}")


def _hint(spark: Any, table: str) -> Path:
    location = spark.sql(f"DESCRIBE DETAIL {table}").first()["location"]
    return Path(location.removeprefix("file://")) / "_delta_log" / "_last_checkpoint"


def _by_timestamp(spark: Any, table: str, version: int) -> Any:
    committed = next(r for r in spark.sql(f"DESCRIBE HISTORY {table}").collect() if r["version"] == version)
    return spark.read.option("timestampAsOf", str(committed["timestamp"])).table(table)


READS: dict[str, Callable[[Any, str, int], Any]] = {
    "SQL": lambda spark, table, version: spark.sql(f"SELECT * FROM {table} VERSION AS OF {version}"),
    "an option": lambda spark, table, version: spark.read.option("versionAsOf", version).table(table),
    "a timestamp": _by_timestamp,
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_each_version_is_found(spark: Any, table: str, read: Callable[[Any, str, int], Any]) -> None:
    assert [read(spark, table, version).count() for version in range(COMMITS)] == list(range(1, COMMITS + 1))


def test_a_version_is_found_by_the_time_that_its_history_shows(spark: Any, table: str) -> None:
    """Though a commit's file is not of the moment that its own `commitInfo` says, as on a machine that is busy."""
    log = _hint(spark, table).parent
    start_s = int(time.time()) - 3600
    for version in range(COMMITS):
        written_s = start_s + 1.0493 * version
        os.utime(log / f"{version:020}.json", (written_s, written_s))
    committed = {row["version"]: row["timestamp"] for row in spark.sql(f"DESCRIBE HISTORY {table}").collect()}
    assert [_by_timestamp(spark, table, version).count() for version in range(COMMITS)] == list(range(1, COMMITS + 1))
    for version in (0, 7):
        spark.sql(f"RESTORE TABLE {table} TO TIMESTAMP AS OF '{committed[version]}'")
        assert spark.table(table).count() == version + 1
    modified = spark.sql(f"DESCRIBE DETAIL {table}").first()["lastModified"]
    assert modified == spark.sql(f"DESCRIBE HISTORY {table} LIMIT 1").first()["timestamp"]


def test_each_version_of_a_path_is_found(spark: Any) -> None:
    spark.sql("CREATE VOLUME IF NOT EXISTS travelled.s.files")
    path = "/Volumes/travelled/s/files/t"
    for _ in range(COMMITS):
        spark.range(1).write.format("delta").mode("append").save(path)
    reader = spark.read.format("delta")
    assert [reader.option("versionAsOf", version).load(path).count() for version in (3, 9, 12)] == [4, 10, 13]
    assert spark.sql(f"SELECT count(*) FROM delta.`{path}` VERSION AS OF 5").first()[0] == 6


def test_each_version_of_what_is_seen_in_part_is_found(spark: Any, table: str, gateway: RunningGateway) -> None:
    other = gateway.spark(USER)
    spark.sql("CREATE OR REPLACE FUNCTION travelled.s.some(n BIGINT) RETURN n < 1")
    spark.sql(f"ALTER TABLE {table} SET ROW FILTER travelled.s.some ON (id)")
    spark.sql(f"GRANT USE CATALOG, USE SCHEMA, SELECT ON CATALOG travelled TO `{USER}`")
    try:
        seen = [other.sql(f"SELECT * FROM {table} VERSION AS OF {version}").count() for version in (2, 9, 12)]
    finally:
        other.stop()
    assert seen == [3, 10, 13]
