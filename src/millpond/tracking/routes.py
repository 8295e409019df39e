"""Unity Catalog's API of registered models, as the Databricks SDK and Unity's open clients call it."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from millpond.catalog.domain import ObjectName, SchemaName
from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.kernel.errors import InvalidArgument
from millpond.kernel.paging import Page
from millpond.tracking.service import CatalogModel, ModelService
from millpond.tracking.wire import (
    ChangeTagsBody,
    CreateModelBody,
    CreateVersionBody,
    SetAliasBody,
    UpdateModelBody,
    UpdateVersionBody,
    alias_json,
    model_json,
    tags_of,
    version_json,
)

Asker = Annotated[Principal, Depends(current_principal)]
_PREFIX = "/api/2.1/unity-catalog"


def model_router(models: ModelService) -> APIRouter:
    """Routes of models, versions and aliases."""
    router = APIRouter(prefix=_PREFIX)
    _model_routes(router, models)
    _version_routes(router, models)
    _upload_routes(router, models)
    _alias_routes(router, models)
    _tag_routes(router, models)
    return router


def _model_routes(router: APIRouter, models: ModelService) -> None:
    @router.post("/models")
    def create(principal: Asker, body: CreateModelBody) -> dict[str, Any]:
        name = ObjectName(body.catalog_name, body.schema_name, body.name)
        made = models.create(principal, name, comment=body.comment, tags=tags_of(body.tags))
        return model_json(made, models.metastore_id)

    @router.get("/models")
    def list_models(
        principal: Asker,
        catalog_name: str | None = None,
        schema_name: str | None = None,
        max_results: int | None = None,
        page_token: str | None = None,
    ) -> dict[str, Any]:
        page = _list(models, principal, catalog_name, schema_name, max_results, page_token)
        found = [model_json(item, models.metastore_id) for item in page.items]
        return _with_token({"registered_models": found}, page.next_page_token)

    @router.get("/models/{full_name}")
    def get(principal: Asker, full_name: str) -> dict[str, Any]:
        return model_json(models.get(principal, ObjectName.of_full_name(full_name)), models.metastore_id)

    @router.patch("/models/{full_name}")
    def update(principal: Asker, full_name: str, body: UpdateModelBody) -> dict[str, Any]:
        name = ObjectName.of_full_name(full_name)
        new_name = body.new_name and body.new_name.rsplit(".", 1)[-1]
        changed = models.update(principal, name, new_name=new_name, comment=body.comment, owner=body.owner)
        return model_json(changed, models.metastore_id)

    @router.delete("/models/{full_name}")
    def delete(principal: Asker, full_name: str) -> dict[str, Any]:
        models.delete(principal, ObjectName.of_full_name(full_name))
        return {}


def _version_routes(router: APIRouter, models: ModelService) -> None:
    @router.get("/models/{full_name}/versions")
    def list_versions(
        principal: Asker, full_name: str, max_results: int | None = None, page_token: str | None = None
    ) -> dict[str, Any]:
        name = ObjectName.of_full_name(full_name)
        page = models.list_versions(principal, name, max_results=max_results, page_token=page_token)
        found = [version_json(item, models.metastore_id) for item in page.items]
        return _with_token({"model_versions": found}, page.next_page_token)

    @router.get("/models/{full_name}/versions/{version}")
    def get_version(principal: Asker, full_name: str, version: int) -> dict[str, Any]:
        return version_json(
            models.get_version(principal, ObjectName.of_full_name(full_name), version), models.metastore_id
        )

    @router.patch("/models/{full_name}/versions/{version}")
    def update_version(principal: Asker, full_name: str, version: int, body: UpdateVersionBody) -> dict[str, Any]:
        name = ObjectName.of_full_name(full_name)
        if body.comment is None:
            return version_json(models.get_version(principal, name, version), models.metastore_id)
        return version_json(models.update_version(principal, name, version, comment=body.comment), models.metastore_id)

    @router.delete("/models/{full_name}/versions/{version}")
    def delete_version(principal: Asker, full_name: str, version: int) -> dict[str, Any]:
        models.delete_version(principal, ObjectName.of_full_name(full_name), version)
        return {}


def _upload_routes(router: APIRouter, models: ModelService) -> None:
    """How the open Unity Catalog's clients make a version: they write its files to its location themselves."""

    @router.post("/models/versions")
    def create_version(principal: Asker, body: CreateVersionBody) -> dict[str, Any]:
        name = ObjectName(body.catalog_name, body.schema_name, body.model_name)
        made = models.begin_version(
            principal, name, source=body.source, run_id=body.run_id, comment=body.comment, tags=tags_of(body.tags)
        )
        return version_json(made, models.metastore_id)

    @router.patch("/models/{full_name}/versions/{version}/finalize")
    def finalize_version(principal: Asker, full_name: str, version: int) -> dict[str, Any]:
        return version_json(
            models.finalize_version(principal, ObjectName.of_full_name(full_name), version), models.metastore_id
        )


def _alias_routes(router: APIRouter, models: ModelService) -> None:
    @router.get("/models/{full_name}/aliases/{alias}")
    def get_by_alias(principal: Asker, full_name: str, alias: str) -> dict[str, Any]:
        return version_json(
            models.get_version_by_alias(principal, ObjectName.of_full_name(full_name), alias), models.metastore_id
        )

    @router.put("/models/{full_name}/aliases/{alias}")
    def set_alias(principal: Asker, full_name: str, alias: str, body: SetAliasBody) -> dict[str, Any]:
        name = ObjectName.of_full_name(full_name)
        models.set_alias(principal, name, alias, body.version_num)
        return alias_json(name, alias, body.version_num)

    @router.delete("/models/{full_name}/aliases/{alias}")
    def delete_alias(principal: Asker, full_name: str, alias: str) -> dict[str, Any]:
        models.delete_alias(principal, ObjectName.of_full_name(full_name), alias)
        return {}


def _tag_routes(router: APIRouter, models: ModelService) -> None:
    """Tags as MLflow's client sets them where it speaks this API only; models are of Unity Catalog's type FUNCTION."""

    @router.patch("/securable-tags/FUNCTION/{full_name}")
    def change(principal: Asker, full_name: str, body: ChangeTagsBody) -> dict[str, Any]:
        name, changes = ObjectName.of_full_name(full_name), body.changes
        models.change_tags(principal, name, put=tags_of(changes.add_tags), remove=changes.remove)
        return {}

    @router.patch("/subentity-tags/FUNCTION/{full_name}/{version}")
    def change_of_version(principal: Asker, full_name: str, version: str, body: ChangeTagsBody) -> dict[str, Any]:
        name, changes = ObjectName.of_full_name(full_name), body.changes
        models.change_version_tags(principal, name, version, put=tags_of(changes.add_tags), remove=changes.remove)
        return {}


def _list(
    models: ModelService,
    principal: Principal,
    catalog: str | None,
    schema: str | None,
    max_results: int | None,
    page_token: str | None,
) -> Page[CatalogModel]:
    if schema and not catalog:
        raise InvalidArgument("schema_name needs catalog_name beside it.")
    if catalog and schema:
        place = SchemaName(catalog, schema)
        return models.list(principal, place, max_results=max_results, page_token=page_token)
    return models.list_everywhere(principal, catalog=catalog, max_results=max_results, page_token=page_token)


def _with_token(body: dict[str, Any], token: str | None) -> dict[str, Any]:
    return body | {"next_page_token": token} if token else body
