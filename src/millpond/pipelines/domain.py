"""What a pipeline is, where an update stands, and what its events say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from millpond.identity.access import Securable
from millpond.jobs.domain import Result
from millpond.kernel.errors import InvalidArgument


class UpdateState(StrEnum):
    """Where an update stands, as the Pipelines API names it."""

    QUEUED = "QUEUED"
    CREATED = "CREATED"
    WAITING_FOR_RESOURCES = "WAITING_FOR_RESOURCES"
    INITIALIZING = "INITIALIZING"
    RESETTING = "RESETTING"
    SETTING_UP_TABLES = "SETTING_UP_TABLES"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"

    @property
    def is_final(self) -> bool:
        """Whether nothing more becomes of the update."""
        return self in (UpdateState.COMPLETED, UpdateState.FAILED, UpdateState.CANCELED)


TOLD_BY_CODE = frozenset({
    UpdateState.INITIALIZING, UpdateState.RESETTING, UpdateState.SETTING_UP_TABLES, UpdateState.RUNNING,
})  # fmt: skip
"""What the process of an update says of itself; all else the server knows."""
_ENDS = {Result.SUCCESS: UpdateState.COMPLETED, Result.CANCELED: UpdateState.CANCELED}
_WHILE = {
    UpdateState.QUEUED: "DEPLOYING",
    UpdateState.CREATED: "DEPLOYING",
    UpdateState.WAITING_FOR_RESOURCES: "DEPLOYING",
    UpdateState.INITIALIZING: "STARTING",
    UpdateState.RESETTING: "RESETTING",
    UpdateState.SETTING_UP_TABLES: "RUNNING",
    UpdateState.RUNNING: "RUNNING",
    UpdateState.STOPPING: "STOPPING",
}


def state_after(result: Result) -> UpdateState:
    """How an update ended whose run ended like this."""
    return _ENDS.get(result, UpdateState.FAILED)


class Cause(StrEnum):
    """What started an update."""

    API_CALL = "API_CALL"
    JOB_TASK = "JOB_TASK"
    USER_ACTION = "USER_ACTION"
    RETRY_ON_FAILURE = "RETRY_ON_FAILURE"
    SCHEMA_CHANGE = "SCHEMA_CHANGE"
    SERVICE_UPGRADE = "SERVICE_UPGRADE"
    INFRASTRUCTURE_MAINTENANCE = "INFRASTRUCTURE_MAINTENANCE"


class Level(StrEnum):
    """How grave an event is."""

    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"
    METRICS = "METRICS"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What an update is to do."""

    full_refresh: bool = False
    refresh_selection: tuple[str, ...] = ()
    full_refresh_selection: tuple[str, ...] = ()
    validate_only: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)
    development: bool | None = None
    """None for what the pipeline's settings say."""

    def __post_init__(self) -> None:
        if self.full_refresh and (self.refresh_selection or self.full_refresh_selection):
            raise InvalidArgument("full_refresh is for all tables; leave it out, or the selections.")

    @staticmethod
    def of(told: Mapping[str, Any]) -> "Asked":
        """From a request, or a `pipeline_task`."""
        return Asked(
            full_refresh=bool(told.get("full_refresh")),
            refresh_selection=tuple(told.get("refresh_selection") or ()),
            full_refresh_selection=tuple(told.get("full_refresh_selection") or ()),
            validate_only=bool(told.get("validate_only")),
            parameters=dict(told.get("parameters") or {}),
            development=told.get("development"),
        )


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Settings under an id."""

    id: str
    name: str
    creator: str
    """The owner."""
    run_as: str
    """Stays when the pipeline is given to somebody else; only `run_as` in its settings changes it."""
    settings: Mapping[str, Any]
    created_at: datetime
    changed_at: datetime
    active_update_id: str | None = None
    next_start_at: datetime | None = None
    """Of a continuous one: from when on it is to have an update; None while it rests."""
    failed: bool = False
    """Whether its last update failed, and nobody has asked for anything since."""
    events: int = 0
    """How many there were; the number of the last."""

    @property
    def securable(self) -> Securable:
        """The pipeline under permission; whoever it runs as owns nothing by that."""
        return Securable(kind="pipeline", name=self.id, owners=(self.creator,), ids=(f"pipeline:{self.id}",))

    @property
    def is_continuous(self) -> bool:
        """Whether it is to have an update all the time."""
        return bool(self.settings.get("continuous"))

    @property
    def catalog(self) -> str:
        """Where its datasets are published."""
        return str(self.settings["catalog"])

    @property
    def schema(self) -> str:
        """Where its datasets are published, where they do not say it."""
        return str(self.settings.get("schema") or self.settings.get("target"))

    def state(self, active: "Update | None") -> str:
        """Where it stands, as the Pipelines API names it, with its active update."""
        if active is not None:
            return _WHILE.get(active.state, "RUNNING")
        if self.failed:
            return "RECOVERING" if self.next_start_at is not None else "FAILED"
        return "IDLE" if self.next_start_at is None else "STARTING"


@dataclass(frozen=True, kw_only=True)
class Update:
    """One go through a pipeline's datasets. `settings` are those of the moment in which it was asked for."""

    id: str
    pipeline_id: str
    number: int
    """Grows from one to the next."""
    run_id: int
    """In the room of jobs."""
    cause: Cause
    asked: Asked
    asked_by: str
    run_as: str
    settings: Mapping[str, Any]
    state: UpdateState
    message: str
    """Why it ended otherwise than well."""
    error: Mapping[str, Any] | None
    """What its process said of that, as events have it."""
    told_by: int
    """The attempt whose events came last, and below it the number of the last one."""
    told: int
    events: int
    """How many its processes told."""
    created_at: datetime
    ended_at: datetime | None

    @property
    def is_development(self) -> bool:
        """Whether it runs as one of a pipeline that is being written."""
        asked = self.asked.development
        return bool(self.settings.get("development") if asked is None else asked)


@dataclass(frozen=True, kw_only=True)
class Event:
    """What an update, or somebody, did."""

    pipeline_id: str
    number: int
    """From 1, without gaps, in each pipeline."""
    id: str
    update_id: str | None
    at: datetime
    level: Level
    event_type: str
    message: str
    body: Mapping[str, Any]
    """`origin`, `details`, `error`, `maturity_level`, and `truncated`: names of what was left out."""

    @property
    def details(self) -> Mapping[str, Any]:
        """What belongs to its type."""
        return inner(self.body.get("details"), self.event_type)

    @property
    def dataset(self) -> str:
        """Of which dataset it tells; empty for none."""
        return str((self.body.get("origin") or {}).get("dataset_name") or "")


def inner(details: Any, event_type: str) -> Mapping[str, Any]:
    """The details of an event's type, which stand under its name, as in Databricks' event log."""
    told = details if isinstance(details, Mapping) else {}
    named = told.get(event_type)
    return named if isinstance(named, Mapping) else told


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A pipeline with its last updates, the newest first."""

    pipeline: Pipeline
    latest: Sequence[Update]

    @property
    def active(self) -> Update | None:
        """The update that goes on."""
        return next((each for each in self.latest if each.id == self.pipeline.active_update_id), None)

    @property
    def state(self) -> str:
        """Where it stands."""
        return self.pipeline.state(self.active)

    @property
    def is_healthy(self) -> bool:
        """Whether its last update that came to an end did so well."""
        ended = [each for each in self.latest if each.state.is_final]
        return not ended or ended[0].state is not UpdateState.FAILED
