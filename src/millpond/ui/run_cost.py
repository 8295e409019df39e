"""What a run of a job has used, and what that costs."""

from collections.abc import Sequence

from millpond.billing.usage import Sum
from millpond.ui.elements import Facts, card, el, facts, notice
from millpond.ui.visit import Outcome, Visit, filling, later


def draw_run_cost(visit: Visit, run_id: int, *, going_on: bool) -> None:
    """The run's usage, looked up once the page is shown."""
    place = el("div", cls="mp-stack").style("margin-top: 20px")
    jobs = visit.services.jobs
    later(visit, lambda who: jobs.usage_of(who, run_id), filling(place, lambda found: _draw(visit, found, going_on)))


def _draw(visit: Visit, outcome: Outcome[Sequence[Sum]], going_on: bool) -> None:
    if outcome.value is None:
        notice(outcome.error, "bad", role="alert")
        return
    if not outcome.value:
        return
    currency = visit.services.billing.prices.currency
    cost = sum(each.cost for each in outcome.value)
    shown: Facts = [
        ("Cost", f"{cost:,.6g} {currency}"),
        *((each.sku, f"{each.quantity:,.2f} {each.resource.unit}") for each in outcome.value),
    ]
    with card("Cost"):
        facts(shown)
        if any(each.sku.endswith("_INCLUDED") for each in outcome.value):
            el("p", "What ran on a cluster is part of the cluster's cost.", cls="mp-note")
        if going_on:
            el("p", "As of now; load the page again for what was used since.", cls="mp-note")
