"""Canaries of running endpoints: a good version takes over, a bad one is taken back, and no request is lost."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from millpond.kernel.database import Database
from tests.databases import Databases
from tests.servers import wait_until
from tests.serving.harness import Answer, ServingServer, serving_server
from tests.serving.test_endpoints import API, ROW, config_of

OURS = "/api/millpond/serving-endpoints"
GOOD = {"served_entity_name": "churn_swapped", "steps": [30, 100], "step_minutes": 0}
RAILS = {"min_requests": 15, "max_p99_factor": 50, "latency_slack_ms": 2000}


@pytest.fixture(scope="module")
def serving(databases: Databases, tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[ServingServer]:
    directory = tmp_path_factory.mktemp("canaries")
    with databases.new("sqlite", directory) as database, serving_server(database, directory, models) as server:
        yield server


def canary(serving: ServingServer, name: str) -> dict[str, Any]:
    told = serving.call("GET", f"{OURS}/{name}/canary")
    assert told.status == 200, told.body
    return told.json["canary"]


def begin(serving: ServingServer, name: str, body: dict[str, Any], **rails: Any) -> None:
    begun = serving.call("POST", f"{OURS}/{name}/canary", body | {"guardrails": RAILS | rails})
    assert begun.status == 200, begun.body


def shares(serving: ServingServer, name: str) -> dict[str, int]:
    routes = serving.settled(name)["config"]["traffic_config"]["routes"]
    return {route["served_entity_name"]: route["traffic_percentage"] for route in routes}


def answers(serving: ServingServer, name: str) -> bool:
    """Whether each served entity has a process on this very server: the state in the database is that of any."""
    live = serving.runtime.find(name)
    return live is not None and all(pool.workers for pool in live.pools.values())


@contextmanager
def load(serving: ServingServer, name: str, row: dict[str, Any]) -> Iterator[list[Answer]]:
    """Requests from two clients while the block runs, and all their answers."""
    answers: list[Answer] = []
    stopped = threading.Event()

    def ask() -> None:
        while not stopped.is_set():
            body = {"dataframe_records": [row]}
            answers.append(serving.call("POST", f"/serving-endpoints/{name}/invocations", body))
            time.sleep(0.01)

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        yield answers
    finally:
        stopped.set()
        for client in clients:
            client.join()


def test_a_good_version_takes_over_and_a_bad_one_is_taken_back(serving: ServingServer) -> None:
    serving.create("steps", "churn", "churn_swapped", "obedient")
    row = ROW | {"do": "raise"}
    with load(serving, "steps", row) as answers:
        begin(serving, "steps", {"served_entity_name": "obedient", "steps": [30, 100], "step_minutes": 60})
        wait_until(lambda: canary(serving, "steps")["state"] == "ROLLED_BACK", what="the bad version being taken back")
        assert shares(serving, "steps") == {"churn": 100, "churn_swapped": 0, "obedient": 0}
        told = canary(serving, "steps")
        assert "of its requests fail, against 0 % of 'churn'" in told["message"]
        assert 10 <= told["seen"]["canary"]["errors"] == told["seen"]["canary"]["requests"]
        assert told["seen"]["baseline"]["p50_ms"] > 0

        begin(serving, "steps", GOOD)
        wait_until(lambda: canary(serving, "steps")["state"] == "COMPLETED", timeout_s=60, what="the good one's end")
        assert shares(serving, "steps") == {"churn": 0, "churn_swapped": 100, "obedient": 0}
    by_model = Counter((each.headers["served-model-name"], each.status) for each in answers)
    assert set(by_model) == {("churn", 200), ("churn_swapped", 200), ("obedient", 400)}, "each has its answer"
    assert answers[-1].json == {"predictions": [0]}
    events = serving.call("GET", f"{OURS}/steps/events").json["events"]
    told = [each["message"] for each in reversed(events) if each["type"] == "canary"]
    assert [text.split(".")[0] for text in told] == [
        "'obedient' begins to take over from 'churn', with 30 %",
        "The canary of 'obedient' is rolled back",
        "'churn_swapped' begins to take over from 'churn', with 30 %",
        "'churn_swapped' gets 100 %",
        "The canary of 'churn_swapped' is complete: it has all the traffic",
    ]


@pytest.mark.long
def test_whoever_may_manage_pauses_promotes_and_aborts(serving: ServingServer) -> None:
    serving.create("hands", "churn", "churn_swapped")
    long = GOOD | {"step_minutes": 60}

    def act(what: str, **options: Any) -> Answer:
        return serving.call("POST", f"{OURS}/hands/canary/{what}", **options)

    assert serving.call("GET", f"{OURS}/hands/canary").status == 404
    assert act("abort").json["error_code"] == "INVALID_STATE"
    begin(serving, "hands", long)
    again = serving.call("POST", f"{OURS}/hands/canary", long)
    assert (again.status, again.json["error_code"]) == (409, "ABORTED")
    stranger = serving.user("cora@example.com")
    assert act("promote", token=stranger).status == 404
    assert shares(serving, "hands") == {"churn": 70, "churn_swapped": 30}
    assert act("pause").json["canary"]["state"] == "PAUSED"
    assert "paused by admin@example.com" in canary(serving, "hands")["message"]
    assert act("resume").json["canary"]["state"] == "RUNNING"
    assert act("abort").json["canary"]["state"] == "ABORTED"
    assert shares(serving, "hands") == {"churn": 100, "churn_swapped": 0}
    begin(serving, "hands", long)
    assert act("promote").json["canary"]["state"] == "COMPLETED"
    assert shares(serving, "hands") == {"churn": 0, "churn_swapped": 100}

    back = {"served_entity_name": "churn", "steps": [50, 100], "step_minutes": 60}
    begin(serving, "hands", back)
    serving.settled("hands")
    routes = config_of("churn", "churn_swapped", shares=(10, 90))["traffic_config"]
    assert serving.call("PUT", f"{API}/hands/config", {"traffic_config": routes}).status == 200
    wait_until(lambda: canary(serving, "hands")["state"] == "SUPERSEDED", what="the canary giving way")
    assert shares(serving, "hands") == {"churn": 10, "churn_swapped": 90}
    for wrong, said in (
        (GOOD | {"steps": [50, 20]}, "rising percentages"),
        (GOOD | {"served_entity_name": "other"}, "No served entity is named 'other'"),
        (GOOD | {"guardrails": {"max_errors": 1}}, "max_errors"),
    ):
        refused = serving.call("POST", f"{OURS}/hands/canary", wrong)
        assert (refused.status, refused.json["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
        assert said in refused.json["message"]


@pytest.mark.long
def test_a_version_that_ends_and_does_not_come_back_loses_its_traffic(serving: ServingServer) -> None:
    serving.secrets.create_scope(serving.admin, "canaries")
    serving.secrets.put_secret(serving.admin, "canaries", "token", b"needed to start")
    serving.create("dies", "churn", "obedient", environment_vars={"TOKEN": "{{secrets/canaries/token}}"})
    begin(serving, "dies", {"served_entity_name": "obedient", "steps": [50, 100], "step_minutes": 60})
    assert shares(serving, "dies") == {"churn": 50, "obedient": 50}
    serving.secrets.delete_secret(serving.admin, "canaries", "token")
    order = {"dataframe_records": [{"do": "exit"}]}
    serving.call("POST", "/serving-endpoints/dies/served-models/obedient/invocations", order)
    wait_until(lambda: canary(serving, "dies")["state"] == "ROLLED_BACK", what="the dead version being taken back")
    assert canary(serving, "dies")["message"] == "'obedient' cannot be loaded any more."
    assert shares(serving, "dies") == {"churn": 100, "obedient": 0}
    with load(serving, "dies", ROW) as answers:
        wait_until(lambda: len(answers) > 20, what="answers")
    assert {each.status for each in answers} == {200}


@pytest.mark.long
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_server_that_comes_back_goes_on_and_two_step_once(database: Database, tmp_path: Path, models: Path) -> None:
    with serving_server(database, tmp_path / "one", models) as server:
        server.create("goes-on", "churn", "churn_swapped")
        begin(server, "goes-on", GOOD, min_requests=60)
        with load(server, "goes-on", ROW):
            counted = wait_until(lambda: canary(server, "goes-on")["seen"]["canary"]["requests"], what="requests")
    with (
        serving_server(database, tmp_path / "one", models) as one,
        serving_server(database, tmp_path / "two", models) as two,
    ):
        found = canary(one, "goes-on")
        assert (found["state"], found["step"] >= 1, counted > 0) == ("RUNNING", True, True)
        for each in (one, two):
            each.ready("goes-on")
            wait_until(lambda each=each: answers(each, "goes-on"), timeout_s=60, what="its processes on both servers")
        with load(one, "goes-on", ROW) as here, load(two, "goes-on", ROW) as there:
            wait_until(lambda: canary(two, "goes-on")["state"] == "COMPLETED", timeout_s=60, what="the canary's end")
            wait_until(
                lambda: all(
                    live.config.routes == two.service.get_endpoint(two.admin, "goes-on").active.routes
                    for each in (one, two)
                    if (live := each.runtime.find("goes-on"))
                ),
                what="the last step on both servers",
            )
        assert {each.status for each in (*here, *there)} == {200}
        events = one.call("GET", f"{OURS}/goes-on/events").json["events"]
        gets = [each["message"] for each in events if each["type"] == "canary" and "gets 100 %" in each["message"]]
        assert len(gets) == 1
