"""The Statement Execution API, and the sessions of databricks-sql-connector.

A link to a chunk is good by itself, for whoever has it, until it expires: the signature in it names the statement's
sender and this one path.
"""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from millpond.identity.domain import Principal
from millpond.identity.middleware import LINK_PARAMETER, current_principal
from millpond.identity.service import IdentityService
from millpond.kernel.clock import rfc3339, utc_now
from millpond.sql.domain import Disposition, Format, Statement, StatementState
from millpond.sql.formats import csv_bytes, json_bytes, text_rows
from millpond.sql.statements import StatementService
from millpond.sql.wire import (
    SessionInput,
    StatementInput,
    chunk_json,
    chunk_path,
    manifest_json,
    status_json,
)

_API = "/api/2.0/sql/statements"
_SESSIONS = "/api/2.0/sql/sessions"
_CHUNK = _API + "/{statement_id}/result/chunks/{index}"
_CANCEL_WAIT_S = 10.0
_ATTACHED_BYTES = 5 << 20
"""A result of one chunk up to this size travels inside the answer when the client leaves us the choice."""
_BLOCK_BYTES = 1 << 20
_TYPES = {
    Format.ARROW_STREAM: "application/vnd.apache.arrow.stream",
    Format.JSON_ARRAY: "application/json",
    Format.CSV: "text/csv; charset=utf-8",
}
_Me = Annotated[Principal, Depends(current_principal)]


def add(routes: APIRouter, service: StatementService, identity: IdentityService, public_url: str | None) -> None:
    """Statements, their results, and sessions."""
    answers = _Answers(service, identity, public_url)
    _add_statements(routes, service, answers)
    _add_results(routes, service, answers)
    _add_sessions(routes, service)


def _add_statements(routes: APIRouter, service: StatementService, answers: "_Answers") -> None:
    @routes.post(_API)
    async def execute(me: _Me, body: StatementInput, request: Request) -> Response:
        wait_s = body.wait_s
        wanted = body.request(request.headers.get("user-agent", ""))
        statement = await run_in_threadpool(service.submit, me, wanted)
        if wait_s:
            statement = await service.wait(statement, wait_s)
        if wait_s and not statement.state.is_final and body.on_wait_timeout == "CANCEL":
            await run_in_threadpool(service.cancel, me, statement.id)
            statement = await service.wait(statement, _CANCEL_WAIT_S)
        return await run_in_threadpool(answers.statement, me, statement, request)

    @routes.get(_API + "/{statement_id}")
    def get(me: _Me, statement_id: str, request: Request) -> Response:
        return answers.statement(me, service.get(me, statement_id), request)

    @routes.post(_API + "/{statement_id}/cancel")
    def cancel(me: _Me, statement_id: str) -> dict[str, Any]:
        service.cancel(me, statement_id)
        return {}

    @routes.delete(_API + "/{statement_id}")
    def close(me: _Me, statement_id: str) -> dict[str, Any]:
        service.close(me, statement_id)
        return {}


def _add_results(routes: APIRouter, service: StatementService, answers: "_Answers") -> None:
    @routes.get(_CHUNK)
    def chunk(me: _Me, statement_id: str, index: int, request: Request) -> Response:
        statement = service.require_chunk(me, statement_id, index)
        return _json(answers.chunk(me, statement, index, request))

    @routes.get(_CHUNK + "/data")
    def data(
        me: _Me, statement_id: str, index: int, form: Annotated[Format, Query(alias="format")] = Format.ARROW_STREAM
    ) -> Response:
        headers = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}
        if form is Format.ARROW_STREAM:
            path = service.chunk_file(me, statement_id, index)
            headers["Content-Length"] = str(path.stat().st_size)
            return StreamingResponse(_blocks(path), media_type=_TYPES[form], headers=headers)
        table = service.chunk(me, statement_id, index)
        body = json_bytes(table) if form is Format.JSON_ARRAY else csv_bytes(table, header=index == 0)
        return Response(body, media_type=_TYPES[form], headers=headers)

    @routes.get("/api/millpond/sql/statements/{statement_id}/csv")
    def whole_csv(me: _Me, statement_id: str) -> Response:
        statement = service.require_chunk(me, statement_id, 0)
        count = len(statement.manifest.chunks) if statement.manifest else 0
        parts = (csv_bytes(service.chunk(me, statement_id, index), header=index == 0) for index in range(count))
        disposition = {"Content-Disposition": f'attachment; filename="{statement_id}.csv"'}
        return StreamingResponse(parts, media_type=_TYPES[Format.CSV], headers=disposition)


def _add_sessions(routes: APIRouter, service: StatementService) -> None:
    @routes.post(_SESSIONS)
    def open_session(me: _Me, body: SessionInput) -> dict[str, Any]:
        opened = service.open_session(
            me,
            body.warehouse_id,
            catalog=body.catalog or None,
            schema=body.schema_ or None,
            settings=body.session_confs,
        )
        return {"session_id": opened.id}

    @routes.delete(_SESSIONS + "/{session_id}")
    def close_session(me: _Me, session_id: str) -> dict[str, Any]:
        service.close_session(me, session_id)
        return {}


class _Answers:
    """The answers about statements, as their clients read them."""

    def __init__(self, service: StatementService, identity: IdentityService, public_url: str | None) -> None:
        self._service = service
        self._identity = identity
        self._public_url = public_url

    def statement(self, me: Principal, statement: Statement, request: Request) -> Response:
        """StatementResponse: with the result's first chunk when there is one."""
        answer: dict[str, Any] = {"statement_id": statement.id, "status": status_json(statement)}
        if statement.state is StatementState.SUCCEEDED and statement.manifest is not None:
            answer["manifest"] = manifest_json(statement.manifest, statement.format)
            answer["result"] = self.chunk(me, statement, 0, request) if statement.manifest.chunks else {}
        return _json(answer)

    def chunk(self, me: Principal, statement: Statement, index: int, request: Request) -> dict[str, Any]:
        """ResultData: the rows of a chunk, or the link to them."""
        found = chunk_json(statement, index)
        if statement.disposition is Disposition.INLINE or self._is_attached(statement):
            return found | self._rows(me, statement, index)
        path = chunk_path(statement.id, index) + "/data"
        expires = self._service.link_expiry(statement)
        token = self._identity.mint(me, (expires - utc_now()).total_seconds(), paths=[path])
        base_url = (self._public_url or str(request.base_url)).rstrip("/")
        link = f"{base_url}{path}?format={statement.format.value}&{LINK_PARAMETER}={token}"
        return {"external_links": [found | {"external_link": link, "expiration": rfc3339(expires)}]}

    def _rows(self, me: Principal, statement: Statement, index: int) -> dict[str, Any]:
        if statement.format is Format.ARROW_STREAM:
            data = self._service.chunk_file(me, statement.id, index).read_bytes()
            return {"attachment": base64.b64encode(data).decode()}
        return {"data_array": list(text_rows(self._service.chunk(me, statement.id, index)))}

    @staticmethod
    def _is_attached(statement: Statement) -> bool:
        manifest = statement.manifest
        return (
            statement.disposition is Disposition.HYBRID
            and manifest is not None
            and len(manifest.chunks) == 1
            and manifest.size_bytes <= _ATTACHED_BYTES
            and statement.format is not Format.CSV
        )


def _json(value: Any) -> Response:
    """JSON without FastAPI's walk over each value, which costs more than a small statement."""
    return Response(orjson.dumps(value), media_type="application/json")


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK_BYTES):
            yield block
