"""The Spark Connect gateway: gRPC in front of the engines. `serve` is its whole interface.

Requests are parsed, bound and sent on; responses of the engine pass through as the bytes they are.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
from grpc import aio

from millpond.catalog.service import CatalogService
from millpond.engine import proto, recording, slices, wire
from millpond.engine.ai_query import model_finder
from millpond.engine.commanding import Commands
from millpond.engine.engines import ApiDoor, Engine, EngineOptions, Engines
from millpond.engine.errors import AnalysisError, ExecutionError
from millpond.engine.executing import Executions
from millpond.engine.history import Observe
from millpond.engine.own_client import OWN_CLIENT, SPENT_MS
from millpond.engine.planning import Planner
from millpond.engine.session_calls import SessionCalls
from millpond.engine.sessions import Session, Sessions
from millpond.engine.slices import Slice, Slices
from millpond.engine.spools import Spools
from millpond.engine.streaming.queries import StreamingQueries
from millpond.engine.system_tables import SystemTable, SystemTables
from millpond.engine.uploads import Uploads
from millpond.engine.upstream import Upstream
from millpond.engine.world import FindOwner, world
from millpond.home import socket_address
from millpond.identity import acts
from millpond.identity.domain import Principal
from millpond.kernel import metrics
from millpond.kernel.errors import MillpondError, Unauthenticated
from millpond.kernel.freshness import Mark
from millpond.kernel.logs import get_logger, mask_secrets

_log = get_logger(__name__)
_HOUSEKEEPING_EVERY_S = 5.0
_CREDENTIAL_TRUSTED_S = 1.0
"""A credential is looked up again after this long, or when the database has changed: one query makes five calls."""
_ATTACHED_TRUSTED_S = 1.0
"""So long a cluster is thought to run still, and to be somebody's to use."""
_KNOWN_CREDENTIALS = 1000
SESSION_IDLE_S = 24 * 3600.0
_IDLE_COMPUTING = 4
"""Engines that wait for a part to compute; each can reach one set of places only, and starts in 0.2 s."""
_SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.default_compression_algorithm", 0),
    ("grpc.so_reuseport", 0),
    ("grpc.http2.max_ping_strikes", 0),
)


@dataclass(frozen=True, kw_only=True)
class GatewayOptions:
    """How the gateway is set up."""

    host: str
    port: int
    run_dir: Path
    """The gateway's own directory: sockets, engines' scratch space, uploads. Emptied at start."""
    log_dir: Path
    storage_root: str
    remote: str | None = None
    idle_timeout_s: float = 900
    memory_limit_bytes: int | None = None
    store: Mapping[str, str] | None = None
    """Access to the object store, where data is on one."""
    storage_options: Mapping[str, str] = field(default_factory=dict)
    """delta-rs' access to an object store."""
    session_idle_s: float = SESSION_IDLE_S
    mark: Mark = lambda: None
    """Changes with the database, where that can be known."""
    api: ApiDoor | None = None
    """How users' functions reach our own API; None when they may not."""
    certificate: tuple[Path, Path] | None = None
    """Certificate (PEM, with its chain) and private key: TLS on the port."""
    socket_path: Path | None = None
    """Unix socket on which it answers too, always without TLS; for the server beside it."""
    observe: Observe | None = None
    """Told of each execution that has ended, for the query history."""
    admit: Callable[[Principal], None] = lambda _principal: None
    """Raises for somebody who may not run anything now; does not block."""


class Gateway:
    """A running gateway."""

    def __init__(
        self,
        options: GatewayOptions,
        catalog: CatalogService,
        authenticate: Callable[[str], Principal],
        find_owner: FindOwner,
        system_tables: Sequence[SystemTable],
        clusters: Slices | None,
    ) -> None:
        self._options = options
        self._slices = clusters
        self._attached: dict[tuple[str, str], tuple[float, Slice]] = {}
        self._authenticate = authenticate
        self.sessions = Sessions()
        self._uploads = Uploads(options.run_dir / "uploads")
        system = SystemTables(catalog, system_tables, options.storage_options)
        spools = None if options.remote else Spools(options.run_dir / "spools", options.storage_options)
        users = _engine_options(options, "engines", spools.readable if spools else _nothing)
        self._engines = Engines(users, catalog)
        upstream = self._upstream = Upstream(self._engines, self._uploads, system, spools)
        self._spools = spools
        self._computing = None
        if spools is not None:
            own = _engine_options(options, "computing", _nothing)
            own = replace(own, api=None, idle_at_most=_IDLE_COMPUTING, idle_timeout_s=min(60, own.idle_timeout_s))
            self._computing = Engines(own, spools)
            spools.compute_with(Upstream(self._computing, self._uploads, system, spools))
        commands = Commands(catalog, upstream, system, options.storage_options)
        find_model = model_finder(options.api) if options.api and spools else None
        shared = world(catalog, find_owner, spools, options.mark, options.storage_options, find_model)
        streams = self._streams = StreamingQueries(spools, self._uploads, find_owner)
        planner = Planner(shared, self.sessions, upstream, commands, options.storage_options, streams)
        proto.allow_deep_plans()
        self._threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="plan")
        self._executions = Executions(planner, upstream, self._threads, options.observe)
        self._calls = SessionCalls(self.sessions, planner, upstream, commands, self._uploads, self._threads, streams)
        self._server = aio.server(options=_SERVER_OPTIONS)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(proto.SERVICE, self._handlers()),))
        self._ok = {name: metrics.SPARK_CALLS.labels(name, "ok") for name in (*self._handlers(), "AddArtifacts")}
        self._known: dict[str, tuple[float, bytes | None, Principal]] = {}
        self.port = 0
        self._housekeeping: asyncio.Task[None] | None = None
        self._stopping = False

    def engines(self) -> list[Engine]:
        """All that run on this machine, from any thread."""
        return [each for engines in (self._engines, self._computing) if engines for each in engines.all_here()]

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        options = self._options
        self.port = _listen(self._server, options.host, options.port, _credentials(options.certificate))
        if options.socket_path is not None:
            with socket_address(options.socket_path) as address:
                self._server.add_insecure_port(f"unix:{address}")
        await self._server.start()
        self._housekeeping = asyncio.get_running_loop().create_task(self._keep_house())
        _log.info("spark connect gateway listens", host=self._options.host, port=self.port)

    async def stop(self, grace_s: float = 10.0) -> None:
        """Answer what runs for up to `grace_s` seconds, refuse what is new, then end the engines."""
        self._stopping = True
        if self._housekeeping is not None:
            self._housekeeping.cancel()
        await self._streams.close()
        await self._server.stop(grace_s)
        for engines in filter(None, (self._engines, self._computing)):
            await engines.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def wait(self) -> None:
        """Until the server has stopped."""
        await self._server.wait_for_termination()

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(_HOUSEKEEPING_EVERY_S)
            try:
                for session in self.sessions.forget(self._options.session_idle_s):
                    self._uploads.forget(session)
                await self._streams.tidy(self.sessions)
                for engines in filter(None, (self._engines, self._computing)):
                    await engines.reap()
                if self._spools is not None:
                    await self._spools.tidy(self._options.idle_timeout_s)
            except Exception as error:  # a supervisor's boundary: housekeeping goes on
                _log.error("housekeeping failed", error=str(error), kind=type(error).__name__)

    # -- the door -----------------------------------------------------------------------------------------------

    def _handlers(self) -> dict[str, Any]:
        base = proto.base
        unary = {
            "AnalyzePlan": (base.AnalyzePlanRequest, self._calls.analyze),
            "Config": (base.ConfigRequest, self._calls.config),
            "ArtifactStatus": (base.ArtifactStatusesRequest, self._calls.artifact_status),
            "Interrupt": (base.InterruptRequest, self._calls.interrupt),
            "ReleaseExecute": (base.ReleaseExecuteRequest, self._executions.release),
            "ReleaseSession": (base.ReleaseSessionRequest, self._calls.release_session),
            "FetchErrorDetails": (base.FetchErrorDetailsRequest, self._calls.fetch_error_details),
            "CloneSession": (base.CloneSessionRequest, self._calls.clone_session),
            "GetStatus": (base.GetStatusRequest, self._calls.get_status),
        }
        streams = {
            "ExecutePlan": (base.ExecutePlanRequest, self._executions.execute),
            "ReattachExecute": (base.ReattachExecuteRequest, self._executions.reattach),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(self._unary(name, kind, work))
            for name, (kind, work) in unary.items()
        }
        handlers |= {
            name: grpc.unary_stream_rpc_method_handler(self._stream(name, kind, work))
            for name, (kind, work) in streams.items()
        }
        handlers["AddArtifacts"] = grpc.stream_unary_rpc_method_handler(self._add_artifacts)
        return handlers

    def _unary(self, name: str, kind: Any, work: Callable[[Session, Any], Awaitable[bytes]]) -> Any:
        async def handle(data: bytes, context: Any) -> bytes:
            try:
                with recording.recorded(name, context):
                    request, session = await self._open(kind, data, context)
                    answer = await work(session, request)
            except BaseException as error:
                await self._fail(name, error, context)
                raise
            self._ok[name].inc()
            return answer

        return handle

    def _stream(self, name: str, kind: Any, work: Callable[..., Awaitable[int | None]]) -> Any:
        async def handle(data: bytes, context: Any) -> None:
            try:
                with recording.recorded(name, context):
                    request, session = await self._open(kind, data, context)
                    if name == "ExecutePlan":
                        self._options.admit(session.principal)
                    spent_ms = await work(session, request, len(data), context.write)
                if spent_ms is not None:
                    context.set_trailing_metadata(((SPENT_MS, str(spent_ms)),))
            except BaseException as error:
                await self._fail(name, error, context)
                raise
            self._ok[name].inc()

        return handle

    async def _add_artifacts(self, stream: AsyncIterator[bytes], context: Any) -> bytes:
        try:
            with recording.recorded("AddArtifacts", context):
                first = await anext(stream)
                request, session = await self._open(proto.base.AddArtifactsRequest, first, context)

                async def requests() -> AsyncIterator[Any]:
                    yield request
                    async for data in stream:
                        yield proto.base.AddArtifactsRequest.FromString(data)

                answer = await self._calls.add_artifacts(session, requests())
        except BaseException as error:
            await self._fail("AddArtifacts", error, context)
            raise
        self._ok["AddArtifacts"].inc()
        return answer

    async def _open(self, kind: Any, data: bytes, context: Any) -> tuple[Any, Session]:
        """The parsed request and the session it is for, which belongs to whoever calls."""
        if self._stopping:
            raise ExecutionError(
                "SERVER_STOPPING", "The server is stopping; try again when it is back.", sql_state="57P01"
            )
        principal = await self._principal(context)
        acts.identified(principal)
        try:
            if len(data) <= proto.SAFE_BYTES:
                request = kind.FromString(data)
            else:
                request = await asyncio.get_running_loop().run_in_executor(self._threads, kind.FromString, data)
        except Exception as error:  # protobuf's DecodeError has no stable home
            raise ExecutionError(
                "CONNECT_INVALID_PLAN.CANNOT_PARSE", f"The request is no {kind.DESCRIPTOR.name}.", sql_state="56K00"
            ) from error
        recording.note(request)
        if _goes_on(request) and not self.sessions.exists(request.session_id):
            raise _session_lost(request.session_id)
        session = self.sessions.get(principal, request.session_id)
        await self._attach(session, context)
        session.client = getattr(request, "client_type", "") or session.client
        session.server_id = session.server_id or await self._upstream.server_id(session)
        return request, session

    async def _attach(self, session: Session, context: Any) -> None:
        """Have a session that names a cluster run on it. Raises NotFound, PermissionDenied, FailedPrecondition."""
        cluster_id = _header(context, slices.HEADER) or session.cluster_id
        if not cluster_id or self._slices is None or self._options.remote:
            return
        key = (session.principal.id, cluster_id)
        known = self._attached.get(key)
        if known is None or known[0] < time.monotonic():
            attach = self._slices.attach
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._threads, attach, session.principal, cluster_id)
            if len(self._attached) > _KNOWN_CREDENTIALS:
                self._attached.clear()
            known = self._attached[key] = (time.monotonic() + _ATTACHED_TRUSTED_S, found)
        if session.slice is None:
            session.settings = dict(known[1].settings) | session.settings
        session.cluster_id, session.slice = cluster_id, known[1]

    async def _principal(self, context: Any) -> Principal:
        header = _header(context, "authorization")
        known = self._known.get(header)
        mark = self._options.mark()
        if known is not None and mark is not None and known[0] > time.monotonic() and known[1] == mark:
            return known[2]
        scheme, _, credential = str(header).partition(" ")
        if scheme.lower() != "bearer" or not credential.strip():
            raise Unauthenticated(
                "No access token was given. Connect with sc://localhost:PORT/;token=TOKEN (on this machine), or "
                "sc://HOST:PORT/;use_ssl=true;token=TOKEN."
            )
        loop = asyncio.get_running_loop()
        self._known.pop(header, None)
        principal = await loop.run_in_executor(self._threads, self._authenticate, credential.strip())
        if len(self._known) > _KNOWN_CREDENTIALS:
            self._known.clear()
        self._known[header] = (time.monotonic() + _CREDENTIAL_TRUSTED_S, mark, principal)
        return principal

    async def _fail(self, name: str, error: BaseException, context: Any) -> None:
        """The one boundary where errors of a call become what goes over the wire. Always raises."""
        if isinstance(error, asyncio.CancelledError | aio.AbortError) or not isinstance(error, Exception):
            metrics.SPARK_CALLS.labels(name, "cancelled").inc()
            raise error
        known = _known(error)
        if known is None:
            reference = str(uuid4())
            _log.error("call failed", method=name, reference=reference, error=mask_secrets(repr(error)), exc_info=error)
            known = ExecutionError(
                "INTERNAL_ERROR", f"The gateway failed; its log says more under {reference}.", sql_state="XX000"
            )
        metrics.SPARK_CALLS.labels(name, getattr(known, "error_class", known.code)).inc()
        failure = wire.failure_of(known)
        context.set_trailing_metadata(failure.trailers)
        await context.abort(failure.code, failure.message)


def _header(context: Any, name: str) -> str:
    return next((str(value) for key, value in context.invocation_metadata() or () if key == name), "")


def _nothing(_principal: Principal) -> frozenset[str]:
    return frozenset()


def _engine_options(
    options: GatewayOptions, directory: str, given: Callable[[Principal], frozenset[str]]
) -> EngineOptions:
    return EngineOptions(
        run_dir=options.run_dir / directory,
        log_dir=options.log_dir,
        remote=options.remote,
        idle_timeout_s=options.idle_timeout_s,
        memory_limit_bytes=options.memory_limit_bytes,
        store=options.store,
        api=options.api,
        given=given,
    )


def _known(error: Exception) -> MillpondError | None:
    """The error to tell the user, None for one that only the log may see."""
    if isinstance(error, RecursionError):
        return AnalysisError(
            "PLAN_TOO_DEEP",
            "The plan is nested too deep; write an intermediate result to a table.",
            sql_state="54001",
        )
    return error if isinstance(error, MillpondError) else None


def _goes_on(request: Any) -> bool:
    """Whether the caller would rather fail than go on in a fresh session, where names may mean something else."""
    return getattr(request, "client_type", "") == OWN_CLIENT and bool(request.client_observed_server_side_session_id)


def _session_lost(session_id: str) -> ExecutionError:
    return ExecutionError(
        "INVALID_HANDLE.SESSION_CHANGED",
        f"The handle {session_id} is invalid. The session was lost when Spark Connect was restarted; open another.",
        sql_state="HY000",
        parameters={"handle": session_id},
    )


async def serve(
    options: GatewayOptions,
    *,
    catalog: CatalogService,
    authenticate: Callable[[str], Principal],
    find_owner: FindOwner,
    system_tables: Sequence[SystemTable] = (),
    clusters: Slices | None = None,
) -> Gateway:
    """Start a gateway; it runs until its `stop`. Without `clusters` no session can name a cluster."""
    gateway = Gateway(options, catalog, authenticate, find_owner, system_tables, clusters)
    await gateway.start()
    return gateway


def _credentials(certificate: tuple[Path, Path] | None) -> grpc.ServerCredentials | None:
    if certificate is None:
        return None
    chain, key = (path.read_bytes() for path in certificate)
    return grpc.ssl_server_credentials([(key, chain)])


def _listen(server: Any, host: str, port: int, credentials: grpc.ServerCredentials | None) -> int:
    """Bind; for the loopback address also its IPv6 form, since `localhost` may mean either."""

    def bind(address: str) -> int:
        bound: int = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
        return bound

    try:
        bound = bind(f"{host}:{port}")
    except RuntimeError as error:
        raise OSError(f"Port {port} on {host} is in use or not allowed; choose another with --spark-port.") from error
    if bound == 0:
        raise OSError(f"Port {port} on {host} is in use or not allowed; choose another with --spark-port.")
    if host == "127.0.0.1":
        with contextlib.suppress(RuntimeError):  # a machine without IPv6
            bind(f"[::1]:{bound}")
    return bound


__all__ = ["Gateway", "GatewayOptions", "serve"]
