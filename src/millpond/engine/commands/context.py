"""What a command runs in: who asks, the catalog, the session's names, and how to reach storage."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from millpond.catalog.domain import Column, ObjectName, SchemaName, Table, TableType
from millpond.catalog.service import CatalogService
from millpond.engine.authorship import Author
from millpond.engine.delta.table import Storage, fields, open_table, partition_columns
from millpond.engine.errors import (
    AnalysisError,
    SparkError,
    catalog_not_found,
    quoted,
    schema_not_found,
    table_not_found,
    unsupported,
)
from millpond.engine.syntax.model import Name, TableRef
from millpond.engine.types import columns_of
from millpond.identity.access import Act, require
from millpond.identity.domain import Principal
from millpond.kernel.errors import NotFound
from millpond.lineage.pins import Pin, pins_of


class SessionState(Protocol):
    """The part of a Spark session that commands read and USE changes."""

    current_catalog: str
    current_schema: str

    def setting(self, key: str) -> str | None:
        """A setting that the user has made."""


@dataclass(frozen=True, kw_only=True)
class CommandContext:
    """Everything that `execute` needs besides the command."""

    principal: Principal
    catalog: CatalogService
    session: SessionState
    storage_options: Mapping[str, str] = field(default_factory=dict)
    refresh: Callable[[str], None] = lambda _location: None
    """Brings the system table at a location up to date, if there is one."""

    def pins(self, target: "Target") -> Sequence[Pin]:
        """Versions of a table that registered models were trained on."""
        table = target.table or self.catalog.table_at(target.storage.url)
        return pins_of(self.catalog.database, [table.id]) if table is not None else ()

    @property
    def author(self) -> Author:
        return Author.of(self.principal)

    @property
    def time_zone(self) -> tzinfo:
        """The session's time zone, in which timestamps without an offset are meant."""
        try:
            return ZoneInfo(self.session.setting("spark.sql.session.timeZone") or "UTC")
        except (ZoneInfoNotFoundError, ValueError):
            return UTC

    def object_name(self, name: Name) -> ObjectName:
        """The full name that one, two or three parts mean in this session."""
        current = (self.session.current_catalog, self.session.current_schema)
        return ObjectName(*(*current[: 3 - len(name)], *name))

    def schema_name(self, name: Name) -> SchemaName:
        """The schema that one or two parts mean; none is the current one."""
        current = (self.session.current_catalog, self.session.current_schema)
        return SchemaName(*(*current[: 2 - len(name)], *name))

    def storage(self, location: str) -> Storage:
        return Storage(url=location, options=self.storage_options if location.startswith("s3") else {})


@dataclass(frozen=True, kw_only=True)
class Target:
    """A Delta table that a command works on: in the catalog, or only a path."""

    storage: Storage
    shown: str
    table: Table | None


def find_table(context: CommandContext, name: Name) -> Table:
    """The table or view. Raises: TABLE_OR_VIEW_NOT_FOUND."""
    try:
        table = context.catalog.get_table(context.principal, context.object_name(name))
    except NotFound as error:
        raise table_not_found(name) from error
    context.refresh(table.storage_location)
    return table


def delta_target(
    context: CommandContext, ref: TableRef, act: Act, *, operation: str, tells_of_all_rows: bool = False
) -> Target:
    """The Delta table that `ref` names and that the principal may `act` on.

    What `tells_of_all_rows`, hidden ones too, is for who may take away what hides them, where something does.
    Raises: errors for missing tables, views, tables of other formats, and paths out of reach.
    """
    if ref.path is not None:
        writes = act not in (Act.SEE, Act.READ)
        location = context.catalog.check_path(context.principal, ref.path, write=writes)
        return Target(storage=context.storage(location), shown=f"delta.`{ref.path}`", table=None)
    table = find_table(context, ref.name)
    refuse_view(table, operation)
    if table.data_source_format != "DELTA":
        raise unsupported(
            f"{operation} is only supported for Delta tables; {table.name} is {table.data_source_format}.",
            "DELTA_TABLE_ONLY_OPERATION",
        )
    require(context.principal, act, table.securable)
    if tells_of_all_rows:
        context.catalog.require_all_rows(context.principal, table)
    return Target(storage=context.storage(table.storage_location), shown=str(table.name), table=table)


def refuse_view(table: Table, operation: str) -> None:
    if table.table_type is TableType.VIEW:
        raise wrong_type(operation, table, "TABLE", "VIEW")


def wrong_type(operation: str, table: Table, wanted: str, found: str) -> AnalysisError:
    shown = quoted((table.name.catalog, table.name.schema, table.name.name))
    return AnalysisError(
        "WRONG_COMMAND_FOR_OBJECT_TYPE",
        f"The operation {operation} requires a {wanted}. But {shown} is a {found}. Use the command for a {found}.",
        sql_state="42809",
        parameters={"operation": operation, "requiredType": wanted, "objectName": shown, "foundType": found},
    )


def missing_container(context: CommandContext, schema: SchemaName) -> SparkError:
    """Which of the containers does not exist, after the catalog said NotFound."""
    try:
        context.catalog.get_catalog(context.principal, schema.catalog)
    except NotFound:
        return catalog_not_found(schema.catalog)
    return schema_not_found((schema.catalog, schema.schema))


def record(context: CommandContext, target: Target) -> None:
    """Let the catalog know the columns and properties that the Delta log has now."""
    if target.table is None:
        return
    opened = open_table(target.storage)
    columns = columns_of(fields(opened), partition_columns(opened))
    properties = shown_properties(opened.metadata().configuration)
    context.catalog.record_columns(context.principal, target.table, columns, properties)


def reconcile_columns(context: CommandContext, table: Table) -> Table:
    """The table with the columns of its Delta log, which is the truth: the catalog lags after a crash.

    Costs one look at the log. A view, or a table of another format, is returned as it is.
    """
    if table.table_type is TableType.VIEW or table.data_source_format != "DELTA":
        return table

    def read(current: Table) -> tuple[Column, ...]:
        opened = open_table(context.storage(current.storage_location))
        return columns_of(fields(opened), partition_columns(opened))

    return context.catalog.refresh_table(context.principal, table, read)


def shown_properties(configuration: Mapping[str, str]) -> dict[str, str]:
    """Properties as users see them: without those in which we note other things."""
    return {key: value for key, value in configuration.items() if not key.startswith("millpond.")}
