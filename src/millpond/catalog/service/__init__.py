"""`CatalogService`: everything that one can do with the catalog. Its parts are the modules beside this one."""

from millpond.catalog.service.base import ModelHooks
from millpond.catalog.service.models import Models

__all__ = ["CatalogService", "ModelHooks"]


class CatalogService(Models):
    """What one can do with catalogs, schemas, tables, volumes, functions and models, each checked for permission."""
