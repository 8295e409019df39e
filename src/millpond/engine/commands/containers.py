"""CREATE, ALTER, DROP and COMMENT ON of catalogs, schemas, volumes and functions."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from millpond.catalog.domain import VolumeType
from millpond.engine.commands.answer import nothing
from millpond.engine.commands.context import CommandContext, missing_container
from millpond.engine.errors import (
    AnalysisError,
    catalog_not_found,
    quoted,
    schema_not_found,
    table_not_found,
    unsupported,
)
from millpond.engine.syntax.model import (
    AlterObject,
    CommentOn,
    CreateCatalog,
    CreateSchema,
    CreateVolume,
    Drop,
    Name,
)
from millpond.kernel.errors import AlreadyExists, FailedPrecondition, NotFound


def create_catalog(command: CreateCatalog, context: CommandContext) -> pa.Table:
    try:
        context.catalog.create_catalog(
            context.principal,
            name=command.catalog,
            comment=command.comment,
            properties=command.properties,
            storage_root=command.managed_location,
        )
    except AlreadyExists as error:
        if not command.if_not_exists:
            raise _exists("CATALOG", (command.catalog,), "42P06") from error
    return nothing()


def create_schema(command: CreateSchema, context: CommandContext) -> pa.Table:
    name = context.schema_name(command.name)
    try:
        context.catalog.create_schema(
            context.principal,
            catalog=name.catalog,
            name=name.schema,
            comment=command.comment,
            properties=command.properties,
            storage_root=command.managed_location,
        )
    except NotFound as error:
        raise catalog_not_found(name.catalog) from error
    except AlreadyExists as error:
        if not command.if_not_exists:
            raise _exists("SCHEMA", (name.catalog, name.schema), "42P06") from error
    return nothing()


def create_volume(command: CreateVolume, context: CommandContext) -> pa.Table:
    name = context.object_name(command.name)
    if command.location is not None and not command.external:
        raise AnalysisError(
            "INVALID_PARAMETER_VALUE", "A volume with LOCATION is an EXTERNAL VOLUME.", sql_state="22023"
        )
    try:
        context.catalog.create_volume(
            context.principal,
            name,
            volume_type=VolumeType.EXTERNAL if command.external else VolumeType.MANAGED,
            location=command.location,
            comment=command.comment,
        )
    except NotFound as error:
        raise missing_container(context, name.schema_name) from error
    except AlreadyExists as error:
        if not command.if_not_exists:
            raise _exists("VOLUME", (name.catalog, name.schema, name.name), "42000") from error
    return nothing()


def drop(command: Drop, context: CommandContext) -> pa.Table:
    """DROP CATALOG, SCHEMA, VOLUME or FUNCTION."""
    with known(command.kind, command.name, if_exists=command.if_exists):
        if command.kind == "CATALOG":
            context.catalog.delete_catalog(context.principal, command.name[0], force=command.cascade)
        elif command.kind == "SCHEMA":
            context.catalog.delete_schema(context.principal, context.schema_name(command.name), force=command.cascade)
        elif command.kind == "VOLUME":
            context.catalog.drop_volume(context.principal, context.object_name(command.name))
        else:
            context.catalog.drop_function(context.principal, context.object_name(command.name))
    return nothing()


def alter(command: AlterObject, context: CommandContext) -> pa.Table:
    with known(command.kind, command.name):
        if command.kind == "CATALOG":
            renamed = command.rename_to[0] if command.rename_to else None
            context.catalog.update_catalog(context.principal, command.name[0], new_name=renamed, owner=command.owner)
        elif command.kind == "SCHEMA":
            _alter_schema(command, context)
        elif command.kind == "VOLUME":
            _alter_volume(command, context)
        else:
            _give(command, context)
    return nothing()


def _give(command: AlterObject, context: CommandContext) -> None:
    """ALTER FUNCTION or MODEL ... OWNER TO."""
    name = context.object_name(command.name)
    if command.kind == "FUNCTION":
        context.catalog.update_function(context.principal, name, owner=command.owner)
        return
    with context.catalog.database.write() as connection:
        context.catalog.update_model_in(connection, context.principal, name, owner=command.owner)


def _alter_schema(command: AlterObject, context: CommandContext) -> None:
    name = context.schema_name(command.name)
    properties = None
    if command.set_properties is not None or command.unset_properties is not None:
        current = context.catalog.get_schema(context.principal, name).properties
        kept = {key: value for key, value in current.items() if key not in (command.unset_properties or ())}
        properties = {**kept, **(command.set_properties or {})}
    context.catalog.update_schema(context.principal, name, owner=command.owner, properties=properties)


def _alter_volume(command: AlterObject, context: CommandContext) -> None:
    name = context.object_name(command.name)
    new_name = None
    if command.rename_to is not None:
        target = context.object_name((name.catalog, name.schema, *command.rename_to)[-3:])
        if target.schema_name != name.schema_name:
            raise unsupported(f"A volume stays in its schema: {name} cannot become {target}.")
        new_name = target.name
    context.catalog.update_volume(context.principal, name, new_name=new_name, owner=command.owner)


def comment_on(command: CommentOn, context: CommandContext) -> pa.Table:
    """COMMENT ON CATALOG, SCHEMA, VOLUME or FUNCTION; NULL is the empty comment."""
    text = command.comment or ""
    with known(command.kind, command.name):
        if command.kind == "CATALOG":
            context.catalog.update_catalog(context.principal, command.name[0], comment=text)
        elif command.kind == "SCHEMA":
            context.catalog.update_schema(context.principal, context.schema_name(command.name), comment=text)
        elif command.kind == "VOLUME":
            context.catalog.update_volume(context.principal, context.object_name(command.name), comment=text)
        else:
            context.catalog.update_function(context.principal, context.object_name(command.name), comment=text)
    return nothing()


@contextmanager
def known(kind: str, name: Name, *, if_exists: bool = False) -> Iterator[None]:
    """Say NotFound and not-empty as Spark does; with `if_exists`, a missing object is no error."""
    try:
        yield
    except NotFound as error:
        if not if_exists:
            raise _missing(kind, name) from error
    except FailedPrecondition as error:
        if kind not in ("CATALOG", "SCHEMA") or "not empty" not in error.message:
            raise
        raise AnalysisError(
            f"{kind}_NOT_EMPTY",
            f"Cannot drop a {kind.lower()} {quoted(name)} because it contains objects. Use DROP {kind} ... CASCADE to "
            f"drop the {kind.lower()} and all its objects.",
            sql_state="2BP01",
            parameters={"schemaName": quoted(name)},
        ) from error


def _missing(kind: str, name: Name) -> AnalysisError:
    if kind == "CATALOG":
        return catalog_not_found(name[0])
    if kind == "SCHEMA":
        return schema_not_found(name)
    if kind == "TABLE":
        return table_not_found(name)
    error_class, state = {"FUNCTION": ("ROUTINE_NOT_FOUND", "42883")}.get(kind, (f"{kind}_NOT_FOUND", "42704"))
    return AnalysisError(error_class, f"The {kind.lower()} {quoted(name)} cannot be found.", sql_state=state)


def _exists(kind: str, name: Name, state: str) -> AnalysisError:
    return AnalysisError(
        f"{kind}_ALREADY_EXISTS",
        f"Cannot create {kind.lower()} {quoted(name)} because it already exists. Choose a different name, drop the "
        "existing object, or add the IF NOT EXISTS clause to tolerate pre-existing objects.",
        sql_state=state,
        parameters={f"{kind.lower()}Name": quoted(name)},
    )
