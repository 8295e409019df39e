"""Feature tables as users make them, from each kind of data frame, and any table with a key as one."""

import datetime as dt
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from databricks.sdk import WorkspaceClient
from pyspark.sql import SparkSession
from pyspark.sql.types import DoubleType, LongType, StructField, StructType, TimestampType

from millpond.features import FeatureEngineeringClient

ROWS = {"id": [1, 2], "ts": [dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 2)], "x": [1.5, None], "w": ["a", "b"]}


def in_spark(spark: SparkSession) -> Any:
    return spark.createDataFrame(pa.table(ROWS))


FRAMES = {
    "pandas": lambda _: pd.DataFrame(ROWS),
    "polars": lambda _: pl.DataFrame(ROWS),
    "lazy": lambda _: pl.LazyFrame(ROWS),
    "arrow": lambda _: pa.table(ROWS),
    "spark": in_spark,
}


@pytest.mark.parametrize("kind", FRAMES)
def test_a_table_is_made_of_any_data_frame(
    fe: FeatureEngineeringClient, spark: SparkSession, schema: str, kind: str
) -> None:
    made = fe.create_table(
        name=f"{schema}.customers",
        primary_keys=["id", "ts"],
        timeseries_columns="ts",
        df=FRAMES[kind](spark),
        description="who they are",
        tags={"team": "growth"},
    )
    assert (made.primary_keys, made.timeseries_columns, made.entity_keys) == (("id", "ts"), ("ts",), ("id",))
    assert (made.description, made.features) == ("who they are", ["x", "w"])
    assert fe.get_table(name=f"{schema}.customers").tags == {"team": "growth"}
    found = fe.read_table(name=f"{schema}.customers").orderBy("id").drop("ts").collect()
    assert [tuple(row) for row in found] == [(1, 1.5, "a"), (2, None, "b")]


def test_the_catalog_has_the_key_as_a_constraint(fe: FeatureEngineeringClient, schema: str) -> None:
    types = StructType(
        [StructField("id", LongType()), StructField("ts", TimestampType()), StructField("x", DoubleType())]
    )
    fe.create_table(name=f"{schema}.t", primary_keys="id", timeseries_column="ts", schema=types, partition_columns="id")
    info = WorkspaceClient().tables.get(f"{schema}.t")
    key = (info.table_constraints or [])[0].primary_key_constraint
    assert key is not None
    assert (key.child_columns, key.timeseries_columns) == (["id", "ts"], ["ts"])
    assert [column.name for column in info.columns or [] if column.partition_index is not None] == ["id"]
    assert fe.read_table(name=f"{schema}.t").count() == 0
    with pytest.raises(ValueError, match="already exists"):
        fe.create_table(name=f"{schema}.t", primary_keys="id", schema=types)


def test_any_table_with_a_primary_key_is_a_feature_table(
    fe: FeatureEngineeringClient, spark: SparkSession, schema: str
) -> None:
    spark.sql(f"CREATE TABLE {schema}.t (id INT NOT NULL, x DOUBLE)")
    with pytest.raises(ValueError, match="is no feature table, as it has no primary key"):
        fe.get_table(name=f"{schema}.t")
    spark.sql(f"ALTER TABLE {schema}.t ADD CONSTRAINT t_pk PRIMARY KEY (id)")
    assert fe.get_table(name=f"{schema}.t").features == ["x"]


def test_merging_updates_adds_and_leaves_alone(fe: FeatureEngineeringClient, schema: str) -> None:
    name = f"{schema}.t"
    fe.create_table(name=name, primary_keys="id", df=pd.DataFrame({"id": [1, 2], "x": [1.0, 2.0], "w": ["a", "b"]}))
    fe.write_table(name=name, df=pd.DataFrame({"id": [2, 3], "x": [2.5, 3.5], "new": [True, False]}))
    assert rows(fe, name) == [(1, 1.0, "a", None), (2, 2.5, "b", True), (3, 3.5, None, False)]
    fe.write_table(name=name, df=pl.DataFrame({"id": [9], "x": [9.0]}), mode="overwrite")
    assert rows(fe, name) == [(9, 9.0, None, None)]
    assert fe.get_table(name=name).primary_keys == ("id",)


def rows(fe: FeatureEngineeringClient, name: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in fe.read_table(name=name).orderBy("id").collect()]


def test_rows_without_a_key_of_their_own_are_refused(fe: FeatureEngineeringClient, schema: str) -> None:
    name = f"{schema}.t"
    with pytest.raises(ValueError, match=r"2 rows have the primary key \{'id': 1\}"):
        fe.create_table(name=name, primary_keys="id", df=pl.DataFrame({"id": [1, 1], "x": [1.0, 2.0]}))
    fe.create_table(name=name, primary_keys="id", df=pl.DataFrame({"id": [1], "x": [1.0]}))
    with pytest.raises(ValueError, match="a row has no primary key"):
        fe.write_table(name=name, df=pl.DataFrame({"id": [2, None], "x": [1.0, 2.0]}))
    with pytest.raises(ValueError, match=r"df lacks \['id'\] of the primary key"):
        fe.write_table(name=name, df=pl.DataFrame({"x": [1.0]}))
    assert rows(fe, name) == [(1, 1.0)]


def test_a_table_whose_rows_cannot_be_written_is_not_there(fe: FeatureEngineeringClient, schema: str) -> None:
    with pytest.raises(Exception, match="bad=key"):
        fe.create_table(name=f"{schema}.t", primary_keys="id", df=pl.DataFrame({"id": [1]}), tags={"bad=key": "x"})
    with pytest.raises(ValueError, match="does not exist"):
        fe.get_table(name=f"{schema}.t")
    assert [table.name for table in WorkspaceClient().tables.list("main", schema.partition(".")[2])] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"primary_keys": "nope"}, r"The columns \['nope'\]"),
        ({"primary_keys": []}, "primary_keys of .* is empty"),
        ({"primary_keys": "id", "timeseries_columns": ["ts", "x"]}, "one timeseries column, not 2"),
        ({"primary_keys": "id", "timeseries_columns": "x"}, "'x' is double; it must be a timestamp or a date"),
        ({"primary_keys": "ts", "timeseries_columns": "ts"}, "needs a column beside the time"),
        ({"primary_keys": "id", "df": [1, 2]}, "df is a list; it must be a data frame of pandas"),
        ({"primary_keys": "id", "df": None}, "Give a df or a schema"),
    ],
)
def test_what_cannot_be_a_feature_table_is_refused(
    fe: FeatureEngineeringClient, schema: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fe.create_table(**{"name": f"{schema}.t", "df": pa.table(ROWS), **arguments})


def test_tags_and_drops(fe: FeatureEngineeringClient, schema: str) -> None:
    name = f"{schema}.it's"
    fe.create_table(name=name, primary_keys="id", df=pl.DataFrame({"id": [1], "odd `name": ["a"]}))
    fe.set_feature_table_tag(name=name, key="owner", value="it's \\ us")
    assert fe.get_table(name=name).tags == {"owner": "it's \\ us"}
    fe.delete_feature_table_tag(name=name, key="owner")
    with pytest.raises(ValueError, match="has no tag 'owner'"):
        fe.delete_feature_table_tag(name=name, key="owner")
    fe.drop_table(name=name)
    with pytest.raises(ValueError, match="does not exist"):
        fe.drop_table(name=name)


def test_unknown_modes_and_checkpoints_of_no_stream_are_refused(fe: FeatureEngineeringClient, schema: str) -> None:
    fe.create_table(name=f"{schema}.t", primary_keys="id", df=pl.DataFrame({"id": [1]}))
    with pytest.raises(ValueError, match="mode 'append' is not known"):
        fe.write_table(name=f"{schema}.t", df=pl.DataFrame({"id": [2]}), mode="append")
    with pytest.raises(ValueError, match="for streaming data frames; df is none"):
        fe.write_table(name=f"{schema}.t", df=pl.DataFrame({"id": [2]}), checkpoint_location="/Volumes/main/x/y/z")
