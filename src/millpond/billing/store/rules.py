"""Prices, budgets with what they told, and quotas."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, Double, String, Table, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from millpond.billing.domain import Alert, Budget, Holder, Measure, Period, Price, Quota, Scope
from millpond.kernel.database import Json, UtcDateTime, metadata

prices = Table(
    "billing_prices",
    metadata,
    Column("sku", String(60), primary_key=True),
    Column("start", UtcDateTime, primary_key=True),
    Column("end", UtcDateTime),
    Column("amount", Double, nullable=False),
)
budgets = Table(
    "billing_budgets",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("scope", Json, nullable=False),
    Column("alerts", Json, nullable=False),
    Column("created_by", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
told = Table(
    "billing_told",
    metadata,
    Column("alert_id", String(36), primary_key=True),
    Column("period_start", UtcDateTime, primary_key=True),
    Column("budget_id", String(36), nullable=False),
    Column("spent", Double, nullable=False),
    Column("told_at", UtcDateTime, nullable=False),
)
"""Which alert has told somebody in which period."""
quotas = Table(
    "billing_quotas",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("holder", String(10), nullable=False),
    Column("name", String(520), nullable=False),
    Column("measure", String(30), nullable=False),
    Column("limit", Double, nullable=False),
    Column("period", String(10)),
    Column("created_by", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

# -- prices -----------------------------------------------------------------------------------------------------------


def list_prices(connection: Connection) -> list[Price]:
    """All that were set, by SKU and time."""
    found = connection.execute(select(prices).order_by(prices.c.sku, prices.c.start))
    return [Price(**row._mapping) for row in found]


def set_price(connection: Connection, sku: str, start: datetime, amount: float) -> None:
    """From a time on a unit costs this, until the next price that is set begins."""
    connection.execute(delete(prices).where(prices.c.sku == sku, prices.c.start == start))
    connection.execute(insert(prices).values(sku=sku, start=start, end=None, amount=amount))
    query = select(prices.c.start).where(prices.c.sku == sku).order_by(prices.c.start).with_for_update()
    starts = list(connection.execute(query).scalars())
    for each, after in zip(starts, [*starts[1:], None], strict=True):
        connection.execute(update(prices).where(prices.c.sku == sku, prices.c.start == each).values(end=after))


# -- budgets ----------------------------------------------------------------------------------------------------------


def add_budget(connection: Connection, budget: Budget) -> None:
    """One more."""
    connection.execute(insert(budgets).values(**_budget_values(budget)))


def change_budget(connection: Connection, budget: Budget) -> None:
    """Write a budget as it is now."""
    connection.execute(update(budgets).where(budgets.c.id == budget.id).values(**_budget_values(budget)))


def find_budget(connection: Connection, budget_id: str, *, lock: bool = False) -> Budget | None:
    """The budget with an id."""
    query = select(budgets).where(budgets.c.id == budget_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return _budget(row) if row else None


def list_budgets(connection: Connection) -> list[Budget]:
    """All, the oldest first."""
    return [_budget(row) for row in connection.execute(select(budgets).order_by(budgets.c.id))]


def remove_budget(connection: Connection, budget_id: str) -> None:
    """Remove a budget, and what it told."""
    connection.execute(delete(told).where(told.c.budget_id == budget_id))
    connection.execute(delete(budgets).where(budgets.c.id == budget_id))


def note_told(
    connection: Connection, alert: Alert, budget_id: str, start: datetime, spent: float, now: datetime
) -> bool:
    """Note that an alert tells somebody of a period; False where it has."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    values = {"alert_id": alert.id, "period_start": start, "budget_id": budget_id, "spent": spent, "told_at": now}
    return bool(connection.execute(dialect.insert(told).values(**values).on_conflict_do_nothing()).rowcount)


def told_since(connection: Connection, start: datetime) -> set[tuple[str, datetime]]:
    """Alerts that have told somebody of periods that began then or later."""
    query = select(told.c.alert_id, told.c.period_start).where(told.c.period_start >= start)
    return {(alert_id, period_start) for alert_id, period_start in connection.execute(query)}


def _budget_values(budget: Budget) -> dict[str, Any]:
    return {**vars(budget), "scope": asdict(budget.scope), "alerts": [asdict(alert) for alert in budget.alerts]}


def _budget(row: Any) -> Budget:
    scope = {name: tuple(value) for name, value in row.scope.items() if name != "tags"}
    tags = {key: tuple(values) for key, values in row.scope["tags"].items()}
    alerts = tuple(_alert(each) for each in row.alerts)
    return Budget(**{**row._mapping, "scope": Scope(tags=tags, **scope), "alerts": alerts})


def _alert(told_: dict[str, Any]) -> Alert:
    return Alert(
        id=told_["id"], threshold=told_["threshold"], period=Period(told_["period"]), emails=tuple(told_["emails"]),
        destinations=tuple(told_["destinations"]),
    )  # fmt: skip


# -- quotas -----------------------------------------------------------------------------------------------------------


def add_quota(connection: Connection, quota: Quota) -> None:
    """One more."""
    connection.execute(insert(quotas).values(**vars(quota)))


def find_quota(connection: Connection, quota_id: str) -> Quota | None:
    """The quota with an id."""
    row = connection.execute(select(quotas).where(quotas.c.id == quota_id)).first()
    return _quota(row) if row else None


def change_limit(connection: Connection, quota_id: str, limit: float) -> None:
    """Give a quota another limit."""
    connection.execute(update(quotas).where(quotas.c.id == quota_id).values(limit=limit))


def list_quotas(connection: Connection) -> Sequence[Quota]:
    """All, the oldest first."""
    return [_quota(row) for row in connection.execute(select(quotas).order_by(quotas.c.id))]


def lock_quotas(connection: Connection, ids: Collection[str]) -> Sequence[Quota]:
    """Those of some quotas that there are still; on PostgreSQL nobody else has them until the transaction ends."""
    query = select(quotas).where(quotas.c.id.in_(ids)).order_by(quotas.c.id).with_for_update()
    return [_quota(row) for row in connection.execute(query)]


def rename_holder(connection: Connection, old: str, new: str) -> None:
    """Let the quotas of a group be those of its new name."""
    of_group = quotas.c.holder.in_([Holder.GROUP.value, Holder.MEMBER.value])
    connection.execute(update(quotas).where(quotas.c.name == old, of_group).values(name=new))


def remove_quota(connection: Connection, quota_id: str) -> None:
    """Remove a quota."""
    connection.execute(delete(quotas).where(quotas.c.id == quota_id))


def _quota(row: Any) -> Quota:
    changed = {
        "holder": Holder(row.holder),
        "measure": Measure(row.measure),
        "period": Period(row.period) if row.period else None,
    }
    return Quota(**{**row._mapping, **changed})
