"""ExecutePlan, ReattachExecute and ReleaseExecute: running plans and handing their answers to the client.

PySpark may lose its connection and come back for the rest, so each response is kept until the client has released it.
The gateway keeps them, not the engine: a query then costs one call to the engine, and none for each response.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from typing import Any
from uuid import uuid4

from millpond.engine import proto, recording, wire
from millpond.engine.errors import ExecutionError, SparkError
from millpond.engine.history import Observe, Watched, text_of, watching
from millpond.engine.lineage import capture
from millpond.engine.operations import Operation
from millpond.engine.own_client import OWN_CLIENT
from millpond.engine.planning import Forward, Local, Planner, planned
from millpond.engine.sessions import Session
from millpond.engine.upstream import Upstream

Write = Callable[[bytes], Awaitable[None]]
Watching = AbstractContextManager[Watched]

_KEPT_OPERATIONS = 1000
_KEPT_BYTES = 256 << 20
"""As much of one answer waits for a client that went away; then the engine waits too."""
_AWAY_S = 300.0
"""A client that does not come back within this time is not waited for."""
_ABANDONED_S = 5.0


class Executions:
    """Runs plans for sessions."""

    def __init__(self, planner: Planner, upstream: Upstream, threads: Executor, observe: Observe | None = None) -> None:
        """`observe` is told of each execution that has ended."""
        self._planner = planner
        self._upstream = upstream
        self._threads = threads
        self._observe = observe

    async def execute(self, session: Session, request: Any, size: int, write: Write) -> int | None:
        """Run a plan and stream its answer; to our own client, what processor time it took, where that is known."""
        request.operation_id = request.operation_id or str(uuid4())
        recording.note(request)
        capture.asked(request)
        if request.operation_id in session.operations:
            raise _handle_error("OPERATION_ALREADY_EXISTS", request.operation_id, "Operation already exists.")
        told = (self._observe, session, text_of(request.plan), request.client_type)
        with watching(*told, begins=True):
            decided = await planned(self._threads, size, self._planner.plan, session, request.plan)
        watched = watching(*told)
        reattachable = any(option.reattach_options.reattachable for option in request.request_options)
        del request.request_options[:]
        operation = Operation(
            id=request.operation_id, tags=tuple(request.tags), reattachable=reattachable, is_query=_is_query(decided)
        )
        _make_room(session)
        session.operations[operation.id] = operation
        work = (
            self._forward(session, operation, request, decided, watched)
            if isinstance(decided, Forward)
            else self._answer(session, operation, decided, watched)
        )
        operation.task = asyncio.get_running_loop().create_task(work)
        await self._hand_over(session, operation, 0, write)
        return operation.spent_ms if request.client_type == OWN_CLIENT else None

    async def _forward(
        self, session: Session, operation: Operation, request: Any, decided: Forward, watching: Watching
    ) -> None:
        collected: list[Any] = []
        schema: bytes | None = None

        async def keep(message: bytes) -> None:
            nonlocal schema
            recording.answering()
            watched.passed(message)
            if decided.after is not None:
                collected.append(proto.base.ExecutePlanResponse.FromString(message))
            if schema is None and _is_schema_alone(message):
                schema = message
                return
            await operation.add((schema or b"") + message, _KEPT_BYTES)
            schema = b""

        with operation.finishing(), recording.operating(), watching as watched:
            spent_ms = await self._upstream.stream(session, "ExecutePlan", request, decided.needs, keep)
            operation.spent_ms = watched.spent_ms = spent_ms
            if schema:
                await operation.add(schema, _KEPT_BYTES)
            if operation.reattachable:  # engines say so only to whom they let reattach
                await keep(_completed(session, operation))
            if decided.after is not None:
                decided.after(collected)
            else:
                capture.read(session, decided.needs)

    async def _answer(self, session: Session, operation: Operation, decided: Local, watching: Watching) -> None:
        """The gateway's own work, which goes on when the client's connection breaks."""
        with operation.finishing(), recording.operating(), watching as watched:
            responses = await decided.run(operation.id)
            recording.answering()
            for response in responses:
                response.session_id = session.id
                response.server_side_session_id = session.server_id
                message = response.SerializeToString()
                watched.passed(message)
                await operation.add(message, _KEPT_BYTES)

    async def _hand_over(self, session: Session, operation: Operation, position: int, write: Write) -> None:
        """Send the answer from a position on, as it comes."""
        try:
            async for message in operation.messages(position):
                await write(message)
        except asyncio.CancelledError:
            self._wait_for_return(session, operation)
            raise
        if operation.failure is not None:
            session.operations.pop(operation.id, None)
            raise operation.failure
        if not operation.reattachable:
            session.operations.pop(operation.id, None)

    def _abandon(self, session: Session, operation: Operation) -> None:
        """The client wants no more. It says so when it has all, too, a moment before the work itself ends."""
        session.operations.pop(operation.id, None)
        operation.abandoned = True
        if not operation.done:
            asyncio.get_running_loop().call_later(_ABANDONED_S, _end, session, operation)

    def _wait_for_return(self, session: Session, operation: Operation) -> None:
        """The client went away. What only the engine does may end; what changes tables must not."""
        if not operation.reattachable:
            _end(session, operation)
            return
        asyncio.get_running_loop().call_later(_AWAY_S, _end_if_unread, session, operation, operation.position)

    async def reattach(self, session: Session, request: Any, _size: int, write: Write) -> None:
        """Go on with an answer whose stream broke."""
        operation = session.operations.get(request.operation_id)
        if operation is None:
            raise _handle_error("OPERATION_NOT_FOUND", request.operation_id, "Operation not found.")
        position = operation.after(request.last_response_id) if request.last_response_id else operation.first
        await self._hand_over(session, operation, position, write)

    async def release(self, session: Session, request: Any) -> bytes:
        """Forget what the client has received."""
        operation = session.operations.get(request.operation_id)
        if operation is not None:
            if request.WhichOneof("release") == "release_all":
                self._abandon(session, operation)
            else:
                operation.release(request.release_until.response_id)
        response = proto.base.ReleaseExecuteResponse(
            session_id=session.id, server_side_session_id=session.server_id, operation_id=request.operation_id
        )
        data: bytes = response.SerializeToString()
        return data


def _is_schema_alone(message: bytes) -> bool:
    """Whether a response tells the schema and no more: it goes along with the rows behind it.

    By themselves, each costs the client a call to release it. Serialised messages one behind the other are one message.
    """
    if len(message) > proto.SAFE_BYTES:
        return False
    response = proto.base.ExecutePlanResponse.FromString(message)
    return bool(response.HasField("schema")) and response.WhichOneof("response_type") is None


def _end(session: Session, operation: Operation) -> None:
    """Stop a query that nobody waits for; a change of tables goes on to its end."""
    if operation.task is not None and not operation.done and operation.is_query:
        operation.task.cancel()
    session.operations.pop(operation.id, None)


def _end_if_unread(session: Session, operation: Operation, position: int) -> None:
    if operation.position == position:
        _end(session, operation)


def _completed(session: Session, operation: Operation) -> bytes:
    response = wire.completed(session.id, operation.id)
    response.server_side_session_id = session.server_id
    data: bytes = response.SerializeToString()
    return data


def _is_query(decided: Forward | Local) -> bool:
    return decided.after is None if isinstance(decided, Forward) else decided.waits


def _make_room(session: Session) -> None:
    """Drop the oldest finished operations that a client never released."""
    if len(session.operations) < _KEPT_OPERATIONS:
        return
    for operation_id, operation in list(session.operations.items())[: _KEPT_OPERATIONS // 2]:
        if operation.done:
            del session.operations[operation_id]


def _handle_error(kind: str, handle: str, text: str) -> SparkError:
    return ExecutionError(
        f"INVALID_HANDLE.{kind}",
        f"The handle {handle} is invalid. {text}",
        sql_state="HY000",
        parameters={"handle": handle},
    )
