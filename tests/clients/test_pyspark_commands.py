"""Commands through unmodified PySpark: what a Spark user types in SQL, and the exceptions that it raises."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pyspark.errors import AnalysisException, ParseException, SparkRuntimeException
from pyspark.sql import SparkSession
from pyspark.sql.types import LongType, MapType, StringType, StructType, TimestampType

from tests.servers import Server


@pytest.fixture(scope="module")
def spark(server: Server) -> Iterator[Any]:
    session = SparkSession.builder.remote(server.spark_remote).create()
    session.sql("CREATE CATALOG IF NOT EXISTS cmd")
    session.sql("CREATE SCHEMA IF NOT EXISTS cmd.s")
    session.sql("USE cmd.s")
    yield session
    session.sql("DROP CATALOG cmd CASCADE")
    session.stop()


@pytest.fixture
def orders(spark: Any) -> Iterator[str]:
    spark.sql(
        "CREATE OR REPLACE TABLE orders (id BIGINT NOT NULL COMMENT 'key', amount DECIMAL(10,2) DEFAULT 1.5, day DATE,"
        " next BIGINT GENERATED ALWAYS AS (id + 1), CONSTRAINT positive CHECK (id > 0)) PARTITIONED BY (day)"
    )
    spark.sql("INSERT INTO orders (id, day) VALUES (1, DATE'2026-01-01'), (2, DATE'2026-01-02')")
    yield "orders"
    spark.sql("DROP TABLE orders")


def rows(spark: Any, text: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in spark.sql(text).collect()]


def refused(spark: Any, text: str, kind: type[Exception], condition: str) -> None:
    with pytest.raises(kind) as caught:
        spark.sql(text).collect()
    assert caught.value.getCondition() == condition  # type: ignore[attr-defined]


def test_defaults_generated_columns_and_constraints_hold_for_writers(spark: Any, orders: str) -> None:
    found = spark.sql("SELECT id, CAST(amount AS DOUBLE) AS amount, next FROM orders ORDER BY id").collect()
    assert [tuple(row) for row in found] == [(1, 1.5, 2), (2, 1.5, 3)]
    refused(spark, "INSERT INTO orders (id) VALUES (-1)", AnalysisException, "DELTA_VIOLATE_CONSTRAINT_WITH_VALUES")
    refused(spark, "INSERT INTO orders (id) VALUES (NULL)", AnalysisException, "DELTA_NOT_NULL_CONSTRAINT_VIOLATED")


def test_schema_changes_are_seen_by_the_next_query(spark: Any, orders: str) -> None:
    spark.sql("ALTER TABLE orders ADD COLUMNS (note STRING COMMENT 'n' AFTER id, extra INT)")
    spark.sql("ALTER TABLE orders RENAME COLUMN amount TO `Total Amount`")
    spark.sql("ALTER TABLE orders DROP COLUMN extra")
    spark.sql("UPDATE orders SET note = 'x' WHERE id = 1")
    assert spark.table("orders").columns == ["id", "note", "Total Amount", "day", "next"]
    assert rows(spark, "SELECT id, note FROM orders WHERE `Total Amount` = 1.5 ORDER BY id") == [(1, "x"), (2, None)]
    assert rows(spark, "SELECT count(amount) FROM orders VERSION AS OF 1") == [(2,)]
    refused(spark, "ALTER TABLE orders DROP COLUMN nope", AnalysisException, "UNRESOLVED_COLUMN.WITH_SUGGESTION")
    refused(spark, "ALTER TABLE orders DROP COLUMN id", AnalysisException, "DELTA_CONSTRAINT_DEPENDENT_COLUMN_CHANGE")


def test_history_names_each_commit_and_its_author(spark: Any, orders: str, server: Server) -> None:
    spark.sql("ALTER TABLE orders SET TBLPROPERTIES ('team' = 'risk')")
    history = spark.sql("DESCRIBE HISTORY orders")
    assert isinstance(history.schema, StructType)
    assert history.schema["version"].dataType == LongType()
    assert history.schema["timestamp"].dataType == TimestampType()
    assert history.schema["operationMetrics"].dataType == MapType(StringType(), StringType())
    found = history.select("version", "operation", "userName").orderBy("version").collect()
    assert [row["operation"] for row in found] == ["CREATE TABLE", "WRITE", "SET TBLPROPERTIES"]
    assert found[-1]["userName"] == server.user
    assert spark.sql("DESCRIBE HISTORY orders LIMIT 1").count() == 1


def test_optimize_vacuum_and_restore(spark: Any, orders: str) -> None:
    spark.sql("INSERT INTO orders (id, day) VALUES (3, DATE'2026-01-01')")
    metrics = spark.sql("OPTIMIZE orders WHERE day = '2026-01-01' ZORDER BY (id)").select("metrics.*").first()
    assert (metrics["numFilesRemoved"], metrics["numFilesAdded"]) == (2, 1)
    assert spark.sql("VACUUM orders").columns == ["path"]
    refused(spark, "VACUUM orders RETAIN 0 HOURS", AnalysisException, "DELTA_VACUUM_RETENTION_PERIOD_TOO_SHORT")
    spark.sql("DELETE FROM orders")
    assert spark.table("orders").count() == 0
    restored = spark.sql("RESTORE TABLE orders TO VERSION AS OF 1").first()
    assert restored["num_of_files_after_restore"] == 2
    assert spark.table("orders").count() == 2


def test_descriptions_and_listings(spark: Any, orders: str) -> None:
    assert rows(spark, "DESCRIBE orders")[0] == ("id", "bigint", "key")
    assert rows(spark, "SHOW PARTITIONS orders")[0][0].isoformat() == "2026-01-01"
    assert ("s", "orders", False) in rows(spark, "SHOW TABLES IN cmd.s LIKE 'ord*'")
    assert ("cmd",) in rows(spark, "SHOW CATALOGS")
    assert rows(spark, "SHOW SCHEMAS IN cmd") == [("default",), ("information_schema",), ("s",)]
    assert rows(spark, "SHOW TBLPROPERTIES orders ('delta.minReaderVersion')") == [("delta.minReaderVersion", "1")]
    detail = spark.sql("DESCRIBE DETAIL orders").first()
    assert (detail["name"], detail["partitionColumns"], detail["numFiles"]) == ("cmd.s.orders", ["day"], 2)
    created = rows(spark, "SHOW CREATE TABLE orders")[0][0]
    spark.sql(created.replace("`orders`", "`again`"))
    assert spark.table("again").schema == spark.table("orders").schema
    spark.sql("DROP TABLE again")


def test_a_dropped_table_comes_back_with_its_rows(spark: Any, orders: str) -> None:
    spark.sql("DROP TABLE orders")
    assert "orders" in [row["tableName"] for row in spark.sql("SHOW TABLES DROPPED IN cmd.s").collect()]
    spark.sql("UNDROP TABLE orders")
    assert rows(spark, "SELECT count(*) FROM orders") == [(2,)]


def test_errors_are_the_exceptions_that_spark_users_know(spark: Any, orders: str) -> None:
    refused(spark, "DROP TABLE orders orders", ParseException, "PARSE_SYNTAX_ERROR")
    refused(spark, "DESCRIBE HISTORY nope", AnalysisException, "TABLE_OR_VIEW_NOT_FOUND")
    refused(spark, "CREATE TABLE orders (a INT)", AnalysisException, "TABLE_OR_VIEW_ALREADY_EXISTS")
    refused(spark, "CREATE TABLE nope.t (a INT)", AnalysisException, "SCHEMA_NOT_FOUND")
    refused(spark, "DROP SCHEMA cmd.s", AnalysisException, "SCHEMA_NOT_EMPTY")
    refused(spark, "UNDROP TABLE x", AnalysisException, "TABLE_OR_VIEW_NOT_FOUND")
    spark.sql("UPDATE orders SET day = NULL WHERE id = 1")
    needs_values = "ALTER TABLE orders ALTER COLUMN day SET NOT NULL"
    refused(spark, needs_values, SparkRuntimeException, "DELTA_NOT_NULL_COLUMN_VIOLATION")


def test_another_user_reaches_nothing_by_command(spark: Any, orders: str, server: Server) -> None:
    token = server.new_user("mallory@commands.example.com")
    other = SparkSession.builder.remote(server.spark_remote.replace(server.token, token)).create()
    try:
        for text in ("DESCRIBE HISTORY cmd.s.orders", "OPTIMIZE cmd.s.orders", "DROP TABLE cmd.s.orders"):
            refused(other, text, AnalysisException, "TABLE_OR_VIEW_NOT_FOUND")
        refused(other, "USE cmd.s", AnalysisException, "CATALOG_NOT_FOUND")
        location = spark.sql("DESCRIBE DETAIL orders").first()["location"]
        refused(other, f"DESCRIBE HISTORY delta.`{location}`", AnalysisException, "INSUFFICIENT_PERMISSIONS")
    finally:
        other.stop()


def test_temporary_views_are_described_like_tables(spark: Any) -> None:
    spark.sql("SELECT 1 AS a, 'x' AS b").createOrReplaceTempView("tmp")
    assert rows(spark, "DESCRIBE tmp") == [("a", "int", None), ("b", "string", None)]
    assert rows(spark, "SHOW COLUMNS IN tmp") == [("a",), ("b",)]
    assert rows(spark, "DESCRIBE tmp B") == [("col_name", "b"), ("data_type", "string"), ("comment", "NULL")]
    refused(spark, "DESCRIBE tmp c", AnalysisException, "UNRESOLVED_COLUMN.WITH_SUGGESTION")
    told = json.loads(spark.sql("DESCRIBE TABLE EXTENDED tmp AS JSON").first()["json_metadata"])
    assert [(each["name"], each["type"]["name"]) for each in told["columns"]] == [("a", "int"), ("b", "string")]
    assert ("", "tmp", True) in rows(spark, "SHOW TABLES")
    spark.sql("DROP VIEW tmp")
    refused(spark, "DESCRIBE tmp", AnalysisException, "TABLE_OR_VIEW_NOT_FOUND")


def test_constraints_hold_whatever_the_columns_are_called(spark: Any) -> None:
    spark.sql("CREATE TABLE odd (Id INT, `a.b` STRING, Amount INT DEFAULT 7, CHECK (id > 0 AND `a.b` <> 'bad'))")
    spark.sql("INSERT INTO odd (Id, `a.b`) VALUES (1, 'x')")
    spark.createDataFrame([(2, "y", 8)], "Id int, `a.b` string, Amount int").write.mode("append").saveAsTable("odd")
    assert sorted(rows(spark, "SELECT * FROM odd")) == [(1, "x", 7), (2, "y", 8)]
    for values in ("(-1, 'x', 1)", "(3, 'bad', 1)"):
        refused(
            spark, f"INSERT INTO odd VALUES {values}", SparkRuntimeException, "DELTA_VIOLATE_CONSTRAINT_WITH_VALUES"
        )
    spark.sql("INSERT OVERWRITE odd SELECT CAST(id + 1 AS INT), 'z', 0 FROM range(1000)")
    assert rows(spark, "SELECT count(*), min(Id), max(Id) FROM odd") == [(1000, 1, 1000)]
    with pytest.raises(Exception, match=r"(?i)divi"):
        spark.sql("INSERT INTO odd SELECT CAST(1 / (id - 999) AS INT) + 5, 'q', 0 FROM range(1000)").collect()
    spark.sql("UPDATE odd SET Amount = 1 WHERE Id = 5")
    assert rows(spark, "SELECT count(*), sum(Amount) FROM odd") == [(1000, 1)]
    assert spark.sql("DESCRIBE HISTORY odd").where("operation = 'WRITE'").count() == 3
    spark.sql("DROP TABLE odd")


def test_a_schema_takes_its_models_along(spark: Any, server: Server) -> None:
    """Without CASCADE the model keeps the schema; with it both are gone, for MLflow's registry too."""
    spark.sql("CREATE SCHEMA cmd.with_model")
    body = {"catalog_name": "cmd", "schema_name": "with_model", "name": "m"}
    assert server.call("POST", "/api/2.1/unity-catalog/models", body)[0] == 200
    with pytest.raises(AnalysisException, match=r"not empty|NOT_EMPTY"):
        spark.sql("DROP SCHEMA cmd.with_model")
    spark.sql("DROP SCHEMA cmd.with_model CASCADE")
    assert server.call("GET", "/api/2.0/mlflow/registered-models/get?name=cmd.with_model.m")[0] == 404
