"""Clusters, policies and pools as objects with permission levels."""

from millpond.compute import clusters, policies, pools
from millpond.identity.permissions import ObjectType


def permission_types() -> tuple[ObjectType, ...]:
    """The types of this room, by the ids of their objects."""
    return (
        ObjectType(path="clusters", name="cluster", kind="cluster", find=clusters.securable_of),
        ObjectType(path="cluster-policies", name="cluster-policy", kind="cluster policy", find=policies.securable_of),
        ObjectType(path="instance-pools", name="instance-pool", kind="instance pool", find=pools.securable_of),
    )
