"""What one can do with statements: send them, look at them, fetch their results, cancel them."""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa

from millpond.billing.quotas import QuotaService
from millpond.identity.access import Act, require
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import FailedPrecondition, InvalidArgument, NotFound
from millpond.kernel.ids import new_id
from millpond.sql.domain import (
    Statement,
    StatementRequest,
    StatementState,
    checked_request,
    statement_kind,
)
from millpond.sql.results import ResultStore
from millpond.sql.runtime import Execution, Runtime
from millpond.sql.sessions import Opened, Sessions
from millpond.sql.store import statements as rows
from millpond.sql.warehouses import WarehouseService

LINK_TTL = timedelta(minutes=15)
"""Source: Statement Execution API, "External-link URLs"."""


class StatementService:
    """Statements and sessions, for users. All but `wait` blocks."""

    def __init__(
        self,
        *,
        database: Database,
        runtime: Runtime,
        sessions: Sessions,
        results: ResultStore,
        warehouses: WarehouseService,
        quotas: QuotaService,
        result_ttl_s: float,
    ) -> None:
        self._database = database
        self._runtime = runtime
        self._sessions = sessions
        self._results = results
        self._warehouses = warehouses
        self._quotas = quotas
        self._result_ttl_s = result_ttl_s

    # Sending

    def submit(self, principal: Principal, request: StatementRequest) -> Statement:
        """Send a statement; it runs when its warehouse has room.

        Raises InvalidArgument, NotFound (the warehouse, the session), ResourceExhausted, LimitExceeded (a quota).
        """
        checked_request(request)
        warehouse = self._warehouses.require(principal, request.warehouse_id, Act.USE)
        self._quotas.check(principal, tags=request.tags)
        timeout_s = float(warehouse.spec.statement_timeout_s)
        if request.session_id is not None:
            session = self._sessions.get(principal, request.session_id)
            timeout_s = min(filter(None, (timeout_s, float(session.statement_timeout_s))), default=0.0)
        self._warehouses.wake(principal, warehouse)
        statement = Statement(
            id=new_id(),
            principal_id=principal.id,
            principal_name=principal.name,
            warehouse_id=warehouse.id,
            session_id=request.session_id,
            text=request.text,
            kind=statement_kind(request.text),
            client=request.client[:255],
            tags=request.tags,
            disposition=request.disposition,
            format=request.format,
            state=StatementState.PENDING,
            submitted_at=utc_now(),
        )
        with self._database.write() as connection:
            rows.add(connection, statement)
        execution = Execution(statement, principal, request, timeout_s=timeout_s)
        try:
            self._runtime.submit(execution, warehouse)
        except Exception:
            with self._database.write() as connection:
                rows.remove(connection, statement.id)
            raise
        return statement

    async def wait(self, statement: Statement, timeout_s: float) -> Statement:
        """The statement when it has ended, or as it is after a time."""
        execution = self._runtime.find(statement.id)
        if execution is None:
            return await asyncio.to_thread(self._find, statement.id)
        ended = asyncio.wrap_future(execution.ended)
        done, _ = await asyncio.wait([ended], timeout=timeout_s)
        return ended.result() if done else execution.statement

    def ended(self, statement: Statement, timeout_s: float) -> Statement:
        """The same, for a thread that may block."""
        execution = self._runtime.find(statement.id)
        if execution is None:
            return self._find(statement.id)
        try:
            return execution.ended.result(timeout_s)
        except TimeoutError:
            return execution.statement

    # Looking

    def get(self, principal: Principal, statement_id: str) -> Statement:
        """A statement. Raises NotFound, for another's too."""
        return self._require(principal, statement_id, Act.SEE)

    def chunk(self, principal: Principal, statement_id: str, index: int) -> pa.Table:
        """The rows of a chunk. Raises NotFound, FailedPrecondition."""
        self.require_chunk(principal, statement_id, index)
        return self._results.read(statement_id, index)

    def chunk_file(self, principal: Principal, statement_id: str, index: int) -> Path:
        """The Arrow stream of a chunk, as a file. Raises NotFound, FailedPrecondition."""
        self.require_chunk(principal, statement_id, index)
        return self._results.path(statement_id, index)

    def require_chunk(self, principal: Principal, statement_id: str, index: int) -> Statement:
        """The statement, when its result has this chunk. Raises NotFound, FailedPrecondition."""
        statement = self._require(principal, statement_id, Act.READ)
        if statement.state is StatementState.CLOSED:
            raise NotFound(f"The result of statement {statement_id} is gone; run it again.")
        if statement.state is not StatementState.SUCCEEDED or statement.manifest is None:
            raise FailedPrecondition(f"Statement {statement_id} is {statement.state}; it has no result.")
        if not 0 <= index < len(statement.manifest.chunks):
            last = len(statement.manifest.chunks) - 1
            raise InvalidArgument(f"The result of statement {statement_id} has chunks 0 to {last}, not {index}.")
        return statement

    def link_expiry(self, statement: Statement) -> datetime:
        """Until when a link to a statement's result is good."""
        gone = (statement.ended_at or utc_now()) + timedelta(seconds=self._result_ttl_s)
        return min(utc_now() + LINK_TTL, gone)

    # Ending

    def cancel(self, principal: Principal, statement_id: str) -> None:
        """Cancel a statement; harmless when it has ended. Raises NotFound."""
        self._require(principal, statement_id, Act.MANAGE)
        execution = self._runtime.find(statement_id)
        if execution is not None:
            self._runtime.cancel(execution)

    def close(self, principal: Principal, statement_id: str) -> None:
        """Cancel a statement, or remove its result. Raises NotFound."""
        self.cancel(principal, statement_id)
        self._runtime.close(statement_id)

    # Sessions

    def open_session(
        self,
        principal: Principal,
        warehouse_id: str,
        *,
        catalog: str | None = None,
        schema: str | None = None,
        settings: dict[str, str] | None = None,
    ) -> Opened:
        """Open a session. Raises NotFound, InvalidArgument, ResourceExhausted."""
        warehouse = self._warehouses.require(principal, warehouse_id, Act.USE)
        self._warehouses.wake(principal, warehouse)
        return self._sessions.open(principal, warehouse_id, catalog=catalog, schema=schema, settings=settings or {})

    def close_session(self, principal: Principal, session_id: str) -> None:
        """End a session. Raises NotFound."""
        self._sessions.close(principal, session_id)

    def _require(self, principal: Principal, statement_id: str, act: Act) -> Statement:
        statement = self._find(statement_id)
        require(principal, act, statement.securable(principal))
        return statement

    def _find(self, statement_id: str) -> Statement:
        execution = self._runtime.find(statement_id)
        if execution is not None:
            return execution.statement
        with self._database.read() as connection:
            found = rows.find(connection, statement_id)
        if found is None:
            raise NotFound(f"Statement '{statement_id[:80]}' does not exist.")
        return found
