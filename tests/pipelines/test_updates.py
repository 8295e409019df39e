"""Updates of pipelines whose sources are Python, SQL and notebooks, unmodified, through a real server."""

import json

import pytest

from tests.pipelines.pipelines import Pipeline
from tests.servers import wait_until

pytestmark = pytest.mark.timeout(300)

ORDERS = "CREATE TABLE orders (id BIGINT, customer STRING, amount DOUBLE)"
PYTHON = """
    from pyspark import pipelines as dp
    from pyspark.sql import functions as F

    @dp.temporary_view
    def named():
        return spark.readStream.table("orders").filter("customer IS NOT NULL")

    @dp.table(comment="What was ordered", table_properties={"quality": "silver"}, partition_cols=["customer"])
    @dp.expect("has a size", "amount <> 0")
    @dp.expect_or_drop("positive", F.col("amount") >= 0)
    def clean():
        return spark.readStream.table("named").withColumn("twice", F.col("amount") * 2)

    @dp.materialized_view
    @dp.expect_all({"small": "total < 10", "known": "customer <> 'bob'"})
    def totals():
        frame = spark.read.table("clean")
        assert "twice" in frame.columns
        return frame.groupBy("customer").agg(F.sum("amount").alias("total"))
"""
SQL = """
    -- more of the same
    CREATE OR REFRESH STREAMING TABLE large (
      id BIGINT COMMENT 'of the order', customer STRING, amount DOUBLE,
      CONSTRAINT not_too_large EXPECT (amount < ${limit}) ON VIOLATION DROP ROW
    ) COMMENT 'Large orders'
    AS SELECT id, customer, amount FROM STREAM(orders) o WHERE o.amount >= 3;

    CREATE OR REFRESH MATERIALIZED VIEW best AS
    SELECT t.customer, max(l.amount) AS most FROM LIVE.totals t JOIN large l ON t.customer = l.customer
    GROUP BY t.customer;
"""


def insert(pipeline: Pipeline, *rows: tuple[int, str | None, float | None]) -> None:
    """One commit with some orders."""
    values = ", ".join(str(row).replace("None", "NULL") for row in rows)
    pipeline.sql(f"INSERT INTO orders VALUES {values}")


def test_tables_are_made_and_follow_what_comes(pipeline: Pipeline) -> None:
    pipeline.sql(ORDERS)
    insert(pipeline, (1, "ann", 1.0), (2, "ann", -1.0), (3, "bob", 30.0), (4, None, 5.0), (5, "bob", None))
    pipeline.python(PYTHON).sql_file(SQL)
    first = pipeline.updated(configuration={"limit": "20"})
    assert sorted(pipeline.sql("SELECT id, customer, amount, twice FROM clean")) == [
        (1, "ann", 1.0, 2.0), (3, "bob", 30.0, 60.0),
    ]  # fmt: skip
    assert first.counts("clean") == {
        "written": 2, "dropped": 2,
        "failed": {"has a size": 1, "positive": 2}, "passed": {"has a size": 3, "positive": 2},
    }  # fmt: skip
    assert first.counts("totals")["failed"] == {"small": 1, "known": 1}
    assert first.counts("large") == {
        "written": 1, "dropped": 1, "failed": {"not_too_large": 1}, "passed": {"not_too_large": 1},
    }  # fmt: skip
    assert first.statuses("clean") == ["QUEUED", "STARTING", "RUNNING", "COMPLETED"]
    insert(pipeline, (6, "ann", 10.0))
    second = pipeline.updated(configuration={"limit": "20"})
    assert second.counts("clean")["written"] == second.counts("large")["written"] == 1
    assert sorted(pipeline.sql("SELECT * FROM totals")) == [("ann", 11.0), ("bob", 30.0)]
    assert pipeline.sql("SELECT * FROM best") == [("ann", 10.0)]
    third = pipeline.updated(configuration={"limit": "20"})
    assert third.counts("clean")["written"] == 0
    assert sorted(row[0] for row in pipeline.sql("SELECT id FROM clean")) == [1, 3, 6]
    info = pipeline.info("clean")
    assert (info["comment"], info["properties"]["quality"]) == ("What was ordered", "silver")
    assert info["properties"]["pipelines.pipelineId"] == pipeline.id
    assert [each["name"] for each in info["columns"] if each.get("partition_index") is not None] == ["customer"]
    assert pipeline.info("large")["columns"][0]["comment"] == "of the order"
    assert pipeline.tables() == {"orders", "clean", "totals", "large", "best"}
    assert upstream(pipeline, "clean") == {"orders"}  # though rows were staged


def upstream(pipeline: Pipeline, name: str) -> set[str]:
    """The names of the tables that a table was made of."""
    path = f"/api/2.0/lineage-tracking/table-lineage?table_name=main.{pipeline.schema}.{name}"
    found = wait_until(lambda: pipeline.server.call("GET", path)[1]["upstreams"], what="its lineage")
    return {each["tableInfo"]["name"] for each in found}


NOTEBOOK = """\
# Databricks notebook source
# MAGIC %md
# MAGIC # Orders
# COMMAND ----------
import dlt
from pyspark.sql import functions as F
# COMMAND ----------
@dlt.view
@dlt.expect_or_drop("named", "customer IS NOT NULL")
def raw():
    return spark.readStream.table("orders")
# COMMAND ----------
@dlt.table(schema="id BIGINT, amount DOUBLE, origin STRING")
def amounts():
    return dlt.read_stream("raw").select("id", "amount", F.lit(spark.conf.get("origin")).alias("origin"))

@dlt.table
def how_many():
    return spark.sql("SELECT count(*) AS n FROM LIVE.amounts")

dlt.create_streaming_table("all_ids")

@dlt.append_flow(target="all_ids")
def from_orders():
    return spark.readStream.table("orders").select("id")

@dlt.append_flow(target="all_ids", name="more")
def from_amounts():
    return dlt.read_stream("amounts").select((F.col("id") + 100).alias("id"))
"""


def test_a_notebook_with_dlt(pipeline: Pipeline) -> None:
    pipeline.sql(ORDERS)
    insert(pipeline, (1, "ann", 1.0), (2, None, 2.0))
    pipeline.python(NOTEBOOK, path="/p/notebook", kind="notebook")
    for _ in range(2):
        done = pipeline.updated(configuration={"origin": "shop"})
    assert done.error is None
    assert pipeline.sql("SELECT * FROM amounts") == [(1, 1.0, "shop")]
    assert pipeline.sql("SELECT * FROM how_many") == [(1,)]
    assert sorted(pipeline.sql("SELECT id FROM all_ids")) == [(1,), (2,), (101,)]
    kinds = {
        each["origin"]["dataset_name"].rpartition(".")[2]: each["details"]["dataset_definition"]["dataset_type"]
        for each in done.events if each["event_type"] == "dataset_definition"
    }  # fmt: skip
    assert kinds == {
        "raw": "VIEW", "amounts": "STREAMING_TABLE", "how_many": "MATERIALIZED_VIEW", "all_ids": "STREAMING_TABLE",
    }  # fmt: skip


FAILING = """
    import dlt

    @dlt.table
    @dlt.expect_or_fail("has an amount", "amount IS NOT NULL")
    def checked():
        return dlt.read_stream("orders")

    @dlt.table
    def after():
        return dlt.read("checked")

    @dlt.table
    def beside():
        return spark.read.table("orders")
"""


def test_what_fails_writes_nothing_and_stops_what_reads_it_alone(pipeline: Pipeline) -> None:
    pipeline.sql(ORDERS)
    insert(pipeline, (1, "ann", 1.0), (2, "bob", None))
    found = pipeline.python(FAILING).update()
    assert found.error is not None
    assert "1 of 2 rows" in found.error
    assert "'has an amount' (amount IS NOT NULL)" in found.error
    assert pipeline.sql("SELECT * FROM checked") == []
    assert len(pipeline.sql("SELECT * FROM beside")) == 2
    assert found.statuses("checked")[-1] == "FAILED"
    assert pipeline.tables() == {"orders", "checked", "after", "beside"}
    assert found.statuses("after")[-1] == "SKIPPED"
    assert found.statuses("beside")[-1] == "COMPLETED"
    assert found.events[-1]["details"]["update_progress"]["state"] == "FAILED"
    pipeline.python(FAILING.replace("_or_fail", "_or_drop"))
    assert pipeline.updated().counts("checked")["dropped"] == 1
    assert len(pipeline.sql("SELECT * FROM after")) == 1


def test_full_refresh_and_selection(pipeline: Pipeline) -> None:
    source = """
        CREATE STREAMING TABLE one AS SELECT id, {more} AS more FROM STREAM orders;
        CREATE STREAMING TABLE two AS SELECT id FROM STREAM(orders);
        CREATE MATERIALIZED VIEW three AS SELECT count(*) AS n FROM one
    """
    pipeline.sql(ORDERS)
    insert(pipeline, (1, "ann", 1.0))
    pipeline.sql_file(source.format(more="1")).updated()
    insert(pipeline, (2, "ann", 1.0))
    chosen = pipeline.updated(refresh_selection=["two"])
    assert chosen.statuses("one") == []
    assert [len(pipeline.sql(f"SELECT * FROM {name}")) for name in ("one", "two")] == [1, 2]
    pipeline.sql_file(source.format(more="'a text'"))
    assert "Refresh it in full" in str(pipeline.update().error)
    pipeline.updated(full_refresh_selection=["one"])
    assert sorted(pipeline.sql("SELECT * FROM one")) == [(1, "a text"), (2, "a text")]
    partitioned = source.format(more="'a text'").replace("one AS", "one PARTITIONED BY (more) AS")
    partitioned = partitioned.replace("three AS SELECT", "three PARTITIONED BY (n) AS SELECT 1 AS m,")
    assert "is partitioned by [], and is declared" in str(pipeline.sql_file(partitioned).update().error)
    pipeline.updated(full_refresh_selection=["one", "three"])
    for name, column in (("one", "more"), ("three", "n")):
        found = [each["name"] for each in pipeline.info(name)["columns"] if each.get("partition_index") is not None]
        assert found == [column]
    pipeline.updated(full_refresh=True)
    assert [len(pipeline.sql(f"SELECT * FROM {name}")) for name in ("one", "two")] == [2, 2]
    assert pipeline.sql("SELECT n FROM three") == [(2,)]


WRONG = {
    "a circle": (
        "@dlt.table\ndef a():\n    return dlt.read('b')\n@dlt.table\ndef b():\n    return dlt.read('a')",
        ["circle", "main.{s}.a -> main.{s}.b -> main.{s}.a"],
    ),
    "twice": (
        "@dlt.table\ndef a():\n    return None\n@dlt.view(name='A')\ndef b():\n    return None",
        ["declared twice"],
    ),
    "no such table": (
        "@dlt.table\ndef a():\n    return dlt.read('nowhere')",
        ["Flow 'main.{s}.a'", "nowhere", "line 2"],
    ),
    "no such dataset": ("@dlt.table\ndef a():\n    return dlt.read('LIVE.nowhere')", ["No dataset", "LIVE.nowhere"]),
    "a stream of a view": (
        "@dlt.table\ndef a():\n    return spark.read.table('orders')\n"
        "@dlt.table\ndef b():\n    return dlt.read_stream('a')",
        ["Flow 'main.{s}.b'", "is a materialized view", "line 5"],
    ),
    "no stream": (
        "from pyspark import pipelines as dp\n@dp.table\ndef a():\n    return spark.read.table('orders')",
        ["is of no stream"],
    ),
    "a sum": (
        "@dlt.table\ndef a():\n    return dlt.read_stream('orders').groupBy('id').count()",
        ["Not supported on a stream", "Aggregations"],
    ),
    "a sum in SQL": (
        "@dlt.table\ndef a():\n    return spark.sql('SELECT id, count(*) FROM STREAM(orders) GROUP BY id')",
        ["GROUP BY over a stream"],
    ),
    "a condition": (
        "@dlt.table\n@dlt.expect('odd', 'unknown > 1')\ndef a():\n    return dlt.read('orders')",
        ["the expectation 'odd'", "unknown"],
    ),
    "another's": ("@dlt.table\ndef orders():\n    return spark.range(1)", ["as an ordinary table", "line 2"]),
    "syntax": ("x = = 1", ["/p/flows.py, line 2", "SyntaxError"]),
    "an error": ("@dlt.table\ndef a():\n    return 1 / 0", ["ZeroDivisionError", "(line 4)"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_before_anything_is_written(pipeline: Pipeline, name: str) -> None:
    text, pieces = WRONG[name]
    pipeline.sql(ORDERS)
    good = "@dlt.table\ndef good():\n    return spark.read.table('orders')\n"
    error = pipeline.python(f"import dlt\n{text}\n{good}").update().error
    assert error is not None
    for piece in pieces:
        assert piece.format(s=pipeline.schema) in error, error
    assert pipeline.tables() == {"orders"}


def test_validation_writes_nothing_and_what_is_gone_is_told(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millpond.sdk.pipelines.tables._PAGE", 1)
    pipeline.sql(ORDERS)
    pipeline.python(FAILING).updated(validate_only=True)
    assert pipeline.tables() == {"orders"}
    pipeline.updated()
    pipeline.python(FAILING[: FAILING.index("@dlt.table\n    def beside")])
    warned = [each for each in pipeline.updated().events if each["level"] == "WARN"]
    assert [each["origin"]["dataset_name"] for each in warned] == [f"main.{pipeline.schema}.beside"]
    assert "inactive" in warned[0]["message"]
    assert warned[0]["event_type"] == "update_progress"  # a definition would put it into the graph
    other = Pipeline(server=pipeline.server, schema=pipeline.schema, spark=pipeline.spark, directory=pipeline.directory)
    assert f"of the pipeline {pipeline.id}" in str(other.python(FAILING).update().error)


def test_a_continuous_update_follows_until_it_is_ended(pipeline: Pipeline) -> None:
    pipeline.sql(ORDERS)
    insert(pipeline, (1, "ann", 1.0))
    pipeline.sql_file(
        "CREATE STREAMING TABLE ids AS SELECT id FROM STREAM(orders);"
        "CREATE MATERIALIZED VIEW many AS SELECT count(*) AS n FROM ids"
    )
    process = pipeline.process(continuous=True, configuration={"pipelines.trigger.interval": "100 milliseconds"})
    try:
        for count in (1, 2):
            wait_until(
                lambda count=count: "many" in pipeline.tables() and pipeline.sql("SELECT n FROM many") == [(count,)],
                what="the new rows",
            )
            insert(pipeline, (9, "bob", 1.0))
    finally:
        process.terminate()
        told = process.communicate(timeout=60)[0]
    statuses = {json.loads(line)["details"].get("flow_progress", {}).get("status") for line in told.splitlines()}
    assert {"IDLE", "RUNNING"} < statuses
