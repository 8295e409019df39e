"""What to do with a plan: hand it to the engine, bound to places, or do it here.

`Planner.plan` decides without touching the engine; what it returns is carried out by `gateway.py` on its event loop.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from millpond.catalog.names import quote
from millpond.engine import pinning, proto, recording, wire
from millpond.engine.binding import Binder
from millpond.engine.blocking import BlocksLoop
from millpond.engine.catalog_calls import CatalogCalls
from millpond.engine.changes import Changer
from millpond.engine.commanding import Commands
from millpond.engine.dml import (
    CreateFunction,
    CreateTableAs,
    CreateView,
    DescribeQuery,
    Explain,
    Insert,
    Nothing,
    ResetSetting,
    SetSetting,
    parse_statement,
)
from millpond.engine.errors import AnalysisError, column_not_found, unsupported
from millpond.engine.history import text_in
from millpond.engine.making_functions import FunctionMaker
from millpond.engine.merging import merge_of
from millpond.engine.needs import Needs
from millpond.engine.queries import Query, analyse
from millpond.engine.sessions import Session, Sessions
from millpond.engine.sql_commands import sql_input, with_query
from millpond.engine.statements import parse_command
from millpond.engine.streaming import plans
from millpond.engine.streaming.queries import StreamingQueries
from millpond.engine.streaming.reads import BindStream, as_table, refuse_stream
from millpond.engine.streaming.requests import stream_write_of
from millpond.engine.syntax.model import (
    DescribeDetail,
    DescribeFunction,
    DescribeHistory,
    DescribeObject,
    DescribeTable,
    Drop,
    Show,
    ShowAcross,
    ShowColumns,
    ShowCreateTable,
    ShowCurrentSchema,
    ShowDropped,
    ShowGrants,
    ShowPartitions,
    ShowTableProperties,
    Use,
    UseCatalog,
    UseSchema,
)
from millpond.engine.upstream import Upstream
from millpond.engine.views import Views
from millpond.engine.world import World
from millpond.engine.write_requests import write_of_v1, write_of_v2
from millpond.engine.writes import Writer
from millpond.journal import calls

T = TypeVar("T")
Responses = list[Any]
_INLINE_BYTES = 16_384


@dataclass(frozen=True, kw_only=True)
class Forward:
    """The engine answers; its responses go to the client as they are."""

    plan: Any
    needs: Needs
    after: Callable[[list[Any]], None] | None = None
    """Told the parsed responses when all went well; only for commands with small answers."""


@dataclass(frozen=True, kw_only=True)
class Local:
    """The gateway answers, perhaps with the engine's help. `run` gets the operation's id and returns the responses."""

    run: Callable[[str], Awaitable[Responses]]
    waits: bool = False
    """Whether it changes nothing and only waits, so that it may end when nobody listens any more."""


_LOOKS = (
    Use, UseCatalog, UseSchema, Show, ShowAcross, ShowColumns, ShowCreateTable, ShowCurrentSchema, ShowDropped,
    ShowGrants, ShowPartitions, ShowTableProperties, DescribeDetail, DescribeFunction, DescribeHistory, DescribeObject,
    DescribeTable,
)  # fmt: skip
"""Commands that change nothing outside of the session."""
_CHANGES = (CreateFunction, CreateTableAs, CreateView, Insert)
_UNSUPPORTED_COMMANDS = {
    "streaming_query_listener_bus_command": "Streaming listeners",
    "register_data_source": "User-defined data sources",
    "create_resource_profile_command": "Resource profiles",
    "ml_command": "Spark ML over Spark Connect",
    "execute_external_command": "External commands",
    "pipeline_command": "Declarative pipelines",
    "extension": "Command extensions",
}


@dataclass
class _Call:
    """One plan of one session on its way."""

    session: Session
    needs: Needs = field(default_factory=Needs)


class Planner:
    """Decides about plans. Thread-safe: it keeps nothing of a call."""

    def __init__(
        self,
        shared: World,
        sessions: Sessions,
        upstream: Upstream,
        commands: Commands,
        storage_options: Mapping[str, str],
        streams: StreamingQueries,
    ) -> None:
        catalog = shared.catalog
        self._world = shared
        self._sessions = sessions
        self._upstream = upstream
        self._commands = commands
        self._catalog_calls = CatalogCalls(shared, sessions, upstream, commands)
        self._writer = Writer(catalog, upstream, storage_options)
        self._changer = Changer(catalog, upstream, storage_options)
        self._views = Views(catalog, sessions, upstream)
        self._functions = FunctionMaker(catalog, upstream)
        self._streams = streams
        self._storage_options = storage_options

    def plan(self, session: Session, plan: Any) -> Forward | Local:
        """What to do with a plan. Raises MillpondError for all that is refused."""
        refuse_unknown_fields(plan)
        kind = plan.WhichOneof("op_type")
        call = _Call(session)
        if kind == "root":
            return self._query(call, plan)
        if kind == "command":
            return self._command(call, plan)
        raise AnalysisError(
            "CONNECT_INVALID_PLAN.CANNOT_PARSE",
            "Compressed or unknown kinds of plans cannot be read by this server.",
            sql_state="56K00",
        )

    def binder(
        self, session: Session, needs: Needs, streams: BindStream = refuse_stream, *, absolute: bool = False
    ) -> Binder:
        """A binder for one call of a session."""
        return Binder(
            principal=session.principal,
            world=self._world,
            session=session,
            global_views=self._sessions.global_views(session.principal),
            needs=needs,
            absolute=absolute,
            streams=streams,
        )

    def bind(self, session: Session, message: Any, streams: BindStream = refuse_stream) -> Needs:
        """Bind a plan or relation in place; what the engine must reach for it."""
        refuse_unknown_fields(message)
        needs = Needs()
        self.binder(session, needs, streams).bind(message)
        return needs

    def is_streaming(self, session: Session, relation: Any) -> bool:
        """Whether a relation reads a stream, perhaps through a temporary view."""
        absolute = proto.relations.Relation()
        absolute.CopyFrom(relation)
        self.binder(session, Needs(), absolute=True).bind(absolute)
        return plans.is_streaming(absolute)

    def _bound(self, call: _Call, relation: Any) -> Any:
        self.binder(call.session, call.needs).bind(relation)
        return relation

    # -- queries ------------------------------------------------------------------------------------------------

    def _query(self, call: _Call, plan: Any) -> Forward | Local:
        if plan.root.WhichOneof("rel_type") == "catalog":
            calls.described(f"catalog.{plan.root.catalog.WhichOneof('cat_type')}")
            return Local(run=lambda operation: self._catalog_calls.answer(call.session, operation, plan.root.catalog))
        calls.described("query")
        self._bound(call, plan.root)
        return Forward(plan=plan, needs=call.needs)

    # -- commands -----------------------------------------------------------------------------------------------

    def _command(self, call: _Call, plan: Any) -> Forward | Local:
        command = plan.command
        kind = command.WhichOneof("command_type")
        calls.described(kind or "")
        if kind in {"write_operation", "write_operation_v2", "merge_into_table_command"}:
            pinning.refuse_writing(call.session.client, "Writing a table")
        if kind == "sql_command":
            return self._sql(call, command.sql_command)
        if kind == "write_operation":
            return self._write_v1(call, command.write_operation)
        if kind == "write_operation_v2":
            write = write_of_v2(command.write_operation_v2)
            self._bound(call, write.relation)
            return self._done(lambda: self._writer.write(call.session, write, call.needs, "writeTo"))
        if kind == "merge_into_table_command":
            return self._merge(call, command.merge_into_table_command)
        if kind == "create_dataframe_view":
            return self._dataframe_view(call, command.create_dataframe_view)
        if kind in {"register_function", "register_table_function"}:
            return self._register(call, plan, kind)
        if kind == "checkpoint_command":
            self._bound(call, command.checkpoint_command.relation)
            made = command.checkpoint_command.relation.SerializeToString()
            after = partial(_note_checkpoints, call.session, call.needs, made)
            return Forward(plan=plan, needs=call.needs, after=after)
        if kind == "remove_cached_remote_relation_command":
            relation_id = command.remove_cached_remote_relation_command.relation.relation_id
            call.session.remote_relations.pop(relation_id, None)
            return Forward(plan=plan, needs=call.needs)
        if kind in {"write_stream_operation_start", "streaming_query_command", "streaming_query_manager_command"}:
            return self._stream(call, kind, getattr(command, kind))
        if kind == "get_resources_command":
            return Local(run=lambda operation: _resources(call.session, operation))
        raise unsupported(f"{_UNSUPPORTED_COMMANDS.get(kind or '', f'Commands of kind {kind}')} is not supported.")

    def _done(self, work: Callable[[], Awaitable[None]]) -> Local:
        """Work whose only answer is that it is done."""

        async def run(operation: str) -> Responses:
            await work()
            return [wire.completed("", operation)]

        return Local(run=run)

    def _write_v1(self, call: _Call, operation: Any) -> Local:
        write = write_of_v1(operation)
        self._bound(call, write.relation)
        return self._done(lambda: self._writer.write(call.session, write, call.needs, "write"))

    def _dataframe_view(self, call: _Call, command: Any) -> Local:
        absolute = proto.relations.Relation()
        absolute.CopyFrom(command.input)
        self.binder(call.session, Needs(), absolute=True).bind(absolute)
        self.binder(call.session, call.needs, as_table).bind(command.input)
        bound = command.input
        return self._done(
            lambda: self._views.store_temporary(
                call.session,
                command.name,
                bound,
                absolute,
                call.needs,
                replace=command.replace,
                is_global=command.is_global,
            )
        )

    def _stream(self, call: _Call, kind: str, command: Any) -> Local:
        """Start a streaming query, or ask one that runs."""
        session, tools = call.session, self._stream_tools
        if kind == "write_stream_operation_start":
            pinning.refuse_writing(session.client, "Starting a stream")
            write = stream_write_of(command)
            self.binder(session, call.needs, absolute=True).bind(write.relation)
            plans.check_streamable(write.relation)
            return Local(run=lambda operation: self._streams.start(session, operation, write, tools()))
        calls.described(kind, silent=True)
        if kind == "streaming_query_command":
            return Local(run=lambda operation: self._streams.command(session, operation, command, tools()), waits=True)
        return Local(run=lambda operation: self._streams.manage(session, operation, command), waits=True)

    def _stream_tools(self) -> Any:
        from millpond.engine.streaming.sinks import Tools  # loads delta-rs, which most sessions never need

        return Tools(
            catalog=self._world.catalog,
            upstream=self._upstream,
            writer=self._writer,
            changer=self._changer,
            commands=self._commands,
            binder=self.binder,
            storage_options=self._storage_options,
        )

    def _register(self, call: _Call, plan: Any, kind: str) -> Forward:
        function = getattr(plan.command, kind)
        self.binder(call.session, call.needs).bind(function)
        name = function.function_name.lower()
        stored = plan.command.SerializeToString()

        def after(_found: list[Any]) -> None:
            call.session.functions[f"{kind}:{name}"] = stored
            if kind == "register_table_function":
                call.session.table_functions.add(name)

        return Forward(plan=plan, needs=call.needs, after=after)

    # -- SQL ----------------------------------------------------------------------------------------------------

    def _sql(self, call: _Call, command: Any) -> Forward | Local:
        source = sql_input(command)
        root = source.with_relations.root if source.WhichOneof("rel_type") == "with_relations" else source
        if root.WhichOneof("rel_type") != "sql":
            raise unsupported("A SQL command must hold SQL text.")
        text = root.sql.query
        known = parse_command(text)
        if known is not None:
            calls.described(type(known).__name__)
            if isinstance(known, Drop) and self._views.is_temporary(call.session, known):
                return self._result(lambda: self._views.drop_temporary(call.session, known))
            if isinstance(known, DescribeTable | ShowColumns) and self._views.is_temporary_name(
                call.session, known.table.name
            ):
                return self._describe_temporary(call, known)
            if not isinstance(known, _LOOKS):
                pinning.refuse_writing(call.session.client, type(known).__name__)
            return self._result(lambda: self._commands.run(call.session, known))
        statement = parse_statement(text)
        if statement is not None:
            calls.described(type(statement).__name__)
            if isinstance(statement, _CHANGES) and not getattr(statement, "temporary", False):
                pinning.refuse_writing(call.session.client, type(statement).__name__)
            return self._statement(call, source, statement)
        query = analyse(text)
        calls.described(query.kind, silent=query.kind == "query")  # a query is told when it is run
        if query.kind == "query":
            return self._lazy(call, source)
        pinning.refuse_writing(call.session.client, query.kind.upper())
        return self._change(call, source, query)

    def _describe_temporary(self, call: _Call, command: DescribeTable | ShowColumns) -> Local:
        """DESCRIBE and SHOW COLUMNS of a temporary view: the engine knows its columns, and nobody else."""
        relation = proto.relations.Relation()
        relation.read.named_table.unparsed_identifier = ".".join(map(quote, command.table.name))
        bound = self._bound(call, relation)

        async def describe() -> Any:
            as_json = isinstance(command, DescribeTable) and command.as_json
            found = await self._commands.describe_query(call.session, bound, call.needs, as_json=as_json)
            if isinstance(command, ShowColumns):
                return found.select(["col_name"])
            if command.column is None:
                return found
            names = [str(name).lower() for name in found.column("col_name").to_pylist()]
            if command.column[0].lower() not in names:
                raise column_not_found(command.column[0], tuple(names))
            row = found.slice(names.index(command.column[0].lower()), 1).to_pylist()[0]
            pairs = [(key, "NULL" if value is None else value) for key, value in row.items()]
            return wire.string_table(["info_name", "info_value"], pairs)

        return self._result(describe)

    def _lazy(self, call: _Call, source: Any) -> Local:
        """A query runs when its result is asked for; until then the client keeps it, its names made absolute."""
        before = text_in(source)
        self.binder(call.session, Needs(), absolute=True).bind(source)
        call.session.remember_text(text_in(source), before)

        async def run(operation: str) -> Responses:
            return wire.command_responses(call.session.id, operation, source)

        return Local(run=run)

    def _result(self, work: Callable[[], Awaitable[Any]]) -> Local:
        """Work that answers with a pyarrow table."""

        async def run(operation: str) -> Responses:
            return wire.command_responses("", operation, wire.local_relation(await work()))

        return Local(run=run)

    def _change(self, call: _Call, source: Any, query: Query) -> Local:
        """UPDATE, DELETE, MERGE: the target by path in the text, all else bound as in a query."""
        return self._result(
            lambda: self._changer.change(call.session, source, query, self.binder(call.session, call.needs))
        )

    def _merge(self, call: _Call, command: Any) -> Local:
        """DataFrame.mergeInto, as MERGE: its expressions are checked as any, and again as part of the statement."""
        checker = self.binder(call.session, Needs(), absolute=True)
        actions = (*command.match_actions, *command.not_matched_actions, *command.not_matched_by_source_actions)
        for expression in (command.merge_condition, *actions):
            checker.bind(expression)
        merge = merge_of(command)
        query = analyse(merge.text)

        return self._done(
            lambda: self._changer.merge(call.session, merge, query, self.binder(call.session, call.needs))
        )

    def _statement(self, call: _Call, source: Any, statement: Any) -> Forward | Local:
        if isinstance(statement, SetSetting | ResetSetting):
            return self._result(lambda: self._commands.settings(call.session, statement))
        if isinstance(statement, Nothing):
            if statement.name:
                self._views.require_relation(self.binder(call.session, Needs()), statement.name)
            return self._result(_empty)
        if isinstance(statement, CreateFunction):
            binder = self.binder(call.session, call.needs)
            return self._result(lambda: self._functions.create(call.session, statement, binder))
        relation = with_query(source, statement.query)
        if isinstance(statement, CreateView):
            return self._create_view(call, statement, relation)
        if analyse(statement.query).kind != "query" and not isinstance(statement, Explain):
            raise unsupported("Only a query can stand inside this statement.")
        bound = self._bound(call, relation)
        if isinstance(statement, Explain):
            return self._result(lambda: self._commands.explain(call.session, statement.mode, bound, call.needs))
        if isinstance(statement, DescribeQuery):
            return self._result(lambda: self._commands.describe_query(call.session, bound, call.needs))
        if isinstance(statement, Insert):
            return self._result(lambda: self._writer.insert(call.session, statement, bound, call.needs))
        if isinstance(statement, CreateTableAs):
            return self._result(lambda: self._writer.create_as(call.session, statement, bound, call.needs))
        raise unsupported(f"Statements of kind {type(statement).__name__}.")

    def _create_view(self, call: _Call, statement: CreateView, relation: Any) -> Local:
        absolute = proto.relations.Relation()
        absolute.CopyFrom(relation)
        self.binder(call.session, Needs(), absolute=True).bind(absolute)
        uses_temporary = _uses_temporary(self.binder(call.session, Needs()), analyse(statement.query))
        bound = self._bound(call, relation)
        return self._result(
            lambda: self._views.create(
                call.session, statement, bound, absolute, call.needs, uses_temporary=uses_temporary
            )
        )


async def planned(threads: Executor, size_bytes: int, work: Callable[..., T], session: Session, message: Any) -> T:
    """The result of binding a message in place: for a small one here, as the hop to a thread costs as much.

    It happens on a thread if the message is large, or turns out to read or name what has to be waited for.
    """
    if size_bytes <= _INLINE_BYTES:
        before = message.SerializeToString()
        try:
            return work(session, message)
        except BlocksLoop:
            message.ParseFromString(before)
    return await asyncio.get_running_loop().run_in_executor(threads, recording.within_call(work), session, message)


def refuse_unknown_fields(message: Any) -> None:
    """Refuse what a newer client says and this gateway would not see."""
    before = message.ByteSize()
    message.DiscardUnknownFields()
    if message.ByteSize() != before:
        raise unsupported("The plan has protobuf fields that this gateway does not know; use PySpark 4.1 or 4.2.")


def _uses_temporary(binder: Binder, query: Query) -> str | None:
    for site in query.tables:
        if binder.finds_temp_view(site.parts):
            return ".".join(site.parts)
    return None


def _note_checkpoints(session: Session, needs: Needs, made: bytes, responses: list[Any]) -> None:
    for response in responses:
        if response.HasField("checkpoint_command_result"):
            relation_id = response.checkpoint_command_result.relation.relation_id
            checkpoints = {**needs.checkpoints, relation_id: made}
            session.remote_relations[relation_id] = replace(needs, checkpoints=checkpoints)


async def _resources(session: Session, operation: str) -> Responses:
    result = proto.base.ExecutePlanResponse(session_id=session.id)
    result.get_resources_command_result.SetInParent()
    return [
        wire.execute_response(session.id, operation, get_resources_command_result=result.get_resources_command_result),
        wire.completed(session.id, operation),
    ]


async def _empty() -> Any:
    return wire.string_table([], [])
