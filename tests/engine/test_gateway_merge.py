"""DataFrame.mergeInto in all its forms, through the gateway."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pyspark.errors import AnalysisException
from pyspark.errors.exceptions.base import PySparkException
from pyspark.sql import functions as F
from tests.engine.gateways import RunningGateway

from millpond.engine import proto
from millpond.engine.errors import UnsupportedError
from millpond.engine.literals import literal_text

USER = "merger@example.com"


@pytest.fixture(scope="module")
def spark(gateway: RunningGateway) -> Iterator[Any]:
    session = gateway.spark(USER)
    session.sql("CREATE CATALOG IF NOT EXISTS merged")
    session.sql("CREATE SCHEMA IF NOT EXISTS merged.s")
    session.sql("USE merged.s")
    yield session
    session.stop()


@pytest.fixture(autouse=True)
def target(spark: Any) -> None:
    """Ids 0 to 3, each with "old"."""
    spark.sql("CREATE OR REPLACE TABLE target AS SELECT id, 'old' AS s FROM range(4)")


def source(spark: Any) -> Any:
    """Ids 2 to 5, each with "new"."""
    return spark.sql("SELECT id, 'new' AS s FROM range(2, 6)").alias("source")


def rows(spark: Any, table: str = "target") -> list[tuple[Any, ...]]:
    return [tuple(row) for row in spark.table(table).orderBy("id").collect()]


def test_update_all_and_insert_all(spark: Any) -> None:
    merge = source(spark).mergeInto("merged.s.target", F.expr("source.id = merged.s.target.id"))
    merge.whenMatched().updateAll().whenNotMatched().insertAll().merge()
    assert rows(spark) == [(0, "old"), (1, "old"), (2, "new"), (3, "new"), (4, "new"), (5, "new")]


def test_all_clauses_with_their_conditions_in_order(spark: Any) -> None:
    one = source(spark)
    (
        one.mergeInto("target", F.col("target.id") == one.id)
        .whenMatched(F.col("source.id") > 2)
        .update({"s": F.concat(one.s, F.lit("!")), "target.id": F.col("source.id") + 100})
        .whenMatched()
        .delete()
        .whenNotMatched(F.expr("source.id = 4 -- only this\n"))
        .insert({"id": F.col("source.id"), "s": F.upper("source.s")})
        .whenNotMatchedBySource(F.expr("target.id = 0"))
        .delete()
        .whenNotMatchedBySource()
        .update({"s": F.when(F.col("target.id").isin(1, 9), F.lit("it's gone")).otherwise(F.lit("?"))})
        .merge()
    )
    assert rows(spark) == [(1, "it's gone"), (4, "NEW"), (103, "new!")]


def test_schema_evolution_adds_the_columns_of_the_source_and_the_catalog_follows(spark: Any) -> None:
    wider = source(spark).withColumn("extra", F.col("id") * 2)
    merge = wider.mergeInto("target", F.expr("target.id = source.id")).withSchemaEvolution()
    merge.whenMatched().updateAll().whenNotMatched().insertAll().merge()
    assert rows(spark)[1:4] == [(1, "old", None), (2, "new", 4), (3, "new", 6)]
    assert [column.name for column in spark.catalog.listColumns("target")] == ["id", "s", "extra"]


def test_values_of_every_type_arrive_as_they_are(spark: Any) -> None:
    moment = datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=UTC)
    values = {
        "b": F.lit(b"\x00\xff"), "t": F.lit(True), "n": F.lit(None).cast("int"), "d": F.lit(Decimal("-12.340")),
        "f": F.lit(float("nan")), "day": F.lit(date(1969, 12, 31)), "at": F.lit(moment),
        "text": F.lit("a 'b' \\ \n é"), "l": F.array(F.lit(1), F.lit(2)), "small": F.lit(-3).cast("byte"),
        "m": F.create_map(F.lit("k"), F.lit(1.5)), "st": F.struct(F.lit(1).alias("x")), "arr": F.lit([1, 2]),
    }  # fmt: skip
    spark.range(1).select("id", *(value.alias(name) for name, value in values.items())).filter("false").write.mode(
        "overwrite"
    ).saveAsTable("typed")
    merge = spark.range(1).alias("q").mergeInto("typed", F.expr("q.id = typed.id"))
    merge.whenNotMatched().insert({"id": F.col("q.id"), **values}).merge()
    expected = spark.range(1).select("id", *(value.alias(name) for name, value in values.items())).collect()
    assert str(spark.table("typed").collect()) == str(expected)


def test_functions_of_the_user_and_lambdas_work_in_it(spark: Any) -> None:
    shout = F.udf(lambda text: text + "!", "string", useArrow=False)
    one = source(spark)
    merge = one.mergeInto("target", F.col("target.id") == F.col("source.id"))
    longest = F.element_at(F.transform(F.array(F.col("source.s")), lambda item: F.concat(item, item)), 1)
    merge.whenMatched(F.col("source.id") == 2).update({"s": shout(F.col("source.s"))}).whenMatched().update(
        {"s": longest}
    ).merge()
    assert rows(spark)[2:] == [(2, "new!"), (3, "newnew")]


def test_a_source_without_a_name_and_one_that_is_a_table(spark: Any) -> None:
    bare = spark.range(3, 5).withColumn("s", F.lit("bare"))
    bare.mergeInto("target", F.col("target.id") == bare["id"]).whenMatched().updateAll().merge()
    spark.sql("CREATE OR REPLACE TABLE updates AS SELECT 0L AS id, 'table' AS s")
    merge = spark.table("updates").where("id < 5").mergeInto("target", F.expr("updates.id = target.id"))
    merge.whenMatched().updateAll().merge()
    assert rows(spark) == [(0, "table"), (1, "old"), (2, "old"), (3, "bare")]


def test_the_history_names_the_author_and_the_condition(spark: Any) -> None:
    merge = source(spark).mergeInto("target", F.col("target.id") == F.col("source.id"))
    merge.whenMatched().delete().merge()
    last = spark.sql("DESCRIBE HISTORY target LIMIT 1").collect()[0]
    assert (last["operation"], last["userName"]) == ("MERGE", USER)
    assert last["operationParameters"]["mergePredicate"].replace(" ", "") == "(target.id=source.id)"
    assert last["operationMetrics"]["numTargetRowsDeleted"] == "2"


def test_who_may_not_write_may_not_merge(spark: Any, gateway: RunningGateway) -> None:
    stranger = gateway.spark("stranger@example.com")
    try:
        merge = stranger.range(1).alias("q").mergeInto("merged.s.target", F.expr("q.id = target.id"))
        with pytest.raises(AnalysisException, match=r"TABLE_OR_VIEW_NOT_FOUND|INSUFFICIENT_PERMISSIONS"):
            merge.whenMatched().delete().merge()
    finally:
        stranger.stop()
    assert len(rows(spark)) == 4


@pytest.mark.parametrize(
    ("error_class", "build"),
    [
        ("NO_MERGE_ACTION_SPECIFIED", lambda merge: merge),
        ("INVALID_MERGE_ACTION", lambda merge: merge.whenNotMatchedBySource().updateAll()),
        ("INVALID_MERGE_ACTION", lambda merge: merge.whenNotMatched().insert({})),
        ("UNSUPPORTED_FEATURE", lambda merge: merge.whenMatched(F.reflect(F.lit("java.lang.Runtime"))).delete()),
    ],
)
def test_what_is_no_merge_is_refused(spark: Any, error_class: str, build: Any) -> None:
    merge = source(spark).mergeInto("target", F.expr("target.id = source.id"))
    with pytest.raises(PySparkException, match=rf"\[{error_class}\]"):
        build(merge).merge()


def test_a_target_that_is_missing_or_a_view_and_a_strangers_column_are_named(spark: Any) -> None:
    with pytest.raises(AnalysisException, match="TABLE_OR_VIEW_NOT_FOUND"):
        source(spark).mergeInto("absent", F.expr("true")).whenMatched().delete().merge()
    spark.sql("CREATE OR REPLACE VIEW seen AS SELECT 1L AS id")
    with pytest.raises(AnalysisException, match=r"UNSUPPORTED_FEATURE.TABLE_OPERATION"):
        source(spark).mergeInto("seen", F.expr("seen.id = source.id")).whenMatched().delete().merge()
    with pytest.raises(AnalysisException, match="CANNOT_RESOLVE_DATAFRAME_COLUMN"):
        source(spark).mergeInto("target", spark.table("target").id == F.col("source.id")).whenMatched().delete().merge()
    with pytest.raises(PySparkException, match="UNRESOLVED_COLUMN"):
        source(spark).mergeInto("target", F.expr("target.nothing = source.id")).whenMatched().delete().merge()


def test_two_source_rows_for_one_of_the_target_are_refused(spark: Any) -> None:
    twice = source(spark).union(source(spark)).alias("source")
    with pytest.raises(PySparkException, match="MERGE_CARDINALITY_VIOLATION"):
        twice.mergeInto("target", F.expr("target.id = source.id")).whenMatched().updateAll().merge()


@pytest.mark.parametrize(
    "value",
    [
        {"decimal": {"value": "1E+999999999"}},
        {"decimal": {"value": "NaN"}},
        {"decimal": {"value": "1); DROP"}},
        {"date": 2**31 - 1},
        {"timestamp_ntz": 2**63 - 1},
    ],
)
def test_a_value_that_no_column_holds_is_refused(value: dict[str, Any]) -> None:
    """Before it is written out, which would cost the memory of everybody's gateway."""
    with pytest.raises(UnsupportedError, match="no column holds"):
        literal_text(proto.expressions.Expression.Literal(**value))


def test_an_interval_is_a_value_too(spark: Any) -> None:
    spark.sql("CREATE OR REPLACE TABLE times AS SELECT 1L AS id, TIMESTAMP '2024-01-01 00:00:00' AS at")
    merge = spark.range(2).alias("q").mergeInto("times", F.expr("times.id = q.id"))
    merge.whenMatched().update({"at": F.col("times.at") + F.lit(timedelta(hours=1, microseconds=-5))}).merge()
    assert spark.sql("SELECT CAST(at AS STRING) FROM times").collect()[0][0] == "2024-01-01 00:59:59.999995"


def test_schema_evolution_works_in_sql_too(spark: Any) -> None:
    source(spark).withColumn("extra", F.col("id") * 2).createOrReplaceTempView("wider")
    spark.sql("MERGE WITH SCHEMA EVOLUTION INTO target USING wider ON target.id = wider.id "
              "WHEN MATCHED THEN UPDATE SET *")  # fmt: skip
    assert rows(spark)[1:3] == [(1, "old", None), (2, "new", 4)]
    assert [column.name for column in spark.catalog.listColumns("target")] == ["id", "s", "extra"]


HOSTILE = ("it's", "a\\", "a\\' OR true --", "`x` ? :name", "größe\n", "'; DROP TABLE t; --")


def test_values_are_given_as_parameters_to_update_delete_and_merge(spark: Any) -> None:
    """By name and in order, whatever they hold; what only looks like a parameter is left alone."""
    spark.createDataFrame([(1, "x"), (2, ":name"), (3, "z")], "id long, name string").write.saveAsTable("given")
    for value in HOSTILE:
        spark.sql("UPDATE given SET name = :name WHERE id = :id", args={"name": value, "id": 1})
        assert spark.table("given").filter("id = 1").first()["name"] == value
    spark.sql("DELETE FROM given WHERE id = ? AND name = ':name' -- ? and :none", args=[2])
    spark.sql(
        "MERGE INTO given t USING (SELECT :id AS id) s ON t.id = s.id WHEN MATCHED AND t.id > :least THEN DELETE "
        "WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.id, :name)",
        args={"id": 9, "least": 1, "name": "new"},
    )
    assert [tuple(row) for row in spark.table("given").orderBy("id").collect()] == [
        (1, HOSTILE[-1]), (3, "z"), (9, "new"),
    ]  # fmt: skip
    with pytest.raises(AnalysisException, match=r"UNBOUND_SQL_PARAMETER.*nobody"):
        spark.sql("DELETE FROM given WHERE id = :nobody", args={"id": 1})
