"""`information_schema`: what there is in a catalog, as relations that SQL reads; in `system`, what there is in all.

Each row is there for whoever may see the object that it tells of. The relations are views without a text: who reads
one asks `information_rows`. Source: SQL:2016, part 11, as far as the Databricks SQL reference, "Information schema",
has it.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from millpond.catalog.domain import (
    SYSTEM_CATALOG,
    SYSTEM_OWNER,
    Catalog,
    Column,
    Guards,
    ObjectName,
    Schema,
    SchemaName,
    Table,
    TableType,
)
from millpond.catalog.names import INFORMATION_SCHEMA
from millpond.identity.access import Act, allows
from millpond.identity.domain import Principal
from millpond.kernel.paging import MAX_PAGE_SIZE, Page

T = TypeVar("T")
Row = tuple[Any, ...]

_TIMES = ("created timestamp", "created_by", "last_altered timestamp", "last_altered_by")

_TAG = ("tag_name", "tag_value")
_AS_ASKED = ("table_catalog", "table_schema")
"""What dbt's adapter for Databricks asks for, besides the names in Databricks' reference."""

RELATIONS: Mapping[str, tuple[str, ...]] = {
    "catalogs": ("catalog_name", "catalog_owner", "comment", *_TIMES),
    "schemata": ("catalog_name", "schema_name", "schema_owner", "comment", *_TIMES),
    "tables": (
        "table_catalog", "table_schema", "table_name", "table_type", "is_insertable_into", "table_owner", "comment",
        *_TIMES, "data_source_format", "storage_path",
    ),
    "columns": (
        "table_catalog", "table_schema", "table_name", "column_name", "ordinal_position integer", "is_nullable",
        "full_data_type", "data_type", "partition_index integer", "comment",
    ),
    "views": ("table_catalog", "table_schema", "table_name", "view_definition", "check_option", "is_updatable"),
    "volumes": (
        "volume_catalog", "volume_schema", "volume_name", "volume_type", "volume_owner", "comment", "storage_location",
        *_TIMES,
    ),
    "routines": (
        "routine_catalog", "routine_schema", "routine_name", "routine_owner", "routine_type", "data_type",
        "full_data_type", "routine_body", "routine_definition", "external_language", "comment", *_TIMES,
    ),
    "table_constraints": (
        "constraint_catalog", "constraint_schema", "constraint_name", "table_catalog", "table_schema", "table_name",
        "constraint_type", "enforced",
    ),
    "key_column_usage": (
        "constraint_catalog", "constraint_schema", "constraint_name", "table_catalog", "table_schema", "table_name",
        "column_name", "ordinal_position integer", "position_in_unique_constraint integer",
    ),
    "referential_constraints": (
        "constraint_catalog", "constraint_schema", "constraint_name", "unique_constraint_catalog",
        "unique_constraint_schema", "unique_constraint_table", "unique_constraint_name",
    ),
    "catalog_tags": ("catalog_name", *_TAG),
    "schema_tags": ("catalog_name", "schema_name", *_TAG),
    "table_tags": ("catalog_name", "schema_name", "table_name", *_TAG),
    "column_tags": ("catalog_name", "schema_name", "table_name", "column_name", *_TAG),
    "volume_tags": ("catalog_name", "schema_name", "volume_name", *_TAG),
    "row_filters": (
        "catalog_name", "schema_name", "table_name", "filter_catalog", "filter_schema", "filter_name",
        "filter_col_usage", *_AS_ASKED, "target_columns",
    ),
    "column_masks": (
        "catalog_name", "schema_name", "table_name", "column_name", "mask_catalog", "mask_schema", "mask_name",
        "mask_col_usage", *_AS_ASKED, "using_columns",
    ),
}  # fmt: skip
"""Columns by relation: a name, and the type where it is not string."""

_SQL_TYPES = {"string": "string", "integer": "int", "timestamp": "timestamp"}


def information_columns(relation: str) -> tuple[tuple[str, str], ...]:
    """Names and Delta types of a relation's columns."""
    pairs = (text.partition(" ")[::2] for text in RELATIONS[relation])
    return tuple((name, kind or "string") for name, kind in pairs)


def information_schema(catalog: Catalog) -> Schema:
    """The schema of the relations, which exists in each catalog and nowhere in the database."""
    return Schema(
        **_described(catalog, INFORMATION_SCHEMA),
        name=SchemaName(catalog.name, INFORMATION_SCHEMA),
        catalog_id=catalog.id,
        catalog_owner=catalog.owner,
        properties={},
        storage_root=None,
    )


def information_table(catalog: Catalog, relation: str) -> Table | None:
    """One of the relations, as the view that it looks like; None when there is none of that name."""
    if relation not in RELATIONS:
        return None
    schema = information_schema(catalog)
    columns = tuple(
        Column(name=name, type_text=_SQL_TYPES[kind], type_json=f'"{kind}"', position=position)
        for position, (name, kind) in enumerate(information_columns(relation))
    )
    return Table(
        **_described(catalog, relation),
        name=ObjectName(catalog.name, INFORMATION_SCHEMA, relation),
        schema_id=schema.id,
        schema_owner=SYSTEM_OWNER,
        catalog_id=catalog.id,
        catalog_owner=catalog.owner,
        table_type=TableType.VIEW,
        data_source_format="",
        storage_location="",
        columns=columns,
        properties={},
        view_definition=None,
    )


def _described(catalog: Catalog, name: str) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid5(uuid.UUID(catalog.id), name)),
        "owner": SYSTEM_OWNER,
        "comment": None,
        "created_at": catalog.created_at,
        "created_by": SYSTEM_OWNER,
        "updated_at": catalog.created_at,
        "updated_by": SYSTEM_OWNER,
    }


def information_rows(service: Any, principal: Principal, name: ObjectName) -> list[Row]:
    """The rows of a relation that the principal may see. `service` is the CatalogService. Reads all of the catalog."""
    return list(_ROWS[name.name](_Seen(service, principal, name.catalog)))


class _Seen:
    """What a principal sees of one catalog, or of all."""

    def __init__(self, service: Any, principal: Principal, catalog: str) -> None:
        self._service = service
        self.principal = principal
        self._catalog = catalog

    def catalogs(self) -> Iterator[Catalog]:
        if self._catalog != SYSTEM_CATALOG:
            yield self._service.get_catalog(self.principal, self._catalog)
            return
        yield from self._every(lambda **page: self._service.list_catalogs(self.principal, **page))

    def schemas(self) -> Iterator[Schema]:
        for catalog in self.catalogs():
            yield from self._every(
                lambda name=catalog.name, **page: self._service.list_schemas(self.principal, name, **page)
            )

    def inside(self, kind: str) -> Iterator[Any]:
        """Objects of a kind in all schemas."""
        listing = getattr(self._service, f"list_{kind}")
        for schema in self.schemas():
            yield from self._every(lambda name=schema.name, **page: listing(self.principal, name, **page))

    def tagged(self, kind: str) -> Iterator[tuple[Any, str, str, str]]:
        """Objects of a kind with their tags, and those of their columns."""
        catalog = None if self._catalog == SYSTEM_CATALOG else self._catalog
        yield from self._service.tagged(self.principal, kind, catalog)

    def guards_of(self, table: Table) -> Guards:
        found: Guards = self._service.guards_of(table)
        return found

    def may_manage(self, item: Any) -> bool:
        return allows(self.principal, Act.MANAGE, item.securable)

    @staticmethod
    def _every(fetch: Callable[..., Page[T]]) -> Iterator[T]:
        token: str | None = None
        while True:
            page = fetch(max_results=MAX_PAGE_SIZE, page_token=token)
            yield from page.items
            token = page.next_page_token
            if not token:
                return


def _times(item: Any) -> Row:
    return item.created_at, item.created_by, item.updated_at, item.updated_by


def _parts(name: ObjectName) -> Row:
    return name.catalog, name.schema, name.name


def _yes(value: bool) -> str:
    return "YES" if value else "NO"


def _catalogs(seen: _Seen) -> Iterator[Row]:
    for catalog in seen.catalogs():
        yield catalog.name, catalog.owner, catalog.comment, *_times(catalog)


def _schemata(seen: _Seen) -> Iterator[Row]:
    schemas = list(seen.schemas()) + [information_schema(catalog) for catalog in seen.catalogs()]
    for schema in sorted(schemas, key=lambda one: (one.name.catalog, one.name.schema)):
        yield schema.name.catalog, schema.name.schema, schema.owner, schema.comment, *_times(schema)


def _tables(seen: _Seen) -> Iterator[Row]:
    for table in seen.inside("tables"):
        is_view = table.table_type is TableType.VIEW
        place = table.storage_location if table.storage_location and seen.may_manage(table) else None
        yield (
            *_parts(table.name), table.table_type.value, _yes(not is_view), table.owner, table.comment, *_times(table),
            table.data_source_format or None, place,
        )  # fmt: skip


def _columns(seen: _Seen) -> Iterator[Row]:
    for table in seen.inside("tables"):
        for column in table.columns:
            yield (
                *_parts(table.name), column.name, column.position, _yes(column.nullable), column.type_text,
                _plain_type(column.type_text), column.partition_index, column.comment,
            )  # fmt: skip


def _plain_type(text: str) -> str:
    for end in ("(", "<"):
        text = text.partition(end)[0]
    return text.strip().upper()


def _views(seen: _Seen) -> Iterator[Row]:
    for table in seen.inside("tables"):
        if table.table_type is TableType.VIEW:
            text = table.view_definition if allows(seen.principal, Act.READ, table.securable) else None
            yield *_parts(table.name), text, "NONE", "NO"


def _volumes(seen: _Seen) -> Iterator[Row]:
    for volume in seen.inside("volumes"):
        place = volume.storage_location if seen.may_manage(volume) else None
        yield *_parts(volume.name), volume.volume_type.value, volume.owner, volume.comment, place, *_times(volume)


def _routines(seen: _Seen) -> Iterator[Row]:
    for function in seen.inside("functions"):
        kept = function.definition
        yield (
            *_parts(function.name), function.owner, "FUNCTION", kept.get("data_type"), kept.get("full_data_type"),
            kept.get("routine_body"), kept.get("routine_definition"), kept.get("external_language"), function.comment,
            *_times(function),
        )  # fmt: skip


def _keys(seen: _Seen) -> Iterator[tuple[Row, Table, Any]]:
    """Each key with the parts of its name."""
    for table in seen.inside("tables"):
        for key in table.constraints:
            yield (table.name.catalog, table.name.schema, key.name), table, key


def _table_constraints(seen: _Seen) -> Iterator[Row]:
    for name, table, key in _keys(seen):
        yield *name, *_parts(table.name), "FOREIGN KEY" if key.parent_table else "PRIMARY KEY", "NO"


def _key_column_usage(seen: _Seen) -> Iterator[Row]:
    for name, table, key in _keys(seen):
        for position, column in enumerate(key.columns, 1):
            yield *name, *_parts(table.name), column, position, position if key.parent_table else None


def _referential_constraints(seen: _Seen) -> Iterator[Row]:
    keys = list(_keys(seen))
    primary = {str(table.name): key.name for _, table, key in keys if not key.parent_table}
    for name, _, key in keys:
        if key.parent_table:
            yield *name, *_padded(key.parent_table.split(".")), primary.get(key.parent_table.lower())


def _catalog_tags(seen: _Seen) -> Iterator[Row]:
    for catalog, _, key, value in seen.tagged("catalog"):
        yield catalog.name, key, value


def _schema_tags(seen: _Seen) -> Iterator[Row]:
    for schema, _, key, value in seen.tagged("schema"):
        yield schema.name.catalog, schema.name.schema, key, value


def _object_tags(kind: str) -> Callable[[_Seen], Iterator[Row]]:
    def rows(seen: _Seen) -> Iterator[Row]:
        for found, column, key, value in seen.tagged(kind):
            if not column:
                yield *_parts(found.name), key, value

    return rows


def _column_tags(seen: _Seen) -> Iterator[Row]:
    for table, tagged, key, value in seen.tagged("table"):
        for column in table.columns:
            if column.name.lower() == tagged:
                yield *_parts(table.name), column.name, key, value


def _guarded(seen: _Seen) -> Iterator[tuple[Table, Guards]]:
    """Tables with a row filter or masks that the principal may read: BROWSE alone does not show these."""
    for table in seen.inside("tables"):
        if table.guards and allows(seen.principal, Act.READ, table.securable):
            yield table, seen.guards_of(table)


def _row_filters(seen: _Seen) -> Iterator[Row]:
    for table, guards in _guarded(seen):
        if guards.row_filter is not None:
            used = ", ".join(guards.row_filter.columns)
            yield *_parts(table.name), *_parts(guards.row_filter.function.name), used, *_parts(table.name)[:2], used


def _column_masks(seen: _Seen) -> Iterator[Row]:
    for table, guards in _guarded(seen):
        for column, mask in guards.masks.items():
            place, used = _parts(table.name), ", ".join(mask.columns) or None
            yield *place, column, *_parts(mask.function.name), used, *place[:2], used


def _padded(parts: Sequence[str]) -> Row:
    return tuple([None] * (3 - len(parts)) + list(parts[:3]))


_ROWS: Mapping[str, Callable[[_Seen], Iterator[Row]]] = {
    "catalogs": _catalogs,
    "schemata": _schemata,
    "tables": _tables,
    "columns": _columns,
    "views": _views,
    "volumes": _volumes,
    "routines": _routines,
    "table_constraints": _table_constraints,
    "key_column_usage": _key_column_usage,
    "referential_constraints": _referential_constraints,
    "catalog_tags": _catalog_tags,
    "schema_tags": _schema_tags,
    "table_tags": _object_tags("table"),
    "column_tags": _column_tags,
    "volume_tags": _object_tags("volume"),
    "row_filters": _row_filters,
    "column_masks": _column_masks,
}
