"""Apache Spark's own Connect server behind the gateway instead of Sail: MILLPOND_ENGINE__REMOTE=sc://...

PyPI's Spark has no Delta jars, so Parquet tables stand in.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import functions as F
from tests.engine.gateways import RunningGateway, running_gateway
from tests.engine.spark_server import spark_connect_server
from tests.features import aggregation_kernels, kernels
from tests.features.spark_kernel import aggregations_on, kernel_on

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    scratch = tmp_path_factory.mktemp("spark")
    with (
        spark_connect_server(scratch) as address,
        running_gateway(scratch / "data", MILLPOND_ENGINE__REMOTE=address) as gateway,
    ):
        yield gateway


@pytest.fixture(scope="module")
def spark(remote: RunningGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    session = remote.spark()
    session.sql("CREATE CATALOG r")
    session.sql("CREATE SCHEMA r.s")
    session.sql("USE r.s")
    place = tmp_path_factory.mktemp("external") / "t"
    session.sql(f"CREATE TABLE t USING parquet LOCATION '{place}' AS SELECT id, id * 2 AS x FROM range(5)")
    yield session
    session.stop()


def rows(session: Any, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in session.sql(query).collect()]


def test_names_of_the_catalog_are_resolved_for_spark(spark: Any) -> None:
    assert rows(spark, "SELECT count(*), sum(r.s.t.x) FROM r.s.t") == [(5, 20)]
    assert rows(spark, "SELECT max(a.x) FROM t a JOIN s.t b ON a.id = b.id") == [(8,)]
    assert rows(spark, "WITH t AS (SELECT * FROM r.s.t WHERE id = 1) SELECT x FROM t") == [(2,)]
    assert spark.table("t").filter("id IN (SELECT id FROM r.s.t WHERE x > 4)").count() == 2
    assert rows(spark, "SELECT current_catalog(), current_schema()") == [("r", "s")]


@pytest.mark.long
@settings(max_examples=10, phases=[Phase.generate])
@given(labels=kernels.labels, features=kernels.features, join=kernels.joins)
def test_a_point_in_time_join_gives_what_it_gives_elsewhere(spark: Any, labels: Any, features: Any, join: Any) -> None:
    kernels.holds(kernel_on(spark), labels, features, join)


@pytest.mark.long
@settings(max_examples=10, phases=[Phase.generate])
@given(labels=aggregation_kernels.labels, events=aggregation_kernels.events, step=aggregation_kernels.aggregations)
def test_an_aggregation_gives_what_it_gives_elsewhere(spark: Any, labels: Any, events: Any, step: Any) -> None:
    aggregation_kernels.holds(aggregations_on(spark), labels, events, step)


def test_late_data_is_not_known_early(spark: Any) -> None:
    kernels.late_data_counts_from_when_it_was_known(kernel_on(spark))


def test_writes_views_parameters_and_functions(spark: Any, tmp_path: Path) -> None:
    spark.range(3).write.format("parquet").option("path", str(tmp_path / "u")).saveAsTable("u")
    spark.sql("INSERT INTO u VALUES (9)")
    spark.createDataFrame([(10,)], "id long").write.mode("append").saveAsTable("u")
    spark.table("u").createOrReplaceTempView("v")
    assert rows(spark, "SELECT count(*), max(id) FROM v") == [(5, 10)]
    assert spark.sql("SELECT count(*) FROM {d} WHERE id > :low", d=spark.table("u"), args={"low": 5}).first()[0] == 2
    plus_one = F.udf(lambda value: value + 1, "long", useArrow=False)
    assert spark.range(3).select(F.max(plus_one("id"))).first()[0] == 3
    assert spark.range(3).mapInPandas(lambda frames: frames, "id long").count() == 3
    assert [c.name for c in spark.catalog.listColumns("u")] == ["id"]


def test_errors_are_sparks_own(spark: Any) -> None:
    with pytest.raises(AnalysisException) as caught:
        spark.sql("SELECT nocol FROM t").collect()
    assert caught.value.getCondition() == "UNRESOLVED_COLUMN.WITH_SUGGESTION"
    with pytest.raises(AnalysisException, match="TABLE_OR_VIEW_NOT_FOUND"):
        spark.table("spark_catalog.default.t").collect()


def test_users_share_the_engine_and_nothing_else(remote: RunningGateway, spark: Any) -> None:
    bob = remote.spark("bob@example.com")
    location = spark.catalog.getTable("t") and spark.sql("DESCRIBE TABLE EXTENDED t").collect()
    path = next(row["data_type"] for row in location if row["col_name"] == "Location")
    for read in (
        lambda: bob.table("r.s.t"),
        lambda: bob.read.parquet(path),
        lambda: bob.sql(f"SELECT * FROM parquet.`{path}`"),
    ):
        with pytest.raises(AnalysisException):
            read().collect()
    spark.range(2).createOrReplaceTempView("hidden")
    with pytest.raises(AnalysisException):
        bob.table("hidden").collect()
    bob.stop()


def test_hidden_rows_stay_behind_a_barrier_and_no_code_runs_beside_them(remote: RunningGateway, spark: Any) -> None:
    """There are no files to put the visible rows in, which both could read."""
    bob = remote.spark("bob@example.com")
    for statement in (
        "CREATE FUNCTION small(x LONG) RETURNS BOOLEAN RETURN x < 3",
        "CREATE FUNCTION veil(x LONG) RETURNS LONG RETURN -x",
        "ALTER TABLE t SET ROW FILTER small ON (x)",
        "ALTER TABLE t ALTER COLUMN id SET MASK veil",
        "GRANT USE CATALOG, USE SCHEMA, SELECT ON CATALOG r TO `bob@example.com`",
        "CREATE VIEW narrow AS SELECT id FROM t",
    ):
        spark.sql(statement).collect()
    assert sorted(rows(bob, "SELECT * FROM r.s.t")) == [(-1, 2), (0, 0)]
    assert sorted(rows(bob, "SELECT x FROM r.s.t WHERE 1 / (x - 4) < 9 OR raise_error(x) IS NULL")) == [(0,), (2,)]
    assert rows(bob, "SELECT count(*) FROM r.s.narrow") == [(2,)]
    with pytest.raises(PySparkException, match="Functions of your own"):
        bob.table("r.s.t").mapInPandas(lambda frames: frames, "id long, x long").collect()
    bob.udf.register("same", lambda value: value, "long")
    with pytest.raises(PySparkException, match="Functions of your own"):
        bob.sql("SELECT same(x) FROM r.s.t").collect()
    bob.stop()
