"""SQL through the gateway: sessions, and statements whose result streams as Arrow."""

import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pyarrow as pa

from millpond.catalog.names import quote
from millpond.engine import proto
from millpond.engine.client import GatewayClient, error_of, spark_failure
from millpond.engine.own_client import OWN_CLIENT, SPENT_MS, STATEMENT_TAG
from millpond.identity.domain import Principal
from millpond.kernel.errors import DeadlineExceeded, MillpondError

SESSION_LOST = "INVALID_HANDLE.SESSION_CHANGED"
_INTERRUPT_TIMEOUT_S = 5.0


class SqlError(MillpondError):
    """What a statement failed with, in the words that a Spark user sees."""

    code = "INVALID_PARAMETER_VALUE"

    def __init__(self, message: str, *, error_class: str, sql_state: str) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.sql_state = sql_state


class Cancelled(Exception):
    """The statement was cancelled before it ended."""


@dataclass(frozen=True, kw_only=True)
class Value:
    """A parameter: text that the engine converts to a SQL type; None is NULL."""

    text: str | None
    type: str

    def expression(self) -> Any:
        """It as the engine binds it. The text is never part of a statement."""
        literal = proto.expressions.Expression.Literal
        value = literal(null=proto.types.DataType(null=proto.types.DataType.NULL()))
        if self.text is not None:
            value = literal(string=self.text)
        inner = proto.expressions.Expression(literal=value)
        if self.type.upper() in {"STRING", "VOID"}:
            return inner
        return proto.expressions.Expression(
            cast=proto.expressions.Expression.Cast(expr=inner, type_str=self.type.lower())
        )


@dataclass(frozen=True, kw_only=True)
class SqlSession:
    """A Spark session of a principal. `server_id` proves to the gateway that it is not a new one of the same name."""

    id: str
    server_id: str


@dataclass(frozen=True, kw_only=True)
class Sql:
    """A statement's text and the values of its markers."""

    text: str
    named: Mapping[str, Value] = field(default_factory=dict)
    positional: Sequence[Value] = ()
    is_query: bool = False
    """Whether it surely is a query, which then costs one call and not two."""

    def relation(self) -> Any:
        """It as a relation."""
        sql = proto.relations.SQL(query=self.text)
        for name, value in self.named.items():
            sql.named_arguments[name].CopyFrom(value.expression())
        sql.pos_arguments.extend(value.expression() for value in self.positional)
        return proto.relations.Relation(sql=sql)


@dataclass(frozen=True, kw_only=True)
class Computed:
    """Expressions over rows that are given."""

    rows: pa.Table
    expressions: Sequence[str]
    """SQL, as after SELECT."""
    is_query: bool = True

    def relation(self) -> Any:
        """It as a relation."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.rows.schema) as stream:
            stream.write_table(self.rows)
        local = proto.relations.LocalRelation(data=sink.getvalue().to_pybytes())
        string = proto.expressions.Expression.ExpressionString
        made = [proto.expressions.Expression(expression_string=string(expression=text)) for text in self.expressions]
        given = proto.relations.Relation(local_relation=local)
        return proto.relations.Relation(project=proto.relations.Project(input=given, expressions=made))


class SqlClient:
    """Opens sessions and runs statements."""

    def __init__(self, gateway: GatewayClient) -> None:
        self._gateway = gateway

    def open_session(
        self,
        principal: Principal,
        *,
        catalog: str | None = None,
        schema: str | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> SqlSession:
        """A fresh session in which names mean those of a catalog and schema. Raises SqlError when there are none."""
        session = SqlSession(id=str(uuid.uuid4()), server_id="")
        calls = proto.catalog.Catalog
        if schema is not None:
            name = ".".join(map(quote, [part for part in (catalog, schema) if part]))
            call = calls(set_current_database=proto.catalog.SetCurrentDatabase(db_name=name))
        elif catalog is not None:
            call = calls(set_current_catalog=proto.catalog.SetCurrentCatalog(catalog_name=catalog))
        else:
            call = calls(current_catalog=proto.catalog.CurrentCatalog())
        plan = proto.base.Plan(root=proto.relations.Relation(catalog=call))
        server_id = session.id
        try:
            for response in self._gateway.stream(principal, _request(session, plan), timeout_s=60):
                server_id = response.server_side_session_id or server_id
            if settings:
                self._set(principal, session, settings)
        except grpc.RpcError as error:
            raise _sql_error(error) from error
        return SqlSession(id=session.id, server_id=server_id)

    def _set(self, principal: Principal, session: SqlSession, settings: Mapping[str, str]) -> None:
        pairs = [proto.base.KeyValue(key=key, value=value) for key, value in settings.items()]
        operation = proto.base.ConfigRequest.Operation(set=proto.base.ConfigRequest.Set(pairs=pairs))
        request = proto.base.ConfigRequest(session_id=session.id, operation=operation)
        self._gateway.unary(principal, "Config", request, proto.base.ConfigResponse)

    def close_session(self, principal: Principal, session: SqlSession) -> None:
        """End a session; one that is gone, or a gateway that is, is no error."""
        request = proto.base.ReleaseSessionRequest(session_id=session.id)
        try:
            self._gateway.unary(principal, "ReleaseSession", request, proto.base.ReleaseSessionResponse)
        except grpc.RpcError:
            return  # the gateway forgets sessions by itself, and all of them when it ends

    def rows(self, principal: Principal, query: str, limit: int, *, timeout_s: float | None = None) -> pa.Table:
        """The first rows of a query, in a session of its own. Blocks. Raises SqlError, DeadlineExceeded."""
        return self._rows(principal, Sql(text=query, is_query=True), limit, timeout_s)

    def computed(self, principal: Principal, rows: pa.Table, expressions: Sequence[str]) -> pa.Table:
        """Expressions over each of some rows, in a session of its own. Blocks. Raises SqlError."""
        return self._rows(principal, Computed(rows=rows, expressions=expressions), None, None)

    def _rows(self, principal: Principal, sql: Sql | Computed, limit: int | None, timeout_s: float | None) -> pa.Table:
        session = self.open_session(principal)
        try:
            call = self.run(principal, session, sql, row_limit=limit)
            with _ended_after(call, timeout_s):
                batches = list(call.batches())
            return pa.Table.from_batches(batches, schema=call.schema)
        finally:
            self.close_session(principal, session)

    def run(
        self,
        principal: Principal,
        session: SqlSession,
        sql: Sql | Computed,
        *,
        row_limit: int | None = None,
        statement_id: str = "",
    ) -> "SqlCall":
        """A statement that is about to run; lineage knows it by its id."""
        return SqlCall(self._gateway, principal, session, sql, row_limit, statement_id)


class SqlCall:
    """One statement on its way. `batches` is iterated once, by one thread; `cancel` may come from any."""

    def __init__(
        self,
        gateway: GatewayClient,
        principal: Principal,
        session: SqlSession,
        sql: Sql | Computed,
        row_limit: int | None,
        statement_id: str,
    ) -> None:
        self._gateway = gateway
        self._principal = principal
        self._session = session
        self._sql = sql
        self._row_limit = row_limit
        self._tags = [STATEMENT_TAG + statement_id] if statement_id else []
        self._lock = threading.Lock()
        self._cancelled = False
        self._running: tuple[str, Any] | None = None
        self.spent_ms: int | None = None
        """What processor time its plans took, as far as that is known."""
        self.schema: pa.Schema | None = None
        """Known when the first batch has come, or all have."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The result, as it comes. Raises SqlError, Cancelled."""
        try:
            relation = self._sql.relation()
            if not self._sql.is_query:
                relation = self._command(relation)
            if relation.WhichOneof("rel_type") == "local_relation":
                yield from self._decoded(relation.local_relation.data)
            else:
                yield from self._query(relation)
        except grpc.RpcError as error:
            if self._cancelled:
                raise Cancelled from error
            raise _sql_error(error) from error

    def cancel(self) -> None:
        """Stop it. What has changed a table already stays changed."""
        with self._lock:
            self._cancelled = True
            running = self._running
        if running is None:
            return
        operation, call = running
        kind = proto.base.InterruptRequest
        request = kind(
            session_id=self._session.id,
            interrupt_type=kind.INTERRUPT_TYPE_OPERATION_ID,
            operation_id=operation,
        )
        try:
            self._gateway.unary(
                self._principal, "Interrupt", request, proto.base.InterruptResponse, timeout_s=_INTERRUPT_TIMEOUT_S
            )
        except grpc.RpcError:
            pass  # then nothing listens that could go on with it
        finally:
            call.cancel()

    def _command(self, relation: Any) -> Any:
        """The relation that holds, or computes, the answer to a statement."""
        command = proto.commands.Command(sql_command=proto.commands.SqlCommand(input=relation))
        answer = None
        for response in self._responses(proto.base.Plan(command=command)):
            if response.HasField("sql_command_result"):
                answer = response.sql_command_result.relation
        if answer is None:
            raise SqlError("The engine gave no answer.", error_class="INTERNAL_ERROR", sql_state="XX000")
        return answer

    def _query(self, relation: Any) -> Iterator[pa.RecordBatch]:
        if self._row_limit is not None:
            limit = proto.relations.Limit(input=relation, limit=min(self._row_limit, (1 << 31) - 1))
            relation = proto.relations.Relation(limit=limit)
        for response in self._responses(proto.base.Plan(root=relation)):
            if response.HasField("arrow_batch"):
                yield from self._decoded(response.arrow_batch.data)

    def _decoded(self, data: bytes) -> Iterator[pa.RecordBatch]:
        with pa.ipc.open_stream(data) as reader:
            self.schema = reader.schema
            yield from reader

    def _responses(self, plan: Any) -> Iterator[Any]:
        request = _request(self._session, plan)
        request.tags.extend(self._tags)
        with self._lock:
            if self._cancelled:
                raise Cancelled
            call = self._gateway.stream(self._principal, request)
            self._running = (request.operation_id, call)
        try:
            yield from call
            for key, value in call.trailing_metadata() or ():
                if key == SPENT_MS:
                    self.spent_ms = (self.spent_ms or 0) + int(value)
        finally:
            call.cancel()


@contextmanager
def _ended_after(call: SqlCall, timeout_s: float | None) -> Iterator[None]:
    """Cancel a call that takes longer. Raises DeadlineExceeded."""
    if timeout_s is None:
        yield
        return
    timer = threading.Timer(timeout_s, call.cancel)
    timer.start()
    try:
        yield
    except Cancelled as error:
        raise DeadlineExceeded(f"The query did not end within {timeout_s:g} s, and was stopped.") from error
    finally:
        timer.cancel()


def _request(session: SqlSession, plan: Any) -> Any:
    request = proto.base.ExecutePlanRequest(
        session_id=session.id, operation_id=str(uuid.uuid4()), plan=plan, client_type=OWN_CLIENT
    )
    if session.server_id:
        request.client_observed_server_side_session_id = session.server_id
    return request


def _sql_error(error: grpc.RpcError) -> MillpondError:
    failure = spark_failure(error)
    if not failure.error_class:
        return error_of(error)
    message = error.details() or "The engine failed without saying why."
    return SqlError(message, error_class=failure.error_class, sql_state=failure.sql_state)
