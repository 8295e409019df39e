"""Calls to a session's engine: with the session's state put there first, and the engine's errors as Spark's."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import grpc
from grpc import aio

from millpond.engine import proto
from millpond.engine.costs import spent_alone
from millpond.engine.engine_errors import translated
from millpond.engine.engines import Engine, Engines
from millpond.engine.errors import ExecutionError, SparkError, unsupported
from millpond.engine.needs import Needs
from millpond.engine.sessions import Session
from millpond.engine.spools import Spools
from millpond.engine.system_tables import SystemTables
from millpond.engine.uploads import Uploads

_MAX_ATTEMPTS = 12
_DEATH_SEEN_WITHIN_S = 2.0


class Upstream:
    """The engines as the sessions see them."""

    def __init__(self, engines: Engines, uploads: Uploads, system: SystemTables, spools: Spools | None) -> None:
        """`spools` are where parts of plans are computed by other engines; None before a remote engine."""
        self._engines = engines
        self._uploads = uploads
        self._system = system
        self._spools = spools

    async def refresh(self, places: Iterable[str]) -> None:
        """Bring system tables at these places up to date."""
        await self._system.refresh(places)

    @asynccontextmanager
    async def engine(self, session: Session, needs: Needs) -> AsyncIterator[Engine]:
        """The session's engine, which may reach what is needed and has the session's state, while it is used."""
        if needs.guarded_in_plan and (needs.runs_code or session.functions):
            raise _code_beside_hidden_rows()
        await self._system.refresh(needs.readable)
        if needs.parts and self._spools is not None:
            await self._spools.fill(needs.parts)
        engine = await self._engines.get(session.principal, needs, session.slice)
        with engine.in_use():
            if session.engine_id != engine.id:
                async with session.lock:
                    if session.engine_id != engine.id:
                        await self._restore(session, engine)
            missing = {key: made for key, made in needs.functions.items() if key not in session.functions}
            if missing:
                async with session.lock:
                    await self._make_known(session, engine, missing)
            try:
                yield engine
            except aio.AioRpcError as error:
                raise await _error_of(error, engine, needs) from error

    async def _restore(self, session: Session, engine: Engine) -> None:
        """Give a fresh engine the session's settings, functions and files."""
        session.remote_relations.clear()
        try:
            if session.settings:
                await engine.calls["Config"](settings_request(session, dict(session.settings)).SerializeToString())
            await self._uploads.restore(session, engine)
        except aio.AioRpcError as error:
            raise await _error_of(error, engine, Needs()) from error
        await self._make_known(session, engine, session.functions)
        session.engine_id = engine.id

    async def _make_known(self, session: Session, engine: Engine, functions: Mapping[str, bytes]) -> None:
        """Let an engine have functions, which the session then keeps."""
        try:
            for command in list(functions.values()):
                plan = proto.base.Plan(command=proto.commands.Command.FromString(command))
                async for _ in engine.calls["ExecutePlan"](execute_request(session, plan).SerializeToString()):
                    pass
        except aio.AioRpcError as error:
            raise await _error_of(error, engine, Needs()) from error
        session.functions |= functions

    async def server_id(self, session: Session) -> str:
        """What the session's engine calls it. Sail takes our id; a remote engine is asked."""
        if not self._engines.is_remote:
            return session.id
        operation = proto.base.ConfigRequest.Operation(get_all=proto.base.ConfigRequest.GetAll(prefix="spark.app.name"))
        request = proto.base.ConfigRequest(session_id=session.id, operation=operation)
        answer = proto.base.ConfigResponse.FromString(await self.unary(session, "Config", request))
        return str(answer.server_side_session_id)

    async def unary(self, session: Session, method: str, request: Any, needs: Needs | None = None) -> bytes:
        """One call with one answer, as raw bytes."""
        _own(request, session)
        async with self.engine(session, needs or Needs()) as engine:
            answer: bytes = await engine.calls[method](request.SerializeToString())
            return answer

    async def stream(
        self, session: Session, method: str, request: Any, needs: Needs, write: Callable[[bytes], Any]
    ) -> int | None:
        """One call with a stream of answers, each handed on as raw bytes; what it took, as `spent_alone` knows it.

        A read begins again where a table's log grew while the engine looked at it, if nothing was handed on yet.
        """
        handed_on = False

        async def hand_on(message: bytes) -> None:
            nonlocal handed_on
            handed_on = True
            await write(message)

        is_read = method == "ExecutePlan" and request.plan.HasField("root")
        for attempt in range(_MAX_ATTEMPTS):
            try:
                return await self._stream(session, method, request, needs, hand_on)
            except SparkError as error:
                if not is_read or handed_on or not _lost_race(error) or attempt == _MAX_ATTEMPTS - 1:
                    raise
                await _pause(attempt)
        raise AssertionError("unreachable")

    async def _stream(
        self, session: Session, method: str, request: Any, needs: Needs, write: Callable[[bytes], Any]
    ) -> int | None:
        _own(request, session)
        async with self.engine(session, needs) as engine:
            spent_ms = spent_alone(engine)
            call = engine.calls[method](request.SerializeToString())
            try:
                while (message := await call.read()) is not aio.EOF:
                    await write(message)
                # `read` gives EOF for an error too; this raises it
                if await call.code() is not grpc.StatusCode.OK:
                    raise aio.AioRpcError(
                        await call.code(),
                        await call.initial_metadata(),
                        await call.trailing_metadata(),
                        await call.details(),
                    )
                return spent_ms()
            finally:
                call.cancel()

    async def run(
        self, session: Session, plan: Any, needs: Needs, *, operation_id: str | None = None, tags: tuple[str, ...] = ()
    ) -> list[Any]:
        """Run a plan to its end and collect the parsed responses; for commands and small results."""
        responses: list[Any] = []

        async def collect(message: bytes) -> None:
            responses.append(proto.base.ExecutePlanResponse.FromString(message))

        request = execute_request(session, plan, operation_id=operation_id, tags=tags)
        await self.stream(session, "ExecutePlan", request, needs, collect)
        return responses

    async def run_retrying(
        self,
        session: Session,
        plan: Any,
        needs: Needs,
        *,
        again: bool = True,
        landed: Callable[[], bool] = lambda: False,
    ) -> list[Any]:
        """Run a write; start again when another writer was faster, as each attempt reads the newest state anew.

        `landed` tells after an error whether the commit was made all the same; it blocks.
        """
        for attempt in range(_MAX_ATTEMPTS):
            try:
                return await self.run(session, plan, needs)
            except SparkError as error:
                if not _lost_race(error) or not again or attempt == _MAX_ATTEMPTS - 1:
                    raise
                if await asyncio.to_thread(landed):
                    return []
                await _pause(attempt)
        raise AssertionError("unreachable")

    async def schema(self, session: Session, relation: Any, needs: Needs) -> Any:
        """The schema of a bound relation, as a struct's DataType."""
        request = proto.base.AnalyzePlanRequest(session_id=session.id)
        request.schema.plan.root.CopyFrom(relation)
        data = await self.unary(session, "AnalyzePlan", request, needs)
        return proto.base.AnalyzePlanResponse.FromString(data).schema.schema

    async def rows(self, session: Session, relation: Any, needs: Needs) -> list[dict[str, Any]]:
        """The rows of a small result."""
        import pyarrow as pa

        rows: list[dict[str, Any]] = []
        for response in await self.run(session, proto.base.Plan(root=relation), needs):
            if response.HasField("arrow_batch"):
                rows.extend(pa.ipc.open_stream(response.arrow_batch.data).read_all().to_pylist())
        return rows

    def forget(self, session: Session, method: str, request: Any) -> None:
        """Tell the session's engine something that nobody waits for, if that engine is there."""
        task = asyncio.get_running_loop().create_task(self._tell(session, method, request))
        _BACKGROUND.add(task)
        task.add_done_callback(_BACKGROUND.discard)

    async def _tell(self, session: Session, method: str, request: Any) -> None:
        engine = self._engines.find(session.principal, session.engine_id, session.slice)
        if engine is None:
            return
        _own(request, session)
        try:
            await engine.calls[method](request.SerializeToString())
        except aio.AioRpcError:
            return  # it was only to free memory; an engine that is gone has freed it


def _lost_race(error: SparkError) -> bool:
    return error.error_class == "DELTA_CONCURRENT_WRITE"


async def _pause(attempt: int) -> None:
    await asyncio.sleep(random.uniform(0, 0.02 * 2 ** min(attempt, 6)))  # noqa: S311 - spreads retries


_BACKGROUND: set[asyncio.Task[None]] = set()  # the event loop keeps only weak references to tasks


def _own(request: Any, session: Session) -> None:
    """The request in the name of the session's principal, whoever the client says it is."""
    request.user_context.Clear()
    request.user_context.user_id = session.principal.id
    request.user_context.user_name = session.principal.name
    if "client_observed_server_side_session_id" in request.DESCRIPTOR.fields_by_name:
        request.ClearField("client_observed_server_side_session_id")  # a fresh engine would refuse it


def execute_request(session: Session, plan: Any, *, operation_id: str | None = None, tags: tuple[str, ...] = ()) -> Any:
    """A request of the gateway's own to run a plan."""
    request = proto.base.ExecutePlanRequest(
        session_id=session.id, operation_id=operation_id or str(uuid4()), plan=plan, tags=tags
    )
    _own(request, session)
    return request


def settings_request(session: Session, settings: dict[str, str]) -> Any:
    """A request that sets these settings."""
    pairs = [proto.base.KeyValue(key=key, value=value) for key, value in settings.items()]
    operation = proto.base.ConfigRequest.Operation(set=proto.base.ConfigRequest.Set(pairs=pairs))
    request = proto.base.ConfigRequest(session_id=session.id, operation=operation)
    _own(request, session)
    return request


def _code_beside_hidden_rows() -> SparkError:
    """A barrier in the plan holds against predicates, not against a function that may read the engine's memory."""
    return unsupported(
        "Functions of your own beside a table with a row filter or column masks, before a remote engine; read it in a "
        "session without such functions."
    )


async def _error_of(error: aio.AioRpcError, engine: Engine, needs: Needs) -> Exception:
    if error.code() in {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
    } and await _died(
        engine, wait=error.code() is grpc.StatusCode.UNAVAILABLE or "Stream removed" in str(error.details())
    ):
        return engine.death()
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return ExecutionError(
            "ENGINE_UNAVAILABLE", f"The engine cannot be reached: {error.details()}.", sql_state="08S01"
        )
    return translated(error, needs)


async def _died(engine: Engine, *, wait: bool) -> bool:
    """Whether the engine's process has ended; a broken connection is seen a little before its end is."""
    for _ in range(int(_DEATH_SEEN_WITHIN_S / 0.05) if wait else 1):
        if not engine.alive:
            return True
        await asyncio.sleep(0.05 if wait else 0)
    return not engine.alive
