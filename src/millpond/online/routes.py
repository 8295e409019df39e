"""The Databricks feature store API, and ours for reading."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from millpond.catalog.names import ObjectName
from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.identity.whole import Whole, WholeRoute
from millpond.kernel.asides import aside_unless
from millpond.kernel.errors import InvalidArgument
from millpond.online.reading import FEW_VALUES, OnlineTables
from millpond.online.service import OnlineService
from millpond.online.wire import PublishInput, StoreChange, StoreInput, read_input, rows_json, store_json, table_json

_API = "/api/2.0/feature-store"
_TABLES = "/api/millpond/online-tables"
_CHANGEABLE = ("capacity", "read_replica_count", "usage_policy_id")
_Me = Annotated[Principal, Depends(current_principal)]
_Size = Annotated[int | None, Query()]
_Token = Annotated[str | None, Query()]


def router(service: OnlineService, tables: OnlineTables) -> APIRouter:
    """All routes of the room."""
    routes = APIRouter()
    _add_stores(routes, service)
    _add_publishing(routes, service)
    _add_tables(routes, service, tables)
    return routes


def _add_stores(routes: APIRouter, service: OnlineService) -> None:
    @routes.post(_API + "/online-stores")
    def create(me: _Me, body: StoreInput) -> dict[str, Any]:
        made = service.create_store(
            me,
            body.name,
            body.capacity,
            read_replica_count=body.read_replica_count,
            usage_policy_id=body.usage_policy_id,
        )
        return store_json(made)

    @routes.get(_API + "/online-stores")
    def list_all(me: _Me, page_size: _Size = None, page_token: _Token = None) -> dict[str, Any]:
        page = service.list_stores(me, max_results=page_size, page_token=page_token)
        return {"online_stores": list(page.map(store_json).items), "next_page_token": page.next_page_token}

    @routes.get(_API + "/online-stores/{name}")
    def get(me: _Me, name: str) -> dict[str, Any]:
        return store_json(service.get_store(me, name))

    @routes.patch(_API + "/online-stores/{name}")
    def update(me: _Me, name: str, body: StoreChange, update_mask: str = "*") -> dict[str, Any]:
        wanted = _masked(update_mask)
        values = {key: value for key, value in body.model_dump(exclude_none=True).items() if key in wanted}
        return store_json(service.update_store(me, name, **values))

    @routes.delete(_API + "/online-stores/{name}")
    def delete(me: _Me, name: str) -> dict[str, Any]:
        service.delete_store(me, name)
        return {}


def _add_publishing(routes: APIRouter, service: OnlineService) -> None:
    @routes.post(_API + "/tables/{source_table_name}/publish")
    def publish(me: _Me, source_table_name: str, body: PublishInput) -> dict[str, Any]:
        spec = body.publish_spec
        made = service.publish(
            me,
            ObjectName.of_full_name(source_table_name),
            name=ObjectName.of_full_name(spec.online_table_name),
            store_name=spec.online_store,
            mode=spec.publish_mode,
        )
        return {"online_table_name": made.name, "pipeline_id": made.id}

    @routes.delete(_API + "/online-tables/{name}")
    def delete(me: _Me, name: str) -> dict[str, Any]:
        service.delete_table(me, ObjectName.of_full_name(name))
        return {}


def _add_tables(routes: APIRouter, service: OnlineService, tables: OnlineTables) -> None:
    @routes.get(_TABLES)
    def list_all(
        me: _Me, source_table_name: str | None = None, page_size: _Size = None, page_token: _Token = None
    ) -> dict[str, Any]:
        source = None if source_table_name is None else ObjectName.of_full_name(source_table_name)
        page = service.list_tables(me, source=source, max_results=page_size, page_token=page_token)
        return {"online_tables": [table_json(each) for each in page.items], "next_page_token": page.next_page_token}

    @routes.get(_TABLES + "/{name}")
    def get(me: _Me, name: str) -> dict[str, Any]:
        seen = service.get_table(me, ObjectName.of_full_name(name))
        return table_json(seen, service.news(seen))

    async def read(request: Whole) -> Response:
        me, name = current_principal(), str(ObjectName.of_full_name(request.path_params["name"]))
        asked = read_input(request.body)
        found = await tables.read(me, name, asked.keys, columns=asked.columns)
        body = await aside_unless(found.count <= FEW_VALUES, partial(rows_json, found))
        return Response(body, media_type="application/json")

    # FastAPI's dependencies and a thread would cost more than the read
    routes.routes.append(WholeRoute(_TABLES + "/{name}/read", read))


def _masked(mask: str) -> frozenset[str]:
    """The fields of an update mask. Raises InvalidArgument for one that cannot be changed."""
    given = [part.strip() for part in mask.split(",") if part.strip()]
    if "*" in given:
        return frozenset(_CHANGEABLE)
    if unknown := [part for part in given if part not in _CHANGEABLE]:
        raise InvalidArgument(f"update_mask names {unknown[0]!r:.80}; one of {', '.join(_CHANGEABLE)}, or *.")
    return frozenset(given)
