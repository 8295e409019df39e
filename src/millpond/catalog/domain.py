"""Catalogs, schemas, tables, volumes, functions and models: the nouns of the catalog."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from millpond.catalog.names import INFORMATION_SCHEMA, ObjectName, SchemaName
from millpond.identity.access import Securable

__all__ = [
    "INFORMATION_SCHEMA",
    "MAIN",
    "SYSTEM_CATALOG",
    "SYSTEM_OWNER",
    "Argument",
    "Catalog",
    "Column",
    "Constant",
    "Function",
    "Guard",
    "GuardRef",
    "GuardRefs",
    "Guards",
    "Model",
    "ObjectName",
    "Refusal",
    "Schema",
    "SchemaName",
    "StagedTable",
    "Table",
    "TableConstraint",
    "TableType",
    "Volume",
    "VolumeType",
]

MAIN = "main"
SYSTEM_CATALOG = "system"
BUILT_IN_CATALOGS = frozenset({MAIN, SYSTEM_CATALOG})
SYSTEM_OWNER = "System user"
"""Owner of what exists from the start; nobody signs in under this name."""


class TableType(StrEnum):
    """Who keeps a table's files: we (MANAGED), the user (EXTERNAL), nobody (VIEW)."""

    MANAGED = "MANAGED"
    EXTERNAL = "EXTERNAL"
    VIEW = "VIEW"


class VolumeType(StrEnum):
    """Who keeps a volume's files."""

    MANAGED = "MANAGED"
    EXTERNAL = "EXTERNAL"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table."""

    name: str
    type_text: str
    """SQL, as in `decimal(10,2)`."""
    type_json: str
    """Spark's JSON of the type alone, as in `"long"` with its quotes, or of a struct."""
    nullable: bool = True
    comment: str | None = None
    position: int
    partition_index: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Described:
    id: str
    owner: str
    comment: str | None
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str


@dataclass(frozen=True, kw_only=True)
class Catalog(_Described):
    """The first level of names."""

    name: str
    properties: Mapping[str, str]
    storage_root: str | None
    """Where its managed data goes instead of the server's storage root."""

    @property
    def securable(self) -> Securable:
        """This catalog under permission."""
        return Securable(
            kind="catalog",
            name=self.name,
            owners=(self.owner,),
            ids=(self.id,),
            kept_by_server=self.name == SYSTEM_CATALOG,
        )


@dataclass(frozen=True, kw_only=True)
class Schema(_Described):
    """The second level of names."""

    name: SchemaName
    catalog_id: str
    catalog_owner: str
    properties: Mapping[str, str]
    storage_root: str | None

    @property
    def securable(self) -> Securable:
        """This schema under permission."""
        return Securable(
            kind="schema",
            name=str(self.name),
            owners=(self.owner, self.catalog_owner),
            ids=(self.id, self.catalog_id),
            public=self.name.schema == INFORMATION_SCHEMA,
            kept_by_server=self.name.catalog == SYSTEM_CATALOG,
        )


@dataclass(frozen=True, kw_only=True)
class _InSchema(_Described):
    name: ObjectName
    schema_id: str
    schema_owner: str
    catalog_id: str
    catalog_owner: str

    def _securable(self, kind: str) -> Securable:
        return Securable(
            kind=kind,
            name=str(self.name),
            owners=(self.owner, self.schema_owner, self.catalog_owner),
            ids=(self.id, self.schema_id, self.catalog_id),
            public=self.name.schema == INFORMATION_SCHEMA,
            kept_by_server=self.name.catalog == SYSTEM_CATALOG,
        )


@dataclass(frozen=True, kw_only=True)
class TableConstraint:
    """A declared, not enforced, primary or foreign key."""

    name: str
    columns: tuple[str, ...]
    parent_table: str | None = None
    """Full name of the table a foreign key points to; None makes it a primary key."""
    parent_columns: tuple[str, ...] = ()
    timeseries_columns: tuple[str, ...] = ()
    """Those of a primary key's columns that hold the time of a feature's value."""
    rely: bool = False


@dataclass(frozen=True, kw_only=True)
class GuardRef:
    """A function that decides about a row or a value, and the columns that it is given."""

    function_id: str
    columns: tuple[str, ...]
    """Of a mask: those besides the masked one."""


@dataclass(frozen=True, kw_only=True)
class GuardRefs:
    """What decides which rows and values of a table one sees, as the table notes it."""

    row_filter: GuardRef | None = None
    masks: Mapping[str, GuardRef] = field(default_factory=dict)
    """By the name of the masked column."""

    def __bool__(self) -> bool:
        return self.row_filter is not None or bool(self.masks)

    @property
    def function_ids(self) -> frozenset[str]:
        """The functions in use."""
        refs = (*self.masks.values(), *((self.row_filter,) if self.row_filter else ()))
        return frozenset(ref.function_id for ref in refs)

    @property
    def columns(self) -> frozenset[str]:
        """The columns in use, in lower case."""
        given = [column for ref in self.masks.values() for column in ref.columns]
        given += self.row_filter.columns if self.row_filter else ()
        return frozenset(column.lower() for column in (*self.masks, *given))


NO_GUARDS = GuardRefs()


@dataclass(frozen=True, kw_only=True)
class Table(_InSchema):
    """A Delta (or other) table, or a view."""

    table_type: TableType
    data_source_format: str
    """DELTA, PARQUET, CSV, JSON, ...; empty for a view."""
    storage_location: str
    """`file:///...` or `s3://...` without a trailing slash; empty for a view."""
    columns: tuple[Column, ...]
    properties: Mapping[str, str]
    view_definition: str | None
    constraints: tuple[TableConstraint, ...] = ()
    guards: GuardRefs = NO_GUARDS
    policed: bool = False
    """Whether a policy is set on it or what contains it; for whom it counts, and whether it matches, is asked then."""

    @property
    def securable(self) -> Securable:
        """This table under permission."""
        return self._securable("table")

    @property
    def primary_key(self) -> TableConstraint | None:
        """What tells its rows apart, where it is declared; a Delta table that has one is a feature table."""
        return next((each for each in self.constraints if each.parent_table is None), None)

    @property
    def chain(self) -> tuple[Securable, ...]:
        """This table under permission, then its schema, then its catalog."""
        own = self.securable
        names = ("table", str(self.name)), ("schema", str(self.name.schema_name)), ("catalog", self.name.catalog)
        return tuple(
            Securable(kind=kind, name=name, owners=own.owners[at:], ids=own.ids[at:], kept_by_server=own.kept_by_server)
            for at, (kind, name) in enumerate(names)
        )


@dataclass(frozen=True, kw_only=True)
class StagedTable:
    """A place for a table that does not exist yet; nothing of it is visible."""

    id: str
    name: ObjectName
    storage_location: str
    managed: bool
    """Whether the location is ours, made for this table, and removed if the table is never registered."""


@dataclass(frozen=True, kw_only=True)
class Volume(_InSchema):
    """A directory of files."""

    volume_type: VolumeType
    storage_location: str

    @property
    def securable(self) -> Securable:
        """This volume under permission."""
        return self._securable("volume")


@dataclass(frozen=True, kw_only=True)
class Function(_InSchema):
    """A user-defined function; what its callers see, and its body."""

    properties: Mapping[str, str]
    definition: Mapping[str, Any] = field(default_factory=dict)
    """The rest of the REST object as it was given: parameters, types, routine body and language."""

    @property
    def securable(self) -> Securable:
        """This function under permission."""
        return self._securable("function")


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A literal as SQL."""

    sql: str


Argument = str | Constant
"""The name of a column, or a constant."""


@dataclass(frozen=True, kw_only=True)
class Guard:
    """A row filter, or the mask of a column."""

    function: Function
    arguments: tuple[Argument, ...]
    """Of a mask: those besides the masked column."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns among its arguments."""
        return tuple(each for each in self.arguments if isinstance(each, str))


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why nothing of a table can be shown to somebody."""

    code: str
    """As Databricks calls it."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Guards:
    """What decides which rows and values of a table one sees."""

    row_filter: Guard | None = None
    masks: Mapping[str, Guard] = field(default_factory=dict)
    """By the name of the masked column."""
    refused: Refusal | None = None
    policed: bool = False
    """Whether a policy is among what decides."""

    def __bool__(self) -> bool:
        return self.policed or self.row_filter is not None or bool(self.masks)


@dataclass(frozen=True, kw_only=True)
class Model(_InSchema):
    """The catalog's side of a registered model; versions, aliases and tags are the tracking room's."""

    @property
    def securable(self) -> Securable:
        """This model under permission."""
        return self._securable("model")
