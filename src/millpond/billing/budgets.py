"""Budgets: administrators make them, and whom they name is told once in each period that so much was spent."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from millpond.billing.domain import Alert, Budget, Period, Scope, Subject
from millpond.billing.spending import Spending
from millpond.billing.store import rules
from millpond.identity import acts
from millpond.identity.access import require_admin
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import InvalidArgument, LimitExceeded, NotFound
from millpond.kernel.ids import new_id
from millpond.notifications.domain import Notice, Target
from millpond.notifications.outbox import put

_MOST = 1000
_MOST_ALERTS = 8
_MOST_TARGETS = 20
EVENT = "billing.budget_exceeded"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A budget, and what was spent of it in the period that runs."""

    budget: Budget
    spent: dict[Period, float]


class BudgetService:
    """Budgets, for administrators."""

    def __init__(
        self, database: Database, spending: Spending, *, check_target: Callable[[Principal, Target], None],
        currency: str,
    ) -> None:  # fmt: skip
        """`check_target` raises where somebody may let no message go."""
        self._database = database
        self._spending = spending
        self._check_target = check_target
        self._currency = currency

    def create(self, principal: Principal, name: str, scope: Scope, alerts: Sequence[Alert]) -> Budget:
        """One more. Raises PermissionDenied, InvalidArgument, LimitExceeded."""
        require_admin(principal, "make budgets")
        now = utc_now()
        budget = Budget(
            id=new_id(), name=name, scope=scope, alerts=tuple(alerts), created_by=principal.name, created_at=now,
            updated_at=now,
        )  # fmt: skip
        self._check(principal, budget)
        with self._database.write() as connection:
            if len(rules.list_budgets(connection)) >= _MOST:
                raise LimitExceeded(f"There are {_MOST} budgets; delete one that is not needed.")
            rules.add_budget(connection, budget)
            acts.changed(connection, principal.name, "create", "budget", name, object_id=budget.id)
        return budget

    def update(self, principal: Principal, budget_id: str, name: str, scope: Scope, alerts: Sequence[Alert]) -> Budget:
        """Write a budget anew; an alert that stays as it is tells nothing twice. Raises as `create`, and NotFound."""
        require_admin(principal, "change budgets")
        with self._database.read() as connection:
            before = _found(connection, budget_id)
        known = {(each.threshold, each.period): each.id for each in before.alerts}
        kept = tuple(replace(each, id=known.get((each.threshold, each.period), each.id)) for each in alerts)
        changed = replace(before, name=name, scope=scope, alerts=kept, updated_at=utc_now())
        self._check(principal, changed)
        with self._database.write() as connection:
            _found(connection, budget_id, lock=True)
            rules.change_budget(connection, changed)
            acts.changed(connection, principal.name, "update", "budget", name, object_id=budget_id)
        return changed

    def remove(self, principal: Principal, budget_id: str) -> None:
        """Remove one. Raises PermissionDenied, NotFound."""
        require_admin(principal, "delete budgets")
        with self._database.write() as connection:
            budget = _found(connection, budget_id)
            rules.remove_budget(connection, budget.id)
            acts.changed(connection, principal.name, "delete", "budget", budget.name, object_id=budget.id)

    def get(self, principal: Principal, budget_id: str) -> Budget:
        """One. Raises PermissionDenied, NotFound."""
        require_admin(principal, "see budgets")
        with self._database.read() as connection:
            return _found(connection, budget_id)

    def list_all(self, principal: Principal) -> list[Budget]:
        """All, the oldest first. Raises PermissionDenied."""
        require_admin(principal, "see budgets")
        with self._database.read() as connection:
            return rules.list_budgets(connection)

    def standings(self, principal: Principal) -> list[Standing]:
        """All with what was spent. Raises PermissionDenied."""
        found = self.list_all(principal)
        with self._database.read() as connection:
            costs = _Costs(self._spending, connection, utc_now())
            return [Standing(budget=each, spent={p: costs.of(each.scope, p) for p in Period}) for each in found]

    def tell(self) -> None:
        """Tell whom budgets name of what was spent, once in each period, however often this is done."""
        now = utc_now()
        with self._database.read() as connection:
            budgets = rules.list_budgets(connection)
            if not budgets:
                return
            told, costs = rules.told_since(connection, Period.MONTH.start(now)), _Costs(self._spending, connection, now)
            due = [
                (budget, alert, spent)
                for budget in budgets
                for alert in budget.alerts
                if (alert.id, alert.period.start(now)) not in told
                and (spent := costs.of(budget.scope, alert.period)) >= alert.threshold
            ]
        for budget, alert, spent in due:
            with self._database.write() as connection:
                if rules.note_told(connection, alert, budget.id, alert.period.start(now), spent, now):
                    put(connection, _targets(alert), self._notice(budget, alert, spent, now), f"budget {budget.id}")
                    acts.changed(connection, "system", "exceed", "budget", budget.name, object_id=budget.id,
                                 threshold=str(alert.threshold), spent=f"{spent:.4f}")  # fmt: skip

    def _notice(self, budget: Budget, alert: Alert, spent: float, now: datetime) -> Notice:
        start = alert.period.start(now)
        when = f"{start:%Y-%m-%d}" if alert.period is Period.DAY else f"{start:%Y-%m}"
        text = (
            f"Budget '{budget.name}': {spent:.2f} {self._currency} were spent in {when}; "
            f"the alert is at {alert.threshold:.2f}."
        )
        body = {
            "event_type": EVENT, "budget_id": budget.id, "budget": budget.name, "period": alert.period.value,
            "period_start": start.isoformat(), "threshold": alert.threshold, "spent": spent,
            "currency": self._currency,
        }  # fmt: skip
        return Notice(
            event=EVENT, subject=f"[Millpond] Budget '{budget.name}' has reached {alert.threshold:.2f}", text=text,
            body=body, path="/cost?tab=budgets",
        )  # fmt: skip

    def _check(self, principal: Principal, budget: Budget) -> None:
        if not 0 < len(budget.name) <= 128 or "\0" in budget.name:
            raise InvalidArgument("A budget has a display_name of 1 to 128 characters.")
        if not 0 < len(budget.alerts) <= _MOST_ALERTS:
            raise InvalidArgument(f"A budget has 1 to {_MOST_ALERTS} alerts.")
        if len({(each.threshold, each.period) for each in budget.alerts}) < len(budget.alerts):
            raise InvalidArgument("Each alert of a budget has another threshold in its period.")
        for alert in budget.alerts:
            if not (math.isfinite(alert.threshold) and alert.threshold > 0):
                raise InvalidArgument(f"The threshold is {alert.threshold}; give a number above 0.")
            if len(alert.emails) + len(alert.destinations) > _MOST_TARGETS:
                raise InvalidArgument(f"An alert tells at most {_MOST_TARGETS} addresses and destinations.")
            for target in _targets(alert):
                self._check_target(principal, target)


class _Costs:
    """What was spent in the periods that run, each read once."""

    def __init__(self, spending: Spending, connection: Connection, now: datetime) -> None:
        self._read = partial(spending.of, connection, now=now)
        self._known: dict[Period, list[tuple[Subject, float]]] = {}

    def of(self, scope: Scope, period: Period) -> float:
        """What all that a scope covers has cost in the period."""
        if period not in self._known:
            found = self._read(period=period)
            self._known[period] = [(subject, cost) for (subject, _), (_, cost) in found.items() if cost]
        return math.fsum(cost for subject, cost in self._known[period] if scope.covers(subject))


def _targets(alert: Alert) -> list[Target]:
    addresses = [Target(address=each) for each in alert.emails]
    return [*addresses, *(Target(destination_id=each) for each in alert.destinations)]


def _found(connection: Connection, budget_id: str, *, lock: bool = False) -> Budget:
    found = rules.find_budget(connection, budget_id[:36], lock=lock)
    if found is None:
        raise NotFound(f"Budget '{budget_id[:80]}' does not exist.")
    return found
