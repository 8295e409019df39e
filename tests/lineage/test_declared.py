"""What clients declare: the SDK's external lineage, and OpenLineage events of the real client."""

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import NotFound, PermissionDenied, ResourceAlreadyExists
from databricks.sdk.service.catalog import (
    ColumnRelationship,
    CreateRequestExternalLineage,
    DeleteRequestExternalLineage,
    ExternalLineageExternalMetadata,
    ExternalLineageObject,
    ExternalLineageTable,
    ExternalMetadata,
    LineageDirection,
    SystemType,
    UpdateRequestExternalLineage,
)
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import column_lineage_dataset
from openlineage.client.transport.http import ApiKeyTokenProvider, HttpConfig, HttpTransport

from millpond.kernel.database import Database
from millpond.kernel.settings import LineageSettings
from millpond.lineage.emission import Emitter
from millpond.lineage.service import record_in
from tests.lineage.observations import inserted
from tests.servers import Server


@dataclass(frozen=True, kw_only=True)
class World:
    """A schema with two tables, the SDK as the administrator, and a user."""

    server: Server
    w: WorkspaceClient
    schema: str
    user: str
    user_token: str

    def client(self) -> WorkspaceClient:
        """The SDK as the user."""
        return WorkspaceClient(host=self.server.url, token=self.user_token, auth_type="pat")

    def table(self, name: str) -> ExternalLineageObject:
        """A table as an end of a relation."""
        return ExternalLineageObject(table=ExternalLineageTable(name=f"{self.schema}.{name}"))

    def send(self, event: RunEvent, *, token: str | None = None) -> None:
        """An event by the OpenLineage client's own HTTP transport."""
        key = ApiKeyTokenProvider({"apiKey": token or self.server.token})
        with_key = HttpConfig(url=self.server.url, auth=key, retry={"total": 0})
        OpenLineageClient(transport=HttpTransport(with_key)).emit(event)

    def lineage(self, name: str, *, token: str | None = None) -> Any:
        """Table lineage of a table."""
        path = f"/api/2.0/lineage-tracking/table-lineage?table_name={self.schema}.{name}"
        status, body = self.server.call("GET", path, token=token)
        assert status == 200, body
        return body


@pytest.fixture(scope="module")
def world(server: Server) -> World:
    """Made over REST, without Spark."""
    w = WorkspaceClient(host=server.url, token=server.token, auth_type="pat")
    schema = w.schemas.create(f"declared_{uuid.uuid4().hex[:8]}", "main").full_name
    assert schema
    for name in ("here", "there"):
        column = {"name": "a", "type_text": "int", "type_name": "INT", "position": 0}
        body = {"name": name, "catalog_name": "main", "schema_name": schema.split(".")[1], "table_type": "MANAGED",
                "data_source_format": "DELTA", "columns": [column]}  # fmt: skip
        status, made = server.call("POST", "/api/2.1/unity-catalog/tables", body)
        assert status == 200, made
    user = f"eve-{uuid.uuid4().hex[:8]}@example.com"
    return World(server=server, w=w, schema=schema, user=user, user_token=server.new_user(user))


def described(world: World, **changes: Any) -> ExternalMetadata:
    name = f"dash-{uuid.uuid4().hex[:8]}"
    made = ExternalMetadata(name=name, system_type=SystemType.TABLEAU, entity_type="Dashboard", columns=["x"],
                            url="https://bi.example.com/d/1", **changes)  # fmt: skip
    return world.w.external_metadata.create_external_metadata(made)


def external(found: ExternalMetadata) -> ExternalLineageObject:
    return ExternalLineageObject(external_metadata=ExternalLineageExternalMetadata(name=found.name))


def test_external_metadata_is_made_by_whom_the_metastore_lets(world: World) -> None:
    """CREATE EXTERNAL METADATA, granted and revoked as any privilege; who made it owns it."""
    made = ExternalMetadata(name=f"of-{uuid.uuid4().hex[:8]}", system_type=SystemType.TABLEAU, entity_type="Dashboard")
    with pytest.raises(PermissionDenied, match="CREATE EXTERNAL METADATA"):
        world.client().external_metadata.create_external_metadata(made)
    for verb, preposition in (("GRANT", "TO"), ("REVOKE", "FROM")):
        text = f"{verb} CREATE EXTERNAL METADATA ON METASTORE {preposition} `{world.user}`"
        done = world.w.statement_execution.execute_statement(text, "starter", wait_timeout="50s")
        assert done.status is not None
        assert done.status.error is None, done.status
        if verb == "GRANT":
            assert world.client().external_metadata.create_external_metadata(made).owner == world.user
    with pytest.raises(PermissionDenied):
        world.client().external_metadata.create_external_metadata(made)
    world.client().external_metadata.delete_external_metadata(made.name)


def test_external_metadata_through_the_sdk(world: World) -> None:
    """Made by administrators, seen by all, changed by its owner."""
    made = described(world, description="Sales")
    found = world.client().external_metadata.get_external_metadata(made.name)
    assert (found.system_type, found.entity_type, found.columns) == (SystemType.TABLEAU, "Dashboard", ["x"])
    assert (found.owner, found.description, found.id) == (world.server.user, "Sales", made.id)
    with pytest.raises(ResourceAlreadyExists):
        world.w.external_metadata.create_external_metadata(found)
    with pytest.raises(PermissionDenied):
        world.client().external_metadata.create_external_metadata(found)
    with pytest.raises(PermissionDenied):
        world.client().external_metadata.delete_external_metadata(made.name)
    changed = ExternalMetadata(name=made.name, system_type=SystemType.TABLEAU, entity_type="x", owner=world.user)
    world.w.external_metadata.update_external_metadata(made.name, changed, "owner")
    assert made.name in {each.name for each in world.w.external_metadata.list_external_metadata(page_size=1)}
    world.client().external_metadata.delete_external_metadata(made.name)
    with pytest.raises(NotFound):
        world.w.external_metadata.get_external_metadata(made.name)


def test_external_lineage_through_the_sdk(world: World) -> None:
    """From a table to a dashboard and back, with columns, to its end."""
    made = described(world)
    ends = {"source": world.table("here"), "target": external(made)}
    pairs = [ColumnRelationship(source="a", target="x")]
    created = world.w.external_lineage.create_external_lineage_relationship(
        CreateRequestExternalLineage(**ends, columns=pairs, properties={"by": "hand"})
    )
    down, up = LineageDirection.DOWNSTREAM, LineageDirection.UPSTREAM
    (found,) = world.w.external_lineage.list_external_lineage_relationships(world.table("here"), down)
    assert found.external_metadata_info
    assert found.external_lineage_info
    assert found.external_metadata_info.name == made.name
    assert found.external_lineage_info.id == created.id
    assert found.external_lineage_info.columns == pairs
    assert found.external_lineage_info.properties == {"by": "hand"}
    (found,) = world.w.external_lineage.list_external_lineage_relationships(external(made), up)
    assert found.table_info
    assert found.table_info.name == "here"
    assert list(world.client().external_lineage.list_external_lineage_relationships(external(made), up)) == []
    assert [each["externalMetadataInfo"]["name"] for each in world.lineage("here")["downstreams"]] == [made.name]
    world.w.external_lineage.update_external_lineage_relationship(
        UpdateRequestExternalLineage(**ends, columns=[]), "columns"
    )
    (found,) = world.w.external_lineage.list_external_lineage_relationships(external(made), up)
    assert found.external_lineage_info
    assert not found.external_lineage_info.columns
    world.w.external_lineage.delete_external_lineage_relationship(DeleteRequestExternalLineage(**ends))
    assert list(world.w.external_lineage.list_external_lineage_relationships(external(made), up)) == []
    with pytest.raises(NotFound):
        world.w.external_lineage.delete_external_lineage_relationship(DeleteRequestExternalLineage(**ends))


def test_nobody_declares_lineage_of_what_they_may_not_change(world: World) -> None:
    """Neither does a refusal say that a table is there."""
    made = described(world)
    for ends in ({"source": external(made), "target": world.table("here")},
                 {"source": world.table("here"), "target": external(made)}):  # fmt: skip
        with pytest.raises(NotFound):
            world.client().external_lineage.create_external_lineage_relationship(CreateRequestExternalLineage(**ends))


def run_event(world: World, run: str, state: RunState, **data: Any) -> RunEvent:
    return RunEvent(eventType=state, eventTime=datetime.now(UTC).isoformat(), run=Run(runId=run),
                    job=Job(namespace="airflow", name="dag.task"), producer="https://example.com", **data)  # fmt: skip


def test_openlineage_events_of_the_real_client(world: World) -> None:
    """Inputs at the start and outputs at the end make one run; what is no table here is a data set outside."""
    field = column_lineage_dataset.InputField(namespace="postgres://crm:5432", name="crm.public.people", field="id")
    fields = {"a": column_lineage_dataset.Fields(inputFields=[field])}
    facet = column_lineage_dataset.ColumnLineageDatasetFacet(fields=fields)
    inputs = [InputDataset(namespace="postgres://crm:5432", name="crm.public.people"),
              InputDataset(namespace="millpond", name=f"{world.schema}.here")]  # fmt: skip
    outputs = [OutputDataset(namespace="millpond", name=f"{world.schema}.there", facets={"columnLineage": facet})]
    run = str(uuid.uuid4())
    world.send(run_event(world, run, RunState.START, inputs=inputs))
    world.send(run_event(world, run, RunState.COMPLETE, outputs=outputs))
    found = world.lineage("there")["upstreams"]
    assert {each.get("tableInfo", each.get("datasetInfo"))["name"] for each in found} == {
        "here", "postgres://crm:5432/crm.public.people",
    }  # fmt: skip
    assert {each.get("tableInfo", each.get("datasetInfo"))["how_known"] for each in found} == {"declared"}
    path = f"/api/2.0/lineage-tracking/column-lineage?table_name={world.schema}.there&column_name=a"
    (column,) = world.server.call("GET", path)[1]["upstream_cols"]
    assert (column["path"], column["name"]) == ("postgres://crm:5432/crm.public.people", "id")


def test_openlineage_shows_and_touches_nothing_hidden(world: World) -> None:
    """For whoever may not see a table, its name is that of something outside."""
    outputs = [OutputDataset(namespace="millpond", name=f"{world.schema}.here")]
    inputs = [InputDataset(namespace="x", name=f"evil-{world.user}")]
    event = run_event(world, str(uuid.uuid4()), RunState.COMPLETE, inputs=inputs, outputs=outputs)
    world.send(event, token=world.user_token)
    assert world.user not in json.dumps(world.lineage("here"))


def test_events_that_are_none_are_refused(world: World) -> None:
    """With what is wrong."""
    status, body = world.server.call("POST", "/api/v1/lineage", {"inputs": [{"name": "x"}]})
    assert (status, body["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert "eventTime" in body["message"]


def test_events_go_out_once_a_place_is_set(database: Database, tmp_path: Path) -> None:
    """As lines of JSON, with columns, from then on, and each once more only after a failure."""
    settings = LineageSettings(openlineage_file=tmp_path / "events.jsonl")
    emitter = Emitter(database, settings)
    with database.write() as connection:
        record_in(connection, [inserted("before", "main.s.a", "main.s.b")])
    emitter.run_once()
    with database.write() as connection:
        record_in(connection, [inserted("after", "main.s.a", "main.s.b", columns=[("x", "y")])])
    emitter.run_once()
    emitter.run_once()
    (event,) = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert event["inputs"] == [{"namespace": "millpond", "name": "main.s.a"}]
    (output,) = event["outputs"]
    fields = output["facets"]["columnLineage"]["fields"]
    assert fields == {"y": {"inputFields": [{"namespace": "millpond", "name": "main.s.a", "field": "x"}]}}
    assert uuid.UUID(event["run"]["runId"])
