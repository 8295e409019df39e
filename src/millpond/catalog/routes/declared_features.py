"""The Databricks feature engineering API, as far as declared features go: `w.feature_engineering`."""

from typing import Any

from fastapi import APIRouter, Response

from millpond.catalog.declared import DeclaredFeatures
from millpond.catalog.domain import ObjectName, SchemaName
from millpond.catalog.routes.unity import Who
from millpond.catalog.service import CatalogService
from millpond.catalog.wire import unity as wire
from millpond.kernel.errors import InvalidArgument

_API = "/api/2.0/feature-engineering/features"


def declared_features_router(catalog: CatalogService) -> APIRouter:
    """Features: made, read, described and removed."""
    router, features = APIRouter(), DeclaredFeatures(catalog)

    @router.post(_API)
    def create(me: Who, body: dict[str, Any]) -> dict[str, Any]:
        return features.create(me, body)

    @router.get(_API)
    def list_all(
        me: Who,
        catalog_name: str | None = None,
        schema_name: str | None = None,
        page_size: int | None = None,
        page_token: str | None = None,
    ) -> dict[str, Any]:
        if catalog_name is None or schema_name is None:
            raise InvalidArgument("Give catalog_name and schema_name: features are listed schema by schema.")
        schema = SchemaName(catalog_name, schema_name)
        page = features.list(me, schema, max_results=page_size, page_token=page_token or None)
        return wire.items_json("features", page.items, page.next_page_token)

    @router.get(_API + "/{full_name}")
    def get(me: Who, full_name: str) -> dict[str, Any]:
        return features.get(me, ObjectName.of_full_name(full_name))

    @router.patch(_API + "/{full_name}")
    def update(me: Who, full_name: str, body: dict[str, Any], update_mask: str) -> dict[str, Any]:
        if update_mask != "description":
            raise InvalidArgument(f"update_mask '{update_mask}': only the description of a feature can be changed.")
        return features.describe(me, ObjectName.of_full_name(full_name), body.get("description"))

    @router.delete(_API + "/{full_name}")
    def delete(me: Who, full_name: str) -> Response:
        features.delete(me, ObjectName.of_full_name(full_name))
        return Response("{}", media_type="application/json")

    return router
