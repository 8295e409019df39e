"""Writes to tables and files: find the target, fit the data, let the engine write, and let the catalog know."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from millpond.catalog.domain import ObjectName, StagedTable, Table, TableType
from millpond.catalog.names import quote, text_literal
from millpond.catalog.service import CatalogService
from millpond.engine import proto, shaping, sources, wire
from millpond.engine.authorship import USER_METADATA_SETTING, Author, Note, metadata_of
from millpond.engine.dml import CreateTableAs, Insert
from millpond.engine.errors import (
    AnalysisError,
    SparkError,
    schema_not_found,
    table_exists,
    table_not_found,
    unsupported,
)
from millpond.engine.guarded import require_manager
from millpond.engine.handover import Target, handed_over
from millpond.engine.lineage import capture
from millpond.engine.merge_writes import merged_into
from millpond.engine.needs import Needs
from millpond.engine.queries import require_plain
from millpond.engine.sessions import Session
from millpond.engine.statistics import Statistics, with_statistics
from millpond.engine.upstream import Upstream
from millpond.engine.write_requests import Write
from millpond.identity.access import Act, require
from millpond.identity.domain import Principal
from millpond.kernel.errors import AlreadyExists, NotFound

_MAX_DYNAMIC_PARTITIONS = 1000
_SAVE_APPEND, _SAVE_OVERWRITE, _SAVE_ERROR = 1, 2, 3


class Writer:
    """Carries out writes for sessions."""

    def __init__(self, catalog: CatalogService, upstream: Upstream, storage_options: Mapping[str, str]) -> None:
        self._catalog = catalog
        self._upstream = upstream
        self._storage_options = storage_options
        self._statistics = Statistics(storage_options)

    # -- statements ---------------------------------------------------------------------------------------------

    async def insert(self, session: Session, statement: Insert, relation: Any, needs: Needs) -> Any:
        """INSERT INTO or OVERWRITE."""
        options: dict[str, str] = {}
        mode = "overwrite" if statement.overwrite else "append"
        dynamic = [name for name, value in statement.partition.items() if value is None]
        constants = {name: value for name, value in statement.partition.items() if value is not None}
        if statement.replace_where is not None:
            options["replaceWhere"] = statement.replace_where
        elif statement.overwrite and dynamic:
            mode = "overwrite_partitions"
        elif statement.overwrite and constants:
            options["replaceWhere"] = " AND ".join(f"{quote(name)} = {value}" for name, value in constants.items())
        elif (
            statement.overwrite
            and (session.setting("spark.sql.sources.partitionOverwriteMode") or "").lower() == "dynamic"
        ):
            mode = "overwrite_partitions"
        if statement.with_schema_evolution:
            options["mergeSchema"] = "true"
        write = Write(
            relation=relation,
            name=statement.name,
            mode=mode,
            must_exist=True,
            by_position=not statement.by_name,
            columns=statement.columns,
            constants=constants,
            options=options,
        )
        operation = "INSERT OVERWRITE" if statement.overwrite else "INSERT"
        await self.write(session, write, needs, operation)
        return wire.string_table([], [])

    async def create_as(self, session: Session, statement: CreateTableAs, relation: Any, needs: Needs) -> Any:
        """CREATE or REPLACE TABLE AS."""
        mode = "ignore" if statement.if_not_exists else "create"
        if statement.or_replace:
            mode = "replace" if statement.must_exist else "create_or_replace"
        sources.check_options(statement.options)
        options = {**statement.options, **({"overwriteSchema": "true"} if statement.or_replace else {})}
        write = Write(
            relation=relation,
            name=statement.name,
            path=statement.location,
            mode=mode,
            must_exist=statement.must_exist,
            provider=statement.using or "",
            partitioned_by=statement.partitioned_by,
            options=options,
            properties=statement.properties,
            comment=statement.comment,
        )
        await self.write(session, write, needs, "CREATE TABLE AS")
        return wire.string_table(["num_affected_rows", "num_inserted_rows"], [])

    # -- writes -------------------------------------------------------------------------------------------------

    async def write(self, session: Session, write: Write, needs: Needs, operation: str) -> None:
        """Carry out a write; when this returns, it is there for everybody, and noted what it was made of."""
        target = await self._written(session, write, needs)
        capture.wrote(
            session,
            operation,
            write.relation,
            needs,
            target=target,
            columns=write.columns,
            constants=tuple(write.constants),
            by_position=write.by_position,
        )

    async def _written(self, session: Session, write: Write, needs: Needs) -> Table | str | None:
        """The table or location that was written to; None where there was nothing to do."""
        for text in (write.option("replaceWhere"), *write.constants.values()):
            if text is not None:
                require_plain(text)
        if write.name and not (len(write.name) == 2 and sources.is_path_format(write.name[0])):
            return await self._write_table(session, write, needs)
        if write.name:
            write = replace(write, path=write.name[1], provider=write.name[0], name=())
        return await self._write_path(session, write, needs)

    async def _write_path(self, session: Session, write: Write, needs: Needs) -> str:
        provider = sources.check_format(write.provider)
        location = await asyncio.to_thread(
            sources.reach, self._catalog, session.principal, str(write.path), needs, write=True
        )
        if provider != "delta":
            await self._run(session, write, write.relation, location, _mode_of(write.mode), provider, needs)
        else:
            await self._write_delta(session, write, location, str(write.path), needs)
        return location

    async def _write_table(self, session: Session, write: Write, needs: Needs) -> Table | None:
        name = self._object_name(session, write.name)
        table = await asyncio.to_thread(self._catalog.find_table, session.principal, name)
        if table is None:
            if write.must_exist:
                raise table_not_found(write.name)
            return await self._create(session, write, name, needs)
        if write.mode in {"error", "create"}:
            raise table_exists((name.catalog, name.schema, name.name))
        if write.mode == "ignore":
            return None
        require(session.principal, Act.WRITE, table.securable)
        if table.table_type is TableType.VIEW:
            raise not_changeable(write.name, "write", "a view")
        apart = await asyncio.to_thread(_is_written_apart, self._catalog, session.principal, write, table)
        if not apart:
            needs.write(table.storage_location, str(name))
        if write.merge is not None:
            fields = await self._fields(session, write, needs)
            into = await asyncio.to_thread(merged_into, self._catalog, session.principal, write, table, fields)
            into = replace(into, storage_options=self._storage_options)
            await handed_over(self._upstream, session, write.relation, needs, into)
        elif table.data_source_format == "DELTA":
            changed = await self._write_delta(
                session, write, table.storage_location, str(name), needs, guarded=table, apart=apart
            )
            if changed:
                await asyncio.to_thread(follow_log, self._catalog, session.principal, table, self._storage_options)
        else:
            provider = sources.check_format(table.data_source_format)
            relation = await self._fit_other(session, write, table, needs)
            await self._run(session, write, relation, table.storage_location, _mode_of(write.mode), provider, needs)
        return table

    async def _fit_other(self, session: Session, write: Write, table: Table, needs: Needs) -> Any:
        from millpond.engine.types import fields_of

        schema = await self._fields(session, write, needs)
        return shaping.fitted(write.relation, _fit(write, schema, fields_of(table.columns), str(table.name)))

    async def _fields(self, session: Session, write: Write, needs: Needs) -> list[Any]:
        """The columns of the rows to be written, as the engine knows them."""
        fields = shaping.fields_of_schema(await self._upstream.schema(session, write.relation, needs))
        needs.made = tuple(field["name"] for field in fields)
        return fields

    async def _write_delta(
        self,
        session: Session,
        write: Write,
        location: str,
        shown: str,
        needs: Needs,
        *,
        guarded: Table | None = None,
        apart: bool = False,
    ) -> bool:
        """Write to a Delta table that exists, or a path; whether its columns may have changed.

        `apart` when the user's engine must not touch the files: then it computes the rows and delta-rs writes them.
        """
        existing = await asyncio.to_thread(delta_schema, location, self._storage_options)
        schema = await self._fields(session, write, needs)
        if existing is None:
            if write.mode == "append" and write.must_exist:
                raise table_not_found((shown,))
            relation = shaping.fitted(write.relation, shaping.fit_new(schema))
            save_mode = _SAVE_ERROR if write.mode != "append" else _SAVE_APPEND
            await self._run(session, with_statistics(write, schema), relation, location, save_mode, "delta", needs)
            return True
        if write.mode in {"error", "create"}:
            raise AnalysisError(
                "DELTA_PATH_EXISTS", f"Cannot write to {shown}: a Delta table already exists there.", sql_state="42K04"
            )
        if write.mode == "ignore":
            return False
        fields, partitions = existing
        if (
            write.partitioned_by
            and [c.lower() for c in write.partitioned_by] != [c.lower() for c in partitions]
            and not _true(write.option("overwriteSchema"))
        ):
            raise AnalysisError(
                "DELTA_METADATA_MISMATCH",
                f"Partition columns do not match the partition columns of the table {shown}. Given: "
                f"{', '.join(map(quote, write.partitioned_by))}. Table: {', '.join(map(quote, partitions))}.",
                sql_state="42KDG",
            )
        if _overwrites_schema(write):
            await asyncio.to_thread(_refuse_guarded, self._catalog, guarded, fields, schema)
            await asyncio.to_thread(self._statistics.of_new_columns, session, location, schema, write.partitioned_by)
            relation = shaping.fitted(write.relation, shaping.fit_new(schema))
            await self._run(session, write, relation, location, _SAVE_OVERWRITE, "delta", needs)
            await asyncio.to_thread(self._keep_order, session, location, schema)
            return True
        write = _with_merge_setting(write, session)
        fit = _fit(write, schema, fields, shown)
        relation = shaping.fitted(write.relation, fit)
        where = write.option("replaceWhere")
        if where is not None:
            relation = shaping.only_where(relation, where)
        elif _is_dynamic(write, session):
            condition = await self._dynamic_condition(session, relation, partitions, needs, shown)
            write = replace(write, options={**_without(write.options, "partitionOverwriteMode"), **condition})
        if fit is not None and fit.adds_columns:
            every = shaping.merged(fields, schema)
            await asyncio.to_thread(self._statistics.of_new_columns, session, location, every, partitions)
        write = replace(write, partitioned_by=())
        mode = _mode_of(write.mode)
        overwrites = mode == _SAVE_OVERWRITE
        into = Target(location, fields, overwrites, write.options, self._storage_options, always=apart, once=write.once)
        if not await handed_over(self._upstream, session, relation, needs, into):
            await self._run(session, write, relation, location, mode, "delta", needs)
        return fit is not None and fit.adds_columns

    async def _dynamic_condition(
        self, session: Session, relation: Any, partitions: Sequence[str], needs: Needs, shown: str
    ) -> dict[str, str]:
        """The engine takes no dynamic partition overwrite: say which partitions, by asking the data first."""
        if not partitions:
            return {}
        wanted = proto.relations.Relation()
        wanted.limit.limit = _MAX_DYNAMIC_PARTITIONS + 1
        distinct = wanted.limit.input.deduplicate
        distinct.all_columns_as_keys = True
        for name in partitions:
            alias = distinct.input.project.expressions.add().alias
            alias.name.append(name)
            alias.expr.expression_string.expression = f"CAST({quote(name)} AS STRING)"
        distinct.input.project.input.CopyFrom(relation)
        rows = await self._upstream.rows(session, wanted, needs)
        if len(rows) > _MAX_DYNAMIC_PARTITIONS:
            raise unsupported(
                f"A dynamic overwrite of more than {_MAX_DYNAMIC_PARTITIONS} partitions of {shown}; use replaceWhere."
            )
        return {"replaceWhere": " OR ".join(_same_partition(row) for row in rows) or "FALSE"}

    async def _create(self, session: Session, write: Write, name: ObjectName, needs: Needs) -> Table:
        if write.once is not None or write.merge is not None:
            raise table_not_found(write.name)
        provider = sources.check_format(write.provider)
        staged = await asyncio.to_thread(self._stage, session, name, write.path)
        try:
            needs.write(staged.storage_location, str(name))
            fields = await self._fields(session, write, needs)
            if write.by_position:
                raise table_not_found(write.name)
            relation, run = write.relation, write
            if provider == "delta":
                relation, run = shaping.fitted(relation, shaping.fit_new(fields)), with_statistics(write, fields)
            await self._run(session, run, relation, staged.storage_location, _SAVE_ERROR, provider, needs)
            return await asyncio.to_thread(self._register, session, staged, write, provider, fields)
        except BaseException:
            await asyncio.to_thread(self._catalog.abandon_table, session.principal, staged)
            raise

    def _stage(self, session: Session, name: ObjectName, location: str | None) -> StagedTable:
        try:
            return self._catalog.stage_table(session.principal, name, location)
        except NotFound as error:
            raise schema_not_found((name.catalog, name.schema)) from error
        except AlreadyExists as error:
            raise table_exists((name.catalog, name.schema, name.name)) from error

    def _register(self, session: Session, staged: StagedTable, write: Write, provider: str, fields: list[Any]) -> Table:
        from millpond.engine.types import columns_of

        partitions: Sequence[str] = write.partitioned_by
        if provider == "delta":
            if partitions:
                self._keep_order(session, staged.storage_location, fields)
            found = delta_schema(staged.storage_location, self._storage_options)
            if found is None:
                raise AnalysisError(
                    "DELTA_TABLE_NOT_FOUND", f"The engine wrote no Delta table for {staged.name}.", sql_state="42P01"
                )
            fields, partitions = found
            self._set_properties(session, staged.storage_location, write)
        options = {f"option.{key}": value for key, value in write.options.items()} if provider != "delta" else {}
        try:
            return self._catalog.register_table(
                session.principal,
                staged,
                columns_of(fields, list(partitions)),
                TableType.MANAGED if staged.managed else TableType.EXTERNAL,
                data_source_format=provider.upper(),
                comment=write.comment,
                properties={**write.properties, **options},
            )
        except AlreadyExists as error:
            raise table_exists((staged.name.catalog, staged.name.schema, staged.name.name)) from error

    def _keep_order(self, session: Session, location: str, fields: Sequence[Any]) -> None:
        from millpond.engine.column_order import keep_order

        author = Author.of(session.principal)
        keep_order(location, self._storage_options, author, [field["name"] for field in fields])

    def _set_properties(self, session: Session, location: str, write: Write) -> None:
        if not write.properties:
            return
        from millpond.engine.delta.alter import set_properties
        from millpond.engine.delta.table import Storage

        storage = Storage(url=location, options=self._storage_options)
        set_properties(storage, Author.of(session.principal), write.properties)

    async def _run(
        self, session: Session, write: Write, relation: Any, location: str, mode: int, provider: str, needs: Needs
    ) -> None:
        command = proto.commands.Command()
        operation = command.write_operation
        operation.input.CopyFrom(relation)
        operation.source = provider
        operation.path = location
        operation.mode = mode
        operation.partitioning_columns.extend(write.partitioned_by)
        again = mode != _SAVE_ERROR
        if provider != "delta":
            operation.options.update(write.options)
            await self._upstream.run_retrying(session, proto.base.Plan(command=command), needs, again=again)
            return
        metadata = metadata_of(write.options, session.setting(USER_METADATA_SETTING))
        note = Note(author=Author.of(session.principal), user_metadata=metadata)
        operation.options.update(note.as_option(write.options))
        landed = partial(has_landed, location, self._storage_options, note)
        plan = proto.base.Plan(command=command)
        await self._upstream.run_retrying(session, plan, needs, again=again, landed=landed)

    def _object_name(self, session: Session, parts: tuple[str, ...]) -> ObjectName:
        if len(parts) > 3:
            raise table_not_found(parts)
        home = (session.current_catalog, session.current_schema)
        return ObjectName(*(*home[: 3 - len(parts)], *parts))


def _is_written_apart(catalog: CatalogService, principal: Principal, write: Write, table: Table) -> bool:
    """Whether a table's row filter, masks or policies keep its files from the user's engine.

    Raises INSUFFICIENT_PERMISSIONS for what would tell of hidden rows.
    """
    if catalog.may_hold_files(principal, table):
        return False
    if table.data_source_format != "DELTA" or _overwrites_schema(write) or write.option("replaceWhere") is not None:
        require_manager(catalog, principal, table, "A write that replaces chosen rows or the columns")
    return True


def _refuse_guarded(catalog: CatalogService, table: Table | None, fields: Sequence[Any], schema: Sequence[Any]) -> None:
    if table is None or not (table.guards or table.policed):
        return
    from millpond.engine.commands.guards import refuse_guarded_columns, refuse_tagged_columns

    names = {field["name"] for field in schema}
    gone = [field["name"] for field in fields if field["name"] not in names]
    refuse_guarded_columns(table, gone, "take away")
    refuse_tagged_columns(catalog, table, gone, "take away")


def has_landed(location: str, storage_options: Mapping[str, str], note: Note) -> bool:
    """Whether a commit with the note is in the table's log, which an engine's error does not rule out."""
    from millpond.engine.delta.describe import has_commit
    from millpond.engine.delta.table import Storage

    options = storage_options if location.startswith("s3") else {}
    return has_commit(Storage(url=location, options=options), note.commit)


def _fit(write: Write, schema: list[Any], fields: list[Any], shown: str) -> shaping.Fit | None:
    if write.by_position:
        return shaping.fit_by_position(schema, fields, columns=write.columns, constants=write.constants, where=shown)
    return shaping.fit_by_name(schema, fields, merge_schema=_true(write.option("mergeSchema")), where=shown)


def _with_merge_setting(write: Write, session: Session) -> Write:
    if write.option("mergeSchema") is None and _true(
        session.setting("spark.databricks.delta.schema.autoMerge.enabled")
    ):
        return replace(write, options={**write.options, "mergeSchema": "true"})
    return write


def _overwrites_schema(write: Write) -> bool:
    return write.mode in {"overwrite", "replace", "create_or_replace"} and _true(write.option("overwriteSchema"))


def _is_dynamic(write: Write, session: Session) -> bool:
    if write.mode == "overwrite_partitions":
        return True
    mode = (
        write.option("partitionOverwriteMode")
        or session.setting("spark.sql.sources.partitionOverwriteMode")
        or "static"
    )
    return write.mode == "overwrite" and mode.lower() == "dynamic" and write.option("replaceWhere") is None


def _same_partition(row: Mapping[str, Any]) -> str:
    parts = []
    for name, value in row.items():
        text = "IS NULL" if value is None else f"= {text_literal(str(value))}"
        parts.append(f"{quote(name)} {text}")
    return "(" + " AND ".join(parts) + ")"


def _without(options: Mapping[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in options.items() if key.lower() != name.lower()}


def _true(value: str | None) -> bool:
    return value is not None and value.lower() == "true"


def _mode_of(mode: str) -> int:
    if mode == "append":
        return _SAVE_APPEND
    return 4 if mode == "ignore" else _SAVE_ERROR if mode in {"error", "create"} else _SAVE_OVERWRITE


def delta_schema(location: str, options: Mapping[str, str]) -> tuple[list[Any], list[str]] | None:
    """Fields and partition columns of the Delta table at a place; None when there is none."""
    from millpond.engine.delta.table import Storage, fields, open_table, partition_columns

    try:
        table = open_table(Storage(url=location, options=options if location.startswith("s3") else {}))
    except SparkError as error:
        if "NOT_FOUND" in error.error_class or "MISSING" in error.error_class or "NOT_A_DELTA" in error.error_class:
            return None
        raise
    return fields(table), partition_columns(table)


def follow_log(catalog: CatalogService, principal: Principal, table: Table, options: Mapping[str, str]) -> None:
    """Let the catalog know the columns that a table's log has now."""
    from millpond.engine.types import columns_of

    def read(current: Table) -> Any:
        found = delta_schema(current.storage_location, options)
        return columns_of(*found) if found else current.columns

    catalog.refresh_table(principal, table, read)


def not_changeable(parts: tuple[str, ...], operation: str, what: str) -> AnalysisError:
    return AnalysisError(
        "UNSUPPORTED_FEATURE.TABLE_OPERATION",
        f"The feature is not supported: {operation.upper()} on {'.'.join(map(quote, parts))}, which is {what}.",
        sql_state="0A000",
    )
