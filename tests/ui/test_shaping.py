"""How values become what a page shows."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from millpond.catalog.domain import ObjectName
from millpond.serving.openapi import InputField, ModelInput
from millpond.ui import urls
from millpond.ui.endpoint.asking import first_record, typed
from millpond.ui.endpoint.overview import moved, split_traceback
from millpond.ui.formats import duration_text, metric_text, size_text
from millpond.ui.grid import grid_rows
from millpond.ui.model_files import example_request
from millpond.ui.pages.tables import metrics_text, parameters_text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1,023 B"), (1024, "1.0 KiB"), (5 << 20, "5.0 MiB"), (3 << 50, "3,072.0 TiB")]
)
def test_sizes_have_binary_units(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("ms", "text"), [(12.4, "12 ms"), (1500, "1.5 s"), (61_000, "1 min 1 s"), (3_725_000, "1 h 2 min")]
)
def test_durations_have_two_units_at_most(ms: float, text: str) -> None:
    assert duration_text(ms) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.845123, "0.84512"), (3.0, "3"), (1e-9, "1e-09"), (float("nan"), "NaN"), (float("inf"), "inf")],
)
def test_metrics_have_five_digits_that_matter(value: float, text: str) -> None:
    assert metric_text(value) == text


def test_names_of_users_never_become_keys_of_the_grid() -> None:
    sample = grid_rows(pa.table({":onclick": ["alert(1)"], "a.b": [1], "a": ["x"]}))
    assert sample.names == (":onclick", "a.b", "a")
    assert sample.rows == [{"c0": "alert(1)", "c1": 1, "c2": "x"}]


def test_values_that_json_or_javascript_would_spoil_become_text() -> None:
    table = pa.table({
        "big": [2**60], "nan": [float("nan")], "when": [datetime(2026, 1, 2, 3, tzinfo=UTC)], "day": [date(2026, 1, 2)],
        "exact": [Decimal("1.10")], "bytes": [b"\x00\xff"], "nested": [{"a": [1]}],
        "none": pa.array([None], pa.int64()), "truth": [True],
    })  # fmt: skip
    row = grid_rows(table).rows[0]
    assert json.loads(json.dumps(row)) == row
    assert list(row.values()) == [
        str(2**60), "nan", "2026-01-02 03:00:00+00:00", "2026-01-02", "1.10", "0x00ff", '{"a": [1]}', None, True,
    ]  # fmt: skip


def test_a_commits_parameters_tell_no_place() -> None:
    parameters = {
        "mode": "Append",
        "location": "file:///secret",
        "partitionBy": "[]",
        "metadata": "{...}",
        "predicate": "",
    }
    assert parameters_text(parameters) == "mode: Append"


def test_a_commits_metrics_are_the_same_in_every_engines_names() -> None:
    assert metrics_text({"numOutputRows": "300", "numFiles": 1, "numOutputBytes": "2048"}) == (
        "300 rows written\n1 file added\n2.0 KiB"
    )
    assert metrics_text({"numTargetRowsUpdated": 2, "numTargetRowsInserted": "0"}) == "2 rows updated"
    assert metrics_text({}) == ""


def test_a_request_starts_from_the_models_own_example_as_records() -> None:
    split = {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [3, 4], [5, 6]]}}
    request = example_request(ModelInput(fields=(), example=split))
    assert json.loads(request or "") == {"dataframe_records": [{"a": 1, "b": 2}, {"a": 3, "b": 4}]}


def test_a_request_without_an_example_is_made_from_the_columns() -> None:
    fields = (InputField(name="a", type="double", required=True), InputField(name="b", type="string", required=False))
    assert json.loads(example_request(ModelInput(fields=fields, example=None)) or "") == {
        "dataframe_records": [{"a": 0.0, "b": ""}]
    }
    tensor = (InputField(name=None, type="tensor", required=True),)
    assert example_request(ModelInput(fields=tensor, example=None)) is None


def test_addresses_keep_names_apart() -> None:
    name = ObjectName("c?", "s#", "t%&ü")
    assert urls.object_url("table", name) == "/catalog/c%3F/s%23/tables/t%25%26%C3%BC"
    assert urls.model_url("a b#c") == "/models/a%20b%23c"
    assert urls.files_api_url(ObjectName("c", "s", "v"), "d/50% #1") == "/api/2.0/fs/files/Volumes/c/s/v/d/50%25%20%231"


def test_a_failure_is_told_in_words_with_its_traceback_apart() -> None:
    traceback = 'Traceback (most recent call last):\n  File "m.py", line 1\nValueError: no weights'
    assert split_traceback(f"The model did not load.\n{traceback}\n") == ("The model did not load.", traceback)
    assert split_traceback(traceback) == ("ValueError: no weights", traceback)
    assert split_traceback("Out of memory.") == ("Out of memory.", "")
    assert split_traceback("") == ("It did not say why.", "")


@pytest.mark.parametrize(
    ("shares", "name", "percent", "found"),
    [
        ({"a": 100, "b": 0}, "b", 30, {"a": 70, "b": 30}),
        ({"a": 70, "b": 30}, "a", 100, {"a": 100, "b": 0}),
        ({"a": 60, "b": 30, "c": 10}, "c", 50, {"a": 20, "b": 30, "c": 50}),
        ({"a": 60, "b": 30, "c": 10}, "c", 95, {"a": 0, "b": 5, "c": 95}),
        ({"a": 60, "b": 30, "c": 10}, "a", 20, {"a": 20, "b": 70, "c": 10}),
        ({"a": 100}, "a", 40, {"a": 40}),
        ({"a": 50, "b": 50}, "a", 400, {"a": 100, "b": 0}),
    ],
)
def test_shares_of_the_traffic_add_up_when_one_is_moved(
    shares: dict[str, int], name: str, percent: int, found: dict[str, int]
) -> None:
    assert moved(shares, name, percent) == found


def test_what_is_typed_into_a_form_has_the_signatures_type() -> None:
    assert [typed("1", "long"), typed("1.5", "double"), typed("true", "boolean")] == [1, 1.5, True]
    assert [typed("1", "string"), typed("null", "double"), typed("x", "long")] == ["1", None, "x"]
    assert first_record('{"dataframe_records": [{"a": 1}, {"a": 2}]}') == {"a": 1}
    assert first_record('{"dataframe_records": [{"a": [1]}]}') == {}
    assert first_record('{"inputs": [1]}') == {}
