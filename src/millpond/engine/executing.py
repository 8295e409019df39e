"""ExecutePlan, ReattachExecute and ReleaseExecute: running plans and handing their answers to the client."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any
from uuid import uuid4

from millpond.engine import proto
from millpond.engine.errors import ExecutionError, SparkError
from millpond.engine.needs import Needs
from millpond.engine.planning import Forward, Local, Planner
from millpond.engine.sessions import Operation, Session
from millpond.engine.upstream import Upstream
from millpond.kernel.errors import MillpondError

Write = Callable[[bytes], Awaitable[None]]

_RELEASE_EVERY_BYTES = 8 << 20
_KEPT_OPERATIONS = 1000


class Executions:
    """Runs plans for sessions."""

    def __init__(self, planner: Planner, upstream: Upstream, threads: Executor) -> None:
        self._planner = planner
        self._upstream = upstream
        self._threads = threads

    async def execute(self, session: Session, request: Any, write: Write) -> None:
        """Run a plan and stream its answer."""
        request.operation_id = request.operation_id or str(uuid4())
        if request.operation_id in session.operations:
            raise _handle_error("OPERATION_ALREADY_EXISTS", request.operation_id, "Operation already exists.")
        loop = asyncio.get_running_loop()
        decided = await loop.run_in_executor(self._threads, self._planner.plan, session, request.plan)
        operation = Operation(id=request.operation_id, tags=tuple(request.tags))
        _make_room(session)
        session.operations[operation.id] = operation
        if isinstance(decided, Forward):
            await self._forward(session, operation, request, decided, write)
        else:
            await self._answer(session, operation, decided, write)

    async def _forward(self, session: Session, operation: Operation, request: Any, decided: Forward, write: Write) -> None:
        operation.in_engine = True
        request.plan.CopyFrom(decided.plan)
        del request.request_options[:]
        request.request_options.add().reattach_options.reattachable = True
        collected: list[Any] = []

        async def send(message: bytes) -> None:
            operation.unreleased_bytes += len(message)
            if decided.after is not None:
                collected.append(proto.base.ExecutePlanResponse.FromString(message))
            await write(message)

        try:
            await self._upstream.stream(session, "ExecutePlan", request, decided.needs, send)
        except MillpondError:
            session.operations.pop(operation.id, None)
            raise
        finally:
            operation.done.set()
        if decided.after is not None:
            decided.after(collected)

    async def _answer(self, session: Session, operation: Operation, decided: Local, write: Write) -> None:
        """The gateway's own work goes on when the client's connection breaks; the client comes back for the answer."""
        operation.task = asyncio.get_running_loop().create_task(self._work(session, operation, decided))
        await asyncio.shield(operation.done.wait())
        await self._send(session, operation, None, write)

    async def _work(self, session: Session, operation: Operation, decided: Local) -> None:
        try:
            operation.responses = await decided.run(operation.id)
            for response in operation.responses:
                response.session_id = session.id
                response.server_side_session_id = session.server_id
        except asyncio.CancelledError as error:
            operation.failure = _handle_error("OPERATION_CANCELED", operation.id, "The operation was interrupted.")
            raise error
        except Exception as error:
            operation.failure = error
        finally:
            operation.done.set()

    async def _send(self, session: Session, operation: Operation, after: str | None, write: Write) -> None:
        if operation.failure is not None:
            session.operations.pop(operation.id, None)
            raise operation.failure
        skipping = bool(after)
        for response in operation.responses or []:
            if not skipping:
                await write(response.SerializeToString())
            elif response.response_id == after:
                skipping = False

    async def reattach(self, session: Session, request: Any, write: Write) -> None:
        """Go on with an answer whose stream broke."""
        operation = session.operations.get(request.operation_id)
        if operation is None:
            raise _handle_error("OPERATION_NOT_FOUND", request.operation_id, "Operation not found.")
        if operation.in_engine:
            await self._upstream.stream(session, "ReattachExecute", request, Needs(), write)
            return
        await operation.done.wait()
        await self._send(session, operation, request.last_response_id or None, write)

    async def release(self, session: Session, request: Any) -> bytes:
        """Forget what the client has received. Answered at once: the engine is told in the background, and not of
        each response, since PySpark sends one such call for every one of them."""
        operation = session.operations.get(request.operation_id)
        if operation is not None:
            self._release(session, operation, request)
        response = proto.base.ReleaseExecuteResponse(
            session_id=session.id, server_side_session_id=session.server_id, operation_id=request.operation_id
        )
        data: bytes = response.SerializeToString()
        return data

    def _release(self, session: Session, operation: Operation, request: Any) -> None:
        everything = request.WhichOneof("release") == "release_all"
        if everything and operation.done.is_set():
            session.operations.pop(operation.id, None)
        if not operation.in_engine:
            return
        if everything or operation.unreleased_bytes >= _RELEASE_EVERY_BYTES:
            operation.unreleased_bytes = 0
            self._upstream.forget(session, "ReleaseExecute", request)


def _make_room(session: Session) -> None:
    """Drop the oldest finished operations that a client never released."""
    if len(session.operations) < _KEPT_OPERATIONS:
        return
    for operation_id, operation in list(session.operations.items())[: _KEPT_OPERATIONS // 2]:
        if operation.done.is_set():
            del session.operations[operation_id]


def _handle_error(kind: str, handle: str, text: str) -> SparkError:
    return ExecutionError(
        f"INVALID_HANDLE.{kind}", f"The handle {handle} is invalid. {text}", sql_state="HY000", parameters={"handle": handle}
    )
