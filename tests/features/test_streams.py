"""Streams into feature tables, and from there to an online store."""

import time
from typing import Any

import pandas as pd
import pytest
from pyspark.errors import StreamingQueryException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from millpond.features import FeatureEngineeringClient
from millpond.features.legacy import FeatureStoreClient
from tests.servers import Server, wait_until

WITHIN_S = 60


@pytest.fixture
def checkpoint(spark: SparkSession, schema: str) -> str:
    """A path for a query of the test's own."""
    spark.sql(f"CREATE VOLUME {schema}.checkpoints")
    return f"/Volumes/{schema.replace('.', '/')}/checkpoints/q"


@pytest.fixture
def clicks(spark: SparkSession, schema: str) -> str:
    """A table to which events are added, whose first commit has clicks of users 1 and 2."""
    name = f"{schema}.clicks"
    spark.sql(f"CREATE TABLE {name} (user_id BIGINT, page STRING, n INT)")
    add(spark, name, "(1, 'home', 1), (2, 'home', 1)")
    return name


def add(spark: SparkSession, table: str, rows: str) -> None:
    spark.sql(f"INSERT INTO {table} VALUES {rows}")


def rows(fe: FeatureEngineeringClient, name: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in fe.read_table(name=name).orderBy("user_id").collect()]


def test_a_stream_is_merged_by_key_and_served_online_as_it_comes(
    fe: FeatureEngineeringClient, spark: SparkSession, schema: str, server: Server, checkpoint: str, clicks: str
) -> None:
    """Events to a feature table to an online store, while both go on."""
    name = f"{schema}.sessions"
    known = pd.DataFrame({"user_id": [1, 9], "last_page": ["?", "kept"]})
    fe.create_table(name=name, primary_keys="user_id", df=known)
    store = fe.create_online_store(name="streamed-store", capacity="CU_1")
    online = fe.publish_table(
        online_store=store, source_table_name=name, online_table_name=f"{name}_online", publish_mode="CONTINUOUS"
    ).online_table_name
    path = f"/api/millpond/online-tables/{online}"

    def read(user: int) -> Any:
        answer = server.call("POST", f"{path}/read", {"keys": [{"user_id": user}], "columns": ["last_page"]})[1]
        found = answer.get("rows", [None])[0]
        return found and found["last_page"]

    events = spark.readStream.option("startingVersion", 0).table(clicks)
    sessions = events.select("user_id", F.upper("page").alias("last_page"), (F.col("n") * 2).alias("clicks"))
    query = fe.write_table(
        name=name, df=sessions, mode="merge", checkpoint_location=checkpoint, trigger={"processingTime": "0 seconds"}
    )
    assert query is not None
    query.processAllAvailable()
    assert rows(fe, name) == [(1, "HOME", 2), (2, "HOME", 2), (9, "kept", None)]
    add(spark, clicks, "(1, 'cart', 2)")
    add(spark, clicks, "(1, 'paid', 3), (3, 'help', 1)")
    wait_until(lambda: read(1) == "PAID" and read(3) == "HELP", timeout_s=WITHIN_S, what="the sessions online")
    assert read(9) == "kept"
    began = time.monotonic()
    add(spark, clicks, "(4, 'late', 1)")
    wait_until(lambda: read(4) == "LATE", timeout_s=WITHIN_S, what="the next session online")
    assert time.monotonic() - began < 10
    query.stop()
    fe.delete_online_table(name=online)
    fe.delete_online_store(name="streamed-store")


def test_a_stream_goes_on_where_it_was_by_the_older_client_too(
    fe: FeatureEngineeringClient, spark: SparkSession, schema: str, checkpoint: str, clicks: str
) -> None:
    name = f"{schema}.pages"
    fe.create_table(name=name, primary_keys="user_id", schema=spark.table(clicks).schema)
    store = FeatureStoreClient()
    expected: list[tuple[Any, ...]]
    for trigger, expected in (
        ("availableNow", [(1, "home", 1), (2, "home", 1)]),
        ("once", [(1, "home", 1), (2, "paid", 6)]),
    ):
        query = store.write_table(name, spark.readStream.table(clicks), "merge", checkpoint, {trigger: True})
        assert query is not None
        query.awaitTermination()
        assert rows(fe, name) == expected
        add(spark, clicks, "(2, 'cart', 5)")
        add(spark, clicks, "(2, 'paid', 6)")


def test_two_rows_of_a_key_in_one_commit_end_the_query(
    fe: FeatureEngineeringClient, spark: SparkSession, schema: str, checkpoint: str, clicks: str
) -> None:
    name = f"{schema}.pages"
    fe.create_table(name=name, primary_keys="user_id", schema=spark.table(clicks).schema)
    add(spark, clicks, "(3, 'a', 1), (3, 'b', 1)")
    frame = spark.readStream.option("startingVersion", 0).table(clicks)
    query = fe.write_table(name=name, df=frame, checkpoint_location=checkpoint, trigger={"availableNow": True})
    assert query is not None
    with pytest.raises(StreamingQueryException, match=r"2 rows have the primary key \{'user_id': 3\}"):
        query.awaitTermination()
    assert rows(fe, name) == [(1, "home", 1), (2, "home", 1)], "the commit before it is there"


def test_what_is_no_stream_for_a_feature_table_is_refused(
    fe: FeatureEngineeringClient, spark: SparkSession, schema: str, checkpoint: str, clicks: str
) -> None:
    name = f"{schema}.pages"
    fe.create_table(name=name, primary_keys="user_id", schema=spark.table(clicks).schema)
    frame = spark.readStream.table(clicks)
    with pytest.raises(ValueError, match="checkpoint_location is missing"):
        fe.write_table(name=name, df=frame)
    with pytest.raises(ValueError, match="'overwrite' is not for streaming"):
        fe.write_table(name=name, df=frame, mode="overwrite", checkpoint_location=checkpoint)
    with pytest.raises(ValueError, match=r"df lacks \['user_id'\] of the primary key"):
        fe.write_table(name=name, df=frame.select("page"), checkpoint_location=checkpoint)
    spark.sql(f"CREATE TABLE {schema}.keyless (user_id BIGINT)")
    with pytest.raises(Exception, match="which has no primary key"):
        frame.select("user_id").writeStream.format("millpond.merge").option("checkpointLocation", checkpoint).toTable(
            f"{schema}.keyless"
        )
