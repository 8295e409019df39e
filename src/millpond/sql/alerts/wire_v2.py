"""Alerts on texts, with their own schedule and subscriptions, as `w.alerts_v2` writes them.

Source: databricks-sdk 0.156, `databricks/sdk/service/sql.py` (AlertV2).
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator

from millpond.kernel.clock import rfc3339
from millpond.kernel.errors import InvalidArgument
from millpond.notifications.domain import Target
from millpond.sql.alerts.domain import (
    MOST_SUBSCRIPTIONS,
    Aggregation,
    Alert,
    AlertDraft,
    AlertState,
    Condition,
    Operand,
    Operator,
    Schedule,
)
from millpond.sql.alerts.wire import Text, ValueInput, value_json
from millpond.sql.domain import Parameter

FIELDS = frozenset({
    "custom_description", "custom_summary", "custom_template_format", "display_name", "evaluation", "parameters",
    "query_text", "run_as", "run_as_user_name", "schedule", "warehouse_id",
})  # fmt: skip
"""That an update may name."""
_APPLICATION = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""As service principals are called."""


class ColumnInput(BaseModel):
    """AlertV2OperandColumn."""

    name: Text
    aggregation: Aggregation | None = None
    display: Text | None = None

    @field_validator("aggregation", mode="before")
    @classmethod
    def _first_row(cls, value: Any) -> Any:
        return None if value in ("", "AGGREGATION_UNSPECIFIED") else value

    def operand(self) -> Operand:
        """What it says."""
        return Operand(column=self.name, aggregation=self.aggregation, display=self.display or "")


class OperandInput(BaseModel):
    """AlertV2Operand: a column or a value."""

    column: ColumnInput | None = None
    value: ValueInput | None = None

    def threshold(self) -> Any:
        """What it is. Raises InvalidArgument."""
        if (self.column is None) is (self.value is None):
            raise InvalidArgument("evaluation.threshold is one of column and value.")
        return self.column.operand() if self.column else self.value and self.value.value()


class SubscriptionInput(BaseModel):
    """AlertV2Subscription: a user's address, or a notification destination."""

    user_email: Text | None = None
    destination_id: Text | None = None

    def target(self) -> Target:
        """Who it is. Raises InvalidArgument."""
        if bool(self.user_email) is bool(self.destination_id):
            raise InvalidArgument("A subscription is one of user_email and destination_id.")
        return Target(address=self.user_email or "", destination_id=self.destination_id or "")


class NotificationInput(BaseModel):
    """AlertV2Notification."""

    notify_on_ok: bool | None = None
    retrigger_seconds: int | None = None
    subscriptions: list[SubscriptionInput] | None = Field(default=None, max_length=MOST_SUBSCRIPTIONS)


class EvaluationInput(BaseModel):
    """AlertV2Evaluation."""

    source: ColumnInput
    comparison_operator: Operator
    threshold: OperandInput | None = None
    empty_result_state: AlertState | None = None
    notification: NotificationInput | None = None

    def condition(self) -> Condition:
        """What it says; without a comparison there is no threshold, whatever is written."""
        operator = self.comparison_operator
        threshold = self.threshold.threshold() if self.threshold and operator.compares else None
        empty = self.empty_result_state or AlertState.UNKNOWN
        return Condition(source=self.source.operand(), operator=operator, threshold=threshold, empty_state=empty)


class ScheduleInput(BaseModel):
    """CronSchedule."""

    quartz_cron_schedule: Text
    timezone_id: Text
    pause_status: Literal["PAUSED", "UNPAUSED"] | None = None

    def schedule(self) -> Schedule:
        """What it says."""
        paused = self.pause_status == "PAUSED"
        return Schedule(cron=self.quartz_cron_schedule, timezone=self.timezone_id, paused=paused)


class ParameterInput(BaseModel):
    """AlertStatementParameter."""

    name: Text
    type: Text | None = None
    value: Text | None = None


class AlertV2Input(BaseModel):
    """AlertV2; one that was made on a page may have no schedule and no warehouse."""

    display_name: Text
    query_text: str
    warehouse_id: Text | None = None
    evaluation: EvaluationInput
    schedule: ScheduleInput | None = None
    parameters: list[ParameterInput] | None = Field(default=None, max_length=100)
    custom_summary: Text | None = None
    custom_description: Text | None = None
    custom_template_format: Literal["HTML", "MARKDOWN"] | None = None
    parent_path: Text | None = None

    def draft(self, before: AlertDraft | None = None) -> AlertDraft:
        """A new alert, or one changed to what is given here."""
        evaluation = self.evaluation
        told, condition = evaluation.notification or NotificationInput(), evaluation.condition()
        details = {"parent_path": self.parent_path} if self.parent_path else {}
        return replace(
            before or AlertDraft(name="", condition=condition, details=details),
            name=self.display_name,
            query_id=None,
            query_text=self.query_text,
            warehouse_id=self.warehouse_id,
            condition=condition,
            schedule=self.schedule.schedule() if self.schedule else None,
            parameters=tuple(
                Parameter(name=each.name, value=each.value, type=each.type or "STRING")
                for each in self.parameters or ()
            ),
            subscriptions=tuple(each.target() for each in told.subscriptions or ()),
            notify_on_ok=bool(told.notify_on_ok),
            retrigger_s=told.retrigger_seconds or 0,
            subject=self.custom_summary or "",
            body=self.custom_description or "",
            template_format=self.custom_template_format or "",
        )


class NewAlertV2Input(AlertV2Input):
    """AlertV2 that is made."""

    warehouse_id: Text
    schedule: ScheduleInput


def run_as_of(given: Mapping[str, Any]) -> str | None:
    """As whom an alert is to run, where that is said."""
    run_as = given.get("run_as")
    run_as = run_as if isinstance(run_as, Mapping) else {}
    name = run_as.get("service_principal_name") or run_as.get("user_name") or given.get("run_as_user_name")
    return str(name) if name else None


def alert_v2_json(alert: Alert) -> dict[str, Any]:
    """AlertV2."""
    draft = alert.draft
    run_as = {"service_principal_name" if _APPLICATION.fullmatch(alert.run_as) else "user_name": alert.run_as}
    found = {
        "id": alert.id,
        "display_name": draft.name,
        "query_text": draft.query_text,
        "warehouse_id": draft.warehouse_id,
        "parameters": [{"name": each.name, "type": each.type, "value": each.value} for each in draft.parameters],
        "evaluation": _evaluation_json(alert),
        "schedule": _schedule_json(draft.schedule),
        "custom_summary": draft.subject or None,
        "custom_description": draft.body or None,
        "custom_template_format": draft.template_format or None,
        "parent_path": draft.details.get("parent_path"),
        "owner_user_name": alert.owner,
        "run_as": run_as,
        "run_as_user_name": alert.run_as,
        "effective_run_as": run_as,
        "lifecycle_state": "DELETED" if alert.trashed else "ACTIVE",
        "create_time": rfc3339(alert.created_at),
        "update_time": rfc3339(alert.updated_at),
    }
    return {name: value for name, value in found.items() if value is not None}


def _evaluation_json(alert: Alert) -> dict[str, Any]:
    draft, condition = alert.draft, alert.draft.condition
    found: dict[str, Any] = {
        "source": _operand_json(condition.source),
        "comparison_operator": condition.operator.value,
        "empty_result_state": condition.empty_state.value,
        "state": alert.state.value,
        "notification": {
            "notify_on_ok": draft.notify_on_ok,
            "retrigger_seconds": draft.retrigger_s,
            "subscriptions": [_subscription_json(each) for each in draft.subscriptions],
        },
    }
    threshold = condition.threshold
    if isinstance(threshold, Operand):
        found["threshold"] = {"column": _operand_json(threshold)}
    elif threshold is not None:
        found["threshold"] = {"value": value_json(threshold)}
    if alert.evaluated_at is not None:
        found["last_evaluated_at"] = rfc3339(alert.evaluated_at)
    return found


def _operand_json(operand: Operand) -> dict[str, Any]:
    told = {"name": operand.column, "aggregation": operand.aggregation, "display": operand.display}
    return {name: value for name, value in told.items() if value}


def _subscription_json(target: Target) -> dict[str, str]:
    return {"destination_id": target.destination_id} if target.destination_id else {"user_email": target.address}


def _schedule_json(schedule: Schedule | None) -> dict[str, Any] | None:
    if schedule is None:
        return None
    return {
        "quartz_cron_schedule": schedule.cron,
        "timezone_id": schedule.timezone,
        "pause_status": "PAUSED" if schedule.paused else "UNPAUSED",
    }
