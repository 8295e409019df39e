"""From a request to a query that can run: everything is checked that can be, so that what is wrong is said at once."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from millpond.catalog.domain import ObjectName, Table
from millpond.catalog.names import split_name
from millpond.engine import proto, shaping
from millpond.engine.binding import Binder
from millpond.engine.blocking import on_thread
from millpond.engine.errors import table_not_found
from millpond.engine.needs import Needs
from millpond.engine.sessions import Session
from millpond.engine.streaming import plans
from millpond.engine.streaming.checkpoint import Checkpoint, open_checkpoint
from millpond.engine.streaming.log import TableLog
from millpond.engine.streaming.query import Query
from millpond.engine.streaming.reads import as_table, streamable
from millpond.engine.streaming.requests import StreamWrite
from millpond.engine.streaming.sinks import AppendSink, MergeSink, Sink, Tools, writable
from millpond.engine.streaming.source import Source, read_options
from millpond.engine.write_requests import Write


async def prepared(tools: Tools, session: Session, write: StreamWrite) -> Query:
    """The query that a request asks for. `write.relation` has absolute names.

    Raises SparkError, PermissionDenied.
    """
    reads = plans.number_sources(write.relation)
    sources = [await on_thread(_source, tools, session, read) for read in reads]
    checkpoint = await on_thread(open_checkpoint, tools.catalog, session.principal, write.checkpoint)
    name = _target(session, write.table)
    target = await on_thread(writable, tools.catalog, session, name, merges=write.merges)
    sink = await _sink(tools, session, write, name, target)
    query_id = await on_thread(checkpoint.query_id)
    return _query(query_id, session, write, sources, sink, checkpoint)


async def explained(tools: Tools, session: Session, query: Query, mode: str) -> str:
    """The engine's plan of a query, as if it were of the whole tables; for who asks, as the query may have ended."""
    needs, relation = Needs(), proto.relations.Relation()
    relation.CopyFrom(query.plan)
    await on_thread(tools.binder(session, needs, as_table).bind, relation)
    found = await tools.commands.explain(session, mode, relation, needs)
    return str(found.column("plan")[0].as_py())


def _query(
    query_id: str, session: Session, write: StreamWrite, sources: Sequence[Source], sink: Sink, checkpoint: Checkpoint
) -> Query:
    return Query(
        id=query_id,
        name=write.name,
        session=_copied(session),
        user_session=session.id,
        plan=write.relation,
        sources=sources,
        sink=sink,
        trigger=write.trigger,
        checkpoint=checkpoint,
    )


def _source(tools: Tools, session: Session, read: Any) -> Source:
    named = read.named_table
    binder = tools.binder(session, Needs(), as_table)
    table = streamable(binder, split_name(named.unparsed_identifier))
    options = {key: value for key, value in named.options.items() if key != plans.SOURCE_OPTION}
    tree = tools.catalog.storages.tree(table.storage_location, shown=str(table.name))
    return Source(table, TableLog(tools.storage(table.storage_location), tree, str(table.name)), read_options(options))


async def _sink(tools: Tools, session: Session, write: StreamWrite, name: ObjectName, target: Table | None) -> Sink:
    needs, relation = Needs(), proto.relations.Relation()
    relation.CopyFrom(write.relation)
    binder: Binder = tools.binder(session, needs, as_table)
    await on_thread(binder.bind, relation)
    schema = await tools.upstream.schema(session, relation, needs)  # the engine understands the plan
    if target is None:
        target = await _created(tools, session, write, name, relation, needs)
    if not write.merges:
        return AppendSink(tools, target, write.options)
    return MergeSink(tools, target, [field["name"] for field in shaping.fields_of_schema(schema)])


async def _created(
    tools: Tools, session: Session, write: StreamWrite, name: ObjectName, relation: Any, needs: Needs
) -> Table:
    """An empty table of the query's columns."""
    nothing = proto.relations.Relation()
    nothing.limit.limit = 0
    nothing.limit.input.CopyFrom(relation)
    made = Write(
        relation=nothing,
        name=(name.catalog, name.schema, name.name),
        mode="ignore",
        partitioned_by=write.partitioned_by,
    )
    await tools.writer.write(session, made, needs, "writeStream")
    return await on_thread(tools.catalog.get_table, session.principal, name)


def _target(session: Session, parts: tuple[str, ...]) -> ObjectName:
    if len(parts) > 3:
        raise table_not_found(parts)
    home = (session.current_catalog, session.current_schema)
    return ObjectName(*(*home[: 3 - len(parts)], *parts))


def _copied(session: Session) -> Session:
    """A session of the query's own, with the settings and functions that its user's has now."""
    return Session(
        id=str(uuid4()),
        principal=session.principal,
        current_catalog=session.current_catalog,
        current_schema=session.current_schema,
        functions=dict(session.functions),
        table_functions=set(session.table_functions),
        settings=dict(session.settings),
        client=session.client,
    )
