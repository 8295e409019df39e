"""The calls of a session besides execution: analysis, settings, uploads, interrupts, its end and its clones."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from functools import partial
from typing import Any
from uuid import uuid4

from millpond.engine import proto, semantics
from millpond.engine.commanding import Commands, check_settings
from millpond.engine.engine_errors import without_paths
from millpond.engine.errors import AnalysisError, unsupported
from millpond.engine.needs import Needs
from millpond.engine.planning import Planner, planned, refuse_unknown_fields
from millpond.engine.sessions import Session, Sessions
from millpond.engine.streaming.queries import StreamingQueries
from millpond.engine.streaming.reads import BindStream, as_table, refuse_stream
from millpond.engine.uploads import Uploads
from millpond.engine.upstream import Upstream

_COMPRESSION = {
    "spark.connect.session.planCompression.threshold": "-1",
    "spark.connect.session.planCompression.defaultAlgorithm": "NONE",
}
"""Plans must be readable: the client is told to leave them as they are."""

_OF_STREAMS = frozenset({
    "schema", "tree_string", "explain", "is_streaming", "is_local", "same_semantics", "semantic_hash",
})  # fmt: skip
"""What can be asked of a plan that reads a stream."""
_KEPT_ANSWERS = 1000


class SessionCalls:
    """Answers them, as serialised responses."""

    def __init__(
        self,
        sessions: Sessions,
        planner: Planner,
        upstream: Upstream,
        commands: Commands,
        uploads: Uploads,
        threads: Executor,
        streams: StreamingQueries,
    ) -> None:
        self._sessions = sessions
        self._planner = planner
        self._upstream = upstream
        self._commands = commands
        self._uploads = uploads
        self._threads = threads
        self._streams = streams

    # -- analysis -----------------------------------------------------------------------------------------------

    async def analyze(self, session: Session, request: Any) -> bytes:
        """Schema, explanation and other facts about a plan."""
        kind = request.WhichOneof("analyze")
        if kind is None:
            raise unsupported("This kind of analysis is not known to this gateway.")
        streams = kind == "is_streaming" and self._planner.is_streaming(session, request.is_streaming.plan.root)
        size = request.ByteSize()
        bind = partial(self._bind, as_table if kind in _OF_STREAMS else refuse_stream)
        needs = await planned(self._threads, size, bind, session, getattr(request, kind))
        if kind in {"semantic_hash", "same_semantics"}:
            return _comparison(session, request)
        if streams:
            return _is_streaming(session)
        data = await self._upstream.unary(session, "AnalyzePlan", request, needs)
        if kind not in {"explain", "input_files"}:
            return data
        response = proto.base.AnalyzePlanResponse.FromString(data)
        if kind == "explain":
            response.explain.explain_string = without_paths(response.explain.explain_string, needs)
        else:
            files = [without_paths(name, needs) for name in response.input_files.files]
            del response.input_files.files[:]
            response.input_files.files.extend(files)
        shown: bytes = response.SerializeToString()
        return shown

    def _bind(self, streams: BindStream, session: Session, analysis: Any) -> Needs:
        refuse_unknown_fields(analysis)
        needs = Needs()
        for field, value in analysis.ListFields():
            name = field.message_type.full_name if field.message_type is not None else ""
            if name == "spark.connect.Plan":
                if value.WhichOneof("op_type") != "root":
                    raise unsupported("Only queries can be analysed, not commands.")
                needs.add([self._planner.bind(session, value.root, streams)])
            elif name == "spark.connect.Relation":
                needs.add([self._planner.bind(session, value, streams)])
        return needs

    # -- settings -----------------------------------------------------------------------------------------------

    async def config(self, session: Session, request: Any) -> bytes:
        """Read and change settings."""
        operation = request.operation
        kind = operation.WhichOneof("op_type")
        if kind == "set":
            return await self._set(session, request)
        if kind == "unset":
            check_settings(list(operation.unset.keys))
            return await self._commands.unset(session, list(operation.unset.keys))
        keys = _keys(operation, kind)
        if keys and all(key in _COMPRESSION for key in keys):
            return _settings_response(session, [(key, _COMPRESSION[key]) for key in keys])
        if kind == "is_modifiable":
            return _settings_response(session, [(key, str(_modifiable(key)).lower()) for key in keys])
        question: bytes = operation.SerializeToString()
        if question not in session.answers:
            answer = await self._upstream.unary(session, "Config", request)
            if len(session.answers) > _KEPT_ANSWERS:
                session.answers.clear()
            session.answers[question] = answer
        return session.answers[question]

    async def _set(self, session: Session, request: Any) -> bytes:
        pairs = {pair.key: pair.value for pair in request.operation.set.pairs}
        if request.operation.set.silent:
            refused = [key for key in pairs if not _modifiable(key)]
            pairs = {key: value for key, value in pairs.items() if key not in refused}
            if not pairs:
                warnings = [f"The setting {key} is the server's and was not changed." for key in refused]
                response = proto.base.ConfigResponse(
                    session_id=session.id, server_side_session_id=session.server_id, warnings=warnings
                )
                data: bytes = response.SerializeToString()
                return data
        return await self._commands.set(session, pairs)

    # -- uploads ------------------------------------------------------------------------------------------------

    async def add_artifacts(self, session: Session, requests: AsyncIterator[Any]) -> bytes:
        """Keep uploaded files and give them to the session's engine."""
        received = await self._uploads.receive(session, requests)
        names = frozenset(name for name, crc_ok in received if crc_ok)
        async with self._upstream.engine(session, Needs()) as engine:
            await self._uploads.restore(session, engine, names)
        summary = proto.base.AddArtifactsResponse.ArtifactSummary
        response = proto.base.AddArtifactsResponse(
            session_id=session.id,
            server_side_session_id=session.server_id,
            artifacts=[summary(name=name, is_crc_successful=crc_ok) for name, crc_ok in received],
        )
        data: bytes = response.SerializeToString()
        return data

    async def artifact_status(self, session: Session, request: Any) -> bytes:
        """Which files the session has uploaded already."""
        known = self._uploads.names(session)
        response = proto.base.ArtifactStatusesResponse(session_id=session.id, server_side_session_id=session.server_id)
        for name in request.names:
            response.statuses[name].exists = name in known
        data: bytes = response.SerializeToString()
        return data

    # -- interrupts, end, clones --------------------------------------------------------------------------------

    async def interrupt(self, session: Session, request: Any) -> bytes:
        """Stop what runs: all, by tag, or by operation."""
        chosen = [
            operation for operation in session.operations.values() if not operation.done and _meant(request, operation)
        ]
        for operation in chosen:
            if operation.task is not None:
                operation.task.cancel()
        response = proto.base.InterruptResponse(
            session_id=session.id,
            server_side_session_id=session.server_id,
            interrupted_ids=[operation.id for operation in chosen],
        )
        data: bytes = response.SerializeToString()
        return data

    async def release_session(self, session: Session, request: Any) -> bytes:
        """End the session, with all that it kept."""
        await self._streams.end(session.id)
        if session.engine_id is not None:
            self._upstream.forget(session, "ReleaseSession", request)
        for operation in session.operations.values():
            if operation.task is not None and not operation.done:
                operation.task.cancel()
        self._uploads.forget(session)
        self._sessions.close(session)
        response = proto.base.ReleaseSessionResponse(session_id=session.id, server_side_session_id=session.server_id)
        data: bytes = response.SerializeToString()
        return data

    async def clone_session(self, session: Session, request: Any) -> bytes:
        """A new session that starts with this one's views, functions, settings and files."""
        new_id = request.new_session_id or str(uuid4())
        if self._sessions.exists(new_id):
            raise AnalysisError(
                "INVALID_CLONE_SESSION_REQUEST.TARGET_SESSION_ID_ALREADY_EXISTS",
                f"Invalid session clone request. Target session ID {new_id} already exists.",
                sql_state="42K05",
            )
        clone = self._sessions.get(session.principal, new_id)
        clone.current_catalog, clone.current_schema = session.current_catalog, session.current_schema
        clone.temp_views = dict(session.temp_views)
        clone.functions = dict(session.functions)
        clone.table_functions = set(session.table_functions)
        clone.settings = dict(session.settings)
        clone.cluster_id, clone.slice = session.cluster_id, session.slice
        clone.server_id = await self._upstream.server_id(clone)
        await asyncio.to_thread(self._uploads.copy, session, clone)
        response = proto.base.CloneSessionResponse(
            session_id=session.id,
            server_side_session_id=session.server_id,
            new_session_id=new_id,
            new_server_side_session_id=clone.server_id,
        )
        data: bytes = response.SerializeToString()
        return data

    async def get_status(self, session: Session, request: Any) -> bytes:
        """What the asked operations do."""
        kinds = proto.base.GetStatusResponse.OperationStatus
        names = {value.name for value in kinds.OperationState.DESCRIPTOR.values}
        response = proto.base.GetStatusResponse(session_id=session.id, server_side_session_id=session.server_id)
        wanted = list(request.operation_status.operation_ids) or list(session.operations)
        for operation_id in wanted:
            operation = session.operations.get(operation_id)
            state = "UNKNOWN" if operation is None else "SUCCEEDED" if operation.done else "RUNNING"
            found = next((name for name in names if name.endswith(state)), None)
            status = response.operation_statuses.add(operation_id=operation_id)
            if found is not None:
                status.state = kinds.OperationState.Value(found)
        data: bytes = response.SerializeToString()
        return data

    async def fetch_error_details(self, session: Session, _request: Any) -> bytes:
        """Nothing more than the error itself said: it carried its class and parameters."""
        data: bytes = proto.base.FetchErrorDetailsResponse(
            session_id=session.id, server_side_session_id=session.server_id
        ).SerializeToString()
        return data


def _keys(operation: Any, kind: str | None) -> list[str]:
    if kind == "get_with_default":
        return [pair.key for pair in operation.get_with_default.pairs]
    return list(getattr(getattr(operation, kind or ""), "keys", []))


def _modifiable(key: str) -> bool:
    try:
        check_settings([key])
    except AnalysisError:
        return False
    return True


def _settings_response(session: Session, pairs: list[tuple[str, str]]) -> bytes:
    response = proto.base.ConfigResponse(session_id=session.id, server_side_session_id=session.server_id)
    for key, value in pairs:
        response.pairs.add(key=key, value=value)
    data: bytes = response.SerializeToString()
    return data


def _meant(request: Any, operation: Any) -> bool:
    kind = proto.base.InterruptRequest
    if request.interrupt_type == kind.INTERRUPT_TYPE_ALL:
        return True
    if request.interrupt_type == kind.INTERRUPT_TYPE_TAG:
        return request.operation_tag in operation.tags
    return bool(request.operation_id == operation.id)


def _is_streaming(session: Session) -> bytes:
    response = proto.base.AnalyzePlanResponse(session_id=session.id, server_side_session_id=session.server_id)
    response.is_streaming.is_streaming = True
    data: bytes = response.SerializeToString()
    return data


def _comparison(session: Session, request: Any) -> bytes:
    """The answer to what the engine cannot compare; the plans are bound already."""
    response = proto.base.AnalyzePlanResponse(session_id=session.id, server_side_session_id=session.server_id)
    if request.HasField("semantic_hash"):
        response.semantic_hash.result = semantics.semantic_hash(request.semantic_hash.plan)
    else:
        asked = request.same_semantics
        response.same_semantics.result = semantics.same_semantics(asked.target_plan, asked.other_plan)
    data: bytes = response.SerializeToString()
    return data
