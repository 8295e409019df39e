"""A model answers here exactly as behind MLflow's own scoring server, which runs beside ours in these tests."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.databases import Databases
from tests.servers import wait_until
from tests.serving.harness import Answer, ServingServer, serving_server

COLUMNS = ["tenure", "monthly_charges", "contract"]
ROWS = [[1, 90.0, "month"], [60, 20.0, "year"]]
RECORDS = [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]
BY_COLUMN = {name: [row[at] for row in ROWS] for at, name in enumerate(COLUMNS)}

CHURN_REQUESTS: list[Any] = [
    {"dataframe_records": RECORDS},
    {"dataframe_split": {"columns": COLUMNS, "data": ROWS}},
    {"dataframe_split": {"columns": COLUMNS, "data": ROWS, "index": [7, 9]}},
    {"dataframe_split": {"columns": COLUMNS[::-1], "data": [row[::-1] for row in ROWS]}},
    {"instances": RECORDS},
    {"inputs": BY_COLUMN},
    {"inputs": RECORDS},
    {"dataframe_records": [RECORDS[0] | {"more": 1}]},
    {"dataframe_records": [RECORDS[0] | {"tenure": 1.0}]},
    {"dataframe_records": [RECORDS[0] | {"monthly_charges": 90}]},
    {"dataframe_records": [RECORDS[0] | {"monthly_charges": "90.5"}]},
    {"dataframe_records": [RECORDS[0] | {"monthly_charges": None}]},
    {"dataframe_records": [RECORDS[0] | {"tenure": 1.5}]},
    {"dataframe_records": [RECORDS[0] | {"tenure": "a"}]},
    {"dataframe_records": [RECORDS[0] | {"tenure": None}]},
    {"dataframe_records": [RECORDS[0] | {"contract": "decade"}]},
    {"dataframe_records": [{"tenure": 1, "contract": "month"}]},
    {"dataframe_records": []},
    {"dataframe_records": {}},
    {"dataframe_records": [1, 2]},
    {"dataframe_split": []},
    {"dataframe_split": {"columns": COLUMNS}},
    {"dataframe_split": {"columns": COLUMNS, "data": [[1]]}},
    {"dataframe_split": {"columns": COLUMNS, "data": ROWS, "extra": 1}},
    {"instances": [1, 2]},
    {"inputs": {"tenure": [1]}},
    {"dataframe_records": RECORDS, "instances": RECORDS},
    {"dataframe_records": RECORDS, "params": {"x": 1}},
    {"dataframe_records": RECORDS, "client_request_id": "7"},
    {"columns": COLUMNS, "data": ROWS},
    {},
    [],
    [RECORDS],
    "text",
    7,
    None,
    b"",
    b"{",
    b"\xff\xfe",
    b'{"dataframe_records": [{"tenure": NaN, "monthly_charges": 1.0, "contract": "month"}]}',
]
WAYS_TO_RETURN = [
    "frame", "series", "unnamed_series", "list", "dict", "array", "odd_numbers", "exponents", "single_precision",
    "floats", "plain_floats", "truths", "times", "times_frame", "bytes", "objects", "scalar", "unicode", "echo",
    "raise",
]  # fmt: skip
SCALED_REQUESTS: list[Any] = [
    {"dataframe_records": [{"x": 2.0}]},
    {"dataframe_records": [{"x": 2.0}], "params": {"factor": 3.0}},
    {"dataframe_records": [{"x": 2.0}], "params": {"factor": "three"}},
    {"dataframe_records": [{"x": 2.0}], "params": {"unknown": 1}},
    {"inputs": {"x": [1.0, 2.0]}, "params": {"factor": 2}},
]


@pytest.fixture(scope="module")
def ours(databases: Databases, tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[ServingServer]:
    """Our server with the three models."""
    directory = tmp_path_factory.mktemp("contract")
    with databases.new("sqlite", directory) as database, serving_server(database, directory, models) as server:
        for name in ("churn", "obedient", "scaled"):
            server.create(name, name, wait=False)
        for name in ("churn", "obedient", "scaled"):
            server.ready(name)
        yield server


@contextmanager
def scoring_server(model: Path) -> Iterator[str]:
    """MLflow's scoring server for a model; gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "mlflow.pyfunc.scoring_server.app:app", "--port", str(port)]
    env = {**os.environ, "__pyfunc_model_path__": str(model), "MLFLOW_DISABLE_TELEMETRY": "true"}
    with subprocess.Popen(command, env=env, cwd=model.parent, stderr=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: post(f"{url}/ping", None) is not None, timeout_s=90, what="MLflow's scoring server")
            yield url
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def theirs(models: Path) -> Iterator[dict[str, str]]:
    """MLflow's scoring servers, by model."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(scoring_server(models / name)) for name in ("churn", "obedient", "scaled")}


def post(url: str, body: bytes | None, content_type: str = "application/json") -> Answer | None:
    """An HTTP answer; None when nobody listens."""
    request = urllib.request.Request(url, data=body, headers={"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return Answer(status=answer.status, headers=dict(answer.headers), body=answer.read())
    except urllib.error.HTTPError as error:
        return Answer(status=error.code, headers=dict(error.headers), body=error.read())
    except urllib.error.URLError:
        time.sleep(0.1)
        return None


def compare(ours: ServingServer, theirs: dict[str, str], model: str, body: Any, content_type: str) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    expected = post(f"{theirs[model]}/invocations", raw, content_type)
    found = ours.call("POST", f"/serving-endpoints/{model}/invocations", raw, content_type=content_type)
    assert expected is not None
    if expected.status == 200:
        assert (found.status, found.body) == (200, expected.body)
    elif expected.headers.get("content-type", "").startswith("application/json"):
        assert (found.status, found.json["error_code"]) == (expected.status, expected.json["error_code"]), found.body
    else:
        assert 400 <= found.status < 500, (expected, found)


@pytest.mark.parametrize("body", CHURN_REQUESTS, ids=lambda body: str(body)[:60])
def test_a_signature_is_enforced_as_mlflow_does(ours: ServingServer, theirs: dict[str, str], body: Any) -> None:
    compare(ours, theirs, "churn", body, "application/json")


@pytest.mark.parametrize("way", WAYS_TO_RETURN)
def test_what_a_model_returns_is_written_as_mlflow_does(ours: ServingServer, theirs: dict[str, str], way: str) -> None:
    compare(ours, theirs, "obedient", {"dataframe_records": [{"do": way}]}, "application/json")


@pytest.mark.parametrize("body", SCALED_REQUESTS, ids=str)
def test_params_are_passed_as_mlflow_does(ours: ServingServer, theirs: dict[str, str], body: Any) -> None:
    compare(ours, theirs, "scaled", body, "application/json")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"tenure,monthly_charges,contract\n1,90.0,month\n60,20.0,year\n", "text/csv"),
        (b"tenure,monthly_charges,contract\n1,90.0,month\n", "text/csv; charset=utf-8"),
        (b"tenure,contract\n1,month\n", "text/csv"),
        (b"tenure,monthly_charges,contract\nx,90.0,month\n", "text/csv"),
        (b"\xff\xfe\x00", "text/csv"),
        (b"not parquet", "application/vnd.apache.parquet"),
        (json.dumps({"dataframe_records": RECORDS}).encode(), "application/json; charset=utf-8"),
        (json.dumps({"dataframe_records": RECORDS}).encode(), "application/json; charset=latin-1"),
        (b"<xml/>", "application/xml"),
    ],
)
def test_other_formats_are_read_as_mlflow_does(
    ours: ServingServer, theirs: dict[str, str], body: bytes, content_type: str
) -> None:
    compare(ours, theirs, "churn", body, content_type)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"tenure": 1, "contract": "month"}, "Model is missing inputs ['monthly_charges']"),
        (RECORDS[0] | {"monthly_charges": "much"}, "monthly_charges"),
        (RECORDS[0] | {"tenure": "long"}, "tenure"),
    ],
)
def test_bad_input_names_its_column(ours: ServingServer, row: dict[str, Any], said: str) -> None:
    answer = ours.call("POST", "/serving-endpoints/churn/invocations", {"dataframe_records": [row]})
    assert answer.status == 400
    assert said in answer.json["message"]


def test_a_request_that_is_too_large_is_refused(ours: ServingServer) -> None:
    answer = ours.call("POST", "/serving-endpoints/churn/invocations", b"x" * ((16 << 20) + 1))
    assert (answer.status, answer.json["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert "16777216 bytes" in answer.json["message"]
