"""The Clusters API, 2.1 and 2.0, and the Libraries API."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from millpond.compute.domain import Cluster
from millpond.compute.services import ComputeServices
from millpond.compute.specs import shape_of
from millpond.compute.versions import VERSIONS
from millpond.compute.wire import (
    ClusterId,
    EventsInput,
    LibrariesInput,
    OwnerInput,
    UpdateInput,
    cluster_json,
    events_json,
    libraries_json,
    node_types_json,
)
from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.kernel.errors import InvalidArgument

_Me = Annotated[Principal, Depends(current_principal)]
_MOST_SHOWN = 100
_ORDERS = {"CLUSTER_NAME": lambda each: each.name.lower(), "DEFAULT": lambda each: ()}


def add(routes: APIRouter, services: ComputeServices) -> None:
    """Under both versions, whose bodies are the same."""
    for version in ("2.1", "2.0"):
        _add_lookups(routes, services, f"/api/{version}/clusters")
        _add_acts(routes, services, f"/api/{version}/clusters")
    _add_libraries(routes, services)


def _add_lookups(routes: APIRouter, services: ComputeServices, api: str) -> None:
    clusters = services.clusters

    def shown(cluster: Cluster) -> dict[str, Any]:
        try:
            shape = shape_of(cluster.spec, clusters.machine)
        except InvalidArgument:
            shape = None
        return cluster_json(cluster, shape)

    @routes.get(api + "/get")
    def get(me: _Me, cluster_id: str) -> dict[str, Any]:
        return shown(clusters.get(me, cluster_id))

    @routes.get(api + "/list")
    def list_all(
        me: _Me,
        page_size: int = Query(default=20, ge=0),
        page_token: str = "",
        states: Annotated[list[str] | None, Query(alias="filter_by.cluster_states")] = None,
        sources: Annotated[list[str] | None, Query(alias="filter_by.cluster_sources")] = None,
        is_pinned: Annotated[bool | None, Query(alias="filter_by.is_pinned")] = None,
        policy_id: Annotated[str | None, Query(alias="filter_by.policy_id")] = None,
        field: Annotated[str, Query(alias="sort_by.field")] = "DEFAULT",
        direction: Annotated[str, Query(alias="sort_by.direction")] = "ASC",
    ) -> dict[str, Any]:
        if page_token and not page_token.isdecimal():
            raise InvalidArgument("page_token is not one that this server gave; start again without it.")
        if field not in _ORDERS:
            raise InvalidArgument(f"sort_by.field is one of {', '.join(_ORDERS)}.")
        found = [
            each
            for each in clusters.list_all(me)
            if (not states or each.state in states)
            and (not sources or each.source in sources)
            and (is_pinned is None or each.pinned is is_pinned)
            and (policy_id is None or each.spec.get("policy_id") == policy_id)
        ]
        if field == "DEFAULT":  # what runs first
            found.sort(key=lambda each: (each.state.ended, not each.pinned))
        else:
            found.sort(key=_ORDERS[field], reverse=direction == "DESC")
        start, size = int(page_token or 0), min(page_size or 20, _MOST_SHOWN)
        told: dict[str, Any] = {"clusters": [shown(each) for each in found[start : start + size]]}
        if start + size < len(found):
            told["next_page_token"] = str(start + size)
        return told

    @routes.post(api + "/events")
    def events(me: _Me, body: EventsInput) -> dict[str, Any]:
        return events_json(body, *clusters.events(me, body.cluster_id, body.asked()))

    @routes.get(api + "/list-node-types")
    def node_types(_me: _Me) -> dict[str, Any]:
        return node_types_json(clusters.machine)

    @routes.get(api + "/list-zones")
    def zones(_me: _Me) -> dict[str, Any]:
        return {"zones": ["local"], "default_zone": "local"}

    @routes.get(api + "/spark-versions")
    def spark_versions(_me: _Me) -> dict[str, Any]:
        return {"versions": [{"key": each.key, "name": each.name} for each in VERSIONS.values()]}


def _add_acts(routes: APIRouter, services: ComputeServices, api: str) -> None:
    clusters, libraries = services.clusters, services.libraries

    @routes.post(api + "/create")
    def create(me: _Me, body: dict[str, Any]) -> dict[str, Any]:
        cluster = clusters.create(me, body)
        libraries.install_of_policy(cluster)
        return {"cluster_id": cluster.id}

    @routes.post(api + "/edit")
    def edit(me: _Me, body: dict[str, Any]) -> dict[str, Any]:
        clusters.edit(me, str(body.get("cluster_id")), body)
        return {}

    @routes.post(api + "/update")
    def update(me: _Me, body: UpdateInput) -> dict[str, Any]:
        fields = [field.strip() for field in body.update_mask.split(",") if field.strip()]
        clusters.edit(me, body.cluster_id, body.cluster, fields=fields)
        return {}

    @routes.post(api + "/start")
    def start(me: _Me, body: ClusterId) -> dict[str, Any]:
        clusters.start(me, body.cluster_id)
        return {}

    @routes.post(api + "/restart")
    def restart(me: _Me, body: ClusterId) -> dict[str, Any]:
        clusters.restart(me, body.cluster_id)
        return {}

    @routes.post(api + "/delete")
    def delete(me: _Me, body: ClusterId) -> dict[str, Any]:
        clusters.terminate(me, body.cluster_id)
        return {}

    @routes.post(api + "/permanent-delete")
    def permanent_delete(me: _Me, body: ClusterId) -> dict[str, Any]:
        clusters.remove(me, body.cluster_id)
        return {}

    @routes.post(api + "/resize")
    def resize(me: _Me, body: dict[str, Any]) -> dict[str, Any]:
        clusters.resize(me, str(body.get("cluster_id")), body)
        return {}

    @routes.post(api + "/pin")
    def pin(me: _Me, body: ClusterId) -> dict[str, Any]:
        clusters.pin(me, body.cluster_id, pinned=True)
        return {}

    @routes.post(api + "/unpin")
    def unpin(me: _Me, body: ClusterId) -> dict[str, Any]:
        clusters.pin(me, body.cluster_id, pinned=False)
        return {}

    @routes.post(api + "/change-owner")
    def change_owner(me: _Me, body: OwnerInput) -> dict[str, Any]:
        clusters.change_owner(me, body.cluster_id, body.owner_username)
        return {}


def _add_libraries(routes: APIRouter, services: ComputeServices) -> None:
    libraries, api = services.libraries, "/api/2.0/libraries"

    @routes.post(api + "/install")
    def install(me: _Me, body: LibrariesInput) -> dict[str, Any]:
        libraries.install(me, body.cluster_id, body.libraries)
        return {}

    @routes.post(api + "/uninstall")
    def uninstall(me: _Me, body: LibrariesInput) -> dict[str, Any]:
        libraries.uninstall(me, body.cluster_id, body.libraries)
        return {}

    @routes.get(api + "/cluster-status")
    def status(me: _Me, cluster_id: str) -> dict[str, Any]:
        return libraries_json(cluster_id, libraries.of_cluster(me, cluster_id))

    @routes.get(api + "/all-cluster-statuses")
    def statuses(me: _Me) -> dict[str, Any]:
        return {"statuses": [libraries_json(key, each) for key, each in libraries.of_all(me).items()]}
