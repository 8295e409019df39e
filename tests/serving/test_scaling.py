"""How many processes answer for a served entity, and what becomes of requests while that changes."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from millpond.kernel.errors import InvalidArgument
from millpond.kernel.settings import ServingSettings
from millpond.serving.domain import Concurrency, WorkloadSize, check_provisioned
from millpond.serving.scaling import Look, Meter, Scale, scale_of, together, wanted
from tests.databases import Databases
from tests.servers import wait_until
from tests.serving.harness import Answer, ServingServer, serving_server
from tests.serving.test_endpoints import API, process_exists

CALM_S, IDLE_S = 1.0, 3.0
SCALE = Scale(minimum=2, maximum=8, calm_s=10)


def looks(*concurrency: float) -> list[Look]:
    return [Look(at=number / 2, concurrency=each) for number, each in enumerate(concurrency)]


def decide(*concurrency: float, replicas: int, scale: Scale = SCALE, idle_for_s: float = 0) -> int:
    return wanted(scale, looks(*concurrency), replicas=replicas, idle_for_s=idle_for_s)


@pytest.mark.parametrize(
    ("size", "minimum", "maximum"),
    [(WorkloadSize.SMALL, 1, 1), (WorkloadSize.MEDIUM, 2, 4), (WorkloadSize.LARGE, 4, 16)],
)
def test_a_size_is_a_range_of_processes(size: WorkloadSize, minimum: int, maximum: int) -> None:
    assert scale_of(size.concurrency, idle_s=None, calm_s=60) == Scale(minimum=minimum, maximum=maximum)


def test_more_requests_than_threads_bring_more_processes() -> None:
    assert decide(6.0, 6.0, replicas=2) == 2
    assert decide(0.0, 16.0, 16.0, replicas=2) == 5
    assert decide(100.0, 100.0, replicas=2) == 8, "at most the maximum"


def test_a_short_burst_brings_no_process() -> None:
    assert decide(0.0, 8.0, replicas=2) == 2


def test_fewer_processes_are_left_only_after_a_calm_time() -> None:
    assert decide(*[16.0] * 10, *[1.0] * 10, replicas=5) == 5
    assert decide(*[1.0] * 10, replicas=5) == 5, "not known for long enough"
    assert decide(*[7.0] * 20, replicas=5) == 3, "as many as the busiest moment needed"
    assert decide(*[1.0] * 20, replicas=5) == 2, "at least the minimum"


def test_only_what_may_have_none_has_none() -> None:
    sleepy = Scale(minimum=1, maximum=1, idle_s=30)
    assert decide(0.0, replicas=1, scale=sleepy, idle_for_s=29) == 1
    assert decide(0.0, replicas=1, scale=sleepy, idle_for_s=30) == 0
    assert decide(*[0.0] * 20, replicas=2, idle_for_s=1e9) == 2


def test_entities_of_one_version_share_its_processes() -> None:
    medium, sleepy = Scale(minimum=2, maximum=4), Scale(minimum=1, maximum=1, idle_s=30)
    assert together([medium]) == medium
    assert together([medium, sleepy]) == Scale(minimum=3, maximum=5)
    assert together([sleepy, sleepy]) == Scale(minimum=2, maximum=2, idle_s=30)


def test_a_meter_tells_the_mean_and_the_idle_time() -> None:
    meter = Meter(0.0)
    meter.change(1, 1.0)
    meter.change(1, 2.0)
    meter.change(-2, 3.0)
    assert meter.look(4.0) == Look(4.0, 0.75)
    assert meter.idle_for_s(5.0) == 2.0
    meter.change(1, 5.0)
    assert meter.idle_for_s(9.0) == 0.0


@pytest.mark.parametrize(
    ("minimum", "maximum", "to_zero", "said"),
    [(4, None, False, "not one of them"), (3, 8, False, "multiples of 4"), (8, 4, False, "smaller one first"),
     (0, 4, False, "only with scale_to_zero"), (0, 0, True, "not valid"), (4, 1024, False, "up to 256")],
)  # fmt: skip
def test_a_wrong_range_of_concurrency_is_refused(
    minimum: int | None, maximum: int | None, to_zero: bool, said: str
) -> None:
    with pytest.raises(InvalidArgument, match=said):
        check_provisioned(minimum, maximum, scale_to_zero=to_zero)


def test_a_range_of_concurrency_may_begin_with_none() -> None:
    assert check_provisioned(0, 8, scale_to_zero=True) == Concurrency(minimum=0, maximum=8)


# Through the server


@pytest.fixture(scope="module")
def serving(databases: Databases, tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[ServingServer]:
    """A server that scales quickly."""
    directory = tmp_path_factory.mktemp("scaling")
    quick = ServingSettings(scale_down_after_s=CALM_S, scale_to_zero_after_s=IDLE_S)
    with (
        databases.new("sqlite", directory) as database,
        serving_server(database, directory, models, serving=quick) as server,
    ):
        yield server


def replicas(serving: ServingServer, name: str) -> int:
    """Of which the workers answer."""
    live = serving.runtime.find(name)
    assert live is not None
    return len(live.pools[live.config.entities[0].name].workers)


def pids(serving: ServingServer, name: str) -> list[int]:
    live = serving.runtime.find(name)
    assert live is not None
    return [worker.pid for worker in live.pools[live.config.entities[0].name].workers]


def state_of(serving: ServingServer, name: str) -> dict[str, Any]:
    state: dict[str, Any] = serving.get(name)["config"]["served_entities"][0]["state"]
    return state


@contextmanager
def stopping(stop: threading.Event) -> Iterator[None]:
    """Whatever happens in the block, those who work until it is set end."""
    try:
        yield
    finally:
        stop.set()


def happened(serving: ServingServer, name: str) -> list[str]:
    """What kinds of events there are, newest first."""
    answer = serving.call("GET", f"/api/millpond/serving-endpoints/{name}/events")
    return [event["type"] for event in answer.json["events"]]


def started_before_update(serving: ServingServer, name: str) -> int:
    """How many processes have come between the last update and the one before; what is told lags behind a little."""
    kinds = happened(serving, name)
    newest = kinds.index("updated")
    return kinds[newest : kinds.index("updated", newest + 1)].count("started")


def test_processes_come_with_the_load_and_go_with_it(serving: ServingServer) -> None:
    serving.create("elastic", "obedient", workload_size="Medium")
    assert replicas(serving, "elastic") == 2
    stop = threading.Event()

    def ask() -> list[int]:
        statuses = []
        while not stop.is_set():
            statuses.append(serving.ask("elastic", "hang:1.5").status)
        return statuses

    with ThreadPoolExecutor(16) as pool, stopping(stop):
        asking = [pool.submit(ask) for _ in range(16)]
        wait_until(lambda: replicas(serving, "elastic") == 4, timeout_s=60, what="four replicas")
        entity = {"entity_name": "obedient", "entity_version": "1", "name": "obedient", "workload_size": "Medium"}
        changed = {"served_entities": [entity | {"environment_vars": {"STAGE": "two"}}]}
        assert serving.call("PUT", f"{API}/elastic/config", changed).status == 200
        serving.settled("elastic")
        wait_until(lambda: started_before_update(serving, "elastic") >= 2 + 4, what="as many as the load needs")
        grown = pids(serving, "elastic")
        stop.set()
        assert {status for each in asking for status in each.result()} == {200}
    wait_until(lambda: replicas(serving, "elastic") == 2, timeout_s=60, what="two replicas")
    wait_until(lambda: sum(map(process_exists, grown)) <= 2, what="the others being gone")
    assert state_of(serving, "elastic") == {"deployment": "DEPLOYMENT_READY", "deployment_state_message": ""}
    logs = serving.call("GET", f"{API}/elastic/served-models/obedient/logs").json["logs"]
    assert "=== replica 2 ===" in logs


def test_what_is_not_asked_has_no_process_until_it_is(serving: ServingServer) -> None:
    serving.create("sleepy", "churn", scale_to_zero_enabled=True)
    (pid,) = pids(serving, "sleepy")
    wait_until(lambda: not process_exists(pid), timeout_s=60, what="the worker being gone")
    wait_until(
        lambda: "Scaled to zero" in state_of(serving, "sleepy")["deployment_state_message"], what="the state being told"
    )
    assert serving.get("sleepy")["state"]["ready"] == "READY"
    rows = {"dataframe_records": [{"tenure": 1, "monthly_charges": 90.0, "contract": "month"}]}

    def ask(_: int) -> Answer:
        return serving.call("POST", "/serving-endpoints/sleepy/invocations", rows)

    began = time.monotonic()
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(ask, range(6)))
    assert [answer.json for answer in answers] == [{"predictions": [1]}] * 6
    assert time.monotonic() - began < 20  # 0.3 s where the machine has nothing else to do
    wait_until(lambda: state_of(serving, "sleepy")["deployment_state_message"] == "", what="the state being told")
    oldest_first = [kind for kind in reversed(happened(serving, "sleepy")) if kind != "updated"]
    assert oldest_first[:4] == ["started", "scaled", "woken", "started"]
    metrics = serving.call("GET", f"{API}/sleepy/metrics").body.decode()
    assert 'millpond_serving_cold_start_seconds_count{endpoint="sleepy",served_model="churn"}' in metrics


def test_a_killed_replica_costs_only_what_it_was_answering(serving: ServingServer) -> None:
    serving.create("double", "obedient", workload_size="Medium")
    before = pids(serving, "double")
    statuses: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            statuses.append(serving.ask("double", "hang:0.02").status)

    with ThreadPoolExecutor(4) as pool, stopping(stop):
        for _ in range(4):
            pool.submit(ask)
        wait_until(lambda: len(statuses) > 20, what="the load")
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: set(pids(serving, "double")) - set(before) and replicas(serving, "double") == 2,
                   timeout_s=60, what="another replica")  # fmt: skip
        stop.set()
    assert statuses.count(500) <= 4, "the requests that it had"
    assert set(statuses) <= {200, 500}
    assert pids(serving, "double")[1] == before[1]
    wait_until(lambda: state_of(serving, "double")["deployment_state_message"] == "", what="all being well")


def test_a_change_of_size_alone_keeps_the_processes(serving: ServingServer) -> None:
    serving.create("resized", "churn")
    (pid,) = pids(serving, "resized")
    entity = {"entity_name": "churn", "entity_version": "1", "name": "churn",
              "min_provisioned_concurrency": 8, "max_provisioned_concurrency": 16}  # fmt: skip
    assert serving.call("PUT", f"{API}/resized/config", {"served_entities": [entity]}).status == 200
    (shown,) = serving.settled("resized")["config"]["served_entities"]
    assert (shown["min_provisioned_concurrency"], shown["max_provisioned_concurrency"]) == (8, 16)
    assert "workload_size" not in shown
    wait_until(lambda: replicas(serving, "resized") == 2, what="two replicas")
    assert pid in pids(serving, "resized")


def test_two_entities_that_come_to_serve_one_version_keep_their_processes(serving: ServingServer) -> None:
    routes = [{"served_entity_name": name, "traffic_percentage": share} for name, share in (("a", 100), ("b", 0))]
    other = {"entity_name": "churn_swapped", "entity_version": "1", "name": "b", "scale_to_zero_enabled": True}

    def config(model: str) -> dict[str, Any]:
        first = {"entity_name": model, "entity_version": "1", "name": "a", "workload_size": "Medium"}
        return {"served_entities": [first, other], "traffic_config": {"routes": routes}}

    assert serving.call("POST", API, {"name": "meeting", "config": config("churn")}).status == 200
    serving.settled("meeting")
    assert serving.call("PUT", f"{API}/meeting/config", config("churn_swapped")).status == 200
    serving.settled("meeting")
    wait_until(lambda: replicas(serving, "meeting") == 3, timeout_s=60, what="those of both")


def test_a_full_queue_is_told_with_when_to_come_back(serving: ServingServer) -> None:
    serving.create("full", "obedient")
    short = {"X-Request-Timeout-Seconds": "3"}
    with ThreadPoolExecutor(300) as pool:
        answers = list(pool.map(lambda _: serving.ask("full", "hang:3", headers=short), range(300)))
    refused = [answer for answer in answers if answer.status == 429]
    assert {answer.status for answer in answers} == {429, 504}
    assert refused[0].json["error_code"] == "RESOURCE_EXHAUSTED"
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf"])
def test_a_wrong_deadline_is_refused(serving: ServingServer, text: str) -> None:
    answer = serving.ask("any", "pid", headers={"X-Request-Timeout-Seconds": text})
    assert (answer.status, answer.json["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert f"not '{text}'" in answer.json["message"]
