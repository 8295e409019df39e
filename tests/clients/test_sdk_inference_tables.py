"""The official databricks-sdk turns inference tables on; what PySpark reads of them is what was asked and answered."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from databricks.sdk.errors import BadRequest, NotFound, PermissionDenied
from databricks.sdk.service.catalog import PermissionsChange, Privilege
from databricks.sdk.service.serving import AutoCaptureConfigInput, EndpointCoreConfigInput
from pyspark.sql import SparkSession

from tests.clients.gated import put_policy
from tests.clients.test_sdk_serving import PATIENCE, RECORDS, Registered, config_of, register_models, sdk_of
from tests.servers import Server, run_cli, wait_until

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]
SOON_S = 20
"""Rows come within 10 s; the machine of the tests has other work."""


@dataclass(frozen=True, kw_only=True)
class Captured:
    """An endpoint with an inference table."""

    registered: Registered
    endpoint: str
    schema: str
    spark: SparkSession

    @property
    def server(self) -> Server:
        """Where it is."""
        return self.registered.server

    def ask(self, body: Any = None, **headers: str) -> requests.Response:
        """A request as curl makes it."""
        url = f"{self.server.url}/serving-endpoints/{self.endpoint}/invocations"
        headers = {"Authorization": f"Bearer {self.server.token}", **headers}
        return requests.post(url, json=body or {"dataframe_records": RECORDS}, headers=headers, timeout=60)

    def rows(self, suffix: str = "", where: str = "true") -> list[Any]:
        """Of the table or one of its views."""
        return self.spark.sql(f"SELECT * FROM main.{self.schema}.churn_payload{suffix} WHERE {where}").collect()

    def row(self, request_id: str, suffix: str = "") -> Any:
        """The row of a request, once it is there."""
        where = f"databricks_request_id = '{request_id}'"
        return wait_until(lambda: self.rows(suffix, where), timeout_s=SOON_S, what="the row")[0]


def captured_config(registered: Registered, **capture: Any) -> EndpointCoreConfigInput:
    config = config_of(registered.name, "1")
    config.auto_capture_config = AutoCaptureConfigInput(**capture)
    return config


@pytest.fixture(scope="module")
def captured(any_server: Server) -> Iterator[Captured]:
    registered = register_models(any_server)
    schema, name = registered.name.split(".")[1], f"captured-{uuid.uuid4().hex[:8]}"
    config = captured_config(registered, catalog_name="main", schema_name=schema, table_name_prefix="churn")
    registered.sdk.serving_endpoints.create_and_wait(name, config=config, timeout=PATIENCE)
    spark = SparkSession.builder.remote(any_server.spark_remote).create()
    yield Captured(registered=registered, endpoint=name, schema=schema, spark=spark)
    spark.stop()
    registered.sdk.serving_endpoints.delete(name)


def test_the_configuration_tells_of_the_table_and_its_state(captured: Captured) -> None:
    found = captured.registered.sdk.serving_endpoints.get(captured.endpoint).config.auto_capture_config
    assert (found.catalog_name, found.schema_name, found.table_name_prefix) == ("main", captured.schema, "churn")
    table = found.state.payload_table
    assert (table.name, table.status) == (f"main.{captured.schema}.churn_payload", "ACTIVE")
    assert captured.registered.sdk.tables.get(table.name).owner == captured.server.user


def test_each_request_has_its_row_whatever_became_of_it(captured: Captured) -> None:
    good = captured.ask(**{"X-Client-Request-Id": "mine"})
    row = captured.row(good.headers["x-request-id"])
    assert (row.status_code, row.response, row.client_request_id) == (200, good.text, "mine")
    assert (row.sampling_fraction, row.request_metadata["model_version"]) == (1.0, "1")
    assert (row.served_entity_name, row.route, row.requester) == ("v1", "traffic", captured.server.user)
    assert row.predictions == ["1", "0", "1", "0"]
    assert 0 < row.model_ms <= row.total_ms
    bad = captured.ask({"dataframe_records": [{"tenure": 1.0}], "client_request_id": "in the body"})
    row = captured.row(bad.headers["x-request-id"])
    assert (row.status_code, row.response, row.client_request_id) == (400, bad.text, "in the body")
    assert row.predictions is None


def test_the_unpacked_view_has_the_signatures_types(captured: Captured) -> None:
    asked = captured.ask().headers["x-request-id"]
    captured.row(asked)
    view = f"main.{captured.schema}.churn_payload_labelled"
    wait_until(lambda: captured.spark.catalog.tableExists(view), timeout_s=SOON_S, what="the views")
    unpacked = captured.spark.table(f"main.{captured.schema}.churn_payload_unpacked")
    assert {"tenure": "double", "charges": "double", "prediction": "bigint"}.items() <= dict(unpacked.dtypes).items()
    rows = sorted(captured.rows("_unpacked", f"databricks_request_id = '{asked}'"), key=lambda each: each.row_index)
    assert [(each.tenure, each.charges) for each in rows] == [(each["tenure"], each["charges"]) for each in RECORDS]
    assert [each.prediction for each in rows] == [1, 0, 1, 0]


def test_labels_join_their_predictions_and_who_may_not_write_them_does_not(captured: Captured) -> None:
    asked = captured.ask().headers["x-request-id"]
    path = f"/api/millpond/serving-endpoints/{captured.endpoint}/labels"
    body = {"labels": [{"databricks_request_id": asked, "row_index": 1, "label": 1}]}
    for _ in range(2):  # a client repeats what it got no answer to
        assert captured.server.call("POST", path, body) == (200, {"accepted": 1})
    captured.row(asked, "_labels")
    rows = {each.row_index: each.label for each in captured.rows("_labelled", f"databricks_request_id = '{asked}'")}
    assert rows == {0: None, 1: 1, 2: None, 3: None}
    status, answer = captured.server.call("POST", path, {"labels": [{"databricks_request_id": "x'y", "label": 1}]})
    assert (status, "is no id of a request" in answer["message"]) == (400, True)

    name = f"labeller-{uuid.uuid4().hex[:8]}@example.com"
    token, sdk = captured.server.new_user(name), captured.registered.sdk
    assert captured.server.call("POST", path, body, token=token)[0] == 404
    sdk.api_client.do(
        "PATCH",
        f"/api/2.0/permissions/serving-endpoints/{sdk.serving_endpoints.get(captured.endpoint).id}",
        body={"access_control_list": [{"user_name": name, "permission_level": "CAN_QUERY"}]},
    )
    assert captured.server.call("POST", path, body, token=token)[0] == 404, "the table of labels is none of theirs"
    schema, labels = f"main.{captured.schema}", f"main.{captured.schema}.churn_payload_labels"
    for kind, full, rights in (
        ("catalog", "main", [Privilege.USE_CATALOG]),
        ("schema", schema, [Privilege.USE_SCHEMA]),
        ("table", labels, [Privilege.SELECT]),
    ):
        sdk.grants.update(kind, full, changes=[PermissionsChange(principal=name, add=rights)])
    assert captured.server.call("POST", path, body, token=token)[0] == 403
    sdk.grants.update("table", labels, changes=[PermissionsChange(principal=name, add=[Privilege.MODIFY])])
    assert captured.server.call("POST", path, body, token=token)[0] == 200


def test_a_prediction_leads_to_its_model_and_run(captured: Captured) -> None:
    asked = captured.ask().headers["x-request-id"]
    captured.row(asked)
    path = f"/api/millpond/serving-endpoints/{captured.endpoint}/predictions/{asked}"
    status, found = captured.server.call("GET", path)
    assert status == 200, found
    version = captured.registered.sdk.model_versions.get(captured.registered.name, 1)
    kinds = {each["kind"]: each for each in found["upstream"]}
    assert kinds["model_version"]["name"] == f"{captured.registered.name}/1"
    assert kinds["run"]["key"] == version.run_id
    told = run_cli(
        "predictions", "explain", captured.endpoint, asked, "--data-dir", str(captured.server.data_dir)
    ).stdout
    assert f"model {captured.registered.name} version 1, as served entity v1" in told
    assert '{"tenure":1.0,"charges":90.0} -> 1' in told
    nobody = captured.server.new_user(f"nobody-{uuid.uuid4().hex[:8]}@example.com")
    assert captured.server.call("GET", path, token=nobody)[0] == 404
    status, lineage = captured.server.call(
        "GET", f"/api/millpond/lineage/graph?table_name=main.{captured.schema}.churn_payload"
    )
    assert status == 200
    assert captured.endpoint in str(lineage), "the endpoint is upstream of its table"


def test_recorded_requests_are_answered_by_another_version_and_a_gate_asks_for_it(captured: Captured) -> None:
    registered, server = captured.registered, captured.server
    policy = f"targets: [alias:prod]\nchecks: [{{traffic_replay: {{endpoint: {captured.endpoint}, requests: 2}}}}]"
    put_policy(server, "model", registered.name, policy)
    for body in (None, {"dataframe_records": [{"tenure": 1.0}]}, None):
        last = captured.ask(body).headers["x-request-id"]
    captured.row(last)
    run = ["endpoint", "replay", captured.endpoint, "2", "--requests", "3", "--data-dir", str(server.data_dir)]
    with pytest.raises(Exception, match="has not answered 2 recorded requests of endpoint"):
        registered.sdk.registered_models.set_alias(registered.name, "prod", 2)
    told = run_cli(*run, "--max-different", "0.1", check=False)
    assert told.returncode == 1, told.stderr
    assert "8 of 8 predictions differ." in told.stdout
    assert "1 fails as before" in told.stdout
    assert "1 -> 0: 4" in told.stdout
    with pytest.raises(Exception, match="8 of 8 predictions differ"):
        registered.sdk.registered_models.set_alias(registered.name, "prod", 2)
    own = json.loads(run_cli(*[*run[:3], "1", *run[4:]], "--json").stdout)
    assert (own["state"], own["done"], own["total"]) == ("done", 3, 3)
    assert (own["report"]["rows"], own["report"]["different"], own["report"]["versions"]) == (8, 0, {"1": 3})
    assert own["report"]["new_ms"]["p50"] > 0
    registered.sdk.registered_models.set_alias(registered.name, "prod", 1)

    paths = f"/api/millpond/serving-endpoints/{captured.endpoint}/replays"
    name = f"looker-{uuid.uuid4().hex[:8]}@example.com"
    token = server.new_user(name)
    assert server.call("POST", paths, {"entity_version": "2"}, token=token)[0] == 404
    endpoint_id = registered.sdk.serving_endpoints.get(captured.endpoint).id
    levels = {"access_control_list": [{"user_name": name, "permission_level": "CAN_MANAGE"}]}
    registered.sdk.api_client.do("PATCH", f"/api/2.0/permissions/serving-endpoints/{endpoint_id}", body=levels)
    status, answer = server.call("POST", paths, {"entity_version": "2"}, token=token)
    assert (status, answer["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST"), (
        "neither the model nor the table is theirs"
    )
    status, seen = server.call("GET", f"{paths}/{own['id']}", token=token)
    assert (status, seen["replay"]["has_values"], "examples" in seen["replay"]["report"]) == (200, False, False)
    for wrong, said in (({"requests": 0}, "give 1 to"), ({"served_entity": "a'b"}, "no name"), ({"x": 1}, "x")):
        status, answer = server.call("POST", paths, {"entity_version": "2"} | wrong)
        assert (status, said in answer["message"]) == (400, True)
    assert server.call("POST", f"{paths}/{own['id']}/cancel", {})[0] == 400

    broken, waits = (server.call("POST", paths, {"entity_version": version})[1]["replay"] for version in "32")
    status, cancelled = server.call("POST", f"{paths}/{waits['id']}/cancel", {})
    assert (status, cancelled["replay"]["state"]) == (200, "cancelled")

    def ended() -> Any:
        found = server.call("GET", f"{paths}/{broken['id']}")[1]["replay"]
        return found if found["state"] not in ("queued", "running") else None

    failed = wait_until(ended, timeout_s=120, what="the end of the replay")
    assert (failed["state"], "the weights are missing" in failed["message"]) == ("error", True)
    assert server.call("GET", f"{paths}/{waits['id']}")[1]["replay"]["state"] == "cancelled"


def test_it_is_turned_off_and_on_and_not_moved_while_it_is_on(captured: Captured) -> None:
    sdk = captured.registered.sdk.serving_endpoints
    with pytest.raises(BadRequest, match="cannot be changed while it is enabled"):
        sdk.update_config(captured.endpoint, auto_capture_config=AutoCaptureConfigInput(schema_name="default"))
    off = AutoCaptureConfigInput(enabled=False)
    found = sdk.update_config_and_wait(captured.endpoint, auto_capture_config=off, timeout=PATIENCE)
    assert found.config.auto_capture_config.enabled is False
    assert [each.entity_version for each in found.config.served_entities] == ["1"], "all else stays"
    unseen = captured.ask().headers["x-request-id"]
    on = AutoCaptureConfigInput(enabled=True)
    assert sdk.update_config_and_wait(captured.endpoint, auto_capture_config=on, timeout=PATIENCE)
    seen = captured.ask().headers["x-request-id"]
    captured.row(seen)
    assert captured.rows(where=f"databricks_request_id = '{unseen}'") == []


def test_who_may_not_make_tables_there_gets_no_endpoint(captured: Captured) -> None:
    name = f"stranger-{uuid.uuid4().hex[:8]}@example.com"
    stranger = sdk_of(captured.server, captured.server.new_user(name))
    captured.registered.sdk.grants.update(
        "catalog", "main", changes=[PermissionsChange(principal=name, add=[Privilege.USE_CATALOG])]
    )
    grants = [Privilege.USE_SCHEMA, Privilege.EXECUTE]
    captured.registered.sdk.grants.update(
        "schema", f"main.{captured.schema}", changes=[PermissionsChange(principal=name, add=grants)]
    )
    config = captured_config(captured.registered, catalog_name="main", schema_name=captured.schema)
    with pytest.raises((PermissionDenied, NotFound), match="CREATE TABLE"):
        stranger.serving_endpoints.create(f"e-{uuid.uuid4().hex[:8]}", config=config)
    config.auto_capture_config.table_name_prefix = "churn"
    with pytest.raises((PermissionDenied, NotFound), match="churn_payload"):
        stranger.serving_endpoints.create(f"e-{uuid.uuid4().hex[:8]}", config=config)
