"""What pages are given: the services of the rooms below, and the addresses that clients use."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request

from millpond.catalog.files import Files
from millpond.catalog.service import CatalogService
from millpond.engine.reader import TableReader
from millpond.identity.service import IdentityService
from millpond.serving.service import ServingService
from millpond.tracking.model_files import VersionFiles
from millpond.ui.preferences import Preferences
from millpond.ui.tracking import Tracking


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where clients find this server."""

    base_url: str
    """API and pages, without a trailing slash."""
    spark_url: str
    """`sc://host:port`."""


_LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})


def as_reached(addresses: Addresses, request: Request) -> Addresses:
    """The addresses for whoever sent this request: without a public address, the host that they reached us by."""
    if urlsplit(addresses.base_url).hostname not in _LOCAL:
        return addresses
    base_url = str(request.base_url).rstrip("/")
    host = urlsplit(base_url).hostname or "localhost"
    host = f"[{host}]" if ":" in host else host
    return Addresses(base_url=base_url, spark_url=f"sc://{host}:{urlsplit(addresses.spark_url).port}")


@dataclass(frozen=True, kw_only=True)
class Services:
    """The rooms as pages see them."""

    identity: IdentityService
    catalog: CatalogService
    files: Files
    tables: TableReader
    tracking: Tracking
    model_files: VersionFiles
    serving: ServingService
    preferences: Preferences
    addresses: Addresses
