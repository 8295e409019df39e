"""From a table to what was trained on it and what serves it, told by the unmodified MLflow client and the SDK."""

import uuid
from typing import Any

import mlflow
import pandas as pd
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.serving import EndpointCoreConfigInput, ServedEntityInput
from mlflow.data.delta_dataset_source import DeltaDatasetSource

from tests.clients.mlflow_session import signed_in
from tests.servers import Server

pytestmark = pytest.mark.filterwarnings("ignore")  # the clients' warnings are not ours


def graph(server: Server, table: str, *, token: str | None = None) -> Any:
    """Kinds and names around a table."""
    status, body = server.call("GET", f"/api/millpond/lineage/graph?table_name={table}", token=token)
    assert status == 200, body
    return {(node["kind"], node["name"]) for node in body["nodes"]}


def test_a_table_leads_to_run_version_and_endpoint(any_server: Server) -> None:
    """Each under its name of now, for who may see it; impact says what to train again."""
    w = WorkspaceClient(host=any_server.url, token=any_server.token, auth_type="pat")
    tail = uuid.uuid4().hex[:8]
    schema = w.schemas.create(f"trained_{tail}", "main").full_name
    assert schema
    column = {"name": "a", "type_text": "int", "type_name": "INT", "position": 0}
    body = {"name": "t", "catalog_name": "main", "schema_name": schema.split(".")[1], "table_type": "MANAGED",
            "data_source_format": "DELTA", "columns": [column]}  # fmt: skip
    any_server.call("POST", "/api/2.1/unity-catalog/tables", body)
    with signed_in(any_server) as client, mlflow.start_run(run_name=f"train-{tail}") as run:
        source = DeltaDatasetSource(delta_table_name=f"{schema}.t", delta_table_version=3)
        mlflow.log_input(mlflow.data.from_pandas(pd.DataFrame({"a": [1]}), source=source), context="training")
        mlflow.log_text("weights", "model/notes.txt")
        client.create_registered_model(f"{schema}.m")
        client.create_model_version(f"{schema}.m", f"runs:/{run.info.run_id}/model", run.info.run_id)
        client.rename_registered_model(f"{schema}.m", f"{schema}.better")
    entity = ServedEntityInput(entity_name=f"{schema}.better", entity_version="1", name="m")
    w.serving_endpoints.create(f"e-{tail}", config=EndpointCoreConfigInput(name="", served_entities=[entity]))
    assert graph(any_server, f"{schema}.t") == {
        ("table", f"{schema}.t"), ("run", f"train-{tail}"), ("model_version", f"{schema}.better/1"),
        ("endpoint", f"e-{tail}"),
    }  # fmt: skip
    status, answer = any_server.call("GET", f"/api/millpond/lineage/impact?table_name={schema}.t&column_name=a")
    assert status == 200
    assert [(each["kind"], each["cause"]) for each in answer["affected"]] == [
        ("run", "possible"), ("model_version", "table"), ("endpoint", "table"),
    ]  # fmt: skip
    _others_see_what_they_may(any_server, w, schema, f"e-{tail}")


def _others_see_what_they_may(server: Server, w: WorkspaceClient, schema: str, endpoint: str) -> None:
    """The run in the shared experiment is everybody's to read; the model and the endpoint are not."""
    name = f"eve-{uuid.uuid4().hex[:8]}@example.com"
    token = server.new_user(name)
    for kind, full_name, privilege in (("catalog", "main", "USE_CATALOG"), ("schema", schema, "USE_SCHEMA"),
                                       ("table", f"{schema}.t", "SELECT")):  # fmt: skip
        change = {"changes": [{"principal": name, "add": [privilege]}]}
        status, body = server.call("PATCH", f"/api/2.1/unity-catalog/permissions/{kind}/{full_name}", change)
        assert status == 200, body
    assert {kind for kind, _ in graph(server, f"{schema}.t", token=token)} == {"table", "run"}
    w.serving_endpoints.delete(endpoint)
