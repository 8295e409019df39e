"""Lineage of a real pipeline, driven through a real server by PySpark, against a truth made by hand; both databases."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from tests.lineage import pipeline
from tests.servers import Server, wait_until

Edge = tuple[str, str, str, str]
"""Source, its column, target, its column."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """A server with the pipeline in it."""

    server: Server
    spark: SparkSession
    where: str

    def get(self, path: str, *, token: str | None = None, **query: Any) -> Any:
        """The answer of a GET."""
        text = "&".join(f"{key}={value}" for key, value in query.items())
        status, body = self.server.call("GET", f"{path}?{text}", token=token)
        assert status == 200, body
        return body

    def table(self, name: str, **query: Any) -> Any:
        """The table lineage of one of its tables."""
        return self.get("/api/2.0/lineage-tracking/table-lineage", table_name=f"{self.where}.{name}", **query)

    def column(self, name: str, column: str) -> Any:
        """The column lineage of a column."""
        path = "/api/2.0/lineage-tracking/column-lineage"
        return self.get(path, table_name=f"{self.where}.{name}", column_name=column)

    def impact(self, name: str, column: str = "") -> dict[tuple[str, str | None], str]:
        """What breaks, and why."""
        answer = self.get("/api/millpond/lineage/impact", table_name=f"{self.where}.{name}", column_name=column)
        return {(each["name"].rpartition(".")[2], each["column"]): each["cause"] for each in answer["affected"]}


@pytest.fixture(scope="module")
def built(any_server: Server) -> Iterator[Built]:
    """The pipeline, once on each kind of database."""
    spark = SparkSession.builder.remote(any_server.spark_remote).create()
    schema = f"lineage_{uuid.uuid4().hex[:8]}"
    spark.sql(f"CREATE SCHEMA main.{schema}")
    spark.sql(f"CREATE VOLUME main.{schema}.files")
    pipeline.build(spark, f"main.{schema}", f"/Volumes/main/{schema}/files")
    made = Built(server=any_server, spark=spark, where=f"main.{schema}")
    wait_until(lambda: len(made.table("totals")["upstreams"]) == 3, what="the background's catching up", timeout_s=5)
    yield made
    spark.stop()


def truth() -> dict[str, set[Edge]]:
    """The edges of `truth.txt`, by target."""
    edges: dict[str, set[Edge]] = {}
    for line in Path(__file__).with_name("truth.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            ends, _, columns = line.partition(":")
            source, target = (end.strip() for end in ends.split("->"))
            for pair in columns.split(","):
                one, other = (name.strip() for name in pair.split(">"))
                edges.setdefault(target, set()).add((source.removeprefix("/"), one, target, other))
    return edges


def seen(built: Built, of: str) -> set[Edge]:
    """What the server says of the columns of a table."""
    found = set()
    for column in built.spark.table(f"{built.where}.{of}").columns:
        for each in built.column(of, column)["upstream_cols"]:
            source = each.get("table_name") or each["path"].rpartition("/")[2]
            found.add((source, each["name"], of, column))
    return found


def test_each_column_edge_of_sql_is_there_and_no_other(built: Built) -> None:
    """Precision and recall are 1 for what SQL wrote."""
    expected = truth()
    assert {name: seen(built, name) for name in pipeline.SQL_TABLES} == {
        name: expected.get(name, set()) for name in pipeline.SQL_TABLES
    }


def test_dataframes_are_exact_but_for_functions_over_whole_rows(built: Built) -> None:
    """Of the four tables that DataFrames wrote, one is known by its table alone, and says so."""
    expected = truth()
    for name in ("people", "enriched", "by_country", "last_orders"):
        assert seen(built, name) == expected[name], name
    assert seen(built, "scored") == set()
    assert [each["tableInfo"]["name"] for each in built.table("scored")["upstreams"]] == ["raw_orders"]
    graph = built.get("/api/millpond/lineage/graph", table_name=f"{built.where}.scored", steps=1)
    names = {node["id"]: node["name"].rpartition(".")[2] for node in graph["nodes"]}
    (into,) = [edge for edge in graph["edges"] if names[edge["target"]] == "scored"]
    assert into["inexact_columns"] == ["id", "amount"]


def test_tables_files_and_views_are_connected(built: Built) -> None:
    """Table edges with who, what and how; a path for files; a view's own edges are read out of its definition."""
    (path,) = built.table("people")["upstreams"]
    assert path["fileInfo"]["path"].endswith("/files/people")
    spend = built.table("spend")
    assert {each["tableInfo"]["name"] for each in spend["upstreams"]} == {"orders", "customers"}
    assert {each["tableInfo"]["how_known"] for each in spend["upstreams"]} == {"parsed"}
    downstream = {each["tableInfo"]["name"]: each["tableInfo"] for each in spend["downstreams"]}
    assert set(downstream) == {"ranked", "report"}
    assert downstream["report"]["operation"] == "MERGE"
    assert downstream["report"]["created_by"] == built.server.user
    assert downstream["report"]["how_known"] == "observed"
    (ranked,) = [each for each in built.table("ranked")["upstreams"] if each["tableInfo"]["name"] == "spend"]
    assert ranked["tableInfo"]["table_type"] == "VIEW"


def test_the_events_are_tables(built: Built) -> None:
    """`system.access.table_lineage` and `column_lineage` have them, with the session and the statement."""
    told = f"target_table_full_name = '{built.where}.orders'"
    (row,) = built.spark.sql(f"SELECT * FROM system.access.table_lineage WHERE {told}").collect()
    assert row.source_table_full_name == f"{built.where}.raw_orders"
    assert (row.source_type, row.target_table_name, row.operation) == ("TABLE", "orders", "CREATE TABLE AS")
    assert row.session_id == built.spark.client._session_id
    assert row.statement_id
    columns = built.spark.sql(
        f"SELECT source_column_name, target_column_name FROM system.access.column_lineage WHERE {told}"
    ).collect()
    assert {tuple(each) for each in columns} == {(one, other) for _, one, _, other in truth()["orders"]}


def test_reads_are_events_without_a_target(built: Built) -> None:
    """A query is told within seconds, with the tables and views that it names."""
    built.spark.sql(f"SELECT count(*) FROM {built.where}.spend").collect()
    reads = (
        f"SELECT source_type FROM system.access.table_lineage WHERE source_table_full_name = '{built.where}.spend' "
        "AND target_type IS NULL AND operation = 'READ'"
    )
    assert wait_until(lambda: built.spark.sql(reads).collect(), timeout_s=5, what="the read")


def test_impact_of_a_column_and_of_a_table(built: Built) -> None:
    """What is computed from it, what was chosen by it, and what may be made of it."""
    assert built.impact("raw_orders", "placed") == {
        ("orders", "placed"): "value",
        ("orders", "placed_year"): "value",
        ("scored", "id"): "possible",
        ("scored", "amount"): "possible",
    }
    price = built.impact("products", "price")
    assert price == {("enriched", "margin"): "value", ("last_orders", "last_margin"): "value"}
    assert built.impact("products", "sku") == {("enriched", None): "rows", ("by_country", None): "table",
                                               ("last_orders", None): "table", ("totals", None): "table"}  # fmt: skip
    assert {name for name, _ in built.impact("people")} == {
        "customers", "enriched", "spend", "ranked", "by_country", "last_orders", "report", "totals",
    }  # fmt: skip


def test_others_see_only_what_they_may(built: Built) -> None:
    """A user with SELECT on one table sees it, and of its neighbours those that they may see; another sees nothing."""
    name = f"mallory-{uuid.uuid4().hex[:8]}@example.com"
    token = built.server.new_user(name)
    path = "/api/2.0/lineage-tracking/table-lineage"
    status, body = built.server.call("GET", f"{path}?table_name={built.where}.enriched", token=token)
    assert (status, body["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    for grant in ("USE CATALOG ON CATALOG main", f"USE SCHEMA ON SCHEMA {built.where}",
                  f"SELECT ON TABLE {built.where}.enriched", f"SELECT ON TABLE {built.where}.customers"):  # fmt: skip
        built.spark.sql(f"GRANT {grant} TO `{name}`")
    answer = built.get(path, token=token, table_name=f"{built.where}.enriched")
    assert [each["tableInfo"]["name"] for each in answer["upstreams"]] == ["customers"]
    assert answer["downstreams"] == []
    columns = "/api/2.0/lineage-tracking/column-lineage"
    of = {"table_name": f"{built.where}.enriched"}
    assert built.get(columns, token=token, **of, column_name="margin")["upstream_cols"] == []
    graph = built.get("/api/millpond/lineage/graph", token=token, **of)
    assert {node["name"].rpartition(".")[2] for node in graph["nodes"]} == {"enriched", "customers"}
    assert built.get("/api/millpond/lineage/impact", token=token, **of)["affected"] == []


def test_renames_keep_lineage(built: Built) -> None:
    """Edges are those of the table, whatever it is called; a dropped table is not shown."""
    spark, where = built.spark, built.where
    spark.sql(f"CREATE TABLE {where}.one AS SELECT 1 AS a")
    spark.sql(f"CREATE TABLE {where}.two AS SELECT a + 1 AS b FROM {where}.one")
    wait_until(lambda: built.table("two")["upstreams"], timeout_s=5)
    spark.sql(f"ALTER TABLE {where}.one RENAME TO {where}.uno")
    spark.sql(f"ALTER TABLE {where}.two RENAME TO {where}.dos")
    (above,) = built.column("dos", "b")["upstream_cols"]
    assert (above["table_name"], above["name"]) == ("uno", "a")
    assert [each["tableInfo"]["name"] for each in built.table("uno")["downstreams"]] == ["dos"]
    spark.sql(f"DROP TABLE {where}.uno")
    assert built.table("dos")["upstreams"] == []
