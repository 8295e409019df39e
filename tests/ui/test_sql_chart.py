"""Which chart a result gets, and that users' names and values stay values in it."""

from typing import Any

import pyarrow as pa
import pytest

from millpond.ui.grid import GridRows, grid_rows
from millpond.ui.sql_chart import MOST_POINTS, Chart, chart_options, chosen

COLOURS = ("#111111", "#222222", "#333333")


def rows(**columns: list[Any]) -> GridRows:
    return grid_rows(pa.table(columns))


@pytest.mark.parametrize(
    ("asked", "chart"),
    [
        ({}, Chart(kind="bar", x=0, y=2)),
        ({"kind": "line", "x": "1", "y": "1"}, Chart(kind="line", x=1, y=1)),
        ({"kind": "pie", "x": "9", "y": "-1"}, Chart(kind="bar", x=0, y=2)),
    ],
)
def test_what_the_address_leaves_out_is_guessed(asked: dict[str, str], chart: Chart) -> None:
    assert chosen(rows(name=["a"], n=[1], total=[2.5]), asked) == chart


def test_one_column_is_drawn_against_itself() -> None:
    assert chosen(rows(n=[1, 2]), {}) == Chart(kind="bar", x=0, y=0)


def test_numbers_across_are_an_axis_of_values_and_words_are_categories() -> None:
    found = rows(name=["a", None], n=[1, 2], total=[2.5, None])
    points = chart_options(found, Chart(kind="scatter", x=1, y=2), COLOURS)
    assert (points["xAxis"]["type"], points["series"][0]["data"]) == ("value", [[1, 2.5], [2, None]])
    bars = chart_options(found, Chart(kind="bar", x=0, y=2), COLOURS)
    assert (bars["xAxis"]["data"], bars["series"][0]["data"]) == (["a", ""], [2.5, None])


def test_no_name_of_a_users_becomes_a_key_and_points_have_a_bound() -> None:
    found = rows(**{":onclick": list(range(2 * MOST_POINTS)), ":y": list(range(2 * MOST_POINTS))})
    options = chart_options(found, Chart(kind="line", x=0, y=1), COLOURS)

    def keys(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value).union(*map(keys, value.values()))
        return set().union(*map(keys, value)) if isinstance(value, list) else set()

    assert not any(key.startswith(":") for key in keys(options))
    assert len(options["series"][0]["data"]) == MOST_POINTS
