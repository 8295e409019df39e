"""One run of a streaming query: it drives batch after batch until there is no more to do, it is stopped or it fails."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import uuid4

from millpond.catalog.service import CatalogService
from millpond.engine import recording
from millpond.engine.blocking import on_thread
from millpond.engine.errors import ExecutionError, SparkError
from millpond.engine.sessions import Session
from millpond.engine.spools import Spools
from millpond.engine.streaming.added import AddedRows, remove_home
from millpond.engine.streaming.checkpoint import Checkpoint
from millpond.engine.streaming.offsets import Offset, parse_offset
from millpond.engine.streaming.progress import Done, Read, progress
from millpond.engine.streaming.reads import BatchReads
from millpond.engine.streaming.requests import Trigger, When
from millpond.engine.streaming.sinks import Batch, Sink
from millpond.engine.streaming.source import Source, Taken
from millpond.engine.wire import as_spark_error
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.errors import MillpondError, PermissionDenied
from millpond.kernel.ids import new_id
from millpond.kernel.logs import get_logger, mask_secrets

_POLL_S = 0.1
"""How often it is looked whether a table has a new commit, which costs one look into a directory."""
_POLL_REMOTE_S = 1.0
_KEPT_PROGRESS = 100
_log = get_logger(__name__)


class StreamFailed(ExecutionError):
    """A query that ended with an error."""

    java_class = "org.apache.spark.sql.streaming.StreamingQueryException"


@dataclass(frozen=True, kw_only=True)
class Query:
    """What a run is made of."""

    id: str
    """Of the checkpoint, and so of all its runs."""
    name: str | None
    session: Session
    """The query's own: what its user changes in theirs changes nothing here."""
    user_session: str
    plan: Any
    sources: Sequence[Source]
    sink: Sink
    trigger: Trigger
    checkpoint: Checkpoint


@dataclass(frozen=True, kw_only=True)
class Place:
    """What runs need of the gateway."""

    catalog: CatalogService
    spools: Spools
    find_principal: Callable[[str], Principal | None]


class Run:
    """One run. To be made and used on one event loop."""

    def __init__(self, query: Query, place: Place) -> None:
        self.query = query
        self.id = str(uuid4())
        self.failure: StreamFailed | None = None
        self.message = "Initializing sources"
        self.is_in_batch = False
        self.has_data = False
        self.progress: deque[str] = deque(maxlen=_KEPT_PROGRESS)
        self._place = place
        self._at: tuple[Offset, ...] = ()
        self._next_batch = 0
        self._looks = 0
        self._found_nothing = 0
        """The number of the last look for data that found none."""
        self._wanted = 0
        """The number of a look that somebody waits for."""
        self._changed = asyncio.Event()
        self._began = time.monotonic()
        self._task = asyncio.get_running_loop().create_task(self._run())

    # -- what others ask and want -------------------------------------------------------------------------------

    @property
    def is_active(self) -> bool:
        """Whether it has not ended."""
        return not self._task.done()

    async def ended(self) -> None:
        """Wait until it has ended, well or not."""
        await asyncio.wait({self._task})

    async def stop(self) -> None:
        """End it where it is; the batch under way, if it is not yet in the table, is run again another time."""
        self._task.cancel()
        await self.ended()

    async def all_available(self) -> None:
        """Wait until all is processed that is there now."""
        wanted = self._wanted = self._looks + 1
        while self.is_active and self._found_nothing < wanted:
            self._changed.clear()
            waiting = asyncio.create_task(self._changed.wait())
            await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()

    # -- the run ------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await self._drive()
            self.message = "Stopped"
        except asyncio.CancelledError:
            self.message = "Stopped"
        except Exception as error:  # the supervisor's boundary: it is told to whoever asks for the query
            self._fail(error)
        finally:
            self.is_in_batch = self.has_data = False
            await on_thread(remove_home, self._place.spools, self.query.session.principal, self.id)

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, MillpondError):
            reference = new_id()
            text = mask_secrets(repr(error))
            _log.error("streaming query failed", query=self.query.id, reference=reference, error=text, exc_info=error)
            error = ExecutionError("INTERNAL_ERROR", f"The gateway failed; its log says more under {reference}.")
        cause = as_spark_error(error)
        self.message = f"Terminated with exception: {cause.message}"
        self.failure = failed(self, cause)

    async def _drive(self) -> None:
        resumed = await self._resume()
        when = self.query.trigger.when
        if when is When.ONCE and not self.query.sink.one_commit:
            if not resumed:
                await self._step(limited=False)
            return
        until = None if when is When.AS_DATA_COMES else await on_thread(_newest, self.query.sources)
        while True:
            due = _due(self.query.trigger.interval_s)
            if not await self._step(until=until):
                if until is not None:
                    return
                await self._wait_for_data()
            await asyncio.sleep(max(0.0, due - time.time()))

    async def _resume(self) -> bool:
        """Find out where to go on, and finish the batch that was under way; whether there was one."""
        query = self.query
        self.message = "Getting offsets"
        firsts = [_first(source) for source in query.sources]
        position = await on_thread(query.checkpoint.position, firsts)
        self._at = self._parsed(position.start)
        self._next_batch = position.batch_id
        if position.end is None:
            return False
        ends = zip(query.sources, self._at, self._parsed(position.end), strict=True)
        taken = [await on_thread(source.between, start, end) for source, start, end in ends]
        await self._batch(taken, again=True)
        return True

    def _parsed(self, texts: Sequence[str]) -> tuple[Offset, ...]:
        sources = self.query.sources
        return tuple(parse_offset(text, each.shape.table_id) for text, each in zip(texts, sources, strict=True))

    async def _step(self, *, until: Sequence[int] | None = None, limited: bool = True) -> bool:
        """Run a batch if there is something for it; whether there was."""
        self._looks += 1
        look = self._looks
        taken = []
        for number, (source, start) in enumerate(zip(self.query.sources, self._at, strict=True)):
            last = None if until is None else until[number]
            one = self.query.sink.one_commit
            taken.append(await on_thread(source.take, start, until=last, limited=limited, one_commit=one))
        if not any(each.files for each in taken):
            self._at = tuple(each.end for each in taken)
            self._found_nothing = look
            self.has_data = False
            self.message = "Waiting for data to arrive"
            self._changed.set()
            return False
        self.has_data = True
        await on_thread(self.query.checkpoint.plan, self._next_batch, self._texts([each.end for each in taken]))
        await self._batch(taken)
        return True

    async def _wait_for_data(self) -> None:
        """Until a source has something new, or somebody wants to know that it has not."""
        sources = self.query.sources
        is_local = all(each.table.storage_location.startswith("file:") for each in sources)
        while self._found_nothing >= self._wanted and not await on_thread(_have_more, sources, self._at):
            await asyncio.sleep(_POLL_S if is_local else _POLL_REMOTE_S)

    # -- a batch ------------------------------------------------------------------------------------------------

    async def _batch(self, taken: Sequence[Taken], *, again: bool = False) -> None:
        """Carry out a batch that is in the checkpoint; `again` if that may have happened before."""
        query, began, start = self.query, utc_now(), time.monotonic()
        self.is_in_batch, self.message = True, "Processing new data"
        rows = await on_thread(self._added, taken)
        try:
            await self._put(rows, again=again)
            written = time.monotonic()
            await on_thread(query.checkpoint.commit, self._next_batch)
            self._tell(taken, await on_thread(_counts, rows), began, start, written)
        finally:
            self.is_in_batch = False
            for each in rows:
                await on_thread(each.remove)
        self._at = tuple(each.end for each in taken)
        self._next_batch += 1

    def _added(self, taken: Sequence[Taken]) -> list[AddedRows]:
        query = self.query
        return [
            AddedRows(source, each, self._place.spools, query.session.principal, self.id)
            for source, each in zip(query.sources, taken, strict=True)
        ]

    async def _put(self, rows: Sequence[AddedRows], *, again: bool) -> None:
        session = self.query.session
        session.principal = await on_thread(self._principal)
        batch = Batch(
            session=session,
            query_id=self.query.id,
            number=self._next_batch,
            plan=self.query.plan,
            reads=BatchReads(rows),
        )
        with recording.batch(session.principal, self.query.user_session, session.client, self.query.id):
            await on_thread(self._place.catalog.check_path, session.principal, self.query.checkpoint.shown, write=True)
            if not (again and await self.query.sink.has(batch)):
                await self.query.sink.put(batch)

    def _principal(self) -> Principal:
        """Whose query it is, with the rights of now. Raises PermissionDenied for who is not active any more."""
        known = self.query.session.principal
        found = self._place.find_principal(known.name)
        if found is None or found.id != known.id:
            raise PermissionDenied(f"{known.name}, whose streaming query this is, is not active any more.")
        return replace(found, paths=known.paths)

    def _texts(self, offsets: Sequence[Offset]) -> list[str]:
        sources = self.query.sources
        return [offset.to_json(each.shape.table_id) for offset, each in zip(offsets, sources, strict=True)]

    def _tell(
        self, taken: Sequence[Taken], counts: Sequence[int], began: datetime, start: float, written: float
    ) -> None:
        now = time.monotonic()
        starts, ends = self._texts([each.start for each in taken]), self._texts([each.end for each in taken])
        names = [f"DeltaSource[{each.table.name}]" for each in self.query.sources]
        parts = zip(names, starts, ends, counts, strict=True)
        reads = [Read(description=name, start=one, end=other, rows=count) for name, one, other, count in parts]
        done = Done(
            query_id=self.query.id,
            run_id=self.id,
            name=self.query.name,
            batch_id=self._next_batch,
            began=began,
            idle_s=start - self._began,
            took_s=now - start,
            durations_s={"addBatch": written - start, "commitOffsets": now - written, "triggerExecution": now - start},
            reads=reads,
            sink=self.query.sink.description,
        )
        self._began = start
        self.progress.append(progress(done))


def failed(run: Run, cause: SparkError) -> StreamFailed:
    """What awaitTermination raises."""
    return StreamFailed(
        "STREAM_FAILED",
        f"Query [id = {run.query.id}, runId = {run.id}] terminated with exception: {cause.message}",
        sql_state="XXKST",
        parameters={"id": run.query.id, "runId": run.id, "message": cause.message},
    )


def _first(source: Source) -> Callable[[], str]:
    return lambda: source.first().to_json(source.shape.table_id)


def _newest(sources: Sequence[Source]) -> list[int]:
    return [source.log.newest() for source in sources]


def _counts(rows: Sequence[AddedRows]) -> list[int]:
    return [each.count() for each in rows]


def _have_more(sources: Sequence[Source], offsets: Sequence[Offset]) -> bool:
    return any(source.has_more(offset) for source, offset in zip(sources, offsets, strict=True))


def _due(interval_s: float) -> float:
    """When the next batch may begin: at multiples of the interval, as Spark has it."""
    if interval_s <= 0:
        return 0.0
    return (time.time() // interval_s + 1) * interval_s
