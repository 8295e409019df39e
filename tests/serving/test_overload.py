"""Which queues are a burst, and which of them stay; and what a fuzzer's requests do to a model's process."""

import itertools
import json
import random
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from millpond.serving.overload import Overload
from tests.serving.harness import Answer, ServingServer

MODEL_S, THREADS, MOST = 0.05, 4, 260
GAP_S = MODEL_S / THREADS


class Pool:
    """A model of four threads, of which each answer takes as long as those ahead of it need."""

    def __init__(
        self, patience: float = 1.5, model_s: float = MODEL_S, gap_s: float = GAP_S, *, late: Iterable[bool] = ()
    ) -> None:
        """`late` says of which answers the model needed ten times as long."""
        self._late = iter(late)
        self.overload = Overload(patience)
        self.now = 0.0
        self._model_s, self._gap_s = model_s, gap_s
        self._ahead = 0

    def ask(self, ahead: Callable[[float], int], for_s: float) -> list[bool]:
        """An answer and a request in each gap, with so many ahead of it; whether each is refused."""
        until, refused = self.now + for_s, []
        while self.now < until:
            wanted = ahead(self.now)
            refused.append(self.refuses(wanted))
            taken = min(wanted, self.taken) if refused[-1] else wanted
            self.overload.enter(self.now)
            self.overload.asking += taken  # they are there all the time
            self.overload.answered(self._model_s * (10 if next(self._late, False) else 1), self.now)
            self.now += self._gap_s
            self.overload.asking -= taken
            self.overload.leave(self.now - max(self._model_s, taken * self._gap_s), self.now)
        return refused

    def refuses(self, ahead: int) -> bool:
        return self.overload.refuses(ahead, MOST, self.now) is not None

    @property
    def taken(self) -> int:
        """How many may be there at a time."""
        return next((ahead for ahead in range(MOST) if self.refuses(ahead)), MOST)


def growing(now: float) -> int:
    return 20 + int(60 * now)


def test_a_burst_may_wait_and_what_grows_is_kept_short() -> None:
    pool = Pool()
    assert not any(pool.ask(lambda now: 100 if now > 0.5 else 0, for_s=1.4)), "they came at once"
    assert any(pool.ask(growing, for_s=3.0))
    pool.ask(lambda _: 200, for_s=3.0)
    assert 7 <= pool.taken <= 12, "as are answered within two and a half times what the model needs"


def test_as_many_are_taken_as_are_in_time_whatever_one_takes() -> None:
    pool = Pool()
    pool.ask(growing, for_s=3.5)
    pool._gap_s = GAP_S / 3  # others leave the machine
    pool.ask(lambda _: 200, for_s=4.0)
    assert 20 <= pool.taken <= 40


def test_a_queue_that_is_full_is_kept_short() -> None:
    pool = Pool()
    for _ in range(20):
        assert not any(pool.ask(lambda _: 200, for_s=GAP_S)), "it does not grow"
    for _ in range(60):
        pool.overload.refused()
        pool.ask(lambda _: 200, for_s=GAP_S)
    assert any(pool.ask(lambda _: 200, for_s=1.0))


def test_what_others_do_on_the_machine_is_not_what_the_model_needs() -> None:
    pool = Pool(late=itertools.cycle((False, False, True)))
    pool.ask(growing, for_s=3.5)
    pool.ask(lambda _: 200, for_s=3.0)
    assert 7 <= pool.taken <= 14


def test_it_stays_short_until_few_are_refused_for_a_while() -> None:
    pool = Pool()
    pool.ask(growing, for_s=3.5)
    assert all(pool.ask(lambda _: 200, for_s=5.0)), "as many are refused as are answered"
    assert not any(pool.ask(lambda _: 2, for_s=4.0))
    assert pool.taken < 100, "few for a moment, as what is kept short is now and then"
    pool.ask(lambda now: 200 if int(now / GAP_S) % 40 == 0 else 2, for_s=6.0)
    assert pool.taken == MOST, "one in forty for six seconds"


def test_clients_who_wait_for_their_answers_may_be_many() -> None:
    pool = Pool()
    for clients in (16, 64, 100, 100, 20, 200):
        assert not any(pool.ask(lambda _, clients=clients: clients, for_s=1.7))


def test_more_than_may_wait_are_refused_at_once_and_then_it_is_kept_short() -> None:
    pool = Pool()
    pool.ask(lambda _: MOST - 1, for_s=1.0)
    assert all(pool.ask(lambda _: MOST, for_s=0.6))
    pool.ask(lambda _: MOST, for_s=2.0)
    assert pool.taken <= 12


def test_a_model_that_is_idle_now_and_then_is_asked_for_no_more_than_it_can() -> None:
    pool = Pool()
    for _ in range(200):
        assert not pool.refuses(0)
        pool.overload.enter(pool.now)
        pool.overload.answered(MODEL_S, pool.now)
        pool.overload.leave(pool.now, pool.now + MODEL_S)
        pool.now += 2 * MODEL_S
    assert not any(pool.ask(lambda _: 3, for_s=3))


def test_what_waits_for_a_quick_model_is_not_kept_shorter_than_can_be_told() -> None:
    pool = Pool(model_s=0.0004, gap_s=0.0005)
    pool.ask(growing, for_s=3.5)
    pool.ask(lambda _: 200, for_s=3.0)
    assert 5 <= pool.taken <= 8


def test_without_patience_set_all_wait() -> None:
    assert not any(Pool(patience=0).ask(growing, for_s=5))


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
