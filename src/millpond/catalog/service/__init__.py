"""`CatalogService`: everything that one can do with the catalog. Its parts are the modules beside this one."""

from collections.abc import Callable

from sqlalchemy import Connection

from millpond.catalog.service.base import ModelHooks
from millpond.catalog.service.policing import Policing
from millpond.catalog.storage import ConfiguredStorages
from millpond.catalog.store import objects, policies
from millpond.kernel.database import Database
from millpond.kernel.settings import Settings

__all__ = ["CatalogService", "ModelHooks", "open_catalog", "rename_owner"]


class CatalogService(Policing):
    """What one can do with catalogs, schemas, what is in them, and their grants, tags and policies, each checked."""


def open_catalog(database: Database, settings: Settings, find_owner: Callable[[str], str | None]) -> CatalogService:
    """The catalog of a Millpond, as each of its processes opens it.

    `find_owner` gives the exact name of an existing principal for a name in any case, or None.
    """
    return CatalogService(
        database,
        storages=ConfiguredStorages(settings.s3),
        storage_root=settings.effective_storage_root,
        private_locations=[str(settings.data_dir.resolve())],
        find_owner=find_owner,
    )


def rename_owner(connection: Connection, old: str, new: str) -> None:
    """Let what is owned by one name, and what policies say of it, be another's, as when a group is renamed."""
    objects.rename_owner(connection, old, new)
    policies.rename_principal(connection, old, new)
