"""`spark.catalog.*`: answered from the catalog and the session, never by the engine."""

import asyncio
import fnmatch
import re
from collections.abc import Callable, Sequence
from typing import Any

from millpond.catalog.domain import INFORMATION_SCHEMA, Function, Schema, SchemaName, Table, TableType
from millpond.catalog.names import split_name
from millpond.engine import wire
from millpond.engine.binding import Binder
from millpond.engine.commanding import Commands
from millpond.engine.errors import AnalysisError, catalog_not_found, schema_not_found, unsupported
from millpond.engine.needs import Needs
from millpond.engine.sessions import Session, Sessions
from millpond.engine.shaping import fields_of_schema
from millpond.engine.sql_functions import routine_not_found
from millpond.engine.syntax.model import (
    ColumnSpec,
    Command,
    CreateSchema,
    CreateTable,
    Drop,
    ShowCreateTable,
    ShowPartitions,
    ShowTableProperties,
    TableRef,
    TruncateTable,
)
from millpond.engine.upstream import Upstream
from millpond.engine.views import Views
from millpond.engine.world import World
from millpond.kernel.errors import InvalidArgument, NotFound
from millpond.kernel.paging import Page

_TABLE = ("name", "catalog", "namespace", "description", "tableType", "isTemporary")
_FUNCTION = ("name", "catalog", "namespace", "description", "className", "isTemporary")
_DATABASE = ("name", "catalog", "description", "locationUri")
_COLUMN = ("name", "description", "dataType", "nullable", "isPartition", "isBucket", "isCluster")
_NOTHING_TO_DO = frozenset({
    "cache_table", "uncache_table", "clear_cache", "refresh_table", "refresh_by_path", "recover_partitions",
    "analyze_table",
})  # fmt: skip


class CatalogCalls:
    """Answers the calls of `spark.catalog`."""

    def __init__(self, shared: World, sessions: Sessions, upstream: Upstream, commands: Commands) -> None:
        self._world = shared
        self._catalog = shared.catalog
        self._sessions = sessions
        self._commands = commands
        self._views = Views(shared.catalog, sessions, upstream)

    async def answer(self, session: Session, operation: str, call: Any) -> list[Any]:
        """The responses to one call."""
        table = await asyncio.to_thread(self._table, session, call)
        return wire.query_responses(session.id, operation, table)

    def _table(self, session: Session, call: Any) -> Any:
        kind = call.WhichOneof("cat_type")
        if kind in _NOTHING_TO_DO:
            return wire.string_table([], [])
        handler = _HANDLERS.get(kind)
        if handler is None:
            raise unsupported(f"spark.catalog's call {kind}.")
        return handler(self, session, getattr(call, kind))

    # -- session ------------------------------------------------------------------------------------------------

    def _current_catalog(self, session: Session, _call: Any) -> Any:
        return _one(session.current_catalog)

    def _set_current_catalog(self, session: Session, call: Any) -> Any:
        try:
            catalog = self._catalog.get_catalog(session.principal, call.catalog_name)
        except NotFound as error:
            raise catalog_not_found(call.catalog_name) from error
        session.current_catalog, session.current_schema = catalog.name, "default"
        return wire.string_table([], [])

    def _current_database(self, session: Session, _call: Any) -> Any:
        return _one(session.current_schema)

    def _set_current_database(self, session: Session, call: Any) -> Any:
        schema = self._schema(session, call.db_name)
        session.current_catalog, session.current_schema = schema.name.catalog, schema.name.schema
        return wire.string_table([], [])

    # -- catalogs and schemas -----------------------------------------------------------------------------------

    def _list_catalogs(self, session: Session, call: Any) -> Any:
        catalogs = _all(lambda token: self._catalog.list_catalogs(session.principal, page_token=token))
        return _rows(("name", "description"), [(c.name, c.comment) for c in catalogs if _like(c.name, call.pattern)])

    def _list_databases(self, session: Session, call: Any) -> Any:
        schemas = _all(
            lambda token: self._catalog.list_schemas(session.principal, session.current_catalog, page_token=token)
        )
        own = self._catalog.get_schema(session.principal, SchemaName(session.current_catalog, INFORMATION_SCHEMA))
        listed = sorted([*schemas, own], key=lambda schema: schema.name.schema)
        return _rows(_DATABASE, [_database(s) for s in listed if _like(s.name.schema, call.pattern)])

    def _get_database(self, session: Session, call: Any) -> Any:
        return _rows(_DATABASE, [_database(self._schema(session, call.db_name))])

    def _database_exists(self, session: Session, call: Any) -> Any:
        try:
            self._schema(session, call.db_name)
        except AnalysisError:
            return _one(False)
        return _one(True)

    def _schema(self, session: Session, name: str | None) -> Schema:
        parts = split_name(name) if name else (session.current_schema,)
        if len(parts) > 2:
            raise schema_not_found(parts)
        full = (*(session.current_catalog,)[: 2 - len(parts)], *parts)
        try:
            return self._catalog.get_schema(session.principal, SchemaName(*full))
        except (NotFound, InvalidArgument) as error:
            raise schema_not_found(full) from error

    # -- tables -------------------------------------------------------------------------------------------------

    def _list_tables(self, session: Session, call: Any) -> Any:
        schema = self._schema(session, call.db_name)
        tables = _all(lambda token: self._catalog.list_tables(session.principal, schema.name, page_token=token))
        rows = [_table_row(table) for table in tables if _like(table.name.name, call.pattern)]
        views: list[Any] = [
            (name, None, [], None, "TEMPORARY", True)
            for name in sorted(session.temp_views)
            if _like(name, call.pattern)
        ]
        return _rows(_TABLE, [*rows, *views])

    def _list_views(self, session: Session, call: Any) -> Any:
        rows = self._list_tables(session, call).to_pylist()
        return _rows(_TABLE, [tuple(row.values()) for row in rows if row["tableType"] in {"VIEW", "TEMPORARY"}])

    def _get_table(self, session: Session, call: Any) -> Any:
        parts = _table_parts(call)
        binder = self._binder(session)
        if binder.finds_temp_view(parts):
            return _rows(_TABLE, [(parts[-1], None, [], None, "TEMPORARY", True)])
        return _rows(_TABLE, [_table_row(binder.table(parts))])

    def _table_exists(self, session: Session, call: Any) -> Any:
        parts = _table_parts(call)
        binder = self._binder(session)
        try:
            return _one(binder.finds_temp_view(parts) or bool(binder.table(parts)))
        except AnalysisError:
            return _one(False)

    def _list_columns(self, session: Session, call: Any) -> Any:
        table = self._binder(session).table(_table_parts(call))
        rows = [
            (c.name, c.comment, c.type_text, c.nullable, c.partition_index is not None, False, False)
            for c in table.columns
        ]
        return _rows(_COLUMN, rows)

    def _binder(self, session: Session) -> Binder:
        return Binder(
            principal=session.principal,
            world=self._world,
            session=session,
            global_views=self._sessions.global_views(session.principal),
            needs=Needs(),
        )

    def _create_table(self, session: Session, call: Any) -> Any:
        if not call.HasField("schema"):
            raise unsupported("createTable without a schema.")
        specs = tuple(
            ColumnSpec(path=(field["name"],), type=field["type"], nullable=field["nullable"])
            for field in fields_of_schema(call.schema)
        )
        command = CreateTable(
            name=split_name(call.table_name),
            columns=specs,
            using=call.source or None,
            location=call.path or None,
            comment=getattr(call, "description", "") or None,
        )
        return self._run(session, command)

    def _drop_table(self, session: Session, call: Any) -> Any:
        return self._drop(session, "TABLE", call.table_name, call.if_exists)

    def _drop_view(self, session: Session, call: Any) -> Any:
        return self._drop(session, "VIEW", call.view_name, call.if_exists)

    def _drop(self, session: Session, kind: str, name: str, if_exists: bool) -> Any:
        parts = split_name(name)
        if self._views.drop(session, parts):
            return wire.string_table([], [])
        return self._run(session, Drop(kind=kind, name=parts, if_exists=if_exists))

    def _create_database(self, session: Session, call: Any) -> Any:
        command = CreateSchema(
            name=split_name(call.db_name), if_not_exists=call.if_not_exists, properties=dict(call.properties)
        )
        return self._run(session, command)

    def _drop_database(self, session: Session, call: Any) -> Any:
        command = Drop(kind="SCHEMA", name=split_name(call.db_name), if_exists=call.if_exists, cascade=call.cascade)
        return self._run(session, command)

    def _list_partitions(self, session: Session, call: Any) -> Any:
        shown = self._run(session, ShowPartitions(table=TableRef(name=split_name(call.table_name))))
        rows = ["/".join(f"{key}={value}" for key, value in row.items()) for row in shown.to_pylist()]
        return wire.string_table(["partition"], [(row,) for row in rows])

    def _table_properties(self, session: Session, call: Any) -> Any:
        return self._run(session, ShowTableProperties(table=TableRef(name=split_name(call.table_name))))

    def _create_table_string(self, session: Session, call: Any) -> Any:
        return self._run(session, ShowCreateTable(table=TableRef(name=split_name(call.table_name))))

    def _truncate_table(self, session: Session, call: Any) -> Any:
        return self._run(session, TruncateTable(table=TableRef(name=split_name(call.table_name))))

    def _run(self, session: Session, command: Command) -> Any:
        from millpond.engine.commands import execute

        return execute(command, self._commands.context(session))

    # -- views and functions ------------------------------------------------------------------------------------

    def _drop_temp_view(self, session: Session, call: Any) -> Any:
        return _one(self._views.drop(session, split_name(call.view_name)))

    def _drop_global_temp_view(self, session: Session, call: Any) -> Any:
        views = self._sessions.global_views(session.principal)
        return _one(views.pop(call.view_name.lower(), None) is not None)

    def _is_cached(self, _session: Session, _call: Any) -> Any:
        return _one(False)

    def _list_functions(self, session: Session, call: Any) -> Any:
        schema = self._schema(session, call.db_name) if call.db_name else None
        name = schema.name if schema else SchemaName(session.current_catalog, session.current_schema)
        kept = _all(lambda token: self._catalog.list_functions(session.principal, name, page_token=token))
        found = [*_functions(session), *map(_function_row, kept)]
        return _rows(_FUNCTION, [row for row in found if _like(row[0], call.pattern)])

    def _get_function(self, session: Session, call: Any) -> Any:
        found = self._find_function(session, call)
        if found is None:
            raise routine_not_found(split_name(call.function_name))
        return _rows(_FUNCTION, [found])

    def _function_exists(self, session: Session, call: Any) -> Any:
        return _one(self._find_function(session, call) is not None)

    def _find_function(self, session: Session, call: Any) -> tuple[Any, ...] | None:
        """The session's own function, or that of the catalog which the principal may see."""
        parts = split_name(call.function_name)
        own = next((row for row in _functions(session) if parts == (row[0],)), None)
        if own is not None:
            return own
        if call.db_name:
            parts = (*split_name(call.db_name), *parts)
        try:
            name = self._binder(session).object_name(parts)
            return _function_row(self._catalog.get_function(session.principal, name))
        except (AnalysisError, InvalidArgument, NotFound):
            return None


def _function_row(function: Function) -> tuple[Any, ...]:
    name = function.name
    return name.name, name.catalog, [name.schema], function.comment, "SQL", False


def _functions(session: Session) -> list[tuple[Any, ...]]:
    names = sorted(key.partition(":")[2] for key in session.functions)
    return [(name, None, None, None, "org.apache.spark.sql.UDFRegistration", True) for name in names]


def _table_parts(call: Any) -> tuple[str, ...]:
    parts = split_name(call.table_name)
    return (*split_name(call.db_name), *parts) if getattr(call, "db_name", "") else parts


def _table_row(table: Table) -> tuple[Any, ...]:
    kind = "VIEW" if table.table_type is TableType.VIEW else table.table_type.value
    return table.name.name, table.name.catalog, [table.name.schema], table.comment, kind, False


def _database(schema: Schema) -> tuple[Any, ...]:
    return schema.name.schema, schema.name.catalog, schema.comment, schema.storage_root


def _like(name: str, pattern: str | None) -> bool:
    """Spark's pattern: `*` for anything, `|` between alternatives, whatever the case."""
    if not pattern:
        return True
    return any(re.fullmatch(fnmatch.translate(part.strip().lower()), name.lower()) for part in pattern.split("|"))


def _all(fetch: Callable[[str | None], Page[Any]]) -> list[Any]:
    found: list[Any] = []
    token: str | None = None
    while True:
        page = fetch(token)
        found.extend(page.items)
        token = page.next_page_token
        if not token:
            return found


def _one(value: Any) -> Any:
    import pyarrow as pa

    return pa.table({"value": [value]})


def _rows(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    import pyarrow as pa

    kinds = {"namespace": pa.list_(pa.string())} | {
        name: pa.bool_() for name in ("isTemporary", "nullable", "isPartition", "isBucket", "isCluster")
    }
    arrays = [pa.array([row[at] for row in rows], kinds.get(name, pa.string())) for at, name in enumerate(names)]
    return pa.Table.from_arrays(arrays, names=list(names))


_HANDLERS: dict[str, Callable[[CatalogCalls, Session, Any], Any]] = {
    "current_catalog": CatalogCalls._current_catalog,
    "set_current_catalog": CatalogCalls._set_current_catalog,
    "list_catalogs": CatalogCalls._list_catalogs,
    "current_database": CatalogCalls._current_database,
    "set_current_database": CatalogCalls._set_current_database,
    "list_databases": CatalogCalls._list_databases,
    "get_database": CatalogCalls._get_database,
    "database_exists": CatalogCalls._database_exists,
    "list_tables": CatalogCalls._list_tables,
    "list_views": CatalogCalls._list_views,
    "get_table": CatalogCalls._get_table,
    "table_exists": CatalogCalls._table_exists,
    "list_columns": CatalogCalls._list_columns,
    "create_table": CatalogCalls._create_table,
    "create_external_table": CatalogCalls._create_table,
    "drop_table": CatalogCalls._drop_table,
    "drop_view": CatalogCalls._drop_view,
    "create_database": CatalogCalls._create_database,
    "drop_database": CatalogCalls._drop_database,
    "list_partitions": CatalogCalls._list_partitions,
    "get_table_properties": CatalogCalls._table_properties,
    "get_create_table_string": CatalogCalls._create_table_string,
    "truncate_table": CatalogCalls._truncate_table,
    "drop_temp_view": CatalogCalls._drop_temp_view,
    "drop_global_temp_view": CatalogCalls._drop_global_temp_view,
    "is_cached": CatalogCalls._is_cached,
    "list_functions": CatalogCalls._list_functions,
    "get_function": CatalogCalls._get_function,
    "function_exists": CatalogCalls._function_exists,
}
