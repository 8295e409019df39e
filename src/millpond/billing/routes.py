"""Budgets of the account, as `databricks-sdk` calls them; usage, prices and quotas below a path of our own."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from millpond.billing.budgets import BudgetService
from millpond.billing.prices import PriceService
from millpond.billing.quotas import QuotaService
from millpond.billing.usage import Asked, UsageService
from millpond.billing.wire import (
    BudgetBody,
    FilterInput,
    LimitInput,
    PriceInput,
    QuotaInput,
    budget_json,
    price_json,
    quota_json,
    spent_json,
    standing_json,
    sums_json,
)
from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.identity.routes.account import only_account
from millpond.kernel.clock import rfc3339, utc_now
from millpond.kernel.errors import InvalidArgument

_BUDGETS = "/api/2.1/accounts/{account_id}/budgets"
_OURS = "/api/millpond"
_Me = Annotated[Principal, Depends(current_principal)]


def billing_router(
    usage: UsageService, prices: PriceService, budgets: BudgetService, quotas: QuotaService, *, workspace_id: int
) -> APIRouter:
    """All of it."""
    router = APIRouter()
    _add_budgets(router, budgets, workspace_id)
    _add_usage(router, usage, prices, budgets)
    _add_quotas(router, quotas)
    return router


def _add_budgets(router: APIRouter, budgets: BudgetService, workspace_id: int) -> None:
    account, ours = str(workspace_id), [only_account(workspace_id)]

    @router.post(_BUDGETS, dependencies=ours)
    def create(me: _Me, body: BudgetBody) -> dict[str, Any]:
        given = body.budget
        scope = (given.filter or FilterInput()).scope(workspace_id)
        made = budgets.create(me, given.display_name, scope, [each.alert for each in given.alert_configurations])
        return {"budget": budget_json(made, account_id=account)}

    @router.get(_BUDGETS, dependencies=ours)
    def list_all(me: _Me) -> dict[str, Any]:
        return {"budgets": [budget_json(each, account_id=account) for each in budgets.list_all(me)]}

    @router.get(f"{_BUDGETS}/{{budget_id}}", dependencies=ours)
    def get(me: _Me, budget_id: str) -> dict[str, Any]:
        return {"budget": budget_json(budgets.get(me, budget_id), account_id=account)}

    @router.put(f"{_BUDGETS}/{{budget_id}}", dependencies=ours)
    def update(me: _Me, budget_id: str, body: BudgetBody) -> dict[str, Any]:
        given = body.budget
        scope = (given.filter or FilterInput()).scope(workspace_id)
        alerts = [each.alert for each in given.alert_configurations]
        made = budgets.update(me, budget_id, given.display_name, scope, alerts)
        return {"budget": budget_json(made, account_id=account)}

    @router.delete(f"{_BUDGETS}/{{budget_id}}", dependencies=ours)
    def delete(me: _Me, budget_id: str) -> dict[str, Any]:
        budgets.remove(me, budget_id)
        return {}


def _add_usage(router: APIRouter, usage: UsageService, prices: PriceService, budgets: BudgetService) -> None:
    @router.get(f"{_OURS}/usage")
    def report(
        me: _Me,
        since: str | None = None,
        until: str | None = None,
        group_by: str = "product",
        tag: str = "",
        bucket: str = "",
        user: str | None = None,
        product: str | None = None,
        run_id: int | None = None,
        kind: str | None = None,
        object_id: str | None = None,
    ) -> dict[str, Any]:
        """Usage of the last 30 days, or since a time."""
        begins = _moment("since", since) or utc_now() - timedelta(days=30)
        asked = Asked(
            since=begins, until=_moment("until", until), by=group_by, tag=tag, bucket=bucket, user=user,
            product=product, run_id=run_id, kind=kind, object_id=object_id,
        )  # fmt: skip
        found = sums_json(usage.report(me, asked), group_by)
        return {"since": rfc3339(begins), "currency": prices.currency, "usage": found}

    @router.get(f"{_OURS}/prices")
    def list_prices(_me: _Me) -> dict[str, Any]:
        return {"prices": [price_json(each, prices.currency) for each in prices.list_all()]}

    @router.post(f"{_OURS}/prices")
    def set_price(me: _Me, body: PriceInput) -> dict[str, Any]:
        start = None if body.price_start_time is None else _aware(body.price_start_time)
        return price_json(prices.set_price(me, body.sku_name, body.price, start), prices.currency)

    @router.get(f"{_OURS}/budgets")
    def standings(me: _Me) -> dict[str, Any]:
        return {"budgets": [spent_json(each, prices.currency) for each in budgets.standings(me)]}


def _add_quotas(router: APIRouter, quotas: QuotaService) -> None:
    @router.get(f"{_OURS}/quotas")
    def list_all(me: _Me) -> dict[str, Any]:
        return {"quotas": [standing_json(each) for each in quotas.list_all(me)]}

    @router.post(f"{_OURS}/quotas")
    def create(me: _Me, body: QuotaInput) -> dict[str, Any]:
        return quota_json(quotas.create(me, **dict(body)))

    @router.patch(f"{_OURS}/quotas/{{quota_id}}")
    def change(me: _Me, quota_id: str, body: LimitInput) -> dict[str, Any]:
        return quota_json(quotas.change(me, quota_id, body.limit))

    @router.delete(f"{_OURS}/quotas/{{quota_id}}")
    def delete(me: _Me, quota_id: str) -> dict[str, Any]:
        quotas.remove(me, quota_id)
        return {}


def _moment(name: str, text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        return _aware(datetime.fromisoformat(text))
    except ValueError as error:
        raise InvalidArgument(f"{name} is '{text[:40]}'; give a time as 2026-11-26 or 2026-11-26T22:00:00Z.") from error


def _aware(moment: datetime) -> datetime:
    """A time without a zone is one of UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
