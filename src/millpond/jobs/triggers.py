"""What starts a job's runs by itself, as the Jobs API writes it: a cron schedule, a trigger, or one after another."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from millpond.jobs.inputs import Known, Text
from millpond.kernel.clock import utc_now
from millpond.kernel.errors import InvalidArgument, NotImplementedHere
from millpond.kernel.quartz import first_after, zone_of

MOST_TABLES = 10
MOST_ALIASES = 10
"""Sources of both: Databricks' limits."""
_LEAST_WAIT_S = 60
_PauseStatus = Literal["PAUSED", "UNPAUSED"]


class When(StrEnum):
    """The kinds of triggers; the values are the fields of the Jobs API."""

    CRON = "schedule"
    CONTINUOUS = "continuous"
    PERIODIC = "periodic"
    FILES = "file_arrival"
    TABLES = "table_update"
    MODELS = "model"


WATCHING = frozenset({When.FILES, When.TABLES, When.MODELS})
RUN_TRIGGERS: Mapping[When, str] = {
    When.CRON: "PERIODIC", When.PERIODIC: "PERIODIC", When.CONTINUOUS: "CONTINUOUS", When.FILES: "FILE_ARRIVAL",
    When.TABLES: "TABLE", When.MODELS: "MODEL",
}  # fmt: skip
"""What a run says of why it was started (`TriggerType`)."""


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """A job's trigger, as its settings have it."""

    kind: When
    body: Mapping[str, Any]
    paused: bool

    @property
    def least_pause(self) -> timedelta:
        """Between two of its runs' starts."""
        return timedelta(seconds=self.body.get("min_time_between_triggers_seconds") or 0)

    @property
    def quiet(self) -> timedelta:
        """So long nothing may have changed before a run starts."""
        return timedelta(seconds=self.body.get("wait_after_last_change_seconds") or 0)


def trigger_of(settings: Mapping[str, Any]) -> Trigger | None:
    """What starts a job of checked settings by itself, also while that is paused."""
    for kind in (When.CRON, When.CONTINUOUS):
        if (body := settings.get(kind.value)) is not None:
            return Trigger(kind=kind, body=body, paused=body.get("pause_status") == "PAUSED")
    outer = settings.get("trigger") or {}
    for kind in (When.PERIODIC, *WATCHING):
        if body := outer.get(kind.value):
            return Trigger(kind=kind, body=body, paused=outer.get("pause_status") == "PAUSED")
    return None


class CronInput(Known):
    """By the clock."""

    quartz_cron_expression: Text
    timezone_id: Text
    pause_status: _PauseStatus | None = None


class ContinuousInput(Known):
    """Always."""

    pause_status: _PauseStatus = "UNPAUSED"
    task_retry_mode: Literal["NEVER", "ON_FAILURE"] | None = None


class PeriodicInput(Known):
    """Again and again."""

    interval: int = Field(ge=1, le=100_000)
    unit: Literal["MINUTES", "HOURS", "DAYS", "WEEKS"]


class _WatchInput(Known):
    min_time_between_triggers_seconds: int | None = Field(default=None, ge=0, le=10**8)
    wait_after_last_change_seconds: int | None = Field(default=None, ge=0, le=10**8)


class FileArrivalInput(_WatchInput):
    """When files arrive in a directory of a volume."""

    url: Text


class TableUpdateInput(_WatchInput):
    """When tables have new versions."""

    table_names: list[Text] = Field(min_length=1, max_length=MOST_TABLES)
    condition: Literal["ANY_UPDATED", "ALL_UPDATED"] | None = None


class ModelInput(_WatchInput):
    """When something becomes of registered models."""

    condition: Literal["MODEL_ALIAS_SET", "MODEL_CREATED", "MODEL_VERSION_READY"]
    securable_name: Text | None = None
    aliases: list[Text] | None = Field(default=None, max_length=MOST_ALIASES)


class TriggerInput(Known):
    """What starts runs by itself."""

    periodic: PeriodicInput | None = None
    file_arrival: FileArrivalInput | None = None
    table_update: TableUpdateInput | None = None
    model: ModelInput | None = None
    pause_status: _PauseStatus | None = None


def check_triggers(
    schedule: CronInput | None, trigger: TriggerInput | None, continuous: ContinuousInput | None, most_runs: int | None
) -> None:
    """Raises InvalidArgument or NotImplementedHere with the field that is wrong."""
    given = {"schedule": schedule, "trigger": trigger, "continuous": continuous}
    found = [name for name, part in given.items() if part is not None]
    if len(found) > 1:
        raise InvalidArgument(f"The job has {' and '.join(found)}; it takes one of them.")
    for name, part in given.items():
        if part is not None:
            part.refuse_unknown(name)
    if schedule is not None:
        _check_cron(schedule)
    if trigger is not None:
        _check_trigger(trigger)
    if continuous is not None:
        _check_continuous(continuous, most_runs)


def _check_cron(schedule: CronInput) -> None:
    zone = zone_of(schedule.timezone_id)
    try:
        first_after(schedule.quartz_cron_expression, utc_now(), zone)
    except InvalidArgument as error:
        raise InvalidArgument(f"schedule.quartz_cron_expression: {error.message}") from error


def _check_continuous(continuous: ContinuousInput, most_runs: int | None) -> None:
    if continuous.task_retry_mode == "ON_FAILURE":
        raise NotImplementedHere("continuous.task_retry_mode is ON_FAILURE; give the tasks max_retries.")
    if most_runs not in (None, 1):
        raise InvalidArgument(f"max_concurrent_runs is {most_runs}; that of a continuous job is 1.")


def _check_trigger(trigger: TriggerInput) -> None:
    kinds = [kind for kind in (When.PERIODIC, *WATCHING) if getattr(trigger, kind.value) is not None]
    if len(kinds) != 1:
        raise InvalidArgument(f"trigger takes exactly one of {', '.join(sorted(WATCHING | {When.PERIODIC}))}.")
    inner = getattr(trigger, kinds[0].value)
    inner.refuse_unknown(f"trigger.{kinds[0].value}")
    for name in ("min_time_between_triggers_seconds", "wait_after_last_change_seconds"):
        if 0 < (getattr(inner, name, None) or 0) < _LEAST_WAIT_S:
            raise InvalidArgument(f"trigger.{kinds[0].value}.{name} is less than {_LEAST_WAIT_S}.")
    if trigger.file_arrival is not None:
        _check_files(trigger.file_arrival)
    if trigger.table_update is not None:
        _check_tables(trigger.table_update)
    if trigger.model is not None:
        _check_models(trigger.model)


def _check_files(files: FileArrivalInput) -> None:
    parts = files.url.strip("/").split("/")
    if "://" in files.url or parts[0] != "Volumes":
        raise NotImplementedHere(
            f"trigger.file_arrival.url is {files.url[:200]}; this Millpond watches /Volumes/main/ml/landing/."
        )
    if len(parts) < 4:
        raise InvalidArgument("trigger.file_arrival.url names no volume: /Volumes/catalog/schema/volume/.")


def _check_tables(tables: TableUpdateInput) -> None:
    for name in tables.table_names:
        if name.count(".") != 2:
            raise InvalidArgument(f"trigger.table_update.table_names: '{name[:200]}' is not catalog.schema.table.")


def _check_models(models: ModelInput) -> None:
    depth = (models.securable_name or "").count(".") + 1 if models.securable_name else 0
    if depth not in (0, 2, 3):
        raise InvalidArgument("trigger.model.securable_name is catalog.schema.model, catalog.schema, or empty for all.")
    if models.aliases and models.condition != "MODEL_ALIAS_SET":
        raise InvalidArgument("trigger.model.aliases are for the condition MODEL_ALIAS_SET.")
    if depth == 3 and models.condition == "MODEL_CREATED":
        raise InvalidArgument("trigger.model: MODEL_CREATED watches a schema, or all of them.")
