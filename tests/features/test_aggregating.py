"""Declared aggregations on this machine, in memory and by way of the disk, and what is noted for the certificate."""

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings

from millpond.features import Count, RollingWindow, Sum, aggregating, columns
from millpond.features.joining import Means, aggregates_rechecked, look_up
from millpond.features.planning import Aggregate, Aggregation
from tests.features.aggregation_kernels import (
    EVENTS,
    HALF,
    Kernel,
    aggregations,
    events,
    holds,
    labels,
    nan_is_greatest,
    null_is_least_of_one_time,
    table,
)
from tests.features.kernels import DAY, LABELS, ONE_KEY
from tests.features.test_asof import SPILLING, frame


def aggregated(labels: pa.Table, events: pa.Table, step: Aggregation, means: Means) -> pa.Table:
    mine, theirs = frame(labels), frame(events)
    found = look_up(mine, [theirs[:3], theirs[3:]], step, means, sample=range(mine.height))
    assert (found.evidence.labels, found.evidence.rechecked, found.evidence.wrong) == (mine.height, mine.height, 0)
    assert (found.evidence.newest_lead_us or -1) < 0
    assert (found.evidence.newest_known_lead_us or 0) <= 0
    made: pa.Table = pl.concat([mine, found.columns], how="horizontal").to_arrow()
    return made


def in_memory(labels: pa.Table, events: pa.Table, step: Aggregation) -> pa.Table:
    return aggregated(labels, events, step, Means())


def by_way_of_the_disk(labels: pa.Table, events: pa.Table, step: Aggregation) -> pa.Table:
    return aggregated(labels, events, step, SPILLING)


@pytest.mark.parametrize("kernel", [in_memory, by_way_of_the_disk])
@settings(max_examples=80)
@given(labels=labels, events=events, step=aggregations)
def test_each_label_has_what_was_in_its_windows(kernel: Kernel, labels: list, events: list, step: Aggregation) -> None:
    holds(kernel, labels, events, step)


@given(labels=labels, events=events, step=aggregations)
def test_so_it_is_when_pairs_come_a_few_at_a_time(labels: list, events: list, step: Aggregation) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aggregating, "_MOST_PAIRS", 3)
        holds(in_memory, labels, events, step)


@pytest.mark.parametrize("kernel", [in_memory, by_way_of_the_disk])
def test_nan_is_greatest(kernel: Kernel) -> None:
    nan_is_greatest(kernel)


@pytest.mark.parametrize("kernel", [in_memory, by_way_of_the_disk])
def test_null_is_least_of_one_time(kernel: Kernel) -> None:
    null_is_least_of_one_time(kernel)


def test_the_brute_force_notices_a_wrong_value() -> None:
    rows = [(1, "", DAY, DAY, 2.0, 3, "a")]
    span = RollingWindow(window_duration=2 * HALF).span
    step = Aggregation(
        table="t", keys=ONE_KEY, time=("at", "ts"),
        aggregates=(
            Aggregate(output="sum", function=Sum("x"), span=span), Aggregate(output="n", function=Count("w"), span=span)
        ),
    )  # fmt: skip
    mine = columns.prepared_labels(frame(table([(1, "", DAY + HALF, 0)], LABELS)), step, zone="UTC")
    theirs = columns.prepared_features(frame(table(rows, EVENTS)), step, zone="UTC")
    for found, wrong in (((2.0, 1), 0), ((2.1, 1), 1), ((2.0, 0), 1), ((None, 1), 1)):
        told = pl.DataFrame([found], schema={"sum": pl.Float64, "n": pl.Int64}, orient="row")
        assert aggregates_rechecked(mine, theirs, told, step) == (1, wrong)
