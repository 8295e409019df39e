"""USE and SHOW CURRENT SCHEMA: the session's current catalog and schema."""

import pyarrow as pa

from millpond.catalog.domain import SchemaName
from millpond.engine.commands.answer import nothing, texts
from millpond.engine.commands.context import CommandContext, missing_container
from millpond.engine.errors import AnalysisError, catalog_not_found, schema_not_found
from millpond.engine.syntax.model import ShowCurrentSchema, Use, UseCatalog, UseSchema
from millpond.kernel.errors import NotFound

DEFAULT_SCHEMA = "default"


def use_catalog(command: UseCatalog, context: CommandContext) -> pa.Table:
    """USE CATALOG c, SET CATALOG c: the schema becomes `default`."""
    try:
        catalog = context.catalog.get_catalog(context.principal, command.catalog)
    except NotFound as error:
        raise catalog_not_found(command.catalog) from error
    context.session.current_catalog = catalog.name
    context.session.current_schema = DEFAULT_SCHEMA
    return nothing()


def use_schema(command: UseSchema, context: CommandContext) -> pa.Table:
    name = context.schema_name(command.name)
    try:
        context.catalog.get_schema(context.principal, name)
    except NotFound as error:
        raise missing_container(context, name) from error
    _enter(context, name)
    return nothing()


def use(command: Use, context: CommandContext) -> pa.Table:
    """USE a.b is a schema; USE a is a schema of the current catalog if there is one, else a catalog."""
    if len(command.name) == 2:
        return use_schema(UseSchema(name=command.name), context)
    name = context.schema_name(command.name)
    try:
        context.catalog.get_schema(context.principal, name)
    except NotFound:
        try:
            return use_catalog(UseCatalog(catalog=command.name[0]), context)
        except AnalysisError as error:
            raise schema_not_found((name.catalog, name.schema)) from error
    _enter(context, name)
    return nothing()


def show_current_schema(command: ShowCurrentSchema, context: CommandContext) -> pa.Table:
    return texts(["catalog", "namespace"], [(context.session.current_catalog, context.session.current_schema)])


def _enter(context: CommandContext, name: SchemaName) -> None:
    context.session.current_catalog = name.catalog
    context.session.current_schema = name.schema
