"""Tag assignments and tag policies, as the Databricks SDK calls them."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from millpond.catalog.routes.unity import Who
from millpond.catalog.service import CatalogService
from millpond.catalog.tags import Tag
from millpond.catalog.wire import tags as wire
from millpond.catalog.wire.unity import items_json, page_json
from millpond.identity.domain import Principal
from millpond.kernel.errors import NotFound

_ASSIGNMENTS = "/api/2.1/unity-catalog/entity-tag-assignments"
_TAGS = _ASSIGNMENTS + "/{entity_type}/{entity_name:path}/tags"
_POLICIES = "/api/2.1/tag-policies"


def tags_router(catalog: CatalogService) -> APIRouter:
    """Everything about tags."""
    router = APIRouter()
    _add_assignments(router, catalog)
    _add_policies(router, catalog)
    return router


def _add_assignments(router: APIRouter, catalog: CatalogService) -> None:
    def shown(me: Principal, entity_type: str, entity_name: str, key: str) -> dict[str, Any]:
        return wire.assignment_json(entity_type, entity_name, _tag(catalog, me, entity_type, entity_name, key))

    @router.post(_ASSIGNMENTS)
    def create(me: Who, body: wire.AssignmentBody) -> dict[str, Any]:
        kind = wire.kind_of(body.entity_type)
        catalog.set_tags(me, kind, body.entity_name, {body.tag_key: body.tag_value}, only_new=True)
        return shown(me, body.entity_type, body.entity_name, body.tag_key)

    @router.get(_TAGS)
    def entries(me: Who, entity_type: str, entity_name: str) -> dict[str, Any]:
        found = catalog.tags_on(me, wire.kind_of(entity_type), entity_name)  # so few that they are one page
        return items_json(
            "tag_assignments", (wire.assignment_json(entity_type, entity_name, tag) for tag in found), None
        )

    @router.get(_TAGS + "/{tag_key:path}")
    def get(me: Who, entity_type: str, entity_name: str, tag_key: str) -> dict[str, Any]:
        return shown(me, entity_type, entity_name, tag_key)

    @router.patch(_TAGS + "/{tag_key:path}")
    def update(
        me: Who, entity_type: str, entity_name: str, tag_key: str, body: wire.AssignmentBody, update_mask: str = "*"
    ) -> dict[str, Any]:
        wire.masked(update_mask, "tag_value")
        _tag(catalog, me, entity_type, entity_name, tag_key)
        catalog.set_tags(me, wire.kind_of(entity_type), entity_name, {tag_key: body.tag_value})
        return shown(me, entity_type, entity_name, tag_key)

    @router.delete(_TAGS + "/{tag_key:path}")
    def delete(me: Who, entity_type: str, entity_name: str, tag_key: str) -> dict[str, Any]:
        catalog.unset_tags(me, wire.kind_of(entity_type), entity_name, [tag_key])
        return {}


def _tag(catalog: CatalogService, me: Principal, entity_type: str, entity_name: str, key: str) -> Tag:
    for tag in catalog.tags_on(me, wire.kind_of(entity_type), entity_name):
        if tag.key == key:
            return tag
    raise NotFound(f"Tag '{key[:80]}' of '{entity_name[:600]}' does not exist.")


def _add_policies(router: APIRouter, catalog: CatalogService) -> None:
    @router.get(_POLICIES)
    def entries(
        me: Who, page_size: Annotated[int | None, Query(ge=0)] = None, page_token: str | None = None
    ) -> dict[str, Any]:
        page = catalog.list_tag_policies(me, max_results=page_size, page_token=page_token)
        return page_json("tag_policies", page, wire.policy_json)

    @router.post(_POLICIES)
    def create(me: Who, body: wire.PolicyBody) -> dict[str, Any]:
        made = catalog.create_tag_policy(me, body.tag_key, description=body.description or "", values=body.names)
        return wire.policy_json(made)

    @router.get(_POLICIES + "/{tag_key:path}")
    def get(me: Who, tag_key: str) -> dict[str, Any]:
        return wire.policy_json(catalog.get_tag_policy(me, tag_key))

    @router.patch(_POLICIES + "/{tag_key:path}")
    def update(me: Who, tag_key: str, body: wire.PolicyBody, update_mask: str = "*") -> dict[str, Any]:
        fields = wire.masked(update_mask, "description", "values")
        changed = catalog.update_tag_policy(
            me,
            tag_key,
            description=(body.description or "") if "description" in fields else None,
            values=body.names if "values" in fields else None,
        )
        return wire.policy_json(changed)

    @router.delete(_POLICIES + "/{tag_key:path}")
    def delete(me: Who, tag_key: str) -> dict[str, Any]:
        catalog.delete_tag_policy(me, tag_key)
        return {}
