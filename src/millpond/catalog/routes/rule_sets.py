"""Rule sets of tag policies, as the SDK's access control proxy calls them for the workspace or an account."""

from typing import Any

from fastapi import APIRouter

from millpond.catalog.routes.unity import Who
from millpond.catalog.service import CatalogService
from millpond.catalog.wire import rule_sets as wire
from millpond.identity.domain import Principal
from millpond.kernel.errors import Conflict

_PATHS = ("/api/2.0/preview/accounts/access-control", "/api/2.0/preview/accounts/{account_id}/access-control")


def rule_sets_router(catalog: CatalogService) -> APIRouter:
    """Who may assign and manage which governed tag."""
    router = APIRouter()

    def shown(me: Principal, name: str) -> dict[str, Any]:
        return wire.rule_set_json(name, catalog.grants.granted(me, catalog.tag_policy_finding(wire.policy_id_of(name))))

    def get(me: Who, name: str) -> dict[str, Any]:
        return shown(me, name)

    def update(me: Who, body: wire.UpdateRuleSet) -> dict[str, Any]:
        if body.rule_set.etag and body.rule_set.etag != shown(me, body.name)["etag"]:
            raise Conflict(f"The rule set '{body.name[:200]}' has changed; read it again.")
        wanted = [change for rule in body.rule_set.grant_rules for change in rule.changes]
        catalog.grants.replace(me, catalog.tag_policy_finding(wire.policy_id_of(body.name)), wanted)
        return shown(me, body.name)

    def roles(me: Who, resource: str) -> dict[str, Any]:
        shown(me, resource)
        return {"roles": [{"name": role} for role in wire.ROLES]}

    for path in _PATHS:
        router.get(path + "/rule-sets")(get)
        router.put(path + "/rule-sets")(update)
        router.get(path + "/assignable-roles")(roles)
    return router
