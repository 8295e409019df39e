"""Budgets: what they cover, and that whom they name is told once in each period."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from millpond.billing.budgets import BudgetService
from millpond.billing.domain import Alert, Period, Product, Resource, Scope, Subject
from millpond.billing.metering import record
from millpond.billing.spending import Spending
from millpond.billing.store import rules
from millpond.identity.domain import Principal, PrincipalKind
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import InvalidArgument, NotFound, PermissionDenied
from millpond.notifications.domain import Target
from millpond.notifications.store import deliveries

ADMIN = Principal(id="1", name="root", kind=PrincipalKind.USER, is_admin=True)
ANN = Principal(id="2", name="ann", kind=PrincipalKind.USER, is_admin=False)
JOB = Subject(product=Product.JOBS, run_as="ann", kind="job", object_id="7", tags=(("team", "red"),))
ENDPOINT = Subject(product=Product.SERVING, run_as="ben", kind="endpoint", object_id="e", object_name="churn")


def budgets_on(database: Database) -> BudgetService:
    return BudgetService(database, Spending(), check_target=lambda *_: None, currency="EUR")


def alert(threshold: float, period: Period = Period.MONTH, **more: Any) -> Alert:
    return Alert(id=f"{threshold}-{period}", threshold=threshold, period=period, **{"emails": ("a@b.c",)} | more)


def spend(database: Database, subject: Subject, amount: float) -> None:
    with database.write() as connection:
        rules.set_price(connection, f"{subject.product}_CPU", utc_now() - timedelta(days=40), 1.0)
        record(connection, utc_now(), [(subject, {Resource.CPU: amount})])


def told(database: Database) -> list[tuple[str, str]]:
    with database.read() as connection:
        found = connection.execute(select(deliveries.c.address, deliveries.c.notice).order_by(deliveries.c.id)).all()
    return [(row.address, row.notice["text"]) for row in found]


@pytest.mark.parametrize(
    ("scope", "covers"),
    [
        (Scope(), (True, True)),
        (Scope(users=("ann", "cid")), (True, False)),
        (Scope(products=("MODEL_SERVING",)), (False, True)),
        (Scope(jobs=("7",)), (True, False)),
        (Scope(endpoints=("churn",)), (False, True)),
        (Scope(tags={"team": ("red", "blue")}), (True, False)),
        (Scope(tags={"team": ("red",)}, users=("ben",)), (False, False)),
    ],
)
def test_a_budget_covers_what_fits_all_its_filters(scope: Scope, covers: tuple[bool, bool]) -> None:
    assert (scope.covers(JOB), scope.covers(ENDPOINT)) == covers


def test_whom_a_budget_names_is_told_once_of_each_threshold(database: Database) -> None:
    budgets = budgets_on(database)
    scope = Scope(users=("ann",))
    budget = budgets.create(ADMIN, "ann's", scope, [alert(10), alert(20), alert(5, Period.DAY, emails=("d@e.f",))])
    spend(database, ENDPOINT, 1000)
    budgets.tell()
    assert told(database) == []
    spend(database, JOB, 12)
    for _ in range(3):
        budgets.tell()
    month, day = f"{utc_now():%Y-%m}", f"{utc_now():%Y-%m-%d}"
    assert sorted(told(database)) == [
        ("a@b.c", f"Budget 'ann's': 12.00 EUR were spent in {month}; the alert is at 10.00."),
        ("d@e.f", f"Budget 'ann's': 12.00 EUR were spent in {day}; the alert is at 5.00."),
    ]
    spend(database, JOB, 9)
    budgets_on(database).tell()  # another server, or the same after a kill
    assert len(told(database)) == 3
    [standing] = budgets.standings(ADMIN)
    assert standing.spent == {Period.DAY: 21.0, Period.MONTH: 21.0}
    budgets.update(ADMIN, budget.id, "renamed", scope, [alert(10), alert(30)])
    budgets.tell()
    assert len(told(database)) == 3  # what stayed told nothing twice
    budgets.remove(ADMIN, budget.id)
    with pytest.raises(NotFound):
        budgets.get(ADMIN, budget.id)


def test_administrators_alone_see_and_make_budgets(database: Database) -> None:
    budgets = budgets_on(database)
    budget = budgets.create(ADMIN, "all", Scope(), [alert(1)])
    for act in (
        lambda: budgets.create(ANN, "mine", Scope(), [alert(1)]),
        lambda: budgets.get(ANN, budget.id),
        lambda: budgets.list_all(ANN),
        lambda: budgets.standings(ANN),
        lambda: budgets.update(ANN, budget.id, "mine", Scope(), [alert(1e9)]),
        lambda: budgets.remove(ANN, budget.id),
    ):
        with pytest.raises(PermissionDenied):
            act()


def test_messages_go_only_where_who_makes_the_budget_may_send_some(database: Database) -> None:
    def check(_who: Principal, target: Target) -> None:
        raise InvalidArgument(f"not to {target}")

    budgets = BudgetService(database, Spending(), check_target=check, currency="USD")
    with pytest.raises(InvalidArgument, match="not to d1"):
        budgets.create(ADMIN, "x", Scope(), [alert(1, emails=(), destinations=("d1",))])


@pytest.mark.parametrize(
    ("name", "alerts", "said"),
    [
        ("", [alert(1)], "display_name"),
        ("x", [], "1 to 8 alerts"),
        ("x", [alert(0)], "above 0"),
        ("x", [alert(float("inf"))], "above 0"),
        ("x", [alert(1), alert(1)], "another threshold"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(database: Database, name: str, alerts: Any, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        budgets_on(database).create(ADMIN, name, Scope(), alerts)
