"""The Spark plan of declared aggregations, through the gateway, held to the same contract as the local kernel."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from pyspark.sql import SparkSession

from millpond.features import Count, TumblingWindow
from millpond.features.planning import Aggregate, Aggregation
from millpond.features.spark_aggregating import aggregate, turns
from tests.features.aggregation_kernels import (
    EVENTS,
    HALF,
    START,
    aggregations,
    close,
    events,
    holds,
    labels,
    nan_is_greatest,
    null_is_least_of_one_time,
    table,
)
from tests.features.kernels import LABELS
from tests.features.spark_kernel import aggregations_on, in_spark
from tests.servers import Server

FEW = settings(max_examples=25, phases=[Phase.generate])
"""Each is some statements on a server."""


@pytest.fixture(scope="module")
def spark(server: Server) -> Iterator[SparkSession]:
    """On the embedded engine; `engine/test_gateway_remote.py` has the same on Apache Spark."""
    session = SparkSession.builder.remote(server.spark_remote).create()
    yield session
    session.stop()


@FEW
@given(labels=labels, events=events, step=aggregations)
def test_each_label_has_what_was_in_its_windows(
    spark: SparkSession, labels: list, events: list, step: Aggregation
) -> None:
    holds(aggregations_on(spark), labels, events, step)


@pytest.mark.long
@FEW
@given(labels=labels, events=events, step=aggregations)
def test_a_value_holds_from_its_turn_to_the_next(
    spark: SparkSession, labels: list, events: list, step: Aggregation
) -> None:
    """So features that were materialised and are looked up are those that are computed for each label."""
    rows = in_spark(spark, table(events, EVENTS))
    own = replace(step, keys=tuple((key, key) for _, key in step.keys), time=("ts", "ts"))
    there = aggregate(turns(rows, own, None, None), rows, own).orderBy("ts").toArrow().to_pylist()
    found = aggregations_on(spark)(table(labels, LABELS), table(events, EVENTS), step).to_pylist()
    for label in found:
        if label["at"] is None or any(label[mine] is None for mine, _ in step.keys):
            continue
        before = [row for row in there if row["ts"] <= label["at"] and _same(label, row, step)]
        for each in step.aggregates:
            none = 0 if each.function.kind in ("count", "approx_count_distinct") else None
            assert close(before[-1][each.output] if before else none, label[each.output])


def test_nan_is_greatest(spark: SparkSession) -> None:
    nan_is_greatest(aggregations_on(spark))


def test_null_is_least_of_one_time(spark: SparkSession) -> None:
    null_is_least_of_one_time(aggregations_on(spark))


def test_a_row_that_is_known_late_turns_values_when_it_is(spark: SparkSession) -> None:
    span = TumblingWindow(window_duration=2 * HALF).span
    count = Aggregate(output="n", function=Count("w"), span=span)
    step = Aggregation(table="t", keys=(("ka", "ka"),), time=("ts", "ts"), known_at="known", aggregates=(count,))
    rows = in_spark(spark, table([(1, "", START, START + 3 * HALF, 1.0, 1, "late")], EVENTS))
    made = aggregate(turns(rows, step, None, None), rows, step).orderBy("ts").toArrow().to_pydict()
    assert made["ts"] == [START + 2 * HALF, START + 3 * HALF, START + 4 * HALF]
    assert made["n"] == [0, 1, 0]


def _same(label: dict[str, Any], row: dict[str, Any], step: Aggregation) -> bool:
    return all(label[mine] == row[theirs] for mine, theirs in step.keys)
