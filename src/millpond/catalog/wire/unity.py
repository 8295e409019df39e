"""The Unity Catalog REST API's JSON: what clients send, and what the catalog's objects look like to them.

Sources: Unity Catalog OpenAPI (`unitycatalog-client` 0.7) and `databricks/sdk/service/catalog.py` (0.156).
"""

import json
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from millpond.catalog.domain import (
    SYSTEM_CATALOG,
    Catalog,
    Column,
    Function,
    Guard,
    Guards,
    Schema,
    Table,
    TableConstraint,
    TableType,
    Volume,
    VolumeType,
)
from millpond.catalog.wire.types import field_json, precision_and_scale, spark_type_json, type_name
from millpond.kernel.clock import epoch_ms
from millpond.kernel.errors import InvalidArgument
from millpond.kernel.paging import Page

T = TypeVar("T")
Properties = dict[str, str]


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore")  # clients send more than we keep


class CreateCatalog(_Body):
    """POST /catalogs."""

    name: str
    comment: str | None = None
    properties: Properties | None = None
    storage_root: str | None = None


class Update(_Body):
    """PATCH of a catalog, schema, table, volume or function; what is absent stays."""

    new_name: str | None = None
    comment: str | None = None
    owner: str | None = None
    properties: Properties | None = None


class CreateSchema(_Body):
    """POST /schemas."""

    name: str
    catalog_name: str
    comment: str | None = None
    properties: Properties | None = None
    storage_root: str | None = None


class ColumnBody(_Body):
    """A column of a table to create."""

    name: str
    type_text: str | None = None
    type_json: str | None = None
    type_name: str | None = None
    nullable: bool = True
    comment: str | None = None
    position: int | None = None
    partition_index: int | None = None
    mask: Any = None

    def column(self, position: int) -> Column:
        """The domain's column. Raises InvalidArgument for one with a mask, which is not to be lost without a word."""
        if self.mask is not None:
            raise InvalidArgument(f"Column '{self.name}': set masks by SQL (ALTER TABLE ... SET MASK).")
        type_json = spark_type_json(self.name, self.type_json, self.type_text, self.type_name)
        return Column(
            name=self.name,
            type_text=self.type_text or type_json.strip('"'),
            type_json=type_json,
            nullable=self.nullable,
            comment=self.comment,
            position=position,
            partition_index=self.partition_index,
        )


class CreateTable(_Body):
    """POST /tables."""

    name: str
    catalog_name: str
    schema_name: str
    table_type: str
    data_source_format: str = "DELTA"
    columns: list[ColumnBody] = Field(default_factory=list, max_length=10_000)
    storage_location: str | None = None
    comment: str | None = None
    properties: Properties | None = None
    view_definition: str | None = None
    row_filter: Any = None

    def domain_columns(self) -> tuple[Column, ...]:
        """The columns in their order. Raises InvalidArgument when a row filter or mask is asked for."""
        if self.row_filter is not None:
            raise InvalidArgument(f"Table '{self.name}': set its row filter by SQL (ALTER TABLE ... SET ROW FILTER).")
        ordered = sorted(self.columns, key=lambda column: column.position or 0)
        return tuple(column.column(position) for position, column in enumerate(ordered))

    def domain_type(self) -> TableType:
        """The kind of table. Raises InvalidArgument."""
        try:
            return TableType(self.table_type)
        except ValueError as error:
            raise InvalidArgument(f"table_type '{self.table_type}' is not one of MANAGED, EXTERNAL, VIEW.") from error


class CreateStagingTable(_Body):
    """POST /staging-tables."""

    name: str
    catalog_name: str
    schema_name: str


class CreateVolume(_Body):
    """POST /volumes."""

    name: str
    catalog_name: str
    schema_name: str
    volume_type: VolumeType
    comment: str | None = None
    storage_location: str | None = None


class FunctionBody(BaseModel):
    """The function of POST /functions; what it is beside its name is kept as given."""

    model_config = ConfigDict(extra="allow")

    name: str
    catalog_name: str
    schema_name: str
    comment: str | None = None
    properties: str | None = None

    def definition(self) -> dict[str, Any]:
        """What is kept as given: parameters, types, routine."""
        kept = {key: value for key, value in (self.model_extra or {}).items() if key in _FUNCTION_KEYS}
        if not kept.get("routine_definition") and not kept.get("external_name"):
            raise InvalidArgument(f"Function '{self.name}': routine_definition is missing.")
        return kept


class CreateFunction(_Body):
    """POST /functions."""

    function_info: FunctionBody


class PrimaryKey(_Body):
    """A primary key to declare."""

    name: str
    child_columns: list[str] = Field(min_length=1)
    timeseries_columns: list[str] = Field(default_factory=list)
    rely: bool = False


class ForeignKey(_Body):
    """A foreign key to declare."""

    name: str
    child_columns: list[str] = Field(min_length=1)
    parent_table: str
    parent_columns: list[str] = Field(min_length=1)
    rely: bool = False


class Constraint(_Body):
    """One of the two."""

    primary_key_constraint: PrimaryKey | None = None
    foreign_key_constraint: ForeignKey | None = None

    def domain(self) -> TableConstraint:
        """The domain's constraint. Raises InvalidArgument."""
        if self.primary_key_constraint is not None:
            key = self.primary_key_constraint
            return TableConstraint(
                name=key.name.lower(),
                columns=tuple(key.child_columns),
                timeseries_columns=tuple(key.timeseries_columns),
                rely=key.rely,
            )
        if self.foreign_key_constraint is not None:
            foreign = self.foreign_key_constraint
            return TableConstraint(
                name=foreign.name.lower(),
                columns=tuple(foreign.child_columns),
                parent_table=foreign.parent_table,
                parent_columns=tuple(foreign.parent_columns),
                rely=foreign.rely,
            )
        raise InvalidArgument("constraint must hold a primary_key_constraint or a foreign_key_constraint.")


class CreateConstraint(_Body):
    """POST /constraints."""

    full_name_arg: str
    constraint: Constraint


class TableCredential(_Body):
    """POST /temporary-table-credentials."""

    table_id: str
    operation: Literal["READ", "READ_WRITE"] = "READ"


class VolumeCredential(_Body):
    """POST /temporary-volume-credentials."""

    volume_id: str
    operation: Literal["READ_VOLUME", "WRITE_VOLUME"] = "READ_VOLUME"


class ModelVersionCredential(_Body):
    """POST /temporary-model-version-credentials."""

    catalog_name: str
    schema_name: str
    model_name: str
    version: int
    operation: Literal["READ_MODEL_VERSION", "READ_WRITE_MODEL_VERSION"] = "READ_MODEL_VERSION"


class PathCredential(_Body):
    """POST /temporary-path-credentials."""

    url: str
    operation: Literal["PATH_READ", "PATH_READ_WRITE", "PATH_CREATE_TABLE"] = "PATH_READ"
    dry_run: bool = False


_FUNCTION_KEYS = frozenset({
    "input_params", "data_type", "full_data_type", "return_params", "routine_body", "routine_definition",
    "routine_dependencies", "parameter_style", "is_deterministic", "sql_data_access", "is_null_call", "security_type",
    "specific_name", "external_name", "external_language", "sql_path",
})  # fmt: skip


def catalog_json(catalog: Catalog, metastore_id: str, default_root: str) -> dict[str, Any]:
    """CatalogInfo."""
    is_system = catalog.name == SYSTEM_CATALOG
    return {
        **_described(catalog),
        "name": catalog.name,
        "full_name": catalog.name,
        "id": catalog.id,
        "properties": dict(catalog.properties),
        "catalog_type": "SYSTEM_CATALOG" if is_system else "MANAGED_CATALOG",
        "securable_type": "CATALOG",
        "isolation_mode": "OPEN",
        "metastore_id": metastore_id,
        "storage_location": catalog.storage_root or default_root,
        **_given(storage_root=catalog.storage_root),
    }


def schema_json(schema: Schema, metastore_id: str) -> dict[str, Any]:
    """SchemaInfo."""
    return {
        **_described(schema),
        "name": schema.name.schema,
        "catalog_name": schema.name.catalog,
        "full_name": str(schema.name),
        "schema_id": schema.id,
        "properties": dict(schema.properties),
        "catalog_type": "SYSTEM_CATALOG" if schema.name.catalog == SYSTEM_CATALOG else "MANAGED_CATALOG",
        "metastore_id": metastore_id,
        **_given(storage_root=schema.storage_root, storage_location=schema.storage_root),
    }


def table_json(
    table: Table, metastore_id: str, guards: Guards, *, guarded: bool, columns: bool = True, properties: bool = True
) -> dict[str, Any]:
    """TableInfo; `guarded` without the place of files that are for nobody, as Polars would read them where it can."""
    info = {
        **_in_schema(table, metastore_id),
        "table_id": table.id,
        "table_type": table.table_type.value,
        **_given(
            data_source_format=table.data_source_format or None,
            storage_location=None if guarded else table.storage_location or None,
            view_definition=table.view_definition,
        ),
    }
    if columns:
        info["columns"] = [column_json(column, guards.masks.get(column.name)) for column in table.columns]
    if guards.row_filter is not None:
        info["row_filter"] = _guard_json(guards.row_filter, "input_column_names")
    if properties:
        info["properties"] = dict(table.properties)
    if table.constraints:
        info["table_constraints"] = [constraint_json(item) for item in table.constraints]
    return info


def column_json(column: Column, mask: Guard | None = None) -> dict[str, Any]:
    """ColumnInfo."""
    digits = precision_and_scale(column.type_text)
    info: dict[str, Any] = {
        "name": column.name,
        "type_text": column.type_text,
        "type_name": type_name(column.type_text),
        "type_json": field_json(column.name, column.type_json, nullable=column.nullable, comment=column.comment),
        "position": column.position,
        "nullable": column.nullable,
        **_given(comment=column.comment, partition_index=column.partition_index),
    }
    if mask is not None:
        info["mask"] = _guard_json(mask, "using_column_names")
    return info | ({"type_precision": digits[0], "type_scale": digits[1]} if digits else {})


def _guard_json(guard: Guard, columns: str) -> dict[str, Any]:
    """TableRowFilter or ColumnMask, which differ in the word for the columns."""
    return {"function_name": str(guard.function.name), columns: list(guard.columns)}


def constraint_json(item: TableConstraint) -> dict[str, Any]:
    """TableConstraint."""
    key: dict[str, Any] = {"name": item.name, "child_columns": list(item.columns), "rely": item.rely}
    if item.parent_table is None:
        times = list(item.timeseries_columns)
        return {"primary_key_constraint": key | ({"timeseries_columns": times} if times else {})}
    return {
        "foreign_key_constraint": {
            **key,
            "parent_table": item.parent_table,
            "parent_columns": list(item.parent_columns),
        }
    }


def volume_json(volume: Volume, metastore_id: str) -> dict[str, Any]:
    """VolumeInfo."""
    return {
        **_in_schema(volume, metastore_id),
        "volume_id": volume.id,
        "volume_type": volume.volume_type.value,
        "storage_location": volume.storage_location,
    }


def function_json(function: Function, metastore_id: str) -> dict[str, Any]:
    """FunctionInfo; its properties are JSON in a string, as clients send them."""
    properties = json.dumps(dict(function.properties)) if function.properties else None
    return {
        **function.definition,
        **_in_schema(function, metastore_id),
        "function_id": function.id,
        **_given(properties=properties),
    }


def summary_json(table: Table) -> dict[str, Any]:
    """TableSummary."""
    return {"full_name": str(table.name), "table_type": table.table_type.value}


def page_json(key: str, page: Page[T], convert: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
    """A page under the key that its client reads; the token is absent at the end."""
    return items_json(key, (convert(item) for item in page.items), page.next_page_token)


def items_json(key: str, items: Iterable[dict[str, Any]], token: str | None) -> dict[str, Any]:
    """Items under a key, and the token of the next page."""
    return {key: list(items)} | ({"next_page_token": token} if token else {})


def _described(item: Any) -> dict[str, Any]:
    return {
        "owner": item.owner,
        "created_at": epoch_ms(item.created_at),
        "created_by": item.created_by,
        "updated_at": epoch_ms(item.updated_at),
        "updated_by": item.updated_by,
        **_given(comment=item.comment or None),
    }


def _in_schema(item: Any, metastore_id: str) -> dict[str, Any]:
    return {
        **_described(item),
        "name": item.name.name,
        "catalog_name": item.name.catalog,
        "schema_name": item.name.schema,
        "full_name": str(item.name),
        "metastore_id": metastore_id,
    }


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
