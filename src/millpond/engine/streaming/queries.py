"""All streaming queries of a gateway: started, asked, stopped, and ended with the session that started them."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from millpond.engine import proto, wire
from millpond.engine.blocking import on_thread
from millpond.engine.errors import AnalysisError, ExecutionError, unsupported
from millpond.engine.sessions import Session, Sessions
from millpond.engine.streaming.requests import StreamWrite
from millpond.engine.uploads import Uploads
from millpond.identity.domain import Principal

if TYPE_CHECKING:
    from millpond.engine.spools import Spools
    from millpond.engine.streaming.query import Query, Run
    from millpond.engine.streaming.sinks import Tools

_MOST_OF_A_USER = 20
_MOST = 100
"""Each running query looks for data ten times a second and holds a session of the engine."""
_KEPT_ENDED = 100
Responses = list[Any]


@dataclass
class _Started:
    """What one session has started."""

    runs: list["Run"] = field(default_factory=list)
    ended: deque["Run"] = field(default_factory=lambda: deque(maxlen=_KEPT_ENDED))
    """Since the session last said `resetTerminated`."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class StreamingQueries:
    """Its methods run on the gateway's event loop."""

    def __init__(
        self, spools: "Spools | None", uploads: Uploads, find_principal: Callable[[str], Principal | None]
    ) -> None:
        """`spools` is None before a remote engine, which cannot read what we lay out."""
        self._spools = spools
        self._uploads = uploads
        self._find_principal = find_principal
        self._started: dict[str, _Started] = {}
        self._lock = asyncio.Lock()

    # -- start and end ------------------------------------------------------------------------------------------

    async def start(self, session: Session, operation: str, write: StreamWrite, tools: "Tools") -> Responses:
        """Start a query, after whatever of it can be checked was."""
        from millpond.engine.streaming.query import Place, Run  # loads delta-rs, which most sessions never need
        from millpond.engine.streaming.starting import prepared

        if self._spools is None:
            raise unsupported(
                "Structured streaming before a remote engine, which cannot read what the gateway lays out."
            )
        query = await prepared(tools, session, write)
        self._check_room(session, query)  # before anything is copied
        place = Place(catalog=tools.catalog, spools=self._spools, find_principal=self._find_principal)
        try:
            await on_thread(self._uploads.copy, session, query.session)
            async with self._lock:
                await self._make_way(session, query)
                self._check_room(session, query)
                run = Run(query, place)
                self._keep(session, run, tools)
        except BaseException:
            await on_thread(self._uploads.forget, query.session)
            raise
        result = proto.commands.WriteStreamOperationStartResult(name=query.name or "")
        result.query_id.id, result.query_id.run_id = query.id, run.id
        return _responses(session, operation, write_stream_operation_start_result=result)

    async def _make_way(self, session: Session, query: "Query") -> None:
        """A query that is started again takes the place of its run, as Spark has it; another's is none of ours.

        Its id is what a file of the checkpoint says, which anybody can say in theirs; the checkpoint tells them apart.
        """
        for run in self._active():
            if _replaces(query, run):
                await run.stop()
            elif run.query.id == query.id and run.query.checkpoint.location == query.checkpoint.location:
                raise ExecutionError(
                    "CONCURRENT_QUERY",
                    f"Another run of the streaming query {query.id} is active, which somebody else has started.",
                    sql_state="0A000",
                )

    def _check_room(self, session: Session, query: "Query") -> None:
        name, active = query.name, [run for run in self._active() if not _replaces(query, run)]
        mine = [run for run in active if run.query.session.principal.id == session.principal.id]
        if name is not None and any(run.query.name == name for run in active if run in self._of(session)):
            raise AnalysisError(
                "STREAMING_QUERY_NAME_TAKEN",
                f"Cannot start query with name {name} as a query with that name is already active in this session.",
                sql_state="42710",
            )
        if len(active) >= _MOST or len(mine) >= _MOST_OF_A_USER:
            raise ExecutionError(
                "STREAMING_TOO_MANY_QUERIES",
                f"{len(mine)} streaming queries of {session.principal.name} run, of {len(active)} on this server; at "
                f"most {_MOST_OF_A_USER} of one user's and {_MOST} in all may. Stop one of them.",
                sql_state="53000",
            )

    def _keep(self, session: Session, run: "Run", tools: "Tools") -> None:
        started = self._started.setdefault(session.id, _Started())
        running = [each for each in started.runs if each.is_active]
        ended = [each for each in started.runs if not each.is_active]
        started.runs = [*ended[-_KEPT_ENDED:], *running, run]
        _watch(started, run, tools, self._uploads)

    async def end(self, session_id: str) -> None:
        """A session is over, and its queries with it."""
        started = self._started.pop(session_id, None)
        if started is not None:
            await asyncio.gather(*(run.stop() for run in started.runs))

    async def tidy(self, sessions: Sessions) -> None:
        """End what sessions have left that are gone. Called now and then."""
        for session_id in list(self._started):
            if not sessions.exists(session_id):
                await self.end(session_id)

    async def close(self) -> None:
        """End all queries."""
        await asyncio.gather(*(self.end(session_id) for session_id in list(self._started)))

    def _active(self) -> list["Run"]:
        return [run for started in self._started.values() for run in started.runs if run.is_active]

    def _of(self, session: Session) -> list["Run"]:
        started = self._started.get(session.id)
        return started.runs if started is not None else []

    # -- one query ----------------------------------------------------------------------------------------------

    async def command(self, session: Session, operation: str, command: Any, tools: "Tools") -> Responses:
        """What a StreamingQuery asks of the server."""
        run = self._find(session, command.query_id)
        result = proto.commands.StreamingQueryCommandResult()
        result.query_id.CopyFrom(command.query_id)
        if command.WhichOneof("command") == "explain":
            from millpond.engine.streaming.starting import explained

            mode = "EXTENDED" if command.explain.extended else "SIMPLE"
            result.explain.result = await explained(tools, session, run.query, mode)
        else:
            await _COMMANDS[command.WhichOneof("command")](run, command, result)
        return _responses(session, operation, streaming_query_command_result=result)

    def _find(self, session: Session, wanted: Any) -> "Run":
        found = [run for run in self._of(session) if run.query.id == wanted.id and run.id == wanted.run_id]
        if not found:
            raise AnalysisError(
                "STREAMING_QUERY_NOT_FOUND",
                f"This session has no streaming query {wanted.id} (run {wanted.run_id}); it may have ended long ago or "
                "with the server. Start it again: it goes on where its checkpoint is.",
                sql_state="42704",
            )
        return found[0]

    # -- a session's queries ------------------------------------------------------------------------------------

    async def manage(self, session: Session, operation: str, command: Any) -> Responses:
        """What a StreamingQueryManager asks of the server."""
        result = proto.commands.StreamingQueryManagerCommandResult()
        kind = command.WhichOneof("command")
        if kind == "active":
            result.active.SetInParent()
            for run in self._of(session):
                if run.is_active:
                    _describe(run, result.active.active_queries.add())
        elif kind == "get_query":
            for run in self._of(session):
                if run.is_active and run.query.id == command.get_query:
                    _describe(run, result.query)
        elif kind == "await_any_termination":
            ended = await self._any_ended(session, _timeout_s(command.await_any_termination))
            result.await_any_termination.terminated = ended
        elif kind == "reset_terminated":
            if session.id in self._started:
                self._started[session.id].ended.clear()
            result.reset_terminated = True
        else:
            raise unsupported("Streaming listeners: ask the queries for their lastProgress.")
        return _responses(session, operation, streaming_query_manager_command_result=result)

    async def _any_ended(self, session: Session, timeout_s: float | None) -> bool:
        """Whether a query of the session has ended since it was last reset. Raises what one failed with."""
        started = self._started.setdefault(session.id, _Started())

        async def one() -> None:
            while not started.ended:
                started.changed.clear()
                await started.changed.wait()

        if not await _within(one(), timeout_s):
            return False
        for run in started.ended:
            if run.failure is not None:
                raise run.failure
        return True


def _replaces(query: "Query", run: "Run") -> bool:
    """Whether a run is one of the same user's same query."""
    return run.query.id == query.id and run.query.session.principal.id == query.session.principal.id


def _watch(started: _Started, run: "Run", tools: "Tools", uploads: Uploads) -> None:
    """When the run has ended: say so, and free what is kept for it, by the engine and here."""

    async def watch() -> None:
        await run.ended()
        started.ended.append(run)
        started.changed.set()
        session = run.query.session
        if session.engine_id is not None:
            tools.upstream.forget(session, "ReleaseSession", proto.base.ReleaseSessionRequest(session_id=session.id))
        await on_thread(uploads.forget, session)

    task = asyncio.get_running_loop().create_task(watch())
    _WATCHERS.add(task)
    task.add_done_callback(_WATCHERS.discard)


_WATCHERS: set[asyncio.Task[None]] = set()  # the event loop keeps only weak references to tasks


async def _status(run: "Run", _command: Any, result: Any) -> None:
    result.status.status_message = run.message
    result.status.is_data_available = run.has_data
    result.status.is_trigger_active = run.is_in_batch
    result.status.is_active = run.is_active


async def _last_progress(run: "Run", _command: Any, result: Any) -> None:
    result.recent_progress.recent_progress_json.extend(list(run.progress)[-1:])


async def _recent_progress(run: "Run", _command: Any, result: Any) -> None:
    result.recent_progress.recent_progress_json.extend(run.progress)


async def _stop(run: "Run", _command: Any, _result: Any) -> None:
    await run.stop()


async def _all_available(run: "Run", _command: Any, _result: Any) -> None:
    await run.all_available()
    if run.failure is not None:
        raise run.failure


async def _exception(run: "Run", _command: Any, result: Any) -> None:
    result.exception.SetInParent()
    if run.failure is not None:
        result.exception.exception_message = f"{run.failure.java_class}: {run.failure.message}"
        result.exception.error_class = run.failure.error_class


async def _await(run: "Run", command: Any, result: Any) -> None:
    result.await_termination.terminated = await _within(run.ended(), _timeout_s(command.await_termination))
    if run.failure is not None:
        raise run.failure


_COMMANDS: dict[str | None, Callable[["Run", Any, Any], Awaitable[None]]] = {
    "status": _status,
    "last_progress": _last_progress,
    "recent_progress": _recent_progress,
    "stop": _stop,
    "process_all_available": _all_available,
    "exception": _exception,
    "await_termination": _await,
}


def _describe(run: "Run", instance: Any) -> None:
    instance.id.id, instance.id.run_id = run.query.id, run.id
    if run.query.name is not None:
        instance.name = run.query.name


def _timeout_s(command: Any) -> float | None:
    return command.timeout_ms / 1000 if command.HasField("timeout_ms") else None


async def _within(work: Awaitable[None], timeout_s: float | None) -> bool:
    """Whether the work was done in time."""
    try:
        await asyncio.wait_for(work, timeout_s)
    except TimeoutError:
        return False
    return True


def _responses(session: Session, operation: str, **result: Any) -> Responses:
    return [wire.execute_response(session.id, operation, **result), wire.completed(session.id, operation)]
