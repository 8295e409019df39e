"""What counts as the same, and which requests are replayed."""

import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.features.planning import Call, Join
from millpond.kernel.errors import InvalidArgument
from millpond.parity.domain import MOST_SHOWN, Feature, Report, compare, same
from millpond.parity.requests import absent, needs, sampled_keys, side_by_side
from millpond.registry.checks import Replay

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.datetimes() | st.binary()
VALUES = st.recursive(
    PLAIN | st.decimals(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(VALUES, st.floats(0, 10))
def test_each_value_is_itself(value: Any, tolerance: float) -> None:
    assert same(value, value, tolerance)


@given(VALUES, VALUES)
def test_nothing_else_is_but_what_python_calls_equal_and_is_of_one_type(one: Any, other: Any) -> None:
    if same(one, other, 0.0):
        assert type(one) is type(other)
        assert repr(one) == repr(other) or one == other
    else:
        assert one is not other
        assert type(one) is not type(other) or one != other or "nan" in repr(one)


@pytest.mark.parametrize(
    ("offline", "online", "tolerance", "expected"),
    [
        (None, 0, 0.0, False), (None, 0.0, 9.0, False), (0, 0.0, 9.0, False), (True, 1, 0.0, False),
        (math.nan, math.nan, 0.0, True), (math.nan, None, 0.0, False), (math.nan, 1.0, 9.0, False),
        (math.inf, math.inf, 0.0, True), (math.inf, -math.inf, 1e9, False), (-0.0, 0.0, 0.0, True),
        (1.0, 1.0 + 1e-12, 0.0, False), (1.0, 1.0 + 1e-12, 1e-9, True), (1e9, 1e9 + 1, 1e-8, True),
        (Decimal("1.50"), Decimal("1.5"), 0.0, True), (Decimal("1.5"), 1.5, 9.0, False),
        (NOON, NOON.astimezone(None), 0.0, True), (NOON, NOON.replace(tzinfo=None), 0.0, False),
        (date(2026, 6, 1), "2026-06-01", 0.0, False), ([1.0, None], [1.0, None], 0.0, True),
        ([1.0], [1.0, 2.0], 9.0, False), ({"a": [math.nan]}, {"a": [math.nan]}, 0.0, True),
        ({"a": 1.0}, {"a": 1.1}, 0.2, True), ({"a": None}, {}, 0.0, False),
    ],
)  # fmt: skip
def test_what_a_model_would_see_decides(offline: Any, online: Any, tolerance: float, expected: bool) -> None:
    assert same(offline, online, tolerance) is same(online, offline, tolerance) is expected


def compared(offline: list[Any], online: list[Any], **more: Any) -> Feature:
    keys = [{"id": number} for number in range(len(offline))]
    more = {"left_out": frozenset(), "tolerance": 0.0, "places": ("t@3", "t_online"), **more}
    return compare("f", offline, online, keys, **more)


def test_a_feature_is_counted_row_by_row() -> None:
    found = compared([1.0, None, 2.0, None, 5.0, 7.0], [1.0, None, 2.5, 3.0, None, 9.0], left_out=frozenset({5}))
    assert (found.compared, found.equal, found.found, found.superseded) == (5, 2, 4, 1)
    assert (found.missing_online, found.missing_offline, found.largest_difference) == (1, 1, 0.5)
    assert [(each.key["id"], each.offline, each.online) for each in found.mismatches] == [
        (2, 2.0, 2.5), (3, None, 3.0), (4, 5.0, None),
    ]  # fmt: skip
    many = compared([0] * 100, ["x" * 1000] * 100)
    assert len(many.mismatches) == MOST_SHOWN
    assert (many.mismatches[0].types, len(many.mismatches[0].online)) == ("int and str", 203)


def test_a_report_passes_when_no_more_differs_than_may() -> None:
    def report(feature: Feature, most: int) -> Report:
        return Report(rows=2, keys="t", keys_table_id="", sources=(), features=(feature,), max_mismatches=most)

    bad = compared([1, 2], [1, 3])
    assert [report(bad, most).passes for most in (0, 1)] == [False, True]
    assert report(bad, 0).message == "f differs in 1 of 2 values (t@3 against t_online)"
    assert not report(compared([1], [1], left_out=frozenset({0})), 0).passes, "nothing was compared"


def join(table: str, keys: dict[str, str], outputs: str, time: str = "") -> Join:
    timed = (time, "ts") if time else None
    return Join(table=table, keys=tuple(keys.items()), time=timed, outputs={outputs: outputs}, defaults={})


def test_requests_bring_what_no_step_makes_and_each_table_has_its_turn() -> None:
    steps = [
        join("users", {"user": "id"}, "city", "at"),
        join("cities", {"city": "name"}, "people"),
        join("rides", {"user": "rider", "car": "car"}, "rides"),
        Call(function="f", arguments=("people", "distance"), output="effort"),
    ]
    wanted = needs(steps)
    assert (wanted.keys, wanted.times, wanted.others) == (("user", "car"), ("at",), ("distance",))
    groups = sampled_keys(steps, wanted.keys)
    assert [[(each.table, dict(each.columns)) for each in group] for group in groups] == [
        [("rides", {"user": "rider", "car": "car"})], [("users", {"user": "id"})],
    ]  # fmt: skip
    rides, users = [{"user": 1, "car": 7}, {"user": 2, "car": 8}], [{"user": 1}, {"user": 3}]
    assert side_by_side([[rides], [users]], wanted.keys) == [
        {"user": 1, "car": 7}, {"user": 2, "car": 8}, {"user": 3, "car": 8},
    ]  # fmt: skip
    assert side_by_side([[[]], [users]], wanted.keys) == [{"user": 1, "car": None}, {"user": 3, "car": None}]
    assert side_by_side([[[]]], wanted.keys) == []


def test_keys_that_are_not_there_are_asked_for_too() -> None:
    kinds = {"a": "bigint", "b": "string", "c": "date", "d": "tinyint", "e": "binary"}
    found = absent([{"a": 1, "other": 5}], kinds, 2)
    assert [row["a"] for row in found] == [2**63 - 2, 2**63 - 3, None]
    assert [row["d"] for row in found] == [126, 125, None]
    assert {row["other"] for row in found} == {5}
    assert found[1]["c"] - found[0]["c"] == timedelta(days=1)


@pytest.mark.parametrize(
    "wrong",
    [{"sample": 0}, {"sample": 1001}, {"tolerance": -1}, {"tolerance": math.nan}, {"tolerances": {"a": "much"}},
     {"tolerances": {"a": True}}, {"max_mismatches": -1}],
)  # fmt: skip
def test_what_cannot_be_replayed_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        Replay(**wrong)
