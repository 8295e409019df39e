"""The price list: of each SKU an amount for one unit from an hour on; nothing costs anything until one is set."""

import math
from datetime import datetime

from millpond.billing.domain import PRICED, Price, hour_of
from millpond.billing.store import rules
from millpond.identity import acts
from millpond.identity.access import require_admin
from millpond.identity.domain import Principal
from millpond.kernel.clock import from_epoch_ms, utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import InvalidArgument

_MOST = 1e12


class PriceService:
    """Prices: everybody sees them, administrators set them."""

    def __init__(self, database: Database, currency: str) -> None:
        self._database = database
        self.currency = currency

    def list_all(self) -> list[Price]:
        """All that ever were, by SKU and time; 0 where none was set."""
        with self._database.read() as connection:
            found = rules.list_prices(connection)
        first = {sku: next((each.start for each in found if each.sku == sku), None) for sku in PRICED}
        free = [Price(sku=sku, start=from_epoch_ms(0), end=first[sku], amount=0.0) for sku in PRICED]
        return sorted([*free, *found], key=lambda each: (each.sku, each.start))

    def set_price(self, principal: Principal, sku: str, amount: float, start: datetime | None) -> Price:
        """From an hour on, or from this one, a unit costs so much. Raises PermissionDenied, InvalidArgument."""
        require_admin(principal, "set prices")
        if sku not in PRICED:
            raise InvalidArgument(f"SKU '{sku[:60]}' has no price; there are {', '.join(sorted(PRICED))}.")
        if not (math.isfinite(amount) and 0 <= amount <= _MOST):
            raise InvalidArgument(f"The price is {amount}; give a number from 0 to {_MOST:g}.")
        begins = hour_of(start or utc_now())
        with self._database.write() as connection:
            rules.set_price(connection, sku, begins, amount)
            acts.changed(connection, principal.name, "set", "price", sku, amount=str(amount), start=begins.isoformat())
        return next(each for each in self.list_all() if each.sku == sku and each.start == begins)
