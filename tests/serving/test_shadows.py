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
from tests.serving.test_streams import Listener

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


def stream(serving: ServingServer, name: str, **asked: Any) -> bytes:
    body = {"dataframe_records": [asked], "stream": True}
    answer = serving.call("POST", f"/serving-endpoints/{name}/invocations", body)
    assert answer.status == 200, answer.body
    return answer.body


def counted(serving: ServingServer, name: str) -> tuple[int, int, int]:
    """Copies whose answers were the same, different, and none."""
    told = report(serving, name)
    return told["same"], told["different"], told["failed"]


def test_answers_in_parts_are_compared_as_a_whole(serving: ServingServer) -> None:
    serving.source.versions["teller", "2"] = "teller"
    entities = [{"entity_name": "teller", "entity_version": str(n), "name": f"v{n}"} for n in (1, 2)]
    routes = [{"served_entity_name": f"v{n}", "traffic_percentage": 100 * (2 - n)} for n in (1, 2)]
    config = {"served_entities": entities, "traffic_config": {"routes": routes}}
    assert serving.call("POST", API, {"name": "parts", "config": config}).status == 200
    serving.settled("parts")
    shadow(serving, "parts", served_entity_name="v2")
    stream(serving, "parts", do="count", count=40)
    wait_until(lambda: counted(serving, "parts") == (1, 0, 0), what="the same parts")
    first, other = (serving.runtime.find("parts").pools[f"v{n}"].workers[0].pid for n in (1, 2))
    assert str(first).encode() in stream(serving, "parts", do="pid")
    wait_until(lambda: counted(serving, "parts") == (1, 1, 0), what="parts with another number")
    assert report(serving, "parts")["largest_difference"] == abs(first - other)
    stream(serving, "parts", do="pid", count=12)
    wait_until(lambda: counted(serving, "parts") == (1, 2, 0), what="long answers that end otherwise")
    stream(serving, "parts", do="raise", count=3)
    wait_until(lambda: counted(serving, "parts") == (2, 2, 0), what="the same failure after the same parts")
    with Listener(serving, {"do": "slow", "count": 100, "pause_s": 0.1}, "parts") as listener:
        listener.next()
    wait_until(lambda: not serving.runtime.find("parts").pools["v1"].is_asked, what="whoever asked being gone")
    stream(serving, "parts", do="count", count=0)
    wait_until(lambda: counted(serving, "parts") == (3, 2, 0), what="the next copy, and none of what was left")


def test_a_shadow_that_has_no_parts_fails(serving: ServingServer) -> None:
    serving.create("unlike", "teller", "scale")
    shadow(serving, "unlike", served_entity_name="scale")
    stream(serving, "unlike", do="count", count=1)
    wait_until(lambda: counted(serving, "unlike") == (0, 0, 1), what="the refusal being counted")


def test_a_shadow_has_to_be_served(serving: ServingServer) -> None:
    for body, said in (
        ({"served_entity_name": "other"}, "No served entity is named 'other'"),
        ({"served_entity_name": "churn", "percentage": 0}, "1 to 100 %"),
    ):
        refused = serving.call("PUT", f"{OURS}/watched/shadows", {"shadows": [body]})
        assert (refused.status, refused.json["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
        assert said in refused.json["message"]
