"""Alerts on saved queries, as `w.alerts` and the older `w.alerts_legacy` write them.

Source: databricks-sdk 0.156, `databricks/sdk/service/sql.py`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StrictBool, StrictFloat, StringConstraints

from millpond.kernel.clock import rfc3339
from millpond.kernel.errors import InvalidArgument
from millpond.sql.alerts.domain import Alert, AlertDraft, AlertState, Condition, Evaluation, Operand, Operator, Value

Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=10_000)]
FIELDS = frozenset({"condition", "custom_body", "custom_subject", "display_name", "notify_on_ok", "owner_user_name",
                    "query_id", "seconds_to_retrigger"})  # fmt: skip
"""That an update may name."""


class ValueInput(BaseModel):
    """AlertOperandValue: exactly one of them."""

    bool_value: bool | None = None
    double_value: float | None = None
    string_value: Text | None = None

    def value(self) -> Value:
        """What it is. Raises InvalidArgument."""
        given = [each for each in (self.bool_value, self.double_value, self.string_value) if each is not None]
        if len(given) != 1:
            raise InvalidArgument("A threshold's value is exactly one of bool_value, double_value and string_value.")
        return given[0]


class ColumnInput(BaseModel):
    """AlertOperandColumn."""

    name: Text


class OperandInput(BaseModel):
    """AlertConditionOperand."""

    column: ColumnInput


class ThresholdInput(BaseModel):
    """AlertConditionThreshold."""

    value: ValueInput


class ConditionInput(BaseModel):
    """AlertCondition."""

    op: Operator
    operand: OperandInput
    threshold: ThresholdInput | None = None
    empty_result_state: Literal["OK", "TRIGGERED", "UNKNOWN"] | None = None

    def condition(self) -> Condition:
        """What it says; IS_NULL goes without a threshold, whatever is written."""
        threshold = self.threshold.value.value() if self.threshold and self.op.compares else None
        empty = AlertState(self.empty_result_state or AlertState.UNKNOWN)
        source = Operand(column=self.operand.column.name)
        return Condition(source=source, operator=self.op, threshold=threshold, empty_state=empty)


class AlertInput(BaseModel):
    """CreateAlertRequestAlert."""

    display_name: Text = "New alert"
    query_id: Text
    condition: ConditionInput
    custom_subject: Text | None = None
    custom_body: Text | None = None
    notify_on_ok: bool | None = None
    seconds_to_retrigger: int | None = None
    parent_path: Text | None = None
    owner_user_name: Text | None = None

    def draft(self, before: AlertDraft | None = None, mask: str = "*") -> AlertDraft:
        """A new alert, or one changed to what is given here; of its condition what the mask names."""
        condition = self.condition.condition()
        if before is not None:
            condition = _with_parts(before.condition, condition, _parts_named(mask))
        base = before or AlertDraft(name="", condition=condition, details=_details(self.parent_path))
        return replace(
            base, name=self.display_name, query_id=self.query_id, query_text="", condition=condition,
            subject=self.custom_subject or "", body=self.custom_body or "", notify_on_ok=bool(self.notify_on_ok),
            retrigger_s=self.seconds_to_retrigger or 0,
        )  # fmt: skip


_PARTS = frozenset({"op", "operand", "threshold", "empty_result_state"})


def _parts_named(mask: str) -> frozenset[str]:
    """The parts of the condition that an update's mask names."""
    paths = [name.strip().split(".") for name in mask.split(",")]
    if ["*"] in paths or ["condition"] in paths:
        return _PARTS
    return frozenset(path[1] for path in paths if path[0] == "condition")


def _with_parts(before: Condition, given: Condition, parts: frozenset[str]) -> Condition:
    """The condition with some parts as given; the others may be what this API has no words for."""
    operator = given.operator if "op" in parts else before.operator
    threshold = given.threshold if "threshold" in parts else before.threshold
    return Condition(
        source=given.source if "operand" in parts else before.source,
        operator=operator,
        threshold=threshold if operator.compares else None,
        empty_state=given.empty_state if "empty_result_state" in parts else before.empty_state,
    )


class AlertBody(BaseModel):
    """CreateAlertRequest."""

    alert: AlertInput


class UpdateBody(BaseModel):
    """UpdateAlertRequest: what is given is read with the fields that the mask leaves."""

    alert: dict[str, Any] = {}
    update_mask: str


def alert_json(alert: Alert) -> dict[str, Any]:
    """Alert. What could not be evaluated is UNKNOWN here."""
    draft, condition = alert.draft, alert.draft.condition
    told: dict[str, Any] = {"op": condition.operator.value, "operand": {"column": {"name": condition.source.column}},
                            "empty_result_state": without_error(condition.empty_state)}  # fmt: skip
    if condition.threshold is not None and not isinstance(condition.threshold, Operand):
        told["threshold"] = {"value": value_json(condition.threshold)}
    found = {
        "id": alert.id,
        "display_name": draft.name,
        "query_id": draft.query_id,
        "condition": told,
        "custom_subject": draft.subject or None,
        "custom_body": draft.body or None,
        "notify_on_ok": draft.notify_on_ok,
        "seconds_to_retrigger": draft.retrigger_s,
        "owner_user_name": alert.owner,
        "parent_path": draft.details.get("parent_path"),
        "lifecycle_state": "TRASHED" if alert.trashed else "ACTIVE",
        "state": without_error(alert.state),
        "trigger_time": rfc3339(alert.triggered_at) if alert.triggered_at else None,
        "create_time": rfc3339(alert.created_at),
        "update_time": rfc3339(alert.updated_at),
    }
    return {name: value for name, value in found.items() if value is not None}


def without_error(state: AlertState) -> str:
    """A state in the words of APIs that know no ERROR."""
    return (AlertState.UNKNOWN if state is AlertState.ERROR else state).value


def value_json(value: Value) -> dict[str, Any]:
    """AlertOperandValue."""
    kind = "bool_value" if isinstance(value, bool) else "string_value" if isinstance(value, str) else "double_value"
    return {kind: value}


def evaluation_json(evaluation: Evaluation) -> dict[str, Any]:
    """One evaluation, as our own API tells it."""
    return {
        "evaluation_id": evaluation.id,
        "cause": evaluation.cause,
        "run_as": evaluation.run_as,
        "state": evaluation.state.value if evaluation.state else "PENDING",
        "value": evaluation.value,
        "message": evaluation.message,
        "notified": evaluation.told,
        "started_at": rfc3339(evaluation.started_at),
        "ended_at": rfc3339(evaluation.ended_at) if evaluation.ended_at else None,
    }


def _details(parent_path: str | None) -> dict[str, Any]:
    return {"parent_path": parent_path} if parent_path else {}


# -- w.alerts_legacy --------------------------------------------------------------------------------------------------

_LEGACY = {">": Operator.GREATER_THAN, ">=": Operator.GREATER_THAN_OR_EQUAL, "<": Operator.LESS_THAN,
           "<=": Operator.LESS_THAN_OR_EQUAL, "==": Operator.EQUAL, "!=": Operator.NOT_EQUAL,
           "is null": Operator.IS_NULL, "is not null": Operator.IS_NOT_NULL}  # fmt: skip
_SIGNS = {operator: sign for sign, operator in _LEGACY.items()}


class OptionsInput(BaseModel):
    """AlertOptions."""

    column: Text
    op: Text
    value: StrictBool | StrictFloat | Text | None = Field(default=None, union_mode="left_to_right")
    custom_body: Text | None = None
    custom_subject: Text | None = None
    empty_result_state: Literal["ok", "triggered", "unknown"] | None = None
    muted: bool | None = None

    def condition(self) -> Condition:
        """What it says. Raises InvalidArgument."""
        operator = _LEGACY.get(self.op.strip().lower())
        if operator is None:
            raise InvalidArgument(f"options.op is '{self.op[:40]}'; it is one of {', '.join(_LEGACY)}.")
        empty = AlertState((self.empty_result_state or "unknown").upper())
        threshold = self.value if operator.compares else None
        return Condition(source=Operand(column=self.column), operator=operator, threshold=threshold, empty_state=empty)


class LegacyInput(BaseModel):
    """CreateAlert and EditAlert of the older API."""

    name: Text
    query_id: Text
    options: OptionsInput
    rearm: int | None = None
    parent: Text | None = None

    def draft(self, before: AlertDraft | None = None) -> AlertDraft:
        """A new alert, or one changed to what is given here."""
        condition, options = self.options.condition(), self.options
        if before is not None:
            condition = _with_unsaid(condition, before.condition)
        base = before or AlertDraft(name="", condition=condition, details=_details(self.parent))
        return replace(
            base, name=self.name, query_id=self.query_id, query_text="", condition=condition,
            subject=options.custom_subject or "", body=options.custom_body or "", muted=bool(options.muted),
            retrigger_s=self.rearm or 0,
        )  # fmt: skip


def _with_unsaid(given: Condition, before: Condition) -> Condition:
    """A condition with what there was before and the older API has no words for, where it says the rest as it was."""
    return replace(
        given,
        source=before.source if given.source.column == before.source.column else given.source,
        threshold=(
            before.threshold
            if given.operator.compares and given.threshold is None and isinstance(before.threshold, Operand)
            else given.threshold
        ),
        empty_state=(
            before.empty_state if given.empty_state.value == without_error(before.empty_state) else given.empty_state
        ),
    )


def legacy_json(alert: Alert) -> dict[str, Any]:
    """LegacyAlert; of the query its id alone, for `w.queries.get`."""
    draft, condition = alert.draft, alert.draft.condition
    options: dict[str, Any] = {
        "column": condition.source.column,
        "op": _SIGNS.get(condition.operator, condition.operator.value),
        "value": None if isinstance(condition.threshold, Operand) else condition.threshold,
        "empty_result_state": without_error(condition.empty_state).lower(),
        "muted": draft.muted,
        "custom_subject": draft.subject or None,
        "custom_body": draft.body or None,
    }
    return {
        "id": alert.id, "name": draft.name, "options": options, "rearm": draft.retrigger_s or None,
        "query": {"id": draft.query_id}, "parent": draft.details.get("parent_path"),
        "state": without_error(alert.state).lower(), "user": {"email": alert.owner},
        "last_triggered_at": rfc3339(alert.triggered_at) if alert.triggered_at else None,
        "created_at": rfc3339(alert.created_at), "updated_at": rfc3339(alert.updated_at),
    }  # fmt: skip


def update_of(given: Mapping[str, Any], mask: str, field: str) -> str | None:
    """What an update gives for a field that is none of the draft's, where its mask names it."""
    named = mask.strip() == "*" or field in [name.strip() for name in mask.split(",")]
    value = given.get(field) if named else None
    return str(value) if value else None
