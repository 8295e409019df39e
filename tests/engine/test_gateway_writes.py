"""Writes through Spark Connect: what arrives, what is refused, and what concurrent writers and crashes leave."""

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pyspark.errors import AnalysisException
from pyspark.errors.exceptions.base import PySparkException
from pyspark.sql import functions as F
from tests.engine.gateways import RunningGateway

USER = "writer@example.com"


@pytest.fixture(scope="module")
def spark(gateway: RunningGateway) -> Iterator[Any]:
    session = gateway.spark(USER)
    session.sql("CREATE CATALOG IF NOT EXISTS writes")
    session.sql("CREATE SCHEMA IF NOT EXISTS writes.s")
    session.sql("USE writes.s")
    yield session
    session.stop()


def rows(session: Any, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in session.sql(query).collect()]


class TestNewTables:
    def test_save_as_table_is_seen_by_every_name_and_client(self, spark: Any, gateway: RunningGateway) -> None:
        spark.createDataFrame([(1, "a"), (2, "b")], "id long, name string").write.saveAsTable("writes.s.made")
        assert spark.table("made").count() == spark.table("s.made").count() == spark.table("writes.s.made").count() == 2
        assert [c.name for c in spark.catalog.listColumns("made")] == ["id", "name"]
        other = gateway.spark(USER)
        assert rows(other, "SELECT name FROM writes.s.made ORDER BY id") == [("a",), ("b",)]
        other.stop()

    def test_columns_of_a_new_table_take_null_as_on_spark(self, spark: Any) -> None:
        spark.range(1).write.saveAsTable("nullable")
        spark.sql("INSERT INTO nullable VALUES (NULL)")
        assert spark.table("nullable").filter("id IS NULL").count() == 1

    def test_an_existing_name_is_refused_or_ignored_or_replaced(self, spark: Any) -> None:
        spark.range(1).write.saveAsTable("twice")
        with pytest.raises(AnalysisException, match="TABLE_OR_VIEW_ALREADY_EXISTS"):
            spark.range(2).write.saveAsTable("twice")
        spark.range(2).write.mode("ignore").saveAsTable("twice")
        assert spark.table("twice").count() == 1
        spark.range(3).withColumn("x", F.lit("y")).writeTo("twice").createOrReplace()
        assert rows(spark, "SELECT count(*), max(x) FROM twice") == [(3, "y")]
        assert rows(spark, "SELECT count(*) FROM twice VERSION AS OF 0") == [(1,)]

    def test_a_failing_query_leaves_no_table(self, spark: Any) -> None:
        with pytest.raises(PySparkException):
            spark.range(3).selectExpr("raise_error('no') AS x").write.saveAsTable("never")
        assert not spark.catalog.tableExists("never")
        spark.range(1).write.saveAsTable("never")

    @pytest.mark.parametrize("name", ["a b", "a;b", "a=b", "a(b"])
    def test_a_column_name_that_delta_cannot_keep_is_refused(self, spark: Any, name: str) -> None:
        with pytest.raises(AnalysisException, match="DELTA_INVALID_CHARACTERS_IN_COLUMN_NAMES"):
            spark.range(1).withColumnRenamed("id", name).write.saveAsTable("bad_names")

    def test_create_table_as_keeps_comment_properties_and_partitions(self, spark: Any) -> None:
        spark.sql(
            "CREATE TABLE described USING delta PARTITIONED BY (k) COMMENT 'what it is' TBLPROPERTIES ('a.b' = 'c') "
            "AS SELECT id, id % 2 AS k FROM range(4)"
        )
        assert spark.catalog.getTable("described").description == "what it is"
        assert ("a.b", "c") in rows(spark, "SHOW TBLPROPERTIES described")
        assert [c.name for c in spark.catalog.listColumns("described") if c.isPartition] == ["k"]

    def test_columns_keep_the_order_of_the_query_whichever_partition_the_table(self, spark: Any) -> None:
        query = "SELECT id, id % 2 AS k, id * 10 AS v FROM range(2)"
        spark.sql(f"CREATE TABLE ordered PARTITIONED BY (k) AS {query}")
        assert spark.table("ordered").columns == ["id", "k", "v"]
        spark.sql("INSERT INTO ordered VALUES (5, 1, 50)")
        assert rows(spark, "SELECT k, v FROM ordered WHERE id = 5") == [(1, 50)]
        spark.sql(f"CREATE OR REPLACE TABLE ordered PARTITIONED BY (k) AS SELECT k, v, id FROM ({query})")
        assert spark.table("ordered").columns == ["k", "v", "id"]
        assert rows(spark, "SELECT * FROM ordered ORDER BY id") == [(0, 0, 0), (1, 10, 1)]

    def test_a_missing_schema_is_named(self, spark: Any) -> None:
        with pytest.raises(AnalysisException, match="SCHEMA_NOT_FOUND"):
            spark.range(1).write.saveAsTable("writes.nowhere.t")


class TestSchemaEnforcement:
    @pytest.fixture(autouse=True)
    def table(self, spark: Any) -> None:
        spark.createDataFrame([(1, "a")], "id int, name string").writeTo("strict").createOrReplace()

    def test_an_unknown_column_is_refused_and_nothing_is_dropped_silently(self, spark: Any) -> None:
        with pytest.raises(AnalysisException, match="DELTA_METADATA_MISMATCH"):
            spark.createDataFrame([(2, "b", 3)], "id int, name string, extra int").write.mode("append").saveAsTable(
                "strict"
            )
        assert spark.table("strict").count() == 1

    def test_merge_schema_adds_it(self, spark: Any) -> None:
        wider = spark.createDataFrame([(2, "b", 3)], "id int, name string, extra int")
        wider.write.mode("append").option("mergeSchema", "true").saveAsTable("strict")
        assert rows(spark, "SELECT * FROM strict ORDER BY id") == [(1, "a", None), (2, "b", 3)]
        assert [c.name for c in spark.catalog.listColumns("strict")] == ["id", "name", "extra"]

    def test_a_wrong_type_is_refused_and_a_number_is_cast(self, spark: Any) -> None:
        with pytest.raises(AnalysisException, match="DELTA_FAILED_TO_MERGE_FIELDS"):
            spark.createDataFrame([("x", "b")], "id string, name string").write.mode("append").saveAsTable("strict")
        spark.createDataFrame([(2, "b")], "id long, name string").write.mode("append").saveAsTable("strict")
        assert dict(spark.table("strict").dtypes)["id"] == "int"

    def test_columns_go_by_name_in_append_and_by_position_in_insert(self, spark: Any) -> None:
        spark.createDataFrame([("b", 2)], "NAME string, ID int").write.mode("append").saveAsTable("strict")
        spark.createDataFrame([(3, "c")], "x int, y string").write.insertInto("strict")
        spark.sql("INSERT INTO strict (name, id) VALUES ('d', 4)")
        spark.sql("INSERT INTO strict (id) VALUES (5)")
        spark.sql("INSERT INTO strict BY NAME SELECT 'f' AS name, 6 AS id")
        assert rows(spark, "SELECT * FROM strict ORDER BY id") == [
            (1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, None), (6, "f"),
        ]  # fmt: skip

    def test_too_few_and_too_many_values_are_refused(self, spark: Any) -> None:
        for query in ("INSERT INTO strict VALUES (1)", "INSERT INTO strict VALUES (1, 'a', 2)"):
            with pytest.raises(AnalysisException, match="INSERT_COLUMN_ARITY_MISMATCH"):
                spark.sql(query)

    def test_overwrite_needs_overwrite_schema_for_another_schema(self, spark: Any) -> None:
        other = spark.createDataFrame([(1.5,)], "price double")
        with pytest.raises(AnalysisException, match="DELTA_METADATA_MISMATCH"):
            other.write.mode("overwrite").saveAsTable("strict")
        other.write.mode("overwrite").option("overwriteSchema", "true").saveAsTable("strict")
        assert rows(spark, "SELECT * FROM strict") == [(1.5,)]
        assert [c.name for c in spark.catalog.listColumns("strict")] == ["price"]


class TestOverwrites:
    @pytest.fixture(autouse=True)
    def table(self, spark: Any) -> None:
        spark.sql("CREATE OR REPLACE TABLE parts PARTITIONED BY (k) AS SELECT id, id % 3 AS k FROM range(6)")

    def counts(self, spark: Any) -> dict[int, int]:
        return dict(rows(spark, "SELECT k, count(*) FROM parts GROUP BY k"))

    def test_dynamic_overwrite_replaces_only_the_partitions_it_brings(self, spark: Any) -> None:
        one = spark.createDataFrame([(9, 1)], "id long, k long")
        one.write.mode("overwrite").option("partitionOverwriteMode", "dynamic").saveAsTable("parts")
        assert self.counts(spark) == {0: 2, 1: 1, 2: 2}
        one.writeTo("parts").overwritePartitions()
        spark.sql("INSERT OVERWRITE parts PARTITION (k) SELECT 7L, 2L")
        assert self.counts(spark) == {0: 2, 1: 1, 2: 1}

    def test_a_static_partition_and_a_condition(self, spark: Any) -> None:
        spark.sql("INSERT OVERWRITE parts PARTITION (k = 0) SELECT 7L")
        assert self.counts(spark) == {0: 1, 1: 2, 2: 2}
        spark.createDataFrame([(9, 1)], "id long, k long").writeTo("parts").overwrite(F.col("k") == 1)
        assert self.counts(spark) == {0: 1, 1: 1, 2: 2}
        spark.sql("INSERT OVERWRITE parts SELECT 1L, 5L")
        assert self.counts(spark) == {5: 1}

    def test_rows_outside_of_replace_where_are_refused(self, spark: Any) -> None:
        for query in ("SELECT 1L, 2L", "SELECT 1L, CAST(NULL AS BIGINT)"):
            with pytest.raises(PySparkException, match="DELTA_REPLACE_WHERE_MISMATCH"):
                spark.sql(f"INSERT INTO parts REPLACE WHERE k = 1 {query}")
        assert self.counts(spark) == {0: 2, 1: 2, 2: 2}
        spark.sql("INSERT INTO parts REPLACE WHERE k = 1 AND id >= 0 SELECT 5L, 1L")
        assert self.counts(spark) == {0: 2, 1: 1, 2: 2}


class TestChanges:
    def test_update_delete_and_merge_count_rows(self, spark: Any) -> None:
        spark.sql("CREATE OR REPLACE TABLE changed AS SELECT id, 'a' AS s FROM range(4)")
        assert rows(spark, "UPDATE changed SET s = 'b' WHERE id = 1") == [(1,)]
        spark.range(3, 6).createOrReplaceTempView("news")
        spark.sql("MERGE INTO changed AS c USING news AS n ON c.id = n.id WHEN MATCHED THEN UPDATE SET s = 'm' "
                  "WHEN NOT MATCHED THEN INSERT (id, s) VALUES (n.id, 'n')")  # fmt: skip
        spark.sql("DELETE FROM writes.s.changed WHERE writes.s.changed.id = 0")
        assert rows(spark, "SELECT * FROM changed ORDER BY id") == [(1, "b"), (2, "a"), (3, "m"), (4, "n"), (5, "n")]
        names = [row["operation"] for row in spark.sql("DESCRIBE HISTORY changed").collect()]
        assert [n for n in names if n in {"MERGE", "UPDATE", "DELETE"}] == ["DELETE", "MERGE", "UPDATE"]

    def test_a_view_cannot_be_changed(self, spark: Any) -> None:
        spark.sql("CREATE OR REPLACE VIEW looked AS SELECT 1 AS x")
        for query in ("UPDATE looked SET x = 2", "DELETE FROM looked", "INSERT INTO looked VALUES (1)"):
            with pytest.raises(AnalysisException):
                spark.sql(query).collect()


class TestConcurrency:
    def test_two_clients_append_to_one_table_and_nothing_is_lost(self, spark: Any, gateway: RunningGateway) -> None:
        spark.sql("CREATE OR REPLACE TABLE busy (id BIGINT)")
        errors: list[BaseException] = []

        def append(worker: int) -> None:
            session = gateway.spark(USER)
            try:
                for at in range(8):
                    session.range(worker * 100 + at, worker * 100 + at + 1).write.mode("append").saveAsTable(
                        "writes.s.busy"
                    )
            except BaseException as error:
                errors.append(error)
            finally:
                session.stop()

        workers = [threading.Thread(target=append, args=(number,)) for number in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(120)
        assert not errors
        found = [row[0] for row in rows(spark, "SELECT id FROM busy")]
        assert sorted(found) == sorted(worker * 100 + at for worker in range(3) for at in range(8))

    def test_one_of_two_creators_of_a_table_wins(self, spark: Any, gateway: RunningGateway) -> None:
        outcomes: list[str] = []

        def create(number: int) -> None:
            session = gateway.spark(USER)
            try:
                session.createDataFrame([(number,)], "id int").write.saveAsTable("writes.s.raced")
                outcomes.append("made")
            except AnalysisException as error:
                outcomes.append(str(error.getCondition()))
            finally:
                session.stop()

        workers = [threading.Thread(target=create, args=(number,)) for number in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        assert sorted(outcomes) == ["TABLE_OR_VIEW_ALREADY_EXISTS", "TABLE_OR_VIEW_ALREADY_EXISTS", "made"]
        assert spark.table("raced").count() == 1


class TestEngines:
    def test_a_killed_engine_costs_its_query_and_nothing_else(self, gateway: RunningGateway, spark: Any) -> None:
        mine, other = gateway.spark("crasher@example.com"), spark
        mine.range(5).createOrReplaceTempView("kept")
        mine.udf.register("plus_one", F.udf(lambda x: x + 1, "long", useArrow=False))
        mine.conf.set("spark.sql.shuffle.partitions", "3")
        waiting: list[Any] = []
        slow = F.udf(lambda x: time.sleep(3) or 1, "int", useArrow=False)
        worker = threading.Thread(target=lambda: waiting.append(other.range(1).select(slow("id")).collect()))
        worker.start()
        with pytest.raises(PySparkException, match="ENGINE_ENDED"):
            mine.range(1).select(F.udf(lambda x: os._exit(7), "int", useArrow=False)("id")).collect()
        assert rows(mine, "SELECT count(*), max(plus_one(id)) FROM kept") == [(5, 5)]
        assert mine.conf.get("spark.sql.shuffle.partitions") == "3"
        worker.join(60)
        assert waiting
        assert waiting[0][0][0] == 1
        mine.stop()

    def test_a_query_can_be_interrupted(self, gateway: RunningGateway, spark: Any) -> None:
        session = gateway.spark(USER)
        outcome: list[BaseException] = []

        def run() -> None:
            session.addTag("slow")
            try:
                session.range(10_000_000_000).selectExpr("sum(sqrt(id))").collect()
            except BaseException as error:
                outcome.append(error)

        worker = threading.Thread(target=run)
        worker.start()
        deadline = time.monotonic() + 30
        while worker.is_alive() and time.monotonic() < deadline:
            if session.interruptTag("slow"):
                break
            time.sleep(0.05)
        worker.join(30)
        assert outcome
        assert "OPERATION_CANCELED" in str(outcome[0])
        assert session.range(3).count() == 3
        session.stop()
