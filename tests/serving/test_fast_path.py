"""Plain requests are answered past MLflow's parsing, and nobody can tell: each answer is compared with MLflow's own."""

import base64
import http.client
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.databases import Databases
from tests.serving.harness import ServingServer, serving_server
from tests.serving.test_endpoints import API

REFERENCE = Path(__file__).with_name("mlflow_reference.py")
PATHS = {
    "booster": "answered by LightGBM's booster on a matrix",
    "forest": "answered by scikit-learn's pipeline, column by column",
    "linear": "answered by the sklearn model past MLflow's parsing (a step PolynomialFeatures), which",
    "tensor": "answered by the sklearn model past MLflow's parsing",
    "typed": "read past MLflow's parsing, which gave the model what MLflow gives it",
}
NUMBERS: list[Any] = [
    0,
    -0.0,
    1,
    17.25,
    60,
    3e5,
    -1e300,
    1e-320,
    2**40,
    0.1,
    None,
    2**63,
    1e39,
    True,
    "12",
    "x",
    [1],
    1.5,
]
TEXTS: list[Any] = ["month", "year", "größe", "card", "cash", "", "month\0", "\ud800", None, 3, True]
COLUMNS = {
    "booster": ["tenure", "charges", "total", "senior"],
    "forest": ["tenure", "charges", "total", "senior", "contract", "payment"],
    "linear": ["charges", "total"],
    "typed": ["tenure", "charges", "total", "senior", "contract", "payment"],
}
USUAL: dict[str, Callable[[random.Random], Any]] = {
    "tenure": lambda chance: chance.randrange(70),
    "charges": lambda chance: chance.uniform(10, 100),
    "total": lambda chance: chance.uniform(10, 1000),
    "senior": lambda chance: chance.random() < 0.3,
    "contract": lambda chance: chance.choice(["month", "year", "größe"]),
    "payment": lambda chance: chance.choice(["card", "cash"]),
}
FUZZED = 800
FUZZED_AT_LENGTH = 10_000


class Reference:
    """MLflow's scoring code in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, model: str, body: bytes) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"model": model, "body": base64.b64encode(body).decode()}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


class Client:
    """One connection to our server."""

    def __init__(self, server: ServingServer) -> None:
        self._server = server
        self._connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)

    def ask(self, model: str, body: bytes, content_type: str = "application/json") -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {self._server.token}", "Content-Type": content_type}
        self._connection.request("POST", f"/serving-endpoints/{model}/invocations", body, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def ours(databases: Databases, tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[ServingServer]:
    """A server with the quick models."""
    directory = tmp_path_factory.mktemp("fast-path")
    with databases.new("sqlite", directory) as database, serving_server(database, directory, models) as server:
        for name in PATHS:
            server.create(name, name, wait=False)
        for name in PATHS:
            server.ready(name)
        yield server


@pytest.fixture
def client(ours: ServingServer) -> Iterator[Client]:
    """A connection."""
    made = Client(ours)
    yield made
    made.close()


@pytest.fixture(scope="module")
def mlflow(models: Path) -> Iterator[Reference]:
    """MLflow, to compare with."""
    command = [sys.executable, str(REFERENCE), str(models)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        yield Reference(process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.parametrize("model", PATHS)
def test_the_build_log_tells_the_path(ours: ServingServer, model: str) -> None:
    logs = ours.call("GET", f"{API}/{model}/served-models/{model}/build-logs").json["logs"]
    assert PATHS[model] in logs, logs


@pytest.mark.parametrize("model", COLUMNS)
def test_requests_of_columns_are_answered_as_by_mlflow(client: Client, mlflow: Reference, model: str) -> None:
    chance = random.Random(model)
    for number in range(120):
        body = _request(chance, COLUMNS[model], odd=0.0 if number % 3 else 0.15)
        _compare(client, mlflow, model, body)


def test_requests_of_tensors_are_answered_as_by_mlflow(client: Client, mlflow: Reference) -> None:
    chance = random.Random(5)
    for number in range(60):
        wide = chance.choice([2, 2, 2, 1, 3]) if number % 3 else 2
        rows = [[chance.uniform(0, 90) for _ in range(wide)] for _ in range(chance.randrange(1, 5))]
        if number % 4 == 0:
            rows[0][0] = chance.choice(NUMBERS)
        key = chance.choice(["instances", "inputs", "dataframe_split"])
        given: Any = {"data": rows} if key == "dataframe_split" else rows
        _compare(client, mlflow, "tensor", json.dumps({key: given}).encode())


@pytest.mark.parametrize(
    "text",
    [
        '{"dataframe_records": [{"charges": NaN, "total": 1}]}',
        '{"dataframe_records": [{"charges": Infinity, "total": 1}]}',
        '{"dataframe_records": [{"charges": 1e400, "total": 1}]}',
        '{"dataframe_records": [{"charges": 1, "total": 2, "charges": 3}]}',
        '{"dataframe_records": [{"charges": 1, "total": 2, "more": 3}]}',
        '{"dataframe_records": [{"charges": 1, "total": 2}], "client_request_id": "a"}',
        '{"dataframe_records": [{"charges": 1, "total": 2}], "client_request_id": 7}',
        '{"dataframe_records": [{"charges": 1, "total": 2}], "params": {"x": 1}}',
        '{"dataframe_records": [{"charges": 1, "total": 2}], "inputs": [[1, 2]]}',
        '{"dataframe_records": [{"charges": 1, "total": 2}]} trailing',
        '\ufeff{"dataframe_records": [{"charges": 1, "total": 2}]}',
        '{"dataframe_split": {"columns": ["charges", "charges"], "data": [[1, 2]]}}',
        '{"dataframe_split": {"columns": ["total", "charges"], "index": ["a"], "data": [[1, 2]]}}',
        '{"dataframe_split": {"columns": ["total", "charges"], "index": [5], "data": [[1, 2]]}}',
        '{"inputs": {"charges": [1, 2], "total": [1]}}',
        '{"inputs": {"charges": 1, "total": 2}}',
        '{"dataframe_records": [{"charges": 123456789012345678901234567890, "total": 9007199254740993}]}',
    ],
)  # fmt: skip
def test_oddities_of_json_are_answered_as_by_mlflow(client: Client, mlflow: Reference, text: str) -> None:
    _compare(client, mlflow, "linear", text.encode())


def test_code_of_ones_own_is_called_once_and_says_what_it_says_behind_mlflow(
    ours: ServingServer, client: Client, mlflow: Reference
) -> None:
    row = {name: USUAL[name](random.Random(2)) for name in COLUMNS["typed"]} | {"contract": "boom"}
    logs = f"{API}/typed/served-models/typed/logs"
    before = ours.call("GET", logs).json["logs"].count("called with 1 rows")
    _compare(client, mlflow, "typed", json.dumps({"dataframe_records": [row]}).encode())
    assert ours.call("GET", logs).json["logs"].count("called with 1 rows") == before + 1


def test_requests_that_come_together_get_each_its_own_answer(ours: ServingServer) -> None:
    """Also beside requests that MLflow has to refuse, and beside large ones."""
    chance = random.Random(9)
    bodies = [
        _request(chance, COLUMNS[model], odd=0.1 * (at % 3)) for at in range(90) for model in ("booster", "forest")
    ]
    large = {"dataframe_split": {"columns": ["charges", "total"], "data": [[1.5, 2.5]] * 6000}}
    asked = [("booster", "forest")[at % 2] for at in range(len(bodies))] + ["linear"] * 4
    bodies += [json.dumps(large).encode()] * 4

    def ask(number: int) -> tuple[int, bytes]:
        client = Client(ours)
        try:
            return client.ask(asked[number], bodies[number])
        finally:
            client.close()

    alone = [ask(number) for number in range(len(bodies))]
    assert {status for status, _ in alone} == {200, 400}
    order = chance.sample(range(len(bodies)), len(bodies))
    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(ask, order)) == [alone[number] for number in order]


@pytest.mark.parametrize("count", [FUZZED, pytest.param(FUZZED_AT_LENGTH, marks=pytest.mark.long)])
def test_malformed_requests_are_refused_and_cost_no_worker(ours: ServingServer, client: Client, count: int) -> None:
    chance = random.Random(11)
    workers = [ours.worker_pid(name) for name in COLUMNS]
    for number in range(count):
        model = chance.choice(list(COLUMNS))
        body, content_type = _malformed(chance, COLUMNS[model])
        status, said = client.ask(model, body, content_type)
        assert 400 <= status < 500, (number, status, said, body[:300])
        assert json.loads(said)["error_code"]
    assert [ours.worker_pid(name) for name in COLUMNS] == workers


def test_whoever_may_not_ask_is_not_answered_quickly_either(ours: ServingServer) -> None:
    token = ours.user("stranger@example.com")
    body = _request(random.Random(1), COLUMNS["booster"], odd=0.0)
    answer = ours.call("POST", "/serving-endpoints/booster/invocations", body, token=token)
    assert (answer.status, answer.json["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def _compare(client: Client, mlflow: Reference, model: str, body: bytes) -> None:
    expected = mlflow.ask(model, body)
    status, said = client.ask(model, body)
    assert status == expected["status"], (body, said, expected)
    if status == 200:
        assert said == base64.b64decode(expected["body"]), body
    else:
        assert json.loads(said)["error_code"] == expected["error_code"], (body, said)


def _request(chance: random.Random, names: Sequence[str], *, odd: float) -> bytes:
    """A request in any form; of its values this share is odd."""
    rows = [[_value(chance, name, odd) for name in names] for _ in range(chance.randrange(1, 6))]
    records = [dict(zip(names, row, strict=True)) for row in rows]
    order = chance.sample(range(len(names)), len(names))
    split = {"columns": [names[at] for at in order], "data": [[row[at] for at in order] for row in rows]}
    return json.dumps(
        chance.choice([
            {"dataframe_split": split},
            {"dataframe_split": split | {"index": list(range(len(rows)))}},
            {"dataframe_records": records},
            {"instances": records},
            {"inputs": records},
            {"inputs": {name: [row[at] for row in rows] for at, name in enumerate(names)}},
        ])
    ).encode()  # fmt: skip


def _value(chance: random.Random, name: str, odd: float) -> Any:
    if chance.random() >= odd:
        return USUAL[name](chance)
    return chance.choice(TEXTS if name in {"contract", "payment"} else NUMBERS)


def _malformed(chance: random.Random, names: Sequence[str]) -> tuple[bytes, str]:
    """What no model can answer, and its content type."""
    good = _request(chance, names, odd=0.0)
    record = {name: USUAL[name](chance) for name in names}
    lacking = {name: value for name, value in record.items() if name != chance.choice(names)}
    wrong = record | {"charges": chance.choice(["x", [1], {}, "1e", [[]]])}
    forms = ["dataframe_records", "dataframe_split", "inputs", "instances"]
    bad: list[bytes] = [
        good[: chance.randrange(len(good))],
        good.replace(b":", b";", chance.randrange(1, 4)),
        chance.randbytes(chance.randrange(200)) + b"\xff",
        b"[" * chance.randrange(1, 5000),
        b'{"dataframe_records": ' + b"[" * 3000 + b"]" * 3000 + b"}",
        json.dumps({"dataframe_records": [wrong]}).encode(),
        json.dumps({"dataframe_records": [lacking if len(lacking) < len(record) else wrong]}).encode(),
        json.dumps({"dataframe_split": {"columns": names, "data": [[1] * (len(names) + 1)]}}).encode(),
        json.dumps({chance.choice(forms): chance.choice([None, 7, "x", True, [7, "x"], {"a": {}}])}).encode(),
        json.dumps({"dataframe_records": [record], "inputs": [record]}).encode(),
        json.dumps([record]).encode(),
        json.dumps({chance.choice(["rows", "data", ""]): [record]}).encode(),
    ]
    if chance.random() < 0.05:
        return good, chance.choice(["application/xml", "text/plain", "application/json; charset=latin-1", "x"])
    return chance.choice(bad), "application/json"
