"""NaN among equal values: Sail takes it for one of them where a table keeps statistics of FLOAT and DOUBLE columns."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import functions as F
from tests.engine.gateways import RunningGateway

USER = "floats@example.com"
NAN = math.nan
COLUMNS, COUNT = "delta.dataSkippingStatsColumns", "delta.dataSkippingNumIndexedCols"
WITH_NAN = "SELECT * FROM VALUES (1, DOUBLE('NaN')), (2, 5.0D), (3, 5.0D) AS t(id, x)"


@pytest.fixture(scope="module")
def spark(gateway: RunningGateway) -> Iterator[Any]:
    session = gateway.spark(USER)
    session.sql("CREATE CATALOG IF NOT EXISTS floats")
    session.sql("CREATE SCHEMA IF NOT EXISTS floats.s")
    session.sql("USE floats.s")
    yield session
    session.stop()


def one_file(spark: Any, query: str = WITH_NAN) -> Any:
    """The rows of a query, which will be in one file."""
    return spark.sql(query).coalesce(1)


def add(spark: Any, name: str) -> None:
    """NaN and twice one other value, in one file."""
    one_file(spark).createOrReplaceTempView("more")
    spark.sql(f"INSERT INTO {name} (id, x) SELECT id, x FROM more")


def create_table(spark: Any, name: str) -> None:
    spark.sql(f"CREATE TABLE {name} (id INT, x DOUBLE)")
    add(spark, name)


def create_with_capitals_and_check(spark: Any, name: str) -> None:
    """Sail cannot append to such a table, so delta-rs does."""
    spark.sql(f"CREATE TABLE {name} (ID INT, x DOUBLE, CONSTRAINT some CHECK (ID > 0))")
    add(spark, name)


def create_as(spark: Any, name: str) -> None:
    one_file(spark).createOrReplaceTempView("source")
    spark.sql(f"CREATE TABLE {name} AS SELECT * FROM source")


def add_column(spark: Any, name: str) -> None:
    spark.sql(f"CREATE TABLE {name} (id INT)")
    spark.sql(f"ALTER TABLE {name} ADD COLUMN x DOUBLE")
    add(spark, name)


def merge_schema(spark: Any, name: str) -> None:
    one_file(spark, "SELECT 9 AS id").write.saveAsTable(name)
    one_file(spark).write.mode("append").option("mergeSchema", True).saveAsTable(name)
    spark.sql(f"DELETE FROM {name} WHERE id = 9")


def overwrite_schema(spark: Any, name: str) -> None:
    one_file(spark, "SELECT 1 AS x, 2 AS y").write.saveAsTable(name)
    one_file(spark).write.mode("overwrite").option("overwriteSchema", True).saveAsTable(name)


def merge_with_evolution(spark: Any, name: str) -> None:
    spark.sql(f"CREATE TABLE {name} (id INT)")
    one_file(spark).createOrReplaceTempView("source")
    on = f"MERGE WITH SCHEMA EVOLUTION INTO {name} AS t USING source AS s ON t.id = s.id"
    spark.sql(f"{on} WHEN NOT MATCHED THEN INSERT *")


def change_type(spark: Any, name: str) -> None:
    spark.sql(f"CREATE TABLE {name} (id INT, x FLOAT)")
    add(spark, name)
    spark.sql(f"ALTER TABLE {name} ALTER COLUMN x TYPE DOUBLE")


def rename_column(spark: Any, name: str) -> None:
    spark.sql(f"CREATE TABLE {name} (key INT, x DOUBLE)")
    one_file(spark).withColumnRenamed("id", "key").write.mode("append").saveAsTable(name)
    spark.sql(f"ALTER TABLE {name} RENAME COLUMN key TO id")


def optimize(spark: Any, name: str) -> None:
    spark.sql(f"CREATE TABLE {name} (id INT, x DOUBLE)")
    for row in ("(1, DOUBLE('NaN'))", "(2, 5.0D)", "(3, 5.0D)"):
        spark.sql(f"INSERT INTO {name} VALUES {row}")
    spark.sql(f"OPTIMIZE {name} ZORDER BY (id)")


def clone(spark: Any, name: str) -> None:
    create_as(spark, f"{name}_source")
    spark.sql(f"CREATE TABLE {name} DEEP CLONE {name}_source")


WAYS: dict[str, Callable[[Any, str], Any]] = {
    "create_table": create_table,
    "create_with_check": create_with_capitals_and_check,
    "create_as": create_as,
    "save_as_table": lambda spark, name: one_file(spark).write.saveAsTable(name),
    "write_to": lambda spark, name: one_file(spark).writeTo(name).create(),
    "replaced": lambda spark, name: [
        one_file(spark, "SELECT 1 AS id").write.saveAsTable(name),
        one_file(spark).writeTo(name).createOrReplace(),
    ],
    "add_column": add_column,
    "merge_schema": merge_schema,
    "overwrite_schema": overwrite_schema,
    "merge_with_evolution": merge_with_evolution,
    "change_type": change_type,
    "rename_column": rename_column,
    "optimize": optimize,
    "clone": clone,
}


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_nan_is_read_as_it_was_written(spark: Any, way: str) -> None:
    WAYS[way](spark, way)
    found = {row.id: row.x for row in spark.table(way).selectExpr("id", "x").collect()}
    assert math.isnan(found.pop(1))
    assert found == {2: 5.0, 3: 5.0}
    ends = spark.sql(f"SELECT min(x), max(x), count_if(isnan(x)), count_if(id = 2) FROM {way}").collect()[0]
    assert (ends[0], math.isnan(ends[1]), ends[2], ends[3]) == (5.0, True, 1, 1)
    assert spark.table(way).filter("x > 10 OR isnan(x)").count() == 1
    assert properties(spark, way) == {COLUMNS: "ID" if way == "create_with_check" else "id"}


def test_nan_in_files_without_a_log(spark: Any) -> None:
    """Parquet's own statistics leave NaN out too."""
    spark.sql("CREATE VOLUME files")
    one_file(spark).write.parquet("/Volumes/floats/s/files/some")
    found = spark.read.parquet("/Volumes/floats/s/files/some")
    assert [math.isnan(row.x) for row in found.orderBy("id").collect()] == [True, False, False]
    assert math.isnan(found.agg(F.max("x")).collect()[0][0])


def properties(spark: Any, name: str) -> dict[str, str]:
    """What a table says of its statistics."""
    shown = {row.key: row.value for row in spark.sql(f"SHOW TBLPROPERTIES {name}").collect()}
    return {key: value for key, value in shown.items() if key in (COLUMNS, COUNT)}


CHOICES = {
    "no floats": ("(id INT, name STRING)", {}),
    "floats alone": ("(x DOUBLE, y FLOAT)", {COUNT: "0"}),
    "all kinds": (
        "(id BIGINT, x FLOAT, d DECIMAL(9, 2), t TIMESTAMP, b BOOLEAN, a ARRAY<DOUBLE>)",
        {COLUMNS: "id,d,t"},
    ),
    "inner fields": ("(id INT, s STRUCT<n: INT, x: DOUBLE, t: STRUCT<m: INT>>)", {COLUMNS: "id,s.n,s.t.m"}),
    "odd names": ("(`a.b` INT, `ä` INT, x DOUBLE)", {COLUMNS: "`a.b`,`ä`"}),
    "partitions": ("(id INT, x DOUBLE, day STRING) PARTITIONED BY (day)", {COLUMNS: "id"}),
    "many": (
        f"(x DOUBLE, {', '.join(f'c{n} INT' for n in range(40))})",
        {COLUMNS: ",".join(f"c{n}" for n in range(32))},
    ),
    "a user's columns": (f"(id INT, x DOUBLE) TBLPROPERTIES ('{COLUMNS}' = 'id,x')", {COLUMNS: "id,x"}),
    "a user's count": (f"(id INT, x DOUBLE) TBLPROPERTIES ('{COUNT}' = '1')", {COUNT: "1"}),
}


@pytest.mark.parametrize("definition", CHOICES, ids=lambda name: name)
def test_a_new_table_says_which_columns_have_statistics(spark: Any, definition: str) -> None:
    columns, expected = CHOICES[definition]
    name = f"`choice_{definition.replace(' ', '_')}`"
    spark.sql(f"CREATE TABLE {name} {columns}")
    assert properties(spark, name) == expected


def test_what_a_user_chose_stays(spark: Any) -> None:
    one_file(spark).createOrReplaceTempView("source")
    spark.sql(f"CREATE TABLE chosen TBLPROPERTIES ('{COLUMNS}' = 'id,x') AS SELECT * FROM source")
    spark.sql("ALTER TABLE chosen ADD COLUMN y DOUBLE")
    spark.sql("ALTER TABLE chosen RENAME COLUMN id TO key")
    assert properties(spark, "chosen") == {COLUMNS: "id,x"}


def test_the_property_follows_the_columns(spark: Any) -> None:
    spark.sql("CREATE TABLE following (id INT, x DOUBLE)")
    spark.sql("ALTER TABLE following ADD COLUMNS (name STRING, y FLOAT)")
    assert properties(spark, "following") == {COLUMNS: "id,name"}
    spark.sql("INSERT INTO following VALUES (1, 1.0, 'a', 2.0)")
    spark.sql("ALTER TABLE following RENAME COLUMN name TO title")
    assert properties(spark, "following") == {COLUMNS: "id,title"}
    spark.sql("ALTER TABLE following ALTER COLUMN id TYPE DOUBLE")
    assert properties(spark, "following") == {COLUMNS: "title"}
    spark.sql("ALTER TABLE following DROP COLUMN title")
    assert properties(spark, "following") == {COUNT: "0"}
    spark.sql("ALTER TABLE following ADD COLUMN day DATE")
    assert properties(spark, "following") == {COLUMNS: "day"}
    location = spark.sql("DESCRIBE DETAIL following").collect()[0].location
    added = DeltaTable(location).get_add_actions(flatten=True)
    assert not {"min.id", "min.x", "min.y"} & set(added.schema.names)
