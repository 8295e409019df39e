"""What pages are given: the services of the rooms below, and the addresses that clients use."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from millpond.catalog.service import CatalogService
from millpond.identity.service import IdentityService
from millpond.ui.ports import ModelFiles, TableReader
from millpond.ui.preferences import Preferences
from millpond.ui.tracking import Tracking


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where clients find this server."""

    base_url: str
    """API and pages, without a trailing slash."""
    spark_url: str
    """`sc://host:port`."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """The rooms as pages see them."""

    identity: IdentityService
    catalog: CatalogService
    tables: TableReader
    tracking: Tracking
    model_files: ModelFiles
    serving: Any
    preferences: Preferences
    addresses: Addresses
