"""A small Spark Connect client, with which this server's own pages and services ask the gateway as somebody.

So they see what that principal sees through any client: one place of names, filters and masks. `sql_client.py` runs
SQL over it.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
from google.rpc import error_details_pb2, status_pb2

from millpond.engine import proto
from millpond.engine.wire import STATUS_KEY
from millpond.home import socket_address
from millpond.identity.domain import Principal, Work
from millpond.kernel.errors import (
    DeadlineExceeded,
    InvalidArgument,
    MillpondError,
    NotFound,
    PermissionDenied,
    Unavailable,
)

_SERVICE = "/spark.connect.SparkConnectService"
_TOKEN_TTL_S = 600.0
_TOKEN_REUSED_S = 60.0
_KEPT_TOKENS = 1000
_ERROR_OF_STATUS: Mapping[grpc.StatusCode, type[MillpondError]] = {
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
}


@dataclass(frozen=True, kw_only=True)
class SparkFailure:
    """What Spark calls an error: empty where the gateway did not say."""

    error_class: str = ""
    sql_state: str = ""


class GatewayClient:
    """Calls of the gateway as a principal, over one channel. Every method blocks."""

    def __init__(self, socket_path: Path, mint: Callable[..., str]) -> None:
        """`socket_path` is the gateway's Unix socket; `mint` gives a short-lived token of a principal, for `paths`."""
        self._socket_path = socket_path
        self._kept = ExitStack()
        self._mint = mint
        self._sessions = uuid.uuid4()
        self._channel: grpc.Channel | None = None
        self._lock = threading.Lock()
        self._tokens: dict[tuple[str, tuple[str, ...] | None, Work | None], tuple[float, str]] = {}

    def read_table(self, principal: Principal, name: str, *, limit: int, timeout_s: float = 60) -> pa.Table:
        """The first `limit` rows of a table or view, its name quoted part by part.

        Raises the error that the principal would see in PySpark, as one of ours.
        """
        table = proto.relations.Read(named_table=proto.relations.Read.NamedTable(unparsed_identifier=name))
        rows = proto.relations.Limit(input=proto.relations.Relation(read=table), limit=limit)
        plan = proto.base.Plan(root=proto.relations.Relation(limit=rows))
        request = proto.base.ExecutePlanRequest(
            session_id=str(uuid.uuid5(self._sessions, f"{principal.id} {principal.work}")),
            plan=plan,
            client_type="millpond",
        )
        batches: list[pa.RecordBatch] = []
        schema: pa.Schema | None = None
        try:
            for response in self.stream(principal, request, timeout_s=timeout_s):
                if response.HasField("arrow_batch"):
                    with pa.ipc.open_stream(response.arrow_batch.data) as reader:
                        schema = reader.schema
                        batches += list(reader)
        except grpc.RpcError as error:
            raise error_of(error) from error
        return pa.Table.from_batches(batches, schema=schema or pa.schema([]))

    def stream(self, principal: Principal, request: Any, *, timeout_s: float | None = None) -> Any:
        """An ExecutePlan call: an iterator of responses that raises grpc.RpcError and can be cancelled."""
        request.user_context.user_id = principal.name
        call = self._open().unary_stream(
            f"/{proto.SERVICE}/ExecutePlan",
            request_serializer=proto.base.ExecutePlanRequest.SerializeToString,
            response_deserializer=proto.base.ExecutePlanResponse.FromString,
        )
        return call(request, timeout=timeout_s, metadata=self._metadata(principal))

    def unary(self, principal: Principal, method: str, request: Any, response: Any, *, timeout_s: float = 10) -> Any:
        """One call with one answer. Raises grpc.RpcError."""
        request.user_context.user_id = principal.name
        call = self._open().unary_unary(
            f"/{proto.SERVICE}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        return call(request, timeout=timeout_s, metadata=self._metadata(principal))

    def _metadata(self, principal: Principal) -> tuple[tuple[str, str], ...]:
        """The same token for a while, because the gateway knows one that it has just seen."""
        now = time.monotonic()
        holder = (principal.id, principal.paths, principal.work)
        until, token = self._tokens.get(holder, (0.0, ""))
        if until < now:  # users' code gets no more by SQL than its own token is good for
            paths = None if principal.paths is None else (*principal.paths, _SERVICE)
            token = self._mint(principal, _TOKEN_TTL_S, paths=paths, work=principal.work)
            if len(self._tokens) > _KEPT_TOKENS:
                self._tokens.clear()
            self._tokens[holder] = (now + _TOKEN_REUSED_S, token)
        return (("authorization", f"Bearer {token}"),)

    def _open(self) -> grpc.Channel:
        with self._lock:
            if self._channel is None:
                options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
                address = self._kept.enter_context(socket_address(self._socket_path))
                self._channel = grpc.insecure_channel(f"unix:{address}", options=options)
            return self._channel


def error_of(error: grpc.RpcError) -> MillpondError:
    """The gateway's error as one of ours."""
    kind = _ERROR_OF_STATUS.get(error.code(), InvalidArgument)
    return kind(error.details() or "The engine failed without saying why.")


def spark_failure(error: grpc.RpcError) -> SparkFailure:
    """What Spark calls the gateway's error."""
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_KEY:
            for info in _error_infos(value):
                return SparkFailure(
                    error_class=info.metadata.get("errorClass", ""), sql_state=info.metadata.get("sqlState", "")
                )
    return SparkFailure()


def _error_infos(status: bytes) -> Iterator[Any]:
    for detail in status_pb2.Status.FromString(status).details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            yield error_details_pb2.ErrorInfo.FromString(detail.value)
