"""What was used in the day or month that runs, asked for again and again: hours that are over are read once."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from millpond.billing.domain import HOUR, Period, Price, Resource, Subject, hour_of
from millpond.billing.store import rules
from millpond.billing.store import usage as rows

Amounts = dict[tuple[Subject, Resource], tuple[float, float]]
"""Quantity and cost."""


@dataclass(frozen=True)
class _Known:
    start: datetime
    prices: Sequence[Price]
    through: datetime
    amounts: Amounts


class Spending:
    """Adds up. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Period, _Known] = {}

    def of(self, connection: Connection, period: Period, now: datetime) -> Amounts:
        """What each subject has used since the period began, and what that costs; without single runs."""
        start = period.start(now)
        over = max(start, hour_of(now) - HOUR)  # to hours before, nobody adds any more, be their clock a little slow
        prices = rules.list_prices(connection)
        with self._lock:
            known = self._known.get(period)
            if known is None or known.start != start or known.prices != prices:
                known = _Known(start, prices, start, {})
            if known.through < over:
                more = rows.spent(connection, known.through, over)
                known = replace(known, through=over, amounts=_added(known.amounts, more))
            self._known[period] = known
        return _added(known.amounts, rows.spent(connection, over))


def _added(one: Amounts, other: Amounts) -> Amounts:
    both = dict(one)
    for key, (quantity, cost) in other.items():
        before = both.get(key, (0.0, 0.0))
        both[key] = (before[0] + quantity, before[1] + cost)
    return both
