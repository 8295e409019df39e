"""Each kind of online store keeps the contract."""

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millpond.kernel.errors import Unavailable
from millpond.online.backends.port import Backend, ServingBackend
from millpond.online.backends.redis import RedisBackend
from millpond.online.backends.redis_lane import RedisLane
from millpond.online.domain import Field, Published, Shape
from tests.online.conftest import OnLoop
from tests.redis_server import free_port, running_redis

SHAPE = Shape(keys=(Field("id", "long"),), fields=(Field("v", "string"),))


@pytest.fixture(params=["blocking", "on a loop"])
def backend(opened: Callable[[], ServingBackend], request: pytest.FixtureRequest) -> Iterator[Backend]:
    """An empty store, read in one way and the other."""
    backend = opened() if request.param == "blocking" else OnLoop(opened())
    yield backend
    backend.close()


def state(generation: int, version: int = 1) -> Published:
    """What a table's mark is."""
    return Published(generation=generation, version=version, committed_ms=17, shape=SHAPE)


def rows(values: Mapping[bytes, bytes | None]) -> Iterator[tuple[bytes, bytes | None]]:
    """Changes as a publisher gives them."""
    return iter(values.items())


def test_nothing_is_read_before_it_is_published(backend: Backend) -> None:
    assert backend.published("t") is None
    assert backend.read("t", [b"a"]) == (None, [None])
    assert backend.write("t", 1, rows({b"a": b"1"})) == 1
    assert backend.read("t", [b"a"]) == (None, [None])
    backend.publish("t", state(1))
    assert backend.published("t") == state(1)
    assert backend.read("t", [b"a"]) == (state(1), [b"1"])


def test_rows_come_in_the_order_of_keys(backend: Backend) -> None:
    backend.write("t", 1, rows({b"a": b"1", b"b": b"2", b"\x00\xff{}*?[": b"3", b"k" * 400: b"4"}))
    backend.publish("t", state(1))
    asked = [b"b", b"nobody", b"a", b"\x00\xff{}*?[", b"b", b"k" * 400]
    assert backend.read("t", asked)[1] == [b"2", None, b"1", b"3", b"2", b"4"]
    assert backend.read("t", [])[1] == []


def test_changes_may_be_repeated(backend: Backend) -> None:
    backend.write("t", 1, rows({b"a": b"1", b"b": b"2"}))
    backend.publish("t", state(1))
    for _ in range(2):
        backend.write("t", 1, rows({b"a": b"new", b"b": None, b"never there": None}))
        backend.publish("t", state(1, version=2))
        assert backend.read("t", [b"a", b"b"]) == (state(1, version=2), [b"new", None])


def test_a_generation_takes_the_place_of_another_at_once(backend: Backend) -> None:
    backend.write("t", 1, rows({b"a": b"old", b"gone": b"old"}))
    backend.publish("t", state(1))
    backend.write("t", 2, rows({b"a": b"new"}))
    assert backend.read("t", [b"a", b"gone"])[1] == [b"old", b"old"]
    backend.publish("t", state(2))
    assert backend.read("t", [b"a", b"gone"])[1] == [b"new", None]
    backend.drop("t", 1)
    assert backend.read("t", [b"a", b"gone"])[1] == [b"new", None]


def test_another_process_reads_what_was_published(opened: Callable[[], Backend]) -> None:
    first = opened()
    first.write("t", 1, rows({b"a": b"1"}))
    first.publish("t", state(1))
    first.close()
    second = opened()
    assert second.read("t", [b"a"]) == (state(1), [b"1"])
    second.close()


def test_tables_do_not_see_each_other(backend: Backend) -> None:
    for table in ("t", "t2"):
        backend.write(table, 1, rows({b"a": table.encode()}))
        backend.publish(table, state(1))
    assert backend.read("t", [b"a"])[1] == [b"t"]
    backend.drop("t")
    assert backend.read("t", [b"a"]) == (None, [None])
    assert backend.read("t2", [b"a"])[1] == [b"t2"]
    backend.write("t", 1, rows({b"b": b"again"}))
    backend.publish("t", state(1))
    assert backend.read("t", [b"a", b"b"])[1] == [None, b"again"]


def test_a_read_is_of_one_moment(backend: Backend) -> None:
    """While generations follow each other, no reader gets rows of two, nor a mark that is not theirs."""
    keys = [b"%d" % number for number in range(50)]
    mixed: list[object] = []
    over = threading.Event()

    def reader() -> None:
        while not over.is_set():
            published, found = backend.read("t", keys)
            if published is not None and found != [b"%d" % published.generation] * len(keys):
                mixed.append((published.generation, set(found)))

    readers = [threading.Thread(target=reader) for _ in range(3)]
    for thread in readers:
        thread.start()
    for generation in range(1, 30):
        backend.write("t", generation, ((key, b"%d" % generation) for key in keys))
        backend.publish("t", state(generation))
        backend.drop("t", generation - 1)
    over.set()
    for thread in readers:
        thread.join()
    assert mixed == []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(
        st.dictionaries(st.binary(min_size=1, max_size=12), st.none() | st.binary(max_size=30), max_size=8), max_size=6
    )
)
def test_it_is_a_dictionary(backend: Backend, batches: list[dict[bytes, bytes | None]]) -> None:
    table, expected = f"t{threading.get_ident()}", {}
    backend.drop(table)
    for version, batch in enumerate(batches):
        backend.write(table, 1, rows(batch))
        backend.publish(table, state(1, version))
        expected.update(batch)
        assert backend.read(table, list(expected))[1] == list(expected.values())


@pytest.mark.parametrize("count", [50_001])
def test_many_rows_go_through(backend: Backend, count: int) -> None:
    assert backend.write("t", 1, ((b"%d" % number, b"%d" % number) for number in range(count))) == count
    backend.publish("t", state(1))
    asked = [b"%d" % number for number in range(0, count, 997)]
    assert backend.read("t", asked)[1] == asked
    backend.drop("t", 1)
    assert backend.read("t", asked)[1] == [None] * len(asked)


@pytest.mark.parametrize("way", ["blocking", "on a loop"])
def test_redis_may_go_and_come_back(tmp_path: Path, way: str) -> None:
    """Whoever reads is told that it does not answer, and reads on when it does, on the same connections."""
    port = free_port()
    backend = RedisBackend(f"redis://127.0.0.1:{port}/0")
    read = backend if way == "blocking" else OnLoop(backend)
    with contextlib.closing(read):
        with running_redis(str(tmp_path), port):
            backend.write("t", 1, rows({b"a": b"1"}))
            backend.publish("t", state(1))
            assert read.read("t", [b"a"]) == (state(1), [b"1"])
        with pytest.raises(Unavailable, match="The online store in Redis does not answer: ConnectionError"):
            read.read("t", [b"a"])
        with running_redis(str(tmp_path), port):
            assert read.read("t", [b"a"]) == (state(1), [b"1"])
        with running_redis(str(tmp_path), port):  # it was started again, and nobody read meanwhile
            assert read.read("t", [b"a"]) == (state(1), [b"1"])


def test_whoever_stops_waiting_leaves_no_answer_to_others(tmp_path: Path) -> None:
    """A connection whose answer nobody took is not used again."""
    with running_redis(str(tmp_path), port := free_port()) as (url, process):
        backend = OnLoop(RedisBackend(url))
        with contextlib.closing(backend):
            backend.write("t", 1, rows({b"%d" % number: b"%d" % number for number in range(20)}))
            backend.publish("t", state(1))
            assert backend.read("t", [b"0"])[1] == [b"0"]
            os.kill(process.pid, signal.SIGSTOP)
            gone = [backend.reading("t", [b"1"]) for _ in range(5)]
            backend.pause()
            for each in gone:
                each.cancel()
            os.kill(process.pid, signal.SIGCONT)
            for number in range(20):
                assert backend.read("t", [b"%d" % number])[1] == [b"%d" % number], port


def test_a_redis_that_reads_no_more_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Not who waits for an answer, and not who cannot even write."""

    async def ask(url: str, process: Any) -> list[Any]:
        lane = RedisLane(url, timeout_s=0.5)
        assert await lane.mget([b"a"]) == [None]
        os.kill(process.pid, signal.SIGSTOP)
        many = [b"%d" % number * 100 for number in range(3000)]
        async with asyncio.timeout(20):
            found = await asyncio.gather(*(lane.mget(many) for _ in range(40)), return_exceptions=True)
        os.kill(process.pid, signal.SIGCONT)
        assert await lane.mget([b"a"]) == [None]
        await lane.aclose()
        return found

    with running_redis(str(tmp_path), free_port()) as (url, process):
        found = asyncio.run(ask(url, process))
    assert all(isinstance(each, redis.exceptions.RedisError) for each in found), found


def test_who_waits_for_a_connection_waits_for_one_attempt() -> None:
    async def ask(url: str) -> list[Any]:
        lane = RedisLane(url, timeout_s=0.3)
        found = await asyncio.gather(*(lane.mget([b"a"]) for _ in range(20)), return_exceptions=True)
        await lane.aclose()
        return found

    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = asyncio.run(ask(f"redis://127.0.0.1:{silent.getsockname()[1]}/0"))
        silent.settimeout(0)
        made = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                silent.accept()[0].close()
                made += 1
    assert all(isinstance(each, TimeoutError) for each in found), found
    assert made == 1
