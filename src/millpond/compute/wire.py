"""Clusters, policies, pools, contexts and libraries as the APIs write them.

Source: databricks-sdk 0.156, `databricks/sdk/service/compute.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from millpond.compute.clusters import EventsAsked
from millpond.compute.domain import Cluster, Command, Context, Event, Library, Policy, Pool, State
from millpond.compute.families import Family
from millpond.compute.machine import Machine, NodeType, Shape
from millpond.compute.policies import PolicyDraft
from millpond.compute.pools import PoolDraft, PoolStats
from millpond.kernel.clock import epoch_ms, from_epoch_ms
from millpond.kernel.errors import InvalidArgument, NotImplementedHere

_MOST_EVENTS = 500


class ClusterId(BaseModel):
    """What names a cluster."""

    cluster_id: str


class UpdateInput(ClusterId):
    """`update`."""

    update_mask: str
    cluster: dict[str, Any] = {}


class OwnerInput(ClusterId):
    """`change-owner`."""

    owner_username: str


class EventsInput(ClusterId):
    """`events`."""

    start_time: int | None = None
    end_time: int | None = None
    order: Literal["ASC", "DESC"] = "DESC"
    event_types: list[str] = []
    offset: int = Field(default=0, ge=0)
    limit: int = Field(default=50, ge=0)
    page_size: int | None = Field(default=None, ge=0)
    page_token: str | None = None

    def asked(self) -> EventsAsked:
        """The same. Raises InvalidArgument."""
        offset = self.offset
        if self.page_token:
            if not self.page_token.isdecimal():
                raise InvalidArgument("page_token is not one that this server gave; start again without it.")
            offset = int(self.page_token)
        return EventsAsked(
            types=self.event_types, ascending=self.order == "ASC", offset=offset,
            start=from_epoch_ms(self.start_time) if self.start_time else None,
            end=from_epoch_ms(self.end_time) if self.end_time else None,
            limit=min(self.page_size or self.limit or 50, _MOST_EVENTS),
        )  # fmt: skip


class PolicyInput(BaseModel):
    """`policies/clusters/create` and `edit`."""

    model_config = ConfigDict(extra="ignore")

    policy_id: str = ""
    name: str = ""
    definition: str | None = None
    description: str | None = None
    policy_family_id: str | None = None
    policy_family_definition_overrides: str | None = None
    max_clusters_per_user: int | None = None
    libraries: list[dict[str, Any]] = []

    def draft(self) -> PolicyDraft:
        """The same."""
        return PolicyDraft(
            name=self.name, definition=self.definition, description=self.description or "",
            family_id=self.policy_family_id or "", overrides=self.policy_family_definition_overrides or "",
            max_clusters=self.max_clusters_per_user, libraries=self.libraries,
        )  # fmt: skip


class PoolInput(BaseModel):
    """`instance-pools/create` and `edit`."""

    model_config = ConfigDict(extra="allow")

    instance_pool_id: str = ""
    instance_pool_name: str
    node_type_id: str
    min_idle_instances: int = Field(default=0, ge=0)
    max_capacity: int | None = None
    idle_instance_autotermination_minutes: int = Field(default=60, ge=0, le=10000)
    custom_tags: dict[str, str] = {}
    preloaded_spark_versions: list[str] = []
    enable_elastic_disk: bool | None = None

    def draft(self) -> PoolDraft:
        """The same. Raises NotImplementedHere."""
        for name, value in (self.model_extra or {}).items():
            if value not in (None, [], {}, False):
                raise NotImplementedHere(f"Instance pools here have no {name[:80]}.")
        return PoolDraft(
            name=self.instance_pool_name, node_type_id=self.node_type_id, min_idle=self.min_idle_instances,
            max_capacity=self.max_capacity, idle_minutes=self.idle_instance_autotermination_minutes,
            tags=self.custom_tags, versions=tuple(self.preloaded_spark_versions),
        )  # fmt: skip


class LibrariesInput(ClusterId):
    """`libraries/install` and `uninstall`."""

    libraries: list[dict[str, Any]] = []


class ContextInput(BaseModel):
    """Of the Command Execution API, which has its own spelling."""

    clusterId: str
    contextId: str = ""
    commandId: str = ""
    language: str = ""
    command: str = ""


def cluster_json(cluster: Cluster, shape: Shape | None) -> dict[str, Any]:
    """ClusterDetails; `shape` is None where this machine has no such nodes any more."""
    told: dict[str, Any] = {
        **cluster.spec,
        "cluster_id": cluster.id,
        "cluster_name": cluster.name,
        "creator_user_name": cluster.creator,
        "cluster_source": cluster.source.value,
        "state": cluster.state.value,
        "state_message": cluster.message,
        "start_time": epoch_ms(cluster.created_at),
        "last_activity_time": epoch_ms(cluster.used_at),
        "default_tags": {"Vendor": "Millpond", "Creator": cluster.creator, "ClusterId": cluster.id},
        "spec": {**cluster.spec},
        "autotermination_minutes": cluster.spec.get("autotermination_minutes", 0),
    }
    for name, moment in (("terminated_time", cluster.terminated_at), ("last_restarted_time", cluster.restarted_at)):
        told |= {name: epoch_ms(moment)} if moment else {}
    if cluster.started_at and not cluster.state.ended:
        told["last_state_loss_time"] = epoch_ms(cluster.restarted_at or cluster.started_at)
    if cluster.termination:
        told["termination_reason"] = dict(cluster.termination)
    if cluster.state in (State.RUNNING, State.RESIZING):
        told["spark_context_id"] = cluster.context_id
        told["driver"] = {"node_id": f"{cluster.id}-driver", "private_ip": "127.0.0.1"}
        told["executors"] = [{"node_id": f"{cluster.id}-{number}"} for number in range(cluster.workers)]
    if shape is not None:
        size = shape.size(cluster.workers)
        told |= {"cluster_cores": float(size.cores), "cluster_memory_mb": size.memory_mb}
    if "autoscale" in cluster.spec:
        told["num_workers"] = cluster.workers
    return told


def event_json(event: Event) -> dict[str, Any]:
    """ClusterEvent."""
    details = dict(event.details)
    for name in ("attributes", "previous_attributes"):
        if name in details:
            size = ("num_workers", "autoscale")
            given = details[name]
            which = "cluster_size" if name == "attributes" else "previous_cluster_size"
            details[which] = {key: given[key] for key in size if key in given}
            details[name] = {key: value for key, value in given.items() if key not in size}
    return {
        "cluster_id": event.cluster_id, "timestamp": epoch_ms(event.at), "type": event.type, "details": details,
    }  # fmt: skip


def events_json(asked: EventsInput, events: Sequence[Event], total: int) -> dict[str, Any]:
    """GetEventsResponse; `next_page` is what to ask next."""
    given = asked.asked()
    following = given.offset + len(events)
    told: dict[str, Any] = {"events": [event_json(each) for each in events], "total_count": total}
    if following < total and events:
        told["next_page_token"] = str(following)
        again = {"cluster_id": asked.cluster_id, "order": asked.order, "limit": given.limit, "offset": following}
        kept = {"start_time": asked.start_time, "end_time": asked.end_time, "event_types": asked.event_types}
        told["next_page"] = again | {name: value for name, value in kept.items() if value}
    return told


def node_type_json(node: NodeType, order: int) -> dict[str, Any]:
    """NodeType."""
    return {
        "node_type_id": node.id,
        "memory_mb": node.memory_mb,
        "num_cores": float(node.cores),
        "num_gpus": 0,
        "description": f"{node.cores} cores and {node.memory_mb >> 10} GiB of this machine",
        "instance_type_id": node.id,
        "category": "General Purpose",
        "display_order": order,
        "is_deprecated": False,
        "is_hidden": False,
        "support_cluster_tags": True,
        "node_instance_type": {
            "instance_type_id": node.id, "local_disks": 0, "local_disk_size_gb": 0, "local_nvme_disks": 0,
            "local_nvme_disk_size_gb": 0,
        },
    }  # fmt: skip


def node_types_json(machine: Machine) -> dict[str, Any]:
    """ListNodeTypesResponse."""
    return {"node_types": [node_type_json(node, order) for order, node in enumerate(machine.node_types)]}


def policy_json(policy: Policy) -> dict[str, Any]:
    """Policy."""
    told: dict[str, Any] = {
        "policy_id": policy.id, "name": policy.name, "definition": policy.definition,
        "description": policy.description, "creator_user_name": policy.creator, "is_default": False,
        "created_at_timestamp": epoch_ms(policy.created_at), "libraries": [dict(each) for each in policy.libraries],
    }  # fmt: skip
    if policy.family_id:
        told |= {
            "policy_family_id": policy.family_id, "policy_family_definition_overrides": policy.overrides,
        }  # fmt: skip
    return told | ({"max_clusters_per_user": policy.max_clusters} if policy.max_clusters else {})


def family_json(family: Family) -> dict[str, Any]:
    """PolicyFamily."""
    return {
        "policy_family_id": family.id, "name": family.name, "description": family.description,
        "definition": family.definition,
    }  # fmt: skip


def pool_json(pool: Pool, stats: PoolStats) -> dict[str, Any]:
    """GetInstancePool."""
    told = {
        "instance_pool_id": pool.id,
        "instance_pool_name": pool.name,
        "node_type_id": pool.node_type_id,
        "min_idle_instances": pool.min_idle,
        "idle_instance_autotermination_minutes": pool.idle_minutes,
        "custom_tags": dict(pool.tags),
        "default_tags": {"Vendor": "Millpond", "Creator": pool.creator, "InstancePoolId": pool.id},
        "preloaded_spark_versions": list(pool.versions),
        "state": "ACTIVE",
        "stats": {
            "idle_count": stats.idle, "used_count": stats.used, "pending_idle_count": stats.starting,
            "pending_used_count": 0,
        },
        "status": {},
    }  # fmt: skip
    return told | ({"max_capacity": pool.max_capacity} if pool.max_capacity is not None else {})


def libraries_json(cluster_id: str, libraries: Iterable[Library]) -> dict[str, Any]:
    """ClusterLibraryStatuses."""
    statuses = [
        {
            "library": dict(each.library), "status": each.status, "messages": list(each.messages),
            "is_library_for_all_clusters": False,
        }
        for each in libraries
    ]  # fmt: skip
    return {"cluster_id": cluster_id, "library_statuses": statuses}


def context_json(context: Context) -> dict[str, Any]:
    """ContextStatusResponse."""
    return {"id": context.id, "status": context.state.value}


def command_json(command: Command) -> dict[str, Any]:
    """CommandStatusResponse."""
    told: dict[str, Any] = {"id": command.id, "status": command.state.value}
    return told | ({"results": dict(command.results)} if command.results else {})


def compliance_json(cluster_id: str, violations: Mapping[str, str]) -> dict[str, Any]:
    """ClusterCompliance."""
    return {"cluster_id": cluster_id, "is_compliant": not violations, "violations": dict(violations)}
