"""Registered models as this room knows them: their rights, and the key under which their record is kept.

The key is the model's first id under permission: the catalog's own for three-level names, so that a rename does not
touch the record, and `registered model/<name>` for those of the workspace.
"""

from sqlalchemy import Connection

from millpond.catalog.domain import ObjectName
from millpond.catalog.service import CatalogService
from millpond.identity.access import Securable
from millpond.kernel.errors import NotFound
from millpond.tracking.domain import is_three_level, model_key
from millpond.tracking.permissions import find_model


def securable_of(catalog: CatalogService, connection: Connection, name: str) -> Securable:
    """The model with a (canonical) name, under permission. Raises NotFound."""
    if not is_three_level(name):
        return find_model(connection, name)
    found = catalog.find_model_in(connection, ObjectName.of_full_name(name))
    if found is None:
        raise NotFound(f"Registered model '{name}' does not exist.")
    return found.securable


def securable_with_key(catalog: CatalogService, connection: Connection, key: str) -> Securable:
    """The model whose record has a key, whatever its name is now. Raises NotFound."""
    if key.startswith(model_key("")):
        return find_model(connection, key.removeprefix(model_key("")))
    found = catalog.find_model_by_id(connection, key)
    if found is None:
        raise NotFound("The model does not exist any more.")
    return found.securable
