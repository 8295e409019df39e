"""An endpoint's life, seen through the API."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.servers import wait_until
from tests.serving.harness import Answer, ServingServer

API = "/api/2.0/serving-endpoints"
ROW = {"tenure": 1, "monthly_charges": 90.0, "contract": "month"}


def predict(serving: ServingServer, name: str, **options: Any) -> Answer:
    return serving.call("POST", f"/serving-endpoints/{name}/invocations", {"dataframe_records": [ROW]}, **options)


def config_of(*models: str, shares: tuple[int, ...] = ()) -> dict[str, Any]:
    entities = [{"entity_name": model, "entity_version": "1", "name": model} for model in models]
    shares = shares or (100, *(0 for _ in models[1:]))
    routes = [{"served_entity_name": m, "traffic_percentage": share} for m, share in zip(models, shares, strict=True)]
    return {"served_entities": entities, "traffic_config": {"routes": routes}}


def process_exists(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(autouse=True)
def churn(serving: ServingServer) -> Iterator[dict[str, Any]]:
    """The endpoint `churn`, for tests that only look and ask; what else a test makes is deleted after it."""
    if serving.runtime.find("churn") is None:
        serving.create("churn", "churn")
    yield serving.get("churn")
    for endpoint in serving.service.list_endpoints(serving.admin):
        if endpoint.name != "churn":
            serving.service.delete_endpoint(serving.admin, endpoint.name)


def test_an_endpoint_comes_up_and_predicts(serving: ServingServer) -> None:
    endpoint = serving.get("churn")
    assert endpoint["state"] == {"ready": "READY", "config_update": "NOT_UPDATING"}
    answer = predict(serving, "churn")
    assert (answer.status, answer.json) == (200, {"predictions": [1]})
    assert answer.headers["served-model-name"] == "churn"


def test_an_endpoint_says_what_it_serves(serving: ServingServer) -> None:
    body = {
        "name": "told",
        "description": "for tests",
        "tags": [{"key": "team", "value": "ml"}],
        "config": {
            "served_models": [
                {
                    "model_name": "prod.ml.churn",
                    "model_version": "1",
                    "workload_size": "Medium",
                    "scale_to_zero_enabled": True,
                    "environment_vars": {"STAGE": "test"},
                }
            ]
        },
    }
    created = serving.call("POST", API, body)
    assert created.status == 200
    assert created.json["state"] == {"ready": "NOT_READY", "config_update": "IN_PROGRESS"}
    assert "config" not in created.json
    told = serving.settled("told")
    assert "pending_config" not in told
    assert told["tags"] == [{"key": "team", "value": "ml"}]
    assert (told["creator"], told["permission_level"]) == (serving.admin.name, "CAN_MANAGE")
    (entity,) = told["config"]["served_entities"]
    assert (entity["name"], entity["entity_name"], entity["entity_version"]) == ("churn-1", "prod.ml.churn", "1")
    assert (entity["workload_size"], entity["scale_to_zero_enabled"]) == ("Medium", True)
    assert entity["environment_vars"] == {"STAGE": "test"}
    assert entity["state"]["deployment"] == "DEPLOYMENT_READY"
    assert told["config"]["served_models"][0]["model_name"] == "prod.ml.churn"
    assert told["config"]["traffic_config"]["routes"][0]["traffic_percentage"] == 100
    listed = serving.call("GET", API).json["endpoints"]
    assert "told" in [endpoint["name"] for endpoint in listed]


def test_a_model_that_does_not_load_says_why_and_the_endpoint_stays(serving: ServingServer) -> None:
    failed = serving.create("never", "broken")
    assert failed["state"] == {"ready": "NOT_READY", "config_update": "UPDATE_FAILED"}
    state = failed["pending_config"]["served_entities"][0]["state"]
    assert state["deployment"] == "DEPLOYMENT_FAILED"
    assert "RuntimeError: the weights are missing" in state["deployment_state_message"]
    assert "load_context" in state["deployment_state_message"]
    assert str(serving.data_dir) not in state["deployment_state_message"]
    refused = predict(serving, "never")
    assert (refused.status, refused.json["error_code"]) == (400, "INVALID_STATE")
    logs = serving.call("GET", f"{API}/never/served-models/broken/build-logs").json["logs"]
    assert "Loading failed." in logs
    healed = serving.call("PUT", f"{API}/never/config", config_of("churn"))
    assert healed.status == 200, healed.body
    assert serving.settled("never")["state"]["ready"] == "READY"
    assert predict(serving, "never").json == {"predictions": [1]}


def test_an_update_that_fails_leaves_the_old_configuration_answering(serving: ServingServer) -> None:
    serving.create("steady", "churn")
    pid = serving.worker_pid("steady")
    assert serving.call("PUT", f"{API}/steady/config", config_of("churn_swapped", "broken")).status == 200
    endpoint = serving.settled("steady")
    assert endpoint["state"] == {"ready": "READY", "config_update": "UPDATE_FAILED"}
    assert endpoint["config"]["served_entities"][0]["entity_name"] == "churn"
    states = {e["name"]: e["state"]["deployment"] for e in endpoint["pending_config"]["served_entities"]}
    assert states["broken"] == "DEPLOYMENT_FAILED"
    assert states["churn_swapped"] in {"DEPLOYMENT_ABORTED", "DEPLOYMENT_READY", "DEPLOYMENT_CREATING"}
    assert predict(serving, "steady").json == {"predictions": [1]}
    assert serving.worker_pid("steady") == pid


def test_an_update_moves_traffic_without_losing_a_request(serving: ServingServer) -> None:
    serving.create("moving", "churn")
    old_pid = serving.worker_pid("moving")
    answers: list[Answer] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answers.append(predict(serving, "moving"))

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    assert serving.call("PUT", f"{API}/moving/config", config_of("churn_swapped")).status == 200
    endpoint = serving.settled("moving")
    after = predict(serving, "moving")
    stop.set()
    for asker in askers:
        asker.join()
    assert endpoint["config"]["config_version"] == 2
    assert (after.json, after.headers["served-model-name"]) == ({"predictions": [0]}, "churn_swapped")
    assert {answer.status for answer in answers} == {200}
    expected = {"churn": {"predictions": [1]}, "churn_swapped": {"predictions": [0]}}
    assert all(answer.json == expected[answer.headers["served-model-name"]] for answer in answers)
    wait_until(lambda: not process_exists(old_pid), what="the old worker being gone")


def test_one_update_at_a_time(serving: ServingServer) -> None:
    serving.create("busy", "churn", wait=False)
    second = serving.call("PUT", f"{API}/busy/config", config_of("churn_swapped"))
    assert (second.status, second.json["error_code"]) == (409, "ABORTED")
    assert serving.settled("busy")["config"]["served_entities"][0]["entity_name"] == "churn"


def test_a_change_of_traffic_alone_keeps_the_workers(serving: ServingServer) -> None:
    serving.create("split", "churn", "churn_swapped")
    pid = serving.worker_pid("split")
    assert predict(serving, "split").json == {"predictions": [1]}
    routes = config_of("churn", "churn_swapped", shares=(0, 100))["traffic_config"]
    assert serving.call("PUT", f"{API}/split/config", {"traffic_config": routes}).status == 200
    serving.settled("split", timeout_s=5)
    assert serving.worker_pid("split") == pid
    assert {predict(serving, "split").json["predictions"][0] for _ in range(20)} == {0}
    routes = config_of("churn", "churn_swapped", shares=(50, 50))["traffic_config"]
    assert serving.call("PUT", f"{API}/split/config", {"traffic_config": routes}).status == 200
    serving.settled("split", timeout_s=5)
    served = [predict(serving, "split").headers["served-model-name"] for _ in range(60)]
    assert 8 < served.count("churn") < 52  # 50 of 100: outside with a chance below one in a billion
    keyed = [predict(serving, "split", headers={"X-Routing-Key": f"user-{n}"}).headers for n in [*range(12)] * 3]
    chosen = [headers["served-model-name"] for headers in keyed]
    assert chosen[:12] == chosen[12:24] == chosen[24:], "a key always gets the same model"
    assert set(chosen) == {"churn", "churn_swapped"}
    direct = serving.call(
        "POST", "/serving-endpoints/split/served-models/churn_swapped/invocations", {"dataframe_records": [ROW]}
    )
    assert direct.json == {"predictions": [0]}


def test_a_deleted_endpoint_is_gone_with_its_worker(serving: ServingServer) -> None:
    serving.create("short", "churn")
    pid = serving.worker_pid("short")
    assert serving.call("DELETE", f"{API}/short").status == 200
    for answer in (serving.call("GET", f"{API}/short"), predict(serving, "short")):
        assert (answer.status, answer.json["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    wait_until(lambda: not process_exists(pid), what="the worker being gone")
    assert serving.create("short", "churn_swapped")["state"]["ready"] == "READY"
    assert predict(serving, "short").json == {"predictions": [0]}


def test_tags_are_set_and_removed(serving: ServingServer) -> None:
    serving.create("tagged", "churn", wait=False)
    add = [{"key": "a", "value": "1"}, {"key": "b"}]
    assert serving.call("PATCH", f"{API}/tagged/tags", {"add_tags": add}).json == {
        "tags": [{"key": "a", "value": "1"}, {"key": "b", "value": ""}]
    }
    changed = serving.call(
        "PATCH", f"{API}/tagged/tags", {"add_tags": [{"key": "b", "value": "2"}], "delete_tags": ["a"]}
    )
    assert changed.json == {"tags": [{"key": "b", "value": "2"}]}


def test_an_endpoint_is_its_owners(serving: ServingServer) -> None:
    serving.create("private", "churn", wait=False)
    token = serving.user("stranger@example.com")
    attempts: list[Callable[[], Answer]] = [
        lambda: serving.call("GET", f"{API}/private", token=token),
        lambda: serving.call("DELETE", f"{API}/private", token=token),
        lambda: serving.call("PUT", f"{API}/private/config", config_of("churn"), token=token),
        lambda: serving.call("PATCH", f"{API}/private/tags", {"delete_tags": []}, token=token),
        lambda: serving.call("GET", f"{API}/private/served-models/churn/logs", token=token),
        lambda: serving.call("GET", f"{API}/private/served-models/churn/build-logs", token=token),
        lambda: serving.call("GET", f"{API}/private/metrics", token=token),
        lambda: serving.call("GET", f"{API}/private/openapi", token=token),
        lambda: predict(serving, "private", token=token),
    ]
    for attempt in attempts:
        answer = attempt()
        assert (answer.status, answer.json["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
        assert answer.json["message"] in {"Endpoint 'private' does not exist."}
    assert serving.call("GET", API, token=token).json == {"endpoints": []}
    stolen = serving.call("POST", API, {"name": "theft", "config": config_of("churn")}, token=token)
    assert (stolen.status, stolen.json["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize(
    ("body", "status", "code", "said"),
    [
        ({"name": "a b", "config": config_of("churn")}, 400, "INVALID_PARAMETER_VALUE", "Endpoint name 'a b'"),
        ({"name": "../x", "config": config_of("churn")}, 400, "INVALID_PARAMETER_VALUE", "Endpoint name"),
        ({"name": "x" * 64, "config": config_of("churn")}, 400, "INVALID_PARAMETER_VALUE", "63 letters"),
        ({"name": "x"}, 400, "INVALID_PARAMETER_VALUE", "config is missing"),
        ({"name": "x", "config": {}}, 400, "INVALID_PARAMETER_VALUE", "1 to 10 served entities"),
        ({"name": "x", "config": config_of("nothing")}, 404, "RESOURCE_DOES_NOT_EXIST", "'nothing' does not exist"),
        ({"name": "x", "config": config_of("churn", "churn")}, 400, "INVALID_PARAMETER_VALUE", "Two served entities"),
        ({"name": "x", "config": config_of("churn", shares=(90,))}, 400, "INVALID_PARAMETER_VALUE", "90 %, not to 100"),
        (
            {"name": "x", "config": {"served_entities": [{"entity_name": "churn", "entity_version": 1.5}]}},
            400,
            "INVALID_PARAMETER_VALUE",
            "entity_version",
        ),
        (
            {
                "name": "x",
                "config": {
                    "served_entities": [
                        {
                            "entity_name": "churn",
                            "entity_version": "1",
                            "environment_vars": {"KEY": "{{secrets/scope/key}}"},
                        }
                    ]
                },
            },
            404,
            "RESOURCE_DOES_NOT_EXIST",
            "environment_vars: KEY: Secret scope 'scope' does not exist",
        ),
        (
            {"name": "x", "config": {"served_entities": [{"external_model": {"name": "gpt"}}]}},
            501,
            "NOT_IMPLEMENTED",
            "external_model is not supported",
        ),
        (
            {
                "name": "x",
                "config": {
                    "served_entities": [{"entity_name": "churn", "entity_version": "1", "workload_type": "CPU_LARGE"}]
                },
            },
            400,
            "INVALID_PARAMETER_VALUE",
            "workload_type 'CPU_LARGE', which is not known here; there are CPU, GPU_SMALL, GPU_MEDIUM, GPU_LARGE,",
        ),
    ],
)
def test_a_wrong_request_to_create_is_refused(
    serving: ServingServer, body: dict[str, Any], status: int, code: str, said: str
) -> None:
    answer = serving.call("POST", API, body)
    assert (answer.status, answer.json["error_code"]) == (status, code), answer.body
    assert said in answer.json["message"]


def test_a_name_is_taken_once(serving: ServingServer) -> None:
    again = serving.call("POST", API, {"name": "churn", "config": config_of("churn")})
    assert (again.status, again.json["error_code"]) == (409, "RESOURCE_ALREADY_EXISTS")
    assert again.json["message"] == "Endpoint 'churn' already exists."


def test_reports(serving: ServingServer) -> None:
    predict(serving, "churn")
    metrics = serving.call("GET", f"{API}/churn/metrics").body.decode()
    counted = {'endpoint="churn"', 'served_model="churn"', 'version="1"', 'status="200"'}
    requests = [line for line in metrics.splitlines() if line.startswith("millpond_serving_requests_total{")]
    assert any(all(label in line for label in counted) for line in requests)
    names = 'endpoint="churn",served_model="churn",version="1"'
    assert f"millpond_serving_replicas{{{names}}} 1.0" in metrics
    assert f"millpond_serving_waiting_requests{{{names}}} 0.0" in metrics
    one = 'endpoint="churn",replica="1",served_model="churn",version="1"'
    assert f"millpond_serving_replica_memory_bytes{{{one}}}" in metrics
    assert f"millpond_serving_replica_cpu_seconds_total{{{one}}}" in metrics
    assert "millpond_serving_request_seconds_bucket{" in metrics
    assert 'endpoint="split"' not in metrics
    document = serving.call("GET", f"{API}/churn/openapi").json
    shapes = document["paths"]["/serving-endpoints/churn/invocations"]["post"]["requestBody"]["content"]
    row = shapes["application/json"]["schema"]["oneOf"][0]["properties"]["dataframe_records"]["items"]
    assert row["properties"]["monthly_charges"] == {"type": "number", "format": "double"}
    assert "dataframe_split" in shapes["application/json"]["example"]
    build = serving.call("GET", f"{API}/churn/served-models/churn/build-logs").json["logs"]
    assert "2 requirements checked" in build
    assert "The model answered its own input example." in build
