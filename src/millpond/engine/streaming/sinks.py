"""Where a query's batches go: rows are added to a table, or merged into it by its primary key.

Each batch is in the table once. One that is added carries its number in the commit, as Delta's transactions do; one
that is merged carries it in the note of its MERGE, and to merge the same rows again would change nothing.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from millpond.catalog.domain import ObjectName, Table, TableType
from millpond.catalog.names import quote
from millpond.catalog.service import CatalogService
from millpond.engine import proto
from millpond.engine.blocking import on_thread
from millpond.engine.changes import Changer
from millpond.engine.commanding import Commands
from millpond.engine.delta.describe import has_commit
from millpond.engine.delta.table import Once, Storage, open_table
from millpond.engine.errors import AnalysisError, ExecutionError, SparkError, table_not_found, unsupported
from millpond.engine.guarded import require_manager
from millpond.engine.merging import reading
from millpond.engine.needs import Needs
from millpond.engine.queries import analyse
from millpond.engine.sessions import Session
from millpond.engine.streaming.reads import BindStream
from millpond.engine.streaming.requests import MERGE_FORMAT
from millpond.engine.upstream import Upstream
from millpond.engine.write_requests import Write
from millpond.engine.writes import Writer
from millpond.identity.access import Act, require

if TYPE_CHECKING:
    from millpond.engine.binding import Binder

_ROWS = "__millpond_rows"
_ATTEMPTS = 5
MakeBinder = Callable[[Session, Needs, BindStream], "Binder"]


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What sinks carry out batches with."""

    catalog: CatalogService
    upstream: Upstream
    writer: Writer
    changer: Changer
    commands: Commands
    binder: MakeBinder
    storage_options: Mapping[str, str]

    def storage(self, location: str) -> Storage:
        """Where a table is, and how to reach it."""
        return Storage(url=location, options=self.storage_options if location.startswith("s3") else {})


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One batch on its way to a sink."""

    session: Session
    query_id: str
    number: int
    plan: Any
    """The query's relation, to be copied and bound."""
    reads: BindStream


class Sink(Protocol):
    """Takes batches."""

    one_commit: bool
    """Whether a batch may hold rows of one commit only of each source."""
    description: str

    async def has(self, batch: Batch) -> bool:
        """Whether a batch that may have run before is in the table."""

    async def put(self, batch: Batch) -> None:
        """Carry a batch out."""


class AppendSink:
    """Adds rows to a table."""

    one_commit = False

    def __init__(self, tools: Tools, table: Table, options: Mapping[str, str]) -> None:
        self._tools = tools
        self._name = table.name
        self._options = options
        self.description = f"DeltaSink[{table.name}]"

    async def has(self, batch: Batch) -> bool:
        """See `Sink`."""
        return await on_thread(self._has, batch)

    def _has(self, batch: Batch) -> bool:
        table = self._tools.catalog.get_table(batch.session.principal, self._name)
        return _once(batch).is_in(open_table(self._tools.storage(table.storage_location)))

    async def put(self, batch: Batch) -> None:
        """See `Sink`."""
        await _retried(lambda: self._put(batch))

    async def _put(self, batch: Batch) -> None:
        needs, relation = Needs(), _copy(batch.plan)
        binder = self._tools.binder(batch.session, needs, batch.reads)
        await on_thread(binder.bind, relation)
        write = Write(
            relation=relation,
            name=tuple(_parts(self._name)),
            mode="append",
            must_exist=True,
            options=self._options,
            once=_once(batch),
        )
        await self._tools.writer.write(batch.session, write, needs, "STREAMING UPDATE")


class MergeSink:
    """Replaces the rows of the same primary key, and adds the others.

    A batch has the rows of one commit: so of two rows for a key the one that was committed later stays, and where a
    batch ends makes no difference.
    """

    one_commit = True

    def __init__(self, tools: Tools, table: Table, columns: Sequence[str]) -> None:
        key = table.primary_key
        if key is None:
            raise unsupported(f"{MERGE_FORMAT} into {table.name}, which has no primary key: give it one.")
        missing = [name for name in key.columns if name.lower() not in {column.lower() for column in columns}]
        if missing:
            raise AnalysisError(
                "UNRESOLVED_COLUMN.WITHOUT_SUGGESTION",
                f"The stream lacks the columns {', '.join(map(quote, missing))} of the primary key of {table.name}.",
                sql_state="42703",
            )
        self._tools = tools
        self._name = table.name
        self._keys = tuple(key.columns)
        self._text = merge_text(table.name, self._keys, columns)
        self.description = f"MergeSink[{table.name}]"

    async def has(self, batch: Batch) -> bool:
        """See `Sink`."""
        return await on_thread(self._has, batch)

    def _has(self, batch: Batch) -> bool:
        table = self._tools.catalog.get_table(batch.session.principal, self._name)
        return has_commit(self._tools.storage(table.storage_location), _mark(batch))

    async def put(self, batch: Batch) -> None:
        """See `Sink`. Raises ExecutionError for two rows of one key, or one without."""
        await self._refuse_twins(batch)
        binder = self._tools.binder(batch.session, Needs(), batch.reads)
        merge = reading(batch.plan, _ROWS, self._text)
        await self._tools.changer.change(batch.session, merge, analyse(self._text), binder, commit=_mark(batch))

    async def _refuse_twins(self, batch: Batch) -> None:
        needs, relation = Needs(), reading(batch.plan, _ROWS, twins_text(self._keys))
        await on_thread(self._tools.binder(batch.session, needs, batch.reads).bind, relation)
        found = await self._tools.upstream.rows(batch.session, relation, needs)
        if not found:
            return
        key = {name: found[0][name] for name in self._keys}
        what = "a row has no" if None in key.values() else f"{found[0]['__rows']} rows have the"
        raise ExecutionError(
            "DELTA_MULTIPLE_SOURCE_ROW_MATCHING_TARGET_ROW_IN_MERGE",
            f"In the rows for {self._name} that came with one commit {what} primary key {key}; each key may be there "
            "once. Begin anew where that is so, with startingVersion, or let the key have a time column.",
            sql_state="21506",
        )


def merge_text(name: ObjectName, keys: Sequence[str], columns: Sequence[str]) -> str:
    """The MERGE of rows into a table by its key."""
    same = " AND ".join(f"t.{quote(key)} = s.{quote(key)}" for key in keys)
    lowered = {key.lower() for key in keys}
    features = [column for column in columns if column.lower() not in lowered]
    sets = ", ".join(f"t.{quote(column)} = s.{quote(column)}" for column in features)
    matched = f"WHEN MATCHED THEN UPDATE SET {sets} " if features else ""
    listed, values = ", ".join(map(quote, columns)), ", ".join(f"s.{quote(column)}" for column in columns)
    return (
        f"MERGE INTO {name.quoted} AS t USING {_ROWS} AS s ON {same} {matched}"  # noqa: S608 - quoted names
        f"WHEN NOT MATCHED THEN INSERT ({listed}) VALUES ({values})"
    )


def twins_text(keys: Sequence[str]) -> str:
    """The query for a key that more than one row has, or none."""
    listed = ", ".join(map(quote, keys))
    empty = " OR ".join(f"{quote(key)} IS NULL" for key in keys)
    return (
        f"SELECT {listed}, count(*) AS __rows FROM {_ROWS} GROUP BY {listed} "  # noqa: S608 - quoted names
        f"HAVING count(*) > 1 OR {empty} LIMIT 1"
    )


def writable(catalog: CatalogService, session: Session, name: ObjectName, *, merges: bool) -> Table | None:
    """The table that a stream goes to; None when there is none yet. Raises what a write would. Blocks."""
    table = catalog.find_table(session.principal, name)
    if table is None:
        if merges:
            raise table_not_found(tuple(_parts(name)))
        return None
    require(session.principal, Act.WRITE, table.securable)
    if table.table_type is TableType.VIEW or table.data_source_format != "DELTA":
        raise unsupported(f"A stream into {table.name}, which is no Delta table.")
    if merges:
        require_manager(catalog, session.principal, table, "MERGE")
    return table


def _copy(plan: Any) -> Any:
    relation = proto.relations.Relation()
    relation.CopyFrom(plan)
    return relation


def _once(batch: Batch) -> Once:
    return Once(application=batch.query_id, version=batch.number)


def _mark(batch: Batch) -> str:
    return f"{batch.query_id}-{batch.number}"


def _parts(name: ObjectName) -> tuple[str, str, str]:
    return (name.catalog, name.schema, name.name)


async def _retried(work: Callable[[], Awaitable[None]]) -> None:
    """Start again where another writer was faster."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            await work()
            return
        except SparkError as error:
            if error.error_class != "DELTA_CONCURRENT_WRITE" or attempt == _ATTEMPTS:
                raise
        await asyncio.sleep(random.uniform(0, 0.05 * 2**attempt))  # noqa: S311 - spreads retries
