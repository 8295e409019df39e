"""A call of `ai_query` in the engine, before an API that answers as it is told to."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pyarrow as pa
import pytest

from millpond.engine.model_questions import ModelQuestion

HANGS = 13.0
"""A row to which nothing is answered in time."""


class Api(ThreadingHTTPServer):
    """Answers 200 with the rows doubled, after `first`; remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.first: list[int] = []
        """Statuses of the first answers; 0 ends the connection without one."""
        self.always = 200
        self.ids: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        api: Any = self.server
        rows = json.loads(self.rfile.read(int(self.headers["content-length"])))["dataframe_split"]["data"]
        api.ids.append(self.headers["x-client-request-id"])
        status = api.first.pop(0) if api.first else api.always
        if status == 200 and any(value < 0 for (value,) in rows):
            status = 400
        if status == 200 and [HANGS] in rows:
            status = 504
        if status == 0:
            self.close_connection = True
            return
        told = {"predictions": [2 * value for (value,) in rows]} if status == 200 else {"message": f"no: {status}"}
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header("retry-after", "0")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    with Api() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("DATABRICKS_HOST", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("DATABRICKS_TOKEN", "t")
        yield server
        server.shutdown()
        thread.join()


def question(*, fails: bool = False) -> ModelQuestion:
    return ModelQuestion(
        name="e", path="/serving-endpoints/e/invocations", inputs=("x",), returns='"double"', fails=fails,
        params=None, plain=True,
    )  # fmt: skip


def test_an_answer_that_was_lost_is_asked_for_again_under_the_same_id(api: Api) -> None:
    api.first = [0, 503, 429]
    ask = question(fails=True)
    assert ask(pa.array([1.0, 2.0])).to_pylist() == [2.0, 4.0]
    assert (len(api.ids), len(set(api.ids))) == (4, 1)
    ask(pa.array([3.0]))
    assert len(set(api.ids)) == 2


def test_bad_rows_are_told_apart(api: Api) -> None:
    found = question()(pa.array([1.0, -1.0, 3.0, 4.0])).to_pylist()
    assert [each["result"] for each in found] == [2.0, None, 6.0, 8.0]
    assert [each["errorMessage"] for each in found] == [None, "no: 400", None, None]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_who_may_not_ask_is_told_once(api: Api, status: int) -> None:
    api.always = status
    with pytest.raises(RuntimeError, match=f"answered {status}"):
        question()(pa.array([float(n) for n in range(1000)]))
    assert len(api.ids) == 1


def test_a_model_without_a_place_is_one_error_for_all_rows(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millpond.engine.model_questions._PATIENCE_S", 0.0)
    api.always = 429
    found = question()(pa.array([1.0, 2.0, 3.0])).to_pylist()
    assert {each["errorMessage"] for each in found} == {"no: 429"}
    assert len(api.ids) <= 2


def test_a_row_that_hangs_is_found_in_a_few_requests(api: Api) -> None:
    rows = [HANGS, *(float(n) for n in range(20, 4000)), HANGS, 1.0]
    found = question()(pa.array(rows)).to_pylist()
    assert [each["result"] for each in found] == [None if row == HANGS else 2 * row for row in rows]
    assert {each["errorMessage"] for each in found} == {None, "no: 504"}
    assert len(api.ids) < 80


@pytest.mark.parametrize(("fails", "requests", "message"), [(True, 5, "answered 504"), (False, 8, "none of 8")])
def test_a_model_that_hangs_ends_the_statement(api: Api, fails: bool, requests: int, message: str) -> None:
    """Also where errors of rows would not."""
    api.always = 504
    with pytest.raises(RuntimeError, match=message):
        question(fails=fails)(pa.array([float(n) for n in range(9000)]))
    assert len(api.ids) == requests
