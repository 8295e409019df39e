"""Every command as a frozen value: what `parse_command` returns and `commands.execute` carries out.

A name is the tuple of its parts as written, unresolved: `("t",)`, `("s", "t")`, `("c", "s", "t")`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Name = tuple[str, ...]
DeltaType = str | dict[str, Any]
"""A type as Delta and Spark write it in JSON: `"long"`, `"decimal(10,2)"`, `{"type": "array", ...}`."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A statement that Millpond answers itself."""


# -- parts ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TableRef:
    """A table by name, or by the path where its Delta log is (`delta.`/a/b`` or `'/a/b'`)."""

    name: Name = ()
    path: str | None = None


@dataclass(frozen=True, kw_only=True)
class AsOf:
    """A moment of a table: a version number, or a timestamp as the user wrote it. Exactly one is set."""

    version: int | None = None
    timestamp: str | None = None


@dataclass(frozen=True, kw_only=True)
class GuardSpec:
    """A function that filters rows or masks a column, and the columns that it is given (besides the masked one)."""

    function: Name
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ColumnSpec:
    """A column in CREATE TABLE or ADD COLUMN. `path` has several parts for a field of a struct."""

    path: Name
    type: DeltaType
    nullable: bool = True
    comment: str | None = None
    default: str | None = None
    generated: str | None = None
    first: bool = False
    after: str | None = None
    varchar: str | None = None
    """`varchar(20)` or `char(3)` where the user wrote that; Delta stores it as string and notes the text."""
    mask: GuardSpec | None = None


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A table constraint; only CHECK has an `expression`. Keys are informational, as on Databricks."""

    name: str | None
    kind: str
    expression: str
    columns: tuple[str, ...] = ()
    parent: Name = ()
    """The table that a FOREIGN KEY points to."""
    parent_columns: tuple[str, ...] = ()
    timeseries_columns: tuple[str, ...] = ()
    """Those of a PRIMARY KEY that are marked TIMESERIES."""
    rely: bool = False


# -- session ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Use(Command):
    """USE a, USE a.b: `a` is a schema of the current catalog if there is one, else a catalog."""

    name: Name


@dataclass(frozen=True, kw_only=True)
class UseCatalog(Command):
    catalog: str


@dataclass(frozen=True, kw_only=True)
class UseSchema(Command):
    name: Name


# -- catalogs, schemas, volumes, functions ----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CreateCatalog(Command):
    catalog: str
    if_not_exists: bool = False
    comment: str | None = None
    managed_location: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CreateSchema(Command):
    name: Name
    if_not_exists: bool = False
    comment: str | None = None
    managed_location: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CreateVolume(Command):
    name: Name
    external: bool = False
    if_not_exists: bool = False
    location: str | None = None
    comment: str | None = None


@dataclass(frozen=True, kw_only=True)
class Drop(Command):
    """DROP CATALOG, SCHEMA, VOLUME, TABLE, VIEW or FUNCTION."""

    kind: str
    name: Name
    if_exists: bool = False
    cascade: bool = False


@dataclass(frozen=True, kw_only=True)
class CommentOn(Command):
    """COMMENT ON kind name IS comment; None removes it. For COLUMN the last part of `name` is the column."""

    kind: str
    name: Name
    comment: str | None


@dataclass(frozen=True, kw_only=True)
class AlterObject(Command):
    """ALTER CATALOG, SCHEMA, VOLUME, FUNCTION or MODEL: exactly one of the changes is set."""

    kind: str
    name: Name
    owner: str | None = None
    rename_to: Name | None = None
    set_properties: Mapping[str, str] | None = None
    unset_properties: tuple[str, ...] | None = None


# -- tags -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SetTags(Command):
    """Tags to set on an object, or on a column, whose name is the last part of `name`."""

    kind: str
    name: Name
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class UnsetTags(Command):
    """Tags to remove; harmless where they are not."""

    kind: str
    name: Name
    keys: tuple[str, ...]


# -- grants -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Grant(Command):
    """GRANT or REVOKE of privileges, as they are written, on an object."""

    privileges: tuple[str, ...]
    kind: str
    name: Name
    principal: str
    revoke: bool = False


@dataclass(frozen=True, kw_only=True)
class ShowGrants(Command):
    """SHOW GRANTS, of one principal or of all."""

    kind: str
    name: Name
    principal: str | None = None


# -- tables -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CreateTable(Command):
    """CREATE TABLE without a query."""

    name: Name
    columns: tuple[ColumnSpec, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    external: bool = False
    or_replace: bool = False
    if_not_exists: bool = False
    using: str | None = None
    partitioned_by: tuple[str, ...] = ()
    cluster_by: tuple[str, ...] | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    """How to read files that are not Delta (`header`, `delimiter`, ...)."""
    comment: str | None = None
    location: str | None = None
    like: TableRef | None = None
    row_filter: GuardSpec | None = None


@dataclass(frozen=True, kw_only=True)
class CloneTable(Command):
    name: Name
    source: TableRef
    shallow: bool
    as_of: AsOf | None = None
    or_replace: bool = False
    if_not_exists: bool = False
    properties: Mapping[str, str] = field(default_factory=dict)
    location: str | None = None


@dataclass(frozen=True, kw_only=True)
class TruncateTable(Command):
    table: TableRef


@dataclass(frozen=True, kw_only=True)
class UndropTable(Command):
    """UNDROP TABLE, by name or WITH ID: exactly one is set."""

    name: Name = ()
    table_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class ConvertToDelta(Command):
    """CONVERT TO DELTA parquet.`path`: a log for Parquet files that are there."""

    source: TableRef
    partitioned_by: tuple[ColumnSpec, ...] = ()


# -- maintenance ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Optimize(Command):
    table: TableRef
    where: str | None = None
    zorder_by: tuple[str, ...] = ()
    full: bool = False


@dataclass(frozen=True, kw_only=True)
class Vacuum(Command):
    table: TableRef
    retain_hours: float | None = None
    dry_run: bool = False
    lite: bool = False


@dataclass(frozen=True, kw_only=True)
class RestoreTable(Command):
    table: TableRef
    as_of: AsOf


# -- alter table ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class AddColumns:
    columns: tuple[ColumnSpec, ...]


@dataclass(frozen=True, kw_only=True)
class RenameColumn:
    path: Name
    new_name: str


@dataclass(frozen=True, kw_only=True)
class DropColumns:
    paths: tuple[Name, ...]
    if_exists: bool = False


@dataclass(frozen=True, kw_only=True)
class AlterColumn:
    """One change of one column: exactly one of the fields after `path` is set."""

    path: Name
    comment: str | None = None
    drop_not_null: bool = False
    set_not_null: bool = False
    type: DeltaType | None = None
    varchar: str | None = None
    first: bool = False
    after: str | None = None
    default: str | None = None
    drop_default: bool = False


@dataclass(frozen=True, kw_only=True)
class SetProperties:
    properties: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class UnsetProperties:
    keys: tuple[str, ...]
    if_exists: bool = False


@dataclass(frozen=True, kw_only=True)
class AddConstraint:
    constraint: Constraint


@dataclass(frozen=True, kw_only=True)
class DropConstraint:
    name: str
    if_exists: bool = False


@dataclass(frozen=True, kw_only=True)
class RenameTable:
    new_name: Name


@dataclass(frozen=True, kw_only=True)
class SetOwner:
    owner: str


@dataclass(frozen=True, kw_only=True)
class ClusterBy:
    """CLUSTER BY (columns), or NONE as the empty tuple."""

    columns: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SetRowFilter:
    """SET ROW FILTER, or DROP ROW FILTER as None."""

    guard: GuardSpec | None


@dataclass(frozen=True, kw_only=True)
class SetMask:
    """ALTER COLUMN c SET MASK, or DROP MASK as None."""

    path: Name
    guard: GuardSpec | None


AlterAction = (
    AddColumns
    | RenameColumn
    | DropColumns
    | AlterColumn
    | SetProperties
    | UnsetProperties
    | AddConstraint
    | DropConstraint
    | RenameTable
    | SetOwner
    | ClusterBy
    | SetRowFilter
    | SetMask
)


@dataclass(frozen=True, kw_only=True)
class AlterTable(Command):
    table: TableRef
    action: AlterAction
    view: bool = False


# -- describe ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DescribeHistory(Command):
    table: TableRef
    limit: int | None = None


@dataclass(frozen=True, kw_only=True)
class DescribeDetail(Command):
    table: TableRef


@dataclass(frozen=True, kw_only=True)
class DescribeTable(Command):
    table: TableRef
    extended: bool = False
    column: Name | None = None
    as_json: bool = False


@dataclass(frozen=True, kw_only=True)
class DescribeFunction(Command):
    name: Name
    extended: bool = False


@dataclass(frozen=True, kw_only=True)
class DescribeObject(Command):
    """DESCRIBE CATALOG, SCHEMA or VOLUME."""

    kind: str
    name: Name
    extended: bool = False


# -- show -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Show(Command):
    """A listing that a LIKE pattern narrows: CATALOGS, SCHEMAS, TABLES, TABLE EXTENDED, VIEWS, VOLUMES, FUNCTIONS.

    `scope` is the catalog or schema that the statement names; empty means the session's current one.
    """

    what: str
    scope: Name = ()
    pattern: str | None = None


@dataclass(frozen=True, kw_only=True)
class ShowDropped(Command):
    """SHOW TABLES DROPPED of a schema; empty means the session's current one."""

    scope: Name = ()
    limit: int | None = None


@dataclass(frozen=True, kw_only=True)
class ShowAcross(Command):
    """SHOW TABLES or COLUMNS of a whole catalog, or of all, as drivers ask for them."""

    what: str
    catalog: str | None = None
    """None for all catalogs."""
    schema_pattern: str | None = None
    table_pattern: str | None = None
    pattern: str | None = None
    """Of the tables' names, or the columns'."""


@dataclass(frozen=True, kw_only=True)
class ShowColumns(Command):
    table: TableRef


@dataclass(frozen=True, kw_only=True)
class ShowTableProperties(Command):
    table: TableRef
    key: str | None = None


@dataclass(frozen=True, kw_only=True)
class ShowPartitions(Command):
    table: TableRef
    where: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ShowCreateTable(Command):
    table: TableRef


@dataclass(frozen=True, kw_only=True)
class ShowCurrentSchema(Command):
    """SHOW CURRENT SCHEMA: the session's catalog and schema."""
