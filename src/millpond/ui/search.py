"""Search by name over tables, models, experiments and endpoints, each found by its own room for who asks."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from millpond.identity.domain import Principal
from millpond.kernel.errors import InvalidArgument, Unavailable
from millpond.ui import urls
from millpond.ui.services import Services

_SYMBOLS = {
    "catalog": "database",
    "schema": "schema",
    "table": "table",
    "volume": "folder",
    "function": "function",
    "model": "deployed_code",
    "experiment": "science",
    "endpoint": "cloud_queue",
}


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One thing that was found."""

    kind: str
    name: str
    href: str

    @property
    def symbol(self) -> str:
        """The icon of its kind."""
        return _SYMBOLS[self.kind]

    def to_wire(self) -> dict[str, Any]:
        """What `components/search_box.js` reads."""
        return {"kind": self.kind, "name": self.name, "href": self.href, "symbol": self.symbol}


def search(services: Services, principal: Principal, text: str, *, limit: int) -> tuple[Hit, ...]:
    """What the principal may see whose name holds the text, best first: exact, then by beginning, then by length."""
    wanted = text.strip().casefold()
    if not wanted:
        return ()
    hits = [
        *_catalog_hits(services, principal, wanted, limit),
        *_tracking_hits(services, principal, wanted, limit),
        *_endpoint_hits(services, principal, wanted),
    ]
    return tuple(sorted(hits, key=lambda hit: _rank(hit, wanted))[:limit])


def _rank(hit: Hit, wanted: str) -> tuple[int, int, str]:
    name = hit.name.casefold()
    last = name.replace("/", ".").rsplit(".", 1)[-1]
    if wanted in {name, last}:
        place = 0
    elif last.startswith(wanted) or name.startswith(wanted):
        place = 1
    else:
        place = 2 if wanted in last else 3
    return place, len(name), name


def _catalog_hits(services: Services, principal: Principal, wanted: str, limit: int) -> Iterable[Hit]:
    for found in services.catalog.search(principal, wanted, limit=limit):
        if found.kind != "model":  # the registry finds them, with those outside the catalog
            yield Hit(kind=found.kind, name=found.full_name, href=urls.found_url(found.kind, found.full_name))


def _tracking_hits(services: Services, principal: Principal, wanted: str, limit: int) -> Iterable[Hit]:
    try:
        models = services.tracking.list_models(principal, text=wanted, limit=limit).items
        experiments = services.tracking.list_experiments(principal, text=wanted).items[:limit]
    except (InvalidArgument, Unavailable):  # a text that MLflow's filters cannot hold, or MLflow is still being loaded
        return
    yield from (Hit(kind="model", name=item.name, href=urls.model_url(item.name)) for item in models)
    yield from (Hit(kind="experiment", name=item.name, href=urls.experiment_url(item.id)) for item in experiments)


def _endpoint_hits(services: Services, principal: Principal, wanted: str) -> Iterable[Hit]:
    for endpoint in services.serving.list_endpoints(principal):
        if wanted in endpoint.name.casefold():
            yield Hit(kind="endpoint", name=endpoint.name, href=urls.endpoint_url(endpoint.name))
