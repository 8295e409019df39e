"""The APIs of cluster policies, policy families, compliance and instance pools."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from millpond.compute.families import FAMILIES
from millpond.compute.policies import family
from millpond.compute.services import ComputeServices
from millpond.compute.wire import (
    PolicyInput,
    PoolInput,
    compliance_json,
    family_json,
    policy_json,
    pool_json,
)
from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal

_Me = Annotated[Principal, Depends(current_principal)]
_POLICIES = "/api/2.0/policies/clusters"
_POOLS = "/api/2.0/instance-pools"


class _PolicyId(BaseModel):
    policy_id: str


class _PoolId(BaseModel):
    instance_pool_id: str


def add(routes: APIRouter, services: ComputeServices) -> None:
    """Policies, families, compliance, pools."""
    _add_policies(routes, services)
    _add_pools(routes, services)


def _add_policies(routes: APIRouter, services: ComputeServices) -> None:
    policies, clusters = services.policies, services.clusters

    @routes.post(_POLICIES + "/create")
    def create(me: _Me, body: PolicyInput) -> dict[str, Any]:
        return {"policy_id": policies.create(me, body.draft()).id}

    @routes.post(_POLICIES + "/edit")
    def edit(me: _Me, body: PolicyInput) -> dict[str, Any]:
        policies.edit(me, body.policy_id, body.draft())
        return {}

    @routes.post(_POLICIES + "/delete")
    def delete(me: _Me, body: _PolicyId) -> dict[str, Any]:
        policies.delete(me, body.policy_id)
        return {}

    @routes.get(_POLICIES + "/get")
    def get(me: _Me, policy_id: str) -> dict[str, Any]:
        return policy_json(policies.get(me, policy_id))

    @routes.get(_POLICIES + "/list")
    def list_all(me: _Me, sort_column: str = "POLICY_CREATION_TIME", sort_order: str = "DESC") -> dict[str, Any]:
        found = policies.list_all(me)
        if sort_column != "POLICY_NAME":
            found.sort(key=lambda each: each.created_at)
        return {"policies": [policy_json(each) for each in (found[::-1] if sort_order == "DESC" else found)]}

    @routes.get("/api/2.0/policy-families")
    def families(_me: _Me) -> dict[str, Any]:
        return {"policy_families": [family_json(each) for each in FAMILIES.values()]}

    @routes.get("/api/2.0/policy-families/{family_id}")
    def one_family(_me: _Me, family_id: str) -> dict[str, Any]:
        return family_json(family(family_id))

    @routes.get(_POLICIES + "/get-compliance")
    def compliance(me: _Me, cluster_id: str) -> dict[str, Any]:
        return compliance_json(cluster_id, clusters.compliance(me, cluster_id))

    @routes.get(_POLICIES + "/list-compliance")
    def compliances(me: _Me, policy_id: str) -> dict[str, Any]:
        policies.get(me, policy_id)
        found = clusters.of_policy(me, policy_id)
        return {"clusters": [compliance_json(each.id, clusters.compliance(me, each.id)) for each in found]}


def _add_pools(routes: APIRouter, services: ComputeServices) -> None:
    pools = services.pools

    @routes.post(_POOLS + "/create")
    def create(me: _Me, body: PoolInput) -> dict[str, Any]:
        return {"instance_pool_id": pools.create(me, body.draft()).id}

    @routes.post(_POOLS + "/edit")
    def edit(me: _Me, body: PoolInput) -> dict[str, Any]:
        pools.edit(me, body.instance_pool_id, body.draft())
        return {}

    @routes.post(_POOLS + "/delete")
    def delete(me: _Me, body: _PoolId) -> dict[str, Any]:
        pools.delete(me, body.instance_pool_id)
        return {}

    @routes.get(_POOLS + "/get")
    def get(me: _Me, instance_pool_id: str) -> dict[str, Any]:
        pool = pools.get(me, instance_pool_id)
        return pool_json(pool, pools.stats(pool))

    @routes.get(_POOLS + "/list")
    def list_all(me: _Me) -> dict[str, Any]:
        return {"instance_pools": [pool_json(each, pools.stats(each)) for each in pools.list_all(me)]}
