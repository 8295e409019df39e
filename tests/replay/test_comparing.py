"""How the answers of two versions differ, added up; which requests are a page; and what a gate allows."""

import json
import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from millpond.kernel.clock import utc_now
from millpond.kernel.errors import InvalidArgument
from millpond.registry.checks import TrafficReplay
from millpond.registry.traffic_replay import TRAFFIC_REPLAY, judged
from millpond.replay.comparing import Comparison, leaves, rows_of
from millpond.replay.domain import Answered, Asked, Recorded
from millpond.replay.recorded import Place, pages
from millpond.replay.running import ask_chunk
from millpond.serving.worker_process import Answer

ALLOWED = {"max_different": 0.0, "max_errors": 0.0}


def compared(*pairs: tuple[Any, Any], tolerance: float = 1e-9) -> dict[str, Any]:
    """The report on requests; each is predictions before and after, or the status of a refusal."""
    comparison = Comparison(tolerance=tolerance)
    for number, (old, new) in enumerate(pairs):
        recorded = Recorded(
            id=f"r{number}", content_type="application/json", request=b"{}", status=status(old), response=body(old),
            version="1", model_ms=2.0,
        )  # fmt: skip
        comparison.add(recorded, Answered(status=status(new), body=body(new), model_ms=4.0))
    report = comparison.report()
    assert json.loads(json.dumps(report, allow_nan=False)) == report, "it is kept as JSON"
    return report


def status(told: Any) -> int:
    return told if isinstance(told, int) else 200


def body(told: Any) -> bytes:
    return json.dumps({"message": "no"} if isinstance(told, int) else {"predictions": told}).encode()


def test_numbers_are_compared_by_how_far_they_are_apart() -> None:
    report = compared(([1.0, 2.0], [1.0, 2.5]), ([3.0], [2.0]), ([1.0, 1.0], [1.0 + 1e-12, 1.0]))
    assert (report["rows"], report["different"], report["labels"]) == (5, 2, None)
    numbers = report["numbers"]
    assert (numbers["count"], numbers["largest"]) == (5, 1.0)
    assert numbers["mean_difference"] == pytest.approx(-0.1)
    assert numbers["mean_apart"] == pytest.approx(0.3)
    assert numbers["quantiles"]["p99"] == pytest.approx(0.5, rel=0.021), "the fourth of five"
    assert [bar for bar in numbers["histogram"] if bar[1]] == [["1e-09", 3], ["0.5", 1], ["1", 1]]
    assert [each["new"] for each in report["examples"]] == ["2.0", "2.5"], "the largest first"
    assert (report["old_ms"]["p50"], report["new_ms"]["p50"]) == pytest.approx((2.0, 4.0), rel=0.021)


def test_the_tolerance_is_absolute_or_a_part_of_the_greater_one() -> None:
    assert compared(([100.0, 0.001], [109.0, 0.09]), tolerance=0.1)["different"] == 0
    assert compared(([100.0, 0.5], [120.0, 0.5]), tolerance=0.1)["different"] == 1


def test_labels_are_counted_old_by_new() -> None:
    report = compared((["yes", "no", "no"], ["yes", "yes", "no"]))
    assert report["labels"] == [["no", "no", 1], ["no", "yes", 1], ["yes", "yes", 1]]
    assert (report["different"], report["numbers"]) == (1, None)
    assert compared(([0, 1], [1, 1]))["labels"] == [["0", "1", 1], ["1", "1", 1]], "whole numbers may be labels"
    assert compared((list(range(30)), list(range(30))))["labels"] is None, "or are too many to be"
    assert compared(([True], [1]))["different"] == 1


def test_nothing_and_infinities_are_like_themselves_alone() -> None:
    report = compared(([math.nan, math.inf, None, math.nan], [math.nan, math.inf, None, 1.0]))
    assert (report["different"], report["numbers"]) == (1, None)
    assert report["examples"][0]["apart"] is None


def test_what_cannot_be_compared_is_different_and_ends_nothing() -> None:
    comparison = Comparison(tolerance=1e-9)
    deep, deeper = (b"[" * 5000 + last + b"]" * 5000 for last in (b"1", b"2"))
    for one, other in ((b"%d" % 10**400, b"1"), (b"1e308", b"-1e308"), (deep, deeper)):
        old, new = (b'{"predictions": [%s]}' % told for told in (one, other))
        recorded = Recorded(
            id="r", content_type="", request=b"{}", status=200, response=old, version="1", model_ms=2.0
        )  # fmt: skip
        comparison.add(recorded, Answered(status=200, body=new, model_ms=4.0))
    assert (comparison.rows, comparison.different) == (3, 3)
    json.dumps(comparison.report(), allow_nan=False)


def test_what_becomes_of_requests_is_told_apart() -> None:
    report = compared(([1], 400), ([1], 503), (400, [1]), (400, 400), ([1], [1]))
    assert report["outcomes"] == {"fails": 2, "works again": 1, "fails as before": 1, "compared": 1}
    assert report["errors"] == [{"message": "no", "requests": 2}]
    assert (report["requests"], report["rows"]) == (5, 1)


@pytest.mark.parametrize(
    ("request_body", "status_code", "response", "can_be"),
    [
        (b'{"inputs": [1]}', 200, b'{"predictions": [1]}', True),
        (b'{"inputs": [1], "stream": true}', 200, b'{"predictions": ["a", "b"]}', False),
        (b'{"inputs": ["stream"], "stream": false}', 200, b'{"predictions": [1]}', True),
        (b'{"inputs": "stream"', 400, b'{"message": "no"}', True),
        (b'{"inputs": [1]}', 200, b"/////6AAAAAQAAAA", False),
        (b'{"inputs": [1]}', 500, b"", True),
    ],
)
def test_answers_in_parts_and_in_arrow_are_left_out(
    request_body: bytes, status_code: int, response: bytes, can_be: bool
) -> None:
    recorded = Recorded(
        id="r", content_type="application/json", request=request_body, status=status_code, response=response,
        version="1", model_ms=2.0,
    )  # fmt: skip
    assert recorded.is_replayable is can_be
    asked: list[tuple[str, bytes]] = []

    class Candidate:
        def ask(self, requests: Sequence[tuple[str, bytes]]) -> list[Answer]:
            asked.extend(requests)
            return [Answer(status=200, content_type="application/json", body=b'{"predictions": [1]}')] * len(requests)

    found = Comparison(tolerance=0)
    ask_chunk(found, Candidate(), [recorded])  # type: ignore[arg-type]
    assert (found.requests, found.outcomes["not replayable"], len(asked)) == (1, int(not can_be), int(can_be))


def test_another_number_of_rows_is_a_difference() -> None:
    report = compared(([1, 2], [1]))
    assert (report["rows"], report["different"], report["other_shape"]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("told", "rows"),
    [
        (b'{"predictions": [1, 2]}', [1, 2]),
        (b'{"predictions": {"a": [1, 2], "b": [3, 4]}}', [{"a": 1, "b": 3}, {"a": 2, "b": 4}]),
        (b'{"predictions": {"a": 1}}', [{"a": 1}]),
        (b'{"outputs": [{"x": 1}]}', [{"x": 1}]),
        (b'{"predictions": 3.5}', [3.5]),
        (b"[1]", [1]),
        (b"no json", ["no json"]),
    ],
)
def test_rows_are_found_in_each_shape_of_answers(told: bytes, rows: list[Any]) -> None:
    assert rows_of(told) == rows


def test_places_of_two_rows_are_paired_by_name_and_number() -> None:
    pairs = list(leaves({"a": [1, 2], "b": "x"}, {"b": "y", "a": [1, 3]}))
    assert pairs == [(1, 1), (2, 3), ("x", "y")]
    assert list(leaves([1], [1, 2])) == [([1], [1, 2])]


def test_a_page_holds_what_memory_should() -> None:
    small = [Place(id=str(number), time_ms=number, size_bytes=10) for number in range(450)]
    assert [len(page) for page in pages(small)] == [200, 200, 50]
    large = [Place(id=str(number), time_ms=number, size_bytes=size << 20) for number, size in enumerate((9, 9, 40, 1))]
    assert [len(page) for page in pages(large)] == [1, 1, 1, 1]
    assert list(pages([])) == []


@pytest.mark.parametrize(
    "wrong",
    [{"requests": 0}, {"requests": 10_001}, {"tolerance": 1.0}, {"tolerance": math.nan}, {"start_ms": -1},
     {"end_ms": 1 << 60}, {"served_entity": "x' OR '1'='1"}],
)  # fmt: skip
def test_what_cannot_be_replayed_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        Asked(**wrong)


def test_a_gate_says_what_goes_too_far() -> None:
    good = compared(([1.0] * 20, [1.0] * 20))
    assert judged(good, ALLOWED) == []
    assert judged(good, {**ALLOWED, "max_p99_factor": 1.5}) == [
        f"its p99 is {good['new_ms']['p99']:.4g} ms, against {good['old_ms']['p99']:.4g} ms"
    ]
    assert judged(compared(([1.0], [2.0]), ([1.0], 500)), ALLOWED) == [
        "1 of 2 requests fail that were answered",
        "1 of 1 predictions differ",
    ]
    assert judged(compared(([1.0], [2.0])), {"max_different": 1.0, "max_errors": 0.0}) == []
    assert judged(compared((400, 400)), ALLOWED) == ["no predictions could be compared"]


@pytest.mark.parametrize(
    ("pairs", "asked", "policy", "passes"),
    [
        ([([1], [1])] * 3, {}, {}, True),
        ([([1], [1])] * 2 + [(400, 400)] * 9, {}, {}, False),  # what fails as before tells nothing
        ([([1], [1])] * 3, {"start_ms": 5}, {}, False),
        ([([1], [1])] * 3, {"served_entity": "a"}, {"filtered": True}, True),
        ([([1], [1])] * 3 + [([1], 500)] + [(400, 400)] * 9, {}, {"max_errors": 0.1}, False),
    ],
)
def test_a_gate_counts_what_tells_something_and_was_not_chosen(
    pairs: list[Any], asked: dict[str, Any], policy: dict[str, Any], passes: bool
) -> None:
    found = TrafficReplay(
        id="1", endpoint="churn", ended_at=utc_now(), report=compared(*pairs), is_filtered=Asked(**asked).is_filtered
    )
    tools = SimpleNamespace(traffic_replays=lambda _version: [found])
    subject = SimpleNamespace(tools=tools, version=1)
    params = {"endpoint": "churn", "requests": 3, **policy}
    TRAFFIC_REPLAY.prepare(params)
    assert TRAFFIC_REPLAY.look(subject, params)[0] is passes  # type: ignore[arg-type]


def test_a_policy_is_told_what_makes_no_sense() -> None:
    TRAFFIC_REPLAY.prepare({"endpoint": "churn", "requests": 100, "max_different": 0.05})
    for wrong in ({}, {"endpoint": "churn", "max_different": 5}, {"endpoint": "churn", "days": 0}):
        with pytest.raises(InvalidArgument):
            TRAFFIC_REPLAY.prepare(wrong)
