"""What one may see that nobody uses: by what was metered in the last days, and by lineage."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from millpond.billing.domain import Resource
from millpond.billing.usage import UsageService
from millpond.catalog.search import Wanted
from millpond.compute.clusters import ClusterService
from millpond.compute.domain import State
from millpond.feature_tables.service import FeatureTableService
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.errors import InvalidArgument
from millpond.kernel.paging import Page
from millpond.online.costs import KIND as ONLINE
from millpond.online.service import OnlineService
from millpond.serving.domain import Endpoint
from millpond.serving.service import ServingService
from millpond.sql.domain import WarehouseState
from millpond.sql.warehouses import WarehouseService

DEFAULT_DAYS, MOST_DAYS = 7, 365
CLUSTER_IDLE = timedelta(minutes=30)
_MOST = 1000
"""Of a kind."""
_PAGE = 100


@dataclass(frozen=True, kw_only=True)
class Waste:
    """Something that nobody uses, or hardly."""

    kind: str
    id: str
    name: str
    owner: str
    why: str
    advice: str
    used: Mapping[Resource, float]
    """In the time that was looked at."""


@dataclass(frozen=True, kw_only=True)
class _Window:
    now: datetime
    since: datetime
    days: int

    @property
    def words(self) -> str:
        return f"in the last {self.days} days" if self.days > 1 else "in the last day"


@dataclass(frozen=True, kw_only=True)
class WasteService:
    """Looks for waste, for whoever asks among what they may see."""

    usage: UsageService
    clusters: ClusterService
    serving: ServingService
    warehouses: WarehouseService
    features: FeatureTableService
    online: OnlineService

    def report(self, principal: Principal, *, days: int = DEFAULT_DAYS) -> list[Waste]:
        """All that was not used for so many days, or runs idle. Raises InvalidArgument."""
        if not 1 <= days <= MOST_DAYS:
            raise InvalidArgument(f"days is {days}; give 1 to {MOST_DAYS}.")
        now = utc_now()
        window = _Window(now=now, since=now - timedelta(days=days), days=days)
        parts = (self._clusters, self._endpoints, self._warehouses, self._online_tables, self._feature_tables)
        return [each for part in parts for each in part(principal, window)]

    def _clusters(self, principal: Principal, window: _Window) -> Iterator[Waste]:
        used = self.usage.by_object("cluster", window.since)
        for cluster in self.clusters.list_all(principal)[:_MOST]:
            if cluster.state is not State.RUNNING or window.now - cluster.used_at < CLUSTER_IDLE:
                continue
            minutes = int(cluster.idle_limit.total_seconds() // 60)
            ends = f"It ends after {minutes} minutes without use." if minutes else "It never ends by itself."
            yield Waste(
                kind="cluster", id=cluster.id, name=cluster.name, owner=cluster.creator,
                why=f"It runs, and was last used at {cluster.used_at:%Y-%m-%d %H:%M} UTC. {ends}",
                advice="Terminate it, or give it a shorter autotermination.", used=used.get(cluster.id, {}),
            )  # fmt: skip

    def _endpoints(self, principal: Principal, window: _Window) -> Iterator[Waste]:
        used = self.usage.by_object("endpoint", window.since)
        for endpoint in self.serving.list_endpoints(principal)[:_MOST]:
            if endpoint.active is None or endpoint.created_at > window.since:
                continue
            mine = used.get(endpoint.id, {})
            requests = int(mine.get(Resource.REQUEST, 0))
            kept_up = not _sleeps(endpoint)
            if requests == 0:
                why, advice = (
                    f"Nobody asked it {window.words}.",
                    "Delete it" + (", or let it scale to zero." if kept_up else "."),
                )
            elif kept_up and requests < 24 * window.days:
                why = f"Its processes are kept up, and it was asked {requests} times {window.words}."
                advice = "Let it scale to zero."
            else:
                continue
            yield Waste(
                kind="endpoint", id=endpoint.id, name=endpoint.name, owner=endpoint.creator, why=why, advice=advice,
                used=mine,
            )  # fmt: skip

    def _warehouses(self, principal: Principal, window: _Window) -> Iterator[Waste]:
        used = self.usage.by_object("warehouse", window.since)
        for warehouse in self.warehouses.list_all(principal)[:_MOST]:
            asked = Resource.REQUEST in used.get(warehouse.id, {})
            if warehouse.state is WarehouseState.RUNNING and not asked and warehouse.created_at <= window.since:
                yield Waste(
                    kind="warehouse", id=warehouse.id, name=warehouse.spec.name, owner=warehouse.creator,
                    why=f"It runs, and had no statement {window.words}.", advice="Stop it, or let it stop by itself.",
                    used={},
                )  # fmt: skip

    def _online_tables(self, principal: Principal, window: _Window) -> Iterator[Waste]:
        used = self.usage.by_object(ONLINE, window.since)
        for seen in _all(lambda token: self.online.list_tables(principal, max_results=_PAGE, page_token=token)):
            table = seen.table
            if table.id not in used and table.created_at <= window.since:
                yield Waste(
                    kind="online table", id=table.id, name=table.name, owner=table.creator,
                    why=f"Nobody read it {window.words}.", advice="Delete it; it can be published again.", used={},
                )  # fmt: skip

    def _feature_tables(self, principal: Principal, window: _Window) -> Iterator[Waste]:
        stored = self.usage.by_object("table", window.since)

        def page(token: str | None) -> Page[Any]:
            return self.features.list(principal, Wanted(), unused=True, max_results=_PAGE, page_token=token)

        for found in _all(page):
            table = found.table
            if table.created_at <= window.since:
                yield Waste(
                    kind="feature table", id=table.id, name=str(table.name), owner=table.owner,
                    why="No model, endpoint, function or online table uses it.",
                    advice="Drop it, if it is not meant to be used.",
                    used=stored.get(table.id, {}),
                )  # fmt: skip


def _sleeps(endpoint: Endpoint) -> bool:
    """Whether all that it serves has no process while nobody asks."""
    return endpoint.active is not None and all(entity.scale_to_zero for entity in endpoint.active.entities)


def _all(page_of: Callable[[str | None], Page[Any]]) -> Sequence[Any]:
    """The items of all pages, up to a bound."""
    found: list[Any] = []
    token: str | None = None
    while len(found) < _MOST:
        page = page_of(token)
        found += page.items
        token = page.next_page_token
        if token is None:
            break
    return found[:_MOST]
