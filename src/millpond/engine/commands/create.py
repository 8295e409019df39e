"""CREATE TABLE without a query, CREATE TABLE LIKE, clones and CONVERT TO DELTA.

A table is staged in the catalog, written, and only then registered: a crash in between leaves nothing that is visible.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import pyarrow as pa

from millpond.catalog.domain import NO_GUARDS, GuardRefs, StagedTable, Table, TableConstraint, TableType
from millpond.engine.commands import guards
from millpond.engine.commands.alter import declare_key, key_of
from millpond.engine.commands.answer import LONG, nothing, table
from millpond.engine.commands.context import (
    CommandContext,
    Target,
    delta_target,
    find_table,
    missing_container,
    record,
    refuse_view,
    shown_properties,
)
from millpond.engine.delta import create as delta
from millpond.engine.delta.alter import CLUSTERING
from millpond.engine.delta.maintain import version_at
from millpond.engine.delta.table import fields, file_sizes, open_table, partition_columns, refuse_unknown_features
from millpond.engine.errors import AnalysisError, table_exists, table_not_found, unsupported
from millpond.engine.lineage import capture
from millpond.engine.sources import check_options
from millpond.engine.syntax.model import CloneTable, ConvertToDelta, CreateTable, Name
from millpond.engine.types import Field, columns_of, field_of, fields_of
from millpond.identity.access import Act, require
from millpond.kernel.errors import AlreadyExists, NotFound

_FILE_FORMATS = frozenset({"parquet", "csv", "json", "orc", "avro", "text"})


def create_table(command: CreateTable, context: CommandContext) -> pa.Table:
    using = (command.using or "delta").lower()
    existing = _existing(context, command.name)
    if existing is not None and command.if_not_exists:
        return nothing()
    if existing is not None and not command.or_replace:
        raise table_exists(_full(existing))
    if using != "delta":
        return _register_files(context, command, using)
    new = _like(context, command) if command.like is not None else delta.plan_table(command)
    if existing is not None:
        return _replace(context, command, existing, new)
    guarded = guards.of_new_table(context, command, new.fields)
    full = context.object_name(command.name)
    keys = [key_of(context, full, each) for each in command.constraints if each.kind != "CHECK"]
    _in_place(context, command.name, command.location, lambda staged: _write(context, staged, new), guarded, keys)
    return nothing()


def _existing(context: CommandContext, name: Name) -> Table | None:
    try:
        return find_table(context, name)
    except AnalysisError as error:
        if error.error_class != "TABLE_OR_VIEW_NOT_FOUND":
            raise
        return None


def _full(found: Table) -> Name:
    return (found.name.catalog, found.name.schema, found.name.name)


def _in_place(
    context: CommandContext,
    name: Name,
    location: str | None,
    write: Callable[[StagedTable], None],
    guarded: GuardRefs = NO_GUARDS,
    keys: Sequence[TableConstraint] = (),
) -> Table:
    """Stage, write, register; on any failure the staged place is given up."""
    full = context.object_name(name)
    try:
        staged = context.catalog.stage_table(context.principal, full, location)
    except AlreadyExists as error:
        raise table_exists(name) from error
    except NotFound as error:
        raise missing_container(context, full.schema_name) from error
    try:
        write(staged)
        return _register(context, staged, guarded, keys)
    except AlreadyExists as error:
        context.catalog.abandon_table(context.principal, staged)
        raise table_exists(name) from error
    except BaseException:
        context.catalog.abandon_table(context.principal, staged)
        raise


def _register(
    context: CommandContext, staged: StagedTable, guarded: GuardRefs, keys: Sequence[TableConstraint]
) -> Table:
    opened = open_table(context.storage(staged.storage_location))
    metadata = opened.metadata()
    return context.catalog.register_table(
        context.principal,
        staged,
        columns_of(fields(opened), partition_columns(opened)),
        TableType.MANAGED if staged.managed else TableType.EXTERNAL,
        "DELTA",
        comment=metadata.description or None,
        properties=shown_properties(metadata.configuration),
        guards=guarded,
        constraints=keys,
    )


def _write(context: CommandContext, staged: StagedTable, new: delta.NewTable) -> None:
    """Version 0 at the staged place; an external place may hold a table of the same columns already."""
    storage = context.storage(staged.storage_location)
    if not staged.managed and delta.exists(storage):
        opened = open_table(storage)
        refuse_unknown_features(opened, staged.storage_location)
        if new.fields and _shape(fields(opened)) != _shape(new.fields):
            raise AnalysisError(
                "DELTA_CREATE_TABLE_SCHEME_MISMATCH",
                f"The specified schema does not match the existing schema at {staged.storage_location}. Leave out the "
                "columns to take those that are there.",
                sql_state="42KD7",
            )
        return
    if not new.fields:
        raise AnalysisError(
            "DELTA_SCHEMA_NOT_PROVIDED",
            "Table schema is not provided. Please provide the schema (column definition) of the table.",
            sql_state="42908",
        )
    delta.create(storage, context.author, new)


def _shape(columns: Iterable[Field]) -> list[tuple[str, object]]:
    return [(one["name"].lower(), one["type"]) for one in columns]


def _replace(context: CommandContext, command: CreateTable, existing: Table, new: delta.NewTable) -> pa.Table:
    """CREATE OR REPLACE: the next version of the table that is there; its history stays."""
    refuse_view(existing, "CREATE OR REPLACE TABLE")
    if command.row_filter is not None or any(spec.mask for spec in command.columns):
        raise unsupported(f"A row filter or mask in replacing {existing.name}, which keeps its own; ALTER it then.")
    names = {field["name"] for field in new.fields}
    gone = [column.name for column in existing.columns if column.name not in names]
    guards.refuse_guarded_columns(existing, gone, "take away")
    for act in (Act.ALTER, Act.MANAGE):
        require(context.principal, act, existing.securable)
    if existing.data_source_format != "DELTA" or command.location not in (None, existing.storage_location):
        raise unsupported(f"CREATE OR REPLACE with another location or format; drop {existing.name} first.")
    if not new.fields:
        raise AnalysisError("DELTA_SCHEMA_NOT_PROVIDED", "Table schema is not provided.", sql_state="42908")
    storage = context.storage(existing.storage_location)
    delta.create(storage, context.author, new, replace=True)
    for constraint in existing.constraints:
        context.catalog.drop_constraint(context.principal, existing.name, constraint.name)
    context.catalog.update_table(context.principal, existing.name, comment=command.comment or "")
    record(context, Target(storage=storage, shown=str(existing.name), table=existing))
    for declared in command.constraints:
        if declared.kind != "CHECK":
            declare_key(context, find_table(context, command.name), declared)
    return nothing()


def _like(context: CommandContext, command: CreateTable) -> delta.NewTable:
    """CREATE TABLE LIKE: the columns and partitions of another table, and the properties given here."""
    if command.like is None:
        raise ValueError("not a CREATE TABLE LIKE")
    if command.like.path is None:
        source = find_table(context, command.like.name)
        if source.data_source_format != "DELTA":
            raise unsupported(f"CREATE TABLE LIKE {source.name}, which is no Delta table.")
    target = delta_target(context, command.like, Act.SEE, operation="CREATE TABLE LIKE")
    copied = delta.state_to_copy(open_table(target.storage), {})
    kept = {key: value for key, value in copied.configuration.items() if key.startswith("delta.constraints.")}
    asked = delta.plan_table(command)
    version = {"delta.minWriterVersion": "3"} if kept else {}
    clustering = {key: value for key, value in copied.configuration.items() if key == CLUSTERING}
    return delta.NewTable(
        fields=copied.fields,
        partition_columns=copied.partition_columns,
        configuration={**kept, **version, **clustering, **asked.configuration},
        description=command.comment,
    )


# -- files that are no Delta table --------------------------------------------------------------------------------


def _register_files(context: CommandContext, command: CreateTable, using: str) -> pa.Table:
    """CREATE TABLE ... USING parquet, csv, ... LOCATION: a name for files that are there; nothing is written."""
    if using not in _FILE_FORMATS:
        raise AnalysisError(
            "DATA_SOURCE_NOT_FOUND",
            f"Failed to find the data source: {command.using}. Tables are delta, or {', '.join(sorted(_FILE_FORMATS))} "
            "with a LOCATION.",
            sql_state="42K02",
        )
    if command.location is None:
        raise unsupported(f"A managed table is always Delta; give a LOCATION for a table USING {using}.")
    if command.or_replace:
        raise unsupported("CREATE OR REPLACE TABLE of files that are no Delta table; drop it and create it.")
    check_options(command.options)
    options = {f"option.{key}": value for key, value in command.options.items()}
    name = context.object_name(command.name)
    columns = columns_of([field_of(spec) for spec in command.columns], command.partitioned_by)
    try:
        staged = context.catalog.stage_table(context.principal, name, command.location)
        context.catalog.register_table(
            context.principal,
            staged,
            columns,
            TableType.EXTERNAL,
            using.upper(),
            comment=command.comment,
            properties={**command.properties, **options},
            guards=guards.of_new_table(context, command, fields_of(columns)),
        )
    except AlreadyExists as error:
        raise table_exists(command.name) from error
    except NotFound as error:
        raise missing_container(context, name.schema_name) from error
    return nothing()


# -- clones and conversions ---------------------------------------------------------------------------------------

_CLONED = (
    "source_table_size",
    "source_num_of_files",
    "num_removed_files",
    "num_copied_files",
    "removed_files_size",
    "copied_files_size",
)


def clone_table(command: CloneTable, context: CommandContext) -> pa.Table:
    """DEEP CLONE: a table of its own with the rows, columns and properties of the source at a moment."""
    if command.shallow:
        raise unsupported("SHALLOW CLONE: two tables would share files. Use DEEP CLONE.")
    source = delta_target(context, command.source, Act.READ, operation="CLONE", tells_of_all_rows=True)
    existing = _existing(context, command.name)
    if existing is not None and command.if_not_exists:
        return nothing()
    if existing is not None and command.or_replace:
        raise unsupported(f"CREATE OR REPLACE TABLE ... CLONE; drop {existing.name} first.")
    if existing is not None:
        raise table_exists(_full(existing))
    opened = open_table(source.storage)
    if command.as_of is not None:
        version = version_at(opened, command.as_of, time_zone=context.time_zone)
        opened = open_table(source.storage, version=version)
    refuse_unknown_features(opened, source.shown)
    new = delta.state_to_copy(opened, command.properties)
    counted: dict[str, int] = {}

    def write(staged: StagedTable) -> None:
        made = delta.clone(opened, context.storage(staged.storage_location), context.author, new)
        counted.update(_counts(file_sizes(opened), file_sizes(made)))

    made = _in_place(context, command.name, command.location, write)
    entity = context.session.setting(capture.ENTITY_SETTING)
    capture.copied(context.principal, entity, "DEEP CLONE", source.table or source.storage.url, made)
    return table([(name, LONG) for name in _CLONED], [[counted[name] for name in _CLONED]])


def _counts(source: Mapping[str, int], copied: Mapping[str, int]) -> dict[str, int]:
    return {
        "source_table_size": sum(source.values()),
        "source_num_of_files": len(source),
        "num_removed_files": 0,
        "num_copied_files": len(copied),
        "removed_files_size": 0,
        "copied_files_size": sum(copied.values()),
    }


def convert_to_delta(command: ConvertToDelta, context: CommandContext) -> pa.Table:
    """CONVERT TO DELTA parquet.`path`; a table that has a name is Delta already, or has files of another format."""
    name = command.source.name
    if len(name) == 2 and name[0].lower() == "parquet":
        location = context.catalog.check_path(context.principal, name[1], write=True)
        delta.convert(context.storage(location), context.author, command.partitioned_by)
        return nothing()
    if name:
        found = _existing(context, name)
        if found is None:
            raise table_not_found(name)
        if found.data_source_format == "DELTA":
            return nothing()
        raise unsupported(
            f"CONVERT TO DELTA of table {found.name}: convert its files by path (parquet.`...`), then create a Delta "
            "table over them."
        )
    raise unsupported("CONVERT TO DELTA converts parquet.`path`.")
