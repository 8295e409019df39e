"""The room as `app.py` opens it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta

from fastapi import APIRouter
from sqlalchemy import Connection

from millpond.billing.budgets import BudgetService
from millpond.billing.metering import Meter
from millpond.billing.prices import PriceService
from millpond.billing.quotas import FRESH_S, Members, QuotaService, storage_check
from millpond.billing.routes import billing_router
from millpond.billing.spending import Spending
from millpond.billing.storage import StorageMeter
from millpond.billing.store import rules
from millpond.billing.store import usage as rows
from millpond.billing.usage import UsageService
from millpond.catalog.service import CatalogService
from millpond.identity.domain import Account, Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.logs import get_logger
from millpond.kernel.rounds import rounds
from millpond.kernel.settings import BillingSettings
from millpond.notifications.domain import Target

_TELL_EVERY_S = 10.0
_LOOK_AT_STORAGE_S = 60.0
_TIDY_S = 3600.0

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class BillingRoom:
    """The services for routes, pages and other rooms, and the work to keep going."""

    usage: UsageService
    prices: PriceService
    budgets: BudgetService
    quotas: QuotaService
    meter: Meter
    storage: StorageMeter
    settings: BillingSettings
    database: Database
    workspace_id: int

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Meter, and tell of budgets, while the block runs."""
        beside = (
            (self.quotas.look, "quotas", FRESH_S, "quotas were not looked at"),
            (self.budgets.tell, "budgets", _TELL_EVERY_S, "budgets were not looked at"),
            (self.storage.look, "storage", _LOOK_AT_STORAGE_S, "storage was not metered"),
            (self.tidy, "old-usage", _TIDY_S, "old usage was kept"),
        )
        with ExitStack() as stack:
            for work, name, interval_s, failure in beside:
                stack.enter_context(rounds(work, name=name, interval_s=interval_s, log=log, failure=failure))
            stack.enter_context(self.meter.at_work(self.settings.interval_s))
            yield

    def tidy(self) -> None:
        """Forget usage of long ago."""
        with self.database.write() as connection:
            rows.remove_before(connection, utc_now() - timedelta(days=self.settings.keep_days))

    def router(self) -> APIRouter:
        """All routes."""
        return billing_router(
            self.usage, self.prices, self.budgets, self.quotas, workspace_id=self.workspace_id
        )  # fmt: skip


def open_billing(
    database: Database,
    settings: BillingSettings,
    *,
    catalog: CatalogService,
    check_target: Callable[[Principal, Target], None],
    members: Members,
    find: Callable[[str], Account | None],
    workspace_id: int,
) -> BillingRoom:
    """The room."""
    spending = Spending()
    quotas = QuotaService(database, members, spending, find)
    catalog.on_new_tables(storage_check(database, quotas))
    return BillingRoom(
        usage=UsageService(database),
        prices=PriceService(database, settings.currency),
        budgets=BudgetService(database, spending, check_target=check_target, currency=settings.currency),
        quotas=quotas,
        meter=Meter(database),
        storage=StorageMeter(database, catalog),
        settings=settings,
        database=database,
        workspace_id=workspace_id,
    )


def rename_holder(connection: Connection, old: str, new: str) -> None:
    """Let the quotas of one group be of another name, as when it is renamed."""
    rules.rename_holder(connection, old, new)
