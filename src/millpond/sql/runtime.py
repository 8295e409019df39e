"""What runs: the statements of each warehouse, as many at a time as it allows, the others in a queue.

A statement is in this process from when it is sent until its end is in the database.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

from millpond.billing.metering import record
from millpond.engine.sql_client import Cancelled, Sql, SqlCall, SqlClient, SqlError, Value
from millpond.identity import grants
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import MillpondError, ResourceExhausted, Unavailable
from millpond.kernel.logs import get_logger, mask_secrets
from millpond.kernel.settings import SqlSettings
from millpond.sql.costs import request_of
from millpond.sql.domain import (
    MAX_QUEUED,
    Failure,
    Manifest,
    Statement,
    StatementRequest,
    StatementState,
    Warehouse,
    query_grant_id,
)
from millpond.sql.results import ResultStore, ResultWriter, limits_of
from millpond.sql.sessions import Lease, Sessions
from millpond.sql.store import queries as query_rows
from millpond.sql.store import statements as rows

MAX_RUNNING = 128
"""Statements that run at the same time in all warehouses together: each has a thread."""
_STOPPED = "The server stopped while the statement ran; run it again."
_RESTARTED = Failure(code="ABORTED", message="The server was restarted while the statement ran; run it again.")
_HOUSEKEEPING_EVERY_S = 20.0
log = get_logger(__name__)


class Execution:
    """A statement on its way."""

    def __init__(
        self, statement: Statement, principal: Principal, request: StatementRequest, *, timeout_s: float
    ) -> None:
        self.statement = statement
        self.principal = principal
        self.request = request
        self.timeout_s = timeout_s
        self.warehouse = ""
        """Its name."""
        self.ended: Future[Statement] = Future()
        """Done when the statement's end is in the database."""
        self.ended.set_running_or_notify_cancel()  # who waits for it can give up, and not cancel it
        self._lock = threading.Lock()
        self._call: SqlCall | None = None
        self._cancelled = False
        self._reason: Failure | None = None

    def begin(self) -> None:
        """It runs now. Raises Cancelled when somebody does not want it any more."""
        with self._lock:
            if self._cancelled:
                raise Cancelled
            self.statement = replace(self.statement, state=StatementState.RUNNING, started_at=utc_now())

    def calling(self, call: SqlCall) -> SqlCall:
        """Note the call that a cancellation must reach. Raises Cancelled."""
        with self._lock:
            if self._cancelled:
                raise Cancelled
            self._call = call
            return call

    def cancel(self, reason: Failure | None = None) -> None:
        """Stop it: it ends as CANCELED, or as FAILED for a reason."""
        with self._lock:
            if self._cancelled:
                return
            self._cancelled, self._reason = True, reason
            call = self._call
        if call is not None:
            call.cancel()

    @property
    def spent_ms(self) -> int | None:
        """What processor time it took, as far as that is known."""
        return self._call.spent_ms if self._call is not None else None

    def cancelled_end(self) -> Statement:
        """How a cancelled statement ends."""
        state = StatementState.FAILED if self._reason else StatementState.CANCELED
        return replace(self.statement, state=state, failure=self._reason)


@dataclass
class _Pool:
    """One warehouse's places."""

    max_running: int
    running: int = 0
    waiting: deque[Execution] = field(default_factory=deque)
    last_used: float = field(default_factory=time.monotonic)


class Runtime:
    """Runs statements. Thread-safe."""

    def __init__(
        self, *, database: Database, sql: SqlClient, sessions: Sessions, results: ResultStore, settings: SqlSettings
    ) -> None:
        self._database = database
        self._sql = sql
        self._sessions = sessions
        self.results = results
        self._settings = settings
        self._threads = ThreadPoolExecutor(MAX_RUNNING, thread_name_prefix="sql")
        self._lock = threading.Lock()
        self._pools: dict[str, _Pool] = {}
        self._executions: dict[str, Execution] = {}
        self._stopping = False

    # Statements

    def submit(self, execution: Execution, warehouse: Warehouse) -> None:
        """Run a statement when its warehouse has room. Raises ResourceExhausted when too many wait,
        Unavailable when the server stops."""
        with self._lock:
            if self._stopping:
                raise Unavailable(_STOPPED)
            pool = self._pools.setdefault(warehouse.id, _Pool(warehouse.spec.max_running))
            pool.max_running = warehouse.spec.max_running
            pool.last_used = time.monotonic()
            if len(pool.waiting) >= MAX_QUEUED:
                raise ResourceExhausted(
                    f"{MAX_QUEUED} statements wait in the warehouse '{warehouse.spec.name}' already; try again later, "
                    "or use a larger one."
                )
            execution.warehouse = warehouse.spec.name
            self._executions[execution.statement.id] = execution
            pool.waiting.append(execution)
            self._start_waiting(pool)

    def find(self, statement_id: str) -> Execution | None:
        """The statement, while it is on its way."""
        return self._executions.get(statement_id)

    def find_statement(self, statement_id: str) -> Statement | None:
        """The statement as it is now, while it is on its way."""
        execution = self.find(statement_id)
        return execution.statement if execution else None

    def stop_all_of(self, warehouse_id: str, reason: Failure) -> None:
        """End what waits and runs in a warehouse."""
        for execution in list(self._executions.values()):
            if execution.statement.warehouse_id == warehouse_id:
                self.cancel(execution, reason)

    def cancel(self, execution: Execution, reason: Failure | None = None) -> None:
        """End a statement; one that still waits ends at once."""
        execution.cancel(reason)
        with self._lock:
            waiting = self._pools[execution.statement.warehouse_id].waiting
            if execution not in waiting:
                return
            waiting.remove(execution)
        self._write_end(execution, replace(execution.cancelled_end(), ended_at=utc_now()))

    def idle_s(self, warehouse_id: str, *, since: float) -> float:
        """Seconds since a warehouse had a statement, or since a time when it never had one."""
        with self._lock:
            pool = self._pools.get(warehouse_id)
            if pool is None:
                return time.monotonic() - since
            return 0.0 if pool.running or pool.waiting else time.monotonic() - max(pool.last_used, since)

    def _start_waiting(self, pool: _Pool) -> None:
        while pool.waiting and pool.running < pool.max_running:
            pool.running += 1
            self._threads.submit(self._run, pool.waiting.popleft(), pool)

    def _run(self, execution: Execution, pool: _Pool) -> None:
        try:
            with _deadline(execution):
                ended = self._outcome(execution)
            self._write_end(execution, replace(ended, ended_at=utc_now()))
        finally:
            with self._lock:
                pool.running -= 1
                pool.last_used = time.monotonic()
                self._start_waiting(pool)

    def _outcome(self, execution: Execution) -> Statement:
        """How the statement ended; whatever happens, it ends."""
        try:
            execution.begin()
            manifest = self._execute(execution)
            spent_ms = execution.spent_ms
            return replace(execution.statement, state=StatementState.SUCCEEDED, manifest=manifest, spent_ms=spent_ms)
        except Cancelled:
            return execution.cancelled_end()
        except MillpondError as error:
            failure = _failure_of(error)
        except OSError as error:
            log.error("a result cannot be written", statement=execution.statement.id, error=str(error))
            failure = Failure(code="IO_ERROR", message=f"The result cannot be written: {error.strerror}.")
        except Exception as error:  # the boundary of a work item
            log.error("a statement failed", statement=execution.statement.id, exc_info=error)
            failure = Failure(code="INTERNAL_ERROR", message="The server failed on this statement; its log says more.")
        return replace(execution.statement, state=StatementState.FAILED, failure=failure)

    def _execute(self, execution: Execution) -> Manifest:
        try:
            return self._execute_once(execution, retry=True)
        except _Again:
            return self._execute_once(execution, retry=False)

    def _execute_once(self, execution: Execution, *, retry: bool) -> Manifest:
        statement, request = execution.statement, execution.request
        with self._sessions.lease(execution.principal, request, statement.kind) as lease:
            try:
                return self._stream(execution, lease)
            except SqlError as error:
                if self._sessions.is_lost(lease, error, request) and retry:
                    raise _Again from error
                raise

    def _stream(self, execution: Execution, lease: Lease) -> Manifest:
        request = execution.request
        one_more = None if request.row_limit is None else request.row_limit + 1  # to know whether there are more
        call = execution.calling(
            self._sql.run(
                execution.principal,
                lease.spark,
                _sql_of(execution),
                row_limit=one_more,
                statement_id=execution.statement.id,
            )
        )
        limits = limits_of(request.row_limit, request.byte_limit, request.disposition)
        writer = ResultWriter(self.results, execution.statement, limits)
        for batch in call.batches():
            if not writer.add(batch):
                break
        manifest = writer.finish(call.schema)
        self._close(writer.evicted)
        return manifest

    def _write_end(self, execution: Execution, ended: Statement) -> None:
        """Into the database first, then to who waits. While the database is away, the statement stays here."""
        if ended.state is StatementState.SUCCEEDED:
            self.results.room.keep(ended)
        else:
            self.results.remove(ended.id)
        execution.statement = ended
        try:
            with self._database.write() as connection:
                if rows.end(connection, ended):
                    record(connection, utc_now(), [request_of(ended, execution.warehouse)])
            del self._executions[ended.id]
        except Exception as error:  # the boundary of a work item; `keep_house` tries again
            log.error("the end of a statement cannot be written yet", statement=ended.id, exc_info=error)
        execution.ended.set_result(ended)

    def _close(self, statement_ids: list[str]) -> None:
        """Note that results are gone, then remove them."""
        if not statement_ids:
            return
        with self._database.write() as connection:
            rows.close(connection, statement_ids)
        for statement_id in statement_ids:
            self.results.remove(statement_id)

    def close(self, statement_id: str) -> None:
        """Remove a result."""
        self._close([statement_id])

    # Housekeeping

    @contextmanager
    def at_work(self, also: Callable[[], None]) -> Iterator[None]:
        """While the block runs, clean up now and then; `also` is called each time."""
        with self._database.write() as connection:
            failed = rows.fail_unended(connection, _RESTARTED, utc_now())
            kept = rows.list_succeeded(connection)
        if failed:
            log.warning("statements were cut off by a restart", count=failed)
        self.results.open(kept)
        stopped = threading.Event()
        thread = threading.Thread(target=self._house, args=(stopped, also), name="sql-housekeeping", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            self.stop()
            self._threads.shutdown(wait=True)
            thread.join(10)

    def stop(self) -> None:
        """End what waits and runs, and take no more: for who would wait for it while the server stops."""
        with self._lock:
            self._stopping = True
        for execution in list(self._executions.values()):
            self.cancel(execution, Failure(code="ABORTED", message=_STOPPED))

    def _house(self, stopped: threading.Event, also: Callable[[], None]) -> None:
        while not stopped.wait(_HOUSEKEEPING_EVERY_S):
            try:
                self.keep_house()
                also()
            except Exception as error:  # the boundary of a work item
                log.error("housekeeping of SQL failed", exc_info=error)

    def keep_house(self) -> None:
        """Write ends that could not be written; drop what is too old."""
        now = utc_now()
        for execution in list(self._executions.values()):
            if execution.ended.done():
                with self._database.write() as connection:
                    rows.end(connection, execution.statement)
                self._executions.pop(execution.statement.id, None)
        self._close(self.results.room.older_than(now - timedelta(seconds=self._settings.result_ttl_s)))
        self._sessions.close_idle()
        forget = now - timedelta(days=self._settings.history_days)
        with self._database.write() as connection:
            rows.purge(connection, forget)
            grants.forget(connection, [query_grant_id(each) for each in query_rows.purge(connection, forget)])


class _Again(Exception):
    """The session was lost before anything ran; another one may be taken."""


@contextmanager
def _deadline(execution: Execution) -> Iterator[None]:
    """Cancel a statement that takes longer than it may."""
    if not execution.timeout_s:
        yield
        return
    reason = Failure(
        code="DEADLINE_EXCEEDED",
        message=f"The statement took longer than the {execution.timeout_s:g} s that its warehouse or session allows.",
        sql_state="57KD0",
    )
    timer = threading.Timer(execution.timeout_s, execution.cancel, [reason])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _sql_of(execution: Execution) -> Sql:
    parameters = execution.request.parameters
    ordered = sorted((one for one in parameters if one.name is None), key=lambda one: one.ordinal or 0)
    return Sql(
        text=execution.statement.text,
        named={one.name: Value(text=one.value, type=one.type.strip()) for one in parameters if one.name is not None},
        positional=tuple(Value(text=one.value, type=one.type.strip()) for one in ordered),
        is_query=execution.statement.kind == "SELECT",
    )


def _failure_of(error: MillpondError) -> Failure:
    """The error as the API names it; those of SQL are the sender's unless the SQLSTATE says otherwise."""
    message = mask_secrets(error.message)
    if not isinstance(error, SqlError):
        return Failure(code=_CODES.get(error.code, "BAD_REQUEST"), message=message)
    code = _CODE_OF_SQL_CLASS.get(error.sql_state[:2], "BAD_REQUEST")
    return Failure(code=code, message=message, sql_state=error.sql_state)


_CODES = {
    "RESOURCE_EXHAUSTED": "RESOURCE_EXHAUSTED",
    "RESOURCE_DOES_NOT_EXIST": "NOT_FOUND",
    "TEMPORARILY_UNAVAILABLE": "TEMPORARILY_UNAVAILABLE",
    "DEADLINE_EXCEEDED": "DEADLINE_EXCEEDED",
    "INTERNAL_ERROR": "INTERNAL_ERROR",
    "UNAUTHENTICATED": "UNAUTHENTICATED",
}
_CODE_OF_SQL_CLASS = {
    "XX": "INTERNAL_ERROR",
    "08": "TEMPORARILY_UNAVAILABLE",
    "53": "RESOURCE_EXHAUSTED",
    "57": "TEMPORARILY_UNAVAILABLE",
    "58": "IO_ERROR",
}
