"""Declared features as users make them: in the catalog, in training sets and models, and as feature tables."""

import datetime as dt
from typing import Any

import polars as pl
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import NotFound, PermissionDenied
from databricks.sdk.service import ml
from pyspark.sql import SparkSession

from millpond.features import (
    AggregationFunction,
    ApproxCountDistinct,
    Avg,
    ContinuousWindow,
    Count,
    DeltaTableSource,
    Feature,
    FeatureEngineeringClient,
    FeatureLookup,
    Last,
    OfflineStoreConfig,
    RollingWindow,
    SlidingWindow,
    Sum,
    TumblingWindow,
)
from tests.servers import Server

DAY = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
TWO_DAYS, DAYS = dt.timedelta(days=2), dt.timedelta(days=1)


def day(number: float) -> dt.datetime:
    return DAY + dt.timedelta(days=number)


EVENTS = pl.DataFrame(
    {
        "user": [1, 1, 1, 2, 1],
        "ts": [day(0), day(0.5), day(2), day(2), day(3.25)],
        "amount": [1.0, 2.0, 4.0, 100.0, 8.0],
        "shop": ["a", "b", "a", "c", None],
        "refund": [False, False, False, False, True],
    }
)
LABELS = pl.DataFrame({"user": [2, 1, 1, 3, 1], "ts": [day(3), day(2), day(3.5), day(3), None], "y": [1, 2, 3, 4, 5]})


@pytest.fixture
def source(fe: FeatureEngineeringClient, spark: SparkSession, schema: str) -> DeltaTableSource:
    """What happened in a shop: a table without a key."""
    spark.createDataFrame(EVENTS.to_arrow()).write.saveAsTable(f"{schema}.events")
    catalog, name = schema.split(".")
    return DeltaTableSource(
        catalog_name=catalog, schema_name=name, table_name="events", entity_columns=["user"], timeseries_column="ts"
    )


def features(source: DeltaTableSource) -> list[Feature]:
    def of(function: Any, window: Any, name: str | None = None) -> Feature:
        return Feature(source=source, function=AggregationFunction(function, window), name=name)

    return [
        of(Sum("amount"), ContinuousWindow(window_duration=TWO_DAYS)),
        of(Count("shop"), RollingWindow(window_duration=TWO_DAYS, delay=DAYS), "shops before"),
        of(Avg("amount"), TumblingWindow(window_duration=DAYS)),
        of(ApproxCountDistinct("shop"), SlidingWindow(window_duration=3 * DAYS, slide_duration=TWO_DAYS), "shops"),
        of(Last("shop"), SlidingWindow(window_duration=TWO_DAYS, slide_duration=DAYS), "last.shop"),
    ]


COUNTS = {"shops", "shops before"}
WANTED = {
    "user": [2, 1, 1, 3, 1],
    "amount_sum_continuous_2d": [100.0, 3.0, 12.0, None, None],
    "shops before": [0, 2, 2, 0, None],
    "amount_avg_tumbling_1d": [100.0, None, 4.0, None, None],
    "shops": [1, 2, 2, 0, None],
    "last.shop": ["c", "b", "a", None, None],
    "y": [1, 2, 3, 4, 5],
}


@pytest.mark.parametrize("kind", ["polars", "spark"])
def test_a_training_set_has_what_was_in_the_windows(
    fe: FeatureEngineeringClient, spark: SparkSession, source: DeltaTableSource, kind: str
) -> None:
    given = LABELS if kind == "polars" else spark.createDataFrame(LABELS.to_arrow())
    made = fe.create_training_set(df=given, features=features(source), label="y", exclude_columns="ts")
    found = made.load_df()
    table = found.to_arrow() if kind == "polars" else found.toArrow()
    assert table.to_pydict() == WANTED
    proof = made.certificate
    assert (proof.rows_in, proof.rows_out, proof.faults) == (5, 5, [])
    seen = proof.lookups[0]
    assert (seen.table, seen.matched, seen.rechecked, seen.wrong) == (source.full_name, 3, 5, 0)
    assert (seen.newest_lead_us or 0) < 0


def test_features_live_in_the_catalog(
    server: Server, fe: FeatureEngineeringClient, spark: SparkSession, source: DeltaTableSource, schema: str
) -> None:
    """Made by our client in both forms of the API and by the SDK; seen by those who may."""
    catalog, name = schema.split(".")
    place: Any = {"catalog_name": catalog, "schema_name": name}
    first = fe.create_feature(
        source=source, inputs=["amount"], function=Sum(), time_window=ContinuousWindow(window_duration=TWO_DAYS),
        filter_condition="NOT refund", description="spent", **place,
    )  # fmt: skip
    assert (first.full_name, first.created_by) == (f"{schema}.amount_sum_continuous_2d", server.user)
    second = fe.register_feature(feature=features(source)[3], **place)
    sdk = WorkspaceClient().feature_engineering
    told = sdk.get_feature(second.full_name)
    assert told.function.aggregation_function == ml.AggregationFunction(
        approx_count_distinct=ml.ApproxCountDistinctFunction(input="shop"),
        time_window=ml.TimeWindow(sliding=ml.SlidingWindow(window_duration="259200s", slide_duration="172800s")),
    )
    told.full_name, told.name = f"{schema}.again", "again"
    sdk.create_feature(told)
    sdk.update_feature(f"{schema}.again", ml.Feature(
        full_name=f"{schema}.again", source=told.source, function=told.function, description="by the SDK"
    ), "description")  # fmt: skip
    assert [(each.name, each.description) for each in fe.list_features(**place)] == [
        ("again", "by the SDK"), ("amount_sum_continuous_2d", "spent"), ("shops", None),
    ]  # fmt: skip
    assert [each.full_name for each in sdk.list_features(catalog_name=catalog, schema_name=name)] == [
        f"{schema}.again", f"{schema}.amount_sum_continuous_2d", f"{schema}.shops",
    ]  # fmt: skip
    kept = fe.get_feature(full_name=first.full_name)
    made = fe.create_training_set(df=LABELS, features=[kept, fe.get_feature(full_name=f"{schema}.again")], label="y")
    assert made.load_df()["amount_sum_continuous_2d"].to_list() == [100.0, 3.0, 4.0, None, None]
    _refused(server, spark, schema, told)
    fe.delete_feature(full_name=first.full_name)
    with pytest.raises(ValueError, match="does not exist"):
        fe.get_feature(full_name=first.full_name)


def _refused(server: Server, spark: SparkSession, schema: str, feature: ml.Feature) -> None:
    """Somebody without grants finds nothing; who may only make functions makes none of what cannot be read."""
    stranger = WorkspaceClient(host=server.url, token=server.new_user("stranger@example.com"))
    with pytest.raises(NotFound):
        stranger.feature_engineering.get_feature(f"{schema}.again")
    spark.sql(f"GRANT USE SCHEMA, CREATE FUNCTION ON SCHEMA {schema} TO `stranger@example.com`").collect()
    spark.sql(f"GRANT EXECUTE ON FUNCTION {schema}.again TO `stranger@example.com`").collect()
    assert stranger.feature_engineering.get_feature(f"{schema}.again").description == "by the SDK"
    feature.full_name = f"{schema}.stolen"
    for refused in (
        lambda: stranger.feature_engineering.create_feature(feature),
        lambda: stranger.feature_engineering.delete_feature(f"{schema}.again"),
    ):
        with pytest.raises((NotFound, PermissionDenied)):
            refused()


@pytest.mark.long
def test_materialised_features_are_those_that_are_computed(
    fe: FeatureEngineeringClient, spark: SparkSession, source: DeltaTableSource, schema: str
) -> None:
    """Looked up in their table they are what they are computed for each label, written at once, in steps, or again."""
    catalog, name = schema.split(".")
    store = OfflineStoreConfig(catalog_name=catalog, schema_name=name, table_name_prefix="spent")
    asked: Any = {"features": features(source), "offline_config": store}
    made = fe.materialize_features(**asked, start_time=day(1), end_time=day(2.5))
    tables = {each.feature_name: each.table_name for each in made}
    assert len(set(tables.values())) == 3
    spark.sql(f"INSERT INTO {schema}.events VALUES (1, TIMESTAMP'2024-01-05 12:00:00Z', 16, 'd', false)").collect()
    assert fe.materialize_features(**asked, end_time=day(9))[0].table_name == made[0].table_name
    labels = pl.DataFrame({"user": [1, 2] * 18, "ts": [day(number / 2) for number in range(2, 38)]})
    lookups = [
        FeatureLookup(table_name=tables[each.output], lookup_key="user", timestamp_lookup_key="ts",
                      feature_names=each.output, default_values=dict.fromkeys({each.output} & COUNTS, 0))
        for each in asked["features"]
    ]  # fmt: skip
    computed = fe.create_training_set(df=labels, features=asked["features"]).load_df().rows()
    assert fe.create_training_set(df=labels, feature_lookups=lookups).load_df().rows() == computed
    before = {table: _rows(fe, table) for table in set(tables.values())}
    for again in ({}, {"start_time": day(1.5)}):
        fe.materialize_features(**asked, **again, end_time=day(9))
        assert {table: _rows(fe, table) for table in before} == before


def _rows(fe: FeatureEngineeringClient, table: str) -> list[str]:
    return sorted(map(str, fe.read_table(name=table).collect()))


def test_what_late_rows_change_is_computed_again(
    fe: FeatureEngineeringClient, spark: SparkSession, source: DeltaTableSource, schema: str
) -> None:
    catalog, name = schema.split(".")
    store = OfflineStoreConfig(catalog_name=catalog, schema_name=name, table_name_prefix="late")
    asked: Any = {"features": features(source)[2:3], "offline_config": store, "end_time": day(9)}
    table = fe.materialize_features(**asked)[0].table_name
    spark.sql(f"INSERT INTO {schema}.events VALUES (2, TIMESTAMP'2024-01-03 12:00:00Z', 300, 'c', false)").collect()
    fe.materialize_features(**asked, start_time=day(2))
    found = fe.read_table(name=table).where("user = 2").orderBy("ts").toArrow().to_pydict()
    assert found["amount_avg_tumbling_1d"] == [200.0, None]
    with pytest.raises(NotImplementedError, match="takes no cron_schedule here"):
        fe.materialize_features(**asked, cron_schedule="0 0 * * * ?")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"function": AggregationFunction(Sum("shop"), TumblingWindow(window_duration=DAYS))}, "Sum is of numbers"),
        ({"function": AggregationFunction(Sum("no"), TumblingWindow(window_duration=DAYS))}, r"names \['no'\]"),
        ({"timeseries_column": "amount"}, "must be a timestamp or a date"),
        ({"entity": ["nobody"]}, r"names \['nobody'\]"),
        ({"name": "bad/name"}, "bad/name"),
    ],
)
def test_what_cannot_be_computed_is_not_kept(
    fe: FeatureEngineeringClient, source: DeltaTableSource, schema: str, change: dict[str, Any], message: str
) -> None:
    catalog, name = schema.split(".")
    given = {"function": AggregationFunction(Sum("amount"), TumblingWindow(window_duration=DAYS)), **change}
    with pytest.raises(ValueError, match=message):
        fe.create_feature(source=source, catalog_name=catalog, schema_name=name, **given)
