"""Arrow's stream format brings rows and takes predictions, and says no to what is none."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.databases import Databases
from tests.serving.harness import Answer, ServingServer, serving_server

ARROW = "application/vnd.apache.arrow.stream"
ROWS = {"tenure": [1, 60], "monthly_charges": [90.0, 20.0], "contract": ["month", "year"]}


@pytest.fixture(scope="module")
def ours(databases: Databases, tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[ServingServer]:
    """A server with a model of each kind of answer."""
    directory = tmp_path_factory.mktemp("arrow")
    with databases.new("sqlite", directory) as database, serving_server(database, directory, models) as server:
        for name in ("churn", "obedient"):
            server.create(name, name, wait=False)
        for name in ("churn", "obedient"):
            server.ready(name)
        yield server


def stream(table: dict[str, Any]) -> bytes:
    sink = pa.BufferOutputStream()
    made = pa.table(table)
    with pa.ipc.new_stream(sink, made.schema) as writer:
        writer.write_table(made)
    return sink.getvalue().to_pybytes()


def ask(server: ServingServer, model: str, body: bytes, *, accept: str, content_type: str = ARROW) -> Answer:
    request = urllib.request.Request(
        f"{server.url}/serving-endpoints/{model}/invocations",
        data=body,
        headers={"Authorization": f"Bearer {server.token}", "Content-Type": content_type, "Accept": accept},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return Answer(status=answer.status, headers=dict(answer.headers), body=answer.read())
    except urllib.error.HTTPError as error:
        return Answer(status=error.code, headers=dict(error.headers), body=error.read())


def table_of(answer: Answer) -> dict[str, list[Any]]:
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == ARROW
    return pa.ipc.open_stream(answer.body).read_all().to_pydict()


def test_rows_in_arrow_are_answered_like_rows_in_json(ours: ServingServer) -> None:
    answer = ask(ours, "churn", stream(ROWS), accept="*/*")
    assert (answer.status, answer.json) == (200, {"predictions": [1, 0]})


@pytest.mark.parametrize("accept", [ARROW, f"{ARROW}, application/json;q=0.5"])
def test_who_accepts_arrow_gets_it(ours: ServingServer, accept: str) -> None:
    assert table_of(ask(ours, "churn", stream(ROWS), accept=accept)) == {"predictions": [1, 0]}
    json = b'{"dataframe_records": [{"tenure": 1, "monthly_charges": 90, "contract": "month"}]}'
    assert table_of(ask(ours, "churn", json, accept=accept, content_type="application/json")) == {"predictions": [1]}


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("frame", {"a": [1, 2], "b": [0.5, None], "c": ["x", None]}),
        ("series", {"predictions": [1.5, None]}),
        ("array", {"0": [1, 3], "1": [2, 4]}),
        ("unicode", {"predictions": ["größe", "雪", "\u2028"]}),
    ],
)
def test_what_a_model_returns_becomes_columns(ours: ServingServer, way: str, expected: dict[str, list[Any]]) -> None:
    assert table_of(ask(ours, "obedient", stream({"do": [way]}), accept=ARROW)) == expected


@pytest.mark.parametrize("way", ["list", "scalar", "dict", "set"])
def test_what_is_no_table_is_refused_by_its_type(ours: ServingServer, way: str) -> None:
    answer = ask(ours, "obedient", stream({"do": [way]}), accept=ARROW)
    assert (answer.status, answer.json["error_code"]) == (400, "BAD_REQUEST")
    assert "cannot be written as Arrow" in answer.json["message"]


def test_the_signature_is_enforced(ours: ServingServer) -> None:
    answer = ask(ours, "churn", stream({"tenure": [1], "contract": ["month"]}), accept=ARROW)
    assert (answer.status, answer.json["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert "Model is missing inputs ['monthly_charges']" in answer.json["message"]


def test_what_is_no_stream_costs_no_worker(ours: ServingServer) -> None:
    pid = ours.worker_pid("churn")
    good = stream(ROWS)
    for at in range(0, len(good), 7):
        broken = bytearray(good)
        broken[at] ^= 0xFF
        assert ask(ours, "churn", bytes(broken), accept="*/*").status in {200, 400}
        assert ask(ours, "churn", good[:at], accept="*/*").status in {200, 400}
    assert ours.worker_pid("churn") == pid


def test_an_error_is_json_whatever_is_accepted(ours: ServingServer) -> None:
    answer = ask(ours, "obedient", stream({"do": ["raise"]}), accept=ARROW)
    assert (answer.status, answer.headers["content-type"]) == (400, "application/json")
    assert "ValueError: no luck" in answer.json["message"]
