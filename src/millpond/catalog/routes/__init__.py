"""The HTTP of the catalog: Unity Catalog's REST API, the Files API, and declared features."""

from fastapi import APIRouter

from millpond.catalog.files import Files
from millpond.catalog.routes.credentials import credentials_router, version_credentials_router
from millpond.catalog.routes.declared_features import declared_features_router
from millpond.catalog.routes.files import files_router
from millpond.catalog.routes.grants import grants_router
from millpond.catalog.routes.policies import policies_router
from millpond.catalog.routes.rule_sets import rule_sets_router
from millpond.catalog.routes.tags import tags_router
from millpond.catalog.routes.unity import containers_router, metastore_router, objects_router
from millpond.catalog.service import CatalogService
from millpond.identity.credentials import Signer
from millpond.kernel.http import join
from millpond.kernel.settings import S3Settings

__all__ = ["router", "version_credentials_router"]


def router(
    catalog: CatalogService,
    files: Files,
    *,
    signer: Signer,
    workspace_id: int,
    s3: S3Settings,
    base_url: str | None = None,
) -> APIRouter:
    """All routes of the catalog. `base_url` is the address of clients, where it is not the one they send."""
    joined = APIRouter()
    join(
        joined,
        containers_router(catalog),
        objects_router(catalog, s3),
        metastore_router(catalog, workspace_id),
        grants_router(catalog),
        tags_router(catalog),
        policies_router(catalog),
        rule_sets_router(catalog),
        declared_features_router(catalog),
        credentials_router(catalog, s3),
        files_router(files, signer=signer, base_url=base_url),
    )
    return joined
