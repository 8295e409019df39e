"""What processes of updates tell is taken in once, within bounds, and never in place of what the server knows."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from millpond.kernel.errors import InvalidArgument
from millpond.pipelines.domain import Asked, Cause, Pipeline, Update, UpdateState
from millpond.pipelines.events import LARGEST_BYTES, MOST_AT_ONCE, MOST_OF_UPDATE, Intake
from millpond.pipelines.filters import events_like, pipelines_like
from millpond.pipelines.graph import Dataset, Expectation, acyclic, graph_of
from millpond.pipelines.settings import targets
from tests.pipelines.made import event_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = {"name": "p", "catalog": "main", "schema": "s"}
PIPELINE = Pipeline(
    id="p1", name="p", creator="ann", run_as="ann", settings=SETTINGS, created_at=NOW, changed_at=NOW
)  # fmt: skip


def update(**values: Any) -> Update:
    """An update that runs."""
    given: dict[str, Any] = {
        "id": "u1", "pipeline_id": "p1", "number": 1, "run_id": 7, "cause": Cause.API_CALL, "asked": Asked(),
        "asked_by": "ann", "run_as": "ann", "settings": SETTINGS, "state": UpdateState.RUNNING, "message": "",
        "error": None, "told_by": 0, "told": 0, "events": 0, "created_at": NOW, "ended_at": None,
    }  # fmt: skip
    return Update(**{**given, **values})


def told(sequence: int, event_type: str = "flow_progress", **more: Any) -> dict[str, Any]:
    """An event as a process tells it."""
    return {"sequence": sequence, "event_type": event_type, "level": "INFO", "message": "m", **more}


def test_what_was_told_before_is_not_taken_again() -> None:
    before = update(told_by=5, told=2)
    again = Intake(PIPELINE, before, [told(1), told(2), told(3)], attempt=5)
    assert (len(again.rows), again.last) == (1, 3)
    assert len(Intake(PIPELINE, before, [told(1), told(2)], attempt=6).rows) == 2  # another attempt counts anew


def test_a_process_says_where_it_is_but_not_how_the_update_ends() -> None:
    states = [
        told(1, "update_progress", details={"update_progress": {"state": "RUNNING"}}),
        told(2, "update_progress", details={"state": "FAILED"}, error={"fatal": True}),
        told(3, "create_update"),
        told(4, "user_action"),
        told(5, "update_progress", level="WARN", message="a table is inactive"),
    ]
    taken = Intake(PIPELINE, update(), states, attempt=1)
    assert (taken.state, taken.error) == (UpdateState.RUNNING, {"fatal": True})
    assert [(row["event_type"], row["level"]) for row in taken.rows] == [
        ("update_progress", "INFO"), ("update_progress", "WARN"),
    ]  # fmt: skip


def test_a_flow_that_failed_is_told_to_whom_the_settings_name() -> None:
    failed = told(1, details={"flow_progress": {"status": "FAILED"}}, message="no luck")
    taken = Intake(PIPELINE, update(), [failed, told(2, details={"status": "COMPLETED"})], attempt=1)
    assert taken.failed_flows == ["no luck"]
    settings = {"notifications": [
        {"alerts": ["on-flow-failure"], "email_recipients": ["ann@x.org"]},
        {"alerts": ["on-update-success"], "email_recipients": ["bob@x.org"]},
    ]}  # fmt: skip
    assert [each.address for each in targets(settings, "on-flow-failure")] == ["ann@x.org"]
    assert len(targets(settings)) == 2


def test_who_tells_it_is_written_by_the_server_and_what_is_too_large_is_left_out() -> None:
    origin = {"dataset_name": "t", "pipeline_id": "other", "update_id": "other"}
    details = {"x": "y" * LARGEST_BYTES}
    large = told(1, origin=origin, details=details, level="SHOUTS", maturity_level="RIPE")
    [row] = Intake(PIPELINE, update(), [large], attempt=1).rows
    origin = {"dataset_name": "t", "pipeline_id": "p1", "pipeline_name": "p", "update_id": "u1"}
    assert row["body"] == {"origin": origin, "maturity_level": "STABLE", "truncated": ["details"]}
    assert row["level"] == "INFO"
    endless = told(2, origin={"a": "y" * LARGEST_BYTES})
    [row] = Intake(PIPELINE, update(), [endless], attempt=1).rows
    assert len(json.dumps(row["body"])) <= LARGEST_BYTES


def test_there_is_an_end_to_what_an_update_may_tell() -> None:
    full = update(events=MOST_OF_UPDATE - 1)
    rows = Intake(PIPELINE, full, [told(number) for number in range(1, 5)], attempt=1).rows
    assert [row["event_type"] for row in rows] == ["flow_progress", "diagnostics"]
    with pytest.raises(InvalidArgument):
        Intake(PIPELINE, full, [told(1)] * (MOST_AT_ONCE + 1), attempt=1)
    with pytest.raises(InvalidArgument):
        Intake(PIPELINE, full, ["text"], attempt=1)


def test_the_graph_adds_up_batches_and_takes_the_last_of_what_is_made_anew() -> None:
    def progress(name: str, rows: int, failed: int, status: str = "RUNNING") -> Any:
        quality = {"dropped_records": failed, "expectations": [
            {"name": "positive", "dataset": name, "passed_records": rows, "failed_records": failed}]}  # fmt: skip
        details = {"status": status, "metrics": {"num_output_rows": rows}, "data_quality": quality}
        return event_of("flow_progress", details, dataset=name)

    graph = graph_of([
        event_of("dataset_definition", {"dataset_type": "STREAMING_TABLE"}, dataset="m.s.raw"),
        event_of("dataset_definition", {"dataset_type": "MATERIALIZED_VIEW"}, dataset="m.s.sums"),
        event_of("flow_definition", {"output_dataset": "m.s.raw", "input_datasets": [{"name": "m.in.files"}]}),
        event_of("flow_definition", {"output_dataset": "m.s.sums", "input_datasets": ["m.s.raw", "m.s.sums"]}),
        progress("m.s.raw", 10, 1), progress("m.s.raw", 5, 2, "COMPLETED"),
        progress("m.s.sums", 3, 0), progress("m.s.sums", 4, 1, "FAILED"),
    ])  # fmt: skip
    outside, raw, sums = graph.datasets
    assert (outside.name, outside.defined) == ("m.in.files", False)
    assert (raw.rows, raw.dropped, raw.status) == (15, 3, "COMPLETED")
    assert raw.expectations == (Expectation(name="positive", passed=15, failed=3),)
    assert (sums.rows, sums.status, sums.expectations) == (
        4, "FAILED", (Expectation(name="positive", passed=4, failed=1),),
    )  # fmt: skip
    assert [each.needs for each in acyclic(graph.datasets)] == [(), ("m.in.files",), ("m.s.raw",)]


@pytest.mark.parametrize("junk", ["text", 7, [1], {"metrics": "x", "data_quality": [1], "input_datasets": 3}, None])
def test_the_graph_is_drawn_whatever_code_has_told(junk: Any) -> None:
    told = [event_of(each, junk, dataset="t") for each in ("dataset_definition", "flow_definition", "flow_progress")]
    assert [each.name for each in graph_of(told).datasets] == ["t"]


def test_circles_are_cut_for_the_picture_and_nothing_else_is() -> None:
    circle = [Dataset(name="a", needs=("c", "x")), Dataset(name="b", needs=("a",)), Dataset(name="c", needs=("b", "x")),
              Dataset(name="x")]  # fmt: skip
    kept = {each.name: each.needs for each in acyclic(circle)}
    assert sum(len(needs) for needs in kept.values()) == 4  # of five
    assert "x" in kept["a"]
    assert "x" in kept["c"]


@pytest.mark.parametrize(
    "text", ["level = INFO", "level in ()", "timestamp > 'soon'", "level='INFO' OR id='1'", "id='\0'", "x"]
)
def test_filters_of_events_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        events_like(text)


@pytest.mark.parametrize(
    "text", ["name = 'x'", "name LIKE x", "name LIKE 'x\\'", "name LIKE '\0'", "notebook LIKE '/x'"]
)
def test_filters_of_pipelines_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        pipelines_like(text)
