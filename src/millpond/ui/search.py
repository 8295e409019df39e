"""What discovery finds, as pages show it: with an icon and the address of its page."""

from dataclasses import dataclass
from typing import Any

from millpond.catalog.search import Found, Wanted
from millpond.identity.domain import Principal
from millpond.ui import urls
from millpond.ui.services import Services
from millpond.ui.tags import mark_badges

_SYMBOLS = {
    "catalog": "database",
    "schema": "schema",
    "table": "table",
    "volume": "folder",
    "function": "function",
    "model": "deployed_code",
    "experiment": "science",
    "registered model": "deployed_code",
    "endpoint": "cloud_queue",
    "query": "terminal",
    "alert": "notifications",
    "job": "schema",
}


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One thing that was found."""

    kind: str
    name: str
    href: str
    found: Found

    @property
    def symbol(self) -> str:
        """The icon of its kind."""
        return _SYMBOLS[self.kind]

    def to_wire(self) -> dict[str, Any]:
        """What `components/search_box.js` reads."""
        wire = {"kind": self.kind, "name": self.name, "href": self.href, "symbol": self.symbol}
        for text, tone in mark_badges(self.found.certification):
            wire |= {"mark": text, "tone": f"mp-{tone}"}
        return wire


def search(services: Services, principal: Principal, wanted: Wanted, *, limit: int) -> tuple[Hit, ...]:
    """What the principal may see that fits, the best first."""
    return tuple(hit_of(found) for found in services.discovery.search(principal, wanted, limit=limit).items)


def hit_of(found: Found) -> Hit:
    """What was found, with its page."""
    return Hit(kind=found.kind, name=found.full_name, href=_href(found), found=found)


def _href(found: Found) -> str:
    match found.kind:
        case "experiment":
            return urls.experiment_url(found.id)
        case "endpoint":
            return urls.endpoint_url(found.full_name)
        case "query":
            return urls.saved_query_url(found.id)
        case "alert":
            return urls.alert_url(found.id)
        case "job":
            return urls.job_url(int(found.id))
        case "registered model":
            return urls.model_url(found.full_name)
    return urls.found_url(found.kind, found.full_name)
