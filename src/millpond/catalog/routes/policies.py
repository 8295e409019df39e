"""Policies, as the Databricks SDK calls them (`w.policies`)."""

from typing import Any

from fastapi import APIRouter

from millpond.catalog.routes.unity import Who
from millpond.catalog.service import CatalogService
from millpond.catalog.wire import policies as wire
from millpond.catalog.wire.unity import items_json

_PATH = "/api/2.1/unity-catalog/policies"
_ON = _PATH + "/{on_securable_type}/{on_securable_fullname}"


def policies_router(catalog: CatalogService) -> APIRouter:
    """Everything about policies."""
    router = APIRouter()

    @router.post(_PATH)
    def create(me: Who, body: wire.PolicyBody) -> dict[str, Any]:
        kind, name = wire.kind_of(body.on_securable_type), body.on_securable_fullname or ""
        return wire.policy_json(catalog.create_policy(me, kind, name, wire.terms_of(body)))

    @router.get(_ON)
    def entries(
        me: Who, on_securable_type: str, on_securable_fullname: str, include_inherited: bool = False
    ) -> dict[str, Any]:
        kind = wire.kind_of(on_securable_type)
        found = catalog.list_policies(me, kind, on_securable_fullname, inherited=include_inherited)
        return items_json("policies", map(wire.policy_json, found), None)  # so few that they are one page

    @router.get(_ON + "/{name}")
    def get(me: Who, on_securable_type: str, on_securable_fullname: str, name: str) -> dict[str, Any]:
        kind = wire.kind_of(on_securable_type)
        return wire.policy_json(catalog.get_policy(me, kind, on_securable_fullname, name))

    @router.patch(_ON + "/{name}")
    def update(
        me: Who,
        on_securable_type: str,
        on_securable_fullname: str,
        name: str,
        body: wire.PolicyBody,
        update_mask: str = "*",
    ) -> dict[str, Any]:
        changed = catalog.update_policy(
            me,
            wire.kind_of(on_securable_type),
            on_securable_fullname,
            name,
            lambda terms: wire.changed(terms, body, update_mask),
        )
        return wire.policy_json(changed)

    @router.delete(_ON + "/{name}")
    def delete(me: Who, on_securable_type: str, on_securable_fullname: str, name: str) -> dict[str, Any]:
        catalog.delete_policy(me, wire.kind_of(on_securable_type), on_securable_fullname, name)
        return {}

    return router
