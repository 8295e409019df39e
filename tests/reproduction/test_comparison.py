"""Two runs compared: what is the same to the bit, what is near enough, and where it differs first."""

import math

from hypothesis import given
from hypothesis import strategies as st

from millpond.reproduction.comparison import (
    compare_documents,
    compare_metrics,
    compare_packages,
    compare_texts,
    first_line,
    same_bits,
)
from millpond.reproduction.domain import Finding, Outcome, worst

TOLERANCE = 1e-6


def _one(first: list[tuple[int, float]], second: list[tuple[int, float]]) -> Finding:
    (found,) = compare_metrics({"loss": first}, {"loss": second}, TOLERANCE)
    return found


def test_the_same_values_are_identical_whatever_they_are() -> None:
    points = [(0, 0.1), (1, math.nan), (2, math.inf), (3, -0.0)]
    assert _one(points, list(points)).outcome is Outcome.IDENTICAL


def test_a_last_bit_is_within_tolerance_and_not_identical() -> None:
    found = _one([(0, 0.1), (1, 0.3)], [(0, 0.1), (1, math.nextafter(0.3, 1))])
    assert found.outcome is Outcome.WITHIN


def test_the_first_step_that_differs_is_named_with_both_values() -> None:
    found = _one([(0, 1.0), (10, 0.5), (20, 0.2)], [(0, 1.0), (10, 0.6), (20, 0.9)])
    assert (found.outcome, found.step) == (Outcome.DIFFERENT, 10)
    assert "0.5, then 0.6" in found.message


def test_a_history_that_ends_early_differs_where_it_ends() -> None:
    found = _one([(0, 1.0), (1, 0.5)], [(0, 1.0)])
    assert (found.outcome, found.step) == (Outcome.DIFFERENT, 1)


def test_not_a_number_is_not_near_a_number() -> None:
    assert _one([(0, math.nan)], [(0, 1.0)]).outcome is Outcome.DIFFERENT
    assert _one([(0, math.inf)], [(0, -math.inf)]).outcome is Outcome.DIFFERENT


def test_what_only_one_run_has_makes_a_difference() -> None:
    found = compare_metrics({"a": [(0, 1.0)]}, {"b": [(0, 1.0)]}, TOLERANCE)
    assert [each.outcome for each in found] == [Outcome.MISSING, Outcome.MISSING]
    assert worst(found) is Outcome.DIFFERENT


def test_params_are_compared_as_texts() -> None:
    found = compare_texts({"a": "1", "b": "2"}, {"a": "1", "b": "3"})
    assert [each.outcome for each in found] == [Outcome.IDENTICAL, Outcome.DIFFERENT]


def test_documents_differ_neither_by_ids_nor_by_a_last_bit() -> None:
    first = {"run_id": "a", "flavors": {"x": [1.0, 2.0]}, "utc_time_created": "1"}
    second = {"run_id": "b", "flavors": {"x": [1.0, math.nextafter(2.0, 3)]}, "utc_time_created": "2"}
    assert compare_documents("MLmodel", first, second, TOLERANCE).outcome is Outcome.WITHIN
    second["flavors"]["x"][0] = 9.0
    assert compare_documents("MLmodel", first, second, TOLERANCE).message == "differs at .flavors.x[0]"


def test_a_list_of_texts_in_another_order_is_named_and_no_difference() -> None:
    found = compare_documents("MLmodel", {"types": ["a", "b"]}, {"types": ["b", "a"]}, TOLERANCE)
    assert (found.outcome, found.message) == (Outcome.WITHIN, "the same texts in another order at .types")
    assert compare_documents("x.json", [1, 2], [2, 1], TOLERANCE).outcome is Outcome.DIFFERENT


def test_the_first_line_that_differs() -> None:
    assert first_line("a\nb\nc", "a\nX\nc") == 2
    assert first_line("a\nb", "a\nb\nc") == 3
    assert first_line("a\n", "a\n") is None


def test_packages_that_are_otherwise_are_named() -> None:
    first = [{"name": "a", "version": "1", "digest": "x"}, {"name": "b", "version": "1"}, {"name": "c", "version": "1"}]
    second = [{"name": "a", "version": "1", "digest": "y"}, {"name": "b", "version": "2"}]
    assert compare_packages(first, second, frozenset()) == [
        "package a 1: its files are others than those that the run had",
        "package b: 1, then 2",
        "package c 1 is not in the environment that was built",
    ]


@given(st.floats(), st.floats())
def test_identical_means_the_same_bits(one: float, other: float) -> None:
    same = (math.isnan(one) and math.isnan(other)) or (
        one == other and math.copysign(1, one) == math.copysign(1, other)
    )
    assert same_bits(one, other) == same
