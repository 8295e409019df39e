"""Served entities that get copies of requests, and whose answers nobody gets."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from millpond.serving.shadowing import MAX_COPIES, compared
from millpond.serving.worker_process import Answer
from tests.databases import Databases
from tests.servers import wait_until
from tests.serving.harness import ServingServer, serving_server
from tests.serving.test_endpoints import API, config_of, predict

OURS = "/api/millpond/serving-endpoints"


def answer(value: Any) -> Answer:
    return Answer(status=200, content_type="application/json", body=json.dumps(value).encode())


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        ([1, 2.5], [1.0, 2.5 + 1e-12], 0.0),
        ({"a": [1], "b": 4}, {"b": 2, "a": [1]}, 2.0),
        ([1, 2], [1], None),
        (["x"], ["y"], None),
        ([None, True], [None, True], 0.0),
        ([True], [1], None),
        ([{"p": 0.25}], [{"p": 0.75}], 0.5),
        ({"a": 1}, {"b": 1}, None),
    ],
)
def test_answers_are_compared_place_by_place(one: Any, other: Any, difference: float | None) -> None:
    assert compared(answer(one), answer(other)) == difference


def test_what_is_no_json_is_compared_by_its_bytes() -> None:
    broken = [Answer(status=200, content_type="text/plain", body=body) for body in (b"a", b"a", b"b")]
    assert compared(broken[0], broken[1]) == 0.0
    assert compared(broken[0], broken[2]) is None


@pytest.fixture(scope="module")
def serving(databases: Databases, tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[ServingServer]:
    directory = tmp_path_factory.mktemp("shadows")
    with databases.new("sqlite", directory) as database, serving_server(database, directory, models) as server:
        server.create("watched", "churn", "churn_swapped")
        yield server


def shadow(serving: ServingServer, name: str, **body: Any) -> None:
    put = serving.call("PUT", f"{OURS}/{name}/shadows", {"shadows": [body] if body else []})
    assert put.status == 200, put.body


def report(serving: ServingServer, name: str) -> dict[str, Any]:
    (told,) = serving.call("GET", f"{OURS}/{name}/shadows").json["shadows"]
    return told


def test_a_shadow_is_asked_too_and_its_answers_are_only_counted(serving: ServingServer) -> None:
    shadow(serving, "watched", served_entity_name="churn_swapped")
    assert [predict(serving, "watched").json for _ in range(5)] == [{"predictions": [1]}] * 5
    wait_until(lambda: report(serving, "watched")["different"] == 5, what="five copies being compared")
    assert report(serving, "watched") == {
        "served_entity_name": "churn_swapped", "percentage": 100, "same": 0, "different": 5, "failed": 0,
        "dropped": 0, "largest_difference": 1.0,
    }  # fmt: skip
    metrics = serving.call("GET", f"{API}/watched/metrics").body.decode()
    assert 'outcome="different",served_model="churn_swapped"' in metrics or (
        'served_model="churn_swapped",outcome="different"' in metrics
    )
    shadow(serving, "watched")
    assert serving.call("GET", f"{OURS}/watched/shadows").json == {"shadows": []}


def test_a_shadow_that_fails_or_hangs_keeps_no_answer_waiting(serving: ServingServer) -> None:
    serving.create("calm", "obedient", "churn")
    shadow(serving, "calm", served_entity_name="churn")
    assert serving.ask("calm", "scalar").status == 200
    wait_until(lambda: report(serving, "calm")["failed"] == 1, what="the shadow's refusal being counted")
    routes = config_of("obedient", "churn", shares=(0, 100))["traffic_config"]
    assert serving.call("PUT", f"{API}/calm/config", {"traffic_config": routes}).status == 200
    serving.settled("calm")
    shadow(serving, "calm", served_entity_name="obedient")
    row = {"tenure": 1, "monthly_charges": 90.0, "contract": "month", "do": "hang:20"}
    with ThreadPoolExecutor(8) as pool:
        ask = lambda _: serving.call("POST", "/serving-endpoints/calm/invocations", {"dataframe_records": [row]})  # noqa: E731
        answers = list(pool.map(ask, range(MAX_COPIES + 8)))
    assert {each.status for each in answers} == {200}
    assert report(serving, "calm")["dropped"] >= 8


def test_a_shadow_has_to_be_served(serving: ServingServer) -> None:
    for body, said in (
        ({"served_entity_name": "other"}, "No served entity is named 'other'"),
        ({"served_entity_name": "churn", "percentage": 0}, "1 to 100 %"),
    ):
        refused = serving.call("PUT", f"{OURS}/watched/shadows", {"shadows": [body]})
        assert (refused.status, refused.json["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
        assert said in refused.json["message"]
