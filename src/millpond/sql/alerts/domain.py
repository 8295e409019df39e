"""What an alert is, when it asks, and what follows from what it found."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from millpond.identity.access import Securable
from millpond.kernel.clock import utc_now
from millpond.kernel.errors import InvalidArgument
from millpond.kernel.quartz import first_after, parsed, zone_of
from millpond.kernel.storable import storable
from millpond.notifications.domain import Target
from millpond.sql.domain import MAX_TEXT, Parameter, check_parameters, statement_kind

MOST_SUBSCRIPTIONS = 100
MOST_NAME = 255
_MOST_TEMPLATE = 10_000
_LONGEST_TEXT = 2000
"""Of a value, a message, a cell of a result."""
_LONGEST_RETRIGGER_S = 10**9
_READING = frozenset({"SELECT", "SHOW", "DESCRIBE"})


class AlertState(StrEnum):
    """What the last evaluation said. Source: `AlertEvaluationState`."""

    UNKNOWN = "UNKNOWN"
    """Not evaluated yet, or nothing can be said: the value is NULL, or the condition says so of an empty result."""
    OK = "OK"
    TRIGGERED = "TRIGGERED"
    ERROR = "ERROR"
    """It could not be evaluated."""


class Operator(StrEnum):
    """How the value is compared. Source: `ComparisonOperator`."""

    EQUAL = "EQUAL"
    NOT_EQUAL = "NOT_EQUAL"
    GREATER_THAN = "GREATER_THAN"
    GREATER_THAN_OR_EQUAL = "GREATER_THAN_OR_EQUAL"
    LESS_THAN = "LESS_THAN"
    LESS_THAN_OR_EQUAL = "LESS_THAN_OR_EQUAL"
    IS_NULL = "IS_NULL"
    IS_NOT_NULL = "IS_NOT_NULL"

    @property
    def compares(self) -> bool:
        """Whether there is a threshold."""
        return self not in (Operator.IS_NULL, Operator.IS_NOT_NULL)


SIGNS: Mapping[Operator, str] = {
    Operator.EQUAL: "=", Operator.NOT_EQUAL: "!=", Operator.GREATER_THAN: ">", Operator.GREATER_THAN_OR_EQUAL: ">=",
    Operator.LESS_THAN: "<", Operator.LESS_THAN_OR_EQUAL: "<=", Operator.IS_NULL: "is NULL",
    Operator.IS_NOT_NULL: "is not NULL",
}  # fmt: skip


class Aggregation(StrEnum):
    """What of a column counts; none for its first row."""

    SUM = "SUM"
    COUNT = "COUNT"
    COUNT_DISTINCT = "COUNT_DISTINCT"
    AVG = "AVG"
    MEDIAN = "MEDIAN"
    MIN = "MIN"
    MAX = "MAX"
    STDDEV = "STDDEV"


Value = float | str | bool


@dataclass(frozen=True, kw_only=True)
class Operand:
    """A column of the result, and what of it."""

    column: str
    aggregation: Aggregation | None = None
    display: str = ""

    def __str__(self) -> str:
        """As messages show it."""
        return f"{self.aggregation}({self.column})" if self.aggregation else self.column


@dataclass(frozen=True, kw_only=True)
class Condition:
    """When the alert is triggered."""

    source: Operand
    operator: Operator
    threshold: Operand | Value | None = None
    empty_state: AlertState = AlertState.UNKNOWN
    """What a result without rows means."""

    def __str__(self) -> str:
        """As messages and pages show it."""
        threshold = f" {self.threshold_text}" if self.operator.compares else ""
        return f"{self.source} {SIGNS[self.operator]}{threshold}"

    @property
    def threshold_text(self) -> str:
        """The threshold in words."""
        if isinstance(self.threshold, bool):
            return str(self.threshold).lower()
        if isinstance(self.threshold, float):
            return repr(self.threshold).removesuffix(".0")  # which reads as the same number
        return str(self.threshold or "")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When the alert asks by itself."""

    cron: str
    """As Quartz writes it."""
    timezone: str
    paused: bool = False

    def next_after(self, moment: datetime) -> datetime | None:
        """The next time to ask; None while it is paused, and where there is none."""
        return None if self.paused else parsed(self.cron).next_after(moment, zone_of(self.timezone))


@dataclass(frozen=True, kw_only=True)
class AlertDraft:
    """What somebody may choose about an alert."""

    name: str
    condition: Condition
    query_id: str | None = None
    """A saved query, in place of a text."""
    query_text: str = ""
    parameters: tuple[Parameter, ...] = ()
    warehouse_id: str | None = None
    """None for the saved query's own."""
    schedule: Schedule | None = None
    subscriptions: tuple[Target, ...] = ()
    notify_on_ok: bool = False
    retrigger_s: int = 0
    """So long after a message another one may follow while it stays triggered; 0 for never."""
    subject: str = ""
    body: str = ""
    template_format: str = ""
    """How `subject` and `body` name what they take: HTML or empty as `{{NAME}}`, MARKDOWN also as `@NAME`."""
    muted: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)
    """What clients set and read back and we do not act on: parent_path."""

    @property
    def asked(self) -> tuple[Any, ...]:
        """What an evaluation depends on: with another one, what was found before counts no more."""
        return (self.query_id, self.query_text, self.parameters, self.warehouse_id, self.condition)

    @property
    def told(self) -> tuple[Any, ...]:
        """Who learns what."""
        return (self.subscriptions, self.subject, self.body, self.template_format)


@dataclass(frozen=True, kw_only=True)
class Alert:
    """A question with a condition, and what is known of it."""

    id: str
    owner: str
    run_as: str
    modified_by: str
    trashed: bool
    draft: AlertDraft
    state: AlertState = AlertState.UNKNOWN
    settled: AlertState = AlertState.UNKNOWN
    """The last of OK and TRIGGERED that those who subscribed were told of, or need not be: what could not be evaluated
    in between triggers nothing anew."""
    error_told: bool = False
    """Whether they were told that it cannot be evaluated, and it could not since."""
    evaluated_at: datetime | None = None
    triggered_at: datetime | None = None
    """When it last came to be triggered."""
    told_at: datetime | None = None
    """When somebody was last told that it is."""
    due_at: datetime | None = None
    """When its schedule asks next."""
    created_at: datetime
    updated_at: datetime

    @property
    def securable(self) -> Securable:
        """The alert under permission; by its id, because a refusal must not tell the name."""
        return Securable(kind="alert", name=self.id, owners=(self.owner,), ids=(alert_grant_id(self.id),))


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One asking."""

    id: str
    alert_id: str
    cause: str
    """`schedule`, `run now`, or `job`."""
    run_as: str
    state: AlertState | None = None
    """None while it is under way."""
    value: str = ""
    message: str = ""
    told: int = 0
    """How many were told of it."""
    started_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What an evaluation found."""

    state: AlertState
    value: str = ""
    message: str = ""
    """Why there is no better state."""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str | None, ...], ...] = ()
    """The first of the result."""
    query_name: str = ""


@dataclass(frozen=True, kw_only=True)
class Told:
    """Whom a job's task lets be told."""

    also: tuple[Target, ...] = ()
    """Besides those who subscribed, by each run that finds the condition met, or cannot evaluate it."""
    quiet: bool = False
    """Whether nobody is."""


def alert_grant_id(alert_id: str) -> str:
    """Under which an alert has grants."""
    return f"alert {alert_id}"


def fit(verdict: Verdict) -> Verdict:
    """The verdict as it may be kept and told: texts without NUL, and each of a bounded length."""
    return replace(
        verdict,
        value=_fit(verdict.value),
        message=_fit(verdict.message),
        columns=tuple(map(_fit, verdict.columns)),
        rows=tuple(tuple(None if cell is None else _fit(cell) for cell in row) for row in verdict.rows),
    )


def _fit(text: str) -> str:
    return str(storable(text[:_LONGEST_TEXT]))


def after(alert: Alert, state: AlertState, now: datetime, *, silent: bool = False) -> tuple[Alert, bool]:
    """The alert once it was evaluated, and whether those who subscribed are to be told; `silent` where they are not.

    They are told when it comes to be triggered, and again after `retrigger_s` while it stays so; that it is OK again,
    if it says so; and once when it cannot be evaluated any more. What they were not told now, they are the next time.
    """
    draft, was = alert.draft, alert.settled
    known: dict[str, Any] = {"state": state, "evaluated_at": now}
    heard: dict[str, Any] = {"error_told": state is AlertState.ERROR}
    if state is AlertState.TRIGGERED:
        waited = alert.told_at is None or now - alert.told_at >= timedelta(seconds=draft.retrigger_s)
        tells = was is not AlertState.TRIGGERED or bool(draft.retrigger_s and waited)
        heard |= {"settled": state, **({"told_at": now} if tells else {})}
        known |= {"triggered_at": now} if AlertState.TRIGGERED not in (was, alert.state) else {}
    elif state is AlertState.OK:
        tells = draft.notify_on_ok and was is AlertState.TRIGGERED
        heard |= {"settled": state}
    else:
        tells = state is AlertState.ERROR and not alert.error_told
    missed = tells and silent and draft.subscriptions
    return replace(alert, **known, **({} if missed else heard)), tells


def changed(alert: Alert, draft: AlertDraft, **more: Any) -> Alert:
    """The alert with another draft: begun anew where that asks something else, and due when its schedule says."""
    known: dict[str, Any] = {"draft": draft, "updated_at": utc_now(), **more}
    if draft.asked != alert.draft.asked:
        known |= {"state": AlertState.UNKNOWN, "settled": AlertState.UNKNOWN, "told_at": None, "error_told": False}
    if draft.schedule != alert.draft.schedule:
        known["due_at"] = next_due(draft, utc_now())
    return replace(alert, **known)


def next_due(draft: AlertDraft, moment: datetime) -> datetime | None:
    """When the schedule asks next after a moment."""
    return draft.schedule.next_after(moment) if draft.schedule else None


def with_values(draft: AlertDraft, values: Mapping[str, str]) -> AlertDraft:
    """The draft with other values of its parameters. Raises InvalidArgument for one that it has not."""
    known = [each.name for each in draft.parameters]
    if unknown := sorted(set(values) - set(known)):
        told = ", ".join(map(str, known)) or "none"
        raise InvalidArgument(f"The alert has no parameter '{unknown[0][:60]}'; it has {told}.")
    given = tuple(replace(each, value=values.get(each.name or "", each.value)) for each in draft.parameters)
    return replace(draft, parameters=given)


# -- checks -----------------------------------------------------------------------------------------------------------


def checked_alert(draft: AlertDraft) -> AlertDraft:
    """The draft. Raises InvalidArgument naming what is wrong."""
    if not draft.name.strip() or len(draft.name) > MOST_NAME or not draft.name.isprintable():
        raise InvalidArgument(f"An alert's display_name has 1 to {MOST_NAME} printable characters.")
    if bool(draft.query_id) is bool(draft.query_text.strip()):
        raise InvalidArgument("An alert asks either a saved query (query_id) or a text (query_text).")
    if draft.query_text:
        check_reads(draft.query_text)
    check_parameters(draft.parameters)
    _check_condition(draft.condition)
    if draft.schedule is not None:
        _check_schedule(draft.schedule)
    if len(draft.subscriptions) > MOST_SUBSCRIPTIONS:
        raise InvalidArgument(f"An alert has at most {MOST_SUBSCRIPTIONS} subscriptions.")
    if not 0 <= draft.retrigger_s <= _LONGEST_RETRIGGER_S:
        raise InvalidArgument(f"The seconds to retrigger are {draft.retrigger_s}; give 0 for never, or more.")
    if len(draft.subject) > MOST_NAME or len(draft.body) > _MOST_TEMPLATE or "\0" in draft.subject + draft.body:
        raise InvalidArgument(
            f"An alert's own subject has at most {MOST_NAME} characters, its body {_MOST_TEMPLATE:,}, none of them NUL."
        )
    return draft


def check_reads(text: str) -> None:
    """Raises InvalidArgument for what is no query: an evaluation may be asked twice, so it must change nothing."""
    if len(text) > MAX_TEXT or "\0" in text:
        raise InvalidArgument(f"A query has at most {MAX_TEXT} characters, none of them NUL.")
    kind = statement_kind(text)
    if kind not in _READING:
        raise InvalidArgument(f"An alert's query reads: it is a SELECT, SHOW or DESCRIBE; this is {kind}.")


def _check_condition(condition: Condition) -> None:
    for operand in (condition.source, condition.threshold):
        if isinstance(operand, Operand) and not 0 < len(operand.column) <= MOST_NAME:
            raise InvalidArgument("The condition names no column of the result.")
    if condition.operator.compares is (condition.threshold is None):
        needs = "needs a threshold" if condition.operator.compares else "takes no threshold"
        raise InvalidArgument(f"The operator {condition.operator} {needs}.")
    if isinstance(condition.threshold, float) and not math.isfinite(condition.threshold):
        raise InvalidArgument("The threshold is no finite number.")
    if isinstance(condition.threshold, str) and (len(condition.threshold) > 10_000 or "\0" in condition.threshold):
        raise InvalidArgument("The threshold has more than 10,000 characters, or NUL.")


def _check_schedule(schedule: Schedule) -> None:
    try:
        first_after(schedule.cron, utc_now(), zone_of(schedule.timezone))
    except InvalidArgument as error:
        raise InvalidArgument(f"The schedule: {error.message}") from error
    if len(parsed(schedule.cron).seconds) > 1:
        raise InvalidArgument(
            f"The schedule '{schedule.cron}' names several seconds of a minute; an alert asks at most once a minute, "
            "so name one, as '0 * * * * ?' does."
        )
