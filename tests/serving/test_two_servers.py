"""Two servers on one database: each serves what the other has activated once it can, and ends what was deleted."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from millpond.kernel.database import Database
from tests.servers import wait_until
from tests.serving.harness import ServingServer, serving_server
from tests.serving.test_endpoints import API, config_of, process_exists


def looks_again(server: ServingServer) -> None:
    """As each server does once a minute."""
    loop = server.runtime._loop
    assert loop is not None
    asyncio.run_coroutine_threadsafe(server.runtime._discover(), loop).result(20)


@pytest.fixture
def pair(database: Database, tmp_path: Path, models: Path) -> Iterator[tuple[ServingServer, ServingServer]]:
    """Two servers of one database."""
    with (
        serving_server(database, tmp_path / "one", models) as one,
        serving_server(database, tmp_path / "two", models) as two,
    ):
        yield one, two


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_what_another_server_activated_answers_here_when_it_is_up(pair: tuple[ServingServer, ServingServer]) -> None:
    one, two = pair
    one.create("moves", "scale")
    looks_again(two)
    wait_until(lambda: two.runtime.find("moves") and two.worker_pid_or_none("moves"), what="it on both")
    before = two.worker_pid("moves")
    assert one.call("PUT", f"{API}/moves/config", config_of("obedient")).status == 200
    one.settled("moves")
    looks_again(two)

    def has_moved() -> bool:
        live = two.runtime.find("moves")
        assert live is not None
        assert two.worker_pid_or_none("moves"), "something answers at each moment"
        return live.config.version == 2

    wait_until(has_moved, timeout_s=120, what="the new configuration on the other server")
    wait_until(lambda: not process_exists(before), what="the end of the old process")

    after = two.worker_pid("moves")
    assert one.call("DELETE", f"{API}/moves").status == 200
    looks_again(two)
    wait_until(lambda: two.runtime.find("moves") is None, what="the endpoint gone from the other server")
    wait_until(lambda: not process_exists(after), what="the end of its process")


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_servers_hear_of_each_others_calls_before_a_limit_is_reached_twice(
    pair: tuple[ServingServer, ServingServer],
) -> None:
    one, two = pair
    one.create("shared", "scale")
    limits = {"rate_limits": [{"key": "user", "calls": 100, "renewal_period": "minute"}]}
    assert one.call("PUT", f"{API}/shared/rate-limits", limits).status == 200
    looks_again(two)
    wait_until(lambda: two.runtime.find("shared") and two.worker_pid_or_none("shared"), what="it on both")

    def status(server: ServingServer) -> int:
        asked = {"dataframe_records": [{"x": 1.0}]}
        return server.call("POST", "/serving-endpoints/shared/invocations", asked).status

    first = [status(one) for _ in range(110)]
    assert set(first[:100]) == {200}, "all of it, whichever server is asked"
    passed = 0
    ends = time.monotonic() + 10
    while status(two) == 200:  # until it has heard, a second later at most
        passed += 1
        assert time.monotonic() < ends
        threading.Event().wait(0.1)
    assert passed < 50, "by itself it would let 100 through"
    assert 429 in {status(one), status(two)}
    stranger = two.identity.create_token(two.admin).secret  # the same user by another token
    assert two.call("POST", "/serving-endpoints/shared/invocations", {"inputs": []}, token=stranger).status == 429
