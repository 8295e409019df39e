"""Cost: what was used over time, budgets, quotas, prices, and what nobody uses."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from nicegui import ui

from millpond.billing.budgets import Standing as BudgetStanding
from millpond.billing.domain import PRICED, Alert, Holder, Measure, Period, Price, Resource, Scope
from millpond.billing.quotas import Standing
from millpond.billing.usage import Asked, Sum
from millpond.identity.domain import Principal
from millpond.kernel.clock import epoch_ms, utc_now
from millpond.kernel.errors import InvalidArgument
from millpond.kernel.ids import new_id
from millpond.ui import urls
from millpond.ui.elements import (
    Cell,
    DataTable,
    Rows,
    SelectField,
    Tab,
    TableColumn,
    TextField,
    card,
    el,
    empty_state,
    link,
    notice,
    page_header,
    query_field,
    tabs,
)
from millpond.ui.forms import form, labelled, reloading, submit
from millpond.ui.usage_chart import MEASURES, amount_of, chart_options, name_of, series_of, told
from millpond.ui.visit import Page, Visit
from millpond.waste.service import Waste

_BUDGETS, _QUOTAS, _PRICES, _WASTE = "budgets", "quotas", "prices", "waste"
_DAYS: Mapping[str, str] = {"1": "Day", "7": "Week", "30": "30 days", "365": "Year"}
_BY: Mapping[str, str] = {"product": "Product", "user": "User", "object": "Object", "sku": "SKU"}
_MOST_ROWS = 200


@dataclass(frozen=True, kw_only=True)
class _Data:
    over_time: Sequence[Sum] = ()
    together: Sequence[Sum] = ()
    budgets: Sequence[BudgetStanding] = ()
    quotas: Sequence[Standing] = ()
    prices: Sequence[Price] = ()
    waste: Sequence[Waste] = field(default_factory=tuple)


@dataclass(frozen=True, kw_only=True)
class _View:
    """What the address asks for."""

    days: int
    by: str
    tag: str
    measure: str

    @property
    def by_hour(self) -> bool:
        return self.days <= 2


def _view(visit: Visit) -> _View:
    days = visit.query.get("days", "7")
    tag = visit.query.get("tag", "").strip()[:200]
    by = visit.query.get("by", "product")
    measure = visit.query.get("measure", "cpu")
    return _View(
        days=int(days) if days in _DAYS else 7,
        by="tag" if tag else by if by in _BY else "product",
        tag=tag,
        measure=measure if measure in MEASURES else "cpu",
    )


def _load(visit: Visit) -> _Data:
    billing, who = visit.services.billing, visit.principal
    match visit.query.get("tab", ""):
        case "budgets" if who.is_admin:
            return _Data(budgets=billing.budgets.standings(who))
        case "quotas":
            return _Data(quotas=billing.quotas.list_all(who))
        case "prices":
            return _Data(prices=billing.prices.list_all())
        case "waste":
            return _Data(waste=visit.services.waste.report(who))
    view = _view(visit)
    since = utc_now() - timedelta(days=view.days)
    asked = Asked(since=since, by=view.by, tag=view.tag)
    buckets = Asked(since=since, by=view.by, tag=view.tag, bucket="hour" if view.by_hour else "day")
    together = billing.usage.report(who, asked)
    try:
        return _Data(over_time=billing.usage.report(who, buckets), together=together)
    except InvalidArgument:  # too many to be drawn over so long a time
        return _Data(together=together)


def _draw(visit: Visit, data: _Data) -> None:
    whose = "everything" if visit.principal.is_admin else "what ran as you"
    page_header("Cost", symbol="payments", subtitle=f"What {whose} used, what that costs, and who may use how much.")
    named = {"": "Usage", _BUDGETS: "Budgets", _QUOTAS: "Quotas", _PRICES: "Prices", _WASTE: "Idle and waste"}
    items = [
        Tab(key=key, label=label, href=f"{urls.COST}?tab={key}" if key else urls.COST)
        for key, label in named.items()
        if key != _BUDGETS or visit.principal.is_admin
    ]
    tab = visit.query.get("tab", "")
    tabs(items, tab, label="Cost")
    draws = {_BUDGETS: _draw_budgets, _QUOTAS: _draw_quotas, _PRICES: _draw_prices, _WASTE: _draw_waste}
    with el("div", cls="mp-stack"):
        draws.get(tab, _draw_usage)(visit, data)


# Usage


def _draw_usage(visit: Visit, data: _Data) -> None:
    view = _view(visit)
    _draw_choices(visit, view)
    if not data.together:
        empty_state("Nothing was used", "Run a job, ask an endpoint, or send a statement.", symbol="payments")
        return
    series = series_of(data.over_time, view.by, view.measure)
    with card(MEASURES[view.measure][0] if view.measure != "cost" else f"Cost, {_currency(visit)}"):
        chart = ui.echart(chart_options(series, view.measure, visit.theme, by_hour=view.by_hour)).classes("mp-chart")
        chart.props["role"] = "img"
        chart.props["aria-label"] = told(series, view.measure)
    _draw_sums(visit, view, data.together)


def _draw_choices(visit: Visit, view: _View) -> None:
    with el("div", cls="mp-row"):
        _choices(visit, "Time", "days", _DAYS, str(view.days))
        _choices(visit, "Group", "by", _BY, view.by, tag=None)
        _choices(visit, "Measure", "measure", {key: name for key, (name, _) in MEASURES.items()}, view.measure)
        with el("form", cls="mp-filter", method="get", role="search"):
            for key in ("days", "measure"):
                el("input", type="hidden", name=key, value=str(getattr(view, key)))
            query_field("tag", "Group by a tag", view.tag, "By tag key", type="search", cls="")


def _choices(
    visit: Visit, label: str, name: str, choices: Mapping[str, str], chosen: str, **cleared: str | None
) -> None:
    with el("nav", cls="mp-row", aria_label=label):
        for key, text in choices.items():
            chip_class = "mp-badge mp-accent" if key == chosen else "mp-badge mp-plain"
            link(text, visit.link(**{name: key}, **cleared), cls=chip_class,
                 aria_current="true" if key == chosen else None)  # fmt: skip


def _draw_sums(visit: Visit, view: _View, found: Sequence[Sum]) -> None:
    ranked = sorted(found, key=lambda each: (-amount_of(each, view.measure), -each.cost, each.sku))
    rows: Rows = [
        [
            Cell(text=name_of(each, view.by), href=_href(each) if view.by == "object" else None),
            Cell(text=each.sku, code=True),
            f"{each.quantity:,.2f}",
            each.resource.unit,
            f"{each.cost:,.4f}",
        ]
        for each in ranked[:_MOST_ROWS]
    ]
    columns = (
        TableColumn(label="Group", grow=True), TableColumn(label="SKU"), TableColumn(label="Quantity", numeric=True),
        TableColumn(label="Unit"), TableColumn(label=f"Cost, {_currency(visit)}", numeric=True),
    )  # fmt: skip
    DataTable(label="Usage", columns=columns, rows=rows)
    if len(ranked) > _MOST_ROWS:
        el("p", f"The first {_MOST_ROWS} of {len(ranked):,}; the API has all.", cls="mp-note")


def _href(found: Sum) -> str | None:
    kind, object_id, name = found.key
    of_kind: Mapping[str, Callable[[], str]] = {
        "job": lambda: urls.job_url(int(object_id)),
        "cluster": lambda: urls.cluster_url(object_id),
        "endpoint": lambda: urls.endpoint_url(name),
        "warehouse": lambda: urls.warehouse_url(object_id),
        "model": lambda: urls.model_url(*name.rsplit("/", 1)),
    }
    return of_kind[kind]() if object_id and kind in of_kind else None


def _currency(visit: Visit) -> str:
    return visit.services.billing.prices.currency


# Budgets


def _draw_budgets(visit: Visit, data: _Data) -> None:
    budgets = visit.services.billing.budgets

    def make(who: Principal) -> None:
        key, _, value = (part.strip() for part in tag.value.partition("="))
        users = (user.value.strip(),) if user.value.strip() else ()
        scope = Scope(users=users, tags={key: (value,)} if key else {})
        emails = tuple(each.strip() for each in mail.value.split(",") if each.strip())
        alert = Alert(id=new_id(), threshold=_number(limit.value), period=Period(period.value), emails=emails)
        budgets.create(who, name.value.strip(), scope, [alert])

    with card("New budget"), form(reloading(visit, make), label="New budget"):
        name = _text("Name", "team red")
        limit = _text(f"Tell at, {_currency(visit)}", "100")
        period = _select("In each", [("MONTH", "month"), ("DAY", "day")])
        mail = _text("Mail to", "ann@example.com")
        user = _text("Of a user", "all")
        tag = _text("Of a tag", "key=value")
        submit("Create")
    if not data.budgets:
        empty_state("No budgets", "Make one here, or with AccountClient.budgets.", symbol="savings")
        return
    rows: Rows = [
        [
            Cell(text=each.budget.name, note=_covers(each.budget.scope)),
            f"{each.spent[Period.DAY]:,.2f}",
            f"{each.spent[Period.MONTH]:,.2f}",
            Cell(badges=tuple(_reached(each, alert) for alert in each.budget.alerts)),
            Cell(act="Delete", act_label=f"Delete {each.budget.name}"),
        ]
        for each in data.budgets
    ]
    columns = (
        TableColumn(label="Budget", grow=True), TableColumn(label="Today", numeric=True),
        TableColumn(label="This month", numeric=True), TableColumn(label="Alerts"), TableColumn(label=""),
    )  # fmt: skip
    ids = [each.budget.id for each in data.budgets]
    _acting_table(visit, "Budgets", columns, rows, lambda who, number: budgets.remove(who, ids[number]))


def _reached(standing: BudgetStanding, alert: Alert) -> tuple[str, Any]:
    reached = standing.spent[alert.period] >= alert.threshold
    return f"{alert.threshold:,.2f} a {alert.period.lower()}", "bad" if reached else "plain"


def _covers(scope: Scope) -> str:
    parts = [*scope.users, *scope.products, *(f"job {each}" for each in scope.jobs), *scope.endpoints]
    parts += [f"{key} = {' or '.join(values)}" for key, values in scope.tags.items()]
    return ", ".join(parts) or "everything"


# Quotas


def _draw_quotas(visit: Visit, data: _Data) -> None:
    quotas = visit.services.billing.quotas

    def make(who: Principal) -> None:
        asked = Measure(measure.value)
        quotas.create(
            who, holder=Holder(holder.value), name=name.value.strip(), measure=asked, limit=_number(limit.value),
            period=Period(period.value) if asked.adds_up else None,
        )  # fmt: skip

    if visit.principal.is_admin:
        with card("New quota"), form(reloading(visit, make), label="New quota"):
            holder = _select("Of", [("user", "a user"), ("group", "a group together"), ("member", "each of a group"),
                                    ("tag", "a tag")])  # fmt: skip
            name = _text("Name", "ann@example.com, a group, key=value")
            measure = _select("Measure", [(each.value, each.value.replace("_", " ")) for each in Measure])
            limit = _text("Limit", "3600")
            period = _select("Per", [("DAY", "day"), ("MONTH", "month")])
            submit("Create")
    if not data.quotas:
        empty_state("No quotas", "Nothing is bounded.", symbol="speed")
        return
    rows: Rows = [_quota_row(each, removable=visit.principal.is_admin) for each in data.quotas]
    columns = (
        TableColumn(label="Quota", grow=True), TableColumn(label="Used", numeric=True),
        TableColumn(label="Limit", numeric=True), TableColumn(label=""), TableColumn(label=""),
    )  # fmt: skip
    ids = [each.quota.id for each in data.quotas]
    _acting_table(visit, "Quotas", columns, rows, lambda who, number: quotas.remove(who, ids[number]))


def _quota_row(standing: Standing, *, removable: bool) -> list[Cell | str]:
    quota = standing.quota
    used = quota.period is not None
    mine = used and quota.holder is Holder.MEMBER
    full = used and standing.used >= quota.limit
    return [
        Cell(text=quota.words.replace("_", " "), note="Used is what you used." if mine else None),
        f"{standing.used:,.1f}" if used else "",
        f"{quota.limit:,.1f}",
        Cell(badges=(("used up", "bad"),)) if full else "",
        Cell(act="Delete", act_label=f"Delete {quota.words}") if removable else "",
    ]


# Prices and waste


def _draw_prices(visit: Visit, data: _Data) -> None:
    prices = visit.services.billing.prices
    if visit.principal.is_admin:
        skus = sorted({each.sku for each in data.prices})
        with (
            card("New price"),
            form(
                reloading(visit, lambda who: prices.set_price(who, sku.value, _number(amount.value), None)),
                label="New price",
            ),
        ):
            sku = _select("SKU", [(each, each) for each in skus])
            amount = _text(f"{_currency(visit)} for one unit", "0.00001")
            submit("Set from this hour on")
    rows: Rows = [
        [
            Cell(text=each.sku, code=True),
            PRICED[each.sku].unit,
            f"{each.amount:g}",
            Cell(time_ms=epoch_ms(each.start)) if each.start.year > 1970 else "ever",
            Cell(time_ms=epoch_ms(each.end)) if each.end else "",
        ]
        for each in data.prices
    ]
    columns = (
        TableColumn(label="SKU", grow=True), TableColumn(label="Unit"),
        TableColumn(label=f"Price, {_currency(visit)}", numeric=True), TableColumn(label="Since"),
        TableColumn(label="Until"),
    )  # fmt: skip
    DataTable(label="Prices", columns=columns, rows=rows)


def _draw_waste(_visit: Visit, data: _Data) -> None:
    if not data.waste:
        notice("Nothing that you may see runs idle or was unused for a week.", "good")
        return
    rows: Rows = [
        [
            Cell(text=each.name or each.id, note=each.advice),
            each.kind,
            each.why,
            f"{each.used.get(Resource.MEMORY, 0.0) / 3600:,.1f}",
            each.owner,
        ]
        for each in data.waste
    ]
    columns = (
        TableColumn(label="What", grow=True), TableColumn(label="Kind"), TableColumn(label="Why"),
        TableColumn(label="GiB-hours of memory", numeric=True, optional=True),
        TableColumn(label="Owner", short=True, optional=True),
    )  # fmt: skip
    DataTable(label="Idle and waste", columns=columns, rows=rows)


# Parts


def _text(label: str, placeholder: str) -> TextField:
    with labelled(label):
        return TextField(label=label, placeholder=placeholder)


def _select(label: str, choices: Sequence[tuple[str, str]]) -> SelectField:
    with labelled(label):
        return SelectField(label=label, choices=choices, value=choices[0][0])


def _number(text: str) -> float:
    try:
        return float(text.strip().replace(",", ""))
    except ValueError as error:
        raise InvalidArgument(f"'{text[:40]}' is not a number.") from error


def _acting_table(
    visit: Visit, label: str, columns: Sequence[TableColumn], rows: Rows, act: Callable[[Principal, int], Any]
) -> None:
    async def acted(number: int) -> None:
        await reloading(visit, lambda who: act(who, number))()

    DataTable(label=label, columns=columns, rows=rows, on_act=acted)


PAGES = (Page(path="/cost", section="cost", load=_load, draw=_draw, title=lambda _visit, _data: "Cost"),)
