"""Answers that come in parts: over HTTP, as the model makes them, for as long as somebody listens."""

import http.client
import json
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.servers import wait_until
from tests.serving.harness import Answer, ServingServer

pytestmark = pytest.mark.parametrize("serving", ["sqlite"], indirect=True)  # nothing here asks the database
DONE = "[DONE]"


@pytest.fixture(scope="module")
def teller(serving: ServingServer) -> ServingServer:
    """A server with the endpoint `teller`."""
    serving.create("teller", "teller")
    return serving


def stream(server: ServingServer, name: str, asked: dict[str, Any], **options: Any) -> Answer:
    """The answer to a request in parts."""
    return server.call("POST", f"/serving-endpoints/{name}/invocations", {**asked, "stream": True}, **options)


def tell(server: ServingServer, do: str, **told: Any) -> Answer:
    """The teller's answer."""
    return stream(server, "teller", {"dataframe_records": [{"do": do, **told}]})


def events(answer: Answer) -> list[Any]:
    """What the events of an answer say; the last one says that there is no other."""
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"].startswith("text/event-stream")
    texts = [text.removeprefix("data: ") for text in answer.body.decode().split("\n\n") if text]
    assert texts[-1] == DONE
    return [json.loads(text) for text in texts[:-1]]


class Listener:
    """A connection on which an answer comes in parts."""

    def __init__(self, server: ServingServer, asked: dict[str, Any], name: str = "teller") -> None:
        body = json.dumps({"dataframe_records": [asked], "stream": True})
        self.connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
        headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}
        self.connection.connect()
        self.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.connection.request("POST", f"/serving-endpoints/{name}/invocations", body, headers)
        self.answer = self.connection.getresponse()

    def next(self) -> Any:
        """The next event."""
        line = self.answer.readline()
        assert self.answer.readline() == b"\n"
        return json.loads(line.removeprefix(b"data: "))

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()


def note(server: ServingServer) -> str:
    """What the teller's endless answer has written down."""
    (text,) = events(tell(server, "note"))
    return str(text)


def test_a_request_whose_text_is_broken_is_refused_again_and_again(teller: ServingServer) -> None:
    """What looks at `stream` alone does not see it; none of the model's threads is lost to it."""
    body = b'{"dataframe_records": [{"do": "\x8f"}], "stream": true}'
    for _ in range(6):
        answer = teller.call("POST", "/serving-endpoints/teller/invocations", body, content_type="application/json")
        assert answer.status == 400, answer.body


def test_parts_come_as_events_and_the_last_one_says_so(teller: ServingServer) -> None:
    answer = tell(teller, "count", count=40)
    assert events(answer) == [{"number": number, "text": "größe\n"} for number in range(40)]
    assert (answer.headers["served-model-name"], answer.headers["served-model-version"]) == ("teller", "1")
    assert events(tell(teller, "count", count=0)) == []


def test_the_model_gets_the_one_input_without_the_wish_for_a_stream(teller: ServingServer) -> None:
    assert events(tell(teller, "input", x=1)) == [{"given": {"do": "input", "x": 1}}]
    assert events(stream(teller, "teller", {"inputs": {"do": "input"}})) == [{"given": {"do": "input"}}]
    assert events(stream(teller, "teller", {"do": "input", "messages": []})) == [
        {"given": {"do": "input", "messages": []}}
    ]
    whole = teller.call("POST", "/serving-endpoints/teller/invocations", {"inputs": {"do": "x"}, "stream": False})
    assert "do" in whole.json["predictions"][0]


def test_each_part_is_sent_when_it_is_made(teller: ServingServer) -> None:
    with Listener(teller, {"do": "slow", "count": 3, "pause_s": 0.5}) as listener:
        assert listener.next() == {"number": 0}
        pool = teller.runtime.find("teller").pools["teller"]
        assert pool.workers[0].busy == 1  # it still makes the others
        assert [listener.next()["number"] for _ in range(2)] == [1, 2]


def test_a_failure_before_the_first_part_is_an_answer_like_any_other(teller: ServingServer) -> None:
    answer = tell(teller, "raise", count=0)
    assert (answer.status, answer.json["error_code"]) == (400, "BAD_REQUEST")
    assert "no luck" in answer.json["message"]
    answer = tell(teller, "large", size=2 << 20)
    assert answer.status == 500
    assert "at most 1048576" in answer.json["message"]
    answer = stream(teller, "teller", {"dataframe_records": [{"do": "count"}, {"do": "count"}]})
    assert answer.status == 500
    assert "single input" in answer.json["message"]


def test_a_failure_in_the_midst_is_an_event(teller: ServingServer) -> None:
    *good, bad = events(tell(teller, "raise", count=20))
    assert [each["number"] for each in good] == list(range(20))
    told = bad["databricks_output"]["error"]
    assert told["error_code"] == "BAD_REQUEST"
    assert "ValueError: no luck" in told["message"]
    assert bad["error"] == {"message": told["message"], "type": "server_error", "code": "BAD_REQUEST"}


def test_a_process_that_ends_in_the_midst_ends_the_answer_with_an_error(teller: ServingServer) -> None:
    *good, bad = events(tell(teller, "exit", count=3))
    assert [each["number"] for each in good] == [0, 1, 2]
    assert "was lost" in bad["error"]["message"]
    teller.ready("teller")


def test_a_part_that_does_not_come_in_time_ends_the_answer(teller: ServingServer) -> None:
    headers = {"X-Request-Timeout-Seconds": "1"}
    asked = {"dataframe_records": [{"do": "slow", "count": 2, "pause_s": 3}]}
    answer = stream(teller, "teller", asked, headers=headers)
    assert (answer.status, answer.json["error_code"]) == (504, "DEADLINE_EXCEEDED")
    asked = {"dataframe_records": [{"do": "slow", "count": 3, "pause_s": 0.7}]}
    assert len(events(stream(teller, "teller", asked, headers=headers))) == 3  # each of them in time


def test_who_does_not_read_holds_the_model_back_and_who_goes_away_ends_it(teller: ServingServer) -> None:
    with Listener(teller, {"do": "endless", "size": 100_000}) as listener:
        listener.next()
        wait_until(lambda: _is_still(teller), timeout_s=30, what="the model waiting")
        assert int(note(teller).split()[1]) < 200  # 20 MB in sockets and queues, of which most is the system's
    wait_until(lambda: note(teller).startswith("closed after"), timeout_s=10, what="the generator being closed")
    pool = teller.runtime.find("teller").pools["teller"]
    wait_until(lambda: pool.workers[0].busy == 0, timeout_s=10, what="the thread being free")


def _is_still(server: ServingServer) -> bool:
    before = note(server)
    return all(note(server) == before for _ in range(5))


def test_a_moved_model_lets_its_answers_end(teller: ServingServer) -> None:
    teller.create("leaving", "teller")
    pid = teller.worker_pid("leaving")
    with Listener(teller, {"do": "slow", "count": 20, "pause_s": 0.2}, "leaving") as listener:
        listener.next()
        entities = [{"entity_name": "obedient", "entity_version": "1"}]
        teller.call("PUT", "/api/2.0/serving-endpoints/leaving/config", {"served_entities": entities})
        teller.settled("leaving")
        assert teller.worker_pid("leaving") != pid
        assert listener.answer.read().decode().rstrip().endswith(DONE)


def test_a_model_without_parts_says_so(teller: ServingServer) -> None:
    teller.create("whole", "scale")
    answer = stream(teller, "whole", {"dataframe_records": [{"x": 1}]})
    assert (answer.status, answer.json["error_code"]) == (400, "BAD_REQUEST")
    assert "predict_stream" in answer.json["message"]


@pytest.mark.long
def test_chats_and_responses_are_asked_as_openai_does(teller: ServingServer) -> None:
    teller.create("chat", "chatter", "responder")
    messages = {"messages": [{"role": "user", "content": "one two three"}]}
    chunks = events(stream(teller, "chat", messages))
    assert [each["choices"][0]["delta"]["content"] for each in chunks] == ["one", "two", "three"]
    assert {each["object"] for each in chunks} == {"chat.completion.chunk"}
    named = {**messages, "model": "chat"}
    narrow = teller.identity.mint(teller.admin, 60, paths=["/serving-endpoints/chat"])
    other = {**messages, "model": "teller"}  # an endpoint's name is the beginning of OpenAI's path
    assert teller.call("POST", "/serving-endpoints/chat/completions", other, token=narrow).status == 403
    whole = teller.call("POST", "/serving-endpoints/chat/completions", named, token=narrow)
    assert whole.json["choices"][0]["message"]["content"] == "one two three"
    assert events(teller.call("POST", "/serving-endpoints/chat/completions", {**named, "stream": True}))[2:] != []
    path = "/serving-endpoints/chat/served-models/responder/invocations"
    asked = {"input": [{"role": "user", "content": "one two"}], "stream": True}
    kinds = [each["type"] for each in events(teller.call("POST", path, asked))]
    assert kinds == ["response.output_text.delta"] * 2 + ["response.output_item.done"]
    assert teller.call("POST", "/serving-endpoints/responses", {"input": []}).status == 400


def test_rights_come_before_what_a_request_says(teller: ServingServer) -> None:
    many = {"model": "teller", "stream": True, **{str(number): 0 for number in range(100_001)}}
    stranger = teller.user("stranger@example.com")
    for path in ("chat/completions", "teller/invocations"):
        assert teller.call("POST", f"/serving-endpoints/{path}", many, token=stranger).status == 404
    answer = teller.call("POST", "/serving-endpoints/chat/completions", many)
    assert (answer.status, answer.json["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def test_limits_count_an_answer_in_parts_as_a_request(teller: ServingServer) -> None:
    limits = {"rate_limits": [{"key": "endpoint", "calls": 1, "renewal_period": "minute"}]}
    teller.create("limited", "teller")
    teller.call("PUT", "/api/2.0/serving-endpoints/limited/rate-limits", limits)
    asked = {"inputs": {"do": "input"}}
    assert events(stream(teller, "limited", asked))
    answer = stream(teller, "limited", asked)
    assert answer.status == 429
    assert int(answer.headers["retry-after"]) > 0


def test_what_was_asked_in_parts_is_counted(teller: ServingServer) -> None:
    text = teller.call("GET", "/api/2.0/serving-endpoints/teller/metrics").body.decode()
    assert 'millpond_serving_first_part_seconds_count{endpoint="teller"' in text
    assert 'status="499"' in text


def test_answers_in_parts_count_for_canaries(teller: ServingServer) -> None:
    teller.create("taken", "teller", "churn")
    path = "/api/millpond/serving-endpoints/taken/canary"
    asked = {"served_entity_name": "churn", "steps": [1, 100], "guardrails": {"max_error_increase": None}}
    assert teller.call("POST", path, asked).status == 200
    teller.settled("taken")

    def counted() -> int:
        stream(teller, "taken", {"dataframe_records": [{"do": "count"}]})
        seen = teller.call("GET", path).json["canary"]["seen"]
        return int(seen["canary"]["requests"] + seen["baseline"]["requests"])

    wait_until(lambda: counted() >= 3, what="three requests being counted")
