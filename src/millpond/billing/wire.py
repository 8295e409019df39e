"""Budgets as `AccountClient.budgets` writes them; usage, prices and quotas as JSON of our own.

Source: databricks-sdk 0.156, `databricks/sdk/service/billing.py`. Of budgets these are ours: `time_period` DAY, the
action NOTIFICATION_DESTINATION, and the filters beside `tags` and `workspace_id`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from millpond.billing.budgets import Standing as BudgetStanding
from millpond.billing.domain import PRICED, Alert, Budget, Holder, Measure, Period, Price, Product, Quota, Scope
from millpond.billing.quotas import Standing
from millpond.billing.store.usage import Sum
from millpond.kernel.clock import epoch_ms, rfc3339
from millpond.kernel.errors import InvalidArgument, NotImplementedHere
from millpond.kernel.ids import new_id

_EMAIL, _DESTINATION = "EMAIL_NOTIFICATION", "NOTIFICATION_DESTINATION"
_Text = Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")]
_Texts = Annotated[list[_Text], Field(max_length=100)]


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ActionInput(_Input):
    """Whom an alert tells."""

    action_configuration_id: str | None = None
    action_type: str = _EMAIL
    target: _Text


class AlertInput(_Input):
    """When an alert tells."""

    alert_configuration_id: str | None = None
    action_configurations: Annotated[list[ActionInput], Field(max_length=50)] = []
    quantity_threshold: str
    quantity_type: Literal["LIST_PRICE_DOLLARS_USD"] = "LIST_PRICE_DOLLARS_USD"
    time_period: Period = Period.MONTH
    trigger_type: Literal["CUMULATIVE_SPENDING_EXCEEDED"] = "CUMULATIVE_SPENDING_EXCEEDED"
    scope_type: Literal["ALERT_CONFIGURATION_SCOPE_TYPE_SHARED"] | None = None

    @property
    def alert(self) -> Alert:
        """It. Raises InvalidArgument, NotImplementedHere."""
        try:
            threshold = float(self.quantity_threshold)
        except ValueError as error:
            raise InvalidArgument(f"quantity_threshold is '{self.quantity_threshold[:40]}', not a number.") from error
        for each in self.action_configurations:
            if each.action_type not in (_EMAIL, _DESTINATION):
                raise NotImplementedHere(f"Budgets here have no {each.action_type[:60]}; a quota refuses usage.")
        told = {kind: tuple(each.target for each in self.action_configurations if each.action_type == kind)
                for kind in (_EMAIL, _DESTINATION)}  # fmt: skip
        return Alert(
            id=new_id(), threshold=threshold, period=self.time_period, emails=told[_EMAIL],
            destinations=told[_DESTINATION],
        )  # fmt: skip


class ClauseInput(_Input):
    """One of some values."""

    operator: Literal["IN"] = "IN"
    values: _Texts = []


class WorkspacesInput(_Input):
    """Of some workspaces."""

    operator: Literal["IN"] = "IN"
    values: list[int] = []


class TagInput(_Input):
    """A tag with one of some values."""

    key: _Text
    value: ClauseInput


class FilterInput(_Input):
    """What a budget covers."""

    tags: Annotated[list[TagInput], Field(max_length=20)] | None = None
    workspace_id: WorkspacesInput | None = None
    run_as: _Texts | None = None
    billing_origin_product: list[Product] | None = None
    job_id: _Texts | None = None
    endpoint_name: _Texts | None = None

    def scope(self, workspace_id: int) -> Scope:
        """It. Raises InvalidArgument for another workspace than this."""
        if self.workspace_id and self.workspace_id.values and self.workspace_id.values != [workspace_id]:
            raise InvalidArgument(f"filter.workspace_id: there is one workspace here, {workspace_id}.")
        return Scope(
            tags={each.key: tuple(each.value.values) for each in self.tags or ()},
            users=tuple(self.run_as or ()), products=tuple(self.billing_origin_product or ()),
            jobs=tuple(self.job_id or ()), endpoints=tuple(self.endpoint_name or ()),
        )  # fmt: skip


class BudgetInput(_Input):
    """A budget to be made or written anew."""

    account_id: str | None = None
    budget_configuration_id: str | None = None
    create_time: int | None = None
    update_time: int | None = None
    display_name: Annotated[str, Field(max_length=128)] = ""
    filter: FilterInput | None = None
    alert_configurations: Annotated[list[AlertInput], Field(max_length=50)] = []
    include_external_spend: Literal[False] | None = None
    resource_type: Literal["BUDGET_RESOURCE_TYPE_ALL_RESOURCES"] | None = None


class BudgetBody(BaseModel):
    """The body of a call."""

    budget: BudgetInput


class PriceInput(_Input):
    """A price to be set."""

    sku_name: str
    price: float
    price_start_time: datetime | None = None


class QuotaInput(_Input):
    """A quota to be set."""

    holder: Holder
    name: str
    measure: Measure
    limit: float
    period: Period | None = None


class LimitInput(_Input):
    """Another limit."""

    limit: float


def budget_json(budget: Budget, *, account_id: str) -> dict[str, Any]:
    """A budget."""
    scope = budget.scope
    tags = [{"key": key, "value": {"operator": "IN", "values": list(values)}} for key, values in scope.tags.items()]
    ours = {
        "run_as": scope.users, "billing_origin_product": scope.products, "job_id": scope.jobs,
        "endpoint_name": scope.endpoints,
    }  # fmt: skip
    filters = {"tags": tags} | {name: list(values) for name, values in ours.items()}
    return {
        "account_id": account_id,
        "budget_configuration_id": budget.id,
        "display_name": budget.name,
        "create_time": epoch_ms(budget.created_at),
        "update_time": epoch_ms(budget.updated_at),
        "filter": {name: values for name, values in filters.items() if values},
        "alert_configurations": [_alert_json(each) for each in budget.alerts],
    }


def _alert_json(alert: Alert) -> dict[str, Any]:
    actions = [(_EMAIL, each) for each in alert.emails] + [(_DESTINATION, each) for each in alert.destinations]
    return {
        "alert_configuration_id": alert.id,
        "time_period": alert.period.value,
        "trigger_type": "CUMULATIVE_SPENDING_EXCEEDED",
        "quantity_type": "LIST_PRICE_DOLLARS_USD",
        "quantity_threshold": repr(alert.threshold).removesuffix(".0"),
        "action_configurations": [
            {"action_configuration_id": f"{alert.id}-{number}", "action_type": kind, "target": target}
            for number, (kind, target) in enumerate(actions)
        ],
    }


def spent_json(standing: BudgetStanding, currency: str) -> dict[str, Any]:
    """What was spent of a budget."""
    budget = standing.budget
    alerts = [{"period": each.period.value, "threshold": each.threshold} for each in budget.alerts]
    return {
        "budget_configuration_id": budget.id,
        "display_name": budget.name,
        "currency": currency,
        "spent_today": standing.spent[Period.DAY],
        "spent_this_month": standing.spent[Period.MONTH],
        "alerts": alerts,
    }


def price_json(price: Price, currency: str) -> dict[str, Any]:
    """A price."""
    return {
        "sku_name": price.sku,
        "usage_unit": PRICED[price.sku].unit,
        "currency_code": currency,
        "price": price.amount,
        "price_start_time": rfc3339(price.start),
        "price_end_time": rfc3339(price.end) if price.end else None,
    }


def quota_json(quota: Quota) -> dict[str, Any]:
    """A quota."""
    told = {"id": quota.id, "holder": quota.holder, "name": quota.name, "measure": quota.measure, "limit": quota.limit,
            "created_by": quota.created_by, "created_at": rfc3339(quota.created_at)}  # fmt: skip
    return told | ({"period": quota.period} if quota.period else {})


def standing_json(standing: Standing) -> dict[str, Any]:
    """A quota, with what is used of it where that adds up."""
    return quota_json(standing.quota) | ({"used": standing.used} if standing.quota.period else {})


def sums_json(found: Sequence[Sum], by: str) -> list[dict[str, Any]]:
    """Usage that was added up."""
    return [_sum_json(each, by) for each in found]


def _sum_json(found: Sum, by: str) -> dict[str, Any]:
    keys = {"object": ("kind", "id", "name"), "sku": ()}.get(by, (by,))
    start = {"start_time": rfc3339(found.start)} if found.start else {}
    return {
        **start,
        **dict(zip(keys, found.key, strict=True)),
        "sku_name": found.sku,
        "usage_unit": found.resource.unit,
        "usage_quantity": found.quantity,
        "cost": found.cost,
    }
