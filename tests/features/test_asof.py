"""The kernel of this machine, in memory and by way of the disk, and what it notes for the certificate."""

import datetime as dt
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings

from millpond.features import columns
from millpond.features.joining import Means, _wrong, look_up
from millpond.features.planning import Join
from tests.features.kernels import (
    DAY,
    FEATURES,
    LABELS,
    ONE_KEY,
    OUTPUTS,
    Kernel,
    exact,
    features,
    holds,
    joins,
    labels,
    labels_stay_as_many_as_they_are,
    late_data_counts_from_when_it_was_known,
    null_is_least_of_what_is_known_at_one_time,
    table,
)

SPILLING = Means(memory_limit_bytes=0)


def frame(given: pa.Table) -> pl.DataFrame:
    made = pl.from_arrow(given)
    assert isinstance(made, pl.DataFrame)
    return made


def joined(labels: pa.Table, features: pa.Table, join: Join, means: Means) -> pa.Table:
    mine, theirs = frame(labels), frame(features)
    found = look_up(mine, [theirs[:3], theirs[3:]], join, means).columns
    made: pa.Table = pl.concat([mine, found], how="horizontal").to_arrow()
    return made


def in_memory(labels: pa.Table, features: pa.Table, join: Join) -> pa.Table:
    return joined(labels, features, join, Means())


def by_way_of_the_disk(labels: pa.Table, features: pa.Table, join: Join) -> pa.Table:
    return joined(labels, features, join, SPILLING)


KERNELS = pytest.mark.parametrize("kernel", [in_memory, by_way_of_the_disk])


@KERNELS
@settings(max_examples=60)
@given(labels=labels, features=features, join=joins)
def test_each_label_has_what_was_there_at_its_time(kernel: Kernel, labels: list, features: list, join: Join) -> None:
    holds(kernel, labels, features, join)


@KERNELS
@settings(max_examples=60)
@given(labels=labels, features=features, join=exact)
def test_without_a_time_keys_alone_decide(kernel: Kernel, labels: list, features: list, join: Join) -> None:
    holds(kernel, labels, features, join)


@KERNELS
def test_late_data_counts_from_when_it_was_known(kernel: Kernel) -> None:
    late_data_counts_from_when_it_was_known(kernel)


@KERNELS
def test_null_is_least_of_what_is_known_at_one_time(kernel: Kernel) -> None:
    null_is_least_of_what_is_known_at_one_time(kernel)


@KERNELS
def test_labels_stay_as_many_as_they_are(kernel: Kernel) -> None:
    labels_stay_as_many_as_they_are(kernel)


@given(label_rows=labels, feature_rows=features, join=joins)
def test_the_evidence_is_what_happened(label_rows: list, feature_rows: list, join: Join) -> None:
    mine, theirs = frame(table(label_rows, LABELS)), frame(table(feature_rows, FEATURES))
    found = look_up(mine, [theirs], join, Means(), sample=range(len(label_rows))).evidence
    assert (found.labels, found.rechecked, found.wrong) == (len(label_rows), len(label_rows), 0)
    assert max(found.newest_lead_us or 0, found.newest_known_lead_us or 0) <= 0


def test_the_brute_force_notices_a_wrong_row() -> None:
    rows = [(1, "", DAY, DAY, 1.0, "old"), (1, "", DAY + dt.timedelta(hours=1), DAY, 2.0, "new")]
    join = Join(table="t", keys=ONE_KEY, time=("at", "ts"), outputs=OUTPUTS, defaults={})
    mine = columns.prepared_labels(frame(table([(1, "", DAY, 0)], LABELS)), join, zone="UTC")
    theirs = columns.prepared_features(frame(table(rows, FEATURES)), join, zone="UTC")
    assert _wrong(mine, theirs, pl.Series([0], dtype=pl.UInt32), join) == 0
    assert _wrong(mine, theirs, pl.Series([1], dtype=pl.UInt32), join) == 1


def test_what_spills_leaves_no_files(tmp_path: Path) -> None:
    rows = [(key, "", DAY, DAY, float(key), "") for key in range(1000)]
    mine, theirs = frame(table([(key, "", DAY, 0) for key in range(1000)], LABELS)), frame(table(rows, FEATURES))
    join = Join(table="t", keys=ONE_KEY, time=("at", "ts"), outputs={"x": "x"}, defaults={})
    found = look_up(mine, [theirs[:600], theirs[600:]], join, Means(memory_limit_bytes=1, directory=tmp_path))
    assert (found.evidence.parts, found.evidence.matched) == (64, 1000)
    assert found.columns["x"].to_list() == [float(key) for key in range(1000)]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("means", [Means(), SPILLING])
def test_features_may_have_the_names_of_the_kernels_own_columns(means: Means) -> None:
    rows = [(1, "", DAY, DAY, 1.0, "first"), (1, "", DAY, DAY, 2.0, "second")]
    theirs = frame(table(rows, FEATURES)).rename({"x": "t", "w": "row"})
    join = Join(
        table="t", keys=ONE_KEY, time=("at", "ts"), known_at="known", outputs={"t": "k0", "row": "known"}, defaults={}
    )
    found = look_up(frame(table([(1, "", DAY, 0)], LABELS)), [theirs], join, means, sample=[0])
    assert (found.columns.rows(named=True), found.evidence.wrong) == ([{"k0": 2.0, "known": "second"}], 0)


def test_keys_of_another_type_are_refused() -> None:
    mine = frame(table([(1, "", DAY, 0)], LABELS)).with_columns(pl.col("a").cast(pl.String))
    join = Join(table="main.shop.t", keys=ONE_KEY, outputs={"x": "x"}, defaults={})
    with pytest.raises(ValueError, match=r"'a' is String and cannot be compared with the key 'ka' of 'main\.shop\.t'"):
        look_up(mine, [frame(table([], FEATURES))], join, Means())


def test_labels_without_any_key_or_time_stay() -> None:
    join = Join(table="t", keys=ONE_KEY, time=("at", "ts"), outputs={"x": "x"}, defaults={})
    theirs = frame(table([(1, "", DAY, None, 1.0, "")], FEATURES))
    mine = pl.DataFrame({"a": [None, None], "at": [None, None]})
    assert look_up(mine, [theirs], join, Means()).columns["x"].to_list() == [None, None]


def test_dates_and_times_without_a_zone_are_in_the_sessions_zone() -> None:
    join = Join(table="t", keys=ONE_KEY, time=("at", "ts"), outputs={"x": "x"}, defaults={})
    theirs = frame(table([(1, "", DAY - dt.timedelta(hours=1), None, 1.0, "")], FEATURES))
    mine = pl.DataFrame({"a": [1], "at": [DAY.date()]})
    zones = {zone: look_up(mine, [theirs], join, Means(zone=zone)).columns["x"].to_list() for zone in
             ("UTC", "Europe/Berlin", "Asia/Tokyo")}  # fmt: skip
    assert zones == {"UTC": [1.0], "Europe/Berlin": [1.0], "Asia/Tokyo": [None]}
