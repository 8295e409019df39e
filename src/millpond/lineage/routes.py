"""Routes of lineage: Databricks' tracking and external lineage, the graph, impact, and OpenLineage's events."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from millpond.catalog.domain import ObjectName
from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.kernel.errors import InvalidArgument
from millpond.kernel.http import read_json
from millpond.lineage import wire
from millpond.lineage.domain import Direction
from millpond.lineage.room import LineageRoom

_API = "/api/2.0/lineage-tracking"
_OURS = "/api/millpond/lineage"
_Me = Annotated[Principal, Depends(current_principal)]


async def _asked(request: Request) -> Mapping[str, Any]:
    """What a GET asks for, in its query or, as Databricks documents it, in a body."""
    return {**await read_json(request), **request.query_params}


_Asked = Annotated[Mapping[str, Any], Depends(_asked)]


def router(room: LineageRoom, *, workspace_id: int, metastore_id: str) -> APIRouter:
    """All of them."""
    routes = APIRouter()
    _add_tracking(routes, room, workspace_id)
    _add_metadata(routes, room, metastore_id)
    _add_relations(routes, room)
    _add_ours(routes, room)
    _add_openlineage(routes, room)
    return routes


def _add_tracking(routes: APIRouter, room: LineageRoom, workspace_id: int) -> None:
    @routes.get(f"{_API}/table-lineage")
    def table_lineage(me: _Me, asked: _Asked) -> dict[str, Any]:
        node = room.lineage.table_node(me, _table_of(asked))
        found = {direction: room.lineage.neighbours(me, node, direction) for direction in Direction}
        entities = _true(asked.get("include_entity_lineage"))
        return wire.table_lineage_json(found, workspace_id, room.lineage.jobs_of(me, node) if entities else None)

    @routes.get(f"{_API}/column-lineage")
    def column_lineage(me: _Me, asked: _Asked) -> dict[str, Any]:
        node = room.lineage.table_node(me, _table_of(asked))
        column = str(asked.get("column_name") or "")
        if column.lower() not in {name.lower() for name in node.columns}:
            raise InvalidArgument(f"Table '{node.name}' has no column '{column[:80]}'; give column_name.")
        found = {each: room.lineage.column_neighbours(me, node, column, each) for each in Direction}
        return wire.column_lineage_json(found, workspace_id)


def _add_metadata(routes: APIRouter, room: LineageRoom, metastore_id: str) -> None:
    @routes.post(f"{_API}/external-metadata")
    def create(me: _Me, body: wire.MetadataBody) -> dict[str, Any]:
        values = body.required()
        return wire.metadata_json(room.external.create(me, str(body.name), values), metastore_id)

    @routes.get(f"{_API}/external-metadata")
    def list_all(_: _Me, page_size: int | None = None, page_token: str | None = None) -> dict[str, Any]:
        page = room.external.list_all(max_results=page_size, page_token=page_token)
        found = [wire.metadata_json(each, metastore_id) for each in page.items]
        return {"external_metadata": found, "next_page_token": page.next_page_token}

    @routes.get(f"{_API}/external-metadata/{{name}}")
    def get(_: _Me, name: str) -> dict[str, Any]:
        return wire.metadata_json(room.external.get(name), metastore_id)

    @routes.patch(f"{_API}/external-metadata/{{name}}")
    def update(me: _Me, name: str, body: wire.MetadataBody, update_mask: str | None = None) -> dict[str, Any]:
        return wire.metadata_json(room.external.update(me, name, body.values(update_mask)), metastore_id)

    @routes.delete(f"{_API}/external-metadata/{{name}}")
    def delete(me: _Me, name: str) -> dict[str, Any]:
        room.external.delete(me, name)
        return {}


def _add_relations(routes: APIRouter, room: LineageRoom) -> None:
    def relate(me: Principal, body: wire.RelationBody, *, must_exist: bool) -> dict[str, Any]:
        source, target = body.source.reference(), body.target.reference()
        relation_id = room.external.relate(
            me, source, target, columns=body.pairs, details=body.details, must_exist=must_exist
        )
        return {**body.model_dump(exclude_none=True), "id": relation_id}

    @routes.post(f"{_API}/external-lineage")
    def create(me: _Me, body: wire.RelationBody) -> dict[str, Any]:
        return relate(me, body, must_exist=False)

    @routes.patch(f"{_API}/external-lineage")
    def update(me: _Me, body: wire.RelationBody) -> dict[str, Any]:
        return relate(me, body, must_exist=True)

    @routes.get(f"{_API}/external-lineage")
    def list_relations(me: _Me, request: Request, lineage_direction: str) -> dict[str, Any]:
        named = wire.object_of_query(request.query_params, "object_info").reference()
        direction = _direction(lineage_direction)
        found = room.external.relations(me, named, direction)
        return {"external_lineage_relationships": [wire.relation_json(each, direction) for each in found]}

    @routes.delete(f"{_API}/external-lineage")
    def delete(me: _Me, request: Request) -> dict[str, Any]:
        prefix = "external_lineage_relationship"
        ends = [wire.object_of_query(request.query_params, f"{prefix}.{end}") for end in ("source", "target")]
        room.external.unrelate(me, ends[0].reference(), ends[1].reference())
        return {}


def _add_ours(routes: APIRouter, room: LineageRoom) -> None:
    @routes.get(f"{_OURS}/graph")
    def graph(me: _Me, table_name: str, steps: int = 5, columns: bool = True) -> dict[str, Any]:
        node = room.lineage.table_node(me, ObjectName.of_full_name(table_name))
        return wire.graph_json(room.lineage.graph(me, node, steps=max(steps, 1), columns=columns))

    @routes.get(f"{_OURS}/impact")
    def impact(me: _Me, table_name: str, column_name: str = "") -> dict[str, Any]:
        node = room.lineage.table_node(me, ObjectName.of_full_name(table_name))
        if column_name and column_name.lower() not in {name.lower() for name in node.columns}:
            raise InvalidArgument(f"Table '{node.name}' has no column '{column_name[:80]}'.")
        return wire.impact_json(room.impact.of(me, node, column_name))


def _add_openlineage(routes: APIRouter, room: LineageRoom) -> None:
    @routes.post("/api/v1/lineage", status_code=201)
    @routes.post(f"{_OURS}/openlineage", status_code=201)
    async def take(me: _Me, request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool

        event = await read_json(request)
        await run_in_threadpool(room.openlineage.take, me, event)
        return Response(status_code=201)


def _table_of(asked: Mapping[str, Any]) -> ObjectName:
    name = str(asked.get("table_name") or "")
    if not name:
        raise InvalidArgument("Give table_name: catalog.schema.table.")
    return ObjectName.of_full_name(name)


def _direction(text: str) -> Direction:
    try:
        return Direction(text.lower())
    except ValueError as error:
        raise InvalidArgument(f"lineage_direction is UPSTREAM or DOWNSTREAM, not '{text[:40]}'.") from error


def _true(value: Any) -> bool:
    return str(value).lower() in {"true", "1"}
