"""Metering without a round and quotas that nobody has set, for tests of other rooms."""

from typing import Any

from millpond.billing.metering import Meter
from millpond.billing.quotas import QuotaService
from millpond.billing.spending import Spending
from millpond.jobs.costs import TaskCosts
from millpond.kernel.database import Database


def quotas_of(database: Database) -> QuotaService:
    """The quotas of a database, with groups that have no members."""
    return QuotaService(database, lambda _group: (), Spending())


def task_costs(database: Database) -> TaskCosts:
    """For tasks that run as nobody who exists."""
    nobody: Any = None
    return TaskCosts(database, Meter(database), quotas_of(database), lambda _name: nobody)
