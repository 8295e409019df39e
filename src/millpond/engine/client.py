"""A small Spark Connect client, with which this server's own pages and services ask the gateway as somebody.

So they see what that principal sees through any client: one place of names, filters and masks.
"""

import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa

from millpond.engine import proto
from millpond.home import socket_address
from millpond.identity.domain import Principal
from millpond.kernel.errors import (
    DeadlineExceeded,
    InvalidArgument,
    MillpondError,
    NotFound,
    PermissionDenied,
    Unavailable,
)

_TOKEN_TTL_S = 600
_ERROR_OF_STATUS: Mapping[grpc.StatusCode, type[MillpondError]] = {
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
}
_EXECUTE = f"/{proto.SERVICE}/ExecutePlan"


class GatewayClient:
    """Runs relations on the gateway; one session for each principal, kept as long as this process lives."""

    def __init__(self, socket_path: Path, mint: Callable[[Principal, float], str]) -> None:
        """`socket_path` is the gateway's Unix socket; `mint` gives a short-lived token of a principal."""
        self._socket_path = socket_path
        self._kept = ExitStack()
        self._mint = mint
        self._sessions = uuid.uuid4()
        self._channel: grpc.Channel | None = None
        self._lock = threading.Lock()

    def read_table(self, principal: Principal, name: str, *, limit: int, timeout_s: float = 60) -> pa.Table:
        """The first `limit` rows of a table or view, its name quoted part by part. Blocks.

        Raises the error that the principal would see in PySpark, as one of ours.
        """
        table = proto.relations.Read(named_table=proto.relations.Read.NamedTable(unparsed_identifier=name))
        rows = proto.relations.Limit(input=proto.relations.Relation(read=table), limit=limit)
        return self._execute(principal, proto.relations.Relation(limit=rows), timeout_s)

    def _execute(self, principal: Principal, relation: Any, timeout_s: float) -> pa.Table:
        request = proto.base.ExecutePlanRequest(
            session_id=str(uuid.uuid5(self._sessions, principal.id)),
            user_context=proto.base.UserContext(user_id=principal.name),
            plan=proto.base.Plan(root=relation),
            client_type="millpond",
        )
        call = self._open().unary_stream(
            _EXECUTE,
            request_serializer=proto.base.ExecutePlanRequest.SerializeToString,
            response_deserializer=proto.base.ExecutePlanResponse.FromString,
        )
        metadata = (("authorization", f"Bearer {self._mint(principal, _TOKEN_TTL_S)}"),)
        batches: list[pa.RecordBatch] = []
        schema: pa.Schema | None = None
        try:
            for response in call(request, timeout=timeout_s, metadata=metadata):
                if response.HasField("arrow_batch"):
                    with pa.ipc.open_stream(response.arrow_batch.data) as reader:
                        schema = reader.schema
                        batches += list(reader)
        except grpc.RpcError as error:
            kind = _ERROR_OF_STATUS.get(error.code(), InvalidArgument)
            raise kind(error.details() or "The engine failed without saying why.") from error
        return pa.Table.from_batches(batches, schema=schema or pa.schema([]))

    def _open(self) -> grpc.Channel:
        with self._lock:
            if self._channel is None:
                options = [("grpc.max_receive_message_length", -1)]
                address = self._kept.enter_context(socket_address(self._socket_path))
                self._channel = grpc.insecure_channel(f"unix:{address}", options=options)
            return self._channel
