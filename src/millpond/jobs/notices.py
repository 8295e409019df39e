"""Who is told of runs and tasks, as settings say it, and what they are told."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import Connection

from millpond.jobs.domain import UNLIMITED, Result, Run, TaskRun
from millpond.jobs.inputs import Known, Strict, Text
from millpond.kernel.errors import InvalidArgument, NotImplementedHere
from millpond.notifications.domain import Notice, Target
from millpond.notifications.outbox import put

START, SUCCESS, FAILURE = "on_start", "on_success", "on_failure"
SLOW = "on_duration_warning_threshold_exceeded"
_EVENTS = (START, SUCCESS, FAILURE, SLOW)
MOST_DESTINATIONS = 3
"""Of one event. Source: the Jobs API's reference."""
_DURATION = "RUN_DURATION_SECONDS"
_GOOD = frozenset({Result.SUCCESS, Result.SUCCESS_WITH_FAILURES})
_BAD = frozenset({Result.FAILED, Result.TIMED_OUT, Result.CANCELED, Result.TOO_MANY})
_WORDS = {START: "started", SUCCESS: "succeeded", FAILURE: "failed", SLOW: "takes longer than expected"}

_Addresses = Annotated[list[Annotated[str, Field(max_length=320)]], Field(max_length=50)]


class EmailInput(Known):
    """Addresses for each event."""

    on_start: _Addresses | None = None
    on_success: _Addresses | None = None
    on_failure: _Addresses | None = None
    on_duration_warning_threshold_exceeded: _Addresses | None = None
    no_alert_for_skipped_runs: bool | None = None


class DestinationIdInput(Strict):
    """A notification destination."""

    id: Text


_Destinations = Annotated[list[DestinationIdInput], Field(max_length=MOST_DESTINATIONS)]


class WebhooksInput(Known):
    """Destinations for each event."""

    on_start: _Destinations | None = None
    on_success: _Destinations | None = None
    on_failure: _Destinations | None = None
    on_duration_warning_threshold_exceeded: _Destinations | None = None


class SettingsInput(Known):
    """What nobody is told of."""

    no_alert_for_skipped_runs: bool | None = None
    no_alert_for_canceled_runs: bool | None = None
    alert_on_last_attempt: bool | None = None


class RuleInput(Strict):
    """A limit of one metric."""

    metric: Text
    op: Text
    value: int = Field(ge=1, le=10**9)


class HealthInput(Strict):
    """How long a run or a task is expected to take."""

    rules: list[RuleInput] | None = Field(default=None, max_length=20)


class Noticed(Known):
    """Settings of a job, or of a task, that say who is told."""

    email_notifications: EmailInput | None = None
    webhook_notifications: WebhooksInput | None = None
    notification_settings: SettingsInput | None = None
    health: HealthInput | None = None

    def check_notices(self, what: str) -> None:
        """Raises NotImplementedHere for events and metrics that are not here, InvalidArgument for operators."""
        for name in ("email_notifications", "webhook_notifications", "notification_settings"):
            if (part := getattr(self, name)) is not None:
                part.refuse_unknown(f"{what}: {name}")
        for rule in (self.health and self.health.rules) or ():
            if rule.metric != _DURATION:
                raise NotImplementedHere(f"{what}: health has a rule of {rule.metric[:60]}; here it has {_DURATION}.")
            if rule.op != "GREATER_THAN":
                raise InvalidArgument(f"{what}: op of a health rule is GREATER_THAN, not '{rule.op[:40]}'.")


def targets(part: Mapping[str, Any], event: str) -> list[Target]:
    """Who is told of an event by the settings of a job or a task."""
    mail = (part.get("email_notifications") or {}).get(event) or ()
    hooks = (part.get("webhook_notifications") or {}).get(event) or ()
    return [*(Target(address=each) for each in mail), *(Target(destination_id=each["id"]) for each in hooks)]


def all_targets(settings: Mapping[str, Any]) -> Iterator[Target]:
    """Whoever is told of anything by a job's settings."""
    for part in (settings, *settings.get("tasks", ())):
        for event in _EVENTS:
            yield from targets(part, event)
        inner = (part.get("for_each_task") or {}).get("task") or part
        yield from subscribers((inner.get("sql_task") or {}).get("alert") or inner.get("alert_task") or {})


def subscribers(alert: Mapping[str, Any]) -> list[Target]:
    """Who is told of an alert by the task that evaluates it."""
    return [
        Target(address=each.get("user_name") or "", destination_id=each.get("destination_id") or "")
        for each in alert.get("subscriptions") or alert.get("subscribers") or ()
    ]


def event_of(result: Result) -> str:
    """The event of an end; empty where nobody is told, as of a task that was skipped."""
    return SUCCESS if result in _GOOD else FAILURE if result in _BAD else ""


def told_of_end(part: Mapping[str, Any], result: Result, *, tried_again: bool = False) -> list[Target]:
    """Who is told of how a run or a task ended."""
    quiet = part.get("notification_settings") or {}
    if result is Result.CANCELED and quiet.get("no_alert_for_canceled_runs"):
        return []
    if result is Result.TOO_MANY and quiet.get("no_alert_for_skipped_runs"):
        return []
    if tried_again and quiet.get("alert_on_last_attempt"):
        return []
    event = event_of(result)
    found = targets(part, event) if event else []
    if result is Result.TOO_MANY and (part.get("email_notifications") or {}).get("no_alert_for_skipped_runs"):
        found = [target for target in found if target.destination_id]
    return found


def slow_at(part: Mapping[str, Any], started_at: datetime | None) -> datetime | None:
    """When what began takes longer than expected."""
    limits = [rule["value"] for rule in (part.get("health") or {}).get("rules") or ()]
    return started_at + timedelta(seconds=min(limits)) if limits and started_at else None


def notice_of(run: Run, event: str, *, task: TaskRun | None = None, message: str = "") -> Notice:
    """What is told: for webhooks the JSON of Databricks (`event_type`, `workspace_id`, `run`, `job`, `task`), and what
    happened in words."""
    what = f"Task {task.key} of job {run.name}" if task else f"Job {run.name}"
    subject = f"{what} {_WORDS[event]} (run {run.id})"
    body: dict[str, Any] = {
        "event_type": f"jobs.{event}",
        "run": {"run_id": run.id, "state_message": message},
        "job": {"job_id": run.job_id or 0, "name": run.name},
    }
    if task is not None:
        body["task"] = {"task_key": task.key, "run_id": task.id, "attempt_number": task.attempt}
    text = f"{subject}\n\n{message}" if message else subject
    return Notice(
        event=f"jobs.{event}", subject=subject, text=text, body=body, path=f"/api/2.2/jobs/runs/get?run_id={run.id}"
    )


# -- telling, in the transaction of what happened ---------------------------------------------------------------------


def about(run_id: int) -> str:
    """Under what the log of deliveries keeps what was told of a run."""
    return f"job run {run_id}"


def run_began(connection: Connection, run: Run) -> None:
    """A run has begun."""
    put(connection, targets(run.settings, START), notice_of(run, START), about(run.id))


def run_ended(connection: Connection, run: Run, result: Result, message: str) -> None:
    """A run has ended, or was skipped."""
    if found := told_of_end(run.settings, result):
        put(connection, found, notice_of(run, event_of(result), message=message or result.value), about(run.id))


def task_began(connection: Connection, run: Run, task: TaskRun) -> None:
    """An attempt at a task begins; those at iterations are told of with their task."""
    part = _part(run, task)
    again = task.retry > 0 and (part.get("notification_settings") or {}).get("alert_on_last_attempt")
    if not again:
        put(connection, targets(part, START), notice_of(run, START, task=task), about(run.id))


def task_ended(connection: Connection, run: Run, task: TaskRun, result: Result, message: str) -> None:
    """An attempt at a task has ended; `task` is as it was before."""
    part = _part(run, task)
    if found := told_of_end(part, result, tried_again=_is_tried_again(part, task, result) and not run.cancelled):
        notice = notice_of(run, event_of(result), task=task, message=message or result.value)
        put(connection, found, notice, about(run.id))


def slow_run(connection: Connection, run: Run) -> None:
    """A run takes longer than expected."""
    put(connection, targets(run.settings, SLOW), notice_of(run, SLOW), about(run.id))


def slow_task(connection: Connection, run: Run, task: TaskRun) -> None:
    """A task takes longer than expected."""
    put(connection, targets(_part(run, task), SLOW), notice_of(run, SLOW, task=task), about(run.id))


def task_slow_at(run: Run, task: TaskRun) -> datetime | None:
    """When an attempt that has begun takes longer than expected."""
    return slow_at(_part(run, task), task.started_at)


def _part(run: Run, task: TaskRun) -> Mapping[str, Any]:
    """The settings of a task; none for those of iterations."""
    if task.parent_id is not None:
        return {}
    return next((part for part in run.settings.get("tasks", ()) if part["task_key"] == task.key), {})


def _is_tried_again(part: Mapping[str, Any], task: TaskRun, result: Result) -> bool:
    most = int(part.get("max_retries") or 0)
    may = result is Result.FAILED or (result is Result.TIMED_OUT and bool(part.get("retry_on_timeout")))
    return may and (most == UNLIMITED or task.retry < most)
