"""Unity Catalog's REST API for catalogs, schemas, tables, volumes and functions."""

import json
import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response

from millpond.catalog.delta import create_empty_table
from millpond.catalog.domain import (
    Catalog,
    Function,
    ObjectName,
    Schema,
    SchemaName,
    Table,
    TableType,
    Volume,
)
from millpond.catalog.service import CatalogService
from millpond.catalog.wire import unity as wire
from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.kernel.errors import InvalidArgument, NotFound, NotImplementedHere
from millpond.kernel.paging import Page, decode_token, encode_token, page_size
from millpond.kernel.settings import S3Settings

_API = "/api/2.1/unity-catalog"
_MAX_NAMESPACES = 1000
Who = Annotated[Principal, Depends(current_principal)]


class Paging:
    """The query parameters of every list; 0 asks for the server's page size."""

    def __init__(
        self,
        max_results: Annotated[int | None, Query(ge=0)] = None,
        page_token: str | None = None,
    ) -> None:
        self.max_results = max_results
        self.page_token = page_token

    @property
    def query(self) -> dict[str, Any]:
        """As the service takes them."""
        return {"max_results": self.max_results, "page_token": self.page_token}


Pages = Annotated[Paging, Depends()]


class Caller:
    """What kind of client asks. Two of them cannot read all that the Databricks clients must see."""

    def __init__(self, user_agent: Annotated[str, Header()] = "") -> None:
        self._agent = user_agent.lower()

    @property
    def knows_views(self) -> bool:
        """`unitycatalog-client` refuses a table_type of VIEW, though not its absence."""
        return not self._agent.startswith("openapi-generator")

    @property
    def knows_managed_tables(self) -> bool:
        """Sail takes a MANAGED Delta table for one whose commits the catalog keeps, and fails to read it."""
        return not self._agent.startswith("sail/")

    @property
    def writes_blanks(self) -> bool:
        """`unitycatalog-client` knows privileges as `USE CATALOG`, the Databricks SDK as `USE_CATALOG`."""
        return self._agent.startswith("openapi-generator")

    def table(self, principal: Principal, table: Table, catalog: CatalogService, **options: bool) -> dict[str, Any]:
        """The table as this client can read it."""
        guarded = catalog.is_guarded(principal, table)
        info = wire.table_json(table, catalog.metastore_id, catalog.guards_of(table), guarded=guarded, **options)
        if table.table_type is TableType.VIEW and not self.knows_views:
            del info["table_type"]
        if table.table_type is TableType.MANAGED and not self.knows_managed_tables:
            info["table_type"] = TableType.EXTERNAL.value
        return info


Client = Annotated[Caller, Depends()]


def containers_router(catalog: CatalogService) -> APIRouter:
    """Catalogs and schemas."""
    router = APIRouter(prefix=_API)
    _add_catalogs(router, catalog)
    _add_schemas(router, catalog)
    return router


def objects_router(catalog: CatalogService, s3: S3Settings) -> APIRouter:
    """Tables, their constraints, volumes and functions."""
    router = APIRouter(prefix=_API)
    _add_tables(router, catalog)
    _add_table_creation(router, catalog, s3)
    _add_constraints(router, catalog)
    _add_volumes(router, catalog)
    _add_functions(router, catalog)
    return router


def metastore_router(catalog: CatalogService, workspace_id: int) -> APIRouter:
    """The one metastore, which is this server."""
    router = APIRouter(prefix=_API)

    def described() -> dict[str, Any]:
        info = {"metastore_id": catalog.metastore_id, "name": "millpond", "storage_root": catalog.storage_root}
        return info | {"cloud": "local", "privilege_model_version": "1.0", "external_access_enabled": True}

    @router.get("/current-metastore-assignment")
    def assignment(_: Who) -> dict[str, Any]:
        return {"workspace_id": workspace_id, "metastore_id": catalog.metastore_id, "default_catalog_name": "main"}

    @router.get("/metastore_summary")
    def summary(_: Who) -> dict[str, Any]:
        return described()

    @router.get("/metastores")
    def metastores(_: Who) -> dict[str, Any]:
        return {"metastores": [described()]}

    @router.get("/metastores/{metastore_id}")
    def metastore(_: Who, metastore_id: str) -> dict[str, Any]:
        if metastore_id != catalog.metastore_id:
            raise NotFound(f"Metastore '{metastore_id[:80]}' does not exist.")
        return described()

    return router


def _add_catalogs(router: APIRouter, catalog: CatalogService) -> None:
    def shown(item: Catalog) -> dict[str, Any]:
        return wire.catalog_json(item, catalog.metastore_id, catalog.storage_root)

    @router.get("/catalogs")
    def entries(principal: Who, paging: Pages) -> dict[str, Any]:
        return wire.page_json("catalogs", catalog.list_catalogs(principal, **paging.query), shown)

    @router.post("/catalogs")
    def create(principal: Who, body: wire.CreateCatalog) -> dict[str, Any]:
        made = catalog.create_catalog(
            principal,
            name=body.name,
            comment=body.comment,
            properties=body.properties,
            storage_root=body.storage_root,
        )
        return shown(made)

    @router.get("/catalogs/{name}")
    def get(principal: Who, name: str) -> dict[str, Any]:
        return shown(catalog.get_catalog(principal, name))

    @router.patch("/catalogs/{name}")
    def update(principal: Who, name: str, body: wire.Update) -> dict[str, Any]:
        changed = catalog.update_catalog(
            principal,
            name,
            new_name=body.new_name,
            comment=body.comment,
            owner=body.owner,
            properties=body.properties,
        )
        return shown(changed)

    @router.delete("/catalogs/{name}")
    def delete(principal: Who, name: str, force: bool = False) -> dict[str, Any]:
        catalog.delete_catalog(principal, name, force=force)
        return {}


def _add_schemas(router: APIRouter, catalog: CatalogService) -> None:
    def shown(item: Schema) -> dict[str, Any]:
        return wire.schema_json(item, catalog.metastore_id)

    @router.get("/schemas")
    def entries(principal: Who, paging: Pages, catalog_name: str) -> dict[str, Any]:
        return wire.page_json("schemas", catalog.list_schemas(principal, catalog_name, **paging.query), shown)

    @router.post("/schemas")
    def create(principal: Who, body: wire.CreateSchema) -> dict[str, Any]:
        made = catalog.create_schema(
            principal,
            catalog=body.catalog_name,
            name=body.name,
            comment=body.comment,
            properties=body.properties,
            storage_root=body.storage_root,
        )
        return shown(made)

    @router.get("/schemas/{full_name}")
    def get(principal: Who, full_name: str) -> dict[str, Any]:
        return shown(catalog.get_schema(principal, SchemaName.of_full_name(full_name)))

    @router.patch("/schemas/{full_name}")
    def update(principal: Who, full_name: str, body: wire.Update) -> dict[str, Any]:
        changed = catalog.update_schema(
            principal,
            SchemaName.of_full_name(full_name),
            new_name=body.new_name,
            comment=body.comment,
            owner=body.owner,
            properties=body.properties,
        )
        return shown(changed)

    @router.delete("/schemas/{full_name}")
    def delete(principal: Who, full_name: str, force: bool = False) -> dict[str, Any]:
        catalog.delete_schema(principal, SchemaName.of_full_name(full_name), force=force)
        return {}


def _add_tables(router: APIRouter, catalog: CatalogService) -> None:
    @router.get("/tables")
    def entries(
        principal: Who,
        client: Client,
        paging: Pages,
        catalog_name: str,
        schema_name: str,
        omit_columns: bool = False,
        omit_properties: bool = False,
    ) -> dict[str, Any]:
        page = catalog.list_tables(principal, SchemaName(catalog_name, schema_name), **paging.query)
        options = {"columns": not omit_columns, "properties": not omit_properties}
        return wire.page_json("tables", page, lambda item: client.table(principal, item, catalog, **options))

    @router.get("/tables/{full_name}")
    def get(principal: Who, client: Client, full_name: str) -> dict[str, Any]:
        return client.table(principal, catalog.get_table(principal, ObjectName.of_full_name(full_name)), catalog)

    @router.get("/tables/{full_name}/exists")
    def exists(principal: Who, full_name: str) -> dict[str, Any]:
        name = ObjectName.of_full_name(full_name)
        catalog.get_schema(principal, name.schema_name)
        return {"table_exists": catalog.find_table(principal, name) is not None}

    @router.patch("/tables/{full_name}")
    def update(principal: Who, client: Client, full_name: str, body: wire.Update) -> dict[str, Any]:
        changed = catalog.update_table(
            principal,
            ObjectName.of_full_name(full_name),
            owner=body.owner,
            comment=body.comment,
            properties=body.properties,
        )
        return client.table(principal, changed, catalog)

    @router.delete("/tables/{full_name}")
    def delete(principal: Who, full_name: str) -> dict[str, Any]:
        catalog.drop_table(principal, ObjectName.of_full_name(full_name))
        return {}

    @router.get("/table-summaries")
    def summaries(
        principal: Who,
        paging: Pages,
        catalog_name: str,
        schema_name_pattern: str = "%",
        table_name_pattern: str = "%",
    ) -> dict[str, Any]:
        page = _matching_tables(catalog, principal, catalog_name, schema_name_pattern, table_name_pattern, paging)
        return wire.page_json("tables", page, wire.summary_json)


def _add_table_creation(router: APIRouter, catalog: CatalogService, s3: S3Settings) -> None:
    @router.post("/tables")
    def create(principal: Who, client: Client, body: wire.CreateTable) -> dict[str, Any]:
        name, table_type = ObjectName(body.catalog_name, body.schema_name, body.name), body.domain_type()
        if (table_type is TableType.EXTERNAL) != bool(body.storage_location):
            raise InvalidArgument(f"Table '{name}': EXTERNAL needs a storage_location, {table_type} takes none.")
        staged = catalog.stage_table(principal, name, body.storage_location or None)
        columns = body.domain_columns()
        if table_type is TableType.MANAGED:
            create_empty_table(staged.storage_location, columns, s3)
        made = catalog.register_table(
            principal,
            staged,
            columns=columns,
            table_type=table_type,
            data_source_format=body.data_source_format,
            comment=body.comment,
            properties=body.properties,
            view_definition=body.view_definition,
        )
        return client.table(principal, made, catalog)

    @router.post("/staging-tables")
    def stage(_: Who) -> None:
        raise NotImplementedHere(
            "Tables whose commits the catalog keeps (catalogManaged) are not implemented, since delta-rs and others "
            "cannot read them. Create the table through Spark Connect, or as EXTERNAL with a location."
        )


def _add_constraints(router: APIRouter, catalog: CatalogService) -> None:
    @router.post("/constraints")
    def create(principal: Who, body: wire.CreateConstraint) -> dict[str, Any]:
        constraint = body.constraint.domain()
        catalog.add_constraint(principal, ObjectName.of_full_name(body.full_name_arg), constraint)
        return wire.constraint_json(constraint)

    @router.delete("/constraints/{full_name}")
    def delete(principal: Who, full_name: str, constraint_name: str) -> dict[str, Any]:
        catalog.drop_constraint(principal, ObjectName.of_full_name(full_name), constraint_name)
        return {}


def _add_volumes(router: APIRouter, catalog: CatalogService) -> None:
    def shown(item: Volume) -> dict[str, Any]:
        return wire.volume_json(item, catalog.metastore_id)

    @router.get("/volumes")
    def entries(principal: Who, paging: Pages, catalog_name: str, schema_name: str) -> dict[str, Any]:
        page = catalog.list_volumes(principal, SchemaName(catalog_name, schema_name), **paging.query)
        return wire.page_json("volumes", page, shown)

    @router.post("/volumes")
    def create(principal: Who, body: wire.CreateVolume) -> dict[str, Any]:
        name = ObjectName(body.catalog_name, body.schema_name, body.name)
        made = catalog.create_volume(
            principal, name, volume_type=body.volume_type, location=body.storage_location, comment=body.comment
        )
        return shown(made)

    @router.get("/volumes/{name}")
    def get(principal: Who, name: str) -> dict[str, Any]:
        return shown(catalog.get_volume(principal, ObjectName.of_full_name(name)))

    @router.patch("/volumes/{name}")
    def update(principal: Who, name: str, body: wire.Update) -> dict[str, Any]:
        changed = catalog.update_volume(
            principal,
            ObjectName.of_full_name(name),
            new_name=body.new_name,
            comment=body.comment,
            owner=body.owner,
        )
        return shown(changed)

    @router.delete("/volumes/{name}")
    def delete(principal: Who, name: str) -> dict[str, Any]:
        catalog.drop_volume(principal, ObjectName.of_full_name(name))
        return {}


def _add_functions(router: APIRouter, catalog: CatalogService) -> None:
    def shown(item: Function) -> dict[str, Any]:
        return wire.function_json(item, catalog.metastore_id)

    @router.get("/functions")
    def entries(principal: Who, paging: Pages, catalog_name: str, schema_name: str) -> dict[str, Any]:
        page = catalog.list_functions(principal, SchemaName(catalog_name, schema_name), **paging.query)
        return wire.page_json("functions", page, shown)

    @router.post("/functions")
    def create(principal: Who, body: wire.CreateFunction) -> dict[str, Any]:
        info = body.function_info
        made = catalog.create_function(
            principal,
            ObjectName(info.catalog_name, info.schema_name, info.name),
            definition=info.definition(),
            comment=info.comment,
            properties=_properties_of(info.properties),
        )
        return shown(made)

    @router.get("/functions/{name}")
    def get(principal: Who, name: str) -> dict[str, Any]:
        return shown(catalog.get_function(principal, ObjectName.of_full_name(name)))

    @router.patch("/functions/{name}")
    def update(principal: Who, name: str, body: wire.Update) -> dict[str, Any]:
        full_name = ObjectName.of_full_name(name)
        return shown(catalog.update_function(principal, full_name, owner=body.owner, comment=body.comment))

    @router.delete("/functions/{name}")
    def delete(principal: Who, name: str) -> Response:
        catalog.drop_function(principal, ObjectName.of_full_name(name))
        return Response("{}", media_type="application/json")


def _properties_of(text: str | None) -> dict[str, str] | None:
    if not text:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidArgument("properties of a function is not JSON.") from error
    if not isinstance(value, dict):
        raise InvalidArgument("properties of a function must be a JSON object of strings.")
    return value


def _matching_tables(
    catalog: CatalogService,
    principal: Principal,
    catalog_name: str,
    schema_pattern: str,
    table_pattern: str,
    paging: Paging,
) -> Page[Table]:
    """Tables whose names match SQL LIKE patterns, over the schemas of a catalog, in one order of pages."""
    size = page_size(paging.max_results)
    at_schema, _, after = (decode_token(paging.page_token) or "").partition("/")
    found: list[Table] = []
    for schema in _schemas_from(catalog, principal, catalog_name, schema_pattern, at_schema):
        token = encode_token(after) if after and schema.schema == at_schema else None
        while True:
            page = catalog.list_tables(principal, schema, max_results=1000, page_token=token)
            for table in page.items:
                if _like(table.name.name, table_pattern):
                    found.append(table)
                if len(found) == size:
                    last = table.name
                    return Page(items=tuple(found), next_page_token=encode_token(f"{last.schema}/{last.name}"))
            token = page.next_page_token
            if token is None:
                break
    return Page(items=tuple(found))


def _schemas_from(
    catalog: CatalogService, principal: Principal, catalog_name: str, pattern: str, first: str
) -> list[SchemaName]:
    names: list[SchemaName] = []
    token = None
    while True:
        page = catalog.list_schemas(principal, catalog_name, max_results=_MAX_NAMESPACES, page_token=token)
        names += [item.name for item in page.items if item.name.schema >= first and _like(item.name.schema, pattern)]
        token = page.next_page_token
        if token is None:
            return names


def _like(name: str, pattern: str) -> bool:
    """SQL's LIKE: `%` for any text, `_` for one character; also `*`, as Unity's clients write it."""
    if pattern in {"", "%", "*"}:
        return True
    parts = [{"%": ".*", "*": ".*", "_": "."}.get(char, re.escape(char)) for char in pattern.lower()]
    return re.fullmatch("".join(parts), name, re.DOTALL) is not None
