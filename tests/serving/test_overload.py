"""Which queues are a burst, and which of them stay; and what a fuzzer's requests do to a model's process."""

import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from millpond.serving.overload import Overload
from tests.serving.harness import Answer, ServingServer

GAP_S, MODEL_S = 0.0125, 0.05


def overloaded(overload: Overload, *, waiting: int, from_s: float = 0.0, for_s: float, grows: bool = True) -> float:
    """Answers come at their pace while so many requests wait, at last or all the time; when it is then."""
    now = from_s
    while now < from_s + for_s:
        overload.queued(1 + int(waiting * now) if grows else waiting, now)
        overload.answered(MODEL_S, now)
        now += GAP_S
    return now


def test_a_burst_may_wait_and_a_queue_that_grows_is_kept_short() -> None:
    overload = Overload(1.5)
    now = overloaded(overload, waiting=100, for_s=0.9)
    assert overload.refuses(100, now) is None
    now = overloaded(overload, waiting=100, from_s=now, for_s=0.3)
    assert overload.refuses(100, now) == pytest.approx(100 * GAP_S)
    assert overload.refuses(10, now) is None, "no longer than 1.5 times what the model needs, before it is its turn"
    assert overload.refuses(11, now) is not None


def test_it_stays_short_until_few_are_refused_for_a_while() -> None:
    overload = Overload(1.5)
    now = overloaded(overload, waiting=100, for_s=1.2)
    for _ in range(60):  # as many are refused as are answered
        assert overload.refuses(100, now) is not None
        overload.answered(MODEL_S, now)
        now += GAP_S
    overload.queued(0, now)
    assert overload.refuses(11, now + 4.0) is not None, "empty for a moment, as a short queue is now and then"
    assert overload.refuses(11, now + 10.0) is None


def test_a_few_that_are_refused_do_not_keep_it_short() -> None:
    overload = Overload(1.5)
    now = overloaded(overload, waiting=100, for_s=1.2)
    for number in range(600):
        overload.refuses(100 if number < 60 or not number % 40 else 3, now)
        overload.answered(MODEL_S, now)
        now += GAP_S
    assert overload.refuses(100, now) is None, "one in forty for six seconds"


def test_clients_who_wait_for_their_answers_may_be_many() -> None:
    overload = Overload(1.5)
    assert overload.refuses(100, overloaded(overload, waiting=100, for_s=10, grows=False)) is None


def test_the_queue_of_a_quick_model_is_not_kept_shorter_than_can_be_told() -> None:
    overload = Overload(1.5)
    for number in range(4000):
        overload.queued(1 + number // 50, number * 0.0005)
        overload.answered(0.0005, number * 0.0005)
    assert overload.refuses(7, 2.0) is None
    assert overload.refuses(8, 2.0) is not None


def test_without_patience_set_all_wait() -> None:
    overload = Overload(0)
    assert overload.refuses(200, overloaded(overload, waiting=200, for_s=3)) is None


@pytest.mark.long
@pytest.mark.parametrize("serving", ["sqlite"], indirect=True)
def test_more_than_can_be_answered_are_told_to_come_back(serving: ServingServer) -> None:
    serving.create("busy", "obedient")
    pause = threading.Event()

    def ask(number: int) -> Answer:
        pause.wait(number / 60)  # each client asks once, whatever becomes of the others: 60 in a second of 20 to be had
        return serving.ask("busy", "hang:0.2")

    with ThreadPoolExecutor(200) as clients:
        answers = list(clients.map(ask, range(200)))
    assert {answer.status for answer in answers} == {200, 429}
    refused = [answer for answer in answers if answer.status == 429]
    assert {answer.json["error_code"] for answer in refused} == {"RESOURCE_EXHAUSTED"}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert serving.ask("busy", "list").status == 200


# Malformed requests

SEEDS: tuple[Any, ...] = (
    {"dataframe_records": [{"do": "list"}]},
    {"dataframe_split": {"columns": ["do"], "data": [["list"]]}},
    {"instances": [{"do": "list"}]},
    {"inputs": {"do": ["list"]}},
    {"dataframe_records": [{"do": "list"}], "stream": True},
)
TYPES = (
    "application/json", "application/json; charset=utf-16", "text/csv", "application/vnd.apache.parquet",
    "application/vnd.apache.arrow.stream", "image/png", "", "application/json; charset=\"",
)  # fmt: skip
ODD: tuple[Any, ...] = (
    None, True, -1, 1e308, 10**400, "", "\ud800", "\0", [], {}, [[]], [None], {"": None}, [[[[]]]], "x" * 5000,
    {"do": {"do": []}}, float("nan"), {"columns": [], "data": [[1]]}, {"columns": ["a", "a"], "data": [[1, 2]]},
)  # fmt: skip


def malformed(chance: random.Random) -> tuple[str, bytes]:
    """A content type, and a body that is no request: cut, bent, of odd values, deep, or of another kind."""
    text = json.dumps(chance.choice(SEEDS)).encode()
    way = chance.randrange(6)
    if way == 0:
        return "application/json", text[: chance.randrange(len(text))]
    if way == 1:
        bent = bytearray(text)
        for _ in range(chance.randint(1, 5)):
            bent[chance.randrange(len(bent))] = chance.randrange(256)
        return chance.choice(TYPES), bytes(bent)
    if way == 2:
        shape = chance.choice(["dataframe_records", "dataframe_split", "instances", "inputs", "messages", "stream"])
        return "application/json", json.dumps({shape: chance.choice(ODD), "params": chance.choice(ODD)}).encode()
    if way == 3:
        depth = chance.choice([10, 900, 5000, 100_000])
        return "application/json", b'{"inputs":' * (chance.random() < 0.5) + b"[" * depth + b"]" * (depth // 2)
    if way == 4:
        return chance.choice(TYPES[2:5]), chance.randbytes(chance.randint(0, 400))
    return chance.choice(TYPES[5:]), text


def fuzz(serving: ServingServer, name: str, count: int, seed: int) -> None:
    """Send so many of them; each is refused as what it is, and no process is lost."""
    pid = serving.worker_pid(name)
    chance = random.Random(seed)
    asked = [malformed(chance) for _ in range(count)]
    path = f"/serving-endpoints/{name}/invocations"

    def status(each: tuple[str, bytes]) -> int:
        return serving.call("POST", path, each[1], content_type=each[0]).status

    with ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(status, asked))
    assert sum(400 <= told < 500 for told in answers) > 0.8 * count, "a few are bent in a way that leaves them good"
    odd = [(told, each) for told, each in zip(answers, asked, strict=True) if told >= 500]
    assert not odd, odd[:5]
    assert serving.worker_pid(name) == pid
    assert serving.ask(name, "list").status == 200


@pytest.mark.parametrize("serving", ["sqlite"], indirect=True)
def test_malformed_requests_are_refused_and_lose_no_process(serving: ServingServer) -> None:
    serving.create("fuzzed", "obedient")
    fuzz(serving, "fuzzed", 300, seed=1)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("serving", ["sqlite"], indirect=True)
def test_ten_thousand_malformed_requests(serving: ServingServer) -> None:
    serving.create("fuzzed-long", "obedient")
    fuzz(serving, "fuzzed-long", 10_000, seed=2)
