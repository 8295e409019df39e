"""Clusters, policies, pools, contexts and commands, and the names under which the APIs know them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from millpond.identity.access import Securable
from millpond.kernel.errors import FailedPrecondition


class State(StrEnum):
    """Where a cluster stands. Those that end in -ING are orders, which the server that owns it carries out."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    RESTARTING = "RESTARTING"
    RESIZING = "RESIZING"
    TERMINATING = "TERMINATING"
    TERMINATED = "TERMINATED"
    ERROR = "ERROR"

    @property
    def ended(self) -> bool:
        """Whether it has no process, and is to have none."""
        return self in (State.TERMINATED, State.ERROR)

    @property
    def takes_room(self) -> bool:
        """Whether it has its slice of the machine; one that is PENDING waits for it."""
        return self in (State.RUNNING, State.RESTARTING, State.RESIZING, State.TERMINATING)


class Source(StrEnum):
    """Who made a cluster."""

    API = "API"
    UI = "UI"
    JOB = "JOB"

    @property
    def cluster_type(self) -> str:
        """As policies have it."""
        return "job" if self is Source.JOB else "all-purpose"


SUCCESS = "SUCCESS"
"""The type of an end that is no fault."""


class Why(StrEnum):
    """Why a cluster ended: codes of the Clusters API."""

    USER_REQUEST = "USER_REQUEST"
    INACTIVITY = "INACTIVITY"
    JOB_FINISHED = "JOB_FINISHED"
    DRIVER_UNREACHABLE = "DRIVER_UNREACHABLE"
    DRIVER_OUT_OF_MEMORY = "DRIVER_OUT_OF_MEMORY"
    CONTROL_PLANE_CONNECTION_FAILURE = "CONTROL_PLANE_CONNECTION_FAILURE"
    SPARK_IMAGE_NOT_FOUND = "SPARK_IMAGE_NOT_FOUND"
    INSTANCE_POOL_MAX_CAPACITY_REACHED = "INSTANCE_POOL_MAX_CAPACITY_REACHED"
    INSTANCE_POOL_NOT_FOUND = "INSTANCE_POOL_NOT_FOUND"
    SECRET_RESOLUTION_ERROR = "SECRET_RESOLUTION_ERROR"  # noqa: S105 - a name
    INTERNAL_ERROR = "INTERNAL_ERROR"

    @property
    def type(self) -> str:
        """Whose doing it was."""
        if self in (Why.USER_REQUEST, Why.INACTIVITY, Why.JOB_FINISHED):
            return SUCCESS
        return "CLIENT_ERROR" if self in _OF_CLIENTS else "SERVICE_FAULT"


_OF_CLIENTS = (
    Why.SPARK_IMAGE_NOT_FOUND, Why.INSTANCE_POOL_MAX_CAPACITY_REACHED, Why.INSTANCE_POOL_NOT_FOUND,
    Why.SECRET_RESOLUTION_ERROR,
)  # fmt: skip

STATES_OF = {
    "start": (State.TERMINATED, State.ERROR),
    "restart": (State.RUNNING,),
    "resize": (State.RUNNING,),
    "edit": (State.RUNNING, State.TERMINATED, State.ERROR),
    "give to somebody": (State.TERMINATED, State.ERROR),
}
"""In which states what can be done to a cluster."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A cluster as its row has it."""

    id: str
    name: str
    creator: str
    source: Source
    spec: Mapping[str, Any]
    """Its attributes, as the Clusters API writes them, with what its policy filled in."""
    state: State
    message: str = ""
    termination: Mapping[str, Any] = field(default_factory=dict)
    workers: int = 0
    """How many it has now; within bounds where it scales."""
    server: str = ""
    """Which server has its processes."""
    alive_until: datetime | None = None
    """Until then that server has said that it lives."""
    starts: int = 0
    """How often its driver was started."""
    pinned: bool = False
    removed: bool = False
    """Whether its row goes as soon as its processes have."""
    run_id: int | None = None
    """The run whose tasks it was made for."""
    created_at: datetime
    started_at: datetime | None = None
    restarted_at: datetime | None = None
    terminated_at: datetime | None = None
    used_at: datetime

    @property
    def securable(self) -> Securable:
        """The cluster under permission."""
        return Securable(kind="cluster", name=self.name or self.id, owners=(self.creator,), ids=(f"cluster:{self.id}",))

    @property
    def context_id(self) -> int:
        """Another number for each start of its driver."""
        return int(self.created_at.timestamp() * 1000) * 100 + self.starts % 100

    @property
    def bounds(self) -> tuple[int, int]:
        """The fewest and most workers."""
        scale = self.spec.get("autoscale")
        fixed = int(self.spec.get("num_workers") or 0)
        return (int(scale["min_workers"]), int(scale["max_workers"])) if scale else (fixed, fixed)

    @property
    def idle_limit(self) -> timedelta:
        """After so long without use it ends; zero for never."""
        return timedelta(minutes=int(self.spec.get("autotermination_minutes") or 0))

    def is_idle(self, now: datetime) -> bool:
        """Whether it has not been used for as long as it may."""
        return self.state is State.RUNNING and bool(self.idle_limit) and now - self.used_at > self.idle_limit

    def require(self, act: str) -> None:
        """Pass where this can be done to it now. Raises FailedPrecondition."""
        states = STATES_OF[act]
        if self.state not in states:
            allowed = " or ".join(states)
            raise FailedPrecondition(
                f"Cluster '{self.id}' is {self.state}; to {act} it, it has to be {allowed}."
                + (f" {self.message}" if self.message else "")
            )


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a cluster."""

    cluster_id: str
    at: datetime
    type: str
    details: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Library:
    """A library of a cluster: `{"pypi": {"package": ...}}`, as the Libraries API writes it, and how it stands."""

    cluster_id: str
    key: str
    """Which it is: two that are the same have one."""
    library: Mapping[str, Any]
    status: str
    messages: tuple[str, ...] = ()
    added_by: str = ""

    @property
    def requirement(self) -> str:
        """The package of the index that it is; empty for a wheel."""
        return str((self.library.get("pypi") or {}).get("package", ""))


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A cluster policy."""

    id: str
    name: str
    creator: str
    definition: str
    """With what its family says, where it has one."""
    description: str = ""
    family_id: str = ""
    overrides: str = ""
    max_clusters: int | None = None
    """Of each user."""
    libraries: tuple[Mapping[str, Any], ...] = ()
    created_at: datetime

    @property
    def securable(self) -> Securable:
        """The policy under permission; administrators make it, and nobody owns it."""
        return Securable(kind="cluster policy", name=self.name, owners=(), ids=(f"cluster-policy:{self.id}",))


@dataclass(frozen=True, kw_only=True)
class Pool:
    """An instance pool: drivers that wait for clusters."""

    id: str
    name: str
    creator: str
    node_type_id: str
    min_idle: int = 0
    max_capacity: int | None = None
    """Idle and used together."""
    idle_minutes: int = 60
    """After so long those above `min_idle` end."""
    tags: Mapping[str, str] = field(default_factory=dict)
    versions: tuple[str, ...] = ()
    created_at: datetime

    @property
    def securable(self) -> Securable:
        """The pool under permission."""
        return Securable(kind="instance pool", name=self.name, owners=(self.creator,), ids=(f"pool:{self.id}",))


class ContextState(StrEnum):
    """Where a context stands."""

    PENDING = "Pending"
    RUNNING = "Running"
    ERROR = "Error"


@dataclass(frozen=True, kw_only=True)
class Context:
    """An interpreter of one user on a cluster."""

    id: str
    cluster_id: str
    owner: str
    language: str
    state: ContextState
    message: str = ""
    ending: bool = False
    """Whether it is to go."""
    created_at: datetime
    used_at: datetime


class CommandState(StrEnum):
    """Where a command stands."""

    QUEUED = "Queued"
    RUNNING = "Running"
    CANCELLING = "Cancelling"
    CANCELLED = "Cancelled"
    FINISHED = "Finished"
    ERROR = "Error"

    @property
    def ended(self) -> bool:
        """Whether nothing more becomes of it."""
        return self in (CommandState.CANCELLED, CommandState.FINISHED, CommandState.ERROR)


@dataclass(frozen=True, kw_only=True)
class Command:
    """A cell, and what it put out."""

    id: str
    context_id: str
    cluster_id: str
    language: str
    text: str
    state: CommandState
    results: Mapping[str, Any] = field(default_factory=dict)
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The cluster that a task says it runs on."""

    existing_id: str = ""
    spec: Mapping[str, Any] | None = None
    """Of one that is made for it."""
    key: str = ""
    """Under which tasks of a run share one that is made."""
