"""Columns through DataFrames, form by form, told by PySpark's own plans; and reads and writes by path."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tests.servers import Server, wait_until


@dataclass(frozen=True, kw_only=True)
class World:
    """A schema with two tables and a volume."""

    spark: SparkSession
    where: str
    files: str

    def table(self, name: str) -> DataFrame:
        """One of its tables."""
        return self.spark.table(f"{self.where}.{name}")


@pytest.fixture(scope="module")
def world(server: Server) -> Iterator[World]:
    spark = SparkSession.builder.remote(server.spark_remote).create()
    schema = f"frames_{uuid.uuid4().hex[:8]}"
    spark.sql(f"CREATE SCHEMA main.{schema}")
    spark.sql(f"CREATE VOLUME main.{schema}.files")
    spark.sql(f"USE main.{schema}")
    spark.sql("CREATE TABLE t AS SELECT 1 AS a, 2 AS b, 'x' AS c, 7 AS k")
    spark.sql("CREATE TABLE u AS SELECT 7 AS k, 3 AS x, 'y' AS y")
    spark.sql("CREATE VIEW tv (aa, kk) AS SELECT a, k FROM t")
    files = f"/Volumes/main/{schema}/files"
    spark.table("t").write.option("header", True).csv(f"{files}/csv")
    yield World(spark=spark, where=f"main.{schema}", files=files)
    spark.stop()


def _joined(w: World) -> DataFrame:
    t, u = w.table("t"), w.table("u")
    return t.join(u, t.k == u.k).select(t["a"], u["k"].alias("uk"), "y")


def _aliased(w: World) -> DataFrame:
    return w.table("t").alias("l").join(w.table("t").alias("r"), F.col("l.k") == F.col("r.k")).selectExpr("l.a", "r.b")


def _renamed(w: World) -> DataFrame:
    frame = w.table("t").withColumnsRenamed({"a": "p"}).withColumnRenamed("b", "q").drop("c")
    return frame.withColumns({"r": F.col("p") + F.col("q"), "q": F.lit(0)})


def _aggregated(w: World) -> DataFrame:
    return w.table("t").groupBy("c").agg({"a": "sum"}).withColumnRenamed("sum(a)", "total")


def _united(w: World) -> DataFrame:
    return w.table("t").select("a", "k").unionByName(w.table("u").select("k", F.col("x").alias("a")))


def _pivoted(w: World) -> DataFrame:
    return w.table("t").groupBy("k").pivot("c", ["x"]).sum("a")


def _unpivoted(w: World) -> DataFrame:
    return w.table("t").unpivot(["k"], ["a", "b"], "name", "value")


def _viewed(w: World) -> DataFrame:
    w.table("t").withColumn("d", F.col("a") * 2).createOrReplaceTempView("doubled")
    return w.spark.sql("SELECT d, aa FROM doubled JOIN tv ON k = kk")


def _in_sql(w: World) -> DataFrame:
    return w.spark.sql("SELECT m.a + 1 AS n FROM {m} m", m=w.table("t").where("b > 1"))


def _computed(w: World) -> DataFrame:
    add = F.udf(lambda a, b: a + b, "int")
    frame = w.table("t").toDF("d", "e", "f", "g")
    return frame.select(
        add("d", "e").alias("s"), F.struct("f").alias("o"), F.expr("g + 1 AS h"), frame.colRegex("`[e]`")
    )


def _filled(w: World) -> DataFrame:
    return w.table("t").fillna(0).dropna(subset=["b"]).dropDuplicates(["k"]).orderBy("a").limit(5).select("c")


def _from_files(w: World) -> DataFrame:
    return w.spark.read.csv(f"{w.files}/csv", header=True).select(F.col("a").cast("int"), "c")


def _grouped_in_pandas(w: World) -> DataFrame:
    return w.table("t").groupBy("k").applyInPandas(lambda rows: rows[["a"]], "a INT")


Expected = dict[str, set[str]]
FORMS: dict[Callable[[World], DataFrame], Expected] = {
    _joined: {"a": {"t.a"}, "uk": {"u.k"}, "y": {"u.y"}},
    _aliased: {"a": {"t.a"}, "b": {"t.b"}},
    _renamed: {"p": {"t.a"}, "k": {"t.k"}, "r": {"t.a", "t.b"}},
    _aggregated: {"c": {"t.c"}, "total": {"t.a"}},
    _united: {"a": {"t.a", "u.x"}, "k": {"t.k", "u.k"}},
    _pivoted: {"k": {"t.k"}, "x": {"t.a", "t.c"}},
    _unpivoted: {"k": {"t.k"}, "value": {"t.a", "t.b"}},
    _viewed: {"d": {"t.a"}, "aa": {"tv.aa"}},
    _in_sql: {"n": {"t.a"}},
    _computed: {"s": {"t.a", "t.b"}, "o": {"t.c"}, "h": {"t.k"}, "e": {"t.b"}},
    _filled: {"c": {"t.c"}},
    _from_files: {"a": {"csv.a"}, "c": {"csv.c"}},
    _grouped_in_pandas: {},
}


def told(world: World, target: str) -> Expected:
    """The source columns of each column of a table, out of the system table."""
    rows = world.spark.sql(
        "SELECT coalesce(source_table_name, element_at(split(source_path, '/'), -1)) AS source, source_column_name, "
        f"target_column_name FROM system.access.column_lineage WHERE target_table_full_name = '{world.where}.{target}'"
    ).collect()
    found: Expected = {}
    for row in rows:
        found.setdefault(row.target_column_name, set()).add(f"{row.source}.{row.source_column_name}")
    return found


def awaited(world: World, target: str, expected: Expected) -> None:
    """The table tells it, which it does within seconds."""
    try:
        wait_until(lambda: told(world, target) == expected)
    except AssertionError:
        assert told(world, target) == expected


def test_each_form_of_a_dataframe(world: World) -> None:
    """Exact, but for functions over whole rows."""
    for form in FORMS:
        form(world).write.saveAsTable(f"{world.where}.made{form.__name__}")
    for form, expected in FORMS.items():
        awaited(world, f"made{form.__name__}", expected)


def test_writes_of_every_kind(world: World) -> None:
    """By position, by name, by path of a table, from files without a schema, by mergeInto and by DEEP CLONE."""
    spark, where = world.spark, world.where
    spark.sql(f"CREATE TABLE {where}.into (p INT, q STRING)")
    world.table("t").select("a", "c").write.insertInto(f"{where}.into")
    awaited(world, "into", {"p": {"t.a"}, "q": {"t.c"}})
    spark.sql(f"CREATE TABLE {where}.by_name (q STRING, p INT)")
    spark.sql(f"INSERT INTO {where}.by_name (p, q) SELECT x, y FROM {where}.u")
    awaited(world, "by_name", {"p": {"u.x"}, "q": {"u.y"}})
    names = ("one", "two", "three", "four")
    spark.sql(f"CREATE TABLE {where}.copied ({', '.join(f'{name} STRING' for name in names)})")
    frame = spark.read.csv(f"{world.files}/csv", header=True)
    frame.write.insertInto(f"{where}.copied")
    awaited(world, "copied", {name: {f"csv.{one}"} for name, one in zip(names, "abck", strict=True)})
    place = spark.sql(f"DESCRIBE DETAIL {where}.into").first()["location"]
    world.table("u").selectExpr("x AS p", "y AS q").write.format("delta").mode("append").save(place)
    awaited(world, "into", {"p": {"t.a", "u.x"}, "q": {"t.c", "u.y"}})
    (
        world.table("u")
        .mergeInto(f"{where}.by_name", F.expr("p = x"))
        .whenMatched()
        .update({"q": F.concat("y", F.lit("!"))})
        .merge()
    )
    awaited(world, "by_name", {"p": {"u.x"}, "q": {"u.y"}})
    spark.sql(f"CREATE TABLE {where}.cloned DEEP CLONE {where}.u")
    awaited(world, "cloned", {"k": {"u.k"}, "x": {"u.x"}, "y": {"u.y"}})


def test_what_is_computed_apart_keeps_its_lineage(world: World) -> None:
    """Rows below a filter and a mask come out of a spool, and yet out of their table."""
    spark, where = world.spark, world.where
    spark.sql(f"CREATE TABLE {where}.guarded AS SELECT a, c FROM {where}.t")
    spark.sql(f"CREATE FUNCTION {where}.positive(v INT) RETURNS BOOLEAN RETURN v > 0")
    spark.sql(f"CREATE FUNCTION {where}.hidden(v STRING) RETURNS STRING RETURN '***'")
    spark.sql(f"ALTER TABLE {where}.guarded SET ROW FILTER {where}.positive ON (a)")
    spark.sql(f"ALTER TABLE {where}.guarded ALTER COLUMN c SET MASK {where}.hidden")
    spark.sql(f"CREATE TABLE {where}.by_sql AS SELECT a + 1 AS b, c AS d FROM {where}.guarded")
    world.table("guarded").select("c").write.saveAsTable(f"{where}.by_frame")
    awaited(world, "by_sql", {"b": {"guarded.a"}, "d": {"guarded.c"}})
    awaited(world, "by_frame", {"c": {"guarded.c"}})


def test_a_view_defined_anew_forgets_what_it_was(world: World, server: Server) -> None:
    """Its edges are those of its definition; the events stay."""
    spark, where = world.spark, world.where
    spark.sql(f"CREATE VIEW {where}.seen AS SELECT a FROM {where}.t")
    spark.sql(f"CREATE OR REPLACE VIEW {where}.seen AS SELECT x AS a FROM {where}.u")
    awaited(world, "seen", {"a": {"t.a", "u.x"}})
    path = f"/api/2.0/lineage-tracking/table-lineage?table_name={where}.seen"
    answer: Any = server.call("GET", path)[1]
    assert [each["tableInfo"]["name"] for each in answer["upstreams"]] == ["u"]


def test_a_large_plan_is_noted_without_its_rows(world: World) -> None:
    """The rows that a client brings along are not written down, and its columns have no source."""
    rows = [(number, "value " * 20) for number in range(1000)]
    large = world.spark.createDataFrame(rows, "k INT, note STRING")
    large.join(world.table("u"), "k").select("note", "x").write.saveAsTable(f"{world.where}.large")
    awaited(world, "large", {"x": {"u.x"}})


def test_a_statement_over_http_is_known_by_its_id(world: World, server: Server) -> None:
    """The one of the query history, as the entity that ran."""
    w = WorkspaceClient(host=server.url, token=server.token, auth_type="pat")
    text = f"CREATE TABLE {world.where}.by_http AS SELECT a FROM {world.where}.t"
    done = w.statement_execution.execute_statement(text, "starter", wait_timeout="30s")
    path = f"/api/2.0/lineage-tracking/table-lineage?table_name={world.where}.by_http&include_entity_lineage=true"
    (found,) = wait_until(lambda: server.call("GET", path)[1]["upstreams"], timeout_s=5)
    assert [each["query_id"] for each in found["queryInfos"]] == [done.statement_id]
    assert found["tableInfo"]["statement_id"] == done.statement_id
